/* SPDX-License-Identifier: Apache-2.0 */
/* The processes of a history: each has its own file, which says what it is told. Words after the
 * kind; the exit status. */
#ifndef HISTORY_ROLES_H
#define HISTORY_ROLES_H

int agent_main(int argc, char **argv);
int worker_main(int argc, char **argv);
int table_main(int argc, char **argv);

#endif
