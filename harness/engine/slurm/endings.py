"""How jobs ended: what they wrote themselves, and what only Slurm knows of those that died without a word."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from harness.engine.attempts import Attempt, attempts_of, is_open
from harness.engine.plan import Plan
from harness.engine.runners import Observer
from harness.provenance import now
from harness.sweep import Trial

KILLED_FOR_MEMORY = "OUT_OF_MEMORY"


@dataclass(frozen=True)
class Ending:
    """What a job wrote last."""

    state: str
    """``done``, ``interrupted``, ``elsewhere``, ``input_error`` or ``failed``"""
    error: str


def read_ending(folder: Path, job: str) -> Ending | None:
    """The ending of a job; None while it has none, or died before it could write it."""
    try:
        record = json.loads((folder / f"{job}.json").read_text(encoding="utf-8"))
        return Ending(str(record["state"]), str(record["error"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def left_open(plan: Plan, trial: Trial, observer: Observer) -> Attempt | None:
    """The trial's last attempt if its runner died over it."""
    attempts = attempts_of(plan.trial_folder(trial))
    if not attempts or attempts[-1].outcome() is not None or is_open(attempts[-1], observer):
        return None
    return attempts[-1]


def close_for_memory(plan: Plan, trial: Trial, attempt: Attempt, job: str) -> None:
    """Write the outcome of an attempt whose job Slurm has ended for want of memory: that is a result.

    Any other sudden end (node lost, time limit) says nothing about the trial: it counts as interrupted.
    """
    owner = attempt.owner()
    attempt.close(
        {
            "state": "oom",
            "error": f"Slurm job {job} ended {KILLED_FOR_MEMORY}",
            "input_error": False,
            "training": plan.trains and not plan.is_trained(trial),
            "cells": owner.get("cells", []),
            "log_tail": attempt.last_log_lines(),
            "started": owner.get("since"),
            "finished": now(),
            "seconds": None,
            "devices": None,
            "peak_memory_gb": None,
            "peak_memory_kind": None,
            "machine": {},
        }
    )
