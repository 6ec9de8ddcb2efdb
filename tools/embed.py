#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""embed.py SYMBOL=FILE... -- OUTPUT: a C file in which SYMBOL holds the bytes of FILE."""

import pathlib
import sys


def main():
    split = sys.argv.index("--")
    lines = ["/* Made by tools/embed.py. */", '#include "http/files.h"', ""]
    for argument in sys.argv[1:split]:
        symbol, path = argument.split("=", 1)
        data = pathlib.Path(path).read_bytes()
        lines.append(f"const char {symbol}[] = {{")
        for start in range(0, len(data), 16):
            lines.append("    " + " ".join(f"{byte}," for byte in data[start:start + 16]))
        lines += ["};", f"const size_t {symbol}_bytes = sizeof {symbol};", ""]
    pathlib.Path(sys.argv[split + 1]).write_text("\n".join(lines), encoding="utf-8")


main()
