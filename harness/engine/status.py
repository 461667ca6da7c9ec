"""``python -m harness status``: sweeps at a glance, while they run and afterwards, from what is on disk."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from tabulate import tabulate

from harness.engine.attempts import Attempt, attempts_of, is_open
from harness.engine.manifest import Manifest, ManifestTrial, PlannedFiles, load_manifests
from harness.engine.processes import duration
from harness.engine.runners import Observer
from harness.engine.states import FAILURES, STATES, CellStates, State
from harness.provenance import code_versions, score_versions
from model.errors import InputError

WATCH_SECONDS = 2.0


@dataclass(frozen=True)
class Running:
    """A trial that a living runner is at."""

    label: str
    runner: str
    executor: str
    since: str
    at: str
    loss: float | None
    seconds_left: float | None
    """Of the training; None where it has none, or its pace is not known yet"""


@dataclass(frozen=True)
class Trouble:
    """A trial that did not end well, with its newest word on why."""

    label: str
    state: State
    cells: int
    error: str
    log: str


@dataclass
class SweepStatus:
    """One sweep at a glance."""

    name: str
    title: str
    cells: dict[str, int]
    """State -> cells, in the order of :data:`STATES`"""
    trained: int
    trials: int
    running: list[Running] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What else there is to say"""
    steps_left: int = 0
    seconds_per_step: float | None = None
    """Mean over trainings of this sweep that run or are done; None while there is none"""

    @property
    def complete(self) -> bool:
        """Whether every cell has its number."""
        return self.cells.get("done", 0) == sum(self.cells.values())

    @property
    def seconds_left(self) -> float | None:
        """Of the trainings, at the pace and number of those that run now."""
        if self.seconds_per_step is None or not self.running:
            return None
        training = sum(running.seconds_left is not None for running in self.running)
        return self.steps_left * self.seconds_per_step / max(1, training)


def find_sweeps(results: Path, wanted: str | None) -> tuple[list[Manifest], list[str]]:
    """The sweeps of a results folder, or those that a name, ``name/scale`` or a sweep file means.

    Raises :class:`InputError` when there is none.
    """
    found, spoilt = load_manifests(results)
    if wanted is None:
        if spoilt and not found:
            raise InputError(spoilt[0])
        if not found:
            raise InputError(f"--results {results}: no sweep was run here; see `python run_sweep.py --help`")
        return found, spoilt
    meant = [each for each in found if wanted in (each.name, each.sweep, each.sweep_file)]
    if not meant:
        known = ", ".join(each.name for each in found) or "none"
        raise InputError(f"{wanted}: no run of this sweep in {results}; there are: {known}")
    return meant, spoilt


def look(manifest: Manifest, results: Path, observer: Observer) -> SweepStatus:
    """Where a sweep stands now."""
    states = CellStates(PlannedFiles(results, manifest))
    counts: Counter[str] = Counter()
    status = SweepStatus(manifest.name, manifest.title, {}, 0, len(manifest.trials))
    paces: list[float] = []
    status.notes += [str(odd) for odd in states.reread(*manifest.trials)]
    here = {**dict(zip(("training", "evaluation"), code_versions(), strict=True)), **score_versions()}
    if any(here.get(name) != version for name, version in manifest.code.items()):
        status.notes.append("planned by other code than this checkout's: a run does anew what depends on it")
    for trial in manifest.trials:
        found = states.states(trial, observer)
        for key in states.unfinished(trial):
            if found[key] == "done":  # its files are there, its row is not: a run writes it
                found[key] = "pending"
        counts.update(found.values())
        status.trained += states.plan.is_trained(trial)
        if all(state == "done" for state in found.values()):
            continue
        attempts = attempts_of(states.plan.trial_folder(trial))
        last = attempts[-1] if attempts else None
        trains = states.plan.trains and not states.plan.is_trained(trial)
        done = int(last.progress().get("done", 0)) if last else 0
        status.steps_left += max(0, trial.steps - done) if trains else 0
        if last is not None and is_open(last, observer):
            status.running.append(_running(trial, last, trains))
            paces += [pace for pace in [last.progress().get("seconds_per_step")] if pace]
        status.troubles += _troubles(trial, found, attempts)
    paces = paces or _paces(states.plan, manifest)
    status.seconds_per_step = sum(paces) / len(paces) if paces else None
    status.cells = {state: counts[state] for state in STATES if counts[state]}
    return status


def _running(trial: ManifestTrial, attempt: Attempt, trains: bool) -> Running:
    owner, progress = attempt.owner(), attempt.progress()
    at, video = str(progress.get("name", "starting")), progress.get("video")
    left = None
    if video:
        at += f" video {video['done']}/{video['of']}"
    elif trains and "done" in progress:
        at += f" {progress['done']}/{trial.steps}"
        pace = progress.get("seconds_per_step")
        left = (trial.steps - progress["done"]) * pace if pace else None
    return Running(
        trial.label,
        f"{owner['host']} {owner['pid']}",
        str(owner.get("executor", "")),
        str(owner.get("since", "")),
        at,
        progress.get("loss"),
        left,
    )


def _troubles(trial: ManifestTrial, found: dict[str, State], attempts: list[Attempt]) -> list[Trouble]:
    """One line for each state of a trial that is no good end."""
    troubles = []
    for state in ("interrupted", *FAILURES):
        cells = sum(each == state for each in found.values())
        if not cells:
            continue
        told = [attempt for attempt in attempts if (attempt.outcome() or {}).get("state") == state]
        error = str((told[-1].outcome() or {}).get("error") or "") if told else ""
        if state == "interrupted" and not error:
            error = "the same command goes on with it"
        log = str((told or attempts)[-1].log) if attempts else ""
        troubles.append(Trouble(trial.label, cast(State, state), cells, error, log))
    return troubles


def _paces(files: PlannedFiles, manifest: Manifest) -> list[float]:
    """Seconds per step of the sweep's finished trainings."""
    found = []
    for trial in manifest.trials:
        record = files.training(trial)
        if record is not None:
            found.append(float(record["train_seconds"]) / trial.steps)
    return found


def show_status(statuses: Sequence[SweepStatus], console: Console) -> None:
    """Print sweeps one below the other."""
    for status in statuses:
        total = sum(status.cells.values())
        counts = ", ".join(f"{count} {state}" for state, count in status.cells.items())
        console.print(f"{status.name}: {status.title}", markup=False, style="bold")
        trained = f"{status.trained} of {status.trials} trials trained"
        console.print(f"  {total} cells: {counts}; {trained}{_left(status)}", markup=False)
        for note in status.notes:
            console.print(f"  {note}", markup=False)
        if status.running:
            heads = ["running", "runner", "executor", "since", "at", "loss", "left"]
            _print_table([_row(running) for running in status.running], heads, console)
        if status.troubles:
            rows = [[each.label, each.state, each.cells, each.error, each.log] for each in status.troubles]
            _print_table(rows, ["not done", "state", "cells", "why", "log"], console)
        console.print()


def watch(look: Callable[[], list[SweepStatus]], console: Console) -> list[SweepStatus]:
    """Look every two seconds, until nothing runs any more; on a terminal in place."""
    while True:
        found = look()
        if console.is_terminal:
            console.clear()
        show_status(found, console)
        if not any(status.running for status in found):
            return found
        time.sleep(WATCH_SECONDS)


def as_json(statuses: Sequence[SweepStatus]) -> str:
    """The same for programs."""
    return json.dumps([{**asdict(each), "complete": each.complete} for each in statuses], indent=1)


def _left(status: SweepStatus) -> str:
    seconds = status.seconds_left
    if seconds is None or not status.steps_left:
        return ""
    return f"; {status.steps_left} training steps left, about {about(seconds)}"


def _row(running: Running) -> list[Any]:
    loss = "" if running.loss is None else f"{running.loss:.3f}"
    left = "" if running.seconds_left is None else about(running.seconds_left)
    return [running.label, running.runner, running.executor, _ago(running.since), running.at, loss, left]


def _ago(since: str) -> str:
    try:
        passed = (datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds()
    except (ValueError, TypeError):
        return since
    return about(max(0.0, passed))


def about(seconds: float) -> str:
    """A time to the precision that a guess deserves: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return duration(round(seconds))
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _print_table(rows: list[list[Any]], heads: list[str], console: Console) -> None:
    text = tabulate(rows, heads, tablefmt="plain", disable_numparse=True)
    for line in text.splitlines():
        console.print(f"    {line}", markup=False)
