/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sees in a request what libmicrohttpd does not tell. Its parser cuts values off at a NUL, takes a
 * bare LF for the end of a line, joins a folded line to the header's *name*, and skips spaces and
 * bytes without a word (doc/http-admission.md). But it parses in place: what it gives out points
 * into the bytes that came. So every piece must begin exactly where the piece before it ends, with
 * CR LF between them, and the last must end where the head ends. Where a gap is, something was left
 * out.
 *
 * That is how 0.9.x works; cr_layout_is_known says whether the library that runs is one of those.
 */
#ifndef SERVER_LAYOUT_H
#define SERVER_LAYOUT_H

#include "http/http.h"

/* The head of a request as the library gave it out. */
struct cr_layout {
    const char *method;
    const char *target; /* as the URI callback had it */
    size_t target_bytes;
    const char *version;
    size_t head_bytes; /* MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE */
};

/* NULL, or a sentence that says what is wrong. */
const char *cr_layout_check(const struct cr_layout *layout, const struct cr_http_header *headers,
                            size_t count);

bool cr_layout_is_known(const char *library_version);

#endif
