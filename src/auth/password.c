/* SPDX-License-Identifier: Apache-2.0 */
#include "auth/password.h"

#include <string.h>

#include "auth/common.h"
#include "base/bytes.h"

#define PIECE_BYTES_MAX 4 /* repeated, these are no password, whatever they are */

unsigned cr_password_chars_min(const struct cr_password_rules *rules)
{
    return rules->chars_min != 0 ? rules->chars_min : CR_PASSWORD_CHARS_MIN;
}

void cr_password_fold(unsigned char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (text[i] >= 'A' && text[i] <= 'Z')
            text[i] = (unsigned char)(text[i] - 'A' + 'a');
}

/* Characters, not bytes: those that continue a UTF-8 character do not count. */
static size_t chars_of(const unsigned char *password, size_t bytes)
{
    size_t chars = 0;
    for (size_t i = 0; i < bytes; i++)
        chars += (password[i] & 0xc0) != 0x80;
    return chars;
}

/* The shortest beginning that makes all of it when it is repeated, at least once whole; else all.
 */
static size_t piece_of(const unsigned char *text, size_t bytes)
{
    for (size_t piece = 1; piece <= bytes / 2; piece++)
        if (memcmp(text, text + piece, bytes - piece) == 0)
            return piece;
    return bytes;
}

static bool is_name(const struct cr_user *user, const unsigned char *folded, size_t bytes)
{
    unsigned char name[CR_USER_BYTES_MAX];
    if (user->length != bytes)
        return false;
    memcpy(name, user->bytes, bytes);
    cr_password_fold(name, bytes);
    return memcmp(name, folded, bytes) == 0;
}

static enum cr_status beginning_judge(const struct cr_password_rules *rules,
                                      const struct cr_user *user, const unsigned char *folded,
                                      size_t bytes)
{
    if (is_name(user, folded, bytes))
        return CR_PASSWORD_KNOWN;
    return cr_common_has(rules->common, folded, bytes) ? CR_PASSWORD_COMMON : CR_OK;
}

enum cr_status cr_password_judge(const struct cr_password_rules *rules, const struct cr_user *user,
                                 const void *password, size_t bytes)
{
    unsigned char folded[CR_PASSWORD_BYTES_MAX];
    enum cr_status st = CR_OK;
    if (bytes > sizeof folded)
        return CR_E_LIMIT;
    if (bytes == 0 || chars_of(password, bytes) < cr_password_chars_min(rules))
        return CR_PASSWORD_SHORT;
    memcpy(folded, password, bytes);
    cr_password_fold(folded, bytes);
    size_t piece = piece_of(folded, bytes);
    /* Whatever it is that is repeated; at last, all of it. */
    for (size_t most = piece; st == CR_OK && most <= bytes; most += piece)
        st = beginning_judge(rules, user, folded, most);
    if (st == CR_OK)
        st = beginning_judge(rules, user, folded, bytes);
    if (st == CR_OK && piece <= PIECE_BYTES_MAX)
        st = CR_PASSWORD_COMMON;
    cr_bytes_wipe(folded, sizeof folded);
    return st;
}
