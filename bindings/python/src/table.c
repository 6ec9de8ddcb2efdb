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
        Py_RETURN_NONE;
    if (status != CR_OK)
        return raise_table(state, status);
    return Py_BuildValue("Ny#L", crpy_user_object(&value->user), (const char *)value->data,
                         (Py_ssize_t)value->bytes, (long long)value->left);
}

PyObject *crpy_lookup(PyObject *self, PyObject *given)
{
    struct crpy_core *core = crpy_core_of(self);
    struct cr_value value;
    struct key key;
    enum cr_status st;
    value.size = sizeof value;
    if (!key_take(core->state, given, &key))
        return NULL;
    struct cr_room *room = crpy_core_enter(core);
    if (room == NULL)
        return NULL;
    Py_BEGIN_ALLOW_THREADS st = cr_lookup(room, key.bytes, key.count, &value);
    Py_END_ALLOW_THREADS PyObject *result = value_object(core->state, st, &value);
    crpy_core_leave(core);
    return result;
}

PyObject *crpy_begin_lookup(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct crpy_core *core = crpy_core_of(self);
    if (!crpy_count("begin_lookup", count, 1) || crpy_core_enter(core) == NULL)
        return NULL;
    return crpy_call_answered(core, crpy_lookup(self, args[0]));
}

PyObject *crpy_begin_ticket(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct crpy_core *core = crpy_core_of(self);
    struct cr_ticket ticket;
    struct key key;
    enum cr_status st;
    if (!crpy_count("begin_ticket", count, 1) || !key_take(core->state, args[0], &key))
        return NULL;
    struct cr_room *room = crpy_core_enter(core);
    if (room == NULL)
        return NULL;
    Py_BEGIN_ALLOW_THREADS st = cr_fill_begin(room, key.bytes, key.count, &ticket);
    Py_END_ALLOW_THREADS return crpy_call_answered(
        core, st == CR_OK
                  ? PyBytes_FromStringAndSize((const char *)&ticket, (Py_ssize_t)sizeof ticket)
                  : raise_table(core->state, st));
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

PyObject *crpy_begin_fill(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct crpy_core *core = crpy_core_of(self);
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
    Py_BEGIN_ALLOW_THREADS st = cr_fill(room, &ticket, &user, data, bytes, ttl);
    Py_END_ALLOW_THREADS return crpy_call_answered(
        core, st == CR_OK ? Py_NewRef(Py_None) : raise_table(core->state, st));
}

PyObject *crpy_begin_invalidate(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct crpy_core *core = crpy_core_of(self);
    struct key key;
    enum cr_status st;
    if (!crpy_count("begin_invalidate", count, 1) || !key_take(core->state, args[0], &key))
        return NULL;
    struct cr_room *room = crpy_core_enter(core);
    if (room == NULL)
        return NULL;
    Py_BEGIN_ALLOW_THREADS st = cr_invalidate(room, key.bytes, key.count);
    Py_END_ALLOW_THREADS return crpy_call_answered(
        core, st == CR_OK ? Py_NewRef(Py_None) : raise_table(core->state, st));
}
