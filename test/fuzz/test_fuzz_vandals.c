/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A segment that changes while it is read. The readers' code makes a call in each of its basic
 * blocks (see meson.build). It counts the steps of a find, so that one without an end is seen
 * without a look at the time; and in the first test it changes the segment right there, which a
 * seed repeats. In the second, a process writes into the segment whatever it likes, as fast as it
 * can, while others validate sessions there: in a map of their own that stands between two pages
 * which nobody may touch, and through a room, as an application does.
 *
 * CR_FUZZ_SECONDS says how long each takes; CR_SEED begins the same way again. For hours:
 *     CR_FUZZ_SECONDS=3600 build/test/test_fuzz_vandals
 */
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>

#include "fuzz/segment.h"
#include "room/internal.h"

#define SECONDS 2
#define READERS 2
#define CHANGES 2000 /* of a round */
/* More than a find can look at: two tries, in each two buckets of at most 64 and a hint. */
#define LOOKS_MAX 260

/* Called by the watched code, by the name that compilers give it. */
static uint64_t steps, steps_max = UINT64_MAX; /* of the find under way; of any */
static bool meddling;
static void meddle(void);
void __sanitizer_cov_trace_pc(void); /* NOLINT(bugprone-reserved-identifier) */
void __sanitizer_cov_trace_pc(void)  /* NOLINT(bugprone-reserved-identifier) */
{
    if (++steps > steps_max)
        abort();
    if (meddling)
        meddle();
}

/* What the processes tell each other. */
struct board {
    _Atomic bool stop;
    struct reader {
        uint64_t looks, found, steps_most, validated, refused;
    } readers[READERS];
    _Atomic uint64_t written;
    _Atomic unsigned session; /* the one that is being hurt */
};

static struct segment genuine;
static struct board *board;

static cr_boot_ns now(void)
{
    return cr_clock_boot(cr_clock_system());
}

static double seconds_since(const struct timespec *first)
{
    struct timespec last;
    (void)clock_gettime(CLOCK_MONOTONIC, &last);
    return (double)(last.tv_sec - first->tv_sec) + (double)(last.tv_nsec - first->tv_nsec) / 1e9;
}

static double seconds(void)
{
    const char *text = getenv("CR_FUZZ_SECONDS");
    return text != NULL ? strtod(text, NULL) : SECONDS;
}

static void reader_look(struct reader *reader, const struct cr_table_view *view,
                        struct cr_clock *clock, unsigned number, struct cr_entry *out)
{
    steps = 0;
    reader->found += segment_look(&genuine, view, clock, number, out);
    reader->looks++;
    if (steps > reader->steps_most)
        reader->steps_most = steps;
}

/* ---- changes */

/* Other values that stand somewhere, those near them, and any. */
static uint64_t value_near(struct cr_random_seeded *random, uint64_t before)
{
    uint64_t choice = cr_random_seeded_next(random);
    uint64_t other = genuine.genuine[genuine.places[(choice >> 8) % genuine.place_count]];
    unsigned shift = (unsigned)(choice >> 40) % 64;
    switch (choice % 8) {
    case 0:
        return cr_random_seeded_next(random) >> shift;
    case 1:
        return before ^ 1ULL << shift;
    case 2:
        return before + (choice >> 46) % 5 - 2;
    case 3:
        return other;
    case 4:
        return (before & ~(0xffffULL << shift)) | (other & 0xffff) << shift;
    case 5:
        return before | 0xffffffffULL << shift;
    case 6:
        return (before >> shift << shift) | (cr_random_seeded_next(random) & ((1ULL << shift) - 1));
    default:
        return 0;
    }
}

/* A place that a find of `session` is likely to load: rather in front of its payload. */
static size_t place_near(struct cr_random_seeded *random, unsigned session)
{
    uint64_t choice = cr_random_seeded_next(random);
    size_t first = genuine.of_session[session], count = genuine.of_session[session + 1] - first;
    return first + (choice >> 8) % (choice % 4 != 0 && count > 64 ? 64 : count);
}

/* ---- between the reader's steps */

static struct {
    struct cr_random_seeded random;
    uint64_t *words; /* a copy of the segment */
    unsigned session;
    size_t changed[4]; /* places; those that are not as they were */
    unsigned count;
} meddler;

static void meddler_restore(unsigned from)
{
    while (meddler.count > from) {
        size_t at = meddler.changed[--meddler.count];
        meddler.words[at] = genuine.genuine[at];
    }
}

/* One more word is wrong, or all are right again. */
static void meddle(void)
{
    uint64_t choice = cr_random_seeded_next(&meddler.random);
    if (choice % 4 != 0)
        return;
    if (meddler.count == sizeof meddler.changed / sizeof meddler.changed[0] || choice % 8 == 0) {
        meddler_restore(0);
        return;
    }
    size_t at = genuine.places[place_near(&meddler.random, meddler.session)];
    meddler.words[at] = value_near(&meddler.random, meddler.words[at]);
    meddler.changed[meddler.count++] = at;
}

static void meddle_run(struct reader *reader, double limit)
{
    struct timespec first;
    struct cr_table_view view;
    struct cr_entry *out = guarded_memory(sizeof *out, -1);
    meddler.words = guarded_memory(genuine.word_count * 8, -1);
    if (out == NULL || meddler.words == NULL)
        _exit(2);
    memcpy(meddler.words, genuine.genuine, genuine.word_count * 8);
    cr_table_own_view(genuine.f.table, &view);
    view.memory = (const unsigned char *)meddler.words;
    cr_random_seeded_init(&meddler.random, tap_random());
    (void)clock_gettime(CLOCK_MONOTONIC, &first);
    while (reader->looks % 256 != 0 || seconds_since(&first) < limit) {
        meddler.session = (unsigned)(cr_random_seeded_next(&meddler.random) % SEGMENT_SESSIONS);
        /* Now and then what is wrong stays so, for as long as the find takes. */
        meddling = cr_random_seeded_next(&meddler.random) % 4 != 0;
        if (!meddling)
            meddle();
        reader_look(reader, &view, &genuine.f.clock.clock, meddler.session, out);
        meddler_restore(0);
    }
    _exit(0);
}

/* ---- the one who writes */

/* As long as a find takes, or less: what is put right at once nobody sees. */
static void vandal_linger(uint64_t rounds)
{
    for (uint64_t i = 0; i < rounds; i++)
        (void)atomic_load_explicit(&board->stop, memory_order_acquire);
}

/* There and back, or there to stay until the next round. Mostly at a few words of one session, for
 * which the others look meanwhile: between two loads of one word there is little time. */
static void vandal_round(struct cr_random_seeded *random)
{
    cr_boot_ns boot = now();
    uint64_t focus = cr_random_seeded_next(random);
    unsigned session = (unsigned)(focus % SEGMENT_SESSIONS);
    size_t first = place_near(random, session), range = 1 + (focus >> 40) % 12;
    if (focus >> 62 == 0) {
        first = 0;
        range = genuine.place_count;
    }
    atomic_store_explicit(&board->session, session, memory_order_relaxed);
    memcpy(genuine.words, genuine.genuine, genuine.word_count * 8);
    cr_table_freshen(genuine.f.table, boot + CR_TABLE_FRESH_NS_MAX, boot);
    for (unsigned i = 0; i < CHANGES; i++) {
        uint64_t choice = cr_random_seeded_next(random);
        size_t at = genuine.places[(first + (choice >> 16) % range) % genuine.place_count];
        _Atomic uint64_t *word = (_Atomic uint64_t *)(genuine.words + at);
        uint64_t before = genuine.genuine[at];
        atomic_store_explicit(word, value_near(random, before), memory_order_relaxed);
        vandal_linger(choice >> 58);
        if (choice % 256 != 0)
            atomic_store_explicit(word, before, memory_order_relaxed);
        vandal_linger(choice >> 52 & 63);
    }
    atomic_fetch_add_explicit(&board->written, CHANGES, memory_order_relaxed);
}

static void vandal_run(uint64_t seed)
{
    struct cr_random_seeded random;
    cr_random_seeded_init(&random, seed);
    while (!atomic_load_explicit(&board->stop, memory_order_relaxed))
        vandal_round(&random);
    _exit(0);
}

/* ---- those who read */

/* As a peer's: the header is what stands there at the moment. */
static void reader_look_around(struct reader *reader, const void *memory,
                               struct cr_table_view *view, struct cr_entry *out)
{
    struct cr_table_view again;
    if (cr_table_view_init(&again, memory, genuine.word_count * 8) == CR_OK)
        *view = again;
    for (unsigned i = 0; i < 8 * SEGMENT_SESSIONS; i++) {
        /* Mostly the one that is being hurt. */
        unsigned number =
            i % 8 == 0 ? i / 8 : atomic_load_explicit(&board->session, memory_order_relaxed);
        reader_look(reader, view, cr_clock_system(), number, out);
    }
}

static void reader_validate(struct reader *reader, struct cr_room *room)
{
    struct cr_session session = {.size = sizeof session};
    for (unsigned i = 0; i < SEGMENT_SESSIONS; i++) {
        enum cr_status st = cr_validate_cached(room, &genuine.tokens[i], &session);
        reader->validated += st == CR_OK;
        reader->refused += st == CR_ASK;
        if (st == CR_OK &&
            (session.user.length > CR_USER_BYTES_MAX || session.rights_bytes > CR_RIGHTS_BYTES_MAX))
            abort();
    }
}

static void reader_run(struct reader *reader)
{
    struct cr_room *room = NULL;
    struct cr_table_view view;
    const void *memory = guarded_memory(genuine.word_count * 8, cr_table_fd(genuine.f.table));
    struct cr_entry *out = guarded_memory(sizeof *out, -1);
    /* What is in the segment at this moment may be no table at all; the first view is a sound one.
     */
    cr_table_own_view(genuine.f.table, &view);
    view.memory = memory;
    if (memory == NULL || out == NULL || cr_room_create(NULL, NULL, &room) != CR_OK)
        _exit(2);
    while (!atomic_load_explicit(&board->stop, memory_order_relaxed)) {
        reader_look_around(reader, memory, &view, out);
        if (!cr_room_has_table(room)) /* refused, as the header was not sound */
            cr_map_take(room, dup(cr_table_fd(genuine.f.table)));
        reader_validate(reader, room);
    }
    cr_close(room);
    _exit(0);
}

/* ---- both */

/* Steps of the longest find there is in a sound table. */
static uint64_t longest_find(void)
{
    struct cr_table_view view;
    struct cr_entry *out = guarded_memory(sizeof *out, -1);
    cr_table_own_view(genuine.f.table, &view);
    steps = 0;
    steps_max = UINT64_MAX;
    CHECK(out != NULL &&
          segment_look(&genuine, &view, &genuine.f.clock.clock, SEGMENT_LARGEST, out) == 1);
    return steps;
}

/* All of them until the time is up, or one has died. */
static void play(uint64_t seed, double limit)
{
    pid_t pids[1 + READERS];
    struct timespec first;
    unsigned left = 1 + READERS;
    (void)fflush(stdout);
    (void)clock_gettime(CLOCK_MONOTONIC, &first);
    for (unsigned i = 0; i < 1 + READERS; i++) {
        pids[i] = fork();
        if (pids[i] == 0 && i == 0)
            vandal_run(seed);
        if (pids[i] == 0)
            reader_run(&board->readers[i - 1]);
        CHECK(pids[i] > 0);
    }
    while (left > 0) {
        int status;
        const struct timespec pause = {.tv_nsec = 50 * CR_NS_PER_MS};
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid > 0) {
            left--;
            CHECK_INT(status, 0);
        }
        if (pid < 0 || (pid > 0 && status != 0) || seconds_since(&first) > limit)
            atomic_store_explicit(&board->stop, true, memory_order_relaxed);
        if (pid < 0)
            break;
        if (pid == 0)
            (void)nanosleep(&pause, NULL);
    }
}

static bool begin(void)
{
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!CHECK(board != MAP_FAILED) || !CHECK(segment_init(&genuine, now())))
        return false;
    steps_max = longest_find() * LOOKS_MAX;
    return true;
}

static void end(void)
{
    munmap(board, sizeof *board);
    memcpy(genuine.words, genuine.genuine, genuine.word_count * 8); /* its owner trusts it */
    segment_fini(&genuine);
}

/* Or it would have seen only one side. */
static void reader_check(const struct reader *reader)
{
    tap_note("%llu looks, %llu found, at most %llu steps (bound: %llu)",
             (unsigned long long)reader->looks, (unsigned long long)reader->found,
             (unsigned long long)reader->steps_most, (unsigned long long)steps_max);
    CHECK(reader->steps_most > 0);
    CHECK(reader->found > 100 && reader->found < reader->looks);
}

/* A word that is loaded twice, once to be checked and once to be used; a bound that comes from the
 * segment; a loop that ends when the segment says so. */
static void a_segment_that_changes_at_any_step_leads_no_reader_astray(void)
{
    int status = -1;
    if (!begin())
        return;
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        meddle_run(&board->readers[0], seconds());
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    CHECK_INT(status, 0);
    reader_check(&board->readers[0]);
    end();
}

static void readers_survive_a_peer_that_writes_what_it_likes(void)
{
    const uint64_t seed = tap_random();
    if (!begin())
        return;
    play(seed, seconds());
    tap_note("%llu words written", (unsigned long long)board->written);
    for (unsigned i = 0; i < READERS; i++) {
        const struct reader *reader = &board->readers[i];
        reader_check(reader);
        tap_note("by room: %llu good, %llu to be asked", (unsigned long long)reader->validated,
                 (unsigned long long)reader->refused);
        CHECK(reader->validated > 100 && reader->refused > 0);
    }
    end();
}

static const struct tap_test tests[] = {
    TAP_TEST(a_segment_that_changes_at_any_step_leads_no_reader_astray),
    TAP_TEST(readers_survive_a_peer_that_writes_what_it_likes),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
