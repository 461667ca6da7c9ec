"""A metric against the columns' key, one line a variant. Readable in grey by marker and dash alone."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from harness.report.findings import Findings
from harness.report.selection import Selection, is_synthetic
from harness.report.statistics import Cell
from harness.report.table import row_label
from harness.report.table_spec import (
    HARDWARE_METRICS,
    TableSpec,
    Values,
    metric_name,
    place,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

WIDTH, HEIGHT = 3.3, 2.7
"""Inches; a column of a two-column paper."""

LOOKS: tuple[tuple[str, str, Any], ...] = (
    ("#0072B2", "o", "-"),
    ("#D55E00", "s", (0, (5, 2))),
    ("#009E73", "^", (0, (5, 1.5, 1, 1.5))),
    ("#000000", "D", (0, (1, 1.2))),
    ("#CC79A7", "v", (0, (8, 2))),
    ("#E69F00", "P", (0, (3, 1, 1, 1, 1, 1))),
)
"""Colour (Okabe and Ito's palette), marker and dashes of each variant."""

STYLE = {
    "pdf.fonttype": 42,  # text stays text; some venues refuse type 3 fonts
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
}

DODGE = 0.09
"""Sideways step from line to line, as a part of the distance between columns."""


def draw(findings: Findings, metric: str) -> dict[str, bytes]:
    """The figure as ``{"pdf": ..., "png": ...}``, the same bytes for the same rows.

    Lines join means; bars are ± one sample standard deviation (none for n = 1); white dots are seeds.
    The paper's numbers are not drawn: beside ours they would look comparable.
    """
    # Figure without pyplot: no window, no global state; only those who draw pay for the import.
    from matplotlib import style
    from matplotlib.figure import Figure

    spec, selection = findings.spec, findings.selection
    with style.context(["default", STYLE]):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = figure.add_subplot()
        _axes(axes, spec, metric)
        cells = {where: cell for where, cell in findings.cells.items() if where[2] == metric}
        axes.set_title(_title(spec, selection, {cell.n for cell in cells.values() if cell.n}))
        lines = []
        for index, row in enumerate(spec.rows.order):
            line = [cells[place(row), column, metric] for column in spec.columns.places]
            offset = DODGE * (index - (len(spec.rows.order) - 1) / 2)
            lines.append(_line(axes, line, offset, index, row_label(spec, row, selection)))
            if any(cell.n for cell in line):
                _seeds(axes, spec, selection, row, metric, offset, index)
        if not any(cell.n for cell in cells.values()):
            axes.set_yticks([])
            axes.text(0.5, 0.5, _why_empty(selection, metric), transform=axes.transAxes, ha="center")
        figure.legend(handles=lines, loc="outside lower center", ncols=2, frameon=False, handlelength=3.2)
        # Times and versions in the files would make equal figures differ.
        pdf = _saved(figure, "pdf", {"CreationDate": None, "Creator": None, "Producer": None})
        figure.set_layout_engine("none")  # the places are found, no need to find them again
        return {"pdf": pdf, "png": _saved(figure, "png", {"Software": None})}


def _axes(axes: Axes, spec: TableSpec, metric: str) -> None:
    """Columns stand at equal distances in their order, as in the table."""
    count = len(spec.columns.order)
    axes.set_xticks(range(count), spec.columns.places)
    axes.set_xlim(-0.4, count - 0.6)
    axes.set_xlabel(spec.columns.title)
    unit = {"fps": " (frames/s)", "peak_memory_gb": ""}.get(metric, " (%)")
    axes.set_ylabel(metric_name(metric) + unit)
    axes.grid(axis="y", color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)


def _title(spec: TableSpec, selection: Selection, sizes: set[int]) -> str:
    """Data, scale and n; ``sizes`` are the n of the cells that are drawn."""
    names = selection.distinct("data_name")
    data = "Synthetic data" if is_synthetic(selection) else "; ".join(names) or "No data"
    mixed = " (MIXED)" if len(names) > 1 else ""
    least, most = min(sizes, default=0), max(sizes, default=0)
    if most == 0:
        return f"{data}{mixed}, scale {spec.scale}"
    if most < 2:
        return f"{data}{mixed}, scale {spec.scale}\nsingle runs, no spread known"
    n = f"{least}" if least == most else f"{least} to {most}"
    return f"{data}{mixed}, scale {spec.scale}\nn = {n} seeds, bars ± SD"


def _line(axes: Axes, cells: list[Cell], offset: float, index: int, label: str) -> Line2D:
    """Means with bars; the returned line stands in the legend."""
    colour, marker, dashes = LOOKS[index % len(LOOKS)]
    drawn = axes.errorbar(
        np.arange(len(cells)) + offset,
        [np.nan if cell.mean is None else cell.mean for cell in cells],
        yerr=[np.nan if cell.sd is None else cell.sd for cell in cells],
        color=colour,
        marker=marker,
        linestyle=dashes,
        markersize=4,
        linewidth=1.1,
        elinewidth=0.8,
        capsize=1.8,
        capthick=0.8,
    ).lines[0]
    drawn.set_label(label)
    drawn.set_zorder(4)
    return drawn


def _seeds(
    axes: Axes, spec: TableSpec, selection: Selection, row: Values, metric: str, offset: float, index: int
) -> None:
    """Single runs as dots. Rows that did not finish are not among ``used``."""
    used = selection.used[selection.used["row_key"] == place(row)]
    positions = {name: number for number, name in enumerate(spec.columns.places)}
    axes.plot(
        used["column_key"].map(positions).astype(float) + offset,
        pd.to_numeric(used[metric], errors="coerce"),
        linestyle="none",
        marker="o",
        markersize=2,
        markeredgewidth=0.6,
        markeredgecolor=LOOKS[index % len(LOOKS)][0],
        markerfacecolor="white",
        zorder=3,  # above the bars, which the dots of n = 2 lie on, and below the means
    )


def _why_empty(selection: Selection, metric: str) -> str:
    if metric in HARDWARE_METRICS and selection.mixed_hardware():
        return "not drawn: mixed hardware"
    return "no finished run"


def _saved(figure: Any, suffix: str, metadata: dict[str, None]) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=suffix, dpi=200, metadata=metadata)
    return buffer.getvalue()
