/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A loop without threads, for direct mode: whoever calls is the loop's thread. Work runs and is
 * done inside cr_pool_submit. What is submitted to a pool while that pool is at work waits until
 * the outermost submit takes it, so a chain of calls does not become a deep stack. What is
 * submitted while the loop is held waits for the release, and runs in as few batches as it can.
 */
#include <stdlib.h>

#include "base/assert.h"
#include "base/loop.h"
#include "base/timers.h"
#include "base/works.h"

struct loop_inline {
    struct cr_loop loop;
    struct cr_timers timers;
    struct pool_inline *pools;
    bool held;
};

struct pool_inline {
    struct cr_pool pool;
    struct pool_inline *next;
    struct cr_works waiting;
    bool at_work;
    struct cr_work *batch[]; /* batch_max of them */
};

static void inline_timer_set(struct cr_loop *loop, struct cr_timer *timer, cr_boot_ns due)
{
    cr_timers_set(&((struct loop_inline *)loop)->timers, timer, due);
}

static void inline_timer_stop(struct cr_loop *loop, struct cr_timer *timer)
{
    cr_timers_stop(&((struct loop_inline *)loop)->timers, timer);
}

static enum cr_status inline_pool_create(struct cr_loop *loop,
                                         const struct cr_pool_options *options,
                                         struct cr_pool **out_pool)
{
    struct pool_inline *pool =
        calloc(1, sizeof *pool + options->batch_max * sizeof(struct cr_work *));
    if (pool == NULL)
        return CR_E_NO_MEMORY;
    struct loop_inline *base = (struct loop_inline *)loop;
    pool->pool = (struct cr_pool){.loop = loop, .options = *options};
    pool->next = base->pools;
    base->pools = pool;
    *out_pool = &pool->pool;
    return CR_OK;
}

static void pool_work(struct pool_inline *pool)
{
    const struct cr_pool_options *options = &pool->pool.options;
    size_t count;
    if (pool->at_work)
        return;
    pool->at_work = true;
    while ((count = cr_works_take_batch(&pool->waiting, pool->batch, options->batch_max)) > 0) {
        options->run(options->context, 0, pool->batch, count);
        for (size_t i = 0; i < count; i++)
            pool->batch[i]->done(pool->batch[i]);
    }
    pool->at_work = false;
}

static bool inline_pool_submit(struct cr_pool *base, struct cr_work *work)
{
    struct pool_inline *pool = (struct pool_inline *)base;
    if (pool->waiting.count >= base->options.queue_max)
        return false;
    cr_works_add(&pool->waiting, work);
    if (!((struct loop_inline *)base->loop)->held)
        pool_work(pool);
    return true;
}

static void inline_pool_destroy(struct cr_pool *base)
{
    struct pool_inline *pool = (struct pool_inline *)base;
    CR_ASSERT(!pool->at_work);
    struct pool_inline **link = &((struct loop_inline *)base->loop)->pools;
    while (*link != pool)
        link = &(*link)->next;
    *link = pool->next;
    free(pool);
}

static const struct cr_loop_ops inline_ops = {
    .timer_set = inline_timer_set,
    .timer_stop = inline_timer_stop,
    .pool_create = inline_pool_create,
    .pool_submit = inline_pool_submit,
    .pool_destroy = inline_pool_destroy,
};

enum cr_status cr_loop_inline_create(struct cr_clock *clock, struct cr_loop **out_loop)
{
    struct loop_inline *loop = calloc(1, sizeof *loop);
    if (loop == NULL)
        return CR_E_NO_MEMORY;
    loop->loop = (struct cr_loop){.ops = &inline_ops, .clock = clock};
    *out_loop = &loop->loop;
    return CR_OK;
}

cr_boot_ns cr_loop_inline_run(struct cr_loop *loop)
{
    CR_ASSERT(loop->ops == &inline_ops);
    struct cr_timers *timers = &((struct loop_inline *)loop)->timers;
    cr_timers_fire(timers, cr_clock_boot(loop->clock));
    return cr_timers_next(timers);
}

void cr_loop_inline_hold(struct cr_loop *loop)
{
    CR_ASSERT(loop->ops == &inline_ops);
    ((struct loop_inline *)loop)->held = true;
}

void cr_loop_inline_release(struct cr_loop *loop)
{
    CR_ASSERT(loop->ops == &inline_ops);
    ((struct loop_inline *)loop)->held = false;
    for (struct pool_inline *pool = ((struct loop_inline *)loop)->pools; pool != NULL;
         pool = pool->next)
        pool_work(pool);
}

void cr_loop_inline_destroy(struct cr_loop *loop)
{
    if (loop == NULL)
        return;
    CR_ASSERT(loop->ops == &inline_ops);
    CR_ASSERT(((struct loop_inline *)loop)->pools == NULL);
    free(loop);
}
