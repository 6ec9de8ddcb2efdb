/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory store's calls about sessions and their endings. Invariant: a session's row is replaced
 * by itself with other contents, or removed; it is put in only by create.
 */
#include "store/memory.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

/* ---- rows */

static const struct cr_record *session_find(const struct memory *memory,
                                            const struct cr_session_id *id)
{
    const struct cr_row *row = cr_rows_find(&memory->sessions, id->text, CR_SESSION_ID_CHARS);
    return row == NULL ? NULL : &((const struct session_row *)row)->record;
}

/* A copy of `record` to change and put back; cr_session_put takes it over. */
static enum cr_status session_copy(const struct cr_record *record, struct session_row **out_row)
{
    struct session_row *row = calloc(1, sizeof *row);
    if (row == NULL)
        return CR_E_NO_MEMORY;
    enum cr_status st = cr_record_copy(&row->record, record, true);
    if (st == CR_OK)
        *out_row = row;
    else
        free(row);
    return st;
}

static enum cr_status session_put(struct memory *memory, struct session_row *row)
{
    return cr_rows_put(&memory->sessions, &memory->undo, &row->row);
}

static enum cr_status session_remove(struct memory *memory, const struct cr_session_id *id)
{
    struct cr_row *row = cr_rows_find(&memory->sessions, id->text, CR_SESSION_ID_CHARS);
    CR_ASSERT(row != NULL);
    return cr_rows_remove(&memory->sessions, &memory->undo, row);
}

static void session_judge(const struct memory *memory, struct cr_record *record)
{
    cr_record_judge(record, cr_memory_generation(memory, &record->user),
                    memory->counters.global_generation, cr_memory_now(memory));
}

static bool session_is_live(const struct memory *memory, const struct cr_record *record)
{
    struct cr_record judged = *record; /* shares the data, which is not looked at */
    session_judge(memory, &judged);
    return judged.dead == CR_REASON_NONE;
}

/* The live session `id`, or CR_NOT_FOUND, or CR_ENDED. */
static enum cr_status session_find_live(const struct memory *memory, const struct cr_session_id *id,
                                        const struct cr_record **out_record)
{
    *out_record = session_find(memory, id);
    if (*out_record == NULL)
        return CR_NOT_FOUND;
    return session_is_live(memory, *out_record) ? CR_OK : CR_ENDED;
}

uint64_t cr_memory_generation(const struct memory *memory, const struct cr_user *user)
{
    const struct cr_row *row = cr_rows_find(&memory->users, user->bytes, user->length);
    return row == NULL ? 0 : ((const struct user_row *)row)->generation;
}

enum cr_status cr_memory_generation_raise(struct memory *memory, const struct cr_user *user,
                                          uint64_t *out_generation)
{
    struct user_row *row = calloc(1, sizeof *row);
    if (row == NULL)
        return CR_E_NO_MEMORY;
    row->user = *user;
    row->generation = cr_memory_generation(memory, user) + 1;
    *out_generation = row->generation;
    return cr_rows_put(&memory->users, &memory->undo, &row->row);
}

enum cr_status cr_memory_find(struct cr_store *store, const struct cr_session_id *id,
                              struct cr_record *out)
{
    struct memory_call call;
    const struct memory *memory = cr_memory_enter(store, &call);
    const struct cr_record *record = session_find(memory, id);
    enum cr_status st = record == NULL ? CR_NOT_FOUND : cr_record_copy(out, record, true);
    if (st == CR_OK)
        session_judge(memory, out);
    return cr_memory_leave(&call, st);
}

/* ---- create */

static enum cr_status ended_log(struct memory *memory, const struct cr_record *record,
                                const struct cr_ending *ending, struct cr_log_row *out_row)
{
    struct cr_log_row row = cr_log_row_ended(record, ending);
    return cr_memory_log_add(memory, &row, out_row);
}

static enum cr_status user_log(struct memory *memory, const struct cr_user *user,
                               uint64_t generation, const struct cr_session_id *kept,
                               const struct cr_ending *ending, struct cr_log_row *out_row)
{
    struct cr_log_row row = cr_log_row_for(CR_LOG_USER_ENDED, ending);
    row.user = *user;
    row.generation = generation;
    if (kept != NULL)
        row.session = *kept;
    return cr_memory_log_add(memory, &row, out_row);
}

/* End one live session for a create. Only the first row carries the ending's identity. */
static enum cr_status create_ends(struct memory *memory, const struct cr_session_id *id,
                                  struct cr_ending *ending, struct cr_log_rows *out_rows)
{
    struct cr_log_row row;
    enum cr_status st = ended_log(memory, session_find(memory, id), ending, &row);
    if (st == CR_OK)
        st = session_remove(memory, id);
    if (st == CR_OK)
        st = cr_log_rows_add(out_rows, &row);
    ending->identity = (struct cr_ending_id){0};
    return st;
}

static enum cr_status create_replace(struct memory *memory, const struct cr_user *user,
                                     struct cr_ending *ending, struct cr_log_rows *out_rows)
{
    if (cr_memory_generation(memory, user) == 0)
        return CR_OK; /* never seen: there is nothing to end */
    uint64_t generation;
    struct cr_log_row row;
    enum cr_status st = cr_memory_generation_raise(memory, user, &generation);
    if (st == CR_OK)
        st = user_log(memory, user, generation, NULL, ending, &row);
    if (st == CR_OK)
        st = cr_log_rows_add(out_rows, &row);
    ending->identity = (struct cr_ending_id){0};
    return st;
}

static enum cr_status create_upgrade(struct memory *memory, const struct cr_session_id *anonymous,
                                     const struct cr_ending *ending, struct cr_log_rows *out_rows)
{
    const struct cr_record *record = session_find(memory, anonymous);
    if (record == NULL || record->user.length > 0 || !session_is_live(memory, record))
        return CR_CONFLICT;
    struct cr_ending upgrade = *ending;
    upgrade.reason = CR_REASON_UPGRADED;
    return create_ends(memory, anonymous, &upgrade, out_rows);
}

static bool is_older(const struct cr_record *a, const struct cr_record *b)
{
    return a->created_at < b->created_at ||
           (a->created_at == b->created_at && strcmp(a->id.text, b->id.text) < 0);
}

/* The oldest live session of the user of `made`, but for `made`; and how many live, it included. */
static const struct cr_record *session_oldest(const struct memory *memory,
                                              const struct cr_record *made, size_t *out_count)
{
    const struct cr_user *user = &made->user;
    const struct cr_record *oldest = NULL;
    const struct cr_row *row = NULL;
    *out_count = 0;
    while ((row = cr_rows_group_next(&memory->sessions, user->bytes, user->length, row)) != NULL) {
        const struct cr_record *record = &((const struct session_row *)row)->record;
        if (!session_is_live(memory, record))
            continue;
        ++*out_count;
        if (!cr_session_id_equal(&record->id, &made->id) &&
            (oldest == NULL || is_older(record, oldest)))
            oldest = record;
    }
    return oldest;
}

static enum cr_status create_trim(struct memory *memory, const struct cr_record *made,
                                  unsigned keep_count, struct cr_ending *ending,
                                  struct cr_log_rows *out_rows)
{
    for (;;) {
        size_t count;
        const struct cr_record *oldest = session_oldest(memory, made, &count);
        if (count <= keep_count || oldest == NULL)
            return CR_OK;
        struct cr_session_id id = oldest->id;
        enum cr_status st = create_ends(memory, &id, ending, out_rows);
        if (st != CR_OK)
            return st;
    }
}

static enum cr_status create_insert(struct memory *memory, struct cr_record *record)
{
    enum cr_status st = CR_OK;
    uint64_t generation = 0;
    if (record->user.length > 0) {
        generation = cr_memory_generation(memory, &record->user);
        if (generation == 0)
            st = cr_memory_generation_raise(memory, &record->user, &generation);
        if (st != CR_OK)
            return st;
    }
    cr_record_start(record, generation, memory->counters.global_generation, cr_memory_now(memory));
    struct session_row *row;
    st = session_copy(record, &row);
    return st == CR_OK ? session_put(memory, row) : st;
}

/* The ending was carried out before: gives what that call gave. */
static enum cr_status create_repeated(const struct memory *memory, struct cr_record *record,
                                      const struct cr_log_row *row, struct cr_log_rows *out_rows)
{
    const struct cr_record *made;
    if (session_find_live(memory, &record->id, &made) != CR_OK)
        return CR_CONFLICT;
    cr_record_repeat(record, made);
    return cr_log_rows_add(out_rows, row);
}

enum cr_status cr_memory_create_session(struct cr_store *store, struct cr_record *record,
                                        const struct cr_create_terms *terms,
                                        struct cr_log_rows *out_rows)
{
    struct memory_call call;
    struct memory *memory = cr_memory_enter(store, &call);
    struct cr_ending ending = terms->ending;
    const struct cr_log_row *repeated = cr_ending_id_is_zero(&ending.identity)
                                            ? NULL
                                            : cr_memory_log_find(memory, &ending.identity);
    if (repeated != NULL)
        return cr_memory_leave(&call, create_repeated(memory, record, repeated, out_rows));
    enum cr_status st = CR_CONFLICT;
    if (session_find(memory, &record->id) != NULL)
        goto out;
    if (terms->has_generation && terms->generation != cr_memory_generation(memory, &record->user))
        goto out;
    st = CR_OK;
    if (terms->replace)
        st = create_replace(memory, &record->user, &ending, out_rows);
    if (st == CR_OK && terms->anonymous.text[0] != '\0') {
        st = create_upgrade(memory, &terms->anonymous, &ending, out_rows);
        ending.identity = (struct cr_ending_id){0};
    }
    if (st == CR_OK)
        st = create_insert(memory, record);
    if (st == CR_OK && terms->keep_count > 0)
        st = create_trim(memory, record, terms->keep_count, &ending, out_rows);
out:
    return cr_memory_leave(&call, st);
}

/* ---- change and seen */

static enum cr_status data_change(struct cr_record *record, const struct cr_change *change)
{
    unsigned char *data = NULL;
    if (change->data_bytes > 0) {
        data = malloc(change->data_bytes);
        if (data == NULL)
            return CR_E_NO_MEMORY;
        memcpy(data, change->data, change->data_bytes);
    }
    free(record->data);
    record->data = data;
    record->data_bytes = change->data_bytes;
    return CR_OK;
}

static enum cr_status change_make(struct memory *memory, const struct cr_session_id *id,
                                  const struct cr_change *change, struct cr_log_row *out_row)
{
    const struct cr_record *record;
    enum cr_status st = session_find_live(memory, id, &record);
    if (st != CR_OK)
        return st;
    if (!cr_record_allows(record, change))
        return CR_CONFLICT;
    struct session_row *row;
    st = session_copy(record, &row);
    if (st != CR_OK)
        return st;
    cr_record_change(&row->record, change, cr_memory_now(memory));
    if (change->set_data)
        st = data_change(&row->record, change);
    if (st != CR_OK) {
        cr_record_fini(&row->record);
        free(row);
        return st;
    }
    struct cr_log_row log = cr_log_row_for(CR_LOG_SESSION_CHANGED, &change->ending);
    log.session = *id;
    log.user = row->record.user;
    log.generation = row->record.version;
    st = session_put(memory, row);
    return st == CR_OK ? cr_memory_log_add(memory, &log, out_row) : st;
}

enum cr_status cr_memory_change(struct cr_store *store, const struct cr_session_id *id,
                                const struct cr_change *change, uint64_t *out_version,
                                struct cr_log_row *out_row)
{
    struct memory_call call;
    struct memory *memory = cr_memory_enter(store, &call);
    enum cr_status st = CR_OK;
    const struct cr_log_row *repeated = cr_memory_log_find(memory, &change->ending.identity);
    if (repeated != NULL)
        *out_row = *repeated;
    else
        st = change_make(memory, id, change, out_row);
    if (st == CR_OK)
        *out_version = out_row->generation;
    return cr_memory_leave(&call, st);
}

enum cr_status cr_memory_seen(struct cr_store *store, const struct cr_seen *seen, size_t count)
{
    struct memory_call call;
    struct memory *memory = cr_memory_enter(store, &call);
    enum cr_status st = CR_OK;
    for (size_t i = 0; st == CR_OK && i < count; i++) {
        const struct cr_record *record;
        cr_time_ms seen_at = cr_memory_now(memory) - seen[i].ago;
        if (session_find_live(memory, &seen[i].id, &record) != CR_OK || seen_at <= record->seen_at)
            continue;
        struct session_row *row;
        st = session_copy(record, &row);
        if (st != CR_OK)
            break;
        row->record.seen_at = seen_at;
        st = session_put(memory, row);
    }
    return cr_memory_leave(&call, st);
}

/* ---- endings */

enum cr_status cr_memory_end(struct cr_store *store, const struct cr_session_id *id,
                             const struct cr_ending *ending, struct cr_log_row *out_row)
{
    struct memory_call call;
    struct memory *memory = cr_memory_enter(store, &call);
    const struct cr_record *record;
    enum cr_status st = CR_OK;
    const struct cr_log_row *repeated = cr_memory_log_find(memory, &ending->identity);
    if (repeated != NULL) {
        *out_row = *repeated;
        goto out;
    }
    st = CR_NOT_FOUND;
    if (session_find_live(memory, id, &record) != CR_OK)
        goto out;
    st = ended_log(memory, record, ending, out_row);
    if (st == CR_OK)
        st = session_remove(memory, id);
out:
    return cr_memory_leave(&call, st);
}

enum cr_status cr_memory_end_user(struct cr_store *store, const struct cr_user *user,
                                  const struct cr_ending *ending, struct cr_log_row *out_row)
{
    struct memory_call call;
    struct memory *memory = cr_memory_enter(store, &call);
    uint64_t generation;
    enum cr_status st = CR_OK;
    const struct cr_log_row *repeated = cr_memory_log_find(memory, &ending->identity);
    if (repeated != NULL) {
        *out_row = *repeated;
        goto out;
    }
    st = CR_UNKNOWN_USER;
    if (cr_memory_generation(memory, user) == 0)
        goto out;
    st = cr_memory_generation_raise(memory, user, &generation);
    if (st == CR_OK)
        st = user_log(memory, user, generation, NULL, ending, out_row);
out:
    return cr_memory_leave(&call, st);
}

static enum cr_status others_end(struct memory *memory, const struct cr_session_id *keep,
                                 const struct cr_ending *ending, struct cr_log_row *out_row)
{
    const struct cr_record *record;
    struct session_row *row;
    uint64_t generation;
    enum cr_status st = session_find_live(memory, keep, &record);
    if (st == CR_OK && record->user.length == 0)
        st = CR_UNKNOWN_USER;
    if (st == CR_OK)
        st = cr_memory_generation_raise(memory, &record->user, &generation);
    if (st == CR_OK)
        st = user_log(memory, &record->user, generation, keep, ending, out_row);
    if (st == CR_OK)
        st = session_copy(record, &row);
    if (st != CR_OK)
        return st;
    row->record.user_generation = generation;
    return session_put(memory, row);
}

enum cr_status cr_memory_end_others(struct cr_store *store, const struct cr_session_id *keep,
                                    const struct cr_ending *ending, struct cr_log_row *out_row)
{
    struct memory_call call;
    struct memory *memory = cr_memory_enter(store, &call);
    const struct cr_log_row *repeated = cr_memory_log_find(memory, &ending->identity);
    if (repeated != NULL)
        *out_row = *repeated;
    return cr_memory_leave(&call,
                           repeated != NULL ? CR_OK : others_end(memory, keep, ending, out_row));
}

enum cr_status cr_memory_end_all(struct cr_store *store, const struct cr_ending *ending,
                                 struct cr_log_row *out_row)
{
    struct memory_call call;
    struct memory *memory = cr_memory_enter(store, &call);
    enum cr_status st = CR_OK;
    const struct cr_log_row *repeated = cr_memory_log_find(memory, &ending->identity);
    if (repeated != NULL) {
        *out_row = *repeated;
    } else {
        struct cr_log_row row = cr_log_row_for(CR_LOG_ALL_ENDED, ending);
        row.generation = ++memory->counters.global_generation;
        st = cr_memory_log_add(memory, &row, out_row);
    }
    return cr_memory_leave(&call, st);
}

/* ---- lists */

static int newest_first(const void *a, const void *b)
{
    const struct cr_record *const *left = a, *const *right = b;
    return is_older(*left, *right) ? 1 : -1; /* no two have one id */
}

static int newest_generation_first(const void *a, const void *b)
{
    const struct cr_record *const *left = a, *const *right = b;
    if ((*left)->user_generation != (*right)->user_generation)
        return (*left)->user_generation < (*right)->user_generation ? 1 : -1;
    return newest_first(a, b);
}

/* Copies the pointers to a user's live sessions, or dead ones; their number when `out` is NULL. */
static size_t sessions_of(const struct memory *memory, const struct cr_user *user, bool live,
                          const struct cr_record **out)
{
    size_t count = 0;
    const struct cr_row *row = NULL;
    while ((row = cr_rows_group_next(&memory->sessions, user->bytes, user->length, row)) != NULL) {
        const struct cr_record *record = &((const struct session_row *)row)->record;
        if (session_is_live(memory, record) != live)
            continue;
        if (out != NULL)
            out[count] = record;
        count++;
    }
    return count;
}

enum cr_status cr_memory_list(struct cr_store *store, const struct cr_user *user,
                              cr_time_ms created_at, const struct cr_session_id *after,
                              struct cr_record *out, size_t capacity, size_t *out_count)
{
    struct memory_call call;
    const struct memory *memory = cr_memory_enter(store, &call);
    enum cr_status st = CR_OK;
    size_t live_count = sessions_of(memory, user, true, NULL);
    const struct cr_record **live = calloc(live_count + 1, sizeof(const struct cr_record *));
    if (live == NULL) {
        st = CR_E_NO_MEMORY;
        goto out;
    }
    struct cr_record cursor = {.created_at = created_at};
    if (created_at != 0)
        cursor.id = *after;
    sessions_of(memory, user, true, live);
    qsort(live, live_count, sizeof(const struct cr_record *), newest_first);
    for (size_t i = 0; i < live_count && *out_count < capacity; i++) {
        if (created_at != 0 && !is_older(live[i], &cursor))
            continue;
        struct cr_record *record = &out[(*out_count)++];
        st = cr_record_copy(record, live[i], false);
        CR_ASSERT(st == CR_OK);
        session_judge(memory, record);
    }
out:
    free(live);
    return cr_memory_leave(&call, st);
}

enum cr_status cr_memory_list_dead(struct cr_store *store, const struct cr_user *user,
                                   struct cr_record *out, size_t capacity, size_t *out_count)
{
    struct memory_call call;
    const struct memory *memory = cr_memory_enter(store, &call);
    enum cr_status st = CR_OK;
    size_t count = sessions_of(memory, user, false, NULL);
    const struct cr_record **dead = calloc(count + 1, sizeof(const struct cr_record *));
    if (dead == NULL) {
        st = CR_E_NO_MEMORY;
        goto out;
    }
    sessions_of(memory, user, false, dead);
    qsort(dead, count, sizeof(const struct cr_record *), newest_generation_first);
    for (size_t i = 0; i < count && *out_count < capacity; i++) {
        struct cr_record *record = &out[(*out_count)++];
        st = cr_record_copy(record, dead[i], false);
        CR_ASSERT(st == CR_OK);
        session_judge(memory, record);
    }
out:
    free(dead);
    return cr_memory_leave(&call, st);
}

/* ---- sweep */

struct sweep {
    struct memory *memory;
    cr_time_ms before; /* what died before this goes */
    size_t limit, session_count, log_count;
};

/* Removes what `dies` says of all sessions, or of those of one user. */
static enum cr_status sweep_sessions(struct sweep *sweep, const struct cr_user *user,
                                     bool (*dies)(const struct sweep *, const struct cr_record *,
                                                  uint64_t generation),
                                     uint64_t generation)
{
    struct cr_rows *rows = &sweep->memory->sessions;
    struct cr_row *row, *next = NULL;
    enum cr_status st = CR_OK;
    row = user == NULL ? cr_rows_next(rows, NULL)
                       : cr_rows_group_next(rows, user->bytes, user->length, NULL);
    for (; st == CR_OK && row != NULL && sweep->session_count < sweep->limit; row = next) {
        next = user == NULL ? cr_rows_next(rows, row)
                            : cr_rows_group_next(rows, user->bytes, user->length, row);
        if (!dies(sweep, &((const struct session_row *)row)->record, generation))
            continue;
        st = cr_rows_remove(rows, &sweep->memory->undo, row);
        sweep->session_count++;
    }
    return st;
}

static bool dies_by_time(const struct sweep *sweep, const struct cr_record *record,
                         uint64_t generation)
{
    return cr_record_deadline(record) <= sweep->before;
}

static bool dies_with_user(const struct sweep *sweep, const struct cr_record *record,
                           uint64_t generation)
{
    return record->user_generation < generation;
}

static bool dies_with_all(const struct sweep *sweep, const struct cr_record *record,
                          uint64_t generation)
{
    return record->global_generation < generation;
}

/* What one old log row ended goes before the row itself, so that no dead session outlives it; the
 * last row stays. *out_more: there may be another old one. */
static enum cr_status sweep_row(struct sweep *sweep, const struct cr_log_row *row, bool *out_more)
{
    struct memory *memory = sweep->memory;
    enum cr_status st = CR_OK;
    *out_more = false;
    if (row->kind == CR_LOG_USER_ENDED)
        st = sweep_sessions(sweep, &row->user, dies_with_user, row->generation);
    else if (row->kind == CR_LOG_ALL_ENDED)
        st = sweep_sessions(sweep, NULL, dies_with_all, row->generation);
    if (st != CR_OK || sweep->session_count >= sweep->limit ||
        row->number == memory->counters.log_last)
        return st;
    struct cr_row *item = cr_rows_find(&memory->log, &row->number, sizeof row->number);
    CR_ASSERT(item != NULL && row->number == memory->counters.log_first);
    st = cr_rows_remove(&memory->log, &memory->undo, item);
    if (st != CR_OK)
        return st;
    memory->counters.log_first++;
    *out_more = ++sweep->log_count < sweep->limit;
    return st;
}

enum cr_status cr_memory_sweep(struct cr_store *store, size_t limit, size_t *out_count)
{
    struct memory_call call;
    struct memory *memory = cr_memory_enter(store, &call);
    struct sweep sweep = {.memory = memory, .limit = limit};
    sweep.before = cr_memory_now(memory) - CR_REMEMBER_MS;
    enum cr_status st = sweep_sessions(&sweep, NULL, dies_by_time, 0);
    bool more = sweep.session_count < limit;
    while (st == CR_OK && more) {
        const struct cr_log_row *row = cr_memory_log_at(memory, memory->counters.log_first);
        if (row == NULL || row->at > sweep.before)
            break;
        st = sweep_row(&sweep, row, &more);
    }
    if (st == CR_OK)
        st = cr_memory_keys_sweep(memory);
    *out_count = sweep.session_count + sweep.log_count;
    if (st == CR_OK)
        st = cr_memory_debt_sweep(memory, limit, out_count);
    if (st == CR_OK)
        st = cr_memory_resets_sweep(memory, limit, out_count);
    return cr_memory_leave(&call, st);
}
