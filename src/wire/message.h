/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages between library and agent: one datagram of a SOCK_SEQPACKET socket each.
 *
 * Layout, little-endian: u32 magic, u16 op, u16 status, u64 request, u16 field count, u16 zero, u32
 * bytes in all; then fields of u16 tag, u16 zero, u32 length, and the bytes. A reply carries op and
 * request of what it answers; request 0 is a push. A decoder refuses what is not exactly of this
 * form: the malformed message costs its sender the connection. Unknown tags are passed over, so
 * that versions N and N-1 understand each other. cr_op_list says which fields each op must have and
 * who may send it.
 *
 * No system calls.
 */
#ifndef WIRE_MESSAGE_H
#define WIRE_MESSAGE_H

#include <cloakroom/session.h>

#define CR_WIRE_MAGIC 0x31575243u /* "CRW1" */
#define CR_WIRE_VERSION 1
#define CR_MESSAGE_HEADER_BYTES 24
#define CR_MESSAGE_BYTES_MAX 131072
#define CR_MESSAGE_FIELDS_MAX 96

/* Bits: who may send an op. An agent's socket gives its peers one of them. */
enum cr_role { CR_ROLE_HTTP = 1, CR_ROLE_APP = 2, CR_ROLE_OPERATOR = 4 };

enum cr_op {
    CR_OP_HELLO = 1,
    CR_OP_VALIDATE = 2,
    CR_OP_SEEN = 3, /* no reply; field TAG_ID repeated; TAG_BOOT: when, else now */
    CR_OP_TOUCH = 4,
    CR_OP_LOGIN = 5,
    CR_OP_LOGIN_PASSWORD = 6,
    CR_OP_CREATE = 7,
    CR_OP_DATA_READ = 8,
    CR_OP_DATA_WRITE = 9,
    CR_OP_RIGHTS_WRITE = 10,
    CR_OP_ROTATE = 11,
    CR_OP_END = 12,
    CR_OP_END_USER = 13,
    CR_OP_END_OTHERS = 14,
    CR_OP_END_ALL = 15,
    CR_OP_LIST = 16,
    CR_OP_EXPLAIN = 17,
    CR_OP_STATS = 18,
    CR_OP_FILL = 19,
    CR_OP_INVALIDATE = 20,
    CR_OP_LOCK_TAKE = 21,
    CR_OP_LOCK_GIVE = 22,
    CR_OP_ACCOUNT_ADD = 23,
    CR_OP_ACCOUNT_PASSWORD = 24,
    CR_OP_ACCOUNT_DISABLE = 25,
    CR_OP_ACCOUNT_REMOVE = 26,
    CR_OP_ACCOUNT_LIST = 27,
    CR_OP_LOOKUP = 28,     /* own table, not mapped */
    CR_OP_FILL_BEGIN = 29, /* own table, not mapped */
    CR_OP_KEY_LIST = 30,
    CR_OP_KEY_ROTATE = 31,     /* reply: TAG_VERSION the number, TAG_BOUND until it signs */
    CR_OP_ACCOUNT_IMPORT = 32, /* reply: TAG_SAME */
    CR_OP_PAST = 33,           /* of TAG_USER, or the authority's user; reply: TAG_PAST repeated */
    CR_OP_LIMIT_SHOW = 34,
    CR_OP_LIMIT_EXPLAIN = 35, /* TAG_USER, TAG_ADDRESS, or both */
    CR_OP_LIMIT_TOP = 36,
    CR_OP_LIMIT_RESET = 37, /* as explain */
    CR_OP_RESET_MAKE = 38,  /* reply: TAG_TOKEN the link's, TAG_BOUND for how long it is good */
    CR_OP_RESET = 39,       /* TAG_TOKEN: the link's; TAG_PASSWORD_NEW */
    CR_OP_SEGMENT = 40,     /* push: another table; TAG_CACHE; its descriptor is with it, or none */
    CR_OP_LOCK_TRUST = 41,  /* push: TAG_LOCK is held until TAG_BOOT; 0: lost */
    CR_OP_ACCOUNT_OWN = 42, /* whether the user of TAG_AUTHORITY has an account: CR_UNKNOWN_USER */
    CR_OP_LOCK_READ = 43,   /* reply: TAG_LOCK the newest fence of TAG_NAME, 0: never taken */
    CR_OP_END_OF_LIST
};

enum cr_tag {
    CR_TAG_VERSION = 1,   /* u64; wire version in hello, data version elsewhere */
    CR_TAG_LAYOUT = 2,    /* u64 */
    CR_TAG_TEXT = 3,      /* of an error, for a person */
    CR_TAG_TOKEN = 4,     /* CR_TOKEN_CHARS bytes */
    CR_TAG_AUTHORITY = 5, /* a token on whose behalf to act */
    CR_TAG_ID = 6,        /* CR_SESSION_ID_CHARS bytes */
    CR_TAG_USER = 7,
    CR_TAG_PASSWORD = 8,
    CR_TAG_POLICY = 9,    /* u64 */
    CR_TAG_COUNT = 10,    /* u64 */
    CR_TAG_IDLE = 11,     /* u64, ms */
    CR_TAG_ABSOLUTE = 12, /* u64, ms */
    CR_TAG_RIGHTS = 13,
    CR_TAG_DATA = 14,
    CR_TAG_ADDRESS = 15,
    CR_TAG_AGENT = 16,
    CR_TAG_ANONYMOUS = 17, /* a token */
    CR_TAG_STRICT = 18,    /* u64: 0, 1 */
    CR_TAG_ROTATION = 19,  /* u64 */
    CR_TAG_REASON = 20,    /* u64 */
    CR_TAG_BY = 21,
    CR_TAG_ASYNC = 22,   /* u64: 0, 1 */
    CR_TAG_ENDING = 23,  /* 16 bytes */
    CR_TAG_BOUND = 24,   /* u64, ms */
    CR_TAG_SESSION = 25, /* a session: cr_message_put_session; may be repeated */
    CR_TAG_CREATED = 26, /* u64, ms */
    CR_TAG_EXPLANATION = 27,
    CR_TAG_STATS = 28,
    CR_TAG_KEY = 29,      /* own table: 24 bytes of id text and 32 of hash */
    CR_TAG_STAMP = 30,    /* u64 */
    CR_TAG_DEADLINE = 31, /* u64, boot ns */
    CR_TAG_LOCK = 32,     /* u64: the fence */
    CR_TAG_NAME = 33,
    CR_TAG_WAIT = 34,     /* u64, ms */
    CR_TAG_BOOT = 35,     /* u64, boot ns */
    CR_TAG_DISABLED = 36, /* u64: 0, 1 */
    CR_TAG_ACCOUNT = 37,  /* repeated */
    CR_TAG_CACHE = 38,    /* u64 */
    CR_TAG_ROLE = 39,     /* u64 */
    CR_TAG_IDENTITY = 40, /* 16 bytes: of the store */
    CR_TAG_PID = 41,      /* u64 */
    CR_TAG_REALM = 42,
    CR_TAG_KIND = 43,         /* u64: 0 sessions, 1 the application's own table */
    CR_TAG_DEVICE = 44,       /* a device cookie: CR_DEVICE_CHARS bytes; longer is none */
    CR_TAG_RETRY = 45,        /* u64, ms */
    CR_TAG_LIMIT = 46,        /* repeated */
    CR_TAG_LIMIT_COUNT = 47,  /* u64s in a row */
    CR_TAG_KEY_STATE = 48,    /* repeated */
    CR_TAG_PASSWORD_NEW = 49, /* with LOGIN_PASSWORD: set it instead of TAG_PASSWORD */
    CR_TAG_ONCE = 50,         /* u64, ms: the password is to be changed within */
    CR_TAG_HASH = 51,         /* of a password, as text */
    CR_TAG_PAST = 52,         /* repeated */
    CR_TAG_SAME = 53,         /* u64: 1: with CR_CONFLICT: what is there is what was to be made */
    CR_TAG_TAKE = 54, /* u64: with LOCK_GIVE: the request of the LOCK_TAKE that nobody waits for
                         any more, whatever became of it */
    CR_TAG_END_OF_LIST
};

/* One op: what a request must carry, and from whom it is taken. */
struct cr_op_row {
    enum cr_op op;
    const char *name;
    unsigned roles;          /* bits of enum cr_role; 0: only the agent sends it */
    enum cr_tag required[4]; /* 0 ends */
    /* An http peer must prove itself by CR_TAG_AUTHORITY: it acts on that session's user only. */
    bool http_needs_authority;
};
/* NULL for an op that does not exist. */
const struct cr_op_row *cr_op_row(uint16_t op);

/* A message taken apart: points into the caller's buffer. */
struct cr_field {
    uint16_t tag;
    uint32_t length;
    const unsigned char *bytes;
};
struct cr_message {
    uint16_t op;
    enum cr_status status;
    uint64_t request;
    size_t field_count;
    struct cr_field fields[CR_MESSAGE_FIELDS_MAX];
};

/* CR_E_PROTOCOL for anything that is not of the form, a field twice that may not be, or a length
 * that its tag does not have (u64: 8; token, id, ending: exact; others: their maximum). A status
 * of a later version reads as CR_E_VERSION. */
CR_MUST_CHECK enum cr_status cr_message_decode(const void *bytes, size_t count,
                                               struct cr_message *out);
/* For a request: the op exists, `role` may send it, its required fields are there. CR_DENIED (also
 * for an http peer that names rights), CR_E_PROTOCOL. */
CR_MUST_CHECK enum cr_status cr_message_admit(const struct cr_message *message, enum cr_role role);

/* NULL when the field is not there. The second continues after `after` (NULL: from the first). */
const struct cr_field *cr_message_field(const struct cr_message *message, enum cr_tag tag);
const struct cr_field *cr_message_next(const struct cr_message *message, enum cr_tag tag,
                                       const struct cr_field *after);
uint64_t cr_message_u64(const struct cr_message *message, enum cr_tag tag, uint64_t absent);
/* False: not there, or not of the form. */
CR_MUST_CHECK bool cr_message_user(const struct cr_message *message, struct cr_user *out);
CR_MUST_CHECK bool cr_message_id(const struct cr_message *message, struct cr_session_id *out);
CR_MUST_CHECK bool cr_message_token(const struct cr_message *message, enum cr_tag tag,
                                    struct cr_token *out);
CR_MUST_CHECK bool cr_message_ending(const struct cr_message *message, struct cr_ending_id *out);
/* Copies text and ends it; false: not there (out is empty) or longer than capacity - 1. */
CR_MUST_CHECK bool cr_message_text(const struct cr_message *message, enum cr_tag tag, char *out,
                                   size_t capacity);

/* Building one. Grows up to CR_MESSAGE_BYTES_MAX; past that, without memory, or for a field of a
 * length that its tag does not have, `failed` is set and stays. Wiped by fini, as messages carry
 * tokens and passwords. */
struct cr_builder {
    unsigned char *bytes;
    size_t count, capacity;
    uint16_t field_count;
    bool failed;
};
void cr_builder_init(struct cr_builder *b, enum cr_op op, enum cr_status status, uint64_t request);
void cr_builder_fini(struct cr_builder *b); /* accepts zeroed */
void cr_builder_bytes(struct cr_builder *b, enum cr_tag tag, const void *bytes, size_t count);
void cr_builder_text(struct cr_builder *b, enum cr_tag tag, const char *text); /* NULL: nothing */
void cr_builder_u64(struct cr_builder *b, enum cr_tag tag, uint64_t value);
/* Writes the header's totals. False: it failed. */
CR_MUST_CHECK bool cr_builder_finish(struct cr_builder *b);

/* Compound fields. Sessions travel with rights and labels, and data up to
 * CR_DATA_CACHED_BYTES_MAX (so a list gives them data_bytes 0, or 64 of them do not fit). Decoders
 * write only with true. `out->size` is left as it is. */
void cr_builder_session(struct cr_builder *b, const struct cr_session *session);
CR_MUST_CHECK bool cr_field_session(const struct cr_field *field, struct cr_session *out);
void cr_builder_explanation(struct cr_builder *b, const struct cr_explanation *explanation);
CR_MUST_CHECK bool cr_field_explanation(const struct cr_field *field, struct cr_explanation *out);
/* A session that is not live any more, in a list of the CR_PAST_MAX that ended last. */
#define CR_PAST_MAX 20
struct cr_past_session {
    struct cr_session_id id;
    struct cr_origin where; /* whose it was */
    struct cr_explanation ended;
};
void cr_builder_past(struct cr_builder *b, const struct cr_past_session *past);
CR_MUST_CHECK bool cr_field_past(const struct cr_field *field, struct cr_past_session *out);
void cr_builder_stats(struct cr_builder *b, const struct cr_stats *stats);
CR_MUST_CHECK bool cr_field_stats(const struct cr_field *field, struct cr_stats *out);
/* A login limit, and what is owed to it under one key (kind: enum cr_throttle_kind). */
#define CR_LIMIT_VIEW_TIERS 4
struct cr_limit_view {
    uint32_t kind;
    struct cr_user user;                    /* length 0: none */
    char address[CR_ADDRESS_CHARS_MAX + 1]; /* a network */
    size_t tier_count;
    struct cr_limit_view_tier {
        uint64_t count, used;
        cr_span_ms period, left; /* left: until nothing is owed */
    } tiers[CR_LIMIT_VIEW_TIERS];
};
void cr_builder_limit(struct cr_builder *b, const struct cr_limit_view *view);
CR_MUST_CHECK bool cr_field_limit(const struct cr_field *field, struct cr_limit_view *out);
struct cr_limit_count {
    uint64_t admitted, refused, refunded, asked, entries, evicted;
};
void cr_builder_limit_count(struct cr_builder *b, const struct cr_limit_count *count);
CR_MUST_CHECK bool cr_field_limit_count(const struct cr_field *field, struct cr_limit_count *out);
struct cr_account;
void cr_builder_account(struct cr_builder *b, const struct cr_account *account);
CR_MUST_CHECK bool cr_field_account(const struct cr_field *field, struct cr_account *out);
struct cr_key_state;
void cr_builder_key_state(struct cr_builder *b, const struct cr_key_state *key);
CR_MUST_CHECK bool cr_field_key_state(const struct cr_field *field, struct cr_key_state *out);

#endif
