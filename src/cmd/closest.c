/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/closest.h"

#include <string.h>

#define CHARS_MAX 32

/* How many letters are to be put in, taken out, changed or swapped with their neighbour. */
static size_t distance(const char *a, const char *b)
{
    size_t m = strlen(a);
    size_t n = strlen(b);
    size_t d[CHARS_MAX + 1][CHARS_MAX + 1];
    if (m > CHARS_MAX || n > CHARS_MAX)
        return CHARS_MAX;
    for (size_t i = 0; i <= m; i++)
        d[i][0] = i;
    for (size_t j = 0; j <= n; j++)
        d[0][j] = j;
    for (size_t i = 1; i <= m; i++) {
        for (size_t j = 1; j <= n; j++) {
            size_t best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (d[i - 1][j] + 1 < best)
                best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best)
                best = d[i][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                d[i - 2][j - 2] + 1 < best)
                best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    }
    return d[m][n];
}

const char *cr_closest(const char *word, const char *const *names, size_t count, size_t stride)
{
    const char *found = NULL;
    size_t least = strlen(word) / 3 + 2; /* a third of the letters wrong, and one */
    for (size_t i = 0; i < count; i++) {
        const char *name;
        memcpy(&name, (const char *)names + i * stride, sizeof name);
        if (name == NULL)
            continue;
        size_t apart = distance(word, name);
        if (apart < least && apart < strlen(name)) {
            least = apart;
            found = name;
        }
    }
    return found;
}
