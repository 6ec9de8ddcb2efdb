/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Named leases on several hosts whose clocks differ, with a store that is slow, fails and loses
 * outcomes: at any instant one holder at most trusts its lease (R4), every holder has a higher
 * fence than those before it (R2, R7), and when all is well again the lease can be had.
 */
#include "tap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coord/lease.h"
#include "sim.h"

#define HOSTS 3
#define HOLDERS 4 /* of one host */

struct world;

struct holder {
    struct world *world;
    size_t host;
    struct cr_holding *holding; /* NULL: it wants nothing */
    bool taking;                /* cr_holding_take is on the stack */
    uint64_t fence;
    cr_boot_ns trusted_until; /* by its host's clock; 0: not held */
};

struct world {
    struct sim sim;
    struct cr_leases *leases[HOSTS];
    struct holder holders[HOSTS][HOLDERS];
    cr_boot_ns bury_at[HOSTS];
    uint64_t fence_last;
    size_t taken, lost, refused, wrong;
};

/* Its process may be paused: then it trusts what it last heard, for as long as its clock says. */
static bool trusts(const struct world *world, const struct holder *holder)
{
    struct sim_host host = world->sim.hosts[holder->host];
    return holder->trusted_until != 0 && cr_clock_boot(&host.clock) < holder->trusted_until;
}

static void check_one_holder(struct world *world)
{
    size_t count = 0;
    for (size_t host = 0; host < HOSTS; host++)
        for (size_t i = 0; i < HOLDERS; i++)
            count += trusts(world, &world->holders[host][i]);
    if (count <= 1)
        return;
    world->wrong++;
    tap_note("at %llu: %zu trust the lease", (unsigned long long)world->sim.now, count);
}

static void holder_taken(void *context, enum cr_status status, uint64_t fence,
                         cr_boot_ns trusted_until)
{
    struct holder *holder = context;
    struct world *world = holder->world;
    if (status != CR_OK) {
        world->refused++;
        holder->holding = NULL;
        return;
    }
    world->taken++;
    holder->fence = fence;
    holder->trusted_until = trusted_until;
    if (fence <= world->fence_last) {
        world->wrong++;
        tap_note("fence %llu after %llu", (unsigned long long)fence,
                 (unsigned long long)world->fence_last);
    }
    world->fence_last = fence;
    check_one_holder(world);
}

static void holder_renewed(void *context, cr_boot_ns trusted_until)
{
    struct holder *holder = context;
    holder->trusted_until = trusted_until;
    check_one_holder(holder->world);
    if (trusted_until != 0)
        return;
    holder->world->lost++;
    holder->holding = NULL;
}

static const struct cr_holding_events events = {holder_taken, holder_renewed};

static void take_or_give(struct world *world, struct holder *holder, cr_span_ms wait)
{
    if (holder->holding != NULL) {
        struct cr_holding *holding = holder->holding;
        holder->holding = NULL;
        holder->trusted_until = 0;
        cr_holding_give(holding);
        return;
    }
    struct cr_holding *holding = NULL;
    /* An event may come at once, and clear it. */
    static char not_yet;
    holder->holding = (void *)&not_yet;
    CHECK_STATUS(
        cr_holding_take(world->leases[holder->host], "L", "test", wait, &events, holder, &holding),
        CR_OK);
    if (holder->holding != NULL)
        holder->holding = holding;
}

static void host_start(struct world *world, size_t host)
{
    struct sim *sim = &world->sim;
    if (sim_host_start(sim, host, CR_CACHE_NONE) != CR_OK)
        return;
    CHECK_STATUS(cr_leases_create(sim->hosts[host].engine, &world->leases[host]), CR_OK);
}

/* Nobody of this host holds anything any more. */
static void host_forget(struct world *world, size_t host)
{
    for (size_t i = 0; i < HOLDERS; i++)
        world->holders[host][i] = (struct holder){.world = world, .host = host};
}

static void host_stop(struct world *world, size_t host)
{
    host_forget(world, host); /* its clients have gone before */
    cr_leases_destroy(world->leases[host]);
    world->leases[host] = NULL;
    if (world->sim.hosts[host].alive)
        sim_host_stop(&world->sim, host);
    else
        sim_host_bury(&world->sim, host);
}

static void disturb(struct world *world, size_t host)
{
    static const enum cr_fault_kind kinds[] = {CR_FAULT_UNAVAILABLE, CR_FAULT_LOST,
                                               CR_FAULT_NOT_MADE};
    struct sim *sim = &world->sim;
    struct sim_host *h = &sim->hosts[host];
    if (h->engine == NULL) {
        host_start(world, host);
        return;
    }
    if (!h->alive)
        return;
    switch (sim_below(sim, 8)) {
    case 0:
        h->paused = true;
        break;
    case 1:
    case 2:
    case 3:
        h->paused = false;
        h->plan.kind = CR_FAULT_NONE;
        h->full_count = 0;
        break;
    case 4:
        h->plan = (struct cr_fault_plan){.kind = kinds[sim_below(sim, 3)],
                                         .after = sim_below(sim, 3),
                                         .count = sim_below(sim, 2) ? UINT64_MAX : 2};
        break;
    case 5:
        h->full_from = h->submits;
        h->full_count = 1 + sim_below(sim, 10);
        break;
    case 6:
        /* Killed: its clients trust what they heard until they see the connection gone. */
        sim_host_kill(sim, host);
        world->bury_at[host] = sim->now + 1000000 + sim_below(sim, 20000) * 1000000;
        break;
    case 7:
        if (!h->paused)
            host_stop(world, host);
        break;
    }
}

static void step(struct world *world)
{
    struct sim *sim = &world->sim;
    size_t host = sim_below(sim, HOSTS);
    for (size_t i = 0; i < HOSTS; i++)
        if (world->bury_at[i] != 0 && world->bury_at[i] <= sim->now) {
            world->bury_at[i] = 0;
            host_stop(world, i);
        }
    if (sim_below(sim, 12) == 0)
        disturb(world, host);
    const struct sim_host *h = &sim->hosts[host];
    if (h->engine != NULL && h->alive && !h->paused && sim_below(sim, 2) == 0)
        take_or_give(world, &world->holders[host][sim_below(sim, HOLDERS)],
                     sim_below(sim, 3) == 0 ? 0 : (cr_span_ms)sim_below(sim, 20000));
    sim_run(sim, 1 + (cr_span_ms)sim_below(sim, sim_below(sim, 4) == 0 ? 9000 : 50), NULL);
    check_one_holder(world);
}

/* Everything is mended and given back: who waits gets it. */
static void check_can_be_had(struct world *world)
{
    struct sim *sim = &world->sim;
    for (size_t host = 0; host < HOSTS; host++) {
        struct sim_host *h = &sim->hosts[host];
        if (!h->alive)
            continue;
        h->paused = false;
        h->plan.kind = CR_FAULT_NONE;
        h->full_count = 0;
        for (size_t i = 0; i < HOLDERS; i++)
            if (world->holders[host][i].holding != NULL)
                take_or_give(world, &world->holders[host][i], 0);
    }
    sim->rough = false;
    sim_run(sim, 100, NULL);
    for (size_t host = 0; host < HOSTS; host++)
        if (sim->hosts[host].alive) {
            struct holder *holder = &world->holders[host][0];
            /* Longer than the store can still say that it is somebody's. */
            take_or_give(world, holder, 18000);
            sim_run(sim, 20000, NULL);
            CHECK(holder->trusted_until != 0);
            return;
        }
}

static void world_init(struct world *world)
{
    memset(world, 0, sizeof *world);
    sim_init(&world->sim, tap_random(), HOSTS);
    for (size_t host = 0; host < HOSTS; host++) {
        host_forget(world, host);
        host_start(world, host);
    }
}

static void world_fini(struct world *world)
{
    for (size_t host = 0; host < HOSTS; host++)
        if (world->sim.hosts[host].engine != NULL)
            host_stop(world, host);
    sim_fini(&world->sim);
}

static void one_at_most_trusts_a_lease_and_fences_rise_whatever_happens(void)
{
    size_t taken = 0, lost = 0, refused = 0;
    for (int round = 0; round < 60; round++) {
        static struct world world;
        world_init(&world);
        world.sim.rough = true;
        for (int i = 0; i < 600 && world.wrong == 0; i++)
            step(&world);
        if (world.wrong == 0)
            check_can_be_had(&world);
        world_fini(&world);
        taken += world.taken;
        lost += world.lost;
        refused += world.refused;
        if (!CHECK(world.wrong == 0))
            break;
    }
    tap_note("%zu taken, %zu lost, %zu refused", taken, lost, refused);
    CHECK(taken > 100 && lost > 10 && refused > 100);
}

static void a_take_whose_answer_came_too_late_is_not_told(void)
{
    static struct world world;
    world_init(&world);
    struct sim *sim = &world.sim;
    struct holder *late = &world.holders[0][0], *next = &world.holders[1][0];
    sim->slow = SIM_SECOND;
    take_or_give(&world, late, 60000);
    sim_run(sim, 1500, NULL); /* the store has taken it; the answer is on its way */
    sim->slow = 0;
    sim->hosts[0].paused = true;
    CHECK_UINT(world.taken, 0);
    take_or_give(&world, next, 60000);
    sim_run(sim, 20000, NULL);
    CHECK_UINT(next->fence, 2);
    sim->hosts[0].paused = false;
    sim_run(sim, 5000, NULL);
    CHECK_UINT(world.taken, 1);
    take_or_give(&world, next, 0);
    sim_run(sim, 5000, NULL);
    CHECK_UINT(late->fence, 3); /* it went on waiting */
    CHECK(trusts(&world, late));
    world_fini(&world);
}

static const struct tap_test tests[] = {
    TAP_TEST(a_take_whose_answer_came_too_late_is_not_told),
    TAP_TEST(one_at_most_trusts_a_lease_and_fences_rise_whatever_happens),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
