/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's life: start, reload, stop. Owns the engine and everything over it; sockets and peers
 * are in peers.c, the state directory in state.c.
 *
 * Order of a start: be the agent (lock), open the truth (store, engine), then open the doors: a
 * peer that can connect is served. Order of a stop: close the doors, answer what is under way,
 * retire the table, release the store, then let go of the lock.
 */
#include "agent/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/peers.h"
#include "agent/state.h"
#include "auth/common.h"
#include "base/assert.h"
#include "base/audit.h"
#include "base/log.h"
#include "base/random.h"
#include "coord/lease.h"
#include "service/service.h"
#include "store/sqlite_log.h"
#include "store/store.h"

#define CACHE_BYTES_DEFAULT ((size_t)64 << 20)
#define IDLE_MS_DEFAULT (30LL * 60 * 1000)
#define ABSOLUTE_MS_DEFAULT (12LL * 3600 * 1000)
#define LEASE_MS_DEFAULT 5000
#define POLL_MS_DEFAULT 1000
#define SPAN_CHARS 32
#define STORE_TRIES 50
#define STORE_RETRY_US 20000
#define REALM_DEFAULT "cloakroom"
#define LOG_LOOK_MS 2000

struct agent {
    const struct cr_agent_options *options;
    struct cr_loop *loop;
    struct cr_engine *engine;
    struct cr_auth *auth;
    struct cr_common *common; /* what the setting password.list names; NULL: none */
    struct cr_leases *leases;
    struct cr_service *service;
    struct cr_peers *peers;
    struct cr_audit *audit; /* NULL: none */
    struct cr_timer exit_timer, beat_timer, log_timer;
    long log_holder; /* at the last look; 0: nobody */
    bool log_is_told;
    int lock_fd;
    bool stopping;
    /* A reload. The list of passwords may be long: another thread reads it meanwhile. */
    bool reloading, reload_again;
    struct cr_agent_settings running, fresh;
    struct cr_pool *reader; /* NULL: none was needed yet */
    struct cr_work reading;
    enum cr_status read;
    struct cr_common *fresh_common;
    struct cr_error read_error;
};

static const char *realm_of(const struct cr_agent_options *options)
{
    return options->realm != NULL ? options->realm : REALM_DEFAULT;
}

static cr_span_ms span_or(cr_span_ms span, cr_span_ms otherwise)
{
    return span != 0 ? span : otherwise;
}

static enum cr_cache cache_of(const struct cr_agent_settings *settings)
{
    return settings->cache != CR_CACHE_DEFAULT ? settings->cache : CR_CACHE_SHARED;
}

static size_t cache_bytes_of(const struct cr_agent_settings *settings)
{
    return settings->cache_bytes != 0 ? settings->cache_bytes : CACHE_BYTES_DEFAULT;
}

static void agent_say(void *context, const char *text)
{
    cr_log(CR_LOG_INFO, "%s", text);
}

static void lifetimes_write(const struct cr_agent_settings *settings, char idle[SPAN_CHARS],
                            char absolute[SPAN_CHARS])
{
    (void)snprintf(idle, SPAN_CHARS, "%lld", (long long)span_or(settings->idle, IDLE_MS_DEFAULT));
    (void)snprintf(absolute, SPAN_CHARS, "%lld",
                   (long long)span_or(settings->absolute, ABSOLUTE_MS_DEFAULT));
}

/* Every number that says how long somebody may stay, and which key signs: that one of them was
 * changed shows in the start or the reload after it. */
static void audit_start(struct agent *agent)
{
    const struct cr_agent_options *options = agent->options;
    char idle[SPAN_CHARS], absolute[SPAN_CHARS], key[16];
    lifetimes_write(&options->settings, idle, absolute);
    (void)snprintf(key, sizeof key, "%u", (unsigned)cr_engine_key_number(agent->engine));
    const struct cr_audit_field fields[] = {
        CR_AUDIT_TEXT("realm", realm_of(options)), CR_AUDIT_TEXT("idle_ms", idle),
        CR_AUDIT_TEXT("absolute_ms", absolute), CR_AUDIT_TEXT("key", key)};
    cr_audit_event(agent->audit, "start", fields, sizeof fields / sizeof fields[0]);
}

static void audit_outcome(struct agent *agent, const char *event, const char *outcome)
{
    const struct cr_audit_field field = CR_AUDIT_TEXT("outcome", outcome);
    cr_audit_event(agent->audit, event, &field, 1);
}

static void agent_lease_lost(void *context, const char *why)
{
    struct agent *agent = context;
    const struct cr_audit_field field = CR_AUDIT_TEXT("why", why);
    cr_audit_event(agent->audit, "lease_lost", &field, 1);
}

static void agent_table_changed(void *context, int fd)
{
    struct agent *agent = context;
    if (agent->service != NULL) /* not yet while the engine is made */
        cr_service_table_changed(agent->service, fd);
}

static enum cr_status agent_engine(struct agent *agent, struct cr_store *store,
                                   struct cr_error *error)
{
    const struct cr_agent_options *options = agent->options;
    char host[HOST_NAME_MAX + 1] = "?", label[HOST_NAME_MAX + 32];
    (void)gethostname(host, sizeof host - 1);
    (void)snprintf(label, sizeof label, "%s pid %ld", host, (long)getpid());
    struct cr_engine_options engine = {
        .loop = agent->loop,
        .random = cr_random_system(),
        .store = store,
        .realm = realm_of(options),
        .label = label,
        .cache = cache_of(&options->settings),
        .cache_bytes = cache_bytes_of(&options->settings),
        .huge_pages = options->settings.huge_pages,
        .idle = span_or(options->settings.idle, IDLE_MS_DEFAULT),
        .absolute = span_or(options->settings.absolute, ABSOLUTE_MS_DEFAULT),
        .lease = span_or(options->lease, LEASE_MS_DEFAULT),
        .poll = span_or(options->poll, POLL_MS_DEFAULT),
        .grace = options->grace,
        .table_changed = agent_table_changed,
        .lease_lost = agent_lease_lost,
        .say = agent_say,
        .context = agent,
    };
    return cr_engine_create(&engine, &agent->engine, error);
}

/* A predecessor that was killed may still be letting go of the store. */
static enum cr_status store_open(const char *url, const struct cr_store_env *env,
                                 struct cr_store **out_store, struct cr_error *error)
{
    enum cr_status st = cr_store_open(url, env, out_store, error);
    for (int i = 0; st == CR_BUSY && i < STORE_TRIES; i++) {
        (void)usleep(STORE_RETRY_US);
        st = cr_store_open(url, env, out_store, error);
    }
    if (st != CR_BUSY)
        return st;
    char seen[sizeof error->text];
    memcpy(seen, error->text, sizeof seen);
    cr_agent_error(
        error, CR_E_REFUSED,
        "%.700s. One process at a time may have this store open, and it is not this "
        "user's agent. Open that agent's socket instead (cloakroom:///DIRECTORY/app.sock), "
        "or stop that process",
        seen);
    return CR_E_REFUSED;
}

static bool is_empty(const char *text)
{
    return text == NULL || text[0] == '\0';
}

/* The engine over its store, and what stands on the engine. */
static enum cr_status agent_serve(struct agent *agent, struct cr_error *error)
{
    const char *url = agent->options->store;
    const struct cr_agent_settings *settings = &agent->options->settings;
    bool own_table = strncmp(url, "table:", 6) == 0;
    struct cr_store *store = NULL;
    struct cr_store_env env;
    enum cr_status st = cr_store_env_system(&env);
    if (st == CR_OK && !own_table && !is_empty(settings->password_list))
        st = cr_common_open(settings->password_list, &agent->common, error);
    struct cr_password_rules rules = {.chars_min = settings->password_chars_min,
                                      .realm = realm_of(agent->options),
                                      .common = agent->common};
    if (st == CR_OK && !own_table)
        st = store_open(url, &env, &store, error);
    if (st == CR_OK)
        st = agent_engine(agent, store, error);
    if (st == CR_OK && !own_table)
        st = cr_auth_create(agent->engine,
                            &(struct cr_auth_options){.threads = agent->options->hash_threads,
                                                      .queue_max = agent->options->hash_queue,
                                                      .limits = settings->limits,
                                                      .rules = rules},
                            &agent->auth);
    if (st == CR_OK && !own_table)
        st = cr_leases_create(agent->engine, &agent->leases);
    if (st == CR_OK)
        st = cr_service_create(&(struct cr_service_options){.engine = agent->engine,
                                                            .auth = agent->auth,
                                                            .leases = agent->leases,
                                                            .audit = agent->audit,
                                                            .realm = realm_of(agent->options)},
                               &agent->service);
    return st;
}

/* Doors. */

static void exit_fired(struct cr_timer *timer)
{
    struct agent *agent =
        (struct agent *)(void *)((char *)timer - offsetof(struct agent, exit_timer));
    cr_log(CR_LOG_INFO, "nobody is left: the agent goes");
    cr_loop_uv_stop(agent->loop);
}

/* Whoever does not read it finds it full, and the agent goes on. */
static void beat_fired(struct cr_timer *timer)
{
    struct agent *agent =
        (struct agent *)(void *)((char *)timer - offsetof(struct agent, beat_timer));
    (void)!write(agent->options->ready_fd, "\n", 1);
    cr_timer_set(agent->loop, timer,
                 cr_boot_add(cr_clock_boot(agent->loop->clock), agent->options->beat));
}

/* Somebody else's read of the store keeps its log from being emptied: the disk fills. */
static void log_fired(struct cr_timer *timer)
{
    static const char scheme[] = "sqlite://";
    struct agent *agent =
        (struct agent *)(void *)((char *)timer - offsetof(struct agent, log_timer));
    struct cr_sqlite_log log;
    if (strncmp(agent->options->store, scheme, sizeof scheme - 1) != 0)
        return;
    cr_sqlite_log_look(agent->options->store + sizeof scheme - 1, (long)getpid(), &log);
    /* Twice the same one: most reads are short. */
    bool is_held = log.holder > 0 && log.holder == agent->log_holder;
    if (is_held && !agent->log_is_told)
        cr_log(CR_LOG_WARN,
               "the store's write-ahead log is %llu MiB and cannot be emptied: process %ld has a "
               "read of the store open; let it go on, or end it",
               (unsigned long long)(log.bytes >> 20), log.holder);
    else if (log.holder == 0 && agent->log_is_told)
        cr_log(CR_LOG_INFO, "nobody holds the store's write-ahead log any more");
    agent->log_is_told = is_held || (agent->log_is_told && log.holder > 0);
    agent->log_holder = log.holder;
    cr_timer_set(agent->loop, timer, cr_boot_add(cr_clock_boot(agent->loop->clock), LOG_LOOK_MS));
}

static void agent_census(void *context, size_t count)
{
    struct agent *agent = context;
    if (!agent->options->automatic)
        return;
    if (count > 0)
        cr_timer_stop(agent->loop, &agent->exit_timer);
    else
        cr_timer_set(agent->loop, &agent->exit_timer,
                     cr_boot_add(cr_clock_boot(agent->loop->clock),
                                 span_or(agent->options->auto_exit, CR_AGENT_AUTO_EXIT_MS)));
}

static enum cr_status door_listen(struct agent *agent, const char *name, unsigned mode,
                                  enum cr_role role, struct cr_error *error)
{
    char path[PATH_MAX];
    if (!cr_agent_state_path(agent->options->state, name, path)) {
        cr_agent_error(error, CR_E_LIMIT, "the name of the state directory is too long");
        return CR_E_LIMIT;
    }
    enum cr_status st = cr_peers_listen(agent->peers, path, mode, role);
    if (st != CR_OK)
        cr_agent_error(error, st, "cannot listen on %s: %s", path,
                       st == CR_E_LIMIT ? "the name is longer than a socket's may be"
                                        : strerror(errno));
    return st;
}

static enum cr_status agent_doors(struct agent *agent, struct cr_error *error)
{
    unsigned app_mode = agent->options->app_mode != 0 ? agent->options->app_mode : 0600;
    enum cr_status st =
        cr_peers_create(agent->loop, agent->service, agent_census, agent, &agent->peers);
    if (st == CR_OK)
        st = door_listen(agent, CR_AGENT_OPERATOR_SOCKET, 0600, CR_ROLE_OPERATOR, error);
    if (st == CR_OK)
        st = door_listen(agent, CR_AGENT_HTTP_SOCKET, 0600, CR_ROLE_HTTP, error);
    if (st == CR_OK)
        st = door_listen(agent, CR_AGENT_APP_SOCKET, app_mode, CR_ROLE_APP, error);
    if (st == CR_OK)
        agent_census(agent, 0);
    return st;
}

/* Signals. */

static void agent_stopped(void *context)
{
    struct agent *agent = context;
    cr_loop_uv_stop(agent->loop);
}

/* Locks are given back while the loop still runs, or they would stay held until they run out. */
static void agent_stop(void *context, int signal_number)
{
    struct agent *agent = context;
    if (agent->stopping)
        return;
    agent->stopping = true;
    cr_log(CR_LOG_INFO, "the agent stops: %s", strsignal(signal_number));
    if (agent->peers != NULL)
        cr_peers_close_doors(agent->peers);
    if (agent->service != NULL)
        cr_service_stop(agent->service);
    if (agent->leases != NULL)
        cr_leases_close(agent->leases, agent_stopped, agent);
    else
        agent_stopped(agent);
}

/* Reload. What can fail comes first, each by itself without a trace; then all of it is set. */

static void reload_begin(struct agent *agent);

static void reload_end(struct agent *agent, bool taken)
{
    char idle[SPAN_CHARS];
    char absolute[SPAN_CHARS];
    lifetimes_write(&agent->running, idle, absolute);
    const struct cr_audit_field fields[] = {CR_AUDIT_TEXT("outcome", taken ? "done" : "refused"),
                                            CR_AUDIT_TEXT("idle_ms", idle),
                                            CR_AUDIT_TEXT("absolute_ms", absolute)};
    cr_audit_event(agent->audit, "settings", fields, sizeof fields / sizeof fields[0]);
    if (agent->options->answers_reloads)
        (void)!write(agent->options->ready_fd, taken ? "+" : "-", 1);
    agent->reloading = false;
    if (agent->reload_again && !agent->stopping)
        reload_begin(agent);
}

static void settings_put(struct agent *agent, const struct cr_agent_settings *settings)
{
    const struct cr_password_rules rules = {.chars_min = settings->password_chars_min,
                                            .realm = realm_of(agent->options),
                                            .common = agent->fresh_common};
    cr_engine_set_lifetimes(agent->engine, settings->idle, settings->absolute);
    if (agent->auth != NULL)
        cr_auth_rules_set(agent->auth, &rules);
    cr_common_destroy(agent->common);
    agent->common = agent->fresh_common;
    agent->fresh_common = NULL;
    agent->running = *settings;
}

static void reload_go_on(struct agent *agent)
{
    const struct cr_agent_settings *fresh = &agent->fresh;
    enum cr_status st = agent->read;
    if (st != CR_OK)
        cr_log(CR_LOG_ERROR, "the settings stay as they were: %s", agent->read_error.text);
    if (st == CR_OK) {
        st = cr_engine_set_cache(agent->engine, cache_of(fresh), cache_bytes_of(fresh),
                                 fresh->huge_pages);
        if (st != CR_OK)
            cr_log(CR_LOG_ERROR, "the settings stay as they were: a table of %zu bytes: %s",
                   cache_bytes_of(fresh), cr_status_text(st));
    }
    if (st == CR_OK && agent->auth != NULL) {
        st = cr_throttle_set(cr_auth_throttle(agent->auth), &fresh->limits);
        CR_ASSERT(st == CR_OK); /* who reads the settings has looked at their form */
    }
    if (st == CR_OK)
        settings_put(agent, fresh);
    cr_common_destroy(agent->fresh_common);
    agent->fresh_common = NULL;
    if (agent->options->reloaded != NULL)
        agent->options->reloaded(agent->options->context, st == CR_OK);
    reload_end(agent, st == CR_OK);
}

static struct agent *agent_of_reading(struct cr_work *work)
{
    return (struct agent *)(void *)((char *)work - offsetof(struct agent, reading));
}

static void list_read(void *context, unsigned thread, struct cr_work *const *batch, size_t count)
{
    struct agent *agent = context;
    CR_ASSERT(count == 1 && batch[0] == &agent->reading);
    agent->read =
        cr_common_open(agent->fresh.password_list, &agent->fresh_common, &agent->read_error);
}

static void list_read_done(struct cr_work *work)
{
    struct agent *agent = agent_of_reading(work);
    if (!agent->stopping)
        reload_go_on(agent);
}

static bool list_begin(struct agent *agent)
{
    const struct cr_pool_options options = {.name = "reload",
                                            .threads = 1,
                                            .queue_max = 1,
                                            .batch_max = 1,
                                            .run = list_read,
                                            .context = agent};
    agent->reading.done = list_read_done;
    return (agent->reader != NULL ||
            cr_pool_create(agent->loop, &options, &agent->reader) == CR_OK) &&
           cr_pool_submit(agent->reader, &agent->reading);
}

static void reload_begin(struct agent *agent)
{
    agent->reload_again = false;
    agent->reloading = true;
    agent->fresh = agent->running;
    agent->read = CR_OK;
    agent->read_error = (struct cr_error){.size = sizeof agent->read_error};
    if (!agent->options->reload(agent->options->context, &agent->fresh)) {
        reload_end(agent, false);
    } else if (agent->auth == NULL || is_empty(agent->fresh.password_list)) {
        reload_go_on(agent);
    } else if (!list_begin(agent)) {
        agent->read = CR_E_NO_MEMORY;
        cr_agent_error(&agent->read_error, agent->read, "no thread to read password.list in");
        reload_go_on(agent);
    }
}

static void agent_reload(void *context, int signal_number)
{
    struct agent *agent = context;
    cr_audit_reopen(agent->audit);
    if (agent->options->reload == NULL || agent->stopping)
        return;
    agent->reload_again = agent->reloading;
    if (!agent->reloading)
        reload_begin(agent);
}

static enum cr_status agent_signals(struct agent *agent)
{
    sigset_t none;
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN); /* a limit on files is an answer of write(2) */
    enum cr_status st = cr_loop_uv_signal(agent->loop, SIGTERM, agent_stop, agent);
    if (st == CR_OK)
        st = cr_loop_uv_signal(agent->loop, SIGINT, agent_stop, agent);
    if (st == CR_OK)
        st = cr_loop_uv_signal(agent->loop, SIGHUP, agent_reload, agent);
    return st;
}

/* Start and stop. */

static enum cr_status agent_start(struct agent *agent, struct cr_error *error)
{
    const struct cr_agent_options *options = agent->options;
    bool is_shared = (options->app_mode & 0066) != 0;
    enum cr_status st = cr_agent_state_prepare(options->state, is_shared ? 0755 : 0700, error);
    if (st == CR_OK && options->automatic)
        st = cr_agent_state_log(options->state, error);
    if (st == CR_OK)
        st = cr_agent_state_lock(options->state, &agent->lock_fd, error);
    if (st == CR_OK)
        st = cr_loop_uv_create(&agent->loop);
    if (st == CR_OK)
        st = agent_signals(agent);
    if (st == CR_OK && options->audit != NULL && options->audit[0] != '\0')
        st = cr_audit_open(options->audit, agent->loop->clock, &agent->audit, error);
    if (st == CR_OK)
        st = agent_serve(agent, error);
    if (st == CR_OK)
        st = agent_doors(agent, error);
    return st;
}

static void agent_fini(struct agent *agent)
{
    if (agent->peers != NULL)
        cr_peers_close_doors(agent->peers);
    if (agent->service != NULL)
        cr_service_stop(agent->service);
    cr_leases_destroy(agent->leases);
    cr_auth_destroy(agent->auth);
    cr_pool_destroy(agent->reader);
    cr_common_destroy(agent->common);
    cr_common_destroy(agent->fresh_common);
    cr_engine_destroy(agent->engine); /* its last answers go to the peers */
    cr_peers_destroy(agent->peers);
    cr_service_destroy(agent->service);
    if (agent->stopping)
        audit_outcome(agent, "stop", "done");
    cr_audit_close(agent->audit);
    if (agent->loop != NULL) {
        cr_timer_stop(agent->loop, &agent->exit_timer);
        cr_timer_stop(agent->loop, &agent->beat_timer);
        cr_timer_stop(agent->loop, &agent->log_timer);
        cr_loop_uv_destroy(agent->loop);
    }
    cr_agent_state_unlock(agent->lock_fd);
}

static void ready_tell(const struct cr_agent_options *options, enum cr_status status,
                       const struct cr_error *error)
{
    if (options->ready_fd < 0)
        return;
    if (status == CR_OK)
        (void)dprintf(options->ready_fd, "READY=1\n");
    else
        (void)dprintf(options->ready_fd, "%d %s\n", (int)status, error->text);
    if (status != CR_OK || (options->beat == 0 && !options->answers_reloads))
        close(options->ready_fd);
}

static void beat_start(struct agent *agent)
{
    const struct cr_agent_options *options = agent->options;
    if (options->ready_fd < 0 || (options->beat == 0 && !options->answers_reloads))
        return;
    (void)fcntl(options->ready_fd, F_SETFL, O_NONBLOCK);
    (void)fcntl(options->ready_fd, F_SETFD, FD_CLOEXEC);
    if (options->beat != 0)
        beat_fired(&agent->beat_timer);
}

/* Whoever started us waits for the line on ready_fd and for this process, and is then rid of both:
 * the agent itself is nobody's child. */
static void agent_detach(void)
{
    pid_t pid = fork();
    if (pid > 0)
        _exit(0);
    /* No process to be had: then the agent stays a child. */
}

int cr_agent_main(const struct cr_agent_options *options)
{
    struct cr_error error = {.size = sizeof error};
    struct agent agent = {.options = options, .lock_fd = -1, .running = options->settings};
    agent.exit_timer.fire = exit_fired;
    agent.beat_timer.fire = beat_fired;
    agent.log_timer.fire = log_fired;
    CR_ASSERT(options->store != NULL && options->state != NULL);
    if (options->automatic)
        agent_detach();
    enum cr_status st = agent_start(&agent, &error);
    if (st != CR_OK && error.text[0] == '\0')
        cr_agent_error(&error, st, "%s", cr_status_text(st));
    /* Whoever started us says it, once. */
    if (st != CR_OK && options->ready_fd < 0)
        cr_log(CR_LOG_ERROR, "the agent does not start: %s", error.text);
    if (st == CR_OK) {
        audit_start(&agent);
        if (options->serves != NULL)
            options->serves(options->context);
        ready_tell(options, st, &error);
        beat_start(&agent);
        log_fired(&agent.log_timer);
        cr_log(CR_LOG_INFO, "the agent serves %s", options->state);
        cr_loop_uv_run(agent.loop);
    }
    agent_fini(&agent);
    /* Only now: who hears it may try again at once, and must not meet our lock. */
    if (st != CR_OK)
        ready_tell(options, st, &error);
    return st == CR_OK ? 0 : st == CR_BUSY ? CR_AGENT_EXIT_BUSY : 1;
}
