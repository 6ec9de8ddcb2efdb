/* SPDX-License-Identifier: Apache-2.0 */
/* The wrappers: the one place where each kind of loop is called, and what holds for all of them. */
#include "base/loop.h"

#include "base/assert.h"

void cr_timer_set(struct cr_loop *loop, struct cr_timer *timer, cr_boot_ns due)
{
    CR_ASSERT(timer->fire != NULL);
    if (due == CR_BOOT_NEVER) {
        loop->ops->timer_stop(loop, timer);
        return;
    }
    /* Not before now: one that sets itself in the past must not push in before others. */
    cr_boot_ns now = cr_clock_boot(loop->clock);
    loop->ops->timer_set(loop, timer, due > now ? due : now);
}

void cr_timer_stop(struct cr_loop *loop, struct cr_timer *timer)
{
    loop->ops->timer_stop(loop, timer);
}

enum cr_status cr_pool_create(struct cr_loop *loop, const struct cr_pool_options *options,
                              struct cr_pool **out_pool)
{
    CR_ASSERT(options->run != NULL);
    CR_ASSERT(options->threads > 0 && options->queue_max > 0 && options->batch_max > 0);
    return loop->ops->pool_create(loop, options, out_pool);
}

bool cr_pool_submit(struct cr_pool *pool, struct cr_work *work)
{
    CR_ASSERT(work->done != NULL);
    return pool->loop->ops->pool_submit(pool, work);
}

void cr_pool_destroy(struct cr_pool *pool)
{
    if (pool != NULL)
        pool->loop->ops->pool_destroy(pool);
}
