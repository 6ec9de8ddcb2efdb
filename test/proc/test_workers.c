/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CR-101 with real processes: workers of one server, each of which opens in direct mode. This
 * program stands for the server too: it starts itself under a server's name, forks workers, and
 * does with them what it is told. No worker of several is let in, not even the first; the only one
 * may be replaced.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cloakroom/room.h>

#include "tap.h"

#define WORKERS_MAX 16
#define ARGUMENTS_MAX 6
#define TEXT_MAX 1200

/* --- The server and its workers: no checks here --- */

struct said {
    long pid;
    enum cr_status status;
    char text[TEXT_MAX];
};

/* Opens what the environment names, says how that went, and stays until it is ended. */
static void worker_run(int out)
{
    struct cr_options options;
    struct cr_error error = {.size = sizeof error};
    struct cr_room *room = NULL;
    struct said said = {.pid = (long)getpid()};
    cr_options_init(&options);
    options.mode = CR_MODE_DIRECT;
    options.cache_bytes = 1 << 20;
    const char *timeout = getenv("CR_WORKERS_TIMEOUT");
    options.timeout = timeout != NULL ? (cr_span_ms)strtol(timeout, NULL, 10) : 0;
    said.status = cr_open(getenv("CR_WORKERS_URL"), &options, &room, &error);
    if (said.status != CR_OK)
        (void)snprintf(said.text, sizeof said.text, "%.1100s", error.text);
    ssize_t written = write(out, &said, sizeof said);
    if (written != (ssize_t)sizeof said || said.status != CR_OK)
        _exit(1);
    for (;;)
        (void)pause();
}

static pid_t worker_start(int out)
{
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGCHLD, SIG_DFL);
        worker_run(out);
    }
    return pid;
}

/* Takes orders on standard input, a byte each: `+` a worker, `-` an end for the first that is
 * left. What workers say goes to standard output. */
static int server_run(void)
{
    pid_t workers[WORKERS_MAX];
    size_t count = 0, first = 0;
    char order;
    while (read(STDIN_FILENO, &order, 1) == 1) {
        if (order == '+' && count < WORKERS_MAX) {
            workers[count++] = worker_start(STDOUT_FILENO);
        } else if (order == '-' && first < count) {
            (void)kill(workers[first], SIGKILL);
            (void)waitpid(workers[first++], NULL, 0);
        }
    }
    for (; first < count; first++) {
        (void)kill(workers[first], SIGKILL);
        (void)waitpid(workers[first], NULL, 0);
    }
    return 0;
}

/* --- The tests' side --- */

struct server {
    pid_t pid;
    int orders, answers;
};

static bool server_start(struct server *server, const char *const *given, const char *url,
                         const char *timeout)
{
    char *arguments[ARGUMENTS_MAX] = {NULL};
    int in[2], out[2];
    if (!CHECK(pipe(in) == 0 && pipe(out) == 0))
        return false;
    server->pid = fork();
    if (server->pid == 0) {
        dup2(in[0], STDIN_FILENO);
        dup2(out[1], STDOUT_FILENO);
        for (int i = 0; i < 2; i++) {
            close(in[i]);
            close(out[i]);
        }
        unsetenv("WEB_CONCURRENCY");
        unsetenv("GUNICORN_CMD_ARGS");
        setenv("CR_WORKERS_URL", url, 1);
        setenv("CR_WORKERS_TIMEOUT", timeout, 1);
        for (size_t i = 0; i + 1 < ARGUMENTS_MAX && given[i] != NULL; i++)
            arguments[i] = strdup(given[i]);
        execv("/proc/self/exe", arguments);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    server->orders = in[1];
    server->answers = out[0];
    return CHECK(server->pid > 0);
}

static void server_order(const struct server *server, const char *orders)
{
    CHECK(write(server->orders, orders, strlen(orders)) == (ssize_t)strlen(orders));
}

/* False: said so; or nobody said anything for `wait` milliseconds. */
static bool server_hear(const struct server *server, int wait, struct said *out)
{
    struct pollfd ready = {.fd = server->answers, .events = POLLIN};
    return poll(&ready, 1, wait) == 1 &&
           CHECK(read(server->answers, out, sizeof *out) == (ssize_t)sizeof *out);
}

static void server_end(struct server *server)
{
    int status = 0;
    close(server->orders);
    CHECK(waitpid(server->pid, &status, 0) == server->pid && status == 0);
    close(server->answers);
}

static char store_path[64], store_url[80];

static bool store_make(void)
{
    (void)snprintf(store_path, sizeof store_path, "/tmp/cr-workers-XXXXXX");
    if (!CHECK(mkdtemp(store_path) != NULL))
        return false;
    (void)snprintf(store_url, sizeof store_url, "sqlite://%s/a.db", store_path);
    return true;
}

static void store_remove(void)
{
    static const char *const names[] = {"a.db", "a.db-wal", "a.db-shm", "a.db.lock", "a.db-lock"};
    char path[96];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", store_path, names[i]);
        (void)unlink(path);
    }
    if (rmdir(store_path) != 0)
        tap_note("%s is left: %s", store_path, strerror(errno));
}

static const struct {
    const char *name;
    const char *arguments[ARGUMENTS_MAX];
    const char *says;
} several[] = {
    {"declared", {"gunicorn", "-w", "3", "app:app", NULL}, "gunicorn -w 3 app:app"},
    {"in a file that is not seen", {"gunicorn", "app:app", NULL}, "started 3 processes at once"},
    {"named by gunicorn", {"gunicorn: master [app:app]", NULL}, "started 3 processes at once"},
    {"by python",
     {"python3", "-c", "spawn_main(tracker_fd=5, pipe_handle=7)", "--multiprocessing-fork", NULL},
     "started 3 processes at once"},
};

static void of_several_workers_none_is_let_in(void)
{
    if (!store_make())
        return;
    for (size_t i = 0; i < 2 * (sizeof several / sizeof several[0]); i++) {
        size_t row = i / 2;
        struct server server;
        struct said said = {0};
        tap_row(several[row].name);
        if (!server_start(&server, several[row].arguments,
                          i % 2 == 0 ? store_url : "memory:", "500"))
            return;
        server_order(&server, "+++");
        for (int k = 0; k < 3; k++) {
            if (!CHECK(server_hear(&server, 20000, &said)))
                break;
            CHECK_STATUS(said.status, CR_E_REFUSED);
            CHECK(strstr(said.text, "CR-101") != NULL);
            if (!CHECK(strstr(said.text, several[row].says) != NULL))
                tap_note("%s", said.text);
        }
        server_end(&server);
    }
    tap_row(NULL);
    store_remove();
}

static void the_next_worker_waits_for_the_one_that_it_replaces(void)
{
    static const char *const one[] = {"gunicorn", "-w", "1", "app:app", NULL};
    if (!store_make())
        return;
    for (int i = 0; i < 2; i++) {
        struct server server;
        struct said said = {0};
        const char *url = i == 0 ? store_url : "memory:";
        tap_row(url);
        if (!server_start(&server, one, url, "20000"))
            return;
        server_order(&server, "+");
        CHECK(server_hear(&server, 20000, &said));
        CHECK_STATUS(said.status, CR_OK);
        server_order(&server, "+");
        CHECK(!server_hear(&server, 300, &said)); /* it waits */
        server_order(&server, "-");
        if (CHECK(server_hear(&server, 20000, &said)))
            CHECK_STATUS(said.status, CR_OK);
        server_end(&server);
    }
    tap_row(NULL);
    store_remove();
}

static void a_worker_beside_one_that_stays_is_refused_at_last(void)
{
    static const char *const one[] = {"gunicorn", "-w", "1", "app:app", NULL};
    struct server server;
    struct said first = {0}, second = {0};
    char pid[64];
    if (!store_make() || !server_start(&server, one, store_url, "300"))
        return;
    server_order(&server, "+");
    CHECK(server_hear(&server, 20000, &first));
    CHECK_STATUS(first.status, CR_OK);
    server_order(&server, "+");
    if (CHECK(server_hear(&server, 20000, &second))) {
        CHECK_STATUS(second.status, CR_E_REFUSED);
        (void)snprintf(pid, sizeof pid, "pid %ld (gunicorn -w 1 app:app) has it already",
                       first.pid);
        if (!CHECK(strstr(second.text, pid) != NULL))
            tap_note("%s", second.text);
    }
    server_end(&server);
    store_remove();
}

/* Reloaded where the number stands in a file: the last one is older than what is started together.
 */
static void an_older_worker_is_a_predecessor_also_where_nobody_said_how_many(void)
{
    static const char *const unsaid[] = {"gunicorn", "app:app", NULL};
    struct server server;
    struct said said = {0};
    if (!store_make() || !server_start(&server, unsaid, store_url, "20000"))
        return;
    server_order(&server, "+");
    CHECK(server_hear(&server, 20000, &said));
    CHECK_STATUS(said.status, CR_OK);
    (void)poll(NULL, 0, 2500);
    server_order(&server, "+");
    CHECK(!server_hear(&server, 500, &said));
    server_order(&server, "-");
    if (CHECK(server_hear(&server, 20000, &said)) && !CHECK_STATUS(said.status, CR_OK))
        tap_note("%s", said.text);
    server_end(&server);
    store_remove();
}

static void a_process_of_another_program_is_refused_at_once(void)
{
    static const char *const one[] = {"gunicorn", "-w", "1", "app:app", NULL};
    static const char *const other[] = {"gunicorn", "-w", "1", "other:app", NULL};
    struct server server, elsewhere;
    struct said said = {0};
    if (!store_make() || !server_start(&server, one, store_url, "60000"))
        return;
    server_order(&server, "+");
    CHECK(server_hear(&server, 20000, &said));
    CHECK_STATUS(said.status, CR_OK);
    if (server_start(&elsewhere, other, store_url, "60000")) {
        server_order(&elsewhere, "+");
        if (CHECK(server_hear(&elsewhere, 30000, &said))) /* half of what it would wait */
            CHECK_STATUS(said.status, CR_E_REFUSED);
        server_end(&elsewhere);
    }
    server_end(&server);
    store_remove();
}

int main(int argc, char **argv)
{
    static const struct tap_test tests[] = {
        TAP_TEST(of_several_workers_none_is_let_in),
        TAP_TEST(the_next_worker_waits_for_the_one_that_it_replaces),
        TAP_TEST(a_worker_beside_one_that_stays_is_refused_at_last),
        TAP_TEST(an_older_worker_is_a_predecessor_also_where_nobody_said_how_many),
        TAP_TEST(a_process_of_another_program_is_refused_at_once),
    };
    if (getenv("CR_WORKERS_URL") != NULL)
        return server_run();
    return TAP_MAIN(tests, argc, argv);
}
