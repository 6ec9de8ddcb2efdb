/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every statement of the SQLite store, and how they are run: prepared once for each handle, bound,
 * stepped, reset. The only place that turns SQLite's codes into statuses.
 */
#include <string.h>

#include "base/assert.h"
#include "store/sqlite.h"

#define LOG_COLUMNS                                                                                \
    "number, identity, kind, session, user, generation, reason, author, at, address, agent,"       \
    " created_at, seen_at, session_address, session_agent"

/* The order in which sqlite_sessions.c reads and writes a session; the data comes apart. */
#define SESSION_COLUMNS                                                                            \
    "s.id, s.user, s.user_generation, s.global_generation, s.created_at, s.authenticated_at, "     \
    "s.ends_at, s.seen_at, s.idle, s.version, s.hash, s.old_hash, s.old_until, s.sealed, "         \
    "s.rights, s.address, s.agent, s.sum, u.generation, u.sum, "                                   \
    "m.version, m.identity, m.global_generation, m.sum"
#define SESSION_TABLES "sessions s CROSS JOIN meta m LEFT JOIN users u ON u.user = s.user"
#define ACCOUNT_COLUMNS                                                                            \
    "a.user, a.hash, a.disabled, a.created_at, a.password_at, a.must_change,"                      \
    " a.password_until, u.generation"
#define ACCOUNT_TABLES "accounts a LEFT JOIN users u ON u.user = a.user"

#define DEBT_COLUMNS                                                                               \
    "key, kind, user, address, boot_id, boot_at, wall_at, left_0, left_1, left_2, left_3"

static const char *const sql_texts[SQL_COUNT] = {
    [SQL_BEGIN] = "BEGIN IMMEDIATE",
    [SQL_COMMIT] = "COMMIT",
    [SQL_ROLLBACK] = "ROLLBACK",

    [SQL_META] = "SELECT version, identity, global_generation, sum FROM meta",
    [SQL_META_RAISE] = "UPDATE meta SET global_generation = ?, sum = ?",
    [SQL_GENERATIONS] = "SELECT u.generation, u.sum, m.version, m.identity, m.global_generation, "
                        "m.sum FROM meta m LEFT JOIN users u ON u.user = ?",
    [SQL_USER_INSERT] = "INSERT INTO users (generation, sum, user) VALUES (?, ?, ?)",
    [SQL_USER_RAISE] = "UPDATE users SET generation = ?, sum = ? WHERE user = ?",

    [SQL_SESSION_FIND] =
        "SELECT " SESSION_COLUMNS ", s.data, s.data_sum FROM " SESSION_TABLES " WHERE s.id = ?",
    [SQL_SESSION_HEAD] = "SELECT " SESSION_COLUMNS " FROM " SESSION_TABLES " WHERE s.id = ?",
    [SQL_SESSION_INSERT] =
        "INSERT INTO sessions (id, user, user_generation, global_generation, created_at, "
        "authenticated_at, ends_at, seen_at, idle, version, hash, old_hash, old_until, sealed, "
        "rights, address, agent, sum, sweep_at, data, data_sum) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (id) DO NOTHING",
    /* Only what a change may change: none of it moves a row within an index but for the rare
     * user_generation. */
    [SQL_SESSION_UPDATE] =
        "UPDATE sessions SET user_generation = ?, authenticated_at = ?, ends_at = ?, "
        "seen_at = ?, version = ?, hash = ?, old_hash = ?, old_until = ?, sealed = ?, rights = ?, "
        "sum = ? WHERE id = ?",
    [SQL_SESSION_DATA] = "UPDATE sessions SET data = ?, data_sum = ? WHERE id = ?",
    [SQL_SESSION_SEEN] = "UPDATE sessions SET seen_at = ?, sum = ? WHERE id = ?",
    [SQL_SESSION_DELETE] = "DELETE FROM sessions WHERE id = ?",
    [SQL_SESSION_LIST] = "SELECT " SESSION_COLUMNS " FROM " SESSION_TABLES
                         " WHERE s.user = ? AND s.user_generation = ?"
                         " AND (s.created_at, s.id) < (?, ?)"
                         " ORDER BY s.created_at DESC, s.id DESC",
    /* Passes over most that are live; cr_record_judge has the last word. The order is that of the
     * index. */
    [SQL_SESSION_DEAD] = "SELECT " SESSION_COLUMNS " FROM " SESSION_TABLES
                         " WHERE s.user = ?1 AND (s.user_generation <> u.generation"
                         " OR s.global_generation <> m.global_generation"
                         " OR s.ends_at <= ?2 OR s.seen_at <= ?2 - s.idle)"
                         " ORDER BY s.user_generation DESC, s.created_at DESC, s.id DESC",

    [SQL_SWEEP_DUE] = "SELECT number, ends_at, seen_at, idle FROM sessions WHERE sweep_at <= ?"
                      " ORDER BY sweep_at LIMIT ?",
    [SQL_SWEEP_LATER] = "UPDATE sessions SET sweep_at = ? WHERE number = ?",
    [SQL_SWEEP_NUMBER] = "DELETE FROM sessions WHERE number = ?",
    [SQL_SWEEP_USER] = "DELETE FROM sessions WHERE number IN (SELECT number FROM sessions"
                       " WHERE user = ? AND user_generation < ? LIMIT ?)",
    /* Rows carry the global generation of when they were made, so those that carry an old one are
     * the first by number: looking at so many of the first finds them without an index. */
    [SQL_SWEEP_ALL] = "DELETE FROM sessions WHERE number IN (SELECT number FROM"
                      " (SELECT number, global_generation FROM sessions ORDER BY number LIMIT ?2)"
                      " WHERE global_generation < ?1)",

    [SQL_LOG_INSERT] =
        "INSERT INTO log (identity, kind, session, user, generation, reason, author, at, address,"
        " agent, created_at, seen_at, session_address, session_agent)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    [SQL_LOG_FIND] = "SELECT " LOG_COLUMNS " FROM log WHERE identity = ?",
    [SQL_LOG_READ] = "SELECT " LOG_COLUMNS " FROM log WHERE number >= ? ORDER BY number LIMIT ?",
    [SQL_LOG_LAST] = "SELECT " LOG_COLUMNS " FROM log ORDER BY number DESC LIMIT 1",
    [SQL_LOG_DELETE] = "DELETE FROM log WHERE number = ?",
    [SQL_LOG_ABOUT_SESSION] = "SELECT " LOG_COLUMNS " FROM log WHERE kind = 2 AND session = ?"
                              " ORDER BY number LIMIT 1",
    [SQL_LOG_ABOUT_USER] = "SELECT " LOG_COLUMNS " FROM log WHERE kind = 4 AND user = ?"
                           " AND generation > ? ORDER BY generation LIMIT 1",
    [SQL_LOG_ABOUT_ALL] = "SELECT " LOG_COLUMNS " FROM log WHERE kind = 5 AND generation > ?"
                          " ORDER BY generation LIMIT 1",
    [SQL_LOG_ROTATIONS] = "SELECT " LOG_COLUMNS " FROM log WHERE kind = 3 AND reason = 12"
                          " AND session = ? ORDER BY number DESC LIMIT ?",
    [SQL_LOG_ENDED] = "SELECT " LOG_COLUMNS " FROM log WHERE kind = 2 AND user = ? AND at > ?"
                      " ORDER BY number DESC LIMIT ?",

    [SQL_ENGINE_INSERT] = "INSERT INTO engines (identity, beat, position, lease, grace, label)"
                          " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (identity) DO NOTHING",
    [SQL_ENGINE_POLL] = "UPDATE engines SET beat = beat + 1, position = ?"
                        " WHERE identity = ? AND beat = ?",
    [SQL_ENGINE_LIST] = "SELECT identity, beat, position, lease, grace, label FROM engines",
    [SQL_ENGINE_DELETE] = "DELETE FROM engines WHERE identity = ? AND beat = ?",

    [SQL_KEYS] = "SELECT number, bytes, since FROM keys ORDER BY place",
    [SQL_KEY_INSERT] = "INSERT INTO keys (number, bytes, since, place)"
                       " VALUES (?, ?, ?, (SELECT max(place) + 1 FROM keys))",
    /* Rows of sessions are numbered in the order in which they are made, whatever the clock does. A
     * number may come again when its row was the last one: that keeps a key, and drops none. */
    [SQL_KEY_SETTLE] = "UPDATE keys SET sessions_to ="
                       " (SELECT coalesce(max(number), 0) FROM sessions)"
                       " WHERE sessions_to IS NULL AND EXISTS"
                       " (SELECT 1 FROM keys later WHERE later.place > keys.place"
                       " AND later.since <= ?)",
    [SQL_KEY_DROP] = "DELETE FROM keys WHERE sessions_to IS NOT NULL AND NOT EXISTS"
                     " (SELECT 1 FROM sessions WHERE number <= keys.sessions_to)",

    [SQL_ACCOUNT_FIND] = "SELECT " ACCOUNT_COLUMNS " FROM " ACCOUNT_TABLES " WHERE a.user = ?",
    [SQL_ACCOUNT_INSERT] = "INSERT INTO accounts (hash, disabled, created_at, password_at,"
                           " must_change, password_until, user) VALUES (?, ?, ?, ?, ?, ?, ?)",
    [SQL_ACCOUNT_UPDATE] = "UPDATE accounts SET hash = ?, disabled = ?, created_at = ?,"
                           " password_at = ?, must_change = ?, password_until = ? WHERE user = ?",
    [SQL_ACCOUNT_DELETE] = "DELETE FROM accounts WHERE user = ?",
    [SQL_ACCOUNT_LIST] = "SELECT " ACCOUNT_COLUMNS " FROM " ACCOUNT_TABLES
                         " WHERE a.user > ? ORDER BY a.user LIMIT ?",

    [SQL_RESET_INSERT] = "INSERT INTO resets (hash, user, until, sum) VALUES (?, ?, ?, ?)",
    [SQL_RESET_COUNT] = "SELECT count(*) FROM resets WHERE user = ? AND until > ?",
    [SQL_RESET_FIND] = "SELECT user, until, sum FROM resets WHERE hash = ?",
    [SQL_RESET_FORGET] = "DELETE FROM resets WHERE ?1 IS NULL OR user = ?1",
    [SQL_RESET_SWEEP] = "DELETE FROM resets WHERE hash IN"
                        " (SELECT hash FROM resets WHERE until <= ? LIMIT ?)",

    [SQL_LEASE_FIND] = "SELECT name, holder, fence, boot_id, until, label FROM leases"
                       " WHERE name = ?",
    [SQL_LEASE_PUT] = "INSERT OR REPLACE INTO leases (name, holder, fence, boot_id, until, label)"
                      " VALUES (?, ?, ?, ?, ?, ?)",

    [SQL_DEBT_PUT] = "INSERT OR REPLACE INTO debts (key, kind, user, address, boot_id, boot_at,"
                     " wall_at, left_0, left_1, left_2, left_3, boot_until, wall_until)"
                     " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    [SQL_DEBT_DELETE] = "DELETE FROM debts WHERE key = ?",
    [SQL_DEBT_FIND] = "SELECT " DEBT_COLUMNS " FROM debts WHERE key = ?",
    [SQL_DEBT_LIST] = "SELECT " DEBT_COLUMNS " FROM debts ORDER BY wall_until DESC, key LIMIT ?",
    [SQL_DEBT_FORGET] = "DELETE FROM debts WHERE (?1 IS NULL OR user = ?1)"
                        " AND (?2 IS NULL OR address = ?2)",
    [SQL_DEBT_SWEEP] = "DELETE FROM debts WHERE key IN (SELECT key FROM debts WHERE"
                       " wall_until <= ?1 AND (boot_id <> ?2 OR boot_until <= ?3) LIMIT ?4)",
};

enum cr_status cr_sqlite_status(int code)
{
    switch (code & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE:
        return CR_OK;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_FULL:
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
    case SQLITE_PERM:
        return CR_UNAVAILABLE;
    case SQLITE_IOERR:
        return CR_E_IO;
    case SQLITE_NOMEM:
        return CR_E_NO_MEMORY;
    default:
        /* Damage, and what only damage can cause: a constraint that does not hold, a column or a
         * table that is not there. Each statement was right when it was written. */
        return CR_E_CORRUPT;
    }
}

enum cr_status cr_sqlite_break(struct cr_sqlite *s, enum cr_status st)
{
    if (st != CR_OK && s->broken == CR_OK)
        s->broken = st;
    return st;
}

void cr_query_open(struct cr_query *query, struct cr_sqlite *s, enum cr_sql sql)
{
    *query = (struct cr_query){.sqlite = s, .code = SQLITE_OK};
    if (s->statements[sql] == NULL)
        query->code = sqlite3_prepare_v3(s->db, sql_texts[sql], -1, SQLITE_PREPARE_PERSISTENT,
                                         &s->statements[sql], NULL);
    query->statement = s->statements[sql];
}

/* ---- binding. The first failure is kept, and told by row or close. */

static void bound(struct cr_query *query, int code)
{
    if (query->code == SQLITE_OK)
        query->code = code;
}

void cr_query_bind_int(struct cr_query *query, int64_t value)
{
    if (query->code == SQLITE_OK)
        bound(query, sqlite3_bind_int64(query->statement, ++query->bound, value));
}

void cr_query_bind_uint(struct cr_query *query, uint64_t value)
{
    cr_query_bind_int(query, value > INT64_MAX ? INT64_MAX : (int64_t)value);
}

void cr_query_bind_blob(struct cr_query *query, const void *bytes, size_t count)
{
    if (query->code != SQLITE_OK)
        return;
    query->bound++;
    if (count == 0)
        bound(query, sqlite3_bind_null(query->statement, query->bound));
    else
        bound(query,
              sqlite3_bind_blob64(query->statement, query->bound, bytes, count, SQLITE_STATIC));
}

void cr_query_bind_text(struct cr_query *query, const char *text)
{
    if (query->code == SQLITE_OK)
        bound(query, sqlite3_bind_text(query->statement, ++query->bound, text, -1, SQLITE_STATIC));
}

void cr_query_bind_user(struct cr_query *query, const struct cr_user *user)
{
    cr_query_bind_blob(query, user->bytes, user->length);
}

/* ---- running */

enum cr_status cr_query_row(struct cr_query *query)
{
    query->column = 0;
    if (query->code == SQLITE_OK || query->code == SQLITE_ROW)
        query->code = sqlite3_step(query->statement);
    if (query->code == SQLITE_ROW)
        return CR_OK;
    if (query->code == SQLITE_DONE)
        return CR_NOT_FOUND;
    enum cr_status st = cr_sqlite_status(query->code);
    /* Also of a read: SQLite may have rolled back, and what follows would commit one by one. */
    return query->sqlite->store.in_batch ? cr_sqlite_break(query->sqlite, st) : st;
}

enum cr_status cr_query_close(struct cr_query *query, enum cr_status st)
{
    if (query->statement != NULL) {
        sqlite3_reset(query->statement);
        sqlite3_clear_bindings(query->statement);
        query->statement = NULL;
    }
    return st == CR_OK && query->is_bad ? CR_E_CORRUPT : st;
}

enum cr_status cr_query_change(struct cr_query *query)
{
    const struct cr_sqlite *s = query->sqlite;
    /* SQLite has rolled the batch back by itself: what is written now would stand alone, at once.
     */
    if (s->store.in_batch && s->broken != CR_OK && sqlite3_get_autocommit(s->db))
        return cr_query_close(query, s->broken);
    enum cr_status st = cr_query_row(query);
    CR_ASSERT(st != CR_OK); /* changes give no rows */
    return cr_query_close(query, st == CR_NOT_FOUND ? CR_OK : st);
}

/* ---- columns */

int64_t cr_query_int(struct cr_query *query)
{
    return sqlite3_column_int64(query->statement, query->column++);
}

uint64_t cr_query_uint(struct cr_query *query)
{
    int64_t value = cr_query_int(query);
    query->is_bad = query->is_bad || value < 0;
    return value < 0 ? 0 : (uint64_t)value;
}

size_t cr_query_blob(struct cr_query *query, void *out, size_t capacity)
{
    int column = query->column++;
    const void *bytes = sqlite3_column_blob(query->statement, column);
    size_t count = (size_t)sqlite3_column_bytes(query->statement, column);
    if (count > capacity) {
        query->is_bad = true;
        return 0;
    }
    if (count > 0 && bytes != NULL)
        memcpy(out, bytes, count);
    return bytes == NULL ? 0 : count;
}

void cr_query_bytes(struct cr_query *query, void *out, size_t count)
{
    size_t got = cr_query_blob(query, out, count);
    if (got != count)
        memset(out, 0, count);
    query->is_bad = query->is_bad || (got != 0 && got != count);
}

void cr_query_text(struct cr_query *query, char *out, size_t capacity)
{
    size_t count = cr_query_blob(query, out, capacity - 1);
    out[count] = '\0';
}

void cr_query_user(struct cr_query *query, struct cr_user *out)
{
    memset(out, 0, sizeof *out);
    out->length = (uint8_t)cr_query_blob(query, out->bytes, sizeof out->bytes);
}
