#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the benchmarks and prints what they found. `./dev bench` calls it.

Exit status: 0; 1 when a figure falls short of its bound, or a program failed; 3 when a run was refused,
because others used the cores and the figures would have said nothing.
"""

import argparse
import importlib
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.dont_write_bytecode = True
import bench
import charts

HEAD = ("bench", "ours", "peer", "", "ratio", "spread", "bound", "aim", "")
WIDTHS = (-30, 12, 12, -11, 7, 13, 8, 8, -5)


def line(cells):
    return "  ".join(f"{cell:<{-width}}" if width < 0 else f"{cell:>{width}}"
                     for cell, width in zip(cells, WIDTHS)).rstrip()


def row_text(row):
    return line((row["name"], bench.number(row["ours"]),
                 "" if row["theirs"] is None else bench.number(row["theirs"]), row["unit"],
                 bench.number(row["ratio"]),
                 f"{bench.number(row['ratio_least'])}..{bench.number(row['ratio_most'])}",
                 bench.bound_text(row, "bound"), bench.bound_text(row, "aim"),
                 "" if row["bound"] is None else "ok" if row["ok"] else "SHORT"))


def explain(row):
    return f"          {row['figure']}" + (f"\n          against {row['peer']}" if row["peer"] else "")


def benches():
    for path in sorted(pathlib.Path(__file__).parent.glob("bench_*.py")):
        module = importlib.import_module(path.stem)
        yield from (kind for kind in vars(module).values()
                    if isinstance(kind, type) and issubclass(kind, bench.Bench) and kind.name
                    and kind.__module__ == path.stem)


def run(kinds, anyway, say):
    """Everything that was found, and the exit status."""
    found = {"machine": bench.machine(), "benches": [], "answers": {}, "figures": {}}
    status = 0
    for kind in kinds:
        try:
            with kind() as one:
                rows, answers = bench.measure(one, anyway)
                found["answers"][kind.name] = answers
                found["figures"][kind.name] = one.figures
        except (bench.Refused, RuntimeError) as why:
            rows = [{"name": kind.name, "ok": False, "refused": str(why)}]
            status = 3 if isinstance(why, bench.Refused) else 1
        if not all(row["ok"] for row in rows):
            status = status or 1
        found["benches"] += rows
        say(rows)
    return found, status


def main():
    parser = argparse.ArgumentParser(prog="./dev bench", description="Run the benchmarks.")
    parser.add_argument("name", nargs="?", default="",
                        help="only those whose names begin so (cache, cache_1m, create, http, python)")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--write", metavar="FOLDER", type=pathlib.Path,
                        help="put the results into FOLDER/performance.md, with charts beside it")
    parser.add_argument("--anyway", action="store_true",
                        help="measure also while others use the cores, and say so")
    arguments = parser.parse_args()

    if arguments.write and (arguments.name not in ("", "python") or arguments.anyway):
        parser.error("only a whole run, or all of python, on quiet cores, is written down")
    every = list(benches())
    kinds = [kind for kind in every if kind.name.startswith(arguments.name)]
    if not kinds:
        parser.error(f"no benchmark named {arguments.name}; there are: "
                     + ", ".join(kind.name for kind in every))

    def say(rows):
        if not arguments.json:
            for row in rows:
                print(f"{line((row['name'],))}  refused: {row['refused']}" if "refused" in row
                      else f"{row_text(row)}\n{explain(row)}", flush=True)

    if not arguments.json:
        print(line(HEAD), flush=True)
    found, status = run(kinds, arguments.anyway, say)
    if arguments.write:
        charts.write(found, arguments.write)
    if arguments.json:
        print(json.dumps(found, indent=2))
        return status
    for row in charts.matrix(found):
        print("  ".join(f"{cell:>14}" for cell in row))
    if arguments.anyway:
        print("Measured while others may have used the cores: the ratios prove nothing.")
    return status


if __name__ == "__main__":
    sys.exit(main())
