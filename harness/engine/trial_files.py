"""Where the files of trials lie below a results folder, and which of them say that a stage is done."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from harness.provenance import score_versions
from harness.record_file import read_record, read_training
from harness.sweep_file import Measure

Stage = Literal["train_evaluate", "situations", "errors", "time", "count", "model"]


@dataclass(frozen=True)
class StageRecord:
    """What a stage leaves of each cell, and the row's column that is empty without it."""

    file: str
    column: str
    shown: str | None = None
    """Column whose number tells a run how it goes; None: the same"""


RECORDS: dict[Stage, StageRecord] = {
    "train_evaluate": StageRecord("metrics.json", "AP"),
    "situations": StageRecord("situations.json", "situations_code", "AP_speed_high"),
    "errors": StageRecord("errors.json", "errors_code", "dAP_identity_switch"),
    "time": StageRecord("speed.json", "fps"),
    "count": StageRecord("flops.json", "flops_g"),
    "model": StageRecord("model.json", "model_fps"),
}
STAGES: dict[Measure, Stage] = {
    "ap": "train_evaluate",
    "situations": "situations",
    "errors": "errors",
    "speed": "time",
    "flops": "count",
    "model": "model",
}
"""The stage that measures it, in the order of work"""


class CellKey(Protocol):
    """A cell, as far as its files go."""

    @property
    def key(self) -> str: ...


class TrialKeys(Protocol):
    """A trial and its cells, as far as their files go."""

    @property
    def key(self) -> str: ...
    @property
    def cells(self) -> Sequence[CellKey]: ...


class TrialFiles(ABC):
    """The files of a sweep's trials; trials are shared by all sweeps that need them."""

    @property
    @abstractmethod
    def results(self) -> Path:
        """The results folder."""

    @property
    @abstractmethod
    def rows(self) -> Path:
        """Folder of the sweep's parquet rows."""

    @property
    @abstractmethod
    def measures(self) -> Sequence[Measure]:
        """What the sweep measures."""

    @property
    def memory_budget(self) -> int | None:
        """Bytes that a process may have; a training that failed under another budget says nothing here."""
        return None

    @property
    def varied(self) -> frozenset[str] | None:
        """The dotted keys that the sweep varies, where they are known."""
        return None

    @property
    def score_code(self) -> Mapping[str, str]:
        """Measure -> version of the code that works it out of results that are there.

        Not part of a cell's identity: other code reads the same results again, it predicts nothing anew.
        """
        return {name: version for name, version in score_versions().items() if name in self.measures}

    def trial_folder(self, trial: TrialKeys) -> Path:
        """Shared by all sweeps that need this training."""
        return self.results / "trials" / trial.key

    def cell_file(self, trial: TrialKeys, cell: CellKey, name: str) -> Path:
        """A file of one evaluation."""
        return self.trial_folder(trial) / "cells" / cell.key / name

    def is_trained(self, trial: TrialKeys) -> bool:
        """Whether the training is finished; a damaged ``trial.json`` says nothing."""
        return self.training(trial) is not None

    def training(self, trial: TrialKeys) -> dict[str, Any] | None:
        """What a finished training says of itself; None where it is missing or damaged."""
        return read_training(self.trial_folder(trial))

    @property
    def stages(self) -> tuple[Stage, ...]:
        """What is done with each trial, in order."""
        return tuple(stage for measure, stage in STAGES.items() if measure in self.measures)

    def record(self, trial: TrialKeys, cell: CellKey, stage: Stage) -> dict[str, Any] | None:
        """What a stage left of a cell; None where it is missing, damaged, or of other code for scores."""
        found, column = read_record(self.cell_file(trial, cell, RECORDS[stage].file)), RECORDS[stage].column
        meant = self.exact_columns().get(column)
        return found if column in found and meant in (None, found[column]) else None

    def measured_columns(self) -> list[str]:
        """Columns that a finished row has numbers in."""
        return [RECORDS[stage].column for stage in self.stages]

    def exact_columns(self) -> dict[str, str]:
        """Columns that a finished row has these very texts in: others are of other code."""
        return {RECORDS[STAGES[cast(Measure, name)]].column: text for name, text in self.score_code.items()}

    @property
    def trains(self) -> bool:
        """Whether there is anything to train: counting needs no weights."""
        return "train_evaluate" in self.stages
