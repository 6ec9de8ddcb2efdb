/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared memory. The creator's own mapping is the only writable one there will ever be: it is made
 * before the seal F_SEAL_FUTURE_WRITE, which refuses every later one, whoever holds the descriptor.
 * The seals on the size make a read-only map safe to read: it cannot shrink under the reader.
 */
#include "base/shm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"

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

/* All pages now: a page that cannot be had later would be a SIGBUS in the middle of a write. */
static int shm_reserve(int fd, size_t bytes)
{
    int failed;
    do
        failed = fallocate(fd, 0, 0, (off_t)bytes);
    while (failed != 0 && errno == EINTR);
    return failed;
}

enum cr_status cr_shm_create(const char *name, size_t bytes, void **out_memory, int *out_fd)
{
    CR_ASSERT(bytes > 0);
    int kept_errno = errno;
    enum cr_status st = CR_OK;
    void *memory = MAP_FAILED;
    int fd = -1;
    if (!memory_is_there(bytes)) {
        st = CR_E_LIMIT;
        goto out;
    }
    fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || shm_reserve(fd, bytes) != 0) {
        st = status_of_errno(errno);
        goto out;
    }
    memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED || fcntl(fd, F_ADD_SEALS, SEALS) != 0) {
        st = status_of_errno(errno);
        goto out;
    }
    *out_memory = memory;
    *out_fd = fd;
out:
    if (st != CR_OK && memory != MAP_FAILED)
        munmap(memory, bytes);
    if (st != CR_OK && fd >= 0)
        close(fd);
    errno = kept_errno;
    return st;
}

enum cr_status cr_shm_map(int fd, const void **out_memory, size_t *out_bytes)
{
    int kept_errno = errno;
    enum cr_status st = CR_E_PROTOCOL;
    struct stat info;
    int seals = fcntl(fd, F_GET_SEALS); /* fails for what is no memfd */
    if (seals < 0 || (seals & SEALS) != SEALS || fstat(fd, &info) != 0 || info.st_size <= 0)
        goto out;
    void *memory = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_SHARED, fd, 0);
    st = memory == MAP_FAILED ? status_of_errno(errno) : CR_OK;
    if (st != CR_OK)
        goto out;
    *out_memory = memory;
    *out_bytes = (size_t)info.st_size;
out:
    errno = kept_errno;
    return st;
}

enum cr_status cr_memory_private(size_t bytes, void **out_memory)
{
    CR_ASSERT(bytes > 0);
    int kept_errno = errno;
    enum cr_status st = CR_OK;
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        st = status_of_errno(errno);
        goto out;
    }
    if (madvise(memory, bytes, MADV_WIPEONFORK) != 0) {
        st = status_of_errno(errno);
        munmap(memory, bytes);
        goto out;
    }
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
