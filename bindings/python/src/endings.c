/* SPDX-License-Identifier: Apache-2.0 */
/* What ends sessions. One finish for the four, as in the library. */
#include "methods.h"

#include "convert.h"
#include "errors.h"

/* For the finish: whether it may be pending, and whether there may have been nothing to end. */
#define MAY_PEND 1
#define MAY_MISS 2

static PyObject *ending_row(bool done, const struct cr_ended *ended)
{
    char text[CRPY_ENDING_CHARS + 1];
    crpy_ending_text(&ended->ending, text);
    return Py_BuildValue("NsL", PyBool_FromLong(done), text, (long long)ended->bound);
}

static PyObject *end_finish(struct crpy_call *call, struct cr_call *begun)
{
    struct cr_ended ended = {.size = sizeof ended};
    enum cr_status st;
    PyThreadState *saved = PyEval_SaveThread();
    st = cr_end_finish(begun, &ended);
    PyEval_RestoreThread(saved);
    if (st == CR_OK || (st == CR_PENDING && (call->number & MAY_PEND) != 0))
        return ending_row(st == CR_OK, &ended);
    if ((st == CR_NOT_FOUND || st == CR_ENDED) && (call->number & MAY_MISS) != 0)
        return Py_NewRef(Py_None);
    if (st == CR_PENDING || st == CR_E_UNKNOWN_OUTCOME)
        return crpy_raise_open(call->core->state, st, &ended);
    return crpy_raise(call->core->state, st, NULL);
}

struct end_wish {
    struct cr_end_options options;
    struct crpy_label by;
};

/* `args`: reason, by, wait, repeat. */
static bool end_take(const struct crpy_state *state, PyObject *const *args, struct end_wish *wish)
{
    long long reason;
    bool wait;
    struct cr_end_options *options = &wish->options;
    *options = (struct cr_end_options){.size = sizeof *options};
    if (!crpy_number(state, "reason", args[0], CR_REASON_LOGOUT, CR_REASON_DEVICE, &reason) ||
        !crpy_label("by", args[1], &wish->by) || !crpy_flag(args[2], &wait) ||
        !crpy_ending(state, args[3], &options->repeat))
        return false;
    options->reason = (enum cr_reason)reason;
    options->by = wish->by.text;
    options->async = !wait;
    return true;
}

static long long may_pend(const struct end_wish *wish)
{
    return wish->options.async ? MAY_PEND : 0;
}

PyObject *crpy_begin_end(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct crpy_core *core = crpy_core_of(self);
    struct cr_call *begun = NULL;
    struct cr_session_id id;
    struct end_wish wish;
    enum cr_status st;
    if (!crpy_count("begin_end", count, 5) || !crpy_id(core->state, args[0], &id) ||
        !end_take(core->state, args + 1, &wish))
        return NULL;
    struct cr_room *room = crpy_core_enter(core);
    if (room == NULL)
        return NULL;
    PyThreadState *saved = PyEval_SaveThread();
    st = cr_end_begin(room, &id, &wish.options, &begun);
    PyEval_RestoreThread(saved);
    return crpy_call_begun(core, st, begun, end_finish, NULL, may_pend(&wish) | MAY_MISS);
}

PyObject *crpy_begin_end_user(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct crpy_core *core = crpy_core_of(self);
    struct cr_call *begun = NULL;
    struct cr_user user;
    struct end_wish wish;
    enum cr_status st;
    if (!crpy_count("begin_end_user", count, 5) || !crpy_user(core->state, args[0], &user) ||
        !end_take(core->state, args + 1, &wish))
        return NULL;
    struct cr_room *room = crpy_core_enter(core);
    if (room == NULL)
        return NULL;
    PyThreadState *saved = PyEval_SaveThread();
    st = cr_invalidate_by_user_begin(room, &user, &wish.options, &begun);
    PyEval_RestoreThread(saved);
    return crpy_call_begun(core, st, begun, end_finish, NULL, may_pend(&wish));
}

PyObject *crpy_begin_end_others(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct crpy_core *core = crpy_core_of(self);
    struct cr_call *begun = NULL;
    struct cr_session_id keep;
    struct end_wish wish;
    enum cr_status st;
    if (!crpy_count("begin_end_others", count, 5) || !crpy_id(core->state, args[0], &keep) ||
        !end_take(core->state, args + 1, &wish))
        return NULL;
    struct cr_room *room = crpy_core_enter(core);
    if (room == NULL)
        return NULL;
    PyThreadState *saved = PyEval_SaveThread();
    st = cr_end_others_begin(room, &keep, &wish.options, &begun);
    PyEval_RestoreThread(saved);
    return crpy_call_begun(core, st, begun, end_finish, NULL, may_pend(&wish));
}

PyObject *crpy_begin_end_all(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct crpy_core *core = crpy_core_of(self);
    struct cr_call *begun = NULL;
    struct end_wish wish;
    enum cr_status st;
    if (!crpy_count("begin_end_all", count, 4) || !end_take(core->state, args, &wish))
        return NULL;
    struct cr_room *room = crpy_core_enter(core);
    if (room == NULL)
        return NULL;
    PyThreadState *saved = PyEval_SaveThread();
    st = cr_end_all_begin(room, &wish.options, &begun);
    PyEval_RestoreThread(saved);
    return crpy_call_begun(core, st, begun, end_finish, NULL, may_pend(&wish));
}
