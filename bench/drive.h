/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the drivers share. A driver gets everything ready, prints a line, then answers each line of
 * its input ("ours", "theirs") with one number: how many a second. bench.py asks turn by turn.
 * Whatever does not go as it should ends the driver: a wrong answer has no speed.
 */
#ifndef BENCH_DRIVE_H
#define BENCH_DRIVE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cloakroom/cloakroom.h>

static inline void must(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "%s\n", what);
        exit(EXIT_FAILURE);
    }
}

static inline void must_be_ok(enum cr_status st, const char *what)
{
    if (st != CR_OK) {
        fprintf(stderr, "%s: %s\n", what, cr_status_text(st));
        exit(EXIT_FAILURE);
    }
}

static inline double seconds_now(void)
{
    struct timespec now;
    must(clock_gettime(CLOCK_MONOTONIC, &now) == 0, "no clock");
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static inline uint64_t clock_ns(void)
{
    struct timespec now;
    must(clock_gettime(CLOCK_MONOTONIC, &now) == 0, "no clock");
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static inline int clock_earlier(const void *a, const void *b)
{
    uint64_t first = *(const uint64_t *)a, second = *(const uint64_t *)b;
    return (first > second) - (first < second);
}

/* What two readings are apart with nothing between them, in the median. */
static inline uint64_t clock_cost(void)
{
    uint64_t costs[1023];
    for (size_t i = 0; i < 1023; i++) {
        uint64_t start = clock_ns();
        costs[i] = clock_ns() - start;
    }
    qsort(costs, 1023, sizeof *costs, clock_earlier);
    return costs[511];
}

/* xorshift64*: which one is asked for next. */
static inline uint64_t random_next(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 2685821657736338717ULL;
}

static inline struct cr_room *room_must_open(const char *url)
{
    struct cr_options options;
    cr_options_init(&options);
    options.mode = CR_MODE_ATTACH;
    struct cr_error error = {.size = sizeof(error)};
    struct cr_room *room = NULL;
    if (cr_open(url, &options, &room, &error) != CR_OK)
        must(false, error.text);
    return room;
}

/* Until the input ends. */
static inline void answer(void *context, double (*ours)(void *), double (*theirs)(void *))
{
    char line[16];
    printf("0\n"); /* ready */
    fflush(stdout);
    while (fgets(line, sizeof(line), stdin) != NULL) {
        bool mine = strcmp(line, "ours\n") == 0;
        must(mine || strcmp(line, "theirs\n") == 0, "the question is neither ours nor theirs");
        printf("%.1f\n", mine ? ours(context) : theirs(context));
        fflush(stdout);
    }
}

#endif
