/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A list linked both ways: `next` and, in loop_data, the one before. New timers mostly fire last,
 * so the place of one is looked for from the end.
 *
 * A timer is in the list exactly while its `due` is neither 0 nor CR_BOOT_NEVER.
 */
#include "base/timers.h"

#include "base/assert.h"

static bool timer_is_set(const struct cr_timer *timer)
{
    return timer->due != 0 && timer->due != CR_BOOT_NEVER;
}

static struct cr_timer *timer_before(const struct cr_timer *timer)
{
    return timer->loop_data;
}

void cr_timers_stop(struct cr_timers *timers, struct cr_timer *timer)
{
    if (!timer_is_set(timer))
        return;
    struct cr_timer *before = timer_before(timer);
    *(before == NULL ? &timers->first : &before->next) = timer->next;
    if (timer->next == NULL)
        timers->last = before;
    else
        timer->next->loop_data = before;
    timer->due = 0;
    timer->next = NULL;
    timer->loop_data = NULL;
}

void cr_timers_set(struct cr_timers *timers, struct cr_timer *timer, cr_boot_ns due)
{
    CR_ASSERT(timer->fire != NULL);
    CR_ASSERT(due != 0 && due != CR_BOOT_NEVER);
    cr_timers_stop(timers, timer);
    struct cr_timer *before = timers->last;
    while (before != NULL && before->due > due)
        before = timer_before(before);
    struct cr_timer **link = before == NULL ? &timers->first : &before->next;
    timer->due = due;
    timer->loop_data = before;
    timer->next = *link;
    if (timer->next == NULL)
        timers->last = timer;
    else
        timer->next->loop_data = timer;
    *link = timer;
}

cr_boot_ns cr_timers_next(const struct cr_timers *timers)
{
    return timers->first == NULL ? CR_BOOT_NEVER : timers->first->due;
}

void cr_timers_fire(struct cr_timers *timers, cr_boot_ns now)
{
    size_t count = 0;
    for (const struct cr_timer *timer = timers->first; timer != NULL && timer->due <= now;
         timer = timer->next)
        count++;
    for (; count > 0 && cr_timers_next(timers) <= now; count--) {
        struct cr_timer *timer = timers->first;
        cr_timers_stop(timers, timer);
        timer->fire(timer);
    }
}
