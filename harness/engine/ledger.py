"""The states of a plan's cells, and the rows that follow from them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from harness.engine.attempts import Attempt, attempts_of
from harness.engine.plan import Plan
from harness.engine.runners import Observer
from harness.engine.states import FAILURES, CellStates
from harness.provenance import code_versions, device_hours, now, seconds_between
from harness.row_schema import COLUMNS
from harness.store import METRIC_COLUMNS, SCHEMA_VERSION, OddFile, write_row
from harness.sweep import Cell, Trial

TRAINING_COLUMNS = (
    "train_started",
    "train_finished",
    "train_seconds",
    "train_processes",
    "trial_peak_memory_gb",
    "trial_peak_memory_kind",
)
"""What a row has from ``trial.json``, under the same names"""


@dataclass
class Ledger(CellStates[Plan]):
    """Keeps the rows of a plan true."""

    told: dict[str, int] = field(default_factory=dict)
    """Cell -> the failed attempt that this run has written a row of"""
    odd: list[OddFile] = field(default_factory=list)
    """Files among the rows that are none"""

    @classmethod
    def open(cls, plan: Plan, observer: Observer, retry: frozenset[str] = frozenset()) -> Ledger:
        """Read the rows, and the attempts of the trials that lack some."""
        ledger = cls(plan, retry)
        ledger.odd = ledger.reread(*plan.trials)
        for trial in plan.trials:
            if retry and retry.intersection(ledger.states(trial, observer).values()):
                attempts = attempts_of(plan.trial_folder(trial))
                ledger.forgiven[trial.key] = attempts[-1].number if attempts else 0
        return ledger

    def count(self) -> tuple[int, int]:
        """(cells that have their number, cells) of the chosen trials."""
        states = [self.status.get(cell.key) for trial in self.plan.chosen for cell in trial.cells]
        return states.count("done"), len(states)

    def complete(self) -> bool:
        """Whether every chosen cell has its number."""
        done, total = self.count()
        return done == total

    def update(self, trial: Trial, observer: Observer) -> None:
        """Write the row of every cell that has become complete, or that has failed."""
        attempts: list[Attempt] | None = None
        self.reread(trial)  # another runner may have written them: a row is written once
        unfinished = self.unfinished(trial)
        for cell in (cell for cell in trial.cells if cell.key in unfinished):
            found = self._measurements(trial, cell)
            if found is not None:
                self._write_row(trial, cell, "done", found)
                continue
            stage = self.stage_of(trial, cell)
            attempts = attempts_of(self.plan.trial_folder(trial)) if attempts is None else attempts
            newest = self.newest(trial, cell, stage, attempts, observer) if stage else None
            if newest is None or newest[0] not in FAILURES:
                continue
            state, attempt = newest
            first = self.told.get(cell.key) != attempt.number
            if self.status.get(cell.key) != state or (first and trial.key in self.forgiven):
                self._write_row(trial, cell, state, _failure(attempt))
                self.told[cell.key] = attempt.number

    def unclosed(self, trial: Trial) -> Attempt | None:
        """The trial's last attempt if nobody has said how it ended."""
        attempts = attempts_of(self.plan.trial_folder(trial))
        return attempts[-1] if attempts and attempts[-1].outcome() is None else None

    def close_for_memory(self, trial: Trial, attempt: Attempt, error: str, observer: Observer) -> None:
        """A scheduler has ended an attempt for want of memory: that is a result, and has a row.

        Any other sudden end (node lost, time limit) says nothing about the trial: it counts as interrupted.
        """
        owner = attempt.owner()
        attempt.close(
            {
                "state": "oom",
                "error": error,
                "input_error": False,
                "training": self.plan.trains and not self.plan.is_trained(trial),
                "cells": owner.get("cells", []),
                "log_tail": attempt.last_log_lines(),
                "started": owner.get("since"),
                "finished": now(),
            }
        )
        self.update(trial, observer)

    def part(self, trial: Trial) -> Ledger:
        """What another machine needs of one trial: a plan of thousands is not sent thousands of times.

        The results' path holds wherever it arrives.
        """
        keys = {cell.key for cell in trial.cells}
        options = replace(self.plan.options, results=self.plan.options.results.resolve())
        return replace(
            self,
            plan=replace(self.plan, options=options, trials=(trial,), chosen=(trial,)),
            status={key: status for key, status in self.status.items() if key in keys},
            forgiven={key: number for key, number in self.forgiven.items() if key == trial.key},
            told={key: number for key, number in self.told.items() if key in keys},
            odd=[],
        )

    def _measurements(self, trial: Trial, cell: Cell) -> dict[str, Any] | None:
        """What the cell's files say, None while one is missing."""
        records = [self.plan.record(trial, cell, stage) for stage in self.plan.stages]
        if None in records or (self.plan.trains and not self.plan.is_trained(trial)):
            return None
        found: dict[str, Any] = {}
        for record in records:
            found |= {name: value for name, value in (record or {}).items() if name in COLUMNS}
        if not self.plan.trains:
            return found
        trained = self.plan.training(trial) or {}
        found |= {name: trained[name] for name in TRAINING_COLUMNS if name in trained}
        found |= {f"train_{name}": trained.get(name) for name in ("hardware", "threads", "memory_budget_gb")}
        return found | spent(attempts_of(self.plan.trial_folder(trial)))

    def _write_row(self, trial: Trial, cell: Cell, status: str, found: dict[str, Any]) -> None:
        """One parquet row: what it is, what was measured, where it comes from."""
        plan = self.plan
        source = plan.source_of(cell.config)
        attempts = attempts_of(plan.trial_folder(trial))
        owner = attempts[-1].owner() if attempts else {}
        row = {
            "schema_version": SCHEMA_VERSION,
            "sweep": plan.sweep.name,
            "scale": plan.scale.name,
            "trial": trial.key,
            "cell": cell.key,
            "status": status,
            "error": found.pop("error", None),
            "seed": trial.seed,
            **dict(cell.varied),
            **{name: found.pop(name, None) for name in METRIC_COLUMNS},
            "config": cell.config.model_dump_json(),
            "data_name": source.name,
            "data_kind": source.config.kind,
            "data_description": source.description,
            "split": cell.config.data.valid,
            "initial_weights": plan.weights.name(cell.config) if plan.trains else None,
            "train_data": source.train_identity,
            "valid_data": source.valid_identity,
            "code_version": "-".join(code_versions()),
            "host": owner.get("host"),
            "executor": owner.get("executor"),
            "memory_budget_gb": None if plan.memory_budget is None else plan.memory_budget / 1e9,
            "attempt": attempts[-1].number if attempts else None,
            **dict(sorted(found.items())),
            "finished": now(),
        }
        write_row(plan.rows, row)
        self.status[cell.key] = status


def spent(attempts: list[Attempt]) -> dict[str, Any]:
    """What all attempts at a training have cost together; one that died counts to its last word.

    A training that went on in another process tells of that process alone in ``trial.json``.
    """
    training = [attempt for attempt in attempts if attempt.owner().get("stage") == "train_evaluate"]
    if not training:
        return {}
    hours = 0.0
    for attempt in training:
        owner, outcome = attempt.owner(), attempt.outcome() or {}
        until = outcome.get("finished") or attempt.progress().get("at") or owner["since"]
        seconds = outcome.get("seconds") or seconds_between(owner["since"], until)
        hours += device_hours(seconds, outcome.get("devices") or owner.get("processes", 1))
    most = max(attempt.owner().get("processes", 1) for attempt in training)
    began = training[0].owner()["since"]
    return {"device_hours": round(hours, 6), "train_processes": most, "train_started": began}


def _failure(attempt: Attempt) -> dict[str, Any]:
    """A failed attempt's part of a row."""
    outcome = attempt.outcome() or {}
    kept = {name: outcome.get(name) for name in ("error", "log_tail")}
    memory = {f"trial_{name}": outcome.get(name) for name in ("peak_memory_gb", "peak_memory_kind")}
    return {**kept, **memory, **outcome.get("machine", {}), "attempt": attempt.number}
