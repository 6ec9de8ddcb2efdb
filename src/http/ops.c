/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What operators ask for, and the application itself: end all sessions of a user or of everybody,
 * log in a user whom the application has checked, make a link for a new password. Over a Unix
 * socket alone: whoever can open it has the operator's rights, and no browser can. In the path a
 * user's name is percent-encoded.
 */
#include "http/exchange.h"

#include <string.h>

#include "base/bytes.h"
#include "http/form.h"
#include "room/room.h"

static const char *by(struct cr_http_exchange *x)
{
    return cr_http_scratch(x, "operator, %.50s", x->request.peer);
}

static int hex_digit(char c)
{
    const char digits[] = "0123456789abcdef";
    const char *found = c != '\0' ? strchr(digits, c | (c >= 'A' ? 0x20 : 0)) : NULL;
    return found != NULL ? (int)(found - digits) : -1;
}

/* Into x->user. False: the reply is there. */
static bool user_read(struct cr_http_exchange *x)
{
    char name[CR_USER_BYTES_MAX];
    size_t count = 0;
    struct cr_http_text text = x->segment;
    for (size_t i = 0; i < text.count; i++) {
        char c = text.bytes[i];
        if (c == '%') {
            int high = i + 2 < text.count ? hex_digit(text.bytes[i + 1]) : -1;
            int low = i + 2 < text.count ? hex_digit(text.bytes[i + 2]) : -1;
            if (high < 0 || low < 0)
                goto wrong;
            c = (char)(high << 4 | low);
            i += 2;
        }
        if (count == sizeof name)
            goto wrong;
        name[count++] = c;
    }
    if (cr_text_is_clean((const unsigned char *)name, count) &&
        cr_user_parse(name, count, &x->user) == CR_OK)
        return true;
wrong:
    (void)cr_http_problem(x, 400,
                          "The path does not have the name of a user: 1 to 128 bytes of UTF-8 "
                          "without control characters, percent-encoded, and not a session id or a "
                          "token.");
    return false;
}

/* --- Ending --- */

static enum cr_http_progress ended(struct cr_http_exchange *x)
{
    struct cr_call *call = cr_http_call_take(x, &x->status);
    if (call != NULL)
        x->status = cr_end_finish(call, &x->ended);
    if (x->status == CR_UNKNOWN_USER || x->status == CR_NOT_FOUND)
        return cr_http_problem(x, 404, "No user of this name has ever had a session.");
    return cr_http_ended_answer(x);
}

static enum cr_http_progress end_begin(struct cr_http_exchange *x, bool everybody)
{
    struct cr_call *call = NULL;
    enum cr_status st = CR_UNAVAILABLE;
    if (!cr_http_repeat_read(x))
        return CR_HTTP_REPLY;
    struct cr_end_options options = {
        .size = sizeof options,
        .reason = everybody ? CR_REASON_EVERYBODY : CR_REASON_ADMIN,
        .by = by(x),
        .repeat = x->repeat,
    };
    x->others = true; /* not the one that asks */
    if (x->room != NULL)
        st = everybody ? cr_end_all_begin(x->room, &options, &call)
                       : cr_invalidate_by_user_begin(x->room, &x->user, &options, &call);
    return cr_http_wait(x, st, call, ended);
}

enum cr_http_progress cr_http_ops_end_user(struct cr_http_exchange *x)
{
    return user_read(x) ? end_begin(x, false) : CR_HTTP_REPLY;
}

enum cr_http_progress cr_http_ops_end_all(struct cr_http_exchange *x)
{
    return end_begin(x, true);
}

/* --- Logging in --- */

static enum cr_http_progress logged_in(struct cr_http_exchange *x)
{
    struct cr_call *call = cr_http_call_take(x, &x->status);
    if (call != NULL)
        x->status = cr_login_finish(call, &x->login);
    if (x->status == CR_CONFLICT)
        return cr_http_problem(x, 409, "This user's sessions were ended meanwhile: try again.");
    if (x->renews && (x->status == CR_ENDED || x->status == CR_DENIED))
        return cr_http_problem(x, 409,
                               "`renews` is not a session of this user, or is over: leave it out.");
    if (x->status != CR_OK)
        return cr_http_problem_status(x, x->status);
    cr_text_str(&x->body, "{\"session\":");
    cr_http_json_session(&x->body, &x->login.session, NULL);
    cr_text_str(&x->body, ",\"signed_token\":\"");
    cr_text_put(&x->body, x->login.signed_token.text, CR_TOKEN_CHARS);
    cr_text_str(&x->body, "\",\"expires_at\":\"");
    cr_text_time(&x->body, x->login.expires_at);
    cr_text_str(&x->body, "\"}\n");
    return cr_http_reply_body(x, 200, "application/json");
}

/* What the list of devices shows is the browser's, which the application has seen and we have not:
 * the body may name it. */
static const char *label(const struct cr_http_form *form, const char *name, char *out,
                         size_t capacity)
{
    const struct cr_http_form_field *field = cr_http_form_get(form, name);
    cr_label_copy(out, capacity, field != NULL ? field->bytes : "",
                  field != NULL ? field->count : 0);
    return out;
}

/* NULL: none is named. False: it is no token, and the reply is there. */
static bool renews_read(struct cr_http_exchange *x, const struct cr_http_form *form,
                        const struct cr_token **out_renews)
{
    const struct cr_http_form_field *field = cr_http_form_get(form, "renews");
    *out_renews = NULL;
    if (field == NULL)
        return true;
    x->renews = true;
    *out_renews = &x->credential.token;
    if (cr_token_parse(field->bytes, field->count, &x->credential.token) == CR_OK)
        return true;
    (void)cr_http_problem(x, 400, "`renews` is not a token.");
    return false;
}

static enum cr_http_progress login_begin(struct cr_http_exchange *x,
                                         const struct cr_http_form *form)
{
    const struct cr_token *renews;
    char address[CR_ADDRESS_CHARS_MAX + 1], agent[CR_AGENT_CHARS_MAX + 1];
    struct cr_call *call = NULL;
    enum cr_status st = CR_UNAVAILABLE;
    if (!renews_read(x, form, &renews))
        return CR_HTTP_REPLY;
    struct cr_login_options options = {
        .size = sizeof options,
        .policy = renews != NULL ? CR_POLICY_KEEP : x->site->on_login,
        .keep_count = x->site->keep_count,
        .renews = renews,
        .idle = x->site->idle,
        .absolute = x->site->absolute,
        .address = label(form, "address", address, sizeof address),
        .agent = label(form, "agent", agent, sizeof agent),
    };
    if (x->room != NULL)
        st = cr_login_begin(x->room, &x->user, &options, &call);
    return cr_http_wait(x, st, call, logged_in);
}

enum cr_http_progress cr_http_ops_login(struct cr_http_exchange *x)
{
    static const char *const names[] = {"address", "agent", "renews", NULL};
    struct cr_http_form form;
    enum cr_status st = CR_OK;
    if (!user_read(x))
        return CR_HTTP_REPLY;
    if (x->body_sent.count > 0 && !cr_http_has_type(x, "application/json"))
        return cr_http_problem(x, 415, "Send JSON (Content-Type: application/json), or no body.");
    cr_http_form_init(&form, names);
    if (x->body_sent.count > 0)
        st = cr_http_form_json(&form, x->body_sent);
    enum cr_http_progress progress =
        st == CR_OK          ? login_begin(x, &form)
        : st == CR_E_INVALID ? cr_http_problem(x, 400, cr_http_scratch(x, "%s", form.wrong))
                             : cr_http_problem_status(x, st);
    cr_http_form_fini(&form);
    return progress;
}

/* --- Links for a new password --- */

static enum cr_http_progress link_made(struct cr_http_exchange *x)
{
    struct cr_call *call = cr_http_call_take(x, &x->status);
    struct cr_reset_link link = {0};
    if (call != NULL)
        x->status = cr_reset_link_finish(call, &link);
    if (x->status == CR_UNKNOWN_USER)
        return cr_http_problem(x, 404, "No user of this name has an account.");
    if (x->status == CR_DENIED)
        return cr_http_problem(x, 409, "This account is disabled.");
    if (x->status == CR_E_LIMIT)
        return cr_http_problem(x, 429,
                               "As many links of this user as there may be are good already: use "
                               "one of them, or wait until they are over.");
    if (x->status != CR_OK)
        return cr_http_problem_status(x, x->status);
    cr_text_str(&x->body, "{\"link\":\"/reset?link=");
    cr_text_put(&x->body, link.token.text, CR_TOKEN_CHARS);
    cr_text_str(&x->body, "\",\"token\":\"");
    cr_text_put(&x->body, link.token.text, CR_TOKEN_CHARS);
    cr_text_str(&x->body, "\",\"expires_at\":\"");
    cr_text_time(&x->body, link.expires_at);
    cr_text_str(&x->body, "\"}\n");
    cr_token_wipe(&link.token);
    return cr_http_reply_body(x, 200, "application/json");
}

enum cr_http_progress cr_http_ops_reset_link(struct cr_http_exchange *x)
{
    struct cr_call *call = NULL;
    enum cr_status st = CR_UNAVAILABLE;
    if (!user_read(x))
        return CR_HTTP_REPLY;
    if (x->room != NULL)
        st = cr_reset_link_begin(x->room, &x->user, &call);
    return cr_http_wait(x, st, call, link_made);
}
