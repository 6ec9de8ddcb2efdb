/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table against a model that is plain and slow: a list of sessions, each with its stamp, and
 * the rules written down once more. Random operations on both; what the table answers must be what
 * the model says, to the byte. The model shares with the table only who shares a floor or a stamp
 * with whom, which is a matter of hashing, not of rules.
 */
#include <sodium.h>

#include "cache/layout.h"
#include "unit/cache_fixture.h"

#define SESSIONS 120
#define USERS 12
#define OPERATIONS 200000

struct model_session {
    bool present;
    uint64_t stamp;
    struct cr_entry entry;
};

struct model {
    uint64_t clock, all;
    cr_boot_ns fresh;
    uint64_t user_stamps[USERS];
    uint64_t floors[SESSIONS]; /* of the session's home */
    struct model_session sessions[SESSIONS];
    /* Hashing: the first session or user with the same place. */
    unsigned home_of[SESSIONS];
    unsigned stamp_of[USERS];
};

static uint64_t stamp_place(const struct cr_table_view *view, unsigned user)
{
    struct cr_user name;
    unsigned char hash[crypto_shorthash_BYTES];
    uint64_t word;
    fixture_user(user, &name);
    crypto_shorthash(hash, name.bytes, name.length, view->user_key);
    memcpy(&word, hash, sizeof word);
    return word % view->stamp_count;
}

static uint64_t home_place(const struct cr_table_view *view, unsigned session)
{
    struct cr_session_id id;
    fixture_id(session, &id);
    return layout_places(&id, view->bucket_count).home;
}

static void model_init(struct model *m, const struct fixture *f)
{
    memset(m, 0, sizeof *m);
    m->clock = m->all = FIXTURE_CLOCK;
    m->fresh = f->clock.now_boot + CR_TABLE_FRESH_NS_MAX;
    for (unsigned i = 0; i < USERS; i++) {
        m->user_stamps[i] = FIXTURE_CLOCK;
        while (stamp_place(&f->view, m->stamp_of[i]) != stamp_place(&f->view, i))
            m->stamp_of[i]++;
    }
    for (unsigned i = 0; i < SESSIONS; i++) {
        m->floors[i] = FIXTURE_CLOCK;
        while (home_place(&f->view, m->home_of[i]) != home_place(&f->view, i))
            m->home_of[i]++;
    }
}

/* Sessions of user number session % USERS, for good. */
static unsigned user_of(unsigned session)
{
    return session % USERS;
}

static uint64_t *model_user_stamp(struct model *m, unsigned user)
{
    return &m->user_stamps[m->stamp_of[user]];
}

static uint64_t *model_floor(struct model *m, unsigned session)
{
    return &m->floors[m->home_of[session]];
}

/* Rule 1. */
static bool model_insert(struct model *m, unsigned session, const struct cr_entry *entry,
                         uint64_t stamp, cr_boot_ns now)
{
    if (stamp > m->clock || now >= entry->deadline || stamp < *model_floor(m, session) ||
        stamp < *model_user_stamp(m, user_of(session)) || stamp < m->all)
        return false;
    m->sessions[session] = (struct model_session){.present = true, .stamp = stamp, .entry = *entry};
    return true;
}

/* Rule 4. */
static bool model_finds(struct model *m, unsigned session, bool by_old, cr_boot_ns now)
{
    const struct model_session *s = &m->sessions[session];
    return s->present && *model_user_stamp(m, user_of(session)) <= s->stamp && m->all <= s->stamp &&
           now < s->entry.deadline && now < m->fresh && (!by_old || now < s->entry.old_until);
}

static void model_seen(struct model *m, unsigned session, cr_boot_ns seen)
{
    struct model_session *s = &m->sessions[session];
    struct cr_entry *entry = &s->entry;
    if (!s->present || seen <= entry->seen || seen >= entry->deadline)
        return;
    cr_boot_ns deadline = seen + (uint64_t)entry->idle * CR_NS_PER_MS;
    if (deadline > entry->absolute_until)
        deadline = entry->absolute_until;
    if (deadline < entry->deadline)
        deadline = entry->deadline;
    entry->seen_at += (cr_time_ms)((seen - entry->seen) / CR_NS_PER_MS);
    entry->expires_at += (cr_time_ms)((deadline - entry->deadline) / CR_NS_PER_MS);
    if (entry->seen_at > entry->ends_at)
        entry->seen_at = entry->ends_at;
    if (entry->expires_at > entry->ends_at)
        entry->expires_at = entry->ends_at;
    entry->seen = seen;
    entry->deadline = deadline;
}

/* Mostly small, now and then of the largest size. */
static size_t random_size(void)
{
    return tap_random_below(4) != 0 ? tap_random_below(300)
                                    : tap_random_below(CR_DATA_CACHED_BYTES_MAX + 50);
}

static void random_entry(unsigned session, cr_boot_ns now, struct cr_entry *out)
{
    fixture_entry(session, user_of(session), now, random_size(), out);
    out->version = tap_random();
    out->idle = (cr_span_ms)tap_random_below(20000) + 1;
    out->deadline = now + tap_random_below(20000) * CR_NS_PER_MS;
    out->absolute_until = out->deadline + tap_random_below(20000) * CR_NS_PER_MS;
    if (tap_random_below(2) == 0) {
        fixture_bytes(session + 1000000, out->old_hash, sizeof out->old_hash);
        out->old_until = now + tap_random_below(20000) * CR_NS_PER_MS;
    }
}

static bool step_insert(struct fixture *f, struct model *m, unsigned session)
{
    struct cr_entry entry;
    uint64_t stamp = m->clock + 1 - tap_random_below(8) % 7; /* now and then the future */
    cr_boot_ns now = f->clock.now_boot;
    random_entry(session, now, &entry);
    return CHECK(cr_table_insert(f->table, &entry, stamp, now) ==
                 model_insert(m, session, &entry, stamp, now));
}

static void step_copied(void *context, size_t index, const struct cr_entry *entry)
{
    fixture_copied(entry, context);
}

static bool step_find(struct fixture *f, struct model *m, unsigned session)
{
    static struct cr_entry out;
    struct cr_token_hash hash;
    bool used_old = false;
    const struct cr_entry *in = &m->sessions[session].entry;
    bool by_old = tap_random_below(4) == 0 && !cr_bytes_are_zero(in->old_hash, 16);
    fixture_hash(session, &hash);
    if (by_old)
        memcpy(hash.bytes, in->old_hash, sizeof in->old_hash);
    struct cr_session_id id;
    fixture_id(session, &id);
    bool found = cr_table_find(&f->view, &f->clock.clock, &id, &hash, &out, &used_old);
    struct cr_table_wanted wanted;
    static struct cr_entry copy;
    fixture_want(&f->view, &id, &hash, &copy, &wanted);
    cr_boot_ns as_of =
        cr_table_find_many(&f->view, &f->clock.clock, &wanted, 1, step_copied, &copy);
    copy.as_of = as_of;
    CHECK(wanted.found == found && as_of == f->clock.now_boot);
    CHECK(!found || (wanted.used_old == used_old && fixture_same(&copy, &out)));
    return CHECK(found == model_finds(m, session, by_old, f->clock.now_boot)) &&
           (!found || (CHECK(used_old == by_old) && CHECK(fixture_same(in, &out))));
}

static bool step_end(struct fixture *f, struct model *m, unsigned session)
{
    uint64_t clock = 0;
    m->clock++;
    switch (tap_random_below(16)) {
    case 0:
        clock = cr_table_end_all(f->table);
        m->all = m->clock;
        break;
    case 1:
    case 2:
    case 3:
        clock = fixture_end_user(f, user_of(session));
        *model_user_stamp(m, user_of(session)) = m->clock;
        break;
    default:
        clock = fixture_end_session(f, session);
        *model_floor(m, session) = m->clock;
        m->sessions[session].present = false;
    }
    return CHECK(clock == m->clock);
}

static bool step_time(struct fixture *f, struct model *m)
{
    cr_clock_fake_advance(&f->clock, (cr_span_ms)tap_random_below(600));
    if (tap_random_below(8) == 0)
        return true; /* the lease may run out */
    cr_boot_ns now = f->clock.now_boot;
    cr_boot_ns until = now + tap_random_below(2 * CR_TABLE_FRESH_NS_MAX);
    cr_boot_ns most = now + CR_TABLE_FRESH_NS_MAX;
    cr_table_freshen(f->table, until, now);
    if (until > most)
        until = most;
    if (until > m->fresh)
        m->fresh = until;
    return true;
}

static bool step_seen(struct fixture *f, struct model *m, unsigned session)
{
    struct cr_session_id id;
    cr_boot_ns seen = f->clock.now_boot - tap_random_below(3000) * CR_NS_PER_MS;
    fixture_id(session, &id);
    cr_table_seen(f->table, &id, seen);
    model_seen(m, session, seen);
    return true;
}

static bool step(struct fixture *f, struct model *m)
{
    unsigned session = (unsigned)tap_random_below(SESSIONS);
    switch (tap_random_below(20)) {
    case 0:
        return step_end(f, m, session);
    case 1:
        return step_time(f, m);
    case 2:
    case 3:
        return step_seen(f, m, session);
    case 4:
    case 5:
    case 6:
    case 7:
    case 8:
        return step_insert(f, m, session);
    default:
        return step_find(f, m, session);
    }
}

/* Big enough for all sessions at their largest: nobody is evicted, so hits are exact, too. */
static void the_table_answers_what_the_model_says(void)
{
    struct fixture f;
    static struct model m;
    const struct cr_table_options options = {
        .bytes = 16u << 20, .shared = true, .clock_start = FIXTURE_CLOCK};
    if (!fixture_init_with(&f, &options))
        return;
    model_init(&m, &f);
    uint64_t hits = 0;
    for (unsigned i = 0; i < OPERATIONS && step(&f, &m); i++)
        hits += model_finds(&m, 7, false, f.clock.now_boot);
    struct cr_table_count count = fixture_count(&f);
    CHECK_UINT(count.evicted_live, 0);
    CHECK(count.inserts > OPERATIONS / 20 && count.refused > OPERATIONS / 100);
    CHECK(hits > OPERATIONS / 100);
    fixture_fini(&f);
}

/* Whoever is found in a table too small is what the model says; the evicted are misses. */
static void a_crowded_table_says_nothing_that_the_model_does_not(void)
{
    struct fixture f;
    struct cr_entry out;
    static uint64_t versions[8000];
    if (!fixture_init(&f))
        return;
    uint64_t hits = 0;
    uint64_t wrong = 0;
    memset(versions, 0, sizeof versions);
    for (unsigned i = 0; i < OPERATIONS; i++) {
        unsigned session = (unsigned)tap_random_below(8000);
        if (tap_random_below(3) == 0) {
            struct cr_entry entry;
            fixture_entry(session, user_of(session), f.clock.now_boot + i, random_size(), &entry);
            entry.version = i + 1;
            if (cr_table_insert(f.table, &entry, cr_table_clock(f.table), f.clock.now_boot))
                versions[session] = entry.version;
            else
                versions[session] = 0; /* no room: the old one is gone, too */
        } else if (tap_random_below(10) == 0) {
            fixture_end_session(&f, session);
            versions[session] = 0;
        } else if (fixture_find(&f, session, &out)) {
            hits++;
            wrong += out.version != versions[session] || out.created_at != 1700000000000 + session;
        }
    }
    CHECK_UINT(wrong, 0);
    CHECK(hits > 1000);
    CHECK(fixture_count(&f).evicted_live > 1000);
    fixture_fini(&f);
}

static const struct tap_test tests[] = {
    TAP_TEST(the_table_answers_what_the_model_says),
    TAP_TEST(a_crowded_table_says_nothing_that_the_model_does_not),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
