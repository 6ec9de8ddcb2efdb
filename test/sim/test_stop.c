/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stopping, full queues, and answers that come back with another call: every call is answered once,
 * and says what became of it.
 */
#include "tap.h"

#include <stdlib.h>
#include <string.h>

#include "auth/throttle.h"
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

/* An operator's question about the limits of log-ins, which go before their engine. */
struct asked {
    unsigned told;
    enum cr_status status;
    size_t rows;
};

static void asked_done(void *context, enum cr_status status, const struct cr_debt_row *rows,
                       size_t count)
{
    struct asked *asked = context;
    asked->told++;
    asked->status = status;
    asked->rows = count;
}

static void a_stop_shows_no_limits_that_are_gone(void)
{
    for (int round = 0; round < 40; round++) {
        struct sim sim;
        struct cr_throttle *throttle = NULL;
        struct cr_user user;
        struct asked asked = {0};
        CHECK_STATUS(cr_user_parse("anna", 4, &user), CR_OK);
        sim_init(&sim, tap_random(), 1);
        CHECK_STATUS(sim_host_start(&sim, 0, CR_CACHE_NONE), CR_OK);
        CHECK_STATUS(
            cr_throttle_create(sim.hosts[0].engine, &(struct cr_throttle_options){0}, &throttle),
            CR_OK);
        cr_throttle_explain(throttle, &user, "192.0.2.1", asked_done, &asked);
        sim_run(&sim, round / 4, NULL);
        bool in_time = asked.told > 0;
        cr_throttle_destroy(throttle);
        sim_host_stop(&sim, 0);
        CHECK_UINT(asked.told, 1);
        CHECK_STATUS(asked.status, in_time ? CR_OK : CR_UNAVAILABLE);
        CHECK_UINT(asked.rows, in_time ? 3 : 0);
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

/* Somebody who asks for something else in each answer. */
struct chain {
    struct party *party;
    unsigned left, asked, answered;
};

static void chain_ask(struct chain *chain);

static void chain_answered(void *context, const struct cr_engine_answer *answer)
{
    struct chain *chain = context;
    chain->answered++;
    if (chain->left > 0) {
        chain->left--;
        chain_ask(chain);
    }
}

static void chain_ask(struct chain *chain)
{
    struct party *party = chain->party;
    struct sim *sim = &party->sim;
    struct cr_engine *engine = sim->hosts[0].engine;
    struct cr_create_request create = {.user = party_user(0), .policy = CR_POLICY_KEEP_N};
    struct cr_end_request end = {.reason = CR_REASON_ADMIN, .by = "test"};
    struct cr_account_change change = {.keep_sessions = true, .hash = "new"};
    const struct sim_answer *before = &party->before[sim_below(sim, PARTY_ACCOUNT_ADD)];
    struct cr_user user = party_user((int)sim_below(sim, PARTY_KINDS));
    create.keep_count = 2;
    chain->asked++;
    if (sim_below(sim, 10) == 0)
        (void)!cr_engine_set_cache(engine, (enum cr_cache)(1 + sim_below(sim, 3)),
                                   CR_TABLE_BYTES_MIN, CR_HUGE_AUTO);
    switch (sim_below(sim, 12)) {
    case 0:
    case 1:
        cr_engine_validate(engine, &before->token, sim_below(sim, 3) == 0, chain_answered, chain);
        break;
    case 2:
        cr_engine_create_session(engine, &create, chain_answered, chain);
        break;
    case 3:
        cr_engine_data_read(engine, &before->id, chain_answered, chain);
        break;
    case 4:
        cr_engine_data_write(engine, &before->id, CR_VERSION_ANY, "x", 1, chain_answered, chain);
        break;
    case 5:
        cr_engine_rights_write(engine, &before->id, "x", 1, chain_answered, chain);
        break;
    case 6:
        cr_engine_rotate(engine, &before->token, CR_ROTATE_RENEW, chain_answered, chain);
        break;
    case 7:
        cr_engine_seen(engine, &before->id, UINT64_MAX);
        cr_engine_end(engine, &before->id, &end, chain_answered, chain);
        break;
    case 8:
        cr_engine_end_user(engine, &user, &end, chain_answered, chain);
        break;
    case 9:
        cr_engine_account_change(engine, &user, &change, chain_answered, chain);
        break;
    case 10:
        cr_engine_seen(engine, &before->id, UINT64_MAX);
        cr_engine_end_others(engine, &before->id, &end, chain_answered, chain);
        break;
    case 11:
        cr_engine_seen(engine, &before->id, UINT64_MAX);
        cr_engine_explain(engine, &before->id, chain_answered, chain);
        break;
    }
}

static void answers_may_come_back_with_anything_also_during_a_stop(void)
{
    enum { CHAINS = 20 };
    static struct party party;
    for (int round = 0; round < 60; round++) {
        struct chain chains[CHAINS];
        party_init(&party, 2, round % 3 == 0);
        party.sim.hosts[1].paused = round % 4 == 1;
        for (int i = 0; i < CHAINS; i++) {
            chains[i] = (struct chain){.party = &party, .left = 60};
            chain_ask(&chains[i]);
        }
        sim_run(&party.sim, (cr_span_ms)sim_below(&party.sim, 200), NULL);
        sim_host_stop(&party.sim, 0);
        for (int i = 0; i < CHAINS; i++) {
            CHECK_UINT(chains[i].answered, chains[i].asked);
            CHECK_UINT(chains[i].left, 0);
        }
        sim_run(&party.sim, 2000, NULL); /* no timer of it is left */
        sim_fini(&party.sim);
    }
}

/* The agent's loop and threads in place of simulated ones. */
struct real {
    struct cr_loop *loop;
    struct cr_engine *engine;
    struct cr_timer timer;
    struct cr_token tokens[20];
    struct cr_session_id ids[20];
    size_t made, asked, answered;
};

static void real_pause(struct cr_timer *timer)
{
    struct real *real = (struct real *)((char *)timer - offsetof(struct real, timer));
    cr_loop_uv_stop(real->loop);
}

static void real_run(struct real *real, cr_span_ms span)
{
    cr_timer_set(real->loop, &real->timer, cr_boot_add(cr_clock_boot(real->loop->clock), span));
    cr_loop_uv_run(real->loop);
}

static void real_made(void *context, const struct cr_engine_answer *answer)
{
    struct real *real = context;
    CHECK_STATUS(answer->status, CR_OK);
    real->tokens[real->made] = *answer->token;
    real->ids[real->made++] = answer->record->id;
    if (real->made == 20)
        cr_loop_uv_stop(real->loop);
}

static void real_answered(void *context, const struct cr_engine_answer *answer)
{
    struct real *real = context;
    real->answered++;
    /* The second step of somebody's errand. */
    if (real->asked < 400) {
        real->asked++;
        cr_engine_data_read(real->engine, &real->ids[real->asked % 20], real_answered, real);
    }
}

static void real_ask(struct real *real, size_t i)
{
    struct cr_end_request end = {.reason = CR_REASON_ADMIN, .by = "test"};
    struct cr_create_request create = {.policy = CR_POLICY_KEEP, .user = party_user((int)(i % 5))};
    const struct cr_token *token = &real->tokens[i % 20];
    const struct cr_session_id *id = &real->ids[i % 20];
    real->asked++;
    switch (i % 6) {
    case 0:
        cr_engine_validate(real->engine, token, true, real_answered, real);
        break;
    case 1:
        cr_engine_rotate(real->engine, token, CR_ROTATE_RENEW, real_answered, real);
        break;
    case 2:
        cr_engine_create_session(real->engine, &create, real_answered, real);
        break;
    case 3:
        cr_engine_data_write(real->engine, id, CR_VERSION_ANY, "x", 1, real_answered, real);
        break;
    case 4:
        cr_engine_end(real->engine, id, &end, real_answered, real);
        break;
    case 5:
        cr_engine_seen(real->engine, id, UINT64_MAX);
        cr_engine_data_read(real->engine, id, real_answered, real);
        break;
    }
}

static void a_stop_beside_threads_that_are_at_work_answers_every_call_once(void)
{
    for (int round = 0; round < 30; round++) {
        struct real real = {.timer = {.fire = real_pause}};
        struct cr_store_env env;
        struct cr_store *store = NULL;
        struct cr_create_request create = {.policy = CR_POLICY_KEEP, .user = party_user(0)};
        CHECK_STATUS(cr_store_env_system(&env), CR_OK);
        CHECK_STATUS(cr_store_open("memory:", &env, &store, NULL), CR_OK);
        CHECK_STATUS(cr_loop_uv_create(&real.loop), CR_OK);
        struct cr_engine_options options = {.loop = real.loop,
                                            .random = cr_random_system(),
                                            .store = store,
                                            .cache = CR_CACHE_SHARED,
                                            .cache_bytes = CR_TABLE_BYTES_MIN};
        CHECK_STATUS(cr_engine_create(&options, &real.engine, NULL), CR_OK);
        for (int i = 0; i < 20; i++)
            cr_engine_create_session(real.engine, &create, real_made, &real);
        cr_loop_uv_run(real.loop);
        for (size_t i = 0; i < 200; i++)
            real_ask(&real, i);
        real_run(&real, round % 3);
        cr_engine_destroy(real.engine);
        CHECK_UINT(real.answered, real.asked);
        cr_timer_stop(real.loop, &real.timer);
        cr_loop_uv_destroy(real.loop);
    }
}

static const struct tap_test tests[] = {
    TAP_TEST(a_stop_at_any_instant_answers_every_call_once_with_what_became_of_it),
    TAP_TEST(a_stop_tells_the_store_calls_of_the_layers_above),
    TAP_TEST(a_stop_shows_no_limits_that_are_gone),
    TAP_TEST(a_lease_is_free_when_its_holders_engine_has_stopped),
    TAP_TEST(answers_may_come_back_with_anything_also_during_a_stop),
    TAP_TEST(a_stop_beside_threads_that_are_at_work_answers_every_call_once),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
