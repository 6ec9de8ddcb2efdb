/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting an agent for a store, when nobody runs one. The child gets an own session, default
 * signals, a bare environment, and three descriptors: the store's URL (which may hold a password)
 * on standard input, and its ready line on descriptor 3. It goes to the background by itself, so
 * that the application never has a child that it does not know.
 */
#include "room/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"

#define READY_FD 3
#define ARGUMENTS_MAX 24
#define NUMBER_CHARS 24

/* What an agent may want to know of ours; nothing that could be a secret. */
static const char *const inherited[] = {"PATH=",
                                        "HOME=",
                                        "LANG=",
                                        "LC_ALL=",
                                        "TZ=",
                                        "TMPDIR=",
                                        "XDG_RUNTIME_DIR=",
                                        "ASAN_OPTIONS=",
                                        "LSAN_OPTIONS=",
                                        "UBSAN_OPTIONS=",
                                        "TSAN_OPTIONS="};
#define INHERITED_COUNT (sizeof inherited / sizeof inherited[0])

static void environment_make(char *out[INHERITED_COUNT + 1])
{
    size_t count = 0;
    for (char **entry = environ; entry != NULL && *entry != NULL; entry++) {
        for (size_t i = 0; i < INHERITED_COUNT && count < INHERITED_COUNT; i++) {
            if (strncmp(*entry, inherited[i], strlen(inherited[i])) == 0)
                out[count++] = *entry;
        }
    }
    out[count] = NULL;
}

/* `cloakroom` in the directory of the running program, else as PATH has it. */
static const char *program_find(const struct cr_room *room, char beside[PATH_MAX])
{
    static const char name[] = "cloakroom";
    if (room->program != NULL)
        return room->program;
    ssize_t length = readlink("/proc/self/exe", beside, PATH_MAX - sizeof name);
    if (length > 0) {
        beside[length] = '\0';
        char *slash = strrchr(beside, '/');
        if (slash != NULL) {
            memcpy(slash + 1, name, sizeof name);
            if (access(beside, X_OK) == 0)
                return beside;
        }
    }
    return name;
}

static const char *cache_name(enum cr_cache cache)
{
    switch (cache) {
    case CR_CACHE_NONE:
        return "none";
    case CR_CACHE_MEMORY:
        return "memory";
    case CR_CACHE_DEFAULT:
    case CR_CACHE_SHARED:
        break;
    }
    return "shared";
}

struct arguments {
    /* argv is char *const[] for historical reasons: nobody writes to it. */
    union {
        const char *given[ARGUMENTS_MAX];
        char *plain[ARGUMENTS_MAX];
    } list;
    size_t count;
    char numbers[3][NUMBER_CHARS];
    size_t number_count;
};

static void argument_add(struct arguments *arguments, const char *text)
{
    CR_ASSERT(arguments->count + 1 < ARGUMENTS_MAX);
    arguments->list.given[arguments->count++] = text;
}

static void argument_number(struct arguments *arguments, const char *name, long long number)
{
    if (number <= 0)
        return;
    char *text = arguments->numbers[arguments->number_count++];
    (void)snprintf(text, NUMBER_CHARS, "%lld", number);
    argument_add(arguments, name);
    argument_add(arguments, text);
}

static void arguments_make(const struct cr_room *room, struct arguments *out)
{
    memset(out, 0, sizeof *out);
    argument_add(out, "cloakroom");
    argument_add(out, "agent");
    argument_add(out, "--store");
    argument_add(out, "-");
    argument_add(out, "--state");
    argument_add(out, room->state);
    argument_add(out, "--config"); /* the application's own, whatever this host's service is */
    argument_add(out, "/dev/null");
    argument_add(out, "--auto");
    argument_add(out, "--ready-fd");
    argument_add(out, "3");
    argument_add(out, "--realm");
    argument_add(out, room->realm);
    argument_add(out, "--cache");
    argument_add(out, cache_name(room->cache));
    argument_number(out, "--cache-bytes", (long long)room->cache_bytes);
    argument_number(out, "--idle-ms", room->idle);
    argument_number(out, "--absolute-ms", room->absolute);
}

static int attributes_make(posix_spawnattr_t *attributes)
{
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    int failed = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGDEF |
                                                          POSIX_SPAWN_SETSIGMASK);
    if (failed == 0)
        failed = posix_spawnattr_setsigmask(attributes, &none);
    if (failed == 0)
        failed = posix_spawnattr_setsigdefault(attributes, &all);
    return failed;
}

static int actions_make(posix_spawn_file_actions_t *actions, int url_fd, int ready_fd)
{
    /* Both are above 3 (see pipes_make), so neither is overwritten before it is used. */
    int failed = posix_spawn_file_actions_adddup2(actions, url_fd, STDIN_FILENO);
    if (failed == 0)
        failed = posix_spawn_file_actions_addopen(actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    if (failed == 0)
        failed = posix_spawn_file_actions_addopen(actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    if (failed == 0)
        failed = posix_spawn_file_actions_adddup2(actions, ready_fd, READY_FD);
    if (failed == 0)
        failed = posix_spawn_file_actions_addclosefrom_np(actions, READY_FD + 1);
    if (failed == 0)
        failed = posix_spawn_file_actions_addchdir_np(actions, "/");
    return failed;
}

/* Both ends above the descriptors that the child gets. */
static bool pipe_make(int out[2])
{
    int low[2];
    if (pipe2(low, O_CLOEXEC) != 0)
        return false;
    for (int i = 0; i < 2; i++) {
        out[i] = fcntl(low[i], F_DUPFD_CLOEXEC, READY_FD + 1);
        close(low[i]);
    }
    return out[0] >= 0 && out[1] >= 0;
}

static void pipe_close(int ends[2])
{
    for (int i = 0; i < 2; i++) {
        if (ends[i] >= 0)
            close(ends[i]);
        ends[i] = -1;
    }
}

/* A URL fits in a pipe's buffer, so writing it does not wait for the child. */
static bool url_write(int fd, const char *url)
{
    size_t length = strlen(url);
    return length < PIPE_BUF - 1 && write(fd, url, length) == (ssize_t)length &&
           write(fd, "\n", 1) == 1;
}

static int program_run(const struct cr_room *room, int url_fd, int ready_fd, pid_t *out_pid)
{
    char beside[PATH_MAX];
    char *environment[INHERITED_COUNT + 1];
    struct arguments arguments;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_t actions;
    environment_make(environment);
    arguments_make(room, &arguments);
    int failed = posix_spawnattr_init(&attributes);
    if (failed != 0)
        return failed;
    failed = posix_spawn_file_actions_init(&actions);
    if (failed != 0) {
        posix_spawnattr_destroy(&attributes);
        return failed;
    }
    failed = attributes_make(&attributes);
    if (failed == 0)
        failed = actions_make(&actions, url_fd, ready_fd);
    if (failed == 0)
        failed = posix_spawnp(out_pid, program_find(room, beside), &actions, &attributes,
                              arguments.list.plain, environment);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return failed;
}

static bool root_is_refused(const struct cr_room *room, struct cr_error *out_error)
{
    if (geteuid() != 0)
        return false;
    cr_room_error(
        out_error, CR_E_REFUSED,
        "no agent serves this store (%s), and root does not start one by itself: the "
        "workers of other users could not use it. Start one as a service (cloakroom agent "
        "--store URL --state DIR) and open cloakroom://DIR/app.sock, run this program as "
        "another user, or open in direct mode if it stays the only process",
        room->link.path);
    return true;
}

enum cr_status cr_room_spawn(struct cr_room *room, struct cr_error *out_error)
{
    int url[2] = {-1, -1}, ready[2] = {-1, -1};
    enum cr_status st = CR_E_LIMIT;
    pid_t pid = 0;
    if (root_is_refused(room, out_error))
        return CR_E_REFUSED;
    if (!pipe_make(url) || !pipe_make(ready) || !url_write(url[1], room->url)) {
        cr_room_error(out_error, st, "cannot make what an agent is started with: %s",
                      strerror(errno));
        goto out;
    }
    int failed = program_run(room, url[0], ready[1], &pid);
    if (failed != 0) {
        char beside[PATH_MAX];
        st = CR_E_REFUSED;
        cr_room_error(out_error, st,
                      "no agent serves this store, and starting one failed: %s: %s. Install the "
                      "program cloakroom, or name it with options.program",
                      program_find(room, beside), strerror(failed));
        goto out;
    }
    (void)fcntl(ready[0], F_SETFL, O_NONBLOCK);
    room->link.ready_fd = ready[0];
    room->link.starter = pid;
    ready[0] = -1;
    st = CR_OK;
out:
    pipe_close(url);
    pipe_close(ready);
    return st;
}

enum cr_status cr_room_spawned(struct cr_room *room, struct cr_error *out_error)
{
    char line[sizeof out_error->text + 16];
    /* One write of less than PIPE_BUF: it is there whole, or not at all. */
    ssize_t got = read(room->link.ready_fd, line, sizeof line - 1);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return CR_ASK;
    line[got > 0 ? got : 0] = '\0';
    line[strcspn(line, "\n")] = '\0';
    if (strcmp(line, "READY=1") == 0)
        return CR_OK;
    char *text = line;
    long number = strtol(line, &text, 10);
    if (text == line || *text != ' ' || number <= 0 || number > CR_CHANGE_FIRST) {
        cr_room_error(out_error, CR_UNAVAILABLE,
                      "the agent that was started ended before it was ready; its log is "
                      "%s/agent.log",
                      room->state);
        return CR_UNAVAILABLE;
    }
    cr_room_error(out_error, (enum cr_status)number, "%s", text + 1);
    return (enum cr_status)number;
}
