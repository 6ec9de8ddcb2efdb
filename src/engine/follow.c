/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Following the log (rule 5) and the lease that comes of it (rule 7), where the store has more than
 * one engine. Each poll is a compare-and-set on our registration, says how far we have applied, and
 * brings the rows from there, the one at our position included.
 *
 * The order of the steps *is* the algorithm: stamps, position, lease, and then the acknowledgement,
 * by another poll at once.
 *
 * On an exclusive store the lock is the lease: nothing is polled and nothing written when idle. The
 * registration stands there all the same, so that a successor knows that there may be a table.
 */
#include "engine/internal.h"

#include <stdlib.h>
#include <string.h>

struct poll {
    struct op op;
    struct cr_engine_row row;
    struct cr_poll out;
    cr_boot_ns sent;
    struct cr_store_call *riders; /* strict reads, in the poll's transaction */
};

static struct cr_store_call *rider_next(const struct cr_store_call *rider)
{
    struct cr_work *next = rider->work.next;
    return next == NULL ? NULL
                        : (struct cr_store_call *)(void *)((char *)next -
                                                           offsetof(struct cr_store_call, work));
}

/* A rider is answered after the poll it was read with has been followed. */
static void riders_answer(struct cr_store_call *riders, enum cr_status poll_status)
{
    while (riders != NULL) {
        struct cr_store_call *rider = riders;
        riders = rider_next(rider);
        if (poll_status != CR_OK)
            rider->status = CR_UNAVAILABLE;
        rider->done(rider);
    }
}

static void poll_release(struct op *op)
{
    struct poll *poll = (struct poll *)op;
    if (poll->op.engine->poll == poll)
        poll->op.engine->poll = NULL;
    /* Not sent, or not answered. At the engine's end each is answered as the call it is part of. */
    if (!poll->op.engine->closing)
        riders_answer(poll->riders, CR_UNAVAILABLE);
    cr_log_rows_fini(&poll->out.rows);
    free(poll);
}

/* Register at the newest row, before the first fill (rule 6). Within a batch. */
static enum cr_status register_in_batch(struct cr_store *store, struct cr_engine_row *row,
                                        struct cr_log_row *last)
{
    enum cr_status st = cr_store_log_last(store, last);
    if (st != CR_OK)
        return st;
    row->beat = 1;
    row->position = last->number;
    return cr_store_engine_register(store, row);
}

static enum cr_status row_init(struct cr_engine *engine, struct cr_engine_row *row)
{
    memset(row, 0, sizeof *row);
    row->lease = engine->exclusive ? FRESH_AHEAD_MS : engine->options.lease;
    row->grace = engine->options.grace;
    memcpy(row->label, engine->label, sizeof row->label);
    return cr_random_fill(engine->random, &row->identity, sizeof row->identity);
}

/* Live may be answered until `sent` plus the lease; never backwards but by losing it. */
static void lease_extend(struct cr_engine *engine, cr_boot_ns sent)
{
    cr_boot_ns until = cr_boot_add(sent, engine->options.lease + engine->options.grace);
    if (until <= atomic_load_explicit(&engine->answer_until, memory_order_relaxed))
        return;
    /* lease_extend:A. The stamps of this poll stand before it (rule 5). Pairs with engine_cached:A
     * and may_answer:A. */
    atomic_store_explicit(&engine->answer_until, until, memory_order_release);
}

/* We have been replaced, or the log is not the one we followed: nothing of ours may be believed. */
static void registration_lost(struct cr_engine *engine, const char *why)
{
    cr_engine_say(engine, "the table was dropped: %s", why);
    if (engine->options.lease_lost != NULL)
        engine->options.lease_lost(engine->options.context, why);
    /* lease_lost:A. Pairs with engine_cached:A and may_answer:A. */
    atomic_store_explicit(&engine->answer_until, 0, memory_order_release);
    engine->registered = false;
    cr_engine_drop_table(engine);
}

static bool rows_continue_ours(const struct cr_engine *engine, const struct cr_log_rows *rows)
{
    return rows->count > 0 && rows->rows[0].number == engine->last.number &&
           memcmp(&rows->rows[0].identity, &engine->last.identity, sizeof engine->last.identity) ==
               0;
}

/* True: poll again at once. */
static bool poll_apply(struct cr_engine *engine, const struct cr_engine_row *row,
                       const struct cr_poll *poll, cr_boot_ns sent)
{
    engine->row.beat = row->beat;
    if (!rows_continue_ours(engine, &poll->rows)) {
        registration_lost(engine, "the store's log is not the one that was followed "
                                  "(restored, failed over, or we were away too long)");
        return true;
    }
    for (size_t i = 1; i < poll->rows.count; i++)
        cr_engine_apply(engine, &poll->rows.rows[i]);
    engine->last = poll->rows.rows[poll->rows.count - 1];
    engine->row.position = engine->last.number;
    if (poll->at_end)
        lease_extend(engine, sent);
    return poll->rows.count > 1 || !poll->at_end;
}

/* True: poll again at once. */
static bool polled(struct cr_engine *engine, enum cr_status status, const struct poll *poll)
{
    if (status == CR_OK)
        return poll_apply(engine, &poll->row, &poll->out, poll->sent);
    if (status == CR_CONFLICT || status == CR_NOT_FOUND) {
        registration_lost(engine, "another engine took this one's registration out");
        return true;
    }
    /* The store is away, or nobody knows: the lease runs out by itself. */
    return false;
}

static void poll_send(struct cr_engine *engine);

static void poll_next(struct cr_engine *engine, bool at_once)
{
    cr_boot_ns now = cr_engine_now(engine);
    cr_timer_set(engine->loop, &engine->poll_timer,
                 at_once ? now : cr_boot_add(now, engine->options.poll));
}

static enum cr_status poll_run(struct cr_store *store, struct cr_store_call *call)
{
    struct poll *poll = (struct poll *)op_of(call);
    enum cr_status st = cr_store_engine_poll(store, &poll->row, POLL_ROWS, &poll->out);
    for (struct cr_store_call *rider = poll->riders; rider != NULL && st == CR_OK;
         rider = rider_next(rider))
        rider->status = rider->run(store, rider);
    return st;
}

static void poll_done(struct cr_store_call *call)
{
    struct poll *poll = (struct poll *)op_of(call);
    struct cr_engine *engine = poll->op.engine;
    struct cr_store_call *riders = poll->riders;
    enum cr_status st = call->status;
    bool at_once = polled(engine, st, poll);
    poll->riders = NULL;
    cr_engine_op_status(&poll->op, st);
    poll_next(engine, at_once || engine->riders != NULL);
    riders_answer(riders, st);
}

static enum cr_status register_run(struct cr_store *store, struct cr_store_call *call)
{
    struct poll *poll = (struct poll *)op_of(call);
    struct cr_log_row last;
    enum cr_status st = register_in_batch(store, &poll->row, &last);
    if (st == CR_OK)
        st = cr_log_rows_add(&poll->out.rows, &last);
    return st;
}

static void register_done(struct cr_store_call *call)
{
    struct poll *poll = (struct poll *)op_of(call);
    struct cr_engine *engine = poll->op.engine;
    if (call->status == CR_OK) {
        /* Whatever was filled since the loss may have missed an ending. */
        cr_engine_drop_table(engine);
        engine->row = poll->row;
        engine->last = poll->out.rows.rows[0];
        engine->registered = true;
        cr_engine_keys_changed(engine); /* or of a key that was added */
    }
    bool ok = call->status == CR_OK;
    struct cr_store_call *riders = ok ? NULL : engine->riders;
    if (!ok)
        engine->riders = NULL;
    cr_engine_op_status(&poll->op, call->status);
    poll_next(engine, ok);
    riders_answer(riders, CR_UNAVAILABLE);
}

static void poll_send(struct cr_engine *engine)
{
    struct poll *poll =
        cr_engine_op_begin(engine, sizeof *poll, poll_release, cr_engine_op_unasked, NULL);
    poll_next(engine, false); /* also when this one is never answered */
    if (poll == NULL)
        return;
    engine->poll = poll;
    poll->sent = cr_engine_now(engine);
    if (engine->registered) {
        poll->row = engine->row;
        poll->riders = engine->riders;
        engine->riders = NULL;
        cr_engine_op_write(&poll->op, poll_run, poll_done);
    } else if (row_init(engine, &poll->row) == CR_OK) {
        cr_engine_op_write(&poll->op, register_run, register_done);
    } else {
        cr_engine_op_status(&poll->op, CR_UNAVAILABLE);
    }
}

static void poll_fired(struct cr_timer *timer)
{
    struct cr_engine *engine =
        (struct cr_engine *)(void *)((char *)timer - offsetof(struct cr_engine, poll_timer));
    if (engine->poll == NULL)
        poll_send(engine);
    else
        poll_next(engine, false);
}

/* One poll is under way at a time, since each compares with the beat of the one before. */
void cr_engine_follow_ride(struct cr_engine *engine, struct cr_store_call *rider)
{
    rider->work.next = engine->riders != NULL ? &engine->riders->work : NULL;
    engine->riders = rider;
    if (engine->poll == NULL)
        poll_next(engine, true);
}

enum cr_status cr_engine_follow_start(struct cr_engine *engine, struct cr_store *store)
{
    struct cr_poll poll = {0};
    enum cr_status st = row_init(engine, &engine->row);
    if (st != CR_OK)
        return st;
    st = cr_store_begin(store);
    if (st != CR_OK)
        return st;
    st = cr_engine_wait_start(engine, store);
    if (st == CR_OK)
        st = register_in_batch(store, &engine->row, &engine->last);
    if (st == CR_OK)
        st = cr_store_commit(store);
    else
        cr_store_rollback(store);
    if (st != CR_OK || engine->exclusive)
        goto out;

    atomic_store_explicit(&engine->answer_until, 0, memory_order_relaxed);
    cr_boot_ns sent = cr_engine_now(engine);
    st = cr_store_begin(store);
    if (st != CR_OK)
        goto out;
    st = cr_store_engine_poll(store, &engine->row, POLL_ROWS, &poll);
    if (st == CR_OK)
        st = cr_store_commit(store);
    else
        cr_store_rollback(store);
    if (st != CR_OK)
        goto out;
    engine->registered = true;
    (void)poll_apply(engine, &engine->row, &poll, sent);
out:
    engine->registered = st == CR_OK;
    cr_log_rows_fini(&poll.rows);
    return st;
}

void cr_engine_follow_begin(struct cr_engine *engine)
{
    engine->poll_timer.fire = poll_fired;
    if (engine->exclusive)
        return;
    poll_next(engine, true);
    /* One may have been added after they were read and before we were registered. */
    cr_engine_keys_changed(engine);
}

void cr_engine_follow_stop(struct cr_engine *engine)
{
    cr_timer_stop(engine->loop, &engine->poll_timer);
}
