/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the hostile tests share: a table with sessions of all sizes, whose tokens are genuine, and
 * the list of words in which its bytes say something. Nothing here knows the layout: a word says
 * something of a session if the insert changed it, or one beside it.
 */
#ifndef FUZZ_SEGMENT_H
#define FUZZ_SEGMENT_H

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "session/token.h"
#include "unit/cache_fixture.h"

#define SEGMENT_SESSIONS 24
#define SEGMENT_LARGEST (SEGMENT_SESSIONS - 1) /* the session with the longest payload */

struct segment {
    struct fixture f;
    uint64_t *words; /* the table's own memory: what a peer that means ill writes */
    size_t word_count;
    uint64_t *genuine; /* a copy of it, as the table left it */
    uint32_t *places;  /* the words that say something: first of the table, then of each session */
    size_t place_count;
    size_t of_session[SEGMENT_SESSIONS + 1]; /* where in `places` a session's begin */
    struct cr_token tokens[SEGMENT_SESSIONS];
    struct cr_session_id ids[SEGMENT_SESSIONS];
    struct cr_token_hash hashes[SEGMENT_SESSIONS];
};

static inline bool segment_insert(struct segment *s, unsigned number)
{
    struct cr_entry entry;
    fixture_entry(number, number % 7, s->f.clock.now_boot, (size_t)number * number * 7, &entry);
    entry.id = s->ids[number];
    memcpy(entry.hash, s->hashes[number].bytes, sizeof entry.hash);
    if (number % 5 == 1) { /* has had another token */
        memcpy(entry.old_hash, s->hashes[number - 1].bytes, sizeof entry.old_hash);
        entry.old_until = entry.deadline;
    }
    if (number == SEGMENT_LARGEST) {
        entry.user.length = CR_USER_BYTES_MAX;
        entry.rights_bytes = CR_RIGHTS_BYTES_MAX;
        entry.data_bytes = CR_DATA_CACHED_BYTES_MAX;
    }
    return cr_table_insert(s->f.table, &entry, cr_table_clock(s->f.table), s->f.clock.now_boot);
}

/* Adds the words that are not as in `before` (NULL: not 0), and those beside them. */
static inline void segment_places(struct segment *s, const uint64_t *before)
{
    const size_t beside = 2;
    size_t next = 0; /* those before it are in, or will not be */
    for (size_t i = 0; i < s->word_count; i++) {
        if (s->words[i] == (before != NULL ? before[i] : 0))
            continue;
        if (i > next + beside)
            next = i - beside;
        while (next <= i + beside && next < s->word_count && s->place_count < s->word_count)
            s->places[s->place_count++] = (uint32_t)next++;
    }
}

static inline bool segment_fill(struct segment *s)
{
    struct cr_key key = {.number = 1};
    struct cr_keyring ring;
    cr_keyring_init(&ring, "fuzz", &key, 1);
    for (unsigned i = 0; i < SEGMENT_SESSIONS; i++) {
        memcpy(s->genuine, s->words, s->word_count * sizeof *s->words);
        s->of_session[i] = s->place_count;
        if (cr_session_id_make(&s->f.random.random, 0, &s->ids[i]) != CR_OK ||
            cr_token_make(&ring, &s->f.random.random, &s->ids[i], 0, &s->tokens[i]) != CR_OK)
            return false;
        cr_token_hash(&s->tokens[i], &s->hashes[i]);
        if (!segment_insert(s, i))
            return false;
        segment_places(s, s->genuine);
    }
    s->of_session[SEGMENT_SESSIONS] = s->place_count;
    memcpy(s->genuine, s->words, s->word_count * sizeof *s->words);
    return true;
}

/* `now` is what the host's clock says: the lease begins there. */
static inline bool segment_init(struct segment *s, cr_boot_ns now)
{
    const struct cr_table_options options = {.bytes = CR_TABLE_BYTES_MIN, .shared = true};
    struct cr_table_view view;
    memset(s, 0, sizeof *s);
    if (!fixture_init_with(&s->f, &options))
        return false;
    s->f.clock.now_boot = now;
    cr_table_freshen(s->f.table, now + CR_TABLE_FRESH_NS_MAX, now);
    cr_table_own_view(s->f.table, &view);
    s->word_count = view.bytes / sizeof *s->words;
    memcpy(&s->words, &view.memory, sizeof s->words); /* without its const */
    s->genuine = malloc(view.bytes);
    s->places = calloc(s->word_count, sizeof *s->places);
    if (s->genuine == NULL || s->places == NULL)
        return false;
    segment_places(s, NULL);
    return segment_fill(s);
}

static inline void segment_fini(struct segment *s)
{
    free(s->genuine);
    free(s->places);
    fixture_fini(&s->f);
}

/* Room for `bytes` that ends where nobody may read; and begins so if they fill whole pages. `fd`:
 * what is mapped there, or -1. NULL: there is no memory. */
static inline void *guarded_memory(size_t bytes, int fd)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t inner = (bytes + page - 1) / page * page;
    unsigned char *map =
        mmap(NULL, inner + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED ||
        mmap(map + page, inner, fd < 0 ? PROT_READ | PROT_WRITE : PROT_READ,
             fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED : MAP_SHARED | MAP_FIXED, fd,
             0) == MAP_FAILED)
        return NULL;
    return map + page + inner - bytes;
}

/* Whoever uses what was found trusts these two. How much data a session has, they compare. */
static inline bool entry_is_bounded(const struct cr_entry *entry)
{
    return entry->user.length <= CR_USER_BYTES_MAX && entry->rights_bytes <= CR_RIGHTS_BYTES_MAX;
}

/* Looks for session `number` in every way there is; answers how often it was found. What is found
 * need not be true, but its lengths are. */
static inline unsigned segment_look(const struct segment *s, const struct cr_table_view *view,
                                    struct cr_clock *clock, unsigned number, struct cr_entry *out)
{
    bool used_old;
    if (!cr_table_find(view, clock, &s->ids[number], &s->hashes[number], out, &used_old))
        return 0;
    if (!entry_is_bounded(out) || !cr_session_id_equal(&out->id, &s->ids[number]))
        abort();
    return 1;
}

#endif
