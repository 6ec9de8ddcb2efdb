/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `cloakroom serve`: a supervisor, the agent, HTTP workers, and one worker for operators.
 *
 * The supervisor opens and keeps every listening socket, starts the others by running its own
 * program again (`cloakroom agent …`, `cloakroom worker`), hands each worker its sockets and a
 * connected descriptor to the agent, and a fresh one whenever the agent was replaced. It takes no
 * requests and sees no user's data. When it dies, so do they.
 */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include <cloakroom/session.h>

#include "base/log.h"
#include "base/networks.h"
#include "server/child.h"
#include "base/manager.h"

#define CR_SERVER_WORKERS_MAX 64
#define CR_SERVER_LISTEN_MAX 8
#define CR_SERVER_OPS_SOCKET "ops.sock" /* in the state directory, where no other is named */

/* What a reload may change. */
struct cr_server_settings {
    enum cr_policy on_login;
    unsigned keep_count;         /* with CR_POLICY_KEEP_N */
    cr_span_ms idle, absolute;   /* of sessions made here; 0: the agent's defaults */
    const char *clear_site_data; /* what a log-out clears in the browser, as the header's words
                                    (cookies,storage); NULL: cookies; empty: nothing */
    struct cr_networks proxies;  /* whose X-Forwarded-For is believed */
    enum cr_log_level log_level;
    bool log_json;
};

struct cr_server_options {
    const char *const *listen; /* numeric addresses: "127.0.0.1:8080", "[::1]:8080" */
    size_t listen_count;       /* 1 to CR_SERVER_LISTEN_MAX */
    const int
        *listen_fds;  /* the socket at each of them that is open already, or -1; NULL: none is */
    unsigned workers; /* 1 to CR_SERVER_WORKERS_MAX */

    /* The agent is run as `PROGRAM agent --store - --state STATE --ready-fd FD` and then
     * agent_arguments (NULL at the end), with the store's URL on its standard input, and after that
     * line agent_settings (NULL: nothing), as it is at the time. */
    const char *program;              /* NULL: /proc/self/exe */
    const struct cr_manager *manager; /* who has started us; NULL: nobody who listens */
    /* As whom agent and ops worker run, and as whom HTTP workers. NULL: as who calls this, who must
     * be root or have CAP_SETUID and CAP_SETGID where it is not NULL. */
    const struct cr_child_user *agent_user, *worker_user;
    const char *store;
    const char *state;
    const char *const *agent_arguments;
    const char *agent_settings;

    struct cr_server_settings settings;
    /* A proxy in front speaks TLS: the cookie is __Host-cloakroom also on a loopback address.
     * Without it a server that listens on loopback alone is for development, and says so. */
    bool behind_tls;
    /* For operators: a process of its own, which has their rights at the agent. */
    const char *ops_socket;   /* a Unix socket for the admin API */
    unsigned ops_socket_mode; /* 0600, or 0660: the group that the socket then has, too */
    const char *ops_listen;   /* loopback address for /metrics, /healthz, /readyz; NULL: none */
    int ops_listen_fd;        /* the socket there that is open already, or -1 */

    unsigned connections_max; /* of a worker; 0: 1000 */
    bool unconfined;          /* serve also where the kernel does not let workers be confined */

    /* Once, when the agent serves for the first time and before anybody is let in. False: give up.
     * May be NULL. */
    bool (*agent_ready)(void *context);
    /* SIGHUP: look at the settings anew. False: they are bad (the callee has said so), and nobody
     * is told. NULL: nothing is reloaded. */
    bool (*reload)(void *context, struct cr_server_settings *out_settings);
    /* The agent has answered: it has taken its part of them over, and the workers are about to
     * get theirs; or not, and all stays as it was. May be NULL. */
    void (*reloaded)(void *context, bool taken);
    /* Once, when every worker serves. May be NULL. */
    void (*serving)(void *context);
    void *context;
};

/* Runs until SIGTERM or SIGINT, and then lets requests under way finish. Call it in a process of
 * one thread, which exits with the answer: 0 after a clean stop, 1 when the start failed (said in
 * the log). SIGHUP reloads. */
int cr_server_main(const struct cr_server_options *options);

/* `cloakroom worker`: everything it needs comes over descriptor 3, its supervisor's. */
int cr_worker_main(void);

#endif
