/* SPDX-License-Identifier: Apache-2.0 */
/* What every store does with sessions, log rows and ids once it has them in memory. */
#ifndef STORE_RECORD_H
#define STORE_RECORD_H

#include <cloakroom/store.h>

/* Copies the data too; `*out` is overwritten, not freed. CR_E_NO_MEMORY: *out is zeroed. */
CR_MUST_CHECK enum cr_status cr_record_copy(struct cr_record *out, const struct cr_record *from,
                                            bool with_data);

/* When an unused session dies by itself: its absolute end, or idle end and slack. */
cr_time_ms cr_record_deadline(const struct cr_record *record);

/* Whether what a store gave back can be a session at all. */
CR_MUST_CHECK bool cr_record_is_sound(const struct cr_record *record);
CR_MUST_CHECK bool cr_log_row_is_sound(const struct cr_log_row *row);
CR_MUST_CHECK bool cr_session_id_is_sound(const struct cr_session_id *id);
CR_MUST_CHECK bool cr_user_is_sound(const struct cr_user *user); /* not anonymous */

/* Byte order; a prefix comes first. */
int cr_user_compare(const struct cr_user *a, const struct cr_user *b);

CR_MUST_CHECK bool cr_ending_id_is_zero(const struct cr_ending_id *id);
CR_MUST_CHECK bool cr_ending_id_equal(const struct cr_ending_id *a, const struct cr_ending_id *b);

#endif
