/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The readers' side: rule 4. A reader writes nothing, takes no lock, and treats every byte of the
 * segment as input: whatever stands there, it reads inside the segment only, ends after a bounded
 * number of steps, and at worst misses. Each word is loaded once and checked as it was loaded.
 *
 * Leaves to the caller what a miss means: only the engine says no.
 */
#include "cache/table.h"

#include <stdalign.h>

#include "base/assert.h"
#include "cache/layout.h"

#define FIND_TRIES_MAX 2

static const struct layout_header *view_header(const struct cr_table_view *view)
{
    return (const struct layout_header *)view->memory;
}

static const struct layout_bucket *view_bucket(const struct cr_table_view *view, uint64_t index)
{
    CR_ASSERT(index < view->bucket_count);
    return (const struct layout_bucket *)(view->memory + view->bucket_offset) + index;
}

static const struct layout_entry *view_entry(const struct cr_table_view *view, uint64_t bucket,
                                             unsigned slot)
{
    CR_ASSERT(bucket < view->bucket_count && slot < LAYOUT_BUCKET_ENTRIES);
    return (const struct layout_entry *)(view->memory + view->entry_offset) +
           (bucket * LAYOUT_BUCKET_ENTRIES + slot);
}

/* What the steps after the copy need of an entry. */
struct entry_facts {
    uint64_t stamp;
    uint32_t stamp_index;
    bool matched_old; /* only until old_until */
};

/* word_get:A. Whoever sees a word of a later writing sees the odd number that was stored before it,
 * when it looks at the sequence again (rule 4). Pairs with word_put:A. */
static inline uint64_t word_get(const _Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_acquire);
}

/* The payload's words one after the other: those of the entry, then those of its blocks. */
struct payload_reader {
    const struct cr_table_view *view;
    const _Atomic uint64_t *words;
    size_t words_left; /* of the entry or block at hand */
    uint64_t next;     /* the block after it: not yet checked */
};

/* False: there is no such block. */
static bool payload_next_block(struct payload_reader *reader)
{
    const struct cr_table_view *view = reader->view;
    if (reader->next >= view->block_count)
        return false;
    const struct layout_block *block =
        (const struct layout_block *)(view->memory + view->block_offset) + reader->next;
    reader->words = block->words;
    reader->words_left = LAYOUT_WORDS;
    reader->next = word_get(&block->next);
    return true;
}

/* Ends whatever the blocks say of each other: each round takes bytes off the count. */
static bool payload_get(struct payload_reader *reader, unsigned char *out, size_t bytes)
{
    while (bytes > 0) {
        if (reader->words_left == 0 && !payload_next_block(reader))
            return false;
        uint64_t word = word_get(reader->words);
        reader->words++;
        reader->words_left--;
        if (bytes < sizeof word) {
            memcpy(out, &word, bytes);
            break;
        }
        memcpy(out, &word, sizeof word);
        out += sizeof word;
        bytes -= sizeof word;
    }
    return true;
}

static bool payload_copy(const struct cr_table_view *view, const struct layout_entry *entry,
                         const uint64_t *words, struct cr_entry *out)
{
    uint64_t lengths = words[WORD_LENGTHS];
    out->user.length = (uint8_t)lengths;
    out->rights_bytes = (uint16_t)(lengths >> 16);
    out->data_bytes = (uint32_t)(lengths >> 32);
    if (out->user.length > CR_USER_BYTES_MAX || out->rights_bytes > CR_RIGHTS_BYTES_MAX)
        return false;
    struct payload_reader reader = {
        .view = view,
        .words = entry->words + WORD_PAYLOAD,
        .words_left = LAYOUT_PAYLOAD_WORDS,
        .next = words[WORD_PLACES] >> 32,
    };
    return payload_get(&reader, out->user.bytes, out->user.length) &&
           payload_get(&reader, out->rights, out->rights_bytes) &&
           payload_get(&reader, out->data, layout_data_bytes(out->data_bytes));
}

/* Whether the 16 bytes in `words` are `hash`, in a time that does not depend on where they differ
 * (ASVS A7). */
static bool hash_equal(const uint64_t *words, const struct cr_token_hash *hash)
{
    uint64_t wanted[2];
    memcpy(wanted, hash->bytes, sizeof wanted);
    return ((words[0] ^ wanted[0]) | (words[1] ^ wanted[1])) == 0;
}

static void head_unpack(const uint64_t *words, struct cr_entry *out)
{
    memcpy(out->hash, words + WORD_HASH, sizeof out->hash);
    memcpy(out->old_hash, words + WORD_OLD_HASH, sizeof out->old_hash);
    out->old_until = words[WORD_OLD_UNTIL];
    out->deadline = words[WORD_DEADLINE];
    out->absolute_until = words[WORD_ABSOLUTE];
    out->seen = words[WORD_SEEN];
    out->idle = (cr_span_ms)words[WORD_IDLE];
    out->created_at = (cr_time_ms)words[WORD_CREATED];
    out->authenticated_at = (cr_time_ms)words[WORD_AUTHENTICATED];
    out->ends_at = (cr_time_ms)words[WORD_ENDS];
    out->expires_at = (cr_time_ms)words[WORD_EXPIRES];
    out->seen_at = (cr_time_ms)words[WORD_SEEN_AT];
    out->version = words[WORD_VERSION];
}

enum entry_answer { ENTRY_OTHER, ENTRY_TORN, ENTRY_WHOLE };

/*
 * Copy the entry into `out` if it is the one of `id` and `hash`. ENTRY_WHOLE: `out` is what one
 * writing wrote. ENTRY_TORN: it was being written. Blocks of the entry are taken from it only
 * after its sequence turned odd, so a foreign word from a block makes it torn, too.
 */
static enum entry_answer entry_copy(const struct cr_table_view *view,
                                    const struct layout_entry *entry,
                                    const struct cr_session_id *id,
                                    const struct cr_token_hash *hash, struct cr_entry *out,
                                    struct entry_facts *out_facts)
{
    /* entry_copy:A. Whoever sees an even number sees at least the words that were written before
     * it. Pairs with entry_publish:A. */
    uint64_t sequence = atomic_load_explicit(&entry->sequence, memory_order_acquire);
    if ((sequence & 1) != 0)
        return ENTRY_TORN;
    uint64_t wanted[3];
    uint64_t words[WORD_PAYLOAD];
    layout_id_words(id, wanted);
    for (size_t i = 0; i < 3; i++)
        if (word_get(&entry->words[WORD_ID + i]) != wanted[i])
            return ENTRY_OTHER; /* ids are public: no secret in the time this takes */
    for (size_t i = WORD_HASH; i < WORD_PAYLOAD; i++)
        words[i] = word_get(&entry->words[i]);

    bool matched = hash_equal(words + WORD_HASH, hash);
    bool matched_old = hash_equal(words + WORD_OLD_HASH, hash);
    bool copied = (matched || matched_old) && payload_copy(view, entry, words, out);

    /* entry_copy:B. The words above were loaded with acquire, so this load is not before them.
     * Pairs with entry_open:A, by way of word_put:A. */
    if (atomic_load_explicit(&entry->sequence, memory_order_relaxed) != sequence)
        return ENTRY_TORN;
    if (!copied)
        return ENTRY_OTHER;
    out->id = *id;
    head_unpack(words, out);
    *out_facts = (struct entry_facts){
        .stamp = words[WORD_STAMP],
        .stamp_index = (uint32_t)words[WORD_PLACES],
        .matched_old = !matched,
    };
    return ENTRY_WHOLE;
}

static enum entry_answer bucket_search(const struct cr_table_view *view, uint64_t bucket,
                                       uint8_t tag, const struct cr_session_id *id,
                                       const struct cr_token_hash *hash, struct cr_entry *out,
                                       struct entry_facts *out_facts)
{
    /* bucket_search:A. Only a hint, and a stale one costs a miss: relaxed. Pairs with tag_put:A. */
    uint64_t tags = atomic_load_explicit(&view_bucket(view, bucket)->tags, memory_order_relaxed);
    for (uint64_t like = layout_tags_like(tags, tag); like != 0; like &= like - 1) {
        const struct layout_entry *entry = view_entry(view, bucket, layout_first(like));
        enum entry_answer answer = entry_copy(view, entry, id, hash, out, out_facts);
        if (answer != ENTRY_OTHER)
            return answer;
    }
    return ENTRY_OTHER;
}

static enum entry_answer view_search(const struct cr_table_view *view,
                                     const struct cr_session_id *id,
                                     const struct cr_token_hash *hash, struct cr_entry *out,
                                     struct entry_facts *out_facts)
{
    struct layout_places places = layout_places(id, view->bucket_count);
    enum entry_answer answer =
        bucket_search(view, places.home, places.tag, id, hash, out, out_facts);
    if (answer == ENTRY_OTHER)
        answer = bucket_search(view, places.spill, places.tag, id, hash, out, out_facts);
    return answer;
}

/* Both buckets at once, and then the entry, without a branch that would have to wait for them. */
void cr_table_prefetch(const struct cr_table_view *view, const struct cr_session_id *id)
{
    struct layout_places places = layout_places(id, view->bucket_count);
    /* table_prefetch:A, B. Hints, as in bucket_search:A. */
    uint64_t home =
        atomic_load_explicit(&view_bucket(view, places.home)->tags, memory_order_relaxed);
    uint64_t spill =
        atomic_load_explicit(&view_bucket(view, places.spill)->tags, memory_order_relaxed);
    uint64_t like_home = layout_tags_like(home, places.tag);
    uint64_t like = like_home != 0 ? like_home : layout_tags_like(spill, places.tag);
    uint64_t bucket = like_home != 0 ? places.home : places.spill;
    /* Without any like it, slot 7 is as good as another. */
    const struct layout_entry *entry = view_entry(view, bucket, layout_first(like | 1ULL << 63));
    for (size_t line = 0; line < sizeof *entry; line += LAYOUT_ALIGN)
        __builtin_prefetch((const char *)entry + line);
}

/* Neither the user nor everybody was ended since the entry was asked for. The writer keeps the
 * index of the user's stamp in the entry; masked, as any other byte from there. */
static bool stamps_allow(const struct cr_table_view *view, const struct entry_facts *facts)
{
    const _Atomic uint64_t *stamps = (const _Atomic uint64_t *)(view->memory + view->stamp_offset);
    /* stamps_allow:A, stamps_allow:B. Acquire, so that the clock is read after them. Pair with
     * stamp_raise:A and all_raise:A; that they are not older than the lease is view_fresh:A. */
    uint64_t user = atomic_load_explicit(&stamps[facts->stamp_index & (view->stamp_count - 1)],
                                         memory_order_acquire);
    uint64_t all = atomic_load_explicit(&view_header(view)->all, memory_order_acquire);
    return user <= facts->stamp && all <= facts->stamp;
}

static bool time_allows(const struct cr_table_view *view, cr_boot_ns now, cr_boot_ns fresh,
                        const struct cr_entry *entry, const struct entry_facts *facts)
{
    if (now >= entry->deadline || now >= fresh)
        return false;
    if (!view->always_fresh && fresh - now > CR_TABLE_FRESH_NS_MAX)
        return false; /* nobody publishes that: damage */
    return !facts->matched_old || now < entry->old_until;
}

bool cr_table_find(const struct cr_table_view *view, struct cr_clock *clock,
                   const struct cr_session_id *id, const struct cr_token_hash *hash,
                   struct cr_entry *out, bool *out_used_old)
{
    /* The order of the steps is rule 4. */
    for (unsigned tries = 0; tries < FIND_TRIES_MAX; tries++) {
        /* view_fresh:A. Before the stamps: whoever sees a lease sees the stamps that were raised
         * before it was published. Pairs with fresh_publish:A. */
        cr_boot_ns fresh =
            atomic_load_explicit(&view_header(view)->fresh_until, memory_order_acquire);
        struct entry_facts facts;
        enum entry_answer answer = view_search(view, id, hash, out, &facts);
        if (answer == ENTRY_TORN)
            continue;
        if (answer == ENTRY_OTHER || !stamps_allow(view, &facts))
            return false;
        out->as_of = cr_clock_boot(clock);
        if (!time_allows(view, out->as_of, fresh, out, &facts))
            return false;
        *out_used_old = facts.matched_old;
        return true;
    }
    return false;
}

uint64_t cr_table_view_clock(const struct cr_table_view *view)
{
    /* view_clock:A. Whoever sees the clock of an ending reads the store after that ending's commit.
     * Pairs with clock_advance:A. */
    return atomic_load_explicit(&view_header(view)->clock, memory_order_acquire);
}

/* Whether `count` things of `each` bytes from `offset` on stand inside the segment, past the header
 * and aligned. */
static bool part_is_inside(uint64_t bytes, uint64_t offset, uint64_t count, uint64_t each)
{
    return offset % LAYOUT_ALIGN == 0 && offset >= sizeof(struct layout_header) &&
           offset <= bytes && count <= (bytes - offset) / each;
}

static bool header_is_sound(const struct layout_header *header, uint64_t bytes)
{
    uint64_t stamps = header->stamp_count;
    return header->header_bytes == sizeof *header && header->bytes == bytes &&
           stamps >= LAYOUT_STAMPS_MIN && (stamps & (stamps - 1)) == 0 &&
           header->bucket_count >= 1 && header->bucket_count <= LAYOUT_COUNT_MAX &&
           header->block_count <= LAYOUT_COUNT_MAX &&
           part_is_inside(bytes, header->stamp_offset, stamps, sizeof(uint64_t)) &&
           part_is_inside(bytes, header->bucket_offset, header->bucket_count,
                          sizeof(struct layout_bucket)) &&
           part_is_inside(bytes, header->entry_offset, header->bucket_count,
                          LAYOUT_BUCKET_ENTRIES * sizeof(struct layout_entry)) &&
           part_is_inside(bytes, header->block_offset, header->block_count,
                          sizeof(struct layout_block));
}

enum cr_status cr_table_view_init(struct cr_table_view *view, const void *memory, size_t bytes)
{
    CR_ASSERT(memory != NULL && (uintptr_t)memory % alignof(struct layout_header) == 0);
    struct layout_header header; /* copied once: what is checked is what is used */
    if (bytes < sizeof header)
        return CR_E_CORRUPT;
    memcpy(&header, memory, offsetof(struct layout_header, clock));
    if (header.magic != LAYOUT_MAGIC)
        return CR_E_CORRUPT;
    if (header.version != LAYOUT_VERSION)
        return CR_E_VERSION;
    if (!header_is_sound(&header, bytes))
        return CR_E_CORRUPT;
    *view = (struct cr_table_view){
        .memory = memory,
        .bytes = bytes,
        .bucket_count = header.bucket_count,
        .stamp_count = header.stamp_count,
        .block_count = header.block_count,
        .bucket_offset = header.bucket_offset,
        .entry_offset = header.entry_offset,
        .stamp_offset = header.stamp_offset,
        .block_offset = header.block_offset,
    };
    memcpy(view->key, header.key, sizeof view->key);
    return CR_OK;
}
