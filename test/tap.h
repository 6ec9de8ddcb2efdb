/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The test harness. A program is a table of functions whose names are sentences:
 *
 *     static void an_empty_arena_gives_memory(void)
 *     {
 *         struct cr_arena arena = { 0 };
 *         if (!CHECK(cr_arena_init(&arena, 64)))
 *             return;
 *         CHECK_INT(arena.used_bytes, 0);
 *     }
 *     static const struct tap_test tests[] = { TAP_TEST(an_empty_arena_gives_memory) };
 *     int main(int argc, char **argv)
 *     {
 *         return TAP_MAIN(tests, argc, argv);
 *     }
 *
 * `test_arena an_empty_arena_gives_memory` runs that one alone, `test_arena --list` names all.
 * A check that fails prints where and what, and the test goes on: a check is an expression that
 * says whether it held, so a test which cannot go on returns. Checks may be made from any thread of
 * the test's process, not from a forked child (its result would stay there).
 */
#ifndef TAP_H
#define TAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tap_test {
    const char *name;
    void (*run)(void);
};

#define TAP_TEST(function)                                                                         \
    {                                                                                              \
#function, function                                                                        \
    }
#define TAP_MAIN(tests, argc, argv) tap_main(tests, sizeof(tests) / sizeof(tests)[0], argc, argv)

/* Runs what `argv` names, or all. Answers the exit status: 0, 1 when a test failed, 2 for a wrong
 * name. */
int tap_main(const struct tap_test *tests, size_t test_count, int argc, char **argv);

/* The running test is skipped rather than passed; it should return next. A failed check outweighs
 * it. */
void tap_skip(const char *reason);

/* A line of output that belongs to the running test. */
__attribute__((format(printf, 1, 2))) void tap_note(const char *format, ...);

/* From CR_SEED, else from the system; printed before the first test runs. */
uint64_t tap_seed(void);

/*
 * The next number of a stream that begins anew from the seed with each test, so a test run alone
 * sees the numbers it saw among others. From the test's own thread only. `bound` is at least 1.
 */
uint64_t tap_random(void);
uint64_t tap_random_below(uint64_t bound);

#define CHECK(expr) tap_check(__FILE__, __LINE__, #expr, (expr))
#define CHECK_INT(got, want)                                                                       \
    tap_check_int(__FILE__, __LINE__, #got, (intmax_t)(got), (intmax_t)(want))
#define CHECK_UINT(got, want)                                                                      \
    tap_check_uint(__FILE__, __LINE__, #got, (uintmax_t)(got), (uintmax_t)(want))
/* Either string may be NULL; two NULLs are equal. */
#define CHECK_STR(got, want) tap_check_str(__FILE__, __LINE__, #got, (got), (want))
#define CHECK_MEM(got, want, bytes) tap_check_mem(__FILE__, __LINE__, #got, (got), (want), (bytes))
/* Shows both by name. The test includes <cloakroom/status.h> itself. */
#define CHECK_STATUS(got, want)                                                                    \
    tap_check_str(__FILE__, __LINE__, #got, cr_status_name(got), cr_status_name(want))

/* Which row of a table of cases the following checks are about, printed when one fails. NULL ends
 * it. */
void tap_row(const char *name);

void tap_check_failed(const char *file, int line, const char *expr);
/* Inline, so that an analyser sees what a check that held implies. */
static inline bool tap_check(const char *file, int line, const char *expr, bool holds)
{
    if (!holds)
        tap_check_failed(file, line, expr);
    return holds;
}
bool tap_check_int(const char *file, int line, const char *expr, intmax_t got, intmax_t want);
bool tap_check_uint(const char *file, int line, const char *expr, uintmax_t got, uintmax_t want);
bool tap_check_str(const char *file, int line, const char *expr, const char *got, const char *want);
bool tap_check_mem(const char *file, int line, const char *expr, const void *got, const void *want,
                   size_t bytes);

#endif
