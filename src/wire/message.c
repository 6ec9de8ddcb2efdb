/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking a message apart. Every byte is a peer's: a length is compared with what is left before it
 * is used, and nothing is written from a message that is not whole.
 *
 * A decoded message points into the caller's buffer and holds only fields of tags that we know,
 * each of a length that its tag may have (ops.c), each once unless it may repeat.
 */
#include "wire/message.h"

#include <string.h>

#include "base/assert.h"
#include "wire/bits.h"
#include "wire/layout.h"
#include "wire/ops.h"

/* What is left of the bytes. */
struct cursor {
    const unsigned char *bytes;
    size_t left;
};

static const unsigned char *cursor_take(struct cursor *cursor, size_t count)
{
    if (count > cursor->left)
        return NULL;
    const unsigned char *taken = cursor->bytes;
    cursor->bytes += count;
    cursor->left -= count;
    return taken;
}

static enum cr_status status_from_wire(uint64_t number)
{
#define STATUS_KNOWN(name, text) true,
    static const bool known[] = {CR_STATUS_LIST(STATUS_KNOWN)};
#undef STATUS_KNOWN
    /* An answer that a later version knows and we do not. */
    return number < sizeof known ? (enum cr_status)number : CR_E_VERSION;
}

static bool header_decode(struct cursor *cursor, size_t count, struct cr_message *out,
                          size_t *out_fields)
{
    const unsigned char *header = cursor_take(cursor, CR_MESSAGE_HEADER_BYTES);
    if (header == NULL || cr_get_le(header + HEADER_MAGIC, 4) != CR_WIRE_MAGIC ||
        cr_get_le(header + HEADER_ZERO, 2) != 0 || cr_get_le(header + HEADER_BYTES, 4) != count)
        return false;
    out->op = (uint16_t)cr_get_le(header + HEADER_OP, 2);
    out->status = status_from_wire(cr_get_le(header + HEADER_STATUS, 2));
    out->request = cr_get_le(header + HEADER_REQUEST, 8);
    *out_fields = (size_t)cr_get_le(header + HEADER_FIELDS, 2);
    return *out_fields <= CR_MESSAGE_FIELDS_MAX;
}

static bool field_decode(struct cursor *cursor, struct cr_field *out)
{
    const unsigned char *head = cursor_take(cursor, FIELD_HEADER_BYTES);
    if (head == NULL || cr_get_le(head + FIELD_ZERO, 2) != 0)
        return false;
    out->tag = (uint16_t)cr_get_le(head + FIELD_TAG, 2);
    out->length = (uint32_t)cr_get_le(head + FIELD_LENGTH, 4);
    out->bytes = cursor_take(cursor, out->length);
    return out->bytes != NULL;
}

static const struct cr_field *field_find(const struct cr_message *message, uint16_t tag,
                                         size_t index)
{
    for (; index < message->field_count; index++)
        if (message->fields[index].tag == tag)
            return &message->fields[index];
    return NULL;
}

enum cr_status cr_message_decode(const void *bytes, size_t count, struct cr_message *out)
{
    struct cursor cursor = {.bytes = bytes, .left = count};
    size_t field_count = 0;
    out->field_count = 0;
    if (count > CR_MESSAGE_BYTES_MAX || !header_decode(&cursor, count, out, &field_count))
        return CR_E_PROTOCOL;
    for (size_t i = 0; i < field_count; i++) {
        struct cr_field field;
        if (!field_decode(&cursor, &field))
            return CR_E_PROTOCOL;
        const struct cr_tag_row *row = cr_tag_row(field.tag);
        if (row == NULL)
            continue;
        if (field.length < row->least || field.length > row->most)
            return CR_E_PROTOCOL;
        if (!row->repeated && field_find(out, field.tag, 0) != NULL)
            return CR_E_PROTOCOL;
        out->fields[out->field_count++] = field;
    }
    return cursor.left == 0 ? CR_OK : CR_E_PROTOCOL;
}

enum cr_status cr_message_admit(const struct cr_message *message, enum cr_role role)
{
    const struct cr_op_row *row = cr_op_row(message->op);
    bool has_reply = message->op != CR_OP_SEEN;
    if (row == NULL || row->roles == 0 || message->status != CR_OK ||
        (has_reply && message->request == 0))
        return CR_E_PROTOCOL;
    if ((row->roles & role) == 0)
        return CR_DENIED;
    for (size_t i = 0; i < sizeof row->required / sizeof row->required[0]; i++)
        if (row->required[i] != 0 && cr_message_field(message, row->required[i]) == NULL)
            return CR_E_PROTOCOL;
    /* Only "seen" is about several sessions. */
    const struct cr_field *id = cr_message_field(message, CR_TAG_ID);
    if (has_reply && id != NULL && cr_message_next(message, CR_TAG_ID, id) != NULL)
        return CR_E_PROTOCOL;
    if (role != CR_ROLE_HTTP)
        return CR_OK;
    if (row->http_needs_authority && cr_message_field(message, CR_TAG_AUTHORITY) == NULL)
        return CR_DENIED;
    /* Rights are given by applications and operators: who stands in front of the internet names
     * none. */
    return cr_message_field(message, CR_TAG_RIGHTS) == NULL ? CR_OK : CR_DENIED;
}

const struct cr_field *cr_message_field(const struct cr_message *message, enum cr_tag tag)
{
    return field_find(message, (uint16_t)tag, 0);
}

const struct cr_field *cr_message_next(const struct cr_message *message, enum cr_tag tag,
                                       const struct cr_field *after)
{
    size_t index = after == NULL ? 0 : (size_t)(after - message->fields) + 1;
    CR_ASSERT(index <= message->field_count);
    return field_find(message, (uint16_t)tag, index);
}

uint64_t cr_message_u64(const struct cr_message *message, enum cr_tag tag, uint64_t absent)
{
    const struct cr_field *field = cr_message_field(message, tag);
    if (field == NULL)
        return absent;
    CR_ASSERT(field->length == 8); /* the caller's tag is one of a number: decode saw to the rest */
    return cr_get_le(field->bytes, 8);
}

bool cr_message_user(const struct cr_message *message, struct cr_user *out)
{
    const struct cr_field *field = cr_message_field(message, CR_TAG_USER);
    return field != NULL && cr_user_parse(field->bytes, field->length, out) == CR_OK;
}

bool cr_message_id(const struct cr_message *message, struct cr_session_id *out)
{
    const struct cr_field *field = cr_message_field(message, CR_TAG_ID);
    return field != NULL &&
           cr_session_id_parse((const char *)field->bytes, field->length, out) == CR_OK;
}

bool cr_message_token(const struct cr_message *message, enum cr_tag tag, struct cr_token *out)
{
    const struct cr_field *field = cr_message_field(message, tag);
    return field != NULL && cr_token_parse((const char *)field->bytes, field->length, out) == CR_OK;
}

bool cr_message_ending(const struct cr_message *message, struct cr_ending_id *out)
{
    const struct cr_field *field = cr_message_field(message, CR_TAG_ENDING);
    if (field == NULL)
        return false;
    memcpy(out->bytes, field->bytes, sizeof out->bytes);
    return true;
}

bool cr_message_text(const struct cr_message *message, enum cr_tag tag, char *out, size_t capacity)
{
    CR_ASSERT(capacity > 0);
    out[0] = '\0';
    const struct cr_field *field = cr_message_field(message, tag);
    if (field == NULL || field->length >= capacity ||
        memchr(field->bytes, '\0', field->length) != NULL)
        return false;
    memcpy(out, field->bytes, field->length);
    out[field->length] = '\0';
    return true;
}
