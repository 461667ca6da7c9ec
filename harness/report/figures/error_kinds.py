"""What each kind of error costs: a group of bars a kind, a bar a variant, told apart in grey by its hatches.

Bars stand beside each other and are never stacked: each is what mending that kind alone gains, and the sum of
several is nothing that anybody could gain.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.metrics import ERROR_KINDS, ERROR_NAMES
from harness.report.figures import words
from harness.report.figures.marks import half_width, is_oom, mean, say_inside, seeds
from harness.report.figures.style import (
    PAGE,
    Drawing,
    legend,
    legend_height,
    look,
    new_canvas,
    wrapped,
)
from harness.report.findings import Findings
from harness.report.statistics import Cell
from harness.report.table import row_label
from harness.report.table_spec import Values, place

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import BarContainer

HEIGHT = 1.9
"""Inches of a panel with the names of its kinds"""
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++", "oo", "--", "**", "||", "OO")
PALE = 0.45
"""How much of a variant's colour its bars have; the rest is white, so that hatches are seen"""
MOST = 100.0
"""Points of AP that there are: intervals end here, and at 0"""
GROUP = 0.82
"""What the bars of a kind take of its place"""


@dataclass(frozen=True)
class Bars:
    """The bars of one variant."""

    label: str
    cells: Mapping[str, Cell]
    """Kind -> points of AP50 over its runs"""
    runs: Mapping[str, Sequence[float]]
    """Kind -> the single runs"""


def draw(findings: Findings) -> Drawing:
    """The figure of a sweep: a panel a column of its table, below each other."""
    spec = findings.spec
    panels = [(spec.columns.label(column), _bars(findings, column)) for column in spec.columns.order]
    metrics = [f"dAP_{kind}" for kind in ERROR_KINDS]
    cells = [cell for where, cell in findings.cells.items() if where[2] in metrics]
    return draw_bars(
        f"{spec.name}_error_kinds",
        panels,
        words.above(findings, cells, "whiskers: 95% t interval within 0 to 100, dots: seeds"),
        words.caption(
            words.of_data(findings, cells),
            ["points of AP50 gained where one kind alone is mended; they do not add up", _marks(cells)],
            words.gaps(findings, metrics),
        ),
    )


def draw_bars(name: str, panels: Sequence[tuple[str, Sequence[Bars]]], above: str, caption: str) -> Drawing:
    """The figure of any numbers.

    Args:
        name: stem of its files.
        panels: (what stands above, its variants) of each; the variants are the same in all.
        above: lines over the whole.
        caption: what follows the title.
    """
    labels = [bars.label for bars in panels[0][1]]
    canvas = new_canvas(PAGE, HEIGHT * len(panels) + legend_height(PAGE, labels), above)
    rooms = canvas.subplots(len(panels), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    handles: list[Any] = []
    for axes, (title, variants) in zip(rooms, panels, strict=True):
        handles = _panel(axes, variants)
        axes.set_ylabel("dAP (points)")
        if title:
            axes.set_title(wrapped(title, PAGE - 0.5))
    each = (PAGE - 0.6) / len(ERROR_KINDS)  # in a column of a page words would be broken
    rooms[-1].set_xticks(range(len(ERROR_KINDS)), [wrapped(ERROR_NAMES[kind], each) for kind in ERROR_KINDS])
    legend(canvas, handles, labels)
    return Drawing(name, "What each kind of error costs", caption, canvas)


def _bars(findings: Findings, column: Values) -> list[Bars]:
    """The variants at one column."""
    spec, found = findings.spec, []
    for values in spec.rows.order:
        where = (place(values), place(column))
        found.append(
            Bars(
                row_label(spec, values, findings.selection),
                {kind: findings.cells[(*where, f"dAP_{kind}")] for kind in ERROR_KINDS},
                {kind: seeds(findings, (*where, f"dAP_{kind}")) for kind in ERROR_KINDS},
            )
        )
    return found


def _panel(axes: Axes, variants: Sequence[Bars]) -> list[BarContainer]:
    """Bars, their intervals, and a dot a run; returns what stands in the legend."""
    axes.grid(axis="y")
    axes.tick_params(axis="x", length=0)
    step, handles = GROUP / len(variants), []
    for index, bars in enumerate(variants):
        shift = step * (index - (len(variants) - 1) / 2)
        x = [place + shift for place in range(len(ERROR_KINDS))]
        cells = [bars.cells[kind] for kind in ERROR_KINDS]
        handles.append(
            axes.bar(
                x,
                [mean(cell) for cell in cells],
                step * 0.92,
                color=_pale(look(index).colour),
                edgecolor="black",
                linewidth=0.6,
                hatch=HATCHES[index % len(HATCHES)],
                label=bars.label,
            )
        )
        spread = [cell for cell in cells if cell.sd is not None]
        if spread:
            reach = [half_width(cell) for cell in cells]
            down = [min(half, mean(cell)) for half, cell in zip(reach, cells, strict=True)]
            up = [min(half, MOST - mean(cell)) for half, cell in zip(reach, cells, strict=True)]
            axes.errorbar(
                x,
                [mean(cell) for cell in cells],
                yerr=[down, up],
                fmt="none",
                ecolor="black",
                elinewidth=0.8,
                capsize=1.8,
                capthick=0.8,
                label="_intervals",
            )
        dotted = [(at, y) for at, kind in zip(x, ERROR_KINDS, strict=True) for y in bars.runs[kind]]
        if len(dotted) > len(ERROR_KINDS):
            axes.plot(
                [at for at, _ in dotted],
                [y for _, y in dotted],
                linestyle="none",
                marker="o",
                markersize=1.9,
                markeredgewidth=0.5,
                markeredgecolor="black",
                markerfacecolor="white",
                label="_runs",
                zorder=4,
            )
    axes.set_ylim(bottom=0)
    if not any(cell.n for bars in variants for cell in bars.cells.values()):
        axes.set_yticks([])
        gone = any(is_oom(cell) for bars in variants for cell in bars.cells.values())
        say_inside(axes, "out of memory" if gone else "no finished run")
    return handles


def _pale(colour: str) -> tuple[float, float, float]:
    """The colour on white paper, thinned."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (1 - PALE * (1 - part) for part in parts)
    return red, green, blue


def _marks(cells: Sequence[Cell]) -> str:
    if any(cell.sd is not None and not math.isnan(half_width(cell)) for cell in cells):
        return "bars are means, whiskers their 95% t intervals cut at 0 and 100, dots the single runs"
    return "bars are the single runs"
