/* SPDX-License-Identifier: Apache-2.0 */
/* Text in and out: quoting for JSON, HTML, headers; forms and JSON objects; names of devices. */
#include <cloakroom/status.h>
#include <stdlib.h>
#include <string.h>

#include "http/exchange.h"
#include "http/form.h"
#include "tap.h"

typedef void put_function(struct cr_text *, const char *, size_t);

static void percent_put(struct cr_text *text, const char *bytes, size_t count)
{
    cr_text_percent(text, (const unsigned char *)bytes, count);
}

struct put_case {
    put_function *put;
    const char *bytes;
    size_t count;
    const char *want;
};

#define PUT(function, literal, want)                                                               \
    {                                                                                              \
        function, literal, sizeof(literal) - 1, want                                               \
    }
#define LOST "\xef\xbf\xbd"

/* ASVS F8. */
static void what_came_from_outside_stays_text(void)
{
    static const struct put_case rows[] = {
        PUT(cr_text_put, "", ""), /* an address in no memory, found by fuzzing */
        PUT(cr_text_json, "plain", "\"plain\""),
        PUT(cr_text_json, "", "\"\""),
        PUT(cr_text_json, "a\"b\\c", "\"a\\\"b\\\\c\""),
        PUT(cr_text_json, "a\nb\x1f\x7f", "\"a\\u000ab\\u001f\\u007f\""),
        PUT(cr_text_json, "a\0b", "\"a\\u0000b\""),
        PUT(cr_text_json, "gr\xc3\xbc\xc3\x9f", "\"gr\xc3\xbc\xc3\x9f\""),
        PUT(cr_text_json,
            "a\xff"
            "b\xc3",
            "\"a" LOST "b" LOST "\""),
        PUT(cr_text_json, "\xe2\x80", "\"" LOST LOST "\""),
        PUT(cr_text_escape, "<script>alert('1')</script>",
            "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;"),
        PUT(cr_text_escape, "\" onmouseover=\"x", "&quot; onmouseover=&quot;x"),
        PUT(cr_text_escape, "a & b", "a &amp; b"),
        PUT(cr_text_escape, "gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f"),
        PUT(cr_text_escape, "a\0b\x1b[31m", "a" LOST "b" LOST "[31m"),
        PUT(cr_text_escape, "\xc3<b>", LOST "&lt;b&gt;"),
        PUT(cr_text_escape, "\xc0\xbcscript>", LOST LOST "script&gt;"),
        PUT(percent_put, "Az09-._~@", "Az09-._~@"),
        PUT(percent_put, "a b/%\xc3\xbc\r\n\0", "a%20b%2F%25%C3%BC%0D%0A%00"),
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct cr_text text = {0};
        tap_row(rows[i].want);
        rows[i].put(&text, rows[i].bytes, rows[i].count);
        CHECK(!text.failed);
        if (CHECK_UINT(text.count, strlen(rows[i].want)))
            CHECK_MEM(text.bytes, rows[i].want, text.count);
        cr_text_fini(&text);
    }
    tap_row(NULL);
}

static void a_time_is_written_as_rfc_3339_has_it(void)
{
    static const struct {
        cr_time_ms time;
        const char *want;
    } rows[] = {
        {0, "1970-01-01T00:00:00Z"},
        {951782400000, "2000-02-29T00:00:00Z"},
        {951868799999, "2000-02-29T23:59:59Z"},
        {1763947865123, "2025-11-24T01:31:05Z"},
        {4107542400000, "2100-03-01T00:00:00Z"},
        {253402300799999, "9999-12-31T23:59:59Z"},
        {INT64_MAX, "9999-12-31T23:59:59Z"},
        {-1, "1970-01-01T00:00:00Z"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct cr_text text = {0};
        tap_row(rows[i].want);
        cr_text_time(&text, rows[i].time);
        if (CHECK_UINT(text.count, strlen(rows[i].want)))
            CHECK_MEM(text.bytes, rows[i].want, text.count);
        cr_text_fini(&text);
    }
    tap_row(NULL);
}

static void text_past_its_bound_fails_and_keeps_what_it_has(void)
{
    struct cr_text text = {0};
    static char block[65536];
    for (size_t i = 0; i < CR_TEXT_BYTES_MAX / sizeof block; i++)
        cr_text_put(&text, block, sizeof block);
    CHECK(!text.failed);
    cr_text_put(&text, "a", 1);
    CHECK(text.failed);
    CHECK_UINT(text.count, CR_TEXT_BYTES_MAX);
    cr_text_clear(&text);
    cr_text_str(&text, "again");
    CHECK(!text.failed && text.count == 5);
    cr_text_fini(&text);
}

static const char *const names[] = {"user", "password", NULL};

struct form_case {
    const char *name, *body;
    size_t body_bytes;
    enum cr_status want;
    const char *user; /* NULL: not there */
    const char *password;
    size_t password_bytes;
};

#define FORM(title, body, want, user, password)                                                    \
    {                                                                                              \
        title, body, sizeof(body) - 1, want, user, password, sizeof(password) - 1                  \
    }
#define NO_FORM(title, body)                                                                       \
    {                                                                                              \
        title, body, sizeof(body) - 1, CR_E_INVALID, NULL, NULL, 0                                 \
    }

static void form_check(const struct form_case *row,
                       enum cr_status (*parse)(struct cr_http_form *, struct cr_http_text))
{
    struct cr_http_form form;
    tap_row(row->name);
    cr_http_form_init(&form, names);
    /* A copy of exactly its size, so that reading past the end is seen. */
    char *body = malloc(row->body_bytes > 0 ? row->body_bytes : 1);
    if (body == NULL)
        return;
    memcpy(body, row->body, row->body_bytes);
    enum cr_status st = parse(&form, (struct cr_http_text){body, row->body_bytes});
    free(body);
    CHECK_STATUS(st, row->want);
    if (st == CR_OK) {
        const struct cr_http_form_field *user = cr_http_form_get(&form, "user");
        const struct cr_http_form_field *password = cr_http_form_get(&form, "password");
        CHECK_STR(user != NULL ? user->bytes : NULL, row->user);
        if (CHECK_INT(password != NULL, row->password != NULL) && password != NULL &&
            CHECK_UINT(password->count, row->password_bytes))
            CHECK_MEM(password->bytes, row->password, row->password_bytes);
    }
    cr_http_form_fini(&form);
}

static void a_form_is_taken_apart(void)
{
    static const struct form_case rows[] = {
        FORM("plain", "user=alice&password=secret", CR_OK, "alice", "secret"),
        FORM("encoded", "user=gr%C3%bc&password=a+b%2B%26%3d", CR_OK, "gr\xc3\xbc", "a b+&="),
        FORM("an encoded name", "%75ser=a&password=b", CR_OK, "a", "b"),
        FORM("others are passed over", "x=1&user=a&y&password=b&z=", CR_OK, "a", "b"),
        FORM("empty values", "user=&password=", CR_OK, "", ""),
        FORM("empty pairs", "&&user=a&&password=b&&", CR_OK, "a", "b"),
        FORM("an equals sign in a value", "user=a=b&password=c", CR_OK, "a=b", "c"),
        FORM("NUL is a character", "user=a&password=b%00c", CR_OK, "a", "b\0c"), /* ASVS E8 */
        {"an empty body", "", 0, CR_OK, NULL, NULL, 0},
        NO_FORM("half an escape", "user=a&password=%4"),
        NO_FORM("an escape that is none", "user=%zz&password=b"),
        NO_FORM("a percent sign at the end", "user=a&password=b%"),
        NO_FORM("a field twice", "user=a&user=b&password=c"),
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        form_check(&rows[i], cr_http_form_urlencoded);
    tap_row(NULL);
}

/* Found by fuzzing: the letters after a % were folded, also those of the next field's name. */
static void what_stands_in_a_field_that_is_passed_over_changes_no_other(void)
{
    static const char *const added[] = {"add", NULL};
    static const char body[] = "x=%&Add=1";
    struct cr_http_form form;
    cr_http_form_init(&form, added);
    CHECK_STATUS(cr_http_form_urlencoded(&form, (struct cr_http_text){body, sizeof body - 1}),
                 CR_OK);
    CHECK(cr_http_form_get(&form, "add") == NULL);
    cr_http_form_fini(&form);
}

static void a_json_object_is_taken_apart(void)
{
    static const struct form_case rows[] = {
        FORM("plain", "{\"user\":\"alice\",\"password\":\"secret\"}", CR_OK, "alice", "secret"),
        FORM("blanks", " { \"password\" : \"b\" , \"user\" : \"a\" } \n", CR_OK, "a", "b"),
        FORM("escapes", "{\"user\":\"gr\\u00fc\",\"password\":\"\\\"\\\\\"}", CR_OK, "gr\xc3\xbc",
             "\"\\"),
        FORM("NUL is a character", "{\"user\":\"a\",\"password\":\"b\\u0000c\"}", CR_OK, "a",
             "b\0c"), /* ASVS E8 */
        FORM("others are passed over", "{\"x\":[1,{}],\"user\":\"a\",\"password\":\"\"}", CR_OK,
             "a", ""),
        {"an empty object", "{}", 2, CR_OK, NULL, NULL, 0},
        NO_FORM("nothing", ""),
        NO_FORM("half an object", "{\"user\":\"a\""),
        NO_FORM("something after it", "{} {}"),
        NO_FORM("a list", "[\"user\"]"),
        NO_FORM("a string", "\"user\""),
        NO_FORM("a number where text is meant", "{\"user\":1,\"password\":\"b\"}"),
        NO_FORM("null where text is meant", "{\"user\":\"a\",\"password\":null}"),
        NO_FORM("a member twice", "{\"user\":\"a\",\"user\":\"b\"}"),
        NO_FORM("no UTF-8", "{\"user\":\"\xff\",\"password\":\"b\"}"),
        NO_FORM("half a surrogate", "{\"user\":\"\\ud800\",\"password\":\"b\"}"),
        NO_FORM("deep", "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["),
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        form_check(&rows[i], cr_http_form_json);
    tap_row(NULL);
}

static void devices_are_called_what_people_call_them(void)
{
    static const struct {
        const char *agent, *want;
        enum cr_device device;
    } rows[] = {
        {"Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0",
         "Firefox on Linux", CR_DEVICE_COMPUTER},
        {"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
         "Chrome/131.0.0.0 Safari/537.36 Edg/131.0.0.0",
         "Edge on Windows", CR_DEVICE_COMPUTER},
        {"Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like "
         "Gecko) Version/18.1 Mobile/15E148 Safari/604.1",
         "Safari on iPhone", CR_DEVICE_PHONE},
        {"Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) "
         "Chrome/131.0.0.0 Mobile Safari/537.36",
         "Chrome on Android", CR_DEVICE_PHONE},
        {"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
         "Version/18.1 Safari/605.1.15",
         "Safari on macOS", CR_DEVICE_COMPUTER},
        {"curl/7.88.1", "curl/7.88.1", CR_DEVICE_PROGRAM},
        {"python-requests/2.28.1 (linux)", "python-requests/2.28.1", CR_DEVICE_PROGRAM},
        {"", "", CR_DEVICE_PROGRAM},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char name[64];
        tap_row(rows[i].agent);
        CHECK_INT(cr_device_describe(rows[i].agent, name, sizeof name), rows[i].device);
        CHECK_STR(name, rows[i].want);
    }
    tap_row(NULL);
}

static const struct tap_test tests[] = {
    TAP_TEST(what_came_from_outside_stays_text),
    TAP_TEST(a_time_is_written_as_rfc_3339_has_it),
    TAP_TEST(text_past_its_bound_fails_and_keeps_what_it_has),
    TAP_TEST(a_form_is_taken_apart),
    TAP_TEST(what_stands_in_a_field_that_is_passed_over_changes_no_other),
    TAP_TEST(a_json_object_is_taken_apart),
    TAP_TEST(devices_are_called_what_people_call_them),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
