"""AP against FPS: a point a cell, lines through the windows of a variant, the front of what is best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.report.figures import words
from harness.report.figures.marks import BAR, half_width, mean, say_inside
from harness.report.figures.style import (
    COLUMN,
    CROWDED,
    PAGE,
    SMALL_TEXT,
    Drawing,
    legend,
    legend_height,
    look,
    new_canvas,
    text_width,
)
from harness.report.findings import Findings
from harness.report.table import row_label
from harness.report.table_spec import canonical, place

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from matplotlib.lines import Line2D

HEIGHT, TALL = 2.3, 3.6
"""Inches; of a figure with many lines"""
FRONT = "Pareto front"
MARKS = "bars: 95% t intervals of both means"


AROUND = [
    (
        round(1.15 * distance * math.cos(math.radians(angle)), 2),
        round(distance * math.sin(math.radians(angle)), 2),
    )
    for distance in (7, 9, 12, 16, 22, 30)
    for angle in range(30, 390, 30)
]
"""Where a number may stand from its point, in points of print, the nearest first"""
FAR = 14.0
"""A number that stands farther off than this has a leader"""
LEADER = {"arrowstyle": "-", "linewidth": 0.4, "color": "0.6", "shrinkA": 0, "shrinkB": 2}
Box = tuple[float, float, float, float]
"""Left, bottom, right, top in pixels"""


@dataclass(frozen=True)
class Point:
    """A cell with both numbers."""

    row: str
    column: str
    fps: float
    ap: float
    fps_bar: float
    """Half widths of the intervals; NaN where there is none"""
    ap_bar: float


def draw(findings: Findings) -> Drawing:
    """The figure; with speeds of several machines it says that it cannot be drawn."""
    spec = findings.spec
    points = points_of(findings)
    labels = [row_label(spec, values, findings.selection) for values in spec.rows.order]
    cells = [cell for where, cell in findings.cells.items() if where[2] in ("AP", "fps")]
    width = PAGE if len(labels) > CROWDED else COLUMN
    has_front = len(front(points)) > 1
    shown = [*labels, FRONT] if has_front else labels
    canvas = new_canvas(
        width,
        (TALL if len(labels) > CROWDED else HEIGHT) + legend_height(width, shown),
        words.above(findings, cells, MARKS) if points else words.data_and_scale(findings),
    )
    axes = canvas.subplots()
    axes.set_xlabel(words.axis_name("fps"))
    axes.set_ylabel(words.axis_name("AP"))
    axes.grid()
    handles: list[Line2D] = []
    for index, row in enumerate(spec.rows.places):
        mine = [point for point in points if point.row == row]
        style = look(index)
        drawn = axes.errorbar(
            [point.fps for point in mine],
            [point.ap for point in mine],
            xerr=[point.fps_bar for point in mine],
            yerr=[point.ap_bar for point in mine],
            color=style.colour,
            marker=style.marker,
            linestyle=style.dashes,
            label=f"_points {row}",
            zorder=4,
            **(BAR | {"elinewidth": 0.5, "capsize": 1.2, "capthick": 0.5}),
        )
        handles.append(drawn.lines[0])
    if has_front:
        handles.append(_front(axes, points))
    if not points:
        axes.set_xticks([])
        axes.set_yticks([])
        say_inside(axes, words.why_empty(findings, ("AP", "fps")))
    legend(canvas, handles, shown)
    if spec.columns.keys:
        _name_columns(canvas, axes, findings, points)
    return Drawing(f"{spec.name}_tradeoff", "AP against FPS", _caption(findings), canvas)


def _caption(findings: Findings) -> str:
    cells = [cell for where, cell in findings.cells.items() if where[2] in ("AP", "fps")]
    columns = findings.spec.columns
    points = points_of(findings)
    gaps = words.gaps(findings, ("AP", "fps"))
    if not points:
        return words.caption(words.of_data(findings, ()), [], gaps)
    said = "a point is a cell"
    if any(cell.sd is not None for cell in cells):
        said += " with the 95% t intervals of both means"
    if columns.keys:
        said += f", the number beside it its {words.in_a_sentence(columns.keys[-1])}"
    steps = "the grey steps bound what no other cell beats in both" if len(front(points)) > 1 else ""
    return words.caption(words.of_data(findings, cells), [said, steps], gaps)


def points_of(findings: Findings) -> list[Point]:
    """Cells that have both numbers, rows outermost."""
    points = []
    for row in findings.spec.rows.places:
        for column in findings.spec.columns.places:
            ap, fps = (findings.cells[row, column, metric] for metric in ("AP", "fps"))
            if ap.n and fps.n:
                points.append(Point(row, column, mean(fps), mean(ap), half_width(fps), half_width(ap)))
    return points


def front(points: Sequence[Point]) -> list[Point]:
    """Points that no other one beats in AP and FPS together, slowest first."""
    best: list[Point] = []
    for point in sorted(points, key=lambda point: (-point.fps, -point.ap)):
        if not best or point.ap > best[-1].ap:
            best.append(point)
    return best[::-1]


def _front(axes: Axes, points: Sequence[Point]) -> Line2D:
    """Steps, not straight lines: nothing between two points has been measured."""
    best = front(points)
    return axes.step(
        [point.fps for point in best],
        [point.ap for point in best],
        where="pre",
        color="0.78",
        linewidth=2.5,
        solid_joinstyle="miter",
        zorder=1,
        label="_front",
    )[0]


def _name_columns(canvas: Canvas, axes: Axes, findings: Findings, points: Sequence[Point]) -> None:
    """The column's last value beside each point, on the side where the least is in its way."""
    texts = {place(values): canonical(values[-1]) for values in findings.spec.columns.order}
    looks = {row: look(index) for index, row in enumerate(findings.spec.rows.places)}
    canvas.draw_without_rendering()  # lays out: only now do points have places
    scale = canvas.dpi / 72
    centres = [axes.transData.transform((point.fps, point.ap)) for point in points]
    taken = [
        *(_around(x, y, 3 * scale, 3 * scale) for x, y in centres),
        *_bars(axes, points, scale),
        *_segments(points, centres, scale),
    ]
    room = axes.get_window_extent()
    for point, (x, y) in zip(points, centres, strict=True):
        text = texts[point.column]
        half = (text_width(text) * 36 * scale, SMALL_TEXT * 0.4 * scale)
        boxes = np.array([_around(x + dx * scale, y + dy * scale, *half) for dx, dy in AROUND])
        outside = (boxes[:, :2] < room.min).any(axis=1) | (boxes[:, 2:] > room.max).any(axis=1)
        best = int(np.argmin(np.round(_overlap(boxes, np.array(taken)), 3) + 1e6 * outside))
        taken.append(tuple(boxes[best]))
        is_far = math.hypot(*AROUND[best]) > FAR
        axes.annotate(
            text,
            (point.fps, point.ap),
            AROUND[best],
            textcoords="offset points",
            ha="center",
            va="center_baseline",
            size=SMALL_TEXT,
            color=looks[point.row].colour,
            arrowprops=LEADER if is_far else None,
            zorder=6,
        ).set_in_layout(False)


def _around(x: float, y: float, half_width: float, half_height: float) -> Box:
    return x - half_width, y - half_height, x + half_width, y + half_height


def _bars(axes: Axes, points: Sequence[Point], scale: float) -> list[Box]:
    """Where the bars are, so that no number stands on one."""
    boxes: list[Box] = []
    for point in points:
        for dx, dy in ((point.fps_bar, 0.0), (0.0, point.ap_bar)):
            if math.isfinite(dx) and math.isfinite(dy):
                low = axes.transData.transform((point.fps - dx, point.ap - dy))
                high = axes.transData.transform((point.fps + dx, point.ap + dy))
                boxes.append((low[0] - scale, low[1] - scale, high[0] + scale, high[1] + scale))
    return boxes


def _segments(points: Sequence[Point], centres: Sequence[Any], scale: float) -> list[Box]:
    """Where the lines are: a small box every few points of length."""
    boxes: list[Box] = []
    for before, after, start, end in zip(points, points[1:], centres, centres[1:], strict=False):
        if before.row == after.row:
            count = max(2, int(math.dist(start, end) / (3 * scale)))
            parts = np.linspace(start, end, count)
            boxes += [_around(x, y, scale * 1.5, scale * 1.5) for x, y in parts]
    return boxes


def _overlap(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Area that each of ``boxes`` [A,4] shares with all ``others`` [B,4]; [A]."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return np.asarray((high - low).clip(min=0).prod(axis=2).sum(axis=1))
