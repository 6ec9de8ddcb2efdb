/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads what clients send, and leaves nothing of it behind: the copies are wiped, those of the JSON
 * library too. Whether the values make sense is the caller's business.
 */
#include "http/form.h"

#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"

void cr_http_form_init(struct cr_http_form *form, const char *const *names)
{
    *form = (struct cr_http_form){0};
    for (; names[form->count] != NULL; form->count++) {
        CR_ASSERT(form->count < CR_HTTP_FORM_FIELDS_MAX);
        form->fields[form->count].name = names[form->count];
    }
}

void cr_http_form_fini(struct cr_http_form *form)
{
    if (form->memory != NULL)
        cr_bytes_wipe(form->memory, form->memory_bytes);
    free(form->memory);
    *form = (struct cr_http_form){0};
}

const struct cr_http_form_field *cr_http_form_get(const struct cr_http_form *form, const char *name)
{
    for (size_t i = 0; i < form->count; i++)
        if (strcmp(form->fields[i].name, name) == 0)
            return form->fields[i].bytes != NULL ? &form->fields[i] : NULL;
    return NULL;
}

static enum cr_status form_reserve(struct cr_http_form *form, size_t bytes)
{
    CR_ASSERT(form->memory == NULL);
    form->memory = malloc(bytes);
    if (form->memory == NULL)
        return CR_E_NO_MEMORY;
    form->memory_bytes = bytes;
    return CR_OK;
}

static struct cr_http_form_field *form_field(struct cr_http_form *form, const char *name,
                                             size_t count)
{
    for (size_t i = 0; i < form->count; i++)
        if (strlen(form->fields[i].name) == count && memcmp(form->fields[i].name, name, count) == 0)
            return &form->fields[i];
    return NULL;
}

/* -1: none. Browsers write %XX in upper case, some programs in lower. */
static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes in place and ends with a NUL, for which `text` has room. False: a broken %XX. */
static bool percent_decode(char *text, size_t count, size_t *out_count)
{
    size_t to = 0;
    for (size_t from = 0; from < count; from++) {
        char byte = text[from];
        if (byte == '%') {
            int high = count - from >= 3 ? hex_digit(text[from + 1]) : -1;
            int low = count - from >= 3 ? hex_digit(text[from + 2]) : -1;
            if (high < 0 || low < 0)
                return false;
            byte = (char)(high << 4 | low);
            from += 2;
        } else if (byte == '+') {
            byte = ' ';
        }
        text[to++] = byte;
    }
    text[to] = '\0';
    *out_count = to;
    return true;
}

static enum cr_status form_wrong(struct cr_http_form *form, const char *name, const char *what)
{
    (void)snprintf(form->wrong, sizeof form->wrong, "`%s` %s", name, what);
    return CR_E_INVALID;
}

static enum cr_status pair_take(struct cr_http_form *form, char *pair, size_t count)
{
    char *equals = memchr(pair, '=', count);
    if (equals == NULL)
        return CR_OK;
    char *value = equals + 1;
    size_t value_count = count - (size_t)(value - pair), name_count;
    *equals = '\0';
    if (!percent_decode(pair, (size_t)(equals - pair), &name_count))
        return form_wrong(form, "%", "is not followed by two hexadecimal digits.");
    struct cr_http_form_field *field = form_field(form, pair, name_count);
    if (field == NULL)
        return CR_OK;
    if (field->bytes != NULL)
        return form_wrong(form, field->name, "is there twice.");
    if (!percent_decode(value, value_count, &field->count))
        return form_wrong(form, field->name,
                          "has a % that is not followed by two hexadecimal digits.");
    field->bytes = value;
    return CR_OK;
}

enum cr_status cr_http_form_urlencoded(struct cr_http_form *form, struct cr_http_text text)
{
    enum cr_status st = form_reserve(form, text.count + 1);
    if (st != CR_OK)
        return st;
    if (text.count > 0)
        memcpy(form->memory, text.bytes, text.count);
    char *pair = form->memory, *end = pair + text.count;
    while (st == CR_OK && pair < end) {
        char *next = memchr(pair, '&', (size_t)(end - pair));
        char *pair_end = next != NULL ? next : end;
        st = pair_take(form, pair, (size_t)(pair_end - pair));
        pair = pair_end + 1;
    }
    return st;
}

/* The JSON library frees its copies of a password unwiped, unless the freeing is ours. */
#define SECRET_HEADER_BYTES 16
static void *secret_alloc(size_t bytes)
{
    if (bytes > SIZE_MAX - SECRET_HEADER_BYTES)
        return NULL;
    unsigned char *memory = malloc(bytes + SECRET_HEADER_BYTES);
    if (memory == NULL)
        return NULL;
    memcpy(memory, &bytes, sizeof bytes);
    return memory + SECRET_HEADER_BYTES;
}

static void secret_free(void *memory)
{
    if (memory == NULL)
        return;
    unsigned char *start = (unsigned char *)memory - SECRET_HEADER_BYTES;
    size_t bytes;
    memcpy(&bytes, start, sizeof bytes);
    cr_bytes_wipe(start, bytes + SECRET_HEADER_BYTES);
    free(start);
}

/* Before the first value is made: all of a process's are made and freed the same way. */
static void secret_json(void)
{
    json_set_alloc_funcs(secret_alloc, secret_free);
}

/* Copies the strings of `object` that are asked for. */
static enum cr_status object_take(struct cr_http_form *form, json_t *object, size_t bytes)
{
    enum cr_status st = form_reserve(form, bytes);
    if (st != CR_OK)
        return st;
    char *to = form->memory;
    for (size_t i = 0; i < form->count; i++) {
        struct cr_http_form_field *field = &form->fields[i];
        const json_t *value = json_object_get(object, field->name);
        if (value == NULL)
            continue;
        if (!json_is_string(value))
            return form_wrong(form, field->name, "is not a string.");
        field->count = json_string_length(value);
        CR_ASSERT(field->count < (size_t)(form->memory + bytes - to));
        memcpy(to, json_string_value(value), field->count + 1);
        field->bytes = to;
        to += field->count + 1;
    }
    return CR_OK;
}

/* The parser's own sentence would quote what was sent, and that may be a password. */
static void json_wrong(struct cr_http_form *form, const json_error_t *error)
{
    enum json_error_code code = json_error_code(error);
    const char *what = code == json_error_invalid_utf8             ? "has bytes that are not UTF-8"
                       : code == json_error_duplicate_key          ? "has a name twice"
                       : code == json_error_end_of_input_expected  ? "goes on after its end"
                       : code == json_error_premature_end_of_input ? "ends too early"
                                                                   : "is not well formed";
    (void)snprintf(form->wrong, sizeof form->wrong, "The JSON %s (line %d, column %d).", what,
                   error->line, error->column);
}

enum cr_status cr_http_form_json(struct cr_http_form *form, struct cr_http_text text)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, secret_json);
    /* NUL is a character of a password like any other (ASVS E8). */
    json_error_t error;
    json_t *object = json_loadb(text.count > 0 ? text.bytes : "", text.count,
                                JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    enum cr_status st = CR_E_INVALID;
    if (object == NULL) {
        json_wrong(form, &error);
        goto out;
    }
    if (!json_is_object(object)) {
        (void)snprintf(form->wrong, sizeof form->wrong, "The JSON is not an object.");
        goto out;
    }
    /* No string is longer than its JSON, and each has a quote more than its NUL needs. */
    st = object_take(form, object, text.count + 1);
out:
    json_decref(object);
    cr_bytes_wipe(&error, sizeof error); /* quotes what was sent */
    return st;
}
