/* SPDX-License-Identifier: Apache-2.0 */
/* What is asked in random histories, and how: as a call of the engine, or as a worker's message. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "world.h"

/* One thing to be asked. */
struct wish {
    struct model_call asked;
    struct cr_create_request create;
    struct cr_end_request end;
    struct cr_user user;
    struct cr_session_id id;
    const struct cr_token *token;
    const unsigned char *bytes; /* of data, of rights */
    size_t count;
};

struct call {
    struct world *world;
    const struct worker *worker; /* NULL: asked at the engine itself */
    struct model_call call;
};

static void answered(void *context, const struct cr_engine_answer *answer)
{
    struct call *call = context;
    call->world->calls--;
    if (call->worker != NULL && call->worker->slot != WORKER_NOWHERE)
        call->call.host = call->worker->slot;
    model_answered(&call->world->model, &call->call, answer);
    free(call);
}

static struct call *call_begin(struct world *world, const struct worker *worker,
                               const struct model_call *asked)
{
    struct call *call = calloc(1, sizeof *call);
    CR_ASSERT(call != NULL);
    *call = (struct call){.world = world, .worker = worker, .call = *asked};
    model_asked(&world->model, &call->call);
    world->calls++;
    return call;
}

/* ---- as a call */

static void wish_call(struct cr_engine *engine, const struct wish *wish, struct call *call)
{
    switch (wish->asked.kind) {
    case MODEL_LOGIN:
        cr_engine_create_session(engine, &wish->create, answered, call);
        break;
    case MODEL_VALIDATE:
        cr_engine_validate(engine, wish->token, wish->asked.strict, answered, call);
        break;
    case MODEL_READ:
        cr_engine_data_read(engine, &wish->id, answered, call);
        break;
    case MODEL_END_ONE:
        cr_engine_end(engine, &wish->id, &wish->end, answered, call);
        break;
    case MODEL_END_USER:
        cr_engine_end_user(engine, &wish->user, &wish->end, answered, call);
        break;
    case MODEL_END_OTHERS:
        cr_engine_end_others(engine, &wish->id, &wish->end, answered, call);
        break;
    case MODEL_END_ALL:
        cr_engine_end_all(engine, &wish->end, answered, call);
        break;
    case MODEL_RIGHTS:
        cr_engine_rights_write(engine, &wish->id, wish->bytes, wish->count, answered, call);
        break;
    case MODEL_DATA:
        cr_engine_data_write(engine, &wish->id, wish->asked.expects, wish->bytes, wish->count,
                             answered, call);
        break;
    case MODEL_ROTATE:
        cr_engine_rotate(engine, wish->token, wish->asked.rotation, answered, call);
        break;
    case MODEL_ACCOUNT: /* account_ask */
        break;
    }
}

/* ---- as a message */

static enum cr_op op_of(const struct wish *wish)
{
    switch (wish->asked.kind) {
    case MODEL_LOGIN:
        return wish->create.user.length == 0 ? CR_OP_CREATE : CR_OP_LOGIN;
    case MODEL_VALIDATE:
        return CR_OP_VALIDATE;
    case MODEL_READ:
        return CR_OP_DATA_READ;
    case MODEL_END_ONE:
        return CR_OP_END;
    case MODEL_END_USER:
        return CR_OP_END_USER;
    case MODEL_END_OTHERS:
        return CR_OP_END_OTHERS;
    case MODEL_END_ALL:
        return CR_OP_END_ALL;
    case MODEL_RIGHTS:
        return CR_OP_RIGHTS_WRITE;
    case MODEL_DATA:
        return CR_OP_DATA_WRITE;
    case MODEL_ROTATE:
        return CR_OP_ROTATE;
    case MODEL_ACCOUNT:
        break;
    }
    return CR_OP_END_OF_LIST;
}

static void put_id(struct cr_builder *b, const struct wish *wish)
{
    cr_builder_bytes(b, CR_TAG_ID, wish->id.text, CR_SESSION_ID_CHARS);
}

static void put_token(struct cr_builder *b, enum cr_tag tag, const struct cr_token *token)
{
    cr_builder_bytes(b, tag, token->text, CR_TOKEN_CHARS);
}

static void put_login(struct cr_builder *b, const struct wish *wish)
{
    const struct cr_create_request *create = &wish->create;
    if (create->user.length > 0) {
        cr_builder_bytes(b, CR_TAG_USER, create->user.bytes, create->user.length);
        cr_builder_u64(b, CR_TAG_POLICY, create->policy);
        cr_builder_u64(b, CR_TAG_COUNT, create->keep_count);
    }
    cr_builder_text(b, CR_TAG_ADDRESS, create->address);
    cr_builder_u64(b, CR_TAG_IDLE, (uint64_t)create->idle);
    cr_builder_u64(b, CR_TAG_ABSOLUTE, (uint64_t)create->absolute);
    if (create->has_anonymous)
        put_token(b, CR_TAG_ANONYMOUS, &create->anonymous);
}

/* The library makes the ending's id, so that it can ask again. */
static void put_ending(struct cr_builder *b, const struct wish *wish)
{
    cr_builder_bytes(b, CR_TAG_ENDING, wish->end.identity.bytes, sizeof wish->end.identity.bytes);
    cr_builder_u64(b, CR_TAG_REASON, wish->end.reason);
    cr_builder_u64(b, CR_TAG_ASYNC, wish->end.async ? 1 : 0);
}

static void put_wish(struct cr_builder *b, const struct wish *wish)
{
    switch (wish->asked.kind) {
    case MODEL_LOGIN:
        put_login(b, wish);
        break;
    case MODEL_VALIDATE:
        put_token(b, CR_TAG_TOKEN, wish->token);
        cr_builder_u64(b, CR_TAG_STRICT, wish->asked.strict ? 1 : 0);
        break;
    case MODEL_READ:
        put_id(b, wish);
        break;
    case MODEL_END_ONE:
    case MODEL_END_OTHERS:
        put_id(b, wish);
        put_ending(b, wish);
        break;
    case MODEL_END_USER:
        cr_builder_bytes(b, CR_TAG_USER, wish->user.bytes, wish->user.length);
        put_ending(b, wish);
        break;
    case MODEL_END_ALL:
        put_ending(b, wish);
        break;
    case MODEL_RIGHTS:
        put_id(b, wish);
        cr_builder_bytes(b, CR_TAG_RIGHTS, wish->bytes, wish->count);
        break;
    case MODEL_DATA:
        put_id(b, wish);
        cr_builder_u64(b, CR_TAG_VERSION, wish->asked.expects);
        cr_builder_bytes(b, CR_TAG_DATA, wish->bytes, wish->count);
        break;
    case MODEL_ROTATE:
        put_token(b, CR_TAG_TOKEN, wish->token);
        cr_builder_u64(b, CR_TAG_ROTATION, wish->asked.rotation);
        break;
    case MODEL_ACCOUNT:
        break;
    }
}

/* As the library has it (src/room/sessions.c). */
static enum worker_repeat repeat_of(const struct wish *wish)
{
    switch (wish->asked.kind) {
    case MODEL_LOGIN:
    case MODEL_RIGHTS:
    case MODEL_DATA:
    case MODEL_ACCOUNT:
        return WORKER_GIVE_UP;
    case MODEL_ROTATE:
        return wish->asked.rotation == CR_ROTATE_RENEW ? WORKER_REPEAT : WORKER_GIVE_UP;
    case MODEL_VALIDATE:
    case MODEL_READ:
    case MODEL_END_ONE:
    case MODEL_END_USER:
    case MODEL_END_OTHERS:
    case MODEL_END_ALL:
        return WORKER_REPEAT;
    }
    return WORKER_GIVE_UP;
}

static bool worker_may(const struct worker *worker, const struct wish *wish)
{
    return !wish->create.has_generation &&
           (cr_op_row((uint16_t)op_of(wish))->roles & worker->role) != 0;
}

static void wish_send(struct worker *worker, struct wish *wish, struct call *call)
{
    struct cr_builder request;
    enum cr_op op = op_of(wish);
    cr_builder_init(&request, op, CR_OK, worker_number(worker));
    put_wish(&request, wish);
    if (call->call.has_authority)
        put_token(&request, CR_TAG_AUTHORITY,
                  &call->world->model.tokens[call->call.authority].token);
    CR_ASSERT(cr_builder_finish(&request));
    worker_call(worker, &request, repeat_of(wish), answered, call);
}

/* The session itself, or another of its user: what is asked may be about that one. */
static size_t authority_of(struct world *world, const struct wish *wish)
{
    const struct model *model = &world->model;
    size_t other = world_token(world);
    size_t user = model->sessions[wish->asked.session].user;
    bool may = wish->asked.kind != MODEL_END_OTHERS && user != MODEL_NOBODY &&
               model->sessions[model->tokens[other].session].user == user;
    return may ? other : wish->asked.token;
}

static void wish_carry(struct world *world, size_t host, struct worker *worker, struct wish *wish)
{
    bool by_message = worker != NULL && worker_may(worker, wish);
    wish->asked.host = host;
    wish->asked.has_authority = by_message && worker->role == CR_ROLE_HTTP &&
                                cr_op_row((uint16_t)op_of(wish))->http_needs_authority;
    if (wish->asked.has_authority)
        wish->asked.authority = authority_of(world, wish);
    struct call *call = call_begin(world, by_message ? worker : NULL, &wish->asked);
    if (by_message)
        wish_send(worker, wish, call);
    else
        wish_call(world->sim.hosts[host].engine, wish, call);
}

/* ---- what */

static void login_wish(struct world *world, struct wish *wish)
{
    struct sim *sim = &world->sim;
    struct model *model = &world->model;
    struct model_call *asked = &wish->asked;
    struct cr_create_request *create = &wish->create;
    asked->kind = MODEL_LOGIN;
    asked->policy = (enum cr_policy)(1 + sim_below(sim, 3));
    if (asked->user == MODEL_NOBODY)
        asked->policy = CR_POLICY_KEEP;
    else if (sim_below(sim, 3) == 0 && model->sessions[asked->session].user == MODEL_NOBODY)
        asked->upgrades = true;
    if (world->guard.waits && !asked->upgrades && sim_below(sim, 2) == 0) {
        world->guard.waits = false;
        asked->user = world->guard.user;
        asked->policy = CR_POLICY_KEEP;
        asked->must_fail = model->end_done[asked->user] > world->guard.read;
        create->has_generation = true;
        create->generation = world->guard.generation;
    }
    (void)snprintf(asked->label, sizeof asked->label, "login-%zu", world->logins++);
    create->user = model_user(asked->user);
    create->policy = asked->policy;
    create->keep_count = asked->policy == CR_POLICY_KEEP_N ? 2 : 0;
    create->address = asked->label;
    create->idle = model->idle;
    create->absolute = model->absolute;
    if (asked->upgrades) {
        create->has_anonymous = true;
        create->anonymous = model->tokens[asked->token].token;
    }
}

static void end_wish(struct world *world, struct wish *wish)
{
    uint64_t what = sim_below(&world->sim, 30);
    struct model_call *asked = &wish->asked;
    asked->kind = what == 0   ? MODEL_END_ALL
                  : what < 12 ? MODEL_END_ONE
                  : what < 20 ? MODEL_END_OTHERS
                              : MODEL_END_USER;
    if (asked->kind == MODEL_END_USER && asked->user == MODEL_NOBODY)
        asked->user = 0;
    wish->user = model_user(asked->user);
    wish->end = (struct cr_end_request){
        .reason = CR_REASON_ADMIN, .by = "sim", .async = sim_below(&world->sim, 10) == 0};
    for (size_t i = 0; i < sizeof wish->end.identity.bytes; i++)
        wish->end.identity.bytes[i] = (unsigned char)sim_below(&world->sim, 256);
}

/* False: that session has been changed often enough. */
static bool write_wish(struct world *world, struct wish *wish)
{
    static const size_t sizes[] = {0, 8, 60, 700, MODEL_DATA_MAX};
    static unsigned char bytes[MODEL_DATA_MAX];
    struct sim *sim = &world->sim;
    struct model_session *session = &world->model.sessions[wish->asked.session];
    bool is_data = sim_below(sim, 2) == 0;
    size_t number = 1 + (is_data ? session->data_count : session->rights_count);
    if (number > MODEL_WRITES)
        return false;
    wish->asked.kind = is_data ? MODEL_DATA : MODEL_RIGHTS;
    wish->asked.expects = sim_below(sim, 3) == 0 ? CR_VERSION_ANY : session->version;
    wish->count = number;
    if (is_data) {
        wish->count = sizes[sim_below(sim, sizeof sizes / sizeof sizes[0])];
        model_data(number, wish->count, bytes);
    } else {
        model_rights(number, bytes);
    }
    wish->asked.bytes = wish->count;
    wish->bytes = bytes;
    return true;
}

/* The generation of the moment; the login itself comes later. */
static void guard_read(struct world *world, size_t user_number)
{
    struct cr_account_row row;
    struct cr_user user = model_user(user_number);
    if (world->guard.waits || user_number == MODEL_NOBODY ||
        cr_store_account_find(world->sim.keeper, &user, &row) != CR_OK)
        return;
    world->guard.waits = true;
    world->guard.user = user_number;
    world->guard.generation = row.generation;
    world->guard.read = world->sim.now;
}

static void account_ask(struct world *world, size_t host, struct wish *wish)
{
    char hash[32]; /* each has a salt of its own */
    uint64_t what = sim_below(&world->sim, 4);
    struct model_call *asked = &wish->asked;
    asked->kind = MODEL_ACCOUNT;
    asked->host = host;
    if (asked->user == MODEL_NOBODY)
        asked->user = 0;
    struct cr_user user = model_user(asked->user);
    (void)snprintf(hash, sizeof hash, "hash-%zu", world->logins++);
    struct cr_account_change change = {.add = what == 0,
                                       .remove = what == 1,
                                       .hash = what == 1 ? NULL : hash,
                                       .ending = {.reason = CR_REASON_PASSWORD, .by = "sim"}};
    cr_engine_account_change(world->sim.hosts[host].engine, &user, &change, answered,
                             call_begin(world, NULL, asked));
}

size_t world_token(struct world *world)
{
    size_t count = world->model.token_count;
    return count - 1 - sim_below(&world->sim, count < WORLD_RECENT ? count : WORLD_RECENT);
}

void world_ask(struct world *world, size_t host, struct worker *worker)
{
    struct sim *sim = &world->sim;
    struct model *model = &world->model;
    struct wish wish = {.asked = {.user = sim_below(sim, MODEL_USERS + 1)}};
    uint64_t what = sim_below(sim, 100);
    if (world->calm && (what < 14 || (what >= 66 && what < 76)) && sim_below(sim, 10) != 0)
        what = 40;
    if (model->token_count == 0)
        what = 0;
    else
        wish.asked.token = what < 16 ? model->token_count - 1 : world_token(world);
    wish.asked.session = model->tokens[wish.asked.token].session;
    wish.token = &model->tokens[wish.asked.token].token;
    wish.id = model->sessions[wish.asked.session].id;
    if (what < 16) {
        login_wish(world, &wish);
    } else if (what < 66) {
        wish.asked.kind = MODEL_VALIDATE;
        wish.asked.strict = sim_below(sim, 10) == 0;
        if (what >= 62)
            wish.asked.kind = MODEL_READ;
    } else if (what < 76) {
        end_wish(world, &wish);
    } else if (what < 92) {
        if (!write_wish(world, &wish))
            return;
    } else if (what < 96) {
        wish.asked.kind = MODEL_ROTATE;
        wish.asked.rotation = sim_below(sim, 2) == 0 ? CR_ROTATE_RENEW : CR_ROTATE_PRIVILEGE;
    } else if (what < 98) {
        account_ask(world, host, &wish);
        return;
    } else {
        guard_read(world, wish.asked.user);
        return;
    }
    wish_carry(world, host, worker, &wish);
}
