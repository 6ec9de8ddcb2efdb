/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `cloakroom lock NAME -- COMMAND`: runs a command while holding a named lock, and ends it when the
 * lock is lost.
 *
 * The command stays in our process group, so that a terminal treats the two as one: what the
 * terminal sends reaches both, and only what others send is passed on. When we are killed the
 * kernel ends it, as nothing else could (SIGTERM).
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "cmd/command.h"

#define LOOK_MS 250       /* how often trust is looked at, if nothing comes */
#define TERM_MS 5000      /* from SIGTERM to SIGKILL */
#define TAKE_MS 3600000LL /* one call of a wait that has no end */
#define NO_WAIT_END (-1)
#define KEY_WAIT 0x200

static error_t lock_parse(int key, char *argument, struct argp_state *state)
{
    cr_span_ms *wait_ms = state->input;
    if (key != KEY_WAIT)
        return ARGP_ERR_UNKNOWN;
    if (!cr_span_read(argument, wait_ms) || *wait_ms > CR_SPAN_MS_MAX)
        argp_error(state, "--wait takes 0 or a length of time such as 90s or 5m, not '%s'",
                   argument);
    return 0;
}

struct holder {
    struct cr_room *room;
    struct cr_lock *lock;
    pid_t child;
    int signal_fd;
    bool is_lost;
    cr_boot_ns kill_at; /* 0: not told to end */
};

static const int passed_on[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM};

static sigset_t held_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    for (size_t i = 0; i < sizeof passed_on / sizeof passed_on[0]; i++)
        sigaddset(&set, passed_on[i]);
    return set;
}

/* In the child. */
static _Noreturn void command_become(char **words, uint64_t fence, pid_t parent,
                                     const sigset_t *signals)
{
    char text[32];
    snprintf(text, sizeof text, "%" PRIu64, fence);
    setenv("CLOAKROOM_FENCE", text, 1);
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_SETMASK, signals, NULL);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(CR_EXIT_LOCK_LOST); /* died before we could say what is to happen then */
    execvp(words[0], words);
    int error = errno;
    cr_complain("%s: %s", words[0], strerror(error));
    _exit(error == ENOENT ? 127 : 126);
}

static void holder_signal(struct holder *h)
{
    struct signalfd_siginfo info;
    while (read(h->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        /* The terminal has sent it to the command already. */
        if ((int)info.ssi_signo != SIGCHLD && info.ssi_code <= 0)
            kill(h->child, (int)info.ssi_signo);
    }
}

static void holder_look(struct holder *h)
{
    cr_boot_ns now = cr_clock_boot(cr_clock_system());
    cr_room_poll(h->room);
    if (!h->is_lost && cr_lock_check(h->lock) != CR_OK) {
        h->is_lost = true;
        h->kill_at = cr_boot_add(now, TERM_MS);
        cr_complain("the lock is lost: ending the command");
        kill(h->child, SIGTERM);
        kill(h->child, SIGCONT); /* a stopped one would not hear it */
    } else if (h->kill_at != 0 && now >= h->kill_at) {
        h->kill_at = 0;
        kill(h->child, SIGKILL);
    }
}

/* Until the command has ended. Its status as a shell has it. */
static int holder_run(struct holder *h)
{
    for (;;) {
        int status = 0;
        pid_t ended = waitpid(h->child, &status, WNOHANG);
        if (ended == h->child)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        if (ended < 0 && errno != EINTR)
            return CR_EXIT_FAILED;
        struct pollfd fds[] = {{.fd = h->signal_fd, .events = POLLIN},
                               {.fd = cr_room_fd(h->room), .events = POLLIN}};
        if (poll(fds, 2, LOOK_MS) > 0 && fds[0].revents != 0)
            holder_signal(h);
        holder_look(h);
    }
}

static int lock_run(struct cr_room *room, struct cr_lock *lock, char **words)
{
    struct holder h = {.room = room, .lock = lock};
    sigset_t before;
    sigset_t held = held_signals();
    pid_t self = getpid();
    int exit_status = CR_EXIT_FAILED;
    sigprocmask(SIG_BLOCK, &held, &before);
    h.signal_fd = signalfd(-1, &held, SFD_CLOEXEC | SFD_NONBLOCK);
    if (h.signal_fd < 0)
        goto out;
    fflush(NULL);
    h.child = fork();
    if (h.child == 0)
        command_become(words, cr_lock_fence(lock), self, &before);
    if (h.child < 0)
        goto out;
    exit_status = holder_run(&h);
    if (h.is_lost)
        exit_status = CR_EXIT_LOCK_LOST;
    close(h.signal_fd);
    return exit_status;
out:
    cr_complain("%s: %s", words[0], strerror(errno));
    if (h.signal_fd >= 0)
        close(h.signal_fd);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return exit_status;
}

static enum cr_status lock_take(struct cr_room *room, const char *name, cr_span_ms wait_ms,
                                struct cr_lock **out_lock)
{
    enum cr_status st = CR_BUSY;
    if (wait_ms != NO_WAIT_END)
        return cr_lock_take(room, name, wait_ms, out_lock);
    while (st == CR_BUSY)
        st = cr_lock_take(room, name, TAKE_MS, out_lock);
    return st;
}

int cr_cmd_lock(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {.name = "wait",
         .key = KEY_WAIT,
         .arg = "SPAN",
         .doc =
             "wait for the lock at most so long (0: not at all); without it, as long as it takes"},
        {0}};
    static const struct cr_form form = {
        .words_text = "NAME -- COMMAND [ARGUMENT...]",
        .text = "Run a command while holding the lock NAME, and exit with its status. The command "
                "finds the lock's fence, a number that rises with every holder, in "
                "CLOAKROOM_FENCE. It is ended when the lock is lost."
                "\vExamples:\n  cloakroom lock nightly --wait 0 -- ./report.sh\n"
                "  cloakroom lock scheduler -- python3 -m app.scheduler\n\n"
                "Exit status: the command's, 75 when the lock was not got, 74 when it was lost.",
        .words_least = 2,
        .words_most = -1,
        .settings = cr_place_rows,
        .options = options,
        .parser = lock_parse};
    struct cr_place place;
    cr_span_ms wait_ms = NO_WAIT_END;
    struct cr_lock *lock = NULL;
    int exit_status = CR_EXIT_FAILED;
    cr_form_read(&form, argc, argv, &place, &wait_ms);
    const char *name = place.words[0];
    if (name[0] == '\0' || strlen(name) > CR_LOCK_NAME_BYTES_MAX) {
        cr_complain("the name of a lock has 1 to %d bytes", CR_LOCK_NAME_BYTES_MAX);
        return CR_EXIT_USAGE;
    }
    struct cr_room *room = cr_place_open(&place, &exit_status);
    if (room == NULL)
        return exit_status;
    enum cr_status st = lock_take(room, name, wait_ms, &lock);
    if (st == CR_OK) {
        exit_status = lock_run(room, lock, place.words + 1);
        cr_lock_give(lock);
    } else if (st == CR_BUSY) {
        cr_complain("%s is held by another", name);
        exit_status = CR_EXIT_LATER;
    } else {
        exit_status = cr_fail(name, st);
    }
    cr_close(room);
    return exit_status;
}
