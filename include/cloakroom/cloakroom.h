/* SPDX-License-Identifier: Apache-2.0 */
/* Everything that an application uses. Inside the library each file includes what it needs. */
#ifndef CLOAKROOM_CLOAKROOM_H
#define CLOAKROOM_CLOAKROOM_H

#include <cloakroom/account.h>
#include <cloakroom/key.h>
#include <cloakroom/lock.h>
#include <cloakroom/room.h>
#include <cloakroom/session.h>
#include <cloakroom/status.h>
#include <cloakroom/table.h>
#include <cloakroom/types.h>

#define CR_VERSION_TEXT "0.1.0"

#endif
