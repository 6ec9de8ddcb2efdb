/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions made durably, by many clients of one agent, against one commit each: what a backend does
 * that writes its session to its own SQLite file. Same directory, same journal, same durability.
 *
 *     drive_create URL FOLDER CLIENTS
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

struct bench {
    struct cr_room *rooms[CLIENTS_MAX]; /* a connection each, as 64 processes have */
    size_t clients;
    pthread_barrier_t start;
    double end_at;
    atomic_ullong begun, done;
    sqlite3 *db;
    sqlite3_stmt *insert;
};

struct client {
    struct bench *bench;
    size_t number;
};

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
    while (atomic_fetch_add(&bench->begun, 1) < RUN_SESSIONS && seconds_now() < bench->end_at) {
        struct cr_login login;
        must_be_ok(cr_create(bench->rooms[client->number], &user, &options, &login), "create");
        done++;
    }
    atomic_fetch_add(&bench->done, done);
    return NULL;
}

static double ours(void *context)
{
    struct bench *bench = context;
    static pthread_t threads[CLIENTS_MAX];
    static struct client clients[CLIENTS_MAX];
    atomic_store(&bench->begun, 0);
    atomic_store(&bench->done, 0);
    must(pthread_barrier_init(&bench->start, NULL, (unsigned)bench->clients + 1) == 0, "barrier");
    for (size_t i = 0; i < bench->clients; i++) {
        clients[i] = (struct client){bench, i};
        must(pthread_create(&threads[i], NULL, client_run, &clients[i]) == 0, "no thread");
    }
    double start = seconds_now();
    bench->end_at = start + RUN_SECONDS;
    pthread_barrier_wait(&bench->start);
    for (size_t i = 0; i < bench->clients; i++)
        pthread_join(threads[i], NULL);
    double seconds = seconds_now() - start;
    pthread_barrier_destroy(&bench->start);
    return (double)atomic_load(&bench->done) / seconds;
}

static void sqlite_must(struct bench *bench, const char *sql)
{
    if (sqlite3_exec(bench->db, sql, NULL, NULL, NULL) != SQLITE_OK)
        must(false, sqlite3_errmsg(bench->db));
}

static void peer_open(struct bench *bench, const char *folder)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/peer.db", folder);
    must(sqlite3_open(path, &bench->db) == SQLITE_OK, "SQLite does not open the peer's file");
    sqlite_must(bench, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
                       "CREATE TABLE session (id TEXT PRIMARY KEY, user TEXT, secret BLOB,"
                       " created INTEGER, seen INTEGER, ends INTEGER, idle INTEGER) WITHOUT ROWID;"
                       "CREATE INDEX session_user ON session (user, created);");
    must(sqlite3_prepare_v2(bench->db, "INSERT INTO session VALUES (?,?,?,?,?,?,?)", -1,
                            &bench->insert, NULL) == SQLITE_OK,
         "prepare");
}

static void peer_insert(struct bench *bench, uint64_t number)
{
    unsigned char random[24 + HASH_BYTES];
    char id[CR_SESSION_ID_CHARS + 1], user[16];
    must(getrandom(random, sizeof(random), 0) == (ssize_t)sizeof(random), "getrandom");
    for (size_t i = 0; i < CR_SESSION_ID_CHARS; i++)
        id[i] = (char)('A' + random[i % 24] % 26);
    int length = snprintf(user, sizeof(user), "user-%d", (int)(number % 64));
    sqlite3_bind_text(bench->insert, 1, id, CR_SESSION_ID_CHARS, SQLITE_STATIC);
    sqlite3_bind_text(bench->insert, 2, user, length, SQLITE_STATIC);
    sqlite3_bind_blob(bench->insert, 3, random + 24, HASH_BYTES, SQLITE_STATIC);
    for (int column = 4; column <= 7; column++)
        sqlite3_bind_int64(bench->insert, column, 1700000000000 + (int64_t)number);
    must(sqlite3_step(bench->insert) == SQLITE_DONE, "insert"); /* and commit */
    sqlite3_reset(bench->insert);
}

static double theirs(void *context)
{
    struct bench *bench = context;
    uint64_t done = 0;
    double start = seconds_now(), now = start;
    while (done < RUN_SESSIONS && now - start < RUN_SECONDS) {
        peer_insert(bench, done++);
        now = seconds_now();
    }
    return (double)done / (now - start);
}

int main(int argc, char **argv)
{
    must(argc == 4, "usage: drive_create URL FOLDER CLIENTS");
    static struct bench bench;
    bench.clients = strtoul(argv[3], NULL, 10);
    must(bench.clients > 0 && bench.clients <= CLIENTS_MAX, "CLIENTS is a number");
    for (size_t i = 0; i < bench.clients; i++)
        bench.rooms[i] = room_must_open(argv[1]);
    peer_open(&bench, argv[2]);
    answer(&bench, ours, theirs);
    sqlite3_finalize(bench.insert);
    sqlite3_close(bench.db);
    for (size_t i = 0; i < bench.clients; i++)
        cr_close(bench.rooms[i]);
    return EXIT_SUCCESS;
}
