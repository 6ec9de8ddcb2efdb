/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fields that hold several values: sessions, explanations, statistics, accounts, keys.
 *
 * Such a field is a row of items, each a u64 or a u32 length with its bytes, in an order that never
 * changes. A later version appends items: a reader passes over those behind the ones it knows, and
 * those behind the ones that every version has may be missing: they are then zero.
 */
#include <string.h>

#include <cloakroom/account.h>
#include <cloakroom/key.h>

#include "base/assert.h"
#include "wire/bits.h"
#include "wire/message.h"

/* Room for the largest: a session with all its rights, data and labels. */
#define ITEMS_BYTES_MAX 6144

struct writer {
    unsigned char bytes[ITEMS_BYTES_MAX];
    size_t count;
};

static void write_u64(struct writer *w, uint64_t value)
{
    CR_ASSERT(sizeof w->bytes - w->count >= 8);
    cr_put_le(w->bytes + w->count, value, 8);
    w->count += 8;
}

static void write_bytes(struct writer *w, const void *bytes, size_t count)
{
    CR_ASSERT(sizeof w->bytes - w->count >= 4 && sizeof w->bytes - w->count - 4 >= count);
    cr_put_le(w->bytes + w->count, count, 4);
    memcpy(w->bytes + w->count + 4, bytes, count);
    w->count += 4 + count;
}

static void write_user(struct writer *w, const struct cr_user *user)
{
    CR_ASSERT(user->length <= CR_USER_BYTES_MAX);
    write_bytes(w, user->bytes, user->length);
}

struct reader {
    const unsigned char *bytes;
    size_t left;
    bool lenient; /* from here on an item may be missing */
    bool failed;
};

/* The next `count` bytes; NULL when they are missing, for which nothing is failed if they may be.
 */
static const unsigned char *read_raw(struct reader *r, size_t count)
{
    if (r->failed || (r->lenient && r->left == 0))
        return NULL;
    if (count > r->left) {
        r->failed = true;
        return NULL;
    }
    const unsigned char *bytes = r->bytes;
    r->bytes += count;
    r->left -= count;
    return bytes;
}

static uint64_t read_u64(struct reader *r)
{
    const unsigned char *bytes = read_raw(r, 8);
    return bytes == NULL ? 0 : cr_get_le(bytes, 8);
}

static cr_time_ms read_time(struct reader *r)
{
    return (cr_time_ms)read_u64(r);
}

struct span {
    const unsigned char *bytes;
    size_t count;
};

static struct span read_bytes(struct reader *r, size_t most)
{
    struct span span = {0};
    const unsigned char *length = read_raw(r, 4);
    if (length == NULL)
        return span;
    span.count = (size_t)cr_get_le(length, 4);
    if (span.count > most || span.count > r->left) {
        r->failed = true;
        return (struct span){0};
    }
    span.bytes = r->bytes;
    r->bytes += span.count;
    r->left -= span.count;
    return span;
}

/* Text for a buffer of `capacity`: no NUL inside. */
static struct span read_text(struct reader *r, size_t capacity)
{
    struct span span = read_bytes(r, capacity - 1);
    if (span.count > 0 && memchr(span.bytes, '\0', span.count) != NULL)
        r->failed = true;
    return span;
}

static void span_copy(struct span span, void *out)
{
    if (span.count > 0)
        memcpy(out, span.bytes, span.count);
}

static void span_copy_text(struct span span, char *out)
{
    span_copy(span, out);
    out[span.count] = '\0';
}

/* Of length 0: nobody. */
static struct cr_user read_user(struct reader *r)
{
    struct cr_user user = {0};
    struct span span = read_bytes(r, CR_USER_BYTES_MAX);
    if (span.count > 0 && cr_user_parse(span.bytes, span.count, &user) != CR_OK)
        r->failed = true;
    return user;
}

static struct cr_session_id read_id(struct reader *r)
{
    struct cr_session_id id = {0};
    struct span span = read_bytes(r, CR_SESSION_ID_CHARS);
    if (r->failed || cr_session_id_parse((const char *)span.bytes, span.count, &id) != CR_OK)
        r->failed = true;
    return id;
}

void cr_builder_session(struct cr_builder *b, const struct cr_session *session)
{
    struct writer w;
    w.count = 0;
    CR_ASSERT(session->rights_bytes <= CR_RIGHTS_BYTES_MAX);
    bool has_data = session->data_bytes <= CR_DATA_CACHED_BYTES_MAX;
    write_bytes(&w, session->id.text, CR_SESSION_ID_CHARS);
    write_user(&w, &session->user);
    write_u64(&w, (uint64_t)session->created_at);
    write_u64(&w, (uint64_t)session->authenticated_at);
    write_u64(&w, (uint64_t)session->ends_at);
    write_u64(&w, (uint64_t)session->expires_at);
    write_u64(&w, (uint64_t)session->seen_at);
    write_u64(&w, (uint64_t)session->as_of);
    write_u64(&w, session->version);
    write_bytes(&w, session->rights, session->rights_bytes);
    write_u64(&w, session->data_bytes);
    write_bytes(&w, session->data, has_data ? session->data_bytes : 0);
    write_bytes(&w, session->address, strnlen(session->address, CR_ADDRESS_CHARS_MAX));
    write_bytes(&w, session->agent, strnlen(session->agent, CR_AGENT_CHARS_MAX));
    cr_builder_bytes(b, CR_TAG_SESSION, w.bytes, w.count);
}

bool cr_field_session(const struct cr_field *field, struct cr_session *out)
{
    struct reader r = {.bytes = field->bytes, .left = field->length};
    struct cr_session_id id = read_id(&r);
    struct cr_user user = read_user(&r);
    cr_time_ms created_at = read_time(&r);
    cr_time_ms authenticated_at = read_time(&r);
    cr_time_ms ends_at = read_time(&r);
    cr_time_ms expires_at = read_time(&r);
    cr_time_ms seen_at = read_time(&r);
    cr_time_ms as_of = read_time(&r);
    uint64_t version = read_u64(&r);
    struct span rights = read_bytes(&r, CR_RIGHTS_BYTES_MAX);
    uint64_t data_bytes = read_u64(&r);
    struct span data = read_bytes(&r, CR_DATA_CACHED_BYTES_MAX);
    struct span address = read_text(&r, sizeof out->address);
    struct span agent = read_text(&r, sizeof out->agent);
    /* All of the data, or none where it is too much. */
    if (data.count != (data_bytes <= CR_DATA_CACHED_BYTES_MAX ? data_bytes : 0))
        return false;
    if (r.failed || data_bytes > CR_DATA_BYTES_MAX)
        return false;
    out->id = id;
    out->user = user;
    out->created_at = created_at;
    out->authenticated_at = authenticated_at;
    out->ends_at = ends_at;
    out->expires_at = expires_at;
    out->seen_at = seen_at;
    out->as_of = as_of;
    out->version = version;
    out->rights_bytes = rights.count;
    out->data_bytes = (size_t)data_bytes;
    span_copy(rights, out->rights);
    span_copy(data, out->data);
    span_copy_text(address, out->address);
    span_copy_text(agent, out->agent);
    return true;
}

static void write_origin(struct writer *w, const struct cr_origin *origin)
{
    write_bytes(w, origin->address, strnlen(origin->address, sizeof origin->address - 1));
    write_bytes(w, origin->agent, strnlen(origin->agent, sizeof origin->agent - 1));
}

static void write_explanation(struct writer *w, const struct cr_explanation *explanation)
{
    write_u64(w, explanation->live);
    write_u64(w, (uint64_t)explanation->reason);
    write_u64(w, (uint64_t)explanation->at);
    write_bytes(w, explanation->by, strnlen(explanation->by, sizeof explanation->by - 1));
    write_user(w, &explanation->user);
    write_u64(w, (uint64_t)explanation->created_at);
    write_u64(w, (uint64_t)explanation->seen_at);
    write_u64(w, (uint64_t)explanation->ends_at);
    write_origin(w, &explanation->from);
    CR_ASSERT(explanation->rotation_count <= CR_ROTATIONS_TOLD_MAX);
    write_u64(w, explanation->rotation_count);
    for (unsigned i = 0; i < explanation->rotation_count; i++)
        write_u64(w, (uint64_t)explanation->rotated_at[i]);
}

void cr_builder_explanation(struct cr_builder *b, const struct cr_explanation *explanation)
{
    struct writer w;
    w.count = 0;
    write_explanation(&w, explanation);
    cr_builder_bytes(b, CR_TAG_EXPLANATION, w.bytes, w.count);
}

/* What came with a later version than the first: all of it, or none. */
static void read_explanation_more(struct reader *r, struct cr_explanation *out)
{
    if (r->failed || r->left == 0)
        return;
    struct span address = read_text(r, sizeof out->from.address);
    struct span agent = read_text(r, sizeof out->from.agent);
    uint64_t count = read_u64(r);
    if (r->failed)
        return;
    span_copy_text(address, out->from.address);
    span_copy_text(agent, out->from.agent);
    for (uint64_t i = 0; i < count && !r->failed; i++) {
        cr_time_ms at = read_time(r);
        if (i < CR_ROTATIONS_TOLD_MAX)
            out->rotated_at[out->rotation_count++] = at;
    }
}

/* To the end of the field. */
static bool read_explanation(struct reader *r, struct cr_explanation *out)
{
    struct cr_explanation read = {.size = out->size};
    uint64_t live = read_u64(r);
    uint64_t reason = read_u64(r);
    read.at = read_time(r);
    struct span by = read_text(r, sizeof read.by);
    read.user = read_user(r);
    read.created_at = read_time(r);
    read.seen_at = read_time(r);
    read.ends_at = read_time(r);
    read_explanation_more(r, &read);
    if (r->failed || live > 1 || reason > UINT8_MAX)
        return false;
    read.live = live == 1;
    read.reason = (enum cr_reason)reason; /* of a later version, perhaps: it is only named */
    span_copy_text(by, read.by);
    *out = read;
    return true;
}

bool cr_field_explanation(const struct cr_field *field, struct cr_explanation *out)
{
    struct reader r = {.bytes = field->bytes, .left = field->length};
    return read_explanation(&r, out);
}

void cr_builder_past(struct cr_builder *b, const struct cr_past_session *past)
{
    struct writer w;
    w.count = 0;
    write_bytes(&w, past->id.text, CR_SESSION_ID_CHARS);
    write_origin(&w, &past->where);
    write_explanation(&w, &past->ended);
    cr_builder_bytes(b, CR_TAG_PAST, w.bytes, w.count);
}

bool cr_field_past(const struct cr_field *field, struct cr_past_session *out)
{
    struct reader r = {.bytes = field->bytes, .left = field->length};
    struct cr_past_session read = {.id = read_id(&r)};
    struct span address = read_text(&r, sizeof read.where.address);
    struct span agent = read_text(&r, sizeof read.where.agent);
    read.ended.size = sizeof read.ended;
    if (r.failed || !read_explanation(&r, &read.ended))
        return false;
    span_copy_text(address, read.where.address);
    span_copy_text(agent, read.where.agent);
    *out = read;
    return true;
}

void cr_builder_stats(struct cr_builder *b, const struct cr_stats *stats)
{
    struct writer w;
    w.count = 0;
    write_u64(&w, (uint64_t)stats->cache);
    write_u64(&w, stats->attached);
    write_u64(&w, stats->mapped);
    const uint64_t counts[] = {
        stats->hits,           stats->misses,           stats->table_sessions,
        stats->table_capacity, stats->table_bytes,      stats->fills,
        stats->fills_refused,  stats->store_reads,      stats->store_writes,
        stats->store_commits,  stats->endings,          stats->agent_pid,
        stats->engines,        stats->attached_workers, stats->store_waiting,
        stats->store_calls,    stats->store_micros,     stats->evicted,
        stats->lease_left,     stats->tokens_unknown,   stats->guessing_noticed,
    };
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        write_u64(&w, counts[i]);
    cr_builder_bytes(b, CR_TAG_STATS, w.bytes, w.count);
}

bool cr_field_stats(const struct cr_field *field, struct cr_stats *out)
{
    struct reader r = {.bytes = field->bytes, .left = field->length};
    struct cr_stats read = {.size = out->size};
    uint64_t cache = read_u64(&r);
    uint64_t attached = read_u64(&r);
    uint64_t mapped = read_u64(&r);
    r.lenient = true; /* which counters there are changes from version to version */
    uint64_t *const counts[] = {
        &read.hits,           &read.misses,           &read.table_sessions,
        &read.table_capacity, &read.table_bytes,      &read.fills,
        &read.fills_refused,  &read.store_reads,      &read.store_writes,
        &read.store_commits,  &read.endings,          &read.agent_pid,
        &read.engines,        &read.attached_workers, &read.store_waiting,
        &read.store_calls,    &read.store_micros,     &read.evicted,
        &read.lease_left,     &read.tokens_unknown,   &read.guessing_noticed,
    };
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        *counts[i] = read_u64(&r);
    if (r.failed || cache > CR_CACHE_SHARED || attached > 1 || mapped > 1)
        return false;
    read.cache = (enum cr_cache)cache;
    read.attached = attached == 1;
    read.mapped = mapped == 1;
    *out = read;
    return true;
}

void cr_builder_account(struct cr_builder *b, const struct cr_account *account)
{
    struct writer w;
    w.count = 0;
    write_user(&w, &account->user);
    write_u64(&w, account->disabled);
    write_u64(&w, (uint64_t)account->created_at);
    write_u64(&w, (uint64_t)account->password_at);
    write_u64(&w, account->must_change);
    write_u64(&w, account->password_over);
    write_u64(&w, (uint64_t)account->password_until);
    cr_builder_bytes(b, CR_TAG_ACCOUNT, w.bytes, w.count);
}

bool cr_field_account(const struct cr_field *field, struct cr_account *out)
{
    struct reader r = {.bytes = field->bytes, .left = field->length};
    struct cr_account read = {.size = out->size};
    read.user = read_user(&r);
    uint64_t disabled = read_u64(&r);
    read.created_at = read_time(&r);
    read.password_at = read_time(&r);
    /* What came with a later version than the first: all of it, or none. */
    bool has_more = r.left > 0;
    uint64_t must_change = has_more ? read_u64(&r) : 0;
    uint64_t over = has_more ? read_u64(&r) : 0;
    read.password_until = has_more ? read_time(&r) : 0;
    if (r.failed || disabled > 1 || must_change > 1 || over > 1 || read.user.length == 0)
        return false;
    read.disabled = disabled == 1;
    read.must_change = must_change == 1;
    read.password_over = over == 1;
    *out = read;
    return true;
}

void cr_builder_limit(struct cr_builder *b, const struct cr_limit_view *view)
{
    struct writer w;
    w.count = 0;
    write_u64(&w, view->kind);
    write_user(&w, &view->user);
    write_bytes(&w, view->address, strlen(view->address));
    for (size_t i = 0; i < view->tier_count; i++) {
        write_u64(&w, view->tiers[i].count);
        write_u64(&w, view->tiers[i].used);
        write_u64(&w, (uint64_t)view->tiers[i].period);
        write_u64(&w, (uint64_t)view->tiers[i].left);
    }
    cr_builder_bytes(b, CR_TAG_LIMIT, w.bytes, w.count);
}

bool cr_field_limit(const struct cr_field *field, struct cr_limit_view *out)
{
    struct reader r = {.bytes = field->bytes, .left = field->length};
    struct cr_limit_view read = {0};
    uint64_t kind = read_u64(&r);
    read.user = read_user(&r);
    struct span address = read_text(&r, sizeof read.address);
    while (!r.failed && r.left > 0 && read.tier_count < CR_LIMIT_VIEW_TIERS) {
        struct cr_limit_view_tier *tier = &read.tiers[read.tier_count++];
        tier->count = read_u64(&r);
        tier->used = read_u64(&r);
        tier->period = read_time(&r);
        tier->left = read_time(&r);
    }
    if (r.failed || kind == 0 || kind > UINT32_MAX)
        return false;
    read.kind = (uint32_t)kind;
    span_copy_text(address, read.address);
    *out = read;
    return true;
}

void cr_builder_limit_count(struct cr_builder *b, const struct cr_limit_count *count)
{
    struct writer w;
    w.count = 0;
    write_u64(&w, count->admitted);
    write_u64(&w, count->refused);
    write_u64(&w, count->refunded);
    write_u64(&w, count->asked);
    write_u64(&w, count->entries);
    write_u64(&w, count->evicted);
    cr_builder_bytes(b, CR_TAG_LIMIT_COUNT, w.bytes, w.count);
}

bool cr_field_limit_count(const struct cr_field *field, struct cr_limit_count *out)
{
    struct reader r = {.bytes = field->bytes, .left = field->length};
    struct cr_limit_count read;
    read.admitted = read_u64(&r);
    read.refused = read_u64(&r);
    read.refunded = read_u64(&r);
    read.asked = read_u64(&r);
    read.entries = read_u64(&r);
    read.evicted = read_u64(&r);
    if (r.failed)
        return false;
    *out = read;
    return true;
}

void cr_builder_key_state(struct cr_builder *b, const struct cr_key_state *key)
{
    struct writer w;
    w.count = 0;
    write_u64(&w, key->number);
    write_u64(&w, (uint64_t)key->since);
    write_u64(&w, (uint64_t)key->until);
    write_u64(&w, key->waits);
    cr_builder_bytes(b, CR_TAG_KEY_STATE, w.bytes, w.count);
}

bool cr_field_key_state(const struct cr_field *field, struct cr_key_state *out)
{
    struct reader r = {.bytes = field->bytes, .left = field->length};
    struct cr_key_state read = {.size = out->size};
    uint64_t number = read_u64(&r);
    read.since = read_time(&r);
    read.until = read_time(&r);
    uint64_t waits = read_u64(&r);
    if (r.failed || waits > 1 || number < 1 || number > CR_KEY_LIST_MAX)
        return false;
    read.number = (uint32_t)number;
    read.waits = waits == 1;
    *out = read;
    return true;
}
