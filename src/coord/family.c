/* SPDX-License-Identifier: Apache-2.0 */
/* Processes of one parent. */
#include "coord/family.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ARGUMENTS_BYTES_MAX 8192
#define STARTED_FIELD 20 /* of /proc/PID/stat, counted from the one behind the name */

static const char python_child[] = "--multiprocessing-fork";
static const char gunicorn_title[] = "gunicorn: "; /* "gunicorn: worker [app:app]" */

/* Up to `capacity` - 1 bytes of a small file, ended with a NUL. 0 when it cannot be read. */
static size_t file_read(const char *path, char *out, size_t capacity)
{
    size_t length = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t got;
    while (length < capacity - 1 && (got = read(fd, out + length, capacity - 1 - length)) > 0)
        length += (size_t)got;
    close(fd);
    out[length] = '\0';
    return length;
}

size_t cr_process_arguments(long pid, char *out, size_t capacity)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/cmdline", pid);
    size_t length = file_read(path, out, capacity);
    if (length > 0 && out[length - 1] != '\0')
        length++; /* a title that was set, or a line that was cut: end it */
    return length;
}

/* " S 4711 ...": what stands behind the name, which may hold anything. */
static const char *stat_field(const char *text, int index)
{
    for (int i = 0; text != NULL && i < index; i++) {
        text = strchr(text, ' ');
        text = text != NULL ? text + 1 : NULL;
    }
    return text;
}

bool cr_process_read(long pid, struct cr_process *out)
{
    char path[64], text[1024];
    long ticks = sysconf(_SC_CLK_TCK);
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    if (ticks <= 0 || file_read(path, text, sizeof text) == 0)
        return false;
    const char *after = strrchr(text, ')');
    const char *state = stat_field(after, 1), *parent = stat_field(after, 2);
    const char *started = stat_field(after, STARTED_FIELD);
    if (started == NULL)
        return false;
    out->pid = pid;
    out->parent = strtol(parent, NULL, 10);
    out->started = strtoull(started, NULL, 10) * (1000 * CR_NS_PER_MS / (uint64_t)ticks);
    out->dead = *state == 'Z' || *state == 'X';
    return true;
}

bool cr_family_is_spawned(const char *arguments, size_t count)
{
    return memmem(arguments, count, python_child, sizeof python_child) != NULL;
}

static bool is_titled(const char *arguments, size_t count)
{
    size_t length = sizeof gunicorn_title - 1;
    return count > length && memcmp(arguments, gunicorn_title, length) == 0;
}

bool cr_family_alike(const char *a, size_t a_count, const char *b, size_t b_count)
{
    if (a_count == 0 || b_count == 0)
        return false;
    return (a_count == b_count && memcmp(a, b, a_count) == 0) ||
           (cr_family_is_spawned(a, a_count) && cr_family_is_spawned(b, b_count)) ||
           (is_titled(a, a_count) && is_titled(b, b_count));
}

/* This process, and room for the arguments of another. */
struct family {
    struct cr_process self;
    size_t self_count;
    char self_arguments[ARGUMENTS_BYTES_MAX];
    char other_arguments[ARGUMENTS_BYTES_MAX];
};

static struct family *family_create(void)
{
    struct family *family = calloc(1, sizeof *family);
    if (family == NULL || !cr_process_read((long)getpid(), &family->self)) {
        free(family);
        return NULL;
    }
    family->self_count = cr_process_arguments(family->self.pid, family->self_arguments,
                                              sizeof family->self_arguments);
    return family;
}

static bool family_has(struct family *family, long pid, struct cr_process *out)
{
    if (pid == family->self.pid || !cr_process_read(pid, out) || out->dead ||
        out->parent != family->self.parent)
        return false;
    size_t count =
        cr_process_arguments(pid, family->other_arguments, sizeof family->other_arguments);
    return cr_family_alike(family->self_arguments, family->self_count, family->other_arguments,
                           count);
}

bool cr_family_has(long pid)
{
    struct cr_process process;
    struct family *family = pid > 0 ? family_create() : NULL;
    bool has = family != NULL && family_has(family, pid, &process);
    free(family);
    return has;
}

static bool started_within(const struct cr_process *a, const struct cr_process *b, cr_span_ms span)
{
    return a->started < b->started ? cr_boot_between(a->started, b->started) <= span
                                   : cr_boot_between(b->started, a->started) <= span;
}

unsigned cr_family_count(cr_span_ms span, long *out_one)
{
    unsigned count = 0;
    struct cr_process process;
    struct family *family = family_create();
    DIR *all = family != NULL ? opendir("/proc") : NULL;
    const struct dirent *entry;
    while (all != NULL && (entry = readdir(all)) != NULL) {
        char *end;
        long pid = strtol(entry->d_name, &end, 10);
        if (pid <= 0 || *end != '\0' || !family_has(family, pid, &process) ||
            !started_within(&process, &family->self, span))
            continue;
        *out_one = pid;
        count++;
    }
    if (all != NULL)
        closedir(all);
    free(family);
    return count;
}
