"""A sweep file and a scale become trials: pure functions, nothing runs here.

A *trial* is one training: a configuration and a seed. Its *cells* are the settings of inference it is
evaluated at; they never lead to another training.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from harness.config import TrialConfig
from harness.sweep_file import ScaleFile, SweepFile, seed_list
from model.config import first_problem
from model.errors import InputError

EVALUATION_SECTIONS = ("inference", "speed", "flops")
"""Sections of a configuration that no training depends on."""


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
    base = _base_settings(sweep, scale, scale_source)
    for key, value in (overrides or {}).items():
        _assign(base, key, value, source)
    seeds = _seeds(sweep, scale, source, scale_source)

    grid: dict[str, list[tuple[TrialConfig, tuple[tuple[str, Any], ...]]]] = {}
    axes = sweep.grid_axes()
    keys = sweep.varied_keys()
    for point in itertools.product(*(axis.values for axis in axes)):
        settings, said = _merged(base, {}), _merged(sweep.settings, {})
        for key, value in zip(keys, itertools.chain(*point), strict=True):
            _assign(settings, key, _stand_in(scale, key, value), source)
            _assign(said, key, value, source)
        try:
            config = TrialConfig.model_validate(settings)
        except ValidationError as error:
            # The scale is to blame for what it alone says.
            place = error.errors()[0]["loc"]
            amount = _merged(scale.settings, scale.images)
            blamed = scale_source if _says(amount, place) and not _says(said, place) else source
            raise InputError(f"{blamed}: {first_problem(error, TrialConfig)}") from None
        varied = tuple((key, _value(config, key, source)) for key in keys)
        grid.setdefault(training_identity(config, identities), []).append((config, varied))
    _check_that_cells_differ(grid, source, scale_source)
    return [
        _trial(_hash([training, seed]), seed, cells, identities)
        for training, cells in grid.items()
        for seed in seeds
    ]


def _seeds(sweep: SweepFile, scale: ScaleFile, source: str, scale_source: str) -> tuple[int, ...]:
    """The scale's where it says some; a count has none to vary."""
    if "ap" not in sweep.measure:
        return (0,)
    if scale.seeds is not None:
        return seed_list(scale.seeds, scale_source)
    return seed_list(sweep.seeds, source)


def training_identity(config: TrialConfig, identities: Identities) -> str:
    """Hash of all that a trained model depends on, but for the seed."""
    recipe = config.model_dump(mode="json", exclude=set(EVALUATION_SECTIONS))
    recipe["data"] = None  # its identity says more: it is of the bytes
    # Where and how often, not what: neither changes a result.
    for key in ("threads", "checkpoint_every"):
        recipe["train"].pop(key)
    stem = initial_stem(config)
    initial = None if stem is None else identities.initial_weights.get(stem)
    return _hash([recipe, identities.train_data, identities.training_code, initial])


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


def _trial(
    key: str,
    seed: int,
    cells: list[tuple[TrialConfig, tuple[tuple[str, Any], ...]]],
    identities: Identities,
) -> Trial:
    made = []
    for config, varied in cells:
        evaluation = config.model_dump(mode="json", include=set(EVALUATION_SECTIONS))
        key_parts = [key, evaluation, identities.valid_data, identities.evaluation_code]
        made.append(Cell(config, varied, _hash(key_parts)))
    return Trial(key, seed, cells[0][0], tuple(made))


def _value(config: TrialConfig, key: str, source: str) -> Any:
    """What the configuration holds at a dotted key, so that 1 and 1.0 have one type in all rows."""
    value: Any = config.model_dump(mode="json")
    for part in key.split("."):
        value = value[part]
    if isinstance(value, dict):
        raise InputError(f"{source}: axes.{key}: a section; allowed: one of its keys ({', '.join(value)})")
    return value


def _check_that_cells_differ(
    grid: Mapping[str, list[tuple[TrialConfig, tuple[tuple[str, Any], ...]]]], source: str, scale_source: str
) -> None:
    """Refuse axes that lead twice to the same trial and evaluation, such as ``train.threads``."""
    for cells in grid.values():
        seen: dict[str, tuple[tuple[str, Any], ...]] = {}
        for config, varied in cells:
            evaluation = config.model_dump_json(include=set(EVALUATION_SECTIONS))
            if evaluation in seen:
                pairs = zip(seen[evaluation], varied, strict=True)
                differ = [(k, a, b) for (k, a), (_, b) in pairs if a != b]
                if not differ:
                    raise InputError(
                        f"{source}: axes: two values come to {dict(varied)} by {scale_source}'s stand_ins"
                    )
                key, first, second = differ[0]
                raise InputError(
                    f"{source}: axes.{key}: {first!r} and {second!r} come to the same result; "
                    "an axis varies what a training or an evaluation depends on"
                )
            seen[evaluation] = varied


def _base_settings(sweep: SweepFile, scale: ScaleFile, scale_source: str) -> dict[str, Any]:
    """The scale's settings, those for images where the sweep is on images, then the sweep's."""
    _check_stand_ins(scale, scale_source)
    data = sweep.settings.get("data")
    on_images = isinstance(data, dict) and data.get("benchmark") == "coco"
    amount = _merged(scale.settings, scale.images) if on_images else scale.settings
    return _merged(amount, sweep.settings)


def _stand_in(scale: ScaleFile, key: str, value: Any) -> Any:
    return scale.stand_ins.get(key, {}).get(str(value), value)


def _check_stand_ins(scale: ScaleFile, source: str) -> None:
    sections = set(TrialConfig.model_fields)
    for key in scale.stand_ins:
        if key.split(".")[0] not in sections or "." not in key:
            raise InputError(
                f"{source}: stand_ins.{key}: allowed: a dotted key of {', '.join(sorted(sections))}"
            )


def _says(settings: Mapping[str, Any], place: tuple[int | str, ...]) -> bool:
    """Whether these settings have the key at ``place``, or a value above it."""
    below: Any = settings
    for part in place:
        if not isinstance(below, Mapping):
            return True
        if part not in below:
            return False
        below = below[part]
    return True


def _merged(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """A deep copy of ``lower`` with ``upper`` laid over it."""
    merged = {key: _merged(value, {}) if isinstance(value, dict) else value for key, value in lower.items()}
    for key, value in upper.items():
        below = merged.get(key)
        merged[key] = (
            _merged(below if isinstance(below, dict) else {}, value) if isinstance(value, dict) else value
        )
    return merged


def _assign(settings: dict[str, Any], key: str, value: Any, source: str) -> None:
    *sections, name = key.split(".")
    for section in sections:
        below = settings.setdefault(section, {})
        if not isinstance(below, dict):
            raise InputError(f"{source}: {key}: {section!r} is a value, not a section")
        settings = below
    settings[name] = value


def _hash(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def trial_cells(trials: list[Trial]) -> Iterator[tuple[Trial, Cell]]:
    """Every (trial, cell) of the sweep."""
    return ((trial, cell) for trial in trials for cell in trial.cells)
