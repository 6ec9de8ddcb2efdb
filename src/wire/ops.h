/* SPDX-License-Identifier: Apache-2.0 */
/* How long the bytes of each field may be. Of the wire alone: decoder and builder look here. */
#ifndef WIRE_OPS_H
#define WIRE_OPS_H

#include "wire/message.h"

struct cr_tag_row {
    uint32_t least, most; /* bytes */
    bool repeated;        /* may stand in a message more than once */
};
/* NULL for a tag that we do not know. */
const struct cr_tag_row *cr_tag_row(uint16_t tag);

#endif
