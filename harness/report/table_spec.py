"""What a sweep asks of its table: one frozen object that every file of this room reads."""

from __future__ import annotations

from dataclasses import dataclass

Value = str | int | float | bool | None
"""A value of a varied configuration key, as YAML gives it."""


@dataclass(frozen=True)
class TableSpec:
    """A table of one sweep at one scale: which rows, columns and metrics, in which order."""

    name: str
    """Stem of the files, such as ``table3a``."""
    title: str
    rows: str
    """Dotted configuration key down the table, such as ``model.encoder``."""
    columns: str
    """Dotted configuration key across the table, such as ``inference.window``."""
    cells: tuple[str, ...]
    """Metrics of a cell: AP, AP50, AP75, AR1, AR10 (percent), fps (frames a second), peak_memory_gb."""
    paper: str | None
    """Key of ``harness/paper.yaml`` with the paper's means."""
    paper_std: str | None
    """Key of ``harness/paper.yaml`` with the paper's standard deviations."""
    std_name: str | None
    """Stem of the table of standard deviations; None makes none."""
    row_order: tuple[Value, ...]
    column_order: tuple[Value, ...]
    seeds: tuple[int, ...]
    """The planned seeds of each cell: what n is compared with."""
    scale: str
    figures: tuple[str, ...]
    """Metrics drawn against the columns' key."""


METRIC_NAMES = {
    "AP": "AP",
    "AP50": "AP50",
    "AP75": "AP75",
    "AR1": "AR1",
    "AR10": "AR10",
    "fps": "FPS",
    "peak_memory_gb": "Mem. (GB)",
}

HARDWARE_METRICS = ("fps", "peak_memory_gb")
"""Metrics that belong to a machine: never put together across machines."""

AXIS_LETTERS = {"inference.window": "T", "inference.stride": "S", "model.memory_tokens": "M"}
"""The paper's letters, which also name rows and columns in ``harness/paper.yaml``."""

AXIS_TITLES = {
    "model.encoder": "Encoder",
    "model.memory_tokens": "Memory tokens",
    "model.memory_mixing": "Memory mixing",
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
    """Name of a value: ``T=5``, ``No Comm``, or ``threads=2`` for a key the paper has no letter for."""
    text = canonical(value)
    if key in AXIS_LETTERS:
        return f"{AXIS_LETTERS[key]}={text}"
    if key in AXIS_TITLES:
        return _VALUE_NAMES.get(text, text)
    return f"{axis_title(key)}={text}"


def metric_name(metric: str) -> str:
    """Printed name of a metric."""
    return METRIC_NAMES.get(metric, metric)
