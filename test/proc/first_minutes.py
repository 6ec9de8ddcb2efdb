# SPDX-License-Identifier: Apache-2.0
"""Does what README's "First five minutes" tells a person to do, step by step: each numbered line is
one step, is carried out as it is written, and one that nobody here knows how to do is an error. Only
the address is another one, and a clone is one of this tree."""

import os
import pty
import re
import shlex
import shutil
import subprocess
import threading

import browser
import scratch

STEPS_MAX = 6
PASSWORD = "a password of one's own"
SAID = re.compile(r"address +(\S+)\n +user +(\S+)\n +password +(\S+)\n")


def steps(readme):
    """The numbered lines, each with what is indented below it."""
    section = re.search(r"^## First five minutes\n(.*?)^## ", readme, re.M | re.S)
    assert section, "README has no such section"
    found = re.split(r"^(\d+)\. ", section.group(1), flags=re.M)[1:]
    assert found[::2] == [str(number + 1) for number in range(len(found) // 2)], found[::2]
    # A number with two things to do would be two steps.
    return [re.split(r"\n\n|\n(?=\S)", text)[0] for text in found[1::2]]


class Reader:
    """A person with a terminal and two browsers. `build`: that of this tree, or None to build."""

    def __init__(self, build=None):
        self.place, self.build = scratch.folder("first"), build
        self.tree = self.place
        self.port = scratch.free_port()
        self.browser, self.server, self.log = None, None, self.place / "said"
        self.first = self.second = None
        self.did = []

    def near(self, url):
        return url.replace("127.0.0.1:8080", f"127.0.0.1:{self.port}").rstrip("/")

    def account(self):
        """(address, user, password) as the terminal shows them."""
        found = SAID.search(self.log.read_text(errors="replace"))
        return found and found.groups()

    # --- What there is to do ---

    def clone(self, step, command):
        """What is committed, and what is changed since."""
        words = shlex.split(command)
        assert words[:2] == ["git", "clone"] and words[-2:] == ["cd", "cloakroom"], command
        self.tree = self.place / "cloakroom"
        if (scratch.ROOT / ".git").exists():
            scratch.run(["git", "clone", "--quiet", scratch.ROOT, self.tree])
            listed = ["git", "-C", str(scratch.ROOT), "ls-files", "-z", "--modified", "--others",
                      "--exclude-standard"]
        else:
            self.tree.mkdir()
            listed = ["find", str(scratch.ROOT), "-mindepth", "1", "-maxdepth", "1", "-not",
                      "-name", "build*", "-not", "-name", "var", "-printf", "%P\\0"]
        names = [name for name in scratch.run(listed).split("\0")
                 if name and (scratch.ROOT / name).exists()]
        if names:
            scratch.run(["cp", "-r", "--parents", *names, self.tree], cwd=scratch.ROOT)
        if self.build:
            self.lend()

    def lend(self):
        """What is built already, and nothing to do about it."""
        place = self.tree / "build"
        place.mkdir()
        shutil.copy(self.build / "cloakroom", place)
        (place / "build.ninja").write_text("build build.ninja: phony\nbuild all: phony\ndefault all\n")
        (place / ".werror").touch()
        (place / ".failpoints").touch()

    def run(self, step, command):
        ours, theirs = pty.openpty()  # a password is shown at a terminal only
        self.server = subprocess.Popen([*shlex.split(command), "--listen", f"127.0.0.1:{self.port}"],
                                       cwd=self.tree, stdin=subprocess.DEVNULL, stdout=theirs,
                                       stderr=theirs)
        os.close(theirs)
        self.log.touch()
        self.terminal = threading.Thread(target=self.copy, args=(ours,))
        self.terminal.start()

        def ready():
            assert self.server.poll() is None, self.log.read_text(errors="replace")
            return self.account() and "serving on" in self.log.read_text(errors="replace")
        scratch.until(ready, "the server", 900)
        address, user, _ = self.account()
        assert address.rstrip("/") == f"http://127.0.0.1:{self.port}" and f"`{user}`" in step, step

    def copy(self, terminal):
        with open(terminal, "rb", buffering=0) as source, open(self.log, "wb", buffering=0) as log:
            try:
                while said := source.read(4096):
                    log.write(said.replace(b"\r\n", b"\n"))
            except OSError:
                pass  # nobody has the other end any more

    def sign_in(self, step, url):
        """By keyboard: the first field has the focus."""
        self.first = self.browser.person(self.near(url))
        self.enter(self.first, self.account()[2])
        assert self.first.status == 403 and "Choose a password" in self.first.text(), self.first.text()

    def choose(self, step):
        self.first.type(self.account()[2])
        self.first.press("Tab")
        self.first.type(PASSWORD)
        self.first.enter()
        assert self.first.at() == "/" and "nowhere else" in self.first.text(), self.first.text()

    def enter(self, person, password):
        person.go("")
        person.type(self.account()[1])
        person.press("Tab")
        person.type(password)
        person.enter()

    def sign_in_elsewhere(self, step):
        self.second = self.browser.person(self.first.url)
        self.enter(self.second, PASSWORD)
        assert self.second.at() == "/" and "nowhere else" in self.second.text(), self.second.text()

    def look_again(self, step):
        assert self.first.at() == "/", self.first.at()
        self.first.loaded(lambda: self.first.do("Page.reload"))
        text = self.first.text()
        assert self.first.at() == "/login", text
        assert re.search(r"You were signed out because you signed in on another device: at "
                         r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", text), text

    KNOWN = [
        (r"`(git clone [^`]+)`$", clone),
        (r"`(\./dev run)`", run),
        (r"Open <?(http://127\.0\.0\.1:8080)>? .*sign in ", sign_in),
        (r"Choose a password", choose),
        (r"[Ss]ign in .*(?:another browser|private window)", sign_in_elsewhere),
        (r"[Rr]eload .*first", look_again),
    ]

    def do(self, step):
        text = " ".join(step.split())
        for pattern, act in self.KNOWN:
            found = re.search(pattern, text)
            if found:
                act(self, text, *found.groups())
                self.did.append(act.__name__)
                return
        raise AssertionError(f"who could do this? {text}")

    def close(self):
        if self.browser:
            self.browser.close()
        if self.server:
            scratch.end(self.server)
            self.terminal.join()


def walk(build):
    """Every step of the README, and what came of it."""
    told = steps((scratch.ROOT / "README.md").read_text(encoding="utf-8"))
    assert 2 <= len(told) <= STEPS_MAX, f"{len(told)} steps"
    reader = Reader(build)
    try:
        reader.browser = browser.Browser()
        for step in told:
            reader.do(step)
        assert reader.did[:2] == ["clone", "run"] and reader.did[-1] == "look_again", reader.did
    finally:
        reader.close()
    return len(told)
