/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From an attempt to its keys, and from memory to the store. Invariant: a key that is in the
 * limiter's table was charged from what the store had, and its writes go out in the order of its
 * charges, so the store's last row is never less than what has been let through. A name is kept as
 * long as its attempt lasts; in rows and keys there are hashes of it.
 */
#include "auth/throttle.h"

#include <arpa/inet.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "store/record.h"

#define RETRY_STEP_S 5
#define NAMES_PAGE 64
#define NAMES_SPAN_MS 1000 /* so long are names looked for; the call that asked has a deadline */
#define NAME_SHOWN_BYTES 6

_Static_assert(CR_NETWORK_CHARS <= CR_ADDRESS_CHARS_MAX + 1, "a network fits its row");
_Static_assert(CR_NETWORK_CHARS == INET6_ADDRSTRLEN + 4, "and a network fits its text");

static const char *const defaults[CR_THROTTLE_END] = {
    /* More than one source may use up: who hammers from one place leaves room for the others. */
    [CR_THROTTLE_ACCOUNT] = "10/1m 40/1h 60/1d 100/30d",
    [CR_THROTTLE_PAIR] = "5/1m 20/1h 30/1d",
    [CR_THROTTLE_SOURCE] = "30/1m 200/1h 1000/1d",
    [CR_THROTTLE_SOURCE_56] = "60/1m 400/1h 2000/1d",
    [CR_THROTTLE_SOURCE_48] = "120/1m 800/1h 4000/1d",
    [CR_THROTTLE_DEVICE] = "5/1m 20/1h 60/1d",
};

struct query;

struct cr_throttle {
    struct cr_engine *engine;
    struct query *queries; /* of operators, under way */
    struct cr_limiter *limiter;
    struct cr_limit limits[CR_THROTTLE_END];
    struct cr_throttle_count count;
    struct cr_ending_id salt; /* the store's identity */
};

static cr_boot_ns now_of(const struct cr_throttle *throttle)
{
    return cr_clock_boot(cr_engine_loop(throttle->engine)->clock);
}

/* ---- keys */

const unsigned cr_network_widths[CR_NETWORK_WIDTHS] = {64, 56, 48};

bool cr_network_of(const char *address, unsigned bits, char out[CR_NETWORK_CHARS])
{
    struct in_addr four;
    struct in6_addr six;
    char text[INET6_ADDRSTRLEN + 1];
    size_t length = strcspn(address, "%");
    if (length >= sizeof text)
        return false;
    memcpy(text, address, length);
    text[length] = '\0';
    if (inet_pton(AF_INET, text, &four) == 1)
        return bits == 64 && inet_ntop(AF_INET, &four, out, CR_NETWORK_CHARS) != NULL;
    if (inet_pton(AF_INET6, text, &six) != 1)
        return false;
    if (IN6_IS_ADDR_V4MAPPED(&six))
        return bits == 64 && inet_ntop(AF_INET, &six.s6_addr[12], out, CR_NETWORK_CHARS) != NULL;
    memset(&six.s6_addr[bits / 8], 0, sizeof six.s6_addr - bits / 8);
    if (inet_ntop(AF_INET6, &six, out, INET6_ADDRSTRLEN) == NULL)
        return false;
    size_t used = strlen(out);
    snprintf(out + used, CR_NETWORK_CHARS - used, "/%u", bits);
    return true;
}

static void key_make(const struct cr_throttle *throttle, enum cr_throttle_kind kind,
                     const struct cr_user *user, const char *address,
                     const struct cr_device_id *device, struct cr_limit_key *out)
{
    crypto_generichash_state state;
    unsigned char head[2] = {(unsigned char)kind, user == NULL ? 0 : (unsigned char)user->length};
    int failed = crypto_generichash_init(&state, throttle->salt.bytes, sizeof throttle->salt.bytes,
                                         sizeof out->bytes);
    CR_ASSERT(failed == 0);
    crypto_generichash_update(&state, head, sizeof head);
    if (user != NULL)
        crypto_generichash_update(&state, user->bytes, user->length);
    if (address != NULL)
        crypto_generichash_update(&state, (const unsigned char *)address, strlen(address));
    if (device != NULL)
        crypto_generichash_update(&state, device->bytes, sizeof device->bytes);
    crypto_generichash_final(&state, out->bytes, sizeof out->bytes);
}

static void part_add(struct cr_throttle_ticket *ticket, enum cr_throttle_kind kind,
                     const struct cr_user *user, const char *address)
{
    const struct cr_throttle *throttle = ticket->throttle;
    size_t index = ticket->ask.part_count;
    struct cr_debt_row *row = &ticket->rows[index];
    struct cr_limit_part *part = &ticket->ask.parts[index];
    if (throttle->limits[kind].tier_count == 0)
        return;
    CR_ASSERT(index < CR_LIMIT_PARTS_MAX);
    ticket->limits[index] = throttle->limits[kind];
    part->limit = &ticket->limits[index];
    key_make(throttle, kind, user, address, kind == CR_THROTTLE_DEVICE ? &ticket->device : NULL,
             &part->key);
    memcpy(row->key, part->key.bytes, sizeof row->key);
    row->kind = kind;
    if (user != NULL)
        cr_debt_name(&throttle->salt, user, &row->user);
    if (address != NULL)
        snprintf(row->address, sizeof row->address, "%s", address);
    ticket->ask.part_count++;
}

/* All but the device. */
static bool parts_add(struct cr_throttle_ticket *ticket, const struct cr_user *user,
                      const char *address)
{
    char network[CR_NETWORK_CHARS];
    bool is_address = address != NULL && cr_network_of(address, 64, network);
    if (user != NULL)
        part_add(ticket, CR_THROTTLE_ACCOUNT, user, NULL);
    if (!is_address)
        return false;
    if (user != NULL)
        part_add(ticket, CR_THROTTLE_PAIR, user, network);
    part_add(ticket, CR_THROTTLE_SOURCE, NULL, network);
    if (cr_network_of(address, 56, network))
        part_add(ticket, CR_THROTTLE_SOURCE_56, NULL, network);
    if (cr_network_of(address, 48, network))
        part_add(ticket, CR_THROTTLE_SOURCE_48, NULL, network);
    return true;
}

/* ---- an attempt */

/* In steps, and later by up to a quarter: that it is told apart by nothing, and that those who
 * wait do not come back at once. */
static cr_span_ms retry_after(const struct cr_throttle *throttle, cr_span_ms wait)
{
    cr_span_ms seconds = (wait + 999) / 1000;
    seconds = (seconds + RETRY_STEP_S - 1) / RETRY_STEP_S * RETRY_STEP_S;
    uint32_t random = 0;
    enum cr_status st = cr_random_fill(cr_engine_random(throttle->engine), &random, sizeof random);
    if (st == CR_OK)
        seconds += random % (uint32_t)(seconds / 4 + 2);
    return seconds * 1000;
}

enum cr_status cr_throttle_begin(struct cr_throttle *throttle, struct cr_throttle_ticket *ticket,
                                 const struct cr_user *user, const char *address,
                                 const void *device, size_t device_chars)
{
    cr_span_ms wait;
    memset(ticket, 0, sizeof *ticket);
    ticket->throttle = throttle;
    if (user != NULL)
        ticket->user = *user;
    ticket->has_device =
        device != NULL && user != NULL &&
        cr_device_read(cr_engine_keyring(throttle->engine), user, device, device_chars,
                       cr_clock_wall(cr_engine_loop(throttle->engine)->clock), &ticket->device);
    if (ticket->has_device && throttle->limits[CR_THROTTLE_DEVICE].tier_count > 0)
        part_add(ticket, CR_THROTTLE_DEVICE, user, NULL);
    else
        (void)parts_add(ticket, user, address);
    enum cr_status st = cr_limiter_look(throttle->limiter, &ticket->ask, now_of(throttle), &wait);
    if (st != CR_LIMITED)
        return CR_OK;
    throttle->count.refused++;
    ticket->retry_after = retry_after(throttle, wait);
    return CR_LIMITED;
}

static struct cr_throttle_ticket *ticket_of(struct cr_store_call *call)
{
    return (struct cr_throttle_ticket *)((char *)call - offsetof(struct cr_throttle_ticket, call));
}

static void rows_of(struct cr_throttle_ticket *ticket, cr_boot_ns now)
{
    for (size_t i = 0; i < ticket->ask.part_count; i++)
        cr_limit_left(cr_limit_part_word(&ticket->ask.parts[i]), now, ticket->rows[i].left);
}

/* The store has done its part. */
static void ticket_done(struct cr_throttle_ticket *ticket, enum cr_status status)
{
    ticket->busy = false;
    if (ticket->throttle != NULL && status == CR_OK)
        ticket->throttle->count.admitted++;
    ticket->done(ticket, ticket->throttle != NULL ? status : CR_UNAVAILABLE);
}

static enum cr_status charge_run(struct cr_store *store, struct cr_store_call *call)
{
    struct cr_throttle_ticket *ticket = ticket_of(call);
    return cr_store_debt_put(store, ticket->rows, ticket->ask.part_count);
}

static void charge_done(struct cr_store_call *call)
{
    ticket_done(ticket_of(call), call->status);
}

static void ticket_charge(struct cr_throttle_ticket *ticket)
{
    struct cr_throttle *throttle = ticket->throttle;
    cr_span_ms wait;
    cr_boot_ns now = now_of(throttle);
    enum cr_status st = cr_limiter_take(throttle->limiter, &ticket->ask, now, &wait);
    if (st == CR_LIMITED) {
        throttle->count.refused++;
        ticket->retry_after = retry_after(throttle, wait);
    }
    if (st != CR_OK || ticket->ask.part_count == 0) {
        ticket_done(ticket, st);
        return;
    }
    rows_of(ticket, now);
    ticket->busy = true;
    ticket->call = (struct cr_store_call){.run = charge_run, .done = charge_done};
    if (!cr_engine_store_write(throttle->engine, &ticket->call))
        ticket_done(ticket, CR_BUSY);
}

static enum cr_status ask_run(struct cr_store *store, struct cr_store_call *call)
{
    struct cr_throttle_ticket *ticket = ticket_of(call);
    for (size_t i = 0; i < ticket->ask.part_count; i++) {
        struct cr_debt_row row;
        if (ticket->found[i] != CR_ASK)
            continue;
        ticket->found[i] = cr_store_debt_find(store, ticket->rows[i].key, &row);
        if (ticket->found[i] == CR_OK)
            memcpy(ticket->rows[i].left, row.left, sizeof row.left);
        else if (ticket->found[i] != CR_NOT_FOUND)
            return ticket->found[i];
    }
    return CR_OK;
}

static void ask_done(struct cr_store_call *call)
{
    struct cr_throttle_ticket *ticket = ticket_of(call);
    ticket->busy = false;
    if (ticket->throttle == NULL || call->status != CR_OK) {
        ticket_done(ticket, call->status);
        return;
    }
    cr_boot_ns now = now_of(ticket->throttle);
    for (size_t i = 0; i < ticket->ask.part_count; i++)
        if (ticket->found[i] == CR_OK)
            cr_limiter_learn(&ticket->ask, i, ticket->rows[i].left, now);
    ticket_charge(ticket);
}

void cr_throttle_take(struct cr_throttle_ticket *ticket,
                      void (*done)(struct cr_throttle_ticket *ticket, enum cr_status status))
{
    ticket->done = done;
    if (!ticket->ask.linked) {
        ticket_charge(ticket);
        return;
    }
    for (size_t i = 0; i < ticket->ask.part_count; i++)
        ticket->found[i] = ticket->ask.parts[i].missing ? CR_ASK : CR_NOT_FOUND;
    ticket->throttle->count.asked++;
    ticket->busy = true;
    ticket->call = (struct cr_store_call){.run = ask_run, .done = ask_done};
    if (!cr_engine_store_read(ticket->throttle->engine, &ticket->call))
        ticket_done(ticket, CR_BUSY);
}

/* Nobody waits for a refund: it is written when the store comes to it, and owns itself. */
struct refund {
    struct cr_store_call call;
    size_t count;
    struct cr_debt_row rows[CR_LIMIT_PARTS_MAX];
};

static struct refund *refund_of(struct cr_store_call *call)
{
    return (struct refund *)((char *)call - offsetof(struct refund, call));
}

static enum cr_status refund_run(struct cr_store *store, struct cr_store_call *call)
{
    return cr_store_debt_put(store, refund_of(call)->rows, refund_of(call)->count);
}

static void refund_done(struct cr_store_call *call)
{
    free(refund_of(call));
}

static void ticket_refund(struct cr_throttle_ticket *ticket)
{
    struct cr_throttle *throttle = ticket->throttle;
    cr_boot_ns now = now_of(throttle);
    cr_limiter_give(&ticket->ask, now);
    throttle->count.refunded++;
    struct refund *refund = calloc(1, sizeof *refund);
    if (refund == NULL)
        return; /* the store has it as owed: that errs towards refusal */
    rows_of(ticket, now);
    refund->count = ticket->ask.part_count;
    memcpy(refund->rows, ticket->rows, sizeof refund->rows);
    refund->call = (struct cr_store_call){.run = refund_run, .done = refund_done};
    if (!cr_engine_store_write(throttle->engine, &refund->call))
        free(refund);
}

void cr_throttle_end(struct cr_throttle_ticket *ticket, bool wrong)
{
    if (ticket->throttle == NULL)
        return;
    CR_ASSERT(!ticket->busy);
    if (ticket->ask.taken && !wrong && ticket->ask.part_count > 0)
        ticket_refund(ticket);
    cr_limiter_leave(ticket->throttle->limiter, &ticket->ask, now_of(ticket->throttle));
    ticket->throttle = NULL;
}

void cr_throttle_abandon(struct cr_throttle_ticket *ticket)
{
    ticket->throttle = NULL;
}

bool cr_throttle_is_outdated(const struct cr_throttle_ticket *ticket, cr_time_ms password_at)
{
    bool by_device = ticket->ask.part_count > 0 && ticket->rows[0].kind == CR_THROTTLE_DEVICE;
    return by_device && !cr_device_id_is_of(&ticket->device, password_at);
}

enum cr_status cr_throttle_device(struct cr_throttle_ticket *ticket, cr_time_ms password_at,
                                  char out[CR_DEVICE_CHARS + 1])
{
    struct cr_engine *engine = ticket->throttle->engine;
    enum cr_status st = CR_OK;
    if (!ticket->has_device || !cr_device_id_is_of(&ticket->device, password_at))
        st = cr_device_id_make(cr_engine_random(engine), password_at, &ticket->device);
    if (st == CR_OK)
        cr_device_write(cr_engine_keyring(engine), &ticket->user, &ticket->device,
                        cr_clock_wall(cr_engine_loop(engine)->clock), out);
    return st;
}

/* ---- for operators */

struct query {
    struct cr_throttle *throttle; /* NULL: it has been destroyed */
    struct query *next;
    struct cr_store_call call;
    struct cr_ending_id salt;
    cr_throttle_done *done;
    void *context;
    struct cr_throttle_ticket keys; /* of explain and reset */
    bool has_user, has_address;
    struct cr_user user, name; /* as it was asked for; as rows have it */
    char networks[CR_NETWORK_WIDTHS][CR_NETWORK_CHARS];
    size_t network_count;
    size_t capacity, count;
    struct cr_debt_row rows[CR_DEBT_LIST_MAX];
    /* Of top: whose the hashes are. */
    cr_boot_ns since;
    bool named[CR_DEBT_LIST_MAX];
    size_t page_count;
    struct cr_account_row page[NAMES_PAGE];
};

static struct query *query_of(struct cr_store_call *call)
{
    return (struct query *)((char *)call - offsetof(struct query, call));
}

static struct query *query_create(struct cr_throttle *throttle, const struct cr_user *user,
                                  const char *address, cr_throttle_done *done, void *context)
{
    struct query *query = calloc(1, sizeof *query);
    if (query == NULL) {
        done(context, CR_E_NO_MEMORY, NULL, 0);
        return NULL;
    }
    query->throttle = throttle;
    query->salt = throttle->salt;
    query->done = done;
    query->context = context;
    query->keys.throttle = throttle;
    query->has_user = user != NULL;
    query->has_address = address != NULL;
    if (user != NULL) {
        query->user = *user;
        cr_debt_name(&throttle->salt, user, &query->name);
    }
    if (address != NULL && !parts_add(&query->keys, user, address)) {
        free(query);
        done(context, CR_E_INVALID, NULL, 0);
        return NULL;
    }
    if (address == NULL && user != NULL)
        (void)parts_add(&query->keys, user, NULL);
    for (unsigned i = 0; address != NULL && i < CR_NETWORK_WIDTHS; i++)
        query->network_count +=
            cr_network_of(address, cr_network_widths[i], query->networks[query->network_count]);
    query->next = throttle->queries;
    throttle->queries = query;
    return query;
}

static void query_end(struct query *query, enum cr_status status)
{
    if (query->throttle != NULL) {
        struct query **at = &query->throttle->queries;
        while (*at != query)
            at = &(*at)->next;
        *at = query->next;
    }
    query->done(query->context, status, query->rows, status == CR_OK ? query->count : 0);
    cr_bytes_wipe(query->page, sizeof query->page); /* hashes of passwords */
    free(query);
}

static enum cr_status explain_run(struct cr_store *store, struct cr_store_call *call)
{
    struct query *query = query_of(call);
    for (size_t i = 0; i < query->count; i++) {
        struct cr_debt_row row;
        enum cr_status st = cr_store_debt_find(store, query->rows[i].key, &row);
        if (st == CR_OK)
            memcpy(query->rows[i].left, row.left, sizeof row.left);
        else if (st != CR_NOT_FOUND)
            return st;
    }
    return CR_OK;
}

/* Who asked has named the user. Without its limits nobody can say what a row means. */
static void explain_done(struct cr_store_call *call)
{
    struct query *query = query_of(call);
    for (size_t i = 0; i < query->count; i++)
        if (query->rows[i].user.length > 0)
            query->rows[i].user = query->user;
    query_end(query, query->throttle != NULL ? call->status : CR_UNAVAILABLE);
}

static void query_read(struct query *query,
                       enum cr_status (*run)(struct cr_store *, struct cr_store_call *),
                       void (*done)(struct cr_store_call *))
{
    query->call = (struct cr_store_call){.run = run, .done = done};
    if (!cr_engine_store_read(query->throttle->engine, &query->call))
        query_end(query, CR_BUSY);
}

void cr_throttle_explain(struct cr_throttle *throttle, const struct cr_user *user,
                         const char *address, cr_throttle_done *done, void *context)
{
    struct query *query = query_create(throttle, user, address, done, context);
    if (query == NULL)
        return;
    query->count = query->keys.ask.part_count;
    memcpy(query->rows, query->keys.rows, sizeof query->keys.rows);
    query_read(query, explain_run, explain_done);
}

static enum cr_status top_run(struct cr_store *store, struct cr_store_call *call)
{
    struct query *query = query_of(call);
    return cr_store_debt_list(store, query->rows, query->capacity, &query->count);
}

static bool is_nameless(const struct query *query, size_t i)
{
    return query->rows[i].user.length > 0 && !query->named[i];
}

/* One page of accounts, and which rows are theirs. */
static enum cr_status names_run(struct cr_store *store, struct cr_store_call *call)
{
    struct query *query = query_of(call);
    struct cr_user after, name;
    bool first = query->page_count == 0;
    if (!first)
        after = query->page[query->page_count - 1].user;
    enum cr_status st = cr_store_account_list(store, first ? NULL : &after, query->page, NAMES_PAGE,
                                              &query->page_count);
    for (size_t n = 0; st == CR_OK && n < query->page_count; n++) {
        cr_debt_name(&query->salt, &query->page[n].user, &name);
        for (size_t i = 0; i < query->count; i++)
            if (is_nameless(query, i) && cr_user_equal(&query->rows[i].user, &name)) {
                query->rows[i].user = query->page[n].user;
                query->named[i] = true;
            }
    }
    return st;
}

/* A name that nobody has is not shown: it is not kept either. */
static void name_hide(struct cr_user *user)
{
    char hex[2 * NAME_SHOWN_BYTES + 1];
    cr_hex_encode(user->bytes, NAME_SHOWN_BYTES, hex);
    user->length = (unsigned char)snprintf((char *)user->bytes, sizeof user->bytes, "#%s", hex);
}

/* Page by page, so that others are served between; until all have a name, or for a while. */
static void names_done(struct cr_store_call *call)
{
    struct query *query = query_of(call);
    struct cr_throttle *throttle = query->throttle;
    size_t nameless = 0;
    if (throttle == NULL || call->status != CR_OK) {
        query_end(query, throttle != NULL ? call->status : CR_UNAVAILABLE);
        return;
    }
    for (size_t i = 0; i < query->count; i++)
        nameless += is_nameless(query, i);
    bool more = query->page_count == NAMES_PAGE || query->call.run == top_run;
    if (nameless > 0 && more && cr_boot_between(query->since, now_of(throttle)) < NAMES_SPAN_MS) {
        query_read(query, names_run, names_done);
        return;
    }
    for (size_t i = 0; i < query->count; i++)
        if (is_nameless(query, i))
            name_hide(&query->rows[i].user);
    query_end(query, CR_OK);
}

void cr_throttle_top(struct cr_throttle *throttle, size_t capacity, cr_throttle_done *done,
                     void *context)
{
    struct query *query = query_create(throttle, NULL, NULL, done, context);
    if (query == NULL)
        return;
    CR_ASSERT(capacity > 0 && capacity <= CR_DEBT_LIST_MAX);
    query->capacity = capacity;
    query->since = now_of(throttle);
    query_read(query, top_run, names_done);
}

static void reset_memory(const struct query *query)
{
    struct cr_limit_key keys[CR_LIMIT_PARTS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < query->keys.ask.part_count; i++)
        if (!query->has_user || !query->has_address || query->keys.rows[i].kind == CR_THROTTLE_PAIR)
            keys[count++] = query->keys.ask.parts[i].key;
    cr_limiter_forget(query->throttle->limiter, keys, count);
}

static enum cr_status reset_run(struct cr_store *store, struct cr_store_call *call)
{
    struct query *query = query_of(call);
    const struct cr_user *user = query->has_user ? &query->name : NULL;
    if (!query->has_address)
        return cr_store_debt_forget(store, user, NULL);
    enum cr_status st = CR_OK;
    for (size_t i = 0; st == CR_OK && i < query->network_count; i++)
        st = cr_store_debt_forget(store, user, query->networks[i]);
    return st;
}

/* Again: what was asked for meanwhile may have come from before. */
static void reset_done(struct cr_store_call *call)
{
    if (call->status == CR_OK && query_of(call)->throttle != NULL)
        reset_memory(query_of(call));
    query_end(query_of(call), call->status);
}

void cr_throttle_reset(struct cr_throttle *throttle, const struct cr_user *user,
                       const char *address, cr_throttle_done *done, void *context)
{
    CR_ASSERT(user != NULL || address != NULL);
    struct query *query = query_create(throttle, user, address, done, context);
    if (query == NULL)
        return;
    reset_memory(query);
    query->call = (struct cr_store_call){.run = reset_run, .done = reset_done};
    if (!cr_engine_store_write(throttle->engine, &query->call))
        query_end(query, CR_BUSY);
}

void cr_throttle_count(const struct cr_throttle *throttle, struct cr_throttle_count *out_count)
{
    struct cr_limiter_count table;
    cr_limiter_count(throttle->limiter, &table);
    *out_count = throttle->count;
    out_count->entries = table.entries;
    out_count->evicted = table.evicted;
}

const struct cr_limit *cr_throttle_limit(const struct cr_throttle *throttle, uint32_t kind)
{
    static const struct cr_limit off;
    return kind > 0 && kind < CR_THROTTLE_END ? &throttle->limits[kind] : &off;
}

/* ---- life */

enum cr_status cr_throttle_set(struct cr_throttle *throttle,
                               const struct cr_throttle_options *options)
{
    struct cr_limit limits[CR_THROTTLE_END] = {0};
    for (int kind = 1; !options->off && kind < CR_THROTTLE_END; kind++) {
        const char *text = options->limits[kind] != NULL ? options->limits[kind] : defaults[kind];
        if (!cr_limit_read(text, &limits[kind]))
            return CR_E_INVALID;
    }
    memcpy(throttle->limits, limits, sizeof limits);
    /* What is owed is asked for again, and cut to what these can demand: as after a start. */
    cr_limiter_forget(throttle->limiter, NULL, 0);
    return CR_OK;
}

enum cr_status cr_throttle_create(struct cr_engine *engine,
                                  const struct cr_throttle_options *options,
                                  struct cr_throttle **out_throttle)
{
    size_t entries = options->entries != 0 ? options->entries : CR_THROTTLE_ENTRIES_DEFAULT;
    struct cr_throttle *throttle = calloc(1, sizeof *throttle);
    enum cr_status st = CR_E_NO_MEMORY;
    if (throttle == NULL)
        return st;
    throttle->engine = engine;
    cr_engine_identity(engine, &throttle->salt);
    st = cr_limiter_create(entries, &throttle->limiter);
    if (st == CR_OK)
        st = cr_throttle_set(throttle, options);
    if (st == CR_OK)
        *out_throttle = throttle;
    else
        cr_throttle_destroy(throttle);
    return st;
}

void cr_throttle_destroy(struct cr_throttle *throttle)
{
    if (throttle == NULL)
        return;
    for (struct query *query = throttle->queries; query != NULL; query = query->next)
        query->throttle = NULL;
    cr_limiter_destroy(throttle->limiter);
    free(throttle);
}
