"""The paper's numbers for the cells of a table, from ``harness/paper.yaml``.

Each table of the paper is nested in its own way. All that is needed is how the paper writes a value
(``T=5``, ``R50``, ``with_memory``): the way from the top of a table to a number is found from those names.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from harness.report.table_spec import (
    AXIS_LETTERS,
    PAPER_SETTING,
    Place,
    TableSpec,
    Value,
    canonical,
    place,
)
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


def paper_table(key: str, spec: TableSpec) -> dict[str, Any]:
    """A table of ``paper.yaml`` as it stands there; raises :class:`InputError` where there is none."""
    book = _book()
    if not isinstance(book.get(key), dict):
        raise InputError(f"table {spec.name}: paper.yaml has no {key!r}; it has {', '.join(book)}")
    return dict(book[key])


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
            cell, unused = _cell(book[key], varied)
            if not _is_the_papers({**spec.fixed, **unused}, {**spec.fixed, **varied}):
                continue
            for metric, number in _metrics(key, cell).items():
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


def _is_the_papers(unused: dict[str, Value], settings: dict[str, Value]) -> bool:
    """Whether what the paper's table does not vary has the paper's values here.

    Memory is a matter of IFC alone: other encoders have none.
    """
    without_memory = settings.get("model.encoder", "ifc") != "ifc"
    return all(
        key in PAPER_SETTING and (value == PAPER_SETTING[key] or (without_memory and "memory" in key))
        for key, value in unused.items()
    )


def _cell(table: Any, varied: dict[str, Value]) -> tuple[Any, dict[str, Value]]:
    """What the paper prints for these values (a number, metrics or None), and the keys left over."""
    if isinstance(table, list):
        return _entry(table, varied)
    if isinstance(table, dict):
        for key, value in varied.items():
            for name in _spellings(key, value):
                if name in table:
                    return _cell(table[name], {k: v for k, v in varied.items() if k != key})
    return table, varied


def _entry(table: list[dict[str, Any]], varied: dict[str, Value]) -> tuple[Any, dict[str, Value]]:
    """The entry of a list that has all values it states; T that no entry states tells none apart."""
    wanted, unused = {}, {}
    for key, value in varied.items():
        if key in _FIELDS and any(_FIELDS[key] in entry for entry in table):
            wanted[_FIELDS[key]] = _NAMES.get((key, canonical(value)), value)
        elif key != "inference.window":
            unused[key] = value
    ours = [entry for entry in table if str(entry.get("method", _METHOD)).startswith(_METHOD)]
    return next((entry for entry in ours if wanted.items() <= entry.items()), None), unused


def _spellings(key: str, value: Value) -> list[str]:
    """How the paper's tables may write a value."""
    text = canonical(value)
    named = [text, f"{AXIS_LETTERS.get(key)}={text}", f"{key.rsplit('.', 1)[-1]}_{text}"]
    return [*named, *([_NAMES[key, text]] if (key, text) in _NAMES else [])]
