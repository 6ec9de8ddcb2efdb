/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Last uses on their way to the store. Merged by session, written in batches once a flush, first
 * thing after an outage. They may be dropped when there are too many: a session then ends as if
 * that use had not been.
 *
 * Invariant: a use that is waiting here counts in every answer that this engine gives.
 */
#include "engine/internal.h"

#include <stdlib.h>
#include <string.h>

#define SLOTS (2 * SEEN_MAX) /* a power of two; half empty at the most */

static size_t slot_first(const struct cr_session_id *id)
{
    uint64_t bits; /* the id is random */
    memcpy(&bits, id->text + 4, sizeof bits);
    return (size_t)((bits * 0x9E3779B97F4A7C15ULL) >> 32) & (SLOTS - 1);
}

/* The slot of `id`, or the free one where it belongs. */
static struct seen_slot *slot_find(const struct cr_engine *engine, const struct cr_session_id *id)
{
    size_t i = slot_first(id);
    while (engine->seen[i].id.text[0] != '\0' && !cr_session_id_equal(&engine->seen[i].id, id))
        i = (i + 1) & (SLOTS - 1);
    return &engine->seen[i];
}

/* Linear probing without tombstones: what comes after moves up (Knuth, volume 3, 6.4, algorithm R).
 */
static void slot_clear(struct cr_engine *engine, struct seen_slot *slot)
{
    size_t hole = (size_t)(slot - engine->seen), i = hole;
    for (;;) {
        i = (i + 1) & (SLOTS - 1);
        if (engine->seen[i].id.text[0] == '\0')
            break;
        size_t home = slot_first(&engine->seen[i].id);
        if (((i - home) & (SLOTS - 1)) < ((i - hole) & (SLOTS - 1)))
            continue;
        engine->seen[hole] = engine->seen[i];
        hole = i;
    }
    memset(&engine->seen[hole], 0, sizeof engine->seen[hole]);
    engine->seen_count--;
}

cr_boot_ns cr_engine_seen_pending(const struct cr_engine *engine, const struct cr_session_id *id)
{
    return slot_find(engine, id)->at;
}

struct flush {
    struct op op;
    size_t count;
    struct cr_seen batch[SEEN_BATCH];
    cr_boot_ns at[SEEN_BATCH];
};

static void seen_later(struct cr_engine *engine, cr_span_ms span)
{
    cr_timer_set(engine->loop, &engine->seen_timer, cr_boot_add(cr_engine_now(engine), span));
}

static void flush_release(struct op *op)
{
    op->engine->seen_busy = false;
    free(op);
}

/* How long ago is known only when the store is asked, which may be long after the flush began. */
static void batch_date(const struct cr_engine *engine, struct cr_seen *batch, const cr_boot_ns *at,
                       size_t count)
{
    cr_boot_ns now = cr_engine_now(engine); /* also on the pool's thread */
    for (size_t i = 0; i < count; i++)
        batch[i].ago = cr_boot_between(at[i], now);
}

static enum cr_status flush_run(struct cr_store *store, struct cr_store_call *call)
{
    struct flush *flush = (struct flush *)op_of(call);
    batch_date(flush->op.engine, flush->batch, flush->at, flush->count);
    return cr_store_seen(store, flush->batch, flush->count);
}

static void flush_done(struct cr_store_call *call)
{
    struct flush *flush = (struct flush *)op_of(call);
    struct cr_engine *engine = flush->op.engine;
    bool ok = call->status == CR_OK;
    bool more = ok && flush->count == SEEN_BATCH; /* they waited as long as these did */
    for (size_t i = 0; ok && i < flush->count; i++) {
        struct seen_slot *slot = slot_find(engine, &flush->batch[i].id);
        if (slot->at == flush->at[i]) /* not used again meanwhile */
            slot_clear(engine, slot);
    }
    cr_engine_op_status(&flush->op, call->status);
    if (engine->seen_count > 0)
        seen_later(engine, more ? 10 : CR_FLUSH_MS / 2);
}

static size_t flush_collect(const struct cr_engine *engine, struct cr_seen *batch, cr_boot_ns *at)
{
    size_t count = 0;
    for (size_t i = 0; i < SLOTS && count < SEEN_BATCH && count < engine->seen_count; i++) {
        const struct seen_slot *slot = &engine->seen[i];
        if (slot->id.text[0] == '\0')
            continue;
        batch[count] = (struct cr_seen){.id = slot->id};
        at[count++] = slot->at;
    }
    return count;
}

static void seen_fired(struct cr_timer *timer)
{
    struct cr_engine *engine =
        (struct cr_engine *)(void *)((char *)timer - offsetof(struct cr_engine, seen_timer));
    timer->due = CR_BOOT_NEVER;
    if (engine->seen_busy || engine->seen_count == 0)
        return;
    struct flush *flush =
        cr_engine_op_begin(engine, sizeof *flush, flush_release, cr_engine_op_unasked, NULL);
    seen_later(engine, CR_FLUSH_MS / 2); /* also when the queue is full */
    if (flush == NULL)
        return;
    flush->count = flush_collect(engine, flush->batch, flush->at);
    engine->seen_busy = true;
    cr_engine_op_write(&flush->op, flush_run, flush_done);
}

void cr_engine_seen(struct cr_engine *engine, const struct cr_session_id *id, cr_boot_ns seen)
{
    cr_boot_ns now = cr_engine_now(engine);
    if (seen > now) /* a peer's word: nobody is seen in the future */
        seen = now;
    if (engine->table != NULL)
        cr_table_seen(engine->table, id, seen);
    if (engine->queue == NULL)
        return;
    struct seen_slot *slot = slot_find(engine, id);
    if (slot->id.text[0] == '\0') {
        if (engine->seen_count >= SEEN_MAX)
            return;
        slot->id = *id;
        engine->seen_count++;
    }
    if (seen > slot->at)
        slot->at = seen;
    if (!engine->seen_busy && (engine->seen_timer.due == CR_BOOT_NEVER))
        seen_later(engine, CR_FLUSH_MS / 2);
}

enum cr_status cr_engine_seen_start(struct cr_engine *engine)
{
    engine->seen = calloc(SLOTS, sizeof *engine->seen);
    engine->seen_timer.fire = seen_fired;
    engine->seen_timer.due = CR_BOOT_NEVER;
    return engine->seen != NULL ? CR_OK : CR_E_NO_MEMORY;
}

void cr_engine_seen_stop(struct cr_engine *engine, struct cr_store *store)
{
    struct cr_seen batch[SEEN_BATCH];
    cr_boot_ns at[SEEN_BATCH];
    cr_timer_stop(engine->loop, &engine->seen_timer);
    while (engine->seen_count > 0) {
        size_t count = flush_collect(engine, batch, at);
        batch_date(engine, batch, at, count);
        if (cr_store_begin(store) != CR_OK)
            return;
        if (cr_store_seen(store, batch, count) != CR_OK) {
            cr_store_rollback(store);
            return;
        }
        if (cr_store_commit(store) != CR_OK)
            return;
        for (size_t i = 0; i < count; i++)
            slot_clear(engine, slot_find(engine, &batch[i].id));
    }
}
