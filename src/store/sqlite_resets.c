/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The SQLite store's links for a new password (ASVS E13). A row is there for as long as the
 * password that it was made to replace: what sets another takes it away in the same transaction.
 */
#include <string.h>

#include "store/sqlite.h"

static enum cr_status resets_count(struct cr_sqlite *s, const struct cr_user *user, size_t *out)
{
    struct cr_query query;
    *out = 0;
    cr_query_open(&query, s, SQL_RESET_COUNT);
    cr_query_bind_user(&query, user);
    cr_query_bind_int(&query, cr_sqlite_now(s));
    enum cr_status st = cr_query_row(&query);
    if (st == CR_OK)
        *out = (size_t)cr_query_uint(&query);
    return cr_query_close(&query, st);
}

enum cr_status cr_sqlite_reset_add(struct cr_store *store, const struct cr_reset_row *row)
{
    struct cr_sqlite *s = cr_sqlite_of(store);
    struct cr_account_row account;
    struct cr_query query;
    struct cr_sum sum;
    size_t count;
    cr_time_ms until = cr_sqlite_now(s) + row->left;
    enum cr_status st = cr_sqlite_account_find(store, &row->user, &account);
    if (st == CR_OK)
        st = resets_count(s, &row->user, &count);
    if (st == CR_OK && count >= CR_RESETS_MAX)
        st = CR_E_LIMIT;
    if (st != CR_OK)
        return st;
    cr_sqlite_sum_reset(&row->hash, &row->user, until, &sum);
    cr_query_open(&query, s, SQL_RESET_INSERT);
    cr_query_bind_blob(&query, row->hash.bytes, sizeof row->hash.bytes);
    cr_query_bind_user(&query, &row->user);
    cr_query_bind_int(&query, until);
    cr_query_bind_blob(&query, sum.bytes, sizeof sum.bytes);
    return cr_sqlite_break(s, cr_query_change(&query));
}

enum cr_status cr_sqlite_reset_find(struct cr_store *store, const struct cr_token_hash *hash,
                                    struct cr_reset_row *out)
{
    struct cr_sqlite *s = cr_sqlite_of(store);
    struct cr_query query;
    struct cr_sum sum, want;
    cr_time_ms until = 0, now = cr_sqlite_now(s);
    out->hash = *hash;
    cr_query_open(&query, s, SQL_RESET_FIND);
    cr_query_bind_blob(&query, hash->bytes, sizeof hash->bytes);
    enum cr_status st = cr_query_row(&query);
    if (st == CR_OK) {
        cr_query_user(&query, &out->user);
        until = cr_query_int(&query);
        cr_query_bytes(&query, sum.bytes, sizeof sum.bytes);
        cr_sqlite_sum_reset(hash, &out->user, until, &want);
        query.is_bad = query.is_bad || !cr_sum_equal(&sum, &want);
    }
    st = cr_query_close(&query, st);
    if (st != CR_OK)
        return st;
    if (until <= now)
        return CR_NOT_FOUND;
    /* A clock that was put back must not make one good for longer than any may be. */
    out->left = until - now < CR_RESET_MS_MAX ? until - now : CR_RESET_MS_MAX;
    return CR_OK;
}

enum cr_status cr_sqlite_resets_forget(struct cr_sqlite *s, const struct cr_user *user)
{
    static const struct cr_user all;
    struct cr_query query;
    cr_query_open(&query, s, SQL_RESET_FORGET);
    cr_query_bind_user(&query, user != NULL ? user : &all);
    return cr_query_change(&query);
}

enum cr_status cr_sqlite_resets_sweep(struct cr_sqlite *s, size_t limit, size_t *count)
{
    struct cr_query query;
    cr_query_open(&query, s, SQL_RESET_SWEEP);
    cr_query_bind_int(&query, cr_sqlite_now(s));
    cr_query_bind_uint(&query, limit);
    enum cr_status st = cr_query_change(&query);
    if (st == CR_OK)
        *count += (size_t)sqlite3_changes(s->db);
    return st;
}
