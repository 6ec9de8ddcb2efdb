/* SPDX-License-Identifier: Apache-2.0 */
/* What requests did, as audit events: each request gives its events once, where it is answered. */
#ifndef SERVICE_AUDIT_H
#define SERVICE_AUDIT_H

#include "service/request.h"

/* Keep what the message says about who and whom, for the event. Nothing without an audit, or for an
 * op that changes nothing. */
void cr_request_note(struct request *request, const struct cr_message *message);

/* The answer of a log-in, a creation or a rotation; of an ending, a change of an account, a new
 * key or debts that were forgiven. */
void cr_audit_login(const struct request *request, const struct cr_engine_answer *answer);
void cr_audit_ended(const struct request *request, const struct cr_engine_answer *answer);
/* A link for a new password: made, or used. */
void cr_audit_reset(const struct request *request, const struct cr_engine_answer *answer);
/* A source has presented `count` tokens that nobody made, and does not stop; `source` NULL:
 * `client` does not say where they come from. */
void cr_audit_guessing(const struct cr_client *client, const char *source, uint32_t count);
/* A lock that its holder has lost. */
void cr_audit_lock_lost(const struct cr_client *client, const char *name);

#endif
