/* SPDX-License-Identifier: Apache-2.0 */
/* The contract tests over the SQLite store: each in a new file of a new directory. */
#include "contract.h"
#include "files.h"

static struct scratch scratch;

enum cr_status over_open(const struct cr_store_env *env, struct cr_store **out_store)
{
    struct cr_error error = {.size = sizeof error};
    if (!scratch_make(&scratch))
        return CR_E_IO;
    enum cr_status st = cr_store_open(scratch.url, env, out_store, &error);
    if (st != CR_OK)
        tap_note("%s", error.text);
    return st;
}

void over_close(void)
{
    scratch_remove(&scratch);
}
