/* SPDX-License-Identifier: Apache-2.0 */
/* Small things about bytes and text that several layers need. */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H

#include <cloakroom/types.h>

/* base64url without padding, in whole groups: `bytes` is a multiple of 3, the text four thirds as
 * long, and not ended. Decoding takes canonical text only. Constant time (libsodium). */
void cr_base64_encode(const unsigned char *bytes, size_t count, char *out_text);
CR_MUST_CHECK bool cr_base64_decode(const char *text, size_t chars, unsigned char *out_bytes);

/* Lower-case hex with a NUL: 2 * count + 1 characters. Decoding takes lower case only. */
void cr_hex_encode(const unsigned char *bytes, size_t count, char *out_text);
CR_MUST_CHECK bool cr_hex_decode(const char *text, size_t chars, unsigned char *out_bytes);

/* Copy at most capacity - 1 bytes of `text` and end it; never splits a UTF-8 character; control
 * characters and bytes that are not UTF-8 become '?', so the label is clean text. `text` may be
 * NULL. */
void cr_label_copy(char *out, size_t capacity, const char *text, size_t length);

/* The character that `text` (of at least one byte) begins with: how many bytes it has, 0 when they
 * are not UTF-8 (RFC 3629). Writes *out_code unless 0. */
CR_MUST_CHECK size_t cr_utf8_next(const unsigned char *text, size_t length, uint32_t *out_code);
/* C0, DEL, C1, line and paragraph separators, and what turns the direction of reading around:
 * a name with such a character shows as another name. */
CR_MUST_CHECK bool cr_code_is_control(uint32_t code);

/* Valid UTF-8 (RFC 3629) without control characters as above. */
CR_MUST_CHECK bool cr_text_is_clean(const unsigned char *text, size_t length);

/* Constant-time equality, and overwriting that the compiler keeps. */
CR_MUST_CHECK bool cr_bytes_equal(const void *a, const void *b, size_t count);
void cr_bytes_wipe(void *bytes, size_t count);
/* Keep the pages of a secret out of swap and core dumps, until it is wiped and unlocked. False: the
 * kernel does not let us (RLIMIT_MEMLOCK). */
CR_MUST_CHECK bool cr_bytes_lock(void *bytes, size_t count);
void cr_bytes_unlock(void *bytes, size_t count);
CR_MUST_CHECK bool cr_bytes_are_zero(const void *bytes, size_t count);

#endif
