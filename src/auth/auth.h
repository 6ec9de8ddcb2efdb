/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may come in: accounts and their passwords, and logging in with one. Argon2id runs on a
 * bounded pool of low priority, with a short queue: validations never wait for it. Loop's thread
 * only; answers come as the engine's do.
 */
#ifndef AUTH_AUTH_H
#define AUTH_AUTH_H

#include <cloakroom/account.h>

#include "auth/password.h"
#include "auth/throttle.h"
#include "engine/engine.h"

struct cr_auth;

struct cr_auth_options {
    unsigned threads;               /* hashing at a time; default 1 */
    size_t queue_max;               /* waiting beyond those; more are CR_BUSY; default 64 */
    size_t memory_bytes;            /* Argon2id: default 46 MiB */
    unsigned passes;                /* default 2 */
    struct cr_password_rules rules; /* of new passwords */
    struct cr_throttle_options limits;
};

CR_MUST_CHECK enum cr_status cr_auth_create(struct cr_engine *engine,
                                            const struct cr_auth_options *options,
                                            struct cr_auth **out_auth);
void cr_auth_destroy(struct cr_auth *auth); /* before the engine; accepts NULL */

struct cr_auth_login {
    const struct cr_create_request *request; /* `request->user` is who */
    const void *password, *fresh;            /* fresh: the new password; NULL: it stays */
    size_t password_bytes, fresh_bytes;
    const void *device; /* a device cookie; NULL: none */
    size_t device_chars;
    const struct cr_token *renews; /* the session that asks; NULL: none */
};
/*
 * Unknown, wrong and disabled answer CR_DENIED after the same work. A change of the account since
 * the password was read makes it CR_CONFLICT -> CR_DENIED. Copies and wipes. CR_LIMITED with
 * retry_after: the limits (throttle.h) are taken from before anything is hashed. With CR_OK a new
 * device cookie comes with the answer. A hash that costs less than one of today is renewed (E6).
 *
 * With `fresh`, the user's own change: once `password` was found right, `fresh` is set, which ends
 * all sessions of the user, and one made of `request` in their stead (D3). Only what was checked is
 * replaced: another change meanwhile makes this CR_DENIED. As cr_password_judge says, when `fresh`
 * may not be one, CR_PASSWORD_KNOWN when it is `password`: nothing was checked. CR_PENDING: it is
 * set, perhaps not yet everywhere, and no session was made, whatever was in its way.
 *
 * With `renews`, a session of that user, it goes on under another token (cr_engine_reauthenticate)
 * and no other is made; CR_ENDED when it is over. With `fresh` besides, its data and rights move to
 * the new session.
 *
 * CR_CHANGE_FIRST: the password is right and must be changed first: no session was made, and none
 * is until that is done, with `fresh`. One that ran out is a wrong one (E12).
 */
void cr_auth_login(struct cr_auth *auth, const struct cr_auth_login *login, cr_engine_done *done,
                   void *context);

/* ---- links for a new password (ASVS E13) */

#define CR_RESET_MS (20LL * 60 * 1000)

/*
 * Make one for the user: its token comes with CR_OK and is kept nowhere; it is good for
 * CR_RESET_MS, once, and until the password is changed or the account disabled. CR_UNKNOWN_USER;
 * CR_DENIED: the account is disabled; CR_E_LIMIT: CR_RESETS_MAX of the user's are good.
 */
void cr_auth_reset_make(struct cr_auth *auth, const struct cr_user *user, cr_engine_done *done,
                        void *context);

struct cr_auth_reset {
    const struct cr_token *token;
    const void *fresh; /* the new password */
    size_t fresh_bytes;
    const char *address; /* of who has the link; may be NULL */
};
/*
 * Set a password with a link: spends it, sets the password and ends all sessions of the user, all
 * or nothing. CR_DENIED: there is no such link, or none any more, whatever became of it; that
 * counts on the source's limits (CR_LIMITED, with retry_after), and nothing is hashed. As
 * cr_password_judge says when `fresh` may not be one: the link stays good. CR_PENDING: set, and
 * perhaps not yet known everywhere. Copies and wipes. The answer's row names the user.
 */
void cr_auth_reset(struct cr_auth *auth, const struct cr_auth_reset *reset, cr_engine_done *done,
                   void *context);

struct cr_throttle *cr_auth_throttle(struct cr_auth *auth);
/* From now on; passwords that are being hashed have been judged. */
void cr_auth_rules_set(struct cr_auth *auth, const struct cr_password_rules *rules);
unsigned cr_auth_password_chars_min(const struct cr_auth *auth);

/* Answers as in cloakroom/account.h. */
/* `once` > 0: a one-time password, which is none after that long, and until then only good for
 * setting another (cr_auth_login: CR_CHANGE_FIRST). At most CR_PASSWORD_ONCE_MS_MAX: CR_E_INVALID.
 */
void cr_auth_add(struct cr_auth *auth, const struct cr_user *user, const void *password,
                 size_t password_bytes, cr_span_ms once, cr_engine_done *done, void *context);
void cr_auth_password(struct cr_auth *auth, const struct cr_user *user, const void *password,
                      size_t password_bytes, cr_span_ms once, cr_engine_done *done, void *context);
/* An account with a hash that another system made (foreign.h): CR_E_INVALID when that cannot be
 * taken, CR_CONFLICT when there is an account. */
void cr_auth_import(struct cr_auth *auth, const struct cr_user *user, const char *hash,
                    cr_engine_done *done, void *context);
void cr_auth_disable(struct cr_auth *auth, const struct cr_user *user, bool disabled,
                     cr_engine_done *done, void *context);
void cr_auth_remove(struct cr_auth *auth, const struct cr_user *user, cr_engine_done *done,
                    void *context);
/* CR_OK: there is an account of that name; CR_UNKNOWN_USER. */
void cr_auth_find(struct cr_auth *auth, const struct cr_user *user, cr_engine_done *done,
                  void *context);
typedef void cr_auth_list_done(void *context, enum cr_status status,
                               const struct cr_account_row *rows, size_t count);
void cr_auth_list(struct cr_auth *auth, const struct cr_user *after, size_t capacity,
                  cr_auth_list_done *done, void *context);

#endif
