"""Exponents of growth: exact on powers, against scipy and numpy; the paper's complexities by hand."""

from __future__ import annotations

import math

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import linregress, t

from harness.report.growth import complexity, growth, upper_half
from tests.report_rows import ROOT

FORMULAS = yaml.safe_load((ROOT / "harness" / "paper.yaml").read_text())["table1_encoder_flops_g"][
    "complexity"
]
positive = st.floats(1e-3, 1e6)


@given(
    p=st.floats(-3, 3), scale=positive, x=st.lists(st.integers(1, 10**6), min_size=2, max_size=9, unique=True)
)
def test_powers_are_found_exactly(p: float, scale: float, x: list[int]) -> None:
    found = growth(x, [scale * each**p for each in x])
    assert found is not None
    assert found.exponent == pytest.approx(p, abs=1e-6)
    assert found.n == len(x)
    if len(x) > 2:
        assert found.low is not None
        assert found.high is not None
        assert found.low - 1e-6 <= p <= found.high + 1e-6


@given(st.dictionaries(st.integers(1, 1000), positive, min_size=3, max_size=9))
def test_slope_and_interval_are_scipys(points: dict[int, float]) -> None:
    found = growth(list(points), list(points.values()))
    line = linregress([math.log(x) for x in points], [math.log(y) for y in points.values()])
    assume(max(points.values()) > 1.001 * min(points.values()))  # scipy divides by the correlation
    half = t.ppf(0.975, len(points) - 2) * line.stderr
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert found.exponent == pytest.approx(line.slope, abs=1e-6, rel=1e-6)
    assert found.low == pytest.approx(line.slope - half, abs=1e-5, rel=1e-4)
    assert found.high == pytest.approx(line.slope + half, abs=1e-5, rel=1e-4)


@pytest.mark.parametrize(
    ("x", "y"),
    [([], []), ([3], [1]), ([3, 3], [1, 2]), ([1, 2], [0, 1]), ([1, 2], [1, math.nan]), ([0, 2], [1, 1])],
)
def test_no_slope(x: list[float], y: list[float]) -> None:
    assert growth(x, y) is None


def test_two_points_have_no_interval() -> None:
    found = growth([2, 4], [1, 8])
    assert found is not None
    assert found.exponent == pytest.approx(3)
    assert (found.low, found.high) == (None, None)


def test_upper_half_is_by_logarithm() -> None:
    assert upper_half([5, 10, 15, 20, 36], [1, 2, 3, 4, 5]) == ([15, 20, 36], [3, 4, 5])
    assert upper_half([1, 4, 16], [1, 2, 3]) == ([4, 16], [2, 3])
    assert upper_half([], []) == ([], [])


def test_the_papers_complexities_by_hand() -> None:
    C, T, N = 256, 36, 240
    assert complexity(FORMULAS["no_comm"], C, T, N) == C * C * T * N + C * T * N * N
    assert complexity(FORMULAS["full_thw"], C, T, N) == C * C * T * N + C * (T * N) ** 2
    assert complexity(FORMULAS["decomp_t_hw"], C, T, N) == C * C * T * N + C * T * N * N + C * T * T * N
    assert complexity(FORMULAS["ifc"], C, T, N) == complexity(FORMULAS["no_comm"], C, T, N)


@pytest.mark.parametrize("formula", ["C T", "O(C K)", "O(2 C)", "O(C T + )", "O(C^x)", "O()"])
def test_other_formulas_are_refused(formula: str) -> None:
    with pytest.raises(ValueError, match="O\\("):
        complexity(formula, 1, 1, 1)
