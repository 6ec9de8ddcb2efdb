/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Passwords, and the pool that hashes them. The store keeps accounts, the engine makes sessions and
 * ends them; here is what lies between: read the account, hash, go on.
 *
 * Every piece of work is a job. Between JOB_READING and JOB_HASHING it takes a place of the bounded
 * number; the pool's thread touches a job only while it hashes, and nothing but its password, hash
 * and outcome. A job is wiped when it is freed.
 */
#include "auth/auth.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth/foreign.h"
#include "auth/reset.h"
#include "base/assert.h"
#include "base/bytes.h"

#define THREADS_DEFAULT 1
#define QUEUE_DEFAULT 64
#define MIB ((size_t)1 << 20)
#define MEMORY_DEFAULT (46 * MIB)
#define MEMORY_FLOOR (19 * MIB) /* with at least two passes; with one, the default */
#define PASSES_DEFAULT 2
#define NICE 10
#define LIST_MAX 64
#define BY "operator"

_Static_assert(CR_PASSWORD_HASH_CHARS_MAX + 1 >= crypto_pwhash_STRBYTES, "a hash fits its row");

enum job_kind { JOB_LOGIN, JOB_CHANGE, JOB_RESET, JOB_ADD, JOB_PASSWORD };
enum job_stage { JOB_READING, JOB_HASHING, JOB_LEAVING };

struct job {
    struct cr_auth *auth; /* NULL: it has been destroyed */
    struct job *next;
    enum job_kind kind;
    enum job_stage stage;
    cr_engine_done *done;
    void *context;
    struct cr_account_row row; /* as read, or to be added */
    bool is_known;
    bool is_set; /* the new password: from here on nothing says that nothing happened */
    /* What the account's hash becomes: of a new password, or of the same at today's cost (E6). */
    char fresh[CR_PASSWORD_HASH_CHARS_MAX + 1];
    enum cr_status hashed; /* CR_OK; CR_DENIED: it does not match; or why it could not be done */
    struct cr_create_request request;
    bool renews; /* the session of request.anonymous, which is the user's */
    struct cr_work work;
    struct cr_store_call call;
    cr_span_ms once;                  /* the password is to be changed within; 0: it is not */
    struct cr_throttle_ticket ticket; /* of a login, or of a link's use */
    struct cr_token_hash reset;       /* of a link's token */
    bool is_genuine;                  /* which was made here */
    char device[CR_DEVICE_CHARS + 1]; /* of one whose password was right; "": none */
    size_t password_bytes, fresh_bytes;
    size_t bytes;         /* of all this */
    unsigned char tail[]; /* the password, the new one, then what the request points to */
};

struct cr_auth {
    struct cr_engine *engine;
    struct cr_pool *pool;
    struct cr_throttle *throttle;
    struct cr_auth_options options;
    char decoy[crypto_pwhash_STRBYTES];
    struct job *jobs;
    size_t hashing; /* jobs that read or hash */
};

/* ---- jobs */

static void job_free(struct job *job)
{
    if (job->auth != NULL) {
        cr_throttle_end(&job->ticket, false);
        struct job **at = &job->auth->jobs;
        while (*at != job)
            at = &(*at)->next;
        *at = job->next;
        if (job->stage != JOB_LEAVING)
            job->auth->hashing--;
    }
    cr_bytes_wipe(job, job->bytes);
    free(job);
}

static void answer_status(cr_engine_done *done, void *context, enum cr_status status)
{
    struct cr_engine_answer answer = {.status = status};
    done(context, &answer);
}

static void job_end(struct job *job, enum cr_status status)
{
    struct cr_engine_answer answer = {.status = job->is_set ? CR_PENDING : status,
                                      .user_known = job->is_known};
    cr_engine_done *done = job->done;
    void *context = job->context;
    if (answer.status == CR_LIMITED)
        answer.retry_after = job->ticket.retry_after;
    job_free(job);
    done(context, &answer);
}

/* It has its hash: its place is free for another, its password is not needed any more. */
static void job_leave(struct job *job)
{
    job->stage = JOB_LEAVING;
    job->auth->hashing--;
    cr_bytes_wipe(job->tail, job->password_bytes + job->fresh_bytes);
}

static size_t text_bytes(const char *text)
{
    return text == NULL ? 0 : strlen(text) + 1;
}

static const void *tail_add(unsigned char **at, const void *bytes, size_t count)
{
    if (bytes == NULL)
        return NULL;
    unsigned char *start = *at;
    if (count > 0)
        memcpy(start, bytes, count);
    *at += count;
    return start;
}

/* Copies all that it is given. CR_BUSY: too many wait. */
static enum cr_status job_create(struct cr_auth *auth, enum job_kind kind,
                                 const struct cr_auth_login *login, struct job **out_job)
{
    const struct cr_create_request *from = login->request;
    if (auth->hashing >= auth->options.queue_max + auth->options.threads)
        return CR_BUSY;
    size_t bytes = sizeof(struct job) + login->password_bytes + login->fresh_bytes +
                   from->rights_bytes + from->data_bytes + text_bytes(from->address) +
                   text_bytes(from->agent);
    struct job *job = calloc(1, bytes);
    if (job == NULL)
        return CR_E_NO_MEMORY;
    job->bytes = bytes;
    job->auth = auth;
    job->kind = kind;
    job->row.user = from->user;
    job->request = *from;
    if (login->renews != NULL) {
        job->renews = true;
        job->request.has_anonymous = true;
        job->request.anonymous = *login->renews;
    }
    job->password_bytes = login->password_bytes;
    job->fresh_bytes = login->fresh_bytes;
    unsigned char *at = job->tail;
    (void)tail_add(&at, login->password, login->password_bytes);
    (void)tail_add(&at, login->fresh, login->fresh_bytes);
    job->request.rights = tail_add(&at, from->rights, from->rights_bytes);
    job->request.data = tail_add(&at, from->data, from->data_bytes);
    job->request.address = tail_add(&at, from->address, text_bytes(from->address));
    job->request.agent = tail_add(&at, from->agent, text_bytes(from->agent));
    job->next = auth->jobs;
    auth->jobs = job;
    auth->hashing++;
    *out_job = job;
    return CR_OK;
}

static struct job *job_of_call(struct cr_store_call *call)
{
    return (struct job *)((char *)call - offsetof(struct job, call));
}

static struct job *job_of_work(struct cr_work *work)
{
    return (struct job *)((char *)work - offsetof(struct job, work));
}

/* ---- hashing: the pool's thread */

/* libsodium says -1 for a wrong password and for want of memory; errno tells them apart. */
static enum cr_status password_verify(const char *hash, const void *password, size_t bytes)
{
    if (strncmp(hash, "$argon2", 7) != 0)
        return cr_foreign_unfit(hash) == NULL ? cr_foreign_verify(hash, password, bytes)
                                              : CR_E_CORRUPT;
    errno = 0;
    if (crypto_pwhash_str_verify(hash, password, bytes) == 0)
        return CR_OK;
    if (errno == EINVAL)
        return CR_DENIED;
    return errno == ENOMEM ? CR_E_NO_MEMORY : CR_E_CORRUPT;
}

static enum cr_status password_hash(const struct cr_auth *auth, const void *password, size_t bytes,
                                    char *out)
{
    return crypto_pwhash_str_alg(out, password, bytes, auth->options.passes,
                                 auth->options.memory_bytes, crypto_pwhash_ALG_ARGON2ID13) == 0
               ? CR_OK
               : CR_E_NO_MEMORY;
}

/* It costs less to guess than what is made today, and in no way more. */
static bool hash_is_weaker(const struct cr_auth *auth, const char *hash)
{
    static const char head[] = "$argon2id$v=19$m=";
    char *end;
    if (strncmp(hash, head, sizeof head - 1) != 0)
        return true;
    unsigned long kib = strtoul(hash + sizeof head - 1, &end, 10);
    if (strncmp(end, ",t=", 3) != 0)
        return true;
    unsigned long passes = strtoul(end + 3, NULL, 10);
    unsigned long kib_now = (unsigned long)(auth->options.memory_bytes / 1024);
    unsigned long passes_now = auth->options.passes;
    return kib <= kib_now && passes <= passes_now && (kib < kib_now || passes < passes_now);
}

/* What there is to hash besides. A hash that cannot be renewed is no reason to refuse a login. */
static void fresh_hash(const struct cr_auth *auth, struct job *job)
{
    const unsigned char *password = job->tail;
    if (job->kind == JOB_CHANGE || job->kind == JOB_RESET)
        job->hashed =
            password_hash(auth, password + job->password_bytes, job->fresh_bytes, job->fresh);
    else if (hash_is_weaker(auth, job->row.hash) &&
             password_hash(auth, password, job->password_bytes, job->fresh) != CR_OK)
        job->fresh[0] = '\0';
}

static void pool_run(void *context, unsigned thread, struct cr_work *const *batch, size_t count)
{
    const struct cr_auth *auth = context;
    CR_ASSERT(count == 1);
    struct job *job = job_of_work(batch[0]);
    const char *password = (const char *)job->tail;
    if (job->kind == JOB_LOGIN || job->kind == JOB_CHANGE) {
        job->hashed = password_verify(job->is_known ? job->row.hash : auth->decoy, password,
                                      job->password_bytes);
        if (job->hashed == CR_OK && (!job->is_known || job->row.disabled || job->row.password_over))
            job->hashed = CR_DENIED;
        if (job->hashed == CR_OK && job->row.must_change && job->kind == JOB_LOGIN)
            job->hashed = CR_CHANGE_FIRST;
        if (job->hashed == CR_OK)
            fresh_hash(auth, job);
    } else if (job->kind == JOB_RESET) {
        fresh_hash(auth, job);
    } else {
        job->hashed = password_hash(auth, password, job->password_bytes, job->row.hash);
    }
}

/* ---- what follows the hash */

/* The engine has answered: pass it on. */
static void login_created(void *context, const struct cr_engine_answer *answer)
{
    struct job *job = context;
    struct cr_engine_answer passed = *answer;
    if (job->is_set && answer->status != CR_OK && answer->status != CR_PENDING) {
        job_end(job, answer->status);
        return;
    }
    /* The password was right once, and is not any more (D11). With an anonymous session it may have
     * been that which ended: then asking again is of use. */
    if (passed.status == CR_CONFLICT && (job->renews || !job->request.has_anonymous))
        passed.status = CR_DENIED;
    passed.user_known = true;
    char device[CR_DEVICE_CHARS + 1];
    memcpy(device, job->device, sizeof device);
    if (passed.status == CR_OK && device[0] != '\0')
        passed.device = device;
    cr_engine_done *done = job->done;
    void *to = job->context;
    job_free(job);
    done(to, &passed);
}

static void login_create(struct job *job)
{
    /* What was taken is given back. Without random bytes there is just no cookie. */
    if (cr_throttle_device(&job->ticket, job->row.password_at, job->device) != CR_OK)
        job->device[0] = '\0';
    cr_throttle_end(&job->ticket, false);
    job->request.user = job->row.user;
    job->request.has_generation = true;
    job->request.generation = job->row.generation;
    if (job->renews && job->kind == JOB_LOGIN)
        cr_engine_reauthenticate(job->auth->engine, &job->request.anonymous, &job->row.user,
                                 job->request.absolute, login_created, job);
    else
        cr_engine_create_session(job->auth->engine, &job->request, login_created, job);
}

static void renewed(void *context, const struct cr_engine_answer *answer)
{
    struct job *job = context;
    (void)answer; /* renewed or not: the next login tries again */
    if (job->auth == NULL)
        job_end(job, CR_UNAVAILABLE);
    else
        login_create(job);
}

static void login_proceed(struct job *job)
{
    struct cr_account_change change = {
        .hash = job->fresh, .keep_sessions = true, .expect_hash = job->row.hash};
    if (job->fresh[0] == '\0')
        login_create(job);
    else
        cr_engine_account_change(job->auth->engine, &job->row.user, &change, renewed, job);
}

static void account_changed(void *context, const struct cr_engine_answer *answer)
{
    struct job *job = context;
    cr_engine_done *done = job->done;
    void *to = job->context;
    job_free(job);
    done(to, answer);
}

static enum cr_status find_run(struct cr_store *store, struct cr_store_call *call)
{
    struct job *job = job_of_call(call);
    struct cr_account_row row;
    enum cr_status st = cr_store_account_find(store, &job->row.user, &row);
    if (st == CR_OK) {
        job->row = row;
        job->is_known = true;
    }
    cr_bytes_wipe(&row, sizeof row);
    return st;
}

/* The generation is that of the password which this job has set, or there is no session. */
static void change_found(struct cr_store_call *call)
{
    struct job *job = job_of_call(call);
    if (job->auth == NULL || (call->status != CR_OK && call->status != CR_UNKNOWN_USER))
        job_end(job, CR_UNAVAILABLE);
    else if (call->status != CR_OK || job->row.disabled || strcmp(job->row.hash, job->fresh) != 0)
        job_end(job, CR_DENIED);
    else
        login_create(job);
}

static void change_made(void *context, const struct cr_engine_answer *answer)
{
    struct job *job = context;
    if (answer->status != CR_OK) {
        struct cr_engine_answer passed = *answer;
        if (passed.status == CR_CONFLICT || passed.status == CR_UNKNOWN_USER)
            passed.status = CR_DENIED;
        account_changed(context, &passed);
        return;
    }
    job->is_set = true;
    job->call = (struct cr_store_call){.run = find_run, .done = change_found};
    if (job->auth == NULL || !cr_engine_store_read(job->auth->engine, &job->call))
        job_end(job, CR_UNAVAILABLE);
}

static void change_proceed(struct job *job)
{
    job->request.renews = job->renews;
    job->request.renews_generation = job->row.generation;
    struct cr_account_change change = {.hash = job->fresh,
                                       .expect_hash = job->row.hash,
                                       .ending = {.reason = CR_REASON_PASSWORD, .by = "the user"}};
    cr_engine_account_change(job->auth->engine, &job->row.user, &change, change_made, job);
}

/* It is no good link, and stays on its source's limits. */
static void link_counts(struct job *job)
{
    cr_throttle_end(&job->ticket, true);
}

/* Spent meanwhile, by another or with the password that was to be replaced: what was hashed for it
 * is not given back, or many at once could buy it with one link. */
static void reset_made(void *context, const struct cr_engine_answer *answer)
{
    struct job *job = context;
    struct cr_engine_answer passed = *answer;
    if (passed.status == CR_CONFLICT || passed.status == CR_UNKNOWN_USER) {
        passed.status = CR_DENIED;
        link_counts(job);
    }
    account_changed(context, &passed);
}

static void reset_proceed(struct job *job)
{
    struct cr_account_change change = {
        .hash = job->fresh,
        .spends_reset = true,
        .reset = job->reset,
        .ending = {.reason = CR_REASON_PASSWORD, .by = "the user, with a link"}};
    cr_engine_account_change(job->auth->engine, &job->row.user, &change, reset_made, job);
}

/* A new account is an ending too: sessions of this name may be older than it. */
static void account_proceed(struct job *job)
{
    bool is_new = job->kind == JOB_ADD;
    struct cr_account_change change = {
        .add = is_new,
        .hash = job->row.hash,
        .must_change = job->once > 0,
        .password_for = job->once,
        .ending = {.reason = is_new ? CR_REASON_ADMIN : CR_REASON_PASSWORD, .by = BY}};
    cr_engine_account_change(job->auth->engine, &job->row.user, &change, account_changed, job);
}

static void hash_done(struct cr_work *work)
{
    struct job *job = job_of_work(work);
    job_leave(job);
    if (job->hashed == CR_DENIED)
        cr_throttle_end(&job->ticket, true);
    if (job->hashed != CR_OK) {
        job_end(job, job->hashed);
        return;
    }
    switch (job->kind) {
    case JOB_LOGIN:
        login_proceed(job);
        break;
    case JOB_CHANGE:
        change_proceed(job);
        break;
    case JOB_RESET:
        reset_proceed(job);
        break;
    case JOB_ADD:
    case JOB_PASSWORD:
        account_proceed(job);
        break;
    }
}

static void job_hash(struct job *job)
{
    job->stage = JOB_HASHING;
    job->work.done = hash_done;
    if (!cr_pool_submit(job->auth->pool, &job->work))
        job_end(job, CR_BUSY);
}

/* ---- login */

static void limit_taken(struct cr_throttle_ticket *ticket, enum cr_status status);

/* What it took of its device is not given back: only the limits of strangers say yes for free. */
static void login_as_stranger(struct job *job)
{
    const char *address = job->request.address;
    cr_throttle_end(&job->ticket, true);
    enum cr_status st =
        cr_throttle_begin(job->auth->throttle, &job->ticket, &job->row.user, address, NULL, 0);
    if (st == CR_OK)
        cr_throttle_take(&job->ticket, limit_taken);
    else
        job_end(job, st);
}

static void find_done(struct cr_store_call *call)
{
    struct job *job = job_of_call(call);
    if (job->auth == NULL)
        job_end(job, CR_UNAVAILABLE);
    else if (job->is_known && cr_throttle_is_outdated(&job->ticket, job->row.password_at))
        login_as_stranger(job);
    else if (call->status == CR_OK || call->status == CR_NOT_FOUND ||
             call->status == CR_UNKNOWN_USER)
        job_hash(
            job); /* an unknown name is hashed too: it takes as long as a wrong password (E4) */
    else
        job_end(job, call->status);
}

/* ---- a link's use */

static enum cr_status reset_run(struct cr_store *store, struct cr_store_call *call)
{
    struct job *job = job_of_call(call);
    struct cr_reset_row reset;
    enum cr_status st = cr_store_reset_find(store, &job->reset, &reset);
    if (st != CR_OK)
        return st;
    job->row.user = reset.user;
    return find_run(store, call);
}

/* The account goes with its links, and so does a disabled one's: those two are for a store that has
 * changed between the two reads. */
static void reset_found(struct cr_store_call *call)
{
    struct job *job = job_of_call(call);
    enum cr_status st = call->status;
    bool is_none =
        st == CR_NOT_FOUND || st == CR_UNKNOWN_USER || (st == CR_OK && job->row.disabled);
    if (job->auth == NULL) {
        job_end(job, CR_UNAVAILABLE);
        return;
    }
    if (is_none) {
        link_counts(job);
        st = CR_DENIED;
    }
    if (st == CR_OK)
        st = cr_password_judge(&job->auth->options.rules, &job->row.user,
                               job->tail + job->password_bytes, job->fresh_bytes);
    if (st == CR_OK)
        job_hash(job);
    else
        job_end(job, st);
}

static void reset_read(struct job *job)
{
    /* Made up: it costs no read. */
    if (!job->is_genuine) {
        link_counts(job);
        job_end(job, CR_DENIED);
        return;
    }
    job->call = (struct cr_store_call){.run = reset_run, .done = reset_found};
    if (!cr_engine_store_read(job->auth->engine, &job->call))
        job_end(job, CR_BUSY);
}

/* ---- attempts */

/* What the limits have said. Only now is the account looked at: a refused name is not told from
 * one that there is. */
static void limit_taken(struct cr_throttle_ticket *ticket, enum cr_status status)
{
    struct job *job = (struct job *)((char *)ticket - offsetof(struct job, ticket));
    if (status != CR_OK) {
        job_end(job, status);
        return;
    }
    if (job->kind == JOB_RESET) {
        reset_read(job);
        return;
    }
    job->call = (struct cr_store_call){.run = find_run, .done = find_done};
    if (!cr_engine_store_read(job->auth->engine, &job->call))
        job_end(job, CR_BUSY);
}

static enum cr_status login_check(const struct cr_auth *auth, const struct cr_auth_login *login)
{
    if (login->fresh != NULL) {
        enum cr_status st = cr_password_judge(&auth->options.rules, &login->request->user,
                                              login->fresh, login->fresh_bytes);
        if (st == CR_OK && login->fresh_bytes == login->password_bytes &&
            cr_bytes_equal(login->fresh, login->password, login->fresh_bytes))
            st = CR_PASSWORD_KNOWN;
        if (st != CR_OK)
            return st;
    }
    /* Nobody has such a one, whoever it is. */
    bool fits = login->password_bytes <= CR_PASSWORD_BYTES_MAX && login->request->user.length > 0;
    return fits ? CR_OK : CR_DENIED;
}

static enum cr_status ticket_take(struct cr_auth *auth, const struct cr_auth_login *login,
                                  struct cr_throttle_ticket *ticket)
{
    const struct cr_user *user = &login->request->user;
    return cr_throttle_begin(auth->throttle, ticket, user->length > 0 ? user : NULL,
                             login->request->address, login->device, login->device_chars);
}

/* A job with its ticket, to be taken; NULL: it has been answered. */
static struct job *attempt_create(struct cr_auth *auth, enum job_kind kind,
                                  const struct cr_auth_login *login, cr_engine_done *done,
                                  void *context)
{
    struct job *job;
    struct cr_throttle_ticket ticket;
    /* A job is wanted for the ticket to stand in, and a refusal must not cost a place. */
    enum cr_status st = ticket_take(auth, login, &ticket);
    cr_throttle_end(&ticket, false);
    if (st == CR_LIMITED) {
        struct cr_engine_answer answer = {.status = st, .retry_after = ticket.retry_after};
        done(context, &answer);
        return NULL;
    }
    st = job_create(auth, kind, login, &job);
    if (st != CR_OK) {
        answer_status(done, context, st);
        return NULL;
    }
    job->done = done;
    job->context = context;
    st = ticket_take(auth, login, &job->ticket);
    CR_ASSERT(st == CR_OK); /* the clock only forgives */
    return job;
}

void cr_auth_login(struct cr_auth *auth, const struct cr_auth_login *login, cr_engine_done *done,
                   void *context)
{
    enum cr_status st = login_check(auth, login);
    if (st != CR_OK) {
        answer_status(done, context, st);
        return;
    }
    struct job *job =
        attempt_create(auth, login->fresh != NULL ? JOB_CHANGE : JOB_LOGIN, login, done, context);
    if (job != NULL)
        cr_throttle_take(&job->ticket, limit_taken);
}

void cr_auth_reset(struct cr_auth *auth, const struct cr_auth_reset *reset, cr_engine_done *done,
                   void *context)
{
    /* Whose it is, nobody knows before it was found. */
    const struct cr_create_request request = {.address = reset->address};
    const struct cr_auth_login as_login = {
        .request = &request, .fresh = reset->fresh, .fresh_bytes = reset->fresh_bytes};
    if (reset->fresh_bytes > CR_PASSWORD_BYTES_MAX) {
        answer_status(done, context, CR_E_LIMIT);
        return;
    }
    struct job *job = attempt_create(auth, JOB_RESET, &as_login, done, context);
    if (job == NULL)
        return;
    job->is_genuine = cr_reset_is_genuine(auth->engine, reset->token);
    cr_token_hash(reset->token, &job->reset);
    cr_throttle_take(&job->ticket, limit_taken);
}

void cr_auth_reset_make(struct cr_auth *auth, const struct cr_user *user, cr_engine_done *done,
                        void *context)
{
    cr_reset_make(auth->engine, user, done, context);
}

struct cr_throttle *cr_auth_throttle(struct cr_auth *auth)
{
    return auth->throttle;
}

void cr_auth_rules_set(struct cr_auth *auth, const struct cr_password_rules *rules)
{
    auth->options.rules = *rules;
}

unsigned cr_auth_password_chars_min(const struct cr_auth *auth)
{
    return cr_password_chars_min(&auth->options.rules);
}

/* ---- accounts */

static void password_set(struct cr_auth *auth, enum job_kind kind, const struct cr_user *user,
                         const void *password, size_t password_bytes, cr_span_ms once,
                         cr_engine_done *done, void *context)
{
    struct job *job;
    const struct cr_create_request request = {.user = *user};
    const struct cr_auth_login as_login = {
        .request = &request, .password = password, .password_bytes = password_bytes};
    enum cr_status st = CR_E_INVALID;
    if (user->length > 0 && once >= 0 && once <= CR_PASSWORD_ONCE_MS_MAX)
        st = cr_password_judge(&auth->options.rules, user, password, password_bytes);
    if (st == CR_OK)
        st = job_create(auth, kind, &as_login, &job);
    if (st != CR_OK) {
        answer_status(done, context, st);
        return;
    }
    job->done = done;
    job->context = context;
    job->once = once;
    job_hash(job);
}

void cr_auth_add(struct cr_auth *auth, const struct cr_user *user, const void *password,
                 size_t password_bytes, cr_span_ms once, cr_engine_done *done, void *context)
{
    password_set(auth, JOB_ADD, user, password, password_bytes, once, done, context);
}

void cr_auth_password(struct cr_auth *auth, const struct cr_user *user, const void *password,
                      size_t password_bytes, cr_span_ms once, cr_engine_done *done, void *context)
{
    password_set(auth, JOB_PASSWORD, user, password, password_bytes, once, done, context);
}

void cr_auth_import(struct cr_auth *auth, const struct cr_user *user, const char *hash,
                    cr_engine_done *done, void *context)
{
    if (user->length == 0 || cr_foreign_unfit(hash) != NULL) {
        answer_status(done, context, CR_E_INVALID);
        return;
    }
    struct cr_account_change change = {
        .add = true, .hash = hash, .ending = {.reason = CR_REASON_ADMIN, .by = BY}};
    cr_engine_account_change(auth->engine, user, &change, done, context);
}

void cr_auth_disable(struct cr_auth *auth, const struct cr_user *user, bool disabled,
                     cr_engine_done *done, void *context)
{
    struct cr_account_change change = {.set_disabled = true,
                                       .disabled = disabled,
                                       .keep_sessions = !disabled,
                                       .ending = {.reason = CR_REASON_DISABLED, .by = BY}};
    cr_engine_account_change(auth->engine, user, &change, done, context);
}

void cr_auth_remove(struct cr_auth *auth, const struct cr_user *user, cr_engine_done *done,
                    void *context)
{
    struct cr_account_change change = {.remove = true,
                                       .ending = {.reason = CR_REASON_DISABLED, .by = BY}};
    cr_engine_account_change(auth->engine, user, &change, done, context);
}

struct search {
    struct cr_store_call call;
    struct cr_user user;
    cr_engine_done *done;
    void *context;
};

static struct search *search_of_call(struct cr_store_call *call)
{
    return (struct search *)((char *)call - offsetof(struct search, call));
}

static enum cr_status search_run(struct cr_store *store, struct cr_store_call *call)
{
    struct cr_account_row row;
    enum cr_status st = cr_store_account_find(store, &search_of_call(call)->user, &row);
    cr_bytes_wipe(&row, sizeof row);
    return st == CR_NOT_FOUND ? CR_UNKNOWN_USER : st;
}

static void search_done(struct cr_store_call *call)
{
    struct search *search = search_of_call(call);
    enum cr_status st = call->status;
    answer_status(search->done, search->context,
                  st == CR_OK || st == CR_UNKNOWN_USER ? st : CR_UNAVAILABLE);
    free(search);
}

void cr_auth_find(struct cr_auth *auth, const struct cr_user *user, cr_engine_done *done,
                  void *context)
{
    struct search *search = calloc(1, sizeof *search);
    if (search == NULL) {
        answer_status(done, context, CR_E_NO_MEMORY);
        return;
    }
    *search = (struct search){.call = {.run = search_run, .done = search_done},
                              .user = *user,
                              .done = done,
                              .context = context};
    if (!cr_engine_store_read(auth->engine, &search->call)) {
        free(search);
        answer_status(done, context, CR_BUSY);
    }
}

struct listing {
    struct cr_store_call call;
    struct cr_user after;
    bool has_after;
    cr_auth_list_done *done;
    void *context;
    size_t capacity, count;
    struct cr_account_row rows[];
};

static struct listing *listing_of_call(struct cr_store_call *call)
{
    return (struct listing *)((char *)call - offsetof(struct listing, call));
}

static enum cr_status list_run(struct cr_store *store, struct cr_store_call *call)
{
    struct listing *l = listing_of_call(call);
    return cr_store_account_list(store, l->has_after ? &l->after : NULL, l->rows, l->capacity,
                                 &l->count);
}

static void list_done(struct cr_store_call *call)
{
    struct listing *l = listing_of_call(call);
    for (size_t i = 0; i < l->count; i++)
        cr_bytes_wipe(l->rows[i].hash, sizeof l->rows[i].hash); /* nobody above needs them */
    l->done(l->context, call->status, l->rows, call->status == CR_OK ? l->count : 0);
    free(l);
}

void cr_auth_list(struct cr_auth *auth, const struct cr_user *after, size_t capacity,
                  cr_auth_list_done *done, void *context)
{
    if (capacity == 0 || capacity > LIST_MAX) {
        done(context, CR_E_INVALID, NULL, 0);
        return;
    }
    struct listing *l = calloc(1, sizeof *l + capacity * sizeof l->rows[0]);
    if (l == NULL) {
        done(context, CR_E_NO_MEMORY, NULL, 0);
        return;
    }
    l->done = done;
    l->context = context;
    l->capacity = capacity;
    l->has_after = after != NULL;
    if (after != NULL)
        l->after = *after;
    l->call = (struct cr_store_call){.run = list_run, .done = list_done};
    if (!cr_engine_store_read(auth->engine, &l->call)) {
        free(l);
        done(context, CR_BUSY, NULL, 0);
    }
}

/* ---- life */

/* A hash of nothing, with the cost of a real one: made, not computed, so that starting is quick. */
static enum cr_status decoy_make(struct cr_random *random, const struct cr_auth_options *options,
                                 char out[crypto_pwhash_STRBYTES])
{
    unsigned char bytes[16 + 32];
    char salt[32];
    char hash[64];
    enum cr_status st = cr_random_fill(random, bytes, sizeof bytes);
    if (st != CR_OK)
        return st;
    sodium_bin2base64(salt, sizeof salt, bytes, 16, sodium_base64_VARIANT_ORIGINAL_NO_PADDING);
    sodium_bin2base64(hash, sizeof hash, bytes + 16, 32, sodium_base64_VARIANT_ORIGINAL_NO_PADDING);
    int length = snprintf(out, crypto_pwhash_STRBYTES, "$argon2id$v=19$m=%zu,t=%u,p=1$%s$%s",
                          options->memory_bytes / 1024, options->passes, salt, hash);
    CR_ASSERT(length > 0 && length < (int)crypto_pwhash_STRBYTES);
    return CR_OK;
}

/* E5: less than this would be cheap to guess. */
static bool cost_is_enough(const struct cr_auth_options *options)
{
    return options->memory_bytes >= MEMORY_DEFAULT ||
           (options->memory_bytes >= MEMORY_FLOOR && options->passes >= 2);
}

enum cr_status cr_auth_create(struct cr_engine *engine, const struct cr_auth_options *options,
                              struct cr_auth **out_auth)
{
    struct cr_auth *auth = calloc(1, sizeof *auth);
    enum cr_status st = CR_E_NO_MEMORY;
    if (auth == NULL)
        goto out;
    auth->engine = engine;
    if (options != NULL)
        auth->options = *options;
    if (auth->options.threads == 0)
        auth->options.threads = THREADS_DEFAULT;
    if (auth->options.queue_max == 0)
        auth->options.queue_max = QUEUE_DEFAULT;
    if (auth->options.memory_bytes == 0)
        auth->options.memory_bytes = MEMORY_DEFAULT;
    if (auth->options.passes == 0)
        auth->options.passes = PASSES_DEFAULT;
    st = CR_E_INVALID;
    if (!cost_is_enough(&auth->options))
        goto out;
    st = CR_E_IO;
    if (sodium_init() < 0)
        goto out;
    st = decoy_make(cr_engine_random(engine), &auth->options, auth->decoy);
    if (st == CR_OK)
        st = cr_throttle_create(engine, &auth->options.limits, &auth->throttle);
    if (st != CR_OK)
        goto out;
    struct cr_pool_options pool = {.name = "password",
                                   .threads = auth->options.threads,
                                   .queue_max = auth->options.queue_max + auth->options.threads,
                                   .batch_max = 1,
                                   .nice = NICE,
                                   .run = pool_run,
                                   .context = auth};
    st = cr_pool_create(cr_engine_loop(engine), &pool, &auth->pool);
    if (st != CR_OK)
        goto out;
    *out_auth = auth;
    auth = NULL;
out:
    if (auth != NULL)
        cr_throttle_destroy(auth->throttle);
    free(auth);
    return st;
}

void cr_auth_destroy(struct cr_auth *auth)
{
    if (auth == NULL)
        return;
    cr_pool_destroy(auth->pool);
    struct job *next = NULL;
    for (struct job *job = auth->jobs; job != NULL; job = next) {
        next = job->next;
        bool is_ours = job->stage == JOB_HASHING;
        cr_throttle_abandon(&job->ticket);
        job->auth = NULL; /* those that store or engine have are answered by them */
        if (is_ours)
            job_end(job, CR_UNAVAILABLE);
    }
    cr_throttle_destroy(auth->throttle);
    free(auth);
}
