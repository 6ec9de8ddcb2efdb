/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A new key for tokens where several engines have one store: two of them over one memory store,
 * each with a loop of its own, under a clock that stands still until it is moved.
 */
#include "engine/engine.h"

#include <stdlib.h>
#include <string.h>

#include "store/store.h"
#include "tap.h"

#define LEASE_MS 5000

struct host {
    struct cr_loop *loop;
    struct cr_engine *engine; /* NULL: it does not run */
    struct cr_fault_plan plan;
    struct cr_random_seeded random;
};

struct world {
    struct cr_clock_fake clock;
    struct cr_store_env env;
    struct cr_random_seeded random;
    struct cr_store_ops ops; /* the store's, as a test wants them */
    struct host hosts[2];
};

struct answer {
    int count;
    enum cr_status status;
    struct cr_token token;
    cr_span_ms bound;
};

static void answered(void *context, const struct cr_engine_answer *answer)
{
    struct answer *a = context;
    a->count++;
    a->status = answer->status;
    a->bound = answer->bound;
    if (answer->token != NULL)
        a->token = *answer->token;
}

/* `keys`: in place of the store's own way of reading them; NULL: as it is. */
static void host_open(struct world *w, size_t index, cr_span_ms grace,
                      enum cr_status (*keys)(struct cr_store *, struct cr_key *, size_t, size_t *))
{
    struct host *host = &w->hosts[index];
    struct cr_store *inner = NULL, *store = NULL;
    struct cr_error error = {.size = sizeof error};
    cr_random_seeded_init(&host->random, 11 + index);
    CHECK_STATUS(cr_loop_inline_create(&w->clock.clock, &host->loop), CR_OK);
    CHECK_STATUS(cr_store_open("memory:test_keys", &w->env, &inner, &error), CR_OK);
    if (keys != NULL) {
        w->ops = *inner->ops;
        w->ops.keys = keys;
        inner->ops = &w->ops;
    }
    CHECK_STATUS(cr_store_fault_create(inner, &host->plan, &store), CR_OK);
    struct cr_engine_options options = {.loop = host->loop,
                                        .random = &host->random.random,
                                        .store = store,
                                        .realm = "cloakroom",
                                        .label = "test",
                                        .cache = CR_CACHE_NONE,
                                        .lease = LEASE_MS,
                                        .poll = 1000,
                                        .grace = grace};
    if (!CHECK_STATUS(cr_engine_create(&options, &host->engine, &error), CR_OK)) {
        tap_note("%s", error.text);
        abort();
    }
}

static void host_close(struct host *host)
{
    host->plan.kind = CR_FAULT_NONE;
    cr_engine_destroy(host->engine);
    cr_loop_inline_destroy(host->loop);
    host->engine = NULL;
}

static void world_open(struct world *w)
{
    memset(w, 0, sizeof *w);
    cr_clock_fake_init(&w->clock, 1700000000000);
    cr_random_seeded_init(&w->random, 1);
    w->env = (struct cr_store_env){.clock = &w->clock.clock, .random = &w->random.random};
    host_open(w, 0, 0, NULL);
}

static void world_close(struct world *w)
{
    for (size_t i = 0; i < 2; i++)
        if (w->hosts[i].engine != NULL)
            host_close(&w->hosts[i]);
}

static void world_run(struct world *w, cr_span_ms span)
{
    for (; span > 0; span -= 100) {
        cr_clock_fake_advance(&w->clock, 100);
        for (size_t i = 0; i < 2; i++)
            if (w->hosts[i].engine != NULL)
                (void)cr_loop_inline_run(w->hosts[i].loop);
    }
}

static cr_span_ms rotate(struct host *host)
{
    struct answer a = {0};
    cr_engine_key_rotate(host->engine, answered, &a);
    CHECK_INT(a.count, 1);
    CHECK_STATUS(a.status, CR_OK);
    return a.bound;
}

static struct cr_token login(struct host *host)
{
    struct answer a = {0};
    struct cr_create_request request = {.policy = CR_POLICY_KEEP};
    CHECK_STATUS(cr_user_parse("anna", 4, &request.user), CR_OK);
    cr_engine_create_session(host->engine, &request, answered, &a);
    CHECK_STATUS(a.status, CR_OK);
    return a.token;
}

static enum cr_status validate(struct host *host, const struct cr_token *token)
{
    struct answer a = {0};
    cr_engine_validate(host->engine, token, false, answered, &a);
    CHECK_INT(a.count, 1);
    return a.status;
}

static void a_new_key_signs_when_all_have_heard_of_it(void)
{
    struct world w;
    world_open(&w);
    host_open(&w, 1, 0, NULL);
    world_run(&w, 2000);
    uint32_t number = cr_engine_key_number(w.hosts[0].engine);
    struct cr_token before = login(&w.hosts[1]);
    CHECK_INT(rotate(&w.hosts[0]), 2 * LEASE_MS);
    world_run(&w, 2 * LEASE_MS - 100);
    CHECK_UINT(cr_engine_key_number(w.hosts[0].engine), number);
    world_run(&w, 1000);
    CHECK_UINT(cr_engine_key_number(w.hosts[0].engine), number + 1);
    CHECK_UINT(cr_engine_key_number(w.hosts[1].engine), number + 1);
    struct cr_token after = login(&w.hosts[0]);
    CHECK_STATUS(validate(&w.hosts[1], &after), CR_OK);
    CHECK_STATUS(validate(&w.hosts[0], &before), CR_OK);
    world_close(&w);
}

/* Between a starting engine's look at the keys and its registration, from which on it hears. */
static struct host *rotates_meanwhile;
static const struct cr_store_ops *ops_of_all;

static enum cr_status keys_and_one_more(struct cr_store *store, struct cr_key *out, size_t capacity,
                                        size_t *out_count)
{
    struct host *host = rotates_meanwhile;
    enum cr_status st = ops_of_all->keys(store, out, capacity, out_count);
    rotates_meanwhile = NULL;
    if (host != NULL)
        (void)rotate(host);
    return st;
}

static void a_key_that_was_added_while_an_engine_started_is_known_to_it(void)
{
    struct world w;
    struct cr_store *store = NULL;
    struct cr_error error = {.size = sizeof error};
    world_open(&w);
    CHECK_STATUS(cr_store_open("memory:test_keys", &w.env, &store, &error), CR_OK);
    ops_of_all = store->ops;
    rotates_meanwhile = &w.hosts[0];
    host_open(&w, 1, 0, keys_and_one_more);
    CHECK(rotates_meanwhile == NULL);
    world_run(&w, 3 * LEASE_MS);
    struct cr_token after = login(&w.hosts[0]);
    CHECK_STATUS(validate(&w.hosts[1], &after), CR_OK);
    cr_store_destroy(store);
    world_close(&w);
}

/* A key waits for a minute at most. */
static void with_a_long_grace_no_token_of_a_new_key_is_said_to_be_none(void)
{
    struct world w;
    world_open(&w);
    host_open(&w, 1, 600000, NULL);
    world_run(&w, 2000);
    w.hosts[1].plan = (struct cr_fault_plan){.kind = CR_FAULT_UNAVAILABLE, .count = UINT64_MAX};
    world_run(&w, 1000);
    CHECK_INT(rotate(&w.hosts[0]), CR_KEY_WAIT_MS_MAX);
    world_run(&w, CR_KEY_WAIT_MS_MAX + 1000);
    struct cr_token after = login(&w.hosts[0]);
    CHECK_STATUS(validate(&w.hosts[1], &after), CR_UNAVAILABLE);
    w.hosts[1].plan.kind = CR_FAULT_NONE;
    world_run(&w, 3000);
    CHECK_STATUS(validate(&w.hosts[1], &after), CR_OK);
    world_close(&w);
}

/* Answered when the other engine has heard what it ended. */
static void create_over(struct host *host, const struct cr_token *anonymous, struct answer *out)
{
    struct cr_create_request request = {
        .policy = CR_POLICY_KEEP, .has_anonymous = true, .anonymous = *anonymous};
    CHECK_STATUS(cr_user_parse("anna", 4, &request.user), CR_OK);
    *out = (struct answer){0};
    cr_engine_create_session(host->engine, &request, answered, out);
}

static enum cr_status explain(struct host *host, const struct cr_token *token)
{
    struct answer a = {0};
    cr_engine_explain_token(host->engine, token, answered, &a);
    CHECK_INT(a.count, 1);
    return a.status;
}

static struct cr_token anonymous(struct host *host)
{
    struct answer a = {0};
    struct cr_create_request request = {.policy = CR_POLICY_KEEP};
    cr_engine_create_session(host->engine, &request, answered, &a);
    CHECK_STATUS(a.status, CR_OK);
    return a.token;
}

/* Else the session before the log-in would stay alive beside the one after it, and who was logged
 * out would not be told why. */
static void a_token_of_a_new_key_is_not_made_up_at_a_login_or_where_a_reason_is_asked_for(void)
{
    struct world w;
    world_open(&w);
    host_open(&w, 1, 600000, NULL);
    world_run(&w, 2000);
    w.hosts[1].plan = (struct cr_fault_plan){.kind = CR_FAULT_UNAVAILABLE, .count = UINT64_MAX};
    (void)rotate(&w.hosts[0]);
    world_run(&w, CR_KEY_WAIT_MS_MAX + 1000);
    struct cr_token before = anonymous(&w.hosts[0]);
    struct cr_token ended = login(&w.hosts[0]);
    /* The store is back, and this engine has not asked for the keys yet. */
    w.hosts[1].plan.kind = CR_FAULT_NONE;
    struct answer refused, made;
    create_over(&w.hosts[1], &before, &refused);
    CHECK_INT(refused.count, 1);
    CHECK_STATUS(refused.status, CR_UNAVAILABLE);
    CHECK_STATUS(explain(&w.hosts[1], &ended), CR_UNAVAILABLE);
    CHECK_STATUS(validate(&w.hosts[0], &before), CR_OK);
    world_run(&w, 3000);
    create_over(&w.hosts[1], &before, &made);
    world_run(&w, 3 * LEASE_MS);
    CHECK_INT(made.count, 1);
    CHECK_STATUS(made.status, CR_OK);
    CHECK_STATUS(validate(&w.hosts[0], &before), CR_ENDED);
    CHECK(explain(&w.hosts[1], &ended) != CR_NOT_FOUND);
    world_close(&w);
}

static const struct tap_test tests[] = {
    TAP_TEST(a_new_key_signs_when_all_have_heard_of_it),
    TAP_TEST(a_key_that_was_added_while_an_engine_started_is_known_to_it),
    TAP_TEST(with_a_long_grace_no_token_of_a_new_key_is_said_to_be_none),
    TAP_TEST(a_token_of_a_new_key_is_not_made_up_at_a_login_or_where_a_reason_is_asked_for),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
