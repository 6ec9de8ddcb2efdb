/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A store that wraps another and fails on command (store.h says how a plan reads). For tests, and
 * for trying out what an application does when its store goes away. It adds nothing to what the
 * inner store promises: a call that is not made changes nothing, an outcome that is lost is either
 * all there or not at all.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/assert.h"
#include "store/stores.h"

#define PLAN_TEXT_MAX 128

/* What all handles to one store share. */
struct fault {
    pthread_mutex_t mutex;
    size_t handle_count;
    struct cr_fault_plan *plan;
    struct cr_fault_plan read_plan; /* what `plan` points to when there is a plan_path */
    char *plan_path;                /* NULL: the plan is the caller's */
    char plan_text[PLAN_TEXT_MAX];  /* as last read */
};

struct fault_handle {
    struct cr_store store;
    struct cr_store_ops ops; /* this file's, but as exclusive as the inner one */
    struct fault *fault;
    struct cr_store *inner;
};

enum call_kind { CALL_READ, CALL_FIND, CALL_WRITE, CALL_COMMIT };

static struct cr_store *inner_of(struct cr_store *store)
{
    return ((struct fault_handle *)store)->inner;
}

/* ---- the plan */

static bool kind_parse(const char *word, enum cr_fault_kind *out_kind)
{
    static const char *const names[] = {
        [CR_FAULT_NONE] = "none",   [CR_FAULT_UNAVAILABLE] = "unavailable",
        [CR_FAULT_LOST] = "lost",   [CR_FAULT_NOT_MADE] = "not_made",
        [CR_FAULT_WRONG] = "wrong", [CR_FAULT_SLOW] = "slow",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(word, names[i]) == 0) {
            *out_kind = (enum cr_fault_kind)i;
            return true;
        }
    return false;
}

/* kind [after [count [slow_ms [reads|commits]]]] */
static void plan_parse(const char *text, struct cr_fault_plan *out_plan)
{
    char kind[16] = "none", which[16] = "";
    struct cr_fault_plan plan = {.count = UINT64_MAX};
    /* NOLINTNEXTLINE(cert-err34-c): a tester's own file; numbers too large saturate */
    (void)sscanf(text, "%15s %" SCNu64 " %" SCNu64 " %" SCNd64 " %15s", kind, &plan.after,
                 &plan.count, &plan.slow_ms, which);
    if (!kind_parse(kind, &plan.kind))
        plan.kind = CR_FAULT_NONE;
    plan.reads_only = strcmp(which, "reads") == 0;
    plan.commits_only = strcmp(which, "commits") == 0;
    *out_plan = plan;
}

/* Counting starts anew when the text is another. */
static void plan_read(struct fault *fault)
{
    char text[PLAN_TEXT_MAX] = "";
    FILE *file = fopen(fault->plan_path, "re");
    if (file != NULL) {
        if (fgets(text, sizeof text, file) == NULL)
            text[0] = '\0';
        fclose(file);
    }
    if (strcmp(text, fault->plan_text) == 0)
        return;
    memcpy(fault->plan_text, text, sizeof text);
    plan_parse(text, &fault->read_plan);
}

/* Whether faults of this kind can meet such a call at all. */
static bool plan_counts(const struct cr_fault_plan *plan, enum call_kind call)
{
    bool is_read = call == CALL_READ || call == CALL_FIND;
    if ((plan->reads_only && !is_read) || (plan->commits_only && call != CALL_COMMIT))
        return false;
    switch (plan->kind) {
    case CR_FAULT_NONE:
    case CR_FAULT_UNAVAILABLE:
    case CR_FAULT_SLOW:
        return true;
    case CR_FAULT_LOST:
    case CR_FAULT_NOT_MADE:
        return call == CALL_COMMIT;
    case CR_FAULT_WRONG:
        return call == CALL_FIND;
    }
    return false;
}

static void sleep_ms(cr_span_ms span)
{
    struct timespec left = {.tv_sec = span / 1000, .tv_nsec = span % 1000 * 1000000};
    while (nanosleep(&left, &left) != 0)
        continue;
}

/* What happens to this call. Has slept already. */
static enum cr_fault_kind fault_next(struct cr_store *store, enum call_kind call)
{
    struct fault *fault = ((struct fault_handle *)store)->fault;
    enum cr_fault_kind kind = CR_FAULT_NONE;
    pthread_mutex_lock(&fault->mutex);
    if (fault->plan_path != NULL)
        plan_read(fault);
    struct cr_fault_plan *plan = fault->plan;
    if (plan_counts(plan, call)) {
        uint64_t number = plan->calls++;
        if (number >= plan->after && number - plan->after < plan->count)
            kind = plan->kind;
    }
    cr_span_ms slow_ms = kind == CR_FAULT_SLOW ? plan->slow_ms : 0;
    pthread_mutex_unlock(&fault->mutex);
    if (slow_ms > 0)
        sleep_ms(slow_ms);
    return kind;
}

/* What a call that is not made answers. */
static enum cr_status refusal(struct cr_store *store)
{
    struct fault *fault = ((struct fault_handle *)store)->fault;
    pthread_mutex_lock(&fault->mutex);
    enum cr_status st = fault->plan->status;
    pthread_mutex_unlock(&fault->mutex);
    return st != CR_OK ? st : CR_UNAVAILABLE;
}

static enum cr_status before(struct cr_store *store, enum call_kind call)
{
    return fault_next(store, call) == CR_FAULT_UNAVAILABLE ? refusal(store) : CR_OK;
}

/* ---- batches, and the calls that more than one fault can meet */

static enum cr_status fault_begin(struct cr_store *s)
{
    enum cr_status st = before(s, CALL_WRITE);
    return st == CR_OK ? cr_store_begin(inner_of(s)) : st;
}

static enum cr_status fault_commit(struct cr_store *s)
{
    enum cr_status st;
    switch (fault_next(s, CALL_COMMIT)) {
    case CR_FAULT_UNAVAILABLE:
        cr_store_rollback(inner_of(s));
        return refusal(s);
    case CR_FAULT_NOT_MADE:
        cr_store_rollback(inner_of(s));
        return CR_E_UNKNOWN_OUTCOME;
    case CR_FAULT_LOST:
        st = cr_store_commit(inner_of(s));
        return st == CR_OK ? CR_E_UNKNOWN_OUTCOME : st;
    case CR_FAULT_NONE:
    case CR_FAULT_WRONG:
    case CR_FAULT_SLOW:
        break;
    }
    return cr_store_commit(inner_of(s));
}

static void fault_rollback(struct cr_store *s)
{
    cr_store_rollback(inner_of(s));
}

static enum cr_status fault_find(struct cr_store *s, const struct cr_session_id *id,
                                 struct cr_record *out)
{
    enum cr_fault_kind kind = fault_next(s, CALL_FIND);
    if (kind == CR_FAULT_UNAVAILABLE)
        return refusal(s);
    enum cr_status st = cr_store_find(inner_of(s), id, out);
    if (st == CR_OK && kind == CR_FAULT_WRONG) {
        char *last = &out->id.text[CR_SESSION_ID_CHARS - 1];
        *last = *last == 'A' ? 'B' : 'A';
    }
    return st;
}

/* ---- the rest: made, or not */

static enum cr_status fault_identity(struct cr_store *s, struct cr_ending_id *out)
{
    enum cr_status st = before(s, CALL_READ);
    return st == CR_OK ? cr_store_identity(inner_of(s), out) : st;
}

static enum cr_status fault_create(struct cr_store *s, struct cr_record *record,
                                   const struct cr_create_terms *terms,
                                   struct cr_log_rows *out_rows)
{
    enum cr_status st = before(s, CALL_WRITE);
    return st == CR_OK ? cr_store_create(inner_of(s), record, terms, out_rows) : st;
}

static enum cr_status fault_change(struct cr_store *s, const struct cr_session_id *id,
                                   const struct cr_change *change, uint64_t *out_version,
                                   struct cr_log_row *out_row)
{
    enum cr_status st = before(s, CALL_WRITE);
    return st == CR_OK ? cr_store_change(inner_of(s), id, change, out_version, out_row) : st;
}

static enum cr_status fault_seen(struct cr_store *s, const struct cr_seen *seen, size_t count)
{
    enum cr_status st = before(s, CALL_WRITE);
    return st == CR_OK ? cr_store_seen(inner_of(s), seen, count) : st;
}

static enum cr_status fault_end(struct cr_store *s, const struct cr_session_id *id,
                                const struct cr_ending *ending, struct cr_log_row *out_row)
{
    enum cr_status st = before(s, CALL_WRITE);
    return st == CR_OK ? cr_store_end(inner_of(s), id, ending, out_row) : st;
}

static enum cr_status fault_end_user(struct cr_store *s, const struct cr_user *user,
                                     const struct cr_ending *ending, struct cr_log_row *out_row)
{
    enum cr_status st = before(s, CALL_WRITE);
    return st == CR_OK ? cr_store_end_user(inner_of(s), user, ending, out_row) : st;
}

static enum cr_status fault_end_others(struct cr_store *s, const struct cr_session_id *keep,
                                       const struct cr_ending *ending, struct cr_log_row *out_row)
{
    enum cr_status st = before(s, CALL_WRITE);
    return st == CR_OK ? cr_store_end_others(inner_of(s), keep, ending, out_row) : st;
}

static enum cr_status fault_end_all(struct cr_store *s, const struct cr_ending *ending,
                                    struct cr_log_row *out_row)
{
    enum cr_status st = before(s, CALL_WRITE);
    return st == CR_OK ? cr_store_end_all(inner_of(s), ending, out_row) : st;
}

static enum cr_status fault_list(struct cr_store *s, const struct cr_user *user,
                                 cr_time_ms created_at, const struct cr_session_id *after,
                                 struct cr_record *out, size_t capacity, size_t *out_count)
{
    enum cr_status st = before(s, CALL_READ);
    return st == CR_OK
               ? cr_store_list(inner_of(s), user, created_at, after, out, capacity, out_count)
               : st;
}

static enum cr_status fault_list_dead(struct cr_store *s, const struct cr_user *user,
                                      struct cr_record *out, size_t capacity, size_t *out_count)
{
    enum cr_status st = before(s, CALL_READ);
    return st == CR_OK ? cr_store_list_dead(inner_of(s), user, out, capacity, out_count) : st;
}

static enum cr_status fault_sweep(struct cr_store *s, size_t limit, size_t *out_count)
{
    enum cr_status st = before(s, CALL_WRITE);
    return st == CR_OK ? cr_store_sweep(inner_of(s), limit, out_count) : st;
}

static enum cr_status fault_log_read(struct cr_store *s, uint64_t number, size_t limit,
                                     struct cr_log_rows *out)
{
    enum cr_status st = before(s, CALL_READ);
    return st == CR_OK ? cr_store_log_read(inner_of(s), number, limit, out) : st;
}

static enum cr_status fault_log_last(struct cr_store *s, struct cr_log_row *out)
{
    enum cr_status st = before(s, CALL_READ);
    return st == CR_OK ? cr_store_log_last(inner_of(s), out) : st;
}

static enum cr_status fault_log_find(struct cr_store *s, const struct cr_ending_id *identity,
                                     struct cr_log_row *out)
{
    enum cr_status st = before(s, CALL_READ);
    return st == CR_OK ? cr_store_log_find(inner_of(s), identity, out) : st;
}

static enum cr_status fault_log_about(struct cr_store *s, const struct cr_session_id *id,
                                      const struct cr_record *record, struct cr_log_row *out)
{
    enum cr_status st = before(s, CALL_READ);
    return st == CR_OK ? cr_store_log_about(inner_of(s), id, record, out) : st;
}

static enum cr_status fault_log_rotations(struct cr_store *s, const struct cr_session_id *id,
                                          size_t limit, struct cr_log_rows *out)
{
    enum cr_status st = before(s, CALL_READ);
    return st == CR_OK ? cr_store_log_rotations(inner_of(s), id, limit, out) : st;
}

static enum cr_status fault_log_ended(struct cr_store *s, const struct cr_user *user, size_t limit,
                                      struct cr_log_rows *out)
{
    enum cr_status st = before(s, CALL_READ);
    return st == CR_OK ? cr_store_log_ended(inner_of(s), user, limit, out) : st;
}

static enum cr_status fault_engine_register(struct cr_store *s, const struct cr_engine_row *row)
{
    enum cr_status st = before(s, CALL_WRITE);
    return st == CR_OK ? cr_store_engine_register(inner_of(s), row) : st;
}

static enum cr_status fault_engine_poll(struct cr_store *s, struct cr_engine_row *row, size_t limit,
                                        struct cr_poll *out)
{
    enum cr_status st = before(s, CALL_WRITE);
    return st == CR_OK ? cr_store_engine_poll(inner_of(s), row, limit, out) : st;
}

static enum cr_status fault_engine_list(struct cr_store *s, struct cr_engine_row *out,
                                        size_t capacity, size_t *out_count)
{
    enum cr_status st = before(s, CALL_READ);
    return st == CR_OK ? cr_store_engine_list(inner_of(s), out, capacity, out_count) : st;
}

static enum cr_status fault_engine_remove(struct cr_store *s, const struct cr_ending_id *identity,
                                          uint64_t beat)
{
    enum cr_status st = before(s, CALL_WRITE);
    return st == CR_OK ? cr_store_engine_remove(inner_of(s), identity, beat) : st;
}

static enum cr_status fault_key_add(struct cr_store *s, const unsigned char bytes[CR_KEY_BYTES],
                                    cr_span_ms wait, const struct cr_ending *ending,
                                    struct cr_log_row *out_row)
{
    enum cr_status st = before(s, CALL_WRITE);
    return st == CR_OK ? cr_store_key_add(inner_of(s), bytes, wait, ending, out_row) : st;
}

static enum cr_status fault_keys(struct cr_store *s, struct cr_key *out, size_t capacity,
                                 size_t *out_count)
{
    enum cr_status st = before(s, CALL_READ);
    return st == CR_OK ? cr_store_keys(inner_of(s), out, capacity, out_count) : st;
}

static enum cr_status fault_account_find(struct cr_store *s, const struct cr_user *user,
                                         struct cr_account_row *out)
{
    enum cr_status st = before(s, CALL_READ);
    return st == CR_OK ? cr_store_account_find(inner_of(s), user, out) : st;
}

static enum cr_status fault_account_change(struct cr_store *s, const struct cr_user *user,
                                           const struct cr_account_change *change,
                                           struct cr_log_row *out_row)
{
    enum cr_status st = before(s, CALL_WRITE);
    return st == CR_OK ? cr_store_account_change(inner_of(s), user, change, out_row) : st;
}

static enum cr_status fault_account_list(struct cr_store *s, const struct cr_user *after,
                                         struct cr_account_row *out, size_t capacity,
                                         size_t *out_count)
{
    enum cr_status st = before(s, CALL_READ);
    return st == CR_OK ? cr_store_account_list(inner_of(s), after, out, capacity, out_count) : st;
}

static enum cr_status fault_lease_take(struct cr_store *s, struct cr_lease_row *row, cr_span_ms ttl)
{
    enum cr_status st = before(s, CALL_WRITE);
    return st == CR_OK ? cr_store_lease_take(inner_of(s), row, ttl) : st;
}

static enum cr_status fault_lease_renew(struct cr_store *s, const struct cr_lease_row *row,
                                        cr_span_ms ttl)
{
    enum cr_status st = before(s, CALL_WRITE);
    return st == CR_OK ? cr_store_lease_renew(inner_of(s), row, ttl) : st;
}

static enum cr_status fault_lease_give(struct cr_store *s, const struct cr_lease_row *row)
{
    enum cr_status st = before(s, CALL_WRITE);
    return st == CR_OK ? cr_store_lease_give(inner_of(s), row) : st;
}

static enum cr_status fault_lease_read(struct cr_store *s, const char *name,
                                       struct cr_lease_row *out)
{
    enum cr_status st = before(s, CALL_READ);
    return st == CR_OK ? cr_store_lease_read(inner_of(s), name, out) : st;
}

static enum cr_status fault_reset_add(struct cr_store *s, const struct cr_reset_row *row)
{
    enum cr_status st = before(s, CALL_WRITE);
    return st == CR_OK ? cr_store_reset_add(inner_of(s), row) : st;
}

static enum cr_status fault_reset_find(struct cr_store *s, const struct cr_token_hash *hash,
                                       struct cr_reset_row *out)
{
    enum cr_status st = before(s, CALL_READ);
    return st == CR_OK ? cr_store_reset_find(inner_of(s), hash, out) : st;
}

static enum cr_status fault_debt_put(struct cr_store *s, const struct cr_debt_row *rows,
                                     size_t count)
{
    enum cr_status st = before(s, CALL_WRITE);
    return st == CR_OK ? cr_store_debt_put(inner_of(s), rows, count) : st;
}

static enum cr_status fault_debt_find(struct cr_store *s,
                                      const unsigned char key[CR_DEBT_KEY_BYTES],
                                      struct cr_debt_row *out)
{
    enum cr_status st = before(s, CALL_READ);
    return st == CR_OK ? cr_store_debt_find(inner_of(s), key, out) : st;
}

static enum cr_status fault_debt_list(struct cr_store *s, struct cr_debt_row *out, size_t capacity,
                                      size_t *out_count)
{
    enum cr_status st = before(s, CALL_READ);
    return st == CR_OK ? cr_store_debt_list(inner_of(s), out, capacity, out_count) : st;
}

static enum cr_status fault_debt_forget(struct cr_store *s, const struct cr_user *user,
                                        const char *address)
{
    enum cr_status st = before(s, CALL_WRITE);
    return st == CR_OK ? cr_store_debt_forget(inner_of(s), user, address) : st;
}

/* ---- handles */

static enum cr_status handle_create(struct fault *fault, struct cr_store *inner,
                                    struct cr_store **out_store);

static enum cr_status fault_reader(struct cr_store *s, struct cr_store **out_reader)
{
    struct cr_store *inner;
    enum cr_status st = cr_store_reader(inner_of(s), &inner);
    if (st != CR_OK)
        return st;
    st = handle_create(((struct fault_handle *)s)->fault, inner, out_reader);
    if (st != CR_OK)
        cr_store_destroy(inner);
    return st;
}

static void fault_free(struct fault *fault)
{
    if (fault == NULL)
        return;
    pthread_mutex_destroy(&fault->mutex);
    free(fault->plan_path);
    free(fault);
}

static void fault_destroy(struct cr_store *s)
{
    struct fault_handle *handle = (struct fault_handle *)s;
    struct fault *fault = handle->fault;
    cr_store_destroy(handle->inner);
    pthread_mutex_lock(&fault->mutex);
    CR_ASSERT(fault->handle_count > 0);
    bool last = --fault->handle_count == 0;
    pthread_mutex_unlock(&fault->mutex);
    if (last)
        fault_free(fault);
    free(handle);
}

static const struct cr_store_ops fault_ops = {
    .name = "fault",
    .contract = CR_STORE_CONTRACT,
    .begin = fault_begin,
    .commit = fault_commit,
    .rollback = fault_rollback,
    .identity = fault_identity,
    .find = fault_find,
    .create = fault_create,
    .change = fault_change,
    .seen = fault_seen,
    .end = fault_end,
    .end_user = fault_end_user,
    .end_others = fault_end_others,
    .end_all = fault_end_all,
    .list = fault_list,
    .list_dead = fault_list_dead,
    .sweep = fault_sweep,
    .log_read = fault_log_read,
    .log_last = fault_log_last,
    .log_find = fault_log_find,
    .log_about = fault_log_about,
    .log_rotations = fault_log_rotations,
    .log_ended = fault_log_ended,
    .engine_register = fault_engine_register,
    .engine_poll = fault_engine_poll,
    .engine_list = fault_engine_list,
    .engine_remove = fault_engine_remove,
    .keys = fault_keys,
    .key_add = fault_key_add,
    .account_find = fault_account_find,
    .account_change = fault_account_change,
    .account_list = fault_account_list,
    .reset_add = fault_reset_add,
    .reset_find = fault_reset_find,
    .lease_take = fault_lease_take,
    .lease_renew = fault_lease_renew,
    .lease_give = fault_lease_give,
    .lease_read = fault_lease_read,
    .debt_put = fault_debt_put,
    .debt_find = fault_debt_find,
    .debt_list = fault_debt_list,
    .debt_forget = fault_debt_forget,
    .reader = fault_reader,
    .destroy = fault_destroy,
};

static enum cr_status handle_create(struct fault *fault, struct cr_store *inner,
                                    struct cr_store **out_store)
{
    struct fault_handle *handle = calloc(1, sizeof *handle);
    if (handle == NULL)
        return CR_E_NO_MEMORY;
    handle->ops = fault_ops;
    handle->ops.exclusive = cr_store_is_exclusive(inner);
    enum cr_status st = cr_store_init(&handle->store, &handle->ops);
    CR_ASSERT(st == CR_OK);
    handle->fault = fault;
    handle->inner = inner;
    pthread_mutex_lock(&fault->mutex);
    fault->handle_count++;
    pthread_mutex_unlock(&fault->mutex);
    *out_store = &handle->store;
    return CR_OK;
}

/* Either a plan of the caller's, or the path of one. */
static enum cr_status fault_create_with(struct cr_store *inner, struct cr_fault_plan *plan,
                                        const char *plan_path, struct cr_store **out_store)
{
    struct fault *fault = calloc(1, sizeof *fault);
    if (fault == NULL)
        return CR_E_NO_MEMORY;
    pthread_mutex_init(&fault->mutex, NULL);
    fault->plan = plan != NULL ? plan : &fault->read_plan;
    enum cr_status st = CR_E_NO_MEMORY;
    if (plan_path != NULL && (fault->plan_path = strdup(plan_path)) == NULL)
        goto out;
    st = handle_create(fault, inner, out_store);
out:
    if (st != CR_OK)
        fault_free(fault);
    return st;
}

enum cr_status cr_store_fault_create(struct cr_store *inner, struct cr_fault_plan *plan,
                                     struct cr_store **out_store)
{
    CR_ASSERT(plan != NULL);
    return fault_create_with(inner, plan, NULL, out_store);
}

enum cr_status cr_store_fault_open(const char *plan_path, struct cr_store *inner,
                                   struct cr_store **out_store)
{
    CR_ASSERT(plan_path != NULL);
    return fault_create_with(inner, NULL, plan_path, out_store);
}
