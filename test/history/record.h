/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a process of a history writes down: lines of text, as README.md explains them. One record
 * for each thread. An operation that changes something is announced before it begins, so that a
 * process which is killed leaves behind what it was about to do.
 */
#ifndef RECORD_H
#define RECORD_H

#include <stdint.h>

#include <cloakroom/cloakroom.h>

#define RECORD_ANSWER_MAX 512

/* An unbroken run of the same answers: only the first and the last are written, as whatever the
 * others would show, one of these two shows (README.md). */
struct record_run {
    uint64_t first_start, first_end, last_start, last_end;
    unsigned long count;
    char answer[RECORD_ANSWER_MAX];
};

struct record {
    int fd;
    unsigned long number;
    struct record_run run;
    size_t used;
    char text[8192];
};

/* Opens a new file `name` in `directory`; `host` is whose table the process reads. */
bool record_open(struct record *record, const char *directory, const char *name, const char *host);
void record_close(struct record *record);

/* The one clock of a history: CLOCK_MONOTONIC, nanoseconds. */
uint64_t record_now(void);

/* Writes and takes the time: the operation begins after it. The number is for record_ended. */
unsigned long record_began(struct record *record, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Takes the time first. `more` follows the status: name=value. */
void record_ended(struct record *record, unsigned long number, enum cr_status status,
                  const char *format, ...) __attribute__((format(printf, 4, 5)));
/* One answer of a validation; written when the run that it belongs to is over. */
void record_saw(struct record *record, uint64_t start, uint64_t end, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void record_run_over(struct record *record);

/* Bytes that say whether they are whole: `value` over and over. Gives the count, below capacity.
 */
size_t record_bytes_make(const char *value, unsigned times, char *out, size_t capacity);
/* The value that they were made of; "TORN" when they are not whole, "-" when there are none. */
const char *record_bytes_value(const void *bytes, size_t count, char out[64]);
/* A user's name; "TORN" when it is none that a word of a line could be, "-" when it is empty. */
const char *record_user(const struct cr_user *user, char out[CR_USER_BYTES_MAX + 1]);

#endif
