/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What can be set, in one table: it feeds the settings file, the options of `serve` and `agent`,
 * `cloakroom config` and the manual page (a test compares them). A settings file looks so:
 *
 *     ; a comment
 *     [cache]
 *     kind = shared
 *     memory = 256M
 *
 * Everything that is wrong in it is told with file and line, and nothing of it is taken then.
 */
#ifndef CMD_SETTINGS_H
#define CMD_SETTINGS_H

#include <cloakroom/session.h>

#define CR_SETTING_TEXT_CHARS_MAX 1023
#define CR_SETTINGS_MAX 32
#define CR_SETTING_CHOICES_MAX 4

/* A policy as one value: "replace", "keep", "keep 3". */
struct cr_setting_policy {
    enum cr_policy policy;
    unsigned keep_count;
};

/* The values. Text that is empty was not set. */
struct cr_settings {
    char listen[CR_SETTING_TEXT_CHARS_MAX + 1];
    int64_t workers;
    int64_t behind_tls; /* 0, 1 */
    int64_t connections;
    char clear_site_data[CR_SETTING_TEXT_CHARS_MAX + 1];
    char store[CR_SETTING_TEXT_CHARS_MAX + 1];
    char state[CR_SETTING_TEXT_CHARS_MAX + 1];
    int64_t socket_mode;
    int64_t cache; /* enum cr_cache */
    int64_t cache_bytes;
    int64_t huge_pages; /* enum cr_huge_pages */
    cr_span_ms idle, absolute;
    struct cr_setting_policy on_login;
    char realm[CR_SETTING_TEXT_CHARS_MAX + 1];
    int64_t hash_threads, hash_queue;
    cr_span_ms lease, poll, grace;
    int64_t log_level;           /* enum cr_log_level */
    int64_t log_json;            /* 0, 1 */
    bool given[CR_SETTINGS_MAX]; /* by row: said by the file or an option */
};

enum cr_setting_kind {
    CR_SETTING_TEXT,
    CR_SETTING_COUNT,
    CR_SETTING_BYTES,
    CR_SETTING_SPAN,
    CR_SETTING_CHOICE,
    CR_SETTING_POLICY
};

struct cr_setting_choice {
    const char *name; /* NULL ends */
    int64_t value;
};

struct cr_setting {
    const char *name; /* "section.key" */
    enum cr_setting_kind kind;
    bool reloads;        /* SIGHUP takes it over */
    size_t offset;       /* in struct cr_settings */
    int64_t least, most; /* of numbers, in the kind's unit: bytes, milliseconds, or just that many;
                            of text, characters */
    const char *normal;  /* the default, as one writes it; "": none */
    const char *option;  /* the long option that sets it; NULL: none */
    const char *value;   /* how its value is called: "ADDR" */
    const char *text;
    struct cr_setting_choice choices[CR_SETTING_CHOICES_MAX + 1];
};

/* The rows, in the order in which they are shown. */
const struct cr_setting *cr_setting_rows(size_t *out_count);

void cr_settings_init(struct cr_settings *settings);

/* `name` = `value`, as a person wrote it. CR_E_INVALID, with what would be right. */
CR_MUST_CHECK enum cr_status cr_settings_set(struct cr_settings *settings, const char *name,
                                             const char *value, struct cr_error *out_error);

/* All of a settings file, or nothing of it: CR_E_INVALID with file and line, CR_E_IO when it cannot
 * be read. A key that stands there twice is an error; one that was set before is overwritten. */
CR_MUST_CHECK enum cr_status cr_settings_read(struct cr_settings *settings, const char *path,
                                              struct cr_error *out_error);

/* CR_E_INVALID: values that do not go together. */
CR_MUST_CHECK enum cr_status cr_settings_check(const struct cr_settings *settings,
                                               struct cr_error *out_error);

/* The value of row number `index` as one writes it; cut to `capacity`. */
void cr_setting_write(const struct cr_settings *settings, size_t index, char *out, size_t capacity);

/* What a row takes, for people: "1M to 1024G", "none, memory or shared". */
void cr_setting_range(size_t index, char *out, size_t capacity);

/* A span as one writes it: "90s", "12h". For people too. */
void cr_span_write(cr_span_ms span, char *out, size_t capacity);
/* "500ms", "90s", "30m", "12h", "7d"; 0 without a unit. False: not of that form. */
CR_MUST_CHECK bool cr_span_read(const char *text, cr_span_ms *out_span);

#endif
