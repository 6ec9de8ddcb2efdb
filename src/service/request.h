/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the service share. Nobody else includes this. */
#ifndef SERVICE_REQUEST_H
#define SERVICE_REQUEST_H

#include "service/service.h"

struct cr_service {
    struct cr_service_options options;
    struct cr_client *clients;
    struct request *requests; /* all under way, also of clients that are gone */
    size_t client_count;
    bool stopping;
    struct cr_guesses *guesses; /* NULL: nobody has guessed yet */
};

struct lock;

struct cr_client {
    struct cr_service *service;
    struct cr_client *prev, *next;
    struct cr_client_options options;
    char label[CR_BY_CHARS_MAX + 1];
    bool greeted;       /* its hello has been answered with CR_OK */
    bool reads_map;     /* it knows the table's layout */
    size_t under_way;   /* requests not yet replied */
    struct lock *locks; /* held and waited for */
    size_t lock_count;
};

/* One request, from its message to its reply. Calls of engine and auth carry it as their context.
 */
struct request {
    struct cr_service *service;
    struct cr_client *client; /* NULL: gone, nobody hears the reply */
    struct request *prev, *next;
    uint16_t op;
    uint64_t number;
    /* On whose behalf, once the authority's token has been checked. */
    bool has_authority;
    struct cr_session_id authority_id;
    struct cr_user authority_user;
    struct cr_session_id target; /* whose owner is looked up before the request is carried out */
    /* The message, kept while something is looked up first: tokens in it, so it is wiped. */
    unsigned char *bytes;
    size_t bytes_count;
    struct cr_request_note *note;           /* for the audit; may be NULL */
    char address[CR_ADDRESS_CHARS_MAX + 1]; /* of a validation for HTTP: whose token; empty: none */
};

/* Reply, and free the request. */
void cr_request_status(struct request *request, enum cr_status status, const char *text);
/* A reply in three steps; the last frees the request. */
void cr_request_begin(struct request *request, enum cr_status status, struct cr_builder *out_reply);
void cr_request_end(struct request *request, struct cr_builder *reply);
/* For an op that has no reply. */
void cr_request_free(struct request *request);

/* Carry out what `message` asks: the request is the callee's from here on. */
typedef void request_handler(struct request *request, const struct cr_message *message);
/* NULL for an op that no peer sends. */
request_handler *cr_request_handler_of(uint16_t op);
/* Whether an engine without a store can do it. */
bool cr_request_needs_store(uint16_t op);

/* locks.c */
request_handler cr_service_lock_take;
request_handler cr_service_lock_give;
request_handler cr_service_lock_read;
void cr_locks_give_all(struct cr_client *client);

/* guesses.c: tokens that nobody made. What to answer: CR_NOT_FOUND; CR_LIMITED where the address
 * that the request names has presented too many of them. */
struct cr_guesses;
CR_MUST_CHECK enum cr_status cr_guess_judge(const struct request *request,
                                            const struct cr_token *token);
void cr_guesses_count(const struct cr_service *service, uint64_t *out_unknown,
                      uint64_t *out_noticed);
/* What is kept in memory about sources and tokens, in entries. */
size_t cr_guesses_entries(const struct cr_service *service);
void cr_guesses_destroy(struct cr_guesses *guesses); /* accepts NULL */

/* limits.c */
request_handler cr_service_limit_show;
request_handler cr_service_limit_explain;
request_handler cr_service_limit_top;
request_handler cr_service_limit_reset;

/* resets.c */
request_handler cr_service_reset_make;
request_handler cr_service_reset;

/* reply.c: what the engine answered, as a reply. Each is a cr_engine_done over a request. */
cr_engine_done cr_reply_status;
cr_engine_done cr_reply_session;
cr_engine_done cr_reply_login;
cr_engine_done cr_reply_data;
cr_engine_done cr_reply_version;
cr_engine_done cr_reply_ended;
cr_engine_done cr_reply_list;
cr_engine_done cr_reply_explanation;
cr_engine_done cr_reply_past;

#endif
