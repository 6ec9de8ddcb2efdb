/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Real processes for tests: an agent in a scratch directory, and workers that do what they are
 * told. The test's program is also the agent that a room starts by itself: see agents_main.
 */
#ifndef AGENTS_H
#define AGENTS_H

#include <sys/types.h>

#include <cloakroom/session.h>

#include "agent/agent.h"

#define AGENTS_PATH_MAX 160

struct test_agent {
    char dir[AGENTS_PATH_MAX];   /* its state directory; the store's file lies in it too */
    char store[AGENTS_PATH_MAX]; /* URL */
    char url[AGENTS_PATH_MAX];   /* of app.sock */
    pid_t pid;                   /* 0: none runs */
};

/* `scheme`: "sqlite" or "memory", "table". False: said so. */
bool agents_setup(struct test_agent *agent, const char *scheme);
/* Runs it in a child and waits until it is ready. `options` may be NULL; its store and state are
 * set. */
bool agents_start(struct test_agent *agent, const struct cr_agent_options *options);
/* Sends the signal, and waits for its end if it is one that ends it. Its exit status, or -signal.
 */
int agents_signal(struct test_agent *agent, int signal_number);
void agents_teardown(struct test_agent *agent);

/* A room through one of the agent's sockets ("app.sock"); NULL: said so. */
struct cr_room *agents_join(const struct test_agent *agent, const char *socket_name);

/* A worker process with a room of its own. */
struct test_worker {
    pid_t pid;
    int fd;
};
enum worker_op {
    WORKER_VALIDATE, /* blocking */
    WORKER_CACHED,
    WORKER_LOGIN, /* REPLACE; gives the token back */
    WORKER_END_USER,
    WORKER_LOCK,     /* take, and keep; gives the fence back in `number` */
    WORKER_CHECK,    /* the lock */
    WORKER_FORK,     /* validates in a child of it: the child's answer */
    WORKER_HOLD_FORK /* forks a child that does nothing and stays */
};
struct worker_request {
    enum worker_op op;
    struct cr_token token;
    char name[64]; /* user or lock */
    cr_span_ms wait;
};
struct worker_reply {
    enum cr_status status;
    struct cr_token token;
    uint64_t number;
};
/* Opens `url` with `options` (NULL: defaults). `uid` not 0: as that user. False: it could not open;
 * its error is noted. */
bool agents_worker(struct test_worker *worker, const char *url, const struct cr_options *options,
                   uid_t uid);
void agents_tell(const struct test_worker *worker, const struct worker_request *request);
/* Waits for its reply; CR_E_IO when it has died. */
struct worker_reply agents_hear(const struct test_worker *worker);
struct worker_reply agents_ask(const struct test_worker *worker, enum worker_op op,
                               const struct cr_token *token, const char *name, cr_span_ms wait);
void agents_worker_end(struct test_worker *worker, int signal_number); /* 0: asks it to go */

struct cr_user agents_user(const char *name);
bool agents_login(struct cr_room *room, const char *name, struct cr_login *out_login);
enum cr_status agents_validate(struct cr_room *room, const struct cr_token *token);

/* Put in options.program to make this test's program the agent that is started. */
#define AGENTS_PROGRAM "/proc/self/exe"
/* True: this process was started as an agent, and has been one; *out_status is its exit status. */
bool agents_main(int argc, char **argv, int *out_status);

#endif
