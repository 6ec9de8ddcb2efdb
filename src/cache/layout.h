/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the table lies in memory: what writer and readers agree on, byte for byte. Offsets and
 * fixed-width types, no pointers. Any change here raises LAYOUT_VERSION.
 *
 *     header    fixed at start | written by the engine
 *     stamps    G: one word per hash of a user
 *     buckets   floor and tags; entries of bucket b are number 8b to 8b + 7
 *     entries   sequence, head, the first PAYLOAD bytes
 *     blocks    the rest of longer payloads, in chains; each block belongs to one entry or to none
 *
 * Owns no behaviour but the way from an id to its places. README.md has the rules and the memory
 * order; the labels there are those in entry.c, table.c and view.c.
 */
#ifndef CACHE_LAYOUT_H
#define CACHE_LAYOUT_H

#include <stdatomic.h>
#include <string.h>

#include "cache/table.h"

#define LAYOUT_MAGIC 0x31454c4241545243ULL /* "CRTABLE1" */
#define LAYOUT_VERSION 1u
#define LAYOUT_ALIGN 64u /* of each part: a cache line */
#define LAYOUT_STAMPS_MIN (1ULL << 16)
#define LAYOUT_STAMPS_MAX (1ULL << 20)
#define LAYOUT_COUNT_MAX 0xfffffffeULL /* of buckets and blocks: their numbers fit 32 bits */
#define LAYOUT_BUCKET_ENTRIES 8u
#define LAYOUT_WORDS 31u           /* of an entry, and of a block */
#define LAYOUT_NO_BLOCK UINT32_MAX /* ends a chain */

struct layout_header {
    /* Fixed at start: written before anybody else can see the memory. */
    uint64_t magic;
    uint32_t version;
    uint32_t header_bytes;
    unsigned char identity[16]; /* random: of this table */
    unsigned char key[16];      /* random: of the hash from users to stamps */
    uint64_t bytes;
    uint64_t stamp_offset, stamp_count;
    uint64_t bucket_offset, bucket_count;
    uint64_t entry_offset;
    uint64_t block_offset, block_count;
    unsigned char unused[16];

    /* Written by the engine, read by all. */
    _Atomic uint64_t clock;
    _Atomic uint64_t all;         /* the stamp of everybody */
    _Atomic uint64_t fresh_until; /* CLOCK_BOOTTIME; 0 once retired */
    uint64_t unused_words[5];
};

struct layout_bucket {
    _Atomic uint64_t floor; /* of the ids whose home this is; only the writer reads it */
    _Atomic uint64_t tags;  /* a byte per entry, 0: empty. A hint: the entry's id decides */
};

/* Even: whole. Odd: being written. The words hold, in this order: */
struct layout_entry {
    _Atomic uint64_t sequence;
    _Atomic uint64_t words[LAYOUT_WORDS];
};
enum layout_word {
    WORD_ID = 0,       /* 24 characters */
    WORD_HASH = 3,     /* 16 bytes */
    WORD_OLD_HASH = 5, /* 16 bytes */
    WORD_OLD_UNTIL = 7,
    WORD_DEADLINE,
    WORD_ABSOLUTE,
    WORD_SEEN,
    WORD_IDLE,
    WORD_CREATED,
    WORD_AUTHENTICATED,
    WORD_ENDS,
    WORD_EXPIRES,
    WORD_SEEN_AT,
    WORD_VERSION,
    WORD_STAMP,
    WORD_LENGTHS, /* user: bits 0 to 7; rights: 16 to 31; data of the session: 32 to 63 */
    WORD_PLACES,  /* index of the user's stamp: bits 0 to 31; first block: 32 to 63 */
    WORD_PAYLOAD  /* from here: user, rights, data, each beginning a word; continued in blocks */
};
#define LAYOUT_PAYLOAD_WORDS (LAYOUT_WORDS - WORD_PAYLOAD)

struct layout_block {
    _Atomic uint64_t next; /* index of a block, or LAYOUT_NO_BLOCK */
    _Atomic uint64_t words[LAYOUT_WORDS];
};

_Static_assert(sizeof(_Atomic uint64_t) == 8 && ATOMIC_LLONG_LOCK_FREE == 2,
               "64-bit atomics must be lock-free: processes share them");
_Static_assert(sizeof(struct layout_header) == 192, "header");
_Static_assert(offsetof(struct layout_header, clock) == 128, "written fields have their own line");
_Static_assert(sizeof(struct layout_bucket) == 16, "bucket");
_Static_assert(sizeof(struct layout_entry) == 256, "entry");
_Static_assert(sizeof(struct layout_block) == 256, "block");
_Static_assert(WORD_PAYLOAD == 21 && LAYOUT_PAYLOAD_WORDS * 8 == 80,
               "a user of 16 bytes and 64 bytes of data need no block");
_Static_assert(LAYOUT_BUCKET_ENTRIES == sizeof(uint64_t), "one tag is one byte of a word");

/* What the payload's bytes are: data stands in the table only when all of it fits. */
static inline size_t layout_data_bytes(uint32_t data_bytes)
{
    return data_bytes <= CR_DATA_CACHED_BYTES_MAX ? data_bytes : 0;
}

/* Where an id may stand: in its home or its spill bucket, under its tag. */
struct layout_places {
    uint64_t home, spill;
    uint8_t tag; /* never 0 */
};

/* Eight characters to 0 .. 2^32 - 1: random characters make good high bits by one multiplication.
 */
static inline uint64_t layout_mix(const char *characters)
{
    uint64_t word;
    memcpy(&word, characters, sizeof word);
    return (word * 0x9e3779b97f4a7c15ULL) >> 32;
}

static inline struct layout_places layout_places(const struct cr_session_id *id,
                                                 uint64_t bucket_count)
{
    const char *random = id->text + (CR_SESSION_ID_CHARS - 24); /* past "crp_" */
    uint8_t tag = (uint8_t)(layout_mix(random + 16) >> 24);
    return (struct layout_places){
        .home = (layout_mix(random) * bucket_count) >> 32,
        .spill = (layout_mix(random + 8) * bucket_count) >> 32,
        .tag = tag == 0 ? 1 : tag,
    };
}

static inline void layout_id_words(const struct cr_session_id *id, uint64_t out_words[3])
{
    memcpy(out_words, id->text + (CR_SESSION_ID_CHARS - 24), 24);
}

/* Bytes of `tags` that equal `tag` have their high bit set in the answer; others may, too, and cost
 * a look. */
static inline uint64_t layout_tags_like(uint64_t tags, uint8_t tag)
{
    const uint64_t ones = 0x0101010101010101ULL;
    uint64_t zero_where_equal = tags ^ (ones * tag);
    return (zero_where_equal - ones) & ~zero_where_equal & (ones << 7);
}

/* The number, 0 to 7, of the lowest set byte. */
static inline unsigned layout_first(uint64_t like)
{
    return (unsigned)__builtin_ctzll(like) / 8;
}

#endif
