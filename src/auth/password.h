/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a new password must be: long enough, and not one that is guessed first (ASVS E8 to E10).
 * There are no rules of composition, and none ever runs out; every byte of it counts. No system
 * calls.
 */
#ifndef AUTH_PASSWORD_H
#define AUTH_PASSWORD_H

#include <cloakroom/account.h>

struct cr_common;

#define CR_PASSWORD_CHARS_MIN 15  /* unless somebody says otherwise: it is the only factor here */
#define CR_PASSWORD_CHARS_FLOOR 8 /* for those who have a second one */

struct cr_password_rules {
    unsigned chars_min;             /* 0: CR_PASSWORD_CHARS_MIN */
    const char *realm;              /* whose passwords they are; may be NULL; stays the caller's */
    const struct cr_common *common; /* besides what is built in; may be NULL; stays the caller's */
};

/*
 * Whether `password` may be that of `user`. CR_PASSWORD_SHORT; CR_E_LIMIT: longer than
 * CR_PASSWORD_BYTES_MAX; CR_PASSWORD_COMMON: it is in the lists, or is the name of this service
 * or of the realm, or nothing but one of those, or up to four bytes, over and over;
 * CR_PASSWORD_KNOWN: so with the user's own name. Letters of either case (ASCII) are the same here,
 * up to eight digits, signs and blanks add nothing, and neither do runs of three bytes or more:
 * the same again, or neighbours in the alphabet, in the digits or on a keyboard. What is left
 * without those is to be more than four bytes.
 */
CR_MUST_CHECK enum cr_status cr_password_judge(const struct cr_password_rules *rules,
                                               const struct cr_user *user, const void *password,
                                               size_t bytes);
/* What `rules` come to. */
unsigned cr_password_chars_min(const struct cr_password_rules *rules);

/* ASCII to lower case, where it lies. */
void cr_password_fold(unsigned char *text, size_t bytes);

#endif
