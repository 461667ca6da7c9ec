"""Loss against step while training: thin lines are seeds, a thick one the mean of a variant's seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
)
from harness.report.findings import Findings
from harness.report.selection import Selection
from harness.report.table import row_label
from harness.report.table_spec import place, value_label

POINTS, FEWEST_POINTS = 60, 20
"""Most points of a line, and least: each is the mean of so many steps that no more are needed"""
ALL_POINTS = 1800
"""Most points of a figure, or its file grows out of hand"""
HEIGHT = 2.0
TRAINED = ("model", "train")
"""Sections of the configuration that a training depends on"""


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
    """The figure of at least one curve."""
    spec = findings.spec
    variants = _variants(findings, losses)
    width = PAGE if len(variants) > CROWDED else COLUMN
    longest = max(len(curve.steps) for curve in losses.curves)
    points = max(FEWEST_POINTS, min(POINTS, ALL_POINTS // len(losses.curves)))
    steps = math.ceil(longest / points)
    smoothed = f"each point is the mean of {steps} steps" if steps > 1 else "every step is drawn"
    sizes = sorted({len(curves) for curves in variants.values()})
    runs = f"n = {sizes[0]}" + (f" to {sizes[-1]}" if len(sizes) > 1 else "")
    if sizes == [1]:
        seeds, marks = f"{runs} seed", ""
    else:
        seeds = f"{runs} seeds (thin) and their mean (thick)"
        marks = ", thin lines the single trainings, thick ones their mean as far as all of them go"
    canvas = new_canvas(
        width,
        HEIGHT + legend_height(width, list(variants)),
        f"{words.data_and_scale(findings)}\n{seeds}\n{smoothed}",
    )
    axes = canvas.subplots()
    handles = []
    for index, curves in enumerate(variants.values()):
        style = look(index)
        lines = [binned(curve, steps) for curve in curves]
        if len(lines) > 1:
            for x, y in lines:
                axes.plot(x, y, color=style.colour, linewidth=0.4, alpha=0.45, zorder=2, label="_seed")
        x, y = _mean(lines)
        handles += axes.plot(
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
    if all((curve.losses > 0).all() for curve in losses.curves):
        axes.set_yscale("log")
        plain_numbers(axes.yaxis)
    axes.set_xlabel("Step")
    axes.set_ylabel("Training loss")
    axes.grid()
    legend(canvas, handles, list(variants))
    return Drawing(
        name=f"{spec.name}_training",
        title="Total training loss against step",
        caption=words.caption(f"{words.of_data(findings, ())}, {runs}", [smoothed + marks], ""),
        canvas=canvas,
    )


def _mean(lines: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Mean over seeds, as far as all of them go."""
    length = min(len(x) for x, _ in lines)
    return lines[0][0][:length], np.mean([y[:length] for _, y in lines], axis=0)


def _variants(findings: Findings, losses: Losses) -> dict[str, list[Curve]]:
    """Printed name -> its trainings by seed, in the table's order."""
    order = {row: at for at, row in enumerate(findings.spec.rows.places)}
    named: dict[str, list[Curve]] = {}
    for curve in sorted(losses.curves, key=lambda curve: (order[curve.row], curve.seed, curve.trial)):
        named.setdefault(_label(findings, curve), []).append(curve)
    return named


def _label(findings: Findings, curve: Curve) -> str:
    """What tells a training from the others: a window that is only evaluated does not."""
    spec = findings.spec
    row = next(values for values in spec.rows.order if place(values) == curve.row)
    column = next(values for values in spec.columns.order if place(values) == curve.column)
    varied = dict(zip((*spec.rows.keys, *spec.columns.keys), (*row, *column), strict=True))
    trained = {key: value for key, value in varied.items() if key.split(".")[0] in TRAINED}
    if tuple(trained) == spec.rows.keys:
        return row_label(spec, row, findings.selection)
    return ", ".join(value_label(key, value) for key, value in trained.items()) or "all variants"
