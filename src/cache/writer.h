/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the writer's files share. The struct and what it points to, but for the segment, are the
 * engine's own memory; nothing in it is trusted from, or kept in, the segment. What only the writer
 * needs stands here, so that the segment holds nothing but what readers read.
 *
 *     table.c    a table's life; clock, stamps, floors, lease
 *     insert.c   where an entry goes, and who goes for it
 *     entry.c    the writing of one entry and its pieces
 */
#ifndef CACHE_WRITER_H
#define CACHE_WRITER_H

#include "base/assert.h"
#include "cache/head.h"

/* Ends a chain of pieces; and who owns a piece that is not yet linked. */
#define CR_NO_SLOT UINT32_MAX

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
    uint64_t slot_count;

    uint64_t *floors;       /* of each bucket: of the ids whose home it is */
    uint64_t *marks;        /* of each slot: an entry's id_mask; a piece's entry, or CR_NO_SLOT */
    uint32_t *group_counts; /* of each stamp: how many entries are of its users */
    uint64_t hand;          /* the bucket from which the next search for pieces goes on */
    struct cr_table_count count;
};

static inline struct layout_slot *slot_at(const struct cr_table *table, uint64_t slot)
{
    CR_ASSERT(slot < table->slot_count);
    return &table->buckets[slot / LAYOUT_BUCKET_SLOTS].slots[slot % LAYOUT_BUCKET_SLOTS];
}

static inline uint64_t word_own(const _Atomic uint64_t *word)
{
    /* word_own:A. Relaxed. Alone: the writer reads what it wrote itself. */
    return atomic_load_explicit(word, memory_order_relaxed);
}

static inline struct layout_bucket *bucket_of(const struct cr_table *table, uint64_t slot)
{
    CR_ASSERT(slot < table->slot_count);
    return &table->buckets[slot / LAYOUT_BUCKET_SLOTS];
}

/* Bit i: slot i of the bucket has this tag. */
static inline uint32_t bucket_tagged(const struct cr_table *table, uint64_t bucket, uint32_t tag)
{
    const _Atomic uint64_t *tags = table->buckets[bucket].tags;
    const uint64_t words[LAYOUT_TAG_WORDS] = {word_own(&tags[0]), word_own(&tags[1]),
                                              word_own(&tags[2])};
    uint64_t planes[LAYOUT_TAG_WORDS];
    layout_tag_planes(tag, planes);
    return layout_tags_equal(words, planes);
}

static inline uint32_t slot_tag(const struct cr_table *table, uint64_t slot)
{
    const struct layout_bucket *bucket = bucket_of(table, slot);
    uint32_t tag = 0;
    for (unsigned bit = 0; bit < LAYOUT_TAG_BITS; bit++) {
        unsigned at = bit % 4 * LAYOUT_BUCKET_SLOTS + (unsigned)(slot % LAYOUT_BUCKET_SLOTS);
        tag |= (uint32_t)(word_own(&bucket->tags[bit / 4]) >> at & 1) << bit;
    }
    return tag;
}

static inline void head_own(const struct cr_table *table, uint64_t slot,
                            uint64_t out_head[HEAD_WORDS])
{
    const struct layout_slot *at = slot_at(table, slot);
    for (size_t i = 0; i < HEAD_WORDS; i++)
        out_head[i] = word_own(&at->words[i]);
}

/* The index of a user's stamp. */
uint32_t cr_table_stamp_index(const struct cr_table *table, const struct cr_user *user);

/* How many pieces the entry needs besides its own slot. */
#define CR_ENTRY_PIECES_MAX                                                                        \
    ((HEAD_EXTRA_WORDS_MAX * 8 + CR_TABLE_PAYLOAD_BYTES_MAX + 3 * 8) / (8 * LAYOUT_PIECE_WORDS) + 1)
size_t cr_entry_pieces(const struct cr_entry *entry);

/* The fields of the entry in a slot that say when and how long; nothing else of *out is written. */
void cr_slot_times(const struct cr_table *table, uint64_t slot, struct cr_entry *out);

/* Write into an empty slot, and into `piece_count` pieces that cr_piece_take gave; as many as
 * cr_entry_pieces says. */
void cr_slot_write(struct cr_table *table, uint64_t slot, const struct cr_entry *entry,
                   uint32_t tag, uint64_t stamp, uint32_t stamp_index, const uint32_t *pieces,
                   size_t piece_count);
/* Move its last use on; with it goes the deadline. */
void cr_slot_seen(struct cr_table *table, uint64_t slot, cr_boot_ns seen);
/* Empty it: every byte of the entry and its pieces becomes 0 (ASVS H9). */
void cr_slot_drop(struct cr_table *table, uint64_t slot);

/* An empty slot becomes a piece that is in no chain yet; and empty again. */
void cr_piece_take(struct cr_table *table, uint64_t slot);
void cr_piece_give(struct cr_table *table, uint64_t slot);

/* Where the entry of `id` stands; false: nowhere. */
bool cr_slot_find(const struct cr_table *table, const struct cr_session_id *id, uint64_t *out_slot);

#endif
