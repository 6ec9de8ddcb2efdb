/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The settings that the workers have, and a reload of them over all processes.
 *
 *   NONE -> WANTED -> ASKED -> NONE, and ASKED -> AGAIN -> WANTED where another SIGHUP came
 *
 *   - All or nothing: the file is read here, then the agent takes its part over or refuses, and
 * only after it has taken it do `fresh` settings become `running` and go to the workers.
 *   - At most one reload is under way; any number that come meanwhile are one after it.
 *   - An agent that ends meanwhile is followed by one with the settings from before, so the reload
 *     is WANTED again. So is one that came before the agent serves.
 *   - Whatever comes of it, the service manager hears that it is over: what serves is what served
 *     before. Nothing is reloaded once the stop has begun.
 */
#include "server/supervisor.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

/* --- What workers get --- */

/* cookies, storage -> "cookies", "storage". False: too long, or no words. */
static bool words_quote(const char *words, char *out, size_t capacity)
{
    size_t used = 0;
    out[0] = '\0';
    while (*(words += strspn(words, ", ")) != '\0') {
        size_t count = strspn(words, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ*");
        int wrote = snprintf(out + used, capacity - used, "%s\"%.*s\"", used > 0 ? ", " : "",
                             (int)count, words);
        if (count == 0 || wrote < 0 || (size_t)wrote >= capacity - used)
            return false;
        used += (size_t)wrote;
        words += count;
    }
    return true;
}

/* What is wrong is said before anything is opened or changed. */
static bool tunable_take(const struct cr_server_settings *settings, struct tunable *out)
{
    const char *words = settings->clear_site_data != NULL ? settings->clear_site_data : "cookies";
    out->settings = *settings;
    if (words_quote(words, out->clear_site_data, sizeof out->clear_site_data))
        return true;
    cr_log(CR_LOG_ERROR, "%s is not a list of what Clear-Site-Data can name, such as cookies",
           words);
    return false;
}

bool cr_reload_start(struct supervisor *s)
{
    return tunable_take(&s->options->settings, &s->running);
}

struct cr_control cr_reload_message(const struct supervisor *s, enum cr_control_kind kind)
{
    const struct cr_server_settings *settings = &s->running.settings;
    struct cr_control message = {.kind = kind,
                                 .settings = {
                                     .on_login = settings->on_login,
                                     .keep_count = settings->keep_count,
                                     .idle = settings->idle,
                                     .absolute = settings->absolute,
                                     .proxies = settings->proxies,
                                     .log_level = settings->log_level,
                                     .log_json = settings->log_json,
                                 }};
    memcpy(message.settings.clear_site_data, s->running.clear_site_data,
           sizeof s->running.clear_site_data);
    return message;
}

void cr_reload_tell(const struct supervisor *s, struct worker_slot *worker)
{
    const struct cr_control message = cr_reload_message(s, CR_CONTROL_SETTINGS);
    worker->wants_settings = cr_control_send(worker->control, &message) == CR_BUSY;
    if (worker->wants_settings)
        worker->agent_due = cr_boot_add(s->now, RETRY_MS);
}

/* --- A reload --- */

static void reload_end(struct supervisor *s)
{
    s->reload = RELOAD_NONE;
    if (s->stage == STAGE_SERVING)
        cr_service_manager_reloaded(s);
}

void cr_reload_begin(struct supervisor *s)
{
    if (s->options->reload == NULL || s->stage >= STAGE_DRAINING)
        return;
    if (s->reload == RELOAD_ASKED || s->reload == RELOAD_AGAIN) {
        s->reload = RELOAD_AGAIN;
        return;
    }
    if (s->stage == STAGE_SERVING && s->reload == RELOAD_NONE)
        cr_service_manager_reloading(s);
    s->reload = RELOAD_WANTED;
    struct cr_server_settings settings = s->running.settings;
    if (!s->options->reload(s->options->context, &settings)) {
        reload_end(s);
    } else if (!tunable_take(&settings, &s->fresh)) {
        if (s->options->reloaded != NULL)
            s->options->reloaded(s->options->context, false);
        reload_end(s);
    } else if (s->agent_serves && s->agent.pid != 0 && kill(s->agent.pid, SIGHUP) == 0) {
        s->reload = RELOAD_ASKED;
    }
}

void cr_reload_answered(struct supervisor *s, bool taken)
{
    bool again = s->reload == RELOAD_AGAIN;
    if (s->reload != RELOAD_ASKED && !again)
        return; /* somebody else has sent it a signal */
    if (taken) {
        s->running = s->fresh;
        for (unsigned i = 0; i < s->slot_count; i++)
            if (s->workers[i].control >= 0)
                cr_reload_tell(s, &s->workers[i]);
    }
    if (s->options->reloaded != NULL)
        s->options->reloaded(s->options->context, taken);
    s->reload = again ? RELOAD_WANTED : RELOAD_ASKED;
    if (again)
        cr_reload_begin(s);
    else
        reload_end(s);
}

void cr_reload_agent_serves(struct supervisor *s)
{
    if (s->reload == RELOAD_WANTED)
        cr_reload_begin(s);
}

/* The next one starts with the settings from before, and is told again. */
void cr_reload_agent_ended(struct supervisor *s)
{
    if (s->reload != RELOAD_NONE)
        s->reload = RELOAD_WANTED;
}
