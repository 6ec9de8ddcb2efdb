/* SPDX-License-Identifier: Apache-2.0 */
/* Text and bytes. What may meet a secret (base64url, comparing, wiping) is libsodium's. */
#include "base/bytes.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "base/assert.h"

#define VARIANT sodium_base64_VARIANT_URLSAFE_NO_PADDING

void cr_base64_encode(const unsigned char *bytes, size_t count, char *out_text)
{
    CR_ASSERT(count % 3 == 0);
    char group[5]; /* libsodium ends its text, our buffers have no place for that */
    for (size_t i = 0; i < count / 3; i++) {
        sodium_bin2base64(group, sizeof group, bytes + 3 * i, 3, VARIANT);
        memcpy(out_text + 4 * i, group, 4);
    }
    cr_bytes_wipe(group, sizeof group);
}

bool cr_base64_decode(const char *text, size_t chars, unsigned char *out_bytes)
{
    /* libsodium 1.0.18 takes some characters above 127 for digits. */
    unsigned char high = 0;
    for (size_t i = 0; i < chars; i++)
        high |= (unsigned char)text[i];
    if (chars % 4 != 0 || high > 127)
        return false;
    int kept_errno = errno;
    size_t count = 0;
    int failed =
        sodium_base642bin(out_bytes, chars / 4 * 3, text, chars, NULL, &count, NULL, VARIANT);
    errno = kept_errno;
    return failed == 0 && count == chars / 4 * 3;
}

void cr_hex_encode(const unsigned char *bytes, size_t count, char *out_text)
{
    sodium_bin2hex(out_text, 2 * count + 1, bytes, count);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool cr_hex_decode(const char *text, size_t chars, unsigned char *out_bytes)
{
    if (chars % 2 != 0)
        return false;
    for (size_t i = 0; i < chars; i += 2) {
        int high = hex_digit(text[i]);
        int low = hex_digit(text[i + 1]);
        if (high < 0 || low < 0)
            return false;
        out_bytes[i / 2] = (unsigned char)(high << 4 | low);
    }
    return true;
}

/* RFC 3629: the shortest form only, no surrogates, up to U+10FFFF. */
size_t cr_utf8_next(const unsigned char *text, size_t length, uint32_t *out_code)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    CR_ASSERT(length > 0);
    unsigned char first = text[0];
    size_t count = first < 0x80 ? 1 : first < 0xc0 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    if (count == 0 || count > length || first > 0xf4)
        return 0;
    uint32_t code = count == 1 ? first : first & (0x7fu >> count);
    for (size_t i = 1; i < count; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (text[i] & 0x3fu);
    }
    if (code < least[count] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
        return 0;
    *out_code = code;
    return count;
}

bool cr_code_is_control(uint32_t code)
{
    return code < 0x20 || (code >= 0x7f && code < 0xa0) ||
           /* What ends a line or turns the reading around for a browser or a terminal. */
           (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
}

bool cr_text_is_clean(const unsigned char *text, size_t length)
{
    for (size_t i = 0; i < length;) {
        uint32_t code = 0;
        size_t count = cr_utf8_next(text + i, length - i, &code);
        if (count == 0 || cr_code_is_control(code))
            return false;
        i += count;
    }
    return true;
}

void cr_label_copy(char *out, size_t capacity, const char *text, size_t length)
{
    CR_ASSERT(capacity > 0);
    const unsigned char *from = (const unsigned char *)text;
    size_t used = 0;
    for (size_t i = 0; text != NULL && i < length;) {
        uint32_t code = 0;
        size_t count = cr_utf8_next(from + i, length - i, &code);
        bool is_good = count > 0 && !cr_code_is_control(code);
        size_t needed = is_good ? count : 1;
        if (needed > capacity - 1 - used)
            break;
        if (is_good)
            memcpy(out + used, from + i, count);
        else
            out[used] = '?';
        used += needed;
        i += count > 0 ? count : 1;
    }
    out[used] = '\0';
}

bool cr_bytes_equal(const void *a, const void *b, size_t count)
{
    return sodium_memcmp(a, b, count) == 0;
}

void cr_bytes_wipe(void *bytes, size_t count)
{
    sodium_memzero(bytes, count);
}

bool cr_bytes_lock(void *bytes, size_t count)
{
    return sodium_mlock(bytes, count) == 0;
}

void cr_bytes_unlock(void *bytes, size_t count)
{
    (void)sodium_munlock(bytes, count);
}

bool cr_bytes_are_zero(const void *bytes, size_t count)
{
    return sodium_is_zero(bytes, count) == 1;
}
