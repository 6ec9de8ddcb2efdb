/* SPDX-License-Identifier: Apache-2.0 */
#include "segment.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/shm.h"

#define STUCK_SECONDS 20 /* a writer that needs as long has been blocked */

unsigned char *segment_bytes(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return memory != MAP_FAILED ? memory : NULL;
}

#define KEY_SEED 1 /* one with which no two users of these tests share a stamp */

bool segment_init(struct segment *s)
{
    const struct cr_table_options options = {
        .bytes = CR_TABLE_BYTES_MIN, .shared = true, .clock_start = FIXTURE_CLOCK};
    memset(s, 0, sizeof *s);
    cr_clock_fake_init(&s->f.clock, 0);
    cr_random_seeded_init(&s->f.random, KEY_SEED);
    if (!CHECK(cr_table_create(&options, &s->f.random.random, &s->f.table) == CR_OK))
        return false;
    cr_table_own_view(s->f.table, &s->f.view);
    fixture_wait(&s->f, 0);
    s->kept = segment_bytes(s->f.view.bytes);
    return CHECK(s->kept != NULL) &&
           CHECK(cr_shm_map(cr_table_fd(s->f.table), &s->map, &s->bytes) == CR_OK) &&
           CHECK(cr_table_view_init(&s->reader, s->map, s->bytes) == CR_OK);
}

void segment_fini(struct segment *s)
{
    cr_memory_unmap(s->map, s->bytes);
    if (s->kept != NULL)
        munmap(s->kept, s->f.view.bytes);
    fixture_fini(&s->f);
    s->kept = NULL;
    s->map = NULL;
}

void segment_keep(struct segment *s)
{
    memcpy(s->kept, s->map, s->bytes);
    s->page_count = 0;
}

static bool page_is_known(const struct segment *s, unsigned page)
{
    unsigned i = 0;
    while (i < s->page_count && s->pages[i] != page)
        i++;
    return i < s->page_count;
}

void segment_learn(struct segment *s)
{
    const unsigned char *now = s->map;
    for (unsigned page = 0; page < s->bytes / SEGMENT_PAGE_BYTES; page++) {
        size_t at = (size_t)page * SEGMENT_PAGE_BYTES;
        if (memcmp(now + at, s->kept + at, SEGMENT_PAGE_BYTES) != 0 && !page_is_known(s, page))
            s->pages[s->page_count++] = page;
    }
}

void segment_restore(struct segment *s)
{
    unsigned char *memory; /* the writer's map, which is its view without the const */
    memcpy(&memory, &s->f.view.memory, sizeof memory);
    for (unsigned i = 0; i < s->page_count; i++) {
        size_t at = (size_t)s->pages[i] * SEGMENT_PAGE_BYTES;
        memcpy(memory + at, s->kept + at, SEGMENT_PAGE_BYTES);
    }
}

bool segment_elsewhere(void (*act)(void *), void *context)
{
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        (void)alarm(STUCK_SECONDS);
        act(context);
        _exit(0);
    }
    return CHECK(pid > 0 && waitpid(pid, &status, 0) == pid) && CHECK_INT(status, 0);
}

void segment_crowd_entry(const struct segment *s, unsigned place, struct cr_entry *out)
{
    fixture_entry(SEGMENT_CROWD + place, 100 + place % SEGMENT_CROWD_USERS, s->f.clock.now_boot,
                  s->crowd_bytes[place], out);
}

/* The size of the next one, too, who may be asked for before it is inserted. */
static void crowd_size(struct segment *s, unsigned end, size_t bytes)
{
    for (unsigned place = s->crowd_count; place <= end && place < SEGMENT_CROWD_MAX; place++)
        s->crowd_bytes[place] = (uint16_t)(place % 8 == 0 ? 700 : bytes);
}

static bool crowd_insert(struct segment *s)
{
    struct cr_entry entry;
    segment_crowd_entry(s, s->crowd_count, &entry);
    bool done =
        cr_table_insert(s->f.table, &entry, cr_table_clock(s->f.table), s->f.clock.now_boot);
    s->crowd_live[s->crowd_count++] = done;
    return done;
}

void segment_crowd(struct segment *s, unsigned count, size_t bytes)
{
    crowd_size(s, s->crowd_count + count, bytes);
    for (unsigned i = 0; i < count && CHECK(s->crowd_count < SEGMENT_CROWD_MAX); i++)
        CHECK(crowd_insert(s));
}

/* In a child: inserts on until one that lives is pushed out, and says so by how many it were. */
struct fill {
    struct segment *segment;
    unsigned *out_count;
};

static void fill_try(void *context)
{
    const struct fill *fill = context;
    struct segment *s = fill->segment;
    unsigned before = s->crowd_count;
    while (s->crowd_count < SEGMENT_CROWD_MAX && crowd_insert(s) &&
           fixture_count(&s->f).evicted_live == 0)
        ;
    *fill->out_count = s->crowd_count - 1 - before;
}

static void fill_next(void *context)
{
    (void)crowd_insert(context);
}

unsigned segment_crowd_until_full(struct segment *s, size_t bytes)
{
    unsigned *count =
        mmap(NULL, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    unsigned pushed_out = 0;
    crowd_size(s, SEGMENT_CROWD_MAX, bytes);
    segment_keep(s);
    if (!CHECK(count != MAP_FAILED) ||
        !segment_elsewhere(fill_try, &(struct fill){.segment = s, .out_count = count}))
        return s->crowd_count;
    segment_learn(s);
    segment_restore(s);
    segment_crowd(s, *count, bytes);
    munmap(count, sizeof *count);
    segment_keep(s);
    if (!segment_elsewhere(fill_next, s))
        return s->crowd_count;
    struct cr_entry out;
    while (pushed_out < s->crowd_count &&
           segment_find(s, s->f.clock.now_boot, SEGMENT_CROWD + pushed_out, &out))
        pushed_out++;
    segment_learn(s);
    segment_restore(s);
    return pushed_out;
}

void segment_crowd_end_user(struct segment *s, unsigned place)
{
    fixture_end_user(&s->f, 100 + place % SEGMENT_CROWD_USERS);
    for (unsigned i = place % SEGMENT_CROWD_USERS; i < s->crowd_count; i += SEGMENT_CROWD_USERS)
        s->crowd_live[i] = false;
}

bool segment_find(const struct segment *s, cr_boot_ns now, uint64_t number, struct cr_entry *out)
{
    struct cr_clock_fake clock;
    struct cr_session_id id;
    struct cr_token_hash hash;
    bool used_old;
    cr_clock_fake_init(&clock, 0);
    clock.now_boot = now;
    fixture_id(number, &id);
    fixture_hash(number, &hash);
    return cr_table_find(&s->reader, &clock.clock, &id, &hash, out, &used_old);
}

unsigned segment_crowd_wrong(const struct segment *s, cr_boot_ns now, const bool *skip)
{
    static struct cr_entry entry, out;
    unsigned wrong = 0;
    for (unsigned place = 0; place < s->crowd_count; place++) {
        if (skip != NULL && skip[place])
            continue;
        segment_crowd_entry(s, place, &entry);
        bool found = segment_find(s, now, SEGMENT_CROWD + place, &out);
        wrong += found != s->crowd_live[place] || (found && !fixture_same(&entry, &out));
    }
    return wrong;
}
