"""Loss against step while training: thin lines are seeds, a thick one the mean of a variant's seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.report.figures import words
from harness.report.figures.marks import plain_numbers
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
from harness.report.selection import Selection
from harness.report.table import row_label
from harness.report.table_spec import Value, place, value_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

POINTS, FEWEST_POINTS = 60, 20
"""Most points of a line, and least: each is the mean of so many steps that no more are needed"""
ALL_POINTS = 1800
"""Most points of a figure, or its file grows out of hand"""
HEIGHT = 2.0
TRAINED, SHOWN = ("model", "train"), "data"
"""Sections of the configuration that a training depends on, and that of what it sees"""
ACROSS = 3
"""Panels beside each other, at most"""


@dataclass(frozen=True)
class Curve:
    """The total loss of one training."""

    trial: str
    seed: str
    row: str
    column: str
    """First cell of the table, in canonical spelling, that this training was evaluated for"""
    steps: np.ndarray
    losses: np.ndarray


@dataclass(frozen=True)
class Losses:
    """Curves of a sweep's trainings, by trial."""

    curves: tuple[Curve, ...] = ()


def read_losses(curves: Mapping[str, Sequence[tuple[int, float]]], selection: Selection) -> Losses:
    """Curves of the trainings behind the rows that count; those without a curve are absent.

    Args:
        curves: trial -> (step, total loss), as :func:`harness.archive.read_curves` finds them.
    """
    found = []
    for trial, rows in selection.used.groupby("trial", sort=True):
        points = np.array(curves.get(str(trial), ()), dtype=float).reshape(-1, 2)
        points = points[np.isfinite(points).all(axis=1)]
        if len(points):
            row, column, seed = (str(rows[key].iloc[0]) for key in ("row_key", "column_key", "seed_key"))
            found.append(Curve(str(trial), seed, row, column, points[:, 0], points[:, 1]))
    return Losses(tuple(found))


def binned(curve: Curve, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Means of ``width`` steps each, at their last step; a rest shorter than that is left out."""
    count = len(curve.steps) // width
    steps = curve.steps[: count * width].reshape(count, width)
    losses = curve.losses[: count * width].reshape(count, width)
    return steps[:, -1], losses.mean(axis=1)


def draw(findings: Findings, losses: Losses) -> Drawing:
    """The figure of at least one curve; trainings on different data stand in panels of their own."""
    spec = findings.spec
    panels = _panels(findings, losses)
    names = list(dict.fromkeys(name for variants in panels.values() for name in variants))
    width = PAGE if len(panels) > 1 or len(names) > CROWDED else COLUMN
    longest = max(len(curve.steps) for curve in losses.curves)
    points = max(FEWEST_POINTS, min(POINTS, ALL_POINTS // len(losses.curves)))
    steps = math.ceil(longest / points)
    smoothed = f"each point is the mean of {steps} steps" if steps > 1 else "every step is drawn"
    sizes = sorted({len(curves) for variants in panels.values() for curves in variants.values()})
    runs = f"n = {sizes[0]}" + (f" to {sizes[-1]}" if len(sizes) > 1 else "")
    if sizes == [1]:
        seeds, marks = f"{runs} seed", ""
    else:
        seeds = f"{runs} seeds (thin) and their mean (thick)"
        marks = ", thin lines the single trainings, thick ones their mean as far as all of them go"
    apart = ", a panel for each setting of the data" if len(panels) > 1 else ""
    across = min(len(panels), ACROSS)
    down = math.ceil(len(panels) / across)
    canvas = new_canvas(
        width,
        HEIGHT * down + legend_height(width, names),
        f"{words.data_and_scale(findings)}\n{seeds}\n{smoothed}",
    )
    rooms = canvas.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    handles: dict[str, Line2D] = {}
    for number, (title, variants) in enumerate(panels.items()):
        axes = rooms[number // across, number % across]
        for name, curves in variants.items():
            handles.setdefault(name, _lines(axes, curves, steps, names.index(name)))
        axes.set_title(wrapped(title, width / across - 0.5))
        if number + across >= len(panels):
            axes.set_xlabel("Step")
            axes.tick_params(labelbottom=True)
        if number % across == 0:
            axes.set_ylabel("Training loss")
        axes.grid()
    for axes in rooms.flat[len(panels) :]:
        axes.set_visible(False)
    if all((curve.losses > 0).all() for curve in losses.curves):
        rooms[0, 0].set_yscale("log")
        plain_numbers(rooms[0, 0].yaxis)
    legend(canvas, [handles[name] for name in names], names)
    return Drawing(
        name=f"{spec.name}_training",
        title="Total training loss against step",
        caption=words.caption(f"{words.of_data(findings, ())}, {runs}", [smoothed + marks + apart], ""),
        canvas=canvas,
    )


def _lines(axes: Axes, curves: Sequence[Curve], steps: int, index: int) -> Line2D:
    """The trainings of one variant in a panel, and their mean, which is returned."""
    style = look(index)
    lines = [binned(curve, steps) for curve in curves]
    if len(lines) > 1:
        for x, y in lines:
            axes.plot(x, y, color=style.colour, linewidth=0.4, alpha=0.45, zorder=2, label="_seed")
    x, y = _mean(lines)
    [line] = axes.plot(
        x,
        y,
        color=style.colour,
        linestyle=style.dashes,
        linewidth=1.3,
        marker=style.marker,
        markersize=3.5,
        markevery=(index * 3 % 12, 12),
        zorder=3,
        label="_mean",
    )
    return line


def _mean(lines: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Mean over seeds, as far as all of them go."""
    length = min(len(x) for x, _ in lines)
    return lines[0][0][:length], np.mean([y[:length] for _, y in lines], axis=0)


def _panels(findings: Findings, losses: Losses) -> dict[str, dict[str, list[Curve]]]:
    """Setting of the data -> printed name -> its trainings by seed, in the table's order."""
    rows, columns = (
        {name: at for at, name in enumerate(side.places)}
        for side in (findings.spec.rows, findings.spec.columns)
    )
    named: dict[str, dict[str, list[Curve]]] = {}
    for curve in sorted(losses.curves, key=lambda curve: (rows[curve.row], curve.seed, curve.trial)):
        variants = named.setdefault(_setting(findings, curve), {})
        variants.setdefault(_label(findings, curve), []).append(curve)
    first = {title: min(columns[c.column] for v in each.values() for c in v) for title, each in named.items()}
    return dict(sorted(named.items(), key=lambda panel: first[panel[0]]))


def _varied(findings: Findings, curve: Curve) -> dict[str, Value]:
    """Key -> the value that a training has of it, of all keys of the table."""
    spec = findings.spec
    row = next(values for values in spec.rows.order if place(values) == curve.row)
    column = next(values for values in spec.columns.order if place(values) == curve.column)
    return dict(zip((*spec.rows.keys, *spec.columns.keys), (*row, *column), strict=True))


def _setting(findings: Findings, curve: Curve) -> str:
    """What a training was shown: losses on different data have no mean; empty where all saw the same."""
    varied = _varied(findings, curve).items()
    return ", ".join(value_label(key, value) for key, value in varied if key.split(".")[0] == SHOWN)


def _label(findings: Findings, curve: Curve) -> str:
    """What tells a training from others on its data: a window that is only evaluated does not."""
    spec, varied = findings.spec, _varied(findings, curve)
    trained = {key: value for key, value in varied.items() if key.split(".")[0] in TRAINED}
    if tuple(trained) == spec.rows.keys:
        row = tuple(varied[key] for key in spec.rows.keys)
        return row_label(spec, row, findings.selection)
    return ", ".join(value_label(key, value) for key, value in trained.items()) or "all variants"
