/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cloakroom/table.h: the table in front of an application's own sessions. Without the agent there
 * is nothing to look in and nothing to fill, which is always safe: the application reads its
 * database. Only invalidations must arrive.
 */
#include <cloakroom/table.h>

#include "room/internal.h"

#include <string.h>

#include "engine/engine.h"

#define ID_CHARS (CR_SESSION_ID_CHARS - 4) /* without crp_ */
#define TICKET_HASH_BYTES 16               /* what an entry keeps of it */

/* What a ticket carries. */
struct ticket {
    char id[ID_CHARS];
    unsigned char hash[TICKET_HASH_BYTES];
    uint64_t stamp;
    cr_boot_ns begun;
    uint64_t connection; /* another one may have another table, whose clock is another; 0: none */
};
_Static_assert(sizeof(struct ticket) == sizeof(struct cr_ticket), "a ticket carries exactly this");

struct table_key {
    struct cr_session_id id;
    struct cr_token_hash hash;
};

static void put_key(struct cr_call *call, const char *id_chars, const void *hash, size_t count)
{
    unsigned char key[ID_CHARS + CR_TOKEN_HASH_BYTES] = {0};
    memcpy(key, id_chars, ID_CHARS);
    memcpy(key + ID_CHARS, hash, count);
    cr_builder_bytes(&call->request, CR_TAG_KEY, key, sizeof key);
}

/* Which connection this is; 0 while there is none. Kicks one off. */
static uint64_t room_connection(struct cr_room *room)
{
    uint64_t connection = 0;
    int kept_errno;
    if (!cr_room_lock(room, &kept_errno))
        return 0;
    if (room->is_direct) {
        connection = 1;
    } else {
        cr_room_turn(room, NULL);
        connection = cr_link_connection(room);
    }
    cr_room_unlock(room, kept_errno);
    return connection;
}

static bool value_of_reply(const struct cr_message *reply, cr_boot_ns now, struct cr_value *out)
{
    const struct cr_field *data = cr_message_field(reply, CR_TAG_DATA);
    if (!cr_message_user(reply, &out->user) || data == NULL || data->length > sizeof out->data)
        return false;
    out->left = cr_boot_between(now, cr_message_u64(reply, CR_TAG_DEADLINE, 0));
    out->bytes = data->length;
    memcpy(out->data, data->bytes, data->length);
    return true;
}

enum cr_status cr_lookup_cached(struct cr_room *room, const void *key, size_t key_bytes,
                                struct cr_value *out_value)
{
    struct table_key found;
    struct cr_room_look look;
    struct cr_entry entry;
    const struct cr_table_payload to = {out_value->user.bytes, entry.rights, out_value->data};
    if (out_value->size != sizeof *out_value || !room->own_table)
        return CR_E_INVALID;
    cr_engine_table_key(key, key_bytes, &found.id, &found.hash);
    cr_room_look(room, &found.id, &look);
    /* A session may have more data than the table serves, a value never: that is damage. */
    if (cr_room_find(room, &found.id, &look, &found.hash, &to, &entry) &&
        entry.data_bytes <= sizeof out_value->data) {
        out_value->user.length = entry.user.length;
        out_value->left = cr_boot_between(entry.as_of, entry.deadline);
        out_value->bytes = entry.data_bytes;
        return CR_OK;
    }
    return room->is_direct && !cr_room_is_alive(room) ? CR_E_REFUSED : CR_ASK;
}

/* A table that only the agent can read. */
static enum cr_status lookup_submit(struct cr_room *room, const void *key, size_t key_bytes,
                                    bool waited, struct cr_call **out_call)
{
    struct table_key found;
    if (!room->own_table)
        return CR_E_INVALID;
    if (!cr_room_is_alive(room) || cr_room_has_table(room) || room_connection(room) == 0)
        return CR_ASK;
    cr_engine_table_key(key, key_bytes, &found.id, &found.hash);
    struct cr_call *call = cr_call_create(room, CR_OP_LOOKUP, ROOM_GIVE_UP);
    if (call == NULL)
        return CR_ASK;
    put_key(call, found.id.text + 4, found.hash.bytes, sizeof found.hash.bytes);
    return cr_call_submit(call, waited, 0, out_call) == CR_OK ? CR_OK : CR_ASK;
}

enum cr_status cr_lookup_begin(struct cr_room *room, const void *key, size_t key_bytes,
                               struct cr_call **out_call)
{
    return lookup_submit(room, key, key_bytes, false, out_call);
}

enum cr_status cr_lookup_finish(struct cr_call *call, struct cr_value *out_value)
{
    struct cr_message message;
    const struct cr_room *room = call->room;
    enum cr_status st = cr_call_wait(call, &message);
    if (out_value->size != sizeof *out_value)
        st = CR_E_INVALID;
    bool found = st == CR_OK && value_of_reply(&message, cr_clock_boot(room->clock), out_value);
    cr_call_free(call);
    return found ? CR_OK : st == CR_E_REFUSED || st == CR_E_INVALID ? st : CR_ASK;
}

enum cr_status cr_lookup(struct cr_room *room, const void *key, size_t key_bytes,
                         struct cr_value *out_value)
{
    struct cr_call *call;
    enum cr_status st = cr_lookup_cached(room, key, key_bytes, out_value);
    if (st == CR_ASK)
        st = lookup_submit(room, key, key_bytes, true, &call);
    else
        return st;
    return st == CR_OK ? cr_lookup_finish(call, out_value) : st;
}

/* The ticket, but for the clock, where that must be asked for: CR_ASK. */
static enum cr_status ticket_make(struct cr_room *room, const void *key, size_t key_bytes,
                                  struct ticket *out)
{
    struct table_key found;
    struct ticket ticket = {.begun = cr_clock_boot(room->clock)};
    enum cr_status st = CR_OK;
    if (!room->own_table)
        return CR_E_INVALID;
    cr_engine_table_key(key, key_bytes, &found.id, &found.hash);
    memcpy(ticket.id, found.id.text + 4, sizeof ticket.id);
    memcpy(ticket.hash, found.hash.bytes, sizeof ticket.hash);
    /* The connection first: a clock of another table than this connection's must not pass. */
    ticket.connection = room_connection(room);
    /* ticket_map:A. Pairs with map_take:A. */
    const struct room_map *map = atomic_load_explicit(&room->map, memory_order_acquire);
    if (room->is_direct && !cr_room_is_alive(room))
        return CR_E_REFUSED;
    if (ticket.connection != 0 && map != NULL) {
        ticket.stamp = cr_table_view_clock(&map->view);
        /* ticket_map:B. As room_find:A: an old map's clock may be zeros. Pairs with map_drop:A. */
        if (atomic_load_explicit(&room->map, memory_order_seq_cst) != map)
            ticket.connection = 0; /* replaced meanwhile */
    } else if (ticket.connection != 0) {
        st = CR_ASK;
    }
    *out = ticket;
    return st;
}

static enum cr_status ticket_submit(struct cr_room *room, const struct ticket *ticket, bool settled,
                                    bool waited, struct cr_call **out_call)
{
    struct cr_call *call = cr_call_create(room, CR_OP_FILL_BEGIN, ROOM_GIVE_UP);
    if (call == NULL)
        return CR_E_NO_MEMORY;
    call->settled = settled;
    memcpy(&call->ticket, ticket, sizeof *ticket);
    return cr_call_submit(call, waited, 0, out_call);
}

enum cr_status cr_ticket_take_begin(struct cr_room *room, const void *key, size_t key_bytes,
                                    struct cr_call **out_call)
{
    struct ticket ticket;
    enum cr_status st = ticket_make(room, key, key_bytes, &ticket);
    return st == CR_OK || st == CR_ASK ? ticket_submit(room, &ticket, st == CR_OK, false, out_call)
                                       : st;
}

/* No answer is a ticket that is good for nothing. */
enum cr_status cr_ticket_take_finish(struct cr_call *call, struct cr_ticket *out_ticket)
{
    struct cr_message message;
    struct ticket ticket;
    enum cr_status st = cr_call_wait(call, &message);
    memcpy(&ticket, &call->ticket, sizeof ticket);
    if (st != CR_OK)
        ticket.connection = 0;
    else if (!call->settled)
        ticket.stamp = cr_message_u64(&message, CR_TAG_STAMP, 0);
    cr_call_free(call);
    memcpy(out_ticket, &ticket, sizeof ticket);
    return st == CR_E_REFUSED ? st : CR_OK;
}

enum cr_status cr_ticket_take(struct cr_room *room, const void *key, size_t key_bytes,
                              struct cr_ticket *out_ticket)
{
    struct ticket ticket;
    struct cr_call *call;
    enum cr_status st = ticket_make(room, key, key_bytes, &ticket);
    if (st == CR_ASK && ticket_submit(room, &ticket, false, true, &call) == CR_OK)
        return cr_ticket_take_finish(call, out_ticket);
    if (st == CR_ASK) {
        ticket.connection = 0;
        st = CR_OK;
    }
    if (st == CR_OK)
        memcpy(out_ticket, &ticket, sizeof ticket);
    return st;
}

static enum cr_status fill_submit(struct cr_room *room, const struct cr_ticket *given,
                                  const struct cr_user *user, const void *data, size_t bytes,
                                  cr_span_ms ttl, bool waited, struct cr_call **out_call)
{
    struct ticket ticket;
    if (bytes > CR_DATA_CACHED_BYTES_MAX)
        return CR_E_LIMIT;
    if (ttl < 1 || ttl > CR_SPAN_MS_MAX || !room->own_table || user->length == 0)
        return CR_E_INVALID;
    memcpy(&ticket, given, sizeof ticket);
    struct cr_call *call = cr_call_create(room, CR_OP_FILL, ROOM_POINTLESS);
    if (call == NULL)
        return CR_E_NO_MEMORY;
    call->settled = ticket.connection == 0; /* the answer in hand is right all the same */
    call->connection = room->is_direct ? 0 : ticket.connection;
    put_key(call, ticket.id, ticket.hash, sizeof ticket.hash);
    cr_builder_bytes(&call->request, CR_TAG_USER, user->bytes, user->length);
    if (bytes > 0)
        cr_builder_bytes(&call->request, CR_TAG_DATA, data, bytes);
    cr_builder_u64(&call->request, CR_TAG_STAMP, ticket.stamp);
    cr_builder_u64(&call->request, CR_TAG_DEADLINE, cr_boot_add(ticket.begun, ttl));
    return cr_call_submit(call, waited, 0, out_call);
}

enum cr_status cr_fill_begin(struct cr_room *room, const struct cr_ticket *ticket,
                             const struct cr_user *user, const void *data, size_t bytes,
                             cr_span_ms ttl, struct cr_call **out_call)
{
    return fill_submit(room, ticket, user, data, bytes, ttl, false, out_call);
}

enum cr_status cr_fill_finish(struct cr_call *call)
{
    return cr_call_finish(call);
}

enum cr_status cr_fill(struct cr_room *room, const struct cr_ticket *ticket,
                       const struct cr_user *user, const void *data, size_t bytes, cr_span_ms ttl)
{
    struct cr_call *call;
    enum cr_status st = fill_submit(room, ticket, user, data, bytes, ttl, true, &call);
    return st == CR_OK ? cr_call_finish(call) : st;
}

static enum cr_status invalidate_submit(struct cr_room *room, const void *key, size_t key_bytes,
                                        bool waited, struct cr_call **out_call)
{
    struct table_key found;
    if (!room->own_table)
        return CR_E_INVALID;
    cr_engine_table_key(key, key_bytes, &found.id, &found.hash);
    struct cr_call *call = cr_call_create(room, CR_OP_INVALIDATE, ROOM_REPEAT);
    if (call == NULL)
        return CR_E_NO_MEMORY;
    put_key(call, found.id.text + 4, found.hash.bytes, sizeof found.hash.bytes);
    return cr_call_submit(call, waited, 0, out_call);
}

enum cr_status cr_invalidate_begin(struct cr_room *room, const void *key, size_t key_bytes,
                                   struct cr_call **out_call)
{
    return invalidate_submit(room, key, key_bytes, false, out_call);
}

enum cr_status cr_invalidate_finish(struct cr_call *call)
{
    return cr_call_finish(call);
}

enum cr_status cr_invalidate(struct cr_room *room, const void *key, size_t key_bytes)
{
    struct cr_call *call;
    enum cr_status st = invalidate_submit(room, key, key_bytes, true, &call);
    return st == CR_OK ? cr_call_finish(call) : st;
}
