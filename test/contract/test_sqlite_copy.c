/* SPDX-License-Identifier: Apache-2.0 */
/* Two copies for one place at a time. What the other process does is done in the midst of ours. */
#include "store/sqlite_copy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "files.h"

static struct scratch place;
static bool other_finishes;

/* In the library's stead: its caller has the file open already. */
int flock(int fd, int operation)
{
    char partial[400], whole[400];
    snprintf(partial, sizeof partial, "%s", scratch_beside(&place, "-copy.partial"));
    snprintf(whole, sizeof whole, "%s", scratch_beside(&place, "-copy"));
    if (other_finishes)
        CHECK_INT(rename(partial, whole), 0);
    return (int)syscall(SYS_flock, fd, operation);
}

static void a_copy_that_another_process_has_just_finished_is_left_alone(void)
{
    struct fixture f;
    struct cr_sqlite_copy *copy = NULL;
    struct cr_error error = {.size = sizeof error};
    size_t size = 0;
    char to[400];
    if (!scratch_begin(&f, &place))
        return;
    file_write(scratch_beside(&place, "-copy.partial"), "whole", 5);
    snprintf(to, sizeof to, "%s", scratch_beside(&place, "-copy"));
    other_finishes = true;
    CHECK_STATUS(cr_sqlite_copy_begin(place.path, to, &copy, &error), CR_BUSY);
    other_finishes = false;
    char *bytes = file_read(to, &size);
    CHECK_UINT(size, 5);
    CHECK(bytes != NULL && memcmp(bytes, "whole", size) == 0);
    free(bytes);
    scratch_end(&f, &place);
}

static const struct tap_test tests[] = {
    TAP_TEST(a_copy_that_another_process_has_just_finished_is_left_alone),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
