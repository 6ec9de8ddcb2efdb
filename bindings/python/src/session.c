/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions. Making one costs an allocation and a copy: what is asked of it is made when it is asked
 * for. Behind the struct stand, without gaps: user, rights, data, address, agent.
 */
#include "session.h"

#include <stddef.h>
#include <string.h>

#include "convert.h"
#include "errors.h"

struct session {
    PyObject_VAR_HEAD cr_time_ms created_at, authenticated_at, ends_at, expires_at, seen_at, as_of;
    uint64_t version;
    uint32_t data_bytes; /* of the whole */
    uint32_t data_count; /* of those, here: all or none */
    uint16_t rights_count;
    uint8_t user_count, address_count, agent_count;
    bool has_data;
    char id[CR_SESSION_ID_CHARS];
    char bytes[];
};

static const struct session *session_of(PyObject *self)
{
    return (const struct session *)(const void *)self;
}

static const struct crpy_state *state_of(PyObject *self)
{
    return PyType_GetModuleState(Py_TYPE(self));
}

static size_t rights_at(const struct session *session)
{
    return session->user_count;
}

static size_t data_at(const struct session *session)
{
    return rights_at(session) + session->rights_count;
}

static size_t address_at(const struct session *session)
{
    return data_at(session) + session->data_count;
}

static size_t agent_at(const struct session *session)
{
    return address_at(session) + session->address_count;
}

static size_t bytes_end(const struct session *session)
{
    return agent_at(session) + session->agent_count;
}

/* Making. */

static char *append(char *to, const void *bytes, size_t count)
{
    if (count > 0)
        memcpy(to, bytes, count);
    return to + count;
}

static struct session *session_make(PyTypeObject *type, const struct cr_session *from,
                                    const void *data, size_t data_count)
{
    size_t address_count = strlen(from->address), agent_count = strlen(from->agent);
    size_t count =
        from->user.length + from->rights_bytes + data_count + address_count + agent_count;
    struct session *session = PyObject_NewVar(struct session, type, (Py_ssize_t)count);
    if (session == NULL)
        return NULL;
    session->created_at = from->created_at;
    session->authenticated_at = from->authenticated_at;
    session->ends_at = from->ends_at;
    session->expires_at = from->expires_at;
    session->seen_at = from->seen_at;
    session->as_of = from->as_of;
    session->version = from->version;
    session->data_bytes = (uint32_t)from->data_bytes;
    session->data_count = (uint32_t)data_count;
    session->rights_count = (uint16_t)from->rights_bytes;
    session->user_count = from->user.length;
    session->address_count = (uint8_t)address_count;
    session->agent_count = (uint8_t)agent_count;
    session->has_data = from->data_bytes == data_count;
    memcpy(session->id, from->id.text, sizeof session->id);
    char *to = append(session->bytes, from->user.bytes, from->user.length);
    to = append(to, from->rights, from->rights_bytes);
    to = append(to, data, data_count);
    to = append(to, from->address, address_count);
    (void)append(to, from->agent, agent_count);
    return session;
}

PyObject *crpy_session_new(const struct crpy_state *state, const struct cr_session *from,
                           const void *data, size_t data_bytes)
{
    if (data == NULL) {
        data = from->data;
        data_bytes = crpy_session_is_whole(from) ? from->data_bytes : 0;
    }
    return (PyObject *)session_make(state->session_type, from, data, data_bytes);
}

PyObject *crpy_session_listed(const struct crpy_state *state, const struct cr_session *from)
{
    struct session *session = session_make(state->session_type, from, NULL, 0);
    if (session != NULL)
        session->has_data = false;
    return (PyObject *)session;
}

/* The same with other data. */
static PyObject *session_with(PyObject *self, const void *data, size_t data_count, uint64_t version)
{
    const struct session *old = session_of(self);
    size_t count = bytes_end(old) - old->data_count + data_count;
    struct session *session = PyObject_NewVar(struct session, Py_TYPE(self), (Py_ssize_t)count);
    if (session == NULL)
        return NULL;
    size_t head = offsetof(struct session, created_at);
    memcpy((char *)session + head, (const char *)old + head,
           offsetof(struct session, bytes) - head);
    session->data_bytes = (uint32_t)data_count;
    session->data_count = (uint32_t)data_count;
    session->has_data = true;
    session->version = version;
    char *to = append(session->bytes, old->bytes, data_at(old));
    to = append(to, data, data_count);
    (void)append(to, old->bytes + address_at(old), bytes_end(old) - address_at(old));
    return (PyObject *)session;
}

static void session_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_Free(self);
    Py_DECREF(type);
}

/* What was given by name. */
struct given {
    PyObject *id, *user, *times[6], *version, *rights, *data, *address, *agent;
};

static bool given_times(const struct crpy_state *state, const struct given *given,
                        struct cr_session *out)
{
    static const char *const names[] = {"created_ms", "authenticated_ms", "ends_ms",
                                        "expires_ms", "seen_ms",          "as_of_ms"};
    cr_time_ms *const to[] = {&out->created_at, &out->authenticated_at, &out->ends_at,
                              &out->expires_at, &out->seen_at,          &out->as_of};
    for (size_t i = 0; i < sizeof to / sizeof to[0]; i++) {
        long long ms = 0;
        if (given->times[i] != NULL &&
            !crpy_number(state, names[i], given->times[i], 0, INT64_MAX, &ms))
            return false;
        *to[i] = ms;
    }
    return true;
}

static bool given_label(const char *what, PyObject *value, size_t chars_max, char *out)
{
    struct crpy_label label = {.text = NULL};
    if (value != NULL && !crpy_label(what, value, &label))
        return false;
    size_t count = label.text != NULL ? strlen(label.text) : 0;
    if (count > chars_max)
        count = chars_max;
    memcpy(out, label.text != NULL ? label.text : "", count);
    out[count] = '\0';
    return true;
}

static PyObject *session_new_given(PyTypeObject *type, const struct given *given)
{
    const struct crpy_state *state = PyType_GetModuleState(type);
    struct cr_session made;
    const void *rights = "", *data = "";
    size_t data_count = 0;
    memset(&made, 0, offsetof(struct cr_session, rights));
    made.version = 1;
    bool has_data = given->data != Py_None;
    if (!crpy_id(state, given->id, &made.id) ||
        (given->user != Py_None && !crpy_user(state, given->user, &made.user)) ||
        !given_times(state, given, &made) ||
        (given->version != NULL && !crpy_version(state, given->version, &made.version)) ||
        (given->rights != NULL && !crpy_bytes(state, "rights", given->rights, CR_RIGHTS_BYTES_MAX,
                                              &rights, &made.rights_bytes)) ||
        (given->data != NULL && has_data &&
         !crpy_bytes(state, "data", given->data, CR_DATA_BYTES_MAX, &data, &data_count)) ||
        !given_label("address", given->address, CR_ADDRESS_CHARS_MAX, made.address) ||
        !given_label("agent", given->agent, CR_AGENT_CHARS_MAX, made.agent))
        return NULL;
    memcpy(made.rights, rights, made.rights_bytes);
    /* data=None: there is more than is here. */
    made.data_bytes = has_data ? data_count : CR_DATA_CACHED_BYTES_MAX + 1;
    return (PyObject *)session_make(type, &made, data, data_count);
}

static PyObject *session_type_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    struct given given = {0};
    const struct crpy_keyword rows[] = {
        {"id", &given.id, true},
        {"user", &given.user, true},
        {"created_ms", &given.times[0], true},
        {"authenticated_ms", &given.times[1], true},
        {"ends_ms", &given.times[2], true},
        {"expires_ms", &given.times[3], true},
        {"seen_ms", &given.times[4], true},
        {"as_of_ms", &given.times[5], false},
        {"version", &given.version, false},
        {"rights", &given.rights, false},
        {"data", &given.data, false},
        {"address", &given.address, false},
        {"agent", &given.agent, false},
    };
    if (!crpy_count("Session (all by name; applications get sessions from validate and login)",
                    PyTuple_Size(args), 0) ||
        !crpy_keywords("Session", keywords, rows, sizeof rows / sizeof rows[0]))
        return NULL;
    return session_new_given(type, &given);
}

/* Asking. */

static PyObject *get_id(PyObject *self, void *unused)
{
    return PyUnicode_FromStringAndSize(session_of(self)->id, CR_SESSION_ID_CHARS);
}

static PyObject *get_user(PyObject *self, void *unused)
{
    const struct session *session = session_of(self);
    struct cr_user user = {.length = session->user_count};
    memcpy(user.bytes, session->bytes, user.length);
    return crpy_user_object(&user);
}

/* None: never. */
static PyObject *time_object(PyObject *self, cr_time_ms ms)
{
    const struct crpy_state *state = state_of(self);
    if (ms == 0)
        return Py_NewRef(Py_None);
    return PyObject_CallFunction(state->from_timestamp, "dO", (double)ms / 1000, state->utc);
}

static PyObject *get_created_at(PyObject *self, void *unused)
{
    return time_object(self, session_of(self)->created_at);
}

static PyObject *get_authenticated_at(PyObject *self, void *unused)
{
    return time_object(self, session_of(self)->authenticated_at);
}

static PyObject *get_ends_at(PyObject *self, void *unused)
{
    return time_object(self, session_of(self)->ends_at);
}

static PyObject *get_expires_at(PyObject *self, void *unused)
{
    return time_object(self, session_of(self)->expires_at);
}

static PyObject *get_seen_at(PyObject *self, void *unused)
{
    return time_object(self, session_of(self)->seen_at);
}

static PyObject *get_as_of(PyObject *self, void *unused)
{
    return PyLong_FromLongLong(session_of(self)->as_of);
}

static PyObject *get_version(PyObject *self, void *unused)
{
    return PyLong_FromUnsignedLongLong(session_of(self)->version);
}

static PyObject *get_rights(PyObject *self, void *unused)
{
    const struct session *session = session_of(self);
    return PyBytes_FromStringAndSize(session->bytes + rights_at(session), session->rights_count);
}

static bool session_has_data(PyObject *self)
{
    bool has_data = session_of(self)->has_data;
    if (!has_data)
        crpy_raise(state_of(self), CR_E_INVALID,
                   "this session came without its data, as those of lists do, and those with much: "
                   "room.read(session) has them");
    return has_data;
}

static PyObject *get_data(PyObject *self, void *unused)
{
    const struct session *session = session_of(self);
    if (!session_has_data(self))
        return NULL;
    return PyBytes_FromStringAndSize(session->bytes + data_at(session), session->data_count);
}

static PyObject *get_data_bytes(PyObject *self, void *unused)
{
    return PyLong_FromUnsignedLong(session_of(self)->data_bytes);
}

static PyObject *get_has_data(PyObject *self, void *unused)
{
    return PyBool_FromLong(session_of(self)->has_data);
}

static PyObject *get_address(PyObject *self, void *unused)
{
    const struct session *session = session_of(self);
    return crpy_text_object(session->bytes + address_at(session), session->address_count);
}

static PyObject *get_agent(PyObject *self, void *unused)
{
    const struct session *session = session_of(self);
    return crpy_text_object(session->bytes + agent_at(session), session->agent_count);
}

static PyGetSetDef session_getters[] = {
    {"id", get_id, NULL, "Its public name: safe to show and to log.", NULL},
    {"user", get_user, NULL, "Whose it is; None: anonymous.", NULL},
    {"created_at", get_created_at, NULL, "When it was made.", NULL},
    {"authenticated_at", get_authenticated_at, NULL, "When its user was last checked; None: never.",
     NULL},
    {"ends_at", get_ends_at, NULL, "Its end, however much it is used.", NULL},
    {"expires_at", get_expires_at, NULL, "Its end, if it is not used any more.", NULL},
    {"seen_at", get_seen_at, NULL, "When it was last used, as far as the store knows.", NULL},
    {"as_of_ms", get_as_of, NULL, "The instant this is true for, on this host's boot-time clock.",
     NULL},
    {"version", get_version, NULL, "Of the data: rises with each change.", NULL},
    {"rights", get_rights, NULL, "What the application said its user may do.", NULL},
    {"data", get_data, NULL, "What the application put in.", NULL},
    {"data_bytes", get_data_bytes, NULL, "How much it put in, in bytes; 0 also in lists.", NULL},
    {"has_data", get_has_data, NULL,
     "Whether the data are here: not in lists, and not where they are long.", NULL},
    {"address", get_address, NULL, "Where it was made from; lists and log-ins have it.", NULL},
    {"agent", get_agent, NULL, "By which browser; lists and log-ins have it.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyObject *session_json(PyObject *self, PyObject *unused)
{
    const struct session *session = session_of(self);
    if (!session_has_data(self))
        return NULL;
    if (session->data_count == 0)
        return PyDict_New();
    return PyObject_CallFunction(state_of(self)->json_loads, "y#",
                                 session->bytes + data_at(session),
                                 (Py_ssize_t)session->data_count);
}

static PyObject *session_with_data(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    const void *data;
    size_t data_count;
    uint64_t version;
    const struct crpy_state *state = state_of(self);
    if (!crpy_count("with_data", count, 2) ||
        !crpy_bytes(state, "data", args[0], CR_DATA_BYTES_MAX, &data, &data_count) ||
        !crpy_version(state, args[1], &version))
        return NULL;
    return session_with(self, data, data_count, version);
}

static PyObject *session_reduce(PyObject *self, PyObject *unused)
{
    PyErr_SetString(PyExc_TypeError,
                    "a Session is not pickled: it says what was true at one instant, and would go "
                    "on saying it after the session has ended. Pass on the token, or session.id, "
                    "and ask there");
    return NULL;
}

static PyObject *session_copy(PyObject *self, PyObject *unused)
{
    return Py_NewRef(self);
}

#define WITH_ARRAY(function) (PyCFunction)(void (*)(void))(function)

static PyMethodDef session_methods[] = {
    {"json", session_json, METH_NOARGS, "The data, as JSON; {} where there are none."},
    {"with_data", WITH_ARRAY(session_with_data), METH_FASTCALL,
     "with_data(data, version): the same session with other data."},
    {"__reduce__", session_reduce, METH_NOARGS, "Sessions are not pickled."},
    {"__copy__", session_copy, METH_NOARGS, "Itself: it never changes."},
    {"__deepcopy__", session_copy, METH_O, "Itself: it never changes."},
    {NULL, NULL, 0, NULL},
};

static PyObject *session_repr(PyObject *self)
{
    PyObject *id = get_id(self, NULL), *user = get_user(self, NULL), *text = NULL;
    if (id != NULL && user != NULL)
        text = PyUnicode_FromFormat("<cloakroom.Session %U of %R, %u bytes>", id, user,
                                    (unsigned)session_of(self)->data_bytes);
    Py_XDECREF(id);
    Py_XDECREF(user);
    return text;
}

/* All but as_of: the same answer at another time is the same session. */
static bool sessions_equal(const struct session *a, const struct session *b)
{
    return a->created_at == b->created_at && a->authenticated_at == b->authenticated_at &&
           a->ends_at == b->ends_at && a->expires_at == b->expires_at && a->seen_at == b->seen_at &&
           a->version == b->version && a->has_data == b->has_data &&
           a->data_bytes == b->data_bytes && a->data_count == b->data_count &&
           a->rights_count == b->rights_count && a->user_count == b->user_count &&
           a->address_count == b->address_count && a->agent_count == b->agent_count &&
           memcmp(a->id, b->id, sizeof a->id) == 0 && memcmp(a->bytes, b->bytes, bytes_end(a)) == 0;
}

static PyObject *session_compare(PyObject *self, PyObject *other, int operation)
{
    if (Py_TYPE(self) != Py_TYPE(other) || (operation != Py_EQ && operation != Py_NE))
        return Py_NewRef(Py_NotImplemented);
    bool equal = sessions_equal(session_of(self), session_of(other));
    return PyBool_FromLong(equal == (operation == Py_EQ));
}

static Py_hash_t session_hash(PyObject *self)
{
    const struct session *session = session_of(self);
    uint64_t mix = 14695981039346656037ULL ^ session->version; /* FNV-1a */
    for (size_t i = 0; i < sizeof session->id; i++)
        mix = (mix ^ (unsigned char)session->id[i]) * 1099511628211ULL;
    Py_hash_t hash = (Py_hash_t)mix;
    return hash != -1 ? hash : -2;
}

static char session_doc[] =
    "One session as it was at `as_of_ms`. Immutable; equal to another that says the same, whenever "
    "it was asked.";

static PyType_Slot session_slots[] = {
    {Py_tp_doc, session_doc},
    {Py_tp_new, session_type_new},
    {Py_tp_dealloc, session_dealloc},
    {Py_tp_repr, session_repr},
    {Py_tp_richcompare, session_compare},
    {Py_tp_hash, session_hash},
    {Py_tp_getset, session_getters},
    {Py_tp_methods, session_methods},
    {0, NULL},
};

PyType_Spec crpy_session_spec = {
    .name = "cloakroom.Session",
    .basicsize = (int)offsetof(struct session, bytes),
    .itemsize = 1,
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = session_slots,
};
