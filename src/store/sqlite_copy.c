/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/sqlite_lock.h"
#include "store/stores.h"

#define STEP_PAGES 256
#define BUSY_TIMEOUT_MS 5000

struct cr_sqlite_copy {
    char *from, *to, *partial, *directory;
    sqlite3 *source, *target;
    sqlite3_backup *backup;
    /* Of the partial file: locked against another copy, and open until SQLite is out of it, since
     * closing it would give up SQLite's own locks on the file. */
    int fd;
    uint64_t page_bytes;
    int finished; /* what SQLite said when the source was let go */
};

static enum cr_status no_memory(struct cr_error *out_error)
{
    return cr_store_error(out_error, CR_E_NO_MEMORY, "out of memory");
}

static enum cr_status system_error(struct cr_error *out_error, const char *path, int error)
{
    return cr_store_error(out_error, CR_E_IO, "%s cannot be written: %s", path, strerror(error));
}

static enum cr_status target_error(const struct cr_sqlite_copy *copy, int code,
                                   struct cr_error *out_error)
{
    if ((code & 0xff) == SQLITE_CORRUPT || (code & 0xff) == SQLITE_NOTADB)
        return cr_store_error(out_error, CR_E_CORRUPT, "%s is damaged: nothing was kept of it",
                              copy->from);
    return cr_store_error(out_error, CR_E_IO, "%s cannot be written: %s", copy->partial,
                          (code & 0xff) == SQLITE_FULL ? "the disk is full" : sqlite3_errstr(code));
}

static enum cr_status paths_make(struct cr_sqlite_copy *copy, const char *from, const char *to,
                                 struct cr_error *out_error)
{
    struct stat about;
    if (stat(from, &about) != 0)
        return cr_store_error(out_error, CR_E_INVALID, "%s: %s", from, strerror(errno));
    enum cr_status st = cr_sqlite_path(from, &copy->from, out_error);
    if (st == CR_OK)
        st = cr_sqlite_path(to, &copy->to, out_error);
    if (st != CR_OK)
        return st;
    if (lstat(copy->to, &about) == 0)
        return cr_store_error(out_error, CR_E_INVALID,
                              "%s is there already: name another file, or move it away", copy->to);
    if (asprintf(&copy->partial, "%s.partial", copy->to) < 0)
        copy->partial = NULL;
    copy->directory = strdup(copy->to);
    if (copy->partial == NULL || copy->directory == NULL)
        return no_memory(out_error);
    (void)dirname(copy->directory); /* shortens it in place: the path begins with a slash */
    return CR_OK;
}

/* Else it was locked when it was whole already and had gone to its place: a backup. */
static bool partial_is(const char *path, int fd)
{
    struct stat opened, named;
    return fstat(fd, &opened) == 0 && lstat(path, &named) == 0 && opened.st_dev == named.st_dev &&
           opened.st_ino == named.st_ino;
}

static enum cr_status partial_make(struct cr_sqlite_copy *copy, struct cr_error *out_error)
{
    int fd = open(copy->partial, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return system_error(out_error, copy->partial, errno);
    bool is_locked = flock(fd, LOCK_EX | LOCK_NB) == 0;
    int error = is_locked ? 0 : errno;
    if (is_locked && !partial_is(copy->partial, fd))
        error = EWOULDBLOCK;
    if (error != 0)
        close(fd);
    if (error == EWOULDBLOCK)
        return cr_store_error(out_error, CR_BUSY, "%s is being written by another process",
                              copy->partial);
    if (error != 0)
        return system_error(out_error, copy->partial, error);
    copy->fd = fd; /* from here on it is ours, and taken away */
    if (ftruncate(fd, 0) != 0 || fchmod(fd, 0600) != 0)
        return system_error(out_error, copy->partial, errno);
    return CR_OK;
}

static int connection_open(const char *path, sqlite3 **out_db)
{
    int code = sqlite3_open_v2(path, out_db,
                               SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX |
                                   SQLITE_OPEN_PRIVATECACHE | SQLITE_OPEN_EXRESCODE,
                               NULL);
    if (code == SQLITE_OK)
        code = sqlite3_db_config(*out_db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_busy_timeout(*out_db, BUSY_TIMEOUT_MS);
    return code;
}

static int number_ask(sqlite3 *db, const char *text, int64_t *out_number)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(db, text, -1, &statement, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_step(statement);
    if (code == SQLITE_ROW)
        *out_number = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return code == SQLITE_ROW ? SQLITE_OK : code == SQLITE_DONE ? SQLITE_CORRUPT : code;
}

/* One transaction for all of it: what is written meanwhile does not begin it anew. Never a
 * checkpoint, as all connections but the engine's. */
static enum cr_status source_open(struct cr_sqlite_copy *copy, struct cr_error *out_error)
{
    int64_t version = 0, page_bytes = 0;
    int code = connection_open(copy->from, &copy->source);
    if (code == SQLITE_OK)
        code = sqlite3_db_config(copy->source, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_exec(copy->source,
                            "PRAGMA mmap_size = 0; PRAGMA wal_autocheckpoint = 0;"
                            "PRAGMA query_only = ON; BEGIN;",
                            NULL, NULL, NULL);
    if (code == SQLITE_OK)
        code = number_ask(copy->source, "SELECT version FROM meta", &version);
    if (code == SQLITE_OK)
        code = number_ask(copy->source, "PRAGMA page_size", &page_bytes);
    copy->page_bytes = (uint64_t)page_bytes;
    if (code == SQLITE_OK)
        return CR_OK;
    return cr_store_error(
        out_error, CR_E_INVALID,
        "%s is not a store of Cloakroom, or cannot be read: %s. Run this as the "
        "user that the store belongs to.",
        copy->from, copy->source != NULL ? sqlite3_errmsg(copy->source) : sqlite3_errstr(code));
}

enum cr_status cr_sqlite_copy_begin(const char *from, const char *to,
                                    struct cr_sqlite_copy **out_copy, struct cr_error *out_error)
{
    struct cr_sqlite_copy *copy = calloc(1, sizeof *copy);
    if (copy == NULL)
        return no_memory(out_error);
    copy->fd = -1;
    enum cr_status st = paths_make(copy, from, to, out_error);
    if (st == CR_OK)
        st = source_open(copy, out_error);
    if (st == CR_OK)
        st = partial_make(copy, out_error);
    if (st == CR_OK) {
        int code = connection_open(copy->partial, &copy->target);
        /* What does not come to its end is thrown away as a whole. */
        if (code == SQLITE_OK)
            code = sqlite3_exec(copy->target, "PRAGMA journal_mode = OFF", NULL, NULL, NULL);
        if (code == SQLITE_OK) {
            copy->backup = sqlite3_backup_init(copy->target, "main", copy->source, "main");
            code = copy->backup != NULL ? SQLITE_OK : sqlite3_extended_errcode(copy->target);
        }
        st = code == SQLITE_OK ? CR_OK : target_error(copy, code, out_error);
    }
    if (st == CR_OK)
        *out_copy = copy;
    else
        cr_sqlite_copy_destroy(copy);
    return st;
}

enum cr_status cr_sqlite_copy_step(struct cr_sqlite_copy *copy, uint64_t *out_done,
                                   uint64_t *out_total, struct cr_error *out_error)
{
    int code = sqlite3_backup_step(copy->backup, STEP_PAGES);
    uint64_t total = (uint64_t)sqlite3_backup_pagecount(copy->backup) * copy->page_bytes;
    uint64_t left = (uint64_t)sqlite3_backup_remaining(copy->backup) * copy->page_bytes;
    if (code != SQLITE_OK && code != SQLITE_DONE && code != SQLITE_BUSY && code != SQLITE_LOCKED)
        return target_error(copy, code, out_error);
    /* All pages copied, but not yet committed, is not done. */
    *out_total = total;
    *out_done = code == SQLITE_DONE ? total : left > 0 ? total - left : total - copy->page_bytes;
    return CR_OK;
}

/* The mark, and a journal with which the file can be read where nothing can be written. */
static int target_mark(struct cr_sqlite_copy *copy, bool mark)
{
    int code = sqlite3_exec(copy->target,
                            "PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL;"
                            "BEGIN IMMEDIATE; DROP TABLE IF EXISTS " CR_SQLITE_COPY_MARK,
                            NULL, NULL, NULL);
    if (code == SQLITE_OK && mark)
        code = sqlite3_exec(copy->target,
                            "CREATE TABLE " CR_SQLITE_COPY_MARK " (at INTEGER NOT NULL) STRICT;"
                            "INSERT INTO " CR_SQLITE_COPY_MARK " VALUES (1000 * unixepoch())",
                            NULL, NULL, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_exec(copy->target, "COMMIT", NULL, NULL, NULL);
    return code;
}

static int target_check(struct cr_sqlite_copy *copy)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(copy->target, "PRAGMA quick_check(1)", -1, &statement, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_step(statement);
    if (code == SQLITE_ROW)
        code = strcmp((const char *)sqlite3_column_text(statement, 0), "ok") == 0 ? SQLITE_OK
                                                                                  : SQLITE_CORRUPT;
    sqlite3_finalize(statement);
    return code;
}

static enum cr_status place_take(struct cr_sqlite_copy *copy, struct cr_error *out_error)
{
    struct stat directory;
    enum cr_status st = CR_OK;
    int at = open(copy->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (at < 0)
        return system_error(out_error, copy->directory, errno);
    /* As root for somebody: else the agent could not open it. */
    bool handed_over =
        geteuid() != 0 ||
        (fstat(at, &directory) == 0 && fchown(copy->fd, directory.st_uid, directory.st_gid) == 0);
    if (!handed_over || fsync(copy->fd) != 0)
        st = system_error(out_error, copy->partial, errno);
    else if (renameat2(AT_FDCWD, copy->partial, AT_FDCWD, copy->to, RENAME_NOREPLACE) != 0)
        st = system_error(out_error, copy->to, errno);
    if (st == CR_OK) {
        free(copy->partial); /* nothing of that name is ours any more */
        copy->partial = NULL;
        if (fsync(at) != 0)
            st = system_error(out_error, copy->directory, errno);
    }
    close(at);
    return st;
}

void cr_sqlite_copy_release(struct cr_sqlite_copy *copy)
{
    if (copy->source == NULL)
        return;
    copy->finished = sqlite3_backup_finish(copy->backup);
    copy->backup = NULL;
    (void)sqlite3_close(copy->source);
    copy->source = NULL;
}

enum cr_status cr_sqlite_copy_finish(struct cr_sqlite_copy *copy, bool mark,
                                     struct cr_error *out_error)
{
    cr_sqlite_copy_release(copy);
    int code = copy->finished;
    if (code == SQLITE_OK)
        code = target_check(copy);
    if (code == SQLITE_OK)
        code = target_mark(copy, mark);
    if (code == SQLITE_OK)
        code = sqlite3_close(copy->target);
    if (code != SQLITE_OK)
        return target_error(copy, code, out_error);
    copy->target = NULL;
    return place_take(copy, out_error);
}

void cr_sqlite_copy_destroy(struct cr_sqlite_copy *copy)
{
    if (copy == NULL)
        return;
    (void)sqlite3_backup_finish(copy->backup);
    (void)sqlite3_close(copy->target);
    (void)sqlite3_close(copy->source);
    if (copy->fd >= 0) {
        if (copy->partial != NULL)
            (void)unlink(copy->partial);
        close(copy->fd);
    }
    free(copy->from);
    free(copy->to);
    free(copy->partial);
    free(copy->directory);
    free(copy);
}
