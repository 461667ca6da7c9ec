"""A sweep whose axis is the embedded data: each training on its own videos, one table for all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.config import DataConfig
from harness.data.splits import load_scored
from harness.engine.plan import Options, make_plan
from harness.report.comparability import incomparable
from harness.report.selection import select
from harness.report.sweep_report import table_spec
from harness.sweep import trial_cells
from model.errors import InputError
from tests.small_road import SCALE, SWEEP, Road, check_refused, make_road

AXIS = "data.synthetic.max_size"
VARIED: dict[str, Any] = {
    "name": "sizes",
    "title": "Instances of two sizes",
    "axes": {"model.encoder": ["no_comm", "ifc"], AXIS: [20, 24]},
    "seeds": 1,
    "measure": ["ap"],
    "table": {"rows": "model.encoder", "columns": AXIS, "cells": ["AP"]},
    "claims": [
        {
            "id": "ifc",
            "says": "IFC is better",
            "better": "ifc",
            "worse": "no_comm",
            "metric": "AP",
            "at": f"every {AXIS}",
        }
    ],
}


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Road:
    made = make_road(tmp_path_factory.mktemp("varied"), VARIED)
    done = made.run()
    assert done.returncode == 0, done.stderr + done.stdout
    return made


def test_each_training_has_its_own_data_and_nothing_else_changes(tmp_path: Path) -> None:
    plan = make_road(tmp_path, VARIED).plan()
    assert len({trial.key for trial in plan.trials}) == 4
    assert len({source.name for source in plan.sources}) == 2
    for trial, cell in trial_cells(list(plan.trials)):
        assert plan.source_of(cell.config).config.synthetic == cell.config.data.synthetic
        assert plan.source_of(trial.config) == plan.source_of(cell.config)
    alone = {**VARIED, "axes": {"model.encoder": ["no_comm", "ifc"]}, "claims": []}
    alone["table"] = {**VARIED["table"], "columns": []}
    (tmp_path / "alone").mkdir()
    same = make_road(tmp_path / "alone", alone).plan()
    assert {trial.key for trial in same.trials} < {trial.key for trial in plan.trials}


def test_rows_and_results_are_of_the_data_that_the_table_names(road: Road) -> None:
    rows = road.rows
    assert rows["status"].eq("done").all()
    assert rows.groupby(AXIS)[["data_name", "data_checksum", "train_data"]].nunique().eq(1).to_numpy().all()
    assert rows["data_name"].nunique() == 2
    for name, group in rows.groupby("data_name"):
        config = DataConfig.model_validate(json.loads(group["config"].iloc[0])["data"])
        dataset = load_scored(road.results / "datasets" / str(name), config)
        assert set(group["data_checksum"]) == {dataset.checksum()}
        sizes = {json.loads(config)["data"]["synthetic"]["max_size"] for config in group["config"]}
        assert sizes == set(group[AXIS])


def test_the_same_command_again_does_nothing(road: Road) -> None:
    before = road.files()
    done = road.run()
    assert done.returncode == 0
    assert {name: at for name, at in road.files().items() if "runners" not in name} == {
        name: at for name, at in before.items() if "runners" not in name
    }


def test_the_report_names_both_sets_and_judges_within_each(road: Road) -> None:
    tex = (road.plan().report / "sizes.tex").read_text("utf-8")
    assert "2 sets that differ as the table says" in tex
    assert "MIXED" not in tex
    claims = (road.plan().report / "claims.csv").read_text("utf-8")
    assert "different data" not in claims
    assert "not comparable" not in claims


def test_other_data_than_meant_is_still_mixed(road: Road) -> None:
    rows = road.rows
    spec = table_spec(road.plan())
    assert not incomparable(select(spec, rows), "AP")
    rows.loc[rows.index[0], "data_checksum"] = "of something else"
    assert incomparable(select(spec, rows), "AP") == "the rows come from different data"


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        (
            {"data.synthetic.categories": [2, 3]},
            "data.synthetic.categories: one number for a sweep",
        ),
        ({"data.synthetic.colour": [2, 3]}, "data.synthetic.colour: unknown key"),
        ({"data.valid": ["valid", "train"]}, "axes.data.valid"),
    ],
)
def test_what_is_no_axis_is_refused(axes: dict[str, Any], message: str, tmp_path: Path) -> None:
    [key] = axes
    sweep = {**VARIED, "axes": axes, "claims": [], "table": {"rows": key, "cells": ["AP"]}}
    check_refused(make_road(tmp_path, sweep).run("--dry-run"), message)


def test_a_folder_of_real_data_has_no_such_axis(tmp_path: Path) -> None:
    sweep = {**SWEEP, **VARIED}
    road = make_road(tmp_path, sweep, "--data", str(tmp_path))
    with pytest.raises(InputError, match=r"axes.data.synthetic.max_size: describes embedded videos"):
        make_plan(Options(road.sweep, str(tmp_path / "scale.yaml"), tmp_path, tmp_path, tmp_path))
    assert SCALE["settings"]["data"]["kind"] == "synthetic"
