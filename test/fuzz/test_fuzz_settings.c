/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whatever stands in a settings file, in the environment, or in what `serve` hands to its agent: it
 * is taken whole or not at all, what is told about it is clean text with its place, and what was
 * taken can be written and read again. An input is a file; one that begins with ENVIRONMENT or
 * PACKED has lines of the other two. With clang and the address sanitizer libFuzzer learns from the
 * paths that an input takes; elsewhere inputs are the corpus (test/fuzz/corpus/settings), changed
 * at random.
 *
 * CR_FUZZ_SECONDS says how long; CR_SEED begins the same way again. For an hour:
 *     CR_FUZZ_SECONDS=3600 build-asan/test/test_fuzz_settings
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "cmd/settings.h"
#include "tap.h"

#ifdef CR_LIBFUZZER
#define SECONDS 10
#else
#define SECONDS 3
#endif
#define INPUT_BYTES_MAX ((size_t)4096)
#define VARIABLES_MAX 64
#define INPUTS_MAX 32

static struct {
    uint64_t inputs, taken, refused;
} * counts; /* shared with the process that fuzzes */

/* Ends the process: the fuzzer then keeps the input. */
static void must(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "not so: %s\n", what);
    abort();
}

static void taken_check(const struct cr_settings *settings)
{
    static char packed[128 * 1024];
    struct cr_error error = {.size = sizeof error};
    struct cr_settings again;
    size_t count;
    (void)cr_setting_rows(&count);
    cr_settings_init(&again);
    must(cr_settings_pack(settings, packed, sizeof packed), "settings fit");
    must(cr_settings_unpack(&again, packed, &error) == CR_OK, "what was packed is unpacked");
    for (size_t i = 0; i < count; i++) {
        char first[CR_SETTING_TEXT_CHARS_MAX + 1];
        char second[CR_SETTING_TEXT_CHARS_MAX + 1];
        cr_setting_write(settings, i, first, sizeof first);
        cr_setting_write(&again, i, second, sizeof second);
        must(strcmp(first, second) == 0 || cr_setting_rows(&count)[i].kind == CR_SETTING_URL,
             "a value is as it was written");
        must(cr_text_is_clean((const unsigned char *)first, strlen(first)), "values are clean");
        cr_setting_show(settings, i, first, sizeof first);
        cr_setting_origin_show(settings, i, second, sizeof second);
        must(second[0] != '\0', "an origin can be said");
    }
}

static void refused_check(const struct cr_settings *settings, const struct cr_settings *before,
                          const struct cr_error *error, const char *prefix)
{
    size_t length = strlen(error->text);
    must(memcmp(settings, before, sizeof *before) == 0, "nothing of it was taken");
    must(error->status == CR_E_INVALID && length > 0, "it says why");
    must(cr_text_is_clean((const unsigned char *)error->text, length), "in clean text");
    must(strncmp(error->text, prefix, strlen(prefix)) == 0, "and where");
}

static void file_try(struct cr_settings *settings, const char *text, size_t bytes)
{
    struct cr_error error = {.size = sizeof error};
    const struct cr_settings before = *settings;
    long lines = 1;
    for (size_t i = 0; i < bytes; i++)
        lines += text[i] == '\n';
    if (cr_settings_parse(settings, "x.conf", text, bytes, &error) != CR_OK) {
        refused_check(settings, &before, &error, "x.conf:");
        long line = strtol(error.text + strlen("x.conf:"), NULL, 10);
        must(line >= 1 && line <= lines, "the line is one of the file's");
        counts->refused++;
        return;
    }
    counts->taken++;
    taken_check(settings);
    if (cr_settings_finish(settings, &error) == CR_OK)
        taken_check(settings);
    else
        must(error.text[0] != '\0', "what does not go together is said");
}

static void environment_try(struct cr_settings *settings, char *text)
{
    struct cr_error error = {.size = sizeof error};
    const struct cr_settings before = *settings;
    char *variables[VARIABLES_MAX + 1];
    size_t count = 0;
    for (char *line = strsep(&text, "\n"); line != NULL && count < VARIABLES_MAX;
         line = strsep(&text, "\n"))
        variables[count++] = line;
    variables[count] = NULL;
    if (cr_settings_environment(settings, variables, &error) != CR_OK) {
        refused_check(settings, &before, &error, "");
        must(strstr(error.text, CR_SETTING_ENVIRONMENT) != NULL, "the variable is named");
        counts->refused++;
        return;
    }
    counts->taken++;
    taken_check(settings);
    must(!cr_url_has_password(settings->store), "no password came by the environment");
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t bytes);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t bytes)
{
    static const char environment[] = "ENVIRONMENT\n";
    static const char packed[] = "PACKED\n";
    struct cr_settings settings;
    struct cr_error error = {.size = sizeof error};
    char *text = malloc(bytes + 1); /* of its own, so that a step outside is seen */
    if (text == NULL)
        return 0;
    memcpy(text, data, bytes);
    text[bytes] = '\0';
    cr_settings_init(&settings);
    counts->inputs++;
    if (strncmp(text, environment, sizeof environment - 1) == 0) {
        environment_try(&settings, text + sizeof environment - 1);
    } else if (strncmp(text, packed, sizeof packed - 1) == 0) {
        if (cr_settings_unpack(&settings, text + sizeof packed - 1, &error) != CR_OK)
            must(cr_text_is_clean((const unsigned char *)error.text, strlen(error.text)) &&
                     error.text[0] != '\0',
                 "what is wrong is said in clean text");
    } else {
        char *exact = realloc(text, bytes > 0 ? bytes : 1); /* nothing after the end */
        text = exact != NULL ? exact : text;
        file_try(&settings, text, bytes);
    }
    free(text);
    return 0;
}

static bool begin(void)
{
    counts = mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return CHECK(counts != MAP_FAILED);
}

static long seconds(void)
{
    const char *text = getenv("CR_FUZZ_SECONDS");
    return text != NULL ? strtol(text, NULL, 10) : SECONDS;
}

/* ---- the corpus */

struct input {
    size_t bytes;
    unsigned char data[INPUT_BYTES_MAX];
};

static size_t corpus_read(struct input inputs[INPUTS_MAX])
{
    DIR *folder = opendir(CR_FUZZ_CORPUS);
    size_t count = 0;
    struct dirent *entry;
    while (folder != NULL && count < INPUTS_MAX && (entry = readdir(folder)) != NULL) {
        char path[1024];
        if (entry->d_name[0] == '.')
            continue;
        (void)snprintf(path, sizeof path, "%s/%s", CR_FUZZ_CORPUS, entry->d_name);
        FILE *file = fopen(path, "rb");
        if (file == NULL)
            continue;
        inputs[count].bytes = fread(inputs[count].data, 1, INPUT_BYTES_MAX, file);
        (void)fclose(file);
        count++;
    }
    if (folder != NULL)
        (void)closedir(folder);
    return count;
}

static struct input inputs[INPUTS_MAX];

/* In a process of its own, so that a fault is a failed test. */
static int child_status(void (*run)(void))
{
    int status = -1;
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        run();
        _exit(0);
    }
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    return status;
}

static void corpus_run(void)
{
    size_t count = corpus_read(inputs);
    for (size_t i = 0; i < count; i++)
        LLVMFuzzerTestOneInput(inputs[i].data, inputs[i].bytes);
}

static void the_corpus_has_settings_of_all_kinds(void)
{
    if (!begin())
        return;
    CHECK_INT(child_status(corpus_run), 0);
    CHECK_UINT(counts->inputs, corpus_read(inputs));
    CHECK(counts->taken >= 3 && counts->refused >= 3);
}

/* ---- inputs that nobody thought of */

#ifdef CR_LIBFUZZER

typedef int fuzz_one(const unsigned char *, size_t);
int LLVMFuzzerRunDriver(int *argc, char ***argv, fuzz_one *one);

/* Names that chance would hardly find. */
static bool dictionary_write(const char *path)
{
    size_t count;
    const struct cr_setting *rows = cr_setting_rows(&count);
    FILE *file = fopen(path, "w");
    if (file == NULL)
        return false;
    for (size_t i = 0; i < count; i++) {
        size_t length = strcspn(rows[i].name, ".");
        fprintf(file, "\"[%.*s]\\x0a\"\n\"%s = \"\n\"%s=\"\n", (int)length, rows[i].name,
                rows[i].name + length + 1, rows[i].name);
        for (const struct cr_setting_choice *c = rows[i].choices; c->name != NULL; c++)
            fprintf(file, "\"%s\"\n", c->name);
    }
    return fclose(file) == 0;
}

/* Ends the process, as libFuzzer does: 0 when the time was up. */
static void fuzz(void)
{
    const char *base = getenv("TMPDIR");
    char time[64], seed[64], artifacts[512], words[600], folder[256], name[] = "fuzz";
    char quiet[] = "-verbosity=0", hang[] = "-timeout=20", length[] = "-max_len=4096";
    char final[] = "-print_final_stats=1", no_leaks[] = "-detect_leaks=0";
    char corpus[] = CR_FUZZ_CORPUS;
    (void)snprintf(folder, sizeof folder, "%s/fuzz-XXXXXX", base != NULL ? base : "/tmp");
    if (mkdtemp(folder) == NULL)
        _exit(2);
    (void)snprintf(words, sizeof words, "%s.dict", folder);
    if (!dictionary_write(words))
        _exit(2);
    (void)snprintf(words, sizeof words, "-dict=%s.dict", folder);
    (void)snprintf(time, sizeof time, "-max_total_time=%ld", seconds());
    (void)snprintf(seed, sizeof seed, "-seed=%u", (unsigned)tap_random_below(UINT32_MAX) + 1);
    (void)snprintf(artifacts, sizeof artifacts, "-artifact_prefix=%s/", folder);
    /* The first folder is written to, the second only read. */
    char *arguments[] = {name,     quiet,     time,  seed,   hang,   length, final,
                         no_leaks, artifacts, words, folder, corpus, NULL};
    int count = sizeof arguments / sizeof arguments[0] - 1;
    char **given = arguments;
    (void)dup2(STDOUT_FILENO, STDERR_FILENO);
    _exit(LLVMFuzzerRunDriver(&count, &given, LLVMFuzzerTestOneInput) == 0 ? 0 : 1);
}

#else

/* One piece of an input becomes another: bytes, a word, or a piece of a second input. */
static void input_change(struct input *input, const struct input *other)
{
    static const char *const words[] = {"[",  "]\n",   "=",    "\n",     "\n\n", " ;",     "0",
                                        "1M", "cache", "kind", "none\n", "__",   "=keep ", "\xff"};
    unsigned char piece[64];
    size_t at = tap_random_below(input->bytes + 1);
    size_t out = tap_random_below(4) == 0 ? tap_random_below(32) : tap_random_below(3);
    size_t count = 0;
    switch (tap_random_below(4)) {
    case 0:
        for (uint64_t k = tap_random_below(4); k > 0; k--)
            piece[count++] = (unsigned char)tap_random_below(256);
        break;
    case 1: {
        const char *word = words[tap_random_below(sizeof words / sizeof words[0])];
        count = strlen(word);
        memcpy(piece, word, count);
        break;
    }
    case 2: {
        size_t from = tap_random_below(other->bytes + 1);
        count = tap_random_below(sizeof piece);
        if (count > other->bytes - from)
            count = other->bytes - from;
        memcpy(piece, other->data + from, count);
        break;
    }
    default:
        break;
    }
    if (out > input->bytes - at)
        out = input->bytes - at;
    if (input->bytes - out + count > INPUT_BYTES_MAX)
        return;
    memmove(input->data + at + count, input->data + at + out, input->bytes - at - out);
    memcpy(input->data + at, piece, count);
    input->bytes += count - out;
}

static void fuzz(void)
{
    static struct input input;
    struct timespec first;
    struct timespec now;
    const size_t count = corpus_read(inputs);
    if (count == 0)
        _exit(2);
    (void)clock_gettime(CLOCK_MONOTONIC, &first);
    do {
        for (unsigned i = 0; i < 200; i++) {
            input = inputs[tap_random_below(count)];
            for (uint64_t k = tap_random_below(6); k > 0; k--)
                input_change(&input, &inputs[tap_random_below(count)]);
            LLVMFuzzerTestOneInput(input.data, input.bytes);
        }
        (void)clock_gettime(CLOCK_MONOTONIC, &now);
    } while (now.tv_sec - first.tv_sec < seconds());
}

#endif

static void whatever_is_set_is_taken_whole_or_refused_with_its_place(void)
{
    if (!begin())
        return;
    CHECK_INT(child_status(fuzz), 0);
    tap_note("%llu inputs, %llu taken, %llu refused", (unsigned long long)counts->inputs,
             (unsigned long long)counts->taken, (unsigned long long)counts->refused);
    /* Or it would have tested one side only. */
    CHECK(counts->taken > 100 && counts->refused > 100);
}

static const struct tap_test tests[] = {
    TAP_TEST(the_corpus_has_settings_of_all_kinds),
    TAP_TEST(whatever_is_set_is_taken_whole_or_refused_with_its_place),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
