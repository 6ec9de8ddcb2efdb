# SPDX-License-Identifier: Apache-2.0
"""Where this runs. Read by the package and by what installs it, which imports nothing else of it."""

import sys

__all__ = ["why_not_here"]


def why_not_here() -> str | None:
    """Why this system is none on which Cloakroom runs, and what to do; None where it is one."""
    if sys.platform == "linux":
        return None
    return (
        f"cloakroom shares memory between processes as Linux does it, and this is {sys.platform}. Run the"
        " application in a Linux container (packaging/compose.debug.yaml is one to begin with); tests can"
        " run there, too."
    )
