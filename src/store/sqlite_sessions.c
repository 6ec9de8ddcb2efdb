/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The SQLite store's sessions: finding, making, changing, listing and sweeping them. A call looks
 * at all that can refuse it before it writes; when a write fails after all, the batch is broken and
 * will not be committed, so that nothing is ever half done.
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "store/sqlite.h"

#define CHUNK 64 /* rows that are looked at before they are changed */

/* ---- reading. A statement must not be stepped on while its table is changed, so heads are copies.
 */

/* SESSION_COLUMNS (sqlite_query.c), with the verdict on whether it is live. */
static void query_record(struct cr_query *query, struct cr_record *out)
{
    struct cr_sum sum, want;
    struct cr_meta meta;
    memset(out, 0, sizeof *out);
    cr_query_text(query, out->id.text, sizeof out->id.text);
    cr_query_user(query, &out->user);
    out->user_generation = cr_query_uint(query);
    out->global_generation = cr_query_uint(query);
    out->created_at = cr_query_int(query);
    out->authenticated_at = cr_query_int(query);
    out->ends_at = cr_query_int(query);
    out->seen_at = cr_query_int(query);
    out->idle = cr_query_int(query);
    out->version = cr_query_uint(query);
    cr_query_bytes(query, out->hash.bytes, sizeof out->hash.bytes);
    cr_query_bytes(query, out->old_hash.bytes, sizeof out->old_hash.bytes);
    out->old_until = cr_query_int(query);
    out->sealed_bytes = (uint8_t)cr_query_blob(query, out->sealed, sizeof out->sealed);
    out->rights_bytes = (uint16_t)cr_query_blob(query, out->rights, sizeof out->rights);
    cr_query_text(query, out->address, sizeof out->address);
    cr_query_text(query, out->agent, sizeof out->agent);
    cr_query_bytes(query, sum.bytes, sizeof sum.bytes);
    cr_sqlite_sum_record(out, &want);
    query->is_bad = query->is_bad || !cr_sum_equal(&sum, &want);
    uint64_t generation = cr_query_generation(query, &out->user);
    cr_query_meta(query, &meta);
    cr_record_judge(out, generation, meta.global_generation, cr_sqlite_now(query->sqlite));
}

static enum cr_status query_data(struct cr_query *query, struct cr_record *out)
{
    struct cr_sum sum, want;
    int column = query->column++;
    const void *data = sqlite3_column_blob(query->statement, column);
    size_t count = (size_t)sqlite3_column_bytes(query->statement, column);
    if (count > CR_DATA_BYTES_MAX)
        return CR_E_CORRUPT;
    if (data != NULL && count > 0) {
        out->data = malloc(count);
        if (out->data == NULL)
            return CR_E_NO_MEMORY;
        memcpy(out->data, data, count);
        out->data_bytes = (uint32_t)count;
    }
    cr_query_bytes(query, sum.bytes, sizeof sum.bytes);
    cr_sqlite_sum_data(out, &want);
    query->is_bad = query->is_bad || !cr_sum_equal(&sum, &want);
    return CR_OK;
}

enum cr_status cr_sqlite_find(struct cr_store *store, const struct cr_session_id *id,
                              struct cr_record *out)
{
    struct cr_query query;
    cr_query_open(&query, cr_sqlite_of(store), SQL_SESSION_FIND);
    cr_query_bind_text(&query, id->text);
    enum cr_status st = cr_query_row(&query);
    if (st == CR_OK) {
        query_record(&query, out);
        st = query_data(&query, out);
    }
    return cr_query_close(&query, st); /* store.c frees the data of one that is bad */
}

enum cr_status cr_sqlite_head(struct cr_sqlite *s, const struct cr_session_id *id,
                              struct cr_record *out)
{
    struct cr_query query;
    *out = (struct cr_record){0};
    cr_query_open(&query, s, SQL_SESSION_HEAD);
    cr_query_bind_text(&query, id->text);
    enum cr_status st = cr_query_row(&query);
    if (st == CR_OK)
        query_record(&query, out);
    return cr_query_close(&query, st);
}

enum cr_status cr_sqlite_head_live(struct cr_sqlite *s, const struct cr_session_id *id,
                                   struct cr_record *out)
{
    enum cr_status st = cr_sqlite_head(s, id, out);
    return st == CR_OK && out->dead != CR_REASON_NONE ? CR_ENDED : st;
}

/* ---- writing */

static void bind_old_hash(struct cr_query *query, const struct cr_token_hash *hash)
{
    bool is_zero = cr_bytes_are_zero(hash->bytes, sizeof hash->bytes);
    cr_query_bind_blob(query, hash->bytes, is_zero ? 0 : sizeof hash->bytes);
}

/* *out_inserted false: the id is taken, and nothing was written. */
static enum cr_status session_insert(struct cr_sqlite *s, const struct cr_record *record,
                                     bool *out_inserted)
{
    struct cr_query query;
    struct cr_sum sum, data_sum;
    cr_sqlite_sum_record(record, &sum);
    cr_sqlite_sum_data(record, &data_sum);
    cr_query_open(&query, s, SQL_SESSION_INSERT);
    cr_query_bind_text(&query, record->id.text);
    cr_query_bind_user(&query, &record->user);
    cr_query_bind_uint(&query, record->user_generation);
    cr_query_bind_uint(&query, record->global_generation);
    cr_query_bind_int(&query, record->created_at);
    cr_query_bind_int(&query, record->authenticated_at);
    cr_query_bind_int(&query, record->ends_at);
    cr_query_bind_int(&query, record->seen_at);
    cr_query_bind_int(&query, record->idle);
    cr_query_bind_uint(&query, record->version);
    cr_query_bind_blob(&query, record->hash.bytes, sizeof record->hash.bytes);
    bind_old_hash(&query, &record->old_hash);
    cr_query_bind_int(&query, record->old_until);
    cr_query_bind_blob(&query, record->sealed, record->sealed_bytes);
    cr_query_bind_blob(&query, record->rights, record->rights_bytes);
    cr_query_bind_text(&query, record->address);
    cr_query_bind_text(&query, record->agent);
    cr_query_bind_blob(&query, sum.bytes, sizeof sum.bytes);
    cr_query_bind_int(&query, cr_record_deadline(record));
    cr_query_bind_blob(&query, record->data, record->data_bytes);
    cr_query_bind_blob(&query, data_sum.bytes, sizeof data_sum.bytes);
    enum cr_status st = cr_query_change(&query);
    *out_inserted = st == CR_OK && sqlite3_changes(s->db) == 1;
    return st;
}

enum cr_status cr_sqlite_session_update(struct cr_sqlite *s, const struct cr_record *record)
{
    struct cr_query query;
    struct cr_sum sum;
    cr_sqlite_sum_record(record, &sum);
    cr_query_open(&query, s, SQL_SESSION_UPDATE);
    cr_query_bind_uint(&query, record->user_generation);
    cr_query_bind_int(&query, record->authenticated_at);
    cr_query_bind_int(&query, record->ends_at);
    cr_query_bind_int(&query, record->seen_at);
    cr_query_bind_uint(&query, record->version);
    cr_query_bind_blob(&query, record->hash.bytes, sizeof record->hash.bytes);
    bind_old_hash(&query, &record->old_hash);
    cr_query_bind_int(&query, record->old_until);
    cr_query_bind_blob(&query, record->sealed, record->sealed_bytes);
    cr_query_bind_blob(&query, record->rights, record->rights_bytes);
    cr_query_bind_blob(&query, sum.bytes, sizeof sum.bytes);
    cr_query_bind_text(&query, record->id.text);
    return cr_query_change(&query);
}

enum cr_status cr_sqlite_session_delete(struct cr_sqlite *s, const struct cr_session_id *id)
{
    struct cr_query query;
    cr_query_open(&query, s, SQL_SESSION_DELETE);
    cr_query_bind_text(&query, id->text);
    return cr_query_change(&query);
}

/* ---- create */

/* Ends one for a create. Only the first row carries the ending's identity. */
static enum cr_status create_ends(struct cr_sqlite *s, const struct cr_record *record,
                                  struct cr_ending *ending, struct cr_log_rows *out_rows)
{
    struct cr_log_row row;
    enum cr_status st = cr_sqlite_session_delete(s, &record->id);
    if (st == CR_OK)
        st = cr_sqlite_log_ended(s, record, ending, &row);
    if (st == CR_OK)
        st = cr_log_rows_add(out_rows, &row);
    ending->identity = (struct cr_ending_id){0};
    return st;
}

/* Copies up to CHUNK live sessions of the user of `made`, newest first, after skipping `skip` of
 * them. `made` is not among them. */
static enum cr_status others_find(struct cr_sqlite *s, const struct cr_record *made, unsigned skip,
                                  struct cr_record *out, size_t *out_count)
{
    struct cr_query query;
    enum cr_status st = CR_OK;
    cr_query_open(&query, s, SQL_SESSION_LIST);
    cr_query_bind_user(&query, &made->user);
    cr_query_bind_uint(&query, made->user_generation);
    cr_query_bind_int(&query, INT64_MAX);
    cr_query_bind_text(&query, "");
    *out_count = 0;
    while (*out_count < CHUNK && (st = cr_query_row(&query)) == CR_OK) {
        struct cr_record *record = &out[*out_count];
        query_record(&query, record);
        if (record->dead != CR_REASON_NONE || cr_session_id_equal(&record->id, &made->id))
            continue;
        if (skip > 0)
            skip--;
        else
            ++*out_count;
    }
    return cr_query_close(&query, st == CR_NOT_FOUND ? CR_OK : st);
}

static enum cr_status create_trim(struct cr_sqlite *s, const struct cr_record *made,
                                  unsigned keep_count, struct cr_ending *ending,
                                  struct cr_log_rows *out_rows)
{
    struct cr_record *others = calloc(CHUNK, sizeof *others);
    if (others == NULL)
        return CR_E_NO_MEMORY;
    enum cr_status st;
    size_t count;
    do {
        st = others_find(s, made, keep_count - 1, others, &count);
        for (size_t i = 0; st == CR_OK && i < count; i++)
            st = create_ends(s, &others[i], ending, out_rows);
    } while (st == CR_OK && count == CHUNK);
    free(others);
    return st;
}

/* Nothing in here answers CR_CONFLICT: what could has been looked at. */
static enum cr_status create_write(struct cr_sqlite *s, struct cr_record *record,
                                   const struct cr_create_terms *terms, uint64_t generation,
                                   const struct cr_record *anonymous, struct cr_log_rows *out_rows)
{
    struct cr_ending ending = terms->ending;
    struct cr_ending upgrade = terms->ending;
    struct cr_log_row row;
    enum cr_status st = CR_OK;
    if (generation != record->user_generation)
        st = cr_sqlite_user_raise(s, &record->user, generation, &generation);
    if (st == CR_OK && terms->replace && generation > 1) {
        st = cr_sqlite_log_user(s, &record->user, generation, &ending, &row);
        if (st == CR_OK)
            st = cr_log_rows_add(out_rows, &row);
        ending.identity = (struct cr_ending_id){0};
    }
    if (st == CR_OK && anonymous != NULL) {
        upgrade.identity = ending.identity;
        upgrade.reason = CR_REASON_UPGRADED;
        st = create_ends(s, anonymous, &upgrade, out_rows);
        ending.identity = (struct cr_ending_id){0};
    }
    if (st == CR_OK && terms->keep_count > 0)
        st = create_trim(s, record, terms->keep_count, &ending, out_rows);
    return st;
}

/* The ending was carried out before: gives what that call gave. */
static enum cr_status create_repeated(struct cr_sqlite *s, struct cr_record *record,
                                      const struct cr_log_row *row, struct cr_log_rows *out_rows)
{
    struct cr_record made;
    enum cr_status st = cr_sqlite_head_live(s, &record->id, &made);
    if (st == CR_NOT_FOUND || st == CR_ENDED)
        return CR_CONFLICT;
    if (st != CR_OK)
        return st;
    cr_record_repeat(record, &made);
    return cr_log_rows_add(out_rows, row);
}

/* An upgrade needs an anonymous session that is live. */
static enum cr_status anonymous_find(struct cr_sqlite *s, const struct cr_session_id *id,
                                     struct cr_record *out)
{
    enum cr_status st = cr_sqlite_head_live(s, id, out);
    if (st == CR_NOT_FOUND || st == CR_ENDED)
        return CR_CONFLICT;
    return st == CR_OK && out->user.length > 0 ? CR_CONFLICT : st;
}

enum cr_status cr_sqlite_create(struct cr_store *store, struct cr_record *record,
                                const struct cr_create_terms *terms, struct cr_log_rows *out_rows)
{
    struct cr_sqlite *s = cr_sqlite_of(store);
    struct cr_generations now;
    struct cr_record anonymous;
    struct cr_log_row row;
    bool inserted;
    bool upgrades = terms->anonymous.text[0] != '\0';
    enum cr_status st = cr_sqlite_log_find(s, &terms->ending.identity, &row);
    if (st == CR_OK)
        return create_repeated(s, record, &row, out_rows);
    if (st != CR_NOT_FOUND)
        return st;
    st = cr_sqlite_generations(s, &record->user, &now);
    if (st == CR_OK && terms->has_generation && terms->generation != now.user)
        st = CR_CONFLICT;
    if (st == CR_OK && upgrades)
        st = anonymous_find(s, &terms->anonymous, &anonymous);
    if (st != CR_OK)
        return st;
    bool raises = record->user.length > 0 && (now.user == 0 || terms->replace);
    cr_record_start(record, now.user + (raises ? 1 : 0), now.global, cr_sqlite_now(s));
    /* The row goes in first: of all writes it is the one that can be refused. */
    st = session_insert(s, record, &inserted);
    if (st == CR_OK && !inserted)
        return CR_CONFLICT;
    if (st == CR_OK)
        st = create_write(s, record, terms, now.user, upgrades ? &anonymous : NULL, out_rows);
    return cr_sqlite_break(s, st);
}

/* ---- change and seen */

static enum cr_status data_write(struct cr_sqlite *s, const struct cr_record *record,
                                 const struct cr_change *change)
{
    struct cr_query query;
    struct cr_sum sum;
    struct cr_record data = {.id = record->id, .version = record->version};
    /* Only to be summed. */
    data.data_bytes = change->data_bytes;
    data.data = malloc(change->data_bytes + 1U);
    if (data.data == NULL)
        return CR_E_NO_MEMORY;
    if (change->data_bytes > 0)
        memcpy(data.data, change->data, change->data_bytes);
    cr_sqlite_sum_data(&data, &sum);
    cr_query_open(&query, s, SQL_SESSION_DATA);
    cr_query_bind_blob(&query, data.data, data.data_bytes);
    cr_query_bind_blob(&query, sum.bytes, sizeof sum.bytes);
    cr_query_bind_text(&query, record->id.text);
    enum cr_status st = cr_query_change(&query);
    cr_record_fini(&data);
    return st;
}

static enum cr_status change_write(struct cr_sqlite *s, struct cr_record *record,
                                   const struct cr_change *change, struct cr_log_row *out_row)
{
    enum cr_status st = CR_OK;
    cr_record_change(record, change, cr_sqlite_now(s));
    if (change->set_data)
        st = data_write(s, record, change);
    if (st == CR_OK)
        st = cr_sqlite_session_update(s, record);
    *out_row = cr_log_row_for(CR_LOG_SESSION_CHANGED, &change->ending);
    out_row->session = record->id;
    out_row->user = record->user;
    out_row->generation = record->version;
    return st == CR_OK ? cr_sqlite_log_add(s, out_row) : st;
}

enum cr_status cr_sqlite_change(struct cr_store *store, const struct cr_session_id *id,
                                const struct cr_change *change, uint64_t *out_version,
                                struct cr_log_row *out_row)
{
    struct cr_sqlite *s = cr_sqlite_of(store);
    struct cr_record record;
    enum cr_status st = cr_sqlite_log_find(s, &change->ending.identity, out_row);
    if (st == CR_OK)
        *out_version = out_row->generation;
    if (st != CR_NOT_FOUND)
        return st;
    st = cr_sqlite_head_live(s, id, &record);
    if (st != CR_OK)
        return st;
    if (!cr_record_allows(&record, change))
        return CR_CONFLICT;
    st = change_write(s, &record, change, out_row);
    *out_version = record.version;
    return cr_sqlite_break(s, st);
}

enum cr_status cr_sqlite_seen(struct cr_store *store, const struct cr_seen *seen, size_t count)
{
    struct cr_sqlite *s = cr_sqlite_of(store);
    enum cr_status st = CR_OK;
    for (size_t i = 0; st == CR_OK && i < count; i++) {
        struct cr_record record;
        struct cr_query query;
        struct cr_sum sum;
        cr_time_ms seen_at = cr_sqlite_now(s) - seen[i].ago;
        st = cr_sqlite_head_live(s, &seen[i].id, &record);
        /* A damaged row is passed over too: nobody is waiting for it here. */
        if (st == CR_NOT_FOUND || st == CR_ENDED || st == CR_E_CORRUPT)
            st = CR_OK;
        else if (st == CR_OK && seen_at > record.seen_at) {
            record.seen_at = seen_at;
            cr_sqlite_sum_record(&record, &sum);
            cr_query_open(&query, s, SQL_SESSION_SEEN);
            cr_query_bind_int(&query, seen_at);
            cr_query_bind_blob(&query, sum.bytes, sizeof sum.bytes);
            cr_query_bind_text(&query, record.id.text);
            st = cr_query_change(&query);
        }
    }
    return cr_sqlite_break(s, st);
}

/* ---- lists */

enum cr_status cr_sqlite_list(struct cr_store *store, const struct cr_user *user,
                              cr_time_ms created_at, const struct cr_session_id *after,
                              struct cr_record *out, size_t capacity, size_t *out_count)
{
    struct cr_sqlite *s = cr_sqlite_of(store);
    struct cr_generations now;
    struct cr_query query;
    enum cr_status st = cr_sqlite_generations(s, user, &now);
    if (st != CR_OK || now.user == 0)
        return st;
    cr_query_open(&query, s, SQL_SESSION_LIST);
    cr_query_bind_user(&query, user);
    cr_query_bind_uint(&query, now.user);
    cr_query_bind_int(&query, created_at != 0 ? created_at : INT64_MAX);
    cr_query_bind_text(&query, created_at != 0 ? after->text : "");
    while (*out_count < capacity && (st = cr_query_row(&query)) == CR_OK) {
        query_record(&query, &out[*out_count]);
        if (out[*out_count].dead == CR_REASON_NONE)
            ++*out_count;
    }
    return cr_query_close(&query, st == CR_NOT_FOUND ? CR_OK : st);
}

enum cr_status cr_sqlite_list_dead(struct cr_store *store, const struct cr_user *user,
                                   struct cr_record *out, size_t capacity, size_t *out_count)
{
    struct cr_sqlite *s = cr_sqlite_of(store);
    struct cr_query query;
    enum cr_status st = CR_OK;
    cr_query_open(&query, s, SQL_SESSION_DEAD);
    cr_query_bind_user(&query, user);
    cr_query_bind_int(&query, cr_sqlite_now(s));
    while (*out_count < capacity && (st = cr_query_row(&query)) == CR_OK) {
        query_record(&query, &out[*out_count]);
        if (out[*out_count].dead != CR_REASON_NONE)
            ++*out_count;
    }
    return cr_query_close(&query, st == CR_NOT_FOUND ? CR_OK : st);
}

/* ---- sweep */

struct due {
    int64_t number;
    struct cr_record record; /* what its deadline is made of */
};

static enum cr_status due_find(struct cr_sqlite *s, cr_time_ms before, size_t limit,
                               struct due *out, size_t *out_count)
{
    struct cr_query query;
    enum cr_status st;
    cr_query_open(&query, s, SQL_SWEEP_DUE);
    cr_query_bind_int(&query, before);
    cr_query_bind_uint(&query, limit < CHUNK ? limit : CHUNK);
    *out_count = 0;
    while ((st = cr_query_row(&query)) == CR_OK && *out_count < CHUNK) {
        struct due *due = &out[(*out_count)++];
        due->number = cr_query_int(&query);
        due->record.ends_at = cr_query_int(&query);
        due->record.seen_at = cr_query_int(&query);
        due->record.idle = cr_query_int(&query);
    }
    return cr_query_close(&query, st == CR_NOT_FOUND ? CR_OK : st);
}

/* `sweep_at` is the deadline as of the creation: it is put off here, once in 7 days, rather than by
 * each use, which would write an index each time. */
static enum cr_status due_sweep(struct cr_sqlite *s, const struct due *due, cr_time_ms before,
                                size_t *count)
{
    struct cr_query query;
    cr_time_ms deadline = cr_record_deadline(&due->record);
    if (deadline <= before) {
        ++*count;
        cr_query_open(&query, s, SQL_SWEEP_NUMBER);
    } else {
        cr_query_open(&query, s, SQL_SWEEP_LATER);
        cr_query_bind_int(&query, deadline);
    }
    cr_query_bind_int(&query, due->number);
    return cr_query_change(&query);
}

static enum cr_status sweep_by_time(struct cr_sqlite *s, cr_time_ms before, size_t limit,
                                    size_t *count)
{
    struct due *due = calloc(CHUNK, sizeof *due);
    if (due == NULL)
        return CR_E_NO_MEMORY;
    enum cr_status st;
    size_t due_count;
    do {
        st = due_find(s, before, limit - *count, due, &due_count);
        for (size_t i = 0; st == CR_OK && i < due_count; i++)
            st = due_sweep(s, &due[i], before, count);
    } while (st == CR_OK && due_count > 0 && *count < limit);
    free(due);
    return st;
}

struct sweep {
    cr_time_ms before; /* what died before this goes */
    size_t limit, session_count, log_count;
    uint64_t last; /* the newest log row, which stays */
};

/* What one old log row ended goes before the row itself, so that no dead session outlives it.
 * *out_more: there may be another old one. */
static enum cr_status sweep_row(struct cr_sqlite *s, struct sweep *sweep,
                                const struct cr_log_row *row, bool *out_more)
{
    struct cr_query query;
    *out_more = false;
    if (row->kind == CR_LOG_USER_ENDED || row->kind == CR_LOG_ALL_ENDED) {
        cr_query_open(&query, s, row->kind == CR_LOG_USER_ENDED ? SQL_SWEEP_USER : SQL_SWEEP_ALL);
        if (row->kind == CR_LOG_USER_ENDED)
            cr_query_bind_user(&query, &row->user);
        cr_query_bind_uint(&query, row->generation);
        cr_query_bind_uint(&query, sweep->limit - sweep->session_count);
        enum cr_status st = cr_query_change(&query);
        if (st != CR_OK)
            return st;
        sweep->session_count += (size_t)sqlite3_changes(s->db);
    }
    if (sweep->session_count >= sweep->limit || row->number == sweep->last)
        return CR_OK;
    *out_more = ++sweep->log_count < sweep->limit;
    cr_query_open(&query, s, SQL_LOG_DELETE);
    cr_query_bind_uint(&query, row->number);
    return cr_query_change(&query);
}

static enum cr_status sweep_log(struct cr_sqlite *s, struct sweep *sweep)
{
    struct cr_log_rows rows = {0};
    struct cr_log_row last;
    enum cr_status st = cr_sqlite_log_last(&s->store, &last);
    bool more = st == CR_OK;
    sweep->last = more ? last.number : 0;
    while (st == CR_OK && more) {
        rows.count = 0;
        st = cr_sqlite_log_rows(s, 0, CHUNK, &rows);
        more = rows.count > 0;
        for (size_t i = 0; st == CR_OK && more && i < rows.count; i++) {
            more = rows.rows[i].at <= sweep->before;
            if (more)
                st = sweep_row(s, sweep, &rows.rows[i], &more);
        }
    }
    cr_log_rows_fini(&rows);
    return st;
}

enum cr_status cr_sqlite_sweep(struct cr_store *store, size_t limit, size_t *out_count)
{
    struct cr_sqlite *s = cr_sqlite_of(store);
    struct sweep sweep = {.before = cr_sqlite_now(s) - CR_REMEMBER_MS, .limit = limit};
    enum cr_status st = sweep_by_time(s, sweep.before, limit, &sweep.session_count);
    if (st == CR_OK && sweep.session_count < limit)
        st = sweep_log(s, &sweep);
    if (st == CR_OK)
        st = cr_sqlite_keys_sweep(s);
    *out_count = sweep.session_count + sweep.log_count;
    if (st == CR_OK)
        st = cr_sqlite_debt_sweep(s, limit, out_count);
    if (st == CR_OK)
        st = cr_sqlite_resets_sweep(s, limit, out_count);
    return cr_sqlite_break(s, st);
}
