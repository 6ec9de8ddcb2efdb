/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker, as an application's process with the library in it is one: a map of the agent's table,
 * and a connection over which real messages go to the agent's service and back. The library itself
 * is threads and sockets, so what it does is told here once more, in little: which calls are made
 * again when the connection ends, and what is said of those that are not.
 *
 * The network between the two delivers in order, late, until it is cut; what was on its way to the
 * agent is lost then, and of the replies some. A worker can be stopped at any moment, also between
 * two loads of a look at its table, and be continued long after.
 */
#ifndef WORKER_H
#define WORKER_H

#include "cache/table.h"
#include "sim.h"
#include "wire/message.h"

#define WORKER_CALL_MS 15000
#define WORKER_NOWHERE SIZE_MAX

/* When the connection ends before the reply. */
enum worker_repeat { WORKER_REPEAT, WORKER_GIVE_UP };

struct worker_message {
    struct worker_message *next;
    cr_boot_ns due;
    uint64_t number; /* of the call; 0: none */
    size_t count;
    int fd; /* -1: none */
    unsigned char bytes[];
};

struct worker_queue {
    struct worker_message *first, *last;
};

struct worker {
    struct sim_actor actor; /* first */
    struct sim *sim;
    enum cr_role role;
    uint64_t slots; /* bits: hosts that are agents of its machine, one after another */
    cr_boot_ns stopped_until;
    bool stuck; /* inside a look, or asleep: nothing of it runs */

    /* The connection. */
    size_t slot;              /* whose agent, or WORKER_NOWHERE */
    struct cr_client *client; /* the agent's end; NULL: it is gone */
    bool greeted;
    cr_boot_ns retry_at;
    struct worker_queue to_agent, to_worker;
    struct worker_call *calls;

    /* The table, and whose it is. */
    const void *memory;
    size_t bytes;
    struct cr_table_view view;
    size_t table_slot;

    size_t wrong; /* messages that were not as they must be */
    size_t replies, repeats, cuts, maps;
};

void worker_init(struct worker *worker, struct sim *sim, enum cr_role role, uint64_t slots);
void worker_fini(struct worker *worker);

/* `request` is finished and goes away here. `done` is told once: what the reply said, or what is
 * known without one (CR_UNAVAILABLE, CR_E_UNKNOWN_OUTCOME), once nobody works at it any more. */
void worker_call(struct worker *worker, struct cr_builder *request, enum worker_repeat repeat,
                 cr_engine_done *done, void *context);
/* A request without a reply. */
void worker_tell(struct worker *worker, struct cr_builder *message);
uint64_t worker_number(struct worker *worker);

/* The connection ends. `by_agent`: its process did; what it had sent may still be read. */
void worker_cut(struct worker *worker, bool by_agent);

/* A look at the table. `at_stop` (may be NULL) is called at the load number `stop` that goes to
 * another page than the one before it, or before the clock is read. */
bool worker_find(struct worker *worker, const struct cr_session_id *id,
                 const struct cr_token_hash *hash, struct cr_entry *out);
bool worker_find_stopped(struct worker *worker, const struct cr_session_id *id,
                         const struct cr_token_hash *hash, struct cr_entry *out, unsigned stop,
                         void (*at_stop)(void *context), void *context);

#endif
