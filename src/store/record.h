/* SPDX-License-Identifier: Apache-2.0 */
/* What every store does with sessions, log rows and ids once it has them in memory. */
#ifndef STORE_RECORD_H
#define STORE_RECORD_H

#include <cloakroom/store.h>

/* Copies the data too; `*out` is overwritten, not freed. CR_E_NO_MEMORY: *out is zeroed. */
CR_MUST_CHECK enum cr_status cr_record_copy(struct cr_record *out, const struct cr_record *from,
                                            bool with_data);

/* What `create` writes back: `ends_at` comes as a span. */
void cr_record_start(struct cr_record *record, uint64_t user_generation, uint64_t global_generation,
                     cr_time_ms now);
/* The same from a session that this very call has made before. */
void cr_record_repeat(struct cr_record *record, const struct cr_record *made);

/* Whether version and token are what the change expects; and all of it but the data. */
CR_MUST_CHECK bool cr_record_allows(const struct cr_record *record, const struct cr_change *change);
void cr_record_change(struct cr_record *record, const struct cr_change *change, cr_time_ms now);

/* A change of an account, but for adding and removing it. */
void cr_account_row_change(struct cr_account_row *row, const struct cr_account_change *change,
                           cr_time_ms now);

/* Whether its password is over by now. */
void cr_account_row_judge(struct cr_account_row *row, cr_time_ms now);

/* A row for the log, without number and time. */
struct cr_log_row cr_log_row_for(enum cr_log_kind kind, const struct cr_ending *ending);
/* The same of one session that ends, whose row is about to go. */
struct cr_log_row cr_log_row_ended(const struct cr_record *record, const struct cr_ending *ending);

/* When an unused session dies by itself: its absolute end, or idle end and slack. */
cr_time_ms cr_record_deadline(const struct cr_record *record);

/* Whether what a store gave back can be a session at all. */
CR_MUST_CHECK bool cr_record_is_sound(const struct cr_record *record);
CR_MUST_CHECK bool cr_origin_is_sound(const struct cr_origin *origin);
CR_MUST_CHECK bool cr_log_row_is_sound(const struct cr_log_row *row);
CR_MUST_CHECK bool cr_session_id_is_sound(const struct cr_session_id *id);
CR_MUST_CHECK bool cr_user_is_sound(const struct cr_user *user); /* not anonymous */

/* What a debt keeps of a name: 16 bytes, a hash keyed with the store's identity. Also a password
 * that was typed where the name belongs is no more than that in the store (ASVS H5). */
void cr_debt_name(const struct cr_ending_id *identity, const struct cr_user *user,
                  struct cr_user *out_name);

/* Byte order; a prefix comes first. */
int cr_user_compare(const struct cr_user *a, const struct cr_user *b);

CR_MUST_CHECK bool cr_ending_id_is_zero(const struct cr_ending_id *id);
CR_MUST_CHECK bool cr_ending_id_equal(const struct cr_ending_id *a, const struct cr_ending_id *b);

#endif
