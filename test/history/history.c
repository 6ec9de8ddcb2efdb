/* SPDX-License-Identifier: Apache-2.0 */
/* The processes of a history in one program; histories.py starts them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "roles.h"

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(int argc, char **argv);
    } roles[] = {{"agent", agent_main}, {"worker", worker_main}, {"table", table_main}};
    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++)
        if (argc > 1 && strcmp(argv[1], roles[i].name) == 0)
            return roles[i].run(argc - 2, argv + 2);
    (void)fprintf(stderr, "usage: history agent|worker|table WORD...\n");
    return EXIT_FAILURE;
}
