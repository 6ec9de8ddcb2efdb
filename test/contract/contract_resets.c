/* SPDX-License-Identifier: Apache-2.0 */
/* Contract: links for a new password (ASVS E13). */
#include "contract.h"

#include <string.h>

#define SPAN_MS (20 * 60 * 1000LL)

static enum cr_status change(struct fixture *f, const char *name, struct cr_account_change change)
{
    struct cr_log_row row;
    struct cr_user user = user_named(name);
    change.ending = ending_for(f, CR_REASON_PASSWORD);
    return cr_store_account_change(f->store, &user, &change, &row);
}

static bool begin(struct fixture *f)
{
    struct cr_account_change add = {.add = true, .hash = "old"};
    if (!fixture_init(f))
        return false;
    CHECK_STATUS(change(f, "anna", add), CR_OK);
    CHECK_STATUS(change(f, "bert", add), CR_OK);
    return true;
}

static struct cr_token_hash hash_of(unsigned char which)
{
    struct cr_token_hash hash;
    memset(hash.bytes, which, sizeof hash.bytes);
    return hash;
}

static enum cr_status add(struct fixture *f, unsigned char which, const char *name)
{
    struct cr_reset_row row = {.hash = hash_of(which), .user = user_named(name), .left = SPAN_MS};
    return cr_store_reset_add(f->store, &row);
}

static enum cr_status find(struct fixture *f, unsigned char which)
{
    struct cr_reset_row row;
    struct cr_token_hash hash = hash_of(which);
    return cr_store_reset_find(f->store, &hash, &row);
}

static enum cr_status use(struct fixture *f, unsigned char which, const char *name,
                          const char *password)
{
    struct cr_account_change by = {.hash = password, .spends_reset = true, .reset = hash_of(which)};
    return change(f, name, by);
}

static void check_password(struct fixture *f, const char *name, const char *hash)
{
    struct cr_account_row row;
    struct cr_user user = user_named(name);
    CHECK_STATUS(cr_store_account_find(f->store, &user, &row), CR_OK);
    CHECK_STR(row.hash, hash);
}

static void a_link_is_found_until_its_time_is_over(void)
{
    struct fixture f;
    struct cr_reset_row row;
    struct cr_token_hash hash = hash_of(1);
    if (!begin(&f))
        return;
    CHECK_STATUS(find(&f, 1), CR_NOT_FOUND);
    CHECK_STATUS(add(&f, 1, "nobody"), CR_UNKNOWN_USER);
    CHECK_STATUS(add(&f, 1, "anna"), CR_OK);
    advance(&f, 1000);
    CHECK_STATUS(cr_store_reset_find(f.store, &hash, &row), CR_OK);
    CHECK_STR((const char *)row.user.bytes, "anna");
    CHECK_INT(row.left, SPAN_MS - 1000);
    CHECK_STATUS(find(&f, 2), CR_NOT_FOUND);
    advance(&f, SPAN_MS - 1001);
    CHECK_STATUS(find(&f, 1), CR_OK);
    advance(&f, 1);
    CHECK_STATUS(find(&f, 1), CR_NOT_FOUND);
    CHECK_STATUS(use(&f, 1, "anna", "new"), CR_CONFLICT);
    check_password(&f, "anna", "old");
    fixture_fini(&f);
}

static void a_link_sets_one_password_and_ends_the_sessions(void)
{
    struct fixture f;
    if (!begin(&f))
        return;
    CHECK_STATUS(add(&f, 1, "anna"), CR_OK);
    CHECK_STATUS(add(&f, 2, "anna"), CR_OK);
    CHECK_STATUS(add(&f, 3, "bert"), CR_OK);
    struct cr_session_id hers = session_for(&f, "anna"), his = session_for(&f, "bert");

    tap_row("another user's");
    CHECK_STATUS(use(&f, 3, "anna", "new"), CR_CONFLICT);
    tap_row("none");
    CHECK_STATUS(use(&f, 9, "anna", "new"), CR_CONFLICT);
    check_password(&f, "anna", "old");
    CHECK(is_live(&f, &hers));

    tap_row("hers");
    CHECK_STATUS(use(&f, 1, "anna", "new"), CR_OK);
    check_password(&f, "anna", "new");
    CHECK(!is_live(&f, &hers));
    CHECK(is_live(&f, &his));
    tap_row("again, and the other one of hers");
    CHECK_STATUS(use(&f, 1, "anna", "newer"), CR_CONFLICT);
    CHECK_STATUS(use(&f, 2, "anna", "newer"), CR_CONFLICT);
    CHECK_STATUS(find(&f, 1), CR_NOT_FOUND);
    CHECK_STATUS(find(&f, 2), CR_NOT_FOUND);
    check_password(&f, "anna", "new");
    CHECK_STATUS(find(&f, 3), CR_OK);
    fixture_fini(&f);
}

/* Each row is a change, and whether a link that was made before is good after it. */
static void a_change_that_ends_the_sessions_takes_the_links_with_it(void)
{
    static const struct {
        const char *name;
        struct cr_account_change change;
        bool keeps;
    } cases[] = {
        {"a new password", {.hash = "new"}, false},
        {"the same one again", {.hash = "old"}, false},
        {"a hash renewed at login", {.hash = "new", .keep_sessions = true}, true},
        {"disabled", {.set_disabled = true, .disabled = true}, false},
        {"enabled", {.set_disabled = true, .keep_sessions = true}, true},
        {"removed", {.remove = true}, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fixture f;
        if (!begin(&f))
            return;
        tap_row(cases[i].name);
        CHECK_STATUS(add(&f, 1, "anna"), CR_OK);
        CHECK_STATUS(add(&f, 2, "bert"), CR_OK);
        CHECK_STATUS(change(&f, "anna", cases[i].change), CR_OK);
        CHECK_STATUS(find(&f, 1), cases[i].keeps ? CR_OK : CR_NOT_FOUND);
        CHECK_STATUS(find(&f, 2), CR_OK);
        fixture_fini(&f);
    }
}

static void a_use_that_is_repeated_under_its_identity_is_made_once(void)
{
    struct fixture f;
    struct cr_log_row first, again;
    if (!begin(&f))
        return;
    struct cr_user anna = user_named("anna");
    struct cr_account_change by = {.hash = "new",
                                   .spends_reset = true,
                                   .reset = hash_of(1),
                                   .ending = ending_for(&f, CR_REASON_PASSWORD)};
    CHECK_STATUS(add(&f, 1, "anna"), CR_OK);
    CHECK_STATUS(cr_store_account_change(f.store, &anna, &by, &first), CR_OK);
    struct cr_session_id made = session_for(&f, "anna");
    CHECK_STATUS(cr_store_account_change(f.store, &anna, &by, &again), CR_OK);
    CHECK_UINT(again.number, first.number);
    CHECK(is_live(&f, &made));
    fixture_fini(&f);
}

static void a_batch_that_is_given_up_has_spent_nothing(void)
{
    struct fixture f;
    if (!begin(&f))
        return;
    CHECK_STATUS(cr_store_begin(f.store), CR_OK);
    CHECK_STATUS(add(&f, 1, "anna"), CR_OK);
    cr_store_rollback(f.store);
    CHECK_STATUS(find(&f, 1), CR_NOT_FOUND);
    CHECK_STATUS(add(&f, 1, "anna"), CR_OK);
    struct cr_session_id id = session_for(&f, "anna");
    CHECK_STATUS(cr_store_begin(f.store), CR_OK);
    CHECK_STATUS(use(&f, 1, "anna", "new"), CR_OK);
    cr_store_rollback(f.store);
    check_password(&f, "anna", "old");
    CHECK(is_live(&f, &id));
    CHECK_STATUS(use(&f, 1, "anna", "new"), CR_OK);

    tap_row("two uses in one batch");
    CHECK_STATUS(add(&f, 2, "bert"), CR_OK);
    CHECK_STATUS(cr_store_begin(f.store), CR_OK);
    CHECK_STATUS(use(&f, 2, "bert", "first"), CR_OK);
    CHECK_STATUS(use(&f, 2, "bert", "second"), CR_CONFLICT);
    CHECK_STATUS(cr_store_commit(f.store), CR_OK);
    check_password(&f, "bert", "first");
    fixture_fini(&f);
}

static void so_many_links_of_a_user_are_good_at_a_time(void)
{
    struct fixture f;
    if (!begin(&f))
        return;
    for (unsigned char i = 0; i < CR_RESETS_MAX; i++)
        CHECK_STATUS(add(&f, i, "anna"), CR_OK);
    CHECK_STATUS(add(&f, 100, "anna"), CR_E_LIMIT);
    CHECK_STATUS(add(&f, 101, "bert"), CR_OK);
    CHECK_STATUS(find(&f, 0), CR_OK);
    advance(&f, SPAN_MS);
    CHECK_STATUS(add(&f, 100, "anna"), CR_OK);
    fixture_fini(&f);
}

/* H9 */
static void links_that_are_over_are_swept(void)
{
    struct fixture f;
    size_t swept;
    if (!begin(&f))
        return;
    CHECK_STATUS(add(&f, 1, "anna"), CR_OK);
    CHECK_STATUS(add(&f, 2, "anna"), CR_OK);
    advance(&f, SPAN_MS - 1);
    CHECK_STATUS(add(&f, 3, "bert"), CR_OK);
    CHECK_STATUS(cr_store_sweep(f.store, 100, &swept), CR_OK);
    CHECK_UINT(swept, 0);
    advance(&f, 1);
    CHECK_STATUS(cr_store_sweep(f.store, 1, &swept), CR_OK);
    CHECK_UINT(swept, 1);
    CHECK_STATUS(cr_store_sweep(f.store, 100, &swept), CR_OK);
    CHECK_UINT(swept, 1);
    CHECK_STATUS(find(&f, 3), CR_OK);
    fixture_fini(&f);
}

static void no_clock_that_was_put_back_makes_a_link_good_for_longer_than_any(void)
{
    struct fixture f;
    struct cr_reset_row row;
    struct cr_token_hash hash = hash_of(1);
    if (!begin(&f))
        return;
    CHECK_STATUS(add(&f, 1, "anna"), CR_OK);
    f.clock.now_wall -= 365 * DAY_MS;
    CHECK_STATUS(cr_store_reset_find(f.store, &hash, &row), CR_OK);
    CHECK_INT(row.left, CR_RESET_MS_MAX);
    fixture_fini(&f);
}

static const struct tap_test tests[] = {
    TAP_TEST(a_link_is_found_until_its_time_is_over),
    TAP_TEST(a_link_sets_one_password_and_ends_the_sessions),
    TAP_TEST(a_change_that_ends_the_sessions_takes_the_links_with_it),
    TAP_TEST(a_use_that_is_repeated_under_its_identity_is_made_once),
    TAP_TEST(a_batch_that_is_given_up_has_spent_nothing),
    TAP_TEST(so_many_links_of_a_user_are_good_at_a_time),
    TAP_TEST(links_that_are_over_are_swept),
    TAP_TEST(no_clock_that_was_put_back_makes_a_link_good_for_longer_than_any),
};
const struct contract_part contract_resets = CONTRACT_PART(tests);
