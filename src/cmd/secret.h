/* SPDX-License-Identifier: Apache-2.0 */
/* Passwords that a person types: from the terminal without showing them, or from standard input.
 * Never from arguments, which everybody on the host can read. */
#ifndef CMD_SECRET_H
#define CMD_SECRET_H

#include <cloakroom/account.h>

struct cr_secret {
    size_t bytes;
    unsigned char text[CR_PASSWORD_BYTES_MAX + 2];
};

/* For how long a one-time password can be used. */
#define CR_FIRST_PASSWORD_MS (15LL * 60 * 1000)

/* False, and said why. From the terminal it is asked for twice; from standard input it is all that
 * comes, but for one newline at the end. */
CR_MUST_CHECK bool cr_secret_read(bool from_stdin, const char *prompt, struct cr_secret *out);

/* A password of 20 random letters and digits that are not easily mixed up: 100 bits. */
CR_MUST_CHECK enum cr_status cr_secret_make(struct cr_secret *out);

void cr_secret_wipe(struct cr_secret *secret);

#endif
