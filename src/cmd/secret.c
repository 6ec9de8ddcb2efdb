/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/secret.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/random.h"
#include "cmd/command.h"

#define MADE_CHARS 20

static volatile sig_atomic_t caught; /* a handler has nothing else to write to */

static void catch (int signal_number)
{
    caught = signal_number;
}

/* One line, without its end. */
static bool line_read(int fd, struct cr_secret *out)
{
    unsigned char c = 0;
    out->bytes = 0;
    while (caught == 0) {
        ssize_t got = read(fd, &c, 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got == 0 && out->bytes > 0;
        if (c == '\n')
            return true;
        if (out->bytes < sizeof out->text)
            out->text[out->bytes++] = c; /* one that is too long is told below */
    }
    return false;
}

static bool terminal_ask(const char *prompt, struct cr_secret *out)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    struct sigaction before[4];
    struct sigaction action = {.sa_handler = catch};
    struct termios kept;
    struct termios quiet;
    if (tcgetattr(STDIN_FILENO, &kept) != 0)
        return false;
    quiet = kept;
    quiet.c_lflag &= ~(tcflag_t)ECHO;
    caught = 0;
    for (size_t i = 0; i < 4; i++) {
        sigaction(signals[i], NULL, &before[i]);
        if (before[i].sa_handler != SIG_IGN)
            sigaction(signals[i], &action, NULL);
    }
    bool ok = tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet) == 0;
    fputs(prompt, stderr);
    ok = ok && line_read(STDIN_FILENO, out);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &kept);
    fputc('\n', stderr);
    for (size_t i = 0; i < 4; i++)
        sigaction(signals[i], &before[i], NULL);
    if (caught != 0)
        raise(caught);
    return ok;
}

static bool terminal_read(const char *prompt, struct cr_secret *out)
{
    struct cr_secret again = {0};
    bool ok = terminal_ask(prompt, out) && terminal_ask("The same again: ", &again);
    if (!ok)
        cr_complain("no password was given");
    else if (again.bytes != out->bytes || !cr_bytes_equal(again.text, out->text, out->bytes)) {
        cr_complain("the two passwords are not the same");
        ok = false;
    }
    cr_secret_wipe(&again);
    return ok;
}

static bool stdin_read(struct cr_secret *out)
{
    ssize_t got = 0;
    out->bytes = 0;
    while (out->bytes < sizeof out->text &&
           (got = read(STDIN_FILENO, out->text + out->bytes, sizeof out->text - out->bytes)) > 0)
        out->bytes += (size_t)got;
    if (got < 0) {
        cr_complain("standard input: %s", strerror(errno));
        return false;
    }
    if (out->bytes > 0 && out->text[out->bytes - 1] == '\n')
        out->bytes--;
    return true;
}

bool cr_secret_read(bool from_stdin, const char *prompt, struct cr_secret *out)
{
    bool ok = !from_stdin && isatty(STDIN_FILENO) ? terminal_read(prompt, out) : stdin_read(out);
    if (ok && out->bytes > CR_PASSWORD_BYTES_MAX) {
        cr_complain("a password has at most %d bytes", CR_PASSWORD_BYTES_MAX);
        ok = false;
    }
    if (!ok)
        cr_secret_wipe(out);
    return ok;
}

enum cr_status cr_secret_make(struct cr_secret *out)
{
    static const char letters[] = "abcdefghijkmnpqrstuvwxyz23456789"; /* 32: five bits each */
    enum cr_status st = cr_random_fill(cr_random_system(), out->text, MADE_CHARS);
    if (st != CR_OK)
        return st;
    for (size_t i = 0; i < MADE_CHARS; i++)
        out->text[i] = (unsigned char)letters[out->text[i] % 32];
    out->bytes = MADE_CHARS;
    return CR_OK;
}

void cr_secret_wipe(struct cr_secret *secret)
{
    cr_bytes_wipe(secret, sizeof *secret);
}
