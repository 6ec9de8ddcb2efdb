/* SPDX-License-Identifier: Apache-2.0 */
/* Where the sockets of a store's agent are, when nobody says otherwise. */
#include "room/room.h"

#include <errno.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "wire/message.h"

#define NAME_BYTES 12
#define SOCKET_CHARS_MAX 107
#define LONGEST_SOCKET "/operator.sock"

static const char sqlite_prefix[] = "sqlite://";

/* The same file under two names is one store: links are followed, also where the file itself is yet
 * to be made. */
static bool path_resolve(const char *path, char out[PATH_MAX])
{
    char parent[PATH_MAX];
    const char *name = strrchr(path, '/') + 1;
    size_t length = (size_t)(name - path);
    if (realpath(path, out) != NULL)
        return true;
    if (length >= sizeof parent || *name == '\0')
        return false;
    memcpy(parent, path, length);
    parent[length] = '\0';
    if (realpath(parent, out) == NULL)
        return false;
    length = strlen(out);
    if (length + 1 + strlen(name) >= PATH_MAX)
        return false;
    if (out[length - 1] != '/')
        out[length++] = '/';
    memcpy(out + length, name, strlen(name) + 1);
    return true;
}

/* What the store is known by: the URL, with its path resolved where it has one. */
static bool store_name(const char *url, char *out, size_t capacity)
{
    char path[PATH_MAX];
    bool is_file = strncmp(url, sqlite_prefix, sizeof sqlite_prefix - 1) == 0;
    const char *text = url;
    if (is_file) {
        const char *given = url + sizeof sqlite_prefix - 1;
        if (given[0] != '/')
            return false;
        text = path_resolve(given, path) ? path : given;
    }
    int length = snprintf(out, capacity, "%s%s", is_file ? sqlite_prefix : "", text);
    return length > 0 && (size_t)length < capacity;
}

/* $XDG_RUNTIME_DIR/cloakroom, if that is a directory of ours; /tmp/cloakroom-UID else. */
static bool base_directory(char *out, size_t capacity)
{
    struct stat info;
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    int length;
    if (runtime != NULL && runtime[0] == '/' && stat(runtime, &info) == 0 &&
        S_ISDIR(info.st_mode) && info.st_uid == geteuid())
        length = snprintf(out, capacity, "%s/cloakroom", runtime);
    else
        length = snprintf(out, capacity, "/tmp/cloakroom-%ld", (long)geteuid());
    return length > 0 && (size_t)length < capacity;
}

enum cr_status cr_state_directory(const char *url, char *out_path, size_t capacity)
{
    char name[PATH_MAX + sizeof sqlite_prefix], base[PATH_MAX];
    unsigned char hash[NAME_BYTES];
    char hex[2 * NAME_BYTES + 1];
    unsigned char digest[crypto_generichash_BYTES];
    int kept_errno = errno;
    enum cr_status st = CR_E_INVALID;
    if (!store_name(url, name, sizeof name))
        goto out;
    st = CR_E_LIMIT;
    if (!base_directory(base, sizeof base))
        goto out;
    (void)crypto_generichash(digest, sizeof digest, (const unsigned char *)name, strlen(name), NULL,
                             0);
    memcpy(hash, digest, sizeof hash);
    cr_hex_encode(hash, sizeof hash, hex);
    int length = snprintf(out_path, capacity, "%s/%s", base, hex);
    if (length > 0 && (size_t)length < capacity &&
        (size_t)length + strlen(LONGEST_SOCKET) <= SOCKET_CHARS_MAX)
        st = CR_OK;
out:
    errno = kept_errno;
    return st;
}
