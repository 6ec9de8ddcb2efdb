/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accounts with passwords, for those who let Cloakroom check them. Operator role, or direct mode.
 * Changing a password, disabling and removing end all sessions of the user, in the same
 * transaction, and wait as an ending does.
 */
#ifndef CLOAKROOM_ACCOUNT_H
#define CLOAKROOM_ACCOUNT_H

#include <cloakroom/room.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CR_PASSWORD_BYTES_MAX 1024
#define CR_PASSWORD_ONCE_MS_MAX (7LL * 24 * 3600 * 1000)

struct cr_account {
    size_t size;
    struct cr_user user;
    bool disabled;
    cr_time_ms created_at;
    cr_time_ms password_at;    /* when the password was last set */
    bool must_change;          /* it is a one-time password */
    bool password_over;        /* which has run out */
    cr_time_ms password_until; /* when it does; 0: never */
};

/* CR_CONFLICT: the user has an account. CR_PASSWORD_SHORT: fewer characters than 15, or what the
 * setting password.length_min says; CR_PASSWORD_COMMON: one of those that are guessed first;
 * CR_PASSWORD_KNOWN: the user's own name. CR_E_LIMIT: more than CR_PASSWORD_BYTES_MAX. */
CR_API CR_MUST_CHECK enum cr_status cr_account_add(struct cr_room *room, const struct cr_user *user,
                                                   const void *password, size_t password_bytes);
/* CR_UNKNOWN_USER where there is no account; so for the next two. */
CR_API CR_MUST_CHECK enum cr_status cr_account_password(struct cr_room *room,
                                                        const struct cr_user *user,
                                                        const void *password,
                                                        size_t password_bytes);
/* The same two with a one-time password: for `span` (1 to CR_PASSWORD_ONCE_MS_MAX, else
 * CR_E_INVALID) from now on the user can set another with it, and nothing else. */
CR_API CR_MUST_CHECK enum cr_status cr_account_add_once(struct cr_room *room,
                                                        const struct cr_user *user,
                                                        const void *password, size_t password_bytes,
                                                        cr_span_ms span);
CR_API CR_MUST_CHECK enum cr_status
cr_account_password_once(struct cr_room *room, const struct cr_user *user, const void *password,
                         size_t password_bytes, cr_span_ms span);
/* An account with a hash that another system made: bcrypt, PBKDF2 or Argon2 in one of the forms
 * that cloakroom-user(1) lists. The first log-in replaces it by one of ours. CR_E_INVALID: it is
 * none of those, or costs too much to verify. */
CR_API CR_MUST_CHECK enum cr_status cr_account_import(struct cr_room *room,
                                                      const struct cr_user *user, const char *hash);
CR_API CR_MUST_CHECK enum cr_status cr_account_disable(struct cr_room *room,
                                                       const struct cr_user *user, bool disabled);
CR_API CR_MUST_CHECK enum cr_status cr_account_remove(struct cr_room *room,
                                                      const struct cr_user *user);
/* Accounts in byte order after `after` (NULL: from the first), at most `capacity` (1 to 64). */
CR_API CR_MUST_CHECK enum cr_status cr_account_list(struct cr_room *room,
                                                    const struct cr_user *after,
                                                    struct cr_account *out_accounts,
                                                    size_t capacity, size_t *out_count);

#ifdef __cplusplus
}
#endif
#endif
