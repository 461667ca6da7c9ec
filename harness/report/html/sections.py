"""One sweep's section of the page: its tables, failures, gaps and provenance, ready to be printed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from harness.report.findings import Findings
from harness.report.html.claims import Badge
from harness.report.html.links import cell_link, section_anchor
from harness.report.html.wording import (
    MISSING,
    interval,
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
        name = anchor if index == 0 else section_anchor(table.name, taken)
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


def provenance_views(selection: Selection) -> list[tuple[str, list[tuple[str, int]]]]:
    """(column, its values with how many rows have them) of the finished rows; empty columns are left out."""
    used, found = selection.used, []
    for column in ("schema_version", *RESULT_COLUMNS):
        if column in used and column not in _OF_ONE_RUN and RESULT_COLUMNS.get(column) != "float64":
            counts = used[column].astype(object).map(value_text).value_counts().sort_index()
            if list(counts.index) != [MISSING]:
                found.append((column, [(str(value), int(n)) for value, n in counts.items()]))
    return found
