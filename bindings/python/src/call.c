/* SPDX-License-Identifier: Apache-2.0 */
#include "call.h"

#include "errors.h"

static struct crpy_call *call_of(PyObject *self)
{
    return (struct crpy_call *)(void *)self;
}

static void call_link(struct crpy_call *call)
{
    struct crpy_core *core = call->core;
    call->next = core->calls;
    if (call->next != NULL)
        call->next->prev = call;
    core->calls = call;
}

static void call_unlink(struct crpy_call *call)
{
    if (call->prev != NULL)
        call->prev->next = call->next;
    else
        call->core->calls = call->next;
    if (call->next != NULL)
        call->next->prev = call->prev;
    call->prev = NULL;
    call->next = NULL;
}

/* It is over, one way or another; what was begun is the caller's. */
static struct cr_call *call_end(struct crpy_call *call, enum crpy_call_state state)
{
    struct cr_call *begun = call->begun;
    call_unlink(call);
    call->begun = NULL;
    call->state = state;
    return begun;
}

static struct crpy_call *call_make(struct crpy_core *core, enum crpy_call_state state)
{
    struct crpy_call *call = PyObject_GC_New(struct crpy_call, core->state->call_type);
    if (call == NULL)
        return NULL;
    call->core = (struct crpy_core *)Py_NewRef((PyObject *)core);
    call->prev = NULL;
    call->next = NULL;
    call->state = state;
    call->begun = NULL;
    call->answer = NULL;
    call->finish = NULL;
    call->given = NULL;
    call->number = 0;
    PyObject_GC_Track(call);
    return call;
}

static struct crpy_call *call_begun(struct crpy_core *core, enum cr_status status)
{
    if (status != CR_OK) {
        crpy_raise(core->state, status, NULL);
        return NULL;
    }
    struct crpy_call *call = call_make(core, CRPY_CALL_GIVEN_UP);
    /* Another thread may have closed the room since, or what was collected while the call was made:
     * asked last, as whoever closes it ends the calls that are in its list. */
    if (call != NULL && crpy_core_room(core) == NULL) {
        Py_DECREF((PyObject *)call);
        return NULL;
    }
    return call;
}

PyObject *crpy_call_begun(struct crpy_core *core, enum cr_status status, struct cr_call *begun,
                          crpy_finish *finish, PyObject *given, long long number)
{
    struct crpy_call *call = call_begun(core, status);
    if (call != NULL) {
        call->state = CRPY_CALL_BEGUN;
        call->begun = begun;
        call->finish = finish;
        call->given = Py_XNewRef(given);
        call->number = number;
        call_link(call);
        cr_call_watch(begun, call);
    } else if (status == CR_OK) {
        cr_call_cancel(begun);
    }
    crpy_core_leave(core);
    return (PyObject *)call;
}

PyObject *crpy_call_answered(struct crpy_core *core, PyObject *answer)
{
    struct crpy_call *call = answer != NULL ? call_make(core, CRPY_CALL_ANSWERED) : NULL;
    if (call != NULL)
        call->answer = answer;
    else
        Py_XDECREF(answer);
    crpy_core_leave(core);
    return (PyObject *)call;
}

/* Whether result() would not wait. */
static bool call_is_done(const struct crpy_call *call)
{
    if (call->state == CRPY_CALL_BEGUN)
        return cr_call_done(call->begun);
    return call->state != CRPY_CALL_WAITED;
}

static PyObject *raise_left(const struct crpy_call *call)
{
    return crpy_raise(call->core->state, CR_UNAVAILABLE,
                      "a thread of the process that this one was forked from waits for this call: "
                      "ask again");
}

static PyObject *result_of_begun(struct crpy_call *call)
{
    PyObject *result = NULL;
    struct crpy_core *core = call->core;
    if (crpy_core_enter(core) == NULL)
        return NULL;
    call->state = CRPY_CALL_WAITED;
    bool arrived = crpy_core_wait(core, call->begun);
    if (call->state == CRPY_CALL_LEFT) {
        crpy_core_leave(core); /* a signal's handler has forked, and this is the child */
        return arrived ? raise_left(call) : NULL;
    }
    /* If not, it is freed already. */
    struct cr_call *begun = call_end(call, arrived ? CRPY_CALL_TAKEN : CRPY_CALL_GIVEN_UP);
    if (arrived)
        result = call->finish(call, begun);
    crpy_core_leave(core);
    return result;
}

static PyObject *call_result(PyObject *self, PyObject *unused)
{
    PyObject *answer;
    struct crpy_call *call = call_of(self);
    const char *why = NULL;
    switch (call->state) {
    case CRPY_CALL_BEGUN:
        return result_of_begun(call);
    case CRPY_CALL_ANSWERED:
        answer = call->answer;
        call->answer = NULL;
        call->state = CRPY_CALL_TAKEN;
        return answer;
    case CRPY_CALL_WAITED:
        why = "another thread waits for this call";
        break;
    case CRPY_CALL_TAKEN:
        why = "the result of this call was taken already";
        break;
    case CRPY_CALL_GIVEN_UP:
        why = "this call was given up";
        break;
    case CRPY_CALL_CLOSED:
        why = "the room was closed while this call was under way";
        break;
    case CRPY_CALL_LEFT:
        return raise_left(call);
    }
    return crpy_raise(call->core->state, CR_E_INVALID, why);
}

static PyObject *call_cancel(PyObject *self, PyObject *unused)
{
    struct crpy_call *call = call_of(self);
    if (call->state == CRPY_CALL_BEGUN)
        cr_call_cancel(call_end(call, CRPY_CALL_GIVEN_UP));
    return Py_NewRef(Py_None);
}

static PyObject *get_done(PyObject *self, void *unused)
{
    return PyBool_FromLong(call_is_done(call_of(self)));
}

/* For the core. */

void crpy_calls_close(struct crpy_core *core)
{
    struct crpy_call *next;
    for (struct crpy_call *call = core->calls; call != NULL; call = next) {
        next = call->next;
        if (call->state == CRPY_CALL_BEGUN)
            cr_call_cancel(call_end(call, CRPY_CALL_CLOSED));
    }
}

void crpy_calls_forked(struct crpy_core *core)
{
    struct crpy_call *next;
    for (struct crpy_call *call = core->calls; call != NULL; call = next) {
        next = call->next;
        /* Its memory may be in any state: it is not freed. */
        if (call->state == CRPY_CALL_WAITED)
            (void)call_end(call, CRPY_CALL_LEFT);
    }
}

bool crpy_calls_answered(struct cr_room *room, PyObject *list)
{
    void *context;
    while (cr_room_answered(room, &context) != NULL) {
        struct crpy_call *call = context;
        /* A thread may just be taking its result. */
        if (call->state == CRPY_CALL_BEGUN && PyList_Append(list, (PyObject *)call) != 0)
            return false;
    }
    return true;
}

/* The type. */

static int call_traverse(PyObject *self, visitproc visit, void *arg)
{
    const struct crpy_call *call = call_of(self);
    Py_VISIT(Py_TYPE(self));
    Py_VISIT((PyObject *)call->core);
    Py_VISIT(call->answer);
    Py_VISIT(call->given);
    return 0;
}

static int call_clear(PyObject *self)
{
    struct crpy_call *call = call_of(self);
    Py_CLEAR(call->answer);
    Py_CLEAR(call->given);
    return 0;
}

static void call_dealloc(PyObject *self)
{
    struct crpy_call *call = call_of(self);
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    /* Nobody can be told any more. It may happen all the same. */
    if (call->state == CRPY_CALL_BEGUN)
        cr_call_cancel(call_end(call, CRPY_CALL_GIVEN_UP));
    (void)call_clear(self);
    Py_DECREF((PyObject *)call->core);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyGetSetDef call_getters[] = {
    {"done", get_done, NULL, "Whether result() would return at once.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef call_methods[] = {
    {"result", call_result, METH_NOARGS, "The answer, once: waits if it must, and raises."},
    {"cancel", call_cancel, METH_NOARGS, "Give it up. What it asked for may still happen."},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, "Call[T]"},
    {NULL, NULL, 0, NULL},
};

static char call_doc[] = "A request under way.";

static PyType_Slot call_slots[] = {
    {Py_tp_doc, call_doc},
    {Py_tp_traverse, call_traverse},
    {Py_tp_clear, call_clear},
    {Py_tp_dealloc, call_dealloc},
    {Py_tp_getset, call_getters},
    {Py_tp_methods, call_methods},
    {0, NULL},
};

PyType_Spec crpy_call_spec = {
    .name = "cloakroom._core.Call",
    .basicsize = sizeof(struct crpy_call),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = call_slots,
};
