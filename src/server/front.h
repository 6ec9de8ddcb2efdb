/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP side of a worker: connections and requests, on libmicrohttpd, in one thread and under
 * the worker's loop. Hands each request to src/http and sends what comes back. Requests that wait
 * for the agent are suspended; connections that take too long are cut.
 */
#ifndef SERVER_FRONT_H
#define SERVER_FRONT_H

#include <poll.h>

#include "http/counts.h"
#include "http/http.h"
#include "server/server.h"

/* How long a connection may take for each part of a request. */
#define CR_FRONT_FIRST_MS 10000 /* from the connection to the first line */
#define CR_FRONT_HEAD_MS 10000  /* from the first line to the end of the head */
#define CR_FRONT_BODY_MS 10000  /* from there to the end of the body */
#define CR_FRONT_REPLY_MS 30000 /* to take the reply */
#define CR_FRONT_IDLE_MS 30000  /* to begin another request */

struct cr_front;

/* `listen` are the caller's to close, after the front. `site` and `counts` outlive it. Of a Unix
 * socket, who may come beyond its own user and root: its group, with `socket_mode` 0660. */
CR_MUST_CHECK enum cr_status cr_front_create(const struct cr_http_site *site, const int *listen,
                                             size_t listen_count, unsigned connections_max,
                                             unsigned socket_mode, struct cr_http_counts *counts,
                                             struct cr_front **out_front);
/* Cuts every connection; call it before the room is closed. Accepts NULL. */
void cr_front_destroy(struct cr_front *front);

/* What to poll, CR_SERVER_LISTEN_MAX at most, and for how long in milliseconds (-1: no limit). */
size_t cr_front_poll(struct cr_front *front, struct pollfd *out, int *out_timeout);
/* After each poll, and after cr_room_poll. `room` may be NULL: requests that need it get 503. */
void cr_front_run(struct cr_front *front, struct cr_room *room);

/* Accept no more, close what is idle, and each other connection after its present request. */
void cr_front_drain(struct cr_front *front);
size_t cr_front_connections(const struct cr_front *front);

#endif
