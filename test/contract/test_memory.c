/* SPDX-License-Identifier: Apache-2.0 */
/* What only the memory store promises: whom it is shared with; and a batch keeps all others out. */
#include <pthread.h>
#include <stdatomic.h>

#include "contract.h"

static void two_who_open_one_name_share_one_truth(void)
{
    struct fixture a, b;
    struct cr_ending_id of_a, of_b;
    struct cr_log_row row;
    fixture_env(&a);
    fixture_env(&b);
    if (!CHECK_STATUS(cr_store_open("memory:shared", &a.env, &a.store, NULL), CR_OK) ||
        !CHECK_STATUS(cr_store_open("memory:shared", &b.env, &b.store, NULL), CR_OK))
        return;
    CHECK(!cr_store_is_exclusive(a.store));
    CHECK_STATUS(cr_store_identity(a.store, &of_a), CR_OK);
    CHECK_STATUS(cr_store_identity(b.store, &of_b), CR_OK);
    CHECK_MEM(&of_a, &of_b, sizeof of_a);
    struct cr_session_id id = session_for(&a, "anna");
    CHECK(is_live(&b, &id));
    struct cr_ending ending = ending_for(&b, CR_REASON_LOGOUT);
    CHECK_STATUS(cr_store_end(b.store, &id, &ending, &row), CR_OK);
    CHECK(!is_live(&a, &id));
    cr_store_destroy(a.store);
    CHECK_UINT(log_count(&b), 2);
    cr_store_destroy(b.store);

    tap_row("after the last has gone");
    if (!CHECK_STATUS(cr_store_open("memory:shared", &a.env, &a.store, NULL), CR_OK))
        return;
    CHECK_UINT(log_count(&a), 1);
    cr_store_destroy(a.store);
}

static void without_a_name_each_has_its_own(void)
{
    struct fixture a, b;
    fixture_env(&a);
    fixture_env(&b);
    if (!CHECK_STATUS(cr_store_open("memory:", &a.env, &a.store, NULL), CR_OK) ||
        !CHECK_STATUS(cr_store_open("memory:", &b.env, &b.store, NULL), CR_OK))
        return;
    CHECK(cr_store_is_exclusive(a.store));
    struct cr_session_id id = session_for(&a, "anna");
    CHECK(!is_live(&b, &id));
    cr_store_destroy(a.store);
    cr_store_destroy(b.store);
}

/* A writer that makes and gives up batches, and a reader beside it in a thread. */
struct reading {
    struct cr_store *reader;
    struct cr_session_id id;
    atomic_bool stop;
    atomic_size_t reads;
    size_t seen; /* reads that found what was never committed */
};

static void *read_until_stopped(void *context)
{
    struct reading *reading = context;
    struct cr_record found;
    while (!atomic_load(&reading->stop)) {
        if (cr_store_find(reading->reader, &reading->id, &found) == CR_OK) {
            reading->seen++;
            cr_record_fini(&found);
        }
        atomic_fetch_add(&reading->reads, 1);
    }
    return NULL;
}

static void nobody_sees_a_batch_that_is_not_committed(void)
{
    static struct reading reading;
    struct fixture f;
    pthread_t thread;
    struct cr_log_rows rows = {0};
    fixture_env(&f);
    if (!CHECK_STATUS(cr_store_open("memory:", &f.env, &f.store, NULL), CR_OK) ||
        !CHECK_STATUS(cr_store_reader(f.store, &reading.reader), CR_OK))
        return;
    struct cr_record record = record_for(&f, "anna");
    reading.id = record.id;
    if (!CHECK_INT(pthread_create(&thread, NULL, read_until_stopped, &reading), 0))
        return;
    for (size_t i = 0; i < 2000 || atomic_load(&reading.reads) < 2000; i++) {
        struct cr_record again = record;
        CHECK_STATUS(cr_store_begin(f.store), CR_OK);
        CHECK_STATUS(cr_store_create(f.store, &again, NULL, &rows), CR_OK);
        cr_store_rollback(f.store);
    }
    atomic_store(&reading.stop, true);
    pthread_join(thread, NULL);
    CHECK_UINT(reading.seen, 0);
    cr_store_destroy(reading.reader);
    cr_store_destroy(f.store);
}

static const struct tap_test tests[] = {
    TAP_TEST(two_who_open_one_name_share_one_truth),
    TAP_TEST(without_a_name_each_has_its_own),
    TAP_TEST(nobody_sees_a_batch_that_is_not_committed),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
