/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table's writer killed after every instruction of every path that writes, while readers hold
 * the segment.
 *
 * The writer is a child that goes one instruction at a time. After each one a copy of it, which
 * stands at that same instruction with the segment mapped as the writer has it, is killed by
 * SIGKILL; then readers look. So each instruction has its own dead writer, without running to it
 * anew. That the first writer goes on afterwards does no harm: while readers look it is stopped,
 * and all that a writer can leave behind is what it stored in the segment. Stopping is as good as
 * killing there: each instruction's stores have reached the memory before the next one's, for
 * whoever else reads it, once the kernel has switched the process away. What it cannot show is a
 * store that another core sees out of order while the writer runs on; the orders are argued by
 * label (src/cache/README.md).
 *
 * What must hold is known from a plain list: for each session, what a reader may believe before the
 * path and after it. At every instruction: a session that the path is about answers as before, or
 * misses, or answers as after, in that order and never back; any other answers as before, whole; an
 * ended one never. A reader that waits for somebody would hang, and one that dies fails the test.
 * When the lease of the dead has run out nothing of it is believed (ASVS D9). A successor's table
 * answers what the store says.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/shm.h"
#include "proc/segment.h"
#include "proc/stepped.h"

#define WATCHED_MAX 24
#define INSTRUCTIONS_MAX 200000
#define SUCCESSORS_EVERY 4                 /* stores */
#define READERS_LATE_NS (5 * CR_NS_PER_MS) /* behind the inserts: what expired first is past */

enum answer { ANSWER_BEFORE, ANSWER_MISS, ANSWER_AFTER, ANSWER_WRONG };

struct watched {
    uint64_t number;
    bool was, is; /* to be believed before the path, and after it */
    bool changes; /* or else it must answer as before all the time */
    bool stored;  /* it lives, says the store */
    enum answer progress;
    struct cr_entry before, after;
};

struct scene;
struct path {
    const char *name;
    void (*prepare)(struct scene *); /* what the table holds, and what the act is called with */
    void (*act)(struct scene *);
    bool everybody;    /* it is about all sessions at once, the crowd's, too */
    bool pushes_out;   /* it costs others their place */
    bool is_unchanged; /* and does nothing to the segment */
};

struct scene {
    struct path path;
    struct segment segment;
    struct watched watched[WATCHED_MAX];
    unsigned watched_count;
    bool crowd_skip[SEGMENT_CROWD_MAX];
    cr_boot_ns now;        /* of the readers */
    cr_boot_ns fresh_most; /* what the writer has published or will */

    struct cr_entry entry;
    uint64_t stamp;
    cr_boot_ns writer_now, seen;
    struct cr_session_id id;
    struct cr_user user;

    atomic_uint *phase; /* shared with the writer: before, in, past the act */
    unsigned char *shadow;
    pid_t holder; /* a reader that holds the segment all the time */
    int ask, hear;
    unsigned instructions, stores, killed;
};
enum phase { PHASE_BEFORE, PHASE_ACT, PHASE_DONE };

/* --- What must hold --- */

static enum answer answer_of(const struct scene *s, const struct watched *w, cr_boot_ns now)
{
    static struct cr_entry out;
    if (!segment_find(&s->segment, now, w->number, &out))
        return ANSWER_MISS;
    if (w->was && fixture_same(&w->before, &out))
        return ANSWER_BEFORE;
    return w->is && fixture_same(&w->after, &out) ? ANSWER_AFTER : ANSWER_WRONG;
}

static bool watched_is_right(struct watched *w, enum answer answer)
{
    if (!w->changes)
        return answer == (w->was ? ANSWER_BEFORE : ANSWER_MISS);
    bool right = answer != ANSWER_WRONG && answer >= w->progress;
    w->progress = answer;
    return right;
}

/* Every session at the readers' time. */
static bool answers_are_right(struct scene *s)
{
    bool right = true;
    for (unsigned i = 0; i < s->watched_count; i++) {
        struct watched *w = &s->watched[i];
        enum answer before = w->progress, answer = answer_of(s, w, s->now);
        if (CHECK(watched_is_right(w, answer)))
            continue;
        tap_note("instruction %u: session %u answers %d after %d", s->instructions,
                 (unsigned)w->number, (int)answer, (int)before);
        right = false;
    }
    return right;
}

static bool nobody_is_believed_past_the_lease(struct scene *s)
{
    bool right = true;
    for (unsigned i = 0; i < s->watched_count; i++)
        right = CHECK(answer_of(s, &s->watched[i], s->fresh_most) == ANSWER_MISS) && right;
    return right;
}

static bool crowd_is_right(struct scene *s)
{
    unsigned wrong = segment_crowd_wrong(&s->segment, s->now, s->crowd_skip), live = 0;
    for (unsigned i = 0; i < s->segment.crowd_count; i++)
        live += s->segment.crowd_live[i];
    return wrong == 0 || (s->path.everybody && wrong == live);
}

/* --- The reader that holds the segment --- */

static void holder_run(struct scene *s, int ask, int hear)
{
    cr_boot_ns now;
    unsigned char answers[WATCHED_MAX] = {0};
    while (read(ask, &now, sizeof now) == (ssize_t)sizeof now) {
        for (unsigned i = 0; i < s->watched_count; i++)
            answers[i] = (unsigned char)answer_of(s, &s->watched[i], now);
        if (write(hear, answers, sizeof answers) != (ssize_t)sizeof answers)
            break;
    }
}

static bool holder_start(struct scene *s)
{
    int ask[2], hear[2];
    if (!CHECK(pipe2(ask, O_CLOEXEC) == 0 && pipe2(hear, O_CLOEXEC) == 0))
        return false;
    s->holder = fork();
    if (s->holder == 0) {
        close(ask[1]);
        close(hear[0]);
        holder_run(s, ask[0], hear[1]);
        _exit(0);
    }
    close(ask[0]);
    close(hear[1]);
    s->ask = ask[1];
    s->hear = hear[0];
    return CHECK(s->holder > 0);
}

static void holder_stop(struct scene *s)
{
    int status = -1;
    close(s->ask);
    close(s->hear);
    CHECK(waitpid(s->holder, &status, 0) == s->holder);
    CHECK_INT(status, 0);
}

/* It sees what this process sees. */
static bool holder_agrees(const struct scene *s)
{
    unsigned char answers[WATCHED_MAX];
    if (!CHECK(write(s->ask, &s->now, sizeof s->now) == (ssize_t)sizeof s->now) ||
        !CHECK(read(s->hear, answers, sizeof answers) == (ssize_t)sizeof answers))
        return false;
    for (unsigned i = 0; i < s->watched_count; i++)
        if (answers[i] != (unsigned char)answer_of(s, &s->watched[i], s->now))
            return false;
    return true;
}

/* --- The next agent --- */

static bool successor_fills(struct segment *next, const struct watched *w)
{
    static struct cr_entry out;
    const struct cr_entry *truth = w->is ? &w->after : &w->before;
    cr_boot_ns now = next->f.clock.now_boot;
    if (w->stored && !cr_table_insert(next->f.table, truth, cr_table_clock(next->f.table), now))
        return false;
    bool found = segment_find(next, now, w->number, &out);
    return found == w->stored && (!found || fixture_same(truth, &out));
}

/* In a process of its own, which sees the dead one's segment, too. What it fills, reads and ends in
 * its table is right, and changes nothing of what readers of the old one get. */
static void successor_run(void *context)
{
    struct scene *s = context;
    static struct segment next;
    bool right = segment_init(&next);
    for (unsigned i = 0; right && i < s->watched_count; i++)
        right = successor_fills(&next, &s->watched[i]);
    for (unsigned i = 0; right && i < s->watched_count; i++) {
        struct cr_entry out;
        fixture_end_session(&next.f, s->watched[i].number);
        right = !segment_find(&next, next.f.clock.now_boot, s->watched[i].number, &out) &&
                answer_of(s, &s->watched[i], s->fresh_most) == ANSWER_MISS;
    }
    _exit(right ? 0 : 1);
}

/* --- Killing --- */

static void writer_run(void *context)
{
    struct scene *s = context;
    atomic_store(s->phase, PHASE_ACT);
    s->path.act(s);
    atomic_store(s->phase, PHASE_DONE);
}

static void writer_only_act(void *context)
{
    struct scene *s = context;
    s->path.act(s);
}

/* Whether the last instruction changed the segment, in the pages that the path writes. */
static bool pages_changed(struct scene *s)
{
    const unsigned char *now = s->segment.map;
    bool changed = false;
    for (unsigned i = 0; i < s->segment.page_count; i++) {
        size_t at = (size_t)s->segment.pages[i] * SEGMENT_PAGE_BYTES;
        if (memcmp(now + at, s->shadow + at, SEGMENT_PAGE_BYTES) == 0)
            continue;
        memcpy(s->shadow + at, now + at, SEGMENT_PAGE_BYTES);
        changed = true;
    }
    return changed;
}

/* A path that costs others their place says in this first run whose; they answer as before until
 * they miss. */
static void pushed_out_learn(struct scene *s)
{
    static struct cr_entry out;
    unsigned count = 0;
    for (unsigned i = 0; i < s->watched_count; i++) {
        struct watched *w = &s->watched[i];
        if (w->changes || !w->was || segment_find(&s->segment, s->now, w->number, &out))
            continue;
        w->is = false;
        w->changes = true;
        count++;
    }
    for (unsigned place = 0; place < s->segment.crowd_count; place++) {
        uint64_t number = SEGMENT_CROWD + place;
        if (!s->segment.crowd_live[place] || segment_find(&s->segment, s->now, number, &out))
            continue;
        if (!CHECK(s->watched_count < WATCHED_MAX))
            return;
        struct watched *w = &s->watched[s->watched_count++];
        *w = (struct watched){.number = number, .was = true, .changes = true, .stored = true};
        segment_crowd_entry(&s->segment, place, &w->before);
        s->crowd_skip[place] = true;
        count++;
    }
    CHECK(count >= 1 && count <= 4);
}

static bool first_run(struct scene *s)
{
    segment_keep(&s->segment);
    if (!segment_elsewhere(writer_only_act, s))
        return false;
    segment_learn(&s->segment); /* which pages the path writes */
    CHECK((s->segment.page_count == 0) == s->path.is_unchanged);
    if (s->path.pushes_out)
        pushed_out_learn(s);
    memcpy(s->shadow, s->segment.map, s->segment.bytes); /* compared with the end */
    segment_restore(&s->segment);
    for (unsigned i = 0; i < s->watched_count; i++)
        s->watched[i].progress = s->watched[i].was ? ANSWER_BEFORE : ANSWER_MISS;
    return true;
}

/* Everything that is looked at once a store has changed what there is to see. */
static bool readers_look_closely(struct scene *s)
{
    return nobody_is_believed_past_the_lease(s) && CHECK(crowd_is_right(s)) &&
           CHECK(holder_agrees(s)) &&
           (s->stores % SUCCESSORS_EVERY != 0 || segment_elsewhere(successor_run, s));
}

static bool kill_here(struct scene *s, const struct stepped *writer)
{
    struct stepped copy = {0};
    bool done = stepped_copy(writer, &copy);
    stepped_kill(&copy);
    s->killed += done && CHECK(WIFSIGNALED(copy.status) && WTERMSIG(copy.status) == SIGKILL);
    return done;
}

static void kill_at_every_instruction(struct scene *s)
{
    struct stepped writer;
    unsigned char *end = segment_bytes(s->segment.bytes);
    if (!CHECK(end != NULL) || !stepped_start(&writer, writer_run, s)) {
        if (end != NULL)
            munmap(end, s->segment.bytes);
        return;
    }
    memcpy(end, s->shadow, s->segment.bytes);
    memcpy(s->shadow, s->segment.map, s->segment.bytes);
    while (stepped_step(&writer) && atomic_load(s->phase) == PHASE_BEFORE)
        ;
    bool goes_on = answers_are_right(s) && readers_look_closely(s);
    while (goes_on && CHECK(writer.pid != 0) && atomic_load(s->phase) == PHASE_ACT &&
           CHECK(s->instructions < INSTRUCTIONS_MAX)) {
        bool changed = pages_changed(s);
        s->stores += changed;
        goes_on =
            kill_here(s, &writer) && answers_are_right(s) && (!changed || readers_look_closely(s));
        s->instructions++;
        (void)stepped_step(&writer);
    }
    for (unsigned i = 0; goes_on && i < s->watched_count; i++)
        CHECK(!s->watched[i].changes ||
              s->watched[i].progress == (s->watched[i].is ? ANSWER_AFTER : ANSWER_MISS));
    if (goes_on)
        CHECK(memcmp(end, s->segment.map, s->segment.bytes) == 0);
    stepped_kill(&writer);
    munmap(end, s->segment.bytes);
}

/* --- The cast --- */

/* A little more recent than the crowd, which so is pushed out before it. */
static void cast_entry(const struct scene *s, uint64_t number, unsigned user, size_t bytes,
                       struct cr_entry *out)
{
    fixture_entry(number, user, s->segment.f.clock.now_boot + CR_NS_PER_MS, bytes, out);
}

static struct watched *cast(struct scene *s, uint64_t number, unsigned user, size_t bytes)
{
    struct watched *w = &s->watched[s->watched_count++];
    struct cr_table *table = s->segment.f.table;
    *w = (struct watched){.number = number, .was = true, .is = true, .stored = true};
    cast_entry(s, number, user, bytes, &w->before);
    w->after = w->before;
    CHECK(cr_table_insert(table, &w->before, cr_table_clock(table), s->segment.f.clock.now_boot));
    return w;
}

static void cast_ended(struct watched *w)
{
    w->was = w->is = w->stored = false;
}

enum { SMALL = 20, LARGE = 21, FRESH = 30 };
enum { BYSTANDER = 1, ENDED_USER, USER, OTHER };

/* Those whom no path is about: of other users, and ended ones of each way to end. And SMALL and
 * LARGE, the sessions of USER. */
static void cast_everybody(struct scene *s)
{
    struct segment *segment = &s->segment;
    cast_ended(cast(s, 7, BYSTANDER, 56));
    (void)cr_table_end_all(segment->f.table);
    cast_ended(cast(s, 8, USER, 56));
    fixture_end_user(&segment->f, USER);
    segment_crowd(segment, 300, 56);
    cast(s, 1, BYSTANDER, 56);
    cast(s, 2, BYSTANDER, 700);
    cast_ended(cast(s, 3, ENDED_USER, 56));
    cast_ended(cast(s, 4, ENDED_USER, 700));
    fixture_end_user(&segment->f, ENDED_USER);
    cast_ended(cast(s, 5, BYSTANDER, 56));
    fixture_end_session(&segment->f, 5);
    cast(s, SMALL, USER, 56);
    cast(s, LARGE, USER, 700);

    struct watched *expired = &s->watched[s->watched_count++];
    *expired = (struct watched){.number = 6};
    cast_entry(s, 6, BYSTANDER, 56, &expired->before);
    expired->before.idle = 2;
    expired->before.deadline = expired->before.seen + 2 * CR_NS_PER_MS;
    expired->before.expires_at = expired->before.seen_at + 2;
    CHECK(cr_table_insert(segment->f.table, &expired->before, cr_table_clock(segment->f.table),
                          segment->f.clock.now_boot));
}

static struct watched *watched_of(struct scene *s, uint64_t number)
{
    struct watched *w = s->watched;
    while (w->number != number)
        w++;
    return w;
}

/* The act inserts this session, which was not there. */
static void will_insert(struct scene *s, size_t bytes)
{
    struct watched *w = &s->watched[s->watched_count++];
    *w = (struct watched){.number = FRESH, .is = true, .changes = true, .stored = true};
    cast_entry(s, FRESH, OTHER, bytes, &w->after);
    s->entry = w->after;
}

static void will_end(struct scene *s, uint64_t number)
{
    struct watched *w = watched_of(s, number);
    w->is = w->stored = false;
    w->changes = true;
    s->id = w->before.id;
}

/* --- The paths --- */

static void act_insert(struct scene *s)
{
    (void)cr_table_insert(s->segment.f.table, &s->entry, s->stamp, s->writer_now);
}

static void act_end_session(struct scene *s)
{
    (void)cr_table_end_session(s->segment.f.table, &s->id);
}

static void act_end_user(struct scene *s)
{
    (void)cr_table_end_user(s->segment.f.table, &s->user);
}

static void act_end_all(struct scene *s)
{
    (void)cr_table_end_all(s->segment.f.table);
}

static void act_seen(struct scene *s)
{
    cr_table_seen(s->segment.f.table, &s->id, s->seen);
}

static void act_freshen(struct scene *s)
{
    cr_table_freshen(s->segment.f.table, s->fresh_most, s->writer_now);
}

static void act_retire(struct scene *s)
{
    cr_table_retire(s->segment.f.table);
}

static void prepare_insert(struct scene *s)
{
    will_insert(s, 56);
}

static void prepare_insert_large(struct scene *s)
{
    will_insert(s, 1000);
}

/* The act inserts the next one of the crowd, for which there is no place. */
static void will_insert_of_crowd(struct scene *s)
{
    struct watched *w = &s->watched[s->watched_count++];
    uint64_t number = SEGMENT_CROWD + s->segment.crowd_count;
    *w = (struct watched){.number = number, .is = true, .changes = true, .stored = true};
    segment_crowd_entry(&s->segment, s->segment.crowd_count, &w->after);
    s->entry = w->after;
}

static void prepare_insert_over_live(struct scene *s)
{
    CHECK(segment_crowd_until_full(&s->segment, 56) < s->segment.crowd_count);
    will_insert_of_crowd(s);
}

/* Full of payload, before all places are taken. */
static void prepare_insert_over_payload(struct scene *s)
{
    CHECK(segment_crowd_until_full(&s->segment, 1500) < s->segment.crowd_count);
    will_insert_of_crowd(s);
}

static void prepare_insert_over_dead(struct scene *s)
{
    unsigned pushed_out = segment_crowd_until_full(&s->segment, 56);
    segment_crowd_end_user(&s->segment, pushed_out);
    s->stamp = cr_table_clock(s->segment.f.table);
    will_insert_of_crowd(s);
}

static void prepare_replace(struct scene *s)
{
    struct watched *w = watched_of(s, SMALL);
    w->changes = true;
    cast_entry(s, SMALL, USER, 90, &w->after);
    w->after.version = 4711;
    memset(w->after.data, 0xee, w->after.data_bytes);
    s->entry = w->after;
}

static void prepare_refused(struct scene *s)
{
    cast_entry(s, 3, ENDED_USER, 56, &s->entry);
    s->stamp = FIXTURE_CLOCK;
}

static void prepare_end_small(struct scene *s)
{
    will_end(s, SMALL);
}

static void prepare_end_large(struct scene *s)
{
    will_end(s, LARGE);
}

static void prepare_end_absent(struct scene *s)
{
    fixture_id(FRESH, &s->id);
}

static void prepare_end_user(struct scene *s)
{
    will_end(s, SMALL);
    will_end(s, LARGE);
    fixture_user(USER, &s->user);
}

static void everybody_changes(struct scene *s, bool was, bool is, bool stored)
{
    for (unsigned i = 0; i < s->watched_count; i++) {
        struct watched *w = &s->watched[i];
        if (!w->was)
            continue;
        w->changes = true;
        w->was = was;
        w->is = is;
        w->stored = stored;
    }
}

static void prepare_end_all(struct scene *s)
{
    everybody_changes(s, true, false, false);
}

static void prepare_seen(struct scene *s)
{
    struct watched *w = watched_of(s, SMALL);
    const uint64_t later_ms = 1000;
    w->changes = true;
    w->after.seen += later_ms * CR_NS_PER_MS;
    w->after.deadline += later_ms * CR_NS_PER_MS;
    w->after.seen_at += (cr_time_ms)later_ms;
    w->after.expires_at += (cr_time_ms)later_ms;
    s->id = w->before.id;
    s->seen = w->after.seen;
}

static void prepare_freshen(struct scene *s)
{
    s->writer_now += CR_TABLE_FRESH_NS_MAX / 2;
    s->fresh_most = s->writer_now + CR_TABLE_FRESH_NS_MAX;
    s->now = s->writer_now;
}

/* Readers whose clock says that the lease ran out, until it is renewed. */
static void prepare_freshen_late(struct scene *s)
{
    prepare_freshen(s);
    s->now = s->fresh_most - CR_TABLE_FRESH_NS_MAX / 4;
    everybody_changes(s, false, true, true);
}

static void prepare_retire(struct scene *s)
{
    everybody_changes(s, true, false, true);
}

static unsigned killed_in_all;

static bool scene_init(struct scene *s, const struct path *path)
{
    memset(s, 0, sizeof *s);
    s->path = *path;
    s->phase =
        mmap(NULL, sizeof *s->phase, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!CHECK(s->phase != MAP_FAILED) || !segment_init(&s->segment))
        return false;
    s->shadow = segment_bytes(s->segment.bytes);
    s->writer_now = s->segment.f.clock.now_boot;
    s->now = s->writer_now + READERS_LATE_NS;
    s->fresh_most = s->writer_now + CR_TABLE_FRESH_NS_MAX;
    cast_everybody(s);
    s->stamp = cr_table_clock(s->segment.f.table);
    path->prepare(s);
    return CHECK(s->shadow != NULL);
}

static void play(const struct path *path)
{
    static struct scene s;
    const char *refused = stepped_refused();
    if (refused != NULL) {
        tap_skip(refused);
        return;
    }
    tap_row(path->name);
    if (!scene_init(&s, path))
        return;
    if (first_run(&s) && holder_start(&s)) {
        kill_at_every_instruction(&s);
        holder_stop(&s);
    }
    CHECK(s.instructions > 5 && (s.stores > 0 || path->is_unchanged));
    killed_in_all += s.killed;
    tap_note("%s: %u instructions, %u of them changed the segment, %u writers killed; %u so far",
             path->name, s.instructions, s.stores, s.killed, killed_in_all);
    tap_row(NULL);
    segment_restore(&s.segment); /* to what this process's table knows of it */
    munmap(s.shadow, s.segment.bytes);
    munmap(s.phase, sizeof *s.phase);
    segment_fini(&s.segment);
}

static void an_insert_killed_anywhere_leaves_a_miss_or_the_whole_entry(void)
{
    play(&(struct path){.name = "insert", .prepare = prepare_insert, .act = act_insert});
    play(&(struct path){
        .name = "insert a long one", .prepare = prepare_insert_large, .act = act_insert});
}

static void an_insert_over_a_live_one_killed_anywhere_leaves_either_whole(void)
{
    play(&(struct path){.name = "insert over a live one",
                        .prepare = prepare_insert_over_live,
                        .act = act_insert,
                        .pushes_out = true});
    play(&(struct path){.name = "insert a long one over others",
                        .prepare = prepare_insert_over_payload,
                        .act = act_insert,
                        .pushes_out = true});
}

static void an_insert_over_an_ended_one_killed_anywhere_revives_nobody(void)
{
    play(&(struct path){.name = "insert over an ended one",
                        .prepare = prepare_insert_over_dead,
                        .act = act_insert});
}

static void a_replacement_killed_anywhere_leaves_the_old_or_the_new_one(void)
{
    play(&(struct path){.name = "replace", .prepare = prepare_replace, .act = act_insert});
}

static void a_refused_insert_killed_anywhere_has_changed_nothing(void)
{
    play(&(struct path){.name = "refused insert",
                        .prepare = prepare_refused,
                        .act = act_insert,
                        .is_unchanged = true});
}

/* ASVS D9 */
static void an_ending_of_a_session_killed_anywhere_ends_it_or_nothing(void)
{
    play(&(struct path){
        .name = "end a session", .prepare = prepare_end_small, .act = act_end_session});
    play(&(struct path){
        .name = "end a long session", .prepare = prepare_end_large, .act = act_end_session});
    play(&(struct path){.name = "end one that is not there",
                        .prepare = prepare_end_absent,
                        .act = act_end_session});
}

static void an_ending_of_a_user_killed_anywhere_ends_that_user_or_nobody(void)
{
    play(&(struct path){.name = "end a user", .prepare = prepare_end_user, .act = act_end_user});
}

static void an_ending_of_everybody_killed_anywhere_ends_all_or_nobody(void)
{
    play(&(struct path){.name = "end everybody",
                        .prepare = prepare_end_all,
                        .act = act_end_all,
                        .everybody = true});
}

static void a_use_killed_anywhere_leaves_the_session_before_or_after_it(void)
{
    play(&(struct path){.name = "seen", .prepare = prepare_seen, .act = act_seen});
}

static void a_renewal_killed_anywhere_leaves_one_lease_or_the_other(void)
{
    play(&(struct path){.name = "freshen", .prepare = prepare_freshen, .act = act_freshen});
    play(&(struct path){.name = "freshen late",
                        .prepare = prepare_freshen_late,
                        .act = act_freshen,
                        .everybody = true});
}

static void a_retirement_killed_anywhere_brings_nobody_back(void)
{
    play(&(struct path){
        .name = "retire", .prepare = prepare_retire, .act = act_retire, .everybody = true});
}

static const struct tap_test tests[] = {
    TAP_TEST(an_insert_killed_anywhere_leaves_a_miss_or_the_whole_entry),
    TAP_TEST(an_insert_over_a_live_one_killed_anywhere_leaves_either_whole),
    TAP_TEST(an_insert_over_an_ended_one_killed_anywhere_revives_nobody),
    TAP_TEST(a_replacement_killed_anywhere_leaves_the_old_or_the_new_one),
    TAP_TEST(a_refused_insert_killed_anywhere_has_changed_nothing),
    TAP_TEST(an_ending_of_a_session_killed_anywhere_ends_it_or_nothing),
    TAP_TEST(an_ending_of_a_user_killed_anywhere_ends_that_user_or_nobody),
    TAP_TEST(an_ending_of_everybody_killed_anywhere_ends_all_or_nobody),
    TAP_TEST(a_use_killed_anywhere_leaves_the_session_before_or_after_it),
    TAP_TEST(a_renewal_killed_anywhere_leaves_one_lease_or_the_other),
    TAP_TEST(a_retirement_killed_anywhere_brings_nobody_back),
};

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    return TAP_MAIN(tests, argc, argv);
}
