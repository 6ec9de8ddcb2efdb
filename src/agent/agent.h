/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's agent: the process that runs the engine for one store, and serves it on three sockets
 * of its state directory: app.sock, http.sock, operator.sock. The socket that a peer came through
 * is its role. `cloakroom agent` and the supervisor of `cloakroom serve` call this.
 */
#ifndef AGENT_AGENT_H
#define AGENT_AGENT_H

#include <cloakroom/room.h>

#include "auth/throttle.h"
#include "base/shm.h"

#define CR_AGENT_APP_SOCKET "app.sock"
#define CR_AGENT_HTTP_SOCKET "http.sock"
#define CR_AGENT_OPERATOR_SOCKET "operator.sock"
#define CR_AGENT_LOCK_FILE "agent.lock" /* flock: its holder is the agent */
#define CR_AGENT_LOG_FILE "agent.log"
#define CR_AGENT_AUTO_EXIT_MS 30000

/* What a reload may change while running. */
struct cr_agent_settings {
    enum cr_cache cache;
    size_t cache_bytes; /* 0: 64 MiB */
    enum cr_huge_pages huge_pages;
    cr_span_ms idle, absolute;         /* of sessions that do not say; 0: 30 minutes, 12 hours */
    struct cr_throttle_options limits; /* of log-ins; `entries` is fixed at the start */
    unsigned password_chars_min;       /* of new passwords; 0: 15 */
    const char *password_list;         /* file of common ones, beside the built-in list; NULL or
                                          empty: none. Read anew at each reload */
};

struct cr_agent_options {
    const char *store; /* URL: sqlite:///PATH, memory:NAME, table:NAME; kept nowhere else */
    const char *state; /* directory; made when it is missing, 0700, or 0755 when app_mode shares */
    const char *realm; /* NULL: "cloakroom" */
    const char *audit; /* where audit events go (base/audit.h); NULL or empty: nowhere */
    struct cr_agent_settings settings;
    cr_span_ms lease, poll, grace; /* of a store that is not exclusive; 0: 5 s, 1 s, none */
    unsigned hash_threads;         /* passwords hashed at a time; 0: 1 */
    size_t hash_queue;             /* log-ins that wait for that; 0: 64 */
    unsigned app_mode; /* permissions of app.sock: 0600 (also 0), 0660 or 0666: whose peers may
                          come; the other two sockets are the agent's own user's, and root's */
    bool automatic;    /* started by a worker: goes to the background, logs to STATE/agent.log, and
                          exits auto_exit after its last peer left */
    cr_span_ms auto_exit; /* 0: CR_AGENT_AUTO_EXIT_MS */
    int ready_fd; /* -1: none. Gets one line and is closed: "READY=1", or why the start failed: the
                     number of a cr_status, a blank, and its text */
    cr_span_ms beat;      /* not 0: ready_fd stays open, and gets an empty line as often while the
                             agent's loop goes round */
    bool answers_reloads; /* so does it for this: each reload is answered there with a "+" (taken
                             over) or a "-" */
    /* SIGHUP: read the settings anew. False: they are bad, and the old ones stay (the callee has
     * said so). What *out_settings points to stays until `reloaded`; what is left alone stays as
     * it was. NULL: nothing to read. */
    bool (*reload)(void *context, struct cr_agent_settings *out_settings);
    /* What became of them, where `reload` said yes: all of them are in force, or none (which the
     * log says). May be NULL. */
    void (*reloaded)(void *context, bool taken);
    /* Once, when its doors are open, and before ready_fd is told. NULL: nobody wants to know. */
    void (*serves)(void *context);
    void *context;
};

/* Runs until SIGTERM or SIGINT. The caller has opened the log. Takes its signals over; call it in a
 * process of one thread, which exits with the answer: 0 after a clean stop, 1 when it failed (said
 * in the log), and CR_AGENT_EXIT_BUSY when another agent serves this state directory. */
#define CR_AGENT_EXIT_BUSY 3
int cr_agent_main(const struct cr_agent_options *options);

#endif
