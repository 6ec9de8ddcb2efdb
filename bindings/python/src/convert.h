/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Python's values as the library's. Each function answers false with an exception set: TypeError
 * where a value is of the wrong kind, InvalidArgument (or DataTooLarge) where it is out of bounds.
 * Bytes and texts are pointed into: they live as long as the object.
 */
#ifndef PYTHON_CONVERT_H
#define PYTHON_CONVERT_H

#include "state.h"

#include <cloakroom/session.h>

/* Whether a function was called with as many arguments as it takes. */
bool crpy_count(const char *function, Py_ssize_t count, Py_ssize_t wanted);

/* What was given by name. Borrowed; left as it is where nothing was. */
struct crpy_keyword {
    const char *name;
    PyObject **out;
    bool is_required;
};
bool crpy_keywords(const char *function, PyObject *keywords, const struct crpy_keyword *rows,
                   size_t count);

bool crpy_user(const struct crpy_state *state, PyObject *value, struct cr_user *out);

/* Text that is no token is no error: *out_is_token. */
bool crpy_token_text(PyObject *value, struct cr_token *out, bool *out_is_token);
/* Here it is one: there is no session of it. */
bool crpy_token(const struct crpy_state *state, PyObject *value, struct cr_token *out);
/* None: *out_given is NULL, and `storage` else. */
bool crpy_token_or_none(const struct crpy_state *state, PyObject *value, struct cr_token *storage,
                        const struct cr_token **out_given);

bool crpy_id(const struct crpy_state *state, PyObject *value, struct cr_session_id *out);

bool crpy_number(const struct crpy_state *state, const char *what, PyObject *value, long long min,
                 long long max, long long *out);
bool crpy_version(const struct crpy_state *state, PyObject *value, uint64_t *out);
bool crpy_flag(PyObject *value, bool *out);

bool crpy_bytes(const struct crpy_state *state, const char *what, PyObject *value, size_t bytes_max,
                const void **out, size_t *out_bytes);

/* None, or as much of a text as a label holds. Never refuses a text: browsers send what they like.
 */
struct crpy_label {
    const char *text; /* NULL: none */
    char storage[4 * (CR_AGENT_CHARS_MAX + 1)];
};
bool crpy_label(const char *what, PyObject *value, struct crpy_label *out);

/* A text of 1 to `bytes_max` bytes in UTF-8, whatever the locale is, and ended with a NUL. */
bool crpy_text(const struct crpy_state *state, const char *what, PyObject *value, size_t bytes_max,
               const char **out);

/* None, or what crpy_ending_text made. */
bool crpy_ending(const struct crpy_state *state, PyObject *value, struct cr_ending_id *out);

/* None, or a text as the file system spells it: *out_holder is to be released, also when it fails.
 */
bool crpy_path(const struct crpy_state *state, const char *what, PyObject *value,
               PyObject **out_holder, const char **out);

PyObject *crpy_user_object(const struct cr_user *user);
PyObject *crpy_text_object(const char *text, size_t length);

#endif
