/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions made durably, by many clients of one agent, against clients that commit each session by
 * itself: what a backend's workers do that write to their own SQLite file. Same directory, same
 * journal, same durability, a connection each; one peer alone waits for nobody.
 *
 *     drive_create URL FOLDER CLIENTS PEERS
 */
#include "drive.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/random.h>

#include <sqlite3.h>

/* A run ends with whichever comes first. The same number for both, so that their tables grow alike:
 * a larger one costs more. */
#define RUN_SESSIONS 16000
#define RUN_SECONDS 4.0
#define CLIENTS_MAX 1024
#define HASH_BYTES 32

struct peer {
    sqlite3 *db;
    sqlite3_stmt *insert;
};

struct bench {
    struct cr_room *rooms[CLIENTS_MAX]; /* a connection each, as 64 processes have */
    struct peer peers[CLIENTS_MAX];
    size_t clients, peer_count;
    pthread_barrier_t start;
    double end_at;
    atomic_ullong begun, done;
};

struct client {
    struct bench *bench;
    size_t number;
};

/* Both sides make equal numbers of sessions: a larger table costs more. */
static bool goes_on(struct bench *bench)
{
    return atomic_fetch_add(&bench->begun, 1) < RUN_SESSIONS && seconds_now() < bench->end_at;
}

static void *client_run(void *context)
{
    const struct client *client = context;
    struct bench *bench = client->bench;
    const struct cr_login_options options = {.size = sizeof(options)};
    char name[32];
    int length = snprintf(name, sizeof(name), "user-%zu", client->number);
    struct cr_user user;
    must_be_ok(cr_user_parse(name, (size_t)length, &user), "user");
    pthread_barrier_wait(&bench->start);
    unsigned long long done = 0;
    for (; goes_on(bench); done++) {
        struct cr_login login;
        must_be_ok(cr_create(bench->rooms[client->number], &user, &options, &login), "create");
    }
    atomic_fetch_add(&bench->done, done);
    return NULL;
}

static void sqlite_must(struct peer *peer, const char *sql)
{
    if (sqlite3_exec(peer->db, sql, NULL, NULL, NULL) != SQLITE_OK)
        must(false, sqlite3_errmsg(peer->db));
}

static void peer_open(struct peer *peer, const char *folder)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/peer.db", folder);
    must(sqlite3_open(path, &peer->db) == SQLITE_OK, "SQLite does not open the peer's file");
    must(sqlite3_busy_timeout(peer->db, 60000) == SQLITE_OK, "busy timeout");
    sqlite_must(peer,
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
                "CREATE TABLE IF NOT EXISTS session (id TEXT PRIMARY KEY, user TEXT, secret BLOB,"
                " created INTEGER, seen INTEGER, ends INTEGER, idle INTEGER) WITHOUT ROWID;"
                "CREATE INDEX IF NOT EXISTS session_user ON session (user, created);");
    must(sqlite3_prepare_v2(peer->db, "INSERT INTO session VALUES (?,?,?,?,?,?,?)", -1,
                            &peer->insert, NULL) == SQLITE_OK,
         "prepare");
}

static void peer_insert(struct peer *peer, uint64_t number)
{
    unsigned char random[24 + HASH_BYTES];
    char id[CR_SESSION_ID_CHARS + 1], user[16];
    must(getrandom(random, sizeof(random), 0) == (ssize_t)sizeof(random), "getrandom");
    for (size_t i = 0; i < CR_SESSION_ID_CHARS; i++)
        id[i] = (char)('A' + random[i % 24] % 26);
    int length = snprintf(user, sizeof(user), "user-%d", (int)(number % 64));
    sqlite3_bind_text(peer->insert, 1, id, CR_SESSION_ID_CHARS, SQLITE_STATIC);
    sqlite3_bind_text(peer->insert, 2, user, length, SQLITE_STATIC);
    sqlite3_bind_blob(peer->insert, 3, random + 24, HASH_BYTES, SQLITE_STATIC);
    for (int column = 4; column <= 7; column++)
        sqlite3_bind_int64(peer->insert, column, 1700000000000 + (int64_t)number);
    must(sqlite3_step(peer->insert) == SQLITE_DONE, sqlite3_errmsg(peer->db)); /* and commit */
    sqlite3_reset(peer->insert);
}

static void *peer_run(void *context)
{
    const struct client *client = context;
    struct bench *bench = client->bench;
    pthread_barrier_wait(&bench->start);
    unsigned long long done = 0;
    for (; goes_on(bench); done++)
        peer_insert(&bench->peers[client->number], done + client->number);
    atomic_fetch_add(&bench->done, done);
    return NULL;
}

/* How many a second `count` threads make together. */
static double race(struct bench *bench, void *(*run)(void *), size_t count)
{
    static pthread_t threads[CLIENTS_MAX];
    static struct client clients[CLIENTS_MAX];
    atomic_store(&bench->begun, 0);
    atomic_store(&bench->done, 0);
    must(pthread_barrier_init(&bench->start, NULL, (unsigned)count + 1) == 0, "barrier");
    for (size_t i = 0; i < count; i++) {
        clients[i] = (struct client){bench, i};
        must(pthread_create(&threads[i], NULL, run, &clients[i]) == 0, "no thread");
    }
    double start = seconds_now();
    bench->end_at = start + RUN_SECONDS;
    pthread_barrier_wait(&bench->start);
    for (size_t i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    double seconds = seconds_now() - start;
    pthread_barrier_destroy(&bench->start);
    return (double)atomic_load(&bench->done) / seconds;
}

static double ours(void *context)
{
    struct bench *bench = context;
    return race(bench, client_run, bench->clients);
}

static double theirs(void *context)
{
    struct bench *bench = context;
    return race(bench, peer_run, bench->peer_count);
}

static size_t count_of(const char *text)
{
    size_t count = strtoul(text, NULL, 10);
    must(count > 0 && count <= CLIENTS_MAX, "CLIENTS and PEERS are numbers");
    return count;
}

int main(int argc, char **argv)
{
    must(argc == 5, "usage: drive_create URL FOLDER CLIENTS PEERS");
    static struct bench bench;
    bench.clients = count_of(argv[3]);
    bench.peer_count = count_of(argv[4]);
    for (size_t i = 0; i < bench.clients; i++)
        bench.rooms[i] = room_must_open(argv[1]);
    for (size_t i = 0; i < bench.peer_count; i++)
        peer_open(&bench.peers[i], argv[2]);
    answer(&bench, ours, theirs);
    for (size_t i = 0; i < bench.peer_count; i++) {
        sqlite3_finalize(bench.peers[i].insert);
        sqlite3_close(bench.peers[i].db);
    }
    for (size_t i = 0; i < bench.clients; i++)
        cr_close(bench.rooms[i]);
    return EXIT_SUCCESS;
}
