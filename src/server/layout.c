/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compares addresses of pieces of one buffer, the library's, and reads nothing outside the pieces
 * but the blanks before a value, which lie between two of them. The library has put NULs over each
 * separator: a blank, a colon, CR, LF.
 */
#include "server/layout.h"

#include <string.h>

#define LINE_END_BYTES 2 /* CR LF */
static const char gap[] = "The head of the request is not plain lines that end with CR and LF.";

/* The blanks between a colon, now a NUL, and the value. */
static bool only_blanks(const char *from, const char *to)
{
    for (; from < to; from++)
        if (*from != ' ' && *from != '\t')
            return false;
    return true;
}

const char *cr_layout_check(const struct cr_layout *layout, const struct cr_http_header *headers,
                            size_t count)
{
    const char *method_end = layout->method + strlen(layout->method);
    const char *version_end = layout->version + strlen(layout->version);
    if (layout->target != method_end + 1 ||
        layout->version != layout->target + layout->target_bytes + 1)
        return "The first line of the request is not three words with single spaces between.";
    const char *line = version_end + LINE_END_BYTES;
    for (size_t i = 0; i < count; i++) {
        struct cr_http_text name = headers[i].name, value = headers[i].value;
        if (name.bytes != line || value.bytes <= name.bytes + name.count ||
            value.bytes - line > (ptrdiff_t)layout->head_bytes ||
            !only_blanks(name.bytes + name.count + 1, value.bytes))
            return gap;
        line = value.bytes + value.count + LINE_END_BYTES;
    }
    return line + LINE_END_BYTES == layout->method + layout->head_bytes ? NULL : gap;
}

bool cr_layout_is_known(const char *library_version)
{
    return strncmp(library_version, "0.9.", 4) == 0;
}
