/* SPDX-License-Identifier: Apache-2.0 */
/* The stores that a URL can name: how store_open.c makes each. Elsewhere: cr_store_open. */
#ifndef STORE_STORES_H
#define STORE_STORES_H

#include "store/store.h"

/* `name` NULL: one of its own; else shared with all who open that name in this process. */
CR_MUST_CHECK enum cr_status cr_store_memory_create(const char *name,
                                                    const struct cr_store_env *env,
                                                    struct cr_store **out_store);

/* `path` is absolute. */
CR_MUST_CHECK enum cr_status cr_store_sqlite_open(const char *path, const struct cr_store_env *env,
                                                  struct cr_store **out_store,
                                                  struct cr_error *out_error);

/* Takes `inner` over when it succeeds; the plan is read from `plan_path` before every call. */
CR_MUST_CHECK enum cr_status cr_store_fault_open(const char *plan_path, struct cr_store *inner,
                                                 struct cr_store **out_store);

/* Writes status and text, and gives the status back; `out_error` may be NULL. */
enum cr_status cr_store_error(struct cr_error *out_error, enum cr_status status, const char *format,
                              ...) __attribute__((format(printf, 3, 4)));

#endif
