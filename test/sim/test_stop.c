/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stopping, full queues, and answers that come back with another call: every call is answered once,
 * and says what became of it.
 */
#include "tap.h"

#include <stdlib.h>
#include <string.h>

#include "coord/lease.h"
#include "party.h"

static void a_stop_at_any_instant_answers_every_call_once_with_what_became_of_it(void)
{
    /* Two hosts: the other one is paused, so that endings wait for it. */
    static struct party party;
    static const enum cr_fault_kind faults[] = {CR_FAULT_NONE, CR_FAULT_LOST, CR_FAULT_NOT_MADE};
    for (int round = 0; round < 240; round++) {
        bool exclusive = round % 3 == 0;
        party_init(&party, 2, exclusive);
        party.sim.hosts[1].paused = true;
        for (int kind = 0; kind < PARTY_KINDS; kind++)
            party_ask(&party, kind);
        party.sim.hosts[0].plan = (struct cr_fault_plan){
            .kind = faults[round / 2 % 3], .count = UINT64_MAX, .commits_only = true};
        sim_run(&party.sim, round / 6, NULL);
        sim_host_stop(&party.sim, 0);
        party.sim.hosts[1].paused = false;
        if (exclusive)
            CHECK_STATUS(sim_host_start(&party.sim, 1, CR_CACHE_SHARED), CR_OK);
        sim_run(&party.sim, 10000, NULL);
        for (int kind = 0; kind < PARTY_KINDS; kind++) {
            tap_row(party_kind_name(kind));
            party_check(&party, kind, 1);
        }
        tap_row(NULL);
        sim_fini(&party.sim);
    }
}

/* A call of a layer above. */
struct foreign {
    struct cr_store_call call;
    unsigned ran, told;
};

static enum cr_status foreign_run(struct cr_store *store, struct cr_store_call *call)
{
    ((struct foreign *)call)->ran++;
    return CR_OK;
}

static void foreign_done(struct cr_store_call *call)
{
    struct foreign *foreign = (struct foreign *)call;
    foreign->told++;
    CHECK_STATUS(call->status, foreign->ran > 0 ? CR_OK : CR_UNAVAILABLE);
}

static void a_stop_tells_the_store_calls_of_the_layers_above(void)
{
    enum { CALLS = 40 };
    for (int round = 0; round < 20; round++) {
        struct sim sim;
        struct foreign calls[CALLS] = {0};
        sim_init(&sim, tap_random(), 1);
        CHECK_STATUS(sim_host_start(&sim, 0, CR_CACHE_NONE), CR_OK);
        for (int i = 0; i < CALLS; i++) {
            calls[i].call = (struct cr_store_call){.run = foreign_run, .done = foreign_done};
            bool taken = i % 2 == 0 ? cr_engine_store_read(sim.hosts[0].engine, &calls[i].call)
                                    : cr_engine_store_write(sim.hosts[0].engine, &calls[i].call);
            CHECK(taken);
        }
        sim_run(&sim, round / 2, NULL);
        sim_host_stop(&sim, 0);
        for (int i = 0; i < CALLS; i++) {
            CHECK_UINT(calls[i].told, 1);
            CHECK(calls[i].ran <= 1);
        }
        sim_fini(&sim);
    }
}

struct hold {
    struct sim *sim;
    struct cr_holding *holding;
    unsigned told;
    bool answered;
    enum cr_status status;
    uint64_t fence;
};

static void hold_taken(void *context, enum cr_status status, uint64_t fence,
                       cr_boot_ns trusted_until)
{
    struct hold *hold = context;
    hold->told++;
    hold->answered = true;
    hold->status = status;
    hold->fence = fence;
}

static void hold_renewed(void *context, cr_boot_ns trusted_until)
{
    ((struct hold *)context)->told++;
}

static const struct cr_holding_events hold_events = {hold_taken, hold_renewed};

static void a_lease_is_free_when_its_holders_engine_has_stopped(void)
{
    for (int round = 0; round < 40; round++) {
        struct sim sim;
        struct cr_leases *leases[2] = {0};
        struct hold first = {.sim = &sim}, second = {.sim = &sim};
        sim_init(&sim, tap_random(), 2);
        for (size_t i = 0; i < 2; i++) {
            CHECK_STATUS(sim_host_start(&sim, i, CR_CACHE_NONE), CR_OK);
            CHECK_STATUS(cr_leases_create(sim.hosts[i].engine, &leases[i]), CR_OK);
        }
        CHECK_STATUS(
            cr_holding_take(leases[0], "L", "test", 0, &hold_events, &first, &first.holding),
            CR_OK);
        /* Held, or the take is under way; and the writer may be busy with something else. */
        sim_run(&sim, round % 2 == 0 ? 100 : round / 8, NULL);
        struct foreign busy = {.call = {.run = foreign_run, .done = foreign_done}};
        CHECK(cr_engine_store_write(sim.hosts[0].engine, &busy.call));
        sim_run(&sim, round / 16, NULL);
        cr_leases_destroy(leases[0]);
        sim_host_stop(&sim, 0);
        CHECK_STATUS(
            cr_holding_take(leases[1], "L", "test", 0, &hold_events, &second, &second.holding),
            CR_OK);
        sim_run(&sim, 1000, &second.answered);
        CHECK_STATUS(second.status, CR_OK);
        cr_leases_destroy(leases[1]);
        sim_host_stop(&sim, 1);
        sim_fini(&sim);
    }
}

static const struct tap_test tests[] = {
    TAP_TEST(a_stop_at_any_instant_answers_every_call_once_with_what_became_of_it),
    TAP_TEST(a_stop_tells_the_store_calls_of_the_layers_above),
    TAP_TEST(a_lease_is_free_when_its_holders_engine_has_stopped),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
