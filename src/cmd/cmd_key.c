/* SPDX-License-Identifier: Apache-2.0 */
/* `cloakroom key`: the keys that tokens are made with. */
#include <inttypes.h>
#include <stdio.h>

#include <cloakroom/key.h>

#include "cmd/command.h"

static const char *state_name(const struct cr_key_state *key)
{
    return key->waits ? "waits" : key->until == 0 ? "signs" : "checks";
}

/* A key also signs while the next one waits. */
static const char *state_of(const struct cr_key_state *keys, size_t count, size_t i)
{
    return !keys[i].waits && i + 1 < count && keys[i + 1].waits ? "signs" : state_name(&keys[i]);
}

static int keys_print(const struct cr_place *place, const struct cr_key_state *keys, size_t count)
{
    char since[CR_TIME_SHOWN_BYTES];
    char until[CR_TIME_SHOWN_BYTES];
    json_t *json = place->json ? json_array() : NULL;
    if (!place->json)
        printf("%-6s  %-6s  %-20s  %s\n", "NUMBER", "STATE", "SINCE", "UNTIL");
    for (size_t i = 0; i < count; i++) {
        const char *state = state_of(keys, count, i);
        cr_time_show(keys[i].since, since);
        cr_time_show(keys[i].until, until);
        if (json == NULL)
            printf("%-6" PRIu32 "  %-6s  %-20s  %s\n", keys[i].number, state, since, until);
        else
            json_array_append_new(json,
                                  json_pack("{s:i, s:s, s:o, s:o}", "number", (int)keys[i].number,
                                            "state", state, "since", cr_time_json(keys[i].since),
                                            "until", cr_time_json(keys[i].until)));
    }
    return place->json ? cr_json_print(json) : CR_EXIT_OK;
}

int cr_cmd_key_list(int argc, char **argv)
{
    static const struct cr_form form = {
        .words_text = "",
        .text = "Show the keys that the MACs of tokens are made with: number, whether it signs "
                "new tokens, only checks older ones or waits until every engine knows it, and "
                "from when until when tokens are made with it. A key that only checks goes when "
                "no session is left that a token of it belongs to. Never shown: their bytes."
                "\vExamples:\n  cloakroom key list\n  cloakroom key list --json",
        .words_least = 0,
        .words_most = 0,
        .settings = cr_place_rows,
        .takes_json = true};
    struct cr_place place;
    struct cr_key_state keys[CR_KEY_LIST_MAX];
    int exit_status = CR_EXIT_FAILED;
    size_t count = 0;
    cr_form_read(&form, argc, argv, &place, NULL);
    struct cr_room *room = cr_place_open(&place, &exit_status);
    if (room == NULL)
        return exit_status;
    enum cr_status st = cr_key_list(room, keys, CR_KEY_LIST_MAX, &count);
    exit_status = st == CR_OK ? keys_print(&place, keys, count) : cr_fail("keys", st);
    cr_close(room);
    return exit_status;
}

int cr_cmd_key_rotate(int argc, char **argv)
{
    static const struct cr_form form = {
        .words_text = "",
        .text = "Make a new key for the MACs of tokens. Nobody is logged out: tokens of the "
                "earlier keys stay good for as long as their sessions live. Where several "
                "engines share the store the new key signs once all of them know it."
                "\vExamples:\n  cloakroom key rotate\n  cloakroom key rotate --json",
        .words_least = 0,
        .words_most = 0,
        .settings = cr_place_rows,
        .takes_json = true};
    struct cr_place place;
    int exit_status = CR_EXIT_FAILED;
    uint32_t number = 0;
    cr_span_ms wait = 0;
    cr_form_read(&form, argc, argv, &place, NULL);
    struct cr_room *room = cr_place_open(&place, &exit_status);
    if (room == NULL)
        return exit_status;
    enum cr_status st = cr_key_rotate(room, &number, &wait);
    cr_close(room);
    if (st == CR_E_LIMIT)
        cr_complain("there are %d keys, and sessions of each may be alive: look at `cloakroom key "
                    "list`, and rotate less often",
                    CR_KEY_LIST_MAX);
    if (st == CR_E_UNKNOWN_OUTCOME)
        cr_complain("look at `cloakroom key list` before doing it again");
    if (st != CR_OK)
        return cr_fail("key rotate", st);
    if (place.json)
        return cr_json_print(
            json_pack("{s:i, s:I}", "number", (int)number, "signs_in_ms", (json_int_t)wait));
    if (wait > 0)
        printf("key %" PRIu32 " signs new tokens in %" PRId64 " ms; older tokens stay good\n",
               number, (int64_t)wait);
    else
        printf("key %" PRIu32 " signs new tokens; older tokens stay good\n", number);
    return CR_EXIT_OK;
}
