/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an agent passes as its table is input: a room maps nothing but a sealed table that it
 * understands, keeps no descriptor, and asks for sessions meanwhile, as if there were no table.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cloakroom/table.h>

#include "base/shm.h"
#include "cache/layout.h"
#include "engine/engine.h"
#include "fuzz/segment.h"
#include "room/internal.h"
#include "wire/message.h"

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE)
#define TOKEN 3 /* the session that is looked for */

static struct segment genuine;

/* ---- descriptors that a peer may pass */

/* `bytes` of memory whose first ones are the genuine table's. */
static int memory_of(size_t bytes, int seals)
{
    int fd = memfd_create("cloakroom-test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    size_t part = bytes < genuine.word_count * 8 ? bytes : genuine.word_count * 8;
    if (!CHECK(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0) ||
        !CHECK(pwrite(fd, genuine.words, part, 0) == (ssize_t)part) ||
        !CHECK(seals == 0 || fcntl(fd, F_ADD_SEALS, seals) == 0))
        return -1;
    return fd;
}

static int sealed_with_header(size_t offset, uint64_t value, size_t bytes)
{
    int fd = memory_of(genuine.word_count * 8, 0);
    CHECK(pwrite(fd, &value, bytes, (off_t)offset) == (ssize_t)bytes &&
          fcntl(fd, F_ADD_SEALS, SEALS) == 0);
    return fd;
}

static int file_of(const char *name, int flags)
{
    char path[512];
    const char *folder = getenv("TMPDIR");
    (void)snprintf(path, sizeof path, "%s/%s", folder != NULL ? folder : "/tmp", name);
    (void)unlink(path);
    if (flags == 0)
        CHECK(mkfifo(path, 0600) == 0);
    int fd = open(path, O_RDWR | O_CLOEXEC | flags, 0600);
    (void)unlink(path);
    return fd;
}

static int socket_of(void)
{
    int ends[2];
    if (!CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0))
        return -1;
    close(ends[1]);
    return ends[0];
}

enum gift {
    GIFT_FIFO,
    GIFT_SOCKET,
    GIFT_EVENT,
    GIFT_FOLDER,
    GIFT_ZEROES,
    GIFT_FILE, /* the whole table, in a file that can be truncated at any time */
    GIFT_UNSEALED,
    GIFT_MAY_SHRINK,
    GIFT_MAY_BE_WRITTEN,
    GIFT_EMPTY,
    GIFT_ONE_BYTE,
    GIFT_HEADER_ONLY,
    GIFT_HALF,
    GIFT_A_PAGE_MORE,
    GIFT_OTHER_LAYOUT,
    GIFT_OTHER_MAGIC,
    GIFT_ONLY_ZEROES,
    GIFT_COUNT
};

static int gift_open(enum gift gift)
{
    size_t bytes = genuine.word_count * 8;
    int fd = -1;
    switch (gift) {
    case GIFT_FIFO:
        return file_of("fifo", 0);
    case GIFT_SOCKET:
        return socket_of();
    case GIFT_EVENT:
        return eventfd(0, EFD_CLOEXEC);
    case GIFT_FOLDER:
        return open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    case GIFT_ZEROES:
        return open("/dev/zero", O_RDWR | O_CLOEXEC);
    case GIFT_FILE:
        fd = file_of("table", O_CREAT | O_EXCL);
        CHECK(pwrite(fd, genuine.words, bytes, 0) == (ssize_t)bytes);
        return fd;
    case GIFT_UNSEALED:
        return memory_of(bytes, 0);
    case GIFT_MAY_SHRINK:
        return memory_of(bytes, F_SEAL_GROW | F_SEAL_FUTURE_WRITE);
    case GIFT_MAY_BE_WRITTEN:
        return memory_of(bytes, F_SEAL_SHRINK | F_SEAL_GROW);
    case GIFT_EMPTY:
        return memory_of(0, SEALS);
    case GIFT_ONE_BYTE:
        return memory_of(1, SEALS);
    case GIFT_HEADER_ONLY:
        return memory_of(sizeof(struct layout_header), SEALS);
    case GIFT_HALF:
        return memory_of(bytes / 2, SEALS);
    case GIFT_A_PAGE_MORE:
        return memory_of(bytes + 4096, SEALS);
    case GIFT_OTHER_LAYOUT:
        return sealed_with_header(offsetof(struct layout_header, version), CR_TABLE_LAYOUT + 1, 4);
    case GIFT_OTHER_MAGIC:
        return sealed_with_header(offsetof(struct layout_header, magic), 1, 8);
    case GIFT_ONLY_ZEROES:
        fd = memfd_create("cloakroom-test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        CHECK(ftruncate(fd, (off_t)bytes) == 0 && fcntl(fd, F_ADD_SEALS, SEALS) == 0);
        return fd;
    case GIFT_COUNT:
        break;
    }
    return -1;
}

/* ---- the room */

static enum cr_status validate(struct cr_room *room)
{
    struct cr_session session = {.size = sizeof session};
    return cr_validate_cached(room, &genuine.tokens[TOKEN], &session);
}

static void give(struct cr_room *room, int fd)
{
    int kept_errno;
    if (CHECK(cr_room_lock(room, &kept_errno))) {
        cr_map_take(room, fd);
        cr_room_unlock(room, kept_errno);
    }
}

static void give_genuine(struct cr_room *room)
{
    cr_boot_ns now = cr_clock_boot(cr_clock_system());
    cr_table_freshen(genuine.f.table, now + CR_TABLE_FRESH_NS_MAX, now);
    give(room, dup(cr_table_fd(genuine.f.table)));
}

static unsigned descriptors_open(void)
{
    unsigned count = 0;
    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static bool begin(void)
{
    return CHECK(segment_init(&genuine, cr_clock_boot(cr_clock_system())));
}

/* One of the conditions in cr_shm_map left out; the status of cr_table_view_init not looked at; a
 * `fail` that closes nothing. */
static void what_is_no_sealed_table_is_not_mapped(void)
{
    struct cr_room *room = NULL;
    if (!begin() || !CHECK_STATUS(cr_room_create(NULL, NULL, &room), CR_OK))
        return;
    for (unsigned gift = 0; gift < GIFT_COUNT; gift++) {
        char row[32];
        (void)snprintf(row, sizeof row, "gift %u", gift);
        tap_row(row);
        give_genuine(room);
        CHECK_STATUS(validate(room), CR_OK);
        unsigned open_before = descriptors_open();
        int fd = gift_open(gift);
        if (!CHECK(fd >= 0))
            continue;
        give(room, fd);
        CHECK_UINT(descriptors_open(), open_before);
        CHECK(!cr_room_has_table(room));
        CHECK_STATUS(validate(room), CR_ASK);
    }
    tap_row(NULL);
    give_genuine(room);
    CHECK_STATUS(validate(room), CR_OK);
    cr_close(room);
    segment_fini(&genuine);
}

/* A page that is gone under a reader is a SIGBUS. */
static void who_passed_a_table_cannot_take_its_pages_away(void)
{
    struct cr_room *room = NULL;
    if (!begin() || !CHECK_STATUS(cr_room_create(NULL, NULL, &room), CR_OK))
        return;
    give_genuine(room);
    int fd = cr_table_fd(genuine.f.table);
    CHECK(ftruncate(fd, 0) == -1 && errno == EPERM);
    CHECK(ftruncate(fd, 4096) == -1 && errno == EPERM);
    CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == -1 &&
          errno == EPERM);
    CHECK(fcntl(fd, F_ADD_SEALS, 0) == 0 && (fcntl(fd, F_GET_SEALS) & SEALS) == SEALS);
    /* Through the map that it has still got: pages may go, but zeros come. */
    (void)madvise(genuine.words, genuine.word_count * 8, MADV_REMOVE);
    (void)madvise(genuine.words, genuine.word_count * 8, MADV_DONTNEED);
    enum cr_status st = validate(room);
    CHECK(st == CR_OK || st == CR_ASK);
    cr_close(room);
    segment_fini(&genuine);
}

/* CR_ROOM_MAPS_MAX not looked at. */
static void a_room_that_was_passed_table_after_table_asks_in_the_end(void)
{
    struct cr_room *room = NULL;
    unsigned taken = 0;
    if (!begin() || !CHECK_STATUS(cr_room_create(NULL, NULL, &room), CR_OK))
        return;
    unsigned open_before = descriptors_open();
    for (unsigned i = 0; i < CR_ROOM_MAPS_MAX + 10; i++) {
        give_genuine(room);
        taken += cr_room_has_table(room);
    }
    CHECK_UINT(taken, CR_ROOM_MAPS_MAX);
    CHECK_STATUS(validate(room), CR_ASK);
    CHECK_UINT(descriptors_open(), open_before);
    cr_close(room);
    segment_fini(&genuine);
}

/* cr_lookup without its comparison: it would copy past the entry, and past the value. */
static void a_value_longer_than_a_value_can_be_is_asked_for(void)
{
    static const uint32_t lengths[] = {CR_DATA_CACHED_BYTES_MAX, CR_DATA_CACHED_BYTES_MAX + 1,
                                       CR_DATA_BYTES_MAX};
    struct cr_room *room = NULL;
    if (!begin() || !CHECK_STATUS(cr_room_create(NULL, NULL, &room), CR_OK))
        return;
    room->own_table = true;
    struct cr_value *value = guarded_memory(sizeof *value, -1);
    for (size_t i = 0; value != NULL && i < sizeof lengths / sizeof lengths[0]; i++) {
        struct cr_entry entry;
        struct cr_token_hash hash;
        cr_boot_ns now = cr_clock_boot(cr_clock_system());
        fixture_entry(1, 1, now, lengths[i], &entry);
        cr_engine_table_key("key", 3, &entry.id, &hash);
        memcpy(entry.hash, hash.bytes, sizeof entry.hash);
        CHECK(cr_table_insert(genuine.f.table, &entry, cr_table_clock(genuine.f.table), now));
        give_genuine(room);
        value->size = sizeof *value;
        CHECK_STATUS(cr_lookup(room, "key", 3, value), i == 0 ? CR_OK : CR_ASK);
    }
    cr_close(room);
    segment_fini(&genuine);
}

/* ---- over the socket */

/* One message, with up to two descriptors. */
static bool message_send(int to, const void *bytes, size_t count, const int *fds, size_t fd_count)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(2 * sizeof(int))];
    } control;
    struct iovec part = {.iov_len = count};
    memcpy(&part.iov_base, &bytes, sizeof bytes); /* without its const */
    struct msghdr head = {.msg_iov = &part, .msg_iovlen = 1};
    memset(&control, 0, sizeof control);
    if (fd_count > 0) {
        head.msg_control = control.space;
        head.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
        struct cmsghdr *passed = CMSG_FIRSTHDR(&head);
        passed->cmsg_level = SOL_SOCKET;
        passed->cmsg_type = SCM_RIGHTS;
        passed->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
        memcpy(CMSG_DATA(passed), fds, fd_count * sizeof(int));
    }
    return sendmsg(to, &head, MSG_NOSIGNAL) == (ssize_t)count;
}

static bool told(int to, enum cr_op op, uint64_t request, const int *fds, size_t fd_count)
{
    struct cr_builder message;
    cr_builder_init(&message, op, CR_OK, request);
    cr_builder_u64(&message, CR_TAG_CACHE, CR_CACHE_SHARED);
    bool is_sent = cr_builder_finish(&message) &&
                   message_send(to, message.bytes, message.count, fds, fd_count);
    cr_builder_fini(&message);
    return is_sent;
}

/* An agent that greets, with a descriptor. */
struct greeter {
    int socket, fd;
    bool is_done;
};

static void *greeter_run(void *context)
{
    struct greeter *greeter = context;
    static unsigned char buffer[CR_MESSAGE_BYTES_MAX];
    struct cr_message hello;
    ssize_t got = recv(greeter->socket, buffer, sizeof buffer, 0);
    greeter->is_done = got > 0 && cr_message_decode(buffer, (size_t)got, &hello) == CR_OK &&
                       told(greeter->socket, CR_OP_HELLO, hello.request, &greeter->fd, 1);
    return NULL;
}

/* NULL: it did not come to that. The agent's end is *out_agent. */
static struct cr_room *room_greeted_with(int fd, int *out_agent)
{
    struct cr_room *room = NULL;
    pthread_t thread;
    int ends[2];
    if (!CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0))
        return NULL;
    struct greeter greeter = {.socket = ends[1], .fd = fd};
    if (!CHECK(pthread_create(&thread, NULL, greeter_run, &greeter) == 0))
        return NULL;
    CHECK_STATUS(cr_room_open_fd(ends[0], NULL, &room, NULL), CR_OK);
    pthread_join(thread, NULL);
    CHECK(greeter.is_done);
    *out_agent = ends[1];
    return room;
}

static void room_read(struct cr_room *room)
{
    int kept_errno;
    if (CHECK(cr_room_lock(room, &kept_errno))) {
        cr_link_read(room, NULL);
        cr_room_unlock(room, kept_errno);
    }
}

static void a_greeting_and_a_push_with_something_else_leave_the_connection_up(void)
{
    if (!begin())
        return;
    for (unsigned gift = 0; gift < GIFT_COUNT; gift++) {
        char row[32];
        int agent = -1;
        (void)snprintf(row, sizeof row, "gift %u", gift);
        tap_row(row);
        unsigned open_before = descriptors_open();
        int fd = gift_open(gift);
        struct cr_room *room = room_greeted_with(fd, &agent);
        if (!CHECK(room != NULL))
            break;
        unsigned open_greeted = descriptors_open();
        CHECK(!cr_room_has_table(room));
        CHECK(told(agent, CR_OP_SEGMENT, 0, &fd, 1));
        room_read(room);
        CHECK(!cr_room_has_table(room) && cr_room_is_connected(room));
        CHECK_UINT(descriptors_open(), open_greeted);
        cr_close(room);
        close(agent);
        close(fd);
        CHECK_UINT(descriptors_open(), open_before);
    }
    tap_row(NULL);
    segment_fini(&genuine);
}

/* passed_take without its loop. */
static void descriptors_that_nobody_asked_for_are_closed(void)
{
    int agent = -1, zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    if (!begin())
        return;
    struct cr_room *room = room_greeted_with(zero, &agent);
    const int two[] = {zero, zero};
    if (!CHECK(room != NULL))
        return;
    unsigned open_before = descriptors_open();
    for (unsigned i = 0; i < 3; i++) {
        CHECK(told(agent, CR_OP_SEGMENT, 0, two, 2));
        CHECK(told(agent, CR_OP_SEGMENT, 4711, two, 1)); /* nobody waits for it */
        room_read(room);
    }
    CHECK(cr_room_is_connected(room));
    CHECK_UINT(descriptors_open(), open_before);
    CHECK(message_send(agent, "what?", 5, two, 2));
    room_read(room);
    CHECK(!cr_room_is_connected(room));
    CHECK_UINT(descriptors_open(), open_before - 1); /* the connection's own */
    cr_close(room);
    close(agent);
    close(zero);
    segment_fini(&genuine);
}

static const struct tap_test tests[] = {
    TAP_TEST(what_is_no_sealed_table_is_not_mapped),
    TAP_TEST(who_passed_a_table_cannot_take_its_pages_away),
    TAP_TEST(a_room_that_was_passed_table_after_table_asks_in_the_end),
    TAP_TEST(a_value_longer_than_a_value_can_be_is_asked_for),
    TAP_TEST(a_greeting_and_a_push_with_something_else_leave_the_connection_up),
    TAP_TEST(descriptors_that_nobody_asked_for_are_closed),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
