/* SPDX-License-Identifier: Apache-2.0 */
/* cloakroom.Session: one object with all its bytes inside, made in one piece on every hit. */
#ifndef PYTHON_SESSION_H
#define PYTHON_SESSION_H

#include "state.h"

#include <cloakroom/session.h>

extern PyType_Spec crpy_session_spec;

/* A Session of what the library filled in. Its data are `data_bytes` at `data`; NULL: those in
 * `from`, or none, where it has more than that holds (has_data is false then). */
PyObject *crpy_session_new(const struct crpy_state *state, const struct cr_session *from,
                           const void *data, size_t data_bytes);
/* One of a list, which have no data and do not say how much there is. */
PyObject *crpy_session_listed(const struct crpy_state *state, const struct cr_session *from);

/* Whether its data fit into a struct cr_session. */
static inline bool crpy_session_is_whole(const struct cr_session *session)
{
    return session->data_bytes <= CR_DATA_CACHED_BYTES_MAX;
}

#endif
