/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What leaves: the headers of every answer, errors as problem details or pages, cookies. Here and
 * nowhere else, so that no answer goes without them (ASVS F4, F7, B1 to B7).
 */
#include "http/exchange.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/assert.h"

#define DEVICE_DAYS 400LL /* browsers keep none for longer */

#define COMMON_HEADERS                                                                             \
    {"Cache-Control", "no-store"},                                                                 \
        {"Content-Security-Policy",                                                                \
         "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "              \
         "base-uri 'none'; frame-ancestors 'none'"},                                               \
        {"X-Content-Type-Options", "nosniff"}, /* not no-referrer: it would make Origin "null" */  \
        {"Referrer-Policy", "same-origin"}, {"Cross-Origin-Opener-Policy", "same-origin"},         \
    {                                                                                              \
        "Cross-Origin-Resource-Policy", "same-origin"                                              \
    }

const struct cr_http_reply_header *cr_http_common_headers(const struct cr_http_site *site)
{
    static const struct cr_http_reply_header dev[] = {COMMON_HEADERS, {NULL, NULL}};
    static const struct cr_http_reply_header secure[] = {
        COMMON_HEADERS, {"Strict-Transport-Security", "max-age=31536000"}, {NULL, NULL}};
    return site->dev ? dev : secure;
}

const char *cr_http_status_title(unsigned status)
{
    static const struct {
        unsigned status;
        const char *title;
    } titles[] = {
        {200, "OK"},
        {202, "Accepted"},
        {303, "See Other"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {409, "Conflict"},
        {411, "Length Required"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {503, "Service Unavailable"},
    };
    for (size_t i = 0; i < sizeof titles / sizeof titles[0]; i++)
        if (titles[i].status == status)
            return titles[i].title;
    return "Error";
}

void cr_http_header_add(struct cr_http_exchange *x, const char *name, const char *value)
{
    CR_ASSERT(x->reply.header_count < CR_HTTP_REPLY_HEADERS_MAX);
    x->reply.headers[x->reply.header_count++] = (struct cr_http_reply_header){name, value};
}

const char *cr_http_scratch(struct cr_http_exchange *x, const char *format, ...)
{
    char *start = x->scratch + x->scratch_used;
    size_t capacity = sizeof x->scratch - x->scratch_used;
    va_list args;
    va_start(args, format);
    int count = vsnprintf(start, capacity, format, args);
    va_end(args);
    CR_ASSERT(count >= 0 && (size_t)count < capacity);
    x->scratch_used += (size_t)count + 1;
    return start;
}

bool cr_http_has_type(const struct cr_http_exchange *x, const char *type)
{
    struct cr_http_text sent = x->fields.of[CR_HTTP_CONTENT_TYPE];
    size_t count = strlen(type);
    if (sent.bytes == NULL || sent.count < count || strncasecmp(sent.bytes, type, count) != 0)
        return false;
    return sent.count == count || strchr("; \t", sent.bytes[count]) != NULL;
}

static const char *cookie_attributes(const struct cr_http_site *site)
{
    return site->dev ? "Path=/; HttpOnly; SameSite=Lax" : "Path=/; Secure; HttpOnly; SameSite=Lax";
}

static const char *cookie_name(const struct cr_http_site *site)
{
    return site->dev ? CR_HTTP_COOKIE_DEV : CR_HTTP_COOKIE_SECURE;
}

void cr_http_cookie_set(struct cr_http_exchange *x, const struct cr_token *token, cr_span_ms age)
{
    cr_http_header_add(x, "Set-Cookie",
                       cr_http_scratch(x, "%s=%s; Max-Age=%lld; %s", cookie_name(x->site),
                                       token->text, (long long)(age > 0 ? age / 1000 : 0),
                                       cookie_attributes(x->site)));
}

void cr_http_cookie_clear(struct cr_http_exchange *x)
{
    cr_http_header_add(
        x, "Set-Cookie",
        cr_http_scratch(x, "%s=; Max-Age=0; %s", cookie_name(x->site), cookie_attributes(x->site)));
}

const char *cr_http_device_name(const struct cr_http_site *site)
{
    return site->dev ? CR_HTTP_DEVICE_DEV : CR_HTTP_DEVICE_SECURE;
}

void cr_http_device_set(struct cr_http_exchange *x, const char *device)
{
    cr_http_header_add(x, "Set-Cookie",
                       cr_http_scratch(x, "%s=%s; Max-Age=%lld; %s", cr_http_device_name(x->site),
                                       device, DEVICE_DAYS * 24 * 3600,
                                       cookie_attributes(x->site)));
}

const char *cr_http_form_name(const struct cr_http_site *site)
{
    return site->dev ? CR_HTTP_FORM_DEV : CR_HTTP_FORM_SECURE;
}

void cr_http_form_set(struct cr_http_exchange *x, const char *form)
{
    cr_http_header_add(x, "Set-Cookie",
                       cr_http_scratch(x, "%s=%s; %s", cr_http_form_name(x->site), form,
                                       cookie_attributes(x->site)));
}

enum cr_http_progress cr_http_reply_body(struct cr_http_exchange *x, unsigned status,
                                         const char *type)
{
    if (x->body.failed) {
        cr_text_clear(&x->body);
        status = 503;
        type = NULL;
    }
    x->reply.status = status;
    x->reply.type = type;
    x->reply.close = false;
    x->reply.body = (struct cr_http_text){x->body.bytes, x->body.count};
    return CR_HTTP_REPLY;
}

enum cr_http_progress cr_http_reply_static(struct cr_http_exchange *x, const char *type,
                                           struct cr_http_text body)
{
    x->reply.status = 200;
    x->reply.type = type;
    x->reply.close = false;
    x->reply.body = body;
    return CR_HTTP_REPLY;
}

enum cr_http_progress cr_http_redirect(struct cr_http_exchange *x, const char *location)
{
    cr_text_clear(&x->body);
    cr_http_header_add(x, "Location", location);
    return cr_http_reply_body(x, 303, NULL);
}

/* `ended` NULL: nothing more is said. */
static void problem_json(struct cr_http_exchange *x, unsigned status, const char *detail,
                         const struct cr_explanation *ended, const char *error)
{
    const char *title = cr_http_status_title(status);
    cr_text_str(&x->body, "{\"type\":\"about:blank\",\"title\":");
    cr_text_json(&x->body, title, strlen(title));
    cr_text_str(&x->body, ",\"status\":");
    cr_text_u64(&x->body, status);
    cr_text_str(&x->body, ",\"detail\":");
    cr_text_json(&x->body, detail, strlen(detail));
    if (ended != NULL)
        cr_http_json_ended(&x->body, ended);
    if (error != NULL) {
        cr_text_str(&x->body, ",\"error\":");
        cr_text_json(&x->body, error, strlen(error));
    }
    cr_text_str(&x->body, "}\n");
}

/* Whether a browser shows what is answered: a page, what one of our forms has sent, an address that
 * somebody typed. */
static bool is_for_people(const struct cr_http_exchange *x)
{
    static const char html[] = "text/html";
    if (x->route != NULL)
        return x->route->page || cr_http_has_type(x, "application/x-www-form-urlencoded");
    for (size_t i = 0; x->site->surface == CR_HTTP_PUBLIC && i < x->request.header_count; i++) {
        const struct cr_http_header *header = &x->request.headers[i];
        if (header->name.count == 6 && strncasecmp(header->name.bytes, "Accept", 6) == 0 &&
            memmem(header->value.bytes, header->value.count, html, sizeof html - 1) != NULL)
            return true;
    }
    return false;
}

static enum cr_http_progress problem(struct cr_http_exchange *x, unsigned status,
                                     const char *detail, const struct cr_explanation *ended,
                                     const char *error)
{
    cr_text_clear(&x->body);
    if (status == 503)
        cr_http_header_add(x, "Retry-After", "1");
    if (is_for_people(x)) {
        cr_http_html_message(x, status, detail);
        return cr_http_reply_body(x, status, "text/html; charset=utf-8");
    }
    if (status == 401)
        cr_http_header_add(x, "WWW-Authenticate", "Bearer realm=\"cloakroom\"");
    problem_json(x, status, detail, ended, error);
    return cr_http_reply_body(x, status, "application/problem+json");
}

enum cr_http_progress cr_http_problem(struct cr_http_exchange *x, unsigned status,
                                      const char *detail)
{
    return problem(x, status, detail, NULL, NULL);
}

enum cr_http_progress cr_http_problem_named(struct cr_http_exchange *x, unsigned status,
                                            const char *detail, const char *error)
{
    return problem(x, status, detail, NULL, error);
}

enum cr_http_progress cr_http_problem_status(struct cr_http_exchange *x, enum cr_status st)
{
    switch (st) {
    case CR_UNAVAILABLE:
        return cr_http_problem(x, 503,
                               "Sessions cannot be looked up just now. Nobody was logged "
                               "out: try again in a moment.");
    case CR_BUSY:
        return cr_http_problem(x, 503, "Too much at once: try again in a moment.");
    case CR_NOT_FOUND:
    case CR_UNKNOWN_USER:
        return cr_http_problem(x, 404, "There is no such session.");
    case CR_ENDED:
        return cr_http_unauthenticated(x);
    case CR_DENIED:
        return cr_http_problem(x, 403, "This is not allowed.");
    case CR_CONFLICT:
        return cr_http_problem(x, 409, "Somebody else changed it first: try again.");
    case CR_PENDING:
    case CR_E_UNKNOWN_OUTCOME:
        return cr_http_problem(x, 503,
                               "It is not known yet whether this was done everywhere. It "
                               "is safe to try again.");
    case CR_E_NO_MEMORY:
    case CR_E_LIMIT:
    case CR_E_IO:
        return cr_http_problem(x, 503, "The server lacks what it needs to answer: try again.");
    case CR_OK:
    case CR_ASK:
    case CR_LIMITED: /* only of a login, which says more; so are the next four */
    case CR_PASSWORD_SHORT:
    case CR_PASSWORD_COMMON:
    case CR_PASSWORD_KNOWN:
    case CR_CHANGE_FIRST:
    case CR_LOST:
    case CR_E_INVALID:
    case CR_E_CORRUPT:
    case CR_E_VERSION:
    case CR_E_REFUSED:
    case CR_E_PROTOCOL:
        break;
    }
    return cr_http_problem(x, 500, "Something went wrong on the server.");
}

enum cr_http_progress cr_http_problem_ended(struct cr_http_exchange *x,
                                            const struct cr_explanation *ended)
{
    return problem(x, 401, "There is no live session: log in.", ended, NULL);
}
