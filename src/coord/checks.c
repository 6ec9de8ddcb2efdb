/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CR-101: a table that lives in one process knows nothing of what the others end. Refused before
 * anything is served, by every worker, also the first.
 *
 * What is gathered and what is judged do not mix: everything that asks the system is in the second
 * half of this file.
 */
#include "coord/checks.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "coord/family.h"

#define ARGUMENTS_BYTES_MAX 8192
#define ANCESTORS_MAX 3
#define WORKERS_MAX 10000
#define LAUNCHER_ARGUMENTS_MAX 4
#define TOGETHER_MS 2000 /* workers of one server start within this */
#define SETTLE_LOOK_MS 20
#define SETTLE_MS 300 /* a process this old sees the others that it was started with */

/* ---- servers that we know */

struct server {
    const char *name;
    const char *short_option; /* NULL: none */
    const char *long_option;
    const char *one; /* what to start it with for one process */
};

static const struct server servers[] = {
    {"uvicorn", NULL, "--workers", "--workers 1"},
    {"gunicorn", "-w", "--workers", "-w 1"},
    {"hypercorn", "-w", "--workers", "--workers 1"},
    {"granian", NULL, "--workers", "--workers 1"},
    {"fastapi", NULL, "--workers", "--workers 1"},
    {"uwsgi", "-p", "--processes", "--processes 1"},
    {"uwsgi", NULL, "--workers", "--processes 1"},
    {"puma", "-w", "--workers", "-w 0"},
};
#define SERVER_COUNT (sizeof servers / sizeof servers[0])

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

/* A whole number in `text` and nothing else, or 0. */
static unsigned number_of(const char *text)
{
    char *end;
    if (text == NULL || text[0] < '0' || text[0] > '9')
        return 0;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (*end != '\0' || errno != 0)
        return 0;
    return value > WORKERS_MAX ? WORKERS_MAX : (unsigned)value;
}

/* The count that `argument` gives by itself ("--workers=4", "-w4") or with `next` ("-w", "4"). */
static unsigned option_count(const struct server *server, const char *argument, const char *next)
{
    if (server->short_option != NULL && strncmp(argument, server->short_option, 2) == 0)
        return number_of(argument[2] == '\0' ? next : argument + 2);
    size_t length = strlen(server->long_option);
    if (strncmp(argument, server->long_option, length) != 0)
        return 0;
    if (argument[length] == '\0')
        return number_of(next);
    return argument[length] == '=' ? number_of(argument + length + 1) : 0;
}

static const char *argument_after(const char *argument, const char *end)
{
    const char *next = argument + strlen(argument) + 1;
    return next < end ? next : NULL;
}

/* The last one counts, as with the servers. */
static unsigned arguments_count(const char *name, const char *from, const char *end)
{
    unsigned found = 0;
    for (const char *at = from; at != NULL; at = argument_after(at, end)) {
        for (size_t i = 0; i < SERVER_COUNT; i++) {
            if (strcmp(servers[i].name, name) != 0)
                continue;
            unsigned count = option_count(&servers[i], at, argument_after(at, end));
            found = count > 0 ? count : found;
        }
    }
    return found;
}

static const struct server *server_named(const char *name)
{
    for (size_t i = 0; i < SERVER_COUNT; i++)
        if (strcmp(servers[i].name, name) == 0)
            return &servers[i];
    return NULL;
}

/* What Python was given to run: the module after -m, or the script. NULL: neither. */
static const char *python_program(const char *arguments, const char *end)
{
    const char *at = argument_after(arguments, end);
    while (at != NULL && at[0] == '-') {
        if (at[1] == 'c')
            return NULL;
        if (at[1] == 'm')
            return at[2] != '\0' ? at + 2 : argument_after(at, end);
        if ((at[1] == 'X' || at[1] == 'W') && at[2] == '\0')
            at = argument_after(at, end); /* its value */
        at = at != NULL ? argument_after(at, end) : NULL;
    }
    return at;
}

/* The server that runs: its program, or what an interpreter or a launcher was given (`python3 -m
 * uvicorn`, `uv run uvicorn`). */
static const struct server *arguments_server(const char *arguments, const char *end,
                                             const char **out_at)
{
    const char *at = arguments;
    if (strncmp(base_name(arguments), "python", 6) == 0) {
        *out_at = python_program(arguments, end);
        return *out_at != NULL ? server_named(base_name(*out_at)) : NULL;
    }
    for (int i = 0; at != NULL && i < LAUNCHER_ARGUMENTS_MAX; i++) {
        *out_at = at;
        const struct server *server = server_named(base_name(at));
        if (server != NULL)
            return server;
        at = argument_after(at, end);
    }
    return NULL;
}

/* Gunicorn can name its processes, and then nothing else is left of the command line. */
static bool is_titled(const char *arguments)
{
    static const char title[] = "gunicorn: ";
    return strncmp(arguments, title, sizeof title - 1) == 0;
}

static void arguments_join(char *out, size_t capacity, const char *arguments, const char *end)
{
    size_t length = 0;
    for (const char *at = arguments; at != NULL; at = argument_after(at, end)) {
        int added = snprintf(out + length, capacity - length, "%s%s", length == 0 ? "" : " ", at);
        if (added < 0 || (size_t)added >= capacity - length)
            break;
        length += (size_t)added;
    }
    while (length > 0 && out[length - 1] == ' ')
        out[--length] = '\0'; /* a title that was set is filled up */
    char copy[CR_CHECK_COMMAND_CHARS_MAX + 1];
    cr_label_copy(copy, sizeof copy, out, strlen(out)); /* control bytes do not reach a terminal */
    snprintf(out, capacity, "%s", copy);
}

bool cr_check_command_read(struct cr_check_facts *facts, const char *arguments, size_t count)
{
    if (count == 0 || arguments[count - 1] != '\0')
        return false;
    const char *at = NULL;
    const struct server *server = is_titled(arguments)
                                      ? server_named("gunicorn")
                                      : arguments_server(arguments, arguments + count, &at);
    if (server == NULL)
        return false;
    facts->server = server->name;
    facts->command_workers = at != NULL ? arguments_count(server->name, at, arguments + count) : 0;
    arguments_join(facts->command, sizeof facts->command, arguments, arguments + count);
    return true;
}

/* ---- judging */

/* How many processes will serve, by what was declared, most particular first. */
static unsigned declared_count(const struct cr_check_facts *facts)
{
    if (facts->declared_workers > 0)
        return facts->declared_workers;
    if (facts->command_workers > 0)
        return facts->command_workers;
    if (facts->siblings > 0)
        return facts->siblings + 1;
    return facts->environment_workers;
}

static void seen_write(const struct cr_check_facts *facts, char *out, size_t capacity)
{
    if (facts->other > 0)
        snprintf(out, capacity, "pid %ld (%.120s) has it already; this is pid %ld of parent %ld",
                 facts->other, facts->other_command[0] == '\0' ? "?" : facts->other_command,
                 facts->pid, facts->parent);
    else if (facts->declared_workers > 0)
        snprintf(out, capacity,
                 "declared_workers = %u in cr_options; this is pid %ld of parent %ld",
                 facts->declared_workers, facts->pid, facts->parent);
    else if (facts->command_workers > 0)
        snprintf(out, capacity, "pid %ld is `%.200s`; this is pid %ld", facts->command_pid,
                 facts->command, facts->pid);
    else if (facts->siblings > 0)
        snprintf(out, capacity,
                 "pid %ld%s%.120s%s started %u processes at once, among them pid %ld; this is pid "
                 "%ld",
                 facts->parent, facts->command[0] != '\0' ? " (" : "", facts->command,
                 facts->command[0] != '\0' ? ")" : "", facts->siblings + 1, facts->sibling,
                 facts->pid);
    else
        snprintf(out, capacity, "%s says %u in the environment; this is pid %ld of parent %ld",
                 facts->environment_name, facts->environment_workers, facts->pid, facts->parent);
}

/* `count` processes, or at least two. */
static void harm_write(const struct cr_check_facts *facts, unsigned count, char *out,
                       size_t capacity)
{
    if (facts->store_is_private)
        snprintf(out, capacity,
                 "each process keeps its own sessions: with %u of them a login is known to 1, and "
                 "the next request has %u chances in %u to be logged out",
                 count, count - 1, count);
    else if (facts->store_is_exclusive)
        snprintf(out, capacity,
                 "the store takes one process: 1 of %u serves, %u cannot start; did they share it, "
                 "a session that one ended could go on being accepted by the other %u",
                 count, count - 1, count - 1);
    else
        snprintf(out, capacity,
                 "each process keeps its own table: a session that one of the %u ended can go on "
                 "being accepted by the other %u",
                 count, count - 1);
}

static const char *one_process_line(const struct cr_check_facts *facts)
{
    for (size_t i = 0; facts->server != NULL && i < SERVER_COUNT; i++)
        if (strcmp(servers[i].name, facts->server) == 0)
            return servers[i].one;
    return NULL;
}

static void fix_write(const struct cr_check_facts *facts, char *out, size_t capacity)
{
    const char *many = facts->store_is_private
                           ? "open sqlite:///PATH instead of memory:, with mode = CR_MODE_AUTO"
                           : "open with mode = CR_MODE_AUTO and cache = CR_CACHE_SHARED";
    const char *line = one_process_line(facts);
    char one[160];
    if (facts->other > 0)
        snprintf(one, sizeof one, "end pid %ld first, and start one process only", facts->other);
    else if (line != NULL)
        snprintf(one, sizeof one, "start one process: `%s ... %s`", facts->server, line);
    else if (facts->siblings > 0)
        snprintf(one, sizeof one, "start one process (workers = 1)");
    else
        snprintf(one, sizeof one, "start one process: WEB_CONCURRENCY=1");
    snprintf(out, capacity,
             "(1) keep the processes: %s, and all of them use the one table of the host's agent; "
             "or (2) %s",
             many, one);
}

enum cr_status cr_check_processes(const struct cr_check_facts *facts, struct cr_error *out_error)
{
    CR_ASSERT(facts->cache == CR_CACHE_NONE || facts->cache == CR_CACHE_MEMORY);
    bool local =
        facts->cache == CR_CACHE_MEMORY || facts->store_is_private || facts->store_is_exclusive;
    unsigned count = declared_count(facts);
    if (facts->other > 0 && count < 2)
        count = 2;
    if (!local || count < 2)
        return CR_OK;
    if (out_error == NULL)
        return CR_E_REFUSED;
    char seen[300];
    char harm[260];
    char fix[360];
    seen_write(facts, seen, sizeof seen);
    harm_write(facts, count, harm, sizeof harm);
    fix_write(facts, fix, sizeof fix);
    out_error->status = CR_E_REFUSED;
    snprintf(out_error->text, sizeof out_error->text,
             "CR-101 refused: direct mode keeps %s in one process, but %s.\n"
             "Seen: %s.\n"
             "Would happen: %s.\n"
             "Fix: %s.\n"
             "%s",
             facts->store_is_private           ? "the sessions"
             : facts->cache == CR_CACHE_MEMORY ? "the session cache"
                                               : "the store",
             facts->other > 0                            ? "another process has it too"
             : count == facts->siblings + 1 && count > 1 ? "several processes serve"
                                                         : "several processes are declared",
             seen, harm, fix,
             facts->other > 0
                 ? "Override: none, as there is one owner of a store."
                 : "Override (if this really is the only process): declared_workers = 1.");
    return CR_E_REFUSED;
}

/* ---- gathering */

static unsigned gunicorn_arguments_count(const char *text)
{
    char arguments[1024] = "";
    if (text == NULL || strlen(text) + 1 > sizeof arguments)
        return 0;
    size_t count = strlen(text) + 1;
    for (size_t i = 0; i < count; i++)
        arguments[i] = (char)(text[i] == ' ' ? '\0' : text[i]);
    return arguments_count("gunicorn", arguments, arguments + count);
}

/* What the server at hand reads, the most particular first; with a server that we do not know, all
 * of it. */
static void environment_read(struct cr_check_facts *facts)
{
    static const struct {
        const char *name;
        const char *server; /* NULL: any */
        unsigned (*count)(const char *);
    } variables[] = {
        {"GUNICORN_CMD_ARGS", "gunicorn", gunicorn_arguments_count},
        {"UVICORN_WORKERS", "uvicorn", number_of},
        {"GRANIAN_WORKERS", "granian", number_of},
        {"WEB_CONCURRENCY", NULL, number_of},
    };
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++) {
        const char *server = variables[i].server;
        facts->environment_name = variables[i].name;
        facts->environment_workers = 0;
        if (server == NULL || facts->server == NULL || strcmp(server, facts->server) == 0)
            facts->environment_workers = variables[i].count(getenv(variables[i].name));
        if (facts->environment_workers > 0)
            break;
    }
}

/* The first that is found counts; but a forked worker is named after its master, if that is found.
 */
static bool command_above(struct cr_check_facts *facts, const char *found, const char *arguments,
                          size_t count)
{
    struct cr_check_facts above = {0};
    if (!cr_check_command_read(&above, arguments, count) ||
        (found != NULL && strcmp(found, above.server) != 0))
        return false;
    return cr_check_command_read(facts, arguments, count);
}

enum cr_status cr_check_facts_gather(struct cr_check_facts *facts)
{
    char *arguments = malloc(ARGUMENTS_BYTES_MAX);
    struct cr_process process;
    if (arguments == NULL)
        return CR_E_NO_MEMORY;
    facts->pid = (long)getpid();
    facts->parent = (long)getppid();
    facts->server = NULL;
    /* Ourselves too, as a server may serve by itself. */
    long pid = facts->pid;
    for (int i = 0; i <= ANCESTORS_MAX && pid > 0; i++) {
        size_t count = cr_process_arguments(pid, arguments, ARGUMENTS_BYTES_MAX);
        const char *found = facts->server;
        if (found != NULL && pid != facts->parent)
            break;
        if (command_above(facts, found, arguments, count))
            facts->command_pid = pid;
        pid = cr_process_read(pid, &process) ? process.parent : 0;
    }
    environment_read(facts);
    free(arguments);
    return CR_OK;
}

/* Whether this is a process that a server starts to serve, and not the server. */
static bool is_worker(const struct cr_check_facts *facts)
{
    char *arguments = malloc(ARGUMENTS_BYTES_MAX);
    struct cr_check_facts above = {0};
    if (arguments == NULL)
        return false;
    size_t count = cr_process_arguments(facts->pid, arguments, ARGUMENTS_BYTES_MAX);
    bool is_one = cr_family_is_spawned(arguments, count);
    if (!is_one) {
        count = cr_process_arguments(facts->parent, arguments, ARGUMENTS_BYTES_MAX);
        is_one = cr_check_command_read(&above, arguments, count);
    }
    free(arguments);
    return is_one;
}

void cr_check_facts_siblings(struct cr_check_facts *facts)
{
    struct cr_clock *clock = cr_clock_system();
    struct cr_process self;
    if (facts->declared_workers > 0 || facts->command_workers > 0 || !is_worker(facts) ||
        !cr_process_read(facts->pid, &self))
        return;
    /* Who has seen enough stays all the same: the others are to see it, too. */
    for (;;) {
        unsigned count = cr_family_count(TOGETHER_MS, &facts->sibling);
        if (count > facts->siblings)
            facts->siblings = count;
        if (cr_boot_between(self.started, cr_clock_boot(clock)) > SETTLE_MS)
            return;
        (void)poll(NULL, 0, SETTLE_LOOK_MS);
    }
}

void cr_check_facts_other(struct cr_check_facts *facts, long pid)
{
    char arguments[1024];
    facts->other = pid;
    facts->other_command[0] = '\0';
    size_t count = cr_process_arguments(pid, arguments, sizeof arguments);
    if (count > 0)
        arguments_join(facts->other_command, sizeof facts->other_command, arguments,
                       arguments + count);
}

/* $XDG_RUNTIME_DIR, or a directory of our own that nobody else can write to. */
static bool lock_directory(char *out, size_t capacity)
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    struct stat status;
    if (runtime != NULL && runtime[0] == '/' && stat(runtime, &status) == 0 &&
        status.st_uid == geteuid())
        return snprintf(out, capacity, "%s", runtime) < (int)capacity;
    snprintf(out, capacity, "/tmp/cloakroom-%ld", (long)geteuid());
    if (mkdir(out, 0700) != 0 && errno != EEXIST)
        return false;
    return lstat(out, &status) == 0 && S_ISDIR(status.st_mode) && status.st_uid == geteuid() &&
           (status.st_mode & 077) == 0;
}

/* One file for all groups; a group is a byte range of it, found by a hash, so that nothing is left
 * lying about. */
static off_t group_offset(void)
{
    struct {
        long parent;
        char arguments[ARGUMENTS_BYTES_MAX];
    } *group = calloc(1, sizeof *group);
    unsigned char hash[8] = {0};
    static const unsigned char key[crypto_shorthash_KEYBYTES] = "cloakroom group";
    if (group == NULL)
        return 0;
    size_t count = cr_process_arguments((long)getpid(), group->arguments, sizeof group->arguments);
    /* Python tells each of its children the number of a pipe, so no two have the same arguments. */
    if (cr_family_is_spawned(group->arguments, count))
        memset(group->arguments, 0, sizeof group->arguments);
    group->parent = (long)getppid();
    crypto_shorthash(hash, (const unsigned char *)group, sizeof *group, key);
    free(group);
    uint64_t offset;
    memcpy(&offset, hash, sizeof offset);
    return (off_t)(offset >> 2);
}

enum cr_status cr_check_alone_take(int *out_fd, long *out_holder)
{
    char directory[256];
    char path[300];
    *out_fd = -1;
    if (!lock_directory(directory, sizeof directory))
        return CR_OK;
    snprintf(path, sizeof path, "%s/cloakroom-direct.lock", directory);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return CR_OK;
    /* Of the process: not inherited by a fork, and the kernel names the holder. */
    struct flock lock = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = group_offset(), .l_len = 1};
    if (fcntl(fd, F_SETLK, &lock) == 0) {
        *out_fd = fd;
        return CR_OK;
    }
    bool held = (errno == EAGAIN || errno == EACCES) && fcntl(fd, F_GETLK, &lock) == 0 &&
                lock.l_type != F_UNLCK;
    close(fd);
    *out_holder = held ? (long)lock.l_pid : 0;
    return held ? CR_BUSY : CR_OK;
}
