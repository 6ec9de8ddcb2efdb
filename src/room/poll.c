/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waiting: of threads for replies, and of event loops for cr_room_fd.
 *
 * Of many threads that wait, one is in poll and reads for all; the others wait for the condition.
 * Event loops have an epoll descriptor over: the socket, the ready line of an agent that is being
 * started, a timer for what is due, and an eventfd that says that something was done by a thread.
 */
#include "room/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"

/* Who is in poll looks again this often, in case another thread changed what is to be waited for.
 */
#define LOOK_AGAIN_MS 50
#define NS_PER_S 1000000000ULL

/* Under the number that the old one had, so that event loops keep what they registered. */
static enum cr_status descriptor_take(int fd, int *kept)
{
    if (fd < 0)
        return CR_E_LIMIT;
    if (*kept < 0) {
        *kept = fd;
        return CR_OK;
    }
    int moved = dup3(fd, *kept, O_CLOEXEC);
    close(fd);
    return moved >= 0 ? CR_OK : CR_E_LIMIT;
}

static enum cr_status epoll_add(const struct cr_room *room, int fd)
{
    struct epoll_event event = {.events = EPOLLIN};
    return epoll_ctl(room->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0 ? CR_OK : CR_E_LIMIT;
}

enum cr_status cr_room_descriptors(struct cr_room *room)
{
    room->timer_armed = CR_BOOT_NEVER;
    room->noticed = false;
    enum cr_status st = descriptor_take(epoll_create1(EPOLL_CLOEXEC), &room->epoll_fd);
    if (st == CR_OK)
        st = descriptor_take(timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC),
                             &room->timer_fd);
    if (st == CR_OK)
        st = descriptor_take(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), &room->notice_fd);
    if (st == CR_OK)
        st = epoll_add(room, room->timer_fd);
    if (st == CR_OK)
        st = epoll_add(room, room->notice_fd);
    return st;
}

void cr_room_notice(struct cr_room *room)
{
    static const uint64_t one = 1;
    if (!room->noticed)
        room->noticed = write(room->notice_fd, &one, sizeof one) == (ssize_t)sizeof one;
}

static void notice_clear(struct cr_room *room)
{
    uint64_t count;
    if (room->noticed && read(room->notice_fd, &count, sizeof count) == (ssize_t)sizeof count)
        room->noticed = false;
}

void cr_room_arm(struct cr_room *room, cr_boot_ns due)
{
    if (due >= room->timer_armed)
        return;
    struct itimerspec spec = {0};
    spec.it_value.tv_sec = (time_t)(due / NS_PER_S);
    spec.it_value.tv_nsec = (long)(due % NS_PER_S);
    if (due == 0)
        spec.it_value.tv_nsec = 1; /* all zero would disarm */
    if (timerfd_settime(room->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL) == 0)
        room->timer_armed = due;
}

static void timer_clear(struct cr_room *room, cr_boot_ns now)
{
    uint64_t count;
    if (room->timer_armed > now)
        return;
    if (read(room->timer_fd, &count, sizeof count) == (ssize_t)sizeof count)
        room->timer_armed = CR_BOOT_NEVER;
}

static cr_boot_ns room_due(struct cr_room *room)
{
    cr_boot_ns due = room->next_deadline;
    cr_boot_ns other = room->is_direct ? cr_direct_run(room) : cr_link_due(room);
    return other < due ? other : due;
}

void cr_room_arm_due(struct cr_room *room)
{
    cr_room_arm(room, room_due(room));
}

void cr_room_turn(struct cr_room *room, const struct cr_call *until)
{
    cr_boot_ns now = cr_clock_boot(room->clock);
    if (room->is_direct) {
        (void)cr_direct_run(room);
    } else {
        cr_link_advance(room, now);
        cr_link_flush(room);
        cr_link_read(room, until);
    }
    cr_calls_expire(room, now);
}

static struct timespec span_until(cr_boot_ns now, cr_boot_ns until)
{
    uint64_t left = until > now ? until - now : 0;
    return (struct timespec){.tv_sec = (time_t)(left / NS_PER_S),
                             .tv_nsec = (long)(left % NS_PER_S)};
}

static void sleep_for_condition(struct cr_room *room, cr_boot_ns now, cr_boot_ns until)
{
    struct timespec at, span = span_until(now, until);
    (void)clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += span.tv_sec;
    at.tv_nsec += span.tv_nsec;
    if (at.tv_nsec >= (long)NS_PER_S) {
        at.tv_sec++;
        at.tv_nsec -= (long)NS_PER_S;
    }
    (void)pthread_cond_clockwait(&room->page->changed, &room->page->lock, CLOCK_MONOTONIC, &at);
}

static void sleep_for_input(struct cr_room *room, cr_boot_ns now, cr_boot_ns until)
{
    const struct room_link *link = &room->link;
    short events = link->wants_write ? POLLIN | POLLOUT : POLLIN;
    /* poll passes over descriptors below 0. */
    struct pollfd waited[] = {{.fd = link->fd, .events = events},
                              {.fd = link->ready_fd, .events = POLLIN}};
    struct timespec span = span_until(now, until);
    struct room_page *page = room->page;
    room->reading = true;
    pthread_mutex_unlock(&page->lock);
    (void)ppoll(waited, sizeof waited / sizeof waited[0], &span, NULL);
    pthread_mutex_lock(&page->lock);
    room->reading = false;
    pthread_cond_broadcast(&page->changed);
}

void cr_room_sleep(struct cr_room *room, cr_boot_ns until)
{
    cr_boot_ns now = cr_clock_boot(room->clock);
    cr_boot_ns due = room_due(room), again = cr_boot_add(now, LOOK_AGAIN_MS);
    if (due < until)
        until = due;
    if (room->is_direct || room->reading) {
        sleep_for_condition(room, now, until);
    } else {
        sleep_for_input(room, now, until < again ? until : again);
    }
}

/* A forked child of a direct room: its descriptors are its own, and nothing ever happens there. */
static void descriptors_orphan(struct cr_room *room)
{
    struct room_page *page = room->page;
    pthread_mutex_lock(&page->lock);
    if (!page->orphaned)
        page->orphaned = cr_room_descriptors(room) == CR_OK;
    pthread_mutex_unlock(&page->lock);
}

/* A forked child's event loop must get the child's: one that was given its parent's would not
 * notice that another has that number. */
int cr_room_fd(struct cr_room *room)
{
    int kept_errno = errno;
    if (!cr_room_is_alive(room)) {
        if (cr_room_lock(room, &kept_errno))
            cr_room_unlock(room, kept_errno);
        else
            descriptors_orphan(room);
    }
    errno = kept_errno;
    return room->epoll_fd;
}

void cr_room_poll(struct cr_room *room)
{
    int kept_errno;
    if (!cr_room_lock(room, &kept_errno))
        return;
    cr_boot_ns now = cr_clock_boot(room->clock);
    notice_clear(room);
    timer_clear(room, now);
    room->polled = true;
    cr_room_turn(room, NULL);
    room->polled = false;
    cr_room_arm_due(room);
    cr_room_unlock(room, kept_errno);
}
