/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the HTTP library leaves out is seen by where its pieces lie. Each row is the head as it came
 * and the pieces as libmicrohttpd 0.9.75 gives them out; test_http_admission.py has the real one.
 */
#include <string.h>

#include "server/layout.h"
#include "tap.h"

#define VALUES_MAX 3

struct layout_case {
    const char *name, *head;
    size_t head_bytes;
    /* Where each piece begins in the head, and the length that the library gives it. */
    size_t target, target_bytes, version;
    struct {
        size_t name, name_bytes, value, value_bytes;
    } headers[VALUES_MAX];
    size_t count;
    bool plain;
};

#define HEAD(literal) literal, sizeof(literal) - 1

static const struct layout_case rows[] = {
    {"plain",
     HEAD("GET\0/a\0HTTP/1.1\0\0Host\0 x\0\0X\0\0\0\0\0"),
     4,
     2,
     7,
     {{17, 4, 23, 1}, {26, 1, 28, 0}},
     2,
     true},
    {"no headers", HEAD("GET\0/\0HTTP/1.0\0\0\0\0"), 4, 1, 6, {{0}}, 0, true},
    {"a value cut at its NUL",
     HEAD("GET\0/\0HTTP/1.1\0\0X\0 a\0b\0\0\0\0"),
     4,
     1,
     6,
     {{16, 1, 19, 1}},
     1,
     false},
    {"a bare LF after a value",
     HEAD("GET\0/\0HTTP/1.1\0\0X\0a\0Y\0b\0\0\0\0"),
     4,
     1,
     6,
     {{16, 1, 18, 1}, {20, 1, 22, 1}},
     2,
     false},
    {"a bare LF after the first line",
     HEAD("GET\0/\0HTTP/1.1\0X\0a\0\0\0\0"),
     4,
     1,
     6,
     {{15, 1, 17, 1}},
     1,
     false},
    {"a bare LF at the end",
     HEAD("GET\0/\0HTTP/1.1\0\0X\0a\0\0\0"),
     4,
     1,
     6,
     {{16, 1, 18, 1}},
     1,
     false},
    {"two blanks after the method", HEAD("GET\0 /\0HTTP/1.1\0\0\0\0"), 5, 1, 7, {{0}}, 0, false},
    {"a target cut at its NUL", HEAD("GET\0/a\0b\0HTTP/1.1\0\0\0\0"), 4, 2, 9, {{0}}, 0, false},
    /* The folded part went to a copy of the name, at the end of the library's memory. */
    {"a folded line",
     HEAD("GET\0/\0HTTP/1.1\0\0X\0a\0\0 b\0\0\0\0Xb"),
     4,
     1,
     6,
     {{27, 2, 18, 1}},
     1,
     false},
};

static void what_was_left_out_of_a_head_is_seen(void)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct layout_case *row = &rows[i];
        struct cr_http_header headers[VALUES_MAX];
        struct cr_layout layout = {
            .method = row->head,
            .target = row->head + row->target,
            .target_bytes = row->target_bytes,
            .version = row->head + row->version,
            .head_bytes = row->head_bytes,
        };
        for (size_t k = 0; k < row->count; k++)
            headers[k] = (struct cr_http_header){
                .name = {row->head + row->headers[k].name, row->headers[k].name_bytes},
                .value = {row->head + row->headers[k].value, row->headers[k].value_bytes},
            };
        tap_row(row->name);
        CHECK_INT(cr_layout_check(&layout, headers, row->count) == NULL, row->plain);
    }
    tap_row(NULL);
}

static void a_library_that_is_not_known_is_not_trusted_to_parse_in_place(void)
{
    CHECK(cr_layout_is_known("0.9.75"));
    CHECK(!cr_layout_is_known("1.0.1"));
}

static const struct tap_test tests[] = {
    TAP_TEST(what_was_left_out_of_a_head_is_seen),
    TAP_TEST(a_library_that_is_not_known_is_not_trusted_to_parse_in_place),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
