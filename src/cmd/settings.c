/* SPDX-License-Identifier: Apache-2.0 */
/* The table of settings, and how values are read and written. The file's form is inih's. */
#include "cmd/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <ini.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/log.h"
#include "base/shm.h"
#include "cmd/closest.h"

#define KIB ((int64_t)1 << 10)
#define MIB ((int64_t)1 << 20)
#define GIB ((int64_t)1 << 30)
#define SECOND ((int64_t)1000)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)
#define TEXT_MAX CR_SETTING_TEXT_CHARS_MAX
#define FILE_BYTES_MAX ((size_t)64 * 1024)
#define AT(field) offsetof(struct cr_settings, field)

/* clang-format off */
#define YES_NO {{"no", 0}, {"yes", 1}}
static const struct cr_setting rows[] = {
    {"server.listen", CR_SETTING_TEXT, false, AT(listen), 1, 400, "127.0.0.1:8080", "listen", "ADDR",
     "addresses and ports of the HTTP server, separated by commas; TLS ends at a proxy before it", {{0}}},
    {"server.workers", CR_SETTING_COUNT, false, AT(workers), 1, 64, "2", "workers", "N",
     "HTTP workers", {{0}}},
    {"server.behind_tls", CR_SETTING_CHOICE, false, AT(behind_tls), 0, 0, "no", "behind-tls", "yes|no",
     "a proxy in front speaks TLS: secure cookies also on a loopback address", YES_NO},
    {"server.connections", CR_SETTING_COUNT, false, AT(connections), 1, 100000, "1000", NULL, "N",
     "connections of one worker at a time", {{0}}},
    {"server.clear_site_data", CR_SETTING_TEXT, false, AT(clear_site_data), 0, 100, "cookies", NULL, "LIST",
     "what a browser is told to forget at log-out; empty: nothing", {{0}}},
    {"store.url", CR_SETTING_TEXT, false, AT(store), 1, TEXT_MAX, "", "store", "URL",
     "where the sessions are kept: sqlite:///PATH", {{0}}},
    {"agent.state", CR_SETTING_TEXT, false, AT(state), 1, 200, "", "state", "DIR",
     "directory of the agent's sockets; when not set, it follows from the store", {{0}}},
    {"agent.socket_mode", CR_SETTING_CHOICE, false, AT(socket_mode), 0, 0, "0600", NULL, "MODE",
     "whose applications may come: the agent's own user's, its group's, or everybody's",
     {{"0600", 0600}, {"0660", 0660}, {"0666", 0666}}},
    {"cache.kind", CR_SETTING_CHOICE, true, AT(cache), 0, 0, "shared", "cache", "NAME",
     "session cache",
     {{"none", CR_CACHE_NONE}, {"memory", CR_CACHE_MEMORY}, {"shared", CR_CACHE_SHARED}}},
    {"cache.memory", CR_SETTING_BYTES, true, AT(cache_bytes), MIB, 1024 * GIB, "64M", "cache-memory", "SIZE",
     "memory of the session cache", {{0}}},
    {"cache.huge_pages", CR_SETTING_CHOICE, true, AT(huge_pages), 0, 0, "auto", NULL, "NAME",
     "huge pages for that: asked for, of the pool that is reserved for them, or none",
     {{"auto", CR_HUGE_AUTO}, {"reserved", CR_HUGE_RESERVED}, {"off", CR_HUGE_OFF}}},
    {"session.idle", CR_SETTING_SPAN, false, AT(idle), SECOND, CR_SPAN_MS_MAX, "30m", NULL, "SPAN",
     "a session ends when it was not used for so long", {{0}}},
    {"session.absolute", CR_SETTING_SPAN, false, AT(absolute), SECOND, CR_SPAN_MS_MAX, "12h", NULL, "SPAN",
     "a session ends so long after its login, whatever its use", {{0}}},
    {"session.on_login", CR_SETTING_POLICY, false, AT(on_login), 1, 1000, "replace", "on-login", "POLICY",
     "earlier sessions of who logs in: they end, stay, or only the newest N stay", {{0}}},
    {"session.realm", CR_SETTING_TEXT, false, AT(realm), 1, 200, "cloakroom", NULL, "NAME",
     "tokens of one realm are refused in another", {{0}}},
    {"login.hash_threads", CR_SETTING_COUNT, false, AT(hash_threads), 1, 64, "1", NULL, "N",
     "passwords that are hashed at a time; each takes 46 MiB meanwhile", {{0}}},
    {"login.hash_queue", CR_SETTING_COUNT, false, AT(hash_queue), 1, 10000, "64", NULL, "N",
     "log-ins that wait for that; more are told to try again later", {{0}}},
    {"engine.lease", CR_SETTING_SPAN, false, AT(lease), 500, MINUTE, "5s", NULL, "SPAN",
     "how long this host answers without hearing from a store that several hosts share", {{0}}},
    {"engine.poll", CR_SETTING_SPAN, false, AT(poll), 50, 10 * SECOND, "1s", NULL, "SPAN",
     "how often it asks; a lease is at least five of these", {{0}}},
    {"engine.grace", CR_SETTING_SPAN, false, AT(grace), 0, HOUR, "0", NULL, "SPAN",
     "how much longer it may answer after that; part of every bound", {{0}}},
    {"log.level", CR_SETTING_CHOICE, false, AT(log_level), 0, 0, "info", NULL, "LEVEL",
     "the least that is logged",
     {{"debug", CR_LOG_DEBUG}, {"info", CR_LOG_INFO}, {"warn", CR_LOG_WARN}, {"error", CR_LOG_ERROR}}},
    {"log.json", CR_SETTING_CHOICE, false, AT(log_json), 0, 0, "no", NULL, "yes|no",
     "log lines as JSON", YES_NO},
};
/* clang-format on */
#define ROW_COUNT (sizeof rows / sizeof rows[0])
_Static_assert(ROW_COUNT <= CR_SETTINGS_MAX, "each row has its place in `given`");

struct unit {
    const char *name;
    int64_t size;
};
/* From small to large: the largest that divides is used for writing. */
static const struct unit byte_units[] = {{"", 1}, {"K", KIB}, {"M", MIB}, {"G", GIB}};
static const struct unit span_units[] = {
    {"ms", 1}, {"s", SECOND}, {"m", MINUTE}, {"h", HOUR}, {"d", DAY}};
#define UNIT_COUNT(units) (sizeof(units) / sizeof(units)[0])

const struct cr_setting *cr_setting_rows(size_t *out_count)
{
    *out_count = ROW_COUNT;
    return rows;
}

static enum cr_status invalid(struct cr_error *out_error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static enum cr_status invalid(struct cr_error *out_error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    out_error->status = CR_E_INVALID;
    vsnprintf(out_error->text, sizeof out_error->text, format, arguments);
    va_end(arguments);
    return CR_E_INVALID;
}

/* ---- numbers with units */

/* Digits, and then exactly one of the units. */
static bool number_read(const char *text, const struct unit *units, size_t count, int64_t *out)
{
    char *end;
    if (text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (errno != 0)
        return false;
    for (size_t i = 0; i < count; i++)
        if (strcmp(end, units[i].name) == 0)
            return !__builtin_mul_overflow((int64_t)number, units[i].size, out);
    return false;
}

static void number_write(int64_t number, const struct unit *units, size_t count, char *out,
                         size_t capacity)
{
    size_t best = 0;
    if (number == 0) {
        snprintf(out, capacity, "0");
        return;
    }
    for (size_t i = 1; i < count; i++)
        if (number % units[i].size == 0)
            best = i;
    snprintf(out, capacity, "%" PRId64 "%s", number / units[best].size, units[best].name);
}

void cr_span_write(cr_span_ms span, char *out, size_t capacity)
{
    number_write(span, span_units, UNIT_COUNT(span_units), out, capacity);
}

bool cr_span_read(const char *text, cr_span_ms *out_span)
{
    if (strcmp(text, "0") == 0) {
        *out_span = 0;
        return true;
    }
    return number_read(text, span_units, UNIT_COUNT(span_units), out_span);
}

/* A number of this row as one writes it. */
static void row_number_write(const struct cr_setting *row, int64_t number, char *out,
                             size_t capacity)
{
    if (row->kind == CR_SETTING_SPAN)
        number_write(number, span_units, UNIT_COUNT(span_units), out, capacity);
    else if (row->kind == CR_SETTING_BYTES)
        number_write(number, byte_units, UNIT_COUNT(byte_units), out, capacity);
    else
        snprintf(out, capacity, "%" PRId64, number);
}

/* ---- setting one */

static enum cr_status set_number(const struct cr_setting *row, const char *value, int64_t *at,
                                 struct cr_error *out_error)
{
    static const char *const examples[] = {
        [CR_SETTING_COUNT] = "a whole number",
        [CR_SETTING_BYTES] = "a size such as 512K, 64M or 2G",
        [CR_SETTING_SPAN] = "a length of time with its unit, such as 90s, 30m, 12h or 7d"};
    int64_t number = 0;
    char least[32];
    char most[32];
    bool is_one = false;
    if (row->kind == CR_SETTING_SPAN)
        is_one = cr_span_read(value, &number);
    else
        is_one = number_read(value, byte_units,
                             row->kind == CR_SETTING_BYTES ? UNIT_COUNT(byte_units) : 1, &number);
    if (!is_one)
        return invalid(out_error, "%s is %s, not '%s'", row->name, examples[row->kind], value);
    if (number < row->least || number > row->most) {
        row_number_write(row, row->least, least, sizeof least);
        row_number_write(row, row->most, most, sizeof most);
        return invalid(out_error, "%s goes from %s to %s; '%s' is outside", row->name, least, most,
                       value);
    }
    *at = number;
    return CR_OK;
}

static enum cr_status set_text(const struct cr_setting *row, const char *value, char *at,
                               struct cr_error *out_error)
{
    size_t length = strlen(value);
    if ((int64_t)length < row->least || (int64_t)length > row->most)
        return invalid(out_error, "%s has from %" PRId64 " to %" PRId64 " characters, not %zu",
                       row->name, row->least, row->most, length);
    if (!cr_text_is_clean((const unsigned char *)value, length))
        return invalid(out_error, "%s has control characters or bad UTF-8", row->name);
    memcpy(at, value, length + 1);
    return CR_OK;
}

static enum cr_status set_choice(const struct cr_setting *row, const char *value, int64_t *at,
                                 struct cr_error *out_error)
{
    char range[128];
    for (const struct cr_setting_choice *c = row->choices; c->name != NULL; c++) {
        if (strcmp(value, c->name) == 0) {
            *at = c->value;
            return CR_OK;
        }
    }
    cr_setting_range((size_t)(row - rows), range, sizeof range);
    return invalid(out_error, "%s is %s, not '%s'", row->name, range, value);
}

static enum cr_status set_policy(const struct cr_setting *row, const char *value,
                                 struct cr_setting_policy *at, struct cr_error *out_error)
{
    struct cr_setting_policy policy = {0};
    int64_t count = 0;
    if (strcmp(value, "replace") == 0)
        policy.policy = CR_POLICY_REPLACE;
    else if (strcmp(value, "keep") == 0)
        policy.policy = CR_POLICY_KEEP;
    else if (strncmp(value, "keep ", 5) == 0 && number_read(value + 5, byte_units, 1, &count) &&
             count >= row->least && count <= row->most)
        policy = (struct cr_setting_policy){CR_POLICY_KEEP_N, (unsigned)count};
    else
        return invalid(out_error,
                       "%s is replace, keep, or keep N with N from %" PRId64 " to %" PRId64
                       ", not '%s'",
                       row->name, row->least, row->most, value);
    *at = policy;
    return CR_OK;
}

static enum cr_status row_set(struct cr_settings *settings, size_t index, const char *value,
                              struct cr_error *out_error)
{
    const struct cr_setting *row = &rows[index];
    void *at = (char *)settings + row->offset;
    enum cr_status st = CR_E_INVALID;
    switch (row->kind) {
    case CR_SETTING_TEXT:
        st = set_text(row, value, at, out_error);
        break;
    case CR_SETTING_COUNT:
    case CR_SETTING_BYTES:
    case CR_SETTING_SPAN:
        st = set_number(row, value, at, out_error);
        break;
    case CR_SETTING_CHOICE:
        st = set_choice(row, value, at, out_error);
        break;
    case CR_SETTING_POLICY:
        st = set_policy(row, value, at, out_error);
        break;
    }
    if (st == CR_OK)
        settings->given[index] = true;
    return st;
}

static size_t row_find(const char *name)
{
    size_t index = 0;
    while (index < ROW_COUNT && strcmp(rows[index].name, name) != 0)
        index++;
    return index;
}

static enum cr_status unknown_name(const char *name, struct cr_error *out_error)
{
    const char *near = cr_closest(name, &rows[0].name, ROW_COUNT, sizeof rows[0]);
    return invalid(out_error, "there is no setting %s%s%s%s", name,
                   near == NULL ? "" : "; did you mean ", near == NULL ? "" : near,
                   near == NULL ? "; `cloakroom config` lists them" : "?");
}

enum cr_status cr_settings_set(struct cr_settings *settings, const char *name, const char *value,
                               struct cr_error *out_error)
{
    size_t index = row_find(name);
    if (index == ROW_COUNT)
        return unknown_name(name, out_error);
    return row_set(settings, index, value, out_error);
}

void cr_settings_init(struct cr_settings *settings)
{
    struct cr_error error;
    memset(settings, 0, sizeof *settings);
    for (size_t i = 0; i < ROW_COUNT; i++) {
        if (rows[i].normal[0] == '\0')
            continue;
        enum cr_status st = row_set(settings, i, rows[i].normal, &error);
        CR_ASSERT(st == CR_OK);
        settings->given[i] = false;
    }
}

/* ---- a file of them */

struct reading {
    struct cr_settings *settings;
    bool seen[ROW_COUNT];
    const char *path;
    const char *at, *end; /* the file's bytes that are left */
    int line;             /* of the one that was read last */
    int bad_line;         /* 0: nothing wrong so far */
    struct cr_error *error;
};

static void reading_fail(struct reading *r, const char *why)
{
    if (r->bad_line != 0)
        return; /* the first one is told */
    r->bad_line = r->line;
    invalid(r->error, "%s:%d: %s", r->path, r->line, why);
}

/* As fgets. inih would take the rest of a line that is too long for another line. */
static char *reading_line(char *out, int capacity, void *context)
{
    struct reading *r = context;
    if (r->at == r->end || r->bad_line != 0)
        return NULL;
    r->line++;
    const char *end = memchr(r->at, '\n', (size_t)(r->end - r->at));
    size_t length = (size_t)((end == NULL ? r->end : end + 1) - r->at);
    if (length > (size_t)capacity - 2) {
        reading_fail(r, "the line is too long");
        return NULL;
    }
    if (memchr(r->at, '\0', length) != NULL) {
        reading_fail(r, "there is a NUL in the line");
        return NULL;
    }
    memcpy(out, r->at, length);
    out[length] = '\0';
    r->at += length;
    return out;
}

static int reading_pair(void *context, const char *section, const char *key, const char *value)
{
    struct reading *r = context;
    char name[512];
    struct cr_error error = {.size = sizeof error};
    if (r->bad_line != 0)
        return 0;
    if (section[0] == '\0') {
        snprintf(name, sizeof name, "%s stands before any [section]", key);
        reading_fail(r, name);
        return 0;
    }
    snprintf(name, sizeof name, "%s.%s", section, key);
    size_t index = row_find(name);
    if (index < ROW_COUNT && r->seen[index]) {
        invalid(&error, "%s stands here a second time", name);
    } else if (cr_settings_set(r->settings, name, value, &error) == CR_OK) {
        r->seen[index] = true;
        return 1;
    }
    reading_fail(r, error.text);
    return 0;
}

static enum cr_status file_take(const char *path, char **out_bytes, size_t *out_count,
                                struct cr_error *out_error)
{
    enum cr_status st = CR_E_IO;
    size_t count = 0;
    ssize_t got = 0;
    char *bytes = malloc(FILE_BYTES_MAX + 1);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (bytes == NULL || fd < 0)
        goto out;
    while (count <= FILE_BYTES_MAX &&
           (got = read(fd, bytes + count, FILE_BYTES_MAX + 1 - count)) > 0)
        count += (size_t)got;
    if (got < 0)
        goto out;
    st = count > FILE_BYTES_MAX ? CR_E_LIMIT : CR_OK;
out:
    if (st != CR_OK) {
        out_error->status = st;
        snprintf(out_error->text, sizeof out_error->text, "%s: %s", path,
                 st == CR_E_LIMIT ? "the file is larger than 64 KiB" : strerror(errno));
        free(bytes);
        bytes = NULL;
    }
    if (fd >= 0)
        close(fd);
    *out_bytes = bytes;
    *out_count = count;
    return st;
}

enum cr_status cr_settings_read(struct cr_settings *settings, const char *path,
                                struct cr_error *out_error)
{
    char *bytes = NULL;
    size_t count = 0;
    enum cr_status st = file_take(path, &bytes, &count, out_error);
    if (st != CR_OK)
        return st;
    struct cr_settings copy = *settings;
    struct reading reading = {
        .settings = &copy, .path = path, .at = bytes, .end = bytes + count, .error = out_error};
    int result = ini_parse_stream(reading_line, &reading, reading_pair, &reading);
    /* inih goes on after a line that it did not understand. */
    if (result != 0 && (reading.bad_line == 0 || result < reading.bad_line)) {
        reading.line = result > 0 ? result : reading.line;
        reading.bad_line = 0;
        reading_fail(&reading, "neither [section] nor key = value");
    }
    st = reading.bad_line == 0 ? CR_OK : CR_E_INVALID;
    if (st == CR_OK)
        *settings = copy;
    free(bytes);
    return st;
}

/* ---- writing */

void cr_setting_write(const struct cr_settings *settings, size_t index, char *out, size_t capacity)
{
    const struct cr_setting *row = &rows[index];
    const void *at = (const char *)settings + row->offset;
    const struct cr_setting_policy *policy = at;
    switch (row->kind) {
    case CR_SETTING_TEXT:
        snprintf(out, capacity, "%s", (const char *)at);
        break;
    case CR_SETTING_COUNT:
    case CR_SETTING_BYTES:
    case CR_SETTING_SPAN:
        row_number_write(row, *(const int64_t *)at, out, capacity);
        break;
    case CR_SETTING_CHOICE:
        for (const struct cr_setting_choice *c = row->choices; c->name != NULL; c++)
            if (c->value == *(const int64_t *)at)
                snprintf(out, capacity, "%s", c->name);
        break;
    case CR_SETTING_POLICY:
        if (policy->policy == CR_POLICY_KEEP_N)
            snprintf(out, capacity, "keep %u", policy->keep_count);
        else
            snprintf(out, capacity, "%s", policy->policy == CR_POLICY_REPLACE ? "replace" : "keep");
        break;
    }
}

void cr_setting_range(size_t index, char *out, size_t capacity)
{
    const struct cr_setting *row = &rows[index];
    char least[32];
    char most[32];
    size_t length = 0;
    switch (row->kind) {
    case CR_SETTING_TEXT:
        snprintf(out, capacity, "text");
        break;
    case CR_SETTING_COUNT:
    case CR_SETTING_BYTES:
    case CR_SETTING_SPAN:
        row_number_write(row, row->least, least, sizeof least);
        row_number_write(row, row->most, most, sizeof most);
        snprintf(out, capacity, "%s to %s", least, most);
        break;
    case CR_SETTING_CHOICE:
        for (const struct cr_setting_choice *c = row->choices; c->name != NULL; c++) {
            const char *between = c == row->choices ? "" : c[1].name == NULL ? " or " : ", ";
            int added = snprintf(out + length, capacity - length, "%s%s", between, c->name);
            CR_ASSERT(added > 0 && (size_t)added < capacity - length);
            length += (size_t)added;
        }
        break;
    case CR_SETTING_POLICY:
        snprintf(out, capacity, "replace, keep or keep N");
        break;
    }
}

enum cr_status cr_settings_check(const struct cr_settings *settings, struct cr_error *out_error)
{
    if (settings->lease < 5 * settings->poll)
        return invalid(out_error, "engine.lease is at least five times engine.poll");
    return CR_OK;
}
