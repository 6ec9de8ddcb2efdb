/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program as an application's worker is one: attached to the host's agent, doing what it is told,
 * a line at a time, and answering each with one line. Links only the shared library. Tests in
 * Python drive it (attached.py).
 *
 *     attached URL
 *
 * Answers begin with a status ("CR_OK"). Besides it keeps THREADS threads that validate all the
 * time, once `fill` gave them tokens: so the table is being filled while sessions end.
 */
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cloakroom/cloakroom.h>

#define THREADS 3
#define TOKENS_MAX 4096
#define LINE_MAX 1024
#define WORDS_MAX 6
#define UNDER_WAY 128

enum token_state { TOKEN_NONE, TOKEN_LIVE, TOKEN_ENDING, TOKEN_ENDED };

/* Slot 0 is the session that the test is about; the rest are others, to keep the table busy. A slot
 * is written by the main thread while its state is TOKEN_NONE. */
struct watched {
    atomic_int state;
    atomic_uint readers;
    struct cr_token token;
};

static struct cr_room *room;
static struct watched watched[TOKENS_MAX];
static atomic_size_t watched_count;
static atomic_ullong validated, wrongly_accepted, wrongly_refused;
static atomic_bool stop;

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    fflush(stdout);
}

static void say_status(enum cr_status st)
{
    say("%s", cr_status_name(st));
}

static double milliseconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static struct cr_user user_of(const char *text)
{
    struct cr_user user;
    if (cr_user_parse(text, strlen(text), &user) != CR_OK)
        exit(EXIT_FAILURE);
    return user;
}

static struct cr_token token_of(const char *text)
{
    struct cr_token token;
    if (cr_token_parse(text, strlen(text), &token) != CR_OK)
        exit(EXIT_FAILURE);
    return token;
}

static struct cr_session_id id_of(const char *text)
{
    struct cr_session_id id;
    if (cr_session_id_parse(text, strlen(text), &id) != CR_OK)
        exit(EXIT_FAILURE);
    return id;
}

/* --- The threads --- */

static void watched_set(size_t slot, enum token_state state, const char *token)
{
    struct watched *w = &watched[slot];
    if (token != NULL) {
        atomic_store(&w->state, TOKEN_NONE);
        while (atomic_load(&w->readers) != 0)
            ;
        w->token = token_of(token);
    }
    atomic_store(&w->state, state);
}

/* One validation of a slot. What its state was before it began and is after it ended decides which
 * answers are right. */
static void watched_validate(struct watched *w, unsigned how)
{
    struct cr_session session = CR_SESSION_INIT;
    atomic_fetch_add(&w->readers, 1);
    int before = atomic_load(&w->state);
    if (before != TOKEN_NONE) {
        enum cr_status st = how % 8 == 0 ? cr_validate_strict(room, &w->token, &session)
                                         : cr_validate(room, &w->token, &session);
        int after = atomic_load(&w->state);
        atomic_fetch_add(&validated, 1);
        if (before == TOKEN_ENDED && st == CR_OK)
            atomic_fetch_add(&wrongly_accepted, 1);
        if (after == TOKEN_LIVE && (st == CR_ENDED || st == CR_NOT_FOUND))
            atomic_fetch_add(&wrongly_refused, 1);
    }
    atomic_fetch_sub(&w->readers, 1);
}

static void *thread_run(void *context)
{
    unsigned random = *(const unsigned *)context;
    for (unsigned i = 0; !atomic_load(&stop); i++) {
        size_t count = atomic_load(&watched_count);
        if (count == 0) {
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
            continue;
        }
        watched_validate(&watched[0], i);
        random = random * 1664525u + 1013904223u;
        watched_validate(&watched[(random >> 8) % count], i + 1);
    }
    return NULL;
}

/* --- What it can be told --- */

static void login_say(enum cr_status st, const struct cr_login *login)
{
    if (st == CR_OK)
        say("CR_OK %s %s", login->session.id.text, login->signed_token.text);
    else
        say_status(st);
}

static void login_do(char **words)
{
    struct cr_user user = user_of(words[1]);
    struct cr_login_options options = {.size = sizeof(options), .policy = CR_POLICY_REPLACE};
    struct cr_login login;
    login_say(cr_login(room, &user, &options, &login), &login);
}

/* "-": of nobody. */
static void create_do(char **words)
{
    bool anonymous = strcmp(words[1], "-") == 0;
    struct cr_user user = user_of(words[1]);
    struct cr_login_options options = {.size = sizeof(options)};
    struct cr_login login;
    login_say(cr_create(room, anonymous ? NULL : &user, &options, &login), &login);
}

/* create-many USER COUNT: COUNT sessions, whose tokens nobody gets. */
static void create_many_do(char **words)
{
    static struct cr_call *calls[UNDER_WAY];
    struct cr_user user = user_of(words[1]);
    struct cr_login_options options = {.size = sizeof(options)};
    unsigned long count = strtoul(words[2], NULL, 10);
    enum cr_status st = CR_OK;
    for (unsigned long i = 0; i < count + UNDER_WAY && st == CR_OK; i++) {
        struct cr_login login;
        if (i >= UNDER_WAY && i - UNDER_WAY < count)
            st = cr_create_finish(calls[i % UNDER_WAY], &login);
        if (i < count && st == CR_OK)
            st = cr_create_begin(room, &user, &options, &calls[i % UNDER_WAY]);
    }
    say_status(st);
}

static void validate_do(char **words)
{
    struct cr_token token = token_of(words[1]);
    struct cr_session session = CR_SESSION_INIT;
    enum cr_status st = cr_validate(room, &token, &session);
    say("%s %.*s", cr_status_name(st), st == CR_OK ? (int)session.user.length : 0,
        (const char *)session.user.bytes);
}

static void cached_do(char **words)
{
    struct cr_token token = token_of(words[1]);
    struct cr_session session = CR_SESSION_INIT;
    say_status(cr_validate_cached(room, &token, &session));
}

static void end_do(char **words)
{
    struct cr_session_id id = id_of(words[1]);
    say_status(cr_end(room, &id, NULL, NULL));
}

/* end-user USER: the status, and how long it took in milliseconds. */
static void end_user_do(char **words)
{
    struct cr_user user = user_of(words[1]);
    double start = milliseconds_now();
    enum cr_status st = cr_invalidate_by_user(room, &user, NULL, NULL);
    say("%s %.3f", cr_status_name(st), milliseconds_now() - start);
}

/* version TOKEN: the session as a slow request reads it at its beginning. */
static void version_do(char **words)
{
    struct cr_token token = token_of(words[1]);
    struct cr_session session = CR_SESSION_INIT;
    enum cr_status st = cr_validate(room, &token, &session);
    say("%s %llu", cr_status_name(st), (unsigned long long)session.version);
}

/* write ID VERSION|any TEXT */
static void write_do(char **words)
{
    struct cr_session_id id = id_of(words[1]);
    bool any = strcmp(words[2], "any") == 0;
    uint64_t version = any ? CR_VERSION_ANY : strtoull(words[2], NULL, 10);
    say_status(cr_data_write(room, &id, version, words[3], strlen(words[3]), &version));
}

static struct cr_call *write_under_way;

/* write-begin ID TEXT: sent, not waited for. */
static void write_begin_do(char **words)
{
    struct cr_session_id id = id_of(words[1]);
    say_status(cr_data_write_begin(room, &id, CR_VERSION_ANY, words[2], strlen(words[2]),
                                   &write_under_way));
}

static void write_finish_do(char **words)
{
    uint64_t version;
    enum cr_status st = cr_data_write_finish(write_under_way, &version);
    write_under_way = NULL;
    say_status(st);
}

static void rights_do(char **words)
{
    struct cr_session_id id = id_of(words[1]);
    say_status(cr_rights_write(room, &id, words[2], strlen(words[2])));
}

static void touch_do(char **words)
{
    struct cr_token token = token_of(words[1]);
    say_status(cr_touch(room, &token));
}

/* watch TOKEN: what slot 0 is from now on. ending, ended: what is about to, and what did happen. */
static void watch_do(char **words)
{
    watched_set(0, TOKEN_LIVE, words[1]);
    if (atomic_load(&watched_count) == 0)
        atomic_store(&watched_count, 1);
    say_status(CR_OK);
}

static void ending_do(char **words)
{
    watched_set(0, TOKEN_ENDING, NULL);
    say_status(CR_OK);
}

static void ended_do(char **words)
{
    watched_set(0, TOKEN_ENDED, NULL);
    say_status(CR_OK);
}

/* fill COUNT: other sessions for the threads to validate, more than fit into a small table. */
static void fill_do(char **words)
{
    size_t count = strtoul(words[1], NULL, 10);
    struct cr_login_options options = {.size = sizeof(options)};
    enum cr_status st = count < TOKENS_MAX ? CR_OK : CR_E_LIMIT;
    for (size_t i = 1; i <= count && st == CR_OK; i++) {
        char name[32];
        snprintf(name, sizeof(name), "filler-%zu", i % 50);
        struct cr_user user = user_of(name);
        struct cr_login login;
        st = cr_create(room, &user, &options, &login);
        if (st == CR_OK)
            watched_set(i, TOKEN_LIVE, login.signed_token.text);
    }
    if (st == CR_OK)
        atomic_store(&watched_count, count + 1);
    say_status(st);
}

/* seen: what the threads saw: validations, wrong acceptances, wrong refusals. */
static void seen_do(char **words)
{
    say("CR_OK %llu %llu %llu", (unsigned long long)atomic_load(&validated),
        (unsigned long long)atomic_load(&wrongly_accepted),
        (unsigned long long)atomic_load(&wrongly_refused));
}

static void stats_do(char **words)
{
    struct cr_stats stats = {.size = sizeof(stats)};
    enum cr_status st = cr_stats(room, &stats);
    say("%s hits=%llu misses=%llu fills=%llu reads=%llu writes=%llu commits=%llu endings=%llu "
        "table=%llu mapped=%d agent=%llu",
        cr_status_name(st), (unsigned long long)stats.hits, (unsigned long long)stats.misses,
        (unsigned long long)stats.fills, (unsigned long long)stats.store_reads,
        (unsigned long long)stats.store_writes, (unsigned long long)stats.store_commits,
        (unsigned long long)stats.endings, (unsigned long long)stats.table_sessions, stats.mapped,
        (unsigned long long)stats.agent_pid);
}

static const struct {
    const char *name;
    int words;
    void (*run)(char **words);
} commands[] = {
    {"login", 2, login_do},
    {"create", 2, create_do},
    {"create-many", 3, create_many_do},
    {"validate", 2, validate_do},
    {"cached", 2, cached_do},
    {"end", 2, end_do},
    {"end-user", 2, end_user_do},
    {"version", 2, version_do},
    {"write", 4, write_do},
    {"write-begin", 3, write_begin_do},
    {"write-finish", 1, write_finish_do},
    {"rights", 3, rights_do},
    {"touch", 2, touch_do},
    {"watch", 2, watch_do},
    {"ending", 1, ending_do},
    {"ended", 1, ended_do},
    {"fill", 2, fill_do},
    {"seen", 1, seen_do},
    {"stats", 1, stats_do},
};

static void line_run(char *line)
{
    char *words[WORDS_MAX] = {NULL};
    int count = 0;
    for (char *word = strtok(line, " \n"); word != NULL && count < WORDS_MAX;
         word = strtok(NULL, " \n"))
        words[count++] = word;
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (count == commands[i].words && strcmp(words[0], commands[i].name) == 0) {
            commands[i].run(words);
            return;
        }
    }
    say("not a command");
}

int main(int argc, char **argv)
{
    struct cr_error error = {.size = sizeof(error)};
    if (argc != 2 || cr_open(argv[1], NULL, &room, &error) != CR_OK) {
        fprintf(stderr, "%s\n", argc == 2 ? error.text : "usage: attached URL");
        return EXIT_FAILURE;
    }
    pthread_t threads[THREADS];
    static unsigned seeds[THREADS] = {12345, 23456, 34567};
    for (size_t i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, thread_run, &seeds[i]) != 0)
            return EXIT_FAILURE;
    say("CR_OK attached");
    char line[LINE_MAX];
    while (fgets(line, sizeof(line), stdin) != NULL)
        line_run(line);
    atomic_store(&stop, true);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    cr_close(room);
    return EXIT_SUCCESS;
}
