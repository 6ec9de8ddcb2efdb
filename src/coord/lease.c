/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the holdings of this process: who waits for a lease, who has one, and the renewals. The
 * store decides who holds; here is only what this process knows of it.
 *
 *   QUEUED   somebody of this process is before it, for the same name
 *   TAKING   a take is under way
 *   WAITING  another holds it: tried again when this process gives it back, and every second
 *   CHECKING the outcome of a take was lost, and the store says that it is ours: a renewal decides
 *   HELD     between renewals
 *   RENEWING a renewal is under way
 *   GIVING   nobody wants it any more, but the store may say that it is ours
 *
 * Invariants: a holding has at most one store call under way; of one name in this process at most
 * one is in a state other than QUEUED and GIVING; a holding in GIVING tells nobody anything; an
 * event is the last thing that is done with a holding, as its receiver may give it back.
 */
#include "coord/lease.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"

#define RETRY_MS 1000
#define MARGIN_MS (CR_LEASE_TTL_MS / 10 > 1000 ? CR_LEASE_TTL_MS / 10 : 1000)

_Static_assert(CR_LEASE_RENEW_MS + RETRY_MS < CR_LEASE_TTL_MS - MARGIN_MS,
               "a renewal that fails once is repeated while the lease is trusted");

enum holding_state {
    HOLDING_QUEUED,
    HOLDING_TAKING,
    HOLDING_WAITING,
    HOLDING_CHECKING,
    HOLDING_HELD,
    HOLDING_RENEWING,
    HOLDING_GIVING
};

struct cr_holding {
    struct cr_leases *leases;
    struct cr_holding *next; /* in order of arrival */
    enum holding_state state;
    const struct cr_holding_events *events;
    void *context;
    struct cr_lease_row row;      /* name, holder, label; the fence once it is known */
    cr_boot_ns wait_until;        /* while it waits */
    cr_boot_ns sent;              /* when the call under way was sent */
    cr_boot_ns trusted_until;     /* HELD, RENEWING */
    cr_boot_ns ends;              /* when the store forgets it by itself; 0: it never knew */
    struct cr_timer timer;        /* the next thing to do */
    struct cr_store_call call;    /* under way: in_call */
    struct cr_lease_row call_row; /* the pool thread's copy */
    bool in_call;
};

struct cr_leases {
    struct cr_engine *engine;
    struct cr_loop *loop;
    struct cr_holding *first;
    bool closing;                  /* nothing is taken any more, and nobody woken */
    bool destroyed;                /* freed with its last holding */
    void (*closed)(void *context); /* called with the last one; NULL: nobody waits for that */
    void *closed_context;
};

static void holding_give_back(struct cr_holding *h);
static void holding_try(struct cr_holding *h);

static cr_boot_ns holding_now(const struct cr_holding *h)
{
    return cr_clock_boot(h->leases->loop->clock);
}

/* Whoever is first in the queue of `name` tries now. */
static void leases_wake(struct cr_leases *leases, const char *name)
{
    for (struct cr_holding *h = leases->first; h != NULL; h = h->next) {
        if (h->state == HOLDING_GIVING || strcmp(h->row.name, name) != 0)
            continue;
        if (h->state == HOLDING_QUEUED || h->state == HOLDING_WAITING)
            holding_try(h);
        return;
    }
}

/* The last holding of a closing has gone. */
static void leases_end(struct cr_leases *leases)
{
    void (*closed)(void *) = leases->closed;
    void *context = leases->closed_context;
    leases->closed = NULL;
    if (leases->destroyed)
        free(leases);
    if (closed != NULL)
        closed(context);
}

static void holding_free(struct cr_holding *h)
{
    struct cr_leases *leases = h->leases;
    CR_ASSERT(!h->in_call);
    cr_timer_stop(leases->loop, &h->timer);
    struct cr_holding **at = &leases->first;
    while (*at != h)
        at = &(*at)->next;
    *at = h->next;
    free(h);
    if (leases->closing && leases->first == NULL)
        leases_end(leases);
}

/* Nobody may believe it any more. Frees, or goes on alone to tell the store. */
static void holding_drop(struct cr_holding *h)
{
    struct cr_leases *leases = h->leases;
    char name[sizeof h->row.name];
    memcpy(name, h->row.name, sizeof name);
    h->state = HOLDING_GIVING;
    cr_timer_stop(leases->loop, &h->timer);
    if (h->in_call)
        return; /* its end will see to the rest */
    if (h->ends != 0) {
        holding_give_back(h);
        return;
    }
    bool closing = leases->closing; /* then the last one takes `leases` with it */
    holding_free(h);
    if (!closing)
        leases_wake(leases, name);
}

/* It was never had: say so, and forget it. */
static void holding_refuse(struct cr_holding *h, enum cr_status status)
{
    const struct cr_holding_events *events = h->events;
    void *context = h->context;
    CR_ASSERT(status != CR_OK);
    holding_drop(h);
    events->taken(context, status, 0, 0);
}

static void holding_lose(struct cr_holding *h)
{
    const struct cr_holding_events *events = h->events;
    void *context = h->context;
    holding_drop(h);
    events->renewed(context, 0);
}

/* ---- calls of the store */

static struct cr_holding *holding_of_call(struct cr_store_call *call)
{
    return (struct cr_holding *)((char *)call - offsetof(struct cr_holding, call));
}

/* False: the store's queue is full. */
static bool holding_call(struct cr_holding *h,
                         enum cr_status (*run)(struct cr_store *, struct cr_store_call *),
                         void (*done)(struct cr_store_call *))
{
    CR_ASSERT(!h->in_call);
    h->call = (struct cr_store_call){.run = run, .done = done};
    h->call_row = h->row;
    h->in_call = true;
    /* R4: trust counts from before the request is sent. */
    h->sent = holding_now(h);
    if (cr_engine_store_write(h->leases->engine, &h->call))
        return true;
    h->in_call = false;
    return false;
}

static enum cr_status take_run(struct cr_store *store, struct cr_store_call *call)
{
    struct cr_holding *h = holding_of_call(call);
    return cr_store_lease_take(store, &h->call_row, CR_LEASE_TTL_MS);
}

static enum cr_status renew_run(struct cr_store *store, struct cr_store_call *call)
{
    struct cr_holding *h = holding_of_call(call);
    return cr_store_lease_renew(store, &h->call_row, CR_LEASE_TTL_MS);
}

static enum cr_status give_run(struct cr_store *store, struct cr_store_call *call)
{
    struct cr_holding *h = holding_of_call(call);
    if (h->call_row.fence == 0) { /* the outcome of the take was lost, and the fence with it */
        struct cr_lease_row row;
        enum cr_status st = cr_store_lease_read(store, h->call_row.name, &row);
        if (st != CR_OK)
            return st;
        if (memcmp(&row.holder, &h->call_row.holder, sizeof row.holder) != 0)
            return CR_LOST;
        h->call_row.fence = row.fence;
    }
    return cr_store_lease_give(store, &h->call_row);
}

/* The store may say that it is ours for as long as this. */
static void holding_may_last(struct cr_holding *h, enum cr_status status)
{
    if (status == CR_OK || status == CR_E_UNKNOWN_OUTCOME)
        h->ends = cr_boot_add(holding_now(h), CR_LEASE_TTL_MS + MARGIN_MS);
}

/* ---- holding */

/* By a call that succeeded. False: the answer took so long that it is not to be trusted any more.
 */
static bool holding_trust(struct cr_holding *h)
{
    cr_boot_ns until = cr_boot_add(h->sent, CR_LEASE_TTL_MS - MARGIN_MS);
    if (holding_now(h) >= until)
        return false;
    h->state = HOLDING_HELD;
    h->trusted_until = until;
    cr_timer_set(h->leases->loop, &h->timer, cr_boot_add(h->sent, CR_LEASE_RENEW_MS));
    return true;
}

static void renew_done(struct cr_store_call *call)
{
    struct cr_holding *h = holding_of_call(call);
    h->in_call = false;
    holding_may_last(h, call->status);
    if (h->state == HOLDING_GIVING) {
        holding_drop(h);
        return;
    }
    bool checking = h->state == HOLDING_CHECKING;
    if (!checking && holding_now(h) >= h->trusted_until) {
        holding_lose(h); /* its trust ran out meanwhile, and who has it has seen that */
    } else if (call->status == CR_OK && holding_trust(h)) {
        if (checking)
            h->events->taken(h->context, CR_OK, h->row.fence, h->trusted_until);
        else
            h->events->renewed(h->context, h->trusted_until);
    } else if (checking) {
        h->state = HOLDING_WAITING;
        cr_timer_set(h->leases->loop, &h->timer, cr_boot_add(holding_now(h), RETRY_MS));
    } else if (call->status == CR_LOST) {
        h->ends = 0;
        holding_lose(h);
    } else {
        h->state = HOLDING_HELD;
        cr_boot_ns again = cr_boot_add(holding_now(h), RETRY_MS);
        cr_timer_set(h->leases->loop, &h->timer,
                     again < h->trusted_until ? again : h->trusted_until);
    }
}

static void holding_renew(struct cr_holding *h)
{
    if (holding_now(h) >= h->trusted_until) {
        holding_lose(h);
        return;
    }
    h->state = HOLDING_RENEWING;
    /* While the store is asked, trust runs on, and out. */
    cr_timer_set(h->leases->loop, &h->timer, h->trusted_until);
    if (!holding_call(h, renew_run, renew_done)) {
        h->state = HOLDING_HELD;
        cr_boot_ns again = cr_boot_add(holding_now(h), RETRY_MS);
        cr_timer_set(h->leases->loop, &h->timer,
                     again < h->trusted_until ? again : h->trusted_until);
    }
}

/* ---- taking */

static void holding_wait(struct cr_holding *h, enum cr_status status)
{
    cr_boot_ns now = holding_now(h);
    if (now >= h->wait_until) {
        holding_refuse(h, status == CR_BUSY ? CR_BUSY : CR_UNAVAILABLE);
        return;
    }
    h->state = HOLDING_WAITING;
    cr_boot_ns again = cr_boot_add(now, RETRY_MS);
    cr_timer_set(h->leases->loop, &h->timer, again < h->wait_until ? again : h->wait_until);
}

static bool status_is_of_passage(enum cr_status status)
{
    return status == CR_BUSY || status == CR_UNAVAILABLE || status == CR_E_UNKNOWN_OUTCOME ||
           status == CR_E_IO;
}

static void take_done(struct cr_store_call *call)
{
    struct cr_holding *h = holding_of_call(call);
    h->in_call = false;
    bool ours = memcmp(&h->call_row.holder, &h->row.holder, sizeof h->row.holder) == 0;
    if (call->status == CR_OK || (call->status == CR_BUSY && ours))
        h->row.fence = h->call_row.fence;
    holding_may_last(h, call->status);
    if (h->state == HOLDING_GIVING) {
        holding_drop(h);
    } else if (call->status == CR_OK) {
        if (holding_trust(h))
            h->events->taken(h->context, CR_OK, h->row.fence, h->trusted_until);
        else
            holding_wait(h, CR_UNAVAILABLE); /* and take it anew */
    } else if (call->status == CR_BUSY && ours) {
        h->state = HOLDING_CHECKING;
        if (!holding_call(h, renew_run, renew_done))
            holding_wait(h, CR_UNAVAILABLE);
    } else if (status_is_of_passage(call->status)) {
        holding_wait(h, call->status);
    } else {
        holding_refuse(h, call->status);
    }
}

/* It is first in its queue. */
static void holding_try(struct cr_holding *h)
{
    h->state = HOLDING_TAKING;
    cr_timer_stop(h->leases->loop, &h->timer);
    if (!holding_call(h, take_run, take_done))
        holding_wait(h, CR_UNAVAILABLE);
}

/* ---- giving back */

static void give_done(struct cr_store_call *call)
{
    struct cr_holding *h = holding_of_call(call);
    h->in_call = false;
    if (status_is_of_passage(call->status) && !h->leases->closing) {
        /* Until the store forgets it by itself. */
        cr_timer_set(h->leases->loop, &h->timer, cr_boot_add(holding_now(h), RETRY_MS));
        leases_wake(h->leases, h->row.name);
        return;
    }
    h->ends = 0;
    holding_drop(h);
}

static void holding_give_back(struct cr_holding *h)
{
    CR_ASSERT(h->state == HOLDING_GIVING);
    bool is_over = holding_now(h) >= h->ends;
    if (!is_over && holding_call(h, give_run, give_done))
        return;
    if (!is_over && !h->leases->closing) {
        cr_timer_set(h->leases->loop, &h->timer, cr_boot_add(holding_now(h), RETRY_MS));
        return;
    }
    h->ends = 0; /* the store has forgotten it, or nobody will be here to try again */
    holding_drop(h);
}

static void holding_fire(struct cr_timer *timer)
{
    struct cr_holding *h =
        (struct cr_holding *)((char *)timer - offsetof(struct cr_holding, timer));
    switch (h->state) {
    case HOLDING_QUEUED:
        holding_refuse(h, CR_BUSY);
        break;
    case HOLDING_WAITING:
        holding_try(h);
        break;
    case HOLDING_HELD:
        holding_renew(h);
        break;
    case HOLDING_RENEWING:
        holding_lose(h);
        break;
    case HOLDING_GIVING:
        holding_give_back(h);
        break;
    case HOLDING_TAKING:
    case HOLDING_CHECKING:
        CR_ASSERT(false); /* they set no timer */
        break;
    }
}

/* ---- the interface */

enum cr_status cr_leases_create(struct cr_engine *engine, struct cr_leases **out_leases)
{
    struct cr_leases *leases = calloc(1, sizeof *leases);
    if (leases == NULL)
        return CR_E_NO_MEMORY;
    leases->engine = engine;
    leases->loop = cr_engine_loop(engine);
    *out_leases = leases;
    return CR_OK;
}

static void leases_give_all(struct cr_leases *leases)
{
    leases->closing = true;
    for (struct cr_holding *h = leases->first; h != NULL; h = h->next) {
        h->state = HOLDING_GIVING;
        cr_timer_stop(leases->loop, &h->timer);
    }
    struct cr_holding *next = NULL;
    for (struct cr_holding *h = leases->first; h != NULL; h = next) {
        next = h->next; /* the last one to go may take `leases` with it */
        if (!h->in_call)
            holding_drop(h);
    }
}

/* ---- looking */

struct look {
    struct cr_store_call call;
    struct cr_lease_row row;
    void (*done)(void *context, enum cr_status status, uint64_t fence);
    void *context;
    char name[CR_LEASE_NAME_BYTES_MAX + 1];
};

static struct look *look_of_call(struct cr_store_call *call)
{
    return (struct look *)((char *)call - offsetof(struct look, call));
}

static enum cr_status look_run(struct cr_store *store, struct cr_store_call *call)
{
    struct look *look = look_of_call(call);
    return cr_store_lease_read(store, look->name, &look->row);
}

static void look_done(struct cr_store_call *call)
{
    struct look *look = look_of_call(call);
    enum cr_status st = call->status;
    if (st == CR_NOT_FOUND) {
        look->row.fence = 0;
        st = CR_OK;
    }
    look->done(look->context, st, st == CR_OK ? look->row.fence : 0);
    free(look);
}

void cr_lease_read(struct cr_leases *leases, const char *name,
                   void (*done)(void *context, enum cr_status status, uint64_t fence),
                   void *context)
{
    size_t length = strlen(name);
    if (length < 1 || length > CR_LEASE_NAME_BYTES_MAX) {
        done(context, CR_E_INVALID, 0);
        return;
    }
    struct look *look = calloc(1, sizeof *look);
    if (look == NULL) {
        done(context, CR_E_NO_MEMORY, 0);
        return;
    }
    look->call = (struct cr_store_call){.run = look_run, .done = look_done};
    look->done = done;
    look->context = context;
    memcpy(look->name, name, length + 1);
    if (!cr_engine_store_read(leases->engine, &look->call)) {
        free(look);
        done(context, CR_BUSY, 0);
    }
}

void cr_leases_close(struct cr_leases *leases, void (*closed)(void *context), void *context)
{
    CR_ASSERT(!leases->closing);
    if (leases->first == NULL) {
        leases->closing = true;
        closed(context);
        return;
    }
    leases->closed = closed;
    leases->closed_context = context;
    leases_give_all(leases);
}

void cr_leases_destroy(struct cr_leases *leases)
{
    if (leases == NULL)
        return;
    leases->closed = NULL;
    if (leases->first == NULL) {
        free(leases);
        return;
    }
    leases->destroyed = true;
    leases_give_all(leases);
}

/* Somebody before it in this process has the name, or waits for it. */
static bool holding_is_behind(const struct cr_holding *h)
{
    for (const struct cr_holding *at = h->leases->first; at != h; at = at->next)
        if (at->state != HOLDING_GIVING && strcmp(at->row.name, h->row.name) == 0)
            return true;
    return false;
}

enum cr_status cr_holding_take(struct cr_leases *leases, const char *name, const char *label,
                               cr_span_ms wait, const struct cr_holding_events *events,
                               void *context, struct cr_holding **out_holding)
{
    size_t length = strlen(name);
    if (length == 0 || length > CR_LEASE_NAME_BYTES_MAX || wait < 0 || wait > CR_SPAN_MS_MAX)
        return CR_E_INVALID;
    if (leases->closing)
        return CR_UNAVAILABLE;
    struct cr_holding *h = calloc(1, sizeof *h);
    if (h == NULL)
        return CR_E_NO_MEMORY;
    enum cr_status st =
        cr_random_fill(cr_engine_random(leases->engine), &h->row.holder, sizeof h->row.holder);
    if (st != CR_OK) {
        free(h);
        return st;
    }
    h->leases = leases;
    h->events = events;
    h->context = context;
    memcpy(h->row.name, name, length + 1);
    cr_label_copy(h->row.label, sizeof h->row.label, label, label == NULL ? 0 : strlen(label));
    h->timer.fire = holding_fire;
    h->wait_until = cr_boot_add(holding_now(h), wait);
    struct cr_holding **end = &leases->first;
    while (*end != NULL)
        end = &(*end)->next;
    *end = h;

    *out_holding = h; /* an event may come before this returns, and it may be the end of `h` */
    if (holding_is_behind(h)) {
        h->state = HOLDING_QUEUED;
        if (wait == 0)
            holding_refuse(h, CR_BUSY);
        else
            cr_timer_set(leases->loop, &h->timer, h->wait_until);
    } else {
        holding_try(h);
    }
    return CR_OK;
}

void cr_holding_give(struct cr_holding *holding)
{
    if (holding == NULL)
        return;
    CR_ASSERT(holding->state != HOLDING_GIVING);
    holding_drop(holding);
}
