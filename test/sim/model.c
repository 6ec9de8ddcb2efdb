/* SPDX-License-Identifier: Apache-2.0 */
/* The plain model of what may be accepted and what may be refused. */
#include "model.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "tap.h"

/* Data is changed without waiting: a host that has not heard of it stops answering after its lease
 * of 5 s and its grace, by a clock that may be 5 % slow. */
#define HEARD_MS(grace) (6000 + (grace)*106 / 100)
#define WRONG_TOLD 5 /* of a world; what comes after follows from these */
/* The old token of a renewal: 10 s by the store's clock. */
#define GRACE_MS 10000

struct cr_user model_user(size_t number)
{
    struct cr_user user = {.length = number == MODEL_NOBODY ? 0 : 1};
    if (user.length > 0)
        user.bytes[0] = (unsigned char)('a' + number);
    return user;
}

void model_init(struct model *model, struct sim *sim, cr_span_ms idle, cr_span_ms absolute)
{
    memset(model, 0, sizeof *model);
    model->sim = sim;
    model->idle = idle;
    model->absolute = absolute;
}

void model_data(size_t number, size_t bytes, unsigned char *out)
{
    for (size_t i = 0; i < bytes; i++)
        out[i] = (unsigned char)(number * 31 + i);
}

void model_rights(size_t number, unsigned char *out)
{
    memset(out, (int)number, number);
}

static cr_boot_ns now_of(const struct model *model)
{
    return model->sim->now;
}

__attribute__((format(printf, 3, 4))) static void
wrong(struct model *model, const struct model_session *session, const char *format, ...)
{
    char text[160];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (model->wrong++ >= WRONG_TOLD)
        return;
    tap_note("at %llu, %s: %s", (unsigned long long)now_of(model),
             session != NULL ? session->id.text : "-", text);
}

/* ---- what a call may end, and what it must have ended when it is done */

static bool raises_user(const struct model_call *call)
{
    return call->kind == MODEL_END_USER || call->kind == MODEL_ACCOUNT ||
           (call->kind == MODEL_LOGIN && call->policy == CR_POLICY_REPLACE);
}

static bool may_end(const struct model *model, const struct model_call *call, size_t index)
{
    const struct model_session *session = &model->sessions[index];
    switch (call->kind) {
    case MODEL_END_ALL:
        return true;
    case MODEL_END_ONE:
        return index == call->session;
    case MODEL_END_OTHERS:
        return index != call->session && session->user == model->sessions[call->session].user;
    case MODEL_END_USER:
    case MODEL_ACCOUNT:
        return session->user == call->user;
    case MODEL_LOGIN:
        return (call->upgrades && index == call->session) ||
               (call->policy != CR_POLICY_KEEP && session->user == call->user);
    case MODEL_VALIDATE:
    case MODEL_READ:
    case MODEL_RIGHTS:
    case MODEL_DATA:
    case MODEL_ROTATE:
        return false;
    }
    return false;
}

/* Which of the oldest go with `keep N`, and whether there is something to upgrade, the store
 * decides: rows_apply. */
static bool must_end(const struct model *model, const struct model_call *call, size_t index)
{
    const struct model_session *session = &model->sessions[index];
    if (call->kind == MODEL_LOGIN &&
        (call->policy == CR_POLICY_KEEP_N || session->user != call->user))
        return false;
    /* One made meanwhile may have been made after. */
    return session->known < call->began && may_end(model, call, index);
}

/* Whether it may end sessions that `user` has, or gets while it is under way. */
static bool touches(const struct model *model, const struct model_call *call, size_t user)
{
    if (call->kind == MODEL_END_ALL)
        return true;
    if (call->kind == MODEL_END_OTHERS)
        return user == model->sessions[call->session].user;
    return user == call->user &&
           (raises_user(call) || (call->kind == MODEL_LOGIN && call->policy == CR_POLICY_KEEP_N));
}

static void session_is_over(struct model *model, struct model_session *session)
{
    if (session->over == 0)
        session->over = now_of(model);
    if (session->asked == 0)
        wrong(model, session, "over, and nobody asked for it");
}

/* Who ended it, as the log says; false: nobody. */
static bool ended_by(struct model *model, const struct cr_session_id *id, char *out_by)
{
    struct cr_store *store = model->sim->keeper;
    struct cr_record record = {0};
    struct cr_log_row row = {0};
    enum cr_status st = cr_store_find(store, id, &record);
    if (st == CR_OK && record.dead == CR_REASON_NONE)
        st = CR_NOT_FOUND;
    else if (st == CR_OK || st == CR_NOT_FOUND)
        st = cr_store_log_about(store, id, st == CR_OK ? &record : NULL, &row);
    cr_record_fini(&record);
    memcpy(out_by, row.by, sizeof row.by);
    return st == CR_OK;
}

/* A login was answered done: so are the endings that it wrote, whichever sessions it chose. */
static void rows_apply(struct model *model, const struct model_call *call)
{
    char by[CR_BY_CHARS_MAX + 1];
    for (size_t i = 0; i < model->session_count; i++) {
        struct model_session *session = &model->sessions[i];
        if (session->over == 0 && session->asked != 0 && ended_by(model, &session->id, by) &&
            strcmp(by, call->label) == 0)
            session_is_over(model, session);
    }
}

/* ---- acceptances */

static void check_rights(struct model *model, const struct model_session *session, cr_boot_ns began,
                         const struct cr_record *record, const char *who)
{
    size_t shown = record->rights_bytes;
    if (shown > session->rights_count) {
        wrong(model, session, "%s: rights that nobody wrote", who);
        return;
    }
    unsigned char expected[MODEL_WRITES];
    model_rights(shown, expected);
    if (memcmp(record->rights, expected, shown) != 0)
        wrong(model, session, "%s: rights that are not whole", who);
    const struct model_write *write = shown > 0 ? &session->rights[shown - 1] : NULL;
    if (write != NULL && write->refused)
        wrong(model, session, "%s: rights of a write that was refused", who);
    for (size_t i = 0; i < session->rights_count; i++) {
        const struct model_write *later = &session->rights[i];
        bool is_later = write == NULL || (write->answered != 0 && write->answered <= later->asked);
        if (is_later && later != write && later->done != 0 && later->done < began)
            wrong(model, session, "%s: rights %zu, though %zu were answered done at %llu", who,
                  shown, i + 1, (unsigned long long)later->done);
    }
}

/* `host`: who knows its own writes at once. NULL: the store was read, which knows all. */
static void check_data(struct model *model, const struct model_session *session, const size_t *host,
                       cr_boot_ns began, const struct cr_record *record, const char *who)
{
    static unsigned char expected[MODEL_DATA_MAX];
    for (size_t i = 0; i < session->data_count; i++) {
        const struct model_write *write = &session->data[i];
        if (write->version == 0)
            continue;
        bool at_once = host == NULL || write->host == *host;
        bool heard = (at_once && write->done < began) ||
                     cr_boot_add(write->done, HEARD_MS(model->grace)) < began;
        if (write->version > record->version && heard)
            wrong(model, session, "%s: version %llu, though %llu was written at %llu", who,
                  (unsigned long long)record->version, (unsigned long long)write->version,
                  (unsigned long long)write->done);
        if (write->version != record->version)
            continue;
        model_data(i + 1, write->bytes, expected);
        if (record->data_bytes != write->bytes ||
            (record->data != NULL && write->bytes > 0 &&
             memcmp(record->data, expected, write->bytes) != 0))
            wrong(model, session, "%s: data that is not of its version", who);
    }
}

/* No host's clock is more than 5 % off, and a second more is granted for rounding. */
static void check_age(struct model *model, const struct model_session *session, cr_boot_ns began,
                      const char *who)
{
    cr_span_ms slack = CR_SEEN_SLACK(model->idle) + 1000;
    if (cr_boot_between(session->known, began) > model->absolute * 106 / 100 + 1000)
        wrong(model, session, "%s: past its absolute end", who);
    if (session->uses_open == 0 &&
        cr_boot_between(session->used, began) > model->idle * 106 / 100 + slack)
        wrong(model, session, "%s: past its idle end, last used at %llu", who,
              (unsigned long long)session->used);
}

/* An engine that is well has written a use by then, whatever the store's latency. */
#define WRITTEN_MS 40000

/* A busy session never ends early: uses that must have reached the store put its end off. */
static void use_count(struct model *model, struct model_session *session)
{
    const struct sim_host *host = &model->sim->hosts[session->use.host];
    bool is_well = host->trouble_at < session->use.at && host->life == session->use.life;
    bool is_written = cr_boot_between(session->use.at, now_of(model)) > WRITTEN_MS;
    if (session->use.at != 0 && is_well && is_written) {
        cr_boot_ns lapses = cr_boot_add(session->use.at, model->idle * 94 / 100);
        cr_boot_ns last = cr_boot_add(session->began, model->absolute * 94 / 100);
        if (lapses > last)
            lapses = last;
        if (lapses > session->lapses)
            session->lapses = lapses;
    }
    if (is_written || !is_well)
        session->use.at = 0;
}

static void use_note(struct model *model, struct model_session *session, size_t host)
{
    use_count(model, session);
    if (session->use.at != 0)
        return;
    session->use.at = now_of(model);
    session->use.host = host;
    session->use.life = model->sim->hosts[host].life;
}

void model_accepted(struct model *model, size_t token, size_t host, cr_boot_ns began,
                    const struct cr_record *record, const char *who)
{
    const struct model_token *t = &model->tokens[token];
    struct model_session *session = &model->sessions[t->session];
    struct cr_user user = model_user(session->user);
    model->accepted++;
    if (session->over != 0 && session->over < began)
        wrong(model, session, "%s on host %zu accepted at %llu, over at %llu", who, host,
              (unsigned long long)began, (unsigned long long)session->over);
    if (t->over != 0 && t->over < began)
        wrong(model, session, "%s on host %zu accepted an old token at %llu, over at %llu", who,
              host, (unsigned long long)began, (unsigned long long)t->over);
    if (t->refused[host] != 0 && t->refused[host] < began)
        wrong(model, session, "%s on host %zu accepted at %llu what it refused at %llu", who, host,
              (unsigned long long)began, (unsigned long long)t->refused[host]);
    if (!cr_user_equal(&record->user, &user) || !cr_session_id_equal(&record->id, &session->id))
        wrong(model, session, "%s: another session", who);
    check_age(model, session, began, who);
    if (record->ends_at - record->created_at != model->absolute)
        wrong(model, session, "%s: another end", who);
    check_rights(model, session, began, record, who);
    check_data(model, session, &host, began, record, who);
    if (record->version > session->version)
        session->version = record->version;
}

void model_used(struct model *model, size_t token)
{
    model->sessions[model->tokens[token].session].used = now_of(model);
}

static void engine_accepted(struct model *model, const struct model_call *call,
                            const struct cr_record *record)
{
    struct model_session *session = &model->sessions[model->tokens[call->token].session];
    model_accepted(model, call->token, call->host, call->began, record, "engine");
    if (call->strict)
        check_data(model, session, NULL, call->began, record, "strict");
    session->used = now_of(model);
    use_note(model, session, call->host);
}

static void read_answered(struct model *model, const struct model_call *call,
                          const struct cr_engine_answer *answer)
{
    const struct model_session *session = &model->sessions[call->session];
    if (answer->status != CR_OK)
        return;
    if (session->over != 0 && session->over < call->began)
        wrong(model, session, "read after its end");
    check_data(model, session, NULL, call->began, answer->record, "read");
}

static void model_refused(struct model *model, const struct model_call *call)
{
    struct model_token *t = &model->tokens[call->token];
    struct model_session *session = &model->sessions[t->session];
    bool rotated = t->asked != 0 && t->asked <= now_of(model);
    use_count(model, session);
    bool lapsed = session->lapses <= now_of(model);
    model->refused++;
    t->refused[call->host] = now_of(model);
    if (session->asked == 0 && !rotated && !lapsed)
        wrong(model, session, "host %zu refused it, and nobody had ended it", call->host);
    /* Everything that may have ended it is done: one of them has. */
    if (session->over == 0 && t->asked == 0 && !lapsed && model->ends_open[session->user] == 0 &&
        session->ends_open == 0 && !session->shaky && !model->shaky[session->user])
        session->over = now_of(model);
}

/* ---- calls */

static void end_asked(struct model *model, const struct model_call *call)
{
    for (size_t i = 0; i < model->session_count; i++)
        if (may_end(model, call, i) && model->sessions[i].asked == 0)
            model->sessions[i].asked = now_of(model);
    for (size_t user = 0; user <= MODEL_USERS; user++)
        if (touches(model, call, user)) {
            model->ends_open[user]++;
            model->end_asked[user] = now_of(model);
        }
    if (call->kind == MODEL_END_ONE || call->upgrades)
        model->sessions[call->session].ends_open++;
}

static void rotate_asked(struct model *model, struct model_call *call)
{
    const struct model_token *rotated = &model->tokens[call->token];
    struct model_session *session = &model->sessions[rotated->session];
    call->overlapped = session->rotations_open++ > 0;
    session->rotation_asked = now_of(model);
    /* Every token of the session that is known now: a second renewal takes the grace of the first.
     */
    for (size_t i = 0; i < model->token_count; i++) {
        struct model_token *t = &model->tokens[i];
        if (t->session != rotated->session)
            continue;
        bool grace = call->rotation == CR_ROTATE_RENEW && t == rotated && t->asked == 0;
        cr_boot_ns asked = grace ? cr_boot_add(now_of(model), GRACE_MS - 1) : now_of(model);
        if (t->asked == 0 || asked < t->asked)
            t->asked = asked;
    }
}

static void write_asked(struct model *model, struct model_call *call)
{
    struct model_session *session = &model->sessions[call->session];
    bool is_data = call->kind == MODEL_DATA;
    size_t *count = is_data ? &session->data_count : &session->rights_count;
    struct model_write *write = is_data ? &session->data[*count] : &session->rights[*count];
    CR_ASSERT(*count < MODEL_WRITES);
    call->write = (*count)++;
    *write = (struct model_write){.asked = now_of(model), .host = call->host, .bytes = call->bytes};
}

/* The session that an engine may count it as a use of, though the answer be lost; NULL: none. */
static struct model_session *may_use(struct model *model, const struct model_call *call)
{
    size_t token = call->has_authority ? call->authority : call->token;
    bool looks = call->kind == MODEL_VALIDATE || call->has_authority;
    return looks ? &model->sessions[model->tokens[token].session] : NULL;
}

void model_asked(struct model *model, struct model_call *call)
{
    call->began = now_of(model);
    struct model_session *used = may_use(model, call);
    if (used != NULL)
        used->uses_open++;
    call->overlapped = call->kind == MODEL_LOGIN && model->ends_open[call->user] > 0;
    end_asked(model, call);
    switch (call->kind) {
    case MODEL_ROTATE:
        rotate_asked(model, call);
        break;
    case MODEL_RIGHTS:
    case MODEL_DATA:
        write_asked(model, call);
        break;
    case MODEL_LOGIN:
    case MODEL_VALIDATE:
    case MODEL_READ:
    case MODEL_END_ONE:
    case MODEL_END_USER:
    case MODEL_END_OTHERS:
    case MODEL_END_ALL:
    case MODEL_ACCOUNT:
        break;
    }
}

static void end_answered(struct model *model, const struct model_call *call,
                         const struct cr_engine_answer *answer)
{
    enum cr_status st = answer->status;
    bool done = st == CR_OK;
    bool refused = st == CR_NOT_FOUND || st == CR_ENDED || st == CR_CONFLICT ||
                   st == CR_UNKNOWN_USER || st == CR_BUSY || st == CR_DENIED;
    for (size_t user = 0; user <= MODEL_USERS; user++)
        if (touches(model, call, user)) {
            model->ends_open[user]--;
            model->shaky[user] |= !done && !refused;
            if (done && raises_user(call) && call->began > model->end_done[user])
                model->end_done[user] = call->began;
        }
    if (call->kind == MODEL_END_ONE || call->upgrades) {
        struct model_session *session = &model->sessions[call->session];
        session->ends_open--;
        session->shaky |= !done && !refused;
    }
    if (!done || call->kind >= MODEL_RIGHTS || call->kind == MODEL_VALIDATE ||
        call->kind == MODEL_READ)
        return;
    model->endings++;
    for (size_t i = 0; i < model->session_count; i++)
        if (must_end(model, call, i))
            session_is_over(model, &model->sessions[i]);
    if (call->kind == MODEL_LOGIN)
        rows_apply(model, call);
}

static struct model_token *token_add(struct model *model, size_t session,
                                     const struct cr_token *token)
{
    struct model_token *t = &model->tokens[model->token_count];
    if (model->token_count == MODEL_TOKENS)
        return NULL;
    for (size_t i = 0; i < model->token_count; i++)
        if (strcmp(model->tokens[i].token.text, token->text) == 0)
            return NULL; /* who renews at the same time gets the same */
    *t = (struct model_token){.session = session, .token = *token, .known = now_of(model)};
    cr_token_id(token, &t->id);
    cr_token_hash(token, &t->hash);
    model->token_count++;
    return t;
}

static void login_answered(struct model *model, const struct model_call *call,
                           const struct cr_engine_answer *answer)
{
    if (answer->status != CR_OK || model->session_count == MODEL_SESSIONS)
        return;
    struct model_session *session = &model->sessions[model->session_count];
    *session = (struct model_session){.user = call->user,
                                      .id = answer->record->id,
                                      .version = 1,
                                      .began = call->began,
                                      .known = now_of(model),
                                      .used = now_of(model)};
    cr_span_ms shorter = model->idle < model->absolute ? model->idle : model->absolute;
    session->lapses = cr_boot_add(call->began, shorter * 94 / 100);
    /* Something that was under way with it may have ended it again. */
    if (call->overlapped || model->end_asked[call->user] > call->began)
        session->asked = call->began;
    if (call->must_fail)
        wrong(model, session, "a login with a generation that was gone (D11)");
    (void)token_add(model, model->session_count++, answer->token);
}

static void rotate_answered(struct model *model, const struct model_call *call,
                            const struct cr_engine_answer *answer)
{
    struct model_token *old = &model->tokens[call->token];
    struct model_session *session = &model->sessions[old->session];
    session->rotations_open--;
    if (answer->status != CR_OK)
        return;
    if (session->over != 0 && session->over < call->began)
        wrong(model, session, "rotated after its end");
    bool at_once = call->rotation == CR_ROTATE_PRIVILEGE;
    cr_boot_ns over = at_once ? now_of(model) : cr_boot_add(now_of(model), GRACE_MS * 11 / 10);
    for (size_t i = 0; i < model->token_count; i++) {
        struct model_token *t = &model->tokens[i];
        bool was_there = t->session == old->session && t->known < call->began;
        if ((t == old || (at_once && was_there)) && (t->over == 0 || over < t->over))
            t->over = over;
    }
    struct model_token *made = token_add(model, old->session, answer->token);
    /* Another rotation may have been after this one. */
    if (made != NULL && (call->overlapped || session->rotation_asked > call->began))
        made->asked = call->began;
}

static void write_answered(struct model *model, const struct model_call *call,
                           const struct cr_engine_answer *answer)
{
    struct model_session *session = &model->sessions[call->session];
    bool is_data = call->kind == MODEL_DATA;
    struct model_write *write =
        is_data ? &session->data[call->write] : &session->rights[call->write];
    enum cr_status st = answer->status;
    write->host = call->host;
    write->answered = now_of(model);
    write->done = st == CR_OK ? now_of(model) : 0;
    /* What a killed host's calls came to, nobody was told. */
    write->refused = st != CR_OK && st != CR_PENDING && st != CR_E_UNKNOWN_OUTCOME &&
                     model->sim->hosts[call->host].alive;
    if (st != CR_OK)
        return;
    if (session->over != 0 && session->over < call->began)
        wrong(model, session, "written after its end (D10)");
    if (!is_data)
        return;
    write->version = answer->version;
    if (call->expects != CR_VERSION_ANY && answer->version != call->expects + 1)
        wrong(model, session, "version %llu, though %llu was expected",
              (unsigned long long)answer->version, (unsigned long long)call->expects);
    for (size_t i = 0; i < session->data_count; i++)
        if (&session->data[i] != write && session->data[i].version == answer->version)
            wrong(model, session, "two writes made version %llu",
                  (unsigned long long)answer->version);
}

/* Nothing is done on the word of a token that was over before it was shown. */
static void authority_check(struct model *model, const struct model_call *call,
                            const struct cr_engine_answer *answer)
{
    const struct model_token *t = &model->tokens[call->authority];
    const struct model_session *session = &model->sessions[t->session];
    bool is_over = (t->over != 0 && t->over < call->began) ||
                   (session->over != 0 && session->over < call->began);
    if (call->has_authority && answer->status == CR_OK && is_over)
        wrong(model, session, "carried out on its behalf, though it was over");
}

void model_answered(struct model *model, const struct model_call *call,
                    const struct cr_engine_answer *answer)
{
    authority_check(model, call, answer);
    struct model_session *used = may_use(model, call);
    if (used != NULL)
        used->uses_open--;
    end_answered(model, call, answer);
    switch (call->kind) {
    case MODEL_LOGIN:
        login_answered(model, call, answer);
        break;
    case MODEL_VALIDATE:
        if (answer->status == CR_OK)
            engine_accepted(model, call, answer->record);
        else if (answer->status == CR_ENDED)
            model_refused(model, call);
        else
            model->unsaid++;
        break;
    case MODEL_READ:
        read_answered(model, call, answer);
        break;
    case MODEL_RIGHTS:
    case MODEL_DATA:
        write_answered(model, call, answer);
        break;
    case MODEL_ROTATE:
        rotate_answered(model, call, answer);
        break;
    case MODEL_END_ONE:
    case MODEL_END_USER:
    case MODEL_END_OTHERS:
    case MODEL_END_ALL:
    case MODEL_ACCOUNT:
        break;
    }
    /* It may have been one, and nobody heard. */
    if (used != NULL && answer->status != CR_ENDED)
        used->used = now_of(model);
}
