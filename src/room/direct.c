/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Direct mode: the engine, and the service over it, inside this process. For one process that stays
 * alone. Whoever calls is the loop's thread, under the room's lock; timers run when calls enter.
 *
 * Process-local: the table, and with `memory:` the store too. With several processes a session that
 * one of them ended would go on being accepted by the others; so that is refused when the room is
 * opened (CR-101), and in a forked child (CR-102). The way out is the default: an agent.
 */
#include "room/internal.h"

#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "auth/common.h"
#include "base/assert.h"
#include "base/random.h"
#include "coord/checks.h"
#include "coord/family.h"
#include "service/service.h"
#include "store/store.h"

#define CACHE_BYTES_DEFAULT ((size_t)64 << 20)
#define IDLE_MS_DEFAULT (30LL * 60 * 1000)
#define ABSOLUTE_MS_DEFAULT (12LL * 3600 * 1000)
#define LEASE_MS 5000
#define POLL_MS 1000
#define PREDECESSOR_LOOK_MS 20

struct room_direct {
    struct cr_loop *loop;
    struct cr_engine *engine;
    struct cr_auth *auth;
    struct cr_common *common; /* of its rules; NULL: none */
    struct cr_leases *leases;
    struct cr_service *service;
    struct cr_client *client;
    cr_boot_ns wait_until; /* for a predecessor */
    int alone_fd; /* says that this process is the only one; -1: there is another lock for that */
};

static void direct_receive(void *context, const void *bytes, size_t count, int fd)
{
    /* Our own service speaks the protocol. No table is passed: cr_engine_cached reads it. */
    bool is_good = cr_room_dispatch(context, bytes, count, -1);
    CR_ASSERT(is_good);
}

static bool url_begins(const struct cr_room *room, const char *prefix)
{
    return room->url != NULL && strncmp(room->url, prefix, strlen(prefix)) == 0;
}

/* The pid that the store's refusal names, as "held by process 4711"; 0: none. */
static long holder_named(const struct cr_error *error)
{
    static const char before[] = "held by process ";
    const char *at = strstr(error->text, before);
    return at != NULL ? strtol(at + sizeof before - 1, NULL, 10) : 0;
}

/* A server that replaces its worker starts the next one while the last is still going: that one is
 * waited for, as long as a call may take. Another program's process is not. False: no longer. */
static bool predecessor_wait(const struct cr_room *room, long holder)
{
    if (cr_clock_boot(room->clock) >= room->direct->wait_until || !cr_family_has(holder))
        return false;
    (void)poll(NULL, 0, PREDECESSOR_LOOK_MS);
    return true;
}

/* Seen from what is asked for and what else runs: is this process going to stay alone? */
static enum cr_status direct_check(struct cr_room *room, const struct cr_options *options,
                                   struct cr_check_facts *facts, struct cr_error *error)
{
    long holder = 0;
    facts->cache = room->cache;
    facts->store_is_private = room->own_table || url_begins(room, "memory:");
    facts->store_is_exclusive = url_begins(room, "sqlite:");
    facts->declared_workers = options != NULL ? options->declared_workers : 0;
    enum cr_status st = cr_check_facts_gather(facts);
    if (st == CR_OK)
        cr_check_facts_siblings(facts);
    if (st == CR_OK)
        st = cr_check_processes(facts, error);
    if (st != CR_OK || !facts->store_is_private)
        return st;
    while ((st = cr_check_alone_take(&room->direct->alone_fd, &holder)) == CR_BUSY &&
           predecessor_wait(room, holder))
        ;
    if (st != CR_BUSY)
        return st;
    cr_check_facts_other(facts, holder);
    return cr_check_processes(facts, error);
}

static enum cr_status direct_store(struct cr_room *room, struct cr_check_facts *facts,
                                   struct cr_store **out_store, struct cr_error *error)
{
    struct cr_store_env env;
    enum cr_status st = cr_store_env_system(&env);
    if (st != CR_OK)
        return st;
    while ((st = cr_store_open(room->url, &env, out_store, error)) == CR_BUSY &&
           predecessor_wait(room, holder_named(error)))
        ;
    if (st != CR_BUSY)
        return st;
    long holder = holder_named(error);
    if (holder > 0) {
        cr_check_facts_other(facts, holder);
        return cr_check_processes(facts, error);
    }
    char seen[300];
    (void)snprintf(seen, sizeof seen, "%.290s", error->text);
    cr_room_error(
        error, CR_E_REFUSED,
        "CR-101 refused: direct mode keeps the store in one process.\nSeen: %s.\nFix: end "
        "that process first, or open without direct mode, so that an agent serves both",
        seen);
    return CR_E_REFUSED;
}

/* Takes `store` over, also when it fails. */
static enum cr_status direct_engine(struct cr_room *room, struct cr_store *store,
                                    struct cr_error *error)
{
    struct room_direct *direct = room->direct;
    char host[HOST_NAME_MAX + 1] = "?", label[HOST_NAME_MAX + 32];
    enum cr_status st = cr_loop_inline_create(room->clock, &direct->loop);
    if (st != CR_OK) {
        cr_store_destroy(store);
        return st;
    }
    (void)gethostname(host, sizeof host - 1);
    (void)snprintf(label, sizeof label, "%s pid %ld", host, (long)getpid());
    struct cr_engine_options options = {
        .loop = direct->loop,
        .random = cr_random_system(),
        .store = store,
        .realm = room->realm,
        .label = label,
        .cache = room->cache,
        .cache_bytes = room->cache_bytes != 0 ? room->cache_bytes : CACHE_BYTES_DEFAULT,
        .idle = room->idle != 0 ? room->idle : IDLE_MS_DEFAULT,
        .absolute = room->absolute != 0 ? room->absolute : ABSOLUTE_MS_DEFAULT,
        .lease = LEASE_MS,
        .poll = POLL_MS,
    };
    return cr_engine_create(&options, &direct->engine, error);
}

static enum cr_status direct_hello(struct cr_room *room)
{
    struct cr_builder hello;
    enum cr_status st = CR_E_NO_MEMORY;
    cr_builder_init(&hello, CR_OP_HELLO, CR_OK, 1); /* its reply is nobody's call */
    cr_builder_u64(&hello, CR_TAG_VERSION, CR_WIRE_VERSION);
    if (cr_builder_finish(&hello))
        st = cr_client_receive(room->direct->client, hello.bytes, hello.count);
    cr_builder_fini(&hello);
    return st;
}

static enum cr_status direct_service(struct cr_room *room)
{
    struct room_direct *direct = room->direct;
    char label[32];
    bool has_store = cr_engine_has_store(direct->engine);
    enum cr_status st = CR_OK;
    (void)snprintf(label, sizeof label, "pid %ld", (long)getpid());
    struct cr_client_options client = {
        .role = CR_ROLE_OPERATOR, .label = label, .send = direct_receive, .context = room};
    if (has_store)
        st = cr_auth_create(direct->engine, &(struct cr_auth_options){0}, &direct->auth);
    if (st == CR_OK && has_store)
        st = cr_leases_create(direct->engine, &direct->leases);
    if (st == CR_OK)
        st = cr_service_create(&(struct cr_service_options){.engine = direct->engine,
                                                            .auth = direct->auth,
                                                            .leases = direct->leases,
                                                            .realm = room->realm},
                               &direct->service);
    if (st == CR_OK)
        st = cr_client_create(direct->service, &client, &direct->client);
    return st == CR_OK ? direct_hello(room) : st;
}

enum cr_status cr_direct_open(struct cr_room *room, struct cr_store *store,
                              const struct cr_options *options, struct cr_error *error)
{
    struct cr_check_facts facts = {0};
    enum cr_status st = CR_E_INVALID;
    room->is_direct = true;
    room->direct = calloc(1, sizeof *room->direct);
    if (room->direct == NULL) {
        st = CR_E_NO_MEMORY;
        goto out;
    }
    room->direct->alone_fd = -1;
    room->direct->wait_until = cr_boot_add(cr_clock_boot(room->clock), room->timeout);
    /* The hello's; nobody else has the room yet. */
    (void)atomic_fetch_add_explicit(&room->numbers, 1, memory_order_relaxed);
    if (room->cache == CR_CACHE_SHARED) {
        cr_room_error(error, st,
                      "direct mode has no shared cache: nobody else reads it. Take memory or none, "
                      "or leave the mode at its default");
        goto out;
    }
    if (room->cache == CR_CACHE_DEFAULT)
        room->cache = CR_CACHE_MEMORY;
    st = direct_check(room, options, &facts, error);
    if (st == CR_OK && store == NULL && !room->own_table)
        st = direct_store(room, &facts, &store, error);
    if (st == CR_OK) {
        st = direct_engine(room, store, error);
        store = NULL;
    }
    if (st == CR_OK)
        st = direct_service(room);
    room->engine = room->direct->engine;
out:
    cr_store_destroy(store);
    return st;
}

void cr_direct_destroy(struct cr_room *room)
{
    struct room_direct *direct = room->direct;
    if (direct == NULL)
        return;
    if (direct->service != NULL)
        cr_service_stop(direct->service);
    cr_leases_destroy(direct->leases);
    cr_auth_destroy(direct->auth);
    cr_common_destroy(direct->common);
    cr_engine_destroy(direct->engine);
    cr_client_destroy(direct->client);
    cr_service_destroy(direct->service);
    if (direct->loop != NULL)
        cr_loop_inline_destroy(direct->loop);
    if (direct->alone_fd >= 0)
        close(direct->alone_fd);
    free(direct);
    room->direct = NULL;
    room->engine = NULL;
}

enum cr_status cr_room_password_rules(struct cr_room *room, unsigned chars_min, const char *list,
                                      struct cr_error *out_error)
{
    struct cr_common *common = NULL;
    struct room_direct *direct = room->direct;
    if (direct == NULL || direct->auth == NULL)
        return CR_OK;
    if (list != NULL && list[0] != '\0') {
        enum cr_status st = cr_common_open(list, &common, out_error);
        if (st != CR_OK)
            return st;
    }
    cr_auth_rules_set(direct->auth,
                      &(struct cr_password_rules){.chars_min = chars_min, .common = common});
    cr_common_destroy(direct->common);
    direct->common = common;
    return CR_OK;
}

cr_boot_ns cr_direct_run(struct cr_room *room)
{
    return cr_loop_inline_run(room->direct->loop);
}

void cr_direct_send(struct cr_room *room, struct cr_call *call)
{
    (void)cr_direct_run(room);
    enum cr_status st =
        cr_client_receive(room->direct->client, call->request.bytes, call->request.count);
    if (st != CR_OK && !call->done)
        cr_call_answer(call, CR_E_INVALID);
}

void cr_room_hold(struct cr_room *room, bool held)
{
    int kept_errno;
    if (!room->is_direct || !cr_room_lock(room, &kept_errno))
        return;
    if (held)
        cr_loop_inline_hold(room->direct->loop);
    else
        cr_loop_inline_release(room->direct->loop);
    cr_room_unlock(room, kept_errno);
}

void cr_direct_tell(struct cr_room *room, const struct cr_builder *message)
{
    enum cr_status st = cr_client_receive(room->direct->client, message->bytes, message->count);
    CR_ASSERT(st == CR_OK);
}
