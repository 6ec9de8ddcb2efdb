/* SPDX-License-Identifier: Apache-2.0 */
/* `cloakroom limit`: what log-ins owe, through the agent. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth/throttle.h"
#include "base/bytes.h"
#include "cmd/command.h"
#include "room/room.h"
#include "wire/message.h"

#define KEY_ADDRESS 0x200
#define KEY_COUNT 0x201

static const char *const kinds[CR_THROTTLE_END] = {
    [CR_THROTTLE_ACCOUNT] = "account",     [CR_THROTTLE_PAIR] = "pair",
    [CR_THROTTLE_SOURCE] = "source",       [CR_THROTTLE_SOURCE_56] = "source_56",
    [CR_THROTTLE_SOURCE_48] = "source_48", [CR_THROTTLE_DEVICE] = "device",
};

static const char *kind_name(uint32_t kind)
{
    return kind > 0 && kind < CR_THROTTLE_END ? kinds[kind] : "?";
}

/* When one more may come: the tier that is full longest. */
static cr_span_ms view_wait(const struct cr_limit_view *view)
{
    cr_span_ms wait = 0;
    for (size_t i = 0; i < view->tier_count; i++) {
        const struct cr_limit_view_tier *tier = &view->tiers[i];
        cr_span_ms interval = tier->count > 0 ? tier->period / (cr_span_ms)tier->count : 0;
        cr_span_ms over = tier->left + interval - tier->period;
        wait = over > wait ? over : wait;
    }
    return wait;
}

static void view_print(const struct cr_limit_view *view, bool owed)
{
    char user[CR_USER_SHOWN_BYTES] = "-";
    char span[32];
    if (view->user.length > 0)
        cr_user_show(&view->user, user);
    printf("%-10s", kind_name(view->kind));
    if (owed)
        printf("  %-20s  %-24s", user, view->address[0] != '\0' ? view->address : "-");
    if (view->tier_count == 0)
        printf("  off");
    for (size_t i = 0; i < view->tier_count; i++) {
        cr_span_write(view->tiers[i].period, span, sizeof span);
        if (owed)
            printf("  %" PRIu64 " of", view->tiers[i].used);
        printf("%s%" PRIu64 "/%s", owed ? " " : "  ", view->tiers[i].count, span);
    }
    if (owed && view_wait(view) > 0) {
        cr_span_write((view_wait(view) + 999) / 1000 * 1000, span, sizeof span);
        printf("  full for %s", span);
    }
    printf("\n");
}

static json_t *view_json(const struct cr_limit_view *view)
{
    char user[CR_USER_SHOWN_BYTES] = "";
    json_t *tiers = json_array();
    if (view->user.length > 0)
        cr_user_show(&view->user, user);
    for (size_t i = 0; i < view->tier_count; i++)
        json_array_append_new(tiers, json_pack("{s:I, s:I, s:I, s:I}", "count",
                                               (json_int_t)view->tiers[i].count, "period_ms",
                                               (json_int_t)view->tiers[i].period, "used",
                                               (json_int_t)view->tiers[i].used, "left_ms",
                                               (json_int_t)view->tiers[i].left));
    return json_pack("{s:s, s:s, s:s, s:I, s:o}", "kind", kind_name(view->kind), "user", user,
                     "address", view->address, "wait_ms", (json_int_t)view_wait(view), "tiers",
                     tiers);
}

static int views_show(const struct cr_limit_view *views, size_t count, bool as_json)
{
    if (as_json) {
        json_t *json = json_array();
        for (size_t i = 0; i < count; i++)
            json_array_append_new(json, view_json(&views[i]));
        return cr_json_print(json);
    }
    for (size_t i = 0; i < count; i++)
        view_print(&views[i], true);
    return CR_EXIT_OK;
}

/* ---- whose */

struct subject {
    const char *address;
    struct cr_user user;
    bool has_user;
};

/* NOLINTNEXTLINE(readability-non-const-parameter): argp says what it is */
static error_t subject_parse(int key, char *argument, struct argp_state *state)
{
    struct subject *subject = state->input;
    if (key != KEY_ADDRESS)
        return ARGP_ERR_UNKNOWN;
    subject->address = argument;
    return 0;
}

#define SUBJECT_OPTION                                                                             \
    {                                                                                              \
        .name = "address", .key = KEY_ADDRESS, .arg = "ADDR", .doc = "from this address"           \
    }

static bool subject_read(const struct cr_place *place, struct subject *subject)
{
    subject->has_user = place->word_count > 0;
    if (!subject->has_user && subject->address == NULL) {
        cr_complain("whose? Name a user, --address ADDR, or both");
        return false;
    }
    return !subject->has_user || cr_user_argument(place->words[0], &subject->user);
}

static int subject_fail(const struct subject *subject, enum cr_status st)
{
    if (st == CR_E_INVALID && subject->address != NULL) {
        cr_complain("'%s' is not an IPv4 or IPv6 address", subject->address);
        return CR_EXIT_USAGE;
    }
    return cr_fail("limit", st);
}

int cr_cmd_limit_explain(int argc, char **argv)
{
    static const struct argp_option options[] = {SUBJECT_OPTION, {0}};
    static const struct cr_form form = {
        .words_text = "[USER]",
        .text = "Show each limit that counts for an attempt to log in as USER, from an address, or "
                "both: how much of it is used up, and for how long it is full."
                "\vExamples:\n  cloakroom limit explain anna\n"
                "  cloakroom limit explain anna --address 192.0.2.1 --json",
        .words_least = 0,
        .words_most = 1,
        .settings = cr_place_rows,
        .takes_json = true,
        .options = options,
        .parser = subject_parse};
    struct cr_place place;
    struct subject subject = {0};
    struct cr_limit_view views[CR_LIMIT_VIEWS_MAX];
    size_t count = 0;
    int exit_status = CR_EXIT_FAILED;
    cr_form_read(&form, argc, argv, &place, &subject);
    if (!subject_read(&place, &subject))
        return CR_EXIT_USAGE;
    struct cr_room *room = cr_place_open(&place, &exit_status);
    if (room == NULL)
        return exit_status;
    enum cr_status st = cr_limits_explain(room, subject.has_user ? &subject.user : NULL,
                                          subject.address, views, CR_LIMIT_VIEWS_MAX, &count);
    exit_status = st == CR_OK ? views_show(views, count, place.json) : subject_fail(&subject, st);
    cr_close(room);
    return exit_status;
}

int cr_cmd_limit_reset(int argc, char **argv)
{
    static const struct argp_option options[] = {SUBJECT_OPTION, {0}};
    static const struct cr_form form = {
        .words_text = "[USER]",
        .text = "Forgive what is owed: all of USER's, all of an address, or only what USER owes "
                "from that address."
                "\vExamples:\n  cloakroom limit reset anna\n"
                "  cloakroom limit reset --address 192.0.2.1",
        .words_least = 0,
        .words_most = 1,
        .settings = cr_place_rows,
        .options = options,
        .parser = subject_parse};
    struct cr_place place;
    struct subject subject = {0};
    int exit_status = CR_EXIT_FAILED;
    cr_form_read(&form, argc, argv, &place, &subject);
    if (!subject_read(&place, &subject))
        return CR_EXIT_USAGE;
    struct cr_room *room = cr_place_open(&place, &exit_status);
    if (room == NULL)
        return exit_status;
    enum cr_status st =
        cr_limits_reset(room, subject.has_user ? &subject.user : NULL, subject.address);
    exit_status = st == CR_OK ? CR_EXIT_OK : subject_fail(&subject, st);
    cr_close(room);
    return exit_status;
}

/* ---- all */

int cr_cmd_limit_show(int argc, char **argv)
{
    static const struct cr_form form = {
        .text = "Show the limits of log-ins, and how many attempts the agent has let through, "
                "refused, and given back because the password was right."
                "\vExamples:\n  cloakroom limit show\n  cloakroom limit show --json",
        .settings = cr_place_rows,
        .takes_json = true};
    struct cr_place place;
    struct cr_limit_view views[CR_LIMIT_VIEWS_MAX];
    struct cr_limit_count n;
    size_t count = 0;
    int exit_status = CR_EXIT_FAILED;
    cr_form_read(&form, argc, argv, &place, NULL);
    struct cr_room *room = cr_place_open(&place, &exit_status);
    if (room == NULL)
        return exit_status;
    enum cr_status st = cr_limits_show(room, views, CR_LIMIT_VIEWS_MAX, &count, &n);
    if (st != CR_OK) {
        exit_status = cr_fail("limit", st);
    } else if (place.json) {
        json_t *limits = json_array();
        for (size_t i = 0; i < count; i++)
            json_array_append_new(limits, view_json(&views[i]));
        exit_status = cr_json_print(
            json_pack("{s:o, s:I, s:I, s:I, s:I, s:I, s:I}", "limits", limits, "admitted",
                      (json_int_t)n.admitted, "refused", (json_int_t)n.refused, "refunded",
                      (json_int_t)n.refunded, "asked", (json_int_t)n.asked, "entries",
                      (json_int_t)n.entries, "evicted", (json_int_t)n.evicted));
    } else {
        for (size_t i = 0; i < count; i++)
            view_print(&views[i], false);
        printf("\n%" PRIu64 " admitted, %" PRIu64 " of them given back; %" PRIu64 " refused\n"
               "%" PRIu64 " debts in memory; %" PRIu64 " dropped from it, the store asked %" PRIu64
               " times\n",
               n.admitted, n.refunded, n.refused, n.entries, n.evicted, n.asked);
        exit_status = CR_EXIT_OK;
    }
    cr_close(room);
    return exit_status;
}

static error_t top_parse(int key, char *argument, struct argp_state *state)
{
    long *count = state->input;
    char *end;
    if (key != KEY_COUNT)
        return ARGP_ERR_UNKNOWN;
    *count = strtol(argument, &end, 10);
    if (*end != '\0' || *count < 1 || *count > CR_LIMIT_VIEWS_MAX)
        argp_error(state, "--count goes from 1 to %d, not '%s'", CR_LIMIT_VIEWS_MAX, argument);
    return 0;
}

int cr_cmd_limit_top(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {.name = "count", .key = KEY_COUNT, .arg = "N", .doc = "so many; 20 by default"}, {0}};
    static const struct cr_form form = {
        .text = "Show the largest debts: whose it is, and how much of each limit is used up."
                "\vExamples:\n  cloakroom limit top\n  cloakroom limit top --count 5 --json",
        .settings = cr_place_rows,
        .takes_json = true,
        .options = options,
        .parser = top_parse};
    struct cr_place place;
    struct cr_limit_view views[CR_LIMIT_VIEWS_MAX];
    size_t found = 0;
    long count = 20;
    int exit_status = CR_EXIT_FAILED;
    cr_form_read(&form, argc, argv, &place, &count);
    struct cr_room *room = cr_place_open(&place, &exit_status);
    if (room == NULL)
        return exit_status;
    enum cr_status st = cr_limits_top(room, views, (size_t)count, &found);
    exit_status = st == CR_OK ? views_show(views, found, place.json) : cr_fail("limit", st);
    cr_close(room);
    return exit_status;
}
