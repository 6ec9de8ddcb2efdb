/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every route, bare: no sockets, no HTTP library, over a room in direct mode whose store is memory.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cloakroom/account.h>
#include <sodium.h>

#include "base/bytes.h"
#include "http/exchange.h"
#include "store/store.h"
#include "tap.h"

#define PASSWORD "correct horse battery"
#define HOSTILE "Mozilla/<script>alert(1)</script>\"'>\xff\xc3"
#define HEADERS_MAX 8

/* --- One server, one store, a few people --- */

struct world {
    struct cr_http_site site;
    struct cr_room *room;
    struct cr_http_exchange *exchange;
    char store[128]; /* its URL */
};

/* With a hash as ours are, made once for all worlds: each takes a tenth of a second. */
static bool account_add(struct cr_room *room, const char *name)
{
    static char hash[crypto_pwhash_STRBYTES];
    struct cr_user user;
    if (hash[0] == '\0' &&
        crypto_pwhash_str_alg(hash, PASSWORD, strlen(PASSWORD), 2, (size_t)46 << 20,
                              crypto_pwhash_ALG_ARGON2ID13) != 0)
        return false;
    return cr_user_parse(name, strlen(name), &user) == CR_OK &&
           cr_account_import(room, &user, hash) == CR_OK;
}

static bool world_open_at(struct world *w, const char *url)
{
    struct cr_options options;
    struct cr_error error = {.size = sizeof error};
    *w = (struct world){.site = {.on_login = CR_POLICY_REPLACE,
                                 .clear_site_data = "\"cookies\"",
                                 .clock = cr_clock_system()}};
    cr_options_init(&options);
    options.mode = CR_MODE_DIRECT;
    snprintf(w->store, sizeof w->store, "%s", url);
    if (cr_open(url, &options, &w->room, &error) != CR_OK) {
        tap_note("%s", error.text);
        return CHECK(false);
    }
    w->exchange = cr_http_exchange_create(&w->site);
    return CHECK(w->exchange != NULL) && CHECK(account_add(w->room, "alice")) &&
           CHECK(account_add(w->room, "bob"));
}

static bool world_open(struct world *w)
{
    static unsigned worlds;
    char url[32];
    snprintf(url, sizeof url, "memory:routes-%u", worlds++);
    return world_open_at(w, url);
}

static void world_close(struct world *w)
{
    cr_http_exchange_destroy(w->exchange);
    cr_close(w->room);
}

/* --- Requests --- */

struct sent {
    const char *method, *target;
    const char *token; /* as cookie; NULL: none */
    const char *bearer;
    const char *type, *body;
    const char *agent;
    const char *name, *value; /* one more header */
    const char *cookie_name;  /* NULL: as the site has it */
    bool no_room;
};

static void header_put(struct cr_http_request *request, struct cr_http_header *headers,
                       const char *name, const char *value)
{
    if (value == NULL)
        return;
    headers[request->header_count++] =
        (struct cr_http_header){{name, strlen(name)}, {value, strlen(value)}};
}

/* The reply, valid until the next. */
static const struct cr_http_reply *ask(struct world *w, const struct sent *sent)
{
    static char cookie[256], bearer[256];
    struct cr_http_header headers[HEADERS_MAX];
    struct cr_http_request request = {
        .method = {sent->method, strlen(sent->method)},
        .target = {sent->target, strlen(sent->target)},
        .headers = headers,
        .peer = "192.0.2.7",
    };
    struct cr_http_text body = {sent->body, sent->body != NULL ? strlen(sent->body) : 0};
    const char *name = w->site.dev ? CR_HTTP_COOKIE_DEV : CR_HTTP_COOKIE_SECURE;
    snprintf(cookie, sizeof cookie, "%s=%s", sent->cookie_name != NULL ? sent->cookie_name : name,
             sent->token != NULL ? sent->token : "");
    snprintf(bearer, sizeof bearer, "Bearer %s", sent->bearer != NULL ? sent->bearer : "");
    header_put(&request, headers, "Host", "example.org");
    header_put(&request, headers, "Cookie", sent->token != NULL ? cookie : NULL);
    header_put(&request, headers, "Authorization", sent->bearer != NULL ? bearer : NULL);
    header_put(&request, headers, "Content-Type", sent->type);
    header_put(&request, headers, "User-Agent", sent->agent);
    header_put(&request, headers, sent->name, sent->value);
    cr_http_exchange_reset(w->exchange);
    if (cr_http_admit(w->exchange, &request)) {
        enum cr_http_progress progress =
            cr_http_start(w->exchange, sent->no_room ? NULL : w->room, body);
        while (progress == CR_HTTP_WAIT) {
            struct pollfd polled = {.fd = cr_room_fd(w->room), .events = POLLIN};
            while (!cr_call_done(cr_http_waits_for(w->exchange))) {
                (void)poll(&polled, 1, 20);
                cr_room_poll(w->room);
            }
            progress = cr_http_resume(w->exchange);
        }
    }
    return cr_http_reply(w->exchange);
}

#define ASK(w, ...) ask(w, &(struct sent){__VA_ARGS__})
#define GET(path, ...) .method = "GET", .target = path, __VA_ARGS__
#define POST(path, ...) .method = "POST", .target = path, __VA_ARGS__
#define JSON "application/json"
#define FORM "application/x-www-form-urlencoded"

static const char *header_of(const struct cr_http_reply *reply, const char *name)
{
    for (size_t i = 0; i < reply->header_count; i++)
        if (strcmp(reply->headers[i].name, name) == 0)
            return reply->headers[i].value;
    return NULL;
}

static bool body_has(const struct cr_http_reply *reply, const char *text)
{
    return memmem(reply->body.bytes != NULL ? reply->body.bytes : "", reply->body.count, text,
                  strlen(text)) != NULL;
}

/* The token that a reply sets; empty: none. */
static struct cr_token cookie_token(const struct cr_http_reply *reply)
{
    struct cr_token token = {0};
    const char *cookie = header_of(reply, "Set-Cookie");
    const char *value = cookie != NULL ? strchr(cookie, '=') : NULL;
    if (value != NULL && cr_token_parse(value + 1, strcspn(value + 1, ";"), &token) != CR_OK)
        token.text[0] = '\0';
    return token;
}

static struct cr_token login(struct world *w, const char *user, const char *agent)
{
    char body[256];
    snprintf(body, sizeof body, "{\"user\":\"%s\",\"password\":\"" PASSWORD "\"}", user);
    const struct cr_http_reply *reply =
        ASK(w, POST("/login", .type = JSON, .body = body, .agent = agent));
    struct cr_token token = cookie_token(reply);
    CHECK_UINT(reply->status, 200);
    CHECK(token.text[0] != '\0');
    return token;
}

static unsigned session_status(struct world *w, const struct cr_token *token)
{
    return ASK(w, GET("/session", .token = token->text))->status;
}

/* The id of a token's session, as GET /session answers it. */
static struct cr_session_id session_id(struct world *w, const struct cr_token *token)
{
    struct cr_session_id id = {0};
    const struct cr_http_reply *reply = ASK(w, GET("/session", .token = token->text));
    const char *text = memmem(reply->body.bytes, reply->body.count, "crp_", 4);
    CHECK(text != NULL && cr_session_id_parse(text, CR_SESSION_ID_CHARS, &id) == CR_OK);
    return id;
}

/* --- Log-in --- */

static void a_json_login_answers_the_session_and_sets_the_cookie(void)
{
    struct world w;
    if (!world_open(&w))
        return;
    const struct cr_http_reply *reply =
        ASK(&w, POST("/login", .type = JSON,
                     .body = "{\"user\":\"alice\",\"password\":\"" PASSWORD "\"}"));
    struct cr_token token = cookie_token(reply);
    const char *cookie = header_of(reply, "Set-Cookie");
    CHECK_UINT(reply->status, 200);
    CHECK_STR(reply->type, "application/json");
    CHECK(body_has(reply, "{\"session\":{\"id\":\"crp_"));
    CHECK(body_has(reply, "\"user\":\"alice\""));
    CHECK(body_has(reply, "},\"expires_at\":\""));
    /* ASVS B3: the value is in the cookie alone. */
    CHECK(!body_has(reply, "signed_token"));
    CHECK(!body_has(reply, "crs1_"));
    /* ASVS B1 to B7. */
    if (CHECK(cookie != NULL)) {
        CHECK(strncmp(cookie, "__Host-cloakroom=crs1_", 22) == 0);
        CHECK(strstr(cookie, "; Max-Age=43200; Path=/; Secure; HttpOnly; SameSite=Lax") != NULL);
        CHECK(strstr(cookie, "Domain") == NULL);
        CHECK_UINT(strcspn(cookie, ";"), strlen("__Host-cloakroom=") + CR_TOKEN_CHARS);
    }
    CHECK_UINT(session_status(&w, &token), 200);
    world_close(&w);
}

static void a_bearer_login_answers_the_token_and_sets_no_cookie(void)
{
    struct world w;
    if (!world_open(&w))
        return;
    const struct cr_http_reply *reply = ASK(
        &w, POST("/login", .type = JSON,
                 .body = "{\"user\":\"alice\",\"password\":\"" PASSWORD "\",\"mode\":\"bearer\"}"));
    char token[CR_TOKEN_CHARS + 1] = "";
    const char *at = memmem(reply->body.bytes, reply->body.count, "\"signed_token\":\"crs1_", 21);
    CHECK_UINT(reply->status, 200);
    CHECK(header_of(reply, "Set-Cookie") == NULL);
    if (CHECK(at != NULL))
        memcpy(token, at + 16, CR_TOKEN_CHARS);
    CHECK_UINT(ASK(&w, GET("/session", .bearer = token))->status, 200);
    CHECK_UINT(ASK(&w, GET("/session", .token = token))->status, 200);
    world_close(&w);
}

/* The cookie that the login page sets, and the token in its form. False: there is none. */
static bool login_form(struct world *w, char cookie[33], char form[CR_HTTP_FORM_TOKEN_CHARS + 1])
{
    static const char field[] = "name=\"" CR_HTTP_FORM_TOKEN_FIELD "\" value=\"";
    const struct cr_http_reply *reply = ASK(w, GET("/login", ));
    const char *set = header_of(reply, "Set-Cookie");
    const char *at = memmem(reply->body.bytes, reply->body.count, field, sizeof field - 1);
    if (!CHECK(set != NULL && strncmp(set, "__Host-cloakroom-form=", 22) == 0) ||
        !CHECK(at != NULL))
        return false;
    CHECK_STR(set + 22 + 32, "; Path=/; Secure; HttpOnly; SameSite=Lax");
    snprintf(cookie, 33, "%s", set + 22);
    snprintf(form, CR_HTTP_FORM_TOKEN_CHARS + 1, "%.*s", CR_HTTP_FORM_TOKEN_CHARS,
             at + sizeof field - 1);
    return true;
}

static const struct cr_http_reply *form_login(struct world *w, const char *cookie, const char *form,
                                              const char *fields)
{
    static char body[512];
    snprintf(body, sizeof body, "form_token=%s&%s", form, fields);
    return ASK(w, POST("/login", .type = FORM "; charset=utf-8", .body = body, .token = cookie,
                       .cookie_name = CR_HTTP_FORM_SECURE));
}

static void a_form_login_goes_to_the_page(void)
{
    struct world w;
    char cookie[33], form[CR_HTTP_FORM_TOKEN_CHARS + 1];
    if (!world_open(&w) || !login_form(&w, cookie, form))
        return;
    const struct cr_http_reply *reply =
        form_login(&w, cookie, form, "user=alice&password=correct+horse%20battery");
    struct cr_token token = cookie_token(reply);
    CHECK_UINT(reply->status, 303);
    CHECK_STR(header_of(reply, "Location"), "/");
    CHECK_UINT(session_status(&w, &token), 200);
    reply = form_login(&w, cookie, form, "user=%3Cb%3E&password=wrong");
    CHECK_UINT(reply->status, 401);
    CHECK_STR(reply->type, "text/html; charset=utf-8");
    CHECK(body_has(reply, "value=\"&lt;b&gt;\""));
    CHECK(!body_has(reply, "wrong\""));
    CHECK(header_of(reply, "Set-Cookie") == NULL);
    world_close(&w);
}

static void a_login_ends_the_earlier_sessions_before_it_answers(void)
{
    struct world w;
    if (!world_open(&w))
        return;
    struct cr_token first = login(&w, "alice", NULL), bob = login(&w, "bob", NULL);
    CHECK_UINT(session_status(&w, &first), 200);
    struct cr_token second = login(&w, "alice", NULL);
    CHECK_UINT(session_status(&w, &first), 401);
    CHECK_UINT(session_status(&w, &second), 200);
    CHECK_UINT(session_status(&w, &bob), 200);
    CHECK(strcmp(first.text, second.text) != 0);
    w.site.on_login = CR_POLICY_KEEP;
    struct cr_token third = login(&w, "alice", NULL);
    CHECK_UINT(session_status(&w, &second), 200);
    CHECK_UINT(session_status(&w, &third), 200);
    world_close(&w);
}

/* ASVS A5. */
static void a_login_ends_the_session_that_the_browser_had(void)
{
    struct world w;
    if (!world_open(&w))
        return;
    w.site.on_login = CR_POLICY_KEEP;
    struct cr_token alice = login(&w, "alice", NULL);
    const struct cr_http_reply *reply =
        ASK(&w, POST("/login", .token = alice.text, .type = JSON,
                     .body = "{\"user\":\"bob\",\"password\":\"" PASSWORD "\"}"));
    struct cr_token bob = cookie_token(reply);
    CHECK_UINT(reply->status, 200);
    CHECK_UINT(session_status(&w, &alice), 401);
    CHECK_UINT(session_status(&w, &bob), 200);
    world_close(&w);
}

/* ASVS E4. */
static void unknown_wrong_and_disabled_get_the_same_answer(void)
{
    static const char *const bodies[] = {
        "{\"user\":\"alice\",\"password\":\"wrong\"}",
        "{\"user\":\"nobody\",\"password\":\"wrong\"}",
        "{\"user\":\"bob\",\"password\":\"" PASSWORD "\"}",
    };
    struct world w;
    struct cr_user bob;
    char first[512] = "";
    if (!world_open(&w) || !CHECK(cr_user_parse("bob", 3, &bob) == CR_OK))
        return;
    CHECK(cr_account_disable(w.room, &bob, true) == CR_OK);
    for (size_t i = 0; i < 3; i++) {
        const struct cr_http_reply *reply =
            ASK(&w, POST("/login", .type = JSON, .body = bodies[i]));
        tap_row(bodies[i]);
        CHECK_UINT(reply->status, 401);
        CHECK(header_of(reply, "Set-Cookie") == NULL);
        if (i == 0)
            snprintf(first, sizeof first, "%.*s", (int)reply->body.count, reply->body.bytes);
        if (CHECK_UINT(reply->body.count, strlen(first)))
            CHECK_MEM(reply->body.bytes, first, reply->body.count);
    }
    tap_row(NULL);
    world_close(&w);
}

static void a_login_that_makes_no_sense_is_refused_in_words(void)
{
    static const struct {
        const char *name, *type, *body;
        unsigned status;
    } rows[] = {
        {"no body", JSON, NULL, 400},
        {"broken JSON", JSON, "{\"user\":", 400},
        {"a wrong type", JSON, "{\"user\":7,\"password\":\"x\"}", 400},
        {"no password", JSON, "{\"user\":\"alice\"}", 400},
        {"an empty user", JSON, "{\"user\":\"\",\"password\":\"x\"}", 400},
        {"an empty password", JSON, "{\"user\":\"alice\",\"password\":\"\"}", 400},
        {"a control character", JSON, "{\"user\":\"a\\u0007\",\"password\":\"x\"}", 400},
        {"NUL in the user", JSON, "{\"user\":\"alice\\u0000\",\"password\":\"x\"}", 400},
        {"no UTF-8", JSON, "{\"user\":\"\xff\",\"password\":\"x\"}", 400},
        {"no UTF-8 in a form", FORM, "user=%ff&password=x", 400},
        {"a session id", JSON, "{\"user\":\"crp_AAAAAAAAAAAAAAAAAAAAAAAA\",\"password\":\"x\"}",
         400},
        {"another mode", JSON, "{\"user\":\"alice\",\"password\":\"x\",\"mode\":\"x\"}", 400},
        {"a form with a broken escape", FORM, "user=%4&password=x", 400},
        {"another type", "text/plain", "{\"user\":\"alice\",\"password\":\"x\"}", 415},
        {"no type", NULL, "{\"user\":\"alice\",\"password\":\"x\"}", 415},
        {"a type that only begins like it", JSON "x", "{}", 415},
    };
    struct world w;
    if (!world_open(&w))
        return;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct cr_http_reply *reply =
            ASK(&w, POST("/login", .type = rows[i].type, .body = rows[i].body));
        tap_row(rows[i].name);
        CHECK_UINT(reply->status, rows[i].status);
        CHECK(reply->body.count > 0);
        CHECK(cookie_token(reply).text[0] == '\0');
    }
    tap_row(NULL);
    world_close(&w);
}

/* ASVS F3. */
static void a_form_login_needs_the_token_of_its_browser(void)
{
    struct world w;
    char cookie[33], other[33], form[CR_HTTP_FORM_TOKEN_CHARS + 1],
        foreign[CR_HTTP_FORM_TOKEN_CHARS + 1], session[CR_HTTP_FORM_TOKEN_CHARS + 1];
    if (!world_open(&w) || !login_form(&w, cookie, form) || !login_form(&w, other, foreign))
        return;
    struct cr_token token = login(&w, "bob", NULL);
    cr_http_form_token(&token, session);
    const struct {
        const char *name, *cookie, *form;
        unsigned status;
    } rows[] = {
        {"its own", cookie, form, 303},
        {"again: another tab", cookie, form, 303},
        {"another browser's token", cookie, foreign, 403},
        {"another browser's cookie", other, form, 403},
        {"a session's token", cookie, session, 403},
        {"the cookie itself", cookie, cookie, 403},
        {"no token", cookie, "", 403},
        {"half a token", cookie, "AAAAAAAAAAAAAAAA", 403},
        {"no cookie", NULL, form, 403},
        {"an empty cookie", "", form, 403},
        {"a cookie that is none of ours", "AAAAAAAAAAAAAAAA AAAAAAAAAAAAAAA", form, 403},
    };
    CHECK(strcmp(cookie, other) != 0 && strcmp(form, foreign) != 0 && strcmp(cookie, form) != 0);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct cr_http_reply *reply = form_login(&w, rows[i].cookie, rows[i].form,
                                                       "user=alice&password=correct+horse+battery");
        tap_row(rows[i].name);
        CHECK_UINT(reply->status, rows[i].status);
        CHECK((cookie_token(reply).text[0] != '\0') == (rows[i].status == 303));
        /* The page that refuses has a form that is good. */
        CHECK(rows[i].status == 303 || body_has(reply, "value=\"alice\""));
    }
    tap_row(NULL);
    world_close(&w);
}

/* --- Who am I --- */

static void a_session_says_whose_it_is(void)
{
    struct world w;
    if (!world_open(&w))
        return;
    struct cr_token token = login(&w, "alice", NULL);
    const struct cr_http_reply *reply = ASK(&w, GET("/session", .token = token.text));
    CHECK_UINT(reply->status, 200);
    CHECK(body_has(reply, "{\"session\":{\"id\":\"crp_"));
    CHECK(body_has(reply, "\"user\":\"alice\""));
    CHECK(!body_has(reply, "crs1_"));
    reply = ASK(&w, GET("/session", ));
    CHECK_UINT(reply->status, 401);
    CHECK_STR(reply->type, "application/problem+json");
    CHECK(header_of(reply, "WWW-Authenticate") != NULL);
    world_close(&w);
}

/* ASVS A3. */
static void a_token_with_any_bit_flipped_is_none(void)
{
    struct world w;
    if (!world_open(&w))
        return;
    struct cr_token token = login(&w, "alice", NULL);
    for (size_t i = 0; i < CR_TOKEN_CHARS; i++)
        for (unsigned bit = 0; bit < 7; bit++) {
            struct cr_token flipped = token;
            flipped.text[i] = (char)(flipped.text[i] ^ (1 << bit));
            /* Control characters and the end of the cookie have answers of their own. */
            if (flipped.text[i] <= ' ' || flipped.text[i] == 0x7f || flipped.text[i] == ';')
                continue;
            CHECK_UINT(session_status(&w, &flipped), 401);
        }
    CHECK_UINT(session_status(&w, &token), 200);
    world_close(&w);
}

/* ASVS A8. */
static void a_token_in_the_address_is_not_looked_at(void)
{
    char target[256];
    struct world w;
    if (!world_open(&w))
        return;
    struct cr_token token = login(&w, "alice", NULL);
    snprintf(target, sizeof target, "/session?token=%s&__Host-cloakroom=%s", token.text,
             token.text);
    CHECK_UINT(ASK(&w, GET(target, ))->status, 401);
    CHECK_UINT(ASK(&w, GET("/session", .name = "X-Session", .value = token.text))->status, 401);
    CHECK_UINT(
        ASK(&w, GET("/session", .token = token.text, .cookie_name = "cloakroom-dev"))->status, 401);
    world_close(&w);
}

static void without_an_agent_nobody_is_logged_out(void)
{
    static const struct {
        const char *method, *target;
    } rows[] = {{"GET", "/session"}, {"GET", "/verify"},
                {"HEAD", "/verify"}, {"GET", "/sessions"},
                {"GET", "/"},        {"GET", "/login"},
                {"POST", "/logout"}, {"DELETE", "/sessions?except=current"}};
    struct world w;
    if (!world_open(&w))
        return;
    struct cr_token token = login(&w, "alice", NULL);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct cr_http_reply *reply =
            ASK(&w, .method = rows[i].method, .target = rows[i].target, .token = token.text,
                .type = JSON, .no_room = true);
        tap_row(rows[i].target);
        CHECK_UINT(reply->status, 503);
        CHECK(header_of(reply, "Retry-After") != NULL);
        CHECK(header_of(reply, "Set-Cookie") == NULL);
    }
    tap_row(NULL);
    CHECK_UINT(ASK(&w, POST("/login", .type = JSON, .no_room = true,
                            .body = "{\"user\":\"alice\",\"password\":\"x\"}"))
                   ->status,
               503);
    CHECK_UINT(session_status(&w, &token), 200);
    world_close(&w);
}

/* --- Forward-auth --- */

static struct cr_token made_for(struct world *w, const struct cr_user *user)
{
    struct cr_login_options options = {.size = sizeof options};
    static struct cr_login made;
    CHECK(cr_create(w->room, user, &options, &made) == CR_OK);
    return made.signed_token;
}

/* ASVS G3. */
static void verify_allows_a_session_and_nothing_else(void)
{
    static const char *const methods[] = {"GET",    "HEAD",    "POST",    "PUT",
                                          "DELETE", "OPTIONS", "PROPFIND"};
    struct world w;
    struct cr_user user;
    if (!world_open(&w))
        return;
    struct cr_token token = login(&w, "alice", NULL);
    struct cr_session_id id = session_id(&w, &token);
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        tap_row(methods[i]);
        const struct cr_http_reply *reply =
            ASK(&w, .method = methods[i], .target = "/verify?x=/admin", .token = token.text);
        CHECK_UINT(reply->status, 200);
        CHECK_STR(header_of(reply, "Remote-User"), "alice");
        CHECK_STR(header_of(reply, "Cloakroom-Session"), id.text);
        reply = ASK(&w, .method = methods[i], .target = "/verify");
        CHECK_UINT(reply->status, 401);
        CHECK(header_of(reply, "Remote-User") == NULL);
    }
    tap_row(NULL);
    /* One that was good a moment ago. */
    CHECK_UINT(ASK(&w, POST("/logout", .token = token.text, .type = JSON))->status, 200);
    CHECK_UINT(ASK(&w, GET("/verify", .token = token.text))->status, 401);
    CHECK(cr_user_parse("gr\xc3\xbc"
                        "n b/%",
                        9, &user) == CR_OK);
    token = made_for(&w, &user);
    CHECK_STR(header_of(ASK(&w, GET("/verify", .token = token.text)), "Remote-User"),
              "gr%C3%BCn%20b%2F%25");
    /* A name that is no text, and no name. */
    CHECK(cr_user_parse("a\xff", 2, &user) == CR_OK);
    token = made_for(&w, &user);
    CHECK_UINT(ASK(&w, GET("/verify", .token = token.text))->status, 401);
    CHECK_UINT(ASK(&w, GET("/session", .token = token.text))->status, 403);
    token = made_for(&w, NULL);
    CHECK_UINT(ASK(&w, GET("/verify", .token = token.text))->status, 401);
    world_close(&w);
}

/* --- My devices --- */

static void logging_out_ends_the_session_and_cleans_the_browser(void)
{
    struct world w;
    if (!world_open(&w))
        return;
    struct cr_token token = login(&w, "alice", NULL);
    const struct cr_http_reply *reply = ASK(&w, POST("/logout", .token = token.text, .type = JSON));
    CHECK_UINT(reply->status, 200);
    CHECK(body_has(reply, "\"done\""));
    /* ASVS B9. */
    CHECK_STR(header_of(reply, "Set-Cookie"),
              "__Host-cloakroom=; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=Lax");
    CHECK_STR(header_of(reply, "Clear-Site-Data"), "\"cookies\"");
    CHECK_UINT(session_status(&w, &token), 401);
    CHECK_UINT(ASK(&w, POST("/logout", .token = token.text, .type = JSON))->status, 401);
    CHECK_UINT(ASK(&w, POST("/logout", .type = JSON))->status, 401);
    world_close(&w);
}

static void a_list_has_the_users_own_devices(void)
{
    struct world w;
    if (!world_open(&w))
        return;
    w.site.on_login = CR_POLICY_KEEP;
    struct cr_token first = login(&w, "alice", "curl/7.88.1"), second = login(&w, "alice", HOSTILE);
    login(&w, "bob", "bobs browser");
    const struct cr_http_reply *reply = ASK(&w, GET("/sessions", .token = first.text));
    CHECK_UINT(reply->status, 200);
    CHECK(body_has(reply, "\"current\":true"));
    CHECK(body_has(reply, "\"current\":false"));
    CHECK(body_has(reply, "\"agent\":\"curl/7.88.1\""));
    CHECK(body_has(reply, "\"address\":\"192.0.2.7\""));
    CHECK(body_has(reply, "\"next\":null"));
    CHECK(!body_has(reply, "bob"));
    CHECK(!body_has(reply, "crs1_"));
    CHECK_UINT(ASK(&w, GET("/sessions?after=x", .token = first.text))->status, 400);
    /* ASVS F8, and D6: the way out is on the page. */
    reply = ASK(&w, GET("/", .token = first.text));
    CHECK_UINT(reply->status, 200);
    CHECK(body_has(reply, "curl/7.88.1"));
    CHECK(body_has(reply, "&lt;script&gt;"));
    CHECK(!body_has(reply, "<script"));
    CHECK(!body_has(reply, "\xff"));
    CHECK(!body_has(reply, "bob"));
    CHECK(body_has(reply, "action=\"/logout\""));
    CHECK(!body_has(reply, "crs1_"));
    /* This device comes first, and cannot be ended from its own row. */
    const char *badge = memmem(reply->body.bytes, reply->body.count, "This device", 11);
    const char *button = memmem(reply->body.bytes, reply->body.count, "/end\"", 5);
    CHECK(badge != NULL && button != NULL && badge < button);
    CHECK_UINT(session_status(&w, &second), 200);
    world_close(&w);
}

static void a_person_ends_one_or_all_others(void)
{
    char target[128];
    struct world w;
    if (!world_open(&w))
        return;
    w.site.on_login = CR_POLICY_KEEP;
    struct cr_token a = login(&w, "alice", NULL), b = login(&w, "alice", NULL),
                    c = login(&w, "alice", NULL), d = login(&w, "alice", NULL),
                    bob = login(&w, "bob", NULL);
    snprintf(target, sizeof target, "/sessions/%s", session_id(&w, &b).text);
    const struct cr_http_reply *reply =
        ASK(&w, .method = "DELETE", .target = target, .token = a.text, .type = JSON);
    CHECK_UINT(reply->status, 200);
    CHECK(header_of(reply, "Set-Cookie") == NULL);
    CHECK_UINT(session_status(&w, &b), 401);
    CHECK_UINT(session_status(&w, &a), 200);
    CHECK_UINT(ASK(&w, .method = "DELETE", .target = target, .token = a.text, .type = JSON)->status,
               404);
    CHECK_UINT(
        ASK(&w, .method = "DELETE", .target = "/sessions", .token = a.text, .type = JSON)->status,
        400);
    CHECK_UINT(session_status(&w, &c), 200);
    CHECK_UINT(ASK(&w, .method = "DELETE", .target = "/sessions?except=current", .token = a.text,
                   .type = JSON)
                   ->status,
               200);
    CHECK_UINT(session_status(&w, &c), 401);
    CHECK_UINT(session_status(&w, &d), 401);
    CHECK_UINT(session_status(&w, &a), 200);
    CHECK_UINT(session_status(&w, &bob), 200);
    /* One's own by its id is a log-out. */
    snprintf(target, sizeof target, "/sessions/%s", session_id(&w, &a).text);
    reply = ASK(&w, .method = "DELETE", .target = target, .bearer = a.text);
    CHECK_UINT(reply->status, 200);
    CHECK(header_of(reply, "Set-Cookie") != NULL);
    CHECK_UINT(session_status(&w, &a), 401);
    world_close(&w);
}

/* ASVS D5, H8. */
static void another_users_session_is_one_that_there_is_not(void)
{
    char target[128], form[CR_HTTP_FORM_TOKEN_CHARS + 1], body[128];
    struct world w;
    if (!world_open(&w))
        return;
    struct cr_token alice = login(&w, "alice", NULL), bob = login(&w, "bob", NULL);
    struct cr_session_id theirs = session_id(&w, &bob);
    snprintf(target, sizeof target, "/sessions/%s", theirs.text);
    CHECK_UINT(
        ASK(&w, .method = "DELETE", .target = target, .token = alice.text, .type = JSON)->status,
        404);
    CHECK_UINT(
        ASK(&w, .method = "DELETE", .target = "/sessions/alice", .token = alice.text, .type = JSON)
            ->status,
        404);
    cr_http_form_token(&alice, form);
    snprintf(body, sizeof body, "form_token=%s", form);
    snprintf(target, sizeof target, "/sessions/%s/end", theirs.text);
    CHECK_UINT(ASK(&w, POST(target, .token = alice.text, .type = FORM, .body = body))->status, 303);
    CHECK_UINT(session_status(&w, &bob), 200);
    world_close(&w);
}

/* --- What has ended --- */

/* A log-in without a password, from anywhere. */
static struct cr_login login_from(struct world *w, const char *name, enum cr_policy policy,
                                  const char *address, const char *agent)
{
    struct cr_user user = {0};
    struct cr_login made = {0};
    struct cr_login_options options = {.size = sizeof options,
                                       .policy = policy,
                                       .keep_count = 1,
                                       .address = address,
                                       .agent = agent};
    CHECK_STATUS(cr_user_parse(name, strlen(name), &user), CR_OK);
    CHECK_STATUS(cr_login(w->room, &user, &options, &made), CR_OK);
    return made;
}

static void end_by(struct world *w, const struct cr_session_id *id, const struct cr_user *user)
{
    struct cr_end_options options = {
        .size = sizeof options, .reason = CR_REASON_ADMIN, .by = "operator"};
    CHECK_STATUS(id != NULL     ? cr_end(w->room, id, &options, NULL)
                 : user != NULL ? cr_invalidate_by_user(w->room, user, &options, NULL)
                                : cr_end_all(w->room, &options, NULL),
                 CR_OK);
}

static size_t body_count(const struct cr_http_reply *reply, const char *text)
{
    size_t count = 0;
    const char *at = reply->body.bytes, *end = at + reply->body.count;
    while ((at = memmem(at, (size_t)(end - at), text, strlen(text))) != NULL) {
        count++;
        at += strlen(text);
    }
    return count;
}

static void what_has_ended_is_told_with_how(void)
{
    static const struct {
        const char *json, *page;
    } rows[] = {
        {"\"reason\":\"replaced\"", "<p>You signed in on another device: at 20"},
        {"\"from\":{\"address\":\"192.0.2.2\"", "UTC, with Firefox on Linux, from 192.0.2.2.</p>"},
        {"\"reason\":\"limit\"", "<p>You signed in on more devices than are kept,"},
        {"\"reason\":\"admin\"", "<p>An administrator ended it.</p>"},
        {"\"by\":\"operator\"", "Signed out</h2>"},
        {"\"reason\":\"logout\"", "<p>You signed out there.</p>"},
        {"\"reason\":\"device\"", "<p>You ended it from another of your devices.</p>"},
        {"\"reason\":\"everybody\"", "<p>Everybody&#39;s sessions were ended.</p>"},
        {"\"address\":\"192.0.2.1\"", "<dd>192.0.2.1</dd>"},
        {"\"agent\":\"old-phone (mine)\"", "<h3 title=\"old-phone (mine)\">old-phone</h3>"},
    };
    static const char firefox[] =
        "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
    char target[128];
    struct world w;
    if (!world_open(&w))
        return;
    struct cr_user alice = {5, "alice"};
    struct cr_end_options all = {.size = sizeof all, .reason = CR_REASON_EVERYBODY};
    login_from(&w, "alice", CR_POLICY_KEEP, "192.0.2.1", "old-phone (mine)");
    login_from(&w, "alice", CR_POLICY_REPLACE, "192.0.2.2", firefox);
    struct cr_login last = login_from(&w, "alice", CR_POLICY_KEEP_N, "192.0.2.3", "curl/8");
    end_by(&w, &last.session.id, NULL);
    login_from(&w, "alice", CR_POLICY_KEEP, "192.0.2.4", "curl/8");
    end_by(&w, NULL, &alice);
    struct cr_login out = login_from(&w, "alice", CR_POLICY_KEEP, "192.0.2.5", "curl/8");
    CHECK_UINT(ASK(&w, POST("/logout", .token = out.signed_token.text, .type = JSON))->status, 200);
    login_from(&w, "alice", CR_POLICY_KEEP, "192.0.2.6", HOSTILE);
    CHECK_STATUS(cr_end_all(w.room, &all, NULL), CR_OK);
    w.site.on_login = CR_POLICY_KEEP;
    struct cr_token here = login(&w, "alice", NULL), there = login(&w, "alice", NULL);
    snprintf(target, sizeof target, "/sessions/%s", session_id(&w, &there).text);
    CHECK_UINT(
        ASK(&w, .method = "DELETE", .target = target, .token = here.text, .type = JSON)->status,
        200);
    const struct cr_http_reply *reply = ASK(&w, GET("/sessions", .token = here.text));
    CHECK_UINT(reply->status, 200);
    CHECK_UINT(body_count(reply, "\"reason\""), 7);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        tap_row(rows[i].json);
        CHECK(body_has(reply, rows[i].json));
    }
    CHECK(body_has(reply, out.session.id.text));
    CHECK(!body_has(reply, "crs1_"));
    reply = ASK(&w, GET("/", .token = here.text));
    CHECK_UINT(reply->status, 200);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        tap_row(rows[i].page);
        CHECK(body_has(reply, rows[i].page));
    }
    CHECK(body_has(reply, "&lt;script&gt;") && !body_has(reply, "<script"));
    CHECK(!body_has(reply, "crs1_") && !body_has(reply, "Only those that ended last"));
    /* It is over: an id opens nothing, and cannot be ended again. */
    CHECK_UINT(ASK(&w, GET("/session", .token = out.session.id.text))->status, 401);
    CHECK_UINT(ASK(&w, GET("/session", .bearer = out.session.id.text))->status, 401);
    snprintf(target, sizeof target, "/sessions/%s", out.session.id.text);
    CHECK_UINT(
        ASK(&w, .method = "DELETE", .target = target, .token = here.text, .type = JSON)->status,
        404);
    world_close(&w);
}

/* ASVS H8. */
static void what_has_ended_is_told_to_whose_it_was_and_nobody_else(void)
{
    struct world w;
    if (!world_open(&w))
        return;
    struct cr_user alice = {5, "alice"};
    struct cr_login one = login_from(&w, "alice", CR_POLICY_KEEP, "192.0.2.1", "alices phone");
    struct cr_login all = login_from(&w, "alice", CR_POLICY_KEEP, "192.0.2.2", "alices laptop");
    end_by(&w, &one.session.id, NULL);
    end_by(&w, NULL, &alice);
    struct cr_login bob = login_from(&w, "bob", CR_POLICY_KEEP, "192.0.2.3", "bobs laptop");
    struct cr_login again = login_from(&w, "alice", CR_POLICY_KEEP, "192.0.2.4", "alices new");
    const struct cr_http_reply *reply = ASK(&w, GET("/sessions", .token = bob.signed_token.text));
    CHECK_UINT(reply->status, 200);
    CHECK(body_has(reply, "\"next\":null,\"ended\":[]}"));
    CHECK(!body_has(reply, "alice"));
    reply = ASK(&w, GET("/", .token = bob.signed_token.text));
    CHECK_UINT(reply->status, 200);
    CHECK(!body_has(reply, "alice") && !body_has(reply, "Signed out") && !body_has(reply, "<h3"));
    /* Nor to who holds the token of one of them. */
    CHECK_UINT(ASK(&w, GET("/sessions", .token = one.signed_token.text))->status, 401);
    CHECK_UINT(ASK(&w, GET("/", .token = all.signed_token.text))->status, 303);
    reply = ASK(&w, GET("/sessions", .token = again.signed_token.text));
    CHECK_UINT(body_count(reply, "\"reason\""), 2);
    CHECK(body_has(reply, one.session.id.text) && body_has(reply, all.session.id.text));
    world_close(&w);
}

/* Twenty of them, beside the first page of what is live. */
static void a_list_says_how_much_of_what_has_ended_it_tells(void)
{
    struct world w;
    if (!world_open(&w))
        return;
    for (size_t i = 0; i < 22; i++)
        login_from(&w, "alice", CR_POLICY_REPLACE, "192.0.2.1", "curl/8");
    struct cr_login here = login_from(&w, "alice", CR_POLICY_REPLACE, "192.0.2.1", "curl/8");
    for (size_t i = 0; i < CR_HTTP_LIST_MAX; i++)
        login_from(&w, "alice", CR_POLICY_KEEP, "192.0.2.1", "curl/8");
    const struct cr_http_reply *reply = ASK(&w, GET("/", .token = here.signed_token.text));
    CHECK_UINT(body_count(reply, "<h3"), 20);
    CHECK(body_has(reply, "Only those that ended last are shown."));
    reply = ASK(&w, GET("/sessions", .token = here.signed_token.text));
    CHECK_UINT(body_count(reply, "\"reason\""), 20);
    char next[128] = "";
    const char *at = memmem(reply->body.bytes, reply->body.count, "/sessions?after=", 16);
    if (CHECK(at != NULL))
        snprintf(next, sizeof next, "%.*s", (int)strcspn(at, "\""), at);
    reply = ASK(&w, GET(next, .token = here.signed_token.text));
    CHECK_UINT(reply->status, 200);
    CHECK_UINT(body_count(reply, "\"current\""), 1); /* the oldest of one more than fit */
    CHECK(!body_has(reply, "\"ended\""));
    world_close(&w);
}

static void plan_write(const char *path, const char *plan)
{
    FILE *file = fopen(path, "w");
    if (CHECK(file != NULL)) {
        CHECK(fputs(plan, file) >= 0);
        CHECK_INT(fclose(file), 0);
    }
}

/* After `after` reads more, none is made. Each plan's text is another, so that it counts anew. */
static void plan_count_anew(const char *path, unsigned number, unsigned after)
{
    char plan[64];
    snprintf(plan, sizeof plan, "unavailable %u %u 0 reads", after, 1000000 + number);
    plan_write(path, plan);
}

/* Whichever read of the store fails: what can be told is told, and nobody is signed out (D13). */
static void a_store_that_cannot_tell_what_has_ended_signs_nobody_out(void)
{
    char path[] = "/tmp/cloakroom-routes-XXXXXX", url[64];
    struct world w;
    int fd = mkstemp(path);
    if (!CHECK(fd >= 0))
        return;
    close(fd);
    snprintf(url, sizeof url, "fault:%s,memory:", path);
    if (!world_open_at(&w, url))
        return;
    login_from(&w, "alice", CR_POLICY_KEEP, "192.0.2.1", "old-phone (mine)");
    struct cr_login here = login_from(&w, "alice", CR_POLICY_REPLACE, "192.0.2.2", "curl/8");
    bool whole[2] = {false}, half[2] = {false};
    /* How many reads there are, others beside ours take part in: until each answer was seen. */
    for (unsigned n = 0; n < 500 && !(whole[0] && half[0] && whole[1] && half[1]); n++) {
        bool page = n % 2 == 1;
        plan_count_anew(path, n, n / 2 % 6);
        const struct cr_http_reply *reply =
            ASK(&w, GET(page ? "/" : "/sessions", .token = here.signed_token.text));
        CHECK(header_of(reply, "Set-Cookie") == NULL);
        if (reply->status != 200) {
            CHECK_UINT(reply->status, 503);
            continue;
        }
        CHECK(body_has(reply, page ? "This device" : "\"current\":true"));
        bool is_half = body_has(reply, page ? "What was signed out lately cannot be shown just now."
                                            : ",\"ended\":null}");
        CHECK_INT(is_half, !body_has(reply, "old-phone"));
        *(is_half ? &half[page] : &whole[page]) = true;
    }
    for (size_t i = 0; i < 2; i++)
        CHECK(half[i] && whole[i]);
    plan_write(path, "none");
    CHECK_UINT(session_status(&w, &here.signed_token), 200);
    world_close(&w);
    CHECK_INT(remove(path), 0);
}

/* --- The password again, and a new one --- */

/* A form with the token of `session`; the reply is valid until the next. */
static const struct cr_http_reply *form_post(struct world *w, const char *path,
                                             const struct cr_token *session, const char *fields)
{
    char form[CR_HTTP_FORM_TOKEN_CHARS + 1], body[256];
    cr_http_form_token(session, form);
    snprintf(body, sizeof body, "form_token=%s%s", form, fields);
    return ASK(w, POST(path, .token = session->text, .type = FORM, .body = body));
}

/* ASVS D3, D11, E11. */
static void a_new_password_needs_the_old_one_and_ends_all_other_sessions(void)
{
    struct world w;
    if (!world_open(&w))
        return;
    w.site.on_login = CR_POLICY_KEEP;
    struct cr_token here = login(&w, "alice", NULL), there = login(&w, "alice", NULL);
    struct cr_token bob = login(&w, "bob", NULL);
    const struct cr_http_reply *reply =
        ASK(&w, POST("/password", .token = here.text, .type = JSON,
                     .body = "{\"password\":\"wrong\",\"new_password\":\"battery staples\"}"));
    CHECK_UINT(reply->status, 403);
    CHECK(header_of(reply, "Set-Cookie") == NULL);
    reply = ASK(
        &w, POST("/password", .token = here.text, .type = JSON,
                 .body = "{\"password\":\"" PASSWORD "\",\"new_password\":\"fourteen chars\"}"));
    CHECK_UINT(reply->status, 400);
    CHECK(body_has(reply, "it has at least 15 characters"));
    reply = form_post(&w, "/password", &here,
                      "&password=correct+horse+battery&new_password=PassWordPassWord");
    CHECK_UINT(reply->status, 400);
    CHECK(body_has(reply, "a common one") && body_has(reply, "<form"));
    reply = ASK(&w, POST("/password", .token = here.text, .type = JSON,
                         .body = "{\"password\":\"" PASSWORD "\"}"));
    CHECK_UINT(reply->status, 400);
    CHECK_UINT(session_status(&w, &here), 200);
    CHECK_UINT(session_status(&w, &there), 200);
    reply = form_post(&w, "/password", &here,
                      "&password=correct+horse+battery&new_password=battery+staples");
    struct cr_token after = cookie_token(reply);
    CHECK_UINT(reply->status, 303);
    CHECK_STR(header_of(reply, "Location"), "/");
    CHECK_UINT(session_status(&w, &after), 200);
    CHECK_UINT(session_status(&w, &here), 401);
    CHECK_UINT(session_status(&w, &there), 401);
    CHECK_UINT(session_status(&w, &bob), 200);
    CHECK_UINT(ASK(&w, POST("/login", .type = JSON,
                            .body = "{\"user\":\"alice\",\"password\":\"" PASSWORD "\"}"))
                   ->status,
               401);
    CHECK_UINT(ASK(&w, POST("/login", .type = JSON,
                            .body = "{\"user\":\"alice\",\"password\":\"battery staples\"}"))
                   ->status,
               200);
    world_close(&w);
}

/* ASVS E12, E15. */
static void a_one_time_password_leads_to_the_page_that_sets_another(void)
{
    static const char once[] = "user=carol&password=good+for+one+time";
    static const char json[] = "{\"user\":\"carol\",\"password\":\"good for one time\"";
    char body[256], cookie[33], form[CR_HTTP_FORM_TOKEN_CHARS + 1];
    struct world w;
    struct cr_user carol;
    if (!world_open(&w) || !login_form(&w, cookie, form))
        return;
    CHECK_STATUS(cr_user_parse("carol", 5, &carol), CR_OK);
    CHECK_STATUS(cr_account_add_once(w.room, &carol, "good for one time", 17, 60000), CR_OK);
    (void)snprintf(body, sizeof body, "%s}", json);
    const struct cr_http_reply *reply = ASK(&w, POST("/login", .type = JSON, .body = body));
    CHECK_UINT(reply->status, 403);
    CHECK(body_has(reply, "\"error\":\"password_change_required\""));
    CHECK(header_of(reply, "Set-Cookie") == NULL);
    reply = form_login(&w, cookie, form, once);
    CHECK_UINT(reply->status, 403);
    CHECK(header_of(reply, "Set-Cookie") == NULL);
    CHECK(body_has(reply, "name=\"new_password\"") && body_has(reply, "value=\"carol\""));
    CHECK(body_has(reply, form) && !body_has(reply, "good for one time"));
    (void)snprintf(body, sizeof body, "%s&new_password=passwordpassword", once);
    reply = form_login(&w, cookie, form, body);
    CHECK_UINT(reply->status, 400);
    CHECK(body_has(reply, "a common one") && body_has(reply, "name=\"new_password\""));
    (void)snprintf(body, sizeof body, "%s&new_password=battery+staples", once);
    reply = form_login(&w, cookie, form, body);
    struct cr_token after = cookie_token(reply);
    CHECK_UINT(reply->status, 303);
    CHECK_UINT(session_status(&w, &after), 200);
    (void)snprintf(body, sizeof body, "%s,\"new_password\":\"another one of mine\"}", json);
    CHECK_UINT(ASK(&w, POST("/login", .type = JSON, .body = body))->status, 401);
    /* Whose session this browser had until now is over (A5). */
    CHECK_STATUS(cr_account_password_once(w.room, &carol, "good for one time", 17, 60000), CR_OK);
    struct cr_token bob = login(&w, "bob", NULL);
    CHECK_UINT(ASK(&w, POST("/login", .token = bob.text, .type = JSON, .body = body))->status, 200);
    CHECK_UINT(session_status(&w, &bob), 401);
    CHECK_UINT(ASK(&w, POST("/login", .type = JSON,
                            .body = "{\"user\":\"carol\",\"password\":\"another one of mine\"}"))
                   ->status,
               200);
    world_close(&w);
}

/* ASVS F1. */
static void a_new_password_is_not_set_from_another_page(void)
{
    static const char body[] = "password=correct+horse+battery&new_password=battery+staples";
    static const char *const paths[] = {"/password", "/reauth"};
    struct world w;
    if (!world_open(&w))
        return;
    struct cr_token token = login(&w, "alice", NULL);
    for (size_t i = 0; i < 2; i++) {
        tap_row(paths[i]);
        CHECK_UINT(ASK(&w, POST(paths[i], .token = token.text, .type = FORM, .body = body))->status,
                   403);
        CHECK_UINT(ASK(&w, POST(paths[i], .token = token.text, .type = JSON,
                                .body = "{\"password\":\"" PASSWORD "\"}", .name = "Sec-Fetch-Site",
                                .value = "cross-site"))
                       ->status,
                   403);
        CHECK_UINT(ASK(&w, POST(paths[i], .type = JSON, .body = "{\"password\":\"x\"}"))->status,
                   401);
        CHECK_UINT(session_status(&w, &token), 200);
    }
    tap_row(NULL);
    world_close(&w);
}

/* Its earlier session is over: without the new token it would be logged out. */
static void a_bearer_gets_its_new_token_for_a_form_too(void)
{
    static const char *const paths[] = {"/reauth", "/password"};
    struct world w;
    if (!world_open(&w))
        return;
    struct cr_token here = login(&w, "alice", NULL);
    for (size_t i = 0; i < 2; i++) {
        tap_row(paths[i]);
        const struct cr_http_reply *reply = ASK(
            &w, POST(paths[i], .bearer = here.text, .type = FORM,
                     .body = "password=correct+horse+battery&new_password=battery+staple+again"));
        const char *at = memmem(reply->body.bytes != NULL ? reply->body.bytes : "",
                                reply->body.count, "\"signed_token\":\"crs1_", 21);
        CHECK_UINT(reply->status, 200);
        CHECK(header_of(reply, "Set-Cookie") == NULL);
        if (CHECK(at != NULL))
            memcpy(here.text, at + 16, CR_TOKEN_CHARS);
        CHECK_UINT(ASK(&w, GET("/session", .bearer = here.text))->status, 200);
    }
    tap_row(NULL);
    world_close(&w);
}

/* ASVS D5, E11. */
static void ending_another_session_needs_a_password_given_lately(void)
{
    char target[128];
    struct world w;
    struct cr_clock_fake clock;
    if (!world_open(&w))
        return;
    w.site.on_login = CR_POLICY_KEEP;
    struct cr_token here = login(&w, "alice", NULL), there = login(&w, "alice", NULL);
    snprintf(target, sizeof target, "/sessions/%s", session_id(&w, &there).text);
    cr_clock_fake_init(&clock, cr_clock_wall(cr_clock_system()));
    cr_clock_fake_advance(&clock, CR_HTTP_FRESH_MS + 60000);
    w.site.clock = &clock.clock;
    const struct cr_http_reply *reply =
        ASK(&w, .method = "DELETE", .target = target, .token = here.text, .type = JSON);
    CHECK_UINT(reply->status, 403);
    CHECK(strstr(header_of(reply, "WWW-Authenticate"), "insufficient_user_authentication") != NULL);
    CHECK(body_has(reply, "POST /reauth"));
    CHECK_UINT(ASK(&w, .method = "DELETE", .target = "/sessions?except=current", .token = here.text,
                   .type = JSON)
                   ->status,
               403);
    reply = form_post(&w, "/sessions/end-others", &here, "");
    CHECK_UINT(reply->status, 403);
    CHECK(body_has(reply, "action=\"/reauth\""));
    CHECK_UINT(session_status(&w, &there), 200);
    CHECK_UINT(form_post(&w, "/reauth", &here, "&password=wrong")->status, 403);
    CHECK_UINT(session_status(&w, &here), 200);
    reply = form_post(&w, "/reauth", &here, "&password=correct+horse+battery");
    struct cr_token fresh = cookie_token(reply);
    CHECK_UINT(reply->status, 303);
    CHECK_UINT(session_status(&w, &here), 401); /* A5 */
    CHECK_UINT(session_status(&w, &there), 200);
    w.site.clock = cr_clock_system(); /* by which the password was given just now */
    CHECK_UINT(
        ASK(&w, .method = "DELETE", .target = target, .token = fresh.text, .type = JSON)->status,
        200);
    CHECK_UINT(session_status(&w, &there), 401);
    world_close(&w);
}

/* ASVS D1, E11: another engine has ended it, and the table here does not know that yet. Where it
 * learns of it in between, the answer is the same. */
static void what_changes_an_account_asks_the_store_who_it_is(void)
{
    static const struct {
        const char *method, *target, *body;
    } cases[] = {
        {"POST", "/password", "{\"password\":\"wrong\",\"new_password\":\"battery staples\"}"},
        {"POST", "/reauth", "{\"password\":\"wrong\"}"},
        {"DELETE", "/sessions?except=current", NULL},
        {"DELETE", NULL, NULL},
    };
    struct cr_store_env env;
    struct cr_ending ending = {.reason = CR_REASON_ADMIN, .by = "another host"};
    struct cr_log_row row;
    struct world w;
    if (!world_open(&w) || !CHECK_STATUS(cr_store_env_system(&env), CR_OK))
        return;
    w.site.on_login = CR_POLICY_KEEP;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char other[128];
        struct cr_store *store = NULL;
        tap_row(cases[i].target != NULL ? cases[i].target : "/sessions/ID");
        struct cr_token here = login(&w, "alice", NULL), there = login(&w, "alice", NULL);
        struct cr_session_id id = session_id(&w, &here);
        snprintf(other, sizeof other, "/sessions/%s", session_id(&w, &there).text);
        if (!CHECK_STATUS(cr_store_open(w.store, &env, &store, NULL), CR_OK))
            break;
        memset(&ending.identity, (int)(i + 1), sizeof ending.identity);
        CHECK_STATUS(cr_store_end(store, &id, &ending, &row), CR_OK);
        cr_store_destroy(store);
        CHECK_UINT(ASK(&w, .method = cases[i].method,
                       .target = cases[i].target != NULL ? cases[i].target : other,
                       .token = here.text, .type = JSON, .body = cases[i].body)
                       ->status,
                   401);
        CHECK_UINT(session_status(&w, &there), 200);
    }
    tap_row(NULL);
    world_close(&w);
}

/* --- What stays with the user --- */

#define CART "three coats"
#define RIGHTS "staff"

static bool session_read(struct world *w, const struct cr_token *token, struct cr_session *out)
{
    *out = (struct cr_session)CR_SESSION_INIT;
    return CHECK_STATUS(cr_validate_strict(w->room, token, out), CR_OK);
}

static bool session_fill(struct world *w, const struct cr_session_id *id)
{
    uint64_t version;
    return CHECK_STATUS(cr_data_write(w->room, id, CR_VERSION_ANY, CART, strlen(CART), &version),
                        CR_OK) &&
           CHECK_STATUS(cr_rights_write(w->room, id, RIGHTS, strlen(RIGHTS)), CR_OK);
}

static bool session_is_filled(const struct cr_session *session)
{
    return CHECK_UINT(session->data_bytes, strlen(CART)) &&
           CHECK(memcmp(session->data, CART, strlen(CART)) == 0) &&
           CHECK_UINT(session->rights_bytes, strlen(RIGHTS)) &&
           CHECK(memcmp(session->rights, RIGHTS, strlen(RIGHTS)) == 0);
}

/* ASVS A5, C3, C5: another token and another absolute end, and all the rest as it was. */
static void who_confirms_the_password_keeps_what_the_session_has(void)
{
    struct world w;
    struct cr_session before, after;
    if (!world_open(&w))
        return;
    struct cr_token here = login(&w, "alice", "curl/8"), there;
    struct cr_session_id id = session_id(&w, &here);
    if (!session_fill(&w, &id) || !session_read(&w, &here, &before))
        return;
    w.site.absolute = 3600000;
    const struct cr_http_reply *reply = ASK(&w, POST("/reauth", .token = here.text, .type = JSON,
                                                     .body = "{\"password\":\"" PASSWORD "\"}"));
    CHECK_UINT(reply->status, 200);
    there = cookie_token(reply);
    CHECK(strstr(header_of(reply, "Set-Cookie"), "Max-Age=3600;") != NULL);
    CHECK_UINT(session_status(&w, &here), 401);
    if (session_read(&w, &there, &after)) {
        CHECK(session_is_filled(&after));
        CHECK(cr_session_id_equal(&after.id, &id));
        CHECK(after.authenticated_at >= before.authenticated_at);
        CHECK_INT(after.ends_at - after.authenticated_at, 3600000);
        CHECK_INT(after.created_at, before.created_at);
    }
    world_close(&w);
}

/* Whose name is given is not whose session asks: the agent looks, not only this process. */
static void a_password_confirms_its_own_users_session_only(void)
{
    struct world w;
    struct cr_user bob;
    struct cr_login login_out;
    if (!world_open(&w))
        return;
    struct cr_token alice = login(&w, "alice", NULL);
    CHECK_STATUS(cr_user_parse("bob", 3, &bob), CR_OK);
    struct cr_login_options options = {
        .size = sizeof options, .policy = CR_POLICY_KEEP, .renews = &alice};
    CHECK_STATUS(cr_login_password(w.room, &bob, PASSWORD, strlen(PASSWORD), &options, &login_out),
                 CR_DENIED);
    CHECK_UINT(session_status(&w, &alice), 200);
    world_close(&w);
}

static void who_changes_the_password_keeps_what_the_session_has(void)
{
    struct world w;
    struct cr_session after;
    if (!world_open(&w))
        return;
    w.site.on_login = CR_POLICY_KEEP;
    struct cr_token here = login(&w, "alice", NULL), other = login(&w, "alice", NULL);
    struct cr_session_id id = session_id(&w, &here);
    if (!session_fill(&w, &id))
        return;
    struct cr_token there = cookie_token(ASK(
        &w, POST("/password", .token = here.text, .type = JSON,
                 .body = "{\"password\":\"" PASSWORD "\",\"new_password\":\"battery staples\"}")));
    CHECK_UINT(session_status(&w, &here), 401);
    CHECK_UINT(session_status(&w, &other), 401);
    if (session_read(&w, &there, &after))
        CHECK(session_is_filled(&after) && !cr_session_id_equal(&after.id, &id));
    world_close(&w);
}

/* ASVS A5: a visitor's data moves to whom he turns out to be, and to nobody else. */
static void what_a_visitor_put_in_is_the_users_after_the_login(void)
{
    static const char body[] = "{\"user\":\"alice\",\"password\":\"" PASSWORD "\"}";
    struct world w;
    struct cr_login visitor;
    struct cr_session after;
    uint64_t version;
    if (!world_open(&w) || !CHECK_STATUS(cr_create(w.room, NULL, NULL, &visitor), CR_OK))
        return;
    CHECK_STATUS(
        cr_data_write(w.room, &visitor.session.id, CR_VERSION_ANY, CART, strlen(CART), &version),
        CR_OK);
    struct cr_token alice = cookie_token(
        ASK(&w, POST("/login", .token = visitor.signed_token.text, .type = JSON, .body = body)));
    CHECK_UINT(session_status(&w, &visitor.signed_token), 401);
    if (session_read(&w, &alice, &after))
        CHECK(after.data_bytes == strlen(CART) && memcmp(after.data, CART, strlen(CART)) == 0);

    tap_row("another user's");
    struct cr_token bob = login(&w, "bob", NULL);
    struct cr_session_id id = session_id(&w, &bob);
    CHECK(session_fill(&w, &id));
    alice = cookie_token(ASK(&w, POST("/login", .token = bob.text, .type = JSON, .body = body)));
    CHECK_UINT(session_status(&w, &bob), 401);
    if (session_read(&w, &alice, &after))
        CHECK(after.data_bytes == 0 && after.rights_bytes == 0);
    tap_row(NULL);
    world_close(&w);
}

/* ASVS D5, E11: whom an application has logged in has no password to give. */
static void who_has_no_account_is_told_to_sign_in_where_he_did(void)
{
    static const char *const pages[] = {"/password", "/reauth"};
    struct world w;
    struct cr_clock_fake clock;
    struct cr_user user;
    struct cr_login here, there, fresh;
    struct cr_session after;
    struct cr_login_options options = {.size = sizeof options, .policy = CR_POLICY_KEEP};
    if (!world_open(&w) || !CHECK_STATUS(cr_user_parse("visitor", 7, &user), CR_OK))
        return;
    CHECK_STATUS(cr_login(w.room, &user, &options, &here), CR_OK);
    CHECK_STATUS(cr_login(w.room, &user, &options, &there), CR_OK);
    CHECK(session_fill(&w, &here.session.id));
    for (size_t i = 0; i < 2; i++) {
        tap_row(pages[i]);
        const struct cr_http_reply *reply = ASK(&w, GET(pages[i], .token = here.signed_token.text));
        CHECK_UINT(reply->status, 403);
        CHECK(body_has(reply, "You have no password here") && !body_has(reply, "<form"));
        reply =
            form_post(&w, pages[i], &here.signed_token, "&password=a&new_password=battery+staples");
        CHECK_UINT(reply->status, 403);
        CHECK(body_has(reply, "You have no password here") && !body_has(reply, "<form"));
        reply = ASK(&w, POST(pages[i], .token = here.signed_token.text, .type = JSON,
                             .body = "{\"password\":\"a\",\"new_password\":\"battery staples\"}"));
        CHECK_UINT(reply->status, 403);
        CHECK(body_has(reply, "\"error\":\"no_password\""));
    }
    tap_row("not fresh any more");
    cr_clock_fake_init(&clock, cr_clock_wall(cr_clock_system()));
    cr_clock_fake_advance(&clock, CR_HTTP_FRESH_MS + 60000);
    w.site.clock = &clock.clock;
    const struct cr_http_reply *reply =
        form_post(&w, "/sessions/end-others", &here.signed_token, "");
    CHECK_UINT(reply->status, 403);
    CHECK(body_has(reply, "Sign in there again") && !body_has(reply, "<form"));
    reply = ASK(&w, .method = "DELETE", .target = "/sessions?except=current",
                .token = here.signed_token.text, .type = JSON);
    CHECK_UINT(reply->status, 403);
    CHECK(strstr(header_of(reply, "WWW-Authenticate"), "insufficient_user_authentication") != NULL);
    CHECK(body_has(reply, "\"error\":\"no_password\""));
    CHECK_UINT(session_status(&w, &there.signed_token), 200);
    tap_row("the application says who it is");
    w.site.clock = cr_clock_system();
    options.renews = &here.signed_token;
    CHECK_STATUS(cr_login(w.room, &user, &options, &fresh), CR_OK);
    CHECK_UINT(session_status(&w, &here.signed_token), 401);
    if (session_read(&w, &fresh.signed_token, &after))
        CHECK(session_is_filled(&after) && cr_session_id_equal(&after.id, &here.session.id));
    CHECK_UINT(form_post(&w, "/sessions/end-others", &fresh.signed_token, "")->status, 303);
    CHECK_UINT(session_status(&w, &there.signed_token), 401);
    tap_row("another user's");
    struct cr_token alice = login(&w, "alice", NULL);
    options.renews = &alice;
    CHECK_STATUS(cr_login(w.room, &user, &options, &fresh), CR_DENIED);
    CHECK_UINT(session_status(&w, &alice), 200);
    tap_row(NULL);
    world_close(&w);
}

/* ASVS D6. */
static void to_log_out_needs_no_password(void)
{
    struct world w;
    struct cr_clock_fake clock;
    if (!world_open(&w))
        return;
    struct cr_token token = login(&w, "alice", NULL);
    cr_clock_fake_init(&clock, cr_clock_wall(cr_clock_system()) + 2 * CR_HTTP_FRESH_MS);
    w.site.clock = &clock.clock;
    CHECK_UINT(form_post(&w, "/logout", &token, "")->status, 303);
    CHECK_UINT(session_status(&w, &token), 401);
    world_close(&w);
}

/* ASVS F1, F8. */
static void the_pages_of_the_password_have_the_sessions_form(void)
{
    static const char *const paths[] = {"/password", "/reauth"};
    char form[CR_HTTP_FORM_TOKEN_CHARS + 1];
    struct world w;
    if (!world_open(&w))
        return;
    struct cr_token token = login(&w, "alice", NULL);
    cr_http_form_token(&token, form);
    for (size_t i = 0; i < 2; i++) {
        tap_row(paths[i]);
        const struct cr_http_reply *reply = ASK(&w, GET(paths[i], .token = token.text));
        CHECK_UINT(reply->status, 200);
        CHECK(body_has(reply, form));
        CHECK(body_has(reply, "value=\"alice\""));
        CHECK(!body_has(reply, "<script"));
        CHECK(!body_has(reply, "style="));
        reply = ASK(&w, GET(paths[i]));
        CHECK_UINT(reply->status, 303);
        CHECK_STR(header_of(reply, "Location"), "/login");
    }
    tap_row(NULL);
    world_close(&w);
}

/* --- Where a change comes from --- */

struct guard_case {
    const char *name;
    const char *type;
    const char *form_token; /* "own", "other", "half", or NULL */
    const char *header, *value;
    unsigned status;
};

/* ASVS F1. */
static void a_change_by_cookie_proves_that_it_comes_from_our_page(void)
{
    static const struct guard_case rows[] = {
        {"nothing", NULL, NULL, NULL, NULL, 403},
        {"a form without a token", FORM, NULL, NULL, NULL, 403},
        {"a form with another session's token", FORM, "other", NULL, NULL, 403},
        {"a form with half a token", FORM, "half", NULL, NULL, 403},
        {"plain text, as any page can send it", "text/plain", "own", NULL, NULL, 403},
        {"a form with its token", FORM, "own", NULL, NULL, 303},
        {"JSON", JSON, NULL, NULL, NULL, 200},
        {"JSON with a character set", JSON "; charset=utf-8", NULL, NULL, NULL, 200},
        {"JSON from another site", JSON, NULL, "Sec-Fetch-Site", "cross-site", 403},
        {"JSON from a sibling", JSON, NULL, "Sec-Fetch-Site", "same-site", 403},
        {"JSON from our own", JSON, NULL, "Sec-Fetch-Site", "same-origin", 200},
        {"a form from another site", FORM, "own", "Sec-Fetch-Site", "cross-site", 403},
        {"a form from our own", FORM, "own", "Sec-Fetch-Site", "same-origin", 303},
        {"our origin", FORM, "own", "Origin", "https://example.org", 303},
        {"no origin", FORM, "own", "Origin", "null", 403},
        {"another origin", FORM, "own", "Origin", "https://example.com", 403},
        {"an origin that begins like ours", FORM, "own", "Origin", "https://example.org.evil", 403},
        {"an origin that ends like ours", FORM, "own", "Origin", "https://evilexample.org", 403},
        {"our origin on another port", FORM, "own", "Origin", "https://example.org:8443", 403},
        {"our origin without TLS", FORM, "own", "Origin", "http://example.org", 403},
    };
    struct world w;
    if (!world_open(&w))
        return;
    w.site.on_login = CR_POLICY_KEEP;
    struct cr_token other = login(&w, "alice", NULL);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct guard_case *row = &rows[i];
        struct cr_token token = login(&w, "alice", NULL);
        char form[CR_HTTP_FORM_TOKEN_CHARS + 1], body[128] = "";
        tap_row(row->name);
        if (row->form_token != NULL) {
            cr_http_form_token(row->form_token[1] == 't' ? &other : &token, form);
            if (row->form_token[0] == 'h')
                form[CR_HTTP_FORM_TOKEN_CHARS / 2] = '\0';
            snprintf(body, sizeof body, "form_token=%s", form);
        }
        const struct cr_http_reply *reply =
            ASK(&w, POST("/logout", .token = token.text, .type = row->type, .body = body,
                         .name = row->header, .value = row->value));
        CHECK_UINT(reply->status, row->status);
        CHECK_UINT(session_status(&w, &token), row->status == 403 ? 200 : 401);
    }
    tap_row(NULL);
    /* A program with a bearer token is no browser. */
    CHECK_UINT(ASK(&w, POST("/logout", .bearer = other.text))->status, 200);
    world_close(&w);
}

static void the_form_token_may_come_in_a_header(void)
{
    char form[CR_HTTP_FORM_TOKEN_CHARS + 1];
    struct world w;
    if (!world_open(&w))
        return;
    struct cr_token token = login(&w, "alice", NULL);
    cr_http_form_token(&token, form);
    form[3] ^= 1;
    CHECK_UINT(ASK(&w, POST("/logout", .token = token.text, .name = "X-Form-Token", .value = form))
                   ->status,
               403);
    form[3] ^= 1;
    CHECK_UINT(ASK(&w, POST("/logout", .token = token.text, .name = "X-Form-Token", .value = form))
                   ->status,
               200);
    world_close(&w);
}

/* ASVS F3: also with the token and the cookie. */
static void a_login_from_another_site_is_refused(void)
{
    static const struct {
        const char *name, *value;
        unsigned status;
    } rows[] = {{"Sec-Fetch-Site", "cross-site", 403},
                {"Sec-Fetch-Site", "same-site", 403},
                {"Origin", "https://evil.example", 403},
                {"Sec-Fetch-Site", "same-origin", 303}};
    struct world w;
    char cookie[33], form[CR_HTTP_FORM_TOKEN_CHARS + 1], body[256];
    if (!world_open(&w) || !login_form(&w, cookie, form))
        return;
    snprintf(body, sizeof body, "form_token=%s&user=alice&password=correct+horse+battery", form);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct cr_http_reply *reply =
            ASK(&w, POST("/login", .type = FORM, .body = body, .token = cookie,
                         .cookie_name = CR_HTTP_FORM_SECURE, .name = rows[i].name,
                         .value = rows[i].value));
        CHECK_UINT(reply->status, rows[i].status);
        CHECK((header_of(reply, "Set-Cookie") == NULL) == (rows[i].status == 403));
    }
    world_close(&w);
}

/* ASVS F2. */
static void methods_that_are_safe_change_nothing(void)
{
    static const char *const methods[] = {"GET", "HEAD", "OPTIONS"};
    char target[128];
    size_t count;
    struct world w;
    if (!world_open(&w))
        return;
    w.site.on_login = CR_POLICY_KEEP;
    struct cr_token token = login(&w, "alice", NULL), other = login(&w, "alice", NULL);
    const struct cr_http_route *routes = cr_http_routes(CR_HTTP_PUBLIC, &count);
    for (size_t i = 0; i < count; i++) {
        const char *star = strchr(routes[i].path, '*');
        int before = star != NULL ? (int)(star - routes[i].path) : (int)strlen(routes[i].path);
        snprintf(target, sizeof target, "%.*s%s%s?except=current", before, routes[i].path,
                 star != NULL ? session_id(&w, &other).text : "", star != NULL ? star + 1 : "");
        tap_row(target);
        for (size_t k = 0; k < 3; k++)
            (void)ASK(&w, .method = methods[k], .target = target, .token = token.text,
                      .type = JSON);
        CHECK_UINT(session_status(&w, &token), 200);
        CHECK_UINT(session_status(&w, &other), 200);
        CHECK(routes[i].guard != CR_HTTP_SAFE || routes[i].method == CR_HTTP_GET ||
              routes[i].method == CR_HTTP_ANY);
    }
    tap_row(NULL);
    world_close(&w);
}

/* ASVS F5: no answer lets another site's script read it, whatever it says where it comes from. */
static void no_other_site_may_read_an_answer(void)
{
    static const char *const origins[] = {"null",
                                          "https://example.org.evil.example",
                                          "https://evil-example.org",
                                          "http://example.org",
                                          "https://example.org:8443",
                                          "https://example.org"};
    static const char *const methods[] = {"GET", "OPTIONS", "POST"};
    struct world w;
    if (!world_open(&w))
        return;
    struct cr_token token = login(&w, "alice", NULL);
    for (size_t i = 0; i < sizeof origins / sizeof origins[0]; i++)
        for (size_t k = 0; k < 3; k++) {
            const struct cr_http_reply *reply =
                ASK(&w, .method = methods[k], .target = "/session", .token = token.text,
                    .name = "Origin", .value = origins[i]);
            const struct cr_http_reply_header *common = cr_http_common_headers(&w.site);
            tap_row(origins[i]);
            for (; common->name != NULL; common++)
                CHECK(strncmp(common->name, "Access-Control-", 15) != 0);
            for (size_t n = 0; n < reply->header_count; n++)
                CHECK(strncmp(reply->headers[n].name, "Access-Control-", 15) != 0);
        }
    tap_row(NULL);
    world_close(&w);
}

/* ASVS F6: where a log-in leads to is not for the request to say. */
static void no_request_says_where_an_answer_leads_to(void)
{
    static const char *const places[] = {"//evil.example",
                                         "https://evil.example",
                                         "/%5Cevil.example",
                                         "https:evil.example",
                                         "https://example.org%40evil.example",
                                         "/%0d%0aX:y"};
    static const char *const names[] = {"next", "return_to", "redirect", "url"};
    char target[128], body[512], cookie[33], form[CR_HTTP_FORM_TOKEN_CHARS + 1];
    struct world w;
    if (!world_open(&w) || !login_form(&w, cookie, form))
        return;
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        const char *name = names[i % 4];
        tap_row(places[i]);
        snprintf(target, sizeof target, "/login?%s=%s", name, places[i]);
        snprintf(body, sizeof body, "form_token=%s&user=alice&password=correct+horse+battery&%s=%s",
                 form, name, places[i]);
        const struct cr_http_reply *reply =
            ASK(&w, POST(target, .type = FORM, .body = body, .token = cookie,
                         .cookie_name = CR_HTTP_FORM_SECURE));
        CHECK_UINT(reply->status, 303);
        CHECK_STR(header_of(reply, "Location"), "/");
        snprintf(target, sizeof target, "/?%s=%s", name, places[i]);
        CHECK_STR(header_of(ASK(&w, GET(target, )), "Location"), "/login");
    }
    tap_row(NULL);
    world_close(&w);
}

/* ASVS G1: who is at the other end is what the server saw. */
static void a_header_does_not_say_where_a_request_comes_from(void)
{
    static const char *const rows[][2] = {
        {"X-Forwarded-For", "198.51.100.66"},
        {"x-forwarded-for", "198.51.100.66, 192.0.2.1"},
        {"X_Forwarded_For", "198.51.100.66"},
        {"Forwarded", "for=198.51.100.66"},
        {"X-Real-IP", "198.51.100.66"},
        {"Connection", "X-Forwarded-For"},
        {"Remote-User", "bob"},
    };
    struct world w;
    if (!world_open(&w))
        return;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        tap_row(rows[i][0]);
        const struct cr_http_reply *reply =
            ASK(&w, POST("/login", .type = JSON,
                         .body = "{\"user\":\"alice\",\"password\":\"" PASSWORD "\"}",
                         .name = rows[i][0], .value = rows[i][1]));
        struct cr_token token = cookie_token(reply);
        reply =
            ASK(&w, GET("/sessions", .token = token.text, .name = rows[i][0], .value = rows[i][1]));
        CHECK_UINT(reply->status, 200);
        CHECK(body_has(reply, "\"address\":\"192.0.2.7\""));
        CHECK(!body_has(reply, "198.51.100.66") && !body_has(reply, "bob"));
    }
    tap_row(NULL);
    world_close(&w);
}

/* ASVS G1: whom a named proxy heard the request from, and nobody else, whatever stands before. */
static void a_proxy_that_is_named_says_where_a_request_comes_from(void)
{
    static const struct {
        const char *proxies, *name, *value, *shown;
    } rows[] = {
        {"192.0.2.7", "X-Forwarded-For", "198.51.100.66", "198.51.100.66"},
        {"192.0.2.0/29", "x-forwarded-for", "203.0.113.1, 198.51.100.66", "198.51.100.66"},
        {"192.0.2.7 10.0.0.0/8", "X-Forwarded-For", "203.0.113.1, 198.51.100.66 ,10.1.2.3",
         "198.51.100.66"},
        {"192.0.2.7", "X-Forwarded-For", "198.51.100.66:4711", "198.51.100.66"},
        {"192.0.2.7", "X-Forwarded-For", "2001:DB8::66", "2001:db8::66"},
        {"192.0.2.7", "X-Forwarded-For", "[2001:db8::66]:4711", "2001:db8::66"},
        {"192.0.2.7", "X-Forwarded-For", "::ffff:198.51.100.66", "198.51.100.66"},
        /* What is no address says nothing, and nothing before it is believed. */
        {"192.0.2.7", "X-Forwarded-For", "198.51.100.66, unknown", "192.0.2.7"},
        {"192.0.2.7", "X-Forwarded-For", "198.51.100.66,", "192.0.2.7"},
        {"192.0.2.7 10.0.0.0/8", "X-Forwarded-For", "\"><b>, 10.1.2.3", "10.1.2.3"},
        {"192.0.2.7", "X-Forwarded-For", "[198.51.100.66", "192.0.2.7"},
        {"192.0.2.7", "X-Forwarded-For", "", "192.0.2.7"},
        {"192.0.2.7", "X_Forwarded_For", "198.51.100.66", "192.0.2.7"},
        {"192.0.2.7", "Forwarded", "for=198.51.100.66", "192.0.2.7"},
        {"192.0.2.7", "Connection", "X-Forwarded-For", "192.0.2.7"},
        /* Somebody else's word. */
        {"192.0.2.8", "X-Forwarded-For", "198.51.100.66", "192.0.2.7"},
        {"192.0.2.8/29, 10.0.0.0/8", "X-Forwarded-For", "198.51.100.66", "192.0.2.7"},
    };
    struct world w;
    if (!world_open(&w))
        return;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char shown[80];
        tap_row(rows[i].value);
        CHECK(cr_networks_read(rows[i].proxies, &w.site.proxies) == NULL);
        struct cr_token token =
            cookie_token(ASK(&w, POST("/login", .type = JSON,
                                      .body = "{\"user\":\"alice\",\"password\":\"" PASSWORD "\"}",
                                      .name = rows[i].name, .value = rows[i].value)));
        snprintf(shown, sizeof shown, "\"current\":true,\"address\":\"%s\"", rows[i].shown);
        if (!CHECK(body_has(ASK(&w, GET("/sessions", .token = token.text)), shown)))
            tap_note("%s with %s", shown, rows[i].proxies);
    }
    tap_row(NULL);
    world_close(&w);
}

/* --- Addresses --- */

/* ASVS G4, G6. */
static void addresses_and_methods_are_those_of_the_table(void)
{
    static const struct {
        const char *method, *target;
        unsigned status;
        const char *allow;
    } rows[] = {
        {"GET", "/verify/", 404, NULL},
        {"GET", "//verify", 404, NULL},
        {"GET", "/./verify", 404, NULL},
        {"GET", "/x/../verify", 404, NULL},
        {"GET", "/verify;x", 404, NULL},
        {"GET", "/%76erify", 404, NULL},
        {"GET", "/verify%00", 404, NULL},
        {"GET", "/verify%3f", 404, NULL},
        {"GET", "/Verify", 404, NULL},
        {"GET", "/verify\\", 404, NULL},
        {"GET", "/sessions/", 404, NULL},
        {"DELETE", "/sessions/a/b", 404, NULL},
        {"GET", "/metrics", 404, NULL}, /* ASVS G7 */
        {"PUT", "/session", 405, "GET, HEAD"},
        {"TRACE", "/session", 405, "GET, HEAD"},
        {"OPTIONS", "/login", 405, "GET, HEAD, POST"},
        {"get", "/session", 405, "GET, HEAD"},
        {"GET", "/logout", 405, "POST"},
        {"POST", "/sessions", 405, "GET, HEAD, DELETE"},
        {"GET", "/sessions/crp_AAAAAAAAAAAAAAAAAAAAAAAA/end", 405, "POST"},
        {"GET", "/session?x", 401, NULL},
        {"HEAD", "/session", 401, NULL},
        {"GET", "/style.css", 200, NULL},
        {"GET", "/icon.svg", 200, NULL},
    };
    struct world w;
    if (!world_open(&w))
        return;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct cr_http_reply *reply =
            ASK(&w, .method = rows[i].method, .target = rows[i].target);
        tap_row(rows[i].target);
        CHECK_UINT(reply->status, rows[i].status);
        CHECK_STR(header_of(reply, "Allow"), rows[i].allow);
    }
    tap_row(NULL);
    world_close(&w);
}

static void who_has_no_session_is_sent_to_log_in_and_told_why(void)
{
    struct world w;
    if (!world_open(&w))
        return;
    const struct cr_http_reply *reply = ASK(&w, GET("/", ));
    CHECK_UINT(reply->status, 303);
    CHECK_STR(header_of(reply, "Location"), "/login");
    reply = ASK(&w, GET("/login", ));
    CHECK_UINT(reply->status, 200);
    CHECK(!body_has(reply, "class=\"notice\""));
    CHECK(cookie_token(reply).text[0] == '\0');
    struct cr_token first = login(&w, "alice", NULL);
    CHECK_UINT(ASK(&w, GET("/login", .token = first.text))->status, 303);
    login(&w, "alice", NULL);
    reply = ASK(&w, GET("/", .token = first.text));
    CHECK_UINT(reply->status, 303);
    CHECK(header_of(reply, "Set-Cookie") == NULL);
    reply = ASK(&w, GET("/login", .token = first.text));
    CHECK_UINT(reply->status, 200);
    CHECK(body_has(reply, "You were signed out because you signed in on another device"));
    CHECK(body_has(reply, " UTC"));
    CHECK(header_of(reply, "Set-Cookie") != NULL);
    world_close(&w);
}

/* Only who holds a genuine token is told (ASVS H8), by every route that answers 401. */
static void a_401_to_a_token_that_has_ended_says_why(void)
{
    struct world w;
    if (!world_open(&w))
        return;
    struct cr_token first = login(&w, "alice", NULL);
    const struct cr_http_reply *reply =
        ASK(&w, POST("/login", .type = JSON, .agent = HOSTILE,
                     .body = "{\"user\":\"alice\",\"password\":\"" PASSWORD "\"}"));
    struct cr_token second = cookie_token(reply);
    static const char *const targets[] = {"/session", "/sessions", "/verify"};
    for (size_t i = 0; i < 3; i++) {
        tap_row(targets[i]);
        reply = ASK(&w, .method = "GET", .target = targets[i], .bearer = first.text);
        CHECK_UINT(reply->status, 401);
        CHECK_STR(reply->type, "application/problem+json");
        CHECK(body_has(reply, "\"error\":\"session_ended\",\"reason\":\"replaced\",\"at\":\"20"));
        CHECK(body_has(reply, "\"from\":{\"address\":\"192.0.2.7\",\"agent\":\"Mozilla/<script>"));
        CHECK(body_has(reply, "\\\"'>"));
        CHECK(!body_has(reply, "\xff"));
    }
    tap_row("the page");
    reply = ASK(&w, GET("/login", .token = first.text));
    CHECK(body_has(reply, "from 192.0.2.7"));
    CHECK(!body_has(reply, "<script>"));

    tap_row("a token that is not genuine");
    struct cr_token forged = first;
    forged.text[60] = forged.text[60] == 'A' ? 'B' : 'A';
    reply = ASK(&w, GET("/session", .bearer = forged.text));
    CHECK_UINT(reply->status, 401);
    CHECK(!body_has(reply, "\"error\""));
    reply = ASK(&w, GET("/session", ));
    CHECK(!body_has(reply, "\"error\""));

    tap_row("replaced by its successor");
    struct cr_login rotated;
    CHECK_STATUS(cr_rotate(w.room, &second, CR_ROTATE_PRIVILEGE, &rotated), CR_OK);
    reply = ASK(&w, GET("/session", .bearer = second.text));
    CHECK_UINT(reply->status, 401);
    CHECK(body_has(reply, "\"reason\":\"rotated\",\"at\":\"20"));
    CHECK(!body_has(reply, "alice"));

    tap_row("logged out");
    CHECK_UINT(ASK(&w, POST("/logout", .type = JSON, .bearer = rotated.signed_token.text))->status,
               200);
    reply = ASK(&w, GET("/session", .bearer = rotated.signed_token.text));
    CHECK(body_has(reply, "\"reason\":\"logout\""));
    CHECK(body_has(reply, "\"by\":\"the user\""));

    tap_row("ended by the application, which signs with a name");
    struct cr_token third = login(&w, "alice", NULL);
    struct cr_user alice;
    struct cr_end_options options = {.size = sizeof options, .by = "jane of support"};
    CHECK_STATUS(cr_user_parse("alice", 5, &alice), CR_OK);
    CHECK_STATUS(cr_invalidate_by_user(w.room, &alice, &options, NULL), CR_OK);
    reply = ASK(&w, GET("/session", .bearer = third.text));
    CHECK(body_has(reply, "\"reason\":\"admin\""));
    CHECK(!body_has(reply, "jane"));
    tap_row(NULL);
    world_close(&w);
}

/* --- Links for a new password (ASVS E13) --- */

/* As the ops worker is asked for one: same room, other routes. */
static const struct cr_http_reply *ops(struct world *w, const char *target)
{
    w->site.surface = CR_HTTP_ADMIN;
    const struct cr_http_reply *reply = ask(w, &(struct sent){POST(target, )});
    w->site.surface = CR_HTTP_PUBLIC;
    return reply;
}

static struct cr_token link_made(struct world *w, const char *target)
{
    struct cr_token token = {{0}};
    const struct cr_http_reply *reply = ops(w, target);
    const char *at = NULL;
    CHECK_UINT(reply->status, 200);
    if (reply->status == 200)
        at = memmem(reply->body.bytes, reply->body.count, "\"token\":\"", 9);
    if (CHECK(at != NULL))
        CHECK_STATUS(cr_token_parse(at + 9, CR_TOKEN_CHARS, &token), CR_OK);
    return token;
}

static const struct cr_http_reply *link_use(struct world *w, const struct cr_token *link,
                                            const char *password, bool by_form)
{
    static char body[512];
    snprintf(body, sizeof body,
             by_form ? "link=%s&new_password=%s" : "{\"link\":\"%s\",\"new_password\":\"%s\"}",
             link->text, password);
    return ASK(w, POST("/reset", .type = by_form ? FORM : JSON, .body = body, .agent = "curl/8"));
}

static unsigned login_status(struct world *w, const char *password)
{
    char body[256];
    snprintf(body, sizeof body, "{\"user\":\"alice\",\"password\":\"%s\"}", password);
    return ASK(w, POST("/login", .type = JSON, .body = body))->status;
}

static void a_link_is_made_for_operators_alone(void)
{
    struct world w;
    char link[256];
    if (!world_open(&w))
        return;
    CHECK_UINT(ASK(&w, POST("/users/alice/reset-link", .type = JSON))->status, 404);
    struct cr_token token = link_made(&w, "/users/%61lice/reset-link");
    const struct cr_http_reply *reply = ops(&w, "/users/alice/reset-link");
    CHECK_STR(reply->type, "application/json");
    CHECK(body_has(reply, "{\"link\":\"/reset?link=crs1_"));
    CHECK(body_has(reply, "\"expires_at\":\"20"));
    CHECK(!body_has(reply, token.text));
    CHECK_UINT(ops(&w, "/users/nobody/reset-link")->status, 404);
    CHECK_UINT(ops(&w, "/users/%00/reset-link")->status, 400);
    CHECK_UINT(ASK(&w, GET("/users/alice/reset-link", ))->status, 404);
    snprintf(link, sizeof link, "/users/%s/reset-link", token.text);
    CHECK_UINT(ops(&w, link)->status, 400);

    tap_row("disabled");
    struct cr_user alice;
    CHECK_STATUS(cr_user_parse("alice", 5, &alice), CR_OK);
    CHECK_STATUS(cr_account_disable(w.room, &alice, true), CR_OK);
    CHECK_UINT(ops(&w, "/users/alice/reset-link")->status, 409);

    tap_row("too many");
    for (int i = 0; i < 8; i++)
        CHECK_UINT(ops(&w, "/users/bob/reset-link")->status, 200);
    CHECK_UINT(ops(&w, "/users/bob/reset-link")->status, 429);

    tap_row("no agent");
    w.site.surface = CR_HTTP_ADMIN;
    CHECK_UINT(ASK(&w, POST("/users/bob/reset-link", .no_room = true))->status, 503);
    world_close(&w);
}

static void a_link_sets_a_password_once_and_signs_nobody_in(void)
{
    for (int by_form = 0; by_form < 2; by_form++) {
        struct world w;
        if (!world_open(&w))
            return;
        tap_row(by_form ? "form" : "JSON");
        struct cr_token before = login(&w, "alice", NULL);
        struct cr_token link = link_made(&w, "/users/alice/reset-link");
        struct cr_token other = link_made(&w, "/users/alice/reset-link");

        /* Refused, and good still. */
        const struct cr_http_reply *reply = link_use(&w, &link, "short", by_form);
        CHECK_UINT(reply->status, 400);
        CHECK(body_has(reply, "at least 15 characters"));
        CHECK(!by_form || body_has(reply, link.text)); /* the form, to try again */
        CHECK_UINT(link_use(&w, &link, "aaaaaaaaaaaaaaaaaaaa", by_form)->status, 400);
        CHECK_UINT(link_use(&w, &link, "", by_form)->status, 400);
        CHECK_UINT(session_status(&w, &before), 200);

        reply = link_use(&w, &link, "battery staple of mine", by_form);
        CHECK_UINT(reply->status, 200);
        const char *cookie = header_of(reply, "Set-Cookie");
        CHECK(cookie == NULL || strstr(cookie, "crs1_") == NULL);
        CHECK(!body_has(reply, "crs1_"));
        CHECK(body_has(reply, by_form ? "Your password was changed: sign in."
                                      : "{\"password\":\"changed\"}"));
        reply = ASK(&w, GET("/session", .token = before.text));
        CHECK_UINT(reply->status, 401);
        CHECK(body_has(reply, "\"by\":\"the user, with a link\""));
        CHECK_UINT(login_status(&w, PASSWORD), 401);
        CHECK_UINT(login_status(&w, "battery staple of mine"), 200);

        reply = link_use(&w, &link, "thief's own password", by_form);
        CHECK_UINT(reply->status, 403);
        CHECK(!body_has(reply, "crs1_"));
        CHECK_UINT(link_use(&w, &other, "thief's own password", by_form)->status, 403);
        CHECK_UINT(login_status(&w, "thief's own password"), 401);
        world_close(&w);
    }
}

/* One answer for a link that is spent, over, of another kind, or none at all. */
static void what_is_no_good_link_has_one_answer(void)
{
    struct world w;
    char bodies[2][4096];
    if (!world_open(&w))
        return;
    struct cr_token spent = link_made(&w, "/users/alice/reset-link");
    CHECK_UINT(link_use(&w, &spent, "battery staple of mine", true)->status, 200);
    struct cr_token session = login(&w, "bob", NULL);
    struct cr_token forged = link_made(&w, "/users/bob/reset-link");
    forged.text[50] = forged.text[50] == 'A' ? 'B' : 'A';
    const struct cr_token *const tokens[] = {&spent, &session, &forged};
    for (int by_form = 0; by_form < 2; by_form++) {
        bodies[by_form][0] = '\0';
        for (size_t i = 0; i < 3; i++) {
            const struct cr_http_reply *reply =
                link_use(&w, tokens[i], "thief's own password", by_form);
            CHECK_UINT(reply->status, 403);
            char *first = bodies[by_form];
            if (first[0] == '\0')
                snprintf(first, sizeof bodies[0], "%.*s", (int)reply->body.count,
                         reply->body.bytes);
            CHECK(strlen(first) == reply->body.count && body_has(reply, first));
        }
    }
    static const char *const shapes[] = {"", "crs1_", "x", "crs1_%00",
                                         "%3Cscript%3Ealert(1)%3C/script%3E"};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        char body[256];
        snprintf(body, sizeof body, "link=%s&new_password=battery+staple+of+mine", shapes[i]);
        tap_row(shapes[i]);
        const struct cr_http_reply *reply = ASK(&w, POST("/reset", .type = FORM, .body = body));
        CHECK_UINT(reply->status, 403);
        CHECK(strlen(bodies[1]) == reply->body.count && body_has(reply, bodies[1]));
    }
    tap_row(NULL);
    CHECK_UINT(ASK(&w, POST("/reset", .type = FORM, .body = "link=a&link=b"))->status, 400);
    CHECK_UINT(ASK(&w, POST("/reset", .type = "text/plain", .body = "x"))->status, 415);
    CHECK_UINT(session_status(&w, &session), 200);
    world_close(&w);
}

/* A scanner of mail, a browser that fetches ahead. A8: neither is anybody's session. */
static void to_look_at_a_link_spends_nothing_and_signs_nobody_in(void)
{
    char target[256];
    struct world w;
    if (!world_open(&w))
        return;
    struct cr_token link = link_made(&w, "/users/alice/reset-link");
    snprintf(target, sizeof target, "/reset?link=%s", link.text);
    for (int i = 0; i < 50; i++) {
        const struct cr_http_reply *reply =
            ASK(&w, .method = i % 2 == 0 ? "GET" : "HEAD", .target = target,
                .name = "Sec-Fetch-Site", .value = "cross-site");
        CHECK_UINT(reply->status, 200);
        CHECK(header_of(reply, "Set-Cookie") == NULL);
        CHECK(body_has(reply, "type=\"hidden\" name=\"link\" value=\"crs1_"));
        CHECK(!body_has(reply, "/reset?link="));
        CHECK(!body_has(reply, "alice"));
    }
    /* It asks nobody: a made-up one of the right form has a page as well. */
    CHECK_UINT(ASK(&w, GET(target, .no_room = true))->status, 200);
    CHECK_UINT(session_status(&w, &link), 401);
    CHECK_UINT(ASK(&w, GET("/session", .bearer = link.text))->status, 401);
    CHECK_UINT(ASK(&w, GET("/reset", ))->status, 403);
    CHECK_UINT(ASK(&w, GET("/reset?link=x", ))->status, 403);
    CHECK_UINT(ASK(&w, GET("/reset?link=a&link=b", ))->status, 403);
    snprintf(target, sizeof target, "/reset?link=crs1_\"><script>%.*s", 71, link.text);
    const struct cr_http_reply *reply = ASK(&w, GET(target, ));
    CHECK(!body_has(reply, "<script>"));
    CHECK_UINT(ASK(&w, POST("/reset", .type = FORM, .name = "Sec-Fetch-Site", .value = "cross-site",
                            .body = "link=x&new_password=y"))
                   ->status,
               403);
    CHECK_UINT(link_use(&w, &link, "battery staple of mine", true)->status, 200);
    world_close(&w);
}

static void links_that_are_none_are_limited(void)
{
    struct world w;
    int refused = 0;
    if (!world_open(&w))
        return;
    struct cr_token link = link_made(&w, "/users/alice/reset-link");
    struct cr_token forged = link;
    forged.text[50] = forged.text[50] == 'A' ? 'B' : 'A';
    for (int i = 0; i < 32; i++)
        refused += link_use(&w, &forged, "battery staple of mine", false)->status == 403;
    CHECK_INT(refused, 30);
    const struct cr_http_reply *reply = link_use(&w, &link, "battery staple of mine", true);
    CHECK_UINT(reply->status, 429);
    CHECK(header_of(reply, "Retry-After") != NULL);
    CHECK(body_has(reply, link.text)); /* the form, for later */
    world_close(&w);
}

static void in_development_the_cookie_has_another_name(void)
{
    struct world w;
    if (!world_open(&w))
        return;
    w.site.dev = true;
    const struct cr_http_reply *reply =
        ASK(&w, POST("/login", .type = JSON,
                     .body = "{\"user\":\"alice\",\"password\":\"" PASSWORD "\"}"));
    const char *cookie = header_of(reply, "Set-Cookie");
    struct cr_token token = cookie_token(reply);
    if (CHECK(cookie != NULL)) {
        CHECK(strncmp(cookie, "cloakroom-dev=crs1_", 19) == 0);
        CHECK(strstr(cookie, "; Path=/; HttpOnly; SameSite=Lax") != NULL);
    }
    CHECK_UINT(session_status(&w, &token), 200);
    CHECK_UINT(
        ASK(&w, GET("/session", .token = token.text, .cookie_name = "__Host-cloakroom"))->status,
        401);
    world_close(&w);
}

/* ASVS F4, F7. */
static void every_answer_carries_the_headers_that_keep_browsers_in_check(void)
{
    static const struct {
        const char *name, *value; /* whole, but for the policy */
    } wanted[] = {
        {"Cache-Control", "no-store"},
        {"Content-Security-Policy", NULL},
        {"X-Content-Type-Options", "nosniff"},
        {"Referrer-Policy", "same-origin"},
        {"Cross-Origin-Opener-Policy", "same-origin"},
        {"Strict-Transport-Security", "max-age=31536000"},
    };
    struct cr_http_site site = {0};
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        const struct cr_http_reply_header *header = cr_http_common_headers(&site);
        while (header->name != NULL && strcmp(header->name, wanted[i].name) != 0)
            header++;
        tap_row(wanted[i].name);
        if (!CHECK(header->name != NULL))
            continue;
        if (wanted[i].value != NULL) {
            CHECK_STR(header->value, wanted[i].value);
        } else {
            CHECK(strstr(header->value, "default-src 'none'") != NULL);
            CHECK(strstr(header->value, "frame-ancestors 'none'") != NULL);
            CHECK(strstr(header->value, "unsafe") == NULL);
        }
    }
    tap_row(NULL);
}

static const struct tap_test tests[] = {
    TAP_TEST(a_json_login_answers_the_session_and_sets_the_cookie),
    TAP_TEST(a_bearer_login_answers_the_token_and_sets_no_cookie),
    TAP_TEST(a_form_login_goes_to_the_page),
    TAP_TEST(a_login_ends_the_earlier_sessions_before_it_answers),
    TAP_TEST(a_login_ends_the_session_that_the_browser_had),
    TAP_TEST(unknown_wrong_and_disabled_get_the_same_answer),
    TAP_TEST(a_login_that_makes_no_sense_is_refused_in_words),
    TAP_TEST(a_form_login_needs_the_token_of_its_browser),
    TAP_TEST(a_session_says_whose_it_is),
    TAP_TEST(a_token_with_any_bit_flipped_is_none),
    TAP_TEST(a_token_in_the_address_is_not_looked_at),
    TAP_TEST(without_an_agent_nobody_is_logged_out),
    TAP_TEST(verify_allows_a_session_and_nothing_else),
    TAP_TEST(logging_out_ends_the_session_and_cleans_the_browser),
    TAP_TEST(a_list_has_the_users_own_devices),
    TAP_TEST(a_person_ends_one_or_all_others),
    TAP_TEST(a_new_password_needs_the_old_one_and_ends_all_other_sessions),
    TAP_TEST(a_one_time_password_leads_to_the_page_that_sets_another),
    TAP_TEST(a_new_password_is_not_set_from_another_page),
    TAP_TEST(a_bearer_gets_its_new_token_for_a_form_too),
    TAP_TEST(ending_another_session_needs_a_password_given_lately),
    TAP_TEST(what_changes_an_account_asks_the_store_who_it_is),
    TAP_TEST(who_confirms_the_password_keeps_what_the_session_has),
    TAP_TEST(a_password_confirms_its_own_users_session_only),
    TAP_TEST(who_changes_the_password_keeps_what_the_session_has),
    TAP_TEST(what_a_visitor_put_in_is_the_users_after_the_login),
    TAP_TEST(who_has_no_account_is_told_to_sign_in_where_he_did),
    TAP_TEST(to_log_out_needs_no_password),
    TAP_TEST(the_pages_of_the_password_have_the_sessions_form),
    TAP_TEST(another_users_session_is_one_that_there_is_not),
    TAP_TEST(what_has_ended_is_told_with_how),
    TAP_TEST(what_has_ended_is_told_to_whose_it_was_and_nobody_else),
    TAP_TEST(a_list_says_how_much_of_what_has_ended_it_tells),
    TAP_TEST(a_store_that_cannot_tell_what_has_ended_signs_nobody_out),
    TAP_TEST(a_change_by_cookie_proves_that_it_comes_from_our_page),
    TAP_TEST(the_form_token_may_come_in_a_header),
    TAP_TEST(a_login_from_another_site_is_refused),
    TAP_TEST(methods_that_are_safe_change_nothing),
    TAP_TEST(no_other_site_may_read_an_answer),
    TAP_TEST(no_request_says_where_an_answer_leads_to),
    TAP_TEST(a_header_does_not_say_where_a_request_comes_from),
    TAP_TEST(a_proxy_that_is_named_says_where_a_request_comes_from),
    TAP_TEST(addresses_and_methods_are_those_of_the_table),
    TAP_TEST(who_has_no_session_is_sent_to_log_in_and_told_why),
    TAP_TEST(a_401_to_a_token_that_has_ended_says_why),
    TAP_TEST(a_link_is_made_for_operators_alone),
    TAP_TEST(a_link_sets_a_password_once_and_signs_nobody_in),
    TAP_TEST(what_is_no_good_link_has_one_answer),
    TAP_TEST(to_look_at_a_link_spends_nothing_and_signs_nobody_in),
    TAP_TEST(links_that_are_none_are_limited),
    TAP_TEST(in_development_the_cookie_has_another_name),
    TAP_TEST(every_answer_carries_the_headers_that_keep_browsers_in_check),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
