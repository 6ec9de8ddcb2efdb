/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leases under a clock that stands still until it is moved: two processes ("hosts"), each with an
 * engine and a loop of its own, over one memory store. A host whose loop is not run is stopped.
 */
#include "coord/lease.h"

#include <stdlib.h>
#include <string.h>

#include "tap.h"

#define HOLDERS_MAX 4
#define TRUST_MS (CR_LEASE_TTL_MS - CR_LEASE_TTL_MS / 10)

struct host {
    struct cr_loop *loop;
    struct cr_fault_plan plan;
    struct cr_engine *engine;
    struct cr_leases *leases;
    struct cr_random_seeded random;
    struct cr_clock *clock;
};

struct world {
    struct cr_clock_fake clock;
    struct cr_store_env env;
    struct cr_random_seeded random;
    struct host hosts[2];
};

struct holder {
    struct cr_holding *holding; /* NULL: it has none */
    struct host *host;
    int taken;             /* how often it was told */
    enum cr_status status; /* what */
    uint64_t fence;
    cr_boot_ns trusted_until; /* 0: it has nothing, or lost it */
    int renewals, losses;
    int order; /* which of all it was that took */
    bool checks_fence;
};
/* Of all holders; reset by each test. */
static int order_next;
static uint64_t fence_last;

static void holder_taken(void *context, enum cr_status status, uint64_t fence,
                         cr_boot_ns trusted_until)
{
    struct holder *h = context;
    h->taken++;
    h->status = status;
    h->fence = fence;
    h->trusted_until = trusted_until;
    if (status != CR_OK) {
        h->holding = NULL;
        return;
    }
    h->order = ++order_next;
    if (h->checks_fence) {
        CHECK(fence > fence_last);
        fence_last = fence;
    }
}

static void holder_renewed(void *context, cr_boot_ns trusted_until)
{
    struct holder *h = context;
    CHECK(trusted_until == 0 || trusted_until > h->trusted_until);
    h->trusted_until = trusted_until;
    if (trusted_until != 0) {
        h->renewals++;
        return;
    }
    h->losses++;
    h->holding = NULL;
}

static const struct cr_holding_events holder_events = {holder_taken, holder_renewed};

static void host_open(struct world *w, struct host *host, uint64_t seed)
{
    struct cr_store *inner = NULL;
    struct cr_store *store = NULL;
    struct cr_error error = {.size = sizeof error};
    host->plan = (struct cr_fault_plan){.kind = CR_FAULT_NONE};
    host->clock = &w->clock.clock;
    cr_random_seeded_init(&host->random, seed);
    CHECK_STATUS(cr_loop_inline_create(host->clock, &host->loop), CR_OK);
    CHECK_STATUS(cr_store_open("memory:test_lease", &w->env, &inner, &error), CR_OK);
    CHECK_STATUS(cr_store_fault_create(inner, &host->plan, &store), CR_OK);
    struct cr_engine_options options = {.loop = host->loop,
                                        .random = &host->random.random,
                                        .store = store,
                                        .realm = "cloakroom",
                                        .label = "test",
                                        .cache = CR_CACHE_NONE};
    if (!CHECK_STATUS(cr_engine_create(&options, &host->engine, &error), CR_OK)) {
        tap_note("%s", error.text);
        abort();
    }
    CHECK_STATUS(cr_leases_create(host->engine, &host->leases), CR_OK);
}

static void host_close(struct host *host)
{
    host->plan.kind = CR_FAULT_NONE;
    cr_leases_destroy(host->leases);
    cr_engine_destroy(host->engine);
    cr_loop_inline_destroy(host->loop);
}

static void world_open(struct world *w)
{
    memset(w, 0, sizeof *w);
    order_next = 0;
    fence_last = 0;
    cr_clock_fake_init(&w->clock, 1700000000000);
    cr_random_seeded_init(&w->random, 1);
    w->env = (struct cr_store_env){.clock = &w->clock.clock, .random = &w->random.random};
    host_open(w, &w->hosts[0], 11);
    host_open(w, &w->hosts[1], 12);
}

static void world_close(struct world *w)
{
    host_close(&w->hosts[0]);
    host_close(&w->hosts[1]);
}

/* Moves the clock by `span`; timers fire at their instants, but on the hosts in `running` only. */
static void world_run(struct world *w, cr_span_ms span, unsigned running)
{
    cr_boot_ns end = cr_boot_add(cr_clock_boot(&w->clock.clock), span);
    for (;;) {
        cr_boot_ns next = CR_BOOT_NEVER;
        for (unsigned i = 0; i < 2; i++) {
            if ((running & (1u << i)) == 0)
                continue;
            cr_boot_ns due = cr_loop_inline_run(w->hosts[i].loop);
            next = due < next ? due : next;
        }
        if (next > end)
            break;
        /* Whole milliseconds, so that the wall clock goes along. */
        cr_span_ms step = cr_boot_between(cr_clock_boot(&w->clock.clock), next);
        cr_clock_fake_advance(&w->clock, step < 1 ? 1 : step);
        if (cr_clock_boot(&w->clock.clock) >= end)
            break;
    }
    cr_span_ms rest = cr_boot_between(cr_clock_boot(&w->clock.clock), end);
    if (rest > 0)
        cr_clock_fake_advance(&w->clock, rest);
    for (unsigned i = 0; i < 2; i++)
        if ((running & (1u << i)) != 0)
            (void)cr_loop_inline_run(w->hosts[i].loop);
}

static void holder_take(struct holder *h, struct host *host, const char *name, cr_span_ms wait)
{
    *h = (struct holder){.host = host, .status = CR_ASK, .checks_fence = name[0] == 'x'};
    enum cr_status st =
        cr_holding_take(host->leases, name, "test", wait, &holder_events, h, &h->holding);
    CHECK_STATUS(st, CR_OK);
}

static void holder_give(struct holder *h)
{
    cr_holding_give(h->holding);
    h->holding = NULL;
    h->trusted_until = 0;
}

static void a_lease_is_one_holders_and_the_next_has_a_higher_fence(void)
{
    struct world w;
    struct holder a, b;
    world_open(&w);
    holder_take(&a, &w.hosts[0], "x", 0);
    CHECK_STATUS(a.status, CR_OK);
    CHECK(a.fence > 0);
    CHECK_INT(cr_boot_between(cr_clock_boot(&w.clock.clock), a.trusted_until), TRUST_MS);
    for (int i = 0; i < 2; i++) {
        holder_take(&b, &w.hosts[i], "x", 0);
        CHECK_STATUS(b.status, CR_BUSY);
    }
    holder_take(&b, &w.hosts[1], "y", 0);
    CHECK_STATUS(b.status, CR_OK);
    holder_give(&b);
    uint64_t fence = a.fence;
    for (int i = 0; i < 4; i++) {
        holder_give(&a);
        holder_take(&a, &w.hosts[i % 2], "x", 0);
        CHECK_STATUS(a.status, CR_OK);
        CHECK(a.fence > fence);
        fence = a.fence;
    }
    world_close(&w);
}

static void the_name_of_a_lease_has_1_to_128_bytes(void)
{
    struct world w;
    struct cr_holding *holding = NULL;
    struct holder h = {0};
    char name[CR_LEASE_NAME_BYTES_MAX + 2];
    world_open(&w);
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = '\0';
    CHECK_STATUS(cr_holding_take(w.hosts[0].leases, name, "t", 0, &holder_events, &h, &holding),
                 CR_E_INVALID);
    CHECK_STATUS(cr_holding_take(w.hosts[0].leases, "", "t", 0, &holder_events, &h, &holding),
                 CR_E_INVALID);
    CHECK_INT(h.taken, 0);
    holder_take(&h, &w.hosts[0], name + 1, 0);
    CHECK_STATUS(h.status, CR_OK);
    world_close(&w);
}

static void waiters_of_one_process_are_served_in_order(void)
{
    struct world w;
    struct holder h[4];
    world_open(&w);
    for (int i = 0; i < 4; i++)
        holder_take(&h[i], &w.hosts[0], "x", 60000);
    CHECK_INT(h[0].order, 1);
    for (int i = 0; i < 4; i++) {
        CHECK_INT(h[i].taken, 1);
        CHECK_INT(h[i].order, i + 1);
        if (i < 3)
            CHECK_INT(h[i + 1].taken, 0);
        if (i > 0)
            CHECK(h[i].fence > h[i - 1].fence);
        holder_give(&h[i]); /* and the next has it at once */
    }
    world_close(&w);
}

static void who_stops_waiting_is_passed_over(void)
{
    struct world w;
    struct holder a, b, c;
    world_open(&w);
    holder_take(&a, &w.hosts[0], "x", 0);
    holder_take(&b, &w.hosts[0], "x", 60000);
    holder_take(&c, &w.hosts[0], "x", 60000);
    holder_give(&b);
    holder_give(&a);
    CHECK_INT(b.taken, 0);
    CHECK_STATUS(c.status, CR_OK);
    world_close(&w);
}

static void a_waiter_of_another_process_has_it_within_a_second(void)
{
    struct world w;
    struct holder a, b;
    world_open(&w);
    holder_take(&a, &w.hosts[0], "x", 0);
    holder_take(&b, &w.hosts[1], "x", 60000);
    world_run(&w, 30000, 3);
    CHECK_INT(b.taken, 0);
    CHECK_INT(a.losses, 0);
    holder_give(&a);
    world_run(&w, 1000, 3);
    CHECK_STATUS(b.status, CR_OK);
    CHECK(b.fence > a.fence);
    world_close(&w);
}

static void waiting_ends_when_it_was_to_end(void)
{
    struct world w;
    struct holder a, b, c;
    world_open(&w);
    holder_take(&a, &w.hosts[0], "x", 0);
    holder_take(&b, &w.hosts[1], "x", 3500); /* asks the store */
    holder_take(&c, &w.hosts[0], "x", 3500); /* is behind another of its own process */
    world_run(&w, 3499, 3);
    CHECK_INT(b.taken + c.taken, 0);
    world_run(&w, 1, 3);
    CHECK_STATUS(b.status, CR_BUSY);
    CHECK_STATUS(c.status, CR_BUSY);
    CHECK(b.holding == NULL && c.holding == NULL);
    world_close(&w);
}

static void a_lease_is_renewed_for_as_long_as_it_is_held(void)
{
    struct world w;
    struct holder a;
    world_open(&w);
    holder_take(&a, &w.hosts[0], "x", 0);
    for (int i = 0; i < 300; i++) {
        world_run(&w, 1000, 3);
        CHECK(a.trusted_until > cr_clock_boot(&w.clock.clock));
    }
    CHECK_INT(a.losses, 0);
    CHECK_INT(a.renewals, 300000 / CR_LEASE_RENEW_MS);
    world_close(&w);
}

static void without_the_store_trust_ends_by_itself(void)
{
    struct world w;
    struct holder a, b;
    world_open(&w);
    holder_take(&a, &w.hosts[0], "x", 0);
    w.hosts[0].plan = (struct cr_fault_plan){.kind = CR_FAULT_UNAVAILABLE, .count = UINT64_MAX};
    world_run(&w, TRUST_MS - 1, 3);
    CHECK_INT(a.losses, 0);
    world_run(&w, 1, 3);
    CHECK_INT(a.losses, 1);
    CHECK(a.trusted_until == 0);
    /* The other host cannot have it before the lease has run out, and then at once. */
    holder_take(&b, &w.hosts[1], "x", 0);
    CHECK_STATUS(b.status, CR_BUSY);
    holder_take(&b, &w.hosts[1], "x", 5000);
    world_run(&w, CR_LEASE_TTL_MS - TRUST_MS + 1000, 3);
    CHECK_STATUS(b.status, CR_OK);
    CHECK(b.fence > a.fence);
    world_close(&w);
}

static void a_renewal_that_failed_for_a_while_loses_nothing(void)
{
    struct world w;
    struct holder a;
    world_open(&w);
    holder_take(&a, &w.hosts[0], "x", 0);
    for (int i = 0; i < 5; i++) {
        w.hosts[0].plan = (struct cr_fault_plan){.kind = CR_FAULT_UNAVAILABLE, .count = UINT64_MAX};
        world_run(&w, 8000, 3);
        w.hosts[0].plan.kind = CR_FAULT_NONE;
        world_run(&w, 4000, 3);
    }
    CHECK_INT(a.losses, 0);
    CHECK(a.trusted_until > cr_clock_boot(&w.clock.clock));
    world_close(&w);
}

/* COORDINATION's row 5: it goes on after its lease was another's. */
static void a_stopped_holder_learns_that_it_lost_when_it_goes_on(void)
{
    struct world w;
    struct holder a, b;
    world_open(&w);
    holder_take(&a, &w.hosts[0], "x", 0);
    holder_take(&b, &w.hosts[1], "x", 60000);
    world_run(&w, CR_LEASE_TTL_MS + 1000, 2);
    CHECK_STATUS(b.status, CR_OK);
    CHECK(b.fence > a.fence);
    /* It was told nothing yet, but its trust has run out by its own clock. */
    CHECK_INT(a.losses, 0);
    CHECK(a.trusted_until < cr_clock_boot(&w.clock.clock));
    world_run(&w, 0, 3);
    CHECK_INT(a.losses, 1);
    CHECK_INT(a.renewals, 0);
    world_run(&w, 20000, 3);
    CHECK_INT(b.losses, 0); /* what the late one gave back was not its any more */
    world_close(&w);
}

static void a_take_whose_outcome_was_lost_is_settled(void)
{
    static const enum cr_fault_kind kinds[] = {CR_FAULT_LOST, CR_FAULT_NOT_MADE};
    for (size_t i = 0; i < 2; i++) {
        struct world w;
        struct holder a, b;
        tap_row(i == 0 ? "it was made" : "it was not made");
        world_open(&w);
        w.hosts[0].plan =
            (struct cr_fault_plan){.kind = kinds[i], .count = 1, .commits_only = true};
        holder_take(&a, &w.hosts[0], "x", 10000);
        CHECK_INT(a.taken, 0);
        world_run(&w, 1000, 3);
        CHECK_STATUS(a.status, CR_OK);
        CHECK(a.fence > 0);
        CHECK(a.trusted_until > cr_clock_boot(&w.clock.clock));
        holder_take(&b, &w.hosts[1], "x", 0);
        CHECK_STATUS(b.status, CR_BUSY);
        world_close(&w);
    }
}

static void who_stops_waiting_for_a_lost_outcome_leaves_nothing_behind(void)
{
    struct world w;
    struct holder a, b;
    world_open(&w);
    w.hosts[0].plan =
        (struct cr_fault_plan){.kind = CR_FAULT_LOST, .count = 1, .commits_only = true};
    holder_take(&a, &w.hosts[0], "x", 10000);
    holder_give(&a);
    holder_take(&b, &w.hosts[1], "x", 0);
    CHECK_STATUS(b.status, CR_OK);
    world_close(&w);
}

static void what_could_not_be_given_back_is_given_back_later(void)
{
    struct world w;
    struct holder a, b;
    world_open(&w);
    holder_take(&a, &w.hosts[0], "x", 0);
    w.hosts[0].plan = (struct cr_fault_plan){.kind = CR_FAULT_UNAVAILABLE, .count = UINT64_MAX};
    holder_give(&a);
    world_run(&w, 2500, 3);
    w.hosts[0].plan.kind = CR_FAULT_NONE;
    world_run(&w, 1000, 3);
    holder_take(&b, &w.hosts[1], "x", 0);
    CHECK_STATUS(b.status, CR_OK);
    world_close(&w);
}

static void a_process_that_ends_well_gives_everything_back(void)
{
    struct world w;
    struct holder a, b, c;
    world_open(&w);
    holder_take(&a, &w.hosts[0], "x", 0);
    holder_take(&b, &w.hosts[0], "x", 60000);
    cr_leases_destroy(w.hosts[0].leases);
    w.hosts[0].leases = NULL;
    CHECK_INT(b.taken, 0);
    holder_take(&c, &w.hosts[1], "x", 0);
    CHECK_STATUS(c.status, CR_OK);
    world_close(&w);
}

static void closed(void *context)
{
    ++*(int *)context;
}

static void a_clean_stop_is_told_when_the_store_has_everything_back(void)
{
    struct world w;
    struct holder a, b, c;
    int count = 0;
    world_open(&w);
    holder_take(&a, &w.hosts[0], "x", 0);
    holder_take(&b, &w.hosts[0], "y", 0);
    holder_take(&c, &w.hosts[0], "x", 60000);
    cr_leases_close(w.hosts[0].leases, closed, &count);
    CHECK_INT(count, 1);
    CHECK_INT(c.taken + a.losses + b.losses, 0); /* nobody is told */
    CHECK_STATUS(cr_holding_take(w.hosts[0].leases, "z", "t", 0, &holder_events, &c, &c.holding),
                 CR_UNAVAILABLE);
    holder_take(&a, &w.hosts[1], "x", 0);
    holder_take(&b, &w.hosts[1], "y", 0);
    CHECK_STATUS(a.status, CR_OK);
    CHECK_STATUS(b.status, CR_OK);
    cr_leases_close(w.hosts[1].leases, closed, &count);
    CHECK_INT(count, 2);
    world_close(&w);
}

/* Whatever happens: no two trust at one instant, and fences rise in the order of taking. */
static void no_two_trust_one_lease_and_fences_rise(void)
{
    struct world w;
    struct holder holders[HOLDERS_MAX] = {0};
    world_open(&w);
    for (int step = 0; step < 4000; step++) {
        struct holder *h = &holders[tap_random_below(HOLDERS_MAX)];
        struct host *host = &w.hosts[tap_random_below(2)];
        switch (tap_random_below(8)) {
        case 0:
        case 1:
            if (h->holding == NULL)
                holder_take(h, host, "x", (cr_span_ms)tap_random_below(20000));
            break;
        case 2:
            if (h->holding != NULL)
                holder_give(h);
            break;
        case 3:
            host->plan = (struct cr_fault_plan){
                .kind = (enum cr_fault_kind[]){CR_FAULT_NONE, CR_FAULT_UNAVAILABLE, CR_FAULT_LOST,
                                               CR_FAULT_NOT_MADE}[tap_random_below(4)],
                .after = tap_random_below(3),
                .count = tap_random_below(4)};
            host->plan.commits_only = host->plan.kind != CR_FAULT_UNAVAILABLE;
            break;
        default:
            world_run(&w, (cr_span_ms)tap_random_below(4000), 1 + (unsigned)tap_random_below(3));
        }
        int trusting = 0;
        cr_boot_ns now = cr_clock_boot(&w.clock.clock);
        for (int i = 0; i < HOLDERS_MAX; i++)
            trusting += holders[i].trusted_until > now;
        CHECK(trusting <= 1);
    }
    tap_note("%d were served, up to fence %llu", order_next, (unsigned long long)fence_last);
    CHECK(order_next > 50);
    world_close(&w);
}

static const struct tap_test tests[] = {
    TAP_TEST(a_lease_is_one_holders_and_the_next_has_a_higher_fence),
    TAP_TEST(the_name_of_a_lease_has_1_to_128_bytes),
    TAP_TEST(waiters_of_one_process_are_served_in_order),
    TAP_TEST(who_stops_waiting_is_passed_over),
    TAP_TEST(a_waiter_of_another_process_has_it_within_a_second),
    TAP_TEST(waiting_ends_when_it_was_to_end),
    TAP_TEST(a_lease_is_renewed_for_as_long_as_it_is_held),
    TAP_TEST(without_the_store_trust_ends_by_itself),
    TAP_TEST(a_renewal_that_failed_for_a_while_loses_nothing),
    TAP_TEST(a_stopped_holder_learns_that_it_lost_when_it_goes_on),
    TAP_TEST(a_take_whose_outcome_was_lost_is_settled),
    TAP_TEST(who_stops_waiting_for_a_lost_outcome_leaves_nothing_behind),
    TAP_TEST(what_could_not_be_given_back_is_given_back_later),
    TAP_TEST(a_process_that_ends_well_gives_everything_back),
    TAP_TEST(a_clean_stop_is_told_when_the_store_has_everything_back),
    TAP_TEST(no_two_trust_one_lease_and_fences_rise),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
