/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tokens that nobody made, counted by who presents them (ASVS G9). A source that presents many
 * different ones is guessing: that is one event, and from then on its guesses are answered
 * CR_LIMITED as far as they are more than the limit admits. No genuine token comes here, live or
 * ended: so whoever shares an address with a guesser loses nothing.
 *
 * Invariants: memory is bounded by the tables' sizes, and the events by EVENTS_LIMIT, however many
 * sources there are; nothing is asked of the store; no token is kept, only keyed hashes.
 */
#include "service/request.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "coord/limit.h"
#include "service/audit.h"

#define SOURCES_MAX 4096
#define SEEN_MAX 8192
#define GUESSES 100 /* of one source in ten minutes; of wider networks twice, four times that */
#define PERIOD_MS ((cr_span_ms)10 * 60 * 1000)
#define HOUR_MS ((cr_span_ms)60 * 60 * 1000)

#define LIMIT(count, period)                                                                       \
    {                                                                                              \
        1,                                                                                         \
        {                                                                                          \
            {                                                                                      \
                count, period                                                                      \
            }                                                                                      \
        }                                                                                          \
    }
static const struct cr_limit source_limits[CR_NETWORK_WIDTHS] = {
    LIMIT(GUESSES, PERIOD_MS), LIMIT(2 * GUESSES, PERIOD_MS), LIMIT(4 * GUESSES, PERIOD_MS)};
static const struct cr_limit seen_limit = LIMIT(1, HOUR_MS);  /* one token counts once in it */
static const struct cr_limit event_limit = LIMIT(1, HOUR_MS); /* of one source */
static const struct cr_limit events_limit = LIMIT(20, HOUR_MS);

struct cr_guesses {
    unsigned char key[crypto_generichash_KEYBYTES];
    struct cr_limiter *sources; /* and which of them have had their event */
    struct cr_limiter *seen;    /* the tokens: a browser with a stale cookie guesses once */
    uint64_t unknown, noticed;
};

enum what { OF_SOURCE, OF_TOKEN, OF_EVENT, OF_EVENTS };

/* Who presented it. */
struct source {
    size_t count; /* 0: nobody knows where from */
    char networks[CR_NETWORK_WIDTHS][CR_NETWORK_CHARS];
    bool is_address;
};

static struct cr_limit_key key_of(const struct cr_guesses *guesses, enum what what,
                                  const void *bytes, size_t count, const char *source)
{
    crypto_generichash_state state;
    unsigned char head = (unsigned char)what;
    struct cr_limit_key key;
    int failed = crypto_generichash_init(&state, guesses->key, sizeof guesses->key, sizeof key);
    CR_ASSERT(failed == 0);
    crypto_generichash_update(&state, &head, 1);
    crypto_generichash_update(&state, bytes, count);
    crypto_generichash_update(&state, (const unsigned char *)source, strlen(source));
    crypto_generichash_final(&state, key.bytes, sizeof key.bytes);
    return key;
}

/* A key that is not in memory owes nothing: there is nowhere else to ask. */
static bool take(struct cr_limiter *limiter, struct cr_limit_ask *ask, cr_boot_ns now)
{
    cr_span_ms wait;
    enum cr_status st = cr_limiter_look(limiter, ask, now, &wait);
    if (st == CR_OK || st == CR_ASK)
        st = cr_limiter_take(limiter, ask, now, &wait);
    cr_limiter_leave(limiter, ask, now);
    return st != CR_LIMITED;
}

/* An address counts with its wider networks; a peer that names none counts by itself. */
static void source_read(const struct request *request, struct source *out)
{
    memset(out, 0, sizeof *out);
    if (request->client == NULL)
        return;
    out->is_address = request->address[0] != '\0';
    for (size_t i = 0; out->is_address && i < CR_NETWORK_WIDTHS; i++)
        out->count +=
            cr_network_of(request->address, cr_network_widths[i], out->networks[out->count]);
    if (out->count > 0)
        return;
    out->is_address = false;
    out->count = 1;
    (void)snprintf(out->networks[0], CR_NETWORK_CHARS, "%.*s", CR_NETWORK_CHARS - 1,
                   request->client->label);
}

static struct cr_limit_ask ask_of(const struct cr_guesses *guesses, const struct source *source)
{
    struct cr_limit_ask ask = {.part_count = source->count};
    for (size_t i = 0; i < source->count; i++)
        ask.parts[i] =
            (struct cr_limit_part){.key = key_of(guesses, OF_SOURCE, NULL, 0, source->networks[i]),
                                   .limit = &source_limits[i]};
    return ask;
}

/* The narrowest of its networks that is over its limit. */
static size_t network_over(const struct cr_guesses *guesses, const struct cr_limit_ask *ask,
                           cr_boot_ns now)
{
    struct cr_limit_word word;
    cr_span_ms wait;
    for (size_t i = 0; i < ask->part_count; i++)
        if (cr_limiter_peek(guesses->sources, &ask->parts[i].key, &word) &&
            !cr_limit_admits(ask->parts[i].limit, &word, now, &wait))
            return i;
    return 0;
}

static void notice(struct cr_guesses *guesses, const struct request *request,
                   const struct source *source, const struct cr_limit_ask *over, cr_boot_ns now)
{
    size_t i = network_over(guesses, over, now);
    struct cr_limit_ask ask = {
        .part_count = 2,
        .parts = {
            {.key = key_of(guesses, OF_EVENT, NULL, 0, source->networks[i]), .limit = &event_limit},
            {.key = key_of(guesses, OF_EVENTS, NULL, 0, ""), .limit = &events_limit}}};
    if (!take(guesses->sources, &ask, now))
        return;
    guesses->noticed++;
    cr_audit_guessing(request->client, source->is_address ? source->networks[i] : NULL,
                      source_limits[i].tiers[0].count);
}

/* NULL without memory or random bytes: then nothing is counted by source. */
static struct cr_guesses *guesses_of(struct cr_service *service)
{
    if (service->guesses != NULL)
        return service->guesses;
    struct cr_guesses *guesses = calloc(1, sizeof *guesses);
    if (guesses == NULL)
        return NULL;
    enum cr_status st = cr_random_fill(cr_engine_random(service->options.engine), guesses->key,
                                       sizeof guesses->key);
    if (st == CR_OK)
        st = cr_limiter_create(SOURCES_MAX, &guesses->sources);
    if (st == CR_OK)
        st = cr_limiter_create(SEEN_MAX, &guesses->seen);
    if (st == CR_OK)
        service->guesses = guesses;
    else
        cr_guesses_destroy(guesses);
    return st == CR_OK ? guesses : NULL;
}

enum cr_status cr_guess_judge(const struct request *request, const struct cr_token *token)
{
    struct cr_guesses *guesses = guesses_of(request->service);
    struct source source;
    cr_boot_ns now = cr_clock_boot(cr_engine_loop(request->service->options.engine)->clock);
    if (guesses == NULL)
        return CR_NOT_FOUND;
    guesses->unknown++;
    source_read(request, &source);
    if (source.count == 0)
        return CR_NOT_FOUND;
    struct cr_limit_ask seen = {.part_count = 1,
                                .parts = {{.key = key_of(guesses, OF_TOKEN, token->text,
                                                         CR_TOKEN_CHARS, source.networks[0]),
                                           .limit = &seen_limit}}};
    struct cr_limit_word word;
    cr_span_ms wait;
    if (cr_limiter_peek(guesses->seen, &seen.parts[0].key, &word) &&
        !cr_limit_admits(&seen_limit, &word, now, &wait))
        return CR_NOT_FOUND;
    struct cr_limit_ask ask = ask_of(guesses, &source);
    if (take(guesses->sources, &ask, now)) {
        (void)take(guesses->seen, &seen, now);
        return CR_NOT_FOUND;
    }
    notice(guesses, request, &source, &ask, now);
    return source.is_address ? CR_LIMITED : CR_NOT_FOUND;
}

void cr_guesses_count(const struct cr_service *service, uint64_t *out_unknown,
                      uint64_t *out_noticed)
{
    const struct cr_guesses *guesses = service->guesses;
    *out_unknown = guesses != NULL ? guesses->unknown : 0;
    *out_noticed = guesses != NULL ? guesses->noticed : 0;
}

size_t cr_guesses_entries(const struct cr_service *service)
{
    struct cr_limiter_count sources = {0}, seen = {0};
    if (service->guesses != NULL) {
        cr_limiter_count(service->guesses->sources, &sources);
        cr_limiter_count(service->guesses->seen, &seen);
    }
    return (size_t)(sources.entries + seen.entries);
}

void cr_guesses_destroy(struct cr_guesses *guesses)
{
    if (guesses == NULL)
        return;
    cr_limiter_destroy(guesses->sources);
    cr_limiter_destroy(guesses->seen);
    free(guesses);
}
