"""Numbers of a cell: mean, sample standard deviation and how many runs stand behind them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.special import chdtri

from harness.report.selection import finite
from harness.report.table_spec import Place, TableSpec
from harness.report.welch import check_confidence, t_quantile


@dataclass(frozen=True)
class Cell:
    """One metric over the seeds of one cell, in the metric's own unit."""

    n: int
    """Finished runs with a finite number."""
    planned: int
    """Runs that were asked for."""
    mean: float | None = None
    """None for n = 0."""
    sd: float | None = None
    """Sample standard deviation (ddof = 1); None below n = 2, where it does not exist."""
    low: float | None = None
    high: float | None = None
    out_of_memory: int = 0
    """Runs of the planned ones that did not fit in memory: a result, without a number"""

    @property
    def short(self) -> bool:
        """Some, but fewer numbers than planned."""
        return 0 < self.n < self.planned

    def interval(self, confidence: float = 0.95) -> tuple[float, float] | None:
        """Student's t interval of the mean; None below n = 2.

        Raises ValueError unless ``confidence`` is between 0 and 1.
        """
        check_confidence(confidence)
        if self.mean is None or self.sd is None:
            return None
        reach = t_quantile(self.n - 1, confidence) * self.sd / math.sqrt(self.n)
        return self.mean - reach, self.mean + reach


def summarise(values: Iterable[float], planned: int) -> Cell:
    """Cell of the given numbers; those that are not finite do not count."""
    finite = np.array([value for value in map(float, values) if math.isfinite(value)])
    n = len(finite)
    if n == 0:
        return Cell(0, planned)
    sd = float(finite.std(ddof=1)) if n > 1 else None
    return Cell(n, planned, float(finite.mean()), sd, float(finite.min()), float(finite.max()))


def grid(
    spec: TableSpec, used: pd.DataFrame, metrics: Sequence[str], too_large: pd.DataFrame | None = None
) -> dict[Place, Cell]:
    """Every planned cell.

    Args:
        used: finished runs only, one for each (row, column, seed).
        too_large: runs that did not fit in memory.
    """
    places = list(zip(used["row_key"], used["column_key"], strict=True))
    failed = (
        Counter()
        if too_large is None
        else Counter(zip(too_large["row_key"], too_large["column_key"], strict=True))
    )
    runs: dict[Place, list[float]] = {}
    for metric in metrics:
        for (row, column), value in zip(places, finite(used, metric), strict=True):
            if value is not None:
                runs.setdefault((row, column, metric), []).append(value)
    cells: dict[Place, Cell] = {}
    for row in spec.rows.places:
        for column in spec.columns.places:
            for metric in metrics:
                found = summarise(runs.get((row, column, metric), ()), len(spec.seeds))
                cells[row, column, metric] = replace(found, out_of_memory=failed[row, column])
    return cells


def sigma_range(n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Between which multiples of a sample SD over n runs the true sigma lies, for normal runs.

    From the chi-square distribution of (n - 1) s^2 / sigma^2. Raises ValueError below n = 2.
    """
    if n < 2:
        raise ValueError(f"an SD needs n >= 2, not {n}")
    tail = (1 - confidence) / 2
    # chdtri(df, p) is the chi-square value with probability p above it.
    return math.sqrt((n - 1) / chdtri(n - 1, tail)), math.sqrt((n - 1) / chdtri(n - 1, 1 - tail))
