"""Trials that run on other machines, as events for a display: read from the files they leave."""

from __future__ import annotations

from typing import Any

from harness.engine.attempts import Attempt, attempts_of
from harness.engine.ledger import Ledger
from harness.engine.progress import TrialProgress
from harness.engine.runners import Observer
from harness.sweep import Trial


class Watcher:
    """Looks at the unfinished trials of a plan and tells a display what is new."""

    def __init__(self, ledger: Ledger, observer: Observer, progress: TrialProgress) -> None:
        self.ledger, self.observer, self.progress = ledger, observer, progress
        self._seen: dict[str, tuple[int, dict[str, Any]]] = {}
        """Trial -> its attempt and what was last told of it"""
        for trial in ledger.plan.chosen:
            attempts = attempts_of(ledger.plan.trial_folder(trial))
            if attempts and attempts[-1].outcome() is not None:
                self._seen[trial.key] = (attempts[-1].number, {"ended": True})

    def look(self) -> None:
        """Tell of every trial what has changed since the last look."""
        for trial in self.ledger.plan.chosen:
            if not self.ledger.unfinished(trial):
                continue
            for attempt in attempts_of(self.ledger.plan.trial_folder(trial)):
                self._tell(trial, attempt)
            self.ledger.reread(trial)
            self.ledger.update(trial, self.observer)
        self.progress.cells(*self.ledger.count())

    def _tell(self, trial: Trial, attempt: Attempt) -> None:
        number, told = self._seen.get(trial.key, (0, {}))
        if attempt.number < number or (attempt.number == number and "ended" in told):
            return
        label = trial.label()
        if attempt.number > number:
            if number and "ended" not in told:  # its runner died without a word
                self.progress.event(label, {"event": "end", "state": "interrupted", "error": None})
            told = {}
            self.progress.event(label, {"event": "start"})
        found, outcome = attempt.progress(), attempt.outcome()
        if found.get("name") not in (None, "starting", told.get("name")):
            self.progress.event(label, {"event": "stage", "name": found["name"]})
        if "done" in found and found["done"] != told.get("done"):
            self.progress.event(label, {"event": "step", **found})
        if outcome is not None:
            end = {"event": "end", "state": outcome["state"], "error": outcome["error"]}
            self.progress.event(label, end)
            found = {**found, "ended": True}
        self._seen[trial.key] = (attempt.number, found)
