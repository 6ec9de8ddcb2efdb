/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets, peers and their queues.
 *
 * Bounds. Of one peer's input at most RECEIVE_MAX messages are handled a turn, so that one who
 * floods is one among others. What a peer does not take is kept for it: from QUEUE_SOFT bytes on
 * nothing more is read from it; at QUEUE_HARD bytes, or after STALL_MS without taking any of its
 * replies, it is cut. Pushes alone cut nobody: of each kind only the newest is kept. There are as
 * many peers as there are descriptors for; applications never take the last places, so that
 * somebody who leaks connections, or means harm, does not keep workers and operators out.
 *
 * A peer that is to be cut is only marked ("doomed"), because the service may be in the middle of a
 * call for it; the reaper, a timer that is due at once, takes it away.
 */
#include "agent/peers.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/log.h"

#define DOORS_MAX 3
#define PEERS_MAX 4096
#define PEERS_KEPT_MAX 96     /* places that applications do not get */
#define DESCRIPTORS_OWN 64    /* store, loop, sockets, map */
#define DESCRIPTORS_OF_PEER 3 /* connection, process, a map on its way */
#define BACKLOG 256
#define ACCEPT_MAX 64  /* a turn */
#define RECEIVE_MAX 32 /* messages of one peer a turn */
#define QUEUE_SOFT (256u << 10)
#define QUEUE_HARD (16u << 20)
#define STALL_MS 5000
#define STALL_LOOK_MS 1000
#define ACCEPT_PAUSE_MS 200
#define CROWDING_MS 60000

/* A message that its peer has not taken yet. */
struct outgoing {
    struct outgoing *next;
    size_t count;
    int fd;       /* of its own; -1: none */
    bool is_push; /* nobody asked for it */
    unsigned char bytes[];
};

struct peer {
    struct cr_peers *peers;
    struct peer *prev, *next;
    struct cr_client *client;
    struct cr_watch *watch, *death; /* of the connection, and of the process */
    int fd, pid_fd;
    long pid;
    int watched; /* events */
    bool doomed;
    struct outgoing *first, **last;
    size_t queued_bytes, queued_replies;
    cr_boot_ns took_at; /* when it last took something, or the queue began */
};

struct door {
    struct cr_peers *peers;
    struct cr_watch *watch;
    int fd;
    unsigned mode;
    enum cr_role role;
    char path[sizeof((struct sockaddr_un *)NULL)->sun_path];
};

struct cr_peers {
    struct cr_loop *loop;
    struct cr_service *service;
    void (*changed)(void *context, size_t count);
    void *context;
    struct door doors[DOORS_MAX];
    size_t door_count;
    struct peer *list;
    size_t count, capacity;
    cr_boot_ns crowding_tell_at; /* not before */
    struct cr_timer reaper, stall_timer, accept_timer;
    unsigned char buffer[CR_MESSAGE_BYTES_MAX + 1]; /* one byte more shows what is too long */
};

static cr_boot_ns peers_now(const struct cr_peers *peers)
{
    return cr_clock_boot(peers->loop->clock);
}

static struct cr_peers *peers_of(struct cr_timer *timer, size_t offset)
{
    return (struct cr_peers *)(void *)((char *)timer - offset);
}

/* Cutting. */

static void peer_doom(struct peer *peer, const char *why)
{
    if (peer->doomed)
        return;
    peer->doomed = true;
    if (why != NULL)
        cr_log(CR_LOG_WARN, "peer with pid %ld is cut: %s", peer->pid, why);
    cr_timer_set(peer->peers->loop, &peer->peers->reaper, peers_now(peer->peers));
}

static void outgoing_free(struct outgoing *message)
{
    if (message->fd >= 0)
        close(message->fd);
    cr_bytes_wipe(message->bytes, message->count); /* tokens */
    free(message);
}

static void peer_free(struct peer *peer)
{
    struct cr_peers *peers = peer->peers;
    cr_client_destroy(peer->client);
    cr_watch_destroy(peer->watch);
    cr_watch_destroy(peer->death);
    if (peer->fd >= 0)
        close(peer->fd);
    if (peer->pid_fd >= 0)
        close(peer->pid_fd);
    while (peer->first != NULL) {
        struct outgoing *message = peer->first;
        peer->first = message->next;
        outgoing_free(message);
    }
    if (peer->prev != NULL)
        peer->prev->next = peer->next;
    else
        peers->list = peer->next;
    if (peer->next != NULL)
        peer->next->prev = peer->prev;
    peers->count--;
    free(peer);
}

static void reaper_fired(struct cr_timer *timer)
{
    struct cr_peers *peers = peers_of(timer, offsetof(struct cr_peers, reaper));
    struct peer *next;
    size_t before = peers->count;
    for (struct peer *peer = peers->list; peer != NULL; peer = next) {
        next = peer->next;
        if (peer->doomed)
            peer_free(peer);
    }
    if (peers->count != before)
        peers->changed(peers->context, peers->count);
}

/* Output. */

static ssize_t send_one(int fd, const void *bytes, size_t count, int passed)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    /* Nobody writes there: iovec is for reading too. */
    union {
        const void *given;
        void *plain;
    } pointer = {.given = bytes};
    struct iovec part = {.iov_base = pointer.plain, .iov_len = count};
    struct msghdr head = {.msg_iov = &part, .msg_iovlen = 1};
    if (passed >= 0) {
        memset(&control, 0, sizeof control);
        head.msg_control = control.space;
        head.msg_controllen = sizeof control.space;
        struct cmsghdr *part_head = CMSG_FIRSTHDR(&head);
        part_head->cmsg_level = SOL_SOCKET;
        part_head->cmsg_type = SCM_RIGHTS;
        part_head->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(part_head), &passed, sizeof passed);
    }
    ssize_t sent;
    do
        sent = sendmsg(fd, &head, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent;
}

/* True: gone, one way or the other. False: the peer takes nothing now. */
static bool peer_try(struct peer *peer, const void *bytes, size_t count, int fd)
{
    if (send_one(peer->fd, bytes, count, fd) >= 0)
        return true;
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS)
        return false;
    peer_doom(peer, NULL); /* it has left */
    return true;
}

static void peer_watch(struct peer *peer)
{
    int events = (peer->queued_bytes < QUEUE_SOFT ? CR_LOOP_READ : 0) |
                 (peer->first != NULL ? CR_LOOP_WRITE : 0);
    if (events != peer->watched)
        cr_watch_events(peer->watch, events);
    peer->watched = events;
}

static void queue_take_first(struct peer *peer)
{
    struct outgoing *message = peer->first;
    peer->first = message->next;
    if (peer->first == NULL)
        peer->last = &peer->first;
    peer->queued_bytes -= message->count;
    peer->queued_replies -= message->is_push ? 0 : 1;
    outgoing_free(message);
}

static void peer_flush(struct peer *peer)
{
    while (!peer->doomed && peer->first != NULL) {
        struct outgoing *message = peer->first;
        if (!peer_try(peer, message->bytes, message->count, message->fd))
            break;
        queue_take_first(peer);
        peer->took_at = peers_now(peer->peers);
    }
    if (!peer->doomed)
        peer_watch(peer);
}

static bool message_is_push(const unsigned char *bytes, size_t count)
{
    static const unsigned char no_request[8];
    return count >= CR_MESSAGE_HEADER_BYTES && memcmp(bytes + 8, no_request, 8) == 0;
}

/* A push makes an earlier one about the same thing pointless: about the table, or about a lock,
 * whose message differs in the last number only. */
static bool push_replaces(const struct outgoing *old, const unsigned char *bytes, size_t count)
{
    size_t same = sizeof(uint64_t);
    return old->is_push && old->count == count && memcmp(old->bytes, bytes, count - same) == 0;
}

static void queue_drop_stale(struct peer *peer, const unsigned char *bytes, size_t count)
{
    struct outgoing **link = &peer->first;
    while (*link != NULL && !push_replaces(*link, bytes, count))
        link = &(*link)->next;
    struct outgoing *stale = *link;
    if (stale == NULL)
        return;
    *link = stale->next;
    if (*link == NULL)
        peer->last = link;
    peer->queued_bytes -= stale->count;
    outgoing_free(stale);
}

static void peer_queue(struct peer *peer, const unsigned char *bytes, size_t count, int fd)
{
    bool is_push = message_is_push(bytes, count);
    if (is_push)
        queue_drop_stale(peer, bytes, count);
    struct outgoing *message =
        peer->queued_bytes + count <= QUEUE_HARD ? malloc(sizeof *message + count) : NULL;
    if (message == NULL) {
        peer_doom(peer, "it does not read its replies");
        return;
    }
    *message = (struct outgoing){.count = count, .fd = -1, .is_push = is_push};
    memcpy(message->bytes, bytes, count);
    if (fd >= 0) {
        message->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        if (message->fd < 0) {
            outgoing_free(message);
            peer_doom(peer, "no descriptor is left for its table");
            return;
        }
    }
    if (peer->first == NULL)
        peer->took_at = peers_now(peer->peers);
    *peer->last = message;
    peer->last = &message->next;
    peer->queued_bytes += count;
    peer->queued_replies += is_push ? 0 : 1;
    if (peer->peers->stall_timer.due == 0 || peer->peers->stall_timer.due == CR_BOOT_NEVER)
        cr_timer_set(peer->peers->loop, &peer->peers->stall_timer,
                     cr_boot_add(peers_now(peer->peers), STALL_LOOK_MS));
    peer_watch(peer);
}

static void peer_send(void *context, const void *bytes, size_t count, int fd)
{
    struct peer *peer = context;
    if (peer->doomed)
        return;
    if (peer->first != NULL || !peer_try(peer, bytes, count, fd))
        peer_queue(peer, bytes, count, fd);
}

static void stall_fired(struct cr_timer *timer)
{
    struct cr_peers *peers = peers_of(timer, offsetof(struct cr_peers, stall_timer));
    cr_boot_ns now = peers_now(peers);
    bool waits = false;
    for (struct peer *peer = peers->list; peer != NULL; peer = peer->next) {
        if (peer->doomed || peer->queued_replies == 0)
            continue;
        if (cr_boot_between(peer->took_at, now) >= STALL_MS)
            peer_doom(peer, "it does not read its replies");
        else
            waits = true;
    }
    if (waits)
        cr_timer_set(peers->loop, timer, cr_boot_add(now, STALL_LOOK_MS));
}

/* Input. */

static void peer_receive(struct peer *peer)
{
    struct cr_peers *peers = peer->peers;
    for (int i = 0; i < RECEIVE_MAX && !peer->doomed && peer->queued_bytes < QUEUE_SOFT; i++) {
        /* Without room for control data: descriptors that a peer sends are closed by the kernel. */
        ssize_t got = recv(peer->fd, peers->buffer, sizeof peers->buffer, MSG_DONTWAIT);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            break;
        if (got <= 0)
            peer_doom(peer, NULL);
        else if (cr_client_receive(peer->client, peers->buffer, (size_t)got) != CR_OK)
            peer_doom(peer, "it broke the protocol");
        if (got > 0)
            cr_bytes_wipe(peers->buffer, (size_t)got); /* passwords, tokens */
    }
}

static void peer_ready(void *context, int events)
{
    struct peer *peer = context;
    if (peer->doomed)
        return;
    if (events & CR_LOOP_WRITE)
        peer_flush(peer);
    if (events & CR_LOOP_READ)
        peer_receive(peer);
    if (!peer->doomed)
        peer_watch(peer);
}

/* Doors. */

static bool door_admits(const struct door *door, const struct ucred *who)
{
    bool is_ours = who->uid == geteuid() || who->uid == 0;
    return is_ours || (door->mode & 0066) != 0;
}

static void peer_died(void *context, int events)
{
    struct peer *peer = context;
    cr_watch_events(peer->death, 0); /* it stays readable */
    peer_doom(peer, NULL);
}

/*
 * Children that a process forked keep its connection open after it was killed; its locks must be
 * free all the same. Not for http peers: their supervisor connected for them. What cannot be
 * watched (another container's process, or it is gone already) is known by its connection alone.
 */
static void peer_watch_process(struct peer *peer, enum cr_role role)
{
    if (role == CR_ROLE_HTTP || peer->pid <= 0)
        return;
    peer->pid_fd = (int)syscall(SYS_pidfd_open, (pid_t)peer->pid, 0);
    if (peer->pid_fd >= 0 &&
        cr_watch_create(peer->peers->loop, peer->pid_fd, peer_died, peer, &peer->death) == CR_OK)
        cr_watch_events(peer->death, CR_LOOP_READ);
}

static enum cr_status peer_create(struct door *door, int fd, const struct ucred *who)
{
    struct cr_peers *peers = door->peers;
    char label[32];
    struct peer *peer = calloc(1, sizeof *peer);
    if (peer == NULL) {
        close(fd);
        return CR_E_NO_MEMORY;
    }
    *peer =
        (struct peer){.peers = peers, .fd = fd, .pid_fd = -1, .pid = who->pid, .next = peers->list};
    peer->last = &peer->first;
    if (peer->next != NULL)
        peer->next->prev = peer;
    peers->list = peer;
    peers->count++;
    (void)snprintf(label, sizeof label, "pid %ld", (long)who->pid);
    struct cr_client_options options = {
        .role = door->role, .label = label, .send = peer_send, .context = peer};
    enum cr_status st = cr_client_create(peers->service, &options, &peer->client);
    if (st == CR_OK)
        st = cr_watch_create(peers->loop, fd, peer_ready, peer, &peer->watch);
    if (st != CR_OK) {
        peer_free(peer);
        return st;
    }
    peer_watch(peer);
    peer_watch_process(peer, door->role);
    peers->changed(peers->context, peers->count);
    return CR_OK;
}

static size_t peers_capacity(void)
{
    struct rlimit limit;
    size_t places = PEERS_MAX;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
        rlim_t spare = limit.rlim_cur > DESCRIPTORS_OWN ? limit.rlim_cur - DESCRIPTORS_OWN : 0;
        if (spare / DESCRIPTORS_OF_PEER < places)
            places = (size_t)(spare / DESCRIPTORS_OF_PEER);
    }
    return places;
}

static bool door_has_place(const struct door *door)
{
    const struct cr_peers *peers = door->peers;
    size_t kept = peers->capacity / 4 < PEERS_KEPT_MAX ? peers->capacity / 4 : PEERS_KEPT_MAX;
    return peers->count < peers->capacity - (door->role == CR_ROLE_APP ? kept : 0);
}

/* Once a minute, however many are turned away. */
static void crowding_tell(struct door *door, const char *why)
{
    struct cr_peers *peers = door->peers;
    if (peers_now(peers) < peers->crowding_tell_at)
        return;
    peers->crowding_tell_at = cr_boot_add(peers_now(peers), CROWDING_MS);
    cr_log(CR_LOG_WARN, "%s: full, with %zu peers: %s", door->path, peers->count, why);
}

static void door_greet(struct door *door, int fd)
{
    struct ucred who;
    socklen_t length = sizeof who;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) != 0) {
        close(fd);
    } else if (!door_admits(door, &who)) {
        cr_log(CR_LOG_WARN, "%s: a process of user %ld (pid %ld) is refused", door->path,
               (long)who.uid, (long)who.pid);
        close(fd);
    } else if (!door_has_place(door)) {
        crowding_tell(door, "an application does not close its connections, or the limit of open "
                            "files (LimitNOFILE, ulimit -n) is too low");
        close(fd);
    } else if (peer_create(door, fd, &who) != CR_OK) {
        cr_log(CR_LOG_ERROR, "%s: no memory for another peer", door->path);
    }
}

/* Without descriptors the sockets stay readable: they are left alone for a moment. */
static void doors_pause(struct cr_peers *peers)
{
    for (size_t i = 0; i < peers->door_count; i++)
        cr_watch_events(peers->doors[i].watch, 0);
    cr_timer_set(peers->loop, &peers->accept_timer, cr_boot_add(peers_now(peers), ACCEPT_PAUSE_MS));
}

static void accept_fired(struct cr_timer *timer)
{
    struct cr_peers *peers = peers_of(timer, offsetof(struct cr_peers, accept_timer));
    for (size_t i = 0; i < peers->door_count; i++)
        cr_watch_events(peers->doors[i].watch, CR_LOOP_READ);
}

static void door_ready(void *context, int events)
{
    struct door *door = context;
    for (int i = 0; i < ACCEPT_MAX; i++) {
        int fd = accept4(door->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            door_greet(door, fd);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            crowding_tell(door, strerror(errno));
            doors_pause(door->peers);
            return;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            return;
        }
    }
}

static enum cr_status door_open(const char *path, unsigned mode, int *out_fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    if (length >= sizeof address.sun_path)
        return CR_E_LIMIT;
    memcpy(address.sun_path, path, length + 1);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return CR_E_IO;
    /* Nobody can come before listen, so nobody comes under the wrong mode. */
    if ((unlink(path) != 0 && errno != ENOENT) ||
        bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || chmod(path, mode) != 0 ||
        listen(fd, BACKLOG) != 0) {
        int error = errno;
        close(fd);
        errno = error;
        return CR_E_IO;
    }
    *out_fd = fd;
    return CR_OK;
}

enum cr_status cr_peers_listen(struct cr_peers *peers, const char *path, unsigned mode,
                               enum cr_role role)
{
    CR_ASSERT(peers->door_count < DOORS_MAX);
    struct door *door = &peers->doors[peers->door_count];
    *door = (struct door){.peers = peers, .mode = mode, .role = role};
    enum cr_status st = door_open(path, mode, &door->fd);
    if (st != CR_OK)
        return st;
    memcpy(door->path, path, strlen(path) + 1);
    st = cr_watch_create(peers->loop, door->fd, door_ready, door, &door->watch);
    if (st != CR_OK) {
        close(door->fd);
        return st;
    }
    peers->door_count++;
    cr_watch_events(door->watch, CR_LOOP_READ);
    return CR_OK;
}

void cr_peers_close_doors(struct cr_peers *peers)
{
    cr_timer_stop(peers->loop, &peers->accept_timer);
    for (size_t i = 0; i < peers->door_count; i++) {
        (void)unlink(peers->doors[i].path);
        cr_watch_destroy(peers->doors[i].watch);
        close(peers->doors[i].fd);
    }
    peers->door_count = 0;
}

size_t cr_peers_count(const struct cr_peers *peers)
{
    return peers->count;
}

enum cr_status cr_peers_create(struct cr_loop *loop, struct cr_service *service,
                               void (*changed)(void *context, size_t count), void *context,
                               struct cr_peers **out_peers)
{
    struct cr_peers *peers = calloc(1, sizeof *peers);
    if (peers == NULL)
        return CR_E_NO_MEMORY;
    peers->loop = loop;
    peers->service = service;
    peers->changed = changed;
    peers->context = context;
    peers->capacity = peers_capacity();
    peers->reaper.fire = reaper_fired;
    peers->stall_timer.fire = stall_fired;
    peers->accept_timer.fire = accept_fired;
    *out_peers = peers;
    return CR_OK;
}

void cr_peers_destroy(struct cr_peers *peers)
{
    if (peers == NULL)
        return;
    cr_peers_close_doors(peers);
    struct peer *next;
    for (struct peer *peer = peers->list; peer != NULL; peer = next) {
        next = peer->next;
        peer_free(peer);
    }
    cr_timer_stop(peers->loop, &peers->reaper);
    cr_timer_stop(peers->loop, &peers->stall_timer);
    free(peers);
}
