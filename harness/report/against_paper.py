"""Our runs against a mean and a standard deviation that somebody else printed."""

from __future__ import annotations

from dataclasses import dataclass


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
