/* SPDX-License-Identifier: Apache-2.0 */
/* Links for a new password. */
#include "room/internal.h"

#include "base/bytes.h"

/* Whoever asks again gets another: one whose answer was lost is good for nobody. */
static struct cr_call *link_call(struct cr_room *room, const struct cr_user *user)
{
    struct cr_call *call = cr_call_create(room, CR_OP_RESET_MAKE, ROOM_GIVE_UP);
    if (call != NULL)
        cr_builder_bytes(&call->request, CR_TAG_USER, user->bytes, user->length);
    return call;
}

enum cr_status cr_reset_link_begin(struct cr_room *room, const struct cr_user *user,
                                   struct cr_call **out_call)
{
    return cr_call_submit(link_call(room, user), false, 0, out_call);
}

enum cr_status cr_reset_link_finish(struct cr_call *call, struct cr_reset_link *out_link)
{
    struct cr_message message;
    enum cr_status st = cr_call_wait(call, &message);
    uint64_t good_for = st == CR_OK ? cr_message_u64(&message, CR_TAG_BOUND, 0) : 0;
    if (st == CR_OK &&
        (good_for > CR_RESET_MS_MAX || !cr_message_token(&message, CR_TAG_TOKEN, &out_link->token)))
        st = CR_E_PROTOCOL;
    if (st == CR_OK)
        out_link->expires_at = cr_clock_wall(call->room->clock) + (cr_span_ms)good_for;
    cr_call_free(call);
    return st;
}

enum cr_status cr_reset_link_make(struct cr_room *room, const struct cr_user *user,
                                  struct cr_reset_link *out_link)
{
    struct cr_call *call;
    enum cr_status st = cr_call_submit(link_call(room, user), true, 0, &call);
    return st == CR_OK ? cr_reset_link_finish(call, out_link) : st;
}

enum cr_status cr_reset_begin(struct cr_room *room, const struct cr_token *token,
                              const void *password, size_t password_bytes, const char *address,
                              const char *agent, struct cr_call **out_call)
{
    struct cr_call *call = cr_call_create(room, CR_OP_RESET, ROOM_UNKNOWN);
    if (call == NULL)
        return CR_E_NO_MEMORY;
    cr_builder_bytes(&call->request, CR_TAG_TOKEN, token->text, CR_TOKEN_CHARS);
    cr_builder_bytes(&call->request, CR_TAG_PASSWORD_NEW, password, password_bytes);
    cr_builder_text(&call->request, CR_TAG_ADDRESS, address);
    cr_builder_text(&call->request, CR_TAG_AGENT, agent);
    return cr_call_submit(call, false, 0, out_call);
}

enum cr_status cr_reset_finish(struct cr_call *call, struct cr_login_note *out_note)
{
    cr_login_password_note(call, out_note);
    return cr_call_finish(call);
}
