"""What a sweep asks of its table: one frozen object that every file of this room reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.metrics import (
    ERROR_KINDS,
    ERROR_METRICS,
    ERROR_NAMES,
    LEVELS,
    SITUATION_METRICS,
    SITUATION_NAMES,
    SITUATIONS,
)
from harness.sweep_file import Claim

Value = str | int | float | bool | None
"""A value of a varied configuration key, as YAML gives it."""

Values = tuple[Value, ...]
"""One value for each key of a side."""


Place = tuple[str, str, str]
"""(row, column, metric), row and column in their canonical spelling."""


@dataclass(frozen=True)
class Side:
    """What runs down a table, or across it: some keys, and the values that they take together."""

    keys: tuple[str, ...]
    """Dotted configuration keys, such as ``model.encoder``; none where the metrics alone stand across."""
    order: tuple[Values, ...]

    @property
    def places(self) -> tuple[str, ...]:
        """The canonical name of each of ``order``."""
        return tuple(place(values) for values in self.order)

    @property
    def title(self) -> str:
        """Name of the side for a head or a figure."""
        return ", ".join(axis_title(key) for key in self.keys)

    def labels(self, values: Values) -> tuple[str, ...]:
        """Printed names of some values, one a key."""
        return tuple(value_label(key, value) for key, value in zip(self.keys, values, strict=True))

    def label(self, values: Values) -> str:
        """Printed name of some values."""
        return ", ".join(self.labels(values))


def place(values: Values) -> str:
    """One spelling for the values of a side."""
    return " / ".join(canonical(value) for value in values)


@dataclass(frozen=True)
class TableSpec:
    """A table of one sweep at one scale: which rows, columns and metrics, in which order."""

    name: str
    """Stem of the files, such as ``table3a``."""
    title: str
    rows: Side
    columns: Side
    cells: tuple[str, ...]
    """Metrics of a cell, such as AP, fps and dAP_missed (:mod:`harness.metrics`)."""
    paper: str | None
    """Key of ``harness/paper.yaml`` with the paper's means."""
    paper_std: str | None
    """Key of ``harness/paper.yaml`` with the paper's standard deviations."""
    std_name: str | None
    """Stem of the table of standard deviations; None makes none."""
    seeds: tuple[int, ...]
    """The planned seeds of each cell: what n is compared with."""
    scale: str
    figures: tuple[str, ...]
    """Metrics drawn against the columns' key."""
    fixed: Mapping[str, Value] = field(default_factory=dict)
    """Keys of :data:`PAPER_SETTING` that do not vary, and their values."""
    stand_ins: Mapping[str, str] = field(default_factory=dict)
    """Value of the sweep that is too large for the scale -> what ran in its place."""
    claims: tuple[Claim, ...] = ()
    """What the paper says of this table."""
    margins: Mapping[str, float | str] = field(default_factory=dict)
    """Metric -> how far from the paper's mean still counts as equal, in its unit or as ``5%``."""
    growth: str | None = None
    """Key of ``harness/paper.yaml`` whose complexities stand beside fitted exponents; None fits none."""


METRIC_NAMES = {
    "AP": "AP",
    "AP50": "AP50",
    "AP75": "AP75",
    "AR1": "AR1",
    "AR10": "AR10",
    "fps": "FPS",
    "peak_memory_gb": "Mem. (GB)",
    "flops_g": "GMACs",
    "model_fps": "FPS (model)",
    "encoder_ms": "Encoder (ms)",
    "model_memory_gb": "Act. mem. (GB)",
    **{
        f"AP_{situation}_{level}": f"AP ({SITUATION_NAMES[situation]} {level})"
        for situation in SITUATIONS
        for level in LEVELS
    },
    **{f"dAP_{kind}": f"dAP ({ERROR_NAMES[kind]})" for kind in ERROR_KINDS},
}

UNITS = {
    "AP": "%",
    "AP50": "%",
    "AP75": "%",
    "AR1": "%",
    "AR10": "%",
    "fps": "frames/s",
    "peak_memory_gb": "GB",
    "flops_g": "10^9 multiply-adds",
    "model_fps": "frames/s",
    "encoder_ms": "ms a clip",
    "model_memory_gb": "GB",
    **dict.fromkeys(SITUATION_METRICS, "%"),
    **dict.fromkeys(ERROR_METRICS, "points"),
}

PAPER_SETTING: dict[str, Value] = {
    "model.encoder": "ifc",
    "model.memory_tokens": 8,
    "model.memory_mixing": "decomposed",
    "inference.stride": 1,
    "train.matching": "mask",
}
"""What the paper's tables hold fixed of what they ablate, unless they vary it."""

COUNTED_METRICS = ("flops_g",)
"""Metrics that are counted, not measured: no seed, no data and no machine changes them."""

MODEL_METRICS = ("model_fps", "encoder_ms", "model_memory_gb")
"""Metrics of an untrained model by itself"""

HARDWARE_METRICS = ("fps", "peak_memory_gb", *MODEL_METRICS)
"""Metrics that belong to a machine: never put together across machines."""

LESS_IS_BETTER = ("peak_memory_gb", "flops_g", "encoder_ms", "model_memory_gb", *ERROR_METRICS)
"""Of all other metrics more is."""

AXIS_LETTERS = {"inference.window": "T", "inference.stride": "S", "model.memory_tokens": "M"}
"""The paper's letters, which also name rows and columns in ``harness/paper.yaml``."""

AXIS_TITLES = {
    "model.encoder": "Encoder",
    "model.memory_tokens": "Memory tokens",
    "model.memory_mixing": "Memory mixing",
    "model.backbone": "Backbone",
    "train.matching": "Matching",
    "flops.resolution": "Frame size",
    "clip.resolution": "Frame size",
    "inference.window": "Window T (frames)",
    "inference.stride": "Stride S (frames)",
}

_VALUE_NAMES = {
    "no_comm": "No Comm",
    "full_thw": "Full THW",
    "decomp_t_hw": "Decomp T-HW",
    "ifc": "IFC",
    "unified": "Unified",
    "decomposed": "Decomposed",
    "resnet18": "R18",
    "resnet50": "R50",
    "resnet101": "R101",
    "tiny": "Tiny",
    "tiny_deep": "Tiny deep",
    "box": "Box-based",
    "mask": "Mask-based",
}


def canonical(value: object) -> str:
    """One spelling for a key's value, whatever type parquet gave it: 5, 5.0 and "5" are the same cell."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def axis_title(key: str) -> str:
    """Name of an axis for a head or a figure; an unknown key shows its last part."""
    return AXIS_TITLES.get(key, key.rsplit(".", 1)[-1].replace("_", " "))


def value_label(key: str, value: Value) -> str:
    """Name of a value: ``T=5``, ``No Comm``, or ``dropout=0.1`` for a key without a name or letter here."""
    text = canonical(value)
    if key in AXIS_LETTERS:
        return f"{AXIS_LETTERS[key]}={text}"
    if key in AXIS_TITLES:
        return _VALUE_NAMES.get(text, text)
    return f"{axis_title(key)}={text}"


def metric_name(metric: str) -> str:
    """Printed name of a metric."""
    return METRIC_NAMES.get(metric, metric)


def decimals(metric: str) -> int:
    """Digits behind the point, as the paper prints them."""
    return {"model_memory_gb": 3, "encoder_ms": 2}.get(metric, 2 if metric in COUNTED_METRICS else 1)


def is_counted(metrics: tuple[str, ...]) -> bool:
    """Whether nothing was trained or measured for these metrics."""
    return all(metric in COUNTED_METRICS for metric in metrics)
