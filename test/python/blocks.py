# SPDX-License-Identifier: Apache-2.0
"""Blocks of code out of pages, so that what a test runs is what stands there."""

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def section_of(text, heading):
    """From `## heading` to the next of its level, or higher."""
    found = re.search(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    assert found, f"no section '{heading}'"
    rest = text[found.end():]
    end = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
    return rest[:end.start()] if end else rest


def one(page, language, heading=None):
    """The only block in that language of a page, or of a section of it."""
    text = (ROOT / page).read_text(encoding="utf-8")
    if heading is None:
        heading = {"README.md": "In Python", "doc/deploying.md": "Python applications"}[page]
    found = [block for kind, block in BLOCK.findall(section_of(text, heading)) if kind == language]
    assert len(found) == 1, f"{page}, {heading}: {len(found)} blocks in '{language}'"
    return found[0]
