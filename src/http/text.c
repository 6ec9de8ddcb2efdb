/* SPDX-License-Identifier: Apache-2.0 */
/* Text that grows. Owns its bytes; knows JSON's, HTML's and URLs' ways to quote, and no more. */
#include "http/text.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"

void cr_text_fini(struct cr_text *text)
{
    if (text->bytes != NULL)
        cr_bytes_wipe(text->bytes, text->count);
    free(text->bytes);
    *text = (struct cr_text){0};
}

void cr_text_clear(struct cr_text *text)
{
    if (text->count > 0)
        cr_bytes_wipe(text->bytes, text->count);
    text->count = 0;
    text->failed = false;
}

/* Room for `count` more, or NULL. Not realloc, which would leave a copy behind. */
static char *text_reserve(struct cr_text *text, size_t count)
{
    if (text->failed)
        return NULL;
    if (count <= text->capacity - text->count)
        return text->bytes + text->count;
    if (count > CR_TEXT_BYTES_MAX - text->count)
        goto failed;
    size_t capacity = text->capacity > 0 ? text->capacity : 1024;
    while (capacity - text->count < count)
        capacity *= 2;
    char *bytes = malloc(capacity);
    if (bytes == NULL)
        goto failed;
    if (text->count > 0) {
        memcpy(bytes, text->bytes, text->count);
        cr_bytes_wipe(text->bytes, text->count);
    }
    free(text->bytes);
    text->bytes = bytes;
    text->capacity = capacity;
    return text->bytes + text->count;
failed:
    text->failed = true;
    return NULL;
}

void cr_text_grow(struct cr_text *text, const char *bytes, size_t count)
{
    /* Nothing has no place in a text that has no memory yet. */
    char *room = count > 0 ? text_reserve(text, count) : NULL;
    if (room == NULL)
        return;
    memcpy(room, bytes, count);
    text->count += count;
}

void cr_text_u64(struct cr_text *text, uint64_t number)
{
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    cr_text_put(text, digits + at, sizeof digits - at);
}

/* Without a loop, in which each digit would wait for the one before. */
static void two_digits_put(char *out, unsigned number)
{
    out[0] = (char)('0' + number / 10);
    out[1] = (char)('0' + number % 10);
}

/* Days since 1970 to a date of the Gregorian calendar; Howard Hinnant's `civil_from_days`, which
 * needs neither a table nor the time zone files that gmtime may open. */
static void date_of_days(int64_t days, unsigned *out_year, unsigned *out_month, unsigned *out_day)
{
    days += 719468;
    int64_t era = days / 146097;
    unsigned doe = (unsigned)(days - era * 146097);
    unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    unsigned mp = (5 * doy + 2) / 153;
    *out_day = doy - (153 * mp + 2) / 5 + 1;
    *out_month = mp < 10 ? mp + 3 : mp - 9;
    *out_year = yoe + (unsigned)era * 400 + (*out_month <= 2);
}

void cr_text_time(struct cr_text *text, cr_time_ms time)
{
    /* What a store says may be damaged; years of four digits are what the form has room for. */
    static const cr_time_ms last = 253402300799000; /* the end of 9999 */
    time = time < 0 ? 0 : time > last ? last : time;
    int64_t seconds = time / 1000;
    unsigned year, month, day, second = (unsigned)(seconds % 86400);
    date_of_days(seconds / 86400, &year, &month, &day);
    char form[] = "0000-00-00T00:00:00Z";
    two_digits_put(form, year / 100);
    two_digits_put(form + 2, year % 100);
    two_digits_put(form + 5, month);
    two_digits_put(form + 8, day);
    two_digits_put(form + 11, second / 3600);
    two_digits_put(form + 14, second / 60 % 60);
    two_digits_put(form + 17, second % 60);
    cr_text_put(text, form, sizeof form - 1);
}

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/* Length of the well-formed UTF-8 character at `bytes`, at most `count`; 0: there is none. */
static size_t utf8_length(const char *bytes, size_t count)
{
    unsigned char lead = (unsigned char)bytes[0];
    size_t length = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    if (length == 0 || length > count)
        return 0;
    /* Also refuses control characters, which have no business on a page. */
    return cr_text_is_clean((const unsigned char *)bytes, length) ? length : 0;
}

void cr_text_json(struct cr_text *text, const char *bytes, size_t count)
{
    static const char hex[] = "0123456789abcdef";
    cr_text_put(text, "\"", 1);
    size_t from = 0;
    for (size_t i = 0; i < count;) {
        unsigned char c = (unsigned char)bytes[i];
        size_t length = c < 0x80 ? 1 : utf8_length(bytes + i, count - i);
        if (length > 1 || (c >= 0x20 && c < 0x7f && c != '"' && c != '\\')) {
            i += length;
            continue;
        }
        cr_text_put(text, bytes + from, i - from);
        if (length == 0)
            cr_text_str(text, REPLACEMENT);
        else if (c == '"' || c == '\\')
            cr_text_put(text, (const char[]){'\\', (char)c}, 2);
        else
            cr_text_put(text, (const char[]){'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]}, 6);
        from = ++i;
    }
    cr_text_put(text, bytes + from, count - from);
    cr_text_put(text, "\"", 1);
}

void cr_text_percent(struct cr_text *text, const unsigned char *bytes, size_t count)
{
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < count; i++) {
        unsigned char c = bytes[i];
        bool plain = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
                     (c != 0 && strchr("-._~@", c) != NULL);
        if (plain)
            cr_text_put(text, (const char[]){(char)c}, 1);
        else
            cr_text_put(text, (const char[]){'%', hex[c >> 4], hex[c & 15]}, 3);
    }
}

static const char *html_entity(char c)
{
    switch (c) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '"':
        return "&quot;";
    case '\'':
        return "&#39;";
    default:
        return NULL;
    }
}

void cr_text_escape(struct cr_text *text, const char *bytes, size_t count)
{
    for (size_t i = 0; i < count;) {
        const char *entity = html_entity(bytes[i]);
        size_t length = entity != NULL ? 1 : utf8_length(bytes + i, count - i);
        if (entity != NULL)
            cr_text_str(text, entity);
        else if (length > 0)
            cr_text_put(text, bytes + i, length);
        else
            cr_text_str(text, REPLACEMENT);
        i += length > 0 ? length : 1;
    }
}

void cr_text_html(struct cr_text *text, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    for (;;) {
        const char *directive = strchrnul(format, '%');
        cr_text_put(text, format, (size_t)(directive - format));
        if (*directive == '\0')
            break;
        CR_ASSERT(directive[1] == 's' || directive[1] == '%');
        if (directive[1] == 's') {
            const char *value = va_arg(args, const char *);
            cr_text_escape(text, value, strlen(value));
        } else {
            cr_text_put(text, "%", 1);
        }
        format = directive + 2;
    }
    va_end(args);
}
