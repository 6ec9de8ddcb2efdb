/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Passwords that everybody tries first (ASVS E9): a list that is built in (common.txt), and one
 * more from a file that the operator keeps up to date. Both are asked for whole passwords, folded
 * to lower case (ASCII); nothing leaves this host. Fixed once opened: safe from any thread.
 */
#ifndef AUTH_COMMON_H
#define AUTH_COMMON_H

#include <stdbool.h>
#include <stddef.h>

#include <cloakroom/status.h>

#define CR_COMMON_ENTRIES_MAX 10000000 /* of a file: 80 MB in memory */

extern const char cr_common_passwords[]; /* lines in byte order */
extern const size_t cr_common_passwords_bytes;

struct cr_common;

/*
 * Reads the file `path`: a password in each line; empty lines, and those that begin with "#!", are
 * none. Keeps 8 bytes of each, a keyed hash. CR_E_IO: it cannot be read, or is no regular file;
 * CR_E_LIMIT: more than CR_COMMON_ENTRIES_MAX; the text says so. The caller destroys *out_list.
 */
CR_MUST_CHECK enum cr_status cr_common_open(const char *path, struct cr_common **out_list,
                                            struct cr_error *out_error);
void cr_common_destroy(struct cr_common *list); /* accepts NULL */

/* Whether `folded` stands in the built-in list or in `list` (NULL: there is only that). */
bool cr_common_has(const struct cr_common *list, const unsigned char *folded, size_t bytes);

#endif
