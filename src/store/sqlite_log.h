/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who keeps a store's write-ahead log from being emptied. Whoever reads the store in one long
 * transaction holds on to all that was written since, and a process that was stopped meanwhile
 * holds on for ever; SQLite can name nobody and take nothing away.
 */
#ifndef STORE_SQLITE_LOG_H
#define STORE_SQLITE_LOG_H

#include <stdint.h>
#include <stdio.h>

/* Past this, somebody holds it: the engine empties it at a few MiB. */
#define CR_SQLITE_LOG_LARGE ((uint64_t)64 << 20)

struct cr_sqlite_log {
    uint64_t bytes; /* 0: there is none */
    long holder;    /* a process with an open read, other than `except`; 0: none that can be seen */
};

/* Looks at the log of the database `path`: opens neither it nor the index beside it, since to close
 * that would give up SQLite's own locks of this process. */
void cr_sqlite_log_look(const char *path, long except, struct cr_sqlite_log *out);

/* The index beside a log, by which the kernel knows its locks. Inode numbers alone are not enough:
 * on two small file systems they are the same. */
struct cr_sqlite_index {
    unsigned device_major, device_minor;
    uint64_t inode;
};
/* `locks` reads as /proc/locks does: the first process with an open read of that log, other than
 * `except`; 0: none. */
long cr_sqlite_log_holder(FILE *locks, const struct cr_sqlite_index *index, long except);

#endif
