"""Figures of one sweep: one file a kind, one style. Matplotlib is imported by the first one drawn."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from harness.metrics import ERROR_METRICS, SITUATION_METRICS
from harness.report.figures import (
    beside_paper,
    by_value,
    curves,
    dots,
    error_kinds,
    growth,
    lines,
    situations,
    tradeoff,
)
from harness.report.figures.curves import Losses, read_losses
from harness.report.figures.style import Drawing, Figure, house_style, saved
from harness.report.findings import Findings
from harness.report.table_spec import METRIC_NAMES, is_counted

__all__ = ["Figure", "Losses", "figures_of", "read_losses"]

ALWAYS = ("AP", "fps", "peak_memory_gb", "flops_g")
"""Metrics that are drawn wherever there are numbers of them"""


def figures_of(findings: Findings, losses: Losses | None = None) -> list[Figure]:
    """Every figure that the rows have data for; the same rows give the same bytes.

    Metrics that the sweep file wants drawn get a figure in any case: without numbers it says why.
    """
    with house_style():
        return [saved(draw()) for draw in drawings(findings, losses)]


def drawings(findings: Findings, losses: Losses | None = None) -> list[Callable[[], Drawing]]:
    """What draws each figure, to be called in the house style."""
    spec = findings.spec
    metrics = tuple(metric for metric in METRIC_NAMES if metric in spec.figures or _has(findings, metric))
    drawn = tuple(metric for metric in metrics if metric in (*ALWAYS, *spec.figures))
    plans: list[Callable[[], Drawing]] = []
    if spec.columns.keys:
        plans += [partial(lines.draw, findings, metric) for metric in drawn]
    else:
        shown = tuple(metric for metric in metrics if metric in (*spec.cells, *drawn))
        plans += [partial(dots.draw, findings, shown)] if shown else []
    if by_value.has_numbers(findings):
        scores = [metric for metric in drawn if metric == "AP" or is_counted((metric,))]
        plans += [partial(by_value.draw, findings, metric) for metric in scores]
    if _has(findings, "AP") and _has(findings, "fps"):
        plans.append(partial(tradeoff.draw, findings))
    if any(_has(findings, metric) for metric in SITUATION_METRICS):
        plans += situations.drawings(findings)
    if any(_has(findings, metric) for metric in ERROR_METRICS):
        plans.append(partial(error_kinds.draw, findings))
    plans += [partial(growth.draw, findings, along) for along in growth.along_of(findings)]
    if losses is not None and losses.curves:
        plans.append(partial(curves.draw, findings, losses))
    if beside_paper.metrics_of(findings):
        plans.append(partial(beside_paper.draw, findings))
    return plans


def _has(findings: Findings, metric: str) -> bool:
    """Whether any run has the number, be it one that must not be put beside the others."""
    used = findings.selection.used
    return metric in used and bool(used[metric].notna().any())
