/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What our own processes do with a room beyond the public interface. An HTTP worker may not make
 * sockets: its supervisor connects for it, and hands it the descriptor.
 */
#ifndef ROOM_ROOM_H
#define ROOM_ROOM_H

#include <cloakroom/room.h>

/* Join through a connected SOCK_SEQPACKET descriptor, which is the room's from now on, also when it
 * fails. Never makes a socket, never starts an agent. After the connection has ended every call
 * waits, until its time-out, for cr_room_replace_fd. */
CR_MUST_CHECK enum cr_status cr_room_open_fd(int fd, const struct cr_options *options,
                                             struct cr_room **out_room, struct cr_error *out_error);

/* A fresh descriptor, because the agent was replaced. Never blocks. Calls under way that are safe
 * to repeat are sent again; log-ins and new sessions get CR_UNAVAILABLE, other changes
 * CR_E_UNKNOWN_OUTCOME. Safe from any thread. */
void cr_room_replace_fd(struct cr_room *room, int fd);

/* Whether the agent is there, as far as is known without asking. */
bool cr_room_is_connected(struct cr_room *room);

/* cr_validate_begin for a token that came from `address`. The finish may answer CR_LIMITED: it is
 * one of too many tokens from there that nobody made. */
CR_MUST_CHECK enum cr_status cr_validate_from_begin(struct cr_room *room,
                                                    const struct cr_token *token, bool strict,
                                                    const char *address, struct cr_call **out_call);

/* Whether the user of the session of `token` has an account, so a password to give: CR_OK, or
 * CR_UNKNOWN_USER. */
CR_MUST_CHECK enum cr_status
cr_account_own_begin(struct cr_room *room, const struct cr_token *token, struct cr_call **out_call);
CR_MUST_CHECK enum cr_status cr_account_own_finish(struct cr_call *call);

/* Accounts with hashes of another system, as many at once as may be: the store commits them
 * together, in one transaction or a few. Writes `status` of each, as cr_account_import answers it;
 * `same`: CR_CONFLICT, and the account has this very hash. */
#define CR_IMPORTS_MAX 64
struct cr_import {
    const struct cr_user *user;
    const char *hash;
    enum cr_status status;
    bool same;
};
void cr_accounts_import(struct cr_room *room, struct cr_import *imports, size_t count);

/* How many validations of this process were answered from the table, and how many were not. */
void cr_room_counts(const struct cr_room *room, uint64_t *out_hits, uint64_t *out_misses);

/* In direct mode: new passwords have at least `chars_min` characters (0: the default), and are none
 * of those in the file `list` (NULL or empty: none). Elsewhere the agent sees to that: CR_OK. The
 * errors are those of cr_common_open. */
CR_MUST_CHECK enum cr_status cr_room_password_rules(struct cr_room *room, unsigned chars_min,
                                                    const char *list, struct cr_error *out_error);

/* Connect to an agent's socket (close-on-exec, does not block afterwards). CR_UNAVAILABLE: nobody
 * listens. CR_E_INVALID: a socket, but of no agent. */
CR_MUST_CHECK enum cr_status cr_agent_connect(const char *path, int *out_fd);

/* The directory of the agent's sockets for a store, when nobody names another: below
 * $XDG_RUNTIME_DIR/cloakroom or /tmp/cloakroom-UID, named by a hash of the store's real path. Makes
 * nothing. CR_E_INVALID: no URL of ours; CR_E_LIMIT: too long for `capacity` or for a socket. */
CR_MUST_CHECK enum cr_status cr_state_directory(const char *url, char *out_path, size_t capacity);

/* The limits of log-ins, for operators. Rows of kind, user, network and what is owed, at most
 * `capacity`. One of user and address may be NULL. CR_E_INVALID: it is no address. */
struct cr_limit_view;
struct cr_limit_count;
#define CR_LIMIT_VIEWS_MAX 64
CR_MUST_CHECK enum cr_status cr_limits_show(struct cr_room *room, struct cr_limit_view *out_views,
                                            size_t capacity, size_t *out_count,
                                            struct cr_limit_count *out_counters);
CR_MUST_CHECK enum cr_status cr_limits_explain(struct cr_room *room, const struct cr_user *user,
                                               const char *address, struct cr_limit_view *out_views,
                                               size_t capacity, size_t *out_count);
CR_MUST_CHECK enum cr_status cr_limits_top(struct cr_room *room, struct cr_limit_view *out_views,
                                           size_t capacity, size_t *out_count);
CR_MUST_CHECK enum cr_status cr_limits_reset(struct cr_room *room, const struct cr_user *user,
                                             const char *address);

/* Links for a new password (ASVS E13). The token is the link's, and kept nowhere. */
struct cr_reset_link {
    struct cr_token token; /* to be wiped */
    cr_time_ms expires_at;
};
/* For operators. CR_UNKNOWN_USER; CR_DENIED: the account is disabled; CR_E_LIMIT: as many as may be
 * are good. */
CR_MUST_CHECK enum cr_status cr_reset_link_begin(struct cr_room *room, const struct cr_user *user,
                                                 struct cr_call **out_call);
CR_MUST_CHECK enum cr_status cr_reset_link_finish(struct cr_call *call,
                                                  struct cr_reset_link *out_link);
CR_MUST_CHECK enum cr_status cr_reset_link_make(struct cr_room *room, const struct cr_user *user,
                                                struct cr_reset_link *out_link);
/* Set a password with one, for whoever has it. `address` and `agent` are theirs. CR_DENIED: the
 * link is not good, or not any more. As cr_account_password says of the password. CR_LIMITED and
 * CR_PASSWORD_SHORT come with a note; `out_note->size` must be set. */
struct cr_login_note;
CR_MUST_CHECK enum cr_status cr_reset_begin(struct cr_room *room, const struct cr_token *token,
                                            const void *password, size_t password_bytes,
                                            const char *address, const char *agent,
                                            struct cr_call **out_call);
CR_MUST_CHECK enum cr_status cr_reset_finish(struct cr_call *call, struct cr_login_note *out_note);

/* Sessions that ended lately, of which CR_PAST_MAX (wire/message.h) are told, that which ended last
 * first: of the user of `authority`, or of `user`, for applications and operators. The statuses are
 * those of cr_sessions_of. `out_past` has room for CR_PAST_MAX. */
struct cr_past_session;
CR_MUST_CHECK enum cr_status
cr_past_of_begin(struct cr_room *room, const struct cr_token *authority, struct cr_call **out_call);
CR_MUST_CHECK enum cr_status cr_past_of_finish(struct cr_call *call,
                                               struct cr_past_session *out_past, size_t *out_count);
CR_MUST_CHECK enum cr_status cr_past_of(struct cr_room *room, const struct cr_user *user,
                                        struct cr_past_session *out_past, size_t *out_count);

/*
 * How a room starts an agent, and so what `cloakroom agent` understands:
 *
 *     cloakroom agent --store - --state DIR --auto --ready-fd 3 --realm NAME --cache NAME
 *         [--cache-bytes N] [--idle-ms N] [--absolute-ms N]
 *
 * with the store's URL as the first line of standard input, so that it stands in no argument list.
 */

#endif
