/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rooms: opening by URL, the lock, and closing. What kind of room it becomes is decided here; the
 * rest is in link.c (attached) and direct.c.
 */
#include "room/internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/shm.h"
#include "store/store.h"

#define TIMEOUT_MS_DEFAULT 10000
#define REALM_DEFAULT "cloakroom"
#define APP_SOCKET "/app.sock"

static const char agent_prefix[] = "cloakroom://";
static const char table_prefix[] = "table:";

void cr_options_init(struct cr_options *options)
{
    memset(options, 0, sizeof *options);
    options->size = sizeof *options;
}

void cr_room_error(struct cr_error *error, enum cr_status status, const char *format, ...)
{
    va_list args;
    error->status = status;
    va_start(args, format);
    (void)vsnprintf(error->text, sizeof error->text, format, args);
    va_end(args);
}

/* The lock. */

/* In a forked child. Other threads of the parent may have been anywhere: nothing that they could
 * have been changing is walked. */
static void room_begin_anew(struct cr_room *room)
{
    room->life++;
    room->reading = false;
    room->polled = false;
    cr_calls_forget(room);
    cr_locks_forget(room);
    cr_link_drop(room);
    cr_map_drop(room);
    /* Event loops of the child hear nothing where there are no descriptors left; calls go on. */
    if (cr_room_descriptors(room) != CR_OK)
        room->timer_armed = 0;
    /* room_join:A. Pairs with room_alive:A. */
    atomic_store_explicit(&room->page->alive, 1, memory_order_release);
}

bool cr_room_lock(struct cr_room *room, int *out_errno)
{
    *out_errno = errno;
    if (room->is_direct && !cr_room_is_alive(room))
        return false; /* CR-102: the engine is the parent's */
    pthread_mutex_lock(&room->page->lock);
    if (!cr_room_is_alive(room))
        room_begin_anew(room);
    return true;
}

bool cr_room_try_lock(struct cr_room *room, int *out_errno)
{
    *out_errno = errno;
    return cr_room_is_alive(room) && pthread_mutex_trylock(&room->page->lock) == 0;
}

void cr_room_unlock(struct cr_room *room, int kept_errno)
{
    pthread_mutex_unlock(&room->page->lock);
    errno = kept_errno;
}

void cr_room_tell(struct cr_room *room, const struct cr_builder *message)
{
    if (room->is_direct)
        cr_direct_tell(room, message);
    else
        cr_link_tell(room, message);
}

/* Making and closing. */

static bool text_copy(const char *text, char **out)
{
    if (text == NULL)
        return true;
    *out = strdup(text);
    return *out != NULL;
}

static void options_take(struct cr_room *room, const struct cr_options *options)
{
    room->cache = options->cache;
    room->cache_bytes = options->cache_bytes;
    room->idle = options->idle;
    room->absolute = options->absolute;
    room->timeout = options->timeout > 0 ? options->timeout : TIMEOUT_MS_DEFAULT;
}

static void room_free(struct cr_room *room)
{
    int *descriptors[] = {&room->epoll_fd, &room->timer_fd, &room->notice_fd};
    cr_link_drop(room);
    cr_map_destroy(room);
    for (size_t i = 0; i < sizeof descriptors / sizeof descriptors[0]; i++) {
        if (*descriptors[i] >= 0)
            close(*descriptors[i]);
    }
    if (room->url != NULL)
        cr_bytes_wipe(room->url, strlen(room->url)); /* may hold a password */
    free(room->url);
    free(room->state);
    free(room->program);
    free(room->realm);
    free(room->buffer);
    cr_memory_unmap(room->page, sizeof *room->page);
    free(room);
}

enum cr_status cr_room_create(const char *url, const struct cr_options *given,
                              struct cr_room **out_room)
{
    struct cr_options options;
    void *page = NULL;
    cr_options_init(&options);
    if (given != NULL)
        memcpy(&options, given, given->size < sizeof options ? given->size : sizeof options);
    struct cr_room *room = aligned_alloc(_Alignof(struct cr_room), sizeof *room);
    if (room == NULL)
        return CR_E_NO_MEMORY;
    memset(room, 0, sizeof *room);
    room->epoll_fd = room->timer_fd = room->notice_fd = -1;
    room->link.fd = room->link.ready_fd = -1;
    room->clock = cr_clock_system();
    room->next_deadline = CR_BOOT_NEVER;
    room->life = 1;
    room->own_table = url != NULL && strncmp(url, table_prefix, sizeof table_prefix - 1) == 0;
    options_take(room, &options);
    enum cr_status st = cr_memory_private(sizeof *room->page, CR_HUGE_OFF, &page);
    room->page = page;
    room->buffer = malloc(CR_MESSAGE_BYTES_MAX + 1);
    if (st == CR_OK &&
        (room->buffer == NULL || !text_copy(url, &room->url) ||
         !text_copy(options.state, &room->state) || !text_copy(options.program, &room->program) ||
         !text_copy(options.realm != NULL ? options.realm : REALM_DEFAULT, &room->realm)))
        st = CR_E_NO_MEMORY;
    if (st == CR_OK)
        st = cr_room_descriptors(room);
    if (st != CR_OK) {
        room_free(room);
        return st;
    }
    /* room_open:A. Pairs with room_alive:A. */
    atomic_store_explicit(&room->page->alive, 1, memory_order_release);
    *out_room = room;
    return CR_OK;
}

void cr_close(struct cr_room *room)
{
    int kept_errno = errno;
    if (room == NULL)
        return;
    if (cr_room_is_alive(room)) {
        cr_calls_cancel(room);
        cr_locks_forget(room);
        /* Also where forked children still have the same connection. */
        if (room->link.fd >= 0)
            (void)shutdown(room->link.fd, SHUT_RDWR);
        cr_direct_destroy(room);
    }
    room_free(room);
    errno = kept_errno;
}

/* Attaching. */

/* Until the connection is up, or it is clear that waiting will not help. */
static enum cr_status room_join(struct cr_room *room, struct cr_error *error)
{
    const struct room_link *link = &room->link;
    cr_boot_ns now = cr_clock_boot(room->clock), until = cr_boot_add(now, room->timeout);
    bool is_up = false;
    int kept_errno;
    if (!cr_room_lock(room, &kept_errno))
        return CR_E_REFUSED;
    for (;;) {
        cr_room_turn(room, NULL);
        now = cr_clock_boot(room->clock);
        is_up = link->state == LINK_UP;
        bool tries = link->state == LINK_HELLO || link->state == LINK_STARTING ||
                     (link->may_start && !link->hopeless);
        if (is_up || !tries || now >= until)
            break;
        bool pauses = link->state == LINK_DOWN && link->retry_at < until;
        cr_room_sleep(room, pauses ? link->retry_at : until);
    }
    enum cr_status st = CR_OK;
    if (!is_up) {
        *error = link->error;
        st = error->text[0] != '\0' ? error->status : CR_UNAVAILABLE;
        if (error->text[0] == '\0')
            cr_room_error(error, st, "the agent did not answer within %lld ms",
                          (long long)room->timeout);
    }
    cr_room_unlock(room, kept_errno);
    return st;
}

static enum cr_status attach_path(struct cr_room *room, struct cr_error *error)
{
    struct room_link *link = &room->link;
    int length;
    if (strncmp(room->url, agent_prefix, sizeof agent_prefix - 1) == 0) {
        room->any_kind = true;
        length = snprintf(link->path, sizeof link->path, "%s", room->url + sizeof agent_prefix - 1);
    } else {
        char derived[sizeof link->path];
        link->derived = room->state == NULL;
        if (link->derived) {
            enum cr_status st = cr_state_directory(room->url, derived, sizeof derived);
            if (st != CR_OK) {
                cr_room_error(error, st, "no directory for the agent's sockets: %s",
                              cr_status_text(st));
                return st;
            }
            if (!text_copy(derived, &room->state))
                return CR_E_NO_MEMORY;
        }
        length = snprintf(link->path, sizeof link->path, "%s%s", room->state, APP_SOCKET);
    }
    if (link->path[0] != '/' || length < 0 || (size_t)length >= sizeof link->path) {
        cr_room_error(error, CR_E_INVALID,
                      "the path of the agent's socket must begin with / and have at most %d "
                      "characters",
                      (int)sizeof link->path - 1);
        return CR_E_INVALID;
    }
    return CR_OK;
}

static enum cr_status room_attach(struct cr_room *room, bool may_start, struct cr_error *error)
{
    enum cr_status st = attach_path(room, error);
    room->link.may_start = may_start;
    return st == CR_OK ? room_join(room, error) : st;
}

/* Opening. */

static bool url_is_known(const char *url)
{
    static const char *const known[] = {"sqlite:///", "memory:", "fault:", table_prefix,
                                        "cloakroom:///"};
    for (size_t i = 0; url != NULL && i < sizeof known / sizeof known[0]; i++) {
        if (strncmp(url, known[i], strlen(known[i])) == 0)
            return true;
    }
    return false;
}

static enum cr_status room_open(struct cr_room *room, enum cr_mode mode,
                                const struct cr_options *options, struct cr_error *error)
{
    bool names_agent = strncmp(room->url, agent_prefix, sizeof agent_prefix - 1) == 0;
    /* A nameless store in memory is this process's own by its nature. */
    bool is_private = strcmp(room->url, "memory:") == 0;
    switch (mode) {
    case CR_MODE_DIRECT:
        if (names_agent) {
            cr_room_error(error, CR_E_INVALID,
                          "direct mode opens a store, and %.200s is an agent's socket", room->url);
            return CR_E_INVALID;
        }
        return cr_direct_open(room, NULL, options, error);
    case CR_MODE_AUTO:
        if (is_private)
            return cr_direct_open(room, NULL, options, error);
        return room_attach(room, !names_agent, error);
    case CR_MODE_ATTACH:
        return room_attach(room, false, error);
    }
    cr_room_error(error, CR_E_INVALID, "options.mode is %d, which is none", (int)mode);
    return CR_E_INVALID;
}

/* The one who asked may have a smaller struct, or none. */
static void error_give(const struct cr_error *error, enum cr_status st, struct cr_error *out)
{
    if (out == NULL || st == CR_OK || out->size < offsetof(struct cr_error, text) + 1)
        return;
    out->status = st;
    size_t capacity = out->size - offsetof(struct cr_error, text);
    (void)snprintf(out->text, capacity < sizeof out->text ? capacity : sizeof out->text, "%s",
                   error->text[0] != '\0' ? error->text : cr_status_text(st));
}

static enum cr_status open_finish(struct cr_room *room, enum cr_status st,
                                  const struct cr_error *error, struct cr_room **out_room,
                                  struct cr_error *out_error)
{
    error_give(error, st, out_error);
    if (st == CR_OK)
        *out_room = room;
    else
        cr_close(room);
    return st;
}

enum cr_status cr_open(const char *url, const struct cr_options *options, struct cr_room **out_room,
                       struct cr_error *out_error)
{
    struct cr_error error = {.size = sizeof error};
    struct cr_room *room = NULL;
    int kept_errno = errno;
    enum cr_status st = CR_E_INVALID;
    if (url_is_known(url)) {
        st = cr_room_create(url, options, &room);
        if (st == CR_OK)
            st = room_open(room, options != NULL ? options->mode : CR_MODE_AUTO, options, &error);
    } else {
        cr_room_error(&error, st,
                      "the URL must be sqlite:///PATH, memory:, memory:NAME, table:NAME or "
                      "cloakroom:///PATH/app.sock");
    }
    st = open_finish(room, st, &error, out_room, out_error);
    errno = kept_errno;
    return st;
}

enum cr_status cr_open_store(struct cr_store *store, const struct cr_options *options,
                             struct cr_room **out_room, struct cr_error *out_error)
{
    struct cr_error error = {.size = sizeof error};
    struct cr_room *room = NULL;
    int kept_errno = errno;
    enum cr_status st = cr_room_create(NULL, options, &room);
    if (st == CR_OK)
        st = cr_direct_open(room, store, options, &error);
    else
        cr_store_destroy(store);
    st = open_finish(room, st, &error, out_room, out_error);
    errno = kept_errno;
    return st;
}

enum cr_status cr_room_open_fd(int fd, const struct cr_options *options, struct cr_room **out_room,
                               struct cr_error *out_error)
{
    struct cr_error error = {.size = sizeof error};
    struct cr_room *room = NULL;
    enum cr_status st = cr_room_create(NULL, options, &room);
    if (st != CR_OK) {
        close(fd);
        return st;
    }
    room->any_kind = true;
    room->link.handed = true;
    cr_room_replace_fd(room, fd);
    st = room_join(room, &error);
    return open_finish(room, st, &error, out_room, out_error);
}
