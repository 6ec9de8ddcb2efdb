/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looking: validations (rule 1, rule 7, rule 8) and reads of data, lists, explanations. Writes
 * nothing but the table.
 */
#include "engine/engine.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "engine/internal.h"
#include "store/record.h"

static cr_span_ms span_min(cr_span_ms a, cr_span_ms b)
{
    return a < b ? a : b;
}

/* A store from outside may say any time. */
static int64_t time_sum(int64_t a, int64_t b)
{
    int64_t sum;
    if (__builtin_add_overflow(a, b, &sum))
        return b > 0 ? INT64_MAX : INT64_MIN;
    return sum;
}

bool cr_engine_record_matches(const struct cr_record *record, const struct cr_token_hash *hash)
{
    bool now = cr_bytes_equal(record->hash.bytes, hash->bytes, sizeof hash->bytes);
    bool old = cr_bytes_equal(record->old_hash.bytes, hash->bytes, sizeof hash->bytes);
    return now || (old && record->old_left > 0);
}

/* The store's clock when the host's was at `at`, which lies before the session's absolute end: that
 * is the same instant on both. */
static cr_time_ms wall_of(const struct cr_entry *entry, cr_boot_ns at)
{
    uint64_t left_ms = entry->absolute_until / CR_NS_PER_MS - at / CR_NS_PER_MS;
    return time_sum(entry->ends_at, -(int64_t)left_ms);
}

/* A row as the table keeps it: deadlines count from before the read was asked for. A use that is
 * still on its way to the store is merged in. */
void cr_engine_entry_from_record(struct cr_engine *engine, const struct cr_record *record,
                                 cr_boot_ns before, struct cr_entry *out)
{
    memset(out, 0, offsetof(struct cr_entry, rights));
    out->id = record->id;
    memcpy(out->hash, record->hash.bytes, sizeof out->hash);
    if (record->old_left > 0) {
        memcpy(out->old_hash, record->old_hash.bytes, sizeof out->old_hash);
        out->old_until = cr_boot_add(before, record->old_left);
    }
    out->idle = record->idle;
    out->absolute_until = cr_boot_add(before, record->absolute_left);
    out->seen = cr_boot_add(before, time_sum(record->idle_left, -record->idle));
    out->created_at = record->created_at;
    out->authenticated_at = record->authenticated_at;
    out->ends_at = record->ends_at;
    out->seen_at = record->seen_at;
    cr_boot_ns pending = cr_engine_seen_pending(engine, &record->id);
    if (pending > out->seen && pending < out->absolute_until) {
        out->seen = pending;
        out->seen_at = wall_of(out, pending);
    }
    cr_boot_ns idle_until = cr_boot_add(out->seen, record->idle);
    out->deadline = idle_until < out->absolute_until ? idle_until : out->absolute_until;
    out->expires_at = span_min(record->ends_at, time_sum(out->seen_at, record->idle));
    out->version = record->version;
    out->user = record->user;
    out->rights_bytes = record->rights_bytes;
    memcpy(out->rights, record->rights, record->rights_bytes);
    out->data_bytes = record->data_bytes;
    if (record->data_bytes <= CR_DATA_CACHED_BYTES_MAX && record->data_bytes > 0)
        memcpy(out->data, record->data, record->data_bytes);
}

/* A hit, given back as a row. `record->data` points into the entry. */
static void record_from_entry(struct cr_entry *entry, struct cr_record *out)
{
    memset(out, 0, sizeof *out);
    out->id = entry->id;
    out->user = entry->user;
    out->created_at = entry->created_at;
    out->authenticated_at = entry->authenticated_at;
    out->ends_at = entry->ends_at;
    out->seen_at = entry->seen_at;
    out->idle = entry->idle;
    out->version = entry->version;
    out->rights_bytes = entry->rights_bytes;
    memcpy(out->rights, entry->rights, entry->rights_bytes);
    out->data_bytes = entry->data_bytes;
    out->data = entry->data_bytes <= CR_DATA_CACHED_BYTES_MAX ? entry->data : NULL;
}

/* A use is reported once a granule. */
static void note_use(struct cr_engine *engine, const struct cr_entry *entry, cr_boot_ns now)
{
    if (cr_boot_between(entry->seen, now) >= CR_GRANULE_MS(entry->idle))
        cr_engine_seen(engine, &entry->id, now);
}

struct fill {
    struct op op;
    struct cr_token_hash hash;
    struct cr_session_id id;
    struct cr_record record;
    uint64_t stamp;    /* rule 1: the clock before the request was written */
    cr_boot_ns before; /* likewise the time */
    struct cr_engine_row
        row; /* strict, where the store has other engines: the read is a poll too */
    struct cr_poll poll;
    enum cr_status poll_status;
};

static void fill_release(struct op *op)
{
    struct fill *fill = (struct fill *)op;
    cr_record_fini(&fill->record);
    free(fill);
}

/* Over, or rotated away. Another engine may have done it, and its row be on the way: a read that is
 * older than this one must not make this host say yes again until it comes. */
static void fill_over(struct fill *fill, const struct cr_record *record)
{
    struct cr_log_row row = {.kind = CR_LOG_SESSION_ENDED, .session = fill->id};
    cr_engine_apply(fill->op.engine, &row);
    cr_engine_op_answer(
        &fill->op,
        &(struct cr_engine_answer){.status = CR_ENDED, .record = record, .as_of = fill->before});
}

static void fill_answer(struct fill *fill)
{
    struct cr_engine *engine = fill->op.engine;
    struct cr_engine_answer answer = {.as_of = fill->before, .record = &fill->record};
    struct cr_entry entry;

    if (!cr_engine_record_matches(&fill->record, &fill->hash)) {
        fill_over(fill, NULL);
        return;
    }
    if (fill->record.dead != CR_REASON_NONE) {
        fill_over(fill, &fill->record);
        return;
    }
    cr_boot_ns now = cr_engine_now(engine);
    cr_engine_entry_from_record(engine, &fill->record, fill->before, &entry);
    /* Within the store's slack a session may be past its idle end: it was used, and the report is
     * still on its way. This use counts as one. */
    bool before_boot = entry.seen == 0; /* how long ago, this host's clock cannot say */
    if (entry.deadline <= now || before_boot ||
        cr_boot_between(entry.seen, now) >= CR_GRANULE_MS(fill->record.idle)) {
        cr_engine_seen(engine, &fill->record.id, now);
        cr_engine_entry_from_record(engine, &fill->record, fill->before, &entry);
    }
    engine->fills++;
    if (engine->table != NULL && !cr_table_insert(engine->table, &entry, fill->stamp, now))
        engine->fills_refused++;
    answer.expires_in = cr_boot_between(now, entry.deadline);
    answer.version = fill->record.version;
    cr_engine_op_answer(&fill->op, &answer);
}

static void fill_done(struct cr_store_call *call)
{
    struct fill *fill = (struct fill *)op_of(call);
    if (!cr_engine_may_answer(fill->op.engine)) {
        /* Rule 7, at the time of the answer; and what a deposed store calls over may not be. */
        cr_engine_op_status(&fill->op, CR_UNAVAILABLE);
    } else if (call->status == CR_OK) {
        fill_answer(fill);
    } else if (call->status == CR_NOT_FOUND) {
        fill_over(fill, NULL); /* the token is genuine, so there was a session */
    } else {
        if (call->status == CR_E_CORRUPT)
            cr_engine_say(fill->op.engine, "the store gave a damaged row for %s", fill->id.text);
        cr_engine_op_status(&fill->op, CR_UNAVAILABLE);
    }
}

static enum cr_status fill_run(struct cr_store *store, struct cr_store_call *call)
{
    struct fill *fill = (struct fill *)op_of(call);
    return cr_store_find(store, &fill->id, &fill->record);
}

/* Rule 7, at the time of the question, too. Past the lease an ending may be done that a deposed
 * store knows nothing of, and its reply may come when we have registered anew and have a lease.
 * What is asked within the lease began before any ending that we have not applied was done,
 * whatever becomes of our registration until the reply; into the table rule 1 lets only what is
 * still true. */
static void fill_ask(struct fill *fill, store_done *done)
{
    if (cr_engine_may_answer(fill->op.engine))
        cr_engine_op_read(&fill->op, fill_run, done);
    else
        cr_engine_op_status(&fill->op, CR_UNAVAILABLE);
}

void cr_engine_validate(struct cr_engine *engine, const struct cr_token *token, bool strict,
                        cr_engine_done *done, void *context)
{
    struct cr_token_hash hash;
    struct cr_session_id id;
    struct cr_entry entry;
    cr_token_id(token, &id);
    cr_token_hash(token, &hash);

    if (!strict && cr_engine_cached(engine, &id, &hash, &entry)) {
        struct cr_record record;
        cr_boot_ns now = cr_engine_now(engine);
        record_from_entry(&entry, &record);
        engine->hits++;
        note_use(engine, &entry, now);
        done(context, &(struct cr_engine_answer){.status = CR_OK,
                                                 .record = &record,
                                                 .as_of = now,
                                                 .expires_in = cr_boot_between(now, entry.deadline),
                                                 .version = entry.version});
        return;
    }
    /* The MAC before it costs a store read: made-up tokens cost nothing. */
    enum cr_status not_genuine;
    if (!cr_engine_token_is_genuine(engine, token, &not_genuine)) {
        done(context,
             &(struct cr_engine_answer){.status = not_genuine,
                                        .made_up = not_genuine == CR_NOT_FOUND ? token : NULL});
        return;
    }
    struct fill *fill = cr_engine_op_begin(engine, sizeof *fill, fill_release, done, context);
    if (fill == NULL)
        return;
    fill->id = id;
    fill->hash = hash;
    fill->stamp = cr_engine_clock(engine);
    fill->before = cr_engine_now(engine);
    if (!strict || engine->exclusive) {
        fill_ask(fill, fill_done);
        return;
    }
    /* Strict, beside other engines: in one transaction with a poll, so that a deposed primary,
     * which cannot commit, cannot answer either: asked past the lease it brings the next one. */
    fill->op.call.run = fill_run;
    fill->op.call.done = fill_done;
    cr_engine_follow_ride(engine, &fill->op.call);
}

/* Data, whole, from the store: it may be more than the table serves. */
static void data_read_done(struct cr_store_call *call)
{
    struct fill *fill = (struct fill *)op_of(call);
    struct cr_engine_answer answer = {.status = call->status, .as_of = fill->before};
    if (!cr_engine_may_answer(fill->op.engine)) {
        answer.status = CR_UNAVAILABLE;
    } else if (call->status == CR_OK) {
        answer.status = fill->record.dead != CR_REASON_NONE ? CR_ENDED : CR_OK;
        answer.record = &fill->record;
        answer.version = fill->record.version;
    }
    cr_engine_op_answer(&fill->op, &answer);
}

void cr_engine_data_read(struct cr_engine *engine, const struct cr_session_id *id,
                         cr_engine_done *done, void *context)
{
    struct fill *fill = cr_engine_op_begin(engine, sizeof *fill, fill_release, done, context);
    if (fill == NULL)
        return;
    fill->id = *id;
    fill->before = cr_engine_now(engine);
    fill_ask(fill, data_read_done);
}

struct list {
    struct op op;
    struct cr_user user;
    cr_time_ms created_at;
    struct cr_session_id after;
    size_t capacity, count;
    struct cr_record *records;
    cr_boot_ns before;
};

static void list_release(struct op *op)
{
    struct list *list = (struct list *)op;
    for (size_t i = 0; list->records != NULL && i < list->capacity; i++)
        cr_record_fini(&list->records[i]);
    free(list->records);
    free(list);
}

static enum cr_status list_run(struct cr_store *store, struct cr_store_call *call)
{
    struct list *list = (struct list *)op_of(call);
    return cr_store_list(store, &list->user, list->created_at, &list->after, list->records,
                         list->capacity, &list->count);
}

static void list_done(struct cr_store_call *call)
{
    struct list *list = (struct list *)op_of(call);
    struct cr_engine_answer answer = {.status = call->status, .as_of = list->before};
    if (call->status == CR_OK) {
        answer.records = list->records;
        answer.record_count = list->count;
    }
    cr_engine_op_answer(&list->op, &answer);
}

void cr_engine_list(struct cr_engine *engine, const struct cr_user *user, cr_time_ms created_at,
                    const struct cr_session_id *after, size_t capacity, cr_engine_done *done,
                    void *context)
{
    CR_ASSERT(capacity >= 1 && capacity <= 64);
    struct list *list = cr_engine_op_begin(engine, sizeof *list, list_release, done, context);
    if (list == NULL)
        return;
    list->records = calloc(capacity, sizeof *list->records);
    if (list->records == NULL) {
        cr_engine_op_status(&list->op, CR_E_NO_MEMORY);
        return;
    }
    list->user = *user;
    list->created_at = created_at;
    list->after = *after;
    list->capacity = capacity;
    list->before = cr_engine_now(engine);
    cr_engine_op_read(&list->op, list_run, list_done);
}

struct explain {
    struct op op;
    struct cr_session_id id;
    bool is_of_token; /* about what became of the token, whose hash is here */
    struct cr_token_hash hash;
    struct cr_explanation out;
};

void cr_engine_explain_row(const struct cr_log_row *row, struct cr_explanation *out)
{
    out->reason = row->reason;
    out->at = row->at;
    memcpy(out->by, row->by, sizeof out->by);
    out->from = row->from;
    if (out->user.length == 0)
        out->user = row->user;
    if (row->kind == CR_LOG_SESSION_ENDED) {
        out->created_at = row->created_at;
        out->seen_at = row->seen_at;
    }
}

/* When time ended it, where nothing did before. */
static void explain_time(struct cr_explanation *out, const struct cr_record *record)
{
    cr_time_ms idle_end = time_sum(record->seen_at, record->idle);
    bool is_idle = idle_end < record->ends_at;
    out->reason = is_idle ? CR_REASON_IDLE : CR_REASON_ABSOLUTE;
    out->at = is_idle ? idle_end : record->ends_at;
}

/* A dead row says what the store looks at first. Which came first is told by the log: what had run
 * out by the time that somebody ended the rest was not ended by them. */
static enum cr_status explain_dead(struct cr_store *store, const struct cr_record *record,
                                   struct cr_explanation *out)
{
    struct cr_log_row row;
    bool by_time = record->dead == CR_REASON_IDLE || record->dead == CR_REASON_ABSOLUTE;
    out->reason = record->dead;
    enum cr_status st = by_time ? CR_OK : cr_store_log_about(store, &record->id, record, &row);
    if (st != CR_OK)
        return st == CR_NOT_FOUND ? CR_OK : st;
    if (by_time || row.at >= cr_record_deadline(record))
        explain_time(out, record);
    else
        cr_engine_explain_row(&row, out);
    return CR_OK;
}

enum cr_status cr_engine_explain_record(struct cr_store *store, const struct cr_record *record,
                                        struct cr_explanation *out)
{
    out->user = record->user;
    out->created_at = record->created_at;
    out->seen_at = record->seen_at;
    out->ends_at = record->ends_at;
    out->live = record->dead == CR_REASON_NONE;
    return out->live ? CR_OK : explain_dead(store, record, out);
}

static enum cr_status explain_rotations(struct explain *explain, struct cr_store *store)
{
    struct cr_explanation *out = &explain->out;
    struct cr_log_rows rows = {0};
    enum cr_status st = cr_store_log_rotations(store, &explain->id, CR_ROTATIONS_TOLD_MAX, &rows);
    for (size_t i = 0; st == CR_OK && i < rows.count; i++)
        out->rotated_at[out->rotation_count++] = rows.rows[i].at;
    cr_log_rows_fini(&rows);
    return st;
}

/* Its holder once held the session, and does not any more: it is not told what others did since. Of
 * several rotations, only the last can be told to be its own. */
static void explain_rotated(struct explain *explain, const struct cr_record *record)
{
    struct cr_explanation *out = &explain->out;
    bool was_last =
        cr_bytes_equal(record->old_hash.bytes, explain->hash.bytes, sizeof explain->hash.bytes);
    cr_time_ms at = was_last || out->rotation_count == 1 ? out->rotated_at[0] : 0;
    *out = (struct cr_explanation){
        .size = sizeof *out, .reason = CR_REASON_ROTATED, .at = at, .user = record->user};
}

static enum cr_status explain_run(struct cr_store *store, struct cr_store_call *call)
{
    struct explain *explain = (struct explain *)op_of(call);
    struct cr_record record = {0};
    struct cr_log_row row;
    enum cr_status st = cr_store_find(store, &explain->id, &record);
    bool is_there = st == CR_OK;
    if (is_there) {
        st = cr_engine_explain_record(store, &record, &explain->out);
    } else if (st == CR_NOT_FOUND) {
        st = cr_store_log_about(store, &explain->id, NULL, &row);
        if (st == CR_OK)
            cr_engine_explain_row(&row, &explain->out);
    }
    if (st == CR_OK)
        st = explain_rotations(explain, store);
    if (st == CR_OK && is_there && explain->is_of_token &&
        !cr_engine_record_matches(&record, &explain->hash))
        explain_rotated(explain, &record);
    cr_record_fini(&record);
    return st;
}

static void explain_done(struct cr_store_call *call)
{
    struct explain *explain = (struct explain *)op_of(call);
    cr_engine_op_answer(
        &explain->op,
        &(struct cr_engine_answer){.status = call->status,
                                   .explanation = call->status == CR_OK ? &explain->out : NULL});
}

/* `hash` NULL: about the session, for who may know all of it. */
static void explain_begin(struct cr_engine *engine, const struct cr_session_id *id,
                          const struct cr_token_hash *hash, cr_engine_done *done, void *context)
{
    struct explain *explain = cr_engine_op_begin(engine, sizeof *explain, NULL, done, context);
    if (explain == NULL)
        return;
    explain->id = *id;
    explain->is_of_token = hash != NULL;
    if (hash != NULL)
        explain->hash = *hash;
    explain->out.size = sizeof explain->out;
    cr_engine_op_read(&explain->op, explain_run, explain_done);
}

void cr_engine_explain(struct cr_engine *engine, const struct cr_session_id *id,
                       cr_engine_done *done, void *context)
{
    explain_begin(engine, id, NULL, done, context);
}

void cr_engine_explain_token(struct cr_engine *engine, const struct cr_token *token,
                             cr_engine_done *done, void *context)
{
    struct cr_session_id id;
    struct cr_token_hash hash;
    enum cr_status not_genuine;
    if (!cr_engine_token_is_genuine(engine, token, &not_genuine)) {
        done(context, &(struct cr_engine_answer){.status = not_genuine});
        return;
    }
    cr_token_id(token, &id);
    cr_token_hash(token, &hash);
    explain_begin(engine, &id, &hash, done, context);
}
