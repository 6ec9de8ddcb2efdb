/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table alone, in front of an application's own session table. Open "table:NAME" (one host
 * only). Keys are the application's tokens, any bytes; entries are found by their SHA-256 and the
 * keys themselves are kept nowhere.
 *
 *     st = cr_lookup(room, key, key_bytes, &value);
 *     if (st == CR_ASK) {
 *         st = cr_ticket_take(room, key, key_bytes, &ticket);   -- before the query
 *         ... read the session from the database, on the primary, outside a transaction ...
 *         st = cr_fill(room, &ticket, &user, bytes, size, ttl);
 *     }
 *
 * and after the commit that ends sessions, cr_invalidate or cr_invalidate_by_user (session.h): when
 * they answer CR_OK, no worker of the host believes the entry.
 */
#ifndef CLOAKROOM_TABLE_H
#define CLOAKROOM_TABLE_H

#include <cloakroom/room.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Carries the clock of before the query. Made by cr_ticket_take; opaque; good for one cr_fill. */
struct cr_ticket {
    uint64_t opaque[8];
};

struct cr_value {
    size_t size;
    struct cr_user user;
    cr_span_ms left; /* until the entry's deadline */
    size_t bytes;
    unsigned char data[CR_DATA_CACHED_BYTES_MAX];
};

/* CR_OK or CR_ASK. With a mapped table: no system call, no lock, no write. Else it asks the agent,
 * and waits for it. */
CR_API CR_MUST_CHECK enum cr_status cr_lookup(struct cr_room *room, const void *key,
                                              size_t key_bytes, struct cr_value *out_value);

/* The same for who may not wait. cr_lookup_cached looks only in the table that this process reads
 * itself, and cr_lookup_begin asks where there is none. It answers CR_ASK, and there is no call,
 * where cr_lookup_cached has said all that is to be said, or nobody is there to be asked: then the
 * database is. So is it after CR_ASK from cr_lookup_finish. */
CR_API CR_MUST_CHECK enum cr_status cr_lookup_cached(struct cr_room *room, const void *key,
                                                     size_t key_bytes, struct cr_value *out_value);
CR_API CR_MUST_CHECK enum cr_status cr_lookup_begin(struct cr_room *room, const void *key,
                                                    size_t key_bytes, struct cr_call **out_call);
CR_API CR_MUST_CHECK enum cr_status cr_lookup_finish(struct cr_call *call,
                                                     struct cr_value *out_value);

/* The ticket for one fill: taken before the query is sent. Without a table it is good for nothing,
 * and cr_fill answers CR_OK and keeps nothing. With a mapped table it waits for nobody, and the
 * call that cr_ticket_take_begin makes is done at once. The query may be sent when the ticket is
 * there, not before. */
CR_API CR_MUST_CHECK enum cr_status cr_ticket_take(struct cr_room *room, const void *key,
                                                   size_t key_bytes, struct cr_ticket *out_ticket);
CR_API CR_MUST_CHECK enum cr_status cr_ticket_take_begin(struct cr_room *room, const void *key,
                                                         size_t key_bytes,
                                                         struct cr_call **out_call);
CR_API CR_MUST_CHECK enum cr_status cr_ticket_take_finish(struct cr_call *call,
                                                          struct cr_ticket *out_ticket);

/* Insert what the application read. `ttl` counts from when the ticket was asked for, 1 to
 * CR_SPAN_MS_MAX. CR_OK also when the table refused it because something was ended since: the
 * answer in hand is still right for the one who asked. CR_E_LIMIT: over CR_DATA_CACHED_BYTES_MAX
 * bytes. */
CR_API CR_MUST_CHECK enum cr_status cr_fill(struct cr_room *room, const struct cr_ticket *ticket,
                                            const struct cr_user *user, const void *data,
                                            size_t bytes, cr_span_ms ttl);
CR_API CR_MUST_CHECK enum cr_status
cr_fill_begin(struct cr_room *room, const struct cr_ticket *ticket, const struct cr_user *user,
              const void *data, size_t bytes, cr_span_ms ttl, struct cr_call **out_call);
CR_API CR_MUST_CHECK enum cr_status cr_fill_finish(struct cr_call *call);

/* Drop one entry, everywhere on this host. CR_OK also when there was none. */
CR_API CR_MUST_CHECK enum cr_status cr_invalidate(struct cr_room *room, const void *key,
                                                  size_t key_bytes);
CR_API CR_MUST_CHECK enum cr_status cr_invalidate_begin(struct cr_room *room, const void *key,
                                                        size_t key_bytes,
                                                        struct cr_call **out_call);
CR_API CR_MUST_CHECK enum cr_status cr_invalidate_finish(struct cr_call *call);

#ifdef __cplusplus
}
#endif
#endif
