/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An application's worker, for histories:
 *
 *     history worker DIRECTORY NAME HOST APP_URL OPERATOR_URL|- FIRST_SLOT|- SEED
 *
 * Attached to the host's agent. One thread makes, changes and ends sessions, one ends those of
 * others, which takes its time when a host is lost, and two validate whatever the board says. What
 * each did goes to DIRECTORY/NAME.THREAD.history.
 *
 * Without slots it only looks, and for seconds only into the table: it asks nobody anything, so it
 * does not hear that its agent has died.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cloakroom/cloakroom.h>

#include "base/random.h"
#include "board.h"
#include "record.h"
#include "roles.h"

#define THREADS 4
#define OWN_SLOTS 2  /* and one for what was in them before: others go on looking at it */
#define CALL_MS 1500 /* shorter than an agent is away, now and then */
#define ASK_AGAIN_MAX 20
#define BURST_MAX 40
/* Who only looks: asks the agent in the first of so many parts of a second. */
#define LOOK_PART_NS 250000000u
#define LOOK_PARTS 16

struct worker {
    struct board *board;
    const char *directory, *name, *host;
    struct cr_room *room, *operator_room;
    bool only_looks;
    size_t first_slot;
};

struct thread {
    const struct worker *worker;
    struct record record;
    struct cr_random_seeded random;
    unsigned index;
};

static uint64_t below(struct thread *t, uint64_t bound)
{
    return cr_random_seeded_next(&t->random) % bound;
}

static bool stopped(const struct thread *t)
{
    return atomic_load(&t->worker->board->stop) != 0;
}

/* A value that nobody else writes. */
static void value_make(const struct thread *t, char kind, char out[32])
{
    (void)snprintf(out, 32, "%c%u", kind, atomic_fetch_add(&t->worker->board->values, 1));
}

/* Its end, which is no secret's: enough to tell tokens of one session apart. */
static const char *token_name(const struct cr_token *token)
{
    return token->text + CR_TOKEN_CHARS - 12;
}

/* --- Looking --- */

static void saw(struct thread *t, uint64_t start, uint64_t end, const char *how,
                const struct board_session *asked, enum cr_status st, const struct cr_session *got)
{
    char rights[64], data[64], user[CR_USER_BYTES_MAX + 1];
    if (st == CR_OK)
        record_saw(
            &t->record, start, end, "%s %s %s CR_OK %s %s %s %s %llu %lld %lld", how,
            asked->id.text, token_name(&asked->token), got->id.text, record_user(&got->user, user),
            record_bytes_value(got->rights, got->rights_bytes, rights),
            record_bytes_value(got->data, got->data_bytes, data), (unsigned long long)got->version,
            (long long)got->created_at, (long long)got->ends_at);
    else if (st != CR_ASK)
        record_saw(&t->record, start, end, "%s %s %s %s", how, asked->id.text,
                   token_name(&asked->token), cr_status_name(st));
}

static enum cr_status validate(struct thread *t, const struct board_session *asked, uint64_t how)
{
    static const char *const names[] = {"cached", "strict", "plain"};
    struct cr_room *room = t->worker->room;
    struct cr_session got = CR_SESSION_INIT;
    enum cr_status st;
    bool asks = !t->worker->only_looks || record_now() / LOOK_PART_NS % LOOK_PARTS == 0;
    size_t name = !asks || how % 16 < 4 ? 0 : how % 16 == 4 ? 1 : 2;
    uint64_t start = record_now();
    if (name == 0)
        st = cr_validate_cached(room, &asked->token, &got);
    else if (name == 1)
        st = cr_validate_strict(room, &asked->token, &got);
    else
        st = cr_validate(room, &asked->token, &got);
    uint64_t end = record_now();
    saw(t, start, end, names[name], asked, st, &got);
    return st;
}

/* One session, several times: the run ends where the answer changes. */
static enum cr_status burst(struct thread *t, struct board_slot *slot, uint64_t most)
{
    struct board_session asked;
    enum cr_status st = CR_OK;
    if (!board_get(slot, &asked))
        return CR_NOT_FOUND;
    uint64_t count = 1 + below(t, most), how = cr_random_seeded_next(&t->random);
    for (uint64_t i = 0; i < count && !stopped(t); i++)
        st = validate(t, &asked, how);
    record_run_over(&t->record);
    return st;
}

static void *validator_run(void *context)
{
    struct thread *t = context;
    struct board *board = t->worker->board;
    while (!stopped(t)) {
        for (unsigned i = 0; i < 4; i++)
            (void)burst(t, &board->slots[below(t, BOARD_SLOTS)], BURST_MAX);
        board_rest(below(t, t->worker->only_looks ? 6000 : 3000));
    }
    record_close(&t->record);
    return NULL;
}

/* --- Making --- */

static void made(struct thread *t, unsigned long number, enum cr_status st,
                 const struct cr_login *login)
{
    if (st == CR_OK)
        record_ended(&t->record, number, st, "session=%s token=%s created=%lld ends=%lld",
                     login->session.id.text, token_name(&login->signed_token),
                     (long long)login->session.created_at, (long long)login->session.ends_at);
    else
        record_ended(&t->record, number, st, "%s", "");
}

static void make(struct thread *t, struct board_slot *slot, bool is_login)
{
    char rights_name[32], data_name[32], rights[256], data[3000];
    struct board_session session = {.user = (unsigned)below(t, BOARD_USERS)};
    struct cr_user user = board_user(session.user);
    struct cr_login login = {.session = CR_SESSION_INIT};
    struct cr_login_options options = {.size = sizeof options, .policy = CR_POLICY_REPLACE};
    value_make(t, 'r', rights_name);
    value_make(t, 'd', data_name);
    options.rights = rights;
    options.rights_bytes =
        record_bytes_make(rights_name, 1 + (unsigned)below(t, 20), rights, sizeof rights);
    options.data = data;
    options.data_bytes =
        record_bytes_make(data_name, 1 + (unsigned)below(t, 300), data, sizeof data);
    if (below(t, 6) == 0)
        options.absolute = 300 + (cr_span_ms)below(t, 1500);
    unsigned long number =
        record_began(&t->record, "%s user-%u %s %s %lld", is_login ? "login" : "create",
                     session.user, rights_name, data_name, (long long)options.absolute);
    enum cr_status st = is_login ? cr_login(t->worker->room, &user, &options, &login)
                                 : cr_create(t->worker->room, &user, &options, &login);
    made(t, number, st, &login);
    if (st != CR_OK)
        return;
    session.token = login.signed_token;
    session.id = login.session.id;
    board_put(slot, &session);
}

/* --- Changing --- */

static void data_write(struct thread *t, const struct board_session *session)
{
    char name[32], data[3000];
    struct cr_session now = CR_SESSION_INIT;
    uint64_t version = CR_VERSION_ANY, written = 0;
    if (below(t, 4) != 0) {
        if (cr_validate(t->worker->room, &session->token, &now) != CR_OK)
            return;
        version = now.version;
    }
    value_make(t, 'd', name);
    size_t bytes = record_bytes_make(name, 1 + (unsigned)below(t, 300), data, sizeof data);
    unsigned long number = record_began(&t->record, "data %s %s %lld", session->id.text, name,
                                        version == CR_VERSION_ANY ? 0LL : (long long)version);
    enum cr_status st =
        cr_data_write(t->worker->room, &session->id, version, data, bytes, &written);
    if (st == CR_OK)
        record_ended(&t->record, number, st, "version=%llu", (unsigned long long)written);
    else
        record_ended(&t->record, number, st, "%s", "");
}

static void rights_write(struct thread *t, const struct board_session *session)
{
    char name[32], rights[256];
    value_make(t, 'r', name);
    size_t bytes = record_bytes_make(name, 1 + (unsigned)below(t, 20), rights, sizeof rights);
    unsigned long number = record_began(&t->record, "rights %s %s", session->id.text, name);
    record_ended(&t->record, number, cr_rights_write(t->worker->room, &session->id, rights, bytes),
                 "%s", "");
}

/* Only who owns the slot: the successor goes where the token was. */
static void rotate(struct thread *t, struct board_slot *slot, struct board_session *session)
{
    struct cr_login login = {.session = CR_SESSION_INIT};
    bool renews = below(t, 2) == 0;
    struct board_session before = *session;
    unsigned long number = record_began(&t->record, "%s %s %s", renews ? "renew" : "privilege",
                                        session->id.text, token_name(&session->token));
    enum cr_status st = cr_rotate(t->worker->room, &session->token,
                                  renews ? CR_ROTATE_RENEW : CR_ROTATE_PRIVILEGE, &login);
    made(t, number, st, &login);
    if (st != CR_OK)
        return;
    (void)validate(t, &before, 15);
    session->token = login.signed_token;
    board_put(slot, session);
}

/* --- Ending --- */

enum ending { END_ONE, END_USER, END_OTHERS, END_ALL };

static enum cr_status end_ask(const struct worker *worker, enum ending ending,
                              const struct board_session *session,
                              const struct cr_end_options *options, struct cr_ended *out_ended)
{
    struct cr_user user = board_user(session->user);
    switch (ending) {
    case END_ONE:
        return cr_end(worker->room, &session->id, options, out_ended);
    case END_USER:
        return cr_invalidate_by_user(worker->room, &user, options, out_ended);
    case END_OTHERS:
        return cr_end_others(worker->room, &session->id, options, out_ended);
    case END_ALL:
        return cr_end_all(worker->operator_room, options, out_ended);
    }
    return CR_E_INVALID;
}

/* Asked for again by its own id until it is known: one operation, however long it takes. */
static void end(struct thread *t, enum ending ending, const struct board_session *session)
{
    struct cr_end_options options = {.size = sizeof options, .by = "history"};
    struct cr_ended ended = {.size = sizeof ended};
    unsigned long number = 0;
    switch (ending) {
    case END_ONE:
        number = record_began(&t->record, "end %s", session->id.text);
        break;
    case END_USER:
        number = record_began(&t->record, "end-user user-%u", session->user);
        break;
    case END_OTHERS:
        number = record_began(&t->record, "end-others %s user-%u", session->id.text, session->user);
        break;
    case END_ALL:
        number = record_began(&t->record, "end-all");
        break;
    }
    enum cr_status st = end_ask(t->worker, ending, session, &options, &ended);
    bool is_known = st != CR_E_UNKNOWN_OUTCOME;
    options.repeat = ended.ending;
    for (unsigned i = 0; i < ASK_AGAIN_MAX && !is_known && !stopped(t); i++) {
        board_rest(20000);
        st = end_ask(t->worker, ending, session, &options, &ended);
        /* That nobody could be asked now says nothing of the first time. */
        is_known = st != CR_E_UNKNOWN_OUTCOME && st != CR_UNAVAILABLE && st != CR_BUSY;
    }
    if (!is_known)
        st = CR_E_UNKNOWN_OUTCOME;
    if (st == CR_PENDING)
        record_ended(&t->record, number, st, "bound=%lld", (long long)ended.bound);
    else
        record_ended(&t->record, number, st, "%s", "");
}

/* --- The thread that changes things --- */

static void change_something(struct thread *t)
{
    struct board *board = t->worker->board;
    struct board_session session;
    bool own = below(t, 3) != 0;
    struct board_slot *slot =
        &board->slots[own ? t->worker->first_slot + below(t, OWN_SLOTS) : below(t, BOARD_SLOTS)];
    if (!board_get(slot, &session)) {
        if (own)
            make(t, slot, false);
        return;
    }
    uint64_t what = below(t, 100);
    if (what < 24)
        end(t, END_ONE, &session);
    else if (what < 40)
        end(t, END_USER, &session);
    else if (what < 46)
        end(t, END_OTHERS, &session);
    else if (what < 48 && t->worker->operator_room != NULL)
        end(t, END_ALL, &session);
    else if (what < 66)
        data_write(t, &session);
    else if (what < 82)
        rights_write(t, &session);
    else if (what < 92 && own)
        rotate(t, slot, &session);
    /* What it did, it looks at first. */
    enum cr_status st = burst(t, slot, 4);
    if (own && (st != CR_OK || below(t, 8) == 0)) {
        board_put(&board->slots[t->worker->first_slot + OWN_SLOTS], &session);
        make(t, slot, below(t, 3) == 0);
    }
}

static void *changer_run(void *context)
{
    struct thread *t = context;
    while (!stopped(t)) {
        change_something(t);
        board_rest(below(t, 3000));
    }
    record_close(&t->record);
    return NULL;
}

static void *ender_run(void *context)
{
    struct thread *t = context;
    struct board *board = t->worker->board;
    while (!stopped(t)) {
        struct board_slot *slot = &board->slots[below(t, BOARD_SLOTS)];
        struct board_session session;
        board_rest(below(t, 30000));
        if (!board_get(slot, &session))
            continue;
        if (below(t, 4) == 0)
            rights_write(t, &session);
        else
            end(t, below(t, 3) == 0 ? END_USER : END_ONE, &session);
        (void)burst(t, slot, 4);
    }
    record_close(&t->record);
    return NULL;
}

static bool room_open(const struct worker *worker, const char *url, struct cr_room **out_room)
{
    struct cr_options options;
    struct cr_error error = {.size = sizeof error};
    cr_options_init(&options);
    options.timeout = CALL_MS;
    enum cr_status st = CR_UNAVAILABLE;
    while (st == CR_UNAVAILABLE && atomic_load(&worker->board->stop) == 0) {
        st = cr_open(url, &options, out_room, &error);
        if (st == CR_UNAVAILABLE)
            board_rest(10000);
    }
    if (st != CR_OK && st != CR_UNAVAILABLE)
        (void)fprintf(stderr, "%s: %s\n", worker->name, error.text);
    return st == CR_OK;
}

static bool thread_init(struct thread *t, const struct worker *worker, unsigned index,
                        uint64_t seed)
{
    char name[64];
    t->worker = worker;
    t->index = index;
    cr_random_seeded_init(&t->random, seed * 31 + index);
    (void)snprintf(name, sizeof name, "%s.%u", worker->name, index);
    return record_open(&t->record, worker->directory, name, worker->host);
}

int worker_main(int argc, char **argv)
{
    static struct thread threads[THREADS];
    static void *(*const run[THREADS])(void *) = {changer_run, ender_run, validator_run,
                                                  validator_run};
    pthread_t ids[THREADS];
    char path[512];
    if (argc != 7)
        return EXIT_FAILURE;
    struct worker worker = {
        .directory = argv[0],
        .name = argv[1],
        .host = argv[2],
        .only_looks = strcmp(argv[5], "-") == 0,
        .first_slot = strtoul(argv[5], NULL, 10),
    };
    (void)snprintf(path, sizeof path, "%s/board", worker.directory);
    worker.board = board_map(path);
    if (worker.board == NULL || worker.first_slot + OWN_SLOTS >= BOARD_SLOTS)
        return EXIT_FAILURE;
    if (!room_open(&worker, argv[3], &worker.room) ||
        (strcmp(argv[4], "-") != 0 && !room_open(&worker, argv[4], &worker.operator_room)))
        return atomic_load(&worker.board->stop) != 0 ? EXIT_SUCCESS : EXIT_FAILURE;
    for (unsigned i = 0; i < THREADS; i++)
        if (!thread_init(&threads[i], &worker, i, strtoull(argv[6], NULL, 10)) ||
            pthread_create(&ids[i], NULL, worker.only_looks ? validator_run : run[i],
                           &threads[i]) != 0)
            return EXIT_FAILURE;
    for (unsigned i = 0; i < THREADS; i++)
        (void)pthread_join(ids[i], NULL);
    cr_close(worker.operator_room);
    cr_close(worker.room);
    return EXIT_SUCCESS;
}
