/* SPDX-License-Identifier: Apache-2.0 */
/* `cloakroom user reset`: a link with which the user sets another password. */
#include <stdio.h>
#include <unistd.h>

#include "cmd/command.h"
#include "room/room.h"

enum { KEY_PRINT = 0x200 };

static error_t print_parse(int key, char *argument, struct argp_state *state)
{
    bool *prints = state->input;
    if (key != KEY_PRINT)
        return ARGP_ERR_UNKNOWN;
    *prints = true;
    return 0;
}

static const struct argp_option print_options[] = {
    {.name = "print", .key = KEY_PRINT, .doc = "show the link also where no terminal is"},
    {0},
};

static int reset_failed(const struct cr_user *user, enum cr_status status)
{
    char name[CR_USER_SHOWN_BYTES];
    cr_user_show(user, name);
    if (status == CR_UNKNOWN_USER)
        cr_complain("%s has no account; `cloakroom user list` shows who has", name);
    else if (status == CR_DENIED)
        cr_complain("the account of %s is disabled; `cloakroom user enable` lets the user in again",
                    name);
    else if (status == CR_E_LIMIT)
        cr_complain("as many links of %s as there may be are good: use one of them, or wait until "
                    "they are over; `cloakroom user passwd` voids them",
                    name);
    else
        return cr_fail(name, status);
    return CR_EXIT_FAILED;
}

static int said_link(const struct cr_place *place, const struct cr_user *user,
                     const struct cr_reset_link *link)
{
    char name[CR_USER_SHOWN_BYTES];
    char until[CR_TIME_SHOWN_BYTES];
    char path[sizeof "/reset?link=" + CR_TOKEN_CHARS];
    cr_user_show(user, name);
    snprintf(path, sizeof path, "/reset?link=%s", link->token.text);
    if (place->json)
        return cr_json_print(json_pack("{s:s, s:s, s:s, s:o}", "user", name, "link", path, "token",
                                       link->token.text, "expires_at",
                                       cr_time_json(link->expires_at)));
    cr_time_show(link->expires_at, until);
    printf("%s: link made\n%s\ngood once, until %s; put the address of your server before it\n",
           name, path, until);
    return CR_EXIT_OK;
}

int cr_cmd_user_reset(int argc, char **argv)
{
    static const struct cr_form form = {
        .words_text = "NAME",
        .text =
            "Make a link with which the user sets another password, without the old one, and "
            "show it. It is good once, for 20 minutes, and until the password is changed. Until "
            "then nothing else changes."
            "\vExamples:\n  cloakroom user reset anna\n  cloakroom user reset anna --json\n\n"
            "Whoever has the link has the account: send it by a way that only the user reads.",
        .words_least = 1,
        .words_most = 1,
        .settings = cr_place_rows,
        .takes_json = true,
        .options = print_options,
        .parser = print_parse};
    struct cr_place place;
    struct cr_user user;
    struct cr_reset_link link;
    bool prints = false;
    int exit_status = CR_EXIT_FAILED;
    cr_form_read(&form, argc, argv, &place, &prints);
    if (!cr_user_argument(place.words[0], &user))
        return CR_EXIT_USAGE;
    if (!prints && !place.json && !isatty(STDOUT_FILENO)) {
        cr_complain("standard output is no terminal, and whoever reads the link has the account: "
                    "nothing was made. Where that is what you want, add --print or --json");
        return CR_EXIT_USAGE;
    }
    struct cr_room *room = cr_place_open(&place, &exit_status);
    if (room == NULL)
        return exit_status;
    enum cr_status st = cr_reset_link_make(room, &user, &link);
    exit_status = st == CR_OK ? said_link(&place, &user, &link) : reset_failed(&user, st);
    cr_token_wipe(&link.token);
    cr_close(room);
    return exit_status;
}
