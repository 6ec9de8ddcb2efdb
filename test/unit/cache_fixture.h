/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of src/cache share: a table, a clock that stands still, and sessions made from
 * numbers, so that what a find gives can be compared with what must have gone in. */
#ifndef UNIT_CACHE_FIXTURE_H
#define UNIT_CACHE_FIXTURE_H

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/random.h"
#include "cache/table.h"
#include "tap.h"

#define FIXTURE_CLOCK 1000 /* where the tables' clocks start */
#define FIXTURE_HOUR_MS 3600000LL
#define FIXTURE_HOUR_NS (3600000ULL * CR_NS_PER_MS)

struct fixture {
    struct cr_table *table;
    struct cr_table_view view;
    struct cr_clock_fake clock;
    struct cr_random_seeded random;
};

/* A table whose lease holds for as long as the clock stands still. */
static inline bool fixture_init_with(struct fixture *f, const struct cr_table_options *options)
{
    memset(f, 0, sizeof *f);
    cr_clock_fake_init(&f->clock, 1700000000000);
    cr_random_seeded_init(&f->random, tap_random());
    if (!CHECK(cr_table_create(options, &f->random.random, &f->table) == CR_OK))
        return false;
    cr_table_own_view(f->table, &f->view);
    cr_table_freshen(f->table, f->clock.now_boot + CR_TABLE_FRESH_NS_MAX, f->clock.now_boot);
    return true;
}

static inline bool fixture_init(struct fixture *f)
{
    const struct cr_table_options options = {
        .bytes = CR_TABLE_BYTES_MIN, .shared = true, .clock_start = FIXTURE_CLOCK};
    return fixture_init_with(f, &options);
}

static inline void fixture_fini(struct fixture *f)
{
    cr_table_destroy(f->table);
    f->table = NULL;
}

/* Time passes, and the lease is renewed. */
static inline void fixture_wait(struct fixture *f, cr_span_ms span)
{
    cr_clock_fake_advance(&f->clock, span);
    cr_table_freshen(f->table, f->clock.now_boot + CR_TABLE_FRESH_NS_MAX, f->clock.now_boot);
}

static inline void fixture_bytes(uint64_t seed, unsigned char *out, size_t bytes)
{
    struct cr_random_seeded random;
    cr_random_seeded_init(&random, seed);
    if (cr_random_fill(&random.random, out, bytes) != CR_OK)
        tap_check_failed(__FILE__, __LINE__, "seeded random numbers");
}

static inline void fixture_id(uint64_t number, struct cr_session_id *out)
{
    unsigned char bytes[18];
    fixture_bytes(number * 2 + 1, bytes, sizeof bytes);
    memset(out, 0, sizeof *out);
    memcpy(out->text, "crp_", 4);
    cr_base64_encode(bytes, sizeof bytes, out->text + 4);
}

static inline void fixture_hash(uint64_t number, struct cr_token_hash *out)
{
    fixture_bytes(number * 2 + 2, out->bytes, sizeof out->bytes);
}

static inline void fixture_user(unsigned number, struct cr_user *out)
{
    memset(out, 0, sizeof *out);
    out->length = (uint8_t)snprintf((char *)out->bytes, sizeof out->bytes, "user-%u", number);
}

/* Its last use is at `seen`, which is `after` its creation; it lasts for `idle` from then. */
static inline void fixture_times(struct cr_entry *entry, cr_boot_ns seen, cr_span_ms after,
                                 cr_span_ms idle)
{
    entry->seen = seen;
    entry->idle = idle;
    entry->deadline = cr_boot_add(seen, idle);
    entry->absolute_until = cr_boot_add(seen, 12 * FIXTURE_HOUR_MS);
    entry->seen_at = entry->created_at + after;
    entry->expires_at = entry->seen_at + idle;
    entry->ends_at = entry->seen_at + 12 * FIXTURE_HOUR_MS;
}

/* Session `number` of user `user`, seen at `now`, good for an hour; `bytes` of data and an eighth
 * of it of rights, which say the number. Up to 56 bytes need no piece. */
static inline void fixture_entry(uint64_t number, unsigned user, cr_boot_ns now, size_t bytes,
                                 struct cr_entry *out)
{
    struct cr_token_hash hash;
    memset(out, 0, sizeof *out);
    fixture_id(number, &out->id);
    fixture_hash(number, &hash);
    memcpy(out->hash, hash.bytes, sizeof out->hash);
    fixture_user(user, &out->user);
    out->created_at = 1700000000000 + (cr_time_ms)number;
    out->authenticated_at = out->created_at + (bytes > 56 ? 1 : 0);
    fixture_times(out, now, 2, FIXTURE_HOUR_MS);
    out->version = number + 3;
    out->rights_bytes =
        (uint16_t)(bytes < CR_DATA_CACHED_BYTES_MAX ? bytes / 8 : CR_RIGHTS_BYTES_MAX);
    out->data_bytes = (uint32_t)bytes;
    for (size_t i = 0; i < out->rights_bytes; i++)
        out->rights[i] = (unsigned char)(number + i);
    for (size_t i = 0; i < bytes && bytes <= CR_DATA_CACHED_BYTES_MAX; i++)
        out->data[i] = (unsigned char)(number * 3 + i);
}

/* Whether two entries say the same, in all that is used of them. */
static inline bool fixture_same(const struct cr_entry *a, const struct cr_entry *b)
{
    size_t data_bytes = a->data_bytes <= CR_DATA_CACHED_BYTES_MAX ? a->data_bytes : 0;
    return memcmp(a->id.text, b->id.text, sizeof a->id.text) == 0 &&
           memcmp(a->hash, b->hash, sizeof a->hash) == 0 &&
           memcmp(a->old_hash, b->old_hash, sizeof a->old_hash) == 0 &&
           a->old_until == b->old_until && a->deadline == b->deadline &&
           a->absolute_until == b->absolute_until && a->seen == b->seen && a->idle == b->idle &&
           a->created_at == b->created_at && a->authenticated_at == b->authenticated_at &&
           a->ends_at == b->ends_at && a->expires_at == b->expires_at && a->seen_at == b->seen_at &&
           a->version == b->version && a->user.length == b->user.length &&
           memcmp(a->user.bytes, b->user.bytes, a->user.length) == 0 &&
           a->rights_bytes == b->rights_bytes &&
           memcmp(a->rights, b->rights, a->rights_bytes) == 0 && a->data_bytes == b->data_bytes &&
           memcmp(a->data, b->data, data_bytes) == 0;
}

static inline bool fixture_insert(struct fixture *f, uint64_t number, unsigned user, uint64_t stamp)
{
    struct cr_entry entry;
    fixture_entry(number, user, f->clock.now_boot, 56, &entry);
    return cr_table_insert(f->table, &entry, stamp, f->clock.now_boot);
}

/* Insert as a fill that was asked for just now. */
static inline bool fixture_fill(struct fixture *f, uint64_t number, unsigned user)
{
    return fixture_insert(f, number, user, cr_table_clock(f->table));
}

static inline bool fixture_find(struct fixture *f, uint64_t number, struct cr_entry *out)
{
    struct cr_session_id id;
    struct cr_token_hash hash;
    bool used_old;
    fixture_id(number, &id);
    fixture_hash(number, &hash);
    return cr_table_find(&f->view, &f->clock.clock, &id, &hash, out, &used_old);
}

static inline bool fixture_finds(struct fixture *f, uint64_t number)
{
    struct cr_entry out;
    return fixture_find(f, number, &out);
}

/* Both steps that come before a find of several; its payload and its id will be in `to`. */
static inline void fixture_want(const struct cr_table_view *view, const struct cr_session_id *id,
                                const struct cr_token_hash *hash, struct cr_entry *to,
                                struct cr_table_wanted *out)
{
    to->id = *id;
    out->hash = *hash;
    out->to = (struct cr_table_payload){to->user.bytes, to->rights, to->data};
    cr_table_probe(view, id, &out->probe);
    cr_table_probe_tags(view, &out->probe);
}

/* The rest of what was wanted so: what a find of several says of the entry. */
static inline void fixture_copied(const struct cr_entry *entry, struct cr_entry *to)
{
    const size_t from = offsetof(struct cr_entry, hash);
    memcpy((char *)to + from, (const char *)entry + from, offsetof(struct cr_entry, user) - from);
    to->user.length = entry->user.length;
    to->rights_bytes = entry->rights_bytes;
    to->data_bytes = entry->data_bytes;
}

/* How many of the sessions `first` to `end` - 1 are found. */
static inline uint64_t fixture_found(struct fixture *f, uint64_t first, uint64_t end)
{
    uint64_t found = 0;
    for (uint64_t number = first; number < end; number++)
        found += fixture_finds(f, number);
    return found;
}

static inline uint64_t fixture_end_user(struct fixture *f, unsigned number)
{
    struct cr_user user;
    fixture_user(number, &user);
    return cr_table_end_user(f->table, &user);
}

static inline uint64_t fixture_end_session(struct fixture *f, uint64_t number)
{
    struct cr_session_id id;
    fixture_id(number, &id);
    return cr_table_end_session(f->table, &id);
}

static inline struct cr_table_count fixture_count(const struct fixture *f)
{
    struct cr_table_count count;
    cr_table_count(f->table, &count);
    return count;
}

#endif
