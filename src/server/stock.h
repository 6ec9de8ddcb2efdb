/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Responses kept in stock. The library copies each header of each response onto the heap, three
 * allocations for every one, which costs GET /session more than all the rest of its answer. Nearly
 * all of those answers differ in the body alone: so a response that was sent is kept, with its
 * headers, and gets the next body of the same length.
 */
#ifndef SERVER_STOCK_H
#define SERVER_STOCK_H

#include <microhttpd.h>

#include "http/http.h"

struct cr_stock;
struct cr_stock_item; /* one response; taken, sent, given back */

/* NULL without memory. `common` outlives it. */
struct cr_stock *cr_stock_create(const struct cr_http_reply_header *common);
void cr_stock_destroy(struct cr_stock *stock); /* every item has been given back; accepts NULL */

/* A response with the body of `reply` in it. NULL: it is not of the kind that is kept (200, JSON,
 * no headers of its own, short), or there is no memory: make one for once. */
struct cr_stock_item *cr_stock_take(struct cr_stock *stock, const struct cr_http_reply *reply);
struct MHD_Response *cr_stock_response(const struct cr_stock_item *item);
/* When it has been sent; wipes the body. Accepts NULL. */
void cr_stock_give(struct cr_stock *stock, struct cr_stock_item *item);

/* For all responses, kept or not: adds the headers. False: no memory. */
CR_MUST_CHECK bool cr_stock_headers(struct MHD_Response *response,
                                    const struct cr_http_reply_header *common,
                                    const struct cr_http_reply *reply);

#endif
