/* SPDX-License-Identifier: Apache-2.0 */
/* One random history: hosts, workers, and the model of the truth that they are compared with. */
#ifndef WORLD_H
#define WORLD_H

#include "model.h"
#include "worker.h"

#define WORLD_HOSTS 6 /* engines at a time, dead ones included */
#define WORLD_MACHINES 3
#define WORLD_WORKERS 6
#define WORLD_CALLS_MAX 200
#define WORLD_RECENT 12 /* tokens that are looked at */

struct world {
    struct sim sim;
    struct model model;
    struct worker workers[WORLD_WORKERS];
    size_t machine_count; /* hosts with the same number modulo this are agents of one machine */
    cr_boot_ns bury_at[WORLD_HOSTS];
    cr_boot_ns told[MODEL_TOKENS]; /* when a use was last reported by a worker */
    bool calm;                     /* little is ended: sessions end for their age */
    bool crowded;                  /* tables are full of others */
    bool in_silence;               /* somebody's look at a table is stopped */
    size_t calls, logins;
    size_t events, reads, silences; /* reads: from tables; silences: looks that were stopped */
    /* A login that has checked a password, and not yet gone on (D11). */
    struct {
        bool waits;
        size_t user;
        uint64_t generation;
        cr_boot_ns read;
    } guard;
};

/* A random token among the last ones. There is one. */
size_t world_token(struct world *world);
/* Something random, of the engine of `host`: by messages of `worker`, or (NULL, or where its role
 * does not allow it) by calls. */
void world_ask(struct world *world, size_t host, struct worker *worker);

#endif
