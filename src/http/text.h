/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text that grows: bodies and header values. What came from outside goes in by the function that
 * knows the language around it, so that it stays text there (ASVS F8).
 *
 * Past CR_TEXT_BYTES_MAX, or without memory, `failed` is set and stays: the writer looks once, at
 * the end.
 */
#ifndef HTTP_TEXT_H
#define HTTP_TEXT_H

#include <string.h>

#include <cloakroom/types.h>

#define CR_TEXT_BYTES_MAX ((size_t)1024 * 1024)

struct cr_text {
    char *bytes; /* not ended by a NUL */
    size_t count, capacity;
    bool failed;
};

void cr_text_fini(struct cr_text *text);  /* wipes; accepts zeroed */
void cr_text_clear(struct cr_text *text); /* wipes and keeps the memory */

/* cr_text_put where there may be no room for that yet. */
void cr_text_grow(struct cr_text *text, const char *bytes, size_t count);

/* Inline, as the session's JSON is some twenty short pieces whose lengths the compiler knows. */
static inline void cr_text_put(struct cr_text *text, const char *bytes, size_t count)
{
    if (text->failed || count >= text->capacity - text->count) {
        cr_text_grow(text, bytes, count);
        return;
    }
    memcpy(text->bytes + text->count, bytes, count);
    text->count += count;
}

static inline void cr_text_str(struct cr_text *text, const char *string)
{
    cr_text_put(text, string, strlen(string));
}

void cr_text_u64(struct cr_text *text, uint64_t number);
/* 2025-11-24T01:31:05Z */
void cr_text_time(struct cr_text *text, cr_time_ms time);

/* A JSON string with its quotes. Bytes that are not UTF-8 become U+FFFD. */
void cr_text_json(struct cr_text *text, const char *bytes, size_t count);
/* For a header or a path: A-Z a-z 0-9 - . _ ~ @ stay, every other byte becomes %XX. */
void cr_text_percent(struct cr_text *text, const unsigned char *bytes, size_t count);
/* Into HTML, quoted attributes included. Control characters and bytes that are not UTF-8 become
 * U+FFFD. */
void cr_text_escape(struct cr_text *text, const char *bytes, size_t count);
/* HTML with %s, each replaced by its argument, escaped. Knows no other directive but %%. */
void cr_text_html(struct cr_text *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
