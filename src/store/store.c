/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The wrappers: the only callers of cr_store_ops. They check what the caller gives (our mistake:
 * abort), see that changes happen inside a batch, and check what a store gives back (its mistake,
 * or damage from outside: CR_E_CORRUPT). Nothing here knows any one store.
 */
#include "store/store.h"

#include <string.h>

#include "base/assert.h"
#include "store/record.h"

enum cr_status cr_store_init(struct cr_store *store, const struct cr_store_ops *ops)
{
    memset(store, 0, sizeof *store);
    if (ops->contract != CR_STORE_CONTRACT)
        return CR_E_VERSION;
    store->ops = ops;
    return CR_OK;
}

void cr_store_destroy(struct cr_store *store)
{
    if (store == NULL)
        return;
    if (store->in_batch)
        cr_store_rollback(store);
    store->ops->destroy(store);
}

bool cr_store_is_exclusive(const struct cr_store *store)
{
    return store->ops->exclusive;
}

const char *cr_store_name(const struct cr_store *store)
{
    return store->ops->name;
}

enum cr_status cr_store_reader(struct cr_store *s, struct cr_store **out_reader)
{
    CR_ASSERT(!s->is_reader);
    enum cr_status st = s->ops->reader(s, out_reader);
    if (st == CR_OK)
        (*out_reader)->is_reader = true;
    return st;
}

/* ---- batches */

enum cr_status cr_store_begin(struct cr_store *s)
{
    CR_ASSERT(!s->in_batch && !s->is_reader);
    enum cr_status st = s->ops->begin(s);
    s->in_batch = st == CR_OK;
    return st;
}

enum cr_status cr_store_commit(struct cr_store *s)
{
    CR_ASSERT(s->in_batch);
    s->in_batch = false;
    return s->ops->commit(s);
}

void cr_store_rollback(struct cr_store *s)
{
    CR_ASSERT(s->in_batch);
    s->in_batch = false;
    s->ops->rollback(s);
}

/* Around every changing call. *out_own: the batch was made for this call alone. */
static enum cr_status change_begin(struct cr_store *s, bool *out_own)
{
    CR_ASSERT(!s->is_reader);
    *out_own = !s->in_batch;
    return *out_own ? cr_store_begin(s) : CR_OK;
}

static enum cr_status change_end(struct cr_store *s, bool own, enum cr_status st)
{
    if (!own)
        return st;
    if (st == CR_OK)
        return cr_store_commit(s);
    cr_store_rollback(s);
    return st;
}

static bool ending_is_sound(const struct cr_ending *ending)
{
    return !cr_ending_id_is_zero(&ending->identity) &&
           memchr(ending->by, '\0', sizeof ending->by) != NULL && cr_origin_is_sound(&ending->from);
}

static bool row_answers(const struct cr_log_row *row, const struct cr_ending *ending)
{
    return cr_log_row_is_sound(row) && cr_ending_id_equal(&row->identity, &ending->identity);
}

/* ---- sessions */

enum cr_status cr_store_identity(struct cr_store *s, struct cr_ending_id *out)
{
    enum cr_status st = s->ops->identity(s, out);
    if (st == CR_OK && cr_ending_id_is_zero(out))
        st = CR_E_CORRUPT;
    return st;
}

enum cr_status cr_store_find(struct cr_store *s, const struct cr_session_id *id,
                             struct cr_record *out)
{
    CR_ASSERT(cr_session_id_is_sound(id));
    memset(out, 0, sizeof *out);
    enum cr_status st = s->ops->find(s, id, out);
    if (st == CR_OK && (!cr_record_is_sound(out) || !cr_session_id_equal(&out->id, id)))
        st = CR_E_CORRUPT;
    if (st != CR_OK)
        cr_record_fini(out);
    return st;
}

static bool terms_write(const struct cr_create_terms *terms)
{
    return terms->replace || terms->keep_count > 0 || terms->anonymous.text[0] != '\0';
}

/* The rows that a create appended are of the ends it was asked for, in the log's order. */
static bool created_rows_are_sound(const struct cr_log_rows *rows, size_t first)
{
    for (size_t i = first; i < rows->count; i++) {
        const struct cr_log_row *row = &rows->rows[i];
        if (!cr_log_row_is_sound(row) ||
            (row->kind != CR_LOG_SESSION_ENDED && row->kind != CR_LOG_USER_ENDED) ||
            (i > first && row->number <= rows->rows[i - 1].number))
            return false;
    }
    return true;
}

enum cr_status cr_store_create(struct cr_store *s, struct cr_record *record,
                               const struct cr_create_terms *terms, struct cr_log_rows *out_rows)
{
    static const struct cr_create_terms no_terms = {0};
    if (terms == NULL)
        terms = &no_terms;
    CR_ASSERT(record->ends_at > 0 && record->ends_at <= CR_SPAN_MS_MAX);
    CR_ASSERT(!terms_write(terms) || ending_is_sound(&terms->ending));
    CR_ASSERT(record->user.length > 0 ||
              !(terms->replace || terms->keep_count > 0 || terms->has_generation));
    record->version = 1;
    CR_ASSERT(cr_record_is_sound(record));
    const cr_span_ms absolute = record->ends_at;
    size_t first = out_rows->count;
    bool own;
    enum cr_status st = change_begin(s, &own);
    if (st != CR_OK)
        return st;
    st = s->ops->create(s, record, terms, out_rows);
    if (st == CR_OK && !created_rows_are_sound(out_rows, first))
        st = CR_E_CORRUPT;
    st = change_end(s, own, st);
    if (st != CR_OK) {
        out_rows->count = first;
        record->ends_at = absolute; /* so that the call can be made again */
    }
    return st;
}

enum cr_status cr_store_change(struct cr_store *s, const struct cr_session_id *id,
                               const struct cr_change *change, uint64_t *out_version,
                               struct cr_log_row *out_row)
{
    CR_ASSERT(cr_session_id_is_sound(id) && ending_is_sound(&change->ending));
    CR_ASSERT(change->data_bytes <= CR_DATA_BYTES_MAX &&
              change->rights_bytes <= CR_RIGHTS_BYTES_MAX &&
              change->sealed_bytes <= CR_SEALED_BYTES_MAX && change->old_grace >= 0);
    bool own;
    enum cr_status st = change_begin(s, &own);
    if (st != CR_OK)
        return st;
    st = s->ops->change(s, id, change, out_version, out_row);
    if (st == CR_OK && (!row_answers(out_row, &change->ending) || *out_version == 0))
        st = CR_E_CORRUPT;
    return change_end(s, own, st);
}

enum cr_status cr_store_seen(struct cr_store *s, const struct cr_seen *seen, size_t count)
{
    for (size_t i = 0; i < count; i++)
        CR_ASSERT(cr_session_id_is_sound(&seen[i].id) && seen[i].ago >= 0);
    bool own;
    enum cr_status st = change_begin(s, &own);
    if (st != CR_OK)
        return st;
    return change_end(s, own, s->ops->seen(s, seen, count));
}

/* ---- endings */

enum cr_status cr_store_end(struct cr_store *s, const struct cr_session_id *id,
                            const struct cr_ending *ending, struct cr_log_row *out_row)
{
    CR_ASSERT(cr_session_id_is_sound(id) && ending_is_sound(ending));
    bool own;
    enum cr_status st = change_begin(s, &own);
    if (st != CR_OK)
        return st;
    st = s->ops->end(s, id, ending, out_row);
    if (st == CR_OK && !row_answers(out_row, ending))
        st = CR_E_CORRUPT;
    return change_end(s, own, st);
}

enum cr_status cr_store_end_user(struct cr_store *s, const struct cr_user *user,
                                 const struct cr_ending *ending, struct cr_log_row *out_row)
{
    CR_ASSERT(cr_user_is_sound(user) && ending_is_sound(ending));
    bool own;
    enum cr_status st = change_begin(s, &own);
    if (st != CR_OK)
        return st;
    st = s->ops->end_user(s, user, ending, out_row);
    if (st == CR_OK && !row_answers(out_row, ending))
        st = CR_E_CORRUPT;
    return change_end(s, own, st);
}

enum cr_status cr_store_end_others(struct cr_store *s, const struct cr_session_id *keep,
                                   const struct cr_ending *ending, struct cr_log_row *out_row)
{
    CR_ASSERT(cr_session_id_is_sound(keep) && ending_is_sound(ending));
    bool own;
    enum cr_status st = change_begin(s, &own);
    if (st != CR_OK)
        return st;
    st = s->ops->end_others(s, keep, ending, out_row);
    if (st == CR_OK && !row_answers(out_row, ending))
        st = CR_E_CORRUPT;
    return change_end(s, own, st);
}

enum cr_status cr_store_end_all(struct cr_store *s, const struct cr_ending *ending,
                                struct cr_log_row *out_row)
{
    CR_ASSERT(ending_is_sound(ending));
    bool own;
    enum cr_status st = change_begin(s, &own);
    if (st != CR_OK)
        return st;
    st = s->ops->end_all(s, ending, out_row);
    if (st == CR_OK && !row_answers(out_row, ending))
        st = CR_E_CORRUPT;
    return change_end(s, own, st);
}

/* ---- lists and the log */

/* Whether `b` comes strictly after `a` in a list: newest first, then by falling id. */
static bool list_falls(cr_time_ms a_at, const struct cr_session_id *a, cr_time_ms b_at,
                       const struct cr_session_id *b)
{
    return b_at < a_at || (b_at == a_at && strcmp(b->text, a->text) < 0);
}

static bool list_answers(const struct cr_user *user, cr_time_ms created_at,
                         const struct cr_session_id *after, const struct cr_record *records,
                         size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct cr_record *record = &records[i];
        if (!cr_record_is_sound(record) || record->dead != CR_REASON_NONE ||
            !cr_user_equal(&record->user, user))
            return false;
        if (created_at != 0 && !list_falls(created_at, after, record->created_at, &record->id))
            return false;
        created_at = record->created_at;
        after = &record->id;
    }
    return true;
}

static bool dead_answers(const struct cr_user *user, const struct cr_record *records, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct cr_record *record = &records[i];
        const struct cr_record *last = i > 0 ? &records[i - 1] : NULL;
        if (!cr_record_is_sound(record) || record->dead == CR_REASON_NONE ||
            !cr_user_equal(&record->user, user))
            return false;
        if (last == NULL || last->user_generation > record->user_generation)
            continue;
        if (last->user_generation < record->user_generation ||
            !list_falls(last->created_at, &last->id, record->created_at, &record->id))
            return false;
    }
    return true;
}

enum cr_status cr_store_list(struct cr_store *s, const struct cr_user *user, cr_time_ms created_at,
                             const struct cr_session_id *after, struct cr_record *out,
                             size_t capacity, size_t *out_count)
{
    CR_ASSERT(cr_user_is_sound(user) && capacity > 0);
    CR_ASSERT(created_at == 0 || cr_session_id_is_sound(after));
    *out_count = 0;
    enum cr_status st = s->ops->list(s, user, created_at, after, out, capacity, out_count);
    if (st == CR_OK &&
        (*out_count > capacity || !list_answers(user, created_at, after, out, *out_count)))
        st = CR_E_CORRUPT;
    return st;
}

enum cr_status cr_store_list_dead(struct cr_store *s, const struct cr_user *user,
                                  struct cr_record *out, size_t capacity, size_t *out_count)
{
    CR_ASSERT(cr_user_is_sound(user) && capacity > 0);
    *out_count = 0;
    enum cr_status st = s->ops->list_dead(s, user, out, capacity, out_count);
    if (st == CR_OK && (*out_count > capacity || !dead_answers(user, out, *out_count)))
        st = CR_E_CORRUPT;
    return st;
}

enum cr_status cr_store_sweep(struct cr_store *s, size_t limit, size_t *out_count)
{
    CR_ASSERT(limit > 0);
    bool own;
    enum cr_status st = change_begin(s, &own);
    if (st != CR_OK)
        return st;
    return change_end(s, own, s->ops->sweep(s, limit, out_count));
}

static bool log_rows_answer(const struct cr_log_rows *rows, uint64_t number, size_t limit)
{
    if (rows->count > limit)
        return false;
    for (size_t i = 0; i < rows->count; i++) {
        const struct cr_log_row *row = &rows->rows[i];
        bool follows = i == 0 ? row->number >= number : row->number == row[-1].number + 1;
        if (!follows || !cr_log_row_is_sound(row))
            return false;
    }
    return true;
}

enum cr_status cr_store_log_read(struct cr_store *s, uint64_t number, size_t limit,
                                 struct cr_log_rows *out)
{
    CR_ASSERT(limit > 0);
    out->count = 0;
    enum cr_status st = s->ops->log_read(s, number, limit, out);
    if (st == CR_OK && !log_rows_answer(out, number, limit))
        st = CR_E_CORRUPT;
    if (st != CR_OK)
        out->count = 0;
    return st;
}

enum cr_status cr_store_log_last(struct cr_store *s, struct cr_log_row *out)
{
    enum cr_status st = s->ops->log_last(s, out);
    if (st == CR_NOT_FOUND || (st == CR_OK && !cr_log_row_is_sound(out)))
        st = CR_E_CORRUPT;
    return st;
}

enum cr_status cr_store_log_find(struct cr_store *s, const struct cr_ending_id *id,
                                 struct cr_log_row *out)
{
    CR_ASSERT(!cr_ending_id_is_zero(id));
    enum cr_status st = s->ops->log_find(s, id, out);
    if (st == CR_OK && (!cr_log_row_is_sound(out) || !cr_ending_id_equal(&out->identity, id)))
        st = CR_E_CORRUPT;
    return st;
}

enum cr_status cr_store_log_about(struct cr_store *s, const struct cr_session_id *id,
                                  const struct cr_record *record, struct cr_log_row *out)
{
    CR_ASSERT(cr_session_id_is_sound(id));
    enum cr_status st = s->ops->log_about(s, id, record, out);
    if (st == CR_OK && (!cr_log_row_is_sound(out) || (out->kind == CR_LOG_SESSION_ENDED &&
                                                      !cr_session_id_equal(&out->session, id))))
        st = CR_E_CORRUPT;
    return st;
}

static bool is_rotation_of(const struct cr_log_row *row, const struct cr_session_id *id)
{
    return cr_log_row_is_sound(row) && row->kind == CR_LOG_SESSION_CHANGED &&
           row->reason == CR_REASON_ROTATED && cr_session_id_equal(&row->session, id);
}

enum cr_status cr_store_log_rotations(struct cr_store *s, const struct cr_session_id *id,
                                      size_t limit, struct cr_log_rows *out)
{
    CR_ASSERT(cr_session_id_is_sound(id) && limit > 0);
    out->count = 0;
    enum cr_status st = s->ops->log_rotations(s, id, limit, out);
    if (st == CR_OK && out->count > limit)
        st = CR_E_CORRUPT;
    for (size_t i = 0; st == CR_OK && i < out->count; i++)
        if (!is_rotation_of(&out->rows[i], id) ||
            (i > 0 && out->rows[i].number >= out->rows[i - 1].number))
            st = CR_E_CORRUPT;
    return st;
}

static bool is_ending_of(const struct cr_log_row *row, const struct cr_user *user)
{
    return cr_log_row_is_sound(row) && row->kind == CR_LOG_SESSION_ENDED &&
           cr_user_equal(&row->user, user);
}

enum cr_status cr_store_log_ended(struct cr_store *s, const struct cr_user *user, size_t limit,
                                  struct cr_log_rows *out)
{
    CR_ASSERT(cr_user_is_sound(user) && limit > 0);
    out->count = 0;
    enum cr_status st = s->ops->log_ended(s, user, limit, out);
    if (st == CR_OK && out->count > limit)
        st = CR_E_CORRUPT;
    for (size_t i = 0; st == CR_OK && i < out->count; i++)
        if (!is_ending_of(&out->rows[i], user) ||
            (i > 0 && out->rows[i].number >= out->rows[i - 1].number))
            st = CR_E_CORRUPT;
    return st;
}

/* ---- engines */

static bool engine_is_sound(const struct cr_engine_row *row)
{
    return !cr_ending_id_is_zero(&row->identity) && row->lease > 0 && row->grace >= 0 &&
           memchr(row->label, '\0', sizeof row->label) != NULL;
}

enum cr_status cr_store_engine_register(struct cr_store *s, const struct cr_engine_row *row)
{
    CR_ASSERT(engine_is_sound(row));
    bool own;
    enum cr_status st = change_begin(s, &own);
    if (st != CR_OK)
        return st;
    return change_end(s, own, s->ops->engine_register(s, row));
}

enum cr_status cr_store_engine_poll(struct cr_store *s, struct cr_engine_row *row, size_t limit,
                                    struct cr_poll *out)
{
    CR_ASSERT(engine_is_sound(row) && limit > 0);
    uint64_t beat = row->beat;
    out->rows.count = 0;
    out->at_end = false;
    bool own;
    enum cr_status st = change_begin(s, &own);
    if (st != CR_OK)
        return st;
    st = s->ops->engine_poll(s, row, limit, out);
    if (st == CR_OK && (row->beat <= beat || !log_rows_answer(&out->rows, row->position, limit)))
        st = CR_E_CORRUPT;
    st = change_end(s, own, st);
    if (st != CR_OK) {
        row->beat = beat;
        out->rows.count = 0;
        out->at_end = false;
    }
    return st;
}

enum cr_status cr_store_engine_list(struct cr_store *s, struct cr_engine_row *out, size_t capacity,
                                    size_t *out_count)
{
    *out_count = 0;
    enum cr_status st = s->ops->engine_list(s, out, capacity, out_count);
    if (st != CR_OK && st != CR_E_LIMIT)
        return st;
    if (*out_count > capacity || (st == CR_E_LIMIT && *out_count < capacity))
        return CR_E_CORRUPT;
    for (size_t i = 0; i < *out_count; i++)
        if (!engine_is_sound(&out[i]))
            return CR_E_CORRUPT;
    return st;
}

enum cr_status cr_store_engine_remove(struct cr_store *s, const struct cr_ending_id *id,
                                      uint64_t beat)
{
    bool own;
    enum cr_status st = change_begin(s, &own);
    if (st != CR_OK)
        return st;
    return change_end(s, own, s->ops->engine_remove(s, id, beat));
}

/* ---- keys and accounts */

enum cr_status cr_store_keys(struct cr_store *s, struct cr_key *out, size_t capacity,
                             size_t *out_count)
{
    *out_count = 0;
    enum cr_status st = s->ops->keys(s, out, capacity, out_count);
    if (st != CR_OK)
        return st;
    if (*out_count == 0 || *out_count > capacity)
        return CR_E_CORRUPT;
    uint64_t numbers = 0;
    for (size_t i = 0; i < *out_count; i++) {
        if (out[i].number < 1 || out[i].number > CR_KEYS_MAX || out[i].signs_in < 0 ||
            out[i].signs_in > CR_KEY_WAIT_MS_MAX || (numbers >> out[i].number & 1) != 0)
            return CR_E_CORRUPT;
        numbers |= UINT64_C(1) << out[i].number;
    }
    return CR_OK;
}

enum cr_status cr_store_key_add(struct cr_store *s, const unsigned char bytes[CR_KEY_BYTES],
                                cr_span_ms wait, const struct cr_ending *ending,
                                struct cr_log_row *out_row)
{
    CR_ASSERT(wait >= 0 && wait <= CR_KEY_WAIT_MS_MAX && ending_is_sound(ending));
    bool own;
    enum cr_status st = change_begin(s, &own);
    if (st != CR_OK)
        return st;
    st = s->ops->key_add(s, bytes, wait, ending, out_row);
    if (st == CR_OK && (!cr_log_row_is_sound(out_row) || out_row->kind != CR_LOG_KEY_ADDED ||
                        !cr_ending_id_equal(&out_row->identity, &ending->identity) ||
                        out_row->generation < 1 || out_row->generation > CR_KEYS_MAX))
        st = CR_E_CORRUPT;
    return change_end(s, own, st);
}

static bool account_is_sound(const struct cr_account_row *row)
{
    return cr_user_is_sound(&row->user) && memchr(row->hash, '\0', sizeof row->hash) != NULL &&
           row->password_until >= 0 && (!row->password_over || row->password_until > 0);
}

enum cr_status cr_store_account_find(struct cr_store *s, const struct cr_user *user,
                                     struct cr_account_row *out)
{
    CR_ASSERT(cr_user_is_sound(user));
    memset(out, 0, sizeof *out);
    enum cr_status st = s->ops->account_find(s, user, out);
    if (st == CR_OK && (!account_is_sound(out) || !cr_user_equal(&out->user, user)))
        st = CR_E_CORRUPT;
    return st;
}

enum cr_status cr_store_account_change(struct cr_store *s, const struct cr_user *user,
                                       const struct cr_account_change *change,
                                       struct cr_log_row *out_row)
{
    CR_ASSERT(cr_user_is_sound(user));
    CR_ASSERT(change->keep_sessions || ending_is_sound(&change->ending));
    CR_ASSERT(change->hash == NULL || strlen(change->hash) <= CR_PASSWORD_HASH_CHARS_MAX);
    CR_ASSERT(!change->add || (change->hash != NULL && !change->remove));
    CR_ASSERT(change->password_for >= 0 && change->password_for <= CR_SPAN_MS_MAX);
    CR_ASSERT(!change->spends_reset || (change->hash != NULL && !change->keep_sessions));
    memset(out_row, 0, sizeof *out_row);
    bool own;
    enum cr_status st = change_begin(s, &own);
    if (st != CR_OK)
        return st;
    st = s->ops->account_change(s, user, change, out_row);
    if (st == CR_OK && out_row->number != 0 && !row_answers(out_row, &change->ending))
        st = CR_E_CORRUPT;
    return change_end(s, own, st);
}

enum cr_status cr_store_account_list(struct cr_store *s, const struct cr_user *after,
                                     struct cr_account_row *out, size_t capacity, size_t *out_count)
{
    CR_ASSERT(capacity > 0);
    *out_count = 0;
    enum cr_status st = s->ops->account_list(s, after, out, capacity, out_count);
    if (st != CR_OK)
        return st;
    if (*out_count > capacity)
        return CR_E_CORRUPT;
    for (size_t i = 0; i < *out_count; i++) {
        const struct cr_user *before = i == 0 ? after : &out[i - 1].user;
        if (!account_is_sound(&out[i]) ||
            (before != NULL && cr_user_compare(before, &out[i].user) >= 0))
            return CR_E_CORRUPT;
    }
    return CR_OK;
}

/* ---- leases */

static bool lease_is_sound(const struct cr_lease_row *row)
{
    return row->name[0] != '\0' && memchr(row->name, '\0', sizeof row->name) != NULL &&
           memchr(row->label, '\0', sizeof row->label) != NULL;
}

static bool lease_answers(const struct cr_lease_row *row, const char *name)
{
    return lease_is_sound(row) && strcmp(row->name, name) == 0 && row->fence > 0;
}

enum cr_status cr_store_lease_take(struct cr_store *s, struct cr_lease_row *row, cr_span_ms ttl)
{
    CR_ASSERT(lease_is_sound(row) && !cr_ending_id_is_zero(&row->holder) && ttl > 0);
    const struct cr_lease_row asked = *row;
    bool own;
    enum cr_status st = change_begin(s, &own);
    if (st != CR_OK)
        return st;
    st = s->ops->lease_take(s, row, ttl);
    if ((st == CR_OK || st == CR_BUSY) && !lease_answers(row, asked.name))
        st = CR_E_CORRUPT;
    if (st == CR_OK && !cr_ending_id_equal(&row->holder, &asked.holder))
        st = CR_E_CORRUPT;
    return change_end(s, own, st);
}

enum cr_status cr_store_lease_renew(struct cr_store *s, const struct cr_lease_row *row,
                                    cr_span_ms ttl)
{
    CR_ASSERT(lease_is_sound(row) && ttl > 0);
    bool own;
    enum cr_status st = change_begin(s, &own);
    if (st != CR_OK)
        return st;
    return change_end(s, own, s->ops->lease_renew(s, row, ttl));
}

enum cr_status cr_store_lease_give(struct cr_store *s, const struct cr_lease_row *row)
{
    CR_ASSERT(lease_is_sound(row));
    bool own;
    enum cr_status st = change_begin(s, &own);
    if (st != CR_OK)
        return st;
    return change_end(s, own, s->ops->lease_give(s, row));
}

enum cr_status cr_store_lease_read(struct cr_store *s, const char *name, struct cr_lease_row *out)
{
    CR_ASSERT(name[0] != '\0' && strlen(name) <= CR_LEASE_NAME_BYTES_MAX);
    memset(out, 0, sizeof *out);
    enum cr_status st = s->ops->lease_read(s, name, out);
    if (st == CR_OK && !lease_answers(out, name))
        st = CR_E_CORRUPT;
    return st;
}

/* ---- links for a new password */

static bool reset_is_sound(const struct cr_reset_row *row)
{
    return cr_user_is_sound(&row->user) && row->left >= 1 && row->left <= CR_RESET_MS_MAX;
}

enum cr_status cr_store_reset_add(struct cr_store *s, const struct cr_reset_row *row)
{
    CR_ASSERT(reset_is_sound(row));
    bool own;
    enum cr_status st = change_begin(s, &own);
    if (st != CR_OK)
        return st;
    return change_end(s, own, s->ops->reset_add(s, row));
}

enum cr_status cr_store_reset_find(struct cr_store *s, const struct cr_token_hash *hash,
                                   struct cr_reset_row *out)
{
    memset(out, 0, sizeof *out);
    enum cr_status st = s->ops->reset_find(s, hash, out);
    if (st == CR_OK &&
        (!reset_is_sound(out) || memcmp(out->hash.bytes, hash->bytes, sizeof hash->bytes) != 0))
        st = CR_E_CORRUPT;
    return st;
}

/* ---- debts */

static bool debt_is_sound(const struct cr_debt_row *row)
{
    for (size_t i = 0; i < CR_DEBT_TIERS_MAX; i++)
        if (row->left[i] < 0 || row->left[i] > CR_SPAN_MS_MAX)
            return false;
    return (row->user.length == 0 || cr_user_is_sound(&row->user)) &&
           memchr(row->address, '\0', sizeof row->address) != NULL;
}

static cr_span_ms debt_most(const struct cr_debt_row *row)
{
    cr_span_ms most = 0;
    for (size_t i = 0; i < CR_DEBT_TIERS_MAX; i++)
        most = row->left[i] > most ? row->left[i] : most;
    return most;
}

enum cr_status cr_store_debt_put(struct cr_store *s, const struct cr_debt_row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++)
        CR_ASSERT(debt_is_sound(&rows[i]));
    bool own;
    enum cr_status st = change_begin(s, &own);
    if (st != CR_OK)
        return st;
    return change_end(s, own, s->ops->debt_put(s, rows, count));
}

enum cr_status cr_store_debt_find(struct cr_store *s, const unsigned char key[CR_DEBT_KEY_BYTES],
                                  struct cr_debt_row *out)
{
    memset(out, 0, sizeof *out);
    enum cr_status st = s->ops->debt_find(s, key, out);
    if (st == CR_OK && (!debt_is_sound(out) || debt_most(out) == 0 ||
                        memcmp(out->key, key, CR_DEBT_KEY_BYTES) != 0))
        st = CR_E_CORRUPT;
    return st;
}

enum cr_status cr_store_debt_list(struct cr_store *s, struct cr_debt_row *out, size_t capacity,
                                  size_t *out_count)
{
    CR_ASSERT(capacity > 0 && capacity <= CR_DEBT_LIST_MAX);
    *out_count = 0;
    enum cr_status st = s->ops->debt_list(s, out, capacity, out_count);
    if (st != CR_OK)
        return st;
    if (*out_count > capacity)
        return CR_E_CORRUPT;
    for (size_t i = 0; i < *out_count; i++)
        if (!debt_is_sound(&out[i]) || debt_most(&out[i]) == 0)
            return CR_E_CORRUPT;
    return CR_OK;
}

enum cr_status cr_store_debt_forget(struct cr_store *s, const struct cr_user *user,
                                    const char *address)
{
    CR_ASSERT(user != NULL || address != NULL);
    CR_ASSERT(user == NULL || cr_user_is_sound(user));
    bool own;
    enum cr_status st = change_begin(s, &own);
    if (st != CR_OK)
        return st;
    return change_end(s, own, s->ops->debt_forget(s, user, address));
}
