/* SPDX-License-Identifier: Apache-2.0 */
/* Shared memory: the kernel keeps its promise, and what a peer sends is looked at. */
#include "base/shm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tap.h"

#define BYTES 65536L

struct fixture {
    void *memory;
    int fd;
};

/* What a peer that means ill has: a pointer that is not const. */
static void *plain(const void *memory)
{
    union {
        const void *given;
        void *plain;
    } pointer = {.given = memory};
    return pointer.plain;
}

static bool setup(struct fixture *f)
{
    *f = (struct fixture){.fd = -1};
    return CHECK_STATUS(cr_shm_create("cloakroom-test", BYTES, &f->memory, &f->fd), CR_OK);
}

static void teardown(struct fixture *f)
{
    cr_memory_unmap(f->memory, BYTES);
    if (f->fd >= 0)
        close(f->fd);
}

static void what_the_creator_writes_a_map_shows(void)
{
    struct fixture f;
    const void *map = NULL;
    size_t bytes = 0;
    if (setup(&f) && CHECK_STATUS(cr_shm_map(f.fd, &map, &bytes), CR_OK)) {
        CHECK_UINT(bytes, BYTES);
        memcpy((char *)f.memory + BYTES - 4, "abc", 4);
        CHECK_STR((const char *)map + BYTES - 4, "abc");
        cr_memory_unmap(map, bytes);
    }
    teardown(&f);
}

/* Each as a peer would try it: through the descriptor that it was given, or reopened for writing.
 */
static void the_kernel_refuses_every_other_way_to_write(void)
{
    struct fixture f;
    if (!setup(&f))
        return;
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", f.fd);
    int reopened = open(path, O_RDWR | O_CLOEXEC);
    int fds[] = {f.fd, reopened};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++) {
        tap_row(i == 0 ? "given" : "reopened");
        if (!CHECK(fds[i] >= 0))
            continue;
        void *map = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fds[i], 0);
        CHECK(map == MAP_FAILED && errno == EPERM);
        CHECK(pwrite(fds[i], "x", 1, 0) == -1 && errno == EPERM);
        CHECK(ftruncate(fds[i], BYTES / 2) == -1 && errno == EPERM);
        CHECK(ftruncate(fds[i], BYTES * 2) == -1 && errno == EPERM);
        CHECK(fallocate(fds[i], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == -1 &&
              errno == EPERM);
    }
    close(reopened);
    teardown(&f);
}

static void a_map_cannot_be_made_writable_later(void)
{
    struct fixture f;
    const void *map = NULL;
    size_t bytes = 0;
    if (setup(&f) && CHECK_STATUS(cr_shm_map(f.fd, &map, &bytes), CR_OK)) {
        CHECK(mprotect(plain(map), bytes, PROT_READ | PROT_WRITE) == -1);
        CHECK_INT(errno, EACCES);
        cr_memory_unmap(map, bytes);
    }
    teardown(&f);
}

static void writing_to_a_map_ends_the_writer(void)
{
    struct fixture f;
    const void *map = NULL;
    size_t bytes = 0;
    if (setup(&f) && CHECK_STATUS(cr_shm_map(f.fd, &map, &bytes), CR_OK)) {
        pid_t pid = fork();
        if (pid == 0) {
            /* By the kernel's hand: under a sanitizer a fault would be a report, not a signal. */
            int ends[2];
            bool is_refused = pipe(ends) == 0 && write(ends[1], "x", 1) == 1 &&
                              read(ends[0], plain(map), 1) == -1 && errno == EFAULT;
            _exit(is_refused ? 0 : 1);
        }
        int status = -1;
        CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
        cr_memory_unmap(map, bytes);
    }
    teardown(&f);
}

/* A file as another process might send it. */
static void what_is_not_sealed_and_whole_is_not_mapped(void)
{
    static const int all = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE;
    static const struct {
        const char *name;
        off_t bytes;
        int seals;
    } rows[] = {
        {"no seals", BYTES, 0},
        {"it may shrink", BYTES, F_SEAL_GROW | F_SEAL_FUTURE_WRITE},
        {"it may grow", BYTES, F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE},
        {"it may be written", BYTES, F_SEAL_SHRINK | F_SEAL_GROW},
        {"truncated to nothing", 0, all},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const void *map = NULL;
        size_t bytes = 0;
        tap_row(rows[i].name);
        int fd = memfd_create("cloakroom-test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (!CHECK(fd >= 0 && ftruncate(fd, rows[i].bytes) == 0) ||
            !CHECK(fcntl(fd, F_ADD_SEALS, rows[i].seals) == 0))
            return;
        CHECK_STATUS(cr_shm_map(fd, &map, &bytes), CR_E_PROTOCOL);
        CHECK(map == NULL && bytes == 0);
        close(fd);
    }
}

static void what_is_no_memory_is_not_mapped(void)
{
    const void *map = NULL;
    size_t bytes = 0;
    int ends[2];
    if (!CHECK(pipe(ends) == 0))
        return;
    CHECK_STATUS(cr_shm_map(ends[0], &map, &bytes), CR_E_PROTOCOL);
    close(ends[0]);
    close(ends[1]);
    CHECK_STATUS(cr_shm_map(ends[0], &map, &bytes), CR_E_PROTOCOL); /* closed by now */
    FILE *file = tmpfile();
    if (CHECK(file != NULL && ftruncate(fileno(file), BYTES) == 0)) {
        CHECK_STATUS(cr_shm_map(fileno(file), &map, &bytes), CR_E_PROTOCOL);
        fclose(file);
    }
}

static void memory_that_is_not_there_is_a_limit(void)
{
    void *memory = NULL;
    int fd = -1;
    CHECK_STATUS(cr_shm_create("cloakroom-test", (size_t)1 << 62, &memory, &fd), CR_E_LIMIT);
    CHECK(memory == NULL && fd == -1);
}

static void the_descriptor_does_not_survive_exec(void)
{
    struct fixture f;
    if (setup(&f))
        CHECK((fcntl(f.fd, F_GETFD) & FD_CLOEXEC) != 0);
    teardown(&f);
}

static void private_memory_is_zero_at_first_and_in_a_child(void)
{
    void *memory = NULL;
    if (!CHECK_STATUS(cr_memory_private(BYTES, &memory), CR_OK))
        return;
    unsigned char *bytes = memory;
    for (size_t i = 0; i < BYTES; i++)
        if (!CHECK(bytes[i] == 0))
            break;
    memset(memory, 7, BYTES);
    pid_t pid = fork();
    if (pid == 0) {
        bool is_wiped = true;
        for (size_t i = 0; i < BYTES; i++)
            is_wiped = is_wiped && bytes[i] == 0;
        _exit(is_wiped ? 0 : 1);
    }
    int status = -1;
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
    CHECK(bytes[BYTES - 1] == 7);
    cr_memory_unmap(memory, BYTES);
    cr_memory_unmap(NULL, BYTES);
}

static const struct tap_test tests[] = {
    TAP_TEST(what_the_creator_writes_a_map_shows),
    TAP_TEST(the_kernel_refuses_every_other_way_to_write),
    TAP_TEST(a_map_cannot_be_made_writable_later),
    TAP_TEST(writing_to_a_map_ends_the_writer),
    TAP_TEST(what_is_not_sealed_and_whole_is_not_mapped),
    TAP_TEST(what_is_no_memory_is_not_mapped),
    TAP_TEST(memory_that_is_not_there_is_a_limit),
    TAP_TEST(the_descriptor_does_not_survive_exec),
    TAP_TEST(private_memory_is_zero_at_first_and_in_a_child),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
