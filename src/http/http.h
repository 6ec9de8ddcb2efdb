/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a request to a reply. No sockets and no HTTP library: the worker (src/server) fills in a
 * request and sends the reply, tests and fuzzers call it bare.
 *
 * An exchange is one request and its reply. cr_http_admit runs on the head alone, before the body
 * is taken; cr_http_start when the body is there. Where the answer needs a call that is not done
 * yet, the exchange waits: cr_http_waits_for tells for which one, and cr_http_resume goes on once
 * it is done. One thread.
 */
#ifndef HTTP_HTTP_H
#define HTTP_HTTP_H

#include <cloakroom/session.h>

#include "base/clock.h"
#include "base/networks.h"

#define CR_HTTP_HEADERS_MAX 64
#define CR_HTTP_HEADER_BYTES_MAX 8192 /* request line and header fields, as they were sent */
#define CR_HTTP_TARGET_BYTES_MAX 2048
#define CR_HTTP_BODY_BYTES_MAX 16384
#define CR_HTTP_REPLY_HEADERS_MAX 8

#define CR_HTTP_COOKIE_SECURE "__Host-cloakroom"
#define CR_HTTP_COOKIE_DEV "cloakroom-dev"
#define CR_HTTP_DEVICE_SECURE "__Host-cloakroom-device" /* what the agent knows a browser by */
#define CR_HTTP_DEVICE_DEV "cloakroom-dev-device"
#define CR_HTTP_FORM_SECURE "__Host-cloakroom-form" /* what a log-in form belongs to */
#define CR_HTTP_FORM_DEV "cloakroom-dev-form"

/* Who is at the other end, and so which routes there are. */
enum cr_http_surface {
    CR_HTTP_PUBLIC,  /* browsers and programs, by way of a proxy */
    CR_HTTP_ADMIN,   /* operators and the application itself, on a Unix socket */
    CR_HTTP_MONITOR, /* what watches the server, on a loopback port */
    CR_HTTP_SURFACES
};

#define CR_HTTP_PAGES_MAX 65 /* processes that count */

struct cr_http_census;

/* What all requests of a server have in common. Strings are the caller's and outlive it. */
struct cr_http_site {
    /* Plain HTTP on loopback, for development: the cookie is CR_HTTP_COOKIE_DEV, without Secure. */
    bool dev;
    enum cr_policy on_login;
    unsigned keep_count;         /* with CR_POLICY_KEEP_N */
    cr_span_ms idle, absolute;   /* of sessions made here; 0: the room's defaults */
    const char *clear_site_data; /* sent at log-out; NULL or empty: not sent */
    struct cr_clock *clock;
    enum cr_http_surface surface;
    struct cr_networks proxies;          /* whose X-Forwarded-For is believed */
    const struct cr_http_census *census; /* for the last two surfaces; NULL: nothing is known */
};

/* Bytes that the request's owner keeps until the exchange is reset. Not ended by a NUL. */
struct cr_http_text {
    const char *bytes;
    size_t count;
};

struct cr_http_header {
    struct cr_http_text name, value;
};

struct cr_http_request {
    struct cr_http_text method;
    struct cr_http_text target; /* as it was sent: nothing decoded */
    const struct cr_http_header *headers;
    size_t header_count;
    const char *peer; /* the address of the other end, for people; never NULL. Admission puts the
                         client's there where that is one of the site's proxies */
};

struct cr_http_reply_header {
    const char *name;
    const char *value;
};

/* Valid until the exchange is reset. The server adds cr_http_common_headers and Content-Length. */
struct cr_http_reply {
    unsigned status;
    bool close;       /* the connection, after this */
    const char *type; /* of the body; NULL without one */
    struct cr_http_text body;
    size_t header_count;
    struct cr_http_reply_header headers[CR_HTTP_REPLY_HEADERS_MAX];
};

/* What every answer carries, errors included, ended by a NULL name. */
const struct cr_http_reply_header *cr_http_common_headers(const struct cr_http_site *site);

enum cr_http_progress { CR_HTTP_REPLY, CR_HTTP_WAIT };

struct cr_http_exchange;

/* NULL without memory. `site` outlives it. */
struct cr_http_exchange *cr_http_exchange_create(const struct cr_http_site *site);
/* For the next request: cancels a call under way and wipes what was secret. */
void cr_http_exchange_reset(struct cr_http_exchange *x);
void cr_http_exchange_destroy(struct cr_http_exchange *x); /* accepts NULL */

/*
 * Look at the head. The request is copied, what it points to stays the caller's until the reset.
 * False: refused, the reply is there and closes the connection; the body is not to be read. True:
 * read the body, at most CR_HTTP_BODY_BYTES_MAX, then cr_http_start.
 */
CR_MUST_CHECK bool cr_http_admit(struct cr_http_exchange *x, const struct cr_http_request *request);

/* Refuse, with `status`, what the server has seen and this layer cannot. `why` is a sentence,
 * static. */
void cr_http_refuse(struct cr_http_exchange *x, const struct cr_http_request *request,
                    unsigned status, const char *why);

/* After cr_http_admit. `body` stays the caller's until the reset. `room` NULL: there is none, and
 * who needs one gets 503. */
CR_MUST_CHECK enum cr_http_progress cr_http_start(struct cr_http_exchange *x, struct cr_room *room,
                                                  struct cr_http_text body);
/* With CR_HTTP_WAIT only; NULL otherwise. */
const struct cr_call *cr_http_waits_for(const struct cr_http_exchange *x);
CR_MUST_CHECK enum cr_http_progress cr_http_resume(struct cr_http_exchange *x);
/* With CR_HTTP_REPLY, or after a refusal. */
const struct cr_http_reply *cr_http_reply(const struct cr_http_exchange *x);

#endif
