/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writing of one entry and its pieces. States of a slot, by sequence and tag; only the engine's
 * thread moves any of them:
 *
 *     empty    even, tag 0, all words 0            -> written, or taken as a piece
 *     whole    even, tag of an entry               -> seen (stays whole), dropped
 *     piece    odd, tag 1                          -> given back
 *     (odd)    while one of an entry's three goes on: readers see it as torn, and try again or miss
 *
 * Invariants. Between two calls every sequence is even but those of pieces, and a piece is in the
 * chain of one whole entry; or taken for one that is about to be written. An entry's pieces change
 * only while its sequence is odd; so a reader who met a word that another entry wrote there finds
 * the sequence changed. A piece's own stays odd, so that nobody takes its bytes, which some client
 * may have chosen, for an entry.
 */
#include "cache/writer.h"

#include "base/bytes.h"

/* Odd from here to entry_publish. */
static void entry_open(struct layout_slot *slot)
{
    uint64_t sequence = word_own(&slot->sequence);
    CR_ASSERT((sequence & 1) == 0);
    /* entry_open:A. Relaxed: the words that follow are stored with release and carry it. Pairs
     * with entry_copy:B, by way of word_get:A. */
    atomic_store_explicit(&slot->sequence, sequence + 1, memory_order_relaxed);
}

static void entry_publish(struct layout_slot *slot)
{
    uint64_t sequence = word_own(&slot->sequence);
    CR_ASSERT((sequence & 1) == 1);
    /* entry_publish:A. Whoever sees it even sees the words above. Pairs with entry_copy:A. */
    atomic_store_explicit(&slot->sequence, sequence + 1, memory_order_release);
}

static void word_put(_Atomic uint64_t *word, uint64_t value)
{
    /* word_put:A. Whoever sees this word sees the odd number before it. Pairs with word_get:A. */
    atomic_store_explicit(word, value, memory_order_release);
}

static void words_clear(struct layout_slot *slot)
{
    for (size_t i = 0; i < LAYOUT_WORDS; i++)
        word_put(&slot->words[i], 0);
}

static void hint_put(_Atomic uint64_t *word, uint64_t mask, uint64_t bits)
{
    /* hint_put:A. A hint, which needs no order: relaxed. Pairs with tags_search:A, stamp_hint:A,
     * stamp_hint:B. */
    atomic_store_explicit(word, (word_own(word) & ~mask) | bits, memory_order_relaxed);
}

/* Whoever reads between two of these stores may see a tag that nobody has: a candidate that is
 * none, or a miss. */
static void tag_put(struct cr_table *table, uint64_t slot, uint32_t tag, uint32_t stamp_index)
{
    struct layout_bucket *bucket = bucket_of(table, slot);
    uint64_t i = slot % LAYOUT_BUCKET_SLOTS;
    uint64_t planes[LAYOUT_TAG_WORDS];
    layout_tag_planes(tag, planes);
    hint_put(&bucket->stamps[i / 4], 0xffffULL << layout_stamp_low_at(i),
             (uint64_t)(stamp_index & 0xffff) << layout_stamp_low_at(i));
    hint_put(&bucket->stamps[LAYOUT_STAMP_WORDS - 1], 15ULL << layout_stamp_high_at(i),
             (uint64_t)(stamp_index >> 16) << layout_stamp_high_at(i));
    uint64_t own = 0x0001000100010001ULL << i;
    for (unsigned word = 0; word < LAYOUT_TAG_WORDS; word++)
        hint_put(&bucket->tags[word], own, planes[word] & own);
}

/* ---- From fields to words. */

static bool has_old(const struct cr_entry *entry)
{
    /* Without an old hash, 16 bytes of zero must not be one. */
    return !cr_bytes_are_zero(entry->old_hash, sizeof entry->old_hash);
}

static int64_t boot_ms(cr_boot_ns ns)
{
    return (int64_t)(ns / CR_NS_PER_MS);
}

/* Whether creation and three spans say all its times (head.h), and every part has room. */
static bool head_is_short(const struct cr_entry *entry)
{
    if (!head_fits(entry->created_at, HEAD_CREATED_BITS) ||
        !head_fits(entry->idle, HEAD_IDLE_BITS) || entry->version > head_mask(HEAD_VERSION_BITS) ||
        entry->ends_at < entry->created_at || entry->seen_at < entry->created_at)
        return false;
    int64_t absolute = entry->ends_at - entry->created_at;
    int64_t seen = entry->seen_at - entry->created_at;
    if (!head_fits(absolute, HEAD_ABSOLUTE_BITS) || !head_fits(seen, HEAD_SEEN_BITS))
        return false;
    int64_t born = boot_ms(entry->absolute_until) - absolute;
    int64_t end = seen + entry->idle < absolute ? seen + entry->idle : absolute;
    /* A use of before the host's start has no place on its clock, and none can be counted from. */
    return head_fits(born + (1LL << (HEAD_CREATED_BITS - 1)), HEAD_CREATED_BITS) &&
           entry->expires_at == entry->created_at + end && boot_ms(entry->seen) == born + seen &&
           boot_ms(entry->deadline) == born + end;
}

struct packed {
    uint64_t head[HEAD_WORDS];
    uint64_t extra[HEAD_EXTRA_WORDS_MAX];
    size_t extra_words;
};

static void wide_pack(const struct cr_entry *entry, struct packed *out)
{
    const uint64_t wide[HEAD_WIDE_WORDS] = {(uint64_t)entry->created_at,
                                            (uint64_t)entry->ends_at,
                                            (uint64_t)entry->expires_at,
                                            (uint64_t)entry->seen_at,
                                            (uint64_t)entry->idle,
                                            entry->version,
                                            entry->deadline,
                                            entry->absolute_until,
                                            entry->seen};
    memcpy(out->extra + out->extra_words, wide, sizeof wide);
    out->extra_words += HEAD_WIDE_WORDS;
}

static uint64_t head_seen(const struct cr_entry *entry)
{
    return (uint64_t)(entry->seen_at - entry->created_at) | (uint64_t)entry->idle << HEAD_SEEN_BITS;
}

static void short_pack(const struct cr_entry *entry, struct packed *out)
{
    uint64_t absolute = (uint64_t)(entry->ends_at - entry->created_at);
    uint64_t born = (uint64_t)boot_ms(entry->absolute_until) - absolute;
    out->head[HEAD_CREATED] |= (uint64_t)entry->created_at;
    out->head[HEAD_BORN] |= born & head_mask(HEAD_CREATED_BITS);
    out->head[HEAD_SEEN] = head_seen(entry);
    out->head[HEAD_ENDS] = absolute | entry->version << HEAD_ABSOLUTE_BITS;
}

static unsigned flags_of(const struct cr_entry *entry)
{
    return (entry->authenticated_at != entry->created_at ? HEAD_LATER : 0u) |
           (has_old(entry) ? HEAD_OLD : 0u) | (head_is_short(entry) ? 0u : HEAD_WIDE);
}

static void head_pack(const struct cr_entry *entry, uint64_t id_mask, uint64_t stamp,
                      uint32_t stamp_index, bool chained, struct packed *out)
{
    unsigned flags = flags_of(entry);
    memset(out, 0, sizeof *out);
    CR_ASSERT(stamp <= HEAD_STAMP_MAX && entry->data_bytes <= CR_DATA_BYTES_MAX);
    memcpy(out->head + HEAD_HASH, entry->hash, sizeof entry->hash);
    out->head[HEAD_HASH] ^= id_mask;
    out->head[HEAD_CREATED] = (uint64_t)stamp_index << HEAD_CREATED_BITS;
    out->head[HEAD_STAMP] = stamp | (uint64_t)entry->user.length << HEAD_STAMP_BITS |
                            (uint64_t)entry->rights_bytes << (HEAD_STAMP_BITS + HEAD_USER_BITS);
    out->head[HEAD_BORN] = (uint64_t)entry->data_bytes << HEAD_CREATED_BITS |
                           (uint64_t)(flags | (chained ? HEAD_CHAINED : 0u))
                               << (HEAD_CREATED_BITS + HEAD_DATA_BITS);
    if ((flags & HEAD_LATER) != 0)
        out->extra[out->extra_words++] = (uint64_t)entry->authenticated_at;
    if ((flags & HEAD_OLD) != 0) {
        uint64_t *old = out->extra + out->extra_words;
        memcpy(old, entry->old_hash, sizeof entry->old_hash);
        old[0] ^= id_mask;
        old[2] = entry->old_until;
        out->extra_words += HEAD_OLD_WORDS;
    }
    if ((flags & HEAD_WIDE) != 0)
        wide_pack(entry, out);
    else
        short_pack(entry, out);
}

static size_t words_of(size_t bytes)
{
    return (bytes + 7) / 8;
}

size_t cr_entry_pieces(const struct cr_entry *entry)
{
    size_t words = head_extra_words(flags_of(entry)) + words_of(entry->user.length) +
                   words_of(entry->rights_bytes) + words_of(layout_data_bytes(entry->data_bytes));
    if (words <= HEAD_PAYLOAD_WORDS)
        return 0;
    size_t beyond = words - (HEAD_PAYLOAD_WORDS - 1); /* one is the link */
    return (beyond + LAYOUT_PIECE_WORDS - 1) / LAYOUT_PIECE_WORDS;
}

/* ---- The payload's words one after the other; payload_reader in view.c is its other half. */

struct payload_writer {
    const struct cr_table *table;
    _Atomic uint64_t *words;
    size_t words_left;
    uint64_t next;
};

static struct payload_writer payload_of(const struct cr_table *table, struct layout_slot *to,
                                        uint32_t first_piece)
{
    return (struct payload_writer){
        .table = table,
        .words = to->words + HEAD_WORDS,
        .words_left = HEAD_PAYLOAD_WORDS - (first_piece != CR_NO_SLOT ? 1 : 0),
        .next = first_piece,
    };
}

/* The next word of the payload. */
static _Atomic uint64_t *payload_word(struct payload_writer *writer)
{
    if (writer->words_left == 0) {
        struct layout_slot *piece = slot_at(writer->table, writer->next);
        writer->words = piece->words + (LAYOUT_WORDS - LAYOUT_PIECE_WORDS);
        writer->words_left = LAYOUT_PIECE_WORDS;
        writer->next = word_own(&piece->words[LAYOUT_PIECE_NEXT]);
    }
    writer->words_left--;
    return writer->words++;
}

static void payload_put(struct payload_writer *writer, const void *bytes, size_t count)
{
    const unsigned char *from = bytes;
    for (size_t done = 0; done < count; done += 8) {
        uint64_t word = 0;
        memcpy(&word, from + done, count - done < 8 ? count - done : 8);
        word_put(payload_word(writer), word);
    }
}

/* The entry's first piece, and its own words before the user; both as it was written. */
static uint32_t first_piece_of(const struct cr_table *table, uint64_t slot, const uint64_t *head)
{
    return (head_flags(head) & HEAD_CHAINED) != 0
               ? (uint32_t)word_own(&slot_at(table, slot)->words[HEAD_LINK])
               : CR_NO_SLOT;
}

static void extra_own(const struct cr_table *table, uint64_t slot, const uint64_t *head,
                      _Atomic uint64_t *out_words[HEAD_EXTRA_WORDS_MAX])
{
    struct payload_writer at =
        payload_of(table, slot_at(table, slot), first_piece_of(table, slot, head));
    size_t count = head_extra_words(head_flags(head));
    for (size_t i = 0; i < count; i++)
        out_words[i] = payload_word(&at);
}

/* ---- Pieces. */

void cr_piece_take(struct cr_table *table, uint64_t slot)
{
    CR_ASSERT(slot_tag(table, slot) == LAYOUT_TAG_EMPTY);
    entry_open(slot_at(table, slot)); /* until it is given back */
    tag_put(table, slot, LAYOUT_TAG_PIECE, 0);
    table->marks[slot] = CR_NO_SLOT;
}

void cr_piece_give(struct cr_table *table, uint64_t slot)
{
    struct layout_slot *at = slot_at(table, slot);
    CR_ASSERT(slot_tag(table, slot) == LAYOUT_TAG_PIECE);
    words_clear(at);
    entry_publish(at);
    tag_put(table, slot, LAYOUT_TAG_EMPTY, 0);
    table->marks[slot] = 0;
}

/* Into a chain, in their order; answers the first. */
static uint32_t pieces_link(struct cr_table *table, uint64_t owner, const uint32_t *pieces,
                            size_t count)
{
    uint32_t first = CR_NO_SLOT;
    for (size_t i = count; i > 0; i--) {
        CR_ASSERT(table->marks[pieces[i - 1]] == CR_NO_SLOT);
        table->marks[pieces[i - 1]] = owner;
        word_put(&slot_at(table, pieces[i - 1])->words[LAYOUT_PIECE_NEXT], first);
        first = pieces[i - 1];
    }
    return first;
}

static void pieces_give(struct cr_table *table, uint64_t first)
{
    for (uint64_t piece = first; piece != CR_NO_SLOT;) {
        uint64_t next = word_own(&slot_at(table, piece)->words[LAYOUT_PIECE_NEXT]);
        cr_piece_give(table, piece);
        piece = next;
    }
}

/* ---- Entries. */

void cr_slot_write(struct cr_table *table, uint64_t slot, const struct cr_entry *entry,
                   uint32_t tag, uint64_t stamp, uint32_t stamp_index, const uint32_t *pieces,
                   size_t piece_count)
{
    struct layout_slot *to = slot_at(table, slot);
    struct packed packed;
    uint64_t id_mask = head_id_mask(&table->view, &entry->id);
    CR_ASSERT(tag >= LAYOUT_TAG_ENTRY_MIN && slot_tag(table, slot) == LAYOUT_TAG_EMPTY);
    CR_ASSERT(piece_count == cr_entry_pieces(entry));
    head_pack(entry, id_mask, stamp, stamp_index, piece_count > 0, &packed);
    entry_open(to);
    uint32_t first = pieces_link(table, slot, pieces, piece_count);
    for (size_t i = 0; i < HEAD_WORDS; i++)
        word_put(&to->words[i], packed.head[i]);
    if (first != CR_NO_SLOT)
        word_put(&to->words[HEAD_LINK], first);
    struct payload_writer writer = payload_of(table, to, first);
    payload_put(&writer, packed.extra, packed.extra_words * sizeof(uint64_t));
    payload_put(&writer, entry->user.bytes, entry->user.length);
    payload_put(&writer, entry->rights, entry->rights_bytes);
    payload_put(&writer, entry->data, layout_data_bytes(entry->data_bytes));
    entry_publish(to);
    tag_put(table, slot, tag, stamp_index);
    table->marks[slot] = id_mask;
    table->group_counts[stamp_index]++;
    table->count.entries++;
}

void cr_slot_times(const struct cr_table *table, uint64_t slot, struct cr_entry *out)
{
    uint64_t head[HEAD_WORDS], extra[HEAD_EXTRA_WORDS_MAX];
    _Atomic uint64_t *words[HEAD_EXTRA_WORDS_MAX];
    CR_ASSERT(slot_tag(table, slot) >= LAYOUT_TAG_ENTRY_MIN);
    head_own(table, slot, head);
    size_t count = head_extra_words(head_flags(head));
    if (count > 0)
        extra_own(table, slot, head, words);
    for (size_t i = 0; i < count; i++)
        extra[i] = word_own(words[i]);
    head_unpack(head, extra, table->marks[slot], out);
}

/* `ms` after adding a span given in ns, not past `most`. */
static cr_time_ms time_moved(cr_time_ms ms, uint64_t span_ns, cr_time_ms most)
{
    cr_time_ms moved;
    if (__builtin_add_overflow(ms, (cr_time_ms)(span_ns / CR_NS_PER_MS), &moved) || moved > most)
        return most;
    return moved;
}

static void times_move(struct cr_entry *times, cr_boot_ns seen)
{
    cr_boot_ns deadline = cr_boot_add(seen, times->idle);
    if (deadline > times->absolute_until)
        deadline = times->absolute_until;
    if (deadline < times->deadline)
        deadline = times->deadline;
    times->seen_at = time_moved(times->seen_at, seen - times->seen, times->ends_at);
    times->expires_at = time_moved(times->expires_at, deadline - times->deadline, times->ends_at);
    times->seen = seen;
    times->deadline = deadline;
}

void cr_slot_seen(struct cr_table *table, uint64_t slot, cr_boot_ns seen)
{
    uint64_t head[HEAD_WORDS];
    _Atomic uint64_t *words[HEAD_EXTRA_WORDS_MAX];
    struct layout_slot *at = slot_at(table, slot);
    struct cr_entry times;
    struct packed packed = {.extra_words = 0};
    size_t first = 0, count = 1; /* of `words`, which become those of `packed` */
    cr_slot_times(table, slot, &times);
    head_own(table, slot, head);
    extra_own(table, slot, head, words);
    CR_ASSERT(seen >= times.seen && seen < times.deadline);
    times_move(&times, seen);
    if ((head_flags(head) & HEAD_WIDE) != 0) {
        count = HEAD_WIDE_WORDS;
        first = head_extra_words(head_flags(head)) - count;
        wide_pack(&times, &packed);
    } else {
        words[0] = &at->words[HEAD_SEEN];
        packed.extra[0] = head_seen(&times);
    }
    entry_open(at);
    for (size_t i = 0; i < count; i++)
        word_put(words[first + i], packed.extra[i]);
    entry_publish(at);
}

void cr_slot_drop(struct cr_table *table, uint64_t slot)
{
    uint64_t head[HEAD_WORDS];
    struct layout_slot *at = slot_at(table, slot);
    CR_ASSERT(slot_tag(table, slot) >= LAYOUT_TAG_ENTRY_MIN && table->count.entries > 0);
    head_own(table, slot, head);
    uint32_t first = first_piece_of(table, slot, head), group = head_stamp_index(head);
    CR_ASSERT(table->group_counts[group] > 0);
    tag_put(table, slot, LAYOUT_TAG_EMPTY, 0);
    entry_open(at);
    pieces_give(table, first);
    words_clear(at);
    entry_publish(at);
    table->marks[slot] = 0;
    table->group_counts[group]--;
    table->count.entries--;
}
