/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The SQLite store's log, and the calls that end sessions. Each ending is a constant number of
 * statements, whatever the number of sessions it ends; nothing is written before all that can
 * refuse it has been looked at.
 */
#include <string.h>

#include "store/sqlite.h"

/* ---- the log */

void cr_query_log_row(struct cr_query *query, struct cr_log_row *out)
{
    memset(out, 0, sizeof *out);
    out->number = cr_query_uint(query);
    cr_query_bytes(query, out->identity.bytes, sizeof out->identity.bytes);
    out->kind = (enum cr_log_kind)cr_query_int(query);
    cr_query_text(query, out->session.text, sizeof out->session.text);
    cr_query_user(query, &out->user);
    out->generation = cr_query_uint(query);
    out->reason = (enum cr_reason)cr_query_int(query);
    cr_query_text(query, out->by, sizeof out->by);
    out->at = cr_query_int(query);
    cr_query_text(query, out->from.address, sizeof out->from.address);
    cr_query_text(query, out->from.agent, sizeof out->from.agent);
    out->created_at = cr_query_int(query);
    out->seen_at = cr_query_int(query);
    cr_query_text(query, out->session_from.address, sizeof out->session_from.address);
    cr_query_text(query, out->session_from.agent, sizeof out->session_from.agent);
}

/* The one row that a statement gives, with what was bound to it. */
static enum cr_status log_row_read(struct cr_query *query, struct cr_log_row *out)
{
    enum cr_status st = cr_query_row(query);
    if (st == CR_OK)
        cr_query_log_row(query, out);
    return cr_query_close(query, st);
}

enum cr_status cr_sqlite_log_find(struct cr_sqlite *s, const struct cr_ending_id *identity,
                                  struct cr_log_row *out)
{
    struct cr_query query;
    if (cr_ending_id_is_zero(identity))
        return CR_NOT_FOUND;
    cr_query_open(&query, s, SQL_LOG_FIND);
    cr_query_bind_blob(&query, identity->bytes, sizeof identity->bytes);
    return log_row_read(&query, out);
}

enum cr_status cr_sqlite_log_add(struct cr_sqlite *s, struct cr_log_row *row)
{
    struct cr_query query;
    enum cr_status st = CR_OK;
    if (cr_ending_id_is_zero(&row->identity))
        st = cr_random_fill(s->env.random, &row->identity, sizeof row->identity);
    if (st != CR_OK)
        return cr_sqlite_break(s, st);
    row->at = cr_sqlite_now(s);
    cr_query_open(&query, s, SQL_LOG_INSERT);
    cr_query_bind_blob(&query, row->identity.bytes, sizeof row->identity.bytes);
    cr_query_bind_int(&query, row->kind);
    cr_query_bind_text(&query, row->session.text[0] != '\0' ? row->session.text : NULL);
    cr_query_bind_user(&query, &row->user);
    cr_query_bind_uint(&query, row->generation);
    cr_query_bind_int(&query, row->reason);
    cr_query_bind_text(&query, row->by);
    cr_query_bind_int(&query, row->at);
    cr_query_bind_text(&query, row->from.address);
    cr_query_bind_text(&query, row->from.agent);
    cr_query_bind_int(&query, row->created_at);
    cr_query_bind_int(&query, row->seen_at);
    cr_query_bind_text(&query, row->session_from.address);
    cr_query_bind_text(&query, row->session_from.agent);
    st = cr_query_change(&query);
    /* SQLite gives the number after the highest there is, and the last row is never deleted: no
     * gaps, and none is given twice. */
    row->number = (uint64_t)sqlite3_last_insert_rowid(s->db);
    return st;
}

enum cr_status cr_sqlite_log_ended(struct cr_sqlite *s, const struct cr_record *record,
                                   const struct cr_ending *ending, struct cr_log_row *out_row)
{
    *out_row = cr_log_row_ended(record, ending);
    return cr_sqlite_log_add(s, out_row);
}

enum cr_status cr_sqlite_log_user(struct cr_sqlite *s, const struct cr_user *user,
                                  uint64_t generation, const struct cr_ending *ending,
                                  struct cr_log_row *out_row)
{
    *out_row = cr_log_row_for(CR_LOG_USER_ENDED, ending);
    out_row->user = *user;
    out_row->generation = generation;
    return cr_sqlite_log_add(s, out_row);
}

/* All rows that a statement gives, with what was bound to it. */
static enum cr_status log_rows_read(struct cr_query *query, struct cr_log_rows *out)
{
    struct cr_log_row row;
    enum cr_status st;
    while ((st = cr_query_row(query)) == CR_OK) {
        cr_query_log_row(query, &row);
        st = cr_log_rows_add(out, &row);
        if (st != CR_OK)
            break;
    }
    return cr_query_close(query, st == CR_NOT_FOUND ? CR_OK : st);
}

enum cr_status cr_sqlite_log_rows(struct cr_sqlite *s, uint64_t number, size_t limit,
                                  struct cr_log_rows *out)
{
    struct cr_query query;
    cr_query_open(&query, s, SQL_LOG_READ);
    cr_query_bind_uint(&query, number);
    cr_query_bind_uint(&query, limit);
    return log_rows_read(&query, out);
}

enum cr_status cr_sqlite_log_rotations(struct cr_store *store, const struct cr_session_id *id,
                                       size_t limit, struct cr_log_rows *out)
{
    struct cr_query query;
    cr_query_open(&query, cr_sqlite_of(store), SQL_LOG_ROTATIONS);
    cr_query_bind_text(&query, id->text);
    cr_query_bind_uint(&query, limit);
    return log_rows_read(&query, out);
}

enum cr_status cr_sqlite_log_ended_list(struct cr_store *store, const struct cr_user *user,
                                        size_t limit, struct cr_log_rows *out)
{
    struct cr_sqlite *s = cr_sqlite_of(store);
    struct cr_query query;
    cr_query_open(&query, s, SQL_LOG_ENDED);
    cr_query_bind_user(&query, user);
    cr_query_bind_int(&query, cr_sqlite_now(s) - CR_REMEMBER_MS);
    cr_query_bind_uint(&query, limit);
    return log_rows_read(&query, out);
}

enum cr_status cr_sqlite_log_read(struct cr_store *store, uint64_t number, size_t limit,
                                  struct cr_log_rows *out)
{
    return cr_sqlite_log_rows(cr_sqlite_of(store), number, limit, out);
}

enum cr_status cr_sqlite_log_last(struct cr_store *store, struct cr_log_row *out)
{
    struct cr_query query;
    cr_query_open(&query, cr_sqlite_of(store), SQL_LOG_LAST);
    return log_row_read(&query, out);
}

enum cr_status cr_sqlite_log_find_call(struct cr_store *store, const struct cr_ending_id *identity,
                                       struct cr_log_row *out)
{
    return cr_sqlite_log_find(cr_sqlite_of(store), identity, out);
}

enum cr_status cr_sqlite_log_about(struct cr_store *store, const struct cr_session_id *id,
                                   const struct cr_record *record, struct cr_log_row *out)
{
    struct cr_sqlite *s = cr_sqlite_of(store);
    struct cr_query query;
    struct cr_log_row all = {0};
    cr_query_open(&query, s, SQL_LOG_ABOUT_SESSION);
    cr_query_bind_text(&query, id->text);
    enum cr_status st = log_row_read(&query, out);
    if (st != CR_NOT_FOUND || record == NULL)
        return st;
    if (record->user.length > 0) {
        cr_query_open(&query, s, SQL_LOG_ABOUT_USER);
        cr_query_bind_user(&query, &record->user);
        cr_query_bind_uint(&query, record->user_generation);
        st = log_row_read(&query, out);
        if (st != CR_OK && st != CR_NOT_FOUND)
            return st;
    }
    cr_query_open(&query, s, SQL_LOG_ABOUT_ALL);
    cr_query_bind_uint(&query, record->global_generation);
    enum cr_status all_st = log_row_read(&query, &all);
    if (all_st == CR_NOT_FOUND)
        return st;
    if (all_st == CR_OK && (st == CR_NOT_FOUND || all.number < out->number))
        *out = all;
    return all_st;
}

/* ---- endings */

enum cr_status cr_sqlite_end(struct cr_store *store, const struct cr_session_id *id,
                             const struct cr_ending *ending, struct cr_log_row *out_row)
{
    struct cr_sqlite *s = cr_sqlite_of(store);
    struct cr_record record;
    enum cr_status st = cr_sqlite_log_find(s, &ending->identity, out_row);
    if (st != CR_NOT_FOUND)
        return st;
    st = cr_sqlite_head_live(s, id, &record);
    if (st != CR_OK)
        return st == CR_ENDED ? CR_NOT_FOUND : st;
    st = cr_sqlite_session_delete(s, id);
    if (st == CR_OK)
        st = cr_sqlite_log_ended(s, &record, ending, out_row);
    return cr_sqlite_break(s, st);
}

enum cr_status cr_sqlite_end_user(struct cr_store *store, const struct cr_user *user,
                                  const struct cr_ending *ending, struct cr_log_row *out_row)
{
    struct cr_sqlite *s = cr_sqlite_of(store);
    struct cr_generations generations;
    enum cr_status st = cr_sqlite_log_find(s, &ending->identity, out_row);
    if (st != CR_NOT_FOUND)
        return st;
    st = cr_sqlite_generations(s, user, &generations);
    if (st != CR_OK)
        return st;
    if (generations.user == 0)
        return CR_UNKNOWN_USER;
    st = cr_sqlite_user_raise(s, user, generations.user, &generations.user);
    if (st == CR_OK)
        st = cr_sqlite_log_user(s, user, generations.user, ending, out_row);
    return cr_sqlite_break(s, st);
}

enum cr_status cr_sqlite_end_others(struct cr_store *store, const struct cr_session_id *keep,
                                    const struct cr_ending *ending, struct cr_log_row *out_row)
{
    struct cr_sqlite *s = cr_sqlite_of(store);
    struct cr_record record;
    enum cr_status st = cr_sqlite_log_find(s, &ending->identity, out_row);
    if (st != CR_NOT_FOUND)
        return st;
    st = cr_sqlite_head_live(s, keep, &record);
    if (st == CR_OK && record.user.length == 0)
        st = CR_UNKNOWN_USER;
    if (st != CR_OK)
        return st;
    /* It is live, so the generation that it carries is the current one. */
    st = cr_sqlite_user_raise(s, &record.user, record.user_generation, &record.user_generation);
    if (st == CR_OK)
        st = cr_sqlite_session_update(s, &record);
    if (st != CR_OK)
        return cr_sqlite_break(s, st);
    *out_row = cr_log_row_for(CR_LOG_USER_ENDED, ending);
    out_row->user = record.user;
    out_row->generation = record.user_generation;
    out_row->session = *keep;
    return cr_sqlite_break(s, cr_sqlite_log_add(s, out_row));
}

enum cr_status cr_sqlite_end_all(struct cr_store *store, const struct cr_ending *ending,
                                 struct cr_log_row *out_row)
{
    struct cr_sqlite *s = cr_sqlite_of(store);
    enum cr_status st = cr_sqlite_log_find(s, &ending->identity, out_row);
    if (st != CR_NOT_FOUND)
        return st;
    *out_row = cr_log_row_for(CR_LOG_ALL_ENDED, ending);
    st = cr_sqlite_all_raise(s, &out_row->generation);
    if (st == CR_OK)
        st = cr_sqlite_log_add(s, out_row);
    return cr_sqlite_break(s, st);
}
