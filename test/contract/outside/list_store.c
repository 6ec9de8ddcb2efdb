/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions in an array. What makes it short: all that the store knows is one `struct state` without
 * pointers but to session data, which is never changed or freed before the end. So a batch is a
 * copy to work on, to commit is to copy it back, and a call that fails puts back the copy that it
 * began with.
 *
 * `committed` is what readers see, under the mutex. `working` belongs to the one writing handle.
 */
#include "list_store.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define SESSIONS_MAX 512
#define USERS_MAX 64
#define LOG_MAX 512
#define ROWS_MAX 16 /* of accounts, engines, leases */
#define DEBTS_MAX 128
#define RESETS_MAX 64

struct user_generation {
    struct cr_user user;
    uint64_t generation;
};

struct lease {
    struct cr_lease_row row;
    cr_time_ms until; /* by `boot`; a process-local store cannot outlive the boot */
};

struct debt {
    struct cr_debt_row row; /* `left` as of `at` */
    cr_time_ms at;          /* by `boot` */
};

struct reset {
    struct cr_reset_row row;
    cr_time_ms until;
};

struct key {
    struct cr_key key;
    cr_time_ms settled_at; /* no session made later has a token made with it; 0: not so yet */
};

struct state {
    struct cr_record sessions[SESSIONS_MAX];
    size_t session_count;
    struct user_generation users[USERS_MAX];
    size_t user_count;
    struct cr_log_row log[LOG_MAX];
    size_t log_count;
    struct cr_account_row accounts[ROWS_MAX];
    size_t account_count;
    struct cr_engine_row engines[ROWS_MAX];
    size_t engine_count;
    struct lease leases[ROWS_MAX];
    size_t lease_count;
    struct debt debts[DEBTS_MAX];
    size_t debt_count;
    struct reset resets[RESETS_MAX];
    size_t reset_count;
    struct key keys[CR_KEYS_MAX]; /* newest last */
    size_t key_count;
    uint64_t global_generation, log_number;
};

struct data {
    struct data *next;
    unsigned char bytes[];
};

struct list {
    pthread_mutex_t mutex;
    size_t handle_count;
    struct list_env env;
    struct cr_ending_id identity;
    struct state committed, working, before; /* before: as the call under way found `working` */
    struct data *data;
};

struct handle {
    struct cr_store store; /* first */
    struct list *list;
};

/* ---- around every call */

static struct list *list_of(struct cr_store *store)
{
    return ((struct handle *)store)->list;
}

/* A reading call may come from the writing handle too, which sees its own batch. */
static struct state *read_begin(struct cr_store *store)
{
    struct list *list = list_of(store);
    pthread_mutex_lock(&list->mutex);
    return store->in_batch ? &list->working : &list->committed;
}

static enum cr_status read_end(struct cr_store *store, enum cr_status st)
{
    pthread_mutex_unlock(&list_of(store)->mutex);
    return st;
}

static struct state *change_begin(struct cr_store *store)
{
    struct list *list = list_of(store);
    pthread_mutex_lock(&list->mutex);
    list->before = list->working;
    return &list->working;
}

static enum cr_status change_end(struct cr_store *store, enum cr_status st)
{
    struct list *list = list_of(store);
    if (st != CR_OK)
        list->working = list->before;
    pthread_mutex_unlock(&list->mutex);
    return st;
}

static enum cr_status list_begin(struct cr_store *store)
{
    struct list *list = list_of(store);
    pthread_mutex_lock(&list->mutex);
    list->working = list->committed;
    pthread_mutex_unlock(&list->mutex);
    return CR_OK;
}

static enum cr_status list_commit(struct cr_store *store)
{
    struct list *list = list_of(store);
    pthread_mutex_lock(&list->mutex);
    list->committed = list->working;
    pthread_mutex_unlock(&list->mutex);
    return CR_OK;
}

static void list_rollback(struct cr_store *store)
{
    (void)store; /* the next begin overwrites what was worked on */
}

static cr_time_ms now_of(struct cr_store *store)
{
    const struct list_env *env = &list_of(store)->env;
    return env->wall(env->context);
}

/* ---- small things */

static bool same_user(const struct cr_user *a, const struct cr_user *b)
{
    return a->length == b->length && memcmp(a->bytes, b->bytes, a->length) == 0;
}

static bool same_id(const struct cr_session_id *a, const struct cr_session_id *b)
{
    return strcmp(a->text, b->text) == 0;
}

static bool same_ending(const struct cr_ending_id *a, const struct cr_ending_id *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

static uint64_t generation_of(const struct state *state, const struct cr_user *user)
{
    for (size_t i = 0; i < state->user_count; i++)
        if (same_user(&state->users[i].user, user))
            return state->users[i].generation;
    return 0;
}

static enum cr_status generation_raise(struct state *state, const struct cr_user *user,
                                       uint64_t *out_generation)
{
    size_t i = 0;
    while (i < state->user_count && !same_user(&state->users[i].user, user))
        i++;
    if (i == USERS_MAX)
        return CR_E_LIMIT;
    if (i == state->user_count)
        state->users[state->user_count++] = (struct user_generation){.user = *user};
    *out_generation = ++state->users[i].generation;
    return CR_OK;
}

static struct cr_record *session_of(struct state *state, const struct cr_session_id *id)
{
    for (size_t i = 0; i < state->session_count; i++)
        if (same_id(&state->sessions[i].id, id))
            return &state->sessions[i];
    return NULL;
}

static void session_delete(struct state *state, struct cr_record *record)
{
    *record = state->sessions[--state->session_count];
}

/* The library has the rule about liveness; a store gives it generations and time. */
static void judge(struct cr_store *store, const struct state *state, struct cr_record *record)
{
    cr_record_judge(record, generation_of(state, &record->user), state->global_generation,
                    now_of(store));
}

static enum cr_status live_session(struct cr_store *store, struct state *state,
                                   const struct cr_session_id *id, struct cr_record **out_record)
{
    struct cr_record *record = session_of(state, id);
    if (record == NULL)
        return CR_NOT_FOUND;
    judge(store, state, record);
    *out_record = record;
    return record->dead == CR_REASON_NONE ? CR_OK : CR_ENDED;
}

static enum cr_status data_keep(struct cr_store *store, const unsigned char *bytes, size_t count,
                                struct cr_record *record)
{
    struct list *list = list_of(store);
    struct data *data = malloc(sizeof *data + count);
    if (data == NULL)
        return CR_E_NO_MEMORY;
    if (count > 0)
        memcpy(data->bytes, bytes, count);
    data->next = list->data;
    list->data = data;
    record->data = count > 0 ? data->bytes : NULL;
    record->data_bytes = (uint32_t)count;
    return CR_OK;
}

/* ---- the log */

static bool log_repeated(const struct state *state, const struct cr_ending_id *identity,
                         struct cr_log_row *out_row)
{
    for (size_t i = 0; i < state->log_count; i++)
        if (same_ending(&state->log[i].identity, identity)) {
            *out_row = state->log[i];
            return true;
        }
    return false;
}

static struct cr_log_row row_for(enum cr_log_kind kind, const struct cr_ending *ending)
{
    struct cr_log_row row = {.identity = ending->identity, .kind = kind, .reason = ending->reason};
    memcpy(row.by, ending->by, sizeof row.by);
    row.from = ending->from;
    return row;
}

/* The number comes from a counter in the same state: rows are numbered as they are committed. */
static enum cr_status log_add(struct cr_store *store, struct state *state, struct cr_log_row *row)
{
    static const struct cr_ending_id zero = {{0}};
    const struct list_env *env = &list_of(store)->env;
    enum cr_status st = CR_OK;
    if (state->log_count == LOG_MAX)
        return CR_E_LIMIT;
    if (same_ending(&row->identity, &zero))
        st = env->random(env->context, &row->identity, sizeof row->identity);
    row->number = ++state->log_number;
    row->at = now_of(store);
    state->log[state->log_count++] = *row;
    return st;
}

static enum cr_status list_log_read(struct cr_store *store, uint64_t number, size_t limit,
                                    struct cr_log_rows *out)
{
    const struct state *state = read_begin(store);
    enum cr_status st = CR_OK;
    for (size_t i = 0; st == CR_OK && i < state->log_count && out->count < limit; i++)
        if (state->log[i].number >= number)
            st = cr_log_rows_add(out, &state->log[i]);
    return read_end(store, st);
}

static enum cr_status list_log_last(struct cr_store *store, struct cr_log_row *out)
{
    const struct state *state = read_begin(store);
    *out = state->log[state->log_count - 1];
    return read_end(store, CR_OK);
}

static enum cr_status list_log_find(struct cr_store *store, const struct cr_ending_id *identity,
                                    struct cr_log_row *out)
{
    bool found = log_repeated(read_begin(store), identity, out);
    return read_end(store, found ? CR_OK : CR_NOT_FOUND);
}

static bool row_is_about(const struct cr_log_row *row, const struct cr_session_id *id,
                         const struct cr_record *record)
{
    if (row->kind == CR_LOG_SESSION_ENDED)
        return same_id(&row->session, id);
    if (record == NULL)
        return false;
    if (row->kind == CR_LOG_USER_ENDED)
        return same_user(&row->user, &record->user) && row->generation > record->user_generation;
    return row->kind == CR_LOG_ALL_ENDED && row->generation > record->global_generation;
}

static enum cr_status list_log_about(struct cr_store *store, const struct cr_session_id *id,
                                     const struct cr_record *record, struct cr_log_row *out)
{
    const struct state *state = read_begin(store);
    for (size_t i = 0; i < state->log_count; i++)
        if (row_is_about(&state->log[i], id, record)) {
            *out = state->log[i];
            return read_end(store, CR_OK);
        }
    return read_end(store, CR_NOT_FOUND);
}

static enum cr_status list_log_rotations(struct cr_store *store, const struct cr_session_id *id,
                                         size_t limit, struct cr_log_rows *out)
{
    const struct state *state = read_begin(store);
    enum cr_status st = CR_OK;
    for (size_t i = state->log_count; st == CR_OK && i-- > 0 && out->count < limit;) {
        const struct cr_log_row *row = &state->log[i];
        if (row->kind == CR_LOG_SESSION_CHANGED && row->reason == CR_REASON_ROTATED &&
            same_id(&row->session, id))
            st = cr_log_rows_add(out, row);
    }
    return read_end(store, st);
}

static enum cr_status list_log_ended(struct cr_store *store, const struct cr_user *user,
                                     size_t limit, struct cr_log_rows *out)
{
    const struct state *state = read_begin(store);
    cr_time_ms before = now_of(store) - CR_REMEMBER_MS;
    enum cr_status st = CR_OK;
    for (size_t i = state->log_count; st == CR_OK && i-- > 0 && out->count < limit;) {
        const struct cr_log_row *row = &state->log[i];
        if (row->kind == CR_LOG_SESSION_ENDED && row->at > before && same_user(&row->user, user))
            st = cr_log_rows_add(out, row);
    }
    return read_end(store, st);
}

/* ---- sessions */

static enum cr_status list_find(struct cr_store *store, const struct cr_session_id *id,
                                struct cr_record *out)
{
    struct state *state = read_begin(store);
    const struct cr_record *record = session_of(state, id);
    if (record == NULL)
        return read_end(store, CR_NOT_FOUND);
    *out = *record;
    judge(store, state, out);
    if (record->data_bytes > 0) {
        out->data = malloc(record->data_bytes); /* the caller's own */
        if (out->data == NULL)
            return read_end(store, CR_E_NO_MEMORY);
        memcpy(out->data, record->data, record->data_bytes);
    }
    return read_end(store, CR_OK);
}

/* What is told of a session whose row goes. */
static void row_tell(struct cr_log_row *row, const struct cr_record *record)
{
    row->session = record->id;
    row->user = record->user;
    row->created_at = record->created_at;
    row->seen_at = record->seen_at;
    memcpy(row->session_from.address, record->address, sizeof row->session_from.address);
    memcpy(row->session_from.agent, record->agent, sizeof row->session_from.agent);
}

/* Ends one session for a create. Only the first row has the ending's identity. */
static enum cr_status create_ends(struct cr_store *store, struct state *state,
                                  struct cr_record *record, enum cr_reason reason,
                                  struct cr_ending *ending, struct cr_log_rows *out_rows)
{
    struct cr_log_row row = row_for(CR_LOG_SESSION_ENDED, ending);
    row.reason = reason;
    row_tell(&row, record);
    session_delete(state, record);
    memset(&ending->identity, 0, sizeof ending->identity);
    enum cr_status st = log_add(store, state, &row);
    return st == CR_OK ? cr_log_rows_add(out_rows, &row) : st;
}

/* The oldest live session of the user of `made`, but for `made`, when more than `keep_count` live.
 */
static struct cr_record *one_too_many(struct cr_store *store, struct state *state,
                                      const struct cr_record *made, size_t keep_count)
{
    struct cr_record *oldest = NULL;
    size_t live = 0;
    for (size_t i = 0; i < state->session_count; i++) {
        struct cr_record *record = &state->sessions[i];
        judge(store, state, record);
        if (record->dead != CR_REASON_NONE || !same_user(&record->user, &made->user))
            continue;
        live++;
        if (!same_id(&record->id, &made->id) &&
            (oldest == NULL || record->created_at < oldest->created_at))
            oldest = record;
    }
    return live > keep_count ? oldest : NULL;
}

static enum cr_status create_ends_before(struct cr_store *store, struct state *state,
                                         const struct cr_record *record,
                                         const struct cr_create_terms *terms,
                                         struct cr_ending *ending, struct cr_log_rows *out_rows)
{
    struct cr_record *anonymous;
    enum cr_status st = CR_OK;
    if (terms->replace && generation_of(state, &record->user) > 0) {
        struct cr_log_row row = row_for(CR_LOG_USER_ENDED, ending);
        row.user = record->user;
        st = generation_raise(state, &record->user, &row.generation);
        if (st == CR_OK)
            st = log_add(store, state, &row);
        if (st == CR_OK)
            st = cr_log_rows_add(out_rows, &row);
        memset(&ending->identity, 0, sizeof ending->identity);
    }
    if (st != CR_OK || terms->anonymous.text[0] == '\0')
        return st;
    if (live_session(store, state, &terms->anonymous, &anonymous) != CR_OK ||
        anonymous->user.length > 0)
        return CR_CONFLICT;
    return create_ends(store, state, anonymous, CR_REASON_UPGRADED, ending, out_rows);
}

static enum cr_status create_insert(struct cr_store *store, struct state *state,
                                    struct cr_record *record)
{
    if (state->session_count == SESSIONS_MAX)
        return CR_E_LIMIT;
    record->user_generation = generation_of(state, &record->user);
    if (record->user.length > 0 && record->user_generation == 0) {
        enum cr_status st = generation_raise(state, &record->user, &record->user_generation);
        if (st != CR_OK)
            return st;
    }
    record->global_generation = state->global_generation;
    record->created_at = now_of(store);
    record->seen_at = record->created_at;
    record->ends_at += record->created_at; /* it came as a span */
    if (record->authenticated_at != 0)
        record->authenticated_at = record->created_at;
    struct cr_record *kept = &state->sessions[state->session_count++];
    *kept = *record;
    return data_keep(store, record->data, record->data_bytes, kept);
}

static enum cr_status create_repeated(struct cr_store *store, struct state *state,
                                      struct cr_record *record, const struct cr_log_row *row,
                                      struct cr_log_rows *out_rows)
{
    struct cr_record *made;
    if (live_session(store, state, &record->id, &made) != CR_OK)
        return CR_CONFLICT;
    record->user_generation = made->user_generation;
    record->global_generation = made->global_generation;
    record->created_at = made->created_at;
    record->authenticated_at = made->authenticated_at;
    record->ends_at = made->ends_at;
    record->seen_at = made->seen_at;
    return cr_log_rows_add(out_rows, row);
}

static enum cr_status list_create(struct cr_store *store, struct cr_record *record,
                                  const struct cr_create_terms *terms, struct cr_log_rows *out_rows)
{
    struct state *state = change_begin(store);
    struct cr_ending ending = terms->ending;
    struct cr_log_row row;
    if (log_repeated(state, &ending.identity, &row))
        return change_end(store, create_repeated(store, state, record, &row, out_rows));
    if (session_of(state, &record->id) != NULL)
        return change_end(store, CR_CONFLICT);
    if (terms->has_generation && terms->generation != generation_of(state, &record->user))
        return change_end(store, CR_CONFLICT);
    enum cr_status st = create_ends_before(store, state, record, terms, &ending, out_rows);
    if (st == CR_OK)
        st = create_insert(store, state, record);
    struct cr_record *oldest;
    while (st == CR_OK && terms->keep_count > 0 &&
           (oldest = one_too_many(store, state, record, terms->keep_count)) != NULL)
        st = create_ends(store, state, oldest, ending.reason, &ending, out_rows);
    return change_end(store, st);
}

static void token_change(struct cr_store *store, struct cr_record *record,
                         const struct cr_change *change)
{
    memset(&record->old_hash, 0, sizeof record->old_hash);
    record->old_until = 0;
    record->sealed_bytes = 0;
    if (change->old_grace > 0) {
        record->old_hash = record->hash;
        record->old_until = now_of(store) + change->old_grace;
        record->sealed_bytes = change->sealed_bytes;
        memcpy(record->sealed, change->sealed, change->sealed_bytes);
    }
    record->hash = change->hash;
}

static enum cr_status list_change(struct cr_store *store, const struct cr_session_id *id,
                                  const struct cr_change *change, uint64_t *out_version,
                                  struct cr_log_row *out_row)
{
    struct state *state = change_begin(store);
    struct cr_record *record;
    if (log_repeated(state, &change->ending.identity, out_row)) {
        *out_version = out_row->generation;
        return change_end(store, CR_OK);
    }
    enum cr_status st = live_session(store, state, id, &record);
    if (st != CR_OK)
        return change_end(store, st);
    if ((change->expect_version != 0 && change->expect_version != record->version) ||
        (change->set_token &&
         memcmp(&change->expect_hash, &record->hash, sizeof record->hash) != 0))
        return change_end(store, CR_CONFLICT);
    if (change->set_data) {
        record->version++;
        st = data_keep(store, change->data, change->data_bytes, record);
    }
    if (change->set_rights) {
        if (change->rights_bytes > 0)
            memcpy(record->rights, change->rights, change->rights_bytes);
        record->rights_bytes = change->rights_bytes;
    }
    if (change->set_token)
        token_change(store, record, change);
    if (change->set_authenticated) {
        record->authenticated_at = change->authenticated_at;
        record->ends_at = change->ends_at;
    }
    *out_version = record->version;
    *out_row = row_for(CR_LOG_SESSION_CHANGED, &change->ending);
    out_row->session = *id;
    out_row->user = record->user;
    out_row->generation = record->version;
    return change_end(store, st == CR_OK ? log_add(store, state, out_row) : st);
}

static enum cr_status list_seen(struct cr_store *store, const struct cr_seen *seen, size_t count)
{
    struct state *state = change_begin(store);
    for (size_t i = 0; i < count; i++) {
        struct cr_record *record;
        cr_time_ms at = now_of(store) - seen[i].ago;
        if (live_session(store, state, &seen[i].id, &record) == CR_OK && at > record->seen_at)
            record->seen_at = at;
    }
    return change_end(store, CR_OK);
}

/* ---- endings */

static enum cr_status list_end(struct cr_store *store, const struct cr_session_id *id,
                               const struct cr_ending *ending, struct cr_log_row *out_row)
{
    struct state *state = change_begin(store);
    struct cr_record *record;
    if (log_repeated(state, &ending->identity, out_row))
        return change_end(store, CR_OK);
    if (live_session(store, state, id, &record) != CR_OK)
        return change_end(store, CR_NOT_FOUND);
    *out_row = row_for(CR_LOG_SESSION_ENDED, ending);
    row_tell(out_row, record);
    session_delete(state, record);
    return change_end(store, log_add(store, state, out_row));
}

static enum cr_status user_end(struct cr_store *store, struct state *state,
                               const struct cr_user *user, const struct cr_ending *ending,
                               const struct cr_session_id *keep, struct cr_log_row *out_row)
{
    *out_row = row_for(CR_LOG_USER_ENDED, ending);
    out_row->user = *user;
    if (keep != NULL)
        out_row->session = *keep;
    enum cr_status st = generation_raise(state, user, &out_row->generation);
    return st == CR_OK ? log_add(store, state, out_row) : st;
}

static enum cr_status list_end_user(struct cr_store *store, const struct cr_user *user,
                                    const struct cr_ending *ending, struct cr_log_row *out_row)
{
    struct state *state = change_begin(store);
    if (log_repeated(state, &ending->identity, out_row))
        return change_end(store, CR_OK);
    if (generation_of(state, user) == 0)
        return change_end(store, CR_UNKNOWN_USER);
    return change_end(store, user_end(store, state, user, ending, NULL, out_row));
}

static enum cr_status list_end_others(struct cr_store *store, const struct cr_session_id *keep,
                                      const struct cr_ending *ending, struct cr_log_row *out_row)
{
    struct state *state = change_begin(store);
    struct cr_record *record;
    if (log_repeated(state, &ending->identity, out_row))
        return change_end(store, CR_OK);
    enum cr_status st = live_session(store, state, keep, &record);
    if (st == CR_OK && record->user.length == 0)
        st = CR_UNKNOWN_USER;
    if (st == CR_OK)
        st = user_end(store, state, &record->user, ending, keep, out_row);
    if (st == CR_OK)
        record->user_generation = out_row->generation;
    return change_end(store, st);
}

static enum cr_status list_end_all(struct cr_store *store, const struct cr_ending *ending,
                                   struct cr_log_row *out_row)
{
    struct state *state = change_begin(store);
    if (log_repeated(state, &ending->identity, out_row))
        return change_end(store, CR_OK);
    *out_row = row_for(CR_LOG_ALL_ENDED, ending);
    out_row->generation = ++state->global_generation;
    return change_end(store, log_add(store, state, out_row));
}

/* ---- list and sweep */

static bool is_newer(const struct cr_record *a, cr_time_ms created_at,
                     const struct cr_session_id *id)
{
    return a->created_at > created_at ||
           (a->created_at == created_at && strcmp(a->id.text, id->text) > 0);
}

/* The newest live session that is older than the cursor. */
static const struct cr_record *list_next(struct cr_store *store, struct state *state,
                                         const struct cr_user *user, cr_time_ms created_at,
                                         const struct cr_session_id *after)
{
    const struct cr_record *next = NULL;
    for (size_t i = 0; i < state->session_count; i++) {
        struct cr_record *record = &state->sessions[i];
        judge(store, state, record);
        if (record->dead != CR_REASON_NONE || !same_user(&record->user, user))
            continue;
        if (created_at != 0 && (is_newer(record, created_at, after) || same_id(&record->id, after)))
            continue;
        if (next == NULL || is_newer(record, next->created_at, &next->id))
            next = record;
    }
    return next;
}

static enum cr_status list_list(struct cr_store *store, const struct cr_user *user,
                                cr_time_ms created_at, const struct cr_session_id *after,
                                struct cr_record *out, size_t capacity, size_t *out_count)
{
    struct state *state = read_begin(store);
    const struct cr_record *next;
    while (*out_count < capacity &&
           (next = list_next(store, state, user, created_at, after)) != NULL) {
        struct cr_record *record = &out[(*out_count)++];
        *record = *next;
        record->data = NULL;
        record->data_bytes = 0;
        created_at = record->created_at;
        after = &record->id;
    }
    return read_end(store, CR_OK);
}

/* Whether `a` comes before `b` among the dead. */
static bool is_before(const struct cr_record *a, const struct cr_record *b)
{
    if (a->user_generation != b->user_generation)
        return a->user_generation > b->user_generation;
    return is_newer(a, b->created_at, &b->id);
}

/* The first dead session of the user that comes after `last` (NULL: of all). */
static const struct cr_record *dead_next(struct cr_store *store, struct state *state,
                                         const struct cr_user *user, const struct cr_record *last)
{
    const struct cr_record *next = NULL;
    for (size_t i = 0; i < state->session_count; i++) {
        struct cr_record *record = &state->sessions[i];
        judge(store, state, record);
        if (record->dead == CR_REASON_NONE || !same_user(&record->user, user))
            continue;
        if (last != NULL && !is_before(last, record))
            continue;
        if (next == NULL || is_before(record, next))
            next = record;
    }
    return next;
}

static enum cr_status list_list_dead(struct cr_store *store, const struct cr_user *user,
                                     struct cr_record *out, size_t capacity, size_t *out_count)
{
    struct state *state = read_begin(store);
    const struct cr_record *next = NULL;
    while (*out_count < capacity && (next = dead_next(store, state, user, next)) != NULL) {
        struct cr_record *record = &out[(*out_count)++];
        *record = *next;
        record->data = NULL;
        record->data_bytes = 0;
    }
    return read_end(store, CR_OK);
}

/* Whether it has been dead since `before`: by time, or by an ending that is as old. */
static bool is_long_dead(const struct state *state, const struct cr_record *record,
                         cr_time_ms before)
{
    cr_time_ms idle_end = record->seen_at + record->idle + CR_SEEN_SLACK(record->idle);
    if (record->ends_at <= before || idle_end <= before)
        return true;
    for (size_t i = 0; i < state->log_count; i++)
        if (state->log[i].at <= before && row_is_about(&state->log[i], &record->id, record))
            return true;
    return false;
}

static void debts_sweep(struct cr_store *store, struct state *state, size_t limit, size_t *count);
static void resets_sweep(struct cr_store *store, struct state *state, size_t limit, size_t *count);

/* Keys whose tokens can only be of sessions that are gone. */
static void keys_sweep(struct cr_store *store, struct state *state)
{
    cr_time_ms now = now_of(store);
    for (size_t i = 0; i + 1 < state->key_count;) {
        struct key *key = &state->keys[i];
        bool used = state->keys[i + 1].key.since > now - CR_KEY_WAIT_MS_MAX;
        if (!used && key->settled_at == 0)
            key->settled_at = now;
        for (size_t j = 0; !used && j < state->session_count; j++)
            used = state->sessions[j].created_at <= key->settled_at;
        if (used) {
            i++;
            continue;
        }
        state->key_count--;
        memmove(key, key + 1, (state->key_count - i) * sizeof *key);
    }
}

static enum cr_status list_sweep(struct cr_store *store, size_t limit, size_t *out_count)
{
    struct state *state = change_begin(store);
    cr_time_ms before = now_of(store) - CR_REMEMBER_MS;
    size_t count = 0, log_count = 0;
    for (size_t i = 0; i < state->session_count && count < limit;)
        if (is_long_dead(state, &state->sessions[i], before)) {
            session_delete(state, &state->sessions[i]);
            count++;
        } else {
            i++;
        }
    /* Log rows only when all that they ended is gone, and never the last one. */
    while (count < limit && log_count < limit && log_count + 1 < state->log_count &&
           state->log[log_count].at <= before)
        log_count++;
    state->log_count -= log_count;
    memmove(state->log, state->log + log_count, state->log_count * sizeof state->log[0]);
    keys_sweep(store, state);
    *out_count = count + log_count;
    debts_sweep(store, state, limit, out_count);
    resets_sweep(store, state, limit, out_count);
    return change_end(store, CR_OK);
}

/* ---- engines */

static struct cr_engine_row *engine_of(struct state *state, const struct cr_ending_id *identity)
{
    for (size_t i = 0; i < state->engine_count; i++)
        if (same_ending(&state->engines[i].identity, identity))
            return &state->engines[i];
    return NULL;
}

static enum cr_status list_engine_register(struct cr_store *store, const struct cr_engine_row *row)
{
    struct state *state = change_begin(store);
    if (engine_of(state, &row->identity) != NULL)
        return change_end(store, CR_CONFLICT);
    if (state->engine_count == ROWS_MAX)
        return change_end(store, CR_E_LIMIT);
    state->engines[state->engine_count++] = *row;
    return change_end(store, CR_OK);
}

static enum cr_status list_engine_poll(struct cr_store *store, struct cr_engine_row *row,
                                       size_t limit, struct cr_poll *out)
{
    struct state *state = change_begin(store);
    struct cr_engine_row *engine = engine_of(state, &row->identity);
    if (engine == NULL || engine->beat != row->beat)
        return change_end(store, CR_CONFLICT);
    enum cr_status st = CR_OK;
    for (size_t i = 0; st == CR_OK && i < state->log_count && out->rows.count < limit; i++)
        if (state->log[i].number >= row->position)
            st = cr_log_rows_add(&out->rows, &state->log[i]);
    row->beat = ++engine->beat;
    engine->position = row->position;
    out->at_end =
        out->rows.count == 0 || out->rows.rows[out->rows.count - 1].number == state->log_number;
    return change_end(store, st);
}

static enum cr_status list_engine_list(struct cr_store *store, struct cr_engine_row *out,
                                       size_t capacity, size_t *out_count)
{
    const struct state *state = read_begin(store);
    *out_count = state->engine_count < capacity ? state->engine_count : capacity;
    memcpy(out, state->engines, *out_count * sizeof out[0]);
    return read_end(store, state->engine_count <= capacity ? CR_OK : CR_E_LIMIT);
}

static enum cr_status list_engine_remove(struct cr_store *store,
                                         const struct cr_ending_id *identity, uint64_t beat)
{
    struct state *state = change_begin(store);
    struct cr_engine_row *engine = engine_of(state, identity);
    if (engine == NULL || engine->beat != beat)
        return change_end(store, CR_CONFLICT);
    *engine = state->engines[--state->engine_count];
    return change_end(store, CR_OK);
}

/* ---- accounts */

static int user_order(const struct cr_user *a, const struct cr_user *b)
{
    int order = memcmp(a->bytes, b->bytes, a->length < b->length ? a->length : b->length);
    return order != 0 ? order : a->length - b->length;
}

static struct cr_account_row *account_of(struct state *state, const struct cr_user *user)
{
    for (size_t i = 0; i < state->account_count; i++)
        if (same_user(&state->accounts[i].user, user))
            return &state->accounts[i];
    return NULL;
}

static void account_judge(cr_time_ms now, struct cr_account_row *account)
{
    bool is_before = now < account->password_at;
    account->password_over =
        account->password_until != 0 && (account->password_until <= now || is_before);
}

static enum cr_status list_account_find(struct cr_store *store, const struct cr_user *user,
                                        struct cr_account_row *out)
{
    struct state *state = read_begin(store);
    const struct cr_account_row *account = account_of(state, user);
    if (account == NULL)
        return read_end(store, CR_UNKNOWN_USER);
    *out = *account;
    out->generation = generation_of(state, user);
    account_judge(now_of(store), out);
    return read_end(store, CR_OK);
}

static void account_apply(cr_time_ms now, struct cr_account_row *account,
                          const struct cr_account_change *change)
{
    if (change->set_disabled)
        account->disabled = change->disabled;
    if (change->hash != NULL) {
        memset(account->hash, 0, sizeof account->hash);
        memcpy(account->hash, change->hash, strlen(change->hash));
        if (!change->keep_sessions) {
            account->password_at = now;
            account->must_change = change->must_change;
            account->password_until = change->password_for > 0 ? now + change->password_for : 0;
        }
    }
}

/* ---- links for a new password */

static struct reset *reset_of(struct cr_store *store, struct state *state,
                              const struct cr_token_hash *hash)
{
    for (size_t i = 0; i < state->reset_count; i++)
        if (memcmp(state->resets[i].row.hash.bytes, hash->bytes, sizeof hash->bytes) == 0 &&
            state->resets[i].until > now_of(store))
            return &state->resets[i];
    return NULL;
}

static void resets_forget(struct state *state, const struct cr_user *user)
{
    for (size_t i = 0; i < state->reset_count;)
        if (same_user(&state->resets[i].row.user, user))
            state->resets[i] = state->resets[--state->reset_count];
        else
            i++;
}

static void resets_sweep(struct cr_store *store, struct state *state, size_t limit, size_t *count)
{
    for (size_t i = 0, swept = 0; i < state->reset_count && swept < limit;) {
        if (state->resets[i].until > now_of(store)) {
            i++;
            continue;
        }
        state->resets[i] = state->resets[--state->reset_count];
        swept++;
        ++*count;
    }
}

static enum cr_status list_reset_add(struct cr_store *store, const struct cr_reset_row *row)
{
    struct state *state = change_begin(store);
    size_t count = 0;
    if (account_of(state, &row->user) == NULL)
        return change_end(store, CR_UNKNOWN_USER);
    for (size_t i = 0; i < state->reset_count; i++)
        count += same_user(&state->resets[i].row.user, &row->user) &&
                 state->resets[i].until > now_of(store);
    if (count >= CR_RESETS_MAX || state->reset_count == RESETS_MAX)
        return change_end(store, CR_E_LIMIT);
    state->resets[state->reset_count++] =
        (struct reset){.row = *row, .until = now_of(store) + row->left};
    return change_end(store, CR_OK);
}

static enum cr_status list_reset_find(struct cr_store *store, const struct cr_token_hash *hash,
                                      struct cr_reset_row *out)
{
    struct state *state = read_begin(store);
    const struct reset *reset = reset_of(store, state, hash);
    if (reset == NULL)
        return read_end(store, CR_NOT_FOUND);
    *out = reset->row;
    out->left = reset->until - now_of(store);
    if (out->left > CR_RESET_MS_MAX) /* the clock was put back */
        out->left = CR_RESET_MS_MAX;
    return read_end(store, CR_OK);
}

static enum cr_status list_account_change(struct cr_store *store, const struct cr_user *user,
                                          const struct cr_account_change *change,
                                          struct cr_log_row *out_row)
{
    struct state *state = change_begin(store);
    uint64_t generation = generation_of(state, user);
    enum cr_status st = CR_OK;
    if (!change->keep_sessions && log_repeated(state, &change->ending.identity, out_row))
        return change_end(store, CR_OK);
    struct cr_account_row *account = account_of(state, user);
    if (change->add && account != NULL)
        return change_end(store, CR_CONFLICT);
    if (!change->add && account == NULL)
        return change_end(store, CR_UNKNOWN_USER);
    if (change->expect_hash != NULL &&
        (account == NULL || strcmp(change->expect_hash, account->hash) != 0))
        return change_end(store, CR_CONFLICT);
    const struct reset *reset =
        change->spends_reset ? reset_of(store, state, &change->reset) : NULL;
    if (change->spends_reset && (reset == NULL || !same_user(&reset->row.user, user)))
        return change_end(store, CR_CONFLICT);
    if (account == NULL) {
        if (state->account_count == ROWS_MAX)
            return change_end(store, CR_E_LIMIT);
        account = &state->accounts[state->account_count++];
        *account = (struct cr_account_row){.user = *user};
        account->created_at = account->password_at = now_of(store);
    }
    if (generation == 0)
        st = generation_raise(state, user, &generation);
    else if (!change->keep_sessions)
        st = user_end(store, state, user, &change->ending, NULL, out_row);
    if (!change->keep_sessions)
        resets_forget(state, user);
    account_apply(now_of(store), account, change);
    if (change->remove)
        *account = state->accounts[--state->account_count];
    return change_end(store, st);
}

static enum cr_status list_account_list(struct cr_store *store, const struct cr_user *after,
                                        struct cr_account_row *out, size_t capacity,
                                        size_t *out_count)
{
    const struct state *state = read_begin(store);
    while (*out_count < capacity) {
        const struct cr_account_row *next = NULL;
        for (size_t i = 0; i < state->account_count; i++) {
            const struct cr_account_row *account = &state->accounts[i];
            if ((after == NULL || user_order(&account->user, after) > 0) &&
                (next == NULL || user_order(&account->user, &next->user) < 0))
                next = account;
        }
        if (next == NULL)
            break;
        out[*out_count] = *next;
        out[*out_count].generation = generation_of(state, &next->user);
        account_judge(now_of(store), &out[*out_count]);
        after = &out[(*out_count)++].user;
    }
    return read_end(store, CR_OK);
}

/* ---- leases */

static cr_time_ms boot_of(struct cr_store *store)
{
    const struct list_env *env = &list_of(store)->env;
    return env->boot(env->context);
}

static struct lease *lease_of(struct state *state, const char *name)
{
    for (size_t i = 0; i < state->lease_count; i++)
        if (strcmp(state->leases[i].row.name, name) == 0)
            return &state->leases[i];
    return NULL;
}

static enum cr_status list_lease_take(struct cr_store *store, struct cr_lease_row *row,
                                      cr_span_ms ttl)
{
    struct state *state = change_begin(store);
    struct lease *lease = lease_of(state, row->name);
    cr_time_ms now = boot_of(store);
    if (lease != NULL && lease->until > now && !same_ending(&lease->row.holder, &row->holder)) {
        *row = lease->row;
        row->left = lease->until - now;
        return change_end(store, CR_BUSY);
    }
    if (lease == NULL) {
        if (state->lease_count == ROWS_MAX)
            return change_end(store, CR_E_LIMIT);
        lease = &state->leases[state->lease_count++];
        lease->row = (struct cr_lease_row){.fence = 0};
    }
    row->fence = lease->row.fence + 1;
    row->left = ttl;
    *lease = (struct lease){.row = *row, .until = now + ttl};
    return change_end(store, CR_OK);
}

/* A later write repeats holder and fence, or is refused. */
static struct lease *lease_held(struct state *state, const struct cr_lease_row *row)
{
    struct lease *lease = lease_of(state, row->name);
    bool is_theirs = lease != NULL && lease->row.fence == row->fence &&
                     same_ending(&lease->row.holder, &row->holder);
    return is_theirs ? lease : NULL;
}

static enum cr_status list_lease_renew(struct cr_store *store, const struct cr_lease_row *row,
                                       cr_span_ms ttl)
{
    struct lease *lease = lease_held(change_begin(store), row);
    cr_time_ms now = boot_of(store);
    if (lease == NULL || lease->until <= now)
        return change_end(store, CR_LOST);
    lease->until = now + ttl;
    return change_end(store, CR_OK);
}

static enum cr_status list_lease_give(struct cr_store *store, const struct cr_lease_row *row)
{
    struct lease *lease = lease_held(change_begin(store), row);
    if (lease == NULL)
        return change_end(store, CR_LOST);
    lease->until = 0;
    return change_end(store, CR_OK);
}

static enum cr_status list_lease_read(struct cr_store *store, const char *name,
                                      struct cr_lease_row *out)
{
    const struct lease *lease = lease_of(read_begin(store), name);
    if (lease == NULL)
        return read_end(store, CR_NOT_FOUND);
    *out = lease->row;
    out->left = lease->until - boot_of(store);
    return read_end(store, CR_OK);
}

/* ---- debts */

static cr_span_ms debt_most(const struct cr_debt_row *row)
{
    cr_span_ms most = 0;
    for (size_t i = 0; i < CR_DEBT_TIERS_MAX; i++)
        most = row->left[i] > most ? row->left[i] : most;
    return most;
}

/* As it is now. False: nothing is left. */
static bool debt_now(struct cr_store *store, const struct debt *debt, struct cr_debt_row *out)
{
    cr_span_ms passed = boot_of(store) - debt->at;
    *out = debt->row;
    for (size_t i = 0; i < CR_DEBT_TIERS_MAX; i++)
        out->left[i] = passed < out->left[i] ? out->left[i] - passed : 0;
    return debt_most(out) > 0;
}

static size_t debt_index(const struct state *state, const unsigned char *key)
{
    size_t i = 0;
    while (i < state->debt_count && memcmp(state->debts[i].row.key, key, CR_DEBT_KEY_BYTES) != 0)
        i++;
    return i;
}

static void debt_remove(struct state *state, size_t i)
{
    state->debts[i] = state->debts[--state->debt_count];
}

static enum cr_status list_debt_put(struct cr_store *store, const struct cr_debt_row *rows,
                                    size_t count)
{
    struct state *state = change_begin(store);
    for (size_t r = 0; r < count; r++) {
        size_t i = debt_index(state, rows[r].key);
        if (i < state->debt_count)
            debt_remove(state, i);
        if (debt_most(&rows[r]) == 0)
            continue;
        if (state->debt_count == DEBTS_MAX)
            return change_end(store, CR_E_LIMIT);
        state->debts[state->debt_count++] = (struct debt){.row = rows[r], .at = boot_of(store)};
    }
    return change_end(store, CR_OK);
}

static enum cr_status list_debt_find(struct cr_store *store,
                                     const unsigned char key[CR_DEBT_KEY_BYTES],
                                     struct cr_debt_row *out)
{
    const struct state *state = read_begin(store);
    size_t i = debt_index(state, key);
    bool found = i < state->debt_count && debt_now(store, &state->debts[i], out);
    return read_end(store, found ? CR_OK : CR_NOT_FOUND);
}

/* By selection: the largest that is not there yet, again and again. */
static enum cr_status list_debt_list(struct cr_store *store, struct cr_debt_row *out,
                                     size_t capacity, size_t *out_count)
{
    const struct state *state = read_begin(store);
    bool taken[DEBTS_MAX] = {false};
    while (*out_count < capacity) {
        size_t best = DEBTS_MAX;
        struct cr_debt_row row, largest;
        for (size_t i = 0; i < state->debt_count; i++) {
            if (!taken[i] && debt_now(store, &state->debts[i], &row) &&
                (best == DEBTS_MAX || debt_most(&row) > debt_most(&largest))) {
                best = i;
                largest = row;
            }
        }
        if (best == DEBTS_MAX)
            break;
        taken[best] = true;
        out[(*out_count)++] = largest;
    }
    return read_end(store, CR_OK);
}

static enum cr_status list_debt_forget(struct cr_store *store, const struct cr_user *user,
                                       const char *address)
{
    struct state *state = change_begin(store);
    for (size_t i = 0; i < state->debt_count;) {
        const struct cr_debt_row *row = &state->debts[i].row;
        if ((user == NULL || same_user(&row->user, user)) &&
            (address == NULL || strcmp(row->address, address) == 0))
            debt_remove(state, i);
        else
            i++;
    }
    return change_end(store, CR_OK);
}

static void debts_sweep(struct cr_store *store, struct state *state, size_t limit, size_t *count)
{
    struct cr_debt_row row;
    for (size_t i = 0, swept = 0; i < state->debt_count && swept < limit;) {
        if (debt_now(store, &state->debts[i], &row)) {
            i++;
            continue;
        }
        debt_remove(state, i);
        swept++;
        ++*count;
    }
}

/* ---- handles */

static enum cr_status list_identity(struct cr_store *store, struct cr_ending_id *out)
{
    *out = list_of(store)->identity;
    return CR_OK;
}

/* As cr_key, newest last; `out` has room for all. */
static void keys_copy(struct cr_store *store, const struct state *state, struct cr_key *out)
{
    for (size_t i = 0; i < state->key_count; i++)
        out[i] = state->keys[i].key;
    cr_keys_judge(out, state->key_count, now_of(store));
}

static enum cr_status list_keys(struct cr_store *store, struct cr_key *out, size_t capacity,
                                size_t *out_count)
{
    const struct state *state = read_begin(store);
    if (state->key_count > capacity)
        return read_end(store, CR_E_LIMIT);
    keys_copy(store, state, out);
    *out_count = state->key_count;
    return read_end(store, CR_OK);
}

static enum cr_status list_key_add(struct cr_store *store, const unsigned char bytes[CR_KEY_BYTES],
                                   cr_span_ms wait, const struct cr_ending *ending,
                                   struct cr_log_row *out_row)
{
    struct state *state = change_begin(store);
    struct cr_key keys[CR_KEYS_MAX];
    if (log_repeated(state, &ending->identity, out_row))
        return change_end(store, CR_OK);
    keys_copy(store, state, keys);
    uint32_t number = cr_key_number_next(keys, state->key_count);
    if (number == 0)
        return change_end(store, CR_E_LIMIT);
    struct key *key = &state->keys[state->key_count++];
    *key = (struct key){.key = {.number = number, .since = now_of(store) + wait}};
    memcpy(key->key.bytes, bytes, CR_KEY_BYTES);
    *out_row = row_for(CR_LOG_KEY_ADDED, ending);
    out_row->generation = number;
    return change_end(store, log_add(store, state, out_row));
}

static enum cr_status list_reader(struct cr_store *store, struct cr_store **out_reader)
{
    struct handle *reader = calloc(1, sizeof *reader);
    if (reader == NULL)
        return CR_E_NO_MEMORY;
    enum cr_status st = cr_store_init(&reader->store, store->ops);
    if (st != CR_OK) {
        free(reader);
        return st;
    }
    reader->list = list_of(store);
    pthread_mutex_lock(&reader->list->mutex);
    reader->list->handle_count++;
    pthread_mutex_unlock(&reader->list->mutex);
    *out_reader = &reader->store;
    return CR_OK;
}

static void list_free(struct list *list)
{
    while (list->data != NULL) {
        struct data *next = list->data->next;
        free(list->data);
        list->data = next;
    }
    pthread_mutex_destroy(&list->mutex);
    free(list);
}

static void list_destroy(struct cr_store *store)
{
    struct list *list = list_of(store);
    pthread_mutex_lock(&list->mutex);
    bool last = --list->handle_count == 0;
    pthread_mutex_unlock(&list->mutex);
    if (last)
        list_free(list);
    free(store);
}

static const struct cr_store_ops list_ops = {
    .name = "list",
    .contract = CR_STORE_CONTRACT,
    .exclusive = true,
    .begin = list_begin,
    .commit = list_commit,
    .rollback = list_rollback,
    .identity = list_identity,
    .find = list_find,
    .create = list_create,
    .change = list_change,
    .seen = list_seen,
    .end = list_end,
    .end_user = list_end_user,
    .end_others = list_end_others,
    .end_all = list_end_all,
    .list = list_list,
    .list_dead = list_list_dead,
    .sweep = list_sweep,
    .log_read = list_log_read,
    .log_last = list_log_last,
    .log_find = list_log_find,
    .log_about = list_log_about,
    .log_rotations = list_log_rotations,
    .log_ended = list_log_ended,
    .engine_register = list_engine_register,
    .engine_poll = list_engine_poll,
    .engine_list = list_engine_list,
    .engine_remove = list_engine_remove,
    .keys = list_keys,
    .key_add = list_key_add,
    .account_find = list_account_find,
    .account_change = list_account_change,
    .account_list = list_account_list,
    .reset_add = list_reset_add,
    .reset_find = list_reset_find,
    .lease_take = list_lease_take,
    .lease_renew = list_lease_renew,
    .lease_give = list_lease_give,
    .lease_read = list_lease_read,
    .debt_put = list_debt_put,
    .debt_find = list_debt_find,
    .debt_list = list_debt_list,
    .debt_forget = list_debt_forget,
    .reader = list_reader,
    .destroy = list_destroy,
};

static cr_time_ms system_time(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (cr_time_ms)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static cr_time_ms system_wall(void *context)
{
    (void)context;
    return system_time(CLOCK_REALTIME);
}

static cr_time_ms system_boot(void *context)
{
    (void)context;
    return system_time(CLOCK_BOOTTIME);
}

static enum cr_status system_random(void *context, void *out, size_t bytes)
{
    (void)context;
    return getrandom(out, bytes, 0) == (ssize_t)bytes ? CR_OK : CR_UNAVAILABLE;
}

/* What a new store has: an identity, a key, and a log with its first row. */
static enum cr_status list_fill(struct cr_store *store)
{
    struct list *list = list_of(store);
    const struct list_env *env = &list->env;
    struct cr_log_row first = {.kind = CR_LOG_FIRST};
    struct cr_key *key = &list->committed.keys[list->committed.key_count++].key;
    key->number = 1;
    key->since = now_of(store);
    list->committed.global_generation = 1;
    enum cr_status st = env->random(env->context, &list->identity, sizeof list->identity);
    if (st == CR_OK)
        st = env->random(env->context, key->bytes, sizeof key->bytes);
    return st == CR_OK ? log_add(store, &list->committed, &first) : st;
}

enum cr_status list_store_create(const struct list_env *env, struct cr_store **out_store)
{
    struct handle *handle = calloc(1, sizeof *handle);
    struct list *list = calloc(1, sizeof *list);
    enum cr_status st = CR_E_NO_MEMORY;
    if (handle == NULL || list == NULL)
        goto out;
    st = cr_store_init(&handle->store, &list_ops);
    if (st != CR_OK)
        goto out;
    pthread_mutex_init(&list->mutex, NULL);
    list->handle_count = 1;
    list->env =
        env != NULL
            ? *env
            : (struct list_env){.wall = system_wall, .boot = system_boot, .random = system_random};
    handle->list = list;
    st = list_fill(&handle->store);
out:
    if (st != CR_OK) {
        free(list);
        free(handle);
        return st;
    }
    *out_store = &handle->store;
    return CR_OK;
}
