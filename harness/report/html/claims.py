"""Claims with their verdicts and the comparisons behind them, ready to be printed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.report.comparison import Comparison
from harness.report.html.wording import MISSING, interval, p_value, signed
from harness.report.table_spec import decimals, is_counted, metric_name
from harness.report.verdicts import OF_A_CELL, OF_A_CLAIM, ClaimedGap, ClaimVerdict, Verdict

SIGNS: dict[Verdict, str] = {
    "reproduced": "✓",
    "consistent": "≈",
    "inconclusive": "?",
    "not reproduced": "✕",
    "not comparable": "∅",
}
UNITS = {"fps": "frames/s", "peak_memory_gb": "GB", "flops_g": "GMACs"}
"""Of all other metrics: percentage points"""
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
    """One comparison; ``numbers`` stand below :data:`GAP_HEADS`."""

    where: str
    plot: Plot | None
    numbers: tuple[str, ...]


GAP_HEADS: tuple[tuple[str, str], ...] = (
    ("Gap", "Difference of the means; positive points the claim's way"),
    ("95 % interval", "Welch t interval of the gap"),
    ("n", "Seeds of each side"),
    ("Welch p", "Two-sided Welch test that the gap is 0, before corrections"),
    ("Permutation p", "Exact two-sided permutation of the seeds over the two sides"),
    ("Sign-flip p", "Exact sign flips of the differences of paired seeds; needs six pairs"),
    ("P(A>B)", "Probability that a run of the better side beats one of the other; a tie counts half"),
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
    metric: str
    unit: str
    why: str
    p: str
    gaps: tuple[GapView, ...]


def claim_views(claims: Sequence[ClaimVerdict], anchor: str) -> list[ClaimView]:
    """The claims of one sweep, in its order."""
    return [
        ClaimView(
            anchor=f"claim-{anchor}-{index}",
            badge=Badge(each.verdict),
            says=each.claim.says,
            id=each.claim.id,
            metric=metric_name(each.claim.metric),
            unit=UNITS.get(each.claim.metric, "points"),
            why=each.why,
            p="counted" if is_counted((each.claim.metric,)) else p_value(each.p),
            gaps=_gap_views(each.gaps, _digits(each)),
        )
        for index, each in enumerate(claims, start=1)
    ]


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


def _gap_views(gaps: tuple[ClaimedGap, ...], digits: int) -> tuple[GapView, ...]:
    ends = [end for gap in gaps if gap.tests for end in (gap.tests.low, gap.tests.high, 0.0)]
    least, most = min(ends, default=0.0), max(ends, default=0.0)
    return tuple(
        GapView(gap.where, None, (MISSING,) * len(GAP_HEADS))
        if gap.tests is None
        else GapView(gap.where, _plot(gap.tests, least, most), _gap_numbers(gap.tests, digits))
        for gap in gaps
    )


def _gap_numbers(tests: Comparison, digits: int) -> tuple[str, ...]:
    """In the order of :data:`GAP_HEADS`."""
    if tests.counted:
        return (signed(tests.gap, digits), *[MISSING] * (len(GAP_HEADS) - 1))
    equal_n = tests.n[0] == tests.n[1]
    return (
        signed(tests.gap, digits),
        interval(tests.low, tests.high, digits),
        str(tests.n[0]) if equal_n else f"{tests.n[0]} and {tests.n[1]}",
        p_value(tests.p),
        p_value(tests.p_permutation),
        p_value(tests.p_sign_flip),
        f"{tests.probability:.2f}",
        MISSING if tests.minimal_effect is None else f"{tests.minimal_effect:.{digits}f}",
        MISSING if tests.seeds_needed is None else str(tests.seeds_needed),
    )


def _plot(tests: Comparison, least: float, most: float) -> Plot | None:
    """Where an interval lies on the scale that all comparisons of a claim share."""
    if not most > least:
        return None
    step = (PLOT_WIDTH - 2 * PLOT_EDGE) / (most - least)
    zero, low, high, gap = (
        f"{PLOT_EDGE + (value - least) * step:.1f}" for value in (0.0, tests.low, tests.high, tests.gap)
    )
    return Plot(zero, low, high, gap)
