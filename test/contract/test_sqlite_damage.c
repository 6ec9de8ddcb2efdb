/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A database file in which bytes were changed, or which was cut short: every call answers an error
 * or what was written, and nobody who was ended is let in. And whatever a statement of damage does
 * to it, the process lives.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "contract.h"
#include "files.h"
#include "store/record.h"
#include "store/sqlite.h"

#define SESSIONS 40
#define ROUNDS 100 /* of each kind of damage: each opens a file, which waits for the disk */

static struct scratch scratch;
static struct cr_record made[SESSIONS]; /* the even ones were ended */
static bool endings_may_be_lost;        /* they were in what was cut off */

/* Something in every table. */
static void store_fill(struct fixture *f)
{
    static unsigned char data[SESSIONS][500];
    struct cr_log_rows rows = {0};
    struct cr_log_row row;
    for (size_t i = 0; i < SESSIONS; i++) {
        char name[16] = {'u', (char)('A' + i), '\0'};
        made[i] = record_for(f, name);
        memset(data[i], (int)i, sizeof data[i]);
        made[i].data = data[i];
        made[i].data_bytes = sizeof data[i];
        made[i].rights_bytes = 20;
        memset(made[i].rights, (int)i, 20);
        CHECK_STATUS(cr_store_create(f->store, &made[i], NULL, &rows), CR_OK);
        struct cr_ending ending = ending_for(f, CR_REASON_ADMIN);
        if (i % 2 == 0)
            CHECK_STATUS(cr_store_end_user(f->store, &made[i].user, &ending, &row), CR_OK);
        struct cr_account_change add = {.add = true, .hash = "hash", .keep_sessions = true};
        CHECK_STATUS(cr_store_account_change(f->store, &made[i].user, &add, &row), CR_OK);
    }
    struct cr_lease_row lease = {.name = "a lease", .holder = {{1}}};
    struct cr_engine_row engine = {.identity = {{1}}, .lease = 5000};
    CHECK_STATUS(cr_store_lease_take(f->store, &lease, 1000), CR_OK);
    CHECK_STATUS(cr_store_engine_register(f->store, &engine), CR_OK);
}

/* A store that was filled and closed: the file is all there is. */
static char *file_fill(struct fixture *f, size_t *out_size)
{
    store_fill(f);
    store_close(f);
    return file_read(scratch.path, out_size);
}

static bool is_an_error(enum cr_status st)
{
    return st == CR_E_CORRUPT || st == CR_E_IO || st == CR_UNAVAILABLE;
}

/* An error, a row that is not found, or the very one that was made. */
static void session_check(struct fixture *f, size_t i)
{
    struct cr_record found;
    enum cr_status st = cr_store_find(f->store, &made[i].id, &found);
    if (st != CR_OK) {
        CHECK(st == CR_NOT_FOUND || is_an_error(st));
        return;
    }
    if (i % 2 == 0 && !endings_may_be_lost)
        CHECK(found.dead != CR_REASON_NONE);
    CHECK(cr_user_equal(&found.user, &made[i].user));
    CHECK_MEM(&found.hash, &made[i].hash, sizeof found.hash);
    CHECK_INT(found.ends_at, made[i].ends_at);
    CHECK_INT(found.seen_at, made[i].seen_at);
    if (CHECK_UINT(found.rights_bytes, made[i].rights_bytes))
        CHECK_MEM(found.rights, made[i].rights, found.rights_bytes);
    if (CHECK_UINT(found.data_bytes, made[i].data_bytes))
        CHECK_MEM(found.data, made[i].data, found.data_bytes);
    cr_record_fini(&found);
}

/* The rest of the contract: any answer will do that is one. */
static void calls_make(struct fixture *f)
{
    static struct cr_record page[8];
    static struct cr_account_row accounts[8];
    static struct cr_engine_row engines[4];
    struct cr_log_rows rows = {0};
    struct cr_log_row row;
    struct cr_key keys[64];
    size_t count;
    struct cr_lease_row lease = {.name = "a lease", .holder = {{1}}};
    struct cr_user user = made[1].user;
    struct cr_ending ending = ending_for(f, CR_REASON_ADMIN);
    struct cr_record record = record_for(f, "new");
    struct cr_create_terms terms = {.replace = true, .keep_count = 1};
    struct cr_seen seen = {.id = made[3].id};
    terms.ending = ending_for(f, CR_REASON_REPLACED);
    enum cr_status answers[] = {
        cr_store_list(f->store, &user, 0, NULL, page, 8, &count),
        cr_store_account_list(f->store, NULL, accounts, 8, &count),
        cr_store_engine_list(f->store, engines, 4, &count),
        cr_store_keys(f->store, keys, 64, &count),
        cr_store_log_read(f->store, 1, 1000, &rows),
        cr_store_log_last(f->store, &row),
        cr_store_log_about(f->store, &made[0].id, &made[0], &row),
        cr_store_lease_read(f->store, "a lease", &lease),
        cr_store_seen(f->store, &seen, 1),
        cr_store_create(f->store, &record, &terms, &rows),
        cr_store_end_user(f->store, &user, &ending, &row),
        cr_store_sweep(f->store, 100, &count),
    };
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++)
        if (!CHECK(answers[i] == CR_OK || answers[i] == CR_NOT_FOUND ||
                   answers[i] == CR_UNKNOWN_USER || answers[i] == CR_E_UNKNOWN_OUTCOME ||
                   answers[i] == CR_E_LIMIT || is_an_error(answers[i])))
            tap_note("call %zu: %s", i, cr_status_name(answers[i]));
    cr_log_rows_fini(&rows);
}

/* Opens what lies there now; counts how often that went well. */
static void damaged_use(struct fixture *f, size_t *opened)
{
    struct cr_error error;
    enum cr_status st = scratch_reopen(f, &scratch, &error);
    if (st != CR_OK) {
        if (!CHECK(is_an_error(st) || st == CR_E_VERSION) ||
            !CHECK(strstr(error.text, scratch.path) != NULL))
            tap_note("%s: %s", cr_status_name(st), error.text);
        return;
    }
    ++*opened;
    for (size_t i = 0; i < SESSIONS; i++)
        session_check(f, i);
    calls_make(f);
    store_close(f);
}

static void damage_many(struct fixture *f, const char *bytes, size_t size,
                        size_t (*damage)(char *bytes, size_t size))
{
    size_t opened = 0;
    char *damaged = malloc(size);
    CHECK(damaged != NULL);
    if (damaged == NULL)
        return;
    for (size_t round = 0; round < ROUNDS; round++) {
        memcpy(damaged, bytes, size);
        size_t left = damage(damaged, size);
        unlink(scratch_beside(&scratch, "-wal"));
        unlink(scratch_beside(&scratch, "-shm"));
        file_write(scratch.path, damaged, left);
        damaged_use(f, &opened);
    }
    tap_note("%zu of %d could be opened", opened, ROUNDS);
    free(damaged);
}

static size_t bytes_change(char *bytes, size_t size)
{
    for (uint64_t n = 1 + tap_random_below(30); n > 0; n--)
        bytes[tap_random_below(size)] = (char)tap_random();
    return size;
}

static size_t bits_flip(char *bytes, size_t size)
{
    for (uint64_t n = 1 + tap_random_below(5); n > 0; n--)
        bytes[tap_random_below(size)] ^= (char)(1 << tap_random_below(8));
    return size;
}

static size_t page_garble(char *bytes, size_t size)
{
    size_t page = (size_t)tap_random_below(size / 4096) * 4096;
    for (size_t i = 0; i < 4096; i++)
        bytes[page + i] = (char)tap_random();
    return size;
}

static size_t page_swap(char *bytes, size_t size)
{
    char held[4096];
    char *a = bytes + (size_t)tap_random_below(size / 4096) * 4096;
    char *b = bytes + (size_t)tap_random_below(size / 4096) * 4096;
    memcpy(held, a, sizeof held);
    memmove(a, b, sizeof held);
    memcpy(b, held, sizeof held);
    return size;
}

static size_t cut(char *bytes, size_t size)
{
    return (size_t)tap_random_below(size);
}

static void damage(size_t (*how)(char *bytes, size_t size))
{
    struct fixture f;
    size_t size;
    if (!scratch_begin(&f, &scratch))
        return;
    char *bytes = file_fill(&f, &size);
    if (CHECK(size > 4096))
        damage_many(&f, bytes, size, how);
    free(bytes);
    scratch_end(&f, &scratch);
}

static void changed_bytes_give_an_error_or_what_was_written(void)
{
    damage(bytes_change);
}

static void flipped_bits_give_an_error_or_what_was_written(void)
{
    damage(bits_flip);
}

static void a_garbled_page_gives_an_error_or_what_was_written(void)
{
    damage(page_garble);
}

static void pages_that_changed_places_give_an_error_or_what_was_written(void)
{
    damage(page_swap);
}

static void a_file_cut_short_gives_an_error_or_what_was_written(void)
{
    damage(cut);
}

/* The -wal file of a store that was not closed. What it held may be lost with it, but it is not
 * made up. */
static void a_damaged_log_of_sqlite_gives_an_error_or_what_was_written(void)
{
    struct fixture f;
    size_t size, wal_size, opened = 0;
    if (!scratch_begin(&f, &scratch))
        return;
    store_fill(&f);
    char *bytes = file_read(scratch.path, &size);
    char *wal = file_read(scratch_beside(&scratch, "-wal"), &wal_size);
    char *damaged = malloc(wal_size);
    store_close(&f);
    endings_may_be_lost = true;
    for (size_t round = 0; CHECK(damaged != NULL && wal_size > 4096) && round < ROUNDS; round++) {
        memcpy(damaged, wal, wal_size);
        size_t left = round % 2 == 0 ? bits_flip(damaged, wal_size) : cut(damaged, wal_size);
        unlink(scratch_beside(&scratch, "-shm"));
        file_write(scratch.path, bytes, size);
        file_write(scratch_beside(&scratch, "-wal"), damaged, left);
        damaged_use(&f, &opened);
    }
    endings_may_be_lost = false;
    tap_note("%zu of %d could be opened", opened, ROUNDS);
    free(damaged);
    free(wal);
    free(bytes);
    scratch_end(&f, &scratch);
}

/* One row for each value by which somebody is let in, changed behind the store's back. */
static void a_changed_row_is_not_believed(void)
{
    static const char *const changes[] = {
        "UPDATE sessions SET user = x'7541'",
        "UPDATE sessions SET ends_at = ends_at + 1",
        "UPDATE sessions SET seen_at = seen_at + 1",
        "UPDATE sessions SET idle = idle + 1",
        "UPDATE sessions SET rights = x'00'",
        "UPDATE sessions SET hash = zeroblob(32)",
        "UPDATE sessions SET hash = NULL",
        "UPDATE sessions SET old_hash = hash",
        "UPDATE sessions SET user_generation = 2",
        "UPDATE sessions SET global_generation = 2",
        "UPDATE sessions SET data = x'00'",
        "UPDATE sessions SET version = 2",
        "UPDATE sessions SET (user, sum) = (SELECT user, sum FROM sessions t WHERE t.number = 1)",
        "UPDATE users SET generation = 1",
        "UPDATE meta SET global_generation = 2",
        "UPDATE meta SET global_generation = -1",
    };
    struct fixture f;
    size_t size;
    if (!scratch_begin(&f, &scratch))
        return;
    char *bytes = file_fill(&f, &size);
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        struct cr_error error;
        struct cr_record found;
        sqlite3 *db;
        tap_row(changes[i]);
        file_write(scratch.path, bytes, size);
        CHECK_INT(sqlite3_open(scratch.path, &db), SQLITE_OK);
        /* NULL is refused by the schema itself. */
        (void)sqlite3_exec(db, changes[i], NULL, NULL, NULL);
        sqlite3_close(db);
        if (!CHECK_STATUS(scratch_reopen(&f, &scratch, &error), CR_OK))
            continue;
        for (size_t n = 0; n < SESSIONS; n++)
            session_check(&f, n);
        /* The ended ones would live again with this. */
        if (strstr(changes[i], "users") != NULL)
            CHECK_STATUS(cr_store_find(f.store, &made[0].id, &found), CR_E_CORRUPT);
        else if (strstr(changes[i], "NULL") == NULL)
            CHECK_STATUS(cr_store_find(f.store, &made[1].id, &found), CR_E_CORRUPT);
        store_close(&f);
    }
    free(bytes);
    scratch_end(&f, &scratch);
}

static const struct tap_test tests[] = {
    TAP_TEST(changed_bytes_give_an_error_or_what_was_written),
    TAP_TEST(flipped_bits_give_an_error_or_what_was_written),
    TAP_TEST(a_garbled_page_gives_an_error_or_what_was_written),
    TAP_TEST(pages_that_changed_places_give_an_error_or_what_was_written),
    TAP_TEST(a_file_cut_short_gives_an_error_or_what_was_written),
    TAP_TEST(a_damaged_log_of_sqlite_gives_an_error_or_what_was_written),
    TAP_TEST(a_changed_row_is_not_believed),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
