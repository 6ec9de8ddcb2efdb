/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite_log.h"

#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Of the -shm file, as SQLite's format has it: one for each read mark. */
#define READ_LOCK_FIRST 123
#define READ_LOCK_LAST 127

/* A line of /proc/locks: whether it is a read of that log, and whose. */
static long line_holder(const char *line, const struct cr_sqlite_index *index)
{
    char pid[32];
    char file[64]; /* MAJOR:MINOR:INODE */
    char from[32];
    char *end;
    if (sscanf(line, "%*s %*s %*s %*s %31s %63s %31s", pid, file, from) != 3)
        return 0;
    /* The line of who waits for a lock has one word more, and none of these here. */
    unsigned long device_major = strtoul(file, &end, 16);
    unsigned long device_minor = *end == ':' ? strtoul(end + 1, &end, 16) : 0;
    if (*end != ':')
        return 0;
    unsigned long inode = strtoul(end + 1, &end, 10);
    long first = strtol(from, NULL, 10);
    return device_major == index->device_major && device_minor == index->device_minor &&
                   inode == index->inode && first >= READ_LOCK_FIRST && first <= READ_LOCK_LAST
               ? strtol(pid, NULL, 10)
               : 0;
}

long cr_sqlite_log_holder(FILE *locks, const struct cr_sqlite_index *index, long except)
{
    char line[256];
    long holder = 0;
    while (holder == 0 && fgets(line, sizeof line, locks) != NULL) {
        long pid = line_holder(line, index);
        if (pid > 0 && pid != except)
            holder = pid;
    }
    return holder;
}

/* The device of a mounted file system as the kernel's locks have it: where a file system makes
 * several of its own (btrfs, overlayfs), stat tells one of those. */
static void mount_device(unsigned long long mount, struct cr_sqlite_index *index)
{
    char *line = NULL;
    size_t capacity = 0;
    FILE *mounts = fopen("/proc/self/mountinfo", "re");
    while (mounts != NULL && getline(&line, &capacity, mounts) >= 0) {
        char *end; /* MOUNT PARENT MAJOR:MINOR ... */
        unsigned long long number = strtoull(line, &end, 10);
        (void)strtoull(end, &end, 10);
        unsigned long device_major = strtoul(end, &end, 10);
        if (number != mount || *end != ':')
            continue;
        index->device_major = (unsigned)device_major;
        index->device_minor = (unsigned)strtoul(end + 1, NULL, 10);
        break;
    }
    free(line);
    if (mounts != NULL)
        (void)fclose(mounts);
}

static bool index_find(const char *name, struct cr_sqlite_index *out)
{
    struct statx about;
    if (statx(AT_FDCWD, name, 0, STATX_INO | STATX_MNT_ID, &about) != 0)
        return false;
    *out = (struct cr_sqlite_index){about.stx_dev_major, about.stx_dev_minor, about.stx_ino};
    if ((about.stx_mask & STATX_MNT_ID) != 0)
        mount_device(about.stx_mnt_id, out);
    return true;
}

void cr_sqlite_log_look(const char *path, long except, struct cr_sqlite_log *out)
{
    char name[PATH_MAX];
    struct stat about;
    struct cr_sqlite_index index;
    *out = (struct cr_sqlite_log){.bytes = 0};
    if (snprintf(name, sizeof name, "%s-wal", path) >= (int)sizeof name || stat(name, &about) != 0)
        return;
    out->bytes = (uint64_t)about.st_size;
    if (out->bytes < CR_SQLITE_LOG_LARGE ||
        snprintf(name, sizeof name, "%s-shm", path) >= (int)sizeof name ||
        !index_find(name, &index))
        return;
    FILE *locks = fopen("/proc/locks", "re");
    if (locks == NULL)
        return;
    out->holder = cr_sqlite_log_holder(locks, &index, except);
    (void)fclose(locks);
}
