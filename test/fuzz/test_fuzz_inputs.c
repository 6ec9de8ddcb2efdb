/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whatever comes in from outside: heads of requests, cookies, forms, JSON, tokens, settings,
 * messages, and the rows of a database. Each kind is a target of its own (fuzz.h, TARGET.c). With
 * clang and the address sanitizer libFuzzer learns from the paths that an input takes; elsewhere
 * inputs are the corpus (corpus/TARGET), changed at random.
 *
 * CR_FUZZ_SECONDS says how long each runs, CR_FUZZ_AT_ONCE how many beside each other; CR_SEED
 * begins the same way again. For an hour of one of them:
 *     CR_FUZZ_SECONDS=3600 build-asan/test/test_fuzz_inputs no_token_is_taken_that_was_not_made
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/random.h"
#include "fuzz/fuzz.h"
#include "tap.h"

#ifdef CR_LIBFUZZER
#define SECONDS 10
#else
#define SECONDS 1
#endif
#define AT_ONCE 4
#define INPUTS_MAX 64
#define FOLDER_BYTES 256

static const struct fuzz_target *const targets[] = {
    &fuzz_admission, &fuzz_cookie,   &fuzz_form,  &fuzz_json,
    &fuzz_rows,      &fuzz_settings, &fuzz_token, &fuzz_wire,
};
#define TARGETS (sizeof targets / sizeof targets[0])

/* Shared with the processes that fuzz. */
static struct counts {
    uint64_t inputs, taken, refused;
} * counts, *mine;

static struct run {
    bool wanted, done;
    pid_t pid;
    int status;
    char output[FOLDER_BYTES + 32];
} runs[TARGETS];

static char folder[FOLDER_BYTES];

/* ---- for the targets */

void fuzz_fail(const char *what)
{
    fprintf(stderr, "not so: %s\n", what);
    abort();
}

void fuzz_taken(void)
{
    mine->taken++;
}

void fuzz_refused(void)
{
    mine->refused++;
}

uint8_t fuzz_u8(struct fuzz_input *input)
{
    if (input->left == 0)
        return 0;
    input->left--;
    return *input->bytes++;
}

uint64_t fuzz_u64(struct fuzz_input *input)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < 8; i++)
        value |= (uint64_t)fuzz_u8(input) << 8 * i;
    return value;
}

const unsigned char *fuzz_bytes(struct fuzz_input *input, size_t most, size_t *out_count)
{
    const unsigned char *bytes = input->bytes;
    *out_count = most < input->left ? most : input->left;
    input->bytes += *out_count;
    input->left -= *out_count;
    return bytes;
}

bool fuzz_piece(struct fuzz_input *input, unsigned char end, const char **out, size_t *out_count)
{
    if (input->left == 0)
        return false;
    const unsigned char *found = memchr(input->bytes, end, input->left);
    size_t count = found != NULL ? (size_t)(found - input->bytes) : input->left;
    *out = (const char *)input->bytes;
    *out_count = count;
    input->bytes += count + (found != NULL);
    input->left -= count + (found != NULL);
    return true;
}

/* ---- the corpus */

struct input {
    size_t bytes;
    unsigned char data[FUZZ_INPUT_BYTES_MAX];
};
static struct input inputs[INPUTS_MAX];

static size_t corpus_read(const struct fuzz_target *target)
{
    char path[1024];
    size_t count = 0;
    struct dirent *entry;
    (void)snprintf(path, sizeof path, "%s/%s", CR_FUZZ_CORPUS, target->name);
    DIR *corpus = opendir(path);
    while (corpus != NULL && count < INPUTS_MAX && (entry = readdir(corpus)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        (void)snprintf(path, sizeof path, "%s/%s/%s", CR_FUZZ_CORPUS, target->name, entry->d_name);
        FILE *file = fopen(path, "rb");
        if (file == NULL)
            continue;
        inputs[count].bytes = fread(inputs[count].data, 1, FUZZ_INPUT_BYTES_MAX, file);
        (void)fclose(file);
        count++;
    }
    if (corpus != NULL)
        (void)closedir(corpus);
    return count;
}

/* In memory of exactly its size, so that a step outside is seen. */
static void input_try(const struct fuzz_target *target, const unsigned char *data, size_t bytes)
{
    unsigned char *exact = malloc(bytes > 0 ? bytes : 1);
    if (exact == NULL)
        return;
    if (bytes > 0)
        memcpy(exact, data, bytes);
    mine->inputs++;
    target->one(exact, bytes);
    free(exact);
}

static bool target_begin(const struct fuzz_target *target, struct counts *to)
{
    mine = to;
    return target->begin == NULL || target->begin();
}

static bool counts_make(void)
{
    if (counts == NULL)
        counts = mmap(NULL, TARGETS * sizeof *counts, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return CHECK(counts != MAP_FAILED);
}

/* In a process of its own, so that a fault is a failed test. */
static int corpus_status(const struct fuzz_target *target, struct counts *to)
{
    int status = -1;
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        if (!target_begin(target, to))
            _exit(2);
        size_t count = corpus_read(target);
        for (size_t i = 0; i < count; i++)
            input_try(target, inputs[i].data, inputs[i].bytes);
        _exit(0);
    }
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    return status;
}

static void every_corpus_has_what_is_taken_and_what_is_refused(void)
{
    if (!counts_make())
        return;
    for (size_t i = 0; i < TARGETS; i++) {
        tap_row(targets[i]->name);
        memset(&counts[i], 0, sizeof counts[i]);
        CHECK_INT(corpus_status(targets[i], &counts[i]), 0);
        CHECK_UINT(counts[i].inputs, corpus_read(targets[i]));
        CHECK(counts[i].taken >= 2 && counts[i].refused >= 2);
    }
    tap_row(NULL);
}

/* ---- inputs that nobody thought of */

static long setting(const char *name, long otherwise)
{
    const char *text = getenv(name);
    return text != NULL ? strtol(text, NULL, 10) : otherwise;
}

#ifdef CR_LIBFUZZER

typedef int fuzz_one(const unsigned char *, size_t);
int LLVMFuzzerRunDriver(int *argc, char ***argv, fuzz_one *one);

static const struct fuzz_target *current;

static int one(const unsigned char *data, size_t bytes)
{
    mine->inputs++;
    current->one(data, bytes); /* libFuzzer's memory is of its exact size */
    return 0;
}

static bool dictionary_write(const struct fuzz_target *target, const char *path)
{
    FILE *file = fopen(path, "w");
    if (file == NULL)
        return false;
    for (const char *const *word = target->words; word != NULL && *word != NULL; word++) {
        fputc('"', file);
        for (const char *c = *word; *c != '\0'; c++)
            if (*c < ' ' || *c > '~' || *c == '"' || *c == '\\')
                fprintf(file, "\\x%02x", (unsigned char)*c);
            else
                fputc(*c, file);
        fputs("\"\n", file);
    }
    return fclose(file) == 0;
}

/* Ends the process, as libFuzzer does: 0 when the time was up. */
static void fuzz(const struct fuzz_target *target, uint64_t seed_number)
{
    char time[64], seed[64], artifacts[512], words[600], grown[512], corpus[1024], name[] = "fuzz";
    char quiet[] = "-verbosity=0", hang[] = "-timeout=20", length[] = "-max_len=4096";
    char final[] = "-print_final_stats=1", no_leaks[] = "-detect_leaks=0";
    (void)snprintf(grown, sizeof grown, "%s/%s", folder, target->name);
    (void)snprintf(words, sizeof words, "%s.dict", grown);
    if (mkdir(grown, 0700) != 0 || !dictionary_write(target, words))
        _exit(2);
    (void)snprintf(words, sizeof words, "-dict=%s.dict", grown);
    (void)snprintf(time, sizeof time, "-max_total_time=%ld", setting("CR_FUZZ_SECONDS", SECONDS));
    (void)snprintf(seed, sizeof seed, "-seed=%u", (unsigned)(seed_number % UINT32_MAX) + 1);
    (void)snprintf(artifacts, sizeof artifacts, "-artifact_prefix=%s/", grown);
    (void)snprintf(corpus, sizeof corpus, "%s/%s", CR_FUZZ_CORPUS, target->name);
    /* The first folder is written to, the second only read. */
    char *arguments[] = {name,     quiet,     time,  seed,  hang,   length, final,
                         no_leaks, artifacts, words, grown, corpus, NULL};
    int count = sizeof arguments / sizeof arguments[0] - 1;
    char **given = arguments;
    current = target;
    _exit(LLVMFuzzerRunDriver(&count, &given, one) == 0 ? 0 : 1);
}

#else

static uint64_t random_below(struct cr_random_seeded *random, uint64_t bound)
{
    return cr_random_seeded_next(random) % bound;
}

/* One piece of an input becomes another: bytes, a word, or a piece of a second input. */
static void input_change(struct cr_random_seeded *random, struct input *input,
                         const struct input *other, const char *const *words, size_t word_count)
{
    unsigned char piece[256];
    size_t at = random_below(random, input->bytes + 1);
    size_t out = random_below(random, 4) == 0 ? random_below(random, 32) : random_below(random, 3);
    size_t count = 0;
    switch (random_below(random, 4)) {
    case 0:
        for (uint64_t k = random_below(random, 4); k > 0; k--)
            piece[count++] = (unsigned char)random_below(random, 256);
        break;
    case 1:
        if (word_count > 0) {
            const char *word = words[random_below(random, word_count)];
            count = strlen(word);
            memcpy(piece, word, count);
        }
        break;
    case 2: {
        size_t from = random_below(random, other->bytes + 1);
        count = random_below(random, sizeof piece);
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
    if (input->bytes - out + count > FUZZ_INPUT_BYTES_MAX)
        return;
    memmove(input->data + at + count, input->data + at + out, input->bytes - at - out);
    memcpy(input->data + at, piece, count);
    input->bytes += count - out;
}

static void fuzz(const struct fuzz_target *target, uint64_t seed)
{
    static struct input input;
    struct cr_random_seeded random;
    struct timespec first, now;
    size_t word_count = 0;
    const size_t count = corpus_read(target);
    if (count == 0)
        _exit(2);
    while (target->words != NULL && target->words[word_count] != NULL)
        word_count++;
    cr_random_seeded_init(&random, seed);
    (void)clock_gettime(CLOCK_MONOTONIC, &first);
    do {
        for (unsigned i = 0; i < 50; i++) {
            input = inputs[random_below(&random, count)];
            for (uint64_t k = random_below(&random, 6); k > 0; k--)
                input_change(&random, &input, &inputs[random_below(&random, count)], target->words,
                             word_count);
            input_try(target, input.data, input.bytes);
        }
        (void)clock_gettime(CLOCK_MONOTONIC, &now);
    } while (now.tv_sec - first.tv_sec < setting("CR_FUZZ_SECONDS", SECONDS));
    _exit(0);
}

#endif

/* The cores are others', too: what is measured or waited for beside this goes first. */
static void child_run(size_t i, uint64_t seed)
{
    (void)setpriority(PRIO_PROCESS, 0, 10);
    if (freopen(runs[i].output, "w", stdout) == NULL || dup2(fileno(stdout), STDERR_FILENO) < 0 ||
        !target_begin(targets[i], &counts[i]))
        _exit(2);
    fuzz(targets[i], seed);
}

static size_t child_wait(void)
{
    int status;
    pid_t pid = wait(&status);
    for (size_t i = 0; i < TARGETS; i++)
        if (pid > 0 && runs[i].pid == pid && !runs[i].done) {
            runs[i].done = true;
            runs[i].status = status;
            return 1;
        }
    return 0;
}

/* All that are asked for, some beside each other; the first test that needs one runs them. */
static bool runs_make(void)
{
    static bool made;
    if (made)
        return true;
    made = true;
    const char *base = getenv("TMPDIR");
    (void)snprintf(folder, sizeof folder, "%s/fuzz-XXXXXX", base != NULL ? base : "/tmp");
    if (!counts_make() || !CHECK(mkdtemp(folder) != NULL))
        return false;
    size_t running = 0, most = (size_t)setting("CR_FUZZ_AT_ONCE", AT_ONCE);
    memset(counts, 0, TARGETS * sizeof *counts);
    (void)fflush(stdout);
    for (size_t i = 0; i < TARGETS; i++) {
        uint64_t seed = tap_random();
        if (!runs[i].wanted)
            continue;
        (void)snprintf(runs[i].output, sizeof runs[i].output, "%s/output-%zu", folder, i);
        while (running > 0 && running >= most)
            running -= child_wait();
        runs[i].pid = fork();
        if (runs[i].pid == 0)
            child_run(i, seed);
        running += runs[i].pid > 0;
    }
    while (running > 0)
        running -= child_wait();
    return true;
}

static void output_show(const struct run *run)
{
    char line[1024];
    FILE *file = fopen(run->output, "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        tap_note("%s", line);
    }
    if (file != NULL)
        (void)fclose(file);
}

/* A failed input stands in the output, in base64. */
static void fuzzed(const struct fuzz_target *target)
{
    size_t i = 0;
    while (targets[i] != target)
        i++;
    if (!runs_make())
        return;
    if (!CHECK(runs[i].done) || !CHECK_INT(runs[i].status, 0))
        output_show(&runs[i]);
    tap_note("%llu inputs, %llu taken, %llu refused", (unsigned long long)counts[i].inputs,
             (unsigned long long)counts[i].taken, (unsigned long long)counts[i].refused);
    /* Or it would have tested one side only. */
    CHECK(counts[i].taken > 0 && counts[i].refused > 0);
}

static void a_head_is_admitted_when_nobody_can_read_it_in_another_way(void)
{
    fuzzed(&fuzz_admission);
}

static void a_session_cookie_is_found_by_exact_bytes_or_not_at_all(void)
{
    fuzzed(&fuzz_cookie);
}

static void a_form_is_read_as_a_plain_reader_reads_it(void)
{
    fuzzed(&fuzz_form);
}

static void json_is_read_as_another_reader_reads_it_and_written_so_that_all_can(void)
{
    fuzzed(&fuzz_json);
}

static void a_row_of_a_database_is_what_was_written_or_is_not_believed(void)
{
    fuzzed(&fuzz_rows);
}

static void whatever_is_set_is_taken_whole_or_refused_with_its_place(void)
{
    fuzzed(&fuzz_settings);
}

static void no_token_is_taken_that_was_not_made(void)
{
    fuzzed(&fuzz_token);
}

static void a_message_is_read_whole_and_can_be_built_again(void)
{
    fuzzed(&fuzz_wire);
}

/* In the order of `targets`. */
static const struct tap_test tests[] = {
    TAP_TEST(a_head_is_admitted_when_nobody_can_read_it_in_another_way),
    TAP_TEST(a_session_cookie_is_found_by_exact_bytes_or_not_at_all),
    TAP_TEST(a_form_is_read_as_a_plain_reader_reads_it),
    TAP_TEST(json_is_read_as_another_reader_reads_it_and_written_so_that_all_can),
    TAP_TEST(a_row_of_a_database_is_what_was_written_or_is_not_believed),
    TAP_TEST(whatever_is_set_is_taken_whole_or_refused_with_its_place),
    TAP_TEST(no_token_is_taken_that_was_not_made),
    TAP_TEST(a_message_is_read_whole_and_can_be_built_again),
    TAP_TEST(every_corpus_has_what_is_taken_and_what_is_refused),
};
_Static_assert(sizeof tests / sizeof tests[0] == TARGETS + 1, "one of each, and the corpora");

int main(int argc, char **argv)
{
    for (size_t i = 0; i < TARGETS; i++)
        for (int k = 1; k < argc || (argc == 1 && k == 1); k++)
            runs[i].wanted = runs[i].wanted || argc == 1 || strcmp(argv[k], tests[i].name) == 0;
    return TAP_MAIN(tests, argc, argv);
}
