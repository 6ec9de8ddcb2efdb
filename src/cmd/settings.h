/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What can be set, in one table: it feeds the settings file, the environment, the options of the
 * commands, `cloakroom config`, cloakroom.conf(5) and packaging/cloakroom.conf (tools/settings.py
 * writes the last two, and a test compares them). A settings file looks so:
 *
 *     ; a comment
 *     [cache]
 *     kind = shared
 *     memory = 256M
 *
 * Everything that is wrong in it is told with file and line, and nothing of it is taken then.
 *
 * Each value knows where it comes from. What is taken later outweighs: default, file, credential,
 * environment, option. A password (in the store's URL) may only stand in a file that others cannot
 * read: arguments and environments are seen by too many.
 */
#ifndef CMD_SETTINGS_H
#define CMD_SETTINGS_H

#include <cloakroom/session.h>

#define CR_SETTING_TEXT_CHARS_MAX 1023
#define CR_SETTINGS_MAX 96
#define CR_SETTINGS_FILE "/etc/cloakroom/cloakroom.conf" /* read when none is named */
#define CR_SETTING_ENVIRONMENT "CLOAKROOM__"             /* and SECTION__KEY */
#define CR_SETTING_CHOICES_MAX 4

/* A policy as one value: "replace", "keep", "keep 3". */
struct cr_setting_policy {
    enum cr_policy policy;
    unsigned keep_count;
};

enum cr_profile { CR_PROFILE_NONE, CR_PROFILE_AAL1, CR_PROFILE_AAL2, CR_PROFILE_AAL3 };

enum cr_origin_kind {
    CR_ORIGIN_DEFAULT,
    CR_ORIGIN_PROFILE, /* follows from session.profile */
    CR_ORIGIN_FILE,
    CR_ORIGIN_CREDENTIAL, /* a file that the service manager hands over, of the setting's name */
    CR_ORIGIN_ENVIRONMENT,
    CR_ORIGIN_OPTION
};

struct cr_setting_origin {
    enum cr_origin_kind kind;
    int line; /* of the file; 0 otherwise */
};

/* The values. Text that is empty was not set. */
struct cr_settings {
    char listen[CR_SETTING_TEXT_CHARS_MAX + 1];
    int64_t workers;
    int64_t behind_tls; /* 0, 1 */
    char proxies[CR_SETTING_TEXT_CHARS_MAX + 1];
    int64_t connections;
    char clear_site_data[CR_SETTING_TEXT_CHARS_MAX + 1];
    char server_user[CR_SETTING_TEXT_CHARS_MAX + 1];
    char ops_socket[CR_SETTING_TEXT_CHARS_MAX + 1];
    int64_t ops_socket_mode;
    char ops_listen[CR_SETTING_TEXT_CHARS_MAX + 1];
    char store[CR_SETTING_TEXT_CHARS_MAX + 1];
    char state[CR_SETTING_TEXT_CHARS_MAX + 1];
    int64_t socket_mode;
    char agent_user[CR_SETTING_TEXT_CHARS_MAX + 1];
    int64_t cache; /* enum cr_cache */
    int64_t cache_bytes;
    int64_t huge_pages; /* enum cr_huge_pages */
    int64_t profile;    /* enum cr_profile */
    cr_span_ms idle, absolute;
    char longer_because[CR_SETTING_TEXT_CHARS_MAX + 1];
    struct cr_setting_policy on_login;
    char realm[CR_SETTING_TEXT_CHARS_MAX + 1];
    char first_user[CR_SETTING_TEXT_CHARS_MAX + 1];
    int64_t hash_threads, hash_queue;
    cr_span_ms backup_stall;
    int64_t backup_log_bytes;
    int64_t limits; /* 0, 1 */
    char limit_account[CR_SETTING_TEXT_CHARS_MAX + 1], limit_pair[CR_SETTING_TEXT_CHARS_MAX + 1];
    char limit_source[CR_SETTING_TEXT_CHARS_MAX + 1],
        limit_source_56[CR_SETTING_TEXT_CHARS_MAX + 1];
    char limit_source_48[CR_SETTING_TEXT_CHARS_MAX + 1],
        limit_device[CR_SETTING_TEXT_CHARS_MAX + 1];
    int64_t limit_entries;
    int64_t password_length_min;
    char password_list[CR_SETTING_TEXT_CHARS_MAX + 1]; /* file; empty: none */
    cr_span_ms lease, poll, grace;
    int64_t log_level;                                 /* enum cr_log_level */
    int64_t log_json;                                  /* 0, 1 */
    char audit[CR_SETTING_TEXT_CHARS_MAX + 1];         /* where events go; empty: nowhere */
    char file[CR_SETTING_TEXT_CHARS_MAX + 1];          /* that was read; empty: none */
    struct cr_setting_origin origins[CR_SETTINGS_MAX]; /* by row */
};

enum cr_setting_kind {
    CR_SETTING_TEXT,
    CR_SETTING_URL, /* text that may hold a password */
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

/* The number of the row of that name; the count of rows when there is none. */
size_t cr_setting_find(const char *name);

/* `name` = `value`, as a person wrote it. CR_E_INVALID, with what would be right. */
CR_MUST_CHECK enum cr_status cr_settings_set(struct cr_settings *settings, const char *name,
                                             const char *value, struct cr_setting_origin origin,
                                             struct cr_error *out_error);
/* The same for row number `index`. */
CR_MUST_CHECK enum cr_status cr_setting_put(struct cr_settings *settings, size_t index,
                                            const char *value, struct cr_setting_origin origin,
                                            struct cr_error *out_error);
/* CR_E_INVALID with that text. */
enum cr_status cr_setting_refuse(struct cr_error *out_error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/*
 * What is wrong, each with where it stands. Calls below that take one go on after a mistake and add
 * all of them; with NULL they end at the first, which is `out_error`'s either way.
 */
#define CR_SETTINGS_WRONG_MAX 20
struct cr_settings_wrong {
    size_t count; /* at most CR_SETTINGS_WRONG_MAX */
    bool more;    /* than are kept */
    char text[CR_SETTINGS_WRONG_MAX][sizeof((struct cr_error *)NULL)->text];
};
/* Adds `error`; copies it to `out_error` where `so_far` is CR_OK. The first of both statuses. */
CR_MUST_CHECK enum cr_status cr_settings_wrong_add(struct cr_settings_wrong *wrong,
                                                   enum cr_status so_far,
                                                   const struct cr_error *error,
                                                   struct cr_error *out_error);

/* ---- settings_source.c: where values come from */

/* All of a settings file, or nothing of it: CR_E_INVALID with file and line, CR_E_IO when it cannot
 * be read. A key that stands there twice is an error; one that was set before is overwritten. */
CR_MUST_CHECK enum cr_status cr_settings_read(struct cr_settings *settings, const char *path,
                                              struct cr_settings_wrong *wrong,
                                              struct cr_error *out_error);
/* The same for its bytes; `path` is for what is said. */
CR_MUST_CHECK enum cr_status cr_settings_parse(struct cr_settings *settings, const char *path,
                                               const char *bytes, size_t count,
                                               struct cr_settings_wrong *wrong,
                                               struct cr_error *out_error);

/* What is secret, from the files of `directory` ($CREDENTIALS_DIRECTORY) that have a setting's
 * name: store.url. Their first line counts. NULL: there is none. All of it or nothing: CR_E_INVALID
 * with the file's name, also where others may read it; CR_E_IO. */
CR_MUST_CHECK enum cr_status cr_settings_credentials(struct cr_settings *settings,
                                                     const char *directory,
                                                     struct cr_error *out_error);

/* What CLOAKROOM__SECTION__KEY says, in `environment` (as environ; NULL at the end). All of it or
 * nothing: CR_E_INVALID with the variable's name, also for one that names no setting. */
CR_MUST_CHECK enum cr_status cr_settings_environment(struct cr_settings *settings,
                                                     char *const *environment,
                                                     struct cr_settings_wrong *wrong,
                                                     struct cr_error *out_error);

/* Every value and its origin, for a process of ours: cr_settings_unpack reads it again. The store's
 * URL is left out. False: `capacity` is too small. */
CR_MUST_CHECK bool cr_settings_pack(const struct cr_settings *settings, char *out, size_t capacity);
CR_MUST_CHECK enum cr_status cr_settings_unpack(struct cr_settings *settings, char *text,
                                                struct cr_error *out_error);

/* ---- settings_check.c: what they mean together */

/* The lifetimes that follow from the profile, where nothing else was said; and CR_E_INVALID, with
 * where it was said, for values that do not go together. */
CR_MUST_CHECK enum cr_status cr_settings_finish(struct cr_settings *settings,
                                                struct cr_settings_wrong *wrong,
                                                struct cr_error *out_error);

/* "/etc/x.conf:3", "CLOAKROOM__CACHE__KIND", "--cache", "profile aal2", "default". */
void cr_setting_origin_show(const struct cr_settings *settings, size_t index, char *out,
                            size_t capacity);

/* When sessions end, in a sentence. */
void cr_settings_policy_show(const struct cr_settings *settings, char *out, size_t capacity);

#define CR_SETTINGS_NAMES_BYTES 2048
/* Puts into *running what *fresh has changed and what can change while running. The names of those
 * go to `out_taken`, and of the others to `out_restart`, separated by ", "; empty: none. Rows whose
 * names begin with `except` are left alone (NULL: none are). */
void cr_settings_take_over(struct cr_settings *running, const struct cr_settings *fresh,
                           const char *except, char *out_taken, char *out_restart, size_t capacity);

/* ---- showing */

/* The value of row number `index` as one writes it; cut to `capacity`. */
void cr_setting_write(const struct cr_settings *settings, size_t index, char *out, size_t capacity);
/* The same for people and logs: a password is left out. */
void cr_setting_show(const struct cr_settings *settings, size_t index, char *out, size_t capacity);

/* scheme://user:PASSWORD@host, or ?password=PASSWORD. */
CR_MUST_CHECK bool cr_url_has_password(const char *url);
/* With *** for the password. */
void cr_url_show(const char *url, char *out, size_t capacity);

/* What a row takes, for people: "1M to 1024G", "none, memory or shared". */
void cr_setting_range(size_t index, char *out, size_t capacity);

/* A span as one writes it: "90s", "12h". For people too. */
void cr_span_write(cr_span_ms span, char *out, size_t capacity);
/* "500ms", "90s", "30m", "12h", "7d"; 0 without a unit. False: not of that form. */
CR_MUST_CHECK bool cr_span_read(const char *text, cr_span_ms *out_span);

#endif
