"""Two variants over their seeds: how far apart, how sure, and what it would take to be surer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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

MOST_SPLITS = 200_000
"""An exact test that would have to look at more rearrangements is left out: ten seeds against ten are
184,756, eighteen pairs 262,144 of which half are mirror images."""
FEWEST_PAIRS = 6
"""Five pairs have 32 sign patterns: their smallest two-sided p is 0.0625, which decides nothing at 0.05."""


@dataclass(frozen=True)
class Comparison:
    """``a - factor * b + offset`` over seeds, in the metric's own unit."""

    gap: float
    low: float
    high: float
    """Welch t interval of the gap"""
    p: float
    """Two-sided Welch test that the gap is 0"""
    p_permutation: float | None
    """Exact two-sided permutation of the seeds over the variants (unpaired)"""
    p_sign_flip: float | None
    """Exact two-sided sign flips of the differences of paired seeds; None below six pairs"""
    probability: float
    """P(a run of a beats a run of b); a tie counts half"""
    minimal_effect: float | None
    """Gap that this many seeds find in 80 % of the cases, at this spread; None without a spread"""
    seeds_needed: int | None
    """Seeds a variant that find a gap as large as this one in 80 % of the cases; None where none would"""
    n: tuple[int, int]
    pairs: int
    """Seeds that both have"""
    paired: bool = False
    """Whether the t test is of the differences (or slopes) of each seed, instead of Welch's"""

    @property
    def counted(self) -> bool:
        """Whether two counts were compared: nothing was sampled, so only the gap says anything."""
        return self.n == (1, 1)


def compare(
    a: Mapping[int, float],
    b: Mapping[int, float],
    factor: float = 1.0,
    offset: float = 0.0,
    confidence: float = 0.95,
    paired: bool = False,
) -> Comparison:
    """Test ``mean(a) - factor * mean(b) + offset`` against 0.

    Everything compares the values of ``a`` with ``factor * value - offset`` for the values of ``b``, so a
    claim such as "at most 10 % slower" is a gap that should be positive.

    ``minimal_effect`` and ``seeds_needed`` take the power from the noncentral t distribution at Welch's own
    degrees of freedom, with the spread as observed: for equal spreads that is the usual power calculation
    (2.02 sigma for five seeds a side), for unequal ones the test in use is the one planned for. It takes the
    degrees of freedom for known, which Welch's test estimates: for five seeds a side of equal spread the 80 %
    are 78 % in truth. ``seeds_needed`` takes the observed gap and spreads for the true ones, which is
    optimistic for a gap that was picked for being large.

    Where neither side varies, no t exists. The interval is then the gap alone and p is 0, or 1 if there is no
    gap either; two seeds would find that gap. Right for a count, such as multiply-adds. A measured number
    that is exactly the same for all seeds is itself suspicious: look whether the seed reached the run.

    Args:
        a, b: seed -> value.
        paired: both sides are evaluations of the same trainings, such as one model at two window lengths.
            Their runs are then no independent samples: the t test is of the differences of each seed that
            both have, and there is no permutation over the sides.

    Raises:
        ValueError: fewer than two values on a side (two common seeds where ``paired``), a number that is not
            finite, ``factor`` not above 0 or ``confidence`` not between 0 and 1.
    """
    _check(a, b, factor, offset, confidence)
    common = sorted(a.keys() & b.keys())
    ours = np.array([a[seed] for seed in sorted(a)], dtype=np.float64)
    others = {seed: factor * value - offset for seed, value in b.items()}
    theirs = np.array([others[seed] for seed in sorted(b)], dtype=np.float64)
    rounding = ROUNDING * float(max(np.abs(ours).max(), np.abs(theirs).max()))
    differences = np.array([a[seed] - others[seed] for seed in common], dtype=np.float64)
    if paired:
        return _of_each_seed(differences, rounding, confidence)
    tests = _two_samples(ours, theirs, rounding, confidence)
    against = ours[:, None] - theirs
    return Comparison(
        gap=tests.gap,
        low=tests.gap - tests.reach,
        high=tests.gap + tests.reach,
        p=tests.p,
        p_permutation=_permutation_p(ours, theirs, rounding),
        p_sign_flip=_sign_flip_p(differences, rounding),
        probability=_share_above(against, rounding),
        minimal_effect=tests.minimal_effect,
        seeds_needed=tests.seeds_needed,
        n=(len(a), len(b)),
        pairs=len(common),
    )


def trend(values: Mapping[int, Mapping[float, float]], confidence: float = 0.95) -> Comparison:
    """Does a value rise along x? One least-squares slope a seed, and a one-sample t test of their mean.

    The columns of one seed often share a training; the seeds do not, so they are what is counted. Of the
    answer, ``gap`` is the mean slope (a unit of x), ``p`` and the interval are those of the t test with
    n - 1 degrees of freedom, ``probability`` is the share of the seeds with a rising slope (a level one
    counts half), ``p_permutation`` is None, ``n`` is the number of seeds twice and ``pairs`` that number.
    Power and a spread of zero as for :func:`compare`.

    Args:
        values: seed -> x -> value.

    Raises:
        ValueError: fewer than two seeds or two x, seeds that do not all have the same x (slopes over
            different x are not one quantity where the curve bends), a number that is not finite,
            ``confidence`` not between 0 and 1.
    """
    check_confidence(confidence)
    x, table = _by_seed(values)
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    slopes = (table * weights).sum(axis=1)
    rounding = ROUNDING * float(np.abs(table).max() * np.abs(weights).sum())
    return _of_each_seed(slopes, rounding, confidence)


def _of_each_seed(values: Floats, rounding: float, confidence: float) -> Comparison:
    """One number a seed, a difference or a slope, tested against 0."""
    if len(values) < 2:
        raise ValueError(f"{len(values)} seeds on both sides: a paired comparison needs two")
    tests = _one_sample(values, rounding, confidence)
    return Comparison(
        gap=tests.gap,
        low=tests.gap - tests.reach,
        high=tests.gap + tests.reach,
        p=tests.p,
        p_permutation=None,
        p_sign_flip=_sign_flip_p(values, rounding),
        probability=_share_above(values, rounding),
        minimal_effect=tests.minimal_effect,
        seeds_needed=tests.seeds_needed,
        n=(len(values), len(values)),
        pairs=len(values),
        paired=True,
    )


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p values after Holm's step-down correction, in the order given.

    None stands for a test that was not made: it stays None and does not count.

    Raises:
        ValueError: a p that is not between 0 and 1.
    """
    tested = [p for p in p_values if p is not None]
    for p in tested:
        if not 0 <= p <= 1:
            raise ValueError(f"p = {p!r}: allowed: 0 to 1")
    corrected: dict[int, float] = {}
    largest = 0.0
    places = [place for place, p in enumerate(p_values) if p is not None]
    for smaller, (p, place) in enumerate(sorted(zip(tested, places, strict=True))):
        largest = max(largest, min(1.0, (len(tested) - smaller) * p))
        corrected[place] = largest
    return [corrected.get(place) for place in range(len(p_values))]


@dataclass(frozen=True)
class _Tests:
    """What a t test says of a gap."""

    gap: float
    reach: float
    """Half the width of the interval"""
    p: float
    minimal_effect: float | None
    seeds_needed: int | None


def _two_samples(ours: Floats, theirs: Floats, rounding: float, confidence: float) -> _Tests:
    """Welch's test of the difference of two means."""
    gap = float(ours.mean() - theirs.mean())
    sd_ours, sd_theirs = _sd(ours, rounding), _sd(theirs, rounding)
    if sd_ours == sd_theirs == 0:
        return _without_spread(gap, rounding)
    tail = (1 - confidence) / 2

    def found(n: Floats) -> NDArray[np.bool_]:
        error, df = welch(sd_ours, n, sd_theirs, n)
        return abs(gap) >= detectable(df, tail, POWER) * error

    error, df = map(float, welch(sd_ours, len(ours), sd_theirs, len(theirs)))
    return _Tests(
        gap,
        t_quantile(df, confidence) * error,
        two_sided_p(gap, error, df),
        float(detectable(df, tail, POWER)) * error,
        fewest(found),
    )


def _one_sample(values: Floats, rounding: float, confidence: float) -> _Tests:
    """Student's test that a mean is 0."""
    gap, sd, n = float(values.mean()), _sd(values, rounding), len(values)
    if sd == 0:
        return _without_spread(gap, rounding)
    tail = (1 - confidence) / 2
    error = sd / math.sqrt(n)
    return _Tests(
        gap,
        t_quantile(n - 1, confidence) * error,
        two_sided_p(gap, error, n - 1),
        float(detectable(n - 1, tail, POWER)) * error,
        fewest(lambda n: abs(gap) >= detectable(n - 1, tail, POWER) * sd / np.sqrt(n)),
    )


def _without_spread(gap: float, rounding: float) -> _Tests:
    if abs(gap) <= rounding:
        return _Tests(0.0, 0.0, 1.0, None, None)
    return _Tests(gap, 0.0, 0.0, None, 2)


def _sd(values: Floats, rounding: float) -> float:
    """Sample standard deviation; exactly 0 where the values differ by rounding only."""
    return 0.0 if float(np.ptp(values)) <= rounding else float(values.std(ddof=1))


def _share_above(differences: Floats, rounding: float) -> float:
    """Share of the differences above 0; a tie counts half."""
    above, below = np.count_nonzero(differences > rounding), np.count_nonzero(differences < -rounding)
    return float((differences.size + above - below) / (2 * differences.size))


def _permutation_p(ours: Floats, theirs: Floats, rounding: float) -> float | None:
    """Share of all splits of the pooled values with a difference of means as large as the one seen.

    None where there are more than :data:`MOST_SPLITS`.
    """
    n, total = len(ours), len(ours) + len(theirs)
    if math.comb(total, n) > MOST_SPLITS:
        return None
    middle = np.concatenate((ours, theirs)).mean()
    # Around the middle of all, the sum of one side tells the difference of the means, up to a factor.
    seen = float((ours - middle).sum())
    sums = _sums(np.concatenate((ours, theirs)) - middle, n)
    return float(np.mean(np.abs(sums) >= abs(seen) - n * rounding))


def _sums(values: Floats, n: int) -> Floats:
    """The sum of every choice of n of the values."""
    of_count = [np.zeros(1), *[np.empty(0)] * n]
    for value in values:
        for k in range(n, 0, -1):  # downwards: a value is chosen once
            of_count[k] = np.concatenate((of_count[k], of_count[k - 1] + value))
    return of_count[n]


def _sign_flip_p(differences: Floats, rounding: float) -> float | None:
    """Share of all sign patterns with a sum as large as the one seen.

    None below :data:`FEWEST_PAIRS` and where there are more than :data:`MOST_SPLITS`.
    """
    n = len(differences)
    if n < FEWEST_PAIRS or 2 ** (n - 1) > MOST_SPLITS:
        return None
    sums = differences[:1]  # a pattern and its mirror image have the same size: the first sign stays
    for difference in differences[1:]:
        sums = np.concatenate((sums + difference, sums - difference))
    return float(np.mean(np.abs(sums) >= abs(sums[0]) - n * rounding))


def _check(
    a: Mapping[int, float], b: Mapping[int, float], factor: float, offset: float, confidence: float
) -> None:
    check_confidence(confidence)
    check_finite(factor=factor, offset=offset)
    if factor <= 0:
        raise ValueError(f"factor = {factor!r}: allowed: above 0")
    for name, side in (("a", a), ("b", b)):
        if len(side) < 2:
            raise ValueError(f"{name}: {len(side)} values: a comparison needs two on each side")
        check_finite(**{f"{name}[{seed}]": value for seed, value in side.items()})


def _by_seed(values: Mapping[int, Mapping[float, float]]) -> tuple[Floats, Floats]:
    """x, ascending, and the values (seeds, x)."""
    if len(values) < 2:
        raise ValueError(f"{len(values)} seeds: a trend needs two")
    seeds = sorted(values)
    x = sorted(values[seeds[0]])
    if len(x) < 2:
        raise ValueError(f"{len(x)} x: a trend needs two")
    for seed in seeds:
        if sorted(values[seed]) != x:
            raise ValueError(f"seed {seed}: x = {sorted(values[seed])}: those of seed {seeds[0]} are {x}")
        check_finite(**{f"x[{number}]": number for number in x})
        check_finite(**{f"seed {seed} at {number}": values[seed][number] for number in x})
    return np.array(x, dtype=np.float64), np.array(
        [[values[seed][number] for number in x] for seed in seeds], dtype=np.float64
    )
