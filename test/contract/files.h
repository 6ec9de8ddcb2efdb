/* SPDX-License-Identifier: Apache-2.0 */
/* A directory of a test's own, with a database in it. */
#ifndef CONTRACT_FILES_H
#define CONTRACT_FILES_H

#include <stdbool.h>

struct scratch {
    char dir[256];
    char path[300]; /* DIR/store.db */
    char url[320];
};
bool scratch_make(struct scratch *scratch); /* a check */
void scratch_remove(struct scratch *scratch);

/* DIR/store.db and a suffix such as "-wal"; the next call overwrites it. */
const char *scratch_beside(const struct scratch *scratch, const char *suffix);

#endif
