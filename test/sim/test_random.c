/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random histories of several hosts against a plain model of the truth (model.h). Hosts are paused,
 * cut off, killed, stopped and started anew, their caches switched, their queues full; readers of
 * the shared tables go on while their engine is paused, and for a while after it was killed, as
 * workers would. One history in three is of a store that one engine at a time may have: then the
 * hosts are agents of one machine, one after the other.
 *
 * CR_SEED replays a run; CR_SIM_SECONDS is how long it takes.
 */
#include "tap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/internal.h"
#include "model.h"

#define HOSTS 3
#define RECENT 12 /* tokens that are looked at */

struct world {
    struct sim sim;
    struct model model;
    cr_boot_ns bury_at[HOSTS];
    bool calm; /* little is ended: sessions end for their age */
    size_t calls, reads, logins;
    /* A login that has checked a password, and not yet gone on (D11). */
    struct {
        bool waits;
        size_t user;
        uint64_t generation;
        cr_boot_ns read;
    } guard;
};

struct call {
    struct world *world;
    struct model_call call;
};

static void answered(void *context, const struct cr_engine_answer *answer)
{
    struct call *call = context;
    call->world->calls--;
    model_answered(&call->world->model, &call->call, answer);
    free(call);
}

static struct call *call_begin(struct world *world, const struct model_call *asked)
{
    struct call *call = calloc(1, sizeof *call);
    CR_ASSERT(call != NULL);
    *call = (struct call){.world = world, .call = *asked};
    model_asked(&world->model, &call->call);
    world->calls++;
    return call;
}

/* ---- what is asked */

static void ask_login(struct world *world, struct model_call *asked, struct cr_engine *engine)
{
    struct sim *sim = &world->sim;
    struct model *model = &world->model;
    struct cr_create_request request = {0};
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
        request.has_generation = true;
        request.generation = world->guard.generation;
    }
    (void)snprintf(asked->label, sizeof asked->label, "login-%zu", world->logins++);
    struct call *call = call_begin(world, asked);
    request.user = model_user(asked->user);
    request.policy = asked->policy;
    request.keep_count = asked->policy == CR_POLICY_KEEP_N ? 2 : 0;
    request.address = call->call.label;
    request.idle = model->idle;
    request.absolute = model->absolute;
    if (asked->upgrades) {
        request.has_anonymous = true;
        request.anonymous = model->tokens[asked->token].token;
    }
    cr_engine_create_session(engine, &request, answered, call);
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

static void ask_account(struct world *world, struct model_call *asked, struct cr_engine *engine)
{
    char hash[32]; /* each has a salt of its own */
    uint64_t what = sim_below(&world->sim, 4);
    struct cr_user user;
    asked->kind = MODEL_ACCOUNT;
    if (asked->user == MODEL_NOBODY)
        asked->user = 0;
    user = model_user(asked->user);
    (void)snprintf(hash, sizeof hash, "hash-%zu", world->logins++);
    struct cr_account_change change = {.add = what == 0,
                                       .remove = what == 1,
                                       .hash = what == 1 ? NULL : hash,
                                       .ending = {.reason = CR_REASON_PASSWORD, .by = "sim"}};
    cr_engine_account_change(engine, &user, &change, answered, call_begin(world, asked));
}

static void ask_end(struct world *world, struct model_call *asked, struct cr_engine *engine)
{
    struct cr_end_request end = {
        .reason = CR_REASON_ADMIN, .by = "sim", .async = sim_below(&world->sim, 10) == 0};
    const struct cr_session_id id = world->model.sessions[asked->session].id;
    struct cr_user user;
    uint64_t what = sim_below(&world->sim, 30);
    asked->kind = what == 0   ? MODEL_END_ALL
                  : what < 12 ? MODEL_END_ONE
                  : what < 20 ? MODEL_END_OTHERS
                              : MODEL_END_USER;
    if (asked->kind == MODEL_END_USER && asked->user == MODEL_NOBODY)
        asked->user = 0;
    user = model_user(asked->user);
    struct call *call = call_begin(world, asked);
    if (asked->kind == MODEL_END_ALL)
        cr_engine_end_all(engine, &end, answered, call);
    else if (asked->kind == MODEL_END_ONE)
        cr_engine_end(engine, &id, &end, answered, call);
    else if (asked->kind == MODEL_END_OTHERS)
        cr_engine_end_others(engine, &id, &end, answered, call);
    else
        cr_engine_end_user(engine, &user, &end, answered, call);
}

static void ask_write(struct world *world, struct model_call *asked, struct cr_engine *engine)
{
    static const size_t sizes[] = {0, 8, 60, 700, MODEL_DATA_MAX};
    static unsigned char bytes[MODEL_DATA_MAX];
    struct sim *sim = &world->sim;
    struct model_session *session = &world->model.sessions[asked->session];
    bool is_data = sim_below(sim, 2) == 0;
    if ((is_data ? session->data_count : session->rights_count) == MODEL_WRITES)
        return;
    asked->kind = is_data ? MODEL_DATA : MODEL_RIGHTS;
    asked->expects = sim_below(sim, 3) == 0 ? CR_VERSION_ANY : session->version;
    struct call *call = call_begin(world, asked);
    size_t number = call->call.write + 1;
    if (is_data) {
        size_t count = sizes[sim_below(sim, sizeof sizes / sizeof sizes[0])];
        session->data[call->call.write].bytes = count;
        model_data(number, count, bytes);
        cr_engine_data_write(engine, &session->id, asked->expects, bytes, count, answered, call);
    } else {
        memset(bytes, (int)number, number);
        cr_engine_rights_write(engine, &session->id, bytes, number, answered, call);
    }
}

static void ask(struct world *world, size_t host)
{
    struct sim *sim = &world->sim;
    struct model *model = &world->model;
    struct cr_engine *engine = sim->hosts[host].engine;
    struct model_call asked = {.host = host, .user = sim_below(sim, MODEL_USERS + 1)};
    uint64_t what = sim_below(sim, 100);
    if (world->calm && (what < 14 || (what >= 66 && what < 76)) && sim_below(sim, 10) != 0)
        what = 40;
    if (model->token_count == 0 || what < 16) {
        if (model->token_count > 0) {
            asked.token = model->token_count - 1;
            asked.session = model->tokens[asked.token].session;
        }
        ask_login(world, &asked, engine);
        return;
    }
    size_t recent = model->token_count < RECENT ? model->token_count : RECENT;
    asked.token = model->token_count - 1 - sim_below(sim, recent);
    asked.session = model->tokens[asked.token].session;
    const struct cr_token *token = &model->tokens[asked.token].token;
    if (what < 66) {
        asked.kind = MODEL_VALIDATE;
        cr_engine_validate(engine, token, sim_below(sim, 10) == 0, answered,
                           call_begin(world, &asked));
    } else if (what < 76) {
        ask_end(world, &asked, engine);
    } else if (what < 92) {
        ask_write(world, &asked, engine);
    } else if (what < 96) {
        asked.kind = MODEL_ROTATE;
        asked.rotation = sim_below(sim, 2) == 0 ? CR_ROTATE_RENEW : CR_ROTATE_PRIVILEGE;
        cr_engine_rotate(engine, token, asked.rotation, answered, call_begin(world, &asked));
    } else if (what < 98) {
        ask_account(world, &asked, engine);
    } else {
        guard_read(world, asked.user);
    }
}

/* A worker looks at the table that its host's engine made, dead or alive; in direct mode a thread
 * of the engine's own process. */
static void look(struct world *world, size_t host)
{
    static struct cr_entry entry;
    struct sim_host *h = &world->sim.hosts[host];
    struct model *model = &world->model;
    struct cr_table_view view;
    struct cr_token_hash hash;
    struct cr_session_id id;
    bool used_old, found;
    if (model->token_count == 0 || h->engine == NULL || h->engine->table == NULL)
        return;
    size_t recent = model->token_count < RECENT ? model->token_count : RECENT;
    size_t token = model->token_count - 1 - sim_below(&world->sim, recent);
    cr_token_hash(&model->tokens[token].token, &hash);
    cr_token_id(&model->tokens[token].token, &id);
    if (h->engine->cache == CR_CACHE_SHARED) {
        cr_table_own_view(h->engine->table, &view);
        found = cr_table_find(&view, &h->clock, &id, &hash, &entry, &used_old);
    } else {
        found = h->alive && !h->paused && cr_engine_cached(h->engine, &id, &hash, &entry);
    }
    if (!found)
        return;
    struct cr_record record = {.id = entry.id,
                               .user = entry.user,
                               .version = entry.version,
                               .rights_bytes = entry.rights_bytes,
                               .data_bytes = entry.data_bytes};
    record.data = entry.data_bytes <= CR_DATA_CACHED_BYTES_MAX ? entry.data : NULL;
    world->reads++;
    model_accepted(model, token, host, world->sim.now, &record, "reader");
}

/* ---- what goes wrong */

static bool nobody_else_has_it(const struct world *world)
{
    for (size_t i = 0; i < HOSTS; i++)
        if (world->sim.hosts[i].alive)
            return false;
    return true;
}

static void start(struct world *world, size_t host)
{
    /* A cut-off store is mended for the start; it may fail all the same. */
    if (!world->sim.exclusive || nobody_else_has_it(world))
        (void)!sim_host_start(&world->sim, host, (enum cr_cache)(1 + sim_below(&world->sim, 3)));
}

static void mend(struct sim_host *h)
{
    h->paused = false;
    h->plan.kind = CR_FAULT_NONE;
    h->full_count = 0;
}

static void break_store(struct sim *sim, struct sim_host *h)
{
    static const enum cr_status statuses[] = {CR_OK, CR_E_NO_MEMORY, CR_E_IO, CR_E_LIMIT};
    static const enum cr_fault_kind kinds[] = {CR_FAULT_UNAVAILABLE, CR_FAULT_LOST,
                                               CR_FAULT_NOT_MADE, CR_FAULT_WRONG};
    h->plan = (struct cr_fault_plan){
        .kind = kinds[sim_below(sim, 4)],
        .after = sim_below(sim, 4),
        .count = sim_below(sim, 3) == 0 ? UINT64_MAX : 1 + sim_below(sim, 3),
        .status = statuses[sim_below(sim, 4)],
        .commits_only = sim_below(sim, 2) == 0,
    };
}

static void disturb(struct world *world, size_t host)
{
    struct sim *sim = &world->sim;
    struct sim_host *h = &sim->hosts[host];
    if (h->engine == NULL) {
        start(world, host);
        return;
    }
    if (!h->alive)
        return;
    switch (sim_below(sim, 10)) {
    case 0:
        h->paused = true;
        break;
    case 1:
    case 2:
    case 3:
        mend(h);
        break;
    case 4:
    case 5:
        break_store(sim, h);
        break;
    case 6:
        h->full_from = h->submits + sim_below(sim, 20);
        h->full_count = sim_below(sim, 2) == 0 ? 1 : 50;
        break;
    case 7:
        if (!h->paused)
            (void)!cr_engine_set_cache(h->engine, (enum cr_cache)(1 + sim_below(sim, 3)),
                                       CR_TABLE_BYTES_MIN);
        break;
    case 8:
        sim_host_kill(sim, host);
        world->bury_at[host] = sim->now + 2000000000ULL + sim_below(sim, 8000) * 1000000;
        break;
    case 9:
        if (!h->paused)
            sim_host_stop(sim, host);
        break;
    }
}

/* ---- histories */

static void step(struct world *world)
{
    struct sim *sim = &world->sim;
    size_t host = sim_below(sim, HOSTS);
    for (size_t i = 0; i < HOSTS; i++)
        if (world->bury_at[i] != 0 && world->bury_at[i] <= sim->now) {
            sim_host_bury(sim, i);
            world->bury_at[i] = 0;
        }
    if (sim_below(sim, 40) == 0)
        disturb(world, host);
    const struct sim_host *h = &sim->hosts[host];
    if (h->engine != NULL && h->alive && !h->paused && world->calls < 200)
        ask(world, host);
    for (size_t i = 0; i < HOSTS; i++)
        look(world, i);
    /* Time moves, so that no two calls begin at one instant. */
    sim_run(sim, 1 + (cr_span_ms)sim_below(sim, sim_below(sim, 5) == 0 ? 600 : 8), NULL);
}

static void run_world(uint64_t seed, size_t steps, struct world *world)
{
    memset(world, 0, sizeof *world);
    sim_init(&world->sim, seed, HOSTS);
    world->calm = seed % 4 == 1;
    if (world->calm)
        model_init(&world->model, &world->sim, 20000, 60000);
    else
        model_init(&world->model, &world->sim, 600000, 3600000);
    world->sim.rough = true;
    world->sim.exclusive = seed % 3 == 0;
    for (size_t i = 0; i < HOSTS; i++)
        start(world, i);
    for (size_t i = 0; i < steps && world->model.wrong == 0; i++)
        step(world);
    sim_fini(&world->sim);
}

static void no_history_accepts_what_is_over_or_refuses_what_is_not(void)
{
    static struct world world;
    const char *long_run = getenv("CR_LONG");
    double seconds = long_run != NULL ? 120 : 12;
    const char *limit = getenv("CR_SIM_SECONDS");
    if (limit != NULL)
        seconds = strtod(limit, NULL);
    struct timespec begin, now;
    size_t worlds = 0, accepted = 0, refused = 0, endings = 0, reads = 0, unsaid = 0;
    (void)clock_gettime(CLOCK_MONOTONIC, &begin);
    do {
        uint64_t seed = tap_random();
        run_world(seed, 3000, &world);
        worlds++;
        accepted += world.model.accepted - world.reads;
        refused += world.model.refused;
        endings += world.model.endings;
        reads += world.reads;
        unsaid += world.model.unsaid;
        if (!CHECK(world.model.wrong == 0)) {
            tap_note("world %zu, its seed %llu", worlds, (unsigned long long)seed);
            break;
        }
        (void)clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((double)(now.tv_sec - begin.tv_sec) < seconds);
    tap_note("%zu worlds: %zu accepted, %zu read from tables, %zu refused, %zu endings, "
             "%zu could not be said",
             worlds, accepted, reads, refused, endings, unsaid);
    CHECK(accepted > 100 && endings > 10 && refused > 10 && reads > 100);
}

static const struct tap_test tests[] = {
    TAP_TEST(no_history_accepts_what_is_over_or_refuses_what_is_not),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
