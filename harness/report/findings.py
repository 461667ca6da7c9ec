"""All that one sweep's rows say, worked out once: tables, figures and pages only print it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from harness.report.claims import judge_claims
from harness.report.judged_cells import established_best, judge_cells
from harness.report.paper import paper_cells
from harness.report.seed_values import trainings_by_seed, values_by_seed
from harness.report.selection import Selection, select
from harness.report.statistics import Cell, grid
from harness.report.table_spec import HARDWARE_METRICS, METRIC_NAMES, Place, TableSpec
from harness.report.verdicts import CellVerdict, ClaimVerdict


@dataclass(frozen=True)
class Findings:
    """One sweep at one scale."""

    spec: TableSpec
    selection: Selection
    cells: Mapping[Place, Cell]
    """Of every metric that the rows have, printed or not"""
    paper: Mapping[Place, float]
    paper_sd: Mapping[Place, float]
    verdicts: Mapping[Place, CellVerdict]
    """Of the cells that the paper prints too"""
    claims: tuple[ClaimVerdict, ...]
    best: frozenset[Place]
    """Cells that are better than every other of their column, established"""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Metrics that the rows have, in the order of :data:`METRIC_NAMES`."""
        return tuple(dict.fromkeys(metric for _, _, metric in self.cells))


def examine(spec: TableSpec, rows: pd.DataFrame) -> Findings:
    """Sort out the rows of a sweep, and judge them.

    Raises:
        InputError: a column that the table needs is not in ``rows``, or ``paper.yaml`` lacks a named table.
    """
    selection = select(spec, rows)
    values, trainings = values_by_seed(selection), trainings_by_seed(selection)
    cells = _cells(spec, selection)
    paper, paper_sd = paper_cells(spec.paper, spec), paper_cells(spec.paper_std, spec)
    return Findings(
        spec=spec,
        selection=selection,
        cells=cells,
        paper=paper,
        paper_sd=paper_sd,
        verdicts=judge_cells(spec, selection, cells, paper, paper_sd),
        claims=judge_claims(spec, selection, values, trainings),
        best=established_best(spec, selection, values, trainings),
    )


def _cells(spec: TableSpec, selection: Selection) -> dict[Place, Cell]:
    """Statistics of every cell. Speeds of several machines are not one quantity: withheld (n = 0)."""
    used = selection.used
    measured = [name for name in METRIC_NAMES if name in used and used[name].notna().any()]
    metrics = [name for name in METRIC_NAMES if name in (*spec.cells, *spec.figures, *measured)]
    cells = grid(spec, used, metrics, selection.out_of_memory())
    if not selection.mixed_hardware():
        return cells
    return {
        where: Cell(0, len(spec.seeds)) if where[2] in HARDWARE_METRICS and cell.n else cell
        for where, cell in cells.items()
    }
