/* SPDX-License-Identifier: Apache-2.0 */
/* The loop with threads. Each test ends by an event that it waits for; the time limit of the
 * program is what a loop that hangs meets. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/loop.h"
#include "tap.h"

#define WORKS 16

struct fixture;

struct numbered_work {
    struct cr_work work;
    struct fixture *fixture;
    size_t done_order; /* from 1; 0: not done */
};

struct fixture {
    struct cr_loop *loop;
    struct cr_pool *pool;
    pthread_t loop_thread;
    struct numbered_work works[WORKS];
    size_t submitted, done;
    size_t stop_at; /* the loop stops when so many are done */
    /* The gate: runs wait at it until it is opened. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_open;
    size_t run_count;      /* runs that came to the gate */
    size_t batches[WORKS]; /* how many each run took */
    unsigned threads_seen; /* bits */
    int nice_seen;
};

static void gate_open(struct fixture *f)
{
    pthread_mutex_lock(&f->lock);
    f->is_open = true;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

static void gate_wait_for_runs(struct fixture *f, size_t count)
{
    pthread_mutex_lock(&f->lock);
    while (f->run_count < count)
        pthread_cond_wait(&f->changed, &f->lock);
    pthread_mutex_unlock(&f->lock);
}

static void works_run(void *context, unsigned thread, struct cr_work *const *batch, size_t count)
{
    struct fixture *f = context;
    CHECK(!pthread_equal(pthread_self(), f->loop_thread));
    pthread_mutex_lock(&f->lock);
    f->batches[f->run_count++] = count;
    f->threads_seen |= 1u << thread;
    f->nice_seen = getpriority(PRIO_PROCESS, (id_t)gettid());
    pthread_cond_broadcast(&f->changed);
    while (!f->is_open)
        pthread_cond_wait(&f->changed, &f->lock);
    pthread_mutex_unlock(&f->lock);
}

static void work_done(struct cr_work *work)
{
    struct numbered_work *numbered = (struct numbered_work *)work;
    struct fixture *f = numbered->fixture;
    CHECK(pthread_equal(pthread_self(), f->loop_thread));
    numbered->done_order = ++f->done;
    if (f->done >= f->stop_at)
        cr_loop_uv_stop(f->loop);
}

static bool setup(struct fixture *f, unsigned threads, size_t queue_max, size_t batch_max, int nice)
{
    memset(f, 0, sizeof *f);
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->changed, NULL);
    f->loop_thread = pthread_self();
    for (size_t i = 0; i < WORKS; i++)
        f->works[i] = (struct numbered_work){.work = {.done = work_done}, .fixture = f};
    struct cr_pool_options options = {.name = "a name too long for a thread",
                                      .threads = threads,
                                      .queue_max = queue_max,
                                      .batch_max = batch_max,
                                      .nice = nice,
                                      .run = works_run,
                                      .context = f};
    return CHECK_STATUS(cr_loop_uv_create(&f->loop), CR_OK) &&
           CHECK_STATUS(cr_pool_create(f->loop, &options, &f->pool), CR_OK);
}

static void teardown(struct fixture *f)
{
    gate_open(f);
    cr_pool_destroy(f->pool);
    cr_loop_uv_destroy(f->loop);
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->lock);
}

static bool submit(struct fixture *f)
{
    return cr_pool_submit(f->pool, &f->works[f->submitted++].work);
}

static void work_that_waits_together_is_run_together(void)
{
    struct fixture f;
    if (setup(&f, 1, 10, 4, 0)) {
        f.stop_at = 7;
        CHECK(submit(&f));
        gate_wait_for_runs(&f, 1); /* the thread is busy: now all others wait */
        for (int i = 0; i < 6; i++)
            CHECK(submit(&f));
        gate_open(&f);
        cr_loop_uv_run(f.loop);
        CHECK_UINT(f.run_count, 3);
        CHECK_UINT(f.batches[0], 1);
        CHECK_UINT(f.batches[1], 4);
        CHECK_UINT(f.batches[2], 2);
        for (size_t i = 0; i < 7; i++)
            CHECK_UINT(f.works[i].done_order, i + 1);
    }
    teardown(&f);
}

static void a_full_queue_refuses_and_calls_nobody_back(void)
{
    struct fixture f;
    if (setup(&f, 1, 2, 1, 0)) {
        f.stop_at = 3;
        CHECK(submit(&f));
        gate_wait_for_runs(&f, 1);
        CHECK(submit(&f));
        CHECK(submit(&f));
        CHECK(!submit(&f));
        gate_open(&f);
        cr_loop_uv_run(f.loop);
        CHECK_UINT(f.works[3].done_order, 0);
        CHECK(submit(&f)); /* there is room again */
        f.stop_at = 4;
        cr_loop_uv_run(f.loop);
        CHECK_UINT(f.works[4].done_order, 4);
    }
    teardown(&f);
}

static void several_threads_run_at_the_same_time(void)
{
    struct fixture f;
    if (setup(&f, 3, 10, 1, 0)) {
        f.stop_at = 3;
        for (int i = 0; i < 3; i++)
            CHECK(submit(&f));
        gate_wait_for_runs(&f, 3); /* all three are inside before any may go on */
        CHECK_UINT(f.threads_seen, 7);
        gate_open(&f);
        cr_loop_uv_run(f.loop);
        CHECK_UINT(f.done, 3);
    }
    teardown(&f);
}

static void a_pool_may_be_politer_than_its_process(void)
{
    struct fixture f;
    int mine = getpriority(PRIO_PROCESS, 0);
    if (setup(&f, 1, 1, 1, 5)) {
        f.stop_at = 1;
        gate_open(&f);
        CHECK(submit(&f));
        cr_loop_uv_run(f.loop);
        CHECK_INT(f.nice_seen, mine + 5 > 19 ? 19 : mine + 5);
        CHECK_INT(getpriority(PRIO_PROCESS, 0), mine);
    }
    teardown(&f);
}

static void *open_the_gate(void *context)
{
    gate_open(context);
    return NULL;
}

static void destroying_a_pool_waits_for_what_runs_and_drops_what_waits(void)
{
    struct fixture f;
    if (setup(&f, 1, 10, 1, 0)) {
        CHECK(submit(&f));
        gate_wait_for_runs(&f, 1);
        CHECK(submit(&f));
        /* Opened from elsewhere, before or while the pool is being destroyed. In the first case the
         * thread may take the second piece as well: then it is done too. */
        pthread_t opener;
        bool is_opening = CHECK(pthread_create(&opener, NULL, open_the_gate, &f) == 0);
        cr_pool_destroy(f.pool);
        f.pool = NULL;
        CHECK_UINT(f.works[0].done_order, 1);
        CHECK_UINT(f.done, f.run_count);
        if (is_opening)
            pthread_join(opener, NULL);
    }
    teardown(&f);
}

struct named_timer {
    struct cr_timer timer;
    char name;
    struct cr_loop *loop;
    char *said;
    cr_boot_ns fired_at;
};

static void timer_fired(struct cr_timer *timer)
{
    struct named_timer *named = (struct named_timer *)timer;
    named->fired_at = cr_clock_boot(cr_clock_system());
    named->said[strlen(named->said)] = named->name;
    if (named->name == 'z')
        cr_loop_uv_stop(named->loop);
}

static void timers_fire_in_order_and_not_before_their_due(void)
{
    struct cr_loop *loop = NULL;
    if (!CHECK_STATUS(cr_loop_uv_create(&loop), CR_OK))
        return;
    static const cr_span_ms spans[] = {30, 10, 20, -5, 10, 40};
    static const char names[] = "dbcaez";
    struct named_timer timers[6];
    cr_boot_ns due[6];
    char said[8] = "";
    cr_boot_ns now = cr_clock_boot(cr_clock_system());
    for (size_t i = 0; i < 6; i++) {
        timers[i] = (struct named_timer){{.fire = timer_fired}, names[i], loop, said, 0};
        due[i] = cr_boot_add(now, spans[i]);
        cr_timer_set(loop, &timers[i].timer, due[i]);
    }
    cr_timer_stop(loop, &timers[4].timer);
    cr_loop_uv_run(loop);
    CHECK_STR(said, "abcdz");
    for (size_t i = 0; i < 6; i++)
        CHECK(i == 4 || timers[i].fired_at >= due[i]);
    cr_loop_uv_destroy(loop);
}

struct endpoint {
    struct cr_loop *loop;
    struct cr_watch *watch;
    int fd;
    int events_seen;
    char got[8];
};

static void endpoint_ready(void *context, int events)
{
    struct endpoint *e = context;
    e->events_seen |= events;
    if (events & CR_LOOP_READ) {
        ssize_t count = recv(e->fd, e->got, sizeof e->got, MSG_DONTWAIT);
        CHECK(count > 0);
        cr_loop_uv_stop(e->loop);
        return;
    }
    cr_watch_events(e->watch, CR_LOOP_READ);
}

static void a_watch_tells_when_a_descriptor_can_be_read_and_written(void)
{
    int ends[2];
    struct endpoint e = {0};
    if (!CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0) ||
        !CHECK_STATUS(cr_loop_uv_create(&e.loop), CR_OK))
        return;
    e.fd = ends[0];
    if (CHECK_STATUS(cr_watch_create(e.loop, ends[0], endpoint_ready, &e, &e.watch), CR_OK)) {
        CHECK(send(ends[1], "hello", 6, 0) == 6);
        cr_watch_events(e.watch, CR_LOOP_WRITE); /* then, from inside, to read */
        cr_loop_uv_run(e.loop);
        CHECK_INT(e.events_seen, CR_LOOP_READ | CR_LOOP_WRITE);
        CHECK_STR(e.got, "hello");
        cr_watch_destroy(e.watch);
    }
    cr_watch_destroy(NULL);
    close(ends[0]);
    close(ends[1]);
    cr_loop_uv_destroy(e.loop);
}

static void peer_ready(void *context, int events)
{
    struct endpoint *e = context;
    CHECK(events & CR_LOOP_READ);
    CHECK_INT(recv(e->fd, e->got, sizeof e->got, MSG_DONTWAIT), 0);
    struct cr_loop *loop = e->loop;
    /* As an agent cuts a peer: from inside, and the descriptor at once. */
    cr_watch_destroy(e->watch);
    close(e->fd);
    cr_loop_uv_stop(loop);
}

static void a_peer_that_went_is_seen_and_cut_from_inside(void)
{
    struct endpoint e = {0};
    if (!CHECK_STATUS(cr_loop_uv_create(&e.loop), CR_OK))
        return;
    for (int round = 0; round < 3; round++) { /* the descriptor's number comes back */
        int ends[2];
        if (!CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0))
            break;
        e.fd = ends[0];
        if (!CHECK_STATUS(cr_watch_create(e.loop, ends[0], peer_ready, &e, &e.watch), CR_OK))
            break;
        cr_watch_events(e.watch, CR_LOOP_READ);
        close(ends[1]);
        cr_loop_uv_run(e.loop);
    }
    cr_loop_uv_destroy(e.loop);
}

static void what_cannot_be_watched_is_an_error(void)
{
    struct cr_loop *loop = NULL;
    struct cr_watch *watch = NULL;
    FILE *file = tmpfile();
    if (CHECK(file != NULL) && CHECK_STATUS(cr_loop_uv_create(&loop), CR_OK)) {
        CHECK_STATUS(cr_watch_create(loop, fileno(file), peer_ready, NULL, &watch), CR_E_IO);
        CHECK_STATUS(cr_watch_create(loop, 9999, peer_ready, NULL, &watch), CR_E_IO);
    }
    cr_loop_uv_destroy(loop);
    if (file != NULL)
        fclose(file);
}

struct catcher {
    struct cr_loop *loop;
    pthread_t loop_thread;
    int caught;
};

static void caught(void *context, int signal_number)
{
    struct catcher *catcher = context;
    CHECK(pthread_equal(pthread_self(), catcher->loop_thread));
    catcher->caught = signal_number;
    cr_loop_uv_stop(catcher->loop);
}

static void a_signal_is_told_on_the_loops_thread(void)
{
    struct catcher catcher = {.loop_thread = pthread_self()};
    if (!CHECK_STATUS(cr_loop_uv_create(&catcher.loop), CR_OK))
        return;
    if (CHECK_STATUS(cr_loop_uv_signal(catcher.loop, SIGHUP, caught, &catcher), CR_OK)) {
        kill(getpid(), SIGHUP);
        cr_loop_uv_run(catcher.loop);
        CHECK_INT(catcher.caught, SIGHUP);
        catcher.caught = 0;
        kill(getpid(), SIGHUP);
        cr_loop_uv_run(catcher.loop);
        CHECK_INT(catcher.caught, SIGHUP);
    }
    CHECK_STATUS(cr_loop_uv_signal(catcher.loop, SIGKILL, caught, &catcher), CR_E_IO);
    cr_loop_uv_destroy(catcher.loop);
}

static const struct tap_test tests[] = {
    TAP_TEST(work_that_waits_together_is_run_together),
    TAP_TEST(a_full_queue_refuses_and_calls_nobody_back),
    TAP_TEST(several_threads_run_at_the_same_time),
    TAP_TEST(a_pool_may_be_politer_than_its_process),
    TAP_TEST(destroying_a_pool_waits_for_what_runs_and_drops_what_waits),
    TAP_TEST(timers_fire_in_order_and_not_before_their_due),
    TAP_TEST(a_watch_tells_when_a_descriptor_can_be_read_and_written),
    TAP_TEST(a_peer_that_went_is_seen_and_cut_from_inside),
    TAP_TEST(what_cannot_be_watched_is_an_error),
    TAP_TEST(a_signal_is_told_on_the_loops_thread),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
