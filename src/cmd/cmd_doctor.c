/* SPDX-License-Identifier: Apache-2.0 */
/* `cloakroom doctor`, and what `serve` and `agent` log once they have started. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/log.h"
#include "cmd/doctor.h"

#define COLUMNS_LEAST 60
#define COLUMNS_MOST 100
#define LABEL_COLUMNS 13   /* of a line below "Running" */
#define FINDING_COLUMNS 20 /* before a finding's text */

/* ---- text for a terminal */

static size_t columns(void)
{
    struct winsize size;
    size_t count = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 80;
    return count == 0              ? 80
           : count < COLUMNS_LEAST ? COLUMNS_LEAST
           : count > COLUMNS_MOST  ? COLUMNS_MOST
                                   : count;
}

/* Characters, not bytes. */
static size_t width_of(const char *text, size_t length)
{
    size_t width = 0;
    for (size_t i = 0; i < length; i++)
        width += ((unsigned char)text[i] & 0xc0) != 0x80;
    return width;
}

/* The words of `text` from column `indent` on, which is where the cursor stands. */
static void wrapped_print(const char *text, size_t indent)
{
    const size_t most = columns() - 1;
    size_t column = indent;
    bool is_first = true;
    while (*text != '\0') {
        size_t length = strcspn(text, " ");
        size_t width = width_of(text, length);
        if (!is_first && column + 1 + width > most) {
            printf("\n%*s", (int)indent, "");
            column = indent;
            is_first = true;
        }
        printf("%s%.*s", is_first ? "" : " ", (int)length, text);
        column += width + (is_first ? 0 : 1);
        is_first = false;
        text += length + (text[length] == ' ');
    }
    putchar('\n');
}

static void row_print(const char *label, const char *text)
{
    printf("  %-*s", LABEL_COLUMNS - 2, label);
    wrapped_print(text, LABEL_COLUMNS);
}

static bool is_coloured(void)
{
    const char *term = getenv("TERM");
    const char *none = getenv("NO_COLOR");
    return isatty(STDOUT_FILENO) && (none == NULL || none[0] == '\0') && term != NULL &&
           strcmp(term, "dumb") != 0;
}

/* ---- what runs, from where */

static const char *or_dash(const char *text)
{
    return text[0] != '\0' ? text : "-";
}

static void agent_write(const struct cr_doctor_facts *facts, char *out, size_t capacity)
{
    const struct cr_about *about = &facts->about;
    const char *user = NULL;
    if (facts->agent == CR_DOCTOR_NO_AGENT || facts->agent == CR_DOCTOR_FORBIDDEN) {
        snprintf(out, capacity, "%s",
                 facts->agent == CR_DOCTOR_NO_AGENT ? "none runs here" : "of another user");
        return;
    }
    for (size_t i = 0; i < facts->process_count; i++)
        if (facts->processes[i].role == CR_DOCTOR_AGENT)
            user = facts->processes[i].user;
    size_t length = (size_t)snprintf(out, capacity, "pid %ld", facts->agent_pid);
    if (user != NULL)
        length += (size_t)snprintf(out + length, capacity - length, ", user %s", user);
    if (about->is_known)
        snprintf(out + length, capacity - length, ", version %s, since %.10s %.9s", about->version,
                 about->started, about->started[0] != '\0' ? about->started + 11 : "");
}

static void workers_write(const struct cr_doctor_facts *facts, char *out, size_t capacity)
{
    size_t count = 0;
    size_t length = 0;
    out[0] = '\0';
    for (size_t i = 0; i < facts->process_count && length + 64 < capacity; i++) {
        const struct cr_doctor_process *process = &facts->processes[i];
        if (process->role == CR_DOCTOR_WORKER)
            length += (size_t)snprintf(out + length, capacity - length, "%s%ld",
                                       count++ == 0 ? "pid " : ", ", process->pid);
        else if (process->role == CR_DOCTOR_OPS_WORKER)
            length += (size_t)snprintf(out + length, capacity - length, "%sfor operators pid %ld",
                                       length == 0 ? "" : "; ", process->pid);
    }
}

static void store_write(const struct cr_doctor_facts *facts, char *out, size_t capacity)
{
    char bytes[CR_BYTES_SHOWN];
    char left[CR_BYTES_SHOWN];
    bool is_there = facts->store_kind == CR_DOCTOR_SQLITE && facts->store_file.error == 0;
    cr_doctor_bytes_show(facts->store_file.bytes, bytes);
    cr_doctor_bytes_show(facts->store_free < 0 ? 0 : facts->store_free, left);
    if (is_there && facts->store_free >= 0)
        snprintf(out, capacity, "%s (%s, %s free)", facts->store, bytes, left);
    else
        snprintf(out, capacity, "%s", facts->store);
}

static const char *cache_name(int64_t cache)
{
    return cache == CR_CACHE_NONE ? "none" : cache == CR_CACHE_MEMORY ? "memory" : "shared";
}

/* Without this process. */
static uint64_t attached(const struct cr_stats *stats)
{
    return stats->attached_workers > 0 ? stats->attached_workers - 1 : 0;
}

static void table_write(const struct cr_doctor_facts *facts, char *out, size_t capacity)
{
    char bytes[CR_BYTES_SHOWN];
    const struct cr_stats *stats = &facts->stats;
    cr_doctor_bytes_show(
        facts->has_stats ? (long long)stats->table_bytes : facts->settings.cache_bytes, bytes);
    if (!facts->has_stats)
        snprintf(out, capacity, "%s, %s", cache_name(facts->settings.cache), bytes);
    else if (stats->table_capacity == 0)
        snprintf(out, capacity, "none: every validation asks");
    else
        snprintf(out, capacity, "%s, %s, %llu of %llu sessions, %llu processes attached",
                 cache_name((int64_t)stats->cache), bytes,
                 (unsigned long long)stats->table_sessions,
                 (unsigned long long)stats->table_capacity, (unsigned long long)attached(stats));
}

static void running_print(const struct cr_doctor_facts *facts)
{
    char text[2 * PATH_MAX];
    printf("Running\n");
    agent_write(facts, text, sizeof text);
    row_print("agent", text);
    for (size_t i = 0; i < facts->process_count; i++) {
        if (facts->processes[i].role != CR_DOCTOR_SUPERVISOR)
            continue;
        snprintf(text, sizeof text, "pid %ld%s%s", facts->processes[i].pid,
                 facts->about.is_known ? ", listens on " : "",
                 facts->about.is_known ? facts->settings.listen : "");
        row_print("server", text);
        workers_write(facts, text, sizeof text);
        row_print("workers", text);
    }
    if (facts->about.is_known)
        row_print("program", facts->about.program);
    row_print("settings", facts->config.path[0] != '\0' ? facts->config.path : "no file");
    store_write(facts, text, sizeof text);
    row_print("store", text);
    row_print("sockets", or_dash(facts->state));
    if (facts->agent != CR_DOCTOR_FORBIDDEN) {
        table_write(facts, text, sizeof text);
        row_print("table", text);
    }
}

/* ---- findings */

/* To be typed as it stands, so it stays in one line. */
static bool is_command(const char *fix)
{
    return strncmp(fix, "chmod ", 6) == 0 || strncmp(fix, "chown ", 6) == 0;
}

static void finding_print(const struct cr_doctor_finding *finding, bool coloured)
{
    static const char *const colours[] = {[CR_DOCTOR_OK] = "\033[32m",
                                          [CR_DOCTOR_NOTE] = "\033[33m",
                                          [CR_DOCTOR_WRONG] = "\033[1;31m"};
    printf("  %s%-6s%s%-*s", coloured ? colours[finding->level] : "",
           cr_doctor_level_name(finding->level), coloured ? "\033[0m" : "", FINDING_COLUMNS - 8,
           finding->area);
    wrapped_print(finding->text, FINDING_COLUMNS);
    if (finding->fix[0] == '\0')
        return;
    printf("%*s-> ", FINDING_COLUMNS, "");
    if (is_command(finding->fix))
        printf("%s\n", finding->fix);
    else
        wrapped_print(finding->fix, FINDING_COLUMNS + 3);
}

static void report_print(const struct cr_doctor_facts *facts, const struct cr_doctor_report *report)
{
    size_t wrong = cr_doctor_count(report, CR_DOCTOR_WRONG);
    size_t notes = cr_doctor_count(report, CR_DOCTOR_NOTE);
    const bool coloured = is_coloured();
    printf("cloakroom %s, %s\n\n", CR_VERSION_TEXT, facts->program);
    running_print(facts);
    printf("\nFindings\n");
    for (size_t i = 0; i < report->count; i++)
        finding_print(&report->findings[i], coloured);
    if (wrong == 0)
        printf("\nNothing is wrong");
    else
        printf("\n%zu %s wrong", wrong, wrong == 1 ? "is" : "are");
    if (notes > 0)
        printf(", %zu %s", notes, notes == 1 ? "note" : "notes");
    printf(".\n");
}

/* ---- JSON */

static json_t *number_json(long long number)
{
    return number >= 0 ? json_integer(number) : json_null();
}

static json_t *processes_json(const struct cr_doctor_facts *facts)
{
    json_t *list = json_array();
    for (size_t i = 0; i < facts->process_count; i++) {
        const struct cr_doctor_process *process = &facts->processes[i];
        json_array_append_new(
            list,
            json_pack("{s:s, s:I, s:s, s:b, s:o, s:o}", "role", cr_doctor_role_name(process->role),
                      "pid", (json_int_t)process->pid, "user", process->user, "confined",
                      (int)(process->seccomp == 2 && process->no_new_privileges == 1),
                      "locked_bytes", number_json(process->locked_bytes), "core_bytes_max",
                      number_json(process->core_max)));
    }
    return list;
}

static json_t *agent_json(const struct cr_doctor_facts *facts)
{
    static const char *const states[] = {[CR_DOCTOR_NO_AGENT] = "none",
                                         [CR_DOCTOR_ANSWERS] = "answers",
                                         [CR_DOCTOR_NOT_ASKED] = "not asked",
                                         [CR_DOCTOR_SILENT] = "silent",
                                         [CR_DOCTOR_FORBIDDEN] = "forbidden"};
    const struct cr_about *about = &facts->about;
    json_t *json = json_pack("{s:s, s:o}", "state", states[facts->agent], "pid",
                             facts->agent_pid > 0 ? json_integer(facts->agent_pid) : json_null());
    if (about->is_known)
        json_object_update_new(json, json_pack("{s:s, s:s, s:s, s:s?}", "version", about->version,
                                               "program", about->program, "started", about->started,
                                               "settings",
                                               about->config[0] != '\0' ? about->config : NULL));
    return json;
}

static json_t *table_json(const struct cr_doctor_facts *facts)
{
    const struct cr_stats *stats = &facts->stats;
    if (!facts->has_stats)
        return json_null();
    return json_pack("{s:s, s:I, s:I, s:I, s:I}", "kind", cache_name((int64_t)stats->cache),
                     "bytes", (json_int_t)stats->table_bytes, "sessions",
                     (json_int_t)stats->table_sessions, "capacity",
                     (json_int_t)stats->table_capacity, "attached", (json_int_t)attached(stats));
}

static json_t *findings_json(const struct cr_doctor_report *report)
{
    json_t *list = json_array();
    for (size_t i = 0; i < report->count; i++) {
        const struct cr_doctor_finding *finding = &report->findings[i];
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:s, s:s, s:s?}", "level",
                                        cr_doctor_level_name(finding->level), "code", finding->code,
                                        "area", finding->area, "text", finding->text, "fix",
                                        finding->fix[0] != '\0' ? finding->fix : NULL));
    }
    return list;
}

static json_t *report_json(const struct cr_doctor_facts *facts,
                           const struct cr_doctor_report *report)
{
    return json_pack(
        "{s:b, s:s, s:s, s:o, s:o, s:s?, s:s, s:s, s:o, s:o}", "ok",
        (int)(cr_doctor_count(report, CR_DOCTOR_WRONG) == 0), "version", CR_VERSION_TEXT, "program",
        facts->program, "agent", agent_json(facts), "processes", processes_json(facts), "settings",
        facts->config.path[0] != '\0' ? facts->config.path : NULL, "store", facts->store, "state",
        facts->state, "table", table_json(facts), "findings", findings_json(report));
}

/* ---- the log of a start */

static void protections_log(const struct cr_doctor_report *report)
{
    char text[1024] = "";
    size_t length = 0;
    for (size_t i = 0; i < report->count && length < sizeof text; i++)
        if (report->findings[i].level == CR_DOCTOR_OK &&
            strcmp(report->findings[i].area, "protections") == 0)
            length += (size_t)snprintf(text + length, sizeof text - length, "%s%s",
                                       length == 0 ? "" : "; ", report->findings[i].text);
    if (length > 0)
        cr_log(CR_LOG_INFO, "protected: %s", text);
}

void cr_doctor_log(const struct cr_place *place, const char *store, const char *state,
                   long agent_pid)
{
    struct cr_doctor_facts *facts = malloc(sizeof *facts);
    struct cr_doctor_report *report = malloc(sizeof *report);
    const struct cr_doctor_question question = {place, store, state, agent_pid};
    char table[128];
    if (facts == NULL || report == NULL)
        goto out; /* there is as much to say without it */
    cr_doctor_gather(&question, facts);
    cr_doctor_judge(facts, report);
    table_write(facts, table, sizeof table);
    cr_log(CR_LOG_INFO, "cloakroom %s, %s; settings %s; store %s; sockets in %s; table %s",
           CR_VERSION_TEXT, facts->program,
           facts->config.path[0] != '\0' ? facts->config.path : "without a file", facts->store,
           facts->state, table);
    protections_log(report);
    /* That of plain HTTP has been said by then. */
    for (size_t i = 0; i < report->count; i++) {
        const struct cr_doctor_finding *finding = &report->findings[i];
        bool is_warned = finding->level == CR_DOCTOR_WRONG || strcmp(finding->code, "CR-116") == 0;
        if (finding->level != CR_DOCTOR_OK && strcmp(finding->code, "behind-tls") != 0)
            cr_log(is_warned ? CR_LOG_WARN : CR_LOG_INFO, "%s: %s: %s -> %s",
                   cr_doctor_level_name(finding->level), finding->area, finding->text,
                   finding->fix);
    }
out:
    free(facts);
    free(report);
}

/* ---- the command */

int cr_cmd_doctor(int argc, char **argv)
{
    static const struct cr_form form = {
        .text = "Look whether all is well: what runs and from where, what protects it, what is "
                "wrong and how to mend it. Works with and without an agent that runs, and changes "
                "nothing. The exit status is 1 when something is wrong."
                "\vExamples:\n  cloakroom doctor\n  cloakroom doctor --config /srv/app.conf\n"
                "  cloakroom doctor --store sqlite:///srv/app.db --json",
        .settings = cr_place_rows,
        .takes_json = true,
        .takes_bad_settings = true};
    static struct cr_doctor_facts facts; /* large */
    static struct cr_doctor_report report;
    struct cr_place place;
    char store[CR_SETTING_TEXT_CHARS_MAX + 1];
    char state[PATH_MAX];
    cr_form_read(&form, argc, argv, &place, NULL);
    if (!cr_place_where(&place, store, sizeof store, state, sizeof state))
        return CR_EXIT_USAGE;
    const struct cr_doctor_question question = {.place = &place, .store = store, .state = state};
    cr_doctor_gather(&question, &facts);
    cr_doctor_judge(&facts, &report);
    const int exit_status =
        cr_doctor_count(&report, CR_DOCTOR_WRONG) == 0 ? CR_EXIT_OK : CR_EXIT_FAILED;
    if (!place.json) {
        report_print(&facts, &report);
        return exit_status;
    }
    const int printed = cr_json_print(report_json(&facts, &report));
    return printed != CR_EXIT_OK ? printed : exit_status;
}
