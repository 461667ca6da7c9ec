"""From what people write, a sweep file and a scale, to what a table shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.config import TrialConfig
from harness.grid import Grid
from harness.report.table_spec import PAPER_SETTING, Side, TableSpec, Value
from harness.sweep_file import ScaleFile, SweepFile

Varied = Sequence[tuple[str, Any]]
"""(dotted key, value) of every axis at one point of the grid"""


def spec_of(
    sweep: SweepFile, scale: ScaleFile, config: TrialConfig, points: Sequence[Varied], seeds: tuple[int, ...]
) -> TableSpec:
    """The table of a sweep.

    Args:
        config: of any point: what no axis varies is the same in all.
        points: the grid, in the order of the sweep file.
        seeds: that are planned for each cell.
    """
    return TableSpec(
        name=sweep.name,
        title=sweep.title,
        rows=_side(points, sweep.table.rows),
        columns=_side(points, sweep.table.columns),
        cells=sweep.table.cells,
        paper=sweep.paper,
        paper_std=sweep.paper_std,
        std_name=sweep.std_table,
        seeds=seeds,
        scale=scale.name,
        figures=sweep.figures,
        fixed=_fixed(sweep, config),
        stand_ins=_stand_ins(sweep, scale),
        claims=sweep.claims,
        margins=sweep.margins,
        growth=sweep.growth,
    )


def spec_of_files(sweep: SweepFile, scale: ScaleFile, seeds: tuple[int, ...], source: str) -> TableSpec:
    """The table of a sweep whose data and code are not at hand: rows are all that is left of it.

    Raises:
        InputError: sweep and scale do not fit.
    """
    points = Grid(sweep, scale, source, f"scale {scale.name}").points()
    return spec_of(sweep, scale, points[0].config, [point.varied for point in points], seeds)


def _side(points: Sequence[Varied], keys: tuple[str, ...]) -> Side:
    """The values these keys take together, in the order of the sweep file."""
    values = (tuple(dict(varied)[key] for key in keys) for varied in points)
    return Side(keys, tuple(dict.fromkeys(values)))


def _fixed(sweep: SweepFile, config: TrialConfig) -> dict[str, Value]:
    """The settings that a paper's number depends on and that this sweep does not vary."""
    dumped = config.model_dump(mode="json")
    keys = [key.split(".") for key in PAPER_SETTING if key not in sweep.varied_keys()]
    return {f"{section}.{key}": dumped[section][key] for section, key in keys}


def _stand_ins(sweep: SweepFile, scale: ScaleFile) -> dict[str, str]:
    """Which values of the sweep's axes the scale replaces, and by what."""
    return {
        str(value): str(scale.stand_ins[key][str(value)])
        for axis in sweep.grid_axes()
        for values in axis.values
        for key, value in zip(axis.keys, values, strict=True)
        if str(value) in scale.stand_ins.get(key, {})
    }
