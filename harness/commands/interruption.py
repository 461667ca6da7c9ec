"""Ctrl-C, told in one line: what an interrupted command has left."""

from __future__ import annotations


class InterruptedRunError(Exception):
    """Ctrl-C or SIGTERM; the message says what is left."""
