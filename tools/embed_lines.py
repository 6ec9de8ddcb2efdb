#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""embed_lines.py HEADER SYMBOL INPUT OUTPUT: a C file in which SYMBOL holds the lines of INPUT, each
once, in byte order and each with its newline, so that they can be searched where they lie. Lines
that begin with #! are left out."""

import pathlib
import sys


def main():
    header, symbol, source, output = sys.argv[1:]
    lines = {line for line in pathlib.Path(source).read_bytes().split(b"\n")
             if line and not line.startswith(b"#!")}
    data = b"".join(line + b"\n" for line in sorted(lines))
    out = ["/* Made by tools/embed_lines.py. */", f'#include "{header}"', "", f"const char {symbol}[] = {{"]
    for start in range(0, len(data), 16):
        out.append("    " + " ".join(f"{byte}," for byte in data[start:start + 16]))
    out += ["};", f"const size_t {symbol}_bytes = sizeof {symbol};", ""]
    pathlib.Path(output).write_text("\n".join(out), encoding="utf-8")


main()
