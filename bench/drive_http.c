/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asks for a page at a steady rate, and times each answer from when it was due: one that had to
 * wait because those before it were late is as late as a person would find it.
 *
 *     drive_http PORT COOKIE RATE CONNECTIONS
 *
 * prints 0 when it is ready. For each "SECONDS" on a line of its input it asks so long, and prints
 * the 99th of a hundred times in nanoseconds.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS_MAX 64
#define ANSWER_BYTES_MAX 8192
#define TIMES_MAX 4000000

struct connection {
    int fd;
    bool busy;
    uint64_t due;
    size_t got;
    char answer[ANSWER_BYTES_MAX];
};

static struct connection connections[CONNECTIONS_MAX];
static unsigned connection_count;
static char request[1024];
static size_t request_bytes;
static uint64_t times[TIMES_MAX];
static size_t time_count;

static uint64_t now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

static _Noreturn void fail(const char *what)
{
    fprintf(stderr, "drive_http: %s: %s\n", what, strerror(errno));
    exit(EXIT_FAILURE);
}

static void connection_open(struct connection *c, uint16_t port)
{
    const struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    const int yes = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (const struct sockaddr *)&address, sizeof address) != 0 ||
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) != 0)
        fail("connect");
}

static void connection_ask(struct connection *c, uint64_t due)
{
    if (write(c->fd, request, request_bytes) != (ssize_t)request_bytes)
        fail("write");
    c->busy = true;
    c->due = due;
    c->got = 0;
}

/* Whether all of it is there: the head and as many bytes as it says. */
static bool answer_is_whole(struct connection *c)
{
    c->answer[c->got] = '\0';
    const char *end = strstr(c->answer, "\r\n\r\n");
    if (end == NULL)
        return false;
    const char *length = strcasestr(c->answer, "\r\ncontent-length:");
    if (strncmp(c->answer, "HTTP/1.1 200", 12) != 0 || length == NULL) {
        fprintf(stderr, "drive_http: %s\n", c->answer);
        exit(EXIT_FAILURE);
    }
    size_t head = (size_t)(end + 4 - c->answer);
    return c->got >= head + strtoul(length + 17, NULL, 10);
}

static void connection_read(struct connection *c)
{
    ssize_t got = read(c->fd, c->answer + c->got, sizeof c->answer - 1 - c->got);
    if (got <= 0)
        fail("read");
    c->got += (size_t)got;
    if (!answer_is_whole(c))
        return;
    c->busy = false;
    if (time_count < TIMES_MAX)
        times[time_count++] = now() - c->due;
}

/* What has come within `wait` nanoseconds. */
static void answers_take(uint64_t wait)
{
    struct pollfd polled[CONNECTIONS_MAX];
    const struct timespec most = {.tv_sec = (time_t)(wait / 1000000000U),
                                  .tv_nsec = (long)(wait % 1000000000U)};
    for (unsigned i = 0; i < connection_count; i++)
        polled[i] =
            (struct pollfd){.fd = connections[i].busy ? connections[i].fd : -1, .events = POLLIN};
    if (ppoll(polled, connection_count, &most, NULL) < 0 && errno != EINTR)
        fail("poll");
    for (unsigned i = 0; i < connection_count; i++)
        if (polled[i].fd >= 0 && polled[i].revents != 0)
            connection_read(&connections[i]);
}

static struct connection *connection_free(void)
{
    for (unsigned i = 0; i < connection_count; i++)
        if (!connections[i].busy)
            return &connections[i];
    return NULL;
}

static bool any_busy(void)
{
    for (unsigned i = 0; i < connection_count; i++)
        if (connections[i].busy)
            return true;
    return false;
}

static int time_compare(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Connections are new each time: those that nobody uses are closed by the server. */
static void run(double seconds, uint64_t interval, uint16_t port)
{
    for (unsigned i = 0; i < connection_count; i++)
        connection_open(&connections[i], port);
    uint64_t due = now() + interval;
    const uint64_t end = due + (uint64_t)(seconds * 1e9);
    time_count = 0;
    while (due < end || any_busy()) {
        struct connection *c = connection_free();
        uint64_t t = now();
        if (c != NULL && due < end && t >= due) {
            connection_ask(c, due);
            due += interval;
        } else {
            answers_take(c != NULL && due < end ? due - t : 100000000U);
        }
    }
    for (unsigned i = 0; i < connection_count; i++)
        (void)close(connections[i].fd);
    qsort(times, time_count, sizeof times[0], time_compare);
    printf("%llu\n", (unsigned long long)times[time_count * 99 / 100]);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    char line[64];
    if (argc != 5)
        return EXIT_FAILURE;
    const uint64_t interval = 1000000000U / strtoul(argv[3], NULL, 10);
    connection_count = (unsigned)strtoul(argv[4], NULL, 10);
    if (connection_count == 0 || connection_count > CONNECTIONS_MAX)
        return EXIT_FAILURE;
    request_bytes = (size_t)snprintf(request, sizeof request,
                                     "GET /session HTTP/1.1\r\nHost: 127.0.0.1:%s\r\n"
                                     "Cookie: %s\r\n\r\n",
                                     argv[1], argv[2]);
    printf("0\n");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) != NULL)
        run(strtod(line, NULL), interval, (uint16_t)strtoul(argv[1], NULL, 10));
    return EXIT_SUCCESS;
}
