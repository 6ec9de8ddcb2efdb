/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The supervisor: keeps the listening sockets, the agent and the workers, and nothing else. It
 * never reads from a client; all that workers get from it are their sockets and descriptors to the
 * agent.
 *
 *   AGENT -> WORKERS -> SERVING -> DRAINING -> STOPPING -> GONE
 *
 * A failure before SERVING ends the start; from then on what dies is started again.
 */
#include "server/server.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/agent.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/shm.h"
#include "http/counts.h"
#include "room/room.h"
#include "server/child.h"
#include "server/control.h"
#include "server/listen.h"
#include "base/manager.h"

/* A predecessor that was killed leaves its sockets and its agent's lock this much later at most. */
#define PREDECESSOR_MS 3000
#define RETRY_MS 50          /* between two tries to reach the agent */
#define WORKER_STOP_MS 12000 /* its own bound, and something on top */
#define AGENT_STOP_MS 10000
/* Parts of the time in which a service manager wants to hear of us: each process of ours is to be
 * heard of eight times, and was well half of it ago at the latest. */
#define WATCHDOG_BEATS 8
#define WATCHDOG_SILENCE 2
#define WATCHDOG_FEEDS 4

enum stage {
    STAGE_AGENT,
    STAGE_WORKERS,
    STAGE_SERVING,
    STAGE_DRAINING,
    STAGE_STOPPING,
    STAGE_GONE
};

struct worker_slot {
    struct cr_child child;
    int control; /* -1: none */
    bool ready;
    bool wants_agent;
    bool wants_settings;  /* it has not been told of the last reload */
    cr_boot_ns agent_due; /* not before */
    int listen[CR_SERVER_LISTEN_MAX];
    size_t listen_count;
    int page;         /* on which it counts; -1: not come yet */
    cr_boot_ns heard; /* that it goes round */
};

/* The ops worker stands behind the HTTP workers. */
#define SLOTS_MAX (CR_SERVER_WORKERS_MAX + 1)
_Static_assert(SLOTS_MAX <= CR_HTTP_PAGES_MAX, "each has a page");

/* Settings as workers get them. */
struct tunable {
    struct cr_server_settings settings;
    char clear_site_data[sizeof(((struct cr_worker_settings *)NULL)->clear_site_data)];
};

enum reload {
    RELOAD_NONE,
    RELOAD_WANTED, /* as soon as an agent serves: before, SIGHUP would end it */
    RELOAD_ASKED,  /* the agent was told, and has not answered */
    RELOAD_AGAIN   /* so, and another is wanted after it */
};

struct supervisor {
    const struct cr_server_options *options;
    struct tunable running, fresh;
    enum reload reload;
    enum stage stage;
    bool failed;
    cr_boot_ns now, started;
    cr_boot_ns give_up; /* of this stage; CR_BOOT_NEVER: no limit */
    int signals;
    struct cr_listen_address addresses[CR_SERVER_LISTEN_MAX];

    struct cr_child agent;
    int agent_ready; /* the pipe that says so; -1: nothing is awaited */
    bool agent_serves;
    cr_boot_ns agent_heard;
    char agent_line[1024];
    size_t agent_line_count;
    char agent_socket[108], operator_socket[108];

    struct worker_slot workers[SLOTS_MAX];
    unsigned slot_count;
    bool has_ops_socket; /* at options->ops_socket, and ours to remove */
    struct cr_listen_address monitor;
    struct cr_shm counted; /* struct cr_http_processes, which the ops worker reads */

    struct cr_manager manager;
    cr_boot_ns feed_due;
    char beat_text[24]; /* how often the agent is to be heard of, in milliseconds */
    bool hungry;        /* it is not told that we are well: we are not */
};

static bool is_ops(const struct supervisor *s, const struct worker_slot *worker)
{
    return worker == &s->workers[s->options->workers];
}

static void count_start(struct supervisor *s, enum cr_http_process kind)
{
    struct cr_http_processes *processes = s->counted.memory;
    cr_http_count_add(&processes->starts[kind], 1);
    cr_http_count_add(&processes->running[kind], 1);
}

static void count_end(struct supervisor *s, enum cr_http_process kind)
{
    struct cr_http_processes *processes = s->counted.memory;
    cr_http_count_set(&processes->running[kind], cr_http_count_get(&processes->running[kind]) - 1);
}

static enum cr_http_process kind_of(const struct supervisor *s, const struct worker_slot *worker)
{
    return is_ops(s, worker) ? CR_HTTP_OPS : CR_HTTP_WORKER;
}

static void fd_close(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

/* How often each process of ours is to be heard of; 0: nobody wants to know. */
static cr_span_ms beat_of(const struct supervisor *s)
{
    cr_span_ms beat = s->manager.watchdog / WATCHDOG_BEATS;
    return s->manager.watchdog > 0 && beat == 0 ? 1 : beat;
}

static void fail(struct supervisor *s)
{
    s->failed = true;
    s->stage = STAGE_GONE;
}

static void reload(struct supervisor *s);
static void reload_answered(struct supervisor *s, bool taken);

/* --- The agent --- */

#define AGENT_ARGUMENTS_MAX 64

/* False: too many. */
static bool agent_arguments(const struct supervisor *s, const char *out[AGENT_ARGUMENTS_MAX])
{
    const char *const first[] = {"cloakroom", "agent",           "--store",    "-",
                                 "--state",   s->options->state, "--ready-fd", "3",
                                 "--beat-ms", s->beat_text};
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

static enum cr_status agent_start(struct supervisor *s)
{
    const char *arguments[AGENT_ARGUMENTS_MAX];
    int ready[2] = {-1, -1}, input = url_pipe(s->options->store, s->options->agent_settings);
    enum cr_status st = CR_E_IO;
    if (input < 0 || !agent_arguments(s, arguments) || pipe2(ready, O_CLOEXEC) != 0)
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
    count_start(s, CR_HTTP_AGENT);
    s->agent_ready = ready[0];
    s->agent_line_count = 0;
    ready[0] = -1;
out:
    fd_close(&input);
    fd_close(&ready[0]);
    fd_close(&ready[1]);
    return st;
}

/* Once the agent has made the directory in which it stands. A predecessor that was killed may hold
 * it for a moment. */
static bool ops_listen(struct supervisor *s)
{
    const struct cr_server_options *options = s->options;
    struct worker_slot *ops = &s->workers[options->workers];
    enum cr_status st;
    cr_boot_ns last = cr_boot_add(cr_clock_boot(cr_clock_system()), PREDECESSOR_MS);
    unsigned mode = options->ops_socket_mode != 0 ? options->ops_socket_mode : 0600;
    while ((st = cr_listen_unix(options->ops_socket, mode, &ops->listen[0])) == CR_BUSY &&
           cr_clock_boot(cr_clock_system()) < last)
        (void)nanosleep(&(struct timespec){.tv_nsec = RETRY_MS * 1000000L}, NULL);
    s->has_ops_socket = st == CR_OK;
    const struct cr_child_user *user = options->agent_user;
    if (st == CR_OK && user != NULL && lchown(options->ops_socket, user->uid, user->gid) != 0)
        st = CR_E_IO;
    if (st != CR_OK)
        cr_log(CR_LOG_ERROR, "cannot listen on %s: %s; --ops-socket names another place",
               options->ops_socket,
               st == CR_BUSY       ? "another server does"
               : st == CR_CONFLICT ? "what stands there is not a socket"
               : st == CR_E_LIMIT  ? "the path is longer than a socket's may be"
                                   : strerror(errno));
    return st == CR_OK;
}

static void agent_serves(struct supervisor *s)
{
    s->agent_serves = true;
    if (s->reload == RELOAD_WANTED)
        reload(s);
    for (unsigned i = 0; i < s->slot_count; i++)
        s->workers[i].wants_agent = true;
    if (s->stage != STAGE_AGENT)
        return;
    if (!ops_listen(s) ||
        (s->options->agent_ready != NULL && !s->options->agent_ready(s->options->context))) {
        fail(s);
        return;
    }
    s->stage = STAGE_WORKERS;
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
            reload_answered(s, beats[i] == '+');
}

/* Its first line: "READY=1", or a number and why not. */
static void agent_line_take(struct supervisor *s)
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
    if (ready)
        agent_serves(s);
}

static void agent_ended(struct supervisor *s, int status)
{
    char how[32];
    cr_child_how(status, how, sizeof how);
    count_end(s, CR_HTTP_AGENT);
    /* What it had to say may still be on its way. */
    while (s->agent_ready >= 0)
        agent_line_take(s);
    s->agent_serves = false;
    /* The next one starts with the settings from before, and is told again. */
    if (s->reload != RELOAD_NONE)
        s->reload = RELOAD_WANTED;
    if (s->stage == STAGE_STOPPING) {
        s->stage = STAGE_GONE;
        return;
    }
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
        fail(s);
}

/* --- Workers --- */

static bool is_dev(const struct supervisor *s)
{
    bool loopback = !s->options->behind_tls;
    for (size_t i = 0; i < s->options->listen_count; i++)
        loopback = loopback && s->addresses[i].loopback;
    return loopback;
}

/* --- Settings --- */

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

static struct cr_control settings_message(const struct supervisor *s, enum cr_control_kind kind)
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

/* A worker that does not read is told the next time; one that is gone, when it is replaced. */
static void worker_settings_tell(const struct supervisor *s, struct worker_slot *worker)
{
    const struct cr_control message = settings_message(s, CR_CONTROL_SETTINGS);
    worker->wants_settings = cr_control_send(worker->control, &message) == CR_BUSY;
    if (worker->wants_settings)
        worker->agent_due = cr_boot_add(s->now, RETRY_MS);
}

static unsigned long long monotonic_us(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (unsigned long long)now.tv_sec * 1000000 + (unsigned long long)now.tv_nsec / 1000;
}

static void reload_end(struct supervisor *s)
{
    s->reload = RELOAD_NONE;
    if (s->stage == STAGE_SERVING)
        cr_manager_tell(&s->manager, "READY=1");
}

/* READY follows also when the settings are bad: what serves is what served before. */
static void reload(struct supervisor *s)
{
    if (s->options->reload == NULL || s->stage >= STAGE_DRAINING)
        return;
    if (s->reload == RELOAD_ASKED || s->reload == RELOAD_AGAIN) {
        s->reload = RELOAD_AGAIN;
        return;
    }
    if (s->stage == STAGE_SERVING && s->reload == RELOAD_NONE)
        cr_manager_tell(&s->manager, "RELOADING=1\nMONOTONIC_USEC=%llu", monotonic_us());
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

static void reload_answered(struct supervisor *s, bool taken)
{
    bool again = s->reload == RELOAD_AGAIN;
    if (s->reload != RELOAD_ASKED && !again)
        return; /* somebody else has sent it a signal */
    if (taken) {
        s->running = s->fresh;
        for (unsigned i = 0; i < s->slot_count; i++)
            if (s->workers[i].control >= 0)
                worker_settings_tell(s, &s->workers[i]);
    }
    if (s->options->reloaded != NULL)
        s->options->reloaded(s->options->context, taken);
    s->reload = again ? RELOAD_WANTED : RELOAD_ASKED;
    if (again)
        reload(s);
    else
        reload_end(s);
}

static enum cr_status worker_hand_over(const struct supervisor *s, struct worker_slot *worker)
{
    const struct cr_server_options *options = s->options;
    struct cr_control message = settings_message(s, CR_CONTROL_START);
    struct cr_worker_settings *settings = &message.settings;
    settings->number = (unsigned)(worker - s->workers) + 1;
    settings->dev = is_dev(s);
    settings->connections_max = options->connections_max > 0 ? options->connections_max : 1000;
    settings->beat = beat_of(s);
    settings->unconfined = options->unconfined;
    settings->ops = is_ops(s, worker);
    settings->socket_mode = options->ops_socket_mode;
    message.fd_count = worker->listen_count;
    memcpy(message.fds, worker->listen, sizeof(int) * worker->listen_count);
    if (message.settings.ops)
        message.fds[message.fd_count++] = s->counted.fd;
    return cr_control_send(worker->control, &message);
}

static enum cr_status worker_start(struct supervisor *s, struct worker_slot *worker)
{
    static const char *const http_arguments[] = {"cloakroom", "worker", NULL};
    static const char *const ops_arguments[] = {"cloakroom", "ops-worker", NULL};
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return CR_E_IO;
    struct cr_child_command command = {
        .program = s->options->program,
        .arguments = is_ops(s, worker) ? ops_arguments : http_arguments,
        .input = -1,
        .death_signal = SIGKILL,
        .inherited = ends[1],
        .user = is_ops(s, worker) ? s->options->agent_user : s->options->worker_user,
    };
    enum cr_status st = cr_child_start(&worker->child, &command, s->now);
    (void)close(ends[1]);
    (void)fcntl(ends[0], F_SETFL, O_NONBLOCK);
    worker->control = ends[0];
    worker->ready = false;
    worker->wants_agent = false;
    worker->wants_settings = false;
    worker->agent_due = 0;
    if (st == CR_OK)
        count_start(s, kind_of(s, worker));
    if (st == CR_OK)
        st = worker_hand_over(s, worker);
    return st;
}

static void all_ready(struct supervisor *s)
{
    char text[64];
    for (unsigned i = 0; i < s->slot_count; i++)
        if (!s->workers[i].ready)
            return;
    s->stage = STAGE_SERVING;
    for (size_t i = 0; i < s->options->listen_count; i++) {
        cr_listen_text(&s->addresses[i], text, sizeof text);
        cr_log(CR_LOG_INFO, "serving on http://%s", text);
    }
    if (is_dev(s))
        cr_log(CR_LOG_WARN,
               "plain HTTP on loopback, for development: the cookie has another name "
               "and is sent without Secure; behind a proxy that speaks TLS, set --behind-tls yes");
    cr_manager_tell(&s->manager, "READY=1\nSTATUS=%u workers serve on %s", s->options->workers,
                    text);
    s->feed_due = s->now;
    if (s->options->serving != NULL)
        s->options->serving(s->options->context);
}

/* Lost pages are lost numbers, no more: an ops worker that does not read gets them when it is
 * replaced. */
static void page_tell(struct supervisor *s, const struct worker_slot *worker)
{
    struct worker_slot *ops = &s->workers[s->options->workers];
    struct cr_control message = {
        .kind = CR_CONTROL_PAGE,
        .settings = {.number = (unsigned)(worker - s->workers) + 1},
        .fd_count = 1,
        .fds = {worker->page},
    };
    if (ops->control >= 0 && ops->ready && worker->page >= 0 && worker != ops)
        (void)!cr_control_send(ops->control, &message);
}

static void worker_ready(struct supervisor *s, struct worker_slot *worker,
                         struct cr_control *message)
{
    worker->ready = true;
    worker->heard = s->now;
    if (message->fd_count > 0) {
        fd_close(&worker->page);
        worker->page = message->fds[0];
        message->fds[0] = -1;
    }
    if (!is_ops(s, worker)) {
        page_tell(s, worker);
        return;
    }
    for (unsigned i = 0; i < s->options->workers; i++)
        page_tell(s, &s->workers[i]);
}

static void worker_listen_to(struct supervisor *s, struct worker_slot *worker)
{
    struct cr_control message;
    enum cr_status st;
    while ((st = cr_control_receive(worker->control, &message)) == CR_OK) {
        if (message.kind == CR_CONTROL_READY)
            worker_ready(s, worker, &message);
        for (size_t i = 0; i < message.fd_count; i++)
            fd_close(&message.fds[i]); /* what was not taken */
        worker->heard = s->now;
        if (message.kind == CR_CONTROL_ALIVE)
            continue;
        worker->wants_agent = true; /* READY and LONELY alike */
        if (s->stage == STAGE_WORKERS)
            all_ready(s);
    }
    if (st != CR_ASK)
        fd_close(&worker->control); /* its end is about to be noticed */
}

static void worker_connect(struct supervisor *s, struct worker_slot *worker)
{
    struct cr_control message = {.kind = CR_CONTROL_AGENT, .fd_count = 1};
    worker->agent_due = cr_boot_add(s->now, RETRY_MS);
    const char *door = is_ops(s, worker) ? s->operator_socket : s->agent_socket;
    if (cr_agent_connect(door, &message.fds[0]) != CR_OK)
        return; /* it has just died, and is about to be replaced */
    worker->wants_agent = cr_control_send(worker->control, &message) == CR_BUSY;
    (void)close(message.fds[0]);
}

static void worker_ended(struct supervisor *s, struct worker_slot *worker, int status)
{
    char how[32];
    cr_child_how(status, how, sizeof how);
    fd_close(&worker->control);
    worker->ready = false;
    count_end(s, kind_of(s, worker));
    if (s->stage >= STAGE_DRAINING)
        return;
    if (is_ops(s, worker))
        cr_log(CR_LOG_ERROR, "the ops worker ended (%s)", how);
    else
        cr_log(CR_LOG_ERROR, "worker %u ended (%s)", (unsigned)(worker - s->workers) + 1, how);
    if (s->stage == STAGE_WORKERS)
        fail(s);
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
    cr_manager_tell(&s->manager, "STOPPING=1");
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

/* --- The service manager's watchdog --- */

static bool is_silent(const struct supervisor *s, cr_boot_ns heard)
{
    return s->now > cr_boot_add(heard, s->manager.watchdog / WATCHDOG_SILENCE);
}

/* Empty: all are well. */
static void sick_write(const struct supervisor *s, char *out, size_t capacity)
{
    out[0] = '\0';
    if (!s->agent_serves)
        (void)snprintf(out, capacity, "the agent does not serve");
    else if (is_silent(s, s->agent_heard))
        (void)snprintf(out, capacity, "the agent does not answer");
    for (unsigned i = 0; i < s->slot_count && out[0] == '\0'; i++) {
        const struct worker_slot *worker = &s->workers[i];
        const char *what = !worker->ready                ? "does not serve"
                           : is_silent(s, worker->heard) ? "does not answer"
                                                         : NULL;
        if (what != NULL && is_ops(s, worker))
            (void)snprintf(out, capacity, "the ops worker %s", what);
        else if (what != NULL)
            (void)snprintf(out, capacity, "worker %u %s", i + 1, what);
    }
}

/* A process that died is started again by us; one that hangs is for the manager, who starts all of
 * us again when it has not been told for long enough that we are well. The way to the end has
 * bounds of its own. */
static void watchdog_feed(struct supervisor *s)
{
    char sick[64] = "";
    if (s->manager.watchdog == 0 || s->stage < STAGE_SERVING || s->now < s->feed_due)
        return;
    s->feed_due = cr_boot_add(s->now, s->manager.watchdog / WATCHDOG_FEEDS);
    if (s->stage == STAGE_SERVING)
        sick_write(s, sick, sizeof sick);
    if (sick[0] != '\0' && !s->hungry)
        cr_log(CR_LOG_WARN, "%s: the service manager's watchdog is told nothing meanwhile", sick);
    s->hungry = sick[0] != '\0';
    if (!s->hungry)
        cr_manager_tell(&s->manager, "WATCHDOG=1");
}

/* --- The loop --- */

static void signals_take(struct supervisor *s)
{
    struct signalfd_siginfo info;
    while (read(s->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT)
            drain(s);
        else if (info.ssi_signo == SIGHUP)
            reload(s);
    }
}

static void ended_take(struct supervisor *s)
{
    int status;
    if (cr_child_ended(&s->agent, s->now, &status))
        agent_ended(s, status);
    for (unsigned i = 0; i < s->slot_count; i++)
        if (cr_child_ended(&s->workers[i].child, s->now, &status))
            worker_ended(s, &s->workers[i], status);
}

static bool is_due(const struct supervisor *s, const struct cr_child *child)
{
    return child->pid == 0 && child->due <= s->now;
}

static void due_start(struct supervisor *s)
{
    /* An agent that died while workers drain is still needed by what they finish. */
    if (s->stage <= STAGE_DRAINING && is_due(s, &s->agent) && agent_start(s) != CR_OK) {
        cr_log(CR_LOG_ERROR, "the agent cannot be started: %s", strerror(errno));
        s->agent.due = cr_boot_add(s->now, PREDECESSOR_MS);
    }
    for (unsigned i = 0; i < s->slot_count; i++) {
        struct worker_slot *worker = &s->workers[i];
        if (s->stage < STAGE_WORKERS || s->stage >= STAGE_DRAINING)
            break;
        if (is_due(s, &worker->child) && worker_start(s, worker) != CR_OK) {
            if (is_ops(s, worker))
                cr_log(CR_LOG_ERROR, "the ops worker cannot be started: %s", strerror(errno));
            else
                cr_log(CR_LOG_ERROR, "worker %u cannot be started: %s", i + 1, strerror(errno));
            worker->child.due = cr_boot_add(s->now, PREDECESSOR_MS);
        }
    }
    for (unsigned i = 0; i < s->slot_count; i++)
        if (s->agent_serves && s->workers[i].wants_agent && s->workers[i].control >= 0 &&
            s->workers[i].agent_due <= s->now)
            worker_connect(s, &s->workers[i]);
    for (unsigned i = 0; i < s->slot_count; i++)
        if (s->workers[i].wants_settings && s->workers[i].control >= 0 &&
            s->workers[i].agent_due <= s->now)
            worker_settings_tell(s, &s->workers[i]);
}

static void earlier(cr_boot_ns *due, cr_boot_ns other)
{
    if (other < *due)
        *due = other;
}

static int poll_timeout(struct supervisor *s)
{
    cr_boot_ns due = s->stage >= STAGE_DRAINING ? s->give_up : CR_BOOT_NEVER;
    if (s->manager.watchdog > 0 && s->stage >= STAGE_SERVING)
        earlier(&due, s->feed_due);
    if (s->agent.pid == 0)
        earlier(&due, s->agent.due);
    for (unsigned i = 0; i < s->slot_count; i++) {
        if (s->workers[i].child.pid == 0 && s->stage > STAGE_AGENT && s->stage < STAGE_DRAINING)
            earlier(&due, s->workers[i].child.due);
        if (((s->agent_serves && s->workers[i].wants_agent) || s->workers[i].wants_settings) &&
            s->workers[i].control >= 0)
            earlier(&due, s->workers[i].agent_due);
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
                agent_line_take(s);
            for (unsigned i = 0; i < workers; i++)
                if (polled[i].revents != 0)
                    worker_listen_to(s, &s->workers[i]);
        }
        ended_take(s);
        stop_go_on(s);
        watchdog_feed(s);
    }
}

/* --- Start --- */

/* A predecessor that was killed may hold the address for a moment. */
static enum cr_status address_open(struct supervisor *s, size_t index)
{
    int fds[CR_SERVER_WORKERS_MAX];
    enum cr_status st;
    int open = s->options->listen_fds != NULL ? s->options->listen_fds[index] : -1;
    cr_boot_ns last = cr_boot_add(s->started, PREDECESSOR_MS);
    if (open >= 0)
        st = cr_listen_share(open, s->options->workers, fds);
    else
        while ((st = cr_listen_open(&s->addresses[index], s->options->workers, fds)) != CR_OK &&
               errno == EADDRINUSE && cr_clock_boot(cr_clock_system()) < last)
            (void)nanosleep(&(struct timespec){.tv_nsec = RETRY_MS * 1000000L}, NULL);
    for (unsigned i = 0; i < s->options->workers && st == CR_OK; i++)
        s->workers[i].listen[index] = fds[i];
    return st;
}

/* Its numbers are for whoever is on this host, and nothing on it asks who one is. */
static bool monitor_parse(struct supervisor *s)
{
    const char *text = s->options->ops_listen;
    if (cr_listen_parse(text, &s->monitor) != CR_OK) {
        cr_log(CR_LOG_ERROR,
               "ops.listen: %s is not an address and a port in numbers, such as 127.0.0.1:9464",
               text);
        return false;
    }
    if (s->monitor.loopback)
        return true;
    cr_log(CR_LOG_ERROR,
           "ops.listen: %s can be reached from other hosts, and /metrics asks nobody who they are. "
           "Use a loopback address such as 127.0.0.1:9464 or [::1]:9464, and where Prometheus runs "
           "elsewhere, a proxy before it that lets only Prometheus in",
           text);
    return false;
}

static bool monitor_open(struct supervisor *s)
{
    struct worker_slot *ops = &s->workers[s->options->workers];
    ops->listen_count = 1; /* the Unix socket, when there is an agent */
    if (s->options->ops_listen == NULL)
        return true;
    enum cr_status st = CR_E_IO;
    cr_boot_ns last = cr_boot_add(s->started, PREDECESSOR_MS);
    if (s->options->ops_listen_fd >= 0)
        st = cr_listen_share(s->options->ops_listen_fd, 1, &ops->listen[1]);
    else
        while ((st = cr_listen_open(&s->monitor, 1, &ops->listen[1])) != CR_OK &&
               errno == EADDRINUSE && cr_clock_boot(cr_clock_system()) < last)
            (void)nanosleep(&(struct timespec){.tv_nsec = RETRY_MS * 1000000L}, NULL);
    if (st == CR_OK)
        ops->listen_count = 2;
    else
        cr_log(CR_LOG_ERROR, "cannot listen on %s: %s; %s", s->options->ops_listen, strerror(errno),
               errno == EAFNOSUPPORT ? "this service may open no address itself: leave ops.listen "
                                       "unset, and start cloakroom-metrics.socket"
                                     : "choose another --ops-listen");
    return st == CR_OK;
}

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

static bool listen_all(struct supervisor *s)
{
    for (unsigned i = 0; i < s->options->workers; i++)
        s->workers[i].listen_count = s->options->listen_count;
    for (size_t i = 0; i < s->options->listen_count; i++) {
        const char *text = s->options->listen[i];
        if (cr_listen_parse(text, &s->addresses[i]) != CR_OK) {
            cr_log(CR_LOG_ERROR,
                   "%s is not an address and a port in numbers, such as "
                   "127.0.0.1:8080 or [::1]:8080",
                   text);
            return false;
        }
        if (address_open(s, i) != CR_OK) {
            cr_log(
                CR_LOG_ERROR, "cannot listen on %s: %s%s", text, strerror(errno),
                errno == EADDRINUSE ? "; end what serves there, or choose another --listen"
                : errno == EACCES   ? "; ports below 1024 are for root: choose another "
                                      "--listen, such as 127.0.0.1:8080"
                : errno == EAFNOSUPPORT
                    ? "; this service may open no address itself: leave server.listen unset, and "
                      "name it in `systemctl edit cloakroom.socket`"
                : errno == EADDRNOTAVAIL ? "; this host has no such address (0.0.0.0 is all of "
                                           "them)"
                                         : "");
            return false;
        }
    }
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

int cr_server_main(const struct cr_server_options *options)
{
    struct supervisor *s = calloc(1, sizeof *s);
    CR_ASSERT(options->workers >= 1 && options->workers <= CR_SERVER_WORKERS_MAX);
    CR_ASSERT(options->listen_count >= 1 && options->listen_count <= CR_SERVER_LISTEN_MAX);
    if (s == NULL)
        return 1;
    s->options = options;
    if (options->manager != NULL)
        s->manager = *options->manager;
    (void)snprintf(s->beat_text, sizeof s->beat_text, "%lld", (long long)beat_of(s));
    s->started = s->now = cr_clock_boot(cr_clock_system());
    s->signals = s->agent_ready = s->counted.fd = -1;
    s->slot_count = options->workers + 1;
    for (size_t i = 0; i < SLOTS_MAX; i++) {
        s->workers[i].control = s->workers[i].page = -1;
        for (size_t k = 0; k < CR_SERVER_LISTEN_MAX; k++)
            s->workers[i].listen[k] = -1;
    }
    (void)snprintf(s->operator_socket, sizeof s->operator_socket, "%s/%s", options->state,
                   CR_AGENT_OPERATOR_SOCKET);
    int count = snprintf(s->agent_socket, sizeof s->agent_socket, "%s/%s", options->state,
                         CR_AGENT_HTTP_SOCKET);
    if (count < 0 ||
        strlen(options->state) + sizeof CR_AGENT_OPERATOR_SOCKET >= sizeof s->operator_socket) {
        cr_log(CR_LOG_ERROR, "the state directory's path is too long for a socket: %s",
               options->state);
        s->failed = true;
    } else if (!tunable_take(&options->settings, &s->running) ||
               (options->ops_listen != NULL && !monitor_parse(s)) || !signals_open(s) ||
               !counted_open(s) || !monitor_open(s) || !listen_all(s)) {
        s->failed = true;
    } else {
        supervise(s);
    }
    int exit_code = s->failed ? 1 : 0;
    end_all(s);
    free(s);
    return exit_code;
}
