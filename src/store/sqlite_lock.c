/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is done to a database's path before SQLite sees it. The lock is an open file description
 * lock on a file beside the database: it is gone with its holder, so that a crash locks nobody out,
 * and it stands before anything of the database is read. It is never deleted: a second process
 * could then lock another file of that name.
 */
#include "store/sqlite_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "store/stores.h"

/* Not in linux/magic.h everywhere. */
#define CEPH_MAGIC 0x00c36400L
#define CIFS_MAGIC 0xff534d42L
#define SMB2_MAGIC 0xfe534d42L
#define LUSTRE_MAGIC 0x0bd00bd0L
#define GFS2_MAGIC 0x01161970L
#define OCFS2_MAGIC 0x7461636fL

static enum cr_status no_memory(struct cr_error *out_error)
{
    return cr_store_error(out_error, CR_E_NO_MEMORY, "out of memory");
}

static char *path_join(const char *a, const char *between, const char *b)
{
    char *joined;
    return asprintf(&joined, "%s%s%s", a, between, b) < 0 ? NULL : joined;
}

/* The directory as the kernel sees it, and the name in it. */
static enum cr_status path_of_new(const char *path, char **out_path, struct cr_error *out_error)
{
    enum cr_status st = CR_E_NO_MEMORY;
    char *for_dir = strdup(path), *for_name = strdup(path), *dir = NULL;
    if (for_dir == NULL || for_name == NULL) {
        no_memory(out_error);
        goto out;
    }
    const char *parent = dirname(for_dir);
    dir = realpath(parent, NULL);
    if (dir == NULL) {
        st = cr_store_error(out_error, CR_E_IO,
                            "%s cannot be opened: its directory %s: %s. Make the directory, owned "
                            "by the user that Cloakroom runs as.",
                            path, parent, strerror(errno));
        goto out;
    }
    *out_path = path_join(strcmp(dir, "/") == 0 ? "" : dir, "/", basename(for_name));
    st = *out_path != NULL ? CR_OK : no_memory(out_error);
out:
    free(dir);
    free(for_name);
    free(for_dir);
    return st;
}

enum cr_status cr_sqlite_path(const char *path, char **out_path, struct cr_error *out_error)
{
    struct stat about;
    if (stat(path, &about) != 0 && errno == ENOENT) {
        /* The lock would be beside the link now, and beside its target once that is there. */
        if (lstat(path, &about) == 0)
            return cr_store_error(out_error, CR_E_IO, "%s is a link to nowhere", path);
        return path_of_new(path, out_path, out_error);
    }
    *out_path = realpath(path, NULL);
    if (*out_path == NULL)
        return cr_store_error(out_error, CR_E_IO, "%s cannot be opened: %s", path, strerror(errno));
    if (S_ISREG(about.st_mode))
        return CR_OK;
    free(*out_path);
    return cr_store_error(out_error, CR_E_IO, "%s is not a file", path);
}

bool cr_sqlite_type_is_local(long type)
{
    /* The type is signed on some machines, its values are 32 bits. */
    switch (type & 0xffffffffL) {
    case NFS_SUPER_MAGIC:
    case SMB_SUPER_MAGIC:
    case CIFS_MAGIC:
    case SMB2_MAGIC:
    case V9FS_MAGIC:
    case FUSE_SUPER_MAGIC:
    case AFS_SUPER_MAGIC:
    case CODA_SUPER_MAGIC:
    case CEPH_MAGIC:
    case LUSTRE_MAGIC:
    case GFS2_MAGIC:
    case OCFS2_MAGIC:
        return false;
    default:
        return true;
    }
}

enum cr_status cr_sqlite_is_local(const char *path, struct cr_error *out_error)
{
    struct statfs fs;
    char *copy = strdup(path);
    if (copy == NULL)
        return no_memory(out_error);
    int failed = statfs(path, &fs);
    if (failed != 0 && errno == ENOENT)
        failed = statfs(dirname(copy), &fs);
    int error = errno;
    free(copy);
    if (failed != 0)
        return cr_store_error(out_error, CR_E_IO, "%s: its file system cannot be asked: %s", path,
                              strerror(error));
    if (cr_sqlite_type_is_local((long)fs.f_type))
        return CR_OK;
    return cr_store_error(
        out_error, CR_E_REFUSED,
        "CR-106 refused: %s is on a network or user-space file system (type 0x%lx).\n"
        "Would happen: locks do not reach every host there; two engines could write the file at "
        "once and damage it, and sessions that one has ended would live on in the other.\n"
        "Fix: put the file on a local disk of this host, such as "
        "sqlite:///var/lib/cloakroom/cloakroom.db.",
        path, (unsigned long)fs.f_type & 0xffffffffUL);
}

/* The pid that the holder wrote, as text; "another process" where it has not yet. */
static void holder_read(int fd, char *out, size_t capacity)
{
    char text[16] = "";
    ssize_t count = pread(fd, text, sizeof text - 1, 0);
    size_t digits = count > 0 ? strspn(text, "0123456789") : 0;
    if (digits > 0)
        snprintf(out, capacity, "process %.*s", (int)digits, text);
    else
        snprintf(out, capacity, "another process");
}

static enum cr_status lock_take(int fd, const char *path, struct cr_error *out_error)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char holder[48];
    if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
        return CR_OK;
    if (errno != EAGAIN && errno != EACCES)
        return cr_store_error(out_error, CR_E_IO, "%s-lock cannot be locked: %s", path,
                              strerror(errno));
    holder_read(fd, holder, sizeof holder);
    return cr_store_error(out_error, CR_BUSY, "%s is held by %s", path, holder);
}

enum cr_status cr_sqlite_lock(const char *path, int *out_fd, struct cr_error *out_error)
{
    char text[16];
    enum cr_status st;
    int fd = -1;
    char *lock_path = path_join(path, "-lock", "");
    if (lock_path == NULL)
        return no_memory(out_error);
    fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        st = cr_store_error(out_error, CR_E_IO,
                            "%s cannot be opened: %s: %s. The directory must be writable for the "
                            "user that Cloakroom runs as.",
                            path, lock_path, strerror(errno));
        goto out;
    }
    st = lock_take(fd, path, out_error);
    if (st != CR_OK)
        goto out;
    /* For people. That it cannot be written (a full disk) is no reason to stay away. */
    int length = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    (void)(ftruncate(fd, 0) == 0 && pwrite(fd, text, (size_t)length, 0) == length);
    *out_fd = fd;
    fd = -1;
out:
    if (fd >= 0)
        close(fd);
    free(lock_path);
    return st;
}

enum cr_status cr_sqlite_touch(const char *path, struct cr_error *out_error)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return cr_store_error(out_error, CR_E_IO,
                              "%s cannot be opened for writing: %s. It must belong to the user "
                              "that Cloakroom runs as.",
                              path, strerror(errno));
    close(fd);
    return CR_OK;
}
