/* SPDX-License-Identifier: Apache-2.0 */
/* The loop without threads: the order of timers and of work, on a clock that the test moves. */
#include "base/loop.h"

#include <string.h>

#include "tap.h"

#define STARTS_MAX 64

struct named_timer {
    struct cr_timer timer;
    char name;
    struct fixture *fixture;
    void (*also)(struct named_timer *);
};

struct named_work {
    struct cr_work work;
    char name;
    struct fixture *fixture;
    struct named_work *then; /* submitted when this one is done */
};

struct fixture {
    struct cr_clock_fake clock;
    struct cr_loop *loop;
    struct cr_pool *pool;
    struct named_timer timers[4]; /* a to d */
    struct named_work works[4];   /* a to d */
    char said[STARTS_MAX];        /* what happened, in order */
};

static void say(struct fixture *f, char what)
{
    size_t length = strlen(f->said);
    if (CHECK(length + 1 < sizeof f->said))
        f->said[length] = what;
}

static void timer_fired(struct cr_timer *timer)
{
    struct named_timer *named = (struct named_timer *)timer;
    CHECK_UINT(timer->due, 0);
    say(named->fixture, named->name);
    if (named->also != NULL)
        named->also(named);
}

static void works_run(void *context, unsigned thread, struct cr_work *const *batch, size_t count)
{
    CHECK_UINT(thread, 0);
    say(context, '(');
    for (size_t i = 0; i < count; i++)
        say(context, ((const struct named_work *)batch[i])->name);
    say(context, ')');
}

static void work_done(struct cr_work *work)
{
    struct named_work *named = (struct named_work *)work;
    say(named->fixture, (char)(named->name - 'a' + 'A'));
    if (named->then != NULL && !cr_pool_submit(named->fixture->pool, &named->then->work))
        say(named->fixture, '!');
}

static bool setup(struct fixture *f, size_t queue_max, size_t batch_max)
{
    memset(f, 0, sizeof *f);
    cr_clock_fake_init(&f->clock, 0);
    for (int i = 0; i < 4; i++) {
        f->timers[i] = (struct named_timer){{.fire = timer_fired}, (char)('a' + i), f, NULL};
        f->works[i] = (struct named_work){{.done = work_done}, (char)('a' + i), f, NULL};
    }
    if (!CHECK_STATUS(cr_loop_inline_create(&f->clock.clock, &f->loop), CR_OK))
        return false;
    struct cr_pool_options options = {.name = "test",
                                      .threads = 1,
                                      .queue_max = queue_max,
                                      .batch_max = batch_max,
                                      .run = works_run,
                                      .context = f};
    return CHECK_STATUS(cr_pool_create(f->loop, &options, &f->pool), CR_OK);
}

static void teardown(struct fixture *f)
{
    cr_pool_destroy(f->pool);
    cr_loop_inline_destroy(f->loop);
}

static void set_after(struct fixture *f, char name, cr_span_ms span)
{
    cr_timer_set(f->loop, &f->timers[name - 'a'].timer,
                 cr_boot_add(cr_clock_boot(&f->clock.clock), span));
}

static void timers_fire_in_the_order_of_their_due(void)
{
    struct fixture f;
    if (setup(&f, 1, 1)) {
        set_after(&f, 'a', 30);
        set_after(&f, 'b', 10);
        set_after(&f, 'c', 20);
        set_after(&f, 'd', 10); /* as b, but set later */
        cr_clock_fake_advance(&f.clock, 30);
        CHECK_UINT(cr_loop_inline_run(f.loop), CR_BOOT_NEVER);
        CHECK_STR(f.said, "bdca");
    }
    teardown(&f);
}

static void a_timer_fires_once_and_not_before_its_due(void)
{
    struct fixture f;
    if (setup(&f, 1, 1)) {
        set_after(&f, 'a', 10);
        cr_boot_ns due = f.timers[0].timer.due;
        cr_clock_fake_advance(&f.clock, 9);
        CHECK_UINT(cr_loop_inline_run(f.loop), due);
        CHECK_STR(f.said, "");
        cr_clock_fake_advance(&f.clock, 1);
        CHECK_UINT(cr_loop_inline_run(f.loop), CR_BOOT_NEVER);
        cr_clock_fake_advance(&f.clock, 100);
        cr_loop_inline_run(f.loop);
        CHECK_STR(f.said, "a");
    }
    teardown(&f);
}

static void a_timer_that_is_set_again_forgets_its_first_due(void)
{
    struct fixture f;
    if (setup(&f, 1, 1)) {
        set_after(&f, 'a', 10);
        set_after(&f, 'b', 20);
        set_after(&f, 'a', 30);
        cr_clock_fake_advance(&f.clock, 20);
        cr_loop_inline_run(f.loop);
        CHECK_STR(f.said, "b");
        cr_clock_fake_advance(&f.clock, 10);
        cr_loop_inline_run(f.loop);
        CHECK_STR(f.said, "ba");
    }
    teardown(&f);
}

static void a_stopped_timer_does_not_fire(void)
{
    struct fixture f;
    if (setup(&f, 1, 1)) {
        for (int i = 0; i < 4; i++)
            set_after(&f, (char)('a' + i), i + 1);
        cr_timer_stop(f.loop, &f.timers[1].timer);               /* in the middle */
        cr_timer_stop(f.loop, &f.timers[3].timer);               /* the last */
        cr_timer_stop(f.loop, &f.timers[3].timer);               /* again: nothing */
        cr_timer_set(f.loop, &f.timers[0].timer, CR_BOOT_NEVER); /* the first, another way */
        cr_clock_fake_advance(&f.clock, 10);
        CHECK_UINT(cr_loop_inline_run(f.loop), CR_BOOT_NEVER);
        CHECK_STR(f.said, "c");
    }
    teardown(&f);
}

static void stop_the_next(struct named_timer *named)
{
    cr_timer_stop(named->fixture->loop, &(named + 1)->timer);
}

static void a_timer_may_stop_one_that_is_due_with_it(void)
{
    struct fixture f;
    if (setup(&f, 1, 1)) {
        f.timers[0].also = stop_the_next;
        set_after(&f, 'a', 1);
        set_after(&f, 'b', 1);
        set_after(&f, 'c', 1);
        cr_clock_fake_advance(&f.clock, 1);
        cr_loop_inline_run(f.loop);
        CHECK_STR(f.said, "ac");
    }
    teardown(&f);
}

static void set_itself_in_the_past(struct named_timer *named)
{
    cr_timer_set(named->fixture->loop, &named->timer, 1);
}

static void a_timer_that_sets_itself_anew_leaves_the_others_their_turn(void)
{
    struct fixture f;
    if (setup(&f, 1, 1)) {
        f.timers[0].also = set_itself_in_the_past;
        set_after(&f, 'a', 1);
        set_after(&f, 'b', 1);
        cr_clock_fake_advance(&f.clock, 1);
        CHECK_UINT(cr_loop_inline_run(f.loop), cr_clock_boot(&f.clock.clock));
        CHECK_STR(f.said, "ab");
        cr_loop_inline_run(f.loop);
        CHECK_STR(f.said, "aba");
    }
    teardown(&f);
}

/* Against a plain model: what fires is what is due, by due and then by when it was set. */
static void random_timers_fire_as_in_a_plain_model(void)
{
    enum { COUNT = 40, ROUNDS = 400 };
    struct model {
        struct named_timer named;
        cr_boot_ns due; /* 0: not set */
        size_t set_at;
    };
    static struct model models[COUNT];
    struct fixture f;
    if (!setup(&f, 1, 1))
        return;
    for (size_t i = 0; i < COUNT; i++)
        models[i] = (struct model){.named = {{.fire = timer_fired}, (char)(' ' + i), &f, NULL}};
    for (size_t round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < 5; i++) {
            struct model *m = &models[tap_random_below(COUNT)];
            bool is_set = tap_random_below(4) > 0;
            cr_boot_ns now = cr_clock_boot(&f.clock.clock);
            m->due = is_set ? cr_boot_add(now, (cr_span_ms)tap_random_below(20)) : 0;
            m->set_at = round * 5 + (size_t)i;
            if (is_set)
                cr_timer_set(f.loop, &m->named.timer, m->due);
            else
                cr_timer_stop(f.loop, &m->named.timer);
        }
        cr_clock_fake_advance(&f.clock, (cr_span_ms)tap_random_below(6));
        char want[STARTS_MAX] = "";
        for (;;) {
            struct model *next = NULL;
            for (size_t i = 0; i < COUNT; i++) {
                struct model *m = &models[i];
                if (m->due != 0 && m->due <= cr_clock_boot(&f.clock.clock) &&
                    (next == NULL || m->due < next->due ||
                     (m->due == next->due && m->set_at < next->set_at)))
                    next = m;
            }
            if (next == NULL)
                break;
            want[strlen(want)] = next->named.name;
            next->due = 0;
        }
        memset(f.said, 0, sizeof f.said);
        cr_loop_inline_run(f.loop);
        if (!CHECK_STR(f.said, want))
            break;
    }
    teardown(&f);
}

static void work_is_run_and_done_before_submit_returns(void)
{
    struct fixture f;
    if (setup(&f, 1, 4)) {
        CHECK(cr_pool_submit(f.pool, &f.works[0].work));
        CHECK_STR(f.said, "(a)A");
        CHECK(cr_pool_submit(f.pool, &f.works[1].work));
        CHECK_STR(f.said, "(a)A(b)B");
    }
    teardown(&f);
}

static void work_submitted_from_done_is_run_by_the_outermost_submit(void)
{
    struct fixture f;
    if (setup(&f, 4, 1)) {
        f.works[0].then = &f.works[1];
        f.works[1].then = &f.works[2];
        CHECK(cr_pool_submit(f.pool, &f.works[0].work));
        CHECK_STR(f.said, "(a)A(b)B(c)C");
    }
    teardown(&f);
}

static void give_two_more(struct cr_work *work)
{
    struct named_work *named = (struct named_work *)work;
    struct fixture *f = named->fixture;
    say(f, 'A');
    for (int i = 1; i <= 3; i++)
        say(f, cr_pool_submit(f->pool, &f->works[i].work) ? '+' : '!');
}

static void waiting_work_is_bounded_and_run_in_batches(void)
{
    struct fixture f;
    if (setup(&f, 2, 2)) {
        f.works[0].work.done = give_two_more;
        CHECK(cr_pool_submit(f.pool, &f.works[0].work));
        CHECK_STR(f.said, "(a)A++!(bc)BC");
    }
    teardown(&f);
}

static void a_held_loop_runs_what_waited_in_batches_when_it_is_let_go(void)
{
    struct fixture f;
    if (setup(&f, 3, 2)) {
        cr_loop_inline_hold(f.loop);
        for (int i = 0; i < 3; i++)
            CHECK(cr_pool_submit(f.pool, &f.works[i].work));
        CHECK(!cr_pool_submit(f.pool, &f.works[3].work));
        CHECK_STR(f.said, "");
        cr_loop_inline_release(f.loop);
        CHECK_STR(f.said, "(ab)AB(c)C");
        CHECK(cr_pool_submit(f.pool, &f.works[3].work));
        CHECK_STR(f.said, "(ab)AB(c)C(d)D");
    }
    teardown(&f);
}

static const struct tap_test tests[] = {
    TAP_TEST(timers_fire_in_the_order_of_their_due),
    TAP_TEST(a_timer_fires_once_and_not_before_its_due),
    TAP_TEST(a_timer_that_is_set_again_forgets_its_first_due),
    TAP_TEST(a_stopped_timer_does_not_fire),
    TAP_TEST(a_timer_may_stop_one_that_is_due_with_it),
    TAP_TEST(a_timer_that_sets_itself_anew_leaves_the_others_their_turn),
    TAP_TEST(random_timers_fire_as_in_a_plain_model),
    TAP_TEST(work_is_run_and_done_before_submit_returns),
    TAP_TEST(work_submitted_from_done_is_run_by_the_outermost_submit),
    TAP_TEST(waiting_work_is_bounded_and_run_in_batches),
    TAP_TEST(a_held_loop_runs_what_waited_in_batches_when_it_is_let_go),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
