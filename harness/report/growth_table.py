"""Exponents of growth of every encoder of a sweep, along each size that varies, and the paper's."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from harness.report.findings import Findings
from harness.report.growth import Growth, complexity, growth, upper_half
from harness.report.latex import latex_list
from harness.report.markdown import github
from harness.report.paper import paper_table
from harness.report.table_spec import canonical, value_label
from model.errors import InputError

QUANTITIES: dict[str, tuple[str, Callable[[dict[str, Any]], float]]] = {
    "encoder_ms": ("encoder, ms a clip", lambda run: run["encoder_ms"]),
    "model_fps": ("model, s a clip", lambda run: run["inference.window"] / run["model_fps"]),
    "model_memory_gb": ("memory beyond weights, GB", lambda run: run["model_memory_gb"]),
    "flops_g": ("encoder, GMACs", lambda run: run["flops_g"]),
}
"""Metric -> the quantity whose growth is fitted, and its value for a run"""
ALONG = {"T": "inference.window", "HW": "frame_tokens", "M": "model.memory_tokens"}
HEAD = (
    *("encoder", "along", "at", "of", "from", "to"),
    *("exponent", "upper half", "formula", "formula, upper half"),
)
EXPLAINED = (
    "Exponents p of y ~ x^p: least squares on logarithms over all points, and over the upper half of the"
    " range (by logarithm), with the 95% t interval of the slope where there are three points; it tells how"
    " far a straight line is from describing the points. Formula: the same fit to the paper's complexity at"
    " the same points, every term with the constant 1 and C = {width}; the paper's terms leave out the"
    " feed-forward layers and the backbone. Weights are untrained."
)


@dataclass(frozen=True)
class GrowthLine:
    """How one quantity of one row grows along one size, the others being fixed."""

    row: str
    """The encoder, as tables call it"""
    along: str
    """``T``, ``HW`` or ``M``"""
    at: str
    """What is fixed, such as ``HW=240``"""
    metric: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    formula: tuple[float, ...]
    """The paper's complexity at ``x``; empty where it has none"""

    @property
    def fits(self) -> tuple[Growth | None, Growth | None, Growth | None, Growth | None]:
        """All and upper half, then both of the formula."""
        predicted = self.formula or (math.nan,) * len(self.x)  # of nothing there is no growth
        of_formula = (growth(self.x, predicted), growth(*upper_half(self.x, predicted)))
        return (
            growth(self.x, self.y),
            growth(*upper_half(self.x, self.y)),
            *of_formula,
        )


def growth_lines(findings: Findings) -> list[GrowthLine]:
    """Every fit that the rows have two points for, in the table's order.

    Raises:
        InputError: ``paper.yaml`` has no complexities under the name that the sweep gives.
    """
    spec = findings.spec
    if spec.growth is None:
        return []
    formulas = paper_table(spec.growth, spec).get("complexity")
    if not isinstance(formulas, dict):
        raise InputError(f"table {spec.name}: growth: {spec.growth!r} of paper.yaml has no complexity")
    runs = _runs(findings)
    lines = []
    places = list(spec.rows.places)
    in_order = sorted(runs, key=lambda run: places.index(run["row_key"]))
    for encoder in dict.fromkeys(run["encoder"] for run in in_order):
        own = [run for run in runs if run["encoder"] == encoder]
        for along, key in ALONG.items():
            formula = formulas.get(encoder) if along != "M" else None  # M is in none of the terms
            others = [name for name in ALONG if name != along]
            for fixed, group in _grouped(own, [ALONG[name] for name in others]):
                ordered = sorted(group, key=lambda run: float(run[key]))
                x = tuple(float(run[key]) for run in ordered)
                named = zip(others, fixed, strict=True)
                at = ", ".join(f"{name}={canonical(value)}" for name, value in named if value)
                if len(set(x)) < 2 or len(set(x)) < len(x):
                    continue
                predicted = tuple(_predicted(formula, run) for run in ordered) if formula else ()
                label = value_label("model.encoder", encoder)
                for metric, (_, value) in QUANTITIES.items():
                    if all(run.get(metric) is not None for run in ordered):
                        y = tuple(float(value(run)) for run in ordered)
                        lines.append(GrowthLine(label, along, at, metric, x, y, predicted))
    return lines


def growth_files(findings: Findings) -> dict[str, bytes]:
    """``<sweep>_growth`` as LaTeX, Markdown and CSV; nothing where there is nothing to fit.

    The CSV has every fit; the others those at the largest fixed sizes.
    """
    lines = growth_lines(findings)
    if not lines:
        return {}
    name, told = f"{findings.spec.name}_growth", [_texts(line) for line in largest(lines)]
    title = f"{findings.spec.title}: fitted exponents"
    return {
        f"{name}.tex": latex_list(name, title, HEAD, told, explained(findings)).encode(),
        f"{name}.md": growth_markdown(findings, lines).encode(),
        f"{name}.csv": _csv(lines).encode(),
    }


def growth_markdown(findings: Findings, lines: Sequence[GrowthLine]) -> str:
    """The table of the largest sizes, with its heading."""
    told = [_texts(line) for line in largest(lines)]
    return f"### {findings.spec.name}: growth\n\n{github(HEAD, told)}\n\n{explained(findings)}\n"


def explained(findings: Findings) -> str:
    """What the columns are."""
    widths = sorted({run["width"] for run in _runs(findings)})
    return EXPLAINED.format(width=", ".join(map(str, widths)))


def largest(lines: Sequence[GrowthLine]) -> list[GrowthLine]:
    """Of each row and direction the fit at the largest sizes of everything else."""
    last = {(line.row, line.along, line.metric): line for line in lines}
    return [line for line in lines if last[line.row, line.along, line.metric] is line]


def _runs(findings: Findings) -> list[dict[str, Any]]:
    """The finished runs with the sizes that growth is fitted along; None where a size is not known."""
    runs = []
    for row in findings.selection.used.to_dict("records"):
        run = {str(name): None if value != value else value for name, value in row.items()}
        config = json.loads(str(run["config"]))
        run["inference.window"] = config["inference"]["window"]
        run["encoder"], run["width"] = config["model"]["encoder"], config["model"]["hidden_dim"]
        run["model.memory_tokens"] = config["model"]["memory_tokens"] if run["encoder"] == "ifc" else 0
        if run.get("frame_tokens") is not None:
            runs.append(run)
    return runs


def _grouped(
    runs: Sequence[dict[str, Any]], keys: Sequence[str]
) -> Iterator[tuple[tuple[Any, ...], list[dict[str, Any]]]]:
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for run in runs:
        groups.setdefault(tuple(run[key] for key in keys), []).append(run)
    yield from sorted(groups.items())


def _predicted(formula: str, run: dict[str, Any]) -> float:
    return complexity(formula, run["width"], run["inference.window"], run["frame_tokens"])


def _texts(line: GrowthLine) -> list[str]:
    what = QUANTITIES[line.metric][0]
    ends = (canonical(min(line.x)), canonical(max(line.x)))
    return [line.row, line.along, line.at, what, *ends, *map(_text, line.fits)]


def _text(found: Growth | None) -> str:
    if found is None:
        return "--"
    if found.low is None or found.high is None:
        return f"{found.exponent:.2f}"
    return f"{found.exponent:.2f} ({found.low:.2f} to {found.high:.2f})"


def _csv(lines: Sequence[GrowthLine]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    parts = ("", "_upper_half", "_formula", "_formula_upper_half")
    numbers = [f"{name}{part}" for part in parts for name in ("exponent", "low", "high", "points")]
    writer.writerow(["encoder", "along", "at", "metric", "quantity", "x_from", "x_to", *numbers])
    for line in lines:
        found: list[object] = []
        for fit in line.fits:
            found += [None] * 4 if fit is None else [*map(_digits, (fit.exponent, fit.low, fit.high)), fit.n]
        ends = (canonical(min(line.x)), canonical(max(line.x)))
        writer.writerow(
            [line.row, line.along, line.at, line.metric, QUANTITIES[line.metric][0], *ends, *found]
        )
    return text.getvalue()


def _digits(value: float | None) -> str | None:
    return None if value is None else f"{value:.6f}"
