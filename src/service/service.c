/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients and the life of their requests: who may ask what, how much at once, and on whose behalf.
 *
 * Owns the lists of clients and requests. What each op does is in requests.c, locks in locks.c, and
 * what a reply holds in reply.c. Invariants: the first message of a client is its hello; a request
 * is replied once, or freed unanswered when its client is gone; nothing that came from a client is
 * an assertion's business.
 */
#include "service/service.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "service/audit.h"
#include "service/request.h"

#define REQUESTS_MAX_DEFAULT 1024

enum cr_status cr_service_create(const struct cr_service_options *options,
                                 struct cr_service **out_service)
{
    CR_ASSERT(options->engine != NULL && options->realm != NULL);
    struct cr_service *service = calloc(1, sizeof *service);
    if (service == NULL)
        return CR_E_NO_MEMORY;
    service->options = *options;
    if (service->options.requests_max == 0)
        service->options.requests_max = REQUESTS_MAX_DEFAULT;
    *out_service = service;
    return CR_OK;
}

void cr_service_stop(struct cr_service *service)
{
    service->stopping = true;
    for (struct cr_client *client = service->clients; client != NULL; client = client->next)
        cr_locks_give_all(client);
}

void cr_service_destroy(struct cr_service *service)
{
    if (service == NULL)
        return;
    CR_ASSERT(service->clients == NULL);
    struct request *next;
    for (struct request *request = service->requests; request != NULL; request = next) {
        next = request->next;
        cr_request_free(request);
    }
    cr_guesses_destroy(service->guesses);
    free(service);
}

size_t cr_service_clients(const struct cr_service *service)
{
    return service->client_count;
}

enum cr_status cr_client_create(struct cr_service *service, const struct cr_client_options *options,
                                struct cr_client **out_client)
{
    CR_ASSERT(options->send != NULL);
    struct cr_client *client = calloc(1, sizeof *client);
    if (client == NULL)
        return CR_E_NO_MEMORY;
    client->service = service;
    client->options = *options;
    cr_label_copy(client->label, sizeof client->label, options->label,
                  options->label != NULL ? strlen(options->label) : 0);
    client->options.label = client->label;
    client->next = service->clients;
    if (client->next != NULL)
        client->next->prev = client;
    service->clients = client;
    service->client_count++;
    *out_client = client;
    return CR_OK;
}

void cr_client_destroy(struct cr_client *client)
{
    if (client == NULL)
        return;
    struct cr_service *service = client->service;
    for (struct request *request = service->requests; request != NULL; request = request->next) {
        if (request->client == client)
            request->client = NULL;
    }
    cr_locks_give_all(client);
    if (client->prev != NULL)
        client->prev->next = client->next;
    else
        service->clients = client->next;
    if (client->next != NULL)
        client->next->prev = client->prev;
    service->client_count--;
    free(client);
}

static enum cr_status request_create(struct cr_client *client, const struct cr_message *message,
                                     struct request **out_request)
{
    struct cr_service *service = client->service;
    struct request *request = calloc(1, sizeof *request);
    if (request == NULL)
        return CR_E_NO_MEMORY;
    request->service = service;
    request->client = client;
    request->op = message->op;
    request->number = message->request;
    request->next = service->requests;
    if (request->next != NULL)
        request->next->prev = request;
    service->requests = request;
    client->under_way++;
    *out_request = request;
    return CR_OK;
}

void cr_request_free(struct request *request)
{
    free(request->note);
    if (request->prev != NULL)
        request->prev->next = request->next;
    else
        request->service->requests = request->next;
    if (request->next != NULL)
        request->next->prev = request->prev;
    if (request->client != NULL)
        request->client->under_way--;
    if (request->bytes != NULL)
        cr_bytes_wipe(request->bytes, request->bytes_count);
    free(request->bytes);
    free(request);
}

static void client_send(struct cr_client *client, struct cr_builder *message, int fd)
{
    if (cr_builder_finish(message))
        client->options.send(client->options.context, message->bytes, message->count, fd);
}

/* A reply without a request: to what was not even begun. */
static void client_refuse(struct cr_client *client, const struct cr_message *message,
                          enum cr_status status)
{
    struct cr_builder reply;
    cr_builder_init(&reply, (enum cr_op)message->op, status, message->request);
    client_send(client, &reply, -1);
    cr_builder_fini(&reply);
}

void cr_request_begin(struct request *request, enum cr_status status, struct cr_builder *out_reply)
{
    cr_builder_init(out_reply, (enum cr_op)request->op, status, request->number);
}

void cr_request_end(struct request *request, struct cr_builder *reply)
{
    if (request->client != NULL) {
        if (!cr_builder_finish(reply)) {
            /* Too large or no memory: the peer must hear something. */
            cr_builder_fini(reply);
            cr_builder_init(reply, (enum cr_op)request->op, CR_E_NO_MEMORY, request->number);
        }
        client_send(request->client, reply, -1);
    }
    cr_builder_fini(reply);
    cr_request_free(request);
}

void cr_request_status(struct request *request, enum cr_status status, const char *text)
{
    struct cr_builder reply;
    cr_request_begin(request, status, &reply);
    cr_builder_text(&reply, CR_TAG_TEXT, text);
    cr_request_end(request, &reply);
}

/* Whether what the agent serves is what the peer wants; else why not, naming both. */
static enum cr_status hello_check(const struct cr_client *client, const struct cr_message *message,
                                  char *out_text, size_t capacity)
{
    const struct cr_service_options *options = &client->service->options;
    uint64_t version = cr_message_u64(message, CR_TAG_VERSION, 0);
    uint64_t serves = cr_engine_has_store(options->engine) ? 0 : 1;
    uint64_t kind = cr_message_u64(message, CR_TAG_KIND, serves);
    char realm[128];
    /* N and N-1 are understood, from both sides. */
    if (version + 1 < CR_WIRE_VERSION || version > CR_WIRE_VERSION + 1 || version == 0) {
        (void)snprintf(out_text, capacity,
                       "the program speaks version %llu of the agent's protocol, the agent version "
                       "%d: install the same release for both and restart the older one",
                       (unsigned long long)version, CR_WIRE_VERSION);
        return CR_E_VERSION;
    }
    if (kind != serves) {
        (void)snprintf(out_text, capacity,
                       kind == 0 ? "the program asks for sessions, but this agent serves an "
                                   "application's own table (table:NAME)"
                                 : "the program asks for a table of its own (table:NAME), but this "
                                   "agent serves sessions of a store");
        return CR_E_REFUSED;
    }
    if (cr_message_text(message, CR_TAG_REALM, realm, sizeof realm) &&
        strcmp(realm, options->realm) != 0) {
        (void)snprintf(
            out_text, capacity,
            "the program asks for realm \"%s\", but the agent of this store serves realm "
            "\"%s\": give both the same realm, or each a store of its own",
            realm, options->realm);
        return CR_E_REFUSED;
    }
    return CR_OK;
}

static void hello_reply(struct cr_client *client, const struct cr_message *message)
{
    struct cr_engine *engine = client->service->options.engine;
    struct cr_ending_id identity = {{0}};
    struct cr_builder reply;
    int fd = client->reads_map ? cr_engine_table_fd(engine) : -1;
    if (cr_engine_has_store(engine))
        cr_engine_identity(engine, &identity);
    cr_builder_init(&reply, CR_OP_HELLO, CR_OK, message->request);
    cr_builder_u64(&reply, CR_TAG_VERSION, CR_WIRE_VERSION);
    cr_builder_u64(&reply, CR_TAG_LAYOUT, CR_TABLE_LAYOUT);
    cr_builder_u64(&reply, CR_TAG_CACHE, cr_engine_cache(engine));
    cr_builder_u64(&reply, CR_TAG_ROLE, client->options.role);
    cr_builder_u64(&reply, CR_TAG_KIND, cr_engine_has_store(engine) ? 0 : 1);
    cr_builder_u64(&reply, CR_TAG_PID, (uint64_t)getpid());
    cr_builder_bytes(&reply, CR_TAG_IDENTITY, identity.bytes, sizeof identity.bytes);
    client_send(client, &reply, fd);
    cr_builder_fini(&reply);
}

static enum cr_status client_hello(struct cr_client *client, const struct cr_message *message)
{
    char text[400] = "";
    if (client->greeted)
        return CR_E_PROTOCOL;
    enum cr_status st = hello_check(client, message, text, sizeof text);
    if (st != CR_OK) {
        struct cr_builder reply;
        cr_builder_init(&reply, CR_OP_HELLO, st, message->request);
        cr_builder_text(&reply, CR_TAG_TEXT, text);
        client_send(client, &reply, -1);
        cr_builder_fini(&reply);
        return CR_OK; /* it may read why, and go */
    }
    client->greeted = true;
    /* Another layout: it attaches without a map, and asks each time. */
    client->reads_map = cr_message_u64(message, CR_TAG_LAYOUT, 0) == CR_TABLE_LAYOUT;
    hello_reply(client, message);
    return CR_OK;
}

void cr_service_table_changed(struct cr_service *service, int fd)
{
    for (struct cr_client *client = service->clients; client != NULL; client = client->next) {
        struct cr_builder push;
        if (!client->greeted)
            continue; /* its hello will bring the table */
        cr_builder_init(&push, CR_OP_SEGMENT, CR_OK, 0);
        cr_builder_u64(&push, CR_TAG_CACHE, cr_engine_cache(service->options.engine));
        client_send(client, &push, client->reads_map ? fd : -1);
        cr_builder_fini(&push);
    }
}

/* Carry out a request whose authority, if it has one, is known. */
static void request_run(struct request *request, const struct cr_message *message)
{
    cr_request_note(request, message);
    cr_request_handler_of(request->op)(request, message);
}

/* Once more from the kept message. What was decoded once decodes again. */
static void request_resume(struct request *request)
{
    struct cr_message message;
    enum cr_status st = cr_message_decode(request->bytes, request->bytes_count, &message);
    CR_ASSERT(st == CR_OK);
    request_run(request, &message);
}

/*
 * The owner of the session that is to be ended, read or changed is known: another's is answered as
 * one that is not there, so that ids cannot be tried out (ASVS D5, H8).
 */
static void target_found(void *context, const struct cr_engine_answer *answer)
{
    struct request *request = context;
    if (answer->status != CR_OK) {
        cr_request_status(request, answer->status, NULL);
        return;
    }
    CR_ASSERT(answer->explanation != NULL);
    if ((!answer->explanation->live && request->op != CR_OP_EXPLAIN) ||
        !cr_user_equal(&answer->explanation->user, &request->authority_user))
        cr_request_status(request, CR_NOT_FOUND, NULL);
    else
        request_resume(request);
}

/* Whether the op names one session by its id, which must then be of the authority's user. */
static bool op_has_target(uint16_t op)
{
    return op == CR_OP_END || op == CR_OP_DATA_READ || op == CR_OP_DATA_WRITE ||
           op == CR_OP_RIGHTS_WRITE || op == CR_OP_EXPLAIN;
}

static void authority_known(struct request *request, const struct cr_record *record)
{
    struct cr_message message;
    enum cr_status st = cr_message_decode(request->bytes, request->bytes_count, &message);
    CR_ASSERT(st == CR_OK);
    request->has_authority = true;
    request->authority_id = record->id;
    request->authority_user = record->user;
    if (op_has_target(request->op)) {
        if (!cr_message_id(&message, &request->target)) {
            cr_request_status(request, CR_E_INVALID, NULL);
            return;
        }
        if (!cr_session_id_equal(&request->target, &request->authority_id)) {
            if (request->authority_user.length == 0) /* anonymous: itself only */
                cr_request_status(request, CR_NOT_FOUND, NULL);
            else
                cr_engine_explain(request->service->options.engine, &request->target, target_found,
                                  request);
            return;
        }
    }
    request_run(request, &message);
}

/* Who held a session may still ask why it is over. */
static void authority_ended(struct request *request)
{
    struct cr_message message;
    struct cr_token token;
    struct cr_session_id own, target;
    enum cr_status st = cr_message_decode(request->bytes, request->bytes_count, &message);
    CR_ASSERT(st == CR_OK && cr_message_token(&message, CR_TAG_AUTHORITY, &token));
    cr_token_id(&token, &own);
    if (request->op == CR_OP_EXPLAIN && cr_message_id(&message, &target) &&
        cr_session_id_equal(&own, &target))
        cr_engine_explain_token(request->service->options.engine, &token, cr_reply_explanation,
                                request);
    else
        cr_request_status(request, CR_ENDED, NULL);
    cr_token_wipe(&token);
}

static void authority_checked(void *context, const struct cr_engine_answer *answer)
{
    struct request *request = context;
    if (answer->status == CR_OK)
        authority_known(request, answer->record);
    else if (answer->status == CR_ENDED)
        authority_ended(request);
    else if (answer->status == CR_NOT_FOUND) /* is about who asks, not about what was asked for */
        cr_request_status(request, CR_DENIED, "the authority is not a token of this store");
    else
        cr_request_status(request, answer->status, NULL);
}

static void request_with_authority(struct request *request, const struct cr_message *message,
                                   const void *bytes, size_t count)
{
    struct cr_token authority;
    if (!cr_message_token(message, CR_TAG_AUTHORITY, &authority)) {
        cr_request_status(request, CR_DENIED, "the authority is not a token of this store");
        return;
    }
    request->bytes = malloc(count);
    if (request->bytes == NULL) {
        cr_request_status(request, CR_E_NO_MEMORY, NULL);
    } else {
        request->bytes_count = count;
        memcpy(request->bytes, bytes, count);
        cr_engine_validate(request->service->options.engine, &authority, false, authority_checked,
                           request);
    }
    cr_token_wipe(&authority);
}

/* What stands between a request that may be sent and its being carried out. */
static void client_request(struct cr_client *client, const struct cr_message *message,
                           const void *bytes, size_t count)
{
    struct cr_service *service = client->service;
    struct request *request;
    if (service->stopping) {
        client_refuse(client, message, CR_UNAVAILABLE);
    } else if (client->under_way >= service->options.requests_max) {
        client_refuse(client, message, CR_BUSY);
    } else if (request_create(client, message, &request) != CR_OK) {
        client_refuse(client, message, CR_E_NO_MEMORY);
    } else if (!cr_engine_has_store(service->options.engine) &&
               cr_request_needs_store(message->op)) {
        cr_request_status(request, CR_E_INVALID,
                          "this table is an application's own (table:NAME): it has no sessions, "
                          "accounts or locks");
    } else if (cr_message_field(message, CR_TAG_AUTHORITY) != NULL) {
        request_with_authority(request, message, bytes, count);
    } else {
        request_run(request, message);
    }
}

enum cr_status cr_client_receive(struct cr_client *client, const void *bytes, size_t count)
{
    struct cr_message message;
    enum cr_status st = cr_message_decode(bytes, count, &message);
    if (st != CR_OK)
        return CR_E_PROTOCOL;
    st = cr_message_admit(&message, client->options.role);
    if (st == CR_DENIED && client->greeted) {
        client_refuse(client, &message, CR_DENIED);
        return CR_OK;
    }
    if (st != CR_OK)
        return CR_E_PROTOCOL;
    if (message.op == CR_OP_HELLO)
        return client_hello(client, &message);
    if (!client->greeted || cr_request_handler_of(message.op) == NULL)
        return CR_E_PROTOCOL;
    client_request(client, &message, bytes, count);
    return CR_OK;
}
