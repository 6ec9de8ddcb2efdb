/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One call of each kind that an engine knows, each on a session or a user of its own, so that what
 * became of one can be told apart from the others: for tests in which something goes wrong while
 * they are under way.
 */
#ifndef PARTY_H
#define PARTY_H

#include "sim.h"

enum party_kind {
    PARTY_VALIDATE,
    PARTY_VALIDATE_STRICT,
    PARTY_LOGIN_KEEP,
    PARTY_LOGIN_REPLACE,
    PARTY_LOGIN_KEEP_N,
    PARTY_LOGIN_UPGRADE,
    PARTY_DATA_READ,
    PARTY_DATA_WRITE,
    PARTY_RIGHTS_WRITE,
    PARTY_ROTATE_RENEW,
    PARTY_ROTATE_PRIVILEGE,
    PARTY_END_ONE,
    PARTY_END_USER,
    PARTY_END_OTHERS,
    PARTY_ACCOUNT_ADD,
    PARTY_ACCOUNT_PASSWORD,
    PARTY_ACCOUNT_REMOVE,
    PARTY_LIST,
    PARTY_EXPLAIN,
    PARTY_PAST,
    PARTY_KINDS
};

struct party {
    struct sim sim;
    struct sim_answer before[PARTY_KINDS]; /* a session of each kind's user, made in peace */
    struct sim_answer kept;                /* PARTY_END_OTHERS: the session that stays */
    struct sim_answer calls[PARTY_KINDS];  /* done: answered */
};

const char *party_kind_name(int kind);
struct cr_user party_user(int kind);
/* Host 0 asks; the others are there. With `exclusive` only host 0 is started. */
void party_init(struct party *party, size_t hosts, bool exclusive);
/* Begins the call at host 0. */
void party_ask(struct party *party, int kind);
/* The call was answered, and what host `host` finds in the store agrees with the answer. */
void party_check(struct party *party, int kind, size_t host);

/* At `host`, waiting for the answer. */
struct sim_answer party_login(struct sim *sim, size_t host, const struct cr_user *user);
struct sim_answer party_validate(struct sim *sim, size_t host, const struct cr_token *token,
                                 bool strict);

#endif
