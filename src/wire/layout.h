/* SPDX-License-Identifier: Apache-2.0 */
/* Where the parts of a message's header and of a field's stand, in bytes. */
#ifndef WIRE_LAYOUT_H
#define WIRE_LAYOUT_H

enum {
    HEADER_MAGIC = 0,   /* 4 */
    HEADER_OP = 4,      /* 2 */
    HEADER_STATUS = 6,  /* 2 */
    HEADER_REQUEST = 8, /* 8 */
    HEADER_FIELDS = 16, /* 2 */
    HEADER_ZERO = 18,   /* 2 */
    HEADER_BYTES = 20,  /* 4: of the whole message */

    FIELD_TAG = 0,    /* 2 */
    FIELD_ZERO = 2,   /* 2 */
    FIELD_LENGTH = 4, /* 4 */
    FIELD_HEADER_BYTES = 8
};

#endif
