"""The single numbers behind the cells: what each seed gave."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import pandas as pd

from harness.report.selection import Selection
from harness.report.table_spec import HARDWARE_METRICS, METRIC_NAMES, Place

SeedValues = Mapping[Place, Mapping[int, float]]
"""Place -> seed -> value; a place without numbers is not there"""


def values_by_seed(selection: Selection) -> dict[Place, dict[int, float]]:
    """Every finite number of the rows that count; none of speeds that come from several machines."""
    used = selection.used
    withheld = HARDWARE_METRICS if len(used) and selection.mixed_hardware() else ()
    metrics = [name for name in METRIC_NAMES if name in used and name not in withheld]
    found: dict[Place, dict[int, float]] = {}
    for metric in metrics:
        numbers = pd.to_numeric(used[metric], errors="coerce")
        for row, column, seed, number in _zipped(used, numbers):
            if math.isfinite(number):
                found.setdefault((row, column, metric), {})[int(float(seed))] = float(number)
    return found


def _zipped(used: pd.DataFrame, numbers: Iterable[float]) -> Iterable[tuple[str, str, str, float]]:
    return zip(used["row_key"], used["column_key"], used["seed_key"], numbers, strict=True)
