/* SPDX-License-Identifier: Apache-2.0 */
/* Scratch directories below TMPDIR, and databases in them. */
#include "files.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_BYTES_MAX (4U << 20)

bool scratch_make(struct scratch *scratch)
{
    const char *base = getenv("TMPDIR");
    snprintf(scratch->dir, sizeof scratch->dir, "%s/cr-store-XXXXXX", base != NULL ? base : "/tmp");
    if (!CHECK(mkdtemp(scratch->dir) != NULL))
        return false;
    snprintf(scratch->path, sizeof scratch->path, "%s/store.db", scratch->dir);
    snprintf(scratch->url, sizeof scratch->url, "sqlite://%s", scratch->path);
    return true;
}

void scratch_remove(struct scratch *scratch)
{
    DIR *dir = opendir(scratch->dir);
    if (dir == NULL)
        return;
    const struct dirent *entry;
    while ((entry = readdir(dir)) != NULL)
        unlinkat(dirfd(dir), entry->d_name, 0);
    closedir(dir);
    rmdir(scratch->dir);
}

const char *scratch_beside(const struct scratch *scratch, const char *suffix)
{
    static char path[320];
    snprintf(path, sizeof path, "%s%s", scratch->path, suffix);
    return path;
}

enum cr_status scratch_reopen(struct fixture *f, const struct scratch *scratch,
                              struct cr_error *out_error)
{
    f->store = NULL;
    *out_error = (struct cr_error){.size = sizeof *out_error};
    return cr_store_open(scratch->url, &f->env, &f->store, out_error);
}

bool scratch_begin(struct fixture *f, struct scratch *scratch)
{
    struct cr_error error;
    fixture_env(f);
    if (!scratch_make(scratch))
        return false;
    if (CHECK_STATUS(scratch_reopen(f, scratch, &error), CR_OK))
        return true;
    tap_note("%s", error.text);
    return false;
}

void store_close(struct fixture *f)
{
    cr_store_destroy(f->store);
    f->store = NULL;
}

void scratch_end(struct fixture *f, struct scratch *scratch)
{
    store_close(f);
    scratch_remove(scratch);
}

char *file_read(const char *path, size_t *out_size)
{
    FILE *file = fopen(path, "rb");
    char *bytes = calloc(1, FILE_BYTES_MAX);
    *out_size = 0;
    if (file != NULL && bytes != NULL)
        *out_size = fread(bytes, 1, FILE_BYTES_MAX, file);
    if (file != NULL)
        fclose(file);
    return bytes;
}

void file_write(const char *path, const void *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL);
    if (file == NULL)
        return;
    CHECK_UINT(fwrite(bytes, 1, size, file), size);
    fclose(file);
}
