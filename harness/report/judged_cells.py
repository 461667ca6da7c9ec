"""Our cells against the paper's and against each other: a verdict on each, and which are established best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from harness.report.against_paper import AgainstPaper, against_paper
from harness.report.comparability import differences, incomparable
from harness.report.comparison import compare, holm
from harness.report.seed_values import SeedValues, Trainings, share_trainings
from harness.report.selection import Selection
from harness.report.statistics import Cell
from harness.report.table_spec import LESS_IS_BETTER, Place, TableSpec, decimals, is_counted, metric_name
from harness.report.verdicts import ENOUGH_RUNS, LEVEL, CellVerdict, Verdict

PAPER_RUNS = 5
"""Of the tables that print standard deviations (Sec. 4.3, appendix)"""


def judge_cells(
    spec: TableSpec,
    selection: Selection,
    cells: Mapping[Place, Cell],
    paper: Mapping[Place, float],
    paper_sd: Mapping[Place, float],
) -> dict[Place, CellVerdict]:
    """A verdict on every cell that the paper prints too, in the paper's order.

    Holm's correction is over the cells that are tested at all.
    """
    reasons = {metric: "; ".join(differences(spec, selection, metric)) for _, _, metric in paper}
    judged = {
        where: _judged(spec, where, cells[where], mean, paper_sd.get(where), reasons[where[2]])
        for where, mean in paper.items()
    }
    tested = {where: each.tests for where, each in judged.items() if each.tests is not None}
    corrected = dict(zip(tested, holm([tests.p for tests in tested.values()]), strict=True))
    for where, tests in tested.items():
        judged[where] = _decided(judged[where], tests, cells[where], corrected[where] or 0.0)
    return judged


def _judged(
    spec: TableSpec, where: Place, cell: Cell, mean: float, sd: float | None, reason: str
) -> CellVerdict:
    """Final where ``tests`` is None."""
    metric = where[2]
    if reason:
        return CellVerdict(where, "not comparable", reason)
    if cell.mean is None:
        why = "did not fit in memory" if cell.out_of_memory else "no run gave a number"
        return CellVerdict(where, "inconclusive", why)
    if is_counted((metric,)):
        digits = decimals(metric)
        equal = f"{cell.mean:.{digits}f}" == f"{mean:.{digits}f}"
        why = "equal to the last printed digit" if equal else f"{cell.mean:.{digits}f}, not {mean:.{digits}f}"
        return CellVerdict(where, "reproduced" if equal else "not reproduced", why)
    if cell.short:
        return CellVerdict(where, "inconclusive", f"{cell.n} of {cell.planned} planned runs gave a number")
    if cell.n < ENOUGH_RUNS:
        return CellVerdict(where, "inconclusive", f"n = {cell.n}, fewer than {ENOUGH_RUNS}")
    if sd is None:
        return CellVerdict(where, "inconclusive", f"the paper prints no spread of this {metric_name(metric)}")
    margin = _margin(spec, metric, mean)
    if margin is None:
        return CellVerdict(
            where, "inconclusive", f"the sweep file states no margin for {metric_name(metric)}"
        )
    return CellVerdict(where, "inconclusive", "", against_paper(cell, mean, sd, margin=margin, n=PAPER_RUNS))


def _decided(judged: CellVerdict, tests: AgainstPaper, cell: Cell, p: float) -> CellVerdict:
    """The verdict that the tests give; ``p`` is Welch's after Holm's correction."""
    inside = cell.mean is not None and tests.low <= cell.mean <= tests.high
    between = f"prediction interval {tests.low:.1f} to {tests.high:.1f}"
    verdict: Verdict
    if tests.p_equal < LEVEL:
        verdict, why = "reproduced", f"equal within {tests.margin:g} (TOST p = {tests.p_equal:.2g})"
    elif inside:
        needed = "no number of" if tests.seeds_needed is None else str(tests.seeds_needed)
        verdict = "consistent"
        why = f"inside the {between}; {needed} seeds would show equality within {tests.margin:g}"
    elif p < LEVEL:
        verdict, why = "not reproduced", f"outside the {between}; gap {tests.gap:+.1f}, p = {p:.2g}"
    else:
        verdict, why = "inconclusive", f"outside the {between}, but p = {p:.2g}"
    return replace(judged, verdict=verdict, why=why)


def _margin(spec: TableSpec, metric: str, mean: float) -> float | None:
    """In the metric's unit."""
    said = spec.margins.get(metric)
    if isinstance(said, str):
        return abs(mean) * float(said.rstrip("%")) / 100
    return said


def established_best(
    spec: TableSpec, selection: Selection, values: SeedValues, trainings: Trainings
) -> frozenset[Place]:
    """The cells that are better than every other row of their column, whatever row that may be.

    Welch's test against each other row (paired where both are evaluations of the same trainings); the largest
    p counts, so that choosing the best by its mean is no
    free look. Holm's correction is over the columns and metrics of the table. A row without numbers leaves
    its column open.
    """
    leaders: list[tuple[Place, float]] = []
    for metric in spec.cells:
        if incomparable(selection, metric):
            continue
        for column in spec.columns.places:
            places = [(row, column, metric) for row in spec.rows.places]
            leader = _leader(places, values, trainings, metric)
            if leader is not None:
                leaders.append(leader)
    corrected = holm([p for _, p in leaders])
    return frozenset(
        where for (where, _), p in zip(leaders, corrected, strict=True) if p is not None and p < LEVEL
    )


def _leader(
    places: list[Place], values: SeedValues, trainings: Trainings, metric: str
) -> tuple[Place, float] | None:
    """The best of a column and the p that it is no better than some other; None where runs lack."""
    least = 1 if is_counted((metric,)) else 2
    if len(places) < 2 or any(len(values.get(where, {})) < least for where in places):
        return None
    sign = -1.0 if metric in LESS_IS_BETTER else 1.0
    means = {where: sign * sum(values[where].values()) / len(values[where]) for where in places}
    best, *others = sorted(places, key=lambda where: -means[where])
    if least == 1:
        return best, float(means[others[0]] == means[best])
    return best, max(_p(best, other, values, trainings) for other in others)


def _p(one: Place, other: Place, values: SeedValues, trainings: Trainings) -> float:
    paired = share_trainings(trainings, one, other)
    if paired and len(values[one].keys() & values[other].keys()) < 2:
        return 1.0
    return compare(values[one], values[other], paired=paired).p
