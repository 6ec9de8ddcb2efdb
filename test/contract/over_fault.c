/* SPDX-License-Identifier: Apache-2.0 */
/* The contract tests over the fault store without a fault: it changes nothing by itself. */
#include "contract.h"

static struct cr_fault_plan plan;

enum cr_status over_open(const struct cr_store_env *env, struct cr_store **out_store)
{
    struct cr_store *inner = NULL;
    enum cr_status st = cr_store_open("memory:", env, &inner, NULL);
    if (st != CR_OK)
        return st;
    st = cr_store_fault_create(inner, &plan, out_store);
    if (st != CR_OK)
        cr_store_destroy(inner);
    return st;
}

void over_close(void)
{
}
