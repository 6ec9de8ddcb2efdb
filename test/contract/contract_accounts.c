/* SPDX-License-Identifier: Apache-2.0 */
/* Contract: accounts, and the sessions that end with a change of one. */
#include "contract.h"

#include <string.h>

#include "store/record.h"

static enum cr_status account_change(struct fixture *f, const char *name,
                                     struct cr_account_change change, struct cr_log_row *out_row)
{
    struct cr_user user = user_named(name);
    change.ending = ending_for(f, CR_REASON_PASSWORD);
    return cr_store_account_change(f->store, &user, &change, out_row);
}

static void account_add(struct fixture *f, const char *name, const char *hash)
{
    struct cr_log_row row;
    struct cr_account_change add = {.add = true, .hash = hash};
    CHECK_STATUS(account_change(f, name, add, &row), CR_OK);
}

static struct cr_account_row account_of(struct fixture *f, const char *name)
{
    struct cr_account_row row;
    struct cr_user user = user_named(name);
    CHECK_STATUS(cr_store_account_find(f->store, &user, &row), CR_OK);
    return row;
}

static void an_added_account_is_found(void)
{
    struct fixture f;
    struct cr_log_row row;
    struct cr_account_row found;
    char longest[CR_PASSWORD_HASH_CHARS_MAX + 1];
    if (!fixture_init(&f))
        return;
    memset(longest, 'h', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    struct cr_user anna = user_named("anna");
    CHECK_STATUS(cr_store_account_find(f.store, &anna, &found), CR_UNKNOWN_USER);
    struct cr_account_change add = {.add = true, .hash = longest};
    CHECK_STATUS(account_change(&f, "anna", add, &row), CR_OK);
    CHECK_UINT(row.number, 0);
    CHECK_UINT(log_count(&f), 1);
    found = account_of(&f, "anna");
    CHECK_STR(found.hash, longest);
    CHECK(!found.disabled);
    CHECK_INT(found.created_at, f.clock.now_wall);
    CHECK_INT(found.password_at, f.clock.now_wall);
    CHECK_UINT(found.generation, 1);
    CHECK_STATUS(account_change(&f, "anna", add, &row), CR_CONFLICT);
    fixture_fini(&f);
}

static void adding_an_account_ends_what_the_user_had_before(void)
{
    struct fixture f;
    struct cr_log_row row;
    if (!fixture_init(&f))
        return;
    struct cr_session_id before = session_for(&f, "anna");
    struct cr_account_change add = {.add = true, .hash = "h"};
    CHECK_STATUS(account_change(&f, "anna", add, &row), CR_OK);
    CHECK_UINT(row.number, 2);
    CHECK_INT(row.kind, CR_LOG_USER_ENDED);
    CHECK_UINT(row.generation, 2);
    CHECK(!is_live(&f, &before));
    CHECK_UINT(account_of(&f, "anna").generation, 2);
    fixture_fini(&f);
}

/* D2, D3: each row is a change, and whether sessions survive it. */
static void changes_of_an_account_end_sessions_unless_told_not_to(void)
{
    static const struct {
        const char *name;
        struct cr_account_change change;
        bool keeps;
    } cases[] = {
        {"a new password", {.hash = "new"}, false},
        {"a hash renewed at login", {.hash = "new", .keep_sessions = true}, true},
        {"disabled", {.set_disabled = true, .disabled = true}, false},
        {"enabled", {.set_disabled = true, .keep_sessions = true}, true},
        {"removed", {.remove = true}, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fixture f;
        struct cr_log_row row;
        if (!fixture_init(&f))
            return;
        tap_row(cases[i].name);
        account_add(&f, "anna", "old");
        struct cr_session_id id = session_for(&f, "anna");
        advance(&f, 1000);
        CHECK_STATUS(account_change(&f, "anna", cases[i].change, &row), CR_OK);
        CHECK_INT(is_live(&f, &id), cases[i].keeps);
        CHECK_UINT(row.number, cases[i].keeps ? 0 : 2);
        CHECK_UINT(log_count(&f), cases[i].keeps ? 1 : 2);
        struct cr_user anna = user_named("anna");
        struct cr_account_row found;
        if (cases[i].change.remove) {
            CHECK_STATUS(cr_store_account_find(f.store, &anna, &found), CR_UNKNOWN_USER);
        } else {
            found = account_of(&f, "anna");
            CHECK_STR(found.hash, cases[i].change.hash != NULL ? "new" : "old");
            CHECK_INT(found.disabled, cases[i].change.disabled);
            CHECK_UINT(found.generation, cases[i].keeps ? 1 : 2);
            bool is_set = cases[i].change.hash != NULL && !cases[i].keeps;
            CHECK_INT(found.password_at, f.clock.now_wall - (is_set ? 0 : 1000));
        }
        fixture_fini(&f);
    }
}

/* ASVS E12. */
static void a_password_that_must_be_changed_is_over_in_time(void)
{
    struct fixture f;
    struct cr_log_row row;
    struct cr_account_row page[2];
    size_t count = 0;
    if (!fixture_init(&f))
        return;
    account_add(&f, "bert", "h");
    struct cr_account_change once = {
        .add = true, .hash = "first", .must_change = true, .password_for = 5000};
    CHECK_STATUS(account_change(&f, "anna", once, &row), CR_OK);
    struct cr_account_row anna = account_of(&f, "anna");
    CHECK(anna.must_change && !anna.password_over);
    CHECK_INT(anna.password_until, f.clock.now_wall + 5000);
    CHECK(!account_of(&f, "bert").must_change);
    CHECK_INT(account_of(&f, "bert").password_until, 0);
    /* What is no new password leaves it at that. */
    struct cr_account_change renewed = {.hash = "second", .keep_sessions = true};
    CHECK_STATUS(account_change(&f, "anna", renewed, &row), CR_OK);
    struct cr_account_change disabled = {.set_disabled = true, .disabled = true};
    CHECK_STATUS(account_change(&f, "anna", disabled, &row), CR_OK);
    advance(&f, 4999);
    anna = account_of(&f, "anna");
    CHECK(anna.must_change && !anna.password_over);
    advance(&f, 1);
    CHECK(account_of(&f, "anna").password_over);
    CHECK(!account_of(&f, "bert").password_over);
    CHECK_STATUS(cr_store_account_list(f.store, NULL, page, 2, &count), CR_OK);
    if (CHECK_UINT(count, 2)) {
        CHECK(page[0].must_change && page[0].password_over);
        CHECK(!page[1].must_change && !page[1].password_over);
    }
    /* A new one, not by the user: over in time, too. */
    once.add = false;
    CHECK_STATUS(account_change(&f, "anna", once, &row), CR_OK);
    anna = account_of(&f, "anna");
    CHECK(anna.must_change && !anna.password_over);
    struct cr_account_change own = {.hash = "own"};
    CHECK_STATUS(account_change(&f, "anna", own, &row), CR_OK);
    anna = account_of(&f, "anna");
    CHECK(!anna.must_change && !anna.password_over);
    CHECK_INT(anna.password_until, 0);
    fixture_fini(&f);
}

/* ASVS E12. Nobody can say how long it has been good by then; for one that was never to be over
 * that is nothing. */
static void a_clock_that_is_put_back_does_not_bring_a_one_time_password_back(void)
{
    struct fixture f;
    struct cr_log_row row;
    if (!fixture_init(&f))
        return;
    account_add(&f, "bert", "h");
    struct cr_account_change once = {
        .add = true, .hash = "first", .must_change = true, .password_for = 900000};
    CHECK_STATUS(account_change(&f, "anna", once, &row), CR_OK);
    advance(&f, 300000);
    CHECK(!account_of(&f, "anna").password_over);
    f.clock.now_wall -= 3600000;
    CHECK(account_of(&f, "anna").password_over);
    CHECK(!account_of(&f, "bert").password_over);
    /* Put right again: what was left is left. */
    f.clock.now_wall += 3600000;
    CHECK(!account_of(&f, "anna").password_over);
    advance(&f, 600000);
    CHECK(account_of(&f, "anna").password_over);
    fixture_fini(&f);
}

static void an_account_that_is_not_there_cannot_be_changed(void)
{
    struct fixture f;
    struct cr_log_row row;
    if (!fixture_init(&f))
        return;
    struct cr_session_id id = session_for(&f, "anna");
    struct cr_account_change change = {.hash = "new"};
    CHECK_STATUS(account_change(&f, "anna", change, &row), CR_UNKNOWN_USER);
    CHECK(is_live(&f, &id));
    fixture_fini(&f);
}

/* E6 */
static void a_change_that_expects_another_hash_changes_nothing(void)
{
    struct fixture f;
    struct cr_log_row row;
    if (!fixture_init(&f))
        return;
    account_add(&f, "anna", "old");
    struct cr_session_id id = session_for(&f, "anna");
    struct cr_account_change change = {.hash = "new", .expect_hash = "other"};
    CHECK_STATUS(account_change(&f, "anna", change, &row), CR_CONFLICT);
    CHECK_STR(account_of(&f, "anna").hash, "old");
    CHECK(is_live(&f, &id));
    change.expect_hash = "old";
    CHECK_STATUS(account_change(&f, "anna", change, &row), CR_OK);
    CHECK_STR(account_of(&f, "anna").hash, "new");
    fixture_fini(&f);
}

static void a_repeated_change_of_an_account_is_made_once(void)
{
    struct fixture f;
    struct cr_log_row first, again;
    if (!fixture_init(&f))
        return;
    account_add(&f, "anna", "old");
    struct cr_user anna = user_named("anna");
    struct cr_account_change change = {.hash = "new", .expect_hash = "old"};
    change.ending = ending_for(&f, CR_REASON_PASSWORD);
    CHECK_STATUS(cr_store_account_change(f.store, &anna, &change, &first), CR_OK);
    struct cr_session_id made = session_for(&f, "anna");
    CHECK_STATUS(cr_store_account_change(f.store, &anna, &change, &again), CR_OK);
    CHECK_UINT(again.number, first.number);
    CHECK(is_live(&f, &made));
    fixture_fini(&f);
}

/* D11: a login whose password was read before the change. */
static void a_login_under_the_old_password_fails(void)
{
    struct fixture f;
    struct cr_log_row row;
    struct cr_session_id made;
    if (!fixture_init(&f))
        return;
    account_add(&f, "anna", "old");
    struct cr_account_row read = account_of(&f, "anna");
    struct cr_account_change change = {.hash = "new"};
    CHECK_STATUS(account_change(&f, "anna", change, &row), CR_OK);
    struct cr_create_terms terms = {.has_generation = true, .generation = read.generation};
    CHECK_STATUS(login(&f, "anna", terms, CR_REASON_NONE, &made, NULL), CR_CONFLICT);

    tap_row("removed and added again");
    struct cr_account_change gone = {.remove = true};
    read = account_of(&f, "anna");
    CHECK_STATUS(account_change(&f, "anna", gone, &row), CR_OK);
    account_add(&f, "anna", "new");
    terms.generation = read.generation;
    CHECK_STATUS(login(&f, "anna", terms, CR_REASON_NONE, &made, NULL), CR_CONFLICT);
    fixture_fini(&f);
}

static void accounts_are_listed_in_byte_order(void)
{
    static const char *const names[] = {"bert", "anna", "\xff", "ann", "B", "anna2"};
    static const char *const sorted[] = {"B", "ann", "anna", "anna2", "bert", "\xff"};
    struct fixture f;
    struct cr_account_row page[4];
    size_t count, seen = 0;
    if (!fixture_init(&f))
        return;
    for (size_t i = 0; i < 6; i++)
        account_add(&f, names[i], "h");
    struct cr_user after = {0};
    while (seen < 6) {
        CHECK_STATUS(cr_store_account_list(f.store, seen == 0 ? NULL : &after, page, 4, &count),
                     CR_OK);
        if (!CHECK_UINT(count, seen == 0 ? 4 : 2))
            break;
        for (size_t i = 0; i < count; i++) {
            struct cr_user want = user_named(sorted[seen++]);
            CHECK(cr_user_equal(&page[i].user, &want));
            CHECK_UINT(page[i].generation, 1);
        }
        after = page[count - 1].user;
    }
    CHECK_STATUS(cr_store_account_list(f.store, &after, page, 4, &count), CR_OK);
    CHECK_UINT(count, 0);
    fixture_fini(&f);
}

static const struct tap_test tests[] = {
    TAP_TEST(an_added_account_is_found),
    TAP_TEST(adding_an_account_ends_what_the_user_had_before),
    TAP_TEST(changes_of_an_account_end_sessions_unless_told_not_to),
    TAP_TEST(a_password_that_must_be_changed_is_over_in_time),
    TAP_TEST(a_clock_that_is_put_back_does_not_bring_a_one_time_password_back),
    TAP_TEST(an_account_that_is_not_there_cannot_be_changed),
    TAP_TEST(a_change_that_expects_another_hash_changes_nothing),
    TAP_TEST(a_repeated_change_of_an_account_is_made_once),
    TAP_TEST(a_login_under_the_old_password_fails),
    TAP_TEST(accounts_are_listed_in_byte_order),
};
const struct contract_part contract_accounts = CONTRACT_PART(tests);
