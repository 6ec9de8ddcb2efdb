/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What runs here, from where, what protects it, and what is wrong: for `cloakroom doctor`, and for
 * the log of `serve` and `agent` when they have started.
 *
 * Three steps that do not mix. Facts are gathered (doctor_facts.c: everything that asks the
 * system), then judged (doctor_judge.c: pure, so that tests give facts that this host does not
 * have), then shown (cmd_doctor.c). Nothing is made, changed or locked on the way, so it may be
 * asked at any time. No secret comes in: URLs are shown without their passwords, and of the store
 * only its first bytes are read.
 */
#ifndef CMD_DOCTOR_H
#define CMD_DOCTOR_H

#include <limits.h>

#include <cloakroom/room.h>

#include "cmd/command.h"
#include "cmd/settings.h"

#define CR_DOCTOR_PROCESSES_MAX 80
#define CR_DOCTOR_OTHERS_MAX 32
#define CR_DOCTOR_FINDINGS_MAX 64
#define CR_DOCTOR_NAME_CHARS_MAX 63
#define CR_DOCTOR_UNKNOWN (-1LL)  /* of a number: it could not be seen */
#define CR_DOCTOR_NO_LIMIT (-2LL) /* of a limit */

/* ---- what an agent says of itself, in a file of its state directory: about.c */

#define CR_ABOUT_FILE "agent.json"

struct cr_about {
    bool is_known;
    long pid;
    bool dumpable; /* its memory can be had: core dumps, other processes of its user */
    char version[CR_DOCTOR_NAME_CHARS_MAX + 1];
    char started[CR_TIME_SHOWN_BYTES];
    char program[PATH_MAX];
    char config[PATH_MAX];       /* its settings file; empty: none */
    struct cr_settings settings; /* that it runs with, without the store's URL */
};

/* For the agent of this process, into STATE/agent.json (mode 0600), the whole file or nothing. */
CR_MUST_CHECK bool cr_about_write(const char *state, const struct cr_settings *settings);
/* Anything in the file may be wrong: then *out_about has is_known false. */
void cr_about_read(const char *state, struct cr_about *out_about);

/* ---- facts */

struct cr_doctor_file {
    int error; /* of stat(2): 0 when it is there */
    char path[PATH_MAX];
    unsigned type, mode; /* of st_mode: S_IFMT, and 07777 */
    long uid;
    long long bytes;
    cr_time_ms changed;
};

enum cr_doctor_role {
    CR_DOCTOR_SUPERVISOR,
    CR_DOCTOR_AGENT,
    CR_DOCTOR_WORKER,
    CR_DOCTOR_OPS_WORKER
};

struct cr_doctor_process {
    enum cr_doctor_role role;
    long pid;
    bool is_seen; /* /proc tells the rest */
    long uid;
    char user[CR_DOCTOR_NAME_CHARS_MAX + 1];
    long long seccomp, no_new_privileges; /* as /proc/PID/status has them: 2 is a filter */
    long long locked_bytes;
    long long core_max, locked_max, descriptors_max; /* soft limits */
};

enum cr_doctor_agent {
    CR_DOCTOR_NO_AGENT,
    CR_DOCTOR_ANSWERS,
    CR_DOCTOR_NOT_ASKED, /* a start-up report: it runs, as is known */
    CR_DOCTOR_SILENT,    /* its socket takes connections, and that is all */
    CR_DOCTOR_FORBIDDEN  /* it is another user's */
};

enum cr_doctor_store {
    CR_DOCTOR_SQLITE,
    CR_DOCTOR_MEMORY,
    CR_DOCTOR_SOCKET, /* an agent's: which store it has is its own affair */
    CR_DOCTOR_OTHER
};

struct cr_doctor_facts {
    char program[PATH_MAX];
    long uid; /* who asks */
    char user[CR_DOCTOR_NAME_CHARS_MAX + 1];
    cr_time_ms now;
    bool clock_is_set; /* by a time service, as the kernel knows it */

    /* Settings: as this process reads them, and as the agent runs with them where that is known. */
    enum cr_status settings_status;
    char settings_error[1200];
    struct cr_doctor_file config; /* path empty: none */
    struct cr_settings settings;
    char changed[512]; /* names of those that the file has changed since the agent read it */

    enum cr_doctor_store store_kind;
    char store[CR_SETTING_TEXT_CHARS_MAX + 1]; /* as it is shown */
    struct cr_doctor_file store_file, store_directory;
    bool store_may_write; /* this user may; and read */
    bool store_is_sqlite; /* it begins like one, or is empty */
    bool store_is_local;
    bool store_is_locked;   /* somebody has it open */
    long store_holder;      /* who, as the lock's file says; 0: not known */
    long long store_free;   /* bytes left on its file system */
    uint64_t store_log;     /* bytes of its write-ahead log; looked at closely where it is large */
    long store_reader;      /* who holds it then; 0: not seen */
    char store_error[1200]; /* CR-106, where it is not local */

    char state[PATH_MAX];
    struct cr_doctor_file state_directory;
    struct cr_doctor_file sockets[4]; /* operator, http, app, ops */

    enum cr_doctor_agent agent;
    long agent_pid; /* 0: not visible from here, as in another PID namespace */
    char agent_error[1200];
    struct cr_about about;
    bool has_stats;
    struct cr_stats stats;
    struct cr_doctor_process processes[CR_DOCTOR_PROCESSES_MAX];
    size_t process_count;
    struct {
        long pid;
        char state[PATH_MAX];
    } others[CR_DOCTOR_OTHERS_MAX]; /* agents that run for other directories */
    size_t other_count;

    long landlock; /* version of its interface; 0: the kernel has none */
    bool has_seccomp;
    long long memory_free, memory_max;     /* of the host, of the container */
    long long huge_page_bytes, huge_pages; /* reserved ones that are free */
    long long locked_max, descriptors_max; /* of this process */
    unsigned declared_processes;           /* by WEB_CONCURRENCY or a server above us */
    const char *declared_by;
};

struct cr_doctor_question {
    const struct cr_place *place;
    const char *store, *state; /* as cr_place_where has them */
    long agent_pid;            /* not 0: it has just started, and is not to be asked */
};

/* Takes at most a few seconds, also with an agent that hangs. */
void cr_doctor_gather(const struct cr_doctor_question *question, struct cr_doctor_facts *out_facts);

/* ---- findings */

enum cr_doctor_level { CR_DOCTOR_OK, CR_DOCTOR_NOTE, CR_DOCTOR_WRONG };

struct cr_doctor_finding {
    enum cr_doctor_level level;
    const char *code; /* stable, for scripts: "store-mode" */
    const char *area; /* "store" */
    char text[1024];
    char fix[PATH_MAX + 256]; /* what to do, often a command; empty with OK */
};

struct cr_doctor_report {
    struct cr_doctor_finding findings[CR_DOCTOR_FINDINGS_MAX];
    size_t count;
};

void cr_doctor_judge(const struct cr_doctor_facts *facts, struct cr_doctor_report *out_report);

size_t cr_doctor_count(const struct cr_doctor_report *report, enum cr_doctor_level level);
const char *cr_doctor_level_name(enum cr_doctor_level level);
const char *cr_doctor_role_name(enum cr_doctor_role role);
/* "64 MiB". */
#define CR_BYTES_SHOWN 32
void cr_doctor_bytes_show(long long bytes, char out[CR_BYTES_SHOWN]);

/* To the log, after a start: what runs, from where, what protects it, and what is not well. */
void cr_doctor_log(const struct cr_place *place, const char *store, const char *state,
                   long agent_pid);

#endif
