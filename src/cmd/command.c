/* SPDX-License-Identifier: Apache-2.0 */
/* What the subcommands share. */
#include "cmd/command.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "agent/agent.h"
#include "base/bytes.h"
#include "base/log.h"
#include "cmd/closest.h"
#include "room/room.h"

#define PATH_CHARS_MAX 512

/* ---- saying */

void cr_complain(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("cloakroom: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

static int exit_of(enum cr_status status)
{
    switch (status) {
    case CR_OK:
        return CR_EXIT_OK;
    case CR_UNAVAILABLE:
        return CR_EXIT_UNAVAILABLE;
    case CR_PENDING:
    case CR_BUSY:
    case CR_E_UNKNOWN_OUTCOME:
        return CR_EXIT_LATER;
    case CR_ASK:
    case CR_NOT_FOUND:
    case CR_ENDED:
    case CR_DENIED:
    case CR_CONFLICT:
    case CR_UNKNOWN_USER:
    case CR_LIMITED:
    case CR_PASSWORD_SHORT:
    case CR_PASSWORD_COMMON:
    case CR_PASSWORD_KNOWN:
    case CR_CHANGE_FIRST:
    case CR_LOST:
    case CR_E_INVALID:
    case CR_E_IO:
    case CR_E_CORRUPT:
    case CR_E_NO_MEMORY:
    case CR_E_LIMIT:
    case CR_E_VERSION:
    case CR_E_REFUSED:
    case CR_E_PROTOCOL:
        return CR_EXIT_FAILED;
    }
    return CR_EXIT_FAILED;
}

int cr_fail(const char *what, enum cr_status status)
{
    cr_complain("%s: %s", what, cr_status_text(status));
    return exit_of(status);
}

void cr_user_show(const struct cr_user *user, char out[CR_USER_SHOWN_BYTES])
{
    size_t length = 0;
    bool clean = cr_text_is_clean(user->bytes, user->length);
    for (size_t i = 0; i < user->length; i++) {
        unsigned char c = user->bytes[i];
        if (clean || (c > ' ' && c < 127 && c != '%'))
            out[length++] = (char)c;
        else
            length += (size_t)sprintf(out + length, "%%%02X", c);
    }
    out[length] = '\0';
}

void cr_time_show(cr_time_ms time, char out[CR_TIME_SHOWN_BYTES])
{
    time_t seconds = (time_t)(time / 1000);
    struct tm parts;
    if (time == 0 || gmtime_r(&seconds, &parts) == NULL ||
        strftime(out, CR_TIME_SHOWN_BYTES, "%Y-%m-%d %H:%M:%SZ", &parts) == 0)
        memcpy(out, "-", 2);
}

json_t *cr_time_json(cr_time_ms time)
{
    char text[CR_TIME_SHOWN_BYTES];
    if (time == 0)
        return json_null();
    cr_time_show(time, text);
    text[10] = 'T';
    return json_string(text);
}

void cr_descriptors_raise(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

void cr_secrets_keep(void)
{
#ifndef CR_SANITIZED /* looks into its own process at the end, as a debugger does */
    const struct rlimit none = {0, 0};
    (void)setrlimit(RLIMIT_CORE, &none);
    (void)prctl(PR_SET_DUMPABLE, 0);
#endif
}

int cr_json_print(json_t *json)
{
    bool failed = json == NULL || json_dumpf(json, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII) != 0;
    putchar('\n');
    json_decref(json);
    if (failed && !ferror(stdout)) { /* that is told at the end, see main.c */
        cr_complain("no memory for the answer");
        return CR_EXIT_FAILED;
    }
    return CR_EXIT_OK;
}

bool cr_user_argument(const char *text, struct cr_user *out_user)
{
    struct cr_session_id id;
    struct cr_token token;
    size_t length = strlen(text);
    if (cr_user_parse(text, length, out_user) == CR_OK)
        return true;
    if (cr_session_id_parse(text, length, &id) == CR_OK)
        cr_complain("'%s' is the id of a session, and a user is meant", text);
    else if (cr_token_parse(text, length, &token) == CR_OK)
        cr_complain("that is the token of a session, and a user is meant");
    else
        cr_complain("a user's name has 1 to %d bytes, and does not look like a session's",
                    CR_USER_BYTES_MAX);
    return false;
}

/* ---- arguments */

#define OPTIONS_MAX 64
enum { KEY_CONFIG = 0x400, KEY_JSON, KEY_ROW }; /* KEY_ROW + number of a row */

const char *const cr_place_rows[] = {"store.url", "agent.state", NULL};

struct form_input {
    const struct cr_form *form;
    struct cr_place *place;
    void *input;
    const char *command; /* "cloakroom user add" */
};

static bool option_is_known(const struct argp_option *options, const char *word, size_t length)
{
    for (const struct argp_option *o = options; o != NULL && o->name != NULL; o++)
        if (strncmp(o->name, word, length) == 0)
            return true;
    return strncmp("help", word, length) == 0 || strncmp("usage", word, length) == 0;
}

/* argp only says that it does not know. */
static void option_check(const struct argp_option *ours, const struct argp_option *theirs,
                         const char *command, const char *word)
{
    const char *names[OPTIONS_MAX + 2] = {"help"};
    char typed[64];
    size_t count = 1;
    size_t length = strcspn(word, "=");
    if (length == 0 || length >= sizeof typed || option_is_known(ours, word, length) ||
        option_is_known(theirs, word, length))
        return;
    memcpy(typed, word, length);
    typed[length] = '\0';
    for (const struct argp_option *o = ours; o->name != NULL && count < OPTIONS_MAX; o++)
        names[count++] = o->name;
    for (const struct argp_option *o = theirs; o != NULL && o->name != NULL && count < OPTIONS_MAX;
         o++)
        names[count++] = (o->flags & OPTION_HIDDEN) != 0 ? NULL : o->name;
    const char *near = cr_closest(typed, names, count, sizeof names[0]);
    if (near == NULL)
        return;
    cr_complain("'%s' has no option --%s; did you mean --%s?", command, typed, near);
    exit(CR_EXIT_USAGE);
}

/* NOLINTNEXTLINE(readability-non-const-parameter): argp says what it is */
static error_t form_parse(int key, char *argument, struct argp_state *state)
{
    struct form_input *in = state->input;
    struct cr_place *place = in->place;
    const struct cr_form *form = in->form;
    switch (key) {
    case ARGP_KEY_INIT:
        if (form->parser != NULL)
            state->child_inputs[0] = in->input;
        return 0;
    case KEY_CONFIG:
        place->config = argument;
        return 0;
    case KEY_JSON:
        place->json = true;
        return 0;
    case ARGP_KEY_ARGS:
        place->words = state->argv + state->next;
        place->word_count = state->argc - state->next;
        return 0;
    case ARGP_KEY_END:
        if (place->word_count < form->words_least)
            argp_error(state, "something is missing: %s", form->words_text);
        if (form->words_most >= 0 && place->word_count > form->words_most)
            argp_error(state, "what is '%s' for?", place->words[form->words_most]);
        return 0;
    default:
        if (key < KEY_ROW || key >= KEY_ROW + CR_SETTINGS_MAX)
            return ARGP_ERR_UNKNOWN;
        place->given[key - KEY_ROW] = argument;
        return 0;
    }
}

static bool form_takes(const struct cr_form *form, const char *row)
{
    for (const char *const *name = form->settings; name != NULL && *name != NULL; name++)
        if (strcmp(*name, row) == 0)
            return true;
    return false;
}

/* The options that a form takes from the table of settings, and those that many have. */
static void form_options(const struct cr_form *form, struct argp_option out[OPTIONS_MAX])
{
    size_t row_count;
    size_t count = 0;
    const struct cr_setting *rows = cr_setting_rows(&row_count);
    for (size_t i = 0; i < row_count; i++)
        if (rows[i].option != NULL && form_takes(form, rows[i].name))
            out[count++] = (struct argp_option){.name = rows[i].option,
                                                .key = KEY_ROW + (int)i,
                                                .arg = rows[i].value,
                                                .doc = rows[i].text};
    if (form->settings != NULL)
        out[count++] = (struct argp_option){.name = "config",
                                            .key = KEY_CONFIG,
                                            .arg = "FILE",
                                            .doc = "settings file, instead of " CR_SETTINGS_FILE
                                                   "; options outweigh it"};
    if (form->takes_json)
        out[count++] = (struct argp_option){
            .name = "json", .key = KEY_JSON, .doc = "answer in JSON, on standard output"};
    out[count] = (struct argp_option){0};
}

void cr_command_page(const char *command, char *out, size_t capacity)
{
    const char *word = strchr(command, ' ');
    size_t length = word == NULL ? 0 : strcspn(word + 1, " ");
    bool has_page = word != NULL && strcmp(word, " version") != 0 && strcmp(word, " help") != 0;
    snprintf(out, capacity, "`man cloakroom%s%.*s` says more.", has_page ? "-" : "",
             has_page ? (int)length : 0, has_page ? word + 1 : "");
}

/* What argp prints below everything else. It frees the text. */
static char *form_help(int key, const char *text, void *input)
{
    const struct form_input *in = input;
    char page[128];
    union { /* argp's text goes back as it came, and its declaration is older than const */
        const char *given;
        char *back;
    } kept = {text};
    if (key != ARGP_KEY_HELP_EXTRA || in == NULL)
        return kept.back;
    cr_command_page(in->command, page, sizeof page);
    return strdup(page);
}

void cr_form_read(const struct cr_form *form, int argc, char **argv, struct cr_place *place,
                  void *input)
{
    struct argp_option options[OPTIONS_MAX];
    struct form_input in = {form, place, input, argv[0]};
    form_options(form, options);
    struct argp own = {.options = form->options, .parser = form->parser};
    struct argp_child children[2] = {{.argp = form->parser == NULL ? NULL : &own}};
    struct argp argp = {.options = options,
                        .parser = form_parse,
                        .args_doc = form->words_text,
                        .doc = form->text,
                        .help_filter = form_help,
                        .children = children};
    memset(place, 0, sizeof *place);
    argp_err_exit_status = CR_EXIT_USAGE;
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strncmp(argv[i], "--", 2) == 0)
            option_check(options, form->options, argv[0], argv[i] + 2);
    if (argp_parse(&argp, argc, argv, 0, NULL, &in) != 0)
        exit(CR_EXIT_USAGE);
    place->settings_error = (struct cr_error){.size = sizeof place->settings_error};
    cr_settings_init(&place->settings);
    if (form->settings != NULL)
        place->settings_status = cr_place_settings(place, &place->settings, &place->settings_wrong,
                                                   &place->settings_error);
    if (place->settings_status != CR_OK && !form->takes_bad_settings) {
        cr_settings_wrong_complain(&place->settings_wrong);
        exit(CR_EXIT_USAGE);
    }
}

/* A process's arguments are for everybody to see. */
static enum cr_status option_secret_check(const struct cr_setting *row, const char *value,
                                          struct cr_error *out_error)
{
    if (row->kind != CR_SETTING_URL || !cr_url_has_password(value))
        return CR_OK;
    return cr_setting_refuse(out_error,
                             "--%s: there is a password in it, and arguments are seen by everybody "
                             "on this host: put %s into a settings file with mode 0600, and name "
                             "it with --config",
                             row->option, row->name);
}

void cr_settings_wrong_complain(const struct cr_settings_wrong *wrong)
{
    for (size_t i = 0; i < wrong->count; i++)
        cr_complain("%s", wrong->text[i]);
    if (wrong->more)
        cr_complain("there is more wrong: these are the first %zu", wrong->count);
}

void cr_settings_wrong_log(const struct cr_settings_wrong *wrong)
{
    for (size_t i = 0; i < wrong->count; i++)
        cr_log(CR_LOG_ERROR, "the settings stay as they were: %s", wrong->text[i]);
    if (wrong->more)
        cr_log(CR_LOG_ERROR, "there is more wrong with them: these are the first %zu",
               wrong->count);
}

enum cr_status cr_place_options(const struct cr_place *place, struct cr_settings *settings,
                                struct cr_settings_wrong *wrong, struct cr_error *out_error)
{
    struct cr_error error = {.size = sizeof error};
    static const struct cr_setting_origin origin = {CR_ORIGIN_OPTION, 0};
    size_t row_count;
    const struct cr_setting *rows = cr_setting_rows(&row_count);
    enum cr_status st = CR_OK;
    for (size_t i = 0; (st == CR_OK || wrong != NULL) && i < row_count; i++) {
        if (place->given[i] == NULL)
            continue;
        if (option_secret_check(&rows[i], place->given[i], &error) != CR_OK ||
            cr_setting_put(settings, i, place->given[i], origin, &error) != CR_OK)
            st = cr_settings_wrong_add(wrong, st, &error, out_error);
    }
    return st;
}

enum cr_status cr_place_settings(const struct cr_place *place, struct cr_settings *out_settings,
                                 struct cr_settings_wrong *wrong, struct cr_error *out_error)
{
    struct cr_settings settings;
    struct cr_error error = {.size = sizeof error};
    const char *config = place->config;
    cr_settings_init(&settings);
    wrong->count = 0;
    wrong->more = false;
    if (config == NULL && access(CR_SETTINGS_FILE, F_OK) == 0)
        config = CR_SETTINGS_FILE;
    /* Each adds what is wrong: the first of all that is the answer. */
    (void)!(config == NULL ? CR_OK : cr_settings_read(&settings, config, wrong, &error));
    if (cr_settings_credentials(&settings, getenv("CREDENTIALS_DIRECTORY"), &error) != CR_OK)
        (void)!cr_settings_wrong_add(wrong, CR_OK, &error, out_error);
    (void)!cr_settings_environment(&settings, environ, wrong, &error);
    (void)!cr_place_options(place, &settings, wrong, &error);
    (void)!cr_settings_finish(&settings, wrong, &error);
    *out_settings = settings;
    if (wrong->count == 0)
        return CR_OK;
    out_error->status = CR_E_INVALID;
    memcpy(out_error->text, wrong->text[0], sizeof out_error->text);
    return CR_E_INVALID;
}

void cr_place_changes_say(const char *taken, const char *restart)
{
    if (taken[0] != '\0')
        cr_log(CR_LOG_INFO, "taken over from the settings: %s", taken);
    if (restart[0] != '\0')
        cr_log(CR_LOG_WARN, "changed in the settings, and to be restarted for: %s", restart);
}

/* ---- opening */

/* Each directory of `path` that is missing. */
static bool directories_make(char *path)
{
    for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        bool failed = mkdir(path, 0700) != 0 && errno != EEXIST;
        *slash = '/';
        if (failed)
            return false;
    }
    return mkdir(path, 0700) == 0 || errno == EEXIST;
}

/* The store that is meant when none is named: below the user's state directory. */
static bool default_store(bool makes, char *out_url, size_t capacity)
{
    char path[PATH_CHARS_MAX];
    const char *state = getenv("XDG_STATE_HOME");
    const char *home = getenv("HOME");
    int length = 0;
    if (geteuid() == 0)
        length = snprintf(path, sizeof path, "/var/lib/cloakroom");
    else if (state != NULL && state[0] == '/')
        length = snprintf(path, sizeof path, "%s/cloakroom", state);
    else if (home != NULL && home[0] == '/')
        length = snprintf(path, sizeof path, "%s/.local/state/cloakroom", home);
    if (length <= 0 || length >= (int)sizeof path ||
        snprintf(out_url, capacity, "sqlite://%s/cloakroom.db", path) >= (int)capacity)
        return false;
    return !makes || directories_make(path);
}

/* cloakroom:///PATH: whoever names the socket has said which door. */
static bool is_socket_url(const char *url)
{
    return strncmp(url, "cloakroom:", 10) == 0;
}

static struct cr_room *open_failed(const struct cr_error *error, enum cr_status status,
                                   int *out_exit)
{
    cr_complain("%s", error->text[0] != '\0' ? error->text : cr_status_text(status));
    *out_exit = status == CR_E_INVALID ? CR_EXIT_USAGE : exit_of(status); /* the URL */
    return NULL;
}

static struct cr_room *open_socket(const char *url, int *out_exit)
{
    struct cr_options options;
    struct cr_error error = {.size = sizeof error};
    struct cr_room *room = NULL;
    cr_options_init(&options);
    options.mode = CR_MODE_ATTACH;
    enum cr_status st = cr_open(url, &options, &room, &error);
    return st == CR_OK ? room : open_failed(&error, st, out_exit);
}

static struct cr_room *open_direct(const char *url, const char *state, const char *realm,
                                   int *out_exit)
{
    struct cr_options options;
    struct cr_error error = {.size = sizeof error};
    struct cr_room *room = NULL;
    if (strncmp(url, "memory:", 7) == 0) {
        cr_complain("%s lives in its agent, and none runs in %s", url, state);
        *out_exit = CR_EXIT_UNAVAILABLE;
        return NULL;
    }
    cr_options_init(&options);
    options.mode = CR_MODE_DIRECT;
    options.cache = CR_CACHE_NONE;
    options.declared_workers = 1; /* this is the one, whatever the environment is for */
    options.realm = realm;
    enum cr_status st = cr_open(url, &options, &room, &error);
    if (st == CR_OK)
        return room;
    (void)open_failed(&error, st, out_exit);
    if (st == CR_BUSY || st == CR_E_REFUSED)
        cr_complain(
            "no agent answers in %s; if one serves this store elsewhere, name its directory "
            "with --state",
            state);
    return NULL;
}

static bool place_find(const struct cr_place *place, bool makes, char *out_url, size_t url_capacity,
                       char *out_state, size_t state_capacity)
{
    snprintf(out_url, url_capacity, "%s", place->settings.store);
    snprintf(out_state, state_capacity, "%s", place->settings.state);
    if (out_url[0] == '\0' && !default_store(makes, out_url, url_capacity)) {
        cr_complain("which store? Name it with --store URL");
        return false;
    }
    if (is_socket_url(out_url)) {
        out_state[0] = '\0';
        return true;
    }
    if (out_state[0] == '/')
        return true;
    if (out_state[0] != '\0') {
        cr_complain("'%s' is not the path of a directory, from / on", out_state);
        return false;
    }
    enum cr_status st = cr_state_directory(out_url, out_state, state_capacity);
    if (st == CR_OK)
        return true;
    char shown[CR_SETTING_TEXT_CHARS_MAX + 1];
    cr_url_show(out_url, shown, sizeof shown);
    if (st == CR_E_INVALID)
        cr_complain("'%s' is not the URL of a store; sqlite:///PATH is one", shown);
    else
        cr_complain("no place for the sockets of %s: name a directory with --state", shown);
    return false;
}

bool cr_place_find(const struct cr_place *place, char *out_url, size_t url_capacity,
                   char *out_state, size_t state_capacity)
{
    return place_find(place, true, out_url, url_capacity, out_state, state_capacity);
}

bool cr_place_where(const struct cr_place *place, char *out_url, size_t url_capacity,
                    char *out_state, size_t state_capacity)
{
    return place_find(place, false, out_url, url_capacity, out_state, state_capacity);
}

struct cr_room *cr_place_open(const struct cr_place *place, int *out_exit)
{
    char url[CR_SETTING_TEXT_CHARS_MAX + 1];
    char state[PATH_CHARS_MAX];
    char door[PATH_CHARS_MAX + 64];
    int fd = -1;
    *out_exit = CR_EXIT_USAGE;
    if (!cr_place_find(place, url, sizeof url, state, sizeof state))
        return NULL;
    if (state[0] == '\0')
        return open_socket(url, out_exit);
    int length = snprintf(door, sizeof door, "cloakroom://%s/%s", state, CR_AGENT_OPERATOR_SOCKET);
    if (length >= (int)(strlen("cloakroom://") + sizeof((struct sockaddr_un *)NULL)->sun_path)) {
        cr_complain("%s: too long for the name of a socket; choose a shorter --state", state);
        return NULL;
    }
    /* Only to see whether anybody is there. */
    enum cr_status st = cr_agent_connect(door + strlen("cloakroom://"), &fd);
    if (st == CR_OK) {
        close(fd);
        return open_socket(door, out_exit);
    }
    if (st == CR_UNAVAILABLE)
        return open_direct(url, state, place->settings.realm, out_exit);
    cr_complain("%s: %s", door, cr_status_text(st));
    *out_exit = exit_of(st);
    return NULL;
}
