/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One line, one write: lines of several threads and processes on one descriptor do not mix, and
 * whatever was in the text, it stays one line (ASVS H7). The only state is what cr_log_open said at
 * the start of the process.
 */
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/clock.h"

#define TEXT_BYTES_MAX 2048
#define ESCAPED_CHARS_MAX 6 /* \u0000 for one byte */
#define CUT "..."

static struct {
    const char *who;
    enum cr_log_level least;
    bool json;
} process_log = {.who = "cloakroom", .least = CR_LOG_INFO};

struct line {
    char text[TEXT_BYTES_MAX * ESCAPED_CHARS_MAX + 256];
    size_t length;
};

void cr_log_open(const char *who, enum cr_log_level least, bool json)
{
    process_log.who = who;
    process_log.least = least;
    process_log.json = json;
}

static const char *level_name(enum cr_log_level level)
{
    switch (level) {
    case CR_LOG_DEBUG:
        return "debug";
    case CR_LOG_INFO:
        return "info";
    case CR_LOG_WARN:
        return "warn";
    case CR_LOG_ERROR:
        return "error";
    }
    return "?";
}

__attribute__((format(printf, 2, 3))) static void line_add(struct line *line, const char *format,
                                                           ...)
{
    size_t left = sizeof line->text - line->length;
    va_list args;
    va_start(args, format);
    int length = vsnprintf(line->text + line->length, left, format, args);
    va_end(args);
    CR_ASSERT(length >= 0 && (size_t)length < left); /* the buffer was made for the longest */
    line->length += (size_t)length;
}

static void line_add_character(struct line *line, const unsigned char *text, size_t count,
                               uint32_t code, bool json)
{
    if (count == 0 && json)
        line_add(line, "\\ufffd");
    else if (count == 0)
        line_add(line, "\\x%02x", text[0]);
    else if (cr_code_is_control(code))
        line_add(line, json || code > 0xff ? "\\u%04x" : "\\x%02x", (unsigned)code);
    else if (code == '\\' || (json && code == '"'))
        line_add(line, "\\%c", (int)code);
    else
        line_add(line, "%.*s", (int)count, (const char *)text);
}

/* Control characters and bytes that are not UTF-8 are escaped; a backslash is doubled, so that an
 * escape cannot be forged either. */
static void line_add_escaped(struct line *line, const char *text, size_t length, bool json)
{
    const unsigned char *bytes = (const unsigned char *)text;
    for (size_t i = 0; i < length;) {
        uint32_t code = 0;
        size_t count = cr_utf8_next(bytes + i, length - i, &code);
        line_add_character(line, bytes + i, count, code, json);
        i += count > 0 ? count : 1;
    }
}

static void line_add_time(struct line *line)
{
    cr_time_ms now = cr_clock_wall(cr_clock_system());
    time_t seconds = (time_t)(now / 1000);
    struct tm parts;
    char text[32] = "";
    if (gmtime_r(&seconds, &parts) != NULL)
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
    line_add(line, "%s.%03dZ", text, (int)(now % 1000));
}

static void line_write(const struct line *line)
{
    size_t done = 0;
    while (done < line->length) {
        ssize_t count = write(STDERR_FILENO, line->text + done, line->length - done);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return; /* nobody is left to be told */
        done += (size_t)count;
    }
}

void cr_log(enum cr_log_level level, const char *format, ...)
{
    if (level < process_log.least)
        return;
    int kept_errno = errno;
    char text[TEXT_BYTES_MAX];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (length < 0)
        length = 0;
    if ((size_t)length >= sizeof text) {
        memcpy(text + sizeof text - sizeof CUT, CUT, sizeof CUT);
        length = sizeof text - 1;
    }

    struct line line = {.length = 0};
    bool json = process_log.json;
    if (json)
        line_add(&line, "{\"time\":\"");
    line_add_time(&line);
    line_add(&line,
             json ? "\",\"who\":\"%s\",\"pid\":%d,\"level\":\"%s\",\"text\":\"" : " %s[%d] %s: ",
             process_log.who, (int)getpid(), level_name(level));
    line_add_escaped(&line, text, (size_t)length, json);
    line_add(&line, json ? "\"}\n" : "\n");
    line_write(&line);
    errno = kept_errno;
}
