/* SPDX-License-Identifier: Apache-2.0 */
/* Little-endian numbers in bytes. */
#ifndef WIRE_BITS_H
#define WIRE_BITS_H

#include <stddef.h>
#include <stdint.h>

static inline void cr_put_le(unsigned char *out, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        out[i] = (unsigned char)(value >> 8 * i);
}

static inline uint64_t cr_get_le(const unsigned char *in, size_t bytes)
{
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++)
        value |= (uint64_t)in[i] << 8 * i;
    return value;
}

#endif
