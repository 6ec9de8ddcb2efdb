/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making and changing sessions: logins with their policy, data, rights, rotation.
 *
 * A change commits with its log row; then its entry is dropped and its bucket's floor raised (rule
 * 3). Where it narrows what a session may do, and where a login ended others, the answer waits as
 * an ending does (rule 6).
 */
#include "engine/engine.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "engine/internal.h"

#define ROTATE_GRACE_MS 10000
#define ROTATE_TRIES 4

static void ending_by(struct cr_ending *ending, enum cr_reason reason, const char *by)
{
    ending->reason = reason;
    cr_label_copy(ending->by, sizeof ending->by, by, strlen(by));
}

struct create {
    struct op op;
    struct waiter waiter;
    struct cr_record record;
    struct cr_create_terms terms;
    struct cr_token token, anonymous;
    struct cr_record earlier; /* the anonymous session, whose data moves */
    bool renews;              /* it is the user's, whose rights move, too */
    uint64_t renews_generation;
    struct cr_log_rows rows;
    uint64_t stamp;
    cr_boot_ns before;
};

static void create_release(struct op *op)
{
    struct create *create = (struct create *)op;
    cr_record_fini(&create->record);
    cr_record_fini(&create->earlier);
    cr_log_rows_fini(&create->rows);
    cr_token_wipe(&create->token);
    cr_token_wipe(&create->anonymous);
    free(create);
}

static void create_answer(struct create *create, enum cr_status status, cr_span_ms bound)
{
    struct cr_record *record = &create->record;
    cr_engine_op_answer(
        &create->op, &(struct cr_engine_answer){.status = status,
                                                .record = record,
                                                .token = &create->token,
                                                .as_of = create->before,
                                                .expires_in = record->idle < record->absolute_left
                                                                  ? record->idle
                                                                  : record->absolute_left,
                                                .version = record->version,
                                                .ending = create->terms.ending.identity,
                                                .bound = bound,
                                                .rows = &create->rows});
}

static void create_ready(struct waiter *waiter, enum cr_status status, cr_span_ms bound)
{
    create_answer((struct create *)(void *)((char *)waiter - offsetof(struct create, waiter)),
                  status, bound);
}

static void create_committed(struct create *create)
{
    struct cr_engine *engine = create->op.engine;
    struct cr_record *record = &create->record;
    uint64_t number = 0;

    record->absolute_left = record->ends_at - record->created_at;
    record->idle_left = record->idle;
    for (size_t i = 0; i < create->rows.count; i++) {
        cr_engine_apply(engine, &create->rows.rows[i]);
        if (create->rows.rows[i].number > number)
            number = create->rows.rows[i].number;
        engine->endings++;
    }
    if (create->rows.count > 0) {
        create->waiter.ready = create_ready;
        cr_engine_wait_for(engine, &create->waiter, number, false);
        return;
    }
    /* Rule 1: with the clock of before the transaction. */
    if (engine->table != NULL) {
        struct cr_entry entry;
        cr_engine_entry_from_record(engine, record, create->before, &entry);
        if (!cr_table_insert(engine->table, &entry, create->stamp, cr_engine_now(engine)))
            engine->fills_refused++;
    }
    create_answer(create, CR_OK, 0);
}

static void create_done(struct cr_store_call *call)
{
    struct create *create = (struct create *)op_of(call);
    struct cr_engine *engine = create->op.engine;
    if (call->status == CR_OK) {
        create_committed(create);
        return;
    }
    if (call->status == CR_E_UNKNOWN_OUTCOME) {
        /* It may have ended the earlier ones, and the anonymous one. Nobody will learn of the new
         * one: its token dies here. */
        struct cr_log_row user = {.kind = CR_LOG_USER_ENDED, .user = create->record.user};
        struct cr_log_row session = {.kind = CR_LOG_SESSION_ENDED,
                                     .session = create->terms.anonymous};
        if (user.user.length > 0)
            cr_engine_apply(engine, &user);
        if (session.session.text[0] != '\0')
            cr_engine_apply(engine, &session);
    }
    cr_engine_op_answer(&create->op,
                        &(struct cr_engine_answer){.status = call->status,
                                                   .ending = create->terms.ending.identity});
}

static enum cr_status create_run(struct cr_store *store, struct cr_store_call *call)
{
    struct create *create = (struct create *)op_of(call);
    return cr_store_create(store, &create->record, &create->terms, &create->rows);
}

static void create_submit(struct create *create)
{
    struct cr_engine *engine = create->op.engine;
    struct cr_create_terms *terms = &create->terms;
    /* A plain create ends nothing and writes no row. */
    if (!terms->replace && terms->keep_count == 0 && terms->anonymous.text[0] == '\0')
        memset(&terms->ending, 0, sizeof terms->ending);
    create->stamp = cr_engine_clock(engine);
    create->before = cr_engine_now(engine);
    cr_engine_op_write(&create->op, create_run, create_done);
}

static void data_move(struct create *create)
{
    struct cr_record *earlier = &create->earlier;
    if (create->record.data_bytes > 0)
        return;
    create->record.data = earlier->data;
    create->record.data_bytes = earlier->data_bytes;
    earlier->data = NULL;
    earlier->data_bytes = 0;
}

/*
 * It lived until the change of the password, and no other ending came between: nothing can have
 * changed it since, and what it may do was not taken from it.
 */
static bool earlier_goes_on(const struct create *create)
{
    const struct cr_record *earlier = &create->earlier;
    return earlier->dead == CR_REASON_ADMIN && earlier->absolute_left > 0 &&
           cr_user_equal(&earlier->user, &create->record.user) &&
           earlier->user_generation == create->renews_generation && create->terms.has_generation &&
           create->terms.generation == create->renews_generation + 1;
}

/* The anonymous session's data moves, unless the login brings its own. A dead one moves nothing. */
static void anonymous_found(struct cr_store_call *call)
{
    struct create *create = (struct create *)op_of(call);
    struct cr_record *earlier = &create->earlier;
    struct cr_token_hash hash;
    if (call->status != CR_OK && call->status != CR_NOT_FOUND) {
        cr_engine_op_status(&create->op, CR_UNAVAILABLE);
        return;
    }
    cr_token_hash(&create->anonymous, &hash);
    if (call->status != CR_OK || !cr_engine_record_matches(earlier, &hash)) {
        /* Nothing of it moves. */
    } else if (create->renews && earlier_goes_on(create)) {
        data_move(create);
        create->record.rights_bytes = earlier->rights_bytes;
        memcpy(create->record.rights, earlier->rights, earlier->rights_bytes);
    } else if (!create->renews && earlier->dead == CR_REASON_NONE && earlier->user.length == 0) {
        create->terms.anonymous = earlier->id;
        data_move(create);
    }
    create_submit(create);
}

static enum cr_status anonymous_run(struct cr_store *store, struct cr_store_call *call)
{
    struct create *create = (struct create *)op_of(call);
    struct cr_session_id id;
    cr_token_id(&create->anonymous, &id);
    return cr_store_find(store, &id, &create->earlier);
}

static enum cr_status create_prepare(struct create *create, const struct cr_create_request *request)
{
    struct cr_engine *engine = create->op.engine;
    struct cr_record *record = &create->record;
    if (request->rights_bytes > CR_RIGHTS_BYTES_MAX || request->data_bytes > CR_DATA_BYTES_MAX)
        return CR_E_LIMIT;
    record->user = request->user;
    record->idle = request->idle != 0 ? request->idle : engine->options.idle;
    record->ends_at = request->absolute != 0 ? request->absolute : engine->options.absolute;
    if (record->idle < 1 || record->idle > CR_SPAN_MS_MAX || record->ends_at < 1 ||
        record->ends_at > CR_SPAN_MS_MAX)
        return CR_E_INVALID;
    record->authenticated_at = request->user.length > 0;
    record->version = 1;
    record->rights_bytes = (uint16_t)request->rights_bytes;
    if (request->rights_bytes > 0)
        memcpy(record->rights, request->rights, request->rights_bytes);
    if (request->address != NULL)
        cr_label_copy(record->address, sizeof record->address, request->address,
                      strlen(request->address));
    if (request->agent != NULL)
        cr_label_copy(record->agent, sizeof record->agent, request->agent, strlen(request->agent));
    if (request->data_bytes > 0) {
        record->data = malloc(request->data_bytes);
        if (record->data == NULL)
            return CR_E_NO_MEMORY;
        memcpy(record->data, request->data, request->data_bytes);
        record->data_bytes = (uint32_t)request->data_bytes;
    }
    create->terms = (struct cr_create_terms){
        .replace = request->policy == CR_POLICY_REPLACE && request->user.length > 0,
        .keep_count = request->policy == CR_POLICY_KEEP_N ? request->keep_count : 0,
        .has_generation = request->has_generation,
        .generation = request->generation,
    };
    ending_by(&create->terms.ending,
              request->policy == CR_POLICY_REPLACE ? CR_REASON_REPLACED : CR_REASON_LIMIT,
              record->address[0] != '\0' ? record->address : "login");
    memcpy(create->terms.ending.from.address, record->address, sizeof record->address);
    memcpy(create->terms.ending.from.agent, record->agent, sizeof record->agent);
    enum cr_status st = cr_random_fill(engine->random, &create->terms.ending.identity,
                                       sizeof create->terms.ending.identity);
    if (st == CR_OK)
        st = cr_session_id_make(engine->random, cr_clock_wall(engine->loop->clock), &record->id);
    if (st == CR_OK)
        st = cr_token_make(&engine->keyring, engine->random, &record->id, 0, &create->token);
    if (st == CR_OK)
        cr_token_hash(&create->token, &record->hash);
    return st;
}

void cr_engine_create_session(struct cr_engine *engine, const struct cr_create_request *request,
                              cr_engine_done *done, void *context)
{
    struct create *create =
        cr_engine_op_begin(engine, sizeof *create, create_release, done, context);
    if (create == NULL)
        return;
    if (engine->queue == NULL) {
        cr_engine_op_status(&create->op, CR_E_INVALID);
        return;
    }
    enum cr_status st = create_prepare(create, request);
    enum cr_status not_genuine = CR_OK;
    bool has_earlier = request->has_anonymous &&
                       cr_engine_token_is_genuine(engine, &request->anonymous, &not_genuine);
    if (st == CR_OK && not_genuine == CR_UNAVAILABLE)
        st = CR_UNAVAILABLE; /* it may be one, and would stay alive */
    if (st != CR_OK) {
        cr_engine_op_status(&create->op, st);
    } else if (has_earlier) {
        create->anonymous = request->anonymous;
        create->renews = request->renews;
        create->renews_generation = request->renews_generation;
        cr_engine_op_read(&create->op, anonymous_run, anonymous_found);
    } else {
        create_submit(create);
    }
}

struct change {
    struct op op;
    struct waiter waiter;
    struct cr_session_id id;
    struct cr_change change;
    unsigned char *bytes; /* data or rights: ours */
    uint64_t version;
    struct cr_log_row row;
    bool waits; /* rights: as an ending */
    /* rotation */
    enum cr_rotation rotation;
    struct cr_user user; /* who has proved to be so; length 0: nobody did */
    cr_span_ms absolute;
    struct cr_token token, successor;
    struct cr_record record;
    cr_boot_ns before;
    unsigned tries;
};

static void change_release(struct op *op)
{
    struct change *change = (struct change *)op;
    cr_record_fini(&change->record);
    free(change->bytes);
    cr_bytes_wipe(change, sizeof *change);
    free(change);
}

static void change_answer(struct change *change, enum cr_status status, cr_span_ms bound)
{
    bool rotated = change->rotation != 0 && (status == CR_OK || status == CR_PENDING);
    struct cr_record *record = &change->record;
    cr_engine_op_answer(&change->op, &(struct cr_engine_answer){
                                         .status = status,
                                         .record = rotated ? record : NULL,
                                         .token = rotated ? &change->successor : NULL,
                                         .as_of = change->before,
                                         .expires_in = record->idle_left < record->absolute_left
                                                           ? record->idle_left
                                                           : record->absolute_left,
                                         .version = rotated ? record->version : change->version,
                                         .ending = change->change.ending.identity,
                                         .bound = bound,
                                         .row = &change->row});
}

static void change_ready(struct waiter *waiter, enum cr_status status, cr_span_ms bound)
{
    change_answer((struct change *)(void *)((char *)waiter - offsetof(struct change, waiter)),
                  status, bound);
}

static enum cr_status change_run(struct cr_store *store, struct cr_store_call *call)
{
    struct change *change = (struct change *)op_of(call);
    return cr_store_change(store, &change->id, &change->change, &change->version, &change->row);
}

static void change_apply(struct change *change)
{
    struct cr_log_row row = {.kind = CR_LOG_SESSION_CHANGED, .session = change->id};
    cr_engine_apply(change->op.engine, &row);
}

static void rotate_read(struct change *change);

static void change_done(struct cr_store_call *call)
{
    struct change *change = (struct change *)op_of(call);
    enum cr_status st = call->status;
    /* Known or not: what the table holds may be old. */
    if (st == CR_OK || st == CR_E_UNKNOWN_OUTCOME)
        change_apply(change);
    if (st == CR_CONFLICT && change->rotation != 0 && ++change->tries < ROTATE_TRIES) {
        rotate_read(change);
        return;
    }
    if (st == CR_OK && change->waits) {
        change->waiter.ready = change_ready;
        cr_engine_wait_for(change->op.engine, &change->waiter, change->row.number, false);
        return;
    }
    change_answer(change, st, 0);
}

static struct change *change_begin(struct cr_engine *engine, const struct cr_session_id *id,
                                   const char *by, cr_engine_done *done, void *context)
{
    struct change *change =
        cr_engine_op_begin(engine, sizeof *change, change_release, done, context);
    if (change == NULL)
        return NULL;
    change->id = *id;
    ending_by(&change->change.ending, CR_REASON_NONE, by);
    if (cr_random_fill(engine->random, &change->change.ending.identity,
                       sizeof change->change.ending.identity) != CR_OK) {
        cr_engine_op_status(&change->op, CR_UNAVAILABLE);
        return NULL;
    }
    return change;
}

/* False: answered already. */
static bool change_take(struct change *change, const void *bytes, size_t count, size_t limit)
{
    if (count > limit) {
        cr_engine_op_status(&change->op, CR_E_LIMIT);
        return false;
    }
    change->bytes = malloc(count > 0 ? count : 1);
    if (change->bytes == NULL) {
        cr_engine_op_status(&change->op, CR_E_NO_MEMORY);
        return false;
    }
    if (count > 0)
        memcpy(change->bytes, bytes, count);
    return true;
}

void cr_engine_data_write(struct cr_engine *engine, const struct cr_session_id *id,
                          uint64_t version, const void *data, size_t bytes, cr_engine_done *done,
                          void *context)
{
    struct change *change = change_begin(engine, id, "data", done, context);
    if (change == NULL || !change_take(change, data, bytes, CR_DATA_BYTES_MAX))
        return;
    change->change.expect_version = version == CR_VERSION_ANY ? 0 : version;
    change->change.set_data = true;
    change->change.data = change->bytes;
    change->change.data_bytes = (uint32_t)bytes;
    /* Version 0 was never any session's. */
    if (version == 0)
        cr_engine_op_status(&change->op, CR_CONFLICT);
    else
        cr_engine_op_write(&change->op, change_run, change_done);
}

void cr_engine_rights_write(struct cr_engine *engine, const struct cr_session_id *id,
                            const void *rights, size_t bytes, cr_engine_done *done, void *context)
{
    struct change *change = change_begin(engine, id, "rights", done, context);
    if (change == NULL || !change_take(change, rights, bytes, CR_RIGHTS_BYTES_MAX))
        return;
    change->change.set_rights = true;
    change->change.rights = change->bytes;
    change->change.rights_bytes = (uint16_t)bytes;
    change->waits = true;
    cr_engine_op_write(&change->op, change_run, change_done);
}

/* Rotation: read the row, then replace the hash that was read; who loses the race reads again. */
static enum cr_status rotate_run(struct cr_store *store, struct cr_store_call *call)
{
    struct change *change = (struct change *)op_of(call);
    cr_record_fini(&change->record);
    return cr_store_find(store, &change->id, &change->record);
}

/* By the store's clock, as of the read: early by a round trip, never late. The record is what is
 * answered. */
static void authenticate_prepare(struct change *change)
{
    struct cr_record *record = &change->record;
    record->authenticated_at = record->ends_at - record->absolute_left;
    record->ends_at = record->authenticated_at + change->absolute;
    record->absolute_left = change->absolute;
    change->change.set_authenticated = true;
    change->change.authenticated_at = record->authenticated_at;
    change->change.ends_at = record->ends_at;
}

static enum cr_status rotate_prepare(struct change *change)
{
    struct cr_engine *engine = change->op.engine;
    struct cr_token_hash hash;
    enum cr_status st =
        cr_token_make(&engine->keyring, engine->random, &change->id, 0, &change->successor);
    if (st != CR_OK)
        return st;
    cr_token_hash(&change->successor, &hash);
    change->change.set_token = true;
    change->change.expect_hash = change->record.hash;
    change->change.hash = hash;
    change->change.old_grace = 0;
    change->change.sealed_bytes = 0;
    if (change->user.length > 0)
        authenticate_prepare(change);
    if (change->rotation == CR_ROTATE_PRIVILEGE)
        return CR_OK;
    change->change.old_grace = ROTATE_GRACE_MS;
    return cr_token_seal(&change->token, &change->successor, engine->random, change->change.sealed,
                         &change->change.sealed_bytes);
}

static void rotate_found(struct cr_store_call *call)
{
    struct change *change = (struct change *)op_of(call);
    const struct cr_record *record = &change->record;
    struct cr_token_hash hash;
    if (!cr_engine_may_answer(change->op.engine)) {
        change_answer(change, CR_UNAVAILABLE, 0);
        return;
    }
    bool another = change->user.length > 0 && !cr_user_equal(&change->user, &record->user);
    if (call->status != CR_OK || record->dead != CR_REASON_NONE || another) {
        change_answer(
            change,
            call->status == CR_OK || call->status == CR_NOT_FOUND ? CR_ENDED : CR_UNAVAILABLE, 0);
        return;
    }
    cr_token_hash(&change->token, &hash);
    bool current = cr_bytes_equal(&hash, &record->hash, sizeof hash);
    bool old = cr_bytes_equal(&hash, &record->old_hash, sizeof hash) && record->old_left > 0;
    enum cr_status st = CR_ENDED;
    if (!current && old && change->rotation == CR_ROTATE_RENEW) {
        /* Somebody was first: the same successor, which only the old token opens. */
        st = cr_token_unseal(&change->token, record->sealed, record->sealed_bytes,
                             &change->successor)
                 ? CR_OK
                 : CR_E_CORRUPT;
        change_answer(change, st, 0);
        return;
    }
    if (current || old)
        st = rotate_prepare(change);
    if (st != CR_OK) {
        change_answer(change, st, 0);
        return;
    }
    cr_engine_op_write(&change->op, change_run, change_done);
}

static void rotate_read(struct change *change)
{
    change->before = cr_engine_now(change->op.engine);
    cr_engine_op_read(&change->op, rotate_run, rotate_found);
}

/* `user` not NULL: who has proved to be so. */
static void rotate_begin(struct cr_engine *engine, const struct cr_token *token,
                         enum cr_rotation rotation, const struct cr_user *user, cr_span_ms absolute,
                         cr_engine_done *done, void *context)
{
    struct cr_session_id id;
    enum cr_status not_genuine;
    if (!cr_engine_token_is_genuine(engine, token, &not_genuine)) {
        done(context, &(struct cr_engine_answer){.status = not_genuine});
        return;
    }
    cr_token_id(token, &id);
    struct change *change = change_begin(engine, &id, "rotation", done, context);
    if (change == NULL)
        return;
    change->change.ending.reason = CR_REASON_ROTATED;
    change->token = *token;
    change->rotation = rotation;
    if (user != NULL)
        change->user = *user;
    change->absolute = absolute;
    /* At a change of privilege the old token is over everywhere before the answer. */
    change->waits = rotation == CR_ROTATE_PRIVILEGE;
    rotate_read(change);
}

void cr_engine_rotate(struct cr_engine *engine, const struct cr_token *token,
                      enum cr_rotation rotation, cr_engine_done *done, void *context)
{
    rotate_begin(engine, token, rotation, NULL, 0, done, context);
}

void cr_engine_reauthenticate(struct cr_engine *engine, const struct cr_token *token,
                              const struct cr_user *user, cr_span_ms absolute, cr_engine_done *done,
                              void *context)
{
    CR_ASSERT(user->length > 0 && absolute >= 0 && absolute <= CR_SPAN_MS_MAX);
    rotate_begin(engine, token, CR_ROTATE_PRIVILEGE, user,
                 absolute != 0 ? absolute : engine->options.absolute, done, context);
}
