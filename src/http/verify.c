/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forward-auth: a reverse proxy asks, with the headers of a request that it holds back, whether the
 * request may pass, and whose it is. `allow` below is the only place that says yes, and it needs a
 * session in hand; whatever else happens is a refusal (ASVS G3).
 */
#include "http/exchange.h"

#include "base/bytes.h"

static enum cr_http_progress refuse(struct cr_http_exchange *x)
{
    /* The only two answers of which one may say that nobody is logged in. */
    if (x->status == CR_NOT_FOUND || x->status == CR_ENDED)
        return cr_http_unauthenticated(x);
    return cr_http_problem_status(x, CR_UNAVAILABLE);
}

static enum cr_http_progress allow(struct cr_http_exchange *x)
{
    const struct cr_user *user = &x->session.user;
    /* The proxy is to pass the name on, and what is behind it is to show it. */
    if (user->length == 0 || !cr_text_is_clean(user->bytes, user->length))
        return cr_http_unauthenticated(x);
    cr_text_percent(&x->body, user->bytes, user->length);
    if (x->body.failed)
        return cr_http_problem_status(x, CR_UNAVAILABLE);
    cr_http_header_add(x, "Remote-User",
                       cr_http_scratch(x, "%.*s", (int)x->body.count, x->body.bytes));
    cr_http_header_add(x, "Cloakroom-Session", x->session.id.text);
    return cr_http_reply_static(x, NULL, (struct cr_http_text){0});
}

enum cr_http_progress cr_http_verify(struct cr_http_exchange *x)
{
    return cr_http_authenticate(x, allow, refuse);
}
