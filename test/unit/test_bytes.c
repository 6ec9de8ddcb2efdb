/* SPDX-License-Identifier: Apache-2.0 */
/* base64url, hex, UTF-8, labels. */
#include "base/bytes.h"

#include <string.h>

#include "tap.h"

#define ROWS(table) (sizeof(table) / sizeof(table)[0])
#define BYTES(text) (const unsigned char *)(text), sizeof(text) - 1

static void base64url_has_its_known_answers(void)
{
    static const struct {
        const char *bytes, *text;
    } rows[] = {
        {"\x00\x00\x00", "AAAA"}, {"\xff\xff\xff", "____"}, {"\xfb\xef\xbe", "----"},
        {"Man", "TWFu"},          {"foobar", "Zm9vYmFy"},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        char text[9] = {0};
        unsigned char bytes[6];
        size_t chars = strlen(rows[i].text);
        size_t count = chars / 4 * 3;
        tap_row(rows[i].text);
        cr_base64_encode((const unsigned char *)rows[i].bytes, count, text);
        CHECK_STR(text, rows[i].text);
        if (CHECK(cr_base64_decode(rows[i].text, chars, bytes)))
            CHECK_MEM(bytes, rows[i].bytes, count);
    }
}

static void base64url_encodes_without_a_byte_more(void)
{
    char text[5] = "....!";
    cr_base64_encode((const unsigned char *)"abc", 3, text);
    CHECK_MEM(text, "YWJj!", 5);
}

/* Of the 256 characters exactly 64 stand for something, at each place of a group. */
static void base64url_takes_its_64_characters_only(void)
{
    for (size_t place = 0; place < 4; place++) {
        size_t taken = 0;
        for (unsigned c = 0; c < 256; c++) {
            char text[4] = {'A', 'A', 'A', 'A'};
            unsigned char bytes[3];
            text[place] = (char)c;
            taken += cr_base64_decode(text, sizeof text, bytes);
        }
        CHECK_UINT(taken, 64);
    }
}

static void base64url_takes_whole_groups_only(void)
{
    unsigned char bytes[6];
    for (size_t chars = 0; chars < 8; chars++)
        CHECK(cr_base64_decode("Zm9vYmFy", chars, bytes) == (chars % 4 == 0));
    CHECK(!cr_base64_decode("Zm9=", 4, bytes));
    CHECK(!cr_base64_decode("Zm 9", 4, bytes));
}

static void hex_is_lower_case_there_and_back(void)
{
    static const unsigned char bytes[] = {0x00, 0x0f, 0xa0, 0xff};
    char text[9];
    unsigned char back[4];
    cr_hex_encode(bytes, sizeof bytes, text);
    CHECK_STR(text, "000fa0ff");
    if (CHECK(cr_hex_decode(text, 8, back)))
        CHECK_MEM(back, bytes, sizeof bytes);
    CHECK(!cr_hex_decode("000fa0f", 7, back));
    CHECK(!cr_hex_decode("0G", 2, back));
    CHECK(!cr_hex_decode("0A", 2, back));
    CHECK(!cr_hex_decode("0:", 2, back));
    CHECK(!cr_hex_decode("`0", 2, back));
}

static void text_is_clean_when_it_is_utf8_without_control_characters(void)
{
    static const struct {
        const char *name;
        const unsigned char *text;
        size_t length;
        bool want;
    } rows[] = {
        {"nothing", BYTES(""), true},
        {"plain", BYTES("anna@example.org ~"), true},
        {"two bytes", BYTES("\xc3\xa9"), true},
        {"three bytes", BYTES("\xe2\x82\xac"), true},
        {"four bytes", BYTES("\xf0\x9f\x98\x80"), true},
        {"the last before the surrogates", BYTES("\xed\x9f\xbf"), true},
        {"the first after the surrogates", BYTES("\xee\x80\x80"), true},
        {"the last of all", BYTES("\xf4\x8f\xbf\xbf"), true},
        {"the first after C1", BYTES("\xc2\xa0"), true},
        {"NUL", BYTES("a\0b"), false},
        {"newline", BYTES("a\n"), false},
        {"escape", BYTES("\x1b[31m"), false},
        {"DEL", BYTES("\x7f"), false},
        {"first of C1", BYTES("\xc2\x80"), false},
        {"last of C1", BYTES("\xc2\x9f"), false},
        {"a line separator", BYTES("\xe2\x80\xa8"), false},
        {"the text after it runs backwards", BYTES("\xe2\x80\xae"), false},
        {"an isolate that does so", BYTES("\xe2\x81\xa7"), false},
        {"an en dash and an ellipsis", BYTES("\xe2\x80\x93\xe2\x80\xa6"), true},
        {"Hebrew", BYTES("\xd7\xa9\xd7\x9c"), true},
        {"continuation alone", BYTES("\x80"), false},
        {"Latin-1", BYTES("caf\xe9"), false},
        {"Latin-1 before more", BYTES("caf\xe9 au lait"), false},
        {"cut after one of two", BYTES("\xc3"), false},
        {"cut after two of three", BYTES("\xe2\x82"), false},
        {"cut after three of four", BYTES("\xf0\x9f\x98"), false},
        {"slash in two bytes", BYTES("\xc0\xaf"), false},
        {"NUL in two bytes", BYTES("\xc0\x80"), false},
        {"slash in three bytes", BYTES("\xe0\x80\xaf"), false},
        {"too long for two", BYTES("\xe0\x9f\xbf"), false},
        {"too long for three", BYTES("\xf0\x8f\xbf\xbf"), false},
        {"first surrogate", BYTES("\xed\xa0\x80"), false},
        {"last surrogate", BYTES("\xed\xbf\xbf"), false},
        {"beyond the last", BYTES("\xf4\x90\x80\x80"), false},
        {"five bytes", BYTES("\xf8\x88\x80\x80\x80"), false},
        {"FE", BYTES("\xfe"), false},
        {"FF", BYTES("\xff"), false},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        tap_row(rows[i].name);
        CHECK(cr_text_is_clean(rows[i].text, rows[i].length) == rows[i].want);
    }
}

/* All code points there are, encoded the plain way. */
static void every_character_is_read_as_what_it_is(void)
{
    size_t wrong = 0;
    for (uint32_t code = 0; code <= 0x110000; code++) {
        unsigned char text[4];
        size_t count = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
        static const unsigned char lead[] = {0, 0x00, 0xc0, 0xe0, 0xf0};
        for (size_t i = 0; i < count; i++)
            text[i] = (unsigned char)((i == 0 ? lead[count] : 0x80) |
                                      (code >> 6 * (count - 1 - i) & (i == 0 ? 0x7f : 0x3f)));
        bool exists = code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
        uint32_t got = 0;
        wrong += cr_utf8_next(text, count, &got) != (exists ? count : 0);
        wrong += exists && got != code;
    }
    CHECK_UINT(wrong, 0);
}

static void a_label_is_cut_between_characters_and_cleaned(void)
{
    static const struct {
        const char *name;
        size_t capacity;
        const char *text;
        size_t length;
        const char *want;
    } rows[] = {
        {"it fits", 8, "Firefox", 7, "Firefox"},
        {"one too long", 7, "Firefox", 7, "Firefo"},
        {"room for the end only", 1, "Firefox", 7, ""},
        {"no text", 8, NULL, 0, ""},
        {"two bytes do not fit", 4, "ab\xc3\xa9", 4, "ab"},
        {"two bytes fit", 5, "ab\xc3\xa9", 4, "ab\xc3\xa9"},
        {"four bytes do not fit", 4, "\xf0\x9f\x98\x80", 4, ""},
        {"controls", 8, "a\r\n\x1b\x7f", 5, "a????"},
        {"a control of two bytes", 8, "a\xc2\x85z", 4, "a?z"},
        {"backwards", 8,
         "\xe2\x80\xae"
         "evil",
         7, "?evil"}, /* F8 */
        {"a NUL", 8, "a\0b", 3, "a?b"},
        {"Latin-1", 8, "caf\xe9s", 5, "caf?s"},
        {"half a character", 8, "a\xe2\x82", 3, "a??"},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        char out[9];
        memset(out, '#', sizeof out);
        tap_row(rows[i].name);
        cr_label_copy(out, rows[i].capacity, rows[i].text, rows[i].length);
        CHECK_STR(out, rows[i].want);
        CHECK(out[rows[i].capacity] == '#');
        CHECK(cr_text_is_clean((const unsigned char *)out, strlen(out)));
    }
}

static void bytes_are_compared_wiped_and_looked_through_to_the_last(void)
{
    unsigned char a[33] = {0}, b[33] = {0};
    CHECK(cr_bytes_are_zero(a, sizeof a));
    CHECK(cr_bytes_equal(a, b, sizeof a));
    a[32] = 1;
    CHECK(!cr_bytes_are_zero(a, sizeof a));
    CHECK(!cr_bytes_equal(a, b, sizeof a));
    CHECK(cr_bytes_equal(a, b, sizeof a - 1));
    memset(a, 0xaa, sizeof a);
    cr_bytes_wipe(a, sizeof a - 1);
    CHECK(cr_bytes_are_zero(a, sizeof a - 1));
    CHECK_UINT(a[32], 0xaa);
}

static const struct tap_test tests[] = {
    TAP_TEST(base64url_has_its_known_answers),
    TAP_TEST(base64url_encodes_without_a_byte_more),
    TAP_TEST(base64url_takes_its_64_characters_only),
    TAP_TEST(base64url_takes_whole_groups_only),
    TAP_TEST(hex_is_lower_case_there_and_back),
    TAP_TEST(text_is_clean_when_it_is_utf8_without_control_characters),
    TAP_TEST(every_character_is_read_as_what_it_is),
    TAP_TEST(a_label_is_cut_between_characters_and_cleaned),
    TAP_TEST(bytes_are_compared_wiped_and_looked_through_to_the_last),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
