/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who gets a place in the table, and who goes for it. Above a test stands which line of insert.c
 * or entry.c, left out, makes it fail; each was tried.
 */
#include <limits.h>

#include "cache/writer.h"
#include "session/token.h"
#include "unit/cache_fixture.h"

#define PLACES (2 * LAYOUT_BUCKET_SLOTS)

/* Session `number` of its own user, with an id whose two buckets are the same as all the others'.
 */
static void crowd_entry(unsigned number, cr_boot_ns now, struct cr_entry *out)
{
    fixture_entry(number, number, now, 56, out);
    struct cr_session_id id;
    fixture_id(1, &id);
    memcpy(out->id.text, id.text, 20);
}

static bool crowd_finds(struct fixture *f, unsigned number)
{
    struct cr_entry entry;
    struct cr_entry out;
    struct cr_token_hash hash;
    bool used_old;
    crowd_entry(number, 0, &entry);
    fixture_hash(number, &hash);
    return cr_table_find(&f->view, &f->clock.clock, &entry.id, &hash, &out, &used_old) &&
           out.version == entry.version;
}

/* As many as have room in two buckets, the number 5 seen longest ago. */
static bool crowd_init(struct fixture *f)
{
    if (!fixture_init(f))
        return false;
    struct cr_entry entry;
    for (unsigned i = 0; i < PLACES; i++) {
        crowd_entry(i, f->clock.now_boot, &entry);
        fixture_times(&entry, f->clock.now_boot + (i + PLACES - 5) % PLACES * CR_NS_PER_MS, 2,
                      FIXTURE_HOUR_MS);
        CHECK(cr_table_insert(f->table, &entry, FIXTURE_CLOCK, f->clock.now_boot));
    }
    for (unsigned i = 0; i < PLACES; i++)
        CHECK(crowd_finds(f, i));
    return true;
}

static unsigned crowd_missing(struct fixture *f)
{
    unsigned missing = 0;
    for (unsigned i = 0; i < PLACES; i++)
        missing += !crowd_finds(f, i);
    return missing;
}

/* entry_rank answers anything but `seen`. */
static void the_session_seen_longest_ago_goes_when_there_is_no_room(void)
{
    struct fixture f;
    if (!crowd_init(&f))
        return;
    struct cr_entry entry;
    crowd_entry(PLACES, f.clock.now_boot, &entry);
    CHECK(cr_table_insert(f.table, &entry, FIXTURE_CLOCK, f.clock.now_boot));
    CHECK(crowd_finds(&f, PLACES));
    CHECK(!crowd_finds(&f, 5));
    CHECK_UINT(crowd_missing(&f), 1);
    CHECK_UINT(fixture_count(&f).evicted_live, 1);
    CHECK_UINT(fixture_count(&f).entries, PLACES);
    fixture_fini(&f);
}

/* entry_rank without its stamps. */
static void an_ended_session_goes_before_a_live_one(void)
{
    struct fixture f;
    if (!crowd_init(&f))
        return;
    struct cr_entry entry;
    fixture_end_user(&f, 9);
    crowd_entry(PLACES, f.clock.now_boot, &entry);
    CHECK(cr_table_insert(f.table, &entry, cr_table_clock(f.table), f.clock.now_boot));
    CHECK(!crowd_finds(&f, 9));
    CHECK_UINT(crowd_missing(&f), 1);
    CHECK_UINT(fixture_count(&f).evicted_live, 0);
    fixture_fini(&f);
}

/* entry_rank without the deadline. */
static void an_expired_session_goes_before_a_live_one(void)
{
    struct fixture f;
    if (!crowd_init(&f))
        return;
    struct cr_entry entry;
    crowd_entry(9, f.clock.now_boot, &entry);
    fixture_times(&entry, f.clock.now_boot + CR_NS_PER_MS, 2, 1);
    CHECK(cr_table_insert(f.table, &entry, FIXTURE_CLOCK, f.clock.now_boot));
    CHECK(crowd_finds(&f, 9));
    fixture_wait(&f, 2);
    crowd_entry(PLACES, f.clock.now_boot, &entry);
    CHECK(cr_table_insert(f.table, &entry, FIXTURE_CLOCK, f.clock.now_boot));
    CHECK(!crowd_finds(&f, 9));
    CHECK_UINT(crowd_missing(&f), 1);
    CHECK_UINT(fixture_count(&f).evicted_live, 0);
    fixture_fini(&f);
}

/* slot_claim looks at one bucket only, or always takes home first. */
static void a_table_fills_to_nine_tenths_before_anybody_goes(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    uint64_t enough = fixture_count(&f).capacity * 9 / 10;
    for (uint64_t i = 0; i < enough; i++)
        CHECK(fixture_fill(&f, i, (unsigned)i));
    CHECK_UINT(fixture_count(&f).entries, enough);
    CHECK_UINT(fixture_count(&f).evicted_live, 0);
    CHECK_UINT(fixture_found(&f, 0, enough), enough);
    fixture_fini(&f);
}

/* ASVS A4 asks that memory is bounded whatever comes. */
static void more_sessions_than_there_is_room_for_never_grow_the_table(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    uint64_t many = fixture_count(&f).capacity * 4;
    uint64_t found = 0;
    for (uint64_t i = 0; i < many; i++)
        found += fixture_fill(&f, i, (unsigned)i) && fixture_finds(&f, i);
    CHECK_UINT(found, many);
    struct cr_table_count count = fixture_count(&f);
    CHECK(count.entries <= count.capacity);
    CHECK_UINT(count.inserts, many);
    CHECK_UINT(count.evicted_live, many - count.entries);
    CHECK_UINT(fixture_found(&f, 0, many), count.entries);
    fixture_fini(&f);
}

static bool fill_large(struct fixture *f, uint64_t number)
{
    struct cr_entry entry;
    fixture_entry(number, (unsigned)number, f->clock.now_boot, CR_DATA_CACHED_BYTES_MAX, &entry);
    return cr_table_insert(f->table, &entry, cr_table_clock(f->table), f->clock.now_boot);
}

/* How many sessions of the largest size stand at once before one of them has to go. */
static uint64_t fill_until_one_goes(struct fixture *f, uint64_t first)
{
    uint64_t evicted = fixture_count(f).evicted_live;
    uint64_t number = first;
    while (number < first + 1000 && fixture_count(f).evicted_live == evicted &&
           fill_large(f, number))
        number++;
    return number - first;
}

/* bucket_give_pieces without its victim: nothing large comes in any more. */
static void a_large_session_takes_the_slots_of_those_seen_longest_ago(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    uint64_t room = fill_until_one_goes(&f, 1000), goes = 0;
    CHECK(room > 10);
    struct cr_entry in;
    struct cr_entry out;
    for (uint64_t i = 2000; i < 2000 + 5 * room; i++) {
        fixture_wait(&f, 1000);
        CHECK(fill_large(&f, i));
        fixture_entry(i, (unsigned)i, f.clock.now_boot, CR_DATA_CACHED_BYTES_MAX, &in);
        CHECK(fixture_find(&f, i, &out) && fixture_same(&in, &out));
        goes += !fixture_finds(&f, i - room / 4) && i > 2000 + room;
    }
    CHECK(fixture_count(&f).entries <= fixture_count(&f).capacity / 34); /* slots of each */
    CHECK(goes < room); /* of 4 * room that are a quarter as old as the table can hold */
    fixture_fini(&f);
}

/* entry_rank without its stamps. In each bucket the ended go first; nobody looks through the whole
 * table for them. */
static void slots_of_ended_sessions_are_taken_before_those_of_live_ones(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    uint64_t room = fill_until_one_goes(&f, 0) - 1;
    cr_table_end_all(f.table);
    uint64_t evicted = fixture_count(&f).evicted_live;
    for (uint64_t i = 1000; i < 1000 + room / 2; i++)
        CHECK(fill_large(&f, i));
    CHECK(fixture_count(&f).evicted_live - evicted <= room / 8);
    fixture_fini(&f);
}

/* Slots in which anything stands, be it only a mark of the writer's. */
static uint64_t slots_used(const struct fixture *f)
{
    uint64_t used = 0;
    for (uint64_t slot = 0; slot < f->table->slot_count; slot++) {
        const struct layout_slot *at = slot_at(f->table, slot);
        uint64_t bits = word_own(&at->sequence) & 1;
        for (size_t i = 0; i < LAYOUT_WORDS; i++)
            bits |= word_own(&at->words[i]);
        used +=
            bits != 0 || slot_tag(f->table, slot) != LAYOUT_TAG_EMPTY || f->table->marks[slot] != 0;
    }
    return used;
}

/* pieces_give forgets one, or cr_slot_drop does not call it; pieces_give_back is not called. */
static void every_slot_comes_back(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    struct cr_entry entry;
    (void)fill_until_one_goes(&f, 0);
    CHECK(slots_used(&f) > 1000);
    for (unsigned round = 0; round < 2000; round++) {
        uint64_t number = tap_random_below(100);
        fixture_entry(number, 1, f.clock.now_boot, tap_random_below(CR_DATA_CACHED_BYTES_MAX + 9),
                      &entry);
        (void)!cr_table_insert(f.table, &entry, cr_table_clock(f.table), f.clock.now_boot);
        if (tap_random_below(3) == 0)
            fixture_end_session(&f, tap_random_below(100));
    }
    for (uint64_t i = 0; i < 1000; i++)
        fixture_end_session(&f, i);
    CHECK_UINT(fixture_count(&f).entries, 0);
    CHECK_UINT(slots_used(&f), 0);
    for (uint64_t i = 0; i < f.view.stamp_count; i++)
        CHECK_UINT(f.table->group_counts[i], 0);
    fixture_fini(&f);
}

static uint32_t stamp_of(const struct fixture *f, unsigned number)
{
    struct cr_user user;
    fixture_user(number, &user);
    return cr_table_stamp_index(f->table, &user);
}

/* A user whose stamp is none of those of the users `first` to `first + count - 1`: who has it in
 * common with the greedy one shares their part of the table, too. */
static unsigned user_apart(const struct fixture *f, unsigned first, unsigned count)
{
    unsigned user = first + count;
    for (unsigned i = 0; i < count; i++)
        if (stamp_of(f, first + i) == stamp_of(f, user)) {
            user++;
            i = UINT_MAX; /* from the first again */
        }
    return user;
}

/* One user's sessions, as many as there are slots, and then again: entry_rank without
 * group_is_greedy; cr_table_insert with `below` UINT64_MAX. */
static void one_users_many_sessions_do_not_push_out_others(void)
{
    static const unsigned first = 1000, before = 1500, later = before / 2, many = 20000;
    struct fixture f;
    if (!fixture_init(&f))
        return;
    unsigned greedy = user_apart(&f, first, before + later);
    CHECK(before < fixture_count(&f).capacity / 2 && many > 5 * fixture_count(&f).capacity);
    for (uint64_t i = 0; i < before; i++)
        CHECK(fixture_fill(&f, i, (unsigned)(first + i)));
    fixture_wait(&f, 60000); /* the others were seen longer ago than any of that user's */
    for (uint64_t i = 0; i < many; i++)
        (void)!fixture_fill(&f, 100000 + i, greedy);
    CHECK_UINT(fixture_found(&f, 0, before), before);
    CHECK(fixture_found(&f, 100000, 100000 + many) > 64);
    /* Nor do they keep others out, who come later. */
    for (uint64_t i = 0; i < later; i++)
        CHECK(fixture_fill(&f, 50000 + i, (unsigned)(first + before + i)));
    CHECK_UINT(fixture_found(&f, 0, before), before);
    CHECK_UINT(fixture_found(&f, 50000, 50000 + later), later);
    fixture_fini(&f);
}

static void tables_of_any_size_are_whole(void)
{
    static const size_t sizes[] = {CR_TABLE_BYTES_MIN,
                                   CR_TABLE_BYTES_MIN + 1,
                                   CR_TABLE_BYTES_MIN + 4096,
                                   3000000,
                                   (8u << 20) - 1,
                                   64u << 20};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct fixture f;
        const struct cr_table_options options = {.bytes = sizes[i], .shared = i % 2 == 0};
        if (!fixture_init_with(&f, &options))
            return;
        struct cr_table_count count = fixture_count(&f);
        struct cr_table_view view;
        CHECK_STATUS(cr_table_view_init(&view, f.view.memory, f.view.bytes), CR_OK);
        CHECK(count.bytes <= sizes[i] && count.bytes + 4096 > sizes[i]);
        CHECK(count.capacity >= sizes[i] / 300);
        CHECK((cr_table_fd(f.table) >= 0) == options.shared);
        for (uint64_t k = 0; k < 100; k++)
            CHECK(fixture_fill(&f, k, 1));
        CHECK_UINT(fixture_found(&f, 0, 100), 100);
        fixture_fini(&f);
    }
}

static void a_table_that_is_too_small_is_refused(void)
{
    struct cr_table *table = NULL;
    const struct cr_table_options options = {.bytes = CR_TABLE_BYTES_MIN - 1};
    CHECK_STATUS(cr_table_create(&options, cr_random_system(), &table), CR_E_INVALID);
    CHECK(table == NULL);
    cr_table_destroy(NULL);
}

static enum cr_status no_random(struct cr_random *random, void *out, size_t bytes)
{
    return CR_UNAVAILABLE;
}

static void without_random_numbers_there_is_no_table(void)
{
    struct cr_random random = {.fill = no_random};
    struct cr_table *table = NULL;
    const struct cr_table_options options = {.bytes = CR_TABLE_BYTES_MIN, .shared = true};
    CHECK_STATUS(cr_table_create(&options, &random, &table), CR_UNAVAILABLE);
    CHECK(table == NULL);
}

static void no_two_tables_hash_users_alike(void)
{
    struct fixture f[2];
    if (!fixture_init(&f[0]))
        return;
    if (fixture_init(&f[1])) {
        CHECK(memcmp(f[0].view.user_key, f[1].view.user_key, 16) != 0);
        fixture_fini(&f[1]);
    }
    fixture_fini(&f[0]);
}

/* Six bytes of time in an id: all of one moment then have one home. */
static void sessions_of_one_moment_find_room_as_any_others_do(void)
{
    struct fixture f;
    if (!fixture_init(&f))
        return;
    uint64_t count = f.view.bucket_count * LAYOUT_BUCKET_SLOTS / 10 * 8;
    for (uint64_t i = 0; i < count; i++) {
        struct cr_entry entry;
        fixture_entry(i, (unsigned)i, f.clock.now_boot, 56, &entry);
        CHECK_STATUS(cr_session_id_make(&f.random.random, f.clock.now_wall, &entry.id), CR_OK);
        CHECK(cr_table_insert(f.table, &entry, FIXTURE_CLOCK, f.clock.now_boot));
    }
    CHECK_UINT(fixture_count(&f).entries, count);
    CHECK_UINT(fixture_count(&f).evicted_live, 0);
    fixture_fini(&f);
}

static const struct tap_test tests[] = {
    TAP_TEST(sessions_of_one_moment_find_room_as_any_others_do),
    TAP_TEST(the_session_seen_longest_ago_goes_when_there_is_no_room),
    TAP_TEST(an_ended_session_goes_before_a_live_one),
    TAP_TEST(an_expired_session_goes_before_a_live_one),
    TAP_TEST(a_table_fills_to_nine_tenths_before_anybody_goes),
    TAP_TEST(more_sessions_than_there_is_room_for_never_grow_the_table),
    TAP_TEST(a_large_session_takes_the_slots_of_those_seen_longest_ago),
    TAP_TEST(slots_of_ended_sessions_are_taken_before_those_of_live_ones),
    TAP_TEST(every_slot_comes_back),
    TAP_TEST(one_users_many_sessions_do_not_push_out_others),
    TAP_TEST(tables_of_any_size_are_whole),
    TAP_TEST(a_table_that_is_too_small_is_refused),
    TAP_TEST(without_random_numbers_there_is_no_table),
    TAP_TEST(no_two_tables_hash_users_alike),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
