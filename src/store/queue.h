/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls to a store, off the loop. Reads run side by side, each thread with a reading handle of its
 * own. Writes run one batch after another on the writing handle: whatever waits when a batch begins
 * is committed with it (group commit), and each caller hears of its own outcome after the commit.
 *
 * A call that answers CR_OK shares its batch's fate; one that answers anything else has changed
 * nothing, so a `run` that makes several changes must not fail after the first.
 */
#ifndef STORE_QUEUE_H
#define STORE_QUEUE_H

#include "base/loop.h"
#include "store/store.h"

struct cr_store_queue;

/* Embedded in its owner, who keeps it until `done`. `run` answers what the store answered; when the
 * batch's commit fails, `status` becomes the commit's, whatever `run` answered: it may have seen
 * what then was not committed. Writes must not keep results of a failed run. */
struct cr_store_call {
    enum cr_status (*run)(struct cr_store *store, struct cr_store_call *call); /* pool thread */
    void (*done)(struct cr_store_call *call);                                  /* loop's thread */
    enum cr_status status;
    struct cr_work work;
    struct cr_store_queue *queue;
    bool is_write;
    struct cr_store_call *prev, *next; /* the queue's own */
};

struct cr_store_queue_options {
    unsigned reader_threads; /* 1 to 8 */
    size_t queue_max;        /* of reads, and of writes */
    size_t batch_max;        /* writes in one commit */
};

/* Takes `store` over when it succeeds. */
CR_MUST_CHECK enum cr_status cr_store_queue_create(struct cr_loop *loop, struct cr_store *store,
                                                   const struct cr_store_queue_options *options,
                                                   struct cr_store_queue **out_queue);
/* Waits for what runs. Writes that wait are made, as are those that a `done` asks for meanwhile;
 * reads that wait are told CR_UNAVAILABLE, and so is all the rest once the store fails. Accepts
 * NULL. The second gives the writing handle back, for the last writes of a clean stop. */
void cr_store_queue_destroy(struct cr_store_queue *queue);
CR_MUST_CHECK struct cr_store *cr_store_queue_release(struct cr_store_queue *queue);

/* False: the queue is full, and `done` will not be called. Loop's thread only. */
CR_MUST_CHECK bool cr_store_queue_read(struct cr_store_queue *queue, struct cr_store_call *call);
CR_MUST_CHECK bool cr_store_queue_write(struct cr_store_queue *queue, struct cr_store_call *call);

struct cr_store_queue_count {
    uint64_t reads, writes, commits;
    uint64_t waiting; /* submitted, and `done` has not been called */
    uint64_t calls;   /* done: each read, and each batch of writes */
    uint64_t micros;  /* that those took in all */
};
void cr_store_queue_count(const struct cr_store_queue *queue, struct cr_store_queue_count *out);
bool cr_store_queue_is_exclusive(const struct cr_store_queue *queue);

#endif
