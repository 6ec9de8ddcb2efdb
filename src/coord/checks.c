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
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/bytes.h"

#define ARGUMENTS_BYTES_MAX 8192
#define ANCESTORS_MAX 3
#define WORKERS_MAX 10000
#define PYTHON_CHILD "--multiprocessing-fork"

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

/* The server that runs: its program, or what an interpreter was given (`python3 -m uvicorn`). */
static const struct server *arguments_server(const char *arguments, const char *end,
                                             const char **out_at)
{
    int position = 0;
    for (const char *at = arguments; at != NULL && position < 4; at = argument_after(at, end)) {
        for (size_t i = 0; i < SERVER_COUNT; i++) {
            if (strcmp(base_name(at), servers[i].name) == 0) {
                *out_at = at;
                return &servers[i];
            }
        }
        position++;
    }
    return NULL;
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
    char copy[CR_CHECK_COMMAND_CHARS_MAX + 1];
    cr_label_copy(copy, sizeof copy, out, strlen(out)); /* control bytes do not reach a terminal */
    snprintf(out, capacity, "%s", copy);
}

bool cr_check_command_read(struct cr_check_facts *facts, const char *arguments, size_t count)
{
    if (count == 0 || arguments[count - 1] != '\0')
        return false;
    const char *at = NULL;
    const struct server *server = arguments_server(arguments, arguments + count, &at);
    if (server == NULL)
        return false;
    facts->server = server->name;
    facts->command_workers = arguments_count(server->name, at, arguments + count);
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
             facts->other > 0 ? "another process has it too" : "several processes are declared",
             seen, harm, fix,
             facts->other > 0
                 ? "Override: none, as there is one owner of a store."
                 : "Override (if this really is the only process): declared_workers = 1.");
    return CR_E_REFUSED;
}

/* ---- gathering */

/* Up to `capacity` - 1 bytes of a small file, ended with a NUL. 0 when it cannot be read. */
static size_t file_read(const char *path, char *out, size_t capacity)
{
    size_t length = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t got;
    while (length < capacity - 1 && (got = read(fd, out + length, capacity - 1 - length)) > 0)
        length += (size_t)got;
    close(fd);
    out[length] = '\0';
    return length;
}

static size_t process_arguments(long pid, char *out, size_t capacity)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/cmdline", pid);
    size_t length = file_read(path, out, capacity);
    if (length > 0 && out[length - 1] != '\0')
        length++; /* a title that was set, or a line that was cut: end it */
    return length;
}

/* 0: it has none, or cannot be seen. */
static long process_parent(long pid)
{
    char path[64];
    char text[512];
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    if (file_read(path, text, sizeof text) == 0)
        return 0;
    const char *after = strrchr(text, ')'); /* the name before it may hold anything */
    if (after == NULL || strlen(after) < 5)
        return 0;
    return strtol(after + 4, NULL, 10); /* ") S 4711" */
}

static unsigned gunicorn_environment(void)
{
    const char *text = getenv("GUNICORN_CMD_ARGS");
    char arguments[1024] = "";
    if (text == NULL || strlen(text) + 1 > sizeof arguments)
        return 0;
    size_t count = strlen(text) + 1;
    for (size_t i = 0; i < count; i++)
        arguments[i] = (char)(text[i] == ' ' ? '\0' : text[i]);
    return arguments_count("gunicorn", arguments, arguments + count);
}

enum cr_status cr_check_facts_gather(struct cr_check_facts *facts)
{
    char *arguments = malloc(ARGUMENTS_BYTES_MAX);
    if (arguments == NULL)
        return CR_E_NO_MEMORY;
    facts->pid = (long)getpid();
    facts->parent = (long)getppid();
    facts->environment_name = "WEB_CONCURRENCY";
    facts->environment_workers = number_of(getenv(facts->environment_name));
    if (facts->environment_workers == 0) {
        facts->environment_name = "GUNICORN_CMD_ARGS";
        facts->environment_workers = gunicorn_environment();
    }
    /* Ourselves too: a forked worker has its master's command line. */
    long pid = facts->pid;
    for (int i = 0; i <= ANCESTORS_MAX && pid > 0; i++) {
        size_t count = process_arguments(pid, arguments, ARGUMENTS_BYTES_MAX);
        if (cr_check_command_read(facts, arguments, count)) {
            facts->command_pid = pid;
            break;
        }
        pid = process_parent(pid);
    }
    free(arguments);
    return CR_OK;
}

void cr_check_facts_other(struct cr_check_facts *facts, long pid)
{
    char arguments[1024];
    facts->other = pid;
    facts->other_command[0] = '\0';
    size_t count = process_arguments(pid, arguments, sizeof arguments);
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
    size_t count = process_arguments((long)getpid(), group->arguments, sizeof group->arguments);
    /* Python tells each of its children the number of a pipe, so no two have the same arguments. */
    if (memmem(group->arguments, count, PYTHON_CHILD, sizeof PYTHON_CHILD) != NULL)
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
