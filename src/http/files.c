/* SPDX-License-Identifier: Apache-2.0 */
/* The two files that pages refer to. */
#include "http/files.h"

#include "http/exchange.h"

enum cr_http_progress cr_http_style_get(struct cr_http_exchange *x)
{
    return cr_http_reply_static(x, "text/css; charset=utf-8",
                                (struct cr_http_text){cr_file_style, cr_file_style_bytes});
}

enum cr_http_progress cr_http_icon_get(struct cr_http_exchange *x)
{
    return cr_http_reply_static(x, "image/svg+xml",
                                (struct cr_http_text){cr_file_icon, cr_file_icon_bytes});
}
