/* SPDX-License-Identifier: Apache-2.0 */
#include "convert.h"

#include <string.h>

#include "errors.h"

static bool wrong_type(const char *what, const char *wanted, PyObject *value)
{
    PyObject *name = PyType_GetName(Py_TYPE(value));
    if (name != NULL)
        PyErr_Format(PyExc_TypeError, "%s: %s, not %.100U", what, wanted, name);
    Py_XDECREF(name);
    return false;
}

bool crpy_count(const char *function, Py_ssize_t count, Py_ssize_t wanted)
{
    if (count != wanted)
        PyErr_Format(PyExc_TypeError, "%s takes %zd arguments, and %zd were given", function,
                     wanted, count);
    return count == wanted;
}

bool crpy_keywords(const char *function, PyObject *keywords, const struct crpy_keyword *rows,
                   size_t count)
{
    Py_ssize_t found = 0;
    for (size_t i = 0; i < count; i++) {
        PyObject *value = keywords != NULL ? PyDict_GetItemString(keywords, rows[i].name) : NULL;
        if (value != NULL) {
            *rows[i].out = value;
            found++;
        } else if (rows[i].is_required) {
            PyErr_Format(PyExc_TypeError, "%s: %s= is missing", function, rows[i].name);
            return false;
        }
    }
    if (keywords != NULL && found != PyDict_Size(keywords)) {
        PyErr_Format(PyExc_TypeError, "%s: something is given under a name that it does not know",
                     function);
        return false;
    }
    return true;
}

/* Its UTF-8; NULL, and no exception, where it is longer than `bytes_max` or cannot be spelt (a lone
 * surrogate), or where there is no memory for it. */
static const char *utf8(PyObject *text, size_t bytes_max, size_t *out_bytes)
{
    Py_ssize_t bytes = PyUnicode_GetLength(text);
    /* Not first turned into something as huge as it is. */
    const char *spelt =
        bytes >= 0 && (size_t)bytes <= bytes_max ? PyUnicode_AsUTF8AndSize(text, &bytes) : NULL;
    if (spelt == NULL || (size_t)bytes > bytes_max) {
        PyErr_Clear();
        return NULL;
    }
    *out_bytes = (size_t)bytes;
    return spelt;
}

/* Users. */

static bool user_text_begins(const char *text, size_t bytes, const char *prefix)
{
    size_t count = strlen(prefix);
    return bytes >= count && memcmp(text, prefix, count) == 0;
}

static bool user_is_session(const char *given)
{
    PyErr_Format(PyExc_TypeError,
                 "user: %s was given where a user is meant. Give session.user; one session is "
                 "ended by end(session)",
                 given);
    return false;
}

bool crpy_user(const struct crpy_state *state, PyObject *value, struct cr_user *out)
{
    size_t bytes;
    if (Py_TYPE(value) == state->session_type)
        return user_is_session("a session");
    if (PyLong_Check(value)) {
        PyErr_SetString(PyExc_TypeError, "user: a text, not a number: give str(user_id)");
        return false;
    }
    if (!PyUnicode_Check(value))
        return wrong_type("user", "a str", value);
    const char *text = utf8(value, CR_USER_BYTES_MAX, &bytes);
    if (text == NULL || bytes == 0) {
        crpy_raise_format(state, CRPY_InvalidArgument, CR_E_INVALID,
                          "user: text of 1 to %d bytes in UTF-8, without lone surrogates",
                          CR_USER_BYTES_MAX);
        return false;
    }
    if (user_text_begins(text, bytes, "crp_"))
        return user_is_session("a session's id");
    if (user_text_begins(text, bytes, "crs1_"))
        return user_is_session("a session's token");
    if (cr_user_parse(text, bytes, out) == CR_OK)
        return true;
    crpy_raise(state, CR_E_INVALID, "user: not the name of a user");
    return false;
}

PyObject *crpy_user_object(const struct cr_user *user)
{
    if (user->length == 0)
        return Py_NewRef(Py_None);
    /* Not every user was made by Python. What is no UTF-8 cannot be given back either, rather than
     * that two texts name one user. */
    return PyUnicode_DecodeUTF8((const char *)user->bytes, user->length, "surrogateescape");
}

PyObject *crpy_text_object(const char *text, size_t length)
{
    return PyUnicode_DecodeUTF8(text, (Py_ssize_t)length, "replace");
}

/* Tokens and ids. */

bool crpy_token_text(PyObject *value, struct cr_token *out, bool *out_is_token)
{
    Py_ssize_t bytes = 0;
    *out_is_token = false;
    if (!PyUnicode_Check(value))
        return wrong_type("token", "a str", value);
    if (PyUnicode_GetLength(value) != CR_TOKEN_CHARS)
        return true;
    const char *text = PyUnicode_AsUTF8AndSize(value, &bytes);
    if (text == NULL)
        PyErr_Clear();
    else
        *out_is_token = cr_token_parse(text, (size_t)bytes, out) == CR_OK;
    return true;
}

bool crpy_token(const struct crpy_state *state, PyObject *value, struct cr_token *out)
{
    bool is_token;
    if (!crpy_token_text(value, out, &is_token))
        return false;
    if (!is_token)
        crpy_raise(state, CR_NOT_FOUND, "that text is no token, so there is no session of it");
    return is_token;
}

bool crpy_token_or_none(const struct crpy_state *state, PyObject *value, struct cr_token *storage,
                        const struct cr_token **out_given)
{
    *out_given = value == Py_None ? NULL : storage;
    return value == Py_None || crpy_token(state, value, storage);
}

bool crpy_id(const struct crpy_state *state, PyObject *value, struct cr_session_id *out)
{
    size_t bytes;
    if (!PyUnicode_Check(value))
        return wrong_type("session", "a Session, or its id as a str", value);
    const char *text = utf8(value, CR_TOKEN_CHARS, &bytes);
    if (text != NULL && user_text_begins(text, bytes, "crs1_")) {
        PyErr_SetString(PyExc_TypeError, "session: a token was given where a session or its id is "
                                         "meant. Give what validate(token) returns");
        return false;
    }
    if (text != NULL && cr_session_id_parse(text, bytes, out) == CR_OK)
        return true;
    crpy_raise(state, CR_E_INVALID,
               "session: that text is no session's id, which is crp_ and 24 characters");
    return false;
}

/* Numbers. */

bool crpy_number(const struct crpy_state *state, const char *what, PyObject *value, long long min,
                 long long max, long long *out)
{
    int overflow = 0;
    if (!PyLong_Check(value))
        return wrong_type(what, "an int", value);
    long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (number == -1 && PyErr_Occurred())
        return false;
    if (overflow != 0 || number < min || number > max) {
        crpy_raise_format(state, CRPY_InvalidArgument, CR_E_INVALID, "%s: from %lld to %lld", what,
                          min, max);
        return false;
    }
    *out = number;
    return true;
}

bool crpy_version(const struct crpy_state *state, PyObject *value, uint64_t *out)
{
    if (!PyLong_Check(value))
        return wrong_type("version", "an int", value);
    uint64_t number = PyLong_AsUnsignedLongLong(value);
    if (number == UINT64_MAX && PyErr_Occurred()) {
        PyErr_Clear();
        crpy_raise(state, CR_E_INVALID, "version: the session's, or ANY_VERSION");
        return false;
    }
    *out = number;
    return true;
}

bool crpy_flag(PyObject *value, bool *out)
{
    int is_true = PyObject_IsTrue(value);
    *out = is_true > 0;
    return is_true >= 0;
}

/* Bytes and texts. */

bool crpy_bytes(const struct crpy_state *state, const char *what, PyObject *value, size_t bytes_max,
                const void **out, size_t *out_bytes)
{
    char *bytes;
    Py_ssize_t count;
    /* Nothing that somebody could change while it is sent. */
    if (!PyBytes_Check(value))
        return wrong_type(what, "bytes", value);
    if (PyBytes_AsStringAndSize(value, &bytes, &count) != 0)
        return false;
    if ((size_t)count > bytes_max) {
        crpy_raise_format(state, CRPY_DataTooLarge, CR_E_LIMIT,
                          "%s: %zd bytes, where at most %zu fit", what, count, bytes_max);
        return false;
    }
    *out = bytes;
    *out_bytes = (size_t)count;
    return true;
}

bool crpy_label(const char *what, PyObject *value, struct crpy_label *out)
{
    char *bytes;
    Py_ssize_t count;
    out->text = NULL;
    if (value == Py_None)
        return true;
    if (!PyUnicode_Check(value))
        return wrong_type(what, "a str", value);
    PyObject *first = PyUnicode_Substring(value, 0, CR_AGENT_CHARS_MAX);
    PyObject *spelt = first != NULL ? PyUnicode_AsEncodedString(first, "utf-8", "replace") : NULL;
    bool is_good = spelt != NULL && PyBytes_AsStringAndSize(spelt, &bytes, &count) == 0;
    if (is_good) {
        /* A NUL would be its end; the library puts '?' in the place of control characters. */
        for (Py_ssize_t i = 0; i < count; i++)
            out->storage[i] = bytes[i] != '\0' ? bytes[i] : '?';
        out->storage[count] = '\0';
        out->text = out->storage;
    }
    Py_XDECREF(first);
    Py_XDECREF(spelt);
    return is_good;
}

bool crpy_text(const struct crpy_state *state, const char *what, PyObject *value, size_t bytes_max,
               const char **out)
{
    size_t bytes = 0;
    if (!PyUnicode_Check(value))
        return wrong_type(what, "a str", value);
    *out = utf8(value, bytes_max, &bytes);
    if (*out != NULL && bytes > 0 && strlen(*out) == bytes)
        return true;
    crpy_raise_format(state, CRPY_InvalidArgument, CR_E_INVALID,
                      "%s: 1 to %zu bytes in UTF-8, without NUL characters or lone surrogates",
                      what, bytes_max);
    return false;
}

static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool ending_parse(const char *text, struct cr_ending_id *out)
{
    unsigned any = 0;
    for (size_t i = 0; i < sizeof out->bytes; i++) {
        int high = digit_of(text[2 * i]), low = digit_of(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        out->bytes[i] = (unsigned char)(high << 4 | low);
        any |= out->bytes[i];
    }
    return any != 0;
}

bool crpy_ending(const struct crpy_state *state, PyObject *value, struct cr_ending_id *out)
{
    size_t bytes;
    *out = (struct cr_ending_id){0};
    if (value == Py_None)
        return true;
    if (!PyUnicode_Check(value))
        return wrong_type("repeat", "an ending's id as a str", value);
    const char *text = utf8(value, CRPY_ENDING_CHARS, &bytes);
    if (text != NULL && bytes == CRPY_ENDING_CHARS && ending_parse(text, out))
        return true;
    crpy_raise_format(state, CRPY_InvalidArgument, CR_E_INVALID,
                      "repeat: the id of an ending, %d hexadecimal digits", CRPY_ENDING_CHARS);
    return false;
}

bool crpy_path(const struct crpy_state *state, const char *what, PyObject *value,
               PyObject **out_holder, const char **out)
{
    char *bytes;
    Py_ssize_t count;
    *out_holder = NULL;
    *out = NULL;
    if (value == NULL || value == Py_None)
        return true;
    if (!PyUnicode_Check(value))
        return wrong_type(what, "a str", value);
    *out_holder = PyUnicode_EncodeFSDefault(value);
    if (*out_holder == NULL && PyErr_ExceptionMatches(PyExc_UnicodeError))
        PyErr_Clear();
    else if (*out_holder == NULL || PyBytes_AsStringAndSize(*out_holder, &bytes, &count) != 0)
        return false;
    if (*out_holder != NULL && strlen(bytes) == (size_t)count) {
        *out = bytes;
        return true;
    }
    crpy_raise_format(state, CRPY_InvalidArgument, CR_E_INVALID,
                      "%s: not with NUL characters or lone surrogates", what);
    return false;
}
