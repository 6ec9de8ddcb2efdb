/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fenced leases in the store, held by this engine's process for its clients (COORDINATION.md, R2 to
 * R4, R7, R14). Renewed here; a client whose connection ends gives its leases back at once. Loop's
 * thread only.
 *
 * A holding is trusted until the instant at which its last successful renewal was *sent*, plus the
 * lease, less a margin of max(1 s, lease / 10). Then it is lost, whether or not the store was
 * reached.
 */
#ifndef COORD_LEASE_H
#define COORD_LEASE_H

#include "engine/engine.h"

#define CR_LEASE_TTL_MS 15000
#define CR_LEASE_RENEW_MS 5000

struct cr_leases;
struct cr_holding;

CR_MUST_CHECK enum cr_status cr_leases_create(struct cr_engine *engine,
                                              struct cr_leases **out_leases);
/* A clean stop: gives back what is held, tells nobody, and calls `closed` when the store has all of
 * it back, or cannot be asked; possibly before it returns. Nothing is taken any more. Without it
 * what is held stays held until it runs out. */
void cr_leases_close(struct cr_leases *leases, void (*closed)(void *context), void *context);
/* Accepts NULL. */
void cr_leases_destroy(struct cr_leases *leases);

/* Told on the loop's thread. `taken`: once; with CR_OK the fence, and until when it is trusted;
 * else CR_BUSY after `wait`, CR_UNAVAILABLE, and the holding is gone. `renewed`: a later instant,
 * or 0: lost, and the holding is gone. */
struct cr_holding_events {
    void (*taken)(void *context, enum cr_status status, uint64_t fence, cr_boot_ns trusted_until);
    void (*renewed)(void *context, cr_boot_ns trusted_until);
};

/* Waiters of one name in this process are served in order; who waits is tried again when the holder
 * gives it back here, and every second. The holding stays the leases'. An event may come before
 * this returns; *out_holding has been written by then, and is not written again. With another
 * answer than CR_OK (CR_E_INVALID for the name) no event comes. */
CR_MUST_CHECK enum cr_status cr_holding_take(struct cr_leases *leases, const char *name,
                                             const char *label, cr_span_ms wait,
                                             const struct cr_holding_events *events, void *context,
                                             struct cr_holding **out_holding);
/* Give it back, or stop waiting; no event comes any more. May be called by an event; accepts NULL.
 */
void cr_holding_give(struct cr_holding *holding);

/* The newest fence of `name`, 0 where nobody ever took it; reads the store. `done` may be called
 * before this returns: with CR_E_INVALID for the name, CR_BUSY, CR_UNAVAILABLE. */
void cr_lease_read(struct cr_leases *leases, const char *name,
                   void (*done)(void *context, enum cr_status status, uint64_t fence),
                   void *context);

#endif
