# SPDX-License-Identifier: Apache-2.0
"""The code of a page of the documentation, to be run by its test."""

import pathlib
import re

DOC = pathlib.Path(__file__).resolve().parent.parent.parent / "doc"


def blocks(page, language="python"):
    """[(heading, code), ...] in the order of the page."""
    found, heading = [], ""
    for part in re.finditer(r"^#+ ([^\n]*)$|^```(\w+)\n(.*?)^```$", (DOC / page).read_text("utf-8"),
                            re.M | re.S):
        if part[1] is not None:
            heading = part[1]
        elif part[2] == language:
            found.append((heading, part[3]))
    return found


def run(page, namespace, headings=None):
    """Executes the page's Python, in one namespace; of some headings only."""
    for heading, code in blocks(page):
        if headings is None or heading in headings:
            exec(compile(code, f"{page}: {heading}", "exec"), namespace)  # noqa: S102  # the page is the test
    return namespace
