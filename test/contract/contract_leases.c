/* SPDX-License-Identifier: Apache-2.0 */
/* Contract: fenced leases (COORDINATION.md, R2, R3, R14). */
#include "contract.h"

#include <string.h>

#define TTL_MS 15000

static struct cr_lease_row lease_for(struct fixture *f, const char *label)
{
    struct cr_lease_row row = {.name = "nightly", .holder = ending_for(f, CR_REASON_NONE).identity};
    strncpy(row.label, label, sizeof row.label - 1);
    return row;
}

/* R2 */
static void a_lease_has_one_holder_at_a_time(void)
{
    struct fixture f;
    struct cr_lease_row read;
    if (!fixture_init(&f))
        return;
    struct cr_lease_row a = lease_for(&f, "a"), b = lease_for(&f, "b"), asked = b;
    CHECK_STATUS(cr_store_lease_read(f.store, a.name, &read), CR_NOT_FOUND);
    CHECK_STATUS(cr_store_lease_take(f.store, &a, TTL_MS), CR_OK);
    CHECK_UINT(a.fence, 1);
    CHECK_INT(a.left, TTL_MS);
    advance(&f, TTL_MS - 1);
    CHECK_STATUS(cr_store_lease_take(f.store, &asked, TTL_MS), CR_BUSY);
    CHECK_STR(asked.label, "a");
    CHECK_INT(asked.left, 1);
    CHECK_UINT(asked.fence, 1);
    advance(&f, 1);
    CHECK_STATUS(cr_store_lease_read(f.store, a.name, &read), CR_OK);
    CHECK(read.left <= 0);
    CHECK_STATUS(cr_store_lease_take(f.store, &b, TTL_MS), CR_OK);
    CHECK_UINT(b.fence, 2);
    CHECK_STATUS(cr_store_lease_read(f.store, a.name, &read), CR_OK);
    CHECK_STR(read.label, "b");
    CHECK_INT(read.left, TTL_MS);

    tap_row("another name");
    struct cr_lease_row other = lease_for(&f, "c");
    memset(other.name, 'x', CR_LEASE_NAME_BYTES_MAX);
    CHECK_STATUS(cr_store_lease_take(f.store, &other, TTL_MS), CR_OK);
    CHECK_UINT(other.fence, 1);
    fixture_fini(&f);
}

/* R3: every later write repeats the fence. */
static void a_holder_that_was_followed_can_neither_renew_nor_give(void)
{
    struct fixture f;
    struct cr_lease_row read;
    if (!fixture_init(&f))
        return;
    struct cr_lease_row a = lease_for(&f, "a"), b = lease_for(&f, "b");
    CHECK_STATUS(cr_store_lease_renew(f.store, &a, TTL_MS), CR_LOST);
    CHECK_STATUS(cr_store_lease_give(f.store, &a), CR_LOST);
    CHECK_STATUS(cr_store_lease_take(f.store, &a, TTL_MS), CR_OK);
    advance(&f, TTL_MS);
    CHECK_STATUS(cr_store_lease_take(f.store, &b, TTL_MS), CR_OK);
    CHECK_STATUS(cr_store_lease_renew(f.store, &a, TTL_MS), CR_LOST);
    CHECK_STATUS(cr_store_lease_give(f.store, &a), CR_LOST);
    a.fence = b.fence;
    CHECK_STATUS(cr_store_lease_renew(f.store, &a, TTL_MS), CR_LOST);
    CHECK_STATUS(cr_store_lease_give(f.store, &a), CR_LOST);
    CHECK_STATUS(cr_store_lease_read(f.store, a.name, &read), CR_OK);
    CHECK_STR(read.label, "b");
    CHECK_INT(read.left, TTL_MS);
    fixture_fini(&f);
}

static void a_lease_is_renewed_until_it_has_run_out(void)
{
    struct fixture f;
    struct cr_lease_row read;
    if (!fixture_init(&f))
        return;
    struct cr_lease_row a = lease_for(&f, "a");
    CHECK_STATUS(cr_store_lease_take(f.store, &a, TTL_MS), CR_OK);
    for (size_t i = 0; i < 4; i++) {
        advance(&f, TTL_MS - 1);
        CHECK_STATUS(cr_store_lease_renew(f.store, &a, TTL_MS), CR_OK);
    }
    CHECK_STATUS(cr_store_lease_read(f.store, a.name, &read), CR_OK);
    CHECK_INT(read.left, TTL_MS);
    CHECK_UINT(read.fence, 1);
    advance(&f, TTL_MS);
    CHECK_STATUS(cr_store_lease_renew(f.store, &a, TTL_MS), CR_LOST);
    fixture_fini(&f);
}

static void a_lease_that_is_given_back_is_free_and_its_fence_stays(void)
{
    struct fixture f;
    struct cr_lease_row read;
    if (!fixture_init(&f))
        return;
    struct cr_lease_row a = lease_for(&f, "a"), b = lease_for(&f, "b");
    CHECK_STATUS(cr_store_lease_take(f.store, &a, TTL_MS), CR_OK);
    CHECK_STATUS(cr_store_lease_give(f.store, &a), CR_OK);
    CHECK_STATUS(cr_store_lease_read(f.store, a.name, &read), CR_OK);
    CHECK(read.left <= 0);
    CHECK_UINT(read.fence, 1);
    CHECK_STATUS(cr_store_lease_renew(f.store, &a, TTL_MS), CR_LOST);
    CHECK_STATUS(cr_store_lease_take(f.store, &b, TTL_MS), CR_OK);
    CHECK_UINT(b.fence, 2);
    fixture_fini(&f);
}

static void taking_ones_own_lease_again_raises_the_fence(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    struct cr_lease_row a = lease_for(&f, "a"), again = a;
    CHECK_STATUS(cr_store_lease_take(f.store, &a, TTL_MS), CR_OK);
    CHECK_STATUS(cr_store_lease_take(f.store, &again, TTL_MS), CR_OK);
    CHECK_UINT(again.fence, 2);
    CHECK_STATUS(cr_store_lease_renew(f.store, &a, TTL_MS), CR_LOST);
    fixture_fini(&f);
}

/* R14; the failure matrix's row 10. */
static void no_jump_of_the_wall_clock_frees_or_extends_a_lease(void)
{
    static const cr_span_ms jumps[] = {3600000, -3600000, -365 * DAY_MS, 365 * DAY_MS};
    struct fixture f;
    struct cr_lease_row read;
    if (!fixture_init(&f))
        return;
    struct cr_lease_row a = lease_for(&f, "a");
    CHECK_STATUS(cr_store_lease_take(f.store, &a, TTL_MS), CR_OK);
    for (size_t i = 0; i < 4; i++) {
        struct cr_lease_row b = lease_for(&f, "b");
        f.clock.now_wall += jumps[i];
        CHECK_STATUS(cr_store_lease_read(f.store, a.name, &read), CR_OK);
        CHECK_INT(read.left, TTL_MS);
        CHECK_STATUS(cr_store_lease_take(f.store, &b, TTL_MS), CR_BUSY);
    }
    f.clock.now_boot += TTL_MS * CR_NS_PER_MS;
    CHECK_STATUS(cr_store_lease_renew(f.store, &a, TTL_MS), CR_LOST);
    fixture_fini(&f);
}

static const struct tap_test tests[] = {
    TAP_TEST(a_lease_has_one_holder_at_a_time),
    TAP_TEST(a_holder_that_was_followed_can_neither_renew_nor_give),
    TAP_TEST(a_lease_is_renewed_until_it_has_run_out),
    TAP_TEST(a_lease_that_is_given_back_is_free_and_its_fence_stays),
    TAP_TEST(taking_ones_own_lease_again_raises_the_fence),
    TAP_TEST(no_jump_of_the_wall_clock_frees_or_extends_a_lease),
};
const struct contract_part contract_leases = CONTRACT_PART(tests);
