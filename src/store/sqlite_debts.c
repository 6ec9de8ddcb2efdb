/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The SQLite store's debts. As leases they count on CLOCK_BOOTTIME within the boot that they were
 * written in, so that no step of the wall clock forgives one; what another boot has written is told
 * by the wall clock, and never as more than it was.
 */
#include <string.h>

#include "base/assert.h"
#include "store/sqlite.h"

static cr_span_ms debt_longest(const struct cr_debt_row *row)
{
    cr_span_ms longest = 0;
    for (size_t i = 0; i < CR_DEBT_TIERS_MAX; i++)
        longest = row->left[i] > longest ? row->left[i] : longest;
    return longest;
}

static enum cr_status debt_delete(struct cr_sqlite *s, const struct cr_debt_row *row)
{
    struct cr_query query;
    cr_query_open(&query, s, SQL_DEBT_DELETE);
    cr_query_bind_blob(&query, row->key, sizeof row->key);
    return cr_query_change(&query);
}

static enum cr_status debt_write(struct cr_sqlite *s, const struct cr_debt_row *row)
{
    struct cr_query query;
    cr_span_ms longest = debt_longest(row);
    cr_boot_ns boot = cr_clock_boot(s->env.clock);
    cr_time_ms wall = cr_sqlite_now(s);
    if (longest == 0)
        return debt_delete(s, row);
    cr_query_open(&query, s, SQL_DEBT_PUT);
    cr_query_bind_blob(&query, row->key, sizeof row->key);
    cr_query_bind_uint(&query, row->kind);
    cr_query_bind_user(&query, &row->user);
    cr_query_bind_text(&query, row->address);
    cr_query_bind_blob(&query, s->env.boot_id, sizeof s->env.boot_id);
    cr_query_bind_uint(&query, boot);
    cr_query_bind_int(&query, wall);
    for (size_t i = 0; i < CR_DEBT_TIERS_MAX; i++)
        cr_query_bind_int(&query, row->left[i]);
    cr_query_bind_uint(&query, cr_boot_add(boot, longest));
    cr_query_bind_int(&query, wall + longest);
    return cr_query_change(&query);
}

enum cr_status cr_sqlite_debt_put(struct cr_store *store, const struct cr_debt_row *rows,
                                  size_t count)
{
    struct cr_sqlite *s = cr_sqlite_of(store);
    enum cr_status st = CR_OK;
    for (size_t i = 0; st == CR_OK && i < count; i++)
        st = debt_write(s, &rows[i]);
    return cr_sqlite_break(s, st);
}

/* DEBT_COLUMNS. *out_any: something is left. */
static void query_debt(struct cr_query *query, struct cr_debt_row *out, bool *out_any)
{
    struct cr_sqlite *s = query->sqlite;
    unsigned char boot_id[16];
    memset(out, 0, sizeof *out);
    *out_any = false;
    cr_query_bytes(query, out->key, sizeof out->key);
    out->kind = (uint32_t)cr_query_uint(query);
    cr_query_user(query, &out->user);
    cr_query_text(query, out->address, sizeof out->address);
    cr_query_bytes(query, boot_id, sizeof boot_id);
    cr_boot_ns boot_at = cr_query_uint(query);
    cr_time_ms wall_at = cr_query_int(query);
    if (wall_at < 0) { /* before there was any */
        query->is_bad = true;
        wall_at = 0;
    }
    bool same_boot = memcmp(boot_id, s->env.boot_id, sizeof boot_id) == 0;
    cr_span_ms passed = same_boot ? cr_boot_between(boot_at, cr_clock_boot(s->env.clock))
                                  : cr_sqlite_now(s) - wall_at;
    for (size_t i = 0; i < CR_DEBT_TIERS_MAX; i++) {
        cr_span_ms left = cr_query_int(query);
        if (left < 0 || left > CR_SPAN_MS_MAX)
            query->is_bad = true;
        else if (passed < left)
            out->left[i] = passed > 0 ? left - passed : left;
        *out_any = *out_any || out->left[i] > 0;
    }
}

enum cr_status cr_sqlite_debt_find(struct cr_store *store,
                                   const unsigned char key[CR_DEBT_KEY_BYTES],
                                   struct cr_debt_row *out)
{
    struct cr_query query;
    bool any = false;
    cr_query_open(&query, cr_sqlite_of(store), SQL_DEBT_FIND);
    cr_query_bind_blob(&query, key, CR_DEBT_KEY_BYTES);
    enum cr_status st = cr_query_row(&query);
    if (st == CR_OK)
        query_debt(&query, out, &any);
    st = cr_query_close(&query, st);
    return st == CR_OK && !any ? CR_NOT_FOUND : st;
}

enum cr_status cr_sqlite_debt_list(struct cr_store *store, struct cr_debt_row *out, size_t capacity,
                                   size_t *out_count)
{
    struct cr_query query;
    enum cr_status st = CR_OK;
    cr_query_open(&query, cr_sqlite_of(store), SQL_DEBT_LIST);
    cr_query_bind_uint(&query, capacity);
    while (*out_count < capacity && (st = cr_query_row(&query)) == CR_OK) {
        bool any;
        query_debt(&query, &out[*out_count], &any);
        *out_count += any;
    }
    return cr_query_close(&query, st == CR_NOT_FOUND ? CR_OK : st);
}

enum cr_status cr_sqlite_debt_forget(struct cr_store *store, const struct cr_user *user,
                                     const char *address)
{
    struct cr_query query;
    static const struct cr_user nobody;
    cr_query_open(&query, cr_sqlite_of(store), SQL_DEBT_FORGET);
    cr_query_bind_user(&query, user == NULL ? &nobody : user);
    if (address == NULL)
        cr_query_bind_blob(&query, NULL, 0);
    else
        cr_query_bind_text(&query, address);
    return cr_query_change(&query);
}

enum cr_status cr_sqlite_debt_sweep(struct cr_sqlite *s, size_t limit, size_t *count)
{
    struct cr_query query;
    cr_query_open(&query, s, SQL_DEBT_SWEEP);
    cr_query_bind_int(&query, cr_sqlite_now(s));
    cr_query_bind_blob(&query, s->env.boot_id, sizeof s->env.boot_id);
    cr_query_bind_uint(&query, cr_clock_boot(s->env.clock));
    cr_query_bind_uint(&query, limit);
    enum cr_status st = cr_query_change(&query);
    if (st == CR_OK)
        *count += (size_t)sqlite3_changes(s->db);
    return st;
}
