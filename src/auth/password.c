/* SPDX-License-Identifier: Apache-2.0 */
#include "auth/password.h"

#include <string.h>

#include "auth/common.h"
#include "base/bytes.h"

#define PIECE_BYTES_MAX 4 /* repeated, these are no password, whatever they are */
#define RUN_BYTES_MIN 3   /* of neighbours, such as 123, cba or wer */
#define SIGNS_MAX 8       /* so few digits, signs and blanks add nothing to a word */
#define SERVICE "cloakroom"

unsigned cr_password_chars_min(const struct cr_password_rules *rules)
{
    return rules->chars_min != 0 ? rules->chars_min : CR_PASSWORD_CHARS_MIN;
}

void cr_password_fold(unsigned char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (text[i] >= 'A' && text[i] <= 'Z')
            text[i] = (unsigned char)(text[i] - 'A' + 'a');
}

/* Characters, not bytes: those that continue a UTF-8 character do not count. */
static size_t chars_of(const unsigned char *password, size_t bytes)
{
    size_t chars = 0;
    for (size_t i = 0; i < bytes; i++)
        chars += (password[i] & 0xc0) != 0x80;
    return chars;
}

/* The shortest beginning that makes all of it when it is repeated, at least once whole; else all.
 */
static size_t piece_of(const unsigned char *text, size_t bytes)
{
    for (size_t piece = 1; piece <= bytes / 2; piece++)
        if (memcmp(text, text + piece, bytes - piece) == 0)
            return piece;
    return bytes;
}

/* ---- runs: the same again, the alphabet, digits, rows and columns of keyboards, either way */

static const char *const rows[] = {"abcdefghijklmnopqrstuvwxyz",
                                   "01234567890-=",
                                   "qwertyuiop[]",
                                   "asdfghjkl;'",
                                   "zxcvbnm,./",
                                   "qwertzuiop",
                                   "yxcvbnm",
                                   "azertyuiop",
                                   "qsdfghjklm",
                                   "wxcvbn",
                                   "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p"};

/* How many bytes at the beginning of `text` follow the row from `at` on, in steps of `step`. */
static size_t row_follow(const char *row, const char *at, int step, const unsigned char *text,
                         size_t bytes)
{
    size_t count = 0;
    while (count < bytes && *at != '\0' && (unsigned char)*at == text[count]) {
        count++;
        if (step < 0 && at == row)
            break;
        at += step;
    }
    return count;
}

/* The length of the run that `text` begins with; 1: none. */
static size_t run_of(const unsigned char *text, size_t bytes)
{
    size_t best = 1;
    while (best < bytes && text[best] == text[0])
        best++;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (const char *at = rows[i]; *at != '\0'; at++) {
            size_t up = row_follow(rows[i], at, 1, text, bytes);
            size_t down = row_follow(rows[i], at, -1, text, bytes);
            best = up > best ? up : best;
            best = down > best ? down : best;
        }
    }
    return best;
}

/* What is left of `text` without its runs, in its place; how many bytes that is. */
static size_t runs_drop(unsigned char *text, size_t bytes)
{
    size_t left = 0;
    for (size_t i = 0; i < bytes;) {
        size_t run = run_of(text + i, bytes - i);
        if (run < RUN_BYTES_MIN)
            text[left++] = text[i++];
        else
            i += run;
    }
    return left;
}

/* ---- words */

/* Digits, signs and blanks; bytes beyond ASCII are letters. */
static bool is_sign(unsigned char byte)
{
    return byte < 0x80 && !(byte >= 'a' && byte <= 'z');
}

/* What is left of `text` without them, in its place; how many bytes that is. */
static size_t signs_drop(unsigned char *text, size_t bytes)
{
    size_t left = 0;
    for (size_t i = 0; i < bytes; i++)
        if (!is_sign(text[i]))
            text[left++] = text[i];
    return left;
}

/* Also when signs in it were left out. */
static bool is_name(const void *name, size_t name_bytes, const unsigned char *folded, size_t bytes)
{
    unsigned char own[CR_USER_BYTES_MAX];
    if (name_bytes > sizeof own || bytes == 0)
        return false;
    memcpy(own, name, name_bytes);
    cr_password_fold(own, name_bytes);
    if (name_bytes == bytes && memcmp(own, folded, bytes) == 0)
        return true;
    return signs_drop(own, name_bytes) == bytes && memcmp(own, folded, bytes) == 0;
}

static enum cr_status word_judge(const struct cr_password_rules *rules, const struct cr_user *user,
                                 const unsigned char *folded, size_t bytes)
{
    const char *realm = rules->realm != NULL ? rules->realm : SERVICE;
    if (is_name(user->bytes, user->length, folded, bytes))
        return CR_PASSWORD_KNOWN;
    return is_name(SERVICE, sizeof SERVICE - 1, folded, bytes) ||
                   is_name(realm, strlen(realm), folded, bytes) ||
                   cr_common_has(rules->common, folded, bytes)
               ? CR_PASSWORD_COMMON
               : CR_OK;
}

/* Nothing but what everybody tries, once or over and over. */
static enum cr_status whole_judge(const struct cr_password_rules *rules, const struct cr_user *user,
                                  const unsigned char *folded, size_t bytes)
{
    enum cr_status st = CR_OK;
    size_t piece = piece_of(folded, bytes);
    /* Whatever it is that is repeated; at last, all of it. */
    for (size_t most = piece; st == CR_OK && most > 0 && most <= bytes; most += piece)
        st = word_judge(rules, user, folded, most);
    if (st == CR_OK)
        st = word_judge(rules, user, folded, bytes);
    return st == CR_OK && piece <= PIECE_BYTES_MAX ? CR_PASSWORD_COMMON : st;
}

/* As it is, and without the few signs that are in it. */
static enum cr_status signs_judge(const struct cr_password_rules *rules, const struct cr_user *user,
                                  const unsigned char *folded, size_t bytes)
{
    unsigned char letters[CR_PASSWORD_BYTES_MAX];
    enum cr_status st = whole_judge(rules, user, folded, bytes);
    memcpy(letters, folded, bytes);
    size_t left = signs_drop(letters, bytes);
    if (st == CR_OK && left > 0 && bytes - left <= SIGNS_MAX)
        st = whole_judge(rules, user, letters, left);
    cr_bytes_wipe(letters, sizeof letters);
    return st;
}

enum cr_status cr_password_judge(const struct cr_password_rules *rules, const struct cr_user *user,
                                 const void *password, size_t bytes)
{
    unsigned char folded[CR_PASSWORD_BYTES_MAX];
    enum cr_status st = CR_OK;
    if (bytes > sizeof folded)
        return CR_E_LIMIT;
    if (bytes == 0 || chars_of(password, bytes) < cr_password_chars_min(rules))
        return CR_PASSWORD_SHORT;
    memcpy(folded, password, bytes);
    cr_password_fold(folded, bytes);
    st = signs_judge(rules, user, folded, bytes);
    size_t left = runs_drop(folded, bytes);
    if (st == CR_OK && left <= PIECE_BYTES_MAX)
        st = CR_PASSWORD_COMMON;
    if (st == CR_OK)
        st = signs_judge(rules, user, folded, left);
    cr_bytes_wipe(folded, sizeof folded);
    return st;
}
