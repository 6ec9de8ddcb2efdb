/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the targets of test_fuzz_inputs have in common. A target takes any bytes, calls what is
 * under test and asks more of it than to live: that what is taken is canonical, that it can be
 * written and read again, that a second reader reads the same.
 */
#ifndef FUZZ_FUZZ_H
#define FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FUZZ_INPUT_BYTES_MAX ((size_t)4096)

struct fuzz_target {
    const char *name;         /* its corpus is corpus/NAME */
    const char *const *words; /* that chance would hardly find; ends with NULL. NULL: none */
    bool (*begin)(void);      /* once, before the first input; NULL: nothing to do */
    void (*one)(const unsigned char *data, size_t bytes);
};

extern const struct fuzz_target fuzz_admission, fuzz_cookie, fuzz_form, fuzz_json, fuzz_rows,
    fuzz_settings, fuzz_token, fuzz_wire;

/* Ends the process: the fuzzer then keeps the input. */
_Noreturn void fuzz_fail(const char *what);
/* Inline, so that an analyser sees what follows from it. */
static inline void fuzz_must(bool holds, const char *what)
{
    if (!holds)
        fuzz_fail(what);
}
/* Counts the input as one that was taken, or was refused: a target must see both. */
void fuzz_taken(void);
void fuzz_refused(void);

/* ---- reading an input as a list of small decisions; past its end all are 0 */

struct fuzz_input {
    const unsigned char *bytes;
    size_t left;
};
uint8_t fuzz_u8(struct fuzz_input *input);
uint64_t fuzz_u64(struct fuzz_input *input);
/* Up to `most` bytes; fewer at the end. */
const unsigned char *fuzz_bytes(struct fuzz_input *input, size_t most, size_t *out_count);
/* What stands before the next `end`, which is taken too; the rest where there is none. False:
 * nothing is left. */
bool fuzz_piece(struct fuzz_input *input, unsigned char end, const char **out, size_t *out_count);

#endif
