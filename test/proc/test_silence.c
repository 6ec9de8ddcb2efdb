/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A reader stopped after each instruction of a find, for as long as it takes the writer to end,
 * change, push out or replace what it reads, and then continued. The find that was under way began
 * before, so it may answer what it began to read, whole; or it misses. The next one answers what
 * holds now.
 *
 * The reader is a child that goes one instruction at a time. At each one, and for each act, a copy
 * of it that stands there is made; the writer, a process of its own, acts; the copy goes on to the
 * end of its find, and finds once more. The segment then gets back the bytes that it had. The clock
 * is simulated and shared. That the writer is never blocked by whoever stands still shows in that
 * it comes to its end.
 */
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "proc/segment.h"
#include "proc/stepped.h"

#define INSTRUCTIONS_MAX 100000
#define SPARSE 3 /* of a long entry's: each third instruction, and with CR_LONG each */
#define SHORT_NS 2
#define READERS_MAX 2000
#define CROSS_SPARSE 20 /* where the writer, too, is stopped after each store */
#define CROSS_SPARSE_LONG 4

enum { SMALL = 20, LARGE = 21 };
enum { BYSTANDER = 1, USER };
enum phase { PHASE_BEFORE, PHASE_FIND, PHASE_NEXT };
enum next { NEXT_MISS, NEXT_OLD, NEXT_NEW };

/* What reader and test share. */
struct shared {
    atomic_uint phase;
    struct cr_clock_fake clock;
    atomic_uint clock_read; /* being read: 1; read: 2 */
    bool in_next_table;     /* where the second find looks */
    bool found[2];
    struct cr_entry out[2];
};

struct scene {
    struct segment segment, next; /* next: the table of the next agent */
    uint64_t number;
    struct cr_entry old, new;
    uint64_t stamp;        /* of before the act */
    struct cr_entry other; /* another session, who takes the place */
    cr_boot_ns now, fresh;
    bool began_late; /* the lease had run out when the find began */
    struct shared *shared;
    unsigned sparse, instructions, stops, found;
};

struct act {
    const char *name;
    void (*write)(struct scene *); /* NULL: the writer says nothing more */
    bool outlives_lease;           /* then time passes, too */
    bool next_table;               /* and the reader turns to the next agent's table */
    bool always_found;             /* nothing is wrong with the session */
    bool can_be_new;               /* the find under way may meet the new content */
    enum next next;                /* what the next find answers */
};

/* --- The acts --- */

static void end_session(struct scene *s)
{
    fixture_end_session(&s->segment.f, s->number);
}

static void end_user(struct scene *s)
{
    (void)cr_table_end_user(s->segment.f.table, &s->old.user);
}

static void end_all(struct scene *s)
{
    (void)cr_table_end_all(s->segment.f.table);
}

static void insert(struct scene *s, const struct cr_entry *entry, uint64_t stamp)
{
    if (!cr_table_insert(s->segment.f.table, entry, stamp, s->now))
        _exit(1);
}

/* As an engine changes what a session holds: rule 3, then a fill that was asked for after it. */
static void change(struct scene *s)
{
    end_session(s);
    insert(s, &s->new, cr_table_clock(s->segment.f.table));
}

static void replace(struct scene *s)
{
    insert(s, &s->new, s->stamp);
}

static void push_out(struct scene *s)
{
    insert(s, &s->other, s->stamp);
}

static void end_and_give_away(struct scene *s)
{
    end_session(s);
    insert(s, &s->other, cr_table_clock(s->segment.f.table));
}

static void end_and_fill_late(struct scene *s)
{
    end_session(s);
    if (cr_table_insert(s->segment.f.table, &s->old, s->stamp, s->now))
        _exit(1);
}

static void end_user_and_renew(struct scene *s)
{
    end_user(s);
    cr_table_freshen(s->segment.f.table, s->fresh + CR_TABLE_FRESH_NS_MAX, s->fresh);
}

static void end_session_and_renew(struct scene *s)
{
    end_session(s);
    cr_table_freshen(s->segment.f.table, s->fresh + CR_TABLE_FRESH_NS_MAX, s->fresh);
}

static void end_all_and_renew(struct scene *s)
{
    end_all(s);
    cr_table_freshen(s->segment.f.table, s->fresh + CR_TABLE_FRESH_NS_MAX, s->fresh);
}

static void use(struct scene *s)
{
    cr_table_seen(s->segment.f.table, &s->old.id, s->new.seen);
}

static void end_bystander(struct scene *s)
{
    fixture_end_user(&s->segment.f, BYSTANDER);
    fixture_end_session(&s->segment.f, 1);
}

static void retire(struct scene *s)
{
    cr_table_retire(s->segment.f.table);
}

/* --- One stop --- */

static cr_boot_ns shared_clock(struct cr_clock *clock)
{
    struct cr_clock_fake *fake = (struct cr_clock_fake *)clock;
    struct shared *shared = (struct shared *)((char *)fake - offsetof(struct shared, clock));
    atomic_store(&shared->clock_read, 1);
    atomic_signal_fence(memory_order_seq_cst); /* not before it */
    cr_boot_ns now = fake->now_boot;
    atomic_store(&shared->clock_read, 2);
    return now;
}

/* Into its own memory, which no copy of it shares. */
static void reader_run(void *context)
{
    static struct cr_entry out[2];
    struct scene *s = context;
    struct shared *shared = s->shared;
    struct cr_session_id id;
    struct cr_token_hash hash;
    bool used_old;
    fixture_id(s->number, &id);
    fixture_hash(s->number, &hash);
    atomic_store(&shared->phase, PHASE_FIND);
    bool found =
        cr_table_find(&s->segment.reader, &shared->clock.clock, &id, &hash, &out[0], &used_old);
    atomic_store(&shared->phase, PHASE_NEXT);
    const struct cr_table_view *view = shared->in_next_table ? &s->next.reader : &s->segment.reader;
    shared->found[0] = found;
    shared->found[1] = cr_table_find(view, &shared->clock.clock, &id, &hash, &out[1], &used_old);
    memcpy(shared->out, out, sizeof out);
}

/* The clock is read last of all: time that passes before it counts, and nothing that happens after
 * it. */
static bool first_is_right(const struct scene *s, const struct act *act, unsigned clock_read)
{
    const struct cr_entry *out = &s->shared->out[0];
    if (clock_read == 2 && !s->began_late)
        return s->shared->found[0] && fixture_same(&s->old, out);
    if (!s->shared->found[0])
        return !act->always_found;
    if (s->began_late || (act->outlives_lease && clock_read == 0))
        return false;
    return fixture_same(&s->old, out) || (act->can_be_new && fixture_same(&s->new, out));
}

static bool next_is_right(const struct scene *s, const struct act *act)
{
    bool found = s->shared->found[1];
    const struct cr_entry *out = &s->shared->out[1];
    switch (act->next) {
    case NEXT_MISS:
        return !found;
    case NEXT_OLD:
        return found && fixture_same(&s->old, out);
    case NEXT_NEW:
        return found && fixture_same(&s->new, out);
    }
    return false;
}

struct writing {
    struct scene *scene;
    const struct act *act;
};

static void writer_run(void *context)
{
    const struct writing *writing = context;
    writing->act->write(writing->scene);
}

static bool stop_here(struct scene *s, const struct stepped *reader, const struct act *act)
{
    struct stepped copy = {0};
    struct shared *shared = s->shared;
    unsigned phase = atomic_load(&shared->phase);
    unsigned clock_read = atomic_load(&shared->clock_read);
    bool right = stepped_copy(reader, &copy);
    if (right && act->write != NULL)
        right = segment_elsewhere(writer_run, &(struct writing){s, act});
    if (act->outlives_lease)
        shared->clock.now_boot = s->fresh + SHORT_NS;
    shared->in_next_table = act->next_table;
    right = right && CHECK(stepped_finish(&copy)) && CHECK(first_is_right(s, act, clock_read)) &&
            CHECK(next_is_right(s, act));
    s->found += shared->found[0];
    s->stops++;
    stepped_kill(&copy);
    shared->clock.now_boot = s->now;
    atomic_store(&shared->clock_read, clock_read);
    atomic_store(&shared->phase, phase);
    if (s->instructions == 0)
        segment_learn(&s->segment); /* the act writes the same each time */
    segment_restore(&s->segment);
    return right;
}

static void stop_at_every_instruction(struct scene *s, const struct act *acts, size_t count)
{
    struct stepped reader;
    bool goes_on = stepped_start(&reader, reader_run, s);
    if (!goes_on)
        return;
    segment_keep(&s->segment);
    while (stepped_step(&reader) && atomic_load(&s->shared->phase) == PHASE_BEFORE)
        ;
    while (goes_on && atomic_load(&s->shared->phase) == PHASE_FIND &&
           CHECK(s->instructions < INSTRUCTIONS_MAX)) {
        bool stops = s->instructions % s->sparse == 0;
        for (size_t i = 0; stops && goes_on && i < count; i++) {
            char row[64];
            (void)snprintf(row, sizeof row, "%s at instruction %u", acts[i].name, s->instructions);
            tap_row(row);
            goes_on = stop_here(s, &reader, &acts[i]);
        }
        tap_row(NULL);
        s->instructions++;
        goes_on = goes_on && CHECK(stepped_step(&reader));
    }
    if (goes_on) /* nothing happened to this one */
        CHECK(memcmp(s->segment.kept, s->segment.map, s->segment.bytes) == 0 &&
              stepped_finish(&reader) && s->shared->found[0] == !s->began_late &&
              (s->began_late || fixture_same(&s->old, &s->shared->out[0])));
    stepped_kill(&reader);
}

/* --- A reader stopped anywhere, and a writer killed anywhere --- */

static unsigned readers_stop(struct scene *s, struct stepped *out_readers)
{
    struct stepped reader;
    unsigned count = 0;
    bool goes_on = stepped_start(&reader, reader_run, s);
    while (goes_on && stepped_step(&reader) && atomic_load(&s->shared->phase) == PHASE_BEFORE)
        ;
    while (goes_on && atomic_load(&s->shared->phase) == PHASE_FIND) {
        if (s->instructions++ % s->sparse == 0)
            goes_on = CHECK(count < READERS_MAX) && stepped_copy(&reader, &out_readers[count++]);
        goes_on = goes_on && CHECK(stepped_step(&reader));
    }
    stepped_kill(&reader);
    return count;
}

/* The writer stands, which is as if it were dead (test_killed.c): a find that was under way, and
 * one that begins now, gives the old or the new content whole, or misses. */
static bool reader_continues(struct scene *s, const struct stepped *reader)
{
    struct stepped copy = {0};
    const struct shared *shared = s->shared;
    bool right = stepped_copy(reader, &copy) && CHECK(stepped_finish(&copy));
    for (int i = 0; right && i < 2; i++)
        right = CHECK(!shared->found[i] || fixture_same(&s->old, &shared->out[i]) ||
                      fixture_same(&s->new, &shared->out[i]));
    s->found += shared->found[0];
    s->stops++;
    stepped_kill(&copy);
    return right;
}

static void cross_play(struct scene *s, const struct act *act)
{
    static struct stepped readers[READERS_MAX];
    struct stepped writer;
    unsigned count = readers_stop(s, readers), stores = 0;
    unsigned char *shadow = segment_bytes(s->segment.bytes);
    if (!CHECK(shadow != NULL))
        return;
    segment_keep(&s->segment);
    memcpy(shadow, s->segment.map, s->segment.bytes);
    tap_row(act->name);
    bool goes_on = stepped_start(&writer, writer_run, &(struct writing){s, act});
    while (goes_on && stepped_step(&writer)) {
        if (memcmp(shadow, s->segment.map, s->segment.bytes) == 0)
            continue;
        stores++;
        memcpy(shadow, s->segment.map, s->segment.bytes);
        for (unsigned i = 0; goes_on && i < count; i++)
            goes_on = reader_continues(s, &readers[i]);
    }
    stepped_kill(&writer);
    segment_learn(&s->segment);
    segment_restore(&s->segment);
    munmap(shadow, s->segment.bytes);
    for (unsigned i = 0; i < count; i++)
        stepped_kill(&readers[i]);
    CHECK(count > 10 && stores > 3);
    tap_note("%s: %u places of a reader, %u stores of the writer, %u finds, %u still answered",
             act->name, count, stores, s->stops, s->found);
    tap_row(NULL);
}

/* --- Scenes --- */

static bool scene_init(struct scene *s, bool is_long)
{
    memset(s, 0, sizeof *s);
    s->shared =
        mmap(NULL, sizeof *s->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!CHECK(s->shared != MAP_FAILED) || !segment_init(&s->segment) || !segment_init(&s->next))
        return false;
    s->now = s->segment.f.clock.now_boot + SHORT_NS;
    s->fresh = s->segment.f.clock.now_boot + CR_TABLE_FRESH_NS_MAX;
    cr_clock_fake_init(&s->shared->clock, 0);
    s->shared->clock.now_boot = s->now;
    s->shared->clock.clock.boot = shared_clock;
    s->stamp = cr_table_clock(s->segment.f.table);
    s->sparse = is_long && getenv("CR_LONG") == NULL ? SPARSE : 1;
    return true;
}

/* The session, and its new content, which is what the next agent's table holds. */
static void scene_session(struct scene *s, uint64_t number, size_t bytes)
{
    cr_boot_ns before = s->segment.f.clock.now_boot;
    s->number = number;
    fixture_entry(number, USER, before, bytes, &s->old);
    fixture_entry(number, USER, before, bytes + 9, &s->new);
    s->new.version = 4711;
    memset(s->new.data, 0xee, s->new.data_bytes);
    CHECK(cr_table_insert(s->segment.f.table, &s->old, s->stamp, before));
    CHECK(cr_table_insert(s->next.f.table, &s->new, cr_table_clock(s->next.f.table), before));
    cr_table_freshen(s->next.f.table, s->fresh + CR_TABLE_FRESH_NS_MAX, s->fresh);
    CHECK(fixture_fill(&s->segment.f, 1, BYSTANDER));
    segment_crowd(&s->segment, 300, 56);
}

static void scene_fini(struct scene *s)
{
    munmap(s->shared, sizeof *s->shared);
    segment_fini(&s->segment);
    segment_fini(&s->next);
}

static void scene_play(struct scene *s, const struct act *acts, size_t count)
{
    stop_at_every_instruction(s, acts, count);
    CHECK(s->instructions > 50);
    CHECK(s->found > 0 && s->found < s->stops);
    tap_note("%u instructions, %zu acts, %u stops; %u finds still answered", s->instructions, count,
             s->stops, s->found);
    scene_fini(s);
}

static bool is_refused(void)
{
    const char *why = stepped_refused();
    if (why != NULL)
        tap_skip(why);
    return why != NULL;
}

#define COUNT(acts) (sizeof(acts) / sizeof(acts)[0])

static const struct act endings[] = {
    {.name = "end the session", .write = end_session},
    {.name = "end the user", .write = end_user},
    {.name = "end everybody", .write = end_all},
    {.name = "end, and a late fill", .write = end_and_fill_late},
    {.name = "retire", .write = retire},
    {.name = "the agent dies", .outlives_lease = true},
};

/* The poll that brings an ending renews the lease. */
static const struct act polls[] = {
    {.name = "the poll that brings the user's ending", .write = end_user_and_renew},
    {.name = "the poll that brings the session's ending", .write = end_session_and_renew},
    {.name = "the poll that brings everybody's ending", .write = end_all_and_renew},
};

static const struct act changes[] = {
    {.name = "change", .write = change, .can_be_new = true, .next = NEXT_NEW},
    {.name = "replace", .write = replace, .can_be_new = true, .next = NEXT_NEW},
    {.name = "the next agent's table",
     .outlives_lease = true,
     .next_table = true,
     .next = NEXT_NEW},
    {.name = "end another", .write = end_bystander, .always_found = true, .next = NEXT_OLD},
};

static const struct act pushes[] = {
    {.name = "push out", .write = push_out},
    {.name = "end, and give the place away", .write = end_and_give_away},
};

static const struct act uses[] = {
    {.name = "use", .write = use, .always_found = true, .can_be_new = true, .next = NEXT_NEW},
};

/* ASVS D8 */
static void a_find_stopped_anywhere_during_an_ending_is_the_last_to_believe_it(void)
{
    static struct scene s;
    if (is_refused() || !scene_init(&s, false))
        return;
    scene_session(&s, SMALL, 56);
    scene_play(&s, endings, COUNT(endings));
}

/* Another host has waited for this one's lease, and has said done (ASVS D8). */
static void a_find_that_begins_past_the_lease_is_not_saved_by_the_poll_that_brings_an_ending(void)
{
    static struct scene s;
    if (is_refused() || !scene_init(&s, false))
        return;
    scene_session(&s, SMALL, 56);
    s.began_late = true;
    s.now = s.shared->clock.now_boot = s.fresh + SHORT_NS;
    stop_at_every_instruction(&s, polls, COUNT(polls));
    CHECK(s.found == 0 && s.instructions > 50);
    scene_fini(&s);
}

static void a_find_stopped_anywhere_during_a_change_gives_the_old_or_the_new_whole(void)
{
    static struct scene s;
    if (is_refused() || !scene_init(&s, false))
        return;
    scene_session(&s, SMALL, 56);
    scene_play(&s, changes, COUNT(changes));
}

static void a_find_of_a_long_entry_stopped_anywhere_gives_it_whole_or_misses(void)
{
    const struct act acts[] = {endings[0], changes[0], changes[1]};
    static struct scene s;
    if (is_refused() || !scene_init(&s, true))
        return;
    scene_session(&s, LARGE, 400);
    scene_play(&s, acts, COUNT(acts));
}

static void push_out_prepare(struct scene *s, size_t bytes)
{
    unsigned place = segment_crowd_until_full(&s->segment, bytes);
    CHECK(place < s->segment.crowd_count);
    s->number = SEGMENT_CROWD + place;
    segment_crowd_entry(&s->segment, place, &s->old);
    segment_crowd_entry(&s->segment, s->segment.crowd_count, &s->other);
    s->new = s->old;
}

static void push_out_play(size_t bytes)
{
    static struct scene s;
    if (is_refused() || !scene_init(&s, bytes > 56))
        return;
    push_out_prepare(&s, bytes);
    scene_play(&s, pushes, COUNT(pushes));
}

static void a_find_stopped_anywhere_while_another_takes_the_place_is_never_the_others(void)
{
    push_out_play(56);
    push_out_play(400);
}

static void a_find_stopped_anywhere_during_a_use_is_found_all_the_same(void)
{
    const uint64_t later_ms = 1000;
    static struct scene s;
    if (is_refused() || !scene_init(&s, false))
        return;
    scene_session(&s, SMALL, 56);
    s.new = s.old;
    s.new.seen += later_ms *CR_NS_PER_MS;
    s.new.deadline += later_ms *CR_NS_PER_MS;
    s.new.seen_at += (cr_time_ms)later_ms;
    s.new.expires_at += (cr_time_ms)later_ms;
    stop_at_every_instruction(&s, uses, COUNT(uses));
    CHECK(s.found == s.stops && s.instructions > 50);
    scene_fini(&s);
}

static bool cross_init(struct scene *s)
{
    if (is_refused() || !scene_init(s, false))
        return false;
    s->sparse = getenv("CR_LONG") == NULL ? CROSS_SPARSE : CROSS_SPARSE_LONG;
    return true;
}

static void a_find_stopped_anywhere_and_continued_beside_a_writer_killed_anywhere_is_whole(void)
{
    static struct scene s;
    if (!cross_init(&s))
        return;
    scene_session(&s, SMALL, 56);
    cross_play(&s, &changes[1]);
    scene_fini(&s);
    if (!cross_init(&s))
        return;
    push_out_prepare(&s, 56);
    cross_play(&s, &pushes[0]);
    scene_fini(&s);
}

static const struct tap_test tests[] = {
    TAP_TEST(a_find_stopped_anywhere_during_an_ending_is_the_last_to_believe_it),
    TAP_TEST(a_find_that_begins_past_the_lease_is_not_saved_by_the_poll_that_brings_an_ending),
    TAP_TEST(a_find_stopped_anywhere_during_a_change_gives_the_old_or_the_new_whole),
    TAP_TEST(a_find_of_a_long_entry_stopped_anywhere_gives_it_whole_or_misses),
    TAP_TEST(a_find_stopped_anywhere_while_another_takes_the_place_is_never_the_others),
    TAP_TEST(a_find_stopped_anywhere_during_a_use_is_found_all_the_same),
    TAP_TEST(a_find_stopped_anywhere_and_continued_beside_a_writer_killed_anywhere_is_whole),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
