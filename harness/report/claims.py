"""The paper's claims, as the sweep file has them, judged on our runs.

A claim makes one comparison or several (one at each column, one with each rival). It holds if all of them do,
so none needs a correction for the others: its p is the largest. That some comparison contradicts it is tested
with Bonferroni's correction over them. Holm's correction over the claims of the table comes on top of either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from harness.report.claimed import Pair, Trend, asked_of, rows_named
from harness.report.comparability import incomparable
from harness.report.comparison import Comparison, compare, holm, trend
from harness.report.seed_values import SeedValues, Trainings, share_trainings
from harness.report.selection import Selection
from harness.report.sentence import count, listed
from harness.report.table_spec import Place, TableSpec, canonical, is_counted, metric_name
from harness.report.verdicts import LEVEL, ClaimedGap, ClaimVerdict, Verdict
from harness.sweep_file import Claim


@dataclass(frozen=True)
class _Tested:
    """A claim whose comparisons all have their numbers, before Holm's correction."""

    claim: Claim
    gaps: tuple[ClaimedGap, ...]
    against: int
    """Comparisons that do not point its way"""
    short: bool
    """Whether planned runs are missing"""
    p: float
    """That it holds if nothing is against it, else that it does not"""

    @property
    def why(self) -> str:
        """How the comparisons point, and what is missing."""
        total = len(self.gaps)
        if self.against:
            said = f"{self.against} of {count(total, 'difference')} against it"
        else:
            said = f"all {total} differences have its sign" if total > 1 else "the difference has its sign"
        return f"{said}; planned runs are missing" if self.short else said


def judge_claims(
    spec: TableSpec, selection: Selection, values: SeedValues, trainings: Trainings
) -> tuple[ClaimVerdict, ...]:
    """A verdict on every claim, in the order of the sweep file."""
    tested = [_tested(spec, selection, values, trainings, claim) for claim in spec.claims]
    corrected = holm([each.p for each in tested])
    judged = [
        each if isinstance(each, ClaimVerdict) else _decided(each, p or 0.0)
        for each, p in zip(tested, corrected, strict=True)
    ]
    return tuple(replace(each, why=f"{each.why}{_instead(spec, each.claim)}") for each in judged)


def _instead(spec: TableSpec, claim: Claim) -> str:
    """What the scale put in the place of the rows that the claim names."""
    named = {
        canonical(part) for row in rows_named(claim) for part in (row if isinstance(row, tuple) else (row,))
    }
    instead = [f"{there} for {name}" for name, there in spec.stand_ins.items() if name in named]
    return f"; here {listed(instead)}" if instead else ""


def _tested(
    spec: TableSpec, selection: Selection, values: SeedValues, trainings: Trainings, claim: Claim
) -> _Tested | ClaimVerdict:
    """The claim's comparisons, or at once its verdict where there is nothing to test."""
    metrics = [metric for metric in (claim.metric, claim.against) if metric is not None]
    reasons = [reason for metric in metrics if (reason := incomparable(selection, metric))]
    if reasons:
        return ClaimVerdict(claim, "not comparable", reasons[0], None, ())
    asked, counted = asked_of(spec, claim), is_counted((claim.metric,))
    gaps = tuple(ClaimedGap(each.where, _compared(each, values, trainings, counted)) for each in asked)
    lacking = [gap.where for gap in gaps if gap.tests is None]
    if lacking:
        some = f"{lacking[0]}{f' and {len(lacking) - 1} more' if len(lacking) > 1 else ''}"
        measured = {metric for _, _, metric in values}
        absent = [metric for metric in metrics if metric not in measured]
        if absent:
            few = selection.too_few_tracks(absent[0])
            why = f"{metric_name(absent[0])} {'has too few tracks' if few else 'was not measured'}"
        else:
            why = f"no {'number' if counted else 'two runs of each'} for {some}"
        return ClaimVerdict(claim, "inconclusive", why, None, gaps)
    tests = [gap.tests for gap in gaps if gap.tests is not None]
    against = [test.p for test in tests if test.gap <= 0]
    p = min(1.0, len(tests) * min(against)) if against else max(test.p for test in tests)
    found = _Tested(claim, gaps, len(against), _short(spec, asked, values), p)
    if not counted:
        return found
    verdict: Verdict = "not reproduced" if any(test.gap < 0 for test in tests) else "inconclusive"
    return ClaimVerdict(claim, verdict if against else "reproduced", found.why, None, gaps)


def _decided(tested: _Tested, p: float) -> ClaimVerdict:
    """The verdict after Holm's correction; runs that are missing leave a claim open."""
    verdict: Verdict
    if tested.short or (tested.against and p >= LEVEL):
        verdict = "inconclusive"
    elif tested.against:
        verdict = "not reproduced"
    else:
        verdict = "reproduced" if p < LEVEL else "consistent"
    sure = {"reproduced": ", significant", "consistent": ", not all significant"}.get(verdict, "")
    if verdict == "consistent" and len(tested.gaps) == 1:
        sure = ", not significant"
    return ClaimVerdict(tested.claim, verdict, f"{tested.why}{sure}", p, tested.gaps)


def _compared(
    asked: Pair | Trend, values: SeedValues, trainings: Trainings, counted: bool
) -> Comparison | None:
    """None where a side has too few numbers."""
    if isinstance(asked, Trend):
        return _sloped(asked, values, counted)
    a, b = (_signed(values.get(place, {}), asked.sign) for place in (asked.a, asked.b))
    if asked.less is not None:
        a, b = (
            _less(side, _signed(values.get(place, {}), asked.sign))
            for side, place in zip((a, b), asked.less, strict=True)
        )
    if counted:
        both = [next(iter(side.values()), None) for side in (a, b)]
        if both[0] is None or both[1] is None:
            return None
        return _exact(both[0] - asked.factor * both[1] + asked.offset)
    if min(len(a), len(b)) < 2:
        return None
    paired = share_trainings(trainings, asked.a, asked.b)
    if asked.less is not None:
        paired = paired and share_trainings(trainings, *asked.less)
    if paired and len(a.keys() & b.keys()) < 2:
        return None
    return compare(a, b, asked.factor, asked.offset, paired=paired)


def _sloped(asked: Trend, values: SeedValues, counted: bool) -> Comparison | None:
    seeds: dict[int, dict[float, float]] = {}
    for x, where in asked.points:
        for seed, value in values.get(where, {}).items():
            seeds.setdefault(seed, {})[x] = asked.sign * value
    whole = {seed: line for seed, line in seeds.items() if len(line) == len(asked.points)}
    if len(whole) < (1 if counted else 2):
        return None
    if counted:
        line = next(iter(whole.values()))
        steps = [
            line[later] - line[earlier]
            for earlier, later in zip(sorted(line), sorted(line)[1:], strict=False)
        ]
        return _exact(min(steps))
    return trend(whole)


def _exact(gap: float) -> Comparison:
    """A count has no noise: what it says is so."""
    sure = float(gap > 0)
    return Comparison(gap, gap, gap, float(gap == 0), None, None, sure, None, None, (1, 1), 1)


def _signed(values: Mapping[int, float], sign: float) -> dict[int, float]:
    return {seed: sign * value for seed, value in values.items()}


def _less(side: Mapping[int, float], taken: Mapping[int, float]) -> dict[int, float]:
    """What each seed that has both gives: one run in two metrics, one training at two columns, or two runs.

    Where they are of one training the noise that both have cancels. Where they are two trainings (of two
    data sets, say), which runs share a seed is arbitrary: the differences are still independent of each
    other, with both variances, so the test that follows is right, at a few degrees of freedom less than a
    contrast of four means would have.
    """
    return {seed: side[seed] - taken[seed] for seed in sorted(side.keys() & taken.keys())}


def _short(spec: TableSpec, asked: Iterable[Pair | Trend], values: SeedValues) -> bool:
    """Whether a cell that the claim speaks of lacks some of its planned seeds."""
    places: list[Place] = []
    for each in asked:
        places += [where for _, where in each.points] if isinstance(each, Trend) else each.places
    return any(len(values.get(where, {})) < len(spec.seeds) for where in places)
