"""A metric against the number that the rows vary, such as the memory tokens M: one line a column."""

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
)
from harness.report.findings import Findings
from harness.report.table_spec import axis_title, canonical, place

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

HEIGHT = 2.0


def has_numbers(findings: Findings) -> bool:
    """Whether the rows are numbers that an axis can have, and there are columns to draw lines of."""
    spec = findings.spec
    values = [values[0] for values in spec.rows.order]
    return (
        len(spec.rows.keys) == 1
        and len(values) > 1
        and bool(spec.columns.keys)
        and all(isinstance(v, int | float) and not isinstance(v, bool) and v >= 0 for v in values)
    )


def draw(findings: Findings, metric: str) -> Drawing:
    """The figure. The axis doubles from step to step; a 0 stands one step before 1."""
    spec = findings.spec
    [key] = spec.rows.keys
    labels = [spec.columns.label(values) for values in spec.columns.order]
    cells = [cell for where, cell in findings.cells.items() if where[2] == metric]
    width = PAGE if max(len(labels), len(spec.rows.order)) > CROWDED else COLUMN
    canvas = new_canvas(width, HEIGHT + legend_height(width, labels), words.above(findings, cells))
    axes = canvas.subplots()
    handles = _lines(axes, findings, metric)
    axes.set_xlabel(axis_title(key) + (" M" if key == "model.memory_tokens" else ""))
    axes.set_ylabel(words.axis_name(metric))
    axes.grid(axis="y")
    if not any(cell.n for cell in cells):
        axes.set_yticks([])
        say_inside(axes, words.why_empty(findings, (metric,)))
    legend(canvas, handles, labels)
    clauses = [
        "one line for each column of the table",
        words.marks(cells),
        "the horizontal axis is logarithmic",
    ]
    return Drawing(
        name=f"{spec.name}_{metric}_by_{key.rsplit('.', 1)[-1]}",
        title=f"{words.long_name(metric)} against {words.in_a_sentence(key)}",
        caption=words.caption(words.of_data(findings, cells), clauses, words.gaps(findings, (metric,))),
        canvas=canvas,
    )


def _lines(axes: Axes, findings: Findings, metric: str) -> list[Line2D]:
    spec = findings.spec
    numbers = sorted((float(values[0]), place(values)) for values in spec.rows.order)  # type: ignore[arg-type]
    values, rows = [number for number, _ in numbers], [row for _, row in numbers]
    if values[0] == 0:
        axes.set_xscale("symlog", base=2, linthresh=1, linscale=0.5)
    else:
        axes.set_xscale("log", base=2)
    axes.set_xticks(values, [canonical(value) for value in values])
    axes.set_xticks([], minor=True)
    step, aside = spread_out(len(spec.columns.order), 0.6)
    shifts = offsets(len(spec.columns.order), step)

    def beside(value: float, shift: float) -> float:
        return value * 2**shift if value else shift

    handles: list[Line2D] = []
    for index, (column, shift) in enumerate(zip(spec.columns.places, shifts, strict=True)):
        cells = [findings.cells[row, column, metric] for row in rows]
        x = [beside(value, shift - aside / 2) for value in values]
        handles.append(means(axes, x, cells, look(index), f"_means {column}"))
        if all(cell.sd is None for cell in cells):
            continue
        dotted = [
            (beside(value, shift + aside / 2), run)
            for value, row in zip(values, rows, strict=True)
            for run in seeds(findings, (row, column, metric))
        ]
        dots(axes, [at for at, _ in dotted], [run for _, run in dotted], look(index), column)
    axes.set_xlim(beside(values[0], -0.5), beside(values[-1], 0.5))
    gone = {
        row: [i for i, c in enumerate(spec.columns.places) if is_oom(findings.cells[row, c, metric])]
        for row in rows
    }
    if any(gone.values()):
        leave_floor(axes)
    for value, row in zip(values, rows, strict=True):
        if gone[row]:
            x = [beside(value, shifts[i]) for i in gone[row]]
            out_of_memory(axes, x, [look(i) for i in gone[row]], value)
    return handles
