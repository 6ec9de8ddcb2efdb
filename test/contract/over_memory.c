/* SPDX-License-Identifier: Apache-2.0 */
/* The contract tests over the memory store. */
#include "contract.h"

enum cr_status over_open(const struct cr_store_env *env, struct cr_store **out_store)
{
    return cr_store_open("memory:", env, out_store, NULL);
}

void over_close(void)
{
}
