/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the engine share. Nobody else includes this. */
#ifndef ENGINE_INTERNAL_H
#define ENGINE_INTERNAL_H

#include <stdatomic.h>

#include "base/assert.h"
#include "engine/engine.h"

/* How long who waits for another's lease waits. Clocks of running hosts agree in rate within 10 %
 * of each other, so it is over after less than 1.12 of it on ours; what is more than that is
 * margin. */
#define LEASE_WAIT(span) (((span)*122 + 99) / 100)
#define FRESHEN_EVERY_MS 200
#define FRESH_AHEAD_MS 1000
#define CENSUS_EVERY_MS 50
#define SEEN_MAX 16384    /* sessions whose use is waiting to be written */
#define SEEN_BATCH 512    /* of them in one call */
#define OTHERS_MAX 256    /* engines of one store */
#define POLL_ROWS 1024    /* log rows that one poll takes */
#define RETRY_FOR_MS 5000 /* how long an ending of unknown outcome is asked for again */

/* One call under way. First member of each kind of call; linked from begin to answer. */
struct op {
    struct cr_store_call call;
    struct cr_engine *engine;
    cr_engine_done *done;
    void *context;
    void (*release)(struct op *); /* frees the whole, secrets wiped */
    void (*stop)(struct op *);    /* answers it when the engine stops; NULL: CR_UNAVAILABLE */
    struct op *prev, *next;
};

/* An answer that waits until no engine lets the ended sessions in (rule 6). */
struct waiter {
    struct waiter *next;
    uint64_t number;  /* of the log row that the others must have applied */
    uint64_t census;  /* only a list of engines asked for after the commit counts */
    cr_boot_ns began; /* a bound later it is CR_PENDING */
    bool async;       /* as soon as the bound is known */
    void (*ready)(struct waiter *, enum cr_status status, cr_span_ms bound);
};

/* Another engine of the store, as this one last saw its row. */
struct other {
    struct cr_engine_row row;
    cr_boot_ns since; /* when this beat was first seen here */
    bool listed;
};

struct seen_slot {
    struct cr_session_id id; /* empty text: free */
    cr_boot_ns at;
};

struct cr_engine {
    struct cr_engine_options options;
    struct cr_loop *loop;
    struct cr_random *random;
    struct cr_store_queue *queue; /* NULL: the application's own table */
    bool exclusive;
    struct cr_ending_id identity;
    struct cr_keyring keyring;
    cr_boot_ns keys_read_at;
    bool keys_stale, keys_busy; /* one was added since they were read; a read is under way */
    uint64_t keys_asked;        /* counts the changes that were heard of */
    struct cr_timer keys_timer;

    /* The table. `clock` carries the clock over times without one. */
    struct cr_table *table;
    enum cr_cache cache;
    size_t cache_bytes;
    enum cr_huge_pages huge_pages;
    uint64_t clock;
    struct cr_timer freshen;

    /* Until when `live` may be answered; read by cr_engine_cached from any thread (rule 7). */
    _Atomic uint64_t answer_until;

    /* The follower (rule 5). */
    char label[CR_BY_CHARS_MAX + 1];
    struct cr_engine_row row;
    struct cr_log_row last;       /* the row at our position: number and identity are compared */
    bool registered;              /* our row is in the store, as far as we know */
    struct poll *poll;            /* under way, or NULL */
    struct cr_store_call *riders; /* strict reads for the next one */
    struct cr_timer poll_timer;

    /* Rule 6. */
    struct other others[OTHERS_MAX];
    size_t other_count;
    bool others_overflow; /* more than we can watch: nobody can be waited for by name */
    bool removal_busy;
    struct waiter *waiters;
    uint64_t census_asked, census_known; /* numbers of lists: asked for, come back */
    bool census_busy;
    struct cr_timer census_timer;
    cr_boot_ns predecessor_until; /* an exclusive store: our predecessor's segment is dead then */

    /* Last uses that are not in the store yet. Open addressing, linear probing. */
    struct seen_slot *seen;
    size_t seen_count;
    bool seen_busy;
    struct cr_timer seen_timer;

    struct cr_timer sweep_timer;
    bool sweep_busy;

    struct op *ops; /* all calls under way */
    bool closing;
    uint64_t fills, fills_refused, endings, hits;
};

/* engine.c */
cr_boot_ns cr_engine_now(const struct cr_engine *engine);
uint64_t cr_engine_clock(const struct cr_engine *engine);
bool cr_engine_may_answer(const struct cr_engine *engine);
void cr_engine_say(struct cr_engine *engine, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Raise the stamps that a log row asks for (rules 2 and 3). */
void cr_engine_apply(struct cr_engine *engine, const struct cr_log_row *row);
/* Nothing in the table may be believed any more; what is filled from now on may. */
void cr_engine_drop_table(struct cr_engine *engine);
/* An op of `bytes`, zeroed and linked; NULL: `done` has been told CR_E_NO_MEMORY. */
void *cr_engine_op_begin(struct cr_engine *engine, size_t bytes, void (*release)(struct op *),
                         cr_engine_done *done, void *context);
void cr_engine_op_answer(struct op *op,
                         const struct cr_engine_answer *answer); /* unlinks, tells, releases */
void cr_engine_op_status(struct op *op, enum cr_status status);
/* For what nobody waits for. */
void cr_engine_op_unasked(void *context, const struct cr_engine_answer *answer);
/* Submit op->call; answers CR_BUSY when the queue is full. */
typedef enum cr_status store_run(struct cr_store *store, struct cr_store_call *call);
typedef void store_done(struct cr_store_call *call);
void cr_engine_op_read(struct op *op, store_run *run, store_done *done);
void cr_engine_op_write(struct op *op, store_run *run, store_done *done);
/* Which op a call is part of. */
static inline struct op *op_of(struct cr_store_call *call)
{
    return (struct op *)(void *)((char *)call - offsetof(struct op, call));
}

/* fill.c */
/* Does the row answer this token? By its hash, or in its grace by the one before the last rotation.
 */
bool cr_engine_record_matches(const struct cr_record *record, const struct cr_token_hash *hash);
void cr_engine_entry_from_record(struct cr_engine *engine, const struct cr_record *record,
                                 cr_boot_ns before, struct cr_entry *out);
/* What a log row says of the session that it ended, and what became of a session that is there. */
void cr_engine_explain_row(const struct cr_log_row *row, struct cr_explanation *out);
enum cr_status cr_engine_explain_record(struct cr_store *store, const struct cr_record *record,
                                        struct cr_explanation *out);

/* follow.c */
enum cr_status cr_engine_follow_start(struct cr_engine *engine, struct cr_store *store);
void cr_engine_follow_stop(struct cr_engine *engine);
void cr_engine_follow_begin(struct cr_engine *engine); /* timers, once the queue is there */
/* A read that is also a poll (rule 8): `rider->run` is called in the transaction of the next poll,
 * and `rider->done` after that poll was followed; CR_UNAVAILABLE when it failed. */
void cr_engine_follow_ride(struct cr_engine *engine, struct cr_store_call *rider);

/* keys.c */
void cr_engine_keys_start(struct cr_engine *engine);
void cr_engine_keys_stop(struct cr_engine *engine);
/* As the store gave them just now. */
void cr_engine_keys_take(struct cr_engine *engine, const struct cr_key *keys, size_t count);
void cr_engine_keys_read(struct cr_engine *engine);    /* again, when it can be had */
void cr_engine_keys_changed(struct cr_engine *engine); /* one was added: they must be read again */
/* False: *out_status is CR_NOT_FOUND, or CR_UNAVAILABLE where its key may be one that this engine
 * has not heard of yet. */
CR_MUST_CHECK bool cr_engine_token_is_genuine(const struct cr_engine *engine,
                                              const struct cr_token *token,
                                              enum cr_status *out_status);

/* wait.c */
/* In the batch that registers us; NULL: no store of ours. */
enum cr_status cr_engine_wait_start(struct cr_engine *engine, struct cr_store *store);
void cr_engine_wait_begin(struct cr_engine *engine); /* timers, once the queue is there */
/* Calls waiter->ready, perhaps before it returns. `async`: waits only until it is known for whom it
 * would have to, and for how long: CR_PENDING. */
void cr_engine_wait_for(struct cr_engine *engine, struct waiter *waiter, uint64_t number,
                        bool async);
/* Whoever waits is answered CR_PENDING. */
void cr_engine_wait_stop(struct cr_engine *engine);

/* seen.c */
enum cr_status cr_engine_seen_start(struct cr_engine *engine);
/* The use that is waiting to be written, or 0. */
cr_boot_ns cr_engine_seen_pending(const struct cr_engine *engine, const struct cr_session_id *id);
void cr_engine_seen_stop(struct cr_engine *engine, struct cr_store *store); /* writes what waits */

#endif
