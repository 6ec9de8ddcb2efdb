/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The listening sockets: which there are, for which worker, and what is said when one cannot be
 * had. How a socket is opened, is listen.h.
 *
 *   - All are opened before a worker is started, and kept to the end: a worker that dies loses no
 *     connection that waits, and its successor gets the same socket.
 *   - A socket that a service manager has handed over is used as it is; its address is not opened.
 *   - /metrics asks nobody who they are: it is on a loopback address, or not at all.
 *   - A predecessor that was killed may hold an address for a moment, so it is tried for that long.
 */
#include "server/supervisor.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void retry_pause(void)
{
    (void)nanosleep(&(struct timespec){.tv_nsec = RETRY_MS * 1000000L}, NULL);
}

/* `given` is a socket there that is open already, or -1. CR_E_IO with errno, CR_E_INVALID. */
static enum cr_status address_open(const struct supervisor *s, struct cr_listen_address *address,
                                   int given, size_t count, int *out_fds)
{
    enum cr_status st;
    cr_boot_ns last = cr_boot_add(s->started, PREDECESSOR_MS);
    if (given >= 0)
        return cr_listen_share(given, count, out_fds);
    while ((st = cr_listen_open(address, count, out_fds)) != CR_OK && errno == EADDRINUSE &&
           cr_clock_boot(cr_clock_system()) < last)
        retry_pause();
    return st;
}

/* --- For HTTP --- */

/* What to do about it; "": nothing that is known. */
static const char *advice(int error)
{
    switch (error) {
    case EADDRINUSE:
        return "; end what serves there, or choose another --listen";
    case EACCES:
        return "; ports below 1024 are for root: choose another --listen, such as 127.0.0.1:8080";
    case EAFNOSUPPORT:
        return "; this service may open no address itself: leave server.listen unset, and name it "
               "in `systemctl edit cloakroom.socket`";
    case EADDRNOTAVAIL:
        return "; this host has no such address (0.0.0.0 is all of them)";
    default:
        return "";
    }
}

/* One of the addresses, a socket for each worker. */
static bool http_open(struct supervisor *s, size_t index)
{
    const char *text = s->options->listen[index];
    int given = s->options->listen_fds != NULL ? s->options->listen_fds[index] : -1;
    int fds[CR_SERVER_WORKERS_MAX];
    if (cr_listen_parse(text, &s->addresses[index]) != CR_OK) {
        cr_log(CR_LOG_ERROR,
               "%s is not an address and a port in numbers, such as 127.0.0.1:8080 or [::1]:8080",
               text);
        return false;
    }
    if (address_open(s, &s->addresses[index], given, s->options->workers, fds) != CR_OK) {
        cr_log(CR_LOG_ERROR, "cannot listen on %s: %s%s", text, strerror(errno), advice(errno));
        return false;
    }
    for (unsigned i = 0; i < s->options->workers; i++)
        s->workers[i].listen[index] = fds[i];
    return true;
}

static bool http_open_all(struct supervisor *s)
{
    for (unsigned i = 0; i < s->options->workers; i++)
        s->workers[i].listen_count = s->options->listen_count;
    for (size_t i = 0; i < s->options->listen_count; i++)
        if (!http_open(s, i))
            return false;
    return true;
}

bool cr_sockets_are_dev(const struct supervisor *s)
{
    bool loopback = !s->options->behind_tls;
    for (size_t i = 0; i < s->options->listen_count; i++)
        loopback = loopback && s->addresses[i].loopback;
    return loopback;
}

/* --- For operators --- */

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
    struct worker_slot *ops = ops_of(s);
    ops->listen_count = 1; /* the Unix socket, when there is an agent */
    if (s->options->ops_listen == NULL)
        return true;
    enum cr_status st = address_open(s, &s->monitor, s->options->ops_listen_fd, 1, &ops->listen[1]);
    if (st == CR_OK)
        ops->listen_count = 2;
    else
        cr_log(CR_LOG_ERROR, "cannot listen on %s: %s; %s", s->options->ops_listen, strerror(errno),
               errno == EAFNOSUPPORT ? "this service may open no address itself: leave ops.listen "
                                       "unset, and start cloakroom-metrics.socket"
                                     : "choose another --ops-listen");
    return st == CR_OK;
}

bool cr_sockets_open_ops(struct supervisor *s)
{
    const struct cr_server_options *options = s->options;
    struct worker_slot *ops = ops_of(s);
    enum cr_status st;
    cr_boot_ns last = cr_boot_add(cr_clock_boot(cr_clock_system()), PREDECESSOR_MS);
    unsigned mode = options->ops_socket_mode != 0 ? options->ops_socket_mode : 0600;
    while ((st = cr_listen_unix(options->ops_socket, mode, &ops->listen[0])) == CR_BUSY &&
           cr_clock_boot(cr_clock_system()) < last)
        retry_pause();
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

bool cr_sockets_open(struct supervisor *s)
{
    if (s->options->ops_listen != NULL && !monitor_parse(s))
        return false;
    return monitor_open(s) && http_open_all(s);
}
