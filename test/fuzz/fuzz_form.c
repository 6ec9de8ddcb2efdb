/* SPDX-License-Identifier: Apache-2.0 */
/*
 * application/x-www-form-urlencoded, against a plain reader of it: the same fields with the same
 * bytes, or the same refusal. What was taken can be written again, and is then read as the same.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "fuzz/fuzz.h"
#include "http/form.h"
#include "http/text.h"

static const char *const names[] = {"user", "password", "a", "%", NULL};
#define NAMES 4

static const char *const words[] = {
    "user=", "password=", "&user=", "&password=", "a=", "%25=",    "%00", "%",
    "+",     "%7",        "%c3%A4", "&",          "=",  "%75ser=", NULL,
};

/* A field as the plain reader finds it. */
struct plain {
    bool there;
    size_t count;
    unsigned char bytes[FUZZ_INPUT_BYTES_MAX];
};

static int digit(unsigned char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static bool decode(const char *text, size_t count, struct plain *out)
{
    out->count = 0;
    for (size_t i = 0; i < count; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '%') {
            if (i + 2 >= count || digit((unsigned char)text[i + 1]) < 0 ||
                digit((unsigned char)text[i + 2]) < 0)
                return false;
            c = (unsigned char)(digit((unsigned char)text[i + 1]) << 4 |
                                digit((unsigned char)text[i + 2]));
            i += 2;
        }
        out->bytes[out->count++] = text[i] == '+' && c == '+' ? ' ' : c;
    }
    return true;
}

/* False: it is to be refused. */
static bool plain_read(const char *text, size_t count, struct plain fields[NAMES])
{
    static struct plain name, value;
    struct fuzz_input left = {(const unsigned char *)text, count};
    const char *pair;
    size_t pair_count;
    for (size_t i = 0; i < NAMES; i++)
        fields[i].there = false;
    while (fuzz_piece(&left, '&', &pair, &pair_count)) {
        const char *equals = memchr(pair, '=', pair_count);
        if (equals == NULL)
            continue;
        if (!decode(pair, (size_t)(equals - pair), &name))
            return false;
        bool value_good = decode(equals + 1, pair_count - (size_t)(equals - pair) - 1, &value);
        for (size_t i = 0; i < NAMES; i++) {
            if (name.count != strlen(names[i]) || memcmp(name.bytes, names[i], name.count) != 0)
                continue;
            if (fields[i].there || !value_good)
                return false;
            value.there = true;
            fields[i] = value;
        }
    }
    return true;
}

static void same_check(const struct cr_http_form *form, const struct plain fields[NAMES])
{
    for (size_t i = 0; i < NAMES; i++) {
        const struct cr_http_form_field *got = cr_http_form_get(form, names[i]);
        fuzz_must((got != NULL) == fields[i].there, "a field is there for both or for none");
        if (got == NULL)
            continue;
        fuzz_must(got->count == fields[i].count &&
                      memcmp(got->bytes, fields[i].bytes, got->count) == 0,
                  "both read the same bytes");
        fuzz_must(got->bytes[got->count] == '\0', "it is ended");
    }
}

static void written_check(const struct cr_http_form *form, const struct plain fields[NAMES])
{
    struct cr_text text = {0};
    struct cr_http_form again;
    for (size_t i = 0; i < NAMES; i++) {
        const struct cr_http_form_field *field = cr_http_form_get(form, names[i]);
        if (field == NULL)
            continue;
        cr_text_str(&text, text.count > 0 ? "&" : "");
        cr_text_percent(&text, (const unsigned char *)names[i], strlen(names[i]));
        cr_text_str(&text, "=");
        cr_text_percent(&text, (const unsigned char *)field->bytes, field->count);
    }
    fuzz_must(!text.failed, "it is written");
    cr_http_form_init(&again, names);
    fuzz_must(cr_http_form_urlencoded(&again, (struct cr_http_text){text.bytes, text.count}) ==
                  CR_OK,
              "what was written is read");
    same_check(&again, fields);
    cr_http_form_fini(&again);
    cr_text_fini(&text);
}

static void one(const unsigned char *data, size_t bytes)
{
    static struct plain fields[NAMES];
    struct cr_http_form form;
    const char *text = (const char *)data;
    if (bytes > FUZZ_INPUT_BYTES_MAX)
        return;
    cr_http_form_init(&form, names);
    enum cr_status st = cr_http_form_urlencoded(&form, (struct cr_http_text){text, bytes});
    bool good = plain_read(text, bytes, fields);
    fuzz_must(st == (good ? CR_OK : CR_E_INVALID), "both take it, or both refuse it");
    if (good) {
        same_check(&form, fields);
        written_check(&form, fields);
        fuzz_taken();
    } else {
        size_t length = strnlen(form.wrong, sizeof form.wrong);
        fuzz_must(length > 0 && length < sizeof form.wrong, "it says what is wrong");
        fuzz_must(cr_text_is_clean((const unsigned char *)form.wrong, length), "in clean text");
        fuzz_refused();
    }
    cr_http_form_fini(&form);
}

const struct fuzz_target fuzz_form = {"form", words, NULL, one};
