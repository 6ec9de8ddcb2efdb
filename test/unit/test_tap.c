/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The harness tests itself: it runs this program as a child, under a table of tests that go wrong
 * on purpose, and reads what the child said. A harness that cannot fail proves nothing.
 */
#include "tap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void fails_every_check(void)
{
    CHECK(1 > 2);
    CHECK_INT(-1, 2);
    CHECK_UINT(10, 11);
    CHECK_STR("abc", NULL);
    CHECK_MEM("abc", "abd", 3);
}

static void fails_in_a_row(void)
{
    tap_row("third");
    CHECK(false);
}

static void skips(void)
{
    tap_skip("no reason");
}

static void skips_after_failing(void)
{
    CHECK(false);
    tap_skip("no reason");
}

static void passes(void)
{
    CHECK(true);
    CHECK_INT(-1, -1);
    CHECK_UINT(1, 1);
    CHECK_STR("abc", "abc");
    CHECK_STR(NULL, NULL);
    CHECK_MEM("abc", "abd", 2);
}

static void prints_random(void)
{
    tap_note("first random %llu", (unsigned long long)tap_random());
}

static const struct tap_test child_tests[] = {
    TAP_TEST(fails_every_check),   TAP_TEST(fails_in_a_row), TAP_TEST(skips),
    TAP_TEST(skips_after_failing), TAP_TEST(passes),         TAP_TEST(prints_random),
};

struct child {
    int exit_status;
    char output[4096];
};

/* Runs this program again as the child, with one argument or none. */
static bool child_run(const char *argument, const char *seed, struct child *out)
{
    *out = (struct child){.exit_status = -1};
    int ends[2];
    if (!CHECK(pipe(ends) == 0))
        return false;
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        setenv("CR_TAP_CHILD", "1", 1);
        setenv("CR_SEED", seed, 1);
        execl("/proc/self/exe", "test_tap", argument, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    size_t length = 0;
    ssize_t got;
    while (length < sizeof out->output - 1 &&
           (got = read(ends[0], out->output + length, sizeof out->output - 1 - length)) > 0)
        length += (size_t)got;
    close(ends[0]);
    int status = 0;
    if (!CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status)))
        return false;
    out->exit_status = WEXITSTATUS(status);
    return true;
}

static bool child_said(const struct child *child, const char *text)
{
    if (strstr(child->output, text) != NULL)
        return true;
    tap_note("the child did not say: %s", text);
    return false;
}

static void a_failed_check_makes_a_failing_program(void)
{
    struct child child;
    if (!child_run("fails_every_check", "1", &child))
        return;
    CHECK_INT(child.exit_status, 1);
    CHECK(child_said(&child, "\nnot ok 1 - fails_every_check\n"));
}

static void a_failed_check_tells_where_and_what(void)
{
    static const char *const lines[] = {
        "test_tap.c:",        ": 1 > 2\n",          "    got:  -1\n",  "    want: 2\n",
        "    got:  10 (0xa)", "    want: 11 (0xb)", "    got:  abc\n", "    want: NULL\n",
        "byte 2 of 3: 63\n",  "byte 2 of 3: 64\n",
    };
    struct child child;
    if (!child_run("fails_every_check", "1", &child))
        return;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        CHECK(child_said(&child, lines[i]));
    if (child_run("fails_in_a_row", "1", &child))
        CHECK(child_said(&child, "in row: third\n"));
}

static void one_failed_test_outweighs_the_rest(void)
{
    struct child child;
    if (!child_run(NULL, "1", &child))
        return;
    CHECK_INT(child.exit_status, 1);
    CHECK(child_said(&child, "1..6\n"));
    CHECK(child_said(&child, "\nnot ok 2 - fails_in_a_row\n"));
    CHECK(child_said(&child, "\nok 3 - skips # SKIP no reason\n"));
    CHECK(child_said(&child, "\nnot ok 4 - skips_after_failing\n"));
    CHECK(child_said(&child, "\nok 5 - passes\n"));
}

static void a_program_without_failures_succeeds(void)
{
    struct child child;
    if (child_run("passes", "1", &child))
        CHECK_INT(child.exit_status, 0);
    if (child_run("skips", "1", &child))
        CHECK_INT(child.exit_status, 0);
}

static void an_unknown_test_is_refused(void)
{
    struct child child;
    if (child_run("flies", "1", &child))
        CHECK_INT(child.exit_status, 2);
}

static void a_seed_that_is_no_number_is_refused(void)
{
    struct child child;
    if (child_run("passes", "0x1", &child))
        CHECK_INT(child.exit_status, 2);
}

static void a_test_alone_sees_the_numbers_it_saw_among_others(void)
{
    struct child alone;
    struct child among;
    if (!child_run("prints_random", "81723", &alone) || !child_run(NULL, "81723", &among))
        return;
    CHECK(child_said(&alone, "# CR_SEED=81723\n"));
    char *line = strstr(alone.output, "# first random");
    if (!CHECK(line != NULL))
        return;
    line[strcspn(line, "\n")] = '\0';
    CHECK(child_said(&among, line));
    if (child_run("prints_random", "81724", &among))
        CHECK(strstr(among.output, line) == NULL);
}

static const struct tap_test tests[] = {
    TAP_TEST(a_failed_check_makes_a_failing_program),
    TAP_TEST(a_failed_check_tells_where_and_what),
    TAP_TEST(one_failed_test_outweighs_the_rest),
    TAP_TEST(a_program_without_failures_succeeds),
    TAP_TEST(an_unknown_test_is_refused),
    TAP_TEST(a_seed_that_is_no_number_is_refused),
    TAP_TEST(a_test_alone_sees_the_numbers_it_saw_among_others),
};

int main(int argc, char **argv)
{
    if (getenv("CR_TAP_CHILD") != NULL)
        return TAP_MAIN(child_tests, argc, argv);
    return TAP_MAIN(tests, argc, argv);
}
