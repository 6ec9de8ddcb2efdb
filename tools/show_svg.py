#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A picture of what `./dev show` printed: reads a terminal's text with colours, writes SVG.

    ./dev show --color | tools/show_svg.py >doc/show.svg
"""

import html
import re
import sys

CELL_WIDTH, LINE_HEIGHT, MARGIN, FONT_SIZE = 8.4, 20, 16, 14
STYLES = {"1": "font-weight:bold", "2": "fill:#8b949e", "31": "fill:#ff7b72", "32": "fill:#56d364",
          "33": "fill:#e3b341"}
PIECE = re.compile(r"\033\[([0-9;]*)m")


def pieces(line):
    """(column, text, style) of each run of one colour."""
    style, column = "", 0
    for number, part in enumerate(PIECE.split(line)):
        if number % 2:
            style = ";".join(STYLES[code] for code in part.split(";") if code in STYLES)
            continue
        # Wide blanks are said by the place: not every viewer keeps them.
        for found in re.finditer(r"\S+(?: \S+)*", part):
            yield column + found.start(), found.group(), style
        column += len(part)


def svg(lines):
    plain = [PIECE.sub("", line) for line in lines]
    width = max(map(len, plain)) * CELL_WIDTH + 2 * MARGIN
    height = len(lines) * LINE_HEIGHT + 2 * MARGIN
    yield (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
           f'width="{width:.0f}" height="{height:.0f}" role="img">')
    yield "<title>Three workers are asked while a session ends: 200 becomes 401 in each</title>"
    yield '<rect width="100%" height="100%" rx="8" fill="#0d1117"/>'
    yield (f'<g font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="{FONT_SIZE}" '
           'fill="#e6edf3">')
    for row, line in enumerate(lines):
        for column, text, style in pieces(line):
            # The length is given, so that another font keeps the columns.
            yield (f'<text x="{MARGIN + column * CELL_WIDTH:.1f}" '
                   f'y="{MARGIN + row * LINE_HEIGHT + FONT_SIZE:.0f}" '
                   f'textLength="{len(text) * CELL_WIDTH:.1f}" lengthAdjust="spacingAndGlyphs"'
                   + (f' style="{style}"' if style else "") + f'>{html.escape(text)}</text>')
    yield "</g>\n</svg>"


print("\n".join(svg(sys.stdin.read().rstrip("\n").split("\n"))))
