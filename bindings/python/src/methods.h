/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The methods of _core.Core, each as _core.pyi says, by the files that they stand in. A `begin`
 * asks without the interpreter's lock, and returns a Call; beside it stands how its answer becomes
 * Python's.
 */
#ifndef PYTHON_METHODS_H
#define PYTHON_METHODS_H

#include "call.h"

typedef PyObject *crpy_method(PyObject *self, PyObject *const *args, Py_ssize_t count);

/* validate.c */
PyObject *crpy_validate(PyObject *self, PyObject *value);
PyObject *crpy_validate_cached(PyObject *self, PyObject *value);
PyObject *crpy_validate_many(PyObject *self, PyObject *tokens);
crpy_method crpy_begin_validate, crpy_begin_touch;

/* logins.c */
crpy_method crpy_begin_login, crpy_begin_create, crpy_begin_rotate;

/* data.c */
crpy_method crpy_begin_read, crpy_begin_write, crpy_begin_rights;

/* endings.c */
crpy_method crpy_begin_end, crpy_begin_end_user, crpy_begin_end_others, crpy_begin_end_all;

/* views.c */
crpy_method crpy_begin_sessions, crpy_begin_explain, crpy_begin_stats;

/* table.c */
PyObject *crpy_lookup(PyObject *self, PyObject *value);
crpy_method crpy_begin_lookup, crpy_begin_ticket, crpy_begin_fill, crpy_begin_invalidate;

/* lock.c */
PyObject *crpy_begin_fence(PyObject *self, PyObject *value);
crpy_method crpy_begin_lock;

static inline struct crpy_core *crpy_core_of(PyObject *self)
{
    return (struct crpy_core *)(void *)self;
}

#endif
