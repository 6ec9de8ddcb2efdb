/* SPDX-License-Identifier: Apache-2.0 */
/* The table of settings: values that are taken and refused, and files with everything wrong that a
 * file can have. */
#include "cmd/settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd/closest.h"
#include "tap.h"

static const struct cr_setting_origin by_option = {CR_ORIGIN_OPTION, 0};

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

static void a_value_is_taken_or_refused_with_what_would_be_right(void)
{
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        struct cr_settings settings;
        struct cr_error error = {.size = sizeof error};
        tap_row(values[i].value);
        cr_settings_init(&settings);
        struct cr_settings before = settings;
        enum cr_status st =
            cr_settings_set(&settings, values[i].name, values[i].value, by_option, &error);
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
        index = cr_setting_find(values[i].name);
        cr_setting_write(&settings, index, written, sizeof written);
        CHECK_STR(written, values[i].written);
        CHECK_INT(settings.origins[index].kind, CR_ORIGIN_OPTION);
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
        CHECK_INT(settings.origins[i].kind, CR_ORIGIN_DEFAULT);
        CHECK(rows[i].text[0] != '\0' && rows[i].value != NULL);
        if (written[0] != '\0')
            CHECK_STATUS(cr_settings_set(&settings, rows[i].name, written, by_option, &error),
                         CR_OK);
        for (size_t j = 0; j < i; j++)
            CHECK(strcmp(rows[i].name, rows[j].name) != 0);
    }
}

static void a_lease_is_at_least_five_polls(void)
{
    struct cr_settings settings;
    struct cr_error error = {.size = sizeof error};
    cr_settings_init(&settings);
    CHECK_STATUS(cr_settings_finish(&settings, NULL, &error), CR_OK);
    CHECK_STATUS(cr_settings_set(&settings, "engine.lease", "4999ms", by_option, &error), CR_OK);
    CHECK_STATUS(cr_settings_finish(&settings, NULL, &error), CR_E_INVALID);
    CHECK_STR(error.text, "--engine.lease: engine.lease is at least five times engine.poll");
}

struct file {
    char path[256];
    char text[1200]; /* what reading it said */
    enum cr_status status;
    struct cr_settings settings;
    mode_t mode;
};

static void file_write_and_read(struct file *file, const char *bytes, size_t count)
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
    CHECK(chmod(file->path, file->mode) == 0);
    struct cr_error error = {.size = sizeof error};
    cr_settings_init(&file->settings);
    file->status = cr_settings_read(&file->settings, file->path, NULL, &error);
    snprintf(file->text, sizeof file->text, "%s", error.text);
    unlink(file->path);
}

static void file_try(struct file *file, const char *bytes, size_t count)
{
    file->mode = 0644;
    file_write_and_read(file, bytes, count);
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
     ":1: there is no section [cash]; did you mean [cache]?"},
    {"unknown section, and nothing in it", BYTES("[cache]\n[sesion]\n"),
     ":2: there is no section [sesion]; did you mean [session]?"},
    {"unknown section like none", BYTES("[zzzzzzzzzz]\n"),
     ":1: there is no section [zzzzzzzzzz]; `cloakroom config` lists them"},
    {"a key like none", BYTES("[cache]\nzzzzzzzzzz = 1\n"),
     ":2: there is no setting cache.zzzzzzzzzz; `cloakroom config` lists them"},
    {"not UTF-8", BYTES("[session]\nrealm = caf\xe9\n"), ":2: the line is not UTF-8"},
    {"half a character at the end", BYTES("[session]\nrealm = caf\xc3"),
     ":2: the line is not UTF-8"},
    {"not UTF-8 in a comment", BYTES("; caf\xe9\n"), ":1: the line is not UTF-8"},
    {"UTF-8", BYTES("[session]\nrealm = caf\xc3\xa9\n"), NULL},
    {"UTF-8 with a byte order mark", BYTES("\xef\xbb\xbf[cache]\nkind = none\n"), NULL},
    {"an escape in a value", BYTES("[session]\nrealm = a\x1b[2J\n"),
     ":2: session.realm has control characters or bad UTF-8"},
    {"an escape in what is told", BYTES("[cache]\nkind = \x1b[2J\n"),
     ":2: cache.kind is none, memory or shared, not '?[2J'"},
    {"an escape in a key", BYTES("[cache]\n\x1b[2Jxxxxxxxxxx = 1\n"),
     ":2: there is no setting cache.?[2Jxxxxxxxxxx;"},
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
     ":2: the line is too long: 197 bytes are the most"},
    {"a NUL in a line that is too long", BYTES("[cache]\n\0" LONG_60 LONG_60 LONG_60 LONG_60 "\n"),
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

/* What is told is also short enough to be read whole. */
static void a_line_of_the_greatest_length_is_taken(void)
{
    struct file file;
    char bytes[256];
    int length = snprintf(bytes, sizeof bytes, "[session]\nrealm = " LONG_60 LONG_60 LONG_60);
    memset(bytes + length, 'b', 197 - 8 - 180);
    length += 197 - 8 - 180;
    length += snprintf(bytes + length, sizeof bytes - (size_t)length, "\n[cache]\nkind = none\n");
    file_try(&file, bytes, (size_t)length);
    CHECK_STATUS(file.status, CR_OK);
    CHECK_UINT(strlen(file.settings.realm), 197 - 8);
    CHECK_INT(file.settings.cache, CR_CACHE_NONE);
    CHECK_INT(file.settings.origins[cr_setting_find("cache.kind")].line, 4);
}

/* ---- where values come from */

static const struct {
    const char *name;
    const char *variables[4];
    const char *says; /* NULL: taken */
} environments[] = {
    {"none", {NULL}, NULL},
    {"others", {"HOME=/root", "CLOAKROOM_FENCE=3", "CLOAKROOM=1"}, NULL},
    {"one", {"CLOAKROOM__CACHE__KIND=none"}, NULL},
    {"a key of two words", {"CLOAKROOM__CACHE__HUGE_PAGES=off"}, NULL},
    {"an unknown key",
     {"CLOAKROOM__CACHE__MEMRY=1M"},
     "CLOAKROOM__CACHE__MEMRY: there is no such setting; did you mean CLOAKROOM__CACHE__MEMORY?"},
    {"one underscore less",
     {"CLOAKROOM__CACHE_MEMORY=1M"},
     "CLOAKROOM__CACHE_MEMORY: there is no such setting; did you mean CLOAKROOM__CACHE__MEMORY?"},
    {"small letters",
     {"CLOAKROOM__cache__memory=1M"},
     "CLOAKROOM__cache__memory: there is no such setting; did you mean CLOAKROOM__CACHE__MEMORY?"},
    {"one like none",
     {"CLOAKROOM__ZZZZZZZZZZZZ=1"},
     "CLOAKROOM__ZZZZZZZZZZZZ: there is no such setting; `cloakroom config` lists them"},
    {"no name at all", {"CLOAKROOM__=1"}, "CLOAKROOM__: there is no such setting; "},
    {"a bad value",
     {"CLOAKROOM__CACHE__KIND=all"},
     "CLOAKROOM__CACHE__KIND: cache.kind is none, memory or shared, not 'all'"},
    {"an empty value",
     {"CLOAKROOM__CACHE__MEMORY="},
     "CLOAKROOM__CACHE__MEMORY: cache.memory is a"},
    {"twice",
     {"CLOAKROOM__CACHE__KIND=none", "CLOAKROOM__CACHE__KIND=shared"},
     "CLOAKROOM__CACHE__KIND is there a second time"},
    {"a name with an escape",
     {"CLOAKROOM__\x1b[2J=1"},
     "a variable of the environment that begins"},
    {"a password in the store's URL",
     {"CLOAKROOM__STORE__URL=postgresql://app:s3cret@db/app"},
     "CLOAKROOM__STORE__URL has a password in it, and what a process has in its environment"},
};

static void a_bad_variable_is_refused_with_its_name_and_nothing_is_taken(void)
{
    for (size_t i = 0; i < sizeof environments / sizeof environments[0]; i++) {
        struct cr_settings settings;
        struct cr_error error = {.size = sizeof error};
        char *variables[6] = {0};
        tap_row(environments[i].name);
        variables[0] = (char[]){"CLOAKROOM__LOG__JSON=yes"};
        for (size_t k = 0; environments[i].variables[k] != NULL; k++)
            variables[k + 1] = strdup(environments[i].variables[k]);
        cr_settings_init(&settings);
        struct cr_settings before = settings;
        enum cr_status st = cr_settings_environment(&settings, variables, NULL, &error);
        CHECK_STATUS(st, environments[i].says == NULL ? CR_OK : CR_E_INVALID);
        CHECK_INT(settings.log_json, environments[i].says == NULL);
        if (environments[i].says != NULL) {
            CHECK_MEM(&settings, &before, sizeof before);
            if (!CHECK(strncmp(error.text, environments[i].says, strlen(environments[i].says)) ==
                       0))
                tap_note("it says: %s", error.text);
            CHECK(strstr(error.text, "s3cret") == NULL);
        }
        for (size_t k = 1; variables[k] != NULL; k++)
            free(variables[k]);
    }
}

static void each_value_knows_where_it_comes_from(void)
{
    static const char bytes[] = "[server]\nworkers = 3\n[cache]\n\nmemory = 2M\nhuge_pages = off\n";
    char *variables[] = {(char[]){"CLOAKROOM__CACHE__MEMORY=4M"},
                         (char[]){"CLOAKROOM__CACHE__HUGE_PAGES=auto"},
                         (char[]){"CLOAKROOM__SESSION__PROFILE=aal2"}, NULL};
    static const struct {
        const char *name, *value, *origin;
    } rows[] = {{"server.workers", "3", "x.conf:2"},
                {"cache.memory", "8M", "--cache-memory"},
                {"cache.huge_pages", "auto", "CLOAKROOM__CACHE__HUGE_PAGES"},
                {"session.idle", "1h", "profile aal2"},
                {"cache.kind", "shared", "default"},
                {"store.url", "", "default"}};
    struct cr_settings first;
    struct cr_settings second;
    struct cr_error error = {.size = sizeof error};
    char packed[16384];
    cr_settings_init(&first);
    cr_settings_init(&second);
    CHECK_STATUS(cr_settings_parse(&first, "x.conf", bytes, sizeof bytes - 1, NULL, &error), CR_OK);
    CHECK_STATUS(cr_settings_environment(&first, variables, NULL, &error), CR_OK);
    CHECK_STATUS(cr_settings_set(&first, "cache.memory", "8M", by_option, &error), CR_OK);
    CHECK_STATUS(cr_settings_finish(&first, NULL, &error), CR_OK);
    /* And after they went to another process. */
    CHECK(cr_settings_pack(&first, packed, sizeof packed));
    CHECK(!cr_settings_pack(&first, packed, strlen(packed)));
    CHECK(cr_settings_pack(&first, packed, sizeof packed));
    CHECK_STATUS(cr_settings_unpack(&second, packed, &error), CR_OK);
    CHECK_MEM(&first.origins, &second.origins, sizeof first.origins);
    for (size_t i = 0; i < 2 * (sizeof rows / sizeof rows[0]); i++) {
        const struct cr_settings *settings = i % 2 == 0 ? &first : &second;
        char text[256];
        size_t index = cr_setting_find(rows[i / 2].name);
        tap_row(rows[i / 2].name);
        cr_setting_write(settings, index, text, sizeof text);
        CHECK_STR(text, rows[i / 2].value);
        cr_setting_origin_show(settings, index, text, sizeof text);
        CHECK_STR(text, rows[i / 2].origin);
    }
}

static void settings_that_were_not_packed_are_refused(void)
{
    static const char *const texts[] = {"\nx",
                                        "\n9 0 cache.kind=none",
                                        "\n-1 0 cache.kind=none",
                                        "\n1 0 cache.kind",
                                        "\n1 0 cache.kinds=none",
                                        "\n1 0 cache.kind=all"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct cr_settings settings;
        struct cr_error error = {.size = sizeof error};
        char text[64];
        tap_row(texts[i]);
        cr_settings_init(&settings);
        snprintf(text, sizeof text, "%s", texts[i]);
        CHECK_STATUS(cr_settings_unpack(&settings, text, &error), CR_E_INVALID);
    }
}

/* ASVS H3. */
static void a_password_stands_in_no_text_and_in_no_file_that_others_can_read(void)
{
    static const struct {
        const char *url, *shown; /* NULL: there is none */
    } urls[] = {{"sqlite:///srv/app.db", NULL},
                {"sqlite:///srv/a:b@c.db", NULL},
                {"postgresql://db/app", NULL},
                {"postgresql://app@db/app", NULL},
                {"postgresql://app:@db/app", NULL},
                {"postgresql://app:s3cret@db/app", "postgresql://app:***@db/app"},
                {"redis://:s3cret@db:6379/0", "redis://:***@db:6379/0"},
                {"redis://a:s3cret@x@db", "redis://a:***@db"},
                {"postgresql://db/app?sslmode=verify-full&password=s3cret&x=1",
                 "postgresql://db/app?sslmode=verify-full&password=***&x=1"},
                {"postgresql://db/app?Password=s3cret", "postgresql://db/app?Password=***"}};
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        char text[512];
        struct file file;
        size_t index = cr_setting_find("store.url");
        tap_row(urls[i].url);
        CHECK(cr_url_has_password(urls[i].url) == (urls[i].shown != NULL));
        int length = snprintf(text, sizeof text, "[store]\nurl = %s\n", urls[i].url);
        file.mode = 0600;
        file_write_and_read(&file, text, (size_t)length);
        CHECK_STATUS(file.status, CR_OK);
        cr_setting_show(&file.settings, index, text, sizeof text);
        CHECK_STR(text, urls[i].shown != NULL ? urls[i].shown : urls[i].url);
        static const mode_t open_modes[] = {0644, 0604, 0620, 0602};
        for (size_t k = 0; k < sizeof open_modes / sizeof open_modes[0]; k++) {
            length = snprintf(text, sizeof text, "[store]\nurl = %s\n", urls[i].url);
            file.mode = open_modes[k];
            file_write_and_read(&file, text, (size_t)length);
            CHECK_STATUS(file.status, urls[i].shown != NULL ? CR_E_INVALID : CR_OK);
            CHECK(strstr(file.text, "s3cret") == NULL);
            CHECK(urls[i].shown == NULL || strstr(file.text, ":2: store.url has a password in it, "
                                                             "and the file is open to others: "
                                                             "chmod 600 /") != NULL);
        }
    }
}

/* ---- what goes together */

/* ASVS C4. Texts are what is said, or the policy. */
static const struct {
    const char *bytes;
    enum cr_status status;
    const char *says;
} lifetimes[] = {
    {"", CR_OK,
     "A session ends 30m after its last use, and 12h after its login whatever its use (no profile, "
     "bounded as aal1)."},
    {"[session]\nprofile = aal1\n", CR_OK,
     "A session ends 30d after its last use, and 30d after its login whatever its use (profile "
     "aal1: NIST SP 800-63B-4, 2.1.3)."},
    {"[session]\nprofile = aal2\n", CR_OK,
     "A session ends 1h after its last use, and 1d after its login whatever its use (profile aal2: "
     "NIST SP 800-63B-4, 2.2.3)."},
    {"[session]\nprofile = aal3\n", CR_OK,
     "A session ends 15m after its last use, and 12h after its login whatever its use (profile "
     "aal3: NIST SP 800-63B-4, 2.3.3)."},
    {"[session]\nprofile = aal3\nidle = 10m\n", CR_OK,
     "A session ends 10m after its last use, and 12h after its login whatever its use (profile "
     "aal3: NIST SP 800-63B-4, 2.3.3)."},
    {"[session]\nprofile = aal3\nidle = 901s\n", CR_E_INVALID,
     "x.conf:3: session.idle is 901s, and 15m is the most (profile aal3: NIST SP 800-63B-4, "
     "2.3.3): "
     "shorten it, or write into session.longer_because why it is longer"},
    {"[session]\nidle = 2h\nprofile = aal2\n", CR_E_INVALID,
     "x.conf:2: session.idle is 2h, and 1h is the most (profile aal2: NIST SP 800-63B-4, 2.2.3): "
     "shorten it, or write into session.longer_because why it is longer"},
    {"[session]\nprofile = aal2\nabsolute = 25h\n", CR_E_INVALID,
     "x.conf:3: session.absolute is 25h, and 1d is the most (profile aal2: NIST SP 800-63B-4, "
     "2.2.3): shorten it, or write into session.longer_because why it is longer"},
    {"[session]\nprofile = aal1\nabsolute = 31d\n", CR_E_INVALID,
     "x.conf:3: session.absolute is 31d, and 30d is the most (profile aal1: NIST SP 800-63B-4, "
     "2.1.3): shorten it, or write into session.longer_because why it is longer"},
    {"[session]\nabsolute = 31d\n", CR_E_INVALID,
     "x.conf:2: session.absolute is 31d, and 30d is the most (no profile, bounded as aal1): "
     "shorten it, or write into session.longer_because why it is longer"},
    {"[session]\nprofile = aal3\nidle = 1h\nlonger_because = the kiosk in the hall\n", CR_OK,
     "A session ends 1h after its last use, and 12h after its login whatever its use (profile "
     "aal3: NIST SP 800-63B-4, 2.3.3; may be longer because: the kiosk in the hall)."},
    {"[session]\nprofile = aal3\nidle = 1h\nlonger_because =\n", CR_E_INVALID,
     "x.conf:3: session.idle is 1h, and 15m is the most (profile aal3: NIST SP 800-63B-4, 2.3.3): "
     "shorten it, or write into session.longer_because why it is longer"},
};

static void a_session_lives_as_long_as_its_profile_allows_or_somebody_has_written_why(void)
{
    for (size_t i = 0; i < sizeof lifetimes / sizeof lifetimes[0]; i++) {
        struct cr_settings settings;
        struct cr_error error = {.size = sizeof error};
        char policy[512];
        tap_row(lifetimes[i].bytes);
        cr_settings_init(&settings);
        CHECK_STATUS(cr_settings_parse(&settings, "x.conf", lifetimes[i].bytes,
                                       strlen(lifetimes[i].bytes), NULL, &error),
                     CR_OK);
        CHECK_STATUS(cr_settings_finish(&settings, NULL, &error), lifetimes[i].status);
        cr_settings_policy_show(&settings, policy, sizeof policy);
        CHECK_STR(lifetimes[i].status == CR_OK ? policy : error.text, lifetimes[i].says);
    }
}

static void only_what_can_change_while_running_is_taken_over(void)
{
    struct cr_settings running;
    struct cr_settings fresh;
    struct cr_error error = {.size = sizeof error};
    char taken[CR_SETTINGS_NAMES_BYTES];
    char restart[CR_SETTINGS_NAMES_BYTES];
    cr_settings_init(&running);
    cr_settings_init(&fresh);
    cr_settings_take_over(&running, &fresh, NULL, taken, restart, sizeof taken);
    CHECK_STR(taken, "");
    CHECK_STR(restart, "");
    static const struct {
        const char *name, *value;
    } changes[] = {{"cache.memory", "1M"},
                   {"cache.kind", "none"},
                   {"engine.lease", "1m"},
                   {"server.workers", "9"}};
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++)
        CHECK_STATUS(cr_settings_set(&fresh, changes[i].name, changes[i].value, by_option, &error),
                     CR_OK);
    cr_settings_take_over(&running, &fresh, "server.", taken, restart, sizeof taken);
    CHECK_STR(taken, "cache.kind, cache.memory");
    CHECK_STR(restart, "engine.lease");
    CHECK_INT(running.cache_bytes, 1 << 20);
    CHECK_INT(running.cache, CR_CACHE_NONE);
    CHECK_INT(running.lease, 5000);
    cr_settings_take_over(&running, &fresh, NULL, taken, restart, sizeof taken);
    CHECK_STR(taken, "");
    CHECK_STR(restart, "server.workers, engine.lease");
    CHECK_INT(running.workers, 2);
}

static void a_file_that_is_not_there_is_an_error_with_its_name(void)
{
    struct cr_settings settings;
    struct cr_error error = {.size = sizeof error};
    cr_settings_init(&settings);
    CHECK_STATUS(cr_settings_read(&settings, "/nowhere/x.conf", NULL, &error), CR_E_IO);
    CHECK_STR(error.text, "/nowhere/x.conf: No such file or directory");
}

static void a_file_without_an_end_is_refused(void)
{
    struct cr_settings settings;
    struct cr_error error = {.size = sizeof error};
    cr_settings_init(&settings);
    CHECK_STATUS(cr_settings_read(&settings, "/dev/zero", NULL, &error), CR_E_LIMIT);
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
    TAP_TEST(a_line_of_the_greatest_length_is_taken),
    TAP_TEST(a_bad_variable_is_refused_with_its_name_and_nothing_is_taken),
    TAP_TEST(each_value_knows_where_it_comes_from),
    TAP_TEST(settings_that_were_not_packed_are_refused),
    TAP_TEST(a_password_stands_in_no_text_and_in_no_file_that_others_can_read),
    TAP_TEST(a_session_lives_as_long_as_its_profile_allows_or_somebody_has_written_why),
    TAP_TEST(only_what_can_change_while_running_is_taken_over),
    TAP_TEST(a_file_that_is_not_there_is_an_error_with_its_name),
    TAP_TEST(a_file_without_an_end_is_refused),
    TAP_TEST(a_mistyped_name_finds_the_one_that_was_meant),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
