/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A find, interrupted at each of its steps. The reader has a map of its own in which only the page
 * that it reads may be read; when it goes on to another page the fault stops it, and at a chosen
 * stop the writer acts, as if on another core. Header, bucket, entry, pieces and stamp stand on
 * different pages, and the clock is a stop as well, so every step of rule 4 is a stop. Above a test
 * stands which order it holds; the wrong order was tried.
 */
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/shm.h"
#include "cache/writer.h"
#include "unit/cache_fixture.h"

#define STOPS_MAX 400

/* How the session is looked for: by itself; or first or last of a batch in which it stands twice,
 * with one between that is not there. */
enum way { WAY_ALONE, WAY_FIRST, WAY_LAST, WAY_COUNT };
#define BATCH 3

struct stage;
typedef void stage_act(struct stage *);

/* One find of session `number` in a fresh table. */
struct stage {
    struct fixture f; /* the writer's side; its clock is the reader's */
    struct cr_clock clock;
    unsigned char *map; /* the reader's side */
    size_t map_bytes, page;
    unsigned char *open; /* the page that may be read now */
    uint64_t number;
    unsigned user;
    enum way way;
    unsigned stops; /* so far */
    unsigned act_at;
    stage_act *act;
};

/* The fault's handler gets no context: one stage at a time. */
static struct stage *now_playing;

static void stage_stop(struct stage *s)
{
    if (s->stops++ == s->act_at)
        s->act(s);
}

static void page_allow(struct stage *s, unsigned char *page, int access)
{
    if (page != NULL && mprotect(page, s->page, access) != 0)
        abort();
}

static void fault_handle(int signal_number, siginfo_t *info, void *context)
{
    struct stage *s = now_playing;
    unsigned char *at = info->si_addr;
    if (s == NULL || at < s->map || at >= s->map + s->map_bytes) {
        signal(signal_number, SIG_DFL); /* a real one: comes again, and ends the test */
        return;
    }
    stage_stop(s);
    page_allow(s, s->open, PROT_NONE);
    s->open = s->map + (size_t)(at - s->map) / s->page * s->page;
    page_allow(s, s->open, PROT_READ);
}

static cr_boot_ns stage_boot(struct cr_clock *clock)
{
    struct stage *s = now_playing;
    stage_stop(s);
    return s->f.clock.now_boot;
}

/* A session whose stamp does not share the header's page. Its payload goes on in pieces. */
static bool stage_init(struct stage *s, enum way way)
{
    const void *map = NULL;
    struct cr_entry entry;
    memset(s, 0, sizeof *s);
    s->way = way;
    if (!fixture_init(&s->f) ||
        !CHECK(cr_shm_map(cr_table_fd(s->f.table), &map, &s->map_bytes) == CR_OK))
        return false;
    memcpy(&s->map, &map, sizeof s->map); /* without its const: its protection changes */
    s->page = (size_t)sysconf(_SC_PAGESIZE);
    s->clock.boot = stage_boot;
    s->number = 1;
    s->act_at = UINT32_MAX;
    do
        fixture_user(++s->user, &entry.user);
    while (cr_table_stamp_index(s->f.table, &entry.user) * sizeof(uint64_t) < s->page);
    fixture_entry(s->number, s->user, s->f.clock.now_boot, 700, &entry);
    return CHECK(cr_table_insert(s->f.table, &entry, FIXTURE_CLOCK, s->f.clock.now_boot));
}

static void stage_fini(struct stage *s)
{
    cr_memory_unmap(s->map, s->map_bytes);
    fixture_fini(&s->f);
}

struct batch {
    size_t wanted;
    struct cr_entry *out;
};

static void batch_copied(void *context, size_t index, const struct cr_entry *entry)
{
    struct batch *batch = context;
    if (index == batch->wanted)
        fixture_copied(entry, batch->out);
}

static bool view_find(struct stage *s, const struct cr_table_view *view, struct cr_entry *out)
{
    struct cr_table_wanted wanted[BATCH];
    struct cr_session_id id;
    struct cr_token_hash hash;
    static struct cr_entry other;
    struct batch batch = {.wanted = s->way == WAY_LAST ? BATCH - 1 : 0, .out = out};
    bool used_old;
    for (size_t i = 0; i < BATCH; i++) {
        uint64_t number = i == 1 ? s->number + 1 : s->number;
        fixture_id(number, &id);
        fixture_hash(number, &hash);
        if (s->way == WAY_ALONE)
            return cr_table_find(view, &s->clock, &id, &hash, out, &used_old);
        fixture_want(view, &id, &hash, i == batch.wanted ? out : &other, &wanted[i]);
    }
    out->as_of = cr_table_find_many(view, &s->clock, wanted, BATCH, batch_copied, &batch);
    CHECK(!wanted[1].found);
    return wanted[batch.wanted].found;
}

static bool stage_find(struct stage *s, struct cr_entry *out)
{
    struct sigaction before;
    const struct sigaction action = {.sa_sigaction = fault_handle, .sa_flags = SA_SIGINFO};
    struct cr_table_view view = s->f.view;
    view.memory = s->map;
    now_playing = s;
    sigaction(SIGSEGV, &action, &before);
    bool closed = mprotect(s->map, s->map_bytes, PROT_NONE) == 0;
    bool found = closed && view_find(s, &view, out);
    sigaction(SIGSEGV, &before, NULL);
    now_playing = NULL;
    return CHECK(closed) && found;
}

/* What must hold of a find in which the writer acted: asked once for each stop. */
typedef bool stage_check(struct stage *s, bool found, const struct cr_entry *out);

static unsigned play_way(enum way way, stage_act *prepare, stage_act *act, stage_check *check)
{
    static struct cr_entry out;
    unsigned found_count = 0;
    bool acted = true;
    for (unsigned stop = 0; acted && CHECK(stop < STOPS_MAX); stop++) {
        struct stage s;
        char row[32];
        (void)snprintf(row, sizeof row, "way %d, stop %u", way, stop);
        tap_row(row);
        if (!stage_init(&s, way))
            return 0;
        if (prepare != NULL)
            prepare(&s);
        s.act_at = stop;
        s.act = act;
        bool found = stage_find(&s, &out);
        acted = s.stops > stop;
        found_count += found;
        if (acted)
            CHECK(check(&s, found, &out));
        else
            CHECK(stop > 5); /* header, bucket, entry, piece, stamp, clock at the least */
        stage_fini(&s);
    }
    tap_row(NULL);
    return found_count;
}

/* Plays the find again and again, with the writer acting one stop later each time; answers how
 * often it was found, in the way in which that was least. */
static unsigned play(stage_act *prepare, stage_act *act, stage_check *check)
{
    unsigned least = UINT32_MAX;
    for (enum way way = 0; way < WAY_COUNT; way++) {
        unsigned found_count = play_way(way, prepare, act, check);
        least = found_count < least ? found_count : least;
    }
    return least;
}

static bool never_found(struct stage *s, bool found, const struct cr_entry *out)
{
    return !found;
}

/* The lease has run out, and the other host has said done. */
static void let_lease_run_out(struct stage *s)
{
    s->f.clock.now_boot += CR_TABLE_FRESH_NS_MAX;
}

/* The poll that brings the ending: stamp, then lease. */
static void apply_user_ending_and_renew(struct stage *s)
{
    fixture_end_user(&s->f, s->user);
    fixture_wait(&s->f, 0);
}

static void apply_everybodys_ending_and_renew(struct stage *s)
{
    cr_table_end_all(s->f.table);
    fixture_wait(&s->f, 0);
}

static void apply_session_ending_and_renew(struct stage *s)
{
    fixture_end_session(&s->f, s->number);
    fixture_wait(&s->f, 0);
}

/* Stamps or entry before view_fresh:A: the variant "stamps read before the lease" (ASVS D8). */
static void the_poll_that_brings_an_ending_renews_the_lease_for_no_find_under_way(void)
{
    play(let_lease_run_out, apply_user_ending_and_renew, never_found);
    play(let_lease_run_out, apply_everybodys_ending_and_renew, never_found);
    play(let_lease_run_out, apply_session_ending_and_renew, never_found);
}

static void reach_deadline(struct stage *s)
{
    fixture_wait(&s->f, FIXTURE_HOUR_MS);
}

static void outlive_lease(struct stage *s)
{
    cr_clock_fake_advance(&s->f.clock, CR_TABLE_FRESH_NS_MAX / CR_NS_PER_MS);
}

/* The clock read before anything else is. A stop of the clock itself is before the reading. */
static void time_that_passes_during_a_find_counts(void)
{
    play(NULL, reach_deadline, never_found);
    play(NULL, outlive_lease, never_found);
}

static bool found_as_it_was(struct stage *s, bool found, const struct cr_entry *out)
{
    struct cr_entry in;
    fixture_entry(s->number, s->user, s->f.clock.now_boot, 700, &in);
    return !found || fixture_same(&in, out);
}

/* Frees the session's pieces, and gives them to others. */
static void give_pieces_to_others(struct stage *s)
{
    struct cr_entry entry;
    fixture_end_session(&s->f, s->number);
    for (uint64_t other = 100; other < 110; other++) {
        fixture_entry(other, 2, s->f.clock.now_boot, 4000, &entry);
        CHECK(cr_table_insert(s->f.table, &entry, cr_table_clock(s->f.table), s->f.clock.now_boot));
    }
}

/* entry_copy:B left out. */
static void a_piece_that_changes_owner_is_never_taken_for_the_old_ones(void)
{
    CHECK(play(NULL, give_pieces_to_others, found_as_it_was) > 0);
}

static void replace_by_larger(struct stage *s)
{
    struct cr_entry entry;
    fixture_entry(s->number, s->user, s->f.clock.now_boot, 900, &entry);
    entry.version = 4711;
    memset(entry.data, 0xee, entry.data_bytes);
    CHECK(cr_table_insert(s->f.table, &entry, FIXTURE_CLOCK, s->f.clock.now_boot));
}

static bool found_old_or_new(struct stage *s, bool found, const struct cr_entry *out)
{
    struct cr_entry entry;
    fixture_entry(s->number, s->user, s->f.clock.now_boot, 900, &entry);
    entry.version = 4711;
    memset(entry.data, 0xee, entry.data_bytes);
    return found_as_it_was(s, found, out) || fixture_same(&entry, out);
}

static void an_entry_that_is_replaced_is_the_old_or_the_new_one(void)
{
    CHECK(play(NULL, replace_by_larger, found_old_or_new) > 0);
}

static void use_again(struct stage *s)
{
    struct cr_session_id id;
    fixture_id(s->number, &id);
    cr_table_seen(s->f.table, &id, s->f.clock.now_boot + 1);
}

static bool always_found(struct stage *s, bool found, const struct cr_entry *out)
{
    return found;
}

/* FIND_TRIES_MAX is 1: each use would cost readers on other cores a miss. */
static void a_torn_copy_is_tried_again(void)
{
    play(NULL, use_again, always_found);
}

/* Every stop tears the copy anew. */
static void use_at_every_stop(struct stage *s)
{
    use_again(s);
    s->f.clock.now_boot += 2;
    s->act_at = s->stops;
}

/* The loop in cr_table_find, or in cr_table_find_many, has no bound. */
static void a_find_gives_up_after_two_torn_copies(void)
{
    static struct cr_entry out;
    for (enum way way = 0; way < WAY_COUNT; way++) {
        struct stage s;
        if (!stage_init(&s, way))
            return;
        s.act_at = 0;
        s.act = use_at_every_stop;
        CHECK(!stage_find(&s, &out));
        CHECK(s.stops < STOPS_MAX);
        stage_fini(&s);
    }
}

static const struct tap_test tests[] = {
    TAP_TEST(the_poll_that_brings_an_ending_renews_the_lease_for_no_find_under_way),
    TAP_TEST(time_that_passes_during_a_find_counts),
    TAP_TEST(a_piece_that_changes_owner_is_never_taken_for_the_old_ones),
    TAP_TEST(an_entry_that_is_replaced_is_the_old_or_the_new_one),
    TAP_TEST(a_torn_copy_is_tried_again),
    TAP_TEST(a_find_gives_up_after_two_torn_copies),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
