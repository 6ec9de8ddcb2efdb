/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whatever bytes stand in a segment, a reader does not read outside it, does not hang and does not
 * die. The segment is copied between two pages that nobody may touch, and what a find fills ends at
 * such a page too, so one byte too far is a fault; damage of every kind is then done to it. Above
 * a test stands which line of view.c, left out, makes it fail; each was tried.
 */
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cache/head.h"
#include "unit/cache_fixture.h"

#define SESSIONS 40

/* Memory between two pages without access; ends right before the second. */
struct guarded {
    unsigned char *map;
    size_t map_bytes;
    void *memory;
};

static bool guarded_init(struct guarded *g, size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t inner = (bytes + page - 1) / page * page;
    g->map_bytes = inner + 2 * page;
    g->map = mmap(NULL, g->map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!CHECK(g->map != MAP_FAILED) ||
        !CHECK(mprotect(g->map + page, inner, PROT_READ | PROT_WRITE) == 0))
        return false;
    g->memory = g->map + page + inner - bytes;
    return true;
}

static void guarded_fini(struct guarded *g)
{
    munmap(g->map, g->map_bytes);
}

/* A table with sessions of all sizes, and a copy of its segment to be damaged. */
struct victim {
    struct fixture f;
    struct guarded segment;
    struct guarded out; /* a struct cr_entry */
    struct cr_table_view view;
    uint64_t words; /* of the segment */
};

static bool victim_init(struct victim *v)
{
    struct cr_entry entry;
    memset(v, 0, sizeof *v);
    if (!fixture_init(&v->f))
        return false;
    for (unsigned i = 0; i < SESSIONS; i++) {
        fixture_entry(i, i, v->f.clock.now_boot, (size_t)i * i * 3, &entry);
        CHECK(cr_table_insert(v->f.table, &entry, FIXTURE_CLOCK, v->f.clock.now_boot));
    }
    if (!guarded_init(&v->segment, v->f.view.bytes) || !guarded_init(&v->out, sizeof entry))
        return false;
    memcpy(v->segment.memory, v->f.view.memory, v->f.view.bytes);
    v->words = v->f.view.bytes / 8;
    CHECK_STATUS(cr_table_view_init(&v->view, v->segment.memory, v->f.view.bytes), CR_OK);
    return true;
}

static void victim_fini(struct victim *v)
{
    guarded_fini(&v->segment);
    guarded_fini(&v->out);
    fixture_fini(&v->f);
}

static bool entry_is_bounded(const struct cr_entry *entry)
{
    return entry->user.length <= CR_USER_BYTES_MAX && entry->rights_bytes <= CR_RIGHTS_BYTES_MAX;
}

static void victim_copied(void *context, size_t index, const struct cr_entry *entry)
{
    if (!entry_is_bounded(entry))
        CHECK(entry_is_bounded(entry));
}

/* Bounded, whatever comes of it: two tries for each may see different damage only while somebody
 * writes, so what a find believes a batch believes. */
static void victim_find_many(struct victim *v, const struct cr_table_view *view, unsigned found)
{
    static struct cr_entry out; /* nobody looks at what is in it */
    unsigned found_so = 0;
    for (unsigned at = 0; at < SESSIONS; at += CR_TABLE_MANY_MAX) {
        struct cr_table_wanted wanted[CR_TABLE_MANY_MAX];
        struct cr_session_id id;
        struct cr_token_hash hash;
        unsigned count = SESSIONS - at < CR_TABLE_MANY_MAX ? SESSIONS - at : CR_TABLE_MANY_MAX;
        for (unsigned i = 0; i < count; i++) {
            fixture_id(at + i, &id);
            fixture_hash(at + i, &hash);
            fixture_want(view, &id, &hash, &out, &wanted[i]);
        }
        (void)cr_table_find_many(view, &v->f.clock.clock, wanted, count, victim_copied, NULL);
        for (unsigned i = 0; i < count; i++)
            found_so += wanted[i].found;
    }
    CHECK_UINT(found_so, found);
}

/* Looks for all of them; answers how many were found. */
static unsigned victim_find_all(struct victim *v, const struct cr_table_view *view)
{
    unsigned found = 0;
    struct cr_entry *out = v->out.memory;
    for (unsigned i = 0; i < SESSIONS; i++) {
        struct cr_session_id id;
        struct cr_token_hash hash;
        bool used_old;
        fixture_id(i, &id);
        fixture_hash(i, &hash);
        if (!cr_table_find(view, &v->f.clock.clock, &id, &hash, out, &used_old))
            continue;
        found++;
        if (!entry_is_bounded(out))
            CHECK(entry_is_bounded(out));
    }
    victim_find_many(v, view, found);
    return found;
}

static _Atomic uint64_t *victim_word(struct victim *v, uint64_t index)
{
    return (_Atomic uint64_t *)v->segment.memory + index;
}

/* What bounds and counts are most likely to be wrong about. */
static uint64_t damage_value(const struct victim *v, uint64_t before)
{
    switch (tap_random_below(8)) {
    case 0:
        return 0;
    case 1:
        return UINT64_MAX >> tap_random_below(64);
    case 2:
        return before ^ (1ULL << tap_random_below(64));
    case 3:
        return before + 1 - 2 * tap_random_below(2);
    case 4:
        return v->view.bucket_count * LAYOUT_BUCKET_SLOTS - 1 + tap_random_below(3);
    case 5:
        return before | 0xffULL << (8 * tap_random_below(8));
    case 6:
        return 1ULL << tap_random_below(64);
    default:
        return tap_random();
    }
}

static void word_damage(struct victim *v, uint64_t index)
{
    _Atomic uint64_t *word = victim_word(v, index);
    uint64_t before = atomic_load_explicit(word, memory_order_relaxed);
    atomic_store_explicit(word, damage_value(v, before), memory_order_relaxed);
}

static uint64_t bucket_word(const struct cr_table_view *view, uint64_t bucket)
{
    return (view->bucket_offset + bucket * sizeof(struct layout_bucket)) / 8;
}

/* The first of any slot of the bucket. */
static uint64_t slot_word(const struct cr_table_view *view, uint64_t bucket)
{
    return bucket_word(view, bucket) + (LAYOUT_TAG_WORDS + LAYOUT_STAMP_WORDS) +
           tap_random_below(LAYOUT_BUCKET_SLOTS) * sizeof(struct layout_slot) / 8;
}

/* A word that a find of one of the sessions is likely to load. */
static uint64_t damage_index(const struct victim *v)
{
    const struct cr_table_view *view = &v->view;
    struct cr_session_id id;
    fixture_id(tap_random_below(SESSIONS), &id);
    struct layout_places places = layout_places(&id, view->bucket_count);
    uint64_t bucket = tap_random_below(2) == 0 ? places.home : places.spill;
    switch (tap_random_below(8)) {
    case 0: /* what the engine writes of the header */
        return offsetof(struct layout_header, clock) / 8 + tap_random_below(8);
    case 1:
        return (view->stamp_offset + tap_random_below(view->stamp_count) * 8) / 8;
    case 2:
        return bucket_word(view, bucket) + tap_random_below(LAYOUT_TAG_WORDS + LAYOUT_STAMP_WORDS);
    case 3: /* links and contents of pieces, which stand in the first buckets */
        bucket = tap_random_below(20);
        return slot_word(view, bucket) + tap_random_below(2) * tap_random_below(1 + LAYOUT_WORDS);
    default:
        return slot_word(view, bucket) + tap_random_below(1 + LAYOUT_WORDS);
    }
}

static void a_sound_copy_gives_every_session(void)
{
    struct victim v;
    if (victim_init(&v))
        CHECK_UINT(victim_find_all(&v, &v.view), SESSIONS);
    victim_fini(&v);
}

/* view_slot without its comparison; payload_copy without its own; stamps_allow without
 * its mask. */
static void random_damage_of_every_part_never_leads_a_reader_astray(void)
{
    struct victim v;
    uint64_t found = 0;
    if (!victim_init(&v))
        return;
    for (unsigned round = 0; round < 400u; round++) {
        memcpy(v.segment.memory, v.f.view.memory, v.f.view.bytes);
        for (unsigned i = 0; i < 40; i++) {
            word_damage(&v, damage_index(&v));
            if (i % 8 == 0)
                found += victim_find_all(&v, &v.view);
        }
    }
    CHECK(found > 10000); /* or it would have tested the empty table */
    victim_fini(&v);
}

static struct layout_slot *victim_slot(struct victim *v, uint64_t slot)
{
    struct layout_bucket *buckets =
        (struct layout_bucket *)((unsigned char *)v->segment.memory + v->view.bucket_offset);
    return &buckets[slot / LAYOUT_BUCKET_SLOTS].slots[slot % LAYOUT_BUCKET_SLOTS];
}

/* Whether it is a piece, and so has a link. */
static bool is_piece(const struct layout_slot *slot)
{
    return (atomic_load(&slot->sequence) & 1) != 0;
}

/* Lengths and places, one after the other, to each value that is near a bound. */
static void every_length_and_place_out_of_bounds_is_a_miss(void)
{
    struct victim v;
    if (!victim_init(&v))
        return;
    const uint64_t values[] = {
        0,
        1,
        0x81,
        0xff,
        0x2010000,
        0xffff0000,
        0x100000000000,
        0x100100000000,
        0x7fffffff00000000,
        UINT64_MAX,
        v.view.bucket_count * LAYOUT_BUCKET_SLOTS,
        v.view.bucket_count * LAYOUT_BUCKET_SLOTS - 1,
        UINT32_MAX,
        129ULL << HEAD_STAMP_BITS,                     /* bytes of the user */
        513ULL << (HEAD_STAMP_BITS + HEAD_USER_BITS),  /* of rights */
        31ULL << (HEAD_CREATED_BITS + HEAD_DATA_BITS), /* all flags, no data */
        (31ULL << HEAD_DATA_BITS | 4096ULL) << HEAD_CREATED_BITS,
        ((uint64_t)HEAD_CHAINED << HEAD_DATA_BITS | 4097) << HEAD_CREATED_BITS,
    };
    static const unsigned words[] = {HEAD_CREATED, HEAD_STAMP, HEAD_BORN,
                                     HEAD_SEEN,    HEAD_ENDS,  HEAD_LINK};
    for (uint64_t i = 0; i < v.view.bucket_count * LAYOUT_BUCKET_SLOTS; i++) {
        if (atomic_load(&victim_slot(&v, i)->words[HEAD_CREATED]) == 0)
            continue; /* an empty one */
        for (size_t k = 0; k < sizeof values / sizeof values[0]; k++)
            for (size_t w = 0; w < sizeof words / sizeof words[0]; w++) {
                uint64_t before = atomic_load(&victim_slot(&v, i)->words[words[w]]);
                atomic_store(&victim_slot(&v, i)->words[words[w]], values[k]);
                victim_find_all(&v, &v.view);
                atomic_store(&victim_slot(&v, i)->words[words[w]], before);
            }
    }
    CHECK_UINT(victim_find_all(&v, &v.view), SESSIONS);
    victim_fini(&v);
}

/* Every piece links to itself or to another: who trusts links walks for ever. */
static void chains_that_never_end_are_left_after_the_length_that_counts(void)
{
    struct victim v;
    if (!victim_init(&v))
        return;
    const uint64_t count = v.view.bucket_count * LAYOUT_BUCKET_SLOTS;
    for (uint64_t i = 0; i < count; i++)
        if (is_piece(victim_slot(&v, i)))
            atomic_store(&victim_slot(&v, i)->words[LAYOUT_PIECE_NEXT], i);
    CHECK_UINT(victim_find_all(&v, &v.view), SESSIONS); /* whole by its own numbers */
    for (uint64_t i = 0; i < count; i++)
        if (is_piece(victim_slot(&v, i)))
            atomic_store(&victim_slot(&v, i)->words[LAYOUT_PIECE_NEXT], count);
    unsigned found = victim_find_all(&v, &v.view);
    CHECK(found > 0 && found < SESSIONS);
    victim_fini(&v);
}

/* An odd number for ever: its writer died in the middle of a write. */
static void an_entry_left_half_written_is_a_miss_after_two_tries(void)
{
    struct victim v;
    if (!victim_init(&v))
        return;
    for (uint64_t i = 0; i < v.view.bucket_count * LAYOUT_BUCKET_SLOTS; i++)
        if (!is_piece(victim_slot(&v, i)))
            atomic_fetch_add(&victim_slot(&v, i)->sequence, 1);
    CHECK_UINT(victim_find_all(&v, &v.view), 0);
    victim_fini(&v);
}

struct vandal {
    struct victim *victim;
    struct cr_random_seeded random;
    _Atomic bool stop;
};

static void *vandal_run(void *context)
{
    struct vandal *vandal = context;
    struct victim *v = vandal->victim;
    while (!atomic_load_explicit(&vandal->stop, memory_order_relaxed)) {
        uint64_t number = cr_random_seeded_next(&vandal->random);
        uint64_t index = 16 + number % (v->words - 16); /* past the fixed part of the header */
        if (number % 3 != 0)
            index = v->view.bucket_offset / 8 + number % (v->words - v->view.bucket_offset / 8);
        _Atomic uint64_t *word = victim_word(v, index);
        uint64_t before = atomic_load_explicit(word, memory_order_relaxed);
        /* There and back, so that sessions are found in between. */
        atomic_store_explicit(word, cr_random_seeded_next(&vandal->random) >> (number >> 58),
                              memory_order_relaxed);
        atomic_store_explicit(word, before, memory_order_relaxed);
    }
    return NULL;
}

/* A word that is loaded twice, once to be checked and once to be used. */
static void damage_while_a_find_runs_never_leads_it_astray(void)
{
    struct victim v;
    pthread_t thread;
    uint64_t found = 0;
    if (!victim_init(&v))
        return;
    struct vandal vandal = {.victim = &v};
    cr_random_seeded_init(&vandal.random, tap_random());
    if (!CHECK(pthread_create(&thread, NULL, vandal_run, &vandal) == 0))
        return;
    for (unsigned round = 0; round < 2000; round++)
        found += victim_find_all(&v, &v.view);
    atomic_store(&vandal.stop, true);
    pthread_join(thread, NULL);
    CHECK(found > 1000);
    victim_fini(&v);
}

static void every_bit_of_the_header_may_be_wrong(void)
{
    struct victim v;
    struct cr_table_view view;
    if (!victim_init(&v))
        return;
    unsigned char *bytes = v.segment.memory;
    unsigned accepted = 0;
    for (size_t bit = 0; bit < 8 * offsetof(struct layout_header, clock); bit++) {
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
        if (cr_table_view_init(&view, bytes, v.f.view.bytes) == CR_OK) {
            accepted++;
            victim_find_all(&v, &view);
        }
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    /* Identity, keys, what is unused; and counts and offsets that are only smaller or moved. */
    const unsigned any = 8 * (sizeof((struct layout_header *)NULL)->identity +
                              sizeof((struct layout_header *)NULL)->user_key +
                              sizeof((struct layout_header *)NULL)->id_key +
                              sizeof((struct layout_header *)NULL)->unused_fixed);
    CHECK(accepted >= any && accepted < any + 200);
    victim_fini(&v);
}

static void a_header_that_lies_is_refused(void)
{
    struct victim v;
    if (!victim_init(&v))
        return;
    const struct layout_header good = *(const struct layout_header *)v.f.view.memory;
    uint64_t bytes = v.f.view.bytes;
#define HEADER_ROW(text, field, value, answer)                                                     \
    {                                                                                              \
        text, offsetof(struct layout_header, field), sizeof(good.field), (value), (answer)         \
    }
    const struct {
        const char *name;
        size_t offset, size;
        uint64_t value;
        enum cr_status answer;
    } rows[] = {
        HEADER_ROW("magic", magic, 0, CR_E_CORRUPT),
        HEADER_ROW("older layout", version, 0, CR_E_VERSION),
        HEADER_ROW("newer layout", version, CR_TABLE_LAYOUT + 1, CR_E_VERSION),
        HEADER_ROW("header bytes", header_bytes, 191, CR_E_CORRUPT),
        HEADER_ROW("more bytes", bytes, bytes + 4096, CR_E_CORRUPT),
        HEADER_ROW("less bytes", bytes, bytes - 4096, CR_E_CORRUPT),
        HEADER_ROW("no stamps", stamp_count, 0, CR_E_CORRUPT),
        HEADER_ROW("few stamps", stamp_count, 1u << 15, CR_E_CORRUPT),
        HEADER_ROW("odd stamps", stamp_count, (1u << 16) + 1, CR_E_CORRUPT),
        HEADER_ROW("many stamps", stamp_count, 1u << 17, CR_E_CORRUPT),
        HEADER_ROW("too many stamps", stamp_count, 1u << 21, CR_E_CORRUPT),
        HEADER_ROW("no buckets", bucket_count, 0, CR_E_CORRUPT),
        HEADER_ROW("one bucket more", bucket_count,
                   (bytes - good.bucket_offset) / sizeof(struct layout_bucket) + 1, CR_E_CORRUPT),
        HEADER_ROW("buckets that wrap round", bucket_count, 1ULL << 58, CR_E_CORRUPT),
        HEADER_ROW("stamps in the header", stamp_offset, 128, CR_E_CORRUPT),
        HEADER_ROW("stamps past the end", stamp_offset, bytes, CR_E_CORRUPT),
        HEADER_ROW("stamps far past the end", stamp_offset, bytes * 2, CR_E_CORRUPT),
        HEADER_ROW("stamps not aligned", stamp_offset, good.stamp_offset + 4, CR_E_CORRUPT),
        HEADER_ROW("buckets past the end", bucket_offset, bytes - 64, CR_E_CORRUPT),
        HEADER_ROW("buckets far out", bucket_offset, UINT64_MAX - 63, CR_E_CORRUPT),
        HEADER_ROW("buckets not aligned", bucket_offset, good.bucket_offset - 8, CR_E_CORRUPT),
    };
#undef HEADER_ROW
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct cr_table_view view;
        tap_row(rows[i].name);
        memcpy(v.segment.memory, &good, sizeof good);
        memcpy((unsigned char *)v.segment.memory + rows[i].offset, &rows[i].value, rows[i].size);
        CHECK_STATUS(cr_table_view_init(&view, v.segment.memory, bytes), rows[i].answer);
    }
    tap_row(NULL);
    victim_fini(&v);
}

static void a_segment_of_another_size_than_it_says_is_refused(void)
{
    struct victim v;
    struct cr_table_view view;
    if (!victim_init(&v))
        return;
    static const size_t less[] = {1, 64, 4096, 1u << 19};
    for (size_t i = 0; i < sizeof less / sizeof less[0]; i++)
        CHECK_STATUS(cr_table_view_init(&view, v.segment.memory, v.f.view.bytes - less[i]),
                     CR_E_CORRUPT);
    for (size_t bytes = 0; bytes < sizeof(struct layout_header); bytes += 8) {
        /* At the end of the memory: a byte more would be a fault. */
        struct guarded little;
        if (!guarded_init(&little, bytes + 8))
            continue;
        memcpy(little.memory, v.segment.memory, bytes);
        CHECK_STATUS(cr_table_view_init(&view, little.memory, bytes), CR_E_CORRUPT);
        guarded_fini(&little);
    }
    victim_fini(&v);
}

static const struct tap_test tests[] = {
    TAP_TEST(a_sound_copy_gives_every_session),
    TAP_TEST(random_damage_of_every_part_never_leads_a_reader_astray),
    TAP_TEST(every_length_and_place_out_of_bounds_is_a_miss),
    TAP_TEST(chains_that_never_end_are_left_after_the_length_that_counts),
    TAP_TEST(an_entry_left_half_written_is_a_miss_after_two_tries),
    TAP_TEST(damage_while_a_find_runs_never_leads_it_astray),
    TAP_TEST(every_bit_of_the_header_may_be_wrong),
    TAP_TEST(a_header_that_lies_is_refused),
    TAP_TEST(a_segment_of_another_size_than_it_says_is_refused),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
