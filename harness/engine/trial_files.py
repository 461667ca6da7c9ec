"""Where the files of trials lie below a results folder, and which of them say that a stage is done."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from harness.record_file import read_record, read_training
from harness.sweep_file import Measure

Stage = Literal["train_evaluate", "time", "count", "model"]


@dataclass(frozen=True)
class StageRecord:
    """What a stage leaves of each cell, and the row's column that is empty without it."""

    file: str
    column: str


RECORDS: dict[Stage, StageRecord] = {
    "train_evaluate": StageRecord("metrics.json", "AP"),
    "time": StageRecord("speed.json", "fps"),
    "count": StageRecord("flops.json", "flops_g"),
    "model": StageRecord("model.json", "model_fps"),
}
STAGES: dict[Measure, Stage] = {"ap": "train_evaluate", "speed": "time", "flops": "count", "model": "model"}
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
        """What a stage left of a cell; None where it is missing or damaged."""
        found = read_record(self.cell_file(trial, cell, RECORDS[stage].file))
        return found if RECORDS[stage].column in found else None

    def measured_columns(self) -> list[str]:
        """Columns that a finished row has numbers in."""
        return [RECORDS[stage].column for stage in self.stages]

    @property
    def trains(self) -> bool:
        """Whether there is anything to train: counting needs no weights."""
        return "train_evaluate" in self.stages
