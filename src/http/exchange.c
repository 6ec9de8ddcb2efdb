/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of an exchange: admitted, started, perhaps waiting for calls, answered, reset. Owns the
 * call under way and everything that the reply points to.
 */
#include "http/exchange.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "room/room.h"

struct cr_http_exchange *cr_http_exchange_create(const struct cr_http_site *site)
{
    struct cr_http_exchange *x = calloc(1, sizeof *x);
    if (x == NULL)
        return NULL;
    x->site = site;
    return x;
}

void cr_http_exchange_reset(struct cr_http_exchange *x)
{
    if (x->call != NULL)
        cr_call_cancel(x->call);
    x->call = NULL;
    x->next = x->admitted = x->refused = NULL;
    cr_text_clear(&x->body);
    cr_bytes_wipe(x->scratch, x->scratch_used);
    x->scratch_used = 0;
    cr_token_wipe(&x->credential.token);
    cr_token_wipe(&x->login.signed_token);
    cr_token_wipe(&x->link);
    x->bearer = x->by_form = x->others = x->renews = x->changes = false;
    x->user.length = 0;
    x->list_count = x->past_count = 0;
    x->later = x->past_known = false;
    x->repeat = (struct cr_ending_id){0};
    x->cursor = (struct cr_cursor){0};
    x->ended = (struct cr_ended){.size = sizeof x->ended};
    x->path = x->query = x->segment = (struct cr_http_text){0};
    x->route = NULL;
    x->room = NULL;
    x->status = CR_OK;
    x->reply.status = 0;
    x->reply.header_count = 0;
}

void cr_http_exchange_destroy(struct cr_http_exchange *x)
{
    if (x == NULL)
        return;
    cr_http_exchange_reset(x);
    cr_text_fini(&x->body);
    free(x->list);
    free(x->past);
    free(x);
}

enum cr_http_progress cr_http_wait(struct cr_http_exchange *x, enum cr_status st,
                                   struct cr_call *call, cr_http_step *next)
{
    CR_ASSERT(x->call == NULL);
    x->status = st;
    x->call = st == CR_OK ? call : NULL;
    if (x->call == NULL || cr_call_done(x->call))
        return next(x);
    x->next = next;
    return CR_HTTP_WAIT;
}

struct cr_call *cr_http_call_take(struct cr_http_exchange *x, enum cr_status *out_status)
{
    struct cr_call *call = x->call;
    x->call = NULL;
    *out_status = x->status;
    return call;
}

/* One more of too many made-up tokens from this address (ASVS G9). It costs nobody anything to say
 * so. A person is led to the log-in as ever, and so is whom a proxy asks about: to most of them any
 * answer but 401 and 403 is an error, and they are one address for all who come through them. So
 * is a proxy that nobody has named. */
static enum cr_http_progress guess_refused(struct cr_http_exchange *x)
{
    bool is_everybody = !x->site->dev && x->site->proxies.count == 0;
    if (is_everybody || x->route->page || x->route->method == CR_HTTP_ANY ||
        cr_http_has_type(x, "application/x-www-form-urlencoded")) {
        x->status = CR_NOT_FOUND;
        return x->refused(x);
    }
    cr_http_header_add(x, "Retry-After", "10");
    return cr_http_problem_named(x, 429,
                                 "This is not a token of this server, and too many that are not "
                                 "came from your address.",
                                 "unknown_tokens");
}

static enum cr_http_progress validated(struct cr_http_exchange *x)
{
    struct cr_call *call = cr_http_call_take(x, &x->status);
    if (call != NULL)
        x->status = cr_validate_finish(call, &x->session);
    if (x->status == CR_LIMITED)
        return guess_refused(x);
    return x->status == CR_OK ? x->admitted(x) : x->refused(x);
}

static enum cr_http_progress authenticate(struct cr_http_exchange *x, bool strict,
                                          cr_http_step *admitted, cr_http_step *refused)
{
    x->admitted = admitted;
    x->refused = refused;
    x->session.size = sizeof x->session;
    x->status = CR_NOT_FOUND;
    if (!x->credential.parsed)
        return refused(x);
    x->status = CR_UNAVAILABLE;
    if (x->room == NULL)
        return refused(x);
    if (!strict)
        x->status = cr_validate_cached(x->room, &x->credential.token, &x->session);
    if (x->status == CR_OK)
        return admitted(x);
    struct cr_call *call = NULL;
    enum cr_status st =
        cr_validate_from_begin(x->room, &x->credential.token, strict, x->request.peer, &call);
    return cr_http_wait(x, st, call, validated);
}

enum cr_http_progress cr_http_authenticate(struct cr_http_exchange *x, cr_http_step *admitted,
                                           cr_http_step *refused)
{
    return authenticate(x, false, admitted, refused);
}

enum cr_http_progress cr_http_authenticate_strict(struct cr_http_exchange *x,
                                                  cr_http_step *admitted, cr_http_step *refused)
{
    return authenticate(x, true, admitted, refused);
}

const struct cr_call *cr_http_waits_for(const struct cr_http_exchange *x)
{
    return x->call;
}

enum cr_http_progress cr_http_resume(struct cr_http_exchange *x)
{
    CR_ASSERT(x->call != NULL && x->next != NULL);
    cr_http_step *next = x->next;
    x->next = NULL;
    return next(x);
}

const struct cr_http_reply *cr_http_reply(const struct cr_http_exchange *x)
{
    CR_ASSERT(x->call == NULL && x->reply.status != 0);
    return &x->reply;
}
