/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A room: what a program opens. Either the host's agent (a socket, and its table mapped read-only)
 * or, in direct mode, an engine inside this process.
 *
 * A room may be used from any thread. The library makes no threads and no signal handlers, keeps
 * errno, and is not async-signal-safe. After fork the child's first call joins the agent anew, also
 * where other threads of the parent were inside. Calls begun before the fork are the parent's: in
 * the child their finish answers CR_UNAVAILABLE and their cancel frees them; so are locks: CR_LOST.
 * A direct-mode room refuses in the child (CR_E_REFUSED, CR-102), also what was begun.
 */
#ifndef CLOAKROOM_ROOM_H
#define CLOAKROOM_ROOM_H

#include <cloakroom/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct cr_room;
struct cr_call;
struct cr_store;

enum cr_cache {
    CR_CACHE_DEFAULT = 0, /* shared with an agent, memory in direct mode */
    CR_CACHE_NONE = 1,    /* no table: every validation asks */
    CR_CACHE_MEMORY = 2,  /* private to the engine's process */
    CR_CACHE_SHARED = 3   /* mapped by every worker of the host */
};

enum cr_mode {
    CR_MODE_AUTO = 0,   /* join the host's agent; start one where none runs */
    CR_MODE_ATTACH = 1, /* join the host's agent; fail where none runs */
    CR_MODE_DIRECT = 2  /* one process that stays alone: the engine runs inside it */
};

/* Zeroed fields (after cr_options_init) take their defaults. Strings are read during cr_open only.
 */
struct cr_options {
    size_t size;
    enum cr_mode mode;
    enum cr_cache cache;
    size_t cache_bytes;        /* memory for the table; default 64 MiB */
    cr_span_ms idle;           /* default of sessions made here: 30 minutes */
    cr_span_ms absolute;       /* default of sessions made here: 12 hours */
    cr_span_ms timeout;        /* of one call; default 10 s */
    unsigned declared_workers; /* processes that will serve; 0: find out (command line of the
                                  server, environment, processes that were started with this one) */
    const char *program;       /* the agent to start; default: cloakroom beside us, then in PATH */
    const char *state; /* directory of the agent's sockets; default: derived from the store */
    const char *realm; /* tokens of one realm are refused in another; default "cloakroom" */
};

CR_API void cr_options_init(struct cr_options *options);

/*
 * Open `url`: sqlite:///PATH, memory:, table:NAME (the application's own table, see table.h), or
 * cloakroom:///PATH/app.sock for an agent that runs as a service (needs no credentials).
 * `options` and `out_error` may be NULL. Writes *out_room only with CR_OK; the caller closes it.
 * CR_E_REFUSED with what was seen, what would go wrong and how to fix it, when the set-up is
 * unsafe.
 *
 * Waits until the agent has answered, at most options.timeout: some milliseconds where one runs,
 * tenths of a second where it must be started, 1.22 s where one has just died. In direct mode a
 * worker of a server waits until it is 0.3 s old, where nobody said how many there are, and, at
 * most options.timeout, for the worker that it replaces. There is no form for event loops: open
 * before they run, or on a thread.
 */
CR_API CR_MUST_CHECK enum cr_status cr_open(const char *url, const struct cr_options *options,
                                            struct cr_room **out_room, struct cr_error *out_error);

/* The same in direct mode over a store built outside the tree (store.h). Takes the store over, also
 * when it fails. */
CR_API CR_MUST_CHECK enum cr_status cr_open_store(struct cr_store *store,
                                                  const struct cr_options *options,
                                                  struct cr_room **out_room,
                                                  struct cr_error *out_error);

/* Accepts NULL. Calls still under way are cancelled, and those that are answered are to be finished
 * or cancelled before; no other thread may be inside. */
CR_API void cr_close(struct cr_room *room);

/*
 * For event loops. cr_room_fd: a descriptor that is readable when cr_room_poll has something to do;
 * it stays the same for the life of the room. A forked child asks for it anew, though the number is
 * the same, and gives it to an event loop of its own: what watched it before the fork is the
 * parent's. cr_room_poll takes what has arrived and never blocks.
 * cr_call_done: whether finish would return at once; cr_call_done_within waits for that, at most
 * `wait` (0 to CR_SPAN_MS_MAX). Every *_begin has its *_finish, which waits if
 * it must, frees the call and gives the answer; cr_call_cancel frees it unanswered (what it asked
 * for may still happen).
 *
 * With an agent no *_begin waits for it, or for space in its socket, and nothing here does but
 * cr_call_done_within, and *_finish of a call that is not done. Each takes the room's lock, which
 * no thread keeps while it waits; where no agent runs and the room may start one, whoever enters
 * does (posix_spawn, some milliseconds).
 *
 * In direct mode there is nobody to wait for: *_begin, cr_room_poll, cr_call_cancel, cr_lock_check
 * and cr_lock_give run the engine, and the store with its commits, in the calling thread and under
 * the lock, as do their blocking forms; cr_login_password and what else hashes a password takes
 * its time there. Most calls are done when their begin returns. So there every call but
 * cr_validate_cached and cr_lookup_cached can take as long as the disk does, also because another
 * thread is in one: treat them as blocking.
 */
CR_API int cr_room_fd(struct cr_room *room);
CR_API void cr_room_poll(struct cr_room *room);
CR_API bool cr_call_done(const struct cr_call *call);
CR_API bool cr_call_done_within(struct cr_call *call, cr_span_ms wait);
CR_API void cr_call_cancel(struct cr_call *call);

/*
 * For event loops with many calls under way, so that none has to ask each whether it is done.
 * cr_call_watch: once this call is answered, or if it is already, cr_room_answered gives it out,
 * with `context`. cr_room_answered: a watched call that is answered and was not given out yet, the
 * first that was; NULL: there is none. It takes nothing in: cr_room_poll does, and whoever calls
 * that goes on with
 *
 *     while ((call = cr_room_answered(room, &context)) != NULL)
 *         ... the finish of its kind, now or later ...
 *
 * until there is none, as the descriptor need not become readable again for what is left. It does
 * for what other threads take in while they wait for replies of their own, and for a call that was
 * answered before it was watched. A call that is being finished, is finished or was cancelled is
 * not given out, nor one that is answered while a thread is in cr_call_done_within for it, which
 * says so; in a forked child none is that was begun before the fork.
 *
 * Safe from any thread, and each call is given to one: with several that ask, the context says
 * whose it is. Who cancels or finishes a call on another thread than the one that asks must see to
 * it that only one of the two has it. Never waits.
 */
CR_API void cr_call_watch(struct cr_call *call, void *context);
CR_API CR_MUST_CHECK struct cr_call *cr_room_answered(struct cr_room *room, void **out_context);

struct cr_stats {
    size_t size;
    enum cr_cache cache;
    bool attached;           /* to an agent; false in direct mode */
    bool mapped;             /* this process reads the shared table itself */
    uint64_t hits, misses;   /* of this process */
    uint64_t table_sessions; /* entries in the table */
    uint64_t table_capacity; /* entries that fit */
    uint64_t table_bytes;
    uint64_t fills, fills_refused, store_reads, store_writes, store_commits,
        endings; /* of the engine */
    uint64_t agent_pid;
    uint64_t engines; /* registered engines of the store */
    uint64_t attached_workers;
    uint64_t store_waiting;    /* store calls that have been asked for and are not answered yet */
    uint64_t store_calls;      /* done: each read, and each batch of writes with its commit */
    uint64_t store_micros;     /* that those took in all, microseconds */
    uint64_t evicted;          /* live sessions that the table had no room for any more */
    uint64_t lease_left;       /* milliseconds for which the engine may answer; 0: it answers
                                  CR_UNAVAILABLE; UINT64_MAX: as long as it holds the store */
    uint64_t tokens_unknown;   /* validations of tokens that nobody made, at the agent */
    uint64_t guessing_noticed; /* sources that were found to guess tokens */
};
/* `out_stats->size` must be set, else CR_E_INVALID. CR_UNAVAILABLE: the agent did not answer. */
CR_API CR_MUST_CHECK enum cr_status cr_stats(struct cr_room *room, struct cr_stats *out_stats);
CR_API CR_MUST_CHECK enum cr_status cr_stats_begin(struct cr_room *room, struct cr_call **out_call);
CR_API CR_MUST_CHECK enum cr_status cr_stats_finish(struct cr_call *call,
                                                    struct cr_stats *out_stats);

#ifdef __cplusplus
}
#endif
#endif
