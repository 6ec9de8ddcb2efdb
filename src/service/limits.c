/* SPDX-License-Identifier: Apache-2.0 */
/* What operators ask about the limits of log-ins. */
#include "service/audit.h"
#include "service/request.h"

#include <string.h>

static struct cr_throttle *throttle_of(struct request *request)
{
    struct cr_auth *auth = request->service->options.auth;
    if (auth == NULL)
        cr_request_status(request, CR_E_INVALID, "there are no accounts here");
    return auth != NULL ? cr_auth_throttle(auth) : NULL;
}

/* `row` NULL: the limit alone. */
static void put_limit(struct cr_builder *reply, const struct cr_throttle *throttle, uint32_t kind,
                      const struct cr_debt_row *row)
{
    const struct cr_limit *limit = cr_throttle_limit(throttle, kind);
    struct cr_limit_view view = {.kind = kind, .tier_count = limit->tier_count};
    struct cr_limit_word word = {{0}};
    if (row != NULL) {
        view.user = row->user;
        memcpy(view.address, row->address, sizeof view.address);
        cr_limit_word_of(limit, row->left, 0, &word);
    }
    for (size_t i = 0; i < limit->tier_count; i++) {
        view.tiers[i].count = limit->tiers[i].count;
        view.tiers[i].period = limit->tiers[i].period;
        view.tiers[i].used = cr_limit_used(&limit->tiers[i], word.at[i], 0);
        view.tiers[i].left = (cr_span_ms)(word.at[i] / CR_NS_PER_MS);
    }
    cr_builder_limit(reply, &view);
}

void cr_service_limit_show(struct request *request, const struct cr_message *message)
{
    const struct cr_throttle *throttle = throttle_of(request);
    struct cr_throttle_count count;
    struct cr_builder reply;
    if (throttle == NULL)
        return;
    cr_throttle_count(throttle, &count);
    cr_request_begin(request, CR_OK, &reply);
    for (uint32_t kind = 1; kind < CR_THROTTLE_END; kind++)
        put_limit(&reply, throttle, kind, NULL);
    cr_builder_limit_count(&reply, &(struct cr_limit_count){.admitted = count.admitted,
                                                            .refused = count.refused,
                                                            .refunded = count.refunded,
                                                            .asked = count.asked,
                                                            .entries = count.entries,
                                                            .evicted = count.evicted});
    cr_request_end(request, &reply);
}

static void rows_found(void *context, enum cr_status status, const struct cr_debt_row *rows,
                       size_t count)
{
    struct request *request = context;
    struct cr_builder reply;
    if (status == CR_E_INVALID) {
        cr_request_status(request, status, "that is no address");
        return;
    }
    cr_audit_ended(request, &(struct cr_engine_answer){.status = status});
    cr_request_begin(request, status, &reply);
    /* Passwords go before the engine: where there are no rows, they may be gone. */
    for (size_t i = 0; i < count; i++)
        put_limit(&reply, cr_auth_throttle(request->service->options.auth), rows[i].kind, &rows[i]);
    cr_request_end(request, &reply);
}

/* Whose; false: nobody's, which has been replied. */
static bool subject_of(struct request *request, const struct cr_message *message,
                       struct cr_user *user, char address[CR_ADDRESS_CHARS_MAX + 1])
{
    user->length = 0;
    bool has_user = cr_message_field(message, CR_TAG_USER) != NULL;
    bool has_address = cr_message_text(message, CR_TAG_ADDRESS, address, CR_ADDRESS_CHARS_MAX + 1);
    bool valid = (has_user || has_address) && (!has_user || cr_message_user(message, user));
    if (!valid)
        cr_request_status(request, CR_E_INVALID, "name a user, an address, or both");
    return valid;
}

static void subject_ask(struct request *request, const struct cr_message *message,
                        void (*ask)(struct cr_throttle *, const struct cr_user *, const char *,
                                    cr_throttle_done *, void *))
{
    struct cr_throttle *throttle = throttle_of(request);
    char address[CR_ADDRESS_CHARS_MAX + 1];
    struct cr_user user;
    if (throttle != NULL && subject_of(request, message, &user, address))
        ask(throttle, user.length > 0 ? &user : NULL, address[0] != '\0' ? address : NULL,
            rows_found, request);
}

void cr_service_limit_explain(struct request *request, const struct cr_message *message)
{
    subject_ask(request, message, cr_throttle_explain);
}

void cr_service_limit_reset(struct request *request, const struct cr_message *message)
{
    subject_ask(request, message, cr_throttle_reset);
}

void cr_service_limit_top(struct request *request, const struct cr_message *message)
{
    uint64_t count = cr_message_u64(message, CR_TAG_COUNT, 0);
    struct cr_throttle *throttle = throttle_of(request);
    if (throttle == NULL)
        return; /* replied, and the message is gone with the request */
    if (count < 1 || count > CR_DEBT_LIST_MAX)
        cr_request_status(request, CR_E_INVALID, NULL);
    else
        cr_throttle_top(throttle, (size_t)count, rows_found, request);
}
