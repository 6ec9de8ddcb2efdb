/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines for people who run the daemon: to standard error, one line each, JSON when asked. Control
 * bytes are escaped, so nothing that came from outside can forge a line. Never give it a secret.
 * Library code does not log: it returns.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdarg.h>
#include <stdbool.h>

enum cr_log_level { CR_LOG_DEBUG, CR_LOG_INFO, CR_LOG_WARN, CR_LOG_ERROR };

/* Once, at start of the process. `who` is a word such as "agent"; kept, not copied. */
void cr_log_open(const char *who, enum cr_log_level least, bool json);
void cr_log(enum cr_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
