/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table in front of an application's own store, raced by real processes. The "database" is a
 * version for each key in memory that all of them share. Enders raise it, invalidate, and then
 * publish that the call has answered; readers look up, and fill what they read, slowly.
 *
 * Nobody may be given a version older than one whose invalidation had answered before they asked.
 */
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cloakroom/table.h>

#include "agents.h"
#include "base/clock.h"
#include "base/random.h"
#include "tap.h"

#define KEYS 40
#define USERS 4
#define READERS 3
#define ENDERS 2
#define SECONDS 3

struct database {
    _Atomic uint64_t version[KEYS];  /* what is committed */
    _Atomic uint64_t answered[KEYS]; /* what an invalidation has answered for */
    _Atomic uint64_t lookups, hits, fills, endings;
    _Atomic uint64_t stale, wrong_user, failed;
    _Atomic bool stop;
};

static struct database *database_create(void)
{
    void *memory = mmap(NULL, sizeof(struct database), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

static struct cr_user user_of(uint64_t key)
{
    char name[16];
    (void)snprintf(name, sizeof name, "user-%llu", (unsigned long long)(key % USERS));
    return agents_user(name);
}

/* Like a query that now and then takes long. */
static uint64_t database_read(struct database *db, uint64_t key, uint64_t random)
{
    uint64_t version = atomic_load(&db->version[key]);
    for (uint64_t i = 0; i < random % 50; i++)
        (void)sched_yield();
    return version;
}

static void look_up(struct database *db, struct cr_room *room, uint64_t key, uint64_t random)
{
    struct cr_value value = {.size = sizeof value};
    struct cr_user user = user_of(key);
    struct cr_ticket ticket;
    char name[16];
    int bytes = snprintf(name, sizeof name, "key-%llu", (unsigned long long)key);
    uint64_t least = atomic_load(&db->answered[key]);
    atomic_fetch_add(&db->lookups, 1);
    enum cr_status st = cr_lookup(room, name, (size_t)bytes, &value);
    if (st == CR_OK) {
        uint64_t version = 0;
        memcpy(&version, value.data, sizeof version);
        atomic_fetch_add(&db->hits, 1);
        if (version < least || value.bytes != sizeof version)
            atomic_fetch_add(&db->stale, 1);
        if (!cr_user_equal(&value.user, &user))
            atomic_fetch_add(&db->wrong_user, 1);
        return;
    }
    st = cr_ticket_take(room, name, (size_t)bytes, &ticket);
    uint64_t version = database_read(db, key, random);
    if (st == CR_OK)
        st = cr_fill(room, &ticket, &user, &version, sizeof version, 60000);
    atomic_fetch_add(st == CR_OK ? &db->fills : &db->failed, 1);
}

static void end_something(struct database *db, struct cr_room *room, uint64_t key, bool whole_user)
{
    uint64_t upto[KEYS];
    enum cr_status st;
    /* The commit. */
    for (uint64_t k = 0; k < KEYS; k++)
        if (whole_user ? k % USERS == key % USERS : k == key)
            upto[k] = atomic_fetch_add(&db->version[k], 1) + 1;
    if (whole_user) {
        struct cr_user user = user_of(key);
        st = cr_invalidate_by_user(room, &user, NULL, NULL);
    } else {
        char name[16];
        int bytes = snprintf(name, sizeof name, "key-%llu", (unsigned long long)key);
        st = cr_invalidate(room, name, (size_t)bytes);
    }
    if (st != CR_OK) {
        atomic_fetch_add(&db->failed, 1);
        return;
    }
    atomic_fetch_add(&db->endings, 1);
    for (uint64_t k = 0; k < KEYS; k++) {
        if (whole_user ? k % USERS != key % USERS : k != key)
            continue;
        uint64_t was = atomic_load(&db->answered[k]);
        while (was < upto[k] && !atomic_compare_exchange_weak(&db->answered[k], &was, upto[k])) {
        }
    }
}

static void worker_run(struct database *db, const char *url, uint64_t seed, bool ends)
{
    struct cr_random_seeded random;
    struct cr_room *room = NULL;
    cr_random_seeded_init(&random, seed);
    if (cr_open(url, NULL, &room, NULL) != CR_OK) {
        atomic_fetch_add(&db->failed, 1);
        return;
    }
    while (!atomic_load(&db->stop)) {
        uint64_t r = cr_random_seeded_next(&random);
        if (ends && r % 8 == 0)
            end_something(db, room, (r >> 8) % KEYS, (r >> 32) % 4 == 0);
        else
            look_up(db, room, (r >> 8) % KEYS, r >> 40);
    }
    cr_close(room);
}

static pid_t worker_start(struct database *db, const char *url, bool ends)
{
    uint64_t seed = tap_random();
    pid_t pid = fork();
    if (pid == 0) {
        worker_run(db, url, seed, ends);
        _exit(0);
    }
    return pid;
}

static void wait_seconds(double seconds)
{
    cr_boot_ns end = cr_boot_add(cr_clock_boot(cr_clock_system()), (cr_span_ms)(seconds * 1000));
    while (cr_clock_boot(cr_clock_system()) < end)
        (void)poll(NULL, 0, 20);
}

/* `kill_agent`: kill -9 it in the middle, and start another. */
static void race(enum cr_cache cache, bool kill_agent)
{
    struct test_agent agent;
    struct cr_agent_options options = {.settings = {.cache = cache, .cache_bytes = 4 << 20}};
    struct database *db = database_create();
    pid_t pids[READERS + ENDERS];
    if (!CHECK(db != NULL) || !agents_setup(&agent, "table") || !agents_start(&agent, &options))
        return;
    for (size_t i = 0; i < READERS + ENDERS; i++)
        pids[i] = worker_start(db, agent.url, i >= READERS);
    wait_seconds(SECONDS / 2.0);
    if (kill_agent) {
        CHECK_INT(agents_signal(&agent, SIGKILL), -SIGKILL);
        CHECK(agents_start(&agent, &options));
    }
    wait_seconds(SECONDS / 2.0);
    atomic_store(&db->stop, true);
    for (size_t i = 0; i < READERS + ENDERS; i++)
        CHECK(pids[i] > 0 && waitpid(pids[i], NULL, 0) == pids[i]);
    tap_note(
        "%llu lookups, %llu hits, %llu fills, %llu endings",
        (unsigned long long)atomic_load(&db->lookups), (unsigned long long)atomic_load(&db->hits),
        (unsigned long long)atomic_load(&db->fills), (unsigned long long)atomic_load(&db->endings));
    CHECK_UINT(atomic_load(&db->stale), 0);
    CHECK_UINT(atomic_load(&db->wrong_user), 0);
    if (!kill_agent)
        CHECK_UINT(atomic_load(&db->failed), 0);
    CHECK(atomic_load(&db->endings) > 50);
    CHECK(cache == CR_CACHE_NONE ? atomic_load(&db->hits) == 0 : atomic_load(&db->hits) > 1000);
    agents_teardown(&agent);
    (void)munmap(db, sizeof *db);
}

static void no_reader_is_given_what_was_invalidated_from_the_shared_table(void)
{
    race(CR_CACHE_SHARED, false);
}

static void no_reader_is_given_what_was_invalidated_from_the_agents_table(void)
{
    race(CR_CACHE_MEMORY, false);
}

static void without_a_table_everything_is_read_anew(void)
{
    race(CR_CACHE_NONE, false);
}

static void no_reader_is_given_what_was_invalidated_when_the_agent_was_killed(void)
{
    race(CR_CACHE_SHARED, true);
}

static bool key_fill(struct cr_room *room, const char *key, const char *name)
{
    struct cr_ticket ticket;
    struct cr_user user = agents_user(name);
    return CHECK_STATUS(cr_ticket_take(room, key, strlen(key), &ticket), CR_OK) &&
           CHECK_STATUS(cr_fill(room, &ticket, &user, "value", 5, 60000), CR_OK);
}

static enum cr_status key_find(struct cr_room *room, const char *key)
{
    struct cr_value value = {.size = sizeof value};
    return cr_lookup(room, key, strlen(key), &value);
}

/* Its own, by the application's socket, which may not end everybody's sessions in a store. */
static void an_application_clears_its_whole_table(void)
{
    struct test_agent agent;
    struct cr_agent_options options = {.settings = {.cache_bytes = 4 << 20}};
    struct cr_room *one = NULL, *other = NULL;
    struct cr_ticket before;
    struct cr_user anna = agents_user("anna");
    if (!agents_setup(&agent, "table") || !agents_start(&agent, &options))
        return;
    if (CHECK_STATUS(cr_open(agent.url, NULL, &one, NULL), CR_OK) &&
        CHECK_STATUS(cr_open(agent.url, NULL, &other, NULL), CR_OK) && key_fill(one, "a", "anna") &&
        key_fill(one, "b", "bert")) {
        CHECK_STATUS(key_find(other, "a"), CR_OK);
        CHECK_STATUS(key_find(other, "b"), CR_OK);
        CHECK_STATUS(cr_ticket_take(other, "c", 1, &before), CR_OK);
        CHECK_STATUS(cr_end_all(one, NULL, NULL), CR_OK);
        CHECK_STATUS(key_find(other, "a"), CR_ASK);
        CHECK_STATUS(key_find(other, "b"), CR_ASK);
        CHECK_STATUS(cr_fill(other, &before, &anna, "value", 5, 60000), CR_OK);
        CHECK_STATUS(key_find(other, "c"), CR_ASK);
        CHECK(key_fill(other, "c", "anna"));
        CHECK_STATUS(key_find(one, "c"), CR_OK);
    }
    cr_close(one);
    cr_close(other);
    agents_teardown(&agent);
}

int main(int argc, char **argv)
{
    static const struct tap_test tests[] = {
        TAP_TEST(no_reader_is_given_what_was_invalidated_from_the_shared_table),
        TAP_TEST(no_reader_is_given_what_was_invalidated_from_the_agents_table),
        TAP_TEST(without_a_table_everything_is_read_anew),
        TAP_TEST(no_reader_is_given_what_was_invalidated_when_the_agent_was_killed),
        TAP_TEST(an_application_clears_its_whole_table),
    };
    return TAP_MAIN(tests, argc, argv);
}
