/* SPDX-License-Identifier: Apache-2.0 */
/* Contract: the revocation log. */
#include "contract.h"

#include <stdio.h>
#include <string.h>

#include "store/record.h"

static void an_empty_log_has_a_first_row(void)
{
    struct fixture f;
    struct cr_log_row last;
    struct cr_log_rows rows = {0};
    if (!fixture_init(&f))
        return;
    CHECK_STATUS(cr_store_log_last(f.store, &last), CR_OK);
    CHECK_UINT(last.number, 1);
    CHECK_INT(last.kind, CR_LOG_FIRST);
    CHECK(!cr_ending_id_is_zero(&last.identity));
    CHECK_STATUS(cr_store_log_read(f.store, 1, 10, &rows), CR_OK);
    if (CHECK_UINT(rows.count, 1))
        CHECK(cr_ending_id_equal(&rows.rows[0].identity, &last.identity));
    CHECK_STATUS(cr_store_log_read(f.store, 2, 10, &rows), CR_OK);
    CHECK_UINT(rows.count, 0);
    cr_log_rows_fini(&rows);
    fixture_fini(&f);
}

/* Batches that are given up between others, and calls that fail within one. */
static void numbers_have_no_gap_and_follow_the_commits(void)
{
    struct fixture f;
    struct cr_log_row row;
    struct cr_log_rows rows = {0};
    uint64_t committed = 1;
    if (!fixture_init(&f))
        return;
    struct cr_user anna = user_named("anna"), nobody = user_named("nobody");
    (void)session_for(&f, "anna");
    for (size_t i = 0; i < 40; i++) {
        bool give_up = tap_random_below(3) == 0;
        uint64_t number = committed;
        CHECK_STATUS(cr_store_begin(f.store), CR_OK);
        for (uint64_t n = tap_random_below(4); n > 0; n--) {
            struct cr_ending ending = ending_for(&f, CR_REASON_ADMIN);
            CHECK_STATUS(cr_store_end_user(f.store, &nobody, &ending, &row), CR_UNKNOWN_USER);
            CHECK_STATUS(cr_store_end_user(f.store, &anna, &ending, &row), CR_OK);
            CHECK_UINT(row.number, ++number);
        }
        if (give_up)
            cr_store_rollback(f.store);
        else
            CHECK_STATUS(cr_store_commit(f.store), CR_OK);
        committed = give_up ? committed : number;
    }
    CHECK_UINT(log_count(&f), committed);
    CHECK_STATUS(cr_store_log_read(f.store, 1, 1000, &rows), CR_OK);
    CHECK_UINT(rows.count, committed);
    for (size_t i = 0; i < rows.count; i++)
        CHECK_UINT(rows.rows[i].number, i + 1);
    cr_log_rows_fini(&rows);
    fixture_fini(&f);
}

static void the_log_is_read_from_a_number_on(void)
{
    struct fixture f;
    struct cr_log_row row;
    struct cr_log_rows rows = {0};
    if (!fixture_init(&f))
        return;
    for (size_t i = 0; i < 9; i++) {
        struct cr_ending ending = ending_for(&f, CR_REASON_EVERYBODY);
        CHECK_STATUS(cr_store_end_all(f.store, &ending, &row), CR_OK);
    }
    CHECK_STATUS(cr_store_log_read(f.store, 4, 3, &rows), CR_OK);
    if (CHECK_UINT(rows.count, 3)) {
        CHECK_UINT(rows.rows[0].number, 4);
        CHECK_UINT(rows.rows[2].number, 6);
        CHECK_UINT(rows.rows[2].generation, 6);
    }
    CHECK_STATUS(cr_store_log_read(f.store, 10, 100, &rows), CR_OK);
    CHECK_UINT(rows.count, 1);

    tap_row("rows that were swept");
    advance(&f, CR_REMEMBER_MS);
    size_t count;
    CHECK_STATUS(cr_store_sweep(f.store, 4, &count), CR_OK);
    CHECK_UINT(count, 4);
    CHECK_STATUS(cr_store_log_read(f.store, 1, 100, &rows), CR_OK);
    CHECK_UINT(rows.count, 6);
    CHECK_UINT(rows.rows[0].number, 5);
    cr_log_rows_fini(&rows);
    fixture_fini(&f);
}

static void an_ending_is_found_by_its_identity(void)
{
    struct fixture f;
    struct cr_log_row row, found;
    if (!fixture_init(&f))
        return;
    struct cr_ending ending = ending_for(&f, CR_REASON_EVERYBODY);
    CHECK_STATUS(cr_store_log_find(f.store, &ending.identity, &found), CR_NOT_FOUND);
    CHECK_STATUS(cr_store_end_all(f.store, &ending, &row), CR_OK);
    CHECK_STATUS(cr_store_log_find(f.store, &ending.identity, &found), CR_OK);
    CHECK_UINT(found.number, row.number);
    CHECK_STR(found.by, "a test");
    fixture_fini(&f);
}

/* The row that ended each of these, told by its number. */
static void the_log_says_what_ended_a_session(void)
{
    struct fixture f;
    struct cr_log_row row, about;
    struct cr_record record;
    if (!fixture_init(&f))
        return;
    struct cr_session_id one = session_for(&f, "anna"), by_user = session_for(&f, "anna"),
                         by_all = session_for(&f, "bert"), anonymous = session_for(&f, NULL);
    struct cr_user anna = user_named("anna"), bert = user_named("bert");
    struct cr_ending endings[5];
    for (size_t i = 0; i < 5; i++)
        endings[i] = ending_for(&f, CR_REASON_ADMIN);
    CHECK_STATUS(cr_store_end(f.store, &one, &endings[0], &row), CR_OK);
    CHECK_STATUS(cr_store_end_user(f.store, &anna, &endings[1], &row), CR_OK);
    CHECK_STATUS(cr_store_end_user(f.store, &anna, &endings[2], &row), CR_OK);
    CHECK_STATUS(cr_store_end_all(f.store, &endings[3], &row), CR_OK);
    CHECK_STATUS(cr_store_end_user(f.store, &bert, &endings[4], &row), CR_OK);

    CHECK_STATUS(cr_store_log_about(f.store, &one, NULL, &about), CR_OK);
    CHECK_UINT(about.number, 2);
    const struct cr_session_id *dead[] = {&by_user, &by_all, &anonymous};
    const uint64_t numbers[] = {3, 5, 5};
    for (size_t i = 0; i < 3; i++) {
        CHECK_STATUS(cr_store_find(f.store, dead[i], &record), CR_OK);
        CHECK_STATUS(cr_store_log_about(f.store, dead[i], &record, &about), CR_OK);
        CHECK_UINT(about.number, numbers[i]);
        CHECK_STATUS(cr_store_log_about(f.store, dead[i], NULL, &about), CR_NOT_FOUND);
    }
    struct cr_session_id live = session_for(&f, "anna");
    CHECK_STATUS(cr_store_find(f.store, &live, &record), CR_OK);
    CHECK_STATUS(cr_store_log_about(f.store, &live, &record, &about), CR_NOT_FOUND);
    fixture_fini(&f);
}

/* From where, and of the session that is gone: when it began and was last seen. */
static void a_log_row_keeps_all_that_explains_the_ending(void)
{
    struct fixture f;
    struct cr_log_row row, about;
    struct cr_record record;
    struct cr_session_id second;
    if (!fixture_init(&f))
        return;
    struct cr_session_id one = session_for(&f, "anna");
    CHECK_STATUS(cr_store_find(f.store, &one, &record), CR_OK);
    advance(&f, 5000);
    struct cr_seen seen = {.id = one, .ago = 2000};
    CHECK_STATUS(cr_store_seen(f.store, &seen, 1), CR_OK);
    struct cr_ending ending = ending_for(&f, CR_REASON_DEVICE);
    CHECK_STATUS(cr_store_end(f.store, &one, &ending, &row), CR_OK);
    CHECK_STATUS(cr_store_log_about(f.store, &one, NULL, &about), CR_OK);
    CHECK_INT(about.reason, CR_REASON_DEVICE);
    CHECK_INT(about.created_at, record.created_at);
    CHECK_INT(about.seen_at, record.created_at + 3000);
    CHECK_INT(about.at, record.created_at + 5000);
    CHECK_STR(about.from.address, "");

    tap_row("a login that replaces");
    struct cr_session_id other = session_for(&f, "anna");
    struct cr_record login_record = record_for(&f, "anna");
    struct cr_create_terms terms = {.replace = true, .ending = ending_for(&f, CR_REASON_REPLACED)};
    struct cr_log_rows rows = {0};
    (void)snprintf(terms.ending.from.address, sizeof terms.ending.from.address, "203.0.113.7");
    memset(terms.ending.from.agent, 'a', CR_AGENT_CHARS_MAX);
    CHECK_STATUS(cr_store_create(f.store, &login_record, &terms, &rows), CR_OK);
    second = login_record.id;
    CHECK_STATUS(cr_store_find(f.store, &other, &record), CR_OK);
    CHECK_STATUS(cr_store_log_about(f.store, &other, &record, &about), CR_OK);
    CHECK_INT(about.reason, CR_REASON_REPLACED);
    CHECK_STR(about.from.address, "203.0.113.7");
    CHECK_STR(about.from.agent, terms.ending.from.agent);
    CHECK_INT(about.created_at, 0);
    CHECK(is_live(&f, &second));

    tap_row("swept after seven days, not before");
    size_t count;
    advance(&f, CR_REMEMBER_MS - 5001);
    CHECK_STATUS(cr_store_sweep(f.store, 100, &count), CR_OK);
    CHECK_STATUS(cr_store_log_about(f.store, &one, NULL, &about), CR_OK);
    advance(&f, 5001);
    CHECK_STATUS(cr_store_sweep(f.store, 100, &count), CR_OK);
    CHECK_STATUS(cr_store_log_about(f.store, &one, NULL, &about), CR_NOT_FOUND);
    cr_log_rows_fini(&rows);
    fixture_fini(&f);
}

static void the_log_tells_the_rotations_of_one_session(void)
{
    struct fixture f;
    struct cr_log_row row;
    struct cr_log_rows rows = {0};
    uint64_t version, numbers[3];
    if (!fixture_init(&f))
        return;
    struct cr_session_id one = session_for(&f, "anna"), other = session_for(&f, "anna");
    CHECK_STATUS(cr_store_log_rotations(f.store, &one, 8, &rows), CR_OK);
    CHECK_UINT(rows.count, 0);
    for (size_t i = 0; i < 3; i++) {
        struct cr_change change = {.set_rights = true};
        change.ending = ending_for(&f, CR_REASON_NONE);
        CHECK_STATUS(cr_store_change(f.store, &one, &change, &version, &row), CR_OK);
        change.ending = ending_for(&f, CR_REASON_ROTATED);
        CHECK_STATUS(cr_store_change(f.store, &other, &change, &version, &row), CR_OK);
        change.ending = ending_for(&f, CR_REASON_ROTATED);
        advance(&f, 10);
        CHECK_STATUS(cr_store_change(f.store, &one, &change, &version, &row), CR_OK);
        numbers[i] = row.number;
    }
    CHECK_STATUS(cr_store_log_rotations(f.store, &one, 8, &rows), CR_OK);
    if (CHECK_UINT(rows.count, 3))
        for (size_t i = 0; i < 3; i++)
            CHECK_UINT(rows.rows[i].number, numbers[2 - i]);
    CHECK_STATUS(cr_store_log_rotations(f.store, &one, 2, &rows), CR_OK);
    if (CHECK_UINT(rows.count, 2))
        CHECK_UINT(rows.rows[1].number, numbers[1]);
    cr_log_rows_fini(&rows);
    fixture_fini(&f);
}

static const struct tap_test tests[] = {
    TAP_TEST(an_empty_log_has_a_first_row),
    TAP_TEST(numbers_have_no_gap_and_follow_the_commits),
    TAP_TEST(the_log_is_read_from_a_number_on),
    TAP_TEST(an_ending_is_found_by_its_identity),
    TAP_TEST(the_log_says_what_ended_a_session),
    TAP_TEST(a_log_row_keeps_all_that_explains_the_ending),
    TAP_TEST(the_log_tells_the_rotations_of_one_session),
};
const struct contract_part contract_log = CONTRACT_PART(tests);
