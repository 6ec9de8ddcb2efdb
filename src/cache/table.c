/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A table's life, and the counters that keep it coherent: clock, stamps, floors, lease. Called on
 * the engine's thread only; README.md has the rules.
 *
 * Invariants. Clock, stamps and floors never go down. No stamp or floor is above the clock. No
 * entry's stamp is above the clock, or below the floor of its home. fresh_until never goes down but
 * to 0, for good.
 */
#include "cache/table.h"

#include <stdlib.h>
#include <unistd.h>

#include <sodium.h>

#include "base/assert.h"
#include "base/shm.h"
#include "cache/writer.h"

#define PAGE_BYTES 4096u

/* Divide `bytes`: stamps a hundred-and-twenty-eighth of it at the most, within their bounds, so
 * about one for each eight sessions; the rest are buckets. */
static void header_plan(struct layout_header *header, uint64_t bytes)
{
    uint64_t stamps = LAYOUT_STAMPS_MAX;
    while (stamps > LAYOUT_STAMPS_MIN && stamps * sizeof(uint64_t) > bytes / 128)
        stamps /= 2;
    uint64_t used = sizeof *header + stamps * sizeof(uint64_t);
    CR_ASSERT(bytes >= CR_TABLE_BYTES_MIN && used < bytes);
    uint64_t buckets = (bytes - used) / sizeof(struct layout_bucket);
    uint64_t most = LAYOUT_SLOTS_MAX / LAYOUT_BUCKET_SLOTS - 1; /* CR_NO_SLOT is none of theirs */
    header->stamp_count = stamps;
    header->bucket_count = buckets <= most ? buckets : most;
}

/* Fills the fixed part; nobody else sees the memory yet. */
static enum cr_status header_make(struct layout_header *header, uint64_t bytes,
                                  struct cr_random *random)
{
    header->magic = LAYOUT_MAGIC;
    header->version = CR_TABLE_LAYOUT;
    header->header_bytes = sizeof *header;
    header->bytes = bytes;
    header_plan(header, bytes);
    header->stamp_offset = sizeof *header; /* each part is a whole number of lines */
    header->bucket_offset = header->stamp_offset + header->stamp_count * sizeof(uint64_t);
    enum cr_status st = cr_random_fill(random, header->identity, sizeof header->identity);
    if (st == CR_OK)
        st = cr_random_fill(random, header->user_key, sizeof header->user_key);
    if (st == CR_OK)
        st = cr_random_fill(random, header->id_key, sizeof header->id_key);
    return st;
}

/* Clock, floors and stamps all start at `clock`: what was asked for before is refused. */
static void counters_start(struct cr_table *table, uint64_t clock)
{
    /* counters_start:A, counters_start:B, counters_start:C. Relaxed. Alone: nobody else sees the
     * memory yet. */
    atomic_store_explicit(&table->header->clock, clock, memory_order_relaxed);
    atomic_store_explicit(&table->header->all, clock, memory_order_relaxed);
    atomic_store_explicit(&table->header->fresh_until, table->always_fresh ? CR_BOOT_NEVER : 0,
                          memory_order_relaxed);
    for (uint64_t i = 0; i < table->view.stamp_count; i++)
        /* counters_start:D. As above: relaxed. Alone. */
        atomic_store_explicit(&table->stamps[i], clock, memory_order_relaxed);
    for (uint64_t i = 0; i < table->view.bucket_count; i++)
        table->floors[i] = clock;
}

static enum cr_status table_attach(struct cr_table *table)
{
    enum cr_status st = cr_table_view_init(&table->view, table->memory, table->bytes);
    CR_ASSERT(st == CR_OK); /* made by ourselves just now */
    table->view.always_fresh = table->always_fresh;
    unsigned char *memory = table->memory;
    table->stamps = (_Atomic uint64_t *)(memory + table->view.stamp_offset);
    table->buckets = (struct layout_bucket *)(memory + table->view.bucket_offset);
    table->slot_count = table->view.bucket_count * LAYOUT_BUCKET_SLOTS;
    table->count.capacity = table->slot_count;
    table->count.bytes = table->bytes;
    table->floors = calloc(table->view.bucket_count, sizeof *table->floors);
    table->marks = calloc(table->slot_count, sizeof *table->marks);
    table->group_counts = calloc(table->view.stamp_count, sizeof *table->group_counts);
    bool is_there = table->floors != NULL && table->marks != NULL && table->group_counts != NULL;
    return is_there ? CR_OK : CR_E_LIMIT;
}

static enum cr_status memory_take(struct cr_table *table, const struct cr_table_options *options)
{
    struct cr_shm shm = {.bytes = options->bytes / PAGE_BYTES * PAGE_BYTES, .fd = -1};
    enum cr_status st = options->shared
                            ? cr_shm_create("cloakroom-table", shm.bytes, options->huge_pages, &shm)
                            : cr_memory_private(shm.bytes, options->huge_pages, &shm.memory);
    if (st != CR_OK)
        return st;
    table->memory = shm.memory;
    table->bytes = shm.bytes;
    table->fd = shm.fd;
    table->count.from_pool = shm.from_pool;
    return CR_OK;
}

enum cr_status cr_table_create(const struct cr_table_options *options, struct cr_random *random,
                               struct cr_table **out_table)
{
    enum cr_status st = CR_E_INVALID;
    struct cr_table *table = NULL;
    if (options->bytes < CR_TABLE_BYTES_MIN)
        goto out;
    st = CR_E_LIMIT;
    table = calloc(1, sizeof *table);
    if (table == NULL)
        goto out;
    table->fd = -1;
    table->always_fresh = options->always_fresh;
    st = memory_take(table, options);
    if (st != CR_OK)
        goto out;
    table->header = table->memory;
    st = header_make(table->header, table->bytes, random);
    if (st != CR_OK)
        goto out;
    st = table_attach(table);
    if (st != CR_OK)
        goto out;
    counters_start(table, options->clock_start);
    *out_table = table;
out:
    if (st != CR_OK)
        cr_table_destroy(table);
    return st;
}

/* Readers may hold the memory for long after: nothing of a session stays in it (ASVS H9). */
static void table_empty(struct cr_table *table)
{
    for (uint64_t slot = 0; slot < table->slot_count; slot++)
        if (slot_tag(table, slot) >= LAYOUT_TAG_ENTRY_MIN)
            cr_slot_drop(table, slot);
}

void cr_table_destroy(struct cr_table *table)
{
    if (table == NULL)
        return;
    if (table->group_counts != NULL) { /* the last that is made */
        cr_table_retire(table);
        table_empty(table);
    }
    cr_memory_unmap(table->memory, table->bytes);
    if (table->fd >= 0)
        close(table->fd);
    free(table->floors);
    free(table->marks);
    free(table->group_counts);
    free(table);
}

int cr_table_fd(const struct cr_table *table)
{
    return table->fd;
}

void cr_table_own_view(const struct cr_table *table, struct cr_table_view *out_view)
{
    *out_view = table->view;
}

void cr_table_count(const struct cr_table *table, struct cr_table_count *out)
{
    *out = table->count;
}

uint64_t cr_table_clock(const struct cr_table *table)
{
    return word_own(&table->header->clock);
}

static uint64_t clock_advance(struct cr_table *table)
{
    uint64_t clock = cr_table_clock(table) + 1;
    /* clock_advance:A. Whoever sees it reads the store after the commit that it stands for. Pairs
     * with view_clock:A. */
    atomic_store_explicit(&table->header->clock, clock, memory_order_release);
    return clock;
}

uint32_t cr_table_stamp_index(const struct cr_table *table, const struct cr_user *user)
{
    unsigned char hash[crypto_shorthash_BYTES];
    uint64_t word;
    CR_ASSERT(user->length <= CR_USER_BYTES_MAX);
    crypto_shorthash(hash, user->bytes, user->length, table->view.user_key);
    memcpy(&word, hash, sizeof word);
    return (uint32_t)(word & (table->view.stamp_count - 1));
}

uint64_t cr_table_end_user(struct cr_table *table, const struct cr_user *user)
{
    _Atomic uint64_t *stamp = &table->stamps[cr_table_stamp_index(table, user)];
    uint64_t clock = clock_advance(table);
    CR_ASSERT(clock > word_own(stamp)); /* a stamp only goes up: it was the clock, once */
    /* stamp_raise:A. Pairs with stamps_allow:A. */
    atomic_store_explicit(stamp, clock, memory_order_release);
    return clock;
}

uint64_t cr_table_end_all(struct cr_table *table)
{
    uint64_t clock = clock_advance(table);
    CR_ASSERT(clock > word_own(&table->header->all));
    /* all_raise:A. Pairs with stamps_allow:B. */
    atomic_store_explicit(&table->header->all, clock, memory_order_release);
    return clock;
}

uint64_t cr_table_end_session(struct cr_table *table, const struct cr_session_id *id)
{
    struct layout_places places = layout_places(id, table->view.bucket_count);
    uint64_t clock = clock_advance(table), slot;
    CR_ASSERT(clock > table->floors[places.home]);
    table->floors[places.home] = clock;
    if (cr_slot_find(table, id, &slot))
        cr_slot_drop(table, slot);
    return clock;
}

void cr_table_seen(struct cr_table *table, const struct cr_session_id *id, cr_boot_ns seen)
{
    uint64_t slot;
    struct cr_entry times;
    if (!cr_slot_find(table, id, &slot))
        return;
    cr_slot_times(table, slot, &times);
    /* A use after the deadline would have been a miss; whether it counts, the store says. */
    if (seen > times.seen && seen < times.deadline)
        cr_slot_seen(table, slot, seen);
}

void cr_table_freshen(struct cr_table *table, cr_boot_ns until, cr_boot_ns now)
{
    cr_boot_ns most =
        now <= CR_BOOT_NEVER - CR_TABLE_FRESH_NS_MAX ? now + CR_TABLE_FRESH_NS_MAX : CR_BOOT_NEVER;
    if (until > most)
        until = most;
    if (table->retired || table->always_fresh || until <= word_own(&table->header->fresh_until))
        return;
    /* fresh_publish:A. Whoever sees this lease sees the stamps that were raised before it (rule 5).
     * Pairs with view_fresh:A, view_fresh:B. */
    atomic_store_explicit(&table->header->fresh_until, until, memory_order_release);
}

void cr_table_retire(struct cr_table *table)
{
    table->retired = true;
    /* table_retire:A. Relaxed. Alone: it takes belief away and promises nothing. */
    atomic_store_explicit(&table->header->fresh_until, 0, memory_order_relaxed);
}
