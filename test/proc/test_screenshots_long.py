#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: long timeout=600
"""`./dev screenshots` makes what doc/ has and README shows."""

import pathlib
import re
import struct
import sys

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent.parent), str(pathlib.Path(__file__).parent)]
sys.dont_write_bytecode = True
import scratch
import tap

BYTES_MAX = 40000


def size(path):
    """(width, height) of a PNG."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) <= BYTES_MAX, f"{path}: {len(data)} bytes"
    return struct.unpack(">II", data[16:24])


def the_pictures_of_the_pages_can_be_made_again():
    made = scratch.folder("pictures")
    scratch.run([sys.executable, scratch.ROOT / "tools" / "screenshots.py", made], timeout=500)
    names = sorted(path.name for path in made.iterdir())
    kept = sorted(path.name for path in (scratch.ROOT / "doc").glob("page-*.png"))
    shown = re.findall(r"doc/(page-[\w-]+\.png)", (scratch.ROOT / "README.md").read_text(encoding="utf-8"))
    assert names == kept == sorted(set(shown)) and len(names) == 8, f"{names}, {kept}, {shown}"
    for name in names:
        width, height = size(made / name)
        assert width == size(scratch.ROOT / "doc" / name)[0] == 640 and height >= 400, name


tap.main([the_pictures_of_the_pages_can_be_made_again])
