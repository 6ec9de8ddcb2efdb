/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two walls. Landlock takes away what lies in files and behind ports, whichever call asks for it;
 * seccomp has a list of the calls that are allowed, and everything else fails with EPERM, as it
 * would for lack of permission, so that a call somewhere in a library that we did not think of
 * fails rather than kills.
 */
#include "server/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <linux/landlock.h>

/* Names that an architecture does not have are passed over. */
static const char *const allowed[] = {
    /* descriptors that are there already, or come over one */
    "read",
    "readv",
    "write",
    "writev",
    "recvfrom",
    "recvmsg",
    "sendto",
    "sendmsg",
    "close",
    "shutdown",
    "accept",
    "accept4",
    "fstat",
    "fstatfs",
    "newfstatat",
    "statx",
    "lseek",
    "getsockname",
    "getpeername",
    "getsockopt",
    "setsockopt",
    /* waiting */
    "poll",
    "ppoll",
    "epoll_create1",
    "epoll_ctl",
    "epoll_wait",
    "epoll_pwait",
    "eventfd2",
    "timerfd_create",
    "timerfd_settime",
    "timerfd_gettime",
    "futex",
    "nanosleep",
    "clock_nanosleep",
    "restart_syscall",
    "sched_yield",
    /* memory; the two that can make it executable are below, as is what signals others */
    "brk",
    "munmap",
    "mremap",
    "madvise",
    "membarrier",
    /* time, chance, oneself */
    "clock_gettime",
    "gettimeofday",
    "time",
    "getrandom",
    "getpid",
    "gettid",
    "getuid",
    "geteuid",
    "rseq",
    "sched_getaffinity",
    /* signals and the end, an abort included */
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sigaltstack",
    "exit",
    "exit_group",
};

#ifdef CR_SANITIZED
#define SANITIZED true
#else
#define SANITIZED false
#endif

/* fcntl's commands. Not those that have a descriptor's signal sent to whomever one likes. */
static const int commands[] = {F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC, F_GET_SEALS};

/* What needs a look at its words. */
static int bounded_rules_add(scmp_filter_ctx filter)
{
    /* An abort is a signal to oneself. */
    int result =
        seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
                         SCMP_A0(SCMP_CMP_MASKED_EQ, UINT32_MAX, (scmp_datum_t)(uint32_t)getpid()));
    for (size_t i = 0; i < sizeof commands / sizeof commands[0] && result == 0; i++)
        result = seccomp_rule_add(
            filter, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1,
            SCMP_A1(SCMP_CMP_MASKED_EQ, UINT32_MAX, (scmp_datum_t)(uint32_t)commands[i]));
    return result;
}

static int rules_add(scmp_filter_ctx filter)
{
    static const char *const without_exec[] = {"mmap", "mprotect"};
    int result = 0;
    for (size_t i = 0; i < sizeof allowed / sizeof allowed[0] && result == 0; i++) {
        int number = seccomp_syscall_resolve_name(allowed[i]);
        if (number != __NR_SCMP_ERROR)
            result = seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 0);
    }
    for (size_t i = 0; i < sizeof without_exec / sizeof without_exec[0] && result == 0; i++)
        result =
            seccomp_rule_add(filter, SCMP_ACT_ALLOW, seccomp_syscall_resolve_name(without_exec[i]),
                             1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    return result == 0 ? bounded_rules_add(filter) : result;
}

/* struct landlock_ruleset_attr as later kernels have it; an earlier one is told a shorter size.
 * Documentation/userspace-api/landlock.rst has which version knows what. */
struct ruleset {
    uint64_t files, ports, scopes;
};

static struct ruleset ruleset_for(long version, size_t *out_bytes)
{
    unsigned kinds = version >= 5 ? 16 : version >= 3 ? 15 : version == 2 ? 14 : 13;
    *out_bytes = version >= 6   ? sizeof(struct ruleset)
                 : version >= 4 ? offsetof(struct ruleset, scopes)
                                : offsetof(struct ruleset, ports);
    return (struct ruleset){
        .files = (1ULL << kinds) - 1,
        .ports = 3,  /* to bind to one, to connect to one */
        .scopes = 3, /* abstract sockets and signals of others */
    };
}

enum cr_status cr_sandbox_files(void)
{
    size_t bytes;
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (version < 1)
        return CR_OK; /* Linux before 5.13, or not switched on */
    /* All that it can take away, and no rule that gives something back. */
    struct ruleset nothing = ruleset_for(version, &bytes);
    int fd = (int)syscall(SYS_landlock_create_ruleset, &nothing, bytes, 0);
    bool confined = fd >= 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
                    syscall(SYS_landlock_restrict_self, fd, 0) == 0;
    if (fd >= 0)
        close(fd);
    return confined ? CR_OK : CR_UNAVAILABLE;
}

enum cr_status cr_sandbox_calls(void)
{
    if (SANITIZED) /* the sanitizer's own calls are not ours to list */
        return CR_OK;
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (filter == NULL)
        return CR_E_NO_MEMORY;
    int result = rules_add(filter);
    if (result == 0)
        result = seccomp_load(filter);
    seccomp_release(filter);
    return result == 0 ? CR_OK : CR_UNAVAILABLE;
}

enum cr_status cr_sandbox_enter(void)
{
    if (SANITIZED)
        return CR_OK;
    /* The time zone's file is read once, by whoever asks for a date first. */
    tzset();
    enum cr_status st = cr_sandbox_files();
    return st == CR_OK ? cr_sandbox_calls() : st;
}
