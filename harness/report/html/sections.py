"""One sweep's section of the page: its tables, failures, gaps and provenance, ready to be printed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any
from urllib.parse import quote

from harness.report.findings import Findings
from harness.report.html.claims import Badge
from harness.report.html.trials import LOG_CHARACTERS
from harness.report.html.wording import (
    MISSING,
    interval,
    is_absent,
    key_text,
    lines,
    number,
    p_value,
    signed,
    value_text,
)
from harness.report.paper_words import marks, said_of_means
from harness.report.selection import Selection
from harness.report.sentence import Sentence
from harness.report.table import Table, row_label, tables_of
from harness.report.table_spec import Place, decimals, metric_name, place
from harness.report.verdicts import OF_A_CELL
from harness.row_schema import RESULT_COLUMNS

Json = dict[str, Any]
NARROW = 4
"""Number columns that need no whole page"""
BESIDE = 8
"""So many number columns have room for deviations beside the means."""
_OF_ONE_RUN = (
    *("config", "host", "results", "kept_tracks", "multiply_adds", "fps_passes", "log_tail", "attempt"),
    *("trial_peak_memory_gb", "train_started", "train_finished", "train_seconds", "device_hours"),
    *("evaluated", "counted", "finished"),
)


@dataclass(frozen=True)
class CellView:
    """One number of a table, and what the paper prints in its place."""

    href: str
    sort: str
    """A number for the sorting; empty where there is none"""
    value: str
    spread: str
    count: str
    """``4/5`` where seeds lack"""
    paper: str
    badge: Badge | None
    best: bool


@dataclass(frozen=True)
class RowView:
    """One variant."""

    label: str
    cells: tuple[CellView, ...]


@dataclass(frozen=True)
class TableView:
    """A table: levels of heads of (text, width), then one head a column, then rows."""

    anchor: str
    name: str
    title: str
    stub: str
    levels: tuple[tuple[tuple[str, int], ...], ...]
    metrics: tuple[str, ...]
    """Heads of the number columns, and of each ..."""
    sorters: tuple[str, ...]
    """... its whole name"""
    rows: tuple[RowView, ...]
    has_paper: bool
    has_spread: bool
    badges: tuple[Badge, ...]
    """Verdicts that occur, for the key below the table"""
    is_narrow: bool
    is_stacked: bool
    """Deviations stand below the means"""
    group: int
    """Columns below one head of the lowest level"""
    caption: tuple[Sentence, ...]


@dataclass(frozen=True)
class JudgedView:
    """One cell against the paper's; ``numbers`` stand below :data:`JUDGED_HEADS`."""

    where: str
    badge: Badge
    why: str
    numbers: tuple[str, ...]


JUDGED_HEADS = ("Ours", "Paper", "Gap", "Welch p", "95 % prediction", "Margin", "TOST p", "Seeds needed")


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


def sweep_anchor(name: str, taken: set[str]) -> str:
    """The name of a section in links, unlike all others; it is added to ``taken``."""
    safe = "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "_-") else "-" for letter in name
    )
    base, found, count = safe or "sweep", safe or "sweep", 2
    while found in taken:
        found, count = f"{base}-{count}", count + 1
    taken.add(found)
    return found


def cell_link(anchor: str, *where: str) -> str:
    """``#table3a/ifc/5/AP``: the runs of a row and a column, opened at a metric."""
    return "#" + "/".join([anchor, *(quote(part, safe="") for part in where)])


@dataclass(frozen=True)
class Names:
    """Printed names of a sweep's rows and columns by their place, in the order of the table."""

    rows: Mapping[str, str]
    columns: Mapping[str, str]

    @classmethod
    def of(cls, findings: Findings) -> Names:
        """The names, worked out once: a row's may need the configurations of its runs."""
        spec = findings.spec
        return cls(
            {place(values): row_label(spec, values, findings.selection) for values in spec.rows.order},
            {place(values): spec.columns.label(values) for values in spec.columns.order},
        )


def table_views(findings: Findings, anchor: str, taken: set[str]) -> list[TableView]:
    """The table of means and, where the sweep names one, that of the standard deviations."""
    tables = tables_of(findings)
    paper = list(findings.paper)
    # Verdicts stand beside the paper's numbers as signs; the caption's letters are for print.
    said = set(said_of_means(findings, paper)) if marks(findings, paper) else set()
    views = []
    for index, table in enumerate(tables):
        name = anchor if index == 0 else sweep_anchor(table.name, taken)
        views.append(_table(findings, table, name, said))
        said |= set(table.caption)
    return views


def _table(findings: Findings, table: Table, anchor: str, said: set[Sentence]) -> TableView:
    metrics = table.metrics
    rows = tuple(
        RowView(label, tuple(_cell(findings, table, anchor, where) for where in table.places(row)))
        for row, label in table.rows
    )
    shown = {cell.badge for row in rows for cell in row.cells if cell.badge}
    heads = [names for _, names in table.columns]
    places = [(names, metric) for _, names in table.columns for metric in metrics]
    return TableView(
        anchor=anchor,
        name=table.name,
        title=table.title,
        stub=table.stub,
        levels=tuple(_level(heads, depth, len(metrics)) for depth in range(len(heads[0]) if heads else 0)),
        metrics=tuple(metric_name(metric) for _, metric in places),
        sorters=tuple(", ".join([metric_name(metric), *names]) for names, metric in places),
        rows=rows,
        has_paper=bool(table.paper),
        has_spread=any(cell.spread for row in rows for cell in row.cells),
        badges=tuple(Badge(verdict) for verdict in OF_A_CELL if Badge(verdict) in shown),
        is_narrow=len(places) <= NARROW,
        is_stacked=len(places) > BESIDE,
        group=len(metrics),
        caption=tuple(sentence for sentence in table.caption[1:] if sentence not in said),  # [0] is the title
    )


def _level(heads: list[tuple[str, ...]], depth: int, metrics: int) -> tuple[tuple[str, int], ...]:
    """Heads of one level, equal neighbours joined, each with its width in columns."""
    groups = (list(group) for _, group in groupby(heads, key=lambda head: head[: depth + 1]))
    return tuple((group[0][depth], len(group) * metrics) for group in groups)


def _cell(findings: Findings, table: Table, anchor: str, where: Place) -> CellView:
    cell = table.cells[where]
    value = cell.sd if table.spread else cell.mean
    verdict = None if table.spread else findings.verdicts.get(where)
    return CellView(
        href=cell_link(anchor, *where),
        sort="" if value is None else repr(round(value, 6)),
        value=table.number(where),
        spread=table.deviation(where),
        count=table.seeds(where),
        paper=table.papers(where),
        badge=None if verdict is None else Badge(verdict.verdict),
        best=where in table.best,
    )


def judged_views(findings: Findings, names: Names) -> list[JudgedView]:
    """Every cell that was held against the paper's; without any test no numbers of tests stand there."""
    views = []
    shown = len(JUDGED_HEADS) if any(judged.tests for judged in findings.verdicts.values()) else 2
    for where, judged in findings.verdicts.items():
        digits, tests = decimals(where[2]), judged.tests
        tested = (MISSING,) * 6
        if tests is not None:
            tested = (
                signed(tests.gap, digits),
                p_value(tests.p),
                interval(tests.low, tests.high, digits, sign=False),
                number(tests.margin, digits),
                p_value(tests.p_equal),
                MISSING if tests.seeds_needed is None else str(tests.seeds_needed),
            )
        cell = findings.cells.get(where)
        ours = number(None if cell is None else cell.mean, digits)
        named = ", ".join(
            filter(None, (names.rows[where[0]], names.columns[where[1]], metric_name(where[2])))
        )
        numbers = (ours, number(findings.paper.get(where), digits), *tested)
        views.append(JudgedView(named, Badge(judged.verdict), judged.why, numbers[:shown]))
    return views


def failure_views(
    findings: Findings, names: Names, anchor: str, commands: Mapping[str, str]
) -> list[FailureView]:
    """Every row that did not finish, whether or not a newer one took its place."""
    columns = list(names.columns)
    trials: dict[tuple[str, ...], list[Json]] = {}
    for row in findings.selection.failed.to_dict("records"):
        status = value_text(row["status"]) + (" (superseded)" if row["superseded"] else "")
        error = "" if is_absent(row.get("error")) else str(row["error"])
        key = (value_text(row["trial"]), str(row["row_key"]), str(row["seed_key"]), status, error)
        trials.setdefault(key, []).append({str(name): value for name, value in row.items()})

    alike: dict[tuple[Any, ...], list[FailedTrial]] = {}
    for (trial, variant, seed, status, error), rows in trials.items():
        places = {str(row["column_key"]) for row in rows}
        at = tuple(
            sorted(places, key=lambda key: (columns.index(key) if key in columns else len(columns), key))
        )
        failed = _failed_trial(trial, seed, rows, commands)
        alike.setdefault((variant, at, status, error), []).append(failed)
    return [
        FailureView(
            row=names.rows.get(variant, key_text(variant)),
            columns=tuple(_linked(names, anchor, variant, column) for column in at),
            status=status,
            error=lines(error, LOG_CHARACTERS) or MISSING,
            trials=tuple(failed),
        )
        for (variant, at, status, error), failed in alike.items()
    ]


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
    """(row, columns, seeds) of planned runs without a result; columns with the same seeds stand together."""
    together: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for row, column, seeds in findings.selection.missing:
        together.setdefault((row, seeds), []).append(names.columns[column])
    return [
        (names.rows[row], ", ".join(filter(None, columns)), ", ".join(map(str, seeds)))
        for (row, seeds), columns in together.items()
    ]


def bare_views(findings: Findings, names: Names, anchor: str) -> list[tuple[str, str, str, str, str]]:
    """(row, column, link, seed, metrics) of runs that finished and lack a finite number that others have."""
    selection, found = findings.selection, []
    for position, metrics in selection.without_number(selection.measured(findings.spec.cells)).items():
        run = selection.used.iloc[position]
        row, column = str(run["row_key"]), str(run["column_key"])
        lacking = ", ".join(map(metric_name, metrics))
        link = cell_link(anchor, row, column)
        found.append((names.rows[row], names.columns[column], link, str(run["seed_key"]), lacking))
    return found


def provenance_views(selection: Selection) -> list[tuple[str, list[tuple[str, int]]]]:
    """(column, its values with how many rows have them) of the finished rows; empty columns are left out."""
    used, found = selection.used, []
    for column in ("schema_version", *RESULT_COLUMNS):
        if column in used and column not in _OF_ONE_RUN and RESULT_COLUMNS.get(column) != "float64":
            counts = used[column].astype(object).map(value_text).value_counts().sort_index()
            if list(counts.index) != [MISSING]:
                found.append((column, [(str(value), int(n)) for value, n in counts.items()]))
    return found


def accounted(selection: Selection) -> list[tuple[int, str]]:
    """What became of every row of the sweep; the numbers add up to all that were read."""
    failed = selection.failed
    old = int(failed["superseded"].astype(bool).sum()) if len(failed) else 0
    parts = [
        (len(selection.used), "in the tables"),
        (len(failed), "did not finish (listed below)"),
        (selection.superseded - old, "replaced by a newer row of the same run"),
        (selection.unplanned, "outside the plan"),
    ]
    return [(count, what) for count, what in parts if count or what == "in the tables"]
