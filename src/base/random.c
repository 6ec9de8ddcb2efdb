/* SPDX-License-Identifier: Apache-2.0 */
/* Random bytes: getrandom and nothing in between, so no state is doubled by fork; and splitmix64.
 */
#include "base/random.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

static enum cr_status system_fill(struct cr_random *random, void *out, size_t bytes)
{
    int kept_errno = errno;
    unsigned char *next = out;
    size_t left = bytes;
    while (left > 0) {
        ssize_t got = getrandom(next, left, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        next += got;
        left -= (size_t)got;
    }
    errno = kept_errno;
    return left == 0 ? CR_OK : CR_UNAVAILABLE;
}

struct cr_random *cr_random_system(void)
{
    static struct cr_random random = {.fill = system_fill};
    return &random;
}

uint64_t cr_random_seeded_next(struct cr_random_seeded *seeded)
{
    uint64_t z = seeded->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static enum cr_status seeded_fill(struct cr_random *random, void *out, size_t bytes)
{
    unsigned char *next = out;
    for (size_t left = bytes; left > 0;) {
        uint64_t word = cr_random_seeded_next((struct cr_random_seeded *)random);
        size_t count = left < sizeof word ? left : sizeof word;
        memcpy(next, &word, count);
        next += count;
        left -= count;
    }
    return CR_OK;
}

void cr_random_seeded_init(struct cr_random_seeded *seeded, uint64_t seed)
{
    *seeded = (struct cr_random_seeded){.random = {.fill = seeded_fill}, .state = seed};
}
