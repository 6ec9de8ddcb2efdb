/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The contract of a store: the truth about sessions. Installed, so that a store can be built
 * outside the tree: fill a cr_store_ops, cr_store_init, cr_open_store. doc/writing-a-store.md walks
 * through it.
 *
 * Threads. A `struct cr_store` is one connection and is used by one thread at a time. One of them
 * writes; `reader` gives more that only read, for other threads. Every handle reads the primary.
 *
 * Batches. Every changing call is made between `begin` and `commit` (store.c sees to it), and many
 * callers' changes may share one batch. A changing call that answers anything but CR_OK has changed
 * nothing. When `commit` answers CR_OK all of the batch is durable; CR_E_UNKNOWN_OUTCOME: of each
 * call all or nothing is, and nobody knows which; anything else: nothing is. An engine gives a
 * batch up only when none of its calls has answered CR_OK. A change and its log rows commit
 * together, and the numbers of log rows become visible in commit order.
 *
 * Liveness. A session is live while its row is there, it carries the current generation of its user
 * and the current global one, and the store's clock is before `ends_at` and before
 * `seen_at + idle + CR_SEEN_SLACK(idle)`. A missing row means ended. No call ever makes an ended
 * session live: there is no upsert of sessions.
 *
 * Idempotence. Every call that takes a `cr_ending` first looks for a log row with that identity;
 * when it is there the call changes nothing, gives that row, and answers CR_OK. Identities given
 * are never all zero.
 *
 * Answers. CR_UNAVAILABLE: cannot be asked now, nothing was changed. CR_E_CORRUPT: what was read
 * cannot be right. Out-parameters mean something only with CR_OK, except where said.
 */
#ifndef CLOAKROOM_STORE_H
#define CLOAKROOM_STORE_H

#include <cloakroom/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CR_STORE_CONTRACT 4 /* raised with every change to this file that breaks a store */

#define CR_TOKEN_HASH_BYTES 32
#define CR_SEALED_BYTES_MAX 160
#define CR_BY_CHARS_MAX 63
#define CR_PASSWORD_HASH_CHARS_MAX 191
#define CR_LEASE_NAME_BYTES_MAX 128
#define CR_KEY_BYTES 32
#define CR_DEBT_KEY_BYTES 16
#define CR_DEBT_TIERS_MAX 4
#define CR_DEBT_LIST_MAX 64
#define CR_RESETS_MAX 8                      /* links of one user that are good at a time */
#define CR_RESET_MS_MAX (24LL * 3600 * 1000) /* how long one may be good */
#define CR_KEYS_MAX 63
#define CR_KEY_WAIT_MS_MAX 60000LL /* how long a new key may have to wait until it signs */
#define CR_REMEMBER_MS (7LL * 24 * 3600 * 1000) /* how long endings stay explainable */

/* A session is reported as seen once a granule; the report may be a flush late. */
#define CR_GRANULE_MS(idle) ((idle) / 20 < 1000 ? 1000 : (idle) / 20)
#define CR_FLUSH_MS 1000
#define CR_SEEN_SLACK(idle) (CR_GRANULE_MS(idle) + CR_FLUSH_MS)

/* SHA-256 of the token's text but for its prefix, version character and public id (token.h). */
struct cr_token_hash {
    unsigned char bytes[CR_TOKEN_HASH_BYTES];
};

/*
 * One session. Fixed-size but for `data`, which is the record's own (malloc; cr_record_fini frees).
 * Rows are given out with the generations that they carry, not the current ones.
 */
/* NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding): in the order in which one reads it. */
struct cr_record {
    struct cr_session_id id;
    struct cr_token_hash hash;
    struct cr_token_hash old_hash; /* before the last rotation; zero when there was none */
    cr_time_ms old_until;          /* until when old_hash is good */
    uint8_t sealed_bytes;          /* the successor token, sealed for the bearer of the old one */
    unsigned char sealed[CR_SEALED_BYTES_MAX];
    struct cr_user user;      /* length 0: anonymous */
    uint64_t user_generation; /* 0 for an anonymous session */
    uint64_t global_generation;
    cr_time_ms created_at, authenticated_at, ends_at, seen_at;
    cr_span_ms idle;
    uint64_t version; /* of the data; starts at 1 */
    uint16_t rights_bytes;
    unsigned char rights[CR_RIGHTS_BYTES_MAX];
    char address[CR_ADDRESS_CHARS_MAX + 1];
    char agent[CR_AGENT_CHARS_MAX + 1];
    uint32_t data_bytes;
    unsigned char *data;
    /* Written by `find` and `list`, by the store's clock at the read; ignored by `create`. */
    cr_span_ms absolute_left; /* to ends_at */
    cr_span_ms idle_left;     /* to seen_at + idle; down to -CR_SEEN_SLACK for a live session */
    cr_span_ms old_left;      /* of old_hash; 0 or less: over */
    enum cr_reason dead;      /* CR_REASON_NONE: live; IDLE, ABSOLUTE, EVERYBODY, or ADMIN for a
                                 generation that was raised (`ending` tells why) */
};
CR_API void cr_record_fini(struct cr_record *record); /* frees data, zeroes; accepts zeroed */

/* For stores: write what `find` and `list` say about liveness, by the rule above. The generations
 * are the current ones, read with the row; `user_generation` counts for a user's session only. */
CR_API void cr_record_judge(struct cr_record *record, uint64_t user_generation,
                            uint64_t global_generation, cr_time_ms now);

enum cr_log_kind {
    CR_LOG_FIRST = 1, /* the row that an empty log has: number 1 */
    CR_LOG_SESSION_ENDED = 2,
    CR_LOG_SESSION_CHANGED = 3,
    CR_LOG_USER_ENDED = 4, /* generation of `user` raised to `generation`; session: the one kept */
    CR_LOG_ALL_ENDED = 5,  /* global generation raised */
    CR_LOG_KEY_ADDED = 6   /* generation: the key's number */
};

struct cr_log_row {
    uint64_t number; /* from 1, in commit order, without a gap */
    struct cr_ending_id identity;
    enum cr_log_kind kind;
    struct cr_session_id session; /* empty text: none */
    struct cr_user user;          /* as the store has it */
    uint64_t generation;          /* SESSION_CHANGED: the data's version after it */
    enum cr_reason reason;
    char by[CR_BY_CHARS_MAX + 1];
    struct cr_origin from; /* of the ending: where the log-in that did it came from */
    /* SESSION_ENDED: of the session, whose row is gone; else 0 and empty. */
    cr_time_ms created_at, seen_at;
    struct cr_origin session_from;
    cr_time_ms at; /* written by the store */
};

/* Rows that one call appended; grows as needed (malloc; cr_log_rows_fini frees). */
struct cr_log_rows {
    struct cr_log_row *rows;
    size_t count, capacity;
};
CR_API CR_MUST_CHECK enum cr_status cr_log_rows_add(struct cr_log_rows *rows,
                                                    const struct cr_log_row *row);
CR_API void cr_log_rows_fini(struct cr_log_rows *rows);

/* Who ends, why, under which identity. All of it goes into the log row. */
struct cr_ending {
    struct cr_ending_id identity;
    enum cr_reason reason;
    char by[CR_BY_CHARS_MAX + 1];
    struct cr_origin from;
};

/* What a login asks besides its row. */
struct cr_create_terms {
    bool replace; /* raise the user's generation first; the row carries the new one */
    unsigned
        keep_count; /* not 0: end the oldest live ones so that so many live, this one included */
    bool has_generation; /* CR_CONFLICT unless the user's generation is `generation` */
    uint64_t generation;
    struct cr_session_id
        anonymous;           /* not empty: this anonymous session ends; CR_CONFLICT if dead */
    struct cr_ending ending; /* for the rows that this writes; further rows get their own
                                random identities, and the anonymous session's its own reason,
                                CR_REASON_UPGRADED. Zero when none of the above is asked for */
};

/* A change of one live session. Only what is set is changed; the rest stays. */
struct cr_change {
    uint64_t expect_version; /* 0: any; else CR_CONFLICT unless it is the data's version */
    bool set_data;
    const unsigned char *data;
    uint32_t data_bytes;
    bool set_rights;
    const unsigned char *rights;
    uint16_t rights_bytes;
    bool set_token; /* rotation; CR_CONFLICT unless the row's hash is `expect_hash` */
    struct cr_token_hash expect_hash, hash;
    cr_span_ms old_grace; /* how long expect_hash stays good; 0: not at all */
    uint8_t sealed_bytes;
    unsigned char sealed[CR_SEALED_BYTES_MAX];
    bool set_authenticated; /* the password was given again: these two are the row's */
    cr_time_ms authenticated_at, ends_at;
    struct cr_ending ending; /* identity and author of the log row; reason: CR_REASON_ROTATED with
                                set_token, else CR_REASON_NONE */
};

struct cr_seen {
    struct cr_session_id id;
    cr_span_ms ago; /* how long before now it was used */
};

/* An engine's registration (rule 6). */
struct cr_engine_row {
    struct cr_ending_id identity; /* random, new at every registration */
    uint64_t beat;                /* raised by each poll */
    uint64_t position;            /* of the log: everything up to it has been applied */
    cr_span_ms lease, grace;
    char label[CR_BY_CHARS_MAX + 1]; /* host and pid, for people */
};

/* What a poll found. rows: from the given position, inclusive; at_end: nothing came after them. */
struct cr_poll {
    struct cr_log_rows rows;
    bool at_end;
};

struct cr_account_row {
    struct cr_user user;
    char hash[CR_PASSWORD_HASH_CHARS_MAX + 1]; /* as crypto_pwhash_str writes it */
    bool disabled;
    cr_time_ms created_at, password_at;
    bool must_change;          /* the password is good for setting another, and for nothing else */
    cr_time_ms password_until; /* by the store's clock, it is none from then on; 0: for ever */
    bool password_over;        /* when the row was read that was reached, or the clock was before
                                  password_at: it was put back, and is not to make it good for longer */
    uint64_t generation;       /* of the user, read in the same snapshot */
};

/* What to change about an account. */
struct cr_account_change {
    bool add;         /* make the account, CR_CONFLICT when there is one; `hash` is needed */
    const char *hash; /* NULL: stays */
    bool set_disabled, disabled;
    bool remove;        /* the account; the generation row stays */
    bool keep_sessions; /* do not raise the generation (hash renewed at login, enable) */
    /* With `hash` and without keep_sessions: what the row's become. Else those stay. */
    bool must_change;
    cr_span_ms password_for; /* from now; 0: for ever */
    const char *expect_hash; /* not NULL: CR_CONFLICT unless it is the row's */
    bool spends_reset;       /* CR_CONFLICT unless `reset` is of a link of this user that is good;
                                with `hash`, and without keep_sessions */
    struct cr_token_hash reset;
    struct cr_ending ending; /* not looked at with keep_sessions */
};

/* A link by which a user sets a password without the old one. Its token is in no store. */
struct cr_reset_row {
    struct cr_token_hash hash; /* of the token */
    struct cr_user user;
    cr_span_ms left; /* by the store's clock, as password_until: written as a span from now */
};

/* A fenced lease (COORDINATION.md, R2 to R4). `holder` is a nonce. */
struct cr_lease_row {
    char name[CR_LEASE_NAME_BYTES_MAX + 1];
    struct cr_ending_id holder;
    uint64_t fence; /* of the present or last holder; never goes down */
    cr_span_ms
        left; /* by the store's clock (SQLite, memory: boot id and CLOCK_BOOTTIME); <= 0: free */
    char label[CR_BY_CHARS_MAX + 1];
};

/*
 * What is owed to a login limit under one key. `left` is how long each tier's debt lasts, from now:
 * written as a span, and read as what is left of it by the store's clock (SQLite, memory: as leases
 * count within a boot; after it by the wall clock). The rest says whose it is, for people and for
 * debt_forget. `user` is CR_DEBT_NAME_BYTES of a keyed hash of the name that was submitted, never
 * the name: that may be a password, typed into the wrong field.
 */
#define CR_DEBT_NAME_BYTES 16
struct cr_debt_row {
    unsigned char key[CR_DEBT_KEY_BYTES];
    uint32_t kind;
    struct cr_user user; /* length 0: none */
    char address[CR_ADDRESS_CHARS_MAX + 1];
    cr_span_ms left[CR_DEBT_TIERS_MAX]; /* 0 to CR_SPAN_MS_MAX */
};

struct cr_key {
    uint32_t number; /* 1 to 63, as tokens carry it */
    unsigned char bytes[CR_KEY_BYTES];
    cr_time_ms since;    /* from when on tokens are made with it, by the store's clock */
    cr_time_ms until;    /* `since` of the next one; 0: there is none */
    cr_span_ms signs_in; /* from the read to `since`, 0 to CR_KEY_WAIT_MS_MAX; 0: it may sign */
};

/* For stores. The number for a key after those, newest last: the one after the last one's, 1 after
 * CR_KEYS_MAX, taken ones passed over. 0: all are taken. */
CR_API uint32_t cr_key_number_next(const struct cr_key *keys, size_t count);
/* For stores: write `until` and `signs_in` of the keys, newest last, from their `since`. */
CR_API void cr_keys_judge(struct cr_key *keys, size_t count, cr_time_ms now);

struct cr_store;

struct cr_store_ops {
    const char *name;  /* as the URL spells it */
    unsigned contract; /* CR_STORE_CONTRACT */
    bool exclusive;    /* held by one engine: its lock is its lease, no polls are needed */

    /* Batches, on the writing handle. `rollback` gives up the open batch. */
    enum cr_status (*begin)(struct cr_store *);
    enum cr_status (*commit)(struct cr_store *);
    void (*rollback)(struct cr_store *);

    /* The schema's UUID: the store's identity. */
    enum cr_status (*identity)(struct cr_store *, struct cr_ending_id *out);

    /* The row and whether it is live: CR_OK also for a dead row (out->dead says why); CR_NOT_FOUND
     * when there is none. */
    enum cr_status (*find)(struct cr_store *, const struct cr_session_id *, struct cr_record *out);

    /* Insert `record` (taken id: CR_CONFLICT), carrying out `terms`. The store sets created_at,
     * seen_at, generations, and ends_at = created_at + (ends_at given as a span from now), writes
     * them back to `record`, and makes the user's generation row (starting at 1) where there is
     * none. authenticated_at not 0 becomes now. Appends the rows that the terms wrote, which is
     * none for a plain create, nor to replace the sessions of a user never seen. In this
     * order: has_generation, replace, anonymous, the insert, keep_count. CR_CONFLICT also when the
     * ending is a repeated one and the session that it made is gone. */
    enum cr_status (*create)(struct cr_store *, struct cr_record *record,
                             const struct cr_create_terms *terms, struct cr_log_rows *out_rows);

    /* Change one live session; CR_ENDED when the row is dead, CR_NOT_FOUND when there is none.
     * *out_version: the data's version after it. */
    enum cr_status (*change)(struct cr_store *, const struct cr_session_id *,
                             const struct cr_change *, uint64_t *out_version,
                             struct cr_log_row *out_row);

    /* Raise seen_at of live sessions, never lower it; ids that are gone are passed over. No log. */
    enum cr_status (*seen)(struct cr_store *, const struct cr_seen *, size_t count);

    /* End one: the row is deleted. CR_NOT_FOUND when there is none, also when it is dead. */
    enum cr_status (*end)(struct cr_store *, const struct cr_session_id *, const struct cr_ending *,
                          struct cr_log_row *out_row);
    /* End all of a user: one row changed, whatever their number. CR_UNKNOWN_USER. */
    enum cr_status (*end_user)(struct cr_store *, const struct cr_user *, const struct cr_ending *,
                               struct cr_log_row *out_row);
    /* All of the user of `keep` but it: CR_ENDED or CR_NOT_FOUND unless `keep` is live,
     * CR_UNKNOWN_USER when it is anonymous. */
    enum cr_status (*end_others)(struct cr_store *, const struct cr_session_id *keep,
                                 const struct cr_ending *, struct cr_log_row *out_row);
    enum cr_status (*end_all)(struct cr_store *, const struct cr_ending *,
                              struct cr_log_row *out_row);

    /* Live sessions of a user, newest first (by created_at, then id, both falling), strictly after
     * (created_at, id); created_at 0: from the newest. Fills up to `capacity` records (without
     * data). */
    enum cr_status (*list)(struct cr_store *, const struct cr_user *, cr_time_ms created_at,
                           const struct cr_session_id *after, struct cr_record *out,
                           size_t capacity, size_t *out_count);
    /* Dead sessions of a user whose rows are still there, judged and without data: by
     * user_generation, created_at, then id, all falling. The first `capacity` of them. */
    enum cr_status (*list_dead)(struct cr_store *, const struct cr_user *, struct cr_record *out,
                                size_t capacity, size_t *out_count);

    /* Delete up to `limit` rows that have been dead for CR_REMEMBER_MS, and as many log rows older
     * than that (the oldest ones only, never the last). *out_count: all of them. And keys that no
     * token can be alive of: once a later key has signed for CR_KEY_WAIT_MS_MAX, a key goes when
     * none of the rows that there were then is left. */
    enum cr_status (*sweep)(struct cr_store *, size_t limit, size_t *out_count);

    /* Log rows from `number`, inclusive, at most `limit`. */
    enum cr_status (*log_read)(struct cr_store *, uint64_t number, size_t limit,
                               struct cr_log_rows *out);
    /* The newest row; a log is never empty (CR_LOG_FIRST). */
    enum cr_status (*log_last)(struct cr_store *, struct cr_log_row *out);
    enum cr_status (*log_find)(struct cr_store *, const struct cr_ending_id *,
                               struct cr_log_row *out);
    /* The row that ended this session: by its id, or, for a dead row in hand, the first that raised
     * its user's or the global generation above the row's. `record` may be NULL. */
    enum cr_status (*log_about)(struct cr_store *, const struct cr_session_id *,
                                const struct cr_record *record, struct cr_log_row *out);
    /* The rotations of this session: its CR_LOG_SESSION_CHANGED rows of CR_REASON_ROTATED, newest
     * first, at most `limit`. None is CR_OK too. */
    enum cr_status (*log_rotations)(struct cr_store *, const struct cr_session_id *, size_t limit,
                                    struct cr_log_rows *out);
    /* Sessions of this user that were ended one by one: their CR_LOG_SESSION_ENDED rows that are
     * younger than CR_REMEMBER_MS, newest first, at most `limit`. None is CR_OK too. */
    enum cr_status (*log_ended)(struct cr_store *, const struct cr_user *, size_t limit,
                                struct cr_log_rows *out);

    /* Registration and poll (rules 5 and 6). `engine_poll` is a durable write: it raises the beat
     * of `row` (in and out) if the stored beat is row->beat, else CR_CONFLICT (replaced), stores
     * row->position, and reads the log from there, inclusive. `engine_remove` takes the row out if
     * its beat is still `beat`, else CR_CONFLICT. `engine_list`: CR_E_LIMIT when there are more
     * than `capacity`, and `capacity` of them all the same. */
    enum cr_status (*engine_register)(struct cr_store *, const struct cr_engine_row *);
    enum cr_status (*engine_poll)(struct cr_store *, struct cr_engine_row *row, size_t limit,
                                  struct cr_poll *out);
    enum cr_status (*engine_list)(struct cr_store *, struct cr_engine_row *out, size_t capacity,
                                  size_t *out_count);
    enum cr_status (*engine_remove)(struct cr_store *, const struct cr_ending_id *, uint64_t beat);

    /* MAC keys, newest last; a new store has one, random. CR_E_LIMIT as above. */
    enum cr_status (*keys)(struct cr_store *, struct cr_key *out, size_t capacity,
                           size_t *out_count);
    /* Add the key that tokens are made with from `wait` from now on (0 to CR_KEY_WAIT_MS_MAX),
     * under the number that cr_key_number_next gives. CR_E_LIMIT: there are CR_KEYS_MAX. */
    enum cr_status (*key_add)(struct cr_store *, const unsigned char bytes[CR_KEY_BYTES],
                              cr_span_ms wait, const struct cr_ending *,
                              struct cr_log_row *out_row);

    /* Accounts; CR_UNKNOWN_USER when there is none. A change makes the user's generation row where
     * there is none; else it raises it, so that nothing from before lives on, unless keep_sessions.
     * *out_row: its number is 0 when no row was written. password_at is when `hash` was last set
     * without keep_sessions; must_change and password_until are set then. Listed in byte order,
     * after `after` (NULL: from the first). */
    enum cr_status (*account_find)(struct cr_store *, const struct cr_user *,
                                   struct cr_account_row *out);
    enum cr_status (*account_change)(struct cr_store *, const struct cr_user *,
                                     const struct cr_account_change *, struct cr_log_row *out_row);
    enum cr_status (*account_list)(struct cr_store *, const struct cr_user *after,
                                   struct cr_account_row *out, size_t capacity, size_t *out_count);

    /* Links for a new password. add: `left` is 1 to CR_RESET_MS_MAX; CR_UNKNOWN_USER: no account;
     * CR_E_LIMIT: CR_RESETS_MAX of the user's are good. find: CR_NOT_FOUND when there is none, or
     * nothing is left of it. Every account_change without keep_sessions takes all of the user's
     * away, so each is spent once, and is of no other password than of the one that it was made to
     * replace. Those of which nothing is left are swept, and count there. */
    enum cr_status (*reset_add)(struct cr_store *, const struct cr_reset_row *);
    enum cr_status (*reset_find)(struct cr_store *, const struct cr_token_hash *,
                                 struct cr_reset_row *out);

    /* Leases. take: CR_BUSY with the holder's row in *row when it is held by another; raises the
     * fence otherwise and writes it to *row. renew, give: CR_LOST unless holder and fence are the
     * row's (and, to renew, it has not run out). read: CR_NOT_FOUND for a name never taken. */
    enum cr_status (*lease_take)(struct cr_store *, struct cr_lease_row *row, cr_span_ms ttl);
    enum cr_status (*lease_renew)(struct cr_store *, const struct cr_lease_row *row,
                                  cr_span_ms ttl);
    enum cr_status (*lease_give)(struct cr_store *, const struct cr_lease_row *row);
    enum cr_status (*lease_read)(struct cr_store *, const char *name, struct cr_lease_row *out);

    /* Debts of the login limits. put: each row takes the place of its key's; one that owes nothing
     * removes it. find: CR_NOT_FOUND when there is no row, or nothing is left of it. list: the
     * largest of what is left first. forget: all rows of `user` and `address`, of which one may be
     * NULL and means any. Rows of which nothing is left are swept, and count there. */
    enum cr_status (*debt_put)(struct cr_store *, const struct cr_debt_row *rows, size_t count);
    enum cr_status (*debt_find)(struct cr_store *, const unsigned char key[CR_DEBT_KEY_BYTES],
                                struct cr_debt_row *out);
    enum cr_status (*debt_list)(struct cr_store *, struct cr_debt_row *out, size_t capacity,
                                size_t *out_count);
    enum cr_status (*debt_forget)(struct cr_store *, const struct cr_user *user,
                                  const char *address);

    /* Another handle to the same truth that only reads, for another thread. */
    enum cr_status (*reader)(struct cr_store *, struct cr_store **out_reader);
    void (*destroy)(struct cr_store *);
};

/* Embed as the first member. Fields are the library's. */
struct cr_store {
    const struct cr_store_ops *ops;
    bool in_batch;
    bool is_reader;
};

/* `ops` must outlive the store. CR_E_VERSION when it was built for another contract. */
CR_API CR_MUST_CHECK enum cr_status cr_store_init(struct cr_store *store,
                                                  const struct cr_store_ops *ops);

#ifdef __cplusplus
}
#endif
#endif
