/* SPDX-License-Identifier: Apache-2.0 */
/* `cloakroom serve`: from settings to a supervisor, and the first account. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/agent.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/manager.h"
#include "cmd/command.h"
#include "cmd/doctor.h"
#include "cmd/secret.h"
#include "server/listen.h"
#include "server/server.h"

#define FIRST_FILE "first-password"
#define AGENT_ARGUMENTS_MAX 16
#define METRICS_SOCKET "metrics" /* FileDescriptorName= of the one for /metrics */

struct serving {
    struct cr_place place;
    struct cr_settings running, next; /* next: read, and not in force yet */
    char packed[64 * 1024];           /* those that run, for the agent */
    char taken[CR_SETTINGS_NAMES_BYTES],
        restart[CR_SETTINGS_NAMES_BYTES]; /* in what next differs */
    char store[CR_SETTING_TEXT_CHARS_MAX + 1];
    char state[PATH_MAX];
    char config[PATH_MAX];
    char ops_socket[PATH_MAX + 16];
    char listen[CR_SETTING_TEXT_CHARS_MAX + 1]; /* cut up at its commas */
    const char *addresses[CR_SERVER_LISTEN_MAX];
    struct cr_manager manager;
    int sockets[CR_SERVER_LISTEN_MAX]; /* that are open already, at their addresses; -1: none */
    char socket_texts[CR_MANAGER_SOCKETS_MAX][64];
    struct cr_child_user agent_user, worker_user;
    char user_names[2][64];
    size_t address_count;
};

/* ---- the first account */

static const char *policy_sentence(const struct cr_setting_policy *policy)
{
    switch (policy->policy) {
    case CR_POLICY_REPLACE:
        return "Logging in ends the same user's earlier sessions, on every device.";
    case CR_POLICY_KEEP:
        return "Logging in leaves the same user's earlier sessions alone.";
    case CR_POLICY_KEEP_N:
        return "Logging in ends the same user's oldest sessions, once there are too many.";
    }
    return "";
}

/* What other commands are to be told so that they find this store. */
static void where_write(const struct serving *s, char *out, size_t capacity)
{
    size_t count;
    int length = 0;
    const struct cr_setting *rows = cr_setting_rows(&count);
    out[0] = '\0';
    if (s->place.config != NULL)
        length = snprintf(out, capacity, " --config %s", s->place.config);
    for (size_t i = 0; i < count; i++)
        if (s->place.given[i] != NULL && length >= 0 && (size_t)length < capacity &&
            (strcmp(rows[i].name, "store.url") == 0 || strcmp(rows[i].name, "agent.state") == 0))
            length += snprintf(out + length, capacity - (size_t)length, " --%s %s", rows[i].option,
                               s->place.given[i]);
}

/* A secret is in no log (ASVS H5), and what is no terminal may well be one: then it is in a file
 * that its owner can read, and the path is said. */
static bool first_file(const struct serving *s, const struct cr_secret *secret, char *path,
                       size_t capacity)
{
    int length = snprintf(path, capacity, "%s/%s", s->state, FIRST_FILE);
    if (length < 0 || (size_t)length >= capacity)
        return false;
    (void)unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        cr_complain("%s: %s", path, strerror(errno));
        return false;
    }
    bool is_written = dprintf(fd, "%.*s\n", (int)secret->bytes, (const char *)secret->text) ==
                      (int)secret->bytes + 1;
    if (close(fd) != 0 || !is_written) {
        cr_complain("%s: cannot be written", path);
        (void)unlink(path);
        return false;
    }
    return true;
}

/* Nobody needs it any more. */
static void first_file_remove(const struct serving *s)
{
    char path[PATH_MAX + 32];
    if (snprintf(path, sizeof path, "%s/%s", s->state, FIRST_FILE) < (int)sizeof path)
        (void)unlink(path);
}

/* `file` NULL: the password itself. */
static void first_print(const struct serving *s, const struct cr_secret *secret, const char *file)
{
    const struct cr_settings *settings = &s->place.settings;
    char where[2 * PATH_MAX];
    where_write(s, where, sizeof where);
    printf("\nThis store is new. Its first account:\n\n"
           "    address   http://%s/\n"
           "    user      %s\n",
           s->addresses[0], settings->first_user);
    if (file == NULL)
        printf("    password  %.*s\n", (int)secret->bytes, (const char *)secret->text);
    else
        printf("    password  in the file %s\n", file);
    printf("\nThe password is good once and for 15 minutes: the first log-in asks for another.\n"
           "Later, this makes a new one:\n\n"
           "    cloakroom user passwd %s --temporary%s\n\n"
           "%s\n"
           "(on_login; `--on-login keep` or `keep N` changes it.)\n\n",
           settings->first_user, where, policy_sentence(&settings->on_login));
    fflush(stdout);
}

/* Whether there is nobody who could log in yet: no account, or only the first, whose password has
 * run out before it was used. */
static enum cr_status first_is_wanted(struct cr_room *room, const struct cr_user *user,
                                      bool *out_is_there, bool *out_is_open, bool *out_is_wanted)
{
    struct cr_account accounts[2] = {{.size = sizeof accounts[0]}, {.size = sizeof accounts[1]}};
    size_t count = 0;
    enum cr_status st = cr_account_list(room, NULL, accounts, 2, &count);
    *out_is_there = count == 1 && cr_user_equal(&accounts[0].user, user);
    *out_is_open = *out_is_there && accounts[0].must_change;
    *out_is_wanted = st == CR_OK && (count == 0 || (*out_is_open && accounts[0].password_over));
    return st;
}

static enum cr_status first_add(const struct serving *s, struct cr_room *room)
{
    const char *name = s->place.settings.first_user;
    char path[PATH_MAX + 32];
    const char *file = isatty(STDOUT_FILENO) ? NULL : path;
    struct cr_secret secret = {0};
    struct cr_user user;
    bool is_there = false;
    bool is_open = false;
    bool is_wanted = false;
    enum cr_status st = cr_user_parse(name, strlen(name), &user);
    if (st == CR_OK)
        st = first_is_wanted(room, &user, &is_there, &is_open, &is_wanted);
    if (st != CR_OK)
        return st;
    if (!is_wanted) {
        if (!is_open)
            first_file_remove(s);
        return CR_OK;
    }
    st = cr_secret_make(&secret);
    /* Before the account: what cannot be told must not be set. */
    if (st == CR_OK && file != NULL && !first_file(s, &secret, path, sizeof path))
        st = CR_E_IO;
    if (st == CR_OK)
        st = is_there ? cr_account_password_once(room, &user, secret.text, secret.bytes,
                                                 CR_FIRST_PASSWORD_MS)
                      : cr_account_add_once(room, &user, secret.text, secret.bytes,
                                            CR_FIRST_PASSWORD_MS);
    if (st == CR_OK)
        first_print(s, &secret, file);
    else if (file != NULL)
        first_file_remove(s);
    cr_secret_wipe(&secret);
    return st == CR_CONFLICT ? CR_OK : st; /* somebody was quicker */
}

static int first_account(const struct serving *s)
{
    struct cr_options options;
    struct cr_error error = {.size = sizeof error};
    struct cr_room *room = NULL;
    char door[PATH_MAX + 64];
    cr_options_init(&options);
    options.mode = CR_MODE_ATTACH;
    snprintf(door, sizeof door, "cloakroom://%s/%s", s->state, CR_AGENT_OPERATOR_SOCKET);
    enum cr_status st = cr_open(door, &options, &room, &error);
    if (st != CR_OK)
        cr_complain("%s", error.text);
    else if ((st = first_add(s, room)) != CR_OK)
        (void)cr_fail("the first account", st);
    cr_close(room);
    return st == CR_OK ? 0 : 1;
}

/* In a process of its own: the supervisor sees no passwords. */
static bool agent_ready(void *context)
{
    int status = 0;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0)
        _exit(first_account(context));
    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
           WEXITSTATUS(status) == 0;
}

/* ---- serving */

/* From what can be seen from outside: this process asks the agent for nothing, so that no user's
 * data comes in. */
static void serving_say(void *context)
{
    const struct serving *s = context;
    struct cr_about *about = malloc(sizeof *about);
    if (about == NULL)
        return;
    cr_about_read(s->state, about);
    if (about->is_known)
        cr_doctor_log(&s->place, s->store, s->state, about->pid);
    free(about);
}

static bool address_add(struct serving *s, const char *text, int open)
{
    if (s->address_count == CR_SERVER_LISTEN_MAX) {
        cr_complain("server.listen takes at most %d addresses", CR_SERVER_LISTEN_MAX);
        return false;
    }
    s->sockets[s->address_count] = open;
    s->addresses[s->address_count++] = text;
    return true;
}

/* The address of a socket that the service manager has opened. */
static bool socket_address(struct serving *s, size_t index)
{
    struct cr_listen_address address;
    const struct cr_manager_socket *handed = &s->manager.sockets[index];
    if (cr_listen_address_of(handed->fd, &address) != CR_OK) {
        cr_complain("descriptor %d, which was handed over, is not a TCP socket that listens: "
                    "cloakroom.socket takes ListenStream=ADDRESS:PORT",
                    handed->fd);
        return false;
    }
    cr_listen_text(&address, s->socket_texts[index], sizeof s->socket_texts[index]);
    return true;
}

/* All but those for metrics. */
static bool addresses_inherit(struct serving *s)
{
    size_t found = 0;
    for (size_t i = 0; i < s->manager.socket_count; i++) {
        if (strcmp(s->manager.sockets[i].name, METRICS_SOCKET) == 0)
            continue;
        found++;
        if (!socket_address(s, i) || !address_add(s, s->socket_texts[i], s->manager.sockets[i].fd))
            return false;
    }
    if (found == 0)
        cr_complain("server.listen is systemd, and no socket was handed over: start it by "
                    "cloakroom.socket (systemctl enable --now cloakroom.socket), or name an "
                    "address such as 127.0.0.1:8080");
    return found > 0;
}

static bool is_said(const struct serving *s, const char *row)
{
    return s->place.settings.origins[cr_setting_find(row)].kind != CR_ORIGIN_DEFAULT;
}

static bool is_handed_over(const struct serving *s, bool for_metrics)
{
    for (size_t i = 0; i < s->manager.socket_count; i++)
        if ((strcmp(s->manager.sockets[i].name, METRICS_SOCKET) == 0) == for_metrics)
            return true;
    return false;
}

static void unused_say(const char *row)
{
    cr_complain("a socket that was handed over stays unused: %s names another address, and not "
                "systemd",
                row);
}

/* Sockets that are handed over are used where no other address was asked for. */
static bool addresses_cut(struct serving *s)
{
    char *rest = s->listen;
    bool handed_over = is_handed_over(s, false);
    bool is_used = false;
    if (handed_over && !is_said(s, "server.listen"))
        return addresses_inherit(s);
    memcpy(s->listen, s->place.settings.listen, sizeof s->listen);
    for (char *word = strsep(&rest, ","); word != NULL; word = strsep(&rest, ",")) {
        word += strspn(word, " ");
        word[strcspn(word, " ")] = '\0';
        bool inherits = strcmp(word, "systemd") == 0;
        if (inherits && is_used)
            continue;
        is_used = is_used || inherits;
        if (!(inherits ? addresses_inherit(s) : address_add(s, word, -1)))
            return false;
    }
    if (handed_over && !is_used)
        unused_say("server.listen");
    return true;
}

/* Where /metrics is. */
static bool monitor_find(struct serving *s, const char **out_listen, int *out_fd)
{
    const char *listen = s->place.settings.ops_listen;
    bool handed_over = is_handed_over(s, true);
    *out_fd = -1;
    *out_listen = listen[0] != '\0' ? listen : NULL;
    if (strcmp(listen, "systemd") != 0 && !(handed_over && *out_listen == NULL)) {
        if (handed_over)
            unused_say("ops.listen");
        return true;
    }
    for (size_t i = 0; i < s->manager.socket_count; i++) {
        if (strcmp(s->manager.sockets[i].name, METRICS_SOCKET) != 0)
            continue;
        *out_fd = s->manager.sockets[i].fd;
        *out_listen = s->socket_texts[i];
        return socket_address(s, i);
    }
    cr_complain("ops.listen is systemd, and no socket called " METRICS_SOCKET
                " was handed over: start it by cloakroom-metrics.socket, or name a loopback "
                "address such as 127.0.0.1:9464");
    return false;
}

/* False: said why. *out_user is NULL where no other user is asked for. */
static bool user_find(const char *row, const char *name, char *buffer, struct cr_child_user *user,
                      const struct cr_child_user **out_user)
{
    const struct passwd *found;
    *out_user = NULL;
    if (name[0] == '\0')
        return true;
    errno = 0;
    found = getpwnam(name);
    if (found == NULL) {
        cr_complain("%s: there is no user '%s' on this host", row, name);
        return false;
    }
    if (found->pw_uid == geteuid())
        return true;
    if (!cr_child_user_allowed()) {
        cr_complain("%s: only root, or who has CAP_SETUID and CAP_SETGID, can start processes as "
                    "'%s': start the server so, or leave this unset",
                    row, name);
        return false;
    }
    memcpy(buffer, name, strlen(name) + 1);
    *user = (struct cr_child_user){buffer, found->pw_uid, found->pw_gid};
    *out_user = user;
    return true;
}

/* Root makes the directory that the agent takes for its own only when it belongs to it. */
static bool state_give(const char *state, const struct cr_child_user *user)
{
    char parent[PATH_MAX];
    struct stat about;
    const char *slash = strrchr(state, '/');
    if (slash != NULL && slash != state) {
        snprintf(parent, sizeof parent, "%.*s", (int)(slash - state), state);
        (void)mkdir(parent, 0755);
    }
    if ((mkdir(state, 0700) == 0 || errno == EEXIST) && lstat(state, &about) == 0 &&
        S_ISDIR(about.st_mode) &&
        (about.st_uid == user->uid ||
         (about.st_uid == 0 && lchown(state, user->uid, user->gid) == 0)))
        return true;
    cr_complain("agent.user: cannot make %s a directory of '%s': name another with --state", state,
                user->name);
    return false;
}

/* What the agent is told: the file, and the options that outweigh it, also when it is read again.
 */
static void agent_arguments(const struct serving *s, const char *out[AGENT_ARGUMENTS_MAX])
{
    static const char *const rows[] = {"cache.kind", "cache.memory"};
    static const char *const options[] = {"--cache", "--cache-memory"};
    size_t count;
    size_t length = 0;
    const struct cr_setting *table = cr_setting_rows(&count);
    out[length++] = "--served";
    if (s->place.config != NULL) {
        out[length++] = "--config";
        out[length++] = s->place.config;
    }
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < 2; j++) {
            if (strcmp(table[i].name, rows[j]) == 0 && s->place.given[i] != NULL) {
                out[length++] = options[j];
                out[length++] = s->place.given[i];
            }
        }
    }
    out[length] = NULL;
}

/* Points into `settings`. */
static struct cr_server_settings settings_for_server(const struct cr_settings *settings)
{
    struct cr_networks proxies;
    const char *wrong = cr_networks_read(settings->proxies, &proxies);
    CR_ASSERT(wrong == NULL); /* cr_settings_finish has seen to that */
    return (struct cr_server_settings){.on_login = settings->on_login.policy,
                                       .keep_count = settings->on_login.keep_count,
                                       .idle = settings->idle,
                                       .absolute = settings->absolute,
                                       .clear_site_data = settings->clear_site_data,
                                       .proxies = proxies,
                                       .log_level = (enum cr_log_level)settings->log_level,
                                       .log_json = settings->log_json != 0};
}

/* SIGHUP. Here is known what the options outweigh; the agent reads the file for itself. */
static bool serve_reload(void *context, struct cr_server_settings *out_settings)
{
    struct serving *s = context;
    struct cr_settings settings;
    struct cr_error error = {.size = sizeof error};
    struct cr_settings_wrong wrong;
    if (cr_place_settings(&s->place, &settings, &wrong, &error) != CR_OK) {
        cr_settings_wrong_log(&wrong);
        return false;
    }
    s->next = s->running;
    cr_settings_take_over(&s->next, &settings, NULL, s->taken, s->restart, sizeof s->taken);
    *out_settings = settings_for_server(&s->next);
    return true;
}

static void serve_reloaded(void *context, bool taken)
{
    struct serving *s = context;
    if (!taken)
        return;
    s->running = s->next;
    bool packed = cr_settings_pack(&s->running, s->packed, sizeof s->packed);
    CR_ASSERT(packed); /* it has room for the longest of each */
    cr_log_open("serve", (enum cr_log_level)s->running.log_level, s->running.log_json != 0);
    cr_place_changes_say(s->taken, s->restart);
    cr_log(CR_LOG_INFO, "settings read anew");
}

int cr_cmd_serve(int argc, char **argv)
{
    static const char *const rows[] = {"server.listen",
                                       "server.workers",
                                       "server.behind_tls",
                                       "store.url",
                                       "agent.state",
                                       "cache.kind",
                                       "cache.memory",
                                       "session.on_login",
                                       "ops.socket",
                                       "ops.listen",
                                       NULL};
    static const struct cr_form form = {
        .text =
            "Serve log-ins and sessions over HTTP. The first start makes the user admin "
            "(login.first_user) with a one-time password. SIGHUP reads the settings file again, "
            "SIGTERM ends it "
            "after the requests under way."
            "\vExamples:\n  cloakroom serve\n"
            "  cloakroom serve --listen 127.0.0.1:8080 --store sqlite:///srv/app.db --workers 4\n"
            "  cloakroom serve --config /srv/app.conf\n\n"
            "`cloakroom config` shows all settings.",
        .settings = rows};
    static struct serving s; /* large, and there until the end */
    const char *arguments[AGENT_ARGUMENTS_MAX];
    cr_manager_take(&s.manager);
    cr_form_read(&form, argc, argv, &s.place, NULL);
    const struct cr_settings *settings = &s.place.settings;
    if (s.place.config != NULL && realpath(s.place.config, s.config) != NULL)
        s.place.config = s.config;
    if (!addresses_cut(&s) ||
        !cr_place_find(&s.place, s.store, sizeof s.store, s.state, sizeof s.state))
        return CR_EXIT_USAGE;
    if (s.state[0] == '\0') {
        cr_complain("serve needs the store itself, not the socket of an agent");
        return CR_EXIT_USAGE;
    }
    const struct cr_child_user *agent_user;
    const struct cr_child_user *worker_user;
    if (!user_find("agent.user", settings->agent_user, s.user_names[0], &s.agent_user,
                   &agent_user) ||
        !user_find("server.user", settings->server_user, s.user_names[1], &s.worker_user,
                   &worker_user) ||
        (agent_user != NULL && !state_give(s.state, agent_user)))
        return CR_EXIT_USAGE;
    s.running = *settings;
    if (!cr_settings_pack(&s.running, s.packed, sizeof s.packed)) {
        cr_complain("the settings are too much to be handed to the agent");
        return CR_EXIT_USAGE;
    }
    agent_arguments(&s, arguments);
    cr_log_open("serve", (enum cr_log_level)settings->log_level, settings->log_json != 0);
    struct cr_server_options options = {.listen = s.addresses,
                                        .listen_count = s.address_count,
                                        .listen_fds = s.sockets,
                                        .manager = &s.manager,
                                        .agent_user = agent_user,
                                        .worker_user = worker_user,
                                        .workers = (unsigned)settings->workers,
                                        .store = s.store,
                                        .state = s.state,
                                        .agent_arguments = arguments,
                                        .agent_settings = s.packed,
                                        .settings = settings_for_server(settings),
                                        .reload = serve_reload,
                                        .reloaded = serve_reloaded,
                                        .behind_tls = settings->behind_tls != 0,
                                        .connections_max = (unsigned)settings->connections,
                                        .agent_ready = agent_ready,
                                        .serving = serving_say,
                                        .context = &s};
    snprintf(s.ops_socket, sizeof s.ops_socket, "%s/%s", s.state, CR_SERVER_OPS_SOCKET);
    options.ops_socket = settings->ops_socket[0] != '\0' ? settings->ops_socket : s.ops_socket;
    options.ops_socket_mode = (unsigned)settings->ops_socket_mode;
    if (!monitor_find(&s, &options.ops_listen, &options.ops_listen_fd))
        return CR_EXIT_USAGE;
    cr_descriptors_raise();
    return cr_server_main(&options);
}
