/* SPDX-License-Identifier: Apache-2.0 */
/* Contract: calls that end sessions, and the sweeper that comes after them. */
#include "contract.h"

#include "store/record.h"

static void an_ended_session_is_gone_and_its_end_is_logged(void)
{
    struct fixture f;
    struct cr_log_row row;
    if (!fixture_init(&f))
        return;
    struct cr_session_id id = session_for(&f, "anna"), other = session_for(&f, "anna");
    struct cr_ending ending = ending_for(&f, CR_REASON_LOGOUT);
    struct cr_user anna = user_named("anna");
    CHECK_STATUS(cr_store_end(f.store, &id, &ending, &row), CR_OK);
    CHECK_UINT(row.number, 2);
    CHECK_INT(row.kind, CR_LOG_SESSION_ENDED);
    CHECK(cr_session_id_equal(&row.session, &id));
    CHECK(cr_user_equal(&row.user, &anna));
    CHECK_INT(row.reason, CR_REASON_LOGOUT);
    CHECK_STR(row.by, "a test");
    CHECK_INT(row.at, f.clock.now_wall);
    struct cr_record found;
    CHECK_STATUS(cr_store_find(f.store, &id, &found), CR_NOT_FOUND);
    CHECK(is_live(&f, &other));
    fixture_fini(&f);
}

static void ending_what_is_not_live_finds_nothing(void)
{
    struct fixture f;
    struct cr_log_row row;
    if (!fixture_init(&f))
        return;
    struct cr_session_id never = id_random(&f), idle = session_for(&f, "anna");
    struct cr_ending ending = ending_for(&f, CR_REASON_LOGOUT);
    CHECK_STATUS(cr_store_end(f.store, &never, &ending, &row), CR_NOT_FOUND);
    advance(&f, IDLE_MS + CR_SEEN_SLACK(IDLE_MS));
    CHECK_STATUS(cr_store_end(f.store, &idle, &ending, &row), CR_NOT_FOUND);
    CHECK_INT(dead_for(&f, &idle), CR_REASON_IDLE);
    CHECK_UINT(log_count(&f), 1);
    fixture_fini(&f);
}

/* Every call that ends, twice under one identity: the second changes nothing and gives the same
 * row, also when it would end others by then. */
static void an_ending_that_is_repeated_is_carried_out_once(void)
{
    static const char *const names[] = {"end", "end_user", "end_others", "end_all"};
    for (size_t i = 0; i < 4; i++) {
        struct fixture f;
        struct cr_log_row rows[2] = {{0}};
        if (!fixture_init(&f))
            return;
        tap_row(names[i]);
        struct cr_session_id id = session_for(&f, "anna"), made = {""};
        struct cr_ending ending = ending_for(&f, CR_REASON_ADMIN);
        struct cr_user anna = user_named("anna");
        for (size_t n = 0; n < 2; n++) {
            enum cr_status st = i == 0   ? cr_store_end(f.store, &id, &ending, &rows[n])
                                : i == 1 ? cr_store_end_user(f.store, &anna, &ending, &rows[n])
                                : i == 2 ? cr_store_end_others(f.store, &id, &ending, &rows[n])
                                         : cr_store_end_all(f.store, &ending, &rows[n]);
            CHECK_STATUS(st, CR_OK);
            if (n == 0)
                made = session_for(&f, "anna");
            advance(&f, 1000);
        }
        CHECK_UINT(rows[0].number, 2);
        CHECK_UINT(rows[1].number, 2);
        CHECK_INT(rows[1].kind, rows[0].kind);
        CHECK_UINT(rows[1].generation, rows[0].generation);
        CHECK_INT(rows[1].at, rows[0].at);
        CHECK_UINT(log_count(&f), 2);
        CHECK(is_live(&f, &made));
        fixture_fini(&f);
    }
}

/* D4: one row is changed, whatever the number of sessions (bench/ and proc/ look at the time). */
static void ending_a_user_ends_all_of_that_user(void)
{
    struct fixture f;
    struct cr_log_row row;
    struct cr_session_id ids[50];
    if (!fixture_init(&f))
        return;
    for (size_t i = 0; i < 50; i++)
        ids[i] = session_for(&f, "anna");
    struct cr_session_id others[] = {session_for(&f, "ann"), session_for(&f, "annab"),
                                     session_for(&f, NULL)};
    struct cr_user anna = user_named("anna");
    struct cr_ending ending = ending_for(&f, CR_REASON_ADMIN);
    CHECK_STATUS(cr_store_end_user(f.store, &anna, &ending, &row), CR_OK);
    CHECK_INT(row.kind, CR_LOG_USER_ENDED);
    CHECK_UINT(row.generation, 2);
    CHECK(cr_user_equal(&row.user, &anna));
    CHECK_STR(row.session.text, "");
    for (size_t i = 0; i < 50; i++)
        CHECK_INT(dead_for(&f, &ids[i]), CR_REASON_ADMIN);
    for (size_t i = 0; i < 3; i++)
        CHECK(is_live(&f, &others[i]));
    struct cr_session_id later = session_for(&f, "anna");
    CHECK(is_live(&f, &later));
    CHECK_UINT(log_count(&f), 2);
    fixture_fini(&f);
}

static void ending_a_user_who_was_never_seen_is_not_done(void)
{
    struct fixture f;
    struct cr_log_row row;
    if (!fixture_init(&f))
        return;
    struct cr_user nobody = user_named("nobody"), anna = user_named("anna");
    struct cr_ending ending = ending_for(&f, CR_REASON_ADMIN);
    CHECK_STATUS(cr_store_end_user(f.store, &nobody, &ending, &row), CR_UNKNOWN_USER);
    CHECK_UINT(log_count(&f), 1);
    struct cr_session_id id = session_for(&f, "anna");
    struct cr_ending first = ending_for(&f, CR_REASON_LOGOUT);
    CHECK_STATUS(cr_store_end(f.store, &id, &first, &row), CR_OK);
    CHECK_STATUS(cr_store_end_user(f.store, &anna, &ending, &row), CR_OK);
    fixture_fini(&f);
}

static void ending_the_others_keeps_exactly_one(void)
{
    struct fixture f;
    struct cr_log_row row;
    struct cr_session_id ids[20];
    if (!fixture_init(&f))
        return;
    for (size_t i = 0; i < 20; i++)
        ids[i] = session_for(&f, "anna");
    struct cr_session_id other = session_for(&f, "bert"), anonymous = session_for(&f, NULL);
    struct cr_ending ending = ending_for(&f, CR_REASON_PASSWORD);
    CHECK_STATUS(cr_store_end_others(f.store, &ids[7], &ending, &row), CR_OK);
    CHECK_INT(row.kind, CR_LOG_USER_ENDED);
    CHECK(cr_session_id_equal(&row.session, &ids[7]));
    CHECK_UINT(row.generation, 2);
    for (size_t i = 0; i < 20; i++)
        CHECK_INT(is_live(&f, &ids[i]), i == 7);
    CHECK(is_live(&f, &other));
    CHECK_UINT(live_count(&f, "anna"), 1);

    tap_row("nothing to keep");
    ending = ending_for(&f, CR_REASON_PASSWORD);
    struct cr_session_id never = id_random(&f);
    CHECK_STATUS(cr_store_end_others(f.store, &never, &ending, &row), CR_NOT_FOUND);
    CHECK_STATUS(cr_store_end_others(f.store, &ids[3], &ending, &row), CR_ENDED);
    CHECK_STATUS(cr_store_end_others(f.store, &anonymous, &ending, &row), CR_UNKNOWN_USER);
    CHECK(is_live(&f, &anonymous));
    CHECK_UINT(log_count(&f), 2);

    tap_row("again, and then the user");
    CHECK_STATUS(cr_store_end_others(f.store, &ids[7], &ending, &row), CR_OK);
    CHECK(is_live(&f, &ids[7]));
    struct cr_user anna = user_named("anna");
    ending = ending_for(&f, CR_REASON_ADMIN);
    CHECK_STATUS(cr_store_end_user(f.store, &anna, &ending, &row), CR_OK);
    CHECK(!is_live(&f, &ids[7]));
    fixture_fini(&f);
}

static void ending_everybody_ends_everybody(void)
{
    struct fixture f;
    struct cr_log_row row;
    if (!fixture_init(&f))
        return;
    struct cr_session_id ids[] = {session_for(&f, "anna"), session_for(&f, "bert"),
                                  session_for(&f, NULL)};
    struct cr_ending ending = ending_for(&f, CR_REASON_EVERYBODY);
    CHECK_STATUS(cr_store_end_all(f.store, &ending, &row), CR_OK);
    CHECK_INT(row.kind, CR_LOG_ALL_ENDED);
    CHECK_UINT(row.generation, 2);
    for (size_t i = 0; i < 3; i++)
        CHECK_INT(dead_for(&f, &ids[i]), CR_REASON_EVERYBODY);
    struct cr_session_id later = session_for(&f, NULL);
    CHECK(is_live(&f, &later));
    fixture_fini(&f);
}

static size_t sweep_all(struct fixture *f)
{
    size_t count, all = 0;
    do {
        if (!CHECK_STATUS(cr_store_sweep(f->store, 1000, &count), CR_OK))
            break;
        all += count;
    } while (count > 0);
    return all;
}

/* H9 */
static void what_is_dead_is_kept_for_seven_days_and_then_swept(void)
{
    struct fixture f;
    struct cr_log_row row;
    struct cr_record found;
    if (!fixture_init(&f))
        return;
    struct cr_user anna = user_named("anna");
    struct cr_session_id of_anna = session_for(&f, "anna"), of_bert = session_for(&f, "bert"),
                         anonymous = session_for(&f, NULL);
    struct cr_ending ending = ending_for(&f, CR_REASON_ADMIN);
    CHECK_STATUS(cr_store_end_user(f.store, &anna, &ending, &row), CR_OK);
    advance(&f, CR_REMEMBER_MS - 1);
    CHECK_UINT(sweep_all(&f), 0);

    tap_row("seven days after the ending: its sessions, and the first row of the log");
    advance(&f, 1);
    CHECK_UINT(sweep_all(&f), 2);
    CHECK_STATUS(cr_store_find(f.store, &of_anna, &found), CR_NOT_FOUND);
    CHECK_INT(dead_for(&f, &of_bert), CR_REASON_IDLE);
    CHECK_UINT(log_count(&f), 2);

    tap_row("seven days after the others died by themselves");
    advance(&f, IDLE_MS + CR_SEEN_SLACK(IDLE_MS) - 1);
    CHECK_UINT(sweep_all(&f), 0);
    advance(&f, 1);
    CHECK_UINT(sweep_all(&f), 2);
    CHECK_STATUS(cr_store_find(f.store, &of_bert, &found), CR_NOT_FOUND);
    CHECK_STATUS(cr_store_find(f.store, &anonymous, &found), CR_NOT_FOUND);
    CHECK_STATUS(cr_store_log_last(f.store, &row), CR_OK);
    CHECK_UINT(row.number, 2);

    tap_row("the generation stays");
    struct cr_session_id later = session_for(&f, "anna");
    CHECK_STATUS(cr_store_find(f.store, &later, &found), CR_OK);
    CHECK_UINT(found.user_generation, 2);
    fixture_fini(&f);
}

static void a_sweep_spares_the_living(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    struct cr_record record = record_for(&f, "anna");
    struct cr_log_rows rows = {0};
    record.ends_at = 30 * DAY_MS;
    CHECK_STATUS(cr_store_create(f.store, &record, NULL, &rows), CR_OK);
    struct cr_seen seen = {.id = record.id};
    for (cr_span_ms at = 0; at < 20 * DAY_MS; at += IDLE_MS) {
        CHECK_STATUS(cr_store_seen(f.store, &seen, 1), CR_OK);
        advance(&f, IDLE_MS);
    }
    CHECK_UINT(sweep_all(&f), 0);
    CHECK(is_live(&f, &record.id));
    advance(&f, CR_REMEMBER_MS + CR_SEEN_SLACK(IDLE_MS));
    CHECK_UINT(sweep_all(&f), 1);
    fixture_fini(&f);
}

static void a_sweep_takes_small_bites(void)
{
    struct fixture f;
    struct cr_log_row row;
    if (!fixture_init(&f))
        return;
    for (size_t i = 0; i < 30; i++)
        (void)session_for(&f, i % 2 == 0 ? "anna" : "bert");
    struct cr_ending ending = ending_for(&f, CR_REASON_ADMIN);
    struct cr_user anna = user_named("anna");
    CHECK_STATUS(cr_store_end_user(f.store, &anna, &ending, &row), CR_OK);
    struct cr_ending everybody = ending_for(&f, CR_REASON_EVERYBODY);
    CHECK_STATUS(cr_store_end_all(f.store, &everybody, &row), CR_OK);
    advance(&f, CR_REMEMBER_MS);
    struct cr_session_id live = session_for(&f, "bert");
    size_t all = 0;
    for (size_t i = 0; i < 40; i++) {
        size_t count;
        CHECK_STATUS(cr_store_sweep(f.store, 4, &count), CR_OK);
        CHECK(count <= 8);
        all += count;
    }
    CHECK_UINT(all, 30 + 2);
    CHECK(is_live(&f, &live));
    CHECK_UINT(log_count(&f), 3);
    fixture_fini(&f);
}

static const struct tap_test tests[] = {
    TAP_TEST(an_ended_session_is_gone_and_its_end_is_logged),
    TAP_TEST(ending_what_is_not_live_finds_nothing),
    TAP_TEST(an_ending_that_is_repeated_is_carried_out_once),
    TAP_TEST(ending_a_user_ends_all_of_that_user),
    TAP_TEST(ending_a_user_who_was_never_seen_is_not_done),
    TAP_TEST(ending_the_others_keeps_exactly_one),
    TAP_TEST(ending_everybody_ends_everybody),
    TAP_TEST(what_is_dead_is_kept_for_seven_days_and_then_swept),
    TAP_TEST(a_sweep_spares_the_living),
    TAP_TEST(a_sweep_takes_small_bites),
};
const struct contract_part contract_endings = CONTRACT_PART(tests);
