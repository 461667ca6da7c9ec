"""A sentence of a caption, and the small words that sentences are made with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sentence:
    """Plain text, escaped by whoever prints it."""

    text: str
    loud: bool = False
    """A warning: whoever prints it makes it bold"""
    note: bool = True
    """May stand below the table, in small print; False belongs above it, to the title"""


def listed(names: list[str]) -> str:
    """``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def count(number: int, thing: str) -> str:
    """``1 seed``, ``2 seeds``."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def stop(text: str) -> str:
    """The text with a full stop, unless it has one."""
    return text if text.endswith((".", "!", "?")) else f"{text}."
