/* SPDX-License-Identifier: Apache-2.0 */
/* The contract tests over the store that was built outside the tree. */
#include "contract.h"
#include "outside/list_store.h"

static cr_time_ms wall(void *context)
{
    return cr_clock_wall(((const struct cr_store_env *)context)->clock);
}

static cr_time_ms boot(void *context)
{
    return (cr_time_ms)(cr_clock_boot(((const struct cr_store_env *)context)->clock) /
                        CR_NS_PER_MS);
}

static enum cr_status chance(void *context, void *out, size_t bytes)
{
    return cr_random_fill(((const struct cr_store_env *)context)->random, out, bytes);
}

static struct cr_store_env kept;

enum cr_status over_open(const struct cr_store_env *env, struct cr_store **out_store)
{
    kept = *env;
    const struct list_env list_env = {wall, boot, chance, &kept};
    return list_store_create(&list_env, out_store);
}

void over_close(void)
{
}
