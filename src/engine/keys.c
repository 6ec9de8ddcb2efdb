/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keys of the store as this engine has them, and the change to a new one without a log-out.
 *
 * A token may reach any engine as soon as it is made, so a new key must be with all of them before
 * one signs with it. It is committed with a row of the log and a time from which on it signs, two
 * leases ahead (a minute at most): an engine that has polled since knows it, and one that has not
 * does not say of a token of an unknown key that there is none (CR_UNAVAILABLE). A store that is
 * held exclusively has no other engine, and its new key signs at once. An engine that was killed in
 * between reads at its start what was committed. Old keys stay until the store's sweep drops them.
 */
#include "engine/engine.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "engine/internal.h"

#define KEYS_RETRY_MS 1000

struct keys {
    struct op op;
    struct cr_ending ending; /* rotate */
    cr_span_ms wait;
    uint64_t asked; /* which change this read comes after */
    struct cr_log_row row;
    struct cr_key keys[CR_KEYS_MAX];
    size_t count;
};

static void keys_release(struct op *op)
{
    struct keys *keys = (struct keys *)op;
    cr_bytes_wipe(keys, sizeof *keys);
    free(keys);
}

static enum cr_status keys_run(struct cr_store *store, struct cr_store_call *call)
{
    struct keys *keys = (struct keys *)op_of(call);
    return cr_store_keys(store, keys->keys, CR_KEYS_MAX, &keys->count);
}

/* The newest key that has waited for long enough signs; the timer is set for those that have not.
 */
static void signer_choose(struct cr_engine *engine)
{
    struct cr_keyring *ring = &engine->keyring;
    cr_boot_ns now = cr_engine_now(engine);
    cr_boot_ns next = CR_BOOT_NEVER;
    for (size_t i = 0; i < ring->count; i++) {
        cr_boot_ns at = cr_boot_add(engine->keys_read_at, ring->keys[i].signs_in);
        if (ring->keys[i].signs_in == 0 || at <= now)
            ring->signer = i;
        else if (at < next)
            next = at;
    }
    if (engine->keys_stale && cr_boot_add(now, KEYS_RETRY_MS) < next)
        next = cr_boot_add(now, KEYS_RETRY_MS);
    if (next != CR_BOOT_NEVER)
        cr_timer_set(engine->loop, &engine->keys_timer, next);
}

void cr_engine_keys_take(struct cr_engine *engine, const struct cr_key *keys, size_t count)
{
    cr_keyring_init(&engine->keyring, engine->options.realm, keys, count);
    engine->keys_read_at = cr_engine_now(engine);
    signer_choose(engine);
}

static void keys_done(struct cr_store_call *call)
{
    struct keys *keys = (struct keys *)op_of(call);
    struct cr_engine *engine = keys->op.engine;
    engine->keys_busy = false;
    /* One that was added after this read was sent is read once more. */
    bool again = engine->keys_asked != keys->asked;
    if (call->status == CR_OK) {
        engine->keys_stale = again;
        cr_engine_keys_take(engine, keys->keys, keys->count);
    } else if (call->status != CR_UNAVAILABLE) {
        cr_engine_say(engine, "the keys could not be read: %s", cr_status_text(call->status));
    }
    const bool good = call->status == CR_OK;
    cr_engine_op_status(&keys->op, call->status); /* the call goes with it */
    if (good && again && !engine->closing)
        cr_engine_keys_read(engine);
    else
        signer_choose(engine);
}

void cr_engine_keys_read(struct cr_engine *engine)
{
    if (engine->queue == NULL || engine->keys_busy || engine->closing)
        return;
    struct keys *keys =
        cr_engine_op_begin(engine, sizeof *keys, keys_release, cr_engine_op_unasked, NULL);
    if (keys == NULL) {
        signer_choose(engine);
        return;
    }
    keys->asked = engine->keys_asked;
    engine->keys_busy = true;
    cr_engine_op_read(&keys->op, keys_run, keys_done);
}

void cr_engine_keys_changed(struct cr_engine *engine)
{
    engine->keys_asked++;
    engine->keys_stale = true;
    cr_engine_keys_read(engine);
}

static void keys_fired(struct cr_timer *timer)
{
    struct cr_engine *engine =
        (struct cr_engine *)(void *)((char *)timer - offsetof(struct cr_engine, keys_timer));
    timer->due = CR_BOOT_NEVER;
    signer_choose(engine);
    if (engine->keys_stale)
        cr_engine_keys_read(engine);
}

void cr_engine_keys_start(struct cr_engine *engine)
{
    engine->keys_timer.fire = keys_fired;
    engine->keys_timer.due = CR_BOOT_NEVER;
}

void cr_engine_keys_stop(struct cr_engine *engine)
{
    cr_timer_stop(engine->loop, &engine->keys_timer);
}

/* Whether every key that signs anywhere is here: the log was heard lately, for a key that can wait
 * for no longer than CR_KEY_WAIT_MS_MAX waits no longer for an engine with a longer lease. */
static bool keys_are_all(const struct cr_engine *engine)
{
    /* keys_are_all:A. Relaxed. Alone: nothing is believed by it. */
    cr_boot_ns until = atomic_load_explicit(&engine->answer_until, memory_order_relaxed);
    cr_span_ms span = engine->options.lease + engine->options.grace;
    cr_span_ms beyond = span > CR_KEY_WAIT_MS_MAX / 2 ? span - CR_KEY_WAIT_MS_MAX / 2 : 0;
    return !engine->keys_stale && cr_boot_add(cr_engine_now(engine), beyond) < until;
}

bool cr_engine_token_is_genuine(const struct cr_engine *engine, const struct cr_token *token,
                                enum cr_status *out_status)
{
    *out_status = CR_OK;
    if (cr_token_is_genuine(&engine->keyring, token))
        return true;
    bool may_be_new = !cr_token_names_key(&engine->keyring, token) && !keys_are_all(engine);
    *out_status = may_be_new ? CR_UNAVAILABLE : CR_NOT_FOUND;
    return false;
}

/* ---- asked for by an operator */

static void list_done(struct cr_store_call *call)
{
    struct keys *keys = (struct keys *)op_of(call);
    cr_engine_op_answer(&keys->op, &(struct cr_engine_answer){.status = call->status,
                                                              .keys = keys->keys,
                                                              .key_count = keys->count});
}

void cr_engine_key_list(struct cr_engine *engine, cr_engine_done *done, void *context)
{
    struct keys *keys = cr_engine_op_begin(engine, sizeof *keys, keys_release, done, context);
    if (keys != NULL)
        cr_engine_op_read(&keys->op, keys_run, list_done);
}

/* Two leases of whoever has the longest. In the batch that adds the key: who registers later asks
 * for the keys after that. */
static enum cr_status wait_find(const struct cr_engine *engine, struct cr_store *store,
                                cr_span_ms *out_wait)
{
    struct cr_engine_row rows[OTHERS_MAX];
    size_t count = 0;
    cr_span_ms longest = 0;
    *out_wait = 0;
    if (engine->exclusive)
        return CR_OK;
    enum cr_status st = cr_store_engine_list(store, rows, OTHERS_MAX, &count);
    for (size_t i = 0; st == CR_OK && i < count; i++)
        if (rows[i].lease + rows[i].grace > longest)
            longest = rows[i].lease + rows[i].grace;
    bool fits = st == CR_OK && longest < CR_KEY_WAIT_MS_MAX / 2;
    *out_wait = fits ? 2 * longest : CR_KEY_WAIT_MS_MAX;
    return st == CR_E_LIMIT ? CR_OK : st;
}

static enum cr_status rotate_run(struct cr_store *store, struct cr_store_call *call)
{
    struct keys *keys = (struct keys *)op_of(call);
    enum cr_status st = wait_find(keys->op.engine, store, &keys->wait);
    /* Its bytes have been drawn into the first place. */
    if (st == CR_OK)
        st = cr_store_key_add(store, keys->keys[0].bytes, keys->wait, &keys->ending, &keys->row);
    return st == CR_OK ? keys_run(store, call) : st;
}

static void rotate_done(struct cr_store_call *call)
{
    struct keys *keys = (struct keys *)op_of(call);
    struct cr_engine *engine = keys->op.engine;
    /* Before the answer: who was told makes no token with the one before. */
    if (call->status == CR_OK)
        cr_engine_keys_take(engine, keys->keys, keys->count);
    if (call->status == CR_OK || call->status == CR_E_UNKNOWN_OUTCOME)
        cr_engine_keys_changed(engine);
    cr_engine_op_answer(&keys->op, &(struct cr_engine_answer){.status = call->status,
                                                              .version = keys->row.generation,
                                                              .bound = keys->wait});
}

void cr_engine_key_rotate(struct cr_engine *engine, cr_engine_done *done, void *context)
{
    struct keys *keys = cr_engine_op_begin(engine, sizeof *keys, keys_release, done, context);
    if (keys == NULL)
        return;
    keys->ending.reason = CR_REASON_ADMIN;
    memcpy(keys->ending.by, "operator", sizeof "operator");
    enum cr_status st =
        cr_random_fill(engine->random, &keys->ending.identity, sizeof keys->ending.identity);
    if (st == CR_OK)
        st = cr_random_fill(engine->random, keys->keys[0].bytes, CR_KEY_BYTES);
    if (st != CR_OK)
        cr_engine_op_status(&keys->op, st);
    else
        cr_engine_op_write(&keys->op, rotate_run, rotate_done);
}
