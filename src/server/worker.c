/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker, of HTTP or of operators: takes what its supervisor hands it, then loops over its
 * connections, the agent's socket and the supervisor's. Opens nothing itself. Without an agent it
 * answers 503, never 401.
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
#include "base/shm.h"
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

#define FRONTS_MAX 2

struct worker {
    struct cr_worker_settings settings;
    struct cr_http_site sites[FRONTS_MAX]; /* public; or admin and monitor */
    int listen[CR_SERVER_LISTEN_MAX];
    size_t listen_count;
    struct cr_front *fronts[FRONTS_MAX];
    size_t front_count;
    struct cr_shm page; /* struct cr_http_counts */
    struct cr_http_census census;
    size_t page_bytes[CR_HTTP_PAGES_MAX]; /* of its pages */
    struct cr_clock *clock;
    struct cr_room *room;
    bool lonely;              /* the supervisor has been asked for a descriptor */
    cr_boot_ns joining_until; /* by one that has come: till then nothing is missing */
    bool supervisor_gone;
    bool draining;
    cr_boot_ns drain_until;
    cr_boot_ns beat_due;
    char who[24];
};

static bool worker_tell(enum cr_control_kind kind)
{
    struct cr_control message = {.kind = kind};
    return cr_control_send(CR_CONTROL_FD, &message) == CR_OK;
}

static bool worker_tell_ready(const struct worker *worker)
{
    struct cr_control message = {.kind = CR_CONTROL_READY, .fd_count = 1, .fds = {worker->page.fd}};
    return cr_control_send(CR_CONTROL_FD, &message) == CR_OK;
}

/* The supervisor's page. Without it there is less to tell, and nothing else is missing. */
static void processes_map(struct worker *worker, int fd)
{
    const void *memory;
    size_t bytes;
    if (cr_shm_map(fd, &memory, &bytes) == CR_OK && bytes >= sizeof(struct cr_http_processes))
        worker->census.processes = memory;
    (void)close(fd);
}

/* Of what can change while running, all: requests under way go on with either. */
static void settings_take(struct worker *worker, const struct cr_worker_settings *settings)
{
    struct cr_worker_settings *own = &worker->settings;
    memcpy(own->clear_site_data, settings->clear_site_data, sizeof own->clear_site_data);
    for (size_t i = 0; i < FRONTS_MAX; i++) {
        worker->sites[i].on_login = settings->on_login;
        worker->sites[i].keep_count = settings->keep_count;
        worker->sites[i].idle = settings->idle;
        worker->sites[i].absolute = settings->absolute;
        if (worker->sites[i].surface == CR_HTTP_PUBLIC)
            worker->sites[i].proxies = settings->proxies;
    }
    cr_log_open(worker->who, settings->log_level, settings->log_json);
}

static enum cr_status start_receive(struct worker *worker)
{
    struct cr_control message;
    enum cr_status st = cr_control_receive(CR_CONTROL_FD, &message);
    if (st != CR_OK)
        return st;
    bool ops = message.settings.ops;
    if (message.kind != CR_CONTROL_START || message.fd_count < (ops ? 2 : 1) ||
        (ops && message.fd_count > 3))
        return CR_E_PROTOCOL;
    worker->settings = message.settings;
    worker->clock = cr_clock_system();
    worker->listen_count = message.fd_count - ops;
    memcpy(worker->listen, message.fds, sizeof(int) * worker->listen_count);
    for (size_t i = 0; i < FRONTS_MAX; i++)
        worker->sites[i] = (struct cr_http_site){
            .dev = worker->settings.dev || ops,
            .clear_site_data = worker->settings.clear_site_data,
            .clock = worker->clock,
            .surface = !ops     ? CR_HTTP_PUBLIC
                       : i == 0 ? CR_HTTP_ADMIN
                                : CR_HTTP_MONITOR,
            .census = ops ? &worker->census : NULL,
        };
    if (ops)
        (void)snprintf(worker->who, sizeof worker->who, "ops worker");
    else
        (void)snprintf(worker->who, sizeof worker->who, "worker %u", worker->settings.number);
    settings_take(worker, &message.settings);
    if (ops)
        processes_map(worker, message.fds[worker->listen_count]);
    return CR_OK;
}

/* Each surface has a front of its own, so that no socket leads to another's routes. */
static enum cr_status fronts_create(struct worker *worker)
{
    struct cr_http_counts *counts = worker->page.memory;
    bool ops = worker->settings.ops;
    size_t fronts = ops ? worker->listen_count : 1, each = ops ? 1 : worker->listen_count;
    enum cr_status st = CR_OK;
    for (size_t i = 0; i < fronts && st == CR_OK; i++) {
        st = cr_front_create(&worker->sites[i], worker->listen + i, each,
                             worker->settings.connections_max, worker->settings.socket_mode, counts,
                             &worker->fronts[i]);
        worker->front_count += st == CR_OK;
    }
    return st;
}

static enum cr_status page_create(struct worker *worker)
{
    worker->page.fd = -1;
    enum cr_status st = cr_shm_create("cloakroom counts", sizeof(struct cr_http_counts),
                                      CR_HUGE_OFF, &worker->page);
    if (st != CR_OK || !worker->settings.ops)
        return st;
    worker->census.pages[worker->settings.number - 1] = worker->page.memory;
    worker->census.gone = calloc(1, sizeof *worker->census.gone);
    return worker->census.gone != NULL ? CR_OK : CR_E_NO_MEMORY;
}

/* What a worker had counted that has been replaced stays counted. */
static void page_fold(struct cr_http_counts *gone, const struct cr_http_counts *page)
{
    cr_http_count_add(&gone->hits, cr_http_count_get(&page->hits));
    cr_http_count_add(&gone->misses, cr_http_count_get(&page->misses));
    for (size_t i = 0; i < CR_HTTP_SURFACES; i++)
        for (size_t k = 0; k <= CR_HTTP_ROUTES_MAX; k++)
            for (size_t m = 0; m < CR_HTTP_STATUSES_MAX; m++)
                cr_http_count_add(&gone->requests[i][k][m],
                                  cr_http_count_get(&page->requests[i][k][m]));
}

/* A worker's page, as its supervisor passes it on. */
static void page_take(struct worker *worker, unsigned number, int fd)
{
    const void *memory = NULL;
    size_t bytes = 0;
    CR_ASSERT(worker->settings.ops && number >= 1 && number < worker->settings.number);
    const struct cr_http_counts **page = &worker->census.pages[number - 1];
    if (cr_shm_map(fd, &memory, &bytes) != CR_OK) {
        cr_log(CR_LOG_WARN, "worker %u cannot be counted", number);
    } else if (bytes < sizeof **page) {
        cr_memory_unmap(memory, bytes);
    } else {
        if (*page != NULL) {
            page_fold(worker->census.gone, *page);
            cr_memory_unmap(*page, worker->page_bytes[number - 1]);
        }
        *page = memory;
        worker->page_bytes[number - 1] = bytes;
    }
    (void)close(fd);
}

static void worker_count(struct worker *worker)
{
    struct cr_http_counts *counts = worker->page.memory;
    uint64_t connections = 0, hits, misses;
    for (size_t i = 0; i < worker->front_count; i++)
        connections += cr_front_connections(worker->fronts[i]);
    cr_http_count_set(&counts->connections, connections);
    if (worker->room == NULL)
        return;
    cr_room_counts(worker->room, &hits, &misses);
    cr_http_count_set(&counts->hits, hits);
    cr_http_count_set(&counts->misses, misses);
}

static void agent_take(struct worker *worker, int fd)
{
    struct cr_options options;
    struct cr_error error = {.size = sizeof error};
    worker->lonely = false;
    worker->joining_until = cr_boot_add(cr_clock_boot(worker->clock), JOIN_MS);
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
    worker->drain_until = cr_boot_add(cr_clock_boot(worker->clock), DRAIN_MS);
    for (size_t i = 0; i < worker->front_count; i++)
        cr_front_drain(worker->fronts[i]);
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
        case CR_CONTROL_PAGE:
            CR_ASSERT(message.fd_count == 1);
            page_take(worker, message.settings.number, message.fds[0]);
            break;
        case CR_CONTROL_SETTINGS:
            settings_take(worker, &message.settings);
            break;
        case CR_CONTROL_START:
        case CR_CONTROL_READY:
        case CR_CONTROL_LONELY:
        case CR_CONTROL_ALIVE:
            CR_ASSERT(false);
        }
    }
    worker->supervisor_gone = st != CR_ASK;
}

/* Asked for once; the answer may be long in coming, as the agent has to start first. */
static void agent_miss(struct worker *worker)
{
    bool missing = worker->room == NULL || !cr_room_is_connected(worker->room);
    if (missing && !worker->lonely && cr_clock_boot(worker->clock) >= worker->joining_until)
        worker->lonely = worker_tell(CR_CONTROL_LONELY);
}

/* What is there already would be turned away otherwise, by a worker that only just came. With no
 * agent to be had, that is what is to be said. */
static void agent_await(struct worker *worker)
{
    struct pollfd control = {.fd = CR_CONTROL_FD, .events = POLLIN};
    cr_boot_ns until = cr_boot_add(cr_clock_boot(worker->clock), FIRST_MS);
    while (worker->room == NULL && !worker->supervisor_gone && !worker->draining &&
           cr_clock_boot(worker->clock) < until) {
        (void)poll(&control, 1, TICK_MS);
        control_take(worker);
    }
}

/* Says that the loop goes round. To a supervisor that does not listen it is said the next time. */
static void worker_beat(struct worker *worker)
{
    cr_boot_ns now = cr_clock_boot(worker->clock);
    if (worker->settings.beat == 0 || now < worker->beat_due)
        return;
    worker->beat_due = cr_boot_add(now, worker->settings.beat);
    (void)!worker_tell(CR_CONTROL_ALIVE);
}

static bool worker_goes_on(const struct worker *worker)
{
    if (worker->supervisor_gone)
        return false;
    size_t connections = 0;
    for (size_t i = 0; i < worker->front_count; i++)
        connections += cr_front_connections(worker->fronts[i]);
    return !worker->draining ||
           (connections > 0 && cr_clock_boot(worker->clock) < worker->drain_until);
}

static void worker_loop(struct worker *worker)
{
    struct pollfd polled[CR_SERVER_LISTEN_MAX + 2];
    while (worker_goes_on(worker)) {
        int timeout = TICK_MS;
        size_t count = 0;
        for (size_t i = 0; i < worker->front_count; i++) {
            int due;
            count += cr_front_poll(worker->fronts[i], polled + count, &due);
            if (due >= 0 && due < timeout)
                timeout = due;
        }
        polled[count++] = (struct pollfd){.fd = CR_CONTROL_FD, .events = POLLIN};
        /* poll passes over a negative descriptor. */
        polled[count++] = (struct pollfd){
            .fd = worker->room != NULL ? cr_room_fd(worker->room) : -1, .events = POLLIN};
        int ready = poll(polled, count, timeout);
        CR_ASSERT(ready >= 0 || errno == EINTR);
        if (worker->room != NULL && (ready <= 0 || polled[count - 1].revents != 0))
            cr_room_poll(worker->room);
        if (ready > 0 && polled[count - 2].revents != 0)
            control_take(worker);
        agent_miss(worker);
        for (size_t i = 0; i < worker->front_count; i++)
            cr_front_run(worker->fronts[i], worker->room);
        worker_count(worker);
        worker_beat(worker);
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
    if (page_create(&worker) != CR_OK) {
        cr_log(CR_LOG_ERROR, "there is no memory to count in");
        goto out;
    }
    if (fronts_create(&worker) != CR_OK) {
        cr_log(CR_LOG_ERROR, "the HTTP library does not start");
        goto out;
    }
    if (!worker_confine(&worker) || !worker_tell_ready(&worker))
        goto out;
    agent_await(&worker);
    worker_loop(&worker);
    exit_code = 0;
out:
    for (size_t i = 0; i < FRONTS_MAX; i++)
        cr_front_destroy(worker.fronts[i]);
    cr_close(worker.room);
    free(worker.census.gone);
    return exit_code;
}
