/* SPDX-License-Identifier: Apache-2.0 */
/* Clocks, their arithmetic, and random numbers. */
#include "base/clock.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/random.h"
#include "tap.h"

#define ROWS(table) (sizeof(table) / sizeof(table)[0])

static void a_fake_clock_stands_still_until_it_is_moved(void)
{
    struct cr_clock_fake fake;
    cr_clock_fake_init(&fake, 1700000000000);
    cr_boot_ns start = cr_clock_boot(&fake.clock);
    CHECK_UINT(cr_clock_boot(&fake.clock), start);
    CHECK_INT(cr_clock_wall(&fake.clock), 1700000000000);
    cr_clock_fake_advance(&fake, 1500);
    CHECK_UINT(cr_clock_boot(&fake.clock), start + 1500 * CR_NS_PER_MS);
    CHECK_INT(cr_clock_wall(&fake.clock), 1700000001500);
}

/* People set the wall clock; deadlines must not notice (ASVS C6). */
static void a_fake_wall_clock_moves_alone(void)
{
    struct cr_clock_fake fake;
    cr_clock_fake_init(&fake, 1700000000000);
    cr_boot_ns start = cr_clock_boot(&fake.clock);
    fake.now_wall -= 24LL * 3600 * 1000;
    CHECK_UINT(cr_clock_boot(&fake.clock), start);
}

static void the_system_clock_does_not_go_back(void)
{
    struct cr_clock *clock = cr_clock_system();
    cr_boot_ns last = cr_clock_boot(clock);
    for (int i = 0; i < 1000; i++) {
        cr_boot_ns now = cr_clock_boot(clock);
        if (!CHECK(now >= last))
            return;
        last = now;
    }
    CHECK(cr_clock_wall(clock) > 1700000000000); /* some time after November 2023 */
}

static void adding_a_span_never_wraps(void)
{
    static const struct {
        const char *name;
        cr_boot_ns ns;
        cr_span_ms span;
        cr_boot_ns want;
    } rows[] = {
        {"forward", 5, 3, 3000005},
        {"back", 3000005, -3, 5},
        {"back below the start", 5, -1, 0},
        {"back exactly to the start", 1000000, -1, 0},
        {"nothing", 7, 0, 7},
        {"forward past the end", 7, INT64_MAX, CR_BOOT_NEVER},
        {"forward to just before the end", UINT64_MAX - 1000001, 1, UINT64_MAX - 1},
        {"forward to the end", UINT64_MAX - 1000000, 1, CR_BOOT_NEVER},
        {"the least span", UINT64_MAX - 1, INT64_MIN, 0},
        {"never stays never", CR_BOOT_NEVER, -1, CR_BOOT_NEVER},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        tap_row(rows[i].name);
        CHECK_UINT(cr_boot_add(rows[i].ns, rows[i].span), rows[i].want);
    }
}

static void what_is_past_a_deadline_by_less_than_a_millisecond_is_past_it(void)
{
    static const struct {
        const char *name;
        cr_boot_ns from, to;
        cr_span_ms want;
    } rows[] = {
        {"the same instant", 5, 5, 0},
        {"nearly a millisecond", 0, 999999, 0},
        {"a millisecond", 0, 1000000, 1},
        {"one nanosecond late", 1, 0, -1},
        {"a millisecond late", 1000000, 0, -1},
        {"a little more than a millisecond late", 1000001, 0, -2},
        {"from the start to never", 0, CR_BOOT_NEVER, (cr_span_ms)(UINT64_MAX / CR_NS_PER_MS)},
        {"and back", CR_BOOT_NEVER, 0, -(cr_span_ms)(UINT64_MAX / CR_NS_PER_MS) - 1},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        tap_row(rows[i].name);
        CHECK_INT(cr_boot_between(rows[i].from, rows[i].to), rows[i].want);
    }
}

static void a_boot_has_one_id(void)
{
    unsigned char a[16] = {0}, b[16] = {0}, zero[16] = {0};
    if (!CHECK_STATUS(cr_boot_id(a), CR_OK) || !CHECK_STATUS(cr_boot_id(b), CR_OK))
        return;
    CHECK_MEM(a, b, sizeof a);
    CHECK(memcmp(a, zero, sizeof a) != 0);
}

/* splitmix64's published first numbers from seed 1234567. */
static void a_seeded_generator_repeats_itself(void)
{
    static const uint64_t want[] = {6457827717110365317u, 3203168211198807973u,
                                    9817491932198370423u};
    struct cr_random_seeded seeded;
    cr_random_seeded_init(&seeded, 1234567);
    for (size_t i = 0; i < ROWS(want); i++)
        CHECK_UINT(cr_random_seeded_next(&seeded), want[i]);
    unsigned char bytes[11];
    cr_random_seeded_init(&seeded, 1234567);
    if (CHECK_STATUS(cr_random_fill(&seeded.random, bytes, sizeof bytes), CR_OK)) {
        CHECK_MEM(bytes, &want[0], 8);
        CHECK_MEM(bytes + 8, &want[1], 3);
    }
}

/* ASVS A2: nothing of the generator's state is in this process. */
static void parent_and_child_never_draw_the_same_bytes(void)
{
    unsigned char mine[32], theirs[32];
    int ends[2];
    if (!CHECK(pipe(ends) == 0))
        return;
    pid_t pid = fork();
    if (pid == 0) {
        bool is_good = cr_random_fill(cr_random_system(), theirs, sizeof theirs) == CR_OK &&
                       write(ends[1], theirs, sizeof theirs) == (ssize_t)sizeof theirs;
        _exit(is_good ? 0 : 1);
    }
    close(ends[1]);
    CHECK_STATUS(cr_random_fill(cr_random_system(), mine, sizeof mine), CR_OK);
    CHECK_INT(read(ends[0], theirs, sizeof theirs), sizeof theirs);
    close(ends[0]);
    int status = -1;
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
    CHECK(memcmp(mine, theirs, sizeof mine) != 0);
}

static void many_random_bytes_are_all_filled(void)
{
    static unsigned char bytes[4096];
    if (!CHECK_STATUS(cr_random_fill(cr_random_system(), bytes, sizeof bytes), CR_OK))
        return;
    for (size_t i = 0; i < sizeof bytes; i += 64) {
        static const unsigned char zero[64];
        CHECK(memcmp(bytes + i, zero, sizeof zero) != 0);
    }
}

static const struct tap_test tests[] = {
    TAP_TEST(a_fake_clock_stands_still_until_it_is_moved),
    TAP_TEST(a_fake_wall_clock_moves_alone),
    TAP_TEST(the_system_clock_does_not_go_back),
    TAP_TEST(adding_a_span_never_wraps),
    TAP_TEST(what_is_past_a_deadline_by_less_than_a_millisecond_is_past_it),
    TAP_TEST(a_boot_has_one_id),
    TAP_TEST(a_seeded_generator_repeats_itself),
    TAP_TEST(parent_and_child_never_draw_the_same_bytes),
    TAP_TEST(many_random_bytes_are_all_filled),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
