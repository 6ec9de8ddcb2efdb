/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Start-up checks (COORDINATION.md, section 4) about processes: would what one process keeps for
 * itself be wrong with the others that serve beside it? Facts are gathered in one place and judged
 * in another, so that tests give facts. Both are for direct mode: with an agent there is one table
 * for all.
 */
#ifndef COORD_CHECKS_H
#define COORD_CHECKS_H

#include <cloakroom/room.h>

#define CR_CHECK_COMMAND_CHARS_MAX 255

struct cr_check_facts {
    /* Said by whoever opens; the rest is gathered. */
    enum cr_cache cache;       /* NONE or MEMORY: DEFAULT and SHARED are decided before */
    bool store_is_private;     /* memory: dies with the process, and nobody shares it */
    bool store_is_exclusive;   /* sqlite: only one process gets it */
    unsigned declared_workers; /* cr_options.declared_workers; not 0: the rest is not asked */

    long pid, parent;
    unsigned environment_workers; /* 0: not set */
    const char *environment_name; /* where that was said: "WEB_CONCURRENCY" */
    unsigned command_workers;     /* from the command line of a server above us; 0: none said */
    char command[CR_CHECK_COMMAND_CHARS_MAX + 1]; /* that command line; "": no server known to us */
    const char *server;                           /* its name ("gunicorn"); NULL: none */
    long command_pid;
    /* Workers of the same server, started together with this one; asked for separately. */
    unsigned siblings;
    long sibling; /* one of them */

    /* Another process that has the same thing open. 0: none. */
    long other;
    char other_command[CR_CHECK_COMMAND_CHARS_MAX + 1];
};

/* Looks at the environment and /proc; keeps the fields of whoever opens. CR_OK also where /proc
 * cannot be read: what cannot be seen is not held against anybody. */
CR_MUST_CHECK enum cr_status cr_check_facts_gather(struct cr_check_facts *facts);

/* Looks for other workers of the same server beside this process, where nobody said how many there
 * are: a configuration file, or workers=4 in a program, stand in no command line. A process that
 * has only just been started waits until it is 0.3 s old, so that also the first sees the others.
 */
void cr_check_facts_siblings(struct cr_check_facts *facts);

/* The process `pid`, as another that has the same thing open. */
void cr_check_facts_other(struct cr_check_facts *facts, long pid);

/* Reads a server's command line, `count` bytes of arguments that each end with a NUL, into
 * `command`, `server` and `command_workers`. False: no server that we know. Pure. */
bool cr_check_command_read(struct cr_check_facts *facts, const char *arguments, size_t count);

/* CR-101. Judges what was gathered: CR_OK, or CR_E_REFUSED with what was seen, what would happen
 * and how to mend it. Pure. `out_error` may be NULL. */
CR_MUST_CHECK enum cr_status cr_check_processes(const struct cr_check_facts *facts,
                                                struct cr_error *out_error);

/*
 * A store that lives in this process has no lock of its own; this one is for it. Taken by the first
 * process of those that the same parent started with the same program and arguments, and free the
 * moment that one dies; the same process may take it again. CR_OK: *out_fd is to be closed with the
 * room; -1 where there is no place for such a file. CR_BUSY: *out_holder has it.
 */
CR_MUST_CHECK enum cr_status cr_check_alone_take(int *out_fd, long *out_holder);

#endif
