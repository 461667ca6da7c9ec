"""Our runs against a mean and a standard deviation that somebody else printed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from harness.report.statistics import Cell
from harness.report.welch import (
    POWER,
    ROUNDING,
    Floats,
    check_confidence,
    check_finite,
    detectable,
    fewest,
    t_quantile,
    two_sided_p,
    welch,
)


@dataclass(frozen=True)
class AgainstPaper:
    """Tests of one cell from summaries alone."""

    gap: float
    """Our mean minus theirs"""
    p: float
    """Welch, two-sided"""
    low: float
    high: float
    """Prediction interval: where a mean of our n runs would lie if ours were theirs"""
    margin: float
    p_equal: float
    """Two one-sided Welch tests at ``margin`` (TOST): the larger p"""
    seeds_needed: int | None
    """Of ours, to show equality within the margin in 80 % of the cases if the means were equal;
    None where no number would"""


def against_paper(
    ours: Cell, mean: float, sd: float, n: int = 5, *, margin: float, confidence: float = 0.95
) -> AgainstPaper:
    """Compare a cell with a printed mean and standard deviation of ``n`` runs.

    The paper does not say how its standard deviation divides; it is taken for the sample one (n - 1). Were it
    the population one (n), the sample one would be sqrt(n / (n - 1)) times as large, 12 % for n = 5: their
    part of every standard error and the whole prediction interval would grow by that much, so a difference
    would be found, and equality shown, less easily.

    The prediction interval knows theirs alone: mean ± t(n - 1) sd sqrt(1 / n + 1 / our n). The one-sided
    tests of the equivalence are made at 1 - ``confidence`` each, so equality is shown where the interval of
    the gap at 2 ``confidence`` - 1 (90 % for 0.95) lies inside the margin. ``seeds_needed`` keeps their n and
    both spreads as observed: their standard error alone may be too large for the margin, however many runs we
    add. For n = 5 the margin has to be above 1.61 times their standard deviation.

    Where neither side varies, no t exists: p is 1 without a gap and 0 with one, ``p_equal`` is 0 inside the
    margin and 1 on it or outside. Such a spread is itself suspicious, unless the numbers are counts.

    Args:
        ours: two finished runs or more.
        margin: how far apart two means may be and still count as equal, in the metric's own unit.

    Raises:
        ValueError: fewer than two runs on a side, a number that is not finite, ``sd`` below 0, ``margin`` not
            above 0 or ``confidence`` not between 0 and 1.
    """
    _check(mean, sd, n, margin, confidence)
    if ours.mean is None or ours.sd is None:
        raise ValueError(f"{ours.n} of our runs: a test needs two")
    gap = ours.mean - mean
    rounding = ROUNDING * max(abs(ours.mean), abs(mean))
    if abs(gap) <= rounding:
        gap = 0.0
    our_sd = 0.0 if ours.sd <= rounding else ours.sd
    reach = t_quantile(n - 1, confidence) * sd * math.sqrt(1 / n + 1 / ours.n)
    p, p_equal = _p_values(gap, margin, our_sd, ours.n, sd, n)
    return AgainstPaper(
        gap=gap,
        p=p,
        low=mean - reach,
        high=mean + reach,
        margin=margin,
        p_equal=p_equal,
        seeds_needed=_seeds_needed(margin, 1 - confidence, our_sd, sd, n),
    )


def _p_values(
    gap: float, margin: float, sd_ours: float, n_ours: int, sd: float, n: int
) -> tuple[float, float]:
    """Of the difference, and of the equality within the margin."""
    if sd_ours == sd == 0:
        return float(gap == 0), float(abs(gap) >= margin)
    error, df = map(float, welch(sd_ours, n_ours, sd, n))
    # The larger of the two one-sided p is that of the nearer end of the margin.
    return two_sided_p(gap, error, df), float(stdtr(df, (abs(gap) - margin) / error))


def _seeds_needed(margin: float, level: float, sd_ours: float, sd: float, n: int) -> int | None:
    """Fewest of our runs for which both one-sided tests reject in 80 % of the cases, the means being equal.

    Each of them may then fail in 10 %: at this power they practically never fail together.
    """
    if sd_ours == sd == 0:
        return 2

    def shown(n_ours: Floats) -> NDArray[np.bool_]:
        error, df = welch(sd_ours, n_ours, sd, n)
        return margin >= detectable(df, level, (1 + POWER) / 2) * error

    return fewest(shown)


def _check(mean: float, sd: float, n: int, margin: float, confidence: float) -> None:
    check_confidence(confidence)
    check_finite(mean=mean, sd=sd, margin=margin)
    if n < 2:
        raise ValueError(f"n = {n} runs of the paper: a test needs two")
    if sd < 0:
        raise ValueError(f"sd = {sd!r}: allowed: 0 and above")
    if margin <= 0:
        raise ValueError(f"margin = {margin!r}: allowed: above 0")
