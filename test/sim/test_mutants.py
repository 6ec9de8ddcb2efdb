#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: long serial timeout=1500
"""Each rule of the design, broken on purpose: the tests must see it.

Each variant (../variants.py) is a small change of the sources; the tests that are named must then
fail within some seconds.

Two variants that the design names are not here, because this engine cannot show them:

- Freshness published before the stamps, within one poll's answer. Nobody is told `done` before the
  next poll acknowledges the row, or before the lease, which counts from when the poll was sent, is
  over; so nothing that begins after `done` sees the difference.
- A created session stamped with the new clock. There is one writer, which answers in the order of
  its commits: whatever ends the session later also raises its stamps after the insert.

A log whose numbers have gaps is refused by the store's wrapper already: that variant takes the
wrapper's check out as well.
"""

import atexit
import functools
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import tap  # noqa: E402
import variants  # noqa: E402

SIM = ("test_engines", "test_random")
TABLE = ("test_cache_rules", "test_cache_model")
BATCH = ("test_cache_steps", "test_cache_model")
SECONDS = "30"  # at most; most are seen within one


def variant(*words, programs=SIM):
    return variants.variant(*words, programs=programs)


JOIN = """    for (struct op *op = engine->ops; op != NULL && !strict; op = op->next) {
        struct fill *first = (struct fill *)op;
        if (op->release != fill_release || op->done == fill_both ||
            !cr_session_id_equal(&first->id, &id) || memcmp(&first->hash, &hash, sizeof hash) != 0)
            continue;
        first->first_done = op->done;
        first->first_context = op->context;
        first->second_done = done;
        first->second_context = context;
        op->done = fill_both;
        op->context = first;
        return;
    }
"""
JOIN_BOTH = """static void fill_both(void *context, const struct cr_engine_answer *answer)
{
    struct fill *fill = context;
    fill->first_done(fill->first_context, answer);
    fill->second_done(fill->second_context, answer);
}

static void fill_release(struct op *op)
"""
SNAPSHOT = """    static struct { struct cr_session_id id; struct cr_record record; } old[64];
    size_t place = (size_t)(unsigned char)id->text[10] % 64;
    if (st == CR_OK && cr_session_id_equal(&old[place].id, id) && out->data == NULL) {
        struct cr_record now = *out;
        *out = old[place].record;
        old[place].record = now;
    } else if (st == CR_OK && out->data == NULL) {
        old[place].id = *id;
        old[place].record = *out;
    }
    return cr_memory_leave(&call, st);
}

/* ---- create */
"""

VARIANTS = [
    # Rule 1
    variant("a_clock_read_after_the_store", "src/engine/fill.c",
            "cr_table_insert(engine->table, &entry, fill->stamp, now)",
            "cr_table_insert(engine->table, &entry, cr_engine_clock(engine), now)"),
    variant("no_floor", "src/cache/insert.c",
            "return stamp < table->floors[home] || stamp <",
            "return stamp <"),
    variant("fills_of_before_a_users_stamp", "src/cache/insert.c",
            "stamp < word_own(&table->stamps[stamp_index]) ||\n           ", "",
            "src/cache/view.c", "return user <= facts->stamp && all", "return all"),
    variant("a_read_of_an_older_snapshot", "src/store/memory_sessions.c",
            "    return cr_memory_leave(&call, st);\n}\n\n/* ---- create */\n", SNAPSHOT),
    variant("joining_a_read_that_was_sent_already", "src/engine/fill.c",
            "    enum cr_status poll_status;\n};",
            "    enum cr_status poll_status;\n    cr_engine_done *first_done, *second_done;\n"
            "    void *first_context, *second_context;\n};",
            "src/engine/fill.c", "static void fill_release(struct op *op)\n", JOIN_BOTH,
            "src/engine/fill.c",
            "    struct fill *fill = cr_engine_op_begin(engine, sizeof *fill, fill_release, done, "
            "context);\n    if (fill == NULL)\n        return;\n    fill->id = id;",
            JOIN + "    struct fill *fill = cr_engine_op_begin(engine, sizeof *fill, fill_release, "
            "done, context);\n    if (fill == NULL)\n        return;\n    fill->id = id;"),
    variant("a_host_that_says_yes_after_it_said_no", "src/engine/fill.c",
            "    cr_engine_apply(fill->op.engine, &row);\n", "    (void)row;\n"),
    variant("a_new_table_whose_clock_starts_anew", "src/engine/engine.c",
            ".clock_start = cr_engine_clock(engine) + 1,", ".clock_start = 1,",
            programs=("test_engines",)),
    # Rule 2
    variant("a_stamp_before_the_commit", "src/engine/end.c",
            "    cr_engine_op_write(&end->op, end_run, end_done);",
            "    end_presume(end);\n    cr_engine_op_write(&end->op, end_run, end_done);",
            "src/engine/end.c", "    cr_engine_apply(engine, &end->row);\n", ""),
    variant("no_stamp_after_an_ending", "src/engine/end.c",
            "    cr_engine_apply(engine, &end->row);\n", ""),
    variant("a_stamp_that_is_not_raised_to_the_clock", "src/cache/table.c",
            "atomic_store_explicit(stamp, clock, memory_order_release);",
            "atomic_store_explicit(stamp, clock - 1, memory_order_release);"),
    variant("a_login_that_applies_its_first_row_only", "src/engine/write.c",
            "        cr_engine_apply(engine, &create->rows.rows[i]);",
            "        if (i == 0)\n            cr_engine_apply(engine, &create->rows.rows[i]);"),
    # Rule 3
    variant("an_entry_that_is_not_dropped", "src/cache/table.c",
            "    if (cr_slot_find(table, id, &slot))\n        cr_slot_drop(table, slot);\n    return clock;",
            "    return clock;"),
    variant("changes_that_drop_nothing", "src/engine/write.c",
            "    cr_engine_apply(change->op.engine, &row);", ""),
    # Rule 4
    variant("a_reader_that_looks_at_no_stamps", "src/cache/view.c",
            "answer == ENTRY_OTHER || !stamps_allow(view, &facts)", "answer == ENTRY_OTHER"),
    variant("a_reader_that_looks_at_no_lease", "src/cache/view.c",
            "now >= entry->deadline || now >= fresh", "now >= entry->deadline",
            "src/cache/view.c", "    if (!view->always_fresh && fresh - now >", "    if (false && fresh - now >"),
    variant("a_reader_that_looks_at_no_deadline", "src/cache/view.c",
            "now >= entry->deadline || now >= fresh", "now >= fresh"),
    variant("an_old_token_past_its_grace", "src/cache/view.c",
            "    return !facts->matched_old || now < entry->old_until;", "    return true;",
            programs=TABLE),
    variant("stamps_read_before_the_lease", "src/cache/view.c",
            "        cr_boot_ns fresh =\n            atomic_load_explicit(&view_header(view)->fresh_until, "
            "memory_order_acquire);\n        struct entry_facts facts;",
            "        struct entry_facts facts;",
            "src/cache/view.c", "        out->as_of = cr_clock_boot(clock);\n",
            "        cr_boot_ns fresh =\n            atomic_load_explicit(&view_header(view)->fresh_until, "
            "memory_order_acquire);\n        out->as_of = cr_clock_boot(clock);\n",
            programs=("test_cache_steps",)),
    variant("a_clock_that_a_reader_looks_at_first", "src/cache/view.c",
            "        struct entry_facts facts;\n        enum entry_answer answer = view_search(",
            "        struct entry_facts facts;\n        cr_boot_ns early = cr_clock_boot(clock);\n"
            "        enum entry_answer answer = view_search(",
            "src/cache/view.c", "        out->as_of = cr_clock_boot(clock);", "        out->as_of = early;",
            programs=("test_cache_steps",)),
    variant("a_batch_that_looks_at_no_stamps", "src/cache/view.c",
            "wanted[i].found = wanted[i].found && stamps_allow(view, &facts[i]);", ";",
            programs=BATCH),
    variant("a_batch_that_looks_at_no_lease", "src/cache/view.c",
            "time_allows(view, now, fresh, &entry, &facts[i])",
            "time_allows(view, now, now + 1, &entry, &facts[i])", programs=BATCH),
    variant("a_batch_with_its_stamps_before_the_lease", "src/cache/view.c",
            "    cr_boot_ns fresh = atomic_load_explicit(&view_header(view)->fresh_until, "
            "memory_order_acquire);\n", "",
            "src/cache/view.c", "    cr_boot_ns now = cr_clock_boot(clock);\n",
            "    cr_boot_ns fresh = atomic_load_explicit(&view_header(view)->fresh_until, "
            "memory_order_acquire);\n    cr_boot_ns now = cr_clock_boot(clock);\n",
            programs=BATCH),
    variant("a_batch_with_its_clock_first", "src/cache/view.c",
            "    cr_boot_ns now = cr_clock_boot(clock);\n", "",
            "src/cache/view.c", "    /* view_fresh:B.",
            "    cr_boot_ns now = cr_clock_boot(clock);\n    /* view_fresh:B.",
            programs=BATCH),
    variant("a_torn_copy_that_is_believed", "src/cache/view.c",
            "    if (atomic_load_explicit(&slot->sequence, memory_order_relaxed) != sequence)\n"
            "        return ENTRY_TORN;\n", "",
            programs=("test_cache_steps", "test_cache_threads")),
    # Rule 5
    variant("a_lease_counted_from_the_reply", "src/engine/follow.c",
            "        lease_extend(engine, sent);", "        lease_extend(engine, cr_engine_now(engine));"),
    variant("a_lease_of_a_poll_that_did_not_reach_the_end", "src/engine/follow.c",
            "    if (poll->at_end)\n", "",
            "src/engine/internal.h", "#define POLL_ROWS 1024", "#define POLL_ROWS 2"),
    variant("an_acknowledgement_before_the_stamps", "src/store/memory_others.c",
            "    polled.position = row->position;",
            "    polled.position = memory->counters.log_last;"),
    variant("a_position_before_the_stamps", "src/engine/follow.c",
            "    for (size_t i = 1; i < poll->rows.count; i++)\n        cr_engine_apply(engine, "
            "&poll->rows.rows[i]);\n", ""),
    variant("a_log_that_is_not_checked_to_go_on", "src/engine/follow.c",
            "    if (!rows_continue_ours(engine, &poll->rows)) {",
            "    if (poll->rows.count == 0) {"),
    variant("a_log_whose_numbers_become_visible_out_of_order", "src/store/memory_others.c",
            "        st = cr_memory_log_read(memory, row->position, limit, &out->rows);",
            "        st = cr_memory_log_read(memory, row->position, limit, &out->rows);\n"
            "    if (st == CR_OK && out->rows.count > 2 && row->beat % 2 == 0) {\n"
            "        out->rows.rows[out->rows.count - 2] = out->rows.rows[out->rows.count - 1];\n"
            "        out->rows.count--;\n    }",
            "src/store/store.c", "row->number == row[-1].number + 1", "row->number > row[-1].number"),
    variant("a_table_that_outlives_its_registration", "src/engine/follow.c",
            "    engine->registered = false;\n    cr_engine_drop_table(engine);",
            "    engine->registered = false;",
            "src/engine/follow.c",
            "        /* Whatever was filled since the loss may have missed an ending. */\n"
            "        cr_engine_drop_table(engine);\n", ""),
    variant("a_lease_that_goes_backwards", "src/cache/table.c",
            " || until <= word_own(&table->header->fresh_until))", ")", programs=TABLE),
    variant("a_lease_further_ahead_than_a_second", "src/cache/table.c",
            "    if (until > most)\n        until = most;\n", "", programs=TABLE),
    # Rule 6
    variant("an_unregistered_host", "src/engine/follow.c",
            "    return cr_store_engine_register(store, row);", "    return CR_OK;",
            "src/store/memory_others.c",
            "    if (item == NULL || item->engine.beat != row->beat)\n        goto out;\n"
            "    struct cr_engine_row polled = item->engine;",
            "    struct cr_engine_row polled = *row;\n    (void)item;",
            "src/store/memory_others.c", "    st = engine_put(memory, &polled);\n", "    st = CR_OK;\n"),
    variant("waiting_for_nobody", "src/engine/wait.c",
            "        if (engine->others[i].row.position < number)\n            return false;", "        ;"),
    variant("waiting_for_less_than_the_lease", "src/engine/internal.h",
            "(((span)*122 + 99) / 100)", "(((span)*61 + 99) / 100)"),
    variant("a_list_of_engines_of_before_the_commit", "src/engine/wait.c",
            "    waiter->census = engine->census_asked + 1;",
            "    waiter->census = engine->census_known;"),
    variant("a_silent_engine_that_is_taken_out_whatever_its_beat", "src/store/memory_others.c",
            "if (item != NULL && item->engine.beat == beat)", "if (item != NULL)",
            "src/engine/wait.c", "        if (other->row.beat != row->beat)\n            other->since = now;\n",
            "        if (other->row.position != row->position)\n            other->since = now;\n"),
    variant("no_wait_for_a_predecessors_segment", "src/engine/wait.c",
            "    if (st == CR_OK && (crashed || count > 0))", "    if (false)"),
    variant("rights_that_do_not_wait", "src/engine/write.c",
            "    change->change.rights_bytes = (uint16_t)bytes;\n    change->waits = true;",
            "    change->change.rights_bytes = (uint16_t)bytes;"),
    variant("a_change_of_privilege_that_does_not_wait", "src/engine/write.c",
            "    change->waits = rotation == CR_ROTATE_PRIVILEGE;", "    change->waits = false;"),
    variant("logins_that_do_not_wait", "src/engine/write.c",
            "        cr_engine_wait_for(engine, &create->waiter, number, false);",
            "        cr_engine_wait_for(engine, &create->waiter, 0, false);"),
    variant("a_retired_table_that_is_freshened_again", "src/cache/table.c",
            "    if (table->retired || ", "    if (", programs=TABLE),
    # Rule 7
    variant("a_fill_asked_past_the_lease", "src/engine/fill.c",
            "    if (cr_engine_may_answer(fill->op.engine))\n        cr_engine_op_read(",
            "    if (true)\n        cr_engine_op_read("),
    variant("a_fill_answered_past_the_lease", "src/engine/fill.c",
            "    if (!cr_engine_may_answer(fill->op.engine)) {\n        /* Rule 7", "    if (false) {\n"
            "        /* Rule 7"),
    variant("a_hit_answered_past_the_lease", "src/engine/engine.c",
            "           cr_engine_now(engine) < until;", "           until != 1;"),
    # Rule 8
    variant("a_reply_to_another_question", "src/store/store.c",
            "    if (st == CR_OK && (!cr_record_is_sound(out) || !cr_session_id_equal(&out->id, id)))\n",
            "    if (st == CR_OK && !cr_record_is_sound(out))\n"),
    variant("a_strict_read_that_is_no_poll", "src/engine/fill.c",
            "    if (!strict || engine->exclusive) {", "    if (true) {"),
    variant("an_entry_of_another_secret", "src/cache/view.c",
            "    bool matched = head_hash_equal(head + HEAD_HASH, hash);",
            "    bool matched = true;"),
    variant("an_entry_of_another_id", "src/cache/head.h",
            "    return (uint64_t)(sum >> 64);\n", "    return 0 * (uint64_t)(sum >> 64);\n", programs=TABLE),
    # Rule 9
    variant("pending_said_to_be_done", "src/engine/wait.c",
            "    *out_status = CR_PENDING;\n    return", "    return"),
    variant("an_unknown_outcome_said_to_be_done", "src/engine/end.c",
            "        end_answer(end, CR_E_UNKNOWN_OUTCOME, 0);\n        return;",
            "        end_answer(end, CR_OK, 0);\n        return;"),
    variant("an_unknown_outcome_that_is_not_asked_for_again", "src/engine/end.c",
            "    if (now >= end->retry_until) {", "    if (true) {"),
    # The application's own table
    variant("a_fill_with_the_clock_of_its_end", "src/engine/own.c",
            "cr_table_insert(engine->table, entry, stamp, cr_engine_now(engine))",
            "cr_table_insert(engine->table, entry, cr_engine_clock(engine), cr_engine_now(engine))",
            programs=("test_table",)),
    variant("an_own_table_whose_predecessor_is_not_waited_for", "src/engine/wait.c",
            "    bool crashed = store == NULL &&", "    bool crashed = false &&",
            programs=("test_table",)),
    variant("a_stamp_from_the_future", "src/cache/insert.c",
            "stamp <= cr_table_clock(table) && ", "", programs=TABLE),
    # The ends of a session
    variant("an_entry_that_outlives_the_absolute_end", "src/engine/fill.c",
            "    out->deadline = idle_until < out->absolute_until ? idle_until : out->absolute_until;",
            "    out->deadline = idle_until;"),
    variant("a_deadline_counted_from_the_answer", "src/engine/fill.c",
            "    out->absolute_until = cr_boot_add(before, record->absolute_left);",
            "    out->absolute_until = cr_boot_add(before, 2 * record->absolute_left);"),
    variant("an_idle_time_that_the_table_prolongs", "src/engine/fill.c",
            "    cr_boot_ns idle_until = cr_boot_add(out->seen, record->idle);",
            "    cr_boot_ns idle_until = cr_boot_add(out->seen, 2 * record->idle);"),
    variant("a_use_dated_when_it_is_written", "src/engine/seen.c",
            "batch[i].ago = cr_boot_between(at[i], now);", "batch[i].ago = 0 * (cr_span_ms)(now - at[i]);"),
    variant("a_use_that_is_not_reported", "src/engine/fill.c",
            "    if (cr_boot_between(entry->seen, now) >= CR_GRANULE_MS(entry->idle))\n", "    if (false)\n"),
    variant("a_use_dated_when_it_is_heard_of", "src/service/requests.c",
            "cr_message_u64(message, CR_TAG_BOOT, now_of(request));", "now_of(request);",
            programs=("test_service",)),
    variant("what_is_done_on_the_word_of_an_ended_session", "src/service/service.c",
            "    if (answer->status == CR_OK)\n        authority_known(",
            "    if (answer->record != NULL)\n        authority_known(", programs=("test_random",)),
    # Named leases
    variant("trust_in_a_lease_counted_from_the_reply", "src/coord/lease.c",
            "    cr_boot_ns until = cr_boot_add(h->sent,", "    cr_boot_ns until = cr_boot_add(holding_now(h),",
            programs=("test_leases",)),
    variant("trust_in_a_lease_without_a_margin", "src/coord/lease.c",
            "    cr_boot_ns until = cr_boot_add(h->sent, CR_LEASE_TTL_MS - MARGIN_MS);",
            "    cr_boot_ns until = cr_boot_add(h->sent, CR_LEASE_TTL_MS);",
            programs=("test_leases",)),
    variant("a_lease_taken_by_an_answer_that_is_too_old", "src/coord/lease.c",
            "    if (holding_now(h) >= until)\n        return false;\n", "",
            programs=("test_leases",)),
    variant("a_lease_whose_fence_stays", "src/store/memory_others.c",
            "item->lease.fence + 1", "item->lease.fence", programs=("test_leases",)),
    # Tables that are replaced; sessions
    variant("a_write_that_revives", "src/store/memory_sessions.c",
            "    return session_is_live(memory, *out_record) ? CR_OK : CR_ENDED;", "    return CR_OK;"),
    variant("a_login_with_the_generation_of_before", "src/store/memory_sessions.c",
            "    if (terms->has_generation && terms->generation", "    if (false && terms->generation"),
    variant("a_write_that_does_not_look_at_the_version", "src/store/record.c",
            "    if (change->expect_version != 0 &&", "    if (false &&"),
    variant("an_old_token_with_a_grace_at_a_change_of_privilege", "src/engine/write.c",
            "    if (change->rotation == CR_ROTATE_PRIVILEGE)\n        return CR_OK;", ""),
]


def run(program):
    env = dict(os.environ, CR_SIM_SECONDS=SECONDS)
    env.pop("CR_LONG", None)
    done = subprocess.run([scratch().build / "test" / program], env=env, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout


@functools.cache
def scratch():
    made = variants.Scratch()
    atexit.register(made.remove)
    return made


def the_tree_as_it_is_passes():
    programs = sorted({program for change in VARIANTS for program in change.programs})
    scratch().make(f"test/{program}" for program in programs)
    for program in programs:
        status, output = run(program)
        assert status == 0, output[-3000:]


def test_of(change):
    def test():
        with scratch().broken(change, [f"test/{program}" for program in change.programs]):
            # Random histories find most at once, and some only at the second try.
            for program in [*change.programs, *change.programs]:
                status, output = run(program)
                if status != 0:
                    lines = [line for line in output.splitlines() if line.startswith("not ok")]
                    tap.note(f"{program}: {' '.join(lines)[:160] or output[-160:]}")
                    return
            raise AssertionError("no test saw it")

    test.__name__ = change.name
    return test


tap.main([the_tree_as_it_is_passes, *map(test_of, variants.part(VARIANTS))])
