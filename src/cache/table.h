/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table: entries, stamps, floors, lease. src/cache/README.md has the numbered rules.
 *
 * One writer (the engine's thread) and any number of readers, in threads or processes, who write
 * nothing. The writer's calls take `struct cr_table`; readers have a `struct cr_table_view` over
 * the same memory, and treat every byte of it as input.
 */
#ifndef CACHE_TABLE_H
#define CACHE_TABLE_H

#include <cloakroom/store.h>

#include "base/clock.h"
#include "base/random.h"
#include "base/shm.h"

#define CR_TABLE_LAYOUT 3 /* raised with every change of what stands where in a table's memory */
#define CR_TABLE_PAYLOAD_BYTES_MAX                                                                 \
    (CR_USER_BYTES_MAX + CR_RIGHTS_BYTES_MAX + CR_DATA_CACHED_BYTES_MAX)
#define CR_TABLE_FRESH_NS_MAX 1000000000ULL /* fresh_until is never further ahead than this */

/* What an entry holds. `id` finds its bucket, `hash` (first 16 bytes) must match; so may `old_hash`
 * until `old_until`. */
struct cr_entry {
    struct cr_session_id id;
    unsigned char hash[16];
    unsigned char old_hash[16]; /* zero: none */
    cr_boot_ns old_until;
    cr_boot_ns deadline;       /* an entry past it is a miss */
    cr_boot_ns absolute_until; /* the deadline is never moved past it */
    cr_boot_ns seen;           /* last use that the engine knows of */
    cr_boot_ns as_of;          /* written by cr_table_find: the clock, as it was read last of all */
    cr_span_ms idle;
    cr_time_ms created_at, authenticated_at, ends_at, expires_at, seen_at;
    uint64_t version;
    struct cr_user user;
    uint16_t rights_bytes;
    uint32_t data_bytes; /* of the session; bytes stand here only up to CR_DATA_CACHED_BYTES_MAX */
    unsigned char rights[CR_RIGHTS_BYTES_MAX];
    unsigned char data[CR_DATA_CACHED_BYTES_MAX];
};

_Static_assert(CR_USER_BYTES_MAX % 8 == 0 && CR_RIGHTS_BYTES_MAX % 8 == 0 &&
                   CR_DATA_CACHED_BYTES_MAX % 8 == 0,
               "a find writes whole words");

struct cr_table;

struct cr_table_options {
    size_t bytes;         /* memory to use, at least CR_TABLE_BYTES_MIN */
    bool shared;          /* a sealed memfd; else private memory */
    uint64_t clock_start; /* the clock goes on from here: every floor and stamp starts at it */
    bool always_fresh;    /* private table of an engine that checks its own lease: no fresh_until */
    enum cr_huge_pages huge_pages;
};
#define CR_TABLE_BYTES_MIN (1u << 20)

/* CR_E_INVALID below CR_TABLE_BYTES_MIN; CR_E_LIMIT when the memory cannot be had; `random` gives
 * identity and key of the user hash, and its status when it has none. */
CR_MUST_CHECK enum cr_status cr_table_create(const struct cr_table_options *options,
                                             struct cr_random *random, struct cr_table **out_table);
void cr_table_destroy(struct cr_table *table); /* retires first; accepts NULL */
int cr_table_fd(const struct cr_table *table); /* -1 for a private one; stays the table's */

/* Rule 1. The clock as it stands: taken before the request to the store is written. */
uint64_t cr_table_clock(const struct cr_table *table);

/* Rule 1. Insert with the clock of before the read. False: refused, because something in the bucket
 * was ended or changed since (stamp < floor), or the user or everybody was (stamp < G or all), or
 * the deadline is past, or the stamp is above the clock, or there is no room; the answer in hand
 * stays right. Replaces an entry of the same id. Lengths are within their maxima. */
bool cr_table_insert(struct cr_table *table, const struct cr_entry *entry, uint64_t stamp,
                     cr_boot_ns now);

/* Rules 2 and 3, after the commit. Each advances the clock and answers it. */
uint64_t cr_table_end_user(struct cr_table *table, const struct cr_user *user);
uint64_t cr_table_end_all(struct cr_table *table);
uint64_t cr_table_end_session(struct cr_table *table, const struct cr_session_id *id);

/* Move an entry's last use to `seen`, and its deadline to seen + idle, but not past absolute_until
 * and never backwards; nothing when the entry is not there, or its deadline was before that use. No
 * ending is undone by it. */
void cr_table_seen(struct cr_table *table, const struct cr_session_id *id, cr_boot_ns seen);

/* Rule 5 and "the agent dies": may be believed until then. Never backwards but by retire, which
 * makes it 0 for good. Further ahead of `now` than CR_TABLE_FRESH_NS_MAX is cut. */
void cr_table_freshen(struct cr_table *table, cr_boot_ns until, cr_boot_ns now);
void cr_table_retire(struct cr_table *table);

struct cr_table_count {
    uint64_t entries, capacity, bytes, inserts, refused, evicted_live;
    bool from_pool; /* of reserved huge pages */
};
void cr_table_count(const struct cr_table *table, struct cr_table_count *out);

/* Readers. A view over memory that a peer sent (see base/shm.h): every offset in it is checked once
 * here, against `bytes`. CR_E_VERSION: another layout; CR_E_CORRUPT: not a table. The memory must
 * outlive the view. */
struct cr_table_view {
    const unsigned char *memory;
    size_t bytes;
    uint64_t bucket_count, stamp_count;
    uint64_t stamp_offset, bucket_offset;
    unsigned char user_key[16];
    uint64_t id_key[8]; /* four words of 128 bits, each with its low half first */
    bool always_fresh;
};
CR_MUST_CHECK enum cr_status cr_table_view_init(struct cr_table_view *view, const void *memory,
                                                size_t bytes);
void cr_table_own_view(const struct cr_table *table, struct cr_table_view *out_view);

/*
 * A look for one session, in three steps, so that memory arrives while other work is done: between
 * them one hashes the token, or takes the same step for other tokens. The steps are hints and
 * promise nothing; nobody need take the second. A probe holds no secret and stays good for its
 * view.
 */
struct cr_table_probe {
    uint64_t id_mask;     /* keyed hash of the id, by which an entry knows it */
    uint64_t home, spill; /* buckets */
    uint64_t tags[3];     /* the id's, in planes (layout.h) */
    uint32_t candidates;  /* slots whose tags are like this id's: see view.c */
};
void cr_table_probe(const struct cr_table_view *view, const struct cr_session_id *id,
                    struct cr_table_probe *out_probe);
void cr_table_probe_tags(const struct cr_table_view *view, struct cr_table_probe *probe);

/* Where a find puts the bytes of user, rights and data, so that they are copied once: each with
 * room for the most that there is of it. Only what is used is written, rounded up to eight bytes;
 * also by a find that ends as a miss. */
struct cr_table_payload {
    unsigned char *user, *rights, *data;
};

/* Rule 4, after both steps. True: *out is whole and is to be believed, but for its id, which the
 * caller knows, and for the bytes that went to `to`; it matched `hash` (see token.h), which need
 * not be of a genuine token. False: a miss. No system call but reading the clock, no lock, no write
 * to the table; at most two tries. *out_used_old: it matched old_hash. */
CR_MUST_CHECK bool cr_table_find_probed(const struct cr_table_view *view, struct cr_clock *clock,
                                        struct cr_table_probe *probe,
                                        const struct cr_token_hash *hash,
                                        const struct cr_table_payload *to, struct cr_entry *out,
                                        bool *out_used_old);
/* All steps at once; all of it in *out. */
CR_MUST_CHECK bool cr_table_find(const struct cr_table_view *view, struct cr_clock *clock,
                                 const struct cr_session_id *id, const struct cr_token_hash *hash,
                                 struct cr_entry *out, bool *out_used_old);

/* Several finds at once: what one of them waits for, the others wait for with it. */
#define CR_TABLE_MANY_MAX 16
struct cr_table_wanted {
    struct cr_table_probe probe; /* both steps are taken for all of them before */
    struct cr_token_hash hash;
    struct cr_table_payload to;
    bool found, used_old; /* written by cr_table_find_many, as cr_table_find would answer */
};

/*
 * Rule 4 for each of `count` (1 to CR_TABLE_MANY_MAX): one load of the lease before all of them,
 * one reading of the clock after all of them. `copied` gets each entry that is whole and has the
 * hash, as cr_table_find_probed fills it, before it is known whether it is to be believed: that is
 * what `found` says afterwards. Its as_of is not set: it is the clock, which is answered.
 */
cr_boot_ns cr_table_find_many(const struct cr_table_view *view, struct cr_clock *clock,
                              struct cr_table_wanted *wanted, size_t count,
                              void (*copied)(void *context, size_t index,
                                             const struct cr_entry *entry),
                              void *context);

/* The table's clock as a reader sees it (a ticket of table.h carries it). */
uint64_t cr_table_view_clock(const struct cr_table_view *view);

#endif
