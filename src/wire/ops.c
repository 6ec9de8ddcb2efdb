/* SPDX-License-Identifier: Apache-2.0 */
/* The two tables of the protocol: who may send which op with what, and how long each field is. */
#include "wire/ops.h"

#include <stddef.h>

#include <cloakroom/account.h>
#include <cloakroom/lock.h>
#include <cloakroom/store.h>

#define APP (CR_ROLE_APP | CR_ROLE_OPERATOR)
#define ALL (CR_ROLE_HTTP | APP)
#define OPERATOR CR_ROLE_OPERATOR
#define AGENT 0
#define ROW(id, roles, authority, ...)                                                             \
    {                                                                                              \
        CR_OP_##id, #id, roles, {__VA_ARGS__}, authority                                           \
    }

/* The order is that of enum cr_op. */
static const struct cr_op_row op_rows[] = {
    /* op, who, must http prove itself, what must be there */
    ROW(HELLO, ALL, false, CR_TAG_VERSION),
    ROW(VALIDATE, ALL, false, CR_TAG_TOKEN),
    ROW(SEEN, ALL, false, CR_TAG_ID),
    ROW(TOUCH, ALL, false, CR_TAG_TOKEN),
    ROW(LOGIN, APP, false, CR_TAG_USER, CR_TAG_POLICY),
    ROW(LOGIN_PASSWORD, ALL, false, CR_TAG_USER, CR_TAG_PASSWORD, CR_TAG_POLICY),
    ROW(CREATE, APP, false, 0),
    ROW(DATA_READ, ALL, true, CR_TAG_ID),
    ROW(DATA_WRITE, ALL, true, CR_TAG_ID, CR_TAG_VERSION, CR_TAG_DATA),
    ROW(RIGHTS_WRITE, APP, false, CR_TAG_ID, CR_TAG_RIGHTS),
    ROW(ROTATE, ALL, false, CR_TAG_TOKEN, CR_TAG_ROTATION),
    ROW(END, ALL, true, CR_TAG_ID),
    ROW(END_USER, APP, false, CR_TAG_USER),
    ROW(END_OTHERS, ALL, true, CR_TAG_ID),
    ROW(END_ALL, APP, false, 0), /* an application only what is in its own table */
    ROW(LIST, ALL, true, 0),
    ROW(EXPLAIN, ALL, true, CR_TAG_ID),
    ROW(STATS, ALL, false, 0),
    ROW(FILL, APP, false, CR_TAG_KEY, CR_TAG_USER, CR_TAG_STAMP, CR_TAG_DEADLINE),
    ROW(INVALIDATE, APP, false, CR_TAG_KEY),
    ROW(LOCK_TAKE, APP, false, CR_TAG_NAME),
    ROW(LOCK_GIVE, APP, false, CR_TAG_NAME, CR_TAG_LOCK),
    ROW(LOCK_READ, APP, false, CR_TAG_NAME),
    ROW(ACCOUNT_ADD, OPERATOR, false, CR_TAG_USER, CR_TAG_PASSWORD),
    ROW(ACCOUNT_PASSWORD, OPERATOR, false, CR_TAG_USER, CR_TAG_PASSWORD),
    ROW(ACCOUNT_DISABLE, OPERATOR, false, CR_TAG_USER, CR_TAG_DISABLED),
    ROW(ACCOUNT_REMOVE, OPERATOR, false, CR_TAG_USER),
    ROW(ACCOUNT_LIST, OPERATOR, false, 0),
    ROW(LOOKUP, APP, false, CR_TAG_KEY),
    ROW(FILL_BEGIN, APP, false, 0),
    ROW(ACCOUNT_IMPORT, OPERATOR, false, CR_TAG_USER, CR_TAG_HASH),
    ROW(ACCOUNT_OWN, ALL, true, 0),
    ROW(LIMIT_SHOW, OPERATOR, false, 0),
    ROW(LIMIT_EXPLAIN, OPERATOR, false, 0),
    ROW(LIMIT_TOP, OPERATOR, false, CR_TAG_COUNT),
    ROW(LIMIT_RESET, OPERATOR, false, 0),
    ROW(KEY_LIST, OPERATOR, false, 0),
    ROW(KEY_ROTATE, OPERATOR, false, 0),
    ROW(RESET_MAKE, OPERATOR, false, CR_TAG_USER),
    ROW(RESET, ALL, false, CR_TAG_TOKEN, CR_TAG_PASSWORD_NEW),
    ROW(PAST, ALL, true, 0),
    ROW(SEGMENT, AGENT, false, CR_TAG_CACHE),
    ROW(LOCK_TRUST, AGENT, false, CR_TAG_LOCK, CR_TAG_BOOT),
};

const struct cr_op_row *cr_op_row(uint16_t op)
{
    for (size_t i = 0; i < sizeof op_rows / sizeof op_rows[0]; i++)
        if (op_rows[i].op == op)
            return &op_rows[i];
    return NULL;
}

#define U64                                                                                        \
    {                                                                                              \
        8, 8, false                                                                                \
    }
#define EXACTLY(bytes)                                                                             \
    {                                                                                              \
        bytes, bytes, false                                                                        \
    }
#define UP_TO(bytes)                                                                               \
    {                                                                                              \
        0, bytes, false                                                                            \
    }
#define BETWEEN(least, most)                                                                       \
    {                                                                                              \
        least, most, false                                                                         \
    }
#define REPEATED(least, most)                                                                      \
    {                                                                                              \
        least, most, true                                                                          \
    }

static const struct cr_tag_row tag_rows[CR_TAG_END_OF_LIST] = {
    [CR_TAG_VERSION] = U64,
    [CR_TAG_LAYOUT] = U64,
    [CR_TAG_TEXT] = UP_TO(sizeof((struct cr_error *)NULL)->text - 1),
    [CR_TAG_TOKEN] = EXACTLY(CR_TOKEN_CHARS),
    [CR_TAG_AUTHORITY] = EXACTLY(CR_TOKEN_CHARS),
    [CR_TAG_ID] = REPEATED(CR_SESSION_ID_CHARS, CR_SESSION_ID_CHARS),
    [CR_TAG_USER] = BETWEEN(1, CR_USER_BYTES_MAX),
    [CR_TAG_PASSWORD] = UP_TO(CR_PASSWORD_BYTES_MAX),
    [CR_TAG_POLICY] = U64,
    [CR_TAG_COUNT] = U64,
    [CR_TAG_IDLE] = U64,
    [CR_TAG_ABSOLUTE] = U64,
    [CR_TAG_RIGHTS] = UP_TO(CR_RIGHTS_BYTES_MAX),
    [CR_TAG_DATA] = UP_TO(CR_DATA_BYTES_MAX),
    [CR_TAG_ADDRESS] = UP_TO(CR_ADDRESS_CHARS_MAX),
    [CR_TAG_AGENT] = UP_TO(CR_AGENT_CHARS_MAX),
    [CR_TAG_ANONYMOUS] = EXACTLY(CR_TOKEN_CHARS),
    [CR_TAG_STRICT] = U64,
    [CR_TAG_ROTATION] = U64,
    [CR_TAG_REASON] = U64,
    [CR_TAG_BY] = UP_TO(63),
    [CR_TAG_ASYNC] = U64,
    [CR_TAG_ENDING] = EXACTLY(16),
    [CR_TAG_BOUND] = U64,
    /* Later versions write longer ones: what an earlier one does not know is at the end. */
    [CR_TAG_SESSION] = REPEATED(1, 16384),
    [CR_TAG_CREATED] = U64,
    [CR_TAG_EXPLANATION] = BETWEEN(1, 4096),
    [CR_TAG_STATS] = BETWEEN(1, 4096),
    [CR_TAG_KEY] = EXACTLY(56),
    [CR_TAG_STAMP] = U64,
    [CR_TAG_DEADLINE] = U64,
    [CR_TAG_LOCK] = U64,
    [CR_TAG_NAME] = BETWEEN(1, CR_LOCK_NAME_BYTES_MAX),
    [CR_TAG_WAIT] = U64,
    [CR_TAG_BOOT] = U64,
    [CR_TAG_DISABLED] = U64,
    [CR_TAG_ACCOUNT] = REPEATED(1, 1024),
    [CR_TAG_CACHE] = U64,
    [CR_TAG_ROLE] = U64,
    [CR_TAG_IDENTITY] = EXACTLY(16),
    [CR_TAG_PID] = U64,
    [CR_TAG_REALM] = UP_TO(255),
    [CR_TAG_KIND] = U64,
    [CR_TAG_DEVICE] = UP_TO(CR_DEVICE_CHARS),
    [CR_TAG_RETRY] = U64,
    [CR_TAG_LIMIT] = REPEATED(1, 1024),
    [CR_TAG_LIMIT_COUNT] = BETWEEN(1, 1024),
    [CR_TAG_KEY_STATE] = REPEATED(1, 1024),
    [CR_TAG_PASSWORD_NEW] = UP_TO(CR_PASSWORD_BYTES_MAX),
    [CR_TAG_ONCE] = U64,
    [CR_TAG_HASH] = BETWEEN(1, CR_PASSWORD_HASH_CHARS_MAX),
    [CR_TAG_PAST] = REPEATED(1, 4096),
    [CR_TAG_SAME] = U64,
    [CR_TAG_TAKE] = U64,
};

const struct cr_tag_row *cr_tag_row(uint16_t tag)
{
    /* A number between ours that has no row would have no longest length. */
    return tag < CR_TAG_END_OF_LIST && tag_rows[tag].most > 0 ? &tag_rows[tag] : NULL;
}
