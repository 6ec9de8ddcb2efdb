/* SPDX-License-Identifier: Apache-2.0 */
/* An agent, and peers that leave, die, flood, lie, or do not read. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agents.h"
#include "room/room.h"
#include "tap.h"
#include "wire/message.h"

#define CUT_MS_MAX 20000

/* A peer that speaks bytes. */

static int raw_connect(const struct test_agent *agent, const char *name)
{
    char path[AGENTS_PATH_MAX];
    int fd = -1;
    (void)snprintf(path, sizeof path, "%.100s/%s", agent->dir, name);
    CHECK_STATUS(cr_agent_connect(path, &fd), CR_OK);
    return fd;
}

static bool raw_send(int fd, struct cr_builder *b)
{
    bool sent = cr_builder_finish(b) &&
                send(fd, b->bytes, b->count, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)b->count;
    cr_builder_fini(b);
    return sent;
}

static bool raw_hello(int fd)
{
    struct cr_builder b;
    unsigned char reply[1024];
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    cr_builder_init(&b, CR_OP_HELLO, CR_OK, 1);
    cr_builder_u64(&b, CR_TAG_VERSION, CR_WIRE_VERSION);
    return raw_send(fd, &b) && poll(&ready, 1, CUT_MS_MAX) == 1 &&
           recv(fd, reply, sizeof reply, 0) > 0;
}

/* Reads until the agent hangs up. */
static bool raw_is_cut(int fd)
{
    static unsigned char bytes[CR_MESSAGE_BYTES_MAX];
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    while (poll(&ready, 1, CUT_MS_MAX) == 1) {
        ssize_t got = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
        if (got == 0 || (got < 0 && errno == ECONNRESET))
            return true;
        if (got < 0 && errno != EAGAIN)
            return false;
    }
    return false;
}

static void a_peer_that_sends_garbage_is_cut_and_others_live(void)
{
    struct test_agent agent;
    struct cr_login login;
    unsigned char noise[300];
    if (!agents_setup(&agent, "memory") || !agents_start(&agent, NULL))
        return;
    struct cr_room *room = agents_join(&agent, "app.sock");
    if (room == NULL || !agents_login(room, "anna", &login))
        return;
    for (int i = 0; i < 20; i++) {
        int fd = raw_connect(&agent, "app.sock");
        size_t count = 1 + tap_random_below(sizeof noise);
        for (size_t k = 0; k < count; k++)
            noise[k] = (unsigned char)tap_random();
        if (i % 2 == 0)
            CHECK(raw_hello(fd));
        CHECK_INT(send(fd, noise, count, MSG_NOSIGNAL), (ssize_t)count);
        CHECK(raw_is_cut(fd));
        close(fd);
        CHECK_STATUS(agents_validate(room, &login.signed_token), CR_OK);
    }
    cr_close(room);
    agents_teardown(&agent);
}

static void a_message_that_is_too_long_cuts_its_sender(void)
{
    static unsigned char bytes[CR_MESSAGE_BYTES_MAX + 100];
    struct test_agent agent;
    if (!agents_setup(&agent, "memory") || !agents_start(&agent, NULL))
        return;
    int fd = raw_connect(&agent, "app.sock");
    CHECK(raw_hello(fd));
    CHECK_INT(send(fd, bytes, sizeof bytes, MSG_NOSIGNAL), (ssize_t)sizeof bytes);
    CHECK(raw_is_cut(fd));
    close(fd);
    agents_teardown(&agent);
}

static void a_peer_that_does_not_read_is_cut_and_others_are_served(void)
{
    static char data[CR_DATA_BYTES_MAX];
    struct test_agent agent;
    struct cr_login login;
    uint64_t version;
    if (!agents_setup(&agent, "memory") || !agents_start(&agent, NULL))
        return;
    struct cr_room *room = agents_join(&agent, "app.sock");
    if (room == NULL || !agents_login(room, "anna", &login))
        return;
    CHECK_STATUS(
        cr_data_write(room, &login.session.id, CR_VERSION_ANY, data, sizeof data, &version), CR_OK);
    int fd = raw_connect(&agent, "app.sock");
    CHECK(raw_hello(fd));
    struct pollfd gone = {.fd = fd, .events = 0};
    uint64_t number = 1;
    /* It asks, and asks, and never reads, until the agent hangs up. */
    for (int i = 0; i < 100000 && poll(&gone, 1, 0) == 0; i++) {
        struct cr_builder b;
        cr_builder_init(&b, CR_OP_DATA_READ, CR_OK, ++number);
        cr_builder_bytes(&b, CR_TAG_ID, login.session.id.text, CR_SESSION_ID_CHARS);
        if (!raw_send(fd, &b) && poll(&gone, 1, 20) != 0)
            break;
        if (i % 50 == 0)
            CHECK_STATUS(agents_validate(room, &login.signed_token), CR_OK);
    }
    CHECK_INT(poll(&gone, 1, CUT_MS_MAX), 1);
    CHECK((gone.revents & POLLHUP) != 0);
    CHECK_STATUS(agents_validate(room, &login.signed_token), CR_OK);
    close(fd);
    cr_close(room);
    agents_teardown(&agent);
}

static void a_second_agent_in_the_same_directory_goes_and_says_who_is_there(void)
{
    struct test_agent agent;
    int ready[2], status = 0;
    char line[1300] = "", expected[32];
    if (!agents_setup(&agent, "memory") || !agents_start(&agent, NULL) || !CHECK(pipe(ready) == 0))
        return;
    struct cr_agent_options options = {
        .store = agent.store, .state = agent.dir, .ready_fd = ready[1]};
    pid_t pid = fork();
    if (pid == 0) {
        int quiet = open("/dev/null", O_WRONLY);
        (void)dup2(quiet, STDERR_FILENO);
        _exit(cr_agent_main(&options));
    }
    close(ready[1]);
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status));
    CHECK_INT(WEXITSTATUS(status), CR_AGENT_EXIT_BUSY);
    CHECK(read(ready[0], line, sizeof line - 1) > 0);
    (void)snprintf(expected, sizeof expected, "pid %ld", (long)agent.pid);
    CHECK(strstr(line, expected) != NULL);
    CHECK_INT(strtol(line, NULL, 10), CR_BUSY);
    close(ready[0]);
    struct cr_room *room = agents_join(&agent, "app.sock"); /* its sockets were left alone */
    cr_close(room);
    agents_teardown(&agent);
}

static void a_successor_takes_over_the_sockets_of_an_agent_that_was_killed(void)
{
    struct test_agent agent;
    if (!agents_setup(&agent, "memory") || !agents_start(&agent, NULL))
        return;
    CHECK_INT(agents_signal(&agent, SIGKILL), -SIGKILL);
    if (!agents_start(&agent, NULL))
        return;
    struct cr_room *room = agents_join(&agent, "app.sock");
    cr_close(room);
    agents_teardown(&agent);
}

static void a_clean_stop_leaves_no_socket_behind(void)
{
    static const char *const names[] = {"app.sock", "http.sock", "operator.sock"};
    struct test_agent agent;
    if (!agents_setup(&agent, "memory") || !agents_start(&agent, NULL))
        return;
    struct cr_room *room = agents_join(&agent, "app.sock");
    CHECK_INT(agents_signal(&agent, SIGTERM), 0);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[AGENTS_PATH_MAX];
        struct stat info;
        (void)snprintf(path, sizeof path, "%.100s/%s", agent.dir, names[i]);
        CHECK(lstat(path, &info) != 0 && errno == ENOENT);
    }
    cr_close(room);
    agents_teardown(&agent);
}

static void the_socket_says_what_a_peer_may_do(void)
{
    static const struct {
        const char *socket;
        enum cr_status create, end_all;
    } cases[] = {{"http.sock", CR_DENIED, CR_DENIED},
                 {"app.sock", CR_OK, CR_DENIED},
                 {"operator.sock", CR_OK, CR_OK}};
    struct test_agent agent;
    struct cr_login login;
    if (!agents_setup(&agent, "memory") || !agents_start(&agent, NULL))
        return;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tap_row(cases[i].socket);
        struct cr_room *room = agents_join(&agent, cases[i].socket);
        if (room == NULL)
            continue;
        CHECK_STATUS(cr_create(room, NULL, NULL, &login), cases[i].create);
        CHECK_STATUS(cr_end_all(room, NULL, NULL), cases[i].end_all);
        cr_close(room);
    }
    tap_row(NULL);
    agents_teardown(&agent);
}

static void sockets_are_for_their_owner_unless_the_app_socket_is_shared(void)
{
    static const struct {
        const char *name;
        mode_t owned, shared;
    } files[] = {{"", 0700, 0755},
                 {"/app.sock", 0600, 0666},
                 {"/http.sock", 0600, 0600},
                 {"/operator.sock", 0600, 0600}};
    for (int shared = 0; shared < 2; shared++) {
        struct test_agent agent;
        struct cr_agent_options options = {.app_mode = shared ? 0666 : 0};
        if (!agents_setup(&agent, "memory") || !agents_start(&agent, &options))
            return;
        for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
            char path[AGENTS_PATH_MAX];
            struct stat info;
            (void)snprintf(path, sizeof path, "%.100s%s", agent.dir, files[i].name);
            CHECK_INT(lstat(path, &info), 0);
            CHECK_UINT(info.st_mode & 07777, shared ? files[i].shared : files[i].owned);
        }
        struct test_worker other;
        if (geteuid() == 0) { /* another user comes in when he is let in only */
            CHECK_INT(agents_worker(&other, agent.url, NULL, 65534), shared);
            agents_worker_end(&other, 0);
        }
        agents_teardown(&agent);
    }
}

static void the_lock_of_a_killed_holder_is_free_although_its_child_lives(void)
{
    struct test_agent agent;
    struct test_worker holder, waiter;
    if (!agents_setup(&agent, "memory") || !agents_start(&agent, NULL) ||
        !CHECK(agents_worker(&holder, agent.url, NULL, 0)) ||
        !CHECK(agents_worker(&waiter, agent.url, NULL, 0)))
        return;
    struct worker_reply held = agents_ask(&holder, WORKER_LOCK, NULL, "nightly", 0);
    CHECK_STATUS(held.status, CR_OK);
    CHECK_STATUS(agents_ask(&holder, WORKER_CHECK, NULL, NULL, 0).status, CR_OK);
    CHECK_STATUS(agents_ask(&holder, WORKER_HOLD_FORK, NULL, NULL, 0).status, CR_OK);
    CHECK_STATUS(agents_ask(&waiter, WORKER_LOCK, NULL, "nightly", 0).status, CR_BUSY);
    struct worker_request wait = {.op = WORKER_LOCK, .name = "nightly", .wait = 10000};
    agents_tell(&waiter, &wait);
    agents_worker_end(&holder, SIGKILL);
    /* Well before the 15 s after which a lost host's locks are free. */
    struct worker_reply taken = agents_hear(&waiter);
    CHECK_STATUS(taken.status, CR_OK);
    CHECK(taken.number > held.number);
    agents_worker_end(&waiter, 0);
    agents_teardown(&agent);
}

static void a_lock_is_lost_when_its_agent_is_killed(void)
{
    struct test_agent agent;
    struct test_worker holder;
    if (!agents_setup(&agent, "memory") || !agents_start(&agent, NULL) ||
        !CHECK(agents_worker(&holder, agent.url, NULL, 0)))
        return;
    CHECK_STATUS(agents_ask(&holder, WORKER_LOCK, NULL, "nightly", 0).status, CR_OK);
    CHECK_STATUS(agents_ask(&holder, WORKER_CHECK, NULL, NULL, 0).status, CR_OK);
    CHECK_INT(agents_signal(&agent, SIGKILL), -SIGKILL);
    CHECK_STATUS(agents_ask(&holder, WORKER_CHECK, NULL, NULL, 0).status, CR_LOST);
    agents_worker_end(&holder, SIGKILL);
    agents_teardown(&agent);
}

static void an_ending_that_an_agent_was_sent_before_it_died_is_not_said_to_have_failed(void)
{
    struct test_agent agent;
    struct cr_room *room = NULL;
    struct cr_login login;
    struct cr_call *call = NULL;
    struct cr_user user = agents_user("anna");
    struct cr_ended ended = {.size = sizeof ended};
    struct cr_ending_id none = {{0}};
    struct cr_options options;
    cr_options_init(&options);
    options.timeout = 500; /* over before another agent is there */
    if (!agents_setup(&agent, "sqlite") || !agents_start(&agent, NULL) ||
        !CHECK_STATUS(cr_open(agent.url, &options, &room, NULL), CR_OK))
        return;
    CHECK(agents_login(room, "anna", &login));
    /* It lies in the socket of an agent that reads no more: or has read it, as far as we can know.
     */
    CHECK_INT(agents_signal(&agent, SIGSTOP), 0);
    CHECK_STATUS(cr_invalidate_by_user_begin(room, &user, NULL, &call), CR_OK);
    CHECK_INT(agents_signal(&agent, SIGKILL), -SIGKILL);
    CHECK_STATUS(cr_end_finish(call, &ended), CR_E_UNKNOWN_OUTCOME);
    CHECK(memcmp(&ended.ending, &none, sizeof none) != 0);
    cr_close(room);
    agents_teardown(&agent);
}

int main(int argc, char **argv)
{
    static const struct tap_test tests[] = {
        TAP_TEST(a_peer_that_sends_garbage_is_cut_and_others_live),
        TAP_TEST(a_message_that_is_too_long_cuts_its_sender),
        TAP_TEST(a_peer_that_does_not_read_is_cut_and_others_are_served),
        TAP_TEST(a_second_agent_in_the_same_directory_goes_and_says_who_is_there),
        TAP_TEST(a_successor_takes_over_the_sockets_of_an_agent_that_was_killed),
        TAP_TEST(a_clean_stop_leaves_no_socket_behind),
        TAP_TEST(the_socket_says_what_a_peer_may_do),
        TAP_TEST(sockets_are_for_their_owner_unless_the_app_socket_is_shared),
        TAP_TEST(the_lock_of_a_killed_holder_is_free_although_its_child_lives),
        TAP_TEST(a_lock_is_lost_when_its_agent_is_killed),
        TAP_TEST(an_ending_that_an_agent_was_sent_before_it_died_is_not_said_to_have_failed),
    };
    return TAP_MAIN(tests, argc, argv);
}
