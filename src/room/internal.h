/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of a room share. Nobody else includes this.
 *
 * A room is attached (link.c: a socket to the agent, map.c: its table) or direct (direct.c: engine
 * and service inside this process). Both speak the same messages: a call is built once (sessions.c
 * and its neighbours), carried (calls.c), and its reply taken apart once.
 *
 * Locking. `page->lock` guards everything but what says otherwise. The page is wiped in a forked
 * child: there `alive` is 0, the lock is a fresh one, and nothing else may be believed until
 * cr_room_lock has begun anew (or refused).
 */
#ifndef ROOM_INTERNAL_H
#define ROOM_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/un.h>

#include <cloakroom/session.h>
#include <cloakroom/table.h>

#include "base/clock.h"
#include "cache/table.h"
#include "room/room.h"
#include "session/token.h"
#include "wire/message.h"

#define CR_ROOM_CALLS_MAX 1000 /* under way at once; the agent takes 1024 of a peer */
#define CR_ROOM_BUCKETS 256
#define CR_ROOM_MAPS_MAX 4096 /* tables seen in the life of a room; then it asks each time */
#define CR_ROOM_STRIPES 8
#define CR_ROOM_SEEN_SLOTS 1024

struct cr_engine;

/* Wiped on fork. All zero is a lock and a condition that are ready to use. */
struct room_page {
    atomic_uint alive;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* a call is done, or nobody reads any more */
    bool orphaned;          /* a forked child of a direct room has descriptors of its own */
};

/* A table that this process maps. Kept until the room closes; see map.c. */
struct room_map {
    struct cr_table_view view;
    const void *memory;
    size_t bytes;
    struct room_map *next;
};

/* What becomes of a call whose request was sent and whose connection ended before the reply. */
enum room_repeat {
    ROOM_REPEAT,    /* sent again: asks only, or does the same thing twice without harm */
    ROOM_GIVE_UP,   /* CR_UNAVAILABLE: if it was done, nobody has what it made */
    ROOM_UNKNOWN,   /* CR_E_UNKNOWN_OUTCOME */
    ROOM_POINTLESS, /* CR_OK, sent or not: what it was about went with the connection */
};

struct call_queue {
    struct cr_call *first, *last;
};

struct cr_call {
    struct cr_room *room;
    struct cr_call *chain;       /* in its bucket */
    struct cr_call *prev, *next; /* in the queue of what is to be sent, then of what is answered */
    uint64_t life;               /* of the room, when it was begun */
    uint64_t number;
    enum cr_op op;
    enum room_repeat repeat;
    bool sent, done;
    bool was_sent; /* on this connection or an earlier one: it may have been done */
    bool waited;   /* a thread waits for it: no event loop needs to hear */
    bool watched;  /* cr_room_answered tells of it */
    bool queued;   /* and has not told yet */
    void *context; /* told with it */
    cr_boot_ns deadline;
    struct cr_builder request;
    struct cr_ending_id ending; /* of an ending */
    struct cr_lock *lock;    /* of a lock that is taken: told with the reply; the call's until the
                                finish gives it away */
    struct cr_ticket ticket; /* of a ticket that is taken, but for the clock */
    bool settled;            /* answered CR_OK unsent: there is nothing to ask */
    bool detached;           /* nobody waits for it: freed when it is answered */
    uint64_t connection;     /* not 0: answered CR_OK unsent on any other connection */
    /* done: */
    enum cr_status status;
    unsigned char *reply; /* the whole message; NULL: there was none */
    size_t reply_count;
};

enum link_state {
    LINK_DOWN,     /* until retry_at; a room that was handed its descriptor waits for another */
    LINK_STARTING, /* an agent was started: its ready line is awaited */
    LINK_HELLO,    /* connected, hello sent */
    LINK_UP
};

struct room_link {
    enum link_state state;
    int fd;
    bool handed;      /* descriptors come from cr_room_replace_fd */
    bool derived;     /* the directory is the one of cr_state_directory: see that it is ours */
    bool may_start;   /* an agent, where none runs */
    bool wants_write; /* the socket took no more */
    char path[sizeof((struct sockaddr_un *)NULL)->sun_path];
    uint64_t hello; /* number of the hello under way */
    cr_boot_ns retry_at;
    cr_span_ms backoff;
    uint64_t connection; /* counts them; a ticket of another one is good for nothing */
    /* Starting. */
    int ready_fd;
    long starter; /* pid of what was spawned; 0: none */
    cr_boot_ns start_until;
    /* Why it is down, for cr_open. */
    struct cr_error error;
    bool hopeless; /* trying again will not help: a conflict, or a refusal */
};

struct room_counter {
    _Alignas(64) atomic_ullong hits;
    atomic_ullong misses;
};

struct room_direct;

struct cr_room {
    struct room_page *page;
    struct cr_clock *clock;
    bool is_direct; /* fixed, as are the strings */
    bool any_kind;  /* takes what the agent serves; else `own_table` is what it must be */
    bool own_table;
    char *url, *state, *program, *realm;
    enum cr_cache cache;
    size_t cache_bytes;
    cr_span_ms idle, absolute, timeout;

    uint64_t life; /* raised in each forked child that joins */
    atomic_ullong numbers;
    struct cr_call *buckets[CR_ROOM_BUCKETS];
    struct call_queue out;      /* to be sent */
    struct call_queue answered; /* for cr_room_answered */
    size_t call_count;
    cr_boot_ns next_deadline; /* no call's is earlier */
    bool reading;             /* a thread is in poll, or reads, for all */
    struct cr_lock *locks;

    int epoll_fd, timer_fd, notice_fd;
    cr_boot_ns timer_armed; /* CR_BOOT_NEVER: not */
    bool noticed;
    bool polled; /* cr_room_poll is at work: whoever called it asks what was answered */

    struct room_link link;
    unsigned char *buffer; /* CR_MESSAGE_BYTES_MAX + 1: what is being read */
    struct room_direct *direct;
    enum cr_cache agent_cache; /* as last told */

    /* Read by any thread without the lock. */
    _Atomic(struct room_map *) map;
    struct cr_engine *engine; /* direct mode: cr_engine_cached only; fixed */
    struct room_map *maps;    /* all, the newest first */
    size_t map_count;
    atomic_ullong seen_sent[CR_ROOM_SEEN_SLOTS];
    struct room_counter counters[CR_ROOM_STRIPES];
};

/* room.c. The lock: keeps errno between the two. False: a direct room in a forked child (CR-102);
 * it is not locked then. */
CR_MUST_CHECK bool cr_room_lock(struct cr_room *room, int *out_errno);
void cr_room_unlock(struct cr_room *room, int kept_errno);
/* Without waiting. False: somebody has it, or this is a forked child. */
CR_MUST_CHECK bool cr_room_try_lock(struct cr_room *room, int *out_errno);
/* Under the lock: a message that gets no reply and may be lost. */
void cr_room_tell(struct cr_room *room, const struct cr_builder *message);
static inline bool cr_room_is_alive(const struct cr_room *room)
{
    /* room_alive:A. Who sees it alive sees the room that was made, or joined anew. Pairs with
     * room_join:A, room_open:A. */
    return atomic_load_explicit(&room->page->alive, memory_order_acquire) != 0;
}
void cr_room_error(struct cr_error *error, enum cr_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Makes what both kinds need; `options` may be NULL. */
CR_MUST_CHECK enum cr_status cr_room_create(const char *url, const struct cr_options *options,
                                            struct cr_room **out_room);

/* calls.c. Under the lock but for create, submit, wait, free. */
/* A call with an open request; NULL: no memory. */
struct cr_call *cr_call_create(struct cr_room *room, enum cr_op op, enum room_repeat repeat);
void cr_call_free(struct cr_call *call); /* not under way; accepts NULL */
/* Send it. Frees it unless CR_OK; accepts NULL (CR_E_NO_MEMORY). `extra` is added to the time-out.
 */
CR_MUST_CHECK enum cr_status cr_call_submit(struct cr_call *call, bool waited, cr_span_ms extra,
                                            struct cr_call **out_call);
/* Wait for the reply. *out_message points into the call and is empty where there was no reply. The
 * status is the reply's, or why there is none. */
CR_MUST_CHECK enum cr_status cr_call_wait(struct cr_call *call, struct cr_message *out_message);
/* Submit, wait and free, where the status is all that the reply says. Accepts NULL. */
CR_MUST_CHECK enum cr_status cr_call_run(struct cr_call *call);
CR_MUST_CHECK enum cr_status cr_call_finish(struct cr_call *call); /* wait and free */
/* Send it over the connection that there is, and see to it that it arrives while that lasts; then
 * free it. Not in the midst of going through calls. */
void cr_call_detach(struct cr_call *call);
void cr_call_answer(struct cr_call *call, enum cr_status status);
/* One message that came in, and a descriptor that came with it (the callee's), or -1. False: it
 * breaks the protocol. */
CR_MUST_CHECK bool cr_room_dispatch(struct cr_room *room, const unsigned char *bytes, size_t count,
                                    int fd);
void cr_calls_disconnected(struct cr_room *room);
void cr_calls_fail(struct cr_room *room, enum cr_status status);
void cr_calls_expire(struct cr_room *room, cr_boot_ns now);
void cr_calls_forget(struct cr_room *room); /* a forked child: they are the parent's */
void cr_calls_cancel(struct cr_room *room); /* the room closes */
void cr_call_sent(struct cr_call *call);    /* it leaves the queue */

/* poll.c: waiting. Under the lock. */
/* Everything that can be done without waiting. `until` (may be NULL): reading stops when that call
 * is done. */
void cr_room_turn(struct cr_room *room, const struct cr_call *until);
/* Let go of the lock until something may have changed, not longer than `until`. */
void cr_room_sleep(struct cr_room *room, cr_boot_ns until);
/* For event loops: something is done, something will be due. */
void cr_room_notice(struct cr_room *room);
void cr_room_arm(struct cr_room *room, cr_boot_ns due);
void cr_room_arm_due(struct cr_room *room); /* whatever is due next */
/* The descriptors that event loops wait for: new ones, under the old numbers where there were any.
 */
CR_MUST_CHECK enum cr_status cr_room_descriptors(struct cr_room *room);

/* link.c. Under the lock. */
void cr_link_advance(struct cr_room *room, cr_boot_ns now);
void cr_link_flush(struct cr_room *room);
void cr_link_tell(struct cr_room *room, const struct cr_builder *message);
void cr_link_read(struct cr_room *room, const struct cr_call *until);
void cr_link_greeted(struct cr_room *room, const struct cr_message *message, int fd);
void cr_link_lost(struct cr_room *room);
void cr_link_use(struct cr_room *room, int fd); /* a connected descriptor */
cr_boot_ns cr_link_due(const struct cr_room *room);
/* Names the connection, and the process whose it is; 0: there is none. */
uint64_t cr_link_connection(const struct cr_room *room);
void cr_link_drop(struct cr_room *room); /* close what there is; for close and forked children */

/* spawn.c */
CR_MUST_CHECK enum cr_status cr_room_spawn(struct cr_room *room, struct cr_error *out_error);
/* The ready line. CR_ASK: not there yet; CR_OK; CR_BUSY: another is the agent; else why not. */
CR_MUST_CHECK enum cr_status cr_room_spawned(struct cr_room *room, struct cr_error *out_error);

/* map.c. Under the lock; `fd` is the callee's. */
void cr_map_take(struct cr_room *room, int fd);
void cr_map_drop(struct cr_room *room);
void cr_map_destroy(struct cr_room *room); /* nobody is inside */

/* direct.c. Under the lock, but for open and destroy. */
struct cr_store;
CR_MUST_CHECK enum cr_status cr_direct_open(struct cr_room *room, struct cr_store *store,
                                            const struct cr_options *options,
                                            struct cr_error *out_error);
void cr_direct_destroy(struct cr_room *room);
void cr_direct_send(struct cr_room *room, struct cr_call *call);
void cr_direct_tell(struct cr_room *room, const struct cr_builder *message);
cr_boot_ns cr_direct_run(struct cr_room *room); /* what is due; when more is */
/* Not under the lock. Calls that are sent while it is held wait for its end, and their writes are
 * committed together. An attached room has threads that see to that. */
void cr_room_hold(struct cr_room *room, bool held);

/* locks.c. Under the lock. */
void cr_locks_trust(struct cr_room *room, const struct cr_message *push);
void cr_locks_lost(struct cr_room *room);
void cr_locks_forget(struct cr_room *room); /* a forked child: they are the parent's */
void cr_locks_taken(struct cr_lock *lock, const struct cr_message *reply);
/* Nobody will have the lock of this call: it is given back, or not waited for any more. Not freed.
 */
void cr_locks_cancelled(struct cr_call *call);
/* It was taken for a call that nobody waits for any more: given back. */
void cr_locks_unclaimed(struct cr_room *room, const struct cr_message *reply);

/* view.c. Look in the table, in two steps: the first fetches ahead what the second reads, which
 * counts hits and misses. */
struct cr_room_look {
    const struct room_map *map; /* NULL: none here */
    struct cr_table_probe probe;
};
void cr_room_look(struct cr_room *room, const struct cr_session_id *id, struct cr_room_look *out);
/* As cr_table_find_probed answers. */
CR_MUST_CHECK bool cr_room_find(struct cr_room *room, const struct cr_session_id *id,
                                struct cr_room_look *look, const struct cr_token_hash *hash,
                                const struct cr_table_payload *to, struct cr_entry *out_entry);
/* cr_validate_cached for up to CR_TABLE_MANY_MAX tokens, whose sessions have their sizes set. */
void cr_validate_group(struct cr_room *room, const struct cr_token *tokens, size_t count,
                       struct cr_session *out_sessions, enum cr_status *out_statuses);
/* Whether there is a table here to look in. */
bool cr_room_has_table(const struct cr_room *room);

#endif
