/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An agent without a store, so that ten million sessions stand in the table within a minute: the
 * real table (src/cache), written by its own writer in this process, and as much of the protocol as
 * the library needs to attach. What a reader does is what it does with any agent: it maps the
 * sealed memory that came over the socket, and believes it while the lease that is renewed here
 * holds.
 *
 *     table_agent FOLDER SESSIONS
 *
 * makes FOLDER/app.sock, FOLDER/tokens (see picks.h) and FOLDER/pace, and says in one line how many
 * sessions, of how many bytes. Each line of its input asks it to keep up, from then on, with the
 * readers' pace: so many writes in a thousand (0: none).
 */
#include "entries.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/shm.h"
#include "pace.h"
#include "session/token.h"
#include "wire/message.h"

#define FILL 0.85 /* of the table's places */
#define KEPT_PERCENT                                                                               \
    4 /* of the sessions: no reader asks for them, the writer makes and ends them */
#define FRESHEN_MS 200
#define PACE_MS 1
#define PEERS_MAX 16

struct agent {
    struct cr_table *table;
    struct cr_clock *clock;
    struct cr_random_seeded random;
    struct cr_keyring ring;
    struct cr_token *tokens; /* `asked` of them, then the kept ones */
    size_t sessions, asked, kept, turn;
    struct pace *pace;
    unsigned writes_per_mille;
    uint64_t pace_base;
    struct pollfd polled[2 + PEERS_MAX]; /* input, socket, peers */
    size_t polled_count;
    cr_boot_ns freshen_at;
};

static struct cr_random *random_of(struct agent *agent)
{
    return &agent->random.random;
}

/* So many at a time that what one needs is fetched while the others are made. Each has a user of
 * its own. */
static void sessions_insert(struct agent *agent, size_t number, size_t count,
                            struct cr_token *out_tokens)
{
    static struct cr_entry entries[GROUP];
    struct cr_table_probe ahead;
    struct cr_table_view view;
    struct cr_session_id id;
    struct cr_token_hash hash;
    cr_table_own_view(agent->table, &view);
    for (size_t i = 0; i < count; i++) {
        must_be_ok(cr_session_id_make(random_of(agent), cr_clock_wall(agent->clock), &id), "id");
        must_be_ok(cr_token_make(&agent->ring, random_of(agent), &id, 0, &out_tokens[i]), "token");
        cr_token_hash(&out_tokens[i], &hash);
        entry_make(agent->clock, &id, &hash, number + i, &entries[i]);
        cr_table_probe(&view, &id, &ahead);
    }
    entries_insert(agent->table, entries, count);
}

static void *memory_map(const char *folder, const char *name, size_t bytes)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    must(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0, path);
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    must(memory != MAP_FAILED, path);
    close(fd);
    return memory;
}

static bool token_find(const struct agent *agent, const struct cr_token *token,
                       struct cr_entry *out)
{
    struct cr_table_view view;
    struct cr_session_id id;
    struct cr_token_hash hash;
    bool used_old;
    cr_table_own_view(agent->table, &view);
    cr_token_id(token, &id);
    cr_token_hash(token, &hash);
    return cr_table_find(&view, agent->clock, &id, &hash, out, &used_old);
}

static void freshen(struct agent *agent)
{
    cr_boot_ns now = cr_clock_boot(agent->clock);
    cr_table_freshen(agent->table, cr_boot_add(now, 1000), now);
    agent->freshen_at = cr_boot_add(now, FRESHEN_MS);
}

/* Moves the tokens of those whom no other has pushed out to the front; how many they are. */
static size_t tokens_sift(struct agent *agent)
{
    static struct cr_entry found;
    struct cr_table_probe probe;
    struct cr_table_view view;
    struct cr_session_id id;
    size_t live = 0;
    cr_table_own_view(agent->table, &view);
    for (size_t i = 0; i < agent->sessions; i++) {
        for (size_t ahead = i; i % GROUP == 0 && ahead < i + GROUP && ahead < agent->sessions;
             ahead++) {
            cr_token_id(&agent->tokens[ahead], &id);
            cr_table_probe(&view, &id, &probe);
        }
        if (i % 4096 == 0)
            freshen(agent);
        if (token_find(agent, &agent->tokens[i], &found))
            agent->tokens[live++] = agent->tokens[i];
    }
    return live;
}

/* The last ones of what is in the table are kept; the others are the readers' from then on. */
static void table_fill(struct agent *agent, const char *folder)
{
    char path[512];
    agent->tokens = memory_map(folder, "tokens", agent->sessions * sizeof *agent->tokens);
    for (size_t i = 0; i < agent->sessions; i += GROUP)
        sessions_insert(agent, i, agent->sessions - i < GROUP ? agent->sessions - i : GROUP,
                        &agent->tokens[i]);
    size_t live = tokens_sift(agent);
    must(live > agent->sessions / 100 * 95, "the table lost too many sessions");
    agent->kept = live / 100 * KEPT_PERCENT;
    agent->asked = live - agent->kept;
    must(agent->kept > 0, "too few sessions");
    struct cr_token *kept = malloc(agent->kept * sizeof *kept);
    must(kept != NULL, "out of memory");
    memcpy(kept, agent->tokens + agent->asked, agent->kept * sizeof *kept);
    munmap(agent->tokens, agent->sessions * sizeof *agent->tokens);
    agent->tokens = kept;
    snprintf(path, sizeof path, "%s/tokens", folder);
    must(truncate(path, (off_t)(agent->asked * sizeof *kept)) == 0, path);
}

/* Protocol. */

static void reply_send(int fd, struct cr_builder *reply, int passed)
{
    char control[CMSG_SPACE(sizeof(int))] = {0};
    must(cr_builder_finish(reply), "a reply");
    struct iovec part = {.iov_base = reply->bytes, .iov_len = reply->count};
    struct msghdr head = {.msg_iov = &part, .msg_iovlen = 1};
    if (passed >= 0) {
        head.msg_control = control;
        head.msg_controllen = sizeof control;
        struct cmsghdr *first = CMSG_FIRSTHDR(&head);
        first->cmsg_level = SOL_SOCKET;
        first->cmsg_type = SCM_RIGHTS;
        first->cmsg_len = CMSG_LEN(sizeof passed);
        memcpy(CMSG_DATA(first), &passed, sizeof passed);
    }
    must(sendmsg(fd, &head, MSG_NOSIGNAL) >= 0, "send");
    cr_builder_fini(reply);
}

static void reply_hello(struct agent *agent, int fd, const struct cr_message *message)
{
    struct cr_builder reply;
    cr_builder_init(&reply, CR_OP_HELLO, CR_OK, message->request);
    cr_builder_u64(&reply, CR_TAG_VERSION, CR_WIRE_VERSION);
    cr_builder_u64(&reply, CR_TAG_LAYOUT, CR_TABLE_LAYOUT);
    cr_builder_u64(&reply, CR_TAG_CACHE, CR_CACHE_SHARED);
    cr_builder_u64(&reply, CR_TAG_ROLE, CR_ROLE_APP);
    cr_builder_u64(&reply, CR_TAG_KIND, 0);
    cr_builder_u64(&reply, CR_TAG_PID, (uint64_t)getpid());
    reply_send(fd, &reply, cr_table_fd(agent->table));
}

/* A session that another has pushed out, or that was being written while a reader looked: filled
 * again, as from a store. */
static void token_refill(struct agent *agent, const struct cr_token *token, struct cr_entry *out)
{
    struct cr_session_id id;
    struct cr_token_hash hash;
    cr_token_id(token, &id);
    cr_token_hash(token, &hash);
    entry_make(agent->clock, &id, &hash, agent->sessions + agent->turn, out);
    entries_insert(agent->table, out, 1);
}

static void reply_validate(struct agent *agent, int fd, const struct cr_message *message)
{
    static struct cr_entry entry;
    static struct cr_session session = CR_SESSION_INIT;
    struct cr_token token;
    struct cr_builder reply;
    must(cr_message_token(message, CR_TAG_TOKEN, &token), "a token");
    if (!token_find(agent, &token, &entry))
        token_refill(agent, &token, &entry);
    session.id = entry.id;
    session.user = entry.user;
    session.created_at = entry.created_at;
    session.ends_at = session.expires_at = entry.ends_at;
    session.version = entry.version;
    session.data_bytes = entry.data_bytes;
    memcpy(session.data, entry.data, DATA_BYTES);
    cr_builder_init(&reply, CR_OP_VALIDATE, CR_OK, message->request);
    cr_builder_session(&reply, &session);
    reply_send(fd, &reply, -1);
}

static void reply_stats(struct agent *agent, int fd, const struct cr_message *message)
{
    struct cr_stats stats = {.size = sizeof stats, .cache = CR_CACHE_SHARED, .attached = true};
    struct cr_table_count count;
    struct cr_builder reply;
    cr_table_count(agent->table, &count);
    stats.table_sessions = count.entries;
    stats.table_capacity = count.capacity;
    stats.table_bytes = count.bytes;
    cr_builder_init(&reply, CR_OP_STATS, CR_OK, message->request);
    cr_builder_stats(&reply, &stats);
    reply_send(fd, &reply, -1);
}

/* False: the peer has gone. */
static bool peer_serve(struct agent *agent, int fd)
{
    static unsigned char bytes[CR_MESSAGE_BYTES_MAX];
    struct cr_message message;
    ssize_t got = recv(fd, bytes, sizeof bytes, 0);
    if (got <= 0)
        return false;
    must_be_ok(cr_message_decode(bytes, (size_t)got, &message), "a message");
    if (message.op == CR_OP_HELLO)
        reply_hello(agent, fd, &message);
    else if (message.op == CR_OP_STATS)
        reply_stats(agent, fd, &message);
    else if (message.op == CR_OP_VALIDATE)
        reply_validate(agent, fd, &message);
    else
        must(message.op == CR_OP_SEEN, "a request that this agent does not know");
    return true;
}

static void socket_listen(struct agent *agent, const char *folder)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int length = snprintf(address.sun_path, sizeof address.sun_path, "%s/app.sock", folder);
    must(length > 0 && (size_t)length < sizeof address.sun_path, "the folder's name is too long");
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    must(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
             listen(fd, PEERS_MAX) == 0,
         "listen");
    agent->polled[0] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
    agent->polled[1] = (struct pollfd){.fd = fd, .events = POLLIN};
    agent->polled_count = 2;
}

static void peers_serve(struct agent *agent)
{
    for (size_t i = 2; i < agent->polled_count; i++)
        if (agent->polled[i].revents != 0 && !peer_serve(agent, agent->polled[i].fd)) {
            close(agent->polled[i].fd);
            agent->polled[i--] = agent->polled[--agent->polled_count];
        }
    if (agent->polled[1].revents != 0 && agent->polled_count < 2 + PEERS_MAX) {
        int fd = accept(agent->polled[1].fd, NULL, NULL);
        must(fd >= 0, "accept");
        agent->polled[agent->polled_count++] = (struct pollfd){.fd = fd, .events = POLLIN};
    }
}

/* Writing beside the readers. */

static uint64_t pace_done(const struct agent *agent)
{
    uint64_t done = 0;
    for (unsigned i = 0; i < PACE_READERS; i++)
        done += atomic_load_explicit(&agent->pace->readers[i].done, memory_order_relaxed);
    return done;
}

/* Four writes in turn: a session ends, another is made in its stead, two uses are noted. None of
 * those sessions is asked for, but they stand among the ones that are. */
static void write_one(struct agent *agent)
{
    size_t turn = agent->turn++;
    struct cr_token *token = &agent->tokens[turn / 4 % agent->kept];
    struct cr_session_id id;
    if (turn % 4 == 0) {
        cr_token_id(token, &id);
        cr_table_end_session(agent->table, &id);
    } else if (turn % 4 == 1) {
        sessions_insert(agent, agent->sessions + turn, 1, token);
    } else {
        cr_token_id(&agent->tokens[turn * 7919 % agent->kept], &id);
        cr_table_seen(agent->table, &id, cr_clock_boot(agent->clock));
    }
}

static void pace_keep(struct agent *agent)
{
    uint64_t due = (pace_done(agent) - agent->pace_base) * agent->writes_per_mille / 1000;
    uint64_t done = atomic_load_explicit(&agent->pace->writes, memory_order_relaxed);
    for (; done < due; done++)
        write_one(agent);
    atomic_store_explicit(&agent->pace->writes, done, memory_order_relaxed);
}

/* False: the input has ended. */
static bool input_read(struct agent *agent)
{
    char line[16];
    if (fgets(line, sizeof line, stdin) == NULL)
        return false;
    agent->writes_per_mille = (unsigned)strtoul(line, NULL, 10);
    agent->pace_base = pace_done(agent);
    atomic_store_explicit(&agent->pace->writes, 0, memory_order_relaxed);
    printf("0\n");
    return true;
}

static void serve(struct agent *agent)
{
    setvbuf(stdin, NULL, _IONBF, 0);
    for (;;) {
        int wait = agent->writes_per_mille > 0 ? PACE_MS : FRESHEN_MS / 2;
        int ready = poll(agent->polled, agent->polled_count, wait);
        must(ready >= 0 || errno == EINTR, "poll");
        if (cr_clock_boot(agent->clock) >= agent->freshen_at)
            freshen(agent);
        if (agent->writes_per_mille > 0)
            pace_keep(agent);
        if (ready > 0) {
            peers_serve(agent);
            if (agent->polled[0].revents != 0 && !input_read(agent))
                return;
        }
    }
}

int main(int argc, char **argv)
{
    static struct agent agent;
    must(argc == 3, "usage: table_agent FOLDER SESSIONS");
    setvbuf(stdout, NULL, _IOLBF, 0);
    agent.clock = cr_clock_system();
    agent.sessions = strtoul(argv[2], NULL, 10);
    must(agent.sessions >= 1000, "SESSIONS is a number from 1000 on");
    cr_random_seeded_init(&agent.random, 1);
    const struct cr_key key = {.number = 1};
    cr_keyring_init(&agent.ring, "bench", &key, 1);
    agent.table = table_make(random_of(&agent), agent.sessions, FILL);
    table_fill(&agent, argv[1]);
    agent.pace = memory_map(argv[1], "pace", sizeof *agent.pace);
    socket_listen(&agent, argv[1]);
    struct cr_table_count count;
    cr_table_count(agent.table, &count);
    printf("%zu %llu\n", agent.asked, (unsigned long long)count.bytes);
    serve(&agent);
    cr_table_destroy(agent.table);
    return EXIT_SUCCESS;
}
