/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why there is no session: told to who holds the token of one that was, and to nobody else. The
 * agent looks whether a token is genuine (its answer is then CR_ENDED); whatever else is presented
 * gets the plain answer. That it cannot be explained just now changes no answer but in being plain.
 */
#include "http/exchange.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/bytes.h"
#include "session/token.h"
#include "wire/message.h"

enum cr_status cr_http_explain_begin(struct cr_http_exchange *x, struct cr_call **out_call)
{
    struct cr_session_id id;
    cr_token_id(&x->credential.token, &id);
    return cr_explain_begin(x->room, &id, &x->credential.token, out_call);
}

bool cr_http_explain_finish(struct cr_http_exchange *x, struct cr_explanation *out)
{
    *out = (struct cr_explanation){.size = sizeof *out};
    struct cr_call *call = cr_http_call_take(x, &x->status);
    if (call != NULL)
        x->status = cr_explain_finish(call, out);
    return x->status == CR_OK && !out->live && out->reason != CR_REASON_NONE;
}

/* --- For programs --- */

/* Who did it is a label for operators; of it goes out what kind of somebody that was. */
static const char *kind_of_author(const char *by)
{
    static const char *const kinds[] = {"operator", "application", "the user",
                                        "the user, with a link"};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(by, kinds[i]) == 0)
            return kinds[i];
    return NULL;
}

/* Why, when, by whom and from where. */
static void json_how(struct cr_text *out, const struct cr_explanation *ended)
{
    const char *by = kind_of_author(ended->by);
    const struct cr_origin *from = &ended->from;
    cr_text_str(out, ",\"reason\":\"");
    cr_text_str(out, cr_reason_name(ended->reason));
    cr_http_json_time(out, "\",\"at\":", ended->at > 0 ? ended->at : 0);
    if (by != NULL) {
        cr_text_str(out, ",\"by\":");
        cr_text_json(out, by, strlen(by));
    }
    if (from->address[0] != '\0' || from->agent[0] != '\0') {
        cr_text_str(out, ",\"from\":{\"address\":");
        cr_text_json(out, from->address, strlen(from->address));
        cr_text_str(out, ",\"agent\":");
        cr_text_json(out, from->agent, strlen(from->agent));
        cr_text_put(out, "}", 1);
    }
}

void cr_http_json_ended(struct cr_text *out, const struct cr_explanation *ended)
{
    cr_text_str(out, ",\"error\":\"session_ended\"");
    json_how(out, ended);
}

void cr_http_json_past(struct cr_text *out, const struct cr_past_session *past)
{
    cr_text_str(out, "{\"id\":\"");
    cr_text_put(out, past->id.text, CR_SESSION_ID_CHARS);
    cr_http_json_time(out, "\",\"created_at\":", past->ended.created_at);
    cr_http_json_time(out, ",\"seen_at\":", past->ended.seen_at);
    cr_text_str(out, ",\"address\":");
    cr_text_json(out, past->where.address, strlen(past->where.address));
    cr_text_str(out, ",\"agent\":");
    cr_text_json(out, past->where.agent, strlen(past->where.agent));
    json_how(out, &past->ended);
    cr_text_put(out, "}", 1);
}

static enum cr_http_progress explained(struct cr_http_exchange *x)
{
    struct cr_explanation ended;
    bool is_known = cr_http_explain_finish(x, &ended);
    return cr_http_problem_ended(x, is_known ? &ended : NULL);
}

enum cr_http_progress cr_http_unauthenticated(struct cr_http_exchange *x)
{
    struct cr_call *call = NULL;
    if (x->status != CR_ENDED || !x->credential.parsed || x->room == NULL)
        return cr_http_problem_ended(x, NULL);
    enum cr_status st = cr_http_explain_begin(x, &call);
    return cr_http_wait(x, st, call, explained);
}

/* --- For people --- */

/* "2026-01-31 12:00 UTC" */
static void minute_write(cr_time_ms at, char *out, size_t capacity)
{
    time_t seconds = (time_t)(at / 1000);
    struct tm parts;
    if (gmtime_r(&seconds, &parts) == NULL ||
        strftime(out, capacity, "%Y-%m-%d %H:%M UTC", &parts) == 0)
        out[0] = '\0';
}

/* `lead`, and when, with what and from where the log-in came. */
static void replaced_write(const struct cr_explanation *ended, const char *lead,
                           char out[CR_HTTP_SENTENCE_CHARS_MAX + 1])
{
    char device[128], at[48];
    char address[CR_ADDRESS_CHARS_MAX + 1];
    (void)cr_device_describe(ended->from.agent, device, sizeof device);
    cr_label_copy(address, sizeof address, ended->from.address, strlen(ended->from.address));
    minute_write(ended->at, at, sizeof at);
    (void)snprintf(out, CR_HTTP_SENTENCE_CHARS_MAX + 1, "%s: at %s%s%s%s%s.", lead, at,
                   device[0] != '\0' ? ", with " : "", device, address[0] != '\0' ? ", from " : "",
                   address);
}

static const char *replaced_sentence(struct cr_http_exchange *x, const struct cr_explanation *ended)
{
    char sentence[CR_HTTP_SENTENCE_CHARS_MAX + 1];
    replaced_write(ended, "You were signed out because you signed in on another device", sentence);
    return cr_http_scratch(x, "%s If it was not you, change your password.", sentence);
}

const char *cr_http_ended_sentence(struct cr_http_exchange *x, const struct cr_explanation *ended)
{
    switch (ended->reason) {
    case CR_REASON_REPLACED:
        return replaced_sentence(x, ended);
    case CR_REASON_LIMIT:
        return "You signed in on more devices than are kept, and your session here was the "
               "oldest.";
    case CR_REASON_ADMIN:
        return "Your session was ended by an administrator.";
    case CR_REASON_PASSWORD:
        return "Your password was changed, and that ended all your sessions.";
    case CR_REASON_EVERYBODY:
        return "All sessions were ended: sign in again.";
    case CR_REASON_IDLE:
        return "You were away for long, so your session was ended.";
    case CR_REASON_ABSOLUTE:
        return "Your session reached its longest time: sign in again.";
    case CR_REASON_LOGOUT:
        return "You are signed out.";
    case CR_REASON_DEVICE:
        return "You ended this session from another of your devices.";
    case CR_REASON_NONE:
    case CR_REASON_DISABLED:
    case CR_REASON_UPGRADED:
    case CR_REASON_ROTATED:
        break;
    }
    return "Your session has ended: sign in again.";
}

static const char *past_words(enum cr_reason reason)
{
    switch (reason) {
    case CR_REASON_LIMIT:
        return "You signed in on more devices than are kept, and this was the oldest.";
    case CR_REASON_ADMIN:
        return "An administrator ended it.";
    case CR_REASON_PASSWORD:
        return "Your password was changed, and that ended it.";
    case CR_REASON_DISABLED:
        return "Your account was disabled for a while, and that ended it.";
    case CR_REASON_EVERYBODY:
        return "Everybody's sessions were ended.";
    case CR_REASON_IDLE:
        return "It was not used for long.";
    case CR_REASON_ABSOLUTE:
        return "It reached its longest time.";
    case CR_REASON_LOGOUT:
        return "You signed out there.";
    case CR_REASON_DEVICE:
        return "You ended it from another of your devices.";
    case CR_REASON_NONE:
    case CR_REASON_REPLACED:
    case CR_REASON_UPGRADED:
    case CR_REASON_ROTATED:
        break;
    }
    return "It has ended.";
}

void cr_http_past_sentence(const struct cr_explanation *ended,
                           char out[CR_HTTP_SENTENCE_CHARS_MAX + 1])
{
    if (ended->reason == CR_REASON_REPLACED)
        replaced_write(ended, "You signed in on another device", out);
    else
        (void)snprintf(out, CR_HTTP_SENTENCE_CHARS_MAX + 1, "%s", past_words(ended->reason));
}
