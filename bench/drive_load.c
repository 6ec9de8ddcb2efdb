/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asks for a page as often as a server answers: each of its connections asks again as soon as it
 * has its answer. Turns can be short, so that two servers are compared within a moment.
 *
 * It never sleeps. On the loopback device it is the sender's core that wakes a receiver who sleeps,
 * some 6 microseconds a time in a virtual machine; with a client on another host it would be that
 * host's. How often a client sleeps depends on how it keeps up, and with that what is measured.
 *
 *     drive_load PORT PATH CONNECTIONS [COOKIE]
 *
 * prints 0 when it is ready. For each "SECONDS" on a line of its input it asks so long, after a
 * warm-up of a quarter of that, and prints how many were answered a second.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS_MAX 64
#define ANSWER_BYTES_MAX 8192

struct connection {
    int fd;
    size_t got;
    char answer[ANSWER_BYTES_MAX + 1];
};

static struct connection connections[CONNECTIONS_MAX];
static unsigned connection_count;
static char request[1024];
static size_t request_bytes;
static size_t answer_bytes; /* of each: the first one tells */
static uint64_t answer_count;
static int poll_fd;

static double now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static _Noreturn void fail(const char *what)
{
    fprintf(stderr, "drive_load: %s: %s\n", what, strerror(errno));
    exit(EXIT_FAILURE);
}

static void connection_ask(struct connection *c)
{
    c->got = 0;
    if (write(c->fd, request, request_bytes) != (ssize_t)request_bytes)
        fail("write");
}

static void connection_open(struct connection *c, uint16_t port)
{
    const struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    const int yes = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (const struct sockaddr *)&address, sizeof address) != 0 ||
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) != 0 ||
        epoll_ctl(poll_fd, EPOLL_CTL_ADD, c->fd, &event) != 0)
        fail("connect");
    connection_ask(c);
}

/* How long the answer is whose head is at `answer`; 0: the head is not whole yet. */
static size_t answer_measure(const char *answer)
{
    const char *end = strstr(answer, "\r\n\r\n");
    const char *length = strcasestr(answer, "\r\ncontent-length:");
    if (end == NULL)
        return 0;
    return (size_t)(end + 4 - answer) + (length != NULL ? strtoul(length + 17, NULL, 10) : 0);
}

/* Answers are alike, so that to measure one is enough; one that is not ends the run. */
static void connection_read(struct connection *c)
{
    ssize_t got = read(c->fd, c->answer + c->got, ANSWER_BYTES_MAX - c->got);
    if (got <= 0)
        fail("read");
    if (c->got == 0 && (got < 12 || memcmp(c->answer, "HTTP/1.1 20", 11) != 0)) {
        fprintf(stderr, "drive_load: %.*s\n", (int)got, c->answer);
        exit(EXIT_FAILURE);
    }
    c->got += (size_t)got;
    if (answer_bytes == 0) {
        c->answer[c->got] = '\0';
        answer_bytes = answer_measure(c->answer);
    }
    if (answer_bytes == 0 || c->got < answer_bytes)
        return;
    if (c->got > answer_bytes) {
        fprintf(stderr, "drive_load: an answer is longer than the first\n");
        exit(EXIT_FAILURE);
    }
    answer_count++;
    connection_ask(c);
}

static void ask_until(double end)
{
    struct epoll_event events[CONNECTIONS_MAX];
    while (now() < end) {
        int count = epoll_wait(poll_fd, events, CONNECTIONS_MAX, 0);
        if (count < 0 && errno != EINTR)
            fail("epoll_wait");
        for (int i = 0; i < count; i++)
            connection_read(events[i].data.ptr);
    }
}

/* Connections are new each time: those that nobody uses are closed by the server. */
static void run(double seconds, uint16_t port)
{
    poll_fd = epoll_create1(0);
    for (unsigned i = 0; i < connection_count; i++)
        connection_open(&connections[i], port);
    ask_until(now() + seconds / 4);
    const double begun = now();
    answer_count = 0;
    ask_until(begun + seconds);
    printf("%.0f\n", (double)answer_count / (now() - begun));
    fflush(stdout);
    for (unsigned i = 0; i < connection_count; i++)
        (void)close(connections[i].fd);
    (void)close(poll_fd);
}

int main(int argc, char **argv)
{
    char line[64];
    if (argc < 4 || argc > 5)
        return EXIT_FAILURE;
    connection_count = (unsigned)strtoul(argv[3], NULL, 10);
    if (connection_count == 0 || connection_count > CONNECTIONS_MAX)
        return EXIT_FAILURE;
    request_bytes = (size_t)snprintf(
        request, sizeof request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%s%s%s\r\n\r\n", argv[2],
        argv[1], argc == 5 ? "\r\nCookie: " : "", argc == 5 ? argv[4] : "");
    printf("0\n");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) != NULL)
        run(strtod(line, NULL), (uint16_t)strtoul(argv[1], NULL, 10));
    return EXIT_SUCCESS;
}
