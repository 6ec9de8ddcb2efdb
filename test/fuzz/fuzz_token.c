/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tokens, ids and device cookies. An input is either text that claims to be one, or what one is
 * made from (key, id, secret) and the changes that are made to its text. What is taken was made
 * with one of our keys and is its canonical text; every character counts, for the MAC as well as
 * for the hit that checks none (ASVS A3).
 */
#include <string.h>

#include "base/bytes.h"
#include "fuzz/fuzz.h"
#include "session/device.h"

#define KEYS 3
#define NOW 1700000000000LL

static const char *const words[] = {"crs1_", "crs1_B", "crp_", "crd_", "text", "made", NULL};

static struct cr_keyring ring;

static bool begin(void)
{
    struct cr_key keys[KEYS] = {{.number = 1}, {.number = 7}, {.number = 63}};
    for (size_t i = 0; i < KEYS; i++)
        memset(keys[i].bytes, (int)i + 1, sizeof keys[i].bytes);
    cr_keyring_init(&ring, "fuzz", keys, KEYS);
    return true;
}

/* Random bytes that are the input's. */
struct given {
    struct cr_random random;
    struct fuzz_input *input;
};

static enum cr_status given_fill(struct cr_random *random, void *out, size_t bytes)
{
    struct given *given = (struct given *)random;
    unsigned char *to = out;
    for (size_t i = 0; i < bytes; i++)
        to[i] = fuzz_u8(given->input);
    return CR_OK;
}

/* Decoded and encoded again: one text for each token. */
static void canonical_check(const struct cr_token *token)
{
    unsigned char bytes[60];
    char text[80];
    fuzz_must(memcmp(token->text, "crs1_", 5) == 0, "it begins as ours do");
    fuzz_must(cr_base64_decode(token->text + 5, 80, bytes), "it is base64url");
    cr_base64_encode(bytes, sizeof bytes, text);
    fuzz_must(memcmp(text, token->text + 5, 80) == 0, "it is its canonical text");
    fuzz_must(bytes[0] >> 2 == 1, "it is of our version");
}

static void id_check(const char *text, size_t bytes)
{
    struct cr_session_id id;
    struct cr_user user;
    bool is_id = cr_session_id_parse(text, bytes, &id) == CR_OK;
    bool is_user = cr_user_parse(text, bytes, &user) == CR_OK;
    if (is_id)
        fuzz_must(bytes == CR_SESSION_ID_CHARS && strlen(id.text) == bytes &&
                      memcmp(id.text, text, bytes) == 0,
                  "an id is the text that was given");
    if (is_user)
        fuzz_must(user.length == bytes && memcmp(user.bytes, text, bytes) == 0,
                  "a user is the bytes that were given");
    fuzz_must(!is_id || !is_user, "no text is both");
}

/* Text of anybody's. No input finds a MAC of 120 bits, so none of it is genuine. */
static void text_try(struct fuzz_input *input)
{
    struct cr_token token;
    struct cr_session_id id;
    struct cr_token_hash hash;
    struct cr_device_id device;
    static const struct cr_user user = {4, "anna"};
    const char *text = (const char *)input->bytes;
    size_t bytes = input->left;
    id_check(text, bytes);
    fuzz_must(!cr_device_read(&ring, &user, text, bytes, NOW, &device), "nobody made this one");
    if (cr_token_parse(text, bytes, &token) != CR_OK) {
        fuzz_refused();
        return;
    }
    fuzz_must(bytes == CR_TOKEN_CHARS && memcmp(token.text, text, bytes) == 0 &&
                  token.text[bytes] == '\0',
              "a token is the text that was given");
    cr_token_id(&token, &id);
    cr_token_hash(&token, &hash);
    fuzz_must(strlen(id.text) == CR_SESSION_ID_CHARS || memchr(text, '\0', bytes) != NULL,
              "an id is ended");
    fuzz_must(!cr_token_is_genuine(&ring, &token), "nobody made this one");
    fuzz_refused();
}

/* One character becomes another: no genuine token, nor the same id and hash. */
static void change_try(const struct cr_token *genuine, struct fuzz_input *input)
{
    struct cr_token token = *genuine;
    struct cr_session_id id, id_before;
    struct cr_token_hash hash, hash_before;
    while (input->left > 0) {
        size_t at = fuzz_u8(input) % CR_TOKEN_CHARS;
        token.text[at] = (char)fuzz_u8(input);
    }
    if (memcmp(token.text, genuine->text, CR_TOKEN_CHARS) == 0)
        return;
    fuzz_must(!cr_token_is_genuine(&ring, &token), "what was changed is not genuine");
    cr_token_id(genuine, &id_before);
    cr_token_hash(genuine, &hash_before);
    cr_token_id(&token, &id);
    cr_token_hash(&token, &hash);
    fuzz_must(!cr_session_id_equal(&id, &id_before) ||
                  memcmp(&hash, &hash_before, sizeof hash) != 0,
              "every character counts for a hit");
    fuzz_refused();
}

static void seal_try(const struct cr_token *old, struct given *given, struct fuzz_input *input)
{
    unsigned char sealed[CR_SEALED_BYTES_MAX];
    struct cr_token opened, other = *old;
    uint8_t bytes;
    other.text[CR_TOKEN_CHARS - 1] ^= 1;
    fuzz_must(cr_token_seal(old, old, &given->random, sealed, &bytes) == CR_OK, "it is sealed");
    fuzz_must(cr_token_unseal(old, sealed, bytes, &opened) &&
                  memcmp(opened.text, old->text, sizeof opened.text) == 0,
              "who holds the old one opens it");
    fuzz_must(!cr_token_unseal(&other, sealed, bytes, &opened), "nobody else does");
    size_t at = fuzz_u8(input) % bytes;
    sealed[at] ^= (unsigned char)(1 + fuzz_u8(input) % 255);
    fuzz_must(!cr_token_unseal(old, sealed, bytes, &opened), "what was changed is not opened");
}

static void device_try(struct fuzz_input *input)
{
    struct cr_device_id id, got;
    struct cr_user user = {4, "anna"}, other = {4, "annb"};
    char text[CR_DEVICE_CHARS + 1];
    struct given given = {{given_fill}, input};
    fuzz_must(cr_device_id_make(&given.random, NOW, &id) == CR_OK, "it is made");
    fuzz_must(cr_device_id_is_of(&id, NOW) && !cr_device_id_is_of(&id, NOW + 1), "of its password");
    cr_device_write(&ring, &user, &id, NOW, text);
    fuzz_must(strlen(text) == CR_DEVICE_CHARS, "its length is fixed");
    fuzz_must(cr_device_read(&ring, &user, text, CR_DEVICE_CHARS, NOW, &got) &&
                  memcmp(&got, &id, sizeof id) == 0,
              "what was written is read");
    fuzz_must(!cr_device_read(&ring, &other, text, CR_DEVICE_CHARS, NOW, &got), "by its user only");
    fuzz_must(!cr_device_read(&ring, &user, text, CR_DEVICE_CHARS,
                              NOW + (CR_DEVICE_DAYS + 1) * 86400000LL, &got),
              "and not for ever");
    size_t at = fuzz_u8(input) % CR_DEVICE_CHARS;
    char changed = (char)fuzz_u8(input);
    if (changed == text[at])
        return;
    text[at] = changed;
    fuzz_must(!cr_device_read(&ring, &user, text, CR_DEVICE_CHARS, NOW, &got),
              "what was changed is not taken");
}

static void made_try(struct fuzz_input *input)
{
    struct given given = {{given_fill}, input};
    struct cr_session_id id, got;
    struct cr_token token, again;
    uint32_t partition = (uint32_t)fuzz_u64(input) % (CR_TOKEN_PARTITION_MAX + 1);
    cr_time_ms now = (cr_time_ms)(fuzz_u64(input) >> 16);
    fuzz_must(cr_session_id_make(&given.random, now, &id) == CR_OK, "an id is made");
    fuzz_must(cr_token_make(&ring, &given.random, &id, partition, &token) == CR_OK, "and a token");
    canonical_check(&token);
    fuzz_must(cr_token_is_genuine(&ring, &token), "what was made is genuine");
    fuzz_must(cr_token_parse(token.text, CR_TOKEN_CHARS, &again) == CR_OK &&
                  memcmp(again.text, token.text, sizeof token.text) == 0,
              "its text is read as it");
    cr_token_id(&token, &got);
    fuzz_must(cr_session_id_equal(&got, &id), "it carries its id");
    fuzz_taken();
    seal_try(&token, &given, input);
    device_try(input);
    change_try(&token, input);
}

static void one(const unsigned char *data, size_t bytes)
{
    struct fuzz_input input = {data, bytes};
    if (bytes < 4)
        return;
    input.bytes += 4;
    input.left -= 4;
    if (memcmp(data, "made", 4) == 0)
        made_try(&input);
    else
        text_try(&input);
}

const struct fuzz_target fuzz_token = {"token", words, begin, one};
