/* SPDX-License-Identifier: Apache-2.0 */
/* The table in front of an application's own sessions: cloakroom/table.h. */
#include "methods.h"

#include <string.h>

#include <cloakroom/table.h>

#include "convert.h"
#include "errors.h"

struct key {
    const void *bytes;
    size_t count;
};

static bool key_take(const struct crpy_state *state, PyObject *value, struct key *out)
{
    return crpy_bytes(state, "key", value, PY_SSIZE_T_MAX, &out->bytes, &out->count);
}

static PyObject *raise_table(const struct crpy_state *state, enum cr_status status)
{
    return crpy_raise(state, status,
                      status == CR_E_INVALID
                          ? "this room keeps sessions of its own: entries of the application's are "
                            "in the table of \"table:NAME\""
                          : NULL);
}

static PyObject *value_object(const struct crpy_state *state, enum cr_status status,
                              const struct cr_value *value)
{
    if (status == CR_ASK)
        return Py_NewRef(Py_None);
    if (status != CR_OK)
        return raise_table(state, status);
    return Py_BuildValue("Ny#L", crpy_user_object(&value->user), (const char *)value->data,
                         (Py_ssize_t)value->bytes, (long long)value->left);
}

static PyObject *lookup_finish(struct crpy_call *call, struct cr_call *begun)
{
    struct cr_value value;
    enum cr_status st;
    value.size = sizeof value;
    PyThreadState *saved = PyEval_SaveThread();
    st = cr_lookup_finish(begun, &value);
    PyEval_RestoreThread(saved);
    return value_object(call->core->state, st, &value);
}

/* In the table of this process, if there is one. */
static enum cr_status lookup_here(struct cr_room *room, const struct key *key, struct cr_value *out)
{
    out->size = sizeof *out; /* 4 KiB of which little is written: not cleared */
    return cr_lookup_cached(room, key->bytes, key->count, out);
}

PyObject *crpy_begin_lookup(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct crpy_core *core = crpy_core_of(self);
    struct cr_call *begun = NULL;
    struct cr_value value;
    struct key key;
    if (!crpy_count("begin_lookup", count, 1) || !key_take(core->state, args[0], &key))
        return NULL;
    struct cr_room *room = crpy_core_enter(core);
    if (room == NULL)
        return NULL;
    enum cr_status st = lookup_here(room, &key, &value);
    if (st == CR_ASK) {
        PyThreadState *saved = PyEval_SaveThread();
        st = cr_lookup_begin(room, key.bytes, key.count, &begun);
        PyEval_RestoreThread(saved);
    }
    if (begun == NULL)
        return crpy_call_answered(core, value_object(core->state, st, &value));
    return crpy_call_begun(core, st, begun, lookup_finish, NULL, 0);
}

/* Of what is not here; inside. */
static PyObject *lookup_ask(struct crpy_core *core, struct cr_room *room, const struct key *key)
{
    struct cr_value value;
    struct cr_call *begun;
    enum cr_status st;
    value.size = sizeof value;
    PyThreadState *saved = PyEval_SaveThread();
    st = cr_lookup_begin(room, key->bytes, key->count, &begun);
    PyEval_RestoreThread(saved);
    if (st == CR_OK) {
        if (!crpy_core_wait(core, begun))
            return NULL;
        saved = PyEval_SaveThread();
        st = cr_lookup_finish(begun, &value);
        PyEval_RestoreThread(saved);
    }
    return value_object(core->state, st, &value);
}

PyObject *crpy_lookup(PyObject *self, PyObject *value)
{
    struct crpy_core *core = crpy_core_of(self);
    struct cr_room *room = crpy_core_room(core);
    struct cr_value found;
    struct key key;
    if (room == NULL || !key_take(core->state, value, &key))
        return NULL;
    enum cr_status st = lookup_here(room, &key, &found);
    if (st != CR_ASK)
        return value_object(core->state, st, &found);
    room = crpy_core_enter(core);
    if (room == NULL)
        return NULL;
    PyObject *result = lookup_ask(core, room, &key);
    crpy_core_leave(core);
    return result;
}

static PyObject *ticket_finish(struct crpy_call *call, struct cr_call *begun)
{
    struct cr_ticket ticket;
    enum cr_status st;
    PyThreadState *saved = PyEval_SaveThread();
    st = cr_ticket_take_finish(begun, &ticket);
    PyEval_RestoreThread(saved);
    if (st != CR_OK)
        return raise_table(call->core->state, st);
    return PyBytes_FromStringAndSize((const char *)&ticket, (Py_ssize_t)sizeof ticket);
}

PyObject *crpy_begin_ticket(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct crpy_core *core = crpy_core_of(self);
    struct cr_call *begun = NULL;
    struct key key;
    enum cr_status st;
    if (!crpy_count("begin_ticket", count, 1) || !key_take(core->state, args[0], &key))
        return NULL;
    struct cr_room *room = crpy_core_enter(core);
    if (room == NULL)
        return NULL;
    PyThreadState *saved = PyEval_SaveThread();
    st = cr_ticket_take_begin(room, key.bytes, key.count, &begun);
    PyEval_RestoreThread(saved);
    if (st == CR_E_INVALID)
        return crpy_call_answered(core, raise_table(core->state, st));
    return crpy_call_begun(core, st, begun, ticket_finish, NULL, 0);
}

static bool ticket_take(const struct crpy_state *state, PyObject *value, struct cr_ticket *out)
{
    const void *bytes;
    size_t count;
    if (!crpy_bytes(state, "ticket", value, PY_SSIZE_T_MAX, &bytes, &count))
        return false;
    if (count != sizeof *out) {
        crpy_raise(state, CR_E_INVALID, "ticket: what begin_ticket answered");
        return false;
    }
    memcpy(out, bytes, sizeof *out);
    return true;
}

static PyObject *none_or_raise(struct crpy_call *call, enum cr_status status)
{
    if (status != CR_OK)
        return raise_table(call->core->state, status);
    return Py_NewRef(Py_None);
}

static PyObject *fill_finish(struct crpy_call *call, struct cr_call *begun)
{
    enum cr_status st;
    PyThreadState *saved = PyEval_SaveThread();
    st = cr_fill_finish(begun);
    PyEval_RestoreThread(saved);
    return none_or_raise(call, st);
}

PyObject *crpy_begin_fill(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct crpy_core *core = crpy_core_of(self);
    struct cr_call *begun = NULL;
    struct cr_ticket ticket;
    struct cr_user user;
    const void *data;
    size_t bytes;
    long long ttl;
    enum cr_status st;
    if (!crpy_count("begin_fill", count, 4) || !ticket_take(core->state, args[0], &ticket) ||
        !crpy_user(core->state, args[1], &user) ||
        !crpy_bytes(core->state, "data", args[2], CR_DATA_CACHED_BYTES_MAX, &data, &bytes) ||
        !crpy_number(core->state, "ttl_ms", args[3], 1, CR_SPAN_MS_MAX, &ttl))
        return NULL;
    struct cr_room *room = crpy_core_enter(core);
    if (room == NULL)
        return NULL;
    PyThreadState *saved = PyEval_SaveThread();
    st = cr_fill_begin(room, &ticket, &user, data, bytes, ttl, &begun);
    PyEval_RestoreThread(saved);
    if (st == CR_E_INVALID)
        return crpy_call_answered(core, raise_table(core->state, st));
    return crpy_call_begun(core, st, begun, fill_finish, NULL, 0);
}

static PyObject *invalidate_finish(struct crpy_call *call, struct cr_call *begun)
{
    enum cr_status st;
    PyThreadState *saved = PyEval_SaveThread();
    st = cr_invalidate_finish(begun);
    PyEval_RestoreThread(saved);
    return none_or_raise(call, st);
}

PyObject *crpy_begin_invalidate(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct crpy_core *core = crpy_core_of(self);
    struct cr_call *begun = NULL;
    struct key key;
    enum cr_status st;
    if (!crpy_count("begin_invalidate", count, 1) || !key_take(core->state, args[0], &key))
        return NULL;
    struct cr_room *room = crpy_core_enter(core);
    if (room == NULL)
        return NULL;
    PyThreadState *saved = PyEval_SaveThread();
    st = cr_invalidate_begin(room, key.bytes, key.count, &begun);
    PyEval_RestoreThread(saved);
    if (st == CR_E_INVALID)
        return crpy_call_answered(core, raise_table(core->state, st));
    return crpy_call_begun(core, st, begun, invalidate_finish, NULL, 0);
}
