"""Our runs against printed summaries: by hand, against scipy and statsmodels on raw data, for any."""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.weightstats import ttost_ind

from harness.report.against_paper import against_paper
from harness.report.statistics import Cell, summarise


def cell(mean: float, sd: float, n: int = 5) -> Cell:
    return Cell(n, n, mean, sd)


def runs(mean: float, sd: float, n: int) -> np.ndarray:
    """Some numbers with exactly this mean and sample standard deviation."""
    shape = np.arange(n) ** 1.5
    return mean + sd * (shape - shape.mean()) / shape.std(ddof=1)


SUMMARIES = [
    (42.0, 1.0, 5, 41.0, 0.8, 5),
    (41.1, 0.3, 5, 41.0, 0.8, 5),
    (38.0, 2.0, 3, 41.0, 0.8, 5),
    (41.0, 1.0, 8, 41.0, 0.5, 4),
]


# By hand


def test_by_hand() -> None:
    """Two runs of each, variances 2 and 2: error sqrt 2, df 2, t = 4 / sqrt 2, p = 1 - t / sqrt(2 + t^2).

    One-sided at a margin of 6: t = (4 - 6) / sqrt 2 = -sqrt 2, p = (1 - sqrt 2 / sqrt 4) / 2. Prediction
    with df 1, t(0.975) = 12.7062: 1 ± 12.7062 * sqrt 2 * sqrt(1/2 + 1/2).
    """
    found = against_paper(cell(5, math.sqrt(2), 2), 1.0, math.sqrt(2), 2, margin=6)
    assert found.gap == 4
    assert found.p == pytest.approx(1 - math.sqrt(0.8))
    assert found.p_equal == pytest.approx((1 - math.sqrt(0.5)) / 2)
    assert found.high - 1 == pytest.approx(12.7062 * math.sqrt(2), abs=1e-4)
    assert 1 - found.low == pytest.approx(12.7062 * math.sqrt(2), abs=1e-4)
    assert found.margin == 6


def test_interval_of_five_runs() -> None:
    """t(0.975, 4) = 2.77645, over sqrt 5: 1.24 s to either side."""
    interval = cell(40.0, 1.0).interval()
    assert interval is not None
    assert (interval[0] - 40, interval[1] - 40) == pytest.approx((-1.2417, 1.2417), abs=1e-4)


def test_another_mean_of_five_runs() -> None:
    """2.77645 * sqrt(2 / 5): 1.76 s to either side; our spread is not in it."""
    for sd in (0.1, 1.0, 7.0):
        found = against_paper(cell(40.0, sd), 30.0, 1.0, margin=1)
        assert (found.low - 30, found.high - 30) == pytest.approx((-1.7560, 1.7560), abs=1e-4)


def test_margin_that_five_runs_can_show() -> None:
    """About 2.05 s: 2.03 by the noncentral t, which takes Welch's degrees of freedom for known."""
    same = cell(40.0, 1.0)
    enough = against_paper(same, 40.0, 1.0, margin=2.05).seeds_needed
    short = against_paper(same, 40.0, 1.0, margin=2.0).seeds_needed
    assert (enough, short) == (5, 6)


def test_five_runs_of_theirs_may_not_be_enough() -> None:
    """Endless runs of ours leave their error, s / sqrt 5 with df 4: t(0.95) and 90 % power take 3.60."""
    limit = 3.59994 / math.sqrt(5)
    close = against_paper(cell(40.0, 1.0), 40.0, 1.0, margin=limit * 1.001).seeds_needed
    assert close is not None
    assert close > 100
    assert against_paper(cell(40.0, 1.0), 40.0, 1.0, margin=limit * 0.999).seeds_needed is None
    assert against_paper(cell(40.0, 1.0), 40.0, 1.0, margin=1.0).seeds_needed is None


# Against scipy and statsmodels on raw data


@pytest.mark.parametrize("summaries", SUMMARIES)
@pytest.mark.parametrize("margin", [0.5, 2.0])
def test_tests_are_those_of_raw_data(
    summaries: tuple[float, float, int, float, float, int], margin: float
) -> None:
    our_mean, our_sd, our_n, mean, sd, n = summaries
    ours, theirs = runs(our_mean, our_sd, our_n), runs(mean, sd, n)
    found = against_paper(summarise(ours, our_n), mean, sd, n, margin=margin)
    assert found.gap == pytest.approx(our_mean - mean)
    assert found.p == pytest.approx(scipy.stats.ttest_ind(ours, theirs, equal_var=False).pvalue)
    assert found.p_equal == pytest.approx(ttost_ind(ours, theirs, -margin, margin, usevar="unequal")[0])


@pytest.mark.parametrize("summaries", SUMMARIES)
def test_p_is_that_of_summaries(summaries: tuple[float, float, int, float, float, int]) -> None:
    our_mean, our_sd, our_n, mean, sd, n = summaries
    theirs = scipy.stats.ttest_ind_from_stats(*summaries, equal_var=False)
    assert against_paper(cell(our_mean, our_sd, our_n), mean, sd, n, margin=1).p == pytest.approx(
        theirs.pvalue
    )


def test_interval_is_scipys() -> None:
    values = [41.0, 40.2, 39.1, 41.7, 40.6]
    for confidence in (0.8, 0.95):
        theirs = scipy.stats.ttest_1samp(values, 0).confidence_interval(confidence)
        assert summarise(values, 5).interval(confidence) == pytest.approx((theirs.low, theirs.high))


@pytest.mark.parametrize("margin", [1.7, 2.5, 6.0])
@pytest.mark.parametrize("our_sd", [0.4, 1.0, 3.0])
def test_seeds_needed_are_the_fewest_with_the_power(margin: float, our_sd: float) -> None:
    """Power by scipy's noncentral t for a true difference of 0: both tests reject unless either fails."""

    def power(m: int) -> float:
        variances = our_sd**2 / m, 1 / 5
        error = math.sqrt(sum(variances))
        df = sum(variances) ** 2 / (variances[0] ** 2 / (m - 1) + variances[1] ** 2 / 4)
        fails = scipy.stats.nct.cdf(scipy.stats.t.ppf(0.95, df), df, margin / error)
        return float(1 - 2 * fails)

    needed = against_paper(cell(40.0, our_sd), 40.0, 1.0, margin=margin).seeds_needed
    assert needed is not None
    assert power(needed) >= 0.8 - 1e-6
    assert needed == 2 or power(needed - 1) < 0.8 + 1e-6


# Degenerate input


@pytest.mark.parametrize(
    ("mean", "p", "p_equal"), [(40.0, 1, 0), (40.5, 0, 0), (41.0, 0, 1), (42.0, 0, 1)], ids=str
)
def test_no_spread_anywhere(mean: float, p: float, p_equal: float) -> None:
    found = against_paper(cell(40.0, 0.0), mean, 0.0, margin=1)
    assert (found.p, found.p_equal, found.low, found.high) == (p, p_equal, mean, mean)
    assert found.seeds_needed == 2


def test_rounding_is_no_spread() -> None:
    found = against_paper(summarise([0.1, 0.1, 0.1], 3), 0.1, 0.0, margin=0.01)
    assert (found.gap, found.p, found.p_equal) == (0, 1, 0)


def test_spread_on_one_side_only() -> None:
    """df is that of the side that varies. Three runs: error 1 / sqrt 3, t = 2 sqrt 3, df 2."""
    p = 1 - math.sqrt(12 / 14)
    assert against_paper(cell(42.0, 1.0, 3), 40.0, 0.0, margin=1).p == pytest.approx(p)
    assert against_paper(cell(42.0, 0.0, 5), 40.0, 1.0, 3, margin=1).p == pytest.approx(p)


def test_one_run_is_no_test() -> None:
    for few in (summarise([40.0], 5), summarise([], 5)):
        assert few.interval() is None
        with pytest.raises(ValueError, match=rf"^{few.n} of our runs"):
            against_paper(few, 40.0, 1.0, margin=1)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("mean", {"mean": math.nan}),
        ("sd", {"sd": math.inf}),
        ("sd", {"sd": -1.0}),
        ("n", {"n": 1}),
        ("margin", {"margin": 0.0}),
        ("margin", {"margin": math.nan}),
        ("confidence", {"confidence": 1.0}),
    ],
    ids=str,
)
def test_refusals(name: str, changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"^{name} = "):
        against_paper(cell(40.0, 1.0), **({"mean": 40.0, "sd": 1.0, "margin": 1.0} | changes))  # type: ignore[arg-type]
    if name == "confidence":
        with pytest.raises(ValueError, match=r"^confidence = "):
            cell(40.0, 1.0).interval(1.0)


# Whatever the numbers

means = st.integers(0, 1000).map(lambda value: value / 10)
sds = st.integers(0, 50).map(lambda value: value / 10)
counts = st.integers(2, 9)
margins = st.integers(1, 50).map(lambda value: value / 10)
quick = settings(max_examples=40, deadline=None)


@quick
@given(means, sds, counts, means, sds, counts, margins)
def test_numbers_are_in_their_ranges(
    our_mean: float, our_sd: float, our_n: int, mean: float, sd: float, n: int, margin: float
) -> None:
    found = against_paper(cell(our_mean, our_sd, our_n), mean, sd, n, margin=margin)
    assert all(value is None or math.isfinite(value) for value in asdict(found).values())
    assert 0 <= found.p <= 1
    assert 0 <= found.p_equal <= 1
    assert found.low <= mean <= found.high
    if abs(found.gap) > margin:
        assert found.p_equal > 0.5  # never shown equal outside the margin
    if found.p_equal < 0.05:
        assert abs(found.gap) < margin


@quick
@given(means, sds, counts, means, sds, counts, margins)
def test_swapping_flips_the_gap(
    our_mean: float, our_sd: float, our_n: int, mean: float, sd: float, n: int, margin: float
) -> None:
    one = against_paper(cell(our_mean, our_sd, our_n), mean, sd, n, margin=margin)
    other = against_paper(cell(mean, sd, n), our_mean, our_sd, our_n, margin=margin)
    assert other.gap == -one.gap
    assert (other.p, other.p_equal) == pytest.approx((one.p, one.p_equal))


@quick
@given(means, sds, means, sds, margins, st.integers(-500, 500), st.sampled_from([0.25, 3.0]))
def test_shift_and_unit_change_nothing(
    our_mean: float, our_sd: float, mean: float, sd: float, margin: float, by: int, scale: float
) -> None:
    one = against_paper(cell(our_mean, our_sd), mean, sd, margin=margin)
    moved = cell(scale * (our_mean + by), scale * our_sd)
    other = against_paper(moved, scale * (mean + by), scale * sd, margin=scale * margin)
    assert (other.p, other.gap) == pytest.approx((one.p, scale * one.gap), abs=1e-9)
    assert other.high - other.low == pytest.approx(scale * (one.high - one.low), abs=1e-9)
    if one.gap == 0 or abs(abs(one.gap) - margin) > 1e-6:  # on the margin itself rounding decides
        assert other.p_equal == pytest.approx(one.p_equal, abs=1e-9)


@quick
@given(means, sds, means, sds, margins)
def test_a_wider_margin_is_shown_more_easily(
    our_mean: float, our_sd: float, mean: float, sd: float, margin: float
) -> None:
    narrow = against_paper(cell(our_mean, our_sd), mean, sd, margin=margin)
    wide = against_paper(cell(our_mean, our_sd), mean, sd, margin=margin + 1)
    assert wide.p_equal <= narrow.p_equal
    assert (wide.seeds_needed or math.inf) <= (narrow.seeds_needed or math.inf)
