/* SPDX-License-Identifier: Apache-2.0 */
/* A directory of a test's own, with a database in it. */
#ifndef CONTRACT_FILES_H
#define CONTRACT_FILES_H

#include "contract.h"

struct scratch {
    char dir[256];
    char path[300]; /* DIR/store.db */
    char url[320];
};
bool scratch_make(struct scratch *scratch); /* a check */
void scratch_remove(struct scratch *scratch);

/* DIR/store.db and a suffix such as "-wal"; the next call overwrites it. */
const char *scratch_beside(const struct scratch *scratch, const char *suffix);

/* A fixture over a new database; a check. And its end. */
bool scratch_begin(struct fixture *f, struct scratch *scratch);
void scratch_end(struct fixture *f, struct scratch *scratch);
void store_close(struct fixture *f);
enum cr_status scratch_reopen(struct fixture *f, const struct scratch *scratch,
                              struct cr_error *out_error);

/* The whole file, at most 4 MiB; the caller frees it. */
char *file_read(const char *path, size_t *out_size);
void file_write(const char *path, const void *bytes, size_t size);

#endif
