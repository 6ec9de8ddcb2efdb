/* SPDX-License-Identifier: Apache-2.0 */
/* `cloakroom`. What it can do is in commands.c. */
#include <signal.h>

#include "cmd/command.h"

int main(int argc, char **argv)
{
    char name[] = "cloakroom"; /* however it was started */
    if (argc == 0)
        return CR_EXIT_USAGE;
    argv[0] = name;
    /* A reader that went away is an error of writing, not the end. */
    signal(SIGPIPE, SIG_IGN);
    return cr_command_run(cr_commands(), argc, argv);
}
