/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the table lies in memory: what writer and readers agree on, byte for byte. Offsets and
 * fixed-width types, no pointers. Any change here raises CR_TABLE_LAYOUT.
 *
 *     header    fixed at start | written by the engine
 *     stamps    G: one word per hash of a user
 *     buckets   a line of hints, and sixteen slots, of which each holds an entry, or a piece of a
 *               longer entry that stands elsewhere, or nothing; slots are numbered through
 *
 * A slot is 144 bytes, so a session of a usual size (user of 16 bytes, 64 bytes of data) costs
 * that and four bytes of hints; what only the writer needs is not here (writer.h).
 *
 * Owns no behaviour but the way from an id to its places. head.h says how a session's fields become
 * an entry's words. README.md has the rules and the memory order; the labels there are those in
 * entry.c, table.c and view.c.
 */
#ifndef CACHE_LAYOUT_H
#define CACHE_LAYOUT_H

#include <stdatomic.h>
#include <string.h>

#include "cache/table.h"

#define LAYOUT_MAGIC 0x31454c4241545243ULL /* "CRTABLE1" */
#define LAYOUT_ALIGN 64u                   /* of each part: a cache line */
#define LAYOUT_STAMPS_MIN (1ULL << 16)
#define LAYOUT_STAMPS_MAX (1ULL << 20)
#define LAYOUT_BUCKET_SLOTS 16u
#define LAYOUT_TAG_WORDS 3u           /* of a bucket, in planes of bits (layout_tag_planes) */
#define LAYOUT_STAMP_WORDS 5u         /* of a bucket: the indices of its slots' stamps */
#define LAYOUT_WORDS 17u              /* of a slot, behind its sequence */
#define LAYOUT_SLOTS_MAX (1ULL << 32) /* their numbers fit 32 bits */

/* Those of entries come from their ids. */
#define LAYOUT_TAG_BITS 12
#define LAYOUT_TAG_EMPTY 0u
#define LAYOUT_TAG_PIECE 1u
#define LAYOUT_TAG_ENTRY_MIN 2u

struct layout_header {
    /* Fixed at start: written before anybody else can see the memory. */
    uint64_t magic;
    uint32_t version;
    uint32_t header_bytes;
    unsigned char identity[16]; /* random: of this table */
    unsigned char user_key[16]; /* random: of the hash from users to stamps */
    unsigned char id_key[64];   /* random: of the hash by which an entry knows its id */
    uint64_t bytes;
    uint64_t stamp_offset, stamp_count;
    uint64_t bucket_offset, bucket_count;
    uint64_t unused_fixed[5];

    /* Written by the engine, read by all. */
    _Atomic uint64_t clock;
    _Atomic uint64_t all;         /* the stamp of everybody */
    _Atomic uint64_t fresh_until; /* CLOCK_BOOTTIME; 0 once retired */
    uint64_t unused_words[5];
};

/*
 * An entry's sequence is even when it is whole, odd while it is being written; head.h has its
 * words. A piece's is odd for as long as it is one, so nobody ever takes the bytes of a session's
 * data for an entry; it is guarded by its entry's.
 */
struct layout_slot {
    _Atomic uint64_t sequence;
    _Atomic uint64_t words[LAYOUT_WORDS];
};

/* For each slot a tag of the id, and the index of the user's stamp, so that entry and stamp can be
 * fetched at once: a hint, the entry itself decides. They stand beside the slots, as they are
 * looked at together: mostly on one page. */
struct layout_bucket {
    _Atomic uint64_t tags[LAYOUT_TAG_WORDS];
    _Atomic uint64_t stamps[LAYOUT_STAMP_WORDS];
    struct layout_slot slots[LAYOUT_BUCKET_SLOTS];
};

#define LAYOUT_PIECE_NEXT 0u /* the word of a piece that holds the next one's slot */
#define LAYOUT_PIECE_WORDS (LAYOUT_WORDS - 1)

_Static_assert(sizeof(_Atomic uint64_t) == 8 && ATOMIC_LLONG_LOCK_FREE == 2,
               "64-bit atomics must be lock-free: processes share them");
_Static_assert(sizeof(struct layout_header) == 256, "header");
_Static_assert(offsetof(struct layout_header, clock) == 192, "written fields have their own line");
_Static_assert(sizeof(struct layout_slot) == 144, "slot");
_Static_assert(sizeof(struct layout_bucket) % LAYOUT_ALIGN == 0 &&
                   offsetof(struct layout_bucket, slots) == LAYOUT_ALIGN,
               "a bucket's tags are one line");
_Static_assert(LAYOUT_STAMPS_MAX == 1 << 20 && LAYOUT_BUCKET_SLOTS == 16, "indices of stamps");
_Static_assert(LAYOUT_TAG_BITS *LAYOUT_BUCKET_SLOTS == 64 * LAYOUT_TAG_WORDS, "planes of tags");

/* What the payload's bytes are: data stands in the table only when all of it fits. */
static inline size_t layout_data_bytes(uint32_t data_bytes)
{
    return data_bytes <= CR_DATA_CACHED_BYTES_MAX ? data_bytes : 0;
}

/* Where an id may stand: in its home or its spill bucket, under its tag. */
struct layout_places {
    uint64_t home, spill;
    uint32_t tag; /* at least LAYOUT_TAG_ENTRY_MIN */
};

/* Eight characters to 0 .. 2^32 - 1: random characters make good high bits by one multiplication,
 * also where, as in the first eight of an id, four are random and the others of the same time. */
static inline uint64_t layout_mix(const char *characters)
{
    uint64_t word;
    memcpy(&word, characters, sizeof word);
    return (word * 0x9e3779b97f4a7c15ULL) >> 32;
}

/* The 24 characters past "crp_". */
static inline const char *layout_id_random(const struct cr_session_id *id)
{
    return id->text + (CR_SESSION_ID_CHARS - 24);
}

static inline struct layout_places layout_places(const struct cr_session_id *id,
                                                 uint64_t bucket_count)
{
    const char *random = layout_id_random(id);
    uint32_t tag = (uint32_t)(layout_mix(random + 16) >> (32 - LAYOUT_TAG_BITS));
    return (struct layout_places){
        .home = (layout_mix(random) * bucket_count) >> 32,
        .spill = (layout_mix(random + 8) * bucket_count) >> 32,
        .tag = tag < LAYOUT_TAG_ENTRY_MIN ? LAYOUT_TAG_ENTRY_MIN : tag,
    };
}

/*
 * Tags stand in planes: word w of a bucket holds bits 4w to 4w + 3 of all its tags, sixteen bits
 * for the sixteen slots' first of these, sixteen for the next. So one looks for a tag in all slots
 * at once, with three words (bit slicing: Knuth, The Art of Computer Programming 4A, 7.1.3). These
 * are the words of a bucket all of whose tags are `tag`.
 */
static inline void layout_tag_planes(uint32_t tag, uint64_t out_planes[LAYOUT_TAG_WORDS])
{
#pragma GCC unroll 3
    for (unsigned word = 0; word < LAYOUT_TAG_WORDS; word++) {
        uint64_t four = tag >> (4 * word) & 15;
        out_planes[word] =
            ((four & 1) | (four & 2) << 15 | (four & 4) << 30 | (four & 8) << 45) * 0xffff;
    }
}

/* Bit i: slot i of the bucket with these words of tags has the tag that `planes` is of. */
static inline uint32_t layout_tags_equal(const uint64_t words[LAYOUT_TAG_WORDS],
                                         const uint64_t planes[LAYOUT_TAG_WORDS])
{
    uint64_t other = (words[0] ^ planes[0]) | (words[1] ^ planes[1]) | (words[2] ^ planes[2]);
    other |= other >> 32;
    other |= other >> 16;
    return (uint32_t)(~other & 0xffff);
}

/* Indices of stamps: the low sixteen bits of each four to a word, and the high four bits of all in
 * the last word. `i` is a slot of the bucket. */
static inline unsigned layout_stamp_low_at(uint64_t i)
{
    return 16 * (unsigned)(i % 4);
}

static inline unsigned layout_stamp_high_at(uint64_t i)
{
    return 4 * (unsigned)i;
}

static inline uint32_t layout_stamp_index(uint64_t low_word, uint64_t high_word, uint64_t i)
{
    return (uint32_t)(low_word >> layout_stamp_low_at(i) & 0xffff) |
           (uint32_t)(high_word >> layout_stamp_high_at(i) & 15) << 16;
}

#endif
