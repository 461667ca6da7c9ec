"""Verdicts on cells: what may be held against the paper at all, and what the tests then say."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.grid import Grid
from harness.report.comparability import differences
from harness.report.findings import Findings, examine
from harness.report.spec_of import spec_of
from harness.report.table_spec import TableSpec
from harness.sweep_file import load_scale, load_sweep
from tests.small_road import ROOT

SEEDS = (0, 1, 2, 3, 4)
IFC_T5 = ("ifc", "5", "AP")
"""The paper: 39.0, SD 1.6"""


@cache
def planned(table: str = "table3a", scale: str = "paper") -> tuple[TableSpec, tuple[dict[str, Any], ...]]:
    """The table's spec, and (varied values and configuration) of each of its points."""
    sweep, amount = load_sweep(ROOT / "sweeps" / f"{table}.yaml"), load_scale(scale)
    points = Grid(sweep, amount).points()
    spec = spec_of(sweep, amount, points[0].config, [point.varied for point in points], SEEDS)
    return spec, tuple({**dict(point.varied), "config": point.config.model_dump_json()} for point in points)


def runs(table: str = "table3a", scale: str = "paper", **changes: Any) -> pd.DataFrame:
    """Five runs of each cell as the paper's lab would have them: mean 40, SD 1."""
    values = np.array([-1.2649, -0.6325, 0.0, 0.6325, 1.2649])
    spec, points = planned(table, scale)
    rows = [
        {
            **point,
            "trial": f"{number}-{seed}",
            "status": "done",
            "scale": scale,
            "seed": seed,
            **dict.fromkeys(spec.cells, 40.0 + values[seed]),
            "finished": "2026-01-02T03:04:05+00:00",
            "data_kind": "folder",
            "data_name": "youtube_vis_2019",
            "data_checksum": "9f",
            "split": "valid",
            "scored_videos": 302,
            "hardware": "Tesla V100-SXM2-32GB, 8 cores",
        }
        for number, point in enumerate(points)
        for seed in SEEDS
    ]
    return pd.DataFrame(rows).assign(**changes)


def shifted(rows: pd.DataFrame, mean: float, spread: float = 1.0) -> pd.DataFrame:
    """IFC at T=5 with another mean and SD of AP."""
    here = (rows["model.encoder"] == "ifc") & (rows["inference.window"] == 5)
    rows.loc[here, "AP"] = mean + (rows.loc[here, "AP"] - 40.0) * spread
    return rows


def found(rows: pd.DataFrame, table: str = "table3a", scale: str = "paper") -> Findings:
    return examine(planned(table, scale)[0], rows)


@pytest.mark.parametrize(
    ("mean", "spread", "verdict", "why"),
    [
        (39.0, 0.05, "consistent", "inside the prediction interval 36.2 to 41.8"),
        (41.5, 1.0, "consistent", "seeds would show equality within 1"),
        (44.0, 1.0, "not reproduced", "outside the prediction interval"),
        (42.2, 4.0, "inconclusive", "but p = "),
    ],
)
def test_the_paper_has_a_spread_of_its_own(mean: float, spread: float, verdict: str, why: str) -> None:
    """Its SD of 1.6 over five runs leaves equality within 1 AP out of reach, however many runs we make."""
    judged = found(shifted(runs(), mean, spread)).verdicts[IFC_T5]
    assert judged.verdict == verdict, judged
    assert why in judged.why


def test_equality_can_be_shown_where_the_papers_spread_is_small() -> None:
    """Full THW at T=5: 37.2, SD 0.4."""
    rows = runs()
    here = (rows["model.encoder"] == "full_thw") & (rows["inference.window"] == 5)
    rows.loc[here, "AP"] = 37.3 + (rows.loc[here, "AP"] - 40.0) * 0.3
    judged = found(rows).verdicts["full_thw", "5", "AP"]
    assert judged.verdict == "reproduced", judged
    assert judged.tests is not None
    assert judged.tests.p_equal < 0.05
    assert judged.tests.gap == pytest.approx(0.1)


def test_every_printed_cell_has_one_verdict_and_no_other() -> None:
    findings = found(runs())
    assert set(findings.verdicts) == set(findings.paper)
    assert len(findings.verdicts) == 48
    speeds = {each.verdict for place, each in findings.verdicts.items() if place[2] == "fps"}
    assert speeds == {"inconclusive"}
    assert findings.verdicts["ifc", "5", "fps"].why == "the paper prints no spread of this FPS"


CASES: dict[str, tuple[dict[str, Any], str]] = {
    "synthetic": ({"data_kind": "synthetic"}, "embedded synthetic data, not YouTube-VIS 2019 valid"),
    "hold-out": (
        {"split": "ytvis19-holdout-v1"},
        "split ytvis19-holdout-v1 of youtube_vis_2019, not YouTube-VIS 2019 valid",
    ),
    "part of the split": ({"scored_videos": 30}, "30 scored videos, not the 302"),
}


@pytest.mark.parametrize("case", CASES)
def test_other_data_is_not_comparable(case: str) -> None:
    changes, why = CASES[case]
    verdicts = found(runs(**changes)).verdicts
    assert {each.verdict for each in verdicts.values()} == {"not comparable"}
    assert why in verdicts[IFC_T5].why


def changed_config(**sections: dict[str, Any]) -> pd.DataFrame:
    rows = runs()
    configs = [json.loads(text) for text in rows["config"]]
    for config in configs:
        for name, values in sections.items():
            config[name] |= values
    return rows.assign(config=[json.dumps(config) for config in configs])


def test_another_recipe_is_not_comparable_and_named() -> None:
    rows = changed_config(train={"steps": 360, "initial": "random"}, model={"hidden_dim": 48, "dropout": 0.0})
    why = found(rows).verdicts[IFC_T5].why
    assert why == "another recipe (model.hidden_dim, model.dropout, train.steps and 1 more)"
    rows = changed_config(train={"threads": 7, "checkpoint_every": 9}, model={"num_classes": 41})
    assert found(rows).verdicts[IFC_T5].verdict == "consistent", "none of these changes a result"


def test_speed_is_comparable_on_the_papers_gpu_alone() -> None:
    rows = runs(hardware="NVIDIA H200")
    spec, _ = planned()
    findings = found(rows)
    assert differences(spec, findings.selection, "fps") == ["on NVIDIA H200, not V100"]
    assert findings.verdicts["ifc", "5", "fps"].verdict == "not comparable"
    assert findings.verdicts[IFC_T5].verdict == "consistent"


def test_stand_ins_are_another_recipe() -> None:
    rows = runs("table2a", "tiny")
    verdicts = found(rows, "table2a", "tiny").verdicts
    assert {each.verdict for each in verdicts.values()} <= {"not comparable"}


@pytest.mark.parametrize(
    ("keep", "why"),
    [((0, 1, 2, 3), "4 of 5 planned runs gave a number"), ((), "no run gave a number")],
)
def test_too_few_runs_decide_nothing(keep: tuple[int, ...], why: str) -> None:
    rows = runs()
    gone = (rows["model.encoder"] == "ifc") & ~rows["seed"].isin(keep)
    judged = found(rows[~gone]).verdicts[IFC_T5]
    assert (judged.verdict, judged.why, judged.tests) == ("inconclusive", why, None)


def test_three_planned_runs_are_few() -> None:
    rows = runs()
    spec, _ = planned()

    judged = examine(replace(spec, seeds=(0, 1, 2)), rows[rows["seed"] < 3]).verdicts[IFC_T5]
    assert (judged.verdict, judged.why) == ("inconclusive", "n = 3, fewer than 5")


def test_counts_are_the_same_or_not() -> None:
    rows = runs("table1").query("seed == 0").assign(data_kind="synthetic")
    spec, _ = planned("table1")
    paper = examine(spec, rows).paper
    for place, number in paper.items():
        where = (rows["model.encoder"] == place[0]) & (
            rows["flops.resolution"] + " / " + rows["inference.window"].astype(str) == place[1]
        )
        rows.loc[where, "flops_g"] = number + 0.004
    one = (rows["model.encoder"] == "ifc") & (rows["inference.window"] == 5)
    rows.loc[one, "flops_g"] += 0.01

    verdicts = examine(replace(spec, seeds=(0,)), rows).verdicts
    words = {place: each.verdict for place, each in verdicts.items()}
    assert words.pop(("ifc", "360x640 / 5", "flops_g")) == "not reproduced"
    assert words.pop(("ifc", "720x1280 / 5", "flops_g")) == "not reproduced"
    assert set(words.values()) == {"reproduced"}


def test_best_is_established_or_nothing_is_bold() -> None:
    rows = runs()
    assert not found(rows).best, "all alike"
    ifc = rows["model.encoder"] == "ifc"
    rows.loc[ifc & (rows["inference.window"] == 5), "AP"] += 10
    rows.loc[ifc & (rows["inference.window"] == 10), "AP"] += 0.5
    assert found(rows).best == {IFC_T5}
    rows.loc[(rows["model.encoder"] == "full_thw") & (rows["inference.window"] == 5), "AP"] = np.nan
    assert not found(rows).best, "a rival without numbers may be the better one"


def test_nothing_is_best_among_rows_of_different_data() -> None:
    rows = runs()
    ifc = rows["model.encoder"] == "ifc"
    rows.loc[ifc, "AP"] += 50
    assert found(rows).best
    rows.loc[ifc, "data_checksum"] = "another"
    assert not found(rows).best


def test_the_least_count_is_best() -> None:
    rows = runs("table1").query("seed == 0")
    rows["flops_g"] = rows.groupby(["flops.resolution", "inference.window"]).cumcount() + 1.0

    best = examine(replace(planned("table1")[0], seeds=(0,)), rows).best
    assert {place[0] for place in best} == {"no_comm"}
    assert len(best) == 4
