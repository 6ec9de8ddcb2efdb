/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's loop: libuv, and threads of our own in the pools (libuv's pool is one for all work
 * and knows no batches).
 *
 * Who touches what. Everything belongs to the loop's thread, but for the fields of a pool that say
 * "under lock". A pool thread takes waiting work, runs it without the lock, puts it among the
 * finished and wakes the loop; only the loop's thread calls `done`. Timers are one timerfd of
 * CLOCK_BOOTTIME, the clock that deadlines are counted in: libuv's timers do not count suspends.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <uv.h>

#include "base/assert.h"
#include "base/loop.h"
#include "base/timers.h"
#include "base/works.h"

#define THREAD_NAME_CHARS_MAX 15

struct pool_uv;
struct signal_uv;

struct loop_uv {
    struct cr_loop loop;
    uv_loop_t uv;
    uv_async_t wake; /* a pool has finished something */
    uv_poll_t timer_poll;
    int timer_fd;
    cr_boot_ns timer_armed; /* what timer_fd is set to */
    struct cr_timers timers;
    struct pool_uv *pools;
    struct signal_uv *signals;
    size_t watch_count;
    bool delivering;
};

struct pool_thread {
    struct pool_uv *pool;
    unsigned number;
    pthread_t id;
    struct cr_work **batch; /* batch_max of them */
};

struct pool_uv {
    struct cr_pool pool;
    struct pool_uv *next; /* in the loop's list */
    pthread_mutex_t lock;
    pthread_cond_t changed;   /* waiting or stopping; under lock */
    struct cr_works waiting;  /* under lock */
    struct cr_works finished; /* under lock */
    bool stopping;            /* under lock */
    struct cr_works ready;    /* finished, their `done` is next */
    unsigned started;
    struct pool_thread threads[];
};

struct cr_watch {
    uv_poll_t poll;
    struct loop_uv *loop;
    void (*ready)(void *context, int events);
    void *context;
};

struct signal_uv {
    uv_signal_t signal;
    struct signal_uv *next;
    void (*caught)(void *context, int signal_number);
    void *context;
};

static enum cr_status status_of_uv(int error)
{
    return error == UV_ENOMEM ? CR_E_NO_MEMORY : CR_E_IO;
}

static struct loop_uv *loop_of(struct cr_loop *loop);

/* Timers. */

static void timer_arm(struct loop_uv *loop)
{
    cr_boot_ns due = cr_timers_next(&loop->timers);
    if (due == loop->timer_armed)
        return;
    struct itimerspec spec = {0}; /* all zero: off */
    if (due != CR_BOOT_NEVER) {
        spec.it_value.tv_sec = (time_t)(due / (1000 * CR_NS_PER_MS));
        spec.it_value.tv_nsec = (long)(due % (1000 * CR_NS_PER_MS));
    }
    int failed = timerfd_settime(loop->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL);
    CR_ASSERT(failed == 0);
    loop->timer_armed = due;
}

static void timer_ready(uv_poll_t *poll, int status, int events)
{
    struct loop_uv *loop = poll->data;
    uint64_t expirations; /* not of interest, but reading makes the descriptor quiet */
    if (read(loop->timer_fd, &expirations, sizeof expirations) == (ssize_t)sizeof expirations)
        loop->timer_armed = CR_BOOT_NEVER;
    cr_timers_fire(&loop->timers, cr_clock_boot(loop->loop.clock));
    timer_arm(loop);
}

static void uv_ops_timer_set(struct cr_loop *base, struct cr_timer *timer, cr_boot_ns due)
{
    struct loop_uv *loop = loop_of(base);
    cr_timers_set(&loop->timers, timer, due);
    timer_arm(loop);
}

static void uv_ops_timer_stop(struct cr_loop *base, struct cr_timer *timer)
{
    struct loop_uv *loop = loop_of(base);
    cr_timers_stop(&loop->timers, timer);
    timer_arm(loop);
}

/* Pools: their threads' side. */

static void thread_introduce(const struct pool_thread *thread)
{
    const struct cr_pool_options *options = &thread->pool->pool.options;
    char name[THREAD_NAME_CHARS_MAX + 1] = "";
    strncpy(name, options->name, sizeof name - 1);
    pthread_setname_np(pthread_self(), name);
    /* On Linux a priority belongs to a thread. Where it is not allowed the work is done all the
     * same, only less politely. */
    if (options->nice != 0)
        (void)setpriority(PRIO_PROCESS, (id_t)gettid(),
                          getpriority(PRIO_PROCESS, (id_t)gettid()) + options->nice);
}

static void *thread_main(void *argument)
{
    struct pool_thread *thread = argument;
    struct pool_uv *pool = thread->pool;
    const struct cr_pool_options *options = &pool->pool.options;
    thread_introduce(thread);
    pthread_mutex_lock(&pool->lock);
    while (!pool->stopping) {
        size_t count = cr_works_take_batch(&pool->waiting, thread->batch, options->batch_max);
        if (count == 0) {
            pthread_cond_wait(&pool->changed, &pool->lock);
            continue;
        }
        pthread_mutex_unlock(&pool->lock);
        options->run(options->context, thread->number, thread->batch, count);
        pthread_mutex_lock(&pool->lock);
        for (size_t i = 0; i < count; i++)
            cr_works_add(&pool->finished, thread->batch[i]);
        uv_async_send(&loop_of(pool->pool.loop)->wake);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

/* Signals go to the loop's thread: a pool's work is not interrupted by them. */
static int thread_start(struct pool_thread *thread)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&thread->id, NULL, thread_main, thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

/* Pools: the loop's side. */

static void pool_deliver(struct pool_uv *pool)
{
    pthread_mutex_lock(&pool->lock);
    struct cr_work *work;
    while ((work = cr_works_take(&pool->finished)) != NULL)
        cr_works_add(&pool->ready, work);
    pthread_mutex_unlock(&pool->lock);
    while ((work = cr_works_take(&pool->ready)) != NULL)
        work->done(work);
}

static void loop_woken(uv_async_t *wake)
{
    struct loop_uv *loop = wake->data;
    loop->delivering = true;
    for (struct pool_uv *pool = loop->pools; pool != NULL; pool = pool->next)
        pool_deliver(pool);
    loop->delivering = false;
}

static void pool_free(struct pool_uv *pool)
{
    for (unsigned i = 0; i < pool->pool.options.threads; i++)
        free(pool->threads[i].batch);
    pthread_cond_destroy(&pool->changed);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

static void pool_stop(struct pool_uv *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->started; i++)
        pthread_join(pool->threads[i].id, NULL);
}

static enum cr_status uv_ops_pool_create(struct cr_loop *base,
                                         const struct cr_pool_options *options,
                                         struct cr_pool **out_pool)
{
    struct loop_uv *loop = loop_of(base);
    struct pool_uv *pool = calloc(1, sizeof *pool + options->threads * sizeof(struct pool_thread));
    if (pool == NULL)
        return CR_E_NO_MEMORY;
    pool->pool = (struct cr_pool){.loop = base, .options = *options};
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->changed, NULL);
    enum cr_status st = CR_OK;
    for (unsigned i = 0; i < options->threads && st == CR_OK; i++) {
        struct pool_thread *thread = &pool->threads[i];
        *thread = (struct pool_thread){.pool = pool, .number = i};
        thread->batch = calloc(options->batch_max, sizeof(struct cr_work *));
        if (thread->batch == NULL)
            st = CR_E_NO_MEMORY;
        else if (thread_start(thread) != 0)
            st = CR_E_LIMIT;
        else
            pool->started++;
    }
    if (st != CR_OK) {
        pool_stop(pool);
        pool_free(pool);
        return st;
    }
    pool->next = loop->pools;
    loop->pools = pool;
    *out_pool = &pool->pool;
    return CR_OK;
}

static bool uv_ops_pool_submit(struct cr_pool *base, struct cr_work *work)
{
    struct pool_uv *pool = (struct pool_uv *)base;
    pthread_mutex_lock(&pool->lock);
    bool is_taken = !pool->stopping && pool->waiting.count < base->options.queue_max;
    if (is_taken) {
        cr_works_add(&pool->waiting, work);
        pthread_cond_signal(&pool->changed);
    }
    pthread_mutex_unlock(&pool->lock);
    return is_taken;
}

static void uv_ops_pool_destroy(struct cr_pool *base)
{
    struct pool_uv *pool = (struct pool_uv *)base;
    struct loop_uv *loop = loop_of(base->loop);
    CR_ASSERT(!loop->delivering); /* not from inside a `done`: its list is being walked */
    pool_stop(pool);
    pool_deliver(pool);
    struct pool_uv **link = &loop->pools;
    while (*link != pool)
        link = &(*link)->next;
    *link = pool->next;
    pool_free(pool);
}

static const struct cr_loop_ops uv_ops = {
    .timer_set = uv_ops_timer_set,
    .timer_stop = uv_ops_timer_stop,
    .pool_create = uv_ops_pool_create,
    .pool_submit = uv_ops_pool_submit,
    .pool_destroy = uv_ops_pool_destroy,
};

static struct loop_uv *loop_of(struct cr_loop *loop)
{
    CR_ASSERT(loop->ops == &uv_ops);
    return (struct loop_uv *)loop;
}

/* Watches. */

static void watch_ready(uv_poll_t *poll, int status, int events)
{
    struct cr_watch *watch = poll->data;
    int ready =
        (events & UV_READABLE ? CR_LOOP_READ : 0) | (events & UV_WRITABLE ? CR_LOOP_WRITE : 0);
    /* A broken descriptor is ready for both: the owner's next call says what is wrong. */
    watch->ready(watch->context, status < 0 ? CR_LOOP_READ | CR_LOOP_WRITE : ready);
}

enum cr_status cr_watch_create(struct cr_loop *loop, int fd,
                               void (*ready)(void *context, int events), void *context,
                               struct cr_watch **out_watch)
{
    struct loop_uv *own = loop_of(loop);
    struct cr_watch *watch = calloc(1, sizeof *watch);
    if (watch == NULL)
        return CR_E_NO_MEMORY;
    *watch = (struct cr_watch){.loop = own, .ready = ready, .context = context};
    int error = uv_poll_init(&own->uv, &watch->poll, fd);
    if (error != 0) {
        free(watch);
        return status_of_uv(error);
    }
    watch->poll.data = watch;
    own->watch_count++;
    *out_watch = watch;
    return CR_OK;
}

void cr_watch_events(struct cr_watch *watch, int events)
{
    int wanted =
        (events & CR_LOOP_READ ? UV_READABLE : 0) | (events & CR_LOOP_WRITE ? UV_WRITABLE : 0);
    int error =
        wanted == 0 ? uv_poll_stop(&watch->poll) : uv_poll_start(&watch->poll, wanted, watch_ready);
    CR_ASSERT(error == 0);
}

static void watch_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void cr_watch_destroy(struct cr_watch *watch)
{
    if (watch == NULL)
        return;
    watch->loop->watch_count--;
    /* Stops at once, so the owner may close the descriptor; libuv gives the memory back later. */
    uv_close((uv_handle_t *)&watch->poll, watch_closed);
}

/* Signals. */

static void signal_caught(uv_signal_t *handle, int signal_number)
{
    const struct signal_uv *node = handle->data;
    node->caught(node->context, signal_number);
}

static void signal_closed(uv_handle_t *handle)
{
    free(handle->data);
}

enum cr_status cr_loop_uv_signal(struct cr_loop *loop, int signal_number,
                                 void (*caught)(void *context, int signal_number), void *context)
{
    struct loop_uv *own = loop_of(loop);
    struct signal_uv *node = calloc(1, sizeof *node);
    if (node == NULL)
        return CR_E_NO_MEMORY;
    *node = (struct signal_uv){.caught = caught, .context = context};
    int error = uv_signal_init(&own->uv, &node->signal);
    if (error != 0) {
        free(node);
        return status_of_uv(error);
    }
    node->signal.data = node;
    error = uv_signal_start(&node->signal, signal_caught, signal_number);
    if (error != 0) {
        uv_close((uv_handle_t *)&node->signal, signal_closed);
        return status_of_uv(error);
    }
    node->next = own->signals;
    own->signals = node;
    return CR_OK;
}

/* The loop. */

/* Closing takes effect in turns of the loop. */
static void loop_finish(struct loop_uv *loop)
{
    while (uv_loop_close(&loop->uv) == UV_EBUSY)
        uv_run(&loop->uv, UV_RUN_NOWAIT);
    if (loop->timer_fd >= 0)
        close(loop->timer_fd);
    free(loop);
}

enum cr_status cr_loop_uv_create(struct cr_loop **out_loop)
{
    struct loop_uv *loop = calloc(1, sizeof *loop);
    if (loop == NULL)
        return CR_E_NO_MEMORY;
    loop->loop = (struct cr_loop){.ops = &uv_ops, .clock = cr_clock_system()};
    loop->timer_armed = CR_BOOT_NEVER;
    loop->timer_fd = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC);
    int error = loop->timer_fd < 0 ? uv_translate_sys_error(errno) : uv_loop_init(&loop->uv);
    if (error != 0) {
        if (loop->timer_fd >= 0)
            close(loop->timer_fd);
        free(loop);
        return status_of_uv(error);
    }
    loop->wake.data = loop;
    loop->timer_poll.data = loop;
    error = uv_async_init(&loop->uv, &loop->wake, loop_woken);
    if (error != 0)
        goto fail;
    error = uv_poll_init(&loop->uv, &loop->timer_poll, loop->timer_fd);
    if (error != 0) {
        uv_close((uv_handle_t *)&loop->wake, NULL);
        goto fail;
    }
    error = uv_poll_start(&loop->timer_poll, UV_READABLE, timer_ready);
    CR_ASSERT(error == 0);
    *out_loop = &loop->loop;
    return CR_OK;
fail:
    loop_finish(loop);
    return status_of_uv(error);
}

void cr_loop_uv_run(struct cr_loop *loop)
{
    uv_run(&loop_of(loop)->uv, UV_RUN_DEFAULT);
}

void cr_loop_uv_stop(struct cr_loop *loop)
{
    uv_stop(&loop_of(loop)->uv);
}

void cr_loop_uv_destroy(struct cr_loop *loop)
{
    if (loop == NULL)
        return;
    struct loop_uv *own = loop_of(loop);
    CR_ASSERT(own->pools == NULL && own->watch_count == 0);
    for (struct signal_uv *node = own->signals; node != NULL; node = node->next)
        uv_close((uv_handle_t *)&node->signal, signal_closed);
    uv_close((uv_handle_t *)&own->wake, NULL);
    uv_close((uv_handle_t *)&own->timer_poll, NULL);
    loop_finish(own);
}
