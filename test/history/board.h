/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the processes of one history tell each other, or have to agree on: whose tokens there are to
 * validate, and when to stop. A file that all map. Each slot has one thread that writes it; whoever
 * is killed while writing leaves one that nobody reads.
 *
 * The history itself is not here: what is checked is only what was recorded.
 */
#ifndef BOARD_H
#define BOARD_H

#include <stdatomic.h>

#include <cloakroom/types.h>

#define BOARD_SLOTS 12
#define BOARD_KEYS 12 /* of an application's own table */
#define BOARD_USERS 3

struct board_session {
    struct cr_token token;
    struct cr_session_id id;
    unsigned user;
};
_Static_assert(sizeof(struct board_session) <= 128, "16 words");

struct board_slot {
    _Atomic uint64_t turn; /* odd: being written; 0: empty */
    _Atomic uint64_t words[16];
};

struct board {
    _Atomic uint32_t stop;
    _Atomic uint32_t values;
    struct board_slot slots[BOARD_SLOTS];
    _Atomic uint64_t keys[BOARD_KEYS]; /* the application's database: the value of each key */
};

struct board *board_map(const char *path);
void board_put(struct board_slot *slot, const struct board_session *session);
bool board_get(struct board_slot *slot, struct board_session *out_session);
/* One of the BOARD_USERS. */
struct cr_user board_user(unsigned number);
/* Pacing: so that each has its turn on a few processors. */
void board_rest(uint64_t microseconds);

#endif
