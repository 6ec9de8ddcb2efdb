/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which session is asked for next, the same for everything that is compared: sessions 0 to count -
 * 1, uniform or Zipf with exponent 0.99, made before anything is timed. Drivers read the order as
 * it stands, four bytes a pick. And the tokens, as the agent of table_agent.c writes them down.
 */
#ifndef BENCH_PICKS_H
#define BENCH_PICKS_H

#include "drive.h"
#include "pace.h"

#include <fcntl.h>
#include <math.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PICKS (1u << 23)
#define ZIPF_EXPONENT 0.99
#define SCATTER 2654435761u /* prime: popular sessions stand anywhere */
#define WARM_SECONDS 0.05

/* What a driver is asked: "KIND ORDER SECONDS". Both orders are made before the first. */
struct question {
    char kind[32];
    bool is_zipf;
    double seconds;
};

static inline bool question_read(struct question *out)
{
    char line[64], *rest;
    if (fgets(line, sizeof line, stdin) == NULL)
        return false;
    const char *kind = strtok_r(line, " ", &rest), *order = strtok_r(NULL, " ", &rest);
    must(kind != NULL && order != NULL && strlen(kind) < sizeof out->kind, "a question");
    snprintf(out->kind, sizeof out->kind, "%s", kind);
    out->is_zipf = strcmp(order, "zipf") == 0;
    out->seconds = strtod(rest, NULL);
    must(out->seconds > 0 && out->seconds < 60, "how many seconds");
    return true;
}

struct picks {
    uint32_t *order;
    uint32_t at;
};
struct orders {
    struct picks uniform, zipf;
};

/* Gray and others, "Quickly generating billion-record synthetic databases" (1994). */
struct zipf {
    double count, zeta, alpha, eta, second;
};

static inline struct zipf zipf_make(size_t count)
{
    struct zipf zipf = {.count = (double)count, .alpha = 1 / (1 - ZIPF_EXPONENT)};
    for (size_t i = 1; i <= count; i++)
        zipf.zeta += pow((double)i, -ZIPF_EXPONENT);
    zipf.second = 1 + pow(2, -ZIPF_EXPONENT);
    zipf.eta = (1 - pow(2 / zipf.count, 1 - ZIPF_EXPONENT)) / (1 - zipf.second / zipf.zeta);
    return zipf;
}

static inline uint64_t zipf_rank(const struct zipf *zipf, double uniform)
{
    double scaled = uniform * zipf->zeta;
    if (scaled < 1)
        return 0;
    if (scaled < zipf->second)
        return 1;
    return (uint64_t)(zipf->count * pow(zipf->eta * uniform - zipf->eta + 1, zipf->alpha));
}

static inline struct picks picks_make(size_t count, bool is_zipf, uint64_t seed)
{
    struct picks picks = {.order = malloc(PICKS * sizeof(uint32_t))};
    struct zipf zipf = {0};
    uint64_t random = 88172645463325252ULL ^ (seed << 32);
    must(count > 0 && count < SCATTER, "number of sessions");
    if (is_zipf)
        zipf = zipf_make(count);
    must(picks.order != NULL, "out of memory");
    for (uint32_t i = 0; i < PICKS; i++) {
        double uniform = (double)(random_next(&random) >> 11) / (double)(1ULL << 53);
        uint64_t rank = is_zipf ? zipf_rank(&zipf, uniform) : (uint64_t)(uniform * (double)count);
        picks.order[i] = (uint32_t)((rank < count ? rank : count - 1) * SCATTER % count);
    }
    return picks;
}

static inline void orders_make(struct orders *orders, size_t count, uint64_t seed)
{
    orders->uniform = picks_make(count, false, seed);
    orders->zipf = picks_make(count, true, seed);
}

static inline void orders_free(struct orders *orders)
{
    free(orders->uniform.order);
    free(orders->zipf.order);
}

static inline struct picks *orders_pick(struct orders *orders, const struct question *question)
{
    return question->is_zipf ? &orders->zipf : &orders->uniform;
}

static inline uint32_t picks_next(struct picks *picks)
{
    return picks->order[picks->at++ % PICKS];
}

/* Ready to be asked: answers are lines. */
static inline void questions_begin(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("0\n");
}

/* Runs `step`, which does `each` things, until `seconds` have gone by, after a moment that does not
 * count; how many nanoseconds one thing took. */
static inline double nanoseconds_each(void (*step)(void *), void *context, unsigned each,
                                      double seconds)
{
    uint64_t done = 0;
    double start = seconds_now(), now = start;
    for (; now - start < WARM_SECONDS; now = seconds_now())
        step(context);
    for (start = now; now - start < seconds; now = seconds_now(), done += each)
        step(context);
    return (now - start) * 1e9 / (double)done;
}

/* Texts of tokens, one after the other, each ended by a NUL; in memory of the same kind of page as
 * the table's. */
static inline const struct cr_token *tokens_map(const char *path, size_t *out_count)
{
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    must(fd >= 0 && fstat(fd, &info) == 0 && info.st_size > 0, path);
    size_t bytes = (size_t)info.st_size;
    *out_count = bytes / sizeof(struct cr_token);
    char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(memory != MAP_FAILED, "memory for the tokens");
    (void)madvise(memory, bytes, MADV_HUGEPAGE);
    for (size_t done = 0; done < bytes;) {
        ssize_t got = read(fd, memory + done, bytes - done);
        must(got > 0, "read the tokens");
        done += (size_t)got;
    }
    close(fd);
    return (const struct cr_token *)(const void *)memory;
}

/* Where reader number `reader` says how far it is. */
static inline _Atomic uint64_t *pace_map(const char *path, unsigned reader)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    must(fd >= 0 && reader < PACE_READERS, path);
    void *memory = mmap(NULL, sizeof(struct pace), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    must(memory != MAP_FAILED, "map the pace");
    close(fd);
    return &((struct pace *)memory)->readers[reader].done;
}

#endif
