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
MAN = ROOT / "man"
OVERVIEW = MAN / "cloakroom.1"
LIBRARY = MAN / "libcloakroom.3"
IN_OVERVIEW = {("help",), ("version",)}  # too little for a page
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


def text_of(page):
    return page.read_text(encoding="utf-8")


def page_of(words):
    return OVERVIEW if words in IN_OVERVIEW else MAN / f"cloakroom-{words[0]}.1"


def synopsis(page):
    """words -> options, as the manual page has them."""
    section = text_of(page).split(".Sh SYNOPSIS\n")[1].split(".Sh ")[0]
    found = {}
    # On lines of their own: groff puts everything into one paragraph otherwise.
    for block in section.split(".Nm cloakroom\n.Cm ")[1:]:
        lines = block.splitlines()
        options = [re.match(r"\.Op Fl -([a-z-]+)", line) for line in lines[1:]]
        found[tuple(lines[0].split())] = {option.group(1) for option in options if option}
    return found


def section_items(page, name):
    section = re.search(rf"\.S[hs] {name}\n(.*?)(?=\n\.S[hs] |\Z)", text_of(page), re.DOTALL)
    return re.findall(r"^\.It (.*)$", section.group(1) if section else "", re.MULTILINE)


def every_command_stands_in_its_page_and_in_no_other():
    there = set(commands_of_program())
    assert len(there) > 10, there
    pages = {OVERVIEW, *MAN.glob("cloakroom-*.1")}
    assert {page_of(words) for words in there} == pages, pages ^ {page_of(words) for words in there}
    for page in pages:
        wanted = {words for words in there if page_of(words) == page}
        assert set(synopsis(page)) == wanted, f"{page.name}: {set(synopsis(page)) ^ wanted}"
        described = {tuple(item.removeprefix("Cm ").split())
                     for item in section_items(page, "DESCRIPTION") if item.startswith("Cm ")}
        assert described == (wanted if len(wanted) > 1 and page != OVERVIEW else set()), \
            f"{page.name}: {described ^ wanted}"
    listed = {item.split()[1] for item in section_items(OVERVIEW, "Commands") if item.startswith("Xr ")}
    assert listed == {page.stem for page in pages - {OVERVIEW}}, listed


def every_option_stands_in_the_page_of_its_command_and_the_other_way_round():
    for page in {page_of(words) for words in commands_of_program()}:
        used = set()
        for words, options in synopsis(page).items():
            there = options_of_program(words)
            assert options == there, f"{words}: {options ^ there}"
            used |= there
        described = [item.split()[1].lstrip("-") for item in section_items(page, "OPTIONS")]
        assert described == sorted(described), f"{page.name}: not sorted"
        if page != OVERVIEW:
            assert set(described) == used, f"{page.name}: {set(described) ^ used}"


def every_page_is_installed_named_as_it_is_called_and_linked_from_the_overview():
    pages = sorted(page.name for page in MAN.glob("*.[1-9]"))
    listed = re.findall(r"^  '(.*)',$", (MAN / "meson.build").read_text(encoding="utf-8"), re.MULTILINE)
    assert listed == pages, f"man/meson.build: {set(listed) ^ set(pages) or 'not sorted'}"
    for name in pages:
        stem, number = name.rsplit(".", 1)
        text = text_of(MAN / name)
        assert f".Dt {stem.upper()} {number}\n" in text, name
        assert f".Sh NAME\n.Nm {stem}\n.Nd " in text, name
        assert name == OVERVIEW.name or f".Xr {stem} {number}" in text_of(OVERVIEW), name
        for other, where in re.findall(r"^\.Xr (\S*cloakroom\S*) (\d)", text, re.MULTILINE):
            assert f"{other}.{where}" in pages, f"{name}: {other}({where})"
        for title in re.findall(r"\.Sx (.*?)(?: \.)?$", text, re.MULTILINE):
            assert re.search(rf"^\.S[hs] {title}$", text, re.MULTILINE), f"{name}: {title}"


def help_says_which_page_has_more():
    for words in commands_of_program():
        stem = page_of(words).stem
        assert f"`man {stem}` says more.\n" in run(*words, "--help"), words
    assert "`man cloakroom-user` says more.\n" in run("user", "--help")
    assert "`man cloakroom` says more.\n" in run("--help")


def every_setting_stands_in_its_page_and_in_the_example_file():
    assert settings.PAGE.read_text(encoding="utf-8").count("\n.It Li ") > 20
    assert not settings.wrong(), f"{settings.wrong()}: run tools/settings.py"


def every_exit_status_of_the_program_stands_in_the_manual_page():
    header = (ROOT / "src" / "cmd" / "command.h").read_text(encoding="utf-8")
    there = set(re.findall(r"#define CR_EXIT_\w+ (\d+)", header))
    assert len(there) > 4, there
    page = set(re.findall(r"\d+", " ".join(section_items(OVERVIEW, "EXIT STATUS"))))
    assert there <= page, there - page


def every_help_has_an_example_of_its_command():
    for words in commands_of_program():
        if words in [("version",), ("help",)]:
            continue
        text = run(*words, "--help")
        assert re.search(rf"Examples?:\n  (.*\| )?cloakroom {' '.join(words)}", text), text


def every_function_and_status_of_the_library_stands_in_its_page():
    """The begin and finish of a call stand there as what they are; tables and stores of one's own
    have their headers."""
    page = text_of(LIBRARY)
    headers = {path.name: path.read_text(encoding="utf-8")
               for path in (ROOT / "include" / "cloakroom").glob("*.h")}
    declared = {name for header, text in headers.items() if header not in ("table.h", "store.h")
                for name in re.findall(r"^CR_API[^;(]*?\b(cr_\w+)\(", text, re.MULTILINE)}
    declared = {name for name in declared if not name.endswith(("_begin", "_finish"))}
    declared -= {"cr_open_store"}
    assert len(declared) > 30, declared
    named = set(re.findall(r"^\.Fn (cr_\w+)", page, re.MULTILINE))
    assert named == declared, named ^ declared
    statuses = re.findall(r"X\((CR_\w+),", headers["status.h"])
    items = [item.removeprefix("Dv ") for item in section_items(LIBRARY, "ERRORS")]
    assert set(items) == set(statuses) and len(items) == len(statuses), set(items) ^ set(statuses)


tap.main([
    every_command_stands_in_its_page_and_in_no_other,
    every_option_stands_in_the_page_of_its_command_and_the_other_way_round,
    every_page_is_installed_named_as_it_is_called_and_linked_from_the_overview,
    every_function_and_status_of_the_library_stands_in_its_page,
    help_says_which_page_has_more,
    every_setting_stands_in_its_page_and_in_the_example_file,
    every_exit_status_of_the_program_stands_in_the_manual_page,
    every_help_has_an_example_of_its_command,
])
