/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A store with few users and many sessions, faster than through an agent: many to a commit.
 *
 *     make_store PATH USERS SESSIONS [USERS SESSIONS...]
 *
 * SESSIONS for each of USERS users named SESSIONS-0, SESSIONS-1...
 */
#include "drive.h"

#include "store/store.h"

#define BATCH 20000
#define SPAN_MS 86400000LL

struct maker {
    struct cr_store *store;
    struct cr_random_seeded random;
    size_t in_batch;
};

static const char alphabet[65] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static void session_make(struct maker *maker, const struct cr_user *user)
{
    static struct cr_record record;
    static struct cr_log_rows rows;
    memset(&record, 0, sizeof record);
    memcpy(record.id.text, "crp_", 4);
    for (size_t i = 4; i < CR_SESSION_ID_CHARS; i++)
        record.id.text[i] = alphabet[cr_random_seeded_next(&maker->random) & 63];
    must_be_ok(cr_random_fill(&maker->random.random, &record.hash, sizeof record.hash), "random");
    record.user = *user;
    record.ends_at = record.idle = SPAN_MS;
    if (maker->in_batch == 0)
        must_be_ok(cr_store_begin(maker->store), "begin");
    must_be_ok(cr_store_create(maker->store, &record, NULL, &rows), "create");
    if (++maker->in_batch == BATCH) {
        must_be_ok(cr_store_commit(maker->store), "commit");
        maker->in_batch = 0;
    }
}

static void users_make(struct maker *maker, size_t users, size_t sessions)
{
    for (size_t u = 0; u < users; u++) {
        char name[32];
        struct cr_user user;
        int length = snprintf(name, sizeof name, "%zu-%zu", sessions, u);
        must_be_ok(cr_user_parse(name, (size_t)length, &user), "user");
        for (size_t i = 0; i < sessions; i++)
            session_make(maker, &user);
    }
}

int main(int argc, char **argv)
{
    struct maker maker = {0};
    struct cr_store_env env;
    struct cr_error error = {.size = sizeof error};
    char url[512];
    must(argc >= 4 && argc % 2 == 0, "usage: make_store PATH USERS SESSIONS [USERS SESSIONS...]");
    cr_random_seeded_init(&maker.random, 1);
    must_be_ok(cr_store_env_system(&env), "env");
    snprintf(url, sizeof url, "sqlite://%s", argv[1]);
    must(cr_store_open(url, &env, &maker.store, &error) == CR_OK, error.text);
    for (int i = 2; i < argc; i += 2)
        users_make(&maker, strtoul(argv[i], NULL, 10), strtoul(argv[i + 1], NULL, 10));
    if (maker.in_batch > 0)
        must_be_ok(cr_store_commit(maker.store), "commit");
    cr_store_destroy(maker.store);
    return EXIT_SUCCESS;
}
