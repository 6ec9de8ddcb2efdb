/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON both ways. What clients send is taken as another reading of it has it, and can be written
 * and read again; what is refused is told without quoting it, for it may be a password. And a
 * session, whatever bytes its user and its labels have, is written so that any reader reads it: an
 * input that begins with "session" is one.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "fuzz/fuzz.h"
#include "http/exchange.h"
#include "http/form.h"

/* Those of a login, and of the operators' login. */
static const char *const names[] = {"user", "password", "address", "agent", NULL};
#define NAMES 4

static const char *const words[] = {
    "{\"user\":\"",
    "\"password\":\"",
    "\"address\":\"",
    "\"agent\":\"",
    "\\u0000",
    "\\ud800",
    "\\udc00",
    "\\\"",
    "null",
    "true",
    "{}",
    "[]",
    "1e9",
    ",",
    ":",
    "session",
    "\xff",
    "\xe2\x80\xa8",
    "\xef\xbb\xbf",
    NULL,
};

/* ---- what clients send */

static const json_t *member(const json_t *object, const char *name)
{
    return json_object_get(object, name);
}

/* Another reading: the library's, with no more asked of it than that it is JSON. */
static void taken_check(const struct cr_http_form *form, const char *text, size_t bytes)
{
    json_t *other = json_loadb(text, bytes, JSON_ALLOW_NUL | JSON_DECODE_ANY, NULL);
    fuzz_must(json_is_object(other), "it is an object for everybody");
    for (size_t i = 0; i < NAMES; i++) {
        const struct cr_http_form_field *got = cr_http_form_get(form, names[i]);
        const json_t *want = member(other, names[i]);
        fuzz_must((got != NULL) == (want != NULL), "a field is there for both or for none");
        if (got == NULL)
            continue;
        fuzz_must(json_is_string(want) && json_string_length(want) == got->count &&
                      memcmp(json_string_value(want), got->bytes, got->count) == 0,
                  "both read the same bytes");
        fuzz_must(got->bytes[got->count] == '\0', "it is ended");
    }
    json_decref(other);
}

static void written_check(const struct cr_http_form *form)
{
    struct cr_text text = {0};
    struct cr_http_form again;
    for (size_t i = 0; i < NAMES; i++) {
        const struct cr_http_form_field *field = cr_http_form_get(form, names[i]);
        if (field == NULL)
            continue;
        cr_text_str(&text, text.count > 0 ? "," : "{");
        cr_text_json(&text, names[i], strlen(names[i]));
        cr_text_str(&text, ":");
        cr_text_json(&text, field->bytes, field->count);
    }
    cr_text_str(&text, text.count > 0 ? "}" : "{}");
    fuzz_must(!text.failed, "it is written");
    cr_http_form_init(&again, names);
    fuzz_must(cr_http_form_json(&again, (struct cr_http_text){text.bytes, text.count}) == CR_OK,
              "what was written is read");
    for (size_t i = 0; i < NAMES; i++) {
        const struct cr_http_form_field *a = cr_http_form_get(form, names[i]);
        const struct cr_http_form_field *b = cr_http_form_get(&again, names[i]);
        fuzz_must((a == NULL) == (b == NULL), "and has the same fields");
        fuzz_must(a == NULL || !cr_text_is_clean((const unsigned char *)a->bytes, a->count) ||
                      (a->count == b->count && memcmp(a->bytes, b->bytes, a->count) == 0),
                  "with the same bytes, where they are clean text");
    }
    cr_http_form_fini(&again);
    cr_text_fini(&text);
}

/* It may have been a password: nothing of it is quoted. */
static void wrong_check(const struct cr_http_form *form)
{
    size_t length = strnlen(form->wrong, sizeof form->wrong);
    fuzz_must(length > 0 && length < sizeof form->wrong, "it says what is wrong");
    fuzz_must(cr_text_is_clean((const unsigned char *)form->wrong, length), "in clean text");
    static const char *const beginnings[] = {"The JSON ", "`user` ", "`password` ", "`address` ",
                                             "`agent` "};
    bool known = false;
    for (size_t i = 0; i < sizeof beginnings / sizeof beginnings[0]; i++)
        known = known || strncmp(form->wrong, beginnings[i], strlen(beginnings[i])) == 0;
    fuzz_must(known, "in our own words");
}

static void sent_try(const char *text, size_t bytes)
{
    struct cr_http_form form;
    cr_http_form_init(&form, names);
    enum cr_status st = cr_http_form_json(&form, (struct cr_http_text){text, bytes});
    fuzz_must(st == CR_OK || st == CR_E_INVALID, "it is taken or refused");
    if (st == CR_OK) {
        taken_check(&form, text, bytes);
        written_check(&form);
        fuzz_taken();
    } else {
        wrong_check(&form);
        fuzz_refused();
    }
    cr_http_form_fini(&form);
}

/* ---- what clients are sent */

static void label_read(struct fuzz_input *input, char *out, size_t capacity)
{
    size_t count;
    const unsigned char *bytes = fuzz_bytes(input, fuzz_u8(input) % capacity, &count);
    memcpy(out, bytes, count);
    out[count] = '\0';
}

static void session_read(struct fuzz_input *input, struct cr_session *out)
{
    size_t count;
    *out = (struct cr_session){.size = sizeof *out};
    memcpy(out->id.text, "crp_AAAAAAAAAAAAAAAAAAAAAAAA", CR_SESSION_ID_CHARS + 1);
    const unsigned char *user = fuzz_bytes(input, fuzz_u8(input) % (CR_USER_BYTES_MAX + 1), &count);
    out->user.length = (uint8_t)count;
    memcpy(out->user.bytes, user, count);
    label_read(input, out->address, sizeof out->address);
    label_read(input, out->agent, sizeof out->agent);
    out->created_at = (cr_time_ms)fuzz_u64(input);
    out->authenticated_at = (cr_time_ms)fuzz_u64(input);
    out->seen_at = (cr_time_ms)fuzz_u64(input);
    out->expires_at = (cr_time_ms)fuzz_u64(input);
    out->ends_at = (cr_time_ms)fuzz_u64(input);
}

static void text_check(const json_t *object, const char *name, const void *want, size_t count)
{
    const json_t *got = member(object, name);
    fuzz_must(json_is_string(got), "a text is a string");
    if (cr_text_is_clean(want, count))
        fuzz_must(json_string_length(got) == count &&
                      memcmp(json_string_value(got), want, count) == 0,
                  "clean text is written as it is");
}

static void time_check(const json_t *object, const char *name, cr_time_ms time)
{
    const json_t *got = member(object, name);
    fuzz_must(time == 0 ? json_is_null(got) : json_string_length(got) == 20,
              "a time is null or 2025-11-24T01:31:05Z");
}

static void session_try(struct fuzz_input *input)
{
    struct cr_session session;
    struct cr_text text = {0};
    bool listed = fuzz_u8(input) % 2 == 1;
    session_read(input, &session);
    cr_http_json_session(&text, &session, listed ? &session.id : NULL);
    fuzz_must(!text.failed, "it is written");
    for (size_t i = 0; i < text.count; i++)
        fuzz_must((unsigned char)text.bytes[i] >= ' ' && text.bytes[i] != 0x7f, "on one line");
    json_t *read =
        json_loadb(text.bytes, text.count, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    fuzz_must(json_is_object(read), "anybody can read it");
    fuzz_must(json_object_size(read) == (listed ? 10 : 7), "and it has these members");
    text_check(read, "id", session.id.text, CR_SESSION_ID_CHARS);
    if (session.user.length == 0)
        fuzz_must(json_is_null(member(read, "user")), "nobody is null");
    else
        text_check(read, "user", session.user.bytes, session.user.length);
    time_check(read, "created_at", session.created_at);
    time_check(read, "authenticated_at", session.authenticated_at);
    time_check(read, "seen_at", session.seen_at);
    time_check(read, "expires_at", session.expires_at);
    time_check(read, "ends_at", session.ends_at);
    if (listed) {
        text_check(read, "address", session.address, strlen(session.address));
        text_check(read, "agent", session.agent, strlen(session.agent));
        fuzz_must(json_is_true(member(read, "current")), "it is this one");
    }
    json_decref(read);
    cr_text_fini(&text);
    fuzz_taken();
}

static void one(const unsigned char *data, size_t bytes)
{
    static const char mark[] = "session";
    struct fuzz_input input = {data, bytes};
    if (bytes < sizeof mark - 1 || memcmp(data, mark, sizeof mark - 1) != 0) {
        sent_try((const char *)data, bytes);
        return;
    }
    input.bytes += sizeof mark - 1;
    input.left -= sizeof mark - 1;
    session_try(&input);
}

/* The first call chooses how all JSON of a process is allocated. */
static bool begin(void)
{
    struct cr_http_form form;
    cr_http_form_init(&form, names);
    bool good = cr_http_form_json(&form, (struct cr_http_text){"{}", 2}) == CR_OK;
    cr_http_form_fini(&form);
    return good;
}

const struct fuzz_target fuzz_json = {"json", words, begin, one};
