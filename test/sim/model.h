/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What random histories are compared with: plain lists of what was asked, when, and what was
 * answered. It knows the time of the world, and reads the store beside the engines; it knows
 * nothing of tables, leases or logs but that rows are in order.
 *
 * A session or token is `asked` from when somebody first asked for something that may end it: a
 * refusal before is wrong. It is `over` from when that was answered done: an acceptance that began
 * later is wrong.
 */
#ifndef MODEL_H
#define MODEL_H

#include "sim.h"

#define MODEL_USERS 3
#define MODEL_NOBODY MODEL_USERS /* the user of anonymous sessions */
#define MODEL_SESSIONS 400
#define MODEL_TOKENS 800
#define MODEL_WRITES 24 /* of rights, and of data, to one session */
#define MODEL_DATA_MAX 5000

/* One change of a session's rights or data. Its number, from 1, is what it writes. */
struct model_write {
    cr_boot_ns asked, answered, done; /* 0: not yet */
    bool refused;                     /* it is sure that it was not made */
    size_t host;
    uint64_t version; /* data: the one that it made */
    size_t bytes;
};

struct model_session {
    size_t user;
    struct cr_session_id id;
    cr_boot_ns began; /* its login */
    cr_boot_ns known, asked, over;
    cr_boot_ns lapses; /* from when on it may be over by time alone */
    cr_boot_ns used;   /* the last use that an engine was told of */
    size_t uses_open;  /* calls under way that may count as a use before they are answered */
    /* A use that an engine knows of: counts when that one has been well for long enough. */
    struct {
        cr_boot_ns at; /* 0: none */
        size_t host;
        unsigned life;
    } use;
    size_t ends_open; /* of this one alone, not yet answered */
    bool shaky;       /* one of those was not answered done */
    size_t rotations_open;
    cr_boot_ns rotation_asked; /* the latest */
    struct model_write rights[MODEL_WRITES], data[MODEL_WRITES];
    size_t rights_count, data_count;
    uint64_t version; /* the last that was seen */
};

struct model_token {
    size_t session;
    struct cr_token token;
    struct cr_session_id id; /* of the token */
    struct cr_token_hash hash;
    cr_boot_ns known, asked, over;     /* the latter two by rotation */
    cr_boot_ns refused[SIM_HOSTS_MAX]; /* when this host last said that it is over */
};

enum model_kind {
    MODEL_LOGIN,
    MODEL_VALIDATE,
    MODEL_READ, /* data, whole */
    MODEL_END_ONE,
    MODEL_END_USER,
    MODEL_END_OTHERS,
    MODEL_END_ALL,
    MODEL_ACCOUNT,
    MODEL_RIGHTS,
    MODEL_DATA,
    MODEL_ROTATE,
};

/* One call under way. */
struct model_call {
    enum model_kind kind;
    size_t host, user, session, token;
    enum cr_policy policy;
    bool upgrades;   /* login: `session` is an anonymous one */
    bool overlapped; /* something that may end what it makes was under way */
    char label[24];  /* login: its address, by which its log rows are known */
    bool must_fail;  /* login: its generation is known to be gone (D11) */
    enum cr_rotation rotation;
    size_t write;       /* index */
    size_t bytes;       /* data: how many */
    uint64_t expects;   /* data: version; CR_VERSION_ANY */
    bool has_authority; /* token `authority` was shown for it */
    size_t authority;
    bool strict; /* validate: whatever the table says */
    cr_boot_ns began;
};

struct model {
    struct sim *sim;
    cr_span_ms idle, absolute; /* of all sessions */
    cr_span_ms grace;          /* the longest that a host has */
    struct model_session sessions[MODEL_SESSIONS];
    struct model_token tokens[MODEL_TOKENS];
    size_t session_count, token_count;
    /* Of all that may end sessions of a user: under way; the latest asked; the latest that was
     * answered done, by when it was asked; whether one was not answered done. */
    size_t ends_open[MODEL_USERS + 1];
    cr_boot_ns end_asked[MODEL_USERS + 1], end_done[MODEL_USERS + 1];
    bool shaky[MODEL_USERS + 1];
    size_t wrong; /* what was found; each is told by tap_note */
    size_t accepted, refused, unsaid, endings;
};

struct cr_user model_user(size_t number);
void model_init(struct model *model, struct sim *sim, cr_span_ms idle, cr_span_ms absolute);
/* Before the call is made, and when it is answered. */
void model_asked(struct model *model, struct model_call *call);
void model_answered(struct model *model, const struct model_call *call,
                    const struct cr_engine_answer *answer);
/* Somebody found the token's session in a table, or was told that it is live. */
void model_accepted(struct model *model, size_t token, size_t host, cr_boot_ns began,
                    const struct cr_record *record, const char *who);
/* Whoever found it told its agent. A look that nobody was told of is no use. */
void model_used(struct model *model, size_t token);
/* What data write number `number` (from 1) writes, and rights write `number`: as many bytes. */
void model_data(size_t number, size_t bytes, unsigned char *out);
void model_rights(size_t number, unsigned char *out);

#endif
