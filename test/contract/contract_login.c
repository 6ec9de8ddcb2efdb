/* SPDX-License-Identifier: Apache-2.0 */
/* Contract: what a log-in does to other sessions, in the same transaction. */
#include "contract.h"

#include <string.h>

#include "store/record.h"

static void replacing_ends_the_earlier_sessions_of_that_user_only(void)
{
    struct fixture f;
    struct cr_session_id made;
    struct cr_log_rows rows = {0};
    if (!fixture_init(&f))
        return;
    struct cr_session_id first = session_for(&f, "anna"), second = session_for(&f, "anna"),
                         other = session_for(&f, "bert"), nobody = session_for(&f, NULL);
    struct cr_create_terms terms = {.replace = true};
    CHECK_STATUS(login(&f, "anna", terms, CR_REASON_REPLACED, &made, &rows), CR_OK);
    CHECK(is_live(&f, &made));
    CHECK_INT(dead_for(&f, &first), CR_REASON_ADMIN);
    CHECK_INT(dead_for(&f, &second), CR_REASON_ADMIN);
    CHECK(is_live(&f, &other));
    CHECK(is_live(&f, &nobody));
    if (CHECK_UINT(rows.count, 1)) {
        CHECK_INT(rows.rows[0].kind, CR_LOG_USER_ENDED);
        CHECK_INT(rows.rows[0].reason, CR_REASON_REPLACED);
        CHECK_UINT(rows.rows[0].generation, 2);
        CHECK_UINT(rows.rows[0].number, 2);
        CHECK_STR(rows.rows[0].by, "a test");
    }
    cr_log_rows_fini(&rows);
    fixture_fini(&f);
}

static void replacing_nothing_writes_no_row(void)
{
    struct fixture f;
    struct cr_session_id made;
    if (!fixture_init(&f))
        return;
    struct cr_create_terms terms = {.replace = true};
    CHECK_STATUS(login(&f, "anna", terms, CR_REASON_REPLACED, &made, NULL), CR_OK);
    CHECK(is_live(&f, &made));
    CHECK_UINT(log_count(&f), 1);
    fixture_fini(&f);
}

/* Asked for again, as after a commit whose outcome was lost. */
static void a_repeated_login_answers_as_the_first_did(void)
{
    struct fixture f;
    struct cr_log_rows rows = {0}, again = {0};
    if (!fixture_init(&f))
        return;
    struct cr_session_id before = session_for(&f, "anna");
    struct cr_record record = record_for(&f, "anna"), repeated = record;
    struct cr_create_terms terms = {.replace = true, .ending = ending_for(&f, CR_REASON_REPLACED)};
    CHECK_STATUS(cr_store_create(f.store, &record, &terms, &rows), CR_OK);
    advance(&f, 5000);
    CHECK_STATUS(cr_store_create(f.store, &repeated, &terms, &again), CR_OK);
    CHECK_INT(repeated.created_at, record.created_at);
    CHECK_INT(repeated.ends_at, record.ends_at);
    CHECK_UINT(repeated.user_generation, 2);
    if (CHECK_UINT(rows.count, 1) && CHECK_UINT(again.count, 1))
        CHECK_UINT(again.rows[0].number, rows.rows[0].number);
    CHECK(is_live(&f, &record.id));
    CHECK(!is_live(&f, &before));
    CHECK_UINT(log_count(&f), 2);

    tap_row("ended meanwhile");
    struct cr_user anna = user_named("anna");
    struct cr_ending ending = ending_for(&f, CR_REASON_ADMIN);
    struct cr_log_row row;
    CHECK_STATUS(cr_store_end_user(f.store, &anna, &ending, &row), CR_OK);
    repeated.ends_at = ABSOLUTE_MS;
    CHECK_STATUS(cr_store_create(f.store, &repeated, &terms, &again), CR_CONFLICT);
    CHECK(!is_live(&f, &record.id));
    cr_log_rows_fini(&rows);
    cr_log_rows_fini(&again);
    fixture_fini(&f);
}

/* C7 */
static void a_limit_keeps_the_newest_sessions(void)
{
    struct fixture f;
    struct cr_session_id ids[9];
    struct cr_log_rows rows = {0};
    if (!fixture_init(&f))
        return;
    struct cr_session_id other = session_for(&f, "bert");
    for (size_t i = 0; i < 8; i++) {
        ids[i] = session_for(&f, "anna");
        advance(&f, 10);
    }
    struct cr_create_terms terms = {.keep_count = 5};
    CHECK_STATUS(login(&f, "anna", terms, CR_REASON_LIMIT, &ids[8], &rows), CR_OK);
    for (size_t i = 0; i < 9; i++)
        CHECK_INT(is_live(&f, &ids[i]), i >= 4);
    CHECK_UINT(live_count(&f, "anna"), 5);
    CHECK(is_live(&f, &other));
    if (!CHECK_UINT(rows.count, 4))
        return;
    for (size_t i = 0; i < 4; i++) {
        CHECK_INT(rows.rows[i].kind, CR_LOG_SESSION_ENDED);
        CHECK_INT(rows.rows[i].reason, CR_REASON_LIMIT);
        for (size_t j = 0; j < i; j++)
            CHECK(!cr_ending_id_equal(&rows.rows[i].identity, &rows.rows[j].identity));
    }
    cr_log_rows_fini(&rows);
    fixture_fini(&f);
}

/* C7: also when all are made in one millisecond, and more than a store looks at in one go. */
static void after_each_login_at_most_so_many_live(void)
{
    struct fixture f;
    struct cr_session_id made;
    if (!fixture_init(&f))
        return;
    for (size_t i = 0; i < 200; i++)
        (void)session_for(&f, "anna");
    CHECK_UINT(live_count(&f, "anna"), 200);
    for (size_t i = 0; i < 50; i++) {
        struct cr_create_terms terms = {.keep_count = 5};
        CHECK_STATUS(login(&f, "anna", terms, CR_REASON_LIMIT, &made, NULL), CR_OK);
        CHECK(is_live(&f, &made));
        CHECK_UINT(live_count(&f, "anna"), 5);
    }
    struct cr_create_terms one = {.keep_count = 1};
    CHECK_STATUS(login(&f, "anna", one, CR_REASON_LIMIT, &made, NULL), CR_OK);
    CHECK(is_live(&f, &made));
    CHECK_UINT(live_count(&f, "anna"), 1);
    fixture_fini(&f);
}

static void the_dead_do_not_count_towards_a_limit(void)
{
    struct fixture f;
    struct cr_session_id made;
    struct cr_log_rows rows = {0};
    if (!fixture_init(&f))
        return;
    (void)session_for(&f, "anna");
    (void)session_for(&f, "anna");
    advance(&f, IDLE_MS + CR_SEEN_SLACK(IDLE_MS));
    struct cr_session_id live = session_for(&f, "anna");
    struct cr_create_terms terms = {.keep_count = 2};
    CHECK_STATUS(login(&f, "anna", terms, CR_REASON_LIMIT, &made, &rows), CR_OK);
    CHECK_UINT(rows.count, 0);
    CHECK(is_live(&f, &live));
    CHECK(is_live(&f, &made));
    cr_log_rows_fini(&rows);
    fixture_fini(&f);
}

/* D11 */
static void a_login_that_began_under_an_older_generation_fails(void)
{
    struct fixture f;
    struct cr_session_id made;
    struct cr_log_row row;
    if (!fixture_init(&f))
        return;
    struct cr_user anna = user_named("anna");
    struct cr_create_terms none = {.has_generation = true, .generation = 0};
    CHECK_STATUS(login(&f, "anna", none, CR_REASON_NONE, &made, NULL), CR_OK);
    CHECK_STATUS(login(&f, "anna", none, CR_REASON_NONE, &made, NULL), CR_CONFLICT);
    struct cr_create_terms terms = {.has_generation = true, .generation = 1, .replace = true};
    struct cr_ending ending = ending_for(&f, CR_REASON_PASSWORD);
    CHECK_STATUS(cr_store_end_user(f.store, &anna, &ending, &row), CR_OK);
    CHECK_STATUS(login(&f, "anna", terms, CR_REASON_REPLACED, &made, NULL), CR_CONFLICT);
    CHECK_INT(dead_for(&f, &made), CR_REASON_LOGOUT);
    CHECK_UINT(live_count(&f, "anna"), 0);
    CHECK_UINT(log_count(&f), 2);
    terms.generation = 2;
    CHECK_STATUS(login(&f, "anna", terms, CR_REASON_REPLACED, &made, NULL), CR_OK);
    CHECK(is_live(&f, &made));
    fixture_fini(&f);
}

/* A5 */
static void an_anonymous_session_ends_when_it_becomes_a_users(void)
{
    struct fixture f;
    struct cr_session_id made;
    struct cr_log_rows rows = {0};
    if (!fixture_init(&f))
        return;
    struct cr_session_id anonymous = session_for(&f, NULL), other = session_for(&f, NULL);
    struct cr_create_terms terms = {.anonymous = anonymous};
    CHECK_STATUS(login(&f, "anna", terms, CR_REASON_REPLACED, &made, &rows), CR_OK);
    CHECK(is_live(&f, &made));
    CHECK(is_live(&f, &other));
    CHECK(!is_live(&f, &anonymous));
    if (CHECK_UINT(rows.count, 1)) {
        CHECK_INT(rows.rows[0].kind, CR_LOG_SESSION_ENDED);
        CHECK_INT(rows.rows[0].reason, CR_REASON_UPGRADED);
        CHECK(cr_session_id_equal(&rows.rows[0].session, &anonymous));
    }

    tap_row("it has ended already");
    CHECK_STATUS(login(&f, "anna", terms, CR_REASON_REPLACED, &made, NULL), CR_CONFLICT);

    tap_row("it never was");
    terms.anonymous = id_random(&f);
    CHECK_STATUS(login(&f, "anna", terms, CR_REASON_REPLACED, &made, NULL), CR_CONFLICT);

    tap_row("it is a user's");
    terms.anonymous = session_for(&f, "bert");
    CHECK_STATUS(login(&f, "anna", terms, CR_REASON_REPLACED, &made, NULL), CR_CONFLICT);
    CHECK(is_live(&f, &terms.anonymous));

    tap_row("nobody used it for too long");
    terms.anonymous = other;
    advance(&f, IDLE_MS + CR_SEEN_SLACK(IDLE_MS));
    CHECK_STATUS(login(&f, "anna", terms, CR_REASON_REPLACED, &made, NULL), CR_CONFLICT);
    CHECK_UINT(log_count(&f), 2);
    cr_log_rows_fini(&rows);
    fixture_fini(&f);
}

static void all_terms_of_one_login_are_carried_out_together(void)
{
    struct fixture f;
    struct cr_session_id made;
    struct cr_log_rows rows = {0};
    if (!fixture_init(&f))
        return;
    struct cr_session_id before = session_for(&f, "anna"), anonymous = session_for(&f, NULL);
    struct cr_create_terms terms = {.has_generation = true, .generation = 1, .replace = true};
    terms.anonymous = anonymous;
    terms.keep_count = 3;
    CHECK_STATUS(login(&f, "anna", terms, CR_REASON_REPLACED, &made, &rows), CR_OK);
    CHECK(is_live(&f, &made));
    CHECK(!is_live(&f, &before));
    CHECK(!is_live(&f, &anonymous));
    if (CHECK_UINT(rows.count, 2)) {
        CHECK_INT(rows.rows[0].kind, CR_LOG_USER_ENDED);
        CHECK_INT(rows.rows[1].kind, CR_LOG_SESSION_ENDED);
        CHECK(!cr_ending_id_equal(&rows.rows[0].identity, &rows.rows[1].identity));
    }
    cr_log_rows_fini(&rows);
    fixture_fini(&f);
}

static const struct tap_test tests[] = {
    TAP_TEST(replacing_ends_the_earlier_sessions_of_that_user_only),
    TAP_TEST(replacing_nothing_writes_no_row),
    TAP_TEST(a_repeated_login_answers_as_the_first_did),
    TAP_TEST(a_limit_keeps_the_newest_sessions),
    TAP_TEST(after_each_login_at_most_so_many_live),
    TAP_TEST(the_dead_do_not_count_towards_a_limit),
    TAP_TEST(a_login_that_began_under_an_older_generation_fails),
    TAP_TEST(an_anonymous_session_ends_when_it_becomes_a_users),
    TAP_TEST(all_terms_of_one_login_are_carried_out_together),
};
const struct contract_part contract_login = CONTRACT_PART(tests);
