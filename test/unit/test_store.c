/* SPDX-License-Identifier: Apache-2.0 */
/* The wrappers, over a store that lies: what cannot be an answer to what was asked is CR_E_CORRUPT.
 */
#include "store/store.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/sqlite_log.h"
#include "tap.h"

/* What the store gives back to any call. */
static struct {
    struct cr_record records[3];
    size_t record_count;
    struct cr_log_row rows[3];
    size_t row_count;
    bool gives_data;
} lie;

static const struct cr_session_id asked = {"crp_AAAAAAAAAAAAAAAAAAAAAAAA"};
static const struct cr_user anna = {4, "anna"};
static const struct cr_ending ending = {.identity = {{9}}, .by = "a test"};
static unsigned begins, commits, rollbacks;

static enum cr_status lie_begin(struct cr_store *s)
{
    begins++;
    return CR_OK;
}

static enum cr_status lie_commit(struct cr_store *s)
{
    commits++;
    return CR_OK;
}

static void lie_rollback(struct cr_store *s)
{
    rollbacks++;
}

static enum cr_status lie_find(struct cr_store *s, const struct cr_session_id *id,
                               struct cr_record *out)
{
    *out = lie.records[0];
    if (lie.gives_data)
        out->data = malloc(8);
    return CR_OK;
}

static enum cr_status lie_list(struct cr_store *s, const struct cr_user *user,
                               cr_time_ms created_at, const struct cr_session_id *after,
                               struct cr_record *out, size_t capacity, size_t *out_count)
{
    memcpy(out, lie.records, sizeof lie.records);
    *out_count = lie.record_count;
    return CR_OK;
}

static enum cr_status lie_list_dead(struct cr_store *s, const struct cr_user *user,
                                    struct cr_record *out, size_t capacity, size_t *out_count)
{
    return lie_list(s, user, 0, NULL, out, capacity, out_count);
}

static enum cr_status lie_end(struct cr_store *s, const struct cr_session_id *id,
                              const struct cr_ending *asked_for, struct cr_log_row *out_row)
{
    *out_row = lie.rows[0];
    return CR_OK;
}

static enum cr_status lie_log_read(struct cr_store *s, uint64_t number, size_t limit,
                                   struct cr_log_rows *out)
{
    enum cr_status st = CR_OK;
    for (size_t i = 0; st == CR_OK && i < lie.row_count; i++)
        st = cr_log_rows_add(out, &lie.rows[i]);
    return st;
}

static enum cr_status lie_log_ended(struct cr_store *s, const struct cr_user *user, size_t limit,
                                    struct cr_log_rows *out)
{
    return lie_log_read(s, 0, limit, out);
}

static enum cr_status lie_keys(struct cr_store *s, struct cr_key *out, size_t capacity,
                               size_t *out_count)
{
    *out_count = 0;
    return CR_OK;
}

static void lie_destroy(struct cr_store *s)
{
}

static const struct cr_store_ops lie_ops = {
    .name = "lie",
    .contract = CR_STORE_CONTRACT,
    .begin = lie_begin,
    .commit = lie_commit,
    .rollback = lie_rollback,
    .find = lie_find,
    .list = lie_list,
    .list_dead = lie_list_dead,
    .end = lie_end,
    .log_read = lie_log_read,
    .log_ended = lie_log_ended,
    .keys = lie_keys,
    .destroy = lie_destroy,
};

static bool begin(struct cr_store *store)
{
    memset(&lie, 0, sizeof lie);
    begins = commits = rollbacks = 0;
    lie.record_count = 3;
    lie.row_count = 3;
    for (size_t i = 0; i < 3; i++) {
        struct cr_record *record = &lie.records[i];
        record->id = asked;
        record->id.text[CR_SESSION_ID_CHARS - 1] = (char)('C' - (char)i);
        record->user = anna;
        record->idle = 1000;
        record->version = 1;
        record->created_at = 5000;
        struct cr_log_row *row = &lie.rows[i];
        row->number = 7 + i;
        row->identity = ending.identity;
        row->kind = CR_LOG_SESSION_ENDED;
        row->session = asked;
    }
    lie.records[0].id = asked;
    return CHECK_STATUS(cr_store_init(store, &lie_ops), CR_OK);
}

/* Each changes the answer of a find that would be right. */
static void wrong_id(void)
{
    lie.records[0].id.text[10] = 'B';
}
static void no_id(void)
{
    memset(&lie.records[0].id, 'x', sizeof lie.records[0].id);
}
static void long_user(void)
{
    lie.records[0].user.length = CR_USER_BYTES_MAX + 1;
}
static void long_rights(void)
{
    lie.records[0].rights_bytes = CR_RIGHTS_BYTES_MAX + 1;
}
static void long_sealed(void)
{
    lie.records[0].sealed_bytes = CR_SEALED_BYTES_MAX + 1;
}
static void endless_address(void)
{
    memset(lie.records[0].address, 'a', sizeof lie.records[0].address);
}
static void endless_agent(void)
{
    memset(lie.records[0].agent, 'a', sizeof lie.records[0].agent);
}
static void no_idle(void)
{
    lie.records[0].idle = 0;
}
static void no_version(void)
{
    lie.records[0].version = 0;
}
static void data_of_no_length(void)
{
    lie.gives_data = true;
}
static void data_too_long(void)
{
    lie.gives_data = true;
    lie.records[0].data_bytes = CR_DATA_BYTES_MAX + 1;
}
static void length_of_no_data(void)
{
    lie.records[0].data_bytes = 1;
}

static void a_session_that_cannot_be_the_answer_is_damage(void)
{
    static const struct {
        const char *name;
        void (*spoil)(void);
    } cases[] = {
        {"another id", wrong_id},
        {"an id without end", no_id},
        {"a user too long", long_user},
        {"rights too long", long_rights},
        {"a sealed token too long", long_sealed},
        {"an address without end", endless_address},
        {"an agent without end", endless_agent},
        {"no idle span", no_idle},
        {"no version", no_version},
        {"data of no length", data_of_no_length},
        {"data too long", data_too_long},
        {"a length of no data", length_of_no_data},
    };
    struct cr_store store;
    struct cr_record found;
    if (!begin(&store))
        return;
    CHECK_STATUS(cr_store_find(&store, &asked, &found), CR_OK);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        begin(&store);
        tap_row(cases[i].name);
        cases[i].spoil();
        CHECK_STATUS(cr_store_find(&store, &asked, &found), CR_E_CORRUPT);
        CHECK(found.data == NULL);
    }
    cr_store_destroy(&store);
}

static void a_list_out_of_order_or_of_others_is_damage(void)
{
    struct cr_store store;
    struct cr_record page[3];
    size_t count;
    if (!begin(&store))
        return;
    lie.records[0].id.text[CR_SESSION_ID_CHARS - 1] = 'C';
    const struct cr_record right = lie.records[1];
    CHECK_STATUS(cr_store_list(&store, &anna, 0, NULL, page, 3, &count), CR_OK);
    tap_row("one twice");
    lie.records[1] = lie.records[0];
    CHECK_STATUS(cr_store_list(&store, &anna, 0, NULL, page, 3, &count), CR_E_CORRUPT);
    lie.records[1] = right;
    tap_row("an older one first");
    lie.records[0].created_at--;
    CHECK_STATUS(cr_store_list(&store, &anna, 0, NULL, page, 3, &count), CR_E_CORRUPT);
    lie.records[0].created_at++;
    tap_row("not after the cursor");
    CHECK_STATUS(cr_store_list(&store, &anna, 5000, &right.id, page, 3, &count), CR_E_CORRUPT);
    tap_row("another user's");
    lie.records[1].user.bytes[0] = 'A';
    CHECK_STATUS(cr_store_list(&store, &anna, 0, NULL, page, 3, &count), CR_E_CORRUPT);
    lie.records[1] = right;
    tap_row("a dead one");
    lie.records[1].dead = CR_REASON_IDLE;
    CHECK_STATUS(cr_store_list(&store, &anna, 0, NULL, page, 3, &count), CR_E_CORRUPT);
    cr_store_destroy(&store);
}

static void dead_but_one(void)
{
    lie.records[1].dead = CR_REASON_NONE;
}
static void dead_of_another(void)
{
    lie.records[1].user.bytes[0] = 'A';
}
static void dead_twice(void)
{
    lie.records[1] = lie.records[0];
}
static void dead_older_first(void)
{
    lie.records[0].created_at--;
}
static void dead_older_generation_first(void)
{
    lie.records[0].user_generation--;
}
static void dead_too_many(void)
{
    lie.record_count = 4;
}

static void the_dead_out_of_order_or_of_others_are_damage(void)
{
    static const struct {
        const char *name;
        void (*spoil)(void);
    } cases[] = {
        {"a live one", dead_but_one},
        {"another user's", dead_of_another},
        {"one twice", dead_twice},
        {"an older one first", dead_older_first},
        {"an older generation first", dead_older_generation_first},
        {"more than fit", dead_too_many},
    };
    struct cr_store store;
    struct cr_record page[3];
    size_t count;
    for (size_t i = 0; i <= sizeof cases / sizeof cases[0]; i++) {
        bool spoilt = i < sizeof cases / sizeof cases[0];
        if (!begin(&store))
            return;
        lie.records[0].id.text[CR_SESSION_ID_CHARS - 1] = 'C';
        for (size_t k = 0; k < 3; k++) {
            lie.records[k].dead = CR_REASON_ADMIN;
            lie.records[k].user_generation = 7;
        }
        tap_row(spoilt ? cases[i].name : "as it is to be");
        if (spoilt)
            cases[i].spoil();
        CHECK_STATUS(cr_store_list_dead(&store, &anna, page, 3, &count),
                     spoilt ? CR_E_CORRUPT : CR_OK);
        cr_store_destroy(&store);
    }
}

static void an_ending_told_of_another_or_twice_is_damage(void)
{
    struct cr_store store;
    struct cr_log_rows rows = {0};
    if (!begin(&store))
        return;
    for (size_t i = 0; i < 3; i++) {
        lie.rows[i].number = 9 - i;
        lie.rows[i].user = anna;
    }
    CHECK_STATUS(cr_store_log_ended(&store, &anna, 3, &rows), CR_OK);
    tap_row("more than were asked for");
    CHECK_STATUS(cr_store_log_ended(&store, &anna, 2, &rows), CR_E_CORRUPT);
    tap_row("one twice");
    lie.rows[2] = lie.rows[1];
    CHECK_STATUS(cr_store_log_ended(&store, &anna, 3, &rows), CR_E_CORRUPT);
    lie.rows[2].number--;
    CHECK_STATUS(cr_store_log_ended(&store, &anna, 3, &rows), CR_OK);
    tap_row("another user's");
    lie.rows[1].user.bytes[0] = 'A';
    CHECK_STATUS(cr_store_log_ended(&store, &anna, 3, &rows), CR_E_CORRUPT);
    lie.rows[1].user = anna;
    tap_row("no ending");
    lie.rows[1].kind = CR_LOG_SESSION_CHANGED;
    CHECK_STATUS(cr_store_log_ended(&store, &anna, 3, &rows), CR_E_CORRUPT);
    lie.rows[1].kind = CR_LOG_SESSION_ENDED;
    tap_row("a device without end");
    memset(lie.rows[1].session_from.agent, 'a', sizeof lie.rows[1].session_from.agent);
    CHECK_STATUS(cr_store_log_ended(&store, &anna, 3, &rows), CR_E_CORRUPT);
    cr_log_rows_fini(&rows);
    cr_store_destroy(&store);
}

static void a_log_with_a_gap_or_from_too_early_is_damage(void)
{
    struct cr_store store;
    struct cr_log_rows rows = {0};
    if (!begin(&store))
        return;
    CHECK_STATUS(cr_store_log_read(&store, 7, 3, &rows), CR_OK);
    CHECK_UINT(rows.count, 3);
    CHECK_STATUS(cr_store_log_read(&store, 8, 3, &rows), CR_E_CORRUPT);
    CHECK_UINT(rows.count, 0);
    CHECK_STATUS(cr_store_log_read(&store, 7, 2, &rows), CR_E_CORRUPT);
    lie.rows[2].number++;
    CHECK_STATUS(cr_store_log_read(&store, 7, 3, &rows), CR_E_CORRUPT);
    lie.rows[2].number--;
    lie.rows[1].kind = (enum cr_log_kind)77;
    CHECK_STATUS(cr_store_log_read(&store, 7, 3, &rows), CR_E_CORRUPT);
    cr_log_rows_fini(&rows);
    cr_store_destroy(&store);
}

static void a_change_outside_a_batch_makes_one_of_its_own(void)
{
    struct cr_store store;
    struct cr_log_row row;
    if (!begin(&store))
        return;
    CHECK_STATUS(cr_store_end(&store, &asked, &ending, &row), CR_OK);
    CHECK(begins == 1 && commits == 1 && rollbacks == 0);

    tap_row("a row of another ending: given up");
    lie.rows[0].identity.bytes[0]++;
    CHECK_STATUS(cr_store_end(&store, &asked, &ending, &row), CR_E_CORRUPT);
    CHECK(begins == 2 && commits == 1 && rollbacks == 1);

    tap_row("inside one");
    lie.rows[0].identity = ending.identity;
    CHECK_STATUS(cr_store_begin(&store), CR_OK);
    CHECK_STATUS(cr_store_end(&store, &asked, &ending, &row), CR_OK);
    CHECK(begins == 3 && commits == 1);
    cr_store_destroy(&store);
    CHECK(rollbacks == 2);
}

static void a_store_without_keys_is_damaged(void)
{
    struct cr_store store;
    struct cr_key keys[1];
    size_t count;
    if (!begin(&store))
        return;
    CHECK_STATUS(cr_store_keys(&store, keys, 1, &count), CR_E_CORRUPT);
    cr_store_destroy(&store);
}

static void a_store_of_another_contract_is_refused(void)
{
    struct cr_store store;
    struct cr_store_ops ops = lie_ops;
    ops.contract = CR_STORE_CONTRACT + 1;
    CHECK_STATUS(cr_store_init(&store, &ops), CR_E_VERSION);
}

/* Times at the ends of their range come from disks only; sums of them must not wrap around. */
static void the_verdict_on_a_session_does_not_overflow(void)
{
    static const struct {
        cr_time_ms ends_at, seen_at, now;
        enum cr_reason want;
    } cases[] = {
        {INT64_MAX, INT64_MAX, INT64_MIN, CR_REASON_NONE},
        {INT64_MAX, INT64_MAX, INT64_MAX, CR_REASON_ABSOLUTE},
        {INT64_MIN, INT64_MIN, INT64_MIN, CR_REASON_ABSOLUTE},
        {INT64_MAX, INT64_MIN, INT64_MAX, CR_REASON_IDLE},
        {100, 50, 99, CR_REASON_NONE},
        {100, 50, 100, CR_REASON_ABSOLUTE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct cr_record record = {.idle = CR_SPAN_MS_MAX};
        record.ends_at = cases[i].ends_at;
        record.seen_at = cases[i].seen_at;
        cr_record_judge(&record, 0, 0, cases[i].now);
        CHECK_INT(record.dead, cases[i].want);
    }
}

/* Two small file systems have a 14th inode each. */
static void whose_read_holds_the_log_is_told_by_device_and_inode(void)
{
    static char locks[] = "1: POSIX  ADVISORY  READ 700 fe:11:14 124 124\n"
                          "2: POSIX  ADVISORY  READ 701 fe:01:15 124 124\n"
                          "3: POSIX  ADVISORY  WRITE 702 fe:01:14 120 120\n"
                          "3: -> POSIX  ADVISORY  READ 703 fe:01:14 124 124\n"
                          "4: OFDLCK ADVISORY  READ -1 fe:01:14 124 124\n"
                          "5: POSIX  ADVISORY  READ 704 fe:01:14 128 128\n"
                          "6: POSIX  ADVISORY  READ 705 fe:01:14 123 123\n"
                          "7: POSIX  ADVISORY  READ 706 fe:01:14 127 127\n";
    static const struct {
        struct cr_sqlite_index index;
        long except, want;
    } cases[] = {
        {{0xfe, 1, 14}, 0, 705},    {{0xfe, 1, 14}, 705, 706}, {{0xfe, 0x11, 14}, 0, 700},
        {{0xfe, 0x11, 14}, 700, 0}, {{0xfe, 11, 14}, 0, 0},    {{0, 1, 14}, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        FILE *file = fmemopen(locks, sizeof locks - 1, "r");
        CHECK(file != NULL);
        if (file == NULL)
            return;
        CHECK_INT(cr_sqlite_log_holder(file, &cases[i].index, cases[i].except), cases[i].want);
        (void)fclose(file);
    }
}

static const struct tap_test tests[] = {
    TAP_TEST(a_session_that_cannot_be_the_answer_is_damage),
    TAP_TEST(a_list_out_of_order_or_of_others_is_damage),
    TAP_TEST(the_dead_out_of_order_or_of_others_are_damage),
    TAP_TEST(an_ending_told_of_another_or_twice_is_damage),
    TAP_TEST(a_log_with_a_gap_or_from_too_early_is_damage),
    TAP_TEST(a_change_outside_a_batch_makes_one_of_its_own),
    TAP_TEST(a_store_without_keys_is_damaged),
    TAP_TEST(a_store_of_another_contract_is_refused),
    TAP_TEST(the_verdict_on_a_session_does_not_overflow),
    TAP_TEST(whose_read_holds_the_log_is_told_by_device_and_inode),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
