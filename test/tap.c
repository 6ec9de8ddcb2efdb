/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a table of tests and speaks TAP. Its state is global: a test program has one harness, and
 * checks are shorter to read without it. The only state touched from other threads is the count of
 * failed checks.
 */
#include "tap.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static struct {
    uint64_t seed;
    uint64_t random;  /* state of the running test's stream */
    const char *skip; /* reason, or NULL */
    const char *row;
    atomic_int failed_checks;
} tap;

static bool seed_init(void)
{
    const char *text = getenv("CR_SEED");
    if (text == NULL || *text == '\0')
        return getrandom(&tap.seed, sizeof tap.seed, 0) == (ssize_t)sizeof tap.seed;
    char *end;
    tap.seed = strtoull(text, &end, 10);
    return *end == '\0';
}

/* SplitMix64: enough for tests, the same everywhere. */
uint64_t tap_random(void)
{
    uint64_t z = (tap.random += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t tap_random_below(uint64_t bound)
{
    return tap_random() % bound;
}

uint64_t tap_seed(void)
{
    return tap.seed;
}

void tap_skip(const char *reason)
{
    tap.skip = reason;
}

void tap_row(const char *name)
{
    tap.row = name;
}

void tap_note(const char *format, ...)
{
    char line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    printf("# %s\n", line);
}

static bool check_report(const char *file, int line, const char *expr, bool holds, const char *got,
                         const char *want)
{
    if (holds)
        return true;
    atomic_fetch_add(&tap.failed_checks, 1);
    if (tap.row != NULL)
        tap_note("%s:%d: in row: %s", file, line, tap.row);
    tap_note("%s:%d: %s", file, line, expr);
    if (got != NULL) {
        tap_note("    got:  %s", got);
        tap_note("    want: %s", want);
    }
    return false;
}

void tap_check_failed(const char *file, int line, const char *expr)
{
    check_report(file, line, expr, false, NULL, NULL);
}

bool tap_check_int(const char *file, int line, const char *expr, intmax_t got, intmax_t want)
{
    char texts[2][32];
    snprintf(texts[0], sizeof texts[0], "%" PRIdMAX, got);
    snprintf(texts[1], sizeof texts[1], "%" PRIdMAX, want);
    return check_report(file, line, expr, got == want, texts[0], texts[1]);
}

bool tap_check_uint(const char *file, int line, const char *expr, uintmax_t got, uintmax_t want)
{
    char texts[2][64];
    snprintf(texts[0], sizeof texts[0], "%" PRIuMAX " (0x%" PRIxMAX ")", got, got);
    snprintf(texts[1], sizeof texts[1], "%" PRIuMAX " (0x%" PRIxMAX ")", want, want);
    return check_report(file, line, expr, got == want, texts[0], texts[1]);
}

bool tap_check_str(const char *file, int line, const char *expr, const char *got, const char *want)
{
    bool equal = got == want || (got != NULL && want != NULL && strcmp(got, want) == 0);
    return check_report(file, line, expr, equal, got != NULL ? got : "NULL",
                        want != NULL ? want : "NULL");
}

bool tap_check_mem(const char *file, int line, const char *expr, const void *got, const void *want,
                   size_t bytes)
{
    const unsigned char *pieces[2] = {got, want};
    size_t at = 0;
    while (at < bytes && pieces[0][at] == pieces[1][at])
        at++;
    if (at == bytes)
        return true;
    /* The first difference and what follows it tell more than the whole. */
    char texts[2][128];
    for (int i = 0; i < 2; i++) {
        int length = snprintf(texts[i], sizeof texts[i], "at byte %zu of %zu:", at, bytes);
        for (size_t j = at; j < bytes && j < at + 16; j++)
            length += snprintf(texts[i] + length, sizeof texts[i] - (size_t)length, " %02x",
                               pieces[i][j]);
    }
    return check_report(file, line, expr, false, texts[0], texts[1]);
}

static bool test_run(const struct tap_test *test, size_t number)
{
    tap.random = tap.seed;
    tap.skip = NULL;
    tap.row = NULL;
    atomic_store(&tap.failed_checks, 0);
    test->run();
    bool passed = atomic_load(&tap.failed_checks) == 0;
    printf("%sok %zu - %s", passed ? "" : "not ", number, test->name);
    if (passed && tap.skip != NULL)
        printf(" # SKIP %s", tap.skip);
    printf("\n");
    return passed;
}

int tap_main(const struct tap_test *tests, size_t test_count, int argc, char **argv)
{
    /* A line at a time: nothing is lost in a crash, nothing printed twice by a forked child. */
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (size_t i = 0; i < test_count; i++)
            printf("%s\n", tests[i].name);
        return 0;
    }
    const struct tap_test *first = tests;
    if (argc > 1) {
        while (first < tests + test_count && strcmp(first->name, argv[1]) != 0)
            first++;
        if (argc > 2 || first == tests + test_count) {
            fprintf(stderr, "usage: %s [--list | TEST]; --list names the tests\n", argv[0]);
            return 2;
        }
        test_count = 1;
    }
    if (!seed_init()) {
        fprintf(stderr, "CR_SEED must be a decimal number\n");
        return 2;
    }
    printf("1..%zu\n", test_count);
    tap_note("CR_SEED=%" PRIu64, tap.seed);
    size_t failed_count = 0;
    for (size_t i = 0; i < test_count; i++)
        failed_count += test_run(&first[i], i + 1) ? 0 : 1;
    return failed_count == 0 ? 0 : 1;
}
