/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process that was taken over: its first thread is held by ptrace and does what it is told, as if
 * the code were its own, under whatever confines it. Tests in Python drive it (test_takeover.py).
 *
 *     puppet PID
 *
 * Lines, each answered by one; numbers in any form that C has:
 *
 *     call NUMBER [ARGUMENT...]   a system call: what it returned (-errno when it failed)
 *     peek ADDRESS COUNT          bytes, in hex
 *     poke ADDRESS HEX            ok
 *     store ADDRESS               a store instruction to that address: ok, or the signal's number
 *
 * "ready" comes first, or "cannot: WHY". At the end of input the process goes on where it was.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define LINE_BYTES 65536
#define ARGUMENTS 6

static pid_t pid;
static int memory = -1; /* /proc/PID/mem */

static _Noreturn void cannot(const char *why)
{
    printf("cannot: %s (%s)\n", why, strerror(errno));
    exit(1);
}

#if defined(__x86_64__)

typedef struct user_regs_struct registers;
static const unsigned char call_code[] = {0x0f, 0x05};        /* syscall */
static const unsigned char store_code[] = {0x48, 0x89, 0x07}; /* mov %rax, (%rdi) */
static uint64_t call_at, store_at;

static void registers_get(registers *out)
{
    struct iovec vector = {.iov_base = out, .iov_len = sizeof *out};
    if (ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &vector) != 0)
        cannot("its registers");
}

static void registers_set(registers *regs)
{
    struct iovec vector = {.iov_base = regs, .iov_len = sizeof *regs};
    if (ptrace(PTRACE_SETREGSET, pid, NT_PRSTATUS, &vector) != 0)
        cannot("its registers");
}

/* Until it has stopped: by which signal. */
static int stop_wait(void)
{
    int status;
    while (waitpid(pid, &status, __WALL) < 0)
        if (errno != EINTR)
            cannot("waiting");
    if (!WIFSTOPPED(status)) {
        errno = 0;
        cannot("it has ended");
    }
    return WSTOPSIG(status);
}

/* One instruction with these registers, which come back as it left them; its own are put back. The
 * signal that stopped it: SIGTRAP when all went well. */
static int step_with(registers *regs)
{
    registers own;
    registers_get(&own);
    registers_set(regs);
    if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) != 0)
        cannot("a step");
    int signal_number = stop_wait();
    registers_get(regs);
    registers_set(&own);
    return signal_number;
}

static registers registers_at(uint64_t code)
{
    registers regs;
    registers_get(&regs);
    regs.rip = code;
    regs.orig_rax = (unsigned long)-1; /* in no system call that would be begun again */
    return regs;
}

static int64_t call(const uint64_t words[1 + ARGUMENTS])
{
    registers regs = registers_at(call_at);
    regs.rax = words[0];
    regs.rdi = words[1];
    regs.rsi = words[2];
    regs.rdx = words[3];
    regs.r10 = words[4];
    regs.r8 = words[5];
    regs.r9 = words[6];
    (void)step_with(&regs);
    return (int64_t)regs.rax;
}

static int store(uint64_t address)
{
    registers regs = registers_at(store_at);
    regs.rdi = address;
    regs.rax = UINT64_MAX;
    return step_with(&regs);
}

/* Where the code stands in what the process may execute; 0: nowhere. */
static uint64_t code_find(const unsigned char *code, size_t bytes)
{
    char path[64], line[512];
    uint64_t found = 0;
    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    FILE *maps = fopen(path, "r");
    while (found == 0 && maps != NULL && fgets(line, sizeof line, maps) != NULL) {
        char *next = line; /* "from-to r-xp ..." */
        uint64_t from = strtoull(next, &next, 16);
        uint64_t to = *next == '-' ? strtoull(next + 1, &next, 16) : 0;
        if (to <= from || strlen(next) < 4 || next[3] != 'x' || strstr(line, "[v") != NULL)
            continue;
        unsigned char *copy = malloc(to - from);
        ssize_t got = copy == NULL ? -1 : pread(memory, copy, to - from, (off_t)from);
        const unsigned char *at = got > 0 ? memmem(copy, (size_t)got, code, bytes) : NULL;
        if (at != NULL)
            found = from + (uint64_t)(at - copy);
        free(copy);
    }
    if (maps != NULL)
        fclose(maps);
    return found;
}

static void take_over(void)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", (int)pid);
    if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) != 0 ||
        ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) != 0)
        cannot("ptrace");
    (void)stop_wait();
    memory = open(path, O_RDWR | O_CLOEXEC);
    if (memory < 0)
        cannot(path);
    call_at = code_find(call_code, sizeof call_code);
    store_at = code_find(store_code, sizeof store_code);
    if (call_at == 0 || store_at == 0)
        cannot("its code");
}

#else

static int64_t call(const uint64_t words[1 + ARGUMENTS])
{
    return -ENOSYS;
}

static int store(uint64_t address)
{
    return 0;
}

static void take_over(void)
{
    errno = ENOSYS;
    cannot("this processor's registers are not known here");
}

#endif

static void peek(uint64_t address, uint64_t count)
{
    static unsigned char bytes[LINE_BYTES / 2];
    ssize_t got = pread(memory, bytes, count < sizeof bytes ? count : sizeof bytes, (off_t)address);
    for (ssize_t i = 0; i < got; i++)
        printf("%02x", bytes[i]);
    printf("\n");
}

static void poke(uint64_t address, const char *hex)
{
    static unsigned char bytes[LINE_BYTES / 2];
    size_t count = 0;
    for (; count < sizeof bytes && hex[0] != '\0' && hex[1] != '\0'; hex += 2) {
        const char byte[3] = {hex[0], hex[1], '\0'};
        bytes[count++] = (unsigned char)strtoul(byte, NULL, 16);
    }
    printf("%s\n",
           pwrite(memory, bytes, count, (off_t)address) == (ssize_t)count ? "ok" : "cannot");
}

static void line_do(char *line)
{
    uint64_t words[1 + ARGUMENTS] = {0};
    char *next = NULL;
    const char *what = strtok_r(line, " \n", &next);
    const char *word = strtok_r(NULL, " \n", &next);
    words[0] = word != NULL ? strtoull(word, NULL, 0) : 0;
    if (what != NULL && strcmp(what, "poke") == 0) {
        word = strtok_r(NULL, " \n", &next);
        poke(words[0], word != NULL ? word : "");
        return;
    }
    for (size_t i = 1; i <= ARGUMENTS && (word = strtok_r(NULL, " \n", &next)) != NULL; i++)
        words[i] = word[0] == '-' ? (uint64_t)strtoll(word, NULL, 0) : strtoull(word, NULL, 0);
    if (what != NULL && strcmp(what, "peek") == 0) {
        peek(words[0], words[1]);
    } else if (what != NULL && strcmp(what, "store") == 0) {
        int signal_number = store(words[0]);
        if (signal_number == SIGTRAP)
            printf("ok\n");
        else
            printf("%d\n", signal_number);
    } else if (what != NULL && strcmp(what, "call") == 0) {
        printf("%" PRId64 "\n", call(words));
    } else {
        printf("what?\n");
    }
}

int main(int argc, char **argv)
{
    static char line[LINE_BYTES];
    if (argc != 2)
        return 2;
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    pid = (pid_t)strtol(argv[1], NULL, 10);
    take_over();
    printf("ready\n");
    while (fgets(line, sizeof line, stdin) != NULL)
        line_do(line);
    return ptrace(PTRACE_DETACH, pid, NULL, NULL) == 0 ? 0 : 1;
}
