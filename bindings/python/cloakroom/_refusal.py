# SPDX-License-Identifier: Apache-2.0
"""What a client is told when its session cannot be had or saved, and what the operator is."""

from __future__ import annotations

import logging
import math
from typing import Final

from .errors import CloakroomError, Conflict, Later, SessionEnded

__all__ = ["REFUSED", "refusal", "retry_after"]

REFUSED: Final = (Later, Conflict, SessionEnded)
"""What a client is told by its status."""

_log = logging.getLogger("cloakroom")


def refusal(error: CloakroomError) -> tuple[int, str]:
    """The status and the sentence for a client. What is for the operator goes to the log."""
    if isinstance(error, Later):
        _log.warning("answered 503: %s: %s", type(error).__name__, error, exc_info=error.__cause__)
        return 503, "Not available now. Try again in a moment: nobody has been signed out.\n"
    if isinstance(error, Conflict):
        _log.info("answered 409: %s", error)
        return 409, "Another request changed the same at the same time. Nothing was saved: try again.\n"
    return 401, "The session has ended. Nothing was saved: sign in again.\n"


def retry_after(error: Later) -> str:
    """The value of Retry-After: whole seconds, and never 0."""
    return str(max(1, math.ceil(error.retry_after)))
