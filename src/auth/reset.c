/* SPDX-License-Identifier: Apache-2.0 */
#include "auth/reset.h"

#include <stdlib.h>

#include "auth/auth.h"
#include "base/bytes.h"
#include "session/token.h"

static void ring_of(struct cr_engine *engine, struct cr_keyring *out_ring)
{
    cr_keyring_for(cr_engine_keyring(engine), "cloakroom link for a new password", out_ring);
}

bool cr_reset_is_genuine(struct cr_engine *engine, const struct cr_token *token)
{
    struct cr_keyring ring;
    ring_of(engine, &ring);
    bool is_genuine = cr_token_is_genuine(&ring, token);
    cr_keyring_wipe(&ring);
    return is_genuine;
}

/* The id in it is of no session; it makes the text a token. */
static enum cr_status token_make(struct cr_engine *engine, struct cr_token *out_token)
{
    struct cr_keyring ring;
    struct cr_session_id id;
    struct cr_random *random = cr_engine_random(engine);
    enum cr_status st =
        cr_session_id_make(random, cr_clock_wall(cr_engine_loop(engine)->clock), &id);
    if (st != CR_OK)
        return st;
    ring_of(engine, &ring);
    st = cr_token_make(&ring, random, &id, 0, out_token);
    cr_keyring_wipe(&ring);
    return st;
}

/* One under way. Owns itself. */
struct making {
    struct cr_store_call call;
    struct cr_token token;
    struct cr_reset_row row;
    cr_engine_done *done;
    void *context;
};

static struct making *making_of(struct cr_store_call *call)
{
    return (struct making *)((char *)call - offsetof(struct making, call));
}

static void making_end(struct making *making, enum cr_status status)
{
    struct cr_engine_answer answer = {.status = status,
                                      .token = status == CR_OK ? &making->token : NULL};
    making->done(making->context, &answer);
    cr_bytes_wipe(making, sizeof *making);
    free(making);
}

static enum cr_status making_run(struct cr_store *store, struct cr_store_call *call)
{
    struct making *making = making_of(call);
    struct cr_account_row account;
    enum cr_status st = cr_store_account_find(store, &making->row.user, &account);
    if (st == CR_OK && account.disabled)
        st = CR_DENIED;
    cr_bytes_wipe(&account, sizeof account);
    return st == CR_OK ? cr_store_reset_add(store, &making->row) : st;
}

/* One whose commit's outcome was lost is good for nobody: its token goes with this answer. */
static void making_done(struct cr_store_call *call)
{
    making_end(making_of(call),
               call->status == CR_E_UNKNOWN_OUTCOME ? CR_UNAVAILABLE : call->status);
}

void cr_reset_make(struct cr_engine *engine, const struct cr_user *user, cr_engine_done *done,
                   void *context)
{
    struct making *making = calloc(1, sizeof *making);
    if (making == NULL) {
        done(context, &(struct cr_engine_answer){.status = CR_E_NO_MEMORY});
        return;
    }
    making->done = done;
    making->context = context;
    making->row.user = *user;
    making->row.left = CR_RESET_MS;
    enum cr_status st = token_make(engine, &making->token);
    if (st != CR_OK) {
        making_end(making, st);
        return;
    }
    cr_token_hash(&making->token, &making->row.hash);
    making->call = (struct cr_store_call){.run = making_run, .done = making_done};
    if (!cr_engine_store_write(engine, &making->call))
        making_end(making, CR_BUSY);
}
