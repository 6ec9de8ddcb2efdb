/* SPDX-License-Identifier: Apache-2.0 */
/* Links for a new password: made for an operator, used by whoever has one. */
#include "service/audit.h"

#include <string.h>

#include "base/assert.h"

static struct cr_auth *auth_of(struct request *request)
{
    struct cr_auth *auth = request->service->options.auth;
    if (auth == NULL)
        cr_request_status(request, CR_E_INVALID, "there are no accounts here");
    return auth;
}

static void made(void *context, const struct cr_engine_answer *answer)
{
    struct cr_builder reply;
    cr_audit_reset(context, answer);
    cr_request_begin(context, answer->status, &reply);
    if (answer->status == CR_OK) {
        cr_builder_bytes(&reply, CR_TAG_TOKEN, answer->token->text, CR_TOKEN_CHARS);
        cr_builder_u64(&reply, CR_TAG_BOUND, (uint64_t)CR_RESET_MS);
    }
    cr_request_end(context, &reply);
}

void cr_service_reset_make(struct request *request, const struct cr_message *message)
{
    struct cr_auth *auth = auth_of(request);
    struct cr_user user;
    if (auth == NULL)
        return;
    if (!cr_message_user(message, &user))
        cr_request_status(request, CR_E_INVALID, NULL);
    else
        cr_auth_reset_make(auth, &user, made, request);
}

static void used(void *context, const struct cr_engine_answer *answer)
{
    const struct request *request = context;
    struct cr_builder reply;
    cr_audit_reset(request, answer);
    cr_request_begin(context, answer->status, &reply);
    if (answer->status == CR_PENDING)
        cr_builder_u64(&reply, CR_TAG_BOUND, (uint64_t)answer->bound);
    else if (answer->status == CR_LIMITED)
        cr_builder_u64(&reply, CR_TAG_RETRY, (uint64_t)answer->retry_after);
    else if (answer->status == CR_PASSWORD_SHORT)
        cr_builder_u64(&reply, CR_TAG_COUNT,
                       cr_auth_password_chars_min(request->service->options.auth));
    cr_request_end(context, &reply);
}

void cr_service_reset(struct request *request, const struct cr_message *message)
{
    struct cr_auth *auth = auth_of(request);
    const struct cr_field *fresh = cr_message_field(message, CR_TAG_PASSWORD_NEW);
    char address[CR_ADDRESS_CHARS_MAX + 1];
    struct cr_token token;
    if (auth == NULL)
        return;
    CR_ASSERT(fresh != NULL); /* a required field */
    if (!cr_message_text(message, CR_TAG_ADDRESS, address, sizeof address))
        address[0] = '\0';
    /* Text of the right length that is no token is one that nobody has. */
    if (!cr_message_token(message, CR_TAG_TOKEN, &token))
        memset(&token, 0, sizeof token);
    cr_auth_reset(auth,
                  &(struct cr_auth_reset){.token = &token,
                                          .fresh = fresh->bytes,
                                          .fresh_bytes = fresh->length,
                                          .address = address},
                  used, request);
    cr_token_wipe(&token);
}
