/* SPDX-License-Identifier: Apache-2.0 */
/* The public small values: statuses, ids, users, tokens, reasons. */
#include <cloakroom/types.h>

#include <string.h>

#include "tap.h"

#define ROWS(table) (sizeof(table) / sizeof(table)[0])

#define ID24 "abcdefghijklmnopqrstuvwx"
#define BODY80 ID24 ID24 ID24 "ABCDEFGH"

static void every_status_has_its_name_and_text(void)
{
    CHECK_STR(cr_status_name(CR_OK), "CR_OK");
    CHECK_STR(cr_status_name(CR_E_PROTOCOL), "CR_E_PROTOCOL");
    CHECK_STR(cr_status_text(CR_OK), "done");
    CHECK_STR(cr_status_text(CR_ENDED), "the session has ended");
    for (enum cr_status st = CR_OK; st <= CR_CHANGE_FIRST; st++) {
        CHECK(strncmp(cr_status_name(st), "CR_", 3) == 0);
        CHECK(strlen(cr_status_text(st)) > 3);
        for (enum cr_status other = CR_OK; other < st; other++) {
            CHECK(strcmp(cr_status_name(st), cr_status_name(other)) != 0);
            CHECK(strcmp(cr_status_text(st), cr_status_text(other)) != 0);
        }
    }
    CHECK(cr_status_name((enum cr_status)999) != NULL);
    CHECK(cr_status_text((enum cr_status)999) != NULL);
}

/* They travel over the agent's socket: what an older library knows must stay as it is. */
static void the_numbers_of_statuses_and_reasons_stay(void)
{
    CHECK_INT(CR_OK, 0);
    CHECK_INT(CR_UNAVAILABLE, 8);
    CHECK_INT(CR_E_INVALID, 11);
    CHECK_INT(CR_E_PROTOCOL, 19);
    CHECK_INT(CR_LIMITED, 20);
    CHECK_INT(CR_CHANGE_FIRST, 24);
    CHECK_INT(CR_REASON_UPGRADED, 10);
    CHECK_INT(CR_REASON_ROTATED, 12);
}

static void every_reason_has_its_word(void)
{
    CHECK_STR(cr_reason_name(CR_REASON_REPLACED), "replaced");
    for (enum cr_reason reason = CR_REASON_NONE; reason <= CR_REASON_ROTATED; reason++) {
        CHECK(strcmp(cr_reason_name(reason), "unknown") != 0);
        for (enum cr_reason other = CR_REASON_NONE; other < reason; other++)
            CHECK(strcmp(cr_reason_name(reason), cr_reason_name(other)) != 0);
    }
    CHECK_STR(cr_reason_name((enum cr_reason)200), "unknown");
}

struct text_row {
    const char *name;
    const char *text;
    size_t length;
    enum cr_status want;
};
#define TEXT_ROW(name, text, want)                                                                 \
    {                                                                                              \
        name, text, sizeof(text) - 1, want                                                         \
    }

static void an_id_is_read_from_its_text_only(void)
{
    static const struct text_row rows[] = {
        TEXT_ROW("letters", "crp_" ID24, CR_OK),
        TEXT_ROW("all of the alphabet's ends", "crp_AZaz09-_AZaz09-_AZaz09-_", CR_OK),
        TEXT_ROW("nothing", "", CR_E_INVALID),
        TEXT_ROW("prefix alone", "crp_", CR_E_INVALID),
        TEXT_ROW("one short", "crp_abcdefghijklmnopqrstuvw", CR_E_INVALID),
        TEXT_ROW("one long", "crp_" ID24 "y", CR_E_INVALID),
        TEXT_ROW("without prefix", "abcd" ID24, CR_E_INVALID),
        TEXT_ROW("prefix in capitals", "CRP_" ID24, CR_E_INVALID),
        TEXT_ROW("standard base64 plus", "crp_+bcdefghijklmnopqrstuvwx", CR_E_INVALID),
        TEXT_ROW("standard base64 slash", "crp_/bcdefghijklmnopqrstuvwx", CR_E_INVALID),
        TEXT_ROW("padding", "crp_abcdefghijklmnopqrstuvw=", CR_E_INVALID),
        TEXT_ROW("space", "crp_ bcdefghijklmnopqrstuvwx", CR_E_INVALID),
        TEXT_ROW("NUL", "crp_abcdefghijklmnopqrstuv\0x", CR_E_INVALID),
        TEXT_ROW("newline at the end", "crp_abcdefghijklmnopqrstuvw\n", CR_E_INVALID),
        TEXT_ROW("above 127",
                 "crp_\xc1"
                 "bcdefghijklmnopqrstuvwx",
                 CR_E_INVALID),
        TEXT_ROW("a token", "crs1_" BODY80, CR_E_INVALID),
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct cr_session_id id = {.text = "untouched"};
        tap_row(rows[i].name);
        CHECK_STATUS(cr_session_id_parse(rows[i].text, rows[i].length, &id), rows[i].want);
        CHECK_STR(id.text, rows[i].want == CR_OK ? rows[i].text : "untouched");
    }
}

static void a_token_is_read_by_length_and_prefix(void)
{
    static const struct text_row rows[] = {
        TEXT_ROW("of the form", "crs1_" BODY80, CR_OK),
        TEXT_ROW("nothing", "", CR_E_INVALID),
        TEXT_ROW("one short", "crs1_" ID24 ID24 ID24 "ABCDEFG", CR_E_INVALID),
        TEXT_ROW("truncated", "crs1_" ID24 ID24 ID24, CR_E_INVALID),
        TEXT_ROW("one long", "crs1_" BODY80 "I", CR_E_INVALID),
        TEXT_ROW("another version", "crs2_" BODY80, CR_E_INVALID),
        TEXT_ROW("an id", "crp_" ID24, CR_E_INVALID),
        TEXT_ROW("as long, prefix of an id", "crp_a" BODY80, CR_E_INVALID),
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct cr_token token = {.text = "untouched"};
        tap_row(rows[i].name);
        CHECK_STATUS(cr_token_parse(rows[i].text, rows[i].length, &token), rows[i].want);
        CHECK_STR(token.text, rows[i].want == CR_OK ? rows[i].text : "untouched");
    }
}

static void a_user_is_any_bytes_but_the_text_of_an_id_or_a_token(void)
{
    static const char long_user[CR_USER_BYTES_MAX + 1] = {[0] = 'u'};
    static const struct text_row rows[] = {
        TEXT_ROW("a name", "anna", CR_OK),
        TEXT_ROW("one byte", "a", CR_OK),
        TEXT_ROW("NUL and bytes above 127", "a\0\xff\x01", CR_OK),
        {"128 bytes", long_user, CR_USER_BYTES_MAX, CR_OK},
        {"129 bytes", long_user, CR_USER_BYTES_MAX + 1, CR_E_INVALID},
        TEXT_ROW("nothing", "", CR_E_INVALID),
        TEXT_ROW("a session id", "crp_" ID24, CR_E_INVALID),
        TEXT_ROW("a token", "crs1_" BODY80, CR_E_INVALID),
        TEXT_ROW("a session id cut short", "crp_abc", CR_E_INVALID),
        TEXT_ROW("a token cut short", "crs1_", CR_E_INVALID),
        TEXT_ROW("nearly the prefix of an id", "crp", CR_OK),
        TEXT_ROW("nearly the prefix of a token", "crs1", CR_OK),
        TEXT_ROW("the prefix in the middle", "acrp_x", CR_OK),
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct cr_user user = {.length = 77};
        tap_row(rows[i].name);
        CHECK_STATUS(cr_user_parse(rows[i].text, rows[i].length, &user), rows[i].want);
        if (rows[i].want != CR_OK) {
            CHECK_UINT(user.length, 77);
            continue;
        }
        CHECK_UINT(user.length, rows[i].length);
        CHECK_MEM(user.bytes, rows[i].text, rows[i].length);
    }
}

static void users_are_compared_by_length_and_bytes(void)
{
    static const struct {
        const char *name;
        struct cr_user a, b;
        bool want;
    } rows[] = {
        {"the same", {3, "abc"}, {3, "abc"}, true},
        {"what lies behind the length does not count", {3, "abcx"}, {3, "abcy"}, true},
        {"case counts", {3, "abc"}, {3, "abC"}, false},
        {"a beginning is another", {3, "abc"}, {2, "ab"}, false},
        {"a NUL counts", {3, "a\0b"}, {3, "a\0c"}, false},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        tap_row(rows[i].name);
        CHECK(cr_user_equal(&rows[i].a, &rows[i].b) == rows[i].want);
        CHECK(cr_user_equal(&rows[i].b, &rows[i].a) == rows[i].want);
    }
}

static void ids_are_compared_to_their_last_character(void)
{
    struct cr_session_id a = {.text = "crp_" ID24}, b = a;
    CHECK(cr_session_id_equal(&a, &b));
    b.text[CR_SESSION_ID_CHARS - 1] = 'X';
    CHECK(!cr_session_id_equal(&a, &b));
}

static void a_wiped_token_is_gone(void)
{
    struct cr_token token = {.text = "crs1_" BODY80};
    static const struct cr_token zero;
    cr_token_wipe(&token);
    CHECK_MEM(&token, &zero, sizeof token);
    cr_token_wipe(NULL);
}

static const struct tap_test tests[] = {
    TAP_TEST(every_status_has_its_name_and_text),
    TAP_TEST(the_numbers_of_statuses_and_reasons_stay),
    TAP_TEST(every_reason_has_its_word),
    TAP_TEST(an_id_is_read_from_its_text_only),
    TAP_TEST(a_token_is_read_by_length_and_prefix),
    TAP_TEST(a_user_is_any_bytes_but_the_text_of_an_id_or_a_token),
    TAP_TEST(users_are_compared_by_length_and_bytes),
    TAP_TEST(ids_are_compared_to_their_last_character),
    TAP_TEST(a_wiped_token_is_gone),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
