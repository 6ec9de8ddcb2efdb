/* SPDX-License-Identifier: Apache-2.0 */
/* _core.Lock: a named lock that this process was given. */
#ifndef PYTHON_LOCK_H
#define PYTHON_LOCK_H

#include "core.h"

#include <cloakroom/lock.h>

extern PyType_Spec crpy_lock_spec;

/* Takes `taken` over, also when it fails. */
PyObject *crpy_lock_new(struct crpy_core *core, struct cr_lock *taken);

/* For the core: they end with the room. */
void crpy_locks_close(struct crpy_core *core);

#endif
