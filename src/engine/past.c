/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a user's sessions were that are not live any more. Those that many ended at once with, or
 * that time ended, are dead rows; of one that was ended by itself the row is gone, and the log has
 * what is told. So there are two reads, in this order: what is ended by itself between them is in
 * the second. What is ended otherwise is told the next time.
 */
#include "engine/engine.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "engine/internal.h"
#include "wire/message.h"

/* How many of the dead are looked at. They come as they began, and are told as they ended. */
#define LOOK 64

struct past {
    struct op op;
    struct cr_user user;
    bool own;
    cr_time_ms since; /* with `own`: what began before is another's of that name */
    size_t count;
    struct cr_past_session told[CR_PAST_MAX];
    struct cr_record records[LOOK];
};

static bool ended_later(const struct cr_past_session *a, const struct cr_past_session *b)
{
    if (a->ended.at != b->ended.at)
        return a->ended.at > b->ended.at;
    if (a->ended.created_at != b->ended.created_at)
        return a->ended.created_at > b->ended.created_at;
    return strcmp(a->id.text, b->id.text) > 0;
}

/* To its place, if it is one of those that ended last. */
static void tell(struct past *past, const struct cr_past_session *one)
{
    size_t place = past->count;
    while (place > 0 && ended_later(one, &past->told[place - 1]))
        place--;
    if (place == CR_PAST_MAX)
        return;
    if (past->count < CR_PAST_MAX)
        past->count++;
    memmove(&past->told[place + 1], &past->told[place],
            (past->count - 1 - place) * sizeof past->told[0]);
    past->told[place] = *one;
}

/* By the store's clock at the read. One of which nobody knows when it ended is not told. */
static bool is_recent(const struct cr_record *record, cr_time_ms ended_at)
{
    cr_time_ms now, before;
    return !__builtin_sub_overflow(record->ends_at, record->absolute_left, &now) &&
           !__builtin_sub_overflow(now, CR_REMEMBER_MS, &before) && ended_at > before;
}

static enum cr_status tell_record(struct past *past, struct cr_store *store,
                                  const struct cr_record *record)
{
    struct cr_past_session one = {.id = record->id, .ended.size = sizeof one.ended};
    memcpy(one.where.address, record->address, sizeof one.where.address);
    memcpy(one.where.agent, record->agent, sizeof one.where.agent);
    enum cr_status st = cr_engine_explain_record(store, record, &one.ended);
    if (st == CR_OK && is_recent(record, one.ended.at) && one.ended.created_at >= past->since)
        tell(past, &one);
    return st;
}

static void tell_row(struct past *past, const struct cr_log_row *row)
{
    struct cr_past_session one = {
        .id = row->session, .where = row->session_from, .ended.size = sizeof one.ended};
    cr_engine_explain_row(row, &one.ended);
    if (one.ended.created_at >= past->since)
        tell(past, &one);
}

/* Who has an account has had it since then. */
static enum cr_status since_find(struct past *past, struct cr_store *store)
{
    struct cr_account_row account;
    enum cr_status st = cr_store_account_find(store, &past->user, &account);
    if (st == CR_OK)
        past->since = account.created_at;
    cr_bytes_wipe(&account, sizeof account);
    return st == CR_UNKNOWN_USER ? CR_OK : st;
}

static enum cr_status past_run(struct cr_store *store, struct cr_store_call *call)
{
    struct past *past = (struct past *)op_of(call);
    struct cr_log_rows rows = {0};
    size_t count = 0;
    enum cr_status st = past->own ? since_find(past, store) : CR_OK;
    if (st == CR_OK)
        st = cr_store_list_dead(store, &past->user, past->records, LOOK, &count);
    for (size_t i = 0; st == CR_OK && i < count; i++)
        st = tell_record(past, store, &past->records[i]);
    if (st == CR_OK)
        st = cr_store_log_ended(store, &past->user, CR_PAST_MAX, &rows);
    for (size_t i = 0; st == CR_OK && i < rows.count; i++)
        tell_row(past, &rows.rows[i]);
    cr_log_rows_fini(&rows);
    return st;
}

static void past_done(struct cr_store_call *call)
{
    struct past *past = (struct past *)op_of(call);
    struct cr_engine_answer answer = {.status = call->status};
    if (call->status == CR_OK) {
        answer.past = past->told;
        answer.past_count = past->count;
    }
    cr_engine_op_answer(&past->op, &answer);
}

void cr_engine_past(struct cr_engine *engine, const struct cr_user *user, bool own,
                    cr_engine_done *done, void *context)
{
    struct past *past = cr_engine_op_begin(engine, sizeof *past, NULL, done, context);
    if (past == NULL)
        return;
    past->user = *user;
    past->own = own;
    cr_engine_op_read(&past->op, past_run, past_done);
}
