/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The library's answers as exceptions of cloakroom.errors, with texts that say what to do. Nothing
 * that was given as a token, a key or an id is repeated in a text.
 */
#ifndef PYTHON_ERRORS_H
#define PYTHON_ERRORS_H

#include "state.h"

#include <cloakroom/session.h>

/* Each raises, and returns NULL for the caller to return. */

/* `text` NULL: what there is to say of the status by itself. */
PyObject *crpy_raise(const struct crpy_state *state, enum cr_status status, const char *text);
/* CR_PENDING and CR_E_UNKNOWN_OUTCOME. `ended` NULL: it was no ending. */
PyObject *crpy_raise_open(const struct crpy_state *state, enum cr_status status,
                          const struct cr_ended *ended);
/* InvalidArgument, or what stands there, in the manner of PyErr_Format. */
PyObject *crpy_raise_format(const struct crpy_state *state, enum crpy_error error,
                            enum cr_status status, const char *format, ...);

#define CRPY_ENDING_CHARS 32
void crpy_ending_text(const struct cr_ending_id *ending, char out[CRPY_ENDING_CHARS + 1]);

#endif
