/* SPDX-License-Identifier: Apache-2.0 */
/* The table of settings: values that are taken and refused, and files with everything wrong that a
 * file can have. */
#include "cmd/settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/closest.h"
#include "tap.h"

static const struct {
    const char *name, *value;
    const char *written; /* NULL: refused */
    const char *says;    /* then */
} values[] = {
    {"cache.memory", "64M", "64M", NULL},
    {"cache.memory", "2048K", "2M", NULL},
    {"cache.memory", "1048576", "1M", NULL},
    {"cache.memory", "1M", "1M", NULL},
    {"cache.memory", "1023K", NULL, "cache.memory goes from 1M to 1024G; '1023K' is outside"},
    {"cache.memory", "64m", NULL, "a size such as 512K, 64M or 2G, not '64m'"},
    {"cache.memory", "99999999999999999999G", NULL, "a size such as"},
    {"cache.memory", "9223372036854775807G", NULL, "a size such as"},
    {"cache.memory", "-1M", NULL, "a size such as"},
    {"cache.memory", "", NULL, "a size such as"},
    {"server.workers", "4", "4", NULL},
    {"server.workers", "0", NULL, "goes from 1 to 64"},
    {"server.workers", "65", NULL, "goes from 1 to 64"},
    {"server.workers", "4K", NULL, "a whole number, not '4K'"},
    {"server.workers", " 4", NULL, "a whole number"},
    {"session.idle", "90s", "90s", NULL},
    {"session.idle", "3600s", "1h", NULL},
    {"session.idle", "1500ms", "1500ms", NULL},
    {"session.idle", "30", NULL, "a length of time with its unit"},
    {"session.idle", "999ms", NULL, "goes from 1s to 366d"},
    {"session.absolute", "367d", NULL, "goes from 1s to 366d"},
    {"cache.kind", "none", "none", NULL},
    {"cache.kind", "memory", "memory", NULL},
    {"cache.kind", "shared", "shared", NULL},
    {"cache.kind", "Shared", NULL, "cache.kind is none, memory or shared, not 'Shared'"},
    {"cache.huge_pages", "auto", "auto", NULL},
    {"cache.huge_pages", "reserved", "reserved", NULL},
    {"cache.huge_pages", "off", "off", NULL},
    {"cache.huge_pages", "yes", NULL, "cache.huge_pages is auto, reserved or off, not 'yes'"},
    {"engine.grace", "0", "0", NULL},
    {"log.json", "yes", "yes", NULL},
    {"log.json", "true", NULL, "log.json is no or yes, not 'true'"},
    {"agent.socket_mode", "0666", "0666", NULL},
    {"agent.socket_mode", "0644", NULL, "is 0600, 0660 or 0666, not '0644'"},
    {"server.clear_site_data", "", "", NULL},
    {"session.on_login", "replace", "replace", NULL},
    {"session.on_login", "keep", "keep", NULL},
    {"session.on_login", "keep 3", "keep 3", NULL},
    {"session.on_login", "keep 0", NULL, "with N from 1 to 1000"},
    {"session.on_login", "keep 1001", NULL, "with N from 1 to 1000"},
    {"session.on_login", "keep3", NULL, "replace, keep, or keep N"},
    {"server.listen", "[::1]:8080", "[::1]:8080", NULL},
    {"server.listen", "", NULL, "has from 1 to 400 characters, not 0"},
    {"server.listen", "a\x1b[31m", NULL, "control characters"},
    {"server.lisent", "x", NULL, "there is no setting server.lisent; did you mean server.listen?"},
    {"frobnicate", "x", NULL, "`cloakroom config` lists them"},
};

static void row_number(const char *name, size_t *out_index)
{
    size_t count;
    const struct cr_setting *rows = cr_setting_rows(&count);
    for (*out_index = 0; *out_index < count; (*out_index)++)
        if (strcmp(rows[*out_index].name, name) == 0)
            return;
}

static void a_value_is_taken_or_refused_with_what_would_be_right(void)
{
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        struct cr_settings settings;
        struct cr_error error = {.size = sizeof error};
        tap_row(values[i].value);
        cr_settings_init(&settings);
        struct cr_settings before = settings;
        enum cr_status st = cr_settings_set(&settings, values[i].name, values[i].value, &error);
        if (values[i].written == NULL) {
            CHECK_STATUS(st, CR_E_INVALID);
            CHECK_STATUS(error.status, CR_E_INVALID);
            if (!CHECK(strstr(error.text, values[i].says) != NULL))
                tap_note("it says: %s", error.text);
            CHECK_MEM(&settings, &before, sizeof settings);
            continue;
        }
        char written[64];
        size_t index;
        CHECK_STATUS(st, CR_OK);
        row_number(values[i].name, &index);
        cr_setting_write(&settings, index, written, sizeof written);
        CHECK_STR(written, values[i].written);
        CHECK(settings.given[index]);
    }
}

/* What is written can be read again, defaults and bounds too. */
static void every_row_takes_its_default_and_its_bounds(void)
{
    size_t count;
    const struct cr_setting *rows = cr_setting_rows(&count);
    struct cr_settings settings;
    struct cr_error error = {.size = sizeof error};
    cr_settings_init(&settings);
    for (size_t i = 0; i < count; i++) {
        char written[CR_SETTING_TEXT_CHARS_MAX + 1];
        tap_row(rows[i].name);
        cr_setting_write(&settings, i, written, sizeof written);
        CHECK_STR(written, rows[i].normal);
        CHECK(!settings.given[i]);
        CHECK(rows[i].text[0] != '\0' && rows[i].value != NULL);
        if (written[0] != '\0')
            CHECK_STATUS(cr_settings_set(&settings, rows[i].name, written, &error), CR_OK);
        for (size_t j = 0; j < i; j++)
            CHECK(strcmp(rows[i].name, rows[j].name) != 0);
    }
}

static void a_lease_is_at_least_five_polls(void)
{
    struct cr_settings settings;
    struct cr_error error = {.size = sizeof error};
    cr_settings_init(&settings);
    CHECK_STATUS(cr_settings_check(&settings, &error), CR_OK);
    CHECK_STATUS(cr_settings_set(&settings, "engine.lease", "4999ms", &error), CR_OK);
    CHECK_STATUS(cr_settings_check(&settings, &error), CR_E_INVALID);
    CHECK_STR(error.text, "engine.lease is at least five times engine.poll");
}

struct file {
    char path[256];
    char text[1200]; /* what reading it said */
    enum cr_status status;
    struct cr_settings settings;
};

static void file_try(struct file *file, const char *bytes, size_t count)
{
    const char *folder = getenv("TMPDIR");
    snprintf(file->path, sizeof file->path, "%s/test_settings.%ld.conf",
             folder == NULL ? "/tmp" : folder, (long)getpid());
    FILE *stream = fopen(file->path, "w");
    CHECK(stream != NULL);
    if (stream == NULL)
        return;
    CHECK(fwrite(bytes, 1, count, stream) == count);
    CHECK(fclose(stream) == 0);
    struct cr_error error = {.size = sizeof error};
    cr_settings_init(&file->settings);
    file->status = cr_settings_read(&file->settings, file->path, &error);
    snprintf(file->text, sizeof file->text, "%s", error.text);
    unlink(file->path);
}

#define BYTES(text) text, sizeof(text) - 1
#define LONG_60 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static const struct {
    const char *name;
    const char *bytes;
    size_t count;
    const char *says; /* after the file's name; NULL: it is taken */
} files[] = {
    {"empty", BYTES(""), NULL},
    {"comments", BYTES("; one\n# two\n\n[cache]\nkind = none ; here too\n"), NULL},
    {"a section twice", BYTES("[cache]\nkind=none\n[server]\nworkers=3\n[cache]\nmemory=1M\n"),
     NULL},
    {"no newline at the end", BYTES("[cache]\nkind = none"), NULL},
    {"CRLF", BYTES("[cache]\r\nkind = none\r\n"), NULL},
    {"unknown key", BYTES("[cache]\nkind = none\nmemry = 1M\n"),
     ":3: there is no setting cache.memry; did you mean cache.memory?"},
    {"unknown section", BYTES("[cash]\nkind = none\n"),
     ":2: there is no setting cash.kind; did you mean cache.kind?"},
    {"repeated key", BYTES("[cache]\nkind = none\nkind = none\n"),
     ":3: cache.kind stands here a second time"},
    {"repeated in another section of the name",
     BYTES("[cache]\nkind = none\n[cache]\nkind = none\n"),
     ":4: cache.kind stands here a second time"},
    {"unclosed section", BYTES("; x\n[cache\nkind = none\n"),
     ":2: neither [section] nor key = value"},
    {"no section", BYTES("kind = none\n"), ":1: kind stands before any [section]"},
    {"no value", BYTES("[cache]\nkind\n"), ":2: neither [section] nor key = value"},
    {"bad value", BYTES("[cache]\n\nmemory = lots\n"), ":3: cache.memory is a size"},
    {"a second line of a value", BYTES("[cache]\nkind = none\n  shared\n"),
     ":3: cache.kind stands here a second time"},
    {"a NUL", BYTES("[cache]\nkind = no\0ne\n"), ":2: there is a NUL in the line"},
    {"a long line", BYTES("[store]\nurl = sqlite:///" LONG_60 LONG_60 LONG_60 LONG_60 "\n"),
     ":2: the line is too long"},
    {"only the first is told", BYTES("[cache]\nkind = all\nmemory = lots\n[x\n"),
     ":2: cache.kind is"},
};

static void a_bad_file_is_refused_with_file_and_line(void)
{
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        struct file file;
        struct cr_settings before;
        tap_row(files[i].name);
        cr_settings_init(&before);
        file_try(&file, files[i].bytes, files[i].count);
        CHECK_STATUS(file.status, files[i].says == NULL ? CR_OK : CR_E_INVALID);
        if (files[i].says == NULL)
            continue;
        CHECK_MEM(file.text, file.path, strlen(file.path));
        if (!CHECK(strncmp(file.text + strlen(file.path), files[i].says, strlen(files[i].says)) ==
                   0))
            tap_note("it says: %s", file.text);
        CHECK_MEM(&file.settings, &before, sizeof before);
    }
}

static void a_file_sets_what_it_says_and_nothing_else(void)
{
    struct file file;
    struct cr_settings want;
    cr_settings_init(&want);
    file_try(&file, BYTES("[cache]\nkind = memory\nmemory = 128M\n[session]\non_login = keep 5\n"));
    CHECK_STATUS(file.status, CR_OK);
    CHECK_INT(file.settings.cache, CR_CACHE_MEMORY);
    CHECK_INT(file.settings.cache_bytes, 128 << 20);
    CHECK_INT(file.settings.on_login.policy, CR_POLICY_KEEP_N);
    CHECK_UINT(file.settings.on_login.keep_count, 5);
    CHECK_INT(file.settings.idle, want.idle);
    CHECK_INT(file.settings.workers, want.workers);
}

static void a_file_that_is_not_there_is_an_error_with_its_name(void)
{
    struct cr_settings settings;
    struct cr_error error = {.size = sizeof error};
    cr_settings_init(&settings);
    CHECK_STATUS(cr_settings_read(&settings, "/nowhere/x.conf", &error), CR_E_IO);
    CHECK_STR(error.text, "/nowhere/x.conf: No such file or directory");
}

static void a_file_without_an_end_is_refused(void)
{
    struct cr_settings settings;
    struct cr_error error = {.size = sizeof error};
    cr_settings_init(&settings);
    CHECK_STATUS(cr_settings_read(&settings, "/dev/zero", &error), CR_E_LIMIT);
}

static void a_mistyped_name_finds_the_one_that_was_meant(void)
{
    static const char *const names[] = {"serve", "session", "user", NULL, "lock", "config"};
    static const struct {
        const char *word, *want;
    } words[] = {{"sevre", "serve"},   {"sesion", "session"}, {"users", "user"},
                 {"cofnig", "config"}, {"xyz", NULL},         {"", NULL},
                 {"lock", "lock"}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        CHECK_STR(cr_closest(words[i].word, names, 6, sizeof names[0]), words[i].want);
}

static const struct tap_test tests[] = {
    TAP_TEST(a_value_is_taken_or_refused_with_what_would_be_right),
    TAP_TEST(every_row_takes_its_default_and_its_bounds),
    TAP_TEST(a_lease_is_at_least_five_polls),
    TAP_TEST(a_bad_file_is_refused_with_file_and_line),
    TAP_TEST(a_file_sets_what_it_says_and_nothing_else),
    TAP_TEST(a_file_that_is_not_there_is_an_error_with_its_name),
    TAP_TEST(a_file_without_an_end_is_refused),
    TAP_TEST(a_mistyped_name_finds_the_one_that_was_meant),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
