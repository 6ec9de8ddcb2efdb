/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table from another process, which has nothing but the descriptor: it maps the segment
 * read-only, sees what the writer fills and ends, and can write nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/shm.h"
#include "unit/cache_fixture.h"

/* What the parent asks its child: how many of the sessions before `end` are found at `now`. */
struct question {
    cr_boot_ns now;
    uint64_t end;
};

struct worker {
    pid_t pid;
    int ask, hear;
};

static bool read_all(int fd, void *out, size_t bytes)
{
    ssize_t got;
    do
        got = read(fd, out, bytes);
    while (got < 0 && errno == EINTR);
    return got == (ssize_t)bytes; /* a few bytes in a pipe come at once */
}

/* Only what the worker got as a descriptor: nothing of the fixture's. */
static void worker_answer(const struct cr_table_view *view, int ask, int hear)
{
    struct question question;
    struct fixture reader;
    memset(&reader, 0, sizeof reader);
    cr_clock_fake_init(&reader.clock, 0);
    reader.view = *view;
    while (read_all(ask, &question, sizeof question)) {
        reader.clock.now_boot = question.now;
        uint64_t found = fixture_found(&reader, 0, question.end);
        if (write(hear, &found, sizeof found) != (ssize_t)sizeof found)
            break;
    }
}

static int worker_main(int table_fd, int ask, int hear)
{
    const void *memory = NULL;
    size_t bytes = 0;
    struct cr_table_view view;
    if (cr_shm_map(table_fd, &memory, &bytes) != CR_OK)
        return 2;
    if (cr_table_view_init(&view, memory, bytes) != CR_OK)
        return 3;
    worker_answer(&view, ask, hear);
    cr_memory_unmap(memory, bytes);
    return 0;
}

static bool worker_start(struct worker *w, const struct fixture *f)
{
    int ask[2];
    int hear[2];
    if (!CHECK(pipe2(ask, O_CLOEXEC) == 0 && pipe2(hear, O_CLOEXEC) == 0))
        return false;
    w->pid = fork();
    if (w->pid == 0) {
        close(ask[1]);
        close(hear[0]);
        int fd = dup(cr_table_fd(f->table));
        cr_memory_unmap(f->view.memory, f->view.bytes); /* the writer's map is not the worker's */
        _exit(worker_main(fd, ask[0], hear[1]));
    }
    close(ask[0]);
    close(hear[1]);
    w->ask = ask[1];
    w->hear = hear[0];
    return CHECK(w->pid > 0);
}

static void worker_stop(struct worker *w)
{
    int status = -1;
    close(w->ask);
    close(w->hear);
    CHECK(waitpid(w->pid, &status, 0) == w->pid);
    CHECK_INT(status, 0);
}

static uint64_t worker_finds(const struct worker *w, cr_boot_ns now, uint64_t end)
{
    const struct question question = {.now = now, .end = end};
    uint64_t found = UINT64_MAX;
    if (CHECK(write(w->ask, &question, sizeof question) == (ssize_t)sizeof question))
        CHECK(read_all(w->hear, &found, sizeof found));
    return found;
}

static void another_process_sees_what_is_filled_and_what_is_ended(void)
{
    struct fixture f;
    struct worker w;
    if (!fixture_init(&f) || !worker_start(&w, &f))
        return;
    cr_boot_ns now = f.clock.now_boot;
    CHECK_UINT(worker_finds(&w, now, 10), 0);
    for (uint64_t i = 0; i < 10; i++)
        CHECK(fixture_fill(&f, i, (unsigned)i % 2));
    CHECK_UINT(worker_finds(&w, now, 10), 10);
    fixture_end_session(&f, 3);
    CHECK_UINT(worker_finds(&w, now, 10), 9);
    fixture_end_user(&f, 0);
    CHECK_UINT(worker_finds(&w, now, 10), 4);
    cr_table_end_all(f.table);
    CHECK_UINT(worker_finds(&w, now, 10), 0);
    CHECK(fixture_fill(&f, 3, 1));
    CHECK_UINT(worker_finds(&w, now, 10), 1);
    worker_stop(&w);
    fixture_fini(&f);
}

/* The writer says nothing more: as if it had died (ASVS D9). */
static void another_process_believes_no_longer_than_the_lease(void)
{
    struct fixture f;
    struct worker w;
    if (!fixture_init(&f) || !worker_start(&w, &f))
        return;
    cr_boot_ns until = f.clock.now_boot + CR_TABLE_FRESH_NS_MAX;
    CHECK(fixture_fill(&f, 0, 0));
    CHECK_UINT(worker_finds(&w, until - 1, 1), 1);
    CHECK_UINT(worker_finds(&w, until, 1), 0);
    worker_stop(&w);
    fixture_fini(&f);
}

/* The map outlives the table: retired, and nothing of the sessions is left in it (ASVS H9). */
static void a_map_that_outlives_its_table_holds_no_sessions(void)
{
    struct fixture f;
    const void *memory = NULL;
    size_t bytes = 0;
    if (!fixture_init(&f))
        return;
    struct cr_entry entry;
    struct fixture reader = f;
    fixture_entry(0, 0, f.clock.now_boot, 1000, &entry);
    CHECK(cr_table_insert(f.table, &entry, FIXTURE_CLOCK, f.clock.now_boot));
    if (CHECK(cr_shm_map(cr_table_fd(f.table), &memory, &bytes) == CR_OK) &&
        CHECK(cr_table_view_init(&reader.view, memory, bytes) == CR_OK)) {
        CHECK(fixture_finds(&reader, 0));
        CHECK(memmem(memory, bytes, entry.data + 500, 32) != NULL);
        fixture_fini(&f);
        CHECK(!fixture_finds(&reader, 0));
        CHECK(memmem(memory, bytes, entry.data + 500, 32) == NULL);
        CHECK(memmem(memory, bytes, entry.hash, 16) == NULL);
    }
    cr_memory_unmap(memory, bytes);
    fixture_fini(&f);
}

static void nobody_else_can_map_the_table_writable(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    int fd = cr_table_fd(f.table);
    CHECK(mmap(NULL, f.view.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
    CHECK(pwrite(fd, "x", 1, 0) < 0);
    CHECK(ftruncate(fd, 0) != 0);
    const void *memory = NULL;
    size_t bytes = 0;
    if (CHECK(cr_shm_map(fd, &memory, &bytes) == CR_OK)) {
        void *map;
        memcpy(&map, &memory, sizeof map); /* without its const */
        CHECK(mprotect(map, bytes, PROT_READ | PROT_WRITE) != 0);
    }
    cr_memory_unmap(memory, bytes);
    fixture_fini(&f);
}

/* A private table is its engine's alone: the child of a fork finds it empty. */
static void a_forked_child_finds_nothing_in_a_private_table(void)
{
    struct fixture f;
    const struct cr_table_options options = {.bytes = CR_TABLE_BYTES_MIN, .always_fresh = true};
    if (!fixture_init_with(&f, &options))
        return;
    for (uint64_t i = 0; i < 10; i++)
        CHECK(fixture_fill(&f, i, 1));
    CHECK_UINT(fixture_found(&f, 0, 10), 10);
    pid_t pid = fork();
    if (pid == 0)
        _exit((int)fixture_found(&f, 0, 10));
    int status = -1;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK_INT(status, 0);
    fixture_fini(&f);
}

static const struct tap_test tests[] = {
    TAP_TEST(another_process_sees_what_is_filled_and_what_is_ended),
    TAP_TEST(another_process_believes_no_longer_than_the_lease),
    TAP_TEST(a_map_that_outlives_its_table_holds_no_sessions),
    TAP_TEST(nobody_else_can_map_the_table_writable),
    TAP_TEST(a_forked_child_finds_nothing_in_a_private_table),
};

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    return TAP_MAIN(tests, argc, argv);
}
