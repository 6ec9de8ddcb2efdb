/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process that writes is killed with SIGKILL, again and again, at moments that it does not
 * choose. Whatever it had acknowledged is there, and no batch is half there.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "contract.h"
#include "files.h"
#include "store/record.h"

#define BATCH_COUNT                                                                                \
    3 /* sessions made by one batch; one of them ends the session of the last batch */

/* What the child says after each commit. */
struct acknowledged {
    uint64_t number; /* of the batch */
    struct cr_session_id ids[BATCH_COUNT];
    uint64_t log_number;
};

static void user_of_batch(uint64_t number, char *out, size_t capacity)
{
    snprintf(out, capacity, "batch %llu", (unsigned long long)number);
}

/* Makes one batch; false when the store refuses. */
static bool batch_write(struct fixture *f, struct acknowledged *batch, struct cr_session_id *last)
{
    char name[32];
    struct cr_log_row row = {0};
    struct cr_log_rows rows = {0};
    unsigned char data[2000];
    user_of_batch(batch->number, name, sizeof name);
    if (cr_store_begin(f->store) != CR_OK)
        return false;
    for (size_t i = 0; i < BATCH_COUNT; i++) {
        struct cr_record record = record_for(f, name);
        memset(data, (int)batch->number, sizeof data);
        record.data = data;
        record.data_bytes = sizeof data;
        batch->ids[i] = record.id;
        if (cr_store_create(f->store, &record, NULL, &rows) != CR_OK)
            return false;
    }
    struct cr_ending ending = ending_for(f, CR_REASON_LOGOUT);
    if (last->text[0] != '\0' && cr_store_end(f->store, last, &ending, &row) != CR_OK)
        return false;
    *last = batch->ids[0];
    batch->log_number = row.number;
    return cr_store_commit(f->store) == CR_OK;
}

/* The child. Never returns; says nothing that is not committed. */
static void write_forever(struct fixture *f, const struct scratch *scratch, uint64_t number,
                          struct cr_session_id last, int to)
{
    struct cr_error error;
    struct acknowledged batch = {.number = number};
    if (scratch_reopen(f, scratch, &error) != CR_OK)
        _exit(2);
    for (;; batch.number++)
        if (!batch_write(f, &batch, &last) || write(to, &batch, sizeof batch) != sizeof batch)
            _exit(3);
}

static size_t batch_live(struct fixture *f, uint64_t number)
{
    char name[32];
    user_of_batch(number, name, sizeof name);
    return live_count(f, name);
}

static void session_check(struct fixture *f, const struct acknowledged *batch, size_t i)
{
    struct cr_record found;
    if (!CHECK_STATUS(cr_store_find(f->store, &batch->ids[i], &found), CR_OK))
        return;
    CHECK_INT(found.dead, CR_REASON_NONE);
    CHECK_UINT(found.data_bytes, 2000);
    CHECK_UINT(found.data[1999], batch->number & 0xff);
    cr_record_fini(&found);
}

/* All that was said, and what was under way: whole or not at all. *next: the next batch's number;
 * *last: what it is to end. */
static void acknowledged_check(struct fixture *f, const struct acknowledged *said, size_t count,
                               uint64_t *next, struct cr_session_id *last)
{
    struct cr_record found;
    for (size_t i = 0; i < count; i++) {
        for (size_t n = 1; n < BATCH_COUNT; n++)
            session_check(f, &said[i], n);
        if (i + 1 < count)
            CHECK_STATUS(cr_store_find(f->store, &said[i].ids[0], &found), CR_NOT_FOUND);
    }
    *next += count;
    if (count > 0) {
        *last = said[count - 1].ids[0];
        CHECK(log_count(f) >= said[count - 1].log_number);
    }
    size_t live = batch_live(f, *next);
    CHECK(live == 0 || live == BATCH_COUNT);
    if (live == 0) {
        CHECK(last->text[0] == '\0' || is_live(f, last));
        return;
    }
    if (last->text[0] != '\0')
        CHECK_STATUS(cr_store_find(f->store, last, &found), CR_NOT_FOUND);
    *last = (struct cr_session_id){""};
    ++*next;
}

static void log_check(struct fixture *f)
{
    struct cr_log_rows rows = {0};
    CHECK_STATUS(cr_store_log_read(f->store, 1, 100000, &rows), CR_OK);
    CHECK_UINT(rows.count, log_count(f));
    cr_log_rows_fini(&rows);
}

/* Reads what the child says until it has said enough; kills it then, and reads the rest. */
static size_t said_read(pid_t pid, int from, struct acknowledged *out, size_t enough,
                        size_t capacity)
{
    size_t count = 0;
    while (count < capacity && read(from, &out[count], sizeof out[0]) == sizeof out[0])
        if (++count == enough)
            kill(pid, SIGKILL);
    kill(pid, SIGKILL);
    return count;
}

static void nothing_acknowledged_is_lost_to_kill_9(void)
{
    static struct acknowledged said[4096];
    struct fixture f;
    struct scratch scratch;
    struct cr_session_id last = {""};
    uint64_t next = 0;
    if (!scratch_begin(&f, &scratch))
        return;
    for (size_t round = 0; round < 20; round++) {
        struct cr_error error;
        int ends[2], status;
        store_close(&f);
        if (!CHECK_INT(pipe(ends), 0))
            break;
        /* The child makes ids that no child before it has made. */
        cr_random_seeded_init(&f.random, tap_random());
        pid_t pid = fork();
        if (pid == 0) {
            close(ends[0]);
            write_forever(&f, &scratch, next, last, ends[1]);
        }
        close(ends[1]);
        size_t count = said_read(pid, ends[0], said, 1 + tap_random_below(60), 4096);
        close(ends[0]);
        CHECK_INT(waitpid(pid, &status, 0), pid);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        CHECK(count > 0);
        if (!CHECK_STATUS(scratch_reopen(&f, &scratch, &error), CR_OK)) {
            tap_note("%s", error.text);
            break;
        }
        acknowledged_check(&f, said, count, &next, &last);
        log_check(&f);
    }
    tap_note("%llu batches", (unsigned long long)next);
    scratch_end(&f, &scratch);
}

static const struct tap_test tests[] = {
    TAP_TEST(nothing_acknowledged_is_lost_to_kill_9),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
