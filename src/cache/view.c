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
#include "cache/head.h"

#define FIND_TRIES_MAX 2

static const struct layout_header *view_header(const struct cr_table_view *view)
{
    return (const struct layout_header *)view->memory;
}

static const struct layout_bucket *view_bucket(const struct cr_table_view *view, uint64_t bucket)
{
    CR_ASSERT(bucket < view->bucket_count);
    return (const struct layout_bucket *)(view->memory + view->bucket_offset) + bucket;
}

/* `number` may be anything; NULL: there is no such slot. */
static const struct layout_slot *view_slot(const struct cr_table_view *view, uint64_t number)
{
    if (number >= view->bucket_count * LAYOUT_BUCKET_SLOTS)
        return NULL;
    return &view_bucket(view, number / LAYOUT_BUCKET_SLOTS)->slots[number % LAYOUT_BUCKET_SLOTS];
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

/* A session's payload, word after word: the entry's own, then those of its pieces. */
struct payload_reader {
    const struct cr_table_view *view;
    const _Atomic uint64_t *words;
    size_t words_left;
    uint64_t next; /* the slot of the piece that comes after them: not yet checked */
};

static inline struct payload_reader payload_of(const struct cr_table_view *view,
                                               const struct layout_slot *slot, unsigned flags)
{
    bool chained = (flags & HEAD_CHAINED) != 0;
    return (struct payload_reader){
        .view = view,
        .words = slot->words + HEAD_WORDS,
        .words_left = HEAD_PAYLOAD_WORDS - (chained ? 1 : 0),
        .next = chained ? word_get(&slot->words[HEAD_LINK]) : UINT64_MAX,
    };
}

/* False: there is no such piece. */
static bool payload_next_piece(struct payload_reader *reader)
{
    const struct layout_slot *piece = view_slot(reader->view, reader->next);
    if (piece == NULL)
        return false;
    reader->words = piece->words + (LAYOUT_WORDS - LAYOUT_PIECE_WORDS);
    reader->words_left = LAYOUT_PIECE_WORDS;
    reader->next = word_get(&piece->words[LAYOUT_PIECE_NEXT]);
    return true;
}

/* The next `bytes`; what comes after them begins a word. So does what is written: `out` has room
 * for whole words. Ends whatever the pieces say of each other: each of them takes bytes off. */
static inline bool payload_get(struct payload_reader *reader, void *out, size_t bytes)
{
    unsigned char *to = out;
    for (size_t left = (bytes + sizeof(uint64_t) - 1) / sizeof(uint64_t); left > 0;) {
        if (reader->words_left == 0 && !payload_next_piece(reader))
            return false;
        size_t count = left < reader->words_left ? left : reader->words_left;
        for (size_t i = 0; i < count; i++, to += sizeof(uint64_t)) {
            uint64_t word = word_get(&reader->words[i]);
            memcpy(to, &word, sizeof word);
        }
        reader->words += count;
        reader->words_left -= count;
        left -= count;
    }
    return true;
}

/* User, rights and data, which `reader` comes to next; how long they are is in `entry`. */
static inline bool payload_copy(struct payload_reader *reader, const struct cr_entry *entry,
                                const struct cr_table_payload *to)
{
    if (entry->user.length > CR_USER_BYTES_MAX || entry->rights_bytes > CR_RIGHTS_BYTES_MAX)
        return false;
    return payload_get(reader, to->user, entry->user.length) &&
           payload_get(reader, to->rights, entry->rights_bytes) &&
           payload_get(reader, to->data, layout_data_bytes(entry->data_bytes));
}

/* Where the stamp of an entry stands: its index is in the entry; masked, as any byte from there. */
static inline const _Atomic uint64_t *view_stamp(const struct cr_table_view *view, uint32_t index)
{
    return (const _Atomic uint64_t *)(view->memory + view->stamp_offset) +
           (index & (view->stamp_count - 1));
}

enum entry_answer { ENTRY_OTHER, ENTRY_TORN, ENTRY_WHOLE };

/*
 * Copy the entry to `out` and `to` if it has `hash`, which the id is mixed into. ENTRY_WHOLE: they
 * are what one writing wrote. ENTRY_TORN: it was being written. Pieces of the entry are taken from
 * it only after its sequence turned odd, so a foreign word from a piece makes it torn, too.
 */
static inline enum entry_answer entry_copy(const struct cr_table_view *view,
                                           const struct layout_slot *slot, uint64_t id_mask,
                                           const uint64_t hash[2],
                                           const struct cr_table_payload *to, struct cr_entry *out,
                                           struct entry_facts *out_facts)
{
    uint64_t head[HEAD_WORDS], extra[HEAD_EXTRA_WORDS_MAX];
    /* entry_copy:A. Whoever sees an even number sees at least the words that were written before
     * it. Pairs with entry_publish:A. */
    uint64_t sequence = atomic_load_explicit(&slot->sequence, memory_order_acquire);
    if ((sequence & 1) != 0)
        return ENTRY_TORN;
#pragma GCC unroll 7
    for (size_t i = 0; i < HEAD_WORDS; i++)
        head[i] = word_get(&slot->words[i]);
    unsigned flags = head_flags(head);
    struct payload_reader reader = payload_of(view, slot, flags);
    bool whole = payload_get(&reader, extra, head_extra_words(flags) * sizeof(uint64_t));
    bool matched = head_hash_equal(head + HEAD_HASH, hash);
    bool matched_old = (flags & HEAD_OLD) != 0 && head_hash_equal(head_old(head, extra), hash);
    head_lengths(head, out);
    bool copied = whole && (matched || matched_old) && payload_copy(&reader, out, to);

    /* entry_copy:B. Relaxed: the words above were loaded with acquire, so this load is not before
     * them. Pairs with entry_open:A, by way of word_put:A. */
    if (atomic_load_explicit(&slot->sequence, memory_order_relaxed) != sequence)
        return ENTRY_TORN;
    if (!copied)
        return ENTRY_OTHER;
    head_unpack(head, extra, id_mask, out);
    *out_facts = (struct entry_facts){
        .stamp = head_stamp(head),
        .stamp_index = head_stamp_index(head),
        .matched_old = !matched,
    };
    return ENTRY_WHOLE;
}

/* Candidates: a bit for each slot whose tag is the probe's, home's first, so that both buckets are
 * looked at without a branch that would have to wait for memory. */
static inline uint32_t tags_search(const struct layout_bucket *bucket,
                                   const uint64_t tags[LAYOUT_TAG_WORDS])
{
    uint64_t words[LAYOUT_TAG_WORDS];
#pragma GCC unroll 3
    for (unsigned word = 0; word < LAYOUT_TAG_WORDS; word++)
        /* tags_search:A. Only a hint, and a stale one costs a miss: relaxed. Pairs with hint_put:A.
         */
        words[word] = atomic_load_explicit(&bucket->tags[word], memory_order_relaxed);
    return layout_tags_equal(words, tags);
}

static inline void probe_search(const struct cr_table_view *view, struct cr_table_probe *probe)
{
    probe->candidates = tags_search(view_bucket(view, probe->home), probe->tags) |
                        tags_search(view_bucket(view, probe->spill), probe->tags)
                            << LAYOUT_BUCKET_SLOTS;
}

/* The bucket of the first of some candidates, and which of its slots it is. */
static inline const struct layout_bucket *candidate_bucket(const struct cr_table_view *view,
                                                           const struct cr_table_probe *probe,
                                                           uint32_t candidates, unsigned *out_slot)
{
    unsigned bit = (unsigned)__builtin_ctz(candidates);
    *out_slot = bit % LAYOUT_BUCKET_SLOTS;
    return view_bucket(view, bit < LAYOUT_BUCKET_SLOTS ? probe->home : probe->spill);
}

/* Where the bucket says that the stamp of a slot's entry stands. */
static inline uint32_t stamp_hint(const struct layout_bucket *bucket, unsigned slot)
{
    /* stamp_hint:A, stamp_hint:B. As tags_search:A: relaxed. Pair with hint_put:A. */
    uint64_t low = atomic_load_explicit(&bucket->stamps[slot / 4], memory_order_relaxed);
    uint64_t high =
        atomic_load_explicit(&bucket->stamps[LAYOUT_STAMP_WORDS - 1], memory_order_relaxed);
    return layout_stamp_index(low, high, slot);
}

void cr_table_probe(const struct cr_table_view *view, const struct cr_session_id *id,
                    struct cr_table_probe *out_probe)
{
    struct layout_places places = layout_places(id, view->bucket_count);
    __builtin_prefetch(view_bucket(view, places.home));
    __builtin_prefetch(view_bucket(view, places.spill));
    out_probe->home = places.home;
    out_probe->spill = places.spill;
    layout_tag_planes(places.tag, out_probe->tags);
    out_probe->id_mask = head_id_mask(view, id);
}

void cr_table_probe_tags(const struct cr_table_view *view, struct cr_table_probe *probe)
{
    unsigned slot;
    probe_search(view, probe);
    /* Without any candidate one of the spill bucket is as good as another. */
    const struct layout_bucket *bucket =
        candidate_bucket(view, probe, probe->candidates | 1u << 31, &slot);
    const char *entry = (const char *)&bucket->slots[slot];
    for (size_t byte = 0; byte < sizeof(struct layout_slot); byte += LAYOUT_ALIGN)
        __builtin_prefetch(entry + byte);
    __builtin_prefetch(view_stamp(view, stamp_hint(bucket, slot)));
}

static inline enum entry_answer view_search(const struct cr_table_view *view,
                                            const struct cr_table_probe *probe,
                                            const struct cr_token_hash *hash,
                                            const struct cr_table_payload *to, struct cr_entry *out,
                                            struct entry_facts *out_facts)
{
    uint64_t wanted[2];
    memcpy(wanted, hash->bytes, sizeof wanted);
    wanted[0] ^= probe->id_mask;
    for (uint32_t left = probe->candidates; left != 0; left &= left - 1) {
        unsigned slot;
        const struct layout_bucket *bucket = candidate_bucket(view, probe, left, &slot);
        enum entry_answer answer =
            entry_copy(view, &bucket->slots[slot], probe->id_mask, wanted, to, out, out_facts);
        if (answer != ENTRY_OTHER)
            return answer;
    }
    return ENTRY_OTHER;
}

/* Neither the user nor everybody was ended since the entry was asked for. */
static bool stamps_allow(const struct cr_table_view *view, const struct entry_facts *facts)
{
    /* stamps_allow:A, stamps_allow:B. Acquire, so that the clock is read after them. Pair with
     * stamp_raise:A and all_raise:A; that they are not older than the lease is view_fresh:A. */
    uint64_t user =
        atomic_load_explicit(view_stamp(view, facts->stamp_index), memory_order_acquire);
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

bool cr_table_find_probed(const struct cr_table_view *view, struct cr_clock *clock,
                          struct cr_table_probe *probe, const struct cr_token_hash *hash,
                          const struct cr_table_payload *to, struct cr_entry *out,
                          bool *out_used_old)
{
    /* The order of the steps is rule 4. */
    for (unsigned tries = 0; tries < FIND_TRIES_MAX; tries++) {
        /* view_fresh:A. Before the stamps: whoever sees a lease sees the stamps that were raised
         * before it was published. Pairs with fresh_publish:A. */
        cr_boot_ns fresh =
            atomic_load_explicit(&view_header(view)->fresh_until, memory_order_acquire);
        struct entry_facts facts;
        enum entry_answer answer = view_search(view, probe, hash, to, out, &facts);
        if (answer == ENTRY_TORN) {
            probe_search(view, probe);
            continue;
        }
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

bool cr_table_find(const struct cr_table_view *view, struct cr_clock *clock,
                   const struct cr_session_id *id, const struct cr_token_hash *hash,
                   struct cr_entry *out, bool *out_used_old)
{
    struct cr_table_probe probe;
    cr_table_probe(view, id, &probe);
    cr_table_probe_tags(view, &probe);
    const struct cr_table_payload to = {out->user.bytes, out->rights, out->data};
    out->id = *id;
    return cr_table_find_probed(view, clock, &probe, hash, &to, out, out_used_old);
}

cr_boot_ns cr_table_find_many(const struct cr_table_view *view, struct cr_clock *clock,
                              struct cr_table_wanted *wanted, size_t count,
                              void (*copied)(void *context, size_t index,
                                             const struct cr_entry *entry),
                              void *context)
{
    struct cr_entry entry; /* one after the other */
    struct entry_facts facts[CR_TABLE_MANY_MAX];
    struct {
        cr_boot_ns deadline, old_until;
    } times[CR_TABLE_MANY_MAX];
    CR_ASSERT(count > 0 && count <= CR_TABLE_MANY_MAX);
    /* The order of the steps is rule 4, each done for all before the next is begun. */
    /* view_fresh:B. As view_fresh:A, for all of them. Pairs with fresh_publish:A. */
    cr_boot_ns fresh = atomic_load_explicit(&view_header(view)->fresh_until, memory_order_acquire);
    for (size_t i = 0; i < count; i++) {
        enum entry_answer answer = ENTRY_TORN;
        for (unsigned tries = 0; tries < FIND_TRIES_MAX && answer == ENTRY_TORN; tries++) {
            if (tries > 0)
                probe_search(view, &wanted[i].probe);
            answer = view_search(view, &wanted[i].probe, &wanted[i].hash, &wanted[i].to, &entry,
                                 &facts[i]);
        }
        wanted[i].found = answer == ENTRY_WHOLE;
        if (!wanted[i].found)
            continue;
        times[i].deadline = entry.deadline;
        times[i].old_until = entry.old_until;
        copied(context, i, &entry);
    }
    for (size_t i = 0; i < count; i++)
        wanted[i].found = wanted[i].found && stamps_allow(view, &facts[i]);
    cr_boot_ns now = cr_clock_boot(clock);
    for (size_t i = 0; i < count; i++) {
        if (!wanted[i].found)
            continue;
        entry.deadline = times[i].deadline;
        entry.old_until = times[i].old_until;
        wanted[i].found = time_allows(view, now, fresh, &entry, &facts[i]);
        wanted[i].used_old = facts[i].matched_old;
    }
    return now;
}

uint64_t cr_table_view_clock(const struct cr_table_view *view)
{
    /* view_clock:A. Whoever sees the clock of an ending reads the store after that ending's
     * commit. Pairs with clock_advance:A. */
    return atomic_load_explicit(&view_header(view)->clock, memory_order_acquire);
}

/* Whether `count` things of `each` bytes from `offset` on stand inside the segment, past the
 * header and aligned. */
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
           header->bucket_count >= 1 &&
           header->bucket_count <= LAYOUT_SLOTS_MAX / LAYOUT_BUCKET_SLOTS &&
           part_is_inside(bytes, header->stamp_offset, stamps, sizeof(uint64_t)) &&
           part_is_inside(bytes, header->bucket_offset, header->bucket_count,
                          sizeof(struct layout_bucket));
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
    if (header.version != CR_TABLE_LAYOUT)
        return CR_E_VERSION;
    if (!header_is_sound(&header, bytes))
        return CR_E_CORRUPT;
    *view = (struct cr_table_view){
        .memory = memory,
        .bytes = bytes,
        .bucket_count = header.bucket_count,
        .stamp_count = header.stamp_count,
        .stamp_offset = header.stamp_offset,
        .bucket_offset = header.bucket_offset,
    };
    memcpy(view->user_key, header.user_key, sizeof view->user_key);
    memcpy(view->id_key, header.id_key, sizeof view->id_key);
    return CR_OK;
}
