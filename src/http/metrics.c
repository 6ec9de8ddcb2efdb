/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the server is: for Prometheus (text format 0.0.4, names and units by its conventions), for
 * who asks whether it lives or can serve, and as JSON. No user, session or address stands in any of
 * it, and nothing here changes anything.
 *
 * Numbers come from three places: the agent, asked each time; the pages of the HTTP workers and of
 * this process; the supervisor's page. Without the agent, its part is missing, and said so.
 */
#include "http/counts.h"
#include "http/exchange.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "room/room.h"

/* --- Asking the agent --- */

static enum cr_http_progress stats_ask(struct cr_http_exchange *x, cr_http_step *next)
{
    struct cr_call *call = NULL;
    enum cr_status st = CR_UNAVAILABLE;
    x->stats = (struct cr_stats){.size = sizeof x->stats};
    /* A call would wait for the next agent. The question is what is there now. */
    if (x->room != NULL && cr_room_is_connected(x->room))
        st = cr_stats_begin(x->room, &call);
    return cr_http_wait(x, st, call, next);
}

static void stats_take(struct cr_http_exchange *x)
{
    struct cr_call *call = cr_http_call_take(x, &x->status);
    if (call != NULL)
        x->status = cr_stats_finish(call, &x->stats);
}

/* --- What the processes counted --- */

/* Of the number that stands `offset` bytes from the start of each page. */
static uint64_t counted(const struct cr_http_exchange *x, size_t offset)
{
    const struct cr_http_census *census = x->site->census;
    uint64_t sum = 0;
    for (size_t i = 0; census != NULL && i <= CR_HTTP_PAGES_MAX; i++) {
        const struct cr_http_counts *page = i < CR_HTTP_PAGES_MAX ? census->pages[i] : census->gone;
        if (page != NULL)
            sum += cr_http_count_get(
                (const _Atomic uint64_t *)(const void *)((const char *)page + offset));
    }
    return sum;
}

static uint64_t requests(const struct cr_http_exchange *x, enum cr_http_surface surface,
                         size_t route, size_t status)
{
    size_t place =
        ((size_t)surface * (CR_HTTP_ROUTES_MAX + 1) + route) * CR_HTTP_STATUSES_MAX + status;
    return counted(x, offsetof(struct cr_http_counts, requests) + place * sizeof(_Atomic uint64_t));
}

/* --- Log-ins, which are requests of two routes --- */

enum outcome {
    OUTCOME_DONE,
    OUTCOME_DENIED,
    OUTCOME_LIMITED,
    OUTCOME_REFUSED,
    OUTCOME_FAILED,
    OUTCOMES
};
static const char *const outcome_names[OUTCOMES] = {"done", "denied", "limited", "refused",
                                                    "failed"};

static enum outcome outcome_of(unsigned status)
{
    switch (status) {
    case 200:
    case 303:
        return OUTCOME_DONE;
    case 401:
        return OUTCOME_DENIED;
    case 429:
        return OUTCOME_LIMITED;
    case 400:
    case 403:
    case 409:
    case 413:
    case 415:
        return OUTCOME_REFUSED;
    default:
        return OUTCOME_FAILED;
    }
}

static void logins(const struct cr_http_exchange *x, enum cr_http_surface surface,
                   uint64_t out[OUTCOMES])
{
    size_t count;
    const struct cr_http_route *routes = cr_http_routes(surface, &count);
    memset(out, 0, OUTCOMES * sizeof out[0]);
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < CR_HTTP_STATUSES_MAX; k++)
            if (routes[i].handle == cr_http_login_post || routes[i].handle == cr_http_ops_login)
                out[outcome_of(cr_http_counted_status(k))] += requests(x, surface, i, k);
}

/* --- The text --- */

static void put(struct cr_text *out, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(struct cr_text *out, const char *format, ...)
{
    char line[256];
    va_list args;
    va_start(args, format);
    int count = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (count < 0 || (size_t)count >= sizeof line)
        out->failed = true;
    else
        cr_text_put(out, line, (size_t)count);
}

static void family(struct cr_text *out, const char *name, const char *type, const char *help)
{
    put(out, "# HELP %s %s\n", name, help);
    put(out, "# TYPE %s %s\n", name, type);
}

static void single(struct cr_text *out, const char *name, const char *type, const char *help,
                   uint64_t value)
{
    family(out, name, type, help);
    put(out, "%s %llu\n", name, (unsigned long long)value);
}

static void lease_put(struct cr_text *out, uint64_t left)
{
    family(out, "cloakroom_lease_left_seconds", "gauge",
           "How long the agent may answer without hearing from the store; +Inf where it holds the "
           "store alone.");
    if (left == UINT64_MAX)
        cr_text_str(out, "cloakroom_lease_left_seconds +Inf\n");
    else
        put(out, "cloakroom_lease_left_seconds %llu.%03llu\n", (unsigned long long)left / 1000,
            (unsigned long long)left % 1000);
}

static const struct {
    const char *name, *type, *help;
    size_t offset;
} agent_rows[] = {
#define ROW(name, type, field, help)                                                               \
    {                                                                                              \
        "cloakroom_" name, type, help, offsetof(struct cr_stats, field)                            \
    }
    ROW("endings_total", "counter", endings, "Calls that ended sessions."),
    ROW("table_sessions", "gauge", table_sessions, "Sessions in the shared table."),
    ROW("table_sessions_max", "gauge", table_capacity, "Sessions that fit into it."),
    ROW("table_bytes", "gauge", table_bytes, "Memory of the table."),
    ROW("table_evicted_total", "counter", evicted, "Live sessions that the table had no room for."),
    ROW("table_fills_total", "counter", fills, "Sessions put into the table."),
    ROW("table_fills_refused_total", "counter", fills_refused,
        "Fills that an ending had overtaken."),
    ROW("store_reads_total", "counter", store_reads, "Reads asked of the store."),
    ROW("store_writes_total", "counter", store_writes, "Writes asked of the store."),
    ROW("store_commits_total", "counter", store_commits, "Commits of the store."),
    ROW("store_calls_waiting", "gauge", store_waiting, "Store calls not answered yet."),
    ROW("engines", "gauge", engines, "Agents that share the store, this one included."),
    ROW("tokens_unknown_total", "counter", tokens_unknown,
        "Validations of tokens that nobody made."),
    ROW("token_guessing_total", "counter", guessing_noticed,
        "Times that a source was noticed to guess tokens."),
    ROW("agent_peers", "gauge", attached_workers, "Processes that are connected to the agent."),
#undef ROW
};
#define AGENT_ROWS (sizeof agent_rows / sizeof agent_rows[0])

static uint64_t agent_value(const struct cr_stats *stats, size_t row)
{
    uint64_t value;
    memcpy(&value, (const char *)stats + agent_rows[row].offset, sizeof value);
    return value;
}

static void agent_put(struct cr_text *out, const struct cr_stats *stats)
{
    for (size_t i = 0; i < AGENT_ROWS; i++)
        single(out, agent_rows[i].name, agent_rows[i].type, agent_rows[i].help,
               agent_value(stats, i));
    lease_put(out, stats->lease_left);
    family(out, "cloakroom_store_call_seconds", "summary",
           "Time in the store: each read, and each batch of writes with its commit.");
    put(out, "cloakroom_store_call_seconds_sum %llu.%06llu\n",
        (unsigned long long)stats->store_micros / 1000000,
        (unsigned long long)stats->store_micros % 1000000);
    put(out, "cloakroom_store_call_seconds_count %llu\n", (unsigned long long)stats->store_calls);
}

static const char *const surface_names[CR_HTTP_SURFACES] = {
    [CR_HTTP_PUBLIC] = "public", [CR_HTTP_ADMIN] = "admin", [CR_HTTP_MONITOR] = "monitor"};

static const char *method_name(enum cr_http_method method)
{
    switch (method) {
    case CR_HTTP_GET:
        return "GET";
    case CR_HTTP_POST:
        return "POST";
    case CR_HTTP_DELETE:
        return "DELETE";
    case CR_HTTP_ANY:
        break;
    }
    return "any";
}

static void requests_put(struct cr_text *out, const struct cr_http_exchange *x,
                         enum cr_http_surface surface)
{
    size_t count;
    const struct cr_http_route *routes = cr_http_routes(surface, &count);
    for (size_t i = 0; i <= CR_HTTP_ROUTES_MAX; i++) {
        if (i >= count && i < CR_HTTP_ROUTES_MAX)
            continue;
        for (size_t k = 0; k < CR_HTTP_STATUSES_MAX; k++) {
            uint64_t value = requests(x, surface, i, k);
            if (value == 0)
                continue;
            put(out, "cloakroom_http_requests_total{surface=\"%s\",method=\"%s\",route=\"%s\",",
                surface_names[surface], i < count ? method_name(routes[i].method) : "any",
                i < count ? routes[i].path : "none");
            put(out, cr_http_counted_status(k) > 0 ? "status=\"%u\"}" : "status=\"other\"}",
                cr_http_counted_status(k));
            put(out, " %llu\n", (unsigned long long)value);
        }
    }
}

static void logins_put(struct cr_text *out, const struct cr_http_exchange *x)
{
    static const struct {
        enum cr_http_surface surface;
        const char *checked_by;
    } kinds[] = {{CR_HTTP_PUBLIC, "password"}, {CR_HTTP_ADMIN, "application"}};
    family(out, "cloakroom_logins_total", "counter", "Log-ins over HTTP, and what came of them.");
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        uint64_t values[OUTCOMES];
        logins(x, kinds[i].surface, values);
        for (size_t k = 0; k < OUTCOMES; k++)
            put(out, "cloakroom_logins_total{checked_by=\"%s\",outcome=\"%s\"} %llu\n",
                kinds[i].checked_by, outcome_names[k], (unsigned long long)values[k]);
    }
}

static const char *const process_names[CR_HTTP_PROCESSES] = {
    [CR_HTTP_AGENT] = "agent", [CR_HTTP_WORKER] = "worker", [CR_HTTP_OPS] = "ops"};

static void processes_put(struct cr_text *out, const char *name, const char *type, const char *help,
                          const _Atomic uint64_t *values)
{
    family(out, name, type, help);
    for (size_t i = 0; i < CR_HTTP_PROCESSES; i++)
        put(out, "%s{kind=\"%s\"} %llu\n", name, process_names[i],
            (unsigned long long)cr_http_count_get(&values[i]));
}

static enum cr_http_progress metrics(struct cr_http_exchange *x)
{
    struct cr_text *out = &x->body;
    const struct cr_http_census *census = x->site->census;
    stats_take(x);
    single(out, "cloakroom_agent_up", "gauge", "Whether the agent answers: 1, or 0.",
           x->status == CR_OK);
    if (x->status == CR_OK)
        agent_put(out, &x->stats);
    family(out, "cloakroom_validations_total", "counter",
           "Validations in the HTTP workers: answered from the shared table, or asked for.");
    put(out, "cloakroom_validations_total{result=\"hit\"} %llu\n",
        (unsigned long long)counted(x, offsetof(struct cr_http_counts, hits)));
    put(out, "cloakroom_validations_total{result=\"miss\"} %llu\n",
        (unsigned long long)counted(x, offsetof(struct cr_http_counts, misses)));
    logins_put(out, x);
    family(out, "cloakroom_http_requests_total", "counter",
           "Requests answered; the route is the pattern, never the address.");
    for (int i = 0; i < CR_HTTP_SURFACES; i++)
        requests_put(out, x, (enum cr_http_surface)i);
    single(out, "cloakroom_http_connections", "gauge", "Connections that are open.",
           counted(x, offsetof(struct cr_http_counts, connections)));
    if (census != NULL && census->processes != NULL) {
        processes_put(out, "cloakroom_processes", "gauge", "Processes that run.",
                      census->processes->running);
        processes_put(out, "cloakroom_processes_wanted", "gauge", "Processes that ought to run.",
                      census->processes->wanted);
        processes_put(out, "cloakroom_process_starts_total", "counter",
                      "Processes started; more than are wanted have been replaced.",
                      census->processes->starts);
    }
    return cr_http_reply_body(x, 200, "text/plain; version=0.0.4; charset=utf-8");
}

/* --- The routes --- */

enum cr_http_progress cr_http_metrics(struct cr_http_exchange *x)
{
    return stats_ask(x, metrics);
}

enum cr_http_progress cr_http_healthz(struct cr_http_exchange *x)
{
    cr_text_str(&x->body, "{\"alive\":true}\n");
    return cr_http_reply_body(x, 200, "application/json");
}

static enum cr_http_progress readyz(struct cr_http_exchange *x)
{
    stats_take(x);
    if (x->status != CR_OK)
        return cr_http_problem(x, 503, "The agent does not answer.");
    if (x->stats.lease_left == 0)
        return cr_http_problem(x, 503,
                               "The agent's lease has run out: it does not reach its store.");
    cr_text_str(&x->body, "{\"ready\":true}\n");
    return cr_http_reply_body(x, 200, "application/json");
}

enum cr_http_progress cr_http_readyz(struct cr_http_exchange *x)
{
    return stats_ask(x, readyz);
}

static enum cr_http_progress stats(struct cr_http_exchange *x)
{
    struct cr_text *out = &x->body;
    uint64_t by_password[OUTCOMES], by_application[OUTCOMES];
    stats_take(x);
    if (x->status != CR_OK)
        return cr_http_problem_status(x, x->status);
    put(out, "{\"agent_pid\":%llu,\"hits\":%llu,\"misses\":%llu",
        (unsigned long long)x->stats.agent_pid,
        (unsigned long long)counted(x, offsetof(struct cr_http_counts, hits)),
        (unsigned long long)counted(x, offsetof(struct cr_http_counts, misses)));
    for (size_t i = 0; i < AGENT_ROWS; i++) {
        const char *name = agent_rows[i].name + strlen("cloakroom_");
        size_t count = strlen(name);
        if (count > 6 && strcmp(name + count - 6, "_total") == 0)
            count -= 6;
        put(out, ",\"%.*s\":%llu", (int)count, name, (unsigned long long)agent_value(&x->stats, i));
    }
    put(out, ",\"store_calls\":%llu,\"store_calls_us\":%llu",
        (unsigned long long)x->stats.store_calls, (unsigned long long)x->stats.store_micros);
    if (x->stats.lease_left == UINT64_MAX)
        cr_text_str(out, ",\"lease_left_ms\":null");
    else
        put(out, ",\"lease_left_ms\":%llu", (unsigned long long)x->stats.lease_left);
    logins(x, CR_HTTP_PUBLIC, by_password);
    logins(x, CR_HTTP_ADMIN, by_application);
    cr_text_str(out, ",\"logins\":{");
    for (size_t i = 0; i < OUTCOMES; i++) {
        by_password[i] += by_application[i];
        put(out, "%s\"%s\":%llu", i > 0 ? "," : "", outcome_names[i],
            (unsigned long long)by_password[i]);
    }
    cr_text_str(out, "}}\n");
    return cr_http_reply_body(x, 200, "application/json");
}

enum cr_http_progress cr_http_ops_stats(struct cr_http_exchange *x)
{
    return stats_ask(x, stats);
}
