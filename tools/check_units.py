#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What systemd thinks of the units in packaging/systemd: that it understands them, and how exposed the
service is (`systemd-analyze security`, 0 to 10), which may not be more than the bound. Asks no
systemd that runs."""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
UNITS = ROOT / "packaging" / "systemd"
PROGRAM = pathlib.Path(os.environ.get("CLOAKROOM_BUILD") or ROOT / "build") / "cloakroom"
EXPOSURE_MAX = 1.0


def analyze(*words):
    return subprocess.run(["systemd-analyze", "--no-pager", *map(str, words)], text=True, check=False, timeout=60,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          env={**os.environ, "SYSTEMD_COLORS": "0", "SYSTEMD_EMOJI": "0"})


def exposure(unit):
    """(its number, what systemd-analyze said)"""
    said = analyze("security", "--offline=true", unit).stdout
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert found, said
    return float(found.group(1)), said


def misunderstood(units):
    """What systemd does not understand of them. The program need not be where a package puts it."""
    with tempfile.TemporaryDirectory() as home:
        for unit in units:
            text = unit.read_text(encoding="utf-8").replace("/usr/bin/cloakroom", str(PROGRAM))
            (pathlib.Path(home) / unit.name).write_text(text, encoding="utf-8")
        done = analyze("verify", "--man=no", *(pathlib.Path(home) / unit.name for unit in units))
    # Also warnings, such as of a directive that it does not know.
    return done.stdout if done.returncode != 0 or done.stdout.strip() else ""


def main():
    units = sorted([*UNITS.glob("*.service"), *UNITS.glob("*.socket")])
    bad = misunderstood(units)
    print(bad, end="")
    for unit in units:
        if unit.suffix != ".service":
            continue
        number, said = exposure(unit)
        print(f"{unit.name}: exposure {number} of 10, at most {EXPOSURE_MAX}")
        if number > EXPOSURE_MAX:
            print(said, end="")
            bad = "exposed"
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
