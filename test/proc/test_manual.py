#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The manual pages say what the program says: commands, options, settings, exit statuses."""

import os
import pathlib
import re
import subprocess
import sys

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent.parent),
                str(pathlib.Path(__file__).resolve().parent.parent.parent / "tools")]
sys.dont_write_bytecode = True
import settings
import tap

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PROGRAM = pathlib.Path(os.environ.get("CLOAKROOM_BUILD", ROOT / "build")) / "cloakroom"
PAGE = (ROOT / "man" / "cloakroom.1").read_text(encoding="utf-8")
OF_EVERY_COMMAND = {"help", "usage"}


def run(*arguments):
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, check=True).stdout


def commands_of_program(before=()):
    """Each command that can be run, as a tuple of words."""
    for line in run(*before, "--help").splitlines():
        found = re.match(r"  (\w+) ", line)
        if not found:
            continue
        words = (*before, found.group(1))
        usage = run(*words, "--help").splitlines()[0]
        if usage.startswith(f"Usage: cloakroom {' '.join(words)} COMMAND"):
            yield from commands_of_program(words)
        else:
            yield words


def options_of_program(words):
    text = run(*words, "--help")
    return set(re.findall(r"--([a-z][a-z-]*)(?==|\s)", text.split("\n\n")[1])) - OF_EVERY_COMMAND


def synopsis():
    """words -> options, as the manual page has them."""
    section = PAGE.split(".Sh SYNOPSIS\n")[1].split(".Sh ")[0]
    found = {}
    # On lines of their own: groff puts everything into one paragraph otherwise.
    for block in section.split(".Nm\n.Cm ")[1:]:
        lines = block.splitlines()
        options = [re.match(r"\.Op Fl -([a-z-]+)", line) for line in lines[1:]]
        found[tuple(lines[0].split())] = {option.group(1) for option in options if option}
    return found


def section_items(name):
    section = re.search(rf"\.S[hs] {name}\n(.*?)(?=\n\.S[hs] |\Z)", PAGE, re.DOTALL).group(1)
    return re.findall(r"^\.It (.*)$", section, re.MULTILINE)


def every_command_stands_in_the_manual_page_and_the_other_way_round():
    there = set(commands_of_program())
    assert len(there) > 10, there
    assert set(synopsis()) == there, set(synopsis()) ^ there
    described = {tuple(item.split()[1:]) for item in section_items("Commands")}
    assert described == there, described ^ there


def every_option_stands_in_the_manual_page_and_the_other_way_round():
    page = synopsis()
    for words in commands_of_program():
        there = options_of_program(words)
        assert page[words] == there, f"{words}: {page[words] ^ there}"
    used = set().union(*page.values())
    described = {item.split()[1].lstrip("-") for item in section_items("Options")}
    assert described == used, described ^ used


def every_setting_stands_in_its_page_and_in_the_example_file():
    assert settings.PAGE.read_text(encoding="utf-8").count("\n.It Li ") > 20
    assert not settings.wrong(), f"{settings.wrong()}: run tools/settings.py"


def every_exit_status_of_the_program_stands_in_the_manual_page():
    header = (ROOT / "src" / "cmd" / "command.h").read_text(encoding="utf-8")
    there = set(re.findall(r"#define CR_EXIT_\w+ (\d+)", header))
    assert len(there) > 4, there
    page = set(re.findall(r"\d+", " ".join(section_items("EXIT STATUS"))))
    assert there <= page, there - page


def every_help_has_an_example_of_its_command():
    for words in commands_of_program():
        if words in [("version",), ("help",)]:
            continue
        text = run(*words, "--help")
        assert re.search(rf"Examples?:\n  (.*\| )?cloakroom {' '.join(words)}", text), text


tap.main([
    every_command_stands_in_the_manual_page_and_the_other_way_round,
    every_option_stands_in_the_manual_page_and_the_other_way_round,
    every_setting_stands_in_its_page_and_in_the_example_file,
    every_exit_status_of_the_program_stands_in_the_manual_page,
    every_help_has_an_example_of_its_command,
])
