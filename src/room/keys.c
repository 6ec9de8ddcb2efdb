/* SPDX-License-Identifier: Apache-2.0 */
/* cloakroom/key.h: MAC keys, by way of the agent or the engine inside. */
#include <cloakroom/key.h>

#include "room/internal.h"

static enum cr_status keys_take(const struct cr_message *message, struct cr_key_state *out_keys,
                                size_t capacity, size_t *out_count)
{
    const struct cr_field *field = NULL;
    size_t count = 0;
    while ((field = cr_message_next(message, CR_TAG_KEY_STATE, field)) != NULL) {
        if (count == capacity)
            return CR_E_PROTOCOL;
        out_keys[count].size = sizeof out_keys[count];
        if (!cr_field_key_state(field, &out_keys[count]))
            return CR_E_PROTOCOL;
        count++;
    }
    *out_count = count;
    return CR_OK;
}

enum cr_status cr_key_list(struct cr_room *room, struct cr_key_state *out_keys, size_t capacity,
                           size_t *out_count)
{
    struct cr_message message;
    if (capacity < CR_KEY_LIST_MAX)
        return CR_E_INVALID;
    struct cr_call *call = cr_call_create(room, CR_OP_KEY_LIST, ROOM_REPEAT);
    if (call == NULL)
        return CR_E_NO_MEMORY;
    enum cr_status st = cr_call_submit(call, true, 0, &call);
    if (st != CR_OK)
        return st;
    st = cr_call_wait(call, &message);
    if (st == CR_OK)
        st = keys_take(&message, out_keys, capacity, out_count);
    cr_call_free(call);
    return st;
}

enum cr_status cr_key_rotate(struct cr_room *room, uint32_t *out_number, cr_span_ms *out_wait)
{
    struct cr_message message;
    struct cr_call *call = cr_call_create(room, CR_OP_KEY_ROTATE, ROOM_UNKNOWN);
    if (call == NULL)
        return CR_E_NO_MEMORY;
    enum cr_status st = cr_call_submit(call, true, 0, &call);
    if (st != CR_OK)
        return st;
    st = cr_call_wait(call, &message);
    if (st == CR_OK) {
        uint64_t number = cr_message_u64(&message, CR_TAG_VERSION, 0);
        uint64_t wait = cr_message_u64(&message, CR_TAG_BOUND, 0);
        *out_number = (uint32_t)number;
        *out_wait = (cr_span_ms)wait;
        if (number < 1 || number > CR_KEY_LIST_MAX || wait > CR_SPAN_MS_MAX)
            st = CR_E_PROTOCOL;
    }
    cr_call_free(call);
    return st;
}
