"""What stands for a cell in a figure: its mean, its interval, its seeds, or the word OOM."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from harness.report.figures.style import SMALL_TEXT, Look
from harness.report.findings import Findings
from harness.report.statistics import Cell
from harness.report.table_spec import Place
from harness.report.verdicts import CONFIDENCE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.lines import Line2D

FLOOR = 0.13
"""Part of the axis that is kept free for the OOM marks"""
DIGITS = (((1,), 2), ((1, 2, 5), 3), ((1, 2, 3, 5, 7), 3))
"""First digits that get a number on a logarithmic axis, and how many numbers make them enough"""
BAR: dict[str, Any] = {"elinewidth": 0.8, "capsize": 1.8, "capthick": 0.8}


def half_width(cell: Cell) -> float:
    """Half of the t interval of a cell's mean; NaN below n = 2, where there is none."""
    interval = cell.interval(CONFIDENCE)
    return math.nan if interval is None else (interval[1] - interval[0]) / 2


def mean(cell: Cell) -> float:
    """NaN where no run gave a number."""
    return math.nan if cell.mean is None else cell.mean


def is_oom(cell: Cell) -> bool:
    """Whether the cell has no number because it did not fit in memory."""
    return cell.n == 0 and cell.out_of_memory > 0


def seeds(findings: Findings, where: Place) -> list[float]:
    """The single runs of a cell, by seed; none where its mean is withheld."""
    row, column, metric = where
    if findings.cells[where].n == 0:
        return []
    used = findings.selection.used
    here = used[(used["row_key"] == row) & (used["column_key"] == column)].sort_values("seed", kind="stable")
    return [value for value in pd.to_numeric(here[metric], errors="coerce") if math.isfinite(value)]


def means(axes: Axes, x: Sequence[float], cells: Sequence[Cell], look: Look, label: str) -> Line2D:
    """Means with bars, joined; the returned line stands in the legend."""
    drawn = axes.errorbar(
        x,
        [mean(cell) for cell in cells],
        yerr=[half_width(cell) for cell in cells],
        color=look.colour,
        marker=look.marker,
        linestyle=look.dashes,
        label=label,
        zorder=4,
        **BAR,
    )
    return drawn.lines[0]


def dots(axes: Axes, x: Sequence[float], y: Sequence[float], look: Look, label: str) -> None:
    """Single runs."""
    axes.plot(
        x,
        y,
        linestyle="none",
        marker="o",
        markersize=1.9,
        markeredgewidth=0.5,
        markeredgecolor=look.colour,
        markerfacecolor="white",
        label=f"_seeds {label}",
        zorder=3,
    )


def out_of_memory(axes: Axes, x: Sequence[float], looks: Sequence[Look], at: float) -> None:
    """Hollow markers of the variants that did not fit, on the axis at their places, under one word.

    Args:
        at: where the word stands along the axis.
    """
    across = axes.get_xaxis_transform()
    for position, look in zip(x, looks, strict=True):
        axes.plot(
            [position],
            [0.025],
            transform=across,
            marker=look.marker,
            markersize=3.5,
            markeredgecolor=look.colour,
            markerfacecolor="white",
            markeredgewidth=0.7,
            linestyle="none",
            label="_oom",
            clip_on=False,
            zorder=5,
        )
    axes.text(at, 0.055, "OOM", transform=across, ha="center", va="bottom", size=SMALL_TEXT)


def leave_floor(axes: Axes) -> None:
    """Keep data above the OOM marks."""
    low, high = axes.get_ylim()
    if axes.get_yscale() == "log":
        axes.set_ylim(low * (low / high) ** (FLOOR / (1 - FLOOR)), high)
    else:
        axes.set_ylim(low - (high - low) * FLOOR / (1 - FLOOR), high)


def plain_numbers(axis: Axis, most: int = 6) -> None:
    """Numbers of a logarithmic axis at full size: exponents would be too small to print.

    To be called when the axis has its limits: the fewer decades it spans, the more first digits get a number.

    Args:
        most: steps between numbers that stand at equal distances, where the axis is too short for digits.
    """
    from matplotlib.ticker import FixedLocator, NullFormatter, StrMethodFormatter

    low, high = sorted(axis.get_view_interval())
    axis.set_major_locator(FixedLocator(log_numbers(low, high, most)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def log_numbers(low: float, high: float, most: int = 6) -> list[float]:
    """At least two numbers from ``low`` to ``high``, for a logarithmic axis: the plainest that are enough."""
    from matplotlib.ticker import MaxNLocator

    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits, enough in DIGITS:
        numbers = [float(f"{digit}e{power}") for power in powers for digit in digits]
        inside = [number for number in numbers if low <= number <= high]
        if len(inside) >= enough:
            return inside
    equal = MaxNLocator(most, steps=[1, 2, 2.5, 5, 10], min_n_ticks=3).tick_values(low, high)
    return [float(number) for number in equal if low <= number <= high]


def say_inside(axes: Axes, text: str) -> None:
    """Words in an empty picture."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", label="_why")


def spread_out(count: int, width: float) -> tuple[float, float]:
    """Step between variants that share a place on the axis, and how far its dots stand from a mean.

    Args:
        width: what all variants of a place may take, as a part of the distance between places.
    """
    step = min(0.16, width / max(count, 1))
    return step, step * 0.4


def offsets(count: int, step: float) -> np.ndarray:
    """Where the variants of a place stand around it."""
    return step * (np.arange(count) - (count - 1) / 2)
