/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Validations that hit, through the library: from the token's text, which lies where it lies among
 * all of them, to the session copied out.
 *
 *     drive_cache URL TOKENS DATA-BYTES [PACE READER]
 *
 * Questions, each with uniform or zipf and how many seconds:
 *
 *     hit       nanoseconds a cr_validate
 *     near      the same with the token's text at hand
 *     many      the same in batches of 16 (cr_validate_many)
 *     paced     the same while the agent writes: a miss (an entry that was being written) is asked
 *               for and counts with the time that it takes
 *     times     each call's own time: the cost of the two readings of the clock around it, its
 *               median, then the histogram of what is between them (see BINS)
 */
#include "picks.h"

#include "pace.h"

#define STEP 64
#define BATCH 16
#define TRIES 10
#define NEAR 2000000
#define BINS_OCTAVE 32 /* of a factor of two */
#define BINS (BINS_OCTAVE * 32)

struct bench {
    struct cr_room *room;
    const struct cr_token *tokens;
    size_t count, data_bytes;
    struct orders orders;
    struct picks *picks;
    struct cr_token *near;
    size_t near_at;
    struct cr_session session;
    struct cr_session sessions[BATCH];
    _Atomic uint64_t *pace;
    uint64_t done;
};

static void validate(struct bench *bench)
{
    const struct cr_token *token = &bench->tokens[picks_next(bench->picks)];
    must_be_ok(cr_validate(bench->room, token, &bench->session), "validate");
    must(bench->session.data_bytes == bench->data_bytes, "another session's data");
}

static void validate_step(void *context)
{
    struct bench *bench = context;
    for (int i = 0; i < STEP; i++)
        validate(bench);
    bench->done += STEP;
    if (bench->pace != NULL)
        atomic_store_explicit(bench->pace, bench->done, memory_order_relaxed);
}

static void near_step(void *context)
{
    struct bench *bench = context;
    for (int i = 0; i < STEP; i++) {
        const struct cr_token *token = &bench->near[bench->near_at++ % NEAR];
        must_be_ok(cr_validate(bench->room, token, &bench->session), "validate");
        must(bench->session.data_bytes == bench->data_bytes, "another session's data");
    }
    bench->done += STEP;
}

static void many_step(void *context)
{
    struct bench *bench = context;
    struct cr_token tokens[BATCH];
    enum cr_status statuses[BATCH];
    for (int i = 0; i < STEP / BATCH; i++) {
        for (int k = 0; k < BATCH; k++)
            tokens[k] = bench->tokens[picks_next(bench->picks)];
        must_be_ok(cr_validate_many(bench->room, tokens, BATCH, bench->sessions, statuses),
                   "validate many");
        for (int k = 0; k < BATCH; k++) {
            must_be_ok(statuses[k], "validate");
            must(bench->sessions[k].data_bytes == bench->data_bytes, "another session's data");
        }
    }
    bench->done += STEP;
}

/* Copies of the tokens in the order in which they are asked for: each is at hand by then, as one is
 * that was just read from a request. */
static void near_make(struct bench *bench)
{
    if (bench->near == NULL)
        bench->near = malloc(NEAR * sizeof *bench->near);
    must(bench->near != NULL, "out of memory");
    for (size_t i = 0; i < NEAR; i++)
        bench->near[i] = bench->tokens[picks_next(bench->picks)];
    bench->near_at = 0;
}

static struct cr_stats stats_of(struct bench *bench)
{
    struct cr_stats stats = {.size = sizeof stats};
    must_be_ok(cr_stats(bench->room, &stats), "stats");
    must(stats.cache == CR_CACHE_SHARED && stats.mapped, "the table is not mapped here");
    return stats;
}

/* Hits only: anything else would be another figure. Where others use the cores the agent may be
 * late with its lease: measured again. */
static void hit(struct bench *bench, void (*step)(void *), unsigned each, double seconds)
{
    for (int tries = 0; tries < TRIES; tries++) {
        uint64_t before = stats_of(bench).hits;
        bench->done = 0;
        double each_ns = nanoseconds_each(step, bench, each, seconds);
        if (stats_of(bench).hits - before == bench->done) {
            printf("%.3f\n", each_ns);
            return;
        }
    }
    must(false, "not every validation was a hit");
}

static void paced(struct bench *bench, double seconds)
{
    struct cr_stats before = stats_of(bench);
    double each_ns = nanoseconds_each(validate_step, bench, STEP, seconds);
    struct cr_stats after = stats_of(bench);
    must(after.misses - before.misses <= (after.hits - before.hits) / 1000, "too many misses");
    printf("%.3f\n", each_ns);
}

/* Which bin a time is in: BINS_OCTAVE to each factor of two, from one nanosecond on. */
static unsigned bin_of(uint64_t ns)
{
    double bin = ns > 1 ? log2((double)ns) * BINS_OCTAVE : 0;
    return bin < BINS - 1 ? (unsigned)bin : BINS - 1;
}

static void times(struct bench *bench, double seconds)
{
    static uint64_t bins[BINS];
    memset(bins, 0, sizeof bins);
    uint64_t cost = clock_cost(), start = clock_ns(), before, after = start;
    while (after - start < (uint64_t)(seconds * 1e9)) {
        before = clock_ns();
        validate(bench);
        after = clock_ns();
        if (after - start > (uint64_t)(WARM_SECONDS * 1e9))
            bins[bin_of(after - before)]++;
        bench->done++;
        if (bench->pace != NULL && bench->done % STEP == 0)
            atomic_store_explicit(bench->pace, bench->done, memory_order_relaxed);
    }
    printf("%llu", (unsigned long long)cost);
    for (unsigned i = 0; i < BINS; i++)
        printf(" %llu", (unsigned long long)bins[i]);
    printf("\n");
}

static void answer_one(struct bench *bench, const struct question *question)
{
    bench->picks = orders_pick(&bench->orders, question);
    if (strcmp(question->kind, "near") == 0)
        near_make(bench);
    if (strcmp(question->kind, "hit") == 0)
        hit(bench, validate_step, STEP, question->seconds);
    else if (strcmp(question->kind, "near") == 0)
        hit(bench, near_step, STEP, question->seconds);
    else if (strcmp(question->kind, "many") == 0)
        hit(bench, many_step, STEP, question->seconds);
    else if (strcmp(question->kind, "paced") == 0)
        paced(bench, question->seconds);
    else if (strcmp(question->kind, "times") == 0)
        times(bench, question->seconds);
    else
        must(false, "a question that is not known");
}

int main(int argc, char **argv)
{
    must(argc == 4 || argc == 6, "usage: drive_cache URL TOKENS DATA-BYTES [PACE READER]");
    static struct bench bench = {.session = CR_SESSION_INIT};
    struct question question;
    bench.room = room_must_open(argv[1]);
    bench.tokens = tokens_map(argv[2], &bench.count);
    bench.data_bytes = strtoul(argv[3], NULL, 10);
    if (argc == 6)
        bench.pace = pace_map(argv[4], (unsigned)strtoul(argv[5], NULL, 10));
    for (int i = 0; i < BATCH; i++)
        bench.sessions[i].size = sizeof bench.sessions[i];
    orders_make(&bench.orders, bench.count, (uint64_t)getpid());
    questions_begin();
    while (question_read(&question))
        answer_one(&bench, &question);
    orders_free(&bench.orders);
    free(bench.near);
    cr_close(bench.room);
    return EXIT_SUCCESS;
}
