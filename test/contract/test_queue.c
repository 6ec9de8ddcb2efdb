/* SPDX-License-Identifier: Apache-2.0 */
/* The queue: what waits is committed together, and each caller hears of its own outcome. */
#include <string.h>

#include "contract.h"
#include "files.h"
#include "store/queue.h"

#define CALLS 200

struct call {
    struct cr_store_call call; /* first */
    struct queue_test *test;
    struct cr_record record;
    struct cr_session_id id;
    struct cr_log_rows rows;
    bool done;
};

struct queue_test {
    struct fixture f;
    struct cr_fault_plan plan;
    struct cr_loop *loop;
    struct cr_store_queue *queue;
    struct call calls[CALLS];
    size_t waiting; /* the loop stops when none is left */
};

static enum cr_status create_run(struct cr_store *store, struct cr_store_call *base)
{
    struct call *call = (struct call *)base;
    struct cr_record record = call->record;
    return cr_store_create(store, &record, NULL, &call->rows);
}

static enum cr_status find_run(struct cr_store *store, struct cr_store_call *base)
{
    struct cr_record found;
    enum cr_status st = cr_store_find(store, &((struct call *)base)->id, &found);
    if (st == CR_OK)
        cr_record_fini(&found);
    return st;
}

static void call_done(struct cr_store_call *base)
{
    struct call *call = (struct call *)base;
    call->done = true;
    if (--call->test->waiting == 0)
        cr_loop_uv_stop(call->test->loop);
}

/* `url`: what is inside the fault store. */
static bool begin(struct queue_test *t, const char *url, size_t queue_max)
{
    struct cr_store *inner, *store;
    const struct cr_store_queue_options options = {
        .reader_threads = 2, .queue_max = queue_max, .batch_max = 64};
    memset(t, 0, sizeof *t);
    fixture_env(&t->f);
    if (!CHECK_STATUS(cr_store_open(url, &t->f.env, &inner, NULL), CR_OK) ||
        !CHECK_STATUS(cr_store_fault_create(inner, &t->plan, &store), CR_OK) ||
        !CHECK_STATUS(cr_loop_uv_create(&t->loop), CR_OK) ||
        !CHECK_STATUS(cr_store_queue_create(t->loop, store, &options, &t->queue), CR_OK))
        return false;
    for (size_t i = 0; i < CALLS; i++) {
        t->calls[i].test = t;
        t->calls[i].record = record_for(&t->f, "anna");
        t->calls[i].id = t->calls[i].record.id;
    }
    return true;
}

static void end(struct queue_test *t)
{
    cr_store_queue_destroy(t->queue);
    cr_loop_uv_destroy(t->loop);
}

static bool submit(struct queue_test *t, struct call *call, bool is_write)
{
    call->done = false;
    call->call = (struct cr_store_call){.run = is_write ? create_run : find_run, .done = call_done};
    t->waiting++;
    if (is_write ? cr_store_queue_write(t->queue, &call->call)
                 : cr_store_queue_read(t->queue, &call->call))
        return true;
    t->waiting--;
    return false;
}

static void submit_all(struct queue_test *t, bool is_write)
{
    for (size_t i = 0; i < CALLS; i++)
        CHECK(submit(t, &t->calls[i], is_write));
    cr_loop_uv_run(t->loop);
}

static void what_waits_is_committed_together(void)
{
    static struct queue_test t;
    struct cr_store_queue_count count;
    if (!begin(&t, "memory:", 1000))
        return;
    /* While the first commit is under way all others come to wait. */
    t.plan = (struct cr_fault_plan){
        .kind = CR_FAULT_SLOW, .count = 1, .slow_ms = 200, .commits_only = true};
    submit_all(&t, true);
    for (size_t i = 0; i < CALLS; i++) {
        CHECK(t.calls[i].done);
        CHECK_STATUS(t.calls[i].call.status, CR_OK);
    }
    cr_store_queue_count(t.queue, &count);
    CHECK_UINT(count.writes, CALLS);
    CHECK(count.commits >= CALLS / 64);
    CHECK(count.commits < CALLS / 4);
    submit_all(&t, false);
    for (size_t i = 0; i < CALLS; i++)
        CHECK_STATUS(t.calls[i].call.status, CR_OK);
    cr_store_queue_count(t.queue, &count);
    CHECK_UINT(count.reads, CALLS);
    end(&t);
}

/* One that found its id taken may have met what then was not committed: it is told so too. */
static void when_the_commit_fails_all_of_its_batch_hear_of_it(void)
{
    static struct queue_test t;
    static const struct {
        enum cr_fault_kind kind;
        enum cr_status want;
    } cases[] = {
        {CR_FAULT_UNAVAILABLE, CR_UNAVAILABLE},
        {CR_FAULT_NOT_MADE, CR_E_UNKNOWN_OUTCOME},
    };
    for (size_t c = 0; c < 2; c++) {
        if (!begin(&t, "memory:", 1000))
            return;
        tap_row(cr_status_name(cases[c].want));
        for (size_t i = 1; i < CALLS; i += 2)
            t.calls[i].record.id = t.calls[i - 1].record.id;
        t.plan = (struct cr_fault_plan){
            .kind = cases[c].kind, .count = UINT64_MAX, .commits_only = true};
        submit_all(&t, true);
        for (size_t i = 0; i < CALLS; i++)
            CHECK_STATUS(t.calls[i].call.status, cases[c].want);
        t.plan.kind = CR_FAULT_NONE;
        submit_all(&t, true);
        for (size_t i = 0; i < CALLS; i++)
            CHECK_STATUS(t.calls[i].call.status, i % 2 == 0 ? CR_OK : CR_CONFLICT);
        end(&t);
    }
}

static void a_batch_in_which_nothing_was_done_is_not_committed(void)
{
    static struct queue_test t;
    struct cr_store_queue_count count;
    if (!begin(&t, "memory:", 1000))
        return;
    CHECK(submit(&t, &t.calls[0], true));
    cr_loop_uv_run(t.loop);
    CHECK(submit(&t, &t.calls[0], true));
    cr_loop_uv_run(t.loop);
    CHECK_STATUS(t.calls[0].call.status, CR_CONFLICT);
    cr_store_queue_count(t.queue, &count);
    CHECK_UINT(count.writes, 2);
    CHECK_UINT(count.commits, 1);
    end(&t);
}

static void a_full_queue_says_so(void)
{
    static struct queue_test t;
    bool is_taken[CALLS];
    size_t taken = 0;
    if (!begin(&t, "memory:", 10))
        return;
    t.plan = (struct cr_fault_plan){.kind = CR_FAULT_SLOW, .count = 1, .slow_ms = 200};
    /* At some moment the writer takes what waits into its first batch: then there is room again. */
    for (size_t i = 0; i < CALLS; i++) {
        is_taken[i] = submit(&t, &t.calls[i], true);
        taken += is_taken[i];
    }
    CHECK(taken >= 10 && taken <= 20);
    cr_loop_uv_run(t.loop);
    for (size_t i = 0; i < CALLS; i++)
        CHECK_INT(t.calls[i].done, is_taken[i]);
    end(&t);
}

static void sqlite_reads_and_writes_side_by_side(void)
{
    static struct queue_test t;
    struct scratch scratch;
    if (!scratch_make(&scratch) || !begin(&t, scratch.url, 1000))
        return;
    submit_all(&t, true);
    for (size_t round = 0; round < 5; round++) {
        /* Finds of the first half while the second is tried again. */
        for (size_t i = 0; i < CALLS; i++)
            CHECK(submit(&t, &t.calls[i], i >= CALLS / 2));
        cr_loop_uv_run(t.loop);
        for (size_t i = 0; i < CALLS; i++)
            CHECK_STATUS(t.calls[i].call.status, i >= CALLS / 2 ? CR_CONFLICT : CR_OK);
    }
    end(&t);
    scratch_remove(&scratch);
}

static const struct tap_test tests[] = {
    TAP_TEST(what_waits_is_committed_together),
    TAP_TEST(when_the_commit_fails_all_of_its_batch_hear_of_it),
    TAP_TEST(a_batch_in_which_nothing_was_done_is_not_committed),
    TAP_TEST(a_full_queue_says_so),
    TAP_TEST(sqlite_reads_and_writes_side_by_side),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
