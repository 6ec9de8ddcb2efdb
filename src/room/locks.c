/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cloakroom/lock.h: named locks that the agent (or the engine inside) holds for this process.
 *
 * A lock belongs to the call that takes it, until the finish gives it away. It is in the room's
 * list from the reply that grants it, so that no push about it is missed, until it is given back.
 * It is lost when the agent says so, when its trusted instant passes, when the connection ends (the
 * agent gives it back then), and in a forked child (it is the parent's).
 */
#include <cloakroom/lock.h>

#include "room/internal.h"

#include <stdlib.h>
#include <string.h>

struct cr_lock {
    struct cr_room *room;
    struct cr_lock *prev, *next;
    uint64_t life; /* of the room; 0: not granted yet */
    uint64_t fence;
    cr_boot_ns trusted_until; /* 0: lost */
    char name[CR_LOCK_NAME_BYTES_MAX + 1];
};

static void lock_link(struct cr_lock *lock)
{
    struct cr_room *room = lock->room;
    lock->life = room->life;
    lock->prev = NULL;
    lock->next = room->locks;
    if (lock->next != NULL)
        lock->next->prev = lock;
    room->locks = lock;
}

static void lock_unlink(struct cr_lock *lock)
{
    if (lock->prev != NULL)
        lock->prev->next = lock->next;
    else
        lock->room->locks = lock->next;
    if (lock->next != NULL)
        lock->next->prev = lock->prev;
}

void cr_locks_taken(struct cr_lock *lock, const struct cr_message *reply)
{
    lock_link(lock);
    lock->fence = cr_message_u64(reply, CR_TAG_LOCK, 0);
    lock->trusted_until = cr_message_u64(reply, CR_TAG_BOOT, 0);
}

void cr_locks_trust(struct cr_room *room, const struct cr_message *push)
{
    char name[CR_LOCK_NAME_BYTES_MAX + 1];
    uint64_t fence = cr_message_u64(push, CR_TAG_LOCK, 0);
    if (!cr_message_text(push, CR_TAG_NAME, name, sizeof name))
        return;
    for (struct cr_lock *lock = room->locks; lock != NULL; lock = lock->next) {
        /* What is lost stays lost. */
        if (lock->trusted_until != 0 && lock->fence == fence && strcmp(lock->name, name) == 0)
            lock->trusted_until = cr_message_u64(push, CR_TAG_BOOT, 0);
    }
}

void cr_locks_lost(struct cr_room *room)
{
    for (struct cr_lock *lock = room->locks; lock != NULL; lock = lock->next)
        lock->trusted_until = 0;
}

void cr_locks_forget(struct cr_room *room)
{
    room->locks = NULL;
}

/* What was granted under `fence`, or, where `take` is not 0, whatever becomes of that request. It
 * must arrive, however full the socket is: the agent keeps the lock for as long as this process is
 * connected. When the connection ends, so does the lock. */
static void give_send(struct cr_room *room, const char *name, uint64_t fence, uint64_t take)
{
    struct cr_call *call = cr_call_create(room, CR_OP_LOCK_GIVE, ROOM_POINTLESS);
    if (call == NULL)
        return;
    cr_builder_text(&call->request, CR_TAG_NAME, name);
    cr_builder_u64(&call->request, CR_TAG_LOCK, fence);
    if (take != 0)
        cr_builder_u64(&call->request, CR_TAG_TAKE, take);
    cr_call_detach(call);
}

void cr_locks_unclaimed(struct cr_room *room, const struct cr_message *reply)
{
    char name[CR_LOCK_NAME_BYTES_MAX + 1];
    if (cr_message_text(reply, CR_TAG_NAME, name, sizeof name))
        give_send(room, name, cr_message_u64(reply, CR_TAG_LOCK, 0), 0);
}

/* Under the lock, in the life in which it was granted. */
static void lock_return(struct cr_lock *lock)
{
    if (lock->trusted_until != 0)
        give_send(lock->room, lock->name, lock->fence, 0);
    lock_unlink(lock);
}

void cr_locks_cancelled(struct cr_call *call)
{
    struct cr_lock *lock = call->lock;
    if (lock->life == lock->room->life)
        lock_return(lock);
    else if (!call->done || call->status == CR_UNAVAILABLE)
        give_send(lock->room, lock->name, 0, call->number);
}

static enum cr_status take_submit(struct cr_room *room, const char *name, cr_span_ms wait,
                                  bool waited, struct cr_call **out_call)
{
    size_t length = name != NULL ? strlen(name) : 0;
    if (length < 1 || length > CR_LOCK_NAME_BYTES_MAX || wait < 0 || wait > CR_SPAN_MS_MAX)
        return CR_E_INVALID;
    struct cr_call *call = cr_call_create(room, CR_OP_LOCK_TAKE, ROOM_REPEAT);
    struct cr_lock *lock = calloc(1, sizeof *lock);
    if (call == NULL || lock == NULL) {
        cr_call_free(call);
        free(lock);
        return CR_E_NO_MEMORY;
    }
    lock->room = room;
    memcpy(lock->name, name, length + 1);
    call->lock = lock;
    cr_builder_text(&call->request, CR_TAG_NAME, name);
    cr_builder_u64(&call->request, CR_TAG_WAIT, (uint64_t)wait);
    return cr_call_submit(call, waited, wait, out_call);
}

enum cr_status cr_lock_take_begin(struct cr_room *room, const char *name, cr_span_ms wait,
                                  struct cr_call **out_call)
{
    return take_submit(room, name, wait, false, out_call);
}

enum cr_status cr_lock_take_finish(struct cr_call *call, struct cr_lock **out_lock)
{
    struct cr_message message;
    enum cr_status st = cr_call_wait(call, &message);
    if (st == CR_OK) {
        *out_lock = call->lock;
        call->lock = NULL;
    }
    cr_call_cancel(call); /* whatever else the agent does about it */
    return st;
}

enum cr_status cr_lock_take(struct cr_room *room, const char *name, cr_span_ms wait,
                            struct cr_lock **out_lock)
{
    struct cr_call *call;
    enum cr_status st = take_submit(room, name, wait, true, &call);
    return st == CR_OK ? cr_lock_take_finish(call, out_lock) : st;
}

static enum cr_status newest_submit(struct cr_room *room, const char *name, bool waited,
                                    struct cr_call **out_call)
{
    size_t length = name != NULL ? strlen(name) : 0;
    if (length < 1 || length > CR_LOCK_NAME_BYTES_MAX)
        return CR_E_INVALID;
    struct cr_call *call = cr_call_create(room, CR_OP_LOCK_READ, ROOM_REPEAT);
    if (call == NULL)
        return CR_E_NO_MEMORY;
    cr_builder_text(&call->request, CR_TAG_NAME, name);
    return cr_call_submit(call, waited, 0, out_call);
}

enum cr_status cr_lock_newest_begin(struct cr_room *room, const char *name,
                                    struct cr_call **out_call)
{
    return newest_submit(room, name, false, out_call);
}

enum cr_status cr_lock_newest_finish(struct cr_call *call, uint64_t *out_fence)
{
    struct cr_message message;
    enum cr_status st = cr_call_wait(call, &message);
    if (st == CR_OK)
        *out_fence = cr_message_u64(&message, CR_TAG_LOCK, 0);
    cr_call_free(call);
    return st;
}

enum cr_status cr_lock_newest(struct cr_room *room, const char *name, uint64_t *out_fence)
{
    struct cr_call *call;
    enum cr_status st = newest_submit(room, name, true, &call);
    return st == CR_OK ? cr_lock_newest_finish(call, out_fence) : st;
}

uint64_t cr_lock_fence(const struct cr_lock *lock)
{
    return lock->fence;
}

enum cr_status cr_lock_check(struct cr_lock *lock)
{
    struct cr_room *room = lock->room;
    int kept_errno;
    if (!cr_room_lock(room, &kept_errno))
        return CR_LOST;
    bool is_held = false;
    if (lock->life == room->life) {
        cr_room_turn(room, NULL);
        is_held = cr_clock_boot(room->clock) < lock->trusted_until;
        if (!is_held)
            lock->trusted_until = 0;
    }
    cr_room_unlock(room, kept_errno);
    return is_held ? CR_OK : CR_LOST;
}

void cr_lock_give(struct cr_lock *lock)
{
    int kept_errno;
    if (lock == NULL)
        return;
    struct cr_room *room = lock->room;
    if (cr_room_lock(room, &kept_errno)) {
        if (lock->life == room->life)
            lock_return(lock);
        cr_room_unlock(room, kept_errno);
    }
    free(lock);
}
