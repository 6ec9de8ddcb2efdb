/* SPDX-License-Identifier: Apache-2.0 */
/* What only the SQLite store promises: its file, its lock, its schema, and what a full disk does.
 */
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "contract.h"
#include "files.h"
#include "store/sqlite.h"
#include "store/sqlite_lock.h"

static struct scratch scratch;

/* Runs constant SQL on the file, from outside the store. */
static bool run_sql(const char *text)
{
    sqlite3 *db = NULL;
    bool done = CHECK_INT(sqlite3_open(scratch.path, &db), SQLITE_OK) &&
                CHECK_INT(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    return done;
}

/* ---- the file */

static void what_was_committed_is_there_after_a_restart(void)
{
    struct fixture f;
    struct cr_error error;
    struct cr_ending_id before, after;
    struct cr_log_row row;
    if (!scratch_begin(&f, &scratch))
        return;
    CHECK_STATUS(cr_store_identity(f.store, &before), CR_OK);
    struct cr_session_id live = session_for(&f, "anna"), ended = session_for(&f, "bert");
    struct cr_user bert = user_named("bert");
    struct cr_ending ending = ending_for(&f, CR_REASON_ADMIN);
    CHECK_STATUS(cr_store_end_user(f.store, &bert, &ending, &row), CR_OK);
    store_close(&f);
    if (!CHECK_STATUS(scratch_reopen(&f, &scratch, &error), CR_OK))
        return;
    CHECK_STATUS(cr_store_identity(f.store, &after), CR_OK);
    CHECK_MEM(&after, &before, sizeof after);
    CHECK(is_live(&f, &live));
    CHECK_INT(dead_for(&f, &ended), CR_REASON_ADMIN);
    CHECK_UINT(log_count(&f), 2);
    scratch_end(&f, &scratch);
}

/* H3 */
static void the_files_are_their_owners_only(void)
{
    static const char *const suffixes[] = {"", "-wal", "-shm", "-lock"};
    struct fixture f;
    mode_t mask = umask(0);
    if (!scratch_begin(&f, &scratch))
        return;
    (void)session_for(&f, "anna");
    for (size_t i = 0; i < 4; i++) {
        struct stat about = {0};
        tap_row(suffixes[i]);
        CHECK_INT(stat(scratch_beside(&scratch, suffixes[i]), &about), 0);
        CHECK_UINT(about.st_mode & 0777, 0600);
    }
    umask(mask);
    scratch_end(&f, &scratch);
}

/* H8: quotes and comments in every text are text. */
static void no_input_is_taken_for_sql(void)
{
    static const char evil[] = "'; DROP TABLE sessions; --\"\\%_";
    struct fixture f;
    struct cr_record found;
    struct cr_log_rows rows = {0};
    struct cr_log_row row;
    if (!scratch_begin(&f, &scratch))
        return;
    struct cr_record record = record_for(&f, evil);
    memcpy(record.address, evil, sizeof evil);
    memcpy(record.agent, evil, sizeof evil);
    CHECK_STATUS(cr_store_create(f.store, &record, NULL, &rows), CR_OK);
    CHECK_STATUS(cr_store_find(f.store, &record.id, &found), CR_OK);
    CHECK_STR(found.agent, evil);
    struct cr_user user = user_named(evil), wild = user_named("%");
    struct cr_ending ending = ending_for(&f, CR_REASON_ADMIN);
    memcpy(ending.by, evil, sizeof evil);
    CHECK_STATUS(cr_store_end_user(f.store, &wild, &ending, &row), CR_UNKNOWN_USER);
    CHECK_STATUS(cr_store_end_user(f.store, &user, &ending, &row), CR_OK);
    CHECK_STATUS(cr_store_log_last(f.store, &row), CR_OK);
    CHECK_STR(row.by, evil);
    scratch_end(&f, &scratch);
}

static void a_reader_sees_nothing_of_an_open_batch_and_writes_nothing(void)
{
    struct fixture f;
    struct cr_store *reader;
    struct cr_record found;
    if (!scratch_begin(&f, &scratch))
        return;
    CHECK_STATUS(cr_store_reader(f.store, &reader), CR_OK);
    CHECK_STATUS(cr_store_begin(f.store), CR_OK);
    struct cr_session_id id = session_for(&f, "anna");
    CHECK_STATUS(cr_store_find(reader, &id, &found), CR_NOT_FOUND);
    CHECK_STATUS(cr_store_commit(f.store), CR_OK);
    CHECK_STATUS(cr_store_find(reader, &id, &found), CR_OK);
    sqlite3 *db = cr_sqlite_of(reader)->db;
    CHECK_INT(sqlite3_exec(db, "DELETE FROM sessions", NULL, NULL, NULL), SQLITE_READONLY);
    cr_store_destroy(reader);
    struct stat about;
    CHECK_INT(stat(scratch_beside(&scratch, "-wal"), &about), 0);
    CHECK(about.st_size > 0);
    scratch_end(&f, &scratch);
}

/* What were committed there would be gone at the next start, and the ended ones back. */
static void a_file_that_was_moved_away_takes_no_commit_until_it_is_back(void)
{
    struct fixture f;
    struct cr_log_row row;
    char away[PATH_MAX];
    if (!scratch_begin(&f, &scratch))
        return;
    struct cr_user anna = user_named("anna");
    struct cr_session_id id = session_for(&f, "anna");
    struct cr_ending ending = ending_for(&f, CR_REASON_ADMIN);
    (void)snprintf(away, sizeof away, "%s", scratch_beside(&scratch, "-away"));
    CHECK_INT(rename(scratch.path, away), 0);
    tap_row("moved away");
    CHECK_STATUS(cr_store_end_user(f.store, &anna, &ending, &row), CR_E_IO);
    int other = open(scratch.path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    CHECK(other >= 0);
    close(other);
    tap_row("another in its place");
    CHECK_STATUS(cr_store_end_user(f.store, &anna, &ending, &row), CR_E_IO);
    CHECK(is_live(&f, &id));
    CHECK_INT(rename(away, scratch.path), 0);
    tap_row("back");
    CHECK_STATUS(cr_store_end_user(f.store, &anna, &ending, &row), CR_OK);
    scratch_end(&f, &scratch);
}

/* R14: a lease is of the boot that it was taken in. */
static void a_new_boot_voids_all_leases_and_no_fence(void)
{
    struct fixture f;
    struct cr_error error;
    if (!scratch_begin(&f, &scratch))
        return;
    struct cr_lease_row a = {.name = "nightly", .holder = {{1}}}, b = a;
    b.holder.bytes[0] = 2;
    CHECK_STATUS(cr_store_lease_take(f.store, &a, 15000), CR_OK);
    store_close(&f);
    if (!CHECK_STATUS(scratch_reopen(&f, &scratch, &error), CR_OK))
        return;
    CHECK_STATUS(cr_store_lease_take(f.store, &b, 15000), CR_BUSY);
    store_close(&f);
    f.env.boot_id[0] = 2;
    f.clock.now_boot = 1;
    if (!CHECK_STATUS(scratch_reopen(&f, &scratch, &error), CR_OK))
        return;
    CHECK_STATUS(cr_store_lease_renew(f.store, &a, 15000), CR_LOST);
    b.holder.bytes[0] = 2;
    CHECK_STATUS(cr_store_lease_take(f.store, &b, 15000), CR_OK);
    CHECK_UINT(b.fence, 2);
    scratch_end(&f, &scratch);
}

/* ---- what is refused */

static void a_path_that_cannot_be_a_store_is_refused_with_its_name(void)
{
    static const struct {
        const char *url, *says;
        enum cr_status want;
    } cases[] = {
        {"sqlite:///proc/store.db", "/proc/store.db", CR_E_IO},
        {"sqlite:///nowhere/at/all/store.db", "/nowhere/at/all", CR_E_IO},
        {"sqlite:///etc/passwd/store.db", "/etc/passwd", CR_E_IO},
        {"sqlite:///tmp", "/tmp", CR_E_IO},
        {"sqlite:store.db", "sqlite:///PATH", CR_E_INVALID},
        {"sqlite://", "sqlite:///PATH", CR_E_INVALID},
        {"mysql://secret@host/", "\"mysql\"", CR_E_INVALID},
        {"", "sqlite:///PATH", CR_E_INVALID},
        {"fault:plan", "PLANFILE,URL", CR_E_INVALID},
        {"fault:plan,nothing:", "\"nothing\"", CR_E_INVALID},
    };
    struct fixture f;
    if (!scratch_begin(&f, &scratch))
        return;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct cr_error error = {.size = sizeof error};
        struct cr_store *store;
        tap_row(cases[i].url);
        CHECK_STATUS(cr_store_open(cases[i].url, &f.env, &store, &error), cases[i].want);
        CHECK_STATUS(error.status, cases[i].want);
        if (!CHECK(strstr(error.text, cases[i].says) != NULL))
            tap_note("%s", error.text);
        CHECK(strstr(error.text, "secret") == NULL);
    }
    scratch_end(&f, &scratch);
}

static void a_file_that_is_no_store_is_refused_and_left_alone(void)
{
    static const char *const texts[] = {
        "This is a text, and not a short one. It was never a database of anything at all.",
        NULL, /* a database, but not ours */
    };
    struct fixture f;
    struct cr_error error;
    if (!scratch_begin(&f, &scratch))
        return;
    for (size_t i = 0; i < 2; i++) {
        size_t size, size_after;
        store_close(&f);
        unlink(scratch.path);
        if (texts[i] != NULL)
            file_write(scratch.path, texts[i], strlen(texts[i]));
        else
            run_sql("CREATE TABLE t (x)");
        char *before = file_read(scratch.path, &size);
        CHECK_STATUS(scratch_reopen(&f, &scratch, &error), CR_E_CORRUPT);
        CHECK(strstr(error.text, scratch.path) != NULL);
        CHECK(strstr(error.text, "backup") != NULL);
        char *after = file_read(scratch.path, &size_after);
        CHECK_UINT(size_after, size);
        CHECK_MEM(after, before, size);
        free(before);
        free(after);
    }
    scratch_end(&f, &scratch);
}

static void a_newer_schema_is_refused_with_both_numbers(void)
{
    struct fixture f;
    struct cr_error error;
    if (!scratch_begin(&f, &scratch))
        return;
    store_close(&f);
    run_sql("UPDATE meta SET version = 97");
    CHECK_STATUS(scratch_reopen(&f, &scratch, &error), CR_E_VERSION);
    CHECK(strstr(error.text, " 97") != NULL);
    char known[32];
    snprintf(known, sizeof known, "up to %d", CR_SQLITE_VERSION);
    CHECK(strstr(error.text, known) != NULL);
    scratch_end(&f, &scratch);
}

/* CR-106 */
static void file_systems_of_other_hosts_are_told_from_local_ones(void)
{
    static const struct {
        const char *name;
        long type;
        bool is_local;
    } types[] = {
        {"ext4", 0xef53, true},
        {"xfs", 0x58465342, true},
        {"btrfs", 0x9123683e, true},
        {"tmpfs", 0x01021994, true},
        {"overlayfs", 0x794c7630, true},
        {"zfs", 0x2fc12fc1, true},
        {"nfs", 0x6969, false},
        {"cifs", 0xff534d42, false},
        {"smb2", 0xfe534d42, false},
        {"9p", 0x01021997, false},
        {"fuse", 0x65735546, false},
        {"ceph", 0x00c36400, false},
        {"afs", 0x5346414f, false},
        {"cifs, as a negative number", (long)(int)0xff534d42, false},
    };
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        tap_row(types[i].name);
        CHECK_INT(cr_sqlite_type_is_local(types[i].type), types[i].is_local);
    }
}

/* ---- the schema */

/* A file as version 1 made it, with one session. */
static struct cr_session_id version_1_make(struct fixture *f)
{
    struct cr_sqlite old = {.env = f->env, .path = scratch.path, .lock_fd = -1};
    struct cr_record record = record_for(f, "anna");
    const struct cr_create_terms terms = {0};
    struct cr_log_rows rows = {0};
    record.version = 1;
    CHECK_INT(sqlite3_open(scratch.path, &old.db), SQLITE_OK);
    CHECK_STATUS(cr_sqlite_schema(&old, 1, NULL), CR_OK);
    CHECK_STATUS(cr_sqlite_create(&old.store, &record, &terms, &rows), CR_OK);
    for (size_t i = 0; i < SQL_COUNT; i++)
        sqlite3_finalize(old.statements[i]);
    CHECK_INT(sqlite3_exec(old.db, "SELECT * FROM leases", NULL, NULL, NULL), SQLITE_ERROR);
    CHECK_INT(sqlite3_close(old.db), SQLITE_OK);
    return record.id;
}

static void an_older_schema_is_upgraded_and_keeps_what_it_has(void)
{
    struct fixture f;
    struct cr_error error;
    struct cr_lease_row lease = {.name = "a lease", .holder = {{1}}};
    struct cr_log_rows rows = {0};
    struct cr_key keys[64];
    struct cr_user anna = user_named("anna");
    size_t count;
    if (!scratch_begin(&f, &scratch))
        return;
    store_close(&f);
    unlink(scratch.path);
    struct cr_session_id id = version_1_make(&f);
    for (size_t i = 0; i < 2; i++) {
        if (!CHECK_STATUS(scratch_reopen(&f, &scratch, &error), CR_OK)) {
            tap_note("%s", error.text);
            return;
        }
        CHECK(is_live(&f, &id));
        CHECK_STATUS(cr_store_keys(f.store, keys, 64, &count), CR_OK);
        CHECK_UINT(count, 1);
        CHECK_UINT(log_count(&f), 1);
        CHECK_STATUS(cr_store_lease_take(f.store, &lease, 1000), CR_OK);
        CHECK_UINT(lease.fence, i + 1);
        CHECK_STATUS(cr_store_log_rotations(f.store, &id, 1, &rows), CR_OK);
        CHECK_STATUS(cr_store_log_ended(f.store, &anna, 1, &rows), CR_OK);
        store_close(&f);
    }
    scratch_end(&f, &scratch);
}

/* Every step of a statement's plan, as SQLite tells it, one a line. */
static void plan_read(struct cr_sqlite *s, enum cr_sql sql, char *out, size_t capacity)
{
    char text[4096];
    sqlite3_stmt *plan = NULL;
    out[0] = '\0';
    if (!CHECK(s->statements[sql] != NULL))
        return;
    (void)snprintf(text, sizeof text, "EXPLAIN QUERY PLAN %s", sqlite3_sql(s->statements[sql]));
    CHECK_INT(sqlite3_prepare_v2(s->db, text, -1, &plan, NULL), SQLITE_OK);
    while (sqlite3_step(plan) == SQLITE_ROW) {
        size_t used = strlen(out);
        (void)snprintf(out + used, capacity - used, "%s\n", sqlite3_column_text(plan, 3));
    }
    sqlite3_finalize(plan);
}

/* However many rows of others there are, and however many of the user's that are not asked for. */
static void what_ended_is_looked_up_by_index_in_its_order(void)
{
    struct fixture f;
    struct cr_log_rows rows = {0};
    struct cr_record dead;
    struct cr_user anna = user_named("anna");
    char plan[1024];
    size_t count;
    if (!scratch_begin(&f, &scratch))
        return;
    struct cr_sqlite *s = cr_sqlite_of(f.store);
    CHECK_STATUS(cr_store_list_dead(f.store, &anna, &dead, 1, &count), CR_OK);
    CHECK_STATUS(cr_store_log_ended(f.store, &anna, 1, &rows), CR_OK);
    static const struct {
        enum cr_sql sql;
        const char *step;
    } plans[] = {
        {SQL_SESSION_DEAD, "SEARCH s USING INDEX sessions_by_user (user=?)"},
        {SQL_LOG_ENDED, "SEARCH log USING INDEX log_by_owner (user=?)"},
    };
    for (size_t i = 0; i < 2; i++) {
        tap_row(plans[i].step);
        plan_read(s, plans[i].sql, plan, sizeof plan);
        if (!CHECK(strstr(plan, plans[i].step) != NULL && strstr(plan, "B-TREE") == NULL))
            tap_note("%s", plan);
    }
    cr_log_rows_fini(&rows);
    scratch_end(&f, &scratch);
}

/* H5. Version 6 had the names in them. */
static void an_upgrade_keeps_what_is_owed_and_not_the_names(void)
{
    struct fixture f;
    struct cr_error error;
    struct cr_ending_id identity;
    struct cr_user user = user_named("a password, typed too early"), name;
    struct cr_debt_row row = {.key = {7}, .kind = 1, .user = user, .left = {60000, 90000}}, read;
    size_t size;
    if (!scratch_begin(&f, &scratch))
        return;
    store_close(&f);
    unlink(scratch.path);
    struct cr_sqlite old = {.env = f.env, .path = scratch.path, .lock_fd = -1};
    CHECK_INT(sqlite3_open(scratch.path, &old.db), SQLITE_OK);
    CHECK_STATUS(cr_sqlite_schema(&old, 6, NULL), CR_OK);
    for (unsigned char i = 0; i < 200; i++) { /* several pages of them */
        row.key[1] = i;
        CHECK_STATUS(cr_sqlite_debt_put(&old.store, &row, 1), CR_OK);
    }
    for (size_t i = 0; i < SQL_COUNT; i++)
        sqlite3_finalize(old.statements[i]);
    CHECK_INT(sqlite3_close(old.db), SQLITE_OK);
    char *bytes = file_read(scratch.path, &size);
    CHECK(memmem(bytes, size, user.bytes, user.length) != NULL);
    free(bytes);

    if (!CHECK_STATUS(scratch_reopen(&f, &scratch, &error), CR_OK)) {
        tap_note("%s", error.text);
        return;
    }
    CHECK_STATUS(cr_store_identity(f.store, &identity), CR_OK);
    cr_debt_name(&identity, &user, &name);
    CHECK_STATUS(cr_store_debt_find(f.store, row.key, &read), CR_OK);
    CHECK_INT(read.left[0], 60000);
    CHECK_INT(read.left[1], 90000);
    CHECK(cr_user_equal(&read.user, &name));
    CHECK_STATUS(cr_store_debt_forget(f.store, &name, NULL), CR_OK);
    CHECK_STATUS(cr_store_debt_find(f.store, row.key, &read), CR_NOT_FOUND);
    store_close(&f);
    bytes = file_read(scratch.path, &size);
    CHECK(memmem(bytes, size, user.bytes, user.length) == NULL);
    free(bytes);
    if (CHECK_STATUS(scratch_reopen(&f, &scratch, &error), CR_OK))
        scratch_end(&f, &scratch);
}

static void an_upgrade_that_fails_changes_nothing(void)
{
    struct fixture f;
    struct cr_error error;
    if (!scratch_begin(&f, &scratch))
        return;
    store_close(&f);
    unlink(scratch.path);
    struct cr_session_id id = version_1_make(&f);
    run_sql("CREATE TABLE leases (in_the_way)");
    CHECK(scratch_reopen(&f, &scratch, &error) != CR_OK);
    CHECK(strstr(error.text, scratch.path) != NULL);
    run_sql("DROP TABLE leases");
    if (CHECK_STATUS(scratch_reopen(&f, &scratch, &error), CR_OK))
        CHECK(is_live(&f, &id));
    scratch_end(&f, &scratch);
}

/* ---- the lock */

/* A process that holds the store, and says so on the pipe. */
static pid_t holder_start(struct fixture *f, int *out_pipe)
{
    int ends[2];
    if (!CHECK_INT(pipe(ends), 0))
        return -1;
    pid_t pid = fork();
    if (pid == 0) {
        struct cr_error error;
        char said = scratch_reopen(f, &scratch, &error) == CR_OK ? 'y' : 'n';
        if (write(ends[1], &said, 1) == 1)
            pause();
        _exit(0);
    }
    close(ends[1]);
    *out_pipe = ends[0];
    char said = 0;
    CHECK_INT(read(ends[0], &said, 1), 1);
    CHECK_INT(said, 'y');
    return pid;
}

static void a_second_engine_is_refused_while_the_first_lives(void)
{
    struct fixture f;
    struct cr_error error;
    struct cr_store *store;
    char says[64], link_path[340], link_url[360];
    int held = -1;
    if (!scratch_begin(&f, &scratch))
        return;

    tap_row("in this process, and by another name");
    CHECK_STATUS(cr_store_open(scratch.url, &f.env, &store, &error), CR_BUSY);
    snprintf(says, sizeof says, "held by process %ld", (long)getpid());
    CHECK(strstr(error.text, says) != NULL);
    snprintf(link_path, sizeof link_path, "%s/link.db", scratch.dir);
    snprintf(link_url, sizeof link_url, "sqlite://%s", link_path);
    CHECK_INT(symlink(scratch.path, link_path), 0);
    CHECK_STATUS(cr_store_open(link_url, &f.env, &store, &error), CR_BUSY);
    CHECK_INT(unlink(link_path), 0);
    CHECK_INT(symlink("not-yet.db", link_path), 0);
    CHECK_STATUS(cr_store_open(link_url, &f.env, &store, &error), CR_E_IO);
    store_close(&f);

    tap_row("in another process");
    pid_t pid = holder_start(&f, &held);
    CHECK_STATUS(scratch_reopen(&f, &scratch, &error), CR_BUSY);
    snprintf(says, sizeof says, "held by process %ld", (long)pid);
    if (!CHECK(strstr(error.text, says) != NULL))
        tap_note("%s", error.text);

    tap_row("the moment it was killed");
    kill(pid, SIGKILL);
    CHECK_INT(waitpid(pid, NULL, 0), pid);
    CHECK_STATUS(scratch_reopen(&f, &scratch, &error), CR_OK);
    close(held);
    scratch_end(&f, &scratch);
}

/* ---- a full disk */

/* One batch of five sessions; what its commit answered. */
static enum cr_status batch_create(struct fixture *f, struct cr_session_id ids[5])
{
    static unsigned char data[3000];
    enum cr_status st = cr_store_begin(f->store);
    if (st != CR_OK)
        return st;
    for (size_t i = 0; i < 5; i++) {
        struct cr_record record = record_for(f, "anna");
        struct cr_log_rows rows = {0};
        record.data = data;
        record.data_bytes = sizeof data;
        ids[i] = record.id;
        st = cr_store_create(f->store, &record, NULL, &rows);
        CHECK(st == CR_OK || st == CR_UNAVAILABLE || st == CR_E_IO);
    }
    return cr_store_commit(f->store);
}

static size_t live_of(struct fixture *f, const struct cr_session_id *ids, size_t count)
{
    size_t live = 0;
    for (size_t i = 0; i < count; i++)
        live += is_live(f, &ids[i]) ? 1 : 0;
    return live;
}

/* Batches until one is refused; all but that one are there, before and after `refill`. */
static void disk_fill(struct fixture *f, void (*refill)(struct fixture *))
{
    static struct cr_session_id ids[1000][5];
    struct cr_error error;
    size_t done = 0;
    enum cr_status st = CR_OK;
    while (done < 1000 && (st = batch_create(f, ids[done])) == CR_OK)
        done++;
    CHECK(done > 0 && done < 1000);
    CHECK(st == CR_UNAVAILABLE || st == CR_E_IO);
    CHECK_UINT(live_of(f, ids[done], 5), 0);
    CHECK_UINT(live_of(f, ids[0], done * 5), done * 5);
    refill(f);
    CHECK_STATUS(batch_create(f, ids[done]), CR_OK);
    store_close(f);
    if (CHECK_STATUS(scratch_reopen(f, &scratch, &error), CR_OK))
        CHECK_UINT(live_of(f, ids[0], (done + 1) * 5), (done + 1) * 5);
}

static void file_size_unlimited(struct fixture *f)
{
    struct rlimit limit;
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_FSIZE, &limit);
}

static void a_file_that_cannot_grow_loses_nothing(void)
{
    struct fixture f;
    struct rlimit limit;
    if (!scratch_begin(&f, &scratch))
        return;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = 1 << 20;
    setrlimit(RLIMIT_FSIZE, &limit);
    disk_fill(&f, file_size_unlimited);
    file_size_unlimited(&f);
    scratch_end(&f, &scratch);
}

static void pages_unlimited(struct fixture *f)
{
    sqlite3 *db = cr_sqlite_of(f->store)->db;
    CHECK_INT(sqlite3_exec(db, "PRAGMA max_page_count = 100000", NULL, NULL, NULL), SQLITE_OK);
}

/* Here the failure comes in the middle of a batch, not at its commit: at another of its calls with
 * each number of pages. */
static void a_batch_that_meets_the_end_of_the_disk_is_given_up_whole(void)
{
    for (int pages = 200; pages < 206; pages++) {
        struct fixture f;
        char sql[64];
        snprintf(sql, sizeof sql, "PRAGMA max_page_count = %d", pages);
        tap_row(sql);
        if (!scratch_begin(&f, &scratch))
            return;
        sqlite3 *db = cr_sqlite_of(f.store)->db;
        CHECK_INT(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
        disk_fill(&f, pages_unlimited);
        scratch_end(&f, &scratch);
    }
}

static const struct tap_test tests[] = {
    TAP_TEST(what_was_committed_is_there_after_a_restart),
    TAP_TEST(the_files_are_their_owners_only),
    TAP_TEST(no_input_is_taken_for_sql),
    TAP_TEST(a_file_that_was_moved_away_takes_no_commit_until_it_is_back),
    TAP_TEST(a_reader_sees_nothing_of_an_open_batch_and_writes_nothing),
    TAP_TEST(a_new_boot_voids_all_leases_and_no_fence),
    TAP_TEST(a_path_that_cannot_be_a_store_is_refused_with_its_name),
    TAP_TEST(a_file_that_is_no_store_is_refused_and_left_alone),
    TAP_TEST(a_newer_schema_is_refused_with_both_numbers),
    TAP_TEST(file_systems_of_other_hosts_are_told_from_local_ones),
    TAP_TEST(an_older_schema_is_upgraded_and_keeps_what_it_has),
    TAP_TEST(what_ended_is_looked_up_by_index_in_its_order),
    TAP_TEST(an_upgrade_keeps_what_is_owed_and_not_the_names),
    TAP_TEST(an_upgrade_that_fails_changes_nothing),
    TAP_TEST(a_second_engine_is_refused_while_the_first_lives),
    TAP_TEST(a_file_that_cannot_grow_loses_nothing),
    TAP_TEST(a_batch_that_meets_the_end_of_the_disk_is_given_up_whole),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
