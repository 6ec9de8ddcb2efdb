/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The small values of types.h: their forms, and nothing about what they stand for. In base rather
 * than session because the wire, which session stands on, reads them too.
 */
#include <cloakroom/types.h>

#include <string.h>

#include "base/bytes.h"

#define ID_PREFIX "crp_"
#define TOKEN_PREFIX "crs1_"

static bool text_starts(const void *text, size_t length, const char *prefix)
{
    size_t prefix_length = strlen(prefix);
    return length >= prefix_length && memcmp(text, prefix, prefix_length) == 0;
}

static bool char_is_base64(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
}

enum cr_status cr_session_id_parse(const char *text, size_t length, struct cr_session_id *out_id)
{
    if (length != CR_SESSION_ID_CHARS || !text_starts(text, length, ID_PREFIX))
        return CR_E_INVALID;
    for (size_t i = strlen(ID_PREFIX); i < length; i++)
        if (!char_is_base64(text[i]))
            return CR_E_INVALID;
    memcpy(out_id->text, text, length);
    out_id->text[length] = '\0';
    return CR_OK;
}

enum cr_status cr_token_parse(const char *text, size_t length, struct cr_token *out_token)
{
    if (length != CR_TOKEN_CHARS || !text_starts(text, length, TOKEN_PREFIX))
        return CR_E_INVALID;
    memcpy(out_token->text, text, length);
    out_token->text[length] = '\0';
    return CR_OK;
}

enum cr_status cr_user_parse(const void *bytes, size_t length, struct cr_user *out_user)
{
    if (length < 1 || length > CR_USER_BYTES_MAX)
        return CR_E_INVALID;
    /* Also when it was cut short: whoever gives the beginning of a token means no user. */
    if (text_starts(bytes, length, ID_PREFIX) || text_starts(bytes, length, TOKEN_PREFIX))
        return CR_E_INVALID;
    memset(out_user, 0, sizeof *out_user);
    out_user->length = (uint8_t)length;
    memcpy(out_user->bytes, bytes, length);
    return CR_OK;
}

bool cr_user_equal(const struct cr_user *a, const struct cr_user *b)
{
    return a->length == b->length && a->length <= CR_USER_BYTES_MAX &&
           memcmp(a->bytes, b->bytes, a->length) == 0;
}

bool cr_session_id_equal(const struct cr_session_id *a, const struct cr_session_id *b)
{
    return memcmp(a->text, b->text, CR_SESSION_ID_CHARS) == 0;
}

void cr_token_wipe(struct cr_token *token)
{
    if (token != NULL)
        cr_bytes_wipe(token, sizeof *token);
}

const char *cr_reason_name(enum cr_reason reason)
{
    switch (reason) {
    case CR_REASON_NONE:
        return "none";
    case CR_REASON_LOGOUT:
        return "logout";
    case CR_REASON_REPLACED:
        return "replaced";
    case CR_REASON_LIMIT:
        return "limit";
    case CR_REASON_ADMIN:
        return "admin";
    case CR_REASON_PASSWORD:
        return "password";
    case CR_REASON_DISABLED:
        return "disabled";
    case CR_REASON_EVERYBODY:
        return "everybody";
    case CR_REASON_IDLE:
        return "idle";
    case CR_REASON_ABSOLUTE:
        return "absolute";
    case CR_REASON_UPGRADED:
        return "upgraded";
    case CR_REASON_DEVICE:
        return "device";
    case CR_REASON_ROTATED:
        return "rotated";
    }
    return "unknown"; /* written by a later version */
}
