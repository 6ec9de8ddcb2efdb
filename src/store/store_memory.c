/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory store: the contract in its plainest form, to be read before the others. Owns handles,
 * batches and the log; the calls about sessions are in memory_sessions.c, those about engines,
 * accounts and leases in memory_others.c.
 *
 * PROCESS-LOCAL. Scope: this process, and gone with its last handle. With many workers each has a
 * store of its own: a session made in one is unknown to the others, and one ended in one lives on
 * in the others. Way out: sqlite:// (one host). A named one (memory:NAME) is shared by all who open
 * that name in this process, so that tests can run two engines over one truth.
 */
#include "store/memory.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"

/* The named ones. Global because a name is looked up in the process; guarded by the mutex. */
static struct memory *named_first;
static pthread_mutex_t named_mutex = PTHREAD_MUTEX_INITIALIZER;

/* ---- calls and batches */

struct memory *cr_memory_enter(struct cr_store *store, struct memory_call *out_call)
{
    const struct memory_handle *handle = (const struct memory_handle *)store;
    struct memory *memory = handle->memory;
    pthread_mutex_lock(&memory->mutex);
    while (memory->writer != NULL && memory->writer != handle)
        pthread_cond_wait(&memory->batch_ended, &memory->mutex);
    *out_call = (struct memory_call){memory, memory->undo.count, memory->counters};
    return memory;
}

enum cr_status cr_memory_leave(const struct memory_call *call, enum cr_status st)
{
    struct memory *memory = call->memory;
    if (st != CR_OK) {
        cr_undo_back(&memory->undo, call->undo_count);
        memory->counters = call->counters;
    }
    pthread_mutex_unlock(&memory->mutex);
    return st;
}

static enum cr_status memory_begin(struct cr_store *store)
{
    struct memory_call call;
    struct memory *memory = cr_memory_enter(store, &call);
    CR_ASSERT(memory->writer == NULL && memory->undo.count == 0);
    memory->writer = (const struct memory_handle *)store;
    memory->counters_at_begin = memory->counters;
    return cr_memory_leave(&call, CR_OK);
}

static void batch_end(struct memory *memory)
{
    CR_ASSERT(memory->writer != NULL && memory->undo.count == 0);
    memory->writer = NULL;
    pthread_cond_broadcast(&memory->batch_ended);
}

static enum cr_status memory_commit(struct cr_store *store)
{
    struct memory_call call;
    struct memory *memory = cr_memory_enter(store, &call);
    cr_undo_keep(&memory->undo);
    batch_end(memory);
    return cr_memory_leave(&call, CR_OK);
}

static void memory_rollback(struct cr_store *store)
{
    struct memory_call call;
    struct memory *memory = cr_memory_enter(store, &call);
    cr_undo_back(&memory->undo, 0);
    memory->counters = memory->counters_at_begin;
    batch_end(memory);
    (void)cr_memory_leave(&call, CR_OK);
}

cr_time_ms cr_memory_now(const struct memory *memory)
{
    return cr_clock_wall(memory->env.clock);
}

/* ---- the log */

enum cr_status cr_memory_log_add(struct memory *memory, const struct cr_log_row *row,
                                 struct cr_log_row *out_row)
{
    struct log_item *item = calloc(1, sizeof *item);
    if (item == NULL)
        return CR_E_NO_MEMORY;
    item->log = *row;
    item->log.number = memory->counters.log_last + 1;
    item->log.at = cr_memory_now(memory);
    enum cr_status st = CR_OK;
    if (cr_ending_id_is_zero(&row->identity))
        st = cr_random_fill(memory->env.random, &item->log.identity, sizeof item->log.identity);
    if (st != CR_OK) {
        free(item);
        return st;
    }
    struct cr_log_row written = item->log;
    st = cr_rows_put(&memory->log, &memory->undo, &item->row);
    if (st != CR_OK)
        return st;
    memory->counters.log_last = written.number;
    *out_row = written;
    return CR_OK;
}

const struct cr_log_row *cr_memory_log_find(const struct memory *memory,
                                            const struct cr_ending_id *identity)
{
    const struct cr_row *row =
        cr_rows_group_next(&memory->log, identity->bytes, sizeof identity->bytes, NULL);
    return row == NULL ? NULL : &((const struct log_item *)row)->log;
}

const struct cr_log_row *cr_memory_log_at(const struct memory *memory, uint64_t number)
{
    const struct cr_row *row = cr_rows_find(&memory->log, &number, sizeof number);
    return row == NULL ? NULL : &((const struct log_item *)row)->log;
}

enum cr_status cr_memory_log_read(const struct memory *memory, uint64_t number, size_t limit,
                                  struct cr_log_rows *out)
{
    if (number < memory->counters.log_first)
        number = memory->counters.log_first;
    enum cr_status st = CR_OK;
    for (; st == CR_OK && limit > 0 && number <= memory->counters.log_last; number++, limit--) {
        const struct cr_log_row *row = cr_memory_log_at(memory, number);
        CR_ASSERT(row != NULL);
        st = cr_log_rows_add(out, row);
    }
    return st;
}

static enum cr_status memory_log_read(struct cr_store *store, uint64_t number, size_t limit,
                                      struct cr_log_rows *out)
{
    struct memory_call call;
    struct memory *memory = cr_memory_enter(store, &call);
    return cr_memory_leave(&call, cr_memory_log_read(memory, number, limit, out));
}

static enum cr_status memory_log_last(struct cr_store *store, struct cr_log_row *out)
{
    struct memory_call call;
    struct memory *memory = cr_memory_enter(store, &call);
    *out = *cr_memory_log_at(memory, memory->counters.log_last);
    return cr_memory_leave(&call, CR_OK);
}

static enum cr_status memory_log_find(struct cr_store *store, const struct cr_ending_id *identity,
                                      struct cr_log_row *out)
{
    struct memory_call call;
    struct memory *memory = cr_memory_enter(store, &call);
    const struct cr_log_row *row = cr_memory_log_find(memory, identity);
    if (row != NULL)
        *out = *row;
    return cr_memory_leave(&call, row != NULL ? CR_OK : CR_NOT_FOUND);
}

/* Whether `row` ended the session; `record` may be NULL. */
static bool log_row_is_about(const struct cr_log_row *row, const struct cr_session_id *id,
                             const struct cr_record *record)
{
    switch (row->kind) {
    case CR_LOG_FIRST:
    case CR_LOG_SESSION_CHANGED:
    case CR_LOG_KEY_ADDED:
        return false;
    case CR_LOG_SESSION_ENDED:
        return cr_session_id_equal(&row->session, id);
    case CR_LOG_USER_ENDED:
        return record != NULL && cr_user_equal(&row->user, &record->user) &&
               row->generation > record->user_generation;
    case CR_LOG_ALL_ENDED:
        return record != NULL && row->generation > record->global_generation;
    }
    return false;
}

static enum cr_status memory_log_about(struct cr_store *store, const struct cr_session_id *id,
                                       const struct cr_record *record, struct cr_log_row *out)
{
    struct memory_call call;
    const struct memory *memory = cr_memory_enter(store, &call);
    enum cr_status st = CR_NOT_FOUND;
    for (uint64_t n = memory->counters.log_first; n <= memory->counters.log_last; n++) {
        const struct cr_log_row *row = cr_memory_log_at(memory, n);
        if (row == NULL || !log_row_is_about(row, id, record))
            continue;
        *out = *row;
        st = CR_OK;
        break;
    }
    return cr_memory_leave(&call, st);
}

static bool log_row_rotates(const struct cr_log_row *row, const struct cr_session_id *id)
{
    return row->kind == CR_LOG_SESSION_CHANGED && row->reason == CR_REASON_ROTATED &&
           cr_session_id_equal(&row->session, id);
}

static enum cr_status memory_log_rotations(struct cr_store *store, const struct cr_session_id *id,
                                           size_t limit, struct cr_log_rows *out)
{
    struct memory_call call;
    const struct memory *memory = cr_memory_enter(store, &call);
    enum cr_status st = CR_OK;
    uint64_t n = memory->counters.log_last;
    for (; st == CR_OK && n >= memory->counters.log_first && out->count < limit; n--) {
        const struct cr_log_row *row = cr_memory_log_at(memory, n);
        if (row != NULL && log_row_rotates(row, id))
            st = cr_log_rows_add(out, row);
    }
    return cr_memory_leave(&call, st);
}

static enum cr_status memory_log_ended(struct cr_store *store, const struct cr_user *user,
                                       size_t limit, struct cr_log_rows *out)
{
    struct memory_call call;
    const struct memory *memory = cr_memory_enter(store, &call);
    enum cr_status st = CR_OK;
    cr_time_ms before = cr_memory_now(memory) - CR_REMEMBER_MS;
    uint64_t n = memory->counters.log_last;
    for (; st == CR_OK && n >= memory->counters.log_first && out->count < limit; n--) {
        const struct cr_log_row *row = cr_memory_log_at(memory, n);
        if (row != NULL && row->kind == CR_LOG_SESSION_ENDED && row->at > before &&
            cr_user_equal(&row->user, user))
            st = cr_log_rows_add(out, row);
    }
    return cr_memory_leave(&call, st);
}

/* ---- identity */

static enum cr_status memory_identity(struct cr_store *store, struct cr_ending_id *out)
{
    *out = ((const struct memory_handle *)store)->memory->identity;
    return CR_OK;
}

/* ---- what the tables hold */

static struct cr_row_key session_key(const struct cr_row *row)
{
    return (struct cr_row_key){((const struct session_row *)row)->record.id.text,
                               CR_SESSION_ID_CHARS};
}

static struct cr_row_key session_group(const struct cr_row *row)
{
    const struct cr_user *user = &((const struct session_row *)row)->record.user;
    return (struct cr_row_key){user->bytes, user->length};
}

static void session_destroy(struct cr_row *row)
{
    cr_record_fini(&((struct session_row *)row)->record);
    free(row);
}

static struct cr_row_key user_key(const struct cr_row *row)
{
    const struct cr_user *user = &((const struct user_row *)row)->user;
    return (struct cr_row_key){user->bytes, user->length};
}

static struct cr_row_key log_key(const struct cr_row *row)
{
    const struct cr_log_row *log = &((const struct log_item *)row)->log;
    return (struct cr_row_key){&log->number, sizeof log->number};
}

static struct cr_row_key log_group(const struct cr_row *row)
{
    const struct cr_log_row *log = &((const struct log_item *)row)->log;
    return (struct cr_row_key){log->identity.bytes, sizeof log->identity.bytes};
}

static struct cr_row_key account_key(const struct cr_row *row)
{
    const struct cr_user *user = &((const struct account_item *)row)->account.user;
    return (struct cr_row_key){user->bytes, user->length};
}

static struct cr_row_key engine_key(const struct cr_row *row)
{
    const struct cr_engine_row *engine = &((const struct engine_item *)row)->engine;
    return (struct cr_row_key){engine->identity.bytes, sizeof engine->identity.bytes};
}

static struct cr_row_key lease_key(const struct cr_row *row)
{
    const struct cr_lease_row *lease = &((const struct lease_item *)row)->lease;
    return (struct cr_row_key){lease->name, strlen(lease->name)};
}

static struct cr_row_key key_key(const struct cr_row *row)
{
    const struct cr_key *key = &((const struct key_item *)row)->key;
    return (struct cr_row_key){&key->number, sizeof key->number};
}

static void key_destroy(struct cr_row *row)
{
    struct key_item *item = (struct key_item *)row;
    cr_bytes_wipe(item, sizeof *item);
    free(item);
}

static void plain_destroy(struct cr_row *row)
{
    free(row);
}

static const struct cr_rows_kind session_kind = {session_key, session_group, session_destroy};
static const struct cr_rows_kind user_kind = {user_key, NULL, plain_destroy};
static const struct cr_rows_kind log_kind = {log_key, log_group, plain_destroy};
static const struct cr_rows_kind account_kind = {account_key, NULL, plain_destroy};
static const struct cr_rows_kind engine_kind = {engine_key, NULL, plain_destroy};
static const struct cr_rows_kind lease_kind = {lease_key, NULL, plain_destroy};
static const struct cr_rows_kind key_kind = {key_key, NULL, key_destroy};

/* ---- making and unmaking */

static void memory_free(struct memory *memory)
{
    if (memory == NULL)
        return;
    cr_undo_fini(&memory->undo);
    cr_rows_fini(&memory->sessions);
    cr_rows_fini(&memory->users);
    cr_rows_fini(&memory->log);
    cr_rows_fini(&memory->accounts);
    cr_rows_fini(&memory->engines);
    cr_rows_fini(&memory->leases);
    cr_rows_fini(&memory->debts);
    cr_rows_fini(&memory->resets);
    cr_rows_fini(&memory->keys);
    pthread_cond_destroy(&memory->batch_ended);
    pthread_mutex_destroy(&memory->mutex);
    free(memory->name);
    free(memory);
}

static enum cr_status tables_init(struct memory *memory)
{
    enum cr_status st = cr_rows_init(&memory->sessions, &session_kind);
    if (st == CR_OK)
        st = cr_rows_init(&memory->users, &user_kind);
    if (st == CR_OK)
        st = cr_rows_init(&memory->log, &log_kind);
    if (st == CR_OK)
        st = cr_rows_init(&memory->accounts, &account_kind);
    if (st == CR_OK)
        st = cr_rows_init(&memory->engines, &engine_kind);
    if (st == CR_OK)
        st = cr_rows_init(&memory->leases, &lease_kind);
    if (st == CR_OK)
        st = cr_rows_init(&memory->debts, &cr_memory_debt_kind);
    if (st == CR_OK)
        st = cr_rows_init(&memory->resets, &cr_memory_reset_kind);
    if (st == CR_OK)
        st = cr_rows_init(&memory->keys, &key_kind);
    return st;
}

static enum cr_status memory_new(const char *name, const struct cr_store_env *env,
                                 struct memory **out_memory)
{
    enum cr_status st = CR_E_NO_MEMORY;
    struct cr_log_row first = {.kind = CR_LOG_FIRST};
    struct memory *memory = calloc(1, sizeof *memory);
    if (memory == NULL)
        return st;
    pthread_mutex_init(&memory->mutex, NULL);
    pthread_cond_init(&memory->batch_ended, NULL);
    memory->env = *env;
    memory->counters = (struct memory_counters){.global_generation = 1, .log_first = 1};
    if (name != NULL && (memory->name = strdup(name)) == NULL)
        goto out;
    st = tables_init(memory);
    if (st == CR_OK)
        st = cr_random_fill(env->random, &memory->identity, sizeof memory->identity);
    if (st == CR_OK)
        st = cr_memory_key_first(memory);
    if (st == CR_OK)
        st = cr_memory_log_add(memory, &first, &first);
    cr_undo_keep(&memory->undo);
out:
    if (st == CR_OK)
        *out_memory = memory;
    else
        memory_free(memory);
    return st;
}

/* Finds or makes the one called `name`, with one handle more. */
static enum cr_status memory_named(const char *name, const struct cr_store_env *env,
                                   struct memory **out_memory)
{
    enum cr_status st = CR_OK;
    pthread_mutex_lock(&named_mutex);
    struct memory *memory = named_first;
    while (memory != NULL && strcmp(memory->name, name) != 0)
        memory = memory->next;
    if (memory == NULL) {
        st = memory_new(name, env, &memory);
        if (st != CR_OK)
            goto out;
        memory->next = named_first;
        named_first = memory;
    }
    memory->handle_count++;
    *out_memory = memory;
out:
    pthread_mutex_unlock(&named_mutex);
    return st;
}

/* One handle less; the last one takes the store with it. */
static void memory_release(struct memory *memory)
{
    pthread_mutex_lock(&named_mutex);
    CR_ASSERT(memory->handle_count > 0);
    bool last = --memory->handle_count == 0;
    if (last && memory->name != NULL) {
        struct memory **place = &named_first;
        while (*place != memory)
            place = &(*place)->next;
        *place = memory->next;
    }
    pthread_mutex_unlock(&named_mutex);
    if (last)
        memory_free(memory);
}

static enum cr_status memory_reader(struct cr_store *store, struct cr_store **out_reader)
{
    struct memory *memory = ((const struct memory_handle *)store)->memory;
    struct memory_handle *reader = calloc(1, sizeof *reader);
    if (reader == NULL)
        return CR_E_NO_MEMORY;
    enum cr_status st = cr_store_init(&reader->store, store->ops);
    CR_ASSERT(st == CR_OK);
    reader->memory = memory;
    pthread_mutex_lock(&named_mutex);
    memory->handle_count++;
    pthread_mutex_unlock(&named_mutex);
    *out_reader = &reader->store;
    return CR_OK;
}

static void memory_destroy(struct cr_store *store)
{
    struct memory_handle *handle = (struct memory_handle *)store;
    memory_release(handle->memory);
    free(handle);
}

/* A named one can be opened again beside this engine, so its lock is nobody's lease. */
#define MEMORY_OPS(is_exclusive)                                                                   \
    {                                                                                              \
        .name = "memory", .contract = CR_STORE_CONTRACT, .exclusive = (is_exclusive),              \
        .begin = memory_begin, .commit = memory_commit, .rollback = memory_rollback,               \
        .identity = memory_identity, .find = cr_memory_find, .create = cr_memory_create_session,   \
        .change = cr_memory_change, .seen = cr_memory_seen, .end = cr_memory_end,                  \
        .end_user = cr_memory_end_user, .end_others = cr_memory_end_others,                        \
        .end_all = cr_memory_end_all, .list = cr_memory_list, .list_dead = cr_memory_list_dead,    \
        .sweep = cr_memory_sweep, .log_read = memory_log_read, .log_last = memory_log_last,        \
        .log_find = memory_log_find, .log_about = memory_log_about,                                \
        .log_rotations = memory_log_rotations, .log_ended = memory_log_ended,                      \
        .engine_register = cr_memory_engine_register, .engine_poll = cr_memory_engine_poll,        \
        .engine_list = cr_memory_engine_list, .engine_remove = cr_memory_engine_remove,            \
        .keys = cr_memory_keys, .key_add = cr_memory_key_add,                                      \
        .account_find = cr_memory_account_find, .account_change = cr_memory_account_change,        \
        .account_list = cr_memory_account_list, .lease_take = cr_memory_lease_take,                \
        .lease_renew = cr_memory_lease_renew, .lease_give = cr_memory_lease_give,                  \
        .reset_add = cr_memory_reset_add, .reset_find = cr_memory_reset_find,                      \
        .lease_read = cr_memory_lease_read, .debt_put = cr_memory_debt_put,                        \
        .debt_find = cr_memory_debt_find, .debt_list = cr_memory_debt_list,                        \
        .debt_forget = cr_memory_debt_forget, .reader = memory_reader, .destroy = memory_destroy,  \
    }

static const struct cr_store_ops own_ops = MEMORY_OPS(true);
static const struct cr_store_ops named_ops = MEMORY_OPS(false);

enum cr_status cr_store_memory_create(const char *name, const struct cr_store_env *env,
                                      struct cr_store **out_store)
{
    struct memory_handle *handle = calloc(1, sizeof *handle);
    if (handle == NULL)
        return CR_E_NO_MEMORY;
    enum cr_status st;
    if (name != NULL) {
        st = memory_named(name, env, &handle->memory);
    } else {
        st = memory_new(NULL, env, &handle->memory);
        if (st == CR_OK)
            handle->memory->handle_count = 1;
    }
    if (st != CR_OK) {
        free(handle);
        return st;
    }
    st = cr_store_init(&handle->store, name != NULL ? &named_ops : &own_ops);
    CR_ASSERT(st == CR_OK);
    *out_store = &handle->store;
    return CR_OK;
}
