/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where an entry goes, and who goes for it. An id has two buckets, home and spill; its entry stands
 * in the one that had more room. Nobody waits for room and nothing grows: where there is none the
 * entry that is least missed goes. In this order: ended and expired ones; those of users who have
 * more than their share of the table, the one seen longest ago first; then the others, likewise.
 * An entry of a user who has more than that share takes the place of nobody who has not, so one
 * user's many sessions do not push out those of others; it is refused, and asked for each time.
 *
 * Leaves the writing itself to entry.c. Rule 1's refusals are here.
 */
#include "cache/writer.h"

/* How many buckets one insert may look into for the pieces that it needs. */
#define PIECE_BUCKETS_MAX 64
/* A bucket keeps so many slots for entries, which have a choice of two; pieces may stand anywhere.
 */
#define ENTRY_SLOTS_MIN 2
/* A user's share: this part of all slots, but never less than a few. (Users whose stamps are one
 * share it.) */
#define SHARE_PART 256
#define SHARE_MIN 64

/* How much an entry is missed when it goes: the highest bit says that its user has no more than the
 * share; below stands its last use. */
#define RANK_DEAD 0u
#define RANK_FAIR (1ULL << 63)

static bool group_is_greedy(const struct cr_table *table, uint32_t stamp_index)
{
    uint64_t share = table->slot_count / SHARE_PART;
    return table->group_counts[stamp_index] > (share > SHARE_MIN ? share : SHARE_MIN);
}

static bool bucket_find(const struct cr_table *table, uint64_t bucket, uint32_t tag,
                        uint64_t id_mask, uint64_t *out_slot)
{
    for (uint32_t left = bucket_tagged(table, bucket, tag); left != 0; left &= left - 1) {
        uint64_t slot = bucket * LAYOUT_BUCKET_SLOTS + (unsigned)__builtin_ctz(left);
        if (table->marks[slot] != id_mask)
            continue;
        *out_slot = slot;
        return true;
    }
    return false;
}

bool cr_slot_find(const struct cr_table *table, const struct cr_session_id *id, uint64_t *out_slot)
{
    struct layout_places places = layout_places(id, table->view.bucket_count);
    uint64_t id_mask = head_id_mask(&table->view, id);
    return bucket_find(table, places.home, places.tag, id_mask, out_slot) ||
           bucket_find(table, places.spill, places.tag, id_mask, out_slot);
}

/* RANK_DEAD: readers do not believe it, even were the lease to hold. */
static uint64_t entry_rank(const struct cr_table *table, uint64_t slot, cr_boot_ns now)
{
    uint64_t head[HEAD_WORDS];
    struct cr_entry times;
    head_own(table, slot, head);
    uint64_t stamp = head_stamp(head);
    uint32_t stamp_index = head_stamp_index(head);
    CR_ASSERT(stamp_index < table->view.stamp_count);
    cr_slot_times(table, slot, &times);
    if (now >= times.deadline || word_own(&table->stamps[stamp_index]) > stamp ||
        word_own(&table->header->all) > stamp)
        return RANK_DEAD;
    uint64_t seen = times.seen < RANK_FAIR ? times.seen : RANK_FAIR - 1;
    return (seen == 0 ? 1 : seen) | (group_is_greedy(table, stamp_index) ? 0 : RANK_FAIR);
}

/* The entry that goes if this slot is to be free: that in it, or that which a piece belongs to. */
static uint64_t slot_owner(const struct cr_table *table, uint64_t slot)
{
    return slot_tag(table, slot) == LAYOUT_TAG_PIECE ? table->marks[slot] : slot;
}

struct victim {
    uint64_t slot; /* of its entry */
    uint64_t rank;
};

/* The least missed of those that have a slot in the bucket, if it is missed less than `victim`. */
static void bucket_victim(const struct cr_table *table, uint64_t bucket, cr_boot_ns now,
                          struct victim *victim)
{
    for (uint64_t i = 0; i < LAYOUT_BUCKET_SLOTS && victim->rank != RANK_DEAD; i++) {
        uint64_t slot = bucket * LAYOUT_BUCKET_SLOTS + i;
        if (slot_tag(table, slot) == LAYOUT_TAG_EMPTY)
            continue;
        uint64_t owner = slot_owner(table, slot);
        if (owner == CR_NO_SLOT)
            continue; /* taken for the entry that is about to be written */
        uint64_t rank = entry_rank(table, owner, now);
        if (rank < victim->rank)
            *victim = (struct victim){.slot = owner, .rank = rank};
    }
}

/* False: nobody goes for an entry that may only displace whom `below` is above. */
static bool victim_evict(struct cr_table *table, const struct victim *victim, uint64_t below)
{
    if (victim->rank >= below)
        return false;
    if (victim->rank != RANK_DEAD)
        table->count.evicted_live++;
    cr_slot_drop(table, victim->slot);
    return true;
}

static unsigned bucket_room(const struct cr_table *table, uint64_t bucket)
{
    return (unsigned)__builtin_popcount(bucket_tagged(table, bucket, LAYOUT_TAG_EMPTY));
}

/* There is one. */
static uint64_t bucket_empty_slot(const struct cr_table *table, uint64_t bucket)
{
    uint32_t empty = bucket_tagged(table, bucket, LAYOUT_TAG_EMPTY);
    CR_ASSERT(empty != 0);
    return bucket * LAYOUT_BUCKET_SLOTS + (unsigned)__builtin_ctz(empty);
}

/* An empty slot for an id with these places, if need be by evicting one that ranks below `below`.
 * False: there is none. */
static bool slot_claim(struct cr_table *table, const struct layout_places *places, cr_boot_ns now,
                       uint64_t below, uint64_t *out_slot)
{
    unsigned home_room = bucket_room(table, places->home);
    unsigned spill_room = bucket_room(table, places->spill);
    if (home_room == 0 && spill_room == 0) {
        struct victim victim = {.rank = UINT64_MAX};
        bucket_victim(table, places->home, now, &victim);
        bucket_victim(table, places->spill, now, &victim);
        if (!victim_evict(table, &victim, below))
            return false;
        home_room = bucket_room(table, places->home);
        spill_room = bucket_room(table, places->spill);
    }
    *out_slot = bucket_empty_slot(table, home_room >= spill_room ? places->home : places->spill);
    return true;
}

/* Pieces for one entry, not yet in a chain. */
struct pieces {
    uint32_t slots[CR_ENTRY_PIECES_MAX];
    size_t count, needed;
};

static void bucket_give_pieces(struct cr_table *table, uint64_t bucket, cr_boot_ns now,
                               uint64_t below, struct pieces *pieces)
{
    unsigned room = bucket_room(table, bucket);
    if (room <= ENTRY_SLOTS_MIN) {
        struct victim victim = {.rank = UINT64_MAX};
        bucket_victim(table, bucket, now, &victim);
        if (victim_evict(table, &victim, below))
            room = bucket_room(table, bucket);
    }
    for (; room > ENTRY_SLOTS_MIN && pieces->count < pieces->needed; room--) {
        uint64_t slot = bucket_empty_slot(table, bucket);
        cr_piece_take(table, slot);
        pieces->slots[pieces->count++] = (uint32_t)slot;
    }
}

static void pieces_give_back(struct cr_table *table, struct pieces *pieces)
{
    while (pieces->count > 0)
        cr_piece_give(table, pieces->slots[--pieces->count]);
}

/* False: there are not enough, and none is taken. */
static bool pieces_take(struct cr_table *table, cr_boot_ns now, uint64_t below,
                        struct pieces *pieces)
{
    CR_ASSERT(pieces->needed <= CR_ENTRY_PIECES_MAX);
    for (unsigned i = 0; i < PIECE_BUCKETS_MAX && pieces->count < pieces->needed; i++) {
        bucket_give_pieces(table, table->hand, now, below, pieces);
        table->hand = (table->hand + 1) % table->view.bucket_count;
    }
    if (pieces->count == pieces->needed)
        return true;
    pieces_give_back(table, pieces);
    return false;
}

static bool entry_is_sound(const struct cr_entry *entry)
{
    return entry->user.length <= CR_USER_BYTES_MAX && entry->rights_bytes <= CR_RIGHTS_BYTES_MAX;
}

/* Rule 1. Something that the read may not have seen yet was ended or changed since `stamp`. */
static bool was_outdated(const struct cr_table *table, uint64_t home, uint32_t stamp_index,
                         uint64_t stamp)
{
    return stamp < table->floors[home] || stamp < word_own(&table->stamps[stamp_index]) ||
           stamp < word_own(&table->header->all);
}

bool cr_table_insert(struct cr_table *table, const struct cr_entry *entry, uint64_t stamp,
                     cr_boot_ns now)
{
    CR_ASSERT(entry_is_sound(entry));
    struct layout_places places = layout_places(&entry->id, table->view.bucket_count);
    uint32_t stamp_index = cr_table_stamp_index(table, &entry->user);
    struct pieces pieces = {.needed = cr_entry_pieces(entry)};
    uint64_t slot = 0;
    /* Stamps come back from applications: one from the future would outlive endings. */
    bool is_in = stamp <= cr_table_clock(table) && stamp <= HEAD_STAMP_MAX &&
                 entry->deadline > now && !was_outdated(table, places.home, stamp_index, stamp);
    if (is_in) {
        if (cr_slot_find(table, &entry->id, &slot))
            cr_slot_drop(table, slot);
        uint64_t below = group_is_greedy(table, stamp_index) ? RANK_FAIR : UINT64_MAX;
        is_in = pieces_take(table, now, below, &pieces);
        if (is_in && !slot_claim(table, &places, now, below, &slot)) {
            pieces_give_back(table, &pieces);
            is_in = false;
        }
    }
    if (!is_in) {
        table->count.refused++;
        return false;
    }
    cr_slot_write(table, slot, entry, places.tag, stamp, stamp_index, pieces.slots, pieces.count);
    table->count.inserts++;
    return true;
}
