/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hosts on one thread: each with its own loop, clock rate, and engine, over one store in this
 * process. Time moves from event to event. A host can be paused (nothing of it runs, its clock goes
 * on), cut off from the store, killed (its engine stops dead; its table stays mapped), and started
 * anew. Store calls take time: a call is submitted, made, and answered at three instants.
 *
 * Everything random comes from one seed.
 */
#ifndef SIM_H
#define SIM_H

#include "base/timers.h"
#include "base/works.h"
#include "engine/engine.h"
#include "service/service.h"
#include "store/store.h"

#define SIM_HOSTS_MAX 8
#define SIM_BATCH_MAX 256
#define SIM_SECOND 1000000000ULL

struct sim;

/* Something else that lives in the same time. */
struct sim_actor {
    struct sim_actor *next;
    cr_boot_ns (*next_time)(const struct sim_actor *actor); /* when it has something to do */
    void (*step)(struct sim_actor *actor);                  /* what is due by now */
};

struct sim_host {
    struct cr_loop loop; /* first: engines get this */
    struct cr_clock clock;
    struct sim *sim;
    struct cr_timers timers;
    struct sim_pool *pools;
    struct cr_random_seeded random;
    double rate;           /* of its clock against the world's: within 10 % of each other */
    cr_boot_ns boot_start; /* what its clock said when the world began */
    cr_time_ms wall;       /* its wall clock, which jumps: nothing may rest on it */
    bool paused, alive;
    unsigned life;              /* counts its engines */
    struct cr_service *service; /* of worlds that are served, from sim_host_start on */
    struct cr_fault_plan plan;
    void (*store_opened)(struct cr_store *store); /* NULL, or may give its store other functions */
    /* Its store's queues: how often something was submitted; that one, and so many after it, find
     * them full. */
    uint64_t submits, full_from, full_count;
    cr_boot_ns slow;       /* not 0: half a store call takes up to this long */
    cr_boot_ns trouble_at; /* for who keeps it: when it was last paused, dead, or without a store */
    cr_span_ms grace;      /* of the next engine that is started here */
    struct cr_engine *engine;
    unsigned table_changes;
};

struct sim {
    cr_boot_ns now;
    bool rough;      /* store calls take up to seconds */
    cr_boot_ns slow; /* not 0: half a store call takes this long */
    /* The store is held by one engine at a time. Hosts are then agents of one machine, one after
     * another: they have one clock. Set it before the first is started. */
    bool exclusive;
    bool served; /* each engine has a service in front of it */
    struct cr_store_ops exclusive_ops;
    struct cr_random_seeded random;
    struct cr_clock_fake store_clock;
    struct cr_store_env store_env;
    struct sim_host hosts[SIM_HOSTS_MAX];
    size_t host_count;
    char url[64];
    struct cr_store *keeper; /* keeps the store while no host has it open */
    struct sim_actor *actors;
    uint64_t message_numbers;       /* of all requests: no two have the same */
    void (*stepped)(void *context); /* after each event; may run the world itself */
    void *context;
};

void sim_init(struct sim *sim, uint64_t seed, size_t hosts);
void sim_fini(struct sim *sim);
uint64_t sim_below(struct sim *sim, uint64_t bound);

/* Opens the store and makes an engine. The second: one without a store, for an application's own.
 */
enum cr_status sim_host_start(struct sim *sim, size_t index, enum cr_cache cache);
enum cr_status sim_host_start_bare(struct sim *sim, size_t index, enum cr_cache cache);
/* A clean stop: answers what is under way. In a served world, then cut who is connected, and end
 * the service. */
void sim_host_stop(struct sim *sim, size_t index);
void sim_service_end(struct sim *sim, size_t index);
/* Stops dead: whatever it was doing is not answered. Its table can still be read through a view. */
void sim_host_kill(struct sim *sim, size_t index);
/* Frees what a killed host left behind. Whoever is connected to its service goes first. */
void sim_host_bury(struct sim *sim, size_t index);
/* Its clock goes on at another rate, or is the same as that of host `other`. */
void sim_host_drift(struct sim *sim, size_t index, double rate);
void sim_host_share_clock(struct sim *sim, size_t index, size_t other);
double sim_rate(struct sim *sim); /* any that a clock may have */

/* Run what happens until `span` from now, or until *until becomes true (NULL: do not look). */
void sim_run(struct sim *sim, cr_span_ms span, const bool *until);

/* For callbacks: remembers the status, and that it came. */
struct sim_answer {
    bool done;
    enum cr_status status;
    struct cr_session_id id;
    struct cr_token token;
    struct cr_user user;
    struct cr_ending_id ending;
    cr_span_ms bound;
    cr_boot_ns at; /* the world's time */
    cr_boot_ns as_of;
    uint64_t version;
    size_t rights_bytes, data_bytes;
    enum cr_reason reason; /* of an explanation */
    bool live;
    struct sim *sim;
};
void sim_answered(void *context, const struct cr_engine_answer *answer);

#endif
