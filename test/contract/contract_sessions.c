/* SPDX-License-Identifier: Apache-2.0 */
/* Contract: sessions as rows: made, found, changed, seen, listed. */
#include "contract.h"

#include <stdlib.h>
#include <string.h>

#include "store/record.h"

static void a_store_that_was_just_made_has_an_identity_and_a_key(void)
{
    struct fixture f;
    struct cr_ending_id identity;
    struct cr_key keys[64];
    size_t count;
    if (!fixture_init(&f))
        return;
    CHECK_STATUS(cr_store_identity(f.store, &identity), CR_OK);
    CHECK(!cr_ending_id_is_zero(&identity));
    CHECK_STATUS(cr_store_keys(f.store, keys, 64, &count), CR_OK);
    CHECK_UINT(count, 1);
    CHECK_UINT(keys[0].number, 1);
    CHECK_STATUS(cr_store_keys(f.store, keys, 0, &count), CR_E_LIMIT);
    fixture_fini(&f);
}

/* A record with every field filled to its bound. */
static struct cr_record record_full(struct fixture *f, unsigned char *data, size_t data_bytes)
{
    struct cr_record record = record_for(f, "anna");
    record.user.length = CR_USER_BYTES_MAX;
    memset(record.user.bytes, 0xff, CR_USER_BYTES_MAX);
    record.user.bytes[3] = '\0';
    record.rights_bytes = CR_RIGHTS_BYTES_MAX;
    memset(record.rights, 0xa5, CR_RIGHTS_BYTES_MAX);
    memset(record.address, 'a', CR_ADDRESS_CHARS_MAX);
    memset(record.agent, 'g', CR_AGENT_CHARS_MAX);
    for (size_t i = 0; i < data_bytes; i++)
        data[i] = (unsigned char)(i * 7);
    record.data = data;
    record.data_bytes = (uint32_t)data_bytes;
    return record;
}

static void a_created_session_is_found_with_all_that_it_was_given(void)
{
    static unsigned char data[CR_DATA_BYTES_MAX];
    struct fixture f;
    struct cr_record found;
    struct cr_log_rows rows = {0};
    if (!fixture_init(&f))
        return;
    struct cr_record made = record_full(&f, data, sizeof data);
    cr_time_ms now = f.clock.now_wall;
    CHECK_STATUS(cr_store_create(f.store, &made, NULL, &rows), CR_OK);
    CHECK_INT(made.created_at, now);
    CHECK_INT(made.authenticated_at, now);
    CHECK_INT(made.ends_at, now + ABSOLUTE_MS);
    CHECK_UINT(made.user_generation, 1);
    CHECK_UINT(made.global_generation, 1);
    advance(&f, 1000);
    if (!CHECK_STATUS(cr_store_find(f.store, &made.id, &found), CR_OK))
        return;
    CHECK_INT(found.dead, CR_REASON_NONE);
    CHECK_INT(found.absolute_left, ABSOLUTE_MS - 1000);
    CHECK_INT(found.idle_left, IDLE_MS - 1000);
    CHECK_MEM(found.data, data, sizeof data);
    CHECK_MEM(&found.hash, &made.hash, sizeof made.hash);
    CHECK_MEM(found.rights, made.rights, sizeof made.rights);
    CHECK(cr_user_equal(&found.user, &made.user));
    CHECK_STR(found.address, made.address);
    CHECK_STR(found.agent, made.agent);
    CHECK_UINT(found.data_bytes, sizeof data);
    CHECK_UINT(found.rights_bytes, CR_RIGHTS_BYTES_MAX);
    CHECK_UINT(found.version, 1);
    CHECK_UINT(found.user_generation, 1);
    CHECK_INT(found.created_at, now);
    CHECK_INT(found.authenticated_at, now);
    CHECK_INT(found.seen_at, now);
    CHECK_INT(found.ends_at, made.ends_at);
    CHECK_INT(found.idle, IDLE_MS);
    CHECK_UINT(found.sealed_bytes, 0);
    cr_record_fini(&found);
    fixture_fini(&f);
}

static void a_session_that_nobody_made_is_not_found(void)
{
    struct fixture f;
    struct cr_record found;
    if (!fixture_init(&f))
        return;
    struct cr_session_id id = id_random(&f);
    CHECK_STATUS(cr_store_find(f.store, &id, &found), CR_NOT_FOUND);
    CHECK(found.data == NULL);
    fixture_fini(&f);
}

static void an_id_is_given_once(void)
{
    struct fixture f;
    struct cr_log_rows rows = {0};
    if (!fixture_init(&f))
        return;
    struct cr_session_id id = session_for(&f, "anna");
    struct cr_record again = record_for(&f, "bert");
    again.id = id;
    CHECK_STATUS(cr_store_create(f.store, &again, NULL, &rows), CR_CONFLICT);
    CHECK_INT(again.ends_at, ABSOLUTE_MS);
    CHECK_UINT(live_count(&f, "bert"), 0);
    CHECK_UINT(live_count(&f, "anna"), 1);
    fixture_fini(&f);
}

static void a_plain_create_writes_no_log_row(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    (void)session_for(&f, "anna");
    (void)session_for(&f, NULL);
    CHECK_UINT(log_count(&f), 1);
    fixture_fini(&f);
}

static void an_anonymous_session_carries_no_generation_of_a_user(void)
{
    struct fixture f;
    struct cr_record found;
    if (!fixture_init(&f))
        return;
    struct cr_session_id id = session_for(&f, NULL);
    if (!CHECK_STATUS(cr_store_find(f.store, &id, &found), CR_OK))
        return;
    CHECK_INT(found.dead, CR_REASON_NONE);
    CHECK_UINT(found.user.length, 0);
    CHECK_UINT(found.user_generation, 0);
    CHECK_INT(found.authenticated_at, 0);
    fixture_fini(&f);
}

/* C2: alive at the limit and its slack, dead a moment later. */
static void an_unused_session_dies_after_its_idle_span_and_slack(void)
{
    struct fixture f;
    struct cr_record found;
    if (!fixture_init(&f))
        return;
    struct cr_session_id id = session_for(&f, "anna");
    advance(&f, IDLE_MS + CR_SEEN_SLACK(IDLE_MS) - 1);
    if (!CHECK_STATUS(cr_store_find(f.store, &id, &found), CR_OK))
        return;
    CHECK_INT(found.dead, CR_REASON_NONE);
    CHECK_INT(found.idle_left, 1 - CR_SEEN_SLACK(IDLE_MS));
    advance(&f, 1);
    CHECK_INT(dead_for(&f, &id), CR_REASON_IDLE);
    CHECK_UINT(live_count(&f, "anna"), 0);
    fixture_fini(&f);
}

/* C3: being used for ever moves the idle limit only. */
static void no_use_carries_a_session_past_its_absolute_end(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    struct cr_session_id id = session_for(&f, "anna");
    struct cr_seen seen = {.id = id};
    for (cr_span_ms at = 0; at < ABSOLUTE_MS - 1; at += IDLE_MS) {
        CHECK(is_live(&f, &id));
        CHECK_STATUS(cr_store_seen(f.store, &seen, 1), CR_OK);
        advance(&f, IDLE_MS);
    }
    CHECK_INT(dead_for(&f, &id), CR_REASON_ABSOLUTE);
    fixture_fini(&f);
}

static void seen_is_raised_and_never_lowered(void)
{
    struct fixture f;
    struct cr_record found;
    if (!fixture_init(&f))
        return;
    struct cr_session_id id = session_for(&f, "anna");
    struct cr_session_id gone = id_random(&f);
    advance(&f, 60000);
    cr_time_ms now = f.clock.now_wall;
    struct cr_seen seen[] = {{gone, 0}, {id, 10000}, {id, 20000}, {id, INT64_MAX}};
    CHECK_STATUS(cr_store_seen(f.store, seen, 4), CR_OK);
    CHECK_STATUS(cr_store_find(f.store, &gone, &found), CR_NOT_FOUND);
    CHECK_STATUS(cr_store_find(f.store, &id, &found), CR_OK);
    CHECK_INT(found.seen_at, now - 10000);
    CHECK_UINT(log_count(&f), 1);
    fixture_fini(&f);
}

/* D10 */
static void no_call_brings_an_ended_session_back(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    struct cr_session_id ids[4];
    for (size_t i = 0; i < 4; i++)
        ids[i] = session_for(&f, i == 3 ? "bert" : "anna");
    /* Ended one by one, by its user, and by time. */
    struct cr_ending end = ending_for(&f, CR_REASON_LOGOUT);
    struct cr_ending end_user = ending_for(&f, CR_REASON_ADMIN);
    struct cr_user anna = user_named("anna");
    struct cr_log_row row;
    CHECK_STATUS(cr_store_end(f.store, &ids[0], &end, &row), CR_OK);
    CHECK_STATUS(cr_store_end_user(f.store, &anna, &end_user, &row), CR_OK);
    advance(&f, IDLE_MS + CR_SEEN_SLACK(IDLE_MS));
    for (size_t i = 0; i < 4; i++) {
        struct cr_seen seen = {.id = ids[i]};
        struct cr_change change = {.set_data = true, .data = (const unsigned char *)"x"};
        change.data_bytes = 1;
        change.ending = ending_for(&f, CR_REASON_NONE);
        uint64_t version;
        enum cr_status want = i == 0 ? CR_NOT_FOUND : CR_ENDED;
        CHECK_STATUS(cr_store_seen(f.store, &seen, 1), CR_OK);
        CHECK_STATUS(cr_store_change(f.store, &ids[i], &change, &version, &row), want);
        struct cr_ending others = ending_for(&f, CR_REASON_ADMIN);
        CHECK_STATUS(cr_store_end_others(f.store, &ids[i], &others, &row), want);
        CHECK(!is_live(&f, &ids[i]));
    }
    CHECK_INT(dead_for(&f, &ids[1]), CR_REASON_ADMIN);
    CHECK_INT(dead_for(&f, &ids[3]), CR_REASON_IDLE);
    fixture_fini(&f);
}

static void a_write_raises_the_version_and_is_logged(void)
{
    struct fixture f;
    struct cr_record found;
    struct cr_log_row row, again;
    uint64_t version = 0;
    if (!fixture_init(&f))
        return;
    struct cr_session_id id = session_for(&f, "anna");
    struct cr_change change = {.expect_version = 1, .set_data = true, .data_bytes = 5};
    change.data = (const unsigned char *)"hello";
    change.ending = ending_for(&f, CR_REASON_NONE);
    CHECK_STATUS(cr_store_change(f.store, &id, &change, &version, &row), CR_OK);
    CHECK_UINT(version, 2);
    CHECK_INT(row.kind, CR_LOG_SESSION_CHANGED);
    CHECK(cr_session_id_equal(&row.session, &id));
    CHECK_UINT(row.number, 2);
    CHECK_UINT(row.generation, 2);
    CHECK_STATUS(cr_store_find(f.store, &id, &found), CR_OK);
    CHECK_UINT(found.version, 2);
    if (CHECK_UINT(found.data_bytes, 5))
        CHECK_MEM(found.data, "hello", 5);
    cr_record_fini(&found);

    tap_row("asked for again");
    CHECK_STATUS(cr_store_change(f.store, &id, &change, &version, &again), CR_OK);
    CHECK_UINT(version, 2);
    CHECK_UINT(again.number, row.number);

    tap_row("an empty write");
    change.expect_version = 0;
    change.data_bytes = 0;
    change.ending = ending_for(&f, CR_REASON_NONE);
    CHECK_STATUS(cr_store_change(f.store, &id, &change, &version, &row), CR_OK);
    CHECK_STATUS(cr_store_find(f.store, &id, &found), CR_OK);
    CHECK_UINT(found.data_bytes, 0);
    CHECK_UINT(found.version, 3);
    cr_record_fini(&found);
    fixture_fini(&f);
}

static void a_write_that_saw_another_version_changes_nothing(void)
{
    struct fixture f;
    struct cr_record found;
    struct cr_log_row row;
    uint64_t version = 0;
    if (!fixture_init(&f))
        return;
    struct cr_session_id id = session_for(&f, "anna");
    struct cr_change change = {.expect_version = 2, .set_data = true, .data_bytes = 1};
    change.data = (const unsigned char *)"x";
    change.set_rights = true;
    change.rights = (const unsigned char *)"admin";
    change.rights_bytes = 5;
    change.ending = ending_for(&f, CR_REASON_NONE);
    CHECK_STATUS(cr_store_change(f.store, &id, &change, &version, &row), CR_CONFLICT);
    CHECK_STATUS(cr_store_find(f.store, &id, &found), CR_OK);
    CHECK_UINT(found.version, 1);
    CHECK_UINT(found.rights_bytes, 0);
    CHECK_UINT(found.data_bytes, 0);
    CHECK_UINT(log_count(&f), 1);
    fixture_fini(&f);
}

/* D7 */
static void a_change_of_rights_is_logged_and_leaves_the_rest(void)
{
    struct fixture f;
    struct cr_record found;
    struct cr_log_row row;
    uint64_t version = 0;
    if (!fixture_init(&f))
        return;
    struct cr_session_id id = session_for(&f, "anna");
    struct cr_change change = {.set_rights = true, .rights_bytes = 5};
    change.rights = (const unsigned char *)"admin";
    change.ending = ending_for(&f, CR_REASON_ADMIN);
    CHECK_STATUS(cr_store_change(f.store, &id, &change, &version, &row), CR_OK);
    CHECK_UINT(version, 1);
    CHECK_INT(row.kind, CR_LOG_SESSION_CHANGED);
    CHECK_STATUS(cr_store_find(f.store, &id, &found), CR_OK);
    CHECK_UINT(found.version, 1);
    CHECK_UINT(found.rights_bytes, 5);
    CHECK_MEM(found.rights, "admin", 5);
    fixture_fini(&f);
}

static struct cr_change rotation_of(struct fixture *f, const struct cr_record *record,
                                    unsigned char to, cr_span_ms grace)
{
    struct cr_change change = {.set_token = true, .expect_hash = record->hash, .old_grace = grace};
    memset(&change.hash, to, sizeof change.hash);
    change.sealed_bytes = grace > 0 ? CR_SEALED_BYTES_MAX : 0;
    memset(change.sealed, to, change.sealed_bytes);
    change.ending = ending_for(f, CR_REASON_NONE);
    return change;
}

static void a_rotation_keeps_the_old_token_for_its_grace(void)
{
    struct fixture f;
    struct cr_record before, after;
    struct cr_log_row row;
    uint64_t version;
    if (!fixture_init(&f))
        return;
    struct cr_session_id id = session_for(&f, "anna");
    CHECK_STATUS(cr_store_find(f.store, &id, &before), CR_OK);
    struct cr_change change = rotation_of(&f, &before, 7, 10000);
    CHECK_STATUS(cr_store_change(f.store, &id, &change, &version, &row), CR_OK);
    advance(&f, 4000);
    CHECK_STATUS(cr_store_find(f.store, &id, &after), CR_OK);
    CHECK_MEM(&after.hash, &change.hash, sizeof change.hash);
    CHECK_MEM(&after.old_hash, &before.hash, sizeof before.hash);
    CHECK_INT(after.old_left, 6000);
    CHECK_UINT(after.sealed_bytes, CR_SEALED_BYTES_MAX);
    CHECK_MEM(after.sealed, change.sealed, CR_SEALED_BYTES_MAX);

    tap_row("a second rotation of the same token");
    struct cr_change late = rotation_of(&f, &before, 8, 10000);
    CHECK_STATUS(cr_store_change(f.store, &id, &late, &version, &row), CR_CONFLICT);

    tap_row("a change of privilege");
    struct cr_change now = rotation_of(&f, &after, 9, 0);
    CHECK_STATUS(cr_store_change(f.store, &id, &now, &version, &row), CR_OK);
    CHECK_STATUS(cr_store_find(f.store, &id, &after), CR_OK);
    CHECK(after.old_left <= 0);
    CHECK_UINT(after.sealed_bytes, 0);
    struct cr_token_hash none = {{0}};
    CHECK_MEM(&after.old_hash, &none, sizeof none);
    fixture_fini(&f);
}

/* C3, C5: its end may lie further from its beginning than any login's. */
static void who_gives_the_password_again_has_another_end(void)
{
    struct fixture f;
    struct cr_record before, after;
    struct cr_log_row row;
    uint64_t version;
    if (!fixture_init(&f))
        return;
    struct cr_session_id id = session_for(&f, "anna");
    CHECK_STATUS(cr_store_find(f.store, &id, &before), CR_OK);
    cr_time_ms now = before.ends_at - before.absolute_left;
    struct cr_change change = rotation_of(&f, &before, 7, 0);
    change.set_authenticated = true;
    change.authenticated_at = now;
    change.ends_at = now + 2 * ABSOLUTE_MS;
    CHECK_STATUS(cr_store_change(f.store, &id, &change, &version, &row), CR_OK);
    CHECK_STATUS(cr_store_find(f.store, &id, &after), CR_OK);
    CHECK_INT(after.authenticated_at, now);
    CHECK_INT(after.ends_at, now + 2 * ABSOLUTE_MS);
    CHECK_INT(after.created_at, before.created_at);
    CHECK_UINT(after.version, before.version);
    CHECK_MEM(&after.hash, &change.hash, sizeof change.hash);

    tap_row("what is not set stays");
    struct cr_change next = rotation_of(&f, &after, 8, 0);
    CHECK_STATUS(cr_store_change(f.store, &id, &next, &version, &row), CR_OK);
    CHECK_STATUS(cr_store_find(f.store, &id, &after), CR_OK);
    CHECK_INT(after.authenticated_at, now);
    CHECK_INT(after.ends_at, now + 2 * ABSOLUTE_MS);
    cr_record_fini(&before);
    cr_record_fini(&after);
    fixture_fini(&f);
}

static int text_falls(const void *a, const void *b)
{
    return strcmp(((const struct cr_session_id *)b)->text, ((const struct cr_session_id *)a)->text);
}

/* 40 sessions, of which many were made in the same millisecond. */
static void pages_of_a_list_show_each_session_once(void)
{
    struct fixture f;
    struct cr_session_id ids[40], seen[40];
    size_t seen_count = 0;
    if (!fixture_init(&f))
        return;
    for (size_t i = 0; i < 40; i++) {
        ids[i] = session_for(&f, "anna");
        if (i % 16 == 15)
            advance(&f, 1);
    }
    (void)session_for(&f, "bert");
    struct cr_user anna = user_named("anna");
    struct cr_session_id after = {""};
    cr_time_ms created_at = 0;
    for (;;) {
        struct cr_record page[7];
        size_t count;
        if (!CHECK_STATUS(cr_store_list(f.store, &anna, created_at, &after, page, 7, &count),
                          CR_OK) ||
            count == 0)
            break;
        for (size_t i = 0; i < count; i++) {
            CHECK(page[i].data == NULL);
            if (CHECK(seen_count < 40))
                seen[seen_count++] = page[i].id;
        }
        created_at = page[count - 1].created_at;
        after = page[count - 1].id;
        /* One that is made meanwhile is newer, and moves nothing. */
        (void)session_for(&f, "carl");
    }
    CHECK_UINT(seen_count, 40);
    qsort(ids, 40, sizeof ids[0], text_falls);
    qsort(seen, 40, sizeof seen[0], text_falls);
    CHECK_MEM(seen, ids, sizeof ids);
    fixture_fini(&f);
}

static void a_list_shows_live_sessions_of_its_user_only(void)
{
    struct fixture f;
    struct cr_log_row row;
    if (!fixture_init(&f))
        return;
    CHECK_UINT(live_count(&f, "anna"), 0);
    struct cr_session_id ended = session_for(&f, "anna");
    (void)session_for(&f, "anna");
    (void)session_for(&f, "ann");
    (void)session_for(&f, NULL);
    struct cr_ending ending = ending_for(&f, CR_REASON_LOGOUT);
    CHECK_STATUS(cr_store_end(f.store, &ended, &ending, &row), CR_OK);
    CHECK_UINT(live_count(&f, "anna"), 1);
    advance(&f, IDLE_MS / 2);
    (void)session_for(&f, "anna");
    CHECK_UINT(live_count(&f, "anna"), 2);
    advance(&f, IDLE_MS / 2 + CR_SEEN_SLACK(IDLE_MS));
    CHECK_UINT(live_count(&f, "anna"), 1);
    struct cr_ending all = ending_for(&f, CR_REASON_EVERYBODY);
    CHECK_STATUS(cr_store_end_all(f.store, &all, &row), CR_OK);
    CHECK_UINT(live_count(&f, "anna"), 0);
    fixture_fini(&f);
}

static void a_reader_sees_what_was_committed(void)
{
    struct fixture f;
    struct cr_store *reader;
    struct cr_record found;
    if (!fixture_init(&f))
        return;
    if (!CHECK_STATUS(cr_store_reader(f.store, &reader), CR_OK))
        return;
    for (size_t i = 0; i < 10; i++) {
        struct cr_session_id id = session_for(&f, "anna");
        CHECK_STATUS(cr_store_find(reader, &id, &found), CR_OK);
    }
    cr_store_destroy(reader);
    fixture_fini(&f);
}

static const struct tap_test tests[] = {
    TAP_TEST(a_store_that_was_just_made_has_an_identity_and_a_key),
    TAP_TEST(a_created_session_is_found_with_all_that_it_was_given),
    TAP_TEST(a_session_that_nobody_made_is_not_found),
    TAP_TEST(an_id_is_given_once),
    TAP_TEST(a_plain_create_writes_no_log_row),
    TAP_TEST(an_anonymous_session_carries_no_generation_of_a_user),
    TAP_TEST(an_unused_session_dies_after_its_idle_span_and_slack),
    TAP_TEST(no_use_carries_a_session_past_its_absolute_end),
    TAP_TEST(seen_is_raised_and_never_lowered),
    TAP_TEST(no_call_brings_an_ended_session_back),
    TAP_TEST(a_write_raises_the_version_and_is_logged),
    TAP_TEST(a_write_that_saw_another_version_changes_nothing),
    TAP_TEST(a_change_of_rights_is_logged_and_leaves_the_rest),
    TAP_TEST(a_rotation_keeps_the_old_token_for_its_grace),
    TAP_TEST(who_gives_the_password_again_has_another_end),
    TAP_TEST(pages_of_a_list_show_each_session_once),
    TAP_TEST(a_list_shows_live_sessions_of_its_user_only),
    TAP_TEST(a_reader_sees_what_was_committed),
};
const struct contract_part contract_sessions = CONTRACT_PART(tests);
