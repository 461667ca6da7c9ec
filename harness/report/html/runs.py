"""What became of a sweep's runs: finished, out of memory, failed or missing, each told where it happened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.report.findings import Findings
from harness.report.html.links import cell_link
from harness.report.html.sections import Names
from harness.report.html.trials import LOG_CHARACTERS
from harness.report.html.wording import MISSING, is_absent, key_text, lines, number, value_text
from harness.report.selection import Selection
from harness.report.table_spec import metric_name

Json = dict[str, Any]


OUT_OF_MEMORY = "oom"
"""Status of a run that did not fit in memory: that is a result."""


@dataclass(frozen=True)
class Outcomes:
    """How many of the planned runs ended how; what stands is each run's newest row."""

    planned: int
    finished: int
    out_of_memory: int
    failed: int

    @classmethod
    def of(cls, findings: Findings) -> Outcomes:
        """Those of one sweep."""
        spec, selection = findings.spec, findings.selection
        planned = len(spec.rows.order) * len(spec.columns.order) * len(spec.seeds)
        too_large = len(selection.out_of_memory())
        return cls(planned, len(selection.used), too_large, len(_standing(selection)) - too_large)

    @property
    def missing(self) -> int:
        """Runs without any row."""
        return self.planned - self.finished - self.out_of_memory - self.failed

    @property
    def words(self) -> str:
        """``79 of 80 planned runs finished, 1 out of memory (OOM)``."""
        others = (
            (self.out_of_memory, "out of memory (OOM)"),
            (self.failed, "failed"),
            (self.missing, "missing"),
        )
        said = [f"{self.finished} of {self.planned} planned runs finished"]
        return ", ".join(said + [f"{count} {what}" for count, what in others if count])

    def __add__(self, other: Outcomes) -> Outcomes:
        return Outcomes(
            self.planned + other.planned,
            self.finished + other.finished,
            self.out_of_memory + other.out_of_memory,
            self.failed + other.failed,
        )


@dataclass(frozen=True)
class FailedTrial:
    """One trial of a failure."""

    trial: str
    seed: str
    memory: str
    log: str
    command: str


@dataclass(frozen=True)
class FailureView:
    """Trials of one variant that ended in the same way at the same evaluations."""

    row: str
    columns: tuple[tuple[str, str], ...]
    """(name, link to the cell or nothing)"""
    status: str
    error: str
    trials: tuple[FailedTrial, ...]

    @property
    def is_out_of_memory(self) -> bool:
        """Whether that is a result."""
        return self.status.split(" ")[0] == OUT_OF_MEMORY


def failure_views(
    findings: Findings, names: Names, anchor: str, commands: Mapping[str, str]
) -> list[FailureView]:
    """Every row that did not finish, whether or not a newer one took its place."""
    columns, variants = list(names.columns), list(names.rows)
    trials: dict[tuple[str, ...], list[Json]] = {}
    for row in findings.selection.failed.to_dict("records"):
        status = value_text(row["status"]) + (" (superseded)" if row["superseded"] else "")
        error = "" if is_absent(row.get("error")) else str(row["error"])
        key = (value_text(row["trial"]), str(row["row_key"]), str(row["seed_key"]), status, error)
        trials.setdefault(key, []).append({str(name): value for name, value in row.items()})

    alike: dict[tuple[Any, ...], list[FailedTrial]] = {}
    for (trial, variant, seed, status, error), rows in trials.items():
        at = tuple(sorted({str(row["column_key"]) for row in rows}, key=lambda key: rank(columns, key)))
        failed = _failed_trial(trial, seed, rows, commands)
        alike.setdefault((variant, at, status, error), []).append(failed)

    def in_order(alike: tuple[Any, ...]) -> tuple[Any, ...]:
        variant, at, *others = alike
        return rank(variants, variant), [rank(columns, column) for column in at], others

    return [
        FailureView(
            row=names.rows.get(variant, key_text(variant)),
            columns=tuple(_linked(names, anchor, variant, column) for column in at),
            status=status,
            error=lines(error, LOG_CHARACTERS) or MISSING,
            trials=tuple(sorted(alike[variant, at, status, error], key=_seed_order)),
        )
        for variant, at, status, error in sorted(alike, key=in_order)
    ]


def rank(order: list[str], key: str) -> tuple[int, str]:
    """Sorts by the table's order; what the table does not have stands last."""
    return (order.index(key) if key in order else len(order)), key


def _seed_order(trial: FailedTrial) -> tuple[int, int, str, str]:
    return *seed_order(trial.seed), trial.trial


def seed_order(seed: str) -> tuple[int, int, str]:
    """Seeds as numbers; what is no number stands last."""
    return (0, int(seed), seed) if seed.isdecimal() and seed.isascii() else (1, 0, seed)


def _standing(selection: Selection) -> pd.DataFrame:
    """The newest rows of planned runs that did not finish."""
    failed = selection.failed
    return failed[failed["planned"].astype(bool) & ~failed["superseded"].astype(bool)]


def _failed_trial(trial: str, seed: str, rows: list[Json], commands: Mapping[str, str]) -> FailedTrial:
    peaks = [row.get("trial_peak_memory_gb") for row in rows]
    memory = [float(peak) for peak in peaks if isinstance(peak, int | float) and not is_absent(peak)]
    tails = [row.get("log_tail") for row in rows]
    return FailedTrial(
        trial=trial,
        seed=key_text(seed),
        memory=number(max(memory, default=None), 2),
        log=next((lines(tail, LOG_CHARACTERS) for tail in tails if isinstance(tail, str)), ""),
        command=commands.get(str(rows[0]["trial"]), ""),
    )


def _linked(names: Names, anchor: str, row: str, column: str) -> tuple[str, str]:
    """Name of a column, and the link to the runs there; none for what is not in the plan."""
    if row not in names.rows or column not in names.columns:
        return key_text(column), ""
    return names.columns[column], cell_link(anchor, row, column)


def gap_views(findings: Findings, names: Names) -> list[tuple[str, str, str]]:
    """(row, columns, seeds) of planned runs without any row; columns with the same seeds stand together."""
    failed = _standing(findings.selection)
    there = set(zip(failed["row_key"], failed["column_key"], failed["seed_key"], strict=True))
    together: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for row, column, seeds in findings.selection.missing:
        absent = tuple(seed for seed in seeds if (row, column, str(seed)) not in there)
        if absent:
            together.setdefault((row, absent), []).append(names.columns[column])
    return [
        (names.rows[row], ", ".join(filter(None, columns)), ", ".join(map(str, seeds)))
        for (row, seeds), columns in together.items()
    ]


def bare_views(findings: Findings, names: Names, anchor: str) -> list[tuple[str, str, str, str, str]]:
    """(row, column, link, seed, metrics) of runs that finished and lack a finite number that others have."""
    selection = findings.selection
    variants, columns = list(names.rows), list(names.columns)
    found: list[tuple[Any, tuple[str, str, str, str, str]]] = []
    for position, metrics in selection.without_number(selection.measured(findings.spec.cells)).items():
        run = selection.used.iloc[position]
        row, column, seed = (str(run[key]) for key in ("row_key", "column_key", "seed_key"))
        lacking = ", ".join(map(metric_name, metrics))
        line = names.rows[row], names.columns[column], cell_link(anchor, row, column), seed, lacking
        found.append(((rank(variants, row), rank(columns, column), seed_order(seed)), line))
    return [line for _, line in sorted(found)]


def accounted(selection: Selection) -> list[tuple[int, str]]:
    """What became of every row of the sweep; the numbers add up to all that were read."""
    failed = selection.failed
    old = int(failed["superseded"].astype(bool).sum()) if len(failed) else 0
    too_large = int((failed["status"] == OUT_OF_MEMORY).sum())
    parts = [
        (len(selection.used), "in the tables"),
        (too_large, "out of memory (listed above)"),
        (len(failed) - too_large, "failed (listed above)"),
        (selection.superseded - old, "replaced by a newer row of the same run"),
        (selection.unplanned, "outside the plan"),
    ]
    return [(count, what) for count, what in parts if count or what == "in the tables"]
