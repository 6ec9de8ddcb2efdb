/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tokens of links for a new password, and making one. They are made as sessions' are, and are
 * genuine to no check of those: a link that comes as a cookie is nobody's session, and a session's
 * token is no link. Loop's thread only.
 */
#ifndef AUTH_RESET_H
#define AUTH_RESET_H

#include "engine/engine.h"

/* As cr_auth_reset_make says. */
void cr_reset_make(struct cr_engine *engine, const struct cr_user *user, cr_engine_done *done,
                   void *context);

/* Whether it was made here, with a key that is still there. */
CR_MUST_CHECK bool cr_reset_is_genuine(struct cr_engine *engine, const struct cr_token *token);

#endif
