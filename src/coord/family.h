/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes beside this one, as /proc shows them: those that the same parent started to do the same
 * work. What cannot be seen is not there.
 */
#ifndef COORD_FAMILY_H
#define COORD_FAMILY_H

#include <cloakroom/types.h>

#include "base/clock.h"

struct cr_process {
    long pid, parent;
    cr_boot_ns started;
    bool dead; /* not yet waited for by its parent */
};

/* False: it is not there, or cannot be seen. */
CR_MUST_CHECK bool cr_process_read(long pid, struct cr_process *out);

/* Its arguments, each ended with a NUL, cut at `capacity` - 1. 0: it has none, or they cannot be
 * seen. */
size_t cr_process_arguments(long pid, char *out, size_t capacity);

/* Whether two command lines, `a_count` and `b_count` bytes of arguments, are those of workers of
 * one server: forked, and so the same; started by Python's multiprocessing; or named by Gunicorn.
 * Pure.
 */
bool cr_family_alike(const char *a, size_t a_count, const char *b, size_t b_count);

/* Whether the arguments are those of a process that Python's multiprocessing started. Pure. */
bool cr_family_is_spawned(const char *arguments, size_t count);

/* Whether `pid` lives, and is a child of this process's parent that does the same work. */
bool cr_family_has(long pid);

/* How many there are besides this process that were started within `span` of it, before or after,
 * and one of them. */
unsigned cr_family_count(cr_span_ms span, long *out_one);

#endif
