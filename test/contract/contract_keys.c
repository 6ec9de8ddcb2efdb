/* SPDX-License-Identifier: Apache-2.0 */
/* Contract: MAC keys: added, told apart, kept for as long as a token of them can be alive. */
#include "contract.h"

#include <string.h>

#define WAIT_MS 10000LL

static enum cr_status key_add(struct fixture *f, unsigned char byte, cr_span_ms wait,
                              struct cr_log_row *out_row)
{
    unsigned char bytes[CR_KEY_BYTES];
    struct cr_ending ending = ending_for(f, CR_REASON_ADMIN);
    memset(bytes, byte, sizeof bytes);
    return cr_store_key_add(f->store, bytes, wait, &ending, out_row);
}

static size_t key_count(struct fixture *f)
{
    struct cr_key keys[CR_KEYS_MAX];
    size_t count = 0;
    CHECK_STATUS(cr_store_keys(f->store, keys, CR_KEYS_MAX, &count), CR_OK);
    return count;
}

static void sweep(struct fixture *f)
{
    size_t count;
    CHECK_STATUS(cr_store_sweep(f->store, 500, &count), CR_OK);
}

static void an_added_key_is_the_newest_and_waits_for_as_long_as_it_was_told(void)
{
    struct fixture f;
    struct cr_key keys[CR_KEYS_MAX];
    struct cr_log_row row, last;
    size_t count;
    if (!fixture_init(&f))
        return;
    CHECK_STATUS(key_add(&f, 0xa5, WAIT_MS, &row), CR_OK);
    CHECK_INT(row.kind, CR_LOG_KEY_ADDED);
    CHECK_UINT(row.generation, 2);
    CHECK_STATUS(cr_store_log_last(f.store, &last), CR_OK);
    CHECK_UINT(last.number, row.number);
    CHECK_STATUS(cr_store_keys(f.store, keys, CR_KEYS_MAX, &count), CR_OK);
    CHECK_UINT(count, 2);
    CHECK_INT(keys[0].since, f.clock.now_wall);
    CHECK_INT(keys[0].until, f.clock.now_wall + WAIT_MS);
    CHECK_INT(keys[0].signs_in, 0);
    CHECK_UINT(keys[1].number, 2);
    CHECK_UINT(keys[1].bytes[CR_KEY_BYTES - 1], 0xa5);
    CHECK_INT(keys[1].signs_in, WAIT_MS);
    CHECK_INT(keys[1].until, 0);
    /* Whatever the wall clock does meanwhile. */
    f.clock.now_wall -= 365 * DAY_MS;
    CHECK_STATUS(cr_store_keys(f.store, keys, CR_KEYS_MAX, &count), CR_OK);
    CHECK_INT(keys[1].signs_in, CR_KEY_WAIT_MS_MAX);
    f.clock.now_wall += 365 * DAY_MS + WAIT_MS;
    CHECK_STATUS(cr_store_keys(f.store, keys, CR_KEYS_MAX, &count), CR_OK);
    CHECK_INT(keys[1].signs_in, 0);
    CHECK_STATUS(cr_store_keys(f.store, keys, 1, &count), CR_E_LIMIT);
    fixture_fini(&f);
}

static void a_repeated_addition_adds_nothing(void)
{
    struct fixture f;
    struct cr_log_row row, again;
    unsigned char bytes[CR_KEY_BYTES] = {1};
    if (!fixture_init(&f))
        return;
    struct cr_ending ending = ending_for(&f, CR_REASON_ADMIN);
    CHECK_STATUS(cr_store_key_add(f.store, bytes, 0, &ending, &row), CR_OK);
    CHECK_STATUS(cr_store_key_add(f.store, bytes, 0, &ending, &again), CR_OK);
    CHECK_UINT(again.number, row.number);
    CHECK_UINT(key_count(&f), 2);
    fixture_fini(&f);
}

static void a_key_that_is_given_up_with_its_batch_is_not_there(void)
{
    struct fixture f;
    struct cr_log_row row;
    if (!fixture_init(&f))
        return;
    CHECK_STATUS(cr_store_begin(f.store), CR_OK);
    CHECK_STATUS(key_add(&f, 1, 0, &row), CR_OK);
    cr_store_rollback(f.store);
    CHECK_UINT(key_count(&f), 1);
    fixture_fini(&f);
}

static void there_are_no_more_keys_than_tokens_can_name(void)
{
    struct fixture f;
    struct cr_log_row row;
    if (!fixture_init(&f))
        return;
    session_for(&f, "anna");
    for (unsigned i = 2; i <= CR_KEYS_MAX; i++) {
        CHECK_STATUS(key_add(&f, (unsigned char)i, 0, &row), CR_OK);
        CHECK_UINT(row.generation, i);
    }
    uint64_t rows = log_count(&f);
    CHECK_STATUS(key_add(&f, 1, 0, &row), CR_E_LIMIT);
    CHECK_UINT(log_count(&f), rows);
    CHECK_UINT(key_count(&f), CR_KEYS_MAX);
    fixture_fini(&f);
}

static void a_key_is_kept_while_a_session_of_its_time_is_there_and_then_goes(void)
{
    struct fixture f;
    struct cr_key keys[CR_KEYS_MAX];
    struct cr_log_row row;
    size_t count;
    if (!fixture_init(&f))
        return;
    struct cr_session_id early = session_for(&f, "anna");
    CHECK_STATUS(key_add(&f, 2, 0, &row), CR_OK);
    /* An engine may still make tokens of the old one now. */
    sweep(&f);
    struct cr_session_id between = session_for(&f, "bert");
    advance(&f, CR_KEY_WAIT_MS_MAX + 1);
    sweep(&f);
    advance(&f, 1);
    session_for(&f, "carl");
    struct cr_ending ending = ending_for(&f, CR_REASON_ADMIN);
    CHECK_STATUS(cr_store_end(f.store, &early, &ending, &row), CR_OK);
    sweep(&f);
    CHECK_UINT(key_count(&f), 2);
    ending = ending_for(&f, CR_REASON_ADMIN);
    CHECK_STATUS(cr_store_end(f.store, &between, &ending, &row), CR_OK);
    sweep(&f);
    CHECK_STATUS(cr_store_keys(f.store, keys, CR_KEYS_MAX, &count), CR_OK);
    CHECK_UINT(count, 1);
    CHECK_UINT(keys[0].number, 2);
    fixture_fini(&f);
}

static void the_only_key_is_never_swept_and_numbers_go_round(void)
{
    struct fixture f;
    struct cr_log_row row;
    if (!fixture_init(&f))
        return;
    advance(&f, 30 * DAY_MS);
    sweep(&f);
    CHECK_UINT(key_count(&f), 1);
    for (unsigned i = 2; i <= CR_KEYS_MAX + 2; i++) {
        CHECK_STATUS(key_add(&f, (unsigned char)i, 0, &row), CR_OK);
        CHECK_UINT(row.generation, (i - 1) % CR_KEYS_MAX + 1);
        advance(&f, CR_KEY_WAIT_MS_MAX + 1);
        sweep(&f);
        CHECK_UINT(key_count(&f), 1);
    }
    fixture_fini(&f);
}

static const struct tap_test tests[] = {
    TAP_TEST(an_added_key_is_the_newest_and_waits_for_as_long_as_it_was_told),
    TAP_TEST(a_repeated_addition_adds_nothing),
    TAP_TEST(a_key_that_is_given_up_with_its_batch_is_not_there),
    TAP_TEST(there_are_no_more_keys_than_tokens_can_name),
    TAP_TEST(a_key_is_kept_while_a_session_of_its_time_is_there_and_then_goes),
    TAP_TEST(the_only_key_is_never_swept_and_numbers_go_round),
};
const struct contract_part contract_keys = CONTRACT_PART(tests);
