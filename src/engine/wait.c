/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waiting for the others (rule 6): an ending is done when every registered engine has acknowledged
 * its log row, or has been silent for 1.22 times its lease and grace, counted on our clock from
 * when we first saw its present beat. One silent that long is removed by compare-and-set.
 *
 * Where the store is exclusive there are no others, but a predecessor on this host may have left a
 * table that its readers still believe for a second: endings wait for that.
 *
 * Invariant: a waiter is answered only on the strength of a list that was asked for after its
 * commit.
 */
#include "engine/internal.h"

#include <stdlib.h>
#include <string.h>

static void waiters_check(struct cr_engine *engine);
static void census_ask(struct cr_engine *engine);
static void silent_remove(struct cr_engine *engine);

static cr_span_ms silence_of(const struct cr_engine_row *row)
{
    return LEASE_WAIT(row->lease + row->grace);
}

/* The longest that an ending can still need, for CR_PENDING. */
static cr_span_ms wait_bound(const struct cr_engine *engine)
{
    cr_span_ms bound = LEASE_WAIT(engine->options.lease + engine->options.grace);
    for (size_t i = 0; i < engine->other_count; i++)
        if (silence_of(&engine->others[i].row) > bound)
            bound = silence_of(&engine->others[i].row);
    return bound + 2 * engine->options.poll;
}

/* At start, in the batch that registers us: on an exclusive store a registration that is still
 * there is of a predecessor that crashed, and its segment is believed for a second at most. It goes
 * now, as ours says the same to a successor: however many crash, the list stays short. */
enum cr_status cr_engine_wait_start(struct cr_engine *engine, struct cr_store *store)
{
    struct cr_engine_row rows[OTHERS_MAX];
    size_t count = 0;
    enum cr_status st = CR_OK;
    /* Nothing tells of a predecessor in front of an application's own store. */
    bool crashed = store == NULL && engine->options.cache == CR_CACHE_SHARED;
    if (store != NULL && engine->exclusive)
        st = cr_store_engine_list(store, rows, OTHERS_MAX, &count);
    for (size_t i = 0; st == CR_OK && i < count; i++)
        st = cr_store_engine_remove(store, &rows[i].identity, rows[i].beat);
    if (st == CR_OK && (crashed || count > 0))
        engine->predecessor_until = cr_boot_add(cr_engine_now(engine), LEASE_WAIT(FRESH_AHEAD_MS));
    return st;
}

/* Some engines that are to be taken out, all in one write. */
struct removal {
    struct op op;
    size_t count;
    struct {
        struct cr_ending_id identity;
        uint64_t beat;
        bool is_out; /* once it was run: else it has shown life */
    } engines[OTHERS_MAX];
};

static struct other *other_find(struct cr_engine *engine, const struct cr_ending_id *identity)
{
    for (size_t i = 0; i < engine->other_count; i++)
        if (memcmp(&engine->others[i].row.identity, identity, sizeof *identity) == 0)
            return &engine->others[i];
    return NULL;
}

static void removal_release(struct op *op)
{
    struct removal *removal = (struct removal *)op;
    op->engine->removal_busy = false;
    free(removal);
}

static enum cr_status removal_run(struct cr_store *store, struct cr_store_call *call)
{
    struct removal *removal = (struct removal *)op_of(call);
    enum cr_status st = CR_OK;
    for (size_t i = 0; i < removal->count && st == CR_OK; i++) {
        st = cr_store_engine_remove(store, &removal->engines[i].identity, removal->engines[i].beat);
        removal->engines[i].is_out = st == CR_OK;
        if (st == CR_CONFLICT)
            st = CR_OK;
    }
    return st;
}

static void other_forget(struct cr_engine *engine, struct other *other)
{
    *other = engine->others[--engine->other_count];
}

static void removal_done(struct cr_store_call *call)
{
    struct removal *removal = (struct removal *)op_of(call);
    struct cr_engine *engine = removal->op.engine;
    for (size_t i = 0; i < removal->count && call->status == CR_OK; i++) {
        struct other *other = other_find(engine, &removal->engines[i].identity);
        if (other == NULL || !removal->engines[i].is_out)
            continue;
        cr_engine_say(engine, "an engine that was silent past its lease was taken out: %s",
                      other->row.label);
        other_forget(engine, other);
    }
    cr_engine_op_status(&removal->op, call->status);
    waiters_check(engine);
}

struct census {
    struct op op;
    uint64_t number;
    bool is_cut; /* there are more */
    size_t count;
    struct cr_engine_row rows[OTHERS_MAX];
};

static void census_release(struct op *op)
{
    op->engine->census_busy = false;
    free(op);
}

static enum cr_status census_run(struct cr_store *store, struct cr_store_call *call)
{
    struct census *census = (struct census *)op_of(call);
    enum cr_status st = cr_store_engine_list(store, census->rows, OTHERS_MAX, &census->count);
    census->is_cut =
        st == CR_E_LIMIT; /* those that are there are watched: the dead among them go */
    return census->is_cut ? CR_OK : st;
}

static void census_merge(struct cr_engine *engine, const struct census *census)
{
    cr_boot_ns now = cr_engine_now(engine);
    for (size_t i = 0; i < engine->other_count; i++)
        engine->others[i].listed = false;
    for (size_t i = 0; i < census->count; i++) {
        const struct cr_engine_row *row = &census->rows[i];
        if (memcmp(&row->identity, &engine->row.identity, sizeof row->identity) == 0)
            continue;
        struct other *other = other_find(engine, &row->identity);
        if (other == NULL && engine->other_count < OTHERS_MAX) {
            other = &engine->others[engine->other_count++];
            *other = (struct other){.row = *row, .since = now};
        }
        if (other == NULL)
            continue; /* cannot be: the list is no longer than the array */
        if (other->row.beat != row->beat)
            other->since = now;
        other->row = *row;
        other->listed = true;
    }
    for (size_t i = engine->other_count; i-- > 0;)
        if (!engine->others[i].listed)
            other_forget(engine, &engine->others[i]);
    engine->others_overflow = census->is_cut;
}

static void census_done(struct cr_store_call *call)
{
    struct census *census = (struct census *)op_of(call);
    struct cr_engine *engine = census->op.engine;
    bool call_was_ok = call->status == CR_OK;
    if (call_was_ok) {
        census_merge(engine, census);
        engine->census_known = census->number;
    }
    cr_engine_op_status(&census->op, call->status);
    waiters_check(engine);
    silent_remove(engine);
    /* Who joined while this list was under way needs another one. */
    for (const struct waiter *waiter = engine->waiters; waiter != NULL && call_was_ok;
         waiter = waiter->next)
        if (waiter->census > engine->census_known) {
            census_ask(engine);
            break;
        }
}

static void census_ask(struct cr_engine *engine)
{
    if (engine->census_busy)
        return;
    struct census *census =
        cr_engine_op_begin(engine, sizeof *census, census_release, cr_engine_op_unasked, NULL);
    if (census == NULL)
        return;
    engine->census_busy = true;
    census->number = ++engine->census_asked;
    /* A full queue answers at once, and the timer asks again. */
    cr_engine_op_read(&census->op, census_run, census_done);
}

/* Has everybody applied the log up to `number`, or been taken out? */
static bool others_passed(const struct cr_engine *engine, uint64_t number)
{
    for (size_t i = 0; i < engine->other_count; i++)
        if (engine->others[i].row.position < number)
            return false;
    return !engine->others_overflow;
}

/* The last log row that somebody waits for; 0: nobody waits. */
static uint64_t number_awaited(const struct cr_engine *engine)
{
    uint64_t number = 0;
    for (const struct waiter *waiter = engine->waiters; waiter != NULL; waiter = waiter->next)
        if (waiter->number > number)
            number = waiter->number;
    return number;
}

/* It keeps a waiter waiting, and has been silent past its lease. */
static bool other_is_silent(const struct other *other, uint64_t number, cr_boot_ns now)
{
    return other->row.position < number &&
           cr_boot_between(other->since, now) > silence_of(&other->row);
}

/* Take those out. */
static void silent_remove(struct cr_engine *engine)
{
    cr_boot_ns now = cr_engine_now(engine);
    uint64_t number = number_awaited(engine);
    size_t first = 0;
    while (first < engine->other_count && !other_is_silent(&engine->others[first], number, now))
        first++;
    if (first == engine->other_count || engine->removal_busy)
        return;
    struct removal *removal =
        cr_engine_op_begin(engine, sizeof *removal, removal_release, cr_engine_op_unasked, NULL);
    if (removal == NULL)
        return;
    for (size_t i = first; i < engine->other_count; i++) {
        const struct other *other = &engine->others[i];
        if (!other_is_silent(other, number, now))
            continue;
        removal->engines[removal->count].identity = other->row.identity;
        removal->engines[removal->count++].beat = other->row.beat;
    }
    engine->removal_busy = true;
    cr_engine_op_write(&removal->op, removal_run, removal_done);
}

static bool waiter_done(const struct cr_engine *engine, const struct waiter *waiter, cr_boot_ns now,
                        enum cr_status *out_status)
{
    *out_status = CR_OK;
    if (engine->exclusive)
        return now >= engine->predecessor_until;
    bool listed = engine->census_known >= waiter->census;
    if (listed && others_passed(engine, waiter->number))
        return true;
    *out_status = CR_PENDING;
    return (listed && waiter->async) || now >= cr_boot_add(waiter->began, wait_bound(engine));
}

static void waiters_check(struct cr_engine *engine)
{
    cr_boot_ns now = cr_engine_now(engine);
    struct waiter **link = &engine->waiters, *ready = NULL, **ready_end = &ready;
    while (*link != NULL) {
        struct waiter *waiter = *link;
        enum cr_status st;
        if (!waiter_done(engine, waiter, now, &st)) {
            link = &waiter->next;
            continue;
        }
        *link = waiter->next;
        waiter->next = NULL;
        waiter->number = (uint64_t)st; /* not needed any more: carries the answer */
        *ready_end = waiter;
        ready_end = &waiter->next;
    }
    if (engine->waiters != NULL && engine->census_timer.due == CR_BOOT_NEVER)
        cr_timer_set(engine->loop, &engine->census_timer,
                     engine->exclusive ? engine->predecessor_until
                                       : cr_boot_add(now, CENSUS_EVERY_MS));
    /* Answered last: what is told may come back with another ending. */
    while (ready != NULL) {
        struct waiter *waiter = ready;
        enum cr_status st = (enum cr_status)waiter->number;
        ready = waiter->next;
        waiter->ready(waiter, st, st == CR_PENDING ? wait_bound(engine) : 0);
    }
}

static void census_fired(struct cr_timer *timer)
{
    struct cr_engine *engine =
        (struct cr_engine *)(void *)((char *)timer - offsetof(struct cr_engine, census_timer));
    timer->due = CR_BOOT_NEVER;
    if (!engine->exclusive)
        census_ask(engine);
    waiters_check(engine);
}

void cr_engine_wait_begin(struct cr_engine *engine)
{
    engine->census_timer.fire = census_fired;
    engine->census_timer.due = CR_BOOT_NEVER;
}

void cr_engine_wait_for(struct cr_engine *engine, struct waiter *waiter, uint64_t number,
                        bool async)
{
    cr_boot_ns now = cr_engine_now(engine);
    waiter->number = number;
    waiter->next = NULL;
    waiter->census = engine->census_asked + 1;
    waiter->began = now;
    waiter->async = async;
    if (engine->exclusive && now >= engine->predecessor_until) {
        waiter->ready(waiter, CR_OK, 0);
        return;
    }
    if (engine->exclusive && async) {
        waiter->ready(waiter, CR_PENDING, wait_bound(engine));
        return;
    }
    struct waiter **link = &engine->waiters;
    while (*link != NULL)
        link = &(*link)->next;
    *link = waiter;
    if (!engine->exclusive)
        census_ask(engine);
    waiters_check(engine);
}

void cr_engine_wait_stop(struct cr_engine *engine)
{
    struct waiter *waiter;
    while ((waiter = engine->waiters) != NULL) {
        engine->waiters = waiter->next;
        waiter->ready(waiter, CR_PENDING, wait_bound(engine)); /* it is committed */
    }
    cr_timer_stop(engine->loop, &engine->census_timer);
}
