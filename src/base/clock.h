/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Time as a part that can be swapped: nothing above base asks the system for the time.
 *
 * cr_boot_ns is CLOCK_BOOTTIME in nanoseconds: it never jumps and counts suspends; leases,
 * deadlines and time-outs use it. cr_time_ms is wall-clock time: stores use it, and people.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <cloakroom/types.h>

typedef uint64_t cr_boot_ns;

#define CR_NS_PER_MS 1000000ULL
#define CR_BOOT_NEVER UINT64_MAX

struct cr_clock {
    cr_boot_ns (*boot)(struct cr_clock *);
    cr_time_ms (*wall)(struct cr_clock *);
};

/* The system's. Safe from any thread. */
struct cr_clock *cr_clock_system(void);

static inline cr_boot_ns cr_clock_boot(struct cr_clock *clock)
{
    return clock->boot(clock);
}

static inline cr_time_ms cr_clock_wall(struct cr_clock *clock)
{
    return clock->wall(clock);
}

/* A clock that stands still until it is moved. For tests and the simulator. */
struct cr_clock_fake {
    struct cr_clock clock;
    cr_boot_ns now_boot;
    cr_time_ms now_wall;
};
void cr_clock_fake_init(struct cr_clock_fake *fake, cr_time_ms wall);
void cr_clock_fake_advance(struct cr_clock_fake *fake, cr_span_ms span);

/* This boot's id (16 random bytes by the kernel). CR_E_IO where it cannot be read. */
CR_MUST_CHECK enum cr_status cr_boot_id(unsigned char out_id[16]);

/* `ns` after adding a span, without overflow; a negative span subtracts, down to 0. */
cr_boot_ns cr_boot_add(cr_boot_ns ns, cr_span_ms span);
/* Milliseconds from `from` to `to`, negative when `to` is earlier. */
cr_span_ms cr_boot_between(cr_boot_ns from, cr_boot_ns to);

#endif
