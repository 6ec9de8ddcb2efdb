/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A child process that goes one instruction at a time (ptrace), and copies of it that stand at the
 * same instruction.
 *
 * A copy is made by letting the stopped child fork: for the length of one system call its registers
 * are lent, then both have them back as they were. So a process can be killed, or left standing for
 * long, at each instruction in turn without running to it anew each time.
 */
#ifndef STEPPED_H
#define STEPPED_H

#include <stdbool.h>
#include <sys/types.h>

struct stepped {
    pid_t pid;  /* 0: it has ended */
    int status; /* as of wait, once it has ended */
};

/* NULL: a child can be stepped and copied here. Else why not: the test is to be skipped. */
const char *stepped_refused(void);

/* A child that will run `run`, stopped before it. False: said so. */
bool stepped_start(struct stepped *child, void (*run)(void *), void *context);
/* One instruction. False: it has ended. */
bool stepped_step(struct stepped *child);
/* Until it stops itself, by raise(SIGSTOP). False: it has ended. */
bool stepped_go(struct stepped *child);
/* Until its end. True: it ended by itself, with exit status 0. */
bool stepped_finish(struct stepped *child);
/* A copy at the same instruction, in the same memory as far as that is shared. False: said so. Not
 * of a child that stands in a system call. */
bool stepped_copy(const struct stepped *child, struct stepped *out_copy);
/* By SIGKILL, and waits for its end. Nothing when it has ended. */
void stepped_kill(struct stepped *child);

/* A thread of another process (a descendant's first thread, by the process's id): taken over where
 * it is, stopped. False: not permitted, or gone. Killing it kills its process; that process's
 * parent waits for it. */
bool stepped_seize(struct stepped *thread, pid_t pid);
/* Lets it run on its own again. */
void stepped_release(struct stepped *thread);

#endif
