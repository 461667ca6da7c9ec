"""A sweep without columns: a line of dots a variant, one panel a metric."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from harness.report.figures import words
from harness.report.figures.marks import BAR, dots, half_width, is_oom, mean, say_inside, seeds
from harness.report.figures.style import (
    COLUMN,
    PAGE,
    SMALL_TEXT,
    TEXT,
    Drawing,
    look,
    new_canvas,
    text_height,
    wrapped,
)
from harness.report.findings import Findings
from harness.report.table import row_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ACROSS = 3
"""Most panels beside each other"""
ROW = 0.27
"""Inches a variant"""


def draw(findings: Findings, metrics: tuple[str, ...]) -> Drawing:
    """The figure; a metric without any number says why in its panel."""
    spec = findings.spec
    across = min(len(metrics), ACROSS)
    down = math.ceil(len(metrics) / across)
    width = COLUMN if across == 1 else PAGE
    labels = [wrapped(row_label(spec, values, findings.selection), 1.3) for values in spec.rows.order]
    rows = sum(max(ROW, text_height(label) + 0.06) for label in labels)
    cells = [cell for where, cell in findings.cells.items() if where[2] in metrics]
    canvas = new_canvas(width, down * (rows + 0.55), words.above(findings, cells))
    rooms = canvas.subplots(down, across, sharey=True, squeeze=False)
    for axes in rooms.flat[len(metrics) :]:
        axes.set_visible(False)
    for axes, metric in zip(rooms.flat, metrics, strict=False):
        _panel(axes, findings, metric)
    rooms[0, 0].set_yticks(range(len(labels)), labels, size=TEXT)
    rooms[0, 0].set_ylim(len(labels) - 0.5, -0.5)
    names = [words.long_name(metric) for metric in metrics]
    gaps = "".join(dict.fromkeys(words.gaps(findings, (metric,)) for metric in metrics))
    return Drawing(
        name=f"{spec.name}_seeds",
        title=f"{', '.join(names)} of each variant",
        caption=words.caption(words.of_data(findings, cells), [words.marks(cells, joined=False)], gaps),
        canvas=canvas,
    )


def _panel(axes: Axes, findings: Findings, metric: str) -> None:
    [column] = findings.spec.columns.places
    axes.set_xlabel(words.axis_name(metric))
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.08)
    found = False
    for index, row in enumerate(findings.spec.rows.places):
        cell = findings.cells[row, column, metric]
        style = look(index)
        if is_oom(cell):
            across = axes.get_yaxis_transform()
            axes.text(0.01, index, "OOM", transform=across, va="center", size=SMALL_TEXT)
        if cell.n == 0:
            continue
        found = True
        axes.errorbar(
            [mean(cell)],
            [index - 0.12],
            xerr=[half_width(cell)],
            color=style.colour,
            marker=style.marker,
            label=f"_means {row}",
            **BAR,
        )
        if cell.sd is not None:
            values = seeds(findings, (row, column, metric))
            dots(axes, values, [index + 0.2] * len(values), style, row)
    if not found:
        axes.set_xticks([])
        say_inside(axes, words.why_empty(findings, (metric,)))
