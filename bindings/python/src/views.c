/* SPDX-License-Identifier: Apache-2.0 */
/* What people and operators look at. */
#include "methods.h"

#include <string.h>

#include "convert.h"
#include "errors.h"
#include "session.h"

#define PAGE_MAX 64

static PyObject *id_object(const struct cr_session_id *id)
{
    return PyUnicode_FromStringAndSize(id->text, CR_SESSION_ID_CHARS);
}

/* The user's sessions. */

static PyObject *page_object(const struct crpy_state *state, const struct cr_session *sessions,
                             size_t count)
{
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; list != NULL && i < count; i++) {
        PyObject *session = crpy_session_listed(state, &sessions[i]);
        if (session == NULL || PyList_SetItem(list, (Py_ssize_t)i, session) != 0)
            Py_CLEAR(list);
    }
    return list;
}

static PyObject *page_row(const struct crpy_state *state, const struct cr_session *sessions,
                          size_t count, const struct cr_cursor *cursor)
{
    PyObject *list = page_object(state, sessions, count);
    if (list == NULL)
        return NULL;
    if (count == 0)
        return Py_BuildValue("NO", list, Py_None);
    return Py_BuildValue("N(LN)", list, (long long)cursor->created_at, id_object(&cursor->id));
}

static PyObject *sessions_finish(struct crpy_call *call, struct cr_call *begun)
{
    struct cr_cursor cursor;
    size_t count = 0, capacity = (size_t)call->number;
    PyObject *row = NULL;
    enum cr_status st;
    struct cr_session *sessions = PyMem_Malloc(capacity * sizeof *sessions);
    if (sessions == NULL) {
        cr_call_cancel(begun);
        return PyErr_NoMemory();
    }
    PyThreadState *saved = PyEval_SaveThread();
    st = cr_sessions_of_finish(begun, &cursor, sessions, capacity, &count);
    PyEval_RestoreThread(saved);
    if (st == CR_OK)
        row = page_row(call->core->state, sessions, count, &cursor);
    else
        crpy_raise(call->core->state, st, NULL);
    PyMem_Free(sessions);
    return row;
}

static bool cursor_take(const struct crpy_state *state, PyObject *after, struct cr_cursor *out)
{
    long long created_at;
    memset(out, 0, sizeof *out);
    if (after == Py_None)
        return true;
    if (!PyTuple_Check(after) || PyTuple_Size(after) != 2) {
        PyErr_SetString(PyExc_TypeError, "after: what the page before ended with, or None");
        return false;
    }
    if (!crpy_number(state, "after", PyTuple_GetItem(after, 0), 0, INT64_MAX, &created_at) ||
        !crpy_id(state, PyTuple_GetItem(after, 1), &out->id))
        return false;
    out->created_at = created_at;
    return true;
}

PyObject *crpy_begin_sessions(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct crpy_core *core = crpy_core_of(self);
    struct cr_call *begun = NULL;
    struct cr_user user;
    struct cr_cursor cursor;
    long long capacity;
    enum cr_status st;
    if (!crpy_count("begin_sessions", count, 3) || !crpy_user(core->state, args[0], &user) ||
        !cursor_take(core->state, args[1], &cursor) ||
        !crpy_number(core->state, "count", args[2], 1, PAGE_MAX, &capacity))
        return NULL;
    struct cr_room *room = crpy_core_enter(core);
    if (room == NULL)
        return NULL;
    PyThreadState *saved = PyEval_SaveThread();
    st = cr_sessions_of_begin(room, &user, NULL, &cursor, (size_t)capacity, &begun);
    PyEval_RestoreThread(saved);
    return crpy_call_begun(core, st, begun, sessions_finish, NULL, capacity);
}

/* What became of one. */

static PyObject *times_object(const cr_time_ms *times, size_t count)
{
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; list != NULL && i < count; i++) {
        PyObject *number = PyLong_FromLongLong(times[i]);
        if (number == NULL || PyList_SetItem(list, (Py_ssize_t)i, number) != 0)
            Py_CLEAR(list);
    }
    return list;
}

static PyObject *text_object(const char *text)
{
    return crpy_text_object(text, strlen(text));
}

static PyObject *explanation_object(const struct cr_explanation *it)
{
    return Py_BuildValue("{s:N,s:z,s:L,s:N,s:N,s:L,s:L,s:L,s:N,s:N,s:N}", "live",
                         PyBool_FromLong(it->live), "reason",
                         it->live ? NULL : cr_reason_name(it->reason), "at", (long long)it->at,
                         "by", text_object(it->by), "user", crpy_user_object(&it->user),
                         "created_at", (long long)it->created_at, "seen_at", (long long)it->seen_at,
                         "ends_at", (long long)it->ends_at, "address",
                         text_object(it->from.address), "agent", text_object(it->from.agent),
                         "rotated_at", times_object(it->rotated_at, it->rotation_count));
}

static PyObject *explain_finish(struct crpy_call *call, struct cr_call *begun)
{
    struct cr_explanation explanation = {.size = sizeof explanation};
    enum cr_status st;
    PyThreadState *saved = PyEval_SaveThread();
    st = cr_explain_finish(begun, &explanation);
    PyEval_RestoreThread(saved);
    if (st == CR_OK)
        return explanation_object(&explanation);
    if (st == CR_NOT_FOUND)
        return Py_NewRef(Py_None);
    return crpy_raise(call->core->state, st, NULL);
}

PyObject *crpy_begin_explain(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct crpy_core *core = crpy_core_of(self);
    struct cr_call *begun = NULL;
    struct cr_session_id id;
    enum cr_status st;
    if (!crpy_count("begin_explain", count, 1) || !crpy_id(core->state, args[0], &id))
        return NULL;
    struct cr_room *room = crpy_core_enter(core);
    if (room == NULL)
        return NULL;
    PyThreadState *saved = PyEval_SaveThread();
    st = cr_explain_begin(room, &id, NULL, &begun);
    PyEval_RestoreThread(saved);
    return crpy_call_begun(core, st, begun, explain_finish, NULL, 0);
}

/* Counters. */

static const char *cache_name(enum cr_cache cache)
{
    switch (cache) {
    case CR_CACHE_DEFAULT:
        return "default";
    case CR_CACHE_NONE:
        return "none";
    case CR_CACHE_MEMORY:
        return "memory";
    case CR_CACHE_SHARED:
        return "shared";
    }
    return "unknown"; /* of a later agent */
}

static bool stats_number(PyObject *dictionary, const char *name, uint64_t number)
{
    PyObject *value = PyLong_FromUnsignedLongLong(number);
    bool is_set = value != NULL && PyDict_SetItemString(dictionary, name, value) == 0;
    Py_XDECREF(value);
    return is_set;
}

static PyObject *stats_object(const struct cr_stats *stats)
{
    const struct {
        const char *name;
        uint64_t number;
    } rows[] = {
        {"hits", stats->hits},
        {"misses", stats->misses},
        {"table_sessions", stats->table_sessions},
        {"table_capacity", stats->table_capacity},
        {"table_bytes", stats->table_bytes},
        {"fills", stats->fills},
        {"fills_refused", stats->fills_refused},
        {"store_reads", stats->store_reads},
        {"store_writes", stats->store_writes},
        {"store_commits", stats->store_commits},
        {"endings", stats->endings},
        {"agent_pid", stats->agent_pid},
        {"engines", stats->engines},
        {"attached_workers", stats->attached_workers},
        {"store_waiting", stats->store_waiting},
        {"store_calls", stats->store_calls},
        {"store_micros", stats->store_micros},
        {"evicted", stats->evicted},
        {"lease_left", stats->lease_left},
        {"tokens_unknown", stats->tokens_unknown},
        {"guessing_noticed", stats->guessing_noticed},
    };
    PyObject *dictionary =
        Py_BuildValue("{s:s,s:N,s:N}", "cache", cache_name(stats->cache), "attached",
                      PyBool_FromLong(stats->attached), "mapped", PyBool_FromLong(stats->mapped));
    for (size_t i = 0; dictionary != NULL && i < sizeof rows / sizeof rows[0]; i++)
        if (!stats_number(dictionary, rows[i].name, rows[i].number))
            Py_CLEAR(dictionary);
    return dictionary;
}

static PyObject *stats_finish(struct crpy_call *call, struct cr_call *begun)
{
    struct cr_stats stats = {.size = sizeof stats};
    enum cr_status st;
    PyThreadState *saved = PyEval_SaveThread();
    st = cr_stats_finish(begun, &stats);
    PyEval_RestoreThread(saved);
    return st == CR_OK ? stats_object(&stats) : crpy_raise(call->core->state, st, NULL);
}

PyObject *crpy_begin_stats(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct crpy_core *core = crpy_core_of(self);
    struct cr_call *begun = NULL;
    enum cr_status st;
    if (!crpy_count("begin_stats", count, 0))
        return NULL;
    struct cr_room *room = crpy_core_enter(core);
    if (room == NULL)
        return NULL;
    PyThreadState *saved = PyEval_SaveThread();
    st = cr_stats_begin(room, &begun);
    PyEval_RestoreThread(saved);
    return crpy_call_begun(core, st, begun, stats_finish, NULL, 0);
}
