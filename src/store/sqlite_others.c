/* SPDX-License-Identifier: Apache-2.0 */
/* The SQLite store's engines, keys, accounts and leases. */
#include <string.h>

#include "base/bytes.h"
#include "store/sqlite.h"

/* ---- engines */

enum cr_status cr_sqlite_engine_register(struct cr_store *store, const struct cr_engine_row *row)
{
    struct cr_sqlite *s = cr_sqlite_of(store);
    struct cr_query query;
    cr_query_open(&query, s, SQL_ENGINE_INSERT);
    cr_query_bind_blob(&query, row->identity.bytes, sizeof row->identity.bytes);
    cr_query_bind_uint(&query, row->beat);
    cr_query_bind_uint(&query, row->position);
    cr_query_bind_int(&query, row->lease);
    cr_query_bind_int(&query, row->grace);
    cr_query_bind_text(&query, row->label);
    enum cr_status st = cr_query_change(&query);
    return st == CR_OK && sqlite3_changes(s->db) == 0 ? CR_CONFLICT : st;
}

enum cr_status cr_sqlite_engine_poll(struct cr_store *store, struct cr_engine_row *row,
                                     size_t limit, struct cr_poll *out)
{
    struct cr_sqlite *s = cr_sqlite_of(store);
    struct cr_query query;
    struct cr_log_row last;
    cr_query_open(&query, s, SQL_ENGINE_POLL);
    cr_query_bind_uint(&query, row->position);
    cr_query_bind_blob(&query, row->identity.bytes, sizeof row->identity.bytes);
    cr_query_bind_uint(&query, row->beat);
    enum cr_status st = cr_query_change(&query);
    if (st == CR_OK && sqlite3_changes(s->db) == 0)
        return CR_CONFLICT;
    if (st == CR_OK)
        st = cr_sqlite_log_rows(s, row->position, limit, &out->rows);
    if (st == CR_OK)
        st = cr_sqlite_log_last(store, &last);
    if (st != CR_OK)
        return cr_sqlite_break(s, st);
    row->beat++;
    out->at_end = out->rows.count == 0 || out->rows.rows[out->rows.count - 1].number == last.number;
    return CR_OK;
}

enum cr_status cr_sqlite_engine_list(struct cr_store *store, struct cr_engine_row *out,
                                     size_t capacity, size_t *out_count)
{
    struct cr_query query;
    enum cr_status st;
    cr_query_open(&query, cr_sqlite_of(store), SQL_ENGINE_LIST);
    while ((st = cr_query_row(&query)) == CR_OK) {
        if (*out_count == capacity) {
            st = CR_E_LIMIT;
            break;
        }
        struct cr_engine_row *row = &out[(*out_count)++];
        memset(row, 0, sizeof *row);
        cr_query_bytes(&query, row->identity.bytes, sizeof row->identity.bytes);
        row->beat = cr_query_uint(&query);
        row->position = cr_query_uint(&query);
        row->lease = cr_query_int(&query);
        row->grace = cr_query_int(&query);
        cr_query_text(&query, row->label, sizeof row->label);
    }
    return cr_query_close(&query, st == CR_NOT_FOUND ? CR_OK : st);
}

enum cr_status cr_sqlite_engine_remove(struct cr_store *store, const struct cr_ending_id *identity,
                                       uint64_t beat)
{
    struct cr_sqlite *s = cr_sqlite_of(store);
    struct cr_query query;
    cr_query_open(&query, s, SQL_ENGINE_DELETE);
    cr_query_bind_blob(&query, identity->bytes, sizeof identity->bytes);
    cr_query_bind_uint(&query, beat);
    enum cr_status st = cr_query_change(&query);
    return st == CR_OK && sqlite3_changes(s->db) == 0 ? CR_CONFLICT : st;
}

/* ---- keys */

enum cr_status cr_sqlite_keys(struct cr_store *store, struct cr_key *out, size_t capacity,
                              size_t *out_count)
{
    struct cr_query query;
    enum cr_status st;
    cr_query_open(&query, cr_sqlite_of(store), SQL_KEYS);
    while ((st = cr_query_row(&query)) == CR_OK) {
        if (*out_count == capacity) {
            st = CR_E_LIMIT;
            break;
        }
        struct cr_key *key = &out[(*out_count)++];
        memset(key, 0, sizeof *key);
        key->number = (uint32_t)cr_query_uint(&query);
        cr_query_bytes(&query, key->bytes, sizeof key->bytes);
        key->since = cr_query_int(&query);
    }
    cr_keys_judge(out, *out_count, cr_sqlite_now(cr_sqlite_of(store)));
    return cr_query_close(&query, st == CR_NOT_FOUND ? CR_OK : st);
}

enum cr_status cr_sqlite_key_add(struct cr_store *store, const unsigned char bytes[CR_KEY_BYTES],
                                 cr_span_ms wait, const struct cr_ending *ending,
                                 struct cr_log_row *out_row)
{
    struct cr_sqlite *s = cr_sqlite_of(store);
    struct cr_key keys[CR_KEYS_MAX];
    struct cr_query query;
    size_t count = 0;
    enum cr_status st = cr_sqlite_log_find(s, &ending->identity, out_row);
    if (st != CR_NOT_FOUND)
        return st;
    st = cr_sqlite_keys(store, keys, CR_KEYS_MAX, &count);
    uint32_t number = st == CR_OK ? cr_key_number_next(keys, count) : 0;
    cr_bytes_wipe(keys, sizeof keys);
    if (st != CR_OK || number == 0)
        return st == CR_OK ? CR_E_LIMIT : st;
    cr_query_open(&query, s, SQL_KEY_INSERT);
    cr_query_bind_uint(&query, number);
    cr_query_bind_blob(&query, bytes, CR_KEY_BYTES);
    cr_query_bind_int(&query, cr_sqlite_now(s) + wait);
    st = cr_query_change(&query);
    *out_row = cr_log_row_for(CR_LOG_KEY_ADDED, ending);
    out_row->generation = number;
    if (st == CR_OK)
        st = cr_sqlite_log_add(s, out_row);
    return cr_sqlite_break(s, st);
}

enum cr_status cr_sqlite_keys_sweep(struct cr_sqlite *s)
{
    struct cr_query query;
    cr_query_open(&query, s, SQL_KEY_SETTLE);
    cr_query_bind_int(&query, cr_sqlite_now(s) - CR_KEY_WAIT_MS_MAX);
    enum cr_status st = cr_query_change(&query);
    if (st != CR_OK)
        return st;
    cr_query_open(&query, s, SQL_KEY_DROP);
    return cr_query_change(&query);
}

/* ---- accounts */

static void query_account(struct cr_query *query, cr_time_ms now, struct cr_account_row *out)
{
    memset(out, 0, sizeof *out);
    cr_query_user(query, &out->user);
    cr_query_text(query, out->hash, sizeof out->hash);
    out->disabled = cr_query_int(query) != 0;
    out->created_at = cr_query_int(query);
    out->password_at = cr_query_int(query);
    out->must_change = cr_query_int(query) != 0;
    out->password_until = cr_query_int(query);
    cr_account_row_judge(out, now);
    out->generation = cr_query_uint(query);
}

enum cr_status cr_sqlite_account_find(struct cr_store *store, const struct cr_user *user,
                                      struct cr_account_row *out)
{
    struct cr_query query;
    cr_query_open(&query, cr_sqlite_of(store), SQL_ACCOUNT_FIND);
    cr_query_bind_user(&query, user);
    enum cr_status st = cr_query_row(&query);
    if (st == CR_OK)
        query_account(&query, cr_sqlite_now(cr_sqlite_of(store)), out);
    st = cr_query_close(&query, st);
    return st == CR_NOT_FOUND ? CR_UNKNOWN_USER : st;
}

enum cr_status cr_sqlite_account_list(struct cr_store *store, const struct cr_user *after,
                                      struct cr_account_row *out, size_t capacity,
                                      size_t *out_count)
{
    struct cr_query query;
    enum cr_status st = CR_OK;
    cr_query_open(&query, cr_sqlite_of(store), SQL_ACCOUNT_LIST);
    /* Before all users: the text of nothing, which is below every blob. */
    if (after != NULL)
        cr_query_bind_user(&query, after);
    else
        cr_query_bind_text(&query, "");
    cr_query_bind_uint(&query, capacity);
    while (*out_count < capacity && (st = cr_query_row(&query)) == CR_OK)
        query_account(&query, cr_sqlite_now(cr_sqlite_of(store)), &out[(*out_count)++]);
    return cr_query_close(&query, st == CR_NOT_FOUND ? CR_OK : st);
}

static enum cr_status account_write(struct cr_sqlite *s, enum cr_sql sql,
                                    const struct cr_account_row *row)
{
    struct cr_query query;
    cr_query_open(&query, s, sql);
    cr_query_bind_text(&query, row->hash);
    cr_query_bind_int(&query, row->disabled);
    cr_query_bind_int(&query, row->created_at);
    cr_query_bind_int(&query, row->password_at);
    cr_query_bind_int(&query, row->must_change);
    cr_query_bind_int(&query, row->password_until);
    cr_query_bind_user(&query, &row->user);
    return cr_query_change(&query);
}

static enum cr_status account_delete(struct cr_sqlite *s, const struct cr_user *user)
{
    struct cr_query query;
    cr_query_open(&query, s, SQL_ACCOUNT_DELETE);
    cr_query_bind_user(&query, user);
    return cr_query_change(&query);
}

/* `row` is the account as it is, or the beginning of a new one. */
static enum cr_status account_change_write(struct cr_sqlite *s, struct cr_account_row *row,
                                           const struct cr_account_change *change,
                                           struct cr_log_row *out_row)
{
    struct cr_generations now;
    const struct cr_user *user = &row->user;
    enum cr_status st = cr_sqlite_generations(s, user, &now);
    if (st == CR_OK && (now.user == 0 || !change->keep_sessions)) {
        bool seen = now.user > 0;
        st = cr_sqlite_user_raise(s, user, now.user, &now.user);
        if (st == CR_OK && seen)
            st = cr_sqlite_log_user(s, user, now.user, &change->ending, out_row);
    }
    if (st == CR_OK && !change->keep_sessions)
        st = cr_sqlite_resets_forget(s, user);
    if (st != CR_OK)
        return st;
    if (change->remove)
        return account_delete(s, user);
    cr_account_row_change(row, change, cr_sqlite_now(s));
    return account_write(s, change->add ? SQL_ACCOUNT_INSERT : SQL_ACCOUNT_UPDATE, row);
}

/* Another's link, one that is over, or none is a conflict: it was good when the caller looked. */
static enum cr_status account_reset_look(struct cr_store *store, const struct cr_user *user,
                                         const struct cr_token_hash *hash)
{
    struct cr_reset_row reset;
    enum cr_status st = cr_sqlite_reset_find(store, hash, &reset);
    if (st == CR_NOT_FOUND || (st == CR_OK && !cr_user_equal(&reset.user, user)))
        st = CR_CONFLICT;
    return st;
}

enum cr_status cr_sqlite_account_change(struct cr_store *store, const struct cr_user *user,
                                        const struct cr_account_change *change,
                                        struct cr_log_row *out_row)
{
    struct cr_sqlite *s = cr_sqlite_of(store);
    struct cr_account_row row;
    enum cr_status st = change->keep_sessions
                            ? CR_NOT_FOUND
                            : cr_sqlite_log_find(s, &change->ending.identity, out_row);
    if (st != CR_NOT_FOUND)
        return st;
    st = cr_sqlite_account_find(store, user, &row);
    if (change->add && st == CR_OK)
        return CR_CONFLICT;
    if (st != CR_OK && !(change->add && st == CR_UNKNOWN_USER))
        return st;
    if (st == CR_UNKNOWN_USER)
        row = (struct cr_account_row){.user = *user, .created_at = cr_sqlite_now(s)};
    if (change->expect_hash != NULL && strcmp(change->expect_hash, row.hash) != 0)
        return CR_CONFLICT;
    st = change->spends_reset ? account_reset_look(store, user, &change->reset) : CR_OK;
    if (st != CR_OK)
        return st;
    return cr_sqlite_break(s, account_change_write(s, &row, change, out_row));
}

/* ---- leases. There is no server clock: they count on CLOCK_BOOTTIME, within the boot that they
 * were taken in (R14). */

struct lease {
    struct cr_lease_row row;
    unsigned char boot_id[16];
    cr_boot_ns until;
};

static enum cr_status lease_find(struct cr_sqlite *s, const char *name, struct lease *out)
{
    struct cr_query query;
    memset(out, 0, sizeof *out);
    cr_query_open(&query, s, SQL_LEASE_FIND);
    cr_query_bind_text(&query, name);
    enum cr_status st = cr_query_row(&query);
    if (st == CR_OK) {
        cr_query_text(&query, out->row.name, sizeof out->row.name);
        cr_query_bytes(&query, out->row.holder.bytes, sizeof out->row.holder.bytes);
        out->row.fence = cr_query_uint(&query);
        cr_query_bytes(&query, out->boot_id, sizeof out->boot_id);
        out->until = cr_query_uint(&query);
        cr_query_text(&query, out->row.label, sizeof out->row.label);
    }
    st = cr_query_close(&query, st);
    if (st != CR_OK)
        return st;
    cr_boot_ns now = cr_clock_boot(s->env.clock);
    if (memcmp(out->boot_id, s->env.boot_id, sizeof out->boot_id) == 0 && out->until > now)
        /* Rounded up: in the last part of a millisecond it is still held. */
        out->row.left = cr_boot_between(now, out->until - 1) + 1;
    return CR_OK;
}

static enum cr_status lease_put(struct cr_sqlite *s, const struct cr_lease_row *row,
                                cr_boot_ns until)
{
    struct cr_query query;
    cr_query_open(&query, s, SQL_LEASE_PUT);
    cr_query_bind_text(&query, row->name);
    cr_query_bind_blob(&query, row->holder.bytes, sizeof row->holder.bytes);
    cr_query_bind_uint(&query, row->fence);
    cr_query_bind_blob(&query, s->env.boot_id, sizeof s->env.boot_id);
    cr_query_bind_uint(&query, until);
    cr_query_bind_text(&query, row->label);
    return cr_query_change(&query);
}

static cr_boot_ns lease_until(const struct cr_sqlite *s, cr_span_ms ttl)
{
    return cr_boot_add(cr_clock_boot(s->env.clock), ttl);
}

enum cr_status cr_sqlite_lease_take(struct cr_store *store, struct cr_lease_row *row,
                                    cr_span_ms ttl)
{
    struct cr_sqlite *s = cr_sqlite_of(store);
    struct lease lease;
    enum cr_status st = lease_find(s, row->name, &lease);
    if (st != CR_OK && st != CR_NOT_FOUND)
        return st;
    if (lease.row.left > 0 && !cr_ending_id_equal(&lease.row.holder, &row->holder)) {
        *row = lease.row;
        return CR_BUSY;
    }
    row->fence = lease.row.fence + 1;
    row->left = ttl;
    return lease_put(s, row, lease_until(s, ttl));
}

/* The lease that `row` says it holds, or CR_LOST. */
static enum cr_status lease_held(struct cr_sqlite *s, const struct cr_lease_row *row,
                                 struct lease *out)
{
    enum cr_status st = lease_find(s, row->name, out);
    if (st == CR_NOT_FOUND)
        return CR_LOST;
    if (st == CR_OK &&
        (out->row.fence != row->fence || !cr_ending_id_equal(&out->row.holder, &row->holder)))
        return CR_LOST;
    return st;
}

enum cr_status cr_sqlite_lease_renew(struct cr_store *store, const struct cr_lease_row *row,
                                     cr_span_ms ttl)
{
    struct cr_sqlite *s = cr_sqlite_of(store);
    struct lease lease;
    enum cr_status st = lease_held(s, row, &lease);
    if (st == CR_OK && lease.row.left <= 0)
        st = CR_LOST;
    return st == CR_OK ? lease_put(s, &lease.row, lease_until(s, ttl)) : st;
}

enum cr_status cr_sqlite_lease_give(struct cr_store *store, const struct cr_lease_row *row)
{
    struct cr_sqlite *s = cr_sqlite_of(store);
    struct lease lease;
    enum cr_status st = lease_held(s, row, &lease);
    /* The row stays: it carries the fence. */
    return st == CR_OK ? lease_put(s, &lease.row, 0) : st;
}

enum cr_status cr_sqlite_lease_read(struct cr_store *store, const char *name,
                                    struct cr_lease_row *out)
{
    struct lease lease;
    enum cr_status st = lease_find(cr_sqlite_of(store), name, &lease);
    *out = lease.row;
    return st;
}
