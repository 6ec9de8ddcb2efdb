/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which session a request says it belongs to. One request, one token (ASVS A9): two session
 * cookies, or a cookie and a bearer token that differ, are refused. Only the cookie and
 * `Authorization` are looked at, never the address (A8).
 */
#ifndef HTTP_CREDENTIAL_H
#define HTTP_CREDENTIAL_H

#include "http/admission.h"

struct cr_http_credential {
    bool present;
    bool by_cookie; /* a browser may have added it by itself: state changes need more (F1) */
    bool parsed;    /* it has the form of a token, and `token` is it */
    struct cr_token token;
};

/* NULL, or why the request is refused. The caller wipes *out. */
const struct cr_http_refusal *cr_http_credential_find(const struct cr_http_fields *fields,
                                                      const char *cookie_name,
                                                      struct cr_http_credential *out);

/* The value of the cookie called exactly `name`, cut to nothing where it is longer than `capacity`
 * - 1, or is not there exactly once. */
void cr_http_cookie_get(const struct cr_http_fields *fields, const char *name, char *out,
                        size_t capacity);

#endif
