/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Logging in: POST /login, as JSON by programs and as a form by people, and the page that has the
 * form. The password goes to the agent, which knows; nothing of it stays here.
 */
#include "http/exchange.h"

#include <string.h>

#include <cloakroom/account.h>

#include "base/bytes.h"
#include "http/form.h"
#include "room/room.h"
#include "session/token.h"

static const char page_type[] = "text/html; charset=utf-8";

/* --- Answers --- */

/* The page of POST /login. For who has a one-time password it asks for a new one besides; that is
 * typed anew: no page holds it. */
static enum cr_http_progress login_page(struct cr_http_exchange *x, unsigned status,
                                        const char *notice)
{
    char user[CR_USER_BYTES_MAX + 1], form_token[CR_HTTP_FORM_TOKEN_CHARS + 1];
    cr_label_copy(user, sizeof user, (const char *)x->user.bytes, x->user.length);
    cr_text_clear(&x->body);
    if (cr_http_login_token_begin(x, form_token) != CR_OK)
        return cr_http_problem_status(x, CR_E_IO);
    if (status == 503)
        cr_http_header_add(x, "Retry-After", "1");
    if (x->changes)
        cr_http_html_first(x, notice, user, form_token);
    else
        cr_http_html_login(x, notice, user, form_token);
    return cr_http_reply_body(x, status, page_type);
}

/* The page of POST /password and POST /reauth. */
static enum cr_http_progress password_page(struct cr_http_exchange *x, unsigned status,
                                           const char *notice)
{
    cr_text_clear(&x->body);
    if (status == 503)
        cr_http_header_add(x, "Retry-After", "1");
    cr_http_html_password(x, x->changes, notice);
    return cr_http_reply_body(x, status, page_type);
}

enum cr_http_progress cr_http_login_show(struct cr_http_exchange *x, unsigned status,
                                         const char *notice)
{
    x->changes = false;
    return login_page(x, status, notice);
}

static enum cr_http_progress login_refuse(struct cr_http_exchange *x, unsigned status,
                                          const char *why)
{
    if (x->by_form && x->renews)
        return password_page(x, status, why);
    return x->by_form ? login_page(x, status, why) : cr_http_problem(x, status, why);
}

static enum cr_http_progress login_answer(struct cr_http_exchange *x)
{
    const struct cr_session *session = &x->login.session;
    /* The absolute limit, by the store's clock alone: the password was given just now. The
     * browser's view of it is a courtesy. */
    if (!x->bearer)
        cr_http_cookie_set(x, &x->login.signed_token, session->ends_at - session->authenticated_at);
    if (!x->bearer && x->note.device[0] != '\0')
        cr_http_device_set(x, x->note.device);
    if (x->by_form && !x->bearer)
        return cr_http_redirect(x, "/");
    cr_text_str(&x->body, "{\"session\":");
    cr_http_json_session(&x->body, session, NULL);
    if (x->bearer) {
        cr_text_str(&x->body, ",\"signed_token\":\"");
        cr_text_put(&x->body, x->login.signed_token.text, CR_TOKEN_CHARS);
        cr_text_put(&x->body, "\"", 1);
    }
    cr_text_str(&x->body, ",\"expires_at\":\"");
    cr_text_time(&x->body, x->login.expires_at);
    cr_text_str(&x->body, "\"}\n");
    return cr_http_reply_body(x, 200, "application/json");
}

/* Who asks for what takes a session has none. */
static enum cr_http_progress nobody(struct cr_http_exchange *x)
{
    if (x->status != CR_NOT_FOUND && x->status != CR_ENDED)
        return cr_http_problem_status(x, x->status);
    return x->route->page || x->by_form ? cr_http_redirect(x, "/login")
                                        : cr_http_unauthenticated(x);
}

/* --- Steps --- */

/* Whatever came of it: the log-in itself has been carried out. Mostly the policy has ended that
 * session already. */
static enum cr_http_progress earlier_ended(struct cr_http_exchange *x)
{
    struct cr_call *call = cr_http_call_take(x, &x->status);
    if (call != NULL)
        x->status = cr_end_finish(call, &x->ended);
    return login_answer(x);
}

/* The session that this browser had until now is over, whoever's it was (ASVS A5). */
static enum cr_http_progress earlier_end(struct cr_http_exchange *x)
{
    struct cr_call *call = NULL;
    struct cr_session_id earlier;
    struct cr_end_options options = {
        .size = sizeof options,
        .reason = CR_REASON_REPLACED,
        .by = "a log-in in the same browser",
        .authority = &x->credential.token,
    };
    /* What asks for its password goes on, or was ended by the new one. */
    if (x->renews || x->bearer || !x->credential.by_cookie || !x->credential.parsed)
        return login_answer(x);
    cr_token_id(&x->credential.token, &earlier);
    enum cr_status st = cr_end_begin(x->room, &earlier, &options, &call);
    return cr_http_wait(x, st, call, earlier_ended);
}

void cr_http_retry_after_add(struct cr_http_exchange *x)
{
    cr_http_header_add(x, "Retry-After",
                       cr_http_scratch(x, "%lld", (long long)x->note.retry_after / 1000));
}

const char *cr_http_password_unfit(struct cr_http_exchange *x)
{
    if (x->status == CR_PASSWORD_SHORT)
        return cr_http_scratch(x,
                               "The new password is too short: it has at least %u characters. "
                               "Several words make a good one; there are no other rules.",
                               x->note.password_chars_min);
    if (x->status == CR_PASSWORD_COMMON)
        return "The new password is one of those that are tried first: a common one, also with "
               "digits or signs added, or the same again and again. Take several words that do "
               "not belong together.";
    if (x->status == CR_PASSWORD_KNOWN)
        return "The new password is your user name, or the password that it is to replace. Take "
               "another.";
    return x->changes && x->status == CR_E_LIMIT ? "The new password is longer than 1024 bytes."
                                                 : NULL;
}

/* ASVS E12: nothing but setting another can be done with a one-time password. */
static enum cr_http_progress change_first(struct cr_http_exchange *x)
{
    static const char why[] = "This is a one-time password: set one of your own with it, and you "
                              "are logged in.";
    if (x->by_form && !x->renews) {
        x->changes = true; /* which the page asks for */
        return login_page(x, 403, why);
    }
    if (x->by_form)
        return login_refuse(x, 403, "Your password must be changed first: go to /password.");
    return cr_http_problem_named(x, 403,
                                 "This is a one-time password: send it again together with "
                                 "`new_password`.",
                                 "password_change_required");
}

/* Whoever signed this user in has no password of his: an application that checked him itself. */
static enum cr_http_progress no_password(struct cr_http_exchange *x)
{
    if (x->route->page || x->by_form) {
        cr_text_clear(&x->body);
        cr_http_html_message(x, 403,
                             x->changes
                                 ? "You have no password here: you signed in by way of another "
                                   "site or program. Change it there."
                                 : "You have no password here: you signed in by way of another "
                                   "site or program. Sign in there again, then repeat within 5 "
                                   "minutes what you wanted to do.");
        return cr_http_reply_body(x, 403, page_type);
    }
    return cr_http_problem_named(x, 403,
                                 "This user has no password here. The application that signs the "
                                 "user in does so again, with POST /users/USER/sessions and "
                                 "`renews` on its operators' socket.",
                                 "no_password");
}

/* `next` takes x->status: CR_OK, or CR_UNKNOWN_USER for who has no account. */
static enum cr_http_progress account_ask(struct cr_http_exchange *x, cr_http_step *next)
{
    struct cr_call *call = NULL;
    enum cr_status st = cr_account_own_begin(x->room, &x->credential.token, &call);
    return cr_http_wait(x, st, call, next);
}

/* False: the reply is there. */
static bool account_found(struct cr_http_exchange *x)
{
    struct cr_call *call = cr_http_call_take(x, &x->status);
    if (call != NULL)
        x->status = cr_account_own_finish(call);
    if (x->status == CR_UNKNOWN_USER)
        (void)no_password(x);
    else if (x->status != CR_OK)
        (void)nobody(x);
    return x->status == CR_OK;
}

/* The bearer may know whether there is a password to be wrong about. */
static enum cr_http_progress renewal_denied(struct cr_http_exchange *x)
{
    return account_found(x) ? login_refuse(x, 403, "The password is wrong.") : CR_HTTP_REPLY;
}

static enum cr_http_progress logged_in(struct cr_http_exchange *x)
{
    struct cr_call *call = cr_http_call_take(x, &x->status);
    x->note = (struct cr_login_note){.size = sizeof x->note};
    if (call != NULL) {
        cr_login_password_note(call, &x->note);
        x->status = cr_login_password_finish(call, &x->login);
    }
    if (x->status == CR_OK)
        return earlier_end(x);
    if (x->renews && x->status == CR_ENDED)
        return nobody(x);
    if (x->renews && x->status == CR_DENIED)
        return account_ask(x, renewal_denied);
    /* One sentence for an unknown user, a wrong password and a disabled account (ASVS E4). */
    if (x->status == CR_CHANGE_FIRST)
        return change_first(x);
    const char *unfit = cr_http_password_unfit(x);
    if (unfit != NULL)
        return login_refuse(x, 400, unfit);
    if (x->changes && (x->status == CR_PENDING || x->status == CR_E_UNKNOWN_OUTCOME))
        return login_refuse(x, 503,
                            "The new password may be set already, and not be known everywhere yet: "
                            "sign in with it in a moment.");
    if (x->status == CR_DENIED || x->status == CR_UNKNOWN_USER)
        return login_refuse(x, 401, "The user or the password is wrong.");
    /* Whatever was used up, and whether there is such a user or not. */
    if (x->status == CR_LIMITED) {
        cr_http_retry_after_add(x);
        return login_refuse(x, 429, "Too many attempts: try again later.");
    }
    if (x->status == CR_CONFLICT)
        return login_refuse(x, 409, "This user's sessions were ended meanwhile: try again.");
    if (x->by_form)
        return login_refuse(x, 503, "You cannot be signed in just now: try again in a moment.");
    return cr_http_problem_status(x, x->status);
}

static enum cr_http_progress login_begin(struct cr_http_exchange *x,
                                         const struct cr_http_form_field *password,
                                         const struct cr_http_form_field *fresh)
{
    char agent[CR_AGENT_CHARS_MAX + 1];
    char device[CR_DEVICE_CHARS + 1];
    struct cr_http_text sent = x->fields.of[CR_HTTP_USER_AGENT];
    cr_http_cookie_get(&x->fields, cr_http_device_name(x->site), device, sizeof device);
    cr_label_copy(agent, sizeof agent, sent.bytes, sent.count);
    struct cr_login_options options = {
        .size = sizeof options,
        /* Who confirms a password is not one device more. */
        .policy = x->renews ? CR_POLICY_KEEP : x->site->on_login,
        .keep_count = x->site->keep_count,
        .idle = x->site->idle,
        .absolute = x->site->absolute,
        .address = x->request.peer,
        .agent = agent,
        .device = device[0] != '\0' ? device : NULL,
        .renews = x->renews ? &x->credential.token : NULL,
        /* What the visitor put in moves to the user. Another user's session is looked at by none
         * but the agent, which moves nothing of it. */
        .anonymous = !x->renews && !x->bearer && x->credential.by_cookie && x->credential.parsed
                         ? &x->credential.token
                         : NULL,
        .new_password = fresh != NULL ? fresh->bytes : NULL,
        .new_password_bytes = fresh != NULL ? fresh->count : 0,
    };
    struct cr_call *call = NULL;
    enum cr_status st = CR_UNAVAILABLE;
    if (x->room != NULL)
        st = cr_login_password_begin(x->room, &x->user, password->bytes, password->count, &options,
                                     &call);
    return cr_http_wait(x, st, call, logged_in);
}

static bool field_is(const struct cr_http_form_field *field, const char *word)
{
    return field != NULL && field->count == strlen(word) && strcmp(field->bytes, word) == 0;
}

/* NULL, or what is wrong with it. Fills x->user and x->bearer. */
static const char *login_read(struct cr_http_exchange *x, const struct cr_http_form *form)
{
    const struct cr_http_form_field *user = cr_http_form_get(form, "user");
    const struct cr_http_form_field *password = cr_http_form_get(form, "password");
    const struct cr_http_form_field *mode = cr_http_form_get(form, "mode");
    const struct cr_http_form_field *fresh = cr_http_form_get(form, "new_password");
    x->changes = fresh != NULL;
    if (user == NULL || password == NULL)
        return "Both `user` and `password` are needed.";
    if (!cr_text_is_clean((const unsigned char *)user->bytes, user->count) ||
        cr_user_parse(user->bytes, user->count, &x->user) != CR_OK)
        return "`user` is not the name of a user: 1 to 128 bytes of UTF-8 without control "
               "characters, and not a session id or a token.";
    if (password->count == 0 || password->count > CR_PASSWORD_BYTES_MAX)
        return "`password` is empty, or longer than 1024 bytes.";
    if (fresh != NULL && fresh->count > CR_PASSWORD_BYTES_MAX)
        return "The new password is longer than 1024 bytes.";
    if (mode != NULL && !field_is(mode, "cookie") && !field_is(mode, "bearer"))
        return "`mode` is `cookie` or `bearer`.";
    x->bearer = !x->by_form && field_is(mode, "bearer");
    return NULL;
}

enum cr_http_progress cr_http_login_post(struct cr_http_exchange *x)
{
    static const char *const names[] = {
        "user", "password", "new_password", "mode", CR_HTTP_FORM_TOKEN_FIELD, NULL};
    struct cr_http_form form;
    enum cr_http_progress progress;
    enum cr_status st;
    cr_http_form_init(&form, names);
    x->by_form = cr_http_has_type(x, "application/x-www-form-urlencoded");
    if (!x->by_form && !cr_http_has_type(x, "application/json")) {
        progress = cr_http_problem(x, 415, "Send JSON, or a form.");
        goto out;
    }
    st = x->by_form ? cr_http_form_urlencoded(&form, x->body_sent)
                    : cr_http_form_json(&form, x->body_sent);
    const char *wrong = st == CR_OK ? login_read(x, &form) : st == CR_E_INVALID ? form.wrong : NULL;
    if (wrong != NULL)
        progress = login_refuse(x, 400, wrong);
    else if (st != CR_OK)
        progress = cr_http_problem_status(x, st);
    else if (x->by_form &&
             !cr_http_login_token_matches(x, cr_http_form_get(&form, CR_HTTP_FORM_TOKEN_FIELD)))
        progress = login_refuse(x, 403,
                                "This form was not made for this browser, or is an old one. "
                                "Nothing was done: please try again.");
    else
        progress = login_begin(x, cr_http_form_get(&form, "password"),
                               cr_http_form_get(&form, "new_password"));
out:
    cr_http_form_fini(&form);
    return progress;
}

/* --- The password again, and a new one --- */

/* NULL, or what is wrong with it. */
static const char *password_read(struct cr_http_exchange *x, const struct cr_http_form *form)
{
    const struct cr_http_form_field *password = cr_http_form_get(form, "password");
    const struct cr_http_form_field *fresh = cr_http_form_get(form, "new_password");
    if (password == NULL || (x->changes && fresh == NULL))
        return x->changes ? "Both `password` and `new_password` are needed."
                          : "`password` is needed.";
    if (password->count == 0 || password->count > CR_PASSWORD_BYTES_MAX)
        return "`password` is empty, or longer than 1024 bytes.";
    if (x->changes && fresh->count > CR_PASSWORD_BYTES_MAX)
        return "The new password is longer than 1024 bytes.";
    return NULL;
}

/* The session that asks goes on under another token, or under a new password as a new session (ASVS
 * A5, D3). */
static enum cr_http_progress renewal_begin(struct cr_http_exchange *x)
{
    static const char *const names[] = {"password", "new_password", NULL};
    struct cr_http_form form;
    enum cr_http_progress progress;
    if (x->session.user.length == 0) {
        x->status = CR_NOT_FOUND;
        return nobody(x);
    }
    x->user = x->session.user;
    x->bearer = !x->credential.by_cookie;
    cr_http_form_init(&form, names);
    enum cr_status st = x->by_form ? cr_http_form_urlencoded(&form, x->body_sent)
                                   : cr_http_form_json(&form, x->body_sent);
    const char *wrong = st == CR_OK          ? password_read(x, &form)
                        : st == CR_E_INVALID ? form.wrong
                                             : NULL;
    if (wrong != NULL)
        progress = login_refuse(x, 400, wrong);
    else if (st != CR_OK)
        progress = cr_http_problem_status(x, st);
    else
        progress = login_begin(x, cr_http_form_get(&form, "password"),
                               x->changes ? cr_http_form_get(&form, "new_password") : NULL);
    cr_http_form_fini(&form);
    return progress;
}

enum cr_http_progress cr_http_reauth_post(struct cr_http_exchange *x)
{
    x->renews = true;
    x->by_form = cr_http_has_type(x, "application/x-www-form-urlencoded");
    if (!x->by_form && !cr_http_has_type(x, "application/json"))
        return cr_http_problem(x, 415, "Send JSON, or a form.");
    return cr_http_authenticate_strict(x, renewal_begin, nobody);
}

enum cr_http_progress cr_http_password_post(struct cr_http_exchange *x)
{
    x->changes = true;
    return cr_http_reauth_post(x);
}

static enum cr_http_progress renewal_shown(struct cr_http_exchange *x)
{
    return account_found(x) ? password_page(x, 200, NULL) : CR_HTTP_REPLY;
}

static enum cr_http_progress renewal_page(struct cr_http_exchange *x)
{
    if (x->session.user.length > 0)
        return account_ask(x, renewal_shown);
    x->status = CR_NOT_FOUND;
    return nobody(x);
}

enum cr_http_progress cr_http_reauth_page(struct cr_http_exchange *x)
{
    return cr_http_authenticate(x, renewal_page, nobody);
}

enum cr_http_progress cr_http_password_page(struct cr_http_exchange *x)
{
    x->changes = true;
    return cr_http_reauth_page(x);
}

bool cr_http_is_fresh(const struct cr_http_exchange *x)
{
    return cr_clock_wall(x->site->clock) - x->session.authenticated_at <= CR_HTTP_FRESH_MS;
}

static enum cr_http_progress step_up_ask(struct cr_http_exchange *x)
{
    /* RFC 9470, but 403: the session is a good one. */
    cr_http_header_add(x, "WWW-Authenticate",
                       "Bearer error=\"insufficient_user_authentication\", max_age=300");
    if (!account_found(x))
        return CR_HTTP_REPLY;
    if (x->route->page || x->by_form)
        return password_page(x, 403,
                             "You gave your password more than 5 minutes ago. Give it again, then "
                             "repeat what you wanted to do.");
    return cr_http_problem(x, 403,
                           "The password was given more than 5 minutes ago: send it to POST "
                           "/reauth, then ask again.");
}

enum cr_http_progress cr_http_step_up(struct cr_http_exchange *x)
{
    x->by_form = cr_http_has_type(x, "application/x-www-form-urlencoded");
    return account_ask(x, step_up_ask);
}

/* --- The page --- */

static enum cr_http_progress explained(struct cr_http_exchange *x)
{
    struct cr_explanation ended;
    bool is_known = cr_http_explain_finish(x, &ended);
    if (!is_known)
        ended.reason = CR_REASON_NONE;
    return login_page(x, 200, cr_http_ended_sentence(x, &ended));
}

static enum cr_http_progress no_session(struct cr_http_exchange *x)
{
    struct cr_call *call = NULL;
    if (x->status != CR_ENDED && x->status != CR_NOT_FOUND)
        return cr_http_problem_status(x, x->status);
    if (x->credential.by_cookie)
        cr_http_cookie_clear(x);
    if (x->status != CR_ENDED)
        return login_page(x, 200, NULL);
    enum cr_status st = cr_http_explain_begin(x, &call);
    return cr_http_wait(x, st, call, explained);
}

static enum cr_http_progress has_session(struct cr_http_exchange *x)
{
    return x->session.user.length > 0 ? cr_http_redirect(x, "/") : login_page(x, 200, NULL);
}

enum cr_http_progress cr_http_login_page(struct cr_http_exchange *x)
{
    if (!x->credential.present)
        return login_page(x, 200, NULL);
    return cr_http_authenticate(x, has_session, no_session);
}
