/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state directory. Owns its lock file, which is never removed: a lock on a file that is gone
 * would let two in. Everything else there is replaced only under that lock.
 */
#include "agent/state.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/agent.h"

#define LOG_BYTES_MAX (1 << 20) /* a longer log starts anew */

void cr_agent_error(struct cr_error *error, enum cr_status status, const char *format, ...)
{
    va_list args;
    error->status = status;
    va_start(args, format);
    (void)vsnprintf(error->text, sizeof error->text, format, args);
    va_end(args);
}

bool cr_agent_state_path(const char *state, const char *name, char *out)
{
    int length = snprintf(out, PATH_MAX, "%s/%s", state, name);
    return length > 0 && length < PATH_MAX;
}

static bool directory_make(const char *path)
{
    return mkdir(path, 0700) == 0 || errno == EEXIST;
}

static bool parent_make(const char *path)
{
    char parent[PATH_MAX];
    const char *slash = strrchr(path, '/');
    if (slash == NULL || slash == path)
        return true;
    size_t length = (size_t)(slash - path);
    if (length >= sizeof parent)
        return false;
    memcpy(parent, path, length);
    parent[length] = '\0';
    return directory_make(parent);
}

enum cr_status cr_agent_state_prepare(const char *state, unsigned mode, struct cr_error *out_error)
{
    struct stat info;
    if (!parent_make(state) || !directory_make(state) || lstat(state, &info) != 0) {
        cr_agent_error(out_error, CR_E_IO, "cannot make the state directory %s: %s", state,
                       strerror(errno));
        return CR_E_IO;
    }
    if (!S_ISDIR(info.st_mode) || info.st_uid != geteuid()) {
        cr_agent_error(
            out_error, CR_E_REFUSED,
            "the state directory %s is not a directory of user %ld: whoever owns it could "
            "stand in for the agent. Name another with --state",
            state, (long)geteuid());
        return CR_E_REFUSED;
    }
    if (chmod(state, mode) != 0) {
        cr_agent_error(out_error, CR_E_IO, "cannot set the permissions of %s: %s", state,
                       strerror(errno));
        return CR_E_IO;
    }
    return CR_OK;
}

static void holder_read(int fd, char *out, size_t capacity)
{
    ssize_t got = pread(fd, out, capacity - 1, 0);
    out[got > 0 ? got : 0] = '\0';
    out[strcspn(out, "\n")] = '\0';
}

enum cr_status cr_agent_state_lock(const char *state, int *out_fd, struct cr_error *out_error)
{
    char path[PATH_MAX], holder[32];
    if (!cr_agent_state_path(state, CR_AGENT_LOCK_FILE, path)) {
        cr_agent_error(out_error, CR_E_LIMIT, "the name of the state directory is too long");
        return CR_E_LIMIT;
    }
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        cr_agent_error(out_error, CR_E_IO, "cannot open %s: %s", path, strerror(errno));
        return CR_E_IO;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        enum cr_status st = errno == EWOULDBLOCK ? CR_BUSY : CR_E_IO;
        holder_read(fd, holder, sizeof holder);
        cr_agent_error(out_error, st, "%s is held by the agent with pid %s", path,
                       holder[0] != '\0' ? holder : "?");
        close(fd);
        return st;
    }
    /* Who is the agent is what the lock says; the pid is for people. */
    if (ftruncate(fd, 0) == 0)
        (void)dprintf(fd, "%ld\n", (long)getpid());
    *out_fd = fd;
    return CR_OK;
}

void cr_agent_state_unlock(int fd)
{
    if (fd >= 0)
        close(fd);
}

enum cr_status cr_agent_state_log(const char *state, struct cr_error *out_error)
{
    char path[PATH_MAX];
    struct stat info;
    int nothing = -1, fd = -1;
    enum cr_status st = CR_E_IO;
    if (!cr_agent_state_path(state, CR_AGENT_LOG_FILE, path))
        goto out;
    fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (fd < 0 || nothing < 0 || fstat(fd, &info) != 0)
        goto out;
    if (info.st_size > LOG_BYTES_MAX && ftruncate(fd, 0) != 0)
        goto out;
    if (dup2(nothing, STDIN_FILENO) >= 0 && dup2(nothing, STDOUT_FILENO) >= 0 &&
        dup2(fd, STDERR_FILENO) >= 0)
        st = CR_OK;
out:
    if (st != CR_OK)
        cr_agent_error(out_error, st, "cannot write to a log file in %s: %s", state,
                       strerror(errno));
    if (fd > STDERR_FILENO)
        close(fd);
    if (nothing > STDERR_FILENO)
        close(nothing);
    return st;
}
