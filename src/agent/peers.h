/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's sockets and who came through them. Loop's thread only.
 *
 * A peer is cut when it breaks the protocol, when it leaves, and when it does not read what it
 * asked for; nobody else notices.
 */
#ifndef AGENT_PEERS_H
#define AGENT_PEERS_H

#include "base/loop.h"
#include "service/service.h"

struct cr_peers;

/* `changed` hears of every peer that came or left. */
CR_MUST_CHECK enum cr_status cr_peers_create(struct cr_loop *loop, struct cr_service *service,
                                             void (*changed)(void *context, size_t count),
                                             void *context, struct cr_peers **out_peers);
/* Closes everything. Accepts NULL. */
void cr_peers_destroy(struct cr_peers *peers);

/* Listen on a new socket at `path`, in place of what stands there: the caller holds the lock that
 * says so. Peers get `role`; those of other users are let in when `mode` lets them. */
CR_MUST_CHECK enum cr_status cr_peers_listen(struct cr_peers *peers, const char *path,
                                             unsigned mode, enum cr_role role);
/* Nobody comes any more, and the sockets' files are gone. Who is there stays. */
void cr_peers_close_doors(struct cr_peers *peers);

size_t cr_peers_count(const struct cr_peers *peers);

#endif
