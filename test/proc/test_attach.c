/* SPDX-License-Identifier: Apache-2.0 */
/* Programs attached to an agent: what they see of each other, and when it dies. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cloakroom/lock.h>
#include <cloakroom/store.h>
#include <cloakroom/table.h>

#include "agents.h"
#include "base/clock.h"
#include "room/room.h"
#include "tap.h"
#include "unit/batch.h"

#define NOBODY 65534

static bool is_mapped(struct cr_room *room)
{
    struct cr_stats stats = {.size = sizeof stats};
    return CHECK_STATUS(cr_stats(room, &stats), CR_OK) && stats.mapped;
}

static void a_session_made_in_one_program_is_known_to_all_and_ended_in_all(void)
{
    struct test_agent agent;
    struct test_worker workers[2];
    if (!agents_setup(&agent, "memory") || !agents_start(&agent, NULL))
        return;
    for (int i = 0; i < 2; i++) {
        if (!CHECK(agents_worker(&workers[i], agent.url, NULL, 0)))
            return;
    }
    struct worker_reply before = {0};
    for (int round = 0; round < 300; round++) { /* ASVS D1, over two processes */
        const struct test_worker *first = &workers[round % 2], *second = &workers[1 - round % 2];
        struct worker_reply made = agents_ask(first, WORKER_LOGIN, NULL, "anna", 0);
        CHECK_STATUS(made.status, CR_OK);
        if (round > 0) {
            /* The login ended the one before, and its answer came after that. */
            CHECK_STATUS(agents_ask(second, WORKER_VALIDATE, &before.token, NULL, 0).status,
                         CR_ENDED);
            CHECK_STATUS(agents_ask(first, WORKER_VALIDATE, &before.token, NULL, 0).status,
                         CR_ENDED);
        }
        CHECK_STATUS(agents_ask(second, WORKER_VALIDATE, &made.token, NULL, 0).status, CR_OK);
        CHECK_STATUS(agents_ask(first, WORKER_VALIDATE, &made.token, NULL, 0).status, CR_OK);
        CHECK_STATUS(agents_ask(first, WORKER_CACHED, &made.token, NULL, 0).status, CR_OK);
        if (round % 3 == 0) {
            CHECK_STATUS(agents_ask(second, WORKER_END_USER, NULL, "anna", 0).status, CR_OK);
            CHECK_STATUS(agents_ask(first, WORKER_CACHED, &made.token, NULL, 0).status, CR_ASK);
            CHECK_STATUS(agents_ask(first, WORKER_VALIDATE, &made.token, NULL, 0).status, CR_ENDED);
        }
        before = made;
    }
    for (int i = 0; i < 2; i++)
        agents_worker_end(&workers[i], 0);
    agents_teardown(&agent);
}

static void a_hit_asks_nobody(void)
{
    struct test_agent agent;
    struct cr_login login;
    if (!agents_setup(&agent, "memory") || !agents_start(&agent, NULL))
        return;
    struct cr_room *room = agents_join(&agent, "app.sock");
    if (room == NULL || !agents_login(room, "anna", &login))
        return;
    CHECK(is_mapped(room));
    CHECK_STATUS(agents_validate(room, &login.signed_token), CR_OK);
    /* The agent is stopped: whoever asked it would wait for ever. Its table is good for a second.
     */
    CHECK_INT(agents_signal(&agent, SIGSTOP), 0);
    struct cr_session session = CR_SESSION_INIT;
    CHECK_STATUS(cr_validate_cached(room, &login.signed_token, &session), CR_OK);
    CHECK_INT(agents_signal(&agent, SIGCONT), 0);
    cr_close(room);
    agents_teardown(&agent);
}

static void a_batch_is_answered_as_one_by_one(void)
{
    struct test_agent agent;
    if (!agents_setup(&agent, "memory") || !agents_start(&agent, NULL))
        return;
    struct cr_room *room = agents_join(&agent, "app.sock");
    if (room == NULL)
        return;
    CHECK(is_mapped(room));
    batch_is_answered_as_one_by_one(room);
    cr_close(room);
    agents_teardown(&agent);
}

/* What misses in it is asked for before the first answer is waited for. */
static void a_batch_that_hits_asks_nobody_and_one_that_misses_waits_once(void)
{
    struct test_agent agent;
    struct cr_stats before = {.size = sizeof before}, after = {.size = sizeof after};
    static struct batch_stock stock;
    if (!agents_setup(&agent, "memory") || !agents_start(&agent, NULL))
        return;
    struct cr_options options;
    struct cr_error error = {.size = sizeof error};
    struct cr_room *room = agents_join(&agent, "app.sock");
    struct cr_session *sessions = calloc(BATCH_MAX, sizeof *sessions);
    static struct cr_token tokens[BATCH_MAX];
    enum cr_status statuses[BATCH_MAX];
    if (room == NULL || !CHECK(sessions != NULL) || !batch_stock_make(&stock, room) ||
        !batch_stock_drop(&stock))
        goto out;
    for (size_t i = 0; i < BATCH_MAX; i++) {
        tokens[i] = stock.tokens[i % 2][BATCH_HIT];
        sessions[i].size = sizeof sessions[i];
    }
    CHECK_STATUS(cr_stats(room, &before), CR_OK);
    CHECK_INT(agents_signal(&agent, SIGSTOP), 0);
    CHECK_STATUS(cr_validate_many(room, tokens, 100, sessions, statuses), CR_OK);
    for (size_t i = 0; i < 100; i++)
        CHECK_STATUS(statuses[i], CR_OK);
    CHECK_INT(agents_signal(&agent, SIGCONT), 0);
    CHECK_STATUS(cr_stats(room, &after), CR_OK);
    CHECK_UINT(after.hits - before.hits, 100);
    CHECK_UINT(after.misses - before.misses, 0);
    cr_close(room);

    /* The agent does not answer: eight that miss time out together, not one after another. */
    cr_options_init(&options);
    options.mode = CR_MODE_ATTACH;
    options.timeout = 1000;
    room = NULL;
    if (!CHECK_STATUS(cr_open(agent.url, &options, &room, &error), CR_OK))
        goto out;
    for (size_t i = 0; i < 8; i++)
        tokens[i] = stock.tokens[i % 2][BATCH_FORGED];
    CHECK_INT(agents_signal(&agent, SIGSTOP), 0);
    cr_boot_ns begun = cr_clock_boot(cr_clock_system());
    CHECK_STATUS(cr_validate_many(room, tokens, 8, sessions, statuses), CR_OK);
    CHECK(cr_boot_between(begun, cr_clock_boot(cr_clock_system())) < 4000);
    for (size_t i = 0; i < 8; i++)
        CHECK_STATUS(statuses[i], CR_UNAVAILABLE);
    CHECK_INT(agents_signal(&agent, SIGCONT), 0);
out:
    free(sessions);
    cr_close(room);
    agents_teardown(&agent);
}

static void a_stopped_agents_table_is_not_believed_for_long(void)
{
    struct test_agent agent;
    struct cr_login login;
    struct cr_session session = CR_SESSION_INIT;
    if (!agents_setup(&agent, "memory") || !agents_start(&agent, NULL))
        return;
    struct cr_room *room = agents_join(&agent, "app.sock");
    if (room == NULL || !agents_login(room, "anna", &login))
        return;
    CHECK_STATUS(agents_validate(room, &login.signed_token), CR_OK);
    CHECK_INT(agents_signal(&agent, SIGSTOP), 0);
    struct cr_clock *clock = cr_clock_system();
    cr_boot_ns begun = cr_clock_boot(clock);
    while (cr_validate_cached(room, &login.signed_token, &session) == CR_OK &&
           cr_boot_between(begun, cr_clock_boot(clock)) < 10000)
        (void)poll(NULL, 0, 5);
    CHECK(cr_boot_between(begun, cr_clock_boot(clock)) < 10000);
    CHECK_INT(agents_signal(&agent, SIGCONT), 0);
    CHECK_STATUS(agents_validate(room, &login.signed_token), CR_OK);
    cr_close(room);
    agents_teardown(&agent);
}

/* In real time: workers report uses by the clock of the system. Nothing but a report keeps this
 * session in the table, as nobody asks. */
static void a_session_that_is_used_by_hits_alone_stays_and_one_that_is_not_used_ends(void)
{
    enum { IDLE_MS = 3000, USE_MS = IDLE_MS + CR_SEEN_SLACK(IDLE_MS) + 500 };
    struct test_agent agent;
    struct cr_login used, unused;
    struct cr_session session = CR_SESSION_INIT;
    struct cr_user anna = agents_user("anna"), ben = agents_user("ben");
    struct cr_login_options options = {
        .size = sizeof options, .policy = CR_POLICY_KEEP, .idle = IDLE_MS};
    if (!agents_setup(&agent, "memory") || !agents_start(&agent, NULL))
        return;
    struct cr_room *room = agents_join(&agent, "app.sock");
    if (room == NULL || !CHECK_STATUS(cr_login(room, &anna, &options, &used), CR_OK) ||
        !CHECK_STATUS(cr_login(room, &ben, &options, &unused), CR_OK))
        return;
    CHECK_STATUS(agents_validate(room, &used.signed_token), CR_OK);
    struct cr_clock *clock = cr_clock_system();
    cr_boot_ns begun = cr_clock_boot(clock);
    enum cr_status last = CR_ASK;
    /* A miss is allowed at any time (the agent was not let run for a second), but not for good. */
    while (cr_boot_between(begun, cr_clock_boot(clock)) < USE_MS ||
           (last != CR_OK && cr_boot_between(begun, cr_clock_boot(clock)) < 2 * USE_MS)) {
        last = cr_validate_cached(room, &used.signed_token, &session);
        (void)poll(NULL, 0, 20);
    }
    CHECK_STATUS(last, CR_OK);
    CHECK_STATUS(agents_validate(room, &unused.signed_token), CR_ENDED);
    cr_close(room);
    agents_teardown(&agent);
}

static void a_killed_agent_is_waited_for_and_nobody_is_logged_out_meanwhile(void)
{
    struct test_agent agent;
    struct test_worker workers[2];
    if (!agents_setup(&agent, "sqlite") || !agents_start(&agent, NULL))
        return;
    for (int i = 0; i < 2; i++) {
        if (!CHECK(agents_worker(&workers[i], agent.url, NULL, 0)))
            return;
    }
    for (int round = 0; round < 5; round++) { /* ASVS D9 */
        struct worker_reply ended = agents_ask(&workers[0], WORKER_LOGIN, NULL, "ben", 0);
        struct worker_reply made = agents_ask(&workers[0], WORKER_LOGIN, NULL, "anna", 0);
        CHECK_STATUS(made.status, CR_OK);
        CHECK_STATUS(ended.status, CR_OK);
        CHECK_STATUS(agents_ask(&workers[1], WORKER_VALIDATE, &ended.token, NULL, 0).status, CR_OK);
        CHECK_STATUS(agents_ask(&workers[0], WORKER_END_USER, NULL, "ben", 0).status, CR_OK);
        CHECK_INT(agents_signal(&agent, SIGKILL), -SIGKILL);
        struct worker_request asks[2] = {{.op = WORKER_VALIDATE, .token = made.token},
                                         {.op = WORKER_VALIDATE, .token = ended.token}};
        agents_tell(&workers[0], &asks[0]);
        agents_tell(&workers[1], &asks[1]);
        if (!agents_start(&agent, NULL))
            return;
        CHECK_STATUS(agents_hear(&workers[0]).status, CR_OK);
        CHECK_STATUS(agents_hear(&workers[1]).status, CR_ENDED);
        CHECK_STATUS(agents_ask(&workers[1], WORKER_VALIDATE, &made.token, NULL, 0).status, CR_OK);
        CHECK_STATUS(agents_ask(&workers[1], WORKER_END_USER, NULL, "anna", 0).status, CR_OK);
        CHECK_STATUS(agents_ask(&workers[0], WORKER_VALIDATE, &made.token, NULL, 0).status,
                     CR_ENDED);
    }
    for (int i = 0; i < 2; i++)
        agents_worker_end(&workers[i], 0);
    agents_teardown(&agent);
}

static void without_an_agent_the_answer_is_unavailable_and_never_not_found(void)
{
    struct test_agent agent;
    struct cr_login login;
    struct cr_options options;
    struct cr_error error = {.size = sizeof error};
    struct cr_room *room = NULL, *none = NULL;
    if (!agents_setup(&agent, "memory") || !agents_start(&agent, NULL))
        return;
    cr_options_init(&options);
    options.timeout = 1500;
    if (!CHECK_STATUS(cr_open(agent.url, &options, &room, NULL), CR_OK) ||
        !agents_login(room, "anna", &login))
        return;
    CHECK_INT(agents_signal(&agent, SIGKILL), -SIGKILL);
    struct cr_session session = CR_SESSION_INIT;
    CHECK_STATUS(cr_validate_strict(room, &login.signed_token, &session), CR_UNAVAILABLE);
    CHECK_STATUS(cr_end(room, &login.session.id, NULL, NULL), CR_UNAVAILABLE);
    CHECK_STATUS(cr_open(agent.url, &options, &none, &error), CR_UNAVAILABLE);
    CHECK(strstr(error.text, "no agent listens on") != NULL);
    cr_close(room);
    agents_teardown(&agent);
}

static void a_forked_child_joins_anew_and_leaves_its_parent_alone(void)
{
    struct test_agent agent;
    struct cr_login login;
    int status = 0;
    if (!agents_setup(&agent, "memory") || !agents_start(&agent, NULL))
        return;
    struct cr_room *room = agents_join(&agent, "app.sock");
    if (room == NULL || !agents_login(room, "anna", &login))
        return;
    struct cr_call *call;
    CHECK_STATUS(cr_validate_begin(room, &login.signed_token, true, &call), CR_OK);
    pid_t pid = fork();
    if (pid == 0) {
        struct cr_session session = CR_SESSION_INIT;
        struct cr_stats stats = {.size = sizeof stats};
        int failed = 0;
        /* What its parent began is its parent's. */
        failed |= cr_validate_finish(call, &session) != CR_UNAVAILABLE ? 1 : 0;
        failed |= cr_validate(room, &login.signed_token, &session) != CR_OK ? 2 : 0;
        failed |= cr_validate_cached(room, &login.signed_token, &session) != CR_OK ? 4 : 0;
        failed |= cr_stats(room, &stats) != CR_OK || stats.attached_workers != 2 ? 8 : 0;
        struct pollfd ready = {.fd = cr_room_fd(room), .events = POLLIN};
        failed |= cr_validate_begin(room, &login.signed_token, true, &call) != CR_OK ? 16 : 0;
        while (!cr_call_done(call) && poll(&ready, 1, 10000) == 1)
            cr_room_poll(room);
        failed |= cr_validate_finish(call, &session) != CR_OK ? 32 : 0;
        cr_close(room);
        _exit(failed);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK_INT(status, 0);
    struct cr_session session = CR_SESSION_INIT;
    CHECK_STATUS(cr_validate_finish(call, &session), CR_OK);
    CHECK_STATUS(cr_validate_strict(room, &login.signed_token, &session), CR_OK);
    cr_close(room);
    agents_teardown(&agent);
}

/* As an event loop does: until the call is done. */
static bool loop_until_done(struct cr_room *room, const struct cr_call *call)
{
    struct pollfd ready = {.fd = cr_room_fd(room), .events = POLLIN};
    while (!cr_call_done(call)) {
        if (!CHECK(poll(&ready, 1, 30000) == 1))
            return false;
        cr_room_poll(room);
    }
    return true;
}

/* What was waited for in vain is told to event loops as before. */
static void a_call_is_waited_for_a_while_and_goes_on(void)
{
    struct test_agent agent;
    struct cr_login login;
    struct cr_session session = CR_SESSION_INIT;
    struct cr_call *call;
    void *context = NULL;
    if (!agents_setup(&agent, "memory") || !agents_start(&agent, NULL))
        return;
    struct cr_room *room = agents_join(&agent, "app.sock");
    if (room == NULL || !agents_login(room, "anna", &login))
        return;
    CHECK_INT(agents_signal(&agent, SIGSTOP), 0);
    CHECK_STATUS(cr_validate_begin(room, &login.signed_token, true, &call), CR_OK);
    cr_call_watch(call, &login);
    CHECK(!cr_call_done_within(call, 0));
    CHECK(!cr_call_done_within(call, 20));
    CHECK_INT(agents_signal(&agent, SIGCONT), 0);
    CHECK(loop_until_done(room, call));
    CHECK(cr_call_done_within(call, 0));
    CHECK(cr_room_answered(room, &context) == call && context == &login);
    CHECK_STATUS(cr_validate_finish(call, &session), CR_OK);
    CHECK_STATUS(cr_validate_begin(room, &login.signed_token, true, &call), CR_OK);
    CHECK(cr_call_done_within(call, 30000));
    CHECK_STATUS(cr_validate_finish(call, &session), CR_OK);
    cr_close(room);
    agents_teardown(&agent);
}

/* An event loop with the descriptor of one room. */
static int loop_create(struct cr_room *room)
{
    struct epoll_event event = {.events = EPOLLIN};
    int loop = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_ctl(loop, EPOLL_CTL_ADD, cr_room_fd(room), &event) == 0)
        return loop;
    close(loop);
    return -1;
}

static bool loop_waits_for(int loop, struct cr_room *room, const struct cr_call *call)
{
    struct epoll_event event;
    while (!cr_call_done(call)) {
        if (epoll_wait(loop, &event, 1, 9000) != 1)
            return false;
        cr_room_poll(room);
    }
    return true;
}

/* Its loop has the descriptor before anything is asked. */
static int child_of_loop(struct cr_room *room, const struct cr_token *token, int fd)
{
    struct cr_session session = CR_SESSION_INIT;
    struct cr_call *call;
    void *context = NULL;
    int loop = loop_create(room), failed = 0;
    failed |= loop < 0 || cr_room_fd(room) != fd ? 1 : 0;
    failed |= cr_validate_begin(room, token, true, &call) != CR_OK ? 2 : 0;
    cr_call_watch(call, &loop);
    failed |= !loop_waits_for(loop, room, call) ? 4 : 0;
    failed |= cr_room_answered(room, &context) != call || context != &loop ? 8 : 0;
    failed |= cr_room_answered(room, &context) != NULL ? 16 : 0;
    failed |= cr_validate_finish(call, &session) != CR_OK ? 32 : 0;
    cr_close(room);
    return failed;
}

static void an_event_loop_of_a_forked_child_works_and_its_parents_too(void)
{
    struct test_agent agent;
    struct cr_login login;
    struct cr_session session = CR_SESSION_INIT;
    struct cr_call *call;
    struct epoll_event event;
    void *context = NULL;
    int status = 0;
    if (!agents_setup(&agent, "memory") || !agents_start(&agent, NULL))
        return;
    struct cr_room *room = agents_join(&agent, "app.sock");
    if (room == NULL || !agents_login(room, "anna", &login))
        return;
    int loop = loop_create(room);
    if (!CHECK_STATUS(cr_validate_begin(room, &login.signed_token, true, &call), CR_OK) ||
        !CHECK(loop_waits_for(loop, room, call)))
        return;
    cr_room_poll(room);
    CHECK_INT(epoll_wait(loop, &event, 1, 0), 0); /* nothing of the parent's wakes the child */
    cr_call_watch(call, &agent);
    cr_room_poll(room);
    CHECK_INT(epoll_wait(loop, &event, 1, 0), 0);
    pid_t pid = fork();
    if (pid == 0)
        _exit(child_of_loop(room, &login.signed_token, cr_room_fd(room)));
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK_INT(status, 0);
    CHECK(cr_room_answered(room, &context) == call && context == &agent);
    CHECK_STATUS(cr_validate_finish(call, &session), CR_OK);
    if (CHECK_STATUS(cr_validate_begin(room, &login.signed_token, true, &call), CR_OK)) {
        CHECK(loop_waits_for(loop, room, call));
        CHECK_STATUS(cr_validate_finish(call, &session), CR_OK);
    }
    close(loop);
    cr_close(room);
    agents_teardown(&agent);
}

struct forked {
    struct cr_room *room;
    struct cr_call *under_way, *answered, *taking, *cancelled;
    struct cr_lock *lock;
};

static int child_of_calls(const struct forked *f)
{
    struct cr_session session = CR_SESSION_INIT;
    struct cr_lock *lock;
    int failed = 0;
    failed |= !cr_call_done(f->under_way) ? 1 : 0;
    failed |= cr_validate_finish(f->under_way, &session) != CR_UNAVAILABLE ? 2 : 0;
    failed |= cr_validate_finish(f->answered, &session) != CR_UNAVAILABLE ? 4 : 0;
    failed |= cr_lock_take_finish(f->taking, &lock) != CR_UNAVAILABLE ? 8 : 0;
    cr_call_cancel(f->cancelled);
    failed |= cr_lock_check(f->lock) != CR_LOST ? 16 : 0;
    cr_lock_give(f->lock);
    failed |= cr_lock_take(f->room, "nightly", 0, &lock) != CR_BUSY ? 32 : 0;
    cr_close(f->room);
    return failed;
}

static void what_was_begun_before_a_fork_is_the_parents(void)
{
    struct test_agent agent;
    struct cr_login login;
    struct forked f;
    struct cr_session session = CR_SESSION_INIT;
    int status = 0;
    if (!agents_setup(&agent, "memory") || !agents_start(&agent, NULL))
        return;
    struct cr_room *room = agents_join(&agent, "app.sock");
    if (room == NULL || !agents_login(room, "anna", &login))
        return;
    f = (struct forked){.room = room};
    const struct cr_token *token = &login.signed_token;
    CHECK_STATUS(cr_lock_take(room, "nightly", 0, &f.lock), CR_OK);
    CHECK_STATUS(cr_lock_take_begin(room, "nightly", 60000, &f.taking), CR_OK);
    CHECK_STATUS(cr_lock_take_begin(room, "nightly", 60000, &f.cancelled), CR_OK);
    CHECK_STATUS(cr_validate_begin(room, token, true, &f.answered), CR_OK);
    CHECK(loop_until_done(room, f.answered));
    CHECK_STATUS(cr_validate_begin(room, token, true, &f.under_way), CR_OK);
    pid_t pid = fork();
    if (pid == 0)
        _exit(child_of_calls(&f));
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK_INT(status, 0);
    CHECK_STATUS(cr_validate_finish(f.answered, &session), CR_OK);
    CHECK_STATUS(cr_validate_finish(f.under_way, &session), CR_OK);
    CHECK_STATUS(cr_lock_check(f.lock), CR_OK);
    cr_lock_give(f.lock);
    CHECK(loop_until_done(room, f.taking));
    CHECK_STATUS(cr_lock_take_finish(f.taking, &f.lock), CR_OK);
    cr_lock_give(f.lock);
    CHECK_STATUS(cr_lock_take_finish(f.cancelled, &f.lock), CR_OK);
    cr_lock_give(f.lock);
    cr_close(room);
    agents_teardown(&agent);
}

static void many_calls_may_be_under_way_at_once(void)
{
    enum { CALLS = 900 };
    static struct cr_call *calls[CALLS];
    struct test_agent agent;
    struct cr_login login, ended;
    if (!agents_setup(&agent, "memory") || !agents_start(&agent, NULL))
        return;
    struct cr_room *room = agents_join(&agent, "app.sock");
    if (room == NULL || !agents_login(room, "anna", &ended) || !agents_login(room, "anna", &login))
        return;
    for (size_t i = 0; i < CALLS; i++) {
        const struct cr_token *token = i % 2 == 0 ? &login.signed_token : &ended.signed_token;
        if (!CHECK_STATUS(cr_validate_begin(room, token, true, &calls[i]), CR_OK))
            return;
    }
    struct pollfd ready = {.fd = cr_room_fd(room), .events = POLLIN};
    for (size_t i = 0; i < CALLS; i++) {
        while (!cr_call_done(calls[i])) {
            if (!CHECK_INT(poll(&ready, 1, 20000), 1))
                return;
            cr_room_poll(room);
        }
    }
    for (size_t i = 0; i < CALLS; i++) {
        struct cr_session session = CR_SESSION_INIT;
        if (i % 7 == 0)
            cr_call_cancel(calls[i]);
        else
            CHECK_STATUS(cr_validate_finish(calls[i], &session), i % 2 == 0 ? CR_OK : CR_ENDED);
    }
    /* More than a room carries is refused, and does no harm. */
    size_t taken = 0;
    static struct cr_call *more[1100];
    while (taken < 1100 &&
           cr_validate_begin(room, &login.signed_token, true, &more[taken]) == CR_OK)
        taken++;
    CHECK_UINT(taken, 1000);
    for (size_t i = 0; i < taken; i++)
        cr_call_cancel(more[i]);
    CHECK_STATUS(agents_validate(room, &login.signed_token), CR_OK);
    cr_close(room);
    agents_teardown(&agent);
}

/* Threads. */

struct crowd {
    struct cr_room *room;
    const struct cr_token *live, *ended;
    atomic_uint wrong, asked;
    atomic_bool stop;
};

static void *crowd_run(void *argument)
{
    struct crowd *crowd = argument;
    while (!atomic_load(&crowd->stop)) {
        struct cr_session session = CR_SESSION_INIT;
        enum cr_status live = cr_validate_strict(crowd->room, crowd->live, &session);
        enum cr_status ended = cr_validate(crowd->room, crowd->ended, &session);
        enum cr_status cached = cr_validate(crowd->room, crowd->live, &session);
        if (live != CR_OK || ended != CR_ENDED || cached != CR_OK)
            atomic_fetch_add(&crowd->wrong, 1);
        atomic_fetch_add(&crowd->asked, 1);
    }
    return NULL;
}

static void crowd_start(struct crowd *crowd, pthread_t *threads, size_t count)
{
    for (size_t i = 0; i < count; i++)
        CHECK_INT(pthread_create(&threads[i], NULL, crowd_run, crowd), 0);
}

static void crowd_stop(struct crowd *crowd, const pthread_t *threads, size_t count)
{
    atomic_store(&crowd->stop, true);
    for (size_t i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    CHECK_UINT(atomic_load(&crowd->wrong), 0);
}

static void crowd_wait(struct crowd *crowd, unsigned more)
{
    unsigned from = atomic_load(&crowd->asked);
    for (int i = 0; i < 20000 && atomic_load(&crowd->asked) - from < more; i++)
        (void)poll(NULL, 0, 1);
    CHECK(atomic_load(&crowd->asked) - from >= more);
}

static void many_threads_share_one_room(void)
{
    enum { THREADS = 6 };
    struct test_agent agent;
    struct cr_login login, ended;
    pthread_t threads[THREADS];
    if (!agents_setup(&agent, "memory") || !agents_start(&agent, NULL))
        return;
    struct cr_room *room = agents_join(&agent, "app.sock");
    if (room == NULL || !agents_login(room, "anna", &ended) || !agents_login(room, "anna", &login))
        return;
    struct crowd crowd = {.room = room, .live = &login.signed_token, .ended = &ended.signed_token};
    crowd_start(&crowd, threads, THREADS);
    crowd_wait(&crowd, 300);
    crowd_stop(&crowd, threads, THREADS);
    cr_close(room);
    agents_teardown(&agent);
}

/* An event loop beside threads that wait for replies of their own: whoever takes the loop's replies
 * in, it hears. */

static void a_reply_that_another_thread_took_in_wakes_the_event_loop(void)
{
    struct test_agent agent;
    struct cr_login login;
    struct cr_call *call;
    struct cr_session session = CR_SESSION_INIT;
    void *context = NULL;
    if (!agents_setup(&agent, "memory") || !agents_start(&agent, NULL))
        return;
    struct cr_room *room = agents_join(&agent, "app.sock");
    if (room == NULL || !agents_login(room, "anna", &login))
        return;
    struct pollfd ready = {.fd = cr_room_fd(room), .events = POLLIN};
    for (int i = 0; i < 100; i++) {
        cr_room_poll(room);
        CHECK_INT(poll(&ready, 1, 0), 0);
        if (!CHECK_STATUS(cr_validate_begin(room, &login.signed_token, true, &call), CR_OK))
            return;
        cr_call_watch(call, &login);
        /* Replies come in the order of the requests here: this one takes in both. */
        CHECK_STATUS(cr_validate_strict(room, &login.signed_token, &session), CR_OK);
        CHECK_INT(poll(&ready, 1, 10000), 1);
        cr_room_poll(room);
        CHECK(cr_room_answered(room, &context) == call && context == &login);
        CHECK(cr_room_answered(room, &context) == NULL);
        CHECK_STATUS(cr_validate_finish(call, &session), CR_OK);
    }
    cr_close(room);
    agents_teardown(&agent);
}

/* Begins as many again as were answered, until all have been. */
static unsigned loop_drain(struct cr_room *room, const struct cr_token *token, unsigned *to_begin)
{
    unsigned answered = 0;
    struct cr_call *call;
    void *context;
    cr_room_poll(room);
    while ((call = cr_room_answered(room, &context)) != NULL) {
        struct cr_session session = CR_SESSION_INIT;
        CHECK(context == to_begin && cr_call_done(call));
        CHECK_STATUS(cr_validate_finish(call, &session), CR_OK);
        answered++;
        if (*to_begin == 0)
            continue;
        --*to_begin;
        if (CHECK_STATUS(cr_validate_begin(room, token, true, &call), CR_OK))
            cr_call_watch(call, to_begin);
    }
    return answered;
}

static void an_event_loop_hears_of_every_call_beside_threads_that_wait(void)
{
    enum { THREADS = 3, CALLS = 3000, AT_ONCE = 200 };
    struct test_agent agent;
    struct cr_login login, ended;
    struct cr_call *call;
    pthread_t threads[THREADS];
    unsigned to_begin = CALLS - AT_ONCE, answered = 0;
    if (!agents_setup(&agent, "memory") || !agents_start(&agent, NULL))
        return;
    struct cr_room *room = agents_join(&agent, "app.sock");
    if (room == NULL || !agents_login(room, "anna", &ended) || !agents_login(room, "anna", &login))
        return;
    struct crowd crowd = {.room = room, .live = &login.signed_token, .ended = &ended.signed_token};
    crowd_start(&crowd, threads, THREADS);
    for (int i = 0; i < AT_ONCE; i++) {
        if (CHECK_STATUS(cr_validate_begin(room, &login.signed_token, true, &call), CR_OK))
            cr_call_watch(call, &to_begin);
    }
    struct pollfd ready = {.fd = cr_room_fd(room), .events = POLLIN};
    while (answered < CALLS) {
        if (!CHECK_INT(poll(&ready, 1, 9000), 1)) /* sooner than a call's time-out */
            break;
        answered += loop_drain(room, &login.signed_token, &to_begin);
    }
    CHECK_UINT(answered, CALLS);
    crowd_stop(&crowd, threads, THREADS);
    cr_close(room);
    agents_teardown(&agent);
}

static void an_event_loop_joins_the_next_agent_also_where_a_thread_saw_the_last_one_end(void)
{
    struct test_agent agent;
    struct cr_login login;
    struct cr_lock *lock;
    struct cr_call *call;
    if (!agents_setup(&agent, "sqlite") || !agents_start(&agent, NULL))
        return;
    struct cr_room *room = agents_join(&agent, "app.sock");
    if (room == NULL || !agents_login(room, "anna", &login) ||
        !CHECK_STATUS(cr_lock_take(room, "nightly", 0, &lock), CR_OK))
        return;
    CHECK_INT(agents_signal(&agent, SIGSTOP), 0);
    if (!CHECK_STATUS(cr_validate_begin(room, &login.signed_token, true, &call), CR_OK))
        return;
    CHECK_INT(agents_signal(&agent, SIGKILL), -SIGKILL);
    /* A thread takes in what has arrived, the end of the connection, and leaves. */
    CHECK_STATUS(cr_lock_check(lock), CR_LOST);
    CHECK(!cr_call_done(call));
    if (!agents_start(&agent, NULL))
        return;
    struct pollfd ready = {.fd = cr_room_fd(room), .events = POLLIN};
    cr_boot_ns until =
        cr_boot_add(cr_clock_boot(cr_clock_system()), 8000); /* before its time-out */
    while (!cr_call_done(call) && cr_clock_boot(cr_clock_system()) < until) {
        if (poll(&ready, 1, 1000) == 1)
            cr_room_poll(room);
    }
    struct cr_session session = CR_SESSION_INIT;
    CHECK(cr_call_done(call));
    CHECK_STATUS(cr_validate_finish(call, &session), CR_OK);
    cr_lock_give(lock);
    cr_close(room);
    agents_teardown(&agent);
}

/* Whatever the threads of the parent were in the midst of. */
static void a_child_forked_from_among_threads_joins_anew(void)
{
    enum { THREADS = 3, CHILDREN = 40 };
    struct test_agent agent;
    struct cr_login login, ended;
    pthread_t threads[THREADS];
    if (!agents_setup(&agent, "memory") || !agents_start(&agent, NULL))
        return;
    struct cr_room *room = agents_join(&agent, "app.sock");
    if (room == NULL || !agents_login(room, "anna", &ended) || !agents_login(room, "anna", &login))
        return;
    struct crowd crowd = {.room = room, .live = &login.signed_token, .ended = &ended.signed_token};
    crowd_start(&crowd, threads, THREADS);
    for (int i = 0; i < CHILDREN; i++) {
        pid_t pid = fork();
        int status = 0;
        if (pid == 0) {
            struct cr_session session = CR_SESSION_INIT;
            _exit(cr_validate_strict(room, crowd.live, &session) == CR_OK &&
                          cr_validate(room, crowd.ended, &session) == CR_ENDED
                      ? 0
                      : 1);
        }
        CHECK(waitpid(pid, &status, 0) == pid);
        CHECK_INT(status, 0);
    }
    crowd_stop(&crowd, threads, THREADS);
    cr_close(room);
    agents_teardown(&agent);
}

/* Each SIGHUP takes the next cache. */
static bool next_cache(void *context, struct cr_agent_settings *out_settings)
{
    static const enum cr_cache caches[] = {CR_CACHE_NONE, CR_CACHE_SHARED, CR_CACHE_MEMORY,
                                           CR_CACHE_SHARED};
    unsigned *turn = context;
    out_settings->cache = caches[*turn % 4];
    out_settings->cache_bytes = (4u + *turn % 3) << 20;
    ++*turn;
    return true;
}

static enum cr_cache cache_now(struct cr_room *room)
{
    struct cr_stats stats = {.size = sizeof stats};
    return CHECK_STATUS(cr_stats(room, &stats), CR_OK) ? stats.cache : CR_CACHE_DEFAULT;
}

static void the_cache_is_switched_while_threads_validate_and_nobody_is_refused(void)
{
    enum { THREADS = 3, TURNS = 12 };
    struct test_agent agent;
    struct cr_login login, ended, while_off;
    pthread_t threads[THREADS];
    unsigned turn = 0;
    struct cr_agent_options options = {.reload = next_cache, .context = &turn};
    if (!agents_setup(&agent, "memory") || !agents_start(&agent, &options))
        return;
    struct cr_room *room = agents_join(&agent, "app.sock");
    struct cr_room *other = agents_join(&agent, "app.sock");
    if (room == NULL || other == NULL || !agents_login(room, "anna", &ended) ||
        !agents_login(room, "anna", &login))
        return;
    struct crowd crowd = {.room = room, .live = &login.signed_token, .ended = &ended.signed_token};
    crowd_start(&crowd, threads, THREADS);
    static const enum cr_cache expected[] = {CR_CACHE_NONE, CR_CACHE_SHARED, CR_CACHE_MEMORY,
                                             CR_CACHE_SHARED};
    bool has_ended = false;
    for (int i = 0; i < TURNS; i++) {
        CHECK_INT(agents_signal(&agent, SIGHUP), 0);
        for (int k = 0; k < 5000 && cache_now(other) != expected[i % 4]; k++)
            (void)poll(NULL, 0, 1);
        CHECK_INT(cache_now(other), expected[i % 4]);
        CHECK_INT(is_mapped(other), expected[i % 4] == CR_CACHE_SHARED);
        if (has_ended)
            CHECK_STATUS(agents_validate(other, &while_off.signed_token), CR_ENDED);
        if (expected[i % 4] == CR_CACHE_NONE) {
            /* Ended while the cache is off: never accepted after. */
            struct cr_user ben = agents_user("ben");
            CHECK(agents_login(other, "ben", &while_off));
            CHECK_STATUS(agents_validate(other, &while_off.signed_token), CR_OK);
            CHECK_STATUS(cr_invalidate_by_user(other, &ben, NULL, NULL), CR_OK);
            has_ended = true;
        }
        crowd_wait(&crowd, 20);
    }
    crowd_stop(&crowd, threads, THREADS);
    cr_close(other);
    cr_close(room);
    agents_teardown(&agent);
}

/* Handed descriptors. */

static int http_connect(const struct test_agent *agent)
{
    char path[AGENTS_PATH_MAX];
    int fd = -1;
    (void)snprintf(path, sizeof path, "%.100s/http.sock", agent->dir);
    CHECK_STATUS(cr_agent_connect(path, &fd), CR_OK);
    return fd;
}

static void a_room_over_a_handed_descriptor_goes_on_with_a_fresh_one(void)
{
    struct test_agent agent;
    struct cr_login login;
    struct cr_call *validation, *lost;
    struct cr_session session = CR_SESSION_INIT;
    struct cr_room *http = NULL;
    if (!agents_setup(&agent, "sqlite") || !agents_start(&agent, NULL))
        return;
    struct cr_room *room = agents_join(&agent, "app.sock");
    if (room == NULL || !agents_login(room, "anna", &login) ||
        !CHECK_STATUS(cr_room_open_fd(http_connect(&agent), NULL, &http, NULL), CR_OK))
        return;
    CHECK(cr_room_is_connected(http));
    CHECK_STATUS(agents_validate(http, &login.signed_token), CR_OK);
    /* Stopped first, so that both are certainly under way when it dies. */
    CHECK_INT(agents_signal(&agent, SIGSTOP), 0);
    struct cr_user anna = agents_user("anna");
    struct cr_login_options options = {.size = sizeof options, .policy = CR_POLICY_KEEP};
    CHECK_STATUS(cr_validate_begin(http, &login.signed_token, true, &validation), CR_OK);
    CHECK_STATUS(cr_login_password_begin(http, &anna, "secret", 6, &options, &lost), CR_OK);
    CHECK_INT(agents_signal(&agent, SIGKILL), -SIGKILL);
    struct cr_login nothing;
    CHECK_STATUS(cr_login_password_finish(lost, &nothing), CR_UNAVAILABLE);
    CHECK(!cr_room_is_connected(http));
    CHECK(!cr_call_done(validation));
    if (!agents_start(&agent, NULL))
        return;
    cr_room_replace_fd(http, http_connect(&agent));
    CHECK_STATUS(cr_validate_finish(validation, &session), CR_OK);
    CHECK(cr_room_is_connected(http));
    cr_close(http);
    cr_close(room);
    agents_teardown(&agent);
}

/* Agents that are started by who needs one. */

static void the_first_worker_starts_the_agent_and_the_last_one_lets_it_go(void)
{
    struct test_agent agent;
    struct test_worker workers[3];
    struct cr_options options;
    char lock[AGENTS_PATH_MAX + 16];
    if (!agents_setup(&agent, "sqlite"))
        return;
    /* Root starts none, so that its tests run as somebody else. */
    uid_t uid = geteuid() == 0 ? NOBODY : 0;
    if (uid != 0 && !CHECK_INT(chown(agent.dir, uid, uid), 0))
        return;
    cr_options_init(&options);
    options.program = AGENTS_PROGRAM;
    options.state = agent.dir;
    for (int i = 0; i < 3; i++) {
        if (!CHECK(agents_worker(&workers[i], agent.store, &options, uid)))
            return;
    }
    struct worker_reply made = agents_ask(&workers[0], WORKER_LOGIN, NULL, "anna", 0);
    CHECK_STATUS(made.status, CR_OK);
    CHECK_STATUS(agents_ask(&workers[1], WORKER_VALIDATE, &made.token, NULL, 0).status, CR_OK);
    CHECK_STATUS(agents_ask(&workers[2], WORKER_FORK, &made.token, NULL, 0).status, CR_OK);

    /* It is killed: they start another. */
    (void)snprintf(lock, sizeof lock, "%s/agent.lock", agent.dir);
    FILE *file = fopen(lock, "r");
    char text[32] = "";
    CHECK(file != NULL && fgets(text, sizeof text, file) != NULL);
    if (file != NULL)
        (void)fclose(file);
    long pid = strtol(text, NULL, 10);
    if (CHECK(pid > 1))
        CHECK_INT(kill((pid_t)pid, SIGKILL), 0);
    struct worker_request ask = {.op = WORKER_VALIDATE, .token = made.token};
    for (int i = 0; i < 3; i++)
        agents_tell(&workers[i], &ask);
    for (int i = 0; i < 3; i++)
        CHECK_STATUS(agents_hear(&workers[i]).status, CR_OK);
    CHECK_STATUS(agents_ask(&workers[0], WORKER_END_USER, NULL, "anna", 0).status, CR_OK);
    CHECK_STATUS(agents_ask(&workers[1], WORKER_VALIDATE, &made.token, NULL, 0).status, CR_ENDED);

    /* They go, and so does it. */
    for (int i = 0; i < 3; i++)
        agents_worker_end(&workers[i], i == 0 ? SIGKILL : 0);
    char path[AGENTS_PATH_MAX + 16];
    (void)snprintf(path, sizeof path, "%s/app.sock", agent.dir);
    for (int i = 0; i < 10000 && access(path, F_OK) == 0; i++)
        (void)poll(NULL, 0, 1);
    CHECK(access(path, F_OK) != 0);
    agents_teardown(&agent);
}

static void root_starts_no_agent_and_is_told_what_to_do(void)
{
    struct test_agent agent;
    struct cr_options options;
    struct cr_error error = {.size = sizeof error};
    struct cr_room *room = NULL;
    if (geteuid() != 0) {
        tap_skip("not root");
        return;
    }
    if (!agents_setup(&agent, "memory"))
        return;
    cr_options_init(&options);
    options.program = AGENTS_PROGRAM;
    options.state = agent.dir;
    CHECK_STATUS(cr_open(agent.store, &options, &room, &error), CR_E_REFUSED);
    CHECK(strstr(error.text, "root") != NULL && strstr(error.text, "cloakroom agent") != NULL);
    agents_teardown(&agent);
}

static void a_second_direct_process_is_refused_and_a_crashed_one_locks_nobody_out(void)
{
    struct test_agent agent;
    struct test_worker first, second;
    struct cr_options options;
    if (!agents_setup(&agent, "sqlite"))
        return;
    cr_options_init(&options);
    options.mode = CR_MODE_DIRECT;
    options.declared_workers = 1;
    if (!CHECK(agents_worker(&first, agent.store, &options, 0)))
        return;
    struct cr_error error = {.size = sizeof error};
    struct cr_room *room = NULL;
    char pid[32];
    (void)snprintf(pid, sizeof pid, "%ld", (long)first.pid);
    CHECK_STATUS(cr_open(agent.store, &options, &room, &error), CR_E_REFUSED);
    CHECK(strstr(error.text, "CR-101") != NULL);
    CHECK(strstr(error.text, pid) != NULL);
    agents_worker_end(&first, SIGKILL);
    if (CHECK(agents_worker(&second, agent.store, &options, 0)))
        agents_worker_end(&second, 0);
    agents_teardown(&agent);
}

/* The application's own table. */

static void an_own_table_is_shared_and_a_ticket_of_a_dead_agent_is_good_for_nothing(void)
{
    struct test_agent agent;
    struct cr_value value = {.size = sizeof value};
    struct cr_ticket ticket;
    struct cr_user anna = agents_user("anna");
    if (!agents_setup(&agent, "table") || !agents_start(&agent, NULL))
        return;
    struct cr_room *one = agents_join(&agent, "app.sock"), *two = agents_join(&agent, "app.sock");
    if (one == NULL || two == NULL)
        return;
    CHECK_STATUS(cr_lookup(one, "key", 3, &value), CR_ASK);
    CHECK_STATUS(cr_ticket_take(one, "key", 3, &ticket), CR_OK);
    CHECK_STATUS(cr_fill(one, &ticket, &anna, "value", 5, 60000), CR_OK);
    CHECK_STATUS(cr_lookup(two, "key", 3, &value), CR_OK);
    CHECK_MEM(value.data, "value", 5);
    CHECK_STATUS(cr_invalidate(two, "key", 3), CR_OK);
    CHECK_STATUS(cr_lookup(one, "key", 3, &value), CR_ASK);
    for (int i = 0; i < 50; i++) /* its clock is well ahead of a new one's */
        CHECK_STATUS(cr_invalidate(two, "key", 3), CR_OK);
    CHECK_STATUS(cr_ticket_take(one, "key", 3, &ticket), CR_OK);
    CHECK_INT(agents_signal(&agent, SIGKILL), -SIGKILL);
    if (!agents_start(&agent, NULL))
        return;
    CHECK_STATUS(cr_invalidate_by_user(two, &anna, NULL, NULL), CR_OK);
    CHECK_STATUS(cr_fill(one, &ticket, &anna, "value", 5, 60000), CR_OK);
    CHECK_STATUS(cr_lookup(one, "key", 3, &value), CR_ASK);
    CHECK_STATUS(cr_lookup(two, "key", 3, &value), CR_ASK);
    CHECK(is_mapped(one)); /* asked and answered: it has joined the new agent */
    CHECK_STATUS(cr_ticket_take(one, "key", 3, &ticket), CR_OK);
    CHECK_STATUS(cr_fill(one, &ticket, &anna, "value", 5, 60000), CR_OK);
    CHECK_STATUS(cr_lookup(two, "key", 3, &value), CR_OK);
    cr_close(one);
    cr_close(two);
    agents_teardown(&agent);
}

static void a_table_that_only_the_agent_reads_is_used_without_waiting(void)
{
    struct test_agent agent;
    struct cr_value value = {.size = sizeof value};
    struct cr_ticket ticket;
    struct cr_call *call;
    struct cr_user anna = agents_user("anna");
    struct cr_agent_options options = {.settings = {.cache = CR_CACHE_MEMORY}};
    if (!agents_setup(&agent, "table") || !agents_start(&agent, &options))
        return;
    struct cr_room *room = agents_join(&agent, "app.sock");
    if (room == NULL)
        return;
    CHECK(!is_mapped(room));
    CHECK_STATUS(cr_lookup_cached(room, "key", 3, &value), CR_ASK);
    if (!CHECK_STATUS(cr_lookup_begin(room, "key", 3, &call), CR_OK) ||
        !loop_until_done(room, call))
        return;
    CHECK_STATUS(cr_lookup_finish(call, &value), CR_ASK);
    if (!CHECK_STATUS(cr_ticket_take_begin(room, "key", 3, &call), CR_OK) ||
        !loop_until_done(room, call))
        return;
    CHECK_STATUS(cr_ticket_take_finish(call, &ticket), CR_OK);
    if (!CHECK_STATUS(cr_fill_begin(room, &ticket, &anna, "value", 5, 60000, &call), CR_OK) ||
        !loop_until_done(room, call))
        return;
    CHECK_STATUS(cr_fill_finish(call), CR_OK);
    if (!CHECK_STATUS(cr_lookup_begin(room, "key", 3, &call), CR_OK) ||
        !loop_until_done(room, call))
        return;
    if (CHECK_STATUS(cr_lookup_finish(call, &value), CR_OK))
        CHECK_MEM(value.data, "value", 5);
    CHECK_STATUS(cr_lookup(room, "key", 3, &value), CR_OK);
    /* A ticket whose clock is that of before an ending. */
    CHECK_STATUS(cr_ticket_take(room, "key", 3, &ticket), CR_OK);
    CHECK_STATUS(cr_invalidate(room, "key", 3), CR_OK);
    CHECK_STATUS(cr_fill(room, &ticket, &anna, "value", 5, 60000), CR_OK);
    CHECK_STATUS(cr_lookup(room, "key", 3, &value), CR_ASK);
    /* And one whose clock nobody told: the agent is gone. */
    if (!CHECK_STATUS(cr_ticket_take_begin(room, "key", 3, &call), CR_OK) ||
        !loop_until_done(room, call))
        return;
    CHECK_INT(agents_signal(&agent, SIGKILL), -SIGKILL);
    cr_call_cancel(call);
    CHECK_STATUS(cr_ticket_take(room, "key", 3, &ticket), CR_OK);
    CHECK_STATUS(cr_lookup_begin(room, "key", 3, &call), CR_ASK);
    CHECK_STATUS(cr_fill(room, &ticket, &anna, "value", 5, 60000), CR_OK);
    cr_close(room);
    agents_teardown(&agent);
}

static void a_lock_that_nobody_waits_for_any_more_is_given_back(void)
{
    struct test_agent agent;
    struct cr_lock *lock, *other;
    struct cr_call *granted, *waiting;
    if (!agents_setup(&agent, "memory") || !agents_start(&agent, NULL))
        return;
    struct cr_room *one = agents_join(&agent, "app.sock"), *two = agents_join(&agent, "app.sock");
    if (one == NULL || two == NULL)
        return;
    if (!CHECK_STATUS(cr_lock_take_begin(one, "nightly", 0, &granted), CR_OK) ||
        !loop_until_done(one, granted) ||
        !CHECK_STATUS(cr_lock_take_begin(two, "nightly", 60000, &waiting), CR_OK))
        return;
    CHECK_STATUS(cr_lock_take(two, "nightly", 0, &lock), CR_BUSY);
    cr_call_cancel(granted);
    if (!loop_until_done(two, waiting))
        return;
    CHECK_STATUS(cr_lock_take_finish(waiting, &lock), CR_OK);
    CHECK_STATUS(cr_lock_check(lock), CR_OK);
    /* Cancelled in the queue. */
    if (!CHECK_STATUS(cr_lock_take_begin(one, "nightly", 60000, &waiting), CR_OK))
        return;
    CHECK_STATUS(cr_lock_take(one, "nightly", 0, &other), CR_BUSY);
    cr_call_cancel(waiting);
    cr_lock_give(lock);
    CHECK_STATUS(cr_lock_take(two, "nightly", 10000, &lock), CR_OK);
    cr_lock_give(lock);
    cr_close(one);
    cr_close(two);
    agents_teardown(&agent);
}

static void a_lock_is_given_back_also_when_the_socket_is_full(void)
{
    static struct cr_call *calls[800];
    struct test_agent agent;
    struct cr_lock *lock;
    struct cr_login made;
    if (!agents_setup(&agent, "memory") || !agents_start(&agent, NULL))
        return;
    struct cr_room *one = agents_join(&agent, "app.sock"), *two = agents_join(&agent, "app.sock");
    if (one == NULL || two == NULL || !agents_login(one, "anna", &made) ||
        !CHECK_STATUS(cr_lock_take(one, "nightly", 0, &lock), CR_OK))
        return;
    CHECK_INT(agents_signal(&agent, SIGSTOP), 0);
    for (size_t i = 0; i < 800; i++)
        CHECK_STATUS(cr_validate_begin(one, &made.signed_token, false, &calls[i]), CR_OK);
    cr_lock_give(lock);
    CHECK_INT(agents_signal(&agent, SIGCONT), 0);
    for (size_t i = 0; i < 800; i++) {
        struct cr_session session = CR_SESSION_INIT;
        CHECK_STATUS(cr_validate_finish(calls[i], &session), CR_OK);
    }
    if (CHECK_STATUS(cr_lock_take(two, "nightly", 10000, &lock), CR_OK))
        cr_lock_give(lock);
    cr_close(one);
    cr_close(two);
    agents_teardown(&agent);
}

int main(int argc, char **argv)
{
    static const struct tap_test tests[] = {
        TAP_TEST(a_session_made_in_one_program_is_known_to_all_and_ended_in_all),
        TAP_TEST(a_hit_asks_nobody),
        TAP_TEST(a_batch_is_answered_as_one_by_one),
        TAP_TEST(a_batch_that_hits_asks_nobody_and_one_that_misses_waits_once),
        TAP_TEST(a_stopped_agents_table_is_not_believed_for_long),
        TAP_TEST(a_session_that_is_used_by_hits_alone_stays_and_one_that_is_not_used_ends),
        TAP_TEST(a_killed_agent_is_waited_for_and_nobody_is_logged_out_meanwhile),
        TAP_TEST(without_an_agent_the_answer_is_unavailable_and_never_not_found),
        TAP_TEST(a_forked_child_joins_anew_and_leaves_its_parent_alone),
        TAP_TEST(an_event_loop_of_a_forked_child_works_and_its_parents_too),
        TAP_TEST(what_was_begun_before_a_fork_is_the_parents),
        TAP_TEST(a_call_is_waited_for_a_while_and_goes_on),
        TAP_TEST(many_calls_may_be_under_way_at_once),
        TAP_TEST(many_threads_share_one_room),
        TAP_TEST(a_reply_that_another_thread_took_in_wakes_the_event_loop),
        TAP_TEST(an_event_loop_hears_of_every_call_beside_threads_that_wait),
        TAP_TEST(an_event_loop_joins_the_next_agent_also_where_a_thread_saw_the_last_one_end),
        TAP_TEST(a_child_forked_from_among_threads_joins_anew),
        TAP_TEST(the_cache_is_switched_while_threads_validate_and_nobody_is_refused),
        TAP_TEST(a_room_over_a_handed_descriptor_goes_on_with_a_fresh_one),
        TAP_TEST(the_first_worker_starts_the_agent_and_the_last_one_lets_it_go),
        TAP_TEST(root_starts_no_agent_and_is_told_what_to_do),
        TAP_TEST(a_second_direct_process_is_refused_and_a_crashed_one_locks_nobody_out),
        TAP_TEST(an_own_table_is_shared_and_a_ticket_of_a_dead_agent_is_good_for_nothing),
        TAP_TEST(a_table_that_only_the_agent_reads_is_used_without_waiting),
        TAP_TEST(a_lock_that_nobody_waits_for_any_more_is_given_back),
        TAP_TEST(a_lock_is_given_back_also_when_the_socket_is_full),
    };
    int status;
    if (agents_main(argc, argv, &status))
        return status;
    return TAP_MAIN(tests, argc, argv);
}
