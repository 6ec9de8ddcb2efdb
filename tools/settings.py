#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes what follows from the table in src/cmd/settings.c: the list of settings in
man/cloakroom.conf.5, and packaging/cloakroom.conf. It asks the program that was built; with --check
it writes nothing, and fails where a file is not as it would write it."""

import json
import os
import pathlib
import re
import subprocess
import sys
import textwrap

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = pathlib.Path(os.environ.get("CLOAKROOM_BUILD") or ROOT / "build") / "cloakroom"
PAGE = ROOT / "man" / "cloakroom.conf.5"
EXAMPLE = ROOT / "packaging" / "cloakroom.conf"
LIST = re.compile(r"(?<=\n\.Sh SETTINGS\n)(.*?\n\.Bl -tag -width Ds\n).*?(\.El\n)", re.DOTALL)


def ask(*words):
    return subprocess.run([PROGRAM, "config", *words], capture_output=True, text=True, check=True,
                          env={}).stdout


def mdoc(text):
    """A sentence as lines of a manual page."""
    lines = textwrap.wrap(text.replace("\\", "\\e"), 78, break_on_hyphens=False)
    assert not any(line[0] in ".'" for line in lines), "that would be a request"
    return "\n".join(lines) + "\n"


def items(rows):
    text = ""
    for row in rows:
        default = f"default {row['default']}" if row["default"] else "no default"
        text += f".It Li {row['name']} Pq {default}\n"
        text += mdoc(row["text"][0].upper() + row["text"][1:] + ".")
        if row["range"] != "text":
            text += mdoc(f"Takes {row['range']}.")
        if row["option"]:
            text += f"Option\n.Fl -{row['option']} .\n"
        text += ("A reload\n.Pq Dv SIGHUP\ntakes it over.\n" if row["reloads"] else
                 "A change needs a restart.\n")
    return text


def wanted():
    """{file: what is to stand in it}"""
    rows = json.loads(ask("show", "--config", "/dev/null", "--json"))
    page = PAGE.read_text(encoding="utf-8")
    listed, count = LIST.subn(lambda found: found.group(1) + items(rows) + found.group(2), page,
                              count=1)
    assert count == 1, f"{PAGE}: no list of settings"
    return {PAGE: listed, EXAMPLE: ask("example")}


def wrong():
    """The files that are not as they are to be."""
    return [path for path, text in wanted().items()
            if not path.exists() or path.read_text(encoding="utf-8") != text]


def main():
    if sys.argv[1:] == ["--check"]:
        for path in wrong():
            print(f"{path.relative_to(ROOT)}: run tools/settings.py")
        return bool(wrong())
    for path, text in wanted().items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
