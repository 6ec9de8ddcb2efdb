/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random histories against a plain model of the truth (model.h), which is asked after every event:
 * several machines, each with an agent (engine and service, or gone) and workers that map its table
 * and speak with it by real messages. Stores fail, lie, are slow and away; connections are cut;
 * agents are paused, killed, stopped and started anew, their caches switched, their queues full;
 * clocks change their rate, and wall clocks jump; workers and whole machines fall silent, also
 * between two loads of a look at a table, and go on long after. One history in three is of a store
 * that one engine at a time may have: then all agents are of one machine, one after another. At the
 * end of each everything is mended, and all must agree.
 *
 * CR_SEED replays a run, CR_SIM_WORLD one world of it; CR_SIM_SECONDS is how long it takes: 3600 is
 * an hour. README.md has more.
 */
#include "tap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/internal.h"
#include "world.h"

#define STEPS 3000 /* of a world */

/* ---- looks at tables, after every event */

static void entry_accepted(struct world *world, size_t token, size_t host, cr_boot_ns began,
                           struct cr_entry *entry)
{
    struct cr_record record = {.id = entry->id,
                               .user = entry->user,
                               .created_at = entry->created_at,
                               .ends_at = entry->ends_at,
                               .version = entry->version,
                               .rights_bytes = entry->rights_bytes,
                               .data_bytes = entry->data_bytes};
    memcpy(record.rights, entry->rights, entry->rights_bytes);
    record.data = entry->data_bytes <= CR_DATA_CACHED_BYTES_MAX ? entry->data : NULL;
    world->reads++;
    model_accepted(&world->model, token, host, began, &record, "reader");
}

/* A granule after the last use that is known: said to the agent, once a granule. */
static void use_report(struct world *world, struct worker *worker, size_t token,
                       const struct cr_entry *entry)
{
    struct cr_builder seen;
    cr_span_ms granule = CR_GRANULE_MS(entry->idle);
    cr_boot_ns now = world->sim.now;
    if (cr_boot_between(entry->seen, entry->as_of) < granule ||
        (world->told[token] != 0 && cr_boot_between(world->told[token], now) < granule))
        return;
    world->told[token] = now;
    model_used(&world->model, token);
    cr_builder_init(&seen, CR_OP_SEEN, CR_OK, 0);
    cr_builder_bytes(&seen, CR_TAG_ID, entry->id.text, CR_SESSION_ID_CHARS);
    cr_builder_u64(&seen, CR_TAG_BOOT, entry->as_of);
    CR_ASSERT(cr_builder_finish(&seen));
    worker_tell(worker, &seen);
}

static void worker_look(struct world *world, struct worker *worker)
{
    static struct cr_entry entry;
    if (worker->stuck || worker->stopped_until > world->sim.now || worker->memory == NULL)
        return;
    size_t token = world_token(world);
    const struct model_token *t = &world->model.tokens[token];
    if (!worker_find(worker, &t->id, &t->hash, &entry))
        return;
    entry_accepted(world, token, worker->table_slot, world->sim.now, &entry);
    if (sim_below(&world->sim, 4) == 0)
        use_report(world, worker, token, &entry);
}

/* In direct mode: a thread of the engine's own process. */
static void thread_look(struct world *world, size_t host)
{
    static struct cr_entry entry;
    struct sim_host *h = &world->sim.hosts[host];
    if (h->engine == NULL || h->engine->cache != CR_CACHE_MEMORY || !h->alive || h->paused)
        return;
    size_t token = world_token(world);
    const struct model_token *t = &world->model.tokens[token];
    if (cr_engine_cached(h->engine, &t->id, &t->hash, &entry))
        entry_accepted(world, token, host, world->sim.now, &entry);
}

static void world_stepped(void *context)
{
    struct world *world = context;
    world->events++;
    if (world->model.token_count == 0)
        return;
    for (size_t i = 0; i < WORLD_WORKERS; i++)
        worker_look(world, &world->workers[i]);
    for (size_t i = 0; i < WORLD_HOSTS; i++)
        thread_look(world, i);
}

/* ---- what goes wrong */

static size_t agent_of(const struct world *world, size_t machine)
{
    for (size_t i = machine; i < WORLD_HOSTS; i += world->machine_count)
        if (world->sim.hosts[i].alive)
            return i;
    return WORLD_HOSTS;
}

/* In a place that nobody has, if there is one. It may fail. */
static void machine_start(struct world *world, size_t machine)
{
    for (size_t i = machine; i < WORLD_HOSTS; i += world->machine_count)
        if (world->sim.hosts[i].engine == NULL) {
            enum cr_cache cache = (enum cr_cache)(1 + sim_below(&world->sim, 3));
            if (sim_below(&world->sim, 2) == 0)
                cache = CR_CACHE_SHARED;
            (void)!sim_host_start(&world->sim, i, cache);
            return;
        }
}

static void host_leave(struct world *world, size_t host)
{
    for (size_t i = 0; i < WORLD_WORKERS; i++)
        if (world->workers[i].slot == host)
            worker_cut(&world->workers[i], true);
}

static void host_stop(struct world *world, size_t host)
{
    sim_host_stop(&world->sim, host);
    host_leave(world, host);
    sim_service_end(&world->sim, host);
}

static void host_kill(struct world *world, size_t host)
{
    sim_host_kill(&world->sim, host);
    host_leave(world, host);
    /* Its process goes at once; its table when nobody maps it any more. */
    world->bury_at[host] = world->sim.now + 2 * SIM_SECOND + sim_below(&world->sim, 8000) * 1000000;
}

static void mend(struct sim_host *h)
{
    h->paused = false;
    h->plan.kind = CR_FAULT_NONE;
    h->full_count = 0;
    h->slow = 0;
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

static cr_boot_ns silence(struct sim *sim)
{
    static const cr_boot_ns most[] = {300, 3000, 12000};
    return (1 + sim_below(sim, most[sim_below(sim, 3)])) * 1000000;
}

/* The agent with all its workers, or one of these. */
static void fall_silent(struct world *world, size_t machine, struct sim_host *h)
{
    struct sim *sim = &world->sim;
    bool all = sim_below(sim, 3) == 0;
    size_t one = sim_below(sim, WORLD_WORKERS);
    h->paused = all || h->paused;
    for (size_t i = 0; i < WORLD_WORKERS; i++)
        if (all ? i % world->machine_count == machine : i == one)
            world->workers[i].stopped_until = sim->now + silence(sim);
}

static void clock_disturb(struct world *world, size_t machine)
{
    double rate = sim_rate(&world->sim);
    for (size_t i = machine; i < WORLD_HOSTS; i += world->machine_count) {
        sim_host_drift(&world->sim, i, rate);
        world->sim.hosts[i].wall = (cr_time_ms)sim_below(&world->sim, 4000000000000);
    }
}

static void disturb(struct world *world, size_t machine)
{
    struct sim *sim = &world->sim;
    size_t host = agent_of(world, machine);
    if (host == WORLD_HOSTS) {
        machine_start(world, machine);
        return;
    }
    struct sim_host *h = &sim->hosts[host];
    switch (sim_below(sim, 14)) {
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
                                       CR_TABLE_BYTES_MIN * (1 + sim_below(sim, 2)), CR_HUGE_AUTO);
        break;
    case 8:
        host_kill(world, host);
        if (sim_below(sim, 2) == 0)
            machine_start(world, machine); /* at once */
        break;
    case 9:
        if (!h->paused)
            host_stop(world, host);
        break;
    case 10:
        worker_cut(&world->workers[sim_below(sim, WORLD_WORKERS)], false);
        break;
    case 11:
        fall_silent(world, machine, h);
        break;
    case 12:
        clock_disturb(world, machine);
        break;
    case 13:
        h->slow = 20 * SIM_SECOND;
        break;
    }
}

/* ---- histories */

static void step(struct world *world);

static void silence_pass(void *context)
{
    struct world *world = context;
    cr_boot_ns end = world->sim.now + silence(&world->sim);
    sim_run(&world->sim, 1, NULL); /* no two calls begin at one instant */
    while (world->sim.now < end && world->model.wrong == 0)
        step(world);
}

/* A worker is stopped between two loads of a look, and goes on when the world is another. */
static void look_in_silence(struct world *world)
{
    static struct cr_entry entry;
    struct worker *worker = &world->workers[sim_below(&world->sim, WORLD_WORKERS)];
    if (world->model.token_count == 0 || worker->memory == NULL ||
        worker->stopped_until > world->sim.now)
        return;
    size_t token = world_token(world), slot = worker->table_slot;
    struct cr_session_id id = world->model.tokens[token].id;
    struct cr_token_hash hash = world->model.tokens[token].hash;
    cr_boot_ns began = world->sim.now;
    world->in_silence = true;
    world->silences++;
    bool found = worker_find_stopped(worker, &id, &hash, &entry,
                                     (unsigned)sim_below(&world->sim, 8), silence_pass, world);
    world->in_silence = false;
    if (found)
        entry_accepted(world, token, slot, began, &entry);
}

static void bury(struct world *world)
{
    for (size_t i = 0; i < WORLD_HOSTS; i++)
        if (world->bury_at[i] != 0 && world->bury_at[i] <= world->sim.now) {
            sim_host_bury(&world->sim, i);
            world->bury_at[i] = 0;
        }
}

/* ---- crowds: in some worlds tables are full of others, so that entries go, and move */

static void stranger_insert(struct sim_host *h)
{
    static const uint32_t sizes[] = {0, 64, 64, 700};
    struct cr_entry entry = {.idle = 3600000, .user = {.length = 1, .bytes = {'z'}}};
    cr_boot_ns now = cr_clock_boot(&h->clock);
    if (cr_session_id_make(&h->random.random, cr_clock_wall(&h->clock), &entry.id) != CR_OK)
        return;
    entry.seen = now;
    entry.deadline = entry.absolute_until = cr_boot_add(now, entry.idle);
    entry.data_bytes = sizes[(unsigned char)entry.id.text[20] % 4];
    (void)!cr_table_insert(h->engine->table, &entry, cr_table_clock(h->engine->table), now);
}

static void crowd(struct sim_host *h)
{
    struct cr_table_count count;
    if (h->engine == NULL || h->engine->table == NULL || !h->alive || h->paused)
        return;
    cr_table_count(h->engine->table, &count);
    for (int i = 0; i < 500 && count.entries < count.capacity / 50 * 49; i++)
        stranger_insert(h);
}

static void troubles_note(struct sim *sim)
{
    for (size_t i = 0; i < WORLD_HOSTS; i++) {
        struct sim_host *h = &sim->hosts[i];
        if (!h->alive || h->paused || h->plan.kind != CR_FAULT_NONE || h->full_count != 0 ||
            h->slow != 0)
            h->trouble_at = sim->now;
    }
}

static void step(struct world *world)
{
    struct sim *sim = &world->sim;
    size_t machine = sim_below(sim, world->machine_count);
    bury(world);
    if (sim_below(sim, 30) == 0)
        disturb(world, machine);
    troubles_note(sim);
    size_t host = agent_of(world, machine);
    if (world->crowded && host < WORLD_HOSTS)
        crowd(&sim->hosts[host]);
    struct worker *worker = &world->workers[machine + world->machine_count * sim_below(sim, 2)];
    bool can_call = host < WORLD_HOSTS && !sim->hosts[host].paused;
    bool by_message = sim_below(sim, 3) != 0 && !worker->stuck && worker->stopped_until <= sim->now;
    if (can_call && world->calls < WORLD_CALLS_MAX)
        world_ask(world, host, by_message ? worker : NULL);
    if (!world->in_silence && sim_below(sim, 40) == 0)
        look_in_silence(world);
    /* Where sessions end for their age, nobody asks for anything now and then. */
    if (world->calm && sim_below(sim, 400) == 0)
        sim_run(sim, (cr_span_ms)sim_below(sim, 30000), NULL);
    /* Time moves, so that no two calls begin at one instant. */
    sim_run(sim, 1 + (cr_span_ms)sim_below(sim, sim_below(sim, 5) == 0 ? 600 : 8), NULL);
}

static void world_init(struct world *world, uint64_t seed)
{
    static const enum cr_role roles[] = {CR_ROLE_APP, CR_ROLE_HTTP, CR_ROLE_OPERATOR};
    memset(world, 0, sizeof *world);
    sim_init(&world->sim, seed, WORLD_HOSTS);
    world->sim.rough = true;
    world->sim.served = true;
    world->sim.exclusive = seed % 3 == 0;
    world->sim.stepped = world_stepped;
    world->sim.context = world;
    world->calm = seed % 4 == 1;
    world->crowded = seed % 7 == 0;
    if (seed % 8 == 1)
        model_init(&world->model, &world->sim, 20000, 60000);
    else if (seed % 8 == 5)
        model_init(&world->model, &world->sim, 80000, 300000);
    else
        model_init(&world->model, &world->sim, 600000, 3600000);
    for (size_t i = 0; i < WORLD_HOSTS && seed % 5 == 0; i++)
        world->sim.hosts[i].grace = world->model.grace = 3000;
    world->machine_count = world->sim.exclusive ? 1 : WORLD_MACHINES;
    for (size_t i = world->machine_count; i < WORLD_HOSTS; i++)
        sim_host_share_clock(&world->sim, i, i % world->machine_count);
    for (size_t i = 0; i < WORLD_WORKERS; i++) {
        uint64_t slots = 0;
        for (size_t h = i % world->machine_count; h < WORLD_HOSTS; h += world->machine_count)
            slots |= 1ULL << h;
        worker_init(&world->workers[i], &world->sim, roles[sim_below(&world->sim, 3)], slots);
    }
    for (size_t i = 0; i < world->machine_count; i++)
        machine_start(world, i);
}

static void world_fini(struct world *world)
{
    for (size_t i = 0; i < WORLD_WORKERS; i++) {
        world->model.wrong += world->workers[i].wrong;
        worker_fini(&world->workers[i]);
    }
    sim_fini(&world->sim);
}

/* ---- the end of each: all is mended, and all agree */

static void world_wrong(struct world *world, const char *what, const char *about)
{
    world->model.wrong++;
    tap_note("at the end, %s: %s", about, what);
}

static void world_mend(struct world *world)
{
    world->sim.rough = false;
    for (size_t i = 0; i < WORLD_WORKERS; i++)
        world->workers[i].stopped_until = 0;
    for (size_t i = 0; i < WORLD_HOSTS; i++)
        mend(&world->sim.hosts[i]);
    /* Dead ones are buried by then, and what was held up has run out. */
    for (int i = 0; i < 40; i++) {
        sim_run(&world->sim, 1000, NULL);
        bury(world);
        for (size_t m = 0; i == 20 && m < world->machine_count; m++)
            if (agent_of(world, m) == WORLD_HOSTS)
                machine_start(world, m);
    }
}

static bool changes_soon(const struct cr_record *record)
{
    return record->dead == CR_REASON_IDLE || record->dead == CR_REASON_ABSOLUTE ||
           record->idle_left < 5000 || record->absolute_left < 5000 ||
           (record->old_left > 0 && record->old_left < 5000);
}

/* What the store itself says. CR_BUSY: that is about to change by time alone. */
static enum cr_status truth_of(const struct world *world, const struct model_token *t)
{
    struct cr_record record = {0};
    enum cr_status st = cr_store_find(world->sim.keeper, &t->id, &record);
    bool lives =
        st == CR_OK && record.dead == CR_REASON_NONE && cr_engine_record_matches(&record, &t->hash);
    if (st == CR_OK && changes_soon(&record))
        st = CR_BUSY;
    else if (st == CR_OK || st == CR_NOT_FOUND)
        st = lives ? CR_OK : CR_ENDED;
    cr_record_fini(&record);
    return st;
}

static void agreement_check(struct world *world, size_t host, const struct model_token *t)
{
    struct sim *sim = &world->sim;
    struct sim_answer answer = {.sim = sim};
    enum cr_status truth = truth_of(world, t);
    cr_engine_validate(sim->hosts[host].engine, &t->token, false, sim_answered, &answer);
    sim_run(sim, 2000, &answer.done);
    if (!answer.done || answer.status == CR_UNAVAILABLE)
        world_wrong(world, "it is mended, and does not answer", t->id.text);
    else if (truth != CR_BUSY && answer.status != truth)
        world_wrong(world, cr_status_name(answer.status), t->id.text);
}

/* Within 1.22 leases of 5 s, and grace, by the slowest clock, and two polls. */
static void ending_check(struct world *world, size_t host)
{
    struct sim *sim = &world->sim;
    struct sim_answer answer = {.sim = sim};
    struct cr_user user = model_user(0);
    struct cr_end_request end = {.reason = CR_REASON_ADMIN, .by = "sim"};
    cr_engine_end_user(sim->hosts[host].engine, &user, &end, sim_answered, &answer);
    sim_run(sim, 9000 + 2 * world->model.grace, &answer.done);
    if (!answer.done || (answer.status != CR_OK && answer.status != CR_UNKNOWN_USER))
        world_wrong(world, answer.done ? cr_status_name(answer.status) : "no answer", "an ending");
    sim_run(sim, 10000, &answer.done); /* the answer is of this function */
}

static void world_settle(struct world *world)
{
    world_mend(world);
    if (world->calls > 0)
        world_wrong(world, "it was never answered", "a call");
    size_t first = world->model.token_count > 20 ? world->model.token_count - 20 : 0;
    for (size_t m = 0; m < world->machine_count && world->model.wrong == 0; m++) {
        size_t host = agent_of(world, m);
        if (host == WORLD_HOSTS) {
            world_wrong(world, "it does not start", "an agent");
            continue;
        }
        for (size_t i = first; i < world->model.token_count; i++)
            agreement_check(world, host, &world->model.tokens[i]);
        ending_check(world, host);
    }
}

static void run_world(struct world *world, uint64_t seed, size_t steps)
{
    world_init(world, seed);
    for (size_t i = 0; i < steps && world->model.wrong == 0; i++)
        step(world);
    if (world->model.wrong == 0)
        world_settle(world);
    world_fini(world);
}

struct totals {
    size_t worlds, events, accepted, reads, refused, endings, unsaid;
    size_t silences, replies, repeats, cuts;
    double simulated;
};

static void totals_add(struct totals *totals, const struct world *world)
{
    totals->worlds++;
    totals->events += world->events;
    totals->accepted += world->model.accepted - world->reads;
    totals->reads += world->reads;
    totals->refused += world->model.refused;
    totals->endings += world->model.endings;
    totals->unsaid += world->model.unsaid;
    totals->silences += world->silences;
    totals->simulated += (double)world->sim.now / (double)SIM_SECOND;
    for (size_t i = 0; i < WORLD_WORKERS; i++) {
        totals->replies += world->workers[i].replies;
        totals->repeats += world->workers[i].repeats;
        totals->cuts += world->workers[i].cuts;
    }
}

static void totals_tell(const struct totals *t)
{
    tap_note("told: CR_SEED=%llu: %zu worlds, %zu events, %.0f simulated seconds: %zu accepted by "
             "engines, %zu read "
             "from tables, %zu refused, %zu endings, %zu could not be said",
             (unsigned long long)tap_seed(), t->worlds, t->events, t->simulated, t->accepted,
             t->reads, t->refused, t->endings, t->unsaid);
    tap_note("told: %zu looks stopped half-way, %zu replies, %zu cuts, %zu requests sent again",
             t->silences, t->replies, t->cuts, t->repeats);
}

static double seconds_to_run(void)
{
    const char *limit = getenv("CR_SIM_SECONDS");
    if (limit != NULL)
        return strtod(limit, NULL);
    return getenv("CR_LONG") != NULL ? 120 : 15;
}

static double seconds_now(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void no_history_accepts_what_is_over_or_refuses_what_is_not(void)
{
    static struct world world;
    struct totals totals = {0};
    const char *one = getenv("CR_SIM_WORLD");
    double end = seconds_now() + seconds_to_run();
    do {
        uint64_t seed = one != NULL ? strtoull(one, NULL, 10) : tap_random();
        run_world(&world, seed, STEPS);
        totals_add(&totals, &world);
        if (!CHECK(world.model.wrong == 0)) {
            tap_note("world %zu: CR_SIM_WORLD=%llu", totals.worlds, (unsigned long long)seed);
            break;
        }
    } while (one == NULL && seconds_now() < end);
    totals_tell(&totals);
    CHECK(one != NULL || (totals.accepted > 100 && totals.endings > 10 && totals.refused > 10 &&
                          totals.reads > 100 && totals.replies > 100 && totals.silences > 10));
}

static const struct tap_test tests[] = {
    TAP_TEST(no_history_accepts_what_is_over_or_refuses_what_is_not),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
