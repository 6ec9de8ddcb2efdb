/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is asked of a request before any handler sees it. doc/http-admission.md has the whole table:
 * what is refused here, by the worker (src/server/wire.c), and by the HTTP library.
 */
#ifndef HTTP_ADMISSION_H
#define HTTP_ADMISSION_H

#include "http/http.h"

/* The fields that this layer reads. Each may be there once. */
enum cr_http_field {
    CR_HTTP_HOST,
    CR_HTTP_COOKIE,
    CR_HTTP_AUTHORIZATION,
    CR_HTTP_CONTENT_TYPE,
    CR_HTTP_CONTENT_LENGTH,
    CR_HTTP_TRANSFER_ENCODING,
    CR_HTTP_ORIGIN,
    CR_HTTP_FETCH_SITE,
    CR_HTTP_USER_AGENT,
    CR_HTTP_FORM_TOKEN,
    CR_HTTP_FIELD_COUNT
};

/* Points into the request; bytes NULL where a field is not there. Spaces around are cut off. */
struct cr_http_fields {
    struct cr_http_text of[CR_HTTP_FIELD_COUNT];
};

struct cr_http_refusal {
    unsigned status;
    const char *why; /* a sentence */
};

/* NULL: admitted, and *out_fields is filled. */
const struct cr_http_refusal *cr_http_admission(const struct cr_http_request *request,
                                                struct cr_http_fields *out_fields);

#endif
