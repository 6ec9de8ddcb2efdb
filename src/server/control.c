/* SPDX-License-Identifier: Apache-2.0 */
/* Messages with descriptors between supervisor and worker. */
#include "server/control.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"

union descriptors {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int) * CR_SERVER_LISTEN_MAX)];
};

enum cr_status cr_control_send(int fd, const struct cr_control *message)
{
    union descriptors descriptors = {0};
    struct cr_control copy = *message; /* sendmsg takes no const */
    struct iovec bytes = {.iov_base = &copy, .iov_len = sizeof copy};
    struct msghdr header = {.msg_iov = &bytes, .msg_iovlen = 1};
    CR_ASSERT(message->fd_count <= CR_SERVER_LISTEN_MAX);
    if (message->fd_count > 0) {
        size_t fd_bytes = sizeof(int) * message->fd_count;
        header.msg_control = descriptors.bytes;
        header.msg_controllen = CMSG_SPACE(fd_bytes);
        struct cmsghdr *field = CMSG_FIRSTHDR(&header);
        field->cmsg_level = SOL_SOCKET;
        field->cmsg_type = SCM_RIGHTS;
        field->cmsg_len = CMSG_LEN(fd_bytes);
        memcpy(CMSG_DATA(field), message->fds, fd_bytes);
    }
    ssize_t sent;
    do
        sent = sendmsg(fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK ? CR_BUSY : CR_E_IO;
    return CR_OK;
}

/* Takes the descriptors out of what was received. */
static void descriptors_take(struct msghdr *header, struct cr_control *out)
{
    out->fd_count = 0;
    for (struct cmsghdr *field = CMSG_FIRSTHDR(header); field != NULL;
         field = CMSG_NXTHDR(header, field)) {
        if (field->cmsg_level != SOL_SOCKET || field->cmsg_type != SCM_RIGHTS)
            continue;
        out->fd_count = (field->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(out->fds, CMSG_DATA(field), sizeof(int) * out->fd_count);
    }
}

enum cr_status cr_control_receive(int fd, struct cr_control *out)
{
    union descriptors descriptors;
    struct iovec bytes = {.iov_base = out, .iov_len = sizeof *out};
    struct msghdr header = {
        .msg_iov = &bytes,
        .msg_iovlen = 1,
        .msg_control = descriptors.bytes,
        .msg_controllen = sizeof descriptors.bytes,
    };
    ssize_t received;
    do
        received = recvmsg(fd, &header, MSG_CMSG_CLOEXEC);
    while (received < 0 && errno == EINTR);
    if (received < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return CR_ASK;
    if (received <= 0)
        return CR_E_IO;
    descriptors_take(&header, out);
    if (received == (ssize_t)sizeof *out)
        return CR_OK;
    for (size_t i = 0; i < out->fd_count; i++)
        (void)close(out->fds[i]);
    return CR_E_IO;
}
