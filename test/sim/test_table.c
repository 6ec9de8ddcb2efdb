/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table in front of an application's own sessions: fills race with invalidations, in simulated
 * histories with agents that die and are replaced, and in threads.
 *
 * The application's database holds for each key which session it is of: a number that goes up with
 * each ending. An entry carries the number that its filler read. It is wrong to find one that was
 * ended, and answered done, before the look began.
 */
#include "tap.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/internal.h"
#include "sim.h"

#define KEYS 24
#define USERS 3 /* of key k: k % USERS */
#define TTL_MS 600000

static struct cr_user user_of(size_t key)
{
    struct cr_user user = {.length = 1};
    user.bytes[0] = (unsigned char)('a' + key % USERS);
    return user;
}

static void key_of(size_t key, struct cr_session_id *out_id, struct cr_token_hash *out_hash)
{
    char text[16];
    (void)snprintf(text, sizeof text, "key %zu", key);
    cr_engine_table_key(text, strlen(text), out_id, out_hash);
}

static void entry_of(size_t key, uint64_t number, cr_boot_ns now, struct cr_entry *out)
{
    struct cr_token_hash hash;
    memset(out, 0, offsetof(struct cr_entry, rights));
    key_of(key, &out->id, &hash);
    memcpy(out->hash, hash.bytes, sizeof out->hash);
    out->user = user_of(key);
    out->seen = now;
    out->idle = CR_SPAN_MS_MAX;
    out->deadline = cr_boot_add(now, TTL_MS);
    out->absolute_until = out->deadline;
    out->data_bytes = sizeof number;
    memcpy(out->data, &number, sizeof number);
}

static uint64_t number_of(const struct cr_entry *entry)
{
    uint64_t number;
    memcpy(&number, entry->data, sizeof number);
    return number;
}

static void fill(struct cr_engine *engine, size_t key, uint64_t number, uint64_t stamp)
{
    static struct cr_entry entry;
    entry_of(key, number, cr_engine_now(engine), &entry);
    cr_engine_table_fill(engine, &entry, stamp);
}

static bool look(struct cr_engine *engine, size_t key, uint64_t *out_number)
{
    static struct cr_entry entry;
    struct cr_session_id id;
    struct cr_token_hash hash;
    key_of(key, &id, &hash);
    bool found = cr_engine_cached(engine, &id, &hash, &entry);
    if (found)
        *out_number = number_of(&entry);
    return found;
}

enum ending { END_KEY, END_USER, END_ALL, ENDINGS };

static void end(struct cr_engine *engine, enum ending ending, size_t key, cr_engine_done *done,
                void *context)
{
    struct cr_end_request request = {.reason = CR_REASON_ADMIN, .by = "test"};
    struct cr_user user = user_of(key);
    struct cr_session_id id;
    struct cr_token_hash hash;
    key_of(key, &id, &hash);
    switch (ending) {
    case END_KEY:
        cr_engine_end(engine, &id, &request, done, context);
        break;
    case END_USER:
        cr_engine_end_user(engine, &user, &request, done, context);
        break;
    case END_ALL:
    case ENDINGS:
        cr_engine_end_all(engine, &request, done, context);
        break;
    }
}

static bool covers(enum ending ending, size_t ended, size_t key)
{
    return ending == END_ALL || (ending == END_USER && ended % USERS == key % USERS) ||
           ended == key;
}

/* ---- one after the other */

static void a_fill_that_was_begun_before_an_invalidation_is_refused(void)
{
    for (int ending = END_KEY; ending < ENDINGS; ending++) {
        struct sim sim;
        struct sim_answer ended = {.sim = &sim};
        uint64_t number = 0;
        sim_init(&sim, tap_random(), 1);
        CHECK_STATUS(sim_host_start_bare(&sim, 0, CR_CACHE_MEMORY), CR_OK);
        struct cr_engine *engine = sim.hosts[0].engine;
        uint64_t stamp = cr_engine_table_clock(engine);
        end(engine, (enum ending)ending, 1, sim_answered, &ended);
        CHECK(ended.done);
        CHECK_STATUS(ended.status, CR_OK);
        fill(engine, 1, 1, stamp);
        CHECK(!look(engine, 1, &number));
        fill(engine, 1, 2, cr_engine_table_clock(engine));
        CHECK(look(engine, 1, &number));
        CHECK_UINT(number, 2);
        sim_fini(&sim);
    }
}

static void a_fill_that_was_begun_over_another_table_is_refused(void)
{
    static const enum cr_cache between[] = {CR_CACHE_NONE, CR_CACHE_SHARED};
    for (size_t i = 0; i < 2; i++) {
        struct sim sim;
        uint64_t number = 0;
        sim_init(&sim, tap_random(), 1);
        CHECK_STATUS(sim_host_start_bare(&sim, 0, CR_CACHE_MEMORY), CR_OK);
        struct cr_engine *engine = sim.hosts[0].engine;
        uint64_t before = cr_engine_table_clock(engine);
        CHECK_STATUS(cr_engine_set_cache(engine, between[i], CR_TABLE_BYTES_MIN, CR_HUGE_AUTO),
                     CR_OK);
        uint64_t meanwhile = cr_engine_table_clock(engine);
        CHECK_STATUS(cr_engine_set_cache(engine, CR_CACHE_MEMORY, CR_TABLE_BYTES_MIN, CR_HUGE_AUTO),
                     CR_OK);
        fill(engine, 1, 1, before);
        CHECK(!look(engine, 1, &number));
        fill(engine, 1, 1, meanwhile);
        CHECK(!look(engine, 1, &number));
        fill(engine, 1, 1, UINT64_MAX);
        CHECK(!look(engine, 1, &number));
        fill(engine, 1, 1, cr_engine_table_clock(engine));
        CHECK(look(engine, 1, &number));
        sim_fini(&sim);
    }
}

/* ---- histories */

struct ticket {
    size_t key;
    uint64_t number, stamp;
    unsigned engine; /* 0: free. A ticket of another connection is not sent (room/table.c) */
};

struct history {
    struct sim sim;
    uint64_t numbers[KEYS];
    cr_boot_ns over[KEYS][4096]; /* by number: when its ending was answered; 0: not yet */
    struct ticket tickets[32];
    unsigned engines, engine_of[2];
    cr_boot_ns bury_at[2];
    size_t found, wrong, ended;
};

struct ending_call {
    struct history *history;
    enum ending ending;
    size_t key;
    uint64_t before[KEYS]; /* the numbers that it ended */
};

static void ending_answered(void *context, const struct cr_engine_answer *answer)
{
    struct ending_call *call = context;
    struct history *history = call->history;
    for (size_t key = 0; key < KEYS && answer->status == CR_OK; key++)
        if (covers(call->ending, call->key, key))
            for (uint64_t n = 0; n <= call->before[key]; n++)
                if (history->over[key][n] == 0)
                    history->over[key][n] = history->sim.now;
    history->ended += answer->status == CR_OK;
    free(call);
}

/* The application commits; then it invalidates. */
static void history_end(struct history *history, struct cr_engine *engine)
{
    struct sim *sim = &history->sim;
    struct ending_call *call = calloc(1, sizeof *call);
    CR_ASSERT(call != NULL);
    *call = (struct ending_call){
        .history = history,
        .ending = sim_below(sim, 20) == 0 ? END_ALL : (enum ending)sim_below(sim, 2),
        .key = sim_below(sim, KEYS),
    };
    for (size_t key = 0; key < KEYS; key++) {
        call->before[key] = history->numbers[key];
        if (covers(call->ending, call->key, key) && history->numbers[key] < 4095)
            history->numbers[key]++;
    }
    end(engine, call->ending, call->key, ending_answered, call);
}

static void history_fill(struct history *history, size_t host)
{
    struct sim *sim = &history->sim;
    struct cr_engine *engine = sim->hosts[host].engine;
    struct ticket *ticket = &history->tickets[sim_below(sim, 32)];
    if (ticket->engine == 0) {
        ticket->engine = history->engine_of[host];
        ticket->stamp = cr_engine_table_clock(engine);
        ticket->key = sim_below(sim, KEYS);
        ticket->number = history->numbers[ticket->key];
        return;
    }
    if (ticket->engine == history->engine_of[host])
        fill(engine, ticket->key, ticket->number, ticket->stamp);
    ticket->engine = 0;
}

static void history_look(struct history *history, size_t host)
{
    static struct cr_entry entry;
    struct sim_host *h = &history->sim.hosts[host];
    struct cr_table_view view;
    struct cr_session_id id;
    struct cr_token_hash hash;
    bool used_old;
    size_t key = sim_below(&history->sim, KEYS);
    if (h->engine == NULL || h->engine->table == NULL || h->engine->cache != CR_CACHE_SHARED)
        return;
    key_of(key, &id, &hash);
    cr_table_own_view(h->engine->table, &view);
    if (!cr_table_find(&view, &h->clock, &id, &hash, &entry, &used_old))
        return;
    cr_boot_ns over = history->over[key][number_of(&entry)];
    history->found++;
    if (over == 0 || over >= history->sim.now)
        return;
    history->wrong++;
    tap_note("key %zu: number %llu found at %llu, ended at %llu", key,
             (unsigned long long)number_of(&entry), (unsigned long long)history->sim.now,
             (unsigned long long)over);
}

static void agent_start(struct history *history, size_t host)
{
    static const enum cr_cache caches[] = {CR_CACHE_SHARED, CR_CACHE_SHARED, CR_CACHE_NONE};
    struct sim_host *h = &history->sim.hosts[host];
    h->rate = history->sim.hosts[0].rate; /* one machine */
    h->boot_start = history->sim.hosts[0].boot_start;
    CHECK_STATUS(sim_host_start_bare(&history->sim, host, CR_CACHE_SHARED), CR_OK);
    (void)!cr_engine_set_cache(h->engine, caches[sim_below(&history->sim, 3)], CR_TABLE_BYTES_MIN,
                               CR_HUGE_AUTO);
    history->engine_of[host] = ++history->engines;
}

/* One agent at a time; a dead one's table is read until it is buried. */
static void history_step(struct history *history)
{
    struct sim *sim = &history->sim;
    size_t host = sim->hosts[0].alive ? 0 : 1;
    struct sim_host *h = &sim->hosts[host];
    for (size_t i = 0; i < 2; i++)
        if (history->bury_at[i] != 0 && history->bury_at[i] <= sim->now) {
            sim_host_bury(sim, i);
            history->bury_at[i] = 0;
        }
    if (!h->alive) {
        host = sim->hosts[0].engine == NULL ? 0 : 1;
        if (sim->hosts[host].engine == NULL)
            agent_start(history, host);
    } else if (sim_below(sim, 300) == 0) {
        sim_host_kill(sim, host);
        history->bury_at[host] = sim->now + 1500000000;
    } else if (sim_below(sim, 300) == 0) {
        (void)!cr_engine_set_cache(h->engine, (enum cr_cache)(1 + sim_below(sim, 3)),
                                   CR_TABLE_BYTES_MIN, CR_HUGE_AUTO);
    } else if (sim_below(sim, 12) == 0) {
        history_end(history, h->engine);
    } else {
        history_fill(history, host);
    }
    for (int i = 0; i < 4; i++)
        history_look(history, sim_below(sim, 2));
    sim_run(sim, 1 + (cr_span_ms)sim_below(sim, sim_below(sim, 30) == 0 ? 400 : 6), NULL);
}

static void no_history_finds_what_was_invalidated(void)
{
    size_t found = 0, ended = 0;
    for (int round = 0; round < 40; round++) {
        static struct history history;
        memset(&history, 0, sizeof history);
        sim_init(&history.sim, tap_random(), 2);
        for (int i = 0; i < 4000 && history.wrong == 0; i++)
            history_step(&history);
        sim_fini(&history.sim);
        found += history.found;
        ended += history.ended;
        if (!CHECK(history.wrong == 0))
            break;
    }
    tap_note("%zu found, %zu endings", found, ended);
    CHECK(found > 1000 && ended > 1000);
}

/* ---- threads: direct mode's way, calls under a lock, looks without */

struct race {
    struct cr_engine *engine;
    struct cr_loop *loop;
    pthread_mutex_t lock;
    _Atomic uint64_t numbers[KEYS];
    _Atomic uint64_t over[KEYS]; /* all numbers below were ended, and answered */
    _Atomic bool stop;
    _Atomic size_t found, wrong, refused;
};

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
    return *state >> 33;
}

static void *race_look(void *context)
{
    struct race *race = context;
    uint64_t random = (uint64_t)(uintptr_t)&random;
    struct cr_entry *entry = malloc(sizeof *entry);
    CR_ASSERT(entry != NULL);
    while (!atomic_load(&race->stop)) {
        size_t key = next_random(&random) % KEYS;
        struct cr_session_id id;
        struct cr_token_hash hash;
        key_of(key, &id, &hash);
        uint64_t over = atomic_load(&race->over[key]);
        if (!cr_engine_cached(race->engine, &id, &hash, entry))
            continue;
        atomic_fetch_add(&race->found, 1);
        if (number_of(entry) < over)
            atomic_fetch_add(&race->wrong, 1);
    }
    free(entry);
    return NULL;
}

static void *race_fill(void *context)
{
    struct race *race = context;
    uint64_t random = (uint64_t)(uintptr_t)&random;
    while (!atomic_load(&race->stop)) {
        size_t key = next_random(&random) % KEYS;
        pthread_mutex_lock(&race->lock);
        uint64_t stamp = cr_engine_table_clock(race->engine);
        pthread_mutex_unlock(&race->lock);
        uint64_t number = atomic_load(&race->numbers[key]); /* the query */
        if (next_random(&random) % 4 == 0)
            nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
        pthread_mutex_lock(&race->lock);
        fill(race->engine, key, number, stamp);
        pthread_mutex_unlock(&race->lock);
    }
    return NULL;
}

static void told(void *context, const struct cr_engine_answer *answer)
{
    *(enum cr_status *)context = answer->status;
}

static void race_end(struct race *race, size_t key, enum ending ending)
{
    uint64_t before[KEYS] = {0};
    for (size_t k = 0; k < KEYS; k++)
        if (covers(ending, key, k))
            before[k] = atomic_fetch_add(&race->numbers[k], 1) + 1; /* the commit */
    enum cr_status st = CR_BUSY;
    pthread_mutex_lock(&race->lock);
    end(race->engine, ending, key, told, &st);
    pthread_mutex_unlock(&race->lock);
    CHECK_STATUS(st, CR_OK); /* direct mode: nobody is waited for */
    for (size_t k = 0; k < KEYS; k++)
        if (before[k] > atomic_load(&race->over[k]))
            atomic_store(&race->over[k], before[k]);
}

static void no_thread_finds_what_was_invalidated(void)
{
    enum { LOOKERS = 2, FILLERS = 2, ENDS = 3000 };
    static struct race race;
    pthread_t threads[LOOKERS + FILLERS];
    memset(&race, 0, sizeof race);
    CHECK_STATUS(cr_loop_inline_create(cr_clock_system(), &race.loop), CR_OK);
    struct cr_engine_options options = {
        .loop = race.loop,
        .random = cr_random_system(),
        .cache = CR_CACHE_MEMORY,
        .cache_bytes = CR_TABLE_BYTES_MIN,
    };
    CHECK_STATUS(cr_engine_create(&options, &race.engine, NULL), CR_OK);
    pthread_mutex_init(&race.lock, NULL);
    for (int i = 0; i < LOOKERS + FILLERS; i++)
        CHECK(pthread_create(&threads[i], NULL, i < LOOKERS ? race_look : race_fill, &race) == 0);
    for (int i = 0; i < ENDS || atomic_load(&race.found) < 1000; i++) {
        enum ending ending = tap_random_below(20) == 0 ? END_ALL : (enum ending)(i % 2);
        race_end(&race, tap_random_below(KEYS), ending);
        if (i % 3 == 0)
            nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
    }
    atomic_store(&race.stop, true);
    for (int i = 0; i < LOOKERS + FILLERS; i++)
        pthread_join(threads[i], NULL);
    struct cr_stats stats = {0};
    cr_engine_stats(race.engine, &stats);
    tap_note("%zu found, %llu fills refused", atomic_load(&race.found),
             (unsigned long long)stats.fills_refused);
    CHECK_UINT(atomic_load(&race.wrong), 0);
    CHECK(stats.fills_refused > 0);
    cr_engine_destroy(race.engine);
    cr_loop_inline_destroy(race.loop);
    pthread_mutex_destroy(&race.lock);
}

static const struct tap_test tests[] = {
    TAP_TEST(a_fill_that_was_begun_before_an_invalidation_is_refused),
    TAP_TEST(a_fill_that_was_begun_over_another_table_is_refused),
    TAP_TEST(no_history_finds_what_was_invalidated),
    TAP_TEST(no_thread_finds_what_was_invalidated),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
