/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which session a request says it belongs to: Cookie and Authorization against a plain reading of
 * the same rule (ASVS B8, A9).
 * An input is the two values, parted by a line feed; a first byte of '-' leaves Cookie out.
 */
#include <string.h>
#include <strings.h>

#include "fuzz/fuzz.h"
#include "http/credential.h"

#define NAME CR_HTTP_COOKIE_SECURE /* "__Host-cloakroom" */

static const char *const words[] = {
    "__Host-cloakroom",
    "__Host-cloakroom=",
    "; __Host-cloakroom=",
    "; ",
    "Bearer ",
    "bearer ",
    "crs1_",
    "\n",
    "$Version",
    "\"",
    "__host-",
    "\xe2\x80\x80",
    " ",
    "\t",
    ",",
    ";",
    NULL,
};

/* What a plain reader finds: how often the cookie is there, and the first one's value. */
struct reading {
    size_t count;
    const char *value;
    size_t bytes;
};

static bool is_ours(const char *pair, size_t bytes)
{
    const size_t length = strlen(NAME "=");
    return bytes >= length && memcmp(pair, NAME "=", length) == 0;
}

/* Pairs begin at the start, and after each semicolon and the one space that may follow it. */
static struct reading plain_read(const char *text, size_t bytes)
{
    struct reading found = {0};
    size_t from = 0;
    for (size_t i = 0; i <= bytes; i++) {
        if (i < bytes && text[i] != ';')
            continue;
        if (is_ours(text + from, i - from)) {
            if (found.count++ == 0) {
                found.value = text + from + strlen(NAME "=");
                found.bytes = i - from - strlen(NAME "=");
            }
        }
        from = i + 1 < bytes && text[i + 1] == ' ' ? i + 2 : i + 1;
    }
    return found;
}

static void credential_check(const struct cr_http_fields *fields)
{
    struct cr_http_text cookie = fields->of[CR_HTTP_COOKIE];
    struct cr_http_text authorization = fields->of[CR_HTTP_AUTHORIZATION];
    struct cr_http_credential got;
    struct reading want = {0};
    memset(&got, 0xa5, sizeof got);
    const struct cr_http_refusal *refusal = cr_http_credential_find(fields, NAME, &got);
    if (cookie.bytes != NULL)
        want = plain_read(cookie.bytes, cookie.count);
    bool bearer = authorization.bytes != NULL && authorization.count >= 7 &&
                  strncasecmp(authorization.bytes, "bearer ", 7) == 0;
    const char *token = want.count > 0 ? want.value : bearer ? authorization.bytes + 7 : NULL;
    size_t bytes = want.count > 0 ? want.bytes : bearer ? authorization.count - 7 : 0;
    bool differ = want.count == 1 && want.value != NULL && bearer &&
                  (want.bytes != authorization.count - 7 ||
                   memcmp(want.value, authorization.bytes + 7, want.bytes) != 0);
    if (refusal != NULL) {
        fuzz_must(refusal->status == 400 && refusal->why[0] != '\0', "it says why");
        fuzz_must(want.count > 1 || differ, "what is refused has two tokens");
        fuzz_refused();
        return;
    }
    fuzz_must(want.count <= 1 && !differ, "a request has one token");
    fuzz_must(got.present == (token != NULL), "it is there or not");
    fuzz_must(got.by_cookie == (want.count == 1), "it came by the cookie or not");
    fuzz_must(!got.parsed || got.present, "what is not there is not taken");
    if (!got.parsed)
        return;
    fuzz_must(bytes == CR_TOKEN_CHARS && memcmp(got.token.text, token, bytes) == 0 &&
                  got.token.text[CR_TOKEN_CHARS] == '\0',
              "the token is what was sent, every byte of it");
    fuzz_taken();
}

/* The same cookie by its value's other way out. */
static void value_check(const struct cr_http_fields *fields)
{
    struct cr_http_text cookie = fields->of[CR_HTTP_COOKIE];
    char out[CR_DEVICE_CHARS + 1];
    struct reading want = {0};
    memset(out, 0x5a, sizeof out);
    if (cookie.bytes != NULL)
        want = plain_read(cookie.bytes, cookie.count);
    cr_http_cookie_get(fields, NAME, out, sizeof out);
    fuzz_must(memchr(out, '\0', sizeof out) != NULL, "it is ended");
    bool fits =
        want.count == 1 && want.bytes < sizeof out && memchr(want.value, '\0', want.bytes) == NULL;
    fuzz_must(strlen(out) == (fits ? want.bytes : 0), "it is whole or not there");
    fuzz_must(!fits || memcmp(out, want.value, want.bytes) == 0, "it is what was sent");
}

static void one(const unsigned char *data, size_t bytes)
{
    struct cr_http_fields fields = {0};
    struct fuzz_input input = {data, bytes};
    struct cr_http_text text;
    if (bytes == 0)
        return;
    if (fuzz_piece(&input, '\n', &text.bytes, &text.count) && data[0] != '-')
        fields.of[CR_HTTP_COOKIE] = text;
    if (input.left > 0)
        fields.of[CR_HTTP_AUTHORIZATION] =
            (struct cr_http_text){(const char *)input.bytes, input.left};
    credential_check(&fields);
    value_check(&fields);
}

const struct fuzz_target fuzz_cookie = {"cookie", words, NULL, one};
