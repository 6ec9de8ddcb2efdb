/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stopping, full queues, and answers that come back with another call: every call is answered once,
 * and says what became of it.
 */
#include "tap.h"

#include <stdlib.h>
#include <string.h>

#include "coord/lease.h"
#include "engine/internal.h"
#include "sim.h"

/* One call of each kind, each on a session or user of its own. */
enum {
    VALIDATE,
    VALIDATE_STRICT,
    LOGIN_KEEP,
    LOGIN_REPLACE,
    LOGIN_KEEP_N,
    LOGIN_UPGRADE,
    DATA_READ,
    DATA_WRITE,
    RIGHTS_WRITE,
    ROTATE_RENEW,
    ROTATE_PRIVILEGE,
    END_ONE,
    END_USER,
    END_OTHERS,
    ACCOUNT_CHANGE,
    LIST,
    EXPLAIN,
    KINDS
};

static const char *const names[KINDS] = {
    [VALIDATE] = "validate",
    [VALIDATE_STRICT] = "validate, strict",
    [LOGIN_KEEP] = "login, keep",
    [LOGIN_REPLACE] = "login, replace",
    [LOGIN_KEEP_N] = "login, keep N",
    [LOGIN_UPGRADE] = "login of an anonymous session",
    [DATA_READ] = "data read",
    [DATA_WRITE] = "data write",
    [RIGHTS_WRITE] = "rights write",
    [ROTATE_RENEW] = "rotate, renew",
    [ROTATE_PRIVILEGE] = "rotate, privilege",
    [END_ONE] = "end one",
    [END_USER] = "end user",
    [END_OTHERS] = "end others",
    [ACCOUNT_CHANGE] = "account",
    [LIST] = "list",
    [EXPLAIN] = "explain",
};

struct party {
    struct sim sim;
    struct sim_answer before[KINDS]; /* a session of each kind's user, made in peace */
    struct sim_answer calls[KINDS];
};

static struct cr_user user_of(int kind)
{
    struct cr_user user = {.length = 2};
    user.bytes[0] = 'u';
    user.bytes[1] = (unsigned char)('a' + kind);
    return user;
}

static struct sim_answer make(struct sim *sim, size_t host, const struct cr_user *user)
{
    struct sim_answer answer = {.sim = sim};
    struct cr_create_request request = {.user = *user, .policy = CR_POLICY_KEEP};
    cr_engine_create_session(sim->hosts[host].engine, &request, sim_answered, &answer);
    sim_run(sim, 20000, &answer.done);
    CHECK_STATUS(answer.status, CR_OK);
    return answer;
}

static void party_init(struct party *party, size_t hosts, bool exclusive)
{
    sim_init(&party->sim, tap_random(), hosts);
    party->sim.exclusive = exclusive;
    for (size_t i = 0; i < (exclusive ? 1 : hosts); i++)
        CHECK_STATUS(sim_host_start(&party->sim, i, CR_CACHE_SHARED), CR_OK);
    for (int kind = 0; kind < KINDS; kind++) {
        struct cr_user user = user_of(kind);
        if (kind == LOGIN_UPGRADE)
            user.length = 0;
        party->before[kind] = make(&party->sim, 0, &user);
        party->calls[kind] = (struct sim_answer){.sim = &party->sim};
    }
    struct sim_answer account = {.sim = &party->sim};
    struct cr_user user = user_of(ACCOUNT_CHANGE);
    struct cr_account_change add = {
        .add = true, .hash = "first", .ending = {.reason = CR_REASON_ADMIN, .by = "test"}};
    cr_engine_account_change(party->sim.hosts[0].engine, &user, &add, sim_answered, &account);
    sim_run(&party->sim, 20000, &account.done);
    CHECK_STATUS(account.status, CR_OK);
    /* It ended what was there. */
    party->before[ACCOUNT_CHANGE] = make(&party->sim, 0, &user);
}

static void login(struct party *party, int kind, struct cr_create_request *request)
{
    request->user = user_of(kind);
    cr_engine_create_session(party->sim.hosts[0].engine, request, sim_answered,
                             &party->calls[kind]);
}

static void ask(struct party *party, int kind)
{
    struct cr_engine *engine = party->sim.hosts[0].engine;
    const struct sim_answer *before = &party->before[kind];
    struct sim_answer *call = &party->calls[kind];
    struct cr_create_request request = {.policy = CR_POLICY_KEEP};
    struct cr_end_request end = {.reason = CR_REASON_ADMIN, .by = "test"};
    struct cr_user user = user_of(kind);
    struct cr_account_change account = {.hash = "second",
                                        .ending = {.reason = CR_REASON_PASSWORD, .by = "test"}};
    static const struct cr_session_id none;
    switch (kind) {
    case VALIDATE:
    case VALIDATE_STRICT:
        cr_engine_validate(engine, &before->token, kind == VALIDATE_STRICT, sim_answered, call);
        break;
    case LOGIN_KEEP:
        login(party, kind, &request);
        break;
    case LOGIN_REPLACE:
        request.policy = CR_POLICY_REPLACE;
        login(party, kind, &request);
        break;
    case LOGIN_KEEP_N:
        request.policy = CR_POLICY_KEEP_N;
        request.keep_count = 1;
        login(party, kind, &request);
        break;
    case LOGIN_UPGRADE:
        request.has_anonymous = true;
        request.anonymous = before->token;
        login(party, kind, &request);
        break;
    case DATA_READ:
        cr_engine_data_read(engine, &before->id, sim_answered, call);
        break;
    case DATA_WRITE:
        cr_engine_data_write(engine, &before->id, 1, "data", 4, sim_answered, call);
        break;
    case RIGHTS_WRITE:
        cr_engine_rights_write(engine, &before->id, "rights", 6, sim_answered, call);
        break;
    case ROTATE_RENEW:
        cr_engine_rotate(engine, &before->token, CR_ROTATE_RENEW, sim_answered, call);
        break;
    case ROTATE_PRIVILEGE:
        cr_engine_rotate(engine, &before->token, CR_ROTATE_PRIVILEGE, sim_answered, call);
        break;
    case END_ONE:
        cr_engine_end(engine, &before->id, &end, sim_answered, call);
        break;
    case END_USER:
        cr_engine_end_user(engine, &user, &end, sim_answered, call);
        break;
    case END_OTHERS:
        cr_engine_end_others(engine, &call->id, &end, sim_answered, call);
        break;
    case ACCOUNT_CHANGE:
        cr_engine_account_change(engine, &user, &account, sim_answered, call);
        break;
    case LIST:
        cr_engine_list(engine, &user, 0, &none, 4, sim_answered, call);
        break;
    case EXPLAIN:
        cr_engine_explain(engine, &before->id, sim_answered, call);
        break;
    }
}

/* What the call ended, if it did: the session made before. */
static bool ends(int kind)
{
    return kind == LOGIN_REPLACE || kind == LOGIN_KEEP_N || kind == LOGIN_UPGRADE ||
           kind == ROTATE_PRIVILEGE || kind == END_ONE || kind == END_USER || kind == END_OTHERS ||
           kind == ACCOUNT_CHANGE;
}

static enum cr_status validate(struct sim *sim, size_t host, const struct cr_token *token)
{
    struct sim_answer answer = {.sim = sim};
    cr_engine_validate(sim->hosts[host].engine, token, true, sim_answered, &answer);
    sim_run(sim, 20000, &answer.done);
    return answer.done ? answer.status : CR_BUSY;
}

static void check_told_the_truth(struct party *party, size_t host)
{
    for (int kind = 0; kind < KINDS; kind++) {
        const struct sim_answer *call = &party->calls[kind];
        tap_row(names[kind]);
        if (!CHECK(call->done) || !ends(kind))
            continue;
        enum cr_status st = validate(&party->sim, host, &party->before[kind].token);
        if (call->status == CR_OK || call->status == CR_PENDING)
            CHECK_STATUS(st, CR_ENDED);
        else if (CHECK(call->status == CR_UNAVAILABLE || call->status == CR_E_UNKNOWN_OUTCOME ||
                       call->status == CR_BUSY) &&
                 call->status != CR_E_UNKNOWN_OUTCOME)
            CHECK_STATUS(st, CR_OK);
    }
    tap_row(NULL);
}

static void ask_everything(struct party *party)
{
    struct cr_user others = user_of(END_OTHERS);
    party->calls[END_OTHERS].id = make(&party->sim, 0, &others).id;
    for (int kind = 0; kind < KINDS; kind++)
        ask(party, kind);
}

static void a_stop_at_any_instant_answers_every_call_once_with_what_became_of_it(void)
{
    /* Two hosts: the other one is paused, so that endings wait for it. */
    static struct party party;
    static const enum cr_fault_kind faults[] = {CR_FAULT_NONE, CR_FAULT_LOST, CR_FAULT_NOT_MADE};
    for (int round = 0; round < 240; round++) {
        bool exclusive = round % 3 == 0;
        party_init(&party, 2, exclusive);
        party.sim.hosts[1].paused = true;
        ask_everything(&party);
        party.sim.hosts[0].plan = (struct cr_fault_plan){
            .kind = faults[round / 2 % 3], .count = UINT64_MAX, .commits_only = true};
        sim_run(&party.sim, round / 6, NULL);
        sim_host_stop(&party.sim, 0);
        party.sim.hosts[1].paused = false;
        if (exclusive)
            CHECK_STATUS(sim_host_start(&party.sim, 1, CR_CACHE_SHARED), CR_OK);
        sim_run(&party.sim, 10000, NULL);
        check_told_the_truth(&party, 1);
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
