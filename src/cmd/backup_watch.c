/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/backup_watch.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cmd/settings.h"

#define LOOKS 10 /* without a step, over the span that is too long */

struct cr_backup_watch {
    atomic_ullong *steps; /* in memory that both processes have */
    pid_t pid;
};

/* It came no further: it goes, and its read of the store with it. */
static _Noreturn void watch_kill(int copier, cr_span_ms stall, const char *name)
{
    char span[32];
    cr_span_write(stall, span, sizeof span);
    if (syscall(SYS_pidfd_send_signal, copier, SIGKILL, NULL, 0) == 0)
        dprintf(STDERR_FILENO,
                "cloakroom: the copy to %s stood still for %s and was ended: while it is made the "
                "store's log cannot be emptied. What there was of it is in %s.partial, and is "
                "written over by the next.\n",
                name, span, name);
    _exit(0);
}

/* Looks are counted, not time: a host that slept, or a group that was frozen, has had both of us
 * stand still, and the copier may have its next step before it is judged. */
static _Noreturn void watch_run(int copier, const atomic_ullong *steps, cr_span_ms stall,
                                const char *name)
{
    struct pollfd gone = {.fd = copier, .events = POLLIN};
    unsigned long long seen = 0;
    int still = 0;
    (void)setsid();
    (void)signal(SIGHUP, SIG_IGN); /* of a terminal: the copier's end is ours */
    (void)close(STDIN_FILENO);
    (void)close(STDOUT_FILENO); /* who reads it waits for the copier alone */
    for (;;) {
        int ended = poll(&gone, 1, (int)(stall / LOOKS > 0 ? stall / LOOKS : 1));
        if (ended > 0)
            _exit(0);
        if (ended < 0)
            continue;
        /* Only a count, for which any order will do. */
        unsigned long long now = atomic_load_explicit(steps, memory_order_relaxed);
        still = now == seen ? still + 1 : 0;
        if (still == LOOKS)
            watch_kill(copier, stall, name);
        seen = now;
    }
}

struct cr_backup_watch *cr_backup_watch_start(cr_span_ms stall, const char *name)
{
    struct cr_backup_watch *watch = calloc(1, sizeof *watch);
    void *memory =
        mmap(NULL, sizeof *watch->steps, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int copier = (int)syscall(SYS_pidfd_open, getpid(), 0);
    pid_t pid = -1;
    /* Where it is ignored, the end of the second process frees its pid before we ask for it. */
    (void)signal(SIGCHLD, SIG_DFL);
    if (watch != NULL && memory != MAP_FAILED && copier >= 0)
        pid = fork();
    if (pid == 0)
        watch_run(copier, memory, stall, name);
    if (copier >= 0)
        (void)close(copier);
    if (pid < 0) {
        if (memory != MAP_FAILED)
            (void)munmap(memory, sizeof *watch->steps);
        free(watch);
        return NULL;
    }
    watch->steps = memory;
    watch->pid = pid;
    return watch;
}

void cr_backup_watch_step(struct cr_backup_watch *watch)
{
    if (watch != NULL)
        (void)atomic_fetch_add_explicit(watch->steps, 1, memory_order_relaxed);
}

void cr_backup_watch_stop(struct cr_backup_watch *watch)
{
    if (watch == NULL)
        return;
    (void)kill(watch->pid, SIGKILL);
    while (waitpid(watch->pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    (void)munmap(watch->steps, sizeof *watch->steps);
    free(watch);
}
