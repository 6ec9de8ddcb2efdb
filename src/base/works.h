/* SPDX-License-Identifier: Apache-2.0 */
/* Pieces of work in a row, oldest first: what a pool's queues are made of. */
#ifndef BASE_WORKS_H
#define BASE_WORKS_H

#include "base/loop.h"

struct cr_works {
    struct cr_work *first, *last;
    size_t count;
};

static inline void cr_works_add(struct cr_works *works, struct cr_work *work)
{
    work->next = NULL;
    if (works->last == NULL)
        works->first = work;
    else
        works->last->next = work;
    works->last = work;
    works->count++;
}

/* NULL when there is none. */
static inline struct cr_work *cr_works_take(struct cr_works *works)
{
    struct cr_work *work = works->first;
    if (work == NULL)
        return NULL;
    works->first = work->next;
    if (works->first == NULL)
        works->last = NULL;
    works->count--;
    work->next = NULL;
    return work;
}

static inline size_t cr_works_take_batch(struct cr_works *works, struct cr_work **batch,
                                         size_t capacity)
{
    size_t count = 0;
    while (count < capacity && works->first != NULL)
        batch[count++] = cr_works_take(works);
    return count;
}

#endif
