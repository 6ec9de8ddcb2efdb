/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The same sessions in Redis: GET of a value of that size over a Unix socket, one request at a
 * time, as a request to a web server makes it.
 *
 *     drive_redis SOCKET TOKENS
 *
 * Question: "get", uniform or zipf, and how many seconds. Answered in nanoseconds a GET.
 */
#include "picks.h"

#include <hiredis/hiredis.h>

#define STEP 64
#define PIPELINED 1000
#define KEY_CHARS 32 /* "session:" and the id's 24 random characters */
#define ID_AT 9      /* in a token's text */
/* Id, user of 16 bytes, five times, version, two lengths, 64 bytes of data. */
#define VALUE_BYTES (CR_SESSION_ID_CHARS + 16 + 8 * 8 + 64)

struct bench {
    const struct cr_token *tokens;
    size_t count;
    struct orders orders;
    struct picks *picks;
    redisContext *redis;
};

static void key_of(const struct cr_token *token, char out[KEY_CHARS])
{
    static const char prefix[8] = {'s', 'e', 's', 's', 'i', 'o', 'n', ':'};
    memcpy(out, prefix, sizeof prefix);
    memcpy(out + sizeof prefix, token->text + ID_AT, KEY_CHARS - sizeof prefix);
}

static void replies_take(struct bench *bench, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        void *reply = NULL;
        must(redisGetReply(bench->redis, &reply) == REDIS_OK && reply != NULL &&
                 ((redisReply *)reply)->type == REDIS_REPLY_STATUS,
             "Redis does not take a value");
        freeReplyObject(reply);
    }
}

static void fill(struct bench *bench)
{
    static char value[VALUE_BYTES];
    memset(value, 'v', sizeof value);
    for (size_t i = 0; i < bench->count; i++) {
        char key[KEY_CHARS];
        key_of(&bench->tokens[i], key);
        const char *argv[] = {"SET", key, value};
        const size_t lengths[] = {3, sizeof key, sizeof value};
        must(redisAppendCommandArgv(bench->redis, 3, argv, lengths) == REDIS_OK, "append");
        if (i % PIPELINED == PIPELINED - 1)
            replies_take(bench, PIPELINED);
    }
    replies_take(bench, bench->count % PIPELINED);
}

static void get_step(void *context)
{
    struct bench *bench = context;
    for (int i = 0; i < STEP; i++) {
        char key[KEY_CHARS];
        key_of(&bench->tokens[picks_next(bench->picks)], key);
        const char *argv[] = {"GET", key};
        const size_t lengths[] = {3, sizeof key};
        redisReply *reply = redisCommandArgv(bench->redis, 2, argv, lengths);
        must(reply != NULL && reply->type == REDIS_REPLY_STRING && reply->len == VALUE_BYTES,
             "Redis does not answer with the value");
        freeReplyObject(reply);
    }
}

int main(int argc, char **argv)
{
    must(argc == 3, "usage: drive_redis SOCKET TOKENS");
    static struct bench bench;
    struct question question;
    bench.redis = redisConnectUnix(argv[1]);
    must(bench.redis != NULL && bench.redis->err == 0, "Redis does not answer");
    bench.tokens = tokens_map(argv[2], &bench.count);
    orders_make(&bench.orders, bench.count, 1);
    fill(&bench);
    questions_begin();
    while (question_read(&question)) {
        bench.picks = orders_pick(&bench.orders, &question);
        printf("%.3f\n", nanoseconds_each(get_step, &bench, STEP, question.seconds));
    }
    orders_free(&bench.orders);
    redisFree(bench.redis);
    return EXIT_SUCCESS;
}
