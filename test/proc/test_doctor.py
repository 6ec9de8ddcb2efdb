#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`cloakroom doctor` beside real processes: what runs, what is wrong, and that what it says to do
about it helps. Facts that no host of ours has are in test/unit/test_doctor.c."""

import fcntl
import json
import os
import pathlib
import pwd
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent.parent), str(pathlib.Path(__file__).parent)]
sys.dont_write_bytecode = True
import scratch
import tap
from desk import Desk


def doctor(where, *words, env=None, **more):
    """(exit status, what it answers in JSON, what it prints)"""
    command = [scratch.PROGRAM, "doctor", *where, *map(str, words)]
    # Nothing of this host's own settings.
    env = {**{k: v for k, v in os.environ.items() if k != "WEB_CONCURRENCY"}, **(env or {})}
    done = [subprocess.run([*command, *word], text=True, timeout=60, capture_output=True, env=env,
                           check=False, stdin=subprocess.DEVNULL, **more)
            for word in ([], ["--json"])]
    assert done[0].returncode == done[1].returncode, f"{done[0].stdout}\n{done[1].stdout}"
    assert done[0].returncode in (0, 1), done[0]
    assert done[0].stderr == done[1].stderr == "", done[0].stderr + done[1].stderr
    return done[0].returncode, json.loads(done[1].stdout), done[0].stdout


def found(answer):
    return {finding["code"]: finding for finding in answer["findings"]}


def wrong(answer):
    return {finding["code"] for finding in answer["findings"] if finding["level"] == "wrong"}


def desk_where(desk, config="/dev/null"):
    return (*desk.where, "--config", str(config))


def everything_below(folder):
    return sorted((str(path), path.lstat().st_mode, path.lstat().st_mtime_ns)
                  for path in folder.rglob("*"))


def without_an_agent_it_looks_and_makes_nothing():
    home = scratch.folder("home")
    home.chmod(0o700)
    env = {"HOME": str(home), "XDG_STATE_HOME": str(home / "state"), "XDG_RUNTIME_DIR": str(home)}
    desk = Desk(f"sqlite://{home}/store.db")
    where = ("--store", desk.url, "--state", str(home / "run"), "--config", "/dev/null")
    status, answer, text = doctor(where, env=env)
    assert status == 0 and answer["ok"] is True, text
    assert answer["agent"] == {"state": "none", "pid": None} and answer["processes"] == [], answer
    assert found(answer)["agent-none"]["level"] == "note" and "store" in found(answer), answer
    assert "Nothing is wrong" in text and desk.url in text, text
    assert everything_below(home) == [], everything_below(home)
    if os.geteuid() != 0:  # root's is in /var/lib
        doctor(("--config", "/dev/null"), env=env)
        assert everything_below(home) == [], "a store that nobody named"


def beside_a_server_it_says_what_runs_and_what_protects_it():
    with scratch.Server(workers=2) as server:
        where = ("--store", server.store, "--state", str(server.state), "--config", "/dev/null")
        before = everything_below(server.state)
        _, token = server.login()
        connection = scratch.Connection(server.port)
        assert connection.session(token) == 200
        connection.close()
        status, answer, text = doctor(where)
        by_role = {}
        for process in answer["processes"]:
            by_role.setdefault(process["role"], []).append(process)
        assert [p["pid"] for p in by_role["supervisor"]] == [server.process.pid], answer
        assert [p["pid"] for p in by_role["agent"]] == [server.agent_pid()], answer
        assert {p["pid"] for p in by_role["worker"]} == set(server.worker_pids()), answer
        assert len(by_role["ops worker"]) == 1, answer
        assert answer["agent"]["state"] == "answers" and answer["agent"]["pid"] == server.agent_pid()
        assert answer["agent"]["version"] == answer["version"], answer
        assert answer["agent"]["program"] == str(scratch.PROGRAM.resolve()), answer
        assert answer["table"]["kind"] == "shared" and answer["table"]["bytes"] > 1 << 20, answer
        assert answer["table"]["sessions"] == 1, answer
        assert status == 0 and wrong(answer) == set(), text
        assert all(p["confined"] for p in by_role["worker"] + by_role["ops worker"]), answer
        assert not any(p["confined"] for p in by_role["agent"]), answer
        assert by_role["agent"][0]["core_bytes_max"] == 0, answer
        assert by_role["agent"][0]["locked_bytes"] > 0, answer
        for code in ("seccomp", "core-dumps", "keys-locked"):
            assert found(answer)[code]["level"] == "ok", found(answer)[code]
        for part in (str(server.agent_pid()), server.store, str(server.state),
                     f"127.0.0.1:{server.port}", *map(str, server.worker_pids())):
            assert part in text, f"{part}: {text}"
        assert token not in text and server.password not in text
        assert everything_below(server.state) == before, "it has changed something"
        # The same was in the log when the server had started.
        said = server.said()
        assert f"store {server.store}; sockets in {server.state}" in said, said
        assert "protected: the keys are locked in memory; " in said, said
        about = server.state / "agent.json"
        assert about.stat().st_mode & 0o777 == 0o600, oct(about.stat().st_mode)
        assert server.store not in about.read_text(encoding="utf-8"), "URLs may hold passwords"


def a_page_is_80_columns_wide_and_has_a_line_for_each_finding():
    with Desk() as desk:
        _, answer, text = doctor(desk_where(desk))
        lines = text.splitlines()
        assert text.isprintable() or all(line.isprintable() for line in lines), text
        wide = [line for line in lines if len(line) > 79 and len(line.split()) > 2]
        assert wide == [], wide
        begun = [line for line in lines if line.startswith(("  ok    ", "  note  ", "  wrong "))]
        assert len(begun) == len(answer["findings"]) > 5, text
        fixes = [line for line in lines if line.strip().startswith("-> ")]
        assert len(fixes) == sum(finding["fix"] is not None for finding in answer["findings"]), text


def what_is_wrong_is_found_and_what_it_says_mends_it():
    """Each is broken, found, mended by the command that stands there, and then not found."""
    desk = Desk()
    # Also where the umask is another.
    desk.home.chmod(0o700)
    config = desk.home / "x.conf"
    config.write_text("[cache]\nmemory = 4M\n", encoding="utf-8")
    config.chmod(0o644)
    store = desk.home / "store.db"
    desk.start("--config", str(config))
    where = desk_where(desk, config)
    rows = [("store-mode", lambda: store.chmod(0o644)),
            ("store-directory", lambda: desk.home.chmod(0o707)),
            ("settings-mode", lambda: config.chmod(0o666)),
            ("state-mode", lambda: desk.state.chmod(0o777)),
            ("socket-mode", lambda: (desk.state / "operator.sock").chmod(0o666))]
    try:
        assert wrong(doctor(where)[1]) == set()
        for code, breaks in rows:
            breaks()
            status, answer, text = doctor(where)
            assert status == 1 and answer["ok"] is False, text
            assert wrong(answer) == {code}, f"{code}: {text}"
            fix = found(answer)[code]["fix"]
            assert fix.startswith("chmod ") and f"-> {fix}\n" in text, f"{fix}\n{text}"
            subprocess.run(["sh", "-c", fix], check=True)
            assert wrong(doctor(where)[1]) == set(), f"{code}: `{fix}` does not help"
    finally:
        desk.stop()


def a_store_that_is_of_no_use_is_told_apart():
    home = scratch.folder("stores")
    home.chmod(0o700)
    (home / "text.db").write_text("this is no database, whatever it is called\n", encoding="utf-8")
    (home / "text.db").chmod(0o600)
    (home / "folder.db").mkdir()
    rows = [("none/store.db", "store-missing"), ("text.db", "store-damaged"),
            ("folder.db", "store-damaged")]
    for name, code in rows:
        where = ("--store", f"sqlite://{home}/{name}", "--state", str(home / "run"), "--config",
                 "/dev/null")
        status, answer, text = doctor(where)
        assert status == 1 and code in wrong(answer), f"{name}: {text}"
    assert not (home / "none").exists()


def a_store_that_another_process_holds_is_told_with_the_process():
    with Desk() as desk:
        desk.do("user", "list")
        elsewhere = ("--store", desk.url, "--state", str(desk.home / "elsewhere"), "--config",
                     "/dev/null")
        status, answer, text = doctor(elsewhere)
        finding = found(answer)["store-held"]
        assert status == 1 and f"process {desk.agent.pid} " in finding["text"], text
        assert finding["fix"].endswith(f"--state {desk.state}"), finding
        other = next(row for row in answer["findings"] if row["code"] == "agent-elsewhere"
                     and str(desk.agent.pid) in row["text"])
        assert str(desk.state) in other["fix"], other
    # It has only looked: the lock is free, and nobody was locked out by it.
    assert "store-held" not in found(doctor(elsewhere)[1])


def settings_that_are_bad_or_have_changed_are_told():
    desk = Desk()
    config = desk.home / "x.conf"
    config.write_text("[session]\nidle = 20m\n", encoding="utf-8")
    config.chmod(0o600)
    desk.start("--config", str(config))
    try:
        assert "settings-changed" not in found(doctor(desk_where(desk, config))[1])
        config.write_text("[session]\nidle = 25m\n", encoding="utf-8")
        # Also without being told which file it was: the agent says so.
        for where in (desk_where(desk, config), desk.where):
            if where == desk.where and pathlib.Path("/etc/cloakroom/cloakroom.conf").exists():
                continue
            answer = doctor(where)[1]
            assert answer["settings"] == str(config), answer
            assert found(answer)["settings-changed"]["text"].endswith(": session.idle"), answer
        config.write_text("[session]\nidle = 25\n", encoding="utf-8")
        status, answer, text = doctor(desk_where(desk, config))
        assert status == 1 and f"{config}:2" in found(answer)["settings-bad"]["text"], text
    finally:
        desk.stop()


def a_private_cache_and_several_processes_do_not_go_together():
    desk = Desk()
    env = {"WEB_CONCURRENCY": "4", "CLOAKROOM__CACHE__KIND": "memory"}
    status, answer, text = doctor(desk_where(desk), env=env)
    assert status == 1 and "WEB_CONCURRENCY declares 4" in found(answer)["CR-101"]["text"], text
    for mended in ({"CLOAKROOM__CACHE__KIND": "shared"}, {"WEB_CONCURRENCY": "1"}):
        assert "CR-101" not in found(doctor(desk_where(desk), env={**env, **mended})[1]), mended


def an_agent_that_hangs_is_told_and_does_not_hang_us():
    with Desk() as desk:
        os.kill(desk.agent.pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            status, answer, text = doctor(desk_where(desk))
            # Twice two seconds and what a loaded machine takes: the end is what is looked at.
            assert time.monotonic() - began < 50
            assert status == 1 and answer["agent"]["state"] == "silent", text
            assert f"kill -CONT {desk.agent.pid}" in found(answer)["agent-silent"]["fix"], text
        finally:
            os.kill(desk.agent.pid, signal.SIGCONT)
        assert doctor(desk_where(desk))[1]["agent"]["state"] == "answers"


def what_the_agents_file_says_is_not_believed_of_another_process():
    """The file is input: whatever stands there, the report is made."""
    with Desk() as desk:
        about = desk.state / "agent.json"
        true = json.loads(about.read_text(encoding="utf-8"))
        texts = ["", "{", "[]", "null", '{"pid": "x"}', json.dumps({**true, "pid": 1}),
                 '{"pid": 99999999999999999999}', "[" * 100000,
                 json.dumps({**true, "settings": [{"name": 7}, {"name": "x\x1b[2J", "value": ""}]}),
                 json.dumps({**true, "version": "\x1b[2Jhid\u202e", "started": "", "program": "x" * 9000,
                             "settings": 7})]
        for text in texts:
            about.write_text(text, encoding="utf-8")
            _, answer, page = doctor(desk_where(desk))
            assert answer["agent"]["pid"] == desk.agent.pid, f"{text[:40]}: {answer}"
            assert "\x1b" not in page and "\u202e" not in page, page
            if '"pid": 1,' in text:
                assert "version" not in answer["agent"], answer
        about.unlink()
        os.mkfifo(about)  # which nobody writes to
        assert doctor(desk_where(desk))[1]["agent"]["pid"] == desk.agent.pid


def as_nobody(home):
    """How to start a process that is not root, where we are; a copy of the program for it."""
    program = home / "cloakroom"
    shutil.copy(scratch.PROGRAM, program)
    program.chmod(0o755)
    if os.geteuid() != 0:
        return program, {}
    who = pwd.getpwnam("nobody")
    for place in (home, home.parent):
        if place != pathlib.Path("/tmp"):
            place.chmod(place.stat().st_mode | 0o055)
    data = home / "data"
    data.mkdir(mode=0o700)
    os.chown(data, who.pw_uid, who.pw_gid)
    return program, {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": [], "cwd": data}


def keys_that_cannot_be_locked_are_told_with_the_limit():
    """By a process that is no root, of another that is none: as on a host of somebody's."""
    home = scratch.folder("nobody")
    program, who = as_nobody(home)
    data = home / "data"
    data.mkdir(mode=0o700, exist_ok=True)
    where = ("--store", f"sqlite://{data}/store.db", "--state", str(data / "run"), "--config",
             "/dev/null")

    def look():
        done = subprocess.run([program, "doctor", *where, "--json"], capture_output=True, text=True,
                              timeout=60, check=False, env={"PATH": os.environ["PATH"]}, **who)
        return done.returncode, json.loads(done.stdout)

    for limit, level in ((0, "wrong"), (1 << 20, "ok")):
        reading, writing = os.pipe()
        agent = subprocess.Popen(
            [program, "agent", *where, "--ready-fd", str(writing)], pass_fds=[writing],
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **who,
            preexec_fn=lambda most=limit: resource.setrlimit(resource.RLIMIT_MEMLOCK, (most, most)))
        try:
            os.close(writing)
            with open(reading, encoding="utf-8") as ready:
                assert ready.read() == "READY=1\n"
            status, answer = look()
            finding = found(answer)["keys-locked"]
            assert finding["level"] == level and status == (level == "wrong"), answer
            assert level == "ok" or "LimitMEMLOCK=1M" in finding["fix"], finding
            assert found(answer)["user"]["level"] == "ok", answer
            assert found(answer)["core-dumps"]["level"] == "ok", answer
        finally:
            scratch.end(agent)
        said = agent.stderr.read()
        agent.stderr.close()
        assert ("wrong: protections: the keys are not locked" in said) == (level == "wrong"), said


def held_by_us(path):
    """PATH-lock, as an engine has it."""
    lock = os.open(f"{path}-lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.fcntl(lock, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
    return lock


def a_holder_whose_pid_is_not_known_is_told_as_well():
    desk = Desk()
    (desk.home / "store.db").touch(0o600)
    lock = held_by_us(desk.home / "store.db")
    try:
        answer = doctor(desk_where(desk))[1]
        assert "store-held" in wrong(answer), answer
    finally:
        os.close(lock)
    assert "store-held" not in found(doctor(desk_where(desk))[1])


tap.main([
    without_an_agent_it_looks_and_makes_nothing,
    beside_a_server_it_says_what_runs_and_what_protects_it,
    a_page_is_80_columns_wide_and_has_a_line_for_each_finding,
    what_is_wrong_is_found_and_what_it_says_mends_it,
    a_store_that_is_of_no_use_is_told_apart,
    a_store_that_another_process_holds_is_told_with_the_process,
    settings_that_are_bad_or_have_changed_are_told,
    a_private_cache_and_several_processes_do_not_go_together,
    an_agent_that_hangs_is_told_and_does_not_hang_us,
    what_the_agents_file_says_is_not_believed_of_another_process,
    keys_that_cannot_be_locked_are_told_with_the_limit,
    a_holder_whose_pid_is_not_known_is_told_as_well,
])
