/* SPDX-License-Identifier: Apache-2.0 */
#include "agents.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cloakroom/lock.h>

#include "tap.h"

#define READY_MS_MAX 20000
#define REPLY_MS_MAX 60000

/* Agents. */

bool agents_setup(struct test_agent *agent, const char *scheme)
{
    memset(agent, 0, sizeof *agent);
    (void)snprintf(agent->dir, sizeof agent->dir, "/tmp/cr-agent-XXXXXX");
    if (!CHECK(mkdtemp(agent->dir) != NULL))
        return false;
    if (strcmp(scheme, "sqlite") == 0)
        (void)snprintf(agent->store, sizeof agent->store, "sqlite://%.100s/sessions.db",
                       agent->dir);
    else
        (void)snprintf(agent->store, sizeof agent->store, "%s:test", scheme);
    (void)snprintf(agent->url, sizeof agent->url, "cloakroom://%.100s/" CR_AGENT_APP_SOCKET,
                   agent->dir);
    return true;
}

/* A child that goes with its parent, and says nothing on the test's output. */
static void child_begin(const char *dir)
{
    char path[AGENTS_PATH_MAX + 16];
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)snprintf(path, sizeof path, "%s/stderr", dir);
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    (void)dup2(fd, STDERR_FILENO);
    (void)dup2(fd, STDOUT_FILENO);
}

static void log_note(const struct test_agent *agent)
{
    char path[AGENTS_PATH_MAX + 16], line[400];
    (void)snprintf(path, sizeof path, "%s/stderr", agent->dir);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return;
    while (fgets(line, sizeof line, file) != NULL)
        tap_note("agent: %.*s", (int)strcspn(line, "\n"), line);
    (void)fclose(file);
}

static bool ready_wait(int fd)
{
    char line[1300] = "";
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    bool is_ready = poll(&ready, 1, READY_MS_MAX) == 1 && read(fd, line, sizeof line - 1) > 0 &&
                    strcmp(line, "READY=1\n") == 0;
    if (!is_ready)
        tap_note("the agent is not ready: %.*s", (int)strcspn(line, "\n"), line);
    return is_ready;
}

bool agents_start(struct test_agent *agent, const struct cr_agent_options *given)
{
    int ready[2];
    struct cr_agent_options options = {0};
    if (given != NULL)
        options = *given;
    if (options.settings.cache_bytes == 0)
        options.settings.cache_bytes = 4 << 20;
    options.store = agent->store;
    options.state = agent->dir;
    if (!CHECK(pipe2(ready, O_CLOEXEC) == 0))
        return false;
    pid_t pid = fork();
    if (pid == 0) {
        child_begin(agent->dir);
        close(ready[0]);
        options.ready_fd = ready[1];
        _exit(cr_agent_main(&options));
    }
    close(ready[1]);
    agent->pid = pid;
    bool is_ready = pid > 0 && ready_wait(ready[0]);
    close(ready[0]);
    if (!CHECK(is_ready))
        log_note(agent);
    return is_ready;
}

int agents_signal(struct test_agent *agent, int signal_number)
{
    int status = 0;
    if (agent->pid == 0)
        return 0;
    (void)kill(agent->pid, signal_number);
    if (signal_number != SIGTERM && signal_number != SIGKILL && signal_number != SIGINT)
        return 0;
    (void)waitpid(agent->pid, &status, 0);
    agent->pid = 0;
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static int entry_remove(const char *path, const struct stat *info, int type, struct FTW *where)
{
    return remove(path);
}

void agents_teardown(struct test_agent *agent)
{
    if (agent->pid != 0 && !CHECK_INT(agents_signal(agent, SIGTERM), 0))
        log_note(agent);
    (void)nftw(agent->dir, entry_remove, 16, FTW_DEPTH | FTW_PHYS);
}

struct cr_room *agents_join(const struct test_agent *agent, const char *socket_name)
{
    char url[AGENTS_PATH_MAX];
    struct cr_error error = {.size = sizeof error};
    struct cr_room *room = NULL;
    (void)snprintf(url, sizeof url, "cloakroom://%.100s/%s", agent->dir, socket_name);
    if (!CHECK_STATUS(cr_open(url, NULL, &room, &error), CR_OK)) {
        tap_note("%s", error.text);
        log_note(agent);
    }
    return room;
}

bool agents_main(int argc, char **argv, int *out_status)
{
    static char url[512];
    struct cr_agent_options options = {.ready_fd = -1, .auto_exit = 500};
    if (argc < 2 || strcmp(argv[1], "agent") != 0)
        return false;
    for (int i = 2; i + 1 < argc; i++) {
        if (strcmp(argv[i], "--state") == 0)
            options.state = argv[i + 1];
        else if (strcmp(argv[i], "--ready-fd") == 0)
            options.ready_fd = (int)strtol(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--realm") == 0)
            options.realm = argv[i + 1];
        else if (strcmp(argv[i], "--auto") == 0)
            options.automatic = true;
    }
    ssize_t got = read(STDIN_FILENO, url, sizeof url - 1);
    if (got > 0)
        url[strcspn(url, "\n")] = '\0';
    options.store = url;
    options.settings.cache_bytes = 4 << 20;
    *out_status = cr_agent_main(&options);
    return true;
}

/* Users. */

struct cr_user agents_user(const char *name)
{
    struct cr_user user = {0};
    enum cr_status st = cr_user_parse(name, strlen(name), &user);
    return st == CR_OK ? user : (struct cr_user){0};
}

bool agents_login(struct cr_room *room, const char *name, struct cr_login *out_login)
{
    struct cr_user user = agents_user(name);
    struct cr_login_options options = {.size = sizeof options, .policy = CR_POLICY_REPLACE};
    return CHECK_STATUS(cr_login(room, &user, &options, out_login), CR_OK);
}

enum cr_status agents_validate(struct cr_room *room, const struct cr_token *token)
{
    struct cr_session session = CR_SESSION_INIT;
    return cr_validate(room, token, &session);
}

/* Workers: their side. No checks here: the parent makes them. */

struct worker_state {
    struct cr_room *room;
    struct cr_lock *lock;
};

static enum cr_status fork_validate(struct cr_room *room, const struct cr_token *token)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        enum cr_status st = agents_validate(room, token);
        cr_close(room);
        _exit((int)st);
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status)
               ? (enum cr_status)WEXITSTATUS(status)
               : CR_E_IO;
}

static void worker_login(struct worker_state *state, const struct worker_request *request,
                         struct worker_reply *out)
{
    static struct cr_login login;
    struct cr_user user = agents_user(request->name);
    struct cr_login_options options = {.size = sizeof options, .policy = CR_POLICY_REPLACE};
    out->status = cr_login(state->room, &user, &options, &login);
    out->token = login.signed_token;
}

static void worker_do(struct worker_state *state, const struct worker_request *request,
                      struct worker_reply *out)
{
    struct cr_session session = CR_SESSION_INIT;
    struct cr_user user;
    switch (request->op) {
    case WORKER_VALIDATE:
        out->status = cr_validate(state->room, &request->token, &session);
        break;
    case WORKER_CACHED:
        out->status = cr_validate_cached(state->room, &request->token, &session);
        break;
    case WORKER_LOGIN:
        worker_login(state, request, out);
        break;
    case WORKER_END_USER:
        user = agents_user(request->name);
        out->status = cr_invalidate_by_user(state->room, &user, NULL, NULL);
        break;
    case WORKER_LOCK:
        out->status = cr_lock_take(state->room, request->name, request->wait, &state->lock);
        out->number = out->status == CR_OK ? cr_lock_fence(state->lock) : 0;
        break;
    case WORKER_CHECK:
        out->status = cr_lock_check(state->lock);
        break;
    case WORKER_FORK:
        out->status = fork_validate(state->room, &request->token);
        break;
    case WORKER_HOLD_FORK:
        if (fork() == 0) {
            (void)prctl(PR_SET_PDEATHSIG, 0); /* it outlives its parent */
            close(STDERR_FILENO);
            struct pollfd none = {.fd = -1};
            (void)alarm(30);
            (void)poll(&none, 1, -1);
            _exit(0);
        }
        out->status = CR_OK;
        break;
    }
}

static void worker_run(int fd, const char *url, const struct cr_options *options)
{
    struct worker_state state = {0};
    struct worker_request request;
    struct worker_reply reply = {0};
    struct cr_error error = {.size = sizeof error};
    reply.status = cr_open(url, options, &state.room, &error);
    (void)snprintf(reply.token.text, sizeof reply.token.text, "%.80s", error.text);
    while (send(fd, &reply, sizeof reply, MSG_NOSIGNAL) == (ssize_t)sizeof reply &&
           recv(fd, &request, sizeof request, 0) == (ssize_t)sizeof request) {
        memset(&reply, 0, sizeof reply);
        worker_do(&state, &request, &reply);
    }
    cr_close(state.room);
}

/* Workers: the test's side. */

bool agents_worker(struct test_worker *worker, const char *url, const struct cr_options *options,
                   uid_t uid)
{
    int ends[2];
    if (!CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0))
        return false;
    worker->pid = fork();
    if (worker->pid == 0) {
        close(ends[0]);
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (uid != 0 && (setgroups(0, NULL) != 0 || setgid(uid) != 0 || setuid(uid) != 0))
            _exit(99);
        worker_run(ends[1], url, options);
        _exit(0);
    }
    close(ends[1]);
    worker->fd = ends[0];
    struct worker_reply opened = agents_hear(worker);
    if (opened.status != CR_OK)
        tap_note("the worker could not open: %s: %s", cr_status_name(opened.status),
                 opened.token.text);
    return opened.status == CR_OK;
}

void agents_tell(const struct test_worker *worker, const struct worker_request *request)
{
    ssize_t sent = send(worker->fd, request, sizeof *request, MSG_NOSIGNAL);
    CHECK_INT(sent, (ssize_t)sizeof *request);
}

struct worker_reply agents_hear(const struct test_worker *worker)
{
    struct worker_reply reply = {.status = CR_E_IO};
    struct pollfd ready = {.fd = worker->fd, .events = POLLIN};
    if (!CHECK_INT(poll(&ready, 1, REPLY_MS_MAX), 1))
        return reply;
    struct worker_reply got;
    if (recv(worker->fd, &got, sizeof got, 0) == (ssize_t)sizeof got)
        reply = got;
    return reply;
}

struct worker_reply agents_ask(const struct test_worker *worker, enum worker_op op,
                               const struct cr_token *token, const char *name, cr_span_ms wait)
{
    struct worker_request request = {.op = op, .wait = wait};
    if (token != NULL)
        request.token = *token;
    if (name != NULL)
        (void)snprintf(request.name, sizeof request.name, "%s", name);
    agents_tell(worker, &request);
    return agents_hear(worker);
}

void agents_worker_end(struct test_worker *worker, int signal_number)
{
    if (worker->pid <= 0)
        return;
    if (signal_number != 0)
        (void)kill(worker->pid, signal_number);
    (void)shutdown(worker->fd, SHUT_RDWR); /* later workers have inherited it */
    close(worker->fd);
    (void)waitpid(worker->pid, NULL, 0);
    worker->pid = 0;
}
