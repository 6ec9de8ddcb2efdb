/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions: make, validate, change, end, look at.
 *
 * Every call that may ask the agent or the store has a blocking form and a pair begin/finish (see
 * room.h). All are safe from any thread. Strings and bytes given are not kept. Out-parameters mean
 * something only with CR_OK, except where said. Besides what each names, any of them can answer
 * CR_UNAVAILABLE (the store cannot be asked, or this host's lease has run out: try again later, and
 * log nobody out), CR_BUSY, CR_DENIED (this socket's role may not), CR_E_INVALID.
 */
#ifndef CLOAKROOM_SESSION_H
#define CLOAKROOM_SESSION_H

#include <cloakroom/room.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Set `size` before a call that fills it (CR_SESSION_INIT). Only the used bytes of rights and data
 * are written. */
struct cr_session {
    size_t size;
    struct cr_session_id id;
    struct cr_user user; /* length 0: anonymous */
    cr_time_ms created_at;
    cr_time_ms authenticated_at; /* 0: never */
    cr_time_ms ends_at;          /* absolute end */
    cr_time_ms expires_at;       /* absolute or idle end, as of the read */
    cr_time_ms seen_at;
    cr_time_ms as_of; /* the instant this is true for, CLOCK_BOOTTIME milliseconds of this host */
    uint64_t version; /* of the data */
    size_t rights_bytes;
    size_t data_bytes; /* of the whole; when above CR_DATA_CACHED_BYTES_MAX, `data` is not filled */
    char address[CR_ADDRESS_CHARS_MAX + 1]; /* filled by lists and login only */
    char agent[CR_AGENT_CHARS_MAX + 1];     /* filled by lists and login only */
    unsigned char rights[CR_RIGHTS_BYTES_MAX];
    unsigned char data[CR_DATA_CACHED_BYTES_MAX];
};
#define CR_SESSION_INIT                                                                            \
    {                                                                                              \
        .size = sizeof(struct cr_session)                                                          \
    }

/* What a login does to the user's earlier sessions. */
enum cr_policy {
    CR_POLICY_REPLACE = 1, /* ends them all: the stolen device */
    CR_POLICY_KEEP = 2,
    CR_POLICY_KEEP_N = 3 /* keeps `keep_count` in all, the new one included; the oldest goes */
};

/* Zeroed fields take the room's defaults. */
struct cr_login_options {
    size_t size;
    enum cr_policy policy; /* required for cr_login */
    unsigned keep_count;   /* with CR_POLICY_KEEP_N: 1 to 1000 */
    cr_span_ms idle, absolute;
    const void *rights;
    size_t rights_bytes;
    const void *data;
    size_t data_bytes;
    const char *address; /* labels for the list of devices; longer text is cut */
    const char *agent;
    const struct cr_token
        *anonymous;     /* a session to turn into the user's: its data moves, it ends */
    const char *device; /* of cr_login_password: the device cookie that the browser sent, or NULL */
    /* cr_login_password only: set this password once the given one was found right. All sessions of
     * the user end, and this is a new one. CR_PASSWORD_SHORT, CR_PASSWORD_COMMON,
     * CR_PASSWORD_KNOWN: it cannot be this one, and nothing was looked at. CR_PENDING: it is set.
     * NULL: the password stays. */
    const void *new_password;
    size_t new_password_bytes;
    /* Of a login: a session of this user that goes on under the token that is answered, once the
     * password was found right or the caller has checked who it is. It is authenticated now, its
     * absolute end counts from now, its data and rights stay, and `renews` is over; with
     * `new_password` it is the new session that gets data and rights. With CR_POLICY_KEEP.
     * CR_ENDED: it is over already; CR_DENIED also for another user's. NULL: another session is
     * made. */
    const struct cr_token *renews;
};

/* A login: exactly these three. `size` of the session inside is set by the library. */
struct cr_login {
    struct cr_session session;
    struct cr_token signed_token;
    cr_time_ms expires_at;
};

/*
 * Log in `user`, whom the caller has checked. The policy has been carried out, in every worker of
 * every host, when CR_OK comes back. CR_PENDING: committed, but not everywhere within the bound:
 * the caller sets no cookie and asks again. CR_CONFLICT: the user's sessions were ended meanwhile.
 */
CR_API CR_MUST_CHECK enum cr_status cr_login(struct cr_room *room, const struct cr_user *user,
                                             const struct cr_login_options *options,
                                             struct cr_login *out_login);
CR_API CR_MUST_CHECK enum cr_status cr_login_begin(struct cr_room *room, const struct cr_user *user,
                                                   const struct cr_login_options *options,
                                                   struct cr_call **out_call);
CR_API CR_MUST_CHECK enum cr_status cr_login_finish(struct cr_call *call,
                                                    struct cr_login *out_login);

/* The same with a password that the agent checks against its accounts. Unknown user, wrong password
 * and disabled account all answer CR_DENIED, after the same time. CR_BUSY: too many are waiting.
 * CR_LIMITED: too many wrong ones, by the account or from the options' address; nothing was looked
 * at. CR_CHANGE_FIRST: right, but a one-time password: there is no session until the call is made
 * again with options.new_password. */
CR_API CR_MUST_CHECK enum cr_status cr_login_password(struct cr_room *room,
                                                      const struct cr_user *user,
                                                      const void *password, size_t password_bytes,
                                                      const struct cr_login_options *options,
                                                      struct cr_login *out_login);
CR_API CR_MUST_CHECK enum cr_status
cr_login_password_begin(struct cr_room *room, const struct cr_user *user, const void *password,
                        size_t password_bytes, const struct cr_login_options *options,
                        struct cr_call **out_call);
CR_API CR_MUST_CHECK enum cr_status cr_login_password_finish(struct cr_call *call,
                                                             struct cr_login *out_login);

/* What comes with a password's answer, before its finish and once the call is done. `retry_after`:
 * with CR_LIMITED, when to try again, in milliseconds. `device`: with CR_OK, a cookie for this
 * browser, to be given as options.device at its next login: strangers who guess at the account
 * cannot then keep this browser out. "" when there is none. `password_chars_min`: with
 * CR_PASSWORD_SHORT, how many characters a new one has at least. */
struct cr_login_note {
    size_t size;
    cr_span_ms retry_after;
    char device[CR_DEVICE_CHARS + 1];
    unsigned password_chars_min;
};
CR_API void cr_login_password_note(struct cr_call *call, struct cr_login_note *out_note);

/* Make a session and leave all others alone. `user` NULL: an anonymous one. */
CR_API CR_MUST_CHECK enum cr_status cr_create(struct cr_room *room, const struct cr_user *user,
                                              const struct cr_login_options *options,
                                              struct cr_login *out_login);
CR_API CR_MUST_CHECK enum cr_status cr_create_begin(struct cr_room *room,
                                                    const struct cr_user *user,
                                                    const struct cr_login_options *options,
                                                    struct cr_call **out_call);
CR_API CR_MUST_CHECK enum cr_status cr_create_finish(struct cr_call *call,
                                                     struct cr_login *out_login);

/*
 * Is this token's session alive, and whose is it?
 * CR_OK; CR_ENDED (a genuine token whose session is over); CR_NOT_FOUND (not a token of ours);
 * CR_UNAVAILABLE (cannot be known now: never treat it as logged out).
 * cr_validate_cached looks only at the table that this process maps: no system call, no lock, no
 * write; CR_OK or CR_ASK. cr_validate asks the agent on a miss. cr_validate_strict reads the store
 * for operations that must not rest on a lease.
 */
CR_API CR_MUST_CHECK enum cr_status cr_validate_cached(struct cr_room *room,
                                                       const struct cr_token *token,
                                                       struct cr_session *out_session);
CR_API CR_MUST_CHECK enum cr_status cr_validate(struct cr_room *room, const struct cr_token *token,
                                                struct cr_session *out_session);
CR_API CR_MUST_CHECK enum cr_status cr_validate_strict(struct cr_room *room,
                                                       const struct cr_token *token,
                                                       struct cr_session *out_session);

/*
 * cr_validate for `count` tokens at once, 0 to CR_VALIDATE_MANY_MAX: out_statuses[i] and
 * out_sessions[i] are what it would answer for tokens[i]. Quicker than one after another: what one
 * token waits for from memory, the others wait for with it, and all that miss are asked at once.
 * A token may stand there twice. Each out_sessions[i].size is set (CR_SESSION_INIT), and what else
 * is in it means something only when out_statuses[i] is CR_OK.
 * CR_OK: each has been answered, with whatever status. CR_E_INVALID: too many, or a size is not
 * set; nothing was written.
 */
#define CR_VALIDATE_MANY_MAX 256
CR_API CR_MUST_CHECK enum cr_status cr_validate_many(struct cr_room *room,
                                                     const struct cr_token *tokens, size_t count,
                                                     struct cr_session *out_sessions,
                                                     enum cr_status *out_statuses);

CR_API CR_MUST_CHECK enum cr_status cr_validate_begin(struct cr_room *room,
                                                      const struct cr_token *token, bool strict,
                                                      struct cr_call **out_call);
CR_API CR_MUST_CHECK enum cr_status cr_validate_finish(struct cr_call *call,
                                                       struct cr_session *out_session);

/* Count the session as used now. Validations do so by themselves, once a granule (idle / 20). */
CR_API CR_MUST_CHECK enum cr_status cr_touch(struct cr_room *room, const struct cr_token *token);
CR_API CR_MUST_CHECK enum cr_status
cr_touch_begin(struct cr_room *room, const struct cr_token *token, struct cr_call **out_call);
CR_API CR_MUST_CHECK enum cr_status cr_touch_finish(struct cr_call *call);

/*
 * The session's data: at most CR_DATA_BYTES_MAX, with a version. A write names the version it saw:
 * CR_CONFLICT when that is gone, CR_ENDED when the session is over (a write never brings one back).
 * CR_VERSION_ANY: the last writer wins. Reads: CR_E_LIMIT when `capacity` is too small, and
 * *out_bytes is then what is needed.
 */
#define CR_VERSION_ANY UINT64_MAX
CR_API CR_MUST_CHECK enum cr_status cr_data_read(struct cr_room *room,
                                                 const struct cr_session_id *id, void *out_data,
                                                 size_t capacity, size_t *out_bytes,
                                                 uint64_t *out_version);
CR_API CR_MUST_CHECK enum cr_status
cr_data_read_begin(struct cr_room *room, const struct cr_session_id *id, struct cr_call **out_call);
CR_API CR_MUST_CHECK enum cr_status cr_data_read_finish(struct cr_call *call, void *out_data,
                                                        size_t capacity, size_t *out_bytes,
                                                        uint64_t *out_version);
CR_API CR_MUST_CHECK enum cr_status cr_data_write(struct cr_room *room,
                                                  const struct cr_session_id *id, uint64_t version,
                                                  const void *data, size_t bytes,
                                                  uint64_t *out_version);
CR_API CR_MUST_CHECK enum cr_status cr_data_write_begin(struct cr_room *room,
                                                        const struct cr_session_id *id,
                                                        uint64_t version, const void *data,
                                                        size_t bytes, struct cr_call **out_call);
CR_API CR_MUST_CHECK enum cr_status cr_data_write_finish(struct cr_call *call,
                                                         uint64_t *out_version);

/* Replace the session's rights. When CR_OK comes back no worker serves the old ones. */
CR_API CR_MUST_CHECK enum cr_status cr_rights_write(struct cr_room *room,
                                                    const struct cr_session_id *id,
                                                    const void *rights, size_t bytes);
CR_API CR_MUST_CHECK enum cr_status cr_rights_write_begin(struct cr_room *room,
                                                          const struct cr_session_id *id,
                                                          const void *rights, size_t bytes,
                                                          struct cr_call **out_call);
CR_API CR_MUST_CHECK enum cr_status cr_rights_write_finish(struct cr_call *call);

/*
 * A successor token of the same session. CR_ROTATE_RENEW: callers that race get the same successor,
 * and the old token stays good for ten seconds. CR_ROTATE_PRIVILEGE: the old token is over at once.
 */
enum cr_rotation { CR_ROTATE_RENEW = 1, CR_ROTATE_PRIVILEGE = 2 };
CR_API CR_MUST_CHECK enum cr_status cr_rotate(struct cr_room *room, const struct cr_token *token,
                                              enum cr_rotation rotation,
                                              struct cr_login *out_login);
CR_API CR_MUST_CHECK enum cr_status cr_rotate_begin(struct cr_room *room,
                                                    const struct cr_token *token,
                                                    enum cr_rotation rotation,
                                                    struct cr_call **out_call);
CR_API CR_MUST_CHECK enum cr_status cr_rotate_finish(struct cr_call *call,
                                                     struct cr_login *out_login);

/* How to end. NULL or zeroed: reason ADMIN, by "application", wait until it holds everywhere. */
struct cr_end_options {
    size_t size;
    enum cr_reason reason;
    const char *by;                   /* at most 63 bytes, for `explain` */
    bool async;                       /* do not wait for other hosts: CR_PENDING with the bound */
    struct cr_ending_id repeat;       /* not zero: an earlier ending, asked for again; CR_E_INVALID
                                         when that one was of something else */
    const struct cr_token *authority; /* act as the bearer of this token, on its user's sessions */
};

/* What an ending did: filled with CR_OK, CR_PENDING and CR_E_UNKNOWN_OUTCOME. */
struct cr_ended {
    size_t size;
    struct cr_ending_id ending;
    cr_span_ms bound; /* with CR_PENDING: it holds everywhere after this */
};

/*
 * End sessions. CR_OK (done): no validation that begins now, in any worker of any host, accepts
 * them. CR_PENDING: committed; everywhere after out_ended->bound. CR_E_UNKNOWN_OUTCOME: ask again
 * with `repeat`. `options` and `out_ended` may be NULL. cr_end: one session; CR_NOT_FOUND when
 * there is none (it may have ended before). cr_invalidate_by_user: all of a user, in O(1);
 * CR_UNKNOWN_USER for a user never seen. cr_end_others: all of a user but `keep`. cr_end_all:
 * everybody's (operator role, or direct mode); over an application's own table (table.h), all that
 * is in it.
 */
CR_API CR_MUST_CHECK enum cr_status cr_end(struct cr_room *room, const struct cr_session_id *id,
                                           const struct cr_end_options *options,
                                           struct cr_ended *out_ended);
CR_API CR_MUST_CHECK enum cr_status cr_invalidate_by_user(struct cr_room *room,
                                                          const struct cr_user *user,
                                                          const struct cr_end_options *options,
                                                          struct cr_ended *out_ended);
CR_API CR_MUST_CHECK enum cr_status cr_end_others(struct cr_room *room,
                                                  const struct cr_session_id *keep,
                                                  const struct cr_end_options *options,
                                                  struct cr_ended *out_ended);
CR_API CR_MUST_CHECK enum cr_status
cr_end_all(struct cr_room *room, const struct cr_end_options *options, struct cr_ended *out_ended);
CR_API CR_MUST_CHECK enum cr_status cr_end_begin(struct cr_room *room,
                                                 const struct cr_session_id *id,
                                                 const struct cr_end_options *options,
                                                 struct cr_call **out_call);
CR_API CR_MUST_CHECK enum cr_status
cr_invalidate_by_user_begin(struct cr_room *room, const struct cr_user *user,
                            const struct cr_end_options *options, struct cr_call **out_call);
CR_API CR_MUST_CHECK enum cr_status cr_end_others_begin(struct cr_room *room,
                                                        const struct cr_session_id *keep,
                                                        const struct cr_end_options *options,
                                                        struct cr_call **out_call);
CR_API CR_MUST_CHECK enum cr_status cr_end_all_begin(struct cr_room *room,
                                                     const struct cr_end_options *options,
                                                     struct cr_call **out_call);
/* One finish for the four. */
CR_API CR_MUST_CHECK enum cr_status cr_end_finish(struct cr_call *call, struct cr_ended *out_ended);

/*
 * The user's live sessions, newest first, at most `capacity` (1 to 64) a page. `cursor` starts
 * zeroed and is moved on; out_count 0 means the end. `authority` (may be NULL): as in
 * cr_end_options; the user may then be NULL, and the token's is meant.
 */
struct cr_cursor {
    cr_time_ms created_at;
    struct cr_session_id id;
};
CR_API CR_MUST_CHECK enum cr_status cr_sessions_of(struct cr_room *room, const struct cr_user *user,
                                                   const struct cr_token *authority,
                                                   struct cr_cursor *cursor,
                                                   struct cr_session *out_sessions, size_t capacity,
                                                   size_t *out_count);
CR_API CR_MUST_CHECK enum cr_status
cr_sessions_of_begin(struct cr_room *room, const struct cr_user *user,
                     const struct cr_token *authority, const struct cr_cursor *cursor,
                     size_t capacity, struct cr_call **out_call);
CR_API CR_MUST_CHECK enum cr_status cr_sessions_of_finish(struct cr_call *call,
                                                          struct cr_cursor *cursor,
                                                          struct cr_session *out_sessions,
                                                          size_t capacity, size_t *out_count);

#define CR_ROTATIONS_TOLD_MAX 8
/* What became of a session; endings are remembered for 7 days. CR_NOT_FOUND: nothing is known.
 * `authority` (may be NULL): as in cr_end_options; its own session may have ended, and then the
 * answer is about the token: CR_REASON_ROTATED where a successor took its place, with `at` 0 when
 * it is not known any more, and nothing of what became of the session since. */
struct cr_explanation {
    size_t size;
    bool live;
    enum cr_reason reason; /* when not live */
    cr_time_ms at;         /* when it ended */
    char by[64];
    struct cr_user user;                     /* length 0: anonymous or not known any more */
    cr_time_ms created_at, seen_at, ends_at; /* 0: not known any more */
    struct cr_origin from;   /* REPLACED and LIMIT: where the log-in came from that ended it */
    unsigned rotation_count; /* of rotated_at */
    cr_time_ms rotated_at[CR_ROTATIONS_TOLD_MAX]; /* the newest ones of 7 days, newest first */
};
CR_API CR_MUST_CHECK enum cr_status cr_explain(struct cr_room *room, const struct cr_session_id *id,
                                               const struct cr_token *authority,
                                               struct cr_explanation *out_explanation);
CR_API CR_MUST_CHECK enum cr_status cr_explain_begin(struct cr_room *room,
                                                     const struct cr_session_id *id,
                                                     const struct cr_token *authority,
                                                     struct cr_call **out_call);
CR_API CR_MUST_CHECK enum cr_status cr_explain_finish(struct cr_call *call,
                                                      struct cr_explanation *out_explanation);

#ifdef __cplusplus
}
#endif
#endif
