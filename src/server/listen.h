/* SPDX-License-Identifier: Apache-2.0 */
/* Listening sockets: one per address and worker, so that a worker that dies loses no connection. */
#ifndef SERVER_LISTEN_H
#define SERVER_LISTEN_H

#include <netinet/in.h>
#include <sys/socket.h>

#include <cloakroom/types.h>

struct cr_listen_address {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } socket;
    socklen_t socket_bytes;
    bool loopback;
};

/* "127.0.0.1:8080", "[::1]:8080"; numbers only. CR_E_INVALID. */
CR_MUST_CHECK enum cr_status cr_listen_parse(const char *text, struct cr_listen_address *out);

/* `count` sockets that share the address and its connections: bound, listening, close-on-exec, and
 * not blocking. Port 0 becomes one that is free, and *address says which. The caller closes them.
 * CR_E_IO with errno; nothing is left open. */
CR_MUST_CHECK enum cr_status cr_listen_open(struct cr_listen_address *address, size_t count,
                                            int *out_fds);

/* The same of a socket that somebody else has opened: `count` descriptors of one socket, so that
 * whoever has a moment takes the next connection. `fd` stays the caller's. CR_E_INVALID: it is not
 * a TCP socket that listens. */
CR_MUST_CHECK enum cr_status cr_listen_share(int fd, size_t count, int *out_fds);

/* The address of such a socket. CR_E_INVALID. */
CR_MUST_CHECK enum cr_status cr_listen_address_of(int fd, struct cr_listen_address *out);

/* A Unix socket at `path`, with the permissions `mode`; a socket that nobody listens on any more is
 * replaced. CR_BUSY: somebody does. CR_CONFLICT: something else than a socket stands there.
 * CR_E_LIMIT: the path is longer than a socket's may be. CR_E_IO with errno. */
CR_MUST_CHECK enum cr_status cr_listen_unix(const char *path, unsigned mode, int *out_fd);

/* As it was parsed, with the port that it has. */
void cr_listen_text(const struct cr_listen_address *address, char *out, size_t capacity);

#endif
