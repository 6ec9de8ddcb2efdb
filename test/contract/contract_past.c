/* SPDX-License-Identifier: Apache-2.0 */
/* Contract: what a user's sessions were that are not live any more. */
#include "contract.h"

#include <stdio.h>
#include <string.h>

#define ALL 8 /* more than any test here makes */

static bool past_init(struct fixture *f, struct cr_user *out_anna)
{
    *out_anna = user_named("anna");
    return fixture_init(f);
}

static size_t dead_list(struct fixture *f, const char *user, struct cr_record out[ALL])
{
    struct cr_user named = user_named(user);
    size_t count = 0;
    CHECK_STATUS(cr_store_list_dead(f->store, &named, out, ALL, &count), CR_OK);
    return count;
}

/* An ending of one, of all of the user, of everybody; and what time did. */
static void the_dead_are_listed_from_the_newest_generation_down(void)
{
    struct fixture f;
    struct cr_log_row row;
    struct cr_user anna;
    struct cr_record dead[ALL];
    if (!past_init(&f, &anna))
        return;
    CHECK_UINT(dead_list(&f, "anna", dead), 0);
    struct cr_session_id ids[6];
    for (size_t i = 0; i < 3; i++) {
        ids[i] = session_for(&f, "anna");
        advance(&f, 10);
    }
    struct cr_ending one = ending_for(&f, CR_REASON_LOGOUT);
    CHECK_STATUS(cr_store_end(f.store, &ids[1], &one, &row), CR_OK);
    CHECK_UINT(dead_list(&f, "anna", dead), 0);
    /* The kept one goes on in the generation after, and is older than what comes then. */
    struct cr_ending others = ending_for(&f, CR_REASON_DEVICE);
    CHECK_STATUS(cr_store_end_others(f.store, &ids[0], &others, &row), CR_OK);
    ids[3] = session_for(&f, "anna");
    advance(&f, IDLE_MS + CR_SEEN_SLACK(IDLE_MS) - 5);
    struct cr_seen seen = {.id = ids[3], .ago = 0};
    CHECK_STATUS(cr_store_seen(f.store, &seen, 1), CR_OK);
    advance(&f, 5);
    if (CHECK_UINT(dead_list(&f, "anna", dead), 2)) {
        CHECK_INT(dead[0].dead, CR_REASON_IDLE);
        CHECK(cr_session_id_equal(&dead[0].id, &ids[0]));
        CHECK_INT(dead[1].dead, CR_REASON_ADMIN);
        CHECK(cr_session_id_equal(&dead[1].id, &ids[2]));
    }
    struct cr_ending all = ending_for(&f, CR_REASON_EVERYBODY);
    CHECK_STATUS(cr_store_end_all(f.store, &all, &row), CR_OK);
    ids[4] = session_for(&f, "anna");
    const size_t order[] = {3, 0, 2};
    if (CHECK_UINT(dead_list(&f, "anna", dead), 3))
        for (size_t i = 0; i < 3; i++)
            CHECK(cr_session_id_equal(&dead[i].id, &ids[order[i]]));
    CHECK_INT(dead[0].dead, CR_REASON_EVERYBODY);
    CHECK(is_live(&f, &ids[4]));
    fixture_fini(&f);
}

/* What a list of the dead gives of each: its labels and no data. */
static void a_dead_session_is_told_with_its_labels(void)
{
    struct fixture f;
    struct cr_log_row row;
    struct cr_user anna;
    struct cr_record dead[ALL];
    unsigned char data[] = "what it held";
    if (!past_init(&f, &anna))
        return;
    struct cr_record record = record_for(&f, "anna");
    struct cr_log_rows rows = {0};
    (void)snprintf(record.address, sizeof record.address, "192.0.2.1");
    (void)snprintf(record.agent, sizeof record.agent, "a browser");
    record.data = data;
    record.data_bytes = sizeof data;
    CHECK_STATUS(cr_store_create(f.store, &record, NULL, &rows), CR_OK);
    struct cr_ending ending = ending_for(&f, CR_REASON_ADMIN);
    CHECK_STATUS(cr_store_end_user(f.store, &anna, &ending, &row), CR_OK);
    if (CHECK_UINT(dead_list(&f, "anna", dead), 1)) {
        CHECK_STR(dead[0].address, "192.0.2.1");
        CHECK_STR(dead[0].agent, "a browser");
        CHECK_INT(dead[0].created_at, record.created_at);
        CHECK(dead[0].data == NULL && dead[0].data_bytes == 0);
    }
    cr_log_rows_fini(&rows);
    fixture_fini(&f);
}

static void as_many_of_the_dead_as_are_asked_for(void)
{
    struct fixture f;
    struct cr_log_row row;
    struct cr_user anna;
    struct cr_record dead[3];
    struct cr_session_id ids[5];
    size_t count;
    if (!past_init(&f, &anna))
        return;
    for (size_t i = 0; i < 5; i++) {
        ids[i] = session_for(&f, "anna");
        advance(&f, 10);
    }
    struct cr_ending ending = ending_for(&f, CR_REASON_ADMIN);
    CHECK_STATUS(cr_store_end_user(f.store, &anna, &ending, &row), CR_OK);
    CHECK_STATUS(cr_store_list_dead(f.store, &anna, dead, 3, &count), CR_OK);
    if (CHECK_UINT(count, 3))
        for (size_t i = 0; i < 3; i++)
            CHECK(cr_session_id_equal(&dead[i].id, &ids[4 - i]));
    fixture_fini(&f);
}

/* H8: names that begin alike, and sessions of nobody. */
static void the_past_of_a_user_is_nobody_elses(void)
{
    static const char *const names[] = {"anna", "ann", "annab", NULL};
    struct fixture f;
    struct cr_log_row row;
    struct cr_log_rows rows = {0};
    struct cr_user anna;
    struct cr_record dead[ALL];
    struct cr_session_id ended[4], all[4];
    if (!past_init(&f, &anna))
        return;
    for (size_t i = 0; i < 4; i++) {
        ended[i] = session_for(&f, names[i]);
        all[i] = session_for(&f, names[i]);
        struct cr_ending ending = ending_for(&f, CR_REASON_LOGOUT);
        CHECK_STATUS(cr_store_end(f.store, &ended[i], &ending, &row), CR_OK);
    }
    struct cr_ending ending = ending_for(&f, CR_REASON_EVERYBODY);
    CHECK_STATUS(cr_store_end_all(f.store, &ending, &row), CR_OK);
    for (size_t i = 0; i < 3; i++) {
        struct cr_user user = user_named(names[i]);
        tap_row(names[i]);
        if (CHECK_UINT(dead_list(&f, names[i], dead), 1))
            CHECK(cr_session_id_equal(&dead[0].id, &all[i]));
        CHECK_STATUS(cr_store_log_ended(f.store, &user, ALL, &rows), CR_OK);
        if (CHECK_UINT(rows.count, 1))
            CHECK(cr_session_id_equal(&rows.rows[0].session, &ended[i]));
    }
    struct cr_user nobody = user_named("nobody");
    CHECK_UINT(dead_list(&f, "nobody", dead), 0);
    CHECK_STATUS(cr_store_log_ended(f.store, &nobody, ALL, &rows), CR_OK);
    CHECK_UINT(rows.count, 0);
    cr_log_rows_fini(&rows);
    fixture_fini(&f);
}

/* Their rows are gone: the log has all that is told of them. */
static void the_log_tells_what_was_ended_one_by_one(void)
{
    struct fixture f;
    struct cr_log_row row;
    struct cr_log_rows rows = {0};
    struct cr_user anna;
    struct cr_session_id ids[3];
    if (!past_init(&f, &anna))
        return;
    for (size_t i = 0; i < 3; i++) {
        struct cr_record record = record_for(&f, "anna");
        struct cr_log_rows none = {0};
        (void)snprintf(record.address, sizeof record.address, "192.0.2.%zu", i);
        memset(record.agent, 'a', CR_AGENT_CHARS_MAX);
        CHECK_STATUS(cr_store_create(f.store, &record, NULL, &none), CR_OK);
        ids[i] = record.id;
        advance(&f, 10);
    }
    const size_t order[] = {1, 0, 2};
    for (size_t i = 0; i < 3; i++) {
        struct cr_ending ending = ending_for(&f, CR_REASON_LOGOUT);
        CHECK_STATUS(cr_store_end(f.store, &ids[order[i]], &ending, &row), CR_OK);
        CHECK_UINT(strlen(row.session_from.agent), CR_AGENT_CHARS_MAX);
    }
    /* A mass ending is none of them: its sessions are among the dead. */
    struct cr_session_id last = session_for(&f, "anna");
    struct cr_ending mass = ending_for(&f, CR_REASON_ADMIN);
    CHECK_STATUS(cr_store_end_user(f.store, &anna, &mass, &row), CR_OK);
    CHECK_INT(dead_for(&f, &last), CR_REASON_ADMIN);
    CHECK_STATUS(cr_store_log_ended(f.store, &anna, ALL, &rows), CR_OK);
    if (CHECK_UINT(rows.count, 3))
        for (size_t i = 0; i < 3; i++) {
            char address[16];
            (void)snprintf(address, sizeof address, "192.0.2.%zu", order[2 - i]);
            CHECK(cr_session_id_equal(&rows.rows[i].session, &ids[order[2 - i]]));
            CHECK_STR(rows.rows[i].session_from.address, address);
        }
    CHECK_STATUS(cr_store_log_ended(f.store, &anna, 2, &rows), CR_OK);
    if (CHECK_UINT(rows.count, 2))
        CHECK(cr_session_id_equal(&rows.rows[1].session, &ids[0]));
    cr_log_rows_fini(&rows);
    fixture_fini(&f);
}

/* What a log-in ended to keep so many, and the device on which it was. */
static void a_session_that_was_one_too_many_is_told_too(void)
{
    struct fixture f;
    struct cr_log_rows rows = {0};
    struct cr_session_id made;
    struct cr_user anna;
    if (!past_init(&f, &anna))
        return;
    struct cr_session_id oldest = session_for(&f, "anna");
    advance(&f, 10);
    CHECK_STATUS(
        login(&f, "anna", (struct cr_create_terms){.keep_count = 1}, CR_REASON_LIMIT, &made, &rows),
        CR_OK);
    cr_log_rows_fini(&rows);
    CHECK_STATUS(cr_store_log_ended(f.store, &anna, ALL, &rows), CR_OK);
    if (CHECK_UINT(rows.count, 1)) {
        CHECK(cr_session_id_equal(&rows.rows[0].session, &oldest));
        CHECK_INT(rows.rows[0].reason, CR_REASON_LIMIT);
    }
    cr_log_rows_fini(&rows);
    fixture_fini(&f);
}

/* H9: by the store's clock, whether the sweeper has been there or not. */
static void an_ending_is_told_for_seven_days(void)
{
    struct fixture f;
    struct cr_log_row row;
    struct cr_log_rows rows = {0};
    struct cr_user anna;
    struct cr_record dead[ALL];
    size_t swept;
    if (!past_init(&f, &anna))
        return;
    struct cr_session_id one = session_for(&f, "anna"), other = session_for(&f, "anna");
    struct cr_ending single = ending_for(&f, CR_REASON_LOGOUT),
                     mass = ending_for(&f, CR_REASON_ADMIN);
    CHECK_STATUS(cr_store_end(f.store, &one, &single, &row), CR_OK);
    CHECK_STATUS(cr_store_end_user(f.store, &anna, &mass, &row), CR_OK);
    advance(&f, CR_REMEMBER_MS - 1);
    CHECK_STATUS(cr_store_log_ended(f.store, &anna, ALL, &rows), CR_OK);
    CHECK_UINT(rows.count, 1);
    CHECK_UINT(dead_list(&f, "anna", dead), 1);
    CHECK(cr_session_id_equal(&dead[0].id, &other));
    advance(&f, 1);
    CHECK_STATUS(cr_store_log_ended(f.store, &anna, ALL, &rows), CR_OK);
    CHECK_UINT(rows.count, 0);
    CHECK_STATUS(cr_store_sweep(f.store, 100, &swept), CR_OK);
    CHECK_UINT(dead_list(&f, "anna", dead), 0);
    cr_log_rows_fini(&rows);
    fixture_fini(&f);
}

static const struct tap_test tests[] = {
    TAP_TEST(the_dead_are_listed_from_the_newest_generation_down),
    TAP_TEST(a_dead_session_is_told_with_its_labels),
    TAP_TEST(as_many_of_the_dead_as_are_asked_for),
    TAP_TEST(the_past_of_a_user_is_nobody_elses),
    TAP_TEST(the_log_tells_what_was_ended_one_by_one),
    TAP_TEST(a_session_that_was_one_too_many_is_told_too),
    TAP_TEST(an_ending_is_told_for_seven_days),
};
const struct contract_part contract_past = CONTRACT_PART(tests);
