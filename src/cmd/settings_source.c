/* SPDX-License-Identifier: Apache-2.0 */
/* Where settings come from: a file, the environment, or another process of ours. The file's form is
 * inih's. */
#include "cmd/settings.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <ini.h>

#include "base/bytes.h"
#include "cmd/closest.h"

#define FILE_BYTES_MAX ((size_t)64 * 1024)
#define NAME_CHARS_MAX 128
#define SECTIONS_MAX 32

/* ---- a file */

struct reading {
    struct cr_settings *settings;
    bool seen[CR_SETTINGS_MAX];
    const char *path;
    const char *at, *end; /* the file's bytes that are left */
    int line;             /* of the one that was read last */
    int bad_line;         /* 0: nothing wrong so far */
    const int *told;      /* lines that are known to be wrong: as if they were empty */
    size_t told_count;
    bool in_told_section; /* one of them began it */
    struct cr_error *error;
};

static void reading_fail(struct reading *r, const char *why)
{
    if (r->bad_line != 0)
        return; /* the next one is another reading's */
    r->bad_line = r->line;
    (void)cr_setting_refuse(r->error, "%s:%d: %s", r->path, r->line, why);
}

/* The sections that there are, each once. */
static size_t sections_list(char out[SECTIONS_MAX][NAME_CHARS_MAX])
{
    size_t row_count;
    size_t count = 0;
    const struct cr_setting *rows = cr_setting_rows(&row_count);
    for (size_t i = 0; i < row_count && count < SECTIONS_MAX; i++) {
        size_t length = strcspn(rows[i].name, ".");
        if (count > 0 && strlen(out[count - 1]) == length &&
            strncmp(out[count - 1], rows[i].name, length) == 0)
            continue;
        snprintf(out[count++], NAME_CHARS_MAX, "%.*s", (int)length, rows[i].name);
    }
    return count;
}

static bool line_is_told(const struct reading *r)
{
    for (size_t i = 0; i < r->told_count; i++)
        if (r->told[i] == r->line)
            return true;
    return false;
}

/* inih says nothing of a section until something stands in it. */
static void section_check(struct reading *r, const char *line)
{
    char sections[SECTIONS_MAX][NAME_CHARS_MAX];
    const char *names[SECTIONS_MAX];
    char typed[NAME_CHARS_MAX];
    char why[3 * NAME_CHARS_MAX];
    size_t length = strcspn(line, "]");
    if (line[0] != '[' || line[length] != ']' || length >= sizeof typed)
        return;
    snprintf(typed, sizeof typed, "%.*s", (int)length - 1, line + 1);
    size_t count = sections_list(sections);
    for (size_t i = 0; i < count; i++) {
        names[i] = sections[i];
        if (strcmp(typed, sections[i]) == 0)
            return;
    }
    const char *near = cr_closest(typed, names, count, sizeof names[0]);
    if (near != NULL)
        snprintf(why, sizeof why, "there is no section [%s]; did you mean [%s]?", typed, near);
    else
        snprintf(why, sizeof why, "there is no section [%s]; `cloakroom config` lists them", typed);
    reading_fail(r, why);
}

static bool text_is_utf8(const char *text, size_t length)
{
    for (size_t i = 0; i < length;) {
        uint32_t code = 0;
        size_t count = cr_utf8_next((const unsigned char *)text + i, length - i, &code);
        if (count == 0)
            return false;
        i += count;
    }
    return true;
}

/* The first that is no blank. */
static char line_head(const char *line, size_t length)
{
    size_t i = 0;
    while (i < length && (line[i] == ' ' || line[i] == '\t'))
        i++;
    return i < length ? line[i] : '\n';
}

/* As fgets. inih would take the rest of a line that is too long for another line. */
static char *reading_line(char *out, int capacity, void *context)
{
    struct reading *r = context;
    char why[64];
    if (r->at == r->end || r->bad_line != 0)
        return NULL;
    r->line++;
    const char *end = memchr(r->at, '\n', (size_t)(r->end - r->at));
    size_t length = (size_t)((end == NULL ? r->end : end + 1) - r->at);
    const bool is_told = line_is_told(r);
    if (line_head(r->at, length) == '[')
        r->in_told_section = is_told;
    if (is_told) {
        memcpy(out, "\n", 2);
        r->at += length;
    } else if (length > (size_t)capacity - 2) {
        snprintf(why, sizeof why, "the line is too long: %d bytes are the most", capacity - 3);
        reading_fail(r, why);
    } else if (memchr(r->at, '\0', length) != NULL) {
        reading_fail(r, "there is a NUL in the line");
    } else if (!text_is_utf8(r->at, length)) {
        reading_fail(r, "the line is not UTF-8");
    } else {
        memcpy(out, r->at, length);
        out[length] = '\0';
        r->at += length;
        section_check(r, out);
    }
    return r->bad_line == 0 ? out : NULL;
}

static int reading_pair(void *context, const char *section, const char *key, const char *value)
{
    struct reading *r = context;
    char name[512];
    struct cr_error error = {.size = sizeof error};
    size_t row_count;
    (void)cr_setting_rows(&row_count);
    if (r->bad_line != 0)
        return 0;
    if (r->in_told_section)
        return 1; /* nobody knows what it was to be */
    if (section[0] == '\0') {
        snprintf(name, sizeof name, "%s stands before any [section]", key);
        reading_fail(r, name);
        return 0;
    }
    snprintf(name, sizeof name, "%s.%s", section, key);
    size_t index = cr_setting_find(name);
    const struct cr_setting_origin origin = {CR_ORIGIN_FILE, r->line};
    if (index < row_count && r->seen[index]) {
        (void)cr_setting_refuse(&error, "%s stands here a second time", name);
    } else if (cr_settings_set(r->settings, name, value, origin, &error) == CR_OK) {
        r->seen[index] = true;
        return 1;
    }
    reading_fail(r, error.text);
    return 0;
}

/* The first line of it that is wrong; 0: none is. */
static int reading_run(struct reading *r)
{
    int result = ini_parse_stream(reading_line, r, reading_pair, r);
    /* inih goes on after a line that it did not understand. */
    if (result != 0 && (r->bad_line == 0 || result < r->bad_line)) {
        r->line = result > 0 ? result : r->line;
        r->bad_line = 0;
        reading_fail(r, "neither [section] nor key = value");
    }
    return r->bad_line;
}

enum cr_status cr_settings_parse(struct cr_settings *settings, const char *path, const char *bytes,
                                 size_t count, struct cr_settings_wrong *wrong,
                                 struct cr_error *out_error)
{
    enum cr_status st = CR_OK;
    struct cr_settings copy;
    struct cr_error error = {.size = sizeof error};
    int told[CR_SETTINGS_WRONG_MAX + 1];
    size_t told_count = 0;
    int bad;
    /* Once more for each that is wrong, which the next reading passes over. */
    do {
        copy = *settings;
        struct reading reading = {.settings = &copy,
                                  .path = path,
                                  .at = bytes,
                                  .end = bytes + count,
                                  .told = told,
                                  .told_count = told_count,
                                  .error = &error};
        bad = reading_run(&reading);
        if (bad != 0) {
            st = cr_settings_wrong_add(wrong, st, &error, out_error);
            told[told_count++] = bad;
        }
    } while (bad != 0 && wrong != NULL && told_count <= CR_SETTINGS_WRONG_MAX);
    snprintf(copy.file, sizeof copy.file, "%s", path);
    /* For what is looked at besides. */
    if (st == CR_OK || wrong != NULL)
        *settings = copy;
    return st;
}

/* The caller frees *out_bytes. *out_open: people may read it, or write it, who need not. */
static enum cr_status file_take(const char *path, char **out_bytes, size_t *out_count,
                                bool *out_open, struct cr_error *out_error)
{
    enum cr_status st = CR_E_IO;
    size_t count = 0;
    ssize_t got = 0;
    struct stat about;
    char *bytes = malloc(FILE_BYTES_MAX + 1);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (bytes == NULL || fd < 0 || fstat(fd, &about) != 0)
        goto out;
    *out_open = S_ISREG(about.st_mode) && (about.st_mode & 0027) != 0;
    while (count <= FILE_BYTES_MAX &&
           (got = read(fd, bytes + count, FILE_BYTES_MAX + 1 - count)) > 0)
        count += (size_t)got;
    if (got < 0)
        goto out;
    st = count > FILE_BYTES_MAX ? CR_E_LIMIT : CR_OK;
out:
    if (st != CR_OK) {
        out_error->status = st;
        snprintf(out_error->text, sizeof out_error->text, "%s: %s%s", path,
                 st == CR_E_LIMIT ? "the file is larger than 64 KiB" : strerror(errno),
                 st == CR_E_IO && strcmp(path, CR_SETTINGS_FILE) == 0
                     ? "; with --config, another is read (/dev/null: none)"
                     : "");
        if (bytes != NULL)
            cr_bytes_wipe(bytes, count);
        free(bytes);
        bytes = NULL;
    }
    if (fd >= 0)
        close(fd);
    *out_bytes = bytes;
    *out_count = count;
    return st;
}

/* A password in a file is for those who need it. */
static enum cr_status secrets_check(const struct cr_settings *settings, struct cr_error *out_error)
{
    size_t count;
    const struct cr_setting *rows = cr_setting_rows(&count);
    for (size_t i = 0; i < count; i++) {
        const char *value = (const char *)settings + rows[i].offset;
        if (rows[i].kind == CR_SETTING_URL && settings->origins[i].kind == CR_ORIGIN_FILE &&
            cr_url_has_password(value))
            return cr_setting_refuse(out_error,
                                     "%s:%d: %s has a password in it, and the file is open to "
                                     "others: chmod 600 %s",
                                     settings->file, settings->origins[i].line, rows[i].name,
                                     settings->file);
    }
    return CR_OK;
}

enum cr_status cr_settings_read(struct cr_settings *settings, const char *path,
                                struct cr_settings_wrong *wrong, struct cr_error *out_error)
{
    struct cr_error error = {.size = sizeof error};
    char *bytes = NULL;
    size_t count = 0;
    bool open_to_others = false;
    enum cr_status st = file_take(path, &bytes, &count, &open_to_others, &error);
    if (st != CR_OK)
        return cr_settings_wrong_add(wrong, CR_OK, &error, out_error);
    struct cr_settings copy = *settings;
    st = cr_settings_parse(&copy, path, bytes, count, wrong, out_error);
    if ((st == CR_OK || wrong != NULL) && open_to_others && secrets_check(&copy, &error) != CR_OK)
        st = cr_settings_wrong_add(wrong, st, &error, out_error);
    if (st == CR_OK || wrong != NULL)
        *settings = copy;
    cr_bytes_wipe(bytes, count);
    free(bytes);
    return st;
}

/* ---- credentials */

static enum cr_status credential_take(struct cr_settings *settings, size_t index, const char *path,
                                      struct cr_error *out_error)
{
    char *bytes = NULL;
    size_t count = 0;
    size_t row_count;
    bool open_to_others = false;
    struct cr_error error = {.size = sizeof error};
    const char *name = cr_setting_rows(&row_count)[index].name;
    const struct cr_setting_origin origin = {CR_ORIGIN_CREDENTIAL, 0};
    enum cr_status st = file_take(path, &bytes, &count, &open_to_others, out_error);
    if (st != CR_OK)
        return st;
    bytes[count] = '\0';
    bytes[strcspn(bytes, "\r\n")] = '\0';
    if (open_to_others)
        st = cr_setting_refuse(out_error, "%s is open to others: chmod 600 %s", path, path);
    else if (cr_setting_put(settings, index, bytes, origin, &error) != CR_OK)
        st = cr_setting_refuse(out_error, "%s: credential %s: %.600s", path, name, error.text);
    cr_bytes_wipe(bytes, count);
    free(bytes);
    return st;
}

enum cr_status cr_settings_credentials(struct cr_settings *settings, const char *directory,
                                       struct cr_error *out_error)
{
    struct cr_settings copy = *settings;
    char path[NAME_CHARS_MAX + CR_SETTING_TEXT_CHARS_MAX];
    size_t count;
    const struct cr_setting *rows = cr_setting_rows(&count);
    for (size_t i = 0; directory != NULL && directory[0] == '/' && i < count; i++) {
        if (rows[i].kind != CR_SETTING_URL ||
            snprintf(path, sizeof path, "%s/%s", directory, rows[i].name) >= (int)sizeof path ||
            access(path, F_OK) != 0)
            continue;
        enum cr_status st = credential_take(&copy, i, path, out_error);
        if (st != CR_OK)
            return st;
    }
    *settings = copy;
    return CR_OK;
}

/* ---- the environment */

/* CLOAKROOM__CACHE__HUGE_PAGES */
static void variable_name(const char *row, char out[NAME_CHARS_MAX])
{
    size_t length = (size_t)snprintf(out, NAME_CHARS_MAX, "%s", CR_SETTING_ENVIRONMENT);
    for (const char *c = row; *c != '\0' && length + 3 < NAME_CHARS_MAX; c++) {
        out[length++] = *c == '.' ? '_' : (char)toupper((unsigned char)*c);
        if (*c == '.')
            out[length++] = '_';
    }
    out[length] = '\0';
}

static enum cr_status variable_unknown(const char *typed, struct cr_error *out_error)
{
    const struct cr_setting *rows;
    size_t count;
    char name[NAME_CHARS_MAX] = "";
    size_t length = 0;
    /* As a row's name, so that likeness is not counted in what all have. */
    for (const char *c = typed + strlen(CR_SETTING_ENVIRONMENT);
         *c != '\0' && length + 1 < sizeof name; c++) {
        bool between = c[0] == '_' && c[1] == '_' && memchr(name, '.', length) == NULL;
        name[length++] = between ? '.' : (char)tolower((unsigned char)*c);
        c += between;
    }
    name[length] = '\0';
    rows = cr_setting_rows(&count);
    const char *near = cr_closest(name, &rows[0].name, count, sizeof rows[0]);
    if (near == NULL)
        return cr_setting_refuse(out_error,
                                 "%s: there is no such setting; `cloakroom config` "
                                 "lists them",
                                 typed);
    variable_name(near, name);
    return cr_setting_refuse(out_error, "%s: there is no such setting; did you mean %s?", typed,
                             name);
}

static enum cr_status variable_take(struct cr_settings *settings, const char *entry,
                                    struct cr_error *out_error)
{
    char typed[NAME_CHARS_MAX];
    char name[NAME_CHARS_MAX];
    size_t count;
    size_t index = 0;
    struct cr_error error = {.size = sizeof error};
    const struct cr_setting *rows = cr_setting_rows(&count);
    const char *value = strchr(entry, '=');
    if (value == NULL)
        return CR_OK; /* not a variable */
    snprintf(typed, sizeof typed, "%.*s", (int)(value - entry), entry);
    value++;
    if (!cr_text_is_clean((const unsigned char *)typed, strlen(typed)))
        return cr_setting_refuse(
            out_error, "a variable of the environment that begins with " CR_SETTING_ENVIRONMENT
                       " has a name that is not clean text");
    for (; index < count; index++) {
        variable_name(rows[index].name, name);
        if (strcmp(name, typed) == 0)
            break;
    }
    if (index == count)
        return variable_unknown(typed, out_error);
    if (settings->origins[index].kind == CR_ORIGIN_ENVIRONMENT)
        return cr_setting_refuse(out_error, "%s is there a second time", typed);
    if (rows[index].kind == CR_SETTING_URL && cr_url_has_password(value))
        return cr_setting_refuse(out_error,
                                 "%s has a password in it, and what a process has in its "
                                 "environment is handed on and shown: put it into a settings file "
                                 "with mode 0600",
                                 typed);
    const struct cr_setting_origin origin = {CR_ORIGIN_ENVIRONMENT, 0};
    if (cr_setting_put(settings, index, value, origin, &error) != CR_OK)
        return cr_setting_refuse(out_error, "%s: %.700s", typed, error.text);
    return CR_OK;
}

enum cr_status cr_settings_environment(struct cr_settings *settings, char *const *environment,
                                       struct cr_settings_wrong *wrong, struct cr_error *out_error)
{
    struct cr_settings copy = *settings;
    struct cr_error error = {.size = sizeof error};
    enum cr_status st = CR_OK;
    const size_t length = strlen(CR_SETTING_ENVIRONMENT);
    for (char *const *entry = environment; entry != NULL && *entry != NULL; entry++) {
        if (strncmp(*entry, CR_SETTING_ENVIRONMENT, length) == 0 &&
            variable_take(&copy, *entry, &error) != CR_OK)
            st = cr_settings_wrong_add(wrong, st, &error, out_error);
        if (st != CR_OK && wrong == NULL)
            return st;
    }
    *settings = copy;
    return st;
}

/* ---- a process of ours: lines of "KIND LINE NAME=VALUE", and first the file's name */

bool cr_settings_pack(const struct cr_settings *settings, char *out, size_t capacity)
{
    char value[CR_SETTING_TEXT_CHARS_MAX + 1];
    size_t count;
    const struct cr_setting *rows = cr_setting_rows(&count);
    int length = snprintf(out, capacity, "%s\n", settings->file);
    for (size_t i = 0; i < count && length >= 0 && (size_t)length < capacity; i++) {
        if (rows[i].kind == CR_SETTING_URL)
            continue;
        cr_setting_write(settings, i, value, sizeof value);
        int added = snprintf(out + length, capacity - (size_t)length, "%d %d %s=%s\n",
                             (int)settings->origins[i].kind, settings->origins[i].line,
                             rows[i].name, value);
        length = added < 0 ? added : length + added;
    }
    return length >= 0 && (size_t)length < capacity;
}

static enum cr_status line_unpack(struct cr_settings *settings, char *line,
                                  struct cr_error *out_error)
{
    char *at = line;
    size_t count;
    long kind = strtol(at, &at, 10);
    long number = strtol(at, &at, 10);
    char *value = strchr(at, '=');
    (void)cr_setting_rows(&count);
    if (value == NULL || *at != ' ' || kind < CR_ORIGIN_DEFAULT || kind > CR_ORIGIN_OPTION)
        return cr_setting_refuse(out_error, "settings that were handed over are not of their form");
    *value++ = '\0';
    size_t index = cr_setting_find(at + 1);
    const struct cr_setting_origin origin = {(enum cr_origin_kind)kind, (int)number};
    if (index < count && value[0] == '\0' && kind == CR_ORIGIN_DEFAULT)
        return CR_OK; /* it has none */
    return cr_settings_set(settings, at + 1, value, origin, out_error);
}

enum cr_status cr_settings_unpack(struct cr_settings *settings, char *text,
                                  struct cr_error *out_error)
{
    enum cr_status st = CR_OK;
    char *rest = text;
    const char *file = strsep(&rest, "\n");
    snprintf(settings->file, sizeof settings->file, "%s", file);
    for (char *line = strsep(&rest, "\n"); st == CR_OK && line != NULL && line[0] != '\0';
         line = strsep(&rest, "\n"))
        st = line_unpack(settings, line, out_error);
    return st;
}
