"""Claims with their verdicts and the comparisons behind them, ready to be printed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from harness.report.comparison import Comparison
from harness.report.html.links import section_anchor
from harness.report.html.wording import MISSING, interval, p_value, signed
from harness.report.table_spec import decimals, is_counted, metric_name
from harness.report.verdicts import OF_A_CELL, OF_A_CLAIM, ClaimedGap, ClaimVerdict, Verdict
from harness.sweep_file import Claim

SIGNS: dict[Verdict, str] = {
    "reproduced": "✓",
    "consistent": "≈",
    "inconclusive": "?",
    "not reproduced": "✕",
    "not comparable": "∅",
}
UNITS = {
    "fps": "frames/s",
    "peak_memory_gb": "",
    "flops_g": "",
    "model_fps": "frames/s",
    "encoder_ms": "",
    "model_memory_gb": "",
}
"""Beside a metric's name, which may hold it; of all other metrics: percentage points"""
STEPS = {"inference.window": "frame", "inference.stride": "frame", "model.memory_tokens": "token"}
"""What a slope is counted by"""
MOST_DIGITS = 4
PLOT_WIDTH, PLOT_EDGE = 120.0, 6.0


@dataclass(frozen=True)
class Badge:
    """A verdict as sign, word and class: never colour alone."""

    verdict: Verdict

    @property
    def sign(self) -> str:
        """One character."""
        return SIGNS[self.verdict]

    @property
    def css(self) -> str:
        """Name of its class."""
        return self.verdict.replace(" ", "-")


@dataclass(frozen=True)
class Plot:
    """An interval as places along a line of :data:`PLOT_WIDTH`."""

    zero: str
    low: str
    high: str
    gap: str


@dataclass(frozen=True)
class GapView:
    """One comparison; ``numbers`` stand below the claim's heads, none where numbers are missing."""

    where: str
    plot: Plot | None
    numbers: tuple[str, ...]


P = "p"
MEANINGS: tuple[tuple[str, str], ...] = (
    (
        "Gap",
        "Difference of the means; positive points the claim's way. Of a claim with a margin (“room within"
        " 10%”) it is the room left to the margin; of a trend the mean slope, a unit of what varies"
        " (“linear, per frame”); of a counted trend its smallest step",
    ),
    ("95 % interval", "t interval of the gap, by the test that p names"),
    ("n", "Seeds of each side"),
    (
        P,
        "Two-sided t test that the gap is 0, before corrections. Welch: two separate sets of trainings,"
        " whose spreads may differ. Paired t: the differences within each seed, because both sides are"
        " evaluations of the same trainings; of a trend, one slope a seed",
    ),
    ("Permutation p", "Exact two-sided permutation of the seeds over the two sides; none for trends"),
    ("Sign-flip p", "Exact sign flips of the differences of paired seeds; needs six pairs"),
    (
        "P(A>B)",
        "Probability that a run of the better side beats one of the other; a tie counts half. Of a trend:"
        " share of the seeds with a slope the claim's way",
    ),
    ("Detectable", "Gap that this many seeds find in 80 % of the cases, at this spread"),
    ("Seeds needed", "Seeds a side that find a gap as large as this one in 80 % of the cases"),
)
"""(head, what it means)"""


@dataclass(frozen=True)
class ClaimView:
    """One claim."""

    anchor: str
    badge: Badge
    says: str
    id: str
    measure: str
    """Metric with its unit"""
    why: str
    p: str
    heads: tuple[tuple[str, str], ...]
    """(head, what it means) of the numbers that any of its comparisons has"""
    has_plots: bool
    gaps: tuple[GapView, ...]
    """None where no comparison has its numbers ..."""
    without_numbers: int
    """... and how many those are"""


def claim_views(claims: Sequence[ClaimVerdict], anchor: str, taken: set[str]) -> list[ClaimView]:
    """The claims of one sweep, in its order; their links are added to ``taken``."""
    return [_claim_view(each, section_anchor(f"claim-{anchor}-{each.claim.id}", taken)) for each in claims]


def _claim_view(judged: ClaimVerdict, anchor: str) -> ClaimView:
    claim = judged.claim
    tested = [gap.tests for gap in judged.gaps if gap.tests is not None]
    test = _test_of(tested)
    gaps = _gap_views(judged.gaps, _digits(judged), names_test=not test) if tested else ()
    full = [gap.numbers for gap in gaps if gap.numbers]
    shown = [index for index in range(len(MEANINGS)) if any(each[index] != MISSING for each in full)]
    heads = [(f"{head}, {test}" if head == P and test else head, meaning) for head, meaning in MEANINGS]
    return ClaimView(
        anchor=anchor,
        badge=Badge(judged.verdict),
        says=claim.says,
        id=claim.id,
        measure=_measure(claim),
        why=judged.why,
        p="counted" if is_counted((claim.metric,)) else p_value(judged.p),
        heads=tuple(heads[index] for index in shown),
        has_plots=any(gap.plot for gap in gaps),
        gaps=tuple(
            replace(gap, numbers=tuple(gap.numbers[index] for index in shown if gap.numbers)) for gap in gaps
        ),
        without_numbers=0 if tested else len(judged.gaps),
    )


def _measure(claim: Claim) -> str:
    """Metric with its unit, which some names hold already; of a trend the unit is that of its slope."""
    unit = UNITS.get(claim.metric, "points")
    if claim.along is not None and not is_counted((claim.metric,)):
        unit += f" per {STEPS.get(claim.along, 'unit')}"
    return metric_name(claim.metric) + (f", {unit}" if unit else "")


def _word(tests: Comparison) -> str:
    """Which t test was made."""
    return "paired t" if tests.paired else "Welch"


def _test_of(tested: Sequence[Comparison]) -> str:
    """The one t test that all comparisons share; nothing where they differ or nothing was sampled."""
    words = {_word(tests) for tests in tested if not tests.counted}
    return words.pop() if len(words) == 1 else ""


def _digits(claim: ClaimVerdict) -> int:
    """Digits behind the point that show two digits of the narrowest interval, but no fewer than the table."""
    widths = [gap.tests.high - gap.tests.low for gap in claim.gaps if gap.tests]
    narrowest = min((width for width in widths if width > 0), default=1.0)
    return min(MOST_DIGITS, max(decimals(claim.claim.metric), 1 - math.floor(math.log10(narrowest))))


def tally(verdicts: Iterable[Verdict]) -> list[tuple[Badge, int]]:
    """How often each verdict was given, in the order of their definitions."""
    counts = Counter(verdicts)
    return [(Badge(verdict), counts[verdict]) for verdict in OF_A_CLAIM if counts[verdict]]


def definitions() -> list[tuple[Badge, str, str]]:
    """(verdict, what it says of a cell, what it says of a claim)."""
    return [(Badge(verdict), said, OF_A_CLAIM[verdict]) for verdict, said in OF_A_CELL.items()]


def _gap_views(gaps: tuple[ClaimedGap, ...], digits: int, names_test: bool) -> tuple[GapView, ...]:
    ends = [end for gap in gaps if gap.tests for end in (gap.tests.low, gap.tests.high, 0.0)]
    least, most = min(ends, default=0.0), max(ends, default=0.0)
    return tuple(
        GapView(gap.where, None, ())
        if gap.tests is None
        else GapView(gap.where, _plot(gap.tests, least, most), _numbers(gap.tests, digits, names_test))
        for gap in gaps
    )


def _numbers(tests: Comparison, digits: int, names_test: bool) -> tuple[str, ...]:
    """In the order of :data:`MEANINGS`; ``names_test``: each p says by which test."""
    if tests.counted:
        return (signed(tests.gap, digits), *[MISSING] * (len(MEANINGS) - 1))
    equal_n = tests.n[0] == tests.n[1]
    return (
        signed(tests.gap, digits),
        interval(tests.low, tests.high, digits),
        str(tests.n[0]) if equal_n else f"{tests.n[0]} and {tests.n[1]}",
        p_value(tests.p) + (f" {_word(tests)}" if names_test else ""),
        p_value(tests.p_permutation),
        p_value(tests.p_sign_flip),
        f"{tests.probability:.2f}",
        MISSING if tests.minimal_effect is None else f"{tests.minimal_effect:.{digits}f}",
        MISSING if tests.seeds_needed is None else str(tests.seeds_needed),
    )


def _plot(tests: Comparison, least: float, most: float) -> Plot | None:
    """Where an interval lies on the scale that all comparisons of a claim share."""
    if tests.counted or not most > least:
        return None
    step = (PLOT_WIDTH - 2 * PLOT_EDGE) / (most - least)
    zero, low, high, gap = (
        f"{PLOT_EDGE + (value - least) * step:.1f}" for value in (0.0, tests.low, tests.high, tests.gap)
    )
    return Plot(zero, low, high, gap)
