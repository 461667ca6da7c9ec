"""AP by situation: a panel a situation, its thirds from few to much across, a line a variant."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from harness.metrics import LEVELS, SITUATION_NAMES, SITUATIONS
from harness.report.figures import words
from harness.report.figures.marks import dots, means, offsets, say_inside, seeds, spread_out
from harness.report.figures.style import PAGE, Drawing, legend, legend_height, look, new_canvas
from harness.report.findings import Findings
from harness.report.statistics import Cell
from harness.report.table import row_label
from harness.report.table_spec import Values, place

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

ACROSS = 3
HEIGHT = 1.55
"""Inches of a row of panels"""


def drawings(findings: Findings) -> list[Callable[[], Drawing]]:
    """A figure a column of the table."""
    return [partial(draw, findings, column) for column in findings.spec.columns.order]


def draw(findings: Findings, column: Values) -> Drawing:
    """The figure of one column; situations without numbers are left out, and said."""
    spec = findings.spec
    shown = [name for name in SITUATIONS if any(_has(findings, column, name, level) for level in LEVELS)]
    metrics = [f"AP_{name}_{level}" for name in shown for level in LEVELS]
    cells = [c for (_, at, metric), c in findings.cells.items() if at == place(column) and metric in metrics]
    labels = [row_label(spec, values, findings.selection) for values in spec.rows.order]
    down = max(1, math.ceil(len(shown) / ACROSS))
    at = spec.columns.label(column)
    above = words.above(findings, cells)
    canvas = new_canvas(PAGE, HEIGHT * down + legend_height(PAGE, labels), f"{at}. {above}" if at else above)
    rooms = canvas.subplots(down, min(ACROSS, max(1, len(shown))), sharey=True, squeeze=False)
    lines: list[Line2D] = []
    for axes, situation in zip(rooms.flat, shown, strict=False):
        lines = _panel(axes, findings, column, situation)
    for axes in rooms.flat[max(1, len(shown)) :]:
        axes.set_visible(False)
    for row in rooms:
        row[0].set_ylabel("AP (%)")
    if lines:
        legend(canvas, lines, labels)
    else:
        rooms[0, 0].set_axis_off()
        say_inside(rooms[0, 0], words.why_empty(findings, metrics or ("AP_speed_low",)))
    lacking = _lacking(findings, column)
    why = f" Too few tracks for: {', '.join(lacking)}." if lacking and shown else ""
    return Drawing(
        name="_".join(filter(None, (spec.name, "situations", _stem(column)))),
        title=f"AP by situation{f' at {at}' if at else ''}",
        caption=words.caption(
            words.of_data(findings, cells),
            ["across: thirds of the annotated tracks, from few to much of it", words.marks(cells)],
            why,
        ),
        canvas=canvas,
    )


def _panel(axes: Axes, findings: Findings, column: Values, situation: str) -> list[Line2D]:
    spec = findings.spec
    axes.set_xticks(range(len(LEVELS)), list(LEVELS))
    axes.set_xlim(-0.5, len(LEVELS) - 0.5)
    axes.set_xlabel(SITUATION_NAMES[situation])
    axes.grid(axis="y")
    step, aside = spread_out(len(spec.rows.order), 0.7)
    lines = []
    shifts = offsets(len(spec.rows.order), step)
    for index, (row, shift) in enumerate(zip(spec.rows.places, shifts, strict=True)):
        places = [(row, place(column), f"AP_{situation}_{level}") for level in LEVELS]
        # A third without numbers in any run has no cells.
        cells = [findings.cells.get(where, Cell(0, len(spec.seeds))) for where in places]
        x = [position + shift - aside / 2 for position in range(len(LEVELS))]
        lines.append(means(axes, x, cells, look(index), f"_means {row}"))
        if all(cell.sd is None for cell in cells):
            continue
        runs = [seeds(findings, where) if cell.n else [] for where, cell in zip(places, cells, strict=True)]
        dotted = [(at + aside, value) for at, values in zip(x, runs, strict=True) for value in values]
        dots(axes, [at for at, _ in dotted], [value for _, value in dotted], look(index), row)
    return lines


def _has(findings: Findings, column: Values, situation: str, level: str) -> bool:
    metric = f"AP_{situation}_{level}"
    where = ((row, place(column), metric) for row in findings.spec.rows.places)
    return any(each in findings.cells and findings.cells[each].n for each in where)


def _lacking(findings: Findings, column: Values) -> list[str]:
    """Situations without any number, and thirds of the others: ``blur``, ``absence (mid, high)``."""
    named = []
    for name in SITUATIONS:
        empty = [level for level in LEVELS if not _has(findings, column, name, level)]
        thirds = "" if len(empty) == len(LEVELS) else f" ({', '.join(empty)})"
        named += [f"{SITUATION_NAMES[name]}{thirds}"] if empty else []
    return named


def _stem(column: Values) -> str:
    """The column in a file's name."""
    text = "_".join(str(value) for value in column)
    return "".join(each if each.isalnum() or each in "._-" else "-" for each in text)
