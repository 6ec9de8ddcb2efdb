/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared memory. The creator's own mapping is the only writable one there will ever be: it is made
 * before the seal F_SEAL_FUTURE_WRITE, which refuses every later one, whoever holds the descriptor.
 * The seals on the size make a read-only map safe to read: it cannot shrink under the reader.
 *
 * Large memory is mapped where huge pages can stand, and they are asked for: a lookup touches lines
 * far from each other, and with pages of 4 KiB most of its time goes into finding the pages.
 * Nothing rests on getting them: what is refused is had in ordinary pages.
 */
#include "base/shm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/magic.h>
#include <linux/memfd.h>

#include "base/assert.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1; older kernels answer EINVAL */
#endif
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE)

static enum cr_status status_of_errno(int error)
{
    switch (error) {
    case ENOMEM:
    case ENOSPC:
    case EFBIG:
        return CR_E_LIMIT;
    default:
        return CR_E_IO;
    }
}

/* The number behind `label` in a file of the kernel's; UINT64_MAX when there is none. */
static uint64_t kernel_number(const char *path, const char *label)
{
    char text[1024];
    ssize_t length = -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        length = read(fd, text, sizeof text - 1);
        close(fd);
    }
    text[length > 0 ? length : 0] = '\0';
    const char *found = strstr(text, label);
    if (found == NULL)
        return UINT64_MAX;
    char *end = NULL;
    unsigned long long number = strtoull(found + strlen(label), &end, 10);
    return end == found + strlen(label) ? UINT64_MAX : number; /* "max" is no number */
}

/* Asked before, because the kernel does not refuse: it gives page after page until it must kill
 * somebody. The second file is a container's own limit. */
static bool memory_is_there(size_t bytes)
{
    return bytes / 1024 < kernel_number("/proc/meminfo", "MemAvailable:") &&
           bytes < kernel_number("/sys/fs/cgroup/memory.max", "");
}

/*
 * As mmap, aligned to a huge page where one can stand in it; not every kernel does so by itself.
 * The address that is wished for was free a moment ago. Who takes it meanwhile, as another thread
 * may, costs the alignment and nothing else: it is a wish, not MAP_FIXED.
 */
static void *memory_map(size_t bytes, int protection, int flags, int fd)
{
    unsigned char *wish = NULL;
    if (bytes >= CR_HUGE_PAGE_BYTES) {
        size_t enough = bytes + CR_HUGE_PAGE_BYTES;
        unsigned char *range =
            mmap(NULL, enough, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (range != MAP_FAILED) {
            wish = range + (CR_HUGE_PAGE_BYTES - (uintptr_t)range % CR_HUGE_PAGE_BYTES) %
                               CR_HUGE_PAGE_BYTES;
            munmap(range, enough);
        }
    }
    return mmap(wish, bytes, protection, flags, fd, 0);
}

/* Before the memory is touched. A kernel without huge pages refuses, and that is no error. */
static void memory_advise(void *memory, size_t bytes, enum cr_huge_pages pages)
{
    if (bytes >= CR_HUGE_PAGE_BYTES)
        (void)madvise(memory, bytes, pages == CR_HUGE_OFF ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
}

/*
 * Huge pages for a new memfd, as far as there are some: fallocate heeds no advice. One page of each
 * is touched through the map that has it. Where the system gives small ones to shared memory all
 * the same (shmem_enabled is "never" unless somebody has changed it), it is asked to put huge ones
 * in their place, at once: each such call makes all processors empty their lists. The rest is left
 * to shm_reserve.
 */
static void shm_take_huge(unsigned char *memory, size_t bytes)
{
    size_t whole = bytes / CR_HUGE_PAGE_BYTES * CR_HUGE_PAGE_BYTES;
    for (size_t at = 0; at < whole; at += CR_HUGE_PAGE_BYTES)
        if (madvise(memory + at, 1, MADV_POPULATE_WRITE) != 0)
            return;
    if (whole > 0)
        (void)madvise(memory, whole, MADV_COLLAPSE);
}

/* All pages now: a page that cannot be had later would be a SIGBUS in the middle of a write. */
static int shm_reserve(int fd, size_t bytes)
{
    int failed;
    do
        failed = fallocate(fd, 0, 0, (off_t)bytes);
    while (failed != 0 && errno == EINTR);
    return failed;
}

static void shm_fini(struct cr_shm *shm)
{
    cr_memory_unmap(shm->memory, shm->bytes);
    if (shm->fd >= 0)
        close(shm->fd);
    *shm = (struct cr_shm){.fd = -1};
}

static enum cr_status shm_map_and_seal(struct cr_shm *shm, enum cr_huge_pages pages)
{
    void *memory = memory_map(shm->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, shm->fd);
    if (memory == MAP_FAILED)
        return status_of_errno(errno);
    shm->memory = memory;
    if (!shm->from_pool) {
        memory_advise(memory, shm->bytes, pages);
        if (pages != CR_HUGE_OFF)
            shm_take_huge(memory, shm->bytes);
    }
    if (shm_reserve(shm->fd, shm->bytes) != 0 || fcntl(shm->fd, F_ADD_SEALS, SEALS) != 0)
        return status_of_errno(errno);
    return CR_OK;
}

/* From the pool that an administrator has set aside. Its files consist of whole huge pages. */
static enum cr_status shm_from_pool(const char *name, size_t bytes, struct cr_shm *out)
{
    *out = (struct cr_shm){.fd = -1, .from_pool = true};
    if (bytes > SIZE_MAX - CR_HUGE_PAGE_BYTES)
        return CR_E_LIMIT;
    out->bytes = (bytes + CR_HUGE_PAGE_BYTES - 1) / CR_HUGE_PAGE_BYTES * CR_HUGE_PAGE_BYTES;
    out->fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB | MFD_HUGE_2MB);
    if (out->fd < 0 || ftruncate(out->fd, (off_t)out->bytes) != 0)
        return status_of_errno(errno);
    return shm_map_and_seal(out, CR_HUGE_RESERVED);
}

static enum cr_status shm_ordinary(const char *name, size_t bytes, enum cr_huge_pages pages,
                                   struct cr_shm *out)
{
    *out = (struct cr_shm){.fd = -1, .bytes = bytes};
    if (!memory_is_there(bytes))
        return CR_E_LIMIT;
    out->fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (out->fd < 0 || ftruncate(out->fd, (off_t)bytes) != 0)
        return status_of_errno(errno);
    return shm_map_and_seal(out, pages);
}

enum cr_status cr_shm_create(const char *name, size_t bytes, enum cr_huge_pages pages,
                             struct cr_shm *out_shm)
{
    CR_ASSERT(bytes > 0);
    int kept_errno = errno;
    struct cr_shm shm = {.fd = -1};
    enum cr_status st = CR_E_LIMIT;
    if (pages == CR_HUGE_RESERVED)
        st = shm_from_pool(name, bytes, &shm);
    if (st != CR_OK) {
        shm_fini(&shm);
        st = shm_ordinary(name, bytes, pages, &shm);
    }
    if (st == CR_OK)
        *out_shm = shm;
    else
        shm_fini(&shm);
    errno = kept_errno;
    return st;
}

/* A file of huge pages that does not consist of whole ones could be mapped, but not unmapped. */
static bool size_is_sound(int fd, size_t bytes)
{
    struct statfs system;
    return fstatfs(fd, &system) == 0 &&
           (system.f_type != HUGETLBFS_MAGIC ||
            (system.f_bsize > 0 && bytes % (size_t)system.f_bsize == 0));
}

enum cr_status cr_shm_map(int fd, const void **out_memory, size_t *out_bytes)
{
    int kept_errno = errno;
    enum cr_status st = CR_E_PROTOCOL;
    struct stat info;
    int seals = fcntl(fd, F_GET_SEALS); /* fails for what is no memfd */
    if (seals < 0 || (seals & SEALS) != SEALS || fstat(fd, &info) != 0 || info.st_size <= 0 ||
        !size_is_sound(fd, (size_t)info.st_size))
        goto out;
    /* No advice: a map shows what pages there are, and the writer has chosen them. */
    void *memory = memory_map((size_t)info.st_size, PROT_READ, MAP_SHARED, fd);
    st = memory == MAP_FAILED ? status_of_errno(errno) : CR_OK;
    if (st != CR_OK)
        goto out;
    *out_memory = memory;
    *out_bytes = (size_t)info.st_size;
out:
    errno = kept_errno;
    return st;
}

enum cr_status cr_memory_private(size_t bytes, enum cr_huge_pages pages, void **out_memory)
{
    CR_ASSERT(bytes > 0);
    int kept_errno = errno;
    enum cr_status st = CR_OK;
    void *memory = memory_map(bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    if (memory == MAP_FAILED) {
        st = status_of_errno(errno);
        goto out;
    }
    if (madvise(memory, bytes, MADV_WIPEONFORK) != 0) {
        st = status_of_errno(errno);
        munmap(memory, bytes);
        goto out;
    }
    memory_advise(memory, bytes, pages);
    *out_memory = memory;
out:
    errno = kept_errno;
    return st;
}

/* The system's calls take a plain pointer, also for maps that are only read. */
static void *memory_plain(const void *memory)
{
    union {
        const void *given;
        void *plain;
    } pointer = {.given = memory};
    return pointer.plain;
}

void cr_memory_unmap(const void *memory, size_t bytes)
{
    if (memory == NULL)
        return;
    int kept_errno = errno;
    int failed = munmap(memory_plain(memory), bytes);
    CR_ASSERT(failed == 0);
    errno = kept_errno;
}

void cr_memory_blank(const void *memory, size_t bytes)
{
    int kept_errno = errno;
    const void *at = mmap(memory_plain(memory), bytes, PROT_READ,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    CR_ASSERT(at == MAP_FAILED || at == memory);
    errno = kept_errno;
}
