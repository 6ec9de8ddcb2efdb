/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns responses that are not being sent, in a list for each length of body. At most
 * ITEMS_MAX exist; past that, responses are made and thrown away as usual.
 */
#include "server/stock.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define BODY_BYTES_MAX 512
#define ITEMS_MAX 512

struct cr_stock_item {
    struct cr_stock_item *next;
    struct MHD_Response *response;
    size_t bytes;
    char body[BODY_BYTES_MAX]; /* the response points here */
};

struct cr_stock {
    const struct cr_http_reply_header *common;
    size_t item_count;
    struct cr_stock_item *free[BODY_BYTES_MAX + 1]; /* by length of body */
};

struct cr_stock *cr_stock_create(const struct cr_http_reply_header *common)
{
    struct cr_stock *stock = calloc(1, sizeof *stock);
    if (stock != NULL)
        stock->common = common;
    return stock;
}

static void item_free(struct cr_stock_item *item)
{
    if (item->response != NULL)
        MHD_destroy_response(item->response);
    free(item);
}

void cr_stock_destroy(struct cr_stock *stock)
{
    if (stock == NULL)
        return;
    for (size_t i = 0; i <= BODY_BYTES_MAX; i++)
        while (stock->free[i] != NULL) {
            struct cr_stock_item *item = stock->free[i];
            stock->free[i] = item->next;
            item_free(item);
        }
    free(stock);
}

bool cr_stock_headers(struct MHD_Response *response, const struct cr_http_reply_header *common,
                      const struct cr_http_reply *reply)
{
    bool added = true;
    for (; common->name != NULL; common++)
        added = added && MHD_add_response_header(response, common->name, common->value) == MHD_YES;
    for (size_t i = 0; i < reply->header_count; i++)
        added = added && MHD_add_response_header(response, reply->headers[i].name,
                                                 reply->headers[i].value) == MHD_YES;
    if (reply->type != NULL)
        added = added && MHD_add_response_header(response, "Content-Type", reply->type) == MHD_YES;
    return added;
}

static struct cr_stock_item *item_create(struct cr_stock *stock, const struct cr_http_reply *reply)
{
    struct cr_stock_item *item = malloc(sizeof *item);
    if (item == NULL)
        return NULL;
    item->bytes = reply->body.count;
    item->response =
        MHD_create_response_from_buffer(item->bytes, item->body, MHD_RESPMEM_PERSISTENT);
    if (item->response == NULL || !cr_stock_headers(item->response, stock->common, reply)) {
        item_free(item);
        return NULL;
    }
    stock->item_count++;
    return item;
}

struct cr_stock_item *cr_stock_take(struct cr_stock *stock, const struct cr_http_reply *reply)
{
    if (reply->status != 200 || reply->close || reply->header_count > 0 || reply->type == NULL ||
        strcmp(reply->type, "application/json") != 0 || reply->body.count > BODY_BYTES_MAX)
        return NULL;
    struct cr_stock_item *item = stock->free[reply->body.count];
    if (item != NULL)
        stock->free[reply->body.count] = item->next;
    else if (stock->item_count < ITEMS_MAX)
        item = item_create(stock, reply);
    if (item != NULL)
        memcpy(item->body, reply->body.bytes, reply->body.count);
    return item;
}

struct MHD_Response *cr_stock_response(const struct cr_stock_item *item)
{
    return item->response;
}

void cr_stock_give(struct cr_stock *stock, struct cr_stock_item *item)
{
    if (item == NULL)
        return;
    cr_bytes_wipe(item->body, item->bytes);
    item->next = stock->free[item->bytes];
    stock->free[item->bytes] = item;
}
