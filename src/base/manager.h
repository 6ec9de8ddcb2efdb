/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a service manager (systemd) says to what it starts, and what it is told in return: the
 * protocols of sd_notify(3) and sd_listen_fds(3), which are a datagram and three variables.
 */
#ifndef BASE_MANAGER_H
#define BASE_MANAGER_H

#include <cloakroom/types.h>

#define CR_MANAGER_SOCKETS_MAX 8

struct cr_manager {
    char notify[108];    /* the path or, after @, the abstract name of its socket; empty: none */
    cr_span_ms watchdog; /* we are to be heard of this often; 0: nobody listens for it */
    /* Sockets that it has opened for us, and what it calls them; "": nothing. */
    struct cr_manager_socket {
        int fd;
        char name[32];
    } sockets[CR_MANAGER_SOCKETS_MAX];
    size_t socket_count;
};

/* Reads the environment, and takes it out of there: it is meant for this process and for none that
 * it starts. What is not of its form is as if it were not there. Call it before anything is
 * opened, in a process of one thread. */
void cr_manager_take(struct cr_manager *out);

/* Sends lines such as "READY=1". Nobody there: does nothing. Does not wait; what gets lost is
 * lost. */
void cr_manager_tell(const struct cr_manager *manager, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
