/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests, head and body. What is admitted is written as it would stand on a connection, and read
 * by a second reader that takes whatever any server is known to take: bare line ends, folded lines,
 * blanks around names. Where the two differ the head must have been refused (ASVS G5). And it is
 * admitted where it has none of the faults that doc/http-admission.md lists.
 *
 * Then it is answered by each surface, without a room: nobody is let in, and the reply is one that
 * can be sent (ASVS G3, F4).
 *
 * An input is a method, an address, and lines of `name:value`, then an empty line and the body.
 * 0xff stands for a line end within a line, 0xfe for a colon within a name.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "fuzz/fuzz.h"
#include "http/exchange.h"

#define HEADERS_MOST (CR_HTTP_HEADERS_MAX + 8)
#define WIRE_BYTES_MAX (4 * FUZZ_INPUT_BYTES_MAX)

static const char *const words[] = {
    "GET\n",
    "POST\n",
    "DELETE\n",
    "HEAD\n",
    "/session\n",
    "/verify\n",
    "/login\n",
    "/logout\n",
    "/sessions\n",
    "/sessions/end-others\n",
    "/sessions/crp_",
    "/users/a/sessions\n",
    "/end-all\n",
    "/users/%61/end-sessions\n",
    "/stats\n",
    "/metrics\n",
    "/healthz\n",
    "?repeat=",
    "Host:",
    "Content-Length:",
    "Transfer-Encoding:",
    "chunked",
    "Content-Type:application/json\n",
    "Content-Type:application/x-www-form-urlencoded\n",
    "Cookie:__Host-cloakroom=crs1_",
    "Authorization:Bearer crs1_",
    "Origin:",
    "Sec-Fetch-Site:same-origin\n",
    "X-Form-Token:",
    "X-Original-URI:",
    "\xff",
    "\xfe",
    "\n\n",
    "{\"user\":\"a\",\"password\":\"b\"}",
    "user=a&password=b",
    "\t",
    " ",
    NULL,
};

struct head {
    struct cr_http_request request;
    struct cr_http_header headers[HEADERS_MOST];
    struct cr_http_text body;
};

/* ---- the input as a request */

static void unescape(char *text, size_t count)
{
    for (size_t i = 0; i < count; i++)
        text[i] = text[i] == '\xff' ? '\n' : text[i] == '\xfe' ? ':' : text[i];
}

static struct cr_http_text line_next(struct fuzz_input *left)
{
    struct cr_http_text line = {"", 0};
    (void)fuzz_piece(left, '\n', &line.bytes, &line.count);
    return line;
}

static void head_read(char *text, size_t bytes, struct head *out)
{
    struct fuzz_input left = {(const unsigned char *)text, bytes};
    out->request = (struct cr_http_request){.headers = out->headers, .peer = "192.0.2.1"};
    out->request.method = line_next(&left);
    out->request.target = line_next(&left);
    while (left.left > 0 && out->request.header_count < HEADERS_MOST) {
        struct cr_http_text line = line_next(&left);
        if (line.count == 0)
            break;
        const char *colon = memchr(line.bytes, ':', line.count);
        size_t name = colon != NULL ? (size_t)(colon - line.bytes) : line.count;
        out->headers[out->request.header_count++] = (struct cr_http_header){
            {line.bytes, name},
            {line.bytes + name + (colon != NULL), line.count - name - (colon != NULL)}};
    }
    out->body = (struct cr_http_text){(const char *)left.bytes, left.left};
    /* After the cutting: what stands for an end of a line is none for us. */
    unescape(text, bytes - left.left);
}

/* ---- on a connection, and read by a reader who takes all */

struct wire {
    char bytes[WIRE_BYTES_MAX];
    size_t count;
};

static void wire_put(struct wire *wire, struct cr_http_text text)
{
    if (text.count > sizeof wire->bytes - wire->count)
        return;
    memcpy(wire->bytes + wire->count, text.bytes, text.count);
    wire->count += text.count;
}

static void wire_write(const struct cr_http_request *request, struct wire *out)
{
    static const struct cr_http_text blank = {" ", 1}, end = {"\r\n", 2}, colon = {": ", 2};
    static const struct cr_http_text version = {" HTTP/1.1", 9};
    out->count = 0;
    wire_put(out, request->method);
    wire_put(out, blank);
    wire_put(out, request->target);
    wire_put(out, version);
    wire_put(out, end);
    for (size_t i = 0; i < request->header_count; i++) {
        wire_put(out, request->headers[i].name);
        wire_put(out, colon);
        wire_put(out, request->headers[i].value);
        wire_put(out, end);
    }
    wire_put(out, end);
}

static bool is_end(char c)
{
    return c == '\n' || c == '\r' || c == '\0' || c == '\v' || c == '\f';
}

static struct cr_http_text trimmed(struct cr_http_text text)
{
    while (text.count > 0 && (text.bytes[0] == ' ' || text.bytes[0] == '\t')) {
        text.bytes++;
        text.count--;
    }
    while (text.count > 0 &&
           (text.bytes[text.count - 1] == ' ' || text.bytes[text.count - 1] == '\t'))
        text.count--;
    return text;
}

/* A line, whatever ends it; CR LF is one end. */
static bool lax_line(struct cr_http_text *left, struct cr_http_text *out)
{
    if (left->count == 0)
        return false;
    size_t count = 0;
    while (count < left->count && !is_end(left->bytes[count]))
        count++;
    *out = (struct cr_http_text){left->bytes, count};
    size_t skip = count;
    if (skip < left->count)
        skip += left->bytes[skip] == '\r' && skip + 1 < left->count && left->bytes[skip + 1] == '\n'
                    ? 2
                    : 1;
    left->bytes += skip;
    left->count -= skip;
    return true;
}

static bool text_same(struct cr_http_text a, struct cr_http_text b)
{
    return a.count == b.count && (a.count == 0 || memcmp(a.bytes, b.bytes, a.count) == 0);
}

/* The request line has three words, however many blanks are between them. */
static void lax_first(struct cr_http_text line, const struct cr_http_request *request)
{
    struct cr_http_text parts[4] = {{0}};
    size_t count = 0;
    for (size_t i = 0; i < line.count && count < 4;) {
        while (i < line.count && strchr(" \t", line.bytes[i]) != NULL)
            i++;
        size_t from = i;
        while (i < line.count && strchr(" \t", line.bytes[i]) == NULL)
            i++;
        if (i > from)
            parts[count++] = (struct cr_http_text){line.bytes + from, i - from};
    }
    fuzz_must(count == 3 && text_same(parts[0], request->method) &&
                  text_same(parts[1], request->target),
              "the request line is read the same way");
}

static void second_reading(const struct cr_http_request *request,
                           const struct cr_http_fields *fields)
{
    static struct wire wire;
    struct cr_http_text line;
    size_t count = 0, lengths = 0, codings = 0;
    wire_write(request, &wire);
    struct cr_http_text left = {wire.bytes, wire.count};
    fuzz_must(lax_line(&left, &line), "there is a request line");
    lax_first(line, request);
    while (lax_line(&left, &line) && line.count > 0) {
        fuzz_must(line.bytes[0] != ' ' && line.bytes[0] != '\t', "no line is folded");
        const char *colon = memchr(line.bytes, ':', line.count);
        fuzz_must(colon != NULL && count < request->header_count, "each line is a field");
        struct cr_http_text name = {line.bytes, (size_t)(colon - line.bytes)};
        struct cr_http_text value = {colon + 1, line.count - name.count - 1};
        const struct cr_http_header *header = &request->headers[count++];
        fuzz_must(text_same(trimmed(name), header->name), "its name is read the same way");
        fuzz_must(text_same(trimmed(value), trimmed(header->value)), "and its value");
        lengths += name.count == 14 && strncasecmp(name.bytes, "content-length", 14) == 0;
        codings += name.count == 17 && strncasecmp(name.bytes, "transfer-encoding", 17) == 0;
    }
    fuzz_must(count == request->header_count && left.count == 0, "the head ends where it ends");
    fuzz_must(codings == 0 && lengths <= 1, "the body's length is said once, or not at all");
    struct cr_http_text length = fields->of[CR_HTTP_CONTENT_LENGTH];
    fuzz_must((length.bytes != NULL) == (lengths == 1), "and it is the one that was seen");
    for (size_t i = 0; length.bytes != NULL && i < length.count; i++)
        fuzz_must(length.bytes[i] >= '0' && length.bytes[i] <= '9', "in digits alone");
}

/* ---- the faults, each looked for by itself */

static size_t named(const struct cr_http_request *request, const char *name)
{
    size_t count = 0;
    for (size_t i = 0; i < request->header_count; i++)
        count += request->headers[i].name.count == strlen(name) &&
                 strncasecmp(request->headers[i].name.bytes, name, strlen(name)) == 0;
    return count;
}

static bool has_byte(struct cr_http_text text, bool (*wrong)(unsigned char))
{
    for (size_t i = 0; i < text.count; i++)
        if (wrong((unsigned char)text.bytes[i]))
            return true;
    return false;
}

static bool not_of_token(unsigned char c)
{
    return c <= ' ' || c >= 0x7f || strchr("\"(),/:;<=>?@[\\]{}", c) != NULL;
}

static bool not_of_value(unsigned char c)
{
    return (c < ' ' && c != '\t') || c == 0x7f;
}

static bool not_of_target(unsigned char c)
{
    return c <= ' ' || c >= 0x7f || c == '#';
}

static bool length_is_wrong(const struct cr_http_request *request)
{
    for (size_t i = 0; i < request->header_count; i++) {
        struct cr_http_text value = trimmed(request->headers[i].value);
        uint64_t number = 0;
        if (request->headers[i].name.count != 14 ||
            strncasecmp(request->headers[i].name.bytes, "content-length", 14) != 0)
            continue;
        if (value.count == 0)
            return true;
        for (size_t k = 0; k < value.count; k++) {
            if (value.bytes[k] < '0' || value.bytes[k] > '9')
                return true;
            number = number * 10 + (uint64_t)(value.bytes[k] - '0');
            if (number > CR_HTTP_BODY_BYTES_MAX)
                return true;
        }
    }
    return false;
}

static bool has_fault(const struct cr_http_request *request)
{
    static const char *const once[] = {"host",           "cookie",         "authorization",
                                       "content-type",   "content-length", "origin",
                                       "sec-fetch-site", "user-agent",     "x-form-token"};
    size_t bytes = request->method.count + request->target.count + 12;
    if (request->method.count == 0 || has_byte(request->method, not_of_token) ||
        request->target.count == 0 || request->target.count > CR_HTTP_TARGET_BYTES_MAX ||
        request->target.bytes[0] != '/' || has_byte(request->target, not_of_target) ||
        request->header_count > CR_HTTP_HEADERS_MAX || named(request, "transfer-encoding") > 0 ||
        length_is_wrong(request))
        return true;
    for (size_t i = 0; i < sizeof once / sizeof once[0]; i++)
        if (named(request, once[i]) > 1)
            return true;
    for (size_t i = 0; i < request->header_count; i++) {
        const struct cr_http_header *header = &request->headers[i];
        bytes += header->name.count + header->value.count + 4;
        if (header->name.count == 0 || has_byte(header->name, not_of_token) ||
            has_byte(header->value, not_of_value))
            return true;
    }
    return bytes > CR_HTTP_HEADER_BYTES_MAX;
}

/* ---- the answer */

static struct cr_http_site sites[CR_HTTP_SURFACES];
static struct cr_http_exchange *exchanges[CR_HTTP_SURFACES];

static bool begin(void)
{
    for (int i = 0; i < CR_HTTP_SURFACES; i++) {
        sites[i] = (struct cr_http_site){.on_login = CR_POLICY_KEEP,
                                         .clock = cr_clock_system(),
                                         .surface = (enum cr_http_surface)i};
        exchanges[i] = cr_http_exchange_create(&sites[i]);
        if (exchanges[i] == NULL)
            return false;
    }
    return true;
}

static bool path_is(const struct cr_http_request *request, const char *path)
{
    const char *mark = memchr(request->target.bytes, '?', request->target.count);
    size_t count = mark != NULL ? (size_t)(mark - request->target.bytes) : request->target.count;
    return count == strlen(path) && memcmp(request->target.bytes, path, count) == 0;
}

/* What needs nobody's session. */
static bool is_open_to_all(enum cr_http_surface surface, const struct cr_http_request *request)
{
    static const char *const paths[] = {"/login", "/style.css", "/icon.svg", "/metrics",
                                        "/healthz"};
    for (size_t i = surface == CR_HTTP_MONITOR ? 3 : 0; i < (surface == CR_HTTP_MONITOR ? 5 : 3);
         i++)
        if (path_is(request, paths[i]))
            return true;
    return false;
}

static void reply_check(enum cr_http_surface surface, const struct cr_http_request *request,
                        const struct cr_http_reply *reply)
{
    fuzz_must(reply->status >= 200 && reply->status <= 599, "a status is one");
    fuzz_must(reply->status >= 300 || is_open_to_all(surface, request),
              "without a store nobody is let in");
    for (size_t i = 0; i < reply->header_count; i++)
        fuzz_must(reply->headers[i].value[strcspn(reply->headers[i].value, "\r\n")] == '\0',
                  "a header is one line");
    fuzz_must((reply->type == NULL) <= (reply->body.count == 0), "a body has a type");
}

static void answer_check(const struct head *head, bool admitted)
{
    for (int i = 0; i < CR_HTTP_SURFACES; i++) {
        struct cr_http_exchange *x = exchanges[i];
        cr_http_exchange_reset(x);
        bool goes_on = cr_http_admit(x, &head->request);
        fuzz_must(admitted || !goes_on, "no surface admits what is refused");
        if (goes_on && cr_http_start(x, NULL, head->body) != CR_HTTP_REPLY)
            fuzz_must(false, "without a store nothing is waited for");
        const struct cr_http_reply *reply = cr_http_reply(x);
        reply_check((enum cr_http_surface)i, &head->request, reply);
        fuzz_must(goes_on || (reply->status >= 400 && reply->close), "what is refused is closed");
    }
}

static void one(const unsigned char *data, size_t bytes)
{
    static struct head head;
    struct cr_http_fields fields;
    char *text = malloc(bytes + 1);
    if (text == NULL || bytes > FUZZ_INPUT_BYTES_MAX)
        goto out;
    memcpy(text, data, bytes);
    head_read(text, bytes, &head);
    const struct cr_http_refusal *refusal = cr_http_admission(&head.request, &fields);
    fuzz_must((refusal != NULL) == has_fault(&head.request), "refused is what has a fault");
    if (refusal == NULL) {
        second_reading(&head.request, &fields);
        fuzz_taken();
    } else {
        unsigned status = refusal->status;
        fuzz_must(status == 400 || status == 411 || status == 413 || status == 414 || status == 431,
                  "its status is one of these");
        fuzz_must(refusal->why[0] != '\0', "it says why");
        fuzz_refused();
    }
    answer_check(&head, refusal == NULL);
out:
    free(text);
}

const struct fuzz_target fuzz_admission = {"admission", words, begin, one};
