/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's tables, mapped read-only.
 *
 * Readers take no lock and leave no trace, so nobody knows whether a thread is still inside an old
 * table: one may have been stopped there for an hour. Its addresses are therefore never given back
 * while the room is open. Instead, zero pages are laid over them: the memory of the old table is
 * free, and a late reader reads zeros. It cannot believe them: it loads fresh_until first, and it
 * looks afterwards whether the table that it read is still the room's (view.c).
 *
 * Invariant: `map` points into the list `maps`, or is NULL; only the first of the list may be real
 * memory.
 */
#include "room/internal.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/shm.h"

void cr_map_drop(struct cr_room *room)
{
    struct room_map *old = atomic_load_explicit(&room->map, memory_order_relaxed);
    if (old == NULL)
        return;
    /* map_drop:A. Before the pages go: who sees zeros sees this. Pairs with room_find:A,
     * room_find:B, ticket_map:B. */
    atomic_store_explicit(&room->map, NULL, memory_order_seq_cst);
    cr_memory_blank(old->memory, old->bytes);
}

void cr_map_take(struct cr_room *room, int fd)
{
    struct room_map *map = NULL;
    cr_map_drop(room);
    if (fd < 0)
        return;
    if (room->map_count < CR_ROOM_MAPS_MAX)
        map = calloc(1, sizeof *map);
    if (map == NULL || cr_shm_map(fd, &map->memory, &map->bytes) != CR_OK)
        goto fail;
    if (cr_table_view_init(&map->view, map->memory, map->bytes) != CR_OK) {
        cr_memory_unmap(map->memory, map->bytes); /* another layout, or damaged: asked each time */
        goto fail;
    }
    map->next = room->maps;
    room->maps = map;
    room->map_count++;
    /* map_take:A. The view is whole. Pairs with room_look:A, room_look:B,
     * room_has_table:A, ticket_map:A. */
    atomic_store_explicit(&room->map, map, memory_order_release);
    close(fd);
    return;
fail:
    free(map);
    close(fd);
}

void cr_map_destroy(struct cr_room *room)
{
    atomic_store_explicit(&room->map, NULL, memory_order_relaxed);
    while (room->maps != NULL) {
        struct room_map *map = room->maps;
        room->maps = map->next;
        cr_memory_unmap(map->memory, map->bytes);
        free(map);
    }
    room->map_count = 0;
}
