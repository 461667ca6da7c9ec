"""Two variants over seeds: by hand, against scipy and statsmodels, and what must hold for any numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestIndPower, TTestPower

from harness.report.comparison import Comparison, compare, holm, trend

# AP of two variants, five seeds each, as a table prints them.
IFC = dict(enumerate((41.0, 40.2, 39.1, 41.7, 40.6)))
NO_COMM = dict(enumerate((38.5, 39.9, 38.8, 40.2, 37.6)))


def by_seed(values: Sequence[float]) -> dict[int, float]:
    return dict(enumerate(values))


def raw(values: Mapping[int, float]) -> list[float]:
    return list(values.values())


# By hand


def test_two_runs_each_by_hand() -> None:
    """Variances 2 and 2: standard error sqrt(2/2 + 2/2) = sqrt 2, df = 2^2 / (1 + 1) = 2, t = -4 / sqrt 2.

    Of t with two degrees of freedom p = 1 - |t| / sqrt(2 + t^2) = 1 - sqrt(8 / 10), t(0.975) = 4.302653.
    """
    found = compare({0: 0.0, 1: 2.0}, {0: 4.0, 1: 6.0})
    assert found.gap == -4
    assert found.p == pytest.approx(1 - math.sqrt(0.8))
    assert found.low == pytest.approx(-4 - 4.302653 * math.sqrt(2), abs=1e-5)
    assert found.high == pytest.approx(-4 + 4.302653 * math.sqrt(2), abs=1e-5)
    assert found.p_permutation == pytest.approx(2 / 6)  # {0, 2} and {4, 6} of the six choices of two
    assert found.p_sign_flip is None
    assert found.probability == 0
    assert (found.n, found.pairs) == ((2, 2), 2)


def test_unequal_spreads_and_ties_by_hand() -> None:
    """(1, 2, 3) and (2, 4, 6): variances 1 and 4, error sqrt(5/3), df = (5/3)^2 / (1/18 + 16/18) = 50/17."""
    found = compare(by_seed((1, 2, 3)), by_seed((2, 4, 6)))
    t = 2 / math.sqrt(5 / 3)
    assert found.gap == -2
    assert found.p == pytest.approx(2 * scipy.stats.t.sf(t, 50 / 17))
    # Sums of three of {1, 2, 2, 3, 4, 6} as far from 9 as 6 is: 5, 6, 6 and the three opposite; of 20.
    assert found.p_permutation == pytest.approx(6 / 20)
    # Of nine pairs 3 > 2 wins and 2 = 2 is a tie.
    assert found.probability == pytest.approx(1.5 / 9)


def test_factor_and_offset_move_b() -> None:
    """At most 10 % slower: 28 - 0.9 * 30 = 1, and one unit of allowance more makes 2."""
    a, b = by_seed((27.5, 28.0, 28.5)), by_seed((29.0, 30.0, 31.0))
    found = compare(a, b, factor=0.9, offset=1.0)
    moved = compare(a, by_seed((25.1, 26.0, 26.9)))
    assert found.gap == pytest.approx(2)
    same(found, moved)
    assert found.seeds_needed == moved.seeds_needed


def test_sign_flips_by_hand() -> None:
    """Six differences 1, 1, 1, 1, 1, -1 with sum 4: sums of 4 and 6 either way are 2 (6 + 1) of 64."""
    a, b = by_seed((11, 12, 13, 14, 15, 16)), by_seed((10, 11, 12, 13, 14, 17))
    assert compare(a, b).p_sign_flip == pytest.approx(14 / 64)


def test_only_common_seeds_are_pairs() -> None:
    a = {seed: 10.0 + seed % 3 for seed in range(8)}
    b = {seed: 9.0 + seed % 2 for seed in range(2, 9)}
    found = compare(a, b)
    assert (found.n, found.pairs) == ((8, 7), 6)
    common = range(2, 8)
    assert found.p_sign_flip == pytest.approx(
        scipy_sign_flip([a[seed] for seed in common], [b[seed] for seed in common])
    )


def test_trend_by_hand() -> None:
    """Slopes 1, 2, 3 over x = 0, 1, 2: mean 2, sd 1, t = 2 sqrt 3 with df = 2, p = 1 - t / sqrt(2 + t^2)."""
    found = trend({seed: {2: 2.0 * (seed + 1) + 5, 0: 5.0, 1: seed + 6.0} for seed in range(3)})
    assert found.gap == pytest.approx(2)
    assert found.p == pytest.approx(1 - math.sqrt(12 / 14))
    assert found.high - 2 == pytest.approx(4.302653 / math.sqrt(3), abs=1e-5)
    assert 2 - found.low == pytest.approx(4.302653 / math.sqrt(3), abs=1e-5)
    assert found.probability == 1
    assert (found.p_permutation, found.p_sign_flip, found.n, found.pairs) == (None, None, (3, 3), 3)


def test_holm_by_hand() -> None:
    """0.01 * 4, then 0.02 * 3, then 0.03 * 2 (= 0.06 as well), then 0.5 * 1; the missing one is no test."""
    assert holm([0.03, 0.01, None, 0.5, 0.02]) == pytest.approx([0.06, 0.04, None, 0.5, 0.06])


def test_holm_is_statsmodels() -> None:
    p_values = [0.2, 0.013, 0.04, 0.013, 1.0, 0.0, 0.3]
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


def test_holm_of_nothing() -> None:
    assert holm([]) == []
    assert holm([None, None]) == [None, None]


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_holm_refuses_what_is_no_p(p: float) -> None:
    with pytest.raises(ValueError, match="allowed: 0 to 1"):
        holm([0.1, p])


# Against scipy and statsmodels


@pytest.mark.parametrize("b", [NO_COMM, {0: 39.0, 7: 40.5, 8: 37.0}], ids=["five", "three"])
@pytest.mark.parametrize("confidence", [0.95, 0.99])
def test_welch_is_scipys(b: Mapping[int, float], confidence: float) -> None:
    theirs = scipy.stats.ttest_ind(raw(IFC), raw(b), equal_var=False)
    found = compare(IFC, b, confidence=confidence)
    interval = theirs.confidence_interval(confidence)
    assert (found.p, found.low, found.high) == pytest.approx((theirs.pvalue, interval.low, interval.high))


@pytest.mark.parametrize("b", [NO_COMM, {0: 39.0, 7: 40.5, 8: 37.0}], ids=["five", "three"])
def test_permutation_is_scipys(b: Mapping[int, float]) -> None:
    theirs = scipy.stats.permutation_test(
        (raw(IFC), raw(b)), lambda x, y: abs(np.mean(x) - np.mean(y)), n_resamples=1000, alternative="greater"
    )
    assert compare(IFC, b).p_permutation == pytest.approx(theirs.pvalue)


def test_sign_flip_is_scipys() -> None:
    a = by_seed((41.0, 40.2, 39.1, 41.7, 40.6, 38.9, 40.0))
    b = by_seed((40.1, 39.9, 39.8, 40.2, 39.6, 39.0, 38.0))
    assert compare(a, b).p_sign_flip == pytest.approx(scipy_sign_flip(raw(a), raw(b)))


def scipy_sign_flip(a: Sequence[float], b: Sequence[float]) -> float:
    def statistic(x: Any, y: Any) -> float:
        return abs(round(float(np.mean(x) - np.mean(y)), 9))

    return float(
        scipy.stats.permutation_test(
            (a, b), statistic, permutation_type="samples", n_resamples=1000, alternative="greater"
        ).pvalue
    )


def test_ties_of_rounded_numbers_are_ties() -> None:
    """33.3 - 33.1 and 32.9 - 32.7 differ in the last bit: as tenths they are the same integers."""
    a, b = (329, 333, 331, 330, 334, 332), (327, 331, 332, 329, 331, 330)
    tenths = compare(by_seed([value / 10 for value in a]), by_seed([value / 10 for value in b]))
    whole = compare(by_seed(a), by_seed(b))
    assert tenths.p_permutation == whole.p_permutation
    assert tenths.p_sign_flip == whole.p_sign_flip
    assert tenths.probability == whole.probability


def test_trend_is_scipys() -> None:
    rng = np.random.default_rng(0)
    x = (5, 10, 15, 20)
    values = {seed: dict(zip(x, rng.normal(40, 1, 4).tolist(), strict=True)) for seed in range(6)}
    slopes = [scipy.stats.linregress(x, list(of_seed.values())).slope for of_seed in values.values()]
    theirs = scipy.stats.ttest_1samp(slopes, 0)
    interval = theirs.confidence_interval(0.95)
    found = trend(values)
    assert (found.gap, found.p) == pytest.approx((np.mean(slopes), theirs.pvalue))
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.p_sign_flip == pytest.approx(scipy_sign_flip(slopes, [0.0] * 6))
    assert found.probability == sum(slope > 0 for slope in slopes) / 6


def test_power_is_statsmodels() -> None:
    """Equal spreads: (1, 2, 3, 4, 5) has the variance 2.5, whatever it is moved by."""
    a, sigma = by_seed((1, 2, 3, 4, 5)), math.sqrt(2.5)
    b = by_seed((2, 3, 4, 5, 6))
    found = compare(a, b)
    effect = TTestIndPower().solve_power(nobs1=5, alpha=0.05, power=0.8)
    seeds = TTestIndPower().solve_power(effect_size=1 / sigma, alpha=0.05, power=0.8)
    assert found.minimal_effect == pytest.approx(effect * sigma, rel=1e-4)
    assert found.seeds_needed == math.ceil(seeds)


def test_power_of_a_trend_is_statsmodels() -> None:
    slopes = (1.0, 2.0, 3.0, 4.0, -5.0)  # mean 1, sd 3.5355
    found = trend({seed: {0: 0.0, 1: slope} for seed, slope in enumerate(slopes)})
    sd = math.sqrt(12.5)
    effect = TTestPower().solve_power(nobs=5, alpha=0.05, power=0.8)
    seeds = TTestPower().solve_power(effect_size=1 / sd, alpha=0.05, power=0.8)
    assert found.minimal_effect == pytest.approx(effect * sd, rel=1e-4)
    assert found.seeds_needed == math.ceil(seeds)


def test_seeds_needed_find_the_gap() -> None:
    """The very same gap and spread, at that many seeds, is a gap that they find; at one fewer it is not."""
    needed = compare(IFC, NO_COMM).seeds_needed
    assert needed is not None
    for n, detected in ((needed, True), (needed - 1, False)):
        found = compare(*(stretched(side, n) for side in (IFC, NO_COMM)))
        assert found.minimal_effect is not None
        assert (found.gap >= found.minimal_effect) is detected


def stretched(values: Mapping[int, float], n: int) -> dict[int, float]:
    """n values with the same mean and sample standard deviation."""
    ramp = np.arange(n) - (n - 1) / 2
    of = np.array(raw(values))
    return by_seed((of.mean() + of.std(ddof=1) * ramp / ramp.std(ddof=1)).tolist())


def test_what_five_seeds_can_find() -> None:
    """With sigma = 1: 2.02 by the noncentral t (2.03 with Welch's estimated df), 1.33 and 0.91 with more."""
    for n, effect in ((5, 2.03), (10, 1.33), (20, 0.91)):
        side = stretched(by_seed((0, 1)), n)
        sigma = math.sqrt(0.5)
        assert compare(side, side).minimal_effect == pytest.approx(effect * sigma, abs=0.01)


@pytest.mark.parametrize(
    ("n", "permutation", "sign_flip"), [(5, 0.0079, None), (6, 2 / 924, 0.03125), (4, 2 / 70, None)]
)
def test_lowest_exact_p(n: int, permutation: float, sign_flip: float | None) -> None:
    found = compare({seed: 100.0 + seed for seed in range(n)}, {seed: float(seed) for seed in range(n)})
    assert found.p_permutation == pytest.approx(permutation, abs=5e-5)
    assert found.p_sign_flip == sign_flip


def test_exact_tests_stop_where_they_would_not_end() -> None:
    ten, eleven = by_seed(range(10)), by_seed(range(11))
    assert compare(ten, ten).p_permutation == 1
    assert compare(ten, eleven).p_permutation is None
    assert compare(by_seed(range(18)), by_seed(range(18))).p_sign_flip == 1
    assert compare(by_seed(range(19)), by_seed(range(19))).p_sign_flip is None


# Degenerate input


@pytest.mark.parametrize("value", [0.1, 33.3, 0.0, -7.0])
def test_no_spread_and_no_gap(value: float) -> None:
    found = compare(dict.fromkeys(range(3), value), dict.fromkeys(range(6), value))
    assert (found.gap, found.low, found.high, found.p) == (0, 0, 0, 1)
    assert (found.p_permutation, found.probability) == (1, 0.5)
    assert (found.minimal_effect, found.seeds_needed) == (None, None)


def test_no_spread_but_a_gap() -> None:
    found = compare(dict.fromkeys(range(6), 0.3), dict.fromkeys(range(6), 0.1))
    assert found.gap == found.low == found.high == pytest.approx(0.2)
    assert (found.p, found.probability) == (0, 1)
    assert (found.p_permutation, found.p_sign_flip) == (2 / 924, 2 / 64)
    assert (found.minimal_effect, found.seeds_needed) == (None, 2)


def test_rounding_is_no_spread() -> None:
    """0.1 + 0.2 is not 0.3 in the last bit."""
    found = compare({0: 0.1 + 0.2, 1: 0.3}, {0: 0.3, 1: 0.3})
    assert (found.gap, found.p, found.probability) == (0, 1, 0.5)


def test_spread_on_one_side_only() -> None:
    """df is that of the side that varies: 2. Error 1 / sqrt 3, t = 2 sqrt 3."""
    found = compare(by_seed((1, 2, 3)), by_seed((0, 0, 0, 0)))
    assert found.p == pytest.approx(1 - math.sqrt(12 / 14))


def test_a_level_trend_without_spread() -> None:
    level = trend({seed: {5: 0.1, 10: 0.1, 20: 0.1} for seed in range(6)})
    assert (level.gap, level.p, level.p_sign_flip, level.probability) == (0, 1, 1, 0.5)
    assert (level.minimal_effect, level.seeds_needed) == (None, None)
    steady = trend({seed: {0: seed, 1: seed + 0.5} for seed in range(6)})
    assert (steady.gap, steady.low, steady.p, steady.p_sign_flip) == (0.5, 0.5, 0, 2 / 64)


def test_no_number_of_seeds_finds_no_gap() -> None:
    assert compare(by_seed((1, 2, 3)), by_seed((3, 2, 1))).seeds_needed is None
    assert compare(by_seed((0, 1)), by_seed((1e-6, 1))).seeds_needed is None


@pytest.mark.parametrize("few", [{}, {0: 1.0}], ids=["none", "one"])
def test_too_few_values(few: dict[int, float]) -> None:
    with pytest.raises(ValueError, match=rf"^a: {len(few)} values"):
        compare(few, IFC)
    with pytest.raises(ValueError, match=rf"^b: {len(few)} values"):
        compare(IFC, few)
    with pytest.raises(ValueError, match=rf"^{len(few)} seeds"):
        trend({seed: {0: value, 1: value} for seed, value in few.items()})


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_only_finite_numbers(bad: float) -> None:
    for call in (
        lambda: compare({0: 1.0, 3: bad}, IFC),
        lambda: compare(IFC, {0: 1.0, 3: bad}),
        lambda: compare(IFC, IFC, factor=bad),
        lambda: compare(IFC, IFC, offset=bad),
        lambda: trend({0: {0: 1, 1: 2}, 3: {0: 1, 1: bad}}),
    ):
        with pytest.raises(ValueError, match=r"(3|factor|offset).* = -?(nan|inf): allowed: finite"):
            call()


def test_other_refusals() -> None:
    with pytest.raises(ValueError, match="factor = 0"):
        compare(IFC, IFC, factor=0)
    with pytest.raises(ValueError, match="confidence = 95"):
        compare(IFC, IFC, confidence=95)
    with pytest.raises(ValueError, match="seed 1: x = "):
        trend({0: {5: 1.0, 10: 2.0}, 1: {5: 1.0, 20: 2.0}})
    with pytest.raises(ValueError, match="1 x: a trend needs two"):
        trend({0: {5: 1.0}, 1: {5: 1.0}})


def test_order_of_the_seeds_is_nothing() -> None:
    assert compare(dict(reversed(IFC.items())), NO_COMM) == compare(IFC, NO_COMM)


# Whatever the numbers

tenths = st.integers(0, 1000).map(lambda value: value / 10)
sides = st.dictionaries(st.integers(0, 9), tenths, min_size=2, max_size=7)
quick = settings(max_examples=30, deadline=None)


def same(one: Comparison, other: Comparison, scale: float = 1.0) -> None:
    """Equal but for the unit."""
    assert (one.gap, one.low, one.high) == pytest.approx(
        tuple(scale * number for number in (other.gap, other.low, other.high)), abs=1e-7 * abs(scale)
    )
    assert one.p == pytest.approx(other.p, abs=1e-9)
    assert (one.p_permutation, one.p_sign_flip, one.probability) == (
        other.p_permutation,
        other.p_sign_flip,
        other.probability,
    )
    assert (one.minimal_effect is None) is (other.minimal_effect is None)
    if one.minimal_effect is not None and other.minimal_effect is not None:
        assert one.minimal_effect == pytest.approx(abs(scale) * other.minimal_effect)


@quick
@given(sides, sides)
def test_swapping_flips_the_gap(a: dict[int, float], b: dict[int, float]) -> None:
    one, other = compare(a, b), compare(b, a)
    assert (other.gap, other.low, other.high) == pytest.approx((-one.gap, -one.high, -one.low))
    assert other.p == pytest.approx(one.p)
    assert (other.p_permutation, other.p_sign_flip) == (one.p_permutation, one.p_sign_flip)
    assert other.probability == pytest.approx(1 - one.probability)
    assert other.seeds_needed == one.seeds_needed


@quick
@given(sides, sides, st.integers(-500, 500))
def test_shifting_both_changes_nothing(a: dict[int, float], b: dict[int, float], by: int) -> None:
    moved = ({seed: value + by for seed, value in side.items()} for side in (a, b))
    same(compare(*moved), compare(a, b))


@quick
@given(sides, sides, st.integers(-500, 500))
def test_an_offset_is_a_shift_of_a(a: dict[int, float], b: dict[int, float], by: int) -> None:
    same(compare(a, b, offset=by), compare({seed: value + by for seed, value in a.items()}, b))


@quick
@given(sides, sides, st.sampled_from([1e-6, 0.25, 3.0, 1e6]))
def test_scaling_scales(a: dict[int, float], b: dict[int, float], by: float) -> None:
    scaled = ({seed: value * by for seed, value in side.items()} for side in (a, b))
    same(compare(*scaled), compare(a, b), by)


@quick
@given(sides, sides, st.sampled_from([0.5, 0.9, 1.0, 2.0]), st.sampled_from([0.8, 0.95]))
def test_numbers_are_in_their_ranges(
    a: dict[int, float], b: dict[int, float], factor: float, confidence: float
) -> None:
    found = compare(a, b, factor, confidence=confidence)
    given_ = (found.gap, found.low, found.high, found.p, found.p_permutation, found.p_sign_flip)
    assert all(number is None or math.isfinite(number) for number in (*given_, found.minimal_effect))
    assert found.low <= found.gap <= found.high
    for p in (found.p, found.p_permutation, found.p_sign_flip, found.probability):
        assert p is None or 0 <= p <= 1
    # The test and the interval are one statement.
    if abs(found.p - (1 - confidence)) > 1e-9:
        assert (found.p < 1 - confidence) is not (found.low <= 0 <= found.high)
    if found.p_permutation is not None:
        assert found.p_permutation >= 1 / math.comb(sum(found.n), found.n[0])
    assert (found.p_sign_flip is None) is (found.pairs < 6)
    assert found.minimal_effect is None or found.minimal_effect > 0
    assert found.seeds_needed is None or found.seeds_needed >= 2


@quick
@given(st.lists(st.integers(-9, 9), min_size=6, max_size=8))
def test_sign_flips_are_all_of_them(differences: list[int]) -> None:
    zero = dict.fromkeys(range(len(differences)), 0.0)
    patterns = list(product((1, -1), repeat=len(differences)))
    sums = [abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in patterns]
    large = sum(size >= abs(sum(differences)) for size in sums)
    assert compare(by_seed(differences), zero).p_sign_flip == large / len(patterns)


@quick
@given(st.lists(st.none() | st.floats(0, 1), max_size=8))
def test_holm_corrects(p_values: list[float | None]) -> None:
    corrected = holm(p_values)
    assert [p is None for p in corrected] == [p is None for p in p_values]
    pairs = sorted(
        (p, q) for p, q in zip(p_values, corrected, strict=True) if p is not None and q is not None
    )
    assert all(p <= q <= 1 for p, q in pairs)
    assert [q for _, q in pairs] == sorted(q for _, q in pairs)
    steps = [(len(pairs) - rank) * p for rank, (p, _) in enumerate(pairs)]
    for rank, (_, q) in enumerate(pairs):
        assert q == pytest.approx(min(1, max(steps[: rank + 1])))


def test_evaluations_of_one_training_are_compared_seed_by_seed() -> None:
    """Two windows of the same models: seeds differ by 10 AP, the windows by 1 in every seed."""
    long = {seed: 40.0 + 10 * seed + extra for seed, extra in enumerate((0.9, 1.1, 1.0, 0.8, 1.2))}
    short = {seed: 40.0 + 10 * seed for seed in range(5)}
    found = compare(long, short, paired=True)
    expected = scipy.stats.ttest_rel(list(long.values()), list(short.values()))
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert (found.paired, found.pairs, found.probability, found.p_permutation) == (True, 5, 1.0, None)
    apart = compare(long, short)
    assert not apart.paired
    assert apart.p > 0.8 > 0.01 > found.p
    with pytest.raises(ValueError, match="1 seeds on both sides"):
        compare({0: 1.0, 1: 2.0}, {1: 1.0, 2: 2.0}, paired=True)
