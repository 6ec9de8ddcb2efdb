/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A validation that hits, against GET of a value of the same size from Redis: both by one thread,
 * one after the other, of all sessions in random order. Tokens and keys lie in that order, because
 * a server has just read them from its socket: what is far away is the table, not the token.
 *
 *     drive_cache URL REDIS-SOCKET SESSIONS
 */
#include "drive.h"

#include <hiredis/hiredis.h>

#define RUN_SECONDS 1.0
#define BETWEEN_CLOCKS 64
#define UNDER_WAY 256
#define USERS 20000
#define DATA_BYTES 32
#define RIGHTS_BYTES 16
#define KEY_CHARS 40 /* "session:" and 32 characters */
/* What of a struct cr_session says something: id, user, five times, version, rights, data. */
#define VALUE_BYTES (CR_SESSION_ID_CHARS + 10 + 6 * 8 + RIGHTS_BYTES + DATA_BYTES)

struct bench {
    struct cr_room *room;
    redisContext *redis;
    size_t count;
    struct cr_token *tokens;
    char (*keys)[KEY_CHARS + 1];
    size_t next;
};

static void sessions_make(struct bench *bench)
{
    static const unsigned char filler[DATA_BYTES];
    const struct cr_login_options options = {.size = sizeof(options),
                                             .data = filler,
                                             .data_bytes = DATA_BYTES,
                                             .rights = filler,
                                             .rights_bytes = RIGHTS_BYTES};
    static struct cr_call *calls[UNDER_WAY];
    for (size_t i = 0; i < bench->count + UNDER_WAY; i++) {
        struct cr_call **call = &calls[i % UNDER_WAY];
        if (i >= UNDER_WAY && i - UNDER_WAY < bench->count) {
            struct cr_login login;
            must_be_ok(cr_create_finish(*call, &login), "create");
            bench->tokens[i - UNDER_WAY] = login.signed_token;
        }
        if (i >= bench->count)
            continue;
        char name[16];
        int length = snprintf(name, sizeof(name), "user-%05zu", i % USERS);
        struct cr_user user;
        must_be_ok(cr_user_parse(name, (size_t)length, &user), "user");
        must_be_ok(cr_create_begin(bench->room, &user, &options, call), "create");
    }
}

static void tokens_shuffle(struct bench *bench)
{
    uint64_t random = 88172645463325252ULL;
    for (size_t i = bench->count - 1; i > 0; i--) {
        size_t j = random_next(&random) % (i + 1);
        struct cr_token kept = bench->tokens[i];
        bench->tokens[i] = bench->tokens[j];
        bench->tokens[j] = kept;
    }
}

/* Once each, so that every session is in the table. */
static void table_fill(struct bench *bench)
{
    for (size_t i = 0; i < bench->count; i++) {
        struct cr_session session = CR_SESSION_INIT;
        must_be_ok(cr_validate(bench->room, &bench->tokens[i], &session), "validate");
    }
}

static void redis_fill(struct bench *bench)
{
    static char value[VALUE_BYTES];
    memset(value, 'v', sizeof(value));
    for (size_t i = 0; i < bench->count; i++) {
        snprintf(bench->keys[i], sizeof(bench->keys[i]), "session:%.32s",
                 bench->tokens[i].text + CR_TOKEN_CHARS - 32);
        const char *argv[] = {"SET", bench->keys[i], value};
        const size_t lengths[] = {3, KEY_CHARS, sizeof(value)};
        redisReply *reply = redisCommandArgv(bench->redis, 3, argv, lengths);
        must(reply != NULL && reply->type == REDIS_REPLY_STATUS, "Redis does not take a value");
        freeReplyObject(reply);
    }
}

static size_t next(struct bench *bench)
{
    bench->next = bench->next + 1 < bench->count ? bench->next + 1 : 0;
    return bench->next;
}

static double ours(void *context)
{
    struct bench *bench = context;
    struct cr_session session = CR_SESSION_INIT;
    struct cr_stats before = {.size = sizeof(before)}, after = {.size = sizeof(after)};
    must_be_ok(cr_stats(bench->room, &before), "stats");
    must(before.cache == CR_CACHE_SHARED && before.mapped, "the table is not mapped here");
    uint64_t done = 0;
    double start = seconds_now(), now = start;
    while (now - start < RUN_SECONDS) {
        for (int i = 0; i < BETWEEN_CLOCKS; i++, done++) {
            must_be_ok(cr_validate(bench->room, &bench->tokens[next(bench)], &session), "validate");
            must(session.data_bytes == DATA_BYTES, "another session's data");
        }
        now = seconds_now();
    }
    must_be_ok(cr_stats(bench->room, &after), "stats");
    must(after.hits - before.hits == done, "not every validation was a hit");
    return (double)done / (now - start);
}

static double theirs(void *context)
{
    struct bench *bench = context;
    uint64_t done = 0;
    double start = seconds_now(), now = start;
    while (now - start < RUN_SECONDS) {
        for (int i = 0; i < BETWEEN_CLOCKS; i++, done++) {
            const char *argv[] = {"GET", bench->keys[next(bench)]};
            const size_t lengths[] = {3, KEY_CHARS};
            redisReply *reply = redisCommandArgv(bench->redis, 2, argv, lengths);
            must(reply != NULL && reply->type == REDIS_REPLY_STRING && reply->len == VALUE_BYTES,
                 "Redis does not answer with the value");
            freeReplyObject(reply);
        }
        now = seconds_now();
    }
    return (double)done / (now - start);
}

int main(int argc, char **argv)
{
    must(argc == 4, "usage: drive_cache URL REDIS-SOCKET SESSIONS");
    struct bench bench = {.count = strtoul(argv[3], NULL, 10)};
    must(bench.count > 0, "SESSIONS is a number");
    bench.room = room_must_open(argv[1]);
    bench.redis = redisConnectUnix(argv[2]);
    must(bench.redis != NULL && bench.redis->err == 0, "Redis does not answer");
    bench.tokens = calloc(bench.count, sizeof(*bench.tokens));
    bench.keys = calloc(bench.count, sizeof(*bench.keys));
    must(bench.tokens != NULL && bench.keys != NULL, "out of memory");
    sessions_make(&bench);
    tokens_shuffle(&bench);
    table_fill(&bench);
    redis_fill(&bench);
    answer(&bench, ours, theirs);
    free(bench.tokens);
    free(bench.keys);
    redisFree(bench.redis);
    cr_close(bench.room);
    return EXIT_SUCCESS;
}
