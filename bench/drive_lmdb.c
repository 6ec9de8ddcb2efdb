/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The same sessions in LMDB: a lookup is the renewal of a read transaction (else it would answer
 * from the past), the value found by the token's text as it stands, and copied out. The token is
 * not hashed, and no expiry is looked at. Pages are as full as LMDB can make them: keys were put in
 * their order.
 *
 *     drive_lmdb FOLDER TOKENS
 *
 * Question: "get", uniform or zipf, and how many seconds. Answered in nanoseconds a lookup.
 */
#include "picks.h"

#include <lmdb.h>

#define STEP 64
/* Id, user of 16 bytes, five times, version, two lengths, 64 bytes of data. */
#define VALUE_BYTES (CR_SESSION_ID_CHARS + 16 + 8 * 8 + 64)
#define PUTS_IN_ONE 1000000

struct bench {
    const struct cr_token *tokens;
    size_t count;
    struct orders orders;
    struct picks *picks;
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    unsigned char value[VALUE_BYTES];
};

/* A token's place in the order of keys: eight of its random characters, then the rest. */
struct place {
    uint64_t first;
    const struct cr_token *token;
};

static void lmdb_must(int result, const char *what)
{
    if (result != MDB_SUCCESS)
        fprintf(stderr, "%s: ", mdb_strerror(result));
    must(result == MDB_SUCCESS, what);
}

static int place_earlier(const void *a, const void *b)
{
    const struct place *first = a, *second = b;
    if (first->first != second->first)
        return first->first < second->first ? -1 : 1;
    return memcmp(first->token->text, second->token->text, CR_TOKEN_CHARS);
}

static struct place *places_make(const struct bench *bench)
{
    struct place *places = malloc(bench->count * sizeof *places);
    must(places != NULL, "out of memory");
    for (size_t i = 0; i < bench->count; i++) {
        uint64_t first;
        /* The nine characters before are the same in all of this bench's tokens. */
        must(memcmp(bench->tokens[i].text, bench->tokens[0].text, 9) == 0, "tokens of one kind");
        memcpy(&first, bench->tokens[i].text + 9, sizeof first);
        places[i] = (struct place){__builtin_bswap64(first), &bench->tokens[i]};
    }
    qsort(places, bench->count, sizeof *places, place_earlier);
    return places;
}

static MDB_val key_of(const struct cr_token *token)
{
    union {
        const char *given;
        void *plain; /* LMDB does not write there */
    } text = {.given = token->text};
    return (MDB_val){.mv_size = CR_TOKEN_CHARS, .mv_data = text.plain};
}

static void fill(struct bench *bench)
{
    struct place *places = places_make(bench);
    MDB_txn *txn = NULL;
    for (size_t i = 0; i < bench->count; i++) {
        MDB_val key = key_of(places[i].token);
        MDB_val value = {.mv_size = VALUE_BYTES, .mv_data = bench->value};
        if (txn == NULL)
            lmdb_must(mdb_txn_begin(bench->env, NULL, 0, &txn), "begin");
        if (i == 0)
            lmdb_must(mdb_dbi_open(txn, NULL, 0, &bench->dbi), "dbi");
        lmdb_must(mdb_put(txn, bench->dbi, &key, &value, MDB_APPEND), "put");
        if (i % PUTS_IN_ONE == PUTS_IN_ONE - 1 || i == bench->count - 1) {
            lmdb_must(mdb_txn_commit(txn), "commit");
            txn = NULL;
        }
    }
    free(places);
}

static void get_step(void *context)
{
    struct bench *bench = context;
    for (int i = 0; i < STEP; i++) {
        MDB_val value, key = key_of(&bench->tokens[picks_next(bench->picks)]);
        lmdb_must(mdb_txn_renew(bench->txn), "renew");
        lmdb_must(mdb_get(bench->txn, bench->dbi, &key, &value), "get");
        must(value.mv_size == VALUE_BYTES, "another value");
        memcpy(bench->value, value.mv_data, VALUE_BYTES);
        mdb_txn_reset(bench->txn);
    }
}

static void open_in(struct bench *bench, const char *folder)
{
    lmdb_must(mdb_env_create(&bench->env), "env");
    lmdb_must(mdb_env_set_mapsize(bench->env, bench->count * 600 + (64u << 20)), "size");
    lmdb_must(mdb_env_open(bench->env, folder, MDB_NOSYNC | MDB_WRITEMAP | MDB_NOTLS, 0600),
              folder);
}

int main(int argc, char **argv)
{
    must(argc == 3, "usage: drive_lmdb FOLDER TOKENS");
    static struct bench bench;
    struct question question;
    bench.tokens = tokens_map(argv[2], &bench.count);
    orders_make(&bench.orders, bench.count, 1);
    open_in(&bench, argv[1]);
    fill(&bench);
    lmdb_must(mdb_txn_begin(bench.env, NULL, MDB_RDONLY, &bench.txn), "begin");
    mdb_txn_reset(bench.txn);
    questions_begin();
    while (question_read(&question)) {
        bench.picks = orders_pick(&bench.orders, &question);
        printf("%.3f\n", nanoseconds_each(get_step, &bench, STEP, question.seconds));
    }
    orders_free(&bench.orders);
    mdb_txn_abort(bench.txn);
    mdb_env_close(bench.env);
    return EXIT_SUCCESS;
}
