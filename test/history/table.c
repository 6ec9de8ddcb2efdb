/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An application with a session table of its own, for histories (cloakroom/table.h):
 *
 *     history table DIRECTORY NAME HOST URL SEED
 *
 * Its database is the board's keys. Reading it takes time, now and then much. What it reads itself
 * is not recorded: only what the table said.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cloakroom/cloakroom.h>

#include "base/random.h"
#include "board.h"
#include "record.h"
#include "roles.h"

#define THREADS 3
#define TTL_MS 60000

struct thread {
    struct board *board;
    struct cr_room *room;
    struct record record;
    struct cr_random_seeded random;
    bool changes;
};

static uint64_t below(struct thread *t, uint64_t bound)
{
    return cr_random_seeded_next(&t->random) % bound;
}

static void fill(struct thread *t, uint64_t key, const char *name)
{
    char value[32], data[3000];
    struct cr_ticket ticket;
    struct cr_user user = board_user((unsigned)key % BOARD_USERS);
    if (cr_ticket_take(t->room, name, strlen(name), &ticket) != CR_OK)
        return;
    (void)snprintf(value, sizeof value, "d%llu",
                   (unsigned long long)atomic_load(&t->board->keys[key]));
    if (below(t, 3) == 0)
        board_rest(below(t, 2000));
    size_t bytes = record_bytes_make(value, 1 + (unsigned)below(t, 300), data, sizeof data);
    /* Whatever it answers, the one who asked has what he wanted. */
    enum cr_status st = cr_fill(t->room, &ticket, &user, data, bytes, TTL_MS);
    (void)st;
}

static void look_up(struct thread *t, uint64_t key)
{
    char name[16], data[64], user[CR_USER_BYTES_MAX + 1];
    struct cr_value got = {.size = sizeof got};
    (void)snprintf(name, sizeof name, "key-%u", (unsigned)key);
    uint64_t start = record_now();
    enum cr_status st = cr_lookup(t->room, name, strlen(name), &got);
    uint64_t end = record_now();
    if (st == CR_OK)
        record_saw(&t->record, start, end, "lookup %s - CR_OK %s %s ? %s ? ? ?", name, name,
                   record_user(&got.user, user), record_bytes_value(got.data, got.bytes, data));
    else
        fill(t, key, name);
}

/* Commits, and then says so to the table. */
static void change(struct thread *t, uint64_t key, bool whole_user)
{
    unsigned long numbers[BOARD_KEYS];
    char name[16];
    enum cr_status st;
    for (uint64_t k = 0; k < BOARD_KEYS; k++) {
        if (whole_user ? k % BOARD_USERS != key % BOARD_USERS : k != key)
            continue;
        unsigned value = atomic_fetch_add(&t->board->values, 1) + 1;
        numbers[k] = record_began(&t->record, "data key-%u d%u 0", (unsigned)k, value);
        atomic_store(&t->board->keys[k], value);
    }
    if (whole_user) {
        struct cr_user user = board_user((unsigned)key % BOARD_USERS);
        st = cr_invalidate_by_user(t->room, &user, NULL, NULL);
    } else {
        (void)snprintf(name, sizeof name, "key-%u", (unsigned)key);
        st = cr_invalidate(t->room, name, strlen(name));
    }
    /* Committed in any case; but only CR_OK says that the table knows. */
    for (uint64_t k = 0; k < BOARD_KEYS; k++)
        if (whole_user ? k % BOARD_USERS == key % BOARD_USERS : k == key)
            record_ended(&t->record, numbers[k], st == CR_OK ? CR_OK : CR_E_UNKNOWN_OUTCOME, "%s",
                         "");
}

static void *thread_run(void *context)
{
    struct thread *t = context;
    while (atomic_load(&t->board->stop) == 0) {
        uint64_t key = below(t, BOARD_KEYS);
        if (t->changes) {
            change(t, key, below(t, 4) == 0);
            board_rest(below(t, 2000));
        }
        for (uint64_t i = 0; i < 30; i++)
            look_up(t, key);
        record_run_over(&t->record);
        board_rest(below(t, 500));
    }
    record_close(&t->record);
    return NULL;
}

int table_main(int argc, char **argv)
{
    static struct thread threads[THREADS];
    pthread_t ids[THREADS];
    struct cr_room *room = NULL;
    struct cr_error error = {.size = sizeof error};
    char path[512], name[64];
    if (argc != 5)
        return EXIT_FAILURE;
    (void)snprintf(path, sizeof path, "%s/board", argv[0]);
    struct board *board = board_map(path);
    if (board == NULL || cr_open(argv[3], NULL, &room, &error) != CR_OK) {
        (void)fprintf(stderr, "%s: %s\n", argv[1], error.text);
        return EXIT_FAILURE;
    }
    for (unsigned i = 0; i < THREADS; i++) {
        threads[i] = (struct thread){.board = board, .room = room, .changes = i == 0};
        cr_random_seeded_init(&threads[i].random, strtoull(argv[4], NULL, 10) * 31 + i);
        (void)snprintf(name, sizeof name, "%s.%u", argv[1], i);
        if (!record_open(&threads[i].record, argv[0], name, argv[2]) ||
            pthread_create(&ids[i], NULL, thread_run, &threads[i]) != 0)
            return EXIT_FAILURE;
    }
    for (unsigned i = 0; i < THREADS; i++)
        (void)pthread_join(ids[i], NULL);
    cr_close(room);
    return EXIT_SUCCESS;
}
