/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `cloakroom agent`: the host's agent, as a service or started by the library or by `serve`
 * (room/room.h says with what arguments those start it).
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/agent.h"
#include "base/log.h"
#include "cmd/command.h"
#include "cmd/doctor.h"

enum {
    KEY_AUTO = 0x200,
    KEY_READY,
    KEY_SERVED,
    KEY_REALM,
    KEY_BYTES,
    KEY_IDLE,
    KEY_ABSOLUTE,
    KEY_BEAT
};

#define HANDED_OVER_BYTES ((size_t)64 * 1024)

/* What only our own programs say. */
struct agent_input {
    bool automatic;
    bool served; /* by `serve`, which has read the settings and hands them over */
    int ready_fd;
    long beat_ms;
    const char *realm, *cache_bytes, *idle, *absolute;
};

static error_t agent_parse(int key, char *argument, struct argp_state *state)
{
    struct agent_input *in = state->input;
    switch (key) {
    case KEY_AUTO:
        in->automatic = true;
        return 0;
    case KEY_READY:
        in->ready_fd = (int)strtol(argument, NULL, 10);
        return 0;
    case KEY_BEAT:
        in->beat_ms = strtol(argument, NULL, 10);
        return 0;
    case KEY_SERVED:
        in->served = true;
        return 0;
    case KEY_REALM:
        in->realm = argument;
        return 0;
    case KEY_BYTES:
        in->cache_bytes = argument;
        return 0;
    case KEY_IDLE:
        in->idle = argument;
        return 0;
    case KEY_ABSOLUTE:
        in->absolute = argument;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

struct agent_context {
    struct cr_place place;
    struct agent_input in;
    struct cr_settings running, next; /* next: read, and not in force yet */
    char taken[CR_SETTINGS_NAMES_BYTES],
        restart[CR_SETTINGS_NAMES_BYTES]; /* what makes it differ */
    char config[PATH_MAX]; /* its real path: an automatic agent leaves the directory */
    const char *store, *state;
};

/* The settings, and what our own programs said over them. */
static enum cr_status settings_take(struct agent_context *context, struct cr_settings *out,
                                    struct cr_settings_wrong *wrong, struct cr_error *error)
{
    static const struct cr_setting_origin origin = {CR_ORIGIN_OPTION, 0};
    const struct agent_input *in = &context->in;
    char text[64];
    enum cr_status st = cr_place_settings(&context->place, out, wrong, error);
    if (st == CR_OK && in->realm != NULL)
        st = cr_settings_set(out, "session.realm", in->realm, origin, error);
    if (st == CR_OK && in->cache_bytes != NULL)
        st = cr_settings_set(out, "cache.memory", in->cache_bytes, origin, error);
    if (st == CR_OK && in->idle != NULL) {
        snprintf(text, sizeof text, "%.60sms", in->idle);
        st = cr_settings_set(out, "session.idle", text, origin, error);
    }
    if (st == CR_OK && in->absolute != NULL) {
        snprintf(text, sizeof text, "%.60sms", in->absolute);
        st = cr_settings_set(out, "session.absolute", text, origin, error);
    }
    return st;
}

/* From `serve`, after the store's URL: what it runs with, whatever stands in the file by now. An
 * agent that replaces one that died is as that was, and starts also beside a file that is bad. */
static enum cr_status settings_from_stdin(const struct cr_place *place, struct cr_settings *out,
                                          struct cr_error *error)
{
    char *text = malloc(HANDED_OVER_BYTES);
    enum cr_status st = CR_E_NO_MEMORY;
    cr_settings_init(out);
    if (text == NULL)
        return cr_setting_refuse(error, "no memory for the settings");
    size_t count = fread(text, 1, HANDED_OVER_BYTES - 1, stdin);
    text[count] = '\0';
    st = cr_settings_unpack(out, text, error);
    if (st == CR_OK)
        st = cr_place_options(place, out, NULL, error);
    free(text);
    return st;
}

/* Nothing rests on it: without it `cloakroom doctor` has less to tell. */
static void about_write(const struct agent_context *context)
{
    if (!cr_about_write(context->state, &context->running))
        cr_log(CR_LOG_WARN, "%s/%s cannot be written: %s", context->state, CR_ABOUT_FILE,
               strerror(errno));
}

static void agent_serves(void *argument)
{
    const struct agent_context *context = argument;
    about_write(context);
    if (!context->in.served) /* `serve` says it, when its workers are there too */
        cr_doctor_log(&context->place, context->store, context->state, (long)getpid());
}

/* Points into `settings`. */
static struct cr_agent_settings settings_for_agent(const struct cr_settings *settings)
{
    return (struct cr_agent_settings){
        .cache = (enum cr_cache)settings->cache,
        .cache_bytes = (size_t)settings->cache_bytes,
        .huge_pages = (enum cr_huge_pages)settings->huge_pages,
        .idle = settings->idle,
        .absolute = settings->absolute,
        .limits = {.off = settings->limits == 0,
                   .limits = {[CR_THROTTLE_ACCOUNT] = settings->limit_account,
                              [CR_THROTTLE_PAIR] = settings->limit_pair,
                              [CR_THROTTLE_SOURCE] = settings->limit_source,
                              [CR_THROTTLE_SOURCE_56] = settings->limit_source_56,
                              [CR_THROTTLE_SOURCE_48] = settings->limit_source_48,
                              [CR_THROTTLE_DEVICE] = settings->limit_device},
                   .entries = (size_t)settings->limit_entries},
        .password_chars_min = (unsigned)settings->password_length_min,
        .password_list = settings->password_list,
    };
}

static bool agent_reload(void *argument, struct cr_agent_settings *out_settings)
{
    struct agent_context *context = argument;
    struct cr_settings settings;
    struct cr_error error = {.size = sizeof error};
    struct cr_settings_wrong wrong;
    if (settings_take(context, &settings, &wrong, &error) != CR_OK) {
        if (wrong.count == 0) /* what our own programs said over them */
            cr_log(CR_LOG_ERROR, "the settings stay as they were: %s", error.text);
        cr_settings_wrong_log(&wrong);
        return false;
    }
    context->next = context->running;
    cr_settings_take_over(&context->next, &settings, "server.", context->taken, context->restart,
                          sizeof context->taken);
    *out_settings = settings_for_agent(&context->next);
    return true;
}

static void agent_reloaded(void *argument, bool taken)
{
    struct agent_context *context = argument;
    if (!taken)
        return;
    context->running = context->next;
    about_write(context);
    cr_log_open("agent", (enum cr_log_level)context->running.log_level,
                context->running.log_json != 0);
    if (context->in.served)
        return; /* `serve` says it, when its workers have it too */
    cr_place_changes_say(context->taken, context->restart);
    cr_log(CR_LOG_INFO, "settings read anew");
}

/* The store's URL may hold a password: then it comes as the first line of standard input. */
static bool store_from_stdin(char *out, size_t capacity)
{
    if (fgets(out, (int)capacity, stdin) == NULL)
        return false;
    out[strcspn(out, "\n")] = '\0';
    return out[0] != '\0';
}

static bool settings_begin(struct agent_context *context, struct cr_settings *out_settings)
{
    struct cr_error error = {.size = sizeof error};
    char store[CR_SETTING_TEXT_CHARS_MAX + 1];
    struct cr_settings_wrong wrong = {.count = 0};
    const size_t row = cr_setting_find("store.url");
    const char *given = context->place.given[row];
    bool from_stdin = given != NULL && strcmp(given, "-") == 0;
    if (from_stdin && !store_from_stdin(store, sizeof store)) {
        cr_complain("no URL of a store came from standard input");
        return false;
    }
    enum cr_status st = context->in.served
                            ? settings_from_stdin(&context->place, out_settings, &error)
                            : settings_take(context, out_settings, &wrong, &error);
    if (st != CR_OK) {
        cr_complain("%s", error.text);
        return false;
    }
    context->running = *out_settings;
    context->place.settings = *out_settings;
    if (from_stdin)
        memcpy(context->place.settings.store, store, sizeof store);
    return true;
}

static int agent_run(struct agent_context *context, const struct cr_settings *settings,
                     const char *store, const char *state)
{
    struct cr_agent_options options = {
        .store = store,
        .state = state,
        .realm = settings->realm,
        .audit = settings->audit,
        .settings = settings_for_agent(settings),
        .lease = settings->lease,
        .poll = settings->poll,
        .grace = settings->grace,
        .hash_threads = (unsigned)settings->hash_threads,
        .hash_queue = (size_t)settings->hash_queue,
        .app_mode = (unsigned)settings->socket_mode,
        .automatic = context->in.automatic,
        .ready_fd = context->in.ready_fd,
        .beat = context->in.beat_ms,
        .answers_reloads = context->in.served && context->in.ready_fd >= 0,
        .reload = agent_reload,
        .reloaded = agent_reloaded,
        .serves = agent_serves,
        .context = context,
    };
    context->store = store;
    context->state = state;
    cr_log_open("agent", (enum cr_log_level)settings->log_level, settings->log_json != 0);
    return cr_agent_main(&options);
}

int cr_cmd_agent(int argc, char **argv)
{
    static const char *const rows[] = {"store.url", "agent.state", "cache.kind", "cache.memory",
                                       NULL};
    static const struct argp_option options[] = {
        {.name = "auto", .key = KEY_AUTO, .flags = OPTION_HIDDEN},
        {.name = "ready-fd", .key = KEY_READY, .arg = "FD", .flags = OPTION_HIDDEN},
        {.name = "beat-ms", .key = KEY_BEAT, .arg = "N", .flags = OPTION_HIDDEN},
        {.name = "served", .key = KEY_SERVED, .flags = OPTION_HIDDEN},
        {.name = "realm", .key = KEY_REALM, .arg = "NAME", .flags = OPTION_HIDDEN},
        {.name = "cache-bytes", .key = KEY_BYTES, .arg = "N", .flags = OPTION_HIDDEN},
        {.name = "idle-ms", .key = KEY_IDLE, .arg = "N", .flags = OPTION_HIDDEN},
        {.name = "absolute-ms", .key = KEY_ABSOLUTE, .arg = "N", .flags = OPTION_HIDDEN},
        {0}};
    static const struct cr_form form = {
        .text = "Serve the applications of this host: one agent for each store. It stays in the "
                "foreground; SIGHUP reads the settings file again, SIGTERM ends it."
                "\vExamples:\n  cloakroom agent --store sqlite:///srv/app.db --state "
                "/run/cloakroom/app\n  cloakroom agent --config /srv/app.conf\n\n"
                "Applications then open cloakroom:///run/cloakroom/app/app.sock. With --store - "
                "the URL is read from standard input.",
        .settings = rows,
        .takes_bad_settings = true,
        .options = options,
        .parser = agent_parse};
    static struct agent_context context; /* large, and there until the end */
    struct cr_settings settings;
    char store[CR_SETTING_TEXT_CHARS_MAX + 1];
    char state[PATH_MAX];
    context.in.ready_fd = -1;
    cr_form_read(&form, argc, argv, &context.place, &context.in);
    if (context.place.config != NULL && realpath(context.place.config, context.config) != NULL)
        context.place.config = context.config;
    if (!settings_begin(&context, &settings))
        return CR_EXIT_USAGE;
    if (!cr_place_find(&context.place, store, sizeof store, state, sizeof state))
        return CR_EXIT_USAGE;
    if (state[0] == '\0') {
        cr_complain("an agent needs the store itself, not the socket of another agent");
        return CR_EXIT_USAGE;
    }
    cr_descriptors_raise();
    cr_secrets_keep();
    return agent_run(&context, &settings, store, state);
}
