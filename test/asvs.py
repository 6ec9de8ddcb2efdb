# SPDX-License-Identifier: Apache-2.0
"""test/asvs.tsv, read: which test shows a row of the security checklist, and what breaks it."""

import dataclasses
import pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
TABLE = ROOT / "test" / "asvs.tsv"
COLUMNS = ("row", "program", "test", "file", "before", "after")


@dataclasses.dataclass(frozen=True)
class Row:
    row: str  # A1
    program: str  # as tools/run_tests.py names it: unit/test_token
    test: str
    file: str
    before: str  # a piece of one line, there once
    after: str
    line: int  # of the table

    @property
    def name(self):
        return f"{self.row}_{self.line}_{self.test}"


def rows():
    for number, line in enumerate(TABLE.read_text(encoding="utf-8").splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        fields = line.split("\t")
        assert len(fields) == len(COLUMNS), f"{TABLE.name}:{number}: {len(fields)} columns"
        yield Row(*fields, line=number)


def script(row):
    """The test's source where it is a script, else None."""
    path = ROOT / "test" / f"{row.program}.py"
    return path if path.is_file() else None
