/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The service with peers made up here: an inline loop, a store in memory, and clients that put what
 * they are sent into a list.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "service/request.h"
#include "service/service.h"
#include "store/store.h"
#include "tap.h"

#define REALM "testing"
#define REQUESTS_MAX 4
#define REPLIES_MAX 256

struct reply {
    unsigned char *bytes;
    size_t count;
    int fd;
};

/* A peer: what it was sent, oldest first. */
struct peer {
    struct cr_client *client;
    uint64_t number;
    struct reply replies[REPLIES_MAX];
    size_t count;
    struct cr_message message; /* of the last reply looked at */
};

struct bench {
    struct cr_loop *loop;
    struct cr_clock_fake clock;
    struct cr_engine *engine;
    struct cr_leases *leases;
    struct cr_service *service;
};

static void peer_sent(void *context, const void *bytes, size_t count, int fd)
{
    struct peer *peer = context;
    if (!CHECK(peer->count < REPLIES_MAX))
        return;
    struct reply *reply = &peer->replies[peer->count++];
    reply->bytes = malloc(count);
    memcpy(reply->bytes, bytes, count);
    reply->count = count;
    reply->fd = fd;
}

static bool bench_open_with(struct bench *bench, bool has_store, enum cr_cache cache)
{
    struct cr_store *store = NULL;
    struct cr_store_env env;
    struct cr_error error = {.size = sizeof error};
    memset(bench, 0, sizeof *bench);
    cr_clock_fake_init(&bench->clock, 1700000000000);
    if (!CHECK_STATUS(cr_store_env_system(&env), CR_OK))
        return false;
    env.clock = &bench->clock.clock;
    if (!CHECK_STATUS(cr_loop_inline_create(&bench->clock.clock, &bench->loop), CR_OK))
        return false;
    if (has_store && !CHECK_STATUS(cr_store_open("memory:", &env, &store, &error), CR_OK))
        return false;
    struct cr_engine_options options = {.loop = bench->loop,
                                        .random = cr_random_system(),
                                        .store = store,
                                        .realm = REALM,
                                        .label = "test",
                                        .cache = cache,
                                        .cache_bytes = 4 << 20,
                                        .idle = 1800000,
                                        .absolute = 7200000,
                                        .lease = 5000,
                                        .poll = 1000};
    if (!CHECK_STATUS(cr_engine_create(&options, &bench->engine, &error), CR_OK))
        return false;
    if (has_store && !CHECK_STATUS(cr_leases_create(bench->engine, &bench->leases), CR_OK))
        return false;
    struct cr_service_options service = {.engine = bench->engine,
                                         .leases = bench->leases,
                                         .realm = REALM,
                                         .requests_max = REQUESTS_MAX};
    return CHECK_STATUS(cr_service_create(&service, &bench->service), CR_OK);
}

static bool bench_open(struct bench *bench)
{
    return bench_open_with(bench, true, CR_CACHE_SHARED);
}

static void peer_leave(struct peer *peer)
{
    cr_client_destroy(peer->client);
    for (size_t i = 0; i < peer->count; i++)
        free(peer->replies[i].bytes);
    memset(peer, 0, sizeof *peer);
}

/* The order of a clean stop; peers have left. */
static void bench_close(struct bench *bench)
{
    if (bench->service != NULL)
        cr_service_stop(bench->service);
    cr_leases_destroy(bench->leases);
    cr_engine_destroy(bench->engine);
    cr_service_destroy(bench->service);
    if (bench->loop != NULL)
        cr_loop_inline_destroy(bench->loop);
}

static void peer_arrive(struct bench *bench, struct peer *peer, enum cr_role role)
{
    struct cr_client_options options = {
        .role = role, .label = "pid 1", .send = peer_sent, .context = peer};
    memset(peer, 0, sizeof *peer);
    enum cr_status st = cr_client_create(bench->service, &options, &peer->client);
    CHECK_STATUS(st, CR_OK);
}

static void ask_begin(struct peer *peer, struct cr_builder *b, enum cr_op op)
{
    cr_builder_init(b, op, CR_OK, ++peer->number);
}

static enum cr_status ask_send(struct peer *peer, struct cr_builder *b)
{
    enum cr_status st = CR_E_INVALID;
    if (CHECK(cr_builder_finish(b)))
        st = cr_client_receive(peer->client, b->bytes, b->count);
    cr_builder_fini(b);
    return st;
}

/* The last message that came, taken apart; its status. CR_ASK: none. */
static enum cr_status peer_last(struct peer *peer)
{
    if (peer->count == 0)
        return CR_ASK;
    const struct reply *reply = &peer->replies[peer->count - 1];
    enum cr_status st = cr_message_decode(reply->bytes, reply->count, &peer->message);
    return CHECK_STATUS(st, CR_OK) ? peer->message.status : CR_E_PROTOCOL;
}

/* Send, and the status of the reply, which must have come at once. */
static enum cr_status ask(struct peer *peer, struct cr_builder *b)
{
    size_t before = peer->count;
    CHECK_STATUS(ask_send(peer, b), CR_OK);
    if (!CHECK_UINT(peer->count, before + 1))
        return CR_ASK;
    enum cr_status st = peer_last(peer);
    CHECK_UINT(peer->message.request, peer->number);
    return st;
}

static void hello_begin(struct peer *peer, struct cr_builder *b, uint64_t version, uint64_t layout,
                        const char *realm)
{
    ask_begin(peer, b, CR_OP_HELLO);
    cr_builder_u64(b, CR_TAG_VERSION, version);
    cr_builder_u64(b, CR_TAG_LAYOUT, layout);
    cr_builder_text(b, CR_TAG_REALM, realm);
}

static void peer_join(struct bench *bench, struct peer *peer, enum cr_role role)
{
    struct cr_builder b;
    peer_arrive(bench, peer, role);
    hello_begin(peer, &b, CR_WIRE_VERSION, CR_TABLE_LAYOUT, REALM);
    CHECK_STATUS(ask(peer, &b), CR_OK);
}

static void put_token(struct cr_builder *b, enum cr_tag tag, const struct cr_token *token)
{
    cr_builder_bytes(b, tag, token->text, CR_TOKEN_CHARS);
}

static void put_id(struct cr_builder *b, const struct cr_session_id *id)
{
    cr_builder_bytes(b, CR_TAG_ID, id->text, CR_SESSION_ID_CHARS);
}

struct made {
    struct cr_session_id id;
    struct cr_token token;
};

static bool create(struct peer *app, const char *user, struct made *out)
{
    struct cr_builder b;
    struct cr_session session = CR_SESSION_INIT;
    ask_begin(app, &b, CR_OP_CREATE);
    if (user != NULL)
        cr_builder_text(&b, CR_TAG_USER, user);
    if (!CHECK_STATUS(ask(app, &b), CR_OK))
        return false;
    const struct cr_field *field = cr_message_field(&app->message, CR_TAG_SESSION);
    if (!CHECK(field != NULL && cr_field_session(field, &session)) ||
        !CHECK(cr_message_token(&app->message, CR_TAG_TOKEN, &out->token)))
        return false;
    out->id = session.id;
    return true;
}

/* The `number`th token that nobody made, from `address`; NULL: it does not say where it is from. */
static enum cr_status guess(struct peer *peer, const char *address, uint64_t number)
{
    struct cr_builder b;
    char text[CR_TOKEN_CHARS + 1];
    snprintf(text, sizeof text, "crs1_%0*llu", CR_TOKEN_CHARS - 5, (unsigned long long)number);
    ask_begin(peer, &b, CR_OP_VALIDATE);
    cr_builder_bytes(&b, CR_TAG_TOKEN, text, CR_TOKEN_CHARS);
    cr_builder_text(&b, CR_TAG_ADDRESS, address);
    enum cr_status st = ask(peer, &b);
    free(peer->replies[--peer->count].bytes);
    return st;
}

static enum cr_status validate(struct peer *peer, const struct cr_token *token)
{
    struct cr_builder b;
    ask_begin(peer, &b, CR_OP_VALIDATE);
    put_token(&b, CR_TAG_TOKEN, token);
    return ask(peer, &b);
}

/* Hello. */

static void the_first_message_must_be_a_hello(void)
{
    struct bench bench;
    struct peer peer;
    struct cr_builder b;
    if (!bench_open(&bench))
        return;
    peer_arrive(&bench, &peer, CR_ROLE_OPERATOR);
    ask_begin(&peer, &b, CR_OP_STATS);
    CHECK_STATUS(ask_send(&peer, &b), CR_E_PROTOCOL);
    hello_begin(&peer, &b, CR_WIRE_VERSION, CR_TABLE_LAYOUT, REALM);
    CHECK_STATUS(ask(&peer, &b), CR_OK);
    ask_begin(&peer, &b, CR_OP_STATS);
    CHECK_STATUS(ask(&peer, &b), CR_OK);
    hello_begin(&peer, &b, CR_WIRE_VERSION, CR_TABLE_LAYOUT, REALM);
    CHECK_STATUS(ask_send(&peer, &b), CR_E_PROTOCOL);
    peer_leave(&peer);
    bench_close(&bench);
}

static void neighbouring_versions_understand_each_other_and_others_are_told(void)
{
    static const struct {
        const char *name;
        uint64_t version;
        enum cr_status st;
    } cases[] = {
        {"ours", CR_WIRE_VERSION, CR_OK},
        {"the next", CR_WIRE_VERSION + 1, CR_OK},
        {"two ahead", CR_WIRE_VERSION + 2, CR_E_VERSION},
        {"none", 0, CR_E_VERSION},
        {"absurd", UINT64_MAX, CR_E_VERSION},
    };
    struct bench bench;
    if (!bench_open(&bench))
        return;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct peer peer;
        struct cr_builder b;
        tap_row(cases[i].name);
        peer_arrive(&bench, &peer, CR_ROLE_APP);
        hello_begin(&peer, &b, cases[i].version, CR_TABLE_LAYOUT, REALM);
        CHECK_STATUS(ask(&peer, &b), cases[i].st);
        peer_leave(&peer);
    }
    tap_row(NULL);
    bench_close(&bench);
}

static void another_realm_is_refused_with_both_named(void)
{
    struct bench bench;
    struct peer peer;
    struct cr_builder b;
    char text[1200];
    if (!bench_open(&bench))
        return;
    peer_arrive(&bench, &peer, CR_ROLE_APP);
    hello_begin(&peer, &b, CR_WIRE_VERSION, CR_TABLE_LAYOUT, "elsewhere");
    CHECK_STATUS(ask(&peer, &b), CR_E_REFUSED);
    if (CHECK(cr_message_text(&peer.message, CR_TAG_TEXT, text, sizeof text))) {
        CHECK(strstr(text, "\"elsewhere\"") != NULL);
        CHECK(strstr(text, "\"" REALM "\"") != NULL);
    }
    peer_leave(&peer);
    bench_close(&bench);
}

static void only_who_knows_the_layout_gets_the_table(void)
{
    struct bench bench;
    struct peer knows, other;
    struct cr_builder b;
    if (!bench_open(&bench))
        return;
    peer_join(&bench, &knows, CR_ROLE_APP);
    CHECK(knows.replies[0].fd >= 0);
    peer_arrive(&bench, &other, CR_ROLE_APP);
    hello_begin(&other, &b, CR_WIRE_VERSION, CR_TABLE_LAYOUT + 1, REALM);
    CHECK_STATUS(ask(&other, &b), CR_OK);
    CHECK_INT(other.replies[0].fd, -1);
    /* A new table goes to the one, and the other hears that there is one. */
    cr_service_table_changed(bench.service, cr_engine_table_fd(bench.engine));
    CHECK(knows.replies[knows.count - 1].fd >= 0);
    CHECK_INT(other.replies[other.count - 1].fd, -1);
    CHECK_STATUS(peer_last(&other), CR_OK);
    CHECK_UINT(other.message.op, CR_OP_SEGMENT);
    CHECK_UINT(cr_message_u64(&other.message, CR_TAG_CACHE, 0), CR_CACHE_SHARED);
    peer_leave(&knows);
    peer_leave(&other);
    bench_close(&bench);
}

/* Roles and authority. */

static void an_http_peer_makes_nothing_and_ends_nobody(void)
{
    static const enum cr_op denied[] = {CR_OP_CREATE, CR_OP_END_ALL, CR_OP_ACCOUNT_LIST};
    struct bench bench;
    struct peer http;
    if (!bench_open(&bench))
        return;
    peer_join(&bench, &http, CR_ROLE_HTTP);
    for (size_t i = 0; i < sizeof denied / sizeof denied[0]; i++) {
        struct cr_builder b;
        ask_begin(&http, &b, denied[i]);
        CHECK_STATUS(ask(&http, &b), CR_DENIED);
    }
    peer_leave(&http);
    bench_close(&bench);
}

/* ASVS D5, H8: each thing that can be done to a session by its id, to one's own and to another's.
 */
/* What `peer` is told of what has ended: one session, or none. `authority` and `user` may be NULL.
 */
static void past_is(struct peer *peer, const struct cr_token *authority, const char *user,
                    const struct cr_session_id *id)
{
    struct cr_builder b;
    struct cr_past_session past;
    ask_begin(peer, &b, CR_OP_PAST);
    if (authority != NULL)
        put_token(&b, CR_TAG_AUTHORITY, authority);
    cr_builder_text(&b, CR_TAG_USER, user);
    CHECK_STATUS(ask(peer, &b), CR_OK);
    const struct cr_field *field = cr_message_field(&peer->message, CR_TAG_PAST);
    if (!CHECK((field != NULL) == (id != NULL)) || field == NULL)
        return;
    CHECK(cr_field_past(field, &past));
    CHECK(cr_session_id_equal(&past.id, id));
    CHECK(cr_message_next(&peer->message, CR_TAG_PAST, field) == NULL);
}

static void a_bearer_acts_on_its_own_users_sessions_only(void)
{
    static const enum cr_op ops[] = {CR_OP_DATA_READ, CR_OP_DATA_WRITE, CR_OP_EXPLAIN, CR_OP_END};
    struct bench bench;
    struct peer app, http;
    struct made anna, anna2, ben;
    if (!bench_open(&bench))
        return;
    peer_join(&bench, &app, CR_ROLE_APP);
    peer_join(&bench, &http, CR_ROLE_HTTP);
    if (!create(&app, "anna", &anna) || !create(&app, "anna", &anna2) || !create(&app, "ben", &ben))
        return;
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        const struct {
            const char *name;
            const struct made *target;
            enum cr_status st;
        } cases[] = {{"another user's", &ben, CR_NOT_FOUND},
                     {"another device", &anna2, CR_OK},
                     {"itself", &anna, CR_OK}};
        for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
            struct cr_builder b;
            tap_row(cases[k].name);
            ask_begin(&http, &b, ops[i]);
            put_token(&b, CR_TAG_AUTHORITY, &anna.token);
            put_id(&b, &cases[k].target->id);
            if (ops[i] == CR_OP_DATA_WRITE) {
                cr_builder_u64(&b, CR_TAG_VERSION, CR_VERSION_ANY);
                cr_builder_text(&b, CR_TAG_DATA, "x");
            }
            CHECK_STATUS(ask(&http, &b), cases[k].st);
        }
    }
    tap_row(NULL);
    CHECK_STATUS(validate(&http, &ben.token), CR_OK);
    CHECK_STATUS(validate(&http, &anna.token), CR_ENDED);
    CHECK_STATUS(validate(&http, &anna2.token), CR_ENDED);
    peer_leave(&app);
    peer_leave(&http);
    bench_close(&bench);
}

static void a_bearer_lists_itself_and_ends_all_but_itself(void)
{
    struct bench bench;
    struct peer app, http;
    struct made anna, anna2, ben;
    struct cr_builder b;
    if (!bench_open(&bench))
        return;
    peer_join(&bench, &app, CR_ROLE_APP);
    peer_join(&bench, &http, CR_ROLE_HTTP);
    if (!create(&app, "anna", &anna) || !create(&app, "anna", &anna2) || !create(&app, "ben", &ben))
        return;
    ask_begin(&http, &b, CR_OP_LIST);
    put_token(&b, CR_TAG_AUTHORITY, &anna.token);
    CHECK_STATUS(ask(&http, &b), CR_OK);
    size_t count = 0;
    const struct cr_field *field = NULL;
    while ((field = cr_message_next(&http.message, CR_TAG_SESSION, field)) != NULL)
        count++;
    CHECK_UINT(count, 2);
    ask_begin(&http, &b, CR_OP_LIST);
    put_token(&b, CR_TAG_AUTHORITY, &anna.token);
    cr_builder_text(&b, CR_TAG_USER, "ben");
    CHECK_STATUS(ask(&http, &b), CR_DENIED);
    ask_begin(&http, &b, CR_OP_PAST);
    put_token(&b, CR_TAG_AUTHORITY, &anna.token);
    CHECK_STATUS(ask(&http, &b), CR_OK);
    CHECK(cr_message_field(&http.message, CR_TAG_PAST) == NULL);
    ask_begin(&http, &b, CR_OP_PAST);
    put_token(&b, CR_TAG_AUTHORITY, &anna.token);
    cr_builder_text(&b, CR_TAG_USER, "ben");
    CHECK_STATUS(ask(&http, &b), CR_DENIED);
    ask_begin(&app, &b, CR_OP_PAST);
    CHECK_STATUS(ask(&app, &b), CR_E_INVALID);
    /* A page that goes on after a time, but after no session: found by fuzzing. */
    ask_begin(&http, &b, CR_OP_LIST);
    put_token(&b, CR_TAG_AUTHORITY, &anna.token);
    cr_builder_u64(&b, CR_TAG_CREATED, 1);
    CHECK_STATUS(ask(&http, &b), CR_E_INVALID);
    /* The id that it names does not matter: the one that it proves to hold stays. */
    ask_begin(&http, &b, CR_OP_END_OTHERS);
    put_token(&b, CR_TAG_AUTHORITY, &anna.token);
    put_id(&b, &ben.id);
    CHECK_STATUS(ask(&http, &b), CR_OK);
    CHECK_STATUS(validate(&app, &anna.token), CR_OK);
    CHECK_STATUS(validate(&app, &anna2.token), CR_ENDED);
    CHECK_STATUS(validate(&app, &ben.token), CR_OK);
    past_is(&http, &anna.token, NULL, &anna2.id);
    past_is(&http, &anna.token, "anna", &anna2.id);
    past_is(&http, &ben.token, NULL, NULL);
    past_is(&app, NULL, "anna", &anna2.id);
    past_is(&app, NULL, "ben", NULL);
    peer_leave(&app);
    peer_leave(&http);
    bench_close(&bench);
}

static void a_false_authority_gets_nothing(void)
{
    struct bench bench;
    struct peer app, http;
    struct made anna, ended;
    struct cr_builder b;
    if (!bench_open(&bench))
        return;
    peer_join(&bench, &app, CR_ROLE_APP);
    peer_join(&bench, &http, CR_ROLE_HTTP);
    if (!create(&app, "anna", &anna) || !create(&app, "anna", &ended))
        return;
    struct cr_token forged = anna.token;
    forged.text[40] = forged.text[40] == 'A' ? 'B' : 'A';
    ask_begin(&http, &b, CR_OP_END);
    put_token(&b, CR_TAG_AUTHORITY, &forged);
    put_id(&b, &anna.id);
    CHECK_STATUS(ask(&http, &b), CR_DENIED);
    ask_begin(&app, &b, CR_OP_END);
    put_id(&b, &ended.id);
    CHECK_STATUS(ask(&app, &b), CR_OK);
    ask_begin(&http, &b, CR_OP_END);
    put_token(&b, CR_TAG_AUTHORITY, &ended.token);
    put_id(&b, &anna.id);
    CHECK_STATUS(ask(&http, &b), CR_ENDED);
    /* But why it is over, its bearer may know. */
    ask_begin(&http, &b, CR_OP_EXPLAIN);
    put_token(&b, CR_TAG_AUTHORITY, &ended.token);
    put_id(&b, &ended.id);
    CHECK_STATUS(ask(&http, &b), CR_OK);
    /* And not what became of the session since its token was replaced. */
    ask_begin(&app, &b, CR_OP_ROTATE);
    put_token(&b, CR_TAG_TOKEN, &anna.token);
    cr_builder_u64(&b, CR_TAG_ROTATION, CR_ROTATE_PRIVILEGE);
    CHECK_STATUS(ask(&app, &b), CR_OK);
    struct cr_token next;
    struct cr_explanation why = {.size = sizeof why};
    CHECK(cr_message_token(&app.message, CR_TAG_TOKEN, &next));
    ask_begin(&http, &b, CR_OP_EXPLAIN);
    put_token(&b, CR_TAG_AUTHORITY, &anna.token);
    put_id(&b, &anna.id);
    CHECK_STATUS(ask(&http, &b), CR_OK);
    const struct cr_field *field = cr_message_field(&http.message, CR_TAG_EXPLANATION);
    if (CHECK(field != NULL) && CHECK(cr_field_explanation(field, &why))) {
        CHECK(!why.live);
        CHECK_INT(why.reason, CR_REASON_ROTATED);
        CHECK_INT(why.at, 1700000000000);
        CHECK_INT(why.seen_at, 0);
    }
    ask_begin(&http, &b, CR_OP_EXPLAIN);
    put_token(&b, CR_TAG_AUTHORITY, &next);
    put_id(&b, &anna.id);
    CHECK_STATUS(ask(&http, &b), CR_OK);
    field = cr_message_field(&http.message, CR_TAG_EXPLANATION);
    if (CHECK(field != NULL) && CHECK(cr_field_explanation(field, &why))) {
        CHECK(why.live);
        CHECK_UINT(why.rotation_count, 1);
    }
    CHECK_STATUS(validate(&app, &next), CR_OK);
    peer_leave(&app);
    peer_leave(&http);
    bench_close(&bench);
}

/* Bounds. */

static void lock_ask(struct peer *peer, const char *name, uint64_t wait)
{
    struct cr_builder b;
    ask_begin(peer, &b, CR_OP_LOCK_TAKE);
    cr_builder_text(&b, CR_TAG_NAME, name);
    cr_builder_u64(&b, CR_TAG_WAIT, wait);
    CHECK_STATUS(ask_send(peer, &b), CR_OK);
}

static void a_client_with_too_much_under_way_is_told_busy_and_others_are_served(void)
{
    struct bench bench;
    struct peer holder, greedy;
    struct cr_builder b;
    if (!bench_open(&bench))
        return;
    peer_join(&bench, &holder, CR_ROLE_APP);
    peer_join(&bench, &greedy, CR_ROLE_APP);
    lock_ask(&holder, "nightly", 0);
    CHECK_STATUS(peer_last(&holder), CR_OK);
    for (int i = 0; i < REQUESTS_MAX; i++)
        lock_ask(&greedy, "nightly", 60000);
    CHECK_UINT(greedy.count, 1); /* its hello */
    ask_begin(&greedy, &b, CR_OP_STATS);
    CHECK_STATUS(ask(&greedy, &b), CR_BUSY);
    ask_begin(&holder, &b, CR_OP_STATS);
    CHECK_STATUS(ask(&holder, &b), CR_OK);
    peer_leave(&greedy);
    peer_leave(&holder);
    bench_close(&bench);
}

static void the_locks_of_a_client_that_leaves_go_to_who_waits(void)
{
    struct bench bench;
    struct peer holder, waiter;
    if (!bench_open(&bench))
        return;
    peer_join(&bench, &holder, CR_ROLE_APP);
    peer_join(&bench, &waiter, CR_ROLE_APP);
    lock_ask(&holder, "nightly", 0);
    CHECK_STATUS(peer_last(&holder), CR_OK);
    uint64_t fence = cr_message_u64(&holder.message, CR_TAG_LOCK, 0);
    lock_ask(&waiter, "nightly", 60000);
    CHECK_UINT(waiter.count, 1);
    peer_leave(&holder);
    CHECK_UINT(waiter.count, 2);
    CHECK_STATUS(peer_last(&waiter), CR_OK);
    CHECK(cr_message_u64(&waiter.message, CR_TAG_LOCK, 0) > fence);
    peer_leave(&waiter);
    bench_close(&bench);
}

static void a_lock_is_given_back_by_its_fence_only(void)
{
    struct bench bench;
    struct peer holder;
    struct cr_builder b;
    if (!bench_open(&bench))
        return;
    peer_join(&bench, &holder, CR_ROLE_APP);
    lock_ask(&holder, "nightly", 0);
    CHECK_STATUS(peer_last(&holder), CR_OK);
    uint64_t fence = cr_message_u64(&holder.message, CR_TAG_LOCK, 0);
    for (int i = 1; i >= 0; i--) {
        ask_begin(&holder, &b, CR_OP_LOCK_GIVE);
        cr_builder_text(&b, CR_TAG_NAME, "nightly");
        cr_builder_u64(&b, CR_TAG_LOCK, fence + (uint64_t)i);
        CHECK_STATUS(ask(&holder, &b), i == 0 ? CR_OK : CR_LOST);
    }
    lock_ask(&holder, "nightly", 0);
    CHECK_STATUS(peer_last(&holder), CR_OK);
    peer_leave(&holder);
    bench_close(&bench);
}

static uint64_t newest_fence(struct peer *peer, const char *name)
{
    struct cr_builder b;
    ask_begin(peer, &b, CR_OP_LOCK_READ);
    cr_builder_text(&b, CR_TAG_NAME, name);
    CHECK_STATUS(ask(peer, &b), CR_OK);
    return cr_message_u64(&peer->message, CR_TAG_LOCK, 0);
}

static void the_newest_fence_of_a_lock_is_told_to_who_does_not_take_it(void)
{
    struct bench bench;
    struct peer holder, other;
    if (!bench_open(&bench))
        return;
    peer_join(&bench, &holder, CR_ROLE_APP);
    peer_join(&bench, &other, CR_ROLE_APP);
    CHECK_UINT(newest_fence(&other, "nightly"), 0);
    CHECK_UINT(newest_fence(&other, "nightly"), 0);
    lock_ask(&holder, "nightly", 0);
    CHECK_STATUS(peer_last(&holder), CR_OK);
    uint64_t fence = cr_message_u64(&holder.message, CR_TAG_LOCK, 0);
    CHECK_UINT(fence, 1);
    CHECK_UINT(newest_fence(&other, "nightly"), fence);
    peer_leave(&holder); /* given back, and still the newest */
    CHECK_UINT(newest_fence(&other, "nightly"), fence);
    CHECK_UINT(newest_fence(&other, "hourly"), 0);
    lock_ask(&other, "nightly", 0);
    CHECK_UINT(newest_fence(&other, "nightly"), fence + 1);
    peer_leave(&other);
    bench_close(&bench);
}

static void bad_bytes_cost_their_sender_the_connection_and_nobody_else_anything(void)
{
    struct bench bench;
    struct peer bad, good;
    struct made anna;
    unsigned char noise[200];
    if (!bench_open(&bench))
        return;
    peer_join(&bench, &good, CR_ROLE_APP);
    if (!create(&good, "anna", &anna))
        return;
    for (int i = 0; i < 200; i++) {
        size_t count = 1 + tap_random_below(sizeof noise);
        for (size_t k = 0; k < count; k++)
            noise[k] = (unsigned char)tap_random();
        peer_join(&bench, &bad, CR_ROLE_APP);
        CHECK_STATUS(cr_client_receive(bad.client, noise, count), CR_E_PROTOCOL);
        peer_leave(&bad);
    }
    CHECK_STATUS(validate(&good, &anna.token), CR_OK);
    peer_leave(&good);
    bench_close(&bench);
}

static void a_service_that_stops_answers_unavailable_and_never_not_found(void)
{
    struct bench bench;
    struct peer app;
    struct made anna;
    if (!bench_open(&bench))
        return;
    peer_join(&bench, &app, CR_ROLE_APP);
    if (!create(&app, "anna", &anna))
        return;
    cr_service_stop(bench.service);
    CHECK_STATUS(validate(&app, &anna.token), CR_UNAVAILABLE);
    peer_leave(&app);
    bench_close(&bench);
}

/* The application's own table. */

static void put_key(struct cr_builder *b, const char *key)
{
    struct cr_session_id id;
    struct cr_token_hash hash;
    unsigned char bytes[CR_SESSION_ID_CHARS - 4 + CR_TOKEN_HASH_BYTES];
    cr_engine_table_key(key, strlen(key), &id, &hash);
    memcpy(bytes, id.text + 4, CR_SESSION_ID_CHARS - 4);
    memcpy(bytes + CR_SESSION_ID_CHARS - 4, hash.bytes, sizeof hash.bytes);
    cr_builder_bytes(b, CR_TAG_KEY, bytes, sizeof bytes);
}

static enum cr_status fill(struct bench *bench, struct peer *app, const char *key, uint64_t stamp)
{
    struct cr_builder b;
    ask_begin(app, &b, CR_OP_FILL);
    put_key(&b, key);
    cr_builder_text(&b, CR_TAG_USER, "anna");
    cr_builder_text(&b, CR_TAG_DATA, "value");
    cr_builder_u64(&b, CR_TAG_STAMP, stamp);
    cr_builder_u64(&b, CR_TAG_DEADLINE, cr_boot_add(cr_clock_boot(&bench->clock.clock), 60000));
    return ask(app, &b);
}

static enum cr_status lookup(struct peer *app, const char *key)
{
    struct cr_builder b;
    ask_begin(app, &b, CR_OP_LOOKUP);
    put_key(&b, key);
    return ask(app, &b);
}

static uint64_t fill_begin(struct peer *app)
{
    struct cr_builder b;
    ask_begin(app, &b, CR_OP_FILL_BEGIN);
    CHECK_STATUS(ask(app, &b), CR_OK);
    return cr_message_u64(&app->message, CR_TAG_STAMP, UINT64_MAX);
}

static void pass(struct bench *bench, cr_span_ms span)
{
    cr_clock_fake_advance(&bench->clock, span);
    (void)cr_loop_inline_run(bench->loop);
}

/* ASVS C2: the agent may have been at something else for ten minutes. */
static void a_use_counts_from_when_it_was_and_not_from_when_it_was_heard_of(void)
{
    struct bench bench;
    struct peer app;
    struct made made;
    struct cr_builder b;
    if (!bench_open(&bench))
        return;
    peer_join(&bench, &app, CR_ROLE_APP);
    if (create(&app, "ada", &made)) {
        cr_clock_fake_advance(&bench.clock, 600000);
        cr_boot_ns used = bench.clock.now_boot;
        cr_clock_fake_advance(&bench.clock, 600000);
        ask_begin(&app, &b, CR_OP_SEEN);
        put_id(&b, &made.id);
        cr_builder_u64(&b, CR_TAG_BOOT, used);
        CHECK_STATUS(ask_send(&app, &b), CR_OK);
        pass(&bench, CR_FLUSH_MS);
        /* Half an hour, the slack of the store, and a second after that use. */
        pass(&bench, 1200000 + CR_SEEN_SLACK(1800000) + 1000 - CR_FLUSH_MS);
        CHECK_STATUS(validate(&app, &made.token), CR_ENDED);
    }
    peer_leave(&app);
    bench_close(&bench);
}

static void a_use_in_the_future_counts_from_now(void)
{
    struct bench bench;
    struct peer app;
    struct made made;
    struct cr_builder b;
    if (!bench_open(&bench))
        return;
    peer_join(&bench, &app, CR_ROLE_APP);
    if (create(&app, "ada", &made)) {
        ask_begin(&app, &b, CR_OP_SEEN);
        put_id(&b, &made.id);
        cr_builder_u64(&b, CR_TAG_BOOT, UINT64_MAX);
        CHECK_STATUS(ask_send(&app, &b), CR_OK);
        pass(&bench, CR_FLUSH_MS);
        pass(&bench, 1800000 + CR_SEEN_SLACK(1800000) + 1000 - CR_FLUSH_MS);
        CHECK_STATUS(validate(&app, &made.token), CR_ENDED);
    }
    peer_leave(&app);
    bench_close(&bench);
}

static void a_fill_that_read_before_an_ending_is_not_believed(void)
{
    struct bench bench;
    struct peer app;
    struct cr_builder b;
    if (!bench_open_with(&bench, false, CR_CACHE_MEMORY))
        return;
    peer_join(&bench, &app, CR_ROLE_APP);
    CHECK_STATUS(fill(&bench, &app, "key", fill_begin(&app)), CR_OK);
    CHECK_STATUS(lookup(&app, "key"), CR_OK);
    CHECK_STATUS(lookup(&app, "another"), CR_ASK);

    uint64_t stamp = fill_begin(&app);
    ask_begin(&app, &b, CR_OP_INVALIDATE);
    put_key(&b, "key");
    CHECK_STATUS(ask(&app, &b), CR_OK);
    CHECK_STATUS(lookup(&app, "key"), CR_ASK);
    CHECK_STATUS(fill(&bench, &app, "key", stamp), CR_OK);
    CHECK_STATUS(lookup(&app, "key"), CR_ASK);

    stamp = fill_begin(&app);
    ask_begin(&app, &b, CR_OP_END_USER);
    cr_builder_text(&b, CR_TAG_USER, "anna");
    CHECK_STATUS(ask(&app, &b), CR_OK);
    CHECK_STATUS(fill(&bench, &app, "key", stamp), CR_OK);
    CHECK_STATUS(lookup(&app, "key"), CR_ASK);
    CHECK_STATUS(fill(&bench, &app, "key", fill_begin(&app)), CR_OK);
    CHECK_STATUS(lookup(&app, "key"), CR_OK);
    /* From the future: it would outlive endings to come. */
    CHECK_STATUS(fill(&bench, &app, "key", fill_begin(&app) + 1), CR_E_INVALID);
    peer_leave(&app);
    bench_close(&bench);
}

static void a_table_without_a_store_has_no_sessions(void)
{
    struct bench bench;
    struct peer app;
    struct cr_builder b;
    if (!bench_open_with(&bench, false, CR_CACHE_MEMORY))
        return;
    peer_join(&bench, &app, CR_ROLE_APP);
    ask_begin(&app, &b, CR_OP_CREATE);
    CHECK_STATUS(ask(&app, &b), CR_E_INVALID);
    CHECK(cr_message_field(&app.message, CR_TAG_TEXT) != NULL);
    ask_begin(&app, &b, CR_OP_LOCK_TAKE);
    cr_builder_text(&b, CR_TAG_NAME, "nightly");
    CHECK_STATUS(ask(&app, &b), CR_E_INVALID);
    peer_leave(&app);
    bench_close(&bench);
}

/* Tokens that nobody made. */

static void who_guesses_is_refused_and_nobody_else(void)
{
    struct bench bench;
    struct peer http, app;
    struct made made, ended;
    struct cr_builder b;
    uint64_t unknown, noticed, number = 0;
    if (!bench_open(&bench))
        return;
    peer_join(&bench, &http, CR_ROLE_HTTP);
    peer_join(&bench, &app, CR_ROLE_APP);
    if (!create(&app, "anna", &made) || !create(&app, "bert", &ended))
        return;
    ask_begin(&app, &b, CR_OP_END);
    put_id(&b, &ended.id);
    CHECK_STATUS(ask(&app, &b), CR_OK);
    for (size_t i = 0; i < 100; i++)
        CHECK_STATUS(guess(&http, "192.0.2.1", number++), CR_NOT_FOUND);
    for (size_t i = 0; i < 50; i++)
        CHECK_STATUS(guess(&http, "192.0.2.1", number++), CR_LIMITED);
    cr_guesses_count(bench.service, &unknown, &noticed);
    CHECK_UINT(unknown, 150);
    CHECK_UINT(noticed, 1);

    tap_row("others, the same token again, and genuine ones from there");
    CHECK_STATUS(guess(&http, "192.0.2.2", number++), CR_NOT_FOUND);
    CHECK_STATUS(guess(&http, "192.0.2.1", 7), CR_NOT_FOUND);
    ask_begin(&http, &b, CR_OP_VALIDATE);
    put_token(&b, CR_TAG_TOKEN, &made.token);
    cr_builder_text(&b, CR_TAG_ADDRESS, "192.0.2.1");
    CHECK_STATUS(ask(&http, &b), CR_OK);
    ask_begin(&http, &b, CR_OP_VALIDATE);
    put_token(&b, CR_TAG_TOKEN, &ended.token);
    cr_builder_text(&b, CR_TAG_ADDRESS, "192.0.2.1");
    CHECK_STATUS(ask(&http, &b), CR_ENDED);

    tap_row("a stale cookie, asked about again and again");
    for (size_t i = 0; i < 300; i++)
        CHECK_STATUS(guess(&http, "192.0.2.3", 1000000), CR_NOT_FOUND);
    tap_row("an IPv6 network, whatever the address in it");
    for (size_t i = 0; i < 101; i++) {
        char address[64];
        snprintf(address, sizeof address, "2001:db8::%zx", i);
        CHECK_STATUS(guess(&http, address, number++), i < 100 ? CR_NOT_FOUND : CR_LIMITED);
    }
    tap_row("an application says not where from: it is told, and refused nothing");
    for (size_t i = 0; i < 150; i++)
        CHECK_STATUS(guess(&app, "192.0.2.1", number++), CR_NOT_FOUND);
    cr_guesses_count(bench.service, &unknown, &noticed);
    CHECK_UINT(noticed, 3);
    tap_row("later");
    bench.clock.now_boot += 700 * 1000 * CR_NS_PER_MS;
    CHECK_STATUS(guess(&http, "192.0.2.1", number++), CR_NOT_FOUND);
    peer_leave(&http);
    peer_leave(&app);
    bench_close(&bench);
}

static void many_sources_take_no_more_memory_and_make_no_more_events(void)
{
    struct bench bench;
    struct peer http;
    uint64_t unknown, noticed;
    char address[64];
    if (!bench_open(&bench))
        return;
    peer_join(&bench, &http, CR_ROLE_HTTP);
    for (uint64_t i = 0; i < 60000; i++) {
        snprintf(address, sizeof address, "2001:%x:%x::1", (unsigned)(i >> 8), (unsigned)(i & 255));
        CHECK_STATUS(guess(&http, address, i), CR_NOT_FOUND);
    }
    CHECK(cr_guesses_entries(bench.service) <= 4096 + 8192);
    for (uint64_t i = 0; i < 40 * 101; i++) {
        snprintf(address, sizeof address, "198.51.100.%u", (unsigned)(i / 101));
        enum cr_status st = guess(&http, address, 100000 + i);
        CHECK(st == CR_NOT_FOUND || st == CR_LIMITED);
    }
    cr_guesses_count(bench.service, &unknown, &noticed);
    CHECK_UINT(unknown, 60000 + 40 * 101);
    CHECK_UINT(noticed, 20);
    CHECK(cr_guesses_entries(bench.service) <= 4096 + 8192);
    peer_leave(&http);
    bench_close(&bench);
}

int main(int argc, char **argv)
{
    static const struct tap_test tests[] = {
        TAP_TEST(the_first_message_must_be_a_hello),
        TAP_TEST(neighbouring_versions_understand_each_other_and_others_are_told),
        TAP_TEST(another_realm_is_refused_with_both_named),
        TAP_TEST(only_who_knows_the_layout_gets_the_table),
        TAP_TEST(an_http_peer_makes_nothing_and_ends_nobody),
        TAP_TEST(a_bearer_acts_on_its_own_users_sessions_only),
        TAP_TEST(a_bearer_lists_itself_and_ends_all_but_itself),
        TAP_TEST(a_false_authority_gets_nothing),
        TAP_TEST(a_client_with_too_much_under_way_is_told_busy_and_others_are_served),
        TAP_TEST(the_locks_of_a_client_that_leaves_go_to_who_waits),
        TAP_TEST(a_lock_is_given_back_by_its_fence_only),
        TAP_TEST(the_newest_fence_of_a_lock_is_told_to_who_does_not_take_it),
        TAP_TEST(bad_bytes_cost_their_sender_the_connection_and_nobody_else_anything),
        TAP_TEST(a_service_that_stops_answers_unavailable_and_never_not_found),
        TAP_TEST(a_use_counts_from_when_it_was_and_not_from_when_it_was_heard_of),
        TAP_TEST(a_use_in_the_future_counts_from_now),
        TAP_TEST(a_fill_that_read_before_an_ending_is_not_believed),
        TAP_TEST(a_table_without_a_store_has_no_sessions),
        TAP_TEST(who_guesses_is_refused_and_nobody_else),
        TAP_TEST(many_sources_take_no_more_memory_and_make_no_more_events),
    };
    return TAP_MAIN(tests, argc, argv);
}
