/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions and log rows as values: copying, freeing, judging whether one is live, and checking that
 * what came out of a store can be one. Touches no store.
 */
#include "store/record.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"

#define LOG_ROWS_FIRST 8

void cr_record_fini(struct cr_record *record)
{
    if (record == NULL)
        return;
    free(record->data);
    memset(record, 0, sizeof *record);
}

enum cr_status cr_record_copy(struct cr_record *out, const struct cr_record *from, bool with_data)
{
    *out = *from;
    out->data = NULL;
    out->data_bytes = 0;
    if (!with_data || from->data_bytes == 0)
        return CR_OK;
    out->data = malloc(from->data_bytes);
    if (out->data == NULL) {
        memset(out, 0, sizeof *out);
        return CR_E_NO_MEMORY;
    }
    memcpy(out->data, from->data, from->data_bytes);
    out->data_bytes = from->data_bytes;
    return CR_OK;
}

void cr_record_start(struct cr_record *record, uint64_t user_generation, uint64_t global_generation,
                     cr_time_ms now)
{
    record->user_generation = user_generation;
    record->global_generation = global_generation;
    record->created_at = now;
    record->seen_at = now;
    record->ends_at += now;
    if (record->authenticated_at != 0)
        record->authenticated_at = now;
}

void cr_record_repeat(struct cr_record *record, const struct cr_record *made)
{
    record->user_generation = made->user_generation;
    record->global_generation = made->global_generation;
    record->created_at = made->created_at;
    record->authenticated_at = made->authenticated_at;
    record->ends_at = made->ends_at;
    record->seen_at = made->seen_at;
}

bool cr_record_allows(const struct cr_record *record, const struct cr_change *change)
{
    if (change->expect_version != 0 && change->expect_version != record->version)
        return false;
    return !change->set_token ||
           memcmp(&change->expect_hash, &record->hash, sizeof record->hash) == 0;
}

static void token_change(struct cr_record *record, const struct cr_change *change, cr_time_ms now)
{
    memset(&record->old_hash, 0, sizeof record->old_hash);
    record->old_until = 0;
    record->sealed_bytes = 0;
    if (change->old_grace > 0) {
        record->old_hash = record->hash;
        record->old_until = now + change->old_grace;
        record->sealed_bytes = change->sealed_bytes;
        memcpy(record->sealed, change->sealed, change->sealed_bytes);
    }
    record->hash = change->hash;
}

void cr_record_change(struct cr_record *record, const struct cr_change *change, cr_time_ms now)
{
    if (change->set_data)
        record->version++;
    if (change->set_rights) {
        if (change->rights_bytes > 0)
            memcpy(record->rights, change->rights, change->rights_bytes);
        record->rights_bytes = change->rights_bytes;
    }
    if (change->set_token)
        token_change(record, change, now);
    if (change->set_authenticated) {
        record->authenticated_at = change->authenticated_at;
        record->ends_at = change->ends_at;
    }
}

void cr_account_row_change(struct cr_account_row *row, const struct cr_account_change *change,
                           cr_time_ms now)
{
    if (change->set_disabled)
        row->disabled = change->disabled;
    if (change->hash != NULL) {
        memset(row->hash, 0, sizeof row->hash);
        memcpy(row->hash, change->hash, strlen(change->hash));
    }
    if (change->add || (change->hash != NULL && !change->keep_sessions)) {
        row->password_at = now;
        row->must_change = change->must_change;
        row->password_until = change->password_for > 0 ? now + change->password_for : 0;
    }
}

void cr_account_row_judge(struct cr_account_row *row, cr_time_ms now)
{
    /* Before it was set: the clock was put back, and nobody can say how long it has been good. */
    bool is_before = now < row->password_at;
    row->password_over = row->password_until != 0 && (row->password_until <= now || is_before);
}

struct cr_log_row cr_log_row_for(enum cr_log_kind kind, const struct cr_ending *ending)
{
    struct cr_log_row row = {.identity = ending->identity, .kind = kind, .reason = ending->reason};
    memcpy(row.by, ending->by, sizeof row.by);
    row.from = ending->from;
    return row;
}

struct cr_log_row cr_log_row_ended(const struct cr_record *record, const struct cr_ending *ending)
{
    struct cr_log_row row = cr_log_row_for(CR_LOG_SESSION_ENDED, ending);
    row.session = record->id;
    row.user = record->user;
    row.created_at = record->created_at;
    row.seen_at = record->seen_at;
    memcpy(row.session_from.address, record->address, sizeof row.session_from.address);
    memcpy(row.session_from.agent, record->agent, sizeof row.session_from.agent);
    return row;
}

/* Times come from disk too, so sums of them stay within their range. */
static cr_time_ms time_add(cr_time_ms at, cr_span_ms span)
{
    cr_time_ms sum;
    if (__builtin_add_overflow(at, span, &sum))
        return span > 0 ? INT64_MAX : INT64_MIN;
    return sum;
}

static cr_span_ms time_left(cr_time_ms until, cr_time_ms now)
{
    cr_span_ms left;
    if (__builtin_sub_overflow(until, now, &left))
        return until > now ? INT64_MAX : INT64_MIN;
    return left;
}

static cr_time_ms idle_deadline(const struct cr_record *record)
{
    return time_add(time_add(record->seen_at, record->idle), CR_SEEN_SLACK(record->idle));
}

cr_time_ms cr_record_deadline(const struct cr_record *record)
{
    cr_time_ms idle_end = idle_deadline(record);
    return idle_end < record->ends_at ? idle_end : record->ends_at;
}

void cr_record_judge(struct cr_record *record, uint64_t user_generation, uint64_t global_generation,
                     cr_time_ms now)
{
    record->absolute_left = time_left(record->ends_at, now);
    record->idle_left = time_left(time_add(record->seen_at, record->idle), now);
    record->old_left = time_left(record->old_until, now);
    record->dead = CR_REASON_NONE;
    if (record->global_generation != global_generation)
        record->dead = CR_REASON_EVERYBODY;
    else if (record->user.length > 0 && record->user_generation != user_generation)
        record->dead = CR_REASON_ADMIN;
    else if (now >= cr_record_deadline(record))
        record->dead =
            record->ends_at <= idle_deadline(record) ? CR_REASON_ABSOLUTE : CR_REASON_IDLE;
}

bool cr_session_id_is_sound(const struct cr_session_id *id)
{
    struct cr_session_id parsed;
    return id->text[CR_SESSION_ID_CHARS] == '\0' &&
           cr_session_id_parse(id->text, CR_SESSION_ID_CHARS, &parsed) == CR_OK;
}

bool cr_user_is_sound(const struct cr_user *user)
{
    return user->length >= 1 && user->length <= CR_USER_BYTES_MAX;
}

void cr_debt_name(const struct cr_ending_id *identity, const struct cr_user *user,
                  struct cr_user *out_name)
{
    /* The keys of debts begin with their kind, none of which is 0. */
    unsigned char input[2 + CR_USER_BYTES_MAX] = {0, user->length};
    memcpy(input + 2, user->bytes, user->length);
    memset(out_name, 0, sizeof *out_name);
    out_name->length = CR_DEBT_NAME_BYTES;
    int failed = crypto_generichash(out_name->bytes, CR_DEBT_NAME_BYTES, input, 2 + user->length,
                                    identity->bytes, sizeof identity->bytes);
    CR_ASSERT(failed == 0);
}

static bool text_ends(const char *text, size_t capacity)
{
    return memchr(text, '\0', capacity) != NULL;
}

bool cr_record_is_sound(const struct cr_record *record)
{
    return cr_session_id_is_sound(&record->id) && record->user.length <= CR_USER_BYTES_MAX &&
           record->sealed_bytes <= CR_SEALED_BYTES_MAX &&
           record->rights_bytes <= CR_RIGHTS_BYTES_MAX && record->idle > 0 &&
           record->idle <= CR_SPAN_MS_MAX && record->version > 0 &&
           record->data_bytes <= CR_DATA_BYTES_MAX &&
           (record->data_bytes == 0) == (record->data == NULL) &&
           text_ends(record->address, sizeof record->address) &&
           text_ends(record->agent, sizeof record->agent);
}

bool cr_origin_is_sound(const struct cr_origin *origin)
{
    return text_ends(origin->address, sizeof origin->address) &&
           text_ends(origin->agent, sizeof origin->agent);
}

static bool log_kind_is_known(enum cr_log_kind kind)
{
    switch (kind) {
    case CR_LOG_FIRST:
    case CR_LOG_SESSION_ENDED:
    case CR_LOG_SESSION_CHANGED:
    case CR_LOG_USER_ENDED:
    case CR_LOG_ALL_ENDED:
    case CR_LOG_KEY_ADDED:
        return true;
    }
    return false;
}

bool cr_log_row_is_sound(const struct cr_log_row *row)
{
    bool names_session = row->session.text[0] != '\0';
    bool needs_session = row->kind == CR_LOG_SESSION_ENDED || row->kind == CR_LOG_SESSION_CHANGED;
    return row->number > 0 && log_kind_is_known(row->kind) &&
           row->user.length <= CR_USER_BYTES_MAX && text_ends(row->by, sizeof row->by) &&
           cr_origin_is_sound(&row->from) && cr_origin_is_sound(&row->session_from) &&
           (!needs_session || names_session) &&
           (!names_session || cr_session_id_is_sound(&row->session)) &&
           (row->kind != CR_LOG_USER_ENDED || cr_user_is_sound(&row->user));
}

uint32_t cr_key_number_next(const struct cr_key *keys, size_t count)
{
    uint32_t number = count > 0 ? keys[count - 1].number : 0;
    for (unsigned tries = 0; tries < CR_KEYS_MAX; tries++) {
        bool taken = false;
        number = number % CR_KEYS_MAX + 1;
        for (size_t i = 0; i < count; i++)
            taken = taken || keys[i].number == number;
        if (!taken)
            return number;
    }
    return 0;
}

void cr_keys_judge(struct cr_key *keys, size_t count, cr_time_ms now)
{
    for (size_t i = 0; i < count; i++) {
        cr_span_ms wait = keys[i].since > now ? keys[i].since - now : 0;
        /* A clock that was put back must not keep a key waiting for longer than it was given. */
        keys[i].signs_in = wait > CR_KEY_WAIT_MS_MAX ? CR_KEY_WAIT_MS_MAX : wait;
        keys[i].until = i + 1 < count ? keys[i + 1].since : 0;
    }
}

int cr_user_compare(const struct cr_user *a, const struct cr_user *b)
{
    int order = memcmp(a->bytes, b->bytes, a->length < b->length ? a->length : b->length);
    return order != 0 ? order : a->length - b->length;
}

bool cr_ending_id_is_zero(const struct cr_ending_id *id)
{
    return cr_bytes_are_zero(id->bytes, sizeof id->bytes);
}

bool cr_ending_id_equal(const struct cr_ending_id *a, const struct cr_ending_id *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

enum cr_status cr_log_rows_add(struct cr_log_rows *rows, const struct cr_log_row *row)
{
    CR_ASSERT(rows->count <= rows->capacity);
    if (rows->count == rows->capacity) {
        size_t capacity = rows->capacity == 0 ? LOG_ROWS_FIRST : 2 * rows->capacity;
        struct cr_log_row *grown = reallocarray(rows->rows, capacity, sizeof *grown);
        if (grown == NULL)
            return CR_E_NO_MEMORY;
        rows->rows = grown;
        rows->capacity = capacity;
    }
    rows->rows[rows->count++] = *row;
    return CR_OK;
}

void cr_log_rows_fini(struct cr_log_rows *rows)
{
    if (rows == NULL)
        return;
    free(rows->rows);
    *rows = (struct cr_log_rows){0};
}
