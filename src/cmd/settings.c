/* SPDX-License-Identifier: Apache-2.0 */
/* The table of settings, and how values are read and written. Where values come from is in
 * settings_source.c, what goes together in settings_check.c. */
#include "cmd/settings.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

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
#define AT(field) offsetof(struct cr_settings, field)

/* clang-format off */
#define YES_NO {{"no", 0}, {"yes", 1}}
static const struct cr_setting rows[] = {
    {"server.listen", CR_SETTING_TEXT, false, AT(listen), 1, 400, "127.0.0.1:8080", "listen", "ADDR",
     "addresses and ports of the HTTP server, separated by commas, or systemd: the sockets that it has opened; TLS ends at a proxy before it", {{0}}},
    {"server.workers", CR_SETTING_COUNT, false, AT(workers), 1, 64, "2", "workers", "N",
     "HTTP workers", {{0}}},
    {"server.behind_tls", CR_SETTING_CHOICE, false, AT(behind_tls), 0, 0, "no", "behind-tls", "yes|no",
     "a proxy in front speaks TLS: secure cookies also on a loopback address", YES_NO},
    {"server.proxies", CR_SETTING_TEXT, true, AT(proxies), 0, 400, "", NULL, "LIST",
     "proxies whose X-Forwarded-For says where requests come from: up to 16 addresses and networks, such as 127.0.0.1 10.0.0.0/24, and no network that users are in; empty: what it says is not looked at", {{0}}},
    {"server.connections", CR_SETTING_COUNT, false, AT(connections), 1, 100000, "1000", NULL, "N",
     "connections of one worker at a time", {{0}}},
    {"server.clear_site_data", CR_SETTING_TEXT, true, AT(clear_site_data), 0, 100, "cookies", NULL, "LIST",
     "what a browser is told to forget at log-out; empty: nothing", {{0}}},
    {"server.user", CR_SETTING_TEXT, false, AT(server_user), 1, 32, "", NULL, "USER",
     "as whom HTTP workers run, who then can neither read the store nor look into the agent; when not set, as the server", {{0}}},
    {"ops.socket", CR_SETTING_TEXT, false, AT(ops_socket), 1, 107, "", "ops-socket", "PATH",
     "Unix socket of the admin API; when not set, ops.sock in agent.state", {{0}}},
    {"ops.socket_mode", CR_SETTING_CHOICE, false, AT(ops_socket_mode), 0, 0, "0600", NULL, "MODE",
     "who may use it: the server's own user, or its group too", {{"0600", 0600}, {"0660", 0660}}},
    {"ops.listen", CR_SETTING_TEXT, false, AT(ops_listen), 1, 100, "", "ops-listen", "ADDR",
     "loopback address and port for /metrics, /healthz and /readyz, or systemd: the socket called metrics; when not set, none", {{0}}},
    {"store.url", CR_SETTING_URL, false, AT(store), 1, TEXT_MAX, "", "store", "URL",
     "where the sessions are kept: sqlite:///PATH", {{0}}},
    {"agent.state", CR_SETTING_TEXT, false, AT(state), 1, 200, "", "state", "DIR",
     "directory of the agent's sockets; when not set, it follows from the store", {{0}}},
    {"agent.socket_mode", CR_SETTING_CHOICE, false, AT(socket_mode), 0, 0, "0600", NULL, "MODE",
     "whose applications may come: the agent's own user's, its group's, or everybody's",
     {{"0600", 0600}, {"0660", 0660}, {"0666", 0666}}},
    {"agent.user", CR_SETTING_TEXT, false, AT(agent_user), 1, 32, "", NULL, "USER",
     "as whom a server that root starts runs the agent and the ops worker; when not set, as root", {{0}}},
    {"cache.kind", CR_SETTING_CHOICE, true, AT(cache), 0, 0, "shared", "cache", "NAME",
     "session cache",
     {{"none", CR_CACHE_NONE}, {"memory", CR_CACHE_MEMORY}, {"shared", CR_CACHE_SHARED}}},
    {"cache.memory", CR_SETTING_BYTES, true, AT(cache_bytes), MIB, 1024 * GIB, "64M", "cache-memory", "SIZE",
     "memory of the session cache", {{0}}},
    {"cache.huge_pages", CR_SETTING_CHOICE, true, AT(huge_pages), 0, 0, "auto", NULL, "NAME",
     "huge pages for that: asked for, of the pool that is reserved for them, or none",
     {{"auto", CR_HUGE_AUTO}, {"reserved", CR_HUGE_RESERVED}, {"off", CR_HUGE_OFF}}},
    {"session.profile", CR_SETTING_CHOICE, true, AT(profile), 0, 0, "none", NULL, "NAME",
     "lifetimes of NIST SP 800-63B-4, which longer ones may not exceed; none: the two below, up to 30d",
     {{"none", CR_PROFILE_NONE}, {"aal1", CR_PROFILE_AAL1}, {"aal2", CR_PROFILE_AAL2},
      {"aal3", CR_PROFILE_AAL3}}},
    {"session.idle", CR_SETTING_SPAN, true, AT(idle), SECOND, CR_SPAN_MS_MAX, "30m", NULL, "SPAN",
     "a session ends when it was not used for so long", {{0}}},
    {"session.absolute", CR_SETTING_SPAN, true, AT(absolute), SECOND, CR_SPAN_MS_MAX, "12h", NULL, "SPAN",
     "a session ends so long after its login, whatever its use", {{0}}},
    {"session.longer_because", CR_SETTING_TEXT, true, AT(longer_because), 0, 150, "", NULL, "TEXT",
     "why a session may live longer than its profile allows; without it, longer lifetimes are refused",
     {{0}}},
    {"session.on_login", CR_SETTING_POLICY, true, AT(on_login), 1, 1000, "replace", "on-login", "POLICY",
     "earlier sessions of who logs in: they end, stay, or only the newest N stay", {{0}}},
    {"session.realm", CR_SETTING_TEXT, false, AT(realm), 1, 200, "cloakroom", NULL, "NAME",
     "tokens of one realm are refused in another", {{0}}},
    {"login.first_user", CR_SETTING_TEXT, false, AT(first_user), 1, 128, "admin", NULL, "NAME",
     "the account that the first start makes where there is none, with a one-time password", {{0}}},
    {"login.hash_threads", CR_SETTING_COUNT, false, AT(hash_threads), 1, 64, "1", NULL, "N",
     "passwords that are hashed at a time; each takes 46 MiB meanwhile", {{0}}},
    {"login.hash_queue", CR_SETTING_COUNT, false, AT(hash_queue), 1, 10000, "64", NULL, "N",
     "log-ins that wait for that; more are told to try again later", {{0}}},
    {"login.limits", CR_SETTING_CHOICE, true, AT(limits), 0, 0, "on", NULL, "on|off",
     "whether wrong passwords are limited at all", {{"off", 0}, {"on", 1}}},
    {"login.limit_account", CR_SETTING_TEXT, true, AT(limit_account), 1, 100, "10/1m 40/1h 60/1d 100/30d", NULL, "LIMIT",
     "wrong passwords for one account by all unknown browsers: up to four of COUNT/TIME, or off", {{0}}},
    {"login.limit_pair", CR_SETTING_TEXT, true, AT(limit_pair), 1, 100, "5/1m 20/1h 30/1d", NULL, "LIMIT",
     "for one account from one source", {{0}}},
    {"login.limit_source", CR_SETTING_TEXT, true, AT(limit_source), 1, 100, "30/1m 200/1h 1000/1d", NULL, "LIMIT",
     "from one source: an IPv4 address, or an IPv6 network of 64 bits", {{0}}},
    {"login.limit_source_56", CR_SETTING_TEXT, true, AT(limit_source_56), 1, 100, "60/1m 400/1h 2000/1d", NULL, "LIMIT",
     "from one IPv6 network of 56 bits", {{0}}},
    {"login.limit_source_48", CR_SETTING_TEXT, true, AT(limit_source_48), 1, 100, "120/1m 800/1h 4000/1d", NULL, "LIMIT",
     "from one IPv6 network of 48 bits", {{0}}},
    {"login.limit_device", CR_SETTING_TEXT, true, AT(limit_device), 1, 100, "5/1m 20/1h 60/1d", NULL, "LIMIT",
     "for one account by one browser that has logged in to it before", {{0}}},
    {"login.limit_entries", CR_SETTING_COUNT, false, AT(limit_entries), 8, 10000000, "65536", NULL, "N",
     "of these debts in memory; the others are read from the store when they are needed", {{0}}},
    {"password.length_min", CR_SETTING_COUNT, true, AT(password_length_min), 8, 64, "15", NULL, "N",
     "characters of a new password; below 15 only where something else is asked for besides", {{0}}},
    {"password.list", CR_SETTING_TEXT, true, AT(password_list), 0, 400, "", NULL, "FILE",
     "common passwords to refuse beside those that are built in, one in a line; empty: none", {{0}}},
    {"engine.lease", CR_SETTING_SPAN, false, AT(lease), 500, MINUTE, "5s", NULL, "SPAN",
     "how long this host answers without hearing from a store that several hosts share", {{0}}},
    {"engine.poll", CR_SETTING_SPAN, false, AT(poll), 50, 10 * SECOND, "1s", NULL, "SPAN",
     "how often it asks; a lease is at least five of these", {{0}}},
    {"engine.grace", CR_SETTING_SPAN, false, AT(grace), 0, HOUR, "0", NULL, "SPAN",
     "how much longer it may answer after that; part of every bound", {{0}}},
    {"log.level", CR_SETTING_CHOICE, true, AT(log_level), 0, 0, "info", NULL, "LEVEL",
     "the least that is logged",
     {{"debug", CR_LOG_DEBUG}, {"info", CR_LOG_INFO}, {"warn", CR_LOG_WARN}, {"error", CR_LOG_ERROR}}},
    {"log.json", CR_SETTING_CHOICE, true, AT(log_json), 0, 0, "no", NULL, "yes|no",
     "log lines as JSON", YES_NO},
    {"audit.file", CR_SETTING_TEXT, false, AT(audit), 0, 400, "", NULL, "FILE",
     "where the agent writes audit events: stderr, syslog or a file's absolute path; empty: nowhere", {{0}}},
    {"backup.stall", CR_SETTING_SPAN, false, AT(backup_stall), SECOND, DAY, "30s", "stall", "SPAN",
     "how long a backup may stand still, stopped or waiting for its disk, before it is ended", {{0}}},
    {"backup.log_max", CR_SETTING_BYTES, false, AT(backup_log_bytes), MIB, 1024 * GIB, "1G", "log-max", "SIZE",
     "how far the store's write-ahead log may grow before a backup gives up", {{0}}},
};
/* clang-format on */
#define ROW_COUNT (sizeof rows / sizeof rows[0])
_Static_assert(ROW_COUNT <= CR_SETTINGS_MAX, "each row has its place in `origins`");

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

/* It quotes what somebody wrote: no control characters of theirs reach a terminal or a log. */
enum cr_status cr_setting_refuse(struct cr_error *out_error, const char *format, ...)
{
    char text[sizeof out_error->text];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    out_error->status = CR_E_INVALID;
    cr_label_copy(out_error->text, sizeof out_error->text, text, strlen(text));
    return CR_E_INVALID;
}

enum cr_status cr_settings_wrong_add(struct cr_settings_wrong *wrong, enum cr_status so_far,
                                     const struct cr_error *error, struct cr_error *out_error)
{
    if (wrong != NULL && wrong->count == CR_SETTINGS_WRONG_MAX)
        wrong->more = true;
    else if (wrong != NULL)
        memcpy(wrong->text[wrong->count++], error->text, sizeof error->text);
    if (so_far != CR_OK)
        return so_far;
    out_error->status = error->status;
    memcpy(out_error->text, error->text, sizeof error->text);
    return error->status;
}

/* ---- passwords in URLs */

/* Where its text begins, and how long it is; NULL: there is none. */
static const char *url_password(const char *url, size_t *out_length)
{
    const char *host = strstr(url, "://");
    host = host == NULL ? url : host + 3;
    size_t length = strcspn(host, "/?#");
    size_t at = length; /* of the last @ */
    while (at > 0 && host[at - 1] != '@')
        at--;
    const char *colon = at == 0 ? NULL : memchr(host, ':', at);
    if (colon != NULL) {
        *out_length = (size_t)(host + at - 1 - (colon + 1));
        return colon + 1;
    }
    const char *query = strchr(host, '?');
    for (const char *word = query; word != NULL; word = strpbrk(word + 1, "&;")) {
        if (strncasecmp(word + 1, "password=", 9) != 0 && strncasecmp(word + 1, "passwd=", 7) != 0)
            continue;
        const char *value = strchr(word, '=') + 1;
        *out_length = strcspn(value, "&;#");
        return value;
    }
    return NULL;
}

bool cr_url_has_password(const char *url)
{
    size_t length = 0;
    return url_password(url, &length) != NULL && length > 0;
}

void cr_url_show(const char *url, char *out, size_t capacity)
{
    size_t length = 0;
    const char *password = url_password(url, &length);
    if (password == NULL || length == 0)
        snprintf(out, capacity, "%s", url);
    else
        snprintf(out, capacity, "%.*s***%s", (int)(password - url), url, password + length);
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
        return cr_setting_refuse(out_error, "%s is %s, not '%s'", row->name, examples[row->kind],
                                 value);
    if (number < row->least || number > row->most) {
        row_number_write(row, row->least, least, sizeof least);
        row_number_write(row, row->most, most, sizeof most);
        return cr_setting_refuse(out_error, "%s goes from %s to %s; '%s' is outside", row->name,
                                 least, most, value);
    }
    *at = number;
    return CR_OK;
}

static enum cr_status set_text(const struct cr_setting *row, const char *value, char *at,
                               struct cr_error *out_error)
{
    size_t length = strlen(value);
    if ((int64_t)length < row->least || (int64_t)length > row->most)
        return cr_setting_refuse(out_error,
                                 "%s has from %" PRId64 " to %" PRId64 " characters, not %zu",
                                 row->name, row->least, row->most, length);
    if (!cr_text_is_clean((const unsigned char *)value, length))
        return cr_setting_refuse(out_error, "%s has control characters or bad UTF-8", row->name);
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
    return cr_setting_refuse(out_error, "%s is %s, not '%s'", row->name, range, value);
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
        return cr_setting_refuse(out_error,
                                 "%s is replace, keep, or keep N with N from %" PRId64
                                 " to %" PRId64 ", not '%s'",
                                 row->name, row->least, row->most, value);
    *at = policy;
    return CR_OK;
}

enum cr_status cr_setting_put(struct cr_settings *settings, size_t index, const char *value,
                              struct cr_setting_origin origin, struct cr_error *out_error)
{
    const struct cr_setting *row = &rows[index];
    void *at = (char *)settings + row->offset;
    enum cr_status st = CR_E_INVALID;
    switch (row->kind) {
    case CR_SETTING_TEXT:
    case CR_SETTING_URL:
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
        settings->origins[index] = origin;
    return st;
}

size_t cr_setting_find(const char *name)
{
    size_t index = 0;
    while (index < ROW_COUNT && strcmp(rows[index].name, name) != 0)
        index++;
    return index;
}

static enum cr_status unknown_name(const char *name, struct cr_error *out_error)
{
    const char *near = cr_closest(name, &rows[0].name, ROW_COUNT, sizeof rows[0]);
    return cr_setting_refuse(out_error, "there is no setting %s%s%s%s", name,
                             near == NULL ? "" : "; did you mean ", near == NULL ? "" : near,
                             near == NULL ? "; `cloakroom config` lists them" : "?");
}

enum cr_status cr_settings_set(struct cr_settings *settings, const char *name, const char *value,
                               struct cr_setting_origin origin, struct cr_error *out_error)
{
    size_t index = cr_setting_find(name);
    if (index == ROW_COUNT)
        return unknown_name(name, out_error);
    return cr_setting_put(settings, index, value, origin, out_error);
}

void cr_settings_init(struct cr_settings *settings)
{
    struct cr_error error;
    memset(settings, 0, sizeof *settings);
    for (size_t i = 0; i < ROW_COUNT; i++) {
        if (rows[i].normal[0] == '\0')
            continue;
        enum cr_status st = cr_setting_put(
            settings, i, rows[i].normal, (struct cr_setting_origin){CR_ORIGIN_DEFAULT, 0}, &error);
        CR_ASSERT(st == CR_OK);
    }
}

/* ---- writing */

void cr_setting_write(const struct cr_settings *settings, size_t index, char *out, size_t capacity)
{
    const struct cr_setting *row = &rows[index];
    const void *at = (const char *)settings + row->offset;
    const struct cr_setting_policy *policy = at;
    switch (row->kind) {
    case CR_SETTING_TEXT:
    case CR_SETTING_URL:
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

void cr_setting_show(const struct cr_settings *settings, size_t index, char *out, size_t capacity)
{
    if (rows[index].kind == CR_SETTING_URL)
        cr_url_show((const char *)settings + rows[index].offset, out, capacity);
    else
        cr_setting_write(settings, index, out, capacity);
}

void cr_setting_range(size_t index, char *out, size_t capacity)
{
    const struct cr_setting *row = &rows[index];
    char least[32];
    char most[32];
    size_t length = 0;
    switch (row->kind) {
    case CR_SETTING_TEXT:
    case CR_SETTING_URL:
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
