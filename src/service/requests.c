/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each op does: one function per op, and the table that names them. By the time a function
 * here runs, the peer may send the op, its required fields are there, and its authority, where it
 * has one, has been checked and owns the session that is named by id.
 */
#include "service/request.h"

#include <string.h>
#include <unistd.h>

#include <cloakroom/key.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "service/audit.h"

#define LIST_MAX 64
#define KEEP_MAX 1000
#define TABLE_KEY_BYTES (CR_SESSION_ID_CHARS - 4 + CR_TOKEN_HASH_BYTES)

static struct cr_engine *engine_of(const struct request *request)
{
    return request->service->options.engine;
}

/* The table is in front of an application's own: there is no store of ours. */
static bool has_own_table(const struct request *request)
{
    return !cr_engine_has_store(engine_of(request));
}

static cr_boot_ns now_of(const struct request *request)
{
    return cr_clock_boot(cr_engine_loop(engine_of(request))->clock);
}

static void request_invalid(struct request *request)
{
    cr_request_status(request, CR_E_INVALID, NULL);
}

static void validated(void *context, const struct cr_engine_answer *answer)
{
    struct cr_engine_answer judged = *answer;
    if (answer->made_up != NULL)
        judged.status = cr_guess_judge(context, answer->made_up);
    cr_reply_session(context, &judged);
}

static void do_validate(struct request *request, const struct cr_message *message)
{
    struct cr_token token;
    if (!cr_message_token(message, CR_TAG_TOKEN, &token)) {
        cr_request_status(request, CR_NOT_FOUND, NULL); /* the right length, and no token of ours */
        return;
    }
    if (request->client->options.role == CR_ROLE_HTTP &&
        !cr_message_text(message, CR_TAG_ADDRESS, request->address, sizeof request->address))
        request->address[0] = '\0';
    cr_engine_validate(engine_of(request), &token, cr_message_u64(message, CR_TAG_STRICT, 0) != 0,
                       validated, request);
    cr_token_wipe(&token);
}

static void do_seen(struct request *request, const struct cr_message *message)
{
    const struct cr_field *field = NULL;
    struct cr_session_id id;
    /* When it was: the message may have waited. The peer's clock is ours; the engine believes no
     * time to come. */
    cr_boot_ns at = cr_message_u64(message, CR_TAG_BOOT, now_of(request));
    while ((field = cr_message_next(message, CR_TAG_ID, field)) != NULL) {
        if (cr_session_id_parse((const char *)field->bytes, field->length, &id) == CR_OK)
            cr_engine_seen(engine_of(request), &id, at);
    }
    cr_request_free(request);
}

static void touch_found(void *context, const struct cr_engine_answer *answer)
{
    struct request *request = context;
    if (answer->status == CR_OK)
        cr_engine_seen(engine_of(request), &answer->record->id, now_of(request));
    cr_reply_status(request, answer);
}

static void do_touch(struct request *request, const struct cr_message *message)
{
    struct cr_token token;
    if (!cr_message_token(message, CR_TAG_TOKEN, &token)) {
        cr_request_status(request, CR_NOT_FOUND, NULL);
        return;
    }
    cr_engine_validate(engine_of(request), &token, false, touch_found, request);
    cr_token_wipe(&token);
}

/* Logging in and making. */

/* What a login's message asks for, but for the policy. Texts are copied to the caller's. */
struct login_texts {
    char address[CR_ADDRESS_CHARS_MAX + 1];
    char agent[CR_AGENT_CHARS_MAX + 1];
};

static void label_of(const struct cr_message *message, enum cr_tag tag, char *out, size_t capacity)
{
    const struct cr_field *field = cr_message_field(message, tag);
    cr_label_copy(out, capacity, field != NULL ? (const char *)field->bytes : NULL,
                  field != NULL ? field->length : 0);
}

static bool span_of(const struct cr_message *message, enum cr_tag tag, cr_span_ms *out)
{
    uint64_t span = cr_message_u64(message, tag, 0);
    *out = (cr_span_ms)span;
    return span <= (uint64_t)CR_SPAN_MS_MAX;
}

static bool login_of(const struct cr_message *message, struct login_texts *texts,
                     struct cr_create_request *out)
{
    const struct cr_field *rights = cr_message_field(message, CR_TAG_RIGHTS);
    const struct cr_field *data = cr_message_field(message, CR_TAG_DATA);
    memset(out, 0, sizeof *out);
    label_of(message, CR_TAG_ADDRESS, texts->address, sizeof texts->address);
    label_of(message, CR_TAG_AGENT, texts->agent, sizeof texts->agent);
    out->address = texts->address;
    out->agent = texts->agent;
    if (rights != NULL) {
        out->rights = rights->bytes;
        out->rights_bytes = rights->length;
    }
    if (data != NULL) {
        out->data = data->bytes;
        out->data_bytes = data->length;
    }
    if (cr_message_field(message, CR_TAG_USER) != NULL && !cr_message_user(message, &out->user))
        return false;
    if (cr_message_field(message, CR_TAG_ANONYMOUS) != NULL) {
        out->has_anonymous = cr_message_token(message, CR_TAG_ANONYMOUS, &out->anonymous);
        if (!out->has_anonymous)
            return false;
    }
    return out->rights_bytes <= CR_RIGHTS_BYTES_MAX && out->data_bytes <= CR_DATA_BYTES_MAX &&
           span_of(message, CR_TAG_IDLE, &out->idle) &&
           span_of(message, CR_TAG_ABSOLUTE, &out->absolute);
}

static bool policy_of(const struct cr_message *message, struct cr_create_request *out)
{
    uint64_t policy = cr_message_u64(message, CR_TAG_POLICY, 0);
    uint64_t keep = cr_message_u64(message, CR_TAG_COUNT, 0);
    if (policy < CR_POLICY_REPLACE || policy > CR_POLICY_KEEP_N || out->user.length == 0)
        return false;
    out->policy = (enum cr_policy)policy;
    out->keep_count = out->policy == CR_POLICY_KEEP_N ? (unsigned)keep : 0;
    return out->policy != CR_POLICY_KEEP_N || (keep >= 1 && keep <= KEEP_MAX);
}

/* The session that asks, where it is to go on. False: it is another user's. */
static bool renewed_of(const struct request *request, const struct cr_message *message,
                       const struct cr_create_request *create, struct cr_token *out)
{
    return !request->has_authority ||
           (cr_user_equal(&create->user, &request->authority_user) &&
            create->policy == CR_POLICY_KEEP && cr_message_token(message, CR_TAG_AUTHORITY, out));
}

static void do_login(struct request *request, const struct cr_message *message)
{
    struct cr_create_request create;
    struct login_texts texts;
    struct cr_token renewed = {{0}};
    if (!login_of(message, &texts, &create) || !policy_of(message, &create))
        request_invalid(request);
    else if (!renewed_of(request, message, &create, &renewed))
        cr_request_status(request, CR_DENIED, NULL);
    else if (request->has_authority)
        cr_engine_reauthenticate(engine_of(request), &renewed, &create.user, create.absolute,
                                 cr_reply_login, request);
    else
        cr_engine_create_session(engine_of(request), &create, cr_reply_login, request);
    cr_token_wipe(&renewed);
    cr_token_wipe(&create.anonymous);
}

static void do_login_password(struct request *request, const struct cr_message *message)
{
    struct cr_create_request create;
    struct login_texts texts;
    struct cr_token renewed = {{0}};
    const struct cr_field *password = cr_message_field(message, CR_TAG_PASSWORD);
    const struct cr_field *device = cr_message_field(message, CR_TAG_DEVICE);
    const struct cr_field *fresh = cr_message_field(message, CR_TAG_PASSWORD_NEW);
    if (!login_of(message, &texts, &create) || !policy_of(message, &create) || password == NULL)
        request_invalid(request);
    else if (request->service->options.auth == NULL)
        cr_request_status(request, CR_E_INVALID, "there are no accounts here");
    else if (!renewed_of(request, message, &create, &renewed))
        cr_request_status(request, CR_DENIED, NULL);
    else
        cr_auth_login(request->service->options.auth,
                      &(struct cr_auth_login){
                          .request = &create,
                          .password = password->bytes,
                          .password_bytes = password->length,
                          .fresh = fresh != NULL ? fresh->bytes : NULL,
                          .fresh_bytes = fresh != NULL ? fresh->length : 0,
                          .device = device != NULL ? device->bytes : NULL,
                          .device_chars = device != NULL ? device->length : 0,
                          .renews = request->has_authority ? &renewed : NULL,
                      },
                      cr_reply_login, request);
    cr_token_wipe(&renewed);
    cr_token_wipe(&create.anonymous);
}

static void do_create(struct request *request, const struct cr_message *message)
{
    struct cr_create_request create;
    struct login_texts texts;
    if (!login_of(message, &texts, &create)) {
        request_invalid(request);
    } else {
        create.policy = CR_POLICY_KEEP;
        cr_engine_create_session(engine_of(request), &create, cr_reply_login, request);
    }
    cr_token_wipe(&create.anonymous);
}

static void do_rotate(struct request *request, const struct cr_message *message)
{
    struct cr_token token;
    uint64_t rotation = cr_message_u64(message, CR_TAG_ROTATION, 0);
    if (rotation != CR_ROTATE_RENEW && rotation != CR_ROTATE_PRIVILEGE) {
        request_invalid(request);
    } else if (!cr_message_token(message, CR_TAG_TOKEN, &token)) {
        cr_request_status(request, CR_NOT_FOUND, NULL);
    } else {
        cr_engine_rotate(engine_of(request), &token, (enum cr_rotation)rotation, cr_reply_login,
                         request);
        cr_token_wipe(&token);
    }
}

/* Data and rights. */

static void do_data_read(struct request *request, const struct cr_message *message)
{
    struct cr_session_id id;
    if (!cr_message_id(message, &id))
        request_invalid(request);
    else
        cr_engine_data_read(engine_of(request), &id, cr_reply_data, request);
}

static void do_data_write(struct request *request, const struct cr_message *message)
{
    struct cr_session_id id;
    const struct cr_field *data = cr_message_field(message, CR_TAG_DATA);
    if (!cr_message_id(message, &id) || data == NULL || data->length > CR_DATA_BYTES_MAX)
        request_invalid(request);
    else
        cr_engine_data_write(engine_of(request), &id,
                             cr_message_u64(message, CR_TAG_VERSION, CR_VERSION_ANY), data->bytes,
                             data->length, cr_reply_version, request);
}

static void do_rights_write(struct request *request, const struct cr_message *message)
{
    struct cr_session_id id;
    const struct cr_field *rights = cr_message_field(message, CR_TAG_RIGHTS);
    if (!cr_message_id(message, &id) || rights == NULL || rights->length > CR_RIGHTS_BYTES_MAX)
        request_invalid(request);
    else
        cr_engine_rights_write(engine_of(request), &id, rights->bytes, rights->length,
                               cr_reply_status, request);
}

/* Endings. */

/* Whoever acts for a session logs out, or ends what is on another device. */
static enum cr_reason reason_of_authority(const struct request *request,
                                          const struct cr_message *message)
{
    struct cr_session_id id;
    bool is_own = request->op == CR_OP_END && cr_message_id(message, &id) &&
                  cr_session_id_equal(&id, &request->authority_id);
    return is_own || request->op == CR_OP_END_USER ? CR_REASON_LOGOUT : CR_REASON_DEVICE;
}

/* `by` must be CR_BY_CHARS_MAX + 1 long. */
static bool ending_of(const struct request *request, const struct cr_message *message, char *by,
                      struct cr_end_request *out)
{
    static const char the_user[] = "the user", application[] = "application";
    uint64_t reason = cr_message_u64(message, CR_TAG_REASON, CR_REASON_ADMIN);
    memset(out, 0, sizeof *out);
    if (cr_message_field(message, CR_TAG_ENDING) != NULL &&
        !cr_message_ending(message, &out->identity))
        return false;
    out->async = cr_message_u64(message, CR_TAG_ASYNC, 0) != 0;
    out->by = by;
    if (request->has_authority) {
        out->reason = reason_of_authority(request, message);
        cr_label_copy(by, CR_BY_CHARS_MAX + 1, the_user, strlen(the_user));
        return true;
    }
    out->reason = (enum cr_reason)reason;
    cr_label_copy(by, CR_BY_CHARS_MAX + 1, application, strlen(application));
    if (cr_message_field(message, CR_TAG_BY) != NULL)
        label_of(message, CR_TAG_BY, by, CR_BY_CHARS_MAX + 1);
    return reason > CR_REASON_NONE && reason <= CR_REASON_DEVICE;
}

static void do_end(struct request *request, const struct cr_message *message)
{
    char by[CR_BY_CHARS_MAX + 1];
    struct cr_end_request end;
    struct cr_session_id id;
    if (!ending_of(request, message, by, &end) || !cr_message_id(message, &id))
        request_invalid(request);
    else
        cr_engine_end(engine_of(request), &id, &end, cr_reply_ended, request);
}

static void do_end_user(struct request *request, const struct cr_message *message)
{
    char by[CR_BY_CHARS_MAX + 1];
    struct cr_end_request end;
    struct cr_user user;
    if (!ending_of(request, message, by, &end) || !cr_message_user(message, &user))
        request_invalid(request);
    else if (request->has_authority && !cr_user_equal(&user, &request->authority_user))
        cr_request_status(request, CR_DENIED, NULL);
    else
        cr_engine_end_user(engine_of(request), &user, &end, cr_reply_ended, request);
}

/* With an authority it is that token's own session that stays. */
static void do_end_others(struct request *request, const struct cr_message *message)
{
    char by[CR_BY_CHARS_MAX + 1];
    struct cr_end_request end;
    struct cr_session_id keep;
    bool has_keep = cr_message_id(message, &keep);
    if (!ending_of(request, message, by, &end) || (!has_keep && !request->has_authority)) {
        request_invalid(request);
    } else if (request->has_authority && request->authority_user.length == 0) {
        cr_request_status(request, CR_DENIED, NULL);
    } else {
        if (request->has_authority)
            keep = request->authority_id;
        cr_engine_end_others(engine_of(request), &keep, &end, cr_reply_ended, request);
    }
}

/* Everybody's sessions are an operator's to end. What stands in an application's own table can be
 * read again from its database: any worker of it may clear that. */
static void do_end_all(struct request *request, const struct cr_message *message)
{
    char by[CR_BY_CHARS_MAX + 1];
    struct cr_end_request end;
    if (request->has_authority ||
        (!has_own_table(request) && request->client->options.role != CR_ROLE_OPERATOR))
        cr_request_status(request, CR_DENIED, NULL);
    else if (!ending_of(request, message, by, &end))
        request_invalid(request);
    else
        cr_engine_end_all(engine_of(request), &end, cr_reply_ended, request);
}

/* Looking. */

/* Whose: the authority's user, and nobody else; without one, who is named. False: that is refused,
 * and replied. */
static bool list_whose(struct request *request, const struct cr_message *message,
                       struct cr_user *out)
{
    bool has_user = cr_message_user(message, out);
    if (!has_user && !request->has_authority) {
        request_invalid(request);
        return false;
    }
    if (!request->has_authority)
        return true;
    if (request->authority_user.length == 0 ||
        (has_user && !cr_user_equal(out, &request->authority_user))) {
        cr_request_status(request, CR_DENIED, NULL);
        return false;
    }
    *out = request->authority_user;
    return true;
}

static void do_list(struct request *request, const struct cr_message *message)
{
    struct cr_session_id after = {""};
    struct cr_user user;
    uint64_t count = cr_message_u64(message, CR_TAG_COUNT, LIST_MAX);
    if (count < 1 || count > LIST_MAX) {
        request_invalid(request);
        return;
    }
    if (!list_whose(request, message, &user))
        return;
    /* Where a page goes on is a time and an id, or nothing. */
    cr_time_ms created_at = (cr_time_ms)cr_message_u64(message, CR_TAG_CREATED, 0);
    bool has_id = cr_message_field(message, CR_TAG_ID) != NULL;
    if ((has_id && !cr_message_id(message, &after)) || (created_at != 0 && !has_id)) {
        request_invalid(request);
        return;
    }
    cr_engine_list(engine_of(request), &user, created_at, &after, (size_t)count, cr_reply_list,
                   request);
}

static void do_past(struct request *request, const struct cr_message *message)
{
    struct cr_user user;
    if (list_whose(request, message, &user))
        cr_engine_past(engine_of(request), &user, request->has_authority, cr_reply_past, request);
}

static void do_explain(struct request *request, const struct cr_message *message)
{
    struct cr_session_id id;
    if (!cr_message_id(message, &id))
        request_invalid(request);
    else
        cr_engine_explain(engine_of(request), &id, cr_reply_explanation, request);
}

static void do_stats(struct request *request, const struct cr_message *message)
{
    struct cr_stats stats = {.size = sizeof stats};
    struct cr_builder reply;
    cr_engine_stats(engine_of(request), &stats);
    stats.cache = cr_engine_cache(engine_of(request));
    stats.agent_pid = (uint64_t)getpid();
    stats.attached_workers = request->service->client_count;
    cr_guesses_count(request->service, &stats.tokens_unknown, &stats.guessing_noticed);
    cr_request_begin(request, CR_OK, &reply);
    cr_builder_stats(&reply, &stats);
    cr_request_end(request, &reply);
}

/* The application's own table. */

static bool table_key_of(const struct cr_message *message, struct cr_session_id *out_id,
                         struct cr_token_hash *out_hash)
{
    const struct cr_field *key = cr_message_field(message, CR_TAG_KEY);
    char text[CR_SESSION_ID_CHARS + 1] = "crp_";
    if (key == NULL || key->length != TABLE_KEY_BYTES)
        return false;
    memcpy(text + 4, key->bytes, CR_SESSION_ID_CHARS - 4);
    memcpy(out_hash->bytes, key->bytes + CR_SESSION_ID_CHARS - 4, CR_TOKEN_HASH_BYTES);
    return cr_session_id_parse(text, CR_SESSION_ID_CHARS, out_id) == CR_OK;
}

static void do_lookup(struct request *request, const struct cr_message *message)
{
    struct cr_session_id id;
    struct cr_token_hash hash;
    struct cr_entry entry;
    struct cr_builder reply;
    if (!has_own_table(request) || !table_key_of(message, &id, &hash)) {
        request_invalid(request);
        return;
    }
    if (!cr_engine_cached(engine_of(request), &id, &hash, &entry)) {
        cr_request_status(request, CR_ASK, NULL);
        return;
    }
    cr_request_begin(request, CR_OK, &reply);
    cr_builder_bytes(&reply, CR_TAG_USER, entry.user.bytes, entry.user.length);
    cr_builder_bytes(&reply, CR_TAG_DATA, entry.data, entry.data_bytes);
    cr_builder_u64(&reply, CR_TAG_DEADLINE, entry.deadline);
    cr_request_end(request, &reply);
}

static void do_fill_begin(struct request *request, const struct cr_message *message)
{
    struct cr_builder reply;
    if (!has_own_table(request)) {
        request_invalid(request);
        return;
    }
    cr_request_begin(request, CR_OK, &reply);
    cr_builder_u64(&reply, CR_TAG_STAMP, cr_engine_table_clock(engine_of(request)));
    cr_request_end(request, &reply);
}

static void do_fill(struct request *request, const struct cr_message *message)
{
    struct cr_entry entry = {.seen = now_of(request)};
    struct cr_token_hash hash;
    const struct cr_field *data = cr_message_field(message, CR_TAG_DATA);
    uint64_t stamp = cr_message_u64(message, CR_TAG_STAMP, UINT64_MAX);
    entry.deadline = cr_message_u64(message, CR_TAG_DEADLINE, 0);
    entry.absolute_until = entry.deadline;
    /* A stamp that this table's clock has not reached would outlive endings to come. */
    if (!has_own_table(request) || !table_key_of(message, &entry.id, &hash) ||
        !cr_message_user(message, &entry.user) ||
        (data != NULL && data->length > CR_DATA_CACHED_BYTES_MAX) ||
        stamp > cr_engine_table_clock(engine_of(request)) ||
        entry.deadline > cr_boot_add(entry.seen, CR_SPAN_MS_MAX)) {
        request_invalid(request);
        return;
    }
    /* Its life is all that is known of it; no use makes it longer. */
    entry.idle =
        (cr_span_ms)(entry.deadline / CR_NS_PER_MS) - (cr_span_ms)(entry.seen / CR_NS_PER_MS);
    entry.ends_at = entry.expires_at = entry.idle;
    memcpy(entry.hash, hash.bytes, sizeof entry.hash);
    if (data != NULL) {
        entry.data_bytes = data->length;
        memcpy(entry.data, data->bytes, data->length);
    }
    cr_engine_table_fill(engine_of(request), &entry, stamp);
    cr_request_status(request, CR_OK, NULL);
}

static void do_invalidate(struct request *request, const struct cr_message *message)
{
    struct cr_session_id id;
    struct cr_token_hash hash;
    if (!has_own_table(request) || !table_key_of(message, &id, &hash)) {
        request_invalid(request);
        return;
    }
    cr_engine_end(engine_of(request), &id, &(struct cr_end_request){.reason = CR_REASON_ADMIN},
                  cr_reply_ended, request);
}

/* Accounts. */

static void do_account(struct request *request, const struct cr_message *message)
{
    struct cr_auth *auth = request->service->options.auth;
    const struct cr_field *password = cr_message_field(message, CR_TAG_PASSWORD);
    const void *bytes = password != NULL ? password->bytes : NULL;
    size_t count = password != NULL ? password->length : 0;
    uint64_t once = cr_message_u64(message, CR_TAG_ONCE, 0);
    struct cr_user user;
    if (auth == NULL)
        cr_request_status(request, CR_E_INVALID, "there are no accounts here");
    else if (!cr_message_user(message, &user) || once > CR_PASSWORD_ONCE_MS_MAX)
        request_invalid(request);
    else if (request->op == CR_OP_ACCOUNT_ADD)
        cr_auth_add(auth, &user, bytes, count, (cr_span_ms)once, cr_reply_ended, request);
    else if (request->op == CR_OP_ACCOUNT_PASSWORD)
        cr_auth_password(auth, &user, bytes, count, (cr_span_ms)once, cr_reply_ended, request);
    else if (request->op == CR_OP_ACCOUNT_DISABLE)
        cr_auth_disable(auth, &user, cr_message_u64(message, CR_TAG_DISABLED, 1) != 0,
                        cr_reply_ended, request);
    else
        cr_auth_remove(auth, &user, cr_reply_ended, request);
}

static void do_account_import(struct request *request, const struct cr_message *message)
{
    struct cr_auth *auth = request->service->options.auth;
    char hash[CR_PASSWORD_HASH_CHARS_MAX + 1];
    struct cr_user user;
    if (auth == NULL)
        cr_request_status(request, CR_E_INVALID, "there are no accounts here");
    else if (!cr_message_user(message, &user) ||
             !cr_message_text(message, CR_TAG_HASH, hash, sizeof hash))
        request_invalid(request);
    else
        cr_auth_import(auth, &user, hash, cr_reply_ended, request);
    cr_bytes_wipe(hash, sizeof hash);
}

/* Of who asks: nobody learns of another's. */
static void do_account_own(struct request *request, const struct cr_message *message)
{
    (void)message;
    if (!request->has_authority || request->authority_user.length == 0)
        cr_request_status(request, CR_DENIED, NULL);
    else if (request->service->options.auth == NULL)
        cr_request_status(request, CR_UNKNOWN_USER, NULL);
    else
        cr_auth_find(request->service->options.auth, &request->authority_user, cr_reply_status,
                     request);
}

static void accounts_listed(void *context, enum cr_status status, const struct cr_account_row *rows,
                            size_t count)
{
    struct cr_builder reply;
    cr_request_begin(context, status, &reply);
    for (size_t i = 0; status == CR_OK && i < count; i++) {
        struct cr_account account = {.size = sizeof account,
                                     .user = rows[i].user,
                                     .disabled = rows[i].disabled,
                                     .created_at = rows[i].created_at,
                                     .password_at = rows[i].password_at,
                                     .must_change = rows[i].must_change,
                                     .password_over = rows[i].password_over,
                                     .password_until = rows[i].password_until};
        cr_builder_account(&reply, &account);
    }
    cr_request_end(context, &reply);
}

static void do_account_list(struct request *request, const struct cr_message *message)
{
    struct cr_user after = {0};
    uint64_t count = cr_message_u64(message, CR_TAG_COUNT, LIST_MAX);
    bool has_after = cr_message_field(message, CR_TAG_USER) != NULL;
    if (count < 1 || count > LIST_MAX || (has_after && !cr_message_user(message, &after)))
        request_invalid(request);
    else if (request->service->options.auth == NULL)
        cr_request_status(request, CR_E_INVALID, "there are no accounts here");
    else
        cr_auth_list(request->service->options.auth, has_after ? &after : NULL, (size_t)count,
                     accounts_listed, request);
}

static void keys_listed(void *context, const struct cr_engine_answer *answer)
{
    struct cr_builder reply;
    cr_request_begin(context, answer->status, &reply);
    for (size_t i = 0; answer->status == CR_OK && i < answer->key_count; i++) {
        const struct cr_key *key = &answer->keys[i];
        struct cr_key_state state = {.size = sizeof state,
                                     .number = key->number,
                                     .since = key->since,
                                     .until = key->until,
                                     .waits = key->signs_in > 0};
        cr_builder_key_state(&reply, &state);
    }
    cr_request_end(context, &reply);
}

static void do_key_list(struct request *request, const struct cr_message *message)
{
    (void)message;
    cr_engine_key_list(engine_of(request), keys_listed, request);
}

static void key_rotated(void *context, const struct cr_engine_answer *answer)
{
    struct cr_builder reply;
    cr_audit_ended(context, answer);
    cr_request_begin(context, answer->status, &reply);
    if (answer->status == CR_OK) {
        cr_builder_u64(&reply, CR_TAG_VERSION, answer->version);
        cr_builder_u64(&reply, CR_TAG_BOUND, (uint64_t)answer->bound);
    }
    cr_request_end(context, &reply);
}

static void do_key_rotate(struct request *request, const struct cr_message *message)
{
    (void)message;
    cr_engine_key_rotate(engine_of(request), key_rotated, request);
}

static const struct op_entry {
    request_handler *handler;
    bool needs_store;
} entries[CR_OP_END_OF_LIST] = {
    [CR_OP_VALIDATE] = {do_validate, true},
    [CR_OP_SEEN] = {do_seen, true},
    [CR_OP_TOUCH] = {do_touch, true},
    [CR_OP_LOGIN] = {do_login, true},
    [CR_OP_LOGIN_PASSWORD] = {do_login_password, true},
    [CR_OP_CREATE] = {do_create, true},
    [CR_OP_DATA_READ] = {do_data_read, true},
    [CR_OP_DATA_WRITE] = {do_data_write, true},
    [CR_OP_RIGHTS_WRITE] = {do_rights_write, true},
    [CR_OP_ROTATE] = {do_rotate, true},
    [CR_OP_END] = {do_end, true},
    [CR_OP_END_USER] = {do_end_user, false},
    [CR_OP_END_OTHERS] = {do_end_others, true},
    [CR_OP_END_ALL] = {do_end_all, false},
    [CR_OP_LIST] = {do_list, true},
    [CR_OP_EXPLAIN] = {do_explain, true},
    [CR_OP_STATS] = {do_stats, false},
    [CR_OP_FILL] = {do_fill, false},
    [CR_OP_INVALIDATE] = {do_invalidate, false},
    [CR_OP_LOCK_TAKE] = {cr_service_lock_take, true},
    [CR_OP_LOCK_GIVE] = {cr_service_lock_give, true},
    [CR_OP_LOCK_READ] = {cr_service_lock_read, true},
    [CR_OP_ACCOUNT_ADD] = {do_account, true},
    [CR_OP_ACCOUNT_PASSWORD] = {do_account, true},
    [CR_OP_ACCOUNT_DISABLE] = {do_account, true},
    [CR_OP_ACCOUNT_REMOVE] = {do_account, true},
    [CR_OP_ACCOUNT_IMPORT] = {do_account_import, true},
    [CR_OP_ACCOUNT_OWN] = {do_account_own, true},
    [CR_OP_ACCOUNT_LIST] = {do_account_list, true},
    [CR_OP_LIMIT_SHOW] = {cr_service_limit_show, true},
    [CR_OP_LIMIT_EXPLAIN] = {cr_service_limit_explain, true},
    [CR_OP_LIMIT_TOP] = {cr_service_limit_top, true},
    [CR_OP_LIMIT_RESET] = {cr_service_limit_reset, true},
    [CR_OP_RESET_MAKE] = {cr_service_reset_make, true},
    [CR_OP_RESET] = {cr_service_reset, true},
    [CR_OP_KEY_LIST] = {do_key_list, true},
    [CR_OP_KEY_ROTATE] = {do_key_rotate, true},
    [CR_OP_PAST] = {do_past, true},
    [CR_OP_LOOKUP] = {do_lookup, false},
    [CR_OP_FILL_BEGIN] = {do_fill_begin, false},
};

request_handler *cr_request_handler_of(uint16_t op)
{
    return op < CR_OP_END_OF_LIST ? entries[op].handler : NULL;
}

bool cr_request_needs_store(uint16_t op)
{
    CR_ASSERT(op < CR_OP_END_OF_LIST);
    return entries[op].needs_store;
}
