/* SPDX-License-Identifier: Apache-2.0 */
/* `cloakroom backup` and `cloakroom restore`: a store as a file, and back. */
#include <errno.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd/backup_watch.h"
#include "cmd/command.h"
#include "store/sqlite_copy.h"
#include "store/sqlite_lock.h"
#include "store/stores.h"

#define STATE_CHARS 4096
#define SIZE_SHOWN_BYTES 32
#define PROGRESS_NS 100000000

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    interrupted = number;
}

static void interrupts_catch(void)
{
    struct sigaction action = {.sa_handler = on_interrupt};
    sigemptyset(&action.sa_mask);
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
}

static void size_show(uint64_t bytes, char out[SIZE_SHOWN_BYTES])
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t unit = 0;
    for (; value >= 1024 && unit + 1 < sizeof units / sizeof units[0]; unit++)
        value /= 1024;
    snprintf(out, SIZE_SHOWN_BYTES, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
}

/* On a terminal only, in one line that is taken away again. */
static void progress_show(uint64_t done, uint64_t total)
{
    static cr_boot_ns shown_at;
    char of[SIZE_SHOWN_BYTES];
    cr_boot_ns now = cr_clock_boot(cr_clock_system());
    if (!isatty(STDERR_FILENO) || (shown_at != 0 && now - shown_at < PROGRESS_NS))
        return;
    shown_at = now;
    size_show(total, of);
    fprintf(stderr, "\r\033[K%3d %% of %s", total > 0 ? (int)(100 * done / total) : 0, of);
}

static void progress_hide(void)
{
    if (isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
}

static int copy_failed(const struct cr_error *error)
{
    cr_complain("%s", error->text);
    return error->status == CR_BUSY ? CR_EXIT_LATER : CR_EXIT_FAILED;
}

/* What a copy of a store in use may do to it. NULL where it is in nobody's way. */
struct bounds {
    cr_span_ms stall;
    uint64_t log_bytes;
};

static uint64_t log_size(const char *from)
{
    char path[STATE_CHARS];
    struct stat about;
    int length = snprintf(path, sizeof path, "%s-wal", from);
    return length < (int)sizeof path && stat(path, &about) == 0 ? (uint64_t)about.st_size : 0;
}

static enum cr_status log_check(const char *from, uint64_t before, const struct bounds *bounds,
                                struct cr_error *error)
{
    char size[SIZE_SHOWN_BYTES];
    uint64_t now = log_size(from);
    if (bounds == NULL || now < before || now - before <= bounds->log_bytes)
        return CR_OK;
    size_show(now, size);
    return cr_store_error(error, CR_E_LIMIT,
                          "%s-wal has grown to %s, and cannot be emptied before the copy is made: "
                          "nothing was kept. Copy to a quicker disk, when less is written, or with "
                          "a larger --log-max.",
                          from, size);
}

/* An exit status. */
static int copy_run(const char *from, const char *to, bool mark, const struct bounds *bounds,
                    uint64_t *out_bytes)
{
    struct cr_sqlite_copy *copy;
    struct cr_error error = {0};
    uint64_t done = 0;
    uint64_t log_before = log_size(from);
    struct cr_backup_watch *watch = NULL;
    if (bounds != NULL && (watch = cr_backup_watch_start(bounds->stall, to)) == NULL) {
        cr_complain("no process can be had that watches the copy: %s", strerror(errno));
        return CR_EXIT_FAILED;
    }
    interrupts_catch();
    enum cr_status st = cr_sqlite_copy_begin(from, to, &copy, &error);
    if (st != CR_OK) {
        cr_backup_watch_stop(watch);
        return copy_failed(&error);
    }
    do {
        st = cr_sqlite_copy_step(copy, &done, out_bytes, &error);
        if (st == CR_OK)
            st = log_check(from, log_before, bounds, &error);
        cr_backup_watch_step(watch);
        progress_show(done, *out_bytes);
    } while (st == CR_OK && done < *out_bytes && !interrupted);
    if (st == CR_OK && interrupted)
        st = cr_store_error(&error, CR_E_INVALID, "interrupted: nothing was kept");
    /* From here on the store is left alone. */
    cr_sqlite_copy_release(copy);
    cr_backup_watch_stop(watch);
    if (st == CR_OK)
        st = cr_sqlite_copy_finish(copy, mark, &error);
    progress_hide();
    cr_sqlite_copy_destroy(copy);
    return st == CR_OK ? CR_EXIT_OK : copy_failed(&error);
}

/* The file of the place's store. NULL, and said why. */
static const char *store_file(const struct cr_place *place, char *url, size_t capacity)
{
    static const char scheme[] = "sqlite://";
    char state[STATE_CHARS];
    if (!cr_place_find(place, url, capacity, state, sizeof state))
        return NULL;
    if (strncmp(url, scheme, sizeof scheme - 1) == 0 && url[sizeof scheme - 1] == '/')
        return url + sizeof scheme - 1;
    cr_complain("only a store of the form sqlite:///PATH is a file: name it with --store");
    return NULL;
}

static int said(const struct cr_place *place, const char *file, uint64_t bytes, const char *what)
{
    char size[SIZE_SHOWN_BYTES];
    if (place->json)
        return cr_json_print(json_pack("{s:s, s:I}", "file", file, "bytes", (json_int_t)bytes));
    size_show(bytes, size);
    printf("%s: %s, %s\n", file, size, what);
    return CR_EXIT_OK;
}

int cr_cmd_backup(int argc, char **argv)
{
    static const char *const rows[] = {"store.url", "agent.state", "backup.stall", "backup.log_max",
                                       NULL};
    static const struct cr_form form = {
        .words_text = "FILE",
        .text =
            "Copy the store, as it is now, into a new file. It may be in use: nobody waits. The "
            "file holds what the store holds, so it is made readable for its owner only; keep "
            "it as you keep the store. The store's log grows until the copy is made, so a "
            "copy that stands still is ended."
            "\vExamples:\n"
            "  cloakroom backup /var/backups/cloakroom-monday.db\n"
            "  cloakroom backup monday.db --store sqlite:///srv/app.db --json\n\n"
            "`cloakroom restore` brings it back.",
        .words_least = 1,
        .words_most = 1,
        .settings = rows,
        .takes_json = true};
    struct cr_place place;
    char url[CR_SETTING_TEXT_CHARS_MAX + 1];
    uint64_t bytes = 0;
    cr_form_read(&form, argc, argv, &place, NULL);
    const char *store = store_file(&place, url, sizeof url);
    if (store == NULL)
        return CR_EXIT_USAGE;
    const struct bounds bounds = {place.settings.backup_stall,
                                  (uint64_t)place.settings.backup_log_bytes};
    int exit_status = copy_run(store, place.words[0], true, &bounds, &bytes);
    return exit_status == CR_EXIT_OK ? said(&place, place.words[0], bytes, "whole and checked")
                                     : exit_status;
}

/* ---- restore */

#define KEY_KEEP 0x201

static error_t restore_parse(int key, char *argument, struct argp_state *state)
{
    bool *keep = state->input;
    if (key != KEY_KEEP)
        return ARGP_ERR_UNKNOWN;
    *keep = true;
    return 0;
}

static const struct argp_option restore_options[] = {
    {.name = "keep-sessions",
     .key = KEY_KEEP,
     .doc = "end nobody: who was logged in at the time of the backup is so again, also where that "
            "session was ended since"},
    {0},
};

/* A log that is not of this file would be read into it. */
static bool place_is_free(const char *path)
{
    static const char *const ends[] = {"", "-wal", "-journal"};
    char name[STATE_CHARS];
    struct stat about;
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        int length = snprintf(name, sizeof name, "%s%s", path, ends[i]);
        if (length >= (int)sizeof name || lstat(name, &about) == 0) {
            cr_complain("%s is there: stop the agent and move it away first, together with any "
                        "%s-wal; nothing was changed",
                        name, path);
            return false;
        }
    }
    return true;
}

/* What root makes in a directory of the agent's user is that user's. */
static enum cr_status lock_hand_over(int fd, char *path, struct cr_error *out_error)
{
    struct stat about;
    if (geteuid() != 0 || stat(dirname(path), &about) != 0 ||
        fchown(fd, about.st_uid, about.st_gid) == 0)
        return CR_OK;
    return cr_store_error(out_error, CR_E_IO, "%s-lock: %s", path, strerror(errno));
}

/* While it is held nobody else opens a store of this name. -1, and said why. */
static int place_lock(const char *path)
{
    struct cr_error error = {0};
    char *real = NULL;
    int fd = -1;
    enum cr_status st = cr_sqlite_path(path, &real, &error);
    if (st == CR_OK)
        st = cr_sqlite_is_local(real, &error);
    if (st == CR_OK)
        st = cr_sqlite_lock(real, &fd, &error);
    if (st == CR_OK)
        st = lock_hand_over(fd, real, &error);
    if (st == CR_BUSY)
        cr_complain("%s: stop it first", error.text);
    else if (st != CR_OK)
        cr_complain("%s", error.text);
    free(real);
    if (st == CR_OK)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

/* Opening it brings the schema up to date, and ends everybody where it is marked. */
static int restored_open(const char *path)
{
    char url[CR_SETTING_TEXT_CHARS_MAX + 1];
    struct cr_store_env env;
    struct cr_store *store;
    struct cr_error error = {0};
    snprintf(url, sizeof url, "sqlite://%s", path);
    enum cr_status st = cr_store_env_system(&env);
    if (st == CR_OK)
        st = cr_store_open(url, &env, &store, &error);
    if (st == CR_OK)
        cr_store_destroy(store);
    else
        cr_complain("%s", error.text[0] != '\0' ? error.text : cr_status_text(st));
    return st == CR_OK ? CR_EXIT_OK : CR_EXIT_FAILED;
}

int cr_cmd_restore(int argc, char **argv)
{
    static const struct cr_form form = {
        .words_text = "FILE",
        .text = "Make a store out of a backup. The store must not be there, and no agent may be "
                "waiting for it. Everybody is logged out, because sessions that were ended after "
                "the backup would else be good again."
                "\vExamples:\n"
                "  cloakroom restore /var/backups/cloakroom-monday.db\n"
                "  cloakroom restore monday.db --store sqlite:///srv/app.db --keep-sessions\n\n"
                "A backup that is moved into the store's place by hand logs everybody out, too, "
                "when it is first opened.",
        .words_least = 1,
        .words_most = 1,
        .settings = cr_place_rows,
        .takes_json = true,
        .options = restore_options,
        .parser = restore_parse};
    struct cr_place place;
    char url[CR_SETTING_TEXT_CHARS_MAX + 1];
    uint64_t bytes = 0;
    bool keep = false;
    cr_form_read(&form, argc, argv, &place, &keep);
    const char *store = store_file(&place, url, sizeof url);
    if (store == NULL)
        return CR_EXIT_USAGE;
    if (!place_is_free(store))
        return CR_EXIT_FAILED;
    int lock = place_lock(store);
    if (lock < 0)
        return CR_EXIT_FAILED;
    int exit_status = copy_run(place.words[0], store, !keep, NULL, &bytes);
    close(lock);
    if (exit_status == CR_EXIT_OK)
        exit_status = restored_open(store);
    if (exit_status != CR_EXIT_OK)
        return exit_status;
    return said(&place, store, bytes,
                keep ? "restored with its sessions; those that were ended since are good again"
                     : "restored; all sessions were ended: everybody logs in again");
}
