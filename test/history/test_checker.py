#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The checker of histories, with histories written by hand: those that must be accepted, and one for
each kind of violation that must not.

Times are in milliseconds here. Unless it says otherwise a history is of one session, s1 of user u
with token t1, rights r1 and data d1 in version 1, made from 10 to 20.
"""

import pathlib
import sys

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent.parent), str(pathlib.Path(__file__).parent)]
sys.dont_write_bytecode = True
import checker
import tap

MADE = """began 1 10 create u r1 d1 0
ended 1 20 CR_OK session=s1 token=t1 created=1000 ends=9000
"""
TIMES = {"began": (2,), "ended": (2,), "saw": (1, 2), "killed": (2,)}  # which words of a line
# session, token, status; then what an acceptance names
YES = "plain s1 t1 CR_OK s1 u r1 d1 1 1000 9000"
NO = "plain s1 t1 CR_ENDED"


def nanoseconds(text):
    for line in text.strip().splitlines():
        words = line.split()
        for place in TIMES.get(words[0], ()):
            words[place] = str(int(words[place]) * checker.NS_PER_MS)
        yield " ".join(words) + "\n"


def violations(*texts, made=MADE):
    """The rules that are broken, of what writers wrote: each text is one writer's."""
    history = checker.History()
    for number, text in enumerate([made, *texts]):
        if not text.startswith("host"):
            text = "host a\n" + text
        history.read("".join(nanoseconds(text)), f"writer{number}")
    return sorted({violation.split(":")[0] for violation in checker.check(history)})


def accepted(name, *texts, **more):
    def test():
        found = violations(*texts, **more)
        assert not found, found

    test.__name__ = f"accepted_{name}"
    return test


def rejected(name, rule, *texts, **more):
    def test():
        found = violations(*texts, **more)
        assert found == [rule], f"{found}, not {rule!r}"

    test.__name__ = f"rejected_{name}"
    return test


def a_line_that_is_none_is_not_passed_over():
    for line in ("saw", "seen 1 2 3", "ended 7 30 CR_OK", "saw x y 1 plain s1 t1 CR_ENDED"):
        try:
            checker.History().read(f"host a\n{line}\n", "writer")
        except checker.Malformed:
            continue
        raise AssertionError(line)


def a_last_line_that_was_cut_off_is_passed_over():
    history = checker.History().read("host a\nbegan 1 10 end-al", "writer")
    assert not history.ops


END = "began 1 30 end s1\n"
ENDED = END + "ended 1 40 CR_OK\n"
ALL = [
    a_line_that_is_none_is_not_passed_over,
    a_last_line_that_was_cut_off_is_passed_over,

    # ---- endings
    accepted("an_acceptance_while_nothing_ends", f"saw 30 31 1 {YES}"),
    accepted("an_acceptance_that_began_before_the_ending_answered", ENDED, f"saw 39 60 1 {YES}"),
    accepted("a_refusal_while_the_ending_is_under_way", ENDED, f"saw 31 32 1 {NO}"),
    accepted("a_refusal_after_an_ending", ENDED, f"saw 41 42 1 {NO}"),
    accepted("either_answer_while_the_outcome_is_not_known",
             END + "ended 1 40 CR_E_UNKNOWN_OUTCOME", f"saw 41 42 1 {YES}\nsaw 43 44 1 {NO}"),
    accepted("either_answer_when_who_ended_it_was_killed", END,
             f"saw 41 42 1 {YES}\nsaw 43 44 1 {NO}"),
    accepted("an_acceptance_within_the_bound_of_what_is_pending", END + "ended 1 40 CR_PENDING bound=50",
             f"saw 80 81 1 {YES}"),
    accepted("no_answer_at_any_time", ENDED,
             "saw 21 22 1 plain s1 t1 CR_UNAVAILABLE\nsaw 51 52 1 plain s1 t1 CR_BUSY"),
    accepted("a_session_that_was_made_while_its_user_was_ended",
             "began 1 15 end-user u\nended 1 30 CR_OK", f"saw 50 51 1 {YES}"),
    accepted("an_ending_that_says_it_failed", END + "ended 1 40 CR_UNAVAILABLE", f"saw 50 51 1 {YES}"),
    accepted("the_session_that_an_ending_of_the_others_keeps",
             "began 1 30 end-others s1 u\nended 1 40 CR_OK", f"saw 50 51 1 {YES}"),
    accepted("a_login_and_the_sessions_of_another_user",
             "began 1 30 login v r2 d2 0\nended 1 40 CR_OK session=s2 token=t2 created=1 ends=2",
             f"saw 50 51 1 {YES}"),
    rejected("an_acceptance_after_its_end", "nobody accepts what has ended", ENDED,
             f"saw 41 42 1 {YES}"),
    rejected("an_acceptance_after_the_end_of_its_user", "nobody accepts what has ended",
             "began 1 30 end-user u\nended 1 40 CR_OK", f"saw 41 42 1 {YES}"),
    rejected("an_acceptance_after_the_end_of_the_others", "nobody accepts what has ended",
             "began 1 30 end-others s9 u\nended 1 40 CR_OK", f"saw 41 42 1 {YES}"),
    rejected("an_acceptance_after_the_end_of_everybody", "nobody accepts what has ended",
             "began 1 30 end-all\nended 1 40 CR_OK", f"saw 41 42 1 {YES}"),
    rejected("an_acceptance_after_a_later_login", "nobody accepts what has ended",
             "began 1 30 login u r2 d2 0\nended 1 40 CR_OK session=s2 token=t2 created=1 ends=2",
             f"saw 41 42 1 {YES}"),
    rejected("an_acceptance_past_the_bound_of_what_was_pending", "nobody accepts what has ended",
             END + "ended 1 40 CR_PENDING bound=50", f"saw 91 92 1 {YES}"),
    rejected("the_last_of_a_run_of_acceptances", "nobody accepts what has ended", ENDED,
             f"saw 35 36 1 {YES}\nsaw 41 42 99 {YES}"),
    rejected("an_acceptance_by_another_host", "nobody accepts what has ended", ENDED,
             f"host b\nsaw 41 42 1 {YES}"),
    rejected("an_acceptance_after_its_absolute_end", "nobody accepts what has ended",
             f"saw 200 201 1 {YES}", made=MADE.replace("d1 0", "d1 100")),
    accepted("an_acceptance_about_its_absolute_end", f"saw 110 111 1 {YES}\nsaw 120 121 1 {NO}",
             made=MADE.replace("d1 0", "d1 100")),

    accepted("a_refusal_by_a_login_that_gave_up_waiting_before",
             "began 1 5 login u r2 d2 0\nended 1 8 CR_UNAVAILABLE", f"saw 50 51 1 {NO}"),

    # ---- log-outs that nobody asked for
    rejected("a_refusal_of_a_live_session", "nobody refuses what is live", f"saw 30 31 1 {NO}"),
    rejected("a_refusal_before_the_ending_began", "nobody refuses what is live", ENDED,
             f"saw 21 29 1 {NO}"),
    rejected("the_first_of_a_run_of_refusals", "nobody refuses what is live", ENDED,
             f"saw 21 29 1 {NO}\nsaw 41 42 7 {NO}"),
    rejected("a_refusal_after_an_ending_that_said_it_failed", "nobody refuses what is live",
             END + "ended 1 40 CR_UNAVAILABLE", f"saw 50 51 1 {NO}"),
    rejected("a_refusal_before_the_absolute_end", "nobody refuses what is live",
             f"saw 50 51 1 {NO}", made=MADE.replace("d1 0", "d1 100")),
    rejected("a_write_to_a_live_session_that_is_refused", "nobody refuses what is live",
             "began 1 30 rights s1 r2\nended 1 40 CR_ENDED"),
    rejected("an_ending_that_does_not_find_a_live_session", "nobody refuses what is live",
             END + "ended 1 40 CR_NOT_FOUND"),
    rejected("a_user_who_is_not_known", "nobody refuses what is live",
             "began 1 30 end-user u\nended 1 40 CR_UNKNOWN_USER"),
    rejected("a_token_that_is_said_to_be_made_up", "a token of ours is known for one", ENDED,
             "saw 41 42 1 plain s1 t1 CR_NOT_FOUND"),
    rejected("an_answer_that_a_validation_does_not_have", "a validation has four answers",
             "saw 30 31 1 plain s1 t1 CR_E_CORRUPT"),

    # ---- back and forth
    rejected("yes_after_no_on_one_host", "a host that said no does not say yes again", END,
             f"saw 41 42 1 {NO}", f"saw 43 44 1 {YES}"),
    accepted("yes_after_no_on_another_host", END, f"saw 41 42 1 {NO}",
             f"host b\nsaw 43 44 1 {YES}"),
    accepted("yes_after_no_where_a_killed_agents_table_is_still_believed", END + "killed a 41",
             f"saw 42 43 1 {NO}", f"saw 44 45 1 {YES}"),
    rejected("yes_after_no_where_that_table_is_over", "a host that said no does not say yes again",
             END + "killed a 41", f"saw 42 43 1 {NO}", f"saw 1400 1401 1 {YES}"),

    # ---- users, rights, data, limits
    rejected("another_user", "an acceptance names the session's own user",
             f"saw 30 31 1 {YES.replace(' u ', ' v ')}"),
    rejected("another_session", "an acceptance names the session's own user",
             f"saw 30 31 1 {YES.replace('CR_OK s1', 'CR_OK s2')}"),
    rejected("other_limits", "an acceptance names the session's own limits",
             f"saw 30 31 1 {YES.replace('9000', '9001')}"),
    rejected("half_an_entry", "an acceptance is whole, and names what was written",
             f"saw 30 31 1 {YES.replace('d1', 'TORN')}"),
    rejected("a_value_that_nobody_wrote", "an acceptance is whole, and names what was written",
             f"saw 30 31 1 {YES.replace('r1', 'r7')}"),
    accepted("either_rights_while_they_are_written", "began 1 30 rights s1 r2\nended 1 40 CR_OK",
             f"saw 31 32 1 {YES.replace('r1', 'r2')}\nsaw 33 34 1 {YES}\nsaw 39 44 1 {YES}"),
    rejected("rights_that_were_replaced", "rights that were replaced are not seen",
             "began 1 30 rights s1 r2\nended 1 40 CR_OK", f"saw 41 42 1 {YES}"),
    rejected("rights_that_were_replaced_on_another_host", "rights that were replaced are not seen",
             "began 1 30 rights s1 r2\nended 1 40 CR_OK", f"host b 1000\nsaw 41 42 1 {YES}"),
    accepted("rights_whose_two_writes_overlap",
             "began 1 30 rights s1 r2\nended 1 40 CR_OK", "began 1 35 rights s1 r3\nended 1 45 CR_OK",
             f"saw 50 51 1 {YES.replace('r1', 'r2')}"),
    rejected("rights_before_they_are_written", "nothing is seen before it is written",
             "began 1 30 rights s1 r2\nended 1 40 CR_OK",
             f"saw 25 26 1 {YES.replace('r1', 'r2')}"),
    rejected("rights_whose_write_failed", "what was not written is not seen",
             "began 1 30 rights s1 r2\nended 1 40 CR_CONFLICT",
             f"saw 41 42 1 {YES.replace('r1', 'r2')}"),
    accepted("rights_whose_write_is_not_known", "began 1 30 rights s1 r2",
             f"saw 41 42 1 {YES.replace('r1', 'r2')}\nsaw 43 44 1 {YES}"),
    rejected("data_that_were_replaced", "data that were replaced are not seen",
             "began 1 30 data s1 d2 1\nended 1 40 CR_OK version=2", f"saw 41 42 1 {YES}"),
    accepted("data_that_were_replaced_within_the_lease_of_another_host",
             "began 1 30 data s1 d2 1\nended 1 40 CR_OK version=2",
             f"host b 1000\nsaw 900 901 1 {YES}"),
    rejected("data_that_were_replaced_past_the_lease_of_another_host",
             "data that were replaced are not seen",
             "began 1 30 data s1 d2 1\nended 1 40 CR_OK version=2",
             f"host b 1000\nsaw 1200 1201 1 {YES}"),
    accepted("data_that_were_replaced_by_the_successor_of_an_agent_whose_table_is_still_believed",
             "began 1 30 data s1 d2 1\nended 1 40 CR_OK version=2\nkilled a 25", f"saw 900 901 1 {YES}"),
    rejected("data_that_were_replaced_by_that_successor_and_are_seen_for_too_long",
             "data that were replaced are not seen",
             "began 1 30 data s1 d2 1\nended 1 40 CR_OK version=2\nkilled a 25", f"saw 1400 1401 1 {YES}"),
    rejected("data_that_were_replaced_before_the_agent_was_killed",
             "data that were replaced are not seen",
             "began 1 30 data s1 d2 1\nended 1 40 CR_OK version=2\nkilled a 45", f"saw 900 901 1 {YES}"),
    rejected("rights_that_were_replaced_by_the_successor_of_a_killed_agent",
             "rights that were replaced are not seen",
             "began 1 30 rights s1 r2\nended 1 40 CR_OK\nkilled a 25", f"saw 900 901 1 {YES}"),
    rejected("rights_and_data_that_never_were_together", "an acceptance names one instant",
             "began 1 30 rights s1 r2\nended 1 40 CR_OK\n"
             "began 2 50 data s1 d2 1\nended 2 60 CR_OK version=2",
             f"saw 35 55 1 {YES.replace('d1 1', 'd2 2')}"),
    rejected("one_version_of_two_values", "a version is of one value",
             "began 1 30 data s1 d2 0\nended 1 40 CR_OK version=2",
             f"saw 41 42 1 {YES.replace('d1', 'd2')}\nsaw 25 26 1 {YES}"),
    rejected("two_writes_that_saw_one_version", "of two who saw one version, one writes",
             "began 1 30 data s1 d2 1\nended 1 40 CR_OK version=2",
             "began 1 31 data s1 d3 1\nended 1 41 CR_OK version=3"),
    rejected("a_write_that_revives", "what has ended is not written to", ENDED,
             "began 1 50 rights s1 r2\nended 1 60 CR_OK"),
    rejected("an_id_that_is_given_twice", "an id is given once", MADE),
    rejected("a_session_that_nobody_made", "only sessions that were made are asked for",
             "saw 30 31 1 plain s7 t7 CR_ENDED"),

    # ---- tokens
    accepted("a_token_that_was_renewed_within_its_grace",
             "began 1 30 renew s1 t1\nended 1 40 CR_OK session=s1 token=t2",
             f"saw 9000 9001 1 {YES}\nsaw 50 51 1 {YES.replace('t1', 't2')}"),
    rejected("a_token_that_was_renewed_past_its_grace", "nobody accepts a token that was replaced",
             "began 1 30 renew s1 t1\nended 1 40 CR_OK session=s1 token=t2",
             f"saw 10100 10101 1 {YES}"),
    rejected("a_refusal_within_the_grace", "nobody refuses what is live",
             "began 1 30 renew s1 t1\nended 1 40 CR_OK session=s1 token=t2", f"saw 50 51 1 {NO}"),
    rejected("a_token_of_before_a_change_of_privilege", "nobody accepts a token that was replaced",
             "began 1 30 privilege s1 t1\nended 1 40 CR_OK session=s1 token=t2",
             f"saw 41 42 1 {YES}"),
    accepted("its_successor",
             "began 1 30 privilege s1 t1\nended 1 40 CR_OK session=s1 token=t2",
             f"saw 41 42 1 {YES.replace('t1', 't2')}\nsaw 43 44 1 {NO}"),
    rejected("a_token_that_nobody_was_given", "only tokens that were given are accepted",
             f"saw 30 31 1 {YES.replace('t1', 't9')}"),
]

tap.main(ALL)
