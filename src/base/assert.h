/* SPDX-License-Identifier: Apache-2.0 */
/* CR_ASSERT: for our own mistakes only; stays on in release builds. Bytes from outside get a
 * status. */
#ifndef BASE_ASSERT_H
#define BASE_ASSERT_H

_Noreturn void cr_assert_fail(const char *expression, const char *file, int line);

#define CR_ASSERT(expression)                                                                      \
    ((expression) ? (void)0 : cr_assert_fail(#expression, __FILE__, __LINE__))

#endif
