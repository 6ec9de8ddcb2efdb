/* SPDX-License-Identifier: Apache-2.0 */
/* The log, read back from what takes the place of standard error. */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "tap.h"

#define ROWS(table) (sizeof(table) / sizeof(table)[0])

struct capture {
    int kept, fd;
    char text[16384];
};

static bool capture_begin(struct capture *c)
{
    c->kept = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    c->fd = memfd_create("stderr", MFD_CLOEXEC);
    return CHECK(c->kept >= 0 && c->fd >= 0 && dup2(c->fd, STDERR_FILENO) >= 0);
}

static void capture_end(struct capture *c)
{
    dup2(c->kept, STDERR_FILENO);
    close(c->kept);
    ssize_t count = pread(c->fd, c->text, sizeof c->text - 1, 0);
    c->text[count > 0 ? count : 0] = '\0';
    close(c->fd);
}

static bool capture_text(struct capture *c, const char *text)
{
    if (!capture_begin(c))
        return false;
    cr_log(CR_LOG_INFO, "%s", text);
    capture_end(c);
    return true;
}

/* What stands behind the time, the name and the level of the only line there is. */
static const char *line_message(struct capture *c)
{
    size_t length = strlen(c->text);
    if (!CHECK(length > 0 && strchr(c->text, '\n') == c->text + length - 1))
        return "";
    c->text[length - 1] = '\0';
    const char *message = strstr(c->text, "info: ");
    return CHECK(message != NULL) ? message + strlen("info: ") : "";
}

static void a_line_says_when_who_how_grave_and_what(void)
{
    struct capture c;
    cr_log_open("agent", CR_LOG_INFO, false);
    if (!capture_begin(&c))
        return;
    cr_log(CR_LOG_WARN, "the store is %s", "slow");
    capture_end(&c);
    tap_note("%s", c.text);
    CHECK(c.text[4] == '-' && c.text[10] == 'T' && c.text[23] == 'Z');
    CHECK(strstr(c.text, " agent[") != NULL);
    CHECK(strstr(c.text, "] warn: the store is slow\n") != NULL);
}

static void what_is_below_the_least_level_is_not_said(void)
{
    struct capture c;
    cr_log_open("agent", CR_LOG_WARN, false);
    if (!capture_begin(&c))
        return;
    cr_log(CR_LOG_DEBUG, "one");
    cr_log(CR_LOG_INFO, "two");
    cr_log(CR_LOG_ERROR, "three");
    capture_end(&c);
    CHECK(strstr(c.text, "one") == NULL && strstr(c.text, "two") == NULL);
    CHECK(strstr(c.text, "three") != NULL);
}

static const struct {
    const char *name, *text, *plain, *json;
} hostile[] = {
    {"a line that is not ours", "x\n2026-01-01T00:00:00.000Z agent[1] info: all is well",
     "x\\x0a2026-01-01T00:00:00.000Z agent[1] info: all is well",
     "x\n2026-01-01T00:00:00.000Z agent[1] info: all is well"},
    {"carriage return", "a\rb", "a\\x0db", "a\rb"},
    {"colours", "\x1b[31mred", "\\x1b[31mred", "\x1b[31mred"},
    {"DEL", "a\x7f", "a\\x7f", "a\x7f"},
    {"a control of two bytes", "a\xc2\x9bz", "a\\x9bz", "a\xc2\x9bz"},
    {"not UTF-8", "caf\xe9 \xff", "caf\\xe9 \\xff", "caf\xef\xbf\xbd \xef\xbf\xbd"},
    {"half a character", "\xe2\x82", "\\xe2\\x82", "\xef\xbf\xbd\xef\xbf\xbd"},
    {"an escape that is not ours", "a\\x0a", "a\\\\x0a", "a\\x0a"},
    {"quotes", "\"level\":\"info\"", "\"level\":\"info\"", "\"level\":\"info\""},
    {"good UTF-8", "\xc3\xa9\xf0\x9f\x98\x80", "\xc3\xa9\xf0\x9f\x98\x80",
     "\xc3\xa9\xf0\x9f\x98\x80"},
};

/* ASVS H7. */
static void what_came_from_outside_forges_no_line(void)
{
    cr_log_open("agent", CR_LOG_INFO, false);
    for (size_t i = 0; i < ROWS(hostile); i++) {
        struct capture c;
        tap_row(hostile[i].name);
        if (!capture_text(&c, hostile[i].text))
            return;
        const char *message = line_message(&c);
        CHECK_STR(message, hostile[i].plain);
        CHECK(cr_text_is_clean((const unsigned char *)message, strlen(message)));
    }
}

/* ASVS H7. Read back by a JSON library. */
static void a_line_of_json_says_the_text_and_nothing_else(void)
{
    cr_log_open("agent", CR_LOG_INFO, true);
    for (size_t i = 0; i < ROWS(hostile); i++) {
        struct capture c;
        tap_row(hostile[i].name);
        if (!capture_text(&c, hostile[i].text))
            return;
        CHECK(strchr(c.text, '\n') == c.text + strlen(c.text) - 1);
        json_t *line = json_loads(c.text, JSON_REJECT_DUPLICATES, NULL);
        if (!CHECK(line != NULL))
            continue;
        CHECK_UINT(json_object_size(line), 5);
        CHECK_STR(json_string_value(json_object_get(line, "who")), "agent");
        CHECK_STR(json_string_value(json_object_get(line, "level")), "info");
        CHECK_INT(json_integer_value(json_object_get(line, "pid")), getpid());
        CHECK_STR(json_string_value(json_object_get(line, "text")), hostile[i].json);
        json_decref(line);
    }
}

static void a_long_text_is_cut_and_says_so(void)
{
    static char text[9000];
    memset(text, '\x01', sizeof text - 1);
    for (int json = 0; json < 2; json++) {
        struct capture c;
        cr_log_open("agent", CR_LOG_INFO, json == 1);
        if (!capture_text(&c, text))
            return;
        size_t length = strlen(c.text);
        CHECK(length > 0 && strchr(c.text, '\n') == c.text + length - 1);
        CHECK(strstr(c.text, json == 1 ? "\\u0001...\"}\n" : "\\x01...\n") != NULL);
    }
}

static void logging_keeps_errno(void)
{
    struct capture c;
    cr_log_open("agent", CR_LOG_INFO, false);
    if (!capture_begin(&c))
        return;
    close(STDERR_FILENO);
    errno = ENOENT;
    cr_log(CR_LOG_ERROR, "nobody hears this");
    int after = errno;
    capture_end(&c);
    CHECK_INT(after, ENOENT);
}

static const struct tap_test tests[] = {
    TAP_TEST(a_line_says_when_who_how_grave_and_what),
    TAP_TEST(what_is_below_the_least_level_is_not_said),
    TAP_TEST(what_came_from_outside_forges_no_line),
    TAP_TEST(a_line_of_json_says_the_text_and_nothing_else),
    TAP_TEST(a_long_text_is_cut_and_says_so),
    TAP_TEST(logging_keeps_errno),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
