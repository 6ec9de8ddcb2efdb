/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cloakroom/session.h: each call's request, and what its reply says. One maker for the request, one
 * finish; the blocking form is both.
 */
#include "room/internal.h"

#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/random.h"

#define BY_CHARS_MAX 63
#define LIST_MAX 64

static void put_token(struct cr_call *call, enum cr_tag tag, const struct cr_token *token)
{
    cr_builder_bytes(&call->request, tag, token->text, CR_TOKEN_CHARS);
}

static void put_id(struct cr_call *call, const struct cr_session_id *id)
{
    cr_builder_bytes(&call->request, CR_TAG_ID, id->text, CR_SESSION_ID_CHARS);
}

static void put_user(struct cr_call *call, const struct cr_user *user)
{
    cr_builder_bytes(&call->request, CR_TAG_USER, user->bytes, user->length);
}

/* Labels are cut rather than refused. */
static void put_label(struct cr_call *call, enum cr_tag tag, const char *text, size_t chars_max)
{
    char label[CR_AGENT_CHARS_MAX + 1];
    CR_ASSERT(chars_max < sizeof label);
    if (text == NULL)
        return;
    cr_label_copy(label, chars_max + 1, text, strlen(text));
    cr_builder_text(&call->request, tag, label);
}

static bool message_session(const struct cr_message *message, struct cr_session *out)
{
    const struct cr_field *field = cr_message_field(message, CR_TAG_SESSION);
    return field != NULL && cr_field_session(field, out);
}

/* Validating. */

static struct cr_call *validate_make(struct cr_room *room, const struct cr_token *token,
                                     bool strict)
{
    struct cr_call *call = cr_call_create(room, CR_OP_VALIDATE, ROOM_REPEAT);
    if (call == NULL)
        return NULL;
    put_token(call, CR_TAG_TOKEN, token);
    if (strict)
        cr_builder_u64(&call->request, CR_TAG_STRICT, 1);
    return call;
}

enum cr_status cr_validate_begin(struct cr_room *room, const struct cr_token *token, bool strict,
                                 struct cr_call **out_call)
{
    return cr_call_submit(validate_make(room, token, strict), false, 0, out_call);
}

enum cr_status cr_validate_from_begin(struct cr_room *room, const struct cr_token *token,
                                      bool strict, const char *address, struct cr_call **out_call)
{
    struct cr_call *call = validate_make(room, token, strict);
    if (call != NULL)
        put_label(call, CR_TAG_ADDRESS, address, CR_ADDRESS_CHARS_MAX);
    return cr_call_submit(call, false, 0, out_call);
}

enum cr_status cr_validate_finish(struct cr_call *call, struct cr_session *out_session)
{
    struct cr_message message;
    enum cr_status st = cr_call_wait(call, &message);
    if (st == CR_OK && out_session->size != sizeof *out_session)
        st = CR_E_INVALID;
    if (st == CR_OK && !message_session(&message, out_session))
        st = CR_E_PROTOCOL;
    cr_call_free(call);
    return st;
}

static enum cr_status validate_ask(struct cr_room *room, const struct cr_token *token, bool strict,
                                   struct cr_session *out_session)
{
    struct cr_call *call;
    enum cr_status st = cr_call_submit(validate_make(room, token, strict), true, 0, &call);
    return st == CR_OK ? cr_validate_finish(call, out_session) : st;
}

enum cr_status cr_validate(struct cr_room *room, const struct cr_token *token,
                           struct cr_session *out_session)
{
    enum cr_status st = cr_validate_cached(room, token, out_session);
    return st == CR_ASK ? validate_ask(room, token, false, out_session) : st;
}

/* All that missed, at once: those behind the first are answered while it is waited for. */
static void missed_ask(struct cr_room *room, const struct cr_token *tokens, size_t count,
                       struct cr_session *out_sessions, enum cr_status *out_statuses)
{
    struct cr_call *calls[CR_VALIDATE_MANY_MAX] = {NULL};
    for (size_t i = 0; i < count; i++)
        if (out_statuses[i] == CR_ASK)
            out_statuses[i] =
                cr_call_submit(validate_make(room, &tokens[i], false), true, 0, &calls[i]);
    for (size_t i = 0; i < count; i++)
        if (calls[i] != NULL)
            out_statuses[i] = cr_validate_finish(calls[i], &out_sessions[i]);
}

enum cr_status cr_validate_many(struct cr_room *room, const struct cr_token *tokens, size_t count,
                                struct cr_session *out_sessions, enum cr_status *out_statuses)
{
    if (count > CR_VALIDATE_MANY_MAX)
        return CR_E_INVALID;
    for (size_t i = 0; i < count; i++)
        if (out_sessions[i].size != sizeof *out_sessions)
            return CR_E_INVALID;
    bool missed = false;
    for (size_t at = 0; at < count; at += CR_TABLE_MANY_MAX) {
        size_t part = count - at < CR_TABLE_MANY_MAX ? count - at : CR_TABLE_MANY_MAX;
        cr_validate_group(room, tokens + at, part, out_sessions + at, out_statuses + at);
    }
    for (size_t i = 0; i < count; i++)
        missed = missed || out_statuses[i] == CR_ASK;
    if (missed)
        missed_ask(room, tokens, count, out_sessions, out_statuses);
    return CR_OK;
}

enum cr_status cr_validate_strict(struct cr_room *room, const struct cr_token *token,
                                  struct cr_session *out_session)
{
    return validate_ask(room, token, true, out_session);
}

static struct cr_call *touch_make(struct cr_room *room, const struct cr_token *token)
{
    struct cr_call *call = cr_call_create(room, CR_OP_TOUCH, ROOM_REPEAT);
    if (call != NULL)
        put_token(call, CR_TAG_TOKEN, token);
    return call;
}

enum cr_status cr_touch_begin(struct cr_room *room, const struct cr_token *token,
                              struct cr_call **out_call)
{
    return cr_call_submit(touch_make(room, token), false, 0, out_call);
}

enum cr_status cr_touch_finish(struct cr_call *call)
{
    return cr_call_finish(call);
}

enum cr_status cr_touch(struct cr_room *room, const struct cr_token *token)
{
    return cr_call_run(touch_make(room, token));
}

/* Logging in and making. */

static void put_login(struct cr_call *call, const struct cr_login_options *given)
{
    struct cr_room *room = call->room;
    struct cr_login_options options = {0};
    if (given != NULL)
        memcpy(&options, given, given->size < sizeof options ? given->size : sizeof options);
    cr_span_ms idle = options.idle != 0 ? options.idle : room->idle;
    cr_span_ms absolute = options.absolute != 0 ? options.absolute : room->absolute;
    struct cr_builder *request = &call->request;
    if (options.policy != 0)
        cr_builder_u64(request, CR_TAG_POLICY, options.policy);
    if (options.keep_count != 0)
        cr_builder_u64(request, CR_TAG_COUNT, options.keep_count);
    if (idle != 0)
        cr_builder_u64(request, CR_TAG_IDLE, (uint64_t)idle);
    if (absolute != 0)
        cr_builder_u64(request, CR_TAG_ABSOLUTE, (uint64_t)absolute);
    if (options.rights_bytes > 0)
        cr_builder_bytes(request, CR_TAG_RIGHTS, options.rights, options.rights_bytes);
    if (options.data_bytes > 0)
        cr_builder_bytes(request, CR_TAG_DATA, options.data, options.data_bytes);
    put_label(call, CR_TAG_ADDRESS, options.address, CR_ADDRESS_CHARS_MAX);
    put_label(call, CR_TAG_AGENT, options.agent, CR_AGENT_CHARS_MAX);
    if (options.anonymous != NULL)
        put_token(call, CR_TAG_ANONYMOUS, options.anonymous);
}

/* Longer than ours is none of ours. */
static void put_device(struct cr_call *call, const struct cr_login_options *options)
{
    if (options->size < offsetof(struct cr_login_options, device) + sizeof options->device ||
        options->device == NULL || strlen(options->device) > CR_DEVICE_CHARS)
        return;
    cr_builder_text(&call->request, CR_TAG_DEVICE, options->device);
}

static void put_renews(struct cr_call *call, const struct cr_login_options *options)
{
    size_t known = offsetof(struct cr_login_options, renews) + sizeof(void *);
    if (options->size >= known && options->renews != NULL)
        put_token(call, CR_TAG_AUTHORITY, options->renews);
}

static enum cr_status login_finish(struct cr_call *call, struct cr_login *out_login)
{
    struct cr_message message;
    enum cr_status st = cr_call_wait(call, &message);
    if (st == CR_OK) {
        out_login->session.size = sizeof out_login->session;
        if (message_session(&message, &out_login->session) &&
            cr_message_token(&message, CR_TAG_TOKEN, &out_login->signed_token))
            out_login->expires_at = out_login->session.expires_at;
        else
            st = CR_E_PROTOCOL;
    }
    cr_call_free(call);
    return st;
}

static struct cr_call *login_make(struct cr_room *room, const struct cr_user *user,
                                  const struct cr_login_options *options)
{
    struct cr_call *call = cr_call_create(room, CR_OP_LOGIN, ROOM_GIVE_UP);
    if (call == NULL)
        return NULL;
    put_user(call, user);
    put_renews(call, options);
    put_login(call, options);
    return call;
}

/* The wire refuses what lacks its policy by cutting the peer; here it is an argument. */
static bool login_has_policy(const struct cr_login_options *options)
{
    return options != NULL && options->policy >= CR_POLICY_REPLACE &&
           options->policy <= CR_POLICY_KEEP_N;
}

enum cr_status cr_login_begin(struct cr_room *room, const struct cr_user *user,
                              const struct cr_login_options *options, struct cr_call **out_call)
{
    if (!login_has_policy(options))
        return CR_E_INVALID;
    return cr_call_submit(login_make(room, user, options), false, 0, out_call);
}

enum cr_status cr_login_finish(struct cr_call *call, struct cr_login *out_login)
{
    return login_finish(call, out_login);
}

enum cr_status cr_login(struct cr_room *room, const struct cr_user *user,
                        const struct cr_login_options *options, struct cr_login *out_login)
{
    struct cr_call *call;
    if (!login_has_policy(options))
        return CR_E_INVALID;
    enum cr_status st = cr_call_submit(login_make(room, user, options), true, 0, &call);
    return st == CR_OK ? login_finish(call, out_login) : st;
}

static struct cr_call *password_make(struct cr_room *room, const struct cr_user *user,
                                     const void *password, size_t password_bytes,
                                     const struct cr_login_options *options)
{
    struct cr_call *call = cr_call_create(room, CR_OP_LOGIN_PASSWORD, ROOM_GIVE_UP);
    if (call == NULL)
        return NULL;
    put_user(call, user);
    put_device(call, options);
    cr_builder_bytes(&call->request, CR_TAG_PASSWORD, password, password_bytes);
    size_t known =
        offsetof(struct cr_login_options, new_password_bytes) + sizeof options->new_password_bytes;
    if (options->size >= known && options->new_password != NULL)
        cr_builder_bytes(&call->request, CR_TAG_PASSWORD_NEW, options->new_password,
                         options->new_password_bytes);
    put_renews(call, options);
    put_login(call, options);
    return call;
}

void cr_login_password_note(struct cr_call *call, struct cr_login_note *out_note)
{
    struct cr_message message;
    struct cr_login_note note = {.size = out_note->size};
    enum cr_status st = cr_call_wait(call, &message);
    if (st == CR_LIMITED)
        note.retry_after = (cr_span_ms)cr_message_u64(&message, CR_TAG_RETRY, 0);
    else if (st == CR_PASSWORD_SHORT)
        note.password_chars_min = (unsigned)cr_message_u64(&message, CR_TAG_COUNT, 0);
    else if (st == CR_OK)
        (void)!cr_message_text(&message, CR_TAG_DEVICE, note.device, sizeof note.device);
    memcpy(out_note, &note, note.size < sizeof note ? note.size : sizeof note);
}

enum cr_status cr_login_password_begin(struct cr_room *room, const struct cr_user *user,
                                       const void *password, size_t password_bytes,
                                       const struct cr_login_options *options,
                                       struct cr_call **out_call)
{
    if (!login_has_policy(options))
        return CR_E_INVALID;
    return cr_call_submit(password_make(room, user, password, password_bytes, options), false, 0,
                          out_call);
}

enum cr_status cr_login_password_finish(struct cr_call *call, struct cr_login *out_login)
{
    return login_finish(call, out_login);
}

enum cr_status cr_login_password(struct cr_room *room, const struct cr_user *user,
                                 const void *password, size_t password_bytes,
                                 const struct cr_login_options *options, struct cr_login *out_login)
{
    struct cr_call *call;
    if (!login_has_policy(options))
        return CR_E_INVALID;
    enum cr_status st = cr_call_submit(password_make(room, user, password, password_bytes, options),
                                       true, 0, &call);
    return st == CR_OK ? login_finish(call, out_login) : st;
}

static struct cr_call *create_make(struct cr_room *room, const struct cr_user *user,
                                   const struct cr_login_options *options)
{
    struct cr_call *call = cr_call_create(room, CR_OP_CREATE, ROOM_GIVE_UP);
    if (call == NULL)
        return NULL;
    if (user != NULL)
        put_user(call, user);
    put_login(call, options);
    return call;
}

enum cr_status cr_create_begin(struct cr_room *room, const struct cr_user *user,
                               const struct cr_login_options *options, struct cr_call **out_call)
{
    return cr_call_submit(create_make(room, user, options), false, 0, out_call);
}

enum cr_status cr_create_finish(struct cr_call *call, struct cr_login *out_login)
{
    return login_finish(call, out_login);
}

enum cr_status cr_create(struct cr_room *room, const struct cr_user *user,
                         const struct cr_login_options *options, struct cr_login *out_login)
{
    struct cr_call *call;
    enum cr_status st = cr_call_submit(create_make(room, user, options), true, 0, &call);
    return st == CR_OK ? login_finish(call, out_login) : st;
}

/* To renew twice gives the same successor; a change of privilege is done once. */
static struct cr_call *rotate_make(struct cr_room *room, const struct cr_token *token,
                                   enum cr_rotation rotation)
{
    struct cr_call *call = cr_call_create(room, CR_OP_ROTATE,
                                          rotation == CR_ROTATE_RENEW ? ROOM_REPEAT : ROOM_UNKNOWN);
    if (call == NULL)
        return NULL;
    put_token(call, CR_TAG_TOKEN, token);
    cr_builder_u64(&call->request, CR_TAG_ROTATION, rotation);
    return call;
}

enum cr_status cr_rotate_begin(struct cr_room *room, const struct cr_token *token,
                               enum cr_rotation rotation, struct cr_call **out_call)
{
    return cr_call_submit(rotate_make(room, token, rotation), false, 0, out_call);
}

enum cr_status cr_rotate_finish(struct cr_call *call, struct cr_login *out_login)
{
    return login_finish(call, out_login);
}

enum cr_status cr_rotate(struct cr_room *room, const struct cr_token *token,
                         enum cr_rotation rotation, struct cr_login *out_login)
{
    struct cr_call *call;
    enum cr_status st = cr_call_submit(rotate_make(room, token, rotation), true, 0, &call);
    return st == CR_OK ? login_finish(call, out_login) : st;
}

/* Data and rights. */

static struct cr_call *data_read_make(struct cr_room *room, const struct cr_session_id *id)
{
    struct cr_call *call = cr_call_create(room, CR_OP_DATA_READ, ROOM_REPEAT);
    if (call != NULL)
        put_id(call, id);
    return call;
}

enum cr_status cr_data_read_begin(struct cr_room *room, const struct cr_session_id *id,
                                  struct cr_call **out_call)
{
    return cr_call_submit(data_read_make(room, id), false, 0, out_call);
}

enum cr_status cr_data_read_finish(struct cr_call *call, void *out_data, size_t capacity,
                                   size_t *out_bytes, uint64_t *out_version)
{
    struct cr_message message;
    enum cr_status st = cr_call_wait(call, &message);
    if (st == CR_OK) {
        const struct cr_field *data = cr_message_field(&message, CR_TAG_DATA);
        size_t bytes = data != NULL ? data->length : 0;
        *out_bytes = bytes;
        if (out_version != NULL)
            *out_version = cr_message_u64(&message, CR_TAG_VERSION, 0);
        if (bytes > capacity)
            st = CR_E_LIMIT;
        else if (bytes > 0)
            memcpy(out_data, data->bytes, bytes);
    }
    cr_call_free(call);
    return st;
}

enum cr_status cr_data_read(struct cr_room *room, const struct cr_session_id *id, void *out_data,
                            size_t capacity, size_t *out_bytes, uint64_t *out_version)
{
    struct cr_call *call;
    enum cr_status st = cr_call_submit(data_read_make(room, id), true, 0, &call);
    return st == CR_OK ? cr_data_read_finish(call, out_data, capacity, out_bytes, out_version) : st;
}

static struct cr_call *data_write_make(struct cr_room *room, const struct cr_session_id *id,
                                       uint64_t version, const void *data, size_t bytes)
{
    struct cr_call *call = cr_call_create(room, CR_OP_DATA_WRITE, ROOM_UNKNOWN);
    if (call == NULL)
        return NULL;
    put_id(call, id);
    cr_builder_u64(&call->request, CR_TAG_VERSION, version);
    cr_builder_bytes(&call->request, CR_TAG_DATA, data, bytes);
    return call;
}

enum cr_status cr_data_write_begin(struct cr_room *room, const struct cr_session_id *id,
                                   uint64_t version, const void *data, size_t bytes,
                                   struct cr_call **out_call)
{
    return cr_call_submit(data_write_make(room, id, version, data, bytes), false, 0, out_call);
}

enum cr_status cr_data_write_finish(struct cr_call *call, uint64_t *out_version)
{
    struct cr_message message;
    enum cr_status st = cr_call_wait(call, &message);
    if (st == CR_OK && out_version != NULL)
        *out_version = cr_message_u64(&message, CR_TAG_VERSION, 0);
    cr_call_free(call);
    return st;
}

enum cr_status cr_data_write(struct cr_room *room, const struct cr_session_id *id, uint64_t version,
                             const void *data, size_t bytes, uint64_t *out_version)
{
    struct cr_call *call;
    enum cr_status st =
        cr_call_submit(data_write_make(room, id, version, data, bytes), true, 0, &call);
    return st == CR_OK ? cr_data_write_finish(call, out_version) : st;
}

static struct cr_call *rights_make(struct cr_room *room, const struct cr_session_id *id,
                                   const void *rights, size_t bytes)
{
    struct cr_call *call = cr_call_create(room, CR_OP_RIGHTS_WRITE, ROOM_UNKNOWN);
    if (call == NULL)
        return NULL;
    put_id(call, id);
    cr_builder_bytes(&call->request, CR_TAG_RIGHTS, rights, bytes);
    return call;
}

enum cr_status cr_rights_write_begin(struct cr_room *room, const struct cr_session_id *id,
                                     const void *rights, size_t bytes, struct cr_call **out_call)
{
    return cr_call_submit(rights_make(room, id, rights, bytes), false, 0, out_call);
}

enum cr_status cr_rights_write_finish(struct cr_call *call)
{
    return cr_call_finish(call);
}

enum cr_status cr_rights_write(struct cr_room *room, const struct cr_session_id *id,
                               const void *rights, size_t bytes)
{
    return cr_call_run(rights_make(room, id, rights, bytes));
}

/* Endings. Their identity is made here, so that one whose connection ended is sent again and is
 * still done once. */

static bool put_ending(struct cr_call *call, const struct cr_end_options *given)
{
    struct cr_end_options options = {0};
    struct cr_builder *request = &call->request;
    if (given != NULL)
        memcpy(&options, given, given->size < sizeof options ? given->size : sizeof options);
    call->ending = options.repeat;
    if (cr_bytes_are_zero(call->ending.bytes, sizeof call->ending.bytes) &&
        cr_random_fill(cr_random_system(), call->ending.bytes, sizeof call->ending.bytes) != CR_OK)
        return false;
    cr_builder_bytes(request, CR_TAG_ENDING, call->ending.bytes, sizeof call->ending.bytes);
    if (options.reason != CR_REASON_NONE)
        cr_builder_u64(request, CR_TAG_REASON, options.reason);
    put_label(call, CR_TAG_BY, options.by, BY_CHARS_MAX);
    if (options.async)
        cr_builder_u64(request, CR_TAG_ASYNC, 1);
    if (options.authority != NULL)
        put_token(call, CR_TAG_AUTHORITY, options.authority);
    return true;
}

/* `id` and `user` may be NULL. */
static enum cr_status end_submit(struct cr_room *room, enum cr_op op,
                                 const struct cr_session_id *id, const struct cr_user *user,
                                 const struct cr_end_options *options, bool waited,
                                 struct cr_call **out_call)
{
    struct cr_call *call = cr_call_create(room, op, ROOM_REPEAT);
    if (call == NULL)
        return CR_E_NO_MEMORY;
    if (id != NULL)
        put_id(call, id);
    if (user != NULL)
        put_user(call, user);
    if (!put_ending(call, options)) {
        cr_call_free(call);
        return CR_UNAVAILABLE;
    }
    return cr_call_submit(call, waited, 0, out_call);
}

static enum cr_status end_now(struct cr_room *room, enum cr_op op, const struct cr_session_id *id,
                              const struct cr_user *user, const struct cr_end_options *options,
                              struct cr_ended *out_ended)
{
    struct cr_call *call;
    enum cr_status st = end_submit(room, op, id, user, options, true, &call);
    return st == CR_OK ? cr_end_finish(call, out_ended) : st;
}

enum cr_status cr_end_finish(struct cr_call *call, struct cr_ended *out_ended)
{
    struct cr_message message;
    struct cr_ended ended = {.size = sizeof ended};
    enum cr_status st = cr_call_wait(call, &message);
    if (!cr_message_ending(&message, &ended.ending))
        ended.ending = call->ending;
    ended.bound = (cr_span_ms)cr_message_u64(&message, CR_TAG_BOUND, 0);
    if (out_ended != NULL) {
        size_t size = out_ended->size;
        memcpy(out_ended, &ended, size < sizeof ended ? size : sizeof ended);
        out_ended->size = size;
    }
    cr_call_free(call);
    return st;
}

enum cr_status cr_end(struct cr_room *room, const struct cr_session_id *id,
                      const struct cr_end_options *options, struct cr_ended *out_ended)
{
    return end_now(room, CR_OP_END, id, NULL, options, out_ended);
}

enum cr_status cr_invalidate_by_user(struct cr_room *room, const struct cr_user *user,
                                     const struct cr_end_options *options,
                                     struct cr_ended *out_ended)
{
    return end_now(room, CR_OP_END_USER, NULL, user, options, out_ended);
}

enum cr_status cr_end_others(struct cr_room *room, const struct cr_session_id *keep,
                             const struct cr_end_options *options, struct cr_ended *out_ended)
{
    return end_now(room, CR_OP_END_OTHERS, keep, NULL, options, out_ended);
}

enum cr_status cr_end_all(struct cr_room *room, const struct cr_end_options *options,
                          struct cr_ended *out_ended)
{
    return end_now(room, CR_OP_END_ALL, NULL, NULL, options, out_ended);
}

enum cr_status cr_end_begin(struct cr_room *room, const struct cr_session_id *id,
                            const struct cr_end_options *options, struct cr_call **out_call)
{
    return end_submit(room, CR_OP_END, id, NULL, options, false, out_call);
}

enum cr_status cr_invalidate_by_user_begin(struct cr_room *room, const struct cr_user *user,
                                           const struct cr_end_options *options,
                                           struct cr_call **out_call)
{
    return end_submit(room, CR_OP_END_USER, NULL, user, options, false, out_call);
}

enum cr_status cr_end_others_begin(struct cr_room *room, const struct cr_session_id *keep,
                                   const struct cr_end_options *options, struct cr_call **out_call)
{
    return end_submit(room, CR_OP_END_OTHERS, keep, NULL, options, false, out_call);
}

enum cr_status cr_end_all_begin(struct cr_room *room, const struct cr_end_options *options,
                                struct cr_call **out_call)
{
    return end_submit(room, CR_OP_END_ALL, NULL, NULL, options, false, out_call);
}

/* Looking. */

static enum cr_status list_submit(struct cr_room *room, const struct cr_user *user,
                                  const struct cr_token *authority, const struct cr_cursor *cursor,
                                  size_t capacity, bool waited, struct cr_call **out_call)
{
    if (capacity < 1 || capacity > LIST_MAX || (user == NULL && authority == NULL))
        return CR_E_INVALID;
    struct cr_call *call = cr_call_create(room, CR_OP_LIST, ROOM_REPEAT);
    if (call == NULL)
        return CR_E_NO_MEMORY;
    if (user != NULL)
        put_user(call, user);
    if (authority != NULL)
        put_token(call, CR_TAG_AUTHORITY, authority);
    cr_builder_u64(&call->request, CR_TAG_COUNT, capacity);
    if (cursor->created_at != 0) {
        cr_builder_u64(&call->request, CR_TAG_CREATED, (uint64_t)cursor->created_at);
        put_id(call, &cursor->id);
    }
    return cr_call_submit(call, waited, 0, out_call);
}

enum cr_status cr_sessions_of_begin(struct cr_room *room, const struct cr_user *user,
                                    const struct cr_token *authority,
                                    const struct cr_cursor *cursor, size_t capacity,
                                    struct cr_call **out_call)
{
    return list_submit(room, user, authority, cursor, capacity, false, out_call);
}

static enum cr_status list_take(const struct cr_message *message, struct cr_cursor *cursor,
                                struct cr_session *out_sessions, size_t capacity, size_t *out_count)
{
    const struct cr_field *field = NULL;
    size_t count = 0;
    while ((field = cr_message_next(message, CR_TAG_SESSION, field)) != NULL) {
        if (count == capacity)
            return CR_E_PROTOCOL;
        out_sessions[count].size = sizeof out_sessions[count];
        if (!cr_field_session(field, &out_sessions[count]))
            return CR_E_PROTOCOL;
        count++;
    }
    if (count > 0) {
        cursor->created_at = out_sessions[count - 1].created_at;
        cursor->id = out_sessions[count - 1].id;
    }
    *out_count = count;
    return CR_OK;
}

enum cr_status cr_sessions_of_finish(struct cr_call *call, struct cr_cursor *cursor,
                                     struct cr_session *out_sessions, size_t capacity,
                                     size_t *out_count)
{
    struct cr_message message;
    enum cr_status st = cr_call_wait(call, &message);
    if (st == CR_OK)
        st = list_take(&message, cursor, out_sessions, capacity, out_count);
    cr_call_free(call);
    return st;
}

enum cr_status cr_sessions_of(struct cr_room *room, const struct cr_user *user,
                              const struct cr_token *authority, struct cr_cursor *cursor,
                              struct cr_session *out_sessions, size_t capacity, size_t *out_count)
{
    struct cr_call *call;
    enum cr_status st = list_submit(room, user, authority, cursor, capacity, true, &call);
    return st == CR_OK ? cr_sessions_of_finish(call, cursor, out_sessions, capacity, out_count)
                       : st;
}

static struct cr_call *explain_make(struct cr_room *room, const struct cr_session_id *id,
                                    const struct cr_token *authority)
{
    struct cr_call *call = cr_call_create(room, CR_OP_EXPLAIN, ROOM_REPEAT);
    if (call != NULL)
        put_id(call, id);
    if (call != NULL && authority != NULL)
        put_token(call, CR_TAG_AUTHORITY, authority);
    return call;
}

enum cr_status cr_explain_begin(struct cr_room *room, const struct cr_session_id *id,
                                const struct cr_token *authority, struct cr_call **out_call)
{
    return cr_call_submit(explain_make(room, id, authority), false, 0, out_call);
}

enum cr_status cr_explain_finish(struct cr_call *call, struct cr_explanation *out_explanation)
{
    struct cr_message message;
    enum cr_status st = cr_call_wait(call, &message);
    const struct cr_field *field =
        st == CR_OK ? cr_message_field(&message, CR_TAG_EXPLANATION) : NULL;
    if (st == CR_OK && out_explanation->size != sizeof *out_explanation)
        st = CR_E_INVALID;
    if (st == CR_OK && (field == NULL || !cr_field_explanation(field, out_explanation)))
        st = CR_E_PROTOCOL;
    cr_call_free(call);
    return st;
}

enum cr_status cr_explain(struct cr_room *room, const struct cr_session_id *id,
                          const struct cr_token *authority, struct cr_explanation *out_explanation)
{
    struct cr_call *call;
    enum cr_status st = cr_call_submit(explain_make(room, id, authority), true, 0, &call);
    return st == CR_OK ? cr_explain_finish(call, out_explanation) : st;
}

enum cr_status cr_stats_begin(struct cr_room *room, struct cr_call **out_call)
{
    return cr_call_submit(cr_call_create(room, CR_OP_STATS, ROOM_REPEAT), false, 0, out_call);
}

enum cr_status cr_stats_finish(struct cr_call *call, struct cr_stats *out_stats)
{
    struct cr_message message;
    const struct cr_room *room = call->room;
    enum cr_status st = cr_call_wait(call, &message);
    const struct cr_field *field = st == CR_OK ? cr_message_field(&message, CR_TAG_STATS) : NULL;
    if (st == CR_OK && out_stats->size != sizeof *out_stats)
        st = CR_E_INVALID;
    if (st == CR_OK && (field == NULL || !cr_field_stats(field, out_stats)))
        st = CR_E_PROTOCOL;
    cr_call_free(call);
    if (st != CR_OK)
        return st;
    out_stats->attached = !room->is_direct;
    out_stats->mapped = !room->is_direct && cr_room_has_table(room);
    cr_room_counts(room, &out_stats->hits, &out_stats->misses);
    return CR_OK;
}

enum cr_status cr_stats(struct cr_room *room, struct cr_stats *out_stats)
{
    struct cr_call *call;
    if (out_stats->size != sizeof *out_stats)
        return CR_E_INVALID;
    enum cr_status st =
        cr_call_submit(cr_call_create(room, CR_OP_STATS, ROOM_REPEAT), true, 0, &call);
    return st == CR_OK ? cr_stats_finish(call, out_stats) : st;
}
