"""A metric against the columns' key: one line a variant, one panel for each value of the keys before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.report.figures import words
from harness.report.figures.marks import (
    dots,
    is_oom,
    leave_floor,
    means,
    offsets,
    out_of_memory,
    plain_numbers,
    say_inside,
    seeds,
    spread_out,
)
from harness.report.figures.style import (
    COLUMN,
    CROWDED,
    PAGE,
    Drawing,
    legend,
    legend_height,
    look,
    new_canvas,
    wrapped,
)
from harness.report.findings import Findings
from harness.report.table import row_label
from harness.report.table_spec import Values, axis_title, canonical, is_counted, place, value_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

HEIGHT, TALL = 2.0, 3.0
"""Inches of a panel with its axes' names; of one with many lines"""


def draw(findings: Findings, metric: str) -> Drawing:
    """The figure; where no cell has a number it says why."""
    spec = findings.spec
    panels = _panels(findings)
    labels = [row_label(spec, values, findings.selection) for values in spec.rows.order]
    cells = [cell for where, cell in findings.cells.items() if where[2] == metric]
    width = PAGE if len(panels) > 1 or len(labels) > CROWDED else COLUMN
    counted = is_counted((metric,))
    canvas = new_canvas(
        width,
        (TALL if len(labels) > CROWDED else HEIGHT) + legend_height(width, labels),
        words.data_and_scale(findings) if counted else words.above(findings, cells),
    )
    rooms = canvas.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    if counted:
        rooms[0].set_yscale("log")
    lines: list[Line2D] = []
    for axes, (before, columns) in zip(rooms, panels.items(), strict=True):
        lines = _panel(axes, findings, metric, columns)
        if before:
            keys = spec.columns.keys[: len(before)]
            head = ", ".join(map(value_label, keys, before))
            axes.set_title(wrapped(head, width / len(panels) - 0.5))
        if not any(cell.n for cell in cells):
            axes.set_yticks([])
            say_inside(axes, words.why_empty(findings, (metric,)))
    if any(is_oom(cell) for cell in cells):
        leave_floor(rooms[0])
    if counted and any(cell.n for cell in cells):
        plain_numbers(rooms[0].yaxis)
    rooms[0].set_ylabel(words.axis_name(metric))
    legend(canvas, lines, labels)
    return Drawing(
        name=f"{spec.name}_{metric}",
        title=f"{words.long_name(metric)} against {words.in_a_sentence(spec.columns.keys[-1])}",
        caption=_caption(findings, metric),
        canvas=canvas,
    )


def _caption(findings: Findings, metric: str) -> str:
    cells = [cell for where, cell in findings.cells.items() if where[2] == metric]
    marks = "the vertical axis is logarithmic" if is_counted((metric,)) else words.marks(cells)
    return words.caption(words.of_data(findings, cells), [marks], words.gaps(findings, (metric,)))


def _panels(findings: Findings) -> dict[Values, list[Values]]:
    """Values of all column keys but the last -> the columns that have them."""
    panels: dict[Values, list[Values]] = {}
    for values in findings.spec.columns.order:
        panels.setdefault(values[:-1], []).append(values)
    return panels


def _panel(axes: Axes, findings: Findings, metric: str, columns: list[Values]) -> list[Line2D]:
    """Columns stand at equal distances in their order, as in the table."""
    spec = findings.spec
    count = len(spec.rows.order)
    step, aside = (0.0, 0.0) if is_counted((metric,)) else spread_out(count, 0.8)
    axes.set_xticks(range(len(columns)), [canonical(values[-1]) for values in columns])
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_xlabel(axis_title(spec.columns.keys[-1]))
    axes.grid(axis="y")
    places = [place(values) for values in columns]
    lines = []
    shifts = offsets(count, step)
    for index, (row, shift) in enumerate(zip(spec.rows.places, shifts, strict=True)):
        cells = [findings.cells[row, column, metric] for column in places]
        x = [position + shift - aside / 2 for position in range(len(places))]
        lines.append(means(axes, x, cells, look(index), f"_means {row}"))
        if all(cell.sd is None for cell in cells):
            continue  # a dot would repeat its mean
        runs = [seeds(findings, (row, column, metric)) for column in places]
        dotted = [(at + aside, value) for at, values in zip(x, runs, strict=True) for value in values]
        dots(axes, [at for at, _ in dotted], [value for _, value in dotted], look(index), row)
    for position, column in enumerate(places):
        gone = [i for i, row in enumerate(spec.rows.places) if is_oom(findings.cells[row, column, metric])]
        if gone:
            out_of_memory(axes, [position + shifts[i] for i in gone], [look(i) for i in gone], position)
    return lines
