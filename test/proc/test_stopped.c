/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Real processes, stopped and killed between two instructions: a worker in cr_validate, which is
 * continued after an ending has answered; and the agent in the middle of requests, at instructions
 * taken at random, while workers hold its table. The table alone is gone through instruction by
 * instruction in test_silence.c and test_killed.c; here the room, the token's hash, the agent's
 * loop and its store are around it.
 *
 * With CR_LONG there are more stops.
 */
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agents.h"
#include "stepped.h"
#include "tap.h"

#define STOPS 45
#define STOPS_LONG 1000
#define KILLS 3
#define KILLS_LONG 30
#define INSTRUCTIONS_MAX 2000000u
#define TRIES_MAX 400
#define TRY_MS 20

static unsigned count_of(unsigned count, unsigned count_long)
{
    return getenv("CR_LONG") != NULL ? count_long : count;
}

static bool is_refused(void)
{
    const char *why = stepped_refused();
    if (why != NULL)
        tap_skip(why);
    return why != NULL;
}

/* --- A worker stopped in a validation --- */

enum phase { PHASE_BEFORE, PHASE_FIRST, PHASE_NEXT };

struct shared {
    atomic_uint phase;
    bool quit;
    char url[AGENTS_PATH_MAX];
    struct cr_token token;
    enum cr_status status[3]; /* the first of all, which fills the table; then first and next */
    struct cr_session session[3];
};

static void worker_run(void *context)
{
    struct shared *shared = context;
    struct cr_error error = {.size = sizeof error};
    struct cr_room *room = NULL;
    if (cr_open(shared->url, NULL, &room, &error) != CR_OK)
        _exit(1);
    for (;;) {
        (void)raise(SIGSTOP);
        if (shared->quit)
            break;
        static struct cr_session session[3];
        for (int i = 0; i < 3; i++) {
            session[i].size = sizeof session[i];
            if (i == 1)
                (void)raise(SIGSTOP); /* the table has it now */
            atomic_store(&shared->phase, (unsigned)i);
            shared->status[i] = cr_validate(room, &shared->token, &session[i]);
        }
        memcpy(shared->session, session, sizeof session);
    }
    cr_close(room);
}

static void content_of(unsigned number, unsigned char out[64])
{
    memset(out, (int)('a' + number % 26), 64);
}

/* Whether a session is this user's, with the data that it began with or, `changed`, with what was
 * written since: all of it. */
static bool session_is(const struct cr_session *session, unsigned number, const char *user,
                       bool changed)
{
    unsigned char data[64];
    struct cr_user wanted = agents_user(user);
    content_of(number + changed, data);
    return session->user.length == wanted.length &&
           memcmp(session->user.bytes, wanted.bytes, wanted.length) == 0 &&
           session->data_bytes == sizeof data && memcmp(session->data, data, sizeof data) == 0;
}

static bool login_with_data(struct cr_room *room, unsigned number, const char *name,
                            struct cr_login *out_login)
{
    unsigned char data[64];
    struct cr_user user = agents_user(name);
    content_of(number, data);
    struct cr_login_options options = {.size = sizeof options,
                                       .policy = CR_POLICY_REPLACE,
                                       .data = data,
                                       .data_bytes = sizeof data};
    return CHECK_STATUS(cr_login(room, &user, &options, out_login), CR_OK);
}

/* What the agent does while the worker stands; each has answered before the worker goes on. */
enum deed { DEED_END_USER, DEED_END_SESSION, DEED_DATA, DEED_COUNT };

static bool deed_do(struct cr_room *room, enum deed deed, unsigned number, const char *name,
                    const struct cr_login *login)
{
    unsigned char data[64];
    uint64_t version = 0;
    struct cr_user user = agents_user(name);
    enum cr_status st = CR_OK;
    content_of(number + 1, data);
    switch (deed) {
    case DEED_END_USER:
        st = cr_invalidate_by_user(room, &user, NULL, NULL);
        break;
    case DEED_END_SESSION:
        st = cr_end(room, &login->session.id, NULL, NULL);
        break;
    case DEED_DATA:
        st = cr_data_write(room, &login->session.id, login->session.version, data, sizeof data,
                           &version);
        break;
    case DEED_COUNT:
        break;
    }
    return CHECK_STATUS(st, CR_OK);
}

static bool answers_are_right(const struct shared *shared, enum deed deed, unsigned number,
                              const char *name)
{
    bool first_found = shared->status[1] == CR_OK, next_found = shared->status[2] == CR_OK;
    bool changes = deed == DEED_DATA;
    bool first = session_is(&shared->session[1], number, name, false) ||
                 (changes && session_is(&shared->session[1], number, name, true));
    bool right = CHECK(!first_found || first);
    right = CHECK(changes || !next_found) && right;
    if (changes)
        right = CHECK(next_found && first_found) &&
                CHECK(session_is(&shared->session[2], number, name, true)) && right;
    return right;
}

/* The worker goes to the beginning of the validation that hits. */
static bool worker_begins(struct stepped *worker, const struct shared *shared)
{
    if (!CHECK(stepped_go(worker)))
        return false;
    while (stepped_step(worker))
        if (atomic_load(&shared->phase) == PHASE_FIRST)
            return true;
    return CHECK(false);
}

/* Counts the instructions of a hit; it is gone through to its end. */
static unsigned hit_measure(struct stepped *worker, const struct shared *shared)
{
    unsigned count = 0;
    while (worker->pid != 0 && atomic_load(&shared->phase) == PHASE_FIRST &&
           count < INSTRUCTIONS_MAX && stepped_step(worker))
        count++;
    CHECK(stepped_go(worker));
    return count;
}

struct stopping {
    struct stepped worker;
    struct shared *shared;
    struct cr_room *room;
    unsigned instructions, number, first_found;
};

static bool stop_once(struct stopping *s, unsigned at, enum deed deed)
{
    struct cr_login login;
    char name[32];
    s->number++;
    (void)snprintf(name, sizeof name, "stopped-%u", s->number);
    if (!login_with_data(s->room, s->number, name, &login))
        return false;
    s->shared->token = login.signed_token;
    atomic_store(&s->shared->phase, PHASE_BEFORE);
    if (!worker_begins(&s->worker, s->shared))
        return false;
    if (s->instructions == 0) {
        s->instructions = hit_measure(&s->worker, s->shared);
        return CHECK(s->instructions > 100 && s->instructions < INSTRUCTIONS_MAX);
    }
    for (unsigned i = 0; i < at && stepped_step(&s->worker); i++)
        ;
    bool right = deed_do(s->room, deed, s->number, name, &login) && CHECK(stepped_go(&s->worker)) &&
                 answers_are_right(s->shared, deed, s->number, name);
    s->first_found += s->shared->status[1] == CR_OK;
    return right;
}

/* ASVS D8 */
static void a_worker_stopped_anywhere_in_a_validation_finishes_that_one_only(void)
{
    struct test_agent agent;
    struct stopping s = {0};
    unsigned stops = count_of(STOPS, STOPS_LONG);
    if (is_refused() || !agents_setup(&agent, "memory") || !agents_start(&agent, NULL))
        return;
    s.room = agents_join(&agent, "app.sock");
    s.shared =
        mmap(NULL, sizeof *s.shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (s.room == NULL || !CHECK(s.shared != MAP_FAILED))
        return;
    memcpy(s.shared->url, agent.url, sizeof s.shared->url);
    bool goes_on = stepped_start(&s.worker, worker_run, s.shared) && CHECK(stepped_go(&s.worker)) &&
                   stop_once(&s, 0, DEED_END_USER);
    for (unsigned i = 0; goes_on && i < stops; i++) {
        char row[64];
        unsigned at = (unsigned)tap_random_below(s.instructions);
        (void)snprintf(row, sizeof row, "instruction %u, deed %u", at, i % DEED_COUNT);
        tap_row(row);
        goes_on = stop_once(&s, at, (enum deed)(i % DEED_COUNT));
    }
    tap_row(NULL);
    tap_note("a hit has %u instructions; %u stops, %u validations under way were answered",
             s.instructions, stops, s.first_found);
    s.shared->quit = true;
    CHECK(s.worker.pid != 0 && stepped_finish(&s.worker));
    stepped_kill(&s.worker);
    munmap(s.shared, sizeof *s.shared);
    cr_close(s.room);
    agents_teardown(&agent);
}

/* --- The agent killed in the middle of a request --- */

struct killing {
    struct test_agent agent;
    struct test_worker asks, looks; /* both hold the table */
    struct cr_login other;          /* a session that nobody ends */
    unsigned instructions[2];       /* of the agent, for an ending and for a login */
    unsigned done, undone;
};

static const enum worker_op killing_ops[2] = {WORKER_END_USER, WORKER_LOGIN};

/* An answer at last: while no agent runs there is none. */
static enum cr_status validate_settled(const struct test_worker *worker,
                                       const struct cr_token *token)
{
    enum cr_status st = CR_UNAVAILABLE;
    for (int i = 0; i < TRIES_MAX && st == CR_UNAVAILABLE; i++) {
        st = agents_ask(worker, WORKER_VALIDATE, token, NULL, 0).status;
        if (st == CR_UNAVAILABLE)
            (void)poll(NULL, 0, TRY_MS);
    }
    return st;
}

static bool is_ready(int fd)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    return poll(&ready, 1, 0) != 0;
}

/* The agent works on the request, `most` instructions of its loop's thread or until it has
 * answered; how many it were. */
static unsigned agent_steps(struct killing *k, enum worker_op op, const char *name, unsigned most,
                            struct stepped *out_agent)
{
    struct worker_request request = {.op = op};
    unsigned count = 0;
    (void)snprintf(request.name, sizeof request.name, "%s", name);
    if (!CHECK(stepped_seize(out_agent, k->agent.pid)))
        return 0;
    agents_tell(&k->asks, &request);
    while (count < most && (count % 64 != 0 || !is_ready(k->asks.fd)) && stepped_step(out_agent))
        count++;
    return count;
}

static bool measure(struct killing *k, unsigned kind)
{
    struct stepped agent;
    k->instructions[kind] = agent_steps(k, killing_ops[kind], "measured", INSTRUCTIONS_MAX, &agent);
    stepped_release(&agent);
    return CHECK_STATUS(agents_hear(&k->asks).status, CR_OK) && CHECK(k->instructions[kind] > 100);
}

/* Nobody has said anything yet; what is believed is what was, for a moment. */
static bool held_is_right(struct killing *k, const struct cr_token *token)
{
    enum cr_status other =
        agents_ask(&k->looks, WORKER_CACHED, &k->other.signed_token, NULL, 0).status;
    enum cr_status target = agents_ask(&k->looks, WORKER_CACHED, token, NULL, 0).status;
    return CHECK(other == CR_OK || other == CR_ASK) && CHECK(target == CR_OK || target == CR_ASK);
}

/* The dead one's table is believed no longer than its lease (ASVS D9). */
static bool held_runs_out(struct killing *k)
{
    enum cr_status st = CR_OK;
    for (int i = 0; i < TRIES_MAX && st != CR_ASK; i++) {
        st = agents_ask(&k->looks, WORKER_CACHED, &k->other.signed_token, NULL, 0).status;
        if (st != CR_ASK)
            (void)poll(NULL, 0, TRY_MS);
    }
    return CHECK_STATUS(st, CR_ASK);
}

/* Whether the next agent, and both workers, say one and the same, and what the call said. */
static bool successor_is_right(struct killing *k, const char *name, const struct cr_token *token,
                               const struct worker_reply *reply)
{
    enum cr_status st = validate_settled(&k->looks, token);
    bool lives = st == CR_OK;
    bool right = CHECK(lives || st == CR_ENDED || st == CR_NOT_FOUND);
    right = CHECK((validate_settled(&k->asks, token) == CR_OK) == lives) && right;
    right = CHECK(reply->status != CR_OK || !lives) && right;
    right = CHECK_STATUS(validate_settled(&k->looks, &k->other.signed_token), CR_OK) && right;
    if (reply->status == CR_OK && reply->token.text[0] != '\0')
        right = CHECK_STATUS(validate_settled(&k->looks, &reply->token), CR_OK) && right;
    k->done += !lives;
    k->undone += lives;
    struct worker_reply again = agents_ask(&k->asks, WORKER_END_USER, NULL, name, 0);
    right = CHECK_STATUS(again.status, CR_OK) && right;
    right = CHECK(validate_settled(&k->looks, token) != CR_OK) && right;
    return CHECK(validate_settled(&k->asks, token) != CR_OK) && right;
}

static bool kill_once(struct killing *k, unsigned round)
{
    unsigned kind = round % 2;
    char name[32];
    struct stepped agent;
    (void)snprintf(name, sizeof name, "killed-%u", round);
    struct worker_reply login = agents_ask(&k->asks, WORKER_LOGIN, NULL, name, 0);
    if (!CHECK_STATUS(login.status, CR_OK) ||
        !CHECK_STATUS(validate_settled(&k->looks, &login.token), CR_OK) ||
        !CHECK_STATUS(validate_settled(&k->looks, &k->other.signed_token), CR_OK))
        return false;
    unsigned at = (unsigned)tap_random_below(k->instructions[kind]);
    unsigned got = agent_steps(k, killing_ops[kind], name, at, &agent);
    tap_note("round %u: killed after %u of about %u instructions", round, got,
             k->instructions[kind]);
    stepped_kill(&agent);
    k->agent.pid = 0;
    bool right = held_is_right(k, &login.token) && (round != 0 || held_runs_out(k)) &&
                 agents_start(&k->agent, NULL);
    if (!right)
        return false;
    struct worker_reply reply = agents_hear(&k->asks);
    return successor_is_right(k, name, &login.token, &reply);
}

static void an_agent_killed_anywhere_in_a_request_has_done_it_or_not_and_the_next_is_right(void)
{
    static struct killing k;
    unsigned kills = count_of(KILLS, KILLS_LONG), round = 0;
    if (is_refused() || !agents_setup(&k.agent, "sqlite") || !agents_start(&k.agent, NULL) ||
        !agents_worker(&k.asks, k.agent.url, NULL, 0) ||
        !agents_worker(&k.looks, k.agent.url, NULL, 0))
        return;
    struct cr_room *room = agents_join(&k.agent, "app.sock");
    bool goes_on = room != NULL && agents_login(room, "other", &k.other);
    cr_close(room);
    goes_on = goes_on && measure(&k, 1) && measure(&k, 0);
    while (goes_on && round < kills)
        goes_on = kill_once(&k, round++);
    tap_note("%u agents killed; %u requests were done all the same, %u were not", round, k.done,
             k.undone);
    agents_worker_end(&k.asks, SIGKILL);
    agents_worker_end(&k.looks, SIGKILL);
    agents_teardown(&k.agent);
}

static const struct tap_test tests[] = {
    TAP_TEST(a_worker_stopped_anywhere_in_a_validation_finishes_that_one_only),
    TAP_TEST(an_agent_killed_anywhere_in_a_request_has_done_it_or_not_and_the_next_is_right),
};

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    return TAP_MAIN(tests, argc, argv);
}
