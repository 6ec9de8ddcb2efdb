/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The schema of the SQLite store, and how older ones are brought up to it. A new file is one of
 * version 0: it goes through every step, so each step is run whenever a store is made. A step, once
 * released, is never changed. meta.version is where it stands in every version to come.
 */
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "store/sqlite.h"

#define APPLICATION_ID "0x43726f6f" /* "Croo": what `file` can tell from */

/* What turns version N into N + 1. */
static const char *const steps[CR_SQLITE_VERSION] = {
    [0] =
        "PRAGMA application_id = " APPLICATION_ID ";"
        "CREATE TABLE meta ("
        " version INTEGER NOT NULL, identity BLOB NOT NULL, global_generation INTEGER NOT NULL,"
        " sum BLOB NOT NULL) STRICT;"
        "CREATE TABLE users ("
        " user BLOB PRIMARY KEY, generation INTEGER NOT NULL, sum BLOB NOT NULL)"
        " STRICT, WITHOUT ROWID;"
        /* user is NULL for an anonymous session. Data last: it may spill onto pages of its own. */
        "CREATE TABLE sessions ("
        " number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, user BLOB,"
        " user_generation INTEGER NOT NULL, global_generation INTEGER NOT NULL,"
        " created_at INTEGER NOT NULL, authenticated_at INTEGER NOT NULL,"
        " ends_at INTEGER NOT NULL, seen_at INTEGER NOT NULL, idle INTEGER NOT NULL,"
        " version INTEGER NOT NULL, hash BLOB NOT NULL, old_hash BLOB,"
        " old_until INTEGER NOT NULL, sealed BLOB, rights BLOB, address TEXT NOT NULL,"
        " agent TEXT NOT NULL, sum BLOB NOT NULL, sweep_at INTEGER NOT NULL, data BLOB,"
        " data_sum BLOB NOT NULL) STRICT;"
        "CREATE INDEX sessions_by_user ON sessions (user, user_generation, created_at, id)"
        " WHERE user IS NOT NULL;"
        "CREATE INDEX sessions_by_sweep ON sessions (sweep_at);"
        "CREATE TABLE log ("
        " number INTEGER PRIMARY KEY, identity BLOB NOT NULL UNIQUE, kind INTEGER NOT NULL,"
        " session TEXT, user BLOB, generation INTEGER NOT NULL, reason INTEGER NOT NULL,"
        " author TEXT NOT NULL, at INTEGER NOT NULL) STRICT;"
        "CREATE INDEX log_by_session ON log (session) WHERE kind = 2;"
        "CREATE INDEX log_by_user ON log (user, generation) WHERE kind = 4;"
        "CREATE INDEX log_by_all ON log (generation) WHERE kind = 5;"
        "CREATE TABLE engines ("
        " identity BLOB PRIMARY KEY, beat INTEGER NOT NULL, position INTEGER NOT NULL,"
        " lease INTEGER NOT NULL, grace INTEGER NOT NULL, label TEXT NOT NULL)"
        " STRICT, WITHOUT ROWID;"
        "CREATE TABLE keys (number INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT;"
        "CREATE TABLE accounts ("
        " user BLOB PRIMARY KEY, hash TEXT NOT NULL, disabled INTEGER NOT NULL,"
        " created_at INTEGER NOT NULL, password_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;",
    [1] = "CREATE TABLE leases ("
          " name TEXT PRIMARY KEY, holder BLOB NOT NULL, fence INTEGER NOT NULL,"
          " boot_id BLOB NOT NULL, until INTEGER NOT NULL, label TEXT NOT NULL)"
          " STRICT, WITHOUT ROWID;",
    /* Where an ending came from; when the session of one that is gone began and was last seen; and
     * the rotations of one session (kind and reason: of enum cr_log_kind, enum cr_reason). */
    [2] = "ALTER TABLE log ADD COLUMN address TEXT NOT NULL DEFAULT '';"
          "ALTER TABLE log ADD COLUMN agent TEXT NOT NULL DEFAULT '';"
          "ALTER TABLE log ADD COLUMN created_at INTEGER NOT NULL DEFAULT 0;"
          "ALTER TABLE log ADD COLUMN seen_at INTEGER NOT NULL DEFAULT 0;"
          "CREATE INDEX log_by_rotation ON log (session) WHERE kind = 3 AND reason = 12;",
    /* Spans from boot_at and from wall_at; the two untils are those of the longest. */
    [3] = "CREATE TABLE debts ("
          " key BLOB PRIMARY KEY, kind INTEGER NOT NULL, user BLOB, address TEXT NOT NULL,"
          " boot_id BLOB NOT NULL, boot_at INTEGER NOT NULL, wall_at INTEGER NOT NULL,"
          " left_0 INTEGER NOT NULL, left_1 INTEGER NOT NULL, left_2 INTEGER NOT NULL,"
          " left_3 INTEGER NOT NULL, boot_until INTEGER NOT NULL, wall_until INTEGER NOT NULL)"
          " STRICT, WITHOUT ROWID;"
          "CREATE INDEX debts_by_until ON debts (wall_until);"
          "CREATE INDEX debts_by_user ON debts (user) WHERE user IS NOT NULL;"
          "CREATE INDEX debts_by_address ON debts (address);",
    /* place: the order of keys, whatever their numbers. sessions_to: no session with a later number
     * has a token made with this key; NULL: that is not so yet. */
    [4] = "ALTER TABLE keys ADD COLUMN since INTEGER NOT NULL DEFAULT 0;"
          "ALTER TABLE keys ADD COLUMN place INTEGER NOT NULL DEFAULT 1;"
          "ALTER TABLE keys ADD COLUMN sessions_to INTEGER;",
    [5] = ("ALTER TABLE accounts ADD COLUMN must_change INTEGER NOT NULL DEFAULT 0;"
           "ALTER TABLE accounts ADD COLUMN password_until INTEGER NOT NULL DEFAULT 0;"),
    /* Links for a new password, by the hash of their token. */
    [6] = ("CREATE TABLE resets ("
           " hash BLOB PRIMARY KEY, user BLOB NOT NULL, until INTEGER NOT NULL, sum BLOB NOT NULL)"
           " STRICT, WITHOUT ROWID;"
           "CREATE INDEX resets_by_user ON resets (user);"
           "CREATE INDEX resets_by_until ON resets (until);"),
    /* Where the session of one that is gone was; and those of one user, in the order in which they
     * ended: no row but of a session that is ended by itself is in that index. */
    [7] = ("ALTER TABLE log ADD COLUMN session_address TEXT NOT NULL DEFAULT '';"
           "ALTER TABLE log ADD COLUMN session_agent TEXT NOT NULL DEFAULT '';"
           "CREATE INDEX log_by_owner ON log (user) WHERE kind = 2 AND user IS NOT NULL;"),
    /* Debts keep hashes of names; what is owed stays, and of the names nothing, not even in what is
     * free. */
    [8] = ("PRAGMA secure_delete = ON;"
           "UPDATE debts SET user = debt_name((SELECT identity FROM meta), user)"
           " WHERE user IS NOT NULL;"),
};

_Static_assert(CR_LOG_SESSION_CHANGED == 3 && CR_REASON_ROTATED == 12, "as the index has them");

static enum cr_status schema_run(struct cr_sqlite *s, const char *text)
{
    return cr_sqlite_status(sqlite3_exec(s->db, text, NULL, NULL, NULL));
}

/* One number that `text` asks for; *out_found false: no row. */
static enum cr_status schema_ask(struct cr_sqlite *s, const char *text, bool *out_found,
                                 int64_t *out_number)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(s->db, text, -1, &statement, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_step(statement);
    *out_found = code == SQLITE_ROW;
    *out_number = code == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : 0;
    sqlite3_finalize(statement);
    return cr_sqlite_status(code);
}

/* 0: an empty file. CR_E_CORRUPT: a database, but not one of ours. */
static enum cr_status version_read(struct cr_sqlite *s, int64_t *out_version)
{
    bool found;
    int64_t count = 0;
    *out_version = 0;
    enum cr_status st = schema_ask(s, "SELECT count(*) FROM sqlite_schema", &found, &count);
    if (st != CR_OK || count == 0)
        return st;
    st = schema_ask(s, "SELECT version FROM meta", &found, out_version);
    if (st == CR_OK && (!found || *out_version < 1))
        st = CR_E_CORRUPT;
    return st;
}

/* The rows that a new store has: who it is, one key, and the first row of the log. */
static enum cr_status rows_first(struct cr_sqlite *s)
{
    struct cr_ending_id identity;
    unsigned char key[CR_KEY_BYTES];
    sqlite3_stmt *statement = NULL;
    struct cr_ending_id first;
    enum cr_status st = cr_random_fill(s->env.random, &identity, sizeof identity);
    if (st == CR_OK)
        st = cr_random_fill(s->env.random, key, sizeof key);
    if (st == CR_OK)
        st = cr_random_fill(s->env.random, &first, sizeof first);
    if (st != CR_OK)
        goto out;
    st = cr_sqlite_status(
        sqlite3_prepare_v2(s->db, "INSERT INTO meta VALUES (0, ?, 1, x'')", -1, &statement, NULL));
    if (st != CR_OK)
        goto out;
    sqlite3_bind_blob(statement, 1, identity.bytes, sizeof identity.bytes, SQLITE_STATIC);
    st = cr_sqlite_status(sqlite3_step(statement));
    sqlite3_finalize(statement);
    if (st == CR_OK)
        st = cr_sqlite_status(
            sqlite3_prepare_v2(s->db, "INSERT INTO keys VALUES (1, ?)", -1, &statement, NULL));
    if (st != CR_OK)
        goto out;
    sqlite3_bind_blob(statement, 1, key, sizeof key, SQLITE_STATIC);
    st = cr_sqlite_status(sqlite3_step(statement));
    sqlite3_finalize(statement);
    /* By the columns that version 1 has. */
    if (st == CR_OK)
        st = cr_sqlite_status(
            sqlite3_prepare_v2(s->db,
                               "INSERT INTO log (identity, kind, generation, reason, author, at)"
                               " VALUES (?, 1, 0, 0, '', ?)",
                               -1, &statement, NULL));
    if (st != CR_OK)
        goto out;
    sqlite3_bind_blob(statement, 1, first.bytes, sizeof first.bytes, SQLITE_STATIC);
    sqlite3_bind_int64(statement, 2, cr_sqlite_now(s));
    st = cr_sqlite_status(sqlite3_step(statement));
    sqlite3_finalize(statement);
out:
    cr_bytes_wipe(key, sizeof key);
    return st;
}

/* The meta row is summed, so its version is not changed by SQL alone. */
static enum cr_status version_write(struct cr_sqlite *s, int version)
{
    struct cr_meta meta = {0};
    struct cr_sum sum;
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(s->db, "SELECT identity, global_generation FROM meta", -1,
                                  &statement, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_step(statement);
    if (code == SQLITE_ROW &&
        sqlite3_column_bytes(statement, 0) == (int)sizeof meta.identity.bytes) {
        memcpy(meta.identity.bytes, sqlite3_column_blob(statement, 0), sizeof meta.identity.bytes);
        meta.global_generation = (uint64_t)sqlite3_column_int64(statement, 1);
    }
    sqlite3_finalize(statement);
    if (code != SQLITE_ROW)
        return cr_sqlite_status(code);
    cr_sqlite_sum_meta(version, &meta.identity, meta.global_generation, &sum);
    code = sqlite3_prepare_v2(s->db, "UPDATE meta SET version = ?, sum = ?", -1, &statement, NULL);
    if (code != SQLITE_OK)
        return cr_sqlite_status(code);
    sqlite3_bind_int(statement, 1, version);
    sqlite3_bind_blob(statement, 2, sum.bytes, sizeof sum.bytes, SQLITE_STATIC);
    code = sqlite3_step(statement);
    sqlite3_finalize(statement);
    return cr_sqlite_status(code);
}

/* Since when the first key of a new store is used; of an older store nobody knows. */
static enum cr_status key_date(struct cr_sqlite *s)
{
    char text[64];
    (void)snprintf(text, sizeof text, "UPDATE keys SET since = %lld", (long long)cr_sqlite_now(s));
    return schema_run(s, text);
}

/* debt_name(identity, user), for a step; NULL of what is neither. */
static void debt_name(sqlite3_context *context, int count, sqlite3_value **values)
{
    struct cr_ending_id identity;
    struct cr_user user = {0}, name;
    const void *key = sqlite3_value_blob(values[0]), *bytes = sqlite3_value_blob(values[1]);
    int length = sqlite3_value_bytes(values[1]);
    if (key == NULL || bytes == NULL || length < 1 || length > CR_USER_BYTES_MAX ||
        sqlite3_value_bytes(values[0]) != (int)sizeof identity.bytes)
        return;
    memcpy(identity.bytes, key, sizeof identity.bytes);
    memcpy(user.bytes, bytes, (size_t)length);
    user.length = (unsigned char)length;
    cr_debt_name(&identity, &user, &name);
    sqlite3_result_blob(context, name.bytes, name.length, SQLITE_TRANSIENT);
}

/* Within one transaction: all steps, or none. */
static enum cr_status steps_run(struct cr_sqlite *s, int64_t from, int to)
{
    enum cr_status st = cr_sqlite_status(sqlite3_create_function(
        s->db, "debt_name", 2, SQLITE_UTF8 | SQLITE_DIRECTONLY, NULL, debt_name, NULL, NULL));
    if (st == CR_OK)
        st = schema_run(s, "BEGIN IMMEDIATE");
    if (st != CR_OK)
        return st;
    for (int64_t version = from; st == CR_OK && version < to; version++) {
        st = schema_run(s, steps[version]);
        if (st == CR_OK && version == 0)
            st = rows_first(s);
    }
    if (st == CR_OK && from == 0 && to >= 3)
        st = key_date(s);
    if (st == CR_OK)
        st = version_write(s, to);
    if (st == CR_OK)
        st = schema_run(s, "COMMIT");
    if (st != CR_OK && !sqlite3_get_autocommit(s->db)) {
        enum cr_status undone = schema_run(s, "ROLLBACK");
        (void)undone; /* what is not committed is given up with the connection too */
    }
    return st;
}

enum cr_status cr_sqlite_schema(struct cr_sqlite *s, int version, struct cr_error *out_error)
{
    CR_ASSERT(version >= 1 && version <= CR_SQLITE_VERSION);
    int64_t found;
    enum cr_status st = version_read(s, &found);
    if (st == CR_E_CORRUPT)
        return cr_sqlite_corrupt(s, out_error);
    if (st != CR_OK)
        goto out;
    if (found > version)
        return cr_store_error(out_error, CR_E_VERSION,
                              "%s has schema version %lld; this program knows versions up to %d. "
                              "Run the newer program that made it.",
                              s->path, (long long)found, version);
    if (found < version)
        st = steps_run(s, found, version);
out:
    if (st != CR_OK)
        return cr_store_error(out_error, st,
                              "%s: the schema cannot be read or brought to version %d: %s", s->path,
                              version, sqlite3_errmsg(s->db));
    return st;
}
