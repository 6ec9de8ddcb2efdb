/* SPDX-License-Identifier: Apache-2.0 */
/* How far readers are, in memory that they share with the agent: it writes in proportion. */
#ifndef BENCH_PACE_H
#define BENCH_PACE_H

#include <stdatomic.h>
#include <stdint.h>

#define PACE_READERS 8

struct pace {
    struct {
        _Alignas(64) _Atomic uint64_t done;
    } readers[PACE_READERS];
    _Alignas(64) _Atomic uint64_t writes; /* of the agent */
};

#endif
