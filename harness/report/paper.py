"""The paper's numbers for the cells of a table, from ``harness/paper.yaml``.

Each table of the paper is nested in its own way. All that is needed is how the paper writes a value
(``T=5``, ``R50``, ``with_memory``): the way from the top of a table to a number is found from those names.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from harness.report.statistics import Place
from harness.report.table_spec import AXIS_LETTERS, TableSpec, Value, canonical, place
from model.errors import InputError

_NAMES: dict[tuple[str, str], str] = {
    ("model.encoder", "ifc"): "ifc_m8",
    ("model.memory_tokens", "0"): "without_memory",
    ("model.memory_tokens", "8"): "with_memory",
    ("model.backbone", "resnet50"): "R50",
    ("model.backbone", "resnet101"): "R101",
    ("train.matching", "box"): "box_based",
    ("train.matching", "mask"): "mask_based",
}
"""Spellings that neither the value nor its letter gives"""
_FIELDS = {**AXIS_LETTERS, "model.backbone": "backbone"}
"""Fields of the tables that are lists of entries"""
_METHOD = "IFC"
"""Whose entries of those lists are meant"""
_METRIC_SUFFIXES = {"AP": "AP", "flops_g": "flops_g"}
"""End of a table's name -> metric, where the table holds bare numbers"""


def paper_cells(key: str | None, spec: TableSpec) -> dict[Place, float]:
    """(row, column, metric) -> the paper's number, in its units; cells that the paper lacks are absent.

    Raises:
        InputError: ``paper.yaml`` has no table of that name.
    """
    if key is None:
        return {}
    book = _book()
    if key not in book:
        raise InputError(f"table {spec.name}: paper.yaml has no {key!r}; it has {', '.join(book)}")
    numbers: dict[Place, float] = {}
    for row in spec.rows.order:
        for column in spec.columns.order:
            varied = dict(zip((*spec.rows.keys, *spec.columns.keys), (*row, *column), strict=True))
            for metric, number in _metrics(key, _cell(book[key], varied)).items():
                if metric in spec.cells:
                    numbers[place(row), place(column), metric] = number
    return numbers


@cache
def _book() -> dict[str, Any]:
    book: dict[str, Any] = yaml.safe_load(files("harness").joinpath("paper.yaml").read_text(encoding="utf-8"))
    return book


def _metrics(key: str, cell: Any) -> dict[str, float]:
    """The metrics of what the paper prints in one cell."""
    if isinstance(cell, int | float):
        return {metric: float(cell) for suffix, metric in _METRIC_SUFFIXES.items() if key.endswith(suffix)}
    found = cell.items() if isinstance(cell, dict) else ()
    return {name: float(number) for name, number in found if isinstance(number, int | float)}


def _cell(table: Any, varied: dict[str, Value]) -> Any:
    """What the paper prints for these values: a number, a dict of metrics, or None."""
    if isinstance(table, list):
        return _entry(table, varied)
    if not varied or not isinstance(table, dict):
        return None if varied else table
    for key, value in varied.items():
        for name in _spellings(key, value):
            if name in table:
                return _cell(table[name], {k: v for k, v in varied.items() if k != key})
    return None


def _entry(table: list[dict[str, Any]], varied: dict[str, Value]) -> dict[str, Any] | None:
    """The entry of a list that has all of these values; a key that no entry states cannot tell them apart."""
    wanted = {}
    for key, value in varied.items():
        if key not in _FIELDS:
            return None
        if any(_FIELDS[key] in entry for entry in table):
            wanted[_FIELDS[key]] = _NAMES.get((key, canonical(value)), value)
    ours = [entry for entry in table if str(entry.get("method", _METHOD)).startswith(_METHOD)]
    return next((entry for entry in ours if wanted.items() <= entry.items()), None)


def _spellings(key: str, value: Value) -> list[str]:
    """How the paper's tables may write a value."""
    text = canonical(value)
    named = [text, f"{AXIS_LETTERS.get(key)}={text}", f"{key.rsplit('.', 1)[-1]}_{text}"]
    return [*named, *([_NAMES[key, text]] if (key, text) in _NAMES else [])]
