"""Ctrl-C and SIGTERM, told in one line: what an interrupted command has left."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class InterruptedRunError(Exception):
    """Ctrl-C or SIGTERM; the message says what is left."""


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """SIGTERM raises ``KeyboardInterrupt``, so that files are closed and the end is told as after Ctrl-C."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def what_is_left(out: Path) -> str:
    """Of an interrupted command that writes at its end into a folder, which it removes while it is empty."""
    if not out.exists():
        return "nothing was written"
    return f"{out} may hold a part; --force begins it anew"


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
