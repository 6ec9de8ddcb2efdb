/* SPDX-License-Identifier: Apache-2.0 */
/* Random bytes as a part that can be swapped: the kernel's, or a seeded generator for tests. */
#ifndef BASE_RANDOM_H
#define BASE_RANDOM_H

#include <cloakroom/types.h>

struct cr_random {
    /* CR_UNAVAILABLE when the system gives none: whoever needed them refuses. */
    enum cr_status (*fill)(struct cr_random *, void *out, size_t bytes);
};

/* The system's generator (getrandom). Safe from any thread, and after fork. */
struct cr_random *cr_random_system(void);

static inline CR_MUST_CHECK enum cr_status cr_random_fill(struct cr_random *random, void *out,
                                                          size_t bytes)
{
    return random->fill(random, out, bytes);
}

/* Repeatable from its seed (splitmix64); never for secrets that leave a test. */
struct cr_random_seeded {
    struct cr_random random;
    uint64_t state;
};
void cr_random_seeded_init(struct cr_random_seeded *seeded, uint64_t seed);
uint64_t cr_random_seeded_next(struct cr_random_seeded *seeded);

#endif
