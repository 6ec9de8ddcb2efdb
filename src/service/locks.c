/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Locks of clients: holdings of coord/lease.h, each tied to the connection that asked for it. The
 * connection ends, and its locks are given back at once.
 *
 * A lock is waited for (its request is not yet replied), then held; it leaves the client's list
 * when it is refused, lost or given back.
 */
#include "service/audit.h"

#include <stdlib.h>
#include <string.h>

#include <cloakroom/lock.h>

#include "base/assert.h"

struct lock {
    struct lock *prev, *next; /* in its client's list */
    struct cr_client *client;
    struct request *request;    /* while waited for */
    struct cr_holding *holding; /* NULL until the take has returned */
    bool taking;                /* cr_holding_take is on the stack */
    bool over;                  /* refused or lost meanwhile: it is freed when the take returns */
    uint64_t number;            /* of the request, also when that has been replied */
    uint64_t fence;
    char name[CR_LOCK_NAME_BYTES_MAX + 1];
};

static void lock_unlink(struct lock *lock)
{
    if (lock->prev != NULL)
        lock->prev->next = lock->next;
    else
        lock->client->locks = lock->next;
    if (lock->next != NULL)
        lock->next->prev = lock->prev;
    lock->client->lock_count--;
}

/* Its holding is gone already. */
static void lock_over(struct lock *lock)
{
    lock->over = true;
    if (lock->taking)
        return;
    lock_unlink(lock);
    free(lock);
}

static void lock_taken(void *context, enum cr_status status, uint64_t fence,
                       cr_boot_ns trusted_until)
{
    struct lock *lock = context;
    struct request *request = lock->request;
    struct cr_builder reply;
    lock->request = NULL;
    cr_request_begin(request, status, &reply);
    if (status == CR_OK) {
        lock->fence = fence;
        cr_builder_text(&reply, CR_TAG_NAME, lock->name);
        cr_builder_u64(&reply, CR_TAG_LOCK, fence);
        cr_builder_u64(&reply, CR_TAG_BOOT, trusted_until);
    }
    cr_request_end(request, &reply);
    if (status != CR_OK)
        lock_over(lock);
}

static void lock_renewed(void *context, cr_boot_ns trusted_until)
{
    struct lock *lock = context;
    const struct cr_client_options *options = &lock->client->options;
    struct cr_builder push;
    cr_builder_init(&push, CR_OP_LOCK_TRUST, CR_OK, 0);
    cr_builder_text(&push, CR_TAG_NAME, lock->name);
    cr_builder_u64(&push, CR_TAG_LOCK, lock->fence);
    cr_builder_u64(&push, CR_TAG_BOOT, trusted_until);
    if (cr_builder_finish(&push))
        options->send(options->context, push.bytes, push.count, -1);
    cr_builder_fini(&push);
    if (trusted_until == 0) {
        cr_audit_lock_lost(lock->client, lock->name);
        lock_over(lock);
    }
}

static const struct cr_holding_events events = {.taken = lock_taken, .renewed = lock_renewed};

static struct lock *lock_create(struct request *request)
{
    struct cr_client *client = request->client;
    struct lock *lock = calloc(1, sizeof *lock);
    if (lock == NULL)
        return NULL;
    lock->client = client;
    lock->request = request;
    lock->number = request->number;
    lock->next = client->locks;
    if (lock->next != NULL)
        lock->next->prev = lock;
    client->locks = lock;
    client->lock_count++;
    return lock;
}

void cr_service_lock_take(struct request *request, const struct cr_message *message)
{
    struct cr_service *service = request->service;
    char name[CR_LOCK_NAME_BYTES_MAX + 1];
    uint64_t wait = cr_message_u64(message, CR_TAG_WAIT, 0);
    if (!cr_message_text(message, CR_TAG_NAME, name, sizeof name) || name[0] == '\0' ||
        wait > (uint64_t)CR_SPAN_MS_MAX) {
        cr_request_status(request, CR_E_INVALID, NULL);
        return;
    }
    if (service->options.leases == NULL) {
        cr_request_status(request, CR_E_INVALID, "there are no locks here");
        return;
    }
    if (request->client == NULL || request->client->lock_count >= service->options.requests_max) {
        cr_request_status(request, CR_BUSY, NULL);
        return;
    }
    struct lock *lock = lock_create(request);
    if (lock == NULL) {
        cr_request_status(request, CR_E_NO_MEMORY, NULL);
        return;
    }
    memcpy(lock->name, name, sizeof lock->name);
    lock->taking = true;
    enum cr_status st = cr_holding_take(service->options.leases, lock->name, lock->client->label,
                                        (cr_span_ms)wait, &events, lock, &lock->holding);
    lock->taking = false;
    if (st != CR_OK && lock->request != NULL) {
        cr_request_status(lock->request, st, NULL);
        lock->over = true;
    }
    if (lock->over)
        lock_over(lock);
}

/* Gives the holding back and forgets the lock; who waited for it is not replied here. Unlinked
 * first: another lock of this client may get what is given back, or be refused it, before this
 * returns. */
static void lock_drop(struct lock *lock)
{
    CR_ASSERT(!lock->taking && !lock->over);
    lock_unlink(lock);
    cr_holding_give(lock->holding);
    free(lock);
}

/* By name and fence: a lock that was lost and taken anew is another one. Or by the request that
 * takes it, waited for or granted. */
static bool lock_is_meant(const struct lock *lock, const char *name, uint64_t fence, uint64_t take)
{
    bool is_it = take != 0 ? lock->number == take : lock->request == NULL && lock->fence == fence;
    return is_it && strcmp(lock->name, name) == 0;
}

void cr_service_lock_give(struct request *request, const struct cr_message *message)
{
    char name[CR_LOCK_NAME_BYTES_MAX + 1];
    uint64_t fence = cr_message_u64(message, CR_TAG_LOCK, 0);
    uint64_t take = cr_message_u64(message, CR_TAG_TAKE, 0);
    struct lock *lock = request->client != NULL ? request->client->locks : NULL;
    if (!cr_message_text(message, CR_TAG_NAME, name, sizeof name)) {
        cr_request_status(request, CR_E_INVALID, NULL);
        return;
    }
    while (lock != NULL && !lock_is_meant(lock, name, fence, take))
        lock = lock->next;
    if (lock == NULL) {
        cr_request_status(request, CR_LOST, NULL);
        return;
    }
    struct request *waiting = lock->request;
    lock_drop(lock);
    if (waiting != NULL)
        cr_request_status(waiting, CR_LOST, NULL);
    cr_request_status(request, CR_OK, NULL);
}

static void lock_read(void *context, enum cr_status status, uint64_t fence)
{
    struct request *request = context;
    struct cr_builder reply;
    cr_request_begin(request, status, &reply);
    if (status == CR_OK)
        cr_builder_u64(&reply, CR_TAG_LOCK, fence);
    cr_request_end(request, &reply);
}

void cr_service_lock_read(struct request *request, const struct cr_message *message)
{
    char name[CR_LOCK_NAME_BYTES_MAX + 1];
    if (!cr_message_text(message, CR_TAG_NAME, name, sizeof name))
        cr_request_status(request, CR_E_INVALID, NULL);
    else if (request->service->options.leases == NULL)
        cr_request_status(request, CR_E_INVALID, "there are no locks here");
    else
        cr_lease_read(request->service->options.leases, name, lock_read, request);
}

void cr_locks_give_all(struct cr_client *client)
{
    struct lock *lock;
    while ((lock = client->locks) != NULL) {
        /* The analyser thinks that calls it cannot see into could put a freed lock back. */
        struct request *request = lock->request; /* NOLINT(clang-analyzer-unix.Malloc) */
        lock_drop(lock);
        if (request != NULL)
            cr_request_status(request, CR_UNAVAILABLE, NULL);
    }
}
