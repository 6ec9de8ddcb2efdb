/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens: layout, MAC, hash, seal. Random numbers come from the run's seed. */
#include "session/token.h"

#include <string.h>

#include <nettle/sha2.h>

#include "base/bytes.h"
#include "session/device.h"
#include "tap.h"

/* Made by another implementation (Python's hashlib): key 5 is the bytes 0 to 31, the realm
 * "cloakroom", partition 0xabc, id bytes 100 to 117, secret bytes 200 to 223. */
#define KNOWN_TOKEN                                                                                \
    "crs1_BFq8ZGVmZ2hpamtsbW5vcHFyc3R1yMnKy8zNzs_Q"                                                \
    "0dLT1NXW19jZ2tvc3d7f2ZDa7wh5ed7fPENLoLFd"
#define KNOWN_HASH "a397b182f2a964c4bf9c59018b1d3c71516f2b3b19b42c5dd0f1a44c99f6c0dd"

#define NOW 1700000000000 /* wall-clock time */

struct fixture {
    struct cr_random_seeded random;
    struct cr_key keys[3];
    struct cr_keyring ring;
    struct cr_session_id id;
    struct cr_token token;
};

static bool setup(struct fixture *f)
{
    cr_random_seeded_init(&f->random, tap_random());
    memset(f->keys, 0, sizeof f->keys);
    for (uint32_t i = 0; i < 3; i++) {
        f->keys[i].number = 21 * (i + 1); /* 63 is the highest there is */
        if (!CHECK_STATUS(cr_random_fill(&f->random.random, f->keys[i].bytes, CR_KEY_BYTES), CR_OK))
            return false;
    }
    cr_keyring_init(&f->ring, "realm", f->keys, 3);
    return CHECK_STATUS(cr_session_id_make(&f->random.random, NOW, &f->id), CR_OK) &&
           CHECK_STATUS(cr_token_make(&f->ring, &f->random.random, &f->id, 4095, &f->token), CR_OK);
}

static void a_key_that_waits_checks_tokens_and_makes_none(void)
{
    struct fixture f;
    struct cr_keyring waits, older;
    struct cr_token token;
    if (!setup(&f))
        return;
    f.keys[2].signs_in = 1;
    cr_keyring_init(&waits, "realm", f.keys, 3);
    CHECK(cr_token_is_genuine(&waits, &f.token));
    CHECK_STATUS(cr_token_make(&waits, &f.random.random, &f.id, 0, &token), CR_OK);
    cr_keyring_init(&older, "realm", f.keys, 2);
    CHECK(cr_token_is_genuine(&older, &token)); /* of the one before */
    CHECK(cr_token_names_key(&older, &token));
    CHECK(!cr_token_is_genuine(&older, &f.token));
    CHECK(!cr_token_names_key(&older, &f.token));
    token.text[0] = 'x';
    CHECK(cr_token_names_key(&older, &token)); /* no token: no key to wait for */
}

static void a_device_cookie_is_of_a_key_that_signs(void)
{
    struct fixture f;
    struct cr_keyring waits, older;
    struct cr_device_id id = {{0}}, read;
    char cookie[CR_DEVICE_CHARS + 1];
    const struct cr_user user = {.length = 1, .bytes = "a"};
    if (!setup(&f))
        return;
    f.keys[2].signs_in = 1;
    cr_keyring_init(&waits, "realm", f.keys, 3);
    cr_keyring_init(&older, "realm", f.keys, 2); /* of an engine that has not heard of it */
    cr_device_write(&waits, &user, &id, NOW, cookie);
    CHECK(cr_device_read(&older, &user, cookie, CR_DEVICE_CHARS, NOW, &read));
    cr_device_write(&f.ring, &user, &id, NOW, cookie);
    CHECK(cr_device_read(&waits, &user, cookie, CR_DEVICE_CHARS, NOW, &read));
}

static void a_token_has_the_layout_that_its_header_draws(void)
{
    struct fixture f;
    if (!setup(&f))
        return;
    struct cr_token parsed;
    CHECK_UINT(strlen(f.token.text), CR_TOKEN_CHARS);
    CHECK_STATUS(cr_token_parse(f.token.text, CR_TOKEN_CHARS, &parsed), CR_OK);
    unsigned char bytes[60];
    if (!CHECK(cr_base64_decode(f.token.text + 5, 80, bytes)))
        return;
    CHECK_UINT(bytes[0] >> 2, 1);                         /* version */
    CHECK_UINT((bytes[0] & 3u) << 4 | bytes[1] >> 4, 63); /* the newest key signs */
    CHECK_UINT((bytes[1] & 15u) << 8 | bytes[2], 4095);   /* partition */
    CHECK_MEM(f.token.text + 5 + 4, f.id.text + 4, 24);   /* the id, as characters */
}

static void a_token_of_known_key_and_bytes_is_known(void)
{
    struct cr_key key = {.number = 5};
    for (unsigned i = 0; i < CR_KEY_BYTES; i++)
        key.bytes[i] = (unsigned char)i;
    struct cr_keyring ring;
    cr_keyring_init(&ring, "cloakroom", &key, 1);
    struct cr_token token;
    if (!CHECK_STATUS(cr_token_parse(KNOWN_TOKEN, strlen(KNOWN_TOKEN), &token), CR_OK))
        return;
    CHECK(cr_token_is_genuine(&ring, &token));
    struct cr_token_hash hash;
    unsigned char want[CR_TOKEN_HASH_BYTES];
    cr_token_hash(&token, &hash);
    CHECK(cr_hex_decode(KNOWN_HASH, strlen(KNOWN_HASH), want));
    CHECK_MEM(hash.bytes, want, sizeof want);
}

static void the_hash_is_sha256_of_the_55_characters(void)
{
    struct fixture f;
    if (!setup(&f))
        return;
    uint8_t characters[55];
    memcpy(characters, f.token.text + 5 + 1, 3);
    memcpy(characters + 3, f.token.text + 5 + 28, 52);
    struct sha256_ctx context;
    uint8_t want[SHA256_DIGEST_SIZE];
    sha256_init(&context);
    sha256_update(&context, sizeof characters, characters);
    sha256_digest(&context, sizeof want, want);
    struct cr_token_hash hash;
    cr_token_hash(&f.token, &hash);
    CHECK_MEM(hash.bytes, want, sizeof want);
}

static void a_made_token_is_genuine_under_every_key_that_is_kept(void)
{
    struct fixture f;
    if (!setup(&f))
        return;
    for (size_t count = 1; count <= 3; count++) {
        struct cr_keyring older;
        struct cr_token token;
        cr_keyring_init(&older, "realm", f.keys, count);
        if (CHECK_STATUS(cr_token_make(&older, &f.random.random, &f.id, 0, &token), CR_OK))
            CHECK(cr_token_is_genuine(&f.ring, &token));
    }
}

static void a_token_of_a_key_that_was_dropped_is_not_genuine(void)
{
    struct fixture f;
    if (!setup(&f))
        return;
    struct cr_keyring without;
    cr_keyring_init(&without, "realm", f.keys, 2);
    CHECK(!cr_token_is_genuine(&without, &f.token));
}

static void a_token_of_another_realm_is_not_genuine(void)
{
    struct fixture f;
    if (!setup(&f))
        return;
    static const char *const realms[] = {"", "Realm", "realm2", "real"};
    for (size_t i = 0; i < sizeof realms / sizeof realms[0]; i++) {
        struct cr_keyring other;
        tap_row(realms[i]);
        cr_keyring_init(&other, realms[i], f.keys, 3);
        CHECK(!cr_token_is_genuine(&other, &f.token));
    }
}

static void the_same_key_number_with_other_bytes_is_another_key(void)
{
    struct fixture f;
    if (!setup(&f))
        return;
    f.keys[2].bytes[31] ^= 1;
    struct cr_keyring other;
    cr_keyring_init(&other, "realm", f.keys, 3);
    CHECK(!cr_token_is_genuine(&other, &f.token));
}

/* ASVS A3. What a hit looks at is id and hash; what a miss looks at is the MAC. */
static void each_flipped_bit_of_a_token_is_noticed_by_a_hit_and_by_a_miss(void)
{
    struct fixture f;
    if (!setup(&f))
        return;
    struct cr_token_hash hash;
    cr_token_hash(&f.token, &hash);
    for (size_t bit = 0; bit < (size_t)CR_TOKEN_CHARS * 8; bit++) {
        struct cr_token flipped = f.token;
        flipped.text[bit / 8] = (char)(flipped.text[bit / 8] ^ (1 << bit % 8));
        struct cr_session_id id;
        struct cr_token_hash other;
        cr_token_id(&flipped, &id);
        cr_token_hash(&flipped, &other);
        bool hits = cr_session_id_equal(&id, &f.id) && memcmp(&other, &hash, sizeof hash) == 0;
        if (!CHECK(!hits) || !CHECK(!cr_token_is_genuine(&f.ring, &flipped)))
            tap_note("bit %zu", bit);
    }
}

static void every_other_character_at_every_place_is_noticed(void)
{
    struct fixture f;
    if (!setup(&f))
        return;
    size_t wrong = 0;
    for (size_t i = 0; i < CR_TOKEN_CHARS; i++) {
        for (unsigned c = 0; c < 256; c++) {
            struct cr_token changed = f.token;
            changed.text[i] = (char)c;
            if (changed.text[i] != f.token.text[i] && cr_token_is_genuine(&f.ring, &changed))
                wrong++;
        }
    }
    CHECK_UINT(wrong, 0);
}

/* ASVS A6: 52 of the 80 characters are random, and 20 are a MAC over them. These are of one time.
 */
static void two_tokens_share_bytes_by_chance_only(void)
{
    struct fixture f;
    if (!setup(&f))
        return;
    for (int round = 0; round < 64; round++) {
        struct cr_session_id id;
        struct cr_token token;
        if (!CHECK_STATUS(cr_session_id_make(&f.random.random, NOW, &id), CR_OK) ||
            !CHECK_STATUS(cr_token_make(&f.ring, &f.random.random, &id, 4095, &token), CR_OK))
            return;
        unsigned char a[60], b[60];
        if (!CHECK(cr_base64_decode(f.token.text + 5, 80, a)) ||
            !CHECK(cr_base64_decode(token.text + 5, 80, b)))
            return;
        int shared = 0;
        for (size_t i = 6; i < sizeof a; i++)
            shared += a[i] == b[i];
        CHECK(shared < 12); /* of 54: chance gives 12 in less than one of 10^15 pairs */
        CHECK_MEM(token.text, f.token.text, 13); /* prefix, version, key, partition, time */
        CHECK_UINT(strlen(token.text), CR_TOKEN_CHARS);
        f.token = token;
    }
}

/* A store's index of ids grows where the newest are. */
static void ids_begin_with_their_time_in_steps_of_16_ms(void)
{
    static const struct {
        cr_time_ms now;
        const char *head;
    } cases[] = {
        {0, "AAAA"},
        {15, "AAAA"},
        {16, "AAAB"},
        {16 * 64, "AABA"},
        {16777215LL * 16 + 15, "____"},
        {16777216LL * 16, "AAAA"},
        {-1, "____"}, /* a clock that is not set yet */
    };
    struct fixture f;
    struct cr_session_id id;
    if (!setup(&f))
        return;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (CHECK_STATUS(cr_session_id_make(&f.random.random, cases[i].now, &id), CR_OK))
            CHECK_MEM(id.text + 4, cases[i].head, 4);
    }
}

static void the_same_id_gets_another_secret_each_time(void)
{
    struct fixture f;
    if (!setup(&f))
        return;
    struct cr_token again;
    if (!CHECK_STATUS(cr_token_make(&f.ring, &f.random.random, &f.id, 4095, &again), CR_OK))
        return;
    struct cr_session_id id;
    struct cr_token_hash a, b;
    cr_token_id(&again, &id);
    CHECK(cr_session_id_equal(&id, &f.id));
    cr_token_hash(&f.token, &a);
    cr_token_hash(&again, &b);
    CHECK(memcmp(&a, &b, sizeof a) != 0);
}

static enum cr_status random_that_fails(struct cr_random *random, void *out, size_t bytes)
{
    return CR_UNAVAILABLE;
}

/* ASVS A2. */
static void without_random_bytes_nothing_is_made(void)
{
    struct fixture f;
    if (!setup(&f))
        return;
    struct cr_random none = {.fill = random_that_fails};
    struct cr_session_id id;
    struct cr_token token = {.text = "untouched"};
    unsigned char sealed[CR_SEALED_BYTES_MAX];
    uint8_t bytes;
    CHECK_STATUS(cr_session_id_make(&none, NOW, &id), CR_UNAVAILABLE);
    CHECK_STATUS(cr_token_make(&f.ring, &none, &f.id, 0, &token), CR_UNAVAILABLE);
    CHECK_STR(token.text, "untouched");
    CHECK_STATUS(cr_token_seal(&f.token, &f.token, &none, sealed, &bytes), CR_UNAVAILABLE);
}

static void text_of_another_version_carries_an_id_that_does_not_exist(void)
{
    static const char *const heads[] = {"crs2_B", "crs1_C", "crp__B", "xrs1_B"};
    struct fixture f;
    if (!setup(&f))
        return;
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        tap_row(heads[i]);
        struct cr_token other = f.token;
        memcpy(other.text, heads[i], 6);
        struct cr_session_id id, parsed;
        cr_token_id(&other, &id);
        CHECK_UINT(strlen(id.text), CR_SESSION_ID_CHARS);
        CHECK_STATUS(cr_session_id_parse(id.text, CR_SESSION_ID_CHARS, &parsed), CR_E_INVALID);
    }
}

/* Nor does text that goes on behind a token's: a hit is no more generous than a miss. */
static void text_that_is_longer_than_a_token_carries_an_id_that_does_not_exist(void)
{
    struct fixture f;
    if (!setup(&f))
        return;
    struct cr_session_id id, parsed;
    f.token.text[CR_TOKEN_CHARS] = 'A';
    cr_token_id(&f.token, &id);
    CHECK_STATUS(cr_session_id_parse(id.text, CR_SESSION_ID_CHARS, &parsed), CR_E_INVALID);
    CHECK(!cr_token_is_genuine(&f.ring, &f.token));
}

static void a_sealed_successor_opens_with_the_old_token_only(void)
{
    struct fixture f;
    if (!setup(&f))
        return;
    struct cr_token successor, opened;
    unsigned char sealed[CR_SEALED_BYTES_MAX];
    uint8_t bytes = 0;
    if (!CHECK_STATUS(cr_token_make(&f.ring, &f.random.random, &f.id, 0, &successor), CR_OK) ||
        !CHECK_STATUS(cr_token_seal(&f.token, &successor, &f.random.random, sealed, &bytes), CR_OK))
        return;
    CHECK(cr_token_unseal(&f.token, sealed, bytes, &opened));
    CHECK_STR(opened.text, successor.text);
    CHECK(!cr_token_unseal(&successor, sealed, bytes, &opened));
    for (size_t i = 0; i < CR_TOKEN_CHARS; i++) {
        struct cr_token other = f.token;
        other.text[i] = (char)(other.text[i] ^ 1);
        CHECK(!cr_token_unseal(&other, sealed, bytes, &opened));
    }
}

static void a_damaged_seal_does_not_open(void)
{
    struct fixture f;
    if (!setup(&f))
        return;
    struct cr_token opened;
    unsigned char sealed[CR_SEALED_BYTES_MAX];
    uint8_t bytes = 0;
    if (!CHECK_STATUS(cr_token_seal(&f.token, &f.token, &f.random.random, sealed, &bytes), CR_OK))
        return;
    for (size_t i = 0; i < bytes; i++) {
        sealed[i] ^= 4;
        CHECK(!cr_token_unseal(&f.token, sealed, bytes, &opened));
        sealed[i] ^= 4;
    }
    for (size_t i = 0; i < CR_SEALED_BYTES_MAX; i++)
        CHECK(i == bytes || !cr_token_unseal(&f.token, sealed, i, &opened));
    CHECK(cr_token_unseal(&f.token, sealed, bytes, &opened));
}

/* ASVS A7: the store has the hash of the old token, and the seal. */
static void a_seal_shows_nothing_of_the_successor(void)
{
    struct fixture f;
    if (!setup(&f))
        return;
    unsigned char sealed[CR_SEALED_BYTES_MAX], again[CR_SEALED_BYTES_MAX];
    uint8_t bytes = 0;
    if (!CHECK_STATUS(cr_token_seal(&f.token, &f.token, &f.random.random, sealed, &bytes), CR_OK) ||
        !CHECK_STATUS(cr_token_seal(&f.token, &f.token, &f.random.random, again, &bytes), CR_OK))
        return;
    CHECK(memmem(sealed, bytes, f.token.text + 5 + 28, 8) == NULL);
    CHECK(memcmp(sealed, again, bytes) != 0);
}

static const struct tap_test tests[] = {
    TAP_TEST(a_key_that_waits_checks_tokens_and_makes_none),
    TAP_TEST(a_device_cookie_is_of_a_key_that_signs),
    TAP_TEST(a_token_has_the_layout_that_its_header_draws),
    TAP_TEST(a_token_of_known_key_and_bytes_is_known),
    TAP_TEST(the_hash_is_sha256_of_the_55_characters),
    TAP_TEST(a_made_token_is_genuine_under_every_key_that_is_kept),
    TAP_TEST(a_token_of_a_key_that_was_dropped_is_not_genuine),
    TAP_TEST(a_token_of_another_realm_is_not_genuine),
    TAP_TEST(the_same_key_number_with_other_bytes_is_another_key),
    TAP_TEST(each_flipped_bit_of_a_token_is_noticed_by_a_hit_and_by_a_miss),
    TAP_TEST(every_other_character_at_every_place_is_noticed),
    TAP_TEST(two_tokens_share_bytes_by_chance_only),
    TAP_TEST(ids_begin_with_their_time_in_steps_of_16_ms),
    TAP_TEST(the_same_id_gets_another_secret_each_time),
    TAP_TEST(without_random_bytes_nothing_is_made),
    TAP_TEST(text_of_another_version_carries_an_id_that_does_not_exist),
    TAP_TEST(text_that_is_longer_than_a_token_carries_an_id_that_does_not_exist),
    TAP_TEST(a_sealed_successor_opens_with_the_old_token_only),
    TAP_TEST(a_damaged_seal_does_not_open),
    TAP_TEST(a_seal_shows_nothing_of_the_successor),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
