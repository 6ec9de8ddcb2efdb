/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules of src/cache/README.md that a table keeps, as far as one thread can show them. Above a
 * test stands which line, left out or turned round, makes it fail; each was tried.
 */
#include "cache/writer.h"
#include "unit/cache_fixture.h"

/* Two sessions with one home bucket, and so one floor. */
static uint64_t neighbour_of(const struct fixture *f, uint64_t number)
{
    struct cr_session_id id;
    fixture_id(number, &id);
    uint64_t home = layout_places(&id, f->view.bucket_count).home;
    for (uint64_t other = number + 1;; other++) {
        fixture_id(other, &id);
        if (layout_places(&id, f->view.bucket_count).home == home)
            return other;
    }
}

static void a_filled_session_is_found_as_it_was_filled(void)
{
    static const size_t sizes[] = {0,   1,   7,    8,    9,    35,   36,   40,  64,
                                   100, 200, 1000, 4000, 4090, 4095, 4096, 5000};
    struct fixture f;
    if (!fixture_init(&f))
        return;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct cr_entry in;
        struct cr_entry out;
        fixture_entry(i, (unsigned)i, f.clock.now_boot, sizes[i], &in);
        CHECK(cr_table_insert(f.table, &in, FIXTURE_CLOCK, f.clock.now_boot));
        if (CHECK(fixture_find(&f, i, &out)))
            CHECK(fixture_same(&in, &out));
    }
    CHECK_UINT(fixture_count(&f).entries, sizeof sizes / sizeof sizes[0]);
    fixture_fini(&f);
}

static void users_of_every_length_are_kept_as_bytes(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    for (unsigned length = 0; length <= CR_USER_BYTES_MAX; length++) {
        struct cr_entry in;
        struct cr_entry out;
        fixture_entry(length, 0, f.clock.now_boot, 20, &in);
        in.user.length = (uint8_t)length;
        for (unsigned i = 0; i < length; i++)
            in.user.bytes[i] = (unsigned char)(length - i - 1); /* with a NUL at the end */
        CHECK(cr_table_insert(f.table, &in, FIXTURE_CLOCK, f.clock.now_boot));
        if (CHECK(fixture_find(&f, length, &out)))
            CHECK(fixture_same(&in, &out));
    }
    fixture_fini(&f);
}

/* Times that say the same as the entry's own would if it were written shortly, but for the one that
 * is put in their place. */
static void entry_of_spans(cr_time_ms created, cr_span_ms absolute, cr_span_ms after,
                           cr_span_ms idle, struct cr_entry *out)
{
    cr_boot_ns born = 1000 * FIXTURE_HOUR_NS;
    fixture_entry(1, 1, 0, 64, out);
    out->created_at = created;
    out->authenticated_at = created;
    out->seen = cr_boot_add(born, after);
    out->idle = idle;
    out->absolute_until = cr_boot_add(born, absolute);
    out->deadline = cr_boot_add(out->seen, idle);
    if (out->deadline > out->absolute_until)
        out->deadline = out->absolute_until;
    out->ends_at = created + absolute;
    out->seen_at = created + after;
    out->expires_at = after + idle < absolute ? created + after + idle : created + absolute;
}

static void entry_comes_back(struct fixture *f, const struct cr_entry *in)
{
    struct cr_entry out;
    CHECK(cr_table_insert(f->table, in, FIXTURE_CLOCK, f->clock.now_boot));
    if (CHECK(fixture_find(f, 1, &out)))
        CHECK(fixture_same(in, &out));
}

/* head_is_short without any of its conditions, or with a sum that overflows (the sanitizer sees
 * that). */
static void times_and_counts_at_their_ends_come_back_as_they_were(void)
{
    static const int64_t values[] = {INT64_MIN, INT64_MIN + 1,   -1,        0,
                                     1,         INT32_MAX,       1LL << 31, (1LL << 33) - 1,
                                     1LL << 33, (1LL << 41) - 1, 1LL << 41, (1LL << 42) - 1,
                                     1LL << 42, INT64_MAX - 1,   INT64_MAX};
    struct fixture f;
    if (!fixture_init(&f))
        return;
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        struct cr_entry in;
        for (unsigned field = 0; field < 7; field++) {
            entry_of_spans(1700000000000, 12 * FIXTURE_HOUR_MS, 5, FIXTURE_HOUR_MS, &in);
            int64_t *const times[] = {&in.created_at, &in.authenticated_at, &in.ends_at,
                                      &in.expires_at, &in.seen_at,          &in.idle};
            if (field < 6)
                *times[field] = values[i];
            else
                in.version = (uint64_t)values[i];
            entry_comes_back(&f, &in);
        }
    }
    fixture_fini(&f);
}

static void spans_of_years_come_back_as_they_were(void)
{
    static const cr_span_ms spans[] = {
        1, FIXTURE_HOUR_MS, (1LL << 31) - 1, 1LL << 31, (1LL << 33) - 1, 1LL << 33, CR_SPAN_MS_MAX};
    static const cr_time_ms created[] = {-1, 0, 1700000000000, (1LL << 42) - 1, 1LL << 42};
    const size_t count = sizeof spans / sizeof spans[0];
    struct fixture f;
    if (!fixture_init(&f))
        return;
    for (size_t i = 0; i < count * count * (sizeof created / sizeof created[0]); i++) {
        struct cr_entry in;
        cr_span_ms idle = spans[i % count], absolute = spans[i / count % count];
        entry_of_spans(created[i / count / count], absolute, absolute / 2, idle, &in);
        entry_comes_back(&f, &in);
    }
    fixture_fini(&f);
}

static void a_find_writes_only_the_words_of_rights_and_data_that_are_used(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    struct cr_entry in;
    static struct cr_entry out;
    fixture_entry(1, 1, f.clock.now_boot, 9, &in);
    CHECK(cr_table_insert(f.table, &in, FIXTURE_CLOCK, f.clock.now_boot));
    memset(&out, 0xa5, sizeof out);
    CHECK(fixture_find(&f, 1, &out));
    CHECK_UINT(out.rights[8], 0xa5);
    CHECK_UINT(out.data[16], 0xa5);
    CHECK_UINT(out.data[CR_DATA_CACHED_BYTES_MAX - 1], 0xa5);
    fixture_fini(&f);
}

/* No `stamp < floor` in was_outdated: the variant "no floor". */
static void a_fill_asked_for_before_the_session_was_ended_or_changed_is_refused(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    uint64_t before = cr_table_clock(f.table);
    fixture_end_session(&f, 1);
    CHECK(!fixture_insert(&f, 1, 1, before));
    CHECK(!fixture_finds(&f, 1));
    CHECK_UINT(fixture_count(&f).refused, 1);
    CHECK(fixture_fill(&f, 1, 1));
    CHECK(fixture_finds(&f, 1));
    fixture_fini(&f);
}

/* The floor is one bucket's: a neighbour's fill is refused with it, a stranger's is not. */
static void a_floor_is_of_its_bucket_alone(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    uint64_t neighbour = neighbour_of(&f, 1);
    uint64_t before = cr_table_clock(f.table);
    fixture_end_session(&f, 1);
    CHECK(!fixture_insert(&f, neighbour, 1, before));
    for (uint64_t stranger = 2; stranger < 5; stranger++)
        if (stranger != neighbour)
            CHECK(fixture_insert(&f, stranger, 1, before));
    fixture_fini(&f);
}

/* No `stamp < all`, no `stamp < stamps[...]` in was_outdated. Readers would refuse it as well. */
static void a_fill_asked_for_before_its_user_or_everybody_was_ended_is_refused(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    uint64_t before = cr_table_clock(f.table);
    fixture_end_user(&f, 1);
    CHECK(!fixture_insert(&f, 1, 1, before));
    CHECK(fixture_insert(&f, 2, 2, before));
    CHECK(fixture_insert(&f, 1, 1, before + 1));
    cr_table_end_all(f.table);
    CHECK(!fixture_insert(&f, 1, 1, before + 1));
    CHECK(!fixture_insert(&f, 2, 2, before + 1));
    CHECK(fixture_insert(&f, 2, 2, before + 2));
    CHECK_UINT(fixture_count(&f).refused, 3);
    fixture_fini(&f);
}

/* No `stamp > cr_table_clock(table)` in cr_table_insert. */
static void a_stamp_from_the_future_is_refused(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    CHECK(!fixture_insert(&f, 1, 1, cr_table_clock(f.table) + 1));
    CHECK(!fixture_insert(&f, 1, 1, UINT64_MAX));
    CHECK(!fixture_finds(&f, 1));
    fixture_fini(&f);
}

/* No `stamp <= HEAD_STAMP_MAX` in cr_table_insert: head_pack dies, or cuts the stamp off. */
static void past_the_last_stamp_nothing_comes_in_and_what_ends_is_ended(void)
{
    struct fixture f;
    const struct cr_table_options options = {
        .bytes = CR_TABLE_BYTES_MIN, .shared = true, .clock_start = HEAD_STAMP_MAX};
    if (!fixture_init_with(&f, &options))
        return;
    for (unsigned i = 0; i < 3; i++)
        CHECK(fixture_fill(&f, i, i));
    CHECK_UINT(fixture_found(&f, 0, 3), 3);
    CHECK_UINT(fixture_end_user(&f, 1), HEAD_STAMP_MAX + 1);
    CHECK(fixture_finds(&f, 0) && !fixture_finds(&f, 1) && fixture_finds(&f, 2));
    CHECK(!fixture_fill(&f, 3, 3));
    CHECK(fixture_insert(&f, 4, 4, HEAD_STAMP_MAX)); /* asked for before that */
    fixture_end_session(&f, 2);
    CHECK(fixture_finds(&f, 0) && !fixture_finds(&f, 2) && fixture_finds(&f, 4));
    CHECK_UINT(cr_table_end_all(f.table), HEAD_STAMP_MAX + 3);
    CHECK_UINT(fixture_found(&f, 0, 5), 0);
    fixture_fini(&f);
}

/* counters_start begins at 0: fills asked for under an earlier table would come in. */
static void a_fill_asked_for_under_an_earlier_table_is_refused(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    CHECK_UINT(cr_table_clock(f.table), FIXTURE_CLOCK);
    CHECK(!fixture_insert(&f, 1, 1, FIXTURE_CLOCK - 1));
    CHECK(fixture_insert(&f, 1, 1, FIXTURE_CLOCK));
    fixture_fini(&f);
}

/* counters_start leaves one out. */
static void clock_stamps_and_floors_all_start_at_the_clock_given(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    const struct layout_header *header = (const struct layout_header *)f.view.memory;
    const _Atomic uint64_t *stamps =
        (const _Atomic uint64_t *)(f.view.memory + f.view.stamp_offset);
    uint64_t others = 0;
    for (uint64_t i = 0; i < f.view.stamp_count; i++)
        others += atomic_load(&stamps[i]) != FIXTURE_CLOCK;
    for (uint64_t i = 0; i < f.view.bucket_count; i++)
        others += f.table->floors[i] != FIXTURE_CLOCK;
    CHECK_UINT(others, 0);
    CHECK_UINT(atomic_load(&header->all), FIXTURE_CLOCK);
    CHECK_UINT(atomic_load(&header->clock), FIXTURE_CLOCK);
    fixture_fini(&f);
}

static void a_fill_past_its_deadline_is_refused(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    struct cr_entry entry;
    fixture_entry(1, 1, f.clock.now_boot, 64, &entry);
    CHECK(!cr_table_insert(f.table, &entry, FIXTURE_CLOCK, entry.deadline));
    CHECK(cr_table_insert(f.table, &entry, FIXTURE_CLOCK, entry.deadline - 1));
    fixture_fini(&f);
}

static void a_fill_replaces_the_entry_of_the_same_session(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    struct cr_entry in;
    struct cr_entry out;
    for (size_t bytes = 0; bytes <= 4000; bytes += 500) {
        fixture_entry(1, 1, f.clock.now_boot, bytes, &in);
        in.version = 100 + bytes;
        CHECK(cr_table_insert(f.table, &in, FIXTURE_CLOCK, f.clock.now_boot));
        CHECK(fixture_find(&f, 1, &out) && fixture_same(&in, &out));
    }
    CHECK_UINT(fixture_count(&f).entries, 1);
    fixture_fini(&f);
}

/* cr_table_end_user raises nothing; stamps_allow does not look at the user's (ASVS D1, D4). */
static void ending_a_user_ends_all_its_sessions_and_nobody_elses(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    for (uint64_t i = 0; i < 20; i++)
        CHECK(fixture_fill(&f, i, i % 2 == 0 ? 1 : 2));
    CHECK_UINT(fixture_end_user(&f, 1), FIXTURE_CLOCK + 1);
    for (uint64_t i = 0; i < 20; i++)
        CHECK(fixture_finds(&f, i) == (i % 2 == 1));
    fixture_fini(&f);
}

/* No `all <= facts->stamp` in stamps_allow (ASVS D4). */
static void ending_everybody_ends_every_session(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    for (unsigned i = 0; i < 20; i++)
        CHECK(fixture_fill(&f, i, i));
    CHECK_UINT(cr_table_end_all(f.table), FIXTURE_CLOCK + 1);
    for (uint64_t i = 0; i < 20; i++)
        CHECK(!fixture_finds(&f, i));
    CHECK(fixture_fill(&f, 3, 3));
    CHECK(fixture_finds(&f, 3));
    fixture_fini(&f);
}

/* clock_advance stores `clock` instead of `clock + 1`, or the stamp is the clock of before: the
 * variant "stamp not raised to the maximum". */
static void each_ending_is_later_than_every_fill_before_it(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    for (unsigned round = 1; round <= 10; round++) {
        CHECK(fixture_fill(&f, 1, 1));
        CHECK(fixture_finds(&f, 1));
        CHECK_UINT(fixture_end_user(&f, 1), FIXTURE_CLOCK + round);
        CHECK(!fixture_finds(&f, 1));
        CHECK_UINT(cr_table_clock(f.table), FIXTURE_CLOCK + round);
        CHECK_UINT(cr_table_view_clock(&f.view), FIXTURE_CLOCK + round);
    }
    fixture_fini(&f);
}

/* cr_table_end_session does not drop (ASVS D1, D7). */
static void ending_a_session_ends_it_alone(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    uint64_t neighbour = neighbour_of(&f, 1);
    CHECK(fixture_fill(&f, 1, 1));
    CHECK(fixture_fill(&f, neighbour, 1));
    CHECK_UINT(fixture_end_session(&f, 1), FIXTURE_CLOCK + 1);
    CHECK(!fixture_finds(&f, 1));
    CHECK(fixture_finds(&f, neighbour));
    CHECK_UINT(fixture_count(&f).entries, 1);
    CHECK_UINT(fixture_end_session(&f, 1), FIXTURE_CLOCK + 2); /* nothing there: still a floor */
    fixture_fini(&f);
}

static bool memory_has(const struct fixture *f, const void *what, size_t bytes)
{
    return memmem(f->view.memory, f->view.bytes, what, bytes) != NULL;
}

/* cr_slot_drop without its zeroes, cr_piece_give without its zeroes. */
static void nothing_of_an_ended_session_stays_in_memory__H9(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    struct cr_entry entry;
    fixture_entry(1, 1, f.clock.now_boot, 4096, &entry);
    memset(entry.old_hash, 0x5a, sizeof entry.old_hash);
    const struct {
        const char *name;
        const void *bytes;
        size_t count;
    } rows[] = {
        {"hash", entry.hash + 8, 8},
        {"old", entry.old_hash + 8, 8},
        {"user", entry.user.bytes, entry.user.length},
        {"rights", entry.rights, 8},
        {"rights end", entry.rights + 504, 8},
        {"data", entry.data + 2000, 8},
        {"data end", entry.data + 4088, 8},
    };
    CHECK(cr_table_insert(f.table, &entry, FIXTURE_CLOCK, f.clock.now_boot));
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        tap_row(rows[i].name);
        CHECK(memory_has(&f, rows[i].bytes, rows[i].count));
    }
    fixture_end_session(&f, 1);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        tap_row(rows[i].name);
        CHECK(!memory_has(&f, rows[i].bytes, rows[i].count));
    }
    tap_row(NULL);
    fixture_fini(&f);
}

/* head_hash_equal compares less than 16 bytes; entry_copy without `matched || matched_old` (ASVS
 * A3). */
static void a_hash_that_differs_in_one_bit_is_a_miss(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    struct cr_entry in;
    struct cr_entry out;
    struct cr_token_hash hash;
    bool used_old;
    fixture_entry(1, 1, f.clock.now_boot, 64, &in);
    memset(in.old_hash, 0x5a, sizeof in.old_hash);
    in.old_until = in.deadline;
    CHECK(cr_table_insert(f.table, &in, FIXTURE_CLOCK, f.clock.now_boot));
    for (size_t bit = 0; bit < 256; bit++) {
        memset(hash.bytes, 0, sizeof hash.bytes);
        memcpy(hash.bytes, bit < 128 ? in.hash : in.old_hash, 16);
        hash.bytes[bit % 128 / 8] ^= (unsigned char)(1u << bit % 8);
        CHECK(!cr_table_find(&f.view, &f.clock.clock, &in.id, &hash, &out, &used_old));
    }
    fixture_fini(&f);
}

/* Characters that differ from `id` in the last few only, with the same home, spill and tag. */
static void id_alike(const struct cr_session_id *id, uint64_t bucket_count,
                     struct cr_session_id *out)
{
    uint32_t tag = layout_places(id, bucket_count).tag;
    *out = *id;
    do
        fixture_bytes(tap_random(), (unsigned char *)out->text + 20, 8);
    while (layout_places(out, bucket_count).tag != tag);
}

/* head_id_mask answers 0, or is over less than all of it (ASVS A3). */
static void an_id_that_differs_in_one_character_is_a_miss(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    struct cr_entry out;
    struct cr_session_id id;
    struct cr_session_id alike;
    struct cr_token_hash hash;
    bool used_old;
    CHECK(fixture_fill(&f, 1, 1));
    fixture_hash(1, &hash);
    for (size_t i = 4; i < CR_SESSION_ID_CHARS; i++)
        for (int bit = 0; bit < 8; bit++) {
            fixture_id(1, &id);
            id.text[i] = (char)(id.text[i] ^ (1 << bit));
            CHECK(!cr_table_find(&f.view, &f.clock.clock, &id, &hash, &out, &used_old));
        }
    fixture_id(1, &id);
    id_alike(&id, f.view.bucket_count, &alike);
    CHECK(!cr_table_find(&f.view, &f.clock.clock, &alike, &hash, &out, &used_old));
    fixture_fini(&f);
}

/* An empty slot is all zeroes: it must not be the entry of an id and a hash of zeroes. */
static void an_empty_slot_matches_nothing(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    struct cr_entry out;
    bool used_old;
    const struct cr_session_id id = {{0}};
    const struct cr_token_hash hash = {{0}};
    CHECK(!cr_table_find(&f.view, &f.clock.clock, &id, &hash, &out, &used_old));
    f.clock.now_boot = 0;
    CHECK(!cr_table_find(&f.view, &f.clock.clock, &id, &hash, &out, &used_old));
    fixture_fini(&f);
}

/* time_allows without old_until. */
static void the_old_token_is_good_until_its_grace_ends(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    struct cr_entry in;
    struct cr_entry out;
    struct cr_token_hash old = {{7}};
    struct cr_token_hash new;
    bool used_old = false;
    fixture_entry(1, 1, f.clock.now_boot, 64, &in);
    fixture_hash(1, &new);
    memcpy(in.old_hash, old.bytes, sizeof in.old_hash);
    in.old_until = f.clock.now_boot + 10;
    CHECK(cr_table_insert(f.table, &in, FIXTURE_CLOCK, f.clock.now_boot));

    CHECK(cr_table_find(&f.view, &f.clock.clock, &in.id, &old, &out, &used_old));
    CHECK(used_old && fixture_same(&in, &out));
    CHECK(cr_table_find(&f.view, &f.clock.clock, &in.id, &new, &out, &used_old));
    CHECK(!used_old);
    f.clock.now_boot += 9;
    CHECK(cr_table_find(&f.view, &f.clock.clock, &in.id, &old, &out, &used_old));
    f.clock.now_boot += 1;
    CHECK(!cr_table_find(&f.view, &f.clock.clock, &in.id, &old, &out, &used_old));
    CHECK(cr_table_find(&f.view, &f.clock.clock, &in.id, &new, &out, &used_old));
    fixture_fini(&f);
}

/* flags_of without has_old. */
static void no_old_token_is_no_token_of_zeroes(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    struct cr_entry in;
    struct cr_entry out;
    const struct cr_token_hash zero = {{0}};
    bool used_old;
    fixture_entry(1, 1, f.clock.now_boot, 64, &in);
    in.old_until = CR_BOOT_NEVER;
    CHECK(cr_table_insert(f.table, &in, FIXTURE_CLOCK, f.clock.now_boot));
    CHECK(!cr_table_find(&f.view, &f.clock.clock, &in.id, &zero, &out, &used_old));
    fixture_fini(&f);
}

/* time_allows without the deadline (ASVS C2). */
static void an_entry_is_believed_before_its_deadline_only(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    struct cr_entry in;
    fixture_entry(1, 1, f.clock.now_boot, 64, &in);
    in.deadline = f.clock.now_boot + 2;
    CHECK(cr_table_insert(f.table, &in, FIXTURE_CLOCK, f.clock.now_boot));
    f.clock.now_boot += 1;
    CHECK(fixture_finds(&f, 1));
    f.clock.now_boot += 1;
    CHECK(!fixture_finds(&f, 1));
    fixture_fini(&f);
}

/* time_allows without `now >= fresh` (ASVS D9, D13). */
static void an_entry_is_believed_before_fresh_until_only(void)
{
    struct fixture f;
    const struct cr_table_options options = {.bytes = CR_TABLE_BYTES_MIN, .shared = true};
    if (!fixture_init_with(&f, &options))
        return;
    cr_boot_ns until = f.clock.now_boot + CR_TABLE_FRESH_NS_MAX;
    CHECK(fixture_fill(&f, 1, 1));
    f.clock.now_boot = until - 1;
    CHECK(fixture_finds(&f, 1));
    f.clock.now_boot = until;
    CHECK(!fixture_finds(&f, 1));
    cr_table_freshen(f.table, until + 1, until);
    CHECK(fixture_finds(&f, 1));
    fixture_fini(&f);
}

static void a_new_table_is_not_believed_before_it_is_freshened(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    struct cr_table *table = NULL;
    const struct cr_table_options options = {.bytes = CR_TABLE_BYTES_MIN};
    CHECK_STATUS(cr_table_create(&options, &f.random.random, &table), CR_OK);
    cr_table_destroy(f.table);
    f.table = table;
    cr_table_own_view(table, &f.view);
    CHECK(fixture_fill(&f, 1, 1));
    CHECK(!fixture_finds(&f, 1));
    fixture_wait(&f, 0);
    CHECK(fixture_finds(&f, 1));
    fixture_fini(&f);
}

/* cr_table_freshen without its comparison: the variant "freshness backwards". */
static void freshness_never_goes_backwards(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    cr_boot_ns start = f.clock.now_boot;
    CHECK(fixture_fill(&f, 1, 1));
    cr_table_freshen(f.table, start + 10, start);
    cr_table_freshen(f.table, 0, start);
    f.clock.now_boot = start + CR_TABLE_FRESH_NS_MAX - 1;
    CHECK(fixture_finds(&f, 1));
    fixture_fini(&f);
}

/* cr_table_freshen without its cut. */
static void freshness_is_cut_to_its_maximum(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    cr_boot_ns start = f.clock.now_boot;
    CHECK(fixture_fill(&f, 1, 1));
    cr_table_freshen(f.table, start + 5 * CR_TABLE_FRESH_NS_MAX, start);
    CHECK(fixture_finds(&f, 1));
    f.clock.now_boot = start + CR_TABLE_FRESH_NS_MAX;
    CHECK(!fixture_finds(&f, 1));
    fixture_fini(&f);
}

/* time_allows without CR_TABLE_FRESH_NS_MAX. */
static void a_lease_that_nobody_can_have_published_is_not_believed(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    struct layout_header *header = f.table->header; /* as a stray write would */
    CHECK(fixture_fill(&f, 1, 1));
    atomic_store(&header->fresh_until, f.clock.now_boot + CR_TABLE_FRESH_NS_MAX);
    CHECK(fixture_finds(&f, 1));
    atomic_store(&header->fresh_until, f.clock.now_boot + CR_TABLE_FRESH_NS_MAX + 1);
    CHECK(!fixture_finds(&f, 1));
    atomic_store(&header->fresh_until, CR_BOOT_NEVER);
    CHECK(!fixture_finds(&f, 1));
    fixture_fini(&f);
}

/* cr_table_freshen without `retired` (ASVS D9). */
static void a_retired_table_is_never_believed_again(void)
{
    static const bool always_fresh[] = {false, true};
    for (size_t i = 0; i < 2; i++) {
        struct fixture f;
        const struct cr_table_options options = {.bytes = CR_TABLE_BYTES_MIN,
                                                 .always_fresh = always_fresh[i]};
        if (!fixture_init_with(&f, &options))
            return;
        CHECK(fixture_fill(&f, 1, 1));
        CHECK(fixture_finds(&f, 1));
        cr_table_retire(f.table);
        CHECK(!fixture_finds(&f, 1));
        f.clock.now_boot = 0;
        CHECK(!fixture_finds(&f, 1));
        cr_clock_fake_init(&f.clock, 0);
        fixture_wait(&f, 1);
        CHECK(fixture_fill(&f, 1, 1));
        CHECK(!fixture_finds(&f, 1));
        fixture_fini(&f);
    }
}

static void a_table_whose_engine_checks_its_own_lease_needs_no_freshening(void)
{
    struct fixture f;
    const struct cr_table_options options = {.bytes = CR_TABLE_BYTES_MIN, .always_fresh = true};
    if (!fixture_init_with(&f, &options))
        return;
    CHECK(fixture_fill(&f, 1, 1));
    cr_clock_fake_advance(&f.clock, 60000);
    CHECK(fixture_finds(&f, 1));
    fixture_end_user(&f, 1);
    CHECK(!fixture_finds(&f, 1));
    fixture_fini(&f);
}

/* cr_table_seen does nothing (ASVS C5). */
static void a_use_moves_the_deadline_on(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    struct cr_entry in;
    struct cr_entry out;
    cr_boot_ns start = f.clock.now_boot;
    fixture_entry(1, 1, start, 64, &in);
    CHECK(cr_table_insert(f.table, &in, FIXTURE_CLOCK, start));
    cr_table_seen(f.table, &in.id, start + FIXTURE_HOUR_NS / 2);
    fixture_wait(&f, FIXTURE_HOUR_MS);
    if (CHECK(fixture_find(&f, 1, &out))) {
        CHECK_UINT(out.seen, start + FIXTURE_HOUR_NS / 2);
        CHECK_UINT(out.deadline, start + FIXTURE_HOUR_NS / 2 + FIXTURE_HOUR_NS);
        CHECK_INT(out.seen_at, in.seen_at + FIXTURE_HOUR_MS / 2);
        CHECK_INT(out.expires_at, in.expires_at + FIXTURE_HOUR_MS / 2);
    }
    fixture_wait(&f, FIXTURE_HOUR_MS / 2);
    CHECK(!fixture_finds(&f, 1));
    fixture_fini(&f);
}

/* times_move without absolute_until (ASVS C3). */
static void no_use_moves_the_deadline_past_the_absolute_end(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    struct cr_entry in;
    struct cr_entry out;
    cr_boot_ns start = f.clock.now_boot;
    fixture_entry(1, 1, start, 64, &in);
    in.absolute_until = in.deadline + 5 * CR_NS_PER_MS;
    in.ends_at = in.expires_at + 5;
    CHECK(cr_table_insert(f.table, &in, FIXTURE_CLOCK, start));
    cr_table_seen(f.table, &in.id, start + FIXTURE_HOUR_NS - 1);
    if (CHECK(fixture_find(&f, 1, &out))) {
        CHECK_UINT(out.deadline, in.absolute_until);
        CHECK_INT(out.expires_at, in.ends_at);
    }
    fixture_fini(&f);
}

/* cr_table_seen without `seen > times.seen`; times_move without keeping the later deadline. */
static void a_use_reported_late_moves_nothing_back(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    struct cr_entry in;
    struct cr_entry out;
    cr_boot_ns start = f.clock.now_boot;
    fixture_entry(1, 1, start, 64, &in);
    in.deadline = start + 2 * FIXTURE_HOUR_NS; /* later than idle says: the store's slack */
    CHECK(cr_table_insert(f.table, &in, FIXTURE_CLOCK, start));
    cr_table_seen(f.table, &in.id, start - 1);
    CHECK(fixture_find(&f, 1, &out) && fixture_same(&in, &out));
    cr_table_seen(f.table, &in.id, start + 1);
    if (CHECK(fixture_find(&f, 1, &out))) {
        CHECK_UINT(out.seen, start + 1);
        CHECK_UINT(out.deadline, in.deadline);
    }
    fixture_fini(&f);
}

/* head_is_short takes a last use before the host's start for its start. */
static void a_use_counts_after_one_of_before_the_host_started(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    struct cr_entry in;
    struct cr_entry out;
    cr_boot_ns now = f.clock.now_boot;
    fixture_entry(1, 1, now, 64, &in);
    in.seen = 0; /* an hour before the start, as the store's clock says */
    in.seen_at = in.created_at + 5;
    in.idle = 3 * FIXTURE_HOUR_MS;
    in.absolute_until = now + FIXTURE_HOUR_NS;
    in.ends_at = in.seen_at + FIXTURE_HOUR_MS + (cr_span_ms)(in.absolute_until / CR_NS_PER_MS);
    in.deadline = in.absolute_until;
    in.expires_at = in.ends_at;
    CHECK(cr_table_insert(f.table, &in, FIXTURE_CLOCK, now));
    CHECK(fixture_find(&f, 1, &out) && fixture_same(&in, &out));
    cr_table_seen(f.table, &in.id, now);
    if (CHECK(fixture_find(&f, 1, &out))) {
        CHECK_UINT(out.seen, now);
        CHECK_UINT(out.deadline, in.deadline);
    }
    fixture_fini(&f);
}

/* cr_table_seen raises the stamp; cr_table_seen without `seen >= deadline` (ASVS D10). */
static void no_use_undoes_an_ending(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    struct cr_session_id ids[4];
    cr_boot_ns start = f.clock.now_boot;
    for (unsigned i = 0; i < 4; i++) {
        fixture_id(i, &ids[i]);
        CHECK(fixture_fill(&f, i, i));
    }
    fixture_end_session(&f, 0);
    fixture_end_user(&f, 1);
    cr_table_seen(f.table, &ids[0], start + 1);
    cr_table_seen(f.table, &ids[1], start + 1);
    CHECK(!fixture_finds(&f, 0));
    CHECK(!fixture_finds(&f, 1));
    CHECK(fixture_finds(&f, 2));
    cr_table_end_all(f.table);
    cr_table_seen(f.table, &ids[2], start + 1);
    CHECK(!fixture_finds(&f, 2));

    CHECK(fixture_fill(&f, 3, 3));
    fixture_wait(&f, FIXTURE_HOUR_MS);
    cr_table_seen(f.table, &ids[3], start + FIXTURE_HOUR_NS); /* idle for too long by then */
    CHECK(!fixture_finds(&f, 3));
    fixture_fini(&f);
}

static const struct tap_test tests[] = {
    TAP_TEST(a_filled_session_is_found_as_it_was_filled),
    TAP_TEST(users_of_every_length_are_kept_as_bytes),
    TAP_TEST(times_and_counts_at_their_ends_come_back_as_they_were),
    TAP_TEST(spans_of_years_come_back_as_they_were),
    TAP_TEST(a_find_writes_only_the_words_of_rights_and_data_that_are_used),
    TAP_TEST(a_fill_asked_for_before_the_session_was_ended_or_changed_is_refused),
    TAP_TEST(a_floor_is_of_its_bucket_alone),
    TAP_TEST(a_fill_asked_for_before_its_user_or_everybody_was_ended_is_refused),
    TAP_TEST(a_stamp_from_the_future_is_refused),
    TAP_TEST(past_the_last_stamp_nothing_comes_in_and_what_ends_is_ended),
    TAP_TEST(a_fill_asked_for_under_an_earlier_table_is_refused),
    TAP_TEST(clock_stamps_and_floors_all_start_at_the_clock_given),
    TAP_TEST(a_fill_past_its_deadline_is_refused),
    TAP_TEST(a_fill_replaces_the_entry_of_the_same_session),
    TAP_TEST(ending_a_user_ends_all_its_sessions_and_nobody_elses),
    TAP_TEST(ending_everybody_ends_every_session),
    TAP_TEST(each_ending_is_later_than_every_fill_before_it),
    TAP_TEST(ending_a_session_ends_it_alone),
    TAP_TEST(nothing_of_an_ended_session_stays_in_memory__H9),
    TAP_TEST(a_hash_that_differs_in_one_bit_is_a_miss),
    TAP_TEST(an_id_that_differs_in_one_character_is_a_miss),
    TAP_TEST(an_empty_slot_matches_nothing),
    TAP_TEST(the_old_token_is_good_until_its_grace_ends),
    TAP_TEST(no_old_token_is_no_token_of_zeroes),
    TAP_TEST(an_entry_is_believed_before_its_deadline_only),
    TAP_TEST(an_entry_is_believed_before_fresh_until_only),
    TAP_TEST(a_new_table_is_not_believed_before_it_is_freshened),
    TAP_TEST(freshness_never_goes_backwards),
    TAP_TEST(freshness_is_cut_to_its_maximum),
    TAP_TEST(a_lease_that_nobody_can_have_published_is_not_believed),
    TAP_TEST(a_retired_table_is_never_believed_again),
    TAP_TEST(a_table_whose_engine_checks_its_own_lease_needs_no_freshening),
    TAP_TEST(a_use_moves_the_deadline_on),
    TAP_TEST(no_use_moves_the_deadline_past_the_absolute_end),
    TAP_TEST(a_use_reported_late_moves_nothing_back),
    TAP_TEST(a_use_counts_after_one_of_before_the_host_started),
    TAP_TEST(no_use_undoes_an_ending),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
