/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GCRA and its table.
 *
 * The table is sets of up to WAYS entries, found by the key's first bytes. Rules:
 * 1. An entry that is here is the newest there is of its key; one that is not has to be asked for.
 * 2. An entry in use (pins > 0: its charge may not be committed yet, or a refund may still come) is
 *    never dropped, so a set may grow past WAYS by what is in use.
 * 3. Dropped is who owes least. Whoever is just waiting to be told what that key owes is told then
 *    and there: what the store answers may be from before the last charge.
 */
#include "coord/limit.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

#define WAYS 8

struct cr_limit_entry {
    struct cr_limit_entry *next;
    struct cr_limit_key key;
    struct cr_limit_word word;
    unsigned pins;
};

struct set {
    struct cr_limit_entry *first;
    size_t count;
};

struct cr_limiter {
    struct cr_limit_ask *asks;
    struct cr_limiter_count count;
    size_t set_count; /* a power of two */
    struct set sets[];
};

/* ---- the form */

static bool digits_read(const char **at, int64_t most, int64_t *out)
{
    int64_t number = 0;
    const char *start = *at;
    for (; **at >= '0' && **at <= '9'; ++*at) {
        number = number * 10 + (**at - '0');
        if (number > most)
            return false;
    }
    *out = number;
    return *at != start && number > 0;
}

static bool tier_read(const char **at, struct cr_limit_tier *out)
{
    static const struct {
        char name;
        cr_span_ms size;
    } units[] = {{'s', 1000}, {'m', 60000}, {'h', 3600000}, {'d', 86400000}};
    int64_t count, number;
    if (!digits_read(at, CR_LIMIT_COUNT_MAX, &count) || *(*at)++ != '/' ||
        !digits_read(at, CR_LIMIT_PERIOD_MS_MAX / 1000, &number))
        return false;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (**at != units[i].name)
            continue;
        ++*at;
        *out = (struct cr_limit_tier){(uint32_t)count, number * units[i].size};
        return out->period <= CR_LIMIT_PERIOD_MS_MAX;
    }
    return false;
}

bool cr_limit_read(const char *text, struct cr_limit *out_limit)
{
    struct cr_limit limit = {0};
    if (strcmp(text, "off") == 0) {
        *out_limit = limit;
        return true;
    }
    for (const char *at = text;; at++) {
        if (limit.tier_count == CR_LIMIT_TIERS_MAX ||
            !tier_read(&at, &limit.tiers[limit.tier_count]))
            return false;
        limit.tier_count++;
        if (*at == '\0')
            break;
        if (*at != ' ')
            return false;
    }
    *out_limit = limit;
    return true;
}

/* ---- arithmetic */

/* Rounded up, so that no rounding admits more. */
static cr_boot_ns tier_interval(const struct cr_limit_tier *tier)
{
    return ((cr_boot_ns)tier->period * CR_NS_PER_MS + tier->count - 1) / tier->count;
}

static cr_boot_ns tier_most(const struct cr_limit_tier *tier)
{
    return tier_interval(tier) * tier->count;
}

static cr_boot_ns later_of(cr_boot_ns a, cr_boot_ns b)
{
    return a > b ? a : b;
}

static cr_span_ms span_up(cr_boot_ns ns)
{
    return (cr_span_ms)((ns + CR_NS_PER_MS - 1) / CR_NS_PER_MS);
}

bool cr_limit_admits(const struct cr_limit *limit, const struct cr_limit_word *word, cr_boot_ns now,
                     cr_span_ms *out_wait)
{
    cr_boot_ns over = 0;
    for (size_t i = 0; i < limit->tier_count; i++) {
        const struct cr_limit_tier *tier = &limit->tiers[i];
        cr_boot_ns owes = later_of(word->at[i], now) - now + tier_interval(tier);
        if (owes > tier_most(tier))
            over = later_of(over, owes - tier_most(tier));
    }
    if (over > 0)
        *out_wait = span_up(over);
    return over == 0;
}

void cr_limit_charge(const struct cr_limit *limit, struct cr_limit_word *word, cr_boot_ns now)
{
    for (size_t i = 0; i < limit->tier_count; i++)
        word->at[i] = later_of(word->at[i], now) + tier_interval(&limit->tiers[i]);
}

void cr_limit_refund(const struct cr_limit *limit, struct cr_limit_word *word, cr_boot_ns now)
{
    for (size_t i = 0; i < limit->tier_count; i++) {
        cr_boot_ns interval = tier_interval(&limit->tiers[i]);
        cr_boot_ns at = word->at[i] > interval ? word->at[i] - interval : 0;
        word->at[i] = later_of(at, now);
    }
}

uint32_t cr_limit_used(const struct cr_limit_tier *tier, cr_boot_ns at, cr_boot_ns now)
{
    cr_boot_ns interval = tier_interval(tier);
    return at <= now ? 0 : (uint32_t)((at - now + interval - 1) / interval);
}

void cr_limit_left(const struct cr_limit_word *word, cr_boot_ns now,
                   cr_span_ms out_left[CR_LIMIT_TIERS_MAX])
{
    for (size_t i = 0; i < CR_LIMIT_TIERS_MAX; i++)
        out_left[i] = word->at[i] > now ? span_up(word->at[i] - now) : 0;
}

void cr_limit_word_of(const struct cr_limit *limit, const cr_span_ms left[CR_LIMIT_TIERS_MAX],
                      cr_boot_ns now, struct cr_limit_word *out_word)
{
    memset(out_word, 0, sizeof *out_word);
    for (size_t i = 0; i < limit->tier_count; i++) {
        cr_boot_ns most = cr_boot_add(now, span_up(tier_most(&limit->tiers[i])));
        cr_boot_ns at = left[i] > 0 ? cr_boot_add(now, left[i]) : 0;
        out_word->at[i] = at < most ? at : most;
    }
}

/* ---- the table */

enum cr_status cr_limiter_create(size_t entries_max, struct cr_limiter **out_limiter)
{
    size_t set_count = 1;
    while (set_count * WAYS < entries_max)
        set_count *= 2;
    struct cr_limiter *limiter = calloc(1, sizeof *limiter + set_count * sizeof limiter->sets[0]);
    if (limiter == NULL)
        return CR_E_NO_MEMORY;
    limiter->set_count = set_count;
    *out_limiter = limiter;
    return CR_OK;
}

void cr_limiter_destroy(struct cr_limiter *limiter)
{
    if (limiter == NULL)
        return;
    for (size_t i = 0; i < limiter->set_count; i++) {
        struct cr_limit_entry *next;
        for (struct cr_limit_entry *entry = limiter->sets[i].first; entry != NULL; entry = next) {
            next = entry->next;
            free(entry);
        }
    }
    free(limiter);
}

static size_t set_index(const struct cr_limiter *limiter, const struct cr_limit_key *key)
{
    uint64_t number;
    memcpy(&number, key->bytes, sizeof number);
    return (size_t)(number & (limiter->set_count - 1));
}

static bool key_equal(const struct cr_limit_key *a, const struct cr_limit_key *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

static struct cr_limit_entry *entry_find(const struct cr_limiter *limiter,
                                         const struct cr_limit_key *key)
{
    struct cr_limit_entry *entry = limiter->sets[set_index(limiter, key)].first;
    while (entry != NULL && !key_equal(&entry->key, key))
        entry = entry->next;
    return entry;
}

static void word_raise(struct cr_limit_word *word, const struct cr_limit_word *at_least)
{
    for (size_t i = 0; i < CR_LIMIT_TIERS_MAX; i++)
        word->at[i] = later_of(word->at[i], at_least->at[i]);
}

static cr_boot_ns word_last(const struct cr_limit_word *word)
{
    cr_boot_ns last = 0;
    for (size_t i = 0; i < CR_LIMIT_TIERS_MAX; i++)
        last = later_of(last, word->at[i]);
    return last;
}

/* Rule 3. */
static void asks_tell(struct cr_limiter *limiter, const struct cr_limit_entry *entry)
{
    for (struct cr_limit_ask *ask = limiter->asks; ask != NULL; ask = ask->next)
        for (size_t i = 0; i < ask->part_count; i++)
            if (ask->parts[i].missing && key_equal(&ask->parts[i].key, &entry->key))
                word_raise(&ask->parts[i].word, &entry->word);
}

static void entry_drop(struct cr_limiter *limiter, struct set *set, struct cr_limit_entry **at)
{
    struct cr_limit_entry *entry = *at;
    CR_ASSERT(entry->pins == 0 && set->count > 0);
    asks_tell(limiter, entry);
    *at = entry->next;
    set->count--;
    limiter->count.entries--;
    free(entry);
}

/* Back to WAYS, as far as nobody uses them (rule 2). */
static void set_trim(struct cr_limiter *limiter, struct set *set, cr_boot_ns now)
{
    while (set->count > WAYS) {
        struct cr_limit_entry **least = NULL;
        for (struct cr_limit_entry **at = &set->first; *at != NULL; at = &(*at)->next)
            if ((*at)->pins == 0 &&
                (least == NULL || word_last(&(*at)->word) < word_last(&(*least)->word)))
                least = at;
        if (least == NULL)
            return;
        limiter->count.evicted += word_last(&(*least)->word) > now;
        entry_drop(limiter, set, least);
    }
}

static struct cr_limit_entry *entry_add(struct cr_limiter *limiter, const struct cr_limit_key *key)
{
    struct set *set = &limiter->sets[set_index(limiter, key)];
    struct cr_limit_entry *entry = calloc(1, sizeof *entry);
    if (entry == NULL)
        return NULL;
    entry->key = *key;
    entry->next = set->first;
    set->first = entry;
    set->count++;
    limiter->count.entries++;
    return entry;
}

/* ---- decisions */

static void ask_unlink(struct cr_limiter *limiter, struct cr_limit_ask *ask)
{
    if (!ask->linked)
        return;
    if (ask->prev != NULL)
        ask->prev->next = ask->next;
    else
        limiter->asks = ask->next;
    if (ask->next != NULL)
        ask->next->prev = ask->prev;
    ask->linked = false;
}

enum cr_status cr_limiter_look(struct cr_limiter *limiter, struct cr_limit_ask *ask, cr_boot_ns now,
                               cr_span_ms *out_wait)
{
    bool missing = false, refused = false;
    CR_ASSERT(ask->part_count <= CR_LIMIT_PARTS_MAX && !ask->linked && !ask->taken);
    *out_wait = 0;
    for (size_t i = 0; i < ask->part_count; i++) {
        struct cr_limit_part *part = &ask->parts[i];
        const struct cr_limit_entry *entry = entry_find(limiter, &part->key);
        cr_span_ms wait = 0;
        part->missing = entry == NULL;
        memset(&part->word, 0, sizeof part->word);
        missing = missing || part->missing;
        if (entry != NULL && !cr_limit_admits(part->limit, &entry->word, now, &wait))
            refused = true;
        *out_wait = wait > *out_wait ? wait : *out_wait;
    }
    if (refused)
        return CR_LIMITED;
    if (!missing)
        return CR_OK;
    ask->prev = NULL;
    ask->next = limiter->asks;
    if (ask->next != NULL)
        ask->next->prev = ask;
    limiter->asks = ask;
    ask->linked = true;
    return CR_ASK;
}

void cr_limiter_learn(struct cr_limit_ask *ask, size_t index,
                      const cr_span_ms left[CR_LIMIT_TIERS_MAX], cr_boot_ns now)
{
    struct cr_limit_part *part = &ask->parts[index];
    struct cr_limit_word word;
    CR_ASSERT(index < ask->part_count && part->missing);
    cr_limit_word_of(part->limit, left, now, &word);
    word_raise(&part->word, &word);
}

static bool ask_admits(const struct cr_limiter *limiter, const struct cr_limit_ask *ask,
                       cr_boot_ns now, cr_span_ms *out_wait)
{
    bool admits = true;
    *out_wait = 0;
    for (size_t i = 0; i < ask->part_count; i++) {
        const struct cr_limit_part *part = &ask->parts[i];
        const struct cr_limit_entry *entry = entry_find(limiter, &part->key);
        cr_span_ms wait = 0;
        CR_ASSERT(entry != NULL || part->missing);
        if (!cr_limit_admits(part->limit, entry != NULL ? &entry->word : &part->word, now, &wait))
            admits = false;
        *out_wait = wait > *out_wait ? wait : *out_wait;
    }
    return admits;
}

static void part_unpin(struct cr_limiter *limiter, struct cr_limit_part *part, cr_boot_ns now)
{
    if (part->entry == NULL)
        return;
    CR_ASSERT(part->entry->pins > 0);
    part->entry->pins--;
    part->entry = NULL;
    set_trim(limiter, &limiter->sets[set_index(limiter, &part->key)], now);
}

enum cr_status cr_limiter_take(struct cr_limiter *limiter, struct cr_limit_ask *ask, cr_boot_ns now,
                               cr_span_ms *out_wait)
{
    CR_ASSERT(!ask->taken);
    ask_unlink(limiter, ask);
    if (!ask_admits(limiter, ask, now, out_wait))
        return CR_LIMITED;
    for (size_t i = 0; i < ask->part_count; i++) {
        struct cr_limit_part *part = &ask->parts[i];
        struct cr_limit_entry *entry = entry_find(limiter, &part->key);
        if (entry == NULL && (entry = entry_add(limiter, &part->key)) != NULL)
            entry->word = part->word;
        if (entry == NULL)
            goto no_memory;
        entry->pins++;
        part->entry = entry;
    }
    for (size_t i = 0; i < ask->part_count; i++) {
        cr_limit_charge(ask->parts[i].limit, &ask->parts[i].entry->word, now);
        set_trim(limiter, &limiter->sets[set_index(limiter, &ask->parts[i].key)], now);
    }
    ask->taken = true;
    return CR_OK;
no_memory:
    for (size_t i = 0; i < ask->part_count; i++)
        part_unpin(limiter, &ask->parts[i], now);
    return CR_E_NO_MEMORY;
}

const struct cr_limit_word *cr_limit_part_word(const struct cr_limit_part *part)
{
    CR_ASSERT(part->entry != NULL);
    return &part->entry->word;
}

void cr_limiter_give(struct cr_limit_ask *ask, cr_boot_ns now)
{
    CR_ASSERT(ask->taken);
    for (size_t i = 0; i < ask->part_count; i++)
        cr_limit_refund(ask->parts[i].limit, &ask->parts[i].entry->word, now);
}

void cr_limiter_leave(struct cr_limiter *limiter, struct cr_limit_ask *ask, cr_boot_ns now)
{
    ask_unlink(limiter, ask);
    for (size_t i = 0; i < ask->part_count; i++)
        part_unpin(limiter, &ask->parts[i], now);
    ask->taken = false;
}

/* ---- operating */

void cr_limiter_forget(struct cr_limiter *limiter, const struct cr_limit_key *keys, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct cr_limit_entry *entry = entry_find(limiter, &keys[i]);
        if (entry != NULL)
            memset(&entry->word, 0, sizeof entry->word);
    }
    for (size_t i = 0; i < limiter->set_count; i++) {
        struct set *set = &limiter->sets[i];
        for (struct cr_limit_entry **at = &set->first; *at != NULL;) {
            if ((*at)->pins == 0)
                entry_drop(limiter, set, at);
            else
                at = &(*at)->next;
        }
    }
}

bool cr_limiter_peek(const struct cr_limiter *limiter, const struct cr_limit_key *key,
                     struct cr_limit_word *out_word)
{
    const struct cr_limit_entry *entry = entry_find(limiter, key);
    if (entry != NULL)
        *out_word = entry->word;
    return entry != NULL;
}

void cr_limiter_count(const struct cr_limiter *limiter, struct cr_limiter_count *out_count)
{
    *out_count = limiter->count;
}
