#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: timeout=120
"""What README and doc/ tell a reader to type works as it stands there.

Blocks marked `sh` run from top to bottom of a file, in one directory, against a server and a store of
their own; blocks marked `c` are compiled against the installed library and run. Only addresses and
paths are replaced.
"""

import atexit
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent.parent), str(pathlib.Path(__file__).parent)]
sys.dont_write_bytecode = True
import scratch
import tap

PAGES = [scratch.ROOT / "README.md", *sorted((scratch.ROOT / "doc").glob("*.md"))]
# What is said to Python is run by test/python/, in Pythons that have its frameworks.
IN_PYTHON = sorted((scratch.ROOT / "doc").glob("python-*.md"))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#:]+)(?:#([^)]*))?\)")


def blocks(page, kind):
    return [text for language, text in BLOCK.findall(page.read_text(encoding="utf-8"))
            if language == kind]


def trace(script, env, folder):
    """[(command as it was run, its output)] of a script that must succeed."""
    marked = "PS4='@@@ '; set -eux -o pipefail\n" + script
    done = subprocess.run(["bash", "-c", marked], cwd=folder, env={**os.environ, **env}, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False)
    tap.note(done.stdout)
    assert done.returncode == 0, f"exit status {done.returncode}: {done.stdout}"
    pieces = re.split(r"^@@@ (.*)\n", done.stdout, flags=re.MULTILINE)
    return list(zip(pieces[1::2], pieces[2::2]))


def shell_blocks_run():
    for page in PAGES:
        script = "\n".join(blocks(page, "sh"))
        if not script or page in IN_PYTHON:
            continue
        folder = scratch.folder("page")
        (folder / "var").mkdir()
        (folder / "password.txt").write_text("a password to begin with\n")
        watched = scratch.free_port()
        with scratch.Server(arguments=["--ops-listen", f"127.0.0.1:{watched}"]) as server:
            made = scratch.run([scratch.PROGRAM, "user", "add", "admin", "--temporary", "--json",
                                "--store", server.store, "--state", str(server.state)])
            env = {"FIRST": json.loads(made)["password"], "PASSWORD": server.password}
            ran = trace(script.replace("http://127.0.0.1:8080", server.url)
                        .replace("http://127.0.0.1:9464", f"http://127.0.0.1:{watched}")
                        .replace("var/ops.sock", f"{server.state}/ops.sock")
                        .replace("sqlite://$PWD/var/cloakroom.db", server.store)
                        .replace(" --store", f" --state {server.state} --store")
                        .replace("build/cloakroom", str(scratch.PROGRAM)), env, folder)
            if page.name == "README.md":
                readme_says_what_it_should(ran)


def readme_says_what_it_should(ran):
    """Each command of the story has the answer that its comment promises."""
    def answers(words):
        return [said for command, said in ran if words in command]
    phone = answers("curl -s -b phone")
    assert '"user":"admin"' in phone[0] and '"status":401' in phone[1].replace(" ", ""), phone
    assert all('"expires_at"' in said for said in answers("-d @login.json"))
    devices = json.loads(answers("/sessions")[0])
    assert [each["current"] for each in devices["sessions"]] == [True], devices
    assert {each["reason"] for each in devices["ended"]} == {"replaced"}, devices
    assert "carol" in answers("user list")[0] and "one-time" in answers("user list")[0]
    assert "only one of us" in answers(" lock nightly")[0]
    assert "all sessions were ended" in answers(" restore ")[0]
    checked = answers("config check")[0]
    assert "cache.memory = 256M" in checked and "CLOAKROOM__CACHE__MEMORY\n" in checked, checked
    assert "--workers\n" in checked and "The settings are right." in checked, checked
    given = answers("/users/dave/sessions")[0]
    assert '"user":"dave"' in given and '"signed_token":"crs1_' in given and '"expires_at"' in given, given
    for made in answers("user reset carol")[0], answers("/users/carol/reset-link")[0]:
        link = json.loads(made)
        assert link["link"] == "/reset?link=" + link["token"] and "expires_at" in link, made
    assert answers("/users/dave/end-sessions") == answers("/end-all") == ['{"ended":"done"}\n']
    assert '"table_sessions":' in answers("/stats")[0]
    assert "\ncloakroom_logins_total{" in answers("/metrics")[0]
    assert answers("/readyz") == ['{"ready":true}\n']


def c_blocks_compile_and_run():
    installed = scratch.Installed()
    atexit.register(installed.close)
    flags = shlex.split(scratch.run(["pkg-config", "--cflags", "--libs", "cloakroom"], installed.env))
    for page in PAGES:
        for text in blocks(page, "c"):
            if page.name == "writing-a-store.md":
                continue
            folder = installed.folder("c")
            source = folder / "block.c"
            text = text.replace("/tmp/app.db", f"{folder}/app.db")
            source.write_text("#include <stdio.h>\n#include <cloakroom/cloakroom.h>\n"
                              f"int main(void)\n{{\n{text}return 0;\n}}\n")
            program = folder / "block"
            scratch.run(["cc", "-std=c17", "-Wall", "-Wextra", "-Werror", source, *flags,
                         "-o", program], installed.env)
            said = installed.try_out([program])
            if page.name == "README.md":
                assert re.fullmatch(r"crp_\S{24} lives until \d{13}\n", said), said


def the_page_about_stores_quotes_the_store_that_a_test_builds():
    outside = scratch.ROOT / "test" / "contract" / "outside"
    source = "".join(path.read_text() for path in sorted(outside.glob("*.[ch]")))
    quoted = list(blocks(scratch.ROOT / "doc" / "writing-a-store.md", "c"))
    assert quoted
    lines = {line.strip() for line in source.splitlines()}
    for line in (line.strip() for text in quoted for line in text.splitlines()):
        assert line in lines or line == "...", f"not in {outside.name}/: {line}"


def dev_run_serves():
    """`./dev run`, on another port and with another store; what follows outweighs what it gives."""
    home = scratch.folder("run")
    port = scratch.free_port()
    log = open(home / "log", "wb")
    child = subprocess.Popen(
        ["./dev", "run", "--listen", f"127.0.0.1:{port}", "--store", f"sqlite://{home}/run.db",
         "--state", str(home / "state")], cwd=scratch.ROOT, stdout=log, stderr=log,
        stdin=subprocess.DEVNULL)
    try:
        def answers():
            assert child.poll() is None, (home / "log").read_text()
            try:
                connection = scratch.Connection(port)
                return connection.session(None) == 401
            except OSError:
                return False
        scratch.until(answers, "./dev run serves", 60)
        scratch.until(lambda: "admin" in (home / "log").read_text(), "the password is printed")
        said = (home / "log").read_text()
        tap.note(said)
        assert "earlier sessions" in said and "on_login" in said, "what a log-in does is not said"
    finally:
        scratch.end(child)
        log.close()


def the_readme_names_commands_that_exist():
    known = scratch.run(["./dev", "--help"], cwd=scratch.ROOT)
    for page in PAGES:
        for command in re.findall(r"\./dev (\w+)", page.read_text(encoding="utf-8")):
            assert re.search(rf"^  {command}\b", known, re.MULTILINE), f"{page.name}: ./dev {command}"


def anchor_of(heading):
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def links_lead_somewhere():
    for page in PAGES:
        for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
            found = page.parent / target
            assert found.exists(), f"{page.name}: {target}"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.MULTILINE)
                assert anchor in map(anchor_of, headings), f"{page.name}: {target}#{anchor}"


def what_documents_name_is_there():
    """Files of the tree, and functions and constants of the library."""
    declared = "\n".join(path.read_text(encoding="utf-8") for path in
                         (scratch.ROOT / "include" / "cloakroom").glob("*.h"))
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for name in re.findall(r"`((?:cr_|CR_)\w+)`", text):
            assert re.search(rf"\b{name}\b", declared), f"{page.name} names {name}"
        for name in re.findall(r"`((?:src|test|tools|include|doc|examples)/[\w./-]+)`", text):
            assert list(scratch.ROOT.glob(f"{name}*")), f"{page.name} names {name}"


tap.main([
    shell_blocks_run,
    c_blocks_compile_and_run,
    the_page_about_stores_quotes_the_store_that_a_test_builds,
    dev_run_serves,
    the_readme_names_commands_that_exist,
    links_lead_somewhere,
    what_documents_name_is_there,
])
