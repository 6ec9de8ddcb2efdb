/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tokens. crs1_ and 80 characters of base64url over 60 bytes:
 *
 *   characters 0..3    3 bytes   version (6 bits, 1), key number (6 bits), partition (12 bits)
 *   characters 4..27  18 bytes   the session's public id: 3 bytes of the time, 15 at random
 *   characters 28..59 24 bytes   the secret
 *   characters 60..79 15 bytes   MAC: the first 15 bytes of BLAKE2b-256, keyed with the key, over
 *                                the realm's BLAKE2b-256 and the 45 bytes before
 *
 * The token's hash is SHA-256 over characters 1..3 and 28..79, 55 bytes and so one block: with the
 * version character checked and the id compared, every bit of the text counts, also for a hit that
 * decodes nothing and checks no MAC (ASVS A3).
 *
 * Ids of about the same time begin alike, so that an index over them, which a store must keep on a
 * disk, grows in one place at a time. The time is in steps of 16 ms, and begins anew every three
 * days: nothing reads it, and two ids of one step differ in 120 bits. It takes the first half of
 * the eight characters from which a table finds an id's home, the other half is random.
 *
 * No system calls; safe from any thread.
 */
#ifndef SESSION_TOKEN_H
#define SESSION_TOKEN_H

#include <cloakroom/store.h>

#include "base/random.h"

#define CR_TOKEN_PARTITION_MAX 4095
#define CR_KEY_NUMBER_MAX 63

/* The keys that tokens are made and checked with, as the store has them. */
struct cr_keyring {
    unsigned char realm[32]; /* BLAKE2b-256 of the realm's name */
    size_t count;            /* 1 to CR_KEYS_MAX, newest last */
    size_t signer;           /* index of the one that tokens are made with */
    struct cr_key keys[CR_KEYS_MAX];
};

/* The keys are those of a store: numbers 1 to CR_KEY_NUMBER_MAX, checked by its wrapper. The newest
 * that need not wait signs; the first where all wait. */
void cr_keyring_init(struct cr_keyring *ring, const char *realm, const struct cr_key *keys,
                     size_t count);
void cr_keyring_wipe(struct cr_keyring *ring);
/* A ring of the same keys for tokens that are no session's: what is made with the one is not
 * genuine to the other, nor to one for another `purpose`. To be wiped. */
void cr_keyring_for(const struct cr_keyring *ring, const char *purpose,
                    struct cr_keyring *out_ring);

/* A new public id. `now` is wall-clock time, and need not be right. */
CR_MUST_CHECK enum cr_status cr_session_id_make(struct cr_random *random, cr_time_ms now,
                                                struct cr_session_id *out_id);

/* A token for `id` with a new secret. */
CR_MUST_CHECK enum cr_status cr_token_make(const struct cr_keyring *ring, struct cr_random *random,
                                           const struct cr_session_id *id, uint32_t partition,
                                           struct cr_token *out_token);

/* Whether the text is canonical and its MAC is of one of our keys. Constant time in the secret. */
CR_MUST_CHECK bool cr_token_is_genuine(const struct cr_keyring *ring, const struct cr_token *token);

/* Whether a token, genuine or not, names one of our keys; also true for text that is no token. */
CR_MUST_CHECK bool cr_token_names_key(const struct cr_keyring *ring, const struct cr_token *token);

/* The public id that the token carries. Needs no genuine token: characters are copied. Where prefix
 * or version are not ours, an id that no session has: so a hit, which looks at id and hash, has
 * looked at every character. */
void cr_token_id(const struct cr_token *token, struct cr_session_id *out_id);

/* The token's hash, as stores and tables keep it. Also for text that is not genuine. */
void cr_token_hash(const struct cr_token *token, struct cr_token_hash *out_hash);

/* Seal `successor` so that only who holds `old` can open it; and open it. */
CR_MUST_CHECK enum cr_status cr_token_seal(const struct cr_token *old,
                                           const struct cr_token *successor,
                                           struct cr_random *random,
                                           unsigned char out_sealed[CR_SEALED_BYTES_MAX],
                                           uint8_t *out_bytes);
CR_MUST_CHECK bool cr_token_unseal(const struct cr_token *old, const unsigned char *sealed,
                                   size_t bytes, struct cr_token *out_successor);

#endif
