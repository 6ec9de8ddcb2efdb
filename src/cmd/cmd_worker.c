/* SPDX-License-Identifier: Apache-2.0 */
/* `cloakroom worker`: what the supervisor of `serve` starts. Not for people. */
#include "cmd/command.h"
#include "server/server.h"

int cr_cmd_worker(int argc, char **argv)
{
    return cr_worker_main();
}
