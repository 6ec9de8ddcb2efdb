/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A database in which somebody has changed values behind the store's back: any column of any table
 * to anything, types and constraints of the schema no longer in force. Every call is answered with
 * a status and, with CR_OK, with what can be; a session is what was written or is not believed, and
 * nobody who was ended is let in. Unless the sums were put right after the change: they are no
 * secret. Then a session may say anything, and still is one.
 *
 * An input is a list of changes. The first byte's low bit: the sums are put right.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "fuzz/fuzz.h"
#include "store/record.h"
#include "store/sqlite.h"

#define SESSIONS 6
#define CHANGES_MAX 12
#define HOUR_MS 3600000LL

static char path[300];
static struct cr_clock_fake fake;
static struct cr_random_seeded seeded;
static struct cr_store_env env;
static struct cr_store *store;
static struct cr_record made[SESSIONS]; /* the even ones were ended */
static bool summed;

/* ---- a store with something in every table */

static struct cr_ending ending_make(enum cr_reason reason)
{
    struct cr_ending ending = {.reason = reason, .by = "fuzz", .from = {"192.0.2.1", "curl"}};
    fuzz_must(cr_random_fill(&seeded.random, &ending.identity, sizeof ending.identity) == CR_OK,
              "an identity is made");
    return ending;
}

static void record_make(struct cr_record *out, const char *user)
{
    *out = (struct cr_record){.idle = HOUR_MS, .ends_at = 8 * HOUR_MS, .authenticated_at = 1};
    unsigned char bytes[18];
    fuzz_must(cr_random_fill(&seeded.random, bytes, sizeof bytes) == CR_OK &&
                  cr_random_fill(&seeded.random, &out->hash, sizeof out->hash) == CR_OK,
              "an id is made");
    memcpy(out->id.text, "crp_", 4);
    cr_base64_encode(bytes, sizeof bytes, out->id.text + 4);
    out->user.length = (uint8_t)strlen(user);
    memcpy(out->user.bytes, user, out->user.length);
    (void)snprintf(out->address, sizeof out->address, "192.0.2.7");
    (void)snprintf(out->agent, sizeof out->agent, "Firefox");
}

static bool session_fill(size_t i)
{
    static unsigned char data[SESSIONS][40];
    struct cr_log_rows rows = {0};
    struct cr_log_row row;
    char name[8] = {'u', (char)('A' + i), '\0'};
    record_make(&made[i], name);
    memset(data[i], (int)i, sizeof data[i]);
    made[i].data = data[i];
    made[i].data_bytes = sizeof data[i];
    made[i].rights_bytes = 20;
    memset(made[i].rights, (int)i, 20);
    bool good = cr_store_create(store, &made[i], NULL, &rows) == CR_OK;
    cr_log_rows_fini(&rows);
    struct cr_ending ending = ending_make(CR_REASON_ADMIN);
    if (i % 2 == 0)
        good = good && cr_store_end_user(store, &made[i].user, &ending, &row) == CR_OK;
    struct cr_account_change add = {.add = true, .hash = "$argon2id$", .keep_sessions = true};
    return good && cr_store_account_change(store, &made[i].user, &add, &row) == CR_OK;
}

static bool store_fill(void)
{
    struct cr_lease_row lease = {.name = "a lease", .holder = {{1}}};
    struct cr_engine_row engine = {.identity = {{1}}, .lease = 5000, .label = "host"};
    struct cr_debt_row debt = {.key = {1}, .kind = 1, .address = "192.0.2.1", .left = {1000, 9}};
    struct cr_change change = {
        .set_token = true, .hash = {{7}}, .old_grace = HOUR_MS, .sealed_bytes = 9};
    struct cr_log_row row;
    uint64_t version;
    for (size_t i = 0; i < SESSIONS; i++)
        if (!session_fill(i))
            return false;
    change.expect_hash = made[1].hash;
    change.ending = ending_make(CR_REASON_ROTATED);
    debt.user = made[1].user;
    struct cr_reset_row reset = {.hash = {{3}}, .user = made[1].user, .left = HOUR_MS};
    if (cr_store_change(store, &made[1].id, &change, &version, &row) != CR_OK)
        return false;
    made[1].hash = change.hash;
    return cr_store_lease_take(store, &lease, HOUR_MS) == CR_OK &&
           cr_store_engine_register(store, &engine) == CR_OK &&
           cr_store_debt_put(store, &debt, 1) == CR_OK &&
           cr_store_reset_add(store, &reset) == CR_OK;
}

static bool schema_loosen(void)
{
    sqlite3 *db;
    bool good = sqlite3_open(path, &db) == SQLITE_OK &&
                sqlite3_exec(db,
                             "PRAGMA writable_schema = ON;"
                             "UPDATE sqlite_schema SET sql = replace(replace(replace(replace(sql,"
                             " ') STRICT, WITHOUT', ') WITHOUT'), ') STRICT', ')'),"
                             " ' NOT NULL', ''), ' UNIQUE', '       ')"
                             " WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
                             " AND sql NOT LIKE '%UNIQUE%';"
                             "UPDATE sqlite_schema SET sql = replace(replace(sql, ') STRICT', ')'),"
                             " ' NOT NULL', '') WHERE type = 'table' AND sql LIKE '%UNIQUE%';",
                             NULL, NULL, NULL) == SQLITE_OK;
    if (!good)
        fprintf(stderr, "%s\n", sqlite3_errmsg(db));
    sqlite3_close(db);
    return good;
}

static bool begin(void)
{
    const char *base = getenv("TMPDIR");
    struct cr_error error = {.size = sizeof error};
    char folder[256];
    (void)snprintf(folder, sizeof folder, "%s/rows-XXXXXX", base != NULL ? base : "/tmp");
    if (mkdtemp(folder) == NULL)
        return false;
    (void)snprintf(path, sizeof path, "%s/store.db", folder);
    cr_clock_fake_init(&fake, 1700000000000);
    cr_random_seeded_init(&seeded, 1);
    env = (struct cr_store_env){&fake.clock, &seeded.random, {1}};
    if (cr_store_sqlite_open(path, &env, &store, &error) != CR_OK || !store_fill())
        return false;
    cr_store_destroy(store);
    if (!schema_loosen() || cr_store_sqlite_open(path, &env, &store, &error) != CR_OK) {
        fprintf(stderr, "%s\n", error.text);
        return false;
    }
    return true;
}

/* ---- changes */

static const struct table {
    const char *name, *key;
    const char *columns[24];
} tables[] = {
    {"sessions",
     "number",
     {"id",
      "user",
      "user_generation",
      "global_generation",
      "created_at",
      "authenticated_at",
      "ends_at",
      "seen_at",
      "idle",
      "version",
      "hash",
      "old_hash",
      "old_until",
      "sealed",
      "rights",
      "address",
      "agent",
      "sum",
      "sweep_at",
      "data",
      "data_sum",
      "number"}},
    {"users", "user", {"user", "generation", "sum"}},
    {"meta", "rowid", {"version", "identity", "global_generation", "sum"}},
    {"log",
     "number",
     {"number", "identity", "kind", "session", "user", "generation", "reason", "author", "at",
      "address", "agent", "created_at", "seen_at"}},
    {"engines", "identity", {"identity", "beat", "position", "lease", "grace", "label"}},
    {"keys", "number", {"number", "bytes", "since", "place", "sessions_to"}},
    {"accounts", "user", {"user", "hash", "disabled", "created_at", "password_at"}},
    {"leases", "name", {"name", "holder", "fence", "boot_id", "until", "label"}},
    {"debts",
     "key",
     {"key", "kind", "user", "address", "boot_id", "boot_at", "wall_at", "left_0", "left_1",
      "left_2", "left_3", "boot_until", "wall_until"}},
    {"resets", "hash", {"hash", "user", "until", "sum"}},
};
#define TABLES (sizeof tables / sizeof tables[0])

static sqlite3 *db(void)
{
    return cr_sqlite_of(store)->db;
}

static const char *column_of(const struct table *table, uint8_t choice)
{
    size_t count = 0;
    while (count < sizeof table->columns / sizeof table->columns[0] &&
           table->columns[count] != NULL)
        count++;
    fuzz_must(count > 0, "a table has columns");
    return table->columns[choice % count];
}

static void value_bind(sqlite3_stmt *statement, int at, struct fuzz_input *input)
{
    static const int64_t edges[] = {INT64_MIN, INT64_MIN + 1, -1,        0,
                                    1,         INT64_MAX - 1, INT64_MAX, 1700000000000};
    size_t count;
    uint8_t kind = fuzz_u8(input) % 7;
    const unsigned char *bytes;
    switch (kind) {
    case 0:
        sqlite3_bind_null(statement, at);
        break;
    case 1:
        sqlite3_bind_int64(statement, at, edges[fuzz_u8(input) % 8]);
        break;
    case 2:
        sqlite3_bind_int64(statement, at, (int64_t)fuzz_u64(input));
        break;
    case 3:
        bytes = fuzz_bytes(input, fuzz_u8(input), &count);
        sqlite3_bind_text(statement, at, (const char *)bytes, (int)count, SQLITE_TRANSIENT);
        break;
    case 4:
        bytes = fuzz_bytes(input, fuzz_u8(input), &count);
        sqlite3_bind_blob(statement, at, count > 0 ? bytes : (const unsigned char *)"", (int)count,
                          SQLITE_TRANSIENT);
        break;
    case 5: /* longer than anything may be */
        sqlite3_bind_zeroblob(statement, at, fuzz_u8(input) * 300);
        break;
    default:
        sqlite3_bind_double(statement, at, (double)(int8_t)fuzz_u8(input) * 1e18);
        break;
    }
}

/* One value, or another row's in its place. What SQLite refuses is not changed. */
static void change_make(struct fuzz_input *input)
{
    const struct table *table = &tables[fuzz_u8(input) % TABLES];
    uint8_t flags = fuzz_u8(input);
    const char *column = column_of(table, fuzz_u8(input));
    char text[512];
    sqlite3_stmt *statement = NULL;
    bool moves = flags % 8 == 7, removes = flags % 32 == 6;
    char other[128];
    (void)snprintf(other, sizeof other, "(SELECT %s FROM %s LIMIT 1 OFFSET ?2)", column,
                   table->name);
    if (removes)
        (void)snprintf(text, sizeof text,
                       "DELETE FROM %s WHERE %s = (SELECT %s FROM %s LIMIT 1 OFFSET ?1)",
                       table->name, table->key, table->key, table->name);
    else
        (void)snprintf(text, sizeof text,
                       "UPDATE OR IGNORE %s SET %s = %s WHERE %s ="
                       " (SELECT %s FROM %s LIMIT 1 OFFSET ?1)",
                       table->name, column, moves ? other : "?2", table->key, table->key,
                       table->name);
    if (sqlite3_prepare_v2(db(), text, -1, &statement, NULL) == SQLITE_OK) {
        sqlite3_bind_int(statement, 1, (flags >> 3) % 8);
        if (moves)
            sqlite3_bind_int(statement, 2, fuzz_u8(input) % 8);
        else if (!removes)
            value_bind(statement, 2, input);
        (void)sqlite3_step(statement);
    }
    sqlite3_finalize(statement);
}

/* ---- sums that are right again */

static void sum_write(const char *text, const struct cr_sum *sum, int64_t row)
{
    sqlite3_stmt *statement = NULL;
    if (sqlite3_prepare_v2(db(), text, -1, &statement, NULL) == SQLITE_OK) {
        sqlite3_bind_blob(statement, 1, sum->bytes, sizeof sum->bytes, SQLITE_STATIC);
        sqlite3_bind_int64(statement, 2, row);
        (void)sqlite3_step(statement);
    }
    sqlite3_finalize(statement);
}

/* As the store reads it. */
static void session_sum(struct cr_query *query, int64_t *out_number, struct cr_sum *out,
                        struct cr_sum *out_data)
{
    static struct cr_record record;
    static unsigned char data[CR_DATA_BYTES_MAX];
    memset(&record, 0, sizeof record);
    query->column = 0;
    *out_number = cr_query_int(query);
    cr_query_text(query, record.id.text, sizeof record.id.text);
    cr_query_user(query, &record.user);
    record.user_generation = cr_query_uint(query);
    record.global_generation = cr_query_uint(query);
    record.created_at = cr_query_int(query);
    record.authenticated_at = cr_query_int(query);
    record.ends_at = cr_query_int(query);
    record.seen_at = cr_query_int(query);
    record.idle = cr_query_int(query);
    record.version = cr_query_uint(query);
    cr_query_bytes(query, record.hash.bytes, sizeof record.hash.bytes);
    cr_query_bytes(query, record.old_hash.bytes, sizeof record.old_hash.bytes);
    record.old_until = cr_query_int(query);
    record.sealed_bytes = (uint8_t)cr_query_blob(query, record.sealed, sizeof record.sealed);
    record.rights_bytes = (uint16_t)cr_query_blob(query, record.rights, sizeof record.rights);
    cr_query_text(query, record.address, sizeof record.address);
    cr_query_text(query, record.agent, sizeof record.agent);
    cr_sqlite_sum_record(&record, out);
    record.data_bytes = (uint32_t)cr_query_blob(query, data, sizeof data);
    record.data = data;
    cr_sqlite_sum_data(&record, out_data);
    record.data = NULL;
}

static void sums_repair(void)
{
    static const char sessions[] =
        "SELECT number, id, user, user_generation, global_generation, created_at, "
        "authenticated_at, ends_at, seen_at, idle, version, hash, old_hash, old_until, sealed, "
        "rights, address, agent, data FROM sessions WHERE number >= ? ORDER BY number LIMIT 1";
    int64_t number = INT64_MIN;
    for (size_t i = 0; i < SESSIONS; i++) {
        struct cr_query query = {.sqlite = cr_sqlite_of(store)};
        struct cr_sum sum, data_sum;
        if (sqlite3_prepare_v2(db(), sessions, -1, &query.statement, NULL) != SQLITE_OK)
            return;
        sqlite3_bind_int64(query.statement, 1, number);
        bool found = sqlite3_step(query.statement) == SQLITE_ROW;
        if (found)
            session_sum(&query, &number, &sum, &data_sum);
        sqlite3_finalize(query.statement);
        if (!found)
            return;
        sum_write("UPDATE sessions SET sum = ?1 WHERE number = ?2", &sum, number);
        sum_write("UPDATE sessions SET data_sum = ?1 WHERE number = ?2", &data_sum, number);
        if (number == INT64_MAX)
            return;
        number++;
    }
}

static void meta_repair(void)
{
    struct cr_query query = {.sqlite = cr_sqlite_of(store)};
    struct cr_ending_id identity;
    struct cr_sum sum;
    if (sqlite3_prepare_v2(db(), "SELECT version, identity, global_generation FROM meta", -1,
                           &query.statement, NULL) != SQLITE_OK)
        return;
    if (sqlite3_step(query.statement) == SQLITE_ROW) {
        int64_t version = cr_query_int(&query);
        cr_query_bytes(&query, identity.bytes, sizeof identity.bytes);
        cr_sqlite_sum_meta(version, &identity, cr_query_uint(&query), &sum);
        sqlite3_finalize(query.statement);
        sum_write("UPDATE meta SET sum = ?1", &sum, 0);
        return;
    }
    sqlite3_finalize(query.statement);
}

/* ---- what comes back */

static bool is_answer(enum cr_status st)
{
    switch (st) {
    case CR_OK:
    case CR_NOT_FOUND:
    case CR_UNKNOWN_USER:
    case CR_ENDED:
    case CR_CONFLICT:
    case CR_BUSY:
    case CR_LOST:
    case CR_UNAVAILABLE:
    case CR_E_CORRUPT:
    case CR_E_IO:
    case CR_E_LIMIT:
    case CR_E_NO_MEMORY:
    case CR_E_UNKNOWN_OUTCOME:
        return true;
    default:
        return false;
    }
}

static bool text_is_ended(const char *text, size_t capacity)
{
    return memchr(text, '\0', capacity) != NULL;
}

static void record_sound(const struct cr_record *record)
{
    struct cr_session_id id;
    fuzz_must(cr_session_id_parse(record->id.text, CR_SESSION_ID_CHARS, &id) == CR_OK,
              "a session has an id");
    fuzz_must(
        record->user.length <= CR_USER_BYTES_MAX && record->rights_bytes <= CR_RIGHTS_BYTES_MAX &&
            record->sealed_bytes <= CR_SEALED_BYTES_MAX && record->data_bytes <= CR_DATA_BYTES_MAX,
        "its lengths are within bounds");
    fuzz_must(record->idle > 0 && record->idle <= CR_SPAN_MS_MAX && record->version > 0,
              "its numbers are within bounds");
    fuzz_must(text_is_ended(record->address, sizeof record->address) &&
                  text_is_ended(record->agent, sizeof record->agent),
              "its texts are ended");
}

static void record_is_as_made(const struct cr_record *found, size_t i)
{
    fuzz_must(i % 2 == 1 || found->dead != CR_REASON_NONE, "who was ended is not let in");
    fuzz_must(cr_user_equal(&found->user, &made[i].user) && found->ends_at == made[i].ends_at &&
                  found->seen_at == made[i].seen_at && found->idle == made[i].idle &&
                  memcmp(&found->hash, &made[i].hash, sizeof found->hash) == 0 &&
                  found->rights_bytes == made[i].rights_bytes &&
                  memcmp(found->rights, made[i].rights, found->rights_bytes) == 0 &&
                  found->data_bytes == made[i].data_bytes &&
                  memcmp(found->data, made[i].data, found->data_bytes) == 0,
              "a session is what was written");
}

static void sessions_check(void)
{
    for (size_t i = 0; i < SESSIONS; i++) {
        struct cr_record found;
        enum cr_status st = cr_store_find(store, &made[i].id, &found);
        fuzz_must(is_answer(st), "finding is answered");
        if (st != CR_OK) {
            fuzz_refused();
            continue;
        }
        fuzz_taken();
        record_sound(&found);
        fuzz_must(cr_session_id_equal(&found.id, &made[i].id), "it is the one that was asked for");
        if (!summed)
            record_is_as_made(&found, i);
        cr_record_fini(&found);
    }
}

static void list_check(const struct cr_user *user)
{
    static struct cr_record page[8];
    size_t count;
    enum cr_status st = cr_store_list(store, user, 0, NULL, page, 8, &count);
    fuzz_must(is_answer(st), "listing is answered");
    for (size_t i = 0; st == CR_OK && i < count; i++) {
        record_sound(&page[i]);
        fuzz_must(cr_user_equal(&page[i].user, user) && page[i].dead == CR_REASON_NONE,
                  "a list has the user's live sessions");
    }
    st = cr_store_list_dead(store, user, page, 8, &count);
    fuzz_must(is_answer(st), "listing the dead is answered");
    for (size_t i = 0; st == CR_OK && i < count; i++) {
        record_sound(&page[i]);
        fuzz_must(cr_user_equal(&page[i].user, user) && page[i].dead != CR_REASON_NONE,
                  "a list of the dead has the user's dead sessions");
    }
}

static void log_row_sound(const struct cr_log_row *row)
{
    fuzz_must(row->number > 0 && row->user.length <= CR_USER_BYTES_MAX &&
                  text_is_ended(row->by, sizeof row->by) &&
                  text_is_ended(row->from.address, sizeof row->from.address) &&
                  text_is_ended(row->from.agent, sizeof row->from.agent) &&
                  text_is_ended(row->session_from.address, sizeof row->session_from.address) &&
                  text_is_ended(row->session_from.agent, sizeof row->session_from.agent) &&
                  text_is_ended(row->session.text, sizeof row->session.text),
              "a row of the log is one");
}

static void log_check(void)
{
    struct cr_log_rows rows = {0};
    struct cr_log_row row;
    enum cr_status st = cr_store_log_read(store, 1, 1000, &rows);
    fuzz_must(is_answer(st), "reading the log is answered");
    for (size_t i = 0; st == CR_OK && i < rows.count; i++)
        log_row_sound(&rows.rows[i]);
    st = cr_store_log_last(store, &row);
    if (st == CR_OK)
        log_row_sound(&row);
    fuzz_must(is_answer(st), "its end is answered");
    st = cr_store_log_about(store, &made[0].id, &made[0], &row);
    if (st == CR_OK)
        log_row_sound(&row);
    fuzz_must(is_answer(st), "what ended a session is answered");
    fuzz_must(is_answer(cr_store_log_rotations(store, &made[1].id, 8, &rows)),
              "rotations are answered");
    st = cr_store_log_ended(store, &made[0].user, 8, &rows);
    fuzz_must(is_answer(st), "what was ended one by one is answered");
    for (size_t i = 0; st == CR_OK && i < rows.count; i++)
        log_row_sound(&rows.rows[i]);
    cr_log_rows_fini(&rows);
}

static void others_check(void)
{
    static struct cr_account_row accounts[8];
    static struct cr_engine_row engines[4];
    static struct cr_debt_row debts[8];
    static struct cr_key keys[64];
    static const unsigned char key[CR_DEBT_KEY_BYTES] = {1};
    struct cr_lease_row lease;
    size_t count;
    enum cr_status st = cr_store_account_list(store, NULL, accounts, 8, &count);
    fuzz_must(is_answer(st), "accounts are answered");
    for (size_t i = 0; st == CR_OK && i < count; i++)
        fuzz_must(accounts[i].user.length >= 1 && accounts[i].user.length <= CR_USER_BYTES_MAX &&
                      text_is_ended(accounts[i].hash, sizeof accounts[i].hash),
                  "an account is one");
    st = cr_store_keys(store, keys, 64, &count);
    fuzz_must(is_answer(st), "keys are answered");
    for (size_t i = 0; st == CR_OK && i < count; i++)
        fuzz_must(keys[i].number >= 1 && keys[i].number <= CR_KEYS_MAX && keys[i].signs_in >= 0 &&
                      keys[i].signs_in <= CR_KEY_WAIT_MS_MAX,
                  "a key's number is one of a token, and it waits no longer than it may");
    fuzz_must(is_answer(cr_store_account_find(store, &made[1].user, accounts)),
              "an account is answered");
    fuzz_must(is_answer(cr_store_engine_list(store, engines, 4, &count)), "engines are answered");
    fuzz_must(is_answer(cr_store_lease_read(store, "a lease", &lease)), "a lease is answered");
    fuzz_must(is_answer(cr_store_debt_find(store, key, debts)), "a debt is answered");
    st = cr_store_debt_list(store, debts, 8, &count);
    fuzz_must(is_answer(st), "debts are answered");
    for (size_t i = 0; st == CR_OK && i < count; i++)
        for (size_t k = 0; k < CR_DEBT_TIERS_MAX; k++)
            fuzz_must(debts[i].left[k] >= 0 && debts[i].left[k] <= CR_SPAN_MS_MAX,
                      "a debt is within bounds");
}

/* Its sum is not put right: it is what was written, or none. */
static void reset_check(void)
{
    static const struct cr_token_hash hash = {{3}};
    struct cr_reset_row reset;
    enum cr_status st = cr_store_reset_find(store, &hash, &reset);
    fuzz_must(is_answer(st), "a link is answered");
    fuzz_must(st != CR_OK || cr_user_equal(&reset.user, &made[1].user), "a link is of its user");
}

static void changing_calls(uint8_t which)
{
    struct cr_log_rows rows = {0};
    struct cr_log_row row;
    struct cr_record record;
    struct cr_change change = {
        .set_data = true, .data = (const unsigned char *)"x", .data_bytes = 1};
    struct cr_create_terms terms = {.replace = which % 2 == 0, .keep_count = which % 2};
    struct cr_lease_row lease = {.name = "a lease", .holder = {{which | 1}}};
    struct cr_engine_row engine = {.identity = {{1}}, .lease = 5000};
    struct cr_poll poll = {0};
    struct cr_seen seen[2] = {{made[1].id, 5}, {made[3].id, CR_SPAN_MS_MAX}};
    struct cr_account_change password = {.hash = "$argon2id$2", .keep_sessions = which % 2 == 0};
    struct cr_ending ending = ending_make(CR_REASON_ADMIN);
    struct cr_ending rotation = ending_make(CR_REASON_NONE);
    uint64_t version;
    size_t count = 0;
    record_make(&record, "uB");
    change.ending = ending_make(CR_REASON_NONE);
    terms.ending = ending_make(CR_REASON_REPLACED);
    password.ending = ending_make(CR_REASON_PASSWORD);
    const enum cr_status answers[] = {
        cr_store_seen(store, seen, 2),
        cr_store_change(store, &made[3].id, &change, &version, &row),
        cr_store_create(store, &record, &terms, &rows),
        cr_store_account_change(store, &made[3].user, &password, &row),
        cr_store_engine_poll(store, &engine, 8, &poll),
        cr_store_lease_take(store, &lease, HOUR_MS),
        cr_store_end_others(store, &made[1].id, &ending, &row),
        cr_store_sweep(store, 10, &count),
        cr_store_debt_forget(store, &made[1].user, NULL),
        cr_store_key_add(store, record.hash.bytes, 1000, &rotation, &row),
    };
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++)
        fuzz_must(is_answer(answers[i]), "a change is answered");
    cr_log_rows_fini(&rows);
    cr_log_rows_fini(&poll.rows);
}

static void one(const unsigned char *data, size_t bytes)
{
    struct fuzz_input input = {data, bytes};
    uint8_t flags = fuzz_u8(&input);
    summed = flags % 2 == 1;
    fuzz_must(cr_store_begin(store) == CR_OK, "a batch begins");
    for (size_t i = 0; i < CHANGES_MAX && input.left > 0; i++)
        change_make(&input);
    if (summed) {
        sums_repair();
        meta_repair();
    }
    sessions_check();
    for (size_t i = 1; i < SESSIONS; i += 2)
        list_check(&made[i].user);
    log_check();
    others_check();
    reset_check();
    changing_calls(flags);
    cr_store_rollback(store);
}

static const char *const words[] = {"crp_", "uA", "uB", "a lease", "$argon2id$", NULL};

const struct fuzz_target fuzz_rows = {"rows", words, begin, one};
