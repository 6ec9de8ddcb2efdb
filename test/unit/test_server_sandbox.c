/* SPDX-License-Identifier: Apache-2.0 */
/* What a confined process can and cannot do. Each test confines a child, which answers by its exit
 * status. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/sandbox.h"
#include "tap.h"

#define NOT_CONFINED 100

static bool denied(long result)
{
    return result == -1 && errno == EPERM;
}

/* The number of the first thing that went the wrong way; 0: none. */
static int forbidden_tried(void)
{
    char name[] = "true";
    char *const argv[] = {name, NULL};
    if (!denied(open("/etc/passwd", O_RDONLY)))
        return 1;
    if (!denied(open("/tmp", O_TMPFILE | O_WRONLY, 0600)))
        return 2;
    if (!denied(socket(AF_INET, SOCK_STREAM, 0)) || !denied(socket(AF_UNIX, SOCK_STREAM, 0)))
        return 3;
    if (!denied(execv("/bin/true", argv)))
        return 4;
    if (!denied(fork()))
        return 5;
    if (mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED)
        return 6;
    if (!denied(unlink("/nowhere")) || !denied(chdir("/")))
        return 7;
    if (!denied(kill(getppid(), 0)))
        return 8;
    return 0;
}

static int allowed_tried(void)
{
    int ends[2];
    char byte = 'x';
    /* Made before, as everything that a worker has. */
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0 || cr_sandbox_enter() != CR_OK)
        return NOT_CONFINED;
    if (send(ends[0], &byte, 1, 0) != 1 || recv(ends[1], &byte, 1, 0) != 1)
        return 1;
    void *memory = malloc(1 << 20);
    if (memory == NULL)
        return 2;
    free(memory);
    return close(ends[0]) == 0 ? 0 : 3;
}

static int forbidden(void)
{
    return cr_sandbox_enter() == CR_OK ? forbidden_tried() : NOT_CONFINED;
}

/* By itself: what Landlock of a late kernel forbids as well. */
static int signals_tried(void)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0 || cr_sandbox_calls() != CR_OK)
        return NOT_CONFINED;
    if (!denied(syscall(SYS_tgkill, getppid(), getppid(), 0)))
        return 1;
    /* As the owner of a descriptor, one is sent its signal: F_SETSIG says which. */
    if (!denied(fcntl(ends[0], F_SETOWN, getppid())) || !denied(fcntl(ends[0], F_SETSIG, SIGKILL)))
        return 2;
    if (syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), 0) != 0)
        return 3;
    return fcntl(ends[0], F_SETFL, fcntl(ends[0], F_GETFL) | O_NONBLOCK) == 0 ? 0 : 4;
}

/* Landlock by itself, where it is: by its own errno, which is not seccomp's. */
static int files_tried(void)
{
    if (syscall(SYS_landlock_create_ruleset, NULL, 0, 1) < 1)
        return NOT_CONFINED;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    const struct sockaddr_in here = {.sin_family = AF_INET,
                                     .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (cr_sandbox_files() != CR_OK)
        return 1;
    if (open("/etc/passwd", O_RDONLY) != -1 || errno != EACCES)
        return 2;
    if (open("/tmp", O_TMPFILE | O_WRONLY, 0600) != -1 || errno != EACCES)
        return 3;
    if (syscall(SYS_landlock_create_ruleset, NULL, 0, 1) >= 4 &&
        (bind(fd, (const struct sockaddr *)&here, sizeof here) == 0 || errno != EACCES))
        return 4;
    return 0;
}

static int in_a_child(int (*run)(void))
{
    int status = 0;
    pid_t child = fork();
    if (child == 0)
        _exit(run());
    bool ended =
        CHECK(child > 0) && CHECK(waitpid(child, &status, 0) == child) && CHECK(WIFEXITED(status));
    return ended ? WEXITSTATUS(status) : -1;
}

static void a_confined_process_opens_nothing_and_starts_nothing(void)
{
    CHECK_INT(in_a_child(forbidden), 0);
}

static void a_confined_process_works_with_what_it_has(void)
{
    CHECK_INT(in_a_child(allowed_tried), 0);
}

static void a_confined_process_signals_itself_alone(void)
{
    CHECK_INT(in_a_child(signals_tried), 0);
}

static void files_are_closed_twice(void)
{
    int status = in_a_child(files_tried);
    if (status == NOT_CONFINED)
        tap_skip("the kernel has no Landlock");
    else
        CHECK_INT(status, 0);
}

static const struct tap_test tests[] = {
    TAP_TEST(a_confined_process_opens_nothing_and_starts_nothing),
    TAP_TEST(a_confined_process_works_with_what_it_has),
    TAP_TEST(a_confined_process_signals_itself_alone),
    TAP_TEST(files_are_closed_twice),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
