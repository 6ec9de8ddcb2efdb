#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: serial timeout=240
"""The promise, with real processes: one agent, four HTTP workers, two attached C programs.

When a call that ends sessions has answered, nobody accepts them; and nobody is refused who should
not be (ASVS D1, D8, D9, D10, A5).
"""

import contextlib
import os
import pathlib
import signal
import sys
import threading
import time

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent.parent), str(pathlib.Path(__file__).parent)]
sys.dont_write_bytecode = True
import scratch
import tap

ROUNDS = 1000
LOGINS_WITH_PASSWORD = 40  # of those rounds: each costs an Argon2id
SEGMENT_SECONDS = 1.22  # a successor waits for what its predecessor has published
WHOLE_SECONDS = 2


class Host:
    """Everything that can be asked whether a session is good."""

    def __init__(self, arguments=()):
        self.stack = contextlib.ExitStack()
        with self.stack:
            self.server = self.stack.enter_context(scratch.Server(workers=4, arguments=arguments))
            self.programs = [self.stack.enter_context(scratch.Attached(self.server.app))
                             for _ in range(2)]
            self.connect()
            self.stack = self.stack.pop_all()

    def connect(self):
        self.connections = self.server.connections()

    def accepted_by(self, token):
        """The names of those that accept it. Each is asked after the one before has answered."""
        found = set()
        for number, connection in enumerate(self.connections.values()):
            status = connection.session(token)
            assert status in (200, 401), f"HTTP worker {number} answers {status}"
            if status == 200:
                found.add(f"HTTP worker {number}")
        for number, program in enumerate(self.programs):
            status = program.validate(token)
            assert status in ("CR_OK", "CR_ENDED", "CR_NOT_FOUND"), f"program {number}: {status}"
            if status == "CR_OK":
                found.add(f"program {number}")
        return found

    def everybody_accepts(self, token, when):
        accepted = self.accepted_by(token)
        assert len(accepted) == len(self.connections) + len(self.programs), (
            f"{when}: only {sorted(accepted)} accept it")

    def nobody_accepts(self, token, when):
        accepted = self.accepted_by(token)
        assert not accepted, f"{when}: {sorted(accepted)} still accept it"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for connection in self.connections.values():
            connection.close()
        self.stack.close()


# Who makes a session, and who ends it: each answers when it is done.


def login_by_password(host, _):
    return host.server.login(tap.random.choice(list(host.connections.values())))


def login_by_program(host, user):
    return host.programs[tap.random.randrange(2)].do("login", user)


def create_by_program(host, user):
    return host.programs[tap.random.randrange(2)].do("create", user)


def end_by_program(host, session, _token, _user):
    host.programs[tap.random.randrange(2)].do("end", session)


def end_user_by_program(host, _session, _token, user):
    host.programs[tap.random.randrange(2)].do("end-user", user)


def log_out(host, _session, token, _user):
    status, body = tap.random.choice(list(host.connections.values())).ask("POST", "/logout", token)
    assert status in (200, 204), f"{status} {body}"


def end_as_device(host, session, token, _user):
    status, body = tap.random.choice(list(host.connections.values())).ask(
        "DELETE", f"/sessions/{session}", token)
    assert status in (200, 204), f"{status} {body}"


def log_in_again(host, _session, _token, user):
    host.programs[tap.random.randrange(2)].do("login", user)


ENDINGS = [end_by_program, end_user_by_program, log_out, end_as_device, log_in_again]


def rounds(host, count, watch=False):
    """`watch`: the programs' threads validate the session all the while."""
    passwords = max(count * LOGINS_WITH_PASSWORD // ROUNDS, 1)
    for number in range(count):
        with_password = number % (count // passwords) == 0
        make = (login_by_password if with_password
                else tap.random.choice([login_by_program, create_by_program]))
        user = "alice" if with_password else f"user-{tap.random.randrange(20)}"
        session, token = make(host, user)
        when = f"round {number}, {make.__name__}"
        if watch:
            for program in host.programs:
                program.do("watch", token)
        host.everybody_accepts(token, when)
        ending = ENDINGS[number % len(ENDINGS)]
        if watch:
            for program in host.programs:
                program.do("ending")
        ending(host, session, token, user)
        if watch:
            for program in host.programs:
                program.do("ended")
        host.nobody_accepts(token, f"{when}, {ending.__name__}")


def a_session_is_good_everywhere_until_its_ending_answers_and_nowhere_after():
    with Host() as host:
        started = time.monotonic()
        rounds(host, ROUNDS)
        tap.note(f"{ROUNDS} rounds, {time.monotonic() - started:.1f} s")


def it_holds_while_threads_keep_filling_a_table_that_is_too_small():
    with Host(["--cache-memory", "1M"]) as host:
        for program in host.programs:
            program.do("fill", 2000)
        started = time.monotonic()
        rounds(host, ROUNDS // 2, watch=True)
        tap.note(f"{ROUNDS // 2} rounds, {time.monotonic() - started:.1f} s")
        before = host.programs[0].stats()
        tap.note(f"{before}")
        for program in host.programs:
            validated, accepted, refused = map(int, program.do("seen"))
            tap.note(f"{validated} validations by threads meanwhile")
            assert validated > ROUNDS, "the threads did not run"
            assert (accepted, refused) == (0, 0), (
                f"{accepted} wrongly accepted, {refused} wrongly refused")


def a_request_that_writes_its_session_back_after_the_log_out_does_not_revive_it():
    with Host() as host:
        slow, other = host.programs
        for number in range(50):
            user = f"user-{number}"
            session, token = slow.do("login", user)
            version = slow.do("version", token)[0]
            ENDINGS[number % len(ENDINGS)](host, session, token, user)
            # The request that began before the log-out comes to its end.
            for words in (["write", session, version, "late"], ["write", session, "any", "late"],
                          ["rights", session, "late"], ["touch", token]):
                status = slow.ask(*words)[0]
                assert status in ("CR_ENDED", "CR_NOT_FOUND"), f"{words[0]}: {status}"
            host.nobody_accepts(token, f"after late writes, round {number}")


def a_write_that_is_under_way_while_the_session_ends_does_not_revive_it():
    with Host() as host:
        slow, other = host.programs
        outcomes = set()
        for number in range(100):
            session, token = slow.do("login", "bob")
            slow.do("write-begin", session, "late")
            other.do("end", session)
            outcomes.add(slow.ask("write-finish")[0])
            host.nobody_accepts(token, f"round {number}")
        assert outcomes <= {"CR_OK", "CR_ENDED", "CR_NOT_FOUND"}, outcomes
        tap.note(f"the write that raced: {sorted(outcomes)}")


def a_login_ends_the_earlier_sessions_everywhere_before_its_answer():
    with Host() as host:
        connections = list(host.connections.values())
        earlier = host.server.login(connections[0])[1]
        for number in range(20):
            host.everybody_accepts(earlier, f"round {number}")
            if number % 2:
                token = host.server.login(connections[number % 4])[1]
            else:
                token = host.programs[number // 2 % 2].do("login", "alice")[1]
            host.nobody_accepts(earlier, f"round {number}: a later login has answered")
            earlier = token


# ---- kill -9


class Load(threading.Thread):
    """Asks for a good session and for an ended one, all the time. Connections may break, answers may
    be 503; a wrong answer may not be."""

    def __init__(self, server, good, ended):
        super().__init__(daemon=True)
        self.server, self.good, self.ended = server, good, ended
        self.stop = threading.Event()
        self.wrong, self.right = [], 0

    def run(self):
        connection = None
        while not self.stop.is_set():
            try:
                connection = connection or scratch.Connection(self.server.port)
                good, ended = connection.session(self.good), connection.session(self.ended)
            except (OSError, scratch.http.client.HTTPException):
                connection = None
                continue
            if good not in (200, 503) or ended not in (401, 503):
                self.wrong.append((good, ended))
            self.right += good == 200 and ended == 401
        if connection:
            connection.close()


@contextlib.contextmanager
def under_load():
    """(host, good token, ended token), and afterwards nothing wrong was seen."""
    with Host() as host:
        session, ended = host.programs[0].do("login", "carol")
        host.programs[0].do("end", session)
        _, good = host.programs[1].do("login", "dave")
        loads = [Load(host.server, good, ended) for _ in range(4)]
        for load in loads:
            load.start()
        try:
            yield host, good, ended
        finally:
            for load in loads:
                load.stop.set()
            for load in loads:
                load.join()
        for load in loads:
            assert not load.wrong, f"answers to (good, ended): {load.wrong[:5]}"
            assert load.right > 0, "no answers at all"


def within(seconds, once):
    """once() answers how long it took. Others may use the cores: one time of three is enough."""
    took = []
    while len(took) < 3:
        took.append(once())
        if took[-1] <= seconds:
            return
    raise AssertionError(f"whole again only after {took} s")


def whole_again_after(host, since, good, ended):
    """Every worker answers as before, and what ends is ended. Seconds since `since`."""
    scratch.until(host.server.is_whole, "the server is whole again", 30)
    host.connect()
    host.everybody_accepts(good, "after the kill")
    host.nobody_accepts(ended, "after the kill")
    session, token = host.programs[0].do("login", "erin")
    host.everybody_accepts(token, "made after the kill")
    host.programs[1].do("end", session)
    took = time.monotonic() - since
    host.nobody_accepts(token, "ended after the kill")
    tap.note(f"whole again after {took:.2f} s")
    return took


def a_killed_worker_is_replaced():
    def once():
        with under_load() as (host, good, ended):
            victim = host.server.worker_pids()[0]
            host.connections.pop(victim).close()
            since = time.monotonic()
            os.kill(victim, signal.SIGKILL)
            scratch.until(lambda: victim not in host.server.worker_pids(), "the worker is gone")
            for connection in host.connections.values():
                assert connection.session(good) == 200, "another worker was disturbed"
            return whole_again_after(host, since, good, ended)
    within(WHOLE_SECONDS, once)


def who_came_while_there_was_no_worker_is_not_turned_away():
    """The next one has its agent before it takes a request."""
    with scratch.Server(workers=1) as server:
        _, token = server.login()
        for number in range(3):
            victim, = server.worker_pids()
            os.kill(victim, signal.SIGKILL)
            scratch.until(lambda: victim not in server.worker_pids(), "the worker is gone")
            connection = scratch.Connection(server.port)
            assert connection.session(token) == 200, f"round {number}"
            connection.close()


def a_killed_agent_is_replaced_and_sessions_survive():
    def once():
        with under_load() as (host, good, ended):
            workers = sorted(host.server.worker_pids())
            victim = host.server.agent_pid()
            since = time.monotonic()
            os.kill(victim, signal.SIGKILL)
            scratch.until(lambda: host.server.agent_pid() not in (None, victim), "a new agent")
            scratch.until(lambda: all(connection.session(good) == 200
                                      for connection in host.connections.values()),
                          "every worker has the new agent")
            took = whole_again_after(host, since, good, ended)
            assert sorted(host.server.worker_pids()) == workers, "workers were replaced, too"
            return took
    within(WHOLE_SECONDS + SEGMENT_SECONDS, once)


def an_ending_that_the_killed_agent_had_answered_stays():
    with Host() as host:
        for number in range(5):
            session, token = host.programs[0].do("login", "frank")
            host.everybody_accepts(token, f"round {number}")
            host.programs[1].do("end", session)
            os.kill(host.server.agent_pid(), signal.SIGKILL)
            # Nobody waits for the successor: whoever is asked in between may not accept it.
            for connection in host.connections.values():
                assert connection.session(token) in (401, 503)
            for program in host.programs:
                assert program.validate(token) != "CR_OK"
            scratch.until(host.server.is_whole, "the server is whole again")
            host.nobody_accepts(token, f"round {number}, after the kill")


def an_ending_by_the_successor_holds_against_the_table_of_the_killed_agent():
    """Until it has run out, a worker may believe its old map without a system call."""
    with Host() as host:
        ender, believer = host.programs
        for number in range(5):
            session, token = ender.do("login", "grace")
            host.everybody_accepts(token, f"round {number}")
            assert believer.ask("cached", token)[0] == "CR_OK"
            since = time.monotonic()
            os.kill(host.server.agent_pid(), signal.SIGKILL)
            assert believer.ask("cached", token)[0] == "CR_OK", "the old map is not believed at all"
            ender.do("end", session)
            took = time.monotonic() - since
            assert believer.ask("cached", token)[0] != "CR_OK", f"round {number}, after {took:.2f} s"
            host.nobody_accepts(token, f"round {number}")
            tap.note(f"ended {took:.2f} s after the kill")


def a_killed_supervisor_takes_all_with_it_and_its_successor_has_the_sessions():
    def once():
        with under_load() as (host, good, ended):
            left = [*host.server.worker_pids(), host.server.agent_pid()]
            os.kill(host.server.process.pid, signal.SIGKILL)
            host.server.process.wait()
            since = time.monotonic()
            host.server.start()
            tap.note(f"started after {time.monotonic() - since:.2f} s")
            assert not [pid for pid in left if scratch.arguments(pid)], "a process outlived it"
            return whole_again_after(host, since, good, ended)
    within(WHOLE_SECONDS + SEGMENT_SECONDS, once)


# ---- many


def ending_all_of_a_user_writes_the_same_rows_for_1_1000_and_100000_sessions():
    """O(1), store included. Times are told, and not judged: they are the disk's."""
    with Host() as host:
        maker, other = host.programs
        _, bystander = other.do("login", "bystander")
        written = set()
        for count in [1, 1000, 100_000]:
            user = f"has-{count}"
            maker.tell("create-many", user, count - 1)
            assert maker.answer(200)[0] == "CR_OK"
            _, last = maker.do("create", user)
            host.everybody_accepts(last, f"{count} sessions")
            times = []
            for name in ("has-few", user, "has-few"):
                if name != user:
                    maker.do("create", name)
                before = other.stats()["writes"]
                milliseconds, slowest = end_user_beside(maker, other, name, bystander)
                written.add(other.stats()["writes"] - before)
                times.append(f"{milliseconds:.2f} ms (another's validations: {slowest:.2f} ms)")
            host.nobody_accepts(last, f"{count} sessions")
            tap.note(f"{count:>7,} sessions: {times[1]}; one session just before and after: "
                     f"{times[0]}, {times[2]}")
        assert written == {1}, f"rows written: {written}"


def end_user_beside(ender, other, user, bystander):
    """(how long it took, the longest that another's validation took meanwhile), in milliseconds"""
    ender.tell("end-user", user)
    slowest = 0.0
    while not scratch.select.select([ender.process.stdout], [], [], 0)[0]:
        asked = time.monotonic()
        assert other.validate(bystander) == "CR_OK"
        slowest = max(slowest, time.monotonic() - asked)
    status, milliseconds = ender.answer()
    assert status == "CR_OK", status
    return float(milliseconds), slowest * 1000


tap.main([
    a_session_is_good_everywhere_until_its_ending_answers_and_nowhere_after,
    it_holds_while_threads_keep_filling_a_table_that_is_too_small,
    a_request_that_writes_its_session_back_after_the_log_out_does_not_revive_it,
    a_write_that_is_under_way_while_the_session_ends_does_not_revive_it,
    a_login_ends_the_earlier_sessions_everywhere_before_its_answer,
    a_killed_worker_is_replaced,
    who_came_while_there_was_no_worker_is_not_turned_away,
    a_killed_agent_is_replaced_and_sessions_survive,
    an_ending_that_the_killed_agent_had_answered_stays,
    an_ending_by_the_successor_holds_against_the_table_of_the_killed_agent,
    a_killed_supervisor_takes_all_with_it_and_its_successor_has_the_sessions,
    ending_all_of_a_user_writes_the_same_rows_for_1_1000_and_100000_sessions,
])
