/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writing of one entry and its blocks. States of an entry, by sequence and tag; only the
 * engine's thread moves any of them:
 *
 *     empty    even, tag 0, all words 0           -> written
 *     whole    even, tag set                      -> seen (stays whole), dropped
 *     (odd)    while one of the three goes on: readers see it as torn, and try again or miss
 *
 * Invariants. Between two calls every sequence is even. A block is in the chain of one whole entry
 * or on the free stack, and there it is all 0. An entry's blocks change only while its sequence is
 * odd; so a reader who met a word that another entry wrote there finds the sequence changed.
 */
#include "cache/writer.h"

#include "base/assert.h"
#include "base/bytes.h"

/* Odd from here to entry_publish. */
static void entry_open(struct layout_entry *entry)
{
    uint64_t sequence = word_own(&entry->sequence);
    CR_ASSERT((sequence & 1) == 0);
    /* entry_open:A. Relaxed: the words that follow are stored with release and carry it. Pairs
     * with entry_copy:B, by way of word_get:A. */
    atomic_store_explicit(&entry->sequence, sequence + 1, memory_order_relaxed);
}

static void entry_publish(struct layout_entry *entry)
{
    uint64_t sequence = word_own(&entry->sequence);
    CR_ASSERT((sequence & 1) == 1);
    /* entry_publish:A. Whoever sees it even sees the words above. Pairs with entry_copy:A. */
    atomic_store_explicit(&entry->sequence, sequence + 1, memory_order_release);
}

static void word_put(_Atomic uint64_t *word, uint64_t value)
{
    /* word_put:A. Whoever sees this word sees the odd number before it. Pairs with word_get:A. */
    atomic_store_explicit(word, value, memory_order_release);
}

static void words_put(_Atomic uint64_t *words, const void *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t word;
        memcpy(&word, (const unsigned char *)bytes + i * sizeof word, sizeof word);
        word_put(&words[i], word);
    }
}

static void tag_put(struct cr_table *table, struct slot slot, uint8_t tag)
{
    _Atomic uint64_t *tags = &table->buckets[slot.bucket].tags;
    uint64_t others = word_own(tags) & ~(0xffULL << (8 * slot.index));
    /* tag_put:A. A hint, which needs no order. Pairs with bucket_search:A. */
    atomic_store_explicit(tags, others | (uint64_t)tag << (8 * slot.index), memory_order_relaxed);
}

static size_t words_of(size_t bytes)
{
    return (bytes + 7) / 8;
}

static size_t blocks_of(size_t payload_words)
{
    if (payload_words <= LAYOUT_PAYLOAD_WORDS)
        return 0;
    return (payload_words - LAYOUT_PAYLOAD_WORDS + LAYOUT_WORDS - 1) / LAYOUT_WORDS;
}

size_t cr_entry_blocks(const struct cr_entry *entry)
{
    return blocks_of(words_of(entry->user.length) + words_of(entry->rights_bytes) +
                     words_of(layout_data_bytes(entry->data_bytes)));
}

size_t cr_slot_blocks(const struct cr_table *table, struct slot slot)
{
    uint64_t lengths = word_own(&slot_entry(table, slot)->words[WORD_LENGTHS]);
    return blocks_of(words_of((uint8_t)lengths) + words_of((uint16_t)(lengths >> 16)) +
                     words_of(layout_data_bytes((uint32_t)(lengths >> 32))));
}

/* The payload's words one after the other; payload_reader in view.c is its other half. */
struct payload_writer {
    struct cr_table *table;
    _Atomic uint64_t *words;
    size_t words_left;
    uint64_t next;
};

/* The entry's `count` blocks, in a chain; answers the first. */
static uint32_t blocks_take(struct cr_table *table, size_t count)
{
    CR_ASSERT(count <= table->free_count);
    uint32_t first = LAYOUT_NO_BLOCK;
    for (size_t i = 0; i < count; i++) {
        uint32_t block = table->free_blocks[--table->free_count];
        word_put(&table->blocks[block].next, first);
        first = block;
    }
    return first;
}

static void payload_put(struct payload_writer *writer, const unsigned char *bytes, size_t count)
{
    while (count > 0) {
        if (writer->words_left == 0) {
            CR_ASSERT(writer->next < writer->table->view.block_count);
            struct layout_block *block = &writer->table->blocks[writer->next];
            writer->words = block->words;
            writer->words_left = LAYOUT_WORDS;
            writer->next = word_own(&block->next);
        }
        size_t part = count < 8 ? count : 8;
        uint64_t word = 0;
        memcpy(&word, bytes, part);
        word_put(writer->words, word);
        writer->words++;
        writer->words_left--;
        bytes += part;
        count -= part;
    }
}

static void head_put(struct layout_entry *to, const struct cr_entry *entry, uint64_t stamp)
{
    uint64_t id[3];
    layout_id_words(&entry->id, id);
    words_put(&to->words[WORD_ID], id, 3);
    words_put(&to->words[WORD_HASH], entry->hash, 2);
    words_put(&to->words[WORD_OLD_HASH], entry->old_hash, 2);
    /* Without an old hash, 16 bytes of zero must not be one. */
    bool has_old = !cr_bytes_are_zero(entry->old_hash, sizeof entry->old_hash);
    word_put(&to->words[WORD_OLD_UNTIL], has_old ? entry->old_until : 0);
    word_put(&to->words[WORD_DEADLINE], entry->deadline);
    word_put(&to->words[WORD_ABSOLUTE], entry->absolute_until);
    word_put(&to->words[WORD_SEEN], entry->seen);
    word_put(&to->words[WORD_IDLE], (uint64_t)entry->idle);
    word_put(&to->words[WORD_CREATED], (uint64_t)entry->created_at);
    word_put(&to->words[WORD_AUTHENTICATED], (uint64_t)entry->authenticated_at);
    word_put(&to->words[WORD_ENDS], (uint64_t)entry->ends_at);
    word_put(&to->words[WORD_EXPIRES], (uint64_t)entry->expires_at);
    word_put(&to->words[WORD_SEEN_AT], (uint64_t)entry->seen_at);
    word_put(&to->words[WORD_VERSION], entry->version);
    word_put(&to->words[WORD_STAMP], stamp);
    word_put(&to->words[WORD_LENGTHS], (uint64_t)entry->user.length |
                                           (uint64_t)entry->rights_bytes << 16 |
                                           (uint64_t)entry->data_bytes << 32);
}

void cr_slot_write(struct cr_table *table, struct slot slot, const struct cr_entry *entry,
                   uint8_t tag, uint64_t stamp, uint32_t stamp_index)
{
    CR_ASSERT(tag != 0 && slot_tag(table, slot) == 0);
    struct layout_entry *to = slot_entry(table, slot);
    entry_open(to);
    uint32_t block = blocks_take(table, cr_entry_blocks(entry));
    head_put(to, entry, stamp);
    word_put(&to->words[WORD_PLACES], (uint64_t)stamp_index | (uint64_t)block << 32);
    struct payload_writer writer = {
        .table = table,
        .words = to->words + WORD_PAYLOAD,
        .words_left = LAYOUT_PAYLOAD_WORDS,
        .next = block,
    };
    payload_put(&writer, entry->user.bytes, entry->user.length);
    payload_put(&writer, entry->rights, entry->rights_bytes);
    payload_put(&writer, entry->data, layout_data_bytes(entry->data_bytes));
    entry_publish(to);
    tag_put(table, slot, tag);
    table->count.entries++;
}

/* `ms` after adding a span given in ns, not past `most`. */
static cr_time_ms time_moved(uint64_t ms, uint64_t span_ns, uint64_t most)
{
    cr_time_ms moved;
    if (__builtin_add_overflow((cr_time_ms)ms, (cr_time_ms)(span_ns / CR_NS_PER_MS), &moved) ||
        moved > (cr_time_ms)most)
        return (cr_time_ms)most;
    return moved;
}

void cr_slot_seen(struct cr_table *table, struct slot slot, cr_boot_ns seen, cr_boot_ns deadline)
{
    struct layout_entry *entry = slot_entry(table, slot);
    uint64_t seen_before = word_own(&entry->words[WORD_SEEN]);
    uint64_t deadline_before = word_own(&entry->words[WORD_DEADLINE]);
    uint64_t ends_at = word_own(&entry->words[WORD_ENDS]);
    CR_ASSERT(slot_tag(table, slot) != 0 && seen >= seen_before && deadline >= deadline_before);
    cr_time_ms seen_at =
        time_moved(word_own(&entry->words[WORD_SEEN_AT]), seen - seen_before, ends_at);
    cr_time_ms expires_at =
        time_moved(word_own(&entry->words[WORD_EXPIRES]), deadline - deadline_before, ends_at);
    entry_open(entry);
    word_put(&entry->words[WORD_SEEN], seen);
    word_put(&entry->words[WORD_DEADLINE], deadline);
    word_put(&entry->words[WORD_SEEN_AT], (uint64_t)seen_at);
    word_put(&entry->words[WORD_EXPIRES], (uint64_t)expires_at);
    entry_publish(entry);
}

/* Back to the stack, all 0. */
static void blocks_give(struct cr_table *table, uint64_t first)
{
    for (uint64_t block = first; block != LAYOUT_NO_BLOCK;) {
        CR_ASSERT(block < table->view.block_count && table->free_count < table->view.block_count);
        struct layout_block *at = &table->blocks[block];
        table->free_blocks[table->free_count++] = (uint32_t)block;
        block = word_own(&at->next);
        word_put(&at->next, 0);
        for (size_t i = 0; i < LAYOUT_WORDS; i++)
            word_put(&at->words[i], 0);
    }
}

void cr_slot_drop(struct cr_table *table, struct slot slot)
{
    CR_ASSERT(slot_tag(table, slot) != 0 && table->count.entries > 0);
    struct layout_entry *entry = slot_entry(table, slot);
    tag_put(table, slot, 0);
    entry_open(entry);
    blocks_give(table, word_own(&entry->words[WORD_PLACES]) >> 32);
    for (size_t i = 0; i < LAYOUT_WORDS; i++)
        word_put(&entry->words[i], 0);
    entry_publish(entry);
    table->count.entries--;
}
