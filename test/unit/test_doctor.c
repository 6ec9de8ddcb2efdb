/* SPDX-License-Identifier: Apache-2.0 */
/* What `cloakroom doctor` finds in facts that this host does not have. */
#include "cmd/doctor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/shm.h"
#include "tap.h"

#define MIB (1024LL * 1024)

/* A server of user 1000, all well. */
static void facts_init(struct cr_doctor_facts *facts)
{
    static const enum cr_doctor_role roles[] = {CR_DOCTOR_AGENT, CR_DOCTOR_SUPERVISOR,
                                                CR_DOCTOR_WORKER, CR_DOCTOR_WORKER,
                                                CR_DOCTOR_OPS_WORKER};
    memset(facts, 0, sizeof *facts);
    facts->uid = 1000;
    snprintf(facts->user, sizeof facts->user, "web");
    facts->now = 1800000000000;
    facts->clock_is_set = true;
    cr_settings_init(&facts->settings);
    facts->settings.behind_tls = 1;
    snprintf(facts->settings.proxies, sizeof facts->settings.proxies, "127.0.0.1");
    snprintf(facts->config.path, sizeof facts->config.path, "/etc/cloakroom/cloakroom.conf");
    facts->config.mode = 0644;
    snprintf(facts->store, sizeof facts->store, "sqlite:///srv/app.db");
    snprintf(facts->store_file.path, sizeof facts->store_file.path, "/srv/app.db");
    facts->store_file.type = S_IFREG;
    facts->store_file.mode = 0600;
    facts->store_file.uid = 1000;
    facts->store_file.changed = facts->now;
    snprintf(facts->store_directory.path, sizeof facts->store_directory.path, "/srv");
    facts->store_directory.mode = 0700;
    facts->store_may_write = facts->store_is_sqlite = facts->store_is_local = true;
    facts->store_free = 10000 * MIB;
    snprintf(facts->state, sizeof facts->state, "/run/cloakroom");
    facts->state_directory.mode = 0700;
    facts->state_directory.uid = 1000;
    for (size_t i = 0; i < 4; i++) {
        facts->sockets[i].type = S_IFSOCK;
        facts->sockets[i].mode = 0600;
    }
    facts->agent = CR_DOCTOR_ANSWERS;
    facts->agent_pid = 100;
    facts->about.is_known = true;
    snprintf(facts->about.version, sizeof facts->about.version, CR_VERSION_TEXT);
    facts->has_stats = true;
    facts->stats.lease_left = UINT64_MAX;
    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++) {
        const bool confined = roles[i] == CR_DOCTOR_WORKER || roles[i] == CR_DOCTOR_OPS_WORKER;
        facts->processes[facts->process_count++] =
            (struct cr_doctor_process){.role = roles[i],
                                       .pid = 100 + (long)i,
                                       .is_seen = true,
                                       .uid = 1000,
                                       .seccomp = confined ? 2 : 0,
                                       .no_new_privileges = confined,
                                       .locked_bytes = roles[i] == CR_DOCTOR_AGENT ? 4096 : 0,
                                       .locked_max = 8 * MIB,
                                       .descriptors_max = 65536};
    }
    facts->landlock = 3;
    facts->has_seccomp = true;
    facts->memory_free = 4000 * MIB;
    facts->memory_max = CR_DOCTOR_NO_LIMIT;
    facts->locked_max = facts->descriptors_max = CR_DOCTOR_NO_LIMIT;
}

static void agent_gone(struct cr_doctor_facts *facts)
{
    facts->agent = CR_DOCTOR_NO_AGENT;
    facts->process_count = 0;
    facts->about.is_known = facts->has_stats = false;
    facts->agent_pid = 0;
}

/* ---- one thing after another that is not well */

#define BREAK(name, change)                                                                        \
    static void name(struct cr_doctor_facts *f)                                                    \
    {                                                                                              \
        change;                                                                                    \
    }
BREAK(no_landlock, f->landlock = 0)
BREAK(no_seccomp, f->has_seccomp = false)
BREAK(worker_open, f->processes[2].seccomp = 0)
BREAK(worker_privileged, f->processes[4].no_new_privileges = 0)
BREAK(worker_dumps, f->processes[3].core_max = CR_DOCTOR_NO_LIMIT)
BREAK(worker_dead, f->process_count = 3)
BREAK(few_descriptors, f->processes[2].descriptors_max = 1024)
BREAK(keys_open, f->processes[0].locked_bytes = 0)
BREAK(agent_dumps, f->processes[0].core_max = CR_DOCTOR_NO_LIMIT)
BREAK(agent_dumpable, f->about.dumpable = true)
BREAK(agent_root, f->processes[0].uid = f->store_file.uid = f->state_directory.uid = f->uid = 0)
BREAK(agent_old, snprintf(f->about.version, sizeof f->about.version, "0.0.1"))
BREAK(agent_far, f->agent_pid = 0; f->process_count = 0)
BREAK(agent_silent, f->agent = CR_DOCTOR_SILENT)
BREAK(agent_other_user, agent_gone(f); f->agent = CR_DOCTOR_FORBIDDEN)
BREAK(agent_none, agent_gone(f))
BREAK(agent_elsewhere, agent_gone(f); f->other_count = 1; f->others[0].pid = 7)
BREAK(lease_gone, f->stats.lease_left = 0)
BREAK(little_to_lock, agent_gone(f); f->locked_max = 0)
BREAK(little_memory, f->memory_max = 64 * MIB)
BREAK(little_free, agent_gone(f); f->memory_free = 64 * MIB)
BREAK(few_huge_pages, agent_gone(f); f->settings.huge_pages = CR_HUGE_RESERVED;
      f->huge_page_bytes = 2 * MIB; f->huge_pages = 3)
BREAK(clock_early, f->now = f->store_file.changed = 1000)
BREAK(clock_unset, f->clock_is_set = false)
BREAK(clock_back, f->store_file.changed = f->now + 3600000)
BREAK(settings_bad, f->settings_status = CR_E_INVALID;
      snprintf(f->settings_error, sizeof f->settings_error, "/x:3: no"))
BREAK(settings_open, f->config.mode = 0666)
BREAK(settings_group, f->config.mode = 0664)
BREAK(settings_other, f->config.uid = 1001)
BREAK(settings_changed, snprintf(f->changed, sizeof f->changed, "cache.memory"))
BREAK(store_open, f->store_file.mode = 0644)
BREAK(store_group, f->store_file.mode = 0640)
BREAK(store_other, f->store_file.uid = 1001)
BREAK(agent_hidden, f->process_count = 1; f->processes[0].is_seen = false; f->processes[0].uid = -1)
BREAK(store_directory, f->store_directory.mode = 0777)
BREAK(store_tmp, f->store_directory.mode = 01777)
BREAK(store_network, f->store_is_local = false)
BREAK(store_no_place, f->store_directory.error = ENOENT)
BREAK(store_no_way, f->store_directory.error = EACCES)
BREAK(store_no_file, f->store_file.type = S_IFDIR)
BREAK(store_other_file, f->store_is_sqlite = false)
BREAK(store_read_only, f->store_may_write = false)
BREAK(store_full, f->store_free = MIB)
BREAK(store_nearly_full, f->store_free = 100 * MIB)
BREAK(store_held, agent_gone(f); f->store_is_locked = true; f->store_holder = 9)
BREAK(store_log, f->store_log = 100 * MIB; f->store_reader = 4711)
BREAK(store_memory, f->store_kind = CR_DOCTOR_MEMORY)
BREAK(state_open, f->state_directory.mode = 0777)
BREAK(state_other, f->state_directory.uid = 1001)
BREAK(operator_open, f->sockets[0].mode = 0666)
BREAK(http_open, f->sockets[1].mode = 0660)
BREAK(ops_open, f->sockets[3].mode = 0666)
BREAK(plain_http, snprintf(f->settings.listen, sizeof f->settings.listen, "127.0.0.1:1, 0.0.0.0:2"))
BREAK(development, f->settings.behind_tls = 0)
BREAK(one_source, f->settings.proxies[0] = '\0')
BREAK(no_limits, f->settings.limits = 0)
BREAK(several, f->settings.cache = CR_CACHE_MEMORY; f->declared_processes = 4;
      f->declared_by = "WEB_CONCURRENCY")

static const struct {
    void (*change)(struct cr_doctor_facts *facts);
    enum cr_doctor_level level;
    const char *code;
    const char *fix; /* a part of it */
} rows[] = {
    {no_landlock, CR_DOCTOR_NOTE, "landlock", "Linux 5.13"},
    {no_seccomp, CR_DOCTOR_WRONG, "seccomp-missing", "SECCOMP_FILTER"},
    {worker_open, CR_DOCTOR_WRONG, "seccomp", "seccomp"},
    {worker_privileged, CR_DOCTOR_WRONG, "seccomp", "seccomp"},
    {worker_dumps, CR_DOCTOR_NOTE, "worker-core-dumps", "LimitCORE=0"},
    {worker_dead, CR_DOCTOR_WRONG, "workers", "log"},
    {few_descriptors, CR_DOCTOR_WRONG, "CR-118", "LimitNOFILE=1064"},
    {keys_open, CR_DOCTOR_WRONG, "keys-locked", "LimitMEMLOCK=1M"},
    {agent_dumps, CR_DOCTOR_WRONG, "core-dumps", "LimitCORE=0"},
    {agent_dumpable, CR_DOCTOR_WRONG, "core-dumps", "LimitCORE=0"},
    {agent_root, CR_DOCTOR_NOTE, "user", "User="},
    {agent_old, CR_DOCTOR_NOTE, "version", "restart"},
    {agent_hidden, CR_DOCTOR_NOTE, "agent-hidden", "as root"},
    {agent_far, CR_DOCTOR_NOTE, "CR-109", "container"},
    {agent_silent, CR_DOCTOR_WRONG, "agent-silent", "kill -CONT 100"},
    {agent_other_user, CR_DOCTOR_NOTE, "agent-forbidden", "as root"},
    {agent_none, CR_DOCTOR_NOTE, "agent-none", "cloakroom serve"},
    {agent_elsewhere, CR_DOCTOR_NOTE, "agent-elsewhere", "doctor --state"},
    {lease_gone, CR_DOCTOR_WRONG, "lease-lost", "store"},
    {little_to_lock, CR_DOCTOR_WRONG, "memlock", "ulimit -l"},
    {little_memory, CR_DOCTOR_WRONG, "CR-105", "cache.memory"},
    {little_free, CR_DOCTOR_WRONG, "CR-105", "cache.memory"},
    {few_huge_pages, CR_DOCTOR_NOTE, "huge-pages", "sysctl vm.nr_hugepages=32"},
    {clock_early, CR_DOCTOR_WRONG, "clock", "set it"},
    {clock_unset, CR_DOCTOR_NOTE, "clock", "chrony"},
    {clock_back, CR_DOCTOR_WRONG, "clock-back", "set the clock"},
    {settings_bad, CR_DOCTOR_WRONG, "settings-bad", "config check"},
    {settings_open, CR_DOCTOR_WRONG, "settings-mode", "chmod o-w /etc/cloakroom/cloakroom.conf"},
    {settings_group, CR_DOCTOR_NOTE, "settings-mode", "chmod g-w"},
    {settings_other, CR_DOCTOR_WRONG, "settings-owner", "chown root"},
    {settings_changed, CR_DOCTOR_NOTE, "settings-changed", "SIGHUP"},
    {store_open, CR_DOCTOR_WRONG, "store-mode", "chmod 600 /srv/app.db"},
    {store_group, CR_DOCTOR_NOTE, "store-mode", "chmod 600 /srv/app.db"},
    {store_other, CR_DOCTOR_WRONG, "store-owner", "chown 1000 /srv/app.db"},
    {store_directory, CR_DOCTOR_WRONG, "store-directory", "chmod o-w /srv"},
    {store_tmp, CR_DOCTOR_NOTE, "store-directory", "directory of its own"},
    {store_network, CR_DOCTOR_WRONG, "CR-106", "local disk"},
    {store_no_place, CR_DOCTOR_WRONG, "store-missing", "mkdir -m 700 /srv"},
    {store_no_way, CR_DOCTOR_WRONG, "store-access", "/srv"},
    {store_no_file, CR_DOCTOR_WRONG, "store-damaged", "--store"},
    {store_other_file, CR_DOCTOR_WRONG, "store-damaged", "backup"},
    {store_read_only, CR_DOCTOR_WRONG, "store-access", "owner"},
    {store_full, CR_DOCTOR_WRONG, "store-space", "room"},
    {store_nearly_full, CR_DOCTOR_NOTE, "store-space", "room"},
    {store_held, CR_DOCTOR_WRONG, "store-held", "--state"},
    {store_log, CR_DOCTOR_WRONG, "store-log", "kill -CONT 4711"},
    {store_memory, CR_DOCTOR_NOTE, "store-memory", "sqlite:///PATH"},
    {state_open, CR_DOCTOR_WRONG, "state-mode", "chmod go-w"},
    {state_other, CR_DOCTOR_WRONG, "state-owner", "--state"},
    {operator_open, CR_DOCTOR_WRONG, "socket-mode", "chmod 600"},
    {http_open, CR_DOCTOR_WRONG, "socket-mode", "chmod 600"},
    {ops_open, CR_DOCTOR_WRONG, "socket-mode", "chmod o="},
    {plain_http, CR_DOCTOR_NOTE, "plain-http", "TLS"},
    {development, CR_DOCTOR_NOTE, "behind-tls", "--behind-tls yes"},
    {one_source, CR_DOCTOR_NOTE, "CR-116", "proxies = 127.0.0.1 ::1 in [server]"},
    {no_limits, CR_DOCTOR_NOTE, "limits-off", "login.limits = on"},
    {several, CR_DOCTOR_WRONG, "CR-101", "cache.kind = shared"},
};

static struct cr_doctor_facts facts;
static struct cr_doctor_report report;

static const struct cr_doctor_finding *finding_of(const char *code)
{
    for (size_t i = 0; i < report.count; i++)
        if (strcmp(report.findings[i].code, code) == 0)
            return &report.findings[i];
    return NULL;
}

static void what_is_well_is_said_to_be_so(void)
{
    facts_init(&facts);
    cr_doctor_judge(&facts, &report);
    CHECK(report.count > 8);
    for (size_t i = 0; i < report.count; i++) {
        tap_row(report.findings[i].code);
        CHECK_STR(cr_doctor_level_name(report.findings[i].level), "ok");
    }
    tap_row(NULL);
}

static void each_thing_that_is_not_well_is_found_and_can_be_mended(void)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        facts_init(&facts);
        rows[i].change(&facts);
        cr_doctor_judge(&facts, &report);
        const struct cr_doctor_finding *finding = finding_of(rows[i].code);
        tap_row(rows[i].code);
        if (!CHECK(finding != NULL))
            continue;
        CHECK_STR(cr_doctor_level_name(finding->level), cr_doctor_level_name(rows[i].level));
        CHECK(strstr(finding->fix, rows[i].fix) != NULL);
        for (size_t k = 0; k < report.count; k++)
            CHECK((report.findings[k].fix[0] == '\0') ==
                  (report.findings[k].level == CR_DOCTOR_OK));
        /* A note of one thing must not come with a "wrong" of another. */
        CHECK((cr_doctor_count(&report, CR_DOCTOR_WRONG) > 0) ==
              (rows[i].level == CR_DOCTOR_WRONG));
    }
    tap_row(NULL);
}

/* root looks at what will be another user's: nothing is wrong with that. */
static void files_of_the_server_are_well_where_root_asks_and_no_agent_runs(void)
{
    facts_init(&facts);
    agent_gone(&facts);
    facts.uid = 0;
    facts.config.uid = 1000;
    cr_doctor_judge(&facts, &report);
    CHECK_UINT(cr_doctor_count(&report, CR_DOCTOR_WRONG), 0);
}

/* What is copied into a shell does one thing. */
static void a_path_with_strange_characters_is_one_word_of_the_command(void)
{
    facts_init(&facts);
    snprintf(facts.store_file.path, sizeof facts.store_file.path, "/srv/a 'b'; $c\nd.db");
    facts.store_file.mode = 0644;
    cr_doctor_judge(&facts, &report);
    const struct cr_doctor_finding *finding = finding_of("store-mode");
    if (!CHECK(finding != NULL))
        return;
    CHECK_STR(finding->fix, "chmod 600 '/srv/a '\\''b'\\''; $c d.db'");
    CHECK(strchr(finding->text, '\n') == NULL);
}

/* However much is wrong at once, the report has room for it. */
static void everything_may_be_wrong_at_once(void)
{
    facts_init(&facts);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        rows[i].change(&facts);
    cr_doctor_judge(&facts, &report);
    CHECK(cr_doctor_count(&report, CR_DOCTOR_WRONG) > 3);
}

int main(int argc, char **argv)
{
    static const struct tap_test tests[] = {
        TAP_TEST(what_is_well_is_said_to_be_so),
        TAP_TEST(each_thing_that_is_not_well_is_found_and_can_be_mended),
        TAP_TEST(files_of_the_server_are_well_where_root_asks_and_no_agent_runs),
        TAP_TEST(a_path_with_strange_characters_is_one_word_of_the_command),
        TAP_TEST(everything_may_be_wrong_at_once),
    };
    return TAP_MAIN(tests, argc, argv);
}
