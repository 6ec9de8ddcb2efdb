/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop that an engine lives on: timers, and pools for work that may block. One thread owns the
 * loop and everything above it; pools run work elsewhere and bring it back. Three kinds:
 *
 *   cr_loop_uv      libuv and threads: the agent
 *   cr_loop_inline  no threads: work runs inside cr_pool_submit, timers when cr_loop_inline_run is
 *                   called: direct mode
 *   the simulator's (test/sim): one thread, fake clock, work that takes simulated time
 */
#ifndef BASE_LOOP_H
#define BASE_LOOP_H

#include "base/clock.h"

struct cr_loop;
struct cr_pool;

/* Embedded in its owner, zeroed before its first use. Fires once, on the loop's thread; `due` is 0
 * again by then. */
struct cr_timer {
    void (*fire)(struct cr_timer *);
    cr_boot_ns due;  /* CR_BOOT_NEVER or 0: not set */
    void *loop_data; /* the loop's own */
    struct cr_timer *next;
};

/* One piece of work; embedded in its owner, who keeps it until `done`. */
struct cr_work {
    void (*done)(struct cr_work *); /* on the loop's thread */
    struct cr_work *next;           /* the pool's own */
};

struct cr_pool_options {
    const char *name;
    unsigned threads;
    size_t queue_max; /* waiting work beyond this is refused */
    size_t batch_max; /* how many waiting pieces one run takes at once; 1 for most */
    int nice;         /* added to the threads' priority value */
    /* Runs `count` pieces on pool thread number `thread` (0 to threads - 1). */
    void (*run)(void *context, unsigned thread, struct cr_work *const *batch, size_t count);
    void *context;
};

struct cr_loop_ops {
    void (*timer_set)(struct cr_loop *, struct cr_timer *, cr_boot_ns due);
    void (*timer_stop)(struct cr_loop *, struct cr_timer *);
    enum cr_status (*pool_create)(struct cr_loop *, const struct cr_pool_options *,
                                  struct cr_pool **out);
    bool (*pool_submit)(struct cr_pool *, struct cr_work *);
    /* Waits for what runs and calls its `done`; what only waited is dropped without. Not from
     * inside a `done`. */
    void (*pool_destroy)(struct cr_pool *);
};

struct cr_loop {
    const struct cr_loop_ops *ops;
    struct cr_clock *clock;
};

/* Embedded as the first member of each kind's pool. */
struct cr_pool {
    struct cr_loop *loop;
    struct cr_pool_options options;
};

/* (Re)sets the timer; timer->fire is set by the owner. A due instant in the past fires soon. */
void cr_timer_set(struct cr_loop *loop, struct cr_timer *timer, cr_boot_ns due);
void cr_timer_stop(struct cr_loop *loop, struct cr_timer *timer);
CR_MUST_CHECK enum cr_status cr_pool_create(struct cr_loop *loop,
                                            const struct cr_pool_options *options,
                                            struct cr_pool **out_pool);
/* False when the queue is full: the work was not taken, and `done` will not be called. */
CR_MUST_CHECK bool cr_pool_submit(struct cr_pool *pool, struct cr_work *work);
void cr_pool_destroy(struct cr_pool *pool); /* accepts NULL */

/* Direct mode. `run` fires the timers that are due and returns when the next one is. */
CR_MUST_CHECK enum cr_status cr_loop_inline_create(struct cr_clock *clock,
                                                   struct cr_loop **out_loop);
cr_boot_ns cr_loop_inline_run(struct cr_loop *loop);
/* From hold to release, pools take work and do not run it; release runs what waits, a pool's batch
 * at a time. Timers fire meanwhile. Not from inside a `done`. */
void cr_loop_inline_hold(struct cr_loop *loop);
void cr_loop_inline_release(struct cr_loop *loop);
void cr_loop_inline_destroy(struct cr_loop *loop);

/* The agent's (loop_uv.c). Watches descriptors too; `events` are CR_LOOP_READ, CR_LOOP_WRITE. */
#define CR_LOOP_READ 1
#define CR_LOOP_WRITE 2
struct cr_watch;
CR_MUST_CHECK enum cr_status cr_loop_uv_create(struct cr_loop **out_loop);
void cr_loop_uv_run(struct cr_loop *loop);  /* until cr_loop_uv_stop */
void cr_loop_uv_stop(struct cr_loop *loop); /* on the loop's thread */
void cr_loop_uv_destroy(struct cr_loop *loop);
CR_MUST_CHECK enum cr_status cr_watch_create(struct cr_loop *loop, int fd,
                                             void (*ready)(void *context, int events),
                                             void *context, struct cr_watch **out_watch);
void cr_watch_events(struct cr_watch *watch, int events);
void cr_watch_destroy(struct cr_watch *watch); /* does not close the descriptor; accepts NULL */
/* Calls `caught` on the loop's thread for each delivery of `signal_number`. */
CR_MUST_CHECK enum cr_status cr_loop_uv_signal(struct cr_loop *loop, int signal_number,
                                               void (*caught)(void *context, int signal_number),
                                               void *context);

#endif
