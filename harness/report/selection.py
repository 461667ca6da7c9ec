"""Which rows count: finished, planned, newest. What does not count is kept to be listed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.metrics import SITUATION_METRICS
from harness.report.table_spec import METRIC_NAMES, Side, TableSpec, canonical, place
from model.errors import InputError

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Selection:
    """The rows of a sweep, sorted out for one table."""

    used: pd.DataFrame
    """Finished runs, one for each (row_key, column_key, seed)."""
    failed: pd.DataFrame
    """Rows that are not ``done``; ``superseded``: a newer row took the place; ``planned``: of the plan."""
    superseded: int
    """Rows left out because a newer row is there for the same cell and seed."""
    unplanned: int
    """Finished rows left out because their scale, row, column or seed is not in the plan."""
    missing: tuple[tuple[str, str, tuple[int, ...]], ...]
    """(row_key, column_key, seeds) of planned runs that neither finished nor proved too large for memory."""

    def distinct(self, *columns: str) -> list[str]:
        """Distinct values over the used rows, joined by ", ", sorted; absent ones are "unknown"."""
        if self.used.empty:
            return []
        return sorted({", ".join(values) for values in _distinct(self.used, columns)})

    def out_of_memory(self) -> pd.DataFrame:
        """The newest rows of planned runs that did not fit in memory."""
        stands = (self.failed["status"] == "oom") & self.failed["planned"] & ~self.failed["superseded"]
        return self.failed[stands.astype(bool)]

    def measured(self, metrics: Iterable[str]) -> tuple[str, ...]:
        """Those of ``metrics`` of which some finished run has a finite number."""
        return tuple(name for name in metrics if any(value is not None for value in finite(self.used, name)))

    def without_number(self, metrics: Iterable[str]) -> dict[int, tuple[str, ...]]:
        """Position in ``used`` of each finished run that lacks a finite number -> of which metrics."""
        lacking: dict[int, tuple[str, ...]] = {}
        for metric in metrics:
            for position, value in enumerate(finite(self.used, metric)):
                if value is None:
                    lacking[position] = (*lacking.get(position, ()), metric)
        return dict(sorted(lacking.items()))

    def hardware(self) -> list[str]:
        """Distinct machines that the numbers come from: hardware, device and threads."""
        machines = _distinct(self.used, ("hardware", "device", "threads"))
        return sorted(
            f"{hardware} ({device}, {threads} thread{'' if threads == '1' else 's'})"
            for hardware, device, threads in machines
        )

    def too_few_tracks(self, metric: str) -> bool:
        """Whether AP by situation was looked for and no run has this one: its third has too few tracks."""
        looked = "situations_code" in self.used and bool(self.used["situations_code"].notna().any())
        return metric in SITUATION_METRICS and looked and metric not in self.measured((metric,))

    def mixed_data(self, *columns: str) -> bool:
        """Whether rows are of data that the sweep did not mean to differ, by checksum or ``columns``."""
        columns = columns or ("data_checksum",)
        if "data_checksum" not in self.used or self.used.empty:
            return False
        varied = [name for name in self.used.columns if name.startswith("data.")]
        return len(self.distinct(*columns, *varied)) > len(self.distinct(*varied) if varied else [""])

    def mixed_hardware(self) -> bool:
        """Whether speeds of these rows must not be put side by side."""
        return len(self.hardware()) > 1


def select(spec: TableSpec, rows: pd.DataFrame) -> Selection:
    """Sort the rows of a sweep out. No row is dropped without being counted.

    Of several rows for the same (row, column, seed), the one with the newest ``finished``
    (ISO time) stands, whatever its status: an older number must not stand in for code that now
    fails. Of a tie a row that did not finish stands, else the last by its text: the order of
    ``rows`` decides nothing.

    Raises:
        InputError: a column that the table needs is not in ``rows``.
    """
    table = _with_keys(spec, rows)
    planned = (
        table["row_key"].isin(spec.rows.places)
        & table["column_key"].isin(spec.columns.places)
        & table["seed_key"].isin([str(seed) for seed in spec.seeds])
        & (table["scale_key"] == spec.scale)
    )
    done = table["status"] == "done"

    key = ["row_key", "column_key", "seed_key"]
    in_order = table[planned].sort_values("finished_key", kind="stable", na_position="first")
    old = in_order.index[in_order.duplicated(key, keep="last")]
    table["superseded"] = table.index.isin(old)
    table["planned"] = planned

    used = table[planned & done & ~table["superseded"]].sort_values(key, kind="stable")
    return Selection(
        used=used.reset_index(drop=True),
        failed=table[~done].sort_values(["trial", *key], kind="stable").reset_index(drop=True),
        superseded=len(old),
        unplanned=int((done & ~planned).sum()),
        missing=_missing(spec, table[planned & (done | (table["status"] == "oom")) & ~table["superseded"]]),
    )


def configured(rows: pd.DataFrame, section: str, key: str) -> str | None:
    """The value of ``section.key`` in the configurations of ``rows``; None where unknown or not one value."""
    found = set()
    for text in rows["config"].dropna().unique() if "config" in rows else ():
        try:
            found.add(str(json.loads(text)[section][key]))
        except (ValueError, TypeError, KeyError):
            return None
    return found.pop() if len(found) == 1 else None


def finite(rows: pd.DataFrame, metric: str) -> list[float | None]:
    """The metric of each row; None where it is absent, no number or not finite."""
    if metric not in rows:
        return [None] * len(rows)
    values = pd.to_numeric(rows[metric], errors="coerce").astype(float).tolist()
    return [value if math.isfinite(value) else None for value in values]


def is_synthetic(selection: Selection) -> bool:
    """Whether any number of the table comes from made-up videos."""
    return "synthetic" in selection.distinct("data_kind")


def _with_keys(spec: TableSpec, rows: pd.DataFrame) -> pd.DataFrame:
    """A copy with the columns that are compared, as text."""
    needed = [*spec.rows.keys, *spec.columns.keys, "seed", "status", "trial"]
    lacking = [name for name in needed if name not in rows.columns]
    if len(rows) and lacking:
        raise InputError(f"table {spec.name}: the rows have no column {', '.join(map(repr, lacking))}")
    strange = [name for name in (*spec.cells, *spec.figures) if name not in METRIC_NAMES]
    strange = [name for name in strange if len(rows) == 0 or name not in rows.columns]
    if strange:
        allowed = ", ".join(METRIC_NAMES)
        raise InputError(f"table {spec.name}: unknown metric {strange[0]!r}; known are {allowed}")

    # A failed trial's row has no window; the other numbers of that column are then floats.
    table = rows.iloc[_order(rows)].reset_index(drop=True).reindex(columns=[*rows.columns, *lacking])
    table["row_key"] = _places(table, spec.rows)
    table["column_key"] = _places(table, spec.columns)
    table["seed_key"] = table["seed"].map(canonical).astype(object)
    table["scale_key"] = table.get("scale", spec.scale)
    finished = table["finished"] if "finished" in table else pd.Series(pd.NaT, index=table.index)
    table["finished_key"] = pd.to_datetime(finished, utc=True, errors="coerce", format="ISO8601")
    return table


def _order(rows: pd.DataFrame) -> list[int]:
    """One order for the same rows, however they come: finished ones first, then by their text."""
    columns = sorted(map(str, rows.columns))
    texts = list(zip(*(map(str, rows[column]) for column in columns), strict=True))
    done = rows["status"] == "done" if "status" in rows else pd.Series(False, index=rows.index)
    late = [not each for each in done]
    return sorted(range(len(rows)), key=lambda position: (late[position], texts[position]))


def _places(table: pd.DataFrame, side: Side) -> pd.Series[Any]:
    """The side's place of each row, as text."""
    values = zip(*(table[key] for key in side.keys), strict=True) if side.keys else [()] * len(table)
    return pd.Series([place(tuple(each)) for each in values], index=table.index, dtype=object)


def _missing(spec: TableSpec, found: pd.DataFrame) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
    there = set(zip(found["row_key"], found["column_key"], found["seed_key"], strict=True))
    places = [(row, column) for row in spec.rows.places for column in spec.columns.places]
    gaps = [
        (row, column, tuple(seed for seed in spec.seeds if (row, column, str(seed)) not in there))
        for row, column in places
    ]
    return tuple(gap for gap in gaps if gap[2])


def _distinct(rows: pd.DataFrame, columns: Sequence[str]) -> set[tuple[str, ...]]:
    """The values that some columns take together, as text."""
    absent = [None] * len(rows)
    values = (rows[name].astype(object).tolist() if name in rows else absent for name in columns)
    return {tuple(map(_text, together)) for together in set(zip(*values, strict=True))}


def _text(value: object) -> str:
    absent = value is None or value is pd.NaT or value is pd.NA or value != value  # NaN differs from itself
    return UNKNOWN if absent or value == "" else canonical(value)
