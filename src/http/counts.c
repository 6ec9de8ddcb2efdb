/* SPDX-License-Identifier: Apache-2.0 */
/* Counting replies by route and status. */
#include "http/counts.h"

#include "base/assert.h"
#include "http/exchange.h"

static const unsigned statuses[CR_HTTP_STATUSES_MAX] = {
    200, 202, 303, 400, 401, 403, 404, 405, 409, 411, 413, 414, 415, 429, 431, 500, 503,
};

static size_t status_index(unsigned status)
{
    size_t i = 0;
    while (i < CR_HTTP_STATUSES_MAX - 1 && statuses[i] != status)
        i++;
    return i;
}

unsigned cr_http_counted_status(size_t index)
{
    CR_ASSERT(index < CR_HTTP_STATUSES_MAX);
    return statuses[index];
}

void cr_http_count_reply(struct cr_http_counts *counts, const struct cr_http_exchange *x)
{
    size_t count, route = CR_HTTP_ROUTES_MAX;
    const struct cr_http_route *table = cr_http_routes(x->site->surface, &count);
    CR_ASSERT(count <= CR_HTTP_ROUTES_MAX);
    if (x->route != NULL)
        route = (size_t)(x->route - table);
    cr_http_count_add(&counts->requests[x->site->surface][route][status_index(x->reply.status)], 1);
}
