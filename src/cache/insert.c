/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where an entry goes, and who goes for it. An id has two buckets, home and spill; its entry stands
 * in the one that had more room. Nobody waits for room and nothing grows: where both are full the
 * entry that is least missed goes, ended and expired ones first, then the one seen longest ago.
 *
 * Leaves the writing itself to entry.c. Rule 1's refusals are here.
 */
#include "cache/writer.h"

#include "base/assert.h"

/* How many buckets one insert may empty of payload, to get the blocks that it needs. */
#define RELIEVE_BUCKETS_MAX 64

static bool bucket_find(const struct cr_table *table, uint64_t bucket, uint8_t tag,
                        const uint64_t id[3], struct slot *out_slot)
{
    uint64_t tags = word_own(&table->buckets[bucket].tags);
    for (uint64_t like = layout_tags_like(tags, tag); like != 0; like &= like - 1) {
        struct slot slot = {.bucket = bucket, .index = layout_first(like)};
        const _Atomic uint64_t *words = slot_entry(table, slot)->words + WORD_ID;
        if (slot_tag(table, slot) != tag || word_own(&words[0]) != id[0] ||
            word_own(&words[1]) != id[1] || word_own(&words[2]) != id[2])
            continue;
        *out_slot = slot;
        return true;
    }
    return false;
}

bool cr_slot_find(const struct cr_table *table, const struct cr_session_id *id,
                  struct slot *out_slot)
{
    struct layout_places places = layout_places(id, table->view.bucket_count);
    uint64_t words[3];
    layout_id_words(id, words);
    return bucket_find(table, places.home, places.tag, words, out_slot) ||
           bucket_find(table, places.spill, places.tag, words, out_slot);
}

/* Whether readers may still believe it, were the lease to hold. */
static bool slot_is_live(const struct cr_table *table, struct slot slot, cr_boot_ns now)
{
    const struct layout_entry *entry = slot_entry(table, slot);
    uint64_t stamp = word_own(&entry->words[WORD_STAMP]);
    uint32_t stamp_index = (uint32_t)word_own(&entry->words[WORD_PLACES]);
    CR_ASSERT(stamp_index < table->view.stamp_count);
    return now < word_own(&entry->words[WORD_DEADLINE]) &&
           word_own(&table->stamps[stamp_index]) <= stamp && word_own(&table->header->all) <= stamp;
}

/* The rank by which entries go: 0 the dead, then by last use. */
static uint64_t slot_rank(const struct cr_table *table, struct slot slot, cr_boot_ns now)
{
    if (!slot_is_live(table, slot, now))
        return 0;
    uint64_t seen = word_own(&slot_entry(table, slot)->words[WORD_SEEN]);
    return seen == 0 ? 1 : seen;
}

static void slot_evict(struct cr_table *table, struct slot slot, cr_boot_ns now)
{
    if (slot_is_live(table, slot, now))
        table->count.evicted_live++;
    cr_slot_drop(table, slot);
}

static unsigned bucket_room(const struct cr_table *table, uint64_t bucket)
{
    unsigned room = 0;
    for (unsigned i = 0; i < LAYOUT_BUCKET_ENTRIES; i++)
        room += slot_tag(table, (struct slot){bucket, i}) == 0;
    return room;
}

static struct slot bucket_empty_slot(const struct cr_table *table, uint64_t bucket)
{
    struct slot slot = {.bucket = bucket, .index = 0};
    while (slot_tag(table, slot) != 0) {
        slot.index++;
        CR_ASSERT(slot.index < LAYOUT_BUCKET_ENTRIES);
    }
    return slot;
}

/* An empty slot for an id with these places, if need be by evicting another. */
static struct slot slot_claim(struct cr_table *table, const struct layout_places *places,
                              cr_boot_ns now)
{
    unsigned home_room = bucket_room(table, places->home);
    unsigned spill_room = bucket_room(table, places->spill);
    if (home_room > 0 || spill_room > 0)
        return bucket_empty_slot(table, home_room >= spill_room ? places->home : places->spill);

    struct slot least = {.bucket = places->home, .index = 0};
    uint64_t least_rank = UINT64_MAX;
    for (unsigned i = 0; i < 2 * LAYOUT_BUCKET_ENTRIES; i++) {
        bool is_home = i < LAYOUT_BUCKET_ENTRIES;
        struct slot slot = {is_home ? places->home : places->spill, i % LAYOUT_BUCKET_ENTRIES};
        uint64_t rank = slot_rank(table, slot, now);
        if (rank < least_rank) {
            least = slot;
            least_rank = rank;
        }
    }
    slot_evict(table, least, now);
    return least;
}

/* Free blocks in one bucket: those of the dead; and if there are none of them, those of the one
 * seen longest ago. */
static void bucket_relieve(struct cr_table *table, uint64_t bucket, cr_boot_ns now)
{
    struct slot least = {.bucket = bucket, .index = LAYOUT_BUCKET_ENTRIES};
    uint64_t least_rank = UINT64_MAX;
    for (unsigned i = 0; i < LAYOUT_BUCKET_ENTRIES; i++) {
        struct slot slot = {bucket, i};
        if (slot_tag(table, slot) == 0 || cr_slot_blocks(table, slot) == 0)
            continue;
        uint64_t rank = slot_rank(table, slot, now);
        if (rank == 0)
            slot_evict(table, slot, now);
        if (rank < least_rank) {
            least = slot;
            least_rank = rank;
        }
    }
    if (least_rank != 0 && least.index < LAYOUT_BUCKET_ENTRIES)
        slot_evict(table, least, now);
}

static bool blocks_reserve(struct cr_table *table, size_t needed, cr_boot_ns now)
{
    for (unsigned i = 0; i < RELIEVE_BUCKETS_MAX && table->free_count < needed; i++) {
        bucket_relieve(table, table->hand, now);
        table->hand = (table->hand + 1) % table->view.bucket_count;
    }
    return table->free_count >= needed;
}

static bool entry_is_sound(const struct cr_entry *entry)
{
    return entry->user.length <= CR_USER_BYTES_MAX && entry->rights_bytes <= CR_RIGHTS_BYTES_MAX;
}

/* Rule 1. Something that the read may not have seen yet was ended or changed since `stamp`. */
static bool was_outdated(const struct cr_table *table, uint64_t home, uint32_t stamp_index,
                         uint64_t stamp)
{
    return stamp < word_own(&table->buckets[home].floor) ||
           stamp < word_own(&table->stamps[stamp_index]) || stamp < word_own(&table->header->all);
}

bool cr_table_insert(struct cr_table *table, const struct cr_entry *entry, uint64_t stamp,
                     cr_boot_ns now)
{
    CR_ASSERT(entry_is_sound(entry));
    struct layout_places places = layout_places(&entry->id, table->view.bucket_count);
    uint32_t stamp_index = cr_table_stamp_index(table, &entry->user);
    /* Stamps come back from applications: one from the future would outlive endings. */
    bool refused = stamp > cr_table_clock(table) || entry->deadline <= now ||
                   was_outdated(table, places.home, stamp_index, stamp);
    struct slot slot;
    if (!refused) {
        if (cr_slot_find(table, &entry->id, &slot))
            cr_slot_drop(table, slot);
        refused = !blocks_reserve(table, cr_entry_blocks(entry), now);
    }
    if (refused) {
        table->count.refused++;
        return false;
    }
    slot = slot_claim(table, &places, now);
    cr_slot_write(table, slot, entry, places.tag, stamp, stamp_index);
    table->count.inserts++;
    return true;
}
