/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random histories of several hosts against a plain model of the truth. An acceptance is wrong when
 * it began after an ending of that session had answered done; a refusal is wrong when nobody had
 * asked for any ending of it. Readers of the shared tables go on while their engine is paused, and
 * for a while after it was killed, as workers would.
 *
 * CR_SEED replays a run.
 */
#include "tap.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/internal.h"
#include "sim.h"

#define USERS 3
#define SESSIONS 400
#define HOSTS 3

struct session {
    bool known;
    size_t user;
    struct cr_token token;
    struct cr_session_id id;
    cr_boot_ns asked; /* when somebody first asked for an ending of it; 0: nobody */
    cr_boot_ns done;  /* when an ending of it first answered done; 0: none */
    cr_boot_ns known_at;
    size_t ends_open; /* of this one alone */
    bool shaky;       /* one of those was not answered done */
};

enum kind { LOGIN, VALIDATE, END_ONE, END_USER, END_ALL, RIGHTS };

struct world;
struct call {
    struct world *world;
    enum kind kind;
    size_t user, session, host;
    bool replace, overlapped;
    cr_boot_ns began;
};

struct world {
    struct sim sim;
    struct session sessions[SESSIONS];
    size_t session_count;
    size_t accepted, refused, endings, violations, wrong_refusals, unavailable, read_hits;
    cr_boot_ns bury_at[HOSTS];
    size_t calls;
    /* Ends of users that are under way, or were asked for: a login that commits meanwhile may be
     * hit by them. */
    size_t ends_open[USERS];
    cr_boot_ns last_end_asked[USERS];
    bool shaky[USERS]; /* an ending of theirs was not answered done */
};

static struct cr_user user_number(size_t number)
{
    struct cr_user user = {.length = 1};
    user.bytes[0] = (unsigned char)('a' + number);
    return user;
}

/* An ending of everything that `call` covers was asked for, or has answered. */
static void mark(struct world *world, const struct call *call, bool done)
{
    for (size_t i = 0; i < world->session_count; i++) {
        struct session *session = &world->sessions[i];
        bool covered =
            call->kind == END_ALL || (call->kind == END_ONE && i == call->session) ||
            ((call->kind == END_USER || call->kind == LOGIN) && session->user == call->user);
        if (!covered)
            continue;
        if (!done && session->asked == 0)
            session->asked = world->sim.now;
        /* A session made after the ending was asked for may have outlived it. */
        if (done && session->done == 0 && session->known_at < call->began)
            session->done = world->sim.now;
    }
}

static void check_acceptance(struct world *world, const struct session *session, cr_boot_ns began,
                             const char *who, size_t host)
{
    if (session->done == 0 || session->done >= began)
        return;
    world->violations++;
    tap_note("%s on host %zu accepted %s at %llu, ended at %llu", who, host, session->id.text,
             (unsigned long long)began, (unsigned long long)session->done);
}

static void login_answered(struct call *call, const struct cr_engine_answer *answer)
{
    struct world *world = call->world;
    if (answer->status != CR_OK)
        return;
    if (call->replace)
        mark(world, call, true);
    if (world->session_count == SESSIONS)
        return;
    struct session *session = &world->sessions[world->session_count++];
    *session = (struct session){.known = true,
                                .user = call->user,
                                .token = *answer->token,
                                .id = answer->record->id,
                                .known_at = world->sim.now};
    if (call->overlapped || world->last_end_asked[call->user] > call->began)
        session->asked = call->began;
}

static bool ends_users(const struct call *call)
{
    return call->kind == END_ALL || call->kind == END_USER ||
           (call->kind == LOGIN && call->replace);
}

static void answered(void *context, const struct cr_engine_answer *answer)
{
    struct call *call = context;
    struct world *world = call->world;
    struct session *session = &world->sessions[call->session];
    world->calls--;
    if (ends_users(call))
        for (size_t i = 0; i < USERS; i++)
            if (call->kind == END_ALL || i == call->user) {
                world->ends_open[i]--;
                world->shaky[i] |= answer->status != CR_OK;
            }
    switch (call->kind) {
    case LOGIN:
        login_answered(call, answer);
        break;
    case VALIDATE:
        if (answer->status == CR_OK) {
            world->accepted++;
            check_acceptance(world, session, call->began, "engine", call->host);
            struct cr_user user = user_number(session->user);
            if (!cr_user_equal(&answer->record->user, &user))
                world->violations++;
        } else if (answer->status == CR_ENDED) {
            world->refused++;
            /* Every ending of this user has been answered done, and one of them hit it. */
            if (session->done == 0 && world->ends_open[session->user] == 0 &&
                session->ends_open == 0 && !session->shaky && !world->shaky[session->user])
                session->done = world->sim.now;
            if (session->asked == 0) {
                world->wrong_refusals++;
                tap_note("host %zu refused %s, which nobody ended", call->host, session->id.text);
            }
        } else {
            world->unavailable++;
        }
        break;
    case END_ONE:
        session->ends_open--;
        session->shaky |= answer->status != CR_OK && answer->status != CR_NOT_FOUND;
        __attribute__((fallthrough));
    case END_USER:
    case END_ALL:
        if (answer->status == CR_OK) {
            world->endings++;
            mark(world, call, true);
        }
        break;
    case RIGHTS:
        break;
    }
    free(call);
}

static void ask(struct world *world, size_t host, enum kind kind)
{
    struct cr_engine *engine = world->sim.hosts[host].engine;
    struct sim *sim = &world->sim;
    if (kind != LOGIN && world->session_count == 0)
        return;
    struct call *call = calloc(1, sizeof *call);
    size_t recent = world->session_count < 12 ? world->session_count : 12;
    *call = (struct call){.world = world, .kind = kind, .host = host, .began = sim->now};
    call->user = sim_below(sim, USERS);
    if (kind != LOGIN)
        call->session = world->session_count - 1 - sim_below(sim, recent);
    const struct session *session = &world->sessions[call->session];
    struct cr_user user = user_number(call->user);
    struct cr_end_request end = {.reason = CR_REASON_ADMIN, .by = "sim"};
    struct cr_create_request create = {.user = user};
    world->calls++;
    call->replace = kind == LOGIN && sim_below(sim, 3) == 0;
    call->overlapped = world->ends_open[call->user] > 0;
    if (ends_users(call))
        for (size_t i = 0; i < USERS; i++)
            if (kind == END_ALL || i == call->user) {
                world->ends_open[i]++;
                world->last_end_asked[i] = sim->now;
            }
    switch (kind) {
    case LOGIN:
        create.policy = call->replace ? CR_POLICY_REPLACE : CR_POLICY_KEEP;
        if (call->replace)
            mark(world, call, false);
        cr_engine_create_session(engine, &create, answered, call);
        break;
    case VALIDATE:
        cr_engine_validate(engine, &session->token, sim_below(sim, 10) == 0, answered, call);
        break;
    case END_ONE:
        mark(world, call, false);
        world->sessions[call->session].ends_open++;
        cr_engine_end(engine, &session->id, &end, answered, call);
        break;
    case END_USER:
        mark(world, call, false);
        cr_engine_end_user(engine, &user, &end, answered, call);
        break;
    case END_ALL:
        mark(world, call, false);
        cr_engine_end_all(engine, &end, answered, call);
        break;
    case RIGHTS:
        cr_engine_rights_write(engine, &session->id, "r", 1, answered, call);
        break;
    }
}

/* A worker looks at the table that its host's engine made, dead or alive. */
static void look(struct world *world, size_t host)
{
    struct sim_host *h = &world->sim.hosts[host];
    if (world->session_count == 0 || h->engine == NULL || h->engine->table == NULL ||
        h->engine->cache != CR_CACHE_SHARED)
        return;
    size_t recent = world->session_count < 12 ? world->session_count : 12;
    struct session *session =
        &world->sessions[world->session_count - 1 - sim_below(&world->sim, recent)];
    struct cr_table_view view;
    struct cr_token_hash hash;
    struct cr_entry entry;
    bool used_old;
    cr_token_hash(&session->token, &hash);
    cr_table_own_view(h->engine->table, &view);
    if (cr_table_find(&view, &h->clock, &session->id, &hash, &entry, &used_old)) {
        world->read_hits++;
        check_acceptance(world, session, world->sim.now, "reader", host);
    }
}

/* Pause, continue, cut off, mend, kill, start anew. */
static void disturb(struct world *world, size_t host)
{
    struct sim *sim = &world->sim;
    struct sim_host *h = &sim->hosts[host];
    if (h->engine == NULL) {
        /* A cut-off store is mended for the start; it may fail all the same. */
        (void)!sim_host_start(sim, host, (enum cr_cache)(1 + sim_below(sim, 3)));
        return;
    }
    if (!h->alive)
        return;
    switch (sim_below(sim, 7)) {
    case 0:
        h->paused = true;
        break;
    case 1:
    case 2:
        h->paused = false;
        h->plan.kind = CR_FAULT_NONE;
        break;
    case 3:
        h->plan = (struct cr_fault_plan){.kind = CR_FAULT_UNAVAILABLE, .count = UINT64_MAX};
        break;
    case 4:
        h->plan =
            (struct cr_fault_plan){.kind = sim_below(sim, 2) ? CR_FAULT_LOST : CR_FAULT_NOT_MADE,
                                   .count = 1 + sim_below(sim, 3),
                                   .commits_only = true};
        break;
    case 5:
        if (!h->paused)
            (void)!cr_engine_set_cache(h->engine, (enum cr_cache)(1 + sim_below(sim, 3)),
                                       CR_TABLE_BYTES_MIN);
        break;
    case 6:
        sim_host_kill(sim, host);
        world->bury_at[host] = sim->now + 2000000000ULL + sim_below(sim, 8000) * 1000000;
        break;
    }
}

static void step(struct world *world)
{
    static const enum kind kinds[] = {LOGIN,    LOGIN,    VALIDATE, VALIDATE, VALIDATE, VALIDATE,
                                      VALIDATE, VALIDATE, END_ONE,  END_USER, RIGHTS};
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
        ask(world, host,
            sim_below(sim, 100) == 0 ? END_ALL
                                     : kinds[sim_below(sim, sizeof kinds / sizeof *kinds)]);
    for (size_t i = 0; i < HOSTS; i++)
        look(world, i);
    /* Time moves, so that no two calls begin at one instant. */
    sim_run(sim, 1 + (cr_span_ms)sim_below(sim, sim_below(sim, 5) == 0 ? 600 : 8), NULL);
}

static void run_world(uint64_t seed, size_t steps, struct world *world)
{
    memset(world, 0, sizeof *world);
    sim_init(&world->sim, seed, HOSTS);
    world->sim.rough = true;
    for (size_t i = 0; i < HOSTS; i++)
        (void)!sim_host_start(&world->sim, i, (enum cr_cache)(1 + sim_below(&world->sim, 3)));
    for (size_t i = 0; i < steps && world->violations + world->wrong_refusals == 0; i++)
        step(world);
    sim_fini(&world->sim);
}

static void no_history_accepts_what_has_ended_or_refuses_what_has_not(void)
{
    static struct world world;
    const char *long_run = getenv("CR_LONG");
    double seconds = long_run != NULL ? 120 : 15;
    const char *limit = getenv("CR_SIM_SECONDS");
    if (limit != NULL)
        seconds = strtod(limit, NULL);
    struct timespec begin, now;
    size_t worlds = 0, accepted = 0, refused = 0, endings = 0, reads = 0, unavailable = 0;
    (void)clock_gettime(CLOCK_MONOTONIC, &begin);
    do {
        uint64_t seed = tap_random();
        run_world(seed, 3000, &world);
        worlds++;
        accepted += world.accepted;
        refused += world.refused;
        endings += world.endings;
        reads += world.read_hits;
        unavailable += world.unavailable;
        if (!CHECK(world.violations == 0) || !CHECK(world.wrong_refusals == 0)) {
            tap_note("world %zu, its seed %llu", worlds, (unsigned long long)seed);
            break;
        }
        (void)clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((double)(now.tv_sec - begin.tv_sec) < seconds);
    tap_note("%zu worlds: %zu accepted, %zu read from tables, %zu refused, %zu endings, "
             "%zu could not be said",
             worlds, accepted, reads, refused, endings, unavailable);
    CHECK(accepted > 100 && endings > 10 && refused > 10 && reads > 100);
}

static const struct tap_test tests[] = {
    TAP_TEST(no_history_accepts_what_has_ended_or_refuses_what_has_not),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
