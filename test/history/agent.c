/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An agent for histories:
 *
 *     history agent DIRECTORY STORE LEASE_MS POLL_MS shared|exclusive
 *
 * `shared`: several agents, each of them a host of its own as far as they can see, over one SQLite
 * file. Cloakroom itself refuses that; here the store's lock is not taken, and the store says that
 * it has other engines, by way of the linker's --wrap. SQLite's own locks put the writers of
 * several processes in one order, and the log with them, which is all that a store must do.
 */
#include "roles.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/agent.h"
#include "base/log.h"
#include "store/sqlite_lock.h"
#include "store/store.h"

#define CACHE_BYTES (4u << 20)

static bool is_shared;

/* NOLINTBEGIN(bugprone-reserved-identifier): the linker's names. */
enum cr_status __real_cr_store_open(const char *url, const struct cr_store_env *env,
                                    struct cr_store **out_store, struct cr_error *out_error);
enum cr_status __wrap_cr_store_open(const char *url, const struct cr_store_env *env,
                                    struct cr_store **out_store, struct cr_error *out_error);
enum cr_status __real_cr_sqlite_lock(const char *path, int *out_fd, struct cr_error *out_error);
enum cr_status __wrap_cr_sqlite_lock(const char *path, int *out_fd, struct cr_error *out_error);

enum cr_status __wrap_cr_store_open(const char *url, const struct cr_store_env *env,
                                    struct cr_store **out_store, struct cr_error *out_error)
{
    static struct cr_store_ops shared_ops;
    enum cr_status st = __real_cr_store_open(url, env, out_store, out_error);
    if (st == CR_OK && is_shared) {
        shared_ops = *(*out_store)->ops;
        shared_ops.exclusive = false;
        (*out_store)->ops = &shared_ops;
    }
    return st;
}

enum cr_status __wrap_cr_sqlite_lock(const char *path, int *out_fd, struct cr_error *out_error)
{
    if (!is_shared)
        return __real_cr_sqlite_lock(path, out_fd, out_error);
    *out_fd = -1;
    return CR_OK;
}
/* NOLINTEND(bugprone-reserved-identifier) */

int agent_main(int argc, char **argv)
{
    if (argc != 5)
        return EXIT_FAILURE;
    is_shared = strcmp(argv[4], "shared") == 0;
    struct cr_agent_options options = {
        .state = argv[0],
        .store = argv[1],
        .lease = strtol(argv[2], NULL, 10),
        .poll = strtol(argv[3], NULL, 10),
        .settings = {.cache_bytes = CACHE_BYTES},
        .ready_fd = dup(STDOUT_FILENO),
    };
    cr_log_open("agent", CR_LOG_INFO, false);
    return cr_agent_main(&options);
}
