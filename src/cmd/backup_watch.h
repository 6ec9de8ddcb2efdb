/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who sees to it that a backup does not stand still. While it copies it holds a read of the store
 * open, and the store's write-ahead log grows until it is done: a process that was stopped
 * (SIGSTOP, Ctrl-Z) would hold it for ever, and SQLite cannot take it away. So a second process, in
 * a session of its own that no stop of a terminal or a group reaches, looks at how far the first
 * has come, and kills it when it comes no further.
 *
 * Invariant: it lives no longer than the process that it watches, and touches nothing else.
 */
#ifndef CMD_BACKUP_WATCH_H
#define CMD_BACKUP_WATCH_H

#include <stdint.h>

#include <cloakroom/types.h>

struct cr_backup_watch;

/* Before any file is open: the second process has what is open now. `stall`: how long without a
 * step is too long. `name` is what it says on standard error then. NULL: it cannot be had. */
struct cr_backup_watch *cr_backup_watch_start(cr_span_ms stall, const char *name);
/* A step was made. Accepts NULL. */
void cr_backup_watch_step(struct cr_backup_watch *watch);
/* The second process is gone. Accepts NULL. */
void cr_backup_watch_stop(struct cr_backup_watch *watch);

#endif
