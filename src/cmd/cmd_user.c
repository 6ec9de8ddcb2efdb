/* SPDX-License-Identifier: Apache-2.0 */
/* `cloakroom user`: accounts with passwords. */
#include <stdio.h>
#include <string.h>

#include "auth/password.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "cmd/command.h"
#include "cmd/secret.h"
#include "room/room.h"

#define PAGE 64
enum { KEY_STDIN = 0x200, KEY_TEMPORARY };

/* What says where a new password comes from. */
struct password_input {
    bool from_stdin, is_temporary;
};

static error_t password_parse(int key, char *argument, struct argp_state *state)
{
    struct password_input *in = state->input;
    if (key == KEY_STDIN)
        in->from_stdin = true;
    else if (key == KEY_TEMPORARY)
        in->is_temporary = true;
    else
        return ARGP_ERR_UNKNOWN;
    return 0;
}

static const struct argp_option password_options[] = {
    {.name = "password-stdin",
     .key = KEY_STDIN,
     .doc = "read the password from standard input, also at a terminal"},
    {.name = "temporary",
     .key = KEY_TEMPORARY,
     .doc = "make a one-time password and show it: good for 15 minutes, and only for setting "
            "another"},
    {0},
};

/* An account's name also stands in paths and headers. */
static bool account_argument(const char *text, struct cr_user *out_user)
{
    if (!cr_user_argument(text, out_user))
        return false;
    if (cr_text_is_clean(out_user->bytes, out_user->length))
        return true;
    cr_complain("the name of an account is UTF-8 without control characters");
    return false;
}

static int said_done(const struct cr_place *place, const struct cr_user *user, const char *what)
{
    char name[CR_USER_SHOWN_BYTES];
    cr_user_show(user, name);
    if (place->json)
        return cr_json_print(json_pack("{s:s, s:s}", "user", name, "result", what));
    printf("%s: %s\n", name, what);
    return CR_EXIT_OK;
}

static int user_failed(const struct cr_place *place, const struct cr_user *user,
                       enum cr_status status)
{
    char name[CR_USER_SHOWN_BYTES];
    cr_user_show(user, name);
    if (status == CR_CONFLICT)
        cr_complain("%s has an account already; `cloakroom user passwd` sets another password",
                    name);
    else if (status == CR_UNKNOWN_USER)
        cr_complain("%s has no account; `cloakroom user list` shows who has", name);
    else if (status == CR_PASSWORD_SHORT)
        cr_complain("that password is too short: password.length_min is %lld characters%s; nothing "
                    "was changed",
                    (long long)place->settings.password_length_min,
                    place->settings.password_length_min < CR_PASSWORD_CHARS_MIN
                        ? " here, perhaps 15 for the agent"
                        : "");
    else if (status == CR_PASSWORD_COMMON)
        cr_complain("that password is one of those that are tried first (a common one, also with "
                    "digits or signs added, or the same again and again): take several words; "
                    "nothing was changed");
    else if (status == CR_PASSWORD_KNOWN)
        cr_complain("that password is the user's name; nothing was changed");
    else
        return cr_fail(name, status);
    return CR_EXIT_FAILED;
}

/* What the settings say of new passwords, where no agent does. */
static bool rules_set(const struct cr_place *place, struct cr_room *room)
{
    struct cr_error error = {.size = sizeof error};
    enum cr_status st = cr_room_password_rules(room, (unsigned)place->settings.password_length_min,
                                               place->settings.password_list, &error);
    if (st != CR_OK)
        cr_complain("%s", error.text);
    return st == CR_OK;
}

typedef enum cr_status password_call(struct cr_room *, const struct cr_user *, const void *,
                                     size_t);
typedef enum cr_status once_call(struct cr_room *, const struct cr_user *, const void *, size_t,
                                 cr_span_ms);

/* It is what was asked for, so it is said where answers are; nobody else ever sees it. */
static int said_once(const struct cr_place *place, const struct cr_user *user, const char *what,
                     const struct cr_secret *secret)
{
    char name[CR_USER_SHOWN_BYTES];
    char until[CR_TIME_SHOWN_BYTES];
    cr_time_ms at = cr_clock_wall(cr_clock_system()) + CR_FIRST_PASSWORD_MS;
    if (place->json) {
        cr_user_show(user, name);
        return cr_json_print(json_pack("{s:s, s:s, s:s%, s:o}", "user", name, "result", what,
                                       "password", (const char *)secret->text, secret->bytes,
                                       "password_until", cr_time_json(at)));
    }
    (void)said_done(place, user, what);
    cr_time_show(at, until);
    printf("one-time password: %.*s\ngood until %s, for setting another at the first log-in\n",
           (int)secret->bytes, (const char *)secret->text, until);
    return CR_EXIT_OK;
}

static int once_set(const struct cr_place *place, struct cr_room *room, const struct cr_user *user,
                    once_call *call, const char *what)
{
    struct cr_secret secret;
    enum cr_status st = cr_secret_make(&secret);
    if (st == CR_OK)
        st = call(room, user, secret.text, secret.bytes, CR_FIRST_PASSWORD_MS);
    int exit_status =
        st == CR_OK ? said_once(place, user, what, &secret) : user_failed(place, user, st);
    cr_secret_wipe(&secret);
    return exit_status;
}

/* `user add`, `user passwd`. */
static int password_set(const struct cr_form *form, int argc, char **argv, password_call *call,
                        once_call *once, const char *what)
{
    struct cr_place place;
    struct cr_user user;
    struct cr_secret secret = {0};
    struct password_input in = {0};
    int exit_status = CR_EXIT_FAILED;
    cr_form_read(form, argc, argv, &place, &in);
    if (!account_argument(place.words[0], &user))
        return CR_EXIT_USAGE;
    /* First who answers, so that nobody types a password for nothing. */
    struct cr_room *room = cr_place_open(&place, &exit_status);
    if (room == NULL)
        return exit_status;
    if (in.is_temporary) {
        exit_status = once_set(&place, room, &user, once, what);
    } else if (rules_set(&place, room) && cr_secret_read(in.from_stdin, "Password: ", &secret)) {
        enum cr_status st = call(room, &user, secret.text, secret.bytes);
        exit_status = st == CR_OK ? said_done(&place, &user, what) : user_failed(&place, &user, st);
    } else {
        exit_status = CR_EXIT_FAILED;
    }
    cr_secret_wipe(&secret);
    cr_close(room);
    return exit_status;
}

int cr_cmd_user_add(int argc, char **argv)
{
    static const struct cr_form form = {
        .words_text = "NAME",
        .text =
            "Add an account. The password is asked for, or read from standard input."
            "\vExamples:\n"
            "  cloakroom user add anna\n"
            "  cloakroom user add anna --temporary\n"
            "  printf %s \"$PASSWORD\" | cloakroom user add anna --store sqlite:///srv/app.db\n\n"
            "A password has at least 15 characters (password.length_min) and at most 1024 bytes, "
            "each of which counts. Common ones are refused (password.list).",
        .words_least = 1,
        .words_most = 1,
        .settings = cr_place_rows,
        .takes_json = true,
        .options = password_options,
        .parser = password_parse};
    return password_set(&form, argc, argv, cr_account_add, cr_account_add_once, "added");
}

int cr_cmd_user_passwd(int argc, char **argv)
{
    static const struct cr_form form = {
        .words_text = "NAME",
        .text =
            "Set another password, and end all sessions of the user."
            "\vExamples:\n  cloakroom user passwd anna\n  cloakroom user passwd anna --temporary",
        .words_least = 1,
        .words_most = 1,
        .settings = cr_place_rows,
        .takes_json = true,
        .options = password_options,
        .parser = password_parse};
    return password_set(&form, argc, argv, cr_account_password, cr_account_password_once,
                        "password set, all sessions ended");
}

/* Disable, enable, remove: one call, with one name. */
static int user_change(const struct cr_form *form, int argc, char **argv,
                       enum cr_status (*call)(struct cr_room *, const struct cr_user *),
                       const char *what)
{
    struct cr_place place;
    struct cr_user user;
    int exit_status = CR_EXIT_FAILED;
    cr_form_read(form, argc, argv, &place, NULL);
    if (!cr_user_argument(place.words[0], &user))
        return CR_EXIT_USAGE;
    struct cr_room *room = cr_place_open(&place, &exit_status);
    if (room == NULL)
        return exit_status;
    enum cr_status st = call(room, &user);
    exit_status = st == CR_OK ? said_done(&place, &user, what) : user_failed(&place, &user, st);
    cr_close(room);
    return exit_status;
}

static enum cr_status disable_call(struct cr_room *room, const struct cr_user *user)
{
    return cr_account_disable(room, user, true);
}

static enum cr_status enable_call(struct cr_room *room, const struct cr_user *user)
{
    return cr_account_disable(room, user, false);
}

int cr_cmd_user_disable(int argc, char **argv)
{
    static const struct cr_form form = {
        .words_text = "NAME",
        .text = "Let the user in no more, and end all sessions: when this is done, no worker "
                "accepts one of them.\vExample:\n  cloakroom user disable anna",
        .words_least = 1,
        .words_most = 1,
        .settings = cr_place_rows,
        .takes_json = true};
    return user_change(&form, argc, argv, disable_call, "disabled, all sessions ended");
}

int cr_cmd_user_enable(int argc, char **argv)
{
    static const struct cr_form form = {
        .words_text = "NAME",
        .text = "Let a disabled user in again.\vExample:\n  cloakroom user enable anna",
        .words_least = 1,
        .words_most = 1,
        .settings = cr_place_rows,
        .takes_json = true};
    return user_change(&form, argc, argv, enable_call, "enabled");
}

int cr_cmd_user_remove(int argc, char **argv)
{
    static const struct cr_form form = {.words_text = "NAME",
                                        .text =
                                            "Remove the account, and end all sessions of the user."
                                            "\vExample:\n  cloakroom user remove anna",
                                        .words_least = 1,
                                        .words_most = 1,
                                        .settings = cr_place_rows,
                                        .takes_json = true};
    return user_change(&form, argc, argv, cr_account_remove, "removed, all sessions ended");
}

/* ---- list */

static void account_print(const struct cr_account *account)
{
    char name[CR_USER_SHOWN_BYTES];
    char created[CR_TIME_SHOWN_BYTES];
    char password[CR_TIME_SHOWN_BYTES];
    cr_user_show(&account->user, name);
    cr_time_show(account->created_at, created);
    cr_time_show(account->password_at, password);
    const char *state = account->disabled        ? "disabled"
                        : account->password_over ? "expired"
                        : account->must_change   ? "one-time"
                                                 : "enabled";
    printf("%-24s %-9s %-20s  %-20s\n", name, state, created, password);
}

static json_t *account_json(const struct cr_account *account)
{
    char name[CR_USER_SHOWN_BYTES];
    cr_user_show(&account->user, name);
    return json_pack("{s:s, s:b, s:b, s:o, s:o, s:o}", "user", name, "disabled",
                     (int)account->disabled, "must_change", (int)account->must_change,
                     "password_until", cr_time_json(account->password_until), "created_at",
                     cr_time_json(account->created_at), "password_at",
                     cr_time_json(account->password_at));
}

static enum cr_status accounts_show(struct cr_room *room, json_t *json, size_t *out_total)
{
    struct cr_account page[PAGE];
    struct cr_user last;
    size_t count = 0;
    *out_total = 0;
    do {
        for (size_t i = 0; i < PAGE; i++)
            page[i] = (struct cr_account){.size = sizeof page[i]};
        enum cr_status st =
            cr_account_list(room, *out_total == 0 ? NULL : &last, page, PAGE, &count);
        if (st != CR_OK)
            return st;
        if (*out_total == 0 && count > 0 && json == NULL)
            printf("%-24s %-9s %-20s  %-20s\n", "USER", "STATE", "CREATED", "PASSWORD SET");
        for (size_t i = 0; i < count; i++) {
            if (json == NULL)
                account_print(&page[i]);
            else
                json_array_append_new(json, account_json(&page[i]));
        }
        *out_total += count;
        if (count > 0)
            last = page[count - 1].user;
    } while (count == PAGE);
    return CR_OK;
}

int cr_cmd_user_list(int argc, char **argv)
{
    static const struct cr_form form = {.text =
                                            "Show the accounts.\vExamples:\n  cloakroom user list\n"
                                            "  cloakroom user list --json",
                                        .settings = cr_place_rows,
                                        .takes_json = true};
    struct cr_place place;
    int exit_status = CR_EXIT_FAILED;
    size_t total = 0;
    cr_form_read(&form, argc, argv, &place, NULL);
    struct cr_room *room = cr_place_open(&place, &exit_status);
    if (room == NULL)
        return exit_status;
    json_t *json = place.json ? json_array() : NULL;
    enum cr_status st = accounts_show(room, json, &total);
    if (st != CR_OK) {
        json_decref(json);
        exit_status = cr_fail("list", st);
    } else {
        exit_status = place.json ? cr_json_print(json) : CR_EXIT_OK;
        if (!place.json && total == 0)
            fputs("There are no accounts; `cloakroom user add NAME` makes one.\n", stderr);
    }
    cr_close(room);
    return exit_status;
}
