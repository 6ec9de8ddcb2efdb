/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every answer and every fault of the library, with its text. Owns nothing else.
 *
 * Answers say how the world is; faults say that something is broken. A store outage is an answer
 * (CR_UNAVAILABLE): it is never "not logged in".
 */
#ifndef CLOAKROOM_STATUS_H
#define CLOAKROOM_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

#define CR_API __attribute__((visibility("default")))
#define CR_MUST_CHECK __attribute__((warn_unused_result))

/* name, text for a person. The numbers travel over the agent's socket: append, never reorder. */
#define CR_STATUS_LIST(X)                                                                          \
    X(CR_OK, "done")                                                                               \
    X(CR_ASK, "not in this process's table: ask the agent")                                        \
    X(CR_NOT_FOUND, "there is no such session")                                                    \
    X(CR_ENDED, "the session has ended")                                                           \
    X(CR_DENIED, "refused")                                                                        \
    X(CR_CONFLICT, "somebody else changed it first")                                               \
    X(CR_PENDING, "committed, not yet everywhere")                                                 \
    X(CR_BUSY, "too much at once: try again later")                                                \
    X(CR_UNAVAILABLE, "the store cannot be asked now")                                             \
    X(CR_UNKNOWN_USER, "no such user: the store has never seen it")                                \
    X(CR_LOST, "the lock is lost")                                                                 \
    X(CR_E_INVALID, "the argument is not of the form that the call takes")                         \
    X(CR_E_IO, "input or output failed")                                                           \
    X(CR_E_UNKNOWN_OUTCOME, "the outcome of the commit is unknown: safe to repeat")                \
    X(CR_E_CORRUPT, "damaged data")                                                                \
    X(CR_E_NO_MEMORY, "out of memory")                                                             \
    X(CR_E_LIMIT, "a limit is reached")                                                            \
    X(CR_E_VERSION, "made by another version")                                                     \
    X(CR_E_REFUSED, "an unsafe set-up was refused")                                                \
    X(CR_E_PROTOCOL, "the peer broke the protocol")                                                \
    X(CR_LIMITED, "too many wrong passwords: try again later")                                     \
    X(CR_PASSWORD_SHORT, "the password is too short")                                              \
    X(CR_PASSWORD_COMMON, "the password is one of those that are guessed first")                   \
    X(CR_PASSWORD_KNOWN, "the password is the user's name, or the one that it replaces")           \
    X(CR_CHANGE_FIRST, "right, but to be changed before anything else")

enum cr_status {
#define CR_STATUS_ENUM(name, text) name,
    CR_STATUS_LIST(CR_STATUS_ENUM)
#undef CR_STATUS_ENUM
};

/* The text of `status`, for a person; never NULL. Safe from any thread. */
CR_API const char *cr_status_text(enum cr_status status);

/* The name of `status` as it stands above ("CR_OK"); never NULL. Safe from any thread. */
CR_API const char *cr_status_name(enum cr_status status);

/*
 * What went wrong, for a person: what was seen and what to do. Filled by calls that take one, with
 * any status but CR_OK. Set `size` to sizeof(struct cr_error) before the call.
 */
struct cr_error {
    unsigned long size;
    enum cr_status status;
    char text[1200];
};

#ifdef __cplusplus
}
#endif
#endif
