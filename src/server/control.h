/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What supervisor and worker tell each other over their socket pair. Both ends are the same program
 * (the worker is /proc/self/exe), so a message is a struct.
 */
#ifndef SERVER_CONTROL_H
#define SERVER_CONTROL_H

#include "server/server.h"

#define CR_CONTROL_FD 3 /* in the worker */

enum cr_control_kind {
    CR_CONTROL_START = 1,    /* to the worker, first: `settings`; its listening sockets */
    CR_CONTROL_AGENT = 2,    /* to the worker: a connected descriptor to the agent */
    CR_CONTROL_DRAIN = 3,    /* to the worker: finish what is under way, and exit */
    CR_CONTROL_READY = 4,    /* from the worker: it serves; the page on which it counts */
    CR_CONTROL_LONELY = 5,   /* from the worker: its connection to the agent has ended */
    CR_CONTROL_ALIVE = 7,    /* from the worker: it goes round, as every `settings.beat` */
    CR_CONTROL_PAGE = 6,     /* to the ops worker: the page of worker `settings.number` */
    CR_CONTROL_SETTINGS = 8, /* to the worker: what a reload has changed of `settings` */
};

struct cr_worker_settings {
    unsigned number; /* of the worker, from 1, for people */
    /* For operators: its sockets are the Unix socket, then the loopback ones; the last descriptor
     * is the supervisor's page. */
    bool ops;
    unsigned socket_mode; /* of the Unix socket */
    bool dev;
    enum cr_policy on_login;
    unsigned keep_count;
    cr_span_ms idle, absolute;
    char clear_site_data[128];
    struct cr_networks proxies;
    unsigned connections_max;
    cr_span_ms beat; /* CR_CONTROL_ALIVE comes as often; 0: never */
    bool unconfined;
    enum cr_log_level log_level;
    bool log_json;
};

struct cr_control {
    enum cr_control_kind kind;
    struct cr_worker_settings settings; /* with CR_CONTROL_START, _PAGE and _SETTINGS */
    size_t fd_count;
    int fds[CR_SERVER_LISTEN_MAX]; /* sent: stay the sender's; received: the receiver's */
};

/* Never blocks. CR_BUSY: the other end does not read; CR_E_IO: it is gone. */
CR_MUST_CHECK enum cr_status cr_control_send(int fd, const struct cr_control *message);
/* CR_ASK: nothing is there (only where `fd` does not block); CR_E_IO: the other end is gone. */
CR_MUST_CHECK enum cr_status cr_control_receive(int fd, struct cr_control *out_message);

#endif
