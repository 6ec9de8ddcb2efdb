# SPDX-License-Identifier: Apache-2.0
"""An application that must stay alone (direct mode, its table in its own process), started by servers in
many ways, and asked from the moment they start until they have ended."""

import concurrent.futures
import contextlib
import http.client
import importlib.util
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time

import scratch
import tap

APP = '''
import asyncio
import os
import pathlib
import time
import cloakroom
from cloakroom import Cloakroom

room = None


def open_room():
    global room
    pathlib.Path(f"opens-{os.getpid()}").touch()
    room = Cloakroom.open(os.environ["URL"], mode="direct", cache="memory")


if os.environ["WHERE"] == "import":
    open_room()
if os.environ["WHERE"] == "caught":
    try:
        open_room()
    except cloakroom.Refused:
        pass


if os.environ["WHERE"] == "cache":
    from cloakroom.cache import open_cache
    cache = open_cache("memory")


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        try:
            if os.environ["WHERE"] == "lifespan":
                open_room()
        except BaseException as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            raise
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if room is not None:
            room.close()
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/slow":
        pathlib.Path(f"busy-{os.getpid()}").touch()
        while not pathlib.Path("go").exists():
            await asyncio.sleep(0.01)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": answer()})


def wsgi(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        pathlib.Path(f"busy-{os.getpid()}").touch()
        while not pathlib.Path("go").exists():
            time.sleep(0.01)
    start_response("200 OK", [])
    return [answer()]


def answer():
    if room is None:  # caught, or a cache
        return b"%d" % os.getpid()
    login = room.login("alice", policy="keep")
    assert room.validate(login.signed_token).user == "alice"
    return b"%d" % os.getpid()
'''
SCRIPT = '''
import sys
import uvicorn

if __name__ == "__main__":
    uvicorn.run("app:app", port=int(sys.argv[1]), workers=int(sys.argv[2]))
'''
# With Starlette's own life, as FastAPI has it.
STARLETTE = '''
import contextlib
import app as plain
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route


@contextlib.asynccontextmanager
async def life(app):
    plain.open_room()
    yield


async def home(request):
    return PlainTextResponse(plain.answer())


app = Starlette(routes=[Route("/", home)], lifespan=life)
'''


def worker_class():
    """gunicorn's, of uvicorn: a package of its own by now."""
    if importlib.util.find_spec("uvicorn_worker"):
        return "uvicorn_worker.UvicornWorker"
    return "uvicorn.workers.UvicornWorker"


def uvicorn(*options, app="app:app"):
    return lambda port: ["-m", "uvicorn", app, "--port", str(port), *options]


def script(workers):
    return lambda port: ["script.py", str(port), str(workers)]


def gunicorn(*options, app="app:wsgi"):
    return lambda port: ["-m", "gunicorn", "--bind", f"127.0.0.1:{port}", *options, app]


def gunicorn_uvicorn(*options, app="app:app"):
    return gunicorn("--worker-class", worker_class(), *options, app=app)


class Server:
    """Running until it ends, or is ended."""

    def __init__(self, command, url, where, **environment):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="alone-"))
        for name, text in (("app.py", APP), ("script.py", SCRIPT), ("star.py", STARLETTE),
                           ("conf4.py", "workers = 4\n"), ("conf1.py", "workers = 1\n")):
            (self.folder / name).write_text(text, encoding="utf-8")
        self.port = scratch.free_port()
        self.log = self.folder / "log"
        url = f"sqlite://{self.folder}/store.db" if url == "sqlite" else url
        clean = {name: value for name, value in os.environ.items() if name != "WEB_CONCURRENCY"}
        path = os.pathsep.join(filter(None, [str(self.folder), clean.get("PYTHONPATH")]))
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *command(self.port)], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True,
                env={**clean, "URL": url, "WHERE": where, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1",
                     "XDG_RUNTIME_DIR": str(self.folder), **environment})

    def ask(self, path="/", timeout=5):
        """The pid of the worker that answered; None where nobody did."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request("GET", path)
            reply = connection.getresponse()
            body = reply.read()
            return int(body) if reply.status == 200 else f"{reply.status} {body}"
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def said(self):
        return self.log.read_text(encoding="utf-8", errors="replace")

    def is_up(self):
        assert self.process.poll() is None, f"it ended: {self.process.returncode}\n{self.said()}"
        return self.ask()

    def close(self):
        if self.process.poll() is None:
            scratch.end(self.process)
        # What a server that was killed leaves behind.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def refused(command, url, where, **environment):
    """The server serves nobody, says why, and ends. Its exit status."""
    with Server(command, url, where, **environment) as server:
        answers, end = [], time.monotonic() + 60
        while server.process.poll() is None and time.monotonic() < end:
            answers.append(server.ask())
            time.sleep(0.01)
        status, said = server.process.poll(), server.said()
        assert status is not None, f"it is still there:\n{said}"
        assert answers and set(answers) == {None}, f"it answered: {set(answers)}\n{said}"
        assert "CR-101 refused" in said, f"it does not say why:\n{said}"
        cache = ('open_cache("shared")', "(60 s)", "InMemorySessionCache()")
        for word in ("Fix: (1) keep the processes", *(cache if where == "cache" else ('mode="auto"', "workers=1"))):
            assert word in said, f"no {word!r}:\n{said}"
        assert "CR_MODE" not in said and "cr_options" not in said, f"that is C:\n{said}"
        return status


def serves(command, url, where, **environment):
    with Server(command, url, where, **environment) as server:
        worker = scratch.until(server.is_up, "it serves", 60)
        assert {server.ask() for _ in range(5)} == {worker}, "one worker"
        scratch.end(server.process)
        assert "CR-101" not in server.said(), server.said()


def is_replaced(command, url, where, signal_number=signal.SIGHUP):
    """Each next worker begins when the one before it has ended, and nobody is refused."""
    with Server(command, url, where) as server:
        worker, seen = scratch.until(server.is_up, "it serves", 60), set()
        for _ in range(2):
            seen.add(worker)
            if signal_number is not None:
                replace_while_busy(server, worker, signal_number)
            worker = scratch.until(lambda: (now := server.is_up()) not in seen and now, "the next one serves", 60)
            assert isinstance(worker, int), worker
        scratch.end(server.process)
        said = server.said()
        assert "CR-101" not in said and "Worker failed to boot" not in said, said


def replace_while_busy(server, worker, signal_number):
    """The one before it has a request to finish, while the next one opens the room."""
    go, before = server.folder / "go", set(server.folder.glob("opens-*"))
    go.unlink(missing_ok=True)
    with concurrent.futures.ThreadPoolExecutor(1) as client:
        slow = client.submit(server.ask, "/slow", 60)
        try:
            scratch.until((server.folder / f"busy-{worker}").exists, "it is busy")
            server.process.send_signal(signal_number)
            scratch.until(lambda: set(server.folder.glob("opens-*")) - before, "the next one opens it", 60)
            time.sleep(0.3)  # in which it would have been refused
            assert server.process.poll() is None and not slow.done(), server.said()
        finally:
            go.touch()
        assert slow.result() == worker, "what was asked before is answered"


def all_at_once(cases, ask):
    """What `ask` says for each, three at a time: they wait more than they work."""
    failures, done, guard = [], {}, threading.Semaphore(3)

    def one(name, words, more):
        with guard:
            try:
                done[name] = ask(*words, **more)
            except Exception as error:
                failures.append(name)
                tap.note(f"{name}: {error}")

    threads = [threading.Thread(target=one, args=(name, words, more)) for name, words, more in cases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    return done


def case(name, *words, **more):
    return name, words, more


def check_statuses(statuses):
    """gunicorn's is not 0. uvicorn's supervisor says 0, whatever became of its workers."""
    for name, status in statuses.items():
        if "gunicorn" in name:
            assert status > 0, f"{name}: {status}"
        else:
            assert status == 0, f"{name}: {status}. If it is not 0 any more, doc/deploying.md may say so"
