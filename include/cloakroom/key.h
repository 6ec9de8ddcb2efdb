/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keys that the MACs of tokens are made with. Operator role, or direct mode. Their bytes leave
 * neither the store nor the agent.
 */
#ifndef CLOAKROOM_KEY_H
#define CLOAKROOM_KEY_H

#include <cloakroom/room.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CR_KEY_LIST_MAX 63

struct cr_key_state {
    size_t size;
    uint32_t number; /* as tokens carry it: 1 to 63 */
    cr_time_ms
        since; /* tokens are made with it from then on; 0: from before that was written down */
    cr_time_ms until; /* tokens are made with the next one from then on; 0: there is none */
    bool waits;       /* `since` is still to come */
};

/* The keys, newest last: of `capacity` (CR_KEY_LIST_MAX, so that all fit). */
CR_API CR_MUST_CHECK enum cr_status cr_key_list(struct cr_room *room, struct cr_key_state *out_keys,
                                                size_t capacity, size_t *out_count);

/* Make a new key, which tokens are made with in `*out_wait` from now. Tokens of older keys stay
 * good. CR_E_LIMIT: there are 63 already, and tokens of each may be alive. With
 * CR_E_UNKNOWN_OUTCOME look at the list. */
CR_API CR_MUST_CHECK enum cr_status cr_key_rotate(struct cr_room *room, uint32_t *out_number,
                                                  cr_span_ms *out_wait);

#ifdef __cplusplus
}
#endif
#endif
