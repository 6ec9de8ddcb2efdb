/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two pools over one store: readers, each thread with a handle of its own, and one writer that
 * takes what waits as a batch. Results cross from the pool's thread to the loop's with the work
 * itself; counts are the only other thing that both touch.
 *
 * Invariant: a call is in the list from its submission to its `done`, which comes once.
 */
#include "store/queue.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "base/assert.h"

#define READERS_MAX 8

struct cr_store_queue {
    struct cr_store *writer;
    struct cr_store *readers[READERS_MAX];
    unsigned reader_count;
    struct cr_pool *read_pool, *write_pool;
    struct cr_work **batch; /* of a drain: batch_max of them */
    size_t batch_max;
    struct cr_store_call *first, *last; /* all calls, in the order of submission */
    bool draining;                      /* the pools are going or gone */
    uint64_t read_count, write_count;
    _Atomic uint64_t commit_count; /* raised by the writing thread */
    struct cr_clock *clock;
    size_t waiting;
    _Atomic uint64_t run_count, run_ns; /* raised by every thread */
};

static struct cr_store_call *call_of(struct cr_work *work)
{
    return (struct cr_store_call *)((char *)work - offsetof(struct cr_store_call, work));
}

static void run_counted(struct cr_store_queue *queue, cr_boot_ns since)
{
    cr_boot_ns now = cr_clock_boot(queue->clock);
    atomic_fetch_add_explicit(&queue->run_count, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&queue->run_ns, now - since, memory_order_relaxed);
}

static void pool_reads_run(void *context, unsigned thread, struct cr_work *const *batch,
                           size_t count)
{
    struct cr_store_queue *queue = context;
    CR_ASSERT(thread < queue->reader_count);
    for (size_t i = 0; i < count; i++) {
        struct cr_store_call *call = call_of(batch[i]);
        cr_boot_ns since = cr_clock_boot(queue->clock);
        call->status = call->run(queue->readers[thread], call);
        run_counted(queue, since);
    }
}

/* Whether one of them has something to commit. */
static bool writes_make(struct cr_store *store, struct cr_work *const *batch, size_t count)
{
    bool made = false;
    for (size_t i = 0; i < count; i++) {
        struct cr_store_call *call = call_of(batch[i]);
        call->status = call->run(store, call);
        made = made || call->status == CR_OK;
    }
    return made;
}

/* One commit. False: the store failed, which each of them has as its status. */
static bool writes_run(struct cr_store_queue *queue, struct cr_work *const *batch, size_t count)
{
    enum cr_status st = cr_store_begin(queue->writer);
    if (st == CR_OK) {
        if (!writes_make(queue->writer, batch, count)) {
            cr_store_rollback(queue->writer);
            return true;
        }
        st = cr_store_commit(queue->writer);
        atomic_fetch_add_explicit(&queue->commit_count, 1, memory_order_relaxed);
    }
    /* Also those that found something missing or in the way: it may have been a change of this very
     * batch that made it so. */
    for (size_t i = 0; st != CR_OK && i < count; i++)
        call_of(batch[i])->status = st;
    return st == CR_OK;
}

static void pool_writes_run(void *context, unsigned thread, struct cr_work *const *batch,
                            size_t count)
{
    struct cr_store_queue *queue = context;
    cr_boot_ns since = cr_clock_boot(queue->clock);
    (void)!writes_run(queue, batch, count);
    run_counted(queue, since);
}

static enum cr_status readers_open(struct cr_store_queue *queue, struct cr_store *store,
                                   unsigned count)
{
    enum cr_status st = CR_OK;
    while (st == CR_OK && queue->reader_count < count) {
        st = cr_store_reader(store, &queue->readers[queue->reader_count]);
        if (st == CR_OK)
            queue->reader_count++;
    }
    return st;
}

enum cr_status cr_store_queue_create(struct cr_loop *loop, struct cr_store *store,
                                     const struct cr_store_queue_options *options,
                                     struct cr_store_queue **out_queue)
{
    CR_ASSERT(options->reader_threads >= 1 && options->reader_threads <= READERS_MAX);
    struct cr_store_queue *queue = calloc(1, sizeof *queue);
    if (queue == NULL)
        return CR_E_NO_MEMORY;
    const struct cr_pool_options reads = {
        .name = "store reads",
        .threads = options->reader_threads,
        .queue_max = options->queue_max,
        .batch_max = 1,
        .run = pool_reads_run,
        .context = queue,
    };
    struct cr_pool_options writes = reads;
    writes.name = "store writes";
    writes.threads = 1;
    writes.batch_max = options->batch_max;
    writes.run = pool_writes_run;
    enum cr_status st = CR_E_NO_MEMORY;
    queue->clock = loop->clock;
    queue->batch_max = options->batch_max;
    queue->batch = calloc(options->batch_max, sizeof(struct cr_work *));
    if (queue->batch != NULL)
        st = readers_open(queue, store, options->reader_threads);
    if (st == CR_OK)
        st = cr_pool_create(loop, &reads, &queue->read_pool);
    if (st == CR_OK)
        st = cr_pool_create(loop, &writes, &queue->write_pool);
    if (st != CR_OK) {
        cr_store_queue_destroy(queue);
        return st;
    }
    queue->writer = store;
    *out_queue = queue;
    return CR_OK;
}

static void call_link(struct cr_store_queue *queue, struct cr_store_call *call)
{
    queue->waiting++;
    call->next = NULL;
    call->prev = queue->last;
    if (queue->last != NULL)
        queue->last->next = call;
    else
        queue->first = call;
    queue->last = call;
}

static void call_unlink(struct cr_store_queue *queue, struct cr_store_call *call)
{
    queue->waiting--;
    if (call->prev != NULL)
        call->prev->next = call->next;
    else
        queue->first = call->next;
    if (call->next != NULL)
        call->next->prev = call->prev;
    else
        queue->last = call->prev;
}

static void call_done(struct cr_work *work)
{
    struct cr_store_call *call = call_of(work);
    call_unlink(call->queue, call);
    call->done(call);
}

static bool call_submit(struct cr_store_queue *queue, struct cr_pool *pool,
                        struct cr_store_call *call, bool is_write)
{
    CR_ASSERT(call->run != NULL && call->done != NULL);
    call->queue = queue;
    call->is_write = is_write;
    call->work.done = call_done;
    call_link(queue, call);
    if (queue->draining || cr_pool_submit(pool, &call->work))
        return true;
    call_unlink(queue, call);
    return false;
}

bool cr_store_queue_read(struct cr_store_queue *queue, struct cr_store_call *call)
{
    /* Counted first: the inline loop may call `done` before it returns. */
    queue->read_count++;
    if (call_submit(queue, queue->read_pool, call, false))
        return true;
    queue->read_count--;
    return false;
}

bool cr_store_queue_write(struct cr_store_queue *queue, struct cr_store_call *call)
{
    queue->write_count++;
    if (call_submit(queue, queue->write_pool, call, true))
        return true;
    queue->write_count--;
    return false;
}

/* The oldest calls: one read, or as many writes as one commit takes. False: the store failed. */
static bool drain_some(struct cr_store_queue *queue, bool store_works)
{
    struct cr_work **batch = queue->batch;
    size_t count = 0;
    bool is_write = queue->first->is_write;
    for (struct cr_store_call *call = queue->first;
         call != NULL && call->is_write == is_write && count < queue->batch_max;
         call = call->next) {
        call->status = CR_UNAVAILABLE;
        batch[count++] = &call->work;
    }
    if (is_write && store_works)
        store_works = writes_run(queue, batch, count);
    for (size_t i = 0; i < count; i++)
        call_done(batch[i]);
    return store_works;
}

struct cr_store *cr_store_queue_release(struct cr_store_queue *queue)
{
    struct cr_store *writer = queue->writer;
    bool store_works = true;
    queue->draining = true;
    cr_pool_destroy(queue->write_pool);
    cr_pool_destroy(queue->read_pool);
    for (unsigned i = 0; i < queue->reader_count; i++)
        cr_store_destroy(queue->readers[i]);
    while (queue->first != NULL)
        store_works = drain_some(queue, store_works);
    free(queue->batch);
    free(queue);
    return writer;
}

void cr_store_queue_destroy(struct cr_store_queue *queue)
{
    if (queue != NULL)
        cr_store_destroy(cr_store_queue_release(queue));
}

void cr_store_queue_count(const struct cr_store_queue *queue, struct cr_store_queue_count *out)
{
    out->reads = queue->read_count;
    out->writes = queue->write_count;
    out->commits = atomic_load_explicit(&queue->commit_count, memory_order_relaxed);
    out->waiting = queue->waiting;
    out->calls = atomic_load_explicit(&queue->run_count, memory_order_relaxed);
    out->micros = atomic_load_explicit(&queue->run_ns, memory_order_relaxed) / 1000;
}

bool cr_store_queue_is_exclusive(const struct cr_store_queue *queue)
{
    return cr_store_is_exclusive(queue->writer);
}
