/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Password hashes that other systems made: read, bounded and verified, never made. The first log-in
 * that matches one replaces it by one of ours (auth.c). Taken are
 *
 *     $2a$ $2b$ $2y$                                 bcrypt; also after Django's "bcrypt$"
 *     pbkdf2_sha256$ pbkdf2_sha512$                  Django
 *     $pbkdf2-sha256$ $pbkdf2-sha512$                passlib
 *     pbkdf2:sha256: pbkdf2:sha512:                  Werkzeug
 *     $argon2i$v=19$ $argon2id$v=19$                 Argon2; also after Django's "argon2"
 *
 * What it costs to verify one is bounded here: whoever wrote the file to be imported chose it.
 */
#ifndef AUTH_FOREIGN_H
#define AUTH_FOREIGN_H

#include <stddef.h>

#include <cloakroom/status.h>

#define CR_FOREIGN_BCRYPT_COST_MAX 15            /* about two seconds */
#define CR_FOREIGN_PBKDF2_ITERATIONS_MAX 5000000 /* the same */
#define CR_FOREIGN_ARGON2_KIB_MAX (256u * 1024)
#define CR_FOREIGN_ARGON2_WORK_MAX (1024u * 1024) /* KiB times passes */

/* Why `hash` cannot be taken, for a person; NULL: it can. */
const char *cr_foreign_unfit(const char *hash);

/* CR_OK: it is that of `password`. CR_DENIED: it is not, or `hash` is none of the above.
 * CR_E_NO_MEMORY. bcrypt looks at 72 bytes, and never matches what has a NUL;
 * PBKDF2 never matches what ends with one. */
CR_MUST_CHECK enum cr_status cr_foreign_verify(const char *hash, const void *password,
                                               size_t bytes);

#endif
