/* SPDX-License-Identifier: Apache-2.0 */
/* The memory store's calls about engines, keys, accounts and leases. */
#include "store/memory.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"

/* ---- engines */

static enum cr_status engine_put(struct memory *memory, const struct cr_engine_row *row)
{
    struct engine_item *item = calloc(1, sizeof *item);
    if (item == NULL)
        return CR_E_NO_MEMORY;
    item->engine = *row;
    return cr_rows_put(&memory->engines, &memory->undo, &item->row);
}

static struct engine_item *engine_find(const struct memory *memory, const struct cr_ending_id *id)
{
    return (struct engine_item *)cr_rows_find(&memory->engines, id->bytes, sizeof id->bytes);
}

enum cr_status cr_memory_engine_register(struct cr_store *store, const struct cr_engine_row *row)
{
    struct memory_call call;
    struct memory *memory = cr_memory_enter(store, &call);
    bool taken = engine_find(memory, &row->identity) != NULL;
    return cr_memory_leave(&call, taken ? CR_CONFLICT : engine_put(memory, row));
}

enum cr_status cr_memory_engine_poll(struct cr_store *store, struct cr_engine_row *row,
                                     size_t limit, struct cr_poll *out)
{
    struct memory_call call;
    struct memory *memory = cr_memory_enter(store, &call);
    const struct engine_item *item = engine_find(memory, &row->identity);
    enum cr_status st = CR_CONFLICT;
    if (item == NULL || item->engine.beat != row->beat)
        goto out;
    struct cr_engine_row polled = item->engine;
    polled.beat++;
    polled.position = row->position;
    st = engine_put(memory, &polled);
    if (st == CR_OK)
        st = cr_memory_log_read(memory, row->position, limit, &out->rows);
    if (st != CR_OK)
        goto out;
    row->beat = polled.beat;
    out->at_end = out->rows.count == 0 ||
                  out->rows.rows[out->rows.count - 1].number == memory->counters.log_last;
out:
    return cr_memory_leave(&call, st);
}

enum cr_status cr_memory_engine_list(struct cr_store *store, struct cr_engine_row *out,
                                     size_t capacity, size_t *out_count)
{
    struct memory_call call;
    const struct memory *memory = cr_memory_enter(store, &call);
    enum cr_status st = memory->engines.count <= capacity ? CR_OK : CR_E_LIMIT;
    const struct cr_row *row = NULL;
    while (*out_count < capacity && (row = cr_rows_next(&memory->engines, row)) != NULL)
        out[(*out_count)++] = ((const struct engine_item *)row)->engine;
    return cr_memory_leave(&call, st);
}

enum cr_status cr_memory_engine_remove(struct cr_store *store, const struct cr_ending_id *id,
                                       uint64_t beat)
{
    struct memory_call call;
    struct memory *memory = cr_memory_enter(store, &call);
    struct engine_item *item = engine_find(memory, id);
    enum cr_status st = CR_CONFLICT;
    if (item != NULL && item->engine.beat == beat)
        st = cr_rows_remove(&memory->engines, &memory->undo, &item->row);
    return cr_memory_leave(&call, st);
}

/* ---- accounts */

static struct account_item *account_find(const struct memory *memory, const struct cr_user *user)
{
    return (struct account_item *)cr_rows_find(&memory->accounts, user->bytes, user->length);
}

enum cr_status cr_memory_account_find(struct cr_store *store, const struct cr_user *user,
                                      struct cr_account_row *out)
{
    struct memory_call call;
    const struct memory *memory = cr_memory_enter(store, &call);
    const struct account_item *item = account_find(memory, user);
    if (item != NULL) {
        *out = item->account;
        out->generation = cr_memory_generation(memory, user);
        cr_account_row_judge(out, cr_memory_now(memory));
    }
    return cr_memory_leave(&call, item != NULL ? CR_OK : CR_UNKNOWN_USER);
}

static enum cr_status account_write(struct memory *memory, const struct cr_user *user,
                                    const struct cr_account_row *before,
                                    const struct cr_account_change *change)
{
    struct account_item *item = calloc(1, sizeof *item);
    if (item == NULL)
        return CR_E_NO_MEMORY;
    struct cr_account_row *account = &item->account;
    cr_time_ms now = cr_memory_now(memory);
    if (before != NULL)
        *account = *before;
    else
        *account = (struct cr_account_row){.user = *user, .created_at = now};
    cr_account_row_change(account, change, now);
    return cr_rows_put(&memory->accounts, &memory->undo, &item->row);
}

static enum cr_status account_end_sessions(struct memory *memory, const struct cr_user *user,
                                           const struct cr_account_change *change,
                                           struct cr_log_row *out_row)
{
    bool seen = cr_memory_generation(memory, user) > 0;
    if (seen && change->keep_sessions)
        return CR_OK;
    struct cr_log_row row = cr_log_row_for(CR_LOG_USER_ENDED, &change->ending);
    row.user = *user;
    enum cr_status st = cr_memory_generation_raise(memory, user, &row.generation);
    if (st == CR_OK && seen)
        st = cr_memory_log_add(memory, &row, out_row);
    return st;
}

static enum cr_status account_change(struct memory *memory, const struct cr_user *user,
                                     const struct cr_account_change *change,
                                     struct cr_log_row *out_row)
{
    struct account_item *item = account_find(memory, user);
    if (change->add && item != NULL)
        return CR_CONFLICT;
    if (!change->add && item == NULL)
        return CR_UNKNOWN_USER;
    if (change->expect_hash != NULL &&
        (item == NULL || strcmp(item->account.hash, change->expect_hash) != 0))
        return CR_CONFLICT;
    if (change->spends_reset && !cr_memory_reset_is_good(memory, &change->reset, user))
        return CR_CONFLICT;
    enum cr_status st = account_end_sessions(memory, user, change, out_row);
    if (st == CR_OK && !change->keep_sessions)
        st = cr_memory_resets_forget(memory, user);
    if (st != CR_OK)
        return st;
    if (change->remove)
        return cr_rows_remove(&memory->accounts, &memory->undo, &item->row);
    return account_write(memory, user, item == NULL ? NULL : &item->account, change);
}

enum cr_status cr_memory_account_change(struct cr_store *store, const struct cr_user *user,
                                        const struct cr_account_change *change,
                                        struct cr_log_row *out_row)
{
    struct memory_call call;
    struct memory *memory = cr_memory_enter(store, &call);
    const struct cr_log_row *repeated =
        change->keep_sessions ? NULL : cr_memory_log_find(memory, &change->ending.identity);
    if (repeated != NULL)
        *out_row = *repeated;
    return cr_memory_leave(&call, repeated != NULL ? CR_OK
                                                   : account_change(memory, user, change, out_row));
}

/* The account that comes first after `after`. Slow, and enough for a store that nobody fills. */
static const struct cr_account_row *account_next(const struct memory *memory,
                                                 const struct cr_user *after)
{
    const struct cr_account_row *next = NULL;
    const struct cr_row *row = NULL;
    while ((row = cr_rows_next(&memory->accounts, row)) != NULL) {
        const struct cr_account_row *account = &((const struct account_item *)row)->account;
        if ((after == NULL || cr_user_compare(&account->user, after) > 0) &&
            (next == NULL || cr_user_compare(&account->user, &next->user) < 0))
            next = account;
    }
    return next;
}

enum cr_status cr_memory_account_list(struct cr_store *store, const struct cr_user *after,
                                      struct cr_account_row *out, size_t capacity,
                                      size_t *out_count)
{
    struct memory_call call;
    const struct memory *memory = cr_memory_enter(store, &call);
    const struct cr_account_row *account;
    while (*out_count < capacity && (account = account_next(memory, after)) != NULL) {
        struct cr_account_row *row = &out[(*out_count)++];
        *row = *account;
        row->generation = cr_memory_generation(memory, &row->user);
        cr_account_row_judge(row, cr_memory_now(memory));
        after = &row->user;
    }
    return cr_memory_leave(&call, CR_OK);
}

/* ---- keys */

/* Newest last. */
static size_t keys_read(const struct memory *memory, struct cr_key out[CR_KEYS_MAX],
                        uint64_t *out_place)
{
    uint64_t places[CR_KEYS_MAX];
    size_t count = 0;
    const struct cr_row *row = NULL;
    while ((row = cr_rows_next(&memory->keys, row)) != NULL) {
        const struct key_item *item = (const struct key_item *)row;
        size_t at = count++;
        CR_ASSERT(at < CR_KEYS_MAX);
        for (; at > 0 && places[at - 1] > item->place; at--) {
            places[at] = places[at - 1];
            out[at] = out[at - 1];
        }
        places[at] = item->place;
        out[at] = item->key;
    }
    cr_keys_judge(out, count, cr_memory_now(memory));
    *out_place = count > 0 ? places[count - 1] : 0;
    return count;
}

enum cr_status cr_memory_keys(struct cr_store *store, struct cr_key *out, size_t capacity,
                              size_t *out_count)
{
    struct memory_call call;
    const struct memory *memory = cr_memory_enter(store, &call);
    struct cr_key keys[CR_KEYS_MAX];
    uint64_t place;
    size_t count = keys_read(memory, keys, &place);
    *out_count = count < capacity ? count : capacity;
    memcpy(out, keys, *out_count * sizeof keys[0]);
    cr_bytes_wipe(keys, sizeof keys);
    return cr_memory_leave(&call, count <= capacity ? CR_OK : CR_E_LIMIT);
}

static enum cr_status key_put(struct memory *memory, const struct key_item *what)
{
    struct key_item *item = calloc(1, sizeof *item);
    if (item == NULL)
        return CR_E_NO_MEMORY;
    item->key = what->key;
    item->place = what->place;
    item->settled_at = what->settled_at;
    return cr_rows_put(&memory->keys, &memory->undo, &item->row);
}

enum cr_status cr_memory_key_first(struct memory *memory)
{
    struct key_item item = {.place = 1};
    item.key.number = 1;
    item.key.since = cr_memory_now(memory);
    enum cr_status st = cr_random_fill(memory->env.random, item.key.bytes, sizeof item.key.bytes);
    if (st == CR_OK)
        st = key_put(memory, &item);
    cr_bytes_wipe(&item, sizeof item);
    return st;
}

enum cr_status cr_memory_key_add(struct cr_store *store, const unsigned char bytes[CR_KEY_BYTES],
                                 cr_span_ms wait, const struct cr_ending *ending,
                                 struct cr_log_row *out_row)
{
    struct memory_call call;
    struct memory *memory = cr_memory_enter(store, &call);
    struct cr_key keys[CR_KEYS_MAX];
    struct key_item item = {0};
    enum cr_status st = CR_OK;
    const struct cr_log_row *repeated = cr_memory_log_find(memory, &ending->identity);
    if (repeated != NULL) {
        *out_row = *repeated;
        goto out;
    }
    size_t count = keys_read(memory, keys, &item.place);
    item.place++;
    item.key.number = cr_key_number_next(keys, count);
    cr_bytes_wipe(keys, sizeof keys);
    if (item.key.number == 0) {
        st = CR_E_LIMIT;
        goto out;
    }
    memcpy(item.key.bytes, bytes, CR_KEY_BYTES);
    item.key.since = cr_memory_now(memory) + wait;
    st = key_put(memory, &item);
    if (st != CR_OK)
        goto out;
    struct cr_log_row row = cr_log_row_for(CR_LOG_KEY_ADDED, ending);
    row.generation = item.key.number;
    st = cr_memory_log_add(memory, &row, out_row);
out:
    cr_bytes_wipe(&item, sizeof item);
    return cr_memory_leave(&call, st);
}

static bool has_session_until(const struct memory *memory, cr_time_ms at)
{
    const struct cr_row *row = NULL;
    while ((row = cr_rows_next(&memory->sessions, row)) != NULL)
        if (((const struct session_row *)row)->record.created_at <= at)
            return true;
    return false;
}

/* One key: settled, or dropped. */
static enum cr_status key_sweep(struct memory *memory, const struct cr_key *key)
{
    struct cr_row *row = cr_rows_find(&memory->keys, &key->number, sizeof key->number);
    CR_ASSERT(row != NULL);
    const struct key_item *item = (const struct key_item *)row;
    cr_time_ms now = cr_memory_now(memory);
    if (item->settled_at == 0) {
        struct key_item settled = *item;
        settled.settled_at = now;
        enum cr_status st = key_put(memory, &settled);
        cr_bytes_wipe(&settled, sizeof settled);
        if (st != CR_OK)
            return st;
        row = cr_rows_find(&memory->keys, &key->number, sizeof key->number);
        item = (const struct key_item *)row;
    }
    return has_session_until(memory, item->settled_at)
               ? CR_OK
               : cr_rows_remove(&memory->keys, &memory->undo, row);
}

enum cr_status cr_memory_keys_sweep(struct memory *memory)
{
    struct cr_key keys[CR_KEYS_MAX];
    uint64_t place;
    size_t count = keys_read(memory, keys, &place);
    enum cr_status st = CR_OK;
    for (size_t i = 0; st == CR_OK && i + 1 < count; i++)
        if (keys[i].until <= cr_memory_now(memory) - CR_KEY_WAIT_MS_MAX)
            st = key_sweep(memory, &keys[i]);
    cr_bytes_wipe(keys, sizeof keys);
    return st;
}

/* ---- leases */

static struct lease_item *lease_find(const struct memory *memory, const char *name)
{
    return (struct lease_item *)cr_rows_find(&memory->leases, name, strlen(name));
}

/* A lease counts on CLOCK_BOOTTIME, within the boot that it was taken in (R14). */
static cr_span_ms lease_left(const struct memory *memory, const struct lease_item *item)
{
    cr_boot_ns now = cr_clock_boot(memory->env.clock);
    if (memcmp(item->boot_id, memory->env.boot_id, sizeof item->boot_id) != 0 || item->until <= now)
        return 0;
    /* Rounded up: in the last part of a millisecond it is still held. */
    return cr_boot_between(now, item->until - 1) + 1;
}

static enum cr_status lease_put(struct memory *memory, const struct cr_lease_row *row,
                                cr_boot_ns until)
{
    struct lease_item *item = calloc(1, sizeof *item);
    if (item == NULL)
        return CR_E_NO_MEMORY;
    item->lease = *row;
    item->until = until;
    memcpy(item->boot_id, memory->env.boot_id, sizeof item->boot_id);
    return cr_rows_put(&memory->leases, &memory->undo, &item->row);
}

static cr_boot_ns lease_until(const struct memory *memory, cr_span_ms ttl)
{
    return cr_boot_add(cr_clock_boot(memory->env.clock), ttl);
}

enum cr_status cr_memory_lease_take(struct cr_store *store, struct cr_lease_row *row,
                                    cr_span_ms ttl)
{
    struct memory_call call;
    struct memory *memory = cr_memory_enter(store, &call);
    const struct lease_item *item = lease_find(memory, row->name);
    enum cr_status st = CR_BUSY;
    if (item != NULL && !cr_ending_id_equal(&item->lease.holder, &row->holder) &&
        lease_left(memory, item) > 0) {
        *row = item->lease;
        row->left = lease_left(memory, item);
        goto out;
    }
    row->fence = item == NULL ? 1 : item->lease.fence + 1;
    row->left = ttl;
    st = lease_put(memory, row, lease_until(memory, ttl));
out:
    return cr_memory_leave(&call, st);
}

/* The lease that `row` says it holds, or NULL. */
static const struct lease_item *lease_held(const struct memory *memory,
                                           const struct cr_lease_row *row)
{
    const struct lease_item *item = lease_find(memory, row->name);
    bool is_theirs = item != NULL && item->lease.fence == row->fence &&
                     cr_ending_id_equal(&item->lease.holder, &row->holder);
    return is_theirs ? item : NULL;
}

enum cr_status cr_memory_lease_renew(struct cr_store *store, const struct cr_lease_row *row,
                                     cr_span_ms ttl)
{
    struct memory_call call;
    struct memory *memory = cr_memory_enter(store, &call);
    const struct lease_item *item = lease_held(memory, row);
    enum cr_status st = CR_LOST;
    if (item != NULL && lease_left(memory, item) > 0)
        st = lease_put(memory, &item->lease, lease_until(memory, ttl));
    return cr_memory_leave(&call, st);
}

enum cr_status cr_memory_lease_give(struct cr_store *store, const struct cr_lease_row *row)
{
    struct memory_call call;
    struct memory *memory = cr_memory_enter(store, &call);
    const struct lease_item *item = lease_held(memory, row);
    /* The row stays: it carries the fence. */
    enum cr_status st = item == NULL ? CR_LOST : lease_put(memory, &item->lease, 0);
    return cr_memory_leave(&call, st);
}

enum cr_status cr_memory_lease_read(struct cr_store *store, const char *name,
                                    struct cr_lease_row *out)
{
    struct memory_call call;
    const struct memory *memory = cr_memory_enter(store, &call);
    const struct lease_item *item = lease_find(memory, name);
    if (item != NULL) {
        *out = item->lease;
        out->left = lease_left(memory, item);
    }
    return cr_memory_leave(&call, item != NULL ? CR_OK : CR_NOT_FOUND);
}
