/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Facts for `cloakroom doctor`: everything that asks the system. What cannot be seen stays unknown,
 * and is not held against anybody.
 */
#include "cmd/doctor.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <linux/landlock.h>

#include "agent/agent.h"
#include "base/bytes.h"
#include "coord/checks.h"
#include "room/room.h"
#include "server/server.h"
#include "store/sqlite_lock.h"
#include "store/sqlite_log.h"

#define TEXT_BYTES_MAX 8192
#define ANSWER_MS 2000 /* so long a running agent may take */
#define SOCKET_URL "cloakroom://"
#define SQLITE_URL "sqlite://"
#define LOOK_AGAIN_NS 200000000L

/* ---- small files of the kernel's */

/* Up to `capacity` - 1 bytes, ended. 0 when it cannot be read. */
static size_t text_read(const char *path, char *out, size_t capacity)
{
    size_t length = 0;
    ssize_t got;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    out[0] = '\0';
    if (fd < 0)
        return 0;
    while (length < capacity - 1 && (got = read(fd, out + length, capacity - 1 - length)) > 0)
        length += (size_t)got;
    close(fd);
    out[length] = '\0';
    return length;
}

/* The number behind `label` at the beginning of a line; "unlimited" and "max" are no limit. */
static long long number_after(const char *text, const char *label)
{
    size_t length = strlen(label);
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, label, length) != 0)
            continue;
        const char *at = line + length + strspn(line + length, " \t");
        if (strncmp(at, "unlimited", 9) == 0 || strncmp(at, "max", 3) == 0)
            return CR_DOCTOR_NO_LIMIT;
        char *end;
        errno = 0;
        long long number = strtoll(at, &end, 10);
        return end == at || errno != 0 || number < 0 ? CR_DOCTOR_UNKNOWN : number;
    }
    return CR_DOCTOR_UNKNOWN;
}

static long long kibibytes_after(const char *text, const char *label)
{
    long long number = number_after(text, label);
    return number < 0 || number > LLONG_MAX / 1024 ? CR_DOCTOR_UNKNOWN : number * 1024;
}

/* By number where nobody is to wait for a directory of users, as after a start. */
static void user_name(const struct cr_doctor_facts *facts, long uid,
                      char out[CR_DOCTOR_NAME_CHARS_MAX + 1])
{
    const struct passwd *known =
        uid < 0 || facts->agent == CR_DOCTOR_NOT_ASKED ? NULL : getpwuid((uid_t)uid);
    if (known == NULL)
        snprintf(out, CR_DOCTOR_NAME_CHARS_MAX + 1, "%ld", uid);
    else
        cr_label_copy(out, CR_DOCTOR_NAME_CHARS_MAX + 1, known->pw_name, strlen(known->pw_name));
}

static long long limit_of(int resource)
{
    struct rlimit limit;
    if (getrlimit((__rlimit_resource_t)resource, &limit) != 0)
        return CR_DOCTOR_UNKNOWN;
    return limit.rlim_cur == RLIM_INFINITY ? CR_DOCTOR_NO_LIMIT : (long long)limit.rlim_cur;
}

/* ---- files */

static void file_look(const char *path, struct cr_doctor_file *out)
{
    struct stat info;
    memset(out, 0, sizeof *out);
    out->uid = -1;
    if (snprintf(out->path, sizeof out->path, "%s", path) >= (int)sizeof out->path)
        out->error = ENAMETOOLONG;
    else if (stat(path, &info) != 0)
        out->error = errno;
    if (out->error != 0)
        return;
    out->type = info.st_mode & S_IFMT;
    out->mode = info.st_mode & 07777;
    out->uid = (long)info.st_uid;
    out->bytes = (long long)info.st_size;
    out->changed = (cr_time_ms)info.st_mtim.tv_sec * 1000;
}

static void file_in_look(const char *directory, const char *name, struct cr_doctor_file *out)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", directory, name) < (int)sizeof path)
        file_look(path, out);
    else
        *out = (struct cr_doctor_file){.error = ENAMETOOLONG, .uid = -1};
}

/* ---- the store */

static enum cr_doctor_store kind_of(const char *url)
{
    if (strncmp(url, SQLITE_URL, strlen(SQLITE_URL)) == 0)
        return CR_DOCTOR_SQLITE;
    if (strncmp(url, "memory:", 7) == 0)
        return CR_DOCTOR_MEMORY;
    return strncmp(url, "cloakroom:", 10) == 0 ? CR_DOCTOR_SOCKET : CR_DOCTOR_OTHER;
}

static bool begins_as_sqlite(const char *path)
{
    static const char magic[16] = "SQLite format 3";
    char first[sizeof magic];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return true; /* that it cannot be read is said elsewhere */
    ssize_t count = read(fd, first, sizeof first);
    close(fd);
    return count == 0 ||
           (count == (ssize_t)sizeof first && memcmp(first, magic, sizeof magic) == 0);
}

/* Whether somebody has PATH-lock, which is looked at and not taken. */
static void lock_look(const char *path, struct cr_doctor_facts *facts)
{
    char name[PATH_MAX];
    char text[32] = "";
    if (snprintf(name, sizeof name, "%s-lock", path) >= (int)sizeof name)
        return;
    int fd = open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return;
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
    facts->store_is_locked = fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
    if (facts->store_is_locked && pread(fd, text, sizeof text - 1, 0) > 0)
        facts->store_holder = strtol(text, NULL, 10);
    close(fd);
}

static void sqlite_look(const char *given, struct cr_doctor_facts *facts)
{
    char parent[PATH_MAX];
    char *path = NULL;
    struct cr_error error = {.size = sizeof error};
    struct statvfs space;
    if (cr_sqlite_path(given, &path, &error) != CR_OK)
        path = strdup(given);
    if (path == NULL || strlen(path) >= sizeof parent)
        goto out;
    memcpy(parent, path, strlen(path) + 1);
    file_look(path, &facts->store_file);
    file_look(dirname(parent), &facts->store_directory);
    facts->store_is_local = cr_sqlite_is_local(path, &error) != CR_E_REFUSED;
    if (!facts->store_is_local)
        snprintf(facts->store_error, sizeof facts->store_error, "%s", error.text);
    facts->store_is_sqlite = facts->store_file.error != 0 || begins_as_sqlite(path);
    facts->store_may_write = facts->store_file.error == 0
                                 ? access(path, R_OK | W_OK) == 0
                                 : access(facts->store_directory.path, W_OK | X_OK) == 0;
    if (statvfs(facts->store_directory.path, &space) == 0)
        facts->store_free = (long long)space.f_bavail * (long long)space.f_frsize;
    lock_look(path, facts);
out:
    free(path);
}

static void store_look(const char *url, struct cr_doctor_facts *facts)
{
    cr_url_show(url, facts->store, sizeof facts->store);
    facts->store_kind = kind_of(url);
    facts->store_free = CR_DOCTOR_UNKNOWN;
    facts->store_is_local = facts->store_is_sqlite = facts->store_may_write = true;
    if (facts->store_kind == CR_DOCTOR_SQLITE)
        sqlite_look(url + strlen(SQLITE_URL), facts);
}

/* ---- processes */

/* The words of a command line, each ended. Their count. */
static size_t command_read(long pid, char *text, size_t capacity, const char *words[], size_t most)
{
    char path[64];
    size_t count = 0;
    snprintf(path, sizeof path, "/proc/%ld/cmdline", pid);
    size_t length = text_read(path, text, capacity);
    for (size_t at = 0; at < length && count < most; at += strlen(text + at) + 1)
        words[count++] = text + at;
    return count;
}

/* `cloakroom WORD …` */
static bool is_ours(const char *const words[], size_t count, const char *word)
{
    if (count < 2 || strcmp(words[1], word) != 0)
        return false;
    const char *slash = strrchr(words[0], '/');
    return strcmp(slash == NULL ? words[0] : slash + 1, "cloakroom") == 0;
}

static long parent_of(long pid)
{
    char path[64];
    char text[TEXT_BYTES_MAX];
    snprintf(path, sizeof path, "/proc/%ld/status", pid);
    if (text_read(path, text, sizeof text) == 0)
        return 0;
    long long parent = number_after(text, "PPid:");
    return parent > 0 ? (long)parent : 0;
}

static void process_add(struct cr_doctor_facts *facts, enum cr_doctor_role role, long pid)
{
    char path[64];
    char text[TEXT_BYTES_MAX];
    if (pid <= 0 || facts->process_count == CR_DOCTOR_PROCESSES_MAX)
        return;
    struct cr_doctor_process *process = &facts->processes[facts->process_count++];
    *process = (struct cr_doctor_process){.role = role, .pid = pid, .uid = -1};
    snprintf(path, sizeof path, "/proc/%ld/status", pid);
    process->is_seen = text_read(path, text, sizeof text) > 0;
    process->uid = (long)number_after(text, "Uid:");
    process->seccomp = number_after(text, "Seccomp:");
    process->no_new_privileges = number_after(text, "NoNewPrivs:");
    process->locked_bytes = kibibytes_after(text, "VmLck:");
    user_name(facts, process->uid, process->user);
    snprintf(path, sizeof path, "/proc/%ld/limits", pid);
    (void)text_read(path, text, sizeof text);
    process->core_max = number_after(text, "Max core file size");
    process->locked_max = number_after(text, "Max locked memory");
    process->descriptors_max = number_after(text, "Max open files");
}

/* The supervisor above the agent, and the workers below that. */
static void server_look(struct cr_doctor_facts *facts)
{
    char path[64];
    char text[TEXT_BYTES_MAX];
    char line[TEXT_BYTES_MAX];
    const char *words[2] = {NULL};
    long supervisor = parent_of(facts->agent_pid);
    if (!is_ours(words, command_read(supervisor, line, sizeof line, words, 2), "serve"))
        return;
    process_add(facts, CR_DOCTOR_SUPERVISOR, supervisor);
    snprintf(path, sizeof path, "/proc/%ld/task/%ld/children", supervisor, supervisor);
    (void)text_read(path, text, sizeof text);
    char *at = text;
    for (long pid = strtol(at, &at, 10); pid > 0; pid = strtol(at, &at, 10)) {
        size_t count = command_read(pid, line, sizeof line, words, 2);
        if (is_ours(words, count, "worker"))
            process_add(facts, CR_DOCTOR_WORKER, pid);
        else if (is_ours(words, count, "ops-worker"))
            process_add(facts, CR_DOCTOR_OPS_WORKER, pid);
    }
}

/* Agents of other directories, as far as their command lines say where. */
static void others_look(struct cr_doctor_facts *facts)
{
    char line[TEXT_BYTES_MAX];
    const char *words[32] = {NULL};
    DIR *processes = opendir("/proc");
    const struct dirent *entry;
    while (processes != NULL && (entry = readdir(processes)) != NULL) {
        long pid = strtol(entry->d_name, NULL, 10);
        size_t count = pid <= 0 ? 0 : command_read(pid, line, sizeof line, words, 32);
        if (!is_ours(words, count, "agent") || facts->other_count == CR_DOCTOR_OTHERS_MAX)
            continue;
        for (size_t i = 2; i + 1 < count; i++) {
            if (strcmp(words[i], "--state") != 0 || strcmp(words[i + 1], facts->state) == 0)
                continue;
            facts->others[facts->other_count].pid = pid;
            cr_label_copy(facts->others[facts->other_count].state, PATH_MAX, words[i + 1],
                          strlen(words[i + 1]));
            facts->other_count++;
            break;
        }
    }
    if (processes != NULL)
        closedir(processes);
}

/* ---- the agent */

static void stats_ask(const char *socket, struct cr_doctor_facts *facts)
{
    char url[PATH_MAX + 64];
    struct cr_options options;
    struct cr_error error = {.size = sizeof error};
    struct cr_room *room = NULL;
    cr_options_init(&options);
    options.mode = CR_MODE_ATTACH;
    options.timeout = ANSWER_MS;
    facts->stats.size = sizeof facts->stats;
    snprintf(url, sizeof url, SOCKET_URL "%s", socket);
    enum cr_status st = cr_open(url, &options, &room, &error);
    if (st == CR_OK)
        st = cr_stats(room, &facts->stats);
    cr_close(room);
    facts->has_stats = st == CR_OK;
    facts->agent = st == CR_OK ? CR_DOCTOR_ANSWERS : CR_DOCTOR_SILENT;
    if (st != CR_OK)
        snprintf(facts->agent_error, sizeof facts->agent_error, "%s",
                 error.text[0] != '\0' ? error.text : cr_status_text(st));
}

/* Who listens is what the kernel says. */
static void agent_ask(const char *socket, struct cr_doctor_facts *facts)
{
    struct ucred peer = {0};
    socklen_t bytes = sizeof peer;
    int fd = -1;
    enum cr_status st = cr_agent_connect(socket, &fd);
    if (st != CR_OK) {
        facts->agent = st == CR_DENIED ? CR_DOCTOR_FORBIDDEN
                       : st == CR_BUSY ? CR_DOCTOR_SILENT
                                       : CR_DOCTOR_NO_AGENT;
        snprintf(facts->agent_error, sizeof facts->agent_error, "it takes no connection");
        return;
    }
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) == 0)
        facts->agent_pid = (long)peer.pid;
    close(fd);
    stats_ask(socket, facts);
}

/* The settings of the agent's file as they stand there now. A file that a process of another user
 * names is not read: that one could name any. */
static bool file_settings_read(const struct cr_place *place, struct cr_doctor_facts *facts,
                               struct cr_settings *out_settings)
{
    char here[PATH_MAX] = "";
    struct cr_place their = *place;
    struct cr_settings_wrong wrong;
    struct cr_error error = {.size = sizeof error};
    *out_settings = place->settings;
    if (facts->config.path[0] != '\0' && realpath(facts->config.path, here) == NULL)
        return false;
    if (strcmp(here, facts->about.config) == 0)
        return facts->settings_status == CR_OK;
    if (place->config != NULL || facts->about.config[0] != '/' || facts->process_count == 0 ||
        facts->processes[0].uid != facts->uid)
        return false;
    their.config = facts->about.config;
    file_look(their.config, &facts->config);
    facts->settings_status = cr_place_settings(&their, out_settings, &wrong, &error);
    snprintf(facts->settings_error, sizeof facts->settings_error, "%s", error.text);
    return facts->settings_status == CR_OK;
}

/* Which settings the file has other than the agent. */
static void changes_look(const struct cr_place *place, struct cr_doctor_facts *facts)
{
    struct cr_settings settings;
    size_t rows;
    size_t length = 0;
    const struct cr_setting *table = cr_setting_rows(&rows);
    if (!file_settings_read(place, facts, &settings))
        return;
    for (size_t i = 0; i < rows; i++) {
        char ours[CR_SETTING_TEXT_CHARS_MAX + 1];
        char theirs[CR_SETTING_TEXT_CHARS_MAX + 1];
        enum cr_origin_kind kind = facts->about.settings.origins[i].kind;
        if (table[i].kind == CR_SETTING_URL || strcmp(table[i].name, "agent.state") == 0 ||
            kind == CR_ORIGIN_ENVIRONMENT || kind == CR_ORIGIN_OPTION ||
            settings.origins[i].kind == CR_ORIGIN_ENVIRONMENT || place->given[i] != NULL)
            continue;
        cr_setting_show(&settings, i, ours, sizeof ours);
        cr_setting_show(&facts->about.settings, i, theirs, sizeof theirs);
        if (strcmp(ours, theirs) != 0 && length < sizeof facts->changed)
            length += (size_t)snprintf(facts->changed + length, sizeof facts->changed - length,
                                       "%s%s", length == 0 ? "" : ", ", table[i].name);
    }
}

static void settings_look(const struct cr_place *place, struct cr_doctor_facts *facts)
{
    const char *config = place->config;
    if (config == NULL && access(CR_SETTINGS_FILE, F_OK) == 0)
        config = CR_SETTINGS_FILE;
    if (config != NULL && strcmp(config, "/dev/null") != 0)
        file_look(config, &facts->config);
    facts->settings_status = place->settings_status;
    if (place->settings_status != CR_OK)
        snprintf(facts->settings_error, sizeof facts->settings_error, "%s",
                 place->settings_error.text);
    facts->settings = place->settings;
}

static void agent_look(const struct cr_doctor_question *question, struct cr_doctor_facts *facts)
{
    char socket[PATH_MAX + 32];
    bool is_door = facts->store_kind == CR_DOCTOR_SOCKET;
    if (is_door)
        snprintf(socket, sizeof socket, "%s", question->store + strlen(SOCKET_URL));
    else
        snprintf(socket, sizeof socket, "%s/%s", facts->state, CR_AGENT_OPERATOR_SOCKET);
    facts->agent_pid = question->agent_pid;
    if (question->agent_pid == 0)
        agent_ask(socket, facts);
    if (facts->agent == CR_DOCTOR_NO_AGENT || facts->agent == CR_DOCTOR_FORBIDDEN)
        return;
    cr_about_read(facts->state, &facts->about);
    facts->about.is_known =
        facts->about.is_known && (facts->agent_pid == 0 || facts->about.pid == facts->agent_pid);
    process_add(facts, CR_DOCTOR_AGENT, facts->agent_pid);
    if (facts->agent_pid != 0)
        server_look(facts);
    if (!facts->about.is_known)
        return;
    changes_look(question->place, facts);
    facts->settings = facts->about.settings;
    if (facts->settings.ops_socket[0] != '\0')
        file_look(facts->settings.ops_socket, &facts->sockets[3]);
}

/* Once it is known which process is the agent, whose reads are short. */
static void log_look(struct cr_doctor_facts *facts)
{
    struct cr_sqlite_log log;
    struct cr_sqlite_log later = {.holder = 0};
    if (facts->store_kind != CR_DOCTOR_SQLITE)
        return;
    cr_sqlite_log_look(facts->store_file.path, facts->agent_pid, &log);
    if (log.holder > 0) { /* most reads are short: twice the same one holds it */
        (void)nanosleep(&(struct timespec){.tv_nsec = LOOK_AGAIN_NS}, NULL);
        cr_sqlite_log_look(facts->store_file.path, facts->agent_pid, &later);
    }
    facts->store_log = log.bytes;
    facts->store_reader = log.holder == later.holder ? log.holder : 0;
}

static void state_look(const struct cr_doctor_question *question, struct cr_doctor_facts *facts)
{
    static const char *const names[] = {CR_AGENT_OPERATOR_SOCKET, CR_AGENT_HTTP_SOCKET,
                                        CR_AGENT_APP_SOCKET, CR_SERVER_OPS_SOCKET};
    _Static_assert(sizeof names / sizeof names[0] ==
                       sizeof facts->sockets / sizeof facts->sockets[0],
                   "each has its place");
    snprintf(facts->state, sizeof facts->state, "%s", question->state);
    if (facts->store_kind == CR_DOCTOR_SOCKET && facts->state[0] == '\0') {
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s", question->store + strlen(SOCKET_URL));
        snprintf(facts->state, sizeof facts->state, "%s", dirname(path));
    }
    file_look(facts->state, &facts->state_directory);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        file_in_look(facts->state, names[i], &facts->sockets[i]);
}

/* ---- the host */

static void host_look(struct cr_doctor_facts *facts)
{
    char text[TEXT_BYTES_MAX];
    struct timex clock = {0};
    struct cr_check_facts above = {0};
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    facts->landlock = version > 0 ? version : 0;
    /* EFAULT: it would, had there been a filter. */
    facts->has_seccomp = prctl(PR_SET_SECCOMP, 2L, NULL) != 0 && errno == EFAULT;
    (void)text_read("/proc/meminfo", text, sizeof text);
    facts->memory_free = kibibytes_after(text, "MemAvailable:");
    facts->huge_pages = number_after(text, "HugePages_Free:");
    facts->huge_page_bytes = kibibytes_after(text, "Hugepagesize:");
    facts->memory_max = text_read("/sys/fs/cgroup/memory.max", text, sizeof text) == 0
                            ? CR_DOCTOR_UNKNOWN
                            : number_after(text, "");
    facts->locked_max = limit_of(RLIMIT_MEMLOCK);
    facts->descriptors_max = limit_of(RLIMIT_NOFILE);
    facts->now = (cr_time_ms)time(NULL) * 1000;
    facts->clock_is_set = adjtimex(&clock) >= 0 ? (clock.status & STA_UNSYNC) == 0 : true;
    if (cr_check_facts_gather(&above) == CR_OK) {
        facts->declared_processes =
            above.command_workers > 0 ? above.command_workers : above.environment_workers;
        facts->declared_by = above.command_workers > 0 ? above.server : above.environment_name;
    }
}

void cr_doctor_gather(const struct cr_doctor_question *question, struct cr_doctor_facts *out_facts)
{
    memset(out_facts, 0, sizeof *out_facts);
    ssize_t length = readlink("/proc/self/exe", out_facts->program, sizeof out_facts->program - 1);
    out_facts->program[length > 0 ? length : 0] = '\0';
    out_facts->uid = (long)geteuid();
    if (question->agent_pid != 0)
        out_facts->agent = CR_DOCTOR_NOT_ASKED;
    user_name(out_facts, out_facts->uid, out_facts->user);
    settings_look(question->place, out_facts);
    store_look(question->store, out_facts);
    state_look(question, out_facts);
    agent_look(question, out_facts);
    log_look(out_facts);
    if (question->agent_pid == 0)
        others_look(out_facts);
    host_look(out_facts);
}
