/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Validations. What is in the table of this process is answered where it is asked: no lock is let
 * go, nothing is waited for. A miss asks the agent.
 */
#include "methods.h"

#include <stdlib.h>

#include "convert.h"
#include "errors.h"
#include "session.h"

static bool is_over(enum cr_status status)
{
    return status == CR_NOT_FOUND || status == CR_ENDED;
}

/* The session with its long data, which are read by themselves; inside. */
static PyObject *session_whole(struct crpy_core *core, struct cr_room *room,
                               struct cr_session *session)
{
    struct cr_call *begun;
    size_t bytes = 0;
    PyObject *result = NULL;
    if (crpy_session_is_whole(session))
        return crpy_session_new(core->state, session, NULL, 0);
    void *data = PyMem_Malloc(CR_DATA_BYTES_MAX);
    if (data == NULL)
        return PyErr_NoMemory();
    enum cr_status st;
    PyThreadState *saved = PyEval_SaveThread();
    st = cr_data_read_begin(room, &session->id, &begun);
    PyEval_RestoreThread(saved);
    if (st == CR_OK) {
        if (!crpy_core_wait(core, begun))
            goto out;
        saved = PyEval_SaveThread();
        st = cr_data_read_finish(begun, data, CR_DATA_BYTES_MAX, &bytes, &session->version);
        PyEval_RestoreThread(saved);
    }
    session->data_bytes = bytes;
    if (st == CR_OK)
        result = crpy_session_new(core->state, session, data, bytes);
    else if (is_over(st))
        result = Py_NewRef(Py_None);
    else
        crpy_raise(core->state, st, NULL);
out:
    PyMem_Free(data);
    return result;
}

/* What the table has not; inside. */
static PyObject *validate_ask(struct crpy_core *core, struct cr_room *room,
                              const struct cr_token *token)
{
    struct cr_call *begun;
    struct cr_session session;
    enum cr_status st;
    session.size = sizeof session;
    PyThreadState *saved = PyEval_SaveThread();
    st = cr_validate_begin(room, token, false, &begun);
    PyEval_RestoreThread(saved);
    if (st == CR_OK) {
        if (!crpy_core_wait(core, begun))
            return NULL;
        saved = PyEval_SaveThread();
        st = cr_validate_finish(begun, &session);
        PyEval_RestoreThread(saved);
    }
    if (st == CR_OK)
        return session_whole(core, room, &session);
    if (is_over(st))
        return Py_NewRef(Py_None);
    return crpy_raise(core->state, st, NULL);
}

/* The rest of it, out of the way of a hit. */
static __attribute__((noinline)) PyObject *validate_missed(struct crpy_core *core,
                                                           const struct cr_token *token)
{
    struct cr_room *room = crpy_core_enter(core);
    if (room == NULL)
        return NULL;
    PyObject *result = validate_ask(core, room, token);
    crpy_core_leave(core);
    return result;
}

static __attribute__((noinline)) PyObject *validate_long(struct crpy_core *core,
                                                         struct cr_session *session)
{
    struct cr_room *room = crpy_core_enter(core);
    if (room == NULL)
        return NULL;
    PyObject *result = session_whole(core, room, session);
    crpy_core_leave(core);
    return result;
}

PyObject *crpy_validate(PyObject *self, PyObject *value)
{
    struct crpy_core *core = crpy_core_of(self);
    struct cr_room *room = crpy_core_room(core);
    struct cr_session session; /* 5 KiB of which little is written: not cleared */
    struct cr_token token;
    bool is_token;
    if (room == NULL || !crpy_token_text(value, &token, &is_token))
        return NULL;
    if (!is_token)
        return Py_NewRef(Py_None);
    session.size = sizeof session;
    if (cr_validate_cached(room, &token, &session) != CR_OK)
        return validate_missed(core, &token);
    return crpy_session_is_whole(&session) ? crpy_session_new(core->state, &session, NULL, 0)
                                           : validate_long(core, &session);
}

PyObject *crpy_validate_cached(PyObject *self, PyObject *value)
{
    struct crpy_core *core = crpy_core_of(self);
    struct cr_room *room = crpy_core_room(core);
    struct cr_session session;
    struct cr_token token;
    bool is_token;
    if (room == NULL || !crpy_token_text(value, &token, &is_token))
        return NULL;
    session.size = sizeof session;
    if (!is_token || cr_validate_cached(room, &token, &session) != CR_OK)
        return Py_NewRef(Py_None);
    return crpy_session_new(core->state, &session, NULL, 0);
}

/* Many. */

struct many {
    size_t count; /* of what are tokens */
    struct cr_token tokens[CR_VALIDATE_MANY_MAX];
    struct cr_session sessions[CR_VALIDATE_MANY_MAX];
    enum cr_status statuses[CR_VALIDATE_MANY_MAX];
    Py_ssize_t places[CR_VALIDATE_MANY_MAX];
};

/* The list may change while the lock is let go, so its texts are taken first. */
static bool many_take(struct many *many, PyObject *list, Py_ssize_t count)
{
    many->count = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        bool is_token;
        if (!crpy_token_text(PyList_GetItem(list, i), &many->tokens[many->count], &is_token))
            return false;
        if (!is_token)
            continue;
        many->sessions[many->count].size = sizeof many->sessions[0];
        many->places[many->count] = i;
        many->count++;
    }
    return true;
}

static bool many_give(struct crpy_core *core, struct cr_room *room, struct many *many,
                      PyObject *list)
{
    for (size_t i = 0; i < many->count; i++) {
        enum cr_status st = many->statuses[i];
        if (is_over(st))
            continue;
        if (st != CR_OK) {
            crpy_raise(core->state, st, NULL);
            return false;
        }
        PyObject *session = session_whole(core, room, &many->sessions[i]);
        if (session == NULL || PyList_SetItem(list, many->places[i], session) != 0)
            return false;
    }
    return true;
}

static PyObject *list_of_none(Py_ssize_t count)
{
    PyObject *list = PyList_New(count);
    for (Py_ssize_t i = 0; list != NULL && i < count; i++)
        if (PyList_SetItem(list, i, Py_NewRef(Py_None)) != 0)
            Py_CLEAR(list);
    return list;
}

static PyObject *many_run(struct crpy_core *core, struct cr_room *room, struct many *many,
                          Py_ssize_t count)
{
    enum cr_status st;
    PyObject *list = list_of_none(count);
    if (list == NULL)
        return NULL;
    PyThreadState *saved = PyEval_SaveThread();
    st = cr_validate_many(room, many->tokens, many->count, many->sessions, many->statuses);
    PyEval_RestoreThread(saved);
    if (st != CR_OK)
        crpy_raise(core->state, st, NULL);
    if (st != CR_OK || !many_give(core, room, many, list))
        Py_CLEAR(list);
    return list;
}

PyObject *crpy_validate_many(PyObject *self, PyObject *tokens)
{
    struct crpy_core *core = crpy_core_of(self);
    PyObject *result = NULL;
    if (!PyList_Check(tokens)) {
        PyErr_SetString(PyExc_TypeError, "tokens: a list of str");
        return NULL;
    }
    Py_ssize_t count = PyList_Size(tokens);
    if (count > CR_VALIDATE_MANY_MAX)
        return crpy_raise_format(core->state, CRPY_InvalidArgument, CR_E_INVALID,
                                 "tokens: %zd, where at most %d are taken at once", count,
                                 CR_VALIDATE_MANY_MAX);
    struct many *many = PyMem_Malloc(sizeof *many);
    if (many == NULL)
        return PyErr_NoMemory();
    struct cr_room *room = many_take(many, tokens, count) ? crpy_core_enter(core) : NULL;
    if (room != NULL) {
        result = many_run(core, room, many, count);
        crpy_core_leave(core);
    }
    PyMem_Free(many);
    return result;
}

/* Begun. */

static PyObject *validate_finish(struct crpy_call *call, struct cr_call *begun)
{
    struct cr_session session;
    enum cr_status st;
    session.size = sizeof session;
    PyThreadState *saved = PyEval_SaveThread();
    st = cr_validate_finish(begun, &session);
    PyEval_RestoreThread(saved);
    if (st == CR_OK)
        return crpy_session_new(call->core->state, &session, NULL, 0);
    if (is_over(st))
        return Py_NewRef(Py_None);
    return crpy_raise(call->core->state, st, NULL);
}

PyObject *crpy_begin_validate(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct crpy_core *core = crpy_core_of(self);
    struct cr_call *begun = NULL;
    struct cr_token token;
    enum cr_status st;
    bool is_token, strict;
    if (!crpy_count("begin_validate", count, 2) || !crpy_token_text(args[0], &token, &is_token) ||
        !crpy_flag(args[1], &strict))
        return NULL;
    struct cr_room *room = crpy_core_enter(core);
    if (room == NULL)
        return NULL;
    if (!is_token)
        return crpy_call_answered(core, Py_NewRef(Py_None));
    PyThreadState *saved = PyEval_SaveThread();
    st = cr_validate_begin(room, &token, strict, &begun);
    PyEval_RestoreThread(saved);
    return crpy_call_begun(core, st, begun, validate_finish, NULL, 0);
}

static PyObject *touch_finish(struct crpy_call *call, struct cr_call *begun)
{
    enum cr_status st;
    PyThreadState *saved = PyEval_SaveThread();
    st = cr_touch_finish(begun);
    PyEval_RestoreThread(saved);
    if (st != CR_OK)
        return crpy_raise(call->core->state, st, NULL);
    return Py_NewRef(Py_None);
}

PyObject *crpy_begin_touch(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct crpy_core *core = crpy_core_of(self);
    struct cr_call *begun = NULL;
    struct cr_token token;
    enum cr_status st;
    if (!crpy_count("begin_touch", count, 1) || !crpy_token(core->state, args[0], &token))
        return NULL;
    struct cr_room *room = crpy_core_enter(core);
    if (room == NULL)
        return NULL;
    PyThreadState *saved = PyEval_SaveThread();
    st = cr_touch_begin(room, &token, &begun);
    PyEval_RestoreThread(saved);
    return crpy_call_begun(core, st, begun, touch_finish, NULL, 0);
}
