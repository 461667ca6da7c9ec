"""What Slurm says of jobs, and what we have written down of them. Accounting (``sacct``) is not needed."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.record_file import read_record, write_record

ENDED = frozenset(
    ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT")
)
"""States that a job does not leave by itself; PREEMPTED and REQUEUED are left"""
ASK_SECONDS = 60.0


@dataclass(frozen=True)
class Submission:
    """One array of jobs, as written to ``_slurm/<array>.json``."""

    array: str
    """Slurm's number of the array, or of the job that is alone"""
    stages: tuple[str, ...]
    jobs: dict[str, str]
    """Job, such as ``120_4`` -> trial key"""
    labels: dict[str, str]
    """Job -> what people call the trial"""
    submitted: str
    parameters: dict[str, Any]

    def write(self, folder: Path) -> None:
        """Keep it in the sweep's folder."""
        write_record(folder / f"{self.array}.json", asdict(self))


def submissions(folder: Path) -> list[Submission]:
    """All that were ever made for this sweep, oldest first; a damaged record is left out."""
    found = []
    for file in folder.glob("*.json"):
        try:
            record = read_record(file)
            found.append(Submission(**{**record, "stages": tuple(record["stages"])}))
        except (TypeError, KeyError):
            continue
    return sorted(
        found, key=lambda submission: (submission.submitted, len(submission.array), submission.array)
    )


@dataclass(frozen=True)
class JobState:
    """A job as ``squeue`` shows it."""

    state: str
    reason: str

    @property
    def lives(self) -> bool:
        """Whether it runs, or will."""
        return self.state not in ENDED


def ask_queue() -> dict[str, JobState] | None:
    """Our user's jobs, ended ones for as long as Slurm keeps them (minutes); None if it does not answer."""
    user = pwd.getpwuid(os.getuid()).pw_name
    command = ["squeue", "--noheader", "--array", "--states=all", f"--user={user}"]
    command += ["--format=%F|%K|%T|%r"]  # array or job, index in it, state, reason
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ASK_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return read_queue(done.stdout)


def read_queue(text: str) -> dict[str, JobState]:
    """Job -> state, from lines ``array|index|state|reason``."""
    found = {}
    for line in text.splitlines():
        array, index, state, reason = line.strip().split("|", 3)
        found[f"{array}_{index}" if index.isdigit() else array] = JobState(state, reason)
    return found


def summary(states: Iterable[JobState]) -> str:
    """Such as ``2 running, 5 pending (Resources)``."""
    counts = Counter(
        state.state.lower() + (f" ({state.reason})" if state.state == "PENDING" else "") for state in states
    )
    return ", ".join(f"{count} {what}" for what, count in sorted(counts.items(), reverse=True))


def cancel(jobs: Sequence[str]) -> None:
    """Ask Slurm to end jobs; those that have ended are no error."""
    if jobs:
        subprocess.run(["scancel", *jobs], capture_output=True, timeout=ASK_SECONDS, check=False)
