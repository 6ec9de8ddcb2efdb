/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Findings from facts. Pure. One function for each matter, which says what is well in one finding,
 * or what is not, in as many as it takes, each with its way out.
 *
 * "Wrong" is what breaks a promise, lets somebody in who should not be, or ends in a failure; a
 * note is what is weaker or other than it could be, and may be meant so.
 */
#include "cmd/doctor.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/agent.h"
#include "base/assert.h"
#include "base/bytes.h"
#include "store/sqlite_log.h"

#define MIB (1024LL * 1024)
#define HASH_BYTES (46 * MIB)      /* of one password that is hashed */
#define LOCKED_LEAST (64 * 1024LL) /* the keys, in whole pages, and something on top */
#define DISK_WRONG (16 * MIB)
#define DISK_NOTE (256 * MIB)
#define DESCRIPTORS_BESIDE 64       /* that are not connections */
#define CLOCK_LEAST 1767225600000LL /* 2026-01-01: nobody had this program before */
#define CLOCK_AHEAD_MS 120000

const char *cr_doctor_level_name(enum cr_doctor_level level)
{
    switch (level) {
    case CR_DOCTOR_OK:
        return "ok";
    case CR_DOCTOR_NOTE:
        return "note";
    case CR_DOCTOR_WRONG:
        return "wrong";
    }
    return "?";
}

const char *cr_doctor_role_name(enum cr_doctor_role role)
{
    switch (role) {
    case CR_DOCTOR_SUPERVISOR:
        return "supervisor";
    case CR_DOCTOR_AGENT:
        return "agent";
    case CR_DOCTOR_WORKER:
        return "worker";
    case CR_DOCTOR_OPS_WORKER:
        return "ops worker";
    }
    return "?";
}

size_t cr_doctor_count(const struct cr_doctor_report *report, enum cr_doctor_level level)
{
    size_t count = 0;
    for (size_t i = 0; i < report->count; i++)
        count += report->findings[i].level == level;
    return count;
}

void cr_doctor_bytes_show(long long bytes, char out[CR_BYTES_SHOWN])
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;
    double shown = (double)bytes;
    while (shown >= 1024 && unit + 1 < sizeof units / sizeof units[0]) {
        shown /= 1024;
        unit++;
    }
    bool is_whole = unit == 0 || shown >= 100 || shown == (double)(long long)shown;
    snprintf(out, CR_BYTES_SHOWN, is_whole ? "%.0f %s" : "%.1f %s", shown, units[unit]);
}

/* ---- saying */

struct judge {
    const struct cr_doctor_facts *facts;
    struct cr_doctor_report *report;
    const char *area;
};

/* Whatever stands in a name that is quoted, one finding is one line of clean text. */
static struct cr_doctor_finding *finding_add(struct judge *j, enum cr_doctor_level level,
                                             const char *code)
{
    CR_ASSERT(j->report->count < CR_DOCTOR_FINDINGS_MAX);
    struct cr_doctor_finding *finding = &j->report->findings[j->report->count++];
    *finding = (struct cr_doctor_finding){.level = level, .code = code, .area = j->area};
    return finding;
}

static void clean_write(char *out, size_t capacity, const char *format, va_list arguments)
    __attribute__((format(printf, 3, 0)));
static void clean_write(char *out, size_t capacity, const char *format, va_list arguments)
{
    char text[2 * PATH_MAX];
    vsnprintf(text, sizeof text, format, arguments);
    for (char *at = text; *at != '\0'; at++)
        if (*at == '\n')
            *at = ' ';
    cr_label_copy(out, capacity, text, strlen(text));
}

static struct cr_doctor_finding *say(struct judge *j, enum cr_doctor_level level, const char *code,
                                     const char *format, ...) __attribute__((format(printf, 4, 5)));
static struct cr_doctor_finding *say(struct judge *j, enum cr_doctor_level level, const char *code,
                                     const char *format, ...)
{
    va_list arguments;
    struct cr_doctor_finding *finding = finding_add(j, level, code);
    va_start(arguments, format);
    clean_write(finding->text, sizeof finding->text, format, arguments);
    va_end(arguments);
    return finding;
}

static void mend(struct cr_doctor_finding *finding, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void mend(struct cr_doctor_finding *finding, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    clean_write(finding->fix, sizeof finding->fix, format, arguments);
    va_end(arguments);
}

/* A path as a word of a command that can be copied. */
#define WORD_BYTES (PATH_MAX + 16)
static const char *word_of(const char *path, char out[WORD_BYTES])
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "/._-+,:@%=";
    size_t length = 0;
    if (path[strspn(path, plain)] == '\0') {
        snprintf(out, WORD_BYTES, "%s", path);
        return out;
    }
    out[length++] = '\'';
    for (const char *at = path; *at != '\0' && length + 6 < WORD_BYTES; at++) {
        if (*at == '\'')
            length += (size_t)snprintf(out + length, WORD_BYTES - length, "'\\''");
        else
            out[length++] = *at;
    }
    out[length++] = '\'';
    out[length] = '\0';
    return out;
}

/* ---- who may do what with a file */

static const struct cr_doctor_process *process_of(const struct cr_doctor_facts *facts,
                                                  enum cr_doctor_role role)
{
    for (size_t i = 0; i < facts->process_count; i++)
        if (facts->processes[i].role == role)
            return &facts->processes[i];
    return NULL;
}

static bool agent_is_seen(const struct cr_doctor_facts *facts)
{
    const struct cr_doctor_process *agent = process_of(facts, CR_DOCTOR_AGENT);
    return agent != NULL && agent->uid >= 0;
}

/* Who is to have the files: the agent's user. Where none runs, whose the store is says who that
 * will be; and without a store, who asks. */
static long owner_of(const struct cr_doctor_facts *facts)
{
    if (agent_is_seen(facts))
        return process_of(facts, CR_DOCTOR_AGENT)->uid;
    bool has_store = facts->store_kind == CR_DOCTOR_SQLITE && facts->store_file.path[0] != '\0' &&
                     facts->store_file.error == 0;
    return has_store ? facts->store_file.uid : facts->uid;
}

/* ---- settings */

static void settings_judge(struct judge *j)
{
    const struct cr_doctor_facts *facts = j->facts;
    const struct cr_doctor_file *file = &facts->config;
    char word[WORD_BYTES];
    j->area = "settings";
    if (facts->settings_status != CR_OK)
        mend(say(j, CR_DOCTOR_WRONG, "settings-bad", "%s", facts->settings_error),
             "mend it; `cloakroom config check` tells when it is right");
    if (file->path[0] == '\0') {
        if (facts->settings_status == CR_OK)
            say(j, CR_DOCTOR_OK, "settings", "they are right; there is no settings file");
        return;
    }
    if (file->error != 0)
        return; /* then they are bad */
    word_of(file->path, word);
    bool is_open = (file->mode & S_IWOTH) != 0;
    if (is_open)
        mend(say(j, CR_DOCTOR_WRONG, "settings-mode",
                 "everybody on this host may change %s (mode %04o)", file->path, file->mode),
             "chmod o-w %s", word);
    else if ((file->mode & S_IWGRP) != 0)
        mend(say(j, CR_DOCTOR_NOTE, "settings-mode", "its group may change %s (mode %04o)",
                 file->path, file->mode),
             "unless that is meant: chmod g-w %s", word);
    if (file->uid != 0 && file->uid != owner_of(facts) && file->uid != facts->uid)
        mend(say(j, CR_DOCTOR_WRONG, "settings-owner", "%s belongs to another user (uid %ld)",
                 file->path, file->uid),
             "chown root %s", word);
    else if (!is_open && facts->settings_status == CR_OK)
        say(j, CR_DOCTOR_OK, "settings", "they are right, and nobody else may change %s",
            file->path);
    if (facts->changed[0] != '\0')
        mend(say(j, CR_DOCTOR_NOTE, "settings-changed",
                 "the file was changed since the agent read it: %s", facts->changed),
             "send SIGHUP to take over what can change while running; restart for the rest");
}

/* ---- the store */

static void store_modes_judge(struct judge *j)
{
    const struct cr_doctor_facts *facts = j->facts;
    const struct cr_doctor_file *file = &facts->store_file, *directory = &facts->store_directory;
    char word[WORD_BYTES];
    bool is_well = true;
    if (file->error == 0 && (file->mode & 077) != 0) {
        is_well = false;
        bool everybody = (file->mode & 07) != 0;
        mend(say(j, everybody ? CR_DOCTOR_WRONG : CR_DOCTOR_NOTE, "store-mode",
                 "%s may read %s, password hashes and keys included (mode %04o)",
                 everybody ? "everybody on this host" : "its group", file->path, file->mode),
             "chmod 600 %s", word_of(file->path, word));
    }
    if (file->error == 0 && file->uid != owner_of(facts)) {
        is_well = false;
        mend(say(j, CR_DOCTOR_WRONG, "store-owner",
                 "%s belongs to uid %ld, and the agent is uid %ld", file->path, file->uid,
                 owner_of(facts)),
             "chown %ld %s", owner_of(facts), word_of(file->path, word));
    }
    if (directory->error == 0 && (directory->mode & S_IWOTH) != 0) {
        is_well = false;
        bool sticky = (directory->mode & S_ISVTX) != 0;
        struct cr_doctor_finding *finding =
            say(j, sticky ? CR_DOCTOR_NOTE : CR_DOCTOR_WRONG, "store-directory",
                "everybody may write to %s, where the store is (mode %04o)%s", directory->path,
                directory->mode, sticky ? "" : ": a store of theirs could take its place");
        if (sticky)
            mend(finding, "keep it in a directory of its own");
        else
            mend(finding, "chmod o-w %s", word_of(directory->path, word));
    }
    if (is_well && file->error == 0)
        say(j, CR_DOCTOR_OK, "store-mode", "only its owner may read it");
}

static void store_space_judge(struct judge *j)
{
    char shown[CR_BYTES_SHOWN];
    const struct cr_doctor_facts *facts = j->facts;
    if (facts->store_free < 0 || facts->store_free >= DISK_NOTE)
        return;
    cr_doctor_bytes_show(facts->store_free, shown);
    bool is_wrong = facts->store_free < DISK_WRONG;
    mend(say(j, is_wrong ? CR_DOCTOR_WRONG : CR_DOCTOR_NOTE, "store-space",
             "%s are left on the file system of the store: with none, nobody can log in or be "
             "ended",
             shown),
         "make room there");
}

static void store_log_judge(struct judge *j)
{
    char shown[CR_BYTES_SHOWN];
    const struct cr_doctor_facts *facts = j->facts;
    /* Large and held by nobody, it is used again from its beginning. */
    if (facts->store_log < CR_SQLITE_LOG_LARGE || facts->store_reader == 0)
        return;
    cr_doctor_bytes_show((long long)facts->store_log, shown);
    mend(say(j, CR_DOCTOR_WRONG, "store-log",
             "its write-ahead log is %s and grows: process %ld has a read of the store open", shown,
             facts->store_reader),
         "let it go on (kill -CONT %ld) or end it (kill %ld): a backup begins anew",
         facts->store_reader, facts->store_reader);
}

/* False: it is of no use, and there is nothing more to look at. */
static bool store_use_judge(struct judge *j)
{
    const struct cr_doctor_facts *facts = j->facts;
    const struct cr_doctor_file *file = &facts->store_file, *directory = &facts->store_directory;
    char word[WORD_BYTES];
    word_of(directory->path, word);
    if (!facts->store_is_local)
        mend(say(j, CR_DOCTOR_WRONG, "CR-106", "%.700s", facts->store_error),
             "move it to a local disk");
    else if (directory->error == ENOENT)
        mend(say(j, CR_DOCTOR_WRONG, "store-missing", "its directory %s is not there",
                 directory->path),
             "mkdir -m 700 %s, as the user that the agent is", word);
    else if (directory->error != 0)
        mend(say(j, CR_DOCTOR_WRONG, "store-access", "its directory %s: %s", directory->path,
                 strerror(directory->error)),
             "let the agent's user into %s", word);
    else if (file->error == 0 && file->type != S_IFREG)
        mend(say(j, CR_DOCTOR_WRONG, "store-damaged", "%s is not a file", file->path),
             "name another with --store");
    else if (!facts->store_is_sqlite)
        mend(say(j, CR_DOCTOR_WRONG, "store-damaged", "%s is not an SQLite database", file->path),
             "name another with --store, or put a backup in its place while no agent runs");
    else if (!facts->store_may_write && facts->uid == owner_of(facts))
        mend(say(j, CR_DOCTOR_WRONG, "store-access", "user %s may not write to %s", facts->user,
                 file->error == 0 ? file->path : directory->path),
             "make it that user's, or run the agent as its owner");
    else
        return true;
    return false;
}

static void store_holder_judge(struct judge *j)
{
    const struct cr_doctor_facts *facts = j->facts;
    if (!facts->store_is_locked || facts->agent != CR_DOCTOR_NO_AGENT)
        return;
    struct cr_doctor_finding *finding =
        say(j, CR_DOCTOR_WRONG, "store-held",
            "process %ld has the store, and no agent answers in %s: others cannot use it",
            facts->store_holder, facts->state);
    for (size_t i = 0; i < facts->other_count; i++)
        if (facts->others[i].pid == facts->store_holder) {
            mend(finding, "that is the agent of another directory: --state %s",
                 facts->others[i].state);
            return;
        }
    mend(finding, "name the directory of that process with --state, or end it");
}

static void store_judge(struct judge *j)
{
    const struct cr_doctor_facts *facts = j->facts;
    j->area = "store";
    switch (facts->store_kind) {
    case CR_DOCTOR_SQLITE:
        break;
    case CR_DOCTOR_MEMORY:
        mend(say(j, CR_DOCTOR_NOTE, "store-memory",
                 "%s ends with its agent, and all sessions with it", facts->store),
             "unless that is meant: --store sqlite:///PATH");
        return;
    case CR_DOCTOR_SOCKET:
    case CR_DOCTOR_OTHER:
        return;
    }
    if (!store_use_judge(j))
        return;
    if (facts->store_file.error == ENOENT)
        say(j, CR_DOCTOR_OK, "store", "%s is not there yet: the first start makes it",
            facts->store_file.path);
    store_modes_judge(j);
    store_space_judge(j);
    store_log_judge(j);
    store_holder_judge(j);
    if (facts->store_file.error == 0 && facts->store_file.changed > facts->now + CLOCK_AHEAD_MS)
        mend(say(j, CR_DOCTOR_WRONG, "clock-back",
                 "%s was written in the future: this host's clock was set back",
                 facts->store_file.path),
             "set the clock; sessions live longer by as much");
}

/* ---- the agent and its directory */

static void sockets_judge(struct judge *j)
{
    const struct cr_doctor_facts *facts = j->facts;
    const struct cr_doctor_file *directory = &facts->state_directory;
    char word[WORD_BYTES];
    bool is_well = directory->error == 0;
    j->area = "sockets";
    if (directory->error == 0 && (directory->mode & 022) != 0) {
        is_well = false;
        mend(say(j, CR_DOCTOR_WRONG, "state-mode",
                 "others may write to %s (mode %04o), and could stand in for the agent",
                 directory->path, directory->mode),
             "chmod go-w %s", word_of(directory->path, word));
    }
    if (directory->error == 0 && directory->uid != owner_of(facts)) {
        is_well = false;
        mend(say(j, CR_DOCTOR_WRONG, "state-owner",
                 "%s belongs to uid %ld, who could stand in for the agent", directory->path,
                 directory->uid),
             "name another directory with --state");
    }
    for (size_t i = 0; i < sizeof facts->sockets / sizeof facts->sockets[0]; i++) {
        const struct cr_doctor_file *socket = &facts->sockets[i];
        /* app.sock is as agent.socket_mode says, ops.sock may be its group's. */
        unsigned closed = i < 2 ? 077 : i == 2 ? 0 : 07;
        if (socket->error != 0 || socket->type != S_IFSOCK || (socket->mode & closed) == 0)
            continue;
        is_well = false;
        mend(say(j, CR_DOCTOR_WRONG, "socket-mode", "%s is open to others (mode %04o)",
                 socket->path, socket->mode),
             "chmod %s %s", i < 2 ? "600" : "o=", word_of(socket->path, word));
    }
    if (is_well)
        say(j, CR_DOCTOR_OK, "sockets", "only %s opens the ones for workers and operators",
            directory->uid == 0 ? "root" : "the agent's user and root");
}

static void others_judge(struct judge *j)
{
    const struct cr_doctor_facts *facts = j->facts;
    for (size_t i = 0; i < facts->other_count && facts->agent == CR_DOCTOR_NO_AGENT; i++)
        mend(say(j, CR_DOCTOR_NOTE, "agent-elsewhere",
                 "an agent runs for another directory: pid "
                 "%ld",
                 facts->others[i].pid),
             "to look at that one: cloakroom doctor --state %s", facts->others[i].state);
}

static void agent_judge(struct judge *j)
{
    const struct cr_doctor_facts *facts = j->facts;
    j->area = "agent";
    switch (facts->agent) {
    case CR_DOCTOR_NO_AGENT:
        mend(say(j, CR_DOCTOR_NOTE, "agent-none", "none runs for %s",
                 facts->store_kind == CR_DOCTOR_SOCKET ? facts->state : facts->store),
             "start one with `cloakroom serve` or `cloakroom agent`, or name its directory with "
             "--state");
        others_judge(j);
        return;
    case CR_DOCTOR_FORBIDDEN:
        mend(say(j, CR_DOCTOR_NOTE, "agent-forbidden", "user %s may not ask the one in %s",
                 facts->user, facts->state),
             "run this as root, or as the user that the agent is");
        return;
    case CR_DOCTOR_SILENT:
        mend(say(j, CR_DOCTOR_WRONG, "agent-silent", "pid %ld does not answer: %s",
                 facts->agent_pid, facts->agent_error),
             "is it stopped, or its disk? `kill -CONT %ld`, or restart it", facts->agent_pid);
        return;
    case CR_DOCTOR_ANSWERS:
        if (facts->stats.lease_left == 0)
            mend(say(j, CR_DOCTOR_WRONG, "lease-lost",
                     "it does not reach its store, and lets nobody in (503)"),
                 "look at the store; its log says what failed");
        else
            say(j, CR_DOCTOR_OK, "agent", "it answers, and has its store");
        break;
    case CR_DOCTOR_NOT_ASKED:
        break;
    }
    if (facts->about.is_known && strcmp(facts->about.version, CR_VERSION_TEXT) != 0)
        mend(say(j, CR_DOCTOR_NOTE, "version", "it is version %s, and this program %s",
                 facts->about.version, CR_VERSION_TEXT),
             "restart it");
    if (facts->agent_pid != 0 && !agent_is_seen(facts))
        mend(say(j, CR_DOCTOR_NOTE, "agent-hidden",
                 "/proc shows nothing of it here, and so nothing of what protects it"),
             "run this as root");
    if (facts->agent_pid == 0)
        mend(say(j, CR_DOCTOR_NOTE, "CR-109",
                 "it is in another PID namespace: its processes cannot be seen from here"),
             "run this beside it, in its container");
}

/* ---- what protects it */

static void agent_protection_judge(struct judge *j)
{
    const struct cr_doctor_facts *facts = j->facts;
    const struct cr_doctor_process *agent = process_of(facts, CR_DOCTOR_AGENT);
    char shown[CR_BYTES_SHOWN];
    if (agent == NULL || !agent->is_seen)
        return;
    if (agent->locked_bytes > 0) {
        say(j, CR_DOCTOR_OK, "keys-locked", "the keys are locked in memory");
    } else if (agent->locked_bytes == 0 && facts->store_kind != CR_DOCTOR_OTHER) {
        cr_doctor_bytes_show(agent->locked_max < 0 ? 0 : agent->locked_max, shown);
        mend(say(j, CR_DOCTOR_WRONG, "keys-locked",
                 "the keys are not locked in memory and may be written to swap: %s may be "
                 "(RLIMIT_MEMLOCK)",
                 shown),
             "LimitMEMLOCK=1M in the unit, or `ulimit -l 1024` before the start");
    }
    if (agent->core_max != 0 || (facts->about.is_known && facts->about.dumpable))
        mend(say(j, CR_DOCTOR_WRONG, "core-dumps",
                 "the agent can leave a core dump, with keys and password hashes in it"),
             "LimitCORE=0 in the unit; a sanitizer build leaves this open");
    else
        say(j, CR_DOCTOR_OK, "core-dumps", "the agent leaves no core dump%s",
            facts->about.is_known ? ", and no debugger gets at it" : "");
    if (agent->uid == 0)
        mend(say(j, CR_DOCTOR_NOTE, "user", "the agent runs as root"),
             "give it a user of its own: User=cloakroom in the unit");
    else
        say(j, CR_DOCTOR_OK, "user", "the agent runs as %s", agent->user);
}

static void workers_protection_judge(struct judge *j)
{
    const struct cr_doctor_facts *facts = j->facts;
    unsigned count = 0, confined = 0, dumping = 0;
    for (size_t i = 0; i < facts->process_count; i++) {
        const struct cr_doctor_process *process = &facts->processes[i];
        if (process->role != CR_DOCTOR_WORKER && process->role != CR_DOCTOR_OPS_WORKER)
            continue;
        count++;
        confined += process->seccomp == 2 && process->no_new_privileges == 1;
        dumping += process->core_max != 0;
    }
    if (count > 0 && confined == count)
        say(j, CR_DOCTOR_OK, "seccomp",
            "workers open no files, make no sockets and run no programs (seccomp)");
    else if (count > 0)
        mend(say(j, CR_DOCTOR_WRONG, "seccomp",
                 "%u of %u workers are not confined: who takes one over has a process of this user",
                 count - confined, count),
             "a kernel and a container that allow seccomp; a sanitizer build leaves this open");
    if (dumping > 0)
        mend(say(j, CR_DOCTOR_NOTE, "worker-core-dumps",
                 "a worker that crashes can leave a core dump, with tokens of that moment in it"),
             "LimitCORE=0 in the unit, or `ulimit -c 0` before the start");
}

static void kernel_judge(struct judge *j)
{
    const struct cr_doctor_facts *facts = j->facts;
    char shown[CR_BYTES_SHOWN];
    if (facts->landlock > 0)
        say(j, CR_DOCTOR_OK, "landlock",
            "the kernel has Landlock (version %ld), and workers use it", facts->landlock);
    else
        mend(say(j, CR_DOCTOR_NOTE, "landlock",
                 "the kernel has no Landlock: files and ports are closed to workers by seccomp "
                 "alone"),
             "Linux 5.13 or later, with landlock among lsm= of its command line");
    if (!facts->has_seccomp)
        mend(say(j, CR_DOCTOR_WRONG, "seccomp-missing",
                 "this kernel or container does not allow seccomp: `serve` refuses to start"),
             "allow it: CONFIG_SECCOMP_FILTER, and no filter around it that forbids seccomp(2)");
    if (facts->agent == CR_DOCTOR_NO_AGENT && facts->locked_max >= 0 &&
        facts->locked_max < LOCKED_LEAST && facts->uid != 0) {
        cr_doctor_bytes_show(facts->locked_max, shown);
        mend(say(j, CR_DOCTOR_WRONG, "memlock",
                 "%s of memory may be locked (RLIMIT_MEMLOCK): too little for the keys, which may "
                 "then be written to swap",
                 shown),
             "LimitMEMLOCK=1M in the unit, or `ulimit -l 1024` before the start");
    }
}

static void protections_judge(struct judge *j)
{
    j->area = "protections";
    agent_protection_judge(j);
    workers_protection_judge(j);
    kernel_judge(j);
}

/* ---- the server */

static bool listens_beyond(const char *listen)
{
    char list[CR_SETTING_TEXT_CHARS_MAX + 1];
    char *rest = list;
    bool beyond = false;
    snprintf(list, sizeof list, "%s", listen);
    for (char *word = strsep(&rest, ","); word != NULL; word = strsep(&rest, ",")) {
        word += strspn(word, " ");
        beyond = beyond || (strncmp(word, "127.", 4) != 0 && strncmp(word, "[::1]", 5) != 0);
    }
    return beyond;
}

/* Who is before us is one address, and whom it speaks for is believed of named proxies only (ASVS
 * G1). */
static void sources_judge(struct judge *j)
{
    const struct cr_settings *settings = &j->facts->settings;
    if (settings->proxies[0] == '\0')
        mend(say(j, CR_DOCTOR_NOTE, "CR-116",
                 "all requests come from the proxy's address: everybody's devices show it%s",
                 settings->limits == 0 ? ""
                                       : ", and anybody's wrong passwords keep everybody out whose "
                                         "browser has not been here before"),
             "proxies = 127.0.0.1 ::1 in [server], or where the proxy is; let it send "
             "X-Forwarded-For");
}

static void server_judge(struct judge *j)
{
    const struct cr_doctor_facts *facts = j->facts;
    const struct cr_settings *settings = &facts->settings;
    long long count = 0;
    j->area = "server";
    if (process_of(facts, CR_DOCTOR_SUPERVISOR) == NULL)
        return;
    for (size_t i = 0; i < facts->process_count; i++)
        count += facts->processes[i].role == CR_DOCTOR_WORKER;
    if (facts->about.is_known && count < settings->workers)
        mend(say(j, CR_DOCTOR_WRONG, "workers", "%lld of %lld HTTP workers run", count,
                 (long long)settings->workers),
             "its log says why they end");
    if (!facts->about.is_known)
        return;
    if (listens_beyond(settings->listen))
        mend(say(j, CR_DOCTOR_NOTE, "plain-http", "it speaks plain HTTP to other hosts (%s)",
                 settings->listen),
             "listen on 127.0.0.1, with a proxy before it that speaks TLS");
    else if (settings->behind_tls == 0)
        mend(say(j, CR_DOCTOR_NOTE, "behind-tls",
                 "plain HTTP on loopback, for development: cookies are sent without Secure"),
             "with a proxy before it that speaks TLS: --behind-tls yes");
    else
        sources_judge(j);
    if (settings->limits == 0)
        mend(say(j, CR_DOCTOR_NOTE, "limits-off", "wrong passwords are not limited"),
             "login.limits = on");
}

/* ---- what there is to have */

static void descriptors_judge(struct judge *j)
{
    const struct cr_doctor_facts *facts = j->facts;
    const struct cr_doctor_process *worker = process_of(facts, CR_DOCTOR_WORKER);
    long long need = facts->settings.connections + DESCRIPTORS_BESIDE;
    long long have = worker != NULL ? worker->descriptors_max : CR_DOCTOR_NO_LIMIT;
    if (have >= 0 && have < need)
        mend(say(j, CR_DOCTOR_WRONG, "CR-118",
                 "a worker may have %lld descriptors, and server.connections = %lld needs %lld",
                 have, (long long)facts->settings.connections, need),
             "LimitNOFILE=%lld in the unit, or fewer connections", need);
}

static void memory_judge(struct judge *j)
{
    const struct cr_doctor_facts *facts = j->facts;
    const struct cr_settings *settings = &facts->settings;
    char need[CR_BYTES_SHOWN];
    char have[CR_BYTES_SHOWN];
    long long table = settings->cache == CR_CACHE_NONE ? 0 : settings->cache_bytes;
    long long bytes = table + settings->hash_threads * HASH_BYTES;
    bool runs = facts->agent != CR_DOCTOR_NO_AGENT;
    cr_doctor_bytes_show(bytes, need);
    cr_doctor_bytes_show(facts->memory_max >= 0 ? facts->memory_max : facts->memory_free, have);
    if (facts->memory_max >= 0 && facts->memory_max < bytes)
        mend(say(j, CR_DOCTOR_WRONG, "CR-105",
                 "the container may have %s of memory, and table and hashing need %s", have, need),
             "raise its limit, or lower cache.memory or login.hash_threads");
    else if (!runs && facts->memory_free >= 0 && facts->memory_free < bytes)
        mend(say(j, CR_DOCTOR_WRONG, "CR-105",
                 "%s of memory are free, and table and hashing need %s", have, need),
             "free some, or lower cache.memory or login.hash_threads");
    else if (table > 0)
        say(j, CR_DOCTOR_OK, "memory", "there is enough for the table and for hashing (%s)", need);
    if (runs || settings->huge_pages != CR_HUGE_RESERVED || facts->huge_page_bytes <= 0 ||
        facts->huge_pages * facts->huge_page_bytes >= table)
        return;
    long long pages = (table + facts->huge_page_bytes - 1) / facts->huge_page_bytes;
    mend(say(j, CR_DOCTOR_NOTE, "huge-pages",
             "cache.huge_pages = reserved, and %lld of the %lld pages that it takes are free",
             facts->huge_pages < 0 ? 0 : facts->huge_pages, pages),
         "sysctl vm.nr_hugepages=%lld", pages);
}

static void clock_judge(struct judge *j)
{
    const struct cr_doctor_facts *facts = j->facts;
    j->area = "clock";
    if (facts->now < CLOCK_LEAST)
        mend(say(j, CR_DOCTOR_WRONG, "clock", "this host's clock is before 2026"), "set it");
    else if (!facts->clock_is_set)
        mend(say(j, CR_DOCTOR_NOTE, "clock", "no time service keeps this host's clock right"),
             "one such as chrony or systemd-timesyncd");
    else
        say(j, CR_DOCTOR_OK, "clock", "a time service keeps it right");
}

/* CR-101 for whoever is started here: what is private to one process is not shared by several. */
static void processes_judge(struct judge *j)
{
    const struct cr_doctor_facts *facts = j->facts;
    bool is_private = facts->settings.cache == CR_CACHE_MEMORY;
    j->area = "processes";
    if (facts->declared_processes < 2 || (!is_private && facts->store_kind != CR_DOCTOR_MEMORY))
        return;
    mend(say(j, CR_DOCTOR_WRONG, "CR-101",
             "%s declares %u processes, and %s: a program that opens it directly is refused, and "
             "others ask the agent for each validation",
             facts->declared_by, facts->declared_processes,
             is_private ? "cache.kind = memory is private to one" : "this store lives in one"),
         is_private ? "cache.kind = shared, or one process"
                    : "--store sqlite:///PATH, or one process");
}

void cr_doctor_judge(const struct cr_doctor_facts *facts, struct cr_doctor_report *out_report)
{
    struct judge j = {.facts = facts, .report = out_report};
    out_report->count = 0;
    settings_judge(&j);
    store_judge(&j);
    agent_judge(&j);
    sockets_judge(&j);
    server_judge(&j);
    protections_judge(&j);
    processes_judge(&j);
    j.area = "limits";
    descriptors_judge(&j);
    memory_judge(&j);
    clock_judge(&j);
}
