/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the module keeps for each interpreter: its types, and what it takes from other modules.
 * There are no globals. All of it is made when the module is executed and stays until it goes.
 */
#ifndef PYTHON_STATE_H
#define PYTHON_STATE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* The exceptions of cloakroom.errors, by their names there. */
#define CRPY_ERROR_LIST(X)                                                                         \
    X(Busy)                                                                                        \
    X(CloakroomError)                                                                              \
    X(Conflict)                                                                                    \
    X(DataTooLarge)                                                                                \
    X(Damaged)                                                                                     \
    X(Denied)                                                                                      \
    X(InvalidArgument)                                                                             \
    X(LockLost)                                                                                    \
    X(OtherVersion)                                                                                \
    X(Pending)                                                                                     \
    X(Refused)                                                                                     \
    X(SessionEnded)                                                                                \
    X(Unavailable)                                                                                 \
    X(UnknownOutcome)                                                                              \
    X(UnknownUser)

enum crpy_error {
#define CRPY_ERROR_ENUM(name) CRPY_##name,
    CRPY_ERROR_LIST(CRPY_ERROR_ENUM)
#undef CRPY_ERROR_ENUM
        CRPY_ERROR_COUNT
};

struct crpy_state {
    PyTypeObject *session_type, *call_type, *core_type, *lock_type;
    PyObject *errors[CRPY_ERROR_COUNT];
    PyObject *from_timestamp; /* datetime.datetime.fromtimestamp */
    PyObject *utc;            /* datetime.timezone.utc */
    PyObject *json_loads;
};

#endif
