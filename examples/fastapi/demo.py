# SPDX-License-Identifier: Apache-2.0
"""The same shop three times, each under uvicorn with several workers: who is logged out without reason,
and who is let in after the log-out?

Every request is real HTTP over a connection of its own, so that it reaches whichever worker the kernel
picks. A user logs in, looks around, fills a cart, and then logs out, or logs in elsewhere because a
device was stolen. After that has been answered, whoever kept the old cookie tries it again.

Exit status 0 when Cloakroom made no mistake and the others made theirs.
"""

import argparse
import asyncio
import dataclasses
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager

HERE = pathlib.Path(__file__).resolve().parent
WORKERS = 4
USERS = 300
AT_ONCE = 24
LOOKS = 12  # of each user while logged in
TRIES = 8  # of each old cookie
BEGIN, END = "<!-- the demonstration: written by ./dev demo --write README.md -->", "<!-- end of it -->"

TITLES = {"memory": "starsessions' InMemoryStore",
          "ttl": "a table, cached for a minute",
          "cloakroom": "Cloakroom"}


@dataclasses.dataclass
class Counts:
    name: str
    users: int
    sent: int = 0
    workers: int = 0
    refused: int = 0  # though logged in
    asked_logged_in: int = 0
    accepted: int = 0  # after the log-out was answered
    asked_logged_out: int = 0
    accepted_elsewhere: int = 0  # after the log-in elsewhere was answered
    asked_elsewhere: int = 0  # 0: it cannot end a user's other sessions
    unanswered: int = 0  # 503, or no answer at all
    seconds: float = 0.0

    @property
    def mistakes(self) -> int:
        return self.refused + self.accepted + self.accepted_elsewhere


@dataclasses.dataclass
class Answer:
    status: int  # 0: none came
    cookie: str
    body: bytes


async def ask(port: int, method: str, path: str, cookie: str = "", body: object = None) -> Answer:
    """One request over one connection."""
    content = b"" if body is None else json.dumps(body).encode()
    head = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Connection: close",
            f"Content-Length: {len(content)}", "User-Agent: demo"]
    if body is not None:
        head.append("Content-Type: application/json")
    if cookie:
        head.append(f"Cookie: {cookie}")
    raw = b""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write("\r\n".join([*head, "", ""]).encode() + content)
            raw = await reader.read()
        finally:
            writer.close()
    except OSError:
        pass
    top, _, rest = raw.partition(b"\r\n\r\n")
    status = re.match(rb"HTTP/1\.1 (\d{3})", top)
    # A head without all of its body is no answer.
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", top)
    if status is None or (length is not None and int(length[1]) != len(rest)):
        return Answer(0, "", b"")
    given = re.search(rb"(?i)\r\nset-cookie: ([^;\r]+)", top)
    return Answer(int(status[1]), given[1].decode() if given else "", rest)


class User:
    """What one user does, and what is counted of it."""

    def __init__(self, port: int, counts: Counts, number: int) -> None:
        self.port, self.counts, self.number = port, counts, number
        self.name = f"user{number}"

    async def ask(self, method: str, path: str, cookie: str = "", body: object = None) -> Answer:
        answer = await ask(self.port, method, path, cookie, body)
        self.counts.sent += 1
        if answer.status in (0, 503):
            self.counts.unanswered += 1
        elif answer.status not in (200, 204, 401):
            raise RuntimeError(f"{method} {path}: {answer.status} {answer.body.decode()}")
        return answer

    async def log_in(self) -> tuple[str, bool]:
        answer = await self.ask("POST", "/login", body={"user": self.name, "password": "open sesame"})
        if answer.status != 200:
            return "", False
        return answer.cookie, json.loads(answer.body)["others_ended"]

    async def look(self, cookie: str, times: int) -> None:
        for turn in range(times):
            method, path = (("POST", f"/cart/thing{turn}"), ("GET", "/profile"), ("GET", "/cart"))[turn % 3]
            answer = await self.ask(method, path, cookie)
            self.counts.asked_logged_in += 1
            self.counts.refused += answer.status == 401

    async def try_again(self, cookie: str) -> int:
        """How often the old cookie was let in."""
        return sum([(await self.ask("GET", "/profile", cookie)).status == 200 for _ in range(TRIES)])

    async def live(self) -> None:
        cookie, others_ended = await self.log_in()
        if not cookie:
            return
        await self.look(cookie, LOOKS)
        if self.number % 2 and others_ended:
            elsewhere, _ = await self.log_in()
            if elsewhere:
                let_in = await self.try_again(cookie)
                self.counts.asked_elsewhere += TRIES
                self.counts.accepted_elsewhere += let_in
                await self.look(elsewhere, 3)
                cookie = elsewhere
        if (await self.ask("POST", "/logout", cookie)).status == 204:
            let_in = await self.try_again(cookie)
            self.counts.asked_logged_out += TRIES
            self.counts.accepted += let_in


# ---- the servers


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def end(child: "subprocess.Popen[bytes]") -> None:
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
    try:
        child.wait(20)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


async def until(ready: Callable[[], Awaitable[bool]], child: "subprocess.Popen[bytes]", log: pathlib.Path) -> None:
    end_at = time.monotonic() + 60
    while not await ready():
        if child.poll() is not None or time.monotonic() > end_at:
            raise RuntimeError(f"{child.args!r} does not come up:\n{log.read_text(errors='replace')}")
        await asyncio.sleep(0.02)


@contextmanager
def running(command: list[str], log: pathlib.Path, env: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    with open(log, "ab") as output:
        child = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield child
    finally:
        end(child)


class Shop:
    """The shop with one of the three, in a folder of its own."""

    def __init__(self, name: str, folder: pathlib.Path, stack: ExitStack) -> None:
        self.name, self.folder, self.stack = name, folder, stack
        self.log = folder / "log"
        self.port = free_port()
        self.env = {**os.environ, "SHOP_SESSIONS": name, "SHOP_DATABASE": str(folder / "shop.db"),
                    "SHOP_STORE": f"cloakroom://{folder}/agent/app.sock"}
        self.env.pop("WEB_CONCURRENCY", None)

    async def start(self, workers: int) -> None:
        if self.name == "cloakroom":
            await self.start_agent()
        command = [sys.executable, "-m", "uvicorn", "--app-dir", str(HERE), "shop:app", "--host", "127.0.0.1",
                   "--port", str(self.port), "--workers", str(workers), "--log-level", "warning"]
        self.server = self.stack.enter_context(running(command, self.log, self.env))
        self.seen: set[int] = set()

        async def all_answer() -> bool:
            answers = await asyncio.gather(*(ask(self.port, "GET", "/worker") for _ in range(4 * workers)))
            self.seen |= {int(answer.body) for answer in answers if answer.status == 200}
            return len(self.seen) >= workers

        await until(all_answer, self.server, self.log)

    async def start_agent(self) -> None:
        """As a service would; who is not root may leave that to the library."""
        import cloakroom

        program = pathlib.Path(cloakroom.__file__).parent / "bin" / "cloakroom"  # the package carries it
        self.agent = self.stack.enter_context(running(
            [str(program), "agent", "--store", f"sqlite://{self.folder}/cloakroom.db", "--state",
             str(self.folder / "agent")], self.log, self.env))

        async def is_there() -> bool:
            return (self.folder / "agent" / "app.sock").exists()

        await until(is_there, self.agent, self.log)


async def demonstrate(name: str, users: int, workers: int, say: Callable[[str, int], None]) -> Counts:
    folder = pathlib.Path(tempfile.mkdtemp(prefix="cloakroom-demo-"))
    counts, begun = Counts(name, users), iter(range(users))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        shop = Shop(name, folder, stack)
        say(name, -1)
        await shop.start(workers)
        started, done = time.monotonic(), 0

        async def some() -> None:
            nonlocal done
            for number in begun:
                await User(shop.port, counts, number).live()
                done += 1
                say(name, done)

        await asyncio.gather(*(some() for _ in range(min(AT_ONCE, users))))
        counts.seconds = round(time.monotonic() - started, 2)
        counts.workers = len(shop.seen)
    return counts


# ---- what is shown


class Progress:
    """One line that grows, on a terminal; else nothing."""

    def __init__(self, users: int) -> None:
        self.users, self.on = users, sys.stderr.isatty()

    def __call__(self, name: str, done: int) -> None:
        if self.on and (done <= 0 or done % 5 == 0 or done == self.users):
            full = 24 * max(done, 0) // self.users
            text = "starting" if done < 0 else f"{done} of {self.users} users"
            print(f"\r\033[K  {'━' * full}{'╌' * (24 - full)}  {TITLES[name]}: {text}", end="", file=sys.stderr,
                  flush=True)

    def clear(self) -> None:
        if self.on:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


HEAD = ("sessions are kept by", "requests", "logged out without reason", "let in after log-out",
        "let in after log-in elsewhere")


def cells(counts: Counts) -> list[tuple[str, bool]]:
    """(text, whether it is bad) of each column after the first."""
    elsewhere = (f"{counts.accepted_elsewhere:,} of {counts.asked_elsewhere:,}" if counts.asked_elsewhere
                 else "cannot be done")
    return [(f"{counts.sent:,}", False),
            (f"{counts.refused:,} of {counts.asked_logged_in:,}", counts.refused > 0),
            (f"{counts.accepted:,} of {counts.asked_logged_out:,}", counts.accepted > 0),
            (elsewhere, counts.accepted_elsewhere > 0 or not counts.asked_elsewhere)]


def title(users: int, workers: int) -> str:
    return f"uvicorn with {workers} workers, {users} users, every request over a new connection"


def drawn(rows: list[Counts], workers: int, colored: bool) -> str:
    names = [TITLES[counts.name] for counts in rows]
    # Heads of two lines keep it narrow.
    heads = [("", HEAD[0]), ("", HEAD[1]), ("logged out", "without reason"), ("let in after", "log-out"),
             ("let in after", "log-in elsewhere")]
    table = [cells(counts) for counts in rows]
    widths = [max(map(len, [*names, HEAD[0]]))]
    for column in range(4):
        widths.append(max(max(len(row[column][0]) for row in table) + (2 if column else 0), *map(len, heads[column + 1])))

    def paint(text: str, code: str) -> str:
        return f"\033[{code}m{text}\033[0m" if colored else text

    def border(left: str, middle: str, right: str) -> str:
        return paint(f"  {left}" + middle.join("─" * (width + 2) for width in widths) + right, "2")

    bar = paint("│", "2")
    lines = [f"\n  {paint(title(rows[0].users, workers), '1')}\n", border("╭", "┬", "╮")]
    for part in (0, 1):
        lines.append(f"  {bar} " + f" {bar} ".join(
            paint(f"{head[part]:<{width}}" if not column else f"{head[part]:>{width}}", "1")
            for column, (head, width) in enumerate(zip(heads, widths))) + f" {bar}")
    lines.append(border("├", "┼", "┤"))
    for name, row in zip(names, table):
        line = [f"{name:<{widths[0]}}", f"{row[0][0]:>{widths[1]}}"]
        for (text, bad), width in zip(row[1:], widths[2:]):
            line.append(paint(f"{text + (' ✗' if bad else ' ✓'):>{width}}", "31;1" if bad else "32;1"))
        lines.append(f"  {bar} " + f" {bar} ".join(line) + f" {bar}")
    lines.append(border("╰", "┴", "╯"))
    return "\n".join(lines)


def markdown(rows: list[Counts], workers: int) -> str:
    lines = [f"{title(rows[0].users, workers)}:\n", "| " + " | ".join(HEAD) + " |",
             "| --- | ---: | ---: | ---: | ---: |"]
    for counts in rows:
        texts = [f"**{text}**" if bad and "of" in text else text for text, bad in cells(counts)]
        lines.append(f"| {TITLES[counts.name]} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def write(page: pathlib.Path, text: str) -> None:
    old = page.read_text(encoding="utf-8")
    before, after = old[:old.index(BEGIN)], old[old.index(END):]
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{after}", encoding="utf-8")


def as_expected(rows: list[Counts]) -> list[str]:
    """What is not as it should be."""
    wrong = []
    for counts in rows:
        if counts.name == "cloakroom" and counts.mistakes:
            wrong.append(f"Cloakroom made {counts.mistakes} mistakes")
        if counts.name == "memory" and not (counts.refused and counts.accepted):
            wrong.append("a dictionary in each worker did not show both faults")
        if counts.name == "ttl" and (counts.refused or not counts.accepted):
            wrong.append("a cache with a time-to-live did not show its fault")
        if counts.unanswered:
            wrong.append(f"{TITLES[counts.name]}: {counts.unanswered} requests had no answer")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev demo", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=USERS, metavar="N", help=f"how many users ({USERS})")
    parser.add_argument("--workers", type=int, default=WORKERS, metavar="N", help=f"how many workers ({WORKERS})")
    parser.add_argument("--only", choices=TITLES, action="append", help="only this one")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--write", type=pathlib.Path, metavar="PAGE", help="put the table into a page, between its marks")
    arguments = parser.parse_args()
    if arguments.users < 2 or arguments.workers < 2:
        parser.error("two users and two workers are the least that shows anything")

    progress = Progress(arguments.users)
    rows = []
    try:
        for name in arguments.only or TITLES:
            rows.append(asyncio.run(demonstrate(name, arguments.users, arguments.workers, progress)))
    except KeyboardInterrupt:
        return 130
    finally:
        progress.clear()
    wrong = as_expected(rows)
    if arguments.json:
        print(json.dumps({"workers": arguments.workers, "rows": [dataclasses.asdict(counts) for counts in rows],
                          "wrong": wrong}, indent=2))
    else:
        print(drawn(rows, arguments.workers, sys.stdout.isatty() and "NO_COLOR" not in os.environ))
        for text in wrong:
            print(f"  {text}")
        if any(counts.name == "cloakroom" for counts in rows) and not wrong:
            ours = next(counts for counts in rows if counts.name == "cloakroom")
            print(f"\n  Cloakroom: {ours.sent:,} requests, no mistake.\n")
    if arguments.write:
        write(arguments.write, markdown(rows, arguments.workers))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
