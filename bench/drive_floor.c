/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The floor: what any table of this kind must do at least, and nothing else. Three cache lines a
 * session, the address of each depending on bytes of the one before: index, record, the user's
 * stamp. From memory of the same size and kind of page as the table's: a memfd made and mapped by
 * the same calls, which take huge pages where the system has some; filled by the writer's map, read
 * through a read-only one.
 *
 *     drive_floor BYTES SESSIONS
 *
 * Questions, each with uniform or zipf and how many seconds; answered in nanoseconds a session:
 *
 *     latency   a chain begins when the one before has ended
 *     loop      chains do not wait for each other: the processor overlaps what fits its window
 *     batch     sixteen chains at a time, line after line, prefetched
 *
 * The lines lie anywhere in the memory. With "-dense" behind its name a question is asked of a
 * memory that is divided: two bytes of index a session at 85 % full, stamps of 8 bytes for each
 * session, at most 2^20, and records in the rest. That is as dense as index and stamps can be, so
 * that they lie nearer to the processor.
 */
#include "picks.h"

#include "base/shm.h"

#define LINE 64u
#define BATCH 16
#define STEP 64
#define STAMPS_MAX (1u << 20)

/* Lines first to first + count - 1 of the memory. */
struct area {
    uint64_t first, count;
};

struct shape {
    struct area index, record, stamp;
};

struct floor {
    const unsigned char *memory;
    struct shape dense, anywhere;
    const struct shape *shape;
    struct orders orders;
    struct picks *picks;
    uint64_t last; /* what the last chain ended with */
};

/* Three independent numbers of a session: where in each area it begins to look. */
struct start {
    uint32_t index, record, stamp;
};

static inline struct start start_of(uint32_t session)
{
    uint64_t mixed = (session + 1) * 0x9e3779b97f4a7c15ULL;
    uint64_t again = (mixed ^ mixed >> 29) * 0xbf58476d1ce4e5b9ULL;
    return (struct start){(uint32_t)(mixed >> 32), (uint32_t)(again >> 32), (uint32_t)again};
}

/* `random` is any 32 bits; what was loaded has been added to them. */
static inline const uint64_t *line_at(const struct floor *floor, const struct area *area,
                                      uint32_t random)
{
    uint64_t line = area->first + ((random * area->count) >> 32);
    return (const uint64_t *)(const void *)(floor->memory + line * LINE);
}

/* Every word of the memory is below 2^32, which the compiler cannot know: `after` is the end of
 * another chain, and its high half is the nothing that this one waits for. */
static inline uint64_t chain(const struct floor *floor, uint32_t session, uint64_t after)
{
    const struct shape *shape = floor->shape;
    struct start start = start_of(session);
    uint64_t index = *line_at(floor, &shape->index, start.index + (uint32_t)(after >> 32));
    uint64_t record = *line_at(floor, &shape->record, start.record + (uint32_t)index);
    return *line_at(floor, &shape->stamp, start.stamp + (uint32_t)record);
}

static void latency_step(void *context)
{
    struct floor *floor = context;
    uint64_t last = floor->last;
    for (int i = 0; i < STEP; i++)
        last = chain(floor, picks_next(floor->picks), last);
    floor->last = last;
}

static void loop_step(void *context)
{
    struct floor *floor = context;
    uint64_t sum = 0;
    for (int i = 0; i < STEP; i++)
        sum += chain(floor, picks_next(floor->picks), 0);
    floor->last = sum >> 63;
}

static inline void batch_one(struct floor *floor)
{
    const struct shape *shape = floor->shape;
    struct start start[BATCH];
    const uint64_t *line[BATCH];
    uint64_t sum = 0;
    for (int i = 0; i < BATCH; i++) {
        start[i] = start_of(picks_next(floor->picks));
        line[i] = line_at(floor, &shape->index, start[i].index);
        __builtin_prefetch(line[i]);
    }
    for (int i = 0; i < BATCH; i++) {
        line[i] = line_at(floor, &shape->record, start[i].record + (uint32_t)*line[i]);
        __builtin_prefetch(line[i]);
    }
    for (int i = 0; i < BATCH; i++) {
        line[i] = line_at(floor, &shape->stamp, start[i].stamp + (uint32_t)*line[i]);
        __builtin_prefetch(line[i]);
    }
    for (int i = 0; i < BATCH; i++)
        sum += *line[i];
    floor->last = sum >> 63;
}

static void batch_step(void *context)
{
    for (int i = 0; i < STEP / BATCH; i++)
        batch_one(context);
}

static const unsigned char *memory_make(size_t bytes)
{
    struct cr_shm shm;
    const void *memory;
    must_be_ok(cr_shm_create("floor", bytes, CR_HUGE_AUTO, &shm), "memory");
    uint64_t *words = shm.memory;
    uint64_t random = 88172645463325252ULL;
    for (size_t i = 0; i < bytes / sizeof *words; i++)
        words[i] = random_next(&random) >> 32;
    must_be_ok(cr_shm_map(shm.fd, &memory, &bytes), "map");
    cr_memory_unmap(shm.memory, shm.bytes);
    close(shm.fd);
    /* Each page is looked up once, so that no chain is the first in it. */
    for (size_t at = 0; at < bytes; at += 4096)
        (void)*((const volatile unsigned char *)memory + at);
    return memory;
}

static void shapes_make(struct floor *floor, size_t bytes, size_t sessions)
{
    uint64_t lines = bytes / LINE;
    uint64_t index = sessions * 2 * 100 / 85 / LINE + 1;
    uint64_t stamps = (sessions < STAMPS_MAX ? sessions : STAMPS_MAX) * 8 / LINE + 1;
    must(index + stamps < lines, "too little memory for so many sessions");
    floor->dense.index = (struct area){0, index};
    floor->dense.stamp = (struct area){index, stamps};
    floor->dense.record = (struct area){index + stamps, lines - index - stamps};
    floor->anywhere.index = floor->anywhere.record = floor->anywhere.stamp =
        (struct area){0, lines};
}

static void answer_one(struct floor *floor, struct question *question)
{
    char *suffix = strchr(question->kind, '-');
    void (*step)(void *) = NULL;
    floor->picks = orders_pick(&floor->orders, question);
    floor->shape = suffix == NULL ? &floor->anywhere : &floor->dense;
    if (suffix != NULL)
        *suffix = '\0';
    if (strcmp(question->kind, "latency") == 0)
        step = latency_step;
    else if (strcmp(question->kind, "loop") == 0)
        step = loop_step;
    else if (strcmp(question->kind, "batch") == 0)
        step = batch_step;
    must(step != NULL, "a question that is not known");
    printf("%.3f\n", nanoseconds_each(step, floor, STEP, question->seconds));
    must(floor->last >> 32 == 0, "a word of the memory is not as it was written");
}

int main(int argc, char **argv)
{
    must(argc == 3, "usage: drive_floor BYTES SESSIONS");
    static struct floor floor;
    struct question question;
    size_t bytes = strtoul(argv[1], NULL, 10), sessions = strtoul(argv[2], NULL, 10);
    shapes_make(&floor, bytes, sessions);
    floor.memory = memory_make(bytes);
    orders_make(&floor.orders, sessions, 1);
    questions_begin();
    while (question_read(&question))
        answer_one(&floor, &question);
    orders_free(&floor.orders);
    return EXIT_SUCCESS;
}
