#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: long serial timeout=900
"""A minute of histories; and each rule of the design broken on purpose, in the real program: the
history of its processes must show it, within seconds.

A variant (../variants.py) is wrong in its order or its omission. Where that leaves a window of
microseconds, the variant sleeps in it as well: the order is what is wrong, and a scheduler could
have made the same pause. The sleeps alone break nothing: what is `slow_but_right` is built with them, and
must pass.

CR_VARIANT: only those whose name contains it.
"""

import functools
import os
import pathlib
import shutil
import sys
import time

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent.parent), str(pathlib.Path(__file__).parent)]
sys.dont_write_bytecode = True
import histories
import tap
import variants
from histories import one_host, own_table, two_hosts

TARGET = "test/history/history"
SECONDS = {one_host: 3, own_table: 3, two_hosts: 4}
TRIES = 8  # most are seen at the first; those that need luck in their times, at the third


def variant(name, *changes, by=one_host, when=()):
    """`changes`: (file, before, after). `when`: what has to happen in the history."""
    record = functools.partial(by, only=when)
    return variants.variant(name, *[word for change in changes for word in change], programs=record)


def sleep(milliseconds):
    return f"{{ struct timespec pause_ = {{0, {milliseconds}000000}}; nanosleep(&pause_, NULL); }}"


TIME = "#include <time.h>\n"
# A read of the store whose answer takes long to come back; another one does not.
SLOW_READ = ("src/engine/fill.c", "    return cr_store_find(store, &fill->id, &fill->record);",
             "    enum cr_status found_ = cr_store_find(store, &fill->id, &fill->record);\n"
             f"    if (fill->before % 3 != 0) {sleep(8)}\n    return found_;")
FILL_TIME = ("src/engine/fill.c", "#include <stdlib.h>\n", "#include <stdlib.h>\n" + TIME)
# An ending that is committed late.
SLOW_END = ("src/engine/end.c",
            "    switch (end->kind) {\n    case END_SESSION:\n        return cr_store_end(",
            f"    {sleep(8)}\n"
            "    switch (end->kind) {\n    case END_SESSION:\n        return cr_store_end(")
END_TIME = ("src/engine/end.c", "#include <stdlib.h>\n", "#include <stdlib.h>\n" + TIME)
# A poll whose answer takes long to come back, now and then; nobody else waits for it.
SLOW_REPLY = (
    ("src/engine/follow.c", "struct poll {\n", "extern _Atomic int slow_reply_;\nstruct poll {\n"),
    ("src/engine/follow.c", "    for (struct cr_store_call *rider = poll->riders; rider != NULL && st",
     "    slow_reply_ = poll->row.beat % 8 == 0;\n"
     "    for (struct cr_store_call *rider = poll->riders; rider != NULL && st"),
    ("src/store/queue.c", "#define READERS_MAX 8\n", TIME + "#define READERS_MAX 8\n_Atomic int slow_reply_;\n"),
    ("src/store/queue.c", "    return st == CR_OK;\n}\n\nstatic void pool_writes_run",
     f"    if (st == CR_OK && slow_reply_) {sleep(900)}\n    slow_reply_ = 0;\n"
     "    return st == CR_OK;\n}\n\nstatic void pool_writes_run"))
# One that is looked at late.
SLOW_APPLY = ("src/engine/follow.c", "    bool at_once = polled(engine, st, poll);",
              f"    {sleep(60)}\n    bool at_once = polled(engine, st, poll);")
POLL_TIME = ("src/engine/follow.c", "#include <stdlib.h>\n", "#include <stdlib.h>\n" + TIME)

# The statement of a poll, whose first word is the position that the engine has applied.
POLLED = """
    cr_query_bind_blob(&query, row->identity.bytes, sizeof row->identity.bytes);
    cr_query_bind_uint(&query, row->beat);
    enum cr_status st = cr_query_change(&query);
    if (st == CR_OK && sqlite3_changes(s->db) == 0)
        return CR_CONFLICT;
    if (st == CR_OK)
        st = cr_sqlite_log_rows("""

# How a row is read.
FIND = """enum cr_status cr_sqlite_find(struct cr_store *store, const struct cr_session_id *id,
                              struct cr_record *out)
{
"""

SLOW_BUT_RIGHT = [
    variant("slow_but_right", FILL_TIME, SLOW_READ, END_TIME, SLOW_END),
    variant("slow_but_right_beside_another_host", POLL_TIME, *SLOW_REPLY, SLOW_APPLY, by=two_hosts,
            when=("cut_off", "long_pause")),
]

VARIANTS = [
    # Rule 1: fill
    variant("rule_1_the_clock_read_after_the_store", FILL_TIME, SLOW_READ,
            ("src/engine/fill.c", "cr_table_insert(engine->table, &entry, fill->stamp, now)",
             "cr_table_insert(engine->table, &entry, cr_engine_clock(engine), now)")),
    variant("rule_1_a_ticket_whose_clock_is_not_used",
            ("src/engine/own.c",
             "cr_table_insert(engine->table, entry, stamp, cr_engine_now(engine))",
             "cr_table_insert(engine->table, entry, cr_engine_clock(engine), cr_engine_now(engine))"),
            by=own_table),
    # Rule 2: end all sessions of a user
    variant("rule_2_the_stamp_before_the_commit", END_TIME, SLOW_END,
            ("src/engine/end.c", "    cr_engine_op_write(&end->op, end_run, end_done);",
             "    end_presume(end);\n    cr_engine_op_write(&end->op, end_run, end_done);"),
            ("src/engine/end.c", "    cr_engine_apply(engine, &end->row);\n", "")),
    # Rule 3: end or change one session
    variant("rule_3_no_floor", FILL_TIME, SLOW_READ,
            ("src/cache/insert.c", "return stamp < table->floors[home] ||",
             "return")),
    variant("rule_3_an_entry_that_is_not_dropped",
            ("src/cache/table.c", "    if (cr_slot_find(table, id, &slot))\n        cr_slot_drop(table, slot);\n    return clock;",
             "    (void)slot;\n    return clock;")),
    # Rule 4: believe an entry
    variant("rule_4_no_stamps",
            ("src/cache/view.c", "answer == ENTRY_OTHER || !stamps_allow(view, &facts)",
             "answer == ENTRY_OTHER || (false && !stamps_allow(view, &facts))")),
    variant("rule_4_no_lease",
            ("src/cache/view.c", "now >= entry->deadline || now >= fresh", "now >= entry->deadline"),
            ("src/cache/view.c", "    if (!view->always_fresh && fresh - now >", "    if (false && fresh - now >"),
            when=("restart",)),
    # The agent reads its own table, too, and is to go on meanwhile.
    variant("rule_4_the_stamps_before_the_lease",
            ("test/history/worker.c", "int worker_main(int argc, char **argv)\n{\n",
             "int history_is_worker;\nint worker_main(int argc, char **argv)\n{\n    history_is_worker = 1;\n"),
            ("src/cache/view.c", "#include <stdalign.h>\n",
             "#include <stdalign.h>\n" + TIME + "extern int history_is_worker __attribute__((weak));\n"
             "static _Thread_local unsigned finds_;\n"),
            ("src/cache/view.c",
             "        cr_boot_ns fresh =\n            atomic_load_explicit(&view_header(view)->fresh_until, "
             "memory_order_acquire);\n        struct entry_facts facts;",
             "        struct entry_facts facts;"),
            ("src/cache/view.c", "        out->as_of = cr_clock_boot(clock);\n",
             f"        if (&history_is_worker != NULL && history_is_worker && finds_++ % 4 == 0) {sleep(400)}\n"
             "        cr_boot_ns fresh =\n            atomic_load_explicit(&view_header(view)->fresh_until, "
             "memory_order_acquire);\n        out->as_of = cr_clock_boot(clock);\n"),
            by=two_hosts, when=("long_pause",)),
    variant("rule_4_an_entry_that_is_not_whole",
            ("src/cache/view.c", "memory_order_relaxed) != sequence)", "memory_order_relaxed) == 1)"),
            ("src/cache/view.c", "#include <stdalign.h>\n",
             "#include <stdalign.h>\n" + TIME + "static _Thread_local unsigned finds_;\n"),
            ("src/cache/view.c", "    bool copied = whole && (matched",
             f"    if (finds_++ % 8 == 0) {sleep(3)}\n    bool copied = whole && (matched")),
    # Rule 5: follow
    variant("rule_5_the_lease_counted_from_the_reply", *SLOW_REPLY,
            ("src/engine/follow.c", "        lease_extend(engine, sent);",
             "        lease_extend(engine, cr_engine_now(engine));"), by=two_hosts,
            when=("cut_off",)),
    variant("rule_5_acknowledged_before_it_is_applied", POLL_TIME, SLOW_APPLY,
            ("src/store/sqlite_others.c", "    cr_query_bind_uint(&query, row->position);" + POLLED,
             "    st_ = cr_sqlite_log_last(store, &last);\n"
             "    cr_query_bind_uint(&query, st_ == CR_OK ? last.number : row->position);" + POLLED),
            ("src/store/sqlite_others.c", "    struct cr_log_row last;\n    cr_query_open(&query, s, SQL_ENGINE_POLL);",
             "    struct cr_log_row last;\n    enum cr_status st_;\n"
             "    cr_query_open(&query, s, SQL_ENGINE_POLL);"), by=two_hosts),
    # Rule 6: wait for the others
    variant("rule_6_waiting_for_nobody",
            ("src/engine/wait.c", "        if (engine->others[i].row.position < number)\n            return false;",
             "        ;"), by=two_hosts),
    variant("rule_6_waiting_for_half_a_lease",
            ("src/engine/internal.h", "(((span)*122 + 99) / 100)", "(((span)*50 + 99) / 100)"),
            by=two_hosts, when=("cut_off", "pause")),
    variant("rule_6_a_predecessors_table_that_is_not_waited_for",
            ("src/engine/wait.c", "    if (st == CR_OK && (crashed || count > 0))", "    if (false && crashed)"),
            when=("restart",)),
    variant("rule_6_rights_that_do_not_wait",
            ("src/engine/write.c", "    change->change.rights_bytes = (uint16_t)bytes;\n    change->waits = true;",
             "    change->change.rights_bytes = (uint16_t)bytes;"), by=two_hosts),
    # Rule 7: silence is not consent
    variant("rule_7_a_table_that_is_fresh_past_the_lease",
            ("src/engine/engine.c", "cr_table_freshen(engine->table, until < ahead ? until : ahead, now);",
             "cr_table_freshen(engine->table, until < ahead ? ahead : ahead, now);"), by=two_hosts,
            when=("cut_off",)),
    # Rule 8: fresh truth
    variant("rule_8_a_read_in_an_old_transaction",
            ("src/store/sqlite_sessions.c", FIND, FIND +
             "    static _Thread_local unsigned reads_;\n"
             "    if (store->is_reader && reads_++ % 10 == 0) {\n"
             "        (void)sqlite3_exec(cr_sqlite_of(store)->db, \"COMMIT\", NULL, NULL, NULL);\n"
             "        (void)sqlite3_exec(cr_sqlite_of(store)->db, \"BEGIN\", NULL, NULL, NULL);\n"
             "    }\n")),
    variant("rule_8_a_reply_to_another_question",
            ("src/store/store.c", "    if (st == CR_OK && (!cr_record_is_sound(out) || !cr_session_id_equal(&out->id, id)))\n",
             "    if (st == CR_OK && !cr_record_is_sound(out))\n"), when=("wrong",)),
    # Rule 9: say what happened
    variant("rule_9_pending_said_to_be_done",
            ("src/engine/wait.c", "    *out_status = CR_PENDING;\n    return (listed && waiter->async) || now >= cr_boot_add(waiter->began, wait_bound(engine));",
             "    return (listed && waiter->async) || now >= cr_boot_add(waiter->began, 100);"), by=two_hosts,
            when=("cut_off", "pause")),
    variant("rule_9_an_unknown_outcome_said_to_be_done",
            ("src/engine/end.c", "        end_answer(end, CR_E_UNKNOWN_OUTCOME, 0);\n        return;",
             "        end_answer(end, CR_OK, 0);\n        return;"),
            ("src/engine/end.c", "    if (now >= end->retry_until) {", "    if (true) {"),
            when=("not_made",)),
    variant("rule_9_a_lost_reply_said_to_be_a_failure",
            ("src/room/calls.c", "return call->was_sent && may_have_changed", "return call->sent && may_have_changed"),
            when=("away",)),
]

scratch = None


def a_host_keeps_the_promise_for_twenty_seconds():
    histories.keeps_the_promise(histories.one_host, tap.random, 20)


def two_hosts_keep_the_promise_for_twenty_seconds():
    histories.keeps_the_promise(histories.two_hosts, tap.random, 20)


def http_workers_keep_the_promise_for_ten_seconds():
    histories.keeps_the_promise(histories.web, tap.random, 10)


def an_own_table_keeps_the_promise_for_ten_seconds():
    histories.keeps_the_promise(histories.own_table, tap.random, 10)


def the_tree_is_copied():
    global scratch
    scratch = variants.Scratch("--buildtype=debug")


def right(change):
    def test():
        with scratch.broken(change, [TARGET]):
            wrong, _ = seen(change.programs, 1)
        assert not wrong, wrong[:5]

    test.__name__ = change.name
    return test


def seen(record, tries):
    """What is wrong with a history of the program that is built just now, and after how many
    seconds."""
    start = time.monotonic()
    wrong = []
    while not wrong and tries > 0:
        tries -= 1
        wrong, _, folder = histories.violations(record, scratch.build / TARGET, tap.random,
                                                SECONDS[record.func])
        shutil.rmtree(folder)
    return wrong, time.monotonic() - start


def test_of(change):
    def test():
        with scratch.broken(change, [TARGET]):
            wrong, seconds = seen(change.programs, TRIES)
        assert wrong, f"not seen in {seconds:.0f} s"
        tap.note(f"{seconds:.1f} s, {len(wrong)} violations: {wrong[0][:300]}")

    test.__name__ = change.name
    return test


def nothing_is_left():
    scratch.remove()


chosen = os.environ.get("CR_VARIANT", "")
tap.main([
    *([] if chosen else [
        a_host_keeps_the_promise_for_twenty_seconds,
        two_hosts_keep_the_promise_for_twenty_seconds,
        http_workers_keep_the_promise_for_ten_seconds,
        an_own_table_keeps_the_promise_for_ten_seconds,
    ]),
    the_tree_is_copied,
    *map(right, SLOW_BUT_RIGHT),
    *[test_of(change) for change in variants.part(VARIANTS) if chosen in change.name],
    nothing_is_left,
])
