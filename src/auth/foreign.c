/* SPDX-License-Identifier: Apache-2.0 */
#include "auth/foreign.h"

#include <crypt.h>
#include <errno.h>
#include <nettle/hmac.h>
#include <nettle/pbkdf2.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cloakroom/store.h>

#include "base/bytes.h"

#define BCRYPT_CHARS 60
#define BCRYPT_BYTES 72
#define SUM_BYTES_MAX 64
#define SALT_BYTES_MAX 64

enum kind { KIND_NONE, KIND_BCRYPT, KIND_PBKDF2, KIND_ARGON2 };

struct foreign {
    enum kind kind;
    const char *hash; /* bcrypt, Argon2: as the library takes it */
    bool is_sha512;
    uint32_t iterations;
    unsigned char salt[SALT_BYTES_MAX], sum[SUM_BYTES_MAX];
    size_t salt_bytes, sum_bytes;
};

static const char none[] = "it is no bcrypt, PBKDF2 or Argon2 hash in a form that is known here";

/* ---- reading */

/* Digits from *at on, at most `most`; passes over them and the character behind, which is `end`. */
static bool number_read(const char **at, char end, uint32_t most, uint32_t *out)
{
    const char *text = *at;
    uint64_t number = 0;
    if (*text < '1' || *text > '9')
        return false;
    for (; *text >= '0' && *text <= '9'; text++) {
        number = number * 10 + (uint64_t)(*text - '0');
        if (number > UINT32_MAX)
            return false;
    }
    if (*text != end)
        return false;
    *out = number > most ? most + 1 : (uint32_t)number;
    *at = text + 1;
    return true;
}

static const char *bcrypt_read(const char *hash, struct foreign *out)
{
    static const char digits[] = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    if (strlen(hash) != BCRYPT_CHARS || hash[4] < '0' || hash[4] > '3' || hash[5] < '0' ||
        hash[5] > '9' || hash[6] != '$' || strspn(hash + 7, digits) != BCRYPT_CHARS - 7)
        return "it begins as a bcrypt hash and is none: 60 characters, $2b$COST$ and 53 more";
    int cost = (hash[4] - '0') * 10 + hash[5] - '0';
    if (cost < 4 || cost > CR_FOREIGN_BCRYPT_COST_MAX)
        return "its cost is not from 4 to 15: every log-in would have to pay it";
    out->kind = KIND_BCRYPT;
    out->hash = hash;
    return NULL;
}

static const char argon2_form[] =
    "it begins as an Argon2 hash and is none: $argon2id$v=19$m=KIB,t=PASSES,p=LANES$SALT$HASH";

static bool word_pass(const char **at, const char *word)
{
    size_t length = strlen(word);
    if (strncmp(*at, word, length) != 0)
        return false;
    *at += length;
    return true;
}

static const char *argon2_read(const char *hash, const char *at, struct foreign *out)
{
    uint32_t kib = 0;
    uint32_t passes = 0;
    uint32_t lanes = 0;
    unsigned char part[SUM_BYTES_MAX];
    size_t bytes = 0;
    const char *end = NULL;
    if (!word_pass(&at, "v=19$"))
        return "it is of an Argon2 before version 1.3 (v=19), which is not taken";
    if (!word_pass(&at, "m=") || !number_read(&at, ',', UINT32_MAX - 1, &kib) ||
        !word_pass(&at, "t=") || !number_read(&at, ',', UINT32_MAX - 1, &passes) ||
        !word_pass(&at, "p=") || !number_read(&at, '$', UINT32_MAX - 1, &lanes))
        return argon2_form;
    if (sodium_base642bin(part, sizeof part, at, strlen(at), NULL, &bytes, &end,
                          sodium_base64_VARIANT_ORIGINAL_NO_PADDING) != 0 ||
        *end != '$' || bytes < 8)
        return argon2_form;
    at = end + 1;
    if (sodium_base642bin(part, sizeof part, at, strlen(at), NULL, &bytes, &end,
                          sodium_base64_VARIANT_ORIGINAL_NO_PADDING) != 0 ||
        *end != '\0' || bytes < 16)
        return argon2_form;
    if (kib > CR_FOREIGN_ARGON2_KIB_MAX || (uint64_t)kib * passes > CR_FOREIGN_ARGON2_WORK_MAX ||
        lanes > 16 || kib < 8 * lanes)
        return "its memory, passes or lanes are more than a log-in may cost: 256 MiB, four passes "
               "over that, 16 lanes";
    out->kind = KIND_ARGON2;
    out->hash = hash;
    return NULL;
}

static const char pbkdf2_form[] = "it begins as a PBKDF2 hash and is none: iterations, salt and "
                                  "hash, as Django, passlib or Werkzeug write them";

static bool salt_raw(const char *at, const char *end, struct foreign *out)
{
    if (end == NULL || end == at || (size_t)(end - at) > sizeof out->salt)
        return false;
    out->salt_bytes = (size_t)(end - at);
    memcpy(out->salt, at, out->salt_bytes);
    return true;
}

static bool django_read(const char *at, struct foreign *out)
{
    const char *salt_end = strchr(at, '$');
    const char *end = NULL;
    return salt_raw(at, salt_end, out) &&
           sodium_base642bin(out->sum, sizeof out->sum, salt_end + 1, strlen(salt_end + 1), NULL,
                             &out->sum_bytes, &end, sodium_base64_VARIANT_ORIGINAL) == 0 &&
           *end == '\0';
}

static bool werkzeug_read(const char *at, struct foreign *out)
{
    const char *salt_end = strchr(at, '$');
    const char *end = NULL;
    return salt_raw(at, salt_end, out) &&
           sodium_hex2bin(out->sum, sizeof out->sum, salt_end + 1, strlen(salt_end + 1), NULL,
                          &out->sum_bytes, &end) == 0 &&
           *end == '\0';
}

/* passlib's base64 has '.' for '+', and no padding. */
static bool passlib_read(const char *at, struct foreign *out)
{
    char text[CR_PASSWORD_HASH_CHARS_MAX + 1];
    const char *end = NULL;
    size_t length = strlen(at);
    if (length >= sizeof text)
        return false;
    for (size_t i = 0; i <= length; i++)
        text[i] = at[i] == '.' ? '+' : at[i] == '+' ? '!' : at[i];
    if (sodium_base642bin(out->salt, sizeof out->salt, text, length, NULL, &out->salt_bytes, &end,
                          sodium_base64_VARIANT_ORIGINAL_NO_PADDING) != 0 ||
        *end != '$')
        return false;
    const char *rest = end + 1;
    return sodium_base642bin(out->sum, sizeof out->sum, rest, strlen(rest), NULL, &out->sum_bytes,
                             &end, sodium_base64_VARIANT_ORIGINAL_NO_PADDING) == 0 &&
           *end == '\0';
}

static const char *pbkdf2_read(const char *at, bool is_sha512,
                               bool (*read)(const char *, struct foreign *), struct foreign *out)
{
    out->is_sha512 = is_sha512;
    if (!number_read(&at, '$', CR_FOREIGN_PBKDF2_ITERATIONS_MAX, &out->iterations))
        return pbkdf2_form;
    if (out->iterations > CR_FOREIGN_PBKDF2_ITERATIONS_MAX)
        return "its iterations are more than 5000000: every log-in would have to pay them";
    if (!read(at, out) || out->salt_bytes == 0 || out->sum_bytes != (is_sha512 ? 64 : 32))
        return pbkdf2_form;
    out->kind = KIND_PBKDF2;
    return NULL;
}

static const char *foreign_read(const char *hash, struct foreign *out)
{
    static const struct {
        const char *prefix;
        bool is_sha512;
        bool (*read)(const char *, struct foreign *);
    } pbkdf2s[] = {
        {"pbkdf2_sha256$", false, django_read},   {"pbkdf2_sha512$", true, django_read},
        {"$pbkdf2-sha256$", false, passlib_read}, {"$pbkdf2-sha512$", true, passlib_read},
        {"pbkdf2:sha256:", false, werkzeug_read}, {"pbkdf2:sha512:", true, werkzeug_read},
    };
    memset(out, 0, sizeof *out);
    if (strlen(hash) > CR_PASSWORD_HASH_CHARS_MAX)
        return "it has more than 191 characters";
    for (size_t i = 0; i < sizeof pbkdf2s / sizeof pbkdf2s[0]; i++)
        if (strncmp(hash, pbkdf2s[i].prefix, strlen(pbkdf2s[i].prefix)) == 0)
            return pbkdf2_read(hash + strlen(pbkdf2s[i].prefix), pbkdf2s[i].is_sha512,
                               pbkdf2s[i].read, out);
    if (strncmp(hash, "bcrypt$$", 8) == 0)
        hash += 7;
    else if (strncmp(hash, "argon2$argon2", 13) == 0)
        hash += 6;
    if (strncmp(hash, "$2a$", 4) == 0 || strncmp(hash, "$2b$", 4) == 0 ||
        strncmp(hash, "$2y$", 4) == 0)
        return bcrypt_read(hash, out);
    const char *at = hash + (hash[0] == '$');
    if (word_pass(&at, "argon2id$") || word_pass(&at, "argon2i$"))
        return argon2_read(hash[0] == '$' ? hash : hash - 1, at, out);
    return none;
}

const char *cr_foreign_unfit(const char *hash)
{
    struct foreign foreign;
    return foreign_read(hash, &foreign);
}

/* ---- verifying */

static enum cr_status bcrypt_verify(const struct foreign *foreign, const void *password,
                                    size_t bytes)
{
    char text[BCRYPT_BYTES + 1] = {0};
    enum cr_status st = CR_DENIED;
    if (bytes > 0 && memchr(password, '\0', bytes) != NULL)
        return CR_DENIED;
    struct crypt_data *data = calloc(1, sizeof *data);
    if (data == NULL)
        return CR_E_NO_MEMORY;
    memcpy(text, password, bytes < BCRYPT_BYTES ? bytes : BCRYPT_BYTES);
    const char *made = crypt_r(text, foreign->hash, data);
    if (made != NULL && strlen(made) == BCRYPT_CHARS &&
        cr_bytes_equal(made, foreign->hash, BCRYPT_CHARS))
        st = CR_OK;
    cr_bytes_wipe(text, sizeof text);
    cr_bytes_wipe(data, sizeof *data);
    free(data);
    return st;
}

static enum cr_status pbkdf2_verify(const struct foreign *foreign, const void *password,
                                    size_t bytes)
{
    unsigned char sum[SUM_BYTES_MAX];
    /* HMAC fills a short key up with NULs: to it, one at the end is nothing (E8). */
    if (bytes > 0 && ((const unsigned char *)password)[bytes - 1] == '\0')
        return CR_DENIED;
    if (foreign->is_sha512) {
        struct hmac_sha512_ctx context;
        hmac_sha512_set_key(&context, bytes, password);
        PBKDF2(&context, hmac_sha512_update, hmac_sha512_digest, 64, foreign->iterations,
               foreign->salt_bytes, foreign->salt, foreign->sum_bytes, sum);
        cr_bytes_wipe(&context, sizeof context);
    } else {
        pbkdf2_hmac_sha256(bytes, password, foreign->iterations, foreign->salt_bytes, foreign->salt,
                           foreign->sum_bytes, sum);
    }
    bool is_equal = cr_bytes_equal(sum, foreign->sum, foreign->sum_bytes);
    cr_bytes_wipe(sum, sizeof sum);
    return is_equal ? CR_OK : CR_DENIED;
}

/* libsodium says -1 for a wrong password and for want of memory; errno tells them apart. */
static enum cr_status argon2_verify(const struct foreign *foreign, const void *password,
                                    size_t bytes)
{
    errno = 0;
    if (crypto_pwhash_str_verify(foreign->hash, password, bytes) == 0)
        return CR_OK;
    return errno == ENOMEM ? CR_E_NO_MEMORY : CR_DENIED;
}

enum cr_status cr_foreign_verify(const char *hash, const void *password, size_t bytes)
{
    struct foreign foreign;
    enum cr_status st = CR_DENIED;
    if (foreign_read(hash, &foreign) != NULL)
        return CR_DENIED;
    switch (foreign.kind) {
    case KIND_BCRYPT:
        st = bcrypt_verify(&foreign, password, bytes);
        break;
    case KIND_PBKDF2:
        st = pbkdf2_verify(&foreign, password, bytes);
        break;
    case KIND_ARGON2:
        st = argon2_verify(&foreign, password, bytes);
        break;
    case KIND_NONE:
        break;
    }
    return st;
}
