/* SPDX-License-Identifier: Apache-2.0 */
/* The sessions of a user that are not live any more. */
#include "room/internal.h"

#include "room/room.h"

static struct cr_call *past_make(struct cr_room *room, const struct cr_user *user,
                                 const struct cr_token *authority)
{
    struct cr_call *call = cr_call_create(room, CR_OP_PAST, ROOM_REPEAT);
    if (call != NULL && user != NULL)
        cr_builder_bytes(&call->request, CR_TAG_USER, user->bytes, user->length);
    if (call != NULL && authority != NULL)
        cr_builder_bytes(&call->request, CR_TAG_AUTHORITY, authority->text, CR_TOKEN_CHARS);
    return call;
}

enum cr_status cr_past_of_begin(struct cr_room *room, const struct cr_token *authority,
                                struct cr_call **out_call)
{
    return cr_call_submit(past_make(room, NULL, authority), false, 0, out_call);
}

static enum cr_status past_take(const struct cr_message *message, struct cr_past_session *out_past,
                                size_t *out_count)
{
    const struct cr_field *field = NULL;
    size_t count = 0;
    while ((field = cr_message_next(message, CR_TAG_PAST, field)) != NULL) {
        if (count == CR_PAST_MAX || !cr_field_past(field, &out_past[count]))
            return CR_E_PROTOCOL;
        count++;
    }
    *out_count = count;
    return CR_OK;
}

enum cr_status cr_past_of_finish(struct cr_call *call, struct cr_past_session *out_past,
                                 size_t *out_count)
{
    struct cr_message message;
    enum cr_status st = cr_call_wait(call, &message);
    if (st == CR_OK)
        st = past_take(&message, out_past, out_count);
    cr_call_free(call);
    return st;
}

enum cr_status cr_past_of(struct cr_room *room, const struct cr_user *user,
                          struct cr_past_session *out_past, size_t *out_count)
{
    struct cr_call *call;
    enum cr_status st = cr_call_submit(past_make(room, user, NULL), true, 0, &call);
    return st == CR_OK ? cr_past_of_finish(call, out_past, out_count) : st;
}
