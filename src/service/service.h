/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request in, one reply out: turns messages into calls of engine, auth and leases, and checks
 * who may ask what. The agent feeds it from sockets, a direct-mode room calls it in its own
 * process, so that both behave alike. Loop's thread only.
 */
#ifndef SERVICE_SERVICE_H
#define SERVICE_SERVICE_H

#include "auth/auth.h"
#include "base/audit.h"
#include "coord/lease.h"
#include "engine/engine.h"
#include "wire/message.h"

struct cr_service;

struct cr_service_options {
    struct cr_engine *engine;
    struct cr_auth *auth;     /* NULL: no accounts */
    struct cr_leases *leases; /* NULL: no locks */
    const char *realm;
    struct cr_audit *audit; /* NULL: none; outlives the service */
    size_t requests_max;    /* under way per client; more are CR_BUSY; default 1024 */
};
CR_MUST_CHECK enum cr_status cr_service_create(const struct cr_service_options *options,
                                               struct cr_service **out_service);
/* A clean stop begins: every lock is given back, and from now on every request is answered
 * CR_UNAVAILABLE. Then destroy leases, auth and engine (whose last answers still go out), the
 * clients, and the service. */
void cr_service_stop(struct cr_service *service);
void cr_service_destroy(struct cr_service *service); /* its clients first; accepts NULL */

/* A peer. `send` takes one whole message, with a descriptor to pass or -1 (stays the caller's); it
 * does not call back into the service. */
struct cr_client;
struct cr_client_options {
    enum cr_role role;
    const char *label; /* who, for `explain` and locks: "pid 4711" */
    void (*send)(void *context, const void *bytes, size_t count, int fd);
    void *context;
};
CR_MUST_CHECK enum cr_status cr_client_create(struct cr_service *service,
                                              const struct cr_client_options *options,
                                              struct cr_client **out_client);
/* The peer is gone: its locks are given back, replies still under way are dropped. Accepts NULL. */
void cr_client_destroy(struct cr_client *client);

/* One datagram. CR_E_PROTOCOL: cut this peer. Everything else has been or will be replied. */
CR_MUST_CHECK enum cr_status cr_client_receive(struct cr_client *client, const void *bytes,
                                               size_t count);

/* The table was replaced: tell every client (CR_OP_SEGMENT), with the descriptor or -1. */
void cr_service_table_changed(struct cr_service *service, int fd);

/* How many clients there are, for the census. */
size_t cr_service_clients(const struct cr_service *service);

#endif
