#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`./dev show` shows what it says: each of three workers turns from 200 to 401."""

import os
import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent.parent), str(pathlib.Path(__file__).parent)]
sys.dont_write_bytecode = True
import scratch
import tap

SHOW = scratch.ROOT / "tools" / "show"
ANSWERS = re.compile(r"\b(200|401)\b.*\b(200|401)\b.*\b(200|401)\b")


def each_worker_turns_from_200_to_401_and_nothing_stays():
    home = scratch.folder("show")
    said = scratch.run([str(SHOW)], {"TMPDIR": str(home)})
    tap.note(said)
    assert "\033" not in said, "colours where there is no terminal"
    rows = [found.groups() for line in said.splitlines() for found in [ANSWERS.search(line)]
            if found and " s  " in line]
    stories = [list(dict.fromkeys(["".join(pair) for pair in zip(column, column[1:])
                                   if pair[0] != pair[1]])) for column in zip(*rows)]
    assert len(rows) >= 6, rows
    assert stories == [["401200", "200401"]] * 3, stories
    assert rows[-1] == ("401",) * 3, rows[-1]
    assert "0 said 200" in said
    assert not list(home.iterdir()), f"left behind: {list(home.iterdir())}"


def the_picture_is_well_formed_and_shows_the_text():
    said = "  0.1 s  \033[32;1m200\033[0m & <done>\n\n  0.2 s  \033[31;1m401\033[0m\n"
    drawn = subprocess.run([str(scratch.ROOT / "tools" / "show_svg.py")], input=said, text=True,
                           stdout=subprocess.PIPE, check=True).stdout
    text = " ".join(xml.etree.ElementTree.fromstring(drawn).itertext())
    assert all(word in text for word in ("0.1 s", "200", "& <done>", "401")), text


def the_picture_in_the_readme_is_of_this_output():
    picture = (scratch.ROOT / "doc" / "show.svg").read_text(encoding="utf-8")
    text = " ".join(xml.etree.ElementTree.fromstring(picture).itertext())
    for words in ("alice logs in: POST /login", "her session is ended", "0 said 200"):
        assert words in text and words.split("0 ")[-1] in SHOW.read_text(encoding="utf-8"), words
    assert "doc/show.svg" in (scratch.ROOT / "README.md").read_text(encoding="utf-8")


tap.main([
    each_worker_turns_from_200_to_401_and_nothing_stays,
    the_picture_is_well_formed_and_shows_the_text,
    the_picture_in_the_readme_is_of_this_output,
])
