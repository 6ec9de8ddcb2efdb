/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which address and method do what: one table. Addresses are compared byte by byte as they were
 * sent; nothing is decoded, folded or completed, so no two spellings reach one handler (ASVS G4).
 */
#include "http/exchange.h"

#include <string.h>

static const struct cr_http_route routes[] = {
    /* path, method, guard, page, handler */
    {"/session", CR_HTTP_GET, CR_HTTP_SAFE, false, cr_http_session_get},
    {"/verify", CR_HTTP_ANY, CR_HTTP_SAFE, false, cr_http_verify},
    {"/login", CR_HTTP_POST, CR_HTTP_OWN_SITE, false, cr_http_login_post},
    {"/logout", CR_HTTP_POST, CR_HTTP_PROOF, false, cr_http_logout_post},
    {"/sessions", CR_HTTP_GET, CR_HTTP_SAFE, false, cr_http_sessions_get},
    {"/sessions", CR_HTTP_DELETE, CR_HTTP_PROOF, false, cr_http_sessions_delete},
    {"/sessions/*", CR_HTTP_DELETE, CR_HTTP_PROOF, false, cr_http_session_delete},
    {"/", CR_HTTP_GET, CR_HTTP_SAFE, true, cr_http_home_page},
    {"/login", CR_HTTP_GET, CR_HTTP_SAFE, true, cr_http_login_page},
    {"/sessions/*/end", CR_HTTP_POST, CR_HTTP_PROOF, true, cr_http_session_end_post},
    {"/sessions/end-others", CR_HTTP_POST, CR_HTTP_PROOF, true, cr_http_others_end_post},
    {"/style.css", CR_HTTP_GET, CR_HTTP_SAFE, false, cr_http_style_get},
    {"/icon.svg", CR_HTTP_GET, CR_HTTP_SAFE, false, cr_http_icon_get},
};

const struct cr_http_route *cr_http_routes(size_t *out_count)
{
    *out_count = sizeof routes / sizeof routes[0];
    return routes;
}

/* `out_segment` is what stands for the star. */
static bool path_matches(const char *pattern, struct cr_http_text path,
                         struct cr_http_text *out_segment)
{
    const char *star = strchr(pattern, '*');
    size_t before = star != NULL ? (size_t)(star - pattern) : strlen(pattern);
    if (path.count < before || memcmp(path.bytes, pattern, before) != 0)
        return false;
    if (star == NULL)
        return path.count == before;
    const char *from = path.bytes + before;
    size_t left = path.count - before, after = strlen(star + 1);
    if (left <= after || memcmp(from + left - after, star + 1, after) != 0)
        return false;
    *out_segment = (struct cr_http_text){from, left - after};
    return memchr(from, '/', out_segment->count) == NULL;
}

/* 0: none of those that a route names. */
static enum cr_http_method method_of(struct cr_http_text method)
{
    static const struct {
        const char *name;
        enum cr_http_method method;
    } known[] = {{"GET", CR_HTTP_GET},
                 {"HEAD", CR_HTTP_GET},
                 {"POST", CR_HTTP_POST},
                 {"DELETE", CR_HTTP_DELETE}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strlen(known[i].name) == method.count &&
            memcmp(known[i].name, method.bytes, method.count) == 0)
            return known[i].method;
    return 0;
}

static const char *allow_text(unsigned methods)
{
    switch (methods) {
    case CR_HTTP_GET:
        return "GET, HEAD";
    case CR_HTTP_POST:
        return "POST";
    case CR_HTTP_DELETE:
        return "DELETE";
    case CR_HTTP_GET | CR_HTTP_POST:
        return "GET, HEAD, POST";
    case CR_HTTP_GET | CR_HTTP_DELETE:
        return "GET, HEAD, DELETE";
    default:
        return "GET, HEAD, POST, DELETE";
    }
}

/* NULL: none, and *out_methods are the methods that the address has. */
static const struct cr_http_route *route_find(struct cr_http_exchange *x, unsigned *out_methods)
{
    enum cr_http_method method = method_of(x->request.method);
    *out_methods = 0;
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        if (!path_matches(routes[i].path, x->path, &x->segment))
            continue;
        if (routes[i].method == CR_HTTP_ANY || routes[i].method == method)
            return &routes[i];
        *out_methods |= routes[i].method;
    }
    return NULL;
}

static void target_split(struct cr_http_exchange *x)
{
    struct cr_http_text target = x->request.target;
    const char *mark = memchr(target.bytes, '?', target.count);
    size_t count = mark != NULL ? (size_t)(mark - target.bytes) : target.count;
    x->path = (struct cr_http_text){target.bytes, count};
    if (mark != NULL)
        x->query = (struct cr_http_text){mark + 1, target.count - count - 1};
}

static void refuse(struct cr_http_exchange *x, const struct cr_http_refusal *refusal)
{
    (void)cr_http_problem(x, refusal->status, refusal->why);
    x->reply.close = true;
}

void cr_http_refuse(struct cr_http_exchange *x, const struct cr_http_request *request,
                    const char *why)
{
    x->request = *request;
    refuse(x, &(struct cr_http_refusal){400, why});
}

bool cr_http_admit(struct cr_http_exchange *x, const struct cr_http_request *request)
{
    x->request = *request;
    const struct cr_http_refusal *refusal = cr_http_admission(&x->request, &x->fields);
    if (refusal == NULL)
        refusal = cr_http_credential_find(
            &x->fields, x->site->dev ? CR_HTTP_COOKIE_DEV : CR_HTTP_COOKIE_SECURE, &x->credential);
    if (refusal != NULL) {
        refuse(x, refusal);
        return false;
    }
    return true;
}

enum cr_http_progress cr_http_start(struct cr_http_exchange *x, struct cr_room *room,
                                    struct cr_http_text body)
{
    unsigned methods;
    x->room = room;
    x->body_sent = body;
    target_split(x);
    x->route = route_find(x, &methods);
    if (x->route == NULL && methods == 0)
        return cr_http_problem(x, 404, "There is nothing at this address.");
    if (x->route == NULL) {
        cr_http_header_add(x, "Allow", allow_text(methods));
        return cr_http_problem(x, 405, "This address does not take this method.");
    }
    return cr_http_guarded(x) ? x->route->handle(x) : CR_HTTP_REPLY;
}
