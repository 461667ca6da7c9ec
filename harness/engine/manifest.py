"""``_plan.json`` of a sweep: what its last run meant to do, for those who look without planning anew."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from harness.engine.choice import spelled
from harness.engine.initial_weights import FOLDER_VARIABLE
from harness.engine.plan import TAKEN, Plan
from harness.engine.trial_files import TrialFiles
from harness.provenance import PROJECT, code_versions, now
from harness.record_file import read_record, write_record
from harness.sweep import Trial, is_evaluation_key
from harness.sweep_file import Measure

MANIFEST = "_plan.json"


class _Record(BaseModel):
    """Keys of newer versions are not ours to refuse."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class ManifestCell(_Record):
    """One cell, by the values of every axis."""

    key: str
    varied: dict[str, Any]


class ManifestTrial(_Record):
    """One training of the sweep."""

    key: str
    label: str
    seed: int
    steps: int
    only: str
    """What ``--only`` takes to choose it"""
    cells: tuple[ManifestCell, ...]


class Manifest(_Record):
    """What a sweep at a scale on a data set consists of, and the options that lead to it."""

    sweep: str
    title: str
    sweep_file: str
    scale: str
    scale_argument: str
    data: str | None
    split: str | None
    weights: str | None
    device: str
    seeds: str | None = None
    """What ``--seeds`` said"""
    memory_budget: int | None = None
    """Bytes that a process may have"""
    code: dict[str, str] = Field(default={})
    measure: tuple[str, ...]
    trials: tuple[ManifestTrial, ...]
    written: str
    _folder: Path = PrivateAttr(default=Path())

    @property
    def folder(self) -> Path:
        """Of the rows; ``_plan.json`` lies in it."""
        return self._folder

    @property
    def name(self) -> str:
        """``sweep/folder``, such as ``table3a/tiny``."""
        return f"{self._folder.parent.name}/{self._folder.name}"


@dataclass(frozen=True)
class PlannedFiles(TrialFiles):
    """The files of a sweep that was planned by an earlier run."""

    folder: Path
    manifest: Manifest

    @property
    def results(self) -> Path:
        """The results folder."""
        return self.folder

    @property
    def rows(self) -> Path:
        """Folder of the parquet rows."""
        return self.manifest.folder

    @property
    def measures(self) -> Sequence[Measure]:
        """What the sweep measures."""
        return cast(Sequence[Measure], self.manifest.measure)

    @property
    def memory_budget(self) -> int | None:
        """Bytes that a process may have."""
        return self.manifest.memory_budget

    @property
    def score_code(self) -> Mapping[str, str]:
        """Versions that the run meant, not this checkout's."""
        return {name: self.manifest.code[name] for name in self.measures if name in self.manifest.code}


def manifest(plan: Plan) -> dict[str, Any]:
    """What ``_plan.json`` holds of a plan; folders found through environment variables are spelled out."""
    options = plan.options
    data = options.data or plan.source.folder
    weights = options.weights
    if weights is None and plan.weights.files:
        weights = Path(os.environ[FOLDER_VARIABLE])
    keys = [key for key in plan.sweep.varied_keys() if not is_evaluation_key(key)]
    return {
        "sweep": plan.sweep.name,
        "title": plan.sweep.title,
        "sweep_file": _from_here(options.sweep),
        "scale": plan.scale.name,
        "scale_argument": options.scale,
        "data": None if data is None else str(data),
        "split": options.split,
        "weights": None if weights is None else str(weights),
        "device": options.device,
        "seeds": options.seeds,
        **({} if options.memory_budget is None else {"memory_budget": options.memory_budget}),
        "code": {**dict(zip(("training", "evaluation"), code_versions(), strict=True)), **plan.score_code},
        "measure": list(plan.sweep.measure),
        "trials": [_trial(trial, keys, plan.sweep.varied_keys()) for trial in plan.trials],
        "written": now(),
    }


def _from_here(file: Path) -> str:
    """A file of this checkout as it is called in any other, too; other files as they were named."""
    try:
        return str(file.resolve().relative_to(PROJECT))
    except ValueError:
        return str(file)


def write_manifest(plan: Plan) -> None:
    """Leave the plan's manifest beside its rows, unless it is there already."""
    file = plan.rows / MANIFEST
    content = manifest(plan)
    if read_record(file) | {"written": None} == json.loads(json.dumps(content)) | {"written": None}:
        return
    plan.rows.mkdir(parents=True, exist_ok=True)
    write_record(file, content)


def _trial(trial: Trial, keys: list[str], varied: tuple[str, ...]) -> dict[str, Any]:
    return {
        "key": trial.key,
        "label": trial.label(),
        "seed": trial.seed,
        "steps": trial.config.train.steps,
        "only": only(trial, keys, varied),
        "cells": [{"key": cell.key, "varied": dict(cell.varied)} for cell in trial.cells],
    }


def only(trial: Trial, keys: list[str], varied: tuple[str, ...]) -> str:
    """``encoder=ifc,seed=0``: chooses this trial, with all its cells, among those of its sweep.

    Args:
        keys: varied dotted keys that a training depends on.
        varied: all varied keys; one that ends like another, or is called seed, is written whole.
    """
    ends = [key.rsplit(".", 1)[-1] for key in varied]
    pairs = []
    for key in keys:
        values = [dict(cell.varied)[key] for cell in trial.cells]
        if any(value != values[0] for value in values):
            continue  # cells that share the training differ in it
        end = key.rsplit(".", 1)[-1]
        name = end if ends.count(end) == 1 and end != "seed" else key
        pairs.append(f"{name}={spelled(values[0])}")
    return ",".join([*pairs, f"seed={trial.seed}"])


def load_manifests(results: Path) -> tuple[list[Manifest], list[str]]:
    """All sweeps of a results folder, in order of name; and one line for each file that cannot be used."""
    found, spoilt = [], []
    for path in _manifest_files(results):
        try:
            made = Manifest.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            detail = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.strerror
            spoilt.append(f"{path}: not the plan of a sweep ({detail}); a run of that sweep writes it anew")
            continue
        made._folder = path.parent
        found.append(made)
    return found, spoilt


def _manifest_files(results: Path) -> Iterator[Path]:
    if not results.is_dir():
        return
    for sweep in sorted(results.iterdir()):  # thousands of trials are not looked through
        if sweep.name not in TAKEN:
            yield from sorted(sweep.glob(f"*/{MANIFEST}"))
