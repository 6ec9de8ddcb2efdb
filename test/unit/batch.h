/* SPDX-License-Identifier: Apache-2.0 */
/* cr_validate_many beside cr_validate, in a room of any mode: the same cases for both. */
#ifndef UNIT_BATCH_H
#define UNIT_BATCH_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cloakroom/session.h>

#include "tap.h"

#define BATCH_MAX CR_VALIDATE_MANY_MAX

enum batch_kind { BATCH_HIT, BATCH_MISS, BATCH_OVER, BATCH_FORGED, BATCH_ZERO, BATCH_KINDS };

static const enum cr_status batch_status[BATCH_KINDS] = {
    [BATCH_HIT] = CR_OK,           [BATCH_MISS] = CR_OK,        [BATCH_OVER] = CR_ENDED,
    [BATCH_FORGED] = CR_NOT_FOUND, [BATCH_ZERO] = CR_NOT_FOUND,
};

/* One token of each kind, twice: of anna and of ben. */
struct batch_stock {
    struct cr_room *room;
    struct cr_token tokens[2][BATCH_KINDS];
    struct cr_session_id changed[2];
};

static inline bool batch_login(struct batch_stock *stock, unsigned user, struct cr_login *out)
{
    static const char *const names[] = {"anna", "ben"};
    struct cr_user who = {0};
    struct cr_login_options options = {.size = sizeof options,
                                       .policy = CR_POLICY_KEEP,
                                       .data = user == 0 ? "basket" : "a longer basket",
                                       .data_bytes = user == 0 ? 6 : 15};
    return CHECK_STATUS(cr_user_parse(names[user], strlen(names[user]), &who), CR_OK) &&
           CHECK_STATUS(cr_login(stock->room, &who, &options, out), CR_OK);
}

static inline bool batch_stock_make(struct batch_stock *stock, struct cr_room *room)
{
    struct cr_session session = CR_SESSION_INIT;
    memset(stock, 0, sizeof *stock); /* BATCH_ZERO */
    stock->room = room;
    for (unsigned user = 0; user < 2; user++) {
        struct cr_token *tokens = stock->tokens[user];
        struct cr_login hit, miss, over;
        if (!batch_login(stock, user, &hit) || !batch_login(stock, user, &miss) ||
            !batch_login(stock, user, &over) ||
            !CHECK_STATUS(cr_end(room, &over.session.id, NULL, NULL), CR_OK) ||
            !CHECK_STATUS(cr_validate(room, &hit.signed_token, &session), CR_OK))
            return false;
        tokens[BATCH_HIT] = tokens[BATCH_FORGED] = hit.signed_token;
        tokens[BATCH_FORGED].text[60] = hit.signed_token.text[60] == 'A' ? 'B' : 'A';
        tokens[BATCH_MISS] = miss.signed_token;
        tokens[BATCH_OVER] = over.signed_token;
        stock->changed[user] = miss.session.id;
    }
    return true;
}

/* A session that was changed is not in the table until somebody asks for it. */
static inline bool batch_stock_drop(const struct batch_stock *stock)
{
    uint64_t version;
    struct cr_session session = CR_SESSION_INIT;
    bool missing = true;
    for (unsigned user = 0; user < 2; user++)
        missing = missing &&
                  CHECK_STATUS(cr_data_write(stock->room, &stock->changed[user], CR_VERSION_ANY,
                                             "new", 3, &version),
                               CR_OK) &&
                  CHECK_STATUS(
                      cr_validate_cached(stock->room, &stock->tokens[user][BATCH_MISS], &session),
                      CR_ASK);
    return missing;
}

static inline bool batch_same(const struct cr_session *a, const struct cr_session *b)
{
    return cr_session_id_equal(&a->id, &b->id) && cr_user_equal(&a->user, &b->user) &&
           a->created_at == b->created_at && a->authenticated_at == b->authenticated_at &&
           a->ends_at == b->ends_at && a->version == b->version && a->size == b->size &&
           a->rights_bytes == b->rights_bytes && a->data_bytes == b->data_bytes &&
           memcmp(a->data, b->data, a->data_bytes) == 0;
}

/* Batches of every interesting size, each a random mixture in which nearly all repeat. */
static inline void batch_is_answered_as_one_by_one(struct cr_room *room)
{
    static const size_t counts[] = {1, 2, 15, 16, 17, 32, 33, BATCH_MAX};
    struct batch_stock stock;
    struct cr_session one = CR_SESSION_INIT;
    enum cr_status statuses[BATCH_MAX];
    enum batch_kind kinds[BATCH_MAX];
    static struct cr_token tokens[BATCH_MAX];
    struct cr_session *sessions = calloc(BATCH_MAX, sizeof *sessions);
    if (!CHECK(sessions != NULL) || !batch_stock_make(&stock, room))
        goto out;
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
        size_t count = counts[c];
        char row[32];
        (void)snprintf(row, sizeof row, "%zu", count);
        tap_row(row);
        if (!batch_stock_drop(&stock))
            goto out;
        for (size_t i = 0; i < count; i++) {
            kinds[i] = (enum batch_kind)tap_random_below(BATCH_KINDS);
            tokens[i] = stock.tokens[tap_random_below(2)][kinds[i]];
            memset(&sessions[i], 0, sizeof sessions[i]);
            sessions[i].size = sizeof sessions[i];
            statuses[i] = CR_E_IO;
        }
        CHECK_STATUS(cr_validate_many(room, tokens, count, sessions, statuses), CR_OK);
        for (size_t i = 0; i < count; i++) {
            CHECK_STATUS(statuses[i], batch_status[kinds[i]]);
            CHECK_STATUS(cr_validate(room, &tokens[i], &one), statuses[i]);
            CHECK(statuses[i] == CR_OK ? batch_same(&sessions[i], &one)
                                       : sessions[i].user.length == 0);
        }
    }
    tap_row(NULL);
    /* Nothing, too much, and a size that is not set: nothing is written. */
    CHECK_STATUS(cr_validate_many(room, tokens, 0, NULL, NULL), CR_OK);
    statuses[0] = statuses[1] = CR_E_IO;
    CHECK_STATUS(cr_validate_many(room, tokens, BATCH_MAX + 1, sessions, statuses), CR_E_INVALID);
    sessions[1].size--;
    CHECK_STATUS(cr_validate_many(room, tokens, 2, sessions, statuses), CR_E_INVALID);
    CHECK(statuses[0] == CR_E_IO && statuses[1] == CR_E_IO);
out:
    free(sessions);
}

#endif
