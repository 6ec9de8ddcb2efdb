/* SPDX-License-Identifier: Apache-2.0 */
/* What is asked of a request's head: admission, and which token it carries. */
#include <stdio.h>
#include <string.h>

#include "http/admission.h"
#include "http/credential.h"
#include "tap.h"

#define COOKIE "__Host-cloakroom"
/* 85 characters of the form of a token. */
#define BODY "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define TOKEN_A "crs1_A" BODY
#define TOKEN_B "crs1_B" BODY

#define TEXT(literal)                                                                              \
    {                                                                                              \
        literal, sizeof(literal) - 1                                                               \
    }
#define HEADERS_MAX 4

struct head_case {
    const char *name;
    struct cr_http_text method, target;
    struct cr_http_header headers[HEADERS_MAX]; /* up to the first without name and value */
    unsigned status;                            /* 0: admitted */
};

static size_t headers_count(const struct cr_http_header *headers)
{
    size_t count = 0;
    while (count < HEADERS_MAX && headers[count].name.bytes != NULL)
        count++;
    return count;
}

static unsigned admission_status(const struct head_case *row, struct cr_http_fields *out)
{
    struct cr_http_request request = {
        .method = row->method,
        .target = row->target,
        .headers = row->headers,
        .header_count = headers_count(row->headers),
        .peer = "",
    };
    const struct cr_http_refusal *refusal = cr_http_admission(&request, out);
    return refusal != NULL ? refusal->status : 0;
}

#define GET TEXT("GET"), TEXT("/session")
#define POST TEXT("POST"), TEXT("/login")
#define HEADER(name, value)                                                                        \
    {                                                                                              \
        TEXT(name), TEXT(value)                                                                    \
    }

/* ASVS G5. */
static void a_head_that_can_be_read_in_two_ways_is_refused(void)
{
    static const struct head_case rows[] = {
        {"nothing special", GET, {HEADER("Host", "a")}, 0},
        {"no header at all", GET, {{{0}, {0}}}, 0},
        {"an empty value", GET, {HEADER("X-A", "")}, 0},
        {"a tab in a value", GET, {HEADER("X-A", "a\tb")}, 0},
        {"bytes above 127 in a value", GET, {HEADER("X-A", "a\xff\xc3\xa4")}, 0},
        {"two Host", GET, {HEADER("Host", "a"), HEADER("host", "a")}, 400},
        {"two Content-Length",
         POST,
         {HEADER("Content-Length", "2"), HEADER("content-length", "2")},
         400},
        {"a length and chunks",
         POST,
         {HEADER("Content-Length", "2"), HEADER("Transfer-Encoding", "chunked")},
         400},
        {"chunks", POST, {HEADER("Transfer-Encoding", "chunked")}, 411},
        {"another coding", POST, {HEADER("Transfer-Encoding", "gzip, chunked")}, 411},
        {"two Cookie", GET, {HEADER("Cookie", "a=b"), HEADER("Cookie", "c=d")}, 400},
        {"two Authorization",
         GET,
         {HEADER("Authorization", "Bearer a"), HEADER("Authorization", "Bearer a")},
         400},
        {"two Origin", GET, {HEADER("Origin", "null"), HEADER("origin", "null")}, 400},
        {"NUL in a value", GET, {HEADER("X-A", "a\0b")}, 400},
        {"CR in a value", GET, {HEADER("X-A", "a\rb")}, 400},
        {"LF in a value", GET, {HEADER("X-A", "a\nb")}, 400},
        {"DEL in a value", GET, {HEADER("X-A", "a\x7f")}, 400},
        {"an empty name", GET, {{{"", 0}, TEXT("a")}}, 400},
        {"a blank in a name", GET, {HEADER("X A", "a")}, 400},
        {"a blank at the end of a name", GET, {HEADER("Host ", "a")}, 400},
        {"a name that is no token", GET, {HEADER("X(A)", "a")}, 400},
        {"a name above 127", GET, {HEADER("X\xc3\xa4", "a")}, 400},
        {"NUL in a name", GET, {HEADER("X\0A", "a")}, 400},
        {"a length of 16384", POST, {HEADER("Content-Length", "16384")}, 0},
        {"a length of 16385", POST, {HEADER("Content-Length", "16385")}, 413},
        {"a length beyond numbers",
         POST,
         {HEADER("Content-Length", "99999999999999999999999999")},
         413},
        {"a length with a sign", POST, {HEADER("Content-Length", "+2")}, 400},
        {"a length twice", POST, {HEADER("Content-Length", "2, 2")}, 400},
        {"a length in hex", POST, {HEADER("Content-Length", "0x2")}, 400},
        {"a length that is empty", POST, {HEADER("Content-Length", "")}, 400},
        {"a method that is no token", TEXT("G(T"), TEXT("/"), {{{0}, {0}}}, 400},
        {"an empty method", {"", 0}, TEXT("/"), {{{0}, {0}}}, 400},
        {"an address with a host", TEXT("GET"), TEXT("http://a/"), {{{0}, {0}}}, 400},
        {"a star", TEXT("OPTIONS"), TEXT("*"), {{{0}, {0}}}, 400},
        {"a fragment", TEXT("GET"), TEXT("/#a"), {{{0}, {0}}}, 400},
        {"a blank in the address", TEXT("GET"), TEXT("/a b"), {{{0}, {0}}}, 400},
        {"NUL in the address", TEXT("GET"), TEXT("/a\0b"), {{{0}, {0}}}, 400},
        {"an address above 127", TEXT("GET"), TEXT("/\xc3\xa4"), {{{0}, {0}}}, 400},
        {"an empty address", TEXT("GET"), {"", 0}, {{{0}, {0}}}, 400},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct cr_http_fields fields;
        tap_row(rows[i].name);
        CHECK_UINT(admission_status(&rows[i], &fields), rows[i].status);
    }
    tap_row(NULL);
}

/* ASVS G8. */
static void a_head_has_bounds(void)
{
    static char filler[CR_HTTP_HEADER_BYTES_MAX + 1];
    struct cr_http_header headers[CR_HTTP_HEADERS_MAX + 1];
    struct cr_http_request request = {
        .method = TEXT("GET"), .target = TEXT("/"), .headers = headers, .peer = ""};
    struct cr_http_fields fields;
    memset(filler, 'a', sizeof filler);
    filler[0] = '/';
    for (size_t i = 0; i < CR_HTTP_HEADERS_MAX + 1; i++)
        headers[i] = (struct cr_http_header)HEADER("X-A", "a");
    request.header_count = CR_HTTP_HEADERS_MAX;
    CHECK(cr_http_admission(&request, &fields) == NULL);
    request.header_count = CR_HTTP_HEADERS_MAX + 1;
    const struct cr_http_refusal *refusal = cr_http_admission(&request, &fields);
    if (CHECK(refusal != NULL))
        CHECK_UINT(refusal->status, 431);
    request.header_count = 1;
    headers[0].value = (struct cr_http_text){filler, CR_HTTP_HEADER_BYTES_MAX - 64};
    CHECK(cr_http_admission(&request, &fields) == NULL);
    headers[0].value.count = CR_HTTP_HEADER_BYTES_MAX;
    refusal = cr_http_admission(&request, &fields);
    if (CHECK(refusal != NULL))
        CHECK_UINT(refusal->status, 431);
    request.header_count = 0;
    request.target = (struct cr_http_text){filler, CR_HTTP_TARGET_BYTES_MAX};
    CHECK(cr_http_admission(&request, &fields) == NULL);
    request.target.count++;
    refusal = cr_http_admission(&request, &fields);
    if (CHECK(refusal != NULL))
        CHECK_UINT(refusal->status, 414);
}

struct credential_case {
    const char *name, *cookie, *authorization; /* NULL: not there */
    enum { NONE, REFUSED, MALFORMED, BY_COOKIE_A, BY_BEARER_A } want;
};

static struct cr_http_text text_of(const char *string)
{
    return (struct cr_http_text){string, string != NULL ? strlen(string) : 0};
}

static void credential_check(const struct credential_case *row)
{
    struct cr_http_fields fields = {0};
    struct cr_http_credential got;
    fields.of[CR_HTTP_COOKIE] = text_of(row->cookie);
    fields.of[CR_HTTP_AUTHORIZATION] = text_of(row->authorization);
    tap_row(row->name);
    const struct cr_http_refusal *refusal = cr_http_credential_find(&fields, COOKIE, &got);
    if (!CHECK_INT(refusal != NULL, row->want == REFUSED) || refusal != NULL)
        return;
    CHECK_INT(got.present, row->want != NONE);
    CHECK_INT(got.parsed, row->want == BY_COOKIE_A || row->want == BY_BEARER_A);
    if (row->want == BY_COOKIE_A || row->want == BY_BEARER_A) {
        CHECK_STR(got.token.text, TOKEN_A);
        CHECK_INT(got.by_cookie, row->want == BY_COOKIE_A);
    }
}

/* ASVS B8: exact bytes, and whatever another reader would make ours is another cookie. */
static void the_name_of_the_cookie_is_matched_by_exact_bytes(void)
{
    static const struct credential_case rows[] = {
        {"none", NULL, NULL, NONE},
        {"an empty header", "", NULL, NONE},
        {"it alone", COOKIE "=" TOKEN_A, NULL, BY_COOKIE_A},
        {"among others", "a=b; " COOKIE "=" TOKEN_A "; c=d", NULL, BY_COOKIE_A},
        {"without the blank between pairs", "a=b;" COOKIE "=" TOKEN_A, NULL, BY_COOKIE_A},
        {"lower case", "__host-cloakroom=" TOKEN_A, NULL, NONE},
        {"upper case", "__HOST-CLOAKROOM=" TOKEN_A, NULL, NONE},
        {"a longer name", COOKIE "x=" TOKEN_A, NULL, NONE},
        {"a name before it", "x" COOKIE "=" TOKEN_A, NULL, NONE},
        {"U+2000 before it", "\xe2\x80\x80" COOKIE "=" TOKEN_A, NULL, NONE},
        {"U+00A0 before it", "\xc2\xa0" COOKIE "=" TOKEN_A, NULL, NONE},
        {"a tab before it", "a=b;\t" COOKIE "=" TOKEN_A, NULL, NONE},
        {"two blanks before it", "a=b;  " COOKIE "=" TOKEN_A, NULL, NONE},
        {"a blank after the name", COOKIE " =" TOKEN_A, NULL, NONE},
        {"an empty name", "=" COOKIE "=" TOKEN_A, NULL, NONE},
        {"no equals sign", COOKIE, NULL, NONE},
        {"$Version", "$Version=1; " COOKIE "=" TOKEN_A "; $Path=/", NULL, BY_COOKIE_A},
        {"a comma between pairs", "a=b, " COOKIE "=" TOKEN_A, NULL, NONE},
        {"a quoted pair before it", "a=\"; " COOKIE "=" TOKEN_A "; b=\"", NULL, BY_COOKIE_A},
        {"a quoted value", COOKIE "=\"" TOKEN_A "\"", NULL, MALFORMED},
        {"an empty value", COOKIE "=", NULL, MALFORMED},
        {"a blank after the value", COOKIE "=" TOKEN_A " ; a=b", NULL, MALFORMED},
        {"a session id", COOKIE "=crp_AAAAAAAAAAAAAAAAAAAAAAAA", NULL, MALFORMED},
        {"the development name", "cloakroom-dev=" TOKEN_A, NULL, NONE},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        credential_check(&rows[i]);
    tap_row(NULL);
}

/* ASVS A9. */
static void a_request_carries_one_token_or_is_refused(void)
{
    static const struct credential_case rows[] = {
        {"bearer", NULL, "Bearer " TOKEN_A, BY_BEARER_A},
        {"bearer in lower case", NULL, "bearer " TOKEN_A, BY_BEARER_A},
        {"bearer with two blanks", NULL, "Bearer  " TOKEN_A, MALFORMED},
        {"bearer without a token", NULL, "Bearer ", MALFORMED},
        {"another scheme", NULL, "Basic YTpi", NONE},
        {"another scheme and the cookie", COOKIE "=" TOKEN_A, "Basic YTpi", BY_COOKIE_A},
        {"two cookies that differ", COOKIE "=" TOKEN_A "; " COOKIE "=" TOKEN_B, NULL, REFUSED},
        {"two cookies that are the same", COOKIE "=" TOKEN_A "; " COOKIE "=" TOKEN_A, NULL,
         REFUSED},
        {"two cookies, one of them empty", COOKIE "=; " COOKIE "=" TOKEN_A, NULL, REFUSED},
        {"cookie and bearer that differ", COOKIE "=" TOKEN_A, "Bearer " TOKEN_B, REFUSED},
        {"cookie and bearer of other lengths", COOKIE "=x", "Bearer " TOKEN_A, REFUSED},
        {"cookie and bearer that are the same", COOKIE "=" TOKEN_A, "Bearer " TOKEN_A, BY_COOKIE_A},
        {"another cookie of that name in another case",
         COOKIE "=" TOKEN_A "; __host-cloakroom=" TOKEN_B, NULL, BY_COOKIE_A},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        credential_check(&rows[i]);
    tap_row(NULL);
}

static const struct tap_test tests[] = {
    TAP_TEST(a_head_that_can_be_read_in_two_ways_is_refused),
    TAP_TEST(a_head_has_bounds),
    TAP_TEST(the_name_of_the_cookie_is_matched_by_exact_bytes),
    TAP_TEST(a_request_carries_one_token_or_is_refused),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
