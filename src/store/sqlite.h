/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the SQLite store share. Nobody else includes this. */
#ifndef STORE_SQLITE_H
#define STORE_SQLITE_H

#include <sqlite3.h>

#include "store/record.h"
#include "store/stores.h"

#define CR_SQLITE_VERSION 9 /* of the schema (sqlite_schema.c) */
#define CR_SUM_BYTES 16

/* Every statement there is; their text is in sqlite_query.c. Input is bound, never spliced in. */
enum cr_sql {
    SQL_BEGIN,
    SQL_COMMIT,
    SQL_ROLLBACK,
    SQL_META,
    SQL_META_RAISE,
    SQL_GENERATIONS,
    SQL_USER_INSERT,
    SQL_USER_RAISE,
    SQL_SESSION_FIND,
    SQL_SESSION_HEAD,
    SQL_SESSION_INSERT,
    SQL_SESSION_UPDATE,
    SQL_SESSION_DATA,
    SQL_SESSION_SEEN,
    SQL_SESSION_DELETE,
    SQL_SESSION_LIST,
    SQL_SESSION_DEAD,
    SQL_SWEEP_DUE,
    SQL_SWEEP_LATER,
    SQL_SWEEP_NUMBER,
    SQL_SWEEP_USER,
    SQL_SWEEP_ALL,
    SQL_LOG_INSERT,
    SQL_LOG_FIND,
    SQL_LOG_READ,
    SQL_LOG_LAST,
    SQL_LOG_DELETE,
    SQL_LOG_ABOUT_SESSION,
    SQL_LOG_ABOUT_USER,
    SQL_LOG_ABOUT_ALL,
    SQL_LOG_ROTATIONS,
    SQL_LOG_ENDED,
    SQL_ENGINE_INSERT,
    SQL_ENGINE_POLL,
    SQL_ENGINE_LIST,
    SQL_ENGINE_DELETE,
    SQL_KEYS,
    SQL_KEY_INSERT,
    SQL_KEY_SETTLE,
    SQL_KEY_DROP,
    SQL_ACCOUNT_FIND,
    SQL_ACCOUNT_INSERT,
    SQL_ACCOUNT_UPDATE,
    SQL_ACCOUNT_DELETE,
    SQL_ACCOUNT_LIST,
    SQL_RESET_INSERT,
    SQL_RESET_COUNT,
    SQL_RESET_FIND,
    SQL_RESET_FORGET,
    SQL_RESET_SWEEP,
    SQL_LEASE_FIND,
    SQL_LEASE_PUT,
    SQL_DEBT_PUT,
    SQL_DEBT_DELETE,
    SQL_DEBT_FIND,
    SQL_DEBT_LIST,
    SQL_DEBT_FORGET,
    SQL_DEBT_SWEEP,
    SQL_COUNT
};

struct cr_sqlite {
    struct cr_store store;
    struct cr_store_env env;
    char *path;
    sqlite3 *db;
    int lock_fd; /* -1: a reader */
    /* A change failed half-way: what is in the batch is not to be committed. */
    enum cr_status broken;
    sqlite3_stmt *statements[SQL_COUNT]; /* prepared at first use */
};

static inline struct cr_sqlite *cr_sqlite_of(struct cr_store *store)
{
    return (struct cr_sqlite *)store;
}

static inline cr_time_ms cr_sqlite_now(const struct cr_sqlite *s)
{
    return cr_clock_wall(s->env.clock);
}

/*
 * A statement under way. Parameters are bound, and columns read, in their order. A column that
 * cannot be what was written there makes the query bad, which cr_query_close tells.
 */
struct cr_query {
    struct cr_sqlite *sqlite;
    sqlite3_stmt *statement;
    int code; /* SQLite's, of the first failure */
    int bound, column;
    bool is_bad;
};
void cr_query_open(struct cr_query *query, struct cr_sqlite *s, enum cr_sql sql);
void cr_query_bind_int(struct cr_query *query, int64_t value);
void cr_query_bind_uint(struct cr_query *query, uint64_t value);
/* Kept by reference until close. No bytes: NULL is bound. */
void cr_query_bind_blob(struct cr_query *query, const void *bytes, size_t count);
void cr_query_bind_text(struct cr_query *query, const char *text);
void cr_query_bind_user(struct cr_query *query, const struct cr_user *user);

/* CR_OK: there is a row; CR_NOT_FOUND: there is none any more. */
CR_MUST_CHECK enum cr_status cr_query_row(struct cr_query *query);

int64_t cr_query_int(struct cr_query *query);
uint64_t cr_query_uint(struct cr_query *query);
size_t cr_query_blob(struct cr_query *query, void *out, size_t capacity);
void cr_query_bytes(struct cr_query *query, void *out, size_t count); /* exactly so many, or NULL */
void cr_query_text(struct cr_query *query, char *out, size_t capacity);
void cr_query_user(struct cr_query *query, struct cr_user *out);

/* Ends it; `st` is what was found so far. */
CR_MUST_CHECK enum cr_status cr_query_close(struct cr_query *query, enum cr_status st);

/* For changes: steps to the end, and closes. */
CR_MUST_CHECK enum cr_status cr_query_change(struct cr_query *query);

enum cr_status cr_sqlite_status(int code);

/* Marks the batch as one that must not be committed, where `st` is a failure; gives `st`. */
enum cr_status cr_sqlite_break(struct cr_sqlite *s, enum cr_status st);

/* What a damaged file, or one of somebody else's, is answered with. */
enum cr_status cr_sqlite_corrupt(const struct cr_sqlite *s, struct cr_error *out_error);

/* sqlite_schema.c. Makes or upgrades the schema, up to `version`, in one transaction. */
CR_MUST_CHECK enum cr_status cr_sqlite_schema(struct cr_sqlite *s, int version,
                                              struct cr_error *out_error);

/* sqlite_meta.c. Bit rot is not to make one user another: sums over the rows that say who is let
 * in. */
struct cr_sum {
    unsigned char bytes[CR_SUM_BYTES];
};
void cr_sqlite_sum_record(const struct cr_record *record,
                          struct cr_sum *out); /* but for the data */
void cr_sqlite_sum_data(const struct cr_record *record, struct cr_sum *out);
void cr_sqlite_sum_user(const struct cr_user *user, uint64_t generation, struct cr_sum *out);
void cr_sqlite_sum_reset(const struct cr_token_hash *hash, const struct cr_user *user,
                         cr_time_ms until, struct cr_sum *out);
void cr_sqlite_sum_meta(int64_t version, const struct cr_ending_id *identity,
                        uint64_t global_generation, struct cr_sum *out);
CR_MUST_CHECK bool cr_sum_equal(const struct cr_sum *a, const struct cr_sum *b);

struct cr_meta {
    int64_t version;
    struct cr_ending_id identity;
    uint64_t global_generation;
};
CR_MUST_CHECK enum cr_status cr_sqlite_meta(struct cr_sqlite *s, struct cr_meta *out);
void cr_query_meta(struct cr_query *query, struct cr_meta *out); /* its four columns */

/* The current ones; of the user 0 when it was never seen or is anonymous. */
struct cr_generations {
    uint64_t user, global;
};
CR_MUST_CHECK enum cr_status cr_sqlite_generations(struct cr_sqlite *s, const struct cr_user *user,
                                                   struct cr_generations *out);
/* Write what comes after `generation` (0: a new user), and give it. */
CR_MUST_CHECK enum cr_status cr_sqlite_user_raise(struct cr_sqlite *s, const struct cr_user *user,
                                                  uint64_t generation, uint64_t *out_generation);

CR_MUST_CHECK enum cr_status cr_sqlite_all_raise(struct cr_sqlite *s, uint64_t *out_generation);
uint64_t cr_query_generation(struct cr_query *query, const struct cr_user *user); /* two columns */

/* sqlite_sessions.c. A session without its data, judged; CR_NOT_FOUND. */
CR_MUST_CHECK enum cr_status cr_sqlite_head(struct cr_sqlite *s, const struct cr_session_id *id,
                                            struct cr_record *out);
CR_MUST_CHECK enum cr_status cr_sqlite_head_live(struct cr_sqlite *s,
                                                 const struct cr_session_id *id,
                                                 struct cr_record *out); /* or CR_ENDED */
CR_MUST_CHECK enum cr_status cr_sqlite_session_update(struct cr_sqlite *s,
                                                      const struct cr_record *record);
CR_MUST_CHECK enum cr_status cr_sqlite_session_delete(struct cr_sqlite *s,
                                                      const struct cr_session_id *id);

/* sqlite_endings.c. CR_NOT_FOUND: it was not carried out before, or is all zero. */
CR_MUST_CHECK enum cr_status cr_sqlite_log_find(struct cr_sqlite *s,
                                                const struct cr_ending_id *identity,
                                                struct cr_log_row *out);
/* Appends `row`, with the next number and the time; a zero identity becomes a random one. */
CR_MUST_CHECK enum cr_status cr_sqlite_log_add(struct cr_sqlite *s, struct cr_log_row *row);
CR_MUST_CHECK enum cr_status cr_sqlite_log_rows(struct cr_sqlite *s, uint64_t number, size_t limit,
                                                struct cr_log_rows *out);
CR_MUST_CHECK enum cr_status cr_sqlite_log_ended(struct cr_sqlite *s,
                                                 const struct cr_record *record,
                                                 const struct cr_ending *ending,
                                                 struct cr_log_row *out_row);
CR_MUST_CHECK enum cr_status cr_sqlite_log_user(struct cr_sqlite *s, const struct cr_user *user,
                                                uint64_t generation, const struct cr_ending *ending,
                                                struct cr_log_row *out_row);
void cr_query_log_row(struct cr_query *query, struct cr_log_row *out);

/* The calls, as store_sqlite.c lists them. */
enum cr_status cr_sqlite_find(struct cr_store *store, const struct cr_session_id *id,
                              struct cr_record *out);
enum cr_status cr_sqlite_create(struct cr_store *store, struct cr_record *record,
                                const struct cr_create_terms *terms, struct cr_log_rows *out_rows);
enum cr_status cr_sqlite_change(struct cr_store *store, const struct cr_session_id *id,
                                const struct cr_change *change, uint64_t *out_version,
                                struct cr_log_row *out_row);
enum cr_status cr_sqlite_seen(struct cr_store *store, const struct cr_seen *seen, size_t count);
enum cr_status cr_sqlite_end(struct cr_store *store, const struct cr_session_id *id,
                             const struct cr_ending *ending, struct cr_log_row *out_row);
enum cr_status cr_sqlite_end_user(struct cr_store *store, const struct cr_user *user,
                                  const struct cr_ending *ending, struct cr_log_row *out_row);
enum cr_status cr_sqlite_end_others(struct cr_store *store, const struct cr_session_id *keep,
                                    const struct cr_ending *ending, struct cr_log_row *out_row);
enum cr_status cr_sqlite_end_all(struct cr_store *store, const struct cr_ending *ending,
                                 struct cr_log_row *out_row);
enum cr_status cr_sqlite_list(struct cr_store *store, const struct cr_user *user,
                              cr_time_ms created_at, const struct cr_session_id *after,
                              struct cr_record *out, size_t capacity, size_t *out_count);
enum cr_status cr_sqlite_list_dead(struct cr_store *store, const struct cr_user *user,
                                   struct cr_record *out, size_t capacity, size_t *out_count);
enum cr_status cr_sqlite_sweep(struct cr_store *store, size_t limit, size_t *out_count);
enum cr_status cr_sqlite_log_read(struct cr_store *store, uint64_t number, size_t limit,
                                  struct cr_log_rows *out);
enum cr_status cr_sqlite_log_last(struct cr_store *store, struct cr_log_row *out);
enum cr_status cr_sqlite_log_find_call(struct cr_store *store, const struct cr_ending_id *identity,
                                       struct cr_log_row *out);
enum cr_status cr_sqlite_log_about(struct cr_store *store, const struct cr_session_id *id,
                                   const struct cr_record *record, struct cr_log_row *out);
enum cr_status cr_sqlite_log_rotations(struct cr_store *store, const struct cr_session_id *id,
                                       size_t limit, struct cr_log_rows *out);
enum cr_status cr_sqlite_log_ended_list(struct cr_store *store, const struct cr_user *user,
                                        size_t limit, struct cr_log_rows *out);
enum cr_status cr_sqlite_engine_register(struct cr_store *store, const struct cr_engine_row *row);
enum cr_status cr_sqlite_engine_poll(struct cr_store *store, struct cr_engine_row *row,
                                     size_t limit, struct cr_poll *out);
enum cr_status cr_sqlite_engine_list(struct cr_store *store, struct cr_engine_row *out,
                                     size_t capacity, size_t *out_count);
enum cr_status cr_sqlite_engine_remove(struct cr_store *store, const struct cr_ending_id *identity,
                                       uint64_t beat);
enum cr_status cr_sqlite_keys(struct cr_store *store, struct cr_key *out, size_t capacity,
                              size_t *out_count);
enum cr_status cr_sqlite_key_add(struct cr_store *store, const unsigned char bytes[CR_KEY_BYTES],
                                 cr_span_ms wait, const struct cr_ending *ending,
                                 struct cr_log_row *out_row);
/* Drop the keys that no token can be alive of. */
enum cr_status cr_sqlite_keys_sweep(struct cr_sqlite *s);
enum cr_status cr_sqlite_account_find(struct cr_store *store, const struct cr_user *user,
                                      struct cr_account_row *out);
enum cr_status cr_sqlite_account_change(struct cr_store *store, const struct cr_user *user,
                                        const struct cr_account_change *change,
                                        struct cr_log_row *out_row);
enum cr_status cr_sqlite_account_list(struct cr_store *store, const struct cr_user *after,
                                      struct cr_account_row *out, size_t capacity,
                                      size_t *out_count);
enum cr_status cr_sqlite_lease_take(struct cr_store *store, struct cr_lease_row *row,
                                    cr_span_ms ttl);
enum cr_status cr_sqlite_lease_renew(struct cr_store *store, const struct cr_lease_row *row,
                                     cr_span_ms ttl);
enum cr_status cr_sqlite_lease_give(struct cr_store *store, const struct cr_lease_row *row);
enum cr_status cr_sqlite_lease_read(struct cr_store *store, const char *name,
                                    struct cr_lease_row *out);

/* sqlite_resets.c */
enum cr_status cr_sqlite_reset_add(struct cr_store *store, const struct cr_reset_row *row);
enum cr_status cr_sqlite_reset_find(struct cr_store *store, const struct cr_token_hash *hash,
                                    struct cr_reset_row *out);
/* Of one user; NULL: all. */
CR_MUST_CHECK enum cr_status cr_sqlite_resets_forget(struct cr_sqlite *s,
                                                     const struct cr_user *user);
/* At most `limit` that are over; *count: raised by how many. */
CR_MUST_CHECK enum cr_status cr_sqlite_resets_sweep(struct cr_sqlite *s, size_t limit,
                                                    size_t *count);

/* sqlite_debts.c */
enum cr_status cr_sqlite_debt_put(struct cr_store *store, const struct cr_debt_row *rows,
                                  size_t count);
enum cr_status cr_sqlite_debt_find(struct cr_store *store,
                                   const unsigned char key[CR_DEBT_KEY_BYTES],
                                   struct cr_debt_row *out);
enum cr_status cr_sqlite_debt_list(struct cr_store *store, struct cr_debt_row *out, size_t capacity,
                                   size_t *out_count);
enum cr_status cr_sqlite_debt_forget(struct cr_store *store, const struct cr_user *user,
                                     const char *address);
/* At most `limit` of which nothing is left; *count: raised by how many. */
enum cr_status cr_sqlite_debt_sweep(struct cr_sqlite *s, size_t limit, size_t *count);

#endif
