/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Endings (rules 2, 3, 6 and 9): commit, raise the stamps, wait for the others, answer. All kinds
 * go one way and differ in the store's call only.
 *
 * An ending whose commit's outcome was lost is asked for again under its own identity, which the
 * store answers without doing it twice, until it is known or RETRY_FOR_MS have passed.
 */
#include "engine/engine.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "engine/internal.h"

struct end {
    struct op op;
    struct waiter waiter;
    struct cr_timer retry;
    cr_boot_ns retry_until;
    cr_span_ms retry_after;
    enum { END_SESSION, END_USER, END_OTHERS, END_ALL, END_ACCOUNT } kind;
    struct cr_session_id id;
    struct cr_user user;
    struct cr_ending ending;
    bool async;
    struct cr_account_change change; /* END_ACCOUNT; its strings are the two below */
    char hash[CR_PASSWORD_HASH_CHARS_MAX + 1], expect_hash[CR_PASSWORD_HASH_CHARS_MAX + 1];
    bool same; /* END_ACCOUNT: the account has this very hash; written by the store's thread */
    struct cr_log_row row;
};

static void end_release(struct op *op)
{
    struct end *end = (struct end *)op;
    cr_timer_stop(op->engine->loop, &end->retry);
    cr_bytes_wipe(end, sizeof *end);
    free(end);
}

static void end_answer(struct end *end, enum cr_status status, cr_span_ms bound)
{
    cr_engine_op_answer(&end->op, &(struct cr_engine_answer){.status = status,
                                                             .ending = end->ending.identity,
                                                             .bound = bound,
                                                             .same = end->same,
                                                             .row = &end->row});
}

/* The engine stops. What may have happened is not said to have failed. */
static void end_stop(struct op *op)
{
    struct end *end = (struct end *)op;
    end_answer(end, end->retry_until != 0 ? CR_E_UNKNOWN_OUTCOME : CR_UNAVAILABLE, 0);
}

static void end_ready(struct waiter *waiter, enum cr_status status, cr_span_ms bound)
{
    struct end *end = (struct end *)(void *)((char *)waiter - offsetof(struct end, waiter));
    end_answer(end, status, bound);
}

/* A change of an account that ends nothing leaves no row in the log by which a repetition is known.
 * It is known by the hash, which has a salt of its own. */
static enum cr_status account_run(struct end *end, struct cr_store *store)
{
    struct cr_account_row row;
    enum cr_status st = cr_store_account_change(store, &end->user, &end->change, &end->row);
    end->same = false;
    if (st != CR_CONFLICT || end->change.hash == NULL)
        return st;
    end->same =
        cr_store_account_find(store, &end->user, &row) == CR_OK && strcmp(row.hash, end->hash) == 0;
    cr_bytes_wipe(&row, sizeof row);
    return end->same && end->retry_until != 0 ? CR_OK : st;
}

static enum cr_status end_run(struct cr_store *store, struct cr_store_call *call)
{
    struct end *end = (struct end *)op_of(call);
    switch (end->kind) {
    case END_SESSION:
        return cr_store_end(store, &end->id, &end->ending, &end->row);
    case END_USER:
        return cr_store_end_user(store, &end->user, &end->ending, &end->row);
    case END_OTHERS:
        return cr_store_end_others(store, &end->id, &end->ending, &end->row);
    case END_ALL:
        return cr_store_end_all(store, &end->ending, &end->row);
    case END_ACCOUNT:
        return account_run(end, store);
    }
    return CR_E_INVALID;
}

/* What the row will be if the commit was made: enough to raise the stamps. */
static void end_presume(struct end *end)
{
    struct cr_engine *engine = end->op.engine;
    struct cr_log_row row = {.session = end->id, .user = end->user};
    switch (end->kind) {
    case END_SESSION:
        row.kind = CR_LOG_SESSION_ENDED;
        break;
    case END_USER:
    case END_ACCOUNT:
        row.kind = CR_LOG_USER_ENDED;
        break;
    case END_OTHERS: /* its user is known only to the store */
    case END_ALL:
        row.kind = CR_LOG_ALL_ENDED;
        break;
    }
    cr_engine_apply(engine, &row);
}

static void end_unknown(struct end *end)
{
    struct cr_engine *engine = end->op.engine;
    cr_boot_ns now = cr_engine_now(engine);
    /* It may have happened: nobody is believed on the strength of it not having. */
    end_presume(end);
    if (end->retry_until == 0) {
        end->retry_until = cr_boot_add(now, RETRY_FOR_MS);
        end->retry_after = 20;
        cr_engine_say(engine, "the outcome of an ending was lost; asking for it again");
    }
    if (now >= end->retry_until) {
        end_answer(end, CR_E_UNKNOWN_OUTCOME, 0);
        return;
    }
    end->retry_after *= 2;
    cr_timer_set(engine->loop, &end->retry, cr_boot_add(now, end->retry_after));
}

static void end_retry_fired(struct cr_timer *timer)
{
    struct end *end = (struct end *)(void *)((char *)timer - offsetof(struct end, retry));
    if (!cr_store_queue_write(end->op.engine->queue, &end->op.call))
        end_unknown(end); /* the queue is full */
}

/* Once its outcome was lost, only what the store itself knows of the ending ends the asking. */
static bool store_has_said(enum cr_status status)
{
    return status == CR_OK || status == CR_NOT_FOUND || status == CR_ENDED ||
           status == CR_UNKNOWN_USER || status == CR_CONFLICT;
}

/* Whether the row is of this ending, and not of another whose identity the caller gave. An account
 * that was changed without ending anything has no row. */
static bool row_is_of(const struct cr_log_row *row, const struct end *end)
{
    switch (end->kind) {
    case END_SESSION:
        return row->kind == CR_LOG_SESSION_ENDED && cr_session_id_equal(&row->session, &end->id);
    case END_USER:
        return row->kind == CR_LOG_USER_ENDED && cr_user_equal(&row->user, &end->user);
    case END_OTHERS:
        return row->kind == CR_LOG_USER_ENDED && cr_session_id_equal(&row->session, &end->id);
    case END_ALL:
        return row->kind == CR_LOG_ALL_ENDED;
    case END_ACCOUNT:
        return row->number == 0 ||
               (row->kind == CR_LOG_USER_ENDED && cr_user_equal(&row->user, &end->user));
    }
    return false;
}

static void end_done(struct cr_store_call *call)
{
    struct end *end = (struct end *)op_of(call);
    struct cr_engine *engine = end->op.engine;
    bool nothing_ended = end->kind == END_ACCOUNT && end->change.keep_sessions;
    enum cr_status st = call->status;

    if (st == CR_E_UNKNOWN_OUTCOME || (end->retry_until != 0 && !store_has_said(st))) {
        end_unknown(end);
        return;
    }
    /* Another engine ended it, and its row is on the way here. */
    if (st == CR_NOT_FOUND && end->kind == END_SESSION)
        end_presume(end);
    if (st == CR_OK && !nothing_ended && !row_is_of(&end->row, end))
        st = CR_E_INVALID;
    if (st != CR_OK || nothing_ended) {
        end_answer(end, st, 0);
        return;
    }
    engine->endings++;
    cr_engine_apply(engine, &end->row);
    end->waiter.ready = end_ready;
    cr_engine_wait_for(engine, &end->waiter, end->row.number, end->async);
}

static struct end *end_begin(struct cr_engine *engine, const struct cr_end_request *request,
                             cr_engine_done *done, void *context)
{
    struct end *end = cr_engine_op_begin(engine, sizeof *end, end_release, done, context);
    if (end == NULL)
        return NULL;
    end->op.stop = end_stop;
    end->retry.fire = end_retry_fired;
    end->ending.identity = request->identity;
    end->ending.reason = request->reason;
    end->async = request->async;
    if (request->by != NULL)
        cr_label_copy(end->ending.by, sizeof end->ending.by, request->by, strlen(request->by));
    if (cr_bytes_are_zero(&end->ending.identity, sizeof end->ending.identity) &&
        cr_random_fill(engine->random, &end->ending.identity, sizeof end->ending.identity) !=
            CR_OK) {
        cr_engine_op_status(&end->op, CR_UNAVAILABLE);
        return NULL;
    }
    return end;
}

/* Without a store of ours the application has committed already: stamps, and wait. */
static void end_submit(struct end *end)
{
    struct cr_engine *engine = end->op.engine;
    if (engine->queue == NULL) {
        engine->endings++;
        end_presume(end);
        end->waiter.ready = end_ready;
        cr_engine_wait_for(engine, &end->waiter, 0, false);
        return;
    }
    cr_engine_op_write(&end->op, end_run, end_done);
}

void cr_engine_end(struct cr_engine *engine, const struct cr_session_id *id,
                   const struct cr_end_request *request, cr_engine_done *done, void *context)
{
    struct end *end = end_begin(engine, request, done, context);
    if (end == NULL)
        return;
    end->kind = END_SESSION;
    end->id = *id;
    end_submit(end);
}

void cr_engine_end_user(struct cr_engine *engine, const struct cr_user *user,
                        const struct cr_end_request *request, cr_engine_done *done, void *context)
{
    struct end *end = end_begin(engine, request, done, context);
    if (end == NULL)
        return;
    end->kind = END_USER;
    end->user = *user;
    end_submit(end);
}

void cr_engine_end_others(struct cr_engine *engine, const struct cr_session_id *keep,
                          const struct cr_end_request *request, cr_engine_done *done, void *context)
{
    struct end *end = end_begin(engine, request, done, context);
    if (end == NULL)
        return;
    end->kind = END_OTHERS;
    end->id = *keep;
    end_submit(end);
}

void cr_engine_end_all(struct cr_engine *engine, const struct cr_end_request *request,
                       cr_engine_done *done, void *context)
{
    struct end *end = end_begin(engine, request, done, context);
    if (end == NULL)
        return;
    end->kind = END_ALL;
    end_submit(end);
}

void cr_engine_account_change(struct cr_engine *engine, const struct cr_user *user,
                              const struct cr_account_change *change, cr_engine_done *done,
                              void *context)
{
    struct cr_end_request request = {.identity = change->ending.identity,
                                     .reason = change->ending.reason,
                                     .by = change->ending.by};
    struct end *end = end_begin(engine, &request, done, context);
    if (end == NULL)
        return;
    if (engine->queue == NULL) { /* an application's own table has no accounts */
        cr_engine_op_status(&end->op, CR_E_INVALID);
        return;
    }
    end->kind = END_ACCOUNT;
    end->user = *user;
    end->change = *change;
    end->change.ending = end->ending;
    if (change->hash != NULL) {
        CR_ASSERT(strlen(change->hash) < sizeof end->hash);
        memcpy(end->hash, change->hash, strlen(change->hash) + 1);
        end->change.hash = end->hash;
    }
    if (change->expect_hash != NULL) {
        CR_ASSERT(strlen(change->expect_hash) < sizeof end->expect_hash);
        memcpy(end->expect_hash, change->expect_hash, strlen(change->expect_hash) + 1);
        end->change.expect_hash = end->expect_hash;
    }
    end_submit(end);
}
