"""The single numbers behind the cells: what each seed gave."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

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


Trainings = Mapping[tuple[str, str], Mapping[int, str]]
"""(row, column) -> seed -> trial"""


def trainings_by_seed(selection: Selection) -> dict[tuple[str, str], dict[int, str]]:
    """Which training each run that counts is an evaluation of."""
    used = selection.used
    found: dict[tuple[str, str], dict[int, str]] = {}
    if len(used):
        for row, column, seed, trial in _zipped(used, used["trial"]):
            found.setdefault((row, column), {})[int(float(seed))] = str(trial)
    return found


def share_trainings(trainings: Trainings, a: Place, b: Place) -> bool:
    """Whether two cells are evaluations of the same trained models, seed by seed."""
    ours, theirs = trainings.get(a[:2], {}), trainings.get(b[:2], {})
    common = ours.keys() & theirs.keys()
    return len(common) > 1 and all(ours[seed] == theirs[seed] for seed in common)


def _zipped(used: pd.DataFrame, values: Iterable[Any]) -> Iterable[tuple[str, str, str, Any]]:
    return zip(used["row_key"], used["column_key"], used["seed_key"], values, strict=True)
