/* SPDX-License-Identifier: Apache-2.0 */
/*
 * STATE/agent.json. Written by the agent under its lock, so there is one writer; read by `cloakroom
 * doctor`, which believes it only when the process that answers at the socket has the pid that
 * stands there, and takes every byte of it as input.
 */
#include "cmd/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"

#define ABOUT_BYTES_MAX ((size_t)256 * 1024)

static bool path_in(const char *state, const char *name, char out[PATH_MAX])
{
    int length = snprintf(out, PATH_MAX, "%s/%s", state, name);
    return length > 0 && length < PATH_MAX;
}

/* All but the store's URL, which may have a password in it. */
static json_t *settings_json(const struct cr_settings *settings)
{
    size_t count;
    const struct cr_setting *rows = cr_setting_rows(&count);
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        char value[CR_SETTING_TEXT_CHARS_MAX + 1];
        if (rows[i].kind == CR_SETTING_URL)
            continue;
        cr_setting_show(settings, i, value, sizeof value);
        json_array_append_new(list, json_pack("{s:s, s:s, s:i}", "name", rows[i].name, "value",
                                              value, "origin", (int)settings->origins[i].kind));
    }
    return list;
}

static json_t *about_json(const struct cr_settings *settings)
{
    char program[PATH_MAX] = "";
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    program[length > 0 ? length : 0] = '\0';
    return json_pack("{s:I, s:s, s:o, s:s, s:s, s:b, s:o}", "pid", (json_int_t)getpid(), "version",
                     CR_VERSION_TEXT, "started", cr_time_json((cr_time_ms)time(NULL) * 1000),
                     "program", program, "config", settings->file, "dumpable",
                     (int)(prctl(PR_GET_DUMPABLE) != 0), "settings", settings_json(settings));
}

bool cr_about_write(const char *state, const struct cr_settings *settings)
{
    char path[PATH_MAX];
    char fresh[PATH_MAX];
    json_t *json = about_json(settings);
    char *text = json == NULL ? NULL : json_dumps(json, JSON_INDENT(1) | JSON_ENSURE_ASCII);
    bool is_written = false;
    int fd = -1;
    if (text == NULL || !path_in(state, CR_ABOUT_FILE, path) ||
        !path_in(state, CR_ABOUT_FILE ".new", fresh))
        goto out;
    if (unlink(fresh) != 0 && errno != ENOENT)
        goto out;
    fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        goto out;
    size_t length = strlen(text);
    is_written =
        write(fd, text, length) == (ssize_t)length && close(fd) == 0 && rename(fresh, path) == 0;
    if (!is_written)
        (void)unlink(fresh);
out:
    free(text);
    json_decref(json);
    return is_written;
}

/* Nothing but a plain file of that size, and no wait for one. */
static json_t *about_load(const char *path)
{
    struct stat info;
    json_t *json = NULL;
    char *text = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd >= 0 && fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_size > 0 &&
        (size_t)info.st_size <= ABOUT_BYTES_MAX)
        text = malloc((size_t)info.st_size);
    if (text != NULL && read(fd, text, (size_t)info.st_size) == (ssize_t)info.st_size)
        json = json_loadb(text, (size_t)info.st_size, JSON_REJECT_DUPLICATES, NULL);
    free(text);
    if (fd >= 0)
        close(fd);
    return json;
}

/* A row that this program does not know, or a value that it does not take, is left as it was. */
static void settings_load(const json_t *list, struct cr_settings *out)
{
    size_t index;
    const json_t *row;
    struct cr_error error = {.size = sizeof error};
    json_array_foreach(list, index, row)
    {
        const char *name = json_string_value(json_object_get(row, "name"));
        const char *value = json_string_value(json_object_get(row, "value"));
        json_int_t kind = json_integer_value(json_object_get(row, "origin"));
        if (name != NULL && value != NULL && strcmp(name, "store.url") != 0 &&
            kind >= CR_ORIGIN_DEFAULT && kind <= CR_ORIGIN_OPTION)
            (void)!cr_settings_set(
                out, name, value, (struct cr_setting_origin){(enum cr_origin_kind)kind, 0}, &error);
    }
}

static void text_load(const json_t *json, const char *key, char *out, size_t capacity)
{
    const char *text = json_string_value(json_object_get(json, key));
    cr_label_copy(out, capacity, text, text == NULL ? 0 : strlen(text));
}

void cr_about_read(const char *state, struct cr_about *out_about)
{
    char path[PATH_MAX];
    memset(out_about, 0, sizeof *out_about);
    cr_settings_init(&out_about->settings);
    json_t *json = path_in(state, CR_ABOUT_FILE, path) ? about_load(path) : NULL;
    json_int_t pid = json_integer_value(json_object_get(json, "pid"));
    if (pid > 0 && pid <= INT_MAX) {
        out_about->is_known = true;
        out_about->pid = (long)pid;
        out_about->dumpable = json_is_true(json_object_get(json, "dumpable"));
        text_load(json, "version", out_about->version, sizeof out_about->version);
        text_load(json, "started", out_about->started, sizeof out_about->started);
        text_load(json, "program", out_about->program, sizeof out_about->program);
        text_load(json, "config", out_about->config, sizeof out_about->config);
        settings_load(json_object_get(json, "settings"), &out_about->settings);
    }
    json_decref(json);
}
