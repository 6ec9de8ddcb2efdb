/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The subcommands, in one table, and what they share: how arguments are read, how a store or its
 * agent is opened, what a failure looks like. A command's run gets its own name as argv[0]
 * ("cloakroom user add") and answers the exit status.
 */
#ifndef CMD_COMMAND_H
#define CMD_COMMAND_H

#include <argp.h>

#include <cloakroom/cloakroom.h>
#include <jansson.h>

#include "cmd/settings.h"

/* Exit statuses. The manual page has them too. */
#define CR_EXIT_OK 0
#define CR_EXIT_FAILED 1
#define CR_EXIT_USAGE 2
#define CR_EXIT_UNAVAILABLE 69 /* neither agent nor store can be asked now */
#define CR_EXIT_LOCK_LOST 74
#define CR_EXIT_LATER 75 /* busy, or not yet everywhere: try again */

/* The program that is in the Python package has no server. */
#ifdef CR_WITHOUT_SERVE
#define CR_SERVES false
#else
#define CR_SERVES true
#endif

struct cr_command {
    const char *name; /* NULL ends a table */
    const char *arguments;
    const char *summary;
    int (*run)(int argc, char **argv);
    const struct cr_command
        *below;     /* not NULL: `name` takes one of these; `run` when none is named */
    bool is_hidden; /* for our own processes, not for people */
};

const struct cr_command *cr_commands(void);

/* Runs what argv names in `table`. argv[0] is what stands before it ("cloakroom"). */
int cr_command_run(const struct cr_command *table, int argc, char **argv);

/* "`man cloakroom-user` says more.", for "cloakroom user add". */
void cr_command_page(const char *command, char *out, size_t capacity);

int cr_cmd_agent(int argc, char **argv);
int cr_cmd_backup(int argc, char **argv);
int cr_cmd_config_check(int argc, char **argv);
int cr_cmd_config_example(int argc, char **argv);
int cr_cmd_config_show(int argc, char **argv);
int cr_cmd_doctor(int argc, char **argv);
int cr_cmd_help(int argc, char **argv);
int cr_cmd_limit_explain(int argc, char **argv);
int cr_cmd_limit_reset(int argc, char **argv);
int cr_cmd_limit_show(int argc, char **argv);
int cr_cmd_limit_top(int argc, char **argv);
int cr_cmd_lock(int argc, char **argv);
int cr_cmd_serve(int argc, char **argv);
int cr_cmd_key_list(int argc, char **argv);
int cr_cmd_key_rotate(int argc, char **argv);
int cr_cmd_restore(int argc, char **argv);
int cr_cmd_session_end(int argc, char **argv);
int cr_cmd_session_explain(int argc, char **argv);
int cr_cmd_session_list(int argc, char **argv);
int cr_cmd_user_add(int argc, char **argv);
int cr_cmd_user_disable(int argc, char **argv);
int cr_cmd_user_enable(int argc, char **argv);
int cr_cmd_user_import(int argc, char **argv);
int cr_cmd_user_list(int argc, char **argv);
int cr_cmd_user_passwd(int argc, char **argv);
int cr_cmd_user_remove(int argc, char **argv);
int cr_cmd_user_reset(int argc, char **argv);
int cr_cmd_version(int argc, char **argv);
int cr_cmd_worker(int argc, char **argv);

/*
 * A command's arguments: options of its own, options that settings have, and words.
 * cr_form_read ends the process for --help and for what cannot be understood, with a guess at what
 * a mistyped option was meant to be. Commands with `settings` read the settings file that --config
 * names, or CR_SETTINGS_FILE where it exists; the environment outweighs it, and options both.
 */
struct cr_form {
    const char *words_text;      /* "NAME", for --help */
    const char *text;            /* what it does; after a \v what comes below the options */
    int words_least, words_most; /* words_most -1: any number */
    const char *const *settings; /* rows whose options it takes, NULL at the end; NULL: none */
    bool takes_json;             /* --json */
    bool takes_bad_settings;     /* sees to settings_status itself */
    const struct argp_option *options; /* its own, and who reads them; may be NULL */
    argp_parser_t parser;              /* gets `input` of cr_form_read */
};

struct cr_place {
    struct cr_settings settings; /* as far as they are right */
    enum cr_status settings_status;
    struct cr_error settings_error;
    struct cr_settings_wrong settings_wrong; /* that, and all else that is wrong with them */
    const char *config;                      /* NULL: not said */
    const char *given[CR_SETTINGS_MAX];      /* by row: what its option said; NULL: nothing */
    bool json;
    char **words;
    int word_count;
};

void cr_form_read(const struct cr_form *form, int argc, char **argv, struct cr_place *place,
                  void *input);

/* Defaults, file, environment, and the options as they were given: what comes later outweighs.
 * *out_settings is written also when something is wrong: the rest of it.
 * Again, when a file was changed. */
CR_MUST_CHECK enum cr_status cr_place_settings(const struct cr_place *place,
                                               struct cr_settings *out_settings,
                                               struct cr_settings_wrong *wrong,
                                               struct cr_error *out_error);

/* Only the options, over what there is. */
CR_MUST_CHECK enum cr_status cr_place_options(const struct cr_place *place,
                                              struct cr_settings *settings,
                                              struct cr_settings_wrong *wrong,
                                              struct cr_error *out_error);
/* Each on standard error. */
void cr_settings_wrong_complain(const struct cr_settings_wrong *wrong);
/* SIGHUP: each to the log, with that the settings stay as they were. */
void cr_settings_wrong_log(const struct cr_settings_wrong *wrong);

/* To the log: what SIGHUP has changed, and what is to be restarted for. Both as
 * cr_settings_take_over writes them. */
void cr_place_changes_say(const char *taken, const char *restart);

/* For struct cr_form: where a store and its agent are. */
extern const char *const cr_place_rows[];

/* The place's store and the directory of its agent's sockets, by their settings or by default.
 * False, and said why. *out_url may be that of an agent's socket; *out_state is empty then. */
CR_MUST_CHECK bool cr_place_find(const struct cr_place *place, char *out_url, size_t url_capacity,
                                 char *out_state, size_t state_capacity);
/* The same, and makes no directory for a store that nobody has named. */
CR_MUST_CHECK bool cr_place_where(const struct cr_place *place, char *out_url, size_t url_capacity,
                                  char *out_state, size_t state_capacity);

/* Opens the operator's door of the agent that serves the place; where none runs, the store itself.
 * Says on standard error why it failed. *out_exit is what to exit with then. NULL: it failed. */
struct cr_room *cr_place_open(const struct cr_place *place, int *out_exit);

/* "cloakroom: TEXT" on standard error. */
void cr_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same for a failed call, and the exit status for it. `what` says what was tried. */
int cr_fail(const char *what, enum cr_status status);

/* Text for terminals and JSON. A user that is not clean UTF-8 is percent-encoded. */
#define CR_USER_SHOWN_BYTES (3 * CR_USER_BYTES_MAX + 1)
void cr_user_show(const struct cr_user *user, char out[CR_USER_SHOWN_BYTES]);
#define CR_TIME_SHOWN_BYTES 32
void cr_time_show(cr_time_ms time,
                  char out[CR_TIME_SHOWN_BYTES]); /* "2026-01-31 12:00:00Z"; 0: "-" */
json_t *cr_time_json(cr_time_ms time);            /* NULL for 0 */
/* As many as this process may have: for those that wait for events, and none that uses select(2).
 */
void cr_descriptors_raise(void);
/* For a process that holds keys: no core dump of it, and nobody but root looks into it. */
void cr_secrets_keep(void);
/* Prints and frees. The exit status. */
int cr_json_print(json_t *json);

/* A user from an argument. False, and said why: not one, or the text of a session id or token. */
CR_MUST_CHECK bool cr_user_argument(const char *text, struct cr_user *out_user);

#endif
