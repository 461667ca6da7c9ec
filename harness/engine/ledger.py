"""What is known of every cell of a plan: rows, the files that stages leave, and the attempts.

Everything is read from disk, so that any number of runners, on any machines, come to the same answer.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

from harness.engine.attempts import Attempt, attempts_of, is_open
from harness.engine.plan import FAILURES, Plan, Stage
from harness.engine.runners import Observer
from harness.provenance import EVALUATION_CODE, TRAINING_CODE, code_version, now
from harness.store import METRIC_COLUMNS, SCHEMA_VERSION, row_status, write_row
from harness.sweep import Cell, Trial

State = Literal["pending", "running", "done", "failed", "oom", "timeout", "interrupted"]
TRAINING_COLUMNS = (
    "train_started",
    "train_finished",
    "train_seconds",
    "train_processes",
    "device_hours",
    "trial_peak_memory_gb",
    "trial_peak_memory_kind",
)
"""What a row has from ``trial.json``, under the same names"""
STATES: tuple[State, ...] = get_args(State)


@dataclass
class Ledger:
    """The cells of a plan and their states."""

    plan: Plan
    retry: frozenset[str] = frozenset()
    """Failures from before this run that count as not tried"""
    status: dict[str, str] = field(default_factory=dict)
    """Cell -> status of its row"""
    forgiven: dict[str, int] = field(default_factory=dict)
    """Trial -> its last attempt when this run began, where failures are tried again"""
    told: dict[str, int] = field(default_factory=dict)
    """Cell -> the failed attempt that this run has written a row of"""

    @classmethod
    def open(cls, plan: Plan, observer: Observer, retry: frozenset[str] = frozenset()) -> Ledger:
        """Read the rows, and the attempts of the trials that lack some."""
        ledger = cls(plan, retry)
        for trial in plan.trials:
            ledger.reread(trial)
        for trial in plan.trials:
            if retry and retry.intersection(ledger.states(trial, observer).values()):
                attempts = attempts_of(plan.trial_folder(trial))
                ledger.forgiven[trial.key] = attempts[-1].number if attempts else 0
        return ledger

    def reread(self, trial: Trial) -> None:
        """Look for rows that others have written."""
        needed = self.plan.measured_columns()
        for cell in self.unfinished(trial):
            found = row_status(self.plan.rows, cell.key, needed)
            if found is not None:
                self.status[cell.key] = found

    def unfinished(self, trial: Trial) -> list[Cell]:
        """Cells without a finished row."""
        return [cell for cell in trial.cells if self.status.get(cell.key) != "done"]

    def states(self, trial: Trial, observer: Observer) -> dict[str, State]:
        """Where every cell of a trial stands; its newest attempt decides."""
        states: dict[str, State] = {cell.key: "done" for cell in trial.cells}
        unfinished = self.unfinished(trial)
        if not unfinished:
            return states
        attempts = attempts_of(self.plan.trial_folder(trial))
        for cell in unfinished:
            stage = self.stage_of(trial, cell)
            if stage is not None:
                found = self._newest(trial, cell, stage, attempts, observer)
                states[cell.key] = found[0] if found else self._without_attempts(trial, cell)
        return states

    def stage_of(self, trial: Trial, cell: Cell) -> Stage | None:
        """The first stage whose record the cell lacks; None when it has all."""
        for stage in self.plan.stages:
            if self.plan.record(trial, cell, stage) is None:
                return stage
        return None if not self.plan.trains or self.plan.is_trained(trial) else "train_evaluate"

    def left(self, trial: Trial, stage: Stage, observer: Observer) -> list[Cell]:
        """Cells whose next step is this stage and that are to be done: new ones, and interrupted ones."""
        unfinished = [cell for cell in self.unfinished(trial) if self.stage_of(trial, cell) == stage]
        if not unfinished:
            return []
        states = self.states(trial, observer)
        return [cell for cell in unfinished if states[cell.key] in ("pending", "interrupted")]

    def is_taken(self, trial: Trial, observer: Observer) -> bool:
        """Whether a runner that lives is at the trial."""
        attempts = attempts_of(self.plan.trial_folder(trial))
        return bool(attempts) and is_open(attempts[-1], observer)

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
        for cell in self.unfinished(trial):
            found = self._measurements(trial, cell)
            if found is not None:
                self._write_row(trial, cell, "done", found)
                continue
            stage = self.stage_of(trial, cell)
            attempts = attempts_of(self.plan.trial_folder(trial)) if attempts is None else attempts
            newest = self._newest(trial, cell, stage, attempts, observer) if stage else None
            if newest is None or newest[0] not in FAILURES:
                continue
            state, attempt = newest
            first = self.told.get(cell.key) != attempt.number
            if self.status.get(cell.key) != state or (first and trial.key in self.forgiven):
                self._write_row(trial, cell, state, _failure(attempt))
                self.told[cell.key] = attempt.number

    def _newest(
        self, trial: Trial, cell: Cell, stage: Stage, attempts: list[Attempt], observer: Observer
    ) -> tuple[State, Attempt] | None:
        """The newest attempt that says something about a cell's stage, and what; None where none does."""
        for attempt in reversed(attempts):
            owner, outcome = attempt.owner(), attempt.outcome()
            if owner.get("stage") != stage:
                continue
            meant = cell.key in owner.get("cells", ())
            if outcome is None:
                if meant and attempt is attempts[-1] and is_open(attempt, observer):
                    return "running", attempt
                if meant:
                    return "interrupted", attempt
            elif outcome["state"] == "interrupted":
                if meant:
                    return "interrupted", attempt
            elif outcome["state"] in FAILURES and attempt.number > self.forgiven.get(trial.key, 0):
                # A training that fails, fails for every cell, also for those of other sweeps.
                for_all = outcome["training"] and not self.plan.is_trained(trial)
                if for_all or cell.key in outcome["cells"]:
                    return outcome["state"], attempt
        return None

    def _without_attempts(self, trial: Trial, cell: Cell) -> State:
        """What the row says of a cell whose attempts are gone or forgiven."""
        status = self.status.get(cell.key)
        if status in FAILURES and status not in self.retry and trial.key not in self.forgiven:
            return cast(State, status)
        return "pending"

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
        found |= {name: trained[name] for name in TRAINING_COLUMNS if name in trained}
        return found | {"train_hardware": trained["hardware"], "train_threads": trained["threads"]}

    def _write_row(self, trial: Trial, cell: Cell, status: str, found: dict[str, Any]) -> None:
        """One parquet row: what it is, what was measured, where it comes from."""
        plan = self.plan
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
            "data_name": plan.source.name,
            "data_kind": plan.source.config.kind,
            "data_description": plan.source.description,
            "split": cell.config.data.valid,
            "initial_weights": plan.weights.name(cell.config) if plan.trains else None,
            "train_data": plan.source.train_identity,
            "valid_data": plan.source.valid_identity,
            "code_version": f"{code_version(TRAINING_CODE)}-{code_version(EVALUATION_CODE)}",
            "host": owner.get("host"),
            "executor": owner.get("executor"),
            "attempt": attempts[-1].number if attempts else None,
            **dict(sorted(found.items())),
            "finished": now(),
        }
        write_row(plan.rows, row)
        self.status[cell.key] = status


def _failure(attempt: Attempt) -> dict[str, Any]:
    """A failed attempt's part of a row."""
    outcome = attempt.outcome() or {}
    kept = {name: outcome.get(name) for name in ("error", "log_tail")}
    memory = {f"trial_{name}": outcome.get(name) for name in ("peak_memory_gb", "peak_memory_kind")}
    return {**kept, **memory, **outcome.get("machine", {}), "attempt": attempt.number}
