/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite_log.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Of the -shm file, as SQLite's format has it: one for each read mark. */
#define READ_LOCK_FIRST 123
#define READ_LOCK_LAST 127

/* A line of /proc/locks: whether it is a read of that log, and whose. */
static long line_holder(const char *line, unsigned long index)
{
    char pid[32];
    char file[64]; /* MAJOR:MINOR:INDEX */
    char from[32];
    if (sscanf(line, "%*s %*s %*s %*s %31s %63s %31s", pid, file, from) != 3)
        return 0;
    const char *number = strrchr(file, ':'); /* none in the line of who waits for a lock */
    long first = strtol(from, NULL, 10);
    return number != NULL && strtoul(number + 1, NULL, 10) == index && first >= READ_LOCK_FIRST &&
                   first <= READ_LOCK_LAST
               ? strtol(pid, NULL, 10)
               : 0;
}

void cr_sqlite_log_look(const char *path, long except, struct cr_sqlite_log *out)
{
    char name[PATH_MAX];
    char line[256];
    struct stat about;
    *out = (struct cr_sqlite_log){.bytes = 0};
    if (snprintf(name, sizeof name, "%s-wal", path) >= (int)sizeof name || stat(name, &about) != 0)
        return;
    out->bytes = (uint64_t)about.st_size;
    if (out->bytes < CR_SQLITE_LOG_LARGE ||
        snprintf(name, sizeof name, "%s-shm", path) >= (int)sizeof name || stat(name, &about) != 0)
        return;
    FILE *locks = fopen("/proc/locks", "re");
    while (locks != NULL && out->holder == 0 && fgets(line, sizeof line, locks) != NULL) {
        long pid = line_holder(line, (unsigned long)about.st_ino);
        if (pid > 0 && pid != except)
            out->holder = pid;
    }
    if (locks != NULL)
        (void)fclose(locks);
}
