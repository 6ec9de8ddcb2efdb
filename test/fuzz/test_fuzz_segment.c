/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whatever bytes stand in a segment, a reader neither reads outside it, nor hangs, nor dies. The
 * input is a list of changes to a genuine segment, header included; then it is taken as a peer's,
 * and every session is looked for. With clang and the address sanitizer the readers' code is
 * watched by libFuzzer, which learns from the paths that an input takes; elsewhere inputs are only
 * random. The segment and what a find fills stand before pages that nobody may touch.
 *
 * CR_FUZZ_SECONDS says how long; CR_SEED begins the same way again. For an hour:
 *     CR_FUZZ_SECONDS=3600 build-asan/test/test_fuzz_segment
 */
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>

#include "fuzz/segment.h"

#ifdef CR_LIBFUZZER
#define SECONDS 6
#else
#define SECONDS 2
#endif
#define CHANGES_MAX 48

/* One change, as an input spells it. */
struct change {
    uint8_t how;
    uint8_t page; /* which part of the segment, where `how` says anywhere */
    uint16_t where;
    unsigned char value[8];
};
_Static_assert(sizeof(struct change) == 12, "what an input is made of");
#define HOW_ANYWHERE 0x80

static struct segment genuine;
static unsigned char *target; /* a copy of it, to be changed */
static struct cr_entry *out;
static uint64_t looks, found;

static uint64_t changed(const struct change *change, uint64_t before)
{
    uint64_t value;
    memcpy(&value, change->value, sizeof value);
    switch (change->how & 7) {
    case 0:
        return value;
    case 1:
        return before ^ value;
    case 2:
        return before + value;
    case 3: /* half a word */
        return (before & 0xffffffff00000000) | (value & 0xffffffff);
    case 4:
        return (before & 0xffffffff) | value << 32;
    case 5: /* another word of the segment: what is whole at the wrong place */
        return genuine.genuine[genuine.places[value % genuine.place_count]];
    case 6: /* some bits */
        return before ^ ((1ULL << (value >> 8) % 64) - 1) << value % 64;
    default: /* 2 bytes */
        return (before & ~(0xffffULL << 16 * (change->page % 4))) | (value & 0xffff)
                                                                        << 16 * (change->page % 4);
    }
}

static size_t change_place(const struct change *change)
{
    if ((change->how & HOW_ANYWHERE) != 0)
        return ((size_t)change->page << 16 | change->where) % genuine.word_count;
    return genuine.places[change->where % genuine.place_count];
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t bytes);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t bytes)
{
    uint64_t *words = (uint64_t *)(void *)target;
    size_t places[CHANGES_MAX] = {0}, count = 0;
    struct cr_table_view view;
    for (; count < CHANGES_MAX && bytes - count * sizeof(struct change) >= sizeof(struct change);
         count++) {
        struct change change;
        memcpy(&change, data + count * sizeof change, sizeof change);
        places[count] = change_place(&change);
        words[places[count]] = changed(&change, words[places[count]]);
    }
    if (cr_table_view_init(&view, target, genuine.word_count * 8) == CR_OK)
        for (unsigned i = 0; i < SEGMENT_SESSIONS; i++) {
            looks++;
            found += segment_look(&genuine, &view, &genuine.f.clock.clock, i, out);
        }
    while (count-- > 0)
        words[places[count]] = genuine.genuine[places[count]];
    return 0;
}

static bool begin(void)
{
    looks = found = 0;
    if (!CHECK(segment_init(&genuine, 1000 * CR_TABLE_FRESH_NS_MAX)))
        return false;
    target = guarded_memory(genuine.word_count * 8, -1);
    out = guarded_memory(sizeof *out, -1);
    if (!CHECK(target != NULL && out != NULL))
        return false;
    memcpy(target, genuine.genuine, genuine.word_count * 8);
    return true;
}

static long seconds(void)
{
    const char *text = getenv("CR_FUZZ_SECONDS");
    return text != NULL ? strtol(text, NULL, 10) : SECONDS;
}

/* A change that is more likely to say something than any. */
static void change_make(struct cr_random_seeded *random, struct change *out_change)
{
    uint64_t bits = cr_random_seeded_next(random);
    uint64_t value = cr_random_seeded_next(random) >> bits % 64;
    bool anywhere = (bits >> 6) % 8 == 0;
    out_change->how = (uint8_t)((bits >> 9) % 8 | (anywhere ? HOW_ANYWHERE : 0));
    out_change->page = (uint8_t)(bits >> 12);
    out_change->where = (uint16_t)(bits >> 20);
    if ((bits >> 36) % 8 == 0) /* the header, where offsets and counts stand */
        out_change->where %= 24;
    memcpy(out_change->value, &value, sizeof value);
}

/* The input that changes nothing. */
static void a_genuine_segment_gives_every_session(void)
{
    if (!begin())
        return;
    LLVMFuzzerTestOneInput((const unsigned char *)"", 0);
    CHECK_UINT(looks, SEGMENT_SESSIONS);
    CHECK_UINT(found, SEGMENT_SESSIONS);
    segment_fini(&genuine);
}

#ifdef CR_LIBFUZZER

typedef int fuzz_one(const unsigned char *, size_t);
int LLVMFuzzerRunDriver(int *argc, char ***argv, fuzz_one *one);

size_t LLVMFuzzerMutate(unsigned char *data, size_t bytes, size_t bytes_max);
size_t LLVMFuzzerCustomMutator(unsigned char *data, size_t bytes, size_t bytes_max, unsigned seed);

/* Whole changes, one more or another; now and then whatever libFuzzer thinks of. */
size_t LLVMFuzzerCustomMutator(unsigned char *data, size_t bytes, size_t bytes_max, unsigned seed)
{
    struct cr_random_seeded random;
    struct change change;
    size_t count = bytes / sizeof change, count_max = bytes_max / sizeof change;
    cr_random_seeded_init(&random, seed);
    uint64_t choice = cr_random_seeded_next(&random);
    if (choice % 4 == 0 || count_max == 0)
        return LLVMFuzzerMutate(data, bytes, bytes_max);
    size_t at = (choice >> 2) % (count + 1);
    if (at == count && count == count_max)
        at--;
    change_make(&random, &change);
    memcpy(data + at * sizeof change, &change, sizeof change);
    return (at == count ? count + 1 : count) * sizeof change;
}

/* Some inputs to begin with, each a handful of changes. */
static bool corpus_make(const char *folder)
{
    struct cr_random_seeded random;
    cr_random_seeded_init(&random, tap_random());
    for (unsigned i = 0; i < 64; i++) {
        struct change changes[6];
        char path[512];
        (void)snprintf(path, sizeof path, "%s/seed-%u", folder, i);
        for (size_t k = 0; k < sizeof changes / sizeof changes[0]; k++)
            change_make(&random, &changes[k]);
        FILE *file = fopen(path, "wb");
        if (file == NULL)
            return false;
        bool is_good = fwrite(changes, sizeof changes[0], 1 + i % 6, file) == 1 + i % 6;
        if (fclose(file) != 0 || !is_good)
            return false;
    }
    return true;
}

/* Ends the process, as libFuzzer does: 0 when the time was up. */
static void fuzz(const char *folder)
{
    char time[64], seed[64], artifacts[512], corpus[512], name[] = "fuzz";
    char quiet[] = "-verbosity=0", hang[] = "-timeout=20", length[] = "-max_len=576";
    char final[] = "-print_final_stats=1", no_malloc[] = "-detect_leaks=0";
    (void)snprintf(time, sizeof time, "-max_total_time=%ld", seconds());
    (void)snprintf(seed, sizeof seed, "-seed=%u", (unsigned)tap_random_below(UINT32_MAX) + 1);
    (void)snprintf(artifacts, sizeof artifacts, "-artifact_prefix=%s/", folder);
    (void)snprintf(corpus, sizeof corpus, "%s", folder);
    char *arguments[] = {name,  quiet,     time,      seed,   hang, length,
                         final, no_malloc, artifacts, corpus, NULL};
    int count = sizeof arguments / sizeof arguments[0] - 1;
    char **given = arguments;
    (void)dup2(STDOUT_FILENO, STDERR_FILENO);
    _exit(LLVMFuzzerRunDriver(&count, &given, LLVMFuzzerTestOneInput) == 0 ? 0 : 1);
}

/* What the input was is printed by libFuzzer, in base64. */
static void whatever_stands_in_a_segment_no_reader_is_led_astray(void)
{
    const char *base = getenv("TMPDIR");
    char path[256];
    (void)snprintf(path, sizeof path, "%s/fuzz-XXXXXX", base != NULL ? base : "/tmp");
    if (!begin() || !CHECK(mkdtemp(path) != NULL) || !CHECK(corpus_make(path)))
        return;
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        fuzz(path);
    int status = -1;
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    CHECK_INT(status, 0);
    segment_fini(&genuine);
}

#else

/* As many as there is time for; the parent only waits, so that a fault is a failed test. */
static void fuzz_blindly(uint64_t *out_counts)
{
    struct timespec first, now;
    struct cr_random_seeded random;
    struct change changes[CHANGES_MAX];
    cr_random_seeded_init(&random, tap_random());
    (void)clock_gettime(CLOCK_MONOTONIC, &first);
    do {
        for (unsigned i = 0; i < 200; i++) {
            size_t count = 1 + tap_random_below(8) * tap_random_below(6);
            for (size_t k = 0; k < count; k++)
                change_make(&random, &changes[k]);
            LLVMFuzzerTestOneInput((const unsigned char *)changes, count * sizeof changes[0]);
            out_counts[0] = looks;
            out_counts[1] = found;
        }
        (void)clock_gettime(CLOCK_MONOTONIC, &now);
    } while (now.tv_sec - first.tv_sec < seconds());
}

static void whatever_stands_in_a_segment_no_reader_is_led_astray(void)
{
    if (!begin())
        return;
    uint64_t *counts =
        mmap(NULL, 2 * sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        fuzz_blindly(counts);
        _exit(0);
    }
    int status = -1;
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    CHECK_INT(status, 0);
    tap_note("%llu looks, %llu found", (unsigned long long)counts[0],
             (unsigned long long)counts[1]);
    CHECK(counts[1] > counts[0] / 10); /* or it would have tested misses only */
    CHECK(counts[1] < counts[0] - counts[0] / 1000);
    munmap(counts, 2 * sizeof *counts);
    segment_fini(&genuine);
}

#endif

static const struct tap_test tests[] = {
    TAP_TEST(a_genuine_segment_gives_every_session),
    TAP_TEST(whatever_stands_in_a_segment_no_reader_is_led_astray),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
