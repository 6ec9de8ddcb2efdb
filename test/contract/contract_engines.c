/* SPDX-License-Identifier: Apache-2.0 */
/* Contract: registration and poll (rules 5 and 6). */
#include "contract.h"

#include <string.h>

#include "store/record.h"

static struct cr_engine_row engine_for(struct fixture *f)
{
    struct cr_engine_row row = {
        .position = 1, .lease = 5000, .grace = 100, .label = "host 1, pid 4711"};
    row.identity = ending_for(f, CR_REASON_NONE).identity;
    return row;
}

static void registered_engines_are_listed(void)
{
    struct fixture f;
    struct cr_engine_row list[8];
    size_t count;
    if (!fixture_init(&f))
        return;
    CHECK_STATUS(cr_store_engine_list(f.store, list, 8, &count), CR_OK);
    CHECK_UINT(count, 0);
    struct cr_engine_row a = engine_for(&f), b = engine_for(&f);
    a.beat = 7;
    CHECK_STATUS(cr_store_engine_register(f.store, &a), CR_OK);
    CHECK_STATUS(cr_store_engine_register(f.store, &b), CR_OK);
    CHECK_STATUS(cr_store_engine_register(f.store, &b), CR_CONFLICT);
    CHECK_STATUS(cr_store_engine_list(f.store, list, 8, &count), CR_OK);
    if (CHECK_UINT(count, 2)) {
        const struct cr_engine_row *got =
            cr_ending_id_equal(&list[0].identity, &a.identity) ? &list[0] : &list[1];
        CHECK(cr_ending_id_equal(&got->identity, &a.identity));
        CHECK_UINT(got->beat, 7);
        CHECK_UINT(got->position, 1);
        CHECK_INT(got->lease, 5000);
        CHECK_INT(got->grace, 100);
        CHECK_STR(got->label, a.label);
    }
    CHECK_STATUS(cr_store_engine_list(f.store, list, 1, &count), CR_E_LIMIT);
    CHECK_UINT(count, 1);
    fixture_fini(&f);
}

static void a_poll_raises_the_beat_and_reads_from_its_position(void)
{
    struct fixture f;
    struct cr_poll poll = {0};
    struct cr_engine_row list[1];
    struct cr_log_row row;
    size_t count;
    if (!fixture_init(&f))
        return;
    struct cr_engine_row engine = engine_for(&f);
    CHECK_STATUS(cr_store_engine_register(f.store, &engine), CR_OK);
    for (size_t i = 0; i < 5; i++) {
        struct cr_ending ending = ending_for(&f, CR_REASON_EVERYBODY);
        CHECK_STATUS(cr_store_end_all(f.store, &ending, &row), CR_OK);
    }
    CHECK_STATUS(cr_store_engine_poll(f.store, &engine, 4, &poll), CR_OK);
    CHECK_UINT(engine.beat, 1);
    CHECK_UINT(poll.rows.count, 4);
    CHECK(!poll.at_end);
    engine.position = 4;
    CHECK_STATUS(cr_store_engine_poll(f.store, &engine, 3, &poll), CR_OK);
    CHECK_UINT(engine.beat, 2);
    if (CHECK_UINT(poll.rows.count, 3))
        CHECK_UINT(poll.rows.rows[0].number, 4);
    CHECK(poll.at_end);
    CHECK_STATUS(cr_store_engine_list(f.store, list, 1, &count), CR_OK);
    CHECK_UINT(list[0].beat, 2);
    CHECK_UINT(list[0].position, 4);

    tap_row("a position past the end, as after a restore");
    engine.position = 100;
    CHECK_STATUS(cr_store_engine_poll(f.store, &engine, 3, &poll), CR_OK);
    CHECK_UINT(poll.rows.count, 0);
    CHECK(poll.at_end);
    cr_log_rows_fini(&poll.rows);
    fixture_fini(&f);
}

static void a_poll_of_a_replaced_engine_changes_nothing(void)
{
    struct fixture f;
    struct cr_poll poll = {0};
    struct cr_engine_row list[1];
    size_t count;
    if (!fixture_init(&f))
        return;
    struct cr_engine_row engine = engine_for(&f), stale, never = engine_for(&f);
    CHECK_STATUS(cr_store_engine_register(f.store, &engine), CR_OK);
    stale = engine;
    CHECK_STATUS(cr_store_engine_poll(f.store, &engine, 10, &poll), CR_OK);
    stale.position = 1000;
    CHECK_STATUS(cr_store_engine_poll(f.store, &stale, 10, &poll), CR_CONFLICT);
    CHECK_UINT(stale.beat, 0);
    CHECK_UINT(poll.rows.count, 0);
    CHECK(!poll.at_end);
    CHECK_STATUS(cr_store_engine_poll(f.store, &never, 10, &poll), CR_CONFLICT);
    CHECK_STATUS(cr_store_engine_list(f.store, list, 1, &count), CR_OK);
    CHECK_UINT(list[0].beat, 1);
    CHECK_UINT(list[0].position, 1);
    cr_log_rows_fini(&poll.rows);
    fixture_fini(&f);
}

static void an_engine_is_removed_only_with_the_beat_that_was_seen(void)
{
    struct fixture f;
    struct cr_poll poll = {0};
    struct cr_engine_row list[1];
    size_t count;
    if (!fixture_init(&f))
        return;
    struct cr_engine_row engine = engine_for(&f);
    CHECK_STATUS(cr_store_engine_register(f.store, &engine), CR_OK);
    CHECK_STATUS(cr_store_engine_poll(f.store, &engine, 10, &poll), CR_OK);
    CHECK_STATUS(cr_store_engine_remove(f.store, &engine.identity, 0), CR_CONFLICT);
    CHECK_STATUS(cr_store_engine_list(f.store, list, 1, &count), CR_OK);
    CHECK_UINT(count, 1);
    CHECK_STATUS(cr_store_engine_remove(f.store, &engine.identity, 1), CR_OK);
    CHECK_STATUS(cr_store_engine_remove(f.store, &engine.identity, 1), CR_CONFLICT);
    CHECK_STATUS(cr_store_engine_list(f.store, list, 1, &count), CR_OK);
    CHECK_UINT(count, 0);
    CHECK_STATUS(cr_store_engine_poll(f.store, &engine, 10, &poll), CR_CONFLICT);
    cr_log_rows_fini(&poll.rows);
    fixture_fini(&f);
}

static const struct tap_test tests[] = {
    TAP_TEST(registered_engines_are_listed),
    TAP_TEST(a_poll_raises_the_beat_and_reads_from_its_position),
    TAP_TEST(a_poll_of_a_replaced_engine_changes_nothing),
    TAP_TEST(an_engine_is_removed_only_with_the_beat_that_was_seen),
};
const struct contract_part contract_engines = CONTRACT_PART(tests);
