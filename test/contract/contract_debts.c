/* SPDX-License-Identifier: Apache-2.0 */
/* Contract: what is owed to the login limits (COORDINATION.md, section 2). */
#include "contract.h"

#include <string.h>

static struct cr_debt_row debt_of(unsigned char key, const char *user, const char *address,
                                  cr_span_ms left)
{
    struct cr_debt_row row = {.kind = key, .left = {left, 0, 2 * left, 0}};
    memset(row.key, key, sizeof row.key);
    if (user != NULL)
        row.user = user_named(user);
    strncpy(row.address, address, sizeof row.address - 1);
    return row;
}

static enum cr_status find(struct fixture *f, unsigned char key, struct cr_debt_row *out)
{
    unsigned char bytes[CR_DEBT_KEY_BYTES];
    memset(bytes, key, sizeof bytes);
    return cr_store_debt_find(f->store, bytes, out);
}

static void a_debt_is_found_until_its_time_is_over(void)
{
    struct fixture f;
    struct cr_debt_row read;
    if (!fixture_init(&f))
        return;
    struct cr_debt_row rows[] = {debt_of(1, "maria", "192.0.2.1", 60000),
                                 debt_of(2, NULL, "192.0.2.1", 1000)};
    CHECK_STATUS(find(&f, 1, &read), CR_NOT_FOUND);
    CHECK_STATUS(cr_store_debt_put(f.store, rows, 2), CR_OK);
    advance(&f, 500);
    CHECK_STATUS(find(&f, 1, &read), CR_OK);
    CHECK_UINT(read.kind, 1);
    CHECK(cr_user_equal(&read.user, &rows[0].user));
    CHECK_STR(read.address, "192.0.2.1");
    CHECK_INT(read.left[0], 59500);
    CHECK_INT(read.left[1], 0);
    CHECK_INT(read.left[2], 119500);
    CHECK_INT(read.left[3], 0);
    CHECK_STATUS(find(&f, 2, &read), CR_OK);
    CHECK_UINT(read.user.length, 0);
    CHECK_INT(read.left[0], 500);
    advance(&f, 59500);
    CHECK_STATUS(find(&f, 1, &read), CR_OK);
    CHECK_INT(read.left[0], 0);
    CHECK_INT(read.left[2], 60000);
    CHECK_STATUS(find(&f, 2, &read), CR_NOT_FOUND);
    advance(&f, 60000);
    CHECK_STATUS(find(&f, 1, &read), CR_NOT_FOUND);
    fixture_fini(&f);
}

static void the_last_put_of_a_key_is_what_is_owed(void)
{
    struct fixture f;
    struct cr_debt_row read;
    if (!fixture_init(&f))
        return;
    struct cr_debt_row more = debt_of(1, "maria", "", 5000), less = debt_of(1, "maria", "", 3000),
                       nothing = debt_of(1, "maria", "", 0);
    CHECK_STATUS(cr_store_debt_put(f.store, &more, 1), CR_OK);
    CHECK_STATUS(cr_store_debt_put(f.store, &less, 1), CR_OK);
    CHECK_STATUS(find(&f, 1, &read), CR_OK);
    CHECK_INT(read.left[0], 3000);
    CHECK_STATUS(cr_store_debt_put(f.store, &nothing, 1), CR_OK);
    CHECK_STATUS(find(&f, 1, &read), CR_NOT_FOUND);
    CHECK_STATUS(cr_store_debt_put(f.store, &nothing, 1), CR_OK);

    tap_row("a batch that is given up");
    CHECK_STATUS(cr_store_begin(f.store), CR_OK);
    CHECK_STATUS(cr_store_debt_put(f.store, &more, 1), CR_OK);
    cr_store_rollback(f.store);
    CHECK_STATUS(find(&f, 1, &read), CR_NOT_FOUND);
    fixture_fini(&f);
}

static void no_jump_of_the_wall_clock_forgives_a_debt(void)
{
    static const cr_span_ms jumps[] = {3600000, -3600000, -365 * DAY_MS, 730 * DAY_MS};
    struct fixture f;
    struct cr_debt_row read;
    size_t swept;
    if (!fixture_init(&f))
        return;
    struct cr_debt_row row = debt_of(1, "maria", "", 60000);
    CHECK_STATUS(cr_store_debt_put(f.store, &row, 1), CR_OK);
    for (size_t i = 0; i < 4; i++) {
        f.clock.now_wall += jumps[i];
        CHECK_STATUS(cr_store_sweep(f.store, 100, &swept), CR_OK);
        CHECK_STATUS(find(&f, 1, &read), CR_OK);
        CHECK_INT(read.left[0], 60000);
    }
    fixture_fini(&f);
}

static void debts_are_listed_the_largest_first(void)
{
    struct fixture f;
    struct cr_debt_row rows[4], read[3];
    size_t count;
    if (!fixture_init(&f))
        return;
    for (unsigned char i = 0; i < 4; i++)
        rows[i] = debt_of((unsigned char)(1 + i), NULL, "192.0.2.1",
                          (cr_span_ms[]){2000, 9000, 1, 4000}[i]);
    CHECK_STATUS(cr_store_debt_list(f.store, read, 3, &count), CR_OK);
    CHECK_UINT(count, 0);
    CHECK_STATUS(cr_store_debt_put(f.store, rows, 4), CR_OK);
    CHECK_STATUS(cr_store_debt_list(f.store, read, 2, &count), CR_OK);
    CHECK_UINT(count, 2);
    CHECK_UINT(read[0].kind, 2);
    CHECK_UINT(read[1].kind, 4);
    advance(&f, 100);
    CHECK_STATUS(cr_store_debt_list(f.store, read, 3, &count), CR_OK);
    CHECK_UINT(count, 3);
    CHECK_UINT(read[2].kind, 1);
    CHECK_INT(read[2].left[2], 3900);
    fixture_fini(&f);
}

static void what_is_forgotten_is_of_the_user_and_the_address(void)
{
    static const struct {
        const char *what, *user, *address;
        bool stays[3]; /* maria's, maria's from there, the address's */
    } cases[] = {
        {"a user", "maria", NULL, {false, false, true}},
        {"an address", NULL, "192.0.2.1", {true, false, false}},
        {"a user there", "maria", "192.0.2.1", {true, false, true}},
        {"another user", "joe", NULL, {true, true, true}},
    };
    for (size_t i = 0; i < 4; i++) {
        struct fixture f;
        struct cr_debt_row read;
        if (!fixture_init(&f))
            return;
        struct cr_debt_row rows[] = {debt_of(1, "maria", "", 1000),
                                     debt_of(2, "maria", "192.0.2.1", 1000),
                                     debt_of(3, NULL, "192.0.2.1", 1000)};
        struct cr_user user = user_named(cases[i].user == NULL ? "nobody" : cases[i].user);
        tap_row(cases[i].what);
        CHECK_STATUS(cr_store_debt_put(f.store, rows, 3), CR_OK);
        CHECK_STATUS(
            cr_store_debt_forget(f.store, cases[i].user == NULL ? NULL : &user, cases[i].address),
            CR_OK);
        for (unsigned char key = 1; key <= 3; key++)
            CHECK_STATUS(find(&f, key, &read), cases[i].stays[key - 1] ? CR_OK : CR_NOT_FOUND);
        fixture_fini(&f);
    }
}

static void what_nothing_is_left_of_is_swept(void)
{
    struct fixture f;
    struct cr_debt_row read;
    size_t swept;
    if (!fixture_init(&f))
        return;
    struct cr_debt_row rows[] = {debt_of(1, "maria", "", 1000), debt_of(2, "maria", "", 1000),
                                 debt_of(3, "maria", "", 90000)};
    CHECK_STATUS(cr_store_debt_put(f.store, rows, 3), CR_OK);
    CHECK_STATUS(cr_store_sweep(f.store, 100, &swept), CR_OK);
    CHECK_UINT(swept, 0);
    advance(&f, 2000);
    CHECK_STATUS(cr_store_sweep(f.store, 1, &swept), CR_OK);
    CHECK_UINT(swept, 1);
    CHECK_STATUS(cr_store_sweep(f.store, 100, &swept), CR_OK);
    CHECK_UINT(swept, 1);
    CHECK_STATUS(find(&f, 3, &read), CR_OK);
    fixture_fini(&f);
}

static const struct tap_test tests[] = {
    TAP_TEST(a_debt_is_found_until_its_time_is_over),
    TAP_TEST(the_last_put_of_a_key_is_what_is_owed),
    TAP_TEST(no_jump_of_the_wall_clock_forgives_a_debt),
    TAP_TEST(debts_are_listed_the_largest_first),
    TAP_TEST(what_is_forgotten_is_of_the_user_and_the_address),
    TAP_TEST(what_nothing_is_left_of_is_swept),
};
const struct contract_part contract_debts = CONTRACT_PART(tests);
