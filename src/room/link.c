/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connection to the agent, as a machine that never waits:
 *
 *   DOWN      -> HELLO     connected
 *   DOWN      -> STARTING  nobody listens, and this room may start an agent
 *   STARTING  -> DOWN      its ready line came, or it did not start
 *   HELLO     -> UP        the hello was answered; the table came with it
 *   HELLO, UP -> DOWN      the connection ended, or the agent refused us
 *
 * Calls wait in the queue until it is UP, or until their time-outs. The table that is mapped stays
 * in use while the connection is down: its own fresh_until ends it.
 */
#include "room/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/bytes.h"

#define BACKOFF_MS_MIN 10
#define BACKOFF_MS_MAX 500
#define START_AGAIN_MS 1000
#define START_MS_MAX 15000
#define READ_MAX 256 /* messages a turn */

enum cr_status cr_agent_connect(const char *path, int *out_fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    int kept_errno = errno;
    enum cr_status st = CR_OK;
    if (length >= sizeof address.sun_path)
        return CR_E_LIMIT;
    memcpy(address.sun_path, path, length + 1);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return CR_E_LIMIT;
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) {
        *out_fd = fd;
    } else {
        st = errno == ENOENT || errno == ECONNREFUSED || errno == ENOTDIR ? CR_UNAVAILABLE
             : errno == EAGAIN                                            ? CR_BUSY
             : errno == EACCES || errno == EPERM                          ? CR_DENIED
             : errno == EPROTOTYPE                                        ? CR_E_INVALID
                                                                          : CR_E_IO;
        close(fd);
    }
    errno = kept_errno;
    return st;
}

static void link_watch(const struct cr_room *room, int operation, int fd)
{
    struct epoll_event event = {.events = EPOLLIN};
    if (fd == room->link.fd && room->link.wants_write)
        event.events |= EPOLLOUT;
    /* Without it event loops would hear late; threads that wait do not use it. */
    (void)epoll_ctl(room->epoll_fd, operation, fd, &event);
}

/* By name, as the same description may live on in forked children. */
static void link_close(struct cr_room *room, int *fd)
{
    if (*fd < 0)
        return;
    link_watch(room, EPOLL_CTL_DEL, *fd);
    close(*fd);
    *fd = -1;
}

static void link_down(struct cr_room *room, cr_span_ms wait)
{
    struct room_link *link = &room->link;
    link->state = LINK_DOWN;
    link->wants_write = false;
    link->retry_at = cr_boot_add(cr_clock_boot(room->clock), wait);
    /* The socket wakes no event loop any more, and the thread that saw it end may leave. */
    if (!link->handed && room->call_count > 0)
        cr_room_arm(room, link->retry_at);
}

static void link_later(struct cr_room *room)
{
    struct room_link *link = &room->link;
    link->backoff = link->backoff == 0 ? BACKOFF_MS_MIN : link->backoff * 2;
    if (link->backoff > BACKOFF_MS_MAX)
        link->backoff = BACKOFF_MS_MAX;
    link_down(room, link->backoff);
}

void cr_link_lost(struct cr_room *room)
{
    struct room_link *link = &room->link;
    CR_ASSERT(link->state == LINK_HELLO || link->state == LINK_UP);
    (void)shutdown(link->fd, SHUT_RDWR);
    link_close(room, &link->fd);
    if (link->state == LINK_UP)
        link_down(room, 0);
    else
        link_later(room); /* it goes as soon as we come: do not hammer */
    cr_locks_lost(room);
    cr_calls_disconnected(room);
}

static enum cr_status hello_send(struct cr_room *room)
{
    struct cr_builder hello;
    struct room_link *link = &room->link;
    link->hello = atomic_fetch_add_explicit(&room->numbers, 1, memory_order_relaxed) + 1;
    cr_builder_init(&hello, CR_OP_HELLO, CR_OK, link->hello);
    cr_builder_u64(&hello, CR_TAG_VERSION, CR_WIRE_VERSION);
    cr_builder_u64(&hello, CR_TAG_LAYOUT, CR_TABLE_LAYOUT);
    if (!room->any_kind)
        cr_builder_u64(&hello, CR_TAG_KIND, room->own_table ? 1 : 0);
    cr_builder_u64(&hello, CR_TAG_PID, (uint64_t)getpid());
    cr_builder_text(&hello, CR_TAG_REALM, room->realm);
    enum cr_status st = CR_E_NO_MEMORY;
    if (cr_builder_finish(&hello))
        st = send(link->fd, hello.bytes, hello.count, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0
                 ? CR_OK
                 : CR_UNAVAILABLE;
    cr_builder_fini(&hello);
    return st;
}

void cr_link_use(struct cr_room *room, int fd)
{
    struct room_link *link = &room->link;
    CR_ASSERT(link->fd < 0);
    link->fd = fd;
    link->state = LINK_HELLO;
    link->wants_write = false;
    link->connection++;
    (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    (void)fcntl(fd, F_SETFL, O_NONBLOCK);
    link_watch(room, EPOLL_CTL_ADD, fd);
    if (hello_send(room) != CR_OK)
        cr_link_lost(room);
}

void cr_link_greeted(struct cr_room *room, const struct cr_message *message, int fd)
{
    struct room_link *link = &room->link;
    link->hello = 0;
    if (message->status == CR_OK) {
        link->state = LINK_UP;
        link->backoff = 0;
        link->error.text[0] = '\0';
        room->agent_cache = (enum cr_cache)cr_message_u64(message, CR_TAG_CACHE, CR_CACHE_NONE);
        /* Read without the lock, and the same for all agents of a store: written once. */
        if (room->any_kind && link->connection == 1)
            room->own_table = cr_message_u64(message, CR_TAG_KIND, 0) == 1;
        cr_map_take(room, fd);
        cr_link_flush(room);
        return;
    }
    char text[sizeof link->error.text];
    if (!cr_message_text(message, CR_TAG_TEXT, text, sizeof text))
        (void)snprintf(text, sizeof text, "%s", cr_status_text(message->status));
    cr_room_error(&link->error, message->status, "%s", text);
    link->hopeless = true;
    if (fd >= 0)
        close(fd);
    cr_link_lost(room);
    link_down(room, START_AGAIN_MS);
    cr_calls_fail(room, message->status);
}

/* Starting an agent. */

/* The directory must be ours, or whoever made it could stand in for the agent. */
static bool directory_is_ours(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0 && S_ISDIR(info.st_mode) && info.st_uid == geteuid() &&
           (info.st_mode & 0022) == 0;
}

static bool state_is_ours(const struct cr_room *room)
{
    char parent[sizeof room->link.path];
    const char *slash = strrchr(room->state, '/');
    (void)snprintf(parent, sizeof parent, "%.*s", (int)(slash - room->state), room->state);
    return directory_is_ours(parent) && directory_is_ours(room->state);
}

static bool exists(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0;
}

static enum cr_status link_connect(struct cr_room *room, int *out_fd)
{
    struct room_link *link = &room->link;
    if (link->derived && !exists(room->state))
        return CR_UNAVAILABLE;
    if (link->derived && !state_is_ours(room)) {
        cr_room_error(
            &link->error, CR_E_REFUSED,
            "%s or the directory above it is not user %ld's alone to write: whoever made it "
            "could stand in for the agent. Remove it, or name another with options.state",
            room->state, (long)geteuid());
        return CR_E_REFUSED;
    }
    enum cr_status st = cr_agent_connect(link->path, out_fd);
    if (st == CR_UNAVAILABLE)
        cr_room_error(&link->error, st, "no agent listens on %s", link->path);
    else if (st == CR_DENIED)
        cr_room_error(
            &link->error, st,
            "user %ld may not open %s: it belongs to another user's agent. Let that agent "
            "share its app.sock, or run as its user",
            (long)geteuid(), link->path);
    else if (st == CR_E_INVALID)
        cr_room_error(
            &link->error, st,
            "%s is a socket, but no agent's: another program's, or the operators' one. The "
            "agent's is app.sock",
            link->path);
    else if (st != CR_OK)
        cr_room_error(&link->error, st, "cannot connect to %s: %s", link->path, cr_status_text(st));
    return st;
}

static void link_start(struct cr_room *room)
{
    struct room_link *link = &room->link;
    enum cr_status st = cr_room_spawn(room, &link->error);
    if (st != CR_OK) {
        link->hopeless = true;
        link_down(room, START_AGAIN_MS);
        return;
    }
    link->state = LINK_STARTING;
    link->start_until = cr_boot_add(cr_clock_boot(room->clock), START_MS_MAX);
    link_watch(room, EPOLL_CTL_ADD, link->ready_fd);
    cr_room_arm(room, link->start_until);
}

static void link_started(struct cr_room *room, cr_boot_ns now)
{
    struct room_link *link = &room->link;
    enum cr_status st = cr_room_spawned(room, &link->error);
    if (st == CR_ASK && now < link->start_until)
        return;
    if (st == CR_ASK)
        cr_room_error(&link->error, CR_UNAVAILABLE,
                      "the agent that was started did not become ready; its log is %s/agent.log",
                      room->state);
    link_close(room, &link->ready_fd);
    if (link->starter > 0 && st != CR_ASK)
        (void)waitpid((pid_t)link->starter, NULL, 0); /* it left before the line was written */
    link->starter = 0;
    if (st == CR_OK) {
        link_down(room, 0);
    } else if (st == CR_BUSY) {
        link_later(room); /* somebody was faster: soon it listens */
    } else {
        link->hopeless = true;
        link_down(room, START_AGAIN_MS);
    }
}

void cr_link_advance(struct cr_room *room, cr_boot_ns now)
{
    struct room_link *link = &room->link;
    int fd;
    if (link->state == LINK_STARTING)
        link_started(room, now);
    if (link->state != LINK_DOWN || link->handed || now < link->retry_at)
        return;
    link->hopeless = false;
    enum cr_status st = link_connect(room, &fd);
    if (st == CR_OK) {
        cr_link_use(room, fd);
    } else if (st == CR_UNAVAILABLE && link->may_start) {
        link_start(room);
    } else {
        link->hopeless = st == CR_DENIED || st == CR_E_REFUSED || st == CR_E_INVALID;
        link_later(room);
    }
}

cr_boot_ns cr_link_due(const struct cr_room *room)
{
    const struct room_link *link = &room->link;
    if (link->state == LINK_STARTING)
        return link->start_until;
    bool waits =
        !room->is_direct && link->state == LINK_DOWN && !link->handed && room->call_count > 0;
    return waits ? link->retry_at : CR_BOOT_NEVER;
}

uint64_t cr_link_connection(const struct cr_room *room)
{
    return room->link.state == LINK_UP ? room->link.connection + (room->life << 32) : 0;
}

/* Messages. */

static void link_wants_write(struct cr_room *room, bool wants)
{
    struct room_link *link = &room->link;
    if (link->wants_write == wants)
        return;
    link->wants_write = wants;
    link_watch(room, EPOLL_CTL_MOD, link->fd);
}

void cr_link_flush(struct cr_room *room)
{
    struct room_link *link = &room->link;
    while (link->state == LINK_UP && room->out.first != NULL) {
        struct cr_call *call = room->out.first;
        ssize_t sent =
            send(link->fd, call->request.bytes, call->request.count, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent >= 0) {
            cr_call_sent(call);
        } else if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS) {
            link_wants_write(room, true);
            return;
        } else if (errno == EMSGSIZE) {
            cr_call_answer(call, CR_E_LIMIT);
        } else if (errno != EINTR) {
            cr_link_lost(room);
        }
    }
    if (link->state == LINK_UP)
        link_wants_write(room, false);
}

void cr_link_tell(struct cr_room *room, const struct cr_builder *message)
{
    const struct room_link *link = &room->link;
    if (link->state == LINK_UP)
        (void)send(link->fd, message->bytes, message->count, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* The descriptor that came with a message, or -1. A second one fits where there is room for one, as
 * the kernel rounds up: whoever sends two has sent none. */
static int passed_take(struct msghdr *head)
{
    int fds[2], fd = -1;
    struct cmsghdr *passed = CMSG_FIRSTHDR(head);
    if (passed == NULL || passed->cmsg_level != SOL_SOCKET || passed->cmsg_type != SCM_RIGHTS)
        return -1;
    size_t bytes = passed->cmsg_len - CMSG_LEN(0);
    CR_ASSERT(bytes <= sizeof fds); /* the kernel fills no more than it was given */
    memcpy(fds, CMSG_DATA(passed), bytes);
    if (bytes == sizeof fds[0])
        fd = fds[0];
    for (size_t i = 0; fd < 0 && i < bytes / sizeof fds[0]; i++)
        close(fds[i]);
    return fd;
}

/* One message; CR_ASK: none is there. A descriptor that came with it, or -1. */
static enum cr_status link_receive(struct cr_room *room, size_t *out_count, int *out_fd)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {.iov_base = room->buffer, .iov_len = CR_MESSAGE_BYTES_MAX + 1};
    struct msghdr head = {.msg_iov = &part,
                          .msg_iovlen = 1,
                          .msg_control = control.space,
                          .msg_controllen = sizeof control.space};
    ssize_t got;
    *out_fd = -1;
    do
        got = recvmsg(room->link.fd, &head, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return CR_ASK;
    if (got <= 0)
        return CR_UNAVAILABLE;
    *out_fd = passed_take(&head);
    *out_count = (size_t)got;
    return CR_OK;
}

void cr_link_read(struct cr_room *room, const struct cr_call *until)
{
    struct room_link *link = &room->link;
    for (int i = 0; i < READ_MAX; i++) {
        size_t count = 0;
        int fd;
        if ((link->state != LINK_HELLO && link->state != LINK_UP) || (until != NULL && until->done))
            return;
        enum cr_status st = link_receive(room, &count, &fd);
        if (st == CR_ASK)
            return;
        bool is_good = st == CR_OK && cr_room_dispatch(room, room->buffer, count, fd);
        if (st == CR_OK)
            cr_bytes_wipe(room->buffer, count); /* tokens */
        /* Dispatch itself may have ended the connection. */
        if (!is_good && (link->state == LINK_HELLO || link->state == LINK_UP))
            cr_link_lost(room);
    }
}

void cr_link_drop(struct cr_room *room)
{
    struct room_link *link = &room->link;
    /* In a forked child the epoll descriptor is still the parent's: nothing may be taken out. */
    if (link->fd >= 0)
        close(link->fd);
    if (link->ready_fd >= 0)
        close(link->ready_fd);
    link->fd = -1;
    link->ready_fd = -1;
    link->starter = 0;
    link->hello = 0;
    link->wants_write = false;
    link->backoff = 0;
    link->retry_at = 0;
    link->hopeless = false;
    link->state = LINK_DOWN;
}

void cr_room_replace_fd(struct cr_room *room, int fd)
{
    int kept_errno;
    if (!cr_room_lock(room, &kept_errno)) {
        close(fd);
        return;
    }
    CR_ASSERT(room->link.handed);
    if (room->link.fd >= 0)
        cr_link_lost(room);
    cr_link_use(room, fd);
    cr_room_unlock(room, kept_errno);
}

bool cr_room_is_connected(struct cr_room *room)
{
    int kept_errno;
    if (!cr_room_lock(room, &kept_errno))
        return false;
    bool is_up = room->is_direct || room->link.state == LINK_UP;
    cr_room_unlock(room, kept_errno);
    return is_up;
}
