"""How far a command is, on standard error, now and then."""

from __future__ import annotations

import sys
import time

EVERY_S = 5.0
"""Between two lines"""


class Progress:
    """Called with frames that are done, and of how many where that is known; ``ending`` says what is done."""

    def __init__(self, ending: str) -> None:
        self.done = 0
        self._ending = ending
        self._said = time.monotonic()

    def __call__(self, done: int, of: int | None) -> None:
        self.done = done
        if time.monotonic() - self._said >= EVERY_S:
            self._said = time.monotonic()
            print(f"{done} frames{f' of {of}' if of else ''} {self._ending}", file=sys.stderr)
