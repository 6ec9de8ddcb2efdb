/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Limits by GCRA (COORDINATION.md, section 2), in memory. A limit has up to four tiers, each so
 * many in a period: its whole count may come at once, and then one more each period / count. What a
 * key owes is one instant per tier, when that tier's debt is paid; asked for and raised here, and
 * kept elsewhere: the table is a cache of the caller's store, and a key that is not in it has to be
 * asked for, so that neither a full table nor a new process forgets. No I/O and no clock; one
 * thread.
 */
#ifndef COORD_LIMIT_H
#define COORD_LIMIT_H

#include <cloakroom/store.h>

#include "base/clock.h"

#define CR_LIMIT_TIERS_MAX CR_DEBT_TIERS_MAX
#define CR_LIMIT_COUNT_MAX 1000000
/* A debt is rounded up, by up to a millisecond beyond its period: a day below CR_SPAN_MS_MAX, which
 * is what stores take. */
#define CR_LIMIT_PERIOD_MS_MAX (365LL * 24 * 3600 * 1000)
_Static_assert(CR_LIMIT_PERIOD_MS_MAX < CR_SPAN_MS_MAX, "a debt fits its row");
#define CR_LIMIT_PARTS_MAX 5

struct cr_limit_tier {
    uint32_t count;
    cr_span_ms period;
};

/* No tiers: the limit is off. */
struct cr_limit {
    size_t tier_count;
    struct cr_limit_tier tiers[CR_LIMIT_TIERS_MAX];
};

/* "5/1m 20/1h 60/1d", or "off". False: not of that form. */
CR_MUST_CHECK bool cr_limit_read(const char *text, struct cr_limit *out_limit);

/* When each tier's debt is paid; 0 or past: nothing is owed. */
struct cr_limit_word {
    cr_boot_ns at[CR_LIMIT_TIERS_MAX];
};

/* The arithmetic. Whether one more is within the limit; if not, how long until it is (rounded up,
 * at least 1). */
CR_MUST_CHECK bool cr_limit_admits(const struct cr_limit *limit, const struct cr_limit_word *word,
                                   cr_boot_ns now, cr_span_ms *out_wait);
void cr_limit_charge(const struct cr_limit *limit, struct cr_limit_word *word, cr_boot_ns now);
/* One back; never below now. */
void cr_limit_refund(const struct cr_limit *limit, struct cr_limit_word *word, cr_boot_ns now);
/* How many of a tier's count are used up, rounded up. */
uint32_t cr_limit_used(const struct cr_limit_tier *tier, cr_boot_ns at, cr_boot_ns now);
/* To and from what a store keeps. Rounded up; more than the limit can make anybody owe is cut. */
void cr_limit_left(const struct cr_limit_word *word, cr_boot_ns now,
                   cr_span_ms out_left[CR_LIMIT_TIERS_MAX]);
void cr_limit_word_of(const struct cr_limit *limit, const cr_span_ms left[CR_LIMIT_TIERS_MAX],
                      cr_boot_ns now, struct cr_limit_word *out_word);

struct cr_limit_key {
    unsigned char bytes[CR_DEBT_KEY_BYTES]; /* a hash: spread evenly */
};

/*
 * One decision over several keys, embedded in its owner. Made with its keys and limits; then
 * cr_limiter_look, for each part that is `missing` cr_limiter_learn, cr_limiter_take, and at the
 * end cr_limiter_leave, which may come at any time.
 */
struct cr_limit_entry;
struct cr_limit_part {
    struct cr_limit_key key;
    const struct cr_limit *limit;
    bool missing;
    struct cr_limit_word word;    /* of a missing one: the most that is known to be owed */
    struct cr_limit_entry *entry; /* once taken: pinned */
};
struct cr_limit_ask {
    size_t part_count;
    struct cr_limit_part parts[CR_LIMIT_PARTS_MAX];
    bool linked, taken;
    struct cr_limit_ask *prev, *next; /* of those whose parts are missing */
};

struct cr_limiter;

/* `entries_max`: of the table; those in use beyond it are kept too. */
CR_MUST_CHECK enum cr_status cr_limiter_create(size_t entries_max, struct cr_limiter **out_limiter);
void cr_limiter_destroy(struct cr_limiter *limiter); /* accepts NULL */

/* CR_OK: all keys are here. CR_ASK: some are `missing`, to be learnt. CR_LIMITED: already those
 * that are here refuse; *out_wait. */
CR_MUST_CHECK enum cr_status cr_limiter_look(struct cr_limiter *limiter, struct cr_limit_ask *ask,
                                             cr_boot_ns now, cr_span_ms *out_wait);
/* What the store says part `index` owes; all zero: nothing. */
void cr_limiter_learn(struct cr_limit_ask *ask, size_t index,
                      const cr_span_ms left[CR_LIMIT_TIERS_MAX], cr_boot_ns now);
/* All of them or none. CR_OK: charged, and pinned until cr_limiter_leave. CR_LIMITED: *out_wait is
 * the longest of the keys'. CR_E_NO_MEMORY. */
CR_MUST_CHECK enum cr_status cr_limiter_take(struct cr_limiter *limiter, struct cr_limit_ask *ask,
                                             cr_boot_ns now, cr_span_ms *out_wait);
/* Of an ask that was taken: what its part owes now; and one back for each. */
const struct cr_limit_word *cr_limit_part_word(const struct cr_limit_part *part);
void cr_limiter_give(struct cr_limit_ask *ask, cr_boot_ns now);
void cr_limiter_leave(struct cr_limiter *limiter, struct cr_limit_ask *ask, cr_boot_ns now);

/* All that is not in use is dropped, to be asked for again; what is in use of `keys` owes nothing
 * any more. */
void cr_limiter_forget(struct cr_limiter *limiter, const struct cr_limit_key *keys, size_t count);
/* False: it is not in the table. */
CR_MUST_CHECK bool cr_limiter_peek(const struct cr_limiter *limiter, const struct cr_limit_key *key,
                                   struct cr_limit_word *out_word);

struct cr_limiter_count {
    uint64_t entries, evicted; /* evicted: dropped while they still owed */
};
void cr_limiter_count(const struct cr_limiter *limiter, struct cr_limiter_count *out_count);

#endif
