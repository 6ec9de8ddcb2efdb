/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of every kind, and whether the store agrees with what was answered. */
#include "party.h"

#include <string.h>

#include "tap.h"

static const char *const names[PARTY_KINDS] = {
    [PARTY_VALIDATE] = "validate",
    [PARTY_VALIDATE_STRICT] = "validate, strict",
    [PARTY_LOGIN_KEEP] = "login, keep",
    [PARTY_LOGIN_REPLACE] = "login, replace",
    [PARTY_LOGIN_KEEP_N] = "login, keep 1",
    [PARTY_LOGIN_UPGRADE] = "login of an anonymous session",
    [PARTY_DATA_READ] = "data read",
    [PARTY_DATA_WRITE] = "data write",
    [PARTY_RIGHTS_WRITE] = "rights write",
    [PARTY_ROTATE_RENEW] = "rotate, renew",
    [PARTY_ROTATE_PRIVILEGE] = "rotate, privilege",
    [PARTY_END_ONE] = "end one",
    [PARTY_END_USER] = "end user",
    [PARTY_END_OTHERS] = "end others",
    [PARTY_ACCOUNT_ADD] = "account, add",
    [PARTY_ACCOUNT_PASSWORD] = "account, password",
    [PARTY_ACCOUNT_REMOVE] = "account, remove",
    [PARTY_LIST] = "list",
    [PARTY_EXPLAIN] = "explain",
    [PARTY_PAST] = "past",
};

const char *party_kind_name(int kind)
{
    return names[kind];
}

struct cr_user party_user(int kind)
{
    struct cr_user user = {.length = 2};
    user.bytes[0] = 'u';
    user.bytes[1] = (unsigned char)('a' + kind);
    return user;
}

struct sim_answer party_login(struct sim *sim, size_t host, const struct cr_user *user)
{
    struct sim_answer answer = {.sim = sim};
    struct cr_create_request request = {.user = *user, .policy = CR_POLICY_KEEP};
    cr_engine_create_session(sim->hosts[host].engine, &request, sim_answered, &answer);
    sim_run(sim, 20000, &answer.done);
    return answer;
}

struct sim_answer party_validate(struct sim *sim, size_t host, const struct cr_token *token,
                                 bool strict)
{
    struct sim_answer answer = {.sim = sim};
    cr_engine_validate(sim->hosts[host].engine, token, strict, sim_answered, &answer);
    sim_run(sim, 20000, &answer.done);
    CHECK(answer.done);
    return answer;
}

static void account_add(struct party *party, int kind, struct sim_answer *answer)
{
    struct cr_user user = party_user(kind);
    struct cr_account_change add = {
        .add = true, .hash = "first", .ending = {.reason = CR_REASON_ADMIN, .by = "test"}};
    cr_engine_account_change(party->sim.hosts[0].engine, &user, &add, sim_answered, answer);
}

void party_init(struct party *party, size_t hosts, bool exclusive)
{
    memset(party, 0, sizeof *party);
    sim_init(&party->sim, tap_random(), hosts);
    party->sim.exclusive = exclusive;
    for (size_t i = 0; i < (exclusive ? 1 : hosts); i++)
        CHECK_STATUS(sim_host_start(&party->sim, i, CR_CACHE_SHARED), CR_OK);
    for (int kind = 0; kind < PARTY_KINDS; kind++) {
        struct cr_user user = party_user(kind);
        party->calls[kind].sim = &party->sim;
        if (kind == PARTY_ACCOUNT_PASSWORD || kind == PARTY_ACCOUNT_REMOVE) {
            struct sim_answer added = {.sim = &party->sim};
            account_add(party, kind, &added);
            sim_run(&party->sim, 20000, &added.done);
            CHECK_STATUS(added.status, CR_OK);
        }
        if (kind == PARTY_LOGIN_UPGRADE)
            user.length = 0;
        if (kind == PARTY_ACCOUNT_ADD)
            continue; /* a user never seen */
        party->before[kind] = party_login(&party->sim, 0, &user);
        CHECK_STATUS(party->before[kind].status, CR_OK);
        /* Into the tables. */
        for (size_t i = 0; i < (exclusive ? 1 : hosts); i++)
            CHECK_STATUS(party_validate(&party->sim, i, &party->before[kind].token, false).status,
                         CR_OK);
    }
    struct cr_user user = party_user(PARTY_END_OTHERS);
    party->kept = party_login(&party->sim, 0, &user);
}

static void ask_login(struct party *party, int kind, enum cr_policy policy)
{
    struct cr_create_request request = {
        .user = party_user(kind), .policy = policy, .keep_count = policy == CR_POLICY_KEEP_N};
    if (kind == PARTY_LOGIN_UPGRADE) {
        request.has_anonymous = true;
        request.anonymous = party->before[kind].token;
    }
    cr_engine_create_session(party->sim.hosts[0].engine, &request, sim_answered,
                             &party->calls[kind]);
}

static void ask_account(struct party *party, int kind)
{
    struct cr_user user = party_user(kind);
    struct cr_account_change change = {.hash = kind == PARTY_ACCOUNT_PASSWORD ? "second" : NULL,
                                       .remove = kind == PARTY_ACCOUNT_REMOVE,
                                       .ending = {.reason = CR_REASON_PASSWORD, .by = "test"}};
    cr_engine_account_change(party->sim.hosts[0].engine, &user, &change, sim_answered,
                             &party->calls[kind]);
}

void party_ask(struct party *party, int kind)
{
    static const struct cr_session_id none;
    struct cr_engine *engine = party->sim.hosts[0].engine;
    const struct sim_answer *before = &party->before[kind];
    struct sim_answer *call = &party->calls[kind];
    struct cr_end_request end = {.reason = CR_REASON_ADMIN, .by = "test"};
    struct cr_user user = party_user(kind);
    switch ((enum party_kind)kind) {
    case PARTY_VALIDATE:
    case PARTY_VALIDATE_STRICT:
        cr_engine_validate(engine, &before->token, kind == PARTY_VALIDATE_STRICT, sim_answered,
                           call);
        break;
    case PARTY_LOGIN_KEEP:
    case PARTY_LOGIN_UPGRADE:
        ask_login(party, kind, CR_POLICY_KEEP);
        break;
    case PARTY_LOGIN_REPLACE:
        ask_login(party, kind, CR_POLICY_REPLACE);
        break;
    case PARTY_LOGIN_KEEP_N:
        ask_login(party, kind, CR_POLICY_KEEP_N);
        break;
    case PARTY_DATA_READ:
        cr_engine_data_read(engine, &before->id, sim_answered, call);
        break;
    case PARTY_DATA_WRITE:
        cr_engine_data_write(engine, &before->id, 1, "data", 4, sim_answered, call);
        break;
    case PARTY_RIGHTS_WRITE:
        cr_engine_rights_write(engine, &before->id, "r", 1, sim_answered, call);
        break;
    case PARTY_ROTATE_RENEW:
        cr_engine_rotate(engine, &before->token, CR_ROTATE_RENEW, sim_answered, call);
        break;
    case PARTY_ROTATE_PRIVILEGE:
        cr_engine_rotate(engine, &before->token, CR_ROTATE_PRIVILEGE, sim_answered, call);
        break;
    case PARTY_END_ONE:
        cr_engine_end(engine, &before->id, &end, sim_answered, call);
        break;
    case PARTY_END_USER:
        cr_engine_end_user(engine, &user, &end, sim_answered, call);
        break;
    case PARTY_END_OTHERS:
        cr_engine_end_others(engine, &party->kept.id, &end, sim_answered, call);
        break;
    case PARTY_ACCOUNT_ADD:
        account_add(party, kind, call);
        break;
    case PARTY_ACCOUNT_PASSWORD:
    case PARTY_ACCOUNT_REMOVE:
        ask_account(party, kind);
        break;
    case PARTY_LIST:
        cr_engine_list(engine, &user, 0, &none, 4, sim_answered, call);
        break;
    case PARTY_EXPLAIN:
        cr_engine_explain(engine, &before->id, sim_answered, call);
        break;
    case PARTY_PAST:
        cr_engine_past(engine, &user, false, sim_answered, call);
        break;
    case PARTY_KINDS:
        break;
    }
}

/* Whether it takes the session that was there before. */
static bool kind_ends(int kind)
{
    switch ((enum party_kind)kind) {
    case PARTY_LOGIN_REPLACE:
    case PARTY_LOGIN_KEEP_N:
    case PARTY_LOGIN_UPGRADE:
    case PARTY_ROTATE_PRIVILEGE:
    case PARTY_END_ONE:
    case PARTY_END_USER:
    case PARTY_END_OTHERS:
    case PARTY_ACCOUNT_PASSWORD:
    case PARTY_ACCOUNT_REMOVE:
        return true;
    case PARTY_VALIDATE:
    case PARTY_VALIDATE_STRICT:
    case PARTY_LOGIN_KEEP:
    case PARTY_DATA_READ:
    case PARTY_DATA_WRITE:
    case PARTY_RIGHTS_WRITE:
    case PARTY_ROTATE_RENEW:
    case PARTY_ACCOUNT_ADD:
    case PARTY_LIST:
    case PARTY_EXPLAIN:
    case PARTY_PAST:
    case PARTY_KINDS:
        return false;
    }
    return false;
}

static enum cr_status account_find(struct sim *sim, int kind, struct cr_account_row *out)
{
    struct cr_user user = party_user(kind);
    return cr_store_account_find(sim->keeper, &user, out);
}

static void check_account(struct party *party, int kind, bool made)
{
    struct cr_account_row row;
    enum cr_status st = account_find(&party->sim, kind, &row);
    if (kind == PARTY_ACCOUNT_ADD)
        CHECK_STATUS(st, made ? CR_OK : CR_UNKNOWN_USER);
    else if (kind == PARTY_ACCOUNT_REMOVE)
        CHECK_STATUS(st, made ? CR_UNKNOWN_USER : CR_OK);
    else if (kind == PARTY_ACCOUNT_PASSWORD && CHECK_STATUS(st, CR_OK))
        CHECK_STR(row.hash, made ? "second" : "first");
}

void party_check(struct party *party, int kind, size_t host)
{
    struct sim *sim = &party->sim;
    const struct sim_answer *call = &party->calls[kind], *before = &party->before[kind];
    bool made = call->status == CR_OK || call->status == CR_PENDING;
    /* Whatever became of it: by now the table says what the store says. */
    struct sim_answer now = {0};
    if (before->done) {
        struct sim_answer cached = party_validate(sim, host, &before->token, false);
        now = party_validate(sim, host, &before->token, true);
        CHECK_STATUS(cached.status, now.status);
        CHECK_UINT(cached.rights_bytes, now.rights_bytes);
        CHECK_UINT(cached.version, now.version);
    }
    if (!CHECK(call->done) || call->status == CR_E_UNKNOWN_OUTCOME)
        return;
    /* Nobody had ended, taken or changed anything of it before. */
    CHECK(call->status != CR_ENDED && call->status != CR_NOT_FOUND && call->status != CR_CONFLICT &&
          call->status != CR_UNKNOWN_USER);
    check_account(party, kind, made);
    /* The old token of a renewal is in its grace, or past it. */
    if (before->done && !(kind == PARTY_ROTATE_RENEW && made)) {
        CHECK_STATUS(now.status, made && kind_ends(kind) ? CR_ENDED : CR_OK);
        if (kind == PARTY_RIGHTS_WRITE)
            CHECK_UINT(now.rights_bytes, made ? 1 : 0);
        if (kind == PARTY_DATA_WRITE)
            CHECK_UINT(now.version, made ? 2 : 1);
    }
    if (kind == PARTY_END_OTHERS)
        CHECK_STATUS(party_validate(sim, host, &party->kept.token, true).status, CR_OK);
    if (made && call->token.text[0] != '\0')
        CHECK_STATUS(party_validate(sim, host, &call->token, true).status, CR_OK);
}
