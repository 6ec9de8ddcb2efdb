/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses and the sockets that listen on them. No names are looked up: which address a server
 * offers itself on must not depend on who answers for a name today.
 */
#include "server/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 1024

static bool port_parse(const char *text, in_port_t *out)
{
    char *end;
    if (text[0] < '0' || text[0] > '9')
        return false;
    unsigned long port = strtoul(text, &end, 10);
    *out = htons((uint16_t)port);
    return *end == '\0' && port <= 65535;
}

static bool v4_parse(const char *host, const char *port, struct cr_listen_address *out)
{
    out->socket.v4.sin_family = AF_INET;
    out->socket_bytes = sizeof out->socket.v4;
    out->loopback = strncmp(host, "127.", 4) == 0;
    return inet_pton(AF_INET, host, &out->socket.v4.sin_addr) == 1 &&
           port_parse(port, &out->socket.v4.sin_port);
}

static bool v6_parse(const char *host, const char *port, struct cr_listen_address *out)
{
    out->socket.v6.sin6_family = AF_INET6;
    out->socket_bytes = sizeof out->socket.v6;
    if (inet_pton(AF_INET6, host, &out->socket.v6.sin6_addr) != 1)
        return false;
    out->loopback = IN6_IS_ADDR_LOOPBACK(&out->socket.v6.sin6_addr);
    return port_parse(port, &out->socket.v6.sin6_port);
}

enum cr_status cr_listen_parse(const char *text, struct cr_listen_address *out)
{
    struct cr_listen_address address = {0};
    char host[64];
    const char *colon = strrchr(text, ':');
    size_t count = colon != NULL ? (size_t)(colon - text) : 0;
    if (count == 0 || count >= sizeof host)
        return CR_E_INVALID;
    memcpy(host, text, count);
    host[count] = '\0';
    bool valid;
    if (host[0] == '[' && host[count - 1] == ']') {
        host[count - 1] = '\0';
        valid = v6_parse(host + 1, colon + 1, &address);
    } else {
        valid = v4_parse(host, colon + 1, &address);
    }
    if (!valid)
        return CR_E_INVALID;
    *out = address;
    return CR_OK;
}

static enum cr_status socket_open(struct cr_listen_address *address, int *out_fd)
{
    static const int yes = 1;
    socklen_t bytes = address->socket_bytes;
    enum cr_status st = CR_E_IO;
    int fd = socket(address->socket.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return CR_E_IO;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &yes, sizeof yes) != 0)
        goto out;
    if (address->socket.any.sa_family == AF_INET6 &&
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof yes) != 0)
        goto out;
    if (bind(fd, &address->socket.any, address->socket_bytes) != 0 || listen(fd, BACKLOG) != 0 ||
        getsockname(fd, &address->socket.any, &bytes) != 0)
        goto out;
    st = CR_OK;
    *out_fd = fd;
out:
    if (st != CR_OK) {
        int saved = errno;
        (void)close(fd);
        errno = saved;
    }
    return st;
}

/* SO_REUSEPORT would also share the port with a server that is running already, and half of the
 * people would land on either. */
static bool address_is_taken(const struct cr_listen_address *address)
{
    int fd = socket(address->socket.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    static const int yes = 1;
    bool taken = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) == 0 &&
                 bind(fd, &address->socket.any, address->socket_bytes) != 0 && errno == EADDRINUSE;
    (void)close(fd);
    if (taken)
        errno = EADDRINUSE;
    return taken;
}

enum cr_status cr_listen_open(struct cr_listen_address *address, size_t count, int *out_fds)
{
    if (address_is_taken(address))
        return CR_E_IO;
    for (size_t i = 0; i < count; i++) {
        enum cr_status st = socket_open(address, &out_fds[i]);
        if (st == CR_OK)
            continue;
        int saved = errno;
        while (i > 0)
            (void)close(out_fds[--i]);
        errno = saved;
        return st;
    }
    return CR_OK;
}

enum cr_status cr_listen_address_of(int fd, struct cr_listen_address *out)
{
    struct cr_listen_address address = {0};
    int listens = 0, kind = 0;
    socklen_t bytes = sizeof listens;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &bytes) != 0 || listens == 0)
        return CR_E_INVALID;
    bytes = sizeof kind;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &kind, &bytes) != 0 || kind != SOCK_STREAM)
        return CR_E_INVALID;
    address.socket_bytes = sizeof address.socket;
    if (getsockname(fd, &address.socket.any, &address.socket_bytes) != 0)
        return CR_E_INVALID;
    if (address.socket.any.sa_family == AF_INET)
        address.loopback = (ntohl(address.socket.v4.sin_addr.s_addr) >> 24) == IN_LOOPBACKNET;
    else if (address.socket.any.sa_family == AF_INET6)
        address.loopback = IN6_IS_ADDR_LOOPBACK(&address.socket.v6.sin6_addr);
    else
        return CR_E_INVALID;
    *out = address;
    return CR_OK;
}

enum cr_status cr_listen_share(int fd, size_t count, int *out_fds)
{
    struct cr_listen_address address;
    int flags = fcntl(fd, F_GETFL);
    if (cr_listen_address_of(fd, &address) != CR_OK)
        return CR_E_INVALID;
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0)
        return CR_E_IO;
    for (size_t i = 0; i < count; i++) {
        out_fds[i] = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        if (out_fds[i] >= 0)
            continue;
        while (i > 0)
            (void)close(out_fds[--i]);
        return CR_E_IO;
    }
    return CR_OK;
}

/* Takes what is left of a predecessor out of the way. */
static enum cr_status leftover_remove(const struct sockaddr_un *address)
{
    struct stat there;
    if (lstat(address->sun_path, &there) != 0)
        return errno == ENOENT ? CR_OK : CR_E_IO;
    if (!S_ISSOCK(there.st_mode))
        return CR_CONFLICT;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return CR_E_IO;
    bool dead = connect(fd, (const struct sockaddr *)address, sizeof *address) != 0 &&
                errno == ECONNREFUSED;
    (void)close(fd);
    if (!dead)
        return CR_BUSY;
    return unlink(address->sun_path) == 0 || errno == ENOENT ? CR_OK : CR_E_IO;
}

enum cr_status cr_listen_unix(const char *path, unsigned mode, int *out_fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t count = strlen(path);
    if (count >= sizeof address.sun_path)
        return CR_E_LIMIT;
    memcpy(address.sun_path, path, count);
    enum cr_status st = leftover_remove(&address);
    if (st != CR_OK)
        return st;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return CR_E_IO;
    /* Nobody can come before listen, so nobody comes under the wrong mode. */
    if (bind(fd, (const struct sockaddr *)&address, sizeof address) != 0 ||
        chmod(path, mode) != 0 || listen(fd, BACKLOG) != 0) {
        int saved = errno;
        (void)close(fd);
        errno = saved;
        return CR_E_IO;
    }
    *out_fd = fd;
    return CR_OK;
}

void cr_listen_text(const struct cr_listen_address *address, char *out, size_t capacity)
{
    char host[INET6_ADDRSTRLEN] = "";
    bool v6 = address->socket.any.sa_family == AF_INET6;
    if (v6)
        (void)inet_ntop(AF_INET6, &address->socket.v6.sin6_addr, host, sizeof host);
    else
        (void)inet_ntop(AF_INET, &address->socket.v4.sin_addr, host, sizeof host);
    in_port_t port = v6 ? address->socket.v6.sin6_port : address->socket.v4.sin_port;
    (void)snprintf(out, capacity, v6 ? "[%s]:%u" : "%s:%u", host, (unsigned)ntohs(port));
}
