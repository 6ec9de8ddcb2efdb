#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: timeout=180
"""Backups of a store in use, and what becomes of sessions when one is restored."""

import contextlib
import json
import os
import pathlib
import pty
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent.parent), str(pathlib.Path(__file__).parent)]
import scratch
import tap

KEEP = ("--on-login", "keep")


def cloakroom(*words, **more):
    """(exit status, standard output, standard error)"""
    done = subprocess.run([scratch.PROGRAM, *map(str, words)], capture_output=True, text=True,
                          check=False, timeout=60, **more)
    return done.returncode, done.stdout, done.stderr


def done(*words):
    status, out, error = cloakroom(*words)
    assert status == 0, f"{words}: {status} {error}"
    return out


def restored(backup, *options):
    """A server over what was restored."""
    home = scratch.folder("restored")
    said = done("restore", backup, "--store", f"sqlite://{home}/cloakroom.db", *options)
    return said, scratch.Server(workers=2, home=home, arguments=KEEP)


def statuses(server, tokens):
    """What every worker says of each."""
    return {connection.session(token) for connection in server.connections().values()
            for token in tokens}


def store_with(megabytes):
    """A store, not in use, that takes a while to copy."""
    home = scratch.folder("large")
    path = home / "cloakroom.db"
    scratch.run([scratch.PROGRAM, "user", "add", "alice", "--store", f"sqlite://{path}"],
                input=f"{scratch.Server.password}\n")
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE padding (bytes BLOB)")
        for _ in range(megabytes):
            db.execute("INSERT INTO padding VALUES (zeroblob(1 << 20))")
    db.close()
    return path


def a_backup_made_under_load_has_whole_what_was_there_before_it():
    with scratch.Server(workers=2, arguments=KEEP) as server:
        before = [server.login()[1] for _ in range(3)]
        _, gone = server.login()
        connection = scratch.Connection(server.port)
        assert connection.ask("POST", "/logout", gone)[0] in (200, 204)
        during, failed, stop = [], [], threading.Event()

        def load():
            try:
                while not stop.is_set():
                    during.append(server.login()[1])
            except BaseException as error:  # pylint: disable=broad-except
                failed.append(error)

        threads = [threading.Thread(target=load) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            backups = []
            for number in range(5):
                backups.append(server.home / f"backup-{number}.db")
                said = json.loads(done("backup", backups[-1], "--store", server.store, "--json"))
                assert said == {"file": str(backups[-1]), "bytes": said["bytes"]}, said
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        if failed:
            raise failed[0]
        assert {connection.session(token) for token in before + during} == {200}, "nobody waits"
        connection.close()
        assert all(path.stat().st_mode & 0o777 == 0o600 for path in backups)
        known = -1
        for path in backups:
            assert not path.with_name(path.name + ".partial").exists()
            _, copy = restored(path, "--keep-sessions")
            with copy:
                assert statuses(copy, before) == {200}
                assert statuses(copy, [gone]) == {401}
                live = [token for token in during if statuses(copy, [token]) == {200}]
                assert live == [token for token in during if token in live]
                assert len(live) >= known, "a later backup has no less"
                known = len(live)
                copy.login()


def a_restored_store_ends_everybody_before_it_serves():
    with scratch.Server(workers=2, arguments=KEEP) as server:
        (_, kept), (_, stolen) = server.login(), server.login()
        link = json.loads(done("user", "reset", "alice", "--json", "--store", server.store,
                               "--state", server.state))["token"]
        use = {"link": link, "new_password": "another horse battery"}
        backup = server.home / "backup.db"
        done("backup", backup, "--store", server.store)
        connection = scratch.Connection(server.port)
        assert connection.ask("POST", "/logout", stolen)[0] in (200, 204)
        assert connection.ask("POST", "/reset", body=use)[0] == 200
        connection.close()
    said, copy = restored(backup)
    assert "all sessions were ended" in said, said
    with copy:
        assert statuses(copy, [kept, stolen]) == {401}
        connection = scratch.Connection(copy.port)
        assert connection.ask("POST", "/reset", body=use)[0] == 403, "the link was spent since"
        connection.close()
        assert statuses(copy, [copy.login()[1]]) == {200}
        token = copy.login()[1]
        copy.close()
        copy.start()
        assert statuses(copy, [token]) == {200}, "once, not at each start"
    # The file in the store's place, by hand: the mark is in the file.
    home = scratch.folder("by-hand")
    shutil.copy(backup, home / "cloakroom.db")
    with scratch.Server(workers=2, home=home) as copy:
        assert statuses(copy, [kept, stolen]) == {401}
    said, copy = restored(backup, "--keep-sessions")
    assert "those that were ended since are good again" in said, said
    with copy:
        assert statuses(copy, [kept, stolen]) == {200}, "as it says"


def a_store_that_cannot_end_everybody_does_not_serve():
    path = store_with(0)
    copy = path.with_name("backup.db")
    done("backup", copy, "--store", f"sqlite://{path}")
    with sqlite3.connect(copy) as db:
        db.execute("ALTER TABLE log RENAME TO elsewhere")
    db.close()
    status, _, error = cloakroom("user", "list", "--store", f"sqlite://{copy}")
    assert status == 1 and "is damaged" in error, (status, error)
    with sqlite3.connect(copy) as db:
        assert db.execute("SELECT count(*) FROM copied").fetchone() == (1,), "is still marked"
        db.execute("ALTER TABLE elsewhere RENAME TO log")
    db.close()
    assert "alice" in done("user", "list", "--store", f"sqlite://{copy}")
    with sqlite3.connect(copy) as db:
        assert not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'copied'").fetchall()
        assert db.execute("SELECT author FROM log WHERE kind = 5").fetchall() == [
            ("the store was restored",)]
    db.close()


def a_backup_that_is_stopped_or_killed_is_in_nobodys_way():
    with scratch.Server(workers=1, arguments=KEEP) as server:
        with sqlite3.connect(server.store.removeprefix("sqlite://")) as db:
            db.execute("CREATE TABLE padding (bytes BLOB)")
            for _ in range(200):
                db.execute("INSERT INTO padding VALUES (zeroblob(1 << 20))")
        db.close()
        target = server.home / "backup.db"
        partial = server.home / "backup.db.partial"
        process = subprocess.Popen([scratch.PROGRAM, "backup", target, "--store", server.store,
                                    "--stall", "1h"],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        scratch.until(lambda: partial.exists() and partial.stat().st_size > 1 << 20, "its beginning")
        process.send_signal(signal.SIGSTOP)
        assert not target.exists(), "too quick for this test"
        _, token = server.login()
        assert statuses(server, [token]) == {200}
        status, _, error = cloakroom("backup", target, "--store", server.store)
        assert status == 75 and "another process" in error, (status, error)
        process.kill()
        process.wait()
        assert partial.exists() and not target.exists()
        partial.write_bytes(b"left over")
        # What it left is written over; and who is asked to stop cleans up.
        again = subprocess.Popen([scratch.PROGRAM, "backup", target, "--store", server.store],
                                 stderr=subprocess.PIPE, text=True, stdout=subprocess.DEVNULL)
        scratch.until(lambda: partial.exists() and partial.stat().st_size > 1 << 20, "its beginning")
        again.send_signal(signal.SIGINT)
        error = again.communicate(timeout=30)[1]
        assert again.returncode == 1 and "interrupted" in error, (again.returncode, error)
        assert not partial.exists() and not target.exists()
        done("backup", target, "--store", server.store)
        assert target.exists() and not partial.exists()


def readers_of_the_log(store):
    """Whose reads of the store are open: SQLite's locks of bytes 123 to 127 of its -shm."""
    number = os.stat(store + "-shm").st_ino
    found = set()
    for line in pathlib.Path("/proc/locks").read_text(encoding="utf-8").splitlines():
        word = line.replace("->", "").split()
        if word[5].endswith(f":{number}") and 123 <= int(word[6]) <= 127:
            found.add(int(word[4]))
    return found


def state_of(pid):
    """As ps shows it; "": it is gone."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def a_backup_that_stands_still_lets_go_of_the_store():
    """Stopped, it would hold the log for ever; its group is stopped with it, as by Ctrl-Z."""
    started = []
    with scratch.Server(workers=1, arguments=KEEP) as server, contextlib.ExitStack() as stack:
        stack.callback(lambda: [process.kill() for process in started if process.poll() is None])
        store = server.store.removeprefix("sqlite://")
        with sqlite3.connect(store) as db:
            db.execute("CREATE TABLE padding (bytes BLOB)")
            for _ in range(200):
                db.execute("INSERT INTO padding VALUES (zeroblob(1 << 20))")
            db.commit()
            # The agent may be reading: then the log is used again as large as it is.
            scratch.until(lambda: db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0,
                          "an empty log")
        db.close()
        target = server.home / "backup.db"
        partial = server.home / "backup.db.partial"

        def begun(*options):
            partial.unlink(missing_ok=True)
            process = subprocess.Popen(
                [scratch.PROGRAM, "backup", target, "--store", server.store, *options], text=True,
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
            started.append(process)
            scratch.until(lambda: partial.exists() and partial.stat().st_size > 1 << 20, "its beginning")
            os.killpg(process.pid, signal.SIGSTOP)
            assert not target.exists(), "too quick for this test"
            return process

        tap.note("who watches it was frozen with it, for longer than it may stand still")
        process = begun("--stall", "5s")
        (watcher,) = map(int, pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
                         .read_text(encoding="ascii").split())
        time.sleep(1)  # it has seen the last step
        os.kill(watcher, signal.SIGSTOP)
        time.sleep(6)
        os.kill(watcher, signal.SIGCONT)
        scratch.until(lambda: state_of(watcher) == "S", "its look")
        os.killpg(process.pid, signal.SIGCONT)
        error = process.communicate(timeout=60)[1]
        assert process.returncode == 0, (process.returncode, error)
        target.unlink()

        process = begun("--stall", "1s")
        error = process.communicate(timeout=60)[1]
        assert process.returncode == -signal.SIGKILL, process.returncode
        assert "stood still for 1s and was ended" in error and str(target) in error, error
        assert process.pid not in readers_of_the_log(store)

        tap.note("it goes on, but the log has grown too far")
        process = begun("--stall", "1h", "--log-max", "1M")
        assert process.pid in readers_of_the_log(store), "the test looks at the wrong thing"
        with sqlite3.connect(store) as db:
            db.execute("INSERT INTO padding VALUES (zeroblob(80 << 20))")
        db.close()
        holds = f"process {process.pid} has a read of the store open"
        scratch.until(lambda: holds in server.said(), "the agent's warning")
        status, out, error = cloakroom("doctor", "--store", server.store, "--state", server.state)
        out = " ".join(out.split())
        assert status == 1 and holds in out and f"kill -CONT {process.pid}" in out, (status, out, error)
        os.killpg(process.pid, signal.SIGCONT)
        error = process.communicate(timeout=60)[1]
        assert process.returncode == 1 and "has grown to" in error and "--log-max" in error, error
        assert not partial.exists() and not target.exists()
        assert server.login()


def a_full_disk_leaves_nothing_behind():
    path = store_with(20)

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 20, 8 << 20))

    status, _, error = cloakroom("backup", path.with_name("backup.db"), "--store",
                                 f"sqlite://{path}", preexec_fn=limit)
    assert status == 1 and "cannot be written" in error, (status, error)
    assert not list(path.parent.glob("backup.db*"))


def nothing_is_overwritten_and_what_is_wrong_is_said():
    path = store_with(1)
    store = f"sqlite://{path}"
    backup = path.with_name("backup.db")
    done("backup", backup, "--store", store)
    for words, part in (
            (("backup", backup, "--store", store), "is there already"),
            (("backup", path.with_name("other.db"), "--store", f"{store}.none"), "No such file"),
            (("backup", path.with_name("other.db"), "--store", "memory:"), "sqlite:///PATH"),
            (("backup", path.parent / "none" / "other.db", "--store", store), "Make the directory"),
            (("restore", backup, "--store", store), "move it away first"),
            (("restore", path.with_name("none"), "--store", f"{store}.new"), "No such file"),
            (("restore", path.with_name("cloakroom.db-lock"), "--store", f"{store}.new"),
             "not a store of Cloakroom")):
        status, out, error = cloakroom(*words)
        assert status in (1, 2) and part in error and not out, (words, status, error)
    pathlib.Path(f"{path}.new-wal").touch()
    status, _, error = cloakroom("restore", backup, "--store", f"{store}.new")
    assert status == 1 and "new-wal is there" in error, error
    short = path.with_name("short.db")
    short.write_bytes(backup.read_bytes()[:-(300 << 10)])
    status, _, error = cloakroom("restore", short, "--store", f"{store}.other")
    assert status == 1 and ("damaged" in error or "malformed" in error), error
    assert not pathlib.Path(f"{path}.other").exists()
    # An agent may have lost its file, and still be there.
    with scratch.Server(workers=1) as server:
        file = server.store.removeprefix("sqlite://")
        for end in ("", "-wal", "-shm"):
            pathlib.Path(file + end).rename(f"{file}.away{end}")
        status, _, error = cloakroom("restore", backup, "--store", server.store)
        assert status == 1 and "is held by process" in error, error
        for end in ("", "-wal", "-shm"):
            pathlib.Path(f"{file}.away{end}").rename(file + end)


def what_root_restores_belongs_to_who_owns_the_directory():
    if os.geteuid() != 0:
        tap.skip("only root may give files away")
    path = store_with(0)
    backup = path.with_name("backup.db")
    done("backup", backup, "--store", f"sqlite://{path}")
    home = scratch.folder("theirs")
    os.chown(home, 65534, 65534)
    done("restore", backup, "--store", f"sqlite://{home}/cloakroom.db")
    assert {entry.stat().st_uid for entry in home.iterdir()} == {65534}


def on_a_terminal_it_shows_how_far_it_is():
    path = store_with(100)
    ours, theirs = pty.openpty()
    process = subprocess.Popen([scratch.PROGRAM, "backup", path.with_name("backup.db"), "--store",
                                f"sqlite://{path}"], stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    seen = b""
    try:
        while chunk := os.read(ours, 4096):
            seen += chunk
    except OSError:
        pass  # the other end is closed
    os.close(ours)
    assert process.wait(30) == 0
    assert b" % of 100." in seen and seen.endswith(b"\r\x1b[K"), seen


tap.main([
    a_backup_made_under_load_has_whole_what_was_there_before_it,
    a_restored_store_ends_everybody_before_it_serves,
    a_store_that_cannot_end_everybody_does_not_serve,
    a_backup_that_is_stopped_or_killed_is_in_nobodys_way,
    a_backup_that_stands_still_lets_go_of_the_store,
    a_full_disk_leaves_nothing_behind,
    nothing_is_overwritten_and_what_is_wrong_is_said,
    what_root_restores_belongs_to_who_owns_the_directory,
    on_a_terminal_it_shows_how_far_it_is,
])
