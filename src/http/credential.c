/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds the token of a request. A cookie's name is matched by exact bytes (ASVS B8): nothing is
 * trimmed but the one space that RFC 6265 puts between pairs, no case is folded, no quotes are
 * taken off, `$Version` means nothing. A name that another reader would make ours by doing so is
 * another cookie here, and the request simply has no session.
 */
#include "http/credential.h"

#include <string.h>
#include <strings.h>

#include "base/bytes.h"

static const struct cr_http_refusal two_cookies = {
    400, "There are two session cookies: nobody can tell which one is meant."};
static const struct cr_http_refusal two_tokens = {
    400, "The session cookie and the bearer token differ."};

/* Cuts the next pair off *rest; false: there is none. */
static bool cookie_next(struct cr_http_text *rest, struct cr_http_text *out_pair)
{
    if (rest->bytes == NULL)
        return false;
    const char *end = memchr(rest->bytes, ';', rest->count);
    size_t count = end != NULL ? (size_t)(end - rest->bytes) : rest->count;
    *out_pair = (struct cr_http_text){rest->bytes, count};
    if (end == NULL) {
        *rest = (struct cr_http_text){0};
        return true;
    }
    rest->bytes += count + 1;
    rest->count -= count + 1;
    if (rest->count > 0 && rest->bytes[0] == ' ') {
        rest->bytes++;
        rest->count--;
    }
    return true;
}

/* The value of the cookie called exactly `name`; bytes NULL: there is none. False: there are two.
 */
static bool cookie_find(struct cr_http_text header, const char *name, struct cr_http_text *out)
{
    size_t name_count = strlen(name);
    struct cr_http_text pair;
    *out = (struct cr_http_text){0};
    while (cookie_next(&header, &pair)) {
        if (pair.count <= name_count || pair.bytes[name_count] != '=' ||
            memcmp(pair.bytes, name, name_count) != 0)
            continue;
        if (out->bytes != NULL)
            return false;
        out->bytes = pair.bytes + name_count + 1;
        out->count = pair.count - name_count - 1;
    }
    return true;
}

/* Other schemes are somebody else's: bytes NULL. */
static struct cr_http_text bearer_find(struct cr_http_text authorization)
{
    static const char scheme[] = "bearer ";
    size_t count = sizeof scheme - 1;
    if (authorization.bytes == NULL || authorization.count < count ||
        strncasecmp(authorization.bytes, scheme, count) != 0)
        return (struct cr_http_text){0};
    return (struct cr_http_text){authorization.bytes + count, authorization.count - count};
}

const struct cr_http_refusal *cr_http_credential_find(const struct cr_http_fields *fields,
                                                      const char *cookie_name,
                                                      struct cr_http_credential *out)
{
    struct cr_http_text cookie;
    struct cr_http_text bearer = bearer_find(fields->of[CR_HTTP_AUTHORIZATION]);
    out->present = out->by_cookie = out->parsed = false;
    if (!cookie_find(fields->of[CR_HTTP_COOKIE], cookie_name, &cookie))
        return &two_cookies;
    if (cookie.bytes != NULL && bearer.bytes != NULL &&
        (cookie.count != bearer.count || !cr_bytes_equal(cookie.bytes, bearer.bytes, cookie.count)))
        return &two_tokens;
    struct cr_http_text token = cookie.bytes != NULL ? cookie : bearer;
    out->present = token.bytes != NULL;
    out->by_cookie = cookie.bytes != NULL;
    out->parsed = out->present && cr_token_parse(token.bytes, token.count, &out->token) == CR_OK;
    return NULL;
}

void cr_http_cookie_get(const struct cr_http_fields *fields, const char *name, char *out,
                        size_t capacity)
{
    struct cr_http_text value;
    out[0] = '\0';
    if (!cookie_find(fields->of[CR_HTTP_COOKIE], name, &value) || value.bytes == NULL ||
        value.count >= capacity || memchr(value.bytes, '\0', value.count) != NULL)
        return;
    memcpy(out, value.bytes, value.count);
    out[value.count] = '\0';
}
