"""A sweep's table before it is printed: rows, columns, cells, the paper's numbers and the words below.

The paper's Table 3(a) is the model: one row a variant, a group of metrics for each window, and here
below each row what the paper prints in its place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from harness.metrics import ERROR_METRICS
from harness.report.caption import mean_caption, std_caption, std_title
from harness.report.findings import Findings
from harness.report.paper_words import marks, paper_row
from harness.report.selection import Selection, configured
from harness.report.sentence import Sentence
from harness.report.statistics import Cell
from harness.report.table_spec import Place, Side, TableSpec, Values, decimals, place

MISSING = "--"
OUT_OF_MEMORY = "OOM"


@dataclass(frozen=True)
class Table:
    """A table ready to be printed in any format."""

    name: str
    title: str
    stub: str
    """Head of the first column."""
    rows: tuple[tuple[str, str], ...]
    """(key in ``cells``, printed name), top to bottom."""
    columns: tuple[tuple[str, tuple[str, ...]], ...]
    """(key in ``cells``, printed name of each of its values), left to right."""
    metrics: tuple[str, ...]
    cells: Mapping[Place, Cell]
    paper: Mapping[Place, float]
    """Empty: no line of the paper is printed."""
    paper_row: str
    """What stands before the paper's numbers."""
    marks: Mapping[Place, str]
    """Letter of the verdict beside the paper's number; empty where the caption says it for all."""
    best: frozenset[Place]
    spread: bool
    """True prints standard deviations alone; False prints means with their deviations."""
    caption: tuple[Sentence, ...]

    def places(self, row: str) -> list[Place]:
        """The cells of a row, left to right."""
        return [(row, column, metric) for column, _ in self.columns for metric in self.metrics]

    def number(self, where: Place) -> str:
        """Our number; where no run gave one since it did not fit, that is the result."""
        cell = self.cells[where]
        if cell.n == 0 and cell.out_of_memory:
            return OUT_OF_MEMORY
        return printed(cell.sd if self.spread else cell.mean, decimals(where[2]))

    def deviation(self, where: Place) -> str:
        """The standard deviation behind the mean; empty where there is none."""
        sd = self.cells[where].sd
        return "" if self.spread or sd is None else printed(sd, decimals(where[2]))

    def seeds(self, where: Place) -> str:
        """``2/5`` where a cell has fewer numbers than planned, else empty."""
        cell = self.cells[where]
        return f"{cell.n}/{cell.planned}" if cell.short else ""

    def papers(self, where: Place) -> str:
        """The paper's number."""
        return printed(self.paper.get(where), decimals(where[2]))


def printed(value: float | None, digits: int) -> str:
    """The number with so many digits behind the point, never cut otherwise."""
    return MISSING if value is None else f"{value:.{digits}f}"


def tables_of(findings: Findings) -> list[Table]:
    """The means, the deviations if the sweep asks for them, and errors that the means do not show."""
    std_name = findings.spec.std_name
    deviations = [] if std_name is None else [std_table(findings, std_name)]
    return [mean_table(findings), *deviations, *_error_tables(findings)]


def mean_table(findings: Findings, bold: str = "Bold") -> Table:
    """Means with deviations, as the paper's Tables 3(a), (c), (d).

    Args:
        bold: what the printed form calls its mark for the best of a column.
    """
    spec, paper = findings.spec, list(findings.paper)
    return Table(
        name=spec.name,
        title=spec.title,
        stub=_stub(spec.rows),
        rows=_rows(findings),
        columns=_columns(findings),
        metrics=spec.cells,
        cells=findings.cells,
        paper=findings.paper,
        paper_row=paper_row(findings, paper),
        marks=marks(findings, paper),
        best=findings.best,
        spread=False,
        caption=tuple(mean_caption(findings, bold)),
    )


def std_table(findings: Findings, name: str) -> Table:
    """Deviations alone, as the paper's Table 4, of the metrics that the paper prints there."""
    spec, paper = findings.spec, findings.paper_sd
    with_spread = {metric for _, _, metric in paper}
    metrics = tuple(metric for metric in spec.cells if metric in with_spread or not paper)
    return Table(
        name=name,
        title=std_title(spec),
        stub=_stub(spec.rows),
        rows=_rows(findings),
        columns=_columns(findings),
        metrics=metrics,
        cells=findings.cells,
        paper=paper,
        paper_row=paper_row(findings, list(paper)),
        marks={},
        best=frozenset(),
        spread=True,
        caption=tuple(std_caption(findings, metrics)),
    )


def _error_tables(findings: Findings) -> list[Table]:
    """Points of AP50 by kind of error; none where no run has them, or the sweep's own table shows some."""
    measured = tuple(metric for metric in ERROR_METRICS if metric in findings.metrics)
    if not measured or any(metric in findings.spec.cells for metric in measured):
        return []
    title = f"{findings.spec.title}: points of AP50 that each kind of error costs, mended alone"
    spec = replace(
        findings.spec,
        name=f"{findings.spec.name}_errors",
        title=title,
        cells=measured,
        paper=None,
        claims=(),
    )
    return [mean_table(replace(findings, spec=spec, paper={}, verdicts={}, claims=(), best=frozenset()))]


def row_label(spec: TableSpec, values: Values, selection: Selection) -> str:
    """Printed name of a row; IFC carries its number of memory tokens, the paper's M."""
    label = spec.rows.label(values)
    ifc = spec.rows.keys == ("model.encoder",) and values == ("ifc",)
    if ifc and "model.memory_tokens" not in spec.columns.keys:
        used = selection.used if len(selection.used) else selection.failed
        tokens = configured(used[used["row_key"] == "ifc"], "model", "memory_tokens")
        return label if tokens is None else f"{label} (M={tokens})"
    return label


def _rows(findings: Findings) -> tuple[tuple[str, str], ...]:
    spec = findings.spec
    return tuple((place(values), row_label(spec, values, findings.selection)) for values in spec.rows.order)


def _columns(findings: Findings) -> tuple[tuple[str, tuple[str, ...]], ...]:
    side = findings.spec.columns
    return tuple((place(values), side.labels(values)) for values in side.order)


def _stub(rows: Side) -> str:
    """Several keys leave no room for their units."""
    return rows.title if len(rows.keys) == 1 else re.sub(r" \([^)]*\)", "", rows.title)
