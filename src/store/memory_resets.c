/* SPDX-License-Identifier: Apache-2.0 */
/* The memory store's links for a new password. */
#include <stdlib.h>
#include <string.h>

#include "store/memory.h"

static const struct reset_item *item_of(const struct cr_row *row)
{
    return (const struct reset_item *)row;
}

static struct cr_row_key reset_key(const struct cr_row *row)
{
    const struct cr_token_hash *hash = &item_of(row)->reset.hash;
    return (struct cr_row_key){hash->bytes, sizeof hash->bytes};
}

static struct cr_row_key reset_group(const struct cr_row *row)
{
    const struct cr_user *user = &item_of(row)->reset.user;
    return (struct cr_row_key){user->bytes, user->length};
}

static void reset_destroy(struct cr_row *row)
{
    free(row);
}

const struct cr_rows_kind cr_memory_reset_kind = {
    .key = reset_key, .group = reset_group, .destroy = reset_destroy};

static const struct reset_item *reset_good(const struct memory *memory,
                                           const struct cr_token_hash *hash)
{
    const struct cr_row *row = cr_rows_find(&memory->resets, hash->bytes, sizeof hash->bytes);
    return row != NULL && item_of(row)->until > cr_memory_now(memory) ? item_of(row) : NULL;
}

static size_t resets_count(const struct memory *memory, const struct cr_user *user)
{
    const struct cr_row *row = NULL;
    size_t count = 0;
    while ((row = cr_rows_group_next(&memory->resets, user->bytes, user->length, row)) != NULL)
        count += item_of(row)->until > cr_memory_now(memory);
    return count;
}

static enum cr_status reset_add(struct memory *memory, const struct cr_reset_row *row)
{
    const struct cr_user *user = &row->user;
    if (cr_rows_find(&memory->accounts, user->bytes, user->length) == NULL)
        return CR_UNKNOWN_USER;
    if (resets_count(memory, user) >= CR_RESETS_MAX)
        return CR_E_LIMIT;
    struct reset_item *item = calloc(1, sizeof *item);
    if (item == NULL)
        return CR_E_NO_MEMORY;
    item->reset = *row;
    item->until = cr_memory_now(memory) + row->left;
    return cr_rows_put(&memory->resets, &memory->undo, &item->row);
}

enum cr_status cr_memory_reset_add(struct cr_store *store, const struct cr_reset_row *row)
{
    struct memory_call call;
    struct memory *memory = cr_memory_enter(store, &call);
    return cr_memory_leave(&call, reset_add(memory, row));
}

enum cr_status cr_memory_reset_find(struct cr_store *store, const struct cr_token_hash *hash,
                                    struct cr_reset_row *out)
{
    struct memory_call call;
    const struct memory *memory = cr_memory_enter(store, &call);
    const struct reset_item *item = reset_good(memory, hash);
    if (item != NULL) {
        cr_span_ms left = item->until - cr_memory_now(memory);
        *out = item->reset;
        out->left = left < CR_RESET_MS_MAX ? left : CR_RESET_MS_MAX;
    }
    return cr_memory_leave(&call, item != NULL ? CR_OK : CR_NOT_FOUND);
}

bool cr_memory_reset_is_good(const struct memory *memory, const struct cr_token_hash *hash,
                             const struct cr_user *user)
{
    const struct reset_item *item = reset_good(memory, hash);
    return item != NULL && cr_user_equal(&item->reset.user, user);
}

enum cr_status cr_memory_resets_forget(struct memory *memory, const struct cr_user *user)
{
    enum cr_status st = CR_OK;
    struct cr_row *row;
    while (st == CR_OK &&
           (row = cr_rows_group_next(&memory->resets, user->bytes, user->length, NULL)) != NULL)
        st = cr_rows_remove(&memory->resets, &memory->undo, row);
    return st;
}

/* The next that is over. */
static struct cr_row *reset_over(const struct memory *memory)
{
    struct cr_row *row = NULL;
    while ((row = cr_rows_next(&memory->resets, row)) != NULL)
        if (item_of(row)->until <= cr_memory_now(memory))
            break;
    return row;
}

enum cr_status cr_memory_resets_sweep(struct memory *memory, size_t limit, size_t *count)
{
    enum cr_status st = CR_OK;
    struct cr_row *row;
    for (; st == CR_OK && limit > 0 && (row = reset_over(memory)) != NULL; limit--) {
        st = cr_rows_remove(&memory->resets, &memory->undo, row);
        *count += st == CR_OK;
    }
    return st;
}
