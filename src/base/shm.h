/* SPDX-License-Identifier: Apache-2.0 */
/* Shared memory: a sealed memfd that one process writes and others map read-only. */
#ifndef BASE_SHM_H
#define BASE_SHM_H

#include <cloakroom/types.h>

#define CR_HUGE_PAGE_BYTES ((size_t)2 << 20)

/* What pages memory of at least CR_HUGE_PAGE_BYTES consists of. Whatever is asked for, it is had in
 * ordinary pages where the system has no others to give. */
enum cr_huge_pages {
    CR_HUGE_AUTO,     /* asked for (MADV_HUGEPAGE): the system gives what it has */
    CR_HUGE_RESERVED, /* of the pool that the administrator set aside (MFD_HUGETLB); else as auto.
                         For private memory as auto */
    CR_HUGE_OFF       /* none, also where the system would give them unasked */
};

struct cr_shm {
    void *memory; /* aligned to a huge page, if one can stand in it */
    size_t bytes;
    int fd;
    bool from_pool; /* CR_HUGE_RESERVED, and the pool had enough */
};

/*
 * A memfd of `bytes`, all of it reserved (CR_E_LIMIT when the memory cannot be had), mapped
 * writable here and sealed with F_SEAL_SHRINK|GROW|FUTURE_WRITE: nobody can map it writable any
 * more. From the pool it is larger, if need be: whole huge pages.
 */
CR_MUST_CHECK enum cr_status cr_shm_create(const char *name, size_t bytes, enum cr_huge_pages pages,
                                           struct cr_shm *out_shm);

/* Map what a peer sent: CR_E_PROTOCOL unless it is a memfd with the three seals; its size is given
 * back. Read-only; aligned as the writer's. */
CR_MUST_CHECK enum cr_status cr_shm_map(int fd, const void **out_memory, size_t *out_bytes);

/* Private zeroed memory, wiped in a forked child (MADV_WIPEONFORK). */
CR_MUST_CHECK enum cr_status cr_memory_private(size_t bytes, enum cr_huge_pages pages,
                                               void **out_memory);

void cr_memory_unmap(const void *memory, size_t bytes); /* accepts NULL */

/* Lay zeros over a map that was read-only: its memory is given up, its addresses are kept, so that
 * a late reader reads zeros. Where that cannot be done it stays as it is. */
void cr_memory_blank(const void *memory, size_t bytes);

#endif
