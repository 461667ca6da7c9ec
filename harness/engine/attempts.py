"""Attempts at a trial: making the numbered folder is the lease, what is written into it is the history.

``trials/<key>/attempts/0003/`` belongs to whoever made it; only its owner writes there. A number can be made
once, on a network file system too, so two runners never hold a trial at the same time. An attempt without
``outcome.json`` is open; once its runner is dead the next number may be made. An owner that comes back from
a long silence finds a higher number and gives up.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.engine.runners import Observer, RunnerId
from harness.provenance import now
from harness.record_file import read_record, write_record

FOLDER = "attempts"
LOG_LINES = 20


@dataclass(frozen=True)
class Attempt:
    """One try at one stage of a trial."""

    folder: Path

    @property
    def number(self) -> int:
        """Counted from 1 over all stages of the trial."""
        return int(self.folder.name)

    @property
    def log(self) -> Path:
        """What the trial's process printed on standard error."""
        return self.folder / "log"

    def owner(self) -> dict[str, Any]:
        """Who tries what: the runner's fields, ``stage``, ``cells``, ``executor``, ``since``."""
        return read_record(self.folder / "owner.json")

    def job(self) -> dict[str, Any]:
        """What its process was told; empty before it was."""
        return read_record(self.folder / "job.json")

    def progress(self) -> dict[str, Any]:
        """How far it is; empty before the first sign."""
        return read_record(self.folder / "progress.json")

    def outcome(self) -> dict[str, Any] | None:
        """How it ended; None while it is open."""
        return read_record(self.folder / "outcome.json") or None

    def write_progress(self, progress: dict[str, Any]) -> None:
        """Replace what :meth:`progress` tells."""
        write_record(self.folder / "progress.json", progress)

    def close(self, outcome: dict[str, Any]) -> None:
        """Say how it ended; the last thing its owner writes."""
        write_record(self.folder / "outcome.json", outcome)

    def is_last(self) -> bool:
        """Whether nobody has taken the trial over."""
        return not (self.folder.parent / _name(self.number + 1)).is_dir()

    def last_log_lines(self, lines: int = LOG_LINES) -> str:
        """The end of the log; of a long log only its last 64 KiB are read."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - 65536))
                text = log.read().decode("utf-8", errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])


def attempts_of(trial_folder: Path) -> list[Attempt]:
    """All attempts at a trial, oldest first."""
    try:
        found = [Attempt(path) for path in (trial_folder / FOLDER).iterdir() if path.name.isdigit()]
    except OSError:
        return []
    return sorted(found, key=lambda attempt: attempt.number)


def is_open(attempt: Attempt, observer: Observer) -> bool:
    """Whether its runner is still at it."""
    if attempt.outcome() is not None:
        return False
    try:
        return observer.is_alive(RunnerId.from_record(attempt.owner()))
    except KeyError:
        return False  # not a record of ours: nobody can be at it


def claim(
    trial_folder: Path,
    runner: RunnerId,
    observer: Observer,
    stage: str,
    cells: list[str],
    executor: str,
    processes: int = 1,
) -> Attempt | None:
    """Begin an attempt; None if another runner is at this trial, or was quicker.

    Args:
        cells: keys of those that it is to do.
        processes: that are to share it.
    """
    attempts = attempts_of(trial_folder)
    if attempts and is_open(attempts[-1], observer):
        return None
    folder = trial_folder / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    number = attempts[-1].number + 1 if attempts else 1
    told = {"stage": stage, "cells": cells, "executor": executor, "processes": processes}
    record = {**asdict(runner), **told, "since": now()}
    draft = folder / f".{_name(number)}.{uuid.uuid4().hex}"
    draft.mkdir()
    try:
        (draft / "owner.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
        # A folder that is not empty cannot be replaced: of several claims to a number one succeeds.
        draft.rename(folder / _name(number))
    except OSError:
        if not (folder / _name(number)).is_dir():
            raise
        return None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Attempt(folder / _name(number))


def _name(number: int) -> str:
    return f"{number:04d}"
