/* SPDX-License-Identifier: Apache-2.0 */
/* What sessions hold. */
#include "methods.h"

#include "convert.h"
#include "errors.h"

static PyObject *read_finish(struct crpy_call *call, struct cr_call *begun)
{
    size_t bytes = 0;
    uint64_t version = 0;
    PyObject *row = NULL;
    enum cr_status st;
    void *data = PyMem_Malloc(CR_DATA_BYTES_MAX);
    if (data == NULL) {
        cr_call_cancel(begun);
        return PyErr_NoMemory();
    }
    PyThreadState *saved = PyEval_SaveThread();
    st = cr_data_read_finish(begun, data, CR_DATA_BYTES_MAX, &bytes, &version);
    PyEval_RestoreThread(saved);
    if (st == CR_OK)
        row = Py_BuildValue("y#K", data, (Py_ssize_t)bytes, (unsigned long long)version);
    else
        crpy_raise(call->core->state, st, NULL);
    PyMem_Free(data);
    return row;
}

PyObject *crpy_begin_read(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct crpy_core *core = crpy_core_of(self);
    struct cr_call *begun = NULL;
    struct cr_session_id id;
    enum cr_status st;
    if (!crpy_count("begin_read", count, 1) || !crpy_id(core->state, args[0], &id))
        return NULL;
    struct cr_room *room = crpy_core_enter(core);
    if (room == NULL)
        return NULL;
    PyThreadState *saved = PyEval_SaveThread();
    st = cr_data_read_begin(room, &id, &begun);
    PyEval_RestoreThread(saved);
    return crpy_call_begun(core, st, begun, read_finish, NULL, 0);
}

static PyObject *write_finish(struct crpy_call *call, struct cr_call *begun)
{
    uint64_t version = 0;
    enum cr_status st;
    PyThreadState *saved = PyEval_SaveThread();
    st = cr_data_write_finish(begun, &version);
    PyEval_RestoreThread(saved);
    if (st != CR_OK)
        return crpy_raise(call->core->state, st, NULL);
    return PyLong_FromUnsignedLongLong(version);
}

PyObject *crpy_begin_write(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct crpy_core *core = crpy_core_of(self);
    struct cr_call *begun = NULL;
    struct cr_session_id id;
    uint64_t version;
    const void *data;
    size_t bytes;
    enum cr_status st;
    if (!crpy_count("begin_write", count, 3) || !crpy_id(core->state, args[0], &id) ||
        !crpy_version(core->state, args[1], &version) ||
        !crpy_bytes(core->state, "data", args[2], CR_DATA_BYTES_MAX, &data, &bytes))
        return NULL;
    struct cr_room *room = crpy_core_enter(core);
    if (room == NULL)
        return NULL;
    PyThreadState *saved = PyEval_SaveThread();
    st = cr_data_write_begin(room, &id, version, data, bytes, &begun);
    PyEval_RestoreThread(saved);
    return crpy_call_begun(core, st, begun, write_finish, NULL, 0);
}

static PyObject *rights_finish(struct crpy_call *call, struct cr_call *begun)
{
    enum cr_status st;
    PyThreadState *saved = PyEval_SaveThread();
    st = cr_rights_write_finish(begun);
    PyEval_RestoreThread(saved);
    if (st != CR_OK)
        return crpy_raise(call->core->state, st, NULL);
    return Py_NewRef(Py_None);
}

PyObject *crpy_begin_rights(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct crpy_core *core = crpy_core_of(self);
    struct cr_call *begun = NULL;
    struct cr_session_id id;
    const void *rights;
    size_t bytes;
    enum cr_status st;
    if (!crpy_count("begin_rights", count, 2) || !crpy_id(core->state, args[0], &id) ||
        !crpy_bytes(core->state, "rights", args[1], CR_RIGHTS_BYTES_MAX, &rights, &bytes))
        return NULL;
    struct cr_room *room = crpy_core_enter(core);
    if (room == NULL)
        return NULL;
    PyThreadState *saved = PyEval_SaveThread();
    st = cr_rights_write_begin(room, &id, rights, bytes, &begun);
    PyEval_RestoreThread(saved);
    return crpy_call_begun(core, st, begun, rights_finish, NULL, 0);
}
