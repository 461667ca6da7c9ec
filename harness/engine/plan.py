"""What a sweep comes to: its trials, its data, and where their results are. Nothing is run or written."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.data.source import DataSource, find_data
from harness.provenance import EVALUATION_CODE, PROJECT, TRAINING_CODE, code_version
from harness.sweep import Cell, Identities, Trial, expand
from harness.sweep_file import ScaleFile, SweepFile, load_scale, load_sweep, scale_file
from model.errors import InputError


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    sweep: Path
    scale: str
    results: Path
    reports: Path
    data: Path | None = None
    split: str | None = None
    """Score ``<split>.json`` instead of the scale's."""
    device: str = "auto"
    workers: int | None = None
    """Trials at a time; None: cores / threads of a training, or 1 on a GPU."""
    retry: bool = False
    """Run failed trials again."""


NEEDED = {"metrics.json": "AP", "speed.json": "fps"}
"""What each record of a cell must hold"""
TAKEN = ("trials", "datasets")
"""Names of our own in the results folder"""


@dataclass(frozen=True)
class Plan:
    """A sweep at a scale on a data set: its trials, and where their results are."""

    options: Options
    sweep: SweepFile
    scale: ScaleFile
    source: DataSource
    trials: tuple[Trial, ...]

    @property
    def folder_name(self) -> str:
        """Scale and, where a real folder is used, data and split."""
        if self.source.folder is None:
            return self.scale.name
        return f"{self.scale.name}-{self.source.name}-{self.source.config.valid}"

    @property
    def rows(self) -> Path:
        """Folder of the parquet rows."""
        return self.options.results / self.sweep.name / self.folder_name

    @property
    def report(self) -> Path:
        """Folder of tables and figures."""
        return self.options.reports / self.sweep.name / self.folder_name

    def trial_folder(self, trial: Trial) -> Path:
        """Shared by all sweeps that need this training."""
        return self.options.results / "trials" / trial.key

    def cell_file(self, trial: Trial, cell: Cell, name: str) -> Path:
        """A file of one evaluation."""
        return self.trial_folder(trial) / "cells" / cell.key / name

    def is_trained(self, trial: Trial) -> bool:
        """Whether the training is finished."""
        return (self.trial_folder(trial) / "trial.json").is_file()

    def record(self, trial: Trial, cell: Cell, name: str) -> dict[str, Any] | None:
        """A cell's ``metrics.json`` or ``speed.json``; None where it is missing or damaged."""
        try:
            found: dict[str, Any] = json.loads(self.cell_file(trial, cell, name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) and NEEDED[name] in found else None

    def without(self, trial: Trial, name: str) -> list[Cell]:
        """The trial's cells that lack a file, or have a damaged one."""
        return [cell for cell in trial.cells if self.record(trial, cell, name) is None]

    def measured_columns(self) -> list[str]:
        """Columns that a finished row has numbers in."""
        return ["AP", *(["fps"] if "speed" in self.sweep.measure else [])]


def make_plan(options: Options) -> Plan:
    """Read the sweep, the scale and the data's description; nothing is run or written."""
    _check_places(options)
    if re.fullmatch(r"auto|cpu|cuda(:\d+)?", options.device) is None:
        raise InputError(f"--device: {options.device!r}: allowed: auto, cpu, cuda, cuda:<number>")
    sweep = load_sweep(options.sweep)
    scale = load_scale(options.scale)
    overrides: dict[str, Any] = {}
    if options.data is not None:
        overrides["data.kind"] = "folder"
    if options.split is not None:
        overrides["data.valid"] = options.split
    anything = Identities("", "", "", "")
    files = (str(options.sweep), scale_file(options.scale))
    _check_report(sweep, str(options.sweep))
    config = expand(sweep, scale, anything, overrides, *files)[0].config
    if options.split is not None and re.fullmatch(r"[\w.-]+", options.split) is None:
        raise InputError(
            f"--split: {options.split!r}: allowed: the name of a json of the folder, such as valid"
        )
    if options.split is not None and config.data.kind == "synthetic":
        raise InputError(
            f"--split: {options.split!r}: embedded data has the split 'valid' only; needs --data"
        )
    source = find_data(config.data, options.data, str(options.sweep))
    overrides["data.train"], overrides["data.valid"] = source.config.train, source.config.valid
    overrides["model.num_classes"] = source.num_classes
    identities = Identities(
        source.train_identity,
        source.valid_identity,
        code_version(TRAINING_CODE),
        code_version(EVALUATION_CODE),
    )
    trials = expand(sweep, scale, identities, overrides, *files)
    _check_classes(sweep, scale, source, files)
    return Plan(options, sweep, scale, source, tuple(trials))


def _check_report(sweep: SweepFile, file: str) -> None:
    """Refuse before the first training what would spoil the table after the last."""
    for key in sweep.axes:
        if key not in (sweep.table.rows, sweep.table.columns):
            raise InputError(f"{file}: axes.{key}: neither the table's rows nor its columns; tables have two")
    if sweep.name in TAKEN:
        raise InputError(f"{file}: name: {sweep.name!r}: taken; allowed: any but {', '.join(TAKEN)}")
    if sweep.std_table == sweep.name:
        raise InputError(f"{file}: std_table: {sweep.std_table!r}: must differ from name")
    if "ap" not in sweep.measure:
        raise InputError(f"{file}: measure: {list(sweep.measure)}: 'ap' is always measured; name it too")
    for metric in (*sweep.table.cells, *sweep.figures):
        if metric in ("fps", "peak_memory_gb") and "speed" not in sweep.measure:
            raise InputError(f"{file}: {metric}: shown but not measured; add 'speed' to measure")
    tables = yaml.safe_load((PROJECT / "harness" / "paper.yaml").read_text(encoding="utf-8"))
    for key, name in (("paper", sweep.paper), ("paper_std", sweep.paper_std)):
        if name is not None and name not in tables:
            raise InputError(
                f"{file}: {key}: {name!r}: not in harness/paper.yaml; it has {', '.join(tables)}"
            )


def _check_classes(sweep: SweepFile, scale: ScaleFile, source: DataSource, files: tuple[str, str]) -> None:
    """The number of classes is the data's: any other would train a class as "no object"."""
    if "model.num_classes" in sweep.axes:
        raise InputError(f"{files[0]}: axes.model.num_classes: given by the data; no axis")
    for file, settings in zip(files, (sweep.settings, scale.settings), strict=True):
        said = settings.get("model", {}).get("num_classes", source.num_classes)
        if said != source.num_classes:
            raise InputError(
                f"{file}: model.num_classes: {said}: {source.name} has {source.num_classes}; leave it out"
            )


def _check_places(options: Options) -> None:
    """Refuse now what would otherwise end a run after hours."""
    for option, folder in (("--results", options.results), ("--reports", options.reports)):
        for place in (folder, *folder.parents):
            if place.exists() and not place.is_dir():
                raise InputError(f"{option} {folder}: {place} is a file; a folder is expected")
