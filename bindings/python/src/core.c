/* SPDX-License-Identifier: Apache-2.0 */
#include "core.h"

#include <stddef.h>
#include <unistd.h>

#include "call.h"
#include "convert.h"
#include "errors.h"
#include "lock.h"
#include "methods.h"

/* How long a signal's handler has to wait for its turn while a thread waits for an answer. */
#define SIGNAL_MS 100

/* Who is inside. */

static void core_forked(struct crpy_core *core, pid_t pid)
{
    core->pid = pid;
    core->inside = core->handling;
    crpy_calls_forked(core);
}

static bool core_is_open(struct crpy_core *core)
{
    pid_t pid = getpid();
    if (pid != core->pid)
        core_forked(core, pid);
    return core->room != NULL;
}

static struct cr_room *raise_closed(struct crpy_core *core)
{
    crpy_raise(core->state, CR_E_INVALID, "this room was closed: open it once for the process");
    return NULL;
}

struct cr_room *crpy_core_room(struct crpy_core *core)
{
    return core->room != NULL ? core->room : raise_closed(core);
}

struct cr_room *crpy_core_enter(struct crpy_core *core)
{
    if (!core_is_open(core))
        return raise_closed(core);
    core->inside++;
    return core->room;
}

/* Closing may wait: for a store that is in this process. */
static void room_close(struct crpy_core *core)
{
    struct cr_room *room = core->closing;
    core->closing = NULL;
    PyThreadState *saved = PyEval_SaveThread();
    cr_close(room);
    PyEval_RestoreThread(saved);
}

void crpy_core_leave(struct crpy_core *core)
{
    if (core->inside > 0) /* or it was forked meanwhile, and counts anew */
        core->inside--;
    if (core->inside == 0 && core->closing != NULL)
        room_close(core);
}

bool crpy_core_wait(struct crpy_core *core, struct cr_call *begun)
{
    bool is_done;
    for (;;) {
        PyThreadState *saved = PyEval_SaveThread();
        is_done = cr_call_done_within(begun, SIGNAL_MS);
        PyEval_RestoreThread(saved);
        if (is_done)
            return true;
        core->handling++;
        bool is_raised = PyErr_CheckSignals() != 0;
        core->handling--;
        if (is_raised) {
            cr_call_cancel(begun);
            return false;
        }
    }
}

static void core_close(struct crpy_core *core)
{
    if (!core_is_open(core))
        return;
    crpy_locks_close(core);
    crpy_calls_close(core);
    core->closing = core->room;
    core->room = NULL;
    if (core->inside == 0)
        room_close(core);
}

/* Opening. */

struct opening {
    PyObject *url, *mode, *cache, *cache_bytes, *idle_ms, *absolute_ms, *timeout_ms, *workers,
        *program, *state, *realm;
    PyObject *holders[4];
};

static bool number_given(const struct crpy_state *state, const char *what, PyObject *value,
                         long long max, long long *out)
{
    *out = 0;
    return value == NULL || crpy_number(state, what, value, 0, max, out);
}

static bool opening_take(const struct crpy_state *state, struct opening *given,
                         const char **out_url, struct cr_options *out)
{
    long long mode, cache, cache_bytes, workers, idle, absolute, timeout;
    cr_options_init(out);
    if (!crpy_path(state, "url", given->url, &given->holders[0], out_url) ||
        !crpy_path(state, "program", given->program, &given->holders[1], &out->program) ||
        !crpy_path(state, "state", given->state, &given->holders[2], &out->state) ||
        !crpy_path(state, "realm", given->realm, &given->holders[3], &out->realm) ||
        !number_given(state, "mode", given->mode, CR_MODE_DIRECT, &mode) ||
        !number_given(state, "cache", given->cache, CR_CACHE_SHARED, &cache) ||
        !number_given(state, "cache_bytes", given->cache_bytes, PY_SSIZE_T_MAX, &cache_bytes) ||
        !number_given(state, "idle_ms", given->idle_ms, CR_SPAN_MS_MAX, &idle) ||
        !number_given(state, "absolute_ms", given->absolute_ms, CR_SPAN_MS_MAX, &absolute) ||
        !number_given(state, "timeout_ms", given->timeout_ms, CR_SPAN_MS_MAX, &timeout) ||
        !number_given(state, "workers", given->workers, INT_MAX, &workers))
        return false;
    if (*out_url == NULL) {
        PyErr_SetString(PyExc_TypeError, "url: a str");
        return false;
    }
    out->mode = (enum cr_mode)mode;
    out->cache = (enum cr_cache)cache;
    out->cache_bytes = (size_t)cache_bytes;
    out->idle = idle;
    out->absolute = absolute;
    out->timeout = timeout;
    out->declared_workers = (unsigned)workers;
    return true;
}

static struct cr_room *room_open(const struct crpy_state *state, struct opening *given)
{
    const char *url = NULL;
    struct cr_options options;
    struct cr_room *room = NULL;
    struct cr_error error = {.size = sizeof error};
    enum cr_status st;
    if (!opening_take(state, given, &url, &options))
        return NULL;
    PyThreadState *saved = PyEval_SaveThread();
    st = cr_open(url, &options, &room, &error);
    PyEval_RestoreThread(saved);
    if (st == CR_OK)
        return room;
    if (st == CR_E_LIMIT) /* of descriptors: not of data, as elsewhere */
        crpy_raise_format(state, CRPY_CloakroomError, st, "%s", error.text);
    else
        crpy_raise(state, st, error.text);
    return NULL;
}

static PyObject *core_make(PyTypeObject *type, struct cr_room *room)
{
    struct crpy_core *core = PyObject_New(struct crpy_core, type);
    if (core == NULL) {
        cr_close(room);
        return NULL;
    }
    core->state = PyType_GetModuleState(type);
    core->room = room;
    core->closing = NULL;
    core->calls = NULL;
    core->locks = NULL;
    core->inside = 0;
    core->handling = 0;
    core->pid = getpid();
    return (PyObject *)core;
}

static PyObject *core_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    struct opening given = {0};
    const struct crpy_keyword rows[] = {
        {"mode", &given.mode, false},
        {"cache", &given.cache, false},
        {"cache_bytes", &given.cache_bytes, false},
        {"idle_ms", &given.idle_ms, false},
        {"absolute_ms", &given.absolute_ms, false},
        {"timeout_ms", &given.timeout_ms, false},
        {"workers", &given.workers, false},
        {"program", &given.program, false},
        {"state", &given.state, false},
        {"realm", &given.realm, false},
    };
    if (!crpy_count("Core", PyTuple_Size(args), 1) ||
        !crpy_keywords("Core", keywords, rows, sizeof rows / sizeof rows[0]))
        return NULL;
    given.url = PyTuple_GetItem(args, 0);
    struct cr_room *room = room_open(PyType_GetModuleState(type), &given);
    for (size_t i = 0; i < sizeof given.holders / sizeof given.holders[0]; i++)
        Py_XDECREF(given.holders[i]);
    return room != NULL ? core_make(type, room) : NULL;
}

static void core_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    core_close(crpy_core_of(self));
    PyObject_Free(self);
    Py_DECREF(type);
}

/* Of the room itself. */

static PyObject *method_close(PyObject *self, PyObject *unused)
{
    core_close(crpy_core_of(self));
    return Py_NewRef(Py_None);
}

static PyObject *method_fileno(PyObject *self, PyObject *unused)
{
    struct cr_room *room = crpy_core_room(crpy_core_of(self));
    return room != NULL ? PyLong_FromLong(cr_room_fd(room)) : NULL;
}

static PyObject *method_poll(PyObject *self, PyObject *unused)
{
    struct crpy_core *core = crpy_core_of(self);
    struct cr_room *room = crpy_core_enter(core);
    if (room == NULL)
        return NULL;
    PyThreadState *saved = PyEval_SaveThread();
    cr_room_poll(room);
    PyEval_RestoreThread(saved);
    PyObject *list = PyList_New(0);
    if (list != NULL && !crpy_calls_answered(room, list))
        Py_CLEAR(list);
    crpy_core_leave(core);
    return list;
}

#define WITH_ARRAY(function) (PyCFunction)(void (*)(void))(function), METH_FASTCALL

static PyMethodDef core_methods[] = {
    {"close", method_close, METH_NOARGS, "Give up what is under way, and leave."},
    {"fileno", method_fileno, METH_NOARGS, "Readable when poll() has something to do."},
    {"poll", method_poll, METH_NOARGS, "Take what has arrived: the calls answered since."},
    {"validate", crpy_validate, METH_O, "The session of a token, or None."},
    {"validate_cached", crpy_validate_cached, METH_O, "The same out of the table here only."},
    {"validate_many", crpy_validate_many, METH_O, "The sessions of a list of tokens."},
    {"lookup", crpy_lookup, METH_O, "An entry of the application's own table, or None."},
    {"begin_validate", WITH_ARRAY(crpy_begin_validate), "(token, strict)"},
    {"begin_login", WITH_ARRAY(crpy_begin_login),
     "(user, policy, keep_count, idle_ms, absolute_ms, rights, data, address, agent, anonymous, "
     "renews)"},
    {"begin_create", WITH_ARRAY(crpy_begin_create),
     "(user, idle_ms, absolute_ms, rights, data, address, agent, anonymous)"},
    {"begin_touch", WITH_ARRAY(crpy_begin_touch), "(token)"},
    {"begin_read", WITH_ARRAY(crpy_begin_read), "(id)"},
    {"begin_write", WITH_ARRAY(crpy_begin_write), "(id, version, data)"},
    {"begin_rights", WITH_ARRAY(crpy_begin_rights), "(id, rights)"},
    {"begin_rotate", WITH_ARRAY(crpy_begin_rotate), "(token, privilege)"},
    {"begin_end", WITH_ARRAY(crpy_begin_end), "(id, reason, by, wait, repeat)"},
    {"begin_end_user", WITH_ARRAY(crpy_begin_end_user), "(user, reason, by, wait, repeat)"},
    {"begin_end_others", WITH_ARRAY(crpy_begin_end_others), "(keep, reason, by, wait, repeat)"},
    {"begin_end_all", WITH_ARRAY(crpy_begin_end_all), "(reason, by, wait, repeat)"},
    {"begin_sessions", WITH_ARRAY(crpy_begin_sessions), "(user, after, count)"},
    {"begin_explain", WITH_ARRAY(crpy_begin_explain), "(id)"},
    {"begin_lock", WITH_ARRAY(crpy_begin_lock), "(name, wait_ms)"},
    {"begin_fence", crpy_begin_fence, METH_O, "(name)"},
    {"begin_stats", WITH_ARRAY(crpy_begin_stats), "()"},
    {"begin_lookup", WITH_ARRAY(crpy_begin_lookup), "(key)"},
    {"begin_ticket", WITH_ARRAY(crpy_begin_ticket), "(key)"},
    {"begin_fill", WITH_ARRAY(crpy_begin_fill), "(ticket, user, data, ttl_ms)"},
    {"begin_invalidate", WITH_ARRAY(crpy_begin_invalidate), "(key)"},
    {NULL, NULL, 0, NULL},
};

static char core_doc[] = "A room. Not public: use cloakroom.Cloakroom.";

static PyType_Slot core_slots[] = {
    {Py_tp_doc, core_doc},
    {Py_tp_new, core_new},
    {Py_tp_dealloc, core_dealloc},
    {Py_tp_methods, core_methods},
    {0, NULL},
};

PyType_Spec crpy_core_spec = {
    .name = "cloakroom._core.Core",
    .basicsize = sizeof(struct crpy_core),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = core_slots,
};
