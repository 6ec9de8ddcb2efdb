/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small store that knows only what is installed (cloakroom/store.h). doc/writing-a-store.md walks
 * through it. Process-local, and gone with its last handle.
 */
#ifndef LIST_STORE_H
#define LIST_STORE_H

#include <cloakroom/store.h>

/* Where it gets time and chance from, so that tests can give their own. `wall` is in milliseconds
 * since 1970, `boot` in milliseconds of a clock that never jumps. */
struct list_env {
    cr_time_ms (*wall)(void *context);
    cr_time_ms (*boot)(void *context);
    enum cr_status (*random)(void *context, void *out, size_t bytes);
    void *context;
};

/* `env` NULL: the system's. */
enum cr_status list_store_create(const struct list_env *env, struct cr_store **out_store);

#endif
