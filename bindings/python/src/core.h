/* SPDX-License-Identifier: Apache-2.0 */
/*
 * _core.Core: a room, and what is under way in it.
 *
 * The interpreter's lock guards all fields. It is let go while the library may wait, so a thread
 * that is inside is counted, and whoever closes the room leaves it to the last of them. A forked
 * child has none of the parent's other threads: it counts anew, and what they were in the middle of
 * is left to lie.
 */
#ifndef PYTHON_CORE_H
#define PYTHON_CORE_H

#include "state.h"

#include <sys/types.h>

#include <cloakroom/room.h>

struct crpy_call;
struct crpy_lock;

struct crpy_core {
    PyObject_HEAD const struct crpy_state *state; /* of the module, which the type keeps */
    struct cr_room *room;                         /* NULL: closed, for whoever comes now */
    struct cr_room *closing;                      /* closed by the last thread that leaves */
    struct crpy_call *calls;                      /* not answered yet, as far as Python knows */
    struct crpy_lock *locks;
    size_t inside;   /* threads in the library without the interpreter's lock */
    size_t handling; /* of those, who run handlers of signals meanwhile: one that forks is in the
                        child, too */
    pid_t pid;       /* of the process that all of this is about */
};

extern PyType_Spec crpy_core_spec;

/* Around everything that lets go of the interpreter's lock: the room; NULL: it is closed
 * (InvalidArgument). */
struct cr_room *crpy_core_enter(struct crpy_core *core);
void crpy_core_leave(struct crpy_core *core);

/* The same for what never lets go of it. */
struct cr_room *crpy_core_room(struct crpy_core *core);

/* Wait for a call that was begun, inside. False, with an exception: a signal's handler raised, and
 * the call has been given up. */
bool crpy_core_wait(struct crpy_core *core, struct cr_call *begun);

#endif
