/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queue is two buffers of whole lines: givers fill one under the lock, the thread writes the
 * other without it, and they change places. Invariants: a line is in the file whole or not at all
 * (one that the disk cut short is taken back); `lost` counts each line that is not, once.
 */
#include "base/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/log.h"

#define QUEUE_BYTES ((size_t)256 * 1024)
#define LINE_BYTES_MAX 8192
#define CLOSE_WAIT_S 2
#define TOKEN_PREFIX "crs1_"

enum target { TARGET_FILE, TARGET_STDERR, TARGET_SYSLOG };

struct cr_audit {
    enum target target;
    char *path;
    int fd; /* the thread's, once it runs */
    struct cr_clock *clock;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    /* Under the lock. */
    char *queue;
    size_t queued;
    bool reopen, closing;
    uint64_t lost;
    /* The thread's. */
    char *writing;
    uint64_t lost_told;
    bool failing; /* the log has been told */
};

/* --- Lines --- */

struct line {
    char text[LINE_BYTES_MAX];
    size_t count;
    bool failed;
};

static void line_put(struct line *line, const char *bytes, size_t count)
{
    line->failed = line->failed || count > sizeof line->text - line->count;
    if (line->failed)
        return;
    memcpy(line->text + line->count, bytes, count);
    line->count += count;
}

static void line_str(struct line *line, const char *text)
{
    line_put(line, text, strlen(text));
}

static bool is_token_char(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
}

/* A token that somebody put where a name belongs: how many bytes of it are to be passed over. */
static size_t token_skip(const unsigned char *bytes, size_t count)
{
    size_t length = sizeof TOKEN_PREFIX - 1;
    if (count < length || memcmp(bytes, TOKEN_PREFIX, length) != 0)
        return 0;
    while (length < count && is_token_char(bytes[length]))
        length++;
    return length;
}

static void line_character(struct line *line, const unsigned char *bytes, size_t count,
                           uint32_t code)
{
    char escaped[16];
    if (count == 0) {
        line_str(line, "\\ufffd");
    } else if (cr_code_is_control(code)) {
        (void)snprintf(escaped, sizeof escaped, "\\u%04x", (unsigned)code & 0xffff);
        line_str(line, escaped);
    } else {
        if (code == '"' || code == '\\')
            line_put(line, "\\", 1);
        line_put(line, (const char *)bytes, count);
    }
}

static void line_string(struct line *line, const unsigned char *bytes, size_t count)
{
    line_put(line, "\"", 1);
    for (size_t i = 0; i < count;) {
        uint32_t code = 0;
        size_t skipped = token_skip(bytes + i, count - i);
        if (skipped > 0) {
            line_str(line, TOKEN_PREFIX "...");
            i += skipped;
            continue;
        }
        size_t length = cr_utf8_next(bytes + i, count - i, &code);
        line_character(line, bytes + i, length, code);
        i += length > 0 ? length : 1;
    }
    line_put(line, "\"", 1);
}

static void line_begin(struct line *line, cr_time_ms now, const char *event)
{
    time_t seconds = (time_t)(now / 1000);
    struct tm parts;
    char time[32] = "", text[64];
    line->count = 0;
    line->failed = false;
    if (gmtime_r(&seconds, &parts) != NULL)
        (void)strftime(time, sizeof time, "%Y-%m-%dT%H:%M:%S", &parts);
    (void)snprintf(text, sizeof text, "{\"time\":\"%s.%03dZ\",\"event\":\"", time,
                   (int)(now % 1000));
    line_str(line, text);
    line_str(line, event);
    line_put(line, "\"", 1);
}

static void line_field(struct line *line, const struct cr_audit_field *field)
{
    if (field->text == NULL)
        return;
    line_str(line, ",\"");
    line_str(line, field->name);
    line_str(line, "\":");
    line_string(line, field->text, field->bytes);
}

void cr_audit_event(struct cr_audit *audit, const char *event, const struct cr_audit_field *fields,
                    size_t count)
{
    struct line line;
    if (audit == NULL)
        return;
    line_begin(&line, cr_clock_wall(audit->clock), event);
    for (size_t i = 0; i < count; i++)
        line_field(&line, &fields[i]);
    line_str(&line, "}\n");
    CR_ASSERT(pthread_mutex_lock(&audit->lock) == 0);
    if (line.failed || line.count > QUEUE_BYTES - audit->queued) {
        audit->lost++;
    } else {
        memcpy(audit->queue + audit->queued, line.text, line.count);
        audit->queued += line.count;
    }
    CR_ASSERT(pthread_cond_signal(&audit->wake) == 0);
    CR_ASSERT(pthread_mutex_unlock(&audit->lock) == 0);
}

uint64_t cr_audit_lost(struct cr_audit *audit)
{
    if (audit == NULL)
        return 0;
    CR_ASSERT(pthread_mutex_lock(&audit->lock) == 0);
    uint64_t lost = audit->lost;
    CR_ASSERT(pthread_mutex_unlock(&audit->lock) == 0);
    return lost;
}

/* --- The file --- */

static enum cr_status file_open(const char *path, int *out_fd)
{
    struct stat about;
    /* Not blocking: whatever stands there is looked at first. */
    int fd = open(
        path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0600);
    if (fd < 0)
        return CR_E_IO;
    if (fstat(fd, &about) != 0 || !S_ISREG(about.st_mode)) {
        (void)close(fd);
        errno = EINVAL;
        return CR_E_INVALID;
    }
    *out_fd = fd;
    return CR_OK;
}

/* The thread's. */
static void file_reopen(struct cr_audit *audit)
{
    int fd;
    if (audit->target != TARGET_FILE)
        return;
    if (file_open(audit->path, &fd) != CR_OK) {
        cr_log(CR_LOG_ERROR, "the audit file cannot be opened anew, the old one is written on: %s",
               strerror(errno));
        return;
    }
    (void)close(audit->fd);
    audit->fd = fd;
}

/* All of it, or nothing: what was cut short is taken back, or ended where that cannot be done. */
static bool line_write(const struct cr_audit *audit, const char *line, size_t count)
{
    ssize_t done;
    if (audit->target == TARGET_SYSLOG) {
        syslog(LOG_INFO, "%.*s", (int)(count - 1), line);
        return true;
    }
    do {
        done = write(audit->fd, line, count);
    } while (done < 0 && errno == EINTR);
    if (done == (ssize_t)count)
        return true;
    struct stat about;
    if (done > 0 && audit->target == TARGET_FILE && fstat(audit->fd, &about) == 0 &&
        (about.st_size < done || ftruncate(audit->fd, about.st_size - done) != 0))
        (void)!write(audit->fd, "\n", 1);
    if (done >= 0)
        errno = ENOSPC;
    return false;
}

static void failed(struct cr_audit *audit, uint64_t lines)
{
    int code = errno;
    CR_ASSERT(pthread_mutex_lock(&audit->lock) == 0);
    audit->lost += lines;
    CR_ASSERT(pthread_mutex_unlock(&audit->lock) == 0);
    if (!audit->failing)
        cr_log(CR_LOG_ERROR, "audit events are being lost, and counted: %s", strerror(code));
    audit->failing = true;
}

/* What was lost so far. False: that cannot be written either, and nothing else could. */
static bool lost_write(struct cr_audit *audit)
{
    struct line line;
    char text[64];
    uint64_t lost = cr_audit_lost(audit);
    if (lost == audit->lost_told)
        return true;
    line_begin(&line, cr_clock_wall(audit->clock), "audit_lost");
    (void)snprintf(text, sizeof text, ",\"count\":%llu}\n",
                   (unsigned long long)(lost - audit->lost_told));
    line_str(&line, text);
    if (!line_write(audit, line.text, line.count))
        return false;
    cr_log(CR_LOG_WARN, "%llu audit events were lost",
           (unsigned long long)(lost - audit->lost_told));
    audit->lost_told = lost;
    audit->failing = false;
    return true;
}

static void lines_write(struct cr_audit *audit, size_t count)
{
    const char *line = audit->writing, *end = line + count;
    while (line < end) {
        const char *next = (const char *)memchr(line, '\n', (size_t)(end - line)) + 1;
        if (!lost_write(audit) || !line_write(audit, line, (size_t)(next - line)))
            failed(audit, 1);
        line = next;
    }
}

static void *audit_run(void *context)
{
    struct cr_audit *audit = context;
    bool closing = false;
    while (!closing) {
        CR_ASSERT(pthread_mutex_lock(&audit->lock) == 0);
        while (audit->queued == 0 && !audit->reopen && !audit->closing)
            CR_ASSERT(pthread_cond_wait(&audit->wake, &audit->lock) == 0);
        bool reopen = audit->reopen;
        size_t count = audit->queued;
        char *full = audit->queue;
        closing = audit->closing;
        audit->queue = audit->writing;
        audit->writing = full;
        audit->queued = 0;
        audit->reopen = false;
        CR_ASSERT(pthread_mutex_unlock(&audit->lock) == 0);
        /* What was given before the file was moved away may be in either. */
        if (reopen)
            file_reopen(audit);
        lines_write(audit, count);
    }
    return NULL;
}

/* --- Life --- */

static void audit_free(struct cr_audit *audit)
{
    if (audit->fd >= 0 && audit->target == TARGET_FILE)
        (void)close(audit->fd);
    free(audit->path);
    free(audit->queue);
    free(audit->writing);
    free(audit);
}

static enum cr_status target_open(struct cr_audit *audit, const char *target,
                                  struct cr_error *error)
{
    audit->fd = -1;
    if (strcmp(target, "stderr") == 0) {
        audit->target = TARGET_STDERR;
        audit->fd = STDERR_FILENO;
        return CR_OK;
    }
    if (strcmp(target, "syslog") == 0) {
        audit->target = TARGET_SYSLOG;
        openlog("cloakroom", LOG_PID | LOG_NDELAY, LOG_AUTHPRIV);
        return CR_OK;
    }
    audit->path = strdup(target);
    if (audit->path == NULL)
        return CR_E_NO_MEMORY;
    enum cr_status st = target[0] == '/' ? file_open(target, &audit->fd) : CR_E_INVALID;
    if (st != CR_OK && error != NULL) {
        error->status = st;
        (void)snprintf(error->text, sizeof error->text, "audit.file = %.400s: %s", target,
                       st == CR_E_INVALID
                           ? "stderr, syslog, or the absolute path of a regular file is meant"
                           : strerror(errno));
    }
    return st;
}

/* Signals are for the thread that has asked for them. */
static enum cr_status thread_start(struct cr_audit *audit)
{
    sigset_t all, before;
    (void)sigfillset(&all);
    CR_ASSERT(pthread_sigmask(SIG_SETMASK, &all, &before) == 0);
    int failed_to = pthread_create(&audit->thread, NULL, audit_run, audit);
    CR_ASSERT(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    return failed_to == 0 ? CR_OK : CR_E_LIMIT;
}

enum cr_status cr_audit_open(const char *target, struct cr_clock *clock,
                             struct cr_audit **out_audit, struct cr_error *out_error)
{
    struct cr_audit *audit = calloc(1, sizeof *audit);
    if (audit == NULL)
        return CR_E_NO_MEMORY;
    audit->clock = clock;
    audit->queue = malloc(QUEUE_BYTES);
    audit->writing = malloc(QUEUE_BYTES);
    enum cr_status st = target_open(audit, target, out_error);
    if (st == CR_OK && (audit->queue == NULL || audit->writing == NULL))
        st = CR_E_NO_MEMORY;
    if (st == CR_OK) {
        CR_ASSERT(pthread_mutex_init(&audit->lock, NULL) == 0);
        CR_ASSERT(pthread_cond_init(&audit->wake, NULL) == 0);
        st = thread_start(audit);
    }
    if (st != CR_OK) {
        audit_free(audit);
        return st;
    }
    *out_audit = audit;
    return CR_OK;
}

void cr_audit_close(struct cr_audit *audit)
{
    struct timespec until;
    if (audit == NULL)
        return;
    CR_ASSERT(pthread_mutex_lock(&audit->lock) == 0);
    audit->closing = true;
    CR_ASSERT(pthread_cond_signal(&audit->wake) == 0);
    CR_ASSERT(pthread_mutex_unlock(&audit->lock) == 0);
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += CLOSE_WAIT_S;
    if (pthread_timedjoin_np(audit->thread, NULL, &until) != 0) {
        (void)pthread_detach(audit->thread); /* stuck in the disk: it keeps what it needs */
        cr_log(CR_LOG_ERROR, "the audit file does not take what is left");
        return;
    }
    (void)pthread_mutex_destroy(&audit->lock);
    (void)pthread_cond_destroy(&audit->wake);
    audit_free(audit);
}

void cr_audit_reopen(struct cr_audit *audit)
{
    if (audit == NULL)
        return;
    CR_ASSERT(pthread_mutex_lock(&audit->lock) == 0);
    audit->reopen = true;
    CR_ASSERT(pthread_cond_signal(&audit->wake) == 0);
    CR_ASSERT(pthread_mutex_unlock(&audit->lock) == 0);
}
