/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a session's fields become the words of an entry, and fields again. Nothing here knows of
 * sequences, slots or orders.
 *
 * Seven words are the head, the rest of the entry is payload. What nearly all sessions have in
 * common is said shortly: the ends follow from creation, last use and the two spans, on the host's
 * clock as on the store's, so both clocks' times of creation and three spans say all seven times.
 * Whatever does not fit this form is said in words of its own, which stand before the user in the
 * payload, by flags:
 *
 *     HEAD_LATER   authenticated_at, where it is not created_at
 *     HEAD_OLD     the old token's two words of hash, and until when it is good
 *     HEAD_WIDE    the nine fields of head_wide, as they are
 *
 * Times of the host's clock are kept in whole milliseconds, rounded down: who takes an entry for
 * over is early by less than one.
 */
#ifndef CACHE_HEAD_H
#define CACHE_HEAD_H

#include "cache/layout.h"

/* clang-format off */
/*
 * The words of the head: bits, the lowest first. Times and spans are in milliseconds.
 *
 *     0, 1   the token's hash, the first of them masked by the id (head_id_mask)
 *     2      created_at: 42                   | index of the user's stamp: 20
 *     3      stamp: 46                        | bytes of the user: 8  | of the rights: 10
 *     4      the host's time then, signed: 42 | bytes of the data: 17 | flags: 5
 *     5      last use, after creation: 33     | idle span: 31
 *     6      absolute span: 33                | version: 31
 */
/* clang-format on */
enum head_word {
    HEAD_HASH = 0,
    HEAD_CREATED = 2,
    HEAD_STAMP,
    HEAD_BORN,
    HEAD_SEEN,
    HEAD_ENDS,
    HEAD_WORDS /* the payload begins here */
};
#define HEAD_PAYLOAD_WORDS (LAYOUT_WORDS - HEAD_WORDS)
#define HEAD_LINK (LAYOUT_WORDS - 1) /* of an entry with HEAD_CHAINED: its first piece's slot */

enum head_flag {
    HEAD_LATER = 1,
    HEAD_OLD = 2,
    HEAD_WIDE = 4,
    HEAD_CHAINED = 8, /* the payload goes on in pieces; the last word is the link to the first */
};
#define HEAD_LATER_WORDS 1u
#define HEAD_OLD_WORDS 3u
#define HEAD_WIDE_WORDS 9u
#define HEAD_EXTRA_WORDS_MAX (HEAD_LATER_WORDS + HEAD_OLD_WORDS + HEAD_WIDE_WORDS)

#define HEAD_CREATED_BITS 42
#define HEAD_STAMP_BITS 46
#define HEAD_USER_BITS 8
#define HEAD_DATA_BITS 17
#define HEAD_SEEN_BITS 33
#define HEAD_IDLE_BITS 31
#define HEAD_ABSOLUTE_BITS 33
#define HEAD_VERSION_BITS 31
/* A clock beyond it goes on, and nothing is inserted any more: 800,000 endings a second for two
 * years. */
#define HEAD_STAMP_MAX ((1ULL << HEAD_STAMP_BITS) - 1)

_Static_assert(HEAD_PAYLOAD_WORDS * 8 == 80,
               "a user of 16 bytes and 64 bytes of data need no more");
_Static_assert(LAYOUT_STAMPS_MAX <= 1ULL << (64 - HEAD_CREATED_BITS), "a stamp's index");
_Static_assert(CR_USER_BYTES_MAX < 1 << HEAD_USER_BITS, "length of a user");
_Static_assert(CR_RIGHTS_BYTES_MAX < 1 << (64 - HEAD_STAMP_BITS - HEAD_USER_BITS), "of rights");
_Static_assert(CR_DATA_BYTES_MAX < 1 << HEAD_DATA_BITS, "of data");

static inline uint64_t head_mask(unsigned bits)
{
    return (1ULL << bits) - 1;
}

static inline bool head_fits(int64_t value, unsigned bits)
{
    return value >= 0 && (uint64_t)value <= head_mask(bits);
}

/* ---- Reading. */

static inline uint32_t head_stamp_index(const uint64_t *head)
{
    return (uint32_t)(head[HEAD_CREATED] >> HEAD_CREATED_BITS) & (uint32_t)(LAYOUT_STAMPS_MAX - 1);
}

static inline uint64_t head_stamp(const uint64_t *head)
{
    return head[HEAD_STAMP] & HEAD_STAMP_MAX;
}

static inline unsigned head_flags(const uint64_t *head)
{
    return (unsigned)(head[HEAD_BORN] >> (HEAD_CREATED_BITS + HEAD_DATA_BITS));
}

static inline size_t head_extra_words(unsigned flags)
{
    return ((flags & HEAD_LATER) != 0 ? HEAD_LATER_WORDS : 0) +
           ((flags & HEAD_OLD) != 0 ? HEAD_OLD_WORDS : 0) +
           ((flags & HEAD_WIDE) != 0 ? HEAD_WIDE_WORDS : 0);
}

static inline void head_lengths(const uint64_t *head, struct cr_entry *out)
{
    out->user.length = (uint8_t)(head[HEAD_STAMP] >> HEAD_STAMP_BITS);
    out->rights_bytes = (uint16_t)(head[HEAD_STAMP] >> (HEAD_STAMP_BITS + HEAD_USER_BITS));
    out->data_bytes = (uint32_t)(head[HEAD_BORN] >> HEAD_CREATED_BITS & head_mask(HEAD_DATA_BITS));
}

/* ms of the host's clock, which damage may have made anything, in ns; before its start: 0. */
static inline cr_boot_ns head_boot(int64_t ms)
{
    return ms <= 0 ? 0 : (cr_boot_ns)ms * CR_NS_PER_MS;
}

/* The nine words of HEAD_WIDE. */
static inline void head_wide(const uint64_t *wide, struct cr_entry *out)
{
    out->created_at = (cr_time_ms)wide[0];
    out->ends_at = (cr_time_ms)wide[1];
    out->expires_at = (cr_time_ms)wide[2];
    out->seen_at = (cr_time_ms)wide[3];
    out->idle = (cr_span_ms)wide[4];
    out->version = wide[5];
    out->deadline = wide[6];
    out->absolute_until = wide[7];
    out->seen = wide[8];
}

static inline void head_short(const uint64_t *head, struct cr_entry *out)
{
    int64_t created = (int64_t)(head[HEAD_CREATED] & head_mask(HEAD_CREATED_BITS));
    /* Its sign comes back with the shift. */
    int64_t born =
        (int64_t)(head[HEAD_BORN] << (64 - HEAD_CREATED_BITS)) >> (64 - HEAD_CREATED_BITS);
    int64_t seen = (int64_t)(head[HEAD_SEEN] & head_mask(HEAD_SEEN_BITS));
    int64_t idle = (int64_t)(head[HEAD_SEEN] >> HEAD_SEEN_BITS);
    int64_t absolute = (int64_t)(head[HEAD_ENDS] & head_mask(HEAD_ABSOLUTE_BITS));
    int64_t end = seen + idle < absolute ? seen + idle : absolute;
    out->created_at = created;
    out->ends_at = created + absolute;
    out->expires_at = created + end;
    out->seen_at = created + seen;
    out->idle = idle;
    out->version = head[HEAD_ENDS] >> HEAD_ABSOLUTE_BITS;
    out->deadline = head_boot(born + end);
    out->absolute_until = head_boot(born + absolute);
    out->seen = head_boot(born + seen);
}

/* The old token's words among `extra`: its hash, masked, and until when it is good. */
static inline const uint64_t *head_old(const uint64_t *head, const uint64_t *extra)
{
    return extra + ((head_flags(head) & HEAD_LATER) != 0 ? HEAD_LATER_WORDS : 0);
}

/* Everything but the id and the payload; `extra` are the words that the flags speak of. */
static inline void head_unpack(const uint64_t *head, const uint64_t *extra, uint64_t id_mask,
                               struct cr_entry *out)
{
    unsigned flags = head_flags(head);
    const uint64_t *old = head_old(head, extra);
    const uint64_t *wide = old + ((flags & HEAD_OLD) != 0 ? HEAD_OLD_WORDS : 0);
    uint64_t hash[2] = {head[HEAD_HASH] ^ id_mask, head[HEAD_HASH + 1]}, old_hash[2] = {0, 0};
    memcpy(out->hash, hash, sizeof out->hash);
    head_short(head, out);
    if ((flags & HEAD_WIDE) != 0)
        head_wide(wide, out);
    out->authenticated_at = (flags & HEAD_LATER) != 0 ? (cr_time_ms)extra[0] : out->created_at;
    out->old_until = 0;
    if ((flags & HEAD_OLD) != 0) {
        old_hash[0] = old[0] ^ id_mask;
        old_hash[1] = old[1];
        out->old_until = old[2];
    }
    memcpy(out->old_hash, old_hash, sizeof out->old_hash);
}

__extension__ typedef unsigned __int128 head_u128;

/*
 * The keyed hash of an id's random characters, which its entry's hash is mixed with (HEAD_HASH).
 * MULTILINEAR of D. Lemire and O. Kaser, "Strongly universal string hashing is fast" (The Computer
 * Journal 57, 2014): for any two ids and any difference of their hashes, one key in 2^64 makes it.
 * Who chooses ids sees no key and no hash, so nothing more is asked of it.
 */
static inline uint64_t head_id_mask(const struct cr_table_view *view,
                                    const struct cr_session_id *id)
{
    uint64_t words[3];
    memcpy(words, layout_id_random(id), sizeof words);
    head_u128 sum = (head_u128)view->id_key[1] << 64 | view->id_key[0];
    for (size_t i = 0; i < 3; i++)
        sum += ((head_u128)view->id_key[2 * i + 3] << 64 | view->id_key[2 * i + 2]) * words[i];
    return (uint64_t)(sum >> 64);
}

/* Whether the two words are those of `hash`, in a time that does not depend on where they differ
 * (ASVS A7). */
static inline bool head_hash_equal(const uint64_t *words, const uint64_t hash[2])
{
    return ((words[0] ^ hash[0]) | (words[1] ^ hash[1])) == 0;
}

#endif
