/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's state directory: that it is ours, who is the agent, where it logs. */
#ifndef AGENT_STATE_H
#define AGENT_STATE_H

#include <cloakroom/room.h>

/* Make the directory (and its parent) where missing, see that it is ours alone to write, and give
 * it `mode`. The text says what is wrong. */
CR_MUST_CHECK enum cr_status cr_agent_state_prepare(const char *state, unsigned mode,
                                                    struct cr_error *out_error);

/* Become the agent of `state`: whoever has this lock may replace what stands there. CR_BUSY:
 * another process has it, with its pid in the text. The descriptor holds the lock. */
CR_MUST_CHECK enum cr_status cr_agent_state_lock(const char *state, int *out_fd,
                                                 struct cr_error *out_error);
void cr_agent_state_unlock(int fd); /* accepts -1 */

/* Standard output and error go to the log file from here on, standard input to nothing. */
CR_MUST_CHECK enum cr_status cr_agent_state_log(const char *state, struct cr_error *out_error);

/* STATE/name, in the caller's PATH_MAX characters. False: too long. */
CR_MUST_CHECK bool cr_agent_state_path(const char *state, const char *name, char *out);

void cr_agent_error(struct cr_error *error, enum cr_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
