"""What a sweep found as CSV (RFC 4180): one line a cell and metric.

Means, deviations and ranges stand as they were computed; what goes through a distribution function has
twelve digits, since the last bits of those differ between versions of scipy.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from harness.report.comparison import Comparison
from harness.report.escape import one_line
from harness.report.findings import Findings
from harness.report.statistics import sigma_range
from harness.report.table_spec import UNITS, Place, canonical, place
from harness.report.verdicts import CONFIDENCE

Value = str | int | float | bool | None


ORIGIN = ("data_name", "hardware", "git_commit")
"""Columns of the rows whose values stand in every line"""


def csv_table(findings: Findings) -> str:
    """Every cell of every metric that the rows have, printed in the table or not.

    Empty fields are unknown: no number, no spread below two runs, nothing printed in the paper.
    """
    head = [
        *("metric", "unit", "n", "planned", "mean", "sd", "ci_low", "ci_high", "min", "max"),
        *("out_of_memory", "best", "paper", "paper_sd", "verdict", "why"),
    ]
    lines: list[list[Value]] = []
    for keys, where in _cells(findings, findings.metrics):
        cell, verdict = findings.cells[where], findings.verdicts.get(where)
        lines.append(
            [
                *keys,
                *(where[2], UNITS.get(where[2]), cell.n, cell.planned),
                *(cell.mean, cell.sd, *map(_steady, cell.interval() or (None, None)), cell.low, cell.high),
                *(cell.out_of_memory, where in findings.best),
                *(findings.paper.get(where), findings.paper_sd.get(where)),
                *((verdict.verdict, verdict.why) if verdict else (None, None)),
            ]
        )
    return _written(["sweep", "scale", *_keys(findings), *head, *ORIGIN], _attributed(findings, lines))


def csv_deviations(findings: Findings, metrics: Sequence[str]) -> str:
    """Standard deviations with the interval that holds the true one, for normal runs."""
    head = ["metric", "unit", "n", "planned", "sd", "sigma_low", "sigma_high", "paper_sd"]
    lines: list[list[Value]] = []
    for keys, where in _cells(findings, metrics):
        cell = findings.cells[where]
        low, high = (
            (None, None)
            if cell.sd is None
            else (_steady(cell.sd * by) for by in sigma_range(cell.n, CONFIDENCE))
        )
        numbers = (cell.n, cell.planned, cell.sd, low, high, findings.paper_sd.get(where))
        lines.append([*keys, where[2], UNITS.get(where[2]), *numbers])
    return _written(["sweep", "scale", *_keys(findings), *head, *ORIGIN], _attributed(findings, lines))


def _attributed(findings: Findings, lines: list[list[Value]]) -> list[list[Value]]:
    """Lines that say themselves what they are of: a file is soon alone."""
    spec, selection = findings.spec, findings.selection
    origin = [one_line("; ".join(selection.distinct(column))) or None for column in ORIGIN]
    return [[spec.name, spec.scale, *line, *origin] for line in lines]


def csv_claims(findings: Findings) -> str:
    """One line a claim of the sweep file."""
    head = ["sweep", "scale", "data_name", "claim", "says", "metric", "verdict", "p", "why"]
    data = one_line("; ".join(findings.selection.distinct("data_name"))) or None
    lines: list[list[Value]] = [
        [
            *(findings.spec.name, findings.spec.scale, data),
            found.claim.id,
            found.claim.says,
            found.claim.metric,
            found.verdict,
            _steady(found.p),
            found.why,
        ]
        for found in findings.claims
    ]
    return _written(head, lines)


def csv_comparisons(findings: Findings) -> str:
    """One line a comparison that a claim makes; the gap is positive where it points the claim's way.

    Of "within" it is the room left to the margin, of a trend the slope.
    """
    head = [
        *("claim", "comparison", "metric", "unit", "gap", "low", "high", "p", "p_permutation"),
        *("p_sign_flip", "probability", "minimal_effect", "seeds_needed", "n_a", "n_b", "pairs", "test"),
    ]
    lines: list[list[Value]] = []
    for found in findings.claims:
        metric = found.claim.metric
        for gap in found.gaps:
            lines.append([found.claim.id, gap.where, metric, UNITS.get(metric), *_tested(gap.tests)])
    return _written(head, lines)


def _tested(tests: Comparison | None) -> list[Value]:
    if tests is None:
        return [None] * 13
    if tests.counted:
        return [_steady(tests.gap), *[None] * 11, "count"]
    found = (tests.gap, tests.low, tests.high, tests.p, tests.p_permutation, tests.p_sign_flip)
    numbers = map(_steady, (*found, tests.probability, tests.minimal_effect))
    return [*numbers, tests.seeds_needed, *tests.n, tests.pairs, "paired t" if tests.paired else "Welch"]


def _steady(value: float | None) -> float | None:
    """Twelve digits that count."""
    return None if value is None else float(f"{value:.12g}")


def _keys(findings: Findings) -> list[str]:
    return [*findings.spec.rows.keys, *findings.spec.columns.keys]


def _cells(findings: Findings, metrics: Sequence[str]) -> Iterator[tuple[list[Value], Place]]:
    """Values of the keys and place of each cell, in the table's order."""
    spec = findings.spec
    for row in spec.rows.order:
        for column in spec.columns.order:
            for metric in metrics:
                yield [canonical(value) for value in (*row, *column)], (place(row), place(column), metric)


def _written(head: Sequence[str], lines: Sequence[Sequence[Value]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer)  # the default dialect is RFC 4180: commas, doubled quotes, CRLF
    writer.writerow(head)
    writer.writerows([_text(value) for value in line] for line in lines)
    return buffer.getvalue()


def _text(value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return repr(float(value)) if isinstance(value, float) else str(value)
