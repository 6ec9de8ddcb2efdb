/* SPDX-License-Identifier: Apache-2.0 */
/* Messages: what is built is read, what is not of the form is refused, and who may ask what. */
#include "wire/message.h"

#include <stdlib.h>
#include <string.h>

#include <cloakroom/account.h>

#include "base/bytes.h"
#include "tap.h"

#define ROWS(table) (sizeof(table) / sizeof(table)[0])

#define ID24 "abcdefghijklmnopqrstuvwx"
#define ID_TEXT "crp_" ID24
#define TOKEN_TEXT "crs1_B" ID24 ID24 ID24 "ABCDEFG"

static const unsigned char magic[4] = {'C', 'R', 'W', '1'};

static struct cr_session session_example(void)
{
    struct cr_session s = CR_SESSION_INIT;
    s.id = (struct cr_session_id){.text = ID_TEXT};
    s.user = (struct cr_user){4, "anna"};
    s.created_at = 1700000000001;
    s.authenticated_at = 1700000000002;
    s.ends_at = 1700000000003;
    s.expires_at = 1700000000004;
    s.seen_at = 1700000000005;
    s.as_of = 6;
    s.version = 7;
    s.rights_bytes = 5;
    memcpy(s.rights, "staff", 5);
    s.data_bytes = 3;
    memcpy(s.data, "\0\1\2", 3);
    strcpy(s.address, "192.0.2.1");
    strcpy(s.agent, "Firefox");
    return s;
}

static struct cr_explanation explanation_example(void)
{
    return (struct cr_explanation){.live = false,
                                   .reason = CR_REASON_REPLACED,
                                   .at = 1700000000000,
                                   .by = "login from 192.0.2.1",
                                   .user = {4, "anna"},
                                   .created_at = 1,
                                   .seen_at = 2,
                                   .ends_at = -3,
                                   .from = {"192.0.2.9", "curl"},
                                   .rotation_count = 2,
                                   .rotated_at = {5, 4}};
}

static struct cr_past_session past_example(void)
{
    struct cr_past_session past = {.where = {"192.0.2.8", "Firefox"},
                                   .ended = explanation_example()};
    memcpy(past.id.text, ID_TEXT, CR_SESSION_ID_CHARS);
    return past;
}

static struct cr_stats stats_example(void)
{
    return (struct cr_stats){.cache = CR_CACHE_SHARED,
                             .attached = true,
                             .hits = 1,
                             .misses = 2,
                             .table_sessions = 3,
                             .table_capacity = 4,
                             .table_bytes = 5,
                             .fills = 6,
                             .fills_refused = 7,
                             .store_reads = 8,
                             .store_writes = 9,
                             .store_commits = 10,
                             .endings = 11,
                             .agent_pid = 12,
                             .engines = 13,
                             .attached_workers = UINT64_MAX,
                             .store_waiting = 14,
                             .store_calls = 15,
                             .store_micros = 16,
                             .evicted = 17,
                             .lease_left = UINT64_MAX - 1,
                             .tokens_unknown = 18,
                             .guessing_noticed = 19};
}

static struct cr_account account_example(void)
{
    return (struct cr_account){.user = {4, "anna"},
                               .disabled = true,
                               .created_at = 1700000000000,
                               .password_at = 1700000000001};
}

/* A message with a bit of everything. */
static bool build_example(struct cr_builder *b)
{
    struct cr_session session = session_example();
    struct cr_explanation explanation = explanation_example();
    struct cr_stats stats = stats_example();
    struct cr_account account = account_example();
    struct cr_past_session past = past_example();
    cr_builder_init(b, CR_OP_LOGIN, CR_CONFLICT, 0x1122334455667788);
    cr_builder_bytes(b, CR_TAG_USER, "anna", 4);
    cr_builder_bytes(b, CR_TAG_TOKEN, TOKEN_TEXT, CR_TOKEN_CHARS);
    cr_builder_bytes(b, CR_TAG_ID, ID_TEXT, CR_SESSION_ID_CHARS);
    cr_builder_u64(b, CR_TAG_POLICY, CR_POLICY_REPLACE);
    cr_builder_text(b, CR_TAG_ADDRESS, "192.0.2.1");
    cr_builder_text(b, CR_TAG_AGENT, NULL); /* nothing */
    cr_builder_bytes(b, CR_TAG_DATA, NULL, 0);
    cr_builder_bytes(b, CR_TAG_ENDING, "0123456789abcdef", 16);
    cr_builder_session(b, &session);
    cr_builder_session(b, &session);
    cr_builder_explanation(b, &explanation);
    cr_builder_stats(b, &stats);
    cr_builder_account(b, &account);
    cr_builder_past(b, &past);
    return CHECK(cr_builder_finish(b));
}

static void sessions_are_equal(const struct cr_session *got, const struct cr_session *want)
{
    CHECK_STR(got->id.text, want->id.text);
    CHECK(cr_user_equal(&got->user, &want->user));
    CHECK_INT(got->created_at, want->created_at);
    CHECK_INT(got->authenticated_at, want->authenticated_at);
    CHECK_INT(got->ends_at, want->ends_at);
    CHECK_INT(got->expires_at, want->expires_at);
    CHECK_INT(got->seen_at, want->seen_at);
    CHECK_INT(got->as_of, want->as_of);
    CHECK_UINT(got->version, want->version);
    CHECK_UINT(got->rights_bytes, want->rights_bytes);
    CHECK_MEM(got->rights, want->rights, want->rights_bytes);
    CHECK_UINT(got->data_bytes, want->data_bytes);
    if (want->data_bytes <= CR_DATA_CACHED_BYTES_MAX)
        CHECK_MEM(got->data, want->data, want->data_bytes);
    CHECK_STR(got->address, want->address);
    CHECK_STR(got->agent, want->agent);
}

static void what_was_built_is_read(void)
{
    struct cr_builder b;
    struct cr_message m;
    if (build_example(&b) && CHECK_STATUS(cr_message_decode(b.bytes, b.count, &m), CR_OK)) {
        CHECK_UINT(m.op, CR_OP_LOGIN);
        CHECK_STATUS(m.status, CR_CONFLICT);
        CHECK_UINT(m.request, 0x1122334455667788);
        struct cr_user user;
        struct cr_session_id id;
        struct cr_token token;
        struct cr_ending_id ending;
        char text[16];
        CHECK(cr_message_user(&m, &user) && user.length == 4);
        CHECK(cr_message_id(&m, &id) && strcmp(id.text, ID_TEXT) == 0);
        CHECK(cr_message_token(&m, CR_TAG_TOKEN, &token) && strcmp(token.text, TOKEN_TEXT) == 0);
        CHECK(!cr_message_token(&m, CR_TAG_AUTHORITY, &token));
        CHECK(cr_message_ending(&m, &ending) && memcmp(&ending, "0123456789abcdef", 16) == 0);
        CHECK_UINT(cr_message_u64(&m, CR_TAG_POLICY, 99), CR_POLICY_REPLACE);
        CHECK_UINT(cr_message_u64(&m, CR_TAG_COUNT, 99), 99);
        CHECK(cr_message_text(&m, CR_TAG_ADDRESS, text, sizeof text));
        CHECK_STR(text, "192.0.2.1");
        CHECK(!cr_message_text(&m, CR_TAG_AGENT, text, sizeof text));
        CHECK_STR(text, "");
        CHECK(!cr_message_text(&m, CR_TAG_ADDRESS, text, strlen("192.0.2.1")));
        CHECK_STR(text, "");
        const struct cr_field *data = cr_message_field(&m, CR_TAG_DATA);
        CHECK(data != NULL && data->length == 0);
    }
    cr_builder_fini(&b);
}

static void the_header_has_the_layout_that_message_h_draws(void)
{
    static const unsigned char want[] = {
        0x43, 0x52, 0x57, 0x31,                         /* "CRW1" */
        0x02, 0x00,                                     /* op */
        0x03, 0x00,                                     /* status */
        0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01, /* request */
        0x01, 0x00,                                     /* fields */
        0x00, 0x00,                                     /* zero */
        0x28, 0x00, 0x00, 0x00,                         /* bytes in all */
        0x12, 0x00,                                     /* tag */
        0x00, 0x00,                                     /* zero */
        0x08, 0x00, 0x00, 0x00,                         /* length */
        0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    };
    struct cr_builder b;
    cr_builder_init(&b, CR_OP_VALIDATE, CR_ENDED, 0x0102030405060708);
    cr_builder_u64(&b, CR_TAG_STRICT, 1);
    if (CHECK(cr_builder_finish(&b)) && CHECK_UINT(b.count, sizeof want))
        CHECK_MEM(b.bytes, want, sizeof want);
    cr_builder_fini(&b);
}

static void compound_fields_come_back_whole(void)
{
    struct cr_builder b;
    struct cr_message m;
    if (build_example(&b) && CHECK_STATUS(cr_message_decode(b.bytes, b.count, &m), CR_OK)) {
        struct cr_session session = CR_SESSION_INIT, want_session = session_example();
        const struct cr_field *field = NULL;
        size_t count = 0;
        while ((field = cr_message_next(&m, CR_TAG_SESSION, field)) != NULL) {
            if (CHECK(cr_field_session(field, &session)))
                sessions_are_equal(&session, &want_session);
            count++;
        }
        CHECK_UINT(count, 2);

        struct cr_explanation explanation = {.size = 42}, want_explanation = explanation_example();
        field = cr_message_field(&m, CR_TAG_EXPLANATION);
        if (CHECK(field != NULL && cr_field_explanation(field, &explanation))) {
            CHECK_UINT(explanation.size, 42);
            CHECK(!explanation.live);
            CHECK_INT(explanation.reason, want_explanation.reason);
            CHECK_INT(explanation.at, want_explanation.at);
            CHECK_STR(explanation.by, want_explanation.by);
            CHECK(cr_user_equal(&explanation.user, &want_explanation.user));
            CHECK_INT(explanation.created_at, 1);
            CHECK_INT(explanation.seen_at, 2);
            CHECK_INT(explanation.ends_at, -3);
            CHECK_STR(explanation.from.address, "192.0.2.9");
            CHECK_STR(explanation.from.agent, "curl");
            CHECK_UINT(explanation.rotation_count, 2);
            CHECK_INT(explanation.rotated_at[1], 4);
        }

        struct cr_past_session past;
        field = cr_message_field(&m, CR_TAG_PAST);
        if (CHECK(field != NULL && cr_field_past(field, &past))) {
            CHECK_STR(past.id.text, ID_TEXT);
            CHECK_STR(past.where.address, "192.0.2.8");
            CHECK_STR(past.where.agent, "Firefox");
            CHECK_INT(past.ended.reason, want_explanation.reason);
            CHECK_INT(past.ended.at, want_explanation.at);
            CHECK_STR(past.ended.from.address, "192.0.2.9");
            CHECK_INT(past.ended.rotated_at[1], 4);
        }

        struct cr_stats stats = {.size = 42}, want_stats = stats_example();
        want_stats.size = 42;
        field = cr_message_field(&m, CR_TAG_STATS);
        if (CHECK(field != NULL && cr_field_stats(field, &stats))) {
            CHECK_INT(stats.cache, CR_CACHE_SHARED);
            CHECK(stats.attached && !stats.mapped);
            CHECK_MEM(&stats.hits, &want_stats.hits, 19 * sizeof(uint64_t));
        }

        struct cr_account account = {.size = 42};
        field = cr_message_field(&m, CR_TAG_ACCOUNT);
        if (CHECK(field != NULL && cr_field_account(field, &account))) {
            CHECK_UINT(account.size, 42);
            CHECK(account.disabled && account.user.length == 4);
            CHECK_INT(account.created_at, 1700000000000);
            CHECK_INT(account.password_at, 1700000000001);
        }
    }
    cr_builder_fini(&b);
}

static void the_largest_session_and_the_emptiest_come_back(void)
{
    struct cr_session rows[4] = {session_example(), session_example(), session_example(), {0}};
    rows[0].user.length = CR_USER_BYTES_MAX;
    rows[0].rights_bytes = CR_RIGHTS_BYTES_MAX;
    rows[0].data_bytes = CR_DATA_CACHED_BYTES_MAX;
    memset(rows[0].data, 0xff, sizeof rows[0].data);
    memset(rows[0].address, 'a', CR_ADDRESS_CHARS_MAX);
    memset(rows[0].agent, 'b', CR_AGENT_CHARS_MAX);
    rows[1].data_bytes = CR_DATA_CACHED_BYTES_MAX + 1; /* too much to travel */
    rows[2].data_bytes = CR_DATA_BYTES_MAX;
    rows[3].id = rows[0].id;
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct cr_builder b;
        struct cr_message m;
        struct cr_session got;
        memset(&got, 0x55, sizeof got);
        cr_builder_init(&b, CR_OP_VALIDATE, CR_OK, 1);
        cr_builder_session(&b, &rows[i]);
        if (CHECK(cr_builder_finish(&b)) &&
            CHECK_STATUS(cr_message_decode(b.bytes, b.count, &m), CR_OK) &&
            CHECK(cr_field_session(&m.fields[0], &got)))
            sessions_are_equal(&got, &rows[i]);
        CHECK_UINT(got.data[CR_DATA_CACHED_BYTES_MAX - 1], i == 0 ? 0xff : 0x55);
        cr_builder_fini(&b);
    }
}

/* A list's page: with labels and rights, without data. */
static void a_page_of_64_sessions_fits_in_a_message(void)
{
    struct cr_session session = session_example();
    session.user.length = CR_USER_BYTES_MAX;
    session.rights_bytes = CR_RIGHTS_BYTES_MAX;
    session.data_bytes = 0;
    memset(session.address, 'a', CR_ADDRESS_CHARS_MAX);
    memset(session.agent, 'b', CR_AGENT_CHARS_MAX);
    struct cr_builder b;
    struct cr_message m;
    cr_builder_init(&b, CR_OP_LIST, CR_OK, 1);
    for (int i = 0; i < 64; i++)
        cr_builder_session(&b, &session);
    CHECK(cr_builder_finish(&b));
    CHECK_STATUS(cr_message_decode(b.bytes, b.count, &m), CR_OK);
    CHECK_UINT(m.field_count, 64);
    cr_builder_fini(&b);
}

/* Decodes what stands in its own piece of memory, so that a sanitizer sees a read beyond it; and
 * reads every field that it finds, in every way. */
static enum cr_status decode_alone(const unsigned char *bytes, size_t count)
{
    unsigned char *alone = malloc(count > 0 ? count : 1);
    CHECK(alone != NULL);
    if (alone == NULL)
        return CR_E_NO_MEMORY;
    if (count > 0)
        memcpy(alone, bytes, count);
    struct cr_message m;
    enum cr_status st = cr_message_decode(alone, count, &m);
    CHECK(st == CR_OK || st == CR_E_PROTOCOL);
    if (st == CR_OK) {
        struct cr_user user;
        struct cr_session_id id;
        struct cr_token token;
        struct cr_ending_id ending;
        static struct cr_session session;
        struct cr_explanation explanation;
        struct cr_stats stats;
        struct cr_account account;
        struct cr_past_session past;
        char text[64];
        size_t taken = 0;
        taken += cr_message_user(&m, &user);
        taken += cr_message_id(&m, &id);
        taken += cr_message_token(&m, CR_TAG_TOKEN, &token);
        taken += cr_message_ending(&m, &ending);
        taken += cr_message_text(&m, CR_TAG_ADDRESS, text, sizeof text);
        CHECK(taken <= m.field_count);
        (void)cr_message_u64(&m, CR_TAG_POLICY, 0);
        for (size_t i = 0; i < m.field_count; i++) {
            const struct cr_field *f = &m.fields[i];
            if (f->tag == CR_TAG_SESSION && cr_field_session(f, &session)) {
                CHECK(session.rights_bytes <= CR_RIGHTS_BYTES_MAX);
                CHECK(session.data_bytes <= CR_DATA_BYTES_MAX);
            }
            if (f->tag == CR_TAG_EXPLANATION && cr_field_explanation(f, &explanation))
                CHECK(strnlen(explanation.by, sizeof explanation.by) < sizeof explanation.by);
            if (f->tag == CR_TAG_STATS && cr_field_stats(f, &stats))
                CHECK(stats.cache <= CR_CACHE_SHARED);
            if (f->tag == CR_TAG_ACCOUNT && cr_field_account(f, &account))
                CHECK(account.user.length > 0);
            if (f->tag == CR_TAG_PAST && cr_field_past(f, &past))
                CHECK(strnlen(past.where.agent, sizeof past.where.agent) < sizeof past.where.agent);
        }
        static const enum cr_role roles[] = {CR_ROLE_HTTP, CR_ROLE_APP, CR_ROLE_OPERATOR};
        for (size_t i = 0; i < ROWS(roles); i++) {
            enum cr_status admitted = cr_message_admit(&m, roles[i]);
            CHECK(admitted == CR_OK || admitted == CR_DENIED || admitted == CR_E_PROTOCOL);
        }
    }
    free(alone);
    return st;
}

static void a_message_that_was_cut_anywhere_is_refused(void)
{
    struct cr_builder b;
    if (build_example(&b)) {
        for (size_t count = 0; count < b.count; count++)
            CHECK_STATUS(decode_alone(b.bytes, count), CR_E_PROTOCOL);
        CHECK_STATUS(decode_alone(b.bytes, b.count), CR_OK);
    }
    cr_builder_fini(&b);
}

static void a_message_with_a_byte_too_many_is_refused(void)
{
    struct cr_builder b;
    if (build_example(&b)) {
        unsigned char *longer = calloc(1, b.count + 1);
        if (CHECK(longer != NULL)) {
            memcpy(longer, b.bytes, b.count);
            CHECK_STATUS(decode_alone(longer, b.count + 1), CR_E_PROTOCOL);
            longer[20] = (unsigned char)(longer[20] + 1); /* also when the header says so */
            CHECK_STATUS(decode_alone(longer, b.count + 1), CR_E_PROTOCOL);
        }
        free(longer);
    }
    cr_builder_fini(&b);
}

static void no_changed_byte_leads_outside_the_message(void)
{
    static const unsigned char values[] = {0x00, 0x01, 0x07, 0x08, 0x09, 0x7f, 0x80, 0xfe, 0xff};
    struct cr_builder b;
    if (build_example(&b)) {
        for (size_t i = 0; i < b.count; i++) {
            unsigned char kept = b.bytes[i];
            for (size_t v = 0; v < ROWS(values); v++) {
                b.bytes[i] = values[v];
                decode_alone(b.bytes, b.count);
            }
            for (unsigned bit = 0; bit < 8; bit++) {
                b.bytes[i] = (unsigned char)(kept ^ 1u << bit);
                decode_alone(b.bytes, b.count);
            }
            b.bytes[i] = kept;
        }
    }
    cr_builder_fini(&b);
}

static void random_bytes_behind_a_good_header_lead_nowhere(void)
{
    for (int round = 0; round < 20000; round++) {
        unsigned char bytes[160];
        size_t count =
            CR_MESSAGE_HEADER_BYTES + tap_random_below(sizeof bytes - CR_MESSAGE_HEADER_BYTES + 1);
        for (size_t i = 0; i < count; i++) /* small numbers pass for lengths and tags */
            bytes[i] = (unsigned char)tap_random_below(tap_random_below(2) ? 256 : 48);
        memcpy(bytes, magic, sizeof magic);
        bytes[5] = bytes[17] = bytes[18] = bytes[19] = bytes[21] = bytes[22] = bytes[23] = 0;
        bytes[16] = (unsigned char)tap_random_below(5);
        bytes[20] = (unsigned char)count;
        for (size_t at = CR_MESSAGE_HEADER_BYTES; at + 8 <= count; at += 8u + bytes[at + 4]) {
            bytes[at] = (unsigned char)tap_random_below(CR_TAG_END_OF_LIST + 2);
            bytes[at + 1] = bytes[at + 2] = bytes[at + 3] = 0;
            bytes[at + 5] = bytes[at + 6] = bytes[at + 7] = 0;
        }
        decode_alone(bytes, count);
    }
}

/* One field of `tag` in a message of its own, written by hand: the builder would refuse it. */
static enum cr_status decode_field(uint16_t tag, size_t length, unsigned copies)
{
    size_t field_bytes = 8 + length;
    size_t count = CR_MESSAGE_HEADER_BYTES + copies * field_bytes;
    unsigned char *bytes = calloc(1, count);
    CHECK(bytes != NULL);
    if (bytes == NULL)
        return CR_E_NO_MEMORY;
    memcpy(bytes, magic, sizeof magic);
    bytes[4] = CR_OP_HELLO;
    bytes[8] = 1;
    bytes[16] = (unsigned char)copies;
    for (int i = 0; i < 4; i++)
        bytes[20 + i] = (unsigned char)(count >> 8 * i);
    for (unsigned copy = 0; copy < copies; copy++) {
        unsigned char *field = bytes + CR_MESSAGE_HEADER_BYTES + copy * field_bytes;
        field[0] = (unsigned char)tag;
        field[1] = (unsigned char)(tag >> 8);
        for (int i = 0; i < 4; i++)
            field[4 + i] = (unsigned char)(length >> 8 * i);
    }
    enum cr_status st = decode_alone(bytes, count);
    free(bytes);
    return st;
}

static void each_field_has_the_lengths_of_its_tag_and_no_other(void)
{
    static const struct {
        const char *name;
        size_t least, most;
        enum cr_tag tag;
        bool repeated;
    } rows[] = {
        {"a number", 8, 8, CR_TAG_STAMP, false},
        {"a token", 85, 85, CR_TAG_TOKEN, false},
        {"an authority", 85, 85, CR_TAG_AUTHORITY, false},
        {"an anonymous token", 85, 85, CR_TAG_ANONYMOUS, false},
        {"an id", 28, 28, CR_TAG_ID, true},
        {"a user", 1, 128, CR_TAG_USER, false},
        {"a password", 0, 1024, CR_TAG_PASSWORD, false},
        {"rights", 0, 512, CR_TAG_RIGHTS, false},
        {"data", 0, 65536, CR_TAG_DATA, false},
        {"an ending", 16, 16, CR_TAG_ENDING, false},
        {"a key", 56, 56, CR_TAG_KEY, false},
        {"an address", 0, 63, CR_TAG_ADDRESS, false},
        {"the name of a lock", 1, 128, CR_TAG_NAME, false},
        {"a session", 1, 16384, CR_TAG_SESSION, true},
        {"an account", 1, 1024, CR_TAG_ACCOUNT, true},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        uint16_t tag = (uint16_t)rows[i].tag;
        tap_row(rows[i].name);
        CHECK_STATUS(decode_field(tag, rows[i].least, 1), CR_OK);
        CHECK_STATUS(decode_field(tag, rows[i].most, 1), CR_OK);
        CHECK_STATUS(decode_field(tag, rows[i].most + 1, 1), CR_E_PROTOCOL);
        if (rows[i].least > 0)
            CHECK_STATUS(decode_field(tag, rows[i].least - 1, 1), CR_E_PROTOCOL);
        CHECK_STATUS(decode_field(tag, rows[i].least, 2), rows[i].repeated ? CR_OK : CR_E_PROTOCOL);
    }
}

static void every_tag_there_is_has_its_lengths(void)
{
    for (int tag = 1; tag < CR_TAG_END_OF_LIST; tag++) {
        if (!CHECK_STATUS(decode_field((uint16_t)tag, 65537, 1), CR_E_PROTOCOL))
            tap_note("tag %d", tag);
    }
}

static void a_tag_of_a_later_version_is_passed_over(void)
{
    CHECK_STATUS(decode_field(CR_TAG_END_OF_LIST, 5, 2), CR_OK);
    CHECK_STATUS(decode_field(0xffff, 65537, 1), CR_OK);
    CHECK_STATUS(decode_field(0, 0, CR_MESSAGE_FIELDS_MAX), CR_OK);
    CHECK_STATUS(decode_field(0, 0, CR_MESSAGE_FIELDS_MAX + 1), CR_E_PROTOCOL);
}

static void a_message_beyond_its_limit_is_refused(void)
{
    size_t rest = CR_MESSAGE_BYTES_MAX - CR_MESSAGE_HEADER_BYTES - 8;
    CHECK_STATUS(decode_field(0xffff, rest, 1), CR_OK);
    CHECK_STATUS(decode_field(0xffff, rest + 1, 1), CR_E_PROTOCOL);
}

static void a_status_of_a_later_version_reads_as_another_version(void)
{
    struct cr_builder b;
    struct cr_message m;
    cr_builder_init(&b, CR_OP_VALIDATE, CR_CHANGE_FIRST, 1);
    if (CHECK(cr_builder_finish(&b))) {
        CHECK_STATUS(cr_message_decode(b.bytes, b.count, &m), CR_OK);
        CHECK_STATUS(m.status, CR_CHANGE_FIRST); /* the last one there is */
        b.bytes[6]++;
        CHECK_STATUS(cr_message_decode(b.bytes, b.count, &m), CR_OK);
        CHECK_STATUS(m.status, CR_E_VERSION);
        b.bytes[7] = 0xff;
        CHECK_STATUS(cr_message_decode(b.bytes, b.count, &m), CR_OK);
        CHECK_STATUS(m.status, CR_E_VERSION);
    }
    cr_builder_fini(&b);
}

/* The field alone, with its bytes cut to `count` or lengthened by zeros. */
static struct cr_field field_resized(const struct cr_field *field, unsigned char *room,
                                     size_t count)
{
    size_t kept = count < field->length ? count : field->length;
    memset(room, 0, count);
    memcpy(room, field->bytes, kept);
    return (struct cr_field){field->tag, (uint32_t)count, room};
}

/* What a later version appends is passed over; what every version has must be there; counters that
 * an earlier version did not have are zero. */
static void compound_fields_of_other_versions_are_read(void)
{
    struct cr_builder b;
    struct cr_message m;
    if (!build_example(&b) || !CHECK_STATUS(cr_message_decode(b.bytes, b.count, &m), CR_OK)) {
        cr_builder_fini(&b);
        return;
    }
    static struct cr_session session;
    struct cr_explanation explanation;
    struct cr_account account;
    struct cr_stats stats;
    unsigned char room[8192];
    for (size_t i = 0; i < m.field_count; i++) {
        const struct cr_field *field = &m.fields[i];
        size_t length = field->length;
        for (size_t count = 0; count < length + 40; count += count < length - 1 ? 1 : 13) {
            struct cr_field resized = field_resized(field, room, count);
            bool is_whole = count >= length;
            memset(&session, 0, sizeof session);
            if (field->tag == CR_TAG_SESSION) {
                CHECK(cr_field_session(&resized, &session) == is_whole);
                CHECK(is_whole || cr_bytes_are_zero(&session, sizeof session));
            } else if (field->tag == CR_TAG_EXPLANATION) {
                /* The first version ended before where it came from, and the rotations. */
                bool is_first = count == length - (4 + 9) - (4 + 4) - 8 - 2 * 8;
                CHECK(cr_field_explanation(&resized, &explanation) == (is_whole || is_first));
            } else if (field->tag == CR_TAG_ACCOUNT) {
                /* The first version knew no one-time passwords. */
                bool is_first = count == length - 24;
                CHECK(cr_field_account(&resized, &account) == (is_whole || is_first));
            } else if (field->tag == CR_TAG_STATS) {
                bool at_a_counter = count >= 24 && count % 8 == 0;
                CHECK(cr_field_stats(&resized, &stats) == (is_whole || at_a_counter));
            }
        }
        if (field->tag == CR_TAG_STATS) {
            struct cr_field resized = field_resized(field, room, 24 + 8);
            if (CHECK(cr_field_stats(&resized, &stats))) {
                CHECK_UINT(stats.hits, 1);
                CHECK_UINT(stats.misses, 0);
                CHECK_UINT(stats.attached_workers, 0);
            }
        }
    }
    cr_builder_fini(&b);
}

/* Which bytes of the example's session lie: the offsets are those of its items. */
static void a_session_that_cannot_be_is_refused(void)
{
    enum { ID = 0, USER = 32, AFTER_USER = 40, RIGHTS = AFTER_USER + 56, DATA = RIGHTS + 9 };
    static const struct {
        const char *name;
        size_t at;
        unsigned char byte;
    } rows[] = {
        {"an id of another length", ID, 27},
        {"an id of other text", ID + 4, 'x'},
        {"a user longer than any", USER, 129},
        {"a user longer than the field", USER + 3, 1},
        {"rights longer than any", RIGHTS + 1, 3},
        {"more data than is there", DATA, 4},
        {"less data than is there", DATA, 2},
        {"more data than any session holds", DATA + 2, 2},
        {"data for a session of much data", DATA + 1, 0x20},
    };
    struct cr_builder b;
    struct cr_message m;
    if (build_example(&b) && CHECK_STATUS(cr_message_decode(b.bytes, b.count, &m), CR_OK)) {
        const struct cr_field *field = cr_message_field(&m, CR_TAG_SESSION);
        unsigned char room[2048]; /* what is too long is so for its item, not for the field */
        static struct cr_session session;
        struct cr_field copy = field_resized(field, room, sizeof room);
        CHECK(cr_field_session(&copy, &session));
        for (size_t i = 0; i < ROWS(rows); i++) {
            tap_row(rows[i].name);
            copy = field_resized(field, room, sizeof room);
            CHECK(room[rows[i].at] != rows[i].byte);
            room[rows[i].at] = rows[i].byte;
            CHECK(!cr_field_session(&copy, &session));
        }
    }
    cr_builder_fini(&b);
}

static void the_builder_refuses_what_no_decoder_takes(void)
{
    static const unsigned char bytes[CR_MESSAGE_BYTES_MAX];
    static const struct {
        const char *name;
        enum cr_tag tag;
        size_t count;
        int times;
        bool want;
    } rows[] = {
        {"nothing", CR_TAG_DATA, 0, 1, true},
        {"the longest address", CR_TAG_ADDRESS, 63, 1, true},
        {"an address too long", CR_TAG_ADDRESS, 64, 1, false},
        {"a token too short", CR_TAG_TOKEN, 84, 1, false},
        {"as many fields as fit", CR_TAG_ID, 28, CR_MESSAGE_FIELDS_MAX, true},
        {"a field too many", CR_TAG_ID, 28, CR_MESSAGE_FIELDS_MAX + 1, false},
        {"nearly too many bytes", CR_TAG_SESSION, 16000, 8, true},
        {"too many bytes", CR_TAG_SESSION, 16384, 8, false},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct cr_builder b;
        tap_row(rows[i].name);
        cr_builder_init(&b, CR_OP_HELLO, CR_OK, 1);
        for (int time = 0; time < rows[i].times; time++)
            cr_builder_bytes(&b, rows[i].tag, bytes, rows[i].count);
        CHECK(cr_builder_finish(&b) == rows[i].want);
        if (rows[i].want)
            CHECK_STATUS(decode_alone(b.bytes, b.count), CR_OK);
        cr_builder_u64(&b, CR_TAG_PID, 1); /* a failure stays */
        CHECK(cr_builder_finish(&b) == (rows[i].want && rows[i].times < CR_MESSAGE_FIELDS_MAX));
        cr_builder_fini(&b);
        cr_builder_fini(&b);
    }
}

static void a_user_that_is_an_id_is_no_user_in_a_message_either(void)
{
    static const char *const texts[] = {ID_TEXT, TOKEN_TEXT, "crp_"};
    for (size_t i = 0; i < ROWS(texts); i++) {
        struct cr_builder b;
        struct cr_message m;
        struct cr_user user;
        tap_row(texts[i]);
        cr_builder_init(&b, CR_OP_END_USER, CR_OK, 1);
        cr_builder_text(&b, CR_TAG_USER, texts[i]);
        if (CHECK(cr_builder_finish(&b)) &&
            CHECK_STATUS(cr_message_decode(b.bytes, b.count, &m), CR_OK))
            CHECK(!cr_message_user(&m, &user));
        cr_builder_fini(&b);
    }
}

static void text_with_a_nul_is_no_text(void)
{
    struct cr_builder b;
    struct cr_message m;
    char text[16];
    cr_builder_init(&b, CR_OP_HELLO, CR_OK, 1);
    cr_builder_bytes(&b, CR_TAG_REALM, "a\0b", 3);
    if (CHECK(cr_builder_finish(&b)) &&
        CHECK_STATUS(cr_message_decode(b.bytes, b.count, &m), CR_OK)) {
        CHECK(!cr_message_text(&m, CR_TAG_REALM, text, sizeof text));
        CHECK_STR(text, "");
    }
    cr_builder_fini(&b);
}

/* Something of the right form for any tag. */
static void put_any(struct cr_builder *b, enum cr_tag tag)
{
    switch ((int)tag) {
    case CR_TAG_TOKEN:
    case CR_TAG_AUTHORITY:
        cr_builder_bytes(b, tag, TOKEN_TEXT, CR_TOKEN_CHARS);
        break;
    case CR_TAG_ID:
        cr_builder_bytes(b, tag, ID_TEXT, CR_SESSION_ID_CHARS);
        break;
    case CR_TAG_KEY:
        cr_builder_bytes(b, tag, "0123456789012345678901234567890123456789012345678901234567890",
                         56);
        break;
    case CR_TAG_USER:
    case CR_TAG_PASSWORD:
    case CR_TAG_NAME:
    case CR_TAG_RIGHTS:
    case CR_TAG_DATA:
        cr_builder_text(b, tag, "anna");
        break;
    default:
        cr_builder_u64(b, tag, 1);
    }
}

/* A request with what its op must carry, but for field number `without` of it. */
static enum cr_status ask(const struct cr_op_row *row, enum cr_role role, size_t without,
                          enum cr_tag besides)
{
    struct cr_builder b;
    struct cr_message m;
    enum cr_status st = CR_E_INVALID;
    cr_builder_init(&b, row->op, CR_OK, 1);
    for (size_t i = 0; i < ROWS(row->required); i++)
        if (row->required[i] != 0 && i != without)
            put_any(&b, row->required[i]);
    if (besides != 0)
        put_any(&b, besides);
    if (CHECK(cr_builder_finish(&b)) &&
        CHECK_STATUS(cr_message_decode(b.bytes, b.count, &m), CR_OK))
        st = cr_message_admit(&m, role);
    cr_builder_fini(&b);
    return st;
}

#define NONE SIZE_MAX

/* The whole of who may do what, written out again: h http, A http with an authority, a application,
 * o operator. */
static void each_role_may_do_what_it_may_and_nothing_else(void)
{
    static const struct {
        enum cr_op op;
        const char *may;
    } rows[] = {
        {CR_OP_HELLO, "hao"},
        {CR_OP_VALIDATE, "hao"},
        {CR_OP_SEEN, "hao"},
        {CR_OP_TOUCH, "hao"},
        {CR_OP_LOGIN, "ao"},
        {CR_OP_LOGIN_PASSWORD, "hao"},
        {CR_OP_CREATE, "ao"},
        {CR_OP_DATA_READ, "Aao"},
        {CR_OP_DATA_WRITE, "Aao"},
        {CR_OP_RIGHTS_WRITE, "ao"},
        {CR_OP_ROTATE, "hao"},
        {CR_OP_END, "Aao"},
        {CR_OP_END_USER, "ao"},
        {CR_OP_END_OTHERS, "Aao"},
        {CR_OP_END_ALL, "ao"},
        {CR_OP_LIST, "Aao"},
        {CR_OP_EXPLAIN, "Aao"},
        {CR_OP_STATS, "hao"},
        {CR_OP_FILL, "ao"},
        {CR_OP_INVALIDATE, "ao"},
        {CR_OP_LOCK_TAKE, "ao"},
        {CR_OP_LOCK_GIVE, "ao"},
        {CR_OP_LOCK_READ, "ao"},
        {CR_OP_ACCOUNT_ADD, "o"},
        {CR_OP_ACCOUNT_PASSWORD, "o"},
        {CR_OP_ACCOUNT_DISABLE, "o"},
        {CR_OP_ACCOUNT_REMOVE, "o"},
        {CR_OP_ACCOUNT_LIST, "o"},
        {CR_OP_LOOKUP, "ao"},
        {CR_OP_FILL_BEGIN, "ao"},
        {CR_OP_KEY_LIST, "o"},
        {CR_OP_KEY_ROTATE, "o"},
        {CR_OP_ACCOUNT_IMPORT, "o"},
        {CR_OP_RESET_MAKE, "o"},
        {CR_OP_RESET, "hao"},
        {CR_OP_PAST, "Aao"},
        {CR_OP_ACCOUNT_OWN, "Aao"},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        const struct cr_op_row *row = cr_op_row((uint16_t)rows[i].op);
        const char *may = rows[i].may;
        if (!CHECK(row != NULL))
            return;
        tap_row(row->name);
        bool http = strchr(may, 'h') != NULL, authority = strchr(may, 'A') != NULL;
        CHECK_STATUS(ask(row, CR_ROLE_HTTP, NONE, 0), http ? CR_OK : CR_DENIED);
        CHECK_STATUS(ask(row, CR_ROLE_HTTP, NONE, CR_TAG_AUTHORITY),
                     http || authority ? CR_OK : CR_DENIED);
        CHECK_STATUS(ask(row, CR_ROLE_APP, NONE, 0), strchr(may, 'a') ? CR_OK : CR_DENIED);
        CHECK_STATUS(ask(row, CR_ROLE_OPERATOR, NONE, 0), CR_OK);
    }
}

static void a_request_without_what_it_must_carry_is_refused(void)
{
    size_t fields = 0;
    for (int op = 0; op < CR_OP_END_OF_LIST; op++) {
        const struct cr_op_row *row = cr_op_row((uint16_t)op);
        if (row == NULL || row->roles == 0)
            continue;
        tap_row(row->name);
        for (size_t i = 0; i < ROWS(row->required) && row->required[i] != 0; i++, fields++)
            CHECK_STATUS(ask(row, CR_ROLE_OPERATOR, i, 0), CR_E_PROTOCOL);
    }
    CHECK(fields > 20);
}

static void an_http_peer_gives_nobody_rights(void)
{
    const struct cr_op_row *row = cr_op_row(CR_OP_LOGIN_PASSWORD);
    CHECK_STATUS(ask(row, CR_ROLE_HTTP, NONE, CR_TAG_RIGHTS), CR_DENIED);
    CHECK_STATUS(ask(row, CR_ROLE_APP, NONE, CR_TAG_RIGHTS), CR_OK);
}

static enum cr_status admit_plain(uint16_t op, enum cr_status status, uint64_t request,
                                  unsigned ids)
{
    struct cr_message m = {.op = op, .status = status, .request = request};
    for (; m.field_count < ids; m.field_count++)
        m.fields[m.field_count] =
            (struct cr_field){CR_TAG_ID, CR_SESSION_ID_CHARS, (const unsigned char *)ID_TEXT};
    return cr_message_admit(&m, CR_ROLE_OPERATOR);
}

static void what_is_no_request_is_refused(void)
{
    CHECK_STATUS(admit_plain(CR_OP_STATS, CR_OK, 1, 0), CR_OK);
    CHECK_STATUS(admit_plain(0, CR_OK, 1, 0), CR_E_PROTOCOL);
    CHECK_STATUS(admit_plain(39, CR_OK, 1, 0), CR_E_PROTOCOL);
    CHECK_STATUS(admit_plain(0xffff, CR_OK, 1, 0), CR_E_PROTOCOL);
    CHECK_STATUS(admit_plain(CR_OP_SEGMENT, CR_OK, 1, 0), CR_E_PROTOCOL); /* the agent's to say */
    CHECK_STATUS(admit_plain(CR_OP_LOCK_TRUST, CR_OK, 1, 0), CR_E_PROTOCOL);
    CHECK_STATUS(admit_plain(CR_OP_STATS, CR_ENDED, 1, 0), CR_E_PROTOCOL);
    CHECK_STATUS(admit_plain(CR_OP_STATS, CR_OK, 0, 0), CR_E_PROTOCOL);
    CHECK_STATUS(admit_plain(CR_OP_SEEN, CR_OK, 0, 1), CR_OK); /* asks for no answer */
    CHECK_STATUS(admit_plain(CR_OP_SEEN, CR_OK, 0, 2), CR_OK);
    CHECK_STATUS(admit_plain(CR_OP_EXPLAIN, CR_OK, 1, 1), CR_OK);
    CHECK_STATUS(admit_plain(CR_OP_EXPLAIN, CR_OK, 1, 2), CR_E_PROTOCOL); /* which one? */
}

static const struct tap_test tests[] = {
    TAP_TEST(what_was_built_is_read),
    TAP_TEST(the_header_has_the_layout_that_message_h_draws),
    TAP_TEST(compound_fields_come_back_whole),
    TAP_TEST(the_largest_session_and_the_emptiest_come_back),
    TAP_TEST(a_page_of_64_sessions_fits_in_a_message),
    TAP_TEST(a_message_that_was_cut_anywhere_is_refused),
    TAP_TEST(a_message_with_a_byte_too_many_is_refused),
    TAP_TEST(no_changed_byte_leads_outside_the_message),
    TAP_TEST(random_bytes_behind_a_good_header_lead_nowhere),
    TAP_TEST(each_field_has_the_lengths_of_its_tag_and_no_other),
    TAP_TEST(every_tag_there_is_has_its_lengths),
    TAP_TEST(a_tag_of_a_later_version_is_passed_over),
    TAP_TEST(a_message_beyond_its_limit_is_refused),
    TAP_TEST(a_status_of_a_later_version_reads_as_another_version),
    TAP_TEST(compound_fields_of_other_versions_are_read),
    TAP_TEST(a_session_that_cannot_be_is_refused),
    TAP_TEST(the_builder_refuses_what_no_decoder_takes),
    TAP_TEST(a_user_that_is_an_id_is_no_user_in_a_message_either),
    TAP_TEST(text_with_a_nul_is_no_text),
    TAP_TEST(each_role_may_do_what_it_may_and_nothing_else),
    TAP_TEST(a_request_without_what_it_must_carry_is_refused),
    TAP_TEST(an_http_peer_gives_nobody_rights),
    TAP_TEST(what_is_no_request_is_refused),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
