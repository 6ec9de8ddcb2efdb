/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store as the engine calls it: one wrapper for each row of cr_store_ops (cloakroom/store.h
 * says what they do), in which the contract is checked once for all stores: what comes back answers
 * what was asked, changes happen inside a batch, lengths are within their bounds. Bad answers
 * become CR_E_CORRUPT. A changing call outside a batch makes one of its own. And opening a store by
 * URL.
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include <cloakroom/store.h>

#include "base/clock.h"
#include "base/random.h"

/* What a store takes from outside itself, so that tests can swap it. Pointers must outlive it. */
struct cr_store_env {
    struct cr_clock *clock;
    struct cr_random *random;
    unsigned char boot_id[16];
};
CR_MUST_CHECK enum cr_status cr_store_env_system(struct cr_store_env *out_env);

/*
 * sqlite:///PATH, memory: (its own) or memory:NAME (shared by all who open that name in this
 * process), and in builds with failpoints fault:PLANFILE,URL. Creates what is missing (schema, one
 * key). Opening sqlite takes the exclusive lock PATH-lock: CR_BUSY when another process holds it,
 * with its pid in the text. CR_E_VERSION: the schema is newer than this program, with both numbers
 * in the text. CR_E_CORRUPT: not a store, or damaged. `out_error` may be NULL.
 */
CR_MUST_CHECK enum cr_status cr_store_open(const char *url, const struct cr_store_env *env,
                                           struct cr_store **out_store, struct cr_error *out_error);

/* Wraps `inner` (taken over) and fails as `plan` says (store_fault.c). */
enum cr_fault_kind {
    CR_FAULT_NONE,
    CR_FAULT_UNAVAILABLE, /* the call is not made */
    CR_FAULT_LOST,        /* commit: made, but its outcome is lost (CR_E_UNKNOWN_OUTCOME) */
    CR_FAULT_NOT_MADE,    /* commit: not made, and its outcome is lost */
    CR_FAULT_WRONG,       /* find: another session's row is given back */
    CR_FAULT_SLOW         /* the call is delayed by slow_ms (real time) first */
};
struct cr_fault_plan {
    enum cr_fault_kind kind;
    uint64_t after; /* calls to let through first */
    uint64_t count; /* calls to fail then; UINT64_MAX: all */
    cr_span_ms slow_ms;
    enum cr_status status; /* what CR_FAULT_UNAVAILABLE answers, where not CR_UNAVAILABLE (0) */
    bool reads_only, commits_only; /* which calls count */
    uint64_t calls;                /* written: how many calls counted so far */
};
/* `plan` stays the caller's and may be changed between calls; it must outlive all handles. With
 * fault:PLANFILE,URL the plan is read from the file before every call: a line of kind (in lower
 * case), after, count, slow_ms, and the word `reads` or `commits` where only those count; what is
 * left out at the end is 0, and count is then all. No file: no faults. */
CR_MUST_CHECK enum cr_status cr_store_fault_create(struct cr_store *inner,
                                                   struct cr_fault_plan *plan,
                                                   struct cr_store **out_store);

void cr_store_destroy(struct cr_store *store); /* gives up an open batch; accepts NULL */

bool cr_store_is_exclusive(const struct cr_store *store);
const char *cr_store_name(const struct cr_store *store);
CR_MUST_CHECK enum cr_status cr_store_reader(struct cr_store *s, struct cr_store **out_reader);

CR_MUST_CHECK enum cr_status cr_store_begin(struct cr_store *s);
CR_MUST_CHECK enum cr_status cr_store_commit(struct cr_store *s);
void cr_store_rollback(struct cr_store *s);
CR_MUST_CHECK enum cr_status cr_store_identity(struct cr_store *s, struct cr_ending_id *out);
CR_MUST_CHECK enum cr_status cr_store_find(struct cr_store *s, const struct cr_session_id *id,
                                           struct cr_record *out);
CR_MUST_CHECK enum cr_status cr_store_create(struct cr_store *s, struct cr_record *record,
                                             const struct cr_create_terms *terms,
                                             struct cr_log_rows *out_rows);
CR_MUST_CHECK enum cr_status cr_store_change(struct cr_store *s, const struct cr_session_id *id,
                                             const struct cr_change *change, uint64_t *out_version,
                                             struct cr_log_row *out_row);
CR_MUST_CHECK enum cr_status cr_store_seen(struct cr_store *s, const struct cr_seen *seen,
                                           size_t count);
CR_MUST_CHECK enum cr_status cr_store_end(struct cr_store *s, const struct cr_session_id *id,
                                          const struct cr_ending *ending,
                                          struct cr_log_row *out_row);
CR_MUST_CHECK enum cr_status cr_store_end_user(struct cr_store *s, const struct cr_user *user,
                                               const struct cr_ending *ending,
                                               struct cr_log_row *out_row);
CR_MUST_CHECK enum cr_status cr_store_end_others(struct cr_store *s,
                                                 const struct cr_session_id *keep,
                                                 const struct cr_ending *ending,
                                                 struct cr_log_row *out_row);
CR_MUST_CHECK enum cr_status cr_store_end_all(struct cr_store *s, const struct cr_ending *ending,
                                              struct cr_log_row *out_row);
CR_MUST_CHECK enum cr_status cr_store_list(struct cr_store *s, const struct cr_user *user,
                                           cr_time_ms created_at, const struct cr_session_id *after,
                                           struct cr_record *out, size_t capacity,
                                           size_t *out_count);
CR_MUST_CHECK enum cr_status cr_store_list_dead(struct cr_store *s, const struct cr_user *user,
                                                struct cr_record *out, size_t capacity,
                                                size_t *out_count);
CR_MUST_CHECK enum cr_status cr_store_sweep(struct cr_store *s, size_t limit, size_t *out_count);
CR_MUST_CHECK enum cr_status cr_store_log_read(struct cr_store *s, uint64_t number, size_t limit,
                                               struct cr_log_rows *out);
CR_MUST_CHECK enum cr_status cr_store_log_last(struct cr_store *s, struct cr_log_row *out);
CR_MUST_CHECK enum cr_status cr_store_log_find(struct cr_store *s, const struct cr_ending_id *id,
                                               struct cr_log_row *out);
CR_MUST_CHECK enum cr_status cr_store_log_about(struct cr_store *s, const struct cr_session_id *id,
                                                const struct cr_record *record,
                                                struct cr_log_row *out);
CR_MUST_CHECK enum cr_status cr_store_log_rotations(struct cr_store *s,
                                                    const struct cr_session_id *id, size_t limit,
                                                    struct cr_log_rows *out);
CR_MUST_CHECK enum cr_status cr_store_log_ended(struct cr_store *s, const struct cr_user *user,
                                                size_t limit, struct cr_log_rows *out);
CR_MUST_CHECK enum cr_status cr_store_engine_register(struct cr_store *s,
                                                      const struct cr_engine_row *row);
CR_MUST_CHECK enum cr_status cr_store_engine_poll(struct cr_store *s, struct cr_engine_row *row,
                                                  size_t limit, struct cr_poll *out);
CR_MUST_CHECK enum cr_status cr_store_engine_list(struct cr_store *s, struct cr_engine_row *out,
                                                  size_t capacity, size_t *out_count);
CR_MUST_CHECK enum cr_status cr_store_engine_remove(struct cr_store *s,
                                                    const struct cr_ending_id *id, uint64_t beat);
CR_MUST_CHECK enum cr_status cr_store_keys(struct cr_store *s, struct cr_key *out, size_t capacity,
                                           size_t *out_count);
CR_MUST_CHECK enum cr_status cr_store_key_add(struct cr_store *s,
                                              const unsigned char bytes[CR_KEY_BYTES],
                                              cr_span_ms wait, const struct cr_ending *ending,
                                              struct cr_log_row *out_row);
CR_MUST_CHECK enum cr_status cr_store_account_find(struct cr_store *s, const struct cr_user *user,
                                                   struct cr_account_row *out);
CR_MUST_CHECK enum cr_status cr_store_account_change(struct cr_store *s, const struct cr_user *user,
                                                     const struct cr_account_change *change,
                                                     struct cr_log_row *out_row);
CR_MUST_CHECK enum cr_status cr_store_account_list(struct cr_store *s, const struct cr_user *after,
                                                   struct cr_account_row *out, size_t capacity,
                                                   size_t *out_count);
CR_MUST_CHECK enum cr_status cr_store_reset_add(struct cr_store *s, const struct cr_reset_row *row);
CR_MUST_CHECK enum cr_status
cr_store_reset_find(struct cr_store *s, const struct cr_token_hash *hash, struct cr_reset_row *out);
CR_MUST_CHECK enum cr_status cr_store_lease_take(struct cr_store *s, struct cr_lease_row *row,
                                                 cr_span_ms ttl);
CR_MUST_CHECK enum cr_status cr_store_lease_renew(struct cr_store *s,
                                                  const struct cr_lease_row *row, cr_span_ms ttl);
CR_MUST_CHECK enum cr_status cr_store_lease_give(struct cr_store *s,
                                                 const struct cr_lease_row *row);
CR_MUST_CHECK enum cr_status cr_store_lease_read(struct cr_store *s, const char *name,
                                                 struct cr_lease_row *out);
CR_MUST_CHECK enum cr_status cr_store_debt_put(struct cr_store *s, const struct cr_debt_row *rows,
                                               size_t count);
CR_MUST_CHECK enum cr_status cr_store_debt_find(struct cr_store *s,
                                                const unsigned char key[CR_DEBT_KEY_BYTES],
                                                struct cr_debt_row *out);
CR_MUST_CHECK enum cr_status cr_store_debt_list(struct cr_store *s, struct cr_debt_row *out,
                                                size_t capacity, size_t *out_count);
CR_MUST_CHECK enum cr_status cr_store_debt_forget(struct cr_store *s, const struct cr_user *user,
                                                  const char *address);

#endif
