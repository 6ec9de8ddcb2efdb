/* SPDX-License-Identifier: Apache-2.0 */
/* CR-101: what is judged, by a table of facts; and what is gathered, from real processes. */
#include "coord/checks.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "coord/family.h"
#include "tap.h"

/* Arguments of a command line as /proc shows them. */
#define ARGS(text) text "\0", sizeof(text "\0") - 1

static const struct {
    const char *name;
    const char *arguments;
    size_t bytes;
    const char *server;
    unsigned workers;
} commands[] = {
    {"uvicorn",
     ARGS("uvicorn\0app:app\0--workers\0"
          "4"),
     "uvicorn", 4},
    {"with =", ARGS("/usr/bin/python3\0/usr/local/bin/uvicorn\0app:app\0--workers=3"), "uvicorn",
     3},
    {"as a module",
     ARGS("python3\0-m\0uvicorn\0app:app\0--workers\0"
          "2"),
     "uvicorn", 2},
    {"gunicorn -w 4",
     ARGS("gunicorn\0-w\0"
          "4\0app:app"),
     "gunicorn", 4},
    {"gunicorn -w4", ARGS("/opt/bin/gunicorn\0-w4\0app:app"), "gunicorn", 4},
    {"the last counts",
     ARGS("gunicorn\0-w\0"
          "4\0--workers\0"
          "1\0app:app"),
     "gunicorn", 1},
    {"another option",
     ARGS("gunicorn\0--worker-class\0"
          "4\0app:app"),
     "gunicorn", 0},
    {"no number", ARGS("gunicorn\0-w\0four\0app:app"), "gunicorn", 0},
    {"no value", ARGS("uvicorn\0--workers"), "uvicorn", 0},
    {"uwsgi",
     ARGS("uwsgi\0-p\0"
          "8"),
     "uwsgi", 8},
    {"uwsgi, long",
     ARGS("uwsgi\0--workers\0"
          "8"),
     "uwsgi", 8},
    {"no server",
     ARGS("python3\0app.py\0--workers\0"
          "4"),
     NULL, 0},
    {"an argument that is like one",
     ARGS("vim\0-p\0a\0b\0gunicorn\0-w\0"
          "4"),
     NULL, 0},
    {"python's own options",
     ARGS("/usr/bin/python3.11\0-X\0dev\0-u\0-W\0error\0-m\0uvicorn\0app:app\0--workers\0"
          "4"),
     "uvicorn", 4},
    {"gunicorn's worker of uvicorn",
     ARGS("python3\0/usr/bin/gunicorn\0-k\0uvicorn.workers.UvicornWorker\0-w\0"
          "4\0app:app"),
     "gunicorn", 4},
    {"gunicorn --workers=4", ARGS("gunicorn\0app:app\0--workers=4"), "gunicorn", 4},
    {"gunicorn with a file", ARGS("gunicorn\0-c\0gunicorn.conf.py\0app:app"), "gunicorn", 0},
    {"gunicorn's title", ARGS("gunicorn: master [app:app]"), "gunicorn", 0},
    {"its worker's", ARGS("gunicorn: worker [app:app]"), "gunicorn", 0},
    {"fastapi run",
     ARGS("python\0/venv/bin/fastapi\0run\0--workers\0"
          "4\0app.py"),
     "fastapi", 4},
    {"hypercorn",
     ARGS("hypercorn\0app:app\0-w\0"
          "3"),
     "hypercorn", 3},
    {"granian", ARGS("granian\0--interface\0asgi\0--workers=2\0app:app"), "granian", 2},
    {"through uv",
     ARGS("/usr/bin/uv\0run\0uvicorn\0app:app\0--workers\0"
          "4"),
     "uvicorn", 4},
    {"threads of one process", ARGS("python3\0/usr/bin/waitress-serve\0--threads=8\0app:app"), NULL,
     0},
    {"a program of one's own", ARGS("python3\0serve.py\0gunicorn\0-w\0two"), NULL, 0},
    {"a worker of Python's",
     ARGS("/usr/bin/python3\0-c\0from multiprocessing.spawn import spawn_main; "
          "spawn_main(tracker_fd=5, pipe_handle=7)\0--multiprocessing-fork"),
     NULL, 0},
    {"empty", "", 0, NULL, 0},
    {"not ended", "gunicorn", 8, NULL, 0},
};

static void the_workers_of_a_server_are_read_from_its_command_line(void)
{
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        tap_row(commands[i].name);
        struct cr_check_facts facts = {0};
        bool known = cr_check_command_read(&facts, commands[i].arguments, commands[i].bytes);
        CHECK(known == (commands[i].server != NULL));
        CHECK_STR(facts.server, commands[i].server);
        CHECK_UINT(facts.command_workers, commands[i].workers);
    }
}

static const struct {
    const char *name;
    const char *a;
    size_t a_bytes;
    const char *b;
    size_t b_bytes;
    bool alike;
} families[] = {
    {"forked", ARGS("gunicorn\0app:app"), ARGS("gunicorn\0app:app"), true},
    {"another program", ARGS("gunicorn\0app:app"), ARGS("gunicorn\0other:app"), false},
    {"spawned", ARGS("python3\0-c\0spawn_main(pipe_handle=7)\0--multiprocessing-fork"),
     ARGS("python3\0-c\0spawn_main(pipe_handle=9)\0--multiprocessing-fork"), true},
    {"what Python starts beside them",
     ARGS("python3\0-c\0spawn_main(pipe_handle=7)\0--multiprocessing-fork"),
     ARGS("python3\0-c\0from multiprocessing.resource_tracker import main;main(5)"), false},
    {"named before and after", ARGS("gunicorn: master [a:b]"), ARGS("gunicorn: worker [a:b]"),
     true},
    {"nothing seen", "", 0, "", 0, false},
};

static void workers_of_one_server_are_told_from_its_other_children(void)
{
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        tap_row(families[i].name);
        CHECK(cr_family_alike(families[i].a, families[i].a_bytes, families[i].b,
                              families[i].b_bytes) == families[i].alike);
    }
}

static const struct {
    const char *name;
    struct cr_check_facts facts;
    enum cr_status want;
    const char *says[4];
} judged[] = {
    {"nothing declared", {.cache = CR_CACHE_MEMORY}, CR_OK, {NULL}},
    {"one declared", {.cache = CR_CACHE_MEMORY, .declared_workers = 1}, CR_OK, {NULL}},
    {"four declared",
     {.cache = CR_CACHE_MEMORY, .declared_workers = 4, .pid = 41, .parent = 40},
     CR_E_REFUSED,
     {"CR-101 refused: direct mode keeps the session cache in one process",
      "Seen: declared_workers = 4 in cr_options; this is pid 41 of parent 40.",
      "one of the 4 ended can go on being accepted by the other 3", "CR_MODE_AUTO"}},
    {"by the environment",
     {.cache = CR_CACHE_MEMORY,
      .environment_workers = 2,
      .environment_name = "WEB_CONCURRENCY",
      .pid = 7},
     CR_E_REFUSED,
     {"Seen: WEB_CONCURRENCY says 2 in the environment", "the other 1", "WEB_CONCURRENCY=1",
      "declared_workers = 1"}},
    {"by the command line, with its own fix",
     {.cache = CR_CACHE_MEMORY,
      .command_workers = 8,
      .command = "gunicorn -w 8 app:app",
      .command_pid = 40,
      .server = "gunicorn",
      .pid = 41},
     CR_E_REFUSED,
     {"Seen: pid 40 is `gunicorn -w 8 app:app`; this is pid 41.", "the other 7",
      "`gunicorn ... -w 1`", "(1) keep the processes"}},
    {"by what was started with it",
     {.cache = CR_CACHE_MEMORY,
      .siblings = 3,
      .sibling = 42,
      .command = "gunicorn -c conf.py app:app",
      .server = "gunicorn",
      .environment_workers = 1,
      .environment_name = "WEB_CONCURRENCY",
      .pid = 41,
      .parent = 40},
     CR_E_REFUSED,
     {"several processes serve",
      "Seen: pid 40 (gunicorn -c conf.py app:app) started 4 processes at once, among them pid 42; "
      "this is pid 41.",
      "the other 3", "`gunicorn ... -w 1`"}},
    {"by what was started with it, by a program of one's own",
     {.cache = CR_CACHE_MEMORY, .siblings = 1, .sibling = 42, .pid = 41, .parent = 40},
     CR_E_REFUSED,
     {"Seen: pid 40 started 2 processes at once", "(workers = 1)", "declared_workers = 1", NULL}},
    {"the declaration outweighs what was started with it",
     {.cache = CR_CACHE_MEMORY, .declared_workers = 1, .siblings = 3},
     CR_OK,
     {NULL}},
    {"the command line outweighs the environment",
     {.cache = CR_CACHE_MEMORY,
      .command_workers = 1,
      .server = "uvicorn",
      .environment_workers = 4,
      .environment_name = "WEB_CONCURRENCY"},
     CR_OK,
     {NULL}},
    {"the declaration outweighs both",
     {.cache = CR_CACHE_MEMORY, .declared_workers = 1, .command_workers = 4, .server = "uvicorn"},
     CR_OK,
     {NULL}},
    {"a second process",
     {.cache = CR_CACHE_MEMORY,
      .store_is_exclusive = true,
      .other = 4711,
      .other_command = "python3 app.py",
      .pid = 4712},
     CR_E_REFUSED,
     {"another process has it too", "Seen: pid 4711 (python3 app.py) has it already",
      "1 of 2 serves", "end pid 4711 first"}},
    {"a private store",
     {.cache = CR_CACHE_NONE, .store_is_private = true, .declared_workers = 4},
     CR_E_REFUSED,
     {"keeps the sessions in one process", "3 chances in 4",
      "sqlite:///PATH instead of memory:", "Would happen: "}},
    {"nothing of its own", {.cache = CR_CACHE_NONE, .declared_workers = 4}, CR_OK, {NULL}},
};

static void what_one_process_keeps_is_refused_to_several_with_the_reason(void)
{
    for (size_t i = 0; i < sizeof judged / sizeof judged[0]; i++) {
        tap_row(judged[i].name);
        struct cr_error error = {.size = sizeof error};
        CHECK_STATUS(cr_check_processes(&judged[i].facts, &error), judged[i].want);
        CHECK_STATUS(cr_check_processes(&judged[i].facts, NULL), judged[i].want);
        for (size_t j = 0; j < 4 && judged[i].says[j] != NULL; j++) {
            if (!CHECK(strstr(error.text, judged[i].says[j]) != NULL))
                tap_note("not said: %s; but: %s", judged[i].says[j], error.text);
        }
    }
}

static void the_longest_facts_fit_the_message(void)
{
    struct cr_check_facts facts = {.cache = CR_CACHE_MEMORY,
                                   .store_is_private = true,
                                   .command_workers = 10000,
                                   .server = "gunicorn",
                                   .pid = 4194304,
                                   .parent = 4194304,
                                   .command_pid = 4194304};
    memset(facts.command, 'x', sizeof facts.command - 1);
    struct cr_error error = {.size = sizeof error};
    CHECK_STATUS(cr_check_processes(&facts, &error), CR_E_REFUSED);
    CHECK(strstr(error.text, "Override") != NULL);
    facts.command_workers = 0;
    facts.siblings = 9999;
    facts.sibling = 4194304;
    CHECK_STATUS(cr_check_processes(&facts, &error), CR_E_REFUSED);
    CHECK(strstr(error.text, "this is pid 4194304.") != NULL);
    CHECK(strstr(error.text, "Override") != NULL);
}

/* Runs `child` in a forked process and answers its exit status. */
static int in_child(int (*child)(void))
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(child());
    int status = -1;
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int child_with_environment(void)
{
    struct cr_check_facts facts = {.cache = CR_CACHE_MEMORY};
    setenv("WEB_CONCURRENCY", "4", 1);
    if (cr_check_facts_gather(&facts) != CR_OK || facts.environment_workers != 4)
        return 1;
    setenv("WEB_CONCURRENCY", "many", 1);
    setenv("GUNICORN_CMD_ARGS", "--bind :80 -w 6", 1);
    if (cr_check_facts_gather(&facts) != CR_OK || facts.environment_workers != 6)
        return 2;
    unsetenv("GUNICORN_CMD_ARGS");
    setenv("UVICORN_WORKERS", "3", 1);
    if (cr_check_facts_gather(&facts) != CR_OK || facts.environment_workers != 3)
        return 4;
    return facts.pid == getpid() && facts.parent == getppid() ? 0 : 3;
}

static void the_environment_is_gathered(void)
{
    CHECK_INT(in_child(child_with_environment), 0);
}

/* A shell that is called gunicorn, and below it this program. */
static void the_command_line_of_the_parent_is_gathered(void)
{
    int ends[2];
    if (!CHECK(pipe(ends) == 0))
        return;
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        setenv("CR_CHECKS_CHILD", "1", 1);
        char self[512] = "";
        ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
        setenv("CR_CHECKS_SELF", length > 0 ? self : "", 1);
        execl("/bin/sh", "gunicorn", "-c", "\"$CR_CHECKS_SELF\"; :", "gunicorn", "-w", "5", NULL);
        _exit(127);
    }
    close(ends[1]);
    char said[64] = "";
    ssize_t got = read(ends[0], said, sizeof said - 1);
    close(ends[0]);
    int status = 0;
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    CHECK(got > 0);
    CHECK_STR(said, "gunicorn 5");
}

static int child_that_takes(void)
{
    int fd = -1;
    long holder = 0;
    enum cr_status st = cr_check_alone_take(&fd, &holder);
    return st == CR_OK ? 0 : st == CR_BUSY ? 1 : 2;
}

/* Two children of one parent, with one command line: workers of one server. */
static void the_second_of_a_group_learns_who_is_the_first(void)
{
    int ready[2];
    if (!CHECK(pipe(ready) == 0))
        return;
    pid_t first = fork();
    if (first == 0) {
        int fd = -1;
        long holder = 0;
        bool taken = cr_check_alone_take(&fd, &holder) == CR_OK && fd >= 0;
        /* Again in the same process: another room of it. */
        int second = -1;
        taken = taken && cr_check_alone_take(&second, &holder) == CR_OK;
        if (write(ready[1], taken ? "y" : "n", 1) != 1)
            _exit(1);
        pause();
        _exit(0);
    }
    char answer = 0;
    CHECK(read(ready[0], &answer, 1) == 1 && answer == 'y');
    CHECK_INT(in_child(child_that_takes), 1);

    /* A holder that crashed does not lock anybody out. */
    kill(first, SIGKILL);
    CHECK(waitpid(first, NULL, 0) == first);
    CHECK_INT(in_child(child_that_takes), 0);
    close(ready[0]);
    close(ready[1]);
}

static const struct tap_test tests[] = {
    TAP_TEST(the_workers_of_a_server_are_read_from_its_command_line),
    TAP_TEST(workers_of_one_server_are_told_from_its_other_children),
    TAP_TEST(what_one_process_keeps_is_refused_to_several_with_the_reason),
    TAP_TEST(the_longest_facts_fit_the_message),
    TAP_TEST(the_environment_is_gathered),
    TAP_TEST(the_command_line_of_the_parent_is_gathered),
    TAP_TEST(the_second_of_a_group_learns_who_is_the_first),
};

int main(int argc, char **argv)
{
    if (getenv("CR_CHECKS_CHILD") != NULL) {
        struct cr_check_facts facts = {.cache = CR_CACHE_MEMORY};
        if (cr_check_facts_gather(&facts) != CR_OK)
            return 1;
        printf("%s %u", facts.server, facts.command_workers);
        return 0;
    }
    return TAP_MAIN(tests, argc, argv);
}
