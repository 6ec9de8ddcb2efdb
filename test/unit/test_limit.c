/* SPDX-License-Identifier: Apache-2.0 */
/* GCRA, its tiers, and the table that must not forget. */
#include "coord/limit.h"

#include <string.h>

#include "base/random.h"
#include "tap.h"

#define MINUTE (60000 * CR_NS_PER_MS)
#define START (1000 * MINUTE)

static struct cr_limit limit_of(const char *text)
{
    struct cr_limit limit = {0};
    CHECK(cr_limit_read(text, &limit));
    return limit;
}

static void a_limit_is_read_as_it_is_written(void)
{
    static const struct {
        const char *text;
        bool good;
        size_t tiers;
    } cases[] = {
        {"off", true, 0},
        {"5/1m", true, 1},
        {"5/1m 20/1h 60/1d 100/30d", true, 4},
        {"1/365d", true, 1},
        {"1/366d", false, 0},
        {"", false, 0},
        {"5", false, 0},
        {"5/1m ", false, 0},
        {"5/1m  6/1h", false, 0},
        {"0/1m", false, 0},
        {"5/0m", false, 0},
        {"5/1", false, 0},
        {"5/1ms", false, 0},
        {"1000001/1m", false, 0},
        {"5/8784h", false, 0},
        {"-5/1m", false, 0},
        {"1/1m 1/1m 1/1m 1/1m 1/1m", false, 0},
        {"99999999999999999999/1m", false, 0},
        {"5/99999999999999999999d", false, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct cr_limit limit = {.tier_count = 99};
        tap_row(cases[i].text);
        CHECK(cr_limit_read(cases[i].text, &limit) == cases[i].good);
        CHECK_UINT(limit.tier_count, cases[i].good ? cases[i].tiers : 99);
    }
}

/* Store and wire take no more: src/store/store.c aborts on it. */
static void the_longest_debt_fits_what_keeps_it(void)
{
    /* Its interval is rounded up at each of them. */
    struct cr_limit limit = limit_of("999983/365d");
    struct cr_limit_word word = {{0}};
    cr_span_ms left[CR_LIMIT_TIERS_MAX], wait = 0;
    while (cr_limit_admits(&limit, &word, START, &wait))
        cr_limit_charge(&limit, &word, START);
    cr_limit_left(&word, START, left);
    CHECK_INT(left[0], CR_LIMIT_PERIOD_MS_MAX + 1);
    CHECK(left[0] <= CR_SPAN_MS_MAX);
    CHECK(wait > 0);
}

static bool attempt(const struct cr_limit *limit, struct cr_limit_word *word, cr_boot_ns now,
                    cr_span_ms *out_wait)
{
    if (!cr_limit_admits(limit, word, now, out_wait))
        return false;
    cr_limit_charge(limit, word, now);
    return true;
}

static void a_whole_count_comes_at_once_and_then_one_an_interval(void)
{
    struct cr_limit limit = limit_of("5/1m");
    struct cr_limit_word word = {{0}};
    cr_span_ms wait = 0;
    cr_boot_ns now = START;
    for (int i = 0; i < 5; i++)
        CHECK(attempt(&limit, &word, now, &wait));
    CHECK(!attempt(&limit, &word, now, &wait));
    CHECK_INT(wait, 12000);
    CHECK(!attempt(&limit, &word, now + MINUTE / 5 - 1, &wait));
    CHECK_INT(wait, 1);
    CHECK(attempt(&limit, &word, now + MINUTE / 5, &wait));
    CHECK(!attempt(&limit, &word, now + MINUTE / 5, &wait));
}

static void every_tier_must_admit(void)
{
    struct cr_limit limit = limit_of("2/1s 3/1m");
    struct cr_limit_word word = {{0}};
    cr_span_ms wait = 0;
    CHECK(attempt(&limit, &word, START, &wait));
    CHECK(attempt(&limit, &word, START, &wait));
    CHECK(!attempt(&limit, &word, START, &wait));
    CHECK_INT(wait, 500);
    CHECK(attempt(&limit, &word, START + 1000 * CR_NS_PER_MS, &wait));
    CHECK(!attempt(&limit, &word, START + 3000 * CR_NS_PER_MS, &wait));
    CHECK_INT(wait, 17000);
}

static void a_refund_gives_one_back_and_never_goes_below_now(void)
{
    struct cr_limit limit = limit_of("2/1m");
    struct cr_limit_word word = {{0}};
    cr_span_ms wait;
    cr_limit_charge(&limit, &word, START);
    cr_limit_refund(&limit, &word, START);
    CHECK_UINT(word.at[0], START);
    /* Ten for nothing: there is no credit. */
    for (int i = 0; i < 10; i++)
        cr_limit_refund(&limit, &word, START);
    CHECK_UINT(word.at[0], START);
    CHECK(attempt(&limit, &word, START, &wait));
    CHECK(attempt(&limit, &word, START, &wait));
    CHECK(!attempt(&limit, &word, START, &wait));
}

/* The promise, against counting: in no window of a minute more than count + count come through. */
static void no_window_holds_more_than_the_count_and_its_rate(void)
{
    struct cr_random_seeded random;
    struct cr_limit limit = limit_of("7/1m");
    struct cr_limit_word word = {{0}};
    cr_boot_ns admitted[4000] = {0};
    size_t count = 0;
    cr_boot_ns now = START;
    cr_span_ms wait;
    cr_random_seeded_init(&random, tap_seed());
    for (int i = 0; i < 4000; i++) {
        now += cr_random_seeded_next(&random) % (MINUTE / 7);
        if (attempt(&limit, &word, now, &wait))
            admitted[count++] = now;
    }
    for (size_t i = 0; i < count; i++) {
        for (size_t j = i; j < count; j++) {
            cr_boot_ns window = admitted[j] - admitted[i];
            if (j - i + 1 > 7 + window / (MINUTE / 7) + 1)
                CHECK(false);
        }
    }
    CHECK(count > 100);
}

static void what_a_store_kept_is_never_less_and_never_more_than_can_be_owed(void)
{
    struct cr_limit limit = limit_of("5/1m 20/1h");
    struct cr_limit_word word = {{START + 1, START + MINUTE, 0, 0}}, back;
    cr_span_ms left[CR_LIMIT_TIERS_MAX];
    cr_limit_left(&word, START, left);
    CHECK_INT(left[0], 1);
    CHECK_INT(left[1], 60000);
    CHECK_INT(left[2], 0);
    cr_limit_word_of(&limit, left, START, &back);
    CHECK(back.at[0] >= word.at[0]);
    CHECK_UINT(back.at[1], word.at[1]);
    left[0] = CR_SPAN_MS_MAX;
    cr_limit_word_of(&limit, left, START, &back);
    CHECK_UINT(back.at[0], START + MINUTE);
    CHECK_UINT(cr_limit_used(&limit.tiers[0], back.at[0], START), 5);
}

/* ---- the table, and a store beside it that keeps what was charged */

#define KEYS 400

struct shelf {
    struct cr_limit_word words[KEYS];
    unsigned admitted[KEYS];
};

static struct cr_limit_key key_of(size_t number)
{
    struct cr_limit_key key = {{(unsigned char)number, (unsigned char)(number >> 8)}};
    return key;
}

/* Looks, learns from the shelf, takes, writes to the shelf. */
static enum cr_status guess(struct cr_limiter *limiter, struct shelf *shelf,
                            const struct cr_limit *limit, size_t number, cr_boot_ns now)
{
    struct cr_limit_ask ask = {.part_count = 1};
    cr_span_ms wait, left[CR_LIMIT_TIERS_MAX];
    ask.parts[0].key = key_of(number);
    ask.parts[0].limit = limit;
    enum cr_status st = cr_limiter_look(limiter, &ask, now, &wait);
    if (st == CR_ASK) {
        cr_limit_left(&shelf->words[number], now, left);
        cr_limiter_learn(&ask, 0, left, now);
    }
    if (st != CR_LIMITED)
        st = cr_limiter_take(limiter, &ask, now, &wait);
    if (st == CR_OK) {
        shelf->words[number] = *cr_limit_part_word(&ask.parts[0]);
        shelf->admitted[number]++;
    }
    cr_limiter_leave(limiter, &ask, now);
    return st;
}

/* A spray of fresh names through a table of eight gives not one guess more. */
static void a_table_that_is_overfilled_forgets_nothing(void)
{
    static struct shelf shelf;
    struct cr_limit limit = limit_of("5/1h");
    struct cr_limiter *limiter = NULL;
    struct cr_limiter_count count;
    if (!CHECK_STATUS(cr_limiter_create(8, &limiter), CR_OK))
        return;
    memset(&shelf, 0, sizeof shelf);
    for (size_t round = 0; round < 20; round++) {
        for (size_t i = 0; i < KEYS; i++) {
            enum cr_status st = guess(limiter, &shelf, &limit, i, START);
            if (st != (round < 5 ? CR_OK : CR_LIMITED))
                CHECK_STATUS(st, round < 5 ? CR_OK : CR_LIMITED);
        }
    }
    for (size_t i = 0; i < KEYS; i++)
        if (shelf.admitted[i] != 5)
            CHECK_UINT(shelf.admitted[i], 5);
    cr_limiter_count(limiter, &count);
    CHECK(count.entries <= 8);
    CHECK(count.evicted > KEYS);
    cr_limiter_destroy(limiter);
}

static struct cr_limit_ask ask_of(const struct cr_limit *limit, size_t number)
{
    struct cr_limit_ask ask = {.part_count = 1};
    ask.parts[0].key = key_of(number);
    ask.parts[0].limit = limit;
    return ask;
}

/* What the store answers may be older than the charge that was dropped meanwhile. */
static void who_waits_for_the_store_hears_of_what_is_dropped(void)
{
    static struct shelf shelf;
    struct cr_limit limit = limit_of("1/1h");
    struct cr_limiter *limiter = NULL;
    static const cr_span_ms nothing[CR_LIMIT_TIERS_MAX];
    cr_span_ms wait;
    if (!CHECK_STATUS(cr_limiter_create(8, &limiter), CR_OK))
        return;
    memset(&shelf, 0, sizeof shelf);
    struct cr_limit_ask slow = ask_of(&limit, 0);
    CHECK_STATUS(cr_limiter_look(limiter, &slow, START, &wait), CR_ASK);
    CHECK_STATUS(guess(limiter, &shelf, &limit, 0, START), CR_OK);
    for (size_t i = 1; i < 40; i++) /* later, so that the first is the least debt */
        CHECK_STATUS(guess(limiter, &shelf, &limit, i, START + i * MINUTE), CR_OK);
    struct cr_limit_word word;
    struct cr_limit_key first = key_of(0);
    CHECK(!cr_limiter_peek(limiter, &first, &word));
    cr_limiter_learn(&slow, 0, nothing, START);
    CHECK_STATUS(cr_limiter_take(limiter, &slow, START, &wait), CR_LIMITED);
    cr_limiter_leave(limiter, &slow, START);
    cr_limiter_destroy(limiter);
}

static void what_is_in_use_is_not_dropped(void)
{
    static struct shelf shelf;
    struct cr_limit limit = limit_of("2/1h");
    struct cr_limiter *limiter = NULL;
    struct cr_limit_word word;
    cr_span_ms wait;
    static const cr_span_ms nothing[CR_LIMIT_TIERS_MAX];
    if (!CHECK_STATUS(cr_limiter_create(8, &limiter), CR_OK))
        return;
    memset(&shelf, 0, sizeof shelf);
    struct cr_limit_ask held = ask_of(&limit, 0);
    CHECK_STATUS(cr_limiter_look(limiter, &held, START, &wait), CR_ASK);
    cr_limiter_learn(&held, 0, nothing, START);
    CHECK_STATUS(cr_limiter_take(limiter, &held, START, &wait), CR_OK);
    for (size_t i = 1; i < 100; i++)
        CHECK_STATUS(guess(limiter, &shelf, &limit, i, START + i * MINUTE), CR_OK);
    CHECK(cr_limiter_peek(limiter, &held.parts[0].key, &word));
    cr_limiter_give(&held, START);
    CHECK_UINT(cr_limit_part_word(&held.parts[0])->at[0], START);
    cr_limiter_leave(limiter, &held, START);
    cr_limiter_destroy(limiter);
}

static void of_two_keys_one_that_refuses_leaves_the_other_alone(void)
{
    struct cr_limit one = limit_of("1/1h"), many = limit_of("9/1h");
    struct cr_limiter *limiter = NULL;
    static const cr_span_ms nothing[CR_LIMIT_TIERS_MAX];
    struct cr_limit_word word;
    cr_span_ms wait;
    if (!CHECK_STATUS(cr_limiter_create(64, &limiter), CR_OK))
        return;
    for (int i = 0; i < 3; i++) {
        struct cr_limit_ask ask = {.part_count = 2};
        ask.parts[0] = (struct cr_limit_part){.key = key_of(1), .limit = &many};
        ask.parts[1] = (struct cr_limit_part){.key = key_of(2), .limit = &one};
        enum cr_status st = cr_limiter_look(limiter, &ask, START, &wait);
        for (size_t p = 0; st == CR_ASK && p < 2; p++)
            cr_limiter_learn(&ask, p, nothing, START);
        if (st != CR_LIMITED)
            st = cr_limiter_take(limiter, &ask, START, &wait);
        CHECK_STATUS(st, i == 0 ? CR_OK : CR_LIMITED);
        cr_limiter_leave(limiter, &ask, START);
    }
    struct cr_limit_key key = key_of(1);
    CHECK(cr_limiter_peek(limiter, &key, &word));
    CHECK_UINT(cr_limit_used(&many.tiers[0], word.at[0], START), 1);
    cr_limiter_forget(limiter, &key, 1);
    CHECK(!cr_limiter_peek(limiter, &key, &word));
    cr_limiter_destroy(limiter);
}

static const struct tap_test tests[] = {
    TAP_TEST(a_limit_is_read_as_it_is_written),
    TAP_TEST(the_longest_debt_fits_what_keeps_it),
    TAP_TEST(a_whole_count_comes_at_once_and_then_one_an_interval),
    TAP_TEST(every_tier_must_admit),
    TAP_TEST(a_refund_gives_one_back_and_never_goes_below_now),
    TAP_TEST(no_window_holds_more_than_the_count_and_its_rate),
    TAP_TEST(what_a_store_kept_is_never_less_and_never_more_than_can_be_owed),
    TAP_TEST(a_table_that_is_overfilled_forgets_nothing),
    TAP_TEST(who_waits_for_the_store_hears_of_what_is_dropped),
    TAP_TEST(what_is_in_use_is_not_dropped),
    TAP_TEST(of_two_keys_one_that_refuses_leaves_the_other_alone),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
