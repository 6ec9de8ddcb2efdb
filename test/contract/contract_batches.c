/* SPDX-License-Identifier: Apache-2.0 */
/* Contract: what a batch promises. */
#include "contract.h"

#include <string.h>

static void one_failing_call_leaves_the_others_of_its_batch(void)
{
    struct fixture f;
    struct cr_session_id ids[20];
    struct cr_log_rows rows = {0};
    if (!fixture_init(&f))
        return;
    struct cr_session_id taken = session_for(&f, "anna");
    CHECK_STATUS(cr_store_begin(f.store), CR_OK);
    for (size_t i = 0; i < 20; i++) {
        ids[i] = session_for(&f, "anna");
        /* This one replaces, and so has raised the generation when it meets the taken id. */
        struct cr_record record = record_for(&f, "anna");
        struct cr_create_terms terms = {.replace = true, .has_generation = true, .generation = 99};
        terms.ending = ending_for(&f, CR_REASON_REPLACED);
        CHECK_STATUS(cr_store_create(f.store, &record, &terms, &rows), CR_CONFLICT);
        record.id = taken;
        terms.has_generation = false;
        CHECK_STATUS(cr_store_create(f.store, &record, &terms, &rows), CR_CONFLICT);
        /* And this one before it finds that there is no such anonymous session. */
        record = record_for(&f, "anna");
        terms.anonymous = id_random(&f);
        CHECK_STATUS(cr_store_create(f.store, &record, &terms, &rows), CR_CONFLICT);
        CHECK_UINT(rows.count, 0);
    }
    CHECK_STATUS(cr_store_commit(f.store), CR_OK);
    for (size_t i = 0; i < 20; i++)
        CHECK(is_live(&f, &ids[i]));
    CHECK(is_live(&f, &taken));
    CHECK_UINT(live_count(&f, "anna"), 21);
    CHECK_UINT(log_count(&f), 1);
    cr_log_rows_fini(&rows);
    fixture_fini(&f);
}

/* Changes of every kind, to be committed or not. */
static void changes_make(struct fixture *f, const struct cr_session_id *changed,
                         const struct cr_session_id *ended)
{
    struct cr_log_row row;
    uint64_t version;
    struct cr_ending end = ending_for(f, CR_REASON_LOGOUT), all = ending_for(f, CR_REASON_ADMIN);
    struct cr_user bert = user_named("bert");
    struct cr_change change = {.set_rights = true, .rights_bytes = 1};
    change.rights = (const unsigned char *)"x";
    change.ending = ending_for(f, CR_REASON_NONE);
    struct cr_lease_row lease = {.name = "a lease", .holder = {{1}}};
    struct cr_engine_row engine = {.identity = {{1}}, .lease = 5000};
    struct cr_account_change account = {.add = true, .hash = "hash"};
    account.ending = ending_for(f, CR_REASON_ADMIN);
    struct cr_user carl = user_named("carl");
    (void)session_for(f, "dora");
    CHECK_STATUS(cr_store_change(f->store, changed, &change, &version, &row), CR_OK);
    CHECK_STATUS(cr_store_end(f->store, ended, &end, &row), CR_OK);
    CHECK_STATUS(cr_store_end_user(f->store, &bert, &all, &row), CR_OK);
    CHECK_STATUS(cr_store_lease_take(f->store, &lease, 1000), CR_OK);
    CHECK_STATUS(cr_store_engine_register(f->store, &engine), CR_OK);
    CHECK_STATUS(cr_store_account_change(f->store, &carl, &account, &row), CR_OK);
    struct cr_ending everybody = ending_for(f, CR_REASON_EVERYBODY);
    CHECK_STATUS(cr_store_end_all(f->store, &everybody, &row), CR_OK);
    CHECK_UINT(row.number, 5);
}

static void a_batch_that_is_given_up_has_changed_nothing(void)
{
    struct fixture f;
    struct cr_record found;
    struct cr_lease_row lease;
    struct cr_engine_row engine;
    struct cr_account_row account;
    size_t count;
    if (!fixture_init(&f))
        return;
    struct cr_session_id changed = session_for(&f, "anna"), ended = session_for(&f, "anna"),
                         of_bert = session_for(&f, "bert");
    CHECK_STATUS(cr_store_begin(f.store), CR_OK);
    changes_make(&f, &changed, &ended);
    cr_store_rollback(f.store);
    struct cr_user carl = user_named("carl"), dora = user_named("dora");
    CHECK_STATUS(cr_store_find(f.store, &changed, &found), CR_OK);
    CHECK_UINT(found.rights_bytes, 0);
    CHECK_INT(found.dead, CR_REASON_NONE);
    CHECK(is_live(&f, &ended));
    CHECK(is_live(&f, &of_bert));
    CHECK_UINT(live_count(&f, "dora"), 0);
    CHECK_UINT(log_count(&f), 1);
    CHECK_STATUS(cr_store_lease_read(f.store, "a lease", &lease), CR_NOT_FOUND);
    CHECK_STATUS(cr_store_engine_list(f.store, &engine, 1, &count), CR_OK);
    CHECK_UINT(count, 0);
    CHECK_STATUS(cr_store_account_find(f.store, &carl, &account), CR_UNKNOWN_USER);
    struct cr_ending ending = ending_for(&f, CR_REASON_ADMIN);
    struct cr_log_row row;
    CHECK_STATUS(cr_store_end_user(f.store, &dora, &ending, &row), CR_UNKNOWN_USER);

    tap_row("the same, committed");
    CHECK_STATUS(cr_store_begin(f.store), CR_OK);
    changes_make(&f, &changed, &ended);
    CHECK_STATUS(cr_store_commit(f.store), CR_OK);
    CHECK_UINT(log_count(&f), 5);
    CHECK_INT(dead_for(&f, &ended), CR_REASON_LOGOUT);
    CHECK_INT(dead_for(&f, &of_bert), CR_REASON_EVERYBODY);
    CHECK_STATUS(cr_store_lease_read(f.store, "a lease", &lease), CR_OK);
    CHECK_STATUS(cr_store_account_find(f.store, &carl, &account), CR_OK);
    fixture_fini(&f);
}

static void a_store_that_is_closed_in_a_batch_gives_it_up(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    CHECK_STATUS(cr_store_begin(f.store), CR_OK);
    (void)session_for(&f, "anna");
    fixture_fini(&f);
}

static const struct tap_test tests[] = {
    TAP_TEST(one_failing_call_leaves_the_others_of_its_batch),
    TAP_TEST(a_batch_that_is_given_up_has_changed_nothing),
    TAP_TEST(a_store_that_is_closed_in_a_batch_gives_it_up),
};
const struct contract_part contract_batches = CONTRACT_PART(tests);
