/* SPDX-License-Identifier: Apache-2.0 */
/* The table of subcommands, and finding one in it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/closest.h"
#include "cmd/command.h"

#define NAME_CHARS_MAX 128

static const struct cr_command user_commands[] = {
    {"add", "NAME", "add an account; asks for its password", cr_cmd_user_add, NULL, false},
    {"import", "FILE", "add accounts with the hashes of another system", cr_cmd_user_import, NULL,
     false},
    {"list", "", "the accounts", cr_cmd_user_list, NULL, false},
    {"passwd", "NAME", "set another password; ends all sessions of the user", cr_cmd_user_passwd,
     NULL, false},
    {"reset", "NAME", "make a link with which the user sets another password", cr_cmd_user_reset,
     NULL, false},
    {"disable", "NAME", "let the user in no more; ends all sessions", cr_cmd_user_disable, NULL,
     false},
    {"enable", "NAME", "let a disabled user in again", cr_cmd_user_enable, NULL, false},
    {"remove", "NAME", "remove the account; ends all sessions", cr_cmd_user_remove, NULL, false},
    {0},
};

static const struct cr_command session_commands[] = {
    {"list", "USER", "the sessions of a user, newest first", cr_cmd_session_list, NULL, false},
    {"end", "ID | --user USER | --all", "end one, all of a user, or everybody's",
     cr_cmd_session_end, NULL, false},
    {"explain", "ID", "what became of a session", cr_cmd_session_explain, NULL, false},
    {0},
};

static const struct cr_command config_commands[] = {
    {"show", "", "every setting, its value, range and meaning (also without `show`)",
     cr_cmd_config_show, NULL, false},
    {"check", "", "whether the settings are right, and where each comes from", cr_cmd_config_check,
     NULL, false},
    {"example", "", "a settings file with every setting and its default", cr_cmd_config_example,
     NULL, false},
    {0},
};

static const struct cr_command limit_commands[] = {
    {"show", "", "the limits of log-ins, and what they have refused", cr_cmd_limit_show, NULL,
     false},
    {"explain", "[USER] [--address ADDR]", "what counts for an attempt, and when it may be made",
     cr_cmd_limit_explain, NULL, false},
    {"top", "", "who owes the most", cr_cmd_limit_top, NULL, false},
    {"reset", "[USER] [--address ADDR]", "forgive a user or an address", cr_cmd_limit_reset, NULL,
     false},
    {0},
};

static const struct cr_command key_commands[] = {
    {"list", "", "the keys, and from when until when each is used", cr_cmd_key_list, NULL, false},
    {"rotate", "", "make tokens with a new key; nobody is logged out", cr_cmd_key_rotate, NULL,
     false},
    {0},
};

static const struct cr_command commands[] = {
    {"serve", "", "serve log-ins and sessions over HTTP", cr_cmd_serve, NULL, !CR_SERVES},
    {"agent", "", "serve the applications of this host", cr_cmd_agent, NULL, false},
    {"user", "COMMAND", "accounts with passwords", NULL, user_commands, false},
    {"session", "COMMAND", "look at sessions, and end them", NULL, session_commands, false},
    {"limit", "COMMAND", "the limits of log-ins", NULL, limit_commands, false},
    {"key", "COMMAND", "the keys that tokens are made with", NULL, key_commands, false},
    {"backup", "FILE", "copy the store, also while it is in use", cr_cmd_backup, NULL, false},
    {"restore", "FILE", "make a store out of a backup", cr_cmd_restore, NULL, false},
    {"lock", "NAME -- COMMAND [ARGUMENT...]", "run a command while holding a named lock",
     cr_cmd_lock, NULL, false},
    {"config", "COMMAND", "show what can be set, and check a settings file", cr_cmd_config_show,
     config_commands, false},
    {"doctor", "", "what runs, what protects it, and what is wrong", cr_cmd_doctor, NULL, false},
    {"ops-worker", "", "", cr_cmd_worker, NULL, true},
    {"worker", "", "", cr_cmd_worker, NULL, true},
    {"version", "", "show the version", cr_cmd_version, NULL, false},
    {"help", "[COMMAND...]", "show what a command does", cr_cmd_help, NULL, false},
    {0},
};

const struct cr_command *cr_commands(void)
{
    return commands;
}

static size_t table_count(const struct cr_command *table)
{
    size_t count = 0;
    while (table[count].name != NULL)
        count++;
    return count;
}

static void usage_print(FILE *out, const struct cr_command *table, const char *before)
{
    char page[NAME_CHARS_MAX];
    fprintf(out, "Usage: %s COMMAND [ARGUMENT...]\n\n", before);
    for (const struct cr_command *c = table; c->name != NULL; c++)
        if (!c->is_hidden)
            fprintf(out, "  %-10s %s\n", c->name, c->summary);
    cr_command_page(before, page, sizeof page);
    fprintf(out, "\n`%s COMMAND --help` shows a command's options and examples.\n%s\n", before,
            page);
}

static bool asks_for_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "-?") == 0;
}

static int unknown_command(const struct cr_command *table, const char *before, const char *word)
{
    const char *near = word[0] == '-'
                           ? NULL
                           : cr_closest(word, &table[0].name, table_count(table), sizeof table[0]);
    if (near != NULL)
        cr_complain("there is no command '%s %s'; did you mean '%s %s'?", before, word, before,
                    near);
    else
        cr_complain("there is no command '%s %s'; '%s --help' lists them", before, word, before);
    return CR_EXIT_USAGE;
}

int cr_command_run(const struct cr_command *table, int argc, char **argv)
{
    if (argc < 2) {
        usage_print(stderr, table, argv[0]);
        return CR_EXIT_USAGE;
    }
    if (asks_for_help(argv[1]) || (strcmp(argv[1], "help") == 0 && table != commands)) {
        usage_print(stdout, table, argv[0]);
        return CR_EXIT_OK;
    }
    if (strcmp(argv[1], "--version") == 0 && table == commands)
        return cr_cmd_version(1, argv);
    const struct cr_command *found = table;
    while (found->name != NULL && strcmp(found->name, argv[1]) != 0)
        found++;
    if (found->name == NULL)
        return unknown_command(table, argv[0], argv[1]);
    char name[NAME_CHARS_MAX];
    snprintf(name, sizeof name, "%s %s", argv[0], found->name);
    char *kept = argv[1];
    argv[1] = name;
    bool is_named = argc > 2 && (argv[2][0] != '-' || asks_for_help(argv[2]));
    bool goes_below = found->below != NULL && (is_named || found->run == NULL);
    int exit_status = goes_below ? cr_command_run(found->below, argc - 1, argv + 1)
                                 : found->run(argc - 1, argv + 1);
    argv[1] = kept;
    return exit_status;
}

int cr_cmd_help(int argc, char **argv)
{
    char *words[8] = {(char[]){"cloakroom"}};
    int count = 1;
    for (int i = 1; i < argc && count < 6; i++)
        words[count++] = argv[i];
    words[count++] = (char[]){"--help"};
    return cr_command_run(commands, count, words);
}
