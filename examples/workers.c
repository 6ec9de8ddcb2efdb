/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An application that runs as many workers, each of which validates sessions by itself. With
 * Cloakroom and libmicrohttpd installed:
 *
 *     cc workers.c $(pkg-config --cflags --libs cloakroom libmicrohttpd) -o workers
 *     WEB_CONCURRENCY=4 ./workers 127.0.0.1 9000 cloakroom:///run/cloakroom/app.sock
 *
 *     curl -u alice:PASSWORD -X POST http://127.0.0.1:9000/login     # a token
 *     curl -H "Authorization: Bearer TOKEN" http://127.0.0.1:9000/whoami
 *     curl -H "Authorization: Bearer TOKEN" -X POST http://127.0.0.1:9000/logout
 */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cloakroom/cloakroom.h>
#include <microhttpd.h>

#define WORKERS_MAX 64

struct worker {
    unsigned number;
    struct cr_room *room;
};

static enum MHD_Result reply(struct MHD_Connection *connection, unsigned status, const char *text)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer_with_free_callback(strlen(text), strdup(text), free);
    MHD_add_response_header(response, "Cache-Control", "no-store");
    if (status == MHD_HTTP_SERVICE_UNAVAILABLE)
        MHD_add_response_header(response, "Retry-After", "1");
    enum MHD_Result result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

/* What cannot be known now is never "not logged in". */
static enum MHD_Result reply_status(const struct worker *worker, struct MHD_Connection *connection,
                                    enum cr_status status)
{
    bool is_out = status == CR_ENDED || status == CR_NOT_FOUND || status == CR_DENIED;
    char text[256];
    (void)snprintf(text, sizeof text, "%s, says worker %u\n", cr_status_text(status),
                   worker->number);
    return reply(connection, is_out ? MHD_HTTP_UNAUTHORIZED : MHD_HTTP_SERVICE_UNAVAILABLE, text);
}

static enum MHD_Result log_in(const struct worker *worker, struct MHD_Connection *connection)
{
    struct cr_login_options options = {.size = sizeof options, .policy = CR_POLICY_REPLACE};
    struct cr_login login;
    struct cr_user user;
    enum cr_status st = CR_DENIED;
    char *password = NULL;
    char *name = MHD_basic_auth_get_username_password(connection, &password);
    if (name != NULL && password != NULL && cr_user_parse(name, strlen(name), &user) == CR_OK)
        st = cr_login_password(worker->room, &user, password, strlen(password), &options, &login);
    MHD_free(name);
    MHD_free(password);
    if (st != CR_OK)
        return reply_status(worker, connection, st);
    enum MHD_Result result = reply(connection, MHD_HTTP_OK, login.signed_token.text);
    cr_token_wipe(&login.signed_token);
    return result;
}

static enum cr_status session_find(const struct worker *worker, struct MHD_Connection *connection,
                                   struct cr_session *out_session)
{
    static const char scheme[] = "Bearer ";
    const size_t skip = sizeof scheme - 1;
    struct cr_token token;
    const char *header = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Authorization");
    if (header == NULL || strncmp(header, scheme, skip) != 0 ||
        cr_token_parse(header + skip, strlen(header + skip), &token) != CR_OK)
        return CR_NOT_FOUND;
    enum cr_status st = cr_validate(worker->room, &token, out_session);
    cr_token_wipe(&token);
    return st;
}

static enum MHD_Result handle(void *context, struct MHD_Connection *connection, const char *path,
                              const char *method, const char *version, const char *body,
                              size_t *body_bytes, void **state)
{
    const struct worker *worker = context;
    struct cr_session session = CR_SESSION_INIT;
    char text[512];
    (void)version, (void)body, (void)state;
    if (*body_bytes > 0) {
        *body_bytes = 0;
        return MHD_YES;
    }
    bool is_post = strcmp(method, "POST") == 0;
    if (is_post && strcmp(path, "/login") == 0)
        return log_in(worker, connection);
    enum cr_status st = session_find(worker, connection, &session);
    if (st == CR_OK && is_post && strcmp(path, "/logout") == 0)
        st = cr_end(worker->room, &session.id, NULL, NULL);
    if (st != CR_OK)
        return reply_status(worker, connection, st);
    (void)snprintf(text, sizeof text, "%.*s, says worker %u\n", (int)session.user.length,
                   (const char *)session.user.bytes, worker->number);
    return reply(connection, MHD_HTTP_OK, text);
}

/* Each has a socket of its own, and the kernel spreads connections over them. */
static int listen_on(const char *host, const char *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)strtoul(port, NULL, 10))};
    static const int yes = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || inet_pton(AF_INET, host, &address.sin_addr) != 1 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &yes, sizeof yes) != 0 ||
        bind(fd, (const struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 128) != 0)
        return -1;
    return fd;
}

/* Until SIGTERM. */
static int work(unsigned number, char **argv, const sigset_t *signals)
{
    struct worker worker = {.number = number};
    struct cr_error error = {.size = sizeof error};
    struct cr_options options;
    int caught, fd = listen_on(argv[1], argv[2]);
    cr_options_init(&options);
    options.mode = CR_MODE_ATTACH; /* the agent is a service of its own */
    if (cr_open(argv[3], &options, &worker.room, &error) != CR_OK) {
        fprintf(stderr, "worker %u: %s\n", number, error.text);
        return EXIT_FAILURE;
    }
    struct MHD_Daemon *daemon =
        fd < 0 ? NULL
               : MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD, 0, NULL, NULL, handle, &worker,
                                  MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_END);
    if (daemon == NULL) {
        perror(argv[2]);
        return EXIT_FAILURE;
    }
    (void)sigwait(signals, &caught);
    MHD_stop_daemon(daemon);
    cr_close(worker.room);
    return EXIT_SUCCESS;
}

static pid_t worker_start(unsigned number, char **argv, const sigset_t *signals)
{
    pid_t parent = getpid(), pid = fork();
    if (pid != 0)
        return pid;
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    _exit(getppid() == parent ? work(number, argv, signals) : EXIT_FAILURE);
}

int main(int argc, char **argv)
{
    const char *text = getenv("WEB_CONCURRENCY");
    unsigned long count = text != NULL ? strtoul(text, NULL, 10) : 1;
    pid_t workers[WORKERS_MAX], pid;
    sigset_t signals;
    int caught = 0;
    if (argc != 4 || count < 1 || count > WORKERS_MAX) {
        fprintf(stderr,
                "usage: WEB_CONCURRENCY=1..%d workers HOST PORT cloakroom:///PATH/app.sock\n",
                WORKERS_MAX);
        return EXIT_FAILURE;
    }
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &signals, NULL);
    sigset_t stop = signals;
    (void)sigdelset(&stop, SIGCHLD);
    for (unsigned i = 0; i < count; i++)
        workers[i] = worker_start(i + 1, argv, &stop);
    while (caught != SIGTERM && caught != SIGINT) {
        (void)sigwait(&signals, &caught);
        while ((pid = waitpid(-1, NULL, WNOHANG)) > 0) {
            (void)sleep(1); /* the agent may not be there yet */
            for (unsigned i = 0; i < count; i++)
                if (workers[i] == pid)
                    workers[i] = worker_start(i + 1, argv, &stop);
        }
    }
    for (unsigned i = 0; i < count; i++)
        if (workers[i] > 0)
            (void)kill(workers[i], SIGTERM);
    while (wait(NULL) > 0)
        continue;
    return EXIT_SUCCESS;
}
