/* SPDX-License-Identifier: Apache-2.0 */
/* Ends a process that found itself wrong. Says where, in one write, and keeps nothing back. */
#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void cr_assert_fail(const char *expression, const char *file, int line)
{
    /* dprintf takes no lock of stdio: another thread may hold it for ever. */
    dprintf(STDERR_FILENO, "cloakroom: %s:%d: this does not hold: %s\n", file, line, expression);
    abort();
}
