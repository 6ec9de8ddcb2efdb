/* SPDX-License-Identifier: Apache-2.0 */
/* `cloakroom session`: look at sessions, and end them. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "cmd/command.h"
#include "room/room.h"
#include "wire/message.h"

enum { KEY_USER = 0x200, KEY_ALL, KEY_ENDED };

#define PAGE 8 /* a session is some kilobytes */

static bool id_argument(const char *text, struct cr_session_id *out_id)
{
    struct cr_token token;
    if (cr_session_id_parse(text, strlen(text), out_id) == CR_OK)
        return true;
    if (cr_token_parse(text, strlen(text), &token) == CR_OK)
        cr_complain("that is a token: it is a secret, and the session's id is meant (crp_...)");
    else
        cr_complain("'%s' is not the id of a session: crp_ and 24 characters", text);
    return false;
}

/* NULL: it is not known. */
static json_t *origin_json(const struct cr_origin *from)
{
    if (from->address[0] == '\0' && from->agent[0] == '\0')
        return NULL;
    return json_pack("{s:s%, s:s%}", "address", from->address, strlen(from->address), "agent",
                     from->agent, strlen(from->agent));
}

/* ---- list */

static void session_print(const struct cr_session *session)
{
    char created[CR_TIME_SHOWN_BYTES];
    char seen[CR_TIME_SHOWN_BYTES];
    char ends[CR_TIME_SHOWN_BYTES];
    char agent[41];
    char address[CR_ADDRESS_CHARS_MAX + 1];
    cr_time_show(session->created_at, created);
    cr_time_show(session->seen_at, seen);
    cr_time_show(session->expires_at, ends);
    cr_label_copy(agent, sizeof agent, session->agent, strlen(session->agent));
    cr_label_copy(address, sizeof address, session->address, strlen(session->address));
    printf("%s  %s  %s  %s  %-15s  %s\n", session->id.text, created, seen, ends,
           address[0] == '\0' ? "-" : address, agent[0] == '\0' ? "-" : agent);
}

static json_t *session_json(const struct cr_session *session)
{
    char user[CR_USER_SHOWN_BYTES];
    cr_user_show(&session->user, user);
    return json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:s%, s:s%}", "id", session->id.text,
                     "user", user, "created_at", cr_time_json(session->created_at),
                     "authenticated_at", cr_time_json(session->authenticated_at), "seen_at",
                     cr_time_json(session->seen_at), "expires_at",
                     cr_time_json(session->expires_at), "ends_at", cr_time_json(session->ends_at),
                     "address", session->address, strlen(session->address), "agent", session->agent,
                     strlen(session->agent));
}

static enum cr_status sessions_show(struct cr_room *room, const struct cr_user *user, json_t *json,
                                    size_t *out_total)
{
    struct cr_session page[PAGE];
    struct cr_cursor cursor = {0};
    size_t count = 0;
    *out_total = 0;
    do {
        for (size_t i = 0; i < PAGE; i++)
            page[i] = (struct cr_session)CR_SESSION_INIT;
        enum cr_status st = cr_sessions_of(room, user, NULL, &cursor, page, PAGE, &count);
        if (st != CR_OK)
            return st;
        if (*out_total == 0 && count > 0 && json == NULL)
            printf("%-28s  %-20s  %-20s  %-20s  %-15s  %s\n", "SESSION", "CREATED", "SEEN",
                   "EXPIRES", "ADDRESS", "AGENT");
        for (size_t i = 0; i < count; i++) {
            if (json == NULL)
                session_print(&page[i]);
            else
                json_array_append_new(json, session_json(&page[i]));
        }
        *out_total += count;
    } while (count > 0);
    return CR_OK;
}

static void past_print(const struct cr_past_session *past)
{
    char created[CR_TIME_SHOWN_BYTES];
    char ended[CR_TIME_SHOWN_BYTES];
    char agent[41];
    char address[CR_ADDRESS_CHARS_MAX + 1];
    cr_time_show(past->ended.created_at, created);
    cr_time_show(past->ended.at, ended);
    cr_label_copy(agent, sizeof agent, past->where.agent, strlen(past->where.agent));
    cr_label_copy(address, sizeof address, past->where.address, strlen(past->where.address));
    printf("%s  %s  %s  %-9s  %-15s  %s\n", past->id.text, created, ended,
           cr_reason_name(past->ended.reason), address[0] == '\0' ? "-" : address,
           agent[0] == '\0' ? "-" : agent);
}

static json_t *past_json(const struct cr_past_session *past)
{
    const struct cr_explanation *ended = &past->ended;
    return json_pack("{s:s, s:o, s:o, s:s%, s:s%, s:s, s:o, s:s?, s:o?}", "id", past->id.text,
                     "created_at", cr_time_json(ended->created_at), "seen_at",
                     cr_time_json(ended->seen_at), "address", past->where.address,
                     strlen(past->where.address), "agent", past->where.agent,
                     strlen(past->where.agent), "reason", cr_reason_name(ended->reason), "at",
                     cr_time_json(ended->at), "by", ended->by[0] == '\0' ? NULL : ended->by, "from",
                     origin_json(&ended->from));
}

static enum cr_status past_show(struct cr_room *room, const struct cr_user *user, json_t *json,
                                size_t *out_total)
{
    static struct cr_past_session past[CR_PAST_MAX];
    enum cr_status st = cr_past_of(room, user, past, out_total);
    if (st != CR_OK)
        return st;
    if (*out_total > 0 && json == NULL)
        printf("%-28s  %-20s  %-20s  %-9s  %-15s  %s\n", "SESSION", "CREATED", "ENDED", "REASON",
               "ADDRESS", "AGENT");
    for (size_t i = 0; i < *out_total; i++) {
        if (json == NULL)
            past_print(&past[i]);
        else
            json_array_append_new(json, past_json(&past[i]));
    }
    return CR_OK;
}

/* NOLINTNEXTLINE(readability-non-const-parameter): argp says what it is */
static error_t list_parse(int key, char *argument, struct argp_state *state)
{
    bool *ended = state->input;
    (void)argument;
    if (key != KEY_ENDED)
        return ARGP_ERR_UNKNOWN;
    *ended = true;
    return 0;
}

int cr_cmd_session_list(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {.name = "ended", .key = KEY_ENDED, .doc = "show those that ended in the last 7 days"},
        {0}};
    static const struct cr_form form = {
        .words_text = "USER",
        .text = "Show the live sessions of a user, newest first; or, with --ended, those that "
                "ended lately and how: the last 20."
                "\vExamples:\n  cloakroom session list anna\n"
                "  cloakroom session list anna --ended\n  cloakroom session list anna --json",
        .words_least = 1,
        .words_most = 1,
        .settings = cr_place_rows,
        .takes_json = true,
        .options = options,
        .parser = list_parse};
    bool ended = false;
    struct cr_place place;
    struct cr_user user;
    int exit_status = CR_EXIT_FAILED;
    size_t total = 0;
    cr_form_read(&form, argc, argv, &place, &ended);
    if (!cr_user_argument(place.words[0], &user))
        return CR_EXIT_USAGE;
    struct cr_room *room = cr_place_open(&place, &exit_status);
    if (room == NULL)
        return exit_status;
    json_t *json = place.json ? json_array() : NULL;
    enum cr_status st =
        ended ? past_show(room, &user, json, &total) : sessions_show(room, &user, json, &total);
    if (st != CR_OK) {
        json_decref(json);
        exit_status = cr_fail(place.words[0], st);
    } else {
        exit_status = place.json ? cr_json_print(json) : CR_EXIT_OK;
        if (!place.json && total == 0)
            fputs(ended ? "No session of this user ended in the last 7 days.\n"
                        : "There are no live sessions of this user.\n",
                  stderr);
    }
    cr_close(room);
    return exit_status;
}

/* ---- end */

struct end_input {
    const char *user;
    bool all;
};

/* NOLINTNEXTLINE(readability-non-const-parameter): argp says what it is */
static error_t end_parse(int key, char *argument, struct argp_state *state)
{
    struct end_input *in = state->input;
    switch (key) {
    case KEY_USER:
        in->user = argument;
        return 0;
    case KEY_ALL:
        in->all = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const char *result_name(enum cr_status status)
{
    return status == CR_OK                  ? "done"
           : status == CR_PENDING           ? "pending"
           : status == CR_E_UNKNOWN_OUTCOME ? "unknown"
                                            : "failed";
}

/* DESIGN's four answers: done, pending, unknown, failed. */
static int end_report(const struct cr_place *place, enum cr_status status,
                      const struct cr_ended *ended)
{
    char ending[2 * sizeof ended->ending.bytes + 1];
    int exit_status = CR_EXIT_OK;
    bool is_known = status == CR_OK || status == CR_PENDING || status == CR_E_UNKNOWN_OUTCOME;
    cr_hex_encode(ended->ending.bytes, sizeof ended->ending.bytes, ending);
    if (status == CR_PENDING) {
        cr_complain("pending: committed, and true everywhere within %" PRId64 " ms",
                    (int64_t)ended->bound);
        exit_status = CR_EXIT_LATER;
    } else if (status != CR_OK) {
        exit_status = cr_fail("end", status);
    } else if (!place->json) {
        puts("done: no worker accepts it any more");
    }
    if (place->json && is_known)
        (void)cr_json_print(json_pack("{s:s, s:s, s:I}", "result", result_name(status), "ending",
                                      ending, "bound_ms", (json_int_t)ended->bound));
    return exit_status;
}

int cr_cmd_session_end(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {.name = "user", .key = KEY_USER, .arg = "USER", .doc = "end all sessions of a user"},
        {.name = "all", .key = KEY_ALL, .doc = "end everybody's sessions"},
        {0}};
    static const struct cr_form form = {
        .words_text = "ID\n--user USER\n--all",
        .text = "End one session, all of a user, or everybody's. When it says done, no worker of "
                "any host accepts them."
                "\vExamples:\n  cloakroom session end crp_HKTcM7wPq2Nn0aXl5sVbR4dE\n"
                "  cloakroom session end --user anna\n  cloakroom session end --all",
        .words_least = 0,
        .words_most = 1,
        .settings = cr_place_rows,
        .takes_json = true,
        .options = options,
        .parser = end_parse};
    struct cr_place place;
    struct end_input in = {0};
    struct cr_session_id id;
    struct cr_user user;
    struct cr_end_options how = {.size = sizeof how, .reason = CR_REASON_ADMIN, .by = "operator"};
    struct cr_ended ended = {.size = sizeof ended};
    int exit_status = CR_EXIT_FAILED;
    cr_form_read(&form, argc, argv, &place, &in);
    if (place.word_count + (in.user != NULL) + in.all != 1) {
        cr_complain("what is to end: the ID of a session, --user USER, or --all?");
        return CR_EXIT_USAGE;
    }
    if ((place.word_count == 1 && !id_argument(place.words[0], &id)) ||
        (in.user != NULL && !cr_user_argument(in.user, &user)))
        return CR_EXIT_USAGE;
    struct cr_room *room = cr_place_open(&place, &exit_status);
    if (room == NULL)
        return exit_status;
    enum cr_status st = in.all            ? cr_end_all(room, &how, &ended)
                        : in.user != NULL ? cr_invalidate_by_user(room, &user, &how, &ended)
                                          : cr_end(room, &id, &how, &ended);
    exit_status = end_report(&place, st, &ended);
    cr_close(room);
    return exit_status;
}

/* ---- explain */

static json_t *explanation_json(const char *id, const char *user, const struct cr_explanation *e)
{
    json_t *rotated = json_array();
    json_t *from = origin_json(&e->from);
    for (unsigned i = e->rotation_count; i-- > 0;)
        json_array_append_new(rotated, cr_time_json(e->rotated_at[i]));
    return json_pack("{s:s, s:b, s:s?, s:o, s:s?, s:o?, s:s?, s:o, s:o, s:o, s:o}", "id", id,
                     "live", (int)e->live, "reason", e->live ? NULL : cr_reason_name(e->reason),
                     "at", cr_time_json(e->at), "by", e->by[0] == '\0' ? NULL : e->by, "from", from,
                     "user", user[0] == '\0' ? NULL : user, "created_at",
                     cr_time_json(e->created_at), "seen_at", cr_time_json(e->seen_at), "ends_at",
                     cr_time_json(e->ends_at), "rotated_at", rotated);
}

static void time_print(const char *name, cr_time_ms time)
{
    char at[CR_TIME_SHOWN_BYTES];
    cr_time_show(time, at);
    if (time != 0)
        printf("  %-9s %s\n", name, at);
}

/* In the order in which it happened. */
static void history_print(const char *user, const struct cr_explanation *e)
{
    char address[CR_ADDRESS_CHARS_MAX + 1];
    char agent[CR_AGENT_CHARS_MAX + 1];
    if (user[0] != '\0')
        printf("  user      %s\n", user);
    time_print("created", e->created_at);
    for (unsigned i = e->rotation_count; i-- > 0;)
        time_print("rotated", e->rotated_at[i]);
    time_print("seen", e->seen_at);
    if (e->live) {
        time_print("ends", e->ends_at);
        return;
    }
    time_print("ended", e->at);
    if (e->by[0] != '\0')
        printf("  by        %s\n", e->by);
    cr_label_copy(address, sizeof address, e->from.address, strlen(e->from.address));
    cr_label_copy(agent, sizeof agent, e->from.agent, strlen(e->from.agent));
    if (address[0] != '\0')
        printf("  from      %s\n", address);
    if (agent[0] != '\0')
        printf("  with      %s\n", agent);
}

static int explanation_print(const struct cr_place *place, const char *id,
                             const struct cr_explanation *e)
{
    char user[CR_USER_SHOWN_BYTES];
    cr_user_show(&e->user, user);
    if (place->json)
        return cr_json_print(explanation_json(id, user, e));
    if (e->live)
        printf("%s is live\n", id);
    else
        printf("%s ended: %s\n", id, cr_reason_name(e->reason));
    history_print(user, e);
    return CR_EXIT_OK;
}

int cr_cmd_session_explain(int argc, char **argv)
{
    static const struct cr_form form = {
        .words_text = "ID",
        .text =
            "Show the history of a session: created, rotated, seen, and when, why and by whom it "
            "was ended. An ending is known for 7 days."
            "\vExample:\n  cloakroom session explain crp_HKTcM7wPq2Nn0aXl5sVbR4dE",
        .words_least = 1,
        .words_most = 1,
        .settings = cr_place_rows,
        .takes_json = true};
    struct cr_place place;
    struct cr_session_id id;
    struct cr_explanation explanation = {.size = sizeof explanation};
    int exit_status = CR_EXIT_FAILED;
    cr_form_read(&form, argc, argv, &place, NULL);
    if (!id_argument(place.words[0], &id))
        return CR_EXIT_USAGE;
    struct cr_room *room = cr_place_open(&place, &exit_status);
    if (room == NULL)
        return exit_status;
    enum cr_status st = cr_explain(room, &id, NULL, &explanation);
    exit_status =
        st == CR_OK ? explanation_print(&place, id.text, &explanation) : cr_fail(id.text, st);
    cr_close(room);
    return exit_status;
}
