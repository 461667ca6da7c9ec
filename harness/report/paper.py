"""The paper's numbers for the cells of a table, from ``harness/paper.yaml``."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from harness.report.statistics import Place
from harness.report.table_spec import AXIS_LETTERS, TableSpec, Value, canonical
from model.errors import InputError


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
    for row in spec.row_order:
        for column in spec.column_order:
            cell = _cell(book[key], spec, row, column)
            if not isinstance(cell, dict):  # a bare number: the table's name ends with its metric
                cell = {} if cell is None else {key.rsplit("_", 1)[-1]: cell}
            for metric in spec.cells:
                if isinstance(cell.get(metric), int | float):
                    numbers[canonical(row), canonical(column), metric] = float(cell[metric])
    return numbers


@cache
def _book() -> dict[str, Any]:
    book: dict[str, Any] = yaml.safe_load(files("harness").joinpath("paper.yaml").read_text(encoding="utf-8"))
    return book


def _cell(table: Any, spec: TableSpec, row: Value, column: Value) -> Any:
    """What the paper prints at (row, column): a number, a dict of metrics, or None."""
    if isinstance(table, list):  # entries that name both values, as in Table 2(d)
        wanted = {AXIS_LETTERS.get(spec.rows): row, AXIS_LETTERS.get(spec.columns): column}
        if None in wanted or len(wanted) < 2:
            return None
        return next((entry for entry in table if wanted.items() <= entry.items()), None)
    across = _look_up(table, spec.rows, row)
    return _look_up(across, spec.columns, column) if isinstance(across, dict) else None


def _look_up(table: dict[str, Any], key: str, value: Value) -> Any:
    return table.get(canonical(value), table.get(f"{AXIS_LETTERS.get(key)}={canonical(value)}"))
