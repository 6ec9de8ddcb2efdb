/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages, both ways. A message is taken apart whole or not at all; what was taken apart is built
 * again and is then the same; so are the compound fields. A request goes to a service, over a store
 * in memory, from a peer of each role: whoever sends what breaks the protocol is cut, everything
 * else is answered with a message that can be read. A reply goes to the library's calls.
 *
 * An input begins with a letter. "b": the rest is a message, byte by byte. "h": its header and the
 * lengths of its fields are put right first. Others: decisions, from which a message is built.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cloakroom/account.h>
#include <cloakroom/key.h>

#include "base/bytes.h"
#include "fuzz/fuzz.h"
#include "room/internal.h"
#include "room/room.h"
#include "service/service.h"
#include "store/store.h"
#include "wire/bits.h"
#include "wire/layout.h"
#include "wire/ops.h"

#define REALM "fuzz"
#define ROLES 3
#define AGE_MAX 4000 /* inputs that one service sees */
#define KNOWN_MAX 16

static const char *const words[] = {"CRW1", "crs1_", "crp_", "anna", "b", "h", NULL};

/* ---- a service with a peer of each role */

static struct {
    struct cr_loop *loop;
    struct cr_clock_fake clock;
    struct cr_engine *engine;
    struct cr_leases *leases;
    struct cr_service *service;
    struct cr_client *clients[ROLES];
    unsigned age;
    size_t replies;
    uint64_t request; /* what the next message is numbered */
} bench;

static const enum cr_role roles[ROLES] = {CR_ROLE_HTTP, CR_ROLE_APP, CR_ROLE_OPERATOR};

/* What the service has made: later inputs are about these. */
static struct {
    struct cr_token tokens[KNOWN_MAX];
    struct cr_session_id ids[KNOWN_MAX];
    size_t tokens_seen, ids_seen;
} known;

static struct cr_room *room;

static void known_add(const struct cr_message *message)
{
    struct cr_session session = CR_SESSION_INIT;
    const struct cr_field *field = cr_message_field(message, CR_TAG_SESSION);
    if (field != NULL && cr_field_session(field, &session))
        known.ids[known.ids_seen++ % KNOWN_MAX] = session.id;
    if (cr_message_token(message, CR_TAG_TOKEN, &known.tokens[known.tokens_seen % KNOWN_MAX]))
        known.tokens_seen++;
}

static void peer_sent(void *context, const void *bytes, size_t count, int fd)
{
    static struct cr_message message;
    fuzz_must(cr_message_decode(bytes, count, &message) == CR_OK, "what is sent can be read");
    fuzz_must(fd < 0 || message.op == CR_OP_HELLO || message.op == CR_OP_SEGMENT,
              "a descriptor comes with a table only");
    if (message.request != 0) {
        fuzz_must(cr_op_row(message.op) != NULL, "a reply carries its request's op");
        bench.replies++;
    }
    known_add(&message);
}

static bool hello(struct cr_client *client)
{
    struct cr_builder b;
    cr_builder_init(&b, CR_OP_HELLO, CR_OK, ++bench.request);
    cr_builder_u64(&b, CR_TAG_VERSION, CR_WIRE_VERSION);
    bool good = cr_builder_finish(&b) && cr_client_receive(client, b.bytes, b.count) == CR_OK;
    cr_builder_fini(&b);
    return good;
}

static bool client_make(size_t i)
{
    struct cr_client_options options = {.role = roles[i], .label = "pid 1", .send = peer_sent};
    return cr_client_create(bench.service, &options, &bench.clients[i]) == CR_OK &&
           hello(bench.clients[i]);
}

static bool bench_open(void)
{
    struct cr_store *store = NULL;
    struct cr_store_env env;
    struct cr_error error = {.size = sizeof error};
    memset(&bench, 0, sizeof bench);
    memset(&known, 0, sizeof known);
    cr_clock_fake_init(&bench.clock, 1700000000000);
    if (cr_store_env_system(&env) != CR_OK)
        return false;
    env.clock = &bench.clock.clock;
    if (cr_loop_inline_create(&bench.clock.clock, &bench.loop) != CR_OK ||
        cr_store_open("memory:", &env, &store, &error) != CR_OK)
        return false;
    struct cr_engine_options options = {.loop = bench.loop,
                                        .random = cr_random_system(),
                                        .store = store,
                                        .realm = REALM,
                                        .label = "fuzz",
                                        .cache = CR_CACHE_SHARED,
                                        .cache_bytes = 1 << 20,
                                        .idle = 1800000,
                                        .absolute = 7200000,
                                        .lease = 5000,
                                        .poll = 1000};
    if (cr_engine_create(&options, &bench.engine, &error) != CR_OK ||
        cr_leases_create(bench.engine, &bench.leases) != CR_OK)
        return false;
    struct cr_service_options service = {
        .engine = bench.engine, .leases = bench.leases, .realm = REALM};
    if (cr_service_create(&service, &bench.service) != CR_OK)
        return false;
    for (size_t i = 0; i < ROLES; i++)
        if (!client_make(i))
            return false;
    return true;
}

static void bench_close(void)
{
    for (size_t i = 0; i < ROLES; i++)
        cr_client_destroy(bench.clients[i]);
    cr_service_stop(bench.service);
    cr_leases_destroy(bench.leases);
    cr_engine_destroy(bench.engine);
    cr_service_destroy(bench.service);
    cr_loop_inline_destroy(bench.loop);
}

static bool begin(void)
{
    struct cr_options options;
    struct cr_error error = {.size = sizeof error};
    cr_options_init(&options);
    options.mode = CR_MODE_DIRECT;
    return bench_open() && cr_open("memory:", &options, &room, &error) == CR_OK;
}

/* ---- compound fields: what was read is written, and read as the same */

/* The bytes of a built field, without its header. */
static struct cr_field built(struct cr_builder *b, enum cr_tag tag)
{
    fuzz_must(!b->failed && b->count >= CR_MESSAGE_HEADER_BYTES + FIELD_HEADER_BYTES,
              "what was read can be written");
    const unsigned char *field = b->bytes + CR_MESSAGE_HEADER_BYTES;
    return (struct cr_field){(uint16_t)tag,
                             (uint32_t)(b->count - CR_MESSAGE_HEADER_BYTES - FIELD_HEADER_BYTES),
                             field + FIELD_HEADER_BYTES};
}

static void same(const struct cr_builder *a, const struct cr_builder *b)
{
    fuzz_must(a->count == b->count && memcmp(a->bytes, b->bytes, a->count) == 0,
              "and is read as the same");
}

#define TWICE(type, value, tag, put, get)                                                          \
    do {                                                                                           \
        struct cr_builder first, second;                                                           \
        type again;                                                                                \
        memset(&again, 0, sizeof again);                                                           \
        cr_builder_init(&first, CR_OP_STATS, CR_OK, 1);                                            \
        cr_builder_init(&second, CR_OP_STATS, CR_OK, 1);                                           \
        put(&first, &(value));                                                                     \
        struct cr_field field_again = built(&first, tag);                                          \
        fuzz_must(get(&field_again, &again), "what was written can be read");                      \
        put(&second, &again);                                                                      \
        same(&first, &second);                                                                     \
        cr_builder_fini(&first);                                                                   \
        cr_builder_fini(&second);                                                                  \
    } while (0)

static void session_check(const struct cr_field *field)
{
    struct cr_session value = CR_SESSION_INIT;
    if (!cr_field_session(field, &value))
        return;
    struct cr_session_id id;
    fuzz_must(cr_session_id_parse(value.id.text, CR_SESSION_ID_CHARS, &id) == CR_OK,
              "it has an id");
    fuzz_must(value.rights_bytes <= CR_RIGHTS_BYTES_MAX && value.data_bytes <= CR_DATA_BYTES_MAX,
              "its lengths are within bounds");
    fuzz_must(memchr(value.address, '\0', sizeof value.address) != NULL &&
                  memchr(value.agent, '\0', sizeof value.agent) != NULL,
              "its texts are ended");
    TWICE(struct cr_session, value, CR_TAG_SESSION, cr_builder_session, cr_field_session);
}

static void compound_check(const struct cr_field *field)
{
    struct cr_explanation explanation = {.size = sizeof explanation};
    struct cr_stats stats = {.size = sizeof stats};
    struct cr_account account = {.size = sizeof account};
    struct cr_limit_view limit;
    struct cr_limit_count count;
    struct cr_key_state key = {.size = sizeof key};
    struct cr_past_session past;
    switch (field->tag) {
    case CR_TAG_SESSION:
        session_check(field);
        break;
    case CR_TAG_EXPLANATION:
        if (cr_field_explanation(field, &explanation))
            TWICE(struct cr_explanation, explanation, CR_TAG_EXPLANATION, cr_builder_explanation,
                  cr_field_explanation);
        break;
    case CR_TAG_STATS:
        if (cr_field_stats(field, &stats))
            TWICE(struct cr_stats, stats, CR_TAG_STATS, cr_builder_stats, cr_field_stats);
        break;
    case CR_TAG_ACCOUNT:
        if (cr_field_account(field, &account))
            TWICE(struct cr_account, account, CR_TAG_ACCOUNT, cr_builder_account, cr_field_account);
        break;
    case CR_TAG_LIMIT:
        if (cr_field_limit(field, &limit))
            TWICE(struct cr_limit_view, limit, CR_TAG_LIMIT, cr_builder_limit, cr_field_limit);
        break;
    case CR_TAG_LIMIT_COUNT:
        if (cr_field_limit_count(field, &count))
            TWICE(struct cr_limit_count, count, CR_TAG_LIMIT_COUNT, cr_builder_limit_count,
                  cr_field_limit_count);
        break;
    case CR_TAG_KEY_STATE:
        if (cr_field_key_state(field, &key))
            TWICE(struct cr_key_state, key, CR_TAG_KEY_STATE, cr_builder_key_state,
                  cr_field_key_state);
        break;
    case CR_TAG_PAST:
        if (cr_field_past(field, &past))
            TWICE(struct cr_past_session, past, CR_TAG_PAST, cr_builder_past, cr_field_past);
        break;
    default:
        break;
    }
}

/* ---- whole messages */

static void message_check(const unsigned char *bytes, size_t count,
                          const struct cr_message *message)
{
    static struct cr_message again;
    struct cr_builder b;
    cr_builder_init(&b, (enum cr_op)message->op, message->status, message->request);
    for (size_t i = 0; i < message->field_count; i++) {
        const struct cr_field *field = &message->fields[i];
        fuzz_must(field->bytes >= bytes && field->bytes + field->length <= bytes + count,
                  "a field is within the message");
        fuzz_must(cr_tag_row(field->tag) != NULL, "only tags that we know are given");
        cr_builder_bytes(&b, (enum cr_tag)field->tag, field->bytes, field->length);
        compound_check(field);
    }
    fuzz_must(cr_builder_finish(&b), "what was read can be built");
    fuzz_must(cr_message_decode(b.bytes, b.count, &again) == CR_OK, "what was built can be read");
    fuzz_must(again.op == message->op && again.request == message->request &&
                  again.status == message->status && again.field_count == message->field_count,
              "and has the same head");
    for (size_t i = 0; i < again.field_count; i++)
        fuzz_must(again.fields[i].tag == message->fields[i].tag &&
                      again.fields[i].length == message->fields[i].length &&
                      memcmp(again.fields[i].bytes, message->fields[i].bytes,
                             again.fields[i].length) == 0,
                  "and the same fields");
    cr_builder_fini(&b);
}

/* What one role may do, who has more may. */
static void admit_check(const struct cr_message *message)
{
    enum cr_status http = cr_message_admit(message, CR_ROLE_HTTP);
    enum cr_status app = cr_message_admit(message, CR_ROLE_APP);
    enum cr_status operators = cr_message_admit(message, CR_ROLE_OPERATOR);
    fuzz_must(http != CR_OK || app == CR_OK, "an application may what a worker may");
    fuzz_must(app != CR_OK || operators == CR_OK, "an operator may what an application may");
    fuzz_must(http != CR_OK || cr_message_field(message, CR_TAG_RIGHTS) == NULL,
              "no worker names rights");
    fuzz_must(http != CR_OK || !cr_op_row(message->op)->http_needs_authority ||
                  cr_message_field(message, CR_TAG_AUTHORITY) != NULL,
              "a worker proves whose session it acts for");
}

static void service_renew(void)
{
    if (++bench.age < AGE_MAX)
        return;
    bench_close();
    fuzz_must(bench_open(), "another service is made");
}

static void request_try(const unsigned char *bytes, size_t count, bool is_message)
{
    service_renew();
    for (size_t i = 0; i < ROLES; i++) {
        size_t replies = bench.replies;
        enum cr_status st = cr_client_receive(bench.clients[i], bytes, count);
        (void)cr_loop_inline_run(bench.loop);
        fuzz_must(st == CR_OK || st == CR_E_PROTOCOL, "it is taken, or its sender is cut");
        fuzz_must(st != CR_OK || is_message, "what is no message is not taken");
        fuzz_must(st == CR_OK || bench.replies == replies, "who is cut is not answered");
        fuzz_must(bench.replies <= replies + 1, "a request has one reply");
        if (st == CR_OK)
            continue;
        cr_client_destroy(bench.clients[i]);
        fuzz_must(client_make(i), "another peer comes");
    }
    cr_clock_fake_advance(&bench.clock, 7);
}

/* A call that was answered with these bytes. */
static struct cr_call *answered(enum cr_op op, const unsigned char *bytes, size_t count,
                                enum cr_status status)
{
    struct cr_call *call = cr_call_create(room, op, ROOM_REPEAT);
    fuzz_must(call != NULL, "there is memory");
    call->reply = malloc(count);
    fuzz_must(call->reply != NULL, "there is memory");
    memcpy(call->reply, bytes, count);
    call->reply_count = count;
    call->life = room->life;
    call->status = status;
    call->done = call->sent = true;
    return call;
}

static void reply_try(const unsigned char *bytes, size_t count, enum cr_status status)
{
    static struct cr_session sessions[64];
    static struct cr_past_session past[CR_PAST_MAX];
    static unsigned char data[CR_DATA_BYTES_MAX];
    struct cr_session session = CR_SESSION_INIT;
    struct cr_explanation explanation = {.size = sizeof explanation};
    struct cr_stats stats = {.size = sizeof stats};
    struct cr_ended ended = {.size = sizeof ended};
    struct cr_login_note note = {.size = sizeof note};
    struct cr_cursor cursor = {0};
    struct cr_login login;
    struct cr_session_id id;
    size_t number = 0;
    uint64_t version = 0;
#define CALL(op) answered(op, bytes, count, status)
    if (cr_validate_finish(CALL(CR_OP_VALIDATE), &session) == CR_OK)
        fuzz_must(status == CR_OK &&
                      cr_session_id_parse(session.id.text, CR_SESSION_ID_CHARS, &id) == CR_OK,
                  "a session that is taken is one");
    struct cr_call *call = CALL(CR_OP_LOGIN_PASSWORD);
    cr_login_password_note(call, &note);
    fuzz_must(memchr(note.device, '\0', sizeof note.device) != NULL, "a device cookie is ended");
    if (cr_login_password_finish(call, &login) == CR_OK)
        fuzz_must(strlen(login.signed_token.text) <= CR_TOKEN_CHARS &&
                      memcmp(login.signed_token.text, "crs1_", 5) == 0,
                  "a login that is taken has a token");
    if (cr_data_read_finish(CALL(CR_OP_DATA_READ), data, sizeof data, &number, &version) == CR_OK)
        fuzz_must(number <= sizeof data, "data fit");
    if (cr_sessions_of_finish(CALL(CR_OP_LIST), &cursor, sessions, 64, &number) == CR_OK)
        fuzz_must(number <= 64, "a list fits");
    if (cr_past_of_finish(CALL(CR_OP_PAST), past, &number) == CR_OK)
        fuzz_must(number <= CR_PAST_MAX, "and one of what ended");
    enum cr_status st = cr_end_finish(CALL(CR_OP_END), &ended);
    fuzz_must(st == status, "an ending's status is the reply's");
    st = cr_data_write_finish(CALL(CR_OP_DATA_WRITE), &version);
    fuzz_must(st == status, "and a write's");
    st = cr_explain_finish(CALL(CR_OP_EXPLAIN), &explanation);
    fuzz_must(st != CR_OK || explanation.rotation_count <= CR_ROTATIONS_TOLD_MAX,
              "an explanation's bounds hold");
    st = cr_stats_finish(CALL(CR_OP_STATS), &stats);
    fuzz_must(st != CR_OK || status == CR_OK, "statistics come with a good reply only");
#undef CALL
}

/* ---- inputs */

static void bytes_try(const unsigned char *bytes, size_t count)
{
    static struct cr_message message;
    bool good = cr_message_decode(bytes, count, &message) == CR_OK;
    if (good) {
        fuzz_taken();
        message_check(bytes, count, &message);
        admit_check(&message);
        reply_try(bytes, count, message.status);
    } else {
        fuzz_refused();
    }
    request_try(bytes, count, good);
}

/* Magic, totals, and lengths that go beyond the end. */
static void header_try(const unsigned char *data, size_t count)
{
    unsigned char *bytes = malloc(count > 0 ? count : 1);
    size_t fields = 0, at = CR_MESSAGE_HEADER_BYTES;
    if (bytes == NULL || count < CR_MESSAGE_HEADER_BYTES)
        goto out;
    memcpy(bytes, data, count);
    cr_put_le(bytes + HEADER_MAGIC, CR_WIRE_MAGIC, 4);
    cr_put_le(bytes + HEADER_ZERO, 0, 2);
    cr_put_le(bytes + HEADER_STATUS, bytes[HEADER_STATUS] % 32, 2);
    bytes[HEADER_OP + 1] = 0;
    while (fields < CR_MESSAGE_FIELDS_MAX && count - at >= FIELD_HEADER_BYTES) {
        size_t left = count - at - FIELD_HEADER_BYTES;
        uint64_t length = cr_get_le(bytes + at + FIELD_LENGTH, 4) % 1024;
        cr_put_le(bytes + at + FIELD_ZERO, 0, 2);
        cr_put_le(bytes + at + FIELD_LENGTH, length < left ? length : left, 4);
        at += FIELD_HEADER_BYTES + (length < left ? (size_t)length : left);
        fields++;
    }
    cr_put_le(bytes + HEADER_FIELDS, fields, 2);
    cr_put_le(bytes + HEADER_BYTES, at, 4);
    bytes_try(bytes, at);
out:
    free(bytes);
}

static void compound_put(struct cr_builder *b, struct fuzz_input *input, enum cr_tag tag)
{
    const struct cr_tag_row *row = cr_tag_row((uint16_t)tag);
    size_t count, most = fuzz_u8(input);
    const unsigned char *bytes = fuzz_bytes(input, most, &count);
    if (count >= row->least && count <= row->most)
        cr_builder_bytes(b, tag, bytes, count);
}

/* One field of a length that its tag may have; what names somebody names one who was made. */
static void field_put(struct cr_builder *b, struct fuzz_input *input)
{
    uint8_t choice = fuzz_u8(input);
    uint16_t tag = (uint16_t)(choice % (CR_TAG_END_OF_LIST - 1) + 1);
    const struct cr_tag_row *row = cr_tag_row(tag);
    if (row == NULL)
        return;
    if ((tag == CR_TAG_TOKEN || tag == CR_TAG_AUTHORITY || tag == CR_TAG_ANONYMOUS) &&
        known.tokens_seen > 0)
        cr_builder_bytes(
            b, (enum cr_tag)tag,
            known
                .tokens[fuzz_u8(input) %
                        (known.tokens_seen < KNOWN_MAX ? known.tokens_seen : KNOWN_MAX)]
                .text,
            CR_TOKEN_CHARS);
    else if (tag == CR_TAG_ID && known.ids_seen > 0)
        cr_builder_bytes(
            b, CR_TAG_ID,
            known.ids[fuzz_u8(input) % (known.ids_seen < KNOWN_MAX ? known.ids_seen : KNOWN_MAX)]
                .text,
            CR_SESSION_ID_CHARS);
    else if (tag == CR_TAG_USER && fuzz_u8(input) % 4 != 0)
        cr_builder_bytes(b, CR_TAG_USER, choice % 2 == 0 ? "anna" : "bert", 4);
    else if (row->least == 8 && row->most == 8)
        cr_builder_u64(b, (enum cr_tag)tag,
                       fuzz_u8(input) % 4 == 0 ? fuzz_u64(input) : fuzz_u8(input));
    else
        compound_put(b, input, (enum cr_tag)tag);
}

static void built_try(struct fuzz_input *input)
{
    struct cr_builder b;
    enum cr_op op = (enum cr_op)(fuzz_u8(input) % CR_OP_END_OF_LIST);
    enum cr_status status = fuzz_u8(input) % 4 == 0 ? (enum cr_status)(fuzz_u8(input) % 8) : CR_OK;
    cr_builder_init(&b, op, status, ++bench.request);
    while (input->left > 0 && b.field_count < CR_MESSAGE_FIELDS_MAX)
        field_put(&b, input);
    if (cr_builder_finish(&b))
        bytes_try(b.bytes, b.count);
    cr_builder_fini(&b);
}

static void one(const unsigned char *data, size_t bytes)
{
    struct fuzz_input input = {data + 1, bytes - 1};
    if (bytes < 1)
        return;
    if (data[0] == 'b')
        bytes_try(input.bytes, input.left);
    else if (data[0] == 'h')
        header_try(input.bytes, input.left);
    else
        built_try(&input);
}

const struct fuzz_target fuzz_wire = {"wire", words, begin, one};
