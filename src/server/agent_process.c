/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent, as the supervisor sees it: a process that is run as `PROGRAM agent`, and a pipe from
 * it.
 *
 *   - It gets the store's URL and its settings on standard input, never as arguments.
 *   - The first line of the pipe is "READY=1", or why not; what follows are beats, and "+" or "-"
 *     when it has taken a reload over or not.
 *   - `agent_serves` is true from that line until its end is noticed.
 *   - An end before it has ever served ends the start, unless it is a predecessor's lock that it
 *     met: then it is tried again for a while. Any later end is followed by another start.
 */
#include "server/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "agent/agent.h"

#define AGENT_ARGUMENTS_MAX 64

/* False: too many. */
static bool agent_arguments(const struct supervisor *s, const char *beat,
                            const char *out[AGENT_ARGUMENTS_MAX])
{
    const char *const first[] = {"cloakroom",       "agent",      "--store", "-",         "--state",
                                 s->options->state, "--ready-fd", "3",       "--beat-ms", beat};
    size_t count = sizeof first / sizeof first[0];
    memcpy(out, first, sizeof first);
    for (const char *const *more = s->options->agent_arguments; more != NULL && *more != NULL;
         more++) {
        if (count == AGENT_ARGUMENTS_MAX - 1)
            return false;
        out[count++] = *more;
    }
    out[count] = NULL;
    return true;
}

/* A pipe with the store's URL in it, which may hold a password: neither arguments nor environment
 * are for that. The settings come after it. */
static int url_pipe(const char *url, const char *settings)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
        return -1;
    size_t count = strlen(url);
    size_t settings_count = settings != NULL ? strlen(settings) : 0;
    bool written = write(ends[1], url, count) == (ssize_t)count && write(ends[1], "\n", 1) == 1 &&
                   write(ends[1], settings, settings_count) == (ssize_t)settings_count;
    (void)close(ends[1]);
    if (!written)
        fd_close(&ends[0]);
    else
        (void)fcntl(ends[0], F_SETFL, 0);
    return ends[0];
}

enum cr_status cr_agent_process_start(struct supervisor *s)
{
    const char *arguments[AGENT_ARGUMENTS_MAX];
    char beat[24]; /* in milliseconds */
    int ready[2] = {-1, -1}, input = url_pipe(s->options->store, s->options->agent_settings);
    enum cr_status st = CR_E_IO;
    (void)snprintf(beat, sizeof beat, "%lld", (long long)cr_service_manager_beat(s));
    if (input < 0 || !agent_arguments(s, beat, arguments) || pipe2(ready, O_CLOEXEC) != 0)
        goto out;
    struct cr_child_command command = {
        .program = s->options->program,
        .arguments = arguments,
        .input = input,
        .death_signal = SIGTERM,
        .inherited = ready[1],
        .user = s->options->agent_user,
    };
    st = cr_child_start(&s->agent, &command, s->now);
    if (st != CR_OK)
        goto out;
    (void)fcntl(ready[0], F_SETFL, O_NONBLOCK);
    cr_supervisor_count_start(s, CR_HTTP_AGENT);
    s->agent_ready = ready[0];
    s->agent_line_count = 0;
    ready[0] = -1;
out:
    fd_close(&input);
    fd_close(&ready[0]);
    fd_close(&ready[1]);
    return st;
}

/* After its first line: that it goes round, and what became of a reload. */
static void agent_beat_take(struct supervisor *s)
{
    char beats[64];
    ssize_t count = read(s->agent_ready, beats, sizeof beats);
    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (count > 0)
        s->agent_heard = s->now;
    else
        fd_close(&s->agent_ready); /* its end is about to be noticed */
    for (ssize_t i = 0; i < count; i++)
        if (beats[i] == '+' || beats[i] == '-')
            cr_reload_answered(s, beats[i] == '+');
}

/* Its first line: "READY=1", or a number and why not. */
void cr_agent_process_listen_to(struct supervisor *s)
{
    if (s->agent_serves) {
        agent_beat_take(s);
        return;
    }
    ssize_t count = read(s->agent_ready, s->agent_line + s->agent_line_count,
                         sizeof s->agent_line - 1 - s->agent_line_count);
    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (count > 0) {
        s->agent_line_count += (size_t)count;
        s->agent_line[s->agent_line_count] = '\0';
        if (strchr(s->agent_line, '\n') == NULL && s->agent_line_count < sizeof s->agent_line - 1)
            return;
    }
    s->agent_line[s->agent_line_count] = '\0';
    s->agent_line[strcspn(s->agent_line, "\n")] = '\0';
    bool ready = strcmp(s->agent_line, "READY=1") == 0;
    if (!ready)
        fd_close(&s->agent_ready);
    s->agent_heard = s->now;
    s->agent_serves = ready;
    if (ready)
        cr_supervisor_agent_serves(s);
}

void cr_agent_process_ended(struct supervisor *s, int status)
{
    char how[32];
    cr_child_how(status, how, sizeof how);
    cr_supervisor_count_end(s, CR_HTTP_AGENT);
    /* What it had to say may still be on its way. */
    while (s->agent_ready >= 0)
        cr_agent_process_listen_to(s);
    s->agent_serves = false;
    cr_reload_agent_ended(s);
    if (s->stage == STAGE_STOPPING)
        return;
    bool busy = WIFEXITED(status) && WEXITSTATUS(status) == CR_AGENT_EXIT_BUSY;
    if (s->stage == STAGE_AGENT && busy && s->now < cr_boot_add(s->started, PREDECESSOR_MS)) {
        s->agent.failures = 0;
        s->agent.due = cr_boot_add(s->now, RETRY_MS);
        return;
    }
    const char *text = strchr(s->agent_line, ' ');
    cr_log(CR_LOG_ERROR, "the agent ended (%s)%s%s", how, text != NULL ? ":" : "",
           text != NULL ? text : "");
    if (s->stage == STAGE_AGENT)
        cr_supervisor_fail(s);
}
