"""One stage of one trial, from the claim to the outcome: what every executor does on its machine."""

from __future__ import annotations

import json
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.engine.attempts import Attempt, claim
from harness.engine.ledger import Ledger
from harness.engine.processes import Command, Ended, Limits, supervise
from harness.engine.runners import SILENCE_SECONDS, Observer, Runner
from harness.engine.seats import Seat, cores, on_this_machine
from harness.engine.states import FAILURES
from harness.engine.trial_files import RECORDS, Stage
from harness.provenance import code_versions, hardware, machine, now
from harness.sweep import Cell, Trial
from model.errors import InputError

ALONE: tuple[Stage, ...] = ("time", "model")
"""Stages that run one process at a time on a machine: another one beside it would slow what is measured."""
PROGRESS_SECONDS = 2.0
LOOK_SECONDS = 2.0
"""Between two looks at a trial that another runner is at"""
FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that somebody sends; the others are a process's own doing"""

RANK_ENDED = re.compile(r"Root Cause \(first observed failure\):.*?exitcode\s*: -(\d+) \(pid", re.DOTALL)
"""How torchrun's log tells of the process that ended first, where a signal ended it"""

Listener = Callable[[str, dict[str, Any]], None]
"""Called with a trial's label and each event of its process, and our own ``start`` and ``end``."""


@dataclass
class Work:
    """What the trials of one run have in common; travels to other machines as it is."""

    ledger: Ledger
    data: Mapping[str, Path]
    """Folder of each data set by its name"""
    threads: int
    """Of a training process on the CPU"""
    processes: int = 1
    """Of one training; several share its batches"""
    limits: Limits = field(default_factory=Limits)
    executor: str = "local"
    loggers: tuple[str, ...] = ()
    code: tuple[str, str] = field(default_factory=code_versions)
    """Of training and evaluation, as it was when the run was planned"""

    def part(self, trial: Trial) -> Work:
        """What the job of one trial needs on another machine."""
        data = {name: folder.resolve() for name, folder in self.data.items()}
        return replace(self, ledger=self.ledger.part(trial), data=data)


@dataclass
class Station:
    """Who does it: this process as a runner, its view of others, its wish to end, whom it tells."""

    runner: Runner
    observer: Observer
    stop: threading.Event
    listen: Listener = lambda label, event: None


def attempt_stage(work: Work, trial: Trial, stage: Stage, seat: Seat, station: Station) -> str | None:
    """Try a stage of a trial once; its rows are written as soon as they are known.

    Returns the state it ended in, None if another runner is at it or there was nothing left to do.
    Raises :class:`InputError` when the trial refuses its input: a person has to mend something first.
    """
    ledger = work.ledger
    folder = ledger.plan.trial_folder(trial)
    with on_this_machine(ledger.plan.options.results, stage in ALONE, station.stop) as had:
        keys = ledger.left(trial, stage, station.observer) if had else []
        if not keys:
            return None
        cells = [cell for cell in trial.cells if cell.key in keys]
        trains = stage == "train_evaluate" and not ledger.plan.is_trained(trial)
        processes = work.processes if trains else 1
        who, observer = station.runner.id, station.observer
        attempt = claim(folder, who, observer, stage, keys, work.executor, processes)
        if attempt is None:
            return None
        _remove_drafts(folder)
        station.listen(trial.label(), {"event": "start"})
        outcome = _Process(work, trial, stage, cells, attempt, station).run(seat, processes)
    if outcome is None:
        lost = {"event": "end", "state": "interrupted", "error": "taken over by another runner"}
        station.listen(trial.label(), lost)
        return None
    attempt.close(outcome)
    ledger.update(trial, station.observer)
    station.listen(trial.label(), {"event": "end", "state": outcome["state"], "error": outcome["error"]})
    if outcome["input_error"]:
        raise InputError(outcome["error"])
    return str(outcome["state"])


def work_on(work: Work, trial: Trial, stages: Sequence[Stage], seat: Seat, stop: threading.Event) -> str:
    """These stages of one trial to their end, in a process of its own on some machine (a cluster's job).

    A trial that another runner holds is waited for until that runner would be known to be dead. Returns
    ``done`` (nothing is left to do, whatever came of it), ``interrupted`` or ``elsewhere``.
    Raises :class:`InputError` when the trial refuses its input.
    """
    results = work.ledger.plan.options.results
    with Runner(results) as runner:
        station = Station(runner, Observer(results), stop)
        work.ledger.reread(trial)
        for stage in stages:
            patience = time.monotonic() + SILENCE_SECONDS + 2 * LOOK_SECONDS
            while work.ledger.left(trial, stage, station.observer):
                if work.ledger.is_taken(trial, station.observer):
                    if time.monotonic() > patience:
                        return "elsewhere"
                    stop.wait(LOOK_SECONDS)
                elif attempt_stage(work, trial, stage, seat, station) == "interrupted":
                    return "interrupted"
                if stop.is_set():
                    return "interrupted"
        work.ledger.update(trial, station.observer)
    return "done"


class _Process:
    """The process of one attempt: what it is told, what it says, what is made of its end."""

    def __init__(
        self, work: Work, trial: Trial, stage: Stage, cells: list[Cell], attempt: Attempt, station: Station
    ) -> None:
        self.work, self.plan, self.trial, self.stage = work, work.ledger.plan, trial, stage
        self.cells, self.attempt, self.station = cells, attempt, station
        self._progress: dict[str, Any] = {"name": "starting"}
        self._first_step: tuple[int, float] | None = None
        self._written = 0.0
        self._lost = False

    def run(self, seat: Seat, processes: int) -> dict[str, Any] | None:
        """Start it and wait; the outcome, or None if another runner has taken the trial over."""
        started, since = now(), time.monotonic()
        self._write_progress()
        command = self._command(seat, processes)
        ended = supervise(command, self._hear, self._must_end, self.work.limits)
        if self._lost or not self.attempt.is_last():
            return None
        state, error = self._judge(ended)
        trained = not self.plan.trains or self.plan.is_trained(self.trial)
        return {
            "state": state,
            "error": error,
            "input_error": (ended.reported or {}).get("event") == "input_error",
            "training": not trained,
            "cells": self._meant(state, trained),
            "log_tail": None if state == "done" else self.attempt.last_log_lines(),
            "started": started,
            "finished": now(),
            "seconds": round(time.monotonic() - since, 3),
            "devices": processes,
            **_peak_memory(ended),
            "machine": _machine(seat) if state in FAILURES else {},
        }

    def _command(self, seat: Seat, processes: int) -> Command:
        threads = cores() if self.stage in ALONE else self.work.threads
        job = self.attempt.folder / "job.json"
        job.write_text(json.dumps(self._job(seat, threads), indent=1), encoding="utf-8")
        shared = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}")
        alone = ("-m", "harness.trial", str(job.resolve()))
        arguments = alone if processes == 1 else (*shared, *alone)
        return Command(arguments, self.attempt.log, seat.environment(threads), seat.cores)

    def _job(self, seat: Seat, threads: int) -> dict[str, Any]:
        initial = self.plan.weights.file(self.trial.config)
        cells = [{"key": cell.key, "config": cell.config.model_dump(mode="json")} for cell in self.cells]
        return {
            "stage": self.stage,
            "trial": self.trial.key,
            "seed": self.trial.seed,
            "folder": str(self.plan.trial_folder(self.trial).resolve()),
            "data": str(self.work.data[self.plan.source_of(self.trial.config).name].resolve()),
            "initial_weights": None if initial is None else str(initial.resolve()),
            "config": self.trial.config.model_dump(mode="json"),
            "cells": cells,
            "device": seat.device,
            "threads": threads,
            "log": list(self.work.loggers),
            "code": list(self.work.code),
            "score_code": dict(self.plan.score_code),
            "memory_budget": self.plan.memory_budget,
            "frame_cache": self.plan.options.frame_cache,
        }

    def _must_end(self) -> bool:
        return self._lost or self.station.stop.is_set()

    def _hear(self, event: dict[str, Any]) -> None:
        """Keep what the event says; look now and then whether the trial is still ours."""
        kind, told = event["event"], {key: value for key, value in event.items() if key != "event"}
        if kind == "step":
            self._progress |= {**told, **self._pace(told["done"])}
        elif kind == "stage":
            self._progress |= {"name": told["name"], "video": None}
        elif kind == "video":
            self._progress |= {"video": told}
        if kind in ("stage", "cell") or time.monotonic() - self._written > PROGRESS_SECONDS:
            self._write_progress()
            self._lost = not self.attempt.is_last()
        if kind == "cell":
            self.work.ledger.update(self.trial, self.station.observer)
            event = {**event, **self._number(event["cell"])}
        self.station.listen(self.trial.label(), event)

    def _number(self, key: str) -> dict[str, Any]:
        """What was found of a cell: the column's name and its number."""
        cell = next(cell for cell in self.cells if cell.key == key)
        column = RECORDS[self.stage].shown or RECORDS[self.stage].column
        record = self.plan.record(self.trial, cell, self.stage) or {}
        return {"column": column, "number": record.get(column)}

    def _pace(self, done: int) -> dict[str, Any]:
        """Where this process began, and its seconds per step since."""
        now_at = time.monotonic()
        if self._first_step is None:
            self._first_step = (done, now_at)
        first, since = self._first_step
        pace = {"seconds_per_step": (now_at - since) / (done - first)} if done > first else {}
        return {"first_step": first, **pace}

    def _write_progress(self) -> None:
        self._written = time.monotonic()
        self.attempt.write_progress({**self._progress, "at": now()})

    def _judge(self, ended: Ended) -> tuple[str, str | None]:
        """(state, one line of error) of a process that has ended."""
        reported = ended.reported or {}
        if ended.status == 0 and not self._lacking():
            return "done", None  # whatever was asked of it meanwhile
        if reported.get("event") == "input_error":
            return "interrupted", str(reported["error"])
        if ended.ended_by_us is not None:
            return ("interrupted", None) if ended.ended_by_us == "stop" else ("timeout", ended.ended_by_us)
        sent = self._signal(ended)
        if sent in FROM_OUTSIDE and ended.killed_by_kernel:
            return "oom", "killed by the kernel for want of memory"
        if sent in FROM_OUTSIDE:
            return "interrupted", f"ended from outside by {signal.Signals(sent).name}"
        if sent:
            return "failed", f"ended by signal {signal.Signals(sent).name}"
        if reported.get("event") == "interrupted":
            return "interrupted", "asked to end from outside"
        if reported.get("event") == "failed":
            return ("oom" if reported.get("kind") == "oom" else "failed"), str(reported["error"])
        if ended.status == 0:
            return "failed", "ended without its results"
        last = self.attempt.last_log_lines(1).strip()
        return "failed", f"exit status {ended.status}" + (f"; last in its log: {last}" if last else "")[:400]

    def _signal(self, ended: Ended) -> int:
        """The signal that ended the process, or the first to end of several (their launcher's log tells)."""
        if ended.status < 0:
            return -ended.status
        found = RANK_ENDED.search(self.attempt.last_log_lines(200)) if ended.status else None
        return int(found[1]) if found else 0

    def _meant(self, state: str, trained: bool) -> list[str]:
        """The cells that this outcome is of: once trained, a failure is that of the cell it was at."""
        at_one = state in FAILURES and trained
        return self._lacking()[:1] if at_one else [cell.key for cell in self.cells]

    def _lacking(self) -> list[str]:
        """Keys of our cells that still have no record."""
        return [c.key for c in self.cells if self.plan.record(self.trial, c, self.stage) is None]


def _peak_memory(ended: Ended) -> dict[str, Any]:
    """What the process said of its peak, or what the system knows."""
    told = ended.reported or {}
    if told.get("peak_memory_gb") is not None:
        return {name: told[name] for name in ("peak_memory_gb", "peak_memory_kind")}
    return {"peak_memory_gb": ended.peak_memory_gb, "peak_memory_kind": "process resident"}


def _machine(seat: Seat) -> dict[str, Any]:
    """What a failed trial ran on, without asking torch."""
    device = f"cuda:{seat.gpus[0]}" if seat.gpus and seat.gpus[0].isdigit() else seat.device
    return {"device": seat.device, "hardware": hardware(device), **machine()}


def _remove_drafts(trial_folder: Path) -> None:
    """Remove what a killed attempt had begun to write; the trial is ours alone."""
    for pattern in (".*", "cells/*/.*", "attempts/.*", "attempts/*/.*"):
        for draft in trial_folder.glob(pattern):
            if draft.is_dir():
                shutil.rmtree(draft, ignore_errors=True)
            else:
                draft.unlink(missing_ok=True)
