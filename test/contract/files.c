/* SPDX-License-Identifier: Apache-2.0 */
/* Scratch directories below TMPDIR. */
#include "files.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tap.h"

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
