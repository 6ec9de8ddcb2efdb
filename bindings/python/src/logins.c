/* SPDX-License-Identifier: Apache-2.0 */
/* What makes sessions and tokens: each answers session, signed token and expiry together. */
#include "methods.h"

#include "convert.h"
#include "errors.h"
#include "session.h"

#define KEEP_COUNT_MAX 1000

typedef enum cr_status login_finish_fn(struct cr_call *call, struct cr_login *out_login);

/* What is given as data is what the session has, where nothing else could be. */
static PyObject *login_session(const struct crpy_call *call, const struct cr_session *session)
{
    char *bytes;
    Py_ssize_t count;
    if (!crpy_session_is_whole(session) && call->given != NULL &&
        PyBytes_AsStringAndSize(call->given, &bytes, &count) == 0 &&
        (size_t)count == session->data_bytes)
        return crpy_session_new(call->core->state, session, bytes, (size_t)count);
    return crpy_session_new(call->core->state, session, NULL, 0);
}

static PyObject *login_row(struct crpy_call *call, struct cr_call *begun, login_finish_fn *finish)
{
    struct cr_login login;
    enum cr_status st;
    PyThreadState *saved = PyEval_SaveThread();
    st = finish(begun, &login);
    PyEval_RestoreThread(saved);
    if (st != CR_OK)
        return crpy_raise(call->core->state, st, NULL);
    PyObject *row = NULL, *session = login_session(call, &login.session);
    if (session != NULL)
        row = Py_BuildValue("Ns#L", session, login.signed_token.text, (Py_ssize_t)CR_TOKEN_CHARS,
                            (long long)login.expires_at);
    cr_token_wipe(&login.signed_token);
    return row;
}

static PyObject *login_finish(struct crpy_call *call, struct cr_call *begun)
{
    return login_row(call, begun, cr_login_finish);
}

static PyObject *create_finish(struct crpy_call *call, struct cr_call *begun)
{
    return login_row(call, begun, cr_create_finish);
}

static PyObject *rotate_finish(struct crpy_call *call, struct cr_call *begun)
{
    return login_row(call, begun, cr_rotate_finish);
}

/* What log-ins and new sessions have in common, and where its texts are kept meanwhile. */
struct wish {
    struct cr_login_options options;
    struct crpy_label address, agent;
    struct cr_token anonymous, renews;
};

/* `args`: idle_ms, absolute_ms, rights, data, address, agent, anonymous. */
static bool wish_take(const struct crpy_state *state, PyObject *const *args, struct wish *wish)
{
    long long idle, absolute;
    struct cr_login_options *options = &wish->options;
    *options = (struct cr_login_options){.size = sizeof *options};
    if (!crpy_number(state, "idle_ms", args[0], 0, CR_SPAN_MS_MAX, &idle) ||
        !crpy_number(state, "absolute_ms", args[1], 0, CR_SPAN_MS_MAX, &absolute) ||
        !crpy_bytes(state, "rights", args[2], CR_RIGHTS_BYTES_MAX, &options->rights,
                    &options->rights_bytes) ||
        !crpy_bytes(state, "data", args[3], CR_DATA_BYTES_MAX, &options->data,
                    &options->data_bytes) ||
        !crpy_label("address", args[4], &wish->address) ||
        !crpy_label("agent", args[5], &wish->agent) ||
        !crpy_token_or_none(state, args[6], &wish->anonymous, &options->anonymous))
        return false;
    options->idle = idle;
    options->absolute = absolute;
    options->address = wish->address.text;
    options->agent = wish->agent.text;
    return true;
}

static void wish_wipe(struct wish *wish)
{
    if (wish->options.anonymous != NULL)
        cr_token_wipe(&wish->anonymous);
    if (wish->options.renews != NULL)
        cr_token_wipe(&wish->renews);
}

/* The data that the session will have for certain; NULL: another's may move to it. */
static PyObject *data_certain(const struct wish *wish, PyObject *data)
{
    return wish->options.anonymous == NULL && wish->options.renews == NULL ? data : NULL;
}

PyObject *crpy_begin_login(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct crpy_core *core = crpy_core_of(self);
    struct cr_call *begun = NULL;
    struct cr_user user;
    struct wish wish;
    long long policy, keep_count;
    enum cr_status st;
    if (!crpy_count("begin_login", count, 11) || !crpy_user(core->state, args[0], &user) ||
        !crpy_number(core->state, "policy", args[1], CR_POLICY_REPLACE, CR_POLICY_KEEP_N,
                     &policy) ||
        !crpy_number(core->state, "keep_count", args[2], policy == CR_POLICY_KEEP_N ? 1 : 0,
                     policy == CR_POLICY_KEEP_N ? KEEP_COUNT_MAX : 0, &keep_count) ||
        !wish_take(core->state, args + 3, &wish) ||
        !crpy_token_or_none(core->state, args[10], &wish.renews, &wish.options.renews))
        return NULL;
    wish.options.policy = (enum cr_policy)policy;
    wish.options.keep_count = (unsigned)keep_count;
    struct cr_room *room = crpy_core_enter(core);
    if (room == NULL)
        return NULL;
    PyThreadState *saved = PyEval_SaveThread();
    st = cr_login_begin(room, &user, &wish.options, &begun);
    wish_wipe(&wish);
    PyEval_RestoreThread(saved);
    return crpy_call_begun(core, st, begun, login_finish, data_certain(&wish, args[6]), 0);
}

PyObject *crpy_begin_create(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct crpy_core *core = crpy_core_of(self);
    struct cr_call *begun = NULL;
    struct cr_user user;
    struct wish wish;
    enum cr_status st;
    if (!crpy_count("begin_create", count, 8) ||
        (args[0] != Py_None && !crpy_user(core->state, args[0], &user)) ||
        !wish_take(core->state, args + 1, &wish))
        return NULL;
    struct cr_room *room = crpy_core_enter(core);
    if (room == NULL)
        return NULL;
    PyThreadState *saved = PyEval_SaveThread();
    st = cr_create_begin(room, args[0] != Py_None ? &user : NULL, &wish.options, &begun);
    wish_wipe(&wish);
    PyEval_RestoreThread(saved);
    return crpy_call_begun(core, st, begun, create_finish, data_certain(&wish, args[4]), 0);
}

PyObject *crpy_begin_rotate(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct crpy_core *core = crpy_core_of(self);
    struct cr_call *begun = NULL;
    struct cr_token token;
    bool privilege;
    enum cr_status st;
    if (!crpy_count("begin_rotate", count, 2) || !crpy_token(core->state, args[0], &token) ||
        !crpy_flag(args[1], &privilege))
        return NULL;
    struct cr_room *room = crpy_core_enter(core);
    if (room == NULL)
        return NULL;
    PyThreadState *saved = PyEval_SaveThread();
    st = cr_rotate_begin(room, &token, privilege ? CR_ROTATE_PRIVILEGE : CR_ROTATE_RENEW, &begun);
    PyEval_RestoreThread(saved);
    return crpy_call_begun(core, st, begun, rotate_finish, NULL, 0);
}
