/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table alone, as its writer meets it.
 *
 *     drive_table
 *
 * Questions:
 *
 *     fill      make the sessions of the users that `end` ends; answered with how many there are
 *     end N     nanoseconds that cr_table_end_user takes for a user with N live sessions
 *     bytes     bytes of the segment a session
 *
 * end: N is 1, 1000 or 1000000, and each user is ended for the first time since `fill`: the median
 * over groups of ten users, timed together. One session of each was looked up just before, as by
 * the request that ends them, and other users were ended, again and again for a millisecond, so
 * that every group finds the core alike: of the users with 1000000 there is only one group. The
 * cost of reading the clock is taken off.
 *
 * bytes: when so many sessions are live as can be before one insert in a hundred pushes another
 * out.
 */
#include "entries.h"

#define CLASSES 3
#define USERS_MAX 60
#define FILL 0.7
#define SIZING_SESSIONS 1000000
#define AT_ONCE 10
#define WARM_NS 1000000

struct class {
    size_t users, sessions;
};
static const struct class classes[CLASSES] = {{60, 1}, {60, 1000}, {AT_ONCE, 1000000}};
#define CLASSES_SESSIONS (60 + 60 * 1000 + AT_ONCE * 1000000)

struct bench {
    struct cr_table *table;
    struct cr_table_view view;
    struct cr_clock *clock;
    struct cr_random_seeded random;
};

static const char alphabet[65] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static void id_make(struct cr_random_seeded *random, struct cr_session_id *out)
{
    memcpy(out->text, "crp_", 4);
    for (size_t i = 4; i < CR_SESSION_ID_CHARS; i += 8) {
        uint64_t bits = cr_random_seeded_next(random);
        for (size_t j = 0; j < 8; j++)
            out->text[i + j] = alphabet[bits >> (j * 6) & 63];
    }
    out->text[CR_SESSION_ID_CHARS] = '\0';
}

/* The hash is the id's first bytes: nobody guesses here. */
static void hash_make(const struct cr_session_id *id, struct cr_token_hash *out)
{
    memset(out, 0, sizeof *out);
    memcpy(out->bytes, id->text + 4, 16);
}

/* Up to GROUP sessions of users `user` and, with `step` 1, those after it. */
static void group_insert(struct bench *bench, size_t user, size_t step, size_t count,
                         struct cr_session_id *out_last)
{
    static struct cr_entry entries[GROUP];
    struct cr_table_probe ahead;
    struct cr_token_hash hash;
    for (size_t i = 0; i < count; i++) {
        id_make(&bench->random, out_last);
        hash_make(out_last, &hash);
        entry_make(bench->clock, out_last, &hash, user + i * step, &entries[i]);
        cr_table_probe(&bench->view, out_last, &ahead);
    }
    entries_insert(bench->table, entries, count);
}

static void table_take(struct bench *bench, size_t sessions, double fill)
{
    bench->table = table_make(&bench->random.random, sessions, fill);
    cr_table_own_view(bench->table, &bench->view);
}

/* The last session of each user, to be looked up. */
static struct cr_session_id last_of[CLASSES][USERS_MAX];
static bool is_live[CLASSES];

static size_t user_number(size_t class, size_t user)
{
    return class * 1000 + user;
}

static void fill(struct bench *bench)
{
    if (bench->table == NULL)
        table_take(bench, CLASSES_SESSIONS, FILL);
    cr_table_end_all(bench->table);
    for (size_t c = CLASSES; c-- > 0;) { /* who came first goes first, if any */
        for (size_t u = 0; u < classes[c].users; u++)
            for (size_t left = classes[c].sessions; left > 0;) {
                size_t now = left < GROUP ? left : GROUP;
                group_insert(bench, user_number(c, u), 0, now, &last_of[c][u]);
                left -= now;
            }
        is_live[c] = true;
    }
    printf("%llu\n", (unsigned long long)CLASSES_SESSIONS);
}

static int smaller(const void *a, const void *b)
{
    double first = *(const double *)a, second = *(const double *)b;
    return (first > second) - (first < second);
}

static double median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, smaller);
    return (values[count / 2] + values[(count - 1) / 2]) / 2;
}

/* True while the user's sessions are believed. */
static bool session_is_there(struct bench *bench, const struct cr_session_id *id)
{
    static struct cr_entry found;
    struct cr_token_hash hash;
    bool used_old;
    cr_boot_ns now = cr_clock_boot(bench->clock);
    cr_table_freshen(bench->table, cr_boot_add(now, 1000), now);
    hash_make(id, &hash);
    return cr_table_find(&bench->view, bench->clock, id, &hash, &found, &used_old);
}

/* AT_ONCE users one after the other: the clock's own steps are as long as one ending. */
static double users_time(struct bench *bench, const struct cr_user *users)
{
    uint64_t start = clock_ns();
    for (size_t u = 0; u < AT_ONCE; u++)
        cr_table_end_user(bench->table, &users[u]);
    return (double)(clock_ns() - start);
}

/* How many of the users' sessions are believed. */
static size_t sessions_there(struct bench *bench, size_t class, size_t first)
{
    size_t there = 0;
    for (size_t u = 0; u < AT_ONCE; u++)
        there += session_is_there(bench, &last_of[class][first + u]);
    return there;
}

static double group_end(struct bench *bench, size_t class, size_t first)
{
    struct cr_user users[AT_ONCE], others[AT_ONCE];
    for (size_t u = 0; u < AT_ONCE; u++) {
        user_make(user_number(class, first + u), &users[u]);
        user_make(user_number(CLASSES, u), &others[u]); /* without a session */
    }
    /* We have slept until we were asked: the core and its caches are others' for whoever is first,
     * and that is nobody who counts. */
    for (uint64_t until = clock_ns() + WARM_NS; clock_ns() < until;) {
        /* One may be pushed out. */
        must(sessions_there(bench, class, first) >= AT_ONCE - 1, "the sessions are not there");
        (void)users_time(bench, others);
    }
    double took = users_time(bench, users);
    must(sessions_there(bench, class, first) == 0, "a session outlived its end");
    return took;
}

static size_t class_of(size_t sessions)
{
    for (size_t c = 0; c < CLASSES; c++)
        if (classes[c].sessions == sessions && is_live[c])
            return c;
    fprintf(stderr, "no users with so many live sessions\n");
    exit(EXIT_FAILURE);
}

static void end(struct bench *bench, size_t sessions)
{
    double took[USERS_MAX / AT_ONCE];
    size_t c = class_of(sessions), groups = 0;
    do {
        took[groups] = group_end(bench, c, groups * AT_ONCE);
        groups++;
    } while (groups * AT_ONCE < classes[c].users);
    is_live[c] = false;
    printf("%.2f\n", (median(took, groups) - (double)clock_cost()) / AT_ONCE);
}

/* Windows of a hundredth of what there is room for, until one loses a hundredth of itself. */
static void bytes(struct bench *bench)
{
    struct bench own = *bench;
    struct cr_table_count count, before;
    struct cr_session_id last;
    size_t user = 0;
    double least = 0;
    table_take(&own, SIZING_SESSIONS, 1);
    cr_table_count(own.table, &before);
    for (;;) {
        size_t window = before.capacity / 100 / GROUP * GROUP;
        for (size_t i = 0; i < window; i += GROUP, user += GROUP)
            group_insert(&own, user, 1, GROUP, &last);
        cr_table_count(own.table, &count);
        if ((count.evicted_live - before.evicted_live) * 100 >= window)
            break;
        least = (double)count.bytes / (double)(user - count.evicted_live);
        before = count;
    }
    cr_table_destroy(own.table);
    bench->random = own.random;
    printf("%.2f\n", least);
}

int main(void)
{
    static struct bench bench;
    char line[32];
    bench.clock = cr_clock_system();
    cr_random_seeded_init(&bench.random, 1);
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("0\n"); /* ready */
    while (fgets(line, sizeof line, stdin) != NULL) {
        if (strcmp(line, "fill\n") == 0)
            fill(&bench);
        else if (strcmp(line, "bytes\n") == 0)
            bytes(&bench);
        else if (strncmp(line, "end ", 4) == 0)
            end(&bench, strtoul(line + 4, NULL, 10));
        else
            must(false, "a question that is not known");
    }
    cr_table_destroy(bench.table);
    return EXIT_SUCCESS;
}
