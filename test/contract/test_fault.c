/* SPDX-License-Identifier: Apache-2.0 */
/* The fault store with faults: it fails as its plan says, and lies about nothing else. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "contract.h"
#include "files.h"

static struct cr_fault_plan plan;

static bool begin(struct fixture *f)
{
    struct cr_store *inner;
    fixture_env(f);
    plan = (struct cr_fault_plan){0};
    return CHECK_STATUS(cr_store_open("memory:", &f->env, &inner, NULL), CR_OK) &&
           CHECK_STATUS(cr_store_fault_create(inner, &plan, &f->store), CR_OK);
}

static void end(struct fixture *f)
{
    plan = (struct cr_fault_plan){0};
    cr_store_destroy(f->store);
}

static struct cr_fault_plan plan_of(enum cr_fault_kind kind)
{
    return (struct cr_fault_plan){.kind = kind, .count = UINT64_MAX};
}

static enum cr_status one_login(struct fixture *f, struct cr_session_id *out_id)
{
    struct cr_create_terms terms = {.replace = true};
    return login(f, "anna", terms, CR_REASON_REPLACED, out_id, NULL);
}

static void a_store_that_cannot_be_asked_changes_nothing(void)
{
    struct fixture f;
    struct cr_session_id made;
    struct cr_record found;
    if (!begin(&f))
        return;
    struct cr_session_id before = session_for(&f, "anna");
    plan = plan_of(CR_FAULT_UNAVAILABLE);
    CHECK_STATUS(one_login(&f, &made), CR_UNAVAILABLE);
    CHECK_STATUS(cr_store_find(f.store, &before, &found), CR_UNAVAILABLE);
    CHECK(plan.calls >= 2);
    plan = plan_of(CR_FAULT_NONE);
    CHECK(is_live(&f, &before));
    CHECK(!is_live(&f, &made));
    end(&f);
}

/* The first call of a login fails, then the second, and so on until it goes through. */
static void whichever_call_fails_a_login_is_whole_or_not_at_all(void)
{
    struct fixture f;
    struct cr_session_id made;
    enum cr_status st = CR_UNAVAILABLE;
    uint64_t after = 0;
    if (!begin(&f))
        return;
    struct cr_session_id before = session_for(&f, "anna");
    for (; st != CR_OK && after < 10; after++) {
        plan = (struct cr_fault_plan){.kind = CR_FAULT_UNAVAILABLE, .after = after, .count = 1};
        st = one_login(&f, &made);
        plan.kind = CR_FAULT_NONE;
        CHECK_INT(is_live(&f, &before), st != CR_OK);
        CHECK_INT(is_live(&f, &made), st == CR_OK);
        CHECK_UINT(log_count(&f), st == CR_OK ? 2 : 1);
    }
    CHECK_UINT(after, 4); /* begin, create, commit */
    end(&f);
}

/* Rule 9: asked for again under its identity until it is known. */
static void a_lost_outcome_is_known_when_it_is_asked_for_again(void)
{
    static const enum cr_fault_kind kinds[] = {CR_FAULT_LOST, CR_FAULT_NOT_MADE};
    for (size_t i = 0; i < 2; i++) {
        struct fixture f;
        struct cr_log_row row, again;
        bool made = kinds[i] == CR_FAULT_LOST;
        if (!begin(&f))
            return;
        tap_row(made ? "made" : "not made");
        struct cr_user anna = user_named("anna");
        struct cr_session_id id = session_for(&f, "anna");
        struct cr_ending ending = ending_for(&f, CR_REASON_ADMIN);
        plan = plan_of(kinds[i]);
        CHECK_STATUS(cr_store_end_user(f.store, &anna, &ending, &row), CR_E_UNKNOWN_OUTCOME);
        CHECK_INT(is_live(&f, &id), !made);
        CHECK_STATUS(cr_store_log_find(f.store, &ending.identity, &again),
                     made ? CR_OK : CR_NOT_FOUND);
        plan = plan_of(CR_FAULT_NONE);
        CHECK_STATUS(cr_store_end_user(f.store, &anna, &ending, &again), CR_OK);
        CHECK_UINT(again.number, 2);
        CHECK_UINT(log_count(&f), 2);
        CHECK(!is_live(&f, &id));
        end(&f);
    }
}

/* Rule 8. */
static void an_answer_to_another_question_is_damage(void)
{
    struct fixture f;
    struct cr_record found;
    if (!begin(&f))
        return;
    struct cr_session_id id = session_for(&f, "anna");
    plan = plan_of(CR_FAULT_WRONG);
    CHECK_STATUS(cr_store_find(f.store, &id, &found), CR_E_CORRUPT);
    CHECK(found.data == NULL);
    CHECK_UINT(live_count(&f, "anna"), 1);
    end(&f);
}

static void a_plan_counts_the_calls_that_it_is_about(void)
{
    struct fixture f;
    struct cr_record found;
    struct cr_session_id made;
    if (!begin(&f))
        return;
    struct cr_session_id id = session_for(&f, "anna");

    tap_row("reads only, the third and the fourth");
    plan = (struct cr_fault_plan){
        .kind = CR_FAULT_UNAVAILABLE, .after = 2, .count = 2, .reads_only = true};
    for (size_t i = 0; i < 6; i++) {
        bool fails = i == 2 || i == 3;
        (void)session_for(&f, "bert");
        CHECK_STATUS(cr_store_find(f.store, &id, &found), fails ? CR_UNAVAILABLE : CR_OK);
    }
    CHECK_UINT(plan.calls, 6);

    tap_row("commits only");
    plan = (struct cr_fault_plan){
        .kind = CR_FAULT_UNAVAILABLE, .count = UINT64_MAX, .commits_only = true};
    CHECK_STATUS(one_login(&f, &made), CR_UNAVAILABLE);
    CHECK(is_live(&f, &id));
    CHECK_UINT(plan.calls, 1);
    end(&f);
}

static void readers_share_the_plan(void)
{
    struct fixture f;
    struct cr_store *reader;
    struct cr_record found;
    if (!begin(&f))
        return;
    struct cr_session_id id = session_for(&f, "anna");
    CHECK_STATUS(cr_store_reader(f.store, &reader), CR_OK);
    plan = plan_of(CR_FAULT_UNAVAILABLE);
    CHECK_STATUS(cr_store_find(reader, &id, &found), CR_UNAVAILABLE);
    plan = plan_of(CR_FAULT_NONE);
    CHECK_STATUS(cr_store_find(reader, &id, &found), CR_OK);
    cr_store_destroy(reader);
    end(&f);
}

static void a_plan_may_be_a_file_that_changes(void)
{
    static const struct {
        const char *plan;
        enum cr_status finds[3];
    } cases[] = {
        {"unavailable\n", {CR_UNAVAILABLE, CR_UNAVAILABLE, CR_UNAVAILABLE}},
        {"unavailable 1 1\n", {CR_OK, CR_UNAVAILABLE, CR_OK}},
        {"none\n", {CR_OK, CR_OK, CR_OK}},
        {"wrong 2\n", {CR_OK, CR_OK, CR_E_CORRUPT}},
        {"unavailable 0 9 0 commits\n", {CR_OK, CR_OK, CR_OK}},
        {"unavailable 0 2 0 reads", {CR_UNAVAILABLE, CR_UNAVAILABLE, CR_OK}},
        {"slow 0 9 1", {CR_OK, CR_OK, CR_OK}},
        {"nonsense", {CR_OK, CR_OK, CR_OK}},
        {"", {CR_OK, CR_OK, CR_OK}},
    };
    struct fixture f;
    struct scratch scratch;
    struct cr_error error = {.size = sizeof error};
    char url[400];
    fixture_env(&f);
    if (!scratch_make(&scratch))
        return;
    snprintf(url, sizeof url, "fault:%s,memory:", scratch.path);
    if (!CHECK_STATUS(cr_store_open(url, &f.env, &f.store, &error), CR_OK))
        return;
    struct cr_session_id id = session_for(&f, "anna");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tap_row(cases[i].plan);
        file_write(scratch.path, cases[i].plan, strlen(cases[i].plan));
        for (size_t n = 0; n < 3; n++) {
            struct cr_record found;
            CHECK_STATUS(cr_store_find(f.store, &id, &found), cases[i].finds[n]);
        }
    }
    unlink(scratch.path);
    CHECK(is_live(&f, &id));
    scratch_end(&f, &scratch);
}

static const struct tap_test tests[] = {
    TAP_TEST(a_store_that_cannot_be_asked_changes_nothing),
    TAP_TEST(whichever_call_fails_a_login_is_whole_or_not_at_all),
    TAP_TEST(a_lost_outcome_is_known_when_it_is_asked_for_again),
    TAP_TEST(an_answer_to_another_question_is_damage),
    TAP_TEST(a_plan_counts_the_calls_that_it_is_about),
    TAP_TEST(readers_share_the_plan),
    TAP_TEST(a_plan_may_be_a_file_that_changes),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
