/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables in memory whose changes can be undone: what store_memory.c keeps its rows in.
 *
 * A row never changes while it is in a table: to change one, put another with the same key in its
 * place. Each put and remove is noted in an undo list, which is either kept (the rows that were
 * replaced are freed) or undone (the ones that replaced them are). Undoing cannot fail.
 */
#ifndef STORE_MEMORY_ROWS_H
#define STORE_MEMORY_ROWS_H

#include <stddef.h>

#include <cloakroom/status.h>

/* First member of every row. The table's own. */
struct cr_row {
    struct cr_row *next;
    struct cr_row *group_next, **group_prev;
};

struct cr_row_key {
    const void *bytes;
    size_t count;
};

struct cr_rows_kind {
    struct cr_row_key (*key)(const struct cr_row *);   /* one row for each */
    struct cr_row_key (*group)(const struct cr_row *); /* NULL, or a key that many rows share */
    void (*destroy)(struct cr_row *);
};

struct cr_rows {
    const struct cr_rows_kind *kind;
    size_t count, bucket_count;
    struct cr_row **buckets, **groups;
};

struct cr_undo_item {
    struct cr_rows *rows;
    struct cr_row *before, *after; /* NULL: none */
};
struct cr_undo {
    struct cr_undo_item *items;
    size_t count, capacity;
};

CR_MUST_CHECK enum cr_status cr_rows_init(struct cr_rows *rows, const struct cr_rows_kind *kind);
void cr_rows_fini(struct cr_rows *rows); /* accepts zeroed */

struct cr_row *cr_rows_find(const struct cr_rows *rows, const void *key, size_t key_bytes);

/* All rows, or all of a group, in no order: the one after `row`, or the first for NULL. */
struct cr_row *cr_rows_next(const struct cr_rows *rows, const struct cr_row *row);
struct cr_row *cr_rows_group_next(const struct cr_rows *rows, const void *group, size_t group_bytes,
                                  const struct cr_row *row);

/* Takes `row` over, also when it fails. Replaces the one with its key. */
CR_MUST_CHECK enum cr_status cr_rows_put(struct cr_rows *rows, struct cr_undo *undo,
                                         struct cr_row *row);
CR_MUST_CHECK enum cr_status cr_rows_remove(struct cr_rows *rows, struct cr_undo *undo,
                                            struct cr_row *row);

void cr_undo_back(struct cr_undo *undo, size_t count); /* until only `count` changes are left */
void cr_undo_keep(struct cr_undo *undo);
void cr_undo_fini(struct cr_undo *undo);

#endif
