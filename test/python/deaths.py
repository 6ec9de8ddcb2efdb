# SPDX-License-Identifier: Apache-2.0
"""Workers and agent are killed, and servers restarted, while they are asked: no request has a wrong answer.

503, or none at all, says nothing about a session and is right while somebody is dead. That a living
session is not logged in, or an ended one is, is wrong at any time.
"""

import asyncio
import contextlib
import importlib.util
import os
import pathlib
import signal
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "test"), str(ROOT / "test" / "proc"), str(ROOT / "test" / "python"),
                str(ROOT / "examples" / "fastapi")]
sys.dont_write_bytecode = True
import blocks
import demo
import scratch
import tap

WORKERS = 3
CLIENTS = 6
ENOUGH = 400 if os.environ.get("CR_LONG") else 80  # answers that say something, to believe that all is well again
PASSWORD = "open sesame"

# uvicorn's worker for gunicorn is a package of its own by now.
ASGI_WORKER = ("uvicorn_worker.UvicornWorker" if importlib.util.find_spec("uvicorn_worker")
               else "uvicorn.workers.UvicornWorker")
UVICORN = ["-m", "uvicorn", "--app-dir", str(ROOT / "examples" / "fastapi"), "shop:app", "--log-level", "warning",
           "--workers", str(WORKERS)]
GUNICORN = ["-m", "gunicorn", "--workers", str(WORKERS), "--timeout", "120", "--log-level", "warning"]
ASGI = [*GUNICORN, "--worker-class", ASGI_WORKER, "--chdir", str(ROOT / "examples" / "fastapi"), "shop:app"]
CONFIG_NAME = "gunicorn.conf.py"  # of doc/deploying.md
WSGI = [*GUNICORN, "--worker-class", "sync", "--preload", "--chdir", str(ROOT / "test" / "python"), "wsgi_shop:app"]


class World:
    """An agent, a server with workers, and those who ask it all the time."""

    def __init__(self, stack, server):
        self.stack, self.folder = stack, scratch.folder("deaths")
        self.port = scratch.free_port()
        self.log = self.folder / "log"
        self.env = {**os.environ, "SHOP_SESSIONS": "cloakroom", "PYTHONDONTWRITEBYTECODE": "1",
                    "SHOP_STORE": f"cloakroom://{self.folder}/agent/app.sock"}
        self.env.pop("WEB_CONCURRENCY", None)
        self.start_agent()
        if server is UVICORN:
            place = ["--host", "127.0.0.1", "--port", str(self.port)]
        else:
            config = self.folder / CONFIG_NAME
            config.write_text(blocks.one("doc/deploying.md", "python"))
            # Options outweigh it.
            place = ["--config", str(config), "--bind", f"127.0.0.1:{self.port}"]
        self.server = stack.enter_context(demo.running([sys.executable, *server, *place], self.log, self.env))
        self.living, self.ended = [], []
        self.right = self.later = 0
        self.wrong = []
        self.over = False

    def start_agent(self):
        self.agent = self.stack.enter_context(demo.running(
            [str(scratch.PROGRAM), "agent", "--store", f"sqlite://{self.folder}/cloakroom.db", "--state",
             str(self.folder / "agent")], self.log, self.env))

    def said(self):
        return self.log.read_text(errors="replace")[-4000:]

    async def until(self, ready, what, seconds=60):
        end_at = time.monotonic() + seconds
        while not await ready():
            assert time.monotonic() < end_at, f"{what}: not within {seconds} s; {self.wrong[:3]}\n{self.said()}"
            await asyncio.sleep(0.02)

    async def workers(self, least=WORKERS, but=()):
        """The pids of `least` workers, none of them in `but`."""
        seen = set()

        async def all_answer():
            answers = await asyncio.gather(*(demo.ask(self.port, "GET", "/worker") for _ in range(3 * least)))
            seen.update(int(answer.body) for answer in answers if answer.status == 200)
            return len(seen - set(but)) >= least

        await self.until(all_answer, f"{least} workers serve")
        return seen - set(but)

    # Those who ask.

    async def log_in(self, user):
        answer = await demo.ask(self.port, "POST", "/login", body={"user": user, "password": PASSWORD})
        return answer.cookie if answer.status == 200 else None

    def judge(self, what, status, wanted):
        if status == wanted:
            self.right += 1
        elif status in (0, 503):
            self.later += 1
        else:
            self.wrong.append(f"{what} had the answer {status}")

    async def ask_about(self, number):
        """One of those who are logged in, and one who is not any more, again and again."""
        while not self.over:
            for what, cookies, wanted in (("a living session", self.living, 200), ("an ended one", self.ended, 401)):
                cookie = cookies[(number + self.right) % len(cookies)]
                self.judge(what, (await demo.ask(self.port, "GET", "/profile", cookie)).status, wanted)

    async def come_and_go(self, number):
        """Log in and out; what was answered is held to."""
        turn = 0
        while not self.over:
            turn += 1
            user = f"guest{number}x{turn}"
            cookie = await self.log_in(user)
            if cookie is None:
                self.later += 1
                continue
            self.judge("a new session", (await demo.ask(self.port, "GET", "/profile", cookie)).status, 200)
            if (await demo.ask(self.port, "POST", "/logout", cookie)).status == 204:
                self.judge("one that was just ended", (await demo.ask(self.port, "GET", "/profile", cookie)).status,
                           401)
                self.ended.append(cookie)

    async def all_well(self):
        """Enough right answers from now on, and somebody came and went."""
        right, ended = self.right, len(self.ended)

        async def enough():
            assert not self.wrong, self.wrong[:5]
            return self.right - right >= ENOUGH and len(self.ended) > ended

        await self.until(enough, f"{ENOUGH} right answers")

    async def under_load(self, *events):
        pids = await self.workers()
        for number in range(4):
            self.living.append(await self.log_in(f"staying{number}"))
            ended = await self.log_in(f"leaving{number}")
            assert (await demo.ask(self.port, "POST", "/logout", ended)).status == 204
            self.ended.append(ended)
        load = [asyncio.ensure_future(some(number)) for number in range(CLIENTS)
                for some in ([self.ask_about, self.come_and_go] if number < 2 else [self.ask_about])]
        try:
            await self.all_well()
            for event in events:
                pids = await event(self, pids)
                await self.all_well()
        finally:
            self.over = True
            await asyncio.gather(*load)
        assert not self.wrong, f"{len(self.wrong)} wrong answers: {self.wrong[:5]}"
        tap.note(f"{self.right} right answers, {self.later} later, {len(self.ended)} ended")


# ---- what happens meanwhile; each answers who the workers are then


async def a_worker_is_killed(world, pids):
    victim = min(pids)
    os.kill(victim, signal.SIGKILL)
    return await world.workers(but=[victim])


async def a_worker_is_killed_for_good(world, pids):
    victim = min(pids)
    os.kill(victim, signal.SIGKILL)
    return await world.workers(least=WORKERS - 1, but=[victim])


async def the_agent_is_killed(world, pids):
    later = world.later
    world.agent.kill()
    world.agent.wait()

    async def is_missed():
        return world.later > later

    await world.until(is_missed, "somebody is told to come later")
    world.start_agent()  # as its service would
    return pids


async def the_server_restarts_its_workers(world, pids):
    world.server.send_signal(signal.SIGHUP)
    return await world.workers(but=pids)


def run(server, *events):
    async def story(world):
        await world.under_load(*events)

    with contextlib.ExitStack() as stack:
        asyncio.run(story(World(stack, server)))


# ---- the stories


def under_gunicorn_with_asgi_workers():
    run(ASGI, a_worker_is_killed, the_agent_is_killed, the_server_restarts_its_workers)


def under_gunicorn_whose_application_was_loaded_before_the_fork():
    run(WSGI, a_worker_is_killed, the_agent_is_killed, the_server_restarts_its_workers)


def under_uvicorn():
    import uvicorn
    if tuple(map(int, uvicorn.__version__.split(".")[:2])) < (0, 30):
        # It does not look after its workers: the others go on, and nobody replaces the one that died.
        return run(UVICORN, a_worker_is_killed_for_good, the_agent_is_killed)
    # It gives a restart up where a new worker is not ready within 5 seconds: not on a busy machine.
    UVICORN.extend(["--timeout-worker-healthcheck", "60"])
    return run(UVICORN, a_worker_is_killed, the_agent_is_killed, the_server_restarts_its_workers)
