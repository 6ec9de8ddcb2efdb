/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Putting a message together. A field that no decoder would take, our own included, is not written:
 * the builder fails instead, so a peer is never cut for what a caller of ours asked.
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "wire/bits.h"
#include "wire/layout.h"
#include "wire/message.h"
#include "wire/ops.h"

#define FIRST_CAPACITY 512

/* By hand rather than with realloc: what is left behind must be wiped. */
static bool builder_reserve(struct cr_builder *b, size_t more)
{
    if (more > CR_MESSAGE_BYTES_MAX - b->count)
        return false;
    size_t needed = b->count + more;
    if (needed <= b->capacity)
        return true;
    size_t capacity = b->capacity == 0 ? FIRST_CAPACITY : b->capacity;
    while (capacity < needed)
        capacity *= 2;
    unsigned char *bytes = malloc(capacity);
    if (bytes == NULL)
        return false;
    if (b->bytes != NULL) {
        memcpy(bytes, b->bytes, b->count);
        cr_bytes_wipe(b->bytes, b->count);
        free(b->bytes);
    }
    b->bytes = bytes;
    b->capacity = capacity;
    return true;
}

void cr_builder_init(struct cr_builder *b, enum cr_op op, enum cr_status status, uint64_t request)
{
    *b = (struct cr_builder){0};
    if (!builder_reserve(b, CR_MESSAGE_HEADER_BYTES)) {
        b->failed = true;
        return;
    }
    memset(b->bytes, 0, CR_MESSAGE_HEADER_BYTES);
    cr_put_le(b->bytes + HEADER_MAGIC, CR_WIRE_MAGIC, 4);
    cr_put_le(b->bytes + HEADER_OP, (uint64_t)op, 2);
    cr_put_le(b->bytes + HEADER_STATUS, (uint64_t)status, 2);
    cr_put_le(b->bytes + HEADER_REQUEST, request, 8);
    b->count = CR_MESSAGE_HEADER_BYTES;
}

void cr_builder_fini(struct cr_builder *b)
{
    if (b->bytes != NULL)
        cr_bytes_wipe(b->bytes, b->count);
    free(b->bytes);
    *b = (struct cr_builder){0};
}

void cr_builder_bytes(struct cr_builder *b, enum cr_tag tag, const void *bytes, size_t count)
{
    const struct cr_tag_row *row = cr_tag_row((uint16_t)tag);
    CR_ASSERT(row != NULL);
    if (b->failed)
        return;
    if (count < row->least || count > row->most || b->field_count == CR_MESSAGE_FIELDS_MAX ||
        !builder_reserve(b, FIELD_HEADER_BYTES + count)) {
        b->failed = true;
        return;
    }
    unsigned char *head = b->bytes + b->count;
    cr_put_le(head + FIELD_TAG, (uint64_t)tag, 2);
    cr_put_le(head + FIELD_ZERO, 0, 2);
    cr_put_le(head + FIELD_LENGTH, count, 4);
    if (count > 0)
        memcpy(head + FIELD_HEADER_BYTES, bytes, count);
    b->count += FIELD_HEADER_BYTES + count;
    b->field_count++;
}

void cr_builder_text(struct cr_builder *b, enum cr_tag tag, const char *text)
{
    if (text != NULL)
        cr_builder_bytes(b, tag, text, strlen(text));
}

void cr_builder_u64(struct cr_builder *b, enum cr_tag tag, uint64_t value)
{
    unsigned char bytes[8];
    cr_put_le(bytes, value, sizeof bytes);
    cr_builder_bytes(b, tag, bytes, sizeof bytes);
}

bool cr_builder_finish(struct cr_builder *b)
{
    if (b->failed)
        return false;
    cr_put_le(b->bytes + HEADER_FIELDS, b->field_count, 2);
    cr_put_le(b->bytes + HEADER_BYTES, b->count, 4);
    return true;
}
