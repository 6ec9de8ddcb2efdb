/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The supervisor: keeps the listening sockets, the agent and the workers, and nothing else. It
 * never reads from a client; all that workers get from it are their sockets and descriptors to the
 * agent. Here are its stages and its loop; supervisor.h says where the rest is.
 *
 *   AGENT -> WORKERS -> SERVING -> DRAINING -> STOPPING -> GONE
 *
 *   - Only this file moves the stage, and never back.
 *   - A failure before SERVING is GONE at once; from then on what dies is started again.
 *   - DRAINING and STOPPING are bounded: who has not gone by then is killed.
 */
#include "server/supervisor.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/agent.h"
#include "base/assert.h"

#define WORKER_STOP_MS 12000 /* its own bound, and something on top */
#define AGENT_STOP_MS 10000

void cr_supervisor_fail(struct supervisor *s)
{
    s->failed = true;
    s->stage = STAGE_GONE;
}

void cr_supervisor_count_start(struct supervisor *s, enum cr_http_process kind)
{
    struct cr_http_processes *processes = s->counted.memory;
    cr_http_count_add(&processes->starts[kind], 1);
    cr_http_count_add(&processes->running[kind], 1);
}

void cr_supervisor_count_end(struct supervisor *s, enum cr_http_process kind)
{
    struct cr_http_processes *processes = s->counted.memory;
    cr_http_count_set(&processes->running[kind], cr_http_count_get(&processes->running[kind]) - 1);
}

/* --- Stages of the start --- */

void cr_supervisor_agent_serves(struct supervisor *s)
{
    cr_reload_agent_serves(s);
    for (unsigned i = 0; i < s->slot_count; i++)
        s->workers[i].wants_agent = true;
    if (s->stage != STAGE_AGENT)
        return;
    if (!cr_sockets_open_ops(s) ||
        (s->options->agent_ready != NULL && !s->options->agent_ready(s->options->context))) {
        cr_supervisor_fail(s);
        return;
    }
    s->stage = STAGE_WORKERS;
}

void cr_supervisor_worker_serves(struct supervisor *s)
{
    char text[64];
    if (s->stage != STAGE_WORKERS)
        return;
    for (unsigned i = 0; i < s->slot_count; i++)
        if (!s->workers[i].ready)
            return;
    s->stage = STAGE_SERVING;
    for (size_t i = 0; i < s->options->listen_count; i++) {
        cr_listen_text(&s->addresses[i], text, sizeof text);
        cr_log(CR_LOG_INFO, "serving on http://%s", text);
    }
    if (cr_sockets_are_dev(s))
        cr_log(CR_LOG_WARN,
               "plain HTTP on loopback, for development: the cookie has another name "
               "and is sent without Secure; behind a proxy that speaks TLS, set --behind-tls yes");
    cr_service_manager_serving(s, text);
    if (s->options->serving != NULL)
        s->options->serving(s->options->context);
}

/* --- Stopping --- */

static void agent_stop(struct supervisor *s)
{
    s->stage = STAGE_STOPPING;
    s->give_up = cr_boot_add(s->now, AGENT_STOP_MS);
    if (s->agent.pid == 0)
        s->stage = STAGE_GONE;
    else
        (void)kill(s->agent.pid, SIGTERM);
}

static void drain(struct supervisor *s)
{
    if (s->stage >= STAGE_DRAINING)
        return;
    static const struct cr_control message = {.kind = CR_CONTROL_DRAIN};
    cr_service_manager_stopping(s);
    s->stage = STAGE_DRAINING;
    s->give_up = cr_boot_add(s->now, WORKER_STOP_MS);
    for (unsigned i = 0; i < s->slot_count; i++)
        if (s->workers[i].control >= 0 && cr_control_send(s->workers[i].control, &message) != CR_OK)
            fd_close(&s->workers[i].control); /* ends it, too */
}

static void stop_go_on(struct supervisor *s)
{
    unsigned running = 0;
    for (unsigned i = 0; i < s->slot_count; i++)
        running += s->workers[i].child.pid != 0;
    if (s->stage == STAGE_DRAINING && running == 0) {
        agent_stop(s);
    } else if (s->stage >= STAGE_DRAINING && s->now >= s->give_up) {
        s->give_up = CR_BOOT_NEVER;
        for (unsigned i = 0; i < s->slot_count; i++)
            if (s->workers[i].child.pid != 0)
                (void)kill(s->workers[i].child.pid, SIGKILL);
        if (s->stage == STAGE_STOPPING && s->agent.pid != 0)
            (void)kill(s->agent.pid, SIGKILL);
    }
}

/* --- The loop --- */

static void signals_take(struct supervisor *s)
{
    struct signalfd_siginfo info;
    while (read(s->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT)
            drain(s);
        else if (info.ssi_signo == SIGHUP)
            cr_reload_begin(s);
    }
}

static void ended_take(struct supervisor *s)
{
    int status;
    if (cr_child_ended(&s->agent, s->now, &status))
        cr_agent_process_ended(s, status);
    if (s->stage == STAGE_STOPPING && s->agent.pid == 0)
        s->stage = STAGE_GONE;
    for (unsigned i = 0; i < s->slot_count; i++)
        if (cr_child_ended(&s->workers[i].child, s->now, &status))
            cr_worker_process_ended(s, &s->workers[i], status);
}

static bool is_due(const struct supervisor *s, const struct cr_child *child)
{
    return child->pid == 0 && child->due <= s->now;
}

static void due_start(struct supervisor *s)
{
    /* An agent that died while workers drain is still needed by what they finish. */
    if (s->stage <= STAGE_DRAINING && is_due(s, &s->agent) && cr_agent_process_start(s) != CR_OK) {
        cr_log(CR_LOG_ERROR, "the agent cannot be started: %s", strerror(errno));
        s->agent.due = cr_boot_add(s->now, PREDECESSOR_MS);
    }
    for (unsigned i = 0; i < s->slot_count; i++) {
        struct worker_slot *worker = &s->workers[i];
        if (s->stage < STAGE_WORKERS || s->stage >= STAGE_DRAINING)
            break;
        if (is_due(s, &worker->child) && cr_worker_process_start(s, worker) != CR_OK) {
            if (is_ops(s, worker))
                cr_log(CR_LOG_ERROR, "the ops worker cannot be started: %s", strerror(errno));
            else
                cr_log(CR_LOG_ERROR, "worker %u cannot be started: %s", i + 1, strerror(errno));
            worker->child.due = cr_boot_add(s->now, PREDECESSOR_MS);
        }
    }
    for (unsigned i = 0; i < s->slot_count; i++)
        cr_worker_process_catch_up(s, &s->workers[i]);
}

static void earlier(cr_boot_ns *due, cr_boot_ns other)
{
    if (other < *due)
        *due = other;
}

static int poll_timeout(struct supervisor *s)
{
    cr_boot_ns due = s->stage >= STAGE_DRAINING ? s->give_up : CR_BOOT_NEVER;
    earlier(&due, cr_service_manager_due(s));
    if (s->agent.pid == 0)
        earlier(&due, s->agent.due);
    for (unsigned i = 0; i < s->slot_count; i++) {
        if (s->workers[i].child.pid == 0 && s->stage > STAGE_AGENT && s->stage < STAGE_DRAINING)
            earlier(&due, s->workers[i].child.due);
        earlier(&due, cr_worker_process_due(s, &s->workers[i]));
    }
    if (due == CR_BOOT_NEVER)
        return -1;
    return due <= s->now ? 0 : (int)cr_boot_between(s->now, due) + 1;
}

static void supervise(struct supervisor *s)
{
    struct pollfd polled[SLOTS_MAX + 2];
    unsigned workers = s->slot_count;
    while (s->stage != STAGE_GONE) {
        due_start(s);
        for (unsigned i = 0; i < workers; i++)
            polled[i] = (struct pollfd){.fd = s->workers[i].control, .events = POLLIN};
        polled[workers] = (struct pollfd){.fd = s->signals, .events = POLLIN};
        polled[workers + 1] = (struct pollfd){.fd = s->agent_ready, .events = POLLIN};
        int ready = poll(polled, workers + 2, poll_timeout(s));
        CR_ASSERT(ready >= 0 || errno == EINTR);
        s->now = cr_clock_boot(cr_clock_system());
        if (ready > 0) {
            if (polled[workers].revents != 0)
                signals_take(s);
            if (polled[workers + 1].revents != 0)
                cr_agent_process_listen_to(s);
            for (unsigned i = 0; i < workers; i++)
                if (polled[i].revents != 0)
                    cr_worker_process_listen_to(s, &s->workers[i]);
        }
        ended_take(s);
        stop_go_on(s);
        cr_service_manager_feed(s);
    }
}

/* --- Start --- */

static bool counted_open(struct supervisor *s)
{
    if (cr_shm_create("cloakroom processes", sizeof(struct cr_http_processes), CR_HUGE_OFF,
                      &s->counted) != CR_OK) {
        cr_log(CR_LOG_ERROR, "there is no memory to count in");
        return false;
    }
    struct cr_http_processes *processes = s->counted.memory;
    cr_http_count_set(&processes->wanted[CR_HTTP_AGENT], 1);
    cr_http_count_set(&processes->wanted[CR_HTTP_WORKER], s->options->workers);
    cr_http_count_set(&processes->wanted[CR_HTTP_OPS], 1);
    return true;
}

static bool signals_open(struct supervisor *s)
{
    static const int caught[] = {SIGTERM, SIGINT, SIGHUP, SIGCHLD};
    sigset_t set;
    (void)sigemptyset(&set);
    for (size_t i = 0; i < sizeof caught / sizeof caught[0]; i++)
        (void)sigaddset(&set, caught[i]);
    (void)signal(SIGPIPE, SIG_IGN);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
        return false;
    s->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return s->signals >= 0;
}

/* Whoever is left goes with us. */
static void end_all(struct supervisor *s)
{
    for (unsigned i = 0; i < s->slot_count; i++) {
        struct worker_slot *worker = &s->workers[i];
        fd_close(&worker->control);
        for (size_t k = 0; k < CR_SERVER_LISTEN_MAX; k++)
            fd_close(&worker->listen[k]);
        fd_close(&worker->page);
        if (worker->child.pid != 0)
            (void)waitpid(worker->child.pid, NULL, 0);
    }
    if (s->agent.pid != 0) {
        (void)kill(s->agent.pid, SIGTERM);
        (void)waitpid(s->agent.pid, NULL, 0);
    }
    if (s->has_ops_socket)
        (void)unlink(s->options->ops_socket);
    fd_close(&s->agent_ready);
    fd_close(&s->signals);
    fd_close(&s->counted.fd);
    cr_memory_unmap(s->counted.memory, s->counted.bytes);
}

/* False: the path is too long. */
static bool agent_paths_write(struct supervisor *s)
{
    const char *state = s->options->state;
    int count =
        snprintf(s->agent_socket, sizeof s->agent_socket, "%s/%s", state, CR_AGENT_HTTP_SOCKET);
    (void)snprintf(s->operator_socket, sizeof s->operator_socket, "%s/%s", state,
                   CR_AGENT_OPERATOR_SOCKET);
    if (count >= 0 && strlen(state) + sizeof CR_AGENT_OPERATOR_SOCKET < sizeof s->operator_socket)
        return true;
    cr_log(CR_LOG_ERROR, "the state directory's path is too long for a socket: %s", state);
    return false;
}

/* Nothing is open yet. NULL: no memory. */
static struct supervisor *supervisor_create(const struct cr_server_options *options)
{
    struct supervisor *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->options = options;
    if (options->manager != NULL)
        s->manager = *options->manager;
    s->started = s->now = cr_clock_boot(cr_clock_system());
    s->signals = s->agent_ready = s->counted.fd = -1;
    s->slot_count = options->workers + 1;
    for (size_t i = 0; i < SLOTS_MAX; i++) {
        s->workers[i].control = s->workers[i].page = -1;
        for (size_t k = 0; k < CR_SERVER_LISTEN_MAX; k++)
            s->workers[i].listen[k] = -1;
    }
    return s;
}

int cr_server_main(const struct cr_server_options *options)
{
    CR_ASSERT(options->workers >= 1 && options->workers <= CR_SERVER_WORKERS_MAX);
    CR_ASSERT(options->listen_count >= 1 && options->listen_count <= CR_SERVER_LISTEN_MAX);
    struct supervisor *s = supervisor_create(options);
    if (s == NULL)
        return 1;
    if (agent_paths_write(s) && cr_reload_start(s) && signals_open(s) && counted_open(s) &&
        cr_sockets_open(s))
        supervise(s);
    else
        s->failed = true;
    int exit_code = s->failed ? 1 : 0;
    end_all(s);
    free(s);
    return exit_code;
}
