/* SPDX-License-Identifier: Apache-2.0 */
#include "record.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"

#define LINE_MAX_BYTES 1024
#define VALUE_CHARS_MAX 63

uint64_t record_now(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void record_flush(struct record *record)
{
    size_t done = 0;
    while (done < record->used) {
        ssize_t wrote = write(record->fd, record->text + done, record->used - done);
        if (wrote <= 0)
            exit(EXIT_FAILURE); /* a history with a hole proves nothing */
        done += (size_t)wrote;
    }
    record->used = 0;
}

__attribute__((format(printf, 2, 3))) static void record_line(struct record *record,
                                                              const char *format, ...)
{
    char line[LINE_MAX_BYTES] = "";
    va_list args;
    va_start(args, format);
    int count = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    CR_ASSERT(count > 0 && count < LINE_MAX_BYTES);
    if (record->used + (size_t)count > sizeof record->text)
        record_flush(record);
    memcpy(record->text + record->used, line, (size_t)count);
    record->used += (size_t)count;
}

bool record_open(struct record *record, const char *directory, const char *name, const char *host)
{
    char path[512];
    memset(record, 0, sizeof *record);
    (void)snprintf(path, sizeof path, "%s/%s.history", directory, name);
    record->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
    if (record->fd < 0)
        return false;
    record_line(record, "host %s\n", host);
    return true;
}

void record_close(struct record *record)
{
    record_run_over(record);
    record_flush(record);
    close(record->fd);
}

unsigned long record_began(struct record *record, const char *format, ...)
{
    char what[LINE_MAX_BYTES - 64];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(what, sizeof what, format, args);
    va_end(args);
    record_run_over(record);
    record->number++;
    record_line(record, "began %lu %llu %s\n", record->number, (unsigned long long)record_now(),
                what);
    record_flush(record);
    return record->number;
}

void record_ended(struct record *record, unsigned long number, enum cr_status status,
                  const char *format, ...)
{
    uint64_t now = record_now();
    char more[LINE_MAX_BYTES - 128];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(more, sizeof more, format, args);
    va_end(args);
    record_line(record, "ended %lu %llu %s%s%s\n", number, (unsigned long long)now,
                cr_status_name(status), more[0] == '\0' ? "" : " ", more);
    record_flush(record);
}

static void saw_write(struct record *record, uint64_t start, uint64_t end, unsigned long count)
{
    record_line(record, "saw %llu %llu %lu %s\n", (unsigned long long)start,
                (unsigned long long)end, count, record->run.answer);
}

void record_run_over(struct record *record)
{
    struct record_run *run = &record->run;
    if (run->count > 0)
        saw_write(record, run->first_start, run->first_end, 1);
    if (run->count > 1)
        saw_write(record, run->last_start, run->last_end, run->count - 1);
    run->count = 0;
}

void record_saw(struct record *record, uint64_t start, uint64_t end, const char *format, ...)
{
    struct record_run *run = &record->run;
    char answer[RECORD_ANSWER_MAX];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(answer, sizeof answer, format, args);
    va_end(args);
    if (run->count > 0 && strcmp(answer, run->answer) != 0)
        record_run_over(record);
    if (run->count == 0) {
        memcpy(run->answer, answer, sizeof answer);
        run->first_start = start;
        run->first_end = end;
    }
    run->count++;
    run->last_start = start;
    run->last_end = end;
}

size_t record_bytes_make(const char *value, unsigned times, char *out, size_t capacity)
{
    size_t length = strlen(value), count = 0;
    for (unsigned i = 0; i < times && count + length + 1 < capacity; i++) {
        (void)snprintf(out + count, capacity - count, "%s;", value);
        count += length + 1;
    }
    return count;
}

static bool is_word(const void *bytes, size_t count)
{
    const unsigned char *text = bytes;
    for (size_t i = 0; i < count; i++)
        if (text[i] <= ' ' || text[i] > '~')
            return false;
    return true;
}

const char *record_user(const struct cr_user *user, char out[CR_USER_BYTES_MAX + 1])
{
    if (user->length == 0)
        return "-";
    if (user->length > CR_USER_BYTES_MAX || !is_word(user->bytes, user->length))
        return "TORN";
    memcpy(out, user->bytes, user->length);
    out[user->length] = '\0';
    return out;
}

const char *record_bytes_value(const void *bytes, size_t count, char out[64])
{
    const char *text = bytes;
    if (count == 0)
        return "-";
    const char *end = memchr(text, ';', count);
    size_t each = end == NULL ? 0 : (size_t)(end - text) + 1;
    if (each < 2 || each > VALUE_CHARS_MAX || count % each != 0)
        return "TORN";
    for (size_t i = each; i < count; i++)
        if (text[i] != text[i - each])
            return "TORN";
    if (!is_word(text, each - 1))
        return "TORN";
    memcpy(out, text, each - 1);
    out[each - 1] = '\0';
    return out;
}
