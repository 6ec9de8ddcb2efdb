/* SPDX-License-Identifier: Apache-2.0 */
/* cloakroom/account.h: accounts, by way of the agent or the engine inside. */
#include <cloakroom/account.h>

#include "room/internal.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "room/room.h"

#define LIST_MAX 64

/* `password` NULL: the op has none. `once` 0: it is not to be changed. */
static enum cr_status account_change(struct cr_room *room, enum cr_op op,
                                     const struct cr_user *user, const void *password,
                                     size_t password_bytes, cr_span_ms once, const bool *disabled)
{
    struct cr_call *call = cr_call_create(room, op, ROOM_UNKNOWN);
    if (call == NULL)
        return CR_E_NO_MEMORY;
    cr_builder_bytes(&call->request, CR_TAG_USER, user->bytes, user->length);
    if (password != NULL)
        cr_builder_bytes(&call->request, CR_TAG_PASSWORD, password, password_bytes);
    if (once != 0)
        cr_builder_u64(&call->request, CR_TAG_ONCE, (uint64_t)once);
    if (disabled != NULL)
        cr_builder_u64(&call->request, CR_TAG_DISABLED, *disabled ? 1 : 0);
    return cr_call_run(call);
}

enum cr_status cr_account_add(struct cr_room *room, const struct cr_user *user,
                              const void *password, size_t password_bytes)
{
    return account_change(room, CR_OP_ACCOUNT_ADD, user, password, password_bytes, 0, NULL);
}

enum cr_status cr_account_password(struct cr_room *room, const struct cr_user *user,
                                   const void *password, size_t password_bytes)
{
    return account_change(room, CR_OP_ACCOUNT_PASSWORD, user, password, password_bytes, 0, NULL);
}

enum cr_status cr_account_add_once(struct cr_room *room, const struct cr_user *user,
                                   const void *password, size_t password_bytes, cr_span_ms span)
{
    if (span < 1 || span > CR_PASSWORD_ONCE_MS_MAX)
        return CR_E_INVALID;
    return account_change(room, CR_OP_ACCOUNT_ADD, user, password, password_bytes, span, NULL);
}

enum cr_status cr_account_password_once(struct cr_room *room, const struct cr_user *user,
                                        const void *password, size_t password_bytes,
                                        cr_span_ms span)
{
    if (span < 1 || span > CR_PASSWORD_ONCE_MS_MAX)
        return CR_E_INVALID;
    return account_change(room, CR_OP_ACCOUNT_PASSWORD, user, password, password_bytes, span, NULL);
}

static struct cr_call *import_call(struct cr_room *room, const struct cr_user *user,
                                   const char *hash)
{
    struct cr_call *call = cr_call_create(room, CR_OP_ACCOUNT_IMPORT, ROOM_UNKNOWN);
    if (call == NULL)
        return NULL;
    cr_builder_bytes(&call->request, CR_TAG_USER, user->bytes, user->length);
    cr_builder_text(&call->request, CR_TAG_HASH, hash);
    return call;
}

enum cr_status cr_account_import(struct cr_room *room, const struct cr_user *user, const char *hash)
{
    return cr_call_run(import_call(room, user, hash));
}

static void import_finish(struct cr_call *call, struct cr_import *out)
{
    struct cr_message message;
    out->status = cr_call_wait(call, &message);
    out->same = out->status == CR_CONFLICT && cr_message_u64(&message, CR_TAG_SAME, 0) != 0;
    cr_call_free(call);
}

void cr_accounts_import(struct cr_room *room, struct cr_import *imports, size_t count)
{
    struct cr_call *calls[CR_IMPORTS_MAX];
    CR_ASSERT(count <= CR_IMPORTS_MAX);
    cr_room_hold(room, true);
    for (size_t i = 0; i < count; i++) {
        imports[i].same = false;
        imports[i].status =
            cr_call_submit(import_call(room, imports[i].user, imports[i].hash), true, 0, &calls[i]);
    }
    cr_room_hold(room, false);
    for (size_t i = 0; i < count; i++)
        if (imports[i].status == CR_OK)
            import_finish(calls[i], &imports[i]);
}

enum cr_status cr_account_disable(struct cr_room *room, const struct cr_user *user, bool disabled)
{
    return account_change(room, CR_OP_ACCOUNT_DISABLE, user, NULL, 0, 0, &disabled);
}

enum cr_status cr_account_remove(struct cr_room *room, const struct cr_user *user)
{
    return account_change(room, CR_OP_ACCOUNT_REMOVE, user, NULL, 0, 0, NULL);
}

static enum cr_status accounts_take(const struct cr_message *message,
                                    struct cr_account *out_accounts, size_t capacity,
                                    size_t *out_count)
{
    const struct cr_field *field = NULL;
    size_t count = 0;
    while ((field = cr_message_next(message, CR_TAG_ACCOUNT, field)) != NULL) {
        if (count == capacity)
            return CR_E_PROTOCOL;
        out_accounts[count].size = sizeof out_accounts[count];
        if (!cr_field_account(field, &out_accounts[count]))
            return CR_E_PROTOCOL;
        count++;
    }
    *out_count = count;
    return CR_OK;
}

enum cr_status cr_account_list(struct cr_room *room, const struct cr_user *after,
                               struct cr_account *out_accounts, size_t capacity, size_t *out_count)
{
    struct cr_message message;
    if (capacity < 1 || capacity > LIST_MAX)
        return CR_E_INVALID;
    struct cr_call *call = cr_call_create(room, CR_OP_ACCOUNT_LIST, ROOM_REPEAT);
    if (call == NULL)
        return CR_E_NO_MEMORY;
    if (after != NULL)
        cr_builder_bytes(&call->request, CR_TAG_USER, after->bytes, after->length);
    cr_builder_u64(&call->request, CR_TAG_COUNT, capacity);
    enum cr_status st = cr_call_submit(call, true, 0, &call);
    if (st != CR_OK)
        return st;
    st = cr_call_wait(call, &message);
    if (st == CR_OK)
        st = accounts_take(&message, out_accounts, capacity, out_count);
    cr_call_free(call);
    return st;
}

enum cr_status cr_account_own_begin(struct cr_room *room, const struct cr_token *token,
                                    struct cr_call **out_call)
{
    struct cr_call *call = cr_call_create(room, CR_OP_ACCOUNT_OWN, ROOM_REPEAT);
    if (call != NULL)
        cr_builder_bytes(&call->request, CR_TAG_AUTHORITY, token->text, CR_TOKEN_CHARS);
    return cr_call_submit(call, false, 0, out_call);
}

enum cr_status cr_account_own_finish(struct cr_call *call)
{
    return cr_call_finish(call);
}
