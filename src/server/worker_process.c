/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The workers, as the supervisor sees them: each a process and a socket pair to it (control.h).
 *
 *   - A worker gets all that it has over that socket: its settings and listening sockets first,
 *     then a descriptor to the agent, and a fresh one whenever it says that the last is dead. That
 *     is tried again every RETRY_MS for as long as it can be neither made nor sent.
 *   - The ops worker gets the page on which each HTTP worker counts, too: from that worker, by us.
 *   - A worker that ends before all served ends the start; later it is started again, until the
 *     stop begins.
 */
#include "server/supervisor.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "room/room.h"

static enum cr_http_process kind_of(const struct supervisor *s, const struct worker_slot *worker)
{
    return is_ops(s, worker) ? CR_HTTP_OPS : CR_HTTP_WORKER;
}

static enum cr_status worker_hand_over(const struct supervisor *s, struct worker_slot *worker)
{
    const struct cr_server_options *options = s->options;
    struct cr_control message = cr_reload_message(s, CR_CONTROL_START);
    struct cr_worker_settings *settings = &message.settings;
    settings->number = number_of(s, worker);
    settings->dev = cr_sockets_are_dev(s);
    settings->connections_max = options->connections_max > 0 ? options->connections_max : 1000;
    settings->beat = cr_service_manager_beat(s);
    settings->unconfined = options->unconfined;
    settings->ops = is_ops(s, worker);
    settings->socket_mode = options->ops_socket_mode;
    message.fd_count = worker->listen_count;
    memcpy(message.fds, worker->listen, sizeof(int) * worker->listen_count);
    if (message.settings.ops)
        message.fds[message.fd_count++] = s->counted.fd;
    return cr_control_send(worker->control, &message);
}

enum cr_status cr_worker_process_start(struct supervisor *s, struct worker_slot *worker)
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
        cr_supervisor_count_start(s, kind_of(s, worker));
    if (st == CR_OK)
        st = worker_hand_over(s, worker);
    return st;
}

/* Lost pages are lost numbers, no more: an ops worker that does not read gets them when it is
 * replaced. */
static void page_tell(struct supervisor *s, const struct worker_slot *worker)
{
    struct worker_slot *ops = ops_of(s);
    struct cr_control message = {
        .kind = CR_CONTROL_PAGE,
        .settings = {.number = number_of(s, worker)},
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

void cr_worker_process_listen_to(struct supervisor *s, struct worker_slot *worker)
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
        cr_supervisor_worker_serves(s);
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

/* Neither is tried again before `agent_due`. */
static bool may_tell(const struct supervisor *s, const struct worker_slot *worker)
{
    return worker->control >= 0 && worker->agent_due <= s->now;
}

void cr_worker_process_catch_up(struct supervisor *s, struct worker_slot *worker)
{
    if (s->agent_serves && worker->wants_agent && may_tell(s, worker))
        worker_connect(s, worker);
    if (worker->wants_settings && may_tell(s, worker))
        cr_reload_tell(s, worker);
}

cr_boot_ns cr_worker_process_due(const struct supervisor *s, const struct worker_slot *worker)
{
    bool waits = (s->agent_serves && worker->wants_agent) || worker->wants_settings;
    return waits && worker->control >= 0 ? worker->agent_due : CR_BOOT_NEVER;
}

void cr_worker_process_ended(struct supervisor *s, struct worker_slot *worker, int status)
{
    char how[32];
    cr_child_how(status, how, sizeof how);
    fd_close(&worker->control);
    worker->ready = false;
    cr_supervisor_count_end(s, kind_of(s, worker));
    if (s->stage >= STAGE_DRAINING)
        return;
    if (is_ops(s, worker))
        cr_log(CR_LOG_ERROR, "the ops worker ended (%s)", how);
    else
        cr_log(CR_LOG_ERROR, "worker %u ended (%s)", number_of(s, worker), how);
    if (s->stage == STAGE_WORKERS)
        cr_supervisor_fail(s);
}
