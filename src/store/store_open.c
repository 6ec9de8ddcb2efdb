/* SPDX-License-Identifier: Apache-2.0 */
/* Opening a store by URL. What comes after the scheme belongs to each store's own file. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/stores.h"

enum cr_status cr_store_env_system(struct cr_store_env *out_env)
{
    out_env->clock = cr_clock_system();
    out_env->random = cr_random_system();
    return cr_boot_id(out_env->boot_id);
}

enum cr_status cr_store_error(struct cr_error *out_error, enum cr_status status, const char *format,
                              ...)
{
    if (out_error == NULL)
        return status;
    va_list args;
    va_start(args, format);
    out_error->status = status;
    vsnprintf(out_error->text, sizeof out_error->text, format, args);
    va_end(args);
    return status;
}

/* What follows `scheme` in `url`, or NULL. */
static const char *url_rest(const char *url, const char *scheme)
{
    size_t length = strlen(scheme);
    return strncmp(url, scheme, length) == 0 ? url + length : NULL;
}

static enum cr_status sqlite_open(const char *rest, const struct cr_store_env *env,
                                  struct cr_store **out_store, struct cr_error *out_error)
{
    if (strncmp(rest, "///", 3) != 0 || rest[3] == '\0')
        return cr_store_error(out_error, CR_E_INVALID,
                              "sqlite:%s does not name a file: write sqlite:///PATH with the whole "
                              "path, such as sqlite:///var/lib/app/sessions.db",
                              rest);
    return cr_store_sqlite_open(rest + 2, env, out_store, out_error);
}

#ifdef CR_FAILPOINTS
/* fault:PLANFILE,URL */
static enum cr_status fault_open(const char *rest, const struct cr_store_env *env,
                                 struct cr_store **out_store, struct cr_error *out_error)
{
    struct cr_store *inner = NULL;
    const char *comma = strchr(rest, ',');
    if (comma == NULL || comma == rest)
        return cr_store_error(out_error, CR_E_INVALID, "fault: is written fault:PLANFILE,URL");
    char *plan_path = strndup(rest, (size_t)(comma - rest));
    if (plan_path == NULL)
        return cr_store_error(out_error, CR_E_NO_MEMORY, "out of memory");
    enum cr_status st = cr_store_open(comma + 1, env, &inner, out_error);
    if (st != CR_OK)
        goto out;
    st = cr_store_fault_open(plan_path, inner, out_store);
    if (st != CR_OK) {
        cr_store_destroy(inner);
        cr_store_error(out_error, st, "%s", cr_status_text(st));
    }
out:
    free(plan_path);
    return st;
}
#else
static enum cr_status fault_open(const char *rest, const struct cr_store_env *env,
                                 struct cr_store **out_store, struct cr_error *out_error)
{
    return cr_store_error(
        out_error, CR_E_INVALID,
        "fault: makes a store fail on command, for tests, and this build has none "
        "of that: name the store itself, or build with -Dfailpoints=true");
}
#endif

enum cr_status cr_store_open(const char *url, const struct cr_store_env *env,
                             struct cr_store **out_store, struct cr_error *out_error)
{
    const char *rest;
    if ((rest = url_rest(url, "sqlite:")) != NULL)
        return sqlite_open(rest, env, out_store, out_error);
    if ((rest = url_rest(url, "fault:")) != NULL)
        return fault_open(rest, env, out_store, out_error);
    if ((rest = url_rest(url, "memory:")) != NULL) {
        enum cr_status st = cr_store_memory_create(*rest == '\0' ? NULL : rest, env, out_store);
        return st == CR_OK ? st : cr_store_error(out_error, st, "%s", cr_status_text(st));
    }
    /* A URL may carry credentials: only its scheme is shown. */
    return cr_store_error(out_error, CR_E_INVALID,
                          "there is no store called \"%.*s\": write sqlite:///PATH or memory:",
                          (int)strcspn(url, ":"), url);
}
