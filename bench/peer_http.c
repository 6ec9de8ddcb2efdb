/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP library by itself: one thread, and a handler that answers 200 with nothing in it. Prints
 * its port, and ends with its input.
 */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

#include <microhttpd.h>

static enum MHD_Result answer(void *context, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *data,
                              size_t *data_bytes, void **request)
{
    static int begun;
    if (*request == NULL) { /* only the head is here: an answer now would close the connection */
        *request = &begun;
        return MHD_YES;
    }
    return MHD_queue_response(connection, MHD_HTTP_OK, context);
}

int main(void)
{
    const struct sockaddr_in loopback = {.sin_family = AF_INET,
                                         .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct MHD_Response *empty = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    struct MHD_Daemon *daemon =
        MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_TURBO, 0, NULL, NULL, answer,
                         empty, MHD_OPTION_SOCK_ADDR, &loopback, MHD_OPTION_END);
    if (daemon == NULL)
        return EXIT_FAILURE;
    printf("%u\n", MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT)->port);
    fflush(stdout);
    while (getchar() != EOF)
        ;
    MHD_stop_daemon(daemon);
    MHD_destroy_response(empty);
    return EXIT_SUCCESS;
}
