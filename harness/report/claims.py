"""The paper's claims, as the sweep file has them, judged on our runs.

A claim makes one comparison or several (one at each column, one with each rival). It holds if all of them do,
so none needs a correction for the others: its p is the largest. That some comparison contradicts it is tested
with Bonferroni's correction over them. Holm's correction over the claims of the table comes on top of either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from harness.report.claimed import Pair, Trend, asked_of
from harness.report.comparison import Comparison, compare, holm, trend
from harness.report.seed_values import SeedValues
from harness.report.selection import Selection
from harness.report.table_spec import HARDWARE_METRICS, Place, TableSpec, is_counted
from harness.report.verdicts import LEVEL, ClaimedGap, ClaimVerdict, Verdict
from harness.sweep_file import Claim


def judge_claims(spec: TableSpec, selection: Selection, values: SeedValues) -> tuple[ClaimVerdict, ...]:
    """A verdict on every claim, in the order of the sweep file."""
    tested = [_tested(spec, selection, values, claim) for claim in spec.claims]
    corrected = holm([each.p for each in tested])
    return tuple(_decided(each, p) for each, p in zip(tested, corrected, strict=True))


def _tested(spec: TableSpec, selection: Selection, values: SeedValues, claim: Claim) -> ClaimVerdict:
    """The claim's comparisons; ``verdict`` is that of a decisive p, or final where ``p`` is None."""
    reason = _incomparable(selection, claim.metric)
    if reason:
        return ClaimVerdict(claim, "not comparable", reason, None, ())
    asked, counted = asked_of(spec, claim), is_counted((claim.metric,))
    gaps = tuple(ClaimedGap(each.where, _compared(each, values, counted)) for each in asked)
    lacking = [gap.where for gap in gaps if gap.tests is None]
    if lacking:
        some = f"{lacking[0]}{f' and {len(lacking) - 1} more' if len(lacking) > 1 else ''}"
        least = "a number" if counted else "two runs of each"
        return ClaimVerdict(claim, "inconclusive", f"no {least} for {some}", None, gaps)
    tests = [gap.tests for gap in gaps if gap.tests is not None]
    against = [test for test in tests if test.gap <= 0]
    short = _short(spec, asked, values)
    if not against:
        p = max(test.p for test in tests)
        return ClaimVerdict(claim, "reproduced", _short_word(short), p, gaps)
    p = min(1.0, len(tests) * min(test.p for test in against))
    said = f"{len(against)} of {len(tests)} comparisons point the other way"
    return ClaimVerdict(claim, "not reproduced", "; ".join(filter(None, [said, _short_word(short)])), p, gaps)


def _decided(tested: ClaimVerdict, p: float | None) -> ClaimVerdict:
    """The verdict after Holm's correction."""
    if p is None:
        return tested
    verdict: Verdict = tested.verdict
    missing = "planned runs are missing" in tested.why
    if p >= LEVEL or missing:
        verdict = "consistent" if tested.verdict == "reproduced" and not missing else "inconclusive"
    if tested.verdict == "reproduced":
        all_of = (
            "the comparison points" if len(tested.gaps) == 1 else f"all {len(tested.gaps)} comparisons point"
        )
        said = f"{all_of} its way"
        why = "; ".join(filter(None, [said, tested.why]))
    else:
        why = tested.why
    return replace(tested, verdict=verdict, p=p, why=why)


def _incomparable(selection: Selection, metric: str) -> str:
    if metric in HARDWARE_METRICS and len(selection.used) and selection.mixed_hardware():
        return "measured on different machines"
    if len(selection.distinct("data_checksum")) > 1 and not is_counted((metric,)):
        return "the rows come from different data"
    return ""


def _compared(asked: Pair | Trend, values: SeedValues, counted: bool) -> Comparison | None:
    """None where a side has too few numbers."""
    if isinstance(asked, Trend):
        return _sloped(asked, values, counted)
    a, b = (_signed(values.get(place, {}), asked.sign) for place in (asked.a, asked.b))
    if counted:
        both = [next(iter(side.values()), None) for side in (a, b)]
        if both[0] is None or both[1] is None:
            return None
        return _exact(both[0] - asked.factor * both[1] + asked.offset)
    if min(len(a), len(b)) < 2:
        return None
    return compare(a, b, asked.factor, asked.offset)


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


def _short(spec: TableSpec, asked: Iterable[Pair | Trend], values: SeedValues) -> bool:
    """Whether a cell that the claim speaks of lacks some of its planned seeds."""
    places: list[Place] = []
    for each in asked:
        places += [where for _, where in each.points] if isinstance(each, Trend) else [each.a, each.b]
    return any(len(values.get(where, {})) < len(spec.seeds) for where in places)


def _short_word(short: bool) -> str:
    return "planned runs are missing" if short else ""
