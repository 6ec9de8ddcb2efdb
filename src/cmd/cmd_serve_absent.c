/* SPDX-License-Identifier: Apache-2.0 */
/* In place of cmd_serve.c and cmd_worker.c, where the program is built without them: what it says
 * to who asks for them. */
#include "cmd/command.h"

int cr_cmd_serve(int argc, char **argv)
{
    cr_complain(
        "the program in the Python package has no HTTP server: it is the agent of your own "
        "application. `cloakroom serve` comes with the Debian package, and with the container "
        "image of packaging/Dockerfile");
    return CR_EXIT_USAGE;
}

int cr_cmd_worker(int argc, char **argv)
{
    return cr_cmd_serve(argc, argv);
}
