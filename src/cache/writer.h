/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the writer's files share. The struct is the engine's own memory; nothing in it is trusted
 * from, or kept in, the segment.
 *
 *     table.c    a table's life; clock, stamps, floors, lease
 *     insert.c   where an entry goes, and who goes for it
 *     entry.c    the writing of one entry and its blocks
 */
#ifndef CACHE_WRITER_H
#define CACHE_WRITER_H

#include "cache/layout.h"

struct cr_table {
    void *memory;
    size_t bytes;
    int fd; /* -1: private memory */
    bool always_fresh;
    bool retired;
    struct cr_table_view view;
    struct layout_header *header;
    _Atomic uint64_t *stamps;
    struct layout_bucket *buckets;
    struct layout_entry *entries;
    struct layout_block *blocks;

    uint32_t *free_blocks; /* a stack; every block is here or in one entry's chain */
    size_t free_count;
    uint64_t hand; /* the bucket from which the next search for blocks goes on */
    struct cr_table_count count;
};

/* One place for an entry. */
struct slot {
    uint64_t bucket;
    unsigned index; /* 0 to LAYOUT_BUCKET_ENTRIES - 1 */
};

static inline struct layout_entry *slot_entry(const struct cr_table *table, struct slot slot)
{
    return &table->entries[slot.bucket * LAYOUT_BUCKET_ENTRIES + slot.index];
}

/* The writer reads what it wrote itself, so no order is needed. */
static inline uint64_t word_own(const _Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

static inline uint8_t slot_tag(const struct cr_table *table, struct slot slot)
{
    return (uint8_t)(word_own(&table->buckets[slot.bucket].tags) >> (8 * slot.index));
}

/* The index of a user's stamp. */
uint32_t cr_table_stamp_index(const struct cr_table *table, const struct cr_user *user);

/* How many blocks the entry needs besides its own words. */
size_t cr_entry_blocks(const struct cr_entry *entry);
/* How many blocks the one in the slot has. */
size_t cr_slot_blocks(const struct cr_table *table, struct slot slot);
/* Write into an empty slot; the free blocks suffice. */
void cr_slot_write(struct cr_table *table, struct slot slot, const struct cr_entry *entry,
                   uint8_t tag, uint64_t stamp, uint32_t stamp_index);
/* Move its last use on, and its deadline. */
void cr_slot_seen(struct cr_table *table, struct slot slot, cr_boot_ns seen, cr_boot_ns deadline);
/* Empty it: every byte of the entry and its blocks becomes 0 (ASVS H9). */
void cr_slot_drop(struct cr_table *table, struct slot slot);

/* Where the entry of `id` stands; false: nowhere. */
bool cr_slot_find(const struct cr_table *table, const struct cr_session_id *id,
                  struct slot *out_slot);

#endif
