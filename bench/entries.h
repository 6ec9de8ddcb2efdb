/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions for the table's own writer: of users of 16 bytes, with 64 bytes of data, so long that no
 * use of them has to be reported. For programs that are linked with the parts of the library. */
#ifndef BENCH_ENTRIES_H
#define BENCH_ENTRIES_H

#include "drive.h"

#include "cache/table.h"

#define DATA_BYTES 64
#define SPAN_MS 86400000LL
#define GROUP                                                                                      \
    16 /* sessions that are made or looked for together, so that memory is fetched ahead */

static inline void user_make(size_t number, struct cr_user *out)
{
    char name[17];
    snprintf(name, sizeof name, "user-%011zu", number);
    out->length = 16;
    memcpy(out->bytes, name, 16);
}

static inline void entry_make(struct cr_clock *clock, const struct cr_session_id *id,
                              const struct cr_token_hash *hash, size_t user, struct cr_entry *out)
{
    cr_boot_ns now = cr_clock_boot(clock);
    cr_time_ms wall = cr_clock_wall(clock);
    memset(out, 0, offsetof(struct cr_entry, rights));
    out->id = *id;
    memcpy(out->hash, hash->bytes, sizeof out->hash);
    out->deadline = out->absolute_until = cr_boot_add(now, SPAN_MS);
    out->seen = now;
    out->idle = SPAN_MS;
    out->created_at = out->authenticated_at = out->seen_at = wall;
    out->ends_at = out->expires_at = wall + SPAN_MS;
    out->version = 1;
    user_make(user, &out->user);
    out->data_bytes = DATA_BYTES;
    memset(out->data, 'd', DATA_BYTES);
}

/* With the clock as it stands. */
static inline void entries_insert(struct cr_table *table, const struct cr_entry *entries,
                                  size_t count)
{
    for (size_t i = 0; i < count; i++)
        must(cr_table_insert(table, &entries[i], cr_table_clock(table), entries[i].seen),
             "the table refuses a session");
}

/* A table in which `sessions` are `fill` of what there is room for, whatever its layout: its size
 * is put right a few times, and is a little larger rather than smaller. */
static inline struct cr_table *table_make(struct cr_random *random, size_t sessions, double fill)
{
    double places = (double)sessions / fill, bytes = places * 150 + CR_TABLE_BYTES_MIN;
    for (unsigned tries = 0;; tries++) {
        const struct cr_table_options options = {
            .bytes = (size_t)bytes, .shared = true, .clock_start = 1};
        struct cr_table *table;
        struct cr_table_count count;
        must_be_ok(cr_table_create(&options, random, &table), "table");
        cr_table_count(table, &count);
        double times = places / (double)count.capacity;
        if (times <= 1 && (times > 0.99 || tries > 4))
            return table;
        cr_table_destroy(table);
        bytes = bytes * times * 1.002 + 4096;
        if (bytes < CR_TABLE_BYTES_MIN)
            bytes = CR_TABLE_BYTES_MIN;
    }
}

#endif
