/* SPDX-License-Identifier: Apache-2.0 */
#include "stepped.h"

#include <elf.h>
#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tap.h"

#define OPTIONS (PTRACE_O_EXITKILL | PTRACE_O_TRACEFORK)
#define COPY_FLAGS (CLONE_PARENT | SIGCHLD) /* a copy is the test's own child, as the child is */

/* One system call and nothing else, in every child at the same address as here. */
extern const char stepped_call_site[];

#if defined(__x86_64__)
__asm__(".pushsection .text\n.globl stepped_call_site\n.hidden stepped_call_site\n"
        "stepped_call_site: syscall\nint3\n.popsection");
typedef struct user_regs_struct registers;

static void registers_fork(registers *regs)
{
    regs->rip = (unsigned long)stepped_call_site;
    regs->rax = SYS_clone;
    regs->orig_rax = (unsigned long)-1; /* in no system call that would be begun again */
    regs->rdi = COPY_FLAGS;
    regs->rsi = regs->rdx = regs->r10 = regs->r8 = 0;
}
#define CAN_COPY true
#elif defined(__aarch64__)
__asm__(".pushsection .text\n.globl stepped_call_site\n.hidden stepped_call_site\n"
        "stepped_call_site: svc #0\nbrk #0\n.popsection");
typedef struct user_regs_struct registers;

static void registers_fork(registers *regs)
{
    regs->pc = (unsigned long)stepped_call_site;
    regs->regs[8] = SYS_clone;
    regs->regs[0] = COPY_FLAGS;
    regs->regs[1] = regs->regs[2] = regs->regs[3] = regs->regs[4] = 0;
}
#define CAN_COPY true
#else
const char stepped_call_site[1];
typedef struct {
    char unused;
} registers;

static void registers_fork(registers *regs)
{
}
#define CAN_COPY false
#endif

static bool registers_get(pid_t pid, registers *out)
{
    struct iovec vector = {.iov_base = out, .iov_len = sizeof *out};
    return ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &vector) == 0;
}

static bool registers_set(pid_t pid, registers *regs)
{
    struct iovec vector = {.iov_base = regs, .iov_len = sizeof *regs};
    return ptrace(PTRACE_SETREGSET, pid, NT_PRSTATUS, &vector) == 0;
}

/* Waits until it has stopped or ended. False: ended. */
static bool stopped_wait(struct stepped *child)
{
    pid_t got;
    do
        got = waitpid(child->pid, &child->status, __WALL);
    while (got < 0 && errno == EINTR);
    if (got == child->pid && WIFSTOPPED(child->status))
        return true;
    child->pid = 0;
    return false;
}

/* Goes on, with the signal that it stopped for if that was not ours. False: ended. */
static bool resume(struct stepped *child, int request)
{
    int signal_number = WSTOPSIG(child->status);
    bool is_ours = signal_number == SIGTRAP || signal_number == SIGSTOP;
    long delivered = is_ours ? 0 : signal_number;
    /* ESRCH: killed just now; the wait tells. */
    (void)ptrace((enum __ptrace_request)request, child->pid, NULL, delivered);
    return stopped_wait(child);
}

static bool start(struct stepped *child, void (*run)(void *), void *context)
{
    memset(child, 0, sizeof *child);
    child->pid = fork();
    if (child->pid == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
            _exit(99);
        (void)raise(SIGSTOP);
        run(context);
        _exit(0);
    }
    return child->pid > 0 && stopped_wait(child) &&
           ptrace(PTRACE_SETOPTIONS, child->pid, NULL, OPTIONS) == 0;
}

bool stepped_start(struct stepped *child, void (*run)(void *), void *context)
{
    return CHECK(start(child, run, context));
}

bool stepped_step(struct stepped *child)
{
    return resume(child, PTRACE_SINGLESTEP);
}

bool stepped_go(struct stepped *child)
{
    while (resume(child, PTRACE_CONT))
        if (WSTOPSIG(child->status) == SIGSTOP)
            return true;
    return false;
}

bool stepped_finish(struct stepped *child)
{
    while (resume(child, PTRACE_CONT))
        ;
    return WIFEXITED(child->status) && WEXITSTATUS(child->status) == 0;
}

void stepped_kill(struct stepped *child)
{
    if (child->pid == 0)
        return;
    (void)kill(child->pid, SIGKILL);
    while (stopped_wait(child))
        ;
}

/* It stands at the event of its fork: its copy's id, and then on to the end of the call. */
static bool copy_born(struct stepped *parent, struct stepped *out_copy)
{
    unsigned long pid = 0;
    if (parent->status >> 8 != (SIGTRAP | PTRACE_EVENT_FORK << 8) ||
        ptrace(PTRACE_GETEVENTMSG, parent->pid, NULL, &pid) != 0)
        return false;
    memset(out_copy, 0, sizeof *out_copy);
    out_copy->pid = (pid_t)pid;
    return stopped_wait(out_copy) && resume(parent, PTRACE_SINGLESTEP);
}

static bool copy(const struct stepped *child, struct stepped *out_copy)
{
    struct stepped parent = *child;
    registers before, lent;
    if (!registers_get(parent.pid, &before))
        return false;
    lent = before;
    registers_fork(&lent);
    bool born = registers_set(parent.pid, &lent) && resume(&parent, PTRACE_SINGLESTEP) &&
                copy_born(&parent, out_copy);
    return born && registers_set(out_copy->pid, &before) && registers_set(parent.pid, &before);
}

bool stepped_copy(const struct stepped *child, struct stepped *out_copy)
{
    return CHECK(copy(child, out_copy));
}

static void trial_run(void *context)
{
    volatile int *turns = context;
    for (int i = 0; i < 100; i++)
        (*turns)++;
}

const char *stepped_refused(void)
{
    static int turns;
    const char *why = NULL;
    struct stepped child = {0}, other = {0};
    if (!CAN_COPY)
        return "what is done with ptrace is written for x86-64 and aarch64 only";
    if (!start(&child, trial_run, &turns) || !stepped_step(&child))
        why = "ptrace is not permitted here";
    else if (!copy(&child, &other))
        why = "a process under ptrace cannot be made to fork here";
    stepped_kill(&other);
    stepped_kill(&child);
    return why;
}

bool stepped_seize(struct stepped *thread, pid_t pid)
{
    memset(thread, 0, sizeof *thread);
    thread->pid = pid;
    return ptrace(PTRACE_SEIZE, pid, NULL, PTRACE_O_EXITKILL) == 0 &&
           ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) == 0 && stopped_wait(thread);
}

void stepped_release(struct stepped *thread)
{
    if (thread->pid != 0)
        (void)ptrace(PTRACE_DETACH, thread->pid, NULL, NULL);
    thread->pid = 0;
}
