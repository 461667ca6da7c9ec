"""How a number grows: the exponent p of y ~ x^p by least squares on logarithms, and complexities.

Pure: numbers in, numbers out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.report.welch import t_quantile

FACTOR = re.compile(r"(C|THW|HW|T|\((?:THW|HW|T)\))(?:\^(\d+))?")


@dataclass(frozen=True)
class Growth:
    """The slope of log(y) on log(x)."""

    exponent: float
    low: float | None
    high: float | None
    """Of its 95% t interval; None for two points, which every line meets"""
    n: int


def growth(x: Sequence[float], y: Sequence[float], confidence: float = 0.95) -> Growth | None:
    """Fit y ~ x^p; None for fewer than two different x, or where a number is not positive and finite.

    The interval takes the residuals of the logarithms for independent and normal: where the true curve bends,
    it says how badly a straight line describes it, not how noisy y is.
    """
    if len(x) != len(y):
        raise ValueError(f"{len(x)} x for {len(y)} y")
    if len(set(x)) < 2 or any(not (0 < value < math.inf) for value in (*x, *y)):
        return None
    u, v = np.log(np.asarray(x, float)), np.log(np.asarray(y, float))
    spread = float(((u - u.mean()) ** 2).sum())
    slope = float(((u - u.mean()) * (v - v.mean())).sum()) / spread
    freedom = len(x) - 2
    if freedom < 1:
        return Growth(slope, None, None, len(x))
    residuals = v - v.mean() - slope * (u - u.mean())
    error = math.sqrt(max(float((residuals**2).sum()), 0.0) / freedom / spread)
    half = t_quantile(freedom, confidence) * error
    return Growth(slope, slope - half, slope + half, len(x))


def upper_half(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """The points whose x lies in the upper half of the range, by logarithm: sqrt(min * max) and above."""
    middle = math.sqrt(min(x) * max(x)) if x else 0.0
    kept = [(a, b) for a, b in zip(x, y, strict=True) if a >= middle * (1 - 1e-12)]
    return [a for a, _ in kept], [b for _, b in kept]


def complexity(formula: str, width: float, frames: float, places: float) -> float:
    """The value of a complexity such as ``O(C^2 THW + C T (HW)^2)``, every term with the constant 1.

    Args:
        width: C.
        frames: T.
        places: HW, tokens of a frame.

    Raises:
        ValueError: the formula has something else in it.
    """
    inside = re.fullmatch(r"\s*O\((.+)\)\s*", formula)
    if inside is None:
        raise ValueError(f"{formula!r}: not of the form O(...)")
    values = {"C": width, "T": frames, "HW": places, "THW": frames * places}
    return sum(_term(term.strip(), values, formula) for term in inside[1].split("+"))


def _term(term: str, values: Mapping[str, float], formula: str) -> float:
    product = 1.0
    for factor in term.split() or [""]:
        found = FACTOR.fullmatch(factor)
        if found is None:
            raise ValueError(f"{formula!r}: {factor!r} is no product of powers of C, T, HW and THW")
        product *= values[found[1].strip("()")] ** int(found[2] or 1)
    return product
