/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A link for a new password (ASVS E13): GET /reset shows the form, POST /reset sets the password.
 *
 * The link's token comes in the address, from where it goes into the form. What only looks at a
 * link (a scanner of mail, a browser that fetches ahead) spends nothing: the page asks nobody
 * whether the link is good. It is no session: nothing here looks at the credential, and nobody is
 * signed in. Whoever has the link is who may use it, so the form needs no token besides; a foreign
 * page is kept out as everywhere (guard.c).
 */
#include <string.h>

#include <cloakroom/account.h>

#include "base/bytes.h"
#include "http/exchange.h"
#include "http/form.h"
#include "room/room.h"

static const char page_type[] = "text/html; charset=utf-8";

/* One sentence for a link that there never was, one that is spent, and one that is over. */
static const char not_good[] =
    "This link is not good, or not any more: it can be used once, within 20 minutes, and not after "
    "the password was changed. Ask for another.";

static enum cr_http_progress reset_page(struct cr_http_exchange *x, unsigned status,
                                        const char *notice)
{
    cr_text_clear(&x->body);
    if (status == 503)
        cr_http_header_add(x, "Retry-After", "1");
    cr_http_html_reset(x, notice);
    return cr_http_reply_body(x, status, page_type);
}

/* Where another link is needed, the form is of no use. */
static enum cr_http_progress link_refuse(struct cr_http_exchange *x)
{
    if (!x->by_form)
        return cr_http_problem(x, 403, not_good);
    cr_text_clear(&x->body);
    cr_http_html_message(x, 403, not_good);
    return cr_http_reply_body(x, 403, page_type);
}

static enum cr_http_progress refuse(struct cr_http_exchange *x, unsigned status, const char *why)
{
    return x->by_form ? reset_page(x, status, why) : cr_http_problem(x, status, why);
}

static bool link_read(struct cr_http_exchange *x, const struct cr_http_form *form)
{
    const struct cr_http_form_field *link = cr_http_form_get(form, "link");
    return link != NULL && cr_token_parse(link->bytes, link->count, &x->link) == CR_OK &&
           cr_text_is_clean((const unsigned char *)link->bytes, link->count);
}

enum cr_http_progress cr_http_reset_page(struct cr_http_exchange *x)
{
    static const char *const names[] = {"link", NULL};
    struct cr_http_form form;
    cr_http_form_init(&form, names);
    x->by_form = true;
    bool is_there = cr_http_form_urlencoded(&form, x->query) == CR_OK && link_read(x, &form);
    cr_http_form_fini(&form);
    return is_there ? reset_page(x, 200, NULL) : link_refuse(x);
}

static enum cr_http_progress changed(struct cr_http_exchange *x)
{
    if (x->by_form)
        return cr_http_login_show(x, 200, "Your password was changed: sign in.");
    cr_text_str(&x->body, "{\"password\":\"changed\"}\n");
    return cr_http_reply_body(x, 200, "application/json");
}

static enum cr_http_progress used(struct cr_http_exchange *x)
{
    struct cr_call *call = cr_http_call_take(x, &x->status);
    x->note = (struct cr_login_note){.size = sizeof x->note};
    if (call != NULL)
        x->status = cr_reset_finish(call, &x->note);
    if (x->status == CR_OK)
        return changed(x);
    if (x->status == CR_DENIED)
        return link_refuse(x);
    if (x->status == CR_LIMITED) {
        cr_http_retry_after_add(x);
        return refuse(x, 429, "Too many attempts: try again later.");
    }
    if (x->status == CR_PENDING || x->status == CR_E_UNKNOWN_OUTCOME)
        return refuse(x, 503,
                      "The new password may be set already, and not be known everywhere yet: sign "
                      "in with it in a moment.");
    const char *unfit = cr_http_password_unfit(x);
    if (unfit != NULL)
        return refuse(x, 400, unfit);
    if (x->by_form)
        return reset_page(x, 503, "The password cannot be set just now: try again in a moment.");
    return cr_http_problem_status(x, x->status);
}

static enum cr_http_progress use_begin(struct cr_http_exchange *x,
                                       const struct cr_http_form_field *fresh)
{
    char agent[CR_AGENT_CHARS_MAX + 1];
    struct cr_http_text sent = x->fields.of[CR_HTTP_USER_AGENT];
    struct cr_call *call = NULL;
    enum cr_status st = CR_UNAVAILABLE;
    cr_label_copy(agent, sizeof agent, sent.bytes, sent.count);
    if (x->room != NULL)
        st = cr_reset_begin(x->room, &x->link, fresh->bytes, fresh->count, x->request.peer, agent,
                            &call);
    return cr_http_wait(x, st, call, used);
}

static enum cr_http_progress form_take(struct cr_http_exchange *x, const struct cr_http_form *form)
{
    const struct cr_http_form_field *fresh = cr_http_form_get(form, "new_password");
    if (!link_read(x, form))
        return link_refuse(x);
    if (fresh == NULL || fresh->count == 0)
        return refuse(x, 400, "`link` and `new_password` are needed.");
    if (fresh->count > CR_PASSWORD_BYTES_MAX)
        return refuse(x, 400, "The new password is longer than 1024 bytes.");
    return use_begin(x, fresh);
}

enum cr_http_progress cr_http_reset_post(struct cr_http_exchange *x)
{
    static const char *const names[] = {"link", "new_password", NULL};
    struct cr_http_form form;
    enum cr_http_progress progress;
    x->changes = true;
    x->by_form = cr_http_has_type(x, "application/x-www-form-urlencoded");
    if (!x->by_form && !cr_http_has_type(x, "application/json"))
        return cr_http_problem(x, 415, "Send JSON, or a form.");
    cr_http_form_init(&form, names);
    enum cr_status st = x->by_form ? cr_http_form_urlencoded(&form, x->body_sent)
                                   : cr_http_form_json(&form, x->body_sent);
    if (st == CR_OK)
        progress = form_take(x, &form);
    else if (st == CR_E_INVALID)
        progress = cr_http_problem(x, 400, cr_http_scratch(x, "%s", form.wrong));
    else
        progress = cr_http_problem_status(x, st);
    cr_http_form_fini(&form);
    return progress;
}
