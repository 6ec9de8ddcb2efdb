/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The contract tests: one table, run over every store. A program is contract*.c and one over_*.c,
 * which says how its store is opened. Clock and random numbers are the test's.
 */
#ifndef CONTRACT_CONTRACT_H
#define CONTRACT_CONTRACT_H

#include "store/store.h"
#include "tap.h"

#define IDLE_MS 1800000LL
#define ABSOLUTE_MS 43200000LL
#define DAY_MS 86400000LL

/* over_*.c: an empty store, and what is to be done after it was closed. */
enum cr_status over_open(const struct cr_store_env *env, struct cr_store **out_store);
void over_close(void);

/* Each file's tests. */
struct contract_part {
    const struct tap_test *tests;
    size_t count;
};
extern const struct contract_part contract_sessions, contract_login, contract_endings, contract_log,
    contract_engines, contract_accounts, contract_leases, contract_debts, contract_batches,
    contract_keys, contract_past, contract_resets;
#define CONTRACT_PART(tests)                                                                       \
    {                                                                                              \
        tests, sizeof(tests) / sizeof(tests)[0]                                                    \
    }

/* What a test works on: fresh in each. */
struct fixture {
    struct cr_clock_fake clock;
    struct cr_random_seeded random;
    struct cr_store_env env;
    struct cr_store *store;
};
bool fixture_init(struct fixture *f); /* a check; whoever does not get one returns */
void fixture_fini(struct fixture *f);
void fixture_env(struct fixture *f); /* all but the store */
void advance(struct fixture *f, cr_span_ms span);

struct cr_user user_named(const char *name);
struct cr_session_id id_random(struct fixture *f);
struct cr_ending ending_for(struct fixture *f, enum cr_reason reason);

/* A record to create: IDLE_MS, ABSOLUTE_MS, random id and hash; `user` NULL: anonymous. */
struct cr_record record_for(struct fixture *f, const char *user);

/* Creates one without terms; its id. */
struct cr_session_id session_for(struct fixture *f, const char *user);
/* A log-in of `user` under the terms, which get an ending of `reason` of their own. */
enum cr_status login(struct fixture *f, const char *user, struct cr_create_terms terms,
                     enum cr_reason reason, struct cr_session_id *out_id,
                     struct cr_log_rows *out_rows);

bool is_live(struct fixture *f, const struct cr_session_id *id);
/* Why it is dead; CR_REASON_NONE for a live one; LOGOUT when there is no row at all. */
enum cr_reason dead_for(struct fixture *f, const struct cr_session_id *id);
uint64_t log_count(struct fixture *f); /* the newest row's number */
size_t live_count(struct fixture *f, const char *name);

#endif
