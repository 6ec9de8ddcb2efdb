#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: python
# tap: timeout=120
"""flask.session in a cloakroom: the dictionary it always was, and what session interfaces keep getting
wrong. Most of it against the fake, whose clock is moved; what crosses processes, under gunicorn with two
workers over a real agent. The code of doc/python-flask.md is run here, too."""

import concurrent.futures
import contextlib
import http.client
import json
import logging
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import urllib.parse
from datetime import timedelta

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "proc")]
sys.dont_write_bytecode = True
import scratch
import tap
from cloakroom import DataTooLarge, InvalidArgument, Unavailable
from cloakroom.flask import CloakroomSessions, FlaskSessions, current_user, login_user, room
from cloakroom.testing import FakeCloakroom
from desk import Desk
from flask import Flask
from flask.sessions import SessionInterface

import flask_site

ROOM = FakeCloakroom()
APP = flask_site.make(ROOM)
NAME = "cloakroom"
FORGED = "crs1_" + "A" * 80


class Said(logging.Handler):
    """All that was logged."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(self.format(record))


SAID = Said()
logging.getLogger("cloakroom").addHandler(SAID)
logging.getLogger("site").addHandler(SAID)


class Browser:
    """Keeps cookies; `lines` are the last answer's Set-Cookie."""

    def __init__(self, app=APP, cookies=None):
        self.client = app.test_client(use_cookies=False)
        self.cookies = dict(cookies or {})
        self.lines = []

    def ask(self, path, form=None):
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items()),
                   "User-Agent": "a browser"}
        answer = self.client.open(path, method="GET" if form is None else "POST", data=form, headers=headers)
        self.lines = answer.headers.getlist("Set-Cookie")
        for line in self.lines:
            name, value = line.split(";")[0].split("=", 1)
            if "Max-Age=0;" in line or "01 Jan 1970" in line:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value
        return answer

    def sign_in(self, name="alice"):
        assert self.ask("/sign_in", {"name": name}).status_code == 200
        return self

    @property
    def user(self):
        return self.ask("/show").get_json()["user"]

    @property
    def keys(self):
        return self.ask("/show").get_json()["keys"]

    @property
    def token(self):
        return self.cookies.get(NAME)


def refused(what, kind, *words):
    try:
        what()
    except kind as error:
        assert all(word in str(error) for word in words), error
    else:
        raise AssertionError(f"no {kind.__name__}")


# What is stored, and for whom.


def nothing_is_stored_for_who_puts_nothing_in():
    browser, before = Browser(), len(ROOM._fake._sessions)
    for path in ("/show", "/plain", "/clear", "/me"):
        browser.ask(path)
        assert not browser.lines, (path, browser.lines)
    assert len(ROOM._fake._sessions) == before
    assert "Cookie" not in browser.ask("/plain").headers.get("Vary", "")
    assert "Cookie" in browser.ask("/show").headers["Vary"]


def what_is_put_in_is_there_again_and_deep_changes_too():
    browser = Browser()
    browser.ask("/put?a=1&b=%C3%BC")
    assert "HttpOnly" in browser.lines[0] and "SameSite=Lax" in browser.lines[0]
    browser.ask("/deep")
    browser.ask("/deep")
    assert browser.keys == {"a": "1", "b": "ü", "deep": [0, 1]}
    browser.ask("/rich")
    assert browser.ask("/rich/look").status_code == 200
    version = ROOM.validate(browser.token).version
    browser.ask("/put?a=1")
    assert ROOM.validate(browser.token).version == version, "what is the same is not written"


def the_cookie_is_the_host_s_own_over_https():
    browser = Browser(flask_site.make(ROOM, secure=True))
    browser.ask("/put?a=1")
    (line,) = browser.lines
    assert line.startswith("__Host-cloakroom=crs1_") and "; Secure" in line and "; Path=/" in line
    assert "Domain" not in line


def no_cache_keeps_a_token_for_others():
    app = flask_site.make(ROOM)

    @app.after_request
    def cached(response):
        response.headers["Cache-Control"] = "public, max-age=60"
        return response

    browser = Browser(app)
    assert browser.ask("/put?a=1").headers.getlist("Cache-Control") == ["no-store"] and browser.token
    assert browser.ask("/put?a=1").headers["Cache-Control"] == "public, max-age=60", "the application's own say"


def permanent_decides_how_long_the_cookie_stays():
    browser = Browser()
    browser.ask("/put?a=1")
    assert "Max-Age" in browser.lines[0]
    browser.ask("/permanent/0")
    assert len(browser.lines) == 1 and "Max-Age" not in browser.lines[0]
    browser.ask("/cycle")
    assert "Max-Age" not in browser.lines[0]
    browser.ask("/permanent/1")
    assert "Max-Age" in browser.lines[0]
    browser.ask("/permanent/1")
    assert not browser.lines


def an_unknown_key_is_never_adopted():
    for key in (FORGED, "x" * 32, "ü" * 85):
        browser = Browser(cookies={NAME: key})
        browser.ask("/put?a=1")
        assert browser.token.startswith("crs1_") and browser.token != key
        assert browser.keys == {"a": "1"}


def a_save_never_brings_back_a_session_that_ended():
    for app, status in ((APP, 200), (flask_site.make(ROOM, on_ended="raise"), 401)):
        browser = Browser(app)
        browser.ask("/put?a=1")
        token = browser.token
        flask_site.MOMENT.append(lambda token=token: ROOM.end(ROOM.validate(token)))
        answer = browser.ask("/put?a=2")
        assert answer.status_code == status, answer.status_code
        assert ROOM.validate(token) is None and browser.keys == {}


def two_requests_that_change_different_keys_lose_neither():
    browser = Browser()
    browser.ask("/put?a=1&b=1&c=1")
    flask_site.MOMENT.append(lambda: browser.ask("/put?b=2&new=1"))
    assert browser.ask("/put?a=2").status_code == 200
    assert browser.keys == {"a": "2", "b": "2", "c": "1", "new": "1"}


def two_requests_that_change_one_key_are_told():
    for on_conflict, first, status, then in (("merge", "a=2", 409, "2"), ("raise", "b=2", 409, "1"),
                                             ("last_wins", "a=2", 200, "3")):
        browser = Browser(flask_site.make(ROOM, on_conflict=on_conflict))
        browser.ask("/put?a=1")
        flask_site.MOMENT.append(lambda path=f"/put?{first}", browser=browser: browser.ask(path))
        answer = browser.ask("/put?a=3")
        assert answer.status_code == status, (on_conflict, answer.status_code)
        assert browser.keys["a"] == then, (on_conflict, browser.keys)


def a_session_ends_to_the_millisecond():
    browser = Browser(flask_site.make(ROOM, idle=0.25, absolute=0.6))
    browser.ask("/put?a=1")
    for span in (0.249, 0.249, 0.101):
        ROOM.advance(span)
        assert browser.keys == {"a": "1"}
    ROOM.advance(0.001)
    assert browser.keys == {}
    browser.ask("/put?a=1")
    ROOM.advance(0.25)
    assert browser.keys == {}


# Log-in and log-out.


def a_log_in_has_ended_the_earlier_sessions_when_it_returns():
    thief, seen = Browser().sign_in(), []
    assert thief.user == "alice"
    browser = Browser()
    browser.ask("/put?cart=7")
    visitor = browser.token
    flask_site.MOMENT.append(lambda: seen.append(thief.user))
    browser.sign_in()
    assert seen == [None], f"{seen} while the view still ran"
    assert browser.user == "alice" and browser.keys == {"cart": "7"}
    assert browser.token != visitor and ROOM.validate(visitor) is None
    (row,) = ROOM.sessions_of("alice")
    assert (row.address, row.agent) == ("127.0.0.1", "a browser")


def the_policy_may_keep_some():
    app = flask_site.make(ROOM, policy="keep_n", keep_count=2)
    people = []
    for _ in range(3):
        ROOM.advance(1)
        people.append(Browser(app).sign_in("carol"))
    assert [browser.user for browser in people] == [None, "carol", "carol"]


def a_log_in_that_fails_leaves_nobody_logged_in():
    browser = Browser()
    browser.ask("/put?a=1")
    with ROOM.pending():
        answer = browser.ask("/sign_in", {"name": "alice"})
    assert answer.status_code == 503 and answer.headers["Retry-After"] == "1"
    assert browser.user is None


def a_session_where_a_user_is_meant_is_refused():
    browser = Browser().sign_in()
    row = ROOM.validate(browser.token)
    with APP.test_request_context("/"):
        for wrong in (row.id, browser.token, row, 5):
            refused(lambda wrong=wrong: login_user(wrong), TypeError)


def log_out_ends_it_and_takes_the_cookie_away():
    browser = Browser().sign_in()
    token = browser.token
    browser.ask("/sign_out")
    assert browser.token is None and ROOM.validate(token) is None
    late = Browser(cookies={NAME: token})
    assert late.user is None
    assert not late.lines, "a request that came late takes away a newer cookie"


def emptying_a_session_is_no_log_out():
    browser = Browser().sign_in()
    browser.ask("/put?a=1")
    browser.ask("/clear")
    assert browser.user == "alice" and browser.keys == {}


def a_cycled_token_is_the_only_one():
    browser = Browser().sign_in()
    browser.ask("/put?a=1")
    token = browser.token
    browser.ask("/cycle")
    assert browser.token != token and ROOM.validate(token) is None
    assert browser.user == "alice" and browser.keys == {"a": "1"}


def guards_of_views_answer_401_and_403():
    browser = Browser()
    browser.ask("/put?a=1")
    for path in ("/me", "/fresh"):
        assert browser.ask(path).status_code == 401
    browser.sign_in()
    for path in ("/me", "/fresh", "/awaited"):
        assert browser.ask(path).get_data() == b"alice", path
    ROOM.advance(timedelta(minutes=5, milliseconds=1))
    assert browser.ask("/me").status_code == 200 and browser.ask("/fresh").status_code == 403
    browser.sign_in()
    assert browser.ask("/fresh").status_code == 200


# Out of reach, and what cannot be.


def who_cannot_be_looked_up_gets_503_and_is_not_logged_out():
    browser = Browser().sign_in()
    with ROOM.unavailable():
        for path in ("/show", "/me", "/fresh", "/put?a=1", "/sign_out"):
            answer = browser.ask(path)
            assert answer.status_code == 503 and answer.headers["Retry-After"] == "1", path
            assert not browser.lines, path
        assert browser.ask("/plain").status_code == 200
    assert browser.user == "alice"
    outage = ROOM.unavailable()
    flask_site.MOMENT.append(outage.__enter__)
    answer = browser.ask("/put?a=1")
    outage.__exit__(None, None, None)
    assert answer.status_code == 503 and answer.headers["Retry-After"] == "1", "of a save"
    assert browser.user == "alice" and browser.keys == {}


def a_page_for_errors_that_looks_at_the_session_is_503_too():
    app = flask_site.make(ROOM)

    @app.errorhandler(404)
    def missing(_):
        return f"nothing here, {current_user()}", 404

    browser = Browser(app).sign_in()
    with ROOM.unavailable():
        answer = browser.ask("/nowhere")
        assert answer.status_code == 503 and answer.headers["Retry-After"] == "1", answer.status_code
        assert not browser.lines
    assert browser.ask("/nowhere").get_data(as_text=True) == "nothing here, alice"


def what_cannot_be_stored_is_refused_by_name():
    app = flask_site.make(ROOM)
    app.testing = True
    browser = Browser(app)
    refused(lambda: browser.ask("/thing?set"), InvalidArgument, "set", "not JSON serializable")
    refused(lambda: browser.ask("/thing"), DataTooLarge)
    app.testing = False
    assert browser.ask("/thing").status_code == 500
    assert browser.keys == {}


def a_wrong_set_up_says_what_to_do():
    app = Flask("other")
    refused(lambda: CloakroomSessions(app), InvalidArgument, "CLOAKROOM_URL")
    refused(lambda: CloakroomSessions(app, "mysql://h/d"), InvalidArgument, "sqlite:///")
    refused(lambda: CloakroomSessions(app, ROOM, on_conflict="last"), InvalidArgument, "last_wins")
    with app.test_request_context("/"):
        refused(lambda: login_user("alice"), RuntimeError, "CloakroomSessions(app, url)")
        refused(room, RuntimeError, "CloakroomSessions(app, url)")
    refused(lambda: login_user("alice"), RuntimeError, "outside of a request")
    refused(lambda: FlaskSessions(APP.session_interface, user="u"), InvalidArgument, "already")


def an_agent_may_come_later():
    app = Flask("other")
    app.config["CLOAKROOM_URL"] = f"cloakroom://{scratch.folder('none')}/app.sock"
    sessions = CloakroomSessions()
    sessions.init_app(app)
    app.add_url_rule("/", view_func=lambda: str(len(flask_site.session)))
    refused(lambda: sessions.room, Unavailable)
    browser = Browser(app, {"__Host-cloakroom": FORGED})
    assert browser.ask("/").status_code == 503


# Cut-over.


@contextlib.contextmanager
def signed_cookies():
    yield None


@contextlib.contextmanager
def flask_session_in_files():
    """Flask-Session with cachelib, which pickles."""
    session, cachelib = brought("flask_session", "cachelib")

    def configure(app):
        app.config.update(SESSION_TYPE="cachelib",
                          SESSION_CACHELIB=cachelib.FileSystemCache(str(scratch.folder("sessions"))))
        session.Session(app)

    yield configure


@contextlib.contextmanager
def flask_session_in_redis():
    """Flask-Session with Redis, in MessagePack."""
    session, redis = brought("flask_session", "redis")
    program = shutil.which("redis-server")
    if program is None:
        tap.skip("no redis-server")
    home = scratch.folder("redis")
    server = subprocess.Popen([program, "--port", "0", "--unixsocket", f"{home}/redis.sock", "--dir", str(home),
                               "--save", "", "--appendonly", "no"], stdout=subprocess.DEVNULL)
    try:
        client = redis.Redis(unix_socket_path=f"{home}/redis.sock")

        def answers():
            try:
                return client.ping()
            except redis.exceptions.ConnectionError:
                return False

        scratch.until(answers, "redis answers")

        def configure(app):
            app.config.update(SESSION_TYPE="redis", SESSION_REDIS=client)
            session.Session(app)

        yield configure
    finally:
        scratch.end(server)


def brought(*names):
    try:
        return [__import__(name) for name in names]
    except ImportError as error:
        tap.skip(f"not in this lane: {error}")


def moves(place):
    """What holds for the sessions of every old place."""
    with place() as configure:
        old = flask_site.make_old(configure)
        interface = old.session_interface if configure is not None else None
        app = flask_site.make(FakeCloakroom(), migrate_from=FlaskSessions(interface, user="user_id"))
        people = [Browser(old) for _ in range(4)]
        for number, browser in enumerate(people):
            browser.ask(f"/put?cart={number}")
        for browser, name in zip(people, ("alice", "alice", "bob"), strict=False):
            browser.ask("/sign_in", {"name": name})
        alice, again, bob, visitor = ({"session": browser.cookies["session"]} for browser in people)
        for number, (cookies, name) in enumerate(((alice, "alice"), (again, "alice"), (bob, "bob"),
                                                  (visitor, None))):
            browser = Browser(app, cookies)
            assert browser.user == name and browser.lines, (number, name)
            assert browser.keys["cart"] == str(number), browser.keys
            assert browser.cookies["session"] == cookies["session"], "the way back"
            assert browser.user == name and not browser.lines
        assert Browser(app, {"session": "x" * 43}).user is None
        page = [Browser(app, bob) for _ in range(3)]
        assert [browser.user for browser in page] == ["bob"] * 3, "requests of one page arrive at once"
        page[0].ask("/sign_out")
        assert page[0].cookies == {}
        assert [browser.user for browser in page] == [None] * 3, "after the log-out"
        assert Browser(app, bob).user is None
        if configure is not None:
            assert Browser(old, bob).user is None, "on the way back"
        unmoved = Browser(old)
        unmoved.ask("/sign_in", {"name": "alice"})
        Browser(app).sign_in("alice")
        for cookies in (alice, again, unmoved.cookies):
            assert Browser(app, cookies).user is None, "a log-in ends the old ones, too"


def nobody_is_logged_out_who_had_a_signed_cookie():
    moves(signed_cookies)
    rich = Browser(flask_site.make_old())
    rich.ask("/rich")
    app = flask_site.make(ROOM, migrate_from=FlaskSessions(user=lambda data: None))
    assert Browser(app, rich.cookies).ask("/rich/look").status_code == 200
    forged = rich.cookies["session"][:-1] + ("A" if rich.cookies["session"][-1] != "A" else "B")
    assert Browser(app, {"session": forged}).keys == {}


def nobody_is_logged_out_who_had_flask_session_in_files():
    moves(flask_session_in_files)


def nobody_is_logged_out_who_had_flask_session_in_redis():
    moves(flask_session_in_redis)


def an_old_place_that_cannot_be_read_is_503():
    class Broken(SessionInterface):
        def open_session(self, app, request):
            raise OSError(f"the disk of {request.cookies['session']} is gone")

    app = flask_site.make(ROOM, migrate_from=FlaskSessions(Broken(), user="user_id"))
    key = "k" * 43
    browser = Browser(app, {"session": key})
    before = len(SAID.lines)
    assert browser.ask("/show").status_code == 503 and browser.cookies == {"session": key}
    assert browser.ask("/plain").status_code == 200
    said = "\n".join(SAID.lines[before:])
    assert "OSError" in said and key not in said, said


# Under gunicorn, with two workers and a real agent.


class Site:
    def __init__(self):
        self.home = scratch.folder("flask")
        self.desk = Desk()
        self.desk.start()
        self.port = scratch.free_port()
        with open(self.home / "gunicorn.log", "wb") as log:
            self.gunicorn = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "-w", "2", "-b", f"127.0.0.1:{self.port}", "--chdir", str(HERE),
                 "--worker-tmp-dir", str(self.home), "--preload", "flask_site:application"],
                env={**os.environ, "SITE_URL": f"cloakroom://{self.desk.state}/app.sock"},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            scratch.until(lambda: self.ask("/plain")[0] == 200, "gunicorn answers")
        except BaseException:
            self.close()
            tap.note(self.said())
            raise

    def said(self):
        return (self.home / "gunicorn.log").read_text()

    def ask(self, path, cookies=None, form=None):
        """(status, header fields, body)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in (cookies or {}).items())}
        body = None
        if form is not None:
            body = urllib.parse.urlencode(form)
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        try:
            connection.request("POST" if body is not None else "GET", path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        except OSError:
            return 0, {}, b""
        finally:
            connection.close()

    def sign_in(self, name="alice"):
        status, headers, _ = self.ask("/sign_in", form={"name": name})
        assert status == 200, status
        return {NAME: token_in(headers)}

    def users(self, cookies):
        """Who every worker says this is."""
        said = {}

        def ask(_):
            status, _, body = self.ask("/show", cookies)
            answer = json.loads(body) if status == 200 else {"pid": None, "user": status}
            said.setdefault(answer["pid"], set()).add(answer["user"])

        with concurrent.futures.ThreadPoolExecutor(4) as turns:
            scratch.until(lambda: list(turns.map(ask, range(4))) and len(said) >= 2, "both workers answer")
        users = set().union(*said.values())
        assert len(users) == 1, said
        return users.pop()

    def close(self):
        scratch.end(self.gunicorn)
        self.desk.stop()


def token_in(headers):
    found = re.search(f"(?:^|, ){NAME}=([^;]+)", ", ".join(headers.get_all("Set-Cookie", [])))
    return found and found[1]


SITE = None


def site():
    global SITE
    if SITE is None:
        SITE = Site()
    return SITE


def what_one_worker_ended_no_worker_accepts():
    here = site()
    first, second = here.sign_in(), here.sign_in()
    assert here.users(first) == here.users(second) == "alice"
    third = here.sign_in()
    assert here.users(first) is None and here.users(second) == here.users(third) == "alice"
    assert here.ask("/sign_out", third)[0] == 200
    assert here.users(third) is None and here.users(second) == "alice"


def the_requests_of_one_page_move_their_old_session_at_once():
    here = site()
    before = Browser(flask_site.make_old())
    before.ask("/sign_in", {"name": "bob"})
    old = before.cookies
    with concurrent.futures.ThreadPoolExecutor(6) as turns:
        answers = list(turns.map(lambda _: here.ask("/show", old), range(6)))
    assert [(status, json.loads(body)["user"]) for status, _, body in answers] == [(200, "bob")] * 6, answers
    tokens = [token_in(headers) for _, headers, _ in answers]
    assert here.users({NAME: tokens[0]}) == here.users({NAME: tokens[5]}) == "bob"
    assert here.ask("/sign_out", {NAME: tokens[3], **old})[0] == 200
    assert here.users(old) is None and here.users({NAME: tokens[0]}) is None


def an_agent_that_is_gone_is_503_and_nobody_is_logged_out():
    here = site()
    alice = here.sign_in()
    here.desk.stop(signal.SIGKILL)
    scratch.until(lambda: here.ask("/show", alice)[0] == 503, "503 without an agent")
    status, headers, _ = here.ask("/show", alice)
    assert status == 503 and int(headers["Retry-After"]) >= 1 and not headers["Set-Cookie"]
    assert here.ask("/plain", alice)[0] == 200
    here.desk.start()
    scratch.until(lambda: here.ask("/show", alice)[0] == 200, "200 with the next agent")
    assert here.users(alice) == "alice"


# The page.

PAGE = HERE.parent.parent / "doc" / "python-flask.md"


def the_code_of_the_page_works():
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert [kind for kind, _ in blocks] == ["python"] * 5, blocks
    ten_lines, more, cut_over, cut_over_of_flask_session, tests = (text for _, text in blocks)
    home = scratch.folder("page")
    with Desk(f"sqlite://{home}/sessions.db") as desk:
        # As the page has it, but for where the files are; and root's agents are started beforehand.
        at = f'Cloakroom.open("sqlite://{home}/sessions.db", state="{desk.state}")'
        names = {}

        def run(text):
            text, count = re.subn('"sqlite:////var/lib/app/sessions.db"', at, text)
            exec(compile("from cloakroom import Cloakroom\n" + text, "page", "exec"), names)  # noqa: S102
            return count

        def begin():
            names.clear()
            names.update(__name__="page", password_is_right=lambda name, word: word == "correct horse",
                         set_password=lambda name, word: None)
            assert run(ten_lines) == 1
            return names["app"]

        app = begin()
        assert run(more) == 0
        alice, other = Browser(app), Browser(app)
        assert alice.ask("/login", {"name": "alice", "password": "no"}).status_code == 403
        alice.ask("/login", {"name": "alice", "password": "correct horse"})
        assert alice.ask("/me").get_data() == b"alice, for the 1. time"
        assert [row["here"] for row in alice.ask("/devices").get_json()] == [True]
        assert alice.ask("/password", {"password": "new"}).status_code == 200
        other.ask("/login", {"name": "alice", "password": "correct horse"})
        assert alice.ask("/me").status_code == 401
        other.ask("/logout", {})
        assert other.ask("/me").status_code == 401
        olds = [(cut_over, None)]
        with contextlib.suppress(ImportError):
            import cachelib
            import flask_session

            olds.append((cut_over_of_flask_session, cachelib.FileSystemCache(str(home / "files"))))
        for text, files in olds:
            old = Flask("page")
            old.secret_key = "as it was"
            app = begin()
            if files is not None:
                for one in (app, old):
                    one.config.update(SESSION_TYPE="cachelib", SESSION_CACHELIB=files)
                flask_session.Session(old)
            old.add_url_rule("/", view_func=lambda: flask_site.session.update(user_id="alice") or "in")
            before = Browser(old)
            before.ask("/")
            assert run(text) == 1
            now = Browser(app, before.cookies)
            assert now.ask("/me").get_data() == b"alice, for the 1. time"
        begin()
        run(tests)


def no_token_was_logged():
    assert SAID.lines
    for line in [*SAID.lines, *SITE.said().splitlines()]:
        assert "crs1_" not in line, line


def flask_s_test_client_opens_the_session():
    client = APP.test_client()
    with client.session_transaction() as session:
        session["a"] = 1
    assert client.get("/show").get_json()["keys"] == {"a": 1}


try:
    tap.main([
        nothing_is_stored_for_who_puts_nothing_in,
        what_is_put_in_is_there_again_and_deep_changes_too,
        the_cookie_is_the_host_s_own_over_https,
        no_cache_keeps_a_token_for_others,
        permanent_decides_how_long_the_cookie_stays,
        an_unknown_key_is_never_adopted,
        a_save_never_brings_back_a_session_that_ended,
        two_requests_that_change_different_keys_lose_neither,
        two_requests_that_change_one_key_are_told,
        a_session_ends_to_the_millisecond,
        a_log_in_has_ended_the_earlier_sessions_when_it_returns,
        the_policy_may_keep_some,
        a_log_in_that_fails_leaves_nobody_logged_in,
        a_session_where_a_user_is_meant_is_refused,
        log_out_ends_it_and_takes_the_cookie_away,
        emptying_a_session_is_no_log_out,
        a_cycled_token_is_the_only_one,
        guards_of_views_answer_401_and_403,
        who_cannot_be_looked_up_gets_503_and_is_not_logged_out,
        a_page_for_errors_that_looks_at_the_session_is_503_too,
        what_cannot_be_stored_is_refused_by_name,
        a_wrong_set_up_says_what_to_do,
        an_agent_may_come_later,
        nobody_is_logged_out_who_had_a_signed_cookie,
        nobody_is_logged_out_who_had_flask_session_in_files,
        nobody_is_logged_out_who_had_flask_session_in_redis,
        an_old_place_that_cannot_be_read_is_503,
        what_one_worker_ended_no_worker_accepts,
        the_requests_of_one_page_move_their_old_session_at_once,
        an_agent_that_is_gone_is_503_and_nobody_is_logged_out,
        the_code_of_the_page_works,
        flask_s_test_client_opens_the_session,
        no_token_was_logged,
    ])
finally:
    if SITE is not None:
        SITE.close()
