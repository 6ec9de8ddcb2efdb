/* SPDX-License-Identifier: Apache-2.0 */
/* `cloakroom`. What it can do is in commands.c. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cmd/command.h"

/* Whoever started us may have closed these. The next thing to be opened would take their place, and
 * an answer that is printed would go into a socket or a lock's file. Nothing can be written to what
 * stands there now, so that a lost answer is noticed. */
static bool standard_streams_hold(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", O_RDONLY) != fd)
            return false;
    return true;
}

/* A script must not take half an answer for a whole one. A reader that had enough is not told. */
static void output_finish(void)
{
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return;
    if (errno != EPIPE)
        cr_complain("writing the answer failed");
    _exit(CR_EXIT_FAILED);
}

int main(int argc, char **argv)
{
    char name[] = "cloakroom"; /* however it was started */
    if (argc == 0)
        return CR_EXIT_USAGE;
    argv[0] = name;
    /* A reader that went away is an error of writing, not the end. */
    signal(SIGPIPE, SIG_IGN);
    if (!standard_streams_hold() || atexit(output_finish) != 0)
        return CR_EXIT_FAILED;
    return cr_command_run(cr_commands(), argc, argv);
}
