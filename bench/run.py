#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the benchmarks and prints what they found. `./dev bench` calls it.

Exit status: 0; 1 when a figure falls short of its bound; 3 when a run was refused, because others
used the cores and the figures would have said nothing.
"""

import argparse
import importlib
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.dont_write_bytecode = True
import bench

HEAD = ("bench", "ours", "peer", "", "ratio", "spread", "bound", "")
WIDTHS = (-8, 14, 14, -16, 7, 13, 6, -5)


def line(cells):
    return "  ".join(f"{cell:<{-width}}" if width < 0 else f"{cell:>{width}}"
                     for cell, width in zip(cells, WIDTHS)).rstrip()


def row_text(row):
    return line((row["name"], f"{row['ours']:,.0f}", f"{row['theirs']:,.0f}", row["unit"],
                 f"{row['ratio']:.2f}", f"{row['ratio_least']:.2f}..{row['ratio_most']:.2f}",
                 f"{row['bound']:g}", "ok" if row["ok"] else "SHORT"))


def explain(row):
    return f"          {row['figure']}\n          against {row['peer']}"


def benches():
    for path in sorted(pathlib.Path(__file__).parent.glob("bench_*.py")):
        module = importlib.import_module(path.stem)
        yield from (kind for kind in vars(module).values()
                    if isinstance(kind, type) and issubclass(kind, bench.Bench) and kind.name)


def main():
    parser = argparse.ArgumentParser(prog="./dev bench", description="Run the benchmarks.")
    parser.add_argument("name", nargs="?", help="only this one")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--anyway", action="store_true",
                        help="measure also while others use the cores, and say so")
    arguments = parser.parse_args()

    known = {kind.name: kind for kind in benches()}
    if arguments.name and arguments.name not in known:
        parser.error(f"no benchmark named {arguments.name}; there are: {', '.join(known)}")
    rows, status = [], 0
    if not arguments.json:
        print(line(HEAD), flush=True)
    for name in [arguments.name] if arguments.name else known:
        try:
            with known[name]() as one:
                row = bench.measure(one, arguments.anyway)
        except bench.Refused as why:
            row = {"name": name, "ok": False, "refused": str(why)}
            status = 3
        else:
            status = status or (0 if row["ok"] else 1)
        rows.append(row)
        if not arguments.json:
            print(f"{line((name,))}  refused: {row['refused']}" if "refused" in row
                  else f"{row_text(row)}\n{explain(row)}", flush=True)
    if arguments.json:
        print(json.dumps({"benches": rows}, indent=2))
    elif arguments.anyway:
        print("Measured while others may have used the cores: the ratios prove nothing.")
    return status


if __name__ == "__main__":
    sys.exit(main())
