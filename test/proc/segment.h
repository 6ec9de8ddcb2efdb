/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A table for tests that stop its writer or its readers: the test makes it, children of the test
 * write it (the writable map and the writer's own memory come to them with the fork), and it is put
 * back to how it was, so that each of many children starts from the same state. Readers have a map
 * of their own, as workers do.
 */
#ifndef SEGMENT_H
#define SEGMENT_H

#include "unit/cache_fixture.h"

#define SEGMENT_CROWD 1000 /* the number of the crowd's first session */
#define SEGMENT_CROWD_MAX 8000
#define SEGMENT_CROWD_USERS 50
#define SEGMENT_PAGE_BYTES 4096u
#define SEGMENT_PAGES_MAX (CR_TABLE_BYTES_MIN / SEGMENT_PAGE_BYTES)

struct segment {
    struct fixture f; /* the writer's, also after a fork; its view is not used */
    struct cr_table_view reader;
    const void *map;
    size_t bytes;
    unsigned char *kept;
    unsigned pages[SEGMENT_PAGES_MAX]; /* those that are known to be written */
    unsigned page_count;
    /* Sessions that nobody asks for by name, to have neighbours everywhere. */
    unsigned crowd_count;
    uint16_t crowd_bytes[SEGMENT_CROWD_MAX]; /* of data */
    bool crowd_live[SEGMENT_CROWD_MAX];
};

/* A fresh table whose lease holds for CR_TABLE_FRESH_NS_MAX. False: said so. */
bool segment_init(struct segment *s);
void segment_fini(struct segment *s);

/* Memory that costs a fork nothing: it is shared. NULL: there is none. Given back by munmap. */
unsigned char *segment_bytes(size_t bytes);

/* The bytes as they are now are what segment_restore goes back to: only the memory that is shared.
 * So whoever writes it in between does so in another process. It goes back in the pages that some
 * segment_learn since then found to differ. */
void segment_keep(struct segment *s);
void segment_learn(struct segment *s);
void segment_restore(struct segment *s);

/* Acts in another process, and waits for its end. False: said so. */
bool segment_elsewhere(void (*act)(void *), void *context);

/* Insert sessions into the crowd: `bytes` of data, at most UINT16_MAX; each eighth 700. */
void segment_crowd(struct segment *s, unsigned count, size_t bytes);
/* Go on until the table is so full that inserting session SEGMENT_CROWD + crowd_count pushes out
 * one that lives; answers its place in the crowd. crowd_count itself when no insert does. */
unsigned segment_crowd_until_full(struct segment *s, size_t bytes);
void segment_crowd_entry(const struct segment *s, unsigned place, struct cr_entry *out);
/* End, in the table, the crowd's user of that place. */
void segment_crowd_end_user(struct segment *s, unsigned place);

/* What a reader with the clock at `now` finds of a session. */
bool segment_find(const struct segment *s, cr_boot_ns now, uint64_t number, struct cr_entry *out);
/* How many of the crowd do not answer as they must: those that live whole, the others with a miss.
 * Passed over: places with `skip`, if given. */
unsigned segment_crowd_wrong(const struct segment *s, cr_boot_ns now, const bool *skip);

#endif
