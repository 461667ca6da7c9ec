"""The commands that repeat one trial, with the code that it ran with."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.memory_budget import spelled
from harness.provenance import cpu_name
from harness.show.find import Found, Use

FOLDERS = ("--results", "repeat/results", "--reports", "repeat/reports")
"""Beside what is there; ignored by git, so that repeating leaves the checkout clean"""


@dataclass(frozen=True)
class Repeat:
    """Lines for a shell, and what stands between them and the same result."""

    commands: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def repeat(found: Found, records: Iterable[Mapping[str, Any]], processes: int = 1) -> Repeat:
    """How to repeat a trial.

    Args:
        records: what its training and its evaluations left (``trial.json``, ``metrics.json``, ...), in the
            order of time. Where they ran at different commits, the sweep is run at each: a training whose
            code did not change since is kept.
        processes: that shared the training; sums in another order round differently.
    """
    if not found.uses:
        return Repeat(warnings=["no sweep's _plan.json names this trial: its command is not known"])
    use = found.uses[0]
    run = sweep_command(use, processes)
    commands: list[str] = []
    warnings: list[str] = []
    commits: list[str] = []
    for record in records:
        if record.get("device") == "cpu" and record.get("cpu") not in (None, cpu_name()):
            warnings.append(
                f"it ran on {record['cpu']}, here is {cpu_name()}: "
                "sums may round differently, and a training then ends elsewhere"
            )
        commit = record.get("git_commit")
        if commit is None:
            warnings.append(
                f"the code was no git checkout; its version: {use.manifest.code.get('training')} (training), "
                f"{use.manifest.code.get('evaluation')} (evaluation)"
            )
            continue
        if record.get("git_dirty"):
            hashed = record.get("git_diff_hash") or "not known"
            warnings.append(
                f"the code differed from commit {commit[:12]} (hash of the difference: {hashed}): "
                "it cannot be repeated exactly"
            )
        if commits[-1:] != [commit]:
            commits.append(commit)
            commands += [f"git checkout {commit}", run]
    for file in (use.manifest.sweep_file, use.manifest.scale_argument):
        if file.endswith((".yaml", ".yml")) and not Path(file).is_file():
            warnings.append(f"{file} is not there from this folder")
    return Repeat(commands or [run], list(dict.fromkeys(warnings)))


def sweep_command(use: Use, processes: int = 1) -> str:
    """``run_sweep.py`` for this one trial, quoted for a shell."""
    manifest = use.manifest
    words = ["python", "run_sweep.py", manifest.sweep_file, "--scale", manifest.scale_argument]
    options = {
        "--data": manifest.data,
        "--split": manifest.split,
        "--weights": manifest.weights,
        "--seeds": manifest.seeds,
        "--memory-budget": None if manifest.memory_budget is None else spelled(manifest.memory_budget),
    }
    for option, value in options.items():
        if value is not None:
            words += [option, value]
    if processes > 1:
        words += ["--processes", str(processes)]
    return shlex.join([*words, "--device", manifest.device, "--only", use.trial.only, *FOLDERS])
