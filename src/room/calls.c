/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls: requests under way, found by their number when a reply comes.
 *
 * A call is in its bucket from submit to answer, and in the queue of what is to be sent until it is
 * sent; an answered call belongs to whoever holds it. The reply is kept as it came and taken apart
 * by the finish of its kind.
 */
#include "room/internal.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/bytes.h"

static cr_boot_ns room_now(const struct cr_room *room)
{
    return cr_clock_boot(room->clock);
}

struct cr_call *cr_call_create(struct cr_room *room, enum cr_op op, enum room_repeat repeat)
{
    struct cr_call *call = calloc(1, sizeof *call);
    if (call == NULL)
        return NULL;
    call->room = room;
    call->op = op;
    call->repeat = repeat;
    call->number = atomic_fetch_add_explicit(&room->numbers, 1, memory_order_relaxed) + 1;
    cr_builder_init(&call->request, op, CR_OK, call->number);
    return call;
}

void cr_call_free(struct cr_call *call)
{
    if (call == NULL)
        return;
    cr_builder_fini(&call->request);
    if (call->reply != NULL)
        cr_bytes_wipe(call->reply, call->reply_count);
    free(call->reply);
    free(call->lock);
    free(call);
}

/* The queues: of what is to be sent, and of what was answered and is to be told. */

static void queue_append(struct call_queue *queue, struct cr_call *call)
{
    call->prev = queue->last;
    call->next = NULL;
    if (queue->last != NULL)
        queue->last->next = call;
    else
        queue->first = call;
    queue->last = call;
}

static void queue_remove(struct call_queue *queue, struct cr_call *call)
{
    if (call->prev != NULL)
        call->prev->next = call->next;
    else
        queue->first = call->next;
    if (call->next != NULL)
        call->next->prev = call->prev;
    else
        queue->last = call->prev;
}

static void out_append(struct cr_call *call)
{
    queue_append(&call->room->out, call);
    call->sent = false;
}

void cr_call_sent(struct cr_call *call)
{
    CR_ASSERT(!call->sent);
    queue_remove(&call->room->out, call);
    call->sent = true;
    call->was_sent = true;
}

static struct cr_call **bucket_of(struct cr_room *room, uint64_t number)
{
    return &room->buckets[number % CR_ROOM_BUCKETS];
}

static void call_link(struct cr_call *call)
{
    struct cr_call **bucket = bucket_of(call->room, call->number);
    call->chain = *bucket;
    *bucket = call;
    call->room->call_count++;
    if (call->deadline < call->room->next_deadline)
        call->room->next_deadline = call->deadline;
}

static void call_unlink(struct cr_call *call)
{
    struct cr_call **link = bucket_of(call->room, call->number);
    while (*link != call)
        link = &(*link)->chain;
    *link = call->chain;
    call->room->call_count--;
    if (!call->sent)
        cr_call_sent(call);
}

static void answered_append(struct cr_call *call)
{
    queue_append(&call->room->answered, call);
    call->queued = true;
    if (!call->room->polled)
        cr_room_notice(call->room);
}

static void answered_remove(struct cr_call *call)
{
    if (call->queued)
        queue_remove(&call->room->answered, call);
    call->queued = false;
}

static void call_settle(struct cr_call *call, enum cr_status status)
{
    call_unlink(call);
    call->status = status;
    call->done = true;
    if (call->waited)
        pthread_cond_broadcast(&call->room->page->changed);
    else if (call->watched)
        answered_append(call);
    else
        cr_room_notice(call->room);
}

void cr_call_answer(struct cr_call *call, enum cr_status status)
{
    if (!call->detached) {
        call_settle(call, status);
        return;
    }
    call_unlink(call);
    cr_call_free(call);
}

enum cr_status cr_call_submit(struct cr_call *call, bool waited, cr_span_ms extra,
                              struct cr_call **out_call)
{
    enum cr_status st = CR_OK;
    int kept_errno;
    if (call == NULL)
        return CR_E_NO_MEMORY;
    struct cr_room *room = call->room;
    if (!cr_builder_finish(&call->request)) {
        cr_call_free(call); /* something in it is longer or shorter than it may be */
        return CR_E_INVALID;
    }
    if (!cr_room_lock(room, &kept_errno)) {
        cr_call_free(call);
        return CR_E_REFUSED;
    }
    if (room->call_count >= CR_ROOM_CALLS_MAX) {
        st = CR_BUSY;
        goto out;
    }
    cr_boot_ns now = room_now(room);
    call->waited = waited;
    call->life = room->life;
    call->deadline = cr_boot_add(cr_boot_add(now, room->timeout), extra);
    out_append(call);
    call_link(call);
    if (call->settled) {
        call_settle(call, CR_OK);
    } else if (room->is_direct) {
        cr_call_sent(call);
        cr_direct_send(room, call);
    } else {
        cr_link_advance(room, now);
        if (call->connection != 0 && call->connection != cr_link_connection(room))
            call_settle(call, CR_OK);
        cr_link_flush(room);
    }
    if (!call->done && !waited)
        cr_room_arm_due(room);
    *out_call = call;
out:
    cr_room_unlock(room, kept_errno);
    if (st != CR_OK)
        cr_call_free(call);
    return st;
}

void cr_call_detach(struct cr_call *call)
{
    struct cr_room *room = call->room;
    call->detached = true;
    call->life = room->life;
    call->deadline = CR_BOOT_NEVER;
    bool is_good = cr_builder_finish(&call->request);
    if (is_good && !room->is_direct && cr_link_connection(room) != 0) {
        out_append(call);
        call_link(call);
        cr_link_flush(room);
        return;
    }
    if (is_good && room->is_direct)
        cr_direct_tell(room, &call->request); /* its reply is nobody's call */
    cr_call_free(call);
}

static bool op_is_ending(enum cr_op op)
{
    return op == CR_OP_END || op == CR_OP_END_USER || op == CR_OP_END_OTHERS || op == CR_OP_END_ALL;
}

/* What is known of a call that will get no reply. Never "not found": nobody was asked. */
static enum cr_status status_without_reply(const struct cr_call *call)
{
    bool may_have_changed = op_is_ending(call->op) || call->repeat == ROOM_UNKNOWN;
    return call->was_sent && may_have_changed ? CR_E_UNKNOWN_OUTCOME : CR_UNAVAILABLE;
}

enum cr_status cr_call_wait(struct cr_call *call, struct cr_message *out_message)
{
    struct cr_room *room = call->room;
    int kept_errno;
    out_message->field_count = 0;
    if (!cr_room_lock(room, &kept_errno))
        return CR_E_REFUSED;
    if (call->life != room->life) { /* begun before the fork, in the parent */
        cr_room_unlock(room, kept_errno);
        return CR_UNAVAILABLE;
    }
    call->waited = true;
    answered_remove(call);
    while (!call->done) {
        cr_room_turn(room, call);
        if (!call->done)
            cr_room_sleep(room, call->deadline);
    }
    cr_room_unlock(room, kept_errno);
    if (call->reply != NULL) {
        enum cr_status st = cr_message_decode(call->reply, call->reply_count, out_message);
        CR_ASSERT(st == CR_OK); /* it was looked at when it came */
        call->status = out_message->status;
    }
    return call->status;
}

enum cr_status cr_call_finish(struct cr_call *call)
{
    struct cr_message message;
    enum cr_status st = cr_call_wait(call, &message);
    cr_call_free(call);
    return st;
}

enum cr_status cr_call_run(struct cr_call *call)
{
    enum cr_status st = cr_call_submit(call, true, 0, &call);
    return st == CR_OK ? cr_call_finish(call) : st;
}

bool cr_call_done(const struct cr_call *call)
{
    const struct cr_room *room = call->room;
    int kept_errno;
    bool done = true; /* in a forked child finish would return at once */
    if (cr_room_lock(call->room, &kept_errno)) {
        done = call->done || call->life != room->life;
        cr_room_unlock(call->room, kept_errno);
    }
    return done;
}

bool cr_call_done_within(struct cr_call *call, cr_span_ms wait)
{
    struct cr_room *room = call->room;
    int kept_errno;
    bool done = true; /* as cr_call_done */
    if (!cr_room_lock(room, &kept_errno))
        return true;
    if (call->life == room->life) {
        cr_boot_ns until = cr_boot_add(room_now(room), wait);
        call->waited = true;
        cr_room_turn(room, call);
        while (!call->done && room_now(room) < until) {
            cr_room_sleep(room, call->deadline < until ? call->deadline : until);
            cr_room_turn(room, call);
        }
        done = call->done;
        call->waited = done; /* or event loops hear of it, as before */
    }
    cr_room_unlock(room, kept_errno);
    return done;
}

void cr_call_cancel(struct cr_call *call)
{
    int kept_errno;
    if (call == NULL)
        return;
    if (cr_room_lock(call->room, &kept_errno)) {
        if (call->life == call->room->life) {
            if (!call->done)
                call_unlink(call);
            answered_remove(call);
            if (call->lock != NULL)
                cr_locks_cancelled(call);
        }
        cr_room_unlock(call->room, kept_errno);
    }
    cr_call_free(call);
}

void cr_call_watch(struct cr_call *call, void *context)
{
    struct cr_room *room = call->room;
    int kept_errno;
    if (!cr_room_lock(room, &kept_errno))
        return;
    call->context = context;
    if (call->life == room->life && !call->watched) {
        call->watched = true;
        if (call->done)
            answered_append(call);
    }
    cr_room_unlock(room, kept_errno);
}

struct cr_call *cr_room_answered(struct cr_room *room, void **out_context)
{
    int kept_errno;
    if (!cr_room_lock(room, &kept_errno))
        return NULL;
    struct cr_call *call = room->answered.first;
    if (call != NULL) {
        answered_remove(call);
        *out_context = call->context;
    }
    cr_room_unlock(room, kept_errno);
    return call;
}

/* Every call, each once; `act` may take it out. */
static void calls_each(struct cr_room *room, void (*act)(struct cr_call *, void *), void *context)
{
    for (size_t i = 0; i < CR_ROOM_BUCKETS; i++) {
        struct cr_call *next;
        for (struct cr_call *call = room->buckets[i]; call != NULL; call = next) {
            next = call->chain;
            act(call, context);
        }
    }
}

static void call_disconnected(struct cr_call *call, void *unused)
{
    if (!call->sent && call->repeat != ROOM_POINTLESS)
        return;
    switch (call->repeat) {
    case ROOM_REPEAT:
        out_append(call);
        break;
    case ROOM_GIVE_UP:
        cr_call_answer(call, CR_UNAVAILABLE);
        break;
    case ROOM_UNKNOWN:
        cr_call_answer(call, CR_E_UNKNOWN_OUTCOME);
        break;
    case ROOM_POINTLESS:
        cr_call_answer(call, CR_OK);
        break;
    }
}

void cr_calls_disconnected(struct cr_room *room)
{
    calls_each(room, call_disconnected, NULL);
}

static void call_fail(struct cr_call *call, void *status)
{
    cr_call_answer(call, *(enum cr_status *)status);
}

void cr_calls_fail(struct cr_room *room, enum cr_status status)
{
    calls_each(room, call_fail, &status);
}

static void call_expire(struct cr_call *call, void *now)
{
    struct cr_room *room = call->room;
    if (call->deadline <= *(cr_boot_ns *)now)
        cr_call_answer(call, status_without_reply(call));
    else if (call->deadline < room->next_deadline)
        room->next_deadline = call->deadline;
}

void cr_calls_expire(struct cr_room *room, cr_boot_ns now)
{
    if (now < room->next_deadline)
        return;
    room->next_deadline = CR_BOOT_NEVER;
    calls_each(room, call_expire, &now);
}

/* What another thread of the parent was doing to these lists is not known: they are not walked. */
void cr_calls_forget(struct cr_room *room)
{
    memset(room->buckets, 0, sizeof room->buckets);
    room->out = (struct call_queue){NULL, NULL};
    room->answered = (struct call_queue){NULL, NULL};
    room->call_count = 0;
    room->next_deadline = CR_BOOT_NEVER;
}

static void call_cancel(struct cr_call *call, void *unused)
{
    call_unlink(call);
    cr_call_free(call);
}

void cr_calls_cancel(struct cr_room *room)
{
    calls_each(room, call_cancel, NULL);
}

/* Messages. */

static struct cr_call *call_find(struct cr_room *room, const struct cr_message *message)
{
    struct cr_call *call = *bucket_of(room, message->request);
    while (call != NULL && (call->number != message->request || call->op != message->op))
        call = call->chain;
    return call;
}

static void call_replied(struct cr_call *call, const struct cr_message *message,
                         const unsigned char *bytes, size_t count)
{
    if (call->lock != NULL) { /* kept without memory that could be missing */
        if (message->status == CR_OK)
            cr_locks_taken(call->lock, message);
        cr_call_answer(call, message->status);
        return;
    }
    if (call->detached && message->status == CR_BUSY && !call->room->is_direct) {
        out_append(call); /* too many are under way: after some of them */
        return;
    }
    call->reply = malloc(count);
    if (call->reply == NULL) {
        cr_call_answer(call, CR_E_NO_MEMORY);
        return;
    }
    memcpy(call->reply, bytes, count);
    call->reply_count = count;
    cr_call_answer(call, message->status);
}

static void room_pushed(struct cr_room *room, const struct cr_message *push, int *fd)
{
    if (push->op == CR_OP_SEGMENT) {
        room->agent_cache = (enum cr_cache)cr_message_u64(push, CR_TAG_CACHE, CR_CACHE_NONE);
        cr_map_take(room, *fd);
        *fd = -1;
    } else if (push->op == CR_OP_LOCK_TRUST) {
        cr_locks_trust(room, push);
    }
}

bool cr_room_dispatch(struct cr_room *room, const unsigned char *bytes, size_t count, int fd)
{
    struct cr_message message;
    bool is_good = cr_message_decode(bytes, count, &message) == CR_OK;
    struct cr_call *call = is_good ? call_find(room, &message) : NULL;
    if (!is_good) {
        /* Nothing of it is used. */
    } else if (message.request == 0) {
        room_pushed(room, &message, &fd);
    } else if (message.op == CR_OP_HELLO && message.request == room->link.hello) {
        cr_link_greeted(room, &message, fd);
        fd = -1;
    } else if (call != NULL) {
        call_replied(call, &message, bytes, count);
    } else if (message.op == CR_OP_LOCK_TAKE && message.status == CR_OK) {
        cr_locks_unclaimed(room, &message);
    }
    if (fd >= 0)
        close(fd);
    return is_good;
}
