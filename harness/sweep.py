"""A sweep file and a scale become trials: pure functions, nothing runs here.

A *trial* is one training: a configuration and a seed. Its *cells* are the settings of inference it is
evaluated at; they never lead to another training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from harness.config import SyntheticConfig, TrialConfig
from harness.grid import EVALUATION_SECTIONS, Grid, Point, Section, as_json, identity_texts
from harness.sweep_file import ScaleFile, SweepFile, seed_list


@dataclass(frozen=True)
class Cell:
    """One number of the table, for one seed."""

    config: TrialConfig
    varied: tuple[tuple[str, Any], ...]
    """(dotted key, value) of every axis"""
    key: str
    """Identity of this evaluation: its trial, and how it is evaluated and timed."""


@dataclass(frozen=True)
class Trial:
    """One training and the cells that are evaluated with its weights."""

    key: str
    seed: int
    config: TrialConfig
    """The configuration of the training; its evaluation sections are those of the first cell."""
    cells: tuple[Cell, ...]

    def label(self) -> str:
        """How people call it: the varied values that lead to this training, and the seed."""
        varied = [(key, value) for key, value in self.cells[0].varied if not is_evaluation_key(key)]
        # A name speaks for itself; a number needs its key.
        names = [
            value if isinstance(value, str) else f"{key.rsplit('.', 1)[-1]}={value}" for key, value in varied
        ]
        return " ".join([*names, f"seed {self.seed}"])


@dataclass(frozen=True)
class Identities:
    """What besides configuration and seed decides a result."""

    train_data: str
    valid_data: str
    training_code: str
    evaluation_code: str
    initial_weights: Mapping[str, str] = field(default_factory=dict)
    """Stem of a weights file (:func:`initial_stem`) -> checksum of its bytes"""
    memory_budget: int | None = None
    """Bytes that a process may have: part of what an evaluation is, not of what a training gives"""
    embedded: Mapping[SyntheticConfig, str] = field(default_factory=dict)
    """Identity of each embedded data set, where a sweep varies them; ``train_data`` and ``valid_data`` are
    then those of the first"""

    def data_of(self, config: TrialConfig) -> tuple[str, str]:
        """Identities of what a configuration trains on, and of what it is scored on."""
        own = self.embedded.get(config.data.synthetic) if self.embedded else None
        return (self.train_data, self.valid_data) if own is None else (own, own)


def expand(
    sweep: SweepFile,
    scale: ScaleFile,
    identities: Identities,
    overrides: Mapping[str, Any] | None = None,
    source: str = "sweep",
    scale_source: str = "scale",
) -> list[Trial]:
    """All trials of the grid, in the order of the file: axes from slow to fast, then seeds.

    Args:
        overrides: dotted key -> value that win over sweep and scale (the data the command line names).
        source: the sweep's file, for errors.
        scale_source: the scale's.

    Raises :class:`InputError` for keys and values that no configuration has, and for axes that vary nothing.
    """
    grid, seeds = Grid(sweep, scale, source, scale_source), seeds_of(sweep, scale, source, scale_source)
    return trials_of(grid.points(overrides), seeds, identities)


def trials_of(points: list[Point], seeds: tuple[int, ...], identities: Identities) -> list[Trial]:
    """The trainings of these points, once for each seed, and their cells.

    Raises ValueError where they vary embedded data whose identities are not given.
    """
    if not identities.embedded and len(embedded_data(points)) > 1:
        raise ValueError("points of several embedded data sets need the identity of each")
    groups: dict[str, list[Point]] = {}
    for point in points:
        groups.setdefault(_training_key(point.recipe, point.config, identities), []).append(point)
    return [
        _trial(_hash(f'["{training}",{seed}]'), seed, cells, identities)
        for training, cells in groups.items()
        for seed in seeds
    ]


def embedded_data(points: Iterable[Point]) -> tuple[SyntheticConfig, ...]:
    """The embedded data sets that points train on, each once, in their order."""
    data = (point.config.data for point in points)
    return tuple(dict.fromkeys(each.synthetic for each in data if each.kind == "synthetic"))


def seeds_of(sweep: SweepFile, scale: ScaleFile, source: str, scale_source: str) -> tuple[int, ...]:
    """The scale's where it says some; a count has none to vary."""
    if "ap" not in sweep.measure:
        return (0,)
    if scale.seeds is not None:
        return seed_list(scale.seeds, f"{scale_source}: seeds")
    return seed_list(sweep.seeds, f"{source}: seeds")


def training_identity(config: TrialConfig, identities: Identities) -> str:
    """Hash of all that a trained model depends on, but for the seed."""
    sections = {name: Section.of(name, getattr(config, name)) for name in TrialConfig.model_fields}
    return _training_key(identity_texts(sections)[0], config, identities)


def _training_key(recipe: str, config: TrialConfig, identities: Identities) -> str:
    stem = initial_stem(config)
    initial = None if stem is None else identities.initial_weights.get(stem)
    data = identities.data_of(config)[0]
    return _hash(f"[{recipe},{_list_end(data, identities.training_code, initial)}")


def initial_stem(config: TrialConfig) -> str | None:
    """Name, without suffix, of the weights file that a training starts from; None starts at random.

    ``resnet50`` for a backbone alone, ``ifc-resnet50`` for a whole model.
    """
    model = config.model
    stems = {"random": None, "backbone": model.backbone, "model": f"{model.encoder}-{model.backbone}"}
    return stems[config.train.initial]


def is_evaluation_key(key: str) -> bool:
    """Whether an axis varies the evaluation only."""
    return key.split(".")[0] in EVALUATION_SECTIONS


def _trial(key: str, seed: int, points: list[Point], identities: Identities) -> Trial:
    # Without a budget a cell has the identity that it had before there were any.
    budget = () if identities.memory_budget is None else (f"memory {identities.memory_budget}",)
    end = _list_end(identities.data_of(points[0].config)[1], identities.evaluation_code, *budget)
    cells = (
        Cell(point.config, point.varied, _hash(f'["{key}",{point.evaluation},{end}')) for point in points
    )
    return Trial(key, seed, points[0].config, tuple(cells))


@cache
def _list_end(*parts: str | None) -> str:
    """The JSON text of a list that ends with these, from the first of them on."""
    return as_json(parts).removeprefix("[")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def trial_cells(trials: list[Trial]) -> Iterator[tuple[Trial, Cell]]:
    """Every (trial, cell) of the sweep."""
    return ((trial, cell) for trial in trials for cell in trial.cells)
