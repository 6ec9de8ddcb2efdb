/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The timers of a loop, in the order in which they fire: by due, equal ones as they were set. What
 * every kind of loop is made with; owners of timers use loop.h.
 */
#ifndef BASE_TIMERS_H
#define BASE_TIMERS_H

#include "base/loop.h"

struct cr_timers {
    struct cr_timer *first, *last;
};

void cr_timers_set(struct cr_timers *timers, struct cr_timer *timer, cr_boot_ns due);
void cr_timers_stop(struct cr_timers *timers, struct cr_timer *timer);
/* When the next one is due; CR_BOOT_NEVER when there is none. */
cr_boot_ns cr_timers_next(const struct cr_timers *timers);
/* Fires those that were due at `now` when the call began; one that sets itself anew waits for the
 * next call. Each may set and stop any timer, also its own. */
void cr_timers_fire(struct cr_timers *timers, cr_boot_ns now);

#endif
