"""Where cells stand, from rows, records and attempts that are made up here; and the rows that follow."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from harness.engine.attempts import Attempt, attempts_of, claim
from harness.engine.ledger import Ledger
from harness.engine.manifest import load_manifests, write_manifest
from harness.engine.plan import Plan
from harness.engine.run import is_anything_left
from harness.engine.runners import Observer, RunnerId
from harness.engine.status import SweepStatus, about, as_json, find_sweeps, look, show_status
from harness.engine.trial_files import Stage
from harness.provenance import machine
from harness.sweep import Trial
from model.errors import InputError
from tests.small_road import SWEEP, make_road

HERE = RunnerId.of_this_process()
DEAD = dataclasses.replace(HERE, runner="dead", process_started=1)


@dataclasses.dataclass
class Made:
    """A plan, and work on its trials that is made up."""

    plan: Plan
    observer: Observer

    @property
    def trial(self) -> Trial:
        return self.plan.trials[0]

    def ledger(self, *retry: str) -> Ledger:
        return Ledger.open(self.plan, self.observer, frozenset(retry))

    def states(self, trial: Trial | None = None, *retry: str) -> list[str]:
        trial = trial or self.trial
        return list(self.ledger(*retry).states(trial, self.observer).values())

    def begin(self, stage: Stage = "train_evaluate", runner: RunnerId = HERE, cells: int = 2) -> Attempt:
        folder = self.plan.trial_folder(self.trial)
        keys = [cell.key for cell in self.trial.cells[:cells]]
        attempt = claim(folder, runner, self.observer, stage, keys, "local")
        assert attempt is not None
        return attempt

    def end(self, attempt: Attempt, state: str, cell: int | None = None, **more: Any) -> None:
        cells = self.trial.cells if cell is None else self.trial.cells[cell : cell + 1]
        outcome = {"state": state, "error": f"it was {state}", "training": cell is None, "log_tail": "line"}
        outcome |= {"cells": [each.key for each in cells], "peak_memory_gb": 1.5, "machine": machine()}
        attempt.close({**outcome, "peak_memory_kind": "process resident", **more})

    def train(self) -> None:
        conditions = {"hardware": "some CPU", "threads": 1, "train_seconds": 8.0}
        times = {"train_started": "2026-01-01T00:00:00+00:00", "train_finished": "2026-01-01T00:00:08+00:00"}
        self._write(self.plan.trial_folder(self.trial) / "trial.json", {**conditions, **times})

    def record(self, cell: int, stage: Stage = "train_evaluate") -> None:
        content = {"train_evaluate": {"AP": 10.0 + cell}, "time": {"fps": 20.0}, "count": {}}[stage]
        name = {"train_evaluate": "metrics.json", "time": "speed.json", "count": "flops.json"}[stage]
        self._write(self.plan.cell_file(self.trial, self.trial.cells[cell], name), content)

    @staticmethod
    def _write(path: Path, content: dict[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))


@pytest.fixture
def made(tmp_path: Path) -> Made:
    road = make_road(tmp_path / "road", SWEEP)
    return Made(road.plan(), Observer(road.results))


def test_nothing_tried_is_pending(made: Made) -> None:
    assert made.states() == ["pending", "pending"]
    assert made.ledger().left(made.trial, "train_evaluate", made.observer) == [
        c.key for c in made.trial.cells
    ]
    assert made.ledger().left(made.trial, "time", made.observer) == [], "nothing to time yet"
    assert is_anything_left(made.ledger(), made.observer)


def test_a_living_attempt_runs_and_a_dead_one_is_interrupted(made: Made) -> None:
    attempt = made.begin()
    assert made.states() == ["running", "running"]
    assert made.ledger().is_taken(made.trial, made.observer)
    made.end(attempt, "interrupted")
    assert made.states() == ["interrupted", "interrupted"]
    made.begin(runner=DEAD)
    assert made.states() == ["interrupted", "interrupted"]
    assert not made.ledger().is_taken(made.trial, made.observer)
    assert len(made.ledger().left(made.trial, "train_evaluate", made.observer)) == 2


@pytest.mark.parametrize("state", ["failed", "oom", "timeout"])
def test_a_failed_training_fails_every_cell_until_it_is_asked_for_again(made: Made, state: str) -> None:
    made.end(made.begin(), state)
    ledger = made.ledger()
    assert made.states() == [state, state]
    assert ledger.left(made.trial, "train_evaluate", made.observer) == []
    ledger.update(made.trial, made.observer)
    rows = pd.read_parquet(made.plan.rows)
    assert set(rows["status"]) == {state}
    assert set(rows["error"]) == {f"it was {state}"}
    assert set(rows["log_tail"]) == {"line"}
    assert set(rows["trial_peak_memory_gb"]) == {1.5}
    assert set(rows["attempt"]) == {1}
    assert set(rows["host"]) == {HERE.host}

    assert made.states(made.trial, "interrupted") == [state, state]
    again = made.ledger(state)
    assert len(again.left(made.trial, "train_evaluate", made.observer)) == 2
    made.end(made.begin(), state, error="once more")
    assert again.left(made.trial, "train_evaluate", made.observer) == [], "tried again once, not for ever"
    again.update(made.trial, made.observer)
    rows = pd.read_parquet(made.plan.rows)
    assert (set(rows["attempt"]), set(rows["error"])) == ({2}, {"once more"})


def test_a_failure_with_its_row_is_not_written_again(made: Made) -> None:
    made.end(made.begin(), "failed")
    made.ledger().update(made.trial, made.observer)
    before = {path: path.stat().st_mtime_ns for path in made.plan.rows.iterdir()}
    made.ledger().update(made.trial, made.observer)
    assert {path: path.stat().st_mtime_ns for path in made.plan.rows.iterdir()} == before
    others = [trial for trial in made.plan.trials if trial is not made.trial]
    assert all(made.states(trial) == ["pending", "pending"] for trial in others)


def test_after_the_training_a_failure_is_of_one_cell(made: Made) -> None:
    """T=3 does not fit; T=5 is tried all the same."""
    attempt = made.begin()
    made.train()
    made.end(attempt, "oom", cell=0)
    assert made.states() == ["oom", "pending"]
    assert made.ledger().left(made.trial, "train_evaluate", made.observer) == [made.trial.cells[1].key]
    made.end(made.begin(), "interrupted")
    assert made.states() == ["interrupted", "interrupted"], "the newest attempt at a cell decides"


def test_a_training_that_another_sweep_has_finished_since_is_no_failure(made: Made) -> None:
    made.end(made.begin(), "timeout")
    made.train()
    made.record(0)
    assert made.states()[0] == "pending", "there are weights; the cell is to be timed"
    assert made.ledger().left(made.trial, "time", made.observer) == [made.trial.cells[0].key]


def test_stages_follow_each_other_and_end_in_a_row(made: Made) -> None:
    made.end(made.begin(), "done")
    made.train()
    made.record(0)
    made.record(1)
    assert made.ledger().left(made.trial, "train_evaluate", made.observer) == []
    assert len(made.ledger().left(made.trial, "time", made.observer)) == 2
    made.record(0, "time")
    ledger = made.ledger()
    ledger.update(made.trial, made.observer)
    assert made.states() == ["done", "pending"]
    [row] = pd.read_parquet(made.plan.rows).to_dict("records")
    assert (row["AP"], row["fps"], row["status"], row["train_seconds"]) == (10.0, 20.0, "done", 8.0)
    failing = made.begin("time")
    made.end(failing, "timeout", cell=1)
    assert made.states() == ["done", "timeout"]


def test_a_damaged_record_is_missing(made: Made) -> None:
    made.train()
    made.record(0)
    path = made.plan.cell_file(made.trial, made.trial.cells[0], "metrics.json")
    path.write_text(path.read_text()[:5])
    assert made.ledger().stage_of(made.trial, made.trial.cells[0]) == "train_evaluate"


def test_a_row_without_attempts_keeps_its_word(made: Made) -> None:
    """Rows were copied without the trials' folder: failures stay failures, unless asked for again."""
    made.end(made.begin(), "failed")
    made.ledger().update(made.trial, made.observer)
    for attempt in attempts_of(made.plan.trial_folder(made.trial)):
        (attempt.folder / "owner.json").unlink()
        (attempt.folder / "outcome.json").unlink()
        attempt.folder.rmdir()
    assert made.states() == ["failed", "failed"]
    assert made.states(made.trial, "failed") == ["pending", "pending"]


def status_of(made: Made) -> SweepStatus:
    write_manifest(made.plan)
    [manifest] = find_sweeps(made.plan.results, None)[0]
    return look(manifest, made.plan.results, made.observer)


def test_status_at_a_glance(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    attempt = made.begin()
    step = {"name": "train", "done": 4, "steps": 16, "loss": 1.25, "seconds_per_step": 10.0}
    attempt.write_progress(step)
    other = Made(dataclasses.replace(made.plan, trials=made.plan.trials[1:]), made.observer)
    other.end(other.begin(), "oom")
    status = status_of(made)
    assert status.cells == {"pending": 4, "running": 2, "oom": 2}
    assert not status.complete
    [running] = status.running
    assert (running.label, running.at, running.loss, running.seconds_left) == (
        made.trial.label(),
        "train 4/16",
        1.25,
        120.0,
    )
    assert status.steps_left == 12 + 3 * 16
    assert status.seconds_left == 600.0
    [trouble] = status.troubles
    assert (trouble.state, trouble.cells, trouble.error) == ("oom", 2, "it was oom")
    show_status([status], Console(width=200))
    text = capsys.readouterr().out
    for part in (
        "8 cells: 4 pending, 2 running, 2 oom",
        "0 of 4 trials trained",
        "about 10 min",
        "it was oom",
    ):
        assert part in text, part
    assert f"{HERE.host} {HERE.pid}" in text
    [read] = json.loads(as_json([status]))
    assert read["cells"] == status.cells
    assert read["complete"] is False


def test_status_of_what_was_never_run(tmp_path: Path, made: Made) -> None:
    with pytest.raises(InputError, match="no sweep was run here"):
        find_sweeps(tmp_path / "nothing", None)
    write_manifest(made.plan)
    with pytest.raises(InputError, match=r"table9z: no run of this sweep in .*; there are: micro/micro"):
        find_sweeps(made.plan.results, "table9z")
    for name in ("micro", "micro/micro", str(made.plan.options.sweep)):
        assert len(find_sweeps(made.plan.results, name)[0]) == 1


def test_a_manifest_is_written_once_and_damaged_ones_are_named(made: Made) -> None:
    write_manifest(made.plan)
    file = made.plan.rows / "_plan.json"
    before = file.stat().st_mtime_ns
    write_manifest(made.plan)
    assert file.stat().st_mtime_ns == before
    file.write_text("{")
    assert "not the plan of a sweep" in load_manifests(made.plan.results)[1][0]
    write_manifest(made.plan)
    assert load_manifests(made.plan.results)[1] == []


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.6, "1 min"), (89, "89 s"), (600, "10 min"), (9000, "2.5 h")]
)
def test_times_to_the_precision_of_a_guess(seconds: float, text: str) -> None:
    assert about(seconds) == text
