/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the memory store share. Nobody else includes this. */
#ifndef STORE_MEMORY_H
#define STORE_MEMORY_H

#include <pthread.h>

#include "store/memory_rows.h"
#include "store/record.h"
#include "store/stores.h"

struct session_row {
    struct cr_row row;
    struct cr_record record;
};

struct user_row {
    struct cr_row row;
    struct cr_user user;
    uint64_t generation;
};

struct log_item {
    struct cr_row row;
    struct cr_log_row log;
};

struct account_item {
    struct cr_row row;
    struct cr_account_row account;
};

struct engine_item {
    struct cr_row row;
    struct cr_engine_row engine;
};

struct lease_item {
    struct cr_row row;
    struct cr_lease_row lease;
    cr_boot_ns until; /* of the boot that it was taken in */
    unsigned char boot_id[16];
};

struct debt_item {
    struct cr_row row;
    struct cr_debt_row debt; /* `left` as of `at` */
    cr_boot_ns at;           /* of the only boot there is: the memory is gone with it */
};

struct reset_item {
    struct cr_row row;
    struct cr_reset_row reset; /* `left` is not looked at */
    cr_time_ms until;
};

struct key_item {
    struct cr_row row;
    struct cr_key key;
    uint64_t place;        /* the order of keys, whatever their numbers */
    cr_time_ms settled_at; /* no session made later has a token made with it; 0: not so yet */
};

/* What is not in a table. Copied at the start of a batch and of each call, to go back to. */
struct memory_counters {
    uint64_t global_generation;
    uint64_t log_first, log_last; /* numbers of the oldest and the newest row */
};

/* The truth. One writer at a time: `writer` is the handle whose batch is open, and all others wait
 * for its end, so that none sees what is not committed. */
struct memory {
    struct memory *next; /* in the list of named ones */
    char *name;          /* NULL: has one owner and is in no list */
    size_t handle_count;
    struct cr_store_env env;
    struct cr_ending_id identity;

    pthread_mutex_t mutex;
    pthread_cond_t batch_ended;
    const struct memory_handle *writer;

    struct cr_rows sessions; /* by id; grouped by user */
    struct cr_rows users;
    struct cr_rows log; /* by number; grouped by identity */
    struct cr_rows accounts, engines, leases, debts, keys;
    struct cr_rows resets; /* by hash; grouped by user */
    struct memory_counters counters;
    struct cr_undo undo;
    struct memory_counters counters_at_begin;
};

struct memory_handle {
    struct cr_store store;
    struct memory *memory;
};

/* Around every call. A changing one that fails is undone by leave. */
struct memory_call {
    struct memory *memory;
    size_t undo_count;
    struct memory_counters counters;
};
struct memory *cr_memory_enter(struct cr_store *store, struct memory_call *out_call);
enum cr_status cr_memory_leave(const struct memory_call *call, enum cr_status st);

cr_time_ms cr_memory_now(const struct memory *memory);

/* Appends a row for `ending` and gives it. identity NULL: a random one. */
CR_MUST_CHECK enum cr_status cr_memory_log_add(struct memory *memory, const struct cr_log_row *row,
                                               struct cr_log_row *out_row);
const struct cr_log_row *cr_memory_log_find(const struct memory *memory,
                                            const struct cr_ending_id *identity);
const struct cr_log_row *cr_memory_log_at(const struct memory *memory, uint64_t number);
CR_MUST_CHECK enum cr_status cr_memory_log_read(const struct memory *memory, uint64_t number,
                                                size_t limit, struct cr_log_rows *out);

/* 0: the user has never been seen. */
uint64_t cr_memory_generation(const struct memory *memory, const struct cr_user *user);
/* One more than it was; 1 for a user never seen. */
CR_MUST_CHECK enum cr_status cr_memory_generation_raise(struct memory *memory,
                                                        const struct cr_user *user,
                                                        uint64_t *out_generation);

/* The calls, as store_memory.c lists them. */
enum cr_status cr_memory_find(struct cr_store *store, const struct cr_session_id *id,
                              struct cr_record *out);
enum cr_status cr_memory_create_session(struct cr_store *store, struct cr_record *record,
                                        const struct cr_create_terms *terms,
                                        struct cr_log_rows *out_rows);
enum cr_status cr_memory_change(struct cr_store *store, const struct cr_session_id *id,
                                const struct cr_change *change, uint64_t *out_version,
                                struct cr_log_row *out_row);
enum cr_status cr_memory_seen(struct cr_store *store, const struct cr_seen *seen, size_t count);
enum cr_status cr_memory_end(struct cr_store *store, const struct cr_session_id *id,
                             const struct cr_ending *ending, struct cr_log_row *out_row);
enum cr_status cr_memory_end_user(struct cr_store *store, const struct cr_user *user,
                                  const struct cr_ending *ending, struct cr_log_row *out_row);
enum cr_status cr_memory_end_others(struct cr_store *store, const struct cr_session_id *keep,
                                    const struct cr_ending *ending, struct cr_log_row *out_row);
enum cr_status cr_memory_end_all(struct cr_store *store, const struct cr_ending *ending,
                                 struct cr_log_row *out_row);
enum cr_status cr_memory_list(struct cr_store *store, const struct cr_user *user,
                              cr_time_ms created_at, const struct cr_session_id *after,
                              struct cr_record *out, size_t capacity, size_t *out_count);
enum cr_status cr_memory_list_dead(struct cr_store *store, const struct cr_user *user,
                                   struct cr_record *out, size_t capacity, size_t *out_count);
enum cr_status cr_memory_sweep(struct cr_store *store, size_t limit, size_t *out_count);
enum cr_status cr_memory_engine_register(struct cr_store *store, const struct cr_engine_row *row);
enum cr_status cr_memory_engine_poll(struct cr_store *store, struct cr_engine_row *row,
                                     size_t limit, struct cr_poll *out);
enum cr_status cr_memory_engine_list(struct cr_store *store, struct cr_engine_row *out,
                                     size_t capacity, size_t *out_count);
enum cr_status cr_memory_engine_remove(struct cr_store *store, const struct cr_ending_id *id,
                                       uint64_t beat);
enum cr_status cr_memory_keys(struct cr_store *store, struct cr_key *out, size_t capacity,
                              size_t *out_count);
enum cr_status cr_memory_key_add(struct cr_store *store, const unsigned char bytes[CR_KEY_BYTES],
                                 cr_span_ms wait, const struct cr_ending *ending,
                                 struct cr_log_row *out_row);
/* The first key of a new store; and what a sweep does about keys. */
CR_MUST_CHECK enum cr_status cr_memory_key_first(struct memory *memory);
CR_MUST_CHECK enum cr_status cr_memory_keys_sweep(struct memory *memory);
enum cr_status cr_memory_account_find(struct cr_store *store, const struct cr_user *user,
                                      struct cr_account_row *out);
enum cr_status cr_memory_account_change(struct cr_store *store, const struct cr_user *user,
                                        const struct cr_account_change *change,
                                        struct cr_log_row *out_row);
enum cr_status cr_memory_account_list(struct cr_store *store, const struct cr_user *after,
                                      struct cr_account_row *out, size_t capacity,
                                      size_t *out_count);
enum cr_status cr_memory_lease_take(struct cr_store *store, struct cr_lease_row *row,
                                    cr_span_ms ttl);
enum cr_status cr_memory_lease_renew(struct cr_store *store, const struct cr_lease_row *row,
                                     cr_span_ms ttl);
enum cr_status cr_memory_lease_give(struct cr_store *store, const struct cr_lease_row *row);
enum cr_status cr_memory_lease_read(struct cr_store *store, const char *name,
                                    struct cr_lease_row *out);

/* memory_resets.c */
extern const struct cr_rows_kind cr_memory_reset_kind;
enum cr_status cr_memory_reset_add(struct cr_store *store, const struct cr_reset_row *row);
enum cr_status cr_memory_reset_find(struct cr_store *store, const struct cr_token_hash *hash,
                                    struct cr_reset_row *out);
bool cr_memory_reset_is_good(const struct memory *memory, const struct cr_token_hash *hash,
                             const struct cr_user *user);
CR_MUST_CHECK enum cr_status cr_memory_resets_forget(struct memory *memory,
                                                     const struct cr_user *user);
/* At most `limit` that are over; *count: raised by how many. */
CR_MUST_CHECK enum cr_status cr_memory_resets_sweep(struct memory *memory, size_t limit,
                                                    size_t *count);

/* memory_debts.c */
extern const struct cr_rows_kind cr_memory_debt_kind;
enum cr_status cr_memory_debt_put(struct cr_store *store, const struct cr_debt_row *rows,
                                  size_t count);
enum cr_status cr_memory_debt_find(struct cr_store *store,
                                   const unsigned char key[CR_DEBT_KEY_BYTES],
                                   struct cr_debt_row *out);
enum cr_status cr_memory_debt_list(struct cr_store *store, struct cr_debt_row *out, size_t capacity,
                                   size_t *out_count);
enum cr_status cr_memory_debt_forget(struct cr_store *store, const struct cr_user *user,
                                     const char *address);
/* At most `limit` of which nothing is left; *count: raised by how many. */
enum cr_status cr_memory_debt_sweep(struct memory *memory, size_t limit, size_t *count);

#endif
