#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the pictures of the pages in doc/, in light and dark: `./dev screenshots [FOLDER]`.

A server and a browser of its own, which both end with it. PNG of few colours, so that they are small.
"""

import http.client
import json
import os
import pathlib
import shutil
import struct
import sys
import tempfile
import zlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "test" / "proc")]
sys.dont_write_bytecode = True
import browser
import scratch

WIDTH = 640
LAPTOP = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
PHONE = ("Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like "
         "Gecko) Version/19.0 Mobile/15E148 Safari/604.1")


# --- PNG ---

def chunks(png):
    at = 8
    while at < len(png):
        size, kind = struct.unpack(">I4s", png[at:at + 8])
        yield kind, png[at + 8:at + 8 + size]
        at += size + 12


def pixels(png):
    """(width, height, rows of RGB) of what the browser makes: 8 bits a sample, not interlaced."""
    parts = list(chunks(png))
    width, height, depth, colour, _, _, laced = struct.unpack(">IIBBBBB", parts[0][1])
    assert (depth, laced) == (8, 0) and colour in (2, 6), "another kind of PNG"
    size = 3 if colour == 2 else 4
    data = zlib.decompress(b"".join(body for kind, body in parts if kind == b"IDAT"))
    before, rows, stride = bytearray(width * size), [], width * size + 1
    for top in range(0, height * stride, stride):
        kind, line = data[top], bytearray(data[top + 1:top + stride])
        for i in range(len(line)):
            left = line[i - size] if i >= size else 0
            up = before[i]
            corner = before[i - size] if i >= size else 0
            if kind == 4:
                guess = left + up - corner
                near = [(abs(guess - each), order, each)
                        for order, each in enumerate((left, up, corner))]
                line[i] = (line[i] + min(near)[2]) & 255
            elif kind:
                line[i] = (line[i] + (left, up, (left + up) // 2)[kind - 1]) & 255
        before = line
        rows.append([bytes(line[i:i + 3]) for i in range(0, len(line), size)])
    return width, height, rows


def palette(rows):
    """At most 256 colours: those that are there most often, and for each other one the nearest."""
    counts = {}
    for row in rows:
        for colour in row:
            counts[colour] = counts.get(colour, 0) + 1
    kept = sorted(counts, key=lambda colour: (-counts[colour], colour))[:256]
    near = {colour: number for number, colour in enumerate(kept)}
    for colour in counts:
        if colour not in near:
            near[colour] = min(range(len(kept)), key=lambda number: sum(
                (a - b) ** 2 for a, b in zip(colour, kept[number])))
    return kept, near


def small(png):
    width, height, rows = pixels(png)
    kept, near = palette(rows)
    raw = b"".join(b"\0" + bytes(near[colour] for colour in row) for row in rows)
    made = b"\x89PNG\r\n\x1a\n"
    for kind, body in [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
                       (b"PLTE", b"".join(kept)), (b"IDAT", zlib.compress(raw, 9)), (b"IEND", b"")]:
        made += struct.pack(">I", len(body)) + kind + body
        made += struct.pack(">I", zlib.crc32(kind + body))
    return made


# --- The pages ---

def login_from(address, port, agent):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20,
                                            source_address=(address, 0))
    connection.request("POST", "/login",
                       json.dumps({"user": "alice", "password": scratch.Server.password}),
                       {"Content-Type": "application/json", "User-Agent": agent})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    assert answer.status == 200, answer.status


def take(person, folder, name):
    person.width(WIDTH, 100)
    for _ in range(2):  # margins grow with the height
        height = max(460, person.js("document.documentElement.scrollHeight") + 8)
        person.width(WIDTH, height)
    for scheme in ("light", "dark"):
        person.scheme(scheme)
        picture = folder / f"page-{name}-{scheme}.png"
        picture.write_bytes(small(person.picture()))
        print(f"{picture}: {picture.stat().st_size} bytes", flush=True)


def kept(folder, chromium):
    with scratch.Server(workers=1, arguments=("--on-login", "keep")) as server:
        for address, agent in [("127.0.0.23", "curl/7.88.1"), ("127.0.0.7", PHONE)]:
            login_from(address, server.port, agent)
        person = chromium.person(server.url, script=False, agent=LAPTOP)
        person.go("/login")
        take(person, folder, "sign-in")
        person.login("alice", server.password)
        take(person, folder, "devices")
        person.go("/password")
        take(person, folder, "password")


def replaced(folder, chromium):
    with scratch.Server(workers=1) as server:
        person = chromium.person(server.url, script=False, agent=LAPTOP)
        person.login("alice", server.password)
        login_from("127.0.0.7", server.port, PHONE)
        person.go("/")
        take(person, folder, "replaced")


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "doc")
    # What the helpers make is in one place, and goes with it.
    place = tempfile.mkdtemp(prefix="screenshots-")
    os.environ["TMPDIR"] = tempfile.tempdir = place
    try:
        with browser.Browser() as chromium:
            kept(folder, chromium)
            replaced(folder, chromium)
    finally:
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
