"""Numbers of a cell against numbers worked out by hand."""

from __future__ import annotations

import pytest

from harness.report.statistics import sigma_range, summarise


def test_mean_and_deviation_by_hand() -> None:
    cell = summarise([1.0, 2.0, 6.0, float("nan"), float("inf")], planned=5)
    assert (cell.n, cell.planned, cell.mean, cell.low, cell.high) == (3, 5, 3.0, 1.0, 6.0)
    assert cell.sd == pytest.approx(7**0.5)  # (4 + 1 + 9) / (3 - 1)
    assert summarise([2.0], 1).sd is None
    assert summarise([], 2).mean is None


def test_sigma_range_from_chi_square_tables() -> None:
    # chi2(1 df): 2.5% point 0.000982, 97.5% point 5.0239; chi2(4 df): 0.4844 and 11.1433
    assert sigma_range(2) == pytest.approx((5.0239**-0.5, 0.000982069**-0.5), rel=1e-4)
    assert sigma_range(5) == pytest.approx(((4 / 11.1433) ** 0.5, (4 / 0.484419) ** 0.5), rel=1e-4)
    with pytest.raises(ValueError, match="n >= 2"):
        sigma_range(1)
