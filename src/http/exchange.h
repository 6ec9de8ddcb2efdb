/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An exchange from inside: what the files of this layer share. Each handler is a step: it answers,
 * or begins a call and names the step that takes the call's answer.
 */
#ifndef HTTP_EXCHANGE_H
#define HTTP_EXCHANGE_H

#include "http/credential.h"
#include "http/text.h"

#define CR_HTTP_LIST_MAX 64 /* sessions on a page */
#define CR_HTTP_SCRATCH_BYTES 2048

struct cr_past_session; /* wire/message.h */

struct cr_http_exchange;
typedef enum cr_http_progress cr_http_step(struct cr_http_exchange *x);

enum cr_http_method {
    CR_HTTP_GET = 1, /* and HEAD */
    CR_HTTP_POST = 2,
    CR_HTTP_DELETE = 4,
    CR_HTTP_ANY = 8 /* whatever the method: forward-auth passes on the original one */
};

/* What a route asks for before its handler runs (ASVS F1 to F3). */
enum cr_http_guard {
    CR_HTTP_SAFE,     /* nothing: it changes nothing */
    CR_HTTP_OWN_SITE, /* not from another site's page */
    CR_HTTP_PROOF     /* that, and where a cookie speaks, a form token or a JSON request */
};

struct cr_http_route {
    const char *path; /* one * stands for a segment */
    enum cr_http_method method;
    enum cr_http_guard guard;
    bool page; /* for people: refusals are pages too */
    cr_http_step *handle;
};

struct cr_http_exchange {
    const struct cr_http_site *site;
    struct cr_room *room;
    struct cr_http_request request;
    char client[INET6_ADDRSTRLEN]; /* request.peer, where a proxy has told it */
    struct cr_http_text body_sent;
    struct cr_http_fields fields;
    struct cr_http_text path, query, segment; /* segment: what the route's * stood for */
    const struct cr_http_route *route;
    struct cr_http_credential credential;

    struct cr_call *call;   /* under way */
    cr_http_step *next;     /* takes its answer */
    cr_http_step *admitted; /* what the session that is being looked up is for */
    cr_http_step *refused;  /* where there is none; `status` says why */
    enum cr_status status;

    struct cr_session session; /* of the credential, once admitted */
    struct cr_login login;
    struct cr_ended ended;
    struct cr_session *list; /* CR_HTTP_LIST_MAX; made when first needed, kept */
    size_t list_count;
    struct cr_cursor cursor;
    bool later;                   /* a page of the list that is not the first: live ones only */
    struct cr_past_session *past; /* CR_PAST_MAX, as the list; of them, where past_known */
    size_t past_count;
    bool past_known;
    bool bearer, by_form;        /* of a login */
    struct cr_login_note note;   /* of a login */
    bool renews, changes;        /* a login that is a re-authentication, or sets a password */
    struct cr_user user;         /* of a login: as it was typed */
    struct cr_token link;        /* of a link for a new password */
    struct cr_session_id target; /* of an ending */
    bool others;                 /* an ending of all but this one */
    struct cr_ending_id repeat;
    struct cr_stats stats;

    struct cr_http_reply reply;
    struct cr_text body;                 /* of the reply */
    char scratch[CR_HTTP_SCRATCH_BYTES]; /* header values and labels */
    size_t scratch_used;
};

/* route.c */
const struct cr_http_route *cr_http_routes(enum cr_http_surface surface, size_t *out_count);

/* session.c, login.c, reset.c, page.c, verify.c: the routes' first steps. */
cr_http_step cr_http_login_post;
cr_http_step cr_http_logout_post;
cr_http_step cr_http_session_get;
cr_http_step cr_http_sessions_get;
cr_http_step cr_http_sessions_delete;
cr_http_step cr_http_session_delete;
cr_http_step cr_http_session_end_post;
cr_http_step cr_http_others_end_post;
cr_http_step cr_http_verify;
cr_http_step cr_http_login_page;
cr_http_step cr_http_reauth_post;
cr_http_step cr_http_reauth_page;
cr_http_step cr_http_password_post;
cr_http_step cr_http_password_page;
cr_http_step cr_http_reset_page;
cr_http_step cr_http_reset_post;
cr_http_step cr_http_home_page;
cr_http_step cr_http_style_get;
cr_http_step cr_http_icon_get;
/* ops.c, metrics.c: those of operators. */
cr_http_step cr_http_ops_end_user;
cr_http_step cr_http_ops_end_all;
cr_http_step cr_http_ops_login;
cr_http_step cr_http_ops_reset_link;
cr_http_step cr_http_ops_stats;
cr_http_step cr_http_metrics;
cr_http_step cr_http_healthz;
cr_http_step cr_http_readyz;

/* session.c */

/* x->status of an ending, with x->ended: done, pending, unknown or why not. */
enum cr_http_progress cr_http_ended_answer(struct cr_http_exchange *x);
/* ?repeat= into x->repeat. False: it is broken, and the reply is there. */
CR_MUST_CHECK bool cr_http_repeat_read(struct cr_http_exchange *x);

/* exchange.c */

/* Wait for `call` (begun with status `st`), then take its answer in `next`. */
enum cr_http_progress cr_http_wait(struct cr_http_exchange *x, enum cr_status st,
                                   struct cr_call *call, cr_http_step *next);
/* For `next`: the call, which is the caller's to finish; NULL when it could not begin, and then
 * *out_status says why. */
struct cr_call *cr_http_call_take(struct cr_http_exchange *x, enum cr_status *out_status);
/* Look the credential's session up: `admitted` with x->session, or `refused` with x->status
 * (CR_NOT_FOUND, CR_ENDED: no session; others: it cannot be known). */
enum cr_http_progress cr_http_authenticate(struct cr_http_exchange *x, cr_http_step *admitted,
                                           cr_http_step *refused);
/* The same of the store, whatever the table says: for what must not rest on a lease, a password or
 * other devices. Where the store cannot be asked it is 503, and nobody is logged out. */
enum cr_http_progress cr_http_authenticate_strict(struct cr_http_exchange *x,
                                                  cr_http_step *admitted, cr_http_step *refused);

/* reply.c: each fills x->reply and answers CR_HTTP_REPLY, so that a step can end with it. */

/* x->body, which the caller has filled. */
enum cr_http_progress cr_http_reply_body(struct cr_http_exchange *x, unsigned status,
                                         const char *type);
enum cr_http_progress cr_http_reply_static(struct cr_http_exchange *x, const char *type,
                                           struct cr_http_text body);
enum cr_http_progress cr_http_redirect(struct cr_http_exchange *x, const char *location);
/* Problem details (RFC 9457), or a page where the route is for people. */
enum cr_http_progress cr_http_problem(struct cr_http_exchange *x, unsigned status,
                                      const char *detail);
/* The same for a call's answer that no step makes more of. */
/* The same with a word for programs, as its `error`. */
enum cr_http_progress cr_http_problem_named(struct cr_http_exchange *x, unsigned status,
                                            const char *detail, const char *error);
enum cr_http_progress cr_http_problem_status(struct cr_http_exchange *x, enum cr_status st);
/* 401, with what ended the session; NULL: that is not known, or not for who asks. */
enum cr_http_progress cr_http_problem_ended(struct cr_http_exchange *x,
                                            const struct cr_explanation *ended);
const char *cr_http_status_title(unsigned status);

/* `value` is static, or lives in the scratch. */
void cr_http_header_add(struct cr_http_exchange *x, const char *name, const char *value);
/* A string in the scratch; what does not fit is our mistake. */
const char *cr_http_scratch(struct cr_http_exchange *x, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void cr_http_cookie_set(struct cr_http_exchange *x, const struct cr_token *token, cr_span_ms age);
void cr_http_cookie_clear(struct cr_http_exchange *x);
/* The cookie that the agent knows this browser by at its next login. */
void cr_http_device_set(struct cr_http_exchange *x, const char *device);
const char *cr_http_device_name(const struct cr_http_site *site);
/* The cookie that the log-in form belongs to. Of the browser's session. */
void cr_http_form_set(struct cr_http_exchange *x, const char *form);
const char *cr_http_form_name(const struct cr_http_site *site);
bool cr_http_has_type(const struct cr_http_exchange *x, const char *type);

/* login.c */

/* The sign-in page; `notice` may be NULL. */
enum cr_http_progress cr_http_login_show(struct cr_http_exchange *x, unsigned status,
                                         const char *notice);
/* With a 429: when x->note says to come again. */
void cr_http_retry_after_add(struct cr_http_exchange *x);
/* Why the new password cannot be one, by x->status and x->note; NULL: that is not what is wrong. */
const char *cr_http_password_unfit(struct cr_http_exchange *x);

#define CR_HTTP_FRESH_MS ((cr_span_ms)5 * 60 * 1000)
/* Who it is was proved within CR_HTTP_FRESH_MS (ASVS E11). After cr_http_authenticate. */
CR_MUST_CHECK bool cr_http_is_fresh(const struct cr_http_exchange *x);
/* It was not: 403 with the way to do so, by the password or, without an account here, where the
 * user signed in. */
cr_http_step cr_http_step_up;

/* guard.c */

/* What the route asks for is there. False: it is not, and the reply is there. */
CR_MUST_CHECK bool cr_http_guarded(struct cr_http_exchange *x);
#define CR_HTTP_FORM_TOKEN_CHARS 32
#define CR_HTTP_FORM_TOKEN_FIELD "form_token"
/* Derived from the session's token, so that it needs no key; ended by a NUL. */
void cr_http_form_token(const struct cr_token *token, char out[CR_HTTP_FORM_TOKEN_CHARS + 1]);
/*
 * The same before there is a session (ASVS F3): derived from a random cookie that no other site can
 * set or read. `begin` keeps the one that the browser has, else adds one to the reply;
 * CR_UNAVAILABLE: no random bytes. `matches`: `field` (may be NULL) is that of this browser's
 * cookie.
 */
CR_MUST_CHECK enum cr_status cr_http_login_token_begin(struct cr_http_exchange *x,
                                                       char out[CR_HTTP_FORM_TOKEN_CHARS + 1]);
struct cr_http_form_field;
CR_MUST_CHECK bool cr_http_login_token_matches(const struct cr_http_exchange *x,
                                               const struct cr_http_form_field *field);

/* ended.c */

/* 401. Where x->status is CR_ENDED, the credential is a genuine token: its holder is told why. */
cr_http_step cr_http_unauthenticated;
/* Ask what became of the credential's token, which is a genuine one that has ended. Finish with
 * false: it is not known any more, or not now. */
enum cr_status cr_http_explain_begin(struct cr_http_exchange *x, struct cr_call **out_call);
bool cr_http_explain_finish(struct cr_http_exchange *x, struct cr_explanation *out);
#define CR_HTTP_SENTENCE_CHARS_MAX 511
/* For a page, unescaped. Static, or in the scratch. */
const char *cr_http_ended_sentence(struct cr_http_exchange *x, const struct cr_explanation *ended);
/* The same of one of the sessions in a list, to who is signed in. */
void cr_http_past_sentence(const struct cr_explanation *ended,
                           char out[CR_HTTP_SENTENCE_CHARS_MAX + 1]);
/* More members of an object that is open. */
void cr_http_json_ended(struct cr_text *out, const struct cr_explanation *ended);
/* `past` as an object: which it was, where, and how it ended. */
void cr_http_json_past(struct cr_text *out, const struct cr_past_session *past);

/* json.c */

/* `name` with what is around it, and the time as a string; 0: null. */
void cr_http_json_time(struct cr_text *out, const char *name, cr_time_ms time);
/* `current` not NULL: as one of a list, with its labels, and whether it is that one. */
void cr_http_json_session(struct cr_text *out, const struct cr_session *session,
                          const struct cr_session_id *current);

/* html.c */
/* `changes`: the form of POST /password, else of POST /reauth. `notice` may be NULL. */
void cr_http_html_password(struct cr_http_exchange *x, bool changes, const char *notice);
/* `form_token`: of cr_http_login_token_begin. */
void cr_http_html_login(struct cr_http_exchange *x, const char *notice, const char *user,
                        const char *form_token);
/* The form of POST /reset, for whoever has a link. */
void cr_http_html_reset(struct cr_http_exchange *x, const char *notice);
/* The form of POST /login for whoever has a one-time password. */
void cr_http_html_first(struct cr_http_exchange *x, const char *notice, const char *user,
                        const char *form_token);
void cr_http_html_home(struct cr_http_exchange *x);
/* A page that says `text`; what happened in a word is its status. */
void cr_http_html_message(struct cr_http_exchange *x, unsigned status, const char *text);

/* device.c */

/* What a person calls the program behind a User-Agent: "Firefox on Linux". At most `capacity` - 1
 * bytes; empty where nothing is known. */
enum cr_device { CR_DEVICE_COMPUTER, CR_DEVICE_PHONE, CR_DEVICE_PROGRAM };
enum cr_device cr_device_describe(const char *agent, char *out, size_t capacity);

#endif
