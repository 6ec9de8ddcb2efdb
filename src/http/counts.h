/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one worker counts, in memory that it alone writes and the ops worker reads: a page of its
 * own for each process. Counters only grow while the process lives. Whoever reads it takes every
 * number as what a stranger says: a worker that was taken over can lie about itself, and no more.
 *
 * Plain numbers without order among them: relaxed loads and stores, one writer.
 */
#ifndef HTTP_COUNTS_H
#define HTTP_COUNTS_H

#include <stdatomic.h>

#include "http/http.h"

#define CR_HTTP_ROUTES_MAX 31   /* of one surface */
#define CR_HTTP_STATUSES_MAX 20 /* that are told apart; the last one stands for all others */

struct cr_http_counts {
    _Atomic uint64_t hits, misses; /* validations: answered from the table, and asked for */
    _Atomic uint64_t connections;  /* open now */
    /* By surface, place in the surface's table of routes (the last: no route), and status. */
    _Atomic uint64_t requests[CR_HTTP_SURFACES][CR_HTTP_ROUTES_MAX + 1][CR_HTTP_STATUSES_MAX];
};

/* What the supervisor counts. */
enum cr_http_process { CR_HTTP_AGENT, CR_HTTP_WORKER, CR_HTTP_OPS, CR_HTTP_PROCESSES };
struct cr_http_processes {
    _Atomic uint64_t starts[CR_HTTP_PROCESSES];  /* since the server's own start */
    _Atomic uint64_t running[CR_HTTP_PROCESSES]; /* now */
    _Atomic uint64_t wanted[CR_HTTP_PROCESSES];
};

/* One writer for each number. */
static inline void cr_http_count_set(_Atomic uint64_t *number, uint64_t value)
{
    atomic_store_explicit(number, value, memory_order_relaxed);
}
static inline uint64_t cr_http_count_get(const _Atomic uint64_t *number)
{
    return atomic_load_explicit(number, memory_order_relaxed);
}
static inline void cr_http_count_add(_Atomic uint64_t *number, uint64_t more)
{
    cr_http_count_set(number, cr_http_count_get(number) + more);
}

/* The exchange's reply, which is about to be sent. */
void cr_http_count_reply(struct cr_http_counts *counts, const struct cr_http_exchange *x);

/* Which status stands at `index`; 0: all that have no place of their own. */
unsigned cr_http_counted_status(size_t index);

/* What the ops worker knows of the others; it owns this, and maps what the pointers lead to. */
struct cr_http_census {
    const struct cr_http_counts *pages[CR_HTTP_PAGES_MAX]; /* NULL: not come yet */
    struct cr_http_counts *gone; /* what processes that have been replaced had counted */
    const struct cr_http_processes *processes; /* NULL: not known */
};

#endif
