/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A store that fails, from each call in turn, once or until it is mended, for each thing that an
 * engine does: nothing is told that is not so, nothing is refused that is live, and the engine
 * works again afterwards.
 */
#include "tap.h"

#include <stdio.h>
#include <string.h>

#include "party.h"

struct fault {
    const char *name;
    struct cr_fault_plan plan;
};

static const struct fault faults[] = {
    {"unavailable", {.kind = CR_FAULT_UNAVAILABLE}},
    {"no memory", {.kind = CR_FAULT_UNAVAILABLE, .status = CR_E_NO_MEMORY}},
    {"damage", {.kind = CR_FAULT_UNAVAILABLE, .status = CR_E_CORRUPT}},
    {"full disk", {.kind = CR_FAULT_UNAVAILABLE, .status = CR_E_LIMIT}},
    {"commit lost", {.kind = CR_FAULT_LOST}},
    {"commit not made", {.kind = CR_FAULT_NOT_MADE}},
    {"wrong row", {.kind = CR_FAULT_WRONG}},
};

static void check_recovered(struct party *party)
{
    struct sim *sim = &party->sim;
    struct cr_user user = party_user(PARTY_KINDS);
    struct sim_answer ended = {.sim = sim};
    struct cr_end_request end = {.reason = CR_REASON_ADMIN, .by = "test"};
    sim->hosts[0].plan.kind = CR_FAULT_NONE;
    sim_run(sim, 10000, NULL);
    struct sim_answer login = party_login(sim, 0, &user);
    CHECK_STATUS(login.status, CR_OK);
    CHECK_STATUS(party_validate(sim, 0, &login.token, false).status, CR_OK);
    cr_engine_end_user(sim->hosts[0].engine, &user, &end, sim_answered, &ended);
    sim_run(sim, 20000, &ended.done);
    CHECK_STATUS(ended.status, CR_OK);
    CHECK_STATUS(party_validate(sim, 0, &login.token, false).status, CR_ENDED);
}

/* False: the call was answered before the store's call number `number`. */
static bool fail_from(const struct fault *fault, int kind, uint64_t number, uint64_t count,
                      bool exclusive)
{
    static struct party party;
    char row[96];
    (void)snprintf(row, sizeof row, "%s: %s at call %llu%s", party_kind_name(kind), fault->name,
                   (unsigned long long)number + 1, exclusive ? ", exclusive" : "");
    tap_row(row);
    party_init(&party, exclusive ? 1 : 2, exclusive);
    struct cr_fault_plan *plan = &party.sim.hosts[0].plan;
    *plan = fault->plan;
    plan->after = number;
    plan->count = count;
    party_ask(&party, kind);
    sim_run(&party.sim, 20000, &party.calls[kind].done);
    bool met = plan->calls > number;
    check_recovered(&party);
    party_check(&party, kind, 0);
    sim_fini(&party.sim);
    tap_row(NULL);
    return met;
}

static void fail_everywhere(uint64_t count)
{
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        for (int kind = 0; kind < PARTY_KINDS; kind++)
            for (int exclusive = 0; exclusive < 2; exclusive++)
                for (uint64_t number = 0;
                     fail_from(&faults[i], kind, number, count, exclusive != 0);)
                    number++;
}

static void a_store_that_fails_once_anywhere_makes_no_answer_wrong(void)
{
    fail_everywhere(1);
}

static void a_store_that_fails_from_some_call_on_makes_no_answer_wrong(void)
{
    fail_everywhere(UINT64_MAX);
}

/* False: the call was answered before that many were submitted. */
static bool full_at(int kind, uint64_t number, uint64_t count, bool exclusive)
{
    static struct party party;
    char row[96];
    (void)snprintf(row, sizeof row, "%s: full at %llu%s", party_kind_name(kind),
                   (unsigned long long)number + 1, exclusive ? ", exclusive" : "");
    tap_row(row);
    party_init(&party, exclusive ? 1 : 2, exclusive);
    struct sim_host *host = &party.sim.hosts[0];
    host->submits = 0;
    host->full_from = number;
    host->full_count = count;
    party_ask(&party, kind);
    sim_run(&party.sim, 20000, &party.calls[kind].done);
    bool met = host->submits > number;
    host->full_count = 0;
    check_recovered(&party);
    party_check(&party, kind, 0);
    sim_fini(&party.sim);
    tap_row(NULL);
    return met;
}

static void a_queue_that_is_full_at_any_submission_loses_nothing(void)
{
    static const uint64_t counts[] = {1, 7, 1000};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        for (int kind = 0; kind < PARTY_KINDS; kind++)
            for (int exclusive = 0; exclusive < 2; exclusive++)
                for (uint64_t number = 0; full_at(kind, number, counts[i], exclusive != 0);)
                    number++;
}

/* An ending whose first commit was lost, and made or not made. */
static void lose_commit(struct party *party, enum cr_fault_kind kind)
{
    party_init(party, 2, false);
    party->sim.hosts[0].plan =
        (struct cr_fault_plan){.kind = kind, .count = 1, .commits_only = true};
    party_ask(party, PARTY_END_USER);
    while (party->sim.hosts[0].plan.calls == 0)
        sim_run(&party->sim, 1, NULL);
}

static void an_ending_of_unknown_outcome_is_not_said_to_have_failed_by_what_a_repetition_meets(void)
{
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        for (int made = 0; made < 2; made++) {
            static struct party party;
            tap_row(faults[i].name);
            lose_commit(&party, made ? CR_FAULT_LOST : CR_FAULT_NOT_MADE);
            party.sim.hosts[0].plan = faults[i].plan;
            party.sim.hosts[0].plan.count = 3;
            sim_run(&party.sim, 20000, &party.calls[PARTY_END_USER].done);
            CHECK_STATUS(party.calls[PARTY_END_USER].status, CR_OK);
            party_check(&party, PARTY_END_USER, 1);
            sim_fini(&party.sim);
        }
    tap_row(NULL);
}

static enum cr_status filler_run(struct cr_store *store, struct cr_store_call *call)
{
    return CR_OK;
}

static void filler_done(struct cr_store_call *call)
{
}

static void an_ending_of_unknown_outcome_is_asked_for_again_also_when_the_queue_is_full(void)
{
    static struct party party;
    static struct cr_store_call fillers[8000];
    size_t count = 0;
    lose_commit(&party, CR_FAULT_NOT_MADE);
    party.sim.hosts[0].plan = (struct cr_fault_plan){.kind = CR_FAULT_NONE};
    /* The writer takes one batch and is slow with it; behind it the queue is filled. */
    party.sim.slow = SIM_SECOND;
    memset(fillers, 0, sizeof fillers);
    for (int i = 0; i < 2; i++) {
        while (count < 8000) {
            fillers[count] = (struct cr_store_call){.run = filler_run, .done = filler_done};
            if (!cr_engine_store_write(party.sim.hosts[0].engine, &fillers[count]))
                break;
            count++;
        }
        sim_run(&party.sim, 10, NULL);
    }
    CHECK(count > 1000 && count < 8000);
    sim_run(&party.sim, 1000, NULL);
    CHECK(!party.calls[PARTY_END_USER].done);
    party.sim.slow = 0;
    sim_run(&party.sim, 20000, &party.calls[PARTY_END_USER].done);
    CHECK_STATUS(party.calls[PARTY_END_USER].status, CR_OK);
    party_check(&party, PARTY_END_USER, 1);
    sim_fini(&party.sim);
}

/* A login that upgrades an anonymous session, its commit made and its outcome lost, on a store of
 * one engine: no log is followed there. */
static void an_anonymous_session_that_a_lost_login_ended_is_not_believed_any_more(void)
{
    static struct party party;
    party_init(&party, 1, true);
    const struct cr_token *anonymous = &party.before[PARTY_LOGIN_UPGRADE].token;
    CHECK_STATUS(party_validate(&party.sim, 0, anonymous, false).status, CR_OK);
    party.sim.hosts[0].plan =
        (struct cr_fault_plan){.kind = CR_FAULT_LOST, .count = 1, .commits_only = true};
    party_ask(&party, PARTY_LOGIN_UPGRADE);
    sim_run(&party.sim, 10000, &party.calls[PARTY_LOGIN_UPGRADE].done);
    CHECK_STATUS(party.calls[PARTY_LOGIN_UPGRADE].status, CR_E_UNKNOWN_OUTCOME);
    CHECK_STATUS(party_validate(&party.sim, 0, anonymous, false).status, CR_ENDED);
    sim_fini(&party.sim);
}

static const struct tap_test tests[] = {
    TAP_TEST(a_store_that_fails_once_anywhere_makes_no_answer_wrong),
    TAP_TEST(a_store_that_fails_from_some_call_on_makes_no_answer_wrong),
    TAP_TEST(a_queue_that_is_full_at_any_submission_loses_nothing),
    TAP_TEST(an_ending_of_unknown_outcome_is_not_said_to_have_failed_by_what_a_repetition_meets),
    TAP_TEST(an_ending_of_unknown_outcome_is_asked_for_again_also_when_the_queue_is_full),
    TAP_TEST(an_anonymous_session_that_a_lost_login_ended_is_not_believed_any_more),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
