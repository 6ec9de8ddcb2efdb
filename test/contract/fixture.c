/* SPDX-License-Identifier: Apache-2.0 */
/* What the contract tests share. */
#include "contract.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "store/record.h"

#define START_MS 1700000000000LL

void fixture_env(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    cr_clock_fake_init(&f->clock, START_MS);
    cr_random_seeded_init(&f->random, tap_random());
    f->env = (struct cr_store_env){&f->clock.clock, &f->random.random, {1}};
}

void advance(struct fixture *f, cr_span_ms span)
{
    cr_clock_fake_advance(&f->clock, span);
}

struct cr_user user_named(const char *name)
{
    struct cr_user user = {.length = (uint8_t)strlen(name)};
    memcpy(user.bytes, name, user.length);
    return user;
}

struct cr_session_id id_random(struct fixture *f)
{
    unsigned char bytes[18];
    struct cr_session_id id = {"crp_"};
    CHECK_STATUS(cr_random_fill(&f->random.random, bytes, sizeof bytes), CR_OK);
    cr_base64_encode(bytes, sizeof bytes, id.text + 4);
    return id;
}

struct cr_ending ending_for(struct fixture *f, enum cr_reason reason)
{
    struct cr_ending ending = {.reason = reason, .by = "a test"};
    CHECK_STATUS(cr_random_fill(&f->random.random, &ending.identity, sizeof ending.identity),
                 CR_OK);
    return ending;
}

struct cr_record record_for(struct fixture *f, const char *user)
{
    struct cr_record record = {.id = id_random(f), .idle = IDLE_MS, .ends_at = ABSOLUTE_MS};
    CHECK_STATUS(cr_random_fill(&f->random.random, &record.hash, sizeof record.hash), CR_OK);
    if (user != NULL) {
        record.user = user_named(user);
        record.authenticated_at = 1;
    }
    return record;
}

struct cr_session_id session_for(struct fixture *f, const char *user)
{
    struct cr_record record = record_for(f, user);
    struct cr_log_rows rows = {0};
    CHECK_STATUS(cr_store_create(f->store, &record, NULL, &rows), CR_OK);
    CHECK_UINT(rows.count, 0);
    cr_log_rows_fini(&rows);
    return record.id;
}

enum cr_status login(struct fixture *f, const char *user, struct cr_create_terms terms,
                     enum cr_reason reason, struct cr_session_id *out_id,
                     struct cr_log_rows *out_rows)
{
    struct cr_record record = record_for(f, user);
    struct cr_log_rows rows = {0};
    terms.ending = ending_for(f, reason);
    enum cr_status st =
        cr_store_create(f->store, &record, &terms, out_rows != NULL ? out_rows : &rows);
    *out_id = record.id;
    cr_log_rows_fini(&rows);
    return st;
}

enum cr_reason dead_for(struct fixture *f, const struct cr_session_id *id)
{
    struct cr_record record;
    enum cr_status st = cr_store_find(f->store, id, &record);
    if (st == CR_NOT_FOUND)
        return CR_REASON_LOGOUT;
    CHECK_STATUS(st, CR_OK);
    enum cr_reason dead = record.dead;
    cr_record_fini(&record);
    return dead;
}

bool is_live(struct fixture *f, const struct cr_session_id *id)
{
    return dead_for(f, id) == CR_REASON_NONE;
}

uint64_t log_count(struct fixture *f)
{
    struct cr_log_row row = {0};
    CHECK_STATUS(cr_store_log_last(f->store, &row), CR_OK);
    return row.number;
}

size_t live_count(struct fixture *f, const char *name)
{
    static struct cr_record page[16];
    struct cr_user user = user_named(name);
    struct cr_session_id after = {""};
    cr_time_ms created_at = 0;
    size_t count = 0;
    for (;;) {
        size_t got;
        if (!CHECK_STATUS(cr_store_list(f->store, &user, created_at, &after, page, 16, &got),
                          CR_OK) ||
            got == 0)
            return count;
        count += got;
        created_at = page[got - 1].created_at;
        after = page[got - 1].id;
    }
}
