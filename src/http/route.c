/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which address and method do what: one table. Addresses are compared byte by byte as they were
 * sent; nothing is decoded, folded or completed, so no two spellings reach one handler (ASVS G4).
 */
#include "http/exchange.h"

#include <string.h>

#include "http/forwarded.h"

static const struct cr_http_route public_routes[] = {
    /* path, method, guard, page, handler */
    {"/session", CR_HTTP_GET, CR_HTTP_SAFE, false, cr_http_session_get},
    {"/verify", CR_HTTP_ANY, CR_HTTP_SAFE, false, cr_http_verify},
    {"/login", CR_HTTP_POST, CR_HTTP_OWN_SITE, false, cr_http_login_post},
    {"/password", CR_HTTP_POST, CR_HTTP_PROOF, false, cr_http_password_post},
    {"/reauth", CR_HTTP_POST, CR_HTTP_PROOF, false, cr_http_reauth_post},
    {"/reset", CR_HTTP_POST, CR_HTTP_OWN_SITE, false, cr_http_reset_post},
    {"/logout", CR_HTTP_POST, CR_HTTP_PROOF, false, cr_http_logout_post},
    {"/sessions", CR_HTTP_GET, CR_HTTP_SAFE, false, cr_http_sessions_get},
    {"/sessions", CR_HTTP_DELETE, CR_HTTP_PROOF, false, cr_http_sessions_delete},
    {"/sessions/*", CR_HTTP_DELETE, CR_HTTP_PROOF, false, cr_http_session_delete},
    {"/", CR_HTTP_GET, CR_HTTP_SAFE, true, cr_http_home_page},
    {"/login", CR_HTTP_GET, CR_HTTP_SAFE, true, cr_http_login_page},
    {"/password", CR_HTTP_GET, CR_HTTP_SAFE, true, cr_http_password_page},
    {"/reauth", CR_HTTP_GET, CR_HTTP_SAFE, true, cr_http_reauth_page},
    {"/reset", CR_HTTP_GET, CR_HTTP_SAFE, true, cr_http_reset_page},
    {"/sessions/*/end", CR_HTTP_POST, CR_HTTP_PROOF, true, cr_http_session_end_post},
    {"/sessions/end-others", CR_HTTP_POST, CR_HTTP_PROOF, true, cr_http_others_end_post},
    {"/style.css", CR_HTTP_GET, CR_HTTP_SAFE, false, cr_http_style_get},
    {"/icon.svg", CR_HTTP_GET, CR_HTTP_SAFE, false, cr_http_icon_get},
};

/* No browser can reach a Unix socket, so there is nothing that a foreign page could make it do. */
static const struct cr_http_route admin_routes[] = {
    {"/users/*/end-sessions", CR_HTTP_POST, CR_HTTP_SAFE, false, cr_http_ops_end_user},
    {"/users/*/sessions", CR_HTTP_POST, CR_HTTP_SAFE, false, cr_http_ops_login},
    {"/users/*/reset-link", CR_HTTP_POST, CR_HTTP_SAFE, false, cr_http_ops_reset_link},
    {"/end-all", CR_HTTP_POST, CR_HTTP_SAFE, false, cr_http_ops_end_all},
    {"/stats", CR_HTTP_GET, CR_HTTP_SAFE, false, cr_http_ops_stats},
};

/* Nothing that changes anything: whoever is on this host may ask. */
static const struct cr_http_route monitor_routes[] = {
    {"/metrics", CR_HTTP_GET, CR_HTTP_SAFE, false, cr_http_metrics},
    {"/healthz", CR_HTTP_GET, CR_HTTP_SAFE, false, cr_http_healthz},
    {"/readyz", CR_HTTP_GET, CR_HTTP_SAFE, false, cr_http_readyz},
};

#define TABLE(routes)                                                                              \
    {                                                                                              \
        (routes), sizeof(routes) / sizeof(routes)[0]                                               \
    }

const struct cr_http_route *cr_http_routes(enum cr_http_surface surface, size_t *out_count)
{
    static const struct {
        const struct cr_http_route *routes;
        size_t count;
    } tables[CR_HTTP_SURFACES] = {
        [CR_HTTP_PUBLIC] = TABLE(public_routes),
        [CR_HTTP_ADMIN] = TABLE(admin_routes),
        [CR_HTTP_MONITOR] = TABLE(monitor_routes),
    };
    *out_count = tables[surface].count;
    return tables[surface].routes;
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
    size_t count;
    const struct cr_http_route *routes = cr_http_routes(x->site->surface, &count);
    *out_methods = 0;
    for (size_t i = 0; i < count; i++) {
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
                    unsigned status, const char *why)
{
    x->request = *request;
    refuse(x, &(struct cr_http_refusal){status, why});
}

bool cr_http_admit(struct cr_http_exchange *x, const struct cr_http_request *request)
{
    x->request = *request;
    x->request.peer = cr_http_forwarded(&x->site->proxies, request, x->client);
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
