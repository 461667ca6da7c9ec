"""How jobs ended: what they wrote themselves, and what only Slurm knows of those that died without a word."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.record_file import read_record

KILLED_FOR_MEMORY = "OUT_OF_MEMORY"


@dataclass(frozen=True)
class Ending:
    """What a job wrote last."""

    state: str
    """``done``, ``interrupted``, ``elsewhere``, ``input_error`` or ``failed``"""
    error: str


def read_ending(folder: Path, job: str) -> Ending | None:
    """The ending of a job; None while it has none, or died before it could write it."""
    record = read_record(folder / f"{job}.json")
    return Ending(str(record["state"]), str(record["error"])) if {"state", "error"} <= record.keys() else None
