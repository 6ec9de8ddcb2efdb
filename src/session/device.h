/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device cookies: what a browser carries that has logged in to an account before, so that it has a
 * login limit of its own (ASVS E3). "crd_" and 48 characters of base64url: key number, hour of
 * issue, an id, and a MAC over these, the realm and the user. It admits to nothing, names nobody,
 * and is good for one user only: whoever has none of this user's cannot make one. The id is random
 * but for a sum over when the password was set: whoever knew an earlier one may have any number of
 * them, and each would be another budget for guesses at the next.
 */
#ifndef SESSION_DEVICE_H
#define SESSION_DEVICE_H

#include "session/token.h"

#define CR_DEVICE_ID_BYTES 16
#define CR_DEVICE_DAYS 400 /* and no longer */

struct cr_device_id {
    unsigned char bytes[CR_DEVICE_ID_BYTES];
};

CR_MUST_CHECK enum cr_status cr_device_id_make(struct cr_random *random, cr_time_ms password_at,
                                               struct cr_device_id *out_id);
/* Whether it was made under the password that was set then. Of one that was read. */
bool cr_device_id_is_of(const struct cr_device_id *id, cr_time_ms password_at);

/* `out` is ended by a NUL. */
void cr_device_write(const struct cr_keyring *ring, const struct cr_user *user,
                     const struct cr_device_id *id, cr_time_ms now, char out[CR_DEVICE_CHARS + 1]);
/* False: not one that we have made for this user within CR_DEVICE_DAYS. Constant time in the MAC.
 */
CR_MUST_CHECK bool cr_device_read(const struct cr_keyring *ring, const struct cr_user *user,
                                  const void *text, size_t chars, cr_time_ms now,
                                  struct cr_device_id *out_id);

#endif
