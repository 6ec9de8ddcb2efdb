/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who did what, and when: one line of JSON for each event, to a file that is only appended to. What
 * came from outside stays inside its string: control characters and bytes that are not UTF-8 are
 * escaped, and whatever looks like a token is cut short (ASVS H5 to H7). Never give it a secret.
 *
 * Events are written by a thread of their own, from a bounded queue, so that no disk makes their
 * giver wait. What the disk does not take, or the queue has no room for, is counted: the next line
 * that can be written says how many were lost, and the log says it at once.
 */
#ifndef BASE_AUDIT_H
#define BASE_AUDIT_H

#include <cloakroom/types.h>

#include "base/clock.h"

struct cr_audit;

/* A member of the object. `text` NULL: it is left out. */
struct cr_audit_field {
    const char *name; /* a word; not escaped */
    const void *text;
    size_t bytes;
};
#define CR_AUDIT_TEXT(name, text) ((struct cr_audit_field){(name), (text), strlen(text)})

/*
 * `target`: "stderr", "syslog" (facility authpriv), or the absolute path of a regular file, made
 * with 0600 when it is missing and never followed through a symbolic link. `clock` outlives it.
 * CR_E_INVALID, CR_E_IO with the reason in the text. Call it in a process that does not fork after.
 */
CR_MUST_CHECK enum cr_status cr_audit_open(const char *target, struct cr_clock *clock,
                                           struct cr_audit **out_audit, struct cr_error *out_error);
/* Writes what is queued, and gives up on a disk that does not answer. Accepts NULL. */
void cr_audit_close(struct cr_audit *audit);

/* After the file was moved away. When it cannot be opened anew, the old one is written on (and the
 * log says so). Accepts NULL. */
void cr_audit_reopen(struct cr_audit *audit);

/* One event, now. `audit` NULL: nothing happens. Any thread; never blocks on the disk. */
void cr_audit_event(struct cr_audit *audit, const char *event, const struct cr_audit_field *fields,
                    size_t count);

/* How many events were lost since the start. Any thread. */
uint64_t cr_audit_lost(struct cr_audit *audit);

#endif
