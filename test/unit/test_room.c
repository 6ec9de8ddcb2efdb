/* SPDX-License-Identifier: Apache-2.0 */
/* The public interface over a room in direct mode. What needs other processes is in proc/. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cloakroom/account.h>
#include <cloakroom/lock.h>
#include <cloakroom/session.h>
#include <cloakroom/table.h>

#include "room/room.h"
#include "tap.h"
#include "unit/batch.h"

static struct cr_room *room_open(const char *url)
{
    struct cr_options options;
    struct cr_error error = {.size = sizeof error};
    struct cr_room *room = NULL;
    cr_options_init(&options);
    options.mode = CR_MODE_DIRECT;
    options.declared_workers = 1;
    options.cache_bytes = 4 << 20;
    if (!CHECK_STATUS(cr_open(url, &options, &room, &error), CR_OK))
        tap_note("%s", error.text);
    return room;
}

static struct cr_user user_of(const char *name)
{
    struct cr_user user = {0};
    CHECK_STATUS(cr_user_parse(name, strlen(name), &user), CR_OK);
    return user;
}

static bool login(struct cr_room *room, const char *name, enum cr_policy policy,
                  struct cr_login *out)
{
    struct cr_user user = user_of(name);
    struct cr_login_options options = {
        .size = sizeof options, .policy = policy, .keep_count = policy == CR_POLICY_KEEP_N ? 2 : 0};
    return CHECK_STATUS(cr_login(room, &user, &options, out), CR_OK);
}

static enum cr_status validate(struct cr_room *room, const struct cr_token *token)
{
    struct cr_session session = CR_SESSION_INIT;
    return cr_validate(room, token, &session);
}

static void a_url_that_is_none_is_refused_with_the_forms(void)
{
    static const char *const urls[] = {
        "", "sqlite:x", "mysql:///x", "memory", "cloakroom://x/y", "/run/app.sock", "sqlite:/"};
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        struct cr_error error = {.size = sizeof error};
        struct cr_room *room = NULL;
        tap_row(urls[i]);
        CHECK_STATUS(cr_open(urls[i], NULL, &room, &error), CR_E_INVALID);
        CHECK_STATUS(error.status, CR_E_INVALID);
        CHECK(strstr(error.text, "sqlite:///PATH") != NULL);
    }
    tap_row(NULL);
}

static void direct_mode_has_no_shared_cache(void)
{
    struct cr_options options;
    struct cr_error error = {.size = sizeof error};
    struct cr_room *room = NULL;
    cr_options_init(&options);
    options.mode = CR_MODE_DIRECT;
    options.cache = CR_CACHE_SHARED;
    options.declared_workers = 1;
    CHECK_STATUS(cr_open("memory:", &options, &room, &error), CR_E_INVALID);
    CHECK(strstr(error.text, "shared") != NULL);
}

static void several_declared_workers_are_refused_with_the_number_and_the_code(void)
{
    struct cr_options options;
    struct cr_error error = {.size = sizeof error};
    struct cr_room *room = NULL;
    cr_options_init(&options);
    options.mode = CR_MODE_DIRECT;
    options.declared_workers = 4;
    CHECK_STATUS(cr_open("memory:", &options, &room, &error), CR_E_REFUSED);
    CHECK(strstr(error.text, "CR-101") != NULL);
    CHECK(strstr(error.text, "4") != NULL);
}

static void a_login_ends_the_earlier_session_before_it_answers(void)
{
    struct cr_login first, second;
    struct cr_room *room = room_open("memory:");
    if (room == NULL || !login(room, "anna", CR_POLICY_REPLACE, &first))
        return;
    CHECK_STATUS(validate(room, &first.signed_token), CR_OK);
    CHECK_STATUS(validate(room, &first.signed_token), CR_OK);
    CHECK(login(room, "anna", CR_POLICY_REPLACE, &second));
    CHECK_STATUS(validate(room, &first.signed_token), CR_ENDED);
    CHECK_STATUS(validate(room, &second.signed_token), CR_OK);
    struct cr_explanation why = {.size = sizeof why};
    CHECK_STATUS(cr_explain(room, &first.session.id, NULL, &why), CR_OK);
    CHECK(!why.live);
    CHECK_STR(cr_reason_name(why.reason), "replaced");
    CHECK(second.expires_at == second.session.expires_at);
    cr_close(room);
}

static void a_hit_shows_what_the_login_showed(void)
{
    struct cr_login made;
    struct cr_session session = CR_SESSION_INIT;
    struct cr_user anna = user_of("anna");
    struct cr_login_options options = {.size = sizeof options,
                                       .policy = CR_POLICY_KEEP,
                                       .rights = "admin",
                                       .rights_bytes = 5,
                                       .data = "basket",
                                       .data_bytes = 6};
    struct cr_room *room = room_open("memory:");
    if (room == NULL)
        return;
    CHECK_STATUS(cr_login(room, &anna, &options, &made), CR_OK);
    CHECK_STATUS(validate(room, &made.signed_token), CR_OK);
    errno = 77;
    CHECK_STATUS(cr_validate_cached(room, &made.signed_token, &session), CR_OK);
    CHECK_INT(errno, 77);
    CHECK(cr_session_id_equal(&session.id, &made.session.id));
    CHECK(cr_user_equal(&session.user, &anna));
    CHECK_UINT(session.rights_bytes, 5);
    CHECK_MEM(session.rights, "admin", 5);
    CHECK_UINT(session.data_bytes, 6);
    CHECK_MEM(session.data, "basket", 6);
    CHECK_INT(session.created_at, made.session.created_at);
    CHECK_INT(session.ends_at, made.session.ends_at);
    CHECK_UINT(session.version, made.session.version);
    cr_close(room);
}

static void tokens_that_were_changed_or_made_up_are_nobodys(void)
{
    struct cr_login made;
    struct cr_token token;
    struct cr_room *room = room_open("memory:");
    if (room == NULL || !login(room, "anna", CR_POLICY_KEEP, &made))
        return;
    CHECK_STATUS(validate(room, &made.signed_token), CR_OK);
    for (size_t i = 5; i < CR_TOKEN_CHARS; i++) { /* ASVS A3 */
        token = made.signed_token;
        token.text[i] = token.text[i] == 'A' ? 'B' : 'A';
        CHECK_STATUS(validate(room, &token), CR_NOT_FOUND);
    }
    memset(&token, 0, sizeof token);
    CHECK_STATUS(validate(room, &token), CR_NOT_FOUND);
    cr_close(room);
}

static void a_batch_is_answered_as_one_by_one(void)
{
    struct cr_room *room = room_open("memory:");
    if (room == NULL)
        return;
    batch_is_answered_as_one_by_one(room);
    cr_close(room);
}

static void a_call_that_was_begun_is_done_and_the_descriptor_says_so(void)
{
    struct cr_login made;
    struct cr_call *call;
    struct cr_session session = CR_SESSION_INIT;
    struct cr_room *room = room_open("memory:");
    if (room == NULL || !login(room, "anna", CR_POLICY_KEEP, &made))
        return;
    cr_room_poll(room);
    if (!CHECK_STATUS(cr_validate_begin(room, &made.signed_token, true, &call), CR_OK))
        return;
    struct pollfd ready = {.fd = cr_room_fd(room), .events = POLLIN};
    while (!cr_call_done(call)) {
        CHECK_INT(poll(&ready, 1, 5000), 1);
        cr_room_poll(room);
    }
    CHECK_STATUS(cr_validate_finish(call, &session), CR_OK);
    CHECK_STATUS(cr_validate_begin(room, &made.signed_token, true, &call), CR_OK);
    CHECK_INT(poll(&ready, 1, 5000), 1); /* something was done */
    cr_call_cancel(call);
    cr_room_poll(room);
    CHECK_INT(poll(&ready, 1, 0), 0);
    cr_close(room);
}

static void calls_that_are_watched_are_told_of_once_when_they_are_answered(void)
{
    enum { CALLS = 6 };
    struct cr_login made;
    struct cr_call *calls[CALLS];
    struct cr_session session = CR_SESSION_INIT;
    struct cr_lock *lock;
    void *context = NULL;
    int names[CALLS];
    struct cr_room *room = room_open("memory:");
    if (room == NULL || !login(room, "anna", CR_POLICY_KEEP, &made) ||
        !CHECK_STATUS(cr_lock_take(room, "nightly", 0, &lock), CR_OK))
        return;
    CHECK(cr_room_answered(room, &context) == NULL);
    struct pollfd ready = {.fd = cr_room_fd(room), .events = POLLIN};
    for (size_t i = 0; i < CALLS - 1; i++) {
        if (!CHECK_STATUS(cr_validate_begin(room, &made.signed_token, true, &calls[i]), CR_OK))
            return;
        if (i != 1) /* answered before it is watched, as everything in direct mode */
            cr_call_watch(calls[i], &names[i]);
    }
    CHECK_STATUS(cr_lock_take_begin(room, "nightly", 60000, &calls[5]), CR_OK);
    cr_call_watch(calls[5], &names[5]);
    CHECK_STATUS(cr_validate_finish(calls[0], &session), CR_OK); /* before it was told */
    cr_call_cancel(calls[2]);
    CHECK_INT(poll(&ready, 1, 0), 1);
    cr_room_poll(room);
    CHECK(cr_room_answered(room, &context) == calls[3] && context == &names[3]);
    CHECK(cr_room_answered(room, &context) == calls[4] && context == &names[4]);
    CHECK(cr_room_answered(room, &context) == NULL);
    cr_call_watch(calls[3], &names[3]); /* watched already: not told again */
    CHECK(cr_room_answered(room, &context) == NULL);
    CHECK_INT(poll(&ready, 1, 0), 0);
    cr_lock_give(lock); /* answers the one that waits */
    CHECK_INT(poll(&ready, 1, 0), 1);
    CHECK(cr_room_answered(room, &context) == calls[5] && context == &names[5]);
    CHECK_STATUS(cr_lock_take_finish(calls[5], &lock), CR_OK);
    cr_lock_give(lock);
    CHECK_STATUS(cr_validate_finish(calls[1], &session), CR_OK);
    CHECK_STATUS(cr_validate_finish(calls[3], &session), CR_OK);
    CHECK_STATUS(cr_validate_finish(calls[4], &session), CR_OK);
    cr_close(room);
}

static void data_is_written_by_who_saw_the_latest_version(void)
{
    static char large[CR_DATA_BYTES_MAX + 1], back[CR_DATA_BYTES_MAX];
    struct cr_login made;
    uint64_t version = 0;
    size_t bytes = 0;
    struct cr_room *room = room_open("memory:");
    if (room == NULL || !login(room, "anna", CR_POLICY_KEEP, &made))
        return;
    const struct cr_session_id *id = &made.session.id;
    uint64_t first = made.session.version;
    CHECK_STATUS(cr_data_write(room, id, first, "one", 3, &version), CR_OK);
    CHECK(version > first);
    CHECK_STATUS(cr_data_write(room, id, first, "two", 3, &version), CR_CONFLICT);
    CHECK_STATUS(cr_data_write(room, id, CR_VERSION_ANY, "three", 5, &version), CR_OK);
    CHECK_STATUS(cr_data_read(room, id, back, 3, &bytes, &version), CR_E_LIMIT);
    CHECK_UINT(bytes, 5);
    CHECK_STATUS(cr_data_read(room, id, back, sizeof back, &bytes, &version), CR_OK);
    CHECK_MEM(back, "three", 5);
    memset(large, 'x', sizeof large);
    CHECK_STATUS(cr_data_write(room, id, version, large, CR_DATA_BYTES_MAX, &version), CR_OK);
    CHECK_STATUS(cr_data_read(room, id, back, sizeof back, &bytes, &version), CR_OK);
    CHECK_UINT(bytes, CR_DATA_BYTES_MAX);
    CHECK_MEM(back, large, CR_DATA_BYTES_MAX);
    CHECK_STATUS(cr_data_write(room, id, version, large, sizeof large, &version), CR_E_INVALID);
    CHECK_STATUS(cr_end(room, id, NULL, NULL), CR_OK);
    enum cr_status late = cr_data_write(room, id, CR_VERSION_ANY, "late", 4, &version);
    CHECK(late == CR_ENDED || late == CR_NOT_FOUND); /* ASVS D10 */
    CHECK_STATUS(validate(room, &made.signed_token), CR_ENDED);
    cr_close(room);
}

static void rights_that_were_taken_away_are_not_served_again(void)
{
    struct cr_login made;
    struct cr_session session = CR_SESSION_INIT;
    struct cr_room *room = room_open("memory:");
    if (room == NULL || !login(room, "anna", CR_POLICY_KEEP, &made))
        return;
    CHECK_STATUS(cr_rights_write(room, &made.session.id, "admin", 5), CR_OK);
    CHECK_STATUS(cr_validate(room, &made.signed_token, &session), CR_OK);
    CHECK_UINT(session.rights_bytes, 5);
    CHECK_STATUS(cr_rights_write(room, &made.session.id, "", 0), CR_OK); /* ASVS D7 */
    CHECK_STATUS(cr_validate(room, &made.signed_token, &session), CR_OK);
    CHECK_UINT(session.rights_bytes, 0);
    cr_close(room);
}

static void an_ending_that_is_repeated_is_done_once(void)
{
    struct cr_login made;
    struct cr_user anna = user_of("anna"), nobody = user_of("nobody");
    struct cr_ended ended = {.size = sizeof ended}, again = {.size = sizeof again};
    struct cr_room *room = room_open("memory:");
    if (room == NULL || !login(room, "anna", CR_POLICY_KEEP, &made))
        return;
    CHECK_STATUS(cr_invalidate_by_user(room, &nobody, NULL, NULL), CR_UNKNOWN_USER);
    CHECK_STATUS(cr_invalidate_by_user(room, &anna, NULL, &ended), CR_OK);
    CHECK(login(room, "anna", CR_POLICY_KEEP, &made));
    struct cr_end_options repeat = {.size = sizeof repeat, .repeat = ended.ending};
    CHECK_STATUS(cr_invalidate_by_user(room, &anna, &repeat, &again), CR_OK);
    CHECK_MEM(again.ending.bytes, ended.ending.bytes, sizeof ended.ending.bytes);
    CHECK_STATUS(validate(room, &made.signed_token), CR_OK);
    cr_close(room);
}

static void all_sessions_but_one_end_and_lists_come_in_pages(void)
{
    struct cr_login made[5];
    struct cr_session page[2];
    struct cr_cursor cursor = {0};
    struct cr_user anna = user_of("anna");
    size_t count = 0, seen = 0;
    struct cr_room *room = room_open("memory:");
    if (room == NULL)
        return;
    for (size_t i = 0; i < 5; i++) {
        if (!login(room, "anna", CR_POLICY_KEEP, &made[i]))
            return;
    }
    do {
        CHECK_STATUS(cr_sessions_of(room, &anna, NULL, &cursor, page, 2, &count), CR_OK);
        seen += count;
    } while (count > 0 && seen < 100);
    CHECK_UINT(seen, 5);
    CHECK_STATUS(cr_end_others(room, &made[2].session.id, NULL, NULL), CR_OK);
    for (size_t i = 0; i < 5; i++)
        CHECK_STATUS(validate(room, &made[i].signed_token), i == 2 ? CR_OK : CR_ENDED);
    CHECK_STATUS(cr_end_all(room, NULL, NULL), CR_OK);
    CHECK_STATUS(validate(room, &made[2].signed_token), CR_ENDED);
    cr_close(room);
}

static void a_token_that_is_renewed_twice_has_one_successor(void)
{
    struct cr_login made, renewed, again;
    struct cr_room *room = room_open("memory:");
    if (room == NULL || !login(room, "anna", CR_POLICY_KEEP, &made))
        return;
    CHECK_STATUS(cr_rotate(room, &made.signed_token, CR_ROTATE_RENEW, &renewed), CR_OK);
    CHECK_STATUS(cr_rotate(room, &made.signed_token, CR_ROTATE_RENEW, &again), CR_OK);
    CHECK_STR(renewed.signed_token.text, again.signed_token.text);
    CHECK_STATUS(validate(room, &made.signed_token), CR_OK); /* its grace */
    CHECK_STATUS(cr_rotate(room, &renewed.signed_token, CR_ROTATE_PRIVILEGE, &again), CR_OK);
    CHECK_STATUS(validate(room, &renewed.signed_token), CR_ENDED);
    CHECK_STATUS(validate(room, &again.signed_token), CR_OK);
    cr_close(room);
}

static void a_lock_has_one_holder_and_its_fence_rises(void)
{
    struct cr_lock *lock = NULL, *other = NULL;
    struct cr_room *room = room_open("memory:");
    if (room == NULL || !CHECK_STATUS(cr_lock_take(room, "nightly", 0, &lock), CR_OK))
        return;
    uint64_t fence = cr_lock_fence(lock);
    CHECK_STATUS(cr_lock_check(lock), CR_OK);
    CHECK_STATUS(cr_lock_take(room, "nightly", 0, &other), CR_BUSY);
    CHECK_STATUS(cr_lock_take(room, "", 0, &other), CR_E_INVALID);
    cr_lock_give(lock);
    if (CHECK_STATUS(cr_lock_take(room, "nightly", 0, &lock), CR_OK)) {
        CHECK(cr_lock_fence(lock) > fence);
        cr_lock_give(lock);
    }
    cr_close(room);
}

static void a_lock_whose_taking_is_cancelled_is_nobodys(void)
{
    struct cr_lock *lock = NULL;
    struct cr_call *call = NULL, *waiting = NULL;
    struct cr_room *room = room_open("memory:");
    if (room == NULL)
        return;
    CHECK_STATUS(cr_lock_take_begin(room, "", 0, &call), CR_E_INVALID);
    /* Granted before it was cancelled. */
    if (!CHECK_STATUS(cr_lock_take_begin(room, "nightly", 0, &call), CR_OK))
        return;
    CHECK(cr_call_done(call));
    cr_call_cancel(call);
    /* Cancelled while it was waited for, and the one before is given back later. */
    if (!CHECK_STATUS(cr_lock_take_begin(room, "nightly", 0, &call), CR_OK) ||
        !CHECK_STATUS(cr_lock_take_finish(call, &lock), CR_OK) ||
        !CHECK_STATUS(cr_lock_take_begin(room, "nightly", 5000, &waiting), CR_OK))
        return;
    CHECK_STATUS(cr_lock_check(lock), CR_OK);
    CHECK(!cr_call_done(waiting));
    cr_call_cancel(waiting);
    cr_lock_give(lock);
    if (CHECK_STATUS(cr_lock_take(room, "nightly", 0, &lock), CR_OK))
        cr_lock_give(lock);
    cr_close(room);
}

static void an_event_loop_hears_when_a_lock_was_waited_for_in_vain(void)
{
    struct cr_lock *lock, *other;
    struct cr_call *call;
    struct cr_room *room = room_open("memory:");
    if (room == NULL || !CHECK_STATUS(cr_lock_take(room, "nightly", 0, &lock), CR_OK) ||
        !CHECK_STATUS(cr_lock_take_begin(room, "nightly", 50, &call), CR_OK))
        return;
    struct pollfd ready = {.fd = cr_room_fd(room), .events = POLLIN};
    while (!cr_call_done(call)) {
        if (!CHECK_INT(poll(&ready, 1, 8000), 1)) /* sooner than the call's time-out */
            break;
        cr_room_poll(room);
    }
    CHECK_STATUS(cr_lock_take_finish(call, &other), CR_BUSY);
    cr_lock_give(lock);
    cr_close(room);
}

static void a_forked_child_may_not_use_the_engine_of_its_parent(void)
{
    struct cr_login made;
    struct cr_session session = CR_SESSION_INIT;
    int status = 0;
    struct cr_room *room = room_open("memory:");
    if (room == NULL || !login(room, "anna", CR_POLICY_KEEP, &made))
        return;
    struct cr_call *call;
    struct cr_lock *lock;
    int fd = cr_room_fd(room);
    CHECK_STATUS(validate(room, &made.signed_token), CR_OK);
    CHECK_STATUS(cr_lock_take(room, "nightly", 0, &lock), CR_OK);
    CHECK_STATUS(cr_validate_begin(room, &made.signed_token, true, &call), CR_OK);
    pid_t pid = fork();
    if (pid == 0) {
        /* Its parent's loop has something to do, and that is none of the child's business. */
        struct pollfd ready = {.fd = cr_room_fd(room), .events = POLLIN};
        struct cr_call *other;
        bool refused = cr_validate(room, &made.signed_token, &session) == CR_E_REFUSED &&
                       cr_validate_cached(room, &made.signed_token, &session) == CR_ASK &&
                       cr_validate_begin(room, &made.signed_token, true, &other) == CR_E_REFUSED &&
                       cr_call_done(call) && cr_validate_finish(call, &session) == CR_E_REFUSED &&
                       cr_lock_check(lock) == CR_LOST && ready.fd == fd && poll(&ready, 1, 0) == 0;
        cr_lock_give(lock);
        cr_close(room);
        _exit(refused ? 0 : 1);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK_INT(status, 0);
    CHECK_STATUS(cr_validate_finish(call, &session), CR_OK);
    CHECK_STATUS(cr_lock_check(lock), CR_OK);
    cr_lock_give(lock);
    CHECK_STATUS(validate(room, &made.signed_token), CR_OK);
    cr_close(room);
}

static void an_applications_own_table_drops_what_was_read_before_an_ending(void)
{
    struct cr_value value = {.size = sizeof value};
    struct cr_ticket ticket;
    struct cr_user anna = user_of("anna");
    struct cr_room *room = room_open("table:test");
    if (room == NULL)
        return;
    CHECK_STATUS(cr_lookup(room, "key", 3, &value), CR_ASK);
    CHECK_STATUS(cr_ticket_take(room, "key", 3, &ticket), CR_OK);
    CHECK_STATUS(cr_fill(room, &ticket, &anna, "value", 5, 60000), CR_OK);
    if (CHECK_STATUS(cr_lookup(room, "key", 3, &value), CR_OK)) {
        CHECK_UINT(value.bytes, 5);
        CHECK_MEM(value.data, "value", 5);
        CHECK(cr_user_equal(&value.user, &anna));
        CHECK(value.left > 0 && value.left <= 60000);
    }
    CHECK_STATUS(cr_ticket_take(room, "key", 3, &ticket), CR_OK);
    CHECK_STATUS(cr_invalidate_by_user(room, &anna, NULL, NULL), CR_OK);
    CHECK_STATUS(cr_lookup(room, "key", 3, &value), CR_ASK);
    CHECK_STATUS(cr_fill(room, &ticket, &anna, "value", 5, 60000), CR_OK);
    CHECK_STATUS(cr_lookup(room, "key", 3, &value), CR_ASK);
    CHECK_STATUS(cr_ticket_take(room, "key", 3, &ticket), CR_OK);
    CHECK_STATUS(cr_fill(room, &ticket, &anna, "value", 5, 60000), CR_OK);
    CHECK_STATUS(cr_lookup(room, "key", 3, &value), CR_OK);
    CHECK_STATUS(cr_invalidate(room, "key", 3), CR_OK);
    CHECK_STATUS(cr_lookup(room, "key", 3, &value), CR_ASK);
    CHECK_STATUS(cr_fill(room, &ticket, &anna, "value", CR_DATA_CACHED_BYTES_MAX + 1, 60000),
                 CR_E_LIMIT);
    cr_close(room);
}

static void an_own_table_is_filled_in_steps_that_wait_for_nobody(void)
{
    struct cr_value value = {.size = sizeof value};
    struct cr_ticket ticket, late;
    struct cr_call *call;
    struct cr_user anna = user_of("anna");
    struct cr_room *room = room_open("table:test");
    if (room == NULL)
        return;
    CHECK_STATUS(cr_lookup_cached(room, "key", 3, &value), CR_ASK);
    /* The table is here: there is nobody who knows more. */
    CHECK_STATUS(cr_lookup_begin(room, "key", 3, &call), CR_ASK);
    if (!CHECK_STATUS(cr_ticket_take_begin(room, "key", 3, &call), CR_OK))
        return;
    CHECK(cr_call_done(call));
    CHECK_STATUS(cr_ticket_take_finish(call, &ticket), CR_OK);
    CHECK_STATUS(cr_ticket_take(room, "key", 3, &late), CR_OK);
    if (!CHECK_STATUS(cr_fill_begin(room, &ticket, &anna, "value", 5, 60000, &call), CR_OK))
        return;
    CHECK_STATUS(cr_fill_finish(call), CR_OK);
    if (CHECK_STATUS(cr_lookup_cached(room, "key", 3, &value), CR_OK))
        CHECK_MEM(value.data, "value", 5);
    if (!CHECK_STATUS(cr_invalidate_begin(room, "key", 3, &call), CR_OK))
        return;
    CHECK_STATUS(cr_invalidate_finish(call), CR_OK);
    CHECK_STATUS(cr_lookup_cached(room, "key", 3, &value), CR_ASK);
    if (!CHECK_STATUS(cr_fill_begin(room, &late, &anna, "value", 5, 60000, &call), CR_OK))
        return;
    CHECK_STATUS(cr_fill_finish(call), CR_OK); /* kept nowhere: older than the ending */
    CHECK_STATUS(cr_lookup_cached(room, "key", 3, &value), CR_ASK);
    CHECK_STATUS(cr_fill_begin(room, &ticket, &anna, "value", 5, 0, &call), CR_E_INVALID);
    cr_close(room);
}

static void statistics_count_hits_and_misses(void)
{
    struct cr_login made;
    struct cr_stats stats = {.size = sizeof stats};
    struct cr_room *room = room_open("memory:");
    if (room == NULL || !login(room, "anna", CR_POLICY_KEEP, &made))
        return;
    for (int i = 0; i < 10; i++)
        CHECK_STATUS(validate(room, &made.signed_token), CR_OK);
    CHECK_STATUS(cr_stats(room, &stats), CR_OK);
    CHECK_UINT(stats.hits + stats.misses, 10);
    CHECK(stats.hits >= 9);
    CHECK(!stats.attached);
    CHECK_UINT(stats.cache, CR_CACHE_MEMORY);
    CHECK_UINT(stats.agent_pid, (uint64_t)getpid());
    struct cr_call *call;
    struct cr_stats again = {.size = sizeof again};
    if (CHECK_STATUS(cr_stats_begin(room, &call), CR_OK)) {
        CHECK_STATUS(cr_stats_finish(call, &again), CR_OK);
        CHECK_UINT(again.hits, stats.hits);
        CHECK_UINT(again.agent_pid, stats.agent_pid);
    }
    again.size--;
    if (CHECK_STATUS(cr_stats_begin(room, &call), CR_OK))
        CHECK_STATUS(cr_stats_finish(call, &again), CR_E_INVALID);
    cr_close(room);
}

static uint64_t commits_of(struct cr_room *room)
{
    struct cr_stats stats = {.size = sizeof stats};
    CHECK_STATUS(cr_stats(room, &stats), CR_OK);
    return stats.store_commits;
}

static void accounts_are_imported_in_one_commit_and_known_when_they_come_again(void)
{
    static const char hash[] = "$2b$04$LVQNwyA0JYQCNpq41GV8m.S5dTav2Wbz9BYjpe4q8pBYPnQ.bbio2";
    static const char other[] = "$2b$04$LVQNwyA0JYQCNpq41GV8m.S5dTav2Wbz9BYjpe4q8pBYPnQ.bbio3";
    struct cr_user users[CR_IMPORTS_MAX];
    struct cr_import imports[CR_IMPORTS_MAX];
    char name[16];
    struct cr_room *room = room_open("memory:");
    if (room == NULL)
        return;
    for (size_t i = 0; i < CR_IMPORTS_MAX; i++) {
        (void)snprintf(name, sizeof name, "user%zu", i);
        users[i] = user_of(name);
        imports[i] = (struct cr_import){.user = &users[i], .hash = hash};
    }
    CHECK_STATUS(cr_account_import(room, &users[3], other), CR_OK);
    imports[5].hash = "no hash";
    uint64_t before = commits_of(room);
    cr_accounts_import(room, imports, CR_IMPORTS_MAX);
    CHECK_UINT(commits_of(room), before + 1);
    for (size_t i = 0; i < CR_IMPORTS_MAX; i++) {
        CHECK_STATUS(imports[i].status, i == 3 ? CR_CONFLICT : i == 5 ? CR_E_INVALID : CR_OK);
        CHECK(!imports[i].same);
    }
    imports[5].hash = hash;
    cr_accounts_import(room, imports, CR_IMPORTS_MAX);
    for (size_t i = 0; i < CR_IMPORTS_MAX; i++) {
        CHECK_STATUS(imports[i].status, i == 5 ? CR_OK : CR_CONFLICT);
        CHECK(imports[i].same == (i != 3 && i != 5));
    }
    CHECK_STATUS(cr_account_import(room, &users[0], hash), CR_CONFLICT);
    cr_close(room);
}

static void one_store_has_one_state_directory_whatever_the_path_to_it(void)
{
    char dir[] = "/tmp/cr-test-XXXXXX", link[64], url[128], one[200], two[200];
    if (!CHECK(mkdtemp(dir) != NULL))
        return;
    (void)snprintf(link, sizeof link, "%s/link", dir);
    CHECK_INT(symlink(dir, link), 0);
    (void)snprintf(url, sizeof url, "sqlite://%s/a.db", dir);
    CHECK_STATUS(cr_state_directory(url, one, sizeof one), CR_OK);
    (void)snprintf(url, sizeof url, "sqlite://%s/./a.db", link);
    CHECK_STATUS(cr_state_directory(url, two, sizeof two), CR_OK);
    CHECK_STR(one, two);
    (void)snprintf(url, sizeof url, "sqlite://%s/b.db", dir);
    CHECK_STATUS(cr_state_directory(url, two, sizeof two), CR_OK);
    CHECK(strcmp(one, two) != 0);
    CHECK_STATUS(cr_state_directory("sqlite://a.db", two, sizeof two), CR_E_INVALID);
    CHECK_STATUS(cr_state_directory(url, two, 10), CR_E_LIMIT);
    (void)unlink(link);
    (void)rmdir(dir);
}

int main(int argc, char **argv)
{
    static const struct tap_test tests[] = {
        TAP_TEST(a_url_that_is_none_is_refused_with_the_forms),
        TAP_TEST(direct_mode_has_no_shared_cache),
        TAP_TEST(several_declared_workers_are_refused_with_the_number_and_the_code),
        TAP_TEST(a_login_ends_the_earlier_session_before_it_answers),
        TAP_TEST(a_hit_shows_what_the_login_showed),
        TAP_TEST(tokens_that_were_changed_or_made_up_are_nobodys),
        TAP_TEST(a_batch_is_answered_as_one_by_one),
        TAP_TEST(a_call_that_was_begun_is_done_and_the_descriptor_says_so),
        TAP_TEST(calls_that_are_watched_are_told_of_once_when_they_are_answered),
        TAP_TEST(data_is_written_by_who_saw_the_latest_version),
        TAP_TEST(rights_that_were_taken_away_are_not_served_again),
        TAP_TEST(an_ending_that_is_repeated_is_done_once),
        TAP_TEST(all_sessions_but_one_end_and_lists_come_in_pages),
        TAP_TEST(a_token_that_is_renewed_twice_has_one_successor),
        TAP_TEST(a_lock_has_one_holder_and_its_fence_rises),
        TAP_TEST(a_lock_whose_taking_is_cancelled_is_nobodys),
        TAP_TEST(an_event_loop_hears_when_a_lock_was_waited_for_in_vain),
        TAP_TEST(a_forked_child_may_not_use_the_engine_of_its_parent),
        TAP_TEST(an_applications_own_table_drops_what_was_read_before_an_ending),
        TAP_TEST(an_own_table_is_filled_in_steps_that_wait_for_nobody),
        TAP_TEST(statistics_count_hits_and_misses),
        TAP_TEST(accounts_are_imported_in_one_commit_and_known_when_they_come_again),
        TAP_TEST(one_store_has_one_state_directory_whatever_the_path_to_it),
    };
    return TAP_MAIN(tests, argc, argv);
}
