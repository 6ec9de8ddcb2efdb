/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The SQLite store: one file of one host, held by one engine. Owns handles and batches; the calls
 * are in sqlite_sessions.c, sqlite_endings.c and sqlite_others.c, the schema in sqlite_schema.c.
 *
 * Invariants: one connection writes, the others only read (query_only) and never checkpoint, since
 * checkpoints of two connections have raced in SQLite before 3.51.3. The lock (sqlite_lock.c) is
 * taken before the file is looked at. A commit is on the disk when it is answered
 * (synchronous=FULL).
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "store/sqlite.h"
#include "store/sqlite_copy.h"
#include "store/sqlite_lock.h"

/* Readers wait so long for a writer that restarts the log; nobody else is in anybody's way. */
#define BUSY_TIMEOUT_MS 5000
/* Each create touches a page anywhere in the index by user. */
#define WRITER_CACHE_KIB "-65536"
/* And the more of them are gathered before they are written home, the fewer are written twice: with
 * SQLite's own 1000, creates ran at a third. */
#define CHECKPOINT_PAGES "8000"

/* ---- batches */

static enum cr_status sqlite_run(struct cr_sqlite *s, enum cr_sql sql, int *out_code)
{
    struct cr_query query;
    cr_query_open(&query, s, sql);
    enum cr_status st = cr_query_change(&query);
    *out_code = query.code;
    return st;
}

static enum cr_status sqlite_begin(struct cr_store *store)
{
    struct cr_sqlite *s = cr_sqlite_of(store);
    int code;
    s->broken = CR_OK;
    return sqlite_run(s, SQL_BEGIN, &code);
}

static void sqlite_rollback(struct cr_store *store)
{
    struct cr_sqlite *s = cr_sqlite_of(store);
    int code;
    /* SQLite has often done it already; and what it cannot roll back it does not commit either. */
    if (!sqlite3_get_autocommit(s->db) && sqlite_run(s, SQL_ROLLBACK, &code) != CR_OK)
        CR_ASSERT(sqlite3_get_autocommit(s->db));
}

/* Deleted, or another file was moved into its place: what is written now is gone at the next start,
 * and what was ended may be back then. Putting it back in its place mends it. */
static bool file_has_moved(struct cr_sqlite *s)
{
    int moved = 0;
    return sqlite3_file_control(s->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved) == SQLITE_OK &&
           moved != 0;
}

static enum cr_status sqlite_commit(struct cr_store *store)
{
    struct cr_sqlite *s = cr_sqlite_of(store);
    int code;
    if (s->broken == CR_OK && file_has_moved(s))
        s->broken = CR_E_IO;
    if (s->broken != CR_OK) {
        sqlite_rollback(store);
        return s->broken;
    }
    enum cr_status st = sqlite_run(s, SQL_COMMIT, &code);
    if (st == CR_OK)
        return st;
    /* Still open: it was refused as a whole. */
    if (!sqlite3_get_autocommit(s->db)) {
        sqlite_rollback(store);
        return st;
    }
    /* What could not be written has no end, and an end is what makes a commit. But all of it may be
     * in the file when it was the disk's confirmation that failed: whether it counts shows when the
     * file is next opened after a crash. */
    if (code == SQLITE_FULL || code == SQLITE_IOERR_WRITE)
        return st;
    return CR_E_UNKNOWN_OUTCOME;
}

static enum cr_status sqlite_identity(struct cr_store *store, struct cr_ending_id *out)
{
    struct cr_meta meta;
    enum cr_status st = cr_sqlite_meta(cr_sqlite_of(store), &meta);
    if (st == CR_OK)
        *out = meta.identity;
    return st;
}

/* ---- handles */

static enum cr_status sqlite_reader(struct cr_store *store, struct cr_store **out_reader);

static void sqlite_destroy(struct cr_store *store)
{
    struct cr_sqlite *s = cr_sqlite_of(store);
    for (size_t i = 0; i < SQL_COUNT; i++)
        sqlite3_finalize(s->statements[i]);
    int code = sqlite3_close(s->db);
    CR_ASSERT(code == SQLITE_OK);
    if (s->lock_fd >= 0)
        close(s->lock_fd); /* last: from now on another engine may be in the file */
    free(s->path);
    free(s);
}

static const struct cr_store_ops sqlite_ops = {
    .name = "sqlite",
    .contract = CR_STORE_CONTRACT,
    .exclusive = true,
    .begin = sqlite_begin,
    .commit = sqlite_commit,
    .rollback = sqlite_rollback,
    .identity = sqlite_identity,
    .find = cr_sqlite_find,
    .create = cr_sqlite_create,
    .change = cr_sqlite_change,
    .seen = cr_sqlite_seen,
    .end = cr_sqlite_end,
    .end_user = cr_sqlite_end_user,
    .end_others = cr_sqlite_end_others,
    .end_all = cr_sqlite_end_all,
    .list = cr_sqlite_list,
    .list_dead = cr_sqlite_list_dead,
    .sweep = cr_sqlite_sweep,
    .log_read = cr_sqlite_log_read,
    .log_last = cr_sqlite_log_last,
    .log_find = cr_sqlite_log_find_call,
    .log_about = cr_sqlite_log_about,
    .log_rotations = cr_sqlite_log_rotations,
    .log_ended = cr_sqlite_log_ended_list,
    .engine_register = cr_sqlite_engine_register,
    .engine_poll = cr_sqlite_engine_poll,
    .engine_list = cr_sqlite_engine_list,
    .engine_remove = cr_sqlite_engine_remove,
    .keys = cr_sqlite_keys,
    .key_add = cr_sqlite_key_add,
    .account_find = cr_sqlite_account_find,
    .account_change = cr_sqlite_account_change,
    .account_list = cr_sqlite_account_list,
    .reset_add = cr_sqlite_reset_add,
    .reset_find = cr_sqlite_reset_find,
    .lease_take = cr_sqlite_lease_take,
    .lease_renew = cr_sqlite_lease_renew,
    .lease_give = cr_sqlite_lease_give,
    .lease_read = cr_sqlite_lease_read,
    .debt_put = cr_sqlite_debt_put,
    .debt_find = cr_sqlite_debt_find,
    .debt_list = cr_sqlite_debt_list,
    .debt_forget = cr_sqlite_debt_forget,
    .reader = sqlite_reader,
    .destroy = sqlite_destroy,
};

/* A handle without a connection. Takes `path` over, also when it fails. */
static enum cr_status handle_create(char *path, const struct cr_store_env *env,
                                    struct cr_sqlite **out_handle)
{
    struct cr_sqlite *s = calloc(1, sizeof *s);
    if (s == NULL || path == NULL) {
        free(s);
        free(path);
        return CR_E_NO_MEMORY;
    }
    enum cr_status st = cr_store_init(&s->store, &sqlite_ops);
    CR_ASSERT(st == CR_OK);
    s->env = *env;
    s->path = path;
    s->lock_fd = -1;
    *out_handle = s;
    return CR_OK;
}

/* What every connection is set to. Nothing is mapped: a file that somebody cuts short is to be an
 * error, not a signal. */
static enum cr_status connection_open(struct cr_sqlite *s)
{
    int code = sqlite3_open_v2(s->path, &s->db,
                               SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX |
                                   SQLITE_OPEN_PRIVATECACHE | SQLITE_OPEN_EXRESCODE,
                               NULL);
    if (code == SQLITE_OK)
        code = sqlite3_db_config(s->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_db_config(s->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_busy_timeout(s->db, BUSY_TIMEOUT_MS);
    if (code == SQLITE_OK)
        code = sqlite3_exec(s->db,
                            "PRAGMA mmap_size = 0; PRAGMA cell_size_check = ON;"
                            "PRAGMA foreign_keys = OFF; PRAGMA temp_store = MEMORY;"
                            "PRAGMA synchronous = FULL;",
                            NULL, NULL, NULL);
    return cr_sqlite_status(code);
}

static enum cr_status sqlite_reader(struct cr_store *store, struct cr_store **out_reader)
{
    const struct cr_sqlite *writer = cr_sqlite_of(store);
    struct cr_sqlite *s;
    enum cr_status st = handle_create(strdup(writer->path), &writer->env, &s);
    if (st != CR_OK)
        return st;
    st = connection_open(s);
    if (st == CR_OK)
        st = cr_sqlite_status(sqlite3_db_config(s->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL));
    if (st == CR_OK)
        st = cr_sqlite_status(sqlite3_exec(
            s->db, "PRAGMA wal_autocheckpoint = 0; PRAGMA query_only = ON;", NULL, NULL, NULL));
    if (st == CR_OK)
        *out_reader = &s->store;
    else
        sqlite_destroy(&s->store);
    return st;
}

enum cr_status cr_sqlite_corrupt(const struct cr_sqlite *s, struct cr_error *out_error)
{
    return cr_store_error(out_error, CR_E_CORRUPT,
                          "%s is not a store of Cloakroom, or it is damaged (%s). Restore it from "
                          "a backup, or move it and its -wal file away to start anew: everybody "
                          "then logs in again.",
                          s->path, sqlite3_errmsg(s->db));
}

static enum cr_status writer_error(const struct cr_sqlite *s, enum cr_status st,
                                   struct cr_error *out_error)
{
    if (st == CR_E_CORRUPT)
        return cr_sqlite_corrupt(s, out_error);
    return cr_store_error(out_error, st == CR_UNAVAILABLE ? CR_E_IO : st,
                          "%s cannot be opened: %s. File and directory must be writable for the "
                          "user that Cloakroom runs as, and the disk must have room.",
                          s->path, sqlite3_errmsg(s->db));
}

/* Only where nobody else's file can be meant any more: the mode is written into it. */
static enum cr_status wal_set(struct cr_sqlite *s)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(s->db, "PRAGMA journal_mode = WAL", -1, &statement, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_step(statement);
    bool is_wal =
        code == SQLITE_ROW && strcmp((const char *)sqlite3_column_text(statement, 0), "wal") == 0;
    sqlite3_finalize(statement);
    if (code == SQLITE_ROW && !is_wal)
        return CR_E_IO;
    return cr_sqlite_status(code);
}

/* What was ended since the copy was made is live in it, and a link that was spent is good: all of
 * it ends before anybody is let in. */
static enum cr_status copied_end(struct cr_sqlite *s)
{
    const struct cr_ending ending = {.reason = CR_REASON_EVERYBODY, .by = "the store was restored"};
    struct cr_log_row row;
    enum cr_status st = sqlite_begin(&s->store);
    if (st != CR_OK)
        return st;
    st = cr_sqlite_end_all(&s->store, &ending, &row);
    if (st == CR_OK)
        st = cr_sqlite_resets_forget(s, NULL);
    if (st == CR_OK)
        st = cr_sqlite_status(
            sqlite3_exec(s->db, "DROP TABLE " CR_SQLITE_COPY_MARK, NULL, NULL, NULL));
    if (st == CR_OK)
        return sqlite_commit(&s->store);
    sqlite_rollback(&s->store);
    return st;
}

static enum cr_status copied_look(struct cr_sqlite *s, bool *out_copied)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(
        s->db, "SELECT 1 FROM sqlite_schema WHERE name = '" CR_SQLITE_COPY_MARK "'", -1, &statement,
        NULL);
    if (code == SQLITE_OK)
        code = sqlite3_step(statement);
    *out_copied = code == SQLITE_ROW;
    sqlite3_finalize(statement);
    return code == SQLITE_ROW || code == SQLITE_DONE ? CR_OK : cr_sqlite_status(code);
}

static enum cr_status writer_open(struct cr_sqlite *s, struct cr_error *out_error)
{
    enum cr_status st = cr_sqlite_touch(s->path, out_error);
    if (st != CR_OK)
        return st;
    st = connection_open(s);
    if (st != CR_OK)
        return writer_error(s, st, out_error);
    st = cr_sqlite_schema(s, CR_SQLITE_VERSION, out_error);
    if (st != CR_OK)
        return st;
    st = wal_set(s);
    if (st == CR_OK)
        st = cr_sqlite_status(sqlite3_exec(s->db,
                                           "PRAGMA cache_size = " WRITER_CACHE_KIB ";"
                                           "PRAGMA wal_autocheckpoint = " CHECKPOINT_PAGES ";",
                                           NULL, NULL, NULL));
    if (st != CR_OK)
        return writer_error(s, st, out_error);
    /* So that giving up a batch never needs memory. */
    struct cr_query query;
    cr_query_open(&query, s, SQL_ROLLBACK);
    st = cr_query_close(&query, cr_sqlite_status(query.code));
    bool copied = false;
    if (st == CR_OK)
        st = copied_look(s, &copied);
    if (st == CR_OK && copied)
        st = copied_end(s);
    return st == CR_OK ? st : writer_error(s, st, out_error);
}

enum cr_status cr_store_sqlite_open(const char *path, const struct cr_store_env *env,
                                    struct cr_store **out_store, struct cr_error *out_error)
{
    char *real_path;
    struct cr_sqlite *s;
    enum cr_status st = cr_sqlite_path(path, &real_path, out_error);
    if (st != CR_OK)
        return st;
    st = handle_create(real_path, env, &s);
    if (st != CR_OK)
        return cr_store_error(out_error, st, "out of memory");
    st = cr_sqlite_is_local(s->path, out_error);
    if (st == CR_OK)
        st = cr_sqlite_lock(s->path, &s->lock_fd, out_error);
    if (st == CR_OK)
        st = writer_open(s, out_error);
    if (st == CR_OK)
        *out_store = &s->store;
    else
        sqlite_destroy(&s->store);
    return st;
}
