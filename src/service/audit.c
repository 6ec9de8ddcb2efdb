/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From answers to audit events. What happened is told by the store's log rows, which say who, whom
 * and why; what did not happen, by the request.
 */
#include "service/audit.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/audit.h"
#include "base/bytes.h"

#define FIELDS_MAX 16
#define HEX_CHARS (2 * CR_USER_BYTES_MAX + 1)

struct cr_request_note {
    struct cr_user user;
    struct cr_session_id session; /* empty text: none */
    struct cr_origin from;
    enum cr_role role;
    char peer[CR_BY_CHARS_MAX + 1];
    bool disable;
    bool changes; /* a log-in that sets a new password */
};

static bool is_audited(uint16_t op)
{
    switch (op) {
    case CR_OP_LOGIN:
    case CR_OP_LOGIN_PASSWORD:
    case CR_OP_CREATE:
    case CR_OP_ROTATE:
    case CR_OP_END:
    case CR_OP_END_USER:
    case CR_OP_END_OTHERS:
    case CR_OP_END_ALL:
    case CR_OP_ACCOUNT_ADD:
    case CR_OP_ACCOUNT_IMPORT:
    case CR_OP_ACCOUNT_PASSWORD:
    case CR_OP_ACCOUNT_DISABLE:
    case CR_OP_ACCOUNT_REMOVE:
    case CR_OP_KEY_ROTATE:
    case CR_OP_LIMIT_RESET:
    case CR_OP_RESET_MAKE:
    case CR_OP_RESET:
        return true;
    default: /* a number from a peer */
        return false;
    }
}

static void label_take(const struct cr_message *message, enum cr_tag tag, char *out,
                       size_t capacity)
{
    const struct cr_field *field = cr_message_field(message, tag);
    if (field != NULL)
        cr_label_copy(out, capacity, (const char *)field->bytes, field->length);
}

void cr_request_note(struct request *request, const struct cr_message *message)
{
    if (request->service->options.audit == NULL || request->note != NULL ||
        request->client == NULL || !is_audited(request->op))
        return;
    struct cr_request_note *note = calloc(1, sizeof *note);
    if (note == NULL)
        return; /* the event says less */
    request->note = note;
    if (!cr_message_user(message, &note->user))
        note->user.length = 0;
    if (!cr_message_id(message, &note->session))
        note->session.text[0] = '\0';
    label_take(message, CR_TAG_ADDRESS, note->from.address, sizeof note->from.address);
    label_take(message, CR_TAG_AGENT, note->from.agent, sizeof note->from.agent);
    note->role = request->client->options.role;
    memcpy(note->peer, request->client->label, sizeof note->peer);
    note->disable = cr_message_u64(message, CR_TAG_DISABLED, 1) != 0;
    note->changes = cr_message_field(message, CR_TAG_PASSWORD_NEW) != NULL;
}

/* --- An event under way --- */

struct event {
    struct cr_audit_field fields[FIELDS_MAX];
    size_t count;
    char hex[HEX_CHARS];
    char ending[33];
};

static void event_bytes(struct event *event, const char *name, const void *bytes, size_t count)
{
    CR_ASSERT(event->count < FIELDS_MAX);
    if (count > 0)
        event->fields[event->count++] = (struct cr_audit_field){name, bytes, count};
}

static void event_text(struct event *event, const char *name, const char *text)
{
    event_bytes(event, name, text, strlen(text));
}

/* A name that is not text is shown as far as it is, and told exactly beside it. */
static void event_user(struct event *event, const struct cr_user *user)
{
    event_bytes(event, "user", user->bytes, user->length);
    if (user->length == 0 || cr_text_is_clean(user->bytes, user->length))
        return;
    cr_hex_encode(user->bytes, user->length, event->hex);
    event_text(event, "user_hex", event->hex);
}

static void event_ending(struct event *event, const struct cr_ending_id *ending)
{
    if (cr_bytes_are_zero(ending->bytes, sizeof ending->bytes))
        return;
    cr_hex_encode(ending->bytes, sizeof ending->bytes, event->ending);
    event_text(event, "ending", event->ending);
}

static void event_origin(struct event *event, const char *address, const char *agent)
{
    event_text(event, "address", address);
    event_text(event, "agent", agent);
}

static const char *role_name(enum cr_role role)
{
    switch (role) {
    case CR_ROLE_HTTP:
        return "http";
    case CR_ROLE_APP:
        return "application";
    case CR_ROLE_OPERATOR:
        return "operator";
    }
    return "?";
}

/* Who asked: the socket that it came through, and the process. */
static void event_give(struct event *event, const struct request *request, const char *name)
{
    if (request->note != NULL) {
        event_text(event, "via", role_name(request->note->role));
        event_text(event, "peer", request->note->peer);
    }
    cr_audit_event(request->service->options.audit, name, event->fields, event->count);
}

static const char *outcome_name(enum cr_status status)
{
    return status == CR_OK                  ? "done"
           : status == CR_PENDING           ? "pending"
           : status == CR_E_UNKNOWN_OUTCOME ? "unknown"
           : status == CR_DENIED            ? "denied"
           : status == CR_BUSY              ? "busy"
           : status == CR_LIMITED           ? "limited"
           : status == CR_CHANGE_FIRST      ? "change first"
           : status == CR_CONFLICT          ? "conflict"
                                            : "unavailable";
}

/* --- Endings --- */

static const char *scope_name(enum cr_log_kind kind)
{
    switch (kind) {
    case CR_LOG_SESSION_ENDED:
        return "session";
    case CR_LOG_USER_ENDED:
        return "user";
    case CR_LOG_ALL_ENDED:
        return "everybody";
    case CR_LOG_FIRST:
    case CR_LOG_SESSION_CHANGED:
    case CR_LOG_KEY_ADDED:
        break;
    }
    return "?";
}

static void give_end(const struct request *request, const struct cr_log_row *row,
                     enum cr_status status)
{
    struct event event = {.count = 0};
    bool keeps = row->kind == CR_LOG_USER_ENDED && row->session.text[0] != '\0';
    event_text(&event, "outcome", outcome_name(status));
    event_text(&event, "scope", keeps ? "others" : scope_name(row->kind));
    event_user(&event, &row->user);
    event_text(&event, keeps ? "kept" : "session", row->session.text);
    event_text(&event, "reason", cr_reason_name(row->reason));
    event_text(&event, "by", row->by);
    event_ending(&event, &row->identity);
    event_give(&event, request, "end");
}

static const char *asked_scope(uint16_t op)
{
    return op == CR_OP_END          ? "session"
           : op == CR_OP_END_OTHERS ? "others"
           : op == CR_OP_END_USER   ? "user"
                                    : "everybody";
}

/* Its commit's outcome was lost: what was asked for is all that is known. */
static void give_end_unknown(const struct request *request, const struct cr_engine_answer *answer)
{
    struct event event = {.count = 0};
    event_text(&event, "outcome", outcome_name(answer->status));
    event_text(&event, "scope", asked_scope(request->op));
    if (request->note != NULL) {
        event_user(&event, &request->note->user);
        event_text(&event, "session", request->note->session.text);
    }
    event_ending(&event, &answer->ending);
    event_give(&event, request, "end");
}

static const char *account_action(const struct request *request)
{
    switch (request->op) {
    case CR_OP_ACCOUNT_ADD:
    case CR_OP_ACCOUNT_IMPORT:
        return "add";
    case CR_OP_ACCOUNT_PASSWORD:
    case CR_OP_LOGIN_PASSWORD:
        return "password";
    case CR_OP_RESET_MAKE:
        return "reset link";
    case CR_OP_RESET:
        return "password by reset link";
    case CR_OP_ACCOUNT_REMOVE:
        return "remove";
    default:
        return request->note == NULL || request->note->disable ? "disable" : "enable";
    }
}

static bool is_account(uint16_t op)
{
    return (op >= CR_OP_ACCOUNT_ADD && op <= CR_OP_ACCOUNT_REMOVE) || op == CR_OP_ACCOUNT_IMPORT;
}

static void give_account(const struct request *request, const struct cr_engine_answer *answer)
{
    struct event event = {.count = 0};
    event_text(&event, "outcome", outcome_name(answer->status));
    event_text(&event, "action", account_action(request));
    /* Whose a link is, its message does not say. */
    if (request->op == CR_OP_RESET && answer->row != NULL)
        event_user(&event, &answer->row->user);
    else if (request->note != NULL)
        event_user(&event, &request->note->user);
    if (request->op == CR_OP_RESET && request->note != NULL)
        event_origin(&event, request->note->from.address, request->note->from.agent);
    event_ending(&event, &answer->ending);
    event_give(&event, request, "account");
}

static void give_key(const struct request *request, const struct cr_engine_answer *answer)
{
    struct event event = {.count = 0};
    char number[24];
    char wait[24];
    snprintf(number, sizeof number, "%" PRIu64, answer->version);
    snprintf(wait, sizeof wait, "%" PRId64, (int64_t)answer->bound);
    event_text(&event, "outcome", outcome_name(answer->status));
    if (answer->status == CR_OK) {
        event_text(&event, "key", number);
        event_text(&event, "signs_in_ms", wait);
    }
    event_give(&event, request, "key");
}

static void give_reset(const struct request *request, const struct cr_engine_answer *answer)
{
    struct event event = {.count = 0};
    event_text(&event, "outcome", outcome_name(answer->status));
    if (request->note != NULL) {
        event_user(&event, &request->note->user);
        event_text(&event, "address", request->note->from.address);
    }
    event_give(&event, request, "limit_reset");
}

void cr_audit_ended(const struct request *request, const struct cr_engine_answer *answer)
{
    bool happened = answer->status == CR_OK || answer->status == CR_PENDING;
    if (request->service->options.audit == NULL || !is_audited(request->op) ||
        (!happened && answer->status != CR_E_UNKNOWN_OUTCOME))
        return;
    if (is_account(request->op))
        give_account(request, answer);
    else if (request->op == CR_OP_KEY_ROTATE)
        give_key(request, answer);
    else if (request->op == CR_OP_LIMIT_RESET)
        give_reset(request, answer);
    else if (happened && answer->row != NULL)
        give_end(request, answer->row, answer->status);
    else
        give_end_unknown(request, answer);
}

/* --- Log-ins, creations, rotations --- */

static void give_made(const struct request *request, const struct cr_engine_answer *answer)
{
    const struct cr_record *record = answer->record;
    struct event event = {.count = 0};
    bool rotates = request->op == CR_OP_ROTATE;
    bool creates = request->op == CR_OP_CREATE;
    /* Who lost a race was given the other's successor: nothing was rotated. */
    if (rotates && (answer->row == NULL || answer->row->number == 0))
        return;
    event_text(&event, "outcome", outcome_name(answer->status));
    event_user(&event, &record->user);
    event_text(&event, "session", record->id.text);
    if (!rotates)
        event_origin(&event, record->address, record->agent);
    event_give(&event, request, rotates ? "rotate" : creates ? "create" : "login");
    for (size_t i = 0; answer->rows != NULL && i < answer->rows->count; i++)
        give_end(request, &answer->rows->rows[i], answer->status);
}

/* A name that nobody has is not written: it may be a password, typed into the wrong field. */
static void give_failure(const struct request *request, const struct cr_engine_answer *answer)
{
    struct event event = {.count = 0};
    const struct cr_request_note *note = request->note;
    bool is_throttled = answer->status == CR_BUSY || answer->status == CR_LIMITED;
    bool by_name = answer->user_known || request->op == CR_OP_LOGIN;
    event_text(&event, "outcome", outcome_name(answer->status));
    if (note != NULL && by_name)
        event_user(&event, &note->user);
    else if (!is_throttled)
        event_text(&event, "account", "unknown");
    if (note != NULL)
        event_origin(&event, note->from.address, note->from.agent);
    event_give(&event, request, is_throttled ? "throttle" : "failure");
}

static bool password_is_unfit(enum cr_status status)
{
    return status == CR_PASSWORD_SHORT || status == CR_PASSWORD_COMMON ||
           status == CR_PASSWORD_KNOWN || status == CR_E_INVALID || status == CR_E_LIMIT;
}

void cr_audit_login(const struct request *request, const struct cr_engine_answer *answer)
{
    bool happened = answer->status == CR_OK || answer->status == CR_PENDING;
    bool is_login = request->op == CR_OP_LOGIN || request->op == CR_OP_LOGIN_PASSWORD;
    bool changes = request->note != NULL && request->note->changes;
    if (request->service->options.audit == NULL || !is_audited(request->op))
        return;
    /* A new password that is none: nothing was looked at. */
    if (changes && password_is_unfit(answer->status))
        return;
    if (changes && (happened || answer->status == CR_E_UNKNOWN_OUTCOME))
        give_account(request, answer);
    if (happened && answer->record != NULL)
        give_made(request, answer);
    else if (!happened && is_login)
        give_failure(request, answer);
}

/* A refused link names nobody: who has none is nobody's. */
static void give_reset_refused(const struct request *request, const struct cr_engine_answer *answer)
{
    struct event event = {.count = 0};
    bool is_throttled = answer->status == CR_BUSY || answer->status == CR_LIMITED;
    event_text(&event, "outcome", outcome_name(answer->status));
    event_text(&event, "action", account_action(request));
    if (request->note != NULL) {
        event_user(&event, &request->note->user);
        event_origin(&event, request->note->from.address, request->note->from.agent);
    }
    event_give(&event, request, is_throttled ? "throttle" : "failure");
}

void cr_audit_reset(const struct request *request, const struct cr_engine_answer *answer)
{
    bool happened = answer->status == CR_OK || answer->status == CR_PENDING ||
                    answer->status == CR_E_UNKNOWN_OUTCOME;
    if (request->service->options.audit == NULL ||
        (request->op == CR_OP_RESET && password_is_unfit(answer->status)))
        return;
    if (happened)
        give_account(request, answer);
    else if (request->op == CR_OP_RESET)
        give_reset_refused(request, answer);
}

void cr_audit_guessing(const struct cr_client *client, const char *source, uint32_t count)
{
    struct event event = {.count = 0};
    char number[16];
    snprintf(number, sizeof number, "%" PRIu32, count);
    event_text(&event, "source", source != NULL ? source : "");
    event_text(&event, "count", number);
    event_text(&event, "via", role_name(client->options.role));
    event_text(&event, "peer", client->label);
    cr_audit_event(client->service->options.audit, "token_guessing", event.fields, event.count);
}

void cr_audit_lock_lost(const struct cr_client *client, const char *name)
{
    struct event event = {.count = 0};
    event_text(&event, "lock", name);
    event_text(&event, "via", role_name(client->options.role));
    event_text(&event, "peer", client->label);
    cr_audit_event(client->service->options.audit, "lease_lost", event.fields, event.count);
}
