/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names a person's devices by what their browsers send. User-Agent is no statement of fact, so this
 * is a short list of words, not a parser: what it does not know it shows as it was sent.
 */
#include "http/exchange.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"

struct word {
    const char *sent, *shown;
};

/* Order matters: nearly all of them call themselves Mozilla, Chrome or Safari as well. */
static const struct word browsers[] = {
    {"Edg", "Edge"},         {"OPR/", "Opera"},
    {"Vivaldi/", "Vivaldi"}, {"SamsungBrowser/", "Samsung Internet"},
    {"FxiOS/", "Firefox"},   {"Firefox/", "Firefox"},
    {"CriOS/", "Chrome"},    {"Chromium/", "Chromium"},
    {"Chrome/", "Chrome"},   {"Safari/", "Safari"},
};

static const struct word systems[] = {
    {"iPhone", "iPhone"},   {"iPad", "iPad"},       {"Android", "Android"},
    {"Windows", "Windows"}, {"Macintosh", "macOS"}, {"CrOS", "ChromeOS"},
    {"Linux", "Linux"},     {"FreeBSD", "FreeBSD"}, {"OpenBSD", "OpenBSD"},
};

static const struct word *word_find(const struct word *words, size_t count, const char *agent)
{
    for (size_t i = 0; i < count; i++)
        if (strstr(agent, words[i].sent) != NULL)
            return &words[i];
    return NULL;
}

#define WORD_FIND(words, agent) word_find(words, sizeof(words) / sizeof(words)[0], agent)

enum cr_device cr_device_describe(const char *agent, char *out, size_t capacity)
{
    const struct word *browser = WORD_FIND(browsers, agent);
    const struct word *system = WORD_FIND(systems, agent);
    if (strncmp(agent, "Mozilla/", 8) != 0 || browser == NULL) {
        /* Programs put their own name first: "curl/7.88.1". */
        cr_label_copy(out, capacity, agent, strcspn(agent, " ("));
        return CR_DEVICE_PROGRAM;
    }
    int count = system != NULL ? snprintf(out, capacity, "%s on %s", browser->shown, system->shown)
                               : snprintf(out, capacity, "%s", browser->shown);
    if (count < 0)
        out[0] = '\0';
    return strstr(agent, "Mobile") != NULL ? CR_DEVICE_PHONE : CR_DEVICE_COMPUTER;
}
