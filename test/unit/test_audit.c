/* SPDX-License-Identifier: Apache-2.0 */
/* Audit events, read back from their file. */
#include "base/audit.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tap.h"

#define FILE_MAX 65536

static char directory[PATH_MAX - 16], path[PATH_MAX];

static bool scratch_make(void)
{
    const char *base = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%.200s/audit-XXXXXX", base != NULL ? base : "/tmp");
    bool made = CHECK(mkdtemp(directory) != NULL);
    snprintf(path, sizeof path, "%s/audit", directory);
    return made;
}

static void scratch_remove(void)
{
    (void)unlink(path);
    (void)rmdir(directory);
}

static struct cr_audit *audit_open(struct cr_clock_fake *clock)
{
    struct cr_audit *audit = NULL;
    struct cr_error error = {.size = sizeof error};
    cr_clock_fake_init(clock, 1700000000123);
    if (!CHECK_STATUS(cr_audit_open(path, &clock->clock, &audit, &error), CR_OK))
        tap_note("%s", error.text);
    return audit;
}

static void give(struct cr_audit *audit, const char *text, size_t bytes)
{
    const struct cr_audit_field fields[] = {{"who", text, bytes}, {"none", NULL, 0}};
    cr_audit_event(audit, "test", fields, 2);
}

/* All of a file, ended by a NUL. */
static const char *file_read(const char *name)
{
    static char text[FILE_MAX];
    FILE *file = fopen(name, "r");
    size_t count = file != NULL ? fread(text, 1, sizeof text - 1, file) : 0;
    CHECK(file != NULL);
    if (file != NULL)
        fclose(file);
    text[count] = '\0';
    return text;
}

/* ASVS H7. */
static void whatever_stands_in_a_field_it_stays_one_line_of_json(void)
{
    static const struct {
        const char *name, *text, *want;
    } rows[] = {
        {"plain", "anna", "anna"},
        {"a line's end", "a\r\n{\"event\":\"login\"}", "a\r\n{\"event\":\"login\"}"},
        {"an escape of a terminal", "\x1b[31m\x7f\xc2\x9b", "\x1b[31m\x7f\xc2\x9b"},
        {"not UTF-8", "\xff\xc3(\xed\xa0\x80",
         "\xef\xbf\xbd\xef\xbf\xbd(\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"a quote and a backslash", "\"\\u0000\\", "\"\\u0000\\"},
        {"a token, typed into the wrong field", "x crs1_AbC-_9 y", "x crs1_... y"},
    };
    if (!scratch_make())
        return;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct cr_clock_fake clock;
        tap_row(rows[i].name);
        struct cr_audit *audit = audit_open(&clock);
        give(audit, rows[i].text, strlen(rows[i].text));
        cr_audit_close(audit);
        const char *line = file_read(path);
        CHECK(strchr(line, '\n') == line + strlen(line) - 1);
        for (const char *c = line; *c != '\0' && *c != '\n'; c++)
            CHECK((unsigned char)*c >= 0x20 && *c != 0x7f);
        json_t *json = json_loads(line, 0, NULL);
        CHECK_STR(json_string_value(json_object_get(json, "time")), "2023-11-14T22:13:20.123Z");
        CHECK_STR(json_string_value(json_object_get(json, "event")), "test");
        CHECK_STR(json_string_value(json_object_get(json, "who")), rows[i].want);
        CHECK(json_object_get(json, "none") == NULL);
        json_decref(json);
        CHECK_INT(unlink(path), 0);
    }
    tap_row(NULL);
    scratch_remove();
}

static void the_file_is_its_owners_only_and_appended_to(void)
{
    struct cr_clock_fake clock;
    struct stat about;
    mode_t mask = umask(0);
    if (!scratch_make())
        return;
    for (size_t i = 0; i < 2; i++) {
        struct cr_audit *audit = audit_open(&clock);
        give(audit, "x", 1);
        cr_audit_close(audit);
    }
    umask(mask);
    CHECK_INT(stat(path, &about), 0);
    CHECK_UINT(about.st_mode & 07777, 0600);
    const char *text = file_read(path);
    const char *second = strchr(text, '\n');
    CHECK(second != NULL && strncmp(second + 1, "{\"time\"", 7) == 0);
    scratch_remove();
}

static void what_is_not_a_file_is_refused_with_what_would_be_right(void)
{
    struct cr_clock_fake clock;
    struct cr_audit *audit;
    char link[PATH_MAX];
    if (!scratch_make())
        return;
    cr_clock_fake_init(&clock, 0);
    snprintf(link, sizeof link, "%.4000s/link", directory);
    CHECK_INT(symlink("audit", link), 0);
    CHECK_INT(mkfifo(path, 0600), 0);
    const char *targets[] = {"relative", directory, "/dev/null", path, link, "/nowhere/audit"};
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
        struct cr_error error = {.size = sizeof error};
        tap_row(targets[i]);
        enum cr_status st = cr_audit_open(targets[i], &clock.clock, &audit, &error);
        CHECK(st == CR_E_INVALID || st == CR_E_IO);
        CHECK(strstr(error.text, targets[i]) != NULL);
    }
    tap_row(NULL);
    CHECK_INT(unlink(link), 0);
    scratch_remove();
}

static void a_file_that_was_moved_away_is_opened_anew(void)
{
    struct cr_clock_fake clock;
    char moved[PATH_MAX];
    if (!scratch_make())
        return;
    snprintf(moved, sizeof moved, "%.4000s/moved", directory);
    struct cr_audit *audit = audit_open(&clock);
    CHECK_INT(rename(path, moved), 0);
    cr_audit_reopen(audit);
    give(audit, "after", 5);
    cr_audit_close(audit);
    CHECK(strstr(file_read(path), "after") != NULL);
    CHECK_INT(unlink(moved), 0);
    scratch_remove();
}

/* Every event is a line that is whole, or counted. */
static void a_full_disk_loses_whole_events_and_says_how_many(void)
{
    struct cr_clock_fake clock;
    struct rlimit limit, before;
    char text[100];
    if (!scratch_make())
        return;
    (void)signal(SIGXFSZ, SIG_IGN);
    memset(text, 'x', sizeof text);
    getrlimit(RLIMIT_FSIZE, &before);
    limit = before;
    limit.rlim_cur = 1000;
    struct cr_audit *audit = audit_open(&clock);
    setrlimit(RLIMIT_FSIZE, &limit);
    for (size_t i = 0; i < 20; i++)
        give(audit, text, sizeof text);
    while (cr_audit_lost(audit) < 14) /* or the test's time is over */
        (void)usleep(1000);
    setrlimit(RLIMIT_FSIZE, &before);
    uint64_t lost = cr_audit_lost(audit);
    give(audit, "again", 5);
    cr_audit_close(audit);
    size_t lines = 0, told = 0;
    char *rest = strdup(file_read(path));
    for (char *at = rest, *line; (line = strsep(&at, "\n")) != NULL && line[0] != '\0'; lines++) {
        json_t *json = json_loads(line, 0, NULL);
        CHECK(json != NULL);
        if (strcmp(json_string_value(json_object_get(json, "event")), "audit_lost") == 0)
            told += (size_t)json_integer_value(json_object_get(json, "count"));
        json_decref(json);
    }
    free(rest);
    CHECK_UINT(told, lost);
    CHECK_UINT(lines, 20 - lost + 2);
    scratch_remove();
}

static const struct tap_test tests[] = {
    TAP_TEST(whatever_stands_in_a_field_it_stays_one_line_of_json),
    TAP_TEST(the_file_is_its_owners_only_and_appended_to),
    TAP_TEST(what_is_not_a_file_is_refused_with_what_would_be_right),
    TAP_TEST(a_file_that_was_moved_away_is_opened_anew),
    TAP_TEST(a_full_disk_loses_whole_events_and_says_how_many),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
