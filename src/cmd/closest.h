/* SPDX-License-Identifier: Apache-2.0 */
/* "Did you mean": the name that a mistyped one is nearest to. */
#ifndef CMD_CLOSEST_H
#define CMD_CLOSEST_H

#include <stddef.h>

/* NULL when nothing is near enough to be meant. `names` are `count` strings, each `stride` bytes
 * after the one before, so that it reads a column of a table; a NULL among them is passed over. */
const char *cr_closest(const char *word, const char *const *names, size_t count, size_t stride);

#endif
