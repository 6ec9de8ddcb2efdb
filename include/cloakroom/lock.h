/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Named locks: fenced leases in the store, held by the agent and given to this process over its
 * connection. Free within milliseconds when the holder is killed, after the lease (15 s) when its
 * host is lost.
 *
 * At any instant the store recognises at most one holder. A process that was paused or cut off may
 * still run code after it lost the lock: pass the fence with every write that matters and refuse
 * lower ones.
 */
#ifndef CLOAKROOM_LOCK_H
#define CLOAKROOM_LOCK_H

#include <cloakroom/room.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CR_LOCK_NAME_BYTES_MAX 128

struct cr_lock;

/*
 * Take `name` (1 to CR_LOCK_NAME_BYTES_MAX bytes), waiting at most `wait` (0: do not wait).
 * CR_BUSY: held by another. Writes *out_lock only with CR_OK; it ends with cr_lock_give, or with
 * the room.
 */
CR_API CR_MUST_CHECK enum cr_status cr_lock_take(struct cr_room *room, const char *name,
                                                 cr_span_ms wait, struct cr_lock **out_lock);
/* The same in two steps. Cancelled before its finish, it leaves no lock: one that was granted, or
 * is granted later, is given back. */
CR_API CR_MUST_CHECK enum cr_status cr_lock_take_begin(struct cr_room *room, const char *name,
                                                       cr_span_ms wait, struct cr_call **out_call);
CR_API CR_MUST_CHECK enum cr_status cr_lock_take_finish(struct cr_call *call,
                                                        struct cr_lock **out_lock);

/* Rises with every holder of this name, for as long as the store lives. */
CR_API uint64_t cr_lock_fence(const struct cr_lock *lock);

/* The newest fence of `name`, whoever got it; 0: nobody ever took it. For who guards something with
 * fences, and for what is to happen once: taken is taken, also after a crash. */
CR_API CR_MUST_CHECK enum cr_status cr_lock_newest(struct cr_room *room, const char *name,
                                                   uint64_t *out_fence);
CR_API CR_MUST_CHECK enum cr_status cr_lock_newest_begin(struct cr_room *room, const char *name,
                                                         struct cr_call **out_call);
CR_API CR_MUST_CHECK enum cr_status cr_lock_newest_finish(struct cr_call *call,
                                                          uint64_t *out_fence);

/* CR_OK while the lock is certainly held; CR_LOST from then on. Takes what has arrived, never
 * waits. Ask before each step that matters. */
CR_API CR_MUST_CHECK enum cr_status cr_lock_check(struct cr_lock *lock);

/* Give it back and free it; accepts NULL. Never waits for the agent. */
CR_API void cr_lock_give(struct cr_lock *lock);

#ifdef __cplusplus
}
#endif
#endif
