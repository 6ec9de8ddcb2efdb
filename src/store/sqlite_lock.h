/* SPDX-License-Identifier: Apache-2.0 */
/* Who may open a database file at all: one engine at a time, on a local file system. */
#ifndef STORE_SQLITE_LOCK_H
#define STORE_SQLITE_LOCK_H

#include <cloakroom/types.h>

/* The one path that all names of a file lead to, links resolved; the file need not be there yet.
 * The caller frees it. */
CR_MUST_CHECK enum cr_status cr_sqlite_path(const char *path, char **out_path,
                                            struct cr_error *out_error);

/* CR-106: CR_E_REFUSED when `path` is on a file system that other hosts may write. */
CR_MUST_CHECK enum cr_status cr_sqlite_is_local(const char *path, struct cr_error *out_error);

/* Takes PATH-lock for as long as *out_fd is open; the kernel gives it back when the holder dies.
 * CR_BUSY with the holder's pid in the text. */
CR_MUST_CHECK enum cr_status cr_sqlite_lock(const char *path, int *out_fd,
                                            struct cr_error *out_error);

/* Makes the file where it is missing, readable for its owner only. */
CR_MUST_CHECK enum cr_status cr_sqlite_touch(const char *path, struct cr_error *out_error);

/* Whether a statfs type is of a file system that only this host writes. */
CR_MUST_CHECK bool cr_sqlite_type_is_local(long type);

#endif
