/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sessions of who is asking: this one, the list, and ending them. Every call below acts with
 * the presented token as its authority, so that the agent, not this process, keeps one user's hands
 * off another's sessions (ASVS H8).
 */
#include "http/exchange.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "http/form.h"
#include "room/room.h"
#include "wire/message.h"

static enum cr_http_progress refused(struct cr_http_exchange *x)
{
    if (x->status != CR_NOT_FOUND && x->status != CR_ENDED)
        return cr_http_problem_status(x, x->status);
    /* A person's browser goes where one can log in; its dead cookie stays, so that the page can say
     * what ended the session. */
    if (x->route->page || cr_http_has_type(x, "application/x-www-form-urlencoded"))
        return cr_http_redirect(x, "/login");
    return cr_http_unauthenticated(x);
}

/* --- Who am I --- */

static enum cr_http_progress session_show(struct cr_http_exchange *x)
{
    const struct cr_user *user = &x->session.user;
    if (user->length > 0 && !cr_text_is_clean(user->bytes, user->length))
        return cr_http_problem(x, 403, "The name of this session's user is not text.");
    cr_text_str(&x->body, "{\"session\":");
    cr_http_json_session(&x->body, &x->session, NULL);
    cr_text_str(&x->body, "}\n");
    return cr_http_reply_body(x, 200, "application/json");
}

enum cr_http_progress cr_http_session_get(struct cr_http_exchange *x)
{
    return cr_http_authenticate(x, session_show, refused);
}

/* --- The list --- */

/* null: that cannot be told just now. */
static void list_json_past(struct cr_http_exchange *x)
{
    struct cr_text *out = &x->body;
    cr_text_str(out, x->past_known ? ",\"ended\":[" : ",\"ended\":null");
    for (size_t i = 0; i < x->past_count; i++) {
        cr_text_str(out, i > 0 ? ",\n" : "\n");
        cr_http_json_past(out, &x->past[i]);
    }
    if (x->past_known)
        cr_text_put(out, "]", 1);
}

static enum cr_http_progress list_json(struct cr_http_exchange *x)
{
    struct cr_text *out = &x->body;
    cr_text_str(out, "{\"sessions\":[");
    for (size_t i = 0; i < x->list_count; i++) {
        cr_text_str(out, i > 0 ? ",\n" : "\n");
        cr_http_json_session(out, &x->list[i], &x->session.id);
    }
    cr_text_str(out, "],\"next\":");
    if (x->list_count < CR_HTTP_LIST_MAX) {
        cr_text_str(out, "null");
    } else {
        cr_text_str(out, "\"/sessions?after=");
        cr_text_u64(out, (uint64_t)x->cursor.created_at);
        cr_text_put(out, ".", 1);
        cr_text_put(out, x->cursor.id.text, CR_SESSION_ID_CHARS);
        cr_text_put(out, "\"", 1);
    }
    if (!x->later)
        list_json_past(x);
    cr_text_str(out, "}\n");
    return cr_http_reply_body(x, 200, "application/json");
}

static enum cr_http_progress list_page(struct cr_http_exchange *x)
{
    cr_http_html_home(x);
    return cr_http_reply_body(x, 200, "text/html; charset=utf-8");
}

static enum cr_http_progress list_answer(struct cr_http_exchange *x)
{
    return x->route->page ? list_page(x) : list_json(x);
}

/* What has ended is told beside what is live: that it cannot be had takes nothing from the rest. */
static enum cr_http_progress past_listed(struct cr_http_exchange *x)
{
    struct cr_call *call = cr_http_call_take(x, &x->status);
    if (call != NULL)
        x->status = cr_past_of_finish(call, x->past, &x->past_count);
    if (x->status == CR_NOT_FOUND || x->status == CR_ENDED)
        return refused(x);
    x->past_known = x->status == CR_OK;
    if (!x->past_known)
        x->past_count = 0;
    return list_answer(x);
}

static enum cr_http_progress past_begin(struct cr_http_exchange *x)
{
    struct cr_call *call = NULL;
    enum cr_status st = CR_E_NO_MEMORY;
    if (x->past == NULL)
        x->past = calloc(CR_PAST_MAX, sizeof *x->past);
    if (x->past != NULL)
        st = cr_past_of_begin(x->room, &x->credential.token, &call);
    return cr_http_wait(x, st, call, past_listed);
}

static enum cr_http_progress listed(struct cr_http_exchange *x)
{
    struct cr_call *call = cr_http_call_take(x, &x->status);
    if (call != NULL)
        x->status =
            cr_sessions_of_finish(call, &x->cursor, x->list, CR_HTTP_LIST_MAX, &x->list_count);
    if (x->status != CR_OK) {
        x->list_count = 0;
        return refused(x);
    }
    return x->later ? list_answer(x) : past_begin(x);
}

static enum cr_http_progress list_begin(struct cr_http_exchange *x)
{
    struct cr_call *call = NULL;
    if (x->session.user.length == 0) {
        x->status = CR_NOT_FOUND;
        return refused(x);
    }
    if (x->list == NULL)
        x->list = calloc(CR_HTTP_LIST_MAX, sizeof *x->list);
    if (x->list == NULL)
        return cr_http_problem_status(x, CR_E_NO_MEMORY);
    for (size_t i = 0; i < CR_HTTP_LIST_MAX; i++)
        x->list[i].size = sizeof x->list[i];
    enum cr_status st = cr_sessions_of_begin(x->room, NULL, &x->credential.token, &x->cursor,
                                             CR_HTTP_LIST_MAX, &call);
    return cr_http_wait(x, st, call, listed);
}

enum cr_http_progress cr_http_home_page(struct cr_http_exchange *x)
{
    return cr_http_authenticate(x, list_begin, refused);
}

/* One value from the query; false: it is there and broken. */
static bool query_get(struct cr_http_exchange *x, const char *name, char *out, size_t capacity)
{
    const char *const names[] = {name, NULL};
    struct cr_http_form form;
    cr_http_form_init(&form, names);
    enum cr_status st = cr_http_form_urlencoded(&form, x->query);
    const struct cr_http_form_field *field = st == CR_OK ? cr_http_form_get(&form, name) : NULL;
    bool fits = st == CR_OK && (field == NULL || field->count < capacity);
    out[0] = '\0';
    if (fits && field != NULL)
        memcpy(out, field->bytes, field->count + 1);
    cr_http_form_fini(&form);
    return fits;
}

/* MILLISECONDS.ID, as `next` above has it. */
static bool cursor_parse(const char *text, struct cr_cursor *out)
{
    const char *point = strchr(text, '.');
    cr_time_ms at = 0;
    if (point == NULL || point == text || point - text > 15)
        return false;
    for (const char *digit = text; digit < point; digit++) {
        if (*digit < '0' || *digit > '9')
            return false;
        at = at * 10 + (*digit - '0');
    }
    out->created_at = at;
    return cr_session_id_parse(point + 1, strlen(point + 1), &out->id) == CR_OK;
}

enum cr_http_progress cr_http_sessions_get(struct cr_http_exchange *x)
{
    char after[64];
    if (!query_get(x, "after", after, sizeof after) ||
        (after[0] != '\0' && !cursor_parse(after, &x->cursor)))
        return cr_http_problem(x, 400, "`after` is not what an earlier page gave as `next`.");
    x->later = after[0] != '\0';
    return cr_http_authenticate(x, list_begin, refused);
}

/* --- Ending --- */

static bool is_form(const struct cr_http_exchange *x)
{
    return x->route->page || cr_http_has_type(x, "application/x-www-form-urlencoded");
}

static bool ends_itself(const struct cr_http_exchange *x)
{
    return !x->others && cr_session_id_equal(&x->target, &x->session.id);
}

static void ended_here(struct cr_http_exchange *x)
{
    if (!ends_itself(x))
        return;
    cr_http_cookie_clear(x);
    if (x->site->clear_site_data != NULL && x->site->clear_site_data[0] != '\0')
        cr_http_header_add(x, "Clear-Site-Data", x->site->clear_site_data);
}

static enum cr_http_progress ended_done(struct cr_http_exchange *x)
{
    ended_here(x);
    if (is_form(x))
        return cr_http_redirect(x, ends_itself(x) ? "/login" : "/");
    cr_text_str(&x->body, "{\"ended\":\"done\"}\n");
    return cr_http_reply_body(x, 200, "application/json");
}

static const char *ending_text(struct cr_http_exchange *x)
{
    char hex[33];
    cr_hex_encode(x->ended.ending.bytes, sizeof x->ended.ending.bytes, hex);
    return cr_http_scratch(x, "%s", hex);
}

static enum cr_http_progress ended_pending(struct cr_http_exchange *x)
{
    ended_here(x);
    uint64_t bound = x->ended.bound > 0 ? (uint64_t)x->ended.bound : 0;
    if (is_form(x)) {
        const char *text = cr_http_scratch(x,
                                           "It is ended. Not every server has confirmed it yet; "
                                           "all of them refuse it within %llu seconds.",
                                           (unsigned long long)(bound + 999) / 1000);
        cr_http_html_message(x, 202, text);
        return cr_http_reply_body(x, 202, "text/html; charset=utf-8");
    }
    cr_text_str(&x->body, "{\"ended\":\"pending\",\"bound_ms\":");
    cr_text_u64(&x->body, bound);
    cr_text_str(&x->body, ",\"ending\":\"");
    cr_text_str(&x->body, ending_text(x));
    cr_text_str(&x->body, "\"}\n");
    return cr_http_reply_body(x, 202, "application/json");
}

static enum cr_http_progress ended_unknown(struct cr_http_exchange *x)
{
    return cr_http_problem(
        x, 503,
        cr_http_scratch(x,
                        "The store did not say whether this was committed. It is safe to ask again,"
                        " with ?repeat=%s.",
                        ending_text(x)));
}

enum cr_http_progress cr_http_ended_answer(struct cr_http_exchange *x)
{
    if (x->status == CR_OK)
        return ended_done(x);
    if (x->status == CR_PENDING)
        return ended_pending(x);
    if (x->status == CR_E_UNKNOWN_OUTCOME)
        return ended_unknown(x);
    /* Another user's session is one that there is not. What has ended already is gone from the
     * list that a person sees next. */
    bool gone = x->status == CR_NOT_FOUND || x->status == CR_DENIED;
    if (gone && is_form(x))
        return cr_http_redirect(x, "/");
    if (x->status == CR_ENDED)
        return refused(x);
    return cr_http_problem_status(x, gone ? CR_NOT_FOUND : x->status);
}

static enum cr_http_progress ended(struct cr_http_exchange *x)
{
    struct cr_call *call = cr_http_call_take(x, &x->status);
    if (call != NULL)
        x->status = cr_end_finish(call, &x->ended);
    return cr_http_ended_answer(x);
}

static enum cr_http_progress end_begin(struct cr_http_exchange *x)
{
    struct cr_call *call = NULL;
    struct cr_end_options options = {
        .size = sizeof options,
        .reason = CR_REASON_LOGOUT,
        .by = cr_http_scratch(x, "the user, from %.40s", x->request.peer),
        .repeat = x->repeat,
        .authority = &x->credential.token,
    };
    enum cr_status st = x->others ? cr_end_others_begin(x->room, &x->session.id, &options, &call)
                                  : cr_end_begin(x->room, &x->target, &options, &call);
    return cr_http_wait(x, st, call, ended);
}

/* Another session than one's own: who found a screen unlocked cannot (ASVS D5). */
static enum cr_http_progress other_end_begin(struct cr_http_exchange *x)
{
    bool own = !x->others && cr_session_id_equal(&x->target, &x->session.id);
    return own || cr_http_is_fresh(x) ? end_begin(x) : cr_http_step_up(x);
}

static enum cr_http_progress logout_begin(struct cr_http_exchange *x)
{
    x->target = x->session.id;
    return end_begin(x);
}

bool cr_http_repeat_read(struct cr_http_exchange *x)
{
    char repeat[33];
    if (query_get(x, "repeat", repeat, sizeof repeat) &&
        (repeat[0] == '\0' || (strlen(repeat) == 32 && cr_hex_decode(repeat, 32, x->repeat.bytes))))
        return true;
    (void)cr_http_problem(x, 400, "`repeat` is not the id of an ending.");
    return false;
}

/* Reads ?repeat=, and then looks the session up that asks: in the store, for what is not its own.
 */
static enum cr_http_progress end_start(struct cr_http_exchange *x, cr_http_step *begin)
{
    if (!cr_http_repeat_read(x))
        return CR_HTTP_REPLY;
    return begin == other_end_begin ? cr_http_authenticate_strict(x, begin, refused)
                                    : cr_http_authenticate(x, begin, refused);
}

enum cr_http_progress cr_http_logout_post(struct cr_http_exchange *x)
{
    return end_start(x, logout_begin);
}

enum cr_http_progress cr_http_session_delete(struct cr_http_exchange *x)
{
    if (cr_session_id_parse(x->segment.bytes, x->segment.count, &x->target) != CR_OK)
        return cr_http_problem_status(x, CR_NOT_FOUND);
    return end_start(x, other_end_begin);
}

enum cr_http_progress cr_http_session_end_post(struct cr_http_exchange *x)
{
    return cr_http_session_delete(x);
}

enum cr_http_progress cr_http_others_end_post(struct cr_http_exchange *x)
{
    x->others = true;
    return end_start(x, other_end_begin);
}

enum cr_http_progress cr_http_sessions_delete(struct cr_http_exchange *x)
{
    char except[16];
    if (!query_get(x, "except", except, sizeof except) || strcmp(except, "current") != 0)
        return cr_http_problem(x, 400, "Say which: DELETE /sessions?except=current.");
    return cr_http_others_end_post(x);
}
