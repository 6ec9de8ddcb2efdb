/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a worker may ask of the kernel once it serves. It reads what strangers send: whoever takes
 * it over finds a process that can open no file, make no socket but accept one, start no program
 * and make no memory executable. What it holds already (its connections, the agent's socket) it
 * keeps.
 */
#ifndef SERVER_SANDBOX_H
#define SERVER_SANDBOX_H

#include <cloakroom/types.h>

/* For good, and for all that this process does from now on. CR_UNAVAILABLE: this kernel, or what
 * confines us already, does not let us. Does nothing in a sanitizer build, whose run-time needs
 * more. */
CR_MUST_CHECK enum cr_status cr_sandbox_enter(void);

/* The part of it that Landlock does: no file can be opened, no port be bound or connected to. CR_OK
 * also where the kernel has no Landlock: the other part, which is always there, forbids the same.
 */
CR_MUST_CHECK enum cr_status cr_sandbox_files(void);

/* The part that seccomp does: on a kernel whose Landlock knows nothing of signals (before 6.12) it
 * alone keeps them from other processes. */
CR_MUST_CHECK enum cr_status cr_sandbox_calls(void);

#endif
