/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine: one store, one table, their coherence (rules 1 to 9, src/cache/README.md). Everything
 * here is called on the loop's thread and never waits: answers come by callback, once for each
 * call, possibly before the call returns (direct mode). Answers point into the engine and are good
 * during the callback only.
 */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include <cloakroom/session.h>
#include <cloakroom/table.h>

#include "base/loop.h"
#include "cache/table.h"
#include "session/token.h"
#include "store/queue.h"

struct cr_engine;

struct cr_engine_options {
    struct cr_loop *loop;
    struct cr_random *random;
    struct cr_store *store; /* taken over by cr_engine_create, also when it fails; NULL: the
                                application's own table */
    const char *realm;
    const char *label; /* host and pid, for people; copied */
    enum cr_cache cache;
    size_t cache_bytes;
    enum cr_huge_pages huge_pages;
    cr_span_ms idle, absolute;     /* of sessions that do not say */
    cr_span_ms lease, poll, grace; /* of a store that is not exclusive: 5 s, 1 s, 0 */
    /* The table was replaced (other cache, other size, other pages, dropped): its descriptor, or -1
     * for none that can be shared. The old one has been retired already. */
    void (*table_changed)(void *context, int fd);
    /* The lease, or the registration that it rests on, was lost: nothing in the table may be
     * believed. May be NULL. */
    void (*lease_lost)(void *context, const char *why);
    /* A line for the log, once per event. */
    void (*say)(void *context, const char *text);
    void *context;
};

/* `done` may not destroy the engine. */
struct cr_engine_answer {
    enum cr_status status;
    const struct cr_record *record; /* the session, with data; NULL when there is none to show */
    const struct cr_token *token;   /* create, rotate */
    const struct cr_token *made_up; /* validate, with CR_NOT_FOUND: a token that nobody made */
    cr_boot_ns as_of;
    cr_span_ms expires_in; /* of record */
    uint64_t version;
    struct cr_ending_id ending; /* of an ending, also with CR_PENDING and CR_E_UNKNOWN_OUTCOME */
    cr_span_ms bound;
    const struct cr_record *records; /* list */
    size_t record_count;
    const struct cr_explanation *explanation;
    const struct cr_past_session *past; /* wire/message.h: past, that which ended last first */
    size_t past_count;
    /* What the log was given: an ending's or a rotation's row (number 0: none was written), and all
     * that a creation ended. NULL otherwise. */
    const struct cr_log_row *row;
    const struct cr_log_rows *rows;
    bool user_known; /* a log-in that failed (auth.h): the account is there. Not for who asks */
    bool same;       /* a change of an account, with CR_CONFLICT: it has this very hash already */
    cr_span_ms retry_after;    /* set by src/auth: with CR_LIMITED */
    const char *device;        /* set by src/auth: a device cookie for who got in; NULL: none */
    const struct cr_key *keys; /* key_list, newest last: with their bytes, not to be passed on */
    size_t key_count;
};
typedef void cr_engine_done(void *context, const struct cr_engine_answer *answer);

/* Reads keys and identity, registers, and makes the table; blocks (start-up only). */
CR_MUST_CHECK enum cr_status cr_engine_create(const struct cr_engine_options *options,
                                              struct cr_engine **out_engine,
                                              struct cr_error *out_error);
/* A clean stop: retires the table, writes what was seen, removes the registration. Blocks. Calls
 * not yet answered get CR_UNAVAILABLE; what is committed and still waits for others CR_PENDING.
 * Accepts NULL. */
void cr_engine_destroy(struct cr_engine *engine);

/* Who is it? `strict`: read the store whatever the table says. The record comes with CR_ENDED too.
 */
void cr_engine_validate(struct cr_engine *engine, const struct cr_token *token, bool strict,
                        cr_engine_done *done, void *context);

struct cr_create_request {
    struct cr_user user; /* length 0: anonymous */
    enum cr_policy policy;
    unsigned keep_count;
    bool has_generation; /* the one that the password was checked against */
    uint64_t generation;
    cr_span_ms idle, absolute; /* 0: the engine's */
    const unsigned char *rights;
    size_t rights_bytes;
    const unsigned char *data;
    size_t data_bytes;
    const char *address, *agent;
    bool has_anonymous;
    struct cr_token anonymous;
    /* `anonymous` is a session of `user` that has just been ended with all of this user's: by the
     * change that raised the generation from `renews_generation` to `generation`. Data and rights
     * move. */
    bool renews;
    uint64_t renews_generation;
};
/* Copies what it is given. Answers record and token; waits like an ending when it ended something.
 */
void cr_engine_create_session(struct cr_engine *engine, const struct cr_create_request *request,
                              cr_engine_done *done, void *context);

/* Used at `seen`; merged, and written in batches. */
void cr_engine_seen(struct cr_engine *engine, const struct cr_session_id *id, cr_boot_ns seen);

void cr_engine_data_read(struct cr_engine *engine, const struct cr_session_id *id,
                         cr_engine_done *done, void *context);
void cr_engine_data_write(struct cr_engine *engine, const struct cr_session_id *id,
                          uint64_t version, const void *data, size_t bytes, cr_engine_done *done,
                          void *context);
void cr_engine_rights_write(struct cr_engine *engine, const struct cr_session_id *id,
                            const void *rights, size_t bytes, cr_engine_done *done, void *context);
void cr_engine_rotate(struct cr_engine *engine, const struct cr_token *token,
                      enum cr_rotation rotation, cr_engine_done *done, void *context);
/*
 * The bearer of `token` has proved anew to be `user`: rotation as at a change of privilege, and
 * from now on authenticated now, until `absolute` (0: the engine's) from now (ASVS A5, C5). Data,
 * rights and idle span stay. CR_ENDED when there is no such session, or another user's.
 */
void cr_engine_reauthenticate(struct cr_engine *engine, const struct cr_token *token,
                              const struct cr_user *user, cr_span_ms absolute, cr_engine_done *done,
                              void *context);

/* Endings. `identity` zero: the engine makes one. */
struct cr_end_request {
    struct cr_ending_id identity;
    enum cr_reason reason;
    const char *by;
    bool async;
};
void cr_engine_end(struct cr_engine *engine, const struct cr_session_id *id,
                   const struct cr_end_request *request, cr_engine_done *done, void *context);
void cr_engine_end_user(struct cr_engine *engine, const struct cr_user *user,
                        const struct cr_end_request *request, cr_engine_done *done, void *context);
void cr_engine_end_others(struct cr_engine *engine, const struct cr_session_id *keep,
                          const struct cr_end_request *request, cr_engine_done *done,
                          void *context);
void cr_engine_end_all(struct cr_engine *engine, const struct cr_end_request *request,
                       cr_engine_done *done, void *context);
/* Password set, account disabled, enabled or removed: an ending unless change->keep_sessions.
 * change->ending.identity zero: the engine makes one. Copies what it is given. */
void cr_engine_account_change(struct cr_engine *engine, const struct cr_user *user,
                              const struct cr_account_change *change, cr_engine_done *done,
                              void *context);

void cr_engine_list(struct cr_engine *engine, const struct cr_user *user, cr_time_ms created_at,
                    const struct cr_session_id *after, size_t capacity, cr_engine_done *done,
                    void *context);
/* The user's sessions that ended within CR_REMEMBER_MS, at most CR_PAST_MAX of them. `own`: it is
 * the user who asks, and is told of none that is older than the account: that was somebody else's,
 * who had the name before. */
void cr_engine_past(struct cr_engine *engine, const struct cr_user *user, bool own,
                    cr_engine_done *done, void *context);
void cr_engine_explain(struct cr_engine *engine, const struct cr_session_id *id,
                       cr_engine_done *done, void *context);
/* For who holds the token: what became of it. A token that is not genuine: CR_NOT_FOUND, without
 * asking the store; one that was replaced by a successor: CR_REASON_ROTATED and no more. */
void cr_engine_explain_token(struct cr_engine *engine, const struct cr_token *token,
                             cr_engine_done *done, void *context);

/* MAC keys. Rotate: `version` of the answer is the new key's number, and `bound` how long it is
 * until tokens are made with it everywhere. CR_E_LIMIT: there are CR_KEYS_MAX. */
void cr_engine_key_list(struct cr_engine *engine, cr_engine_done *done, void *context);
void cr_engine_key_rotate(struct cr_engine *engine, cr_engine_done *done, void *context);

/* The application's own table. cr_engine_table_key turns a key into what the table finds it by; the
 * endings above are its invalidations, for which the application has committed already. */
void cr_engine_table_key(const void *key, size_t key_bytes, struct cr_session_id *out_id,
                         struct cr_token_hash *out_hash);
uint64_t cr_engine_table_clock(const struct cr_engine *engine);
void cr_engine_table_fill(struct cr_engine *engine, const struct cr_entry *entry, uint64_t stamp);

/* A session in the table, without asking the store: what cr_validate_cached does in direct mode.
 * Safe from any thread, but not beside a change of the cache or the engine's end. False: a miss. */
CR_MUST_CHECK bool cr_engine_cached(struct cr_engine *engine, const struct cr_session_id *id,
                                    const struct cr_token_hash *hash, struct cr_entry *out);

/* Store calls of the layers above (accounts, leases). False: CR_BUSY. Also while the engine stops,
 * which waits for the writes and tells the reads CR_UNAVAILABLE: each is done before the engine is
 * gone. */
CR_MUST_CHECK bool cr_engine_store_read(struct cr_engine *engine, struct cr_store_call *call);
CR_MUST_CHECK bool cr_engine_store_write(struct cr_engine *engine, struct cr_store_call *call);
struct cr_loop *cr_engine_loop(struct cr_engine *engine);
struct cr_random *cr_engine_random(struct cr_engine *engine);
const struct cr_keyring *cr_engine_keyring(const struct cr_engine *engine); /* of a store only */

/* Switch the cache, its size or its pages while running (SIGHUP). The same values: nothing happens.
 * CR_E_LIMIT: the memory cannot be had; the old table stays. */
CR_MUST_CHECK enum cr_status cr_engine_set_cache(struct cr_engine *engine, enum cr_cache cache,
                                                 size_t bytes, enum cr_huge_pages huge_pages);
/* The lifetimes of sessions that do not say, for those made from now on; 0: the defaults. */
void cr_engine_set_lifetimes(struct cr_engine *engine, cr_span_ms idle, cr_span_ms absolute);
enum cr_cache cr_engine_cache(const struct cr_engine *engine);
int cr_engine_table_fd(const struct cr_engine *engine); /* -1: none that can be shared */
bool cr_engine_has_store(const struct cr_engine *engine);
bool cr_engine_is_exclusive(const struct cr_engine *engine);
uint32_t cr_engine_key_number(const struct cr_engine *engine); /* that signs; 0: without a store */
void cr_engine_identity(const struct cr_engine *engine, struct cr_ending_id *out);

/* Fills what an engine knows of cr_stats: table_*, fills*, store_*, endings, engines, evicted,
 * lease_left. */
void cr_engine_stats(const struct cr_engine *engine, struct cr_stats *stats);

#endif
