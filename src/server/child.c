/* SPDX-License-Identifier: Apache-2.0 */
/* Starting processes and noticing their end. Knows nothing of what they do. */
#include "server/child.h"

#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/capability.h>

#include "base/assert.h"

#define INHERITED_FD 3
#define YOUNG_MS 10000
#define DELAY_MS 100
#define DELAY_MS_MAX 5000

/* Where the present program is, also once another version has taken its place on disk. */
static const char *program_path(const char *program, char *buffer, size_t capacity)
{
    static const char self[] = "/proc/self/exe";
    if (program != NULL)
        return program;
    ssize_t count = readlink(self, buffer, capacity - 1);
    if (count <= 0)
        return self;
    buffer[count] = '\0';
    return access(buffer, X_OK) == 0 ? buffer : self;
}

bool cr_child_user_allowed(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {0};
    const unsigned wanted = 1U << CAP_SETUID | 1U << CAP_SETGID;
    return syscall(SYS_capget, &header, data) == 0 && (data[0].effective & wanted) == wanted;
}

/* Capabilities that a service manager gave us as another user than root would outlast exec. */
static bool rights_drop(const struct cr_child_user *user)
{
    if (user != NULL && (initgroups(user->name, user->gid) != 0 ||
                         setresgid(user->gid, user->gid, user->gid) != 0 ||
                         setresuid(user->uid, user->uid, user->uid) != 0))
        return false;
    return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) == 0 &&
           prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
}

_Noreturn static void child_become(const struct cr_child_command *command, const char *path,
                                   pid_t parent)
{
    sigset_t none;
    int input = command->input >= 0 ? command->input : open("/dev/null", O_RDONLY | O_CLOEXEC);
    /* First: the kernel forgets the signal when the user changes. That before it is looked whether
     * the parent is still there: one of the two notices its death. */
    if (!rights_drop(command->user) || prctl(PR_SET_PDEATHSIG, command->death_signal) != 0 ||
        getppid() != parent)
        _exit(127);
    (void)setpgid(0, 0);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)signal(SIGPIPE, SIG_DFL);
    /* Out of the way first: the one may stand where the other goes. */
    int inherited = fcntl(command->inherited, F_DUPFD, INHERITED_FD + 1);
    if (inherited < 0 || dup2(input, STDIN_FILENO) < 0 || dup2(inherited, INHERITED_FD) < 0)
        _exit(127);
    (void)close_range(INHERITED_FD + 1, UINT_MAX, 0);
    /* execv changes nothing, but its declaration is older than const. */
    union {
        const char *const *ours;
        char *const *theirs;
    } arguments = {command->arguments};
    execv(path, arguments.theirs);
    _exit(127);
}

enum cr_status cr_child_start(struct cr_child *child, const struct cr_child_command *command,
                              cr_boot_ns now)
{
    char buffer[PATH_MAX];
    CR_ASSERT(child->pid == 0);
    const char *path = program_path(command->program, buffer, sizeof buffer);
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid < 0)
        return CR_E_IO;
    if (pid == 0)
        child_become(command, path, parent);
    child->pid = pid;
    child->since = now;
    return CR_OK;
}

bool cr_child_ended(struct cr_child *child, cr_boot_ns now, int *out_status)
{
    if (child->pid == 0 || waitpid(child->pid, out_status, WNOHANG) != child->pid)
        return false;
    bool young = cr_boot_between(child->since, now) < YOUNG_MS;
    cr_span_ms delay = 0;
    child->pid = 0;
    child->failures = young ? child->failures + 1 : 0;
    if (child->failures > 1) {
        unsigned doublings = child->failures < 10 ? child->failures - 2 : 8;
        delay = (cr_span_ms)DELAY_MS << doublings;
    }
    child->due = cr_boot_add(now, delay < DELAY_MS_MAX ? delay : DELAY_MS_MAX);
    return true;
}

void cr_child_how(int status, char *out, size_t capacity)
{
    if (WIFSIGNALED(status))
        (void)snprintf(out, capacity, "signal %d", WTERMSIG(status));
    else
        (void)snprintf(out, capacity, "exit code %d", WEXITSTATUS(status));
}
