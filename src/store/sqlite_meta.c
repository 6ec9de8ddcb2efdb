/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What says who is let in besides the session's own row: the store's meta row and the generations
 * of users. And the sums that rows carry. SQLite notices a damaged page by its structure only; a
 * bit that turned in a name or a generation would let somebody in. Sums are no secret and keep
 * nobody from editing the file.
 */
#include <sodium.h>
#include <string.h>

#include "base/assert.h"
#include "store/sqlite.h"

/* What is summed, gathered first: one pass over it costs a create less than many small steps. */
struct summing {
    unsigned char bytes[2048];
    size_t count;
};

/* SipHash-2-4 with 128 bits, under a key that everybody knows: against damage, not against people.
 */
static void sum_bytes(const void *bytes, size_t count, struct cr_sum *out)
{
    static const unsigned char key[crypto_shorthash_siphashx24_KEYBYTES] = "cloakroom's sum";
    _Static_assert(sizeof out->bytes == crypto_shorthash_siphashx24_BYTES, "128 bits");
    crypto_shorthash_siphashx24(out->bytes, bytes, count, key);
}

static void summing_put(struct summing *sum, const void *bytes, size_t count)
{
    CR_ASSERT(count <= sizeof sum->bytes - sum->count);
    if (count > 0)
        memcpy(sum->bytes + sum->count, bytes, count);
    sum->count += count;
}

static void summing_begin(struct summing *sum, unsigned char what)
{
    sum->count = 0;
    summing_put(sum, &what, 1);
}

static void summing_int(struct summing *sum, int64_t value)
{
    unsigned char bytes[8];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)((uint64_t)value >> (8 * i));
    summing_put(sum, bytes, sizeof bytes);
}

/* With its length, so that nothing moves from one field into the next. */
static void summing_bytes(struct summing *sum, const void *bytes, size_t count)
{
    summing_int(sum, (int64_t)count);
    summing_put(sum, bytes, count);
}

static void summing_end(struct summing *sum, struct cr_sum *out)
{
    sum_bytes(sum->bytes, sum->count, out);
}

bool cr_sum_equal(const struct cr_sum *a, const struct cr_sum *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

void cr_sqlite_sum_record(const struct cr_record *record, struct cr_sum *out)
{
    struct summing sum;
    summing_begin(&sum, 's');
    summing_bytes(&sum, record->id.text, CR_SESSION_ID_CHARS);
    summing_bytes(&sum, record->user.bytes, record->user.length);
    summing_int(&sum, (int64_t)record->user_generation);
    summing_int(&sum, (int64_t)record->global_generation);
    summing_int(&sum, record->created_at);
    summing_int(&sum, record->authenticated_at);
    summing_int(&sum, record->ends_at);
    summing_int(&sum, record->seen_at);
    summing_int(&sum, record->idle);
    summing_int(&sum, (int64_t)record->version);
    summing_bytes(&sum, record->hash.bytes, sizeof record->hash.bytes);
    summing_bytes(&sum, record->old_hash.bytes, sizeof record->old_hash.bytes);
    summing_int(&sum, record->old_until);
    summing_bytes(&sum, record->sealed, record->sealed_bytes);
    summing_bytes(&sum, record->rights, record->rights_bytes);
    summing_bytes(&sum, record->address, strlen(record->address));
    summing_bytes(&sum, record->agent, strlen(record->agent));
    summing_end(&sum, out);
}

void cr_sqlite_sum_data(const struct cr_record *record, struct cr_sum *out)
{
    struct summing sum;
    summing_begin(&sum, 'd');
    summing_bytes(&sum, record->id.text, CR_SESSION_ID_CHARS);
    summing_int(&sum, (int64_t)record->version);
    summing_int(&sum, (int64_t)record->data_bytes);
    sum_bytes(record->data, record->data_bytes, out);
    summing_put(&sum, out->bytes, sizeof out->bytes);
    summing_end(&sum, out);
}

void cr_sqlite_sum_user(const struct cr_user *user, uint64_t generation, struct cr_sum *out)
{
    struct summing sum;
    summing_begin(&sum, 'u');
    summing_bytes(&sum, user->bytes, user->length);
    summing_int(&sum, (int64_t)generation);
    summing_end(&sum, out);
}

void cr_sqlite_sum_reset(const struct cr_token_hash *hash, const struct cr_user *user,
                         cr_time_ms until, struct cr_sum *out)
{
    struct summing sum;
    summing_begin(&sum, 'r');
    summing_bytes(&sum, hash->bytes, sizeof hash->bytes);
    summing_bytes(&sum, user->bytes, user->length);
    summing_int(&sum, until);
    summing_end(&sum, out);
}

void cr_sqlite_sum_meta(int64_t version, const struct cr_ending_id *identity,
                        uint64_t global_generation, struct cr_sum *out)
{
    struct summing sum;
    summing_begin(&sum, 'm');
    summing_int(&sum, version);
    summing_bytes(&sum, identity->bytes, sizeof identity->bytes);
    summing_int(&sum, (int64_t)global_generation);
    summing_end(&sum, out);
}

void cr_query_meta(struct cr_query *query, struct cr_meta *out)
{
    struct cr_sum sum, want;
    out->version = cr_query_int(query);
    cr_query_bytes(query, out->identity.bytes, sizeof out->identity.bytes);
    out->global_generation = cr_query_uint(query);
    cr_query_bytes(query, sum.bytes, sizeof sum.bytes);
    cr_sqlite_sum_meta(out->version, &out->identity, out->global_generation, &want);
    query->is_bad = query->is_bad || !cr_sum_equal(&sum, &want);
}

uint64_t cr_query_generation(struct cr_query *query, const struct cr_user *user)
{
    struct cr_sum sum, want;
    uint64_t generation = cr_query_uint(query);
    cr_query_bytes(query, sum.bytes, sizeof sum.bytes);
    if (generation == 0)
        return 0; /* no row */
    cr_sqlite_sum_user(user, generation, &want);
    query->is_bad = query->is_bad || !cr_sum_equal(&sum, &want);
    return generation;
}

enum cr_status cr_sqlite_meta(struct cr_sqlite *s, struct cr_meta *out)
{
    struct cr_query query;
    cr_query_open(&query, s, SQL_META);
    enum cr_status st = cr_query_row(&query);
    if (st == CR_OK)
        cr_query_meta(&query, out);
    st = cr_query_close(&query, st);
    return st == CR_NOT_FOUND ? CR_E_CORRUPT : st;
}

enum cr_status cr_sqlite_generations(struct cr_sqlite *s, const struct cr_user *user,
                                     struct cr_generations *out)
{
    struct cr_query query;
    struct cr_meta meta;
    cr_query_open(&query, s, SQL_GENERATIONS);
    cr_query_bind_user(&query, user);
    enum cr_status st = cr_query_row(&query);
    if (st == CR_OK) {
        out->user = cr_query_generation(&query, user);
        cr_query_meta(&query, &meta);
        out->global = meta.global_generation;
    }
    st = cr_query_close(&query, st);
    return st == CR_NOT_FOUND ? CR_E_CORRUPT : st;
}

enum cr_status cr_sqlite_user_raise(struct cr_sqlite *s, const struct cr_user *user,
                                    uint64_t generation, uint64_t *out_generation)
{
    struct cr_query query;
    struct cr_sum sum;
    cr_sqlite_sum_user(user, generation + 1, &sum);
    cr_query_open(&query, s, generation == 0 ? SQL_USER_INSERT : SQL_USER_RAISE);
    cr_query_bind_uint(&query, generation + 1);
    cr_query_bind_blob(&query, sum.bytes, sizeof sum.bytes);
    cr_query_bind_user(&query, user);
    *out_generation = generation + 1;
    return cr_query_change(&query);
}

enum cr_status cr_sqlite_all_raise(struct cr_sqlite *s, uint64_t *out_generation)
{
    struct cr_query query;
    struct cr_meta meta = {0};
    struct cr_sum sum;
    enum cr_status st = cr_sqlite_meta(s, &meta);
    if (st != CR_OK)
        return st;
    cr_sqlite_sum_meta(meta.version, &meta.identity, meta.global_generation + 1, &sum);
    cr_query_open(&query, s, SQL_META_RAISE);
    cr_query_bind_uint(&query, meta.global_generation + 1);
    cr_query_bind_blob(&query, sum.bytes, sizeof sum.bytes);
    *out_generation = meta.global_generation + 1;
    return cr_query_change(&query);
}
