/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated hosts: loops, pools whose work takes time, clocks that differ in rate. */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

#define POOL_THREADS_MAX 8

/* One batch under way on one simulated thread. */
struct sim_run {
    bool busy, ran;
    cr_boot_ns due; /* of the next of the two: made, answered */
    struct cr_work *batch[SIM_BATCH_MAX];
    size_t count;
};

struct sim_pool {
    struct cr_pool pool;
    struct sim_pool *next;
    struct cr_works waiting;
    bool stopping; /* takes no more */
    struct sim_run runs[POOL_THREADS_MAX];
};

uint64_t sim_below(struct sim *sim, uint64_t bound)
{
    return cr_random_seeded_next(&sim->random) % bound;
}

/* Of half a store call: short, and with `rough` now and then very long. */
static cr_boot_ns latency(const struct sim_host *host)
{
    static const cr_boot_ns most[] = {3000000,  1000000,  1000000,   1000000,
                                      20000000, 50000000, 300000000, 3000000000};
    struct sim *sim = host->sim;
    if (sim->slow != 0)
        return sim->slow;
    if (host->slow != 0)
        return 1 + sim_below(sim, host->slow);
    return 1 + sim_below(sim, most[sim->rough ? sim_below(sim, sizeof most / sizeof *most) : 0]);
}

static struct sim_host *host_of(struct cr_loop *loop)
{
    return (struct sim_host *)(void *)loop;
}

static cr_boot_ns host_boot(struct cr_clock *clock)
{
    struct sim_host *host =
        (struct sim_host *)(void *)((char *)clock - offsetof(struct sim_host, clock));
    return host->boot_start + (cr_boot_ns)((double)host->sim->now * host->rate);
}

static cr_time_ms host_wall(struct cr_clock *clock)
{
    return ((struct sim_host *)(void *)((char *)clock - offsetof(struct sim_host, clock)))->wall;
}

double sim_rate(struct sim *sim)
{
    return 0.955 + (double)sim_below(sim, 90) / 1000.0;
}

void sim_host_drift(struct sim *sim, size_t index, double rate)
{
    struct sim_host *host = &sim->hosts[index];
    host->boot_start =
        cr_clock_boot(&host->clock) - (cr_boot_ns)((double)sim->now * rate); /* may wrap */
    host->rate = rate;
}

void sim_host_share_clock(struct sim *sim, size_t index, size_t other)
{
    sim->hosts[index].rate = sim->hosts[other].rate;
    sim->hosts[index].boot_start = sim->hosts[other].boot_start;
}

static void host_timer_set(struct cr_loop *loop, struct cr_timer *timer, cr_boot_ns due)
{
    cr_timers_set(&host_of(loop)->timers, timer, due);
}

static void host_timer_stop(struct cr_loop *loop, struct cr_timer *timer)
{
    cr_timers_stop(&host_of(loop)->timers, timer);
}

static enum cr_status host_pool_create(struct cr_loop *loop, const struct cr_pool_options *options,
                                       struct cr_pool **out_pool)
{
    struct sim_pool *pool = calloc(1, sizeof *pool);
    CR_ASSERT(pool != NULL && options->threads <= POOL_THREADS_MAX);
    CR_ASSERT(options->batch_max <= SIM_BATCH_MAX);
    pool->pool = (struct cr_pool){.loop = loop, .options = *options};
    pool->next = host_of(loop)->pools;
    host_of(loop)->pools = pool;
    *out_pool = &pool->pool;
    return CR_OK;
}

static void run_start(const struct sim_host *host, struct sim_pool *pool, struct sim_run *run)
{
    run->count = cr_works_take_batch(&pool->waiting, run->batch, pool->pool.options.batch_max);
    run->busy = run->count > 0;
    run->ran = false;
    run->due = host->sim->now + latency(host);
}

static bool host_pool_submit(struct cr_pool *base, struct cr_work *work)
{
    struct sim_pool *pool = (struct sim_pool *)(void *)base;
    struct sim_host *host = host_of(base->loop);
    uint64_t number = host->submits++;
    if (number >= host->full_from && number - host->full_from < host->full_count)
        return false;
    if (pool->stopping || pool->waiting.count >= base->options.queue_max)
        return false;
    cr_works_add(&pool->waiting, work);
    for (unsigned i = 0; i < base->options.threads; i++)
        if (!pool->runs[i].busy) {
            run_start(host, pool, &pool->runs[i]);
            break;
        }
    return true;
}

static void run_step(const struct sim_host *host, struct sim_pool *pool, struct sim_run *run,
                     unsigned thread);

static void host_pool_destroy(struct cr_pool *base)
{
    struct sim_host *host = host_of(base->loop);
    struct sim_pool *pool = (struct sim_pool *)(void *)base, **link = &host->pools;
    /* What runs is waited for; what waits is dropped. A killed host's calls went nowhere. */
    pool->stopping = true;
    pool->waiting = (struct cr_works){0};
    for (unsigned i = 0; i < base->options.threads && host->alive; i++)
        while (pool->runs[i].busy)
            run_step(host, pool, &pool->runs[i], i);
    while (*link != pool)
        link = &(*link)->next;
    *link = pool->next;
    free(pool);
}

static const struct cr_loop_ops host_ops = {
    .timer_set = host_timer_set,
    .timer_stop = host_timer_stop,
    .pool_create = host_pool_create,
    .pool_submit = host_pool_submit,
    .pool_destroy = host_pool_destroy,
};

void sim_init(struct sim *sim, uint64_t seed, size_t hosts)
{
    static unsigned worlds;
    memset(sim, 0, sizeof *sim);
    sim->now = 1000000000;
    cr_random_seeded_init(&sim->random, seed);
    cr_clock_fake_init(&sim->store_clock, 1700000000000);
    sim->store_env.clock = &sim->store_clock.clock;
    sim->store_env.random = &sim->random.random;
    (void)snprintf(sim->url, sizeof sim->url, "memory:sim-%u", worlds++);
    sim->host_count = hosts;
    CR_ASSERT(cr_store_open(sim->url, &sim->store_env, &sim->keeper, NULL) == CR_OK);
    for (size_t i = 0; i < hosts; i++) {
        struct sim_host *host = &sim->hosts[i];
        host->sim = sim;
        host->clock = (struct cr_clock){.boot = host_boot, .wall = host_wall};
        host->loop = (struct cr_loop){.ops = &host_ops, .clock = &host->clock};
        host->rate = sim_rate(sim);
        host->boot_start = sim_below(sim, 1000000000000);
        cr_random_seeded_init(&host->random, cr_random_seeded_next(&sim->random));
    }
}

static void host_table_changed(void *context, int fd)
{
    struct sim_host *host = context;
    host->table_changes++;
    if (host->service != NULL)
        cr_service_table_changed(host->service, fd);
}

static enum cr_status engine_start(struct sim_host *host, enum cr_cache cache,
                                   struct cr_store *store)
{
    struct sim *sim = host->sim;
    char label[] = "sim"; /* gone when the engine registers anew */
    struct cr_engine_options options = {
        .loop = &host->loop,
        .random = &host->random.random,
        .store = store,
        .label = label,
        .cache = cache,
        .cache_bytes = CR_TABLE_BYTES_MIN,
        .idle = 600000,
        .absolute = 3600000,
        .grace = host->grace,
        .table_changed = host_table_changed,
        .context = host,
    };
    if (sim->exclusive && store != NULL) {
        sim->exclusive_ops = *store->ops;
        sim->exclusive_ops.exclusive = true;
        store->ops = &sim->exclusive_ops;
        sim_host_share_clock(sim, (size_t)(host - sim->hosts), 0);
    }
    host->paused = false;
    host->alive = true;
    host->life++;
    enum cr_status st = cr_engine_create(&options, &host->engine, NULL);
    memset(label, 'x', sizeof label - 1);
    if (st == CR_OK && sim->served)
        st = cr_service_create(
            &(struct cr_service_options){.engine = host->engine, .realm = "cloakroom"},
            &host->service);
    if (st != CR_OK)
        host->alive = false;
    return st;
}

enum cr_status sim_host_start(struct sim *sim, size_t index, enum cr_cache cache)
{
    struct sim_host *host = &sim->hosts[index];
    struct cr_store *inner = NULL, *store = NULL;
    CR_ASSERT(host->engine == NULL);
    host->plan = (struct cr_fault_plan){.kind = CR_FAULT_NONE};
    enum cr_status st = cr_store_open(sim->url, &sim->store_env, &inner, NULL);
    if (st == CR_OK && host->store_opened != NULL)
        host->store_opened(inner);
    if (st == CR_OK)
        st = cr_store_fault_create(inner, &host->plan, &store);
    if (st == CR_OK)
        st = engine_start(host, cache, store);
    return st;
}

enum cr_status sim_host_start_bare(struct sim *sim, size_t index, enum cr_cache cache)
{
    CR_ASSERT(sim->hosts[index].engine == NULL);
    return engine_start(&sim->hosts[index], cache, NULL);
}

void sim_host_stop(struct sim *sim, size_t index)
{
    struct sim_host *host = &sim->hosts[index];
    if (host->service != NULL)
        cr_service_stop(host->service);
    cr_engine_destroy(host->engine);
    host->engine = NULL;
    host->alive = false;
}

void sim_service_end(struct sim *sim, size_t index)
{
    cr_service_destroy(sim->hosts[index].service);
    sim->hosts[index].service = NULL;
}

void sim_host_kill(struct sim *sim, size_t index)
{
    sim->hosts[index].alive = false;
}

void sim_host_bury(struct sim *sim, size_t index)
{
    struct sim_host *host = &sim->hosts[index];
    if (host->engine == NULL)
        return;
    host->alive = false;
    host->plan = (struct cr_fault_plan){.kind = CR_FAULT_UNAVAILABLE, .count = UINT64_MAX};
    cr_engine_destroy(host->engine);
    host->engine = NULL;
    sim_service_end(sim, index);
}

void sim_fini(struct sim *sim)
{
    for (size_t i = 0; i < sim->host_count; i++)
        sim_host_bury(sim, i);
    cr_store_destroy(sim->keeper);
}

static bool run_due(const struct sim_run *run, cr_boot_ns now)
{
    return run->busy && run->due <= now;
}

static void run_step(const struct sim_host *host, struct sim_pool *pool, struct sim_run *run,
                     unsigned thread)
{
    if (!run->ran) {
        run->ran = true;
        run->due = host->sim->now + latency(host);
        pool->pool.options.run(pool->pool.options.context, thread, run->batch, run->count);
        return;
    }
    struct sim_run finished = *run;
    run_start(host, pool, run);
    for (size_t i = 0; i < finished.count; i++)
        finished.batch[i]->done(finished.batch[i]);
}

static void host_step(struct sim *sim, struct sim_host *host)
{
    for (struct sim_pool *pool = host->pools; pool != NULL; pool = pool->next)
        for (unsigned i = 0; i < pool->pool.options.threads; i++)
            if (run_due(&pool->runs[i], sim->now))
                run_step(host, pool, &pool->runs[i], i);
    cr_timers_fire(&host->timers, cr_clock_boot(&host->clock));
}

static cr_boot_ns host_next(const struct sim_host *host)
{
    cr_boot_ns next = cr_timers_next(&host->timers);
    if (next != CR_BOOT_NEVER) {
        /* The start may be before 0, and wrap. */
        double world = (double)(int64_t)(next - host->boot_start) / host->rate + 1000;
        next = world > 0 ? (cr_boot_ns)world : 0;
    }
    for (const struct sim_pool *pool = host->pools; pool != NULL; pool = pool->next)
        for (unsigned i = 0; i < pool->pool.options.threads; i++)
            if (pool->runs[i].busy && pool->runs[i].due < next)
                next = pool->runs[i].due;
    return next;
}

static void sim_move(struct sim *sim, cr_boot_ns to)
{
    if (to <= sim->now)
        to = sim->now + 1000;
    /* The store's clock shows whole milliseconds of the same world. */
    sim->store_clock.now_wall += (cr_span_ms)(to / CR_NS_PER_MS - sim->now / CR_NS_PER_MS);
    sim->store_clock.now_boot += to - sim->now;
    sim->now = to;
}

void sim_run(struct sim *sim, cr_span_ms span, const bool *until)
{
    cr_boot_ns end = cr_boot_add(sim->now, span);
    while (sim->now < end && (until == NULL || !*until)) {
        cr_boot_ns next = end;
        for (size_t i = 0; i < sim->host_count; i++) {
            const struct sim_host *host = &sim->hosts[i];
            if (host->alive && !host->paused && host_next(host) < next)
                next = host_next(host);
        }
        for (const struct sim_actor *actor = sim->actors; actor != NULL; actor = actor->next)
            if (actor->next_time(actor) < next)
                next = actor->next_time(actor);
        sim_move(sim, next);
        for (size_t i = 0; i < sim->host_count; i++)
            if (sim->hosts[i].alive && !sim->hosts[i].paused)
                host_step(sim, &sim->hosts[i]);
        for (struct sim_actor *actor = sim->actors; actor != NULL; actor = actor->next)
            actor->step(actor);
        if (sim->stepped != NULL)
            sim->stepped(sim->context);
    }
}

void sim_answered(void *context, const struct cr_engine_answer *answer)
{
    struct sim_answer *out = context;
    CR_ASSERT(!out->done);
    out->done = true;
    out->status = answer->status;
    out->ending = answer->ending;
    out->bound = answer->bound;
    out->as_of = answer->as_of;
    out->version = answer->version;
    out->at = out->sim != NULL ? out->sim->now : 0;
    if (answer->record != NULL) {
        out->id = answer->record->id;
        out->user = answer->record->user;
        out->rights_bytes = answer->record->rights_bytes;
        out->data_bytes = answer->record->data_bytes;
    }
    if (answer->token != NULL)
        out->token = *answer->token;
    if (answer->explanation != NULL) {
        out->reason = answer->explanation->reason;
        out->live = answer->explanation->live;
    }
}
