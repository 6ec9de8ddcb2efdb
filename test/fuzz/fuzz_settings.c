/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whatever stands in a settings file, in the environment, or in what `serve` hands to its agent: it
 * is taken whole or not at all, what is told about it is clean text with its place, and what was
 * taken can be written and read again. An input is a file; one that begins with ENVIRONMENT or
 * PACKED has lines of the other two.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "cmd/settings.h"
#include "fuzz/fuzz.h"

#define VARIABLES_MAX 64
#define WORDS_MAX 1024
#define WORD_CHARS_MAX 96

static void taken_check(const struct cr_settings *settings)
{
    static char packed[128 * 1024];
    struct cr_error error = {.size = sizeof error};
    struct cr_settings again;
    size_t count;
    (void)cr_setting_rows(&count);
    cr_settings_init(&again);
    fuzz_must(cr_settings_pack(settings, packed, sizeof packed), "settings fit");
    fuzz_must(cr_settings_unpack(&again, packed, &error) == CR_OK, "what was packed is unpacked");
    for (size_t i = 0; i < count; i++) {
        char first[CR_SETTING_TEXT_CHARS_MAX + 1];
        char second[CR_SETTING_TEXT_CHARS_MAX + 1];
        cr_setting_write(settings, i, first, sizeof first);
        cr_setting_write(&again, i, second, sizeof second);
        fuzz_must(strcmp(first, second) == 0 || cr_setting_rows(&count)[i].kind == CR_SETTING_URL,
                  "a value is as it was written");
        fuzz_must(cr_text_is_clean((const unsigned char *)first, strlen(first)),
                  "values are clean");
        cr_setting_show(settings, i, first, sizeof first);
        cr_setting_origin_show(settings, i, second, sizeof second);
        fuzz_must(second[0] != '\0', "an origin can be said");
    }
}

static void refused_check(const struct cr_settings *settings, const struct cr_settings *before,
                          const struct cr_error *error, const char *prefix)
{
    size_t length = strlen(error->text);
    fuzz_must(memcmp(settings, before, sizeof *before) == 0, "nothing of it was taken");
    fuzz_must(error->status == CR_E_INVALID && length > 0, "it says why");
    fuzz_must(cr_text_is_clean((const unsigned char *)error->text, length), "in clean text");
    fuzz_must(strncmp(error->text, prefix, strlen(prefix)) == 0, "and where");
}

/* Who asks for all of it is told the same first. */
static void all_told_check(struct cr_settings settings, const char *text, size_t bytes,
                           const struct cr_error *first)
{
    static struct cr_settings_wrong wrong;
    struct cr_error error = {.size = sizeof error};
    wrong.count = 0;
    wrong.more = false;
    enum cr_status st = cr_settings_parse(&settings, "x.conf", text, bytes, &wrong, &error);
    fuzz_must(st == CR_E_INVALID && wrong.count > 0, "it is wrong again");
    fuzz_must(strcmp(error.text, first->text) == 0 && strcmp(wrong.text[0], first->text) == 0,
              "the first is the first");
    for (size_t i = 0; i < wrong.count; i++)
        for (size_t j = 0; j < i; j++)
            fuzz_must(strcmp(wrong.text[i], wrong.text[j]) != 0, "each is told once");
    taken_check(&settings);
}

static void file_try(struct cr_settings *settings, const char *text, size_t bytes)
{
    struct cr_error error = {.size = sizeof error};
    const struct cr_settings before = *settings;
    long lines = 1;
    for (size_t i = 0; i < bytes; i++)
        lines += text[i] == '\n';
    if (cr_settings_parse(settings, "x.conf", text, bytes, NULL, &error) != CR_OK) {
        refused_check(settings, &before, &error, "x.conf:");
        all_told_check(before, text, bytes, &error);
        long line = strtol(error.text + strlen("x.conf:"), NULL, 10);
        fuzz_must(line >= 1 && line <= lines, "the line is one of the file's");
        fuzz_refused();
        return;
    }
    fuzz_taken();
    taken_check(settings);
    if (cr_settings_finish(settings, NULL, &error) == CR_OK)
        taken_check(settings);
    else
        fuzz_must(error.text[0] != '\0', "what does not go together is said");
}

static void environment_try(struct cr_settings *settings, char *text)
{
    struct cr_error error = {.size = sizeof error};
    const struct cr_settings before = *settings;
    char *variables[VARIABLES_MAX + 1];
    size_t count = 0;
    for (char *line = strsep(&text, "\n"); line != NULL && count < VARIABLES_MAX;
         line = strsep(&text, "\n"))
        variables[count++] = line;
    variables[count] = NULL;
    if (cr_settings_environment(settings, variables, NULL, &error) != CR_OK) {
        refused_check(settings, &before, &error, "");
        fuzz_must(strstr(error.text, CR_SETTING_ENVIRONMENT) != NULL, "the variable is named");
        fuzz_refused();
        return;
    }
    fuzz_taken();
    taken_check(settings);
    fuzz_must(!cr_url_has_password(settings->store), "no password came by the environment");
}

static void one(const unsigned char *data, size_t bytes)
{
    static const char environment[] = "ENVIRONMENT\n";
    static const char packed[] = "PACKED\n";
    struct cr_settings settings;
    struct cr_error error = {.size = sizeof error};
    char *text = malloc(bytes + 1); /* of its own, so that a step outside is seen */
    if (text == NULL)
        return;
    memcpy(text, data, bytes);
    text[bytes] = '\0';
    cr_settings_init(&settings);
    if (strncmp(text, environment, sizeof environment - 1) == 0) {
        environment_try(&settings, text + sizeof environment - 1);
    } else if (strncmp(text, packed, sizeof packed - 1) == 0) {
        if (cr_settings_unpack(&settings, text + sizeof packed - 1, &error) != CR_OK)
            fuzz_must(cr_text_is_clean((const unsigned char *)error.text, strlen(error.text)) &&
                          error.text[0] != '\0',
                      "what is wrong is said in clean text");
    } else {
        char *exact = realloc(text, bytes > 0 ? bytes : 1); /* nothing after the end */
        text = exact != NULL ? exact : text;
        file_try(&settings, text, bytes);
    }
    free(text);
}

/* Names that chance would hardly find. */
static const char *words[WORDS_MAX + 1];

static void word_add(size_t *count, const char *text)
{
    if (*count < WORDS_MAX && (words[*count] = strdup(text)) != NULL)
        ++*count;
}

static bool begin(void)
{
    static const char *const more[] = {"[", "]\n", "\n\n", " ;", "0", "1M", "none\n", "__"};
    size_t count, used = 0;
    const struct cr_setting *rows = cr_setting_rows(&count);
    for (size_t i = 0; i < sizeof more / sizeof more[0]; i++)
        word_add(&used, more[i]);
    for (size_t i = 0; i < count; i++) {
        char text[WORD_CHARS_MAX];
        size_t length = strcspn(rows[i].name, ".");
        (void)snprintf(text, sizeof text, "[%.*s]\n", (int)length, rows[i].name);
        word_add(&used, text);
        (void)snprintf(text, sizeof text, "%s = ", rows[i].name + length + 1);
        word_add(&used, text);
        (void)snprintf(text, sizeof text, "%s=", rows[i].name);
        word_add(&used, text);
        for (const struct cr_setting_choice *c = rows[i].choices; c->name != NULL; c++)
            word_add(&used, c->name);
    }
    return used > 0;
}

const struct fuzz_target fuzz_settings = {"settings", words, begin, one};
