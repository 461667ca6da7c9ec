"""Where every cell of a sweep stands: from rows, the files that stages leave, and the attempts.

Everything is read from disk, so that any number of runners, on any machines, come to the same answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar, cast, get_args

from harness.engine.attempts import Attempt, attempts_of, is_open
from harness.engine.runners import Observer
from harness.engine.trial_files import CellKey, Stage, TrialFiles, TrialKeys
from harness.store import OddFile, row_states

State = Literal["pending", "running", "done", "failed", "oom", "timeout", "interrupted"]
STATES: tuple[State, ...] = get_args(State)
FAILURES = ("failed", "oom", "timeout")
"""How a trial can come to nothing: each is a result, with a row, and is tried again on request only"""
Files = TypeVar("Files", bound=TrialFiles)


@dataclass
class CellStates(Generic[Files]):
    """The states of a sweep's cells."""

    plan: Files
    retry: frozenset[str] = frozenset()
    """Failures from before this run that count as not tried"""
    status: dict[str, str] = field(default_factory=dict)
    """Cell -> status of its row"""
    forgiven: dict[str, int] = field(default_factory=dict)
    """Trial -> its last attempt when this run began, where failures are tried again"""

    def reread(self, *trials: TrialKeys) -> list[OddFile]:
        """Look for rows that others have written; returns the files that are no rows."""
        odd: list[OddFile] = []
        keys = [key for trial in trials for key in self.unfinished(trial)]
        needed, varied, exact = self.plan.measured_columns(), self.plan.varied, self.plan.exact_columns()
        self.status |= row_states(self.plan.rows, keys, needed, odd, varied, exact)
        return odd

    def unfinished(self, trial: TrialKeys) -> list[str]:
        """Keys of the cells without a finished row."""
        return [cell.key for cell in trial.cells if self.status.get(cell.key) != "done"]

    def states(self, trial: TrialKeys, observer: Observer) -> dict[str, State]:
        """Where every cell of a trial stands; its newest attempt decides."""
        states: dict[str, State] = {cell.key: "done" for cell in trial.cells}
        unfinished = self.unfinished(trial)
        if not unfinished:
            return states
        attempts = attempts_of(self.plan.trial_folder(trial))
        for cell in trial.cells:
            stage = self.stage_of(trial, cell) if cell.key in unfinished else None
            if stage is not None:
                found = self.newest(trial, cell, stage, attempts, observer)
                states[cell.key] = found[0] if found else self._without_attempts(trial, cell)
        return states

    def stage_of(self, trial: TrialKeys, cell: CellKey) -> Stage | None:
        """The first stage whose record the cell lacks; None when it has all."""
        for stage in self.plan.stages:
            if self.plan.record(trial, cell, stage) is None:
                return stage
        return None if not self.plan.trains or self.plan.is_trained(trial) else "train_evaluate"

    def left(self, trial: TrialKeys, stage: Stage, observer: Observer) -> list[str]:
        """Keys of cells whose next step is this stage and that are to be done: new or interrupted ones."""
        unfinished = self.unfinished(trial)
        at = [c.key for c in trial.cells if c.key in unfinished and self.stage_of(trial, c) == stage]
        if not at:
            return []
        states = self.states(trial, observer)
        return [key for key in at if states[key] in ("pending", "interrupted")]

    def is_taken(self, trial: TrialKeys, observer: Observer) -> bool:
        """Whether a runner that lives is at the trial."""
        attempts = attempts_of(self.plan.trial_folder(trial))
        return bool(attempts) and is_open(attempts[-1], observer)

    def newest(
        self, trial: TrialKeys, cell: CellKey, stage: Stage, attempts: list[Attempt], observer: Observer
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
            elif outcome.get("state") == "interrupted":
                if meant:
                    return "interrupted", attempt
            elif outcome.get("state") in FAILURES and attempt.number > self.forgiven.get(trial.key, 0):
                # A training that fails, fails for every cell, also for those of other sweeps.
                same = attempt.job().get("memory_budget") == self.plan.memory_budget
                for_all = outcome.get("training") and same and not self.plan.is_trained(trial)
                if for_all or cell.key in outcome.get("cells", ()):
                    return outcome["state"], attempt
        return None

    def _without_attempts(self, trial: TrialKeys, cell: CellKey) -> State:
        """What the row says of a cell whose attempts are gone or forgiven."""
        status = self.status.get(cell.key)
        if status in FAILURES and status not in self.retry and trial.key not in self.forgiven:
            return cast(State, status)
        return "pending"
