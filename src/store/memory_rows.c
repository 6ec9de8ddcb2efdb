/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chained hash tables with an undo list. The links are inside the rows, so that nothing has to be
 * allocated to put a row back. Not for keys that somebody can aim at a bucket: session ids and
 * identities are random, and names of users only cost their own application time.
 */
#include "store/memory_rows.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

#define BUCKETS_FIRST 64
#define UNDO_FIRST 64

/* FNV-1a */
static uint64_t key_hash(struct cr_row_key key)
{
    uint64_t hash = 0xcbf29ce484222325ULL;
    const unsigned char *bytes = key.bytes;
    for (size_t i = 0; i < key.count; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3ULL;
    return hash ^ (hash >> 32);
}

static bool key_equal(struct cr_row_key a, struct cr_row_key b)
{
    return a.count == b.count && memcmp(a.bytes, b.bytes, a.count) == 0;
}

static struct cr_row **bucket_of(const struct cr_rows *rows, struct cr_row_key key)
{
    return &rows->buckets[key_hash(key) & (rows->bucket_count - 1)];
}

static struct cr_row **group_of(const struct cr_rows *rows, struct cr_row_key key)
{
    return &rows->groups[key_hash(key) & (rows->bucket_count - 1)];
}

static void row_link(struct cr_rows *rows, struct cr_row *row)
{
    struct cr_row **bucket = bucket_of(rows, rows->kind->key(row));
    row->next = *bucket;
    *bucket = row;
    rows->count++;
    if (rows->kind->group == NULL)
        return;
    struct cr_row **group = group_of(rows, rows->kind->group(row));
    row->group_next = *group;
    row->group_prev = group;
    if (*group != NULL)
        (*group)->group_prev = &row->group_next;
    *group = row;
}

static void row_unlink(struct cr_rows *rows, struct cr_row *row)
{
    struct cr_row **place = bucket_of(rows, rows->kind->key(row));
    while (*place != row)
        place = &(*place)->next;
    *place = row->next;
    rows->count--;
    if (rows->kind->group == NULL)
        return;
    *row->group_prev = row->group_next;
    if (row->group_next != NULL)
        row->group_next->group_prev = row->group_prev;
}

/* Fails only when there are no buckets at all; else the chains just get longer. */
static enum cr_status rows_grow(struct cr_rows *rows)
{
    size_t bucket_count = rows->bucket_count == 0 ? BUCKETS_FIRST : 2 * rows->bucket_count;
    struct cr_rows grown = {.kind = rows->kind, .bucket_count = bucket_count};
    grown.buckets = calloc(bucket_count, sizeof(struct cr_row *));
    grown.groups = calloc(bucket_count, sizeof(struct cr_row *));
    if (grown.buckets == NULL || grown.groups == NULL) {
        free(grown.buckets);
        free(grown.groups);
        return rows->bucket_count == 0 ? CR_E_NO_MEMORY : CR_OK;
    }
    for (size_t i = 0; i < rows->bucket_count; i++) {
        struct cr_row *next;
        for (struct cr_row *row = rows->buckets[i]; row != NULL; row = next) {
            next = row->next;
            row_link(&grown, row);
        }
    }
    free(rows->buckets);
    free(rows->groups);
    *rows = grown;
    return CR_OK;
}

enum cr_status cr_rows_init(struct cr_rows *rows, const struct cr_rows_kind *kind)
{
    *rows = (struct cr_rows){.kind = kind};
    return rows_grow(rows);
}

void cr_rows_fini(struct cr_rows *rows)
{
    for (size_t i = 0; i < rows->bucket_count; i++) {
        struct cr_row *next;
        for (struct cr_row *row = rows->buckets[i]; row != NULL; row = next) {
            next = row->next;
            rows->kind->destroy(row);
        }
    }
    free(rows->buckets);
    free(rows->groups);
    memset(rows, 0, sizeof *rows);
}

struct cr_row *cr_rows_find(const struct cr_rows *rows, const void *key, size_t key_bytes)
{
    struct cr_row_key wanted = {key, key_bytes};
    struct cr_row *row = *bucket_of(rows, wanted);
    while (row != NULL && !key_equal(rows->kind->key(row), wanted))
        row = row->next;
    return row;
}

struct cr_row *cr_rows_next(const struct cr_rows *rows, const struct cr_row *row)
{
    size_t bucket = 0;
    if (row != NULL) {
        if (row->next != NULL)
            return row->next;
        bucket = (size_t)(bucket_of(rows, rows->kind->key(row)) - rows->buckets) + 1;
    }
    while (bucket < rows->bucket_count && rows->buckets[bucket] == NULL)
        bucket++;
    return bucket < rows->bucket_count ? rows->buckets[bucket] : NULL;
}

struct cr_row *cr_rows_group_next(const struct cr_rows *rows, const void *group, size_t group_bytes,
                                  const struct cr_row *row)
{
    struct cr_row_key wanted = {group, group_bytes};
    struct cr_row *next = row == NULL ? *group_of(rows, wanted) : row->group_next;
    while (next != NULL && !key_equal(rows->kind->group(next), wanted))
        next = next->group_next;
    return next;
}

static enum cr_status undo_note(struct cr_undo *undo, struct cr_rows *rows, struct cr_row *before,
                                struct cr_row *after)
{
    if (undo->count == undo->capacity) {
        size_t capacity = undo->capacity == 0 ? UNDO_FIRST : 2 * undo->capacity;
        struct cr_undo_item *grown = reallocarray(undo->items, capacity, sizeof *grown);
        if (grown == NULL)
            return CR_E_NO_MEMORY;
        undo->items = grown;
        undo->capacity = capacity;
    }
    undo->items[undo->count++] = (struct cr_undo_item){rows, before, after};
    return CR_OK;
}

enum cr_status cr_rows_put(struct cr_rows *rows, struct cr_undo *undo, struct cr_row *row)
{
    struct cr_row_key key = rows->kind->key(row);
    struct cr_row *before = cr_rows_find(rows, key.bytes, key.count);
    CR_ASSERT(before != row);
    enum cr_status st = undo_note(undo, rows, before, row);
    if (st != CR_OK) {
        rows->kind->destroy(row);
        return st;
    }
    if (before != NULL)
        row_unlink(rows, before);
    row_link(rows, row);
    return rows->count > rows->bucket_count ? rows_grow(rows) : CR_OK;
}

enum cr_status cr_rows_remove(struct cr_rows *rows, struct cr_undo *undo, struct cr_row *row)
{
    enum cr_status st = undo_note(undo, rows, row, NULL);
    if (st == CR_OK)
        row_unlink(rows, row);
    return st;
}

void cr_undo_back(struct cr_undo *undo, size_t count)
{
    CR_ASSERT(count <= undo->count);
    while (undo->count > count) {
        struct cr_undo_item *item = &undo->items[--undo->count];
        if (item->after != NULL) {
            row_unlink(item->rows, item->after);
            item->rows->kind->destroy(item->after);
        }
        if (item->before != NULL)
            row_link(item->rows, item->before);
    }
}

void cr_undo_keep(struct cr_undo *undo)
{
    for (size_t i = 0; i < undo->count; i++)
        if (undo->items[i].before != NULL)
            undo->items[i].rows->kind->destroy(undo->items[i].before);
    undo->count = 0;
}

void cr_undo_fini(struct cr_undo *undo)
{
    cr_undo_keep(undo);
    free(undo->items);
    *undo = (struct cr_undo){0};
}
