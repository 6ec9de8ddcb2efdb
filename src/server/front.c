/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections and requests of one worker. Owns the library's daemons (one per listening socket),
 * what is known of each connection, and each request from its first line until its reply is out.
 *
 * A request's life:   HEAD -> BODY -> [WAITING -> ]* REPLIED
 * The library calls `handled` in each of them; a waiting one is suspended, so that it is called
 * again only once the call that it waits for is done.
 *
 * A connection is in exactly one phase, which has a time of its own; each phase's connections are a
 * list in the order in which they entered it, so only its first can be late. The library's own
 * time-out counts from the last byte, and a byte now and then would hold a connection for ever.
 */
#include "server/front.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "server/layout.h"
#include "server/stock.h"

/* What the library has for the head of a request, a copy of its cookies, and the head of the
 * answer. It clears all of it after each request, and what it touches leaves the processor's cache:
 * half as much again costs GET /session some five per cent. */
#define MEMORY_BYTES ((size_t)16 * 1024)

#define DRAIN_ROUNDS 16 /* in each, the library accepts some ten connections */

enum phase { PHASE_FIRST, PHASE_HEAD, PHASE_BODY, PHASE_REPLY, PHASE_IDLE, PHASE_COUNT };

static const cr_span_ms phase_span[PHASE_COUNT] = {
    [PHASE_FIRST] = CR_FRONT_FIRST_MS, [PHASE_HEAD] = CR_FRONT_HEAD_MS,
    [PHASE_BODY] = CR_FRONT_BODY_MS,   [PHASE_REPLY] = CR_FRONT_REPLY_MS,
    [PHASE_IDLE] = CR_FRONT_IDLE_MS,
};

struct link {
    struct link *prev, *next;
};

/* First member: its place in a phase. Not in one while its request waits, or when it was cut. */
struct visitor {
    struct link link;
    struct cr_front *front;
    struct request *request; /* the present one */
    int fd;                  /* the library's */
    enum phase phase;
    cr_boot_ns due;
    bool let_in;
    char peer[INET6_ADDRSTRLEN];
};

enum state { STATE_HEAD, STATE_BODY, STATE_WAITING, STATE_REPLIED };

/* First member: its place among those that wait. */
struct request {
    struct link link;
    struct request *next_free;
    enum state state;
    struct MHD_Connection *connection;
    struct visitor *visitor;
    struct cr_http_exchange *exchange;
    struct cr_stock_item *kept; /* the response, where it is one of those */
    const char *raw_target; /* the library's, for cr_layout_check only: it is changed in place */
    size_t target_bytes;
    size_t header_count;
    char *body;
    size_t body_bytes, body_capacity;
    struct cr_http_header headers[CR_HTTP_HEADERS_MAX + 1];
    char target[CR_HTTP_TARGET_BYTES_MAX + 1];
};

struct cr_front {
    const struct cr_http_site *site;
    struct cr_http_counts *counts;
    unsigned socket_mode; /* of a Unix socket */
    uid_t user;           /* ours, asked before the sandbox */
    gid_t group;
    struct cr_room *room;
    struct MHD_Daemon *daemons[CR_SERVER_LISTEN_MAX];
    size_t daemon_count;
    cr_boot_ns now; /* of this round */
    struct link phases[PHASE_COUNT];
    struct link waiting;
    struct request *free;
    struct cr_stock *stock;
    size_t connections;
    bool draining;
};

/* --- Lists --- */

static void list_init(struct link *list)
{
    list->prev = list->next = list;
}

static void link_remove(struct link *link)
{
    if (link->next == NULL)
        return;
    link->prev->next = link->next;
    link->next->prev = link->prev;
    link->prev = link->next = NULL;
}

static void list_append(struct link *list, struct link *link)
{
    link_remove(link);
    link->prev = list->prev;
    link->next = list;
    list->prev->next = link;
    list->prev = link;
}

/* --- The store of requests --- */

static struct request *request_take(struct cr_front *front)
{
    struct request *request = front->free;
    if (request != NULL) {
        front->free = request->next_free;
        return request;
    }
    request = calloc(1, sizeof *request);
    if (request == NULL)
        return NULL;
    request->exchange = cr_http_exchange_create(front->site);
    if (request->exchange == NULL) {
        free(request);
        return NULL;
    }
    return request;
}

static void request_give(struct cr_front *front, struct request *request)
{
    link_remove(&request->link);
    cr_stock_give(front->stock, request->kept);
    request->kept = NULL;
    cr_http_exchange_reset(request->exchange);
    if (request->body != NULL)
        cr_bytes_wipe(request->body, request->body_bytes);
    free(request->body);
    request->body = NULL;
    request->body_bytes = request->body_capacity = 0;
    request->header_count = 0;
    request->visitor->request = NULL;
    request->state = STATE_HEAD;
    request->next_free = front->free;
    front->free = request;
}

static void request_free(struct request *request)
{
    cr_http_exchange_destroy(request->exchange);
    free(request);
}

/* --- Connections --- */

static void visitor_enter(struct visitor *visitor, enum phase phase)
{
    struct cr_front *front = visitor->front;
    visitor->phase = phase;
    visitor->due = cr_boot_add(front->now, phase_span[phase]);
    list_append(&front->phases[phase], &visitor->link);
}

/* The library sees the end of the connection and does the rest. */
static void visitor_cut(struct visitor *visitor)
{
    link_remove(&visitor->link);
    (void)shutdown(visitor->fd, SHUT_RDWR);
}

/* The kernel's word on who opened the connection; the socket's permissions have let them come that
 * far, and this holds also where those were changed, or the directory is open to more. */
static bool peer_is_let_in(const struct cr_front *front, int fd, char *out, size_t capacity)
{
    struct ucred peer;
    socklen_t bytes = sizeof peer;
    gid_t groups[64];
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) != 0)
        return false;
    (void)snprintf(out, capacity, "uid %u pid %d", (unsigned)peer.uid, (int)peer.pid);
    if (peer.uid == 0 || peer.uid == front->user)
        return true;
    if ((front->socket_mode & 060) == 0)
        return false;
    if (peer.gid == front->group)
        return true;
    bytes = sizeof groups;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &bytes) != 0)
        return false;
    for (size_t i = 0; i < bytes / sizeof groups[0]; i++)
        if (groups[i] == front->group)
            return true;
    return false;
}

static void peer_write(char *out, size_t capacity, const struct sockaddr *address)
{
    const void *bytes = NULL;
    if (address != NULL && address->sa_family == AF_INET)
        bytes = &((const struct sockaddr_in *)(const void *)address)->sin_addr;
    else if (address != NULL && address->sa_family == AF_INET6)
        bytes = &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
    if (bytes == NULL || inet_ntop(address->sa_family, bytes, out, (socklen_t)capacity) == NULL)
        out[0] = '\0';
}

static void visitor_came(struct cr_front *front, struct MHD_Connection *connection,
                         void **socket_context)
{
    const union MHD_ConnectionInfo *address =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const union MHD_ConnectionInfo *fd =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct visitor *visitor = calloc(1, sizeof *visitor);
    *socket_context = visitor;
    front->connections++;
    if (visitor == NULL)
        return; /* its requests are refused for want of memory */
    visitor->front = front;
    visitor->fd = fd->connect_fd;
    visitor->let_in = true;
    if (front->site->surface == CR_HTTP_ADMIN)
        visitor->let_in = peer_is_let_in(front, visitor->fd, visitor->peer, sizeof visitor->peer);
    else
        peer_write(visitor->peer, sizeof visitor->peer, address->client_addr);
    visitor_enter(visitor, PHASE_FIRST);
}

static void connection_changed(void *context, struct MHD_Connection *connection,
                               void **socket_context, enum MHD_ConnectionNotificationCode code)
{
    struct cr_front *front = context;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        visitor_came(front, connection, socket_context);
        return;
    }
    struct visitor *visitor = *socket_context;
    front->connections--;
    /* After some of its own refusals the library does not say that the request is over. */
    if (visitor != NULL && visitor->request != NULL)
        request_give(front, visitor->request);
    if (visitor != NULL)
        link_remove(&visitor->link);
    free(visitor);
    *socket_context = NULL;
}

/* --- Requests --- */

/* The first line has come. What is answered here is what `handled` gets as its context. */
static void *target_seen(void *context, const char *target, struct MHD_Connection *connection)
{
    struct cr_front *front = context;
    struct visitor *visitor =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    struct request *request = visitor != NULL ? request_take(front) : NULL;
    if (request == NULL)
        return NULL;
    visitor_enter(visitor, PHASE_HEAD);
    request->connection = connection;
    request->visitor = visitor;
    visitor->request = request;
    request->raw_target = target;
    /* One byte more than is allowed shows admission that it is too long. */
    request->target_bytes = strlen(target);
    size_t kept = request->target_bytes;
    if (kept > sizeof request->target)
        kept = sizeof request->target;
    memcpy(request->target, target, kept);
    return request;
}

static enum MHD_Result header_take(void *context, enum MHD_ValueKind kind, const char *name,
                                   size_t name_count, const char *value, size_t value_count)
{
    struct request *request = context;
    /* One more than is allowed shows admission that there are too many. */
    if (request->header_count > CR_HTTP_HEADERS_MAX)
        return MHD_NO;
    request->headers[request->header_count++] = (struct cr_http_header){
        .name = {name, name_count},
        /* A header without a value has none. */
        .value = {value != NULL ? value : "", value != NULL ? value_count : 0},
    };
    return MHD_YES;
}

/* Whether the library's answer belongs to one whose body may be read. */
static bool head_admit(struct request *request, const char *method, const char *version)
{
    const union MHD_ConnectionInfo *head =
        MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    struct cr_layout layout = {
        .method = method,
        .target = request->raw_target,
        .target_bytes = request->target_bytes,
        .version = version,
        .head_bytes = head->header_size,
    };
    struct cr_http_request sent = {
        .method = {method, strlen(method)},
        .target = {request->target, request->target_bytes},
        .headers = request->headers,
        .peer = request->visitor->peer,
    };
    (void)MHD_get_connection_values_n(request->connection, MHD_HEADER_KIND, header_take, request);
    sent.header_count = request->header_count;
    if (!request->visitor->let_in) {
        cr_http_refuse(request->exchange, &sent, 403,
                       "This socket is for the server's own user, root, and the group that "
                       "ops.socket_mode = 0660 lets in.");
        return false;
    }
    if (sent.header_count > CR_HTTP_HEADERS_MAX || sent.target.count > CR_HTTP_TARGET_BYTES_MAX)
        return cr_http_admit(request->exchange, &sent); /* says which, and no more is known */
    const char *wrong = cr_layout_check(&layout, request->headers, request->header_count);
    if (wrong != NULL) {
        cr_http_refuse(request->exchange, &sent, 400, wrong);
        return false;
    }
    return cr_http_admit(request->exchange, &sent);
}

/* For the library's calls that take no const, and for its buffer, which is done with. */
static void *not_const(const void *bytes)
{
    union {
        const void *from;
        void *to;
    } pointer = {bytes};
    return pointer.to;
}

/* False: no memory. */
static bool body_take(struct request *request, const char *bytes, size_t count)
{
    if (request->body == NULL) {
        request->body = malloc(CR_HTTP_BODY_BYTES_MAX);
        if (request->body == NULL)
            return false;
        request->body_capacity = CR_HTTP_BODY_BYTES_MAX;
    }
    /* Admission has seen a length within the bound, and that there are no chunks. */
    CR_ASSERT(count <= request->body_capacity - request->body_bytes);
    memcpy(request->body + request->body_bytes, bytes, count);
    request->body_bytes += count;
    /* A password may be in it. The buffer is the connection's, and the library is done with it. */
    cr_bytes_wipe(not_const(bytes), count);
    return true;
}

/* --- Replies --- */

/* What is sent once, with headers of its own. NULL: no memory. */
static struct MHD_Response *response_make(const struct cr_front *front,
                                          const struct cr_http_reply *reply)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(
        reply->body.count, not_const(reply->body.bytes), MHD_RESPMEM_PERSISTENT);
    if (response == NULL)
        return NULL;
    bool made = cr_stock_headers(response, cr_http_common_headers(front->site), reply);
    if (made && (reply->close || front->draining))
        made = MHD_add_response_header(response, "Connection", "close") == MHD_YES;
    if (made)
        return response;
    MHD_destroy_response(response);
    return NULL;
}

static enum MHD_Result reply_send(struct cr_front *front, struct request *request)
{
    const struct cr_http_reply *reply = cr_http_reply(request->exchange);
    enum MHD_Result result;
    request->state = STATE_REPLIED;
    cr_http_count_reply(front->counts, request->exchange);
    visitor_enter(request->visitor, PHASE_REPLY);
    if (!front->draining)
        request->kept = cr_stock_take(front->stock, reply);
    if (request->kept != NULL)
        return MHD_queue_response(request->connection, reply->status,
                                  cr_stock_response(request->kept));
    struct MHD_Response *response = response_make(front, reply);
    if (response == NULL)
        return MHD_NO;
    result = MHD_queue_response(request->connection, reply->status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result request_go_on(struct cr_front *front, struct request *request,
                                     enum cr_http_progress progress)
{
    if (progress == CR_HTTP_REPLY)
        return reply_send(front, request);
    request->state = STATE_WAITING;
    link_remove(&request->visitor->link); /* the call has a time-out of its own */
    list_append(&front->waiting, &request->link);
    MHD_suspend_connection(request->connection);
    return MHD_YES;
}

static enum MHD_Result handled(void *context, struct MHD_Connection *connection, const char *url,
                               const char *method, const char *version, const char *upload,
                               size_t *upload_bytes, void **request_context)
{
    struct cr_front *front = context;
    struct request *request = *request_context;
    if (request == NULL)
        return MHD_NO;
    switch (request->state) {
    case STATE_HEAD:
        if (!head_admit(request, method, version))
            return reply_send(front, request);
        request->state = STATE_BODY;
        visitor_enter(request->visitor, PHASE_BODY);
        return MHD_YES;
    case STATE_BODY:
        if (*upload_bytes > 0) {
            bool taken = body_take(request, upload, *upload_bytes);
            *upload_bytes = 0;
            return taken ? MHD_YES : MHD_NO;
        }
        return request_go_on(
            front, request,
            cr_http_start(request->exchange, front->room,
                          (struct cr_http_text){request->body, request->body_bytes}));
    case STATE_WAITING:
        return request_go_on(front, request, cr_http_resume(request->exchange));
    case STATE_REPLIED:
        break;
    }
    return MHD_YES;
}

static void completed(void *context, struct MHD_Connection *connection, void **request_context,
                      enum MHD_RequestTerminationCode code)
{
    struct cr_front *front = context;
    struct request *request = *request_context;
    if (request == NULL)
        return;
    if (code == MHD_REQUEST_TERMINATED_COMPLETED_OK)
        visitor_enter(request->visitor, PHASE_IDLE);
    request_give(front, request);
    *request_context = NULL;
}

/* Addresses stay as they were sent. */
static size_t not_unescaped(void *context, struct MHD_Connection *connection, char *text)
{
    return strlen(text);
}

/* --- The front --- */

static enum cr_status daemon_start(struct cr_front *front, int listen, unsigned connections_max)
{
    struct MHD_Daemon *daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_TURBO | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, handled, front,
        MHD_OPTION_LISTEN_SOCKET, listen, MHD_OPTION_CONNECTION_LIMIT, connections_max,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, MEMORY_BYTES, MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_URI_LOG_CALLBACK, target_seen, front, MHD_OPTION_UNESCAPE_CALLBACK,
        not_unescaped, front, MHD_OPTION_NOTIFY_COMPLETED, completed, front,
        MHD_OPTION_NOTIFY_CONNECTION, connection_changed, front, MHD_OPTION_END);
    if (daemon == NULL)
        return CR_E_IO;
    front->daemons[front->daemon_count++] = daemon;
    return CR_OK;
}

enum cr_status cr_front_create(const struct cr_http_site *site, const int *listen,
                               size_t listen_count, unsigned connections_max, unsigned socket_mode,
                               struct cr_http_counts *counts, struct cr_front **out_front)
{
    CR_ASSERT(listen_count >= 1 && listen_count <= CR_SERVER_LISTEN_MAX);
    if (!cr_layout_is_known(MHD_get_version()))
        return CR_E_VERSION;
    struct cr_front *front = calloc(1, sizeof *front);
    if (front == NULL)
        return CR_E_NO_MEMORY;
    front->site = site;
    front->counts = counts;
    front->socket_mode = socket_mode;
    front->user = geteuid();
    front->group = getegid();
    front->now = cr_clock_boot(site->clock);
    list_init(&front->waiting);
    for (size_t i = 0; i < PHASE_COUNT; i++)
        list_init(&front->phases[i]);
    front->stock = cr_stock_create(cr_http_common_headers(site));
    enum cr_status st = front->stock != NULL ? CR_OK : CR_E_NO_MEMORY;
    for (size_t i = 0; i < listen_count && st == CR_OK; i++)
        st = daemon_start(front, listen[i], connections_max);
    if (st == CR_OK)
        *out_front = front;
    else
        cr_front_destroy(front);
    return st;
}

void cr_front_destroy(struct cr_front *front)
{
    if (front == NULL)
        return;
    /* The library stops only when nothing is suspended; it calls no handler any more. */
    while (front->waiting.next != &front->waiting) {
        struct request *request = (struct request *)(void *)front->waiting.next;
        link_remove(&request->link);
        MHD_resume_connection(request->connection);
    }
    for (size_t i = 0; i < front->daemon_count; i++) {
        (void)MHD_quiesce_daemon(front->daemons[i]);
        MHD_stop_daemon(front->daemons[i]);
    }
    while (front->free != NULL) {
        struct request *request = front->free;
        front->free = request->next_free;
        request_free(request);
    }
    cr_stock_destroy(front->stock);
    free(front);
}

size_t cr_front_poll(struct cr_front *front, struct pollfd *out, int *out_timeout)
{
    cr_boot_ns due = CR_BOOT_NEVER;
    *out_timeout = -1;
    for (size_t i = 0; i < front->daemon_count; i++) {
        MHD_UNSIGNED_LONG_LONG left;
        out[i] = (struct pollfd){
            .fd = MHD_get_daemon_info(front->daemons[i], MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd,
            .events = POLLIN};
        if (MHD_get_timeout(front->daemons[i], &left) == MHD_YES && left == 0)
            *out_timeout = 0;
    }
    for (size_t i = 0; i < PHASE_COUNT; i++) {
        const struct link *first = front->phases[i].next;
        if (first != &front->phases[i] && ((const struct visitor *)(const void *)first)->due < due)
            due = ((const struct visitor *)(const void *)first)->due;
    }
    if (due != CR_BOOT_NEVER && *out_timeout != 0)
        *out_timeout = due <= front->now ? 0 : (int)cr_boot_between(front->now, due) + 1;
    return front->daemon_count;
}

static void late_cut(struct cr_front *front)
{
    for (size_t i = 0; i < PHASE_COUNT; i++)
        while (front->phases[i].next != &front->phases[i]) {
            struct visitor *visitor = (struct visitor *)(void *)front->phases[i].next;
            if (visitor->due > front->now)
                break;
            visitor_cut(visitor);
        }
}

static void waiting_resume(struct cr_front *front)
{
    for (struct link *link = front->waiting.next, *next; link != &front->waiting; link = next) {
        struct request *request = (struct request *)(void *)link;
        next = link->next;
        if (!cr_call_done(cr_http_waits_for(request->exchange)))
            continue;
        link_remove(link);
        MHD_resume_connection(request->connection);
    }
}

void cr_front_run(struct cr_front *front, struct cr_room *room)
{
    front->room = room;
    front->now = cr_clock_boot(front->site->clock);
    late_cut(front);
    waiting_resume(front);
    for (size_t i = 0; i < front->daemon_count; i++)
        (void)MHD_run(front->daemons[i]);
    if (!front->draining)
        return;
    while (front->phases[PHASE_IDLE].next != &front->phases[PHASE_IDLE])
        visitor_cut((struct visitor *)(void *)front->phases[PHASE_IDLE].next);
    while (front->phases[PHASE_FIRST].next != &front->phases[PHASE_FIRST])
        visitor_cut((struct visitor *)(void *)front->phases[PHASE_FIRST].next);
}

void cr_front_drain(struct cr_front *front)
{
    if (front->draining)
        return;
    /* Who has connected already is let in: no one else would answer them. */
    for (size_t i = 0; i < front->daemon_count; i++)
        for (unsigned round = 0; round < DRAIN_ROUNDS; round++)
            (void)MHD_run(front->daemons[i]);
    front->draining = true;
    for (size_t i = 0; i < front->daemon_count; i++)
        (void)MHD_quiesce_daemon(front->daemons[i]);
}

size_t cr_front_connections(const struct cr_front *front)
{
    return front->connections;
}
