/* SPDX-License-Identifier: Apache-2.0 */
#include "lock.h"

#include "convert.h"
#include "errors.h"
#include "methods.h"

struct crpy_lock {
    PyObject_HEAD struct crpy_core *core;
    struct crpy_lock *prev, *next; /* in core->locks while it is not given back */
    struct cr_lock *taken;         /* NULL: given back */
    uint64_t fence;
};

static struct crpy_lock *lock_of(PyObject *self)
{
    return (struct crpy_lock *)(void *)self;
}

PyObject *crpy_lock_new(struct crpy_core *core, struct cr_lock *taken)
{
    struct crpy_lock *lock = PyObject_New(struct crpy_lock, core->state->lock_type);
    if (lock == NULL) {
        cr_lock_give(taken);
        return NULL;
    }
    lock->core = (struct crpy_core *)Py_NewRef((PyObject *)core);
    lock->taken = taken;
    lock->fence = cr_lock_fence(taken);
    lock->prev = NULL;
    lock->next = core->locks;
    if (lock->next != NULL)
        lock->next->prev = lock;
    core->locks = lock;
    return (PyObject *)lock;
}

static void lock_end(struct crpy_lock *lock)
{
    if (lock->taken == NULL)
        return;
    if (lock->prev != NULL)
        lock->prev->next = lock->next;
    else
        lock->core->locks = lock->next;
    if (lock->next != NULL)
        lock->next->prev = lock->prev;
    cr_lock_give(lock->taken); /* sends, and waits for nothing */
    lock->taken = NULL;
}

void crpy_locks_close(struct crpy_core *core)
{
    while (core->locks != NULL)
        lock_end(core->locks);
}

static PyObject *lock_is_held(PyObject *self, PyObject *unused)
{
    const struct crpy_lock *lock = lock_of(self);
    return PyBool_FromLong(lock->taken != NULL && cr_lock_check(lock->taken) == CR_OK);
}

static PyObject *lock_give(PyObject *self, PyObject *unused)
{
    lock_end(lock_of(self));
    return Py_NewRef(Py_None);
}

static PyObject *get_fence(PyObject *self, void *unused)
{
    return PyLong_FromUnsignedLongLong(lock_of(self)->fence);
}

/* Taking one. */

/* Processes of other locales mean the same lock by it. */
static bool name_take(const struct crpy_state *state, PyObject *value, const char **out)
{
    return crpy_text(state, "name", value, CR_LOCK_NAME_BYTES_MAX, out);
}

static PyObject *lock_finish(struct crpy_call *call, struct cr_call *begun)
{
    struct cr_lock *taken = NULL;
    enum cr_status st;
    PyThreadState *saved = PyEval_SaveThread();
    st = cr_lock_take_finish(begun, &taken);
    PyEval_RestoreThread(saved);
    if (st != CR_OK)
        return crpy_raise(call->core->state, st,
                          st == CR_BUSY ? "another holds this lock: try again later, or wait longer"
                                        : NULL);
    /* Closed by another thread, which has given back what was there: a lock ends with its room. */
    if (crpy_core_room(call->core) == NULL) {
        cr_lock_give(taken);
        return NULL;
    }
    return crpy_lock_new(call->core, taken);
}

PyObject *crpy_begin_lock(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct crpy_core *core = crpy_core_of(self);
    struct cr_call *begun = NULL;
    const char *name;
    long long wait;
    enum cr_status st;
    if (!crpy_count("begin_lock", count, 2) || !name_take(core->state, args[0], &name) ||
        !crpy_number(core->state, "wait_ms", args[1], 0, CR_SPAN_MS_MAX, &wait))
        return NULL;
    struct cr_room *room = crpy_core_enter(core);
    if (room == NULL)
        return NULL;
    PyThreadState *saved = PyEval_SaveThread();
    st = cr_lock_take_begin(room, name, wait, &begun);
    PyEval_RestoreThread(saved);
    return crpy_call_begun(core, st, begun, lock_finish, NULL, 0);
}

static PyObject *newest_finish(struct crpy_call *call, struct cr_call *begun)
{
    uint64_t fence = 0;
    enum cr_status st;
    PyThreadState *saved = PyEval_SaveThread();
    st = cr_lock_newest_finish(begun, &fence);
    PyEval_RestoreThread(saved);
    return st == CR_OK ? PyLong_FromUnsignedLongLong(fence)
                       : crpy_raise(call->core->state, st, NULL);
}

PyObject *crpy_begin_fence(PyObject *self, PyObject *value)
{
    struct crpy_core *core = crpy_core_of(self);
    struct cr_call *begun = NULL;
    const char *name;
    enum cr_status st;
    if (!name_take(core->state, value, &name))
        return NULL;
    struct cr_room *room = crpy_core_enter(core);
    if (room == NULL)
        return NULL;
    PyThreadState *saved = PyEval_SaveThread();
    st = cr_lock_newest_begin(room, name, &begun);
    PyEval_RestoreThread(saved);
    return crpy_call_begun(core, st, begun, newest_finish, NULL, 0);
}

/* The type. */

static void lock_dealloc(PyObject *self)
{
    struct crpy_lock *lock = lock_of(self);
    PyTypeObject *type = Py_TYPE(self);
    lock_end(lock);
    Py_DECREF((PyObject *)lock->core);
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyGetSetDef lock_getters[] = {
    {"fence", get_fence, NULL, "Rises with every holder of this name.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef lock_methods[] = {
    {"is_held", lock_is_held, METH_NOARGS, "Whether it certainly is ours. Never waits."},
    {"give", lock_give, METH_NOARGS, "Give it back."},
    {NULL, NULL, 0, NULL},
};

static char lock_doc[] = "A named lock that this process was given.";

static PyType_Slot lock_slots[] = {
    {Py_tp_doc, lock_doc},
    {Py_tp_dealloc, lock_dealloc},
    {Py_tp_getset, lock_getters},
    {Py_tp_methods, lock_methods},
    {0, NULL},
};

PyType_Spec crpy_lock_spec = {
    .name = "cloakroom._core.Lock",
    .basicsize = sizeof(struct crpy_lock),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = lock_slots,
};
