/* SPDX-License-Identifier: Apache-2.0 */
/* `cloakroom user import`: accounts with the hashes of another system. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cloakroom/store.h>

#include "auth/foreign.h"
#include "base/bytes.h"
#include "cmd/command.h"
#include "room/room.h"

#define ENTRIES_MAX 1000000
#define LINE_BYTES_MAX 4096
#define COMPLAINTS_MAX 20
#define PROGRESS_FROM 1000

enum { KEY_SKIP = 0x200 };

struct entry {
    struct cr_user user;
    char hash[CR_PASSWORD_HASH_CHARS_MAX + 1];
    size_t line;
    const char *bad; /* why it is not imported; static. NULL: it is */
};

struct import {
    struct cr_place place;
    bool skips_bad;
    struct entry *entries;
    size_t count, capacity;
    size_t imported, there, bad;
    const struct entry *failed; /* the first, when the store or the agent did not do it */
    enum cr_status status;      /* what came of that */
};

/* NOLINTNEXTLINE(readability-non-const-parameter): argp says what it is */
static error_t import_parse(int key, char *argument, struct argp_state *state)
{
    struct import *in = state->input;
    (void)argument;
    if (key != KEY_SKIP)
        return ARGP_ERR_UNKNOWN;
    in->skips_bad = true;
    return 0;
}

static const struct argp_option import_options[] = {
    {.name = "skip-bad",
     .key = KEY_SKIP,
     .doc = "import what is right, and say what is not; without it nothing is imported then"},
    {0},
};

/* ---- reading */

static const char *user_take(const char *text, size_t length, struct entry *out)
{
    if (!cr_text_is_clean((const unsigned char *)text, length) ||
        cr_user_parse(text, length, &out->user) != CR_OK)
        return "the user's name is not 1 to 128 bytes of UTF-8 without control characters, or "
               "looks "
               "like a session's";
    return NULL;
}

static const char *hash_take(const char *text, size_t length, struct entry *out)
{
    if (length > CR_PASSWORD_HASH_CHARS_MAX || strlen(text) != length)
        return "the hash has more than 191 characters, or a NUL";
    memcpy(out->hash, text, length + 1);
    return cr_foreign_unfit(out->hash);
}

/* {"user": ..., "hash": ...} */
static const char *json_take(const char *line, size_t length, struct entry *out)
{
    const char *user = NULL;
    const char *hash = NULL;
    size_t user_bytes = 0;
    size_t hash_bytes = 0;
    json_t *json = json_loadb(line, length, JSON_REJECT_DUPLICATES, NULL);
    const char *why = "it is not JSON of the form {\"user\": \"NAME\", \"hash\": \"HASH\"}";
    if (json != NULL && json_unpack(json, "{s:s%, s:s%}", "user", &user, &user_bytes, "hash", &hash,
                                    &hash_bytes) == 0) {
        why = user_take(user, user_bytes, out);
        if (why == NULL)
            why = hash_take(hash, hash_bytes, out);
    }
    json_decref(json);
    return why;
}

static const char *line_take(const char *line, size_t length, struct entry *out)
{
    if (length > LINE_BYTES_MAX)
        return "the line has more than 4096 bytes";
    if (line[0] == '{')
        return json_take(line, length, out);
    const char *colon = memchr(line, ':', length);
    if (colon == NULL)
        return "it is not NAME:HASH, nor JSON";
    const char *why = user_take(line, (size_t)(colon - line), out);
    return why != NULL ? why : hash_take(colon + 1, length - (size_t)(colon + 1 - line), out);
}

static struct entry *entry_add(struct import *in)
{
    if (in->count == in->capacity) {
        size_t capacity = in->capacity == 0 ? 64 : 2 * in->capacity;
        struct entry *larger = realloc(in->entries, capacity * sizeof *larger);
        if (larger == NULL)
            return NULL;
        in->entries = larger;
        in->capacity = capacity;
    }
    struct entry *entry = &in->entries[in->count++];
    memset(entry, 0, sizeof *entry);
    return entry;
}

static bool file_read(struct import *in, FILE *file, const char *name)
{
    char *line = NULL;
    size_t capacity = 0;
    size_t number = 0;
    ssize_t got = 0;
    bool ok = true;
    errno = 0;
    while (ok && (got = getline(&line, &capacity, file)) >= 0) {
        size_t length = (size_t)got;
        number++;
        while (length > 0 && (line[length - 1] == '\n' || line[length - 1] == '\r'))
            line[--length] = '\0';
        if (length == 0)
            continue;
        struct entry *entry = in->count < ENTRIES_MAX ? entry_add(in) : NULL;
        if (entry == NULL) {
            cr_complain("%s: more than %d accounts at once, or no memory: split the file", name,
                        ENTRIES_MAX);
            ok = false;
            break;
        }
        entry->line = number;
        entry->bad = line_take(line, length, entry);
    }
    if (ok && ferror(file)) {
        cr_complain("%s: %s", name, strerror(errno));
        ok = false;
    }
    if (line != NULL)
        cr_bytes_wipe(line, capacity);
    free(line);
    return ok;
}

/* ---- judging all of it */

static int user_order(const struct cr_user *a, const struct cr_user *b)
{
    int order = memcmp(a->bytes, b->bytes, a->length < b->length ? a->length : b->length);
    return order != 0 ? order : (int)a->length - (int)b->length;
}

static int entry_order(const void *a, const void *b)
{
    const struct entry *left = *(struct entry *const *)a;
    const struct entry *right = *(struct entry *const *)b;
    int order = user_order(&left->user, &right->user);
    return order != 0 ? order : left->line < right->line ? -1 : left->line > right->line;
}

/* Those whose user stands in the file before. */
static enum cr_status doubles_mark(struct import *in)
{
    struct entry **sorted = calloc(in->count + 1, sizeof(struct entry *));
    if (sorted == NULL)
        return CR_E_NO_MEMORY;
    for (size_t i = 0; i < in->count; i++)
        sorted[i] = &in->entries[i];
    /* NOLINTNEXTLINE(bugprone-sizeof-expression): the pointers are what is sorted */
    qsort((void *)sorted, in->count, sizeof sorted[0], entry_order);
    for (size_t i = 1; i < in->count; i++)
        if (sorted[i]->bad == NULL && user_order(&sorted[i]->user, &sorted[i - 1]->user) == 0)
            sorted[i]->bad = "the user stands in the file before";
    free((void *)sorted);
    return CR_OK;
}

static bool has_bad(const struct import *in)
{
    for (size_t i = 0; i < in->count; i++)
        if (in->entries[i].bad != NULL)
            return true;
    return false;
}

static void bad_say(struct import *in)
{
    for (size_t i = 0; i < in->count; i++) {
        if (in->entries[i].bad == NULL)
            continue;
        if (in->bad++ < COMPLAINTS_MAX)
            cr_complain("line %zu: %s", in->entries[i].line, in->entries[i].bad);
    }
    if (in->bad > COMPLAINTS_MAX)
        cr_complain("and %zu more", in->bad - COMPLAINTS_MAX);
}

/* ---- importing */

/* One that is there with this very hash was imported before: an import that was interrupted is run
 * again. */
static void some_import(struct import *in, struct cr_room *room, struct entry *const *asked,
                        size_t count)
{
    struct cr_import imports[CR_IMPORTS_MAX];
    for (size_t i = 0; i < count; i++)
        imports[i] = (struct cr_import){.user = &asked[i]->user, .hash = asked[i]->hash};
    cr_accounts_import(room, imports, count);
    for (size_t i = 0; i < count; i++) {
        if (imports[i].status == CR_OK) {
            in->imported++;
        } else if (imports[i].same) {
            in->there++;
        } else if (imports[i].status == CR_CONFLICT) {
            asked[i]->bad = "the user has an account already, with another hash (so it is after a "
                            "log-in); it is left as it is";
        } else if (in->failed == NULL) {
            in->failed = asked[i];
            in->status = imports[i].status;
        }
    }
}

static void entries_import(struct import *in, struct cr_room *room)
{
    bool shows = isatty(STDERR_FILENO) != 0 && in->count >= PROGRESS_FROM;
    struct entry *asked[CR_IMPORTS_MAX];
    size_t at = 0;
    while (in->failed == NULL && at < in->count) {
        size_t count = 0;
        for (; at < in->count && count < CR_IMPORTS_MAX; at++)
            if (in->entries[at].bad == NULL)
                asked[count++] = &in->entries[at];
        some_import(in, room, asked, count);
        if (shows)
            fprintf(stderr, "\r%zu of %zu", at, in->count);
    }
    if (shows)
        fputc('\n', stderr);
}

static int import_failed(const struct import *in)
{
    char line[32];
    (void)snprintf(line, sizeof line, "line %zu", in->failed->line);
    int exit_status = cr_fail(line, in->status);
    cr_complain("%zu accounts were imported, %zu were there already. Run it again, and it goes on "
                "with the rest",
                in->imported, in->there);
    return exit_status;
}

static int import_said(const struct import *in)
{
    int exit_status = CR_EXIT_OK;
    if (!in->place.json) {
        printf("%zu accounts imported, %zu already there, %zu lines left out\n", in->imported,
               in->there, in->bad);
    } else {
        json_t *left_out = json_array();
        for (size_t i = 0; i < in->count; i++)
            if (in->entries[i].bad != NULL)
                json_array_append_new(left_out, json_pack("{s:I, s:s}", "line",
                                                          (json_int_t)in->entries[i].line, "why",
                                                          in->entries[i].bad));
        exit_status =
            cr_json_print(json_pack("{s:I, s:I, s:o}", "imported", (json_int_t)in->imported,
                                    "already_there", (json_int_t)in->there, "left_out", left_out));
    }
    return in->bad > 0 && !in->skips_bad ? CR_EXIT_FAILED : exit_status;
}

static int import_run(struct import *in, struct cr_room *room)
{
    enum cr_status st = doubles_mark(in);
    if (st != CR_OK)
        return cr_fail("import", st);
    if (!in->skips_bad && has_bad(in)) {
        bad_say(in);
        cr_complain("nothing was imported: mend these lines, or leave them out with --skip-bad");
        return CR_EXIT_FAILED;
    }
    entries_import(in, room);
    bad_say(in);
    return in->failed != NULL ? import_failed(in) : import_said(in);
}

int cr_cmd_user_import(int argc, char **argv)
{
    static const struct cr_form form = {
        .words_text = "FILE",
        .text =
            "Add accounts with the password hashes of another system: a line NAME:HASH each, or "
            "{\"user\": NAME, \"hash\": HASH}. FILE may be -, for standard input."
            "\vExamples:\n"
            "  cloakroom user import users.txt\n"
            "  cloakroom user import --skip-bad --json users.txt\n\n"
            "Hashes are bcrypt ($2a$, $2b$, $2y$), PBKDF2 with SHA-256 or SHA-512 (as Django, "
            "passlib and Werkzeug write it), and Argon2 (i and id, also Django's). At the first "
            "log-in each is replaced by one of our own.",
        .words_least = 1,
        .words_most = 1,
        .settings = cr_place_rows,
        .takes_json = true,
        .options = import_options,
        .parser = import_parse};
    struct import in = {0};
    int exit_status = CR_EXIT_FAILED;
    struct cr_room *room = NULL;
    cr_form_read(&form, argc, argv, &in.place, &in);
    const char *name = in.place.words[0];
    FILE *file = strcmp(name, "-") == 0 ? stdin : fopen(name, "re");
    if (file == NULL) {
        cr_complain("%s: %s", name, strerror(errno));
        return CR_EXIT_USAGE;
    }
    if (file_read(&in, file, name) && (room = cr_place_open(&in.place, &exit_status)) != NULL)
        exit_status = import_run(&in, room);
    cr_close(room);
    if (file != stdin)
        (void)fclose(file);
    if (in.entries != NULL)
        cr_bytes_wipe(in.entries, in.capacity * sizeof in.entries[0]);
    free(in.entries);
    return exit_status;
}
