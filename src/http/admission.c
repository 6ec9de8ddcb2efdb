/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Admission: whatever two programs could read in two ways is refused, whether or not it would do
 * harm here, for a proxy in front may have read it the other way (ASVS G5). Looks at the head only.
 * The worker closes the connection after a refusal, as nobody knows where the next request begins.
 */
#include "http/admission.h"

#include <string.h>
#include <strings.h>

/* RFC 9110, 5.6.2. */
static bool is_token_char(unsigned char c)
{
    static const bool table[256] = {
        ['!'] = true,         ['#' ... '\''] = true, ['*'] = true, ['+'] = true,
        ['-'] = true,         ['.'] = true,          ['^'] = true, ['_'] = true,
        ['`'] = true,         ['|'] = true,          ['~'] = true, ['0' ... '9'] = true,
        ['A' ... 'Z'] = true, ['a' ... 'z'] = true,
    };
    return table[c];
}

static bool is_token(struct cr_http_text text)
{
    for (size_t i = 0; i < text.count; i++)
        if (!is_token_char((unsigned char)text.bytes[i]))
            return false;
    return text.count > 0;
}

/* Neither NUL, CR or LF nor another control character; a tab may stand. Looks at all of it, which
 * the compiler does for sixteen bytes at once. */
static bool is_value(struct cr_http_text text)
{
    unsigned char wrong = 0;
    for (size_t i = 0; i < text.count; i++) {
        unsigned char c = (unsigned char)text.bytes[i];
        wrong |= (c < 0x20 && c != '\t') || c == 0x7f;
    }
    return wrong == 0;
}

static struct cr_http_text trimmed(struct cr_http_text text)
{
    while (text.count > 0 && strchr(" \t", text.bytes[0]) != NULL) {
        text.bytes++;
        text.count--;
    }
    while (text.count > 0 && strchr(" \t", text.bytes[text.count - 1]) != NULL)
        text.count--;
    return text;
}

static const char *const field_names[CR_HTTP_FIELD_COUNT] = {
    [CR_HTTP_HOST] = "host",
    [CR_HTTP_COOKIE] = "cookie",
    [CR_HTTP_AUTHORIZATION] = "authorization",
    [CR_HTTP_CONTENT_TYPE] = "content-type",
    [CR_HTTP_CONTENT_LENGTH] = "content-length",
    [CR_HTTP_TRANSFER_ENCODING] = "transfer-encoding",
    [CR_HTTP_ORIGIN] = "origin",
    [CR_HTTP_FETCH_SITE] = "sec-fetch-site",
    [CR_HTTP_USER_AGENT] = "user-agent",
    [CR_HTTP_FORM_TOKEN] = "x-form-token",
};

/* CR_HTTP_FIELD_COUNT: none of those. */
static size_t field_named(struct cr_http_text name)
{
    size_t field = 0;
    for (; field < CR_HTTP_FIELD_COUNT; field++) {
        const char *known = field_names[field];
        if ((name.bytes[0] | 0x20) == known[0] && strlen(known) == name.count &&
            strncasecmp(name.bytes, known, name.count) == 0)
            break;
    }
    return field;
}

#define REFUSE(code, sentence)                                                                     \
    do {                                                                                           \
        static const struct cr_http_refusal refusal = {code, sentence};                            \
        return &refusal;                                                                           \
    } while (0)

static const struct cr_http_refusal *headers_check(const struct cr_http_request *request,
                                                   struct cr_http_fields *out_fields)
{
    if (request->header_count > CR_HTTP_HEADERS_MAX)
        REFUSE(431, "There are too many header fields.");
    size_t bytes = request->method.count + request->target.count + 12;
    for (size_t i = 0; i < request->header_count; i++) {
        const struct cr_http_header *header = &request->headers[i];
        bytes += header->name.count + header->value.count + 4;
        if (!is_token(header->name))
            REFUSE(400, "The name of a header field is empty or not a token.");
        if (!is_value(header->value))
            REFUSE(400, "The value of a header field has a control character.");
        size_t field = field_named(header->name);
        if (field == CR_HTTP_FIELD_COUNT)
            continue;
        if (out_fields->of[field].bytes != NULL)
            REFUSE(400, "A header field that may be there once is there twice.");
        out_fields->of[field] = trimmed(header->value);
    }
    if (bytes > CR_HTTP_HEADER_BYTES_MAX)
        REFUSE(431, "The header fields are too long.");
    return NULL;
}

static const struct cr_http_refusal *length_check(const struct cr_http_fields *fields)
{
    struct cr_http_text length = fields->of[CR_HTTP_CONTENT_LENGTH];
    if (fields->of[CR_HTTP_TRANSFER_ENCODING].bytes != NULL) {
        if (length.bytes != NULL)
            REFUSE(400, "Content-Length and Transfer-Encoding contradict each other.");
        /* Chunks are where servers differ most, and nobody needs them for what is asked here. */
        REFUSE(411, "Transfer-Encoding is not taken here: send a Content-Length.");
    }
    if (length.bytes == NULL)
        return NULL;
    size_t value = 0;
    for (size_t i = 0; i < length.count; i++) {
        if (length.bytes[i] < '0' || length.bytes[i] > '9')
            REFUSE(400, "Content-Length is not a number.");
        value = value * 10 + (size_t)(length.bytes[i] - '0');
        if (value > CR_HTTP_BODY_BYTES_MAX)
            REFUSE(413, "The body is too long.");
    }
    if (length.count == 0)
        REFUSE(400, "Content-Length is not a number.");
    return NULL;
}

const struct cr_http_refusal *cr_http_admission(const struct cr_http_request *request,
                                                struct cr_http_fields *out_fields)
{
    *out_fields = (struct cr_http_fields){0};
    if (!is_token(request->method))
        REFUSE(400, "The method is not a token.");
    if (request->target.count > CR_HTTP_TARGET_BYTES_MAX)
        REFUSE(414, "The address is too long.");
    if (request->target.count == 0 || request->target.bytes[0] != '/')
        REFUSE(400, "The address does not begin with a slash.");
    for (size_t i = 0; i < request->target.count; i++) {
        unsigned char c = (unsigned char)request->target.bytes[i];
        if (c <= 0x20 || c >= 0x7f || c == '#')
            REFUSE(400, "The address has a character that must be encoded.");
    }
    const struct cr_http_refusal *refusal = headers_check(request, out_fields);
    return refusal != NULL ? refusal : length_check(out_fields);
}
