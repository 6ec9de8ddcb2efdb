/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One process that the supervisor keeps: started, watched, started again. The first time at once,
 * then ever later while it keeps dying young.
 */
#ifndef SERVER_CHILD_H
#define SERVER_CHILD_H

#include <sys/types.h>

#include "base/clock.h"

struct cr_child {
    pid_t pid;         /* 0: not running */
    cr_boot_ns due;    /* when to start it, while it does not run; 0: at once */
    cr_boot_ns since;  /* when it was started */
    unsigned failures; /* in a row, each soon after the start */
};

/* As whom, where it is not the caller. */
struct cr_child_user {
    const char *name; /* whose groups it gets */
    uid_t uid;
    gid_t gid;
};

/* How to run it. */
struct cr_child_command {
    const char *program;              /* NULL: the present one */
    const char *const *arguments;     /* argv, ended by NULL */
    int input;                        /* its standard input; -1: nothing to read */
    int death_signal;                 /* what it gets when the caller dies */
    int inherited;                    /* becomes its descriptor 3 */
    const struct cr_child_user *user; /* NULL: the caller's */
};

/* It has no signals blocked, is no part of the terminal's foreground group, has no other descriptor
 * of ours, none of the capabilities that were given to us, and can never get more rights than it
 * has. CR_E_IO. */
CR_MUST_CHECK enum cr_status cr_child_start(struct cr_child *child,
                                            const struct cr_child_command *command, cr_boot_ns now);

/* Whether this process may start one as somebody else: root may, and who has CAP_SETUID and
 * CAP_SETGID. */
CR_MUST_CHECK bool cr_child_user_allowed(void);

/* Whether it has ended; *out_status is waitpid's. Sets when to start it again. */
CR_MUST_CHECK bool cr_child_ended(struct cr_child *child, cr_boot_ns now, int *out_status);

/* For the log: "signal 9", "exit code 1". */
void cr_child_how(int status, char *out, size_t capacity);

#endif
