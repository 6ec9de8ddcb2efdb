/* SPDX-License-Identifier: Apache-2.0 */
/* What settings mean together: the profiles of lifetimes, values that do not go with each other,
 * where each comes from, and what can change while running. */
#include "cmd/settings.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/networks.h"
#include "coord/limit.h"

#define HOUR ((cr_span_ms)60 * 60 * 1000)
#define DAY (24 * HOUR)

/* NIST SP 800-63B-4, 2.1.3, 2.2.3 and 2.3.3. Of aal1 it asks for no idle limit. */
static const struct {
    const char *name;
    cr_span_ms absolute, idle;
    const char *source;
} profiles[] = {
    [CR_PROFILE_NONE] = {"none", 30 * DAY, 30 * DAY, "no profile, bounded as aal1"},
    [CR_PROFILE_AAL1] = {"aal1", 30 * DAY, 30 * DAY, "profile aal1: NIST SP 800-63B-4, 2.1.3"},
    [CR_PROFILE_AAL2] = {"aal2", 24 * HOUR, HOUR, "profile aal2: NIST SP 800-63B-4, 2.2.3"},
    [CR_PROFILE_AAL3] = {"aal3", 12 * HOUR, HOUR / 4, "profile aal3: NIST SP 800-63B-4, 2.3.3"},
};

void cr_setting_origin_show(const struct cr_settings *settings, size_t index, char *out,
                            size_t capacity)
{
    size_t count;
    const struct cr_setting *row = &cr_setting_rows(&count)[index];
    const struct cr_setting_origin *origin = &settings->origins[index];
    size_t length = 0;
    switch (origin->kind) {
    case CR_ORIGIN_DEFAULT:
        snprintf(out, capacity, "default");
        break;
    case CR_ORIGIN_PROFILE:
        snprintf(out, capacity, "profile %s", profiles[settings->profile].name);
        break;
    case CR_ORIGIN_FILE:
        snprintf(out, capacity, "%s:%d", settings->file, origin->line);
        break;
    case CR_ORIGIN_CREDENTIAL:
        snprintf(out, capacity, "credential %s", row->name);
        break;
    case CR_ORIGIN_ENVIRONMENT:
        length = (size_t)snprintf(out, capacity, "%s", CR_SETTING_ENVIRONMENT);
        for (const char *c = row->name; *c != '\0' && length + 2 < capacity; c++) {
            const char *put = *c == '.' ? "__" : (const char[]){(char)toupper(*c), '\0'};
            length += (size_t)snprintf(out + length, capacity - length, "%s", put);
        }
        break;
    case CR_ORIGIN_OPTION:
        snprintf(out, capacity, "--%s", row->option == NULL ? row->name : row->option);
        break;
    }
}

/* Says where the row stands, if anybody has said it. */
static enum cr_status refuse(const struct cr_settings *settings, const char *row, const char *text,
                             struct cr_error *out_error)
{
    char origin[CR_SETTING_TEXT_CHARS_MAX + 32];
    size_t index = cr_setting_find(row);
    if (settings->origins[index].kind < CR_ORIGIN_FILE)
        return cr_setting_refuse(out_error, "%s", text);
    cr_setting_origin_show(settings, index, origin, sizeof origin);
    return cr_setting_refuse(out_error, "%s: %s", origin, text);
}

static void profile_put(struct cr_settings *settings, const char *row, cr_span_ms span)
{
    char value[32];
    struct cr_error error = {.size = sizeof error};
    size_t index = cr_setting_find(row);
    const struct cr_setting_origin origin = {CR_ORIGIN_PROFILE, 0};
    if (settings->origins[index].kind > CR_ORIGIN_PROFILE)
        return; /* said */
    cr_span_write(span, value, sizeof value);
    enum cr_status st = cr_setting_put(settings, index, value, origin, &error);
    CR_ASSERT(st == CR_OK);
}

/* ASVS C4: a longer life needs a reason that somebody has written down. */
static enum cr_status lifetime_check(const struct cr_settings *settings, const char *row,
                                     cr_span_ms span, cr_span_ms most, struct cr_error *out_error)
{
    char text[400];
    char value[32];
    char limit[32];
    if (span <= most || settings->longer_because[0] != '\0')
        return CR_OK;
    cr_span_write(span, value, sizeof value);
    cr_span_write(most, limit, sizeof limit);
    snprintf(text, sizeof text,
             "%s is %s, and %s is the most (%s): shorten it, or write into "
             "session.longer_because why it is longer",
             row, value, limit, profiles[settings->profile].source);
    return refuse(settings, row, text, out_error);
}

/* What the limits of log-ins say. */
static enum cr_status limits_check(const struct cr_settings *settings, enum cr_status st,
                                   struct cr_settings_wrong *wrong, struct cr_error *out_error)
{
    struct cr_error error = {.size = sizeof error};
    const struct {
        const char *row, *value;
    } limits[] = {{"login.limit_account", settings->limit_account},
                  {"login.limit_pair", settings->limit_pair},
                  {"login.limit_source", settings->limit_source},
                  {"login.limit_source_56", settings->limit_source_56},
                  {"login.limit_source_48", settings->limit_source_48},
                  {"login.limit_device", settings->limit_device}};
    for (size_t i = 0; i < sizeof limits / sizeof limits[0] && (st == CR_OK || wrong != NULL);
         i++) {
        char text[CR_SETTING_TEXT_CHARS_MAX + 160];
        struct cr_limit limit;
        if (cr_limit_read(limits[i].value, &limit))
            continue;
        (void)snprintf(text, sizeof text,
                       "%s is `off`, or one to four of COUNT/TIME with a space between, such as "
                       "5/1m 20/1h 60/1d, COUNT up to 1000000 and TIME up to 365d; not '%s'",
                       limits[i].row, limits[i].value);
        (void)refuse(settings, limits[i].row, text, &error);
        st = cr_settings_wrong_add(wrong, st, &error, out_error);
    }
    return st;
}

/* Whom to believe where a request comes from. */
static enum cr_status proxies_check(const struct cr_settings *settings, enum cr_status st,
                                    struct cr_settings_wrong *wrong, struct cr_error *out_error)
{
    char text[CR_SETTING_TEXT_CHARS_MAX + 160];
    struct cr_networks proxies;
    struct cr_error error = {.size = sizeof error};
    if (st != CR_OK && wrong == NULL)
        return st;
    const char *why = cr_networks_read(settings->proxies, &proxies);
    if (why == NULL)
        return st;
    (void)snprintf(text, sizeof text, "server.proxies is '%s': %s", settings->proxies, why);
    (void)refuse(settings, "server.proxies", text, &error);
    return cr_settings_wrong_add(wrong, st, &error, out_error);
}

/* Each as such is right. */
static enum cr_status together_check(const struct cr_settings *settings, unsigned number,
                                     struct cr_error *out_error)
{
    const cr_span_ms absolute = profiles[settings->profile].absolute;
    const cr_span_ms idle = profiles[settings->profile].idle;
    if (number == 0)
        return lifetime_check(settings, "session.idle", settings->idle, idle, out_error);
    if (number == 1)
        return lifetime_check(settings, "session.absolute", settings->absolute, absolute,
                              out_error);
    return settings->lease >= 5 * settings->poll
               ? CR_OK
               : refuse(settings, "engine.lease", "engine.lease is at least five times engine.poll",
                        out_error);
}

enum cr_status cr_settings_finish(struct cr_settings *settings, struct cr_settings_wrong *wrong,
                                  struct cr_error *out_error)
{
    struct cr_error error = {.size = sizeof error};
    enum cr_status st = CR_OK;
    CR_ASSERT(settings->profile >= CR_PROFILE_NONE && settings->profile <= CR_PROFILE_AAL3);
    if (settings->profile != CR_PROFILE_NONE) {
        profile_put(settings, "session.absolute", profiles[settings->profile].absolute);
        profile_put(settings, "session.idle", profiles[settings->profile].idle);
    }
    /* A value that was not taken says nothing about another. */
    const bool all_taken = wrong == NULL || wrong->count == 0;
    for (unsigned number = 0; number < 3 && all_taken && (st == CR_OK || wrong != NULL); number++)
        if (together_check(settings, number, &error) != CR_OK)
            st = cr_settings_wrong_add(wrong, st, &error, out_error);
    st = limits_check(settings, st, wrong, out_error);
    return proxies_check(settings, st, wrong, out_error);
}

void cr_settings_policy_show(const struct cr_settings *settings, char *out, size_t capacity)
{
    char idle[32];
    char absolute[32];
    const bool longer = settings->longer_because[0] != '\0';
    cr_span_write(settings->idle, idle, sizeof idle);
    cr_span_write(settings->absolute, absolute, sizeof absolute);
    snprintf(out, capacity,
             "A session ends %s after its last use, and %s after its login whatever its use "
             "(%s%s%s%s).",
             idle, absolute, profiles[settings->profile].source,
             longer ? "; may be longer because: " : "", longer ? settings->longer_because : "", "");
}

static void name_add(char *out, size_t capacity, const char *name)
{
    size_t length = strlen(out);
    snprintf(out + length, capacity - length, "%s%s", length == 0 ? "" : ", ", name);
}

void cr_settings_take_over(struct cr_settings *running, const struct cr_settings *fresh,
                           const char *except, char *out_taken, char *out_restart, size_t capacity)
{
    char was[CR_SETTING_TEXT_CHARS_MAX + 1];
    char is[CR_SETTING_TEXT_CHARS_MAX + 1];
    struct cr_error error = {.size = sizeof error};
    size_t count;
    const struct cr_setting *rows = cr_setting_rows(&count);
    out_taken[0] = out_restart[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        cr_setting_write(running, i, was, sizeof was);
        cr_setting_write(fresh, i, is, sizeof is);
        if (strcmp(was, is) == 0 ||
            (except != NULL && strncmp(rows[i].name, except, strlen(except)) == 0))
            continue;
        name_add(rows[i].reloads ? out_taken : out_restart, capacity, rows[i].name);
        if (!rows[i].reloads)
            continue;
        enum cr_status st = cr_setting_put(running, i, is, fresh->origins[i], &error);
        CR_ASSERT(st == CR_OK);
    }
}
