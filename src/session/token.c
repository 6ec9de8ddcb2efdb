/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tokens: made, checked, hashed, sealed. Owns their layout (token.h) and the two derivations that
 * hang on it, the MAC and the key that seals a successor.
 *
 * A token's version stands in its first character after the prefix, whole (6 bits): text that does
 * not begin so, or is longer, is no token of ours, and carries an id that no session has.
 */
#include "session/token.h"

#include <endian.h>
#include <string.h>

#include <nettle/sha2.h>
#include <sodium.h>

#include "base/assert.h"
#include "base/bytes.h"

#define PREFIX "crs1_"
#define PREFIX_CHARS 5
#define VERSION 1
#define VERSION_CHAR 'B' /* 1 in base64url */
#define ID_PREFIX "crp_"
#define ID_PREFIX_CHARS 4

/* Offsets in the 60 bytes, and after the prefix in the 80 characters. */
#define HEAD_BYTES 3
#define ID_BYTES 18
#define ID_TIME_BYTES 3
#define ID_STEP_MS 16
#define SECRET_BYTES 24
#define MAC_BYTES 15
#define SIGNED_BYTES (HEAD_BYTES + ID_BYTES + SECRET_BYTES)
#define TOKEN_BYTES (SIGNED_BYTES + MAC_BYTES)
#define ID_AT 4
#define ID_CHARS 24
#define SECRET_AT 28
#define BODY_CHARS 80

/* The hash is over what stands between the version and the id, and all behind the id. */
#define HASH_HEAD_AT 1
#define HASH_HEAD_CHARS 3
#define HASH_TAIL_CHARS (BODY_CHARS - SECRET_AT)
#define HASH_CHARS (HASH_HEAD_CHARS + HASH_TAIL_CHARS)

#define MAC_FULL_BYTES 32
#define SEAL_KEY_CONTEXT "cloakroom.seal.1" /* 16 bytes, as BLAKE2b's personalisation has */
#define SEALED_BYTES                                                                               \
    (crypto_secretbox_NONCEBYTES + crypto_secretbox_MACBYTES + (size_t)CR_TOKEN_CHARS)

_Static_assert(PREFIX_CHARS + BODY_CHARS == CR_TOKEN_CHARS, "the text of a token");
_Static_assert(TOKEN_BYTES / 3 * 4 == BODY_CHARS, "whole groups, no spare bits");
_Static_assert(ID_PREFIX_CHARS + ID_CHARS == CR_SESSION_ID_CHARS, "the text of an id");
_Static_assert(ID_AT + ID_CHARS == SECRET_AT, "the secret follows the id");
_Static_assert(HASH_CHARS == 55, "one block of SHA-256");
_Static_assert(SEALED_BYTES <= CR_SEALED_BYTES_MAX, "a sealed token fits its column");
_Static_assert(CR_KEY_BYTES == crypto_generichash_KEYBYTES, "a key of BLAKE2b");

void cr_keyring_init(struct cr_keyring *ring, const char *realm, const struct cr_key *keys,
                     size_t count)
{
    CR_ASSERT(count >= 1 && count <= sizeof ring->keys / sizeof ring->keys[0]);
    /* Repeatable, from any thread. */
    int failed = sodium_init();
    CR_ASSERT(failed >= 0);
    crypto_generichash(ring->realm, sizeof ring->realm, (const unsigned char *)realm, strlen(realm),
                       NULL, 0);
    ring->count = count;
    ring->signer = 0;
    memcpy(ring->keys, keys, count * sizeof *keys);
    for (size_t i = 0; i < count; i++)
        if (keys[i].signs_in == 0)
            ring->signer = i;
}

void cr_keyring_wipe(struct cr_keyring *ring)
{
    if (ring != NULL)
        cr_bytes_wipe(ring, sizeof *ring);
}

void cr_keyring_for(const struct cr_keyring *ring, const char *purpose, struct cr_keyring *out_ring)
{
    *out_ring = *ring;
    crypto_generichash(out_ring->realm, sizeof out_ring->realm, (const unsigned char *)purpose,
                       strlen(purpose), ring->realm, sizeof ring->realm);
}

enum cr_status cr_session_id_make(struct cr_random *random, cr_time_ms now,
                                  struct cr_session_id *out_id)
{
    unsigned char bytes[ID_BYTES];
    enum cr_status st = cr_random_fill(random, bytes + ID_TIME_BYTES, sizeof bytes - ID_TIME_BYTES);
    if (st != CR_OK)
        return st;
    uint64_t step = (uint64_t)now / ID_STEP_MS;
    for (size_t i = 0; i < ID_TIME_BYTES; i++)
        bytes[i] = (unsigned char)(step >> (8 * (ID_TIME_BYTES - 1 - i)));
    memcpy(out_id->text, ID_PREFIX, ID_PREFIX_CHARS);
    cr_base64_encode(bytes, sizeof bytes, out_id->text + ID_PREFIX_CHARS);
    out_id->text[CR_SESSION_ID_CHARS] = '\0';
    return CR_OK;
}

static void token_mac(const struct cr_keyring *ring, const struct cr_key *key,
                      const unsigned char signed_bytes[SIGNED_BYTES],
                      unsigned char out_mac[MAC_BYTES])
{
    unsigned char input[sizeof ring->realm + SIGNED_BYTES];
    unsigned char mac[MAC_FULL_BYTES];
    memcpy(input, ring->realm, sizeof ring->realm);
    memcpy(input + sizeof ring->realm, signed_bytes, SIGNED_BYTES);
    crypto_generichash(mac, sizeof mac, input, sizeof input, key->bytes, sizeof key->bytes);
    memcpy(out_mac, mac, MAC_BYTES);
    cr_bytes_wipe(input, sizeof input);
    cr_bytes_wipe(mac, sizeof mac);
}

enum cr_status cr_token_make(const struct cr_keyring *ring, struct cr_random *random,
                             const struct cr_session_id *id, uint32_t partition,
                             struct cr_token *out_token)
{
    const struct cr_key *key = &ring->keys[ring->signer];
    CR_ASSERT(key->number >= 1 && key->number <= CR_KEY_NUMBER_MAX);
    CR_ASSERT(partition <= CR_TOKEN_PARTITION_MAX);
    unsigned char bytes[TOKEN_BYTES];
    uint32_t head = (uint32_t)VERSION << 18 | key->number << 12 | partition;
    bytes[0] = (unsigned char)(head >> 16);
    bytes[1] = (unsigned char)(head >> 8);
    bytes[2] = (unsigned char)head;
    bool is_id = cr_base64_decode(id->text + ID_PREFIX_CHARS, ID_CHARS, bytes + HEAD_BYTES);
    CR_ASSERT(is_id);
    enum cr_status st = cr_random_fill(random, bytes + HEAD_BYTES + ID_BYTES, SECRET_BYTES);
    if (st != CR_OK)
        goto out;
    token_mac(ring, key, bytes, bytes + SIGNED_BYTES);
    memcpy(out_token->text, PREFIX, PREFIX_CHARS);
    cr_base64_encode(bytes, sizeof bytes, out_token->text + PREFIX_CHARS);
    out_token->text[CR_TOKEN_CHARS] = '\0';
out:
    cr_bytes_wipe(bytes, sizeof bytes);
    return st;
}

static bool token_is_ours(const struct cr_token *token)
{
    return memcmp(token->text, PREFIX, PREFIX_CHARS) == 0 &&
           token->text[PREFIX_CHARS] == VERSION_CHAR && token->text[CR_TOKEN_CHARS] == '\0';
}

static const struct cr_key *keyring_find(const struct cr_keyring *ring, uint32_t number)
{
    for (size_t i = 0; i < ring->count; i++)
        if (ring->keys[i].number == number)
            return &ring->keys[i];
    return NULL;
}

bool cr_token_is_genuine(const struct cr_keyring *ring, const struct cr_token *token)
{
    unsigned char bytes[TOKEN_BYTES];
    unsigned char mac[MAC_BYTES];
    bool is_genuine = false;
    if (!token_is_ours(token) || !cr_base64_decode(token->text + PREFIX_CHARS, BODY_CHARS, bytes))
        goto out;
    const struct cr_key *key = keyring_find(ring, (bytes[1] >> 4) | (bytes[0] & 3u) << 4);
    if (key == NULL)
        goto out;
    token_mac(ring, key, bytes, mac);
    is_genuine = cr_bytes_equal(mac, bytes + SIGNED_BYTES, MAC_BYTES);
out:
    cr_bytes_wipe(bytes, sizeof bytes);
    cr_bytes_wipe(mac, sizeof mac);
    return is_genuine;
}

bool cr_token_names_key(const struct cr_keyring *ring, const struct cr_token *token)
{
    unsigned char bytes[TOKEN_BYTES];
    bool names = true;
    if (token_is_ours(token) && cr_base64_decode(token->text + PREFIX_CHARS, BODY_CHARS, bytes))
        names = keyring_find(ring, (bytes[1] >> 4) | (bytes[0] & 3u) << 4) != NULL;
    cr_bytes_wipe(bytes, sizeof bytes);
    return names;
}

void cr_token_id(const struct cr_token *token, struct cr_session_id *out_id)
{
    memcpy(out_id->text, ID_PREFIX, ID_PREFIX_CHARS);
    if (token_is_ours(token))
        memcpy(out_id->text + ID_PREFIX_CHARS, token->text + PREFIX_CHARS + ID_AT, ID_CHARS);
    else
        memset(out_id->text + ID_PREFIX_CHARS, '?', ID_CHARS); /* not of the alphabet */
    out_id->text[CR_SESSION_ID_CHARS] = '\0';
}

void cr_token_hash(const struct cr_token *token, struct cr_token_hash *out_hash)
{
    const unsigned char *body = (const unsigned char *)token->text + PREFIX_CHARS;
    /* All that SHA-256 (FIPS 180-4, 5.1.1) makes of 55 bytes, padding and length included: one
     * block, so the library's state after it is the digest. Its own way of ending costs half as
     * much again, on the path of every hit. */
    unsigned char block[SHA256_BLOCK_SIZE] = {[HASH_CHARS] = 0x80,
                                              [SHA256_BLOCK_SIZE - 2] = HASH_CHARS * 8 >> 8,
                                              [SHA256_BLOCK_SIZE - 1] = HASH_CHARS * 8 & 0xff};
    struct sha256_ctx context;
    memcpy(block, body + HASH_HEAD_AT, HASH_HEAD_CHARS);
    memcpy(block + HASH_HEAD_CHARS, body + SECRET_AT, HASH_TAIL_CHARS);
    sha256_init(&context);
    sha256_update(&context, sizeof block, block);
    for (size_t i = 0; i < sizeof out_hash->bytes; i += 4) {
        uint32_t word = htobe32(context.state[i / 4]);
        memcpy(out_hash->bytes + i, &word, sizeof word);
    }
    cr_bytes_wipe(block, sizeof block);
}

/* From the token's text, which the store has only a hash of. */
static void seal_key(const struct cr_token *old, unsigned char out_key[crypto_secretbox_KEYBYTES])
{
    static const unsigned char no_salt[crypto_generichash_blake2b_SALTBYTES];
    crypto_generichash_blake2b_salt_personal(out_key, crypto_secretbox_KEYBYTES,
                                             (const unsigned char *)old->text, CR_TOKEN_CHARS, NULL,
                                             0, no_salt, (const unsigned char *)SEAL_KEY_CONTEXT);
}

enum cr_status cr_token_seal(const struct cr_token *old, const struct cr_token *successor,
                             struct cr_random *random,
                             unsigned char out_sealed[CR_SEALED_BYTES_MAX], uint8_t *out_bytes)
{
    unsigned char key[crypto_secretbox_KEYBYTES];
    unsigned char nonce[crypto_secretbox_NONCEBYTES];
    enum cr_status st = cr_random_fill(random, nonce, sizeof nonce);
    if (st != CR_OK)
        return st;
    seal_key(old, key);
    memset(out_sealed, 0, CR_SEALED_BYTES_MAX);
    memcpy(out_sealed, nonce, sizeof nonce);
    crypto_secretbox_easy(out_sealed + sizeof nonce, (const unsigned char *)successor->text,
                          CR_TOKEN_CHARS, nonce, key);
    *out_bytes = (uint8_t)SEALED_BYTES;
    cr_bytes_wipe(key, sizeof key);
    return CR_OK;
}

bool cr_token_unseal(const struct cr_token *old, const unsigned char *sealed, size_t bytes,
                     struct cr_token *out_successor)
{
    if (bytes != SEALED_BYTES)
        return false;
    unsigned char key[crypto_secretbox_KEYBYTES];
    unsigned char text[CR_TOKEN_CHARS];
    seal_key(old, key);
    bool is_open =
        crypto_secretbox_open_easy(text, sealed + crypto_secretbox_NONCEBYTES,
                                   bytes - crypto_secretbox_NONCEBYTES, sealed, key) == 0 &&
        cr_token_parse((const char *)text, sizeof text, out_successor) == CR_OK;
    cr_bytes_wipe(key, sizeof key);
    cr_bytes_wipe(text, sizeof text);
    return is_open;
}
