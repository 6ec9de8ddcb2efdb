/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies of a SQLite store: of one in use (backup), and back into use (restore).
 *
 * What was ended after a copy was made is live in it. So a copy is marked, by a table of its own in
 * the file, and whoever opens a marked one as a store ends everybody first, however the file came
 * to its place (DESIGN: "a restored store ends everybody before it serves").
 *
 * One thread at a time for each copy.
 */
#ifndef STORE_SQLITE_COPY_H
#define STORE_SQLITE_COPY_H

#include <cloakroom/types.h>

/* The mark. Only opening the store, or cr_sqlite_copy_finish, takes it off. */
#define CR_SQLITE_COPY_MARK "copied"

struct cr_sqlite_copy;

/*
 * Begins a copy of the database `from`, as it is now, for `to`, which must not be there. An engine
 * may be using `from` meanwhile, in this process or another: nothing is locked, but its write-ahead
 * log grows until the copy has ended. Until it is whole the copy is TO.partial, readable for its
 * owner only; one that was left there is written over. CR_E_INVALID: `to` is there, or `from` is
 * not a store. CR_BUSY: another copy for `to` is being made.
 */
CR_MUST_CHECK enum cr_status cr_sqlite_copy_begin(const char *from, const char *to,
                                                  struct cr_sqlite_copy **out_copy,
                                                  struct cr_error *out_error);

/* Copies some of it, for a few milliseconds. Done when *out_done == *out_total; both in bytes. */
CR_MUST_CHECK enum cr_status cr_sqlite_copy_step(struct cr_sqlite_copy *copy, uint64_t *out_done,
                                                 uint64_t *out_total, struct cr_error *out_error);

/* The store is not read any more, and its log can be emptied. Once done, or given up. */
void cr_sqlite_copy_release(struct cr_sqlite_copy *copy);

/* Once done: checks it, marks it (or takes the mark off), and puts it into its place, durably. Who
 * owns its directory owns it, where that can be. */
CR_MUST_CHECK enum cr_status cr_sqlite_copy_finish(struct cr_sqlite_copy *copy, bool mark,
                                                   struct cr_error *out_error);

/* Also takes away what was not finished. Accepts NULL. */
void cr_sqlite_copy_destroy(struct cr_sqlite_copy *copy);

#endif
