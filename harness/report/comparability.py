"""Whether our number may be held against the paper's: data, split, recipe and, of speed, the machine."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from harness.data.benchmarks import BENCHMARKS
from harness.grid import Grid
from harness.report.escape import one_line
from harness.report.selection import Selection
from harness.report.table_spec import HARDWARE_METRICS, TableSpec, is_counted
from harness.sweep_file import SweepFile, load_scale


@dataclass(frozen=True)
class Conditions:
    """Where the paper measured a table."""

    benchmark: str = "ytvis19"
    videos: int = 302
    """Scored videos, or images, of the published split"""
    gpu: str | None = None

    @property
    def data(self) -> str:
        """``YouTube-VIS 2019 valid``"""
        found = BENCHMARKS[self.benchmark]
        return f"{found.title} {found.valid}"

    def text(self) -> str:
        """For a caption."""
        return self.data if self.gpu is None else f"{self.data}, {self.gpu}"


CONDITIONS = {
    "table2a_main": Conditions(gpu="RTX 2080 Ti"),
    "table2b_ytvis2021": Conditions("ytvis21", 421),
    "table2d_strides": Conditions(gpu="RTX 2080 Ti"),
    "table3a_encoders": Conditions(gpu="V100"),
    "table4a_std_of_3a": Conditions(gpu="V100"),
    "table3b_coco_val": Conditions("coco", 5000),
}
"""By key of ``harness/paper.yaml``; others are of YouTube-VIS 2019 valid and have no speeds."""

IGNORED = {"model": ("num_classes", "box_head"), "train": ("threads", "checkpoint_every", "initial")}
"""Given by the data or by other keys, or without an effect on results; ``initial`` is told apart below."""
FEW = 3
"""So many keys that differ are named; of more, their number is told"""


def differences(spec: TableSpec, selection: Selection, metric: str) -> list[str]:
    """Why a metric of these rows is not the paper's quantity, one clause each; none where it is.

    Multiply-adds are counted: they are the same anywhere.
    """
    if is_counted((metric,)) or selection.used.empty or spec.paper is None:
        return []
    conditions = CONDITIONS.get(spec.paper, Conditions())
    found = [*_data(selection, conditions), *_recipe(spec, selection, conditions.benchmark)]
    if metric in HARDWARE_METRICS:
        machines = selection.distinct("hardware")
        if conditions.gpu is None or not all(conditions.gpu in machine for machine in machines):
            found.append(f"on {', '.join(machines)}, not {conditions.gpu or 'the machine of the paper'}")
    return [one_line(clause) for clause in found]


def incomparable(selection: Selection, metric: str) -> str:
    """Why the rows of one sweep cannot be held against each other; empty where they can."""
    if metric in HARDWARE_METRICS and len(selection.used) and selection.mixed_hardware():
        return "measured on different machines"
    if selection.mixed_data() and not is_counted((metric,)):
        return "the rows come from different data"
    return ""


def _data(selection: Selection, conditions: Conditions) -> list[str]:
    kinds = selection.distinct("data_kind")
    if kinds != ["folder"]:
        named = "embedded synthetic data" if kinds == ["synthetic"] else " and ".join(kinds)
        return [f"{named}, not {conditions.data}"]
    scored = selection.distinct("scored_videos")
    published = BENCHMARKS[conditions.benchmark]
    benchmarks = {_at(config, "data", "benchmark") for config in _configs(selection)}
    splits = selection.distinct("split")
    if benchmarks != {conditions.benchmark} or splits != [published.valid]:
        names = ", ".join(selection.distinct("data_name"))
        return [f"split {', '.join(splits)} of {names}, not {conditions.data}"]
    if scored != [str(conditions.videos)]:
        return [f"{', '.join(scored)} scored videos, not the {conditions.videos} of {conditions.data}"]
    return []


def _recipe(spec: TableSpec, selection: Selection, benchmark: str) -> list[str]:
    """Settings that neither the sweep varies nor the paper has."""
    varied = {*spec.rows.keys, *spec.columns.keys}
    wanted = _paper_recipe(benchmark)
    other: dict[str, None] = {}
    for config in _configs(selection):
        for key, value in wanted.items():
            if key not in varied and _at(config, *key.split(".")) != value:
                other[key] = None
        if _at(config, "train", "initial") != "model":
            other["train.initial"] = None
    other |= dict.fromkeys(f"{there} for {named}" for named, there in spec.stand_ins.items())
    if not other:
        return []
    names = list(other)
    more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
    return [f"another recipe ({', '.join(names[:FEW])}{more})"]


@cache
def _paper_recipe(benchmark: str) -> dict[str, Any]:
    """Dotted key -> value, as JSON has it, of the scale ``paper`` on this data."""
    on_images = BENCHMARKS[benchmark].is_images
    settings: dict[str, Any] = {"data": {"benchmark": benchmark}}
    if on_images:
        settings |= {"train": {"frames_per_clip": 1}, "inference": {"window": 1}}
    layout = {"rows": "inference.window", "cells": ["AP"]}
    axes = {"inference.window": [1 if on_images else 5]}
    sweep = SweepFile.model_validate(
        {"name": "recipe", "title": "", "axes": axes, "settings": settings, "table": layout}
    )
    config = Grid(sweep, load_scale("paper")).points()[0].config.model_dump(mode="json")
    return {
        f"{section}.{key}": value
        for section in ("model", "train", "inference")
        for key, value in config[section].items()
        if key not in IGNORED.get(section, ())
    }


def _configs(selection: Selection) -> Iterator[Mapping[str, Any]]:
    """The different configurations of the rows that count."""
    for text in selection.used["config"].dropna().unique() if "config" in selection.used else ():
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        yield found if isinstance(found, dict) else {}


def _at(config: Mapping[str, Any], *path: str) -> Any:
    value: Any = config
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
