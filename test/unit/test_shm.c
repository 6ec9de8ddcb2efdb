/* SPDX-License-Identifier: Apache-2.0 */
/* Shared memory: the kernel keeps its promise, and what a peer sends is looked at. */
#include "base/shm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/memfd.h>

#include "tap.h"

#define BYTES 65536L

struct fixture {
    struct cr_shm shm;
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
    *f = (struct fixture){.shm.fd = -1};
    return CHECK_STATUS(cr_shm_create("cloakroom-test", BYTES, CR_HUGE_AUTO, &f->shm), CR_OK);
}

static void teardown(struct fixture *f)
{
    cr_memory_unmap(f->shm.memory, f->shm.bytes);
    if (f->shm.fd >= 0)
        close(f->shm.fd);
}

static void what_the_creator_writes_a_map_shows(void)
{
    struct fixture f;
    const void *map = NULL;
    size_t bytes = 0;
    if (setup(&f) && CHECK_STATUS(cr_shm_map(f.shm.fd, &map, &bytes), CR_OK)) {
        CHECK_UINT(bytes, BYTES);
        memcpy((char *)f.shm.memory + BYTES - 4, "abc", 4);
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
    snprintf(path, sizeof path, "/proc/self/fd/%d", f.shm.fd);
    int reopened = open(path, O_RDWR | O_CLOEXEC);
    int fds[] = {f.shm.fd, reopened};
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
    if (setup(&f) && CHECK_STATUS(cr_shm_map(f.shm.fd, &map, &bytes), CR_OK)) {
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
    if (setup(&f) && CHECK_STATUS(cr_shm_map(f.shm.fd, &map, &bytes), CR_OK)) {
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
    static const enum cr_huge_pages pages[] = {CR_HUGE_AUTO, CR_HUGE_RESERVED, CR_HUGE_OFF};
    for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++) {
        struct cr_shm shm = {.fd = -1};
        CHECK_STATUS(cr_shm_create("cloakroom-test", (size_t)1 << 62, pages[i], &shm), CR_E_LIMIT);
        CHECK_STATUS(cr_shm_create("cloakroom-test", SIZE_MAX, pages[i], &shm), CR_E_LIMIT);
        CHECK(shm.memory == NULL && shm.fd == -1);
    }
}

static void the_descriptor_does_not_survive_exec(void)
{
    struct fixture f;
    if (setup(&f))
        CHECK((fcntl(f.shm.fd, F_GETFD) & FD_CLOEXEC) != 0);
    teardown(&f);
}

static void private_memory_is_zero_at_first_and_in_a_child(void)
{
    void *memory = NULL;
    if (!CHECK_STATUS(cr_memory_private(BYTES, CR_HUGE_AUTO, &memory), CR_OK))
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

/* Huge pages. */

static bool is_aligned(const void *memory)
{
    return (uintptr_t)memory % CR_HUGE_PAGE_BYTES == 0;
}

static unsigned long number_after(const char *path, const char *label)
{
    char line[256];
    unsigned long number = 0;
    FILE *file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, label, strlen(label)) == 0)
            number = strtoul(line + strlen(label), NULL, 10);
    if (file != NULL)
        fclose(file);
    return number;
}

/* The flags that the kernel shows of the map that `memory` is in: "hg" is advised, "nh" against. */
static bool map_has_flag(const void *memory, const char *flag)
{
    char line[512];
    bool is_inside = false, has = false;
    FILE *file = fopen("/proc/self/smaps", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        char *end;
        uintptr_t from = strtoul(line, &end, 16); /* a map begins "FROM-TO ", in hex */
        uintptr_t to = *end == '-' ? strtoul(end + 1, &end, 16) : 0;
        if (to != 0 && *end == ' ')
            is_inside = (uintptr_t)memory >= from && (uintptr_t)memory < to;
        else if (is_inside && strncmp(line, "VmFlags:", 8) == 0)
            has = strstr(line, flag) != NULL;
    }
    if (file != NULL)
        fclose(file);
    return has;
}

/* Maps between them, so that what comes next is not aligned by chance. */
static void large_memory_stands_where_huge_pages_can(void)
{
    static const size_t sizes[] = {CR_HUGE_PAGE_BYTES, CR_HUGE_PAGE_BYTES + 4096,
                                   3 * CR_HUGE_PAGE_BYTES - 4096};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct cr_shm shm = {.fd = -1};
        const void *map = NULL;
        void *private = NULL;
        size_t bytes = 0;
        void *between[3] = {NULL};
        CHECK_STATUS(cr_memory_private(4096, CR_HUGE_OFF, &between[0]), CR_OK);
        CHECK_STATUS(cr_shm_create("cloakroom-test", sizes[i], CR_HUGE_AUTO, &shm), CR_OK);
        CHECK_STATUS(cr_memory_private(4096, CR_HUGE_OFF, &between[1]), CR_OK);
        CHECK_STATUS(cr_shm_map(shm.fd, &map, &bytes), CR_OK);
        CHECK_STATUS(cr_memory_private(4096, CR_HUGE_OFF, &between[2]), CR_OK);
        CHECK_STATUS(cr_memory_private(sizes[i], CR_HUGE_AUTO, &private), CR_OK);
        CHECK(is_aligned(shm.memory) && is_aligned(map) && is_aligned(private));
        CHECK_UINT(shm.bytes, sizes[i]);
        CHECK_UINT(bytes, sizes[i]);
        CHECK(!shm.from_pool);
        memset(shm.memory, 7, sizes[i]);
        CHECK(((const char *)map)[0] == 7 && ((const char *)map)[sizes[i] - 1] == 7);
        memset(private, 7, sizes[i]);
        for (size_t k = 0; k < 3; k++)
            cr_memory_unmap(between[k], 4096);
        cr_memory_unmap(private, sizes[i]);
        cr_memory_unmap(map, bytes);
        cr_memory_unmap(shm.memory, shm.bytes);
        close(shm.fd);
    }
}

static void nothing_but_what_was_asked_for_stays_mapped(void)
{
    unsigned long before = number_after("/proc/self/status", "VmSize:");
    for (int i = 0; i < 200; i++) {
        struct cr_shm shm = {.fd = -1};
        const void *map = NULL;
        size_t bytes = 0;
        if (!CHECK_STATUS(
                cr_shm_create("cloakroom-test", CR_HUGE_PAGE_BYTES + 4096, CR_HUGE_AUTO, &shm),
                CR_OK) ||
            !CHECK_STATUS(cr_shm_map(shm.fd, &map, &bytes), CR_OK))
            return;
        cr_memory_unmap(map, bytes);
        cr_memory_unmap(shm.memory, shm.bytes);
        close(shm.fd);
    }
    CHECK(number_after("/proc/self/status", "VmSize:") < before + 64 * 1024);
}

static void the_advice_is_what_the_setting_says(void)
{
    static const struct {
        const char *name;
        enum cr_huge_pages pages;
        bool asked;
    } rows[] = {{"auto", CR_HUGE_AUTO, true},
                {"reserved", CR_HUGE_RESERVED, true},
                {"off", CR_HUGE_OFF, false}};
    if (access("/sys/kernel/mm/transparent_hugepage", F_OK) != 0) {
        tap_skip("the kernel has no transparent huge pages");
        return;
    }
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct cr_shm shm = {.fd = -1};
        void *private = NULL;
        const size_t bytes = 2 * CR_HUGE_PAGE_BYTES;
        tap_row(rows[i].name);
        if (!CHECK_STATUS(cr_shm_create("cloakroom-test", bytes, rows[i].pages, &shm), CR_OK) ||
            !CHECK_STATUS(cr_memory_private(bytes, rows[i].pages, &private), CR_OK))
            return;
        CHECK(map_has_flag(private, rows[i].asked ? " hg" : " nh"));
        CHECK(map_has_flag(private, " wf")); /* wiped on fork, whatever its pages */
        CHECK(shm.from_pool || map_has_flag(shm.memory, rows[i].asked ? " hg" : " nh"));
        cr_memory_unmap(private, bytes);
        cr_memory_unmap(shm.memory, shm.bytes);
        close(shm.fd);
    }
}

/* Whatever the pool has: of it when it has enough, and else ordinary memory. */
static void a_segment_is_of_the_pool_or_ordinary_and_never_refused(void)
{
    unsigned long size = number_after("/proc/meminfo", "Hugepagesize:");
    unsigned long free_pages =
        size * 1024 == CR_HUGE_PAGE_BYTES ? number_after("/proc/meminfo", "HugePages_Free:") : 0;
    const size_t bytes = 2 * CR_HUGE_PAGE_BYTES + 4096;
    struct cr_shm shm = {.fd = -1};
    const void *map = NULL;
    size_t map_bytes = 0;
    errno = EAGAIN;
    if (!CHECK_STATUS(cr_shm_create("cloakroom-test", bytes, CR_HUGE_RESERVED, &shm), CR_OK))
        return;
    CHECK_INT(errno, EAGAIN);
    CHECK(shm.from_pool == (free_pages >= 3));
    CHECK_UINT(shm.bytes, shm.from_pool ? 3 * CR_HUGE_PAGE_BYTES : bytes);
    CHECK(is_aligned(shm.memory));
    memset(shm.memory, 7, shm.bytes);
    if (CHECK_STATUS(cr_shm_map(shm.fd, &map, &map_bytes), CR_OK)) {
        CHECK_UINT(map_bytes, shm.bytes);
        CHECK(is_aligned(map) && ((const char *)map)[map_bytes - 1] == 7);
        cr_memory_blank(map, map_bytes);
        CHECK(((const char *)map)[map_bytes - 1] == 0);
        cr_memory_unmap(map, map_bytes);
    }
    CHECK(mmap(NULL, shm.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, shm.fd, 0) == MAP_FAILED &&
          errno == EPERM);
    CHECK(fallocate(shm.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                    (off_t)CR_HUGE_PAGE_BYTES) == -1 &&
          errno == EPERM);
    cr_memory_unmap(shm.memory, shm.bytes);
    close(shm.fd);
}

/* The kernel would map it, and then refuse to unmap what is not a whole huge page. */
static void a_file_of_huge_pages_that_are_not_whole_is_not_mapped(void)
{
    const void *map = NULL;
    size_t bytes = 0;
    int fd = memfd_create("cloakroom-test",
                          MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB | MFD_HUGE_2MB);
    if (fd < 0 || fallocate(fd, 0, 0, 4096) != 0) {
        tap_skip("no huge page is reserved here (vm.nr_hugepages)");
        goto out;
    }
    if (CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE) == 0))
        CHECK_STATUS(cr_shm_map(fd, &map, &bytes), CR_E_PROTOCOL);
    CHECK(map == NULL);
out:
    if (fd >= 0)
        close(fd);
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
    TAP_TEST(large_memory_stands_where_huge_pages_can),
    TAP_TEST(nothing_but_what_was_asked_for_stays_mapped),
    TAP_TEST(the_advice_is_what_the_setting_says),
    TAP_TEST(a_segment_is_of_the_pool_or_ordinary_and_never_refused),
    TAP_TEST(a_file_of_huge_pages_that_are_not_whole_is_not_mapped),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
