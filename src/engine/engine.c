/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine's life: start, stop, its table and the switching of it, and the calls under way.
 *
 * Owns the table, the store's queue, and the list of calls. What a call does is in fill.c (look),
 * write.c (make and change), end.c (end); how the table is kept true beside other engines is in
 * follow.c (their endings) and wait.c (our endings); seen.c carries last uses to the store.
 *
 * Invariants: only this thread writes the table. A call is in the list from begin to answer, and is
 * answered once. The clock never goes back, also over times without a table.
 */
#include "engine/engine.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "engine/internal.h"

#define IDLE_MS_DEFAULT (30LL * 60 * 1000)
#define ABSOLUTE_MS_DEFAULT (12LL * 3600 * 1000)

cr_boot_ns cr_engine_now(const struct cr_engine *engine)
{
    return cr_clock_boot(engine->loop->clock);
}

uint64_t cr_engine_clock(const struct cr_engine *engine)
{
    return engine->table != NULL ? cr_table_clock(engine->table) : engine->clock;
}

/* Rule 7: silence is not consent. */
bool cr_engine_may_answer(const struct cr_engine *engine)
{
    /* may_answer:A. Whoever sees a lease sees what was applied before it was extended. Pairs with
     * lease_extend:A and lease_lost:A. */
    return cr_engine_now(engine) <
           atomic_load_explicit(&engine->answer_until, memory_order_acquire);
}

void cr_engine_say(struct cr_engine *engine, const char *format, ...)
{
    char text[256];
    va_list args;
    if (engine->options.say == NULL)
        return;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    engine->options.say(engine->options.context, text);
}

void *cr_engine_op_begin(struct cr_engine *engine, size_t bytes, void (*release)(struct op *),
                         cr_engine_done *done, void *context)
{
    CR_ASSERT(bytes >= sizeof(struct op) && done != NULL);
    struct op *op = calloc(1, bytes);
    if (op == NULL || engine->closing) {
        free(op);
        done(context, &(struct cr_engine_answer){.status = engine->closing ? CR_UNAVAILABLE
                                                                           : CR_E_NO_MEMORY});
        return NULL;
    }
    op->engine = engine;
    op->done = done;
    op->context = context;
    op->release = release;
    op->next = engine->ops;
    if (engine->ops != NULL)
        engine->ops->prev = op;
    engine->ops = op;
    return op;
}

static void op_unlink(struct op *op)
{
    if (op->prev != NULL)
        op->prev->next = op->next;
    else
        op->engine->ops = op->next;
    if (op->next != NULL)
        op->next->prev = op->prev;
}

void cr_engine_op_answer(struct op *op, const struct cr_engine_answer *answer)
{
    op_unlink(op);
    op->done(op->context, answer);
    if (op->release != NULL)
        op->release(op);
    else
        free(op);
}

void cr_engine_op_status(struct op *op, enum cr_status status)
{
    cr_engine_op_answer(op, &(struct cr_engine_answer){.status = status});
}

void cr_engine_op_unasked(void *context, const struct cr_engine_answer *answer)
{
    (void)context;
    (void)answer;
}

static void op_submit(struct op *op, store_run *run, store_done *done,
                      bool (*submit)(struct cr_store_queue *, struct cr_store_call *))
{
    op->call.run = run;
    op->call.done = done;
    if (op->engine->queue == NULL)
        cr_engine_op_status(op, CR_E_INVALID);
    else if (op->engine->closing) /* the second step of a call: its pool may be gone already */
        cr_engine_op_status(op, CR_UNAVAILABLE);
    else if (!submit(op->engine->queue, &op->call))
        cr_engine_op_status(op, CR_BUSY);
}

void cr_engine_op_read(struct op *op, store_run *run, store_done *done)
{
    op_submit(op, run, done, cr_store_queue_read);
}

void cr_engine_op_write(struct op *op, store_run *run, store_done *done)
{
    op_submit(op, run, done, cr_store_queue_write);
}

void cr_engine_apply(struct cr_engine *engine, const struct cr_log_row *row)
{
    if (row->kind == CR_LOG_KEY_ADDED)
        cr_engine_keys_changed(engine);
    if (engine->table == NULL)
        return;
    switch (row->kind) {
    case CR_LOG_FIRST:
    case CR_LOG_KEY_ADDED:
        break;
    case CR_LOG_SESSION_ENDED:
    case CR_LOG_SESSION_CHANGED:
        (void)cr_table_end_session(engine->table, &row->session);
        break;
    case CR_LOG_USER_ENDED:
        (void)cr_table_end_user(engine->table, &row->user);
        break;
    case CR_LOG_ALL_ENDED:
        (void)cr_table_end_all(engine->table);
        break;
    }
}

void cr_engine_drop_table(struct cr_engine *engine)
{
    if (engine->table != NULL)
        (void)cr_table_end_all(engine->table);
}

/* "The agent dies? Its table is thrown away": readers believe a shared table this long only. */
static void table_freshen(struct cr_engine *engine)
{
    cr_boot_ns now = cr_engine_now(engine);
    uint64_t until = atomic_load_explicit(&engine->answer_until, memory_order_relaxed);
    cr_boot_ns ahead = cr_boot_add(now, FRESH_AHEAD_MS);
    if (engine->table != NULL)
        cr_table_freshen(engine->table, until < ahead ? until : ahead, now);
}

static void freshen_fired(struct cr_timer *timer)
{
    struct cr_engine *engine =
        (struct cr_engine *)((char *)timer - offsetof(struct cr_engine, freshen));
    table_freshen(engine);
    cr_timer_set(engine->loop, timer, cr_boot_add(cr_engine_now(engine), FRESHEN_EVERY_MS));
}

/* A new table starts empty, above everything that fills under way may have read. */
static enum cr_status table_make(struct cr_engine *engine, enum cr_cache cache, size_t bytes,
                                 enum cr_huge_pages huge_pages, struct cr_table **out_table)
{
    *out_table = NULL;
    if (cache == CR_CACHE_NONE)
        return CR_OK;
    struct cr_table_options options = {
        .bytes = bytes,
        .shared = cache == CR_CACHE_SHARED,
        .clock_start = cr_engine_clock(engine) + 1,
        .always_fresh = cache == CR_CACHE_MEMORY,
        .huge_pages = huge_pages,
    };
    enum cr_status st = cr_table_create(&options, engine->random, out_table);
    if (st != CR_OK || huge_pages != CR_HUGE_RESERVED || !options.shared)
        return st;
    struct cr_table_count count;
    cr_table_count(*out_table, &count);
    if (!count.from_pool)
        cr_engine_say(engine, "too few huge pages are reserved (vm.nr_hugepages) for the table: it "
                              "has ordinary memory");
    return CR_OK;
}

enum cr_status cr_engine_set_cache(struct cr_engine *engine, enum cr_cache cache, size_t bytes,
                                   enum cr_huge_pages huge_pages)
{
    struct cr_table *old = engine->table, *table = NULL;
    CR_ASSERT(cache != CR_CACHE_DEFAULT);
    bool is_same = bytes == engine->cache_bytes && huge_pages == engine->huge_pages;
    if (cache == engine->cache && (is_same || cache == CR_CACHE_NONE))
        return CR_OK;
    enum cr_status st = table_make(engine, cache, bytes, huge_pages, &table);
    if (st != CR_OK)
        return st;
    engine->clock = cr_engine_clock(engine) + 1;
    engine->table = table;
    engine->cache = cache;
    engine->cache_bytes = bytes;
    engine->huge_pages = huge_pages;
    /* Readers of the old one must ask from now on, before anything is ended in the new one only. */
    cr_table_destroy(old);
    table_freshen(engine);
    if (engine->options.table_changed != NULL)
        engine->options.table_changed(engine->options.context, cr_engine_table_fd(engine));
    return CR_OK;
}

void cr_engine_set_lifetimes(struct cr_engine *engine, cr_span_ms idle, cr_span_ms absolute)
{
    engine->options.idle = idle != 0 ? idle : IDLE_MS_DEFAULT;
    engine->options.absolute = absolute != 0 ? absolute : ABSOLUTE_MS_DEFAULT;
}

static void sweep_fired(struct cr_timer *timer);

/* At a random offset, so that the engines of a fleet do not sweep at once. */
static void sweep_later(struct cr_engine *engine, cr_span_ms base, cr_span_ms spread)
{
    uint32_t random = 0;
    if (cr_random_fill(engine->random, &random, sizeof random) != CR_OK)
        random = 0;
    cr_span_ms wait = base + (cr_span_ms)(random % (uint32_t)spread);
    cr_timer_set(engine->loop, &engine->sweep_timer, cr_boot_add(cr_engine_now(engine), wait));
}

struct sweep {
    struct op op;
    size_t count;
};

static enum cr_status sweep_run(struct cr_store *store, struct cr_store_call *call)
{
    struct sweep *sweep = (struct sweep *)op_of(call);
    return cr_store_sweep(store, 500, &sweep->count);
}

static void sweep_done(struct cr_store_call *call)
{
    struct sweep *sweep = (struct sweep *)op_of(call);
    struct cr_engine *engine = sweep->op.engine;
    if (call->status == CR_OK && sweep->count == 500)
        sweep_later(engine, 100, 100);
    else
        sweep_later(engine, 300000, 600000);
    if (call->status == CR_OK)
        cr_engine_keys_read(engine); /* some may have been dropped, by whomever */
    cr_engine_op_status(&sweep->op, call->status);
}

static void sweep_fired(struct cr_timer *timer)
{
    struct cr_engine *engine =
        (struct cr_engine *)((char *)timer - offsetof(struct cr_engine, sweep_timer));
    sweep_later(engine, 300000, 600000); /* also when this one is never answered */
    struct sweep *sweep =
        cr_engine_op_begin(engine, sizeof *sweep, NULL, cr_engine_op_unasked, NULL);
    if (sweep == NULL)
        return;
    cr_engine_op_write(&sweep->op, sweep_run, sweep_done);
}

static void keyring_forget(struct cr_engine *engine)
{
    cr_keyring_wipe(&engine->keyring);
    cr_bytes_unlock(&engine->keyring, sizeof engine->keyring);
}

/* Keys, identity, position, registration: while nobody else uses the store handle. */
static enum cr_status engine_read_store(struct cr_engine *engine, struct cr_store *store,
                                        struct cr_error *out_error)
{
    struct cr_key keys[CR_KEYS_MAX];
    size_t count = 0;
    engine->exclusive = cr_store_is_exclusive(store);
    enum cr_status st = cr_store_identity(store, &engine->identity);
    if (st == CR_OK)
        st = cr_store_keys(store, keys, sizeof keys / sizeof keys[0], &count);
    if (st == CR_OK && count == 0)
        st = CR_E_CORRUPT;
    if (st == CR_OK && !cr_bytes_lock(&engine->keyring, sizeof engine->keyring))
        cr_engine_say(engine, "the keys are not locked in memory and may be written to swap: raise "
                              "the limit of locked memory (ulimit -l, LimitMEMLOCK=)");
    if (st == CR_OK)
        cr_engine_keys_take(engine, keys, count);
    cr_bytes_wipe(keys, sizeof keys);
    if (st == CR_OK)
        st = cr_engine_follow_start(engine, store);
    if (st != CR_OK && out_error != NULL) {
        out_error->status = st;
        (void)snprintf(out_error->text, sizeof out_error->text,
                       "the store could not be read at start: %s", cr_status_text(st));
    }
    return st;
}

static void options_complete(struct cr_engine_options *options)
{
    if (options->realm == NULL)
        options->realm = "cloakroom";
    if (options->idle == 0)
        options->idle = IDLE_MS_DEFAULT;
    if (options->absolute == 0)
        options->absolute = ABSOLUTE_MS_DEFAULT;
    if (options->lease == 0)
        options->lease = 5000;
    if (options->poll == 0)
        options->poll = 1000;
    if (options->cache == CR_CACHE_DEFAULT)
        options->cache = CR_CACHE_MEMORY;
    if (options->cache_bytes == 0)
        options->cache_bytes = 64u << 20;
    CR_ASSERT(options->lease >= 5 * options->poll);
}

enum cr_status cr_engine_create(const struct cr_engine_options *options,
                                struct cr_engine **out_engine, struct cr_error *out_error)
{
    struct cr_engine *engine = calloc(1, sizeof *engine);
    if (engine == NULL) {
        cr_store_destroy(options->store);
        return CR_E_NO_MEMORY;
    }
    engine->options = *options;
    options_complete(&engine->options);
    if (options->label != NULL)
        cr_label_copy(engine->label, sizeof engine->label, options->label, strlen(options->label));
    engine->options.label = NULL; /* the caller's, and gone when the engine registers anew */
    engine->loop = options->loop;
    engine->random = options->random;
    engine->exclusive = true;
    atomic_init(&engine->answer_until, CR_BOOT_NEVER);
    engine->freshen.fire = freshen_fired;
    engine->sweep_timer.fire = sweep_fired;
    cr_engine_keys_start(engine);

    enum cr_status st = cr_engine_seen_start(engine);
    /* Before it registers: who cannot have a table need not be waited for. */
    if (st == CR_OK)
        st = table_make(engine, engine->options.cache, engine->options.cache_bytes,
                        engine->options.huge_pages, &engine->table);
    if (st == CR_OK && options->store != NULL)
        st = engine_read_store(engine, options->store, out_error);
    else if (st == CR_OK)
        st = cr_engine_wait_start(engine, NULL);
    if (st != CR_OK)
        goto failed;
    engine->cache = engine->options.cache;
    engine->cache_bytes = engine->options.cache_bytes;
    engine->huge_pages = engine->options.huge_pages;
    if (options->store != NULL) {
        struct cr_store_queue_options queue = {
            .reader_threads = 2, .queue_max = 4096, .batch_max = 256};
        st = cr_store_queue_create(engine->loop, options->store, &queue, &engine->queue);
        if (st != CR_OK)
            goto failed;
        cr_engine_follow_begin(engine);
        sweep_later(engine, 1000, 600000);
    }
    cr_engine_wait_begin(engine);
    freshen_fired(&engine->freshen);
    *out_engine = engine;
    return CR_OK;

failed:
    cr_engine_keys_stop(engine);
    cr_store_destroy(options->store);
    cr_table_destroy(engine->table);
    keyring_forget(engine);
    free(engine->seen);
    free(engine);
    return st;
}

/* What waits is written, and what was seen; then the registration goes. */
static void queue_leave(struct cr_engine *engine)
{
    struct cr_store *store = cr_store_queue_release(engine->queue);
    engine->queue = NULL;
    cr_engine_seen_stop(engine, store);
    /* Ours took the place of a predecessor's: it says the same to a successor for as long as that
     * one's table may be believed. */
    bool passes_on = cr_engine_now(engine) < engine->predecessor_until;
    if (engine->registered && !passes_on && cr_store_begin(store) == CR_OK) {
        if (cr_store_engine_remove(store, &engine->row.identity, engine->row.beat) != CR_OK)
            cr_store_rollback(store);
        else if (cr_store_commit(store) != CR_OK)
            cr_engine_say(engine, "the registration could not be taken out of the store");
    }
    cr_store_destroy(store);
}

void cr_engine_destroy(struct cr_engine *engine)
{
    if (engine == NULL)
        return;
    /* First nobody believes the table, then the registration goes (rule 6). */
    if (engine->table != NULL)
        cr_table_retire(engine->table);
    engine->closing = true;
    if (engine->queue != NULL)
        queue_leave(engine);
    /* What was running has set its last timers by now. */
    cr_timer_stop(engine->loop, &engine->freshen);
    cr_timer_stop(engine->loop, &engine->sweep_timer);
    cr_engine_keys_stop(engine);
    cr_engine_wait_stop(engine);
    cr_engine_follow_stop(engine);
    /* Each answer takes its call out of the list, which the analyser does not see. */
    while (engine->ops != NULL) {
        struct op *op = engine->ops;
        if (op->stop != NULL)
            op->stop(op);
        else
            cr_engine_op_status(op, CR_UNAVAILABLE);
        CR_ASSERT(engine->ops != op);
    }
    cr_table_destroy(engine->table);
    keyring_forget(engine);
    free(engine->seen);
    free(engine);
}

bool cr_engine_cached(struct cr_engine *engine, const struct cr_session_id *id,
                      const struct cr_token_hash *hash, struct cr_entry *out)
{
    struct cr_table_view view;
    bool used_old;
    /* engine_cached:A. The lease before the stamps, the clock after: rule 4, for a table without
     * fresh_until. Pairs with lease_extend:A and lease_lost:A. */
    uint64_t until = atomic_load_explicit(&engine->answer_until, memory_order_acquire);
    if (engine->table == NULL)
        return false;
    cr_table_own_view(engine->table, &view);
    return cr_table_find(&view, engine->loop->clock, id, hash, out, &used_old) &&
           cr_engine_now(engine) < until;
}

bool cr_engine_store_read(struct cr_engine *engine, struct cr_store_call *call)
{
    return engine->queue != NULL && cr_store_queue_read(engine->queue, call);
}

bool cr_engine_store_write(struct cr_engine *engine, struct cr_store_call *call)
{
    return engine->queue != NULL && cr_store_queue_write(engine->queue, call);
}

struct cr_loop *cr_engine_loop(struct cr_engine *engine)
{
    return engine->loop;
}

const struct cr_keyring *cr_engine_keyring(const struct cr_engine *engine)
{
    CR_ASSERT(engine->queue != NULL);
    return &engine->keyring;
}

struct cr_random *cr_engine_random(struct cr_engine *engine)
{
    return engine->random;
}

enum cr_cache cr_engine_cache(const struct cr_engine *engine)
{
    return engine->cache;
}

int cr_engine_table_fd(const struct cr_engine *engine)
{
    return engine->table != NULL ? cr_table_fd(engine->table) : -1;
}

bool cr_engine_has_store(const struct cr_engine *engine)
{
    return engine->queue != NULL;
}

bool cr_engine_is_exclusive(const struct cr_engine *engine)
{
    return engine->exclusive;
}

uint32_t cr_engine_key_number(const struct cr_engine *engine)
{
    const struct cr_keyring *ring = &engine->keyring;
    return ring->count > 0 ? ring->keys[ring->signer].number : 0;
}

void cr_engine_identity(const struct cr_engine *engine, struct cr_ending_id *out)
{
    *out = engine->identity;
}

/* As struct cr_stats has it. */
static uint64_t lease_left(const struct cr_engine *engine)
{
    /* lease_left:A. Relaxed. Alone: shown to people, and nothing is believed by it. */
    cr_boot_ns until = atomic_load_explicit(&engine->answer_until, memory_order_relaxed);
    cr_boot_ns now = cr_engine_now(engine);
    if (until == CR_BOOT_NEVER)
        return UINT64_MAX;
    /* Rounded up: what may still answer is not shown as one that may not. */
    return until > now ? (uint64_t)cr_boot_between(now, until) + 1 : 0;
}

void cr_engine_stats(const struct cr_engine *engine, struct cr_stats *stats)
{
    stats->cache = engine->cache;
    stats->fills = engine->fills;
    stats->fills_refused = engine->fills_refused;
    stats->endings = engine->endings;
    stats->engines = engine->other_count + 1;
    stats->lease_left = lease_left(engine);
    if (engine->table != NULL) {
        struct cr_table_count count;
        cr_table_count(engine->table, &count);
        stats->table_sessions = count.entries;
        stats->table_capacity = count.capacity;
        stats->table_bytes = count.bytes;
        stats->evicted = count.evicted_live;
    }
    if (engine->queue != NULL) {
        struct cr_store_queue_count count;
        cr_store_queue_count(engine->queue, &count);
        stats->store_reads = count.reads;
        stats->store_writes = count.writes;
        stats->store_commits = count.commits;
        stats->store_waiting = count.waiting;
        stats->store_calls = count.calls;
        stats->store_micros = count.micros;
    }
}
