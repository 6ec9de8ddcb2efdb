/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The small values of the public interface. A session id, a user and a token are three different
 * types, and their texts look different, so that one is not taken for another.
 */
#ifndef CLOAKROOM_TYPES_H
#define CLOAKROOM_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cloakroom/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef int64_t
    cr_time_ms; /* a point in time: milliseconds since 1970, UTC, by the store's clock */
typedef int64_t cr_span_ms; /* a length of time: milliseconds */

#define CR_SESSION_ID_CHARS 28 /* crp_ and 24 characters of base64url */
#define CR_TOKEN_CHARS 85      /* crs1_ and 80 characters of base64url */
#define CR_USER_BYTES_MAX 128
#define CR_RIGHTS_BYTES_MAX 512
#define CR_ADDRESS_CHARS_MAX 63
#define CR_AGENT_CHARS_MAX 255
#define CR_DEVICE_CHARS 52
#define CR_DATA_BYTES_MAX 65536       /* what a session may hold */
#define CR_DATA_CACHED_BYTES_MAX 4096 /* what the table serves; more is read with cr_data_read */
#define CR_SPAN_MS_MAX 31622400000LL  /* 366 days */

/* The public id of a session: safe to show and to log. Ends with a NUL. */
struct cr_session_id {
    char text[CR_SESSION_ID_CHARS + 1];
};

/* The secret that a client holds. Never log it; wipe it with cr_token_wipe. Ends with a NUL. */
struct cr_token {
    char text[CR_TOKEN_CHARS + 1];
};

/* The application's own name for a person: 1 to 128 bytes, compared as bytes. */
struct cr_user {
    uint8_t length;
    unsigned char bytes[CR_USER_BYTES_MAX];
};

/* Names one ending, so that it can be repeated without doing it twice. All zero: a new one. */
struct cr_ending_id {
    unsigned char bytes[16];
};

/*
 * Read a value from text that came from outside. Nothing is written unless CR_OK; CR_E_INVALID when
 * the text is not of the form. cr_token_parse looks at length and prefix only: whether the token is
 * genuine is the validation's answer. cr_user_parse refuses the text of a session id or a token.
 */
CR_API CR_MUST_CHECK enum cr_status cr_session_id_parse(const char *text, size_t length,
                                                        struct cr_session_id *out_id);
CR_API CR_MUST_CHECK enum cr_status cr_token_parse(const char *text, size_t length,
                                                   struct cr_token *out_token);
CR_API CR_MUST_CHECK enum cr_status cr_user_parse(const void *bytes, size_t length,
                                                  struct cr_user *out_user);

CR_API bool cr_user_equal(const struct cr_user *a, const struct cr_user *b);
CR_API bool cr_session_id_equal(const struct cr_session_id *a, const struct cr_session_id *b);

/* Overwrite a token in memory, so that no copy is left; accepts NULL. */
CR_API void cr_token_wipe(struct cr_token *token);

/* Who is asking to end or change something, and why a session ended. The numbers are stored. */
enum cr_reason {
    CR_REASON_NONE = 0,
    CR_REASON_LOGOUT = 1,    /* the person ended it */
    CR_REASON_REPLACED = 2,  /* a later login of the same user ended it */
    CR_REASON_LIMIT = 3,     /* a later login, because only so many are kept */
    CR_REASON_ADMIN = 4,     /* an operator or the application ended it */
    CR_REASON_PASSWORD = 5,  /* the password was changed */
    CR_REASON_DISABLED = 6,  /* the account was disabled or removed */
    CR_REASON_EVERYBODY = 7, /* everybody's sessions were ended */
    CR_REASON_IDLE = 8,      /* derived: nobody used it for too long */
    CR_REASON_ABSOLUTE = 9,  /* derived: it reached its end */
    CR_REASON_UPGRADED = 10, /* an anonymous session became a user's */
    CR_REASON_DEVICE = 11,   /* the person ended it from another device */
    CR_REASON_ROTATED = 12   /* of a token: its successor has taken its place */
};

/* Where something was asked for, as the client of that request told it. Texts; may be empty. */
struct cr_origin {
    char address[CR_ADDRESS_CHARS_MAX + 1];
    char agent[CR_AGENT_CHARS_MAX + 1];
};

/* A short word for a reason ("replaced"), stable for scripts; never NULL. */
CR_API const char *cr_reason_name(enum cr_reason reason);

#ifdef __cplusplus
}
#endif
#endif
