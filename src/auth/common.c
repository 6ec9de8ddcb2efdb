/* SPDX-License-Identifier: Apache-2.0 */
#include "auth/common.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "auth/password.h"
#include "base/assert.h"

#define ENTRIES_FIRST 4096

struct cr_common {
    unsigned char key[crypto_shorthash_KEYBYTES];
    uint64_t *hashes; /* sorted */
    size_t count, capacity;
};

_Static_assert(crypto_shorthash_BYTES == sizeof(uint64_t), "a hash is a number");

static uint64_t hash_of(const struct cr_common *list, const unsigned char *folded, size_t bytes)
{
    uint64_t hash;
    crypto_shorthash((unsigned char *)&hash, folded, bytes, list->key);
    return hash;
}

/* ---- reading */

static enum cr_status list_add(struct cr_common *list, uint64_t hash)
{
    if (list->count == CR_COMMON_ENTRIES_MAX)
        return CR_E_LIMIT;
    if (list->count == list->capacity) {
        size_t capacity = list->capacity == 0 ? ENTRIES_FIRST : 2 * list->capacity;
        uint64_t *larger = realloc(list->hashes, capacity * sizeof *larger);
        if (larger == NULL)
            return CR_E_NO_MEMORY;
        list->hashes = larger;
        list->capacity = capacity;
    }
    list->hashes[list->count++] = hash;
    return CR_OK;
}

static enum cr_status line_add(struct cr_common *list, char *line, size_t bytes)
{
    if (bytes > 0 && line[bytes - 1] == '\n')
        bytes--;
    if (bytes > 0 && line[bytes - 1] == '\r')
        bytes--;
    if (bytes == 0 || (bytes >= 2 && line[0] == '#' && line[1] == '!'))
        return CR_OK;
    cr_password_fold((unsigned char *)line, bytes);
    return list_add(list, hash_of(list, (const unsigned char *)line, bytes));
}

static enum cr_status lines_read(struct cr_common *list, FILE *file)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t bytes = 0;
    enum cr_status st = CR_OK;
    errno = 0;
    while (st == CR_OK && (bytes = getline(&line, &capacity, file)) >= 0)
        st = line_add(list, line, (size_t)bytes);
    if (st == CR_OK && ferror(file))
        st = CR_E_IO;
    free(line);
    return st;
}

static int hash_compare(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

static enum cr_status open_error(struct cr_error *out_error, enum cr_status status,
                                 const char *path, const char *why)
{
    if (out_error != NULL) {
        out_error->status = status;
        (void)snprintf(out_error->text, sizeof out_error->text,
                       "the list of common passwords, %.400s: %s. Mend it, or leave password.list "
                       "empty for the list that is built in",
                       path, why);
    }
    return status;
}

enum cr_status cr_common_open(const char *path, struct cr_common **out_list,
                              struct cr_error *out_error)
{
    struct stat info;
    FILE *file = NULL;
    enum cr_status st = CR_E_IO;
    struct cr_common *list = calloc(1, sizeof *list);
    /* Not to wait at a pipe that somebody put there. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (list == NULL) {
        st = open_error(out_error, CR_E_NO_MEMORY, path, "out of memory");
        goto out;
    }
    if (fd < 0 || fstat(fd, &info) != 0) {
        st = open_error(out_error, CR_E_IO, path, strerror(errno));
        goto out;
    }
    if (!S_ISREG(info.st_mode)) {
        st = open_error(out_error, CR_E_IO, path, "it is no regular file");
        goto out;
    }
    file = fdopen(fd, "r");
    if (file == NULL || sodium_init() < 0) {
        st = open_error(out_error, CR_E_IO, path, "it cannot be read");
        goto out;
    }
    fd = -1;
    crypto_shorthash_keygen(list->key);
    st = lines_read(list, file);
    if (st != CR_OK) {
        st = open_error(out_error, st, path,
                        st == CR_E_LIMIT ? "it has more than 10000000 lines"
                        : st == CR_E_IO  ? strerror(errno)
                                         : cr_status_text(st));
        goto out;
    }
    if (list->count > 0)
        qsort(list->hashes, list->count, sizeof list->hashes[0], hash_compare);
    *out_list = list;
    list = NULL;
out:
    if (file != NULL)
        (void)fclose(file);
    if (fd >= 0)
        close(fd);
    cr_common_destroy(list);
    return st;
}

void cr_common_destroy(struct cr_common *list)
{
    if (list == NULL)
        return;
    free(list->hashes);
    free(list);
}

/* ---- asking */

/* As memcmp of the line that begins at `line`, and of `folded`, with the shorter one first. */
static int line_compare(const char *line, size_t line_bytes, const unsigned char *folded,
                        size_t bytes)
{
    int order = memcmp(line, folded, line_bytes < bytes ? line_bytes : bytes);
    if (order != 0)
        return order;
    return line_bytes < bytes ? -1 : line_bytes > bytes;
}

static bool builtin_has(const unsigned char *folded, size_t bytes)
{
    size_t low = 0; /* both are where a line begins, or the end */
    size_t high = cr_common_passwords_bytes;
    if (memchr(folded, '\n', bytes) != NULL)
        return false;
    while (low < high) {
        size_t at = low + (high - low) / 2;
        while (at > low && cr_common_passwords[at - 1] != '\n')
            at--;
        const char *end = memchr(cr_common_passwords + at, '\n', high - at);
        CR_ASSERT(end != NULL);
        size_t line_bytes = (size_t)(end - (cr_common_passwords + at));
        int order = line_compare(cr_common_passwords + at, line_bytes, folded, bytes);
        if (order == 0)
            return true;
        if (order < 0)
            low = at + line_bytes + 1;
        else
            high = at;
    }
    return false;
}

bool cr_common_has(const struct cr_common *list, const unsigned char *folded, size_t bytes)
{
    if (bytes == 0)
        return false;
    if (builtin_has(folded, bytes))
        return true;
    if (list == NULL || list->count == 0)
        return false;
    uint64_t hash = hash_of(list, folded, bytes);
    return bsearch(&hash, list->hashes, list->count, sizeof hash, hash_compare) != NULL;
}
