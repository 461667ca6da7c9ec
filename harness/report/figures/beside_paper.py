"""The paper's numbers beside ours: a line a cell, a panel a metric, and whether they may be compared."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from harness.report.figures import words
from harness.report.figures.marks import half_width, is_oom, mean, plain_numbers
from harness.report.figures.style import (
    COLUMN,
    GREY,
    PAGE,
    SMALL_TEXT,
    Drawing,
    legend,
    legend_height,
    look,
    new_canvas,
    text_height,
    text_width,
    wrapped,
)
from harness.report.findings import Findings
from harness.report.judged_cells import PAPER_RUNS
from harness.report.table import row_label
from harness.report.table_spec import METRIC_NAMES, Place, is_counted, place
from harness.report.verdicts import CONFIDENCE
from harness.report.welch import t_quantile

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

LINE = 0.155
"""Inches a cell"""
MOST_REASONS = 3
ACROSS = 3
"""Most panels beside each other"""
PUBLISHED = "published (NeurIPS 2021)"
"""In a legend, where nothing around it says which paper is meant"""


def metrics_of(findings: Findings) -> tuple[str, ...]:
    """Metrics that the paper prints and that we have a number of."""
    ours = {where[2] for where in findings.paper if findings.cells[where].n}
    return tuple(metric for metric in METRIC_NAMES if metric in ours)


def draw(findings: Findings) -> Drawing:
    """The figure of at least one metric."""
    spec = findings.spec
    metrics = metrics_of(findings)
    printed = [(row, column) for row, column, _ in findings.paper]
    cells = [(r, c) for r in spec.rows.places for c in spec.columns.places if (r, c) in printed]
    names = _labels(findings, cells)
    width = PAGE if len(metrics) > 1 or max(map(text_width, names)) > COLUMN * 0.42 else COLUMN
    labels = [wrapped(name, width * 0.3) for name in names]
    line = max(LINE, *map(text_height, labels))
    across = min(len(metrics), ACROSS)
    down = math.ceil(len(metrics) / across)
    ours = [findings.cells[where] for where in findings.paper if where[2] in metrics]
    spread = any(cell.sd is not None for cell in ours)
    bare = [where not in findings.paper_sd for where in findings.paper if where[2] in metrics]
    legends = [
        "ours: mean, 95% t interval" if spread else "ours",
        PUBLISHED if all(bare) else f"{PUBLISHED}: mean, 95% t interval (n = {PAPER_RUNS})",
    ]
    counted = is_counted(metrics)
    canvas = new_canvas(
        width,
        down * (line * len(labels) + 0.6) + legend_height(width, legends),
        ", ".join(filter(None, (words.data_and_scale(findings), "" if counted else words.runs(ours)))),
        "\n".join(statements(findings, metrics)),
    )
    rooms = canvas.subplots(down, across, sharey=True, squeeze=False)
    for axes in rooms.flat[len(metrics) :]:
        axes.set_visible(False)
    handles: list[Line2D] = []
    room = width - max(text_width(part) for label in labels for part in label.splitlines()) - 0.2
    for axes, metric in zip(rooms.flat, metrics, strict=False):
        handles = _panel(axes, findings, metric, cells)
        _say_gone(axes, findings, metric, cells, room / across)
        if is_counted((metric,)):
            plain_numbers(axes.xaxis, most=4)
    rooms[0, 0].set_yticks(range(len(labels)), labels)
    rooms[0, 0].set_ylim(len(labels) - 0.4, -0.6)
    legend(canvas, handles, legends)
    listed = ", ".join(words.long_name(metric) for metric in metrics)
    said = " ".join(f"{line[0].upper()}{line[1:]}." for line in statements(findings, metrics))
    shown = "our means with 95% t intervals" if spread else "ours"
    theirs = "the paper's" if counted else _theirs(bare)
    clauses = [f"{shown}, and below each {theirs}"]
    gaps = f" {said}".rstrip() + words.gaps(findings, metrics)
    return Drawing(
        name=f"{spec.name}_paper",
        title=f"Paper against ours: {listed}",
        caption=words.caption(words.of_data(findings, ours), clauses, gaps),
        canvas=canvas,
    )


def paper_half_width(sd: float | None) -> float:
    """Half of the 95% t interval of a printed mean, over the paper's five runs; NaN where no SD is printed.

    The interval that ours have: a bar of one SD beside it would be another quantity on the same axis. The
    paper does not say how its SD divides; it is taken for the sample one.
    """
    return math.nan if sd is None else t_quantile(PAPER_RUNS - 1, CONFIDENCE) * sd / math.sqrt(PAPER_RUNS)


def _theirs(bare: list[bool]) -> str:
    """For the caption: what the paper's marks are.

    Args:
        bare: of each printed mean, whether it has no SD.
    """
    if all(bare):
        return "the paper's, without an interval because it prints no standard deviation"
    how = f"(n = {PAPER_RUNS}, taken as sample ones)"
    said = f"the paper's with 95% t intervals from its standard deviations {how}"
    return f"{said}, only a point where it prints none" if any(bare) else said


def statements(findings: Findings, metrics: tuple[str, ...]) -> list[str]:
    """What the verdicts say of putting the two side by side, a line for each kind of reason."""
    reasons: dict[str, dict[str, int]] = {}
    unjudged = dict.fromkeys(
        where[2] for where in findings.paper if where[2] in metrics and where not in findings.verdicts
    )
    for where, verdict in findings.verdicts.items():
        if verdict.verdict == "not comparable" and where[2] in metrics:
            counts = reasons.setdefault(verdict.why, {})
            counts[where[2]] = counts.get(where[2], 0) + 1
    said = []
    for why, counts in list(reasons.items())[:MOST_REASONS]:
        whole = all(counts.get(metric) == _judged(findings, metric) for metric in metrics)
        named = ", ".join(
            words.long_name(metric)
            + (
                ""
                if count == _judged(findings, metric)
                else f" of {count} of {_judged(findings, metric)} cells"
            )
            for metric, count in counts.items()
        )
        said.append(f"not comparable: {why}" if whole else f"{named} not comparable: {why}")
    if len(reasons) > MOST_REASONS:
        said.append(f"not comparable for {len(reasons) - MOST_REASONS} more reasons: see the verdicts")
    if unjudged:
        said.append(f"not judged whether comparable: {', '.join(map(words.long_name, unjudged))}")
    return said


def _judged(findings: Findings, metric: str) -> int:
    return sum(where[2] == metric for where in findings.verdicts)


def _labels(findings: Findings, cells: list[tuple[str, str]]) -> list[str]:
    """Row and column of each cell."""
    spec = findings.spec
    rows = {place(values): row_label(spec, values, findings.selection) for values in spec.rows.order}
    columns = {place(values): spec.columns.label(values) for values in spec.columns.order}
    return [", ".join(filter(None, (rows[row], columns[column]))) for row, column in cells]


def _panel(axes: Axes, findings: Findings, metric: str, cells: list[tuple[str, str]]) -> list[Line2D]:
    """Ours on a cell's line, the paper's just below it."""
    axes.set_xlabel(words.axis_name(metric))
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    if is_counted((metric,)):
        axes.set_xscale("log")
    for at, (row, _) in enumerate(cells):
        if at and row != cells[at - 1][0]:
            axes.axhline(at - 0.5, color="0.8", linewidth=0.5)
    places: list[Place] = [(row, column, metric) for row, column in cells]
    bars: dict[str, Any] = {"linestyle": "none", "elinewidth": 0.8, "capsize": 1.5, "capthick": 0.8}
    known = [(at, where) for at, where in enumerate(places) if where in findings.paper]
    paper = axes.errorbar(
        [findings.paper[where] for _, where in known],
        [at + 0.19 for at, _ in known],
        xerr=[paper_half_width(findings.paper_sd.get(where)) for _, where in known],
        color=GREY,
        marker="D",
        markersize=3,
        markerfacecolor="white",
        markeredgewidth=0.8,
        label="_paper",
        **bars,
    )
    ours = axes.errorbar(
        [mean(findings.cells[where]) for _, where in known],
        [at - 0.19 for at, _ in known],
        xerr=[half_width(findings.cells[where]) for _, where in known],
        color=look(0).colour,
        marker="o",
        markersize=3.2,
        label="_ours",
        **bars,
    )
    return [ours.lines[0], paper.lines[0]]


def _say_gone(
    axes: Axes, findings: Findings, metric: str, cells: list[tuple[str, str]], inches: float
) -> None:
    """A word on each line that has no mark of ours, left of all marks.

    Args:
        inches: about the width of the panel.
    """
    gone: dict[int, str] = {}
    for at, (row, column) in enumerate(cells):
        cell = findings.cells[row, column, metric]
        if (row, column, metric) in findings.paper and cell.n == 0:
            gone[at] = "OOM" if is_oom(cell) else "missing"
    if not gone:
        return
    part = (max(map(text_width, gone.values())) + 0.1) / inches
    low, high = axes.get_xlim()
    share = part / (1 - part)  # of the axis as it was
    left = low * (low / high) ** share if axes.get_xscale() == "log" else low - share * (high - low)
    axes.set_xlim(left, high)
    for at, word in gone.items():
        axes.text(0.02, at, word, transform=axes.get_yaxis_transform(), va="center", size=SMALL_TEXT)
