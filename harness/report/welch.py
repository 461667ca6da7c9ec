"""Welch's t test from standard deviations and counts alone, and how many runs it takes.

The distributions are those of ``scipy.special``: ``scipy.stats`` gives the same numbers, but takes two
seconds to import and much longer for a call.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import nctdtrinc, stdtr, stdtrit

Floats = NDArray[np.float64]

POWER = 0.8
"""Share of the cases in which a planned number of runs has to find what is there"""
MOST_SEEDS = 100_000
"""More are never needed: nobody would train them."""
ROUNDING = 1e-12
"""Differences below this share of the largest value are rounding: ties, and no spread"""


def welch(sd_a: float, n_a: float | Floats, sd_b: float, n_b: float | Floats) -> tuple[Floats, Floats]:
    """Standard error of a difference of means, and its degrees of freedom (Welch-Satterthwaite).

    One of the standard deviations must be positive, both counts at least 2.
    """
    error_a, error_b = sd_a / np.sqrt(n_a), sd_b / np.sqrt(n_b)
    error = np.hypot(error_a, error_b)
    # Shares of the variance, not variances: the squares of tiny numbers would be 0 / 0.
    share_a, share_b = (error_a / error) ** 2, (error_b / error) ** 2
    return error, 1 / (share_a**2 / (n_a - 1) + share_b**2 / (n_b - 1))


def two_sided_p(gap: float, error: float, df: float) -> float:
    """P(|T| >= |gap / error|) of Student's t."""
    return min(1.0, 2 * float(stdtr(df, -abs(gap) / error)))


def t_quantile(df: float, confidence: float) -> float:
    """How many standard errors a two-sided t interval reaches to either side."""
    return float(stdtrit(df, (1 + confidence) / 2))


def detectable(df: float | Floats, level: float, power: float) -> Floats:
    """Gap, in standard errors, at which a one-sided t test at ``level`` rejects with probability ``power``.

    The noncentrality of Student's t. A two-sided test is the one-sided one at half its level: that it
    rejects on the wrong side adds less than 1e-5 at a power of 0.8.
    """
    return np.asarray(nctdtrinc(df, 1 - power, -stdtrit(df, level)), dtype=np.float64)


def fewest(enough: Callable[[Floats], NDArray[np.bool_]]) -> int | None:
    """Smallest count from 2 to :data:`MOST_SEEDS` that is ``enough``; None where none is."""
    met = enough(_COUNTS)
    if not met.any():
        return None
    first = int(met.argmax())
    if first == 0:
        return int(_COUNTS[0])
    between = np.arange(_COUNTS[first - 1] + 1, _COUNTS[first] + 1)
    return int(between[int(enough(between).argmax())])


_COUNTS = np.unique(np.geomspace(2, MOST_SEEDS, 60).round())
"""A first look; the counts between two of them are looked at when it is known between which."""


def check_confidence(confidence: float) -> None:
    """Raises ValueError unless it is a probability between 0 and 1."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence = {confidence!r}: allowed: between 0 and 1")


def check_finite(**numbers: float) -> None:
    """Raises ValueError naming the first number that is not finite."""
    for name, number in numbers.items():
        if not math.isfinite(number):
            raise ValueError(f"{name} = {number!r}: allowed: finite numbers")
