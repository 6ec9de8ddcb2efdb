# SPDX-License-Identifier: Apache-2.0
"""The command `cloakroom`, also `python -m cloakroom`: the program that this package has with it."""

import os
import sys
from typing import NoReturn

from ._room import _carried

__all__ = ["main"]


def main() -> NoReturn:
    """Becomes the program; does not return."""
    program = _carried()
    if program is None:
        sys.exit("cloakroom: this package was built without its program: build it with bindings/python/setup.py")
    os.execv(program, ["cloakroom", *sys.argv[1:]])


if __name__ == "__main__":
    main()
