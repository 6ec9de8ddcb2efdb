/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The limits of log-ins (COORDINATION.md, section 2; ASVS E1 to E3): which keys an attempt counts
 * on, and that it is owed before its password is looked at.
 *
 * An attempt counts on the account as it was submitted, whether there is one or not; on its source
 * (an IPv4 address, or an IPv6 network in three widths); and on the two together. A browser that
 * shows a device cookie of this account counts on that alone: no stranger can use its budget up.
 * When the account has been read and the cookie is of an earlier password, it counts again, as a
 * stranger's. An
 * attempt without an address (an application that gives none) counts on the account alone.
 *
 * What is admitted is charged in memory, then written, all keys in one row each with whatever else
 * waits for the store's next commit; only when that is durable does cr_throttle_take answer. So an
 * agent that is killed has forgotten nothing of what it let through. Refused attempts write
 * nothing. A refund is written later, and lost in a crash: that errs towards refusal.
 *
 * Over a store that several hosts share each host counts by itself, and the last write of a key
 * stands. Loop's thread only.
 */
#ifndef AUTH_THROTTLE_H
#define AUTH_THROTTLE_H

#include "coord/limit.h"
#include "engine/engine.h"
#include "session/device.h"

enum cr_throttle_kind {
    CR_THROTTLE_ACCOUNT = 1,
    CR_THROTTLE_PAIR = 2,
    CR_THROTTLE_SOURCE = 3,
    CR_THROTTLE_SOURCE_56 = 4,
    CR_THROTTLE_SOURCE_48 = 5,
    CR_THROTTLE_DEVICE = 6,
    CR_THROTTLE_END
};

#define CR_THROTTLE_ENTRIES_DEFAULT 65536

/* Where an address counts: an IPv4 address by itself, with the first width alone; an IPv6 address
 * with its network of each width. False: it is no address, or has no such network. */
#define CR_NETWORK_WIDTHS 3
#define CR_NETWORK_CHARS 50 /* with the width and a NUL */
extern const unsigned cr_network_widths[CR_NETWORK_WIDTHS];
CR_MUST_CHECK bool cr_network_of(const char *address, unsigned bits, char out[CR_NETWORK_CHARS]);

/* As texts; NULL: the default. "off" switches one off, `off` all of them. */
struct cr_throttle_options {
    bool off;
    const char *limits[CR_THROTTLE_END]; /* by kind */
    size_t entries;                      /* in memory; 0: CR_THROTTLE_ENTRIES_DEFAULT */
};

struct cr_throttle;
/* CR_E_INVALID: a limit is not of the form. */
CR_MUST_CHECK enum cr_status cr_throttle_create(struct cr_engine *engine,
                                                const struct cr_throttle_options *options,
                                                struct cr_throttle **out_throttle);
void cr_throttle_destroy(struct cr_throttle *throttle); /* accepts NULL */
/* Other limits, for attempts that begin from now on. What is owed stays owed. `options->entries`
 * has no effect. All or nothing: CR_E_INVALID. */
CR_MUST_CHECK enum cr_status cr_throttle_set(struct cr_throttle *throttle,
                                             const struct cr_throttle_options *options);

/* One attempt, embedded in its owner; stays there until cr_throttle_end, and while `busy`. */
struct cr_throttle_ticket {
    struct cr_throttle *throttle; /* NULL: it has been destroyed */
    struct cr_limit_ask ask;
    struct cr_limit limits[CR_LIMIT_PARTS_MAX]; /* as they were when it began */
    struct cr_debt_row rows[CR_LIMIT_PARTS_MAX];
    enum cr_status found[CR_LIMIT_PARTS_MAX];
    struct cr_user user;
    bool has_device;
    struct cr_device_id device;
    cr_span_ms retry_after; /* with CR_LIMITED; rounded and jittered: it tells nothing of the key */
    bool busy;
    struct cr_store_call call;
    void (*done)(struct cr_throttle_ticket *ticket, enum cr_status status);
};

/* `user`, `address` and `device` may be NULL; without a user it counts on its source alone,
 * whatever the device. CR_LIMITED: refused already by what is known here; no cr_throttle_end is
 * needed then. */
CR_MUST_CHECK enum cr_status cr_throttle_begin(struct cr_throttle *throttle,
                                               struct cr_throttle_ticket *ticket,
                                               const struct cr_user *user, const char *address,
                                               const void *device, size_t device_chars);
/* `done` once, perhaps at once: CR_OK: it is owed; CR_LIMITED; CR_BUSY; or what the store said. */
void cr_throttle_take(struct cr_throttle_ticket *ticket,
                      void (*done)(struct cr_throttle_ticket *ticket, enum cr_status status));
/* `wrong`: the password was looked at, and was not it. Else one is given back. */
void cr_throttle_end(struct cr_throttle_ticket *ticket, bool wrong);
/* The throttle goes first: the ticket is answered CR_UNAVAILABLE if it is busy. */
void cr_throttle_abandon(struct cr_throttle_ticket *ticket);
/* The cookie of a browser that has got in, with the password that was set at `password_at`. */
CR_MUST_CHECK enum cr_status cr_throttle_device(struct cr_throttle_ticket *ticket,
                                                cr_time_ms password_at,
                                                char out[CR_DEVICE_CHARS + 1]);
/* It counts on a device cookie of an earlier password: such a browser is a stranger's. */
bool cr_throttle_is_outdated(const struct cr_throttle_ticket *ticket, cr_time_ms password_at);

/* For operators. */
struct cr_throttle_count {
    uint64_t admitted, refused, refunded; /* attempts, since the start */
    uint64_t asked;                       /* store reads for keys that were not in memory */
    uint64_t entries, evicted;
};
void cr_throttle_count(const struct cr_throttle *throttle, struct cr_throttle_count *out_count);
const struct cr_limit *cr_throttle_limit(const struct cr_throttle *throttle, uint32_t kind);

/* Rows as the store keeps them; good during the callback. Where there are any, the throttle is
 * still there. */
typedef void cr_throttle_done(void *context, enum cr_status status, const struct cr_debt_row *rows,
                              size_t count);
/* All keys of an attempt by `user` from `address`, one of which may be NULL. CR_E_INVALID: the
 * address is none. */
void cr_throttle_explain(struct cr_throttle *throttle, const struct cr_user *user,
                         const char *address, cr_throttle_done *done, void *context);
/* The largest debts; `capacity` up to CR_DEBT_LIST_MAX. What an account owes has its name; of other
 * names there is "#" and the beginning of a hash (and of accounts, when there are too many to look
 * through in a second). */
void cr_throttle_top(struct cr_throttle *throttle, size_t capacity, cr_throttle_done *done,
                     void *context);
/* Forgive a user, an address, or what the one owes from the other. */
void cr_throttle_reset(struct cr_throttle *throttle, const struct cr_user *user,
                       const char *address, cr_throttle_done *done, void *context);

#endif
