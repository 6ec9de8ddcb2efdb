/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looking in the table that this process can read itself: no system call but the clock, no lock, no
 * write to anything that another process sees. A miss says nothing: it is asked.
 *
 * Uses of a session are reported to the agent once a granule, in passing: if the room is busy or
 * the socket full, the next look will do.
 */
#include "room/internal.h"

#include <string.h>

#include "engine/engine.h"

/* Threads have stacks of their own, so the place of a local variable tells them apart. */
static struct room_counter *counter_of(struct cr_room *room)
{
    unsigned char here;
    uintptr_t at = (uintptr_t)&here;
    return &room->counters[((at >> 16) ^ (at >> 22)) % CR_ROOM_STRIPES];
}

bool cr_room_has_table(const struct cr_room *room)
{
    /* room_has_table:A. Pairs with map_take:A. */
    return room->is_direct || atomic_load_explicit(&room->map, memory_order_acquire) != NULL;
}

void cr_room_look(struct cr_room *room, const struct cr_session_id *id, struct cr_room_look *out)
{
    /* room_look:A. Pairs with map_take:A. An old map's memory can be read for as long as the room
     * lives. */
    out->map = room->is_direct ? NULL : atomic_load_explicit(&room->map, memory_order_acquire);
    if (out->map != NULL)
        cr_table_probe(&out->map->view, id, &out->probe);
}

static bool map_find(struct cr_room *room, struct cr_room_look *look,
                     const struct cr_token_hash *hash, const struct cr_table_payload *to,
                     struct cr_entry *out_entry)
{
    bool used_old;
    const struct room_map *map = look->map;
    if (map == NULL)
        return false;
    cr_table_probe_tags(&map->view, &look->probe);
    if (!cr_table_find_probed(&map->view, room->clock, &look->probe, hash, to, out_entry,
                              &used_old))
        return false;
    /* room_find:A. What was read is this table only if the table is still the room's: over an old
     * one's memory there are zeros. Pairs with map_drop:A. */
    return atomic_load_explicit(&room->map, memory_order_seq_cst) == map;
}

/* The engine's own table, in this process. */
static bool direct_find(struct cr_room *room, const struct cr_session_id *id,
                        const struct cr_token_hash *hash, const struct cr_table_payload *to,
                        struct cr_entry *out_entry)
{
    if (!cr_engine_cached(room->engine, id, hash, out_entry))
        return false;
    memcpy(to->user, out_entry->user.bytes, out_entry->user.length);
    memcpy(to->rights, out_entry->rights, out_entry->rights_bytes);
    if (out_entry->data_bytes <= CR_DATA_CACHED_BYTES_MAX)
        memcpy(to->data, out_entry->data, out_entry->data_bytes);
    return true;
}

/* Counted for people, without the locked instruction that would hold up the next validation: a
 * count may be lost where two threads share a stripe. */
static void count_up(atomic_ullong *counter, size_t more)
{
    unsigned long long was = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, was + more, memory_order_relaxed);
}

bool cr_room_find(struct cr_room *room, const struct cr_session_id *id, struct cr_room_look *look,
                  const struct cr_token_hash *hash, const struct cr_table_payload *to,
                  struct cr_entry *out_entry)
{
    /* A forked child joins anew before it believes anything. */
    bool found =
        cr_room_is_alive(room) && (room->is_direct ? direct_find(room, id, hash, to, out_entry)
                                                   : map_find(room, look, hash, to, out_entry));
    struct room_counter *counter = counter_of(room);
    count_up(found ? &counter->hits : &counter->misses, 1);
    return found;
}

void cr_room_counts(const struct cr_room *room, uint64_t *out_hits, uint64_t *out_misses)
{
    *out_hits = 0;
    *out_misses = 0;
    for (size_t i = 0; i < CR_ROOM_STRIPES; i++) {
        const struct room_counter *counter = &room->counters[i];
        *out_hits += atomic_load_explicit(&counter->hits, memory_order_relaxed);
        *out_misses += atomic_load_explicit(&counter->misses, memory_order_relaxed);
    }
}

static struct cr_table_payload payload_to(struct cr_session *session)
{
    return (struct cr_table_payload){session->user.bytes, session->rights, session->data};
}

/* All but the id and the bytes that went to payload_to(out). */
static void session_of_entry(const struct cr_entry *entry, cr_boot_ns now, struct cr_session *out)
{
    out->user.length = entry->user.length;
    out->created_at = entry->created_at;
    out->authenticated_at = entry->authenticated_at;
    out->ends_at = entry->ends_at;
    out->expires_at = entry->expires_at;
    out->seen_at = entry->seen_at;
    out->as_of = (cr_time_ms)(now / CR_NS_PER_MS);
    out->version = entry->version;
    out->rights_bytes = entry->rights_bytes;
    out->data_bytes = entry->data_bytes;
    out->address[0] = '\0';
    out->agent[0] = '\0';
}

/* Reports. A slot holds 40 bits of a session's id and the second of its last report; who shares a
 * slot with another is reported more often, which harms nobody. */

#define SLOT_SECOND_BITS 24
#define SLOT_SECONDS ((1ULL << SLOT_SECOND_BITS) - 1)

static uint64_t id_mix(const struct cr_session_id *id)
{
    uint64_t mix = 14695981039346656037ULL; /* FNV-1a */
    for (size_t i = 0; i < CR_SESSION_ID_CHARS; i++)
        mix = (mix ^ (unsigned char)id->text[i]) * 1099511628211ULL;
    return mix;
}

static bool slot_is_recent(uint64_t slot, uint64_t mix, uint64_t second, cr_span_ms granule)
{
    uint64_t ago = (second - slot) & SLOT_SECONDS;
    return slot >> SLOT_SECOND_BITS == mix >> SLOT_SECOND_BITS && (cr_span_ms)ago * 1000 < granule;
}

static void report_send(struct cr_room *room, const struct cr_session_id *id, cr_boot_ns at)
{
    struct cr_builder seen;
    cr_builder_init(&seen, CR_OP_SEEN, CR_OK, 0);
    cr_builder_bytes(&seen, CR_TAG_ID, id->text, CR_SESSION_ID_CHARS);
    cr_builder_u64(&seen, CR_TAG_BOOT, at);
    if (cr_builder_finish(&seen))
        cr_room_tell(room, &seen);
    cr_builder_fini(&seen);
}

/* What is known of a session's last use, and how long it may go unused. */
struct use {
    cr_boot_ns seen;
    cr_span_ms idle;
};

static void session_report(struct cr_room *room, const struct cr_session_id *id,
                           const struct use *use, cr_boot_ns now)
{
    cr_span_ms granule = CR_GRANULE_MS(use->idle);
    if (cr_boot_between(use->seen, now) < granule)
        return;
    uint64_t mix = id_mix(id), second = now / (1000 * CR_NS_PER_MS);
    atomic_ullong *slot = &room->seen_sent[mix % CR_ROOM_SEEN_SLOTS];
    uint64_t was = atomic_load_explicit(slot, memory_order_relaxed);
    int kept_errno;
    if (slot_is_recent(was, mix, second, granule) || !cr_room_try_lock(room, &kept_errno))
        return;
    /* Another thread may have done it meanwhile. */
    if (atomic_load_explicit(slot, memory_order_relaxed) == was) {
        report_send(room, id, now);
        atomic_store_explicit(
            slot, (mix >> SLOT_SECOND_BITS << SLOT_SECOND_BITS) | (second & SLOT_SECONDS),
            memory_order_relaxed);
    }
    cr_room_unlock(room, kept_errno);
}

enum cr_status cr_validate_cached(struct cr_room *room, const struct cr_token *token,
                                  struct cr_session *out_session)
{
    struct cr_session_id id;
    struct cr_token_hash hash;
    struct cr_room_look look;
    struct cr_entry entry;
    if (out_session->size != sizeof *out_session)
        return CR_E_INVALID;
    __builtin_prefetch(token->text + CR_TOKEN_CHARS - 1); /* its other line */
    cr_token_id(token, &id);
    cr_room_look(room, &id, &look); /* what the token will be compared with is on its way */
    cr_token_hash(token, &hash);
    const struct cr_table_payload to = payload_to(out_session);
    if (!cr_room_find(room, &id, &look, &hash, &to, &entry))
        return CR_ASK;
    out_session->id = id;
    session_of_entry(&entry, entry.as_of, out_session);
    session_report(room, &id, &(struct use){entry.seen, entry.idle}, entry.as_of);
    return CR_OK;
}

/* Several at once. */

struct group {
    struct cr_session *sessions;
    struct use uses[CR_TABLE_MANY_MAX];
};

static void group_copied(void *context, size_t index, const struct cr_entry *entry)
{
    struct group *group = context;
    session_of_entry(entry, 0, &group->sessions[index]);
    group->uses[index] = (struct use){entry->seen, entry->idle};
}

/* It was copied before it was known to have ended: nobody shall take it for somebody's. */
static void session_blank(struct cr_session *out)
{
    memset(out, 0, offsetof(struct cr_session, rights));
    out->size = sizeof *out;
}

static cr_boot_ns map_find_many(struct cr_room *room, const struct room_map *map,
                                const struct cr_token *tokens, size_t count,
                                struct cr_table_wanted *wanted, struct group *group)
{
    for (size_t i = 0; i < count; i++) {
        cr_token_id(&tokens[i], &group->sessions[i].id);
        cr_table_probe(&map->view, &group->sessions[i].id, &wanted[i].probe);
        wanted[i].to = payload_to(&group->sessions[i]);
    }
    for (size_t i = 0; i < count; i++) {
        cr_token_hash(&tokens[i], &wanted[i].hash);
        cr_table_probe_tags(&map->view, &wanted[i].probe);
    }
    cr_boot_ns now =
        cr_table_find_many(&map->view, room->clock, wanted, count, group_copied, group);
    /* room_find:B. As room_find:A: zeros over an old table are not believed. Pairs with map_drop:A.
     */
    if (atomic_load_explicit(&room->map, memory_order_seq_cst) != map)
        for (size_t i = 0; i < count; i++)
            wanted[i].found = false;
    return now;
}

void cr_validate_group(struct cr_room *room, const struct cr_token *tokens, size_t count,
                       struct cr_session *out_sessions, enum cr_status *out_statuses)
{
    struct cr_table_wanted wanted[CR_TABLE_MANY_MAX];
    struct group group = {.sessions = out_sessions};
    /* room_look:B. Pairs with map_take:A. */
    const struct room_map *map = atomic_load_explicit(&room->map, memory_order_acquire);
    if (map == NULL || !cr_room_is_alive(room)) {
        for (size_t i = 0; i < count; i++)
            out_statuses[i] = cr_validate_cached(room, &tokens[i], &out_sessions[i]);
        return;
    }
    size_t hits = 0;
    cr_boot_ns now = map_find_many(room, map, tokens, count, wanted, &group);
    for (size_t i = 0; i < count; i++) {
        out_statuses[i] = wanted[i].found ? CR_OK : CR_ASK;
        if (!wanted[i].found) {
            session_blank(&out_sessions[i]);
            continue;
        }
        out_sessions[i].as_of = (cr_time_ms)(now / CR_NS_PER_MS);
        session_report(room, &out_sessions[i].id, &group.uses[i], now);
        hits++;
    }
    struct room_counter *counter = counter_of(room);
    count_up(&counter->hits, hits);
    count_up(&counter->misses, count - hits);
}
