# SPDX-License-Identifier: Apache-2.0
"""The results as a page shows them: a table between two marks of doc/performance.md, and pictures
beside it. The pictures are SVG with their own colours for light and dark."""

import html
import math
import statistics

import bench

BEGIN, END = "<!-- results: written by ./dev bench --write doc -->", "<!-- end of results -->"
# What is measured in Python is written by itself, too: it needs what a package index has.
PYTHON_BEGIN, PYTHON_END = ("<!-- results: written by ./dev bench python --write doc -->",
                            "<!-- end of Python's results -->")
WIDTH, HEIGHT = 720, 360
LEFT, RIGHT, TOP, BOTTOM = 76, 190, 44, 48
# Of a line, in light and in dark. Spelled out in each rule: not all that shows SVG knows variables.
COLOURS = {"s0": ("#0969da", "#58a6ff"), "s1": ("#57606a", "#9198a1"), "s2": ("#8c959f", "#6e7681"),
           "s3": ("#1a7f37", "#3fb950"), "s4": ("#bc4c00", "#f0883e"), "s5": ("#8250df", "#bc8cff")}


def colours(of):
    return "\n".join(f".{name} .line{{stroke:{both[of]}}}.{name} .dot,.{name} .name{{fill:{both[of]}}}"
                     for name, both in COLOURS.items())


STYLE = f"""
svg{{background:#fff}}
text{{font:12px system-ui,"DejaVu Sans",sans-serif;fill:#1f2328}}
.title{{font-size:14px;font-weight:600}}
.grid{{stroke:#d1d9e0}}
.line{{fill:none;stroke-width:2}}
{colours(0)}
@media(prefers-color-scheme:dark){{
svg{{background:#0d1117}}
text{{fill:#e6edf3}}
.grid{{stroke:#30363d}}
{colours(1)}
}}
"""
TABLES = (("cache_10k", 10_000), ("cache_1m", 1_000_000), ("cache_10m", 10_000_000))
BINS_OCTAVE = 32  # of drive_cache.c


class Chart:
    """Lines over two axes that are each logarithmic or not; `x_ticks` and `y_ticks` are (value,
    text) and their first and last are the ends."""

    def __init__(self, title, x_title, y_title, x_ticks, y_ticks, x_log=True, y_log=True):
        self.title, self.x_title, self.y_title = title, x_title, y_title
        self.x_ticks, self.y_ticks, self.x_log, self.y_log = x_ticks, y_ticks, x_log, y_log
        self.lines = []

    def line(self, name, style, points, dashed=False):
        if points:
            self.lines.append((name, style, points, dashed))

    def place(self, value, ticks, is_log, start, end):
        value, first, last = (math.log(max(one, 1e-12)) if is_log else one
                              for one in (value, ticks[0][0], ticks[-1][0]))
        share = min(max((value - first) / (last - first), 0), 1)
        return start + share * (end - start)

    def x(self, value):
        return self.place(value, self.x_ticks, self.x_log, LEFT, WIDTH - RIGHT)

    def y(self, value):
        return self.place(value, self.y_ticks, self.y_log, HEIGHT - BOTTOM, TOP)

    def svg(self):
        yield (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
               f'width="{WIDTH}" height="{HEIGHT}" role="img">')
        yield f"<title>{html.escape(self.title)}</title><style>{STYLE}</style>"
        yield f'<text class="title" x="{LEFT}" y="20">{html.escape(self.title)}</text>'
        yield f'<text x="8" y="{TOP - 10}">{html.escape(self.y_title)}</text>'
        yield (f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 10}" '
               f'text-anchor="middle">{html.escape(self.x_title)}</text>')
        for value, text in self.y_ticks:
            yield (f'<path class="grid" d="M{LEFT} {self.y(value):.1f}H{WIDTH - RIGHT}"/>'
                   f'<text x="{LEFT - 6}" y="{self.y(value) + 4:.1f}" text-anchor="end">{text}</text>')
        for value, text in self.x_ticks:
            yield (f'<text x="{self.x(value):.1f}" y="{HEIGHT - BOTTOM + 18}" '
                   f'text-anchor="middle">{text}</text>')
        yield from self.drawn()
        yield "</svg>"

    def drawn(self):
        names = spread([self.y(points[-1][1]) for _, _, points, _ in self.lines], 15,
                       HEIGHT - BOTTOM - 8)
        ends = [self.x(points[-1][0]) for _, _, points, _ in self.lines]
        for (name, style, points, dashed), at, end in zip(self.lines, names, ends):
            # Names of lines that end near each other stand below each other, beyond them all.
            beyond = max(other for other in ends if other - end < 80)
            path = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
            dash = ' stroke-dasharray="5 4"' if dashed else ""
            yield f'<g class="{style}"><polyline class="line" points="{path}"{dash}/>'
            if len(points) < 10:
                yield "".join(f'<circle class="dot" cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="3"/>'
                              for x, y in points)
            yield (f'<text class="name" x="{beyond + 10:.1f}" y="{at + 4:.1f}">'
                   f"{html.escape(name)}</text></g>")


def spread(places, apart, most):
    """The same places, moved so that none is nearer than `apart` to another, or beyond `most`."""
    order = sorted(range(len(places)), key=places.__getitem__)
    moved = list(places)
    for before, after in zip(order, order[1:]):
        moved[after] = max(moved[after], moved[before] + apart)
    for rank, place in enumerate(reversed(order)):
        moved[place] = min(moved[place], most - rank * apart)
    return moved


def time_text(ns):
    return f"{ns:g} ns" if ns < 1e3 else f"{ns / 1e3:g} µs" if ns < 1e6 else f"{ns / 1e6:g} ms"


def decades(first, last):
    return [(10 ** power, time_text(10 ** power)) for power in range(first, last + 1)]


def by_sessions(found, order):
    """Time of a validation against how many sessions there are."""
    name = {"uniform": "uniform", "zipf": "Zipf 0.99"}[order]
    chart = Chart(f"A validation that hits, random tokens, {name}", "sessions", "time",
                  [(10_000, "10,000"), (100_000, "100,000"), (1_000_000, "1,000,000"), (10_000_000, "10,000,000")],
                  decades(0, 5))

    def medians(question):
        return [(sessions, statistics.median(found["answers"][name][question]))
                for name, sessions in TABLES if question in found["answers"].get(name, {})]
    chart.line("Cloakroom", "s0", medians(f"hit {order}"))
    chart.line("Cloakroom, batches of 16", "s5", medians(f"many {order}"))
    chart.line("LMDB", "s3", medians(f"get {order}"))
    chart.line("floor: latency", "s1", medians(f"latency {order}"), True)
    chart.line("floor: loop", "s2", medians(f"loop {order}"), True)
    chart.line("floor: batches of 16", "s2", medians(f"batch {order}"), True)
    redis = found["answers"].get("cache", {}).get("get uniform")
    if redis and order == "uniform":
        chart.line("Redis, 100,000", "s4", [(100_000, statistics.median(redis))])
    return chart


def by_share(found):
    """How many validations take longer than so long."""
    chart = Chart("Validations that take longer, 1,000,000 sessions, 1 % writes", "time",
                  "share", decades(1, 7),
                  [(10 ** -power, f"{10.0 ** (2 - power):g} %") for power in range(6, -1, -1)])
    for name, style, key in (("four readers, two cores", "s4", "times four"),
                             ("one reader", "s0", "times one")):
        cost, *bins = found["figures"].get("cache_readers", {}).get(key) or [0]
        total, above, points = sum(bins), sum(bins), []
        for number, count in enumerate(bins):
            above -= count
            time = 2 ** ((number + 1) / BINS_OCTAVE) - cost
            if count and above and time >= 10:
                points.append((time, above / total))
        chart.line(name, style, points)
    return chart


def by_count(found):
    """Time of ending all of a user's sessions against how many there are."""
    chart = Chart("Ending all sessions of a user", "sessions of the user", "time",
                  [(1, "1"), (1_000, "1,000"), (1_000_000, "1,000,000")], decades(0, 7))
    for name, style, key in (("whole call, SQLite", "s4", "cache_end_commit"),
                             ("in the table", "s0", "cache_end")):
        answers = found["answers"].get(key, {})
        chart.line(name, style, [(count, max(statistics.median(answers[f"end {count}"]), 1))
                                 for count in (1, 1_000, 1_000_000) if answers])
    return chart


COLUMNS = (("hit", "validation"), ("near", "token at hand"), ("many", "of 16 in one call"),
           ("get", "LMDB"), ("latency", "floor: latency"), ("loop", "loop"),
           ("batch", "batch of 16"), ("latency-dense", "dense: latency"), ("loop-dense", "loop"),
           ("batch-dense", "batch of 16"))


def matrix(found):
    """Nanoseconds by sessions, order and what is asked: a head, then rows of cells."""
    rows = [["sessions", "", *(text for _, text in COLUMNS)]]
    for name, sessions in TABLES:
        answers = found["answers"].get(name)
        rows += [[f"{sessions:,}", order] + [
            bench.number(statistics.median(answers[f"{kind} {order}"]))
            if f"{kind} {order}" in answers else "" for kind, _ in COLUMNS]
                 for order in ("uniform", "zipf") if answers]
    return rows if len(rows) > 1 else []


def table(found):
    machine = found["machine"]
    huge = found["figures"].get("cache_1m", {}).get("huge_mib")
    huge = "" if huge is None else f", {huge} MiB of the table of a million in huge pages"
    yield (f"{machine['day']}: {machine['processor']}{', virtual' if machine['virtual'] else ''}, "
           f"{machine['cores']} cores, {machine['memory_gib']} GiB, Linux {machine['kernel']}, clock "
           f"{machine['clock']}, pages of {machine['page_bytes'] // 1024} KiB{huge}.")
    yield ""
    yield "| | what | ours | against | | ratio (spread) | bound | aim | |"
    yield "| --- | --- | ---: | --- | ---: | ---: | ---: | ---: | --- |"
    for row in found["benches"]:
        if "refused" in row:
            yield f"| {row['name']} | | | | | refused | | | |"
            continue
        theirs = "" if row["theirs"] is None else f"{bench.number(row['theirs'])} {row['unit']}"
        verdict = ("" if row["bound"] is None else "short" if not row["ok"] else
                   "aim" if row["aim"] is not None and row["aim_met"] else "ok")
        ratio = "" if row["theirs"] is None else (
            f"{bench.number(row['ratio'])} ({bench.number(row['ratio_least'])} to "
            f"{bench.number(row['ratio_most'])})")
        yield (f"| `{row['name']}` | {row['figure']} | {bench.number(row['ours'])} {row['unit']} | "
               f"{row['peer']} | {theirs} | {ratio} | {bench.bound_text(row, 'bound')} | "
               f"{bench.bound_text(row, 'aim')} | {verdict} |".replace("<=", "≤").replace(">=", "≥"))
    head, *rows = matrix(found) or [None]
    if head:
        yield from ("", "Nanoseconds each, medians:", "", f"| {' | '.join(head)} |",
                    f"| {' | '.join(['---:', '---', *['---:'] * len(COLUMNS)])} |")
        yield from (f"| {' | '.join(row)} |" for row in rows)
    yield from ("", *(f"![{chart.title}]({name})" for name, chart in pictures(found).items()
                      if chart.lines))


def pictures(found):
    return {"bench-uniform.svg": by_sessions(found, "uniform"),
            "bench-zipf.svg": by_sessions(found, "zipf"),
            "bench-times.svg": by_share(found), "bench-end.svg": by_count(found)}


def between(text, marks, lines, page):
    """The page with `lines` between its two marks."""
    begin, end = marks
    if (text.count(begin), text.count(end)) != (1, 1) or text.index(begin) > text.index(end):
        raise RuntimeError(f"{page} does not have the two marks between which results go")
    before, after = text[:text.index(begin)], text[text.index(end) + len(end):]
    return before + "\n".join((begin, "", *lines, "", end)) + after


def is_python(row):
    return row["name"].startswith("python")


def write(found, folder):
    """All that was measured, into `folder`; what was not, stays as it is."""
    page = folder / "performance.md"
    text = page.read_text(encoding="utf-8")
    in_python = [row for row in found["benches"] if is_python(row)]
    others = [row for row in found["benches"] if not is_python(row)]
    if others or not in_python:
        text = between(text, (BEGIN, END), table({**found, "benches": others}), page)
    if in_python:
        lines = list(table({**found, "answers": {}, "figures": {}, "benches": in_python}))
        text = between(text, (PYTHON_BEGIN, PYTHON_END), lines[:-1], page)
    for name, chart in pictures(found).items():
        if chart.lines:
            (folder / name).write_text("\n".join(chart.svg()) + "\n", encoding="utf-8")
    page.write_text(text, encoding="utf-8")
