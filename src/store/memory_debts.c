/* SPDX-License-Identifier: Apache-2.0 */
/* The memory store's debts. */
#include <stdlib.h>
#include <string.h>

#include "store/memory.h"

static struct cr_row_key debt_key(const struct cr_row *row)
{
    const struct cr_debt_row *debt = &((const struct debt_item *)row)->debt;
    return (struct cr_row_key){debt->key, sizeof debt->key};
}

static void debt_destroy(struct cr_row *row)
{
    free(row);
}

const struct cr_rows_kind cr_memory_debt_kind = {.key = debt_key, .destroy = debt_destroy};

static cr_span_ms debt_most(const struct cr_debt_row *row)
{
    cr_span_ms most = 0;
    for (size_t i = 0; i < CR_DEBT_TIERS_MAX; i++)
        most = row->left[i] > most ? row->left[i] : most;
    return most;
}

/* As it is now. False: nothing is left. */
static bool debt_read(const struct memory *memory, const struct cr_row *row,
                      struct cr_debt_row *out)
{
    const struct debt_item *item = (const struct debt_item *)row;
    cr_span_ms passed = cr_boot_between(item->at, cr_clock_boot(memory->env.clock));
    *out = item->debt;
    for (size_t i = 0; i < CR_DEBT_TIERS_MAX; i++)
        out->left[i] = passed < out->left[i] ? out->left[i] - passed : 0;
    return debt_most(out) > 0;
}

static enum cr_status debt_write(struct memory *memory, const struct cr_debt_row *debt)
{
    if (debt_most(debt) == 0) {
        struct cr_row *row = cr_rows_find(&memory->debts, debt->key, sizeof debt->key);
        return row == NULL ? CR_OK : cr_rows_remove(&memory->debts, &memory->undo, row);
    }
    struct debt_item *item = calloc(1, sizeof *item);
    if (item == NULL)
        return CR_E_NO_MEMORY;
    item->debt = *debt;
    item->at = cr_clock_boot(memory->env.clock);
    return cr_rows_put(&memory->debts, &memory->undo, &item->row);
}

enum cr_status cr_memory_debt_put(struct cr_store *store, const struct cr_debt_row *rows,
                                  size_t count)
{
    struct memory_call call;
    struct memory *memory = cr_memory_enter(store, &call);
    enum cr_status st = CR_OK;
    for (size_t i = 0; st == CR_OK && i < count; i++)
        st = debt_write(memory, &rows[i]);
    return cr_memory_leave(&call, st);
}

enum cr_status cr_memory_debt_find(struct cr_store *store,
                                   const unsigned char key[CR_DEBT_KEY_BYTES],
                                   struct cr_debt_row *out)
{
    struct memory_call call;
    const struct memory *memory = cr_memory_enter(store, &call);
    const struct cr_row *row = cr_rows_find(&memory->debts, key, CR_DEBT_KEY_BYTES);
    bool found = row != NULL && debt_read(memory, row, out);
    return cr_memory_leave(&call, found ? CR_OK : CR_NOT_FOUND);
}

/* Before `i`, while that owes less. */
static size_t debt_place(const struct cr_debt_row *out, size_t count, const struct cr_debt_row *row)
{
    size_t i = count;
    while (i > 0 && debt_most(&out[i - 1]) < debt_most(row))
        i--;
    return i;
}

enum cr_status cr_memory_debt_list(struct cr_store *store, struct cr_debt_row *out, size_t capacity,
                                   size_t *out_count)
{
    struct memory_call call;
    struct cr_debt_row debt;
    const struct memory *memory = cr_memory_enter(store, &call);
    const struct cr_row *row = NULL;
    size_t count = 0;
    while ((row = cr_rows_next(&memory->debts, row)) != NULL) {
        if (!debt_read(memory, row, &debt))
            continue;
        size_t at = debt_place(out, count, &debt);
        if (at == capacity)
            continue;
        count += count < capacity;
        memmove(&out[at + 1], &out[at], (count - at - 1) * sizeof out[0]);
        out[at] = debt;
    }
    *out_count = count;
    return cr_memory_leave(&call, CR_OK);
}

/* The next of those that `user` and `address` name, or of those of which nothing is left. */
static struct cr_row *debt_next(const struct memory *memory, const struct cr_user *user,
                                const char *address, bool spent)
{
    struct cr_debt_row debt;
    struct cr_row *row = NULL;
    while ((row = cr_rows_next(&memory->debts, row)) != NULL) {
        bool any = debt_read(memory, row, &debt);
        if (spent ? !any
                  : (user == NULL || cr_user_equal(&debt.user, user)) &&
                        (address == NULL || strcmp(debt.address, address) == 0))
            break;
    }
    return row;
}

enum cr_status cr_memory_debt_forget(struct cr_store *store, const struct cr_user *user,
                                     const char *address)
{
    struct memory_call call;
    struct memory *memory = cr_memory_enter(store, &call);
    enum cr_status st = CR_OK;
    struct cr_row *row;
    while (st == CR_OK && (row = debt_next(memory, user, address, false)) != NULL)
        st = cr_rows_remove(&memory->debts, &memory->undo, row);
    return cr_memory_leave(&call, st);
}

enum cr_status cr_memory_debt_sweep(struct memory *memory, size_t limit, size_t *count)
{
    enum cr_status st = CR_OK;
    struct cr_row *row;
    for (; st == CR_OK && limit > 0 && (row = debt_next(memory, NULL, NULL, true)) != NULL;
         limit--) {
        st = cr_rows_remove(&memory->debts, &memory->undo, row);
        *count += st == CR_OK;
    }
    return st;
}
