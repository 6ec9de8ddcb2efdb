/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the supervisor share. Nobody else includes this: workers are other processes.
 *
 *   supervisor.c       stages and the loop; start and stop of the whole
 *   sockets.c          the listening sockets: opened here, or handed over by a service manager
 *   agent_process.c    the agent: started, listened to, what its end means
 *   worker_process.c   the workers: started, listened to, given the agent's descriptor
 *   reload.c           settings: what the workers have, and a reload over all processes
 *   service_manager.c  what a service manager is told, and its watchdog
 *
 * Each field is written by the file under whose name it stands, and read by all; supervisor.c also
 * sets what each process is to get, and when it is due. One thread. It waits for nothing but the
 * next event, except for an address that a predecessor holds, and for its processes at the end.
 */
#ifndef SERVER_SUPERVISOR_H
#define SERVER_SUPERVISOR_H

#include <unistd.h>

#include "base/shm.h"
#include "http/counts.h"
#include "server/child.h"
#include "server/control.h"
#include "server/listen.h"
#include "server/server.h"

/* A predecessor that was killed leaves its sockets and its agent's lock this much later at most. */
#define PREDECESSOR_MS 3000
#define RETRY_MS 50 /* between two tries to reach the agent, or to get an address */

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
    /* supervisor.c */
    const struct cr_server_options *options;
    enum stage stage;
    bool failed;
    cr_boot_ns now, started;
    cr_boot_ns give_up; /* of this stage; CR_BOOT_NEVER: no limit */
    int signals;
    struct cr_shm counted; /* struct cr_http_processes, which the ops worker reads */
    char agent_socket[108], operator_socket[108];

    /* sockets.c, and `listen` of each worker */
    struct cr_listen_address addresses[CR_SERVER_LISTEN_MAX];
    bool has_ops_socket; /* at options->ops_socket, and ours to remove */
    struct cr_listen_address monitor;

    /* agent_process.c */
    struct cr_child agent;
    int agent_ready; /* the pipe that says so; -1: nothing is awaited */
    bool agent_serves;
    cr_boot_ns agent_heard;
    char agent_line[1024];
    size_t agent_line_count;

    /* worker_process.c; `wants_settings` is reload.c's */
    struct worker_slot workers[SLOTS_MAX];
    unsigned slot_count;

    /* reload.c */
    struct tunable running, fresh;
    enum reload reload;

    /* service_manager.c */
    struct cr_manager manager;
    cr_boot_ns feed_due;
    bool hungry; /* it is not told that we are well: we are not */
};

static inline bool is_ops(const struct supervisor *s, const struct worker_slot *worker)
{
    return worker == &s->workers[s->options->workers];
}

static inline struct worker_slot *ops_of(struct supervisor *s)
{
    return &s->workers[s->options->workers];
}

/* From 1, for people. */
static inline unsigned number_of(const struct supervisor *s, const struct worker_slot *worker)
{
    return (unsigned)(worker - s->workers) + 1;
}

static inline void fd_close(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

/* supervisor.c */
/* The start has failed, and why has been said. */
void cr_supervisor_fail(struct supervisor *s);
/* The agent has begun to serve: the first one, or one that replaces another. */
void cr_supervisor_agent_serves(struct supervisor *s);
/* A worker serves: perhaps all do now. */
void cr_supervisor_worker_serves(struct supervisor *s);
/* What /metrics says of processes. */
void cr_supervisor_count_start(struct supervisor *s, enum cr_http_process kind);
void cr_supervisor_count_end(struct supervisor *s, enum cr_http_process kind);

/* sockets.c. False: it could not be, and why has been said. */
/* Addresses of HTTP and, where there is one, of /metrics. */
CR_MUST_CHECK bool cr_sockets_open(struct supervisor *s);
/* The operators' Unix socket, once the agent has made the directory in which it stands. */
CR_MUST_CHECK bool cr_sockets_open_ops(struct supervisor *s);
/* Plain HTTP that no other host can reach: for development. */
bool cr_sockets_are_dev(const struct supervisor *s);

/* agent_process.c */
/* CR_E_IO with errno. */
CR_MUST_CHECK enum cr_status cr_agent_process_start(struct supervisor *s);
/* Its pipe has something to say. */
void cr_agent_process_listen_to(struct supervisor *s);
/* It has ended; `status` is waitpid's. What it still had to say is taken first. */
void cr_agent_process_ended(struct supervisor *s, int status);

/* worker_process.c */
/* CR_E_IO with errno; CR_BUSY. */
CR_MUST_CHECK enum cr_status cr_worker_process_start(struct supervisor *s,
                                                     struct worker_slot *worker);
/* Its socket has something to say. */
void cr_worker_process_listen_to(struct supervisor *s, struct worker_slot *worker);
/* The agent's descriptor and the settings that it waits for, when it is time to try. */
void cr_worker_process_catch_up(struct supervisor *s, struct worker_slot *worker);
/* When the next try is; CR_BOOT_NEVER: it waits for nothing. */
cr_boot_ns cr_worker_process_due(const struct supervisor *s, const struct worker_slot *worker);
/* It has ended; `status` is waitpid's. */
void cr_worker_process_ended(struct supervisor *s, struct worker_slot *worker, int status);

/* reload.c */
/* The settings of the start. False: one is bad, and it has been said. */
CR_MUST_CHECK bool cr_reload_start(struct supervisor *s);
/* A message with the settings that hold. */
struct cr_control cr_reload_message(const struct supervisor *s, enum cr_control_kind kind);
/* A worker that does not read is told the next time; one that is gone, when it is replaced. */
void cr_reload_tell(const struct supervisor *s, struct worker_slot *worker);
/* SIGHUP. */
void cr_reload_begin(struct supervisor *s);
/* The agent has taken the new settings, or it has not. */
void cr_reload_answered(struct supervisor *s, bool taken);
/* There is an agent again, or none any more. */
void cr_reload_agent_serves(struct supervisor *s);
void cr_reload_agent_ended(struct supervisor *s);

/* service_manager.c */
/* How often each process of ours is to be heard of; 0: nobody wants to know. */
cr_span_ms cr_service_manager_beat(const struct supervisor *s);
void cr_service_manager_serving(struct supervisor *s, const char *address);
void cr_service_manager_reloading(const struct supervisor *s);
void cr_service_manager_reloaded(const struct supervisor *s);
void cr_service_manager_stopping(const struct supervisor *s);
/* Tell it that we are well, if we are and it is time to. */
void cr_service_manager_feed(struct supervisor *s);
/* When it is time to; CR_BOOT_NEVER: it does not listen, or not yet. */
cr_boot_ns cr_service_manager_due(const struct supervisor *s);

#endif
