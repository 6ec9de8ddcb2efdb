/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proof that a change of state was asked for by our own pages, or by no browser at all (ASVS F1,
 * F3). Three things, each enough to stop a foreign page alone: what the browser says about where a
 * request comes from; a content type that a form cannot have; a token that only our pages know.
 */
#include "http/exchange.h"

#include <sodium.h>
#include <string.h>

#include "base/bytes.h"
#include "base/random.h"
#include "http/form.h"

static bool text_is(struct cr_http_text text, const char *string)
{
    return text.count == strlen(string) && memcmp(text.bytes, string, text.count) == 0;
}

/* scheme://HOST, with the host that the request was sent to. */
static bool origin_is_ours(const struct cr_http_exchange *x, struct cr_http_text origin)
{
    static const char *const schemes[] = {"https://", "http://"};
    struct cr_http_text host = x->fields.of[CR_HTTP_HOST];
    if (host.bytes == NULL || host.count == 0)
        return false;
    for (size_t i = 0; i < (x->site->dev ? 2 : 1); i++) {
        size_t count = strlen(schemes[i]);
        if (origin.count == count + host.count && memcmp(origin.bytes, schemes[i], count) == 0 &&
            memcmp(origin.bytes + count, host.bytes, host.count) == 0)
            return true;
    }
    return false;
}

/* Where the browser says it itself, Origin adds nothing, and a proxy may have changed Host. A
 * client that sends neither is none of the browsers that would add a cookie by themselves. */
static bool is_own_site(const struct cr_http_exchange *x)
{
    struct cr_http_text site = x->fields.of[CR_HTTP_FETCH_SITE];
    struct cr_http_text origin = x->fields.of[CR_HTTP_ORIGIN];
    if (site.bytes != NULL)
        return text_is(site, "same-origin") || text_is(site, "none");
    return origin.bytes == NULL || origin_is_ours(x, origin);
}

/* What can be put into a page: nobody gets from it to the secret, nor to that of another purpose.
 */
static void token_derive(const char *secret, size_t count, const char *purpose,
                         char out[CR_HTTP_FORM_TOKEN_CHARS + 1])
{
    unsigned char key[32], hash[24];
    (void)crypto_generichash(key, sizeof key, (const unsigned char *)secret, count, NULL, 0);
    (void)crypto_generichash(hash, sizeof hash, (const unsigned char *)purpose, strlen(purpose),
                             key, sizeof key);
    cr_base64_encode(hash, sizeof hash, out);
    out[CR_HTTP_FORM_TOKEN_CHARS] = '\0';
    cr_bytes_wipe(key, sizeof key);
}

void cr_http_form_token(const struct cr_token *token, char out[CR_HTTP_FORM_TOKEN_CHARS + 1])
{
    token_derive(token->text, CR_TOKEN_CHARS, "cloakroom form token 1", out);
}

/* --- The log-in form's --- */

#define LOGIN_COOKIE_CHARS 32 /* 24 random bytes */

/* False: the browser has none, or sends what is none of ours. */
static bool login_cookie_get(const struct cr_http_exchange *x, char out[LOGIN_COOKIE_CHARS + 1])
{
    cr_http_cookie_get(&x->fields, cr_http_form_name(x->site), out, LOGIN_COOKIE_CHARS + 1);
    return strspn(out, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") ==
           LOGIN_COOKIE_CHARS;
}

static void login_token(const char cookie[LOGIN_COOKIE_CHARS + 1],
                        char out[CR_HTTP_FORM_TOKEN_CHARS + 1])
{
    token_derive(cookie, LOGIN_COOKIE_CHARS, "cloakroom login form token 1", out);
}

enum cr_status cr_http_login_token_begin(struct cr_http_exchange *x,
                                         char out[CR_HTTP_FORM_TOKEN_CHARS + 1])
{
    char cookie[LOGIN_COOKIE_CHARS + 1];
    /* The one that is there: a form in another tab stays good. */
    if (!login_cookie_get(x, cookie)) {
        unsigned char bytes[24];
        enum cr_status st = cr_random_fill(cr_random_system(), bytes, sizeof bytes);
        if (st != CR_OK)
            return st;
        cr_base64_encode(bytes, sizeof bytes, cookie);
        cookie[LOGIN_COOKIE_CHARS] = '\0';
        cr_http_form_set(x, cookie);
    }
    login_token(cookie, out);
    return CR_OK;
}

bool cr_http_login_token_matches(const struct cr_http_exchange *x,
                                 const struct cr_http_form_field *field)
{
    char cookie[LOGIN_COOKIE_CHARS + 1], want[CR_HTTP_FORM_TOKEN_CHARS + 1];
    if (field == NULL || field->count != CR_HTTP_FORM_TOKEN_CHARS || !login_cookie_get(x, cookie))
        return false;
    login_token(cookie, want);
    return cr_bytes_equal(field->bytes, want, CR_HTTP_FORM_TOKEN_CHARS);
}

/* --- A session's --- */

static bool form_token_matches(const struct cr_http_exchange *x, const char *bytes, size_t count)
{
    char want[CR_HTTP_FORM_TOKEN_CHARS + 1];
    cr_http_form_token(&x->credential.token, want);
    bool matches =
        count == CR_HTTP_FORM_TOKEN_CHARS && cr_bytes_equal(bytes, want, CR_HTTP_FORM_TOKEN_CHARS);
    cr_bytes_wipe(want, sizeof want);
    return matches;
}

static bool has_form_token(const struct cr_http_exchange *x)
{
    static const char *const names[] = {CR_HTTP_FORM_TOKEN_FIELD, NULL};
    struct cr_http_text header = x->fields.of[CR_HTTP_FORM_TOKEN];
    if (header.bytes != NULL)
        return form_token_matches(x, header.bytes, header.count);
    if (!cr_http_has_type(x, "application/x-www-form-urlencoded"))
        return false;
    struct cr_http_form form;
    cr_http_form_init(&form, names);
    bool matches = false;
    if (cr_http_form_urlencoded(&form, x->body_sent) == CR_OK) {
        const struct cr_http_form_field *field = cr_http_form_get(&form, CR_HTTP_FORM_TOKEN_FIELD);
        matches = field != NULL && form_token_matches(x, field->bytes, field->count);
    }
    cr_http_form_fini(&form);
    return matches;
}

/* A name that leads here is one that a foreign page's owner may have pointed here, so that their
 * script can read the answer. A number cannot be pointed anywhere. */
static bool host_is_local(const struct cr_http_exchange *x)
{
    struct cr_http_text host = x->fields.of[CR_HTTP_HOST];
    const char *colon = host.bytes != NULL ? memchr(host.bytes, ':', host.count) : NULL;
    if (host.bytes == NULL)
        return true;
    if (host.count > 0 && host.bytes[0] == '[')
        return host.count >= 5 && memcmp(host.bytes, "[::1]", 5) == 0 &&
               (host.count == 5 || host.bytes[5] == ':');
    if (colon != NULL)
        host.count = (size_t)(colon - host.bytes);
    if (text_is(host, "localhost"))
        return true;
    for (size_t i = 0; i < host.count; i++)
        if (strchr("0123456789.", host.bytes[i]) == NULL)
            return false;
    return host.count > 4 && memcmp(host.bytes, "127.", 4) == 0;
}

bool cr_http_guarded(struct cr_http_exchange *x)
{
    if (x->site->surface == CR_HTTP_MONITOR && !host_is_local(x)) {
        (void)cr_http_problem(x, 403, "Ask this host by 127.0.0.1, [::1] or localhost.");
        return false;
    }
    /* A bearer token is added by a program, never by a browser on a foreign page's behalf. */
    bool by_cookie = x->credential.by_cookie && x->credential.parsed;
    if (x->route->guard == CR_HTTP_SAFE || (x->credential.present && !x->credential.by_cookie))
        return true;
    if (!is_own_site(x)) {
        (void)cr_http_problem(x, 403, "This request comes from the page of another site.");
        return false;
    }
    if (x->route->guard == CR_HTTP_OWN_SITE || !by_cookie ||
        cr_http_has_type(x, "application/json") || has_form_token(x))
        return true;
    (void)cr_http_problem(x, 403,
                          "A change that is asked for with a cookie needs Content-Type: "
                          "application/json, or the form token of this session.");
    return false;
}
