/* SPDX-License-Identifier: Apache-2.0 */
/* What a new password must be (ASVS E8 to E10), and the lists of common ones. */
#include "auth/password.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "auth/common.h"
#include "tap.h"

static struct cr_user user_of(const char *name)
{
    struct cr_user user;
    CHECK_STATUS(cr_user_parse(name, strlen(name), &user), CR_OK);
    return user;
}

static enum cr_status judge(const struct cr_password_rules *rules, const char *name,
                            const char *password)
{
    struct cr_user user = user_of(name);
    return cr_password_judge(rules, &user, password, strlen(password));
}

/* E8, E10. */
static void length_is_in_characters_and_nothing_else_is_asked_for(void)
{
    static const struct {
        const char *name, *password;
        enum cr_status want;
    } rows[] = {
        {"14", "ab cd ef gh ij", CR_PASSWORD_SHORT},
        {"15, all small letters", "kwqtrfnbxmplsdz", CR_OK},
        {"15, all digits", "309518264750913", CR_OK},
        {"15, every other one a blank", "q x m z p k w t", CR_OK},
        {"14 of two bytes each",
         "\xc3\xa4\xc3\xb6\xc3\xbc\xc3\x9f\xc3\xa9\xc3\xa8\xc3\xa0\xc3\xb4\xc3\xb2\xc3\xb9\xc3\xa7"
         "\xc3\xb1\xc3\xb5\xc3\xa3",
         CR_PASSWORD_SHORT},
        {"15 of two bytes each",
         "\xc3\xa4\xc3\xb6\xc3\xbc\xc3\x9f\xc3\xa9\xc3\xa8\xc3\xa0\xc3\xb4\xc3\xb2\xc3\xb9\xc3\xa7"
         "\xc3\xb1\xc3\xb5\xc3\xa3\xc3\xab",
         CR_OK},
    };
    static const struct cr_password_rules eight = {.chars_min = 8};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        tap_row(rows[i].name);
        CHECK_STATUS(judge(&(struct cr_password_rules){0}, "anna", rows[i].password), rows[i].want);
    }
    CHECK_STATUS(judge(&eight, "anna", "abqdefg"), CR_PASSWORD_SHORT);
    CHECK_STATUS(judge(&eight, "anna", "akqdtfrh"), CR_OK);
}

/* E9. In whatever case, also over and over; the floor's 8 characters let none of them in. */
static void every_common_password_is_refused(void)
{
    static const struct cr_password_rules floor = {.chars_min = CR_PASSWORD_CHARS_FLOOR};
    const char *at = cr_common_passwords;
    const char *end = cr_common_passwords + cr_common_passwords_bytes;
    struct cr_user anna = user_of("anna");
    size_t count = 0;
    size_t of_length = 0;
    while (at < end) {
        unsigned char typed[64];
        const char *line_end = memchr(at, '\n', (size_t)(end - at));
        if (!CHECK(line_end != NULL) || !CHECK((size_t)(line_end - at) < sizeof typed / 2))
            return;
        size_t bytes = (size_t)(line_end - at);
        memcpy(typed, at, bytes);
        if (typed[0] >= 'a' && typed[0] <= 'z')
            typed[0] = (unsigned char)(typed[0] - 'a' + 'A');
        enum cr_status want =
            bytes < CR_PASSWORD_CHARS_FLOOR ? CR_PASSWORD_SHORT : CR_PASSWORD_COMMON;
        if (cr_password_judge(&floor, &anna, typed, bytes) != want)
            CHECK_STR((const char *)typed, "refused");
        memcpy(typed + bytes, typed, bytes);
        want = 2 * bytes < CR_PASSWORD_CHARS_FLOOR ? CR_PASSWORD_SHORT : CR_PASSWORD_COMMON;
        if (cr_password_judge(&floor, &anna, typed, 2 * bytes) != want)
            CHECK_STR((const char *)typed, "refused when it is doubled");
        count++;
        of_length += bytes >= CR_PASSWORD_CHARS_FLOOR;
        at = line_end + 1;
    }
    tap_note("%zu, of which %zu have 8 characters or more", count, of_length);
    CHECK(count >= 10000 && of_length >= 3000);
}

static void what_is_easily_thought_of_is_refused(void)
{
    static const struct {
        const char *user, *password;
        enum cr_status want;
    } rows[] = {
        {"anna", "passwordpassword", CR_PASSWORD_COMMON},
        {"anna", "PassWordPassWordPass", CR_PASSWORD_COMMON}, /* the last time cut off */
        {"anna", "aaaaaaaaaaaaaaaaaaa", CR_PASSWORD_COMMON},
        {"anna", "x1y2x1y2x1y2x1y2", CR_PASSWORD_COMMON},
        {"anna", "1qaz2wsx3edc4rfv", CR_PASSWORD_COMMON},
        {"anna", "1QAZ2WSX3EDC4RFV", CR_PASSWORD_COMMON},
        {"anna", "annaannaannaanna", CR_PASSWORD_KNOWN},
        {"anna@example.org", "Anna@Example.org", CR_PASSWORD_KNOWN},
        {"anna", "anna@example.org", CR_OK}, /* whole passwords are compared, no parts of them */
        {"anna", "password for the bank", CR_OK},
        /* What stands around a word, and runs, add nothing. */
        {"anna", "1qaz2wsx3edc4rfv!", CR_PASSWORD_COMMON},
        {"anna", "password123456!", CR_PASSWORD_COMMON},
        {"anna", "Password2026!!!", CR_PASSWORD_COMMON},
        {"anna", "!!password 1984!", CR_PASSWORD_COMMON},
        {"anna", "password password", CR_PASSWORD_COMMON},
        {"anna", "Password-Password-1", CR_PASSWORD_COMMON},
        {"anna", "password1password1", CR_PASSWORD_COMMON},
        {"anna", "111monkeymonkey1", CR_PASSWORD_COMMON},
        {"anna", "1234567890123456", CR_PASSWORD_COMMON},
        {"anna", "0987654321098765", CR_PASSWORD_COMMON},
        {"anna", "qwertyuiopasdfgh", CR_PASSWORD_COMMON},
        {"anna", "poiuytrewqlkjhgf", CR_PASSWORD_COMMON},
        {"anna", "qwertzuiop12345!", CR_PASSWORD_COMMON},
        {"anna", "1qaz2wsx3edc4rfv5tgb", CR_PASSWORD_COMMON},
        {"anna", "abcdefg 12345678", CR_PASSWORD_COMMON},
        {"anna", "aaaabbbbccccdddd", CR_PASSWORD_COMMON},
        {"anna", "aaaaaaaaaaaaaaab", CR_PASSWORD_COMMON},
        {"anna", "Cloakroom123456", CR_PASSWORD_COMMON},
        {"anna", "cloakroomcloakroom", CR_PASSWORD_COMMON},
        {"anna", "The Museum 2026!", CR_PASSWORD_COMMON}, /* the realm */
        {"anna.smith", "Anna.Smith1984!!", CR_PASSWORD_KNOWN},
        {"anna", "anna anna anna anna", CR_PASSWORD_KNOWN},
        /* And these are good. */
        {"anna", "correct horse battery staple", CR_OK},
        {"anna", "correcthorsebatterystaple", CR_OK},
        {"anna", "Correct-Horse-9", CR_OK},
        {"anna", "my monkey eats 3 bananas", CR_OK},
        {"anna", "first we take manhattan", CR_OK},
        {"anna", "anna likes to swim", CR_OK},
        {"anna", "der Hund frisst um acht", CR_OK},
        {"anna",
         "\xd0\xbf\xd0\xb0\xd1\x80\xd0\xbe\xd0\xbb\xd1\x8c \xd0\xb4\xd0\xbe\xd0\xbc\xd0\xb0 "
         "\xd1\x81\xd0\xb0\xd0\xb4",
         CR_OK},
        {"anna", "monkey 84629 38472", CR_OK}, /* much stands around it */
        {"anna", "x7#Kp2!vQ9z$Lm4", CR_OK},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        tap_row(rows[i].password);
        CHECK_STATUS(judge(&(struct cr_password_rules){.realm = "The Museum"}, rows[i].user,
                           rows[i].password),
                     rows[i].want);
    }
}

static void file_write(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    CHECK(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0);
}

static void a_list_of_the_operator_is_added_to_the_built_in_one(void)
{
    char path[] = "/tmp/cr-common-XXXXXX";
    struct cr_common *list = NULL;
    struct cr_error error = {.size = sizeof error};
    int fd = mkstemp(path);
    if (!CHECK(fd >= 0))
        return;
    close(fd);
    file_write(path,
               "#! made by hand\r\nArendelle Winter 1\r\n\nxyzzy plugh frotz\n#one-of-them-too");
    CHECK_STATUS(cr_common_open(path, &list, &error), CR_OK);
    struct cr_password_rules rules = {.common = list};
    CHECK_STATUS(judge(&rules, "anna", "arendelle winter 1"), CR_PASSWORD_COMMON);
    CHECK_STATUS(judge(&rules, "anna", "XYZZY plugh frotz"), CR_PASSWORD_COMMON);
    CHECK_STATUS(judge(&rules, "anna", "#one-of-them-too"), CR_PASSWORD_COMMON);
    CHECK_STATUS(judge(&rules, "anna", "1qaz2wsx3edc4rfv"), CR_PASSWORD_COMMON);
    CHECK_STATUS(judge(&rules, "anna", "#! made by hand"), CR_OK);
    CHECK_STATUS(judge(&rules, "anna", "arendelle winter 2"), CR_OK);
    cr_common_destroy(list);
    file_write(path, "");
    list = NULL;
    CHECK_STATUS(cr_common_open(path, &list, &error), CR_OK);
    CHECK(!cr_common_has(list, (const unsigned char *)"arendelle winter 1", 18));
    cr_common_destroy(list);
    unlink(path);
}

static void a_list_that_cannot_be_read_is_said(void)
{
    char path[] = "/tmp/cr-common-XXXXXX";
    struct cr_common *list = NULL;
    struct cr_error error = {.size = sizeof error};
    CHECK_STATUS(cr_common_open("/nowhere/at/all", &list, &error), CR_E_IO);
    CHECK(strstr(error.text, "/nowhere/at/all: No such file") != NULL);
    CHECK(strstr(error.text, "password.list") != NULL);
    CHECK_STATUS(cr_common_open("/tmp", &list, &error), CR_E_IO);
    int fd = mkstemp(path); /* a name of our own */
    if (CHECK(fd >= 0 && close(fd) == 0 && unlink(path) == 0 && mkfifo(path, 0600) == 0)) {
        CHECK_STATUS(cr_common_open(path, &list, &error), CR_E_IO); /* and does not wait */
        CHECK(strstr(error.text, "no regular file") != NULL);
        unlink(path);
    }
    CHECK(list == NULL);
}

static const struct tap_test tests[] = {
    TAP_TEST(length_is_in_characters_and_nothing_else_is_asked_for),
    TAP_TEST(every_common_password_is_refused),
    TAP_TEST(what_is_easily_thought_of_is_refused),
    TAP_TEST(a_list_of_the_operator_is_added_to_the_built_in_one),
    TAP_TEST(a_list_that_cannot_be_read_is_said),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
