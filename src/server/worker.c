/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An HTTP worker: takes what its supervisor hands it, then loops over its connections, the agent's
 * socket and the supervisor's. Opens nothing itself. Without an agent it answers 503, never 401.
 */
#include "server/server.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "room/room.h"
#include "server/control.h"
#include "server/front.h"
#include "server/sandbox.h"

/* A room that waits has time-outs to look after; the end of its connection is asked about. */
#define TICK_MS 250
/* A descriptor that was handed over takes a moment to become a connection: agent and worker
 * introduce themselves first. */
#define JOIN_MS 1000
/* So long a new worker lets connections wait until it has been handed its first one. */
#define FIRST_MS 1000
/* Requests under way get this long once the worker is told to go. */
#define DRAIN_MS 10000

struct worker {
    struct cr_worker_settings settings;
    struct cr_http_site site;
    int listen[CR_SERVER_LISTEN_MAX];
    size_t listen_count;
    struct cr_front *front;
    struct cr_room *room;
    bool lonely;              /* the supervisor has been asked for a descriptor */
    cr_boot_ns joining_until; /* by one that has come: till then nothing is missing */
    bool supervisor_gone;
    bool draining;
    cr_boot_ns drain_until;
    char who[24];
};

static bool worker_tell(enum cr_control_kind kind)
{
    struct cr_control message = {.kind = kind};
    return cr_control_send(CR_CONTROL_FD, &message) == CR_OK;
}

static enum cr_status start_receive(struct worker *worker)
{
    struct cr_control message;
    enum cr_status st = cr_control_receive(CR_CONTROL_FD, &message);
    if (st != CR_OK)
        return st;
    if (message.kind != CR_CONTROL_START || message.fd_count == 0)
        return CR_E_PROTOCOL;
    worker->settings = message.settings;
    worker->listen_count = message.fd_count;
    memcpy(worker->listen, message.fds, sizeof(int) * message.fd_count);
    worker->site = (struct cr_http_site){
        .dev = worker->settings.dev,
        .on_login = worker->settings.on_login,
        .keep_count = worker->settings.keep_count,
        .idle = worker->settings.idle,
        .absolute = worker->settings.absolute,
        .clear_site_data = worker->settings.clear_site_data,
        .clock = cr_clock_system(),
    };
    (void)snprintf(worker->who, sizeof worker->who, "worker %u", worker->settings.number);
    cr_log_open(worker->who, worker->settings.log_level, worker->settings.log_json);
    return CR_OK;
}

static void agent_take(struct worker *worker, int fd)
{
    struct cr_options options;
    struct cr_error error = {.size = sizeof error};
    worker->lonely = false;
    worker->joining_until = cr_boot_add(cr_clock_boot(worker->site.clock), JOIN_MS);
    if (worker->room != NULL) {
        cr_room_replace_fd(worker->room, fd);
        return;
    }
    cr_options_init(&options);
    if (cr_room_open_fd(fd, &options, &worker->room, &error) != CR_OK)
        cr_log(CR_LOG_ERROR, "the agent does not take this worker: %s", error.text);
}

static void drain_begin(struct worker *worker)
{
    if (worker->draining)
        return;
    worker->draining = true;
    worker->drain_until = cr_boot_add(cr_clock_boot(worker->site.clock), DRAIN_MS);
    cr_front_drain(worker->front);
}

static void control_take(struct worker *worker)
{
    struct cr_control message;
    enum cr_status st;
    while ((st = cr_control_receive(CR_CONTROL_FD, &message)) == CR_OK) {
        switch (message.kind) {
        case CR_CONTROL_AGENT:
            CR_ASSERT(message.fd_count == 1);
            agent_take(worker, message.fds[0]);
            break;
        case CR_CONTROL_DRAIN:
            drain_begin(worker);
            break;
        case CR_CONTROL_START:
        case CR_CONTROL_READY:
        case CR_CONTROL_LONELY:
            CR_ASSERT(false);
        }
    }
    worker->supervisor_gone = st != CR_ASK;
}

/* Asked for once; the answer may be long in coming, as the agent has to start first. */
static void agent_miss(struct worker *worker)
{
    bool missing = worker->room == NULL || !cr_room_is_connected(worker->room);
    if (missing && !worker->lonely && cr_clock_boot(worker->site.clock) >= worker->joining_until)
        worker->lonely = worker_tell(CR_CONTROL_LONELY);
}

/* What is there already would be turned away otherwise, by a worker that only just came. With no
 * agent to be had, that is what is to be said. */
static void agent_await(struct worker *worker)
{
    struct pollfd control = {.fd = CR_CONTROL_FD, .events = POLLIN};
    cr_boot_ns until = cr_boot_add(cr_clock_boot(worker->site.clock), FIRST_MS);
    while (worker->room == NULL && !worker->supervisor_gone && !worker->draining &&
           cr_clock_boot(worker->site.clock) < until) {
        (void)poll(&control, 1, TICK_MS);
        control_take(worker);
    }
}

static bool worker_goes_on(const struct worker *worker)
{
    if (worker->supervisor_gone)
        return false;
    return !worker->draining || (cr_front_connections(worker->front) > 0 &&
                                 cr_clock_boot(worker->site.clock) < worker->drain_until);
}

static void worker_loop(struct worker *worker)
{
    struct pollfd polled[CR_SERVER_LISTEN_MAX + 2];
    while (worker_goes_on(worker)) {
        int timeout;
        size_t count = cr_front_poll(worker->front, polled, &timeout);
        polled[count++] = (struct pollfd){.fd = CR_CONTROL_FD, .events = POLLIN};
        /* poll passes over a negative descriptor. */
        polled[count++] = (struct pollfd){
            .fd = worker->room != NULL ? cr_room_fd(worker->room) : -1, .events = POLLIN};
        if (timeout < 0 || timeout > TICK_MS)
            timeout = TICK_MS;
        int ready = poll(polled, count, timeout);
        CR_ASSERT(ready >= 0 || errno == EINTR);
        if (worker->room != NULL && (ready <= 0 || polled[count - 1].revents != 0))
            cr_room_poll(worker->room);
        if (ready > 0 && polled[count - 2].revents != 0)
            control_take(worker);
        agent_miss(worker);
        cr_front_run(worker->front, worker->room);
    }
}

static bool worker_confine(const struct worker *worker)
{
    if (cr_sandbox_enter() == CR_OK)
        return true;
    cr_log(worker->settings.unconfined ? CR_LOG_WARN : CR_LOG_ERROR,
           "the kernel does not let this worker be confined (seccomp)");
    return worker->settings.unconfined;
}

int cr_worker_main(void)
{
    struct worker worker = {0};
    int exit_code = 1;
    /* The supervisor decides when a worker goes: a Ctrl-C reaches the whole foreground group. */
    (void)signal(SIGINT, SIG_IGN);
    (void)signal(SIGTERM, SIG_IGN);
    (void)signal(SIGHUP, SIG_IGN);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)fcntl(CR_CONTROL_FD, F_SETFD, FD_CLOEXEC);
    if (start_receive(&worker) != CR_OK)
        goto out;
    (void)fcntl(CR_CONTROL_FD, F_SETFL, O_NONBLOCK);
    if (cr_front_create(&worker.site, worker.listen, worker.listen_count,
                        worker.settings.connections_max, &worker.front) != CR_OK) {
        cr_log(CR_LOG_ERROR, "the HTTP library does not start");
        goto out;
    }
    if (!worker_confine(&worker) || !worker_tell(CR_CONTROL_READY))
        goto out;
    agent_await(&worker);
    worker_loop(&worker);
    exit_code = 0;
out:
    cr_front_destroy(worker.front);
    cr_close(worker.room);
    return exit_code;
}
