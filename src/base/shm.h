/* SPDX-License-Identifier: Apache-2.0 */
/* Shared memory: a sealed memfd that one process writes and others map read-only. */
#ifndef BASE_SHM_H
#define BASE_SHM_H

#include <cloakroom/types.h>

/*
 * A memfd of `bytes`, all of it reserved (CR_E_LIMIT when the memory cannot be had), mapped
 * writable here and sealed with F_SEAL_SHRINK|GROW|FUTURE_WRITE: nobody can map it writable any
 * more.
 */
CR_MUST_CHECK enum cr_status cr_shm_create(const char *name, size_t bytes, void **out_memory,
                                           int *out_fd);

/* Map what a peer sent: CR_E_PROTOCOL unless it is a memfd with the three seals; its size is given
 * back. Read-only. */
CR_MUST_CHECK enum cr_status cr_shm_map(int fd, const void **out_memory, size_t *out_bytes);

/* Private zeroed memory, wiped in a forked child (MADV_WIPEONFORK). */
CR_MUST_CHECK enum cr_status cr_memory_private(size_t bytes, void **out_memory);

void cr_memory_unmap(const void *memory, size_t bytes); /* accepts NULL */

/* Lay zeros over a map that was read-only: its memory is given up, its addresses are kept, so that
 * a late reader reads zeros. Where that cannot be done it stays as it is. */
void cr_memory_blank(const void *memory, size_t bytes);

#endif
