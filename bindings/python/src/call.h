/* SPDX-License-Identifier: Apache-2.0 */
/* _core.Call: a request under way, or one that could be answered at once. */
#ifndef PYTHON_CALL_H
#define PYTHON_CALL_H

#include "core.h"

/* How an answer becomes Python's: takes `begun` over, and returns a new reference or raises. Called
 * inside (crpy_core_enter), once the answer is there. */
typedef PyObject *crpy_finish(struct crpy_call *call, struct cr_call *begun);

enum crpy_call_state {
    CRPY_CALL_BEGUN,
    CRPY_CALL_ANSWERED, /* without having been begun: `answer` */
    CRPY_CALL_WAITED,   /* a thread is in result() */
    CRPY_CALL_TAKEN,    /* its result was */
    CRPY_CALL_GIVEN_UP, /* by cancel() */
    CRPY_CALL_CLOSED,   /* the room was closed */
    CRPY_CALL_LEFT,     /* a thread of the process that this one was forked from waits for it */
};

struct crpy_call {
    PyObject_HEAD struct crpy_core *core;
    struct crpy_call *prev, *next; /* in core->calls while BEGUN or WAITED */
    enum crpy_call_state state;
    struct cr_call *begun;
    PyObject *answer;
    /* What its finish needs to know: */
    crpy_finish *finish;
    PyObject *given; /* may be NULL */
    long long number;
};

extern PyType_Spec crpy_call_spec;

/* Inside, and both leave, also when they fail. A call that was begun with `status`, which is raised
 * if it was not. `given`, of which a reference is taken, and `number` are for its finish. */
PyObject *crpy_call_begun(struct crpy_core *core, enum cr_status status, struct cr_call *begun,
                          crpy_finish *finish, PyObject *given, long long number);
/* A call with its answer, which is taken over; NULL: an exception is set. */
PyObject *crpy_call_answered(struct crpy_core *core, PyObject *answer);

/* For the core. */
void crpy_calls_close(struct crpy_core *core);
void crpy_calls_forked(struct crpy_core *core);
/* Appends those that are answered and of which it was not said yet. With the interpreter's lock,
 * and so is every call freed that is in the library's queue: what comes out of that is there. */
bool crpy_calls_answered(struct cr_room *room, PyObject *list);

#endif
