/* SPDX-License-Identifier: Apache-2.0 */
/* The protocols of sd_notify(3), sd_watchdog_enabled(3) and sd_listen_fds(3). */
#include "base/manager.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FIRST_SOCKET 3 /* SD_LISTEN_FDS_START */

static const char *const variables[] = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID",
                                        "LISTEN_FDS",    "LISTEN_PID",    "LISTEN_FDNAMES"};

_Static_assert(sizeof((struct cr_manager *)NULL)->notify ==
                   sizeof((struct sockaddr_un *)NULL)->sun_path,
               "as long as a socket's name may be");

/* False: not there, or not a number. */
static bool number_take(const char *name, unsigned long long *out)
{
    const char *text = getenv(name);
    char *end;
    if (text == NULL || text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0';
}

static bool is_ours(const char *name)
{
    unsigned long long pid;
    return number_take(name, &pid) && pid == (unsigned long long)getpid();
}

static void sockets_take(struct cr_manager *out, size_t count)
{
    const char *name = getenv("LISTEN_FDNAMES"); /* with colons between */
    out->socket_count = count;
    for (size_t i = 0; i < count; i++) {
        struct cr_manager_socket *taken = &out->sockets[i];
        taken->fd = FIRST_SOCKET + (int)i;
        if (name == NULL)
            continue;
        size_t length = strcspn(name, ":");
        if (length < sizeof taken->name)
            memcpy(taken->name, name, length);
        name = name[length] == ':' ? name + length + 1 : NULL;
    }
}

void cr_manager_take(struct cr_manager *out)
{
    unsigned long long number;
    const char *notify = getenv("NOTIFY_SOCKET");
    memset(out, 0, sizeof *out);
    if (notify != NULL && (notify[0] == '/' || notify[0] == '@') &&
        strlen(notify) < sizeof out->notify)
        memcpy(out->notify, notify, strlen(notify));
    /* Without WATCHDOG_PID it is for whoever reads it. */
    if (number_take("WATCHDOG_USEC", &number) &&
        (getenv("WATCHDOG_PID") == NULL || is_ours("WATCHDOG_PID")) &&
        number / 1000 <= (unsigned long long)CR_SPAN_MS_MAX)
        out->watchdog = (cr_span_ms)(number / 1000);
    if (is_ours("LISTEN_PID") && number_take("LISTEN_FDS", &number) &&
        number <= CR_MANAGER_SOCKETS_MAX)
        sockets_take(out, (size_t)number);
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++)
        (void)unsetenv(variables[i]);
}

void cr_manager_tell(const struct cr_manager *manager, const char *format, ...)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char text[512];
    va_list arguments;
    size_t count = strlen(manager->notify);
    if (count == 0)
        return;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return;
    memcpy(address.sun_path, manager->notify, count);
    if (address.sun_path[0] == '@')
        address.sun_path[0] = '\0';
    if (length > 0 && (size_t)length < sizeof text)
        (void)sendto(fd, text, (size_t)length, MSG_NOSIGNAL, (const struct sockaddr *)&address,
                     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + count));
    (void)close(fd);
}
