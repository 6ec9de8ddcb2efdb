/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the engine answered, as a reply. Owns nothing; each function replies and frees its request.
 */
#include "service/audit.h"

#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"

static void session_of_record(const struct cr_record *record, cr_boot_ns as_of,
                              struct cr_session *out)
{
    cr_time_ms idle_end = record->seen_at + record->idle;
    out->size = sizeof *out;
    out->id = record->id;
    out->user = record->user;
    out->created_at = record->created_at;
    out->authenticated_at = record->authenticated_at;
    out->ends_at = record->ends_at;
    out->expires_at = idle_end < record->ends_at ? idle_end : record->ends_at;
    out->seen_at = record->seen_at;
    out->as_of = (cr_time_ms)(as_of / CR_NS_PER_MS);
    out->version = record->version;
    memcpy(out->address, record->address, sizeof out->address);
    memcpy(out->agent, record->agent, sizeof out->agent);
    out->rights_bytes = record->rights_bytes;
    memcpy(out->rights, record->rights, record->rights_bytes);
    /* Small data travels with the session, so a row that came without it must not claim any. */
    bool is_small = record->data_bytes <= CR_DATA_CACHED_BYTES_MAX;
    out->data_bytes = is_small && record->data == NULL ? 0 : record->data_bytes;
    if (is_small && record->data != NULL)
        memcpy(out->data, record->data, record->data_bytes);
}

static void put_session(struct cr_builder *reply, const struct cr_record *record, cr_boot_ns as_of)
{
    struct cr_session session; /* its unused bytes are never read */
    session_of_record(record, as_of, &session);
    cr_builder_session(reply, &session);
}

void cr_reply_status(void *context, const struct cr_engine_answer *answer)
{
    cr_request_status(context, answer->status, NULL);
}

void cr_reply_session(void *context, const struct cr_engine_answer *answer)
{
    struct cr_builder reply;
    cr_request_begin(context, answer->status, &reply);
    if (answer->status == CR_OK)
        put_session(&reply, answer->record, answer->as_of);
    cr_request_end(context, &reply);
}

/* With CR_PENDING no token leaves: whoever logged in asks again. */
void cr_reply_login(void *context, const struct cr_engine_answer *answer)
{
    struct cr_builder reply;
    cr_audit_login(context, answer);
    cr_request_begin(context, answer->status, &reply);
    if (answer->status == CR_OK) {
        CR_ASSERT(answer->record != NULL && answer->token != NULL);
        put_session(&reply, answer->record, answer->as_of);
        cr_builder_bytes(&reply, CR_TAG_TOKEN, answer->token->text, CR_TOKEN_CHARS);
        if (answer->device != NULL)
            cr_builder_text(&reply, CR_TAG_DEVICE, answer->device);
    } else if (answer->status == CR_PENDING) {
        cr_builder_u64(&reply, CR_TAG_BOUND, (uint64_t)answer->bound);
    } else if (answer->status == CR_LIMITED) {
        cr_builder_u64(&reply, CR_TAG_RETRY, (uint64_t)answer->retry_after);
    } else if (answer->status == CR_PASSWORD_SHORT) {
        const struct request *request = context;
        cr_builder_u64(&reply, CR_TAG_COUNT,
                       cr_auth_password_chars_min(request->service->options.auth));
    }
    cr_request_end(context, &reply);
}

void cr_reply_data(void *context, const struct cr_engine_answer *answer)
{
    struct cr_builder reply;
    cr_request_begin(context, answer->status, &reply);
    if (answer->status == CR_OK) {
        cr_builder_u64(&reply, CR_TAG_VERSION, answer->record->version);
        cr_builder_bytes(&reply, CR_TAG_DATA, answer->record->data, answer->record->data_bytes);
    }
    cr_request_end(context, &reply);
}

void cr_reply_version(void *context, const struct cr_engine_answer *answer)
{
    struct cr_builder reply;
    cr_request_begin(context, answer->status, &reply);
    if (answer->status == CR_OK)
        cr_builder_u64(&reply, CR_TAG_VERSION, answer->version);
    cr_request_end(context, &reply);
}

void cr_reply_ended(void *context, const struct cr_engine_answer *answer)
{
    struct cr_builder reply;
    cr_audit_ended(context, answer);
    cr_request_begin(context, answer->status, &reply);
    if (!cr_bytes_are_zero(answer->ending.bytes, sizeof answer->ending.bytes))
        cr_builder_bytes(&reply, CR_TAG_ENDING, answer->ending.bytes, sizeof answer->ending.bytes);
    if (answer->status == CR_PENDING)
        cr_builder_u64(&reply, CR_TAG_BOUND, (uint64_t)answer->bound);
    if (answer->status == CR_CONFLICT && answer->same)
        cr_builder_u64(&reply, CR_TAG_SAME, 1);
    cr_request_end(context, &reply);
}

void cr_reply_list(void *context, const struct cr_engine_answer *answer)
{
    struct cr_builder reply;
    cr_request_begin(context, answer->status, &reply);
    for (size_t i = 0; answer->status == CR_OK && i < answer->record_count; i++)
        put_session(&reply, &answer->records[i], answer->as_of);
    cr_request_end(context, &reply);
}

void cr_reply_explanation(void *context, const struct cr_engine_answer *answer)
{
    struct cr_builder reply;
    cr_request_begin(context, answer->status, &reply);
    if (answer->status == CR_OK)
        cr_builder_explanation(&reply, answer->explanation);
    cr_request_end(context, &reply);
}

void cr_reply_past(void *context, const struct cr_engine_answer *answer)
{
    struct cr_builder reply;
    cr_request_begin(context, answer->status, &reply);
    for (size_t i = 0; answer->status == CR_OK && i < answer->past_count; i++)
        cr_builder_past(&reply, &answer->past[i]);
    cr_request_end(context, &reply);
}
