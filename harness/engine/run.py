"""The road of one sweep: train and evaluate, time, write rows.

Nothing here knows what a model is: a trial is a job file for a process, and a folder of results.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from harness.engine.plan import Plan, Stage
from harness.engine.processes import ProcessJob, run_jobs
from harness.engine.progress import TrialProgress, WorkLeft, show
from harness.provenance import (
    EVALUATION_CODE,
    TRAINING_CODE,
    code_version,
    git_state,
    hardware,
    machine,
    now,
)
from harness.store import METRIC_COLUMNS, SCHEMA_VERSION, row_status, set_aside, write_row
from harness.sweep import Cell, Trial, trial_cells
from model.errors import InputError

ALONE: tuple[Stage, ...] = ("time",)
"""Stages that run one process at a time: another one beside it would slow what is measured."""
INPUT_ERROR_STATUS = 2


class Runner:
    """Does what a plan still misses, and keeps the rows on disk true all the while."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self.plan = plan
        self.console = console
        self.cells = list(trial_cells(list(plan.trials)))
        needed = plan.measured_columns()
        states = {cell.key: row_status(plan.rows, cell.key, needed) for _, cell in self.cells}
        self.status = {key: state for key, state in states.items() if state is not None}
        self.code = {"code_version": f"{code_version(TRAINING_CODE)}-{code_version(EVALUATION_CODE)}"}

    def run(self) -> bool:
        """Run to the end; True when every cell is done.

        Raises :class:`InputError` when a trial refuses its input, after ending the other trials.
        """
        finished = ("done",) if self.plan.options.retry else ("done", "failed")
        trials = [
            trial
            for trial in self.plan.trials
            if any(self.status.get(cell.key) not in finished for cell in trial.cells)
        ]
        if trials:
            with alone_in(self.plan.options.results):
                remove_drafts(self.plan.options.results)
                set_aside(self.plan.rows, {cell.key for _, cell in self.cells})
                self._run_stages(trials)
        return self.complete()

    def complete(self) -> bool:
        """Whether every cell has its number."""
        return all(self.status.get(cell.key) == "done" for _, cell in self.cells)

    def _run_stages(self, trials: list[Trial]) -> None:
        plan = self.plan
        self.code |= git_state()
        cache = plan.options.results / "datasets"
        data = plan.source.root(cache, self._generating()) if plan.trains else cache
        workers = plan.options.workers or default_workers(plan)
        untrained = [t for t in trials if not plan.is_trained(t)] if plan.trains else []
        steps = sum(trial.config.train.steps for trial in untrained)
        cells = sum(len(plan.without(trial, stage)) for trial in trials for stage in plan.stages)
        with show(self.console, WorkLeft(steps, cells, workers)) as progress:
            self._update_rows(trials, progress)
            for stage in plan.stages:
                left = [trial for trial in trials if plan.without(trial, stage)]
                if stage == "time":  # needs weights that were scored
                    left = [trial for trial in left if not plan.without(trial, "train_evaluate")]
                self._run_stage(stage, left, data, 1 if stage in ALONE else workers, progress)

    def _run_stage(
        self, stage: Stage, trials: list[Trial], data: Path, workers: int, progress: TrialProgress
    ) -> None:
        """Run one stage of these trials; failures become rows, refused input ends the sweep."""
        plan = self.plan
        jobs = {trial.label(): trial for trial in trials}
        threads = stage_threads(plan, stage)
        processes = [
            ProcessJob(
                label,
                "harness.trial",
                self._write_job(stage, trial, data, threads),
                plan.trial_folder(trial) / f"{stage}.log",
                threads,
            )
            for label, trial in jobs.items()
        ]

        def listen(job: ProcessJob, event: dict[str, Any]) -> None:
            progress.event(job.name, event)
            if event["event"] == "cell" or (
                event["event"] == "end" and event["status"] != INPUT_ERROR_STATUS
            ):
                self._update_rows([jobs[job.name]], progress, event.get("error"))

        for label, outcome in run_jobs(processes, workers, listen).items():
            if outcome.status == INPUT_ERROR_STATUS:
                raise InputError(outcome.error or f"{label}: refused its input")

    def _write_job(self, stage: Stage, trial: Trial, data: Path, threads: int) -> Path:
        folder = self.plan.trial_folder(trial)
        folder.mkdir(parents=True, exist_ok=True)
        wanted = self.plan.without(trial, stage)
        initial = self.plan.weights.file(trial.config)
        job = {
            "stage": stage,
            "trial": trial.key,
            "seed": trial.seed,
            "folder": str(folder.resolve()),
            "data": str(data.resolve()),
            "initial_weights": None if initial is None else str(initial.resolve()),
            "config": trial.config.model_dump(mode="json"),
            "cells": [{"key": cell.key, "config": cell.config.model_dump(mode="json")} for cell in wanted],
            "device": self.plan.options.device,
            "threads": threads,
        }
        path = folder / f"{stage}.job.json"
        path.write_text(json.dumps(job, indent=1), encoding="utf-8")
        return path

    def _update_rows(self, trials: list[Trial], progress: TrialProgress, error: str | None = None) -> None:
        """Write the row of every cell of these trials that is complete, or that failed."""
        for trial in trials:
            for cell in trial.cells:
                if self.status.get(cell.key) == "done":
                    continue
                found = self._measurements(trial, cell)
                if found is not None:
                    self._write_row(trial, cell, "done", None, found)
                elif error is not None:
                    self._write_row(trial, cell, "failed", error, self._host())
        progress.cells(sum(self.status.get(cell.key) == "done" for _, cell in self.cells), len(self.cells))

    def _measurements(self, trial: Trial, cell: Cell) -> dict[str, Any] | None:
        """What the cell's files say, None while one is missing."""
        records = [self.plan.record(trial, cell, stage) for stage in self.plan.stages]
        if None in records or (self.plan.trains and not self.plan.is_trained(trial)):
            return None
        found: dict[str, Any] = {}
        for record in records:
            found |= record or {}
        if not self.plan.trains:
            return found
        trained = json.loads((self.plan.trial_folder(trial) / "trial.json").read_text(encoding="utf-8"))
        found |= {name: trained[name] for name in ("train_started", "train_finished", "train_seconds")}
        return found | {"train_hardware": trained["hardware"], "train_threads": trained["threads"]}

    def _host(self) -> dict[str, Any]:
        """What a failed trial ran on."""
        chosen = device(self.plan.options.device)
        return {"device": chosen, "hardware": hardware(chosen), **machine()}

    def _write_row(
        self, trial: Trial, cell: Cell, status: str, error: str | None, found: dict[str, Any]
    ) -> None:
        """One parquet row: what it is, what was measured, where it comes from."""
        plan = self.plan
        row = {
            "schema_version": SCHEMA_VERSION,
            "sweep": plan.sweep.name,
            "scale": plan.scale.name,
            "trial": trial.key,
            "cell": cell.key,
            "status": status,
            "error": error,
            "seed": trial.seed,
            **dict(cell.varied),
            **{name: found.pop(name, None) for name in METRIC_COLUMNS},
            "config": cell.config.model_dump_json(),
            "data_name": plan.source.name,
            "data_kind": plan.source.config.kind,
            "data_description": plan.source.description,
            "split": cell.config.data.valid,
            "initial_weights": plan.weights.name(cell.config) if plan.trains else None,
            "train_data": plan.source.train_identity,
            "valid_data": plan.source.valid_identity,
            **self.code,
            **dict(sorted(found.items())),
            "finished": now(),
        }
        write_row(plan.rows, row)
        self.status[cell.key] = status

    def _generating(self) -> Callable[[int, int], None]:
        """Progress of the generator: a line at the start and one at the end."""

        def say(done: int, total: int) -> None:
            if done in (1, total):
                self.console.print(f"embedded data: video {done} of {total}", highlight=False)

        return say


def remove_drafts(results: Path) -> None:
    """Remove what a killed run had begun to write; call it while no other run works here."""
    for pattern in ("datasets/.synthetic-*", "trials/*/.*", "trials/*/cells/*/.*"):
        for draft in results.glob(pattern):
            shutil.rmtree(draft) if draft.is_dir() else draft.unlink()


def device(wanted: str) -> str:
    """What ``auto`` comes to, for planning; the trial asks torch itself."""
    if wanted != "auto":
        return wanted
    # An NVIDIA driver shows itself here; asking torch would cost this process seconds.
    return "cuda" if Path("/proc/driver/nvidia/version").is_file() else "cpu"


def default_workers(plan: Plan) -> int:
    """Trials at a time: as many as the cores carry, or one on a GPU."""
    if device(plan.options.device) != "cpu":
        return 1
    return max(1, cores() // stage_threads(plan, "train_evaluate"))


def stage_threads(plan: Plan, stage: Stage) -> int:
    """Threads of one process: the recipe's for training, all cores for timing."""
    wanted = plan.trials[0].config.train.threads
    return wanted if stage not in ALONE and wanted is not None else cores()


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def alone_in(results: Path) -> Iterator[None]:
    """Only one runner at a time works in a results folder."""
    try:
        results.mkdir(parents=True, exist_ok=True)
        lock_file = (results / ".lock").open("w")
    except OSError as error:
        raise InputError(f"--results {results}: cannot be written to ({error.strerror})") from None
    with lock_file as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            message = (
                f"--results {results}: another run works in this folder; wait for it or name another folder"
            )
            raise InputError(message) from None
        yield
