/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules between engines, with simulated clocks, over one store: what has to wait waits, who is
 * cut off stops answering, who is silent is not waited for longer than the promise says.
 */
#include "tap.h"

#include <stdio.h>
#include <string.h>

#include "sim.h"
#include "wire/message.h"

static struct cr_user user_named(const char *name)
{
    struct cr_user user = {0};
    (void)!cr_user_parse(name, strlen(name), &user);
    return user;
}

/* Log in at `host` and wait for the answer. */
static struct sim_answer log_in(struct sim *sim, size_t host, const char *name,
                                enum cr_policy policy)
{
    struct sim_answer answer = {.sim = sim};
    struct cr_create_request request = {.user = user_named(name), .policy = policy};
    cr_engine_create_session(sim->hosts[host].engine, &request, sim_answered, &answer);
    sim_run(sim, 20000, &answer.done);
    CHECK(answer.done);
    return answer;
}

static enum cr_status validate(struct sim *sim, size_t host, const struct cr_token *token,
                               bool strict)
{
    struct sim_answer answer = {.sim = sim};
    cr_engine_validate(sim->hosts[host].engine, token, strict, sim_answered, &answer);
    sim_run(sim, 5000, &answer.done);
    return answer.done ? answer.status : CR_BUSY;
}

static struct sim_answer end_user(struct sim *sim, size_t host, const char *name, bool async)
{
    struct sim_answer answer = {.sim = sim};
    struct cr_user user = user_named(name);
    struct cr_end_request request = {.reason = CR_REASON_ADMIN, .by = "test", .async = async};
    cr_engine_end_user(sim->hosts[host].engine, &user, &request, sim_answered, &answer);
    sim_run(sim, 20000, &answer.done);
    return answer;
}

static void start_two(struct sim *sim)
{
    sim_init(sim, tap_random(), 2);
    CHECK_STATUS(sim_host_start(sim, 0, CR_CACHE_SHARED), CR_OK);
    CHECK_STATUS(sim_host_start(sim, 1, CR_CACHE_MEMORY), CR_OK);
}

static void a_session_made_on_one_host_is_accepted_on_the_other(void)
{
    struct sim sim;
    start_two(&sim);
    struct sim_answer login = log_in(&sim, 0, "ada", CR_POLICY_KEEP);
    CHECK_STATUS(login.status, CR_OK);
    CHECK_STATUS(validate(&sim, 0, &login.token, false), CR_OK);
    CHECK_STATUS(validate(&sim, 1, &login.token, false), CR_OK);
    CHECK_STATUS(validate(&sim, 1, &login.token, true), CR_OK);
    sim_fini(&sim);
}

static void an_ending_that_answered_done_holds_on_every_host(void)
{
    struct sim sim;
    start_two(&sim);
    struct sim_answer login = log_in(&sim, 0, "ada", CR_POLICY_KEEP);
    CHECK_STATUS(validate(&sim, 1, &login.token, false), CR_OK);
    struct sim_answer ended = end_user(&sim, 0, "ada", false);
    CHECK_STATUS(ended.status, CR_OK);
    CHECK_STATUS(validate(&sim, 0, &login.token, false), CR_ENDED);
    CHECK_STATUS(validate(&sim, 1, &login.token, false), CR_ENDED);
    sim_fini(&sim);
}

static void an_ending_waits_for_a_host_that_still_believes(void)
{
    struct sim sim;
    start_two(&sim);
    struct sim_answer login = log_in(&sim, 0, "ada", CR_POLICY_KEEP);
    CHECK_STATUS(validate(&sim, 1, &login.token, false), CR_OK);
    sim.hosts[1].paused = true;
    cr_boot_ns began = sim.now;
    struct sim_answer ended = end_user(&sim, 0, "ada", false);
    CHECK_STATUS(ended.status, CR_OK);
    /* Not before the other's lease of 5 s had run out, and within 1.22 leases and two polls, on
     * clocks that differ by less than 10 %. */
    cr_span_ms took = cr_boot_between(began, ended.at);
    CHECK(took >= 3900);
    CHECK(took <= 6100 * 11 / 10 + 500);
    /* It wakes up with its lease over: its table says nothing, and it asks the store. */
    sim.hosts[1].paused = false;
    CHECK(validate(&sim, 1, &login.token, false) != CR_OK);
    sim_run(&sim, 3000, NULL);
    CHECK_STATUS(validate(&sim, 1, &login.token, false), CR_ENDED);
    sim_fini(&sim);
}

/* For how long it has been silent counts from its last beat, not from when it had last something to
 * acknowledge. */
static void a_host_that_had_nothing_to_acknowledge_for_long_is_waited_for(void)
{
    struct sim sim;
    start_two(&sim);
    CHECK_STATUS(log_in(&sim, 0, "ada", CR_POLICY_KEEP).status, CR_OK);
    CHECK_STATUS(end_user(&sim, 0, "ada", false).status, CR_OK);
    sim_run(&sim, 20000, NULL);
    struct sim_answer login = log_in(&sim, 1, "bob", CR_POLICY_KEEP);
    CHECK_STATUS(validate(&sim, 1, &login.token, false), CR_OK);
    sim.hosts[1].paused = true;
    cr_boot_ns began = sim.now;
    struct sim_answer ended = end_user(&sim, 0, "bob", false);
    CHECK_STATUS(ended.status, CR_OK);
    CHECK(cr_boot_between(began, ended.at) >= 3900);
    sim_fini(&sim);
}

static void async_answers_pending_with_the_bound(void)
{
    struct sim sim;
    start_two(&sim);
    struct sim_answer login = log_in(&sim, 0, "ada", CR_POLICY_KEEP);
    CHECK_STATUS(validate(&sim, 1, &login.token, false), CR_OK);
    sim.hosts[1].plan = (struct cr_fault_plan){.kind = CR_FAULT_UNAVAILABLE, .count = UINT64_MAX};
    struct sim_answer ended = end_user(&sim, 0, "ada", true);
    CHECK_STATUS(ended.status, CR_PENDING);
    CHECK(ended.bound >= 6100);
    sim_run(&sim, ended.bound, NULL);
    CHECK(validate(&sim, 1, &login.token, false) != CR_OK);
    sim_fini(&sim);
}

static void a_host_cut_off_from_the_store_stops_answering_after_its_lease(void)
{
    static const enum cr_cache caches[] = {CR_CACHE_NONE, CR_CACHE_MEMORY, CR_CACHE_SHARED};
    for (size_t i = 0; i < 3; i++) {
        struct sim sim;
        sim_init(&sim, tap_random(), 1);
        CHECK_STATUS(sim_host_start(&sim, 0, caches[i]), CR_OK);
        struct sim_answer login = log_in(&sim, 0, "ada", CR_POLICY_KEEP);
        CHECK_STATUS(validate(&sim, 0, &login.token, false), CR_OK);
        sim.hosts[0].plan =
            (struct cr_fault_plan){.kind = CR_FAULT_UNAVAILABLE, .count = UINT64_MAX};
        sim_run(&sim, 5600, NULL);
        /* D13: never "not logged in". */
        CHECK_STATUS(validate(&sim, 0, &login.token, false), CR_UNAVAILABLE);
        CHECK_STATUS(validate(&sim, 0, &login.token, true), CR_UNAVAILABLE);
        sim.hosts[0].plan.kind = CR_FAULT_NONE;
        sim_run(&sim, 2500, NULL);
        CHECK_STATUS(validate(&sim, 0, &login.token, false), CR_OK);
        sim_fini(&sim);
    }
}

static void a_killed_host_delays_endings_by_its_lease_once(void)
{
    struct sim sim;
    start_two(&sim);
    struct sim_answer login = log_in(&sim, 0, "ada", CR_POLICY_KEEP);
    sim_host_kill(&sim, 1);
    struct sim_answer first = end_user(&sim, 0, "ada", false);
    CHECK_STATUS(first.status, CR_OK);
    cr_boot_ns began = sim.now;
    struct sim_answer second = end_user(&sim, 0, "ada", false);
    CHECK_STATUS(second.status, CR_OK);
    CHECK(cr_boot_between(began, second.at) < 500);
    CHECK_STATUS(validate(&sim, 0, &login.token, false), CR_ENDED);
    sim_fini(&sim);
}

static void an_engine_that_registers_anew_has_the_same_label(void)
{
    struct sim sim;
    struct cr_engine_row rows[SIM_HOSTS_MAX];
    size_t count = 0;
    start_two(&sim);
    log_in(&sim, 0, "ada", CR_POLICY_KEEP);
    sim.hosts[1].paused = true;
    CHECK_STATUS(end_user(&sim, 0, "ada", false).status, CR_OK); /* it was taken out */
    sim.hosts[1].paused = false;
    sim_run(&sim, 3000, NULL);
    CHECK_STATUS(cr_store_engine_list(sim.keeper, rows, SIM_HOSTS_MAX, &count), CR_OK);
    CHECK_UINT(count, 2);
    for (size_t i = 0; i < count; i++)
        CHECK_STR(rows[i].label, "sim");
    sim_fini(&sim);
}

static void a_clean_stop_is_not_waited_for(void)
{
    struct sim sim;
    start_two(&sim);
    log_in(&sim, 0, "ada", CR_POLICY_KEEP);
    sim_host_stop(&sim, 1);
    cr_boot_ns began = sim.now;
    struct sim_answer ended = end_user(&sim, 0, "ada", false);
    CHECK_STATUS(ended.status, CR_OK);
    CHECK(cr_boot_between(began, ended.at) < 500);
    sim_fini(&sim);
}

static void a_login_that_replaces_has_ended_the_others_everywhere_when_it_answers(void)
{
    struct sim sim;
    start_two(&sim);
    struct sim_answer phone = log_in(&sim, 0, "ada", CR_POLICY_REPLACE);
    CHECK_STATUS(validate(&sim, 0, &phone.token, false), CR_OK);
    CHECK_STATUS(validate(&sim, 1, &phone.token, false), CR_OK);
    struct sim_answer laptop = log_in(&sim, 1, "ada", CR_POLICY_REPLACE);
    CHECK_STATUS(laptop.status, CR_OK);
    CHECK_STATUS(validate(&sim, 0, &phone.token, false), CR_ENDED);
    CHECK_STATUS(validate(&sim, 1, &phone.token, false), CR_ENDED);
    CHECK_STATUS(validate(&sim, 0, &laptop.token, false), CR_OK);

    struct sim_answer why = {.sim = &sim};
    cr_engine_explain(sim.hosts[0].engine, &phone.id, sim_answered, &why);
    sim_run(&sim, 1000, &why.done);
    CHECK_STATUS(why.status, CR_OK);
    CHECK(!why.live);
    CHECK_STR(cr_reason_name(why.reason), cr_reason_name(CR_REASON_REPLACED));
    sim_fini(&sim);
}

static void an_ending_whose_commit_was_lost_is_asked_for_again_until_known(void)
{
    static const enum cr_fault_kind kinds[] = {CR_FAULT_LOST, CR_FAULT_NOT_MADE};
    for (size_t i = 0; i < 2; i++) {
        struct sim sim;
        start_two(&sim);
        struct sim_answer login = log_in(&sim, 0, "ada", CR_POLICY_KEEP);
        CHECK_STATUS(validate(&sim, 0, &login.token, false), CR_OK);
        sim.hosts[0].plan =
            (struct cr_fault_plan){.kind = kinds[i], .count = 2, .commits_only = true};
        struct sim_answer ended = end_user(&sim, 0, "ada", false);
        CHECK_STATUS(ended.status, CR_OK);
        CHECK(validate(&sim, 0, &login.token, false) != CR_OK);
        /* A poll's outcome may have been lost, too, and with it this host's registration. */
        sim_run(&sim, 3000, NULL);
        CHECK_STATUS(validate(&sim, 0, &login.token, false), CR_ENDED);
        CHECK_STATUS(validate(&sim, 1, &login.token, false), CR_ENDED);
        sim_fini(&sim);
    }
}

static void an_ending_whose_outcome_stays_unknown_says_so_and_can_be_repeated(void)
{
    struct sim sim;
    start_two(&sim);
    struct sim_answer login = log_in(&sim, 0, "ada", CR_POLICY_KEEP);
    sim.hosts[0].plan =
        (struct cr_fault_plan){.kind = CR_FAULT_LOST, .count = UINT64_MAX, .commits_only = true};
    struct sim_answer ended = end_user(&sim, 0, "ada", false);
    CHECK_STATUS(ended.status, CR_E_UNKNOWN_OUTCOME);
    sim.hosts[0].plan.kind = CR_FAULT_NONE;
    sim_run(&sim, 3000, NULL);

    struct sim_answer again = {.sim = &sim};
    struct cr_user user = user_named("ada");
    struct cr_end_request request = {.identity = ended.ending, .reason = CR_REASON_ADMIN};
    cr_engine_end_user(sim.hosts[0].engine, &user, &request, sim_answered, &again);
    sim_run(&sim, 20000, &again.done);
    CHECK_STATUS(again.status, CR_OK);
    CHECK_STATUS(validate(&sim, 0, &login.token, false), CR_ENDED);
    sim_fini(&sim);
}

static void an_unknown_user_is_never_done(void)
{
    struct sim sim;
    start_two(&sim);
    CHECK_STATUS(end_user(&sim, 0, "nobody", false).status, CR_UNKNOWN_USER);
    sim_fini(&sim);
}

static void a_session_ended_while_the_cache_was_off_is_not_accepted_when_it_is_on_again(void)
{
    struct sim sim;
    start_two(&sim);
    struct sim_answer login = log_in(&sim, 0, "ada", CR_POLICY_KEEP);
    CHECK_STATUS(validate(&sim, 0, &login.token, false), CR_OK);
    CHECK_STATUS(
        cr_engine_set_cache(sim.hosts[0].engine, CR_CACHE_NONE, CR_TABLE_BYTES_MIN, CR_HUGE_AUTO),
        CR_OK);
    CHECK_STATUS(validate(&sim, 0, &login.token, false), CR_OK);
    /* A read that began while the cache was off may not fill the new table. */
    struct sim_answer late = {.sim = &sim};
    cr_engine_validate(sim.hosts[0].engine, &login.token, false, sim_answered, &late);
    CHECK_STATUS(end_user(&sim, 1, "ada", false).status, CR_OK);
    CHECK_STATUS(
        cr_engine_set_cache(sim.hosts[0].engine, CR_CACHE_MEMORY, CR_TABLE_BYTES_MIN, CR_HUGE_AUTO),
        CR_OK);
    CHECK_STATUS(validate(&sim, 0, &login.token, false), CR_ENDED);
    CHECK(late.done);
    sim_fini(&sim);
}

/* A fill that was asked for under the old table's clock is then refused: rule 1's floors start
 * there. */
static void a_table_that_replaces_another_goes_on_with_its_clock(void)
{
    struct sim sim;
    start_two(&sim);
    struct cr_engine *engine = sim.hosts[0].engine;
    log_in(&sim, 0, "ada", CR_POLICY_KEEP);
    for (int i = 0; i < 5; i++)
        CHECK_STATUS(end_user(&sim, 0, "ada", false).status, CR_OK);
    uint64_t before = cr_engine_table_clock(engine);
    CHECK_STATUS(cr_engine_set_cache(engine, CR_CACHE_MEMORY, 2 * CR_TABLE_BYTES_MIN, CR_HUGE_AUTO),
                 CR_OK);
    CHECK(before > 5 && cr_engine_table_clock(engine) > before);
    sim_fini(&sim);
}

static void a_wrong_row_from_the_store_is_never_served(void)
{
    struct sim sim;
    start_two(&sim);
    struct sim_answer ada = log_in(&sim, 0, "ada", CR_POLICY_REPLACE);
    log_in(&sim, 0, "bob", CR_POLICY_REPLACE);
    sim.hosts[0].plan =
        (struct cr_fault_plan){.kind = CR_FAULT_WRONG, .count = 1, .reads_only = true};
    CHECK_STATUS(validate(&sim, 0, &ada.token, true), CR_UNAVAILABLE);
    CHECK_STATUS(validate(&sim, 0, &ada.token, true), CR_OK);
    sim_fini(&sim);
}

static void a_busy_session_never_ends_for_idleness(void)
{
    struct sim sim;
    start_two(&sim);
    struct sim_answer login = log_in(&sim, 0, "ada", CR_POLICY_KEEP);
    /* C2: idle is 600 s; used once a granule, on one host or the other, for a quarter of an hour.
     */
    for (int i = 0; i < 30; i++) {
        sim_run(&sim, 31000, NULL);
        if (!CHECK_STATUS(validate(&sim, i % 2 == 0 ? 0 : 1, &login.token, false), CR_OK))
            break;
    }
    /* Nor used now and then, by hits. */
    for (int i = 0; i < 3; i++) {
        sim_run(&sim, 400000, NULL);
        CHECK_STATUS(validate(&sim, 1, &login.token, false), CR_OK);
    }
    sim_run(&sim, 600000 + CR_SEEN_SLACK(600000) + 2000, NULL);
    CHECK_STATUS(validate(&sim, 0, &login.token, false), CR_ENDED);
    CHECK_STATUS(validate(&sim, 1, &login.token, false), CR_ENDED);
    sim_fini(&sim);
}

/* A host that took the session in from the store counts its idle time from the last use, too. */
static void idleness_ends_a_session_on_a_host_that_did_not_make_it(void)
{
    struct sim sim;
    start_two(&sim);
    struct sim_answer login = log_in(&sim, 0, "ada", CR_POLICY_KEEP);
    CHECK_STATUS(validate(&sim, 1, &login.token, false), CR_OK);
    sim_run(&sim, 660000 + CR_SEEN_SLACK(600000) + 2000, NULL); /* clocks may run a tenth apart */
    CHECK_STATUS(validate(&sim, 1, &login.token, false), CR_ENDED);
    sim_fini(&sim);
}

static void touching_for_ever_does_not_move_the_absolute_end(void)
{
    struct sim sim; /* C3 */
    start_two(&sim);
    struct sim_answer login = log_in(&sim, 0, "ada", CR_POLICY_KEEP);
    bool ended = false;
    for (int i = 0; i < 14 && !ended; i++) {
        sim_run(&sim, 300000, NULL);
        ended = validate(&sim, 0, &login.token, false) == CR_ENDED;
    }
    CHECK(ended);
    sim_fini(&sim);
}

/* Nor does a host that took the session in shortly before accept it past its end. */
static void the_absolute_end_holds_on_a_host_that_took_the_session_in_late(void)
{
    struct sim sim; /* C3: the end is after 3600 s */
    start_two(&sim);
    struct sim_answer login = log_in(&sim, 0, "ada", CR_POLICY_KEEP);
    for (int i = 0; i < 11; i++) {
        sim_run(&sim, 300000, NULL);
        CHECK_STATUS(validate(&sim, 0, &login.token, false), CR_OK);
    }
    CHECK_STATUS(validate(&sim, 1, &login.token, false), CR_OK);
    sim_run(&sim, 330000 + 1000, NULL); /* clocks may run a tenth apart */
    CHECK_STATUS(validate(&sim, 1, &login.token, false), CR_ENDED);
    sim_fini(&sim);
}

static void a_renewal_that_races_gives_one_successor(void)
{
    struct sim sim;
    start_two(&sim);
    struct sim_answer login = log_in(&sim, 0, "ada", CR_POLICY_KEEP);
    struct sim_answer a = {.sim = &sim}, b = {.sim = &sim}, c = {.sim = &sim};
    cr_engine_rotate(sim.hosts[0].engine, &login.token, CR_ROTATE_RENEW, sim_answered, &a);
    cr_engine_rotate(sim.hosts[1].engine, &login.token, CR_ROTATE_RENEW, sim_answered, &b);
    cr_engine_rotate(sim.hosts[0].engine, &login.token, CR_ROTATE_RENEW, sim_answered, &c);
    sim_run(&sim, 3000, NULL);
    CHECK_STATUS(a.status, CR_OK);
    CHECK_STATUS(b.status, CR_OK);
    CHECK_STATUS(c.status, CR_OK);
    CHECK_STR(a.token.text, b.token.text);
    CHECK_STR(a.token.text, c.token.text);
    CHECK(strcmp(a.token.text, login.token.text) != 0);
    CHECK_STATUS(validate(&sim, 1, &login.token, false), CR_OK); /* the grace */
    CHECK_STATUS(validate(&sim, 1, &a.token, false), CR_OK);
    sim_run(&sim, 15000, NULL);
    CHECK_STATUS(validate(&sim, 1, &login.token, false), CR_ENDED);
    CHECK_STATUS(validate(&sim, 0, &a.token, false), CR_OK);
    sim_fini(&sim);
}

static void a_change_of_privilege_leaves_the_old_token_no_grace_anywhere(void)
{
    struct sim sim; /* A5 */
    start_two(&sim);
    struct sim_answer login = log_in(&sim, 0, "ada", CR_POLICY_KEEP);
    CHECK_STATUS(validate(&sim, 1, &login.token, false), CR_OK);
    struct sim_answer rotated = {.sim = &sim};
    cr_engine_rotate(sim.hosts[0].engine, &login.token, CR_ROTATE_PRIVILEGE, sim_answered,
                     &rotated);
    sim_run(&sim, 10000, &rotated.done);
    CHECK_STATUS(rotated.status, CR_OK);
    CHECK_STATUS(validate(&sim, 1, &login.token, false), CR_ENDED);
    CHECK_STATUS(validate(&sim, 0, &login.token, false), CR_ENDED);
    CHECK_STATUS(validate(&sim, 1, &rotated.token, false), CR_OK);
    sim_fini(&sim);
}

static void a_late_write_never_revives_an_ended_session(void)
{
    struct sim sim; /* D10 */
    start_two(&sim);
    struct sim_answer login = log_in(&sim, 0, "ada", CR_POLICY_KEEP);
    struct sim_answer write = {.sim = &sim};
    CHECK_STATUS(end_user(&sim, 0, "ada", false).status, CR_OK);
    cr_engine_seen(sim.hosts[1].engine, &login.id, UINT64_MAX);
    cr_engine_data_write(sim.hosts[1].engine, &login.id, CR_VERSION_ANY, "late", 4, sim_answered,
                         &write);
    sim_run(&sim, 3000, NULL);
    CHECK_STATUS(write.status, CR_ENDED);
    CHECK_STATUS(validate(&sim, 0, &login.token, false), CR_ENDED);
    CHECK_STATUS(validate(&sim, 1, &login.token, true), CR_ENDED);
    sim_fini(&sim);
}

static void made_up_tokens_cost_the_store_nothing(void)
{
    struct sim sim; /* A4 */
    start_two(&sim);
    struct sim_answer login = log_in(&sim, 0, "ada", CR_POLICY_KEEP);
    struct cr_stats before = {0}, after = {0};
    cr_engine_stats(sim.hosts[0].engine, &before);
    for (int i = 0; i < 1000; i++) {
        struct cr_token forged = login.token;
        forged.text[5 + 28 + i % 52] ^= 1 + (char)(i / 52 % 2);
        enum cr_status st = validate(&sim, 0, &forged, false);
        if (!CHECK_STATUS(st, CR_NOT_FOUND))
            break;
    }
    cr_engine_stats(sim.hosts[0].engine, &after);
    CHECK_UINT(after.store_reads, before.store_reads);
    CHECK_UINT(after.table_sessions, before.table_sessions);
    sim_fini(&sim);
}

/* ---- what ended */

struct past {
    bool done;
    enum cr_status status;
    size_t count;
    struct cr_past_session told[CR_PAST_MAX];
};

static void past_told(void *context, const struct cr_engine_answer *answer)
{
    struct past *past = context;
    past->done = true;
    past->status = answer->status;
    past->count = answer->past_count;
    if (CHECK(answer->past_count <= CR_PAST_MAX) && answer->past_count > 0)
        memcpy(past->told, answer->past, answer->past_count * sizeof past->told[0]);
}

static size_t past_of(struct sim *sim, size_t host, const char *name, struct past *out)
{
    struct cr_user user = user_named(name);
    *out = (struct past){0};
    cr_engine_past(sim->hosts[host].engine, &user, false, past_told, out);
    sim_run(sim, 5000, &out->done);
    CHECK_STATUS(out->status, CR_OK);
    return out->count;
}

static struct sim_answer log_in_from(struct sim *sim, const char *name, enum cr_policy policy,
                                     const char *address)
{
    struct sim_answer answer = {.sim = sim};
    struct cr_create_request request = {.user = user_named(name),
                                        .policy = policy,
                                        .keep_count = 2,
                                        .address = address,
                                        .agent = "a browser"};
    cr_engine_create_session(sim->hosts[0].engine, &request, sim_answered, &answer);
    sim_run(sim, 20000, &answer.done);
    CHECK_STATUS(answer.status, CR_OK);
    sim_run(sim, 1000, NULL); /* so that no two begin or end at one time */
    return answer;
}

static void end_one(struct sim *sim, const struct cr_session_id *id)
{
    struct sim_answer answer = {.sim = sim};
    struct cr_end_request request = {.reason = CR_REASON_LOGOUT, .by = "the user"};
    cr_engine_end(sim->hosts[0].engine, id, &request, sim_answered, &answer);
    sim_run(sim, 20000, &answer.done);
    CHECK_STATUS(answer.status, CR_OK);
    sim_run(sim, 1000, NULL);
}

/* Each way for a session to end, in the order of the ends, from any host. */
static void what_ended_is_told_with_how_the_last_first(void)
{
    struct sim sim;
    struct past past;
    start_two(&sim);
    CHECK_UINT(past_of(&sim, 0, "ada", &past), 0);
    struct sim_answer idle = log_in_from(&sim, "ada", CR_POLICY_KEEP, "192.0.2.1");
    sim_run(&sim, 660000 + CR_SEEN_SLACK(600000) + 2000, NULL);
    struct sim_answer one = log_in_from(&sim, "ada", CR_POLICY_KEEP, "192.0.2.2");
    struct sim_answer two = log_in_from(&sim, "ada", CR_POLICY_KEEP, "192.0.2.3");
    CHECK_UINT(past_of(&sim, 0, "ada", &past), 1);
    struct sim_answer three = log_in_from(&sim, "ada", CR_POLICY_KEEP_N, "192.0.2.4");
    end_one(&sim, &three.id);
    struct sim_answer four = log_in_from(&sim, "ada", CR_POLICY_REPLACE, "192.0.2.5");
    CHECK_STATUS(end_user(&sim, 1, "ada", false).status, CR_OK);
    struct sim_answer live = log_in_from(&sim, "ada", CR_POLICY_KEEP, "192.0.2.6");
    const struct {
        const struct sim_answer *session;
        enum cr_reason reason;
        const char *where, *from;
    } rows[] = {
        {&four, CR_REASON_ADMIN, "192.0.2.5", ""},
        {&two, CR_REASON_REPLACED, "192.0.2.3", "192.0.2.5"},
        {&three, CR_REASON_LOGOUT, "192.0.2.4", ""},
        {&one, CR_REASON_LIMIT, "192.0.2.2", "192.0.2.4"},
        {&idle, CR_REASON_IDLE, "192.0.2.1", ""},
    };
    for (size_t host = 0; host < 2; host++) {
        if (!CHECK_UINT(past_of(&sim, host, "ada", &past), 5))
            break;
        for (size_t i = 0; i < 5; i++) {
            const struct cr_past_session *told = &past.told[i];
            tap_row(rows[i].where);
            CHECK(cr_session_id_equal(&told->id, &rows[i].session->id));
            CHECK(!told->ended.live);
            CHECK_STR(cr_reason_name(told->ended.reason), cr_reason_name(rows[i].reason));
            CHECK_STR(told->where.address, rows[i].where);
            CHECK_STR(told->where.agent, "a browser");
            CHECK_STR(told->ended.from.address, rows[i].from);
            CHECK(told->ended.created_at > 0 && told->ended.at > told->ended.created_at);
            CHECK(i == 0 || told->ended.at < past.told[i - 1].ended.at);
        }
    }
    CHECK_STATUS(validate(&sim, 0, &live.token, false), CR_OK);
    sim_fini(&sim);
}

/* A log-in that replaces leaves one dead row, each time; and one log-out a row of the log. */
static void of_many_that_ended_the_last_twenty_are_told(void)
{
    struct sim sim;
    struct past past;
    struct cr_session_id ids[70], out;
    sim_init(&sim, tap_random(), 1);
    CHECK_STATUS(sim_host_start(&sim, 0, CR_CACHE_MEMORY), CR_OK);
    for (size_t i = 0; i < 70; i++) {
        ids[i] = log_in_from(&sim, "ada", CR_POLICY_REPLACE, "192.0.2.1").id;
        if (i == 60) {
            out = log_in_from(&sim, "ada", CR_POLICY_KEEP, "192.0.2.2").id;
            end_one(&sim, &out);
        }
    }
    if (CHECK_UINT(past_of(&sim, 0, "ada", &past), CR_PAST_MAX)) {
        /* 68 to 60, which outlived the log-out, it, and 59 downwards. */
        for (size_t i = 0; i < 9; i++)
            CHECK(cr_session_id_equal(&past.told[i].id, &ids[68 - i]));
        CHECK(cr_session_id_equal(&past.told[9].id, &out));
        for (size_t i = 10; i < CR_PAST_MAX; i++)
            CHECK(cr_session_id_equal(&past.told[i].id, &ids[69 - i]));
    }
    sim_fini(&sim);
}

static void what_ended_is_told_for_seven_days(void)
{
    struct sim sim;
    struct past past;
    sim_init(&sim, tap_random(), 1);
    CHECK_STATUS(sim_host_start(&sim, 0, CR_CACHE_MEMORY), CR_OK);
    struct sim_answer one = log_in_from(&sim, "ada", CR_POLICY_KEEP, "192.0.2.1");
    log_in_from(&sim, "ada", CR_POLICY_KEEP, "192.0.2.2"); /* idle after ten minutes */
    end_one(&sim, &one.id);
    log_in_from(&sim, "ben", CR_POLICY_KEEP, "192.0.2.3");
    CHECK_STATUS(end_user(&sim, 0, "ben", false).status, CR_OK);
    sim.store_clock.now_wall += CR_REMEMBER_MS - 10000;
    CHECK_UINT(past_of(&sim, 0, "ada", &past), 2);
    CHECK_UINT(past_of(&sim, 0, "ben", &past), 1);
    /* Whatever the sweeper has done by now. */
    sim.store_clock.now_wall += 11000;
    CHECK_UINT(past_of(&sim, 0, "ada", &past), 1);
    CHECK_UINT(past_of(&sim, 0, "ben", &past), 0);
    sim.store_clock.now_wall += 600000;
    CHECK_UINT(past_of(&sim, 0, "ada", &past), 0);
    sim_fini(&sim);
}

/* Not the half of it: whichever of the store's calls fails. */
static void what_cannot_be_told_whole_is_not_told(void)
{
    struct sim sim;
    struct past past;
    struct cr_user user = user_named("ada");
    sim_init(&sim, tap_random(), 1);
    CHECK_STATUS(sim_host_start(&sim, 0, CR_CACHE_MEMORY), CR_OK);
    for (size_t i = 0; i < 3; i++)
        log_in_from(&sim, "ada", CR_POLICY_REPLACE, "192.0.2.1");
    CHECK_UINT(past_of(&sim, 0, "ada", &past), 2);
    bool failed = true;
    for (uint64_t after = 0; failed; after++) {
        sim.hosts[0].plan = (struct cr_fault_plan){
            .kind = CR_FAULT_UNAVAILABLE, .after = after, .count = 1, .reads_only = true};
        past = (struct past){0};
        cr_engine_past(sim.hosts[0].engine, &user, false, past_told, &past);
        sim_run(&sim, 400, &past.done);
        failed = past.status != CR_OK;
        CHECK(past.done);
        if (failed)
            CHECK_STATUS(past.status, CR_UNAVAILABLE);
        CHECK_UINT(past.count, failed ? 0 : 2);
        if (!CHECK(after < 20))
            break;
        CHECK(!failed || after < 4);
    }
    sim_fini(&sim);
}

static void the_first_ending_over_an_own_table_waits_for_a_predecessors_segment(void)
{
    struct sim sim;
    sim_init(&sim, tap_random(), 1);
    CHECK_STATUS(sim_host_start_bare(&sim, 0, CR_CACHE_SHARED), CR_OK);
    cr_boot_ns began = sim.now;
    CHECK_STATUS(end_user(&sim, 0, "ada", false).status, CR_OK);
    /* 1.22 s on its own clock, which may be 5 % off. */
    CHECK(cr_boot_between(began, sim.now) >= 1150);
    began = sim.now;
    CHECK_STATUS(end_user(&sim, 0, "ada", false).status, CR_OK);
    CHECK(cr_boot_between(began, sim.now) < 100);
    sim_fini(&sim);
}

static void past_its_lease_a_host_says_neither_yes_nor_no(void)
{
    struct sim sim; /* D13: also of what the store says is over, which may be a deposed one */
    start_two(&sim);
    struct sim_answer live = log_in(&sim, 0, "ada", CR_POLICY_KEEP);
    struct sim_answer one = log_in(&sim, 0, "bob", CR_POLICY_KEEP);
    struct sim_answer all = log_in(&sim, 0, "cy", CR_POLICY_KEEP);
    struct cr_end_request request = {.reason = CR_REASON_ADMIN, .by = "test"};
    struct sim_answer ended = {.sim = &sim};
    cr_engine_end(sim.hosts[0].engine, &one.id, &request, sim_answered, &ended);
    sim_run(&sim, 10000, &ended.done);
    CHECK_STATUS(ended.status, CR_OK);
    CHECK_STATUS(end_user(&sim, 0, "cy", false).status, CR_OK);
    /* Host 1 can read, but nothing that it writes is kept: so its polls fail. */
    sim.hosts[1].plan = (struct cr_fault_plan){
        .kind = CR_FAULT_UNAVAILABLE, .count = UINT64_MAX, .commits_only = true};
    sim_run(&sim, 5600, NULL);
    const struct cr_token *tokens[] = {&live.token, &one.token, &all.token};
    const struct cr_session_id *ids[] = {&live.id, &one.id, &all.id};
    for (size_t i = 0; i < 3; i++) {
        struct sim_answer read = {.sim = &sim}, rotated = {.sim = &sim};
        CHECK_STATUS(validate(&sim, 1, tokens[i], false), CR_UNAVAILABLE);
        CHECK_STATUS(validate(&sim, 1, tokens[i], true), CR_UNAVAILABLE);
        cr_engine_data_read(sim.hosts[1].engine, ids[i], sim_answered, &read);
        cr_engine_rotate(sim.hosts[1].engine, tokens[i], CR_ROTATE_RENEW, sim_answered, &rotated);
        sim_run(&sim, 1000, NULL);
        CHECK_STATUS(read.status, CR_UNAVAILABLE);
        CHECK_STATUS(rotated.status, CR_UNAVAILABLE);
    }
    sim_fini(&sim);
}

static void a_reply_that_comes_past_the_lease_is_neither_yes_nor_no(void)
{
    struct sim sim;
    start_two(&sim);
    struct sim_answer ada = log_in(&sim, 0, "ada", CR_POLICY_KEEP);
    struct sim_answer bob = log_in(&sim, 0, "bob", CR_POLICY_KEEP);
    CHECK_STATUS(end_user(&sim, 0, "bob", false).status, CR_OK);
    sim.hosts[1].plan = (struct cr_fault_plan){
        .kind = CR_FAULT_UNAVAILABLE, .count = UINT64_MAX, .commits_only = true};
    sim_run(&sim, 2000, NULL);
    struct sim_answer live = {.sim = &sim}, over = {.sim = &sim};
    sim.slow = 4 * SIM_SECOND; /* the two requests alone */
    cr_engine_validate(sim.hosts[1].engine, &ada.token, false, sim_answered, &live);
    cr_engine_validate(sim.hosts[1].engine, &bob.token, false, sim_answered, &over);
    sim.slow = 0;
    CHECK(!live.done && !over.done); /* the store is asked: the lease is not over yet */
    sim_run(&sim, 5000, NULL);
    CHECK_STATUS(live.status, CR_UNAVAILABLE);
    CHECK_STATUS(over.status, CR_UNAVAILABLE);
    sim_fini(&sim);
}

/* A primary that was deposed goes on saying what it said last. */
static struct cr_store_ops deposed_ops;
static enum cr_status (*primary_find)(struct cr_store *, const struct cr_session_id *,
                                      struct cr_record *);
static struct cr_record said_last;
static bool is_deposed;

static enum cr_status deposed_find(struct cr_store *store, const struct cr_session_id *id,
                                   struct cr_record *out)
{
    if (is_deposed && cr_session_id_equal(&said_last.id, id)) {
        *out = said_last;
        return CR_OK;
    }
    enum cr_status st = primary_find(store, id, out);
    if (st == CR_OK && !is_deposed && CHECK(out->data == NULL))
        said_last = *out;
    return st;
}

static void store_can_be_deposed(struct cr_store *store)
{
    deposed_ops = *store->ops;
    primary_find = deposed_ops.find;
    deposed_ops.find = deposed_find;
    store->ops = &deposed_ops;
    is_deposed = false;
    said_last = (struct cr_record){0};
}

/* A store from outside, whose times are what they like. */
static struct cr_store_ops mad_ops;
static enum cr_status (*sane_find)(struct cr_store *, const struct cr_session_id *,
                                   struct cr_record *);
static int64_t mad_time;

static enum cr_status mad_find(struct cr_store *store, const struct cr_session_id *id,
                               struct cr_record *out)
{
    enum cr_status st = sane_find(store, id, out);
    out->seen_at = out->ends_at = out->created_at = mad_time;
    out->idle_left = out->absolute_left = mad_time;
    return st;
}

static void store_can_go_mad(struct cr_store *store)
{
    mad_ops = *store->ops;
    sane_find = mad_ops.find;
    mad_ops.find = mad_find;
    store->ops = &mad_ops;
}

/* No sum overflows, which the sanitizer would see; what its host answers is as mad as the store. */
static void times_at_their_ends_are_borne(void)
{
    static const int64_t times[] = {INT64_MIN, INT64_MIN + 1, -1, 0, INT64_MAX - 1, INT64_MAX};
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        struct sim sim;
        sim_init(&sim, tap_random(), 2);
        sim.hosts[1].store_opened = store_can_go_mad;
        mad_time = times[i];
        CHECK_STATUS(sim_host_start(&sim, 0, CR_CACHE_SHARED), CR_OK);
        CHECK_STATUS(sim_host_start(&sim, 1, CR_CACHE_SHARED), CR_OK);
        struct sim_answer login = log_in(&sim, 0, "ada", CR_POLICY_KEEP);
        (void)validate(&sim, 1, &login.token, false);
        CHECK_STATUS(validate(&sim, 0, &login.token, false), CR_OK);
        sim_fini(&sim);
    }
}

static void what_is_asked_past_the_lease_is_not_answered_by_the_next_one(void)
{
    struct sim sim;
    sim_init(&sim, tap_random(), 2);
    sim.hosts[1].store_opened = store_can_be_deposed;
    CHECK_STATUS(sim_host_start(&sim, 0, CR_CACHE_SHARED), CR_OK);
    CHECK_STATUS(sim_host_start(&sim, 1, CR_CACHE_MEMORY), CR_OK);
    struct sim_answer ada = log_in(&sim, 0, "ada", CR_POLICY_KEEP);
    struct sim_answer bob = log_in(&sim, 0, "bob", CR_POLICY_KEEP);
    CHECK_STATUS(validate(&sim, 1, &ada.token, false), CR_OK);
    /* Host 1 is left with a deposed primary. The ending does not wait longer than its lease. */
    is_deposed = true;
    sim.hosts[1].plan = (struct cr_fault_plan){
        .kind = CR_FAULT_UNAVAILABLE, .count = UINT64_MAX, .commits_only = true};
    CHECK_STATUS(end_user(&sim, 0, "ada", false).status, CR_OK);

    struct sim_answer late = {.sim = &sim}, data = {.sim = &sim};
    sim.slow = 5 * SIM_SECOND; /* the two requests alone */
    cr_engine_validate(sim.hosts[1].engine, &ada.token, false, sim_answered, &late);
    cr_engine_data_read(sim.hosts[1].engine, &ada.id, sim_answered, &data);
    sim.slow = 0;
    /* It finds the new primary, registers there, and has a lease again before the replies come. */
    sim.hosts[1].plan.kind = CR_FAULT_NONE;
    sim_run(&sim, 3000, NULL);
    CHECK_STATUS(validate(&sim, 1, &bob.token, true), CR_OK);
    sim_run(&sim, 3000, NULL);
    CHECK_STATUS(late.status, CR_UNAVAILABLE);
    CHECK_STATUS(data.status, CR_UNAVAILABLE);
    is_deposed = false;
    CHECK_STATUS(validate(&sim, 1, &ada.token, false), CR_ENDED);
    sim_fini(&sim);
}

static void a_session_that_an_ending_found_gone_is_not_accepted_by_that_host_again(void)
{
    struct sim sim;
    start_two(&sim);
    struct sim_answer login = log_in(&sim, 0, "ada", CR_POLICY_KEEP);
    CHECK_STATUS(validate(&sim, 1, &login.token, false), CR_OK);
    /* Host 1 still answers, but its polls fail: the row of host 0's ending does not come. */
    sim.hosts[1].plan = (struct cr_fault_plan){
        .kind = CR_FAULT_UNAVAILABLE, .count = UINT64_MAX, .commits_only = true};
    struct cr_end_request request = {.reason = CR_REASON_ADMIN, .by = "test"};
    struct sim_answer ended = {.sim = &sim}, again = {.sim = &sim};
    cr_engine_end(sim.hosts[0].engine, &login.id, &request, sim_answered, &ended);
    sim_run(&sim, 200, NULL);
    CHECK(!ended.done);
    CHECK_STATUS(validate(&sim, 1, &login.token, false), CR_OK);
    cr_engine_end(sim.hosts[1].engine, &login.id, &request, sim_answered, &again);
    sim_run(&sim, 200, &again.done);
    CHECK_STATUS(again.status, CR_NOT_FOUND);
    CHECK_STATUS(validate(&sim, 1, &login.token, false), CR_ENDED);
    sim_run(&sim, 20000, &ended.done); /* its answer goes to the stack of this function */
    sim_fini(&sim);
}

static void no_number_of_crashes_keeps_a_successor_from_starting(void)
{
    struct sim sim;
    sim_init(&sim, tap_random(), 1);
    sim.exclusive = true;
    /* Each dies before its predecessor's segment has run out. */
    for (int i = 0; i < 300; i++) {
        if (!CHECK_STATUS(sim_host_start(&sim, 0, CR_CACHE_SHARED), CR_OK))
            break;
        sim_run(&sim, 100, NULL);
        sim_host_kill(&sim, 0);
        sim_host_bury(&sim, 0);
    }
    CHECK_STATUS(sim_host_start(&sim, 0, CR_CACHE_SHARED), CR_OK);
    log_in(&sim, 0, "ada", CR_POLICY_KEEP);
    cr_boot_ns began = sim.now;
    CHECK_STATUS(end_user(&sim, 0, "ada", false).status, CR_OK);
    CHECK(cr_boot_between(began, sim.now) >= 1000);
    sim_fini(&sim);
}

/* The second host crashes again and again, and leaves a registration each time. */
static void crash_often(struct sim *sim, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        sim_host_kill(sim, 1);
        sim_host_bury(sim, 1);
        sim_run(sim, 50, NULL);
        if (!CHECK_STATUS(sim_host_start(sim, 1, CR_CACHE_SHARED), CR_OK))
            return;
    }
}

/* They are waited for all at once, and taken out at once. */
static void many_crashes_of_one_host_delay_an_ending_as_one_does(void)
{
    struct sim sim;
    start_two(&sim);
    crash_often(&sim, 200);
    log_in(&sim, 0, "ada", CR_POLICY_KEEP);
    CHECK_STATUS(end_user(&sim, 0, "ada", false).status, CR_OK);
    cr_boot_ns began = sim.now;
    CHECK_STATUS(end_user(&sim, 0, "ada", false).status, CR_OK);
    CHECK(cr_boot_between(began, sim.now) < 2000); /* the live one polls */
    sim_fini(&sim);
}

/* Whoever cannot be listed cannot be waited for: never done, but not so for ever. */
static void more_crashes_than_an_engine_can_watch_are_got_over(void)
{
    struct sim sim;
    start_two(&sim);
    crash_often(&sim, 300);
    log_in(&sim, 0, "ada", CR_POLICY_KEEP);
    CHECK_STATUS(end_user(&sim, 0, "ada", false).status, CR_PENDING);
    CHECK_STATUS(end_user(&sim, 0, "ada", false).status, CR_OK);
    sim_fini(&sim);
}

/* The second stops cleanly, while workers of the first still believe their table. */
static void a_clean_stop_passes_on_a_predecessor_that_must_be_waited_for(void)
{
    struct sim sim;
    sim_init(&sim, tap_random(), 3);
    sim.exclusive = true;
    CHECK_STATUS(sim_host_start(&sim, 0, CR_CACHE_SHARED), CR_OK);
    log_in(&sim, 0, "ada", CR_POLICY_KEEP);
    sim_host_kill(&sim, 0);
    CHECK_STATUS(sim_host_start(&sim, 1, CR_CACHE_SHARED), CR_OK);
    sim_run(&sim, 100, NULL);
    sim_host_stop(&sim, 1);
    CHECK_STATUS(sim_host_start(&sim, 2, CR_CACHE_SHARED), CR_OK);
    cr_boot_ns began = sim.now;
    CHECK_STATUS(end_user(&sim, 2, "ada", false).status, CR_OK);
    CHECK(cr_boot_between(began, sim.now) >= 1000);
    sim_fini(&sim);
}

static unsigned destroyed;
static void (*store_destroy)(struct cr_store *);

static void destroy_counted(struct cr_store *store)
{
    destroyed++;
    store_destroy(store);
}

static void an_engine_that_does_not_start_lets_go_of_its_store(void)
{
    struct sim sim;
    struct cr_store *store = NULL;
    struct cr_engine *engine = NULL;
    sim_init(&sim, tap_random(), 1);
    CHECK_STATUS(cr_store_open("memory:", &sim.store_env, &store, NULL), CR_OK);
    struct cr_store_ops ops = *store->ops;
    store_destroy = ops.destroy;
    ops.destroy = destroy_counted;
    store->ops = &ops;
    destroyed = 0;
    struct cr_engine_options options = {
        .loop = &sim.hosts[0].loop,
        .random = &sim.hosts[0].random.random,
        .store = store,
        .cache = CR_CACHE_SHARED,
        .cache_bytes = 1, /* no table is that small */
    };
    CHECK_STATUS(cr_engine_create(&options, &engine, NULL), CR_E_INVALID);
    CHECK_UINT(destroyed, 1);
    sim_fini(&sim);
}

static void without_a_store_there_are_no_accounts(void)
{
    struct sim sim;
    struct sim_answer answer = {.sim = &sim};
    struct cr_user user = user_named("ada");
    struct cr_account_change add = {
        .add = true, .hash = "hash", .ending = {.reason = CR_REASON_ADMIN, .by = "test"}};
    sim_init(&sim, tap_random(), 1);
    CHECK_STATUS(sim_host_start_bare(&sim, 0, CR_CACHE_MEMORY), CR_OK);
    cr_engine_account_change(sim.hosts[0].engine, &user, &add, sim_answered, &answer);
    sim_run(&sim, 2000, &answer.done);
    CHECK_STATUS(answer.status, CR_E_INVALID);
    sim_fini(&sim);
}

static void a_use_on_a_host_that_has_just_booted_counts(void)
{
    struct sim sim; /* C2: idle is 600 s, a granule 30 s */
    sim_init(&sim, tap_random(), 2);
    CHECK_STATUS(sim_host_start(&sim, 0, CR_CACHE_SHARED), CR_OK);
    struct sim_answer login = log_in(&sim, 0, "ada", CR_POLICY_KEEP);
    sim_run(&sim, 580000, NULL);
    /* Its clock says 2 s: the last use was before that. */
    sim.hosts[1].rate = 1;
    sim.hosts[1].boot_start = 2000000000 - sim.now;
    CHECK_STATUS(sim_host_start(&sim, 1, CR_CACHE_MEMORY), CR_OK);
    CHECK_STATUS(validate(&sim, 1, &login.token, false), CR_OK);
    sim_run(&sim, 70000, NULL);
    CHECK_STATUS(validate(&sim, 0, &login.token, false), CR_OK);
    sim_fini(&sim);
}

static void the_bound_of_a_pending_answer_covers_a_host_that_was_given_a_grace(void)
{
    struct sim sim;
    sim_init(&sim, tap_random(), 2);
    sim.hosts[1].grace = 20000;
    CHECK_STATUS(sim_host_start(&sim, 0, CR_CACHE_SHARED), CR_OK);
    CHECK_STATUS(sim_host_start(&sim, 1, CR_CACHE_MEMORY), CR_OK);
    struct sim_answer login = log_in(&sim, 0, "ada", CR_POLICY_KEEP);
    CHECK_STATUS(validate(&sim, 1, &login.token, false), CR_OK);
    /* Host 0 has never had to wait for host 1. */
    sim.hosts[1].plan = (struct cr_fault_plan){.kind = CR_FAULT_UNAVAILABLE, .count = UINT64_MAX};
    struct sim_answer ended = end_user(&sim, 0, "ada", true);
    CHECK_STATUS(ended.status, CR_PENDING);
    CHECK(ended.bound >= 1220 * 25);
    sim_run(&sim, ended.bound, NULL);
    CHECK(validate(&sim, 1, &login.token, false) != CR_OK);
    sim_fini(&sim);
}

static void a_list_says_what_instant_it_is_true_for(void)
{
    struct sim sim;
    start_two(&sim);
    log_in(&sim, 0, "ada", CR_POLICY_KEEP);
    struct sim_answer list = {.sim = &sim};
    struct cr_user user = user_named("ada");
    static const struct cr_session_id none;
    cr_boot_ns before = cr_clock_boot(&sim.hosts[0].clock);
    cr_engine_list(sim.hosts[0].engine, &user, 0, &none, 8, sim_answered, &list);
    sim_run(&sim, 1000, &list.done);
    CHECK_STATUS(list.status, CR_OK);
    CHECK_UINT(list.as_of, before);
    sim_fini(&sim);
}

static void a_login_upgrades_an_anonymous_session_also_by_a_token_in_its_grace(void)
{
    struct sim sim;
    start_two(&sim);
    struct sim_answer basket = {.sim = &sim}, renewed = {.sim = &sim}, login = {.sim = &sim};
    struct cr_create_request anonymous = {
        .policy = CR_POLICY_KEEP, .data = (const unsigned char *)"basket", .data_bytes = 6};
    cr_engine_create_session(sim.hosts[0].engine, &anonymous, sim_answered, &basket);
    sim_run(&sim, 1000, &basket.done);
    /* Another tab renews it; this one has not heard of that yet. */
    cr_engine_rotate(sim.hosts[1].engine, &basket.token, CR_ROTATE_RENEW, sim_answered, &renewed);
    sim_run(&sim, 1000, &renewed.done);
    CHECK_STATUS(renewed.status, CR_OK);
    struct cr_create_request request = {.user = user_named("ada"),
                                        .policy = CR_POLICY_KEEP,
                                        .has_anonymous = true,
                                        .anonymous = basket.token};
    cr_engine_create_session(sim.hosts[0].engine, &request, sim_answered, &login);
    sim_run(&sim, 10000, &login.done);
    CHECK_STATUS(login.status, CR_OK);
    CHECK_UINT(login.data_bytes, 6);
    CHECK_STATUS(validate(&sim, 1, &renewed.token, false), CR_ENDED);
    sim_fini(&sim);
}

static void sweep_log(struct sim *sim)
{
    size_t count;
    CHECK_STATUS(cr_store_begin(sim->keeper), CR_OK);
    do
        CHECK_STATUS(cr_store_sweep(sim->keeper, 100, &count), CR_OK);
    while (count == 100);
    CHECK_STATUS(cr_store_commit(sim->keeper), CR_OK);
}

static void a_host_that_was_away_longer_than_the_log_is_kept_believes_nothing_of_before(void)
{
    struct sim sim;
    start_two(&sim);
    struct sim_answer login = log_in(&sim, 0, "ada", CR_POLICY_KEEP);
    log_in(&sim, 0, "bob", CR_POLICY_KEEP);
    CHECK_STATUS(validate(&sim, 1, &login.token, false), CR_OK);
    sim.hosts[1].plan = (struct cr_fault_plan){.kind = CR_FAULT_UNAVAILABLE, .count = UINT64_MAX};
    /* Nobody waits for it, so nobody takes its registration out. */
    CHECK_STATUS(end_user(&sim, 0, "ada", true).status, CR_PENDING);
    sim.store_clock.now_wall += CR_REMEMBER_MS + 1000;
    CHECK_STATUS(end_user(&sim, 0, "bob", true).status, CR_PENDING);
    sweep_log(&sim); /* the row that ended ada's is gone */
    sim.hosts[1].plan.kind = CR_FAULT_NONE;
    sim_run(&sim, 3000, NULL);
    CHECK_STATUS(validate(&sim, 1, &login.token, false), CR_ENDED);
    sim_fini(&sim);
}

static void a_strict_validation_does_not_rest_on_a_store_that_cannot_commit(void)
{
    struct sim sim; /* it may be a deposed one, which goes on answering reads */
    start_two(&sim);
    struct sim_answer login = log_in(&sim, 0, "ada", CR_POLICY_KEEP);
    CHECK_STATUS(validate(&sim, 0, &login.token, true), CR_OK);
    sim.hosts[0].plan = (struct cr_fault_plan){
        .kind = CR_FAULT_UNAVAILABLE, .count = UINT64_MAX, .commits_only = true};
    CHECK_STATUS(validate(&sim, 0, &login.token, true), CR_UNAVAILABLE);
    CHECK_STATUS(validate(&sim, 0, &login.token, false), CR_OK);
    sim_fini(&sim);
}

static void the_identity_of_one_ending_does_not_make_another_done(void)
{
    struct sim sim;
    start_two(&sim);
    struct sim_answer ada = log_in(&sim, 0, "ada", CR_POLICY_KEEP);
    struct sim_answer bob = log_in(&sim, 0, "bob", CR_POLICY_KEEP);
    struct sim_answer first = end_user(&sim, 0, "ada", false);
    CHECK_STATUS(first.status, CR_OK);
    struct cr_end_request request = {.identity = first.ending, .reason = CR_REASON_ADMIN};
    struct cr_user users[2] = {user_named("bob"), user_named("ada")};
    struct sim_answer answers[5] = {0};
    cr_engine_end_user(sim.hosts[0].engine, &users[0], &request, sim_answered, &answers[0]);
    cr_engine_end(sim.hosts[0].engine, &bob.id, &request, sim_answered, &answers[1]);
    cr_engine_end_others(sim.hosts[0].engine, &bob.id, &request, sim_answered, &answers[2]);
    cr_engine_end_all(sim.hosts[0].engine, &request, sim_answered, &answers[3]);
    cr_engine_end_user(sim.hosts[1].engine, &users[1], &request, sim_answered, &answers[4]);
    sim_run(&sim, 10000, NULL);
    for (size_t i = 0; i < 4; i++)
        CHECK_STATUS(answers[i].status, CR_E_INVALID);
    CHECK_STATUS(answers[4].status, CR_OK); /* the same, asked for again */
    CHECK_STATUS(validate(&sim, 1, &bob.token, false), CR_OK);
    CHECK_STATUS(validate(&sim, 1, &ada.token, false), CR_ENDED);
    sim_fini(&sim);
}

static void a_store_that_is_slow_does_not_make_sessions_last_longer(void)
{
    struct sim sim; /* C2: idle is 600 s */
    start_two(&sim);
    struct sim_answer login = log_in(&sim, 0, "ada", CR_POLICY_KEEP);
    sim_run(&sim, 100000, NULL);
    CHECK_STATUS(validate(&sim, 0, &login.token, false), CR_OK);
    cr_boot_ns used = sim.now;
    sim.slow = 60 * SIM_SECOND; /* the report of that use takes a minute to get there */
    sim_run(&sim, 180000, NULL);
    sim.slow = 0;
    /* How long ago that was, the host's own clock says, which may be 5 % slow. */
    cr_span_ms wait = cr_boot_between(used, sim.now), astray = wait / 20 + 5000;
    sim_run(&sim, 600000 + CR_SEEN_SLACK(600000) + astray - wait, NULL);
    CHECK_STATUS(validate(&sim, 1, &login.token, false), CR_ENDED);
    sim_fini(&sim);
}

static void uses_are_written_in_batches_not_one_by_one(void)
{
    enum { SESSIONS = 1500 };
    static struct sim_answer sessions[SESSIONS];
    struct cr_stats before = {0}, after = {0};
    struct sim sim;
    sim_init(&sim, tap_random(), 1);
    sim.exclusive = true; /* no polls */
    CHECK_STATUS(sim_host_start(&sim, 0, CR_CACHE_SHARED), CR_OK);
    for (int i = 0; i < SESSIONS; i++)
        sessions[i] = log_in(&sim, 0, "ada", CR_POLICY_KEEP);
    sim_run(&sim, 60000, NULL);
    cr_engine_stats(sim.hosts[0].engine, &before);
    for (int i = 0; i < SESSIONS; i++) {
        CHECK_STATUS(validate(&sim, 0, &sessions[i].token, false), CR_OK);
        sim_run(&sim, 2, NULL);
    }
    sim_run(&sim, CR_FLUSH_MS + 100, NULL);
    cr_engine_stats(sim.hosts[0].engine, &after);
    /* Three seconds and one; a batch is of 512. */
    CHECK(after.store_commits - before.store_commits <= 16);
    CHECK(after.store_commits > before.store_commits);
    sim_fini(&sim);
}

static const struct tap_test tests[] = {
    TAP_TEST(a_session_made_on_one_host_is_accepted_on_the_other),
    TAP_TEST(an_ending_that_answered_done_holds_on_every_host),
    TAP_TEST(an_ending_waits_for_a_host_that_still_believes),
    TAP_TEST(a_host_that_had_nothing_to_acknowledge_for_long_is_waited_for),
    TAP_TEST(async_answers_pending_with_the_bound),
    TAP_TEST(a_host_cut_off_from_the_store_stops_answering_after_its_lease),
    TAP_TEST(a_killed_host_delays_endings_by_its_lease_once),
    TAP_TEST(an_engine_that_registers_anew_has_the_same_label),
    TAP_TEST(a_clean_stop_is_not_waited_for),
    TAP_TEST(a_login_that_replaces_has_ended_the_others_everywhere_when_it_answers),
    TAP_TEST(an_ending_whose_commit_was_lost_is_asked_for_again_until_known),
    TAP_TEST(an_ending_whose_outcome_stays_unknown_says_so_and_can_be_repeated),
    TAP_TEST(an_unknown_user_is_never_done),
    TAP_TEST(a_session_ended_while_the_cache_was_off_is_not_accepted_when_it_is_on_again),
    TAP_TEST(a_table_that_replaces_another_goes_on_with_its_clock),
    TAP_TEST(a_wrong_row_from_the_store_is_never_served),
    TAP_TEST(a_busy_session_never_ends_for_idleness),
    TAP_TEST(idleness_ends_a_session_on_a_host_that_did_not_make_it),
    TAP_TEST(touching_for_ever_does_not_move_the_absolute_end),
    TAP_TEST(the_absolute_end_holds_on_a_host_that_took_the_session_in_late),
    TAP_TEST(a_renewal_that_races_gives_one_successor),
    TAP_TEST(a_change_of_privilege_leaves_the_old_token_no_grace_anywhere),
    TAP_TEST(a_late_write_never_revives_an_ended_session),
    TAP_TEST(the_first_ending_over_an_own_table_waits_for_a_predecessors_segment),
    TAP_TEST(made_up_tokens_cost_the_store_nothing),
    TAP_TEST(what_ended_is_told_with_how_the_last_first),
    TAP_TEST(of_many_that_ended_the_last_twenty_are_told),
    TAP_TEST(what_ended_is_told_for_seven_days),
    TAP_TEST(what_cannot_be_told_whole_is_not_told),
    TAP_TEST(past_its_lease_a_host_says_neither_yes_nor_no),
    TAP_TEST(a_reply_that_comes_past_the_lease_is_neither_yes_nor_no),
    TAP_TEST(times_at_their_ends_are_borne),
    TAP_TEST(what_is_asked_past_the_lease_is_not_answered_by_the_next_one),
    TAP_TEST(a_session_that_an_ending_found_gone_is_not_accepted_by_that_host_again),
    TAP_TEST(no_number_of_crashes_keeps_a_successor_from_starting),
    TAP_TEST(many_crashes_of_one_host_delay_an_ending_as_one_does),
    TAP_TEST(more_crashes_than_an_engine_can_watch_are_got_over),
    TAP_TEST(a_clean_stop_passes_on_a_predecessor_that_must_be_waited_for),
    TAP_TEST(an_engine_that_does_not_start_lets_go_of_its_store),
    TAP_TEST(without_a_store_there_are_no_accounts),
    TAP_TEST(a_use_on_a_host_that_has_just_booted_counts),
    TAP_TEST(the_bound_of_a_pending_answer_covers_a_host_that_was_given_a_grace),
    TAP_TEST(a_list_says_what_instant_it_is_true_for),
    TAP_TEST(a_login_upgrades_an_anonymous_session_also_by_a_token_in_its_grace),
    TAP_TEST(a_host_that_was_away_longer_than_the_log_is_kept_believes_nothing_of_before),
    TAP_TEST(a_strict_validation_does_not_rest_on_a_store_that_cannot_commit),
    TAP_TEST(the_identity_of_one_ending_does_not_make_another_done),
    TAP_TEST(a_store_that_is_slow_does_not_make_sessions_last_longer),
    TAP_TEST(uses_are_written_in_batches_not_one_by_one),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
