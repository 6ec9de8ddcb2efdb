/* SPDX-License-Identifier: Apache-2.0 */
/* What operators ask about the limits of log-ins. */
#include "room/internal.h"

#include "room/room.h"

static struct cr_call *limit_call(struct cr_room *room, enum cr_op op, const struct cr_user *user,
                                  const char *address)
{
    struct cr_call *call = cr_call_create(room, op, ROOM_REPEAT);
    if (call == NULL)
        return NULL;
    if (user != NULL)
        cr_builder_bytes(&call->request, CR_TAG_USER, user->bytes, user->length);
    cr_builder_text(&call->request, CR_TAG_ADDRESS, address);
    return call;
}

static enum cr_status views_take(const struct cr_message *message, struct cr_limit_view *out_views,
                                 size_t capacity, size_t *out_count)
{
    const struct cr_field *field = NULL;
    size_t count = 0;
    while ((field = cr_message_next(message, CR_TAG_LIMIT, field)) != NULL) {
        if (count == capacity || !cr_field_limit(field, &out_views[count]))
            return CR_E_PROTOCOL;
        count++;
    }
    *out_count = count;
    return CR_OK;
}

/* `out_counters` may be NULL. */
static enum cr_status views_ask(struct cr_call *call, struct cr_limit_view *out_views,
                                size_t capacity, size_t *out_count,
                                struct cr_limit_count *out_counters)
{
    struct cr_message message;
    enum cr_status st = cr_call_submit(call, true, 0, &call);
    if (st != CR_OK)
        return st;
    st = cr_call_wait(call, &message);
    if (st == CR_OK)
        st = views_take(&message, out_views, capacity, out_count);
    if (st == CR_OK && out_counters != NULL) {
        const struct cr_field *field = cr_message_field(&message, CR_TAG_LIMIT_COUNT);
        if (field == NULL || !cr_field_limit_count(field, out_counters))
            st = CR_E_PROTOCOL;
    }
    cr_call_free(call);
    return st;
}

enum cr_status cr_limits_show(struct cr_room *room, struct cr_limit_view *out_views,
                              size_t capacity, size_t *out_count,
                              struct cr_limit_count *out_counters)
{
    struct cr_call *call = limit_call(room, CR_OP_LIMIT_SHOW, NULL, NULL);
    return call == NULL ? CR_E_NO_MEMORY
                        : views_ask(call, out_views, capacity, out_count, out_counters);
}

enum cr_status cr_limits_explain(struct cr_room *room, const struct cr_user *user,
                                 const char *address, struct cr_limit_view *out_views,
                                 size_t capacity, size_t *out_count)
{
    struct cr_call *call = limit_call(room, CR_OP_LIMIT_EXPLAIN, user, address);
    return call == NULL ? CR_E_NO_MEMORY : views_ask(call, out_views, capacity, out_count, NULL);
}

enum cr_status cr_limits_top(struct cr_room *room, struct cr_limit_view *out_views, size_t capacity,
                             size_t *out_count)
{
    struct cr_call *call = limit_call(room, CR_OP_LIMIT_TOP, NULL, NULL);
    if (call == NULL)
        return CR_E_NO_MEMORY;
    cr_builder_u64(&call->request, CR_TAG_COUNT, capacity);
    return views_ask(call, out_views, capacity, out_count, NULL);
}

enum cr_status cr_limits_reset(struct cr_room *room, const struct cr_user *user,
                               const char *address)
{
    struct cr_call *call = limit_call(room, CR_OP_LIMIT_RESET, user, address);
    return call == NULL ? CR_E_NO_MEMORY : cr_call_run(call);
}
