/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the service manager that has started us is told, and when. How, is base/manager.h.
 *
 *   - READY=1 once every worker serves, and again at the end of each reload that RELOADING=1 began,
 *     whatever came of it; STOPPING=1 when the stop begins.
 *   - WATCHDOG=1 only while the agent and every worker are well: each serves, and was heard of
 *     lately. On the way to the end it is told so without looking: that way has bounds of its own.
 *   - Nobody who listens: all of this does nothing.
 */
#include "server/supervisor.h"

#include <stdio.h>
#include <time.h>

/* Parts of the time in which a service manager wants to hear of us: each process of ours is to be
 * heard of eight times, and was well half of it ago at the latest. */
#define WATCHDOG_BEATS 8
#define WATCHDOG_SILENCE 2
#define WATCHDOG_FEEDS 4

cr_span_ms cr_service_manager_beat(const struct supervisor *s)
{
    cr_span_ms beat = s->manager.watchdog / WATCHDOG_BEATS;
    return s->manager.watchdog > 0 && beat == 0 ? 1 : beat;
}

/* --- Told --- */

void cr_service_manager_serving(struct supervisor *s, const char *address)
{
    cr_manager_tell(&s->manager, "READY=1\nSTATUS=%u workers serve on %s", s->options->workers,
                    address);
    s->feed_due = s->now;
}

static unsigned long long monotonic_us(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (unsigned long long)now.tv_sec * 1000000 + (unsigned long long)now.tv_nsec / 1000;
}

void cr_service_manager_reloading(const struct supervisor *s)
{
    cr_manager_tell(&s->manager, "RELOADING=1\nMONOTONIC_USEC=%llu", monotonic_us());
}

void cr_service_manager_reloaded(const struct supervisor *s)
{
    cr_manager_tell(&s->manager, "READY=1");
}

void cr_service_manager_stopping(const struct supervisor *s)
{
    cr_manager_tell(&s->manager, "STOPPING=1");
}

/* --- The watchdog --- */

static bool is_silent(const struct supervisor *s, cr_boot_ns heard)
{
    return s->now > cr_boot_add(heard, s->manager.watchdog / WATCHDOG_SILENCE);
}

/* Empty: all are well. */
static void sick_write(const struct supervisor *s, char *out, size_t capacity)
{
    out[0] = '\0';
    if (!s->agent_serves)
        (void)snprintf(out, capacity, "the agent does not serve");
    else if (is_silent(s, s->agent_heard))
        (void)snprintf(out, capacity, "the agent does not answer");
    for (unsigned i = 0; i < s->slot_count && out[0] == '\0'; i++) {
        const struct worker_slot *worker = &s->workers[i];
        const char *what = !worker->ready                ? "does not serve"
                           : is_silent(s, worker->heard) ? "does not answer"
                                                         : NULL;
        if (what != NULL && is_ops(s, worker))
            (void)snprintf(out, capacity, "the ops worker %s", what);
        else if (what != NULL)
            (void)snprintf(out, capacity, "worker %u %s", i + 1, what);
    }
}

cr_boot_ns cr_service_manager_due(const struct supervisor *s)
{
    return s->manager.watchdog > 0 && s->stage >= STAGE_SERVING ? s->feed_due : CR_BOOT_NEVER;
}

/* A process that died is started again by us; one that hangs is for the manager, who starts all of
 * us again when it has not been told for long enough that we are well. */
void cr_service_manager_feed(struct supervisor *s)
{
    char sick[64] = "";
    if (s->manager.watchdog == 0 || s->stage < STAGE_SERVING || s->now < s->feed_due)
        return;
    s->feed_due = cr_boot_add(s->now, s->manager.watchdog / WATCHDOG_FEEDS);
    if (s->stage == STAGE_SERVING)
        sick_write(s, sick, sizeof sick);
    if (sick[0] != '\0' && !s->hungry)
        cr_log(CR_LOG_WARN, "%s: the service manager's watchdog is told nothing meanwhile", sick);
    s->hungry = sick[0] != '\0';
    if (!s->hungry)
        cr_manager_tell(&s->manager, "WATCHDOG=1");
}
