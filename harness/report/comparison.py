"""Two variants over their seeds: how far apart, how sure, and what it would take to be surer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Comparison:
    """``a - factor * b`` over seeds, in the metric's own unit."""

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
